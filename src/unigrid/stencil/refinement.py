"""Mixed precision: cycles in float32 inside residuals in float64 (iterative refinement).

A correction e need not be accurate, as the next residual tells what it missed. So cycles run on A e = r in float32, at half the
bytes and twice the numbers a vector, and float64 keeps the sum u and its residual. Adding a correction and reckoning the
float64 residual takes six tenths of a float32 cycle (2047^2, one thread: 3.6 ns an unknown against 5.7). It is done only when
the float32 cycles are expected to be enough, or when float32 has no more digits to give. The accuracy is that of float64.

Source: J. Wilkinson, Rounding Errors in Algebraic Processes (1963), chapter 3; D. Goeddeke, R. Strzodka, S. Turek, Performance
and accuracy of hardware-oriented native-, emulated- and mixed-precision solvers, IJPEDS 22 (2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..iterate import Tolerance, iterate
from ..solution import Reason, Solution
from . import kernels
from .flow import Flow, legs_in_flow
from .hierarchy import StencilCycle
from .kernels.workspace import empty, zeros
from .task import Task

Array = NDArray[np.floating]
SINGLE = np.dtype(np.float32)
# A residual falls at most so far in float32 before rounding stops it: n = 32 to 512, rough f, 2.7e-7 to 2.1e-6.
SINGLE_FLOOR = 1e-5
SMALLEST, LARGEST = 1e-15, 1e25  # root mean square of b between which float32 holds it, its residuals and its solution


def solve_refined(task: Task) -> Solution | None:
    """Return the Solution of the iteration in mixed precision; None where it failed, which float64 alone may do better.

    Raises ValueError where f is not float64, or its size is beyond float32.
    """
    system, problem = task.system, task.cycle.problem
    if system.b.dtype != np.float64:
        raise ValueError(
            f"precision='mixed' is float32 inside float64, and f is {system.b.dtype}; leave it out, or give float64"
        )
    size = system.residual_norm(None) / math.sqrt(system.b.size)
    holds = np.isfinite(problem.operator.tables(SINGLE).coefficients).all()
    if not holds or (size and not SMALLEST < size < LARGEST):
        raise ValueError(
            f"precision='mixed' needs numbers that float32 holds, and f is of size {size:.1e}; scale f, and u after it"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        solution = Refinement(task).solve()
    return None if solution is None else replace(solution, u=problem.made_compatible(solution.u))


@final
@dataclass(eq=False)
class Refinement:
    """u in float64 and the correction to it that is under way in float32."""

    task: Task

    def __post_init__(self) -> None:
        self.norms: list[float] = []
        system = self.task.system
        self._target = self.task.tolerance.target(system.residual_norm(None))
        self._tables = self.task.cycle.problem.operator.tables(system.b.dtype)
        self._u: Array | None = None
        self._residual: Array = empty(system.b.shape, SINGLE)
        self._flow: Flow | None = None  # the correction under way, where it takes several cycles
        self._correction: Array | None = None

    def solve(self) -> Solution | None:
        """Iterate; return None where the array does not hold the iterate that the last residual belongs to."""
        task = self.task
        measured = replace(task.system, residual_norm=self._residual_norm)
        nested = self.nested if task.nested else None
        solution = iterate(self.step, task.u, measured, task.tolerance, nested=nested, callback=task.callback)
        ended = solution.converged or solution.reason in (Reason.MAXITER, Reason.STOPPED)
        return solution if ended and self._flow is None else None

    def nested(self) -> Array:
        """Full multigrid in float32, for the solution itself."""
        task = self.task
        f = kernels.convert(self._residual, task.f)
        b = f if task.system.b is task.f else kernels.convert(empty(f.shape, SINGLE), task.system.b)
        flow = self._begin(f, b, cycles=1)
        return self._complete(task.cycle.nested(f) if flow is None else flow.nested())

    def step(self, b: Array, u: Array | None) -> Array:
        """Do one cycle on the correction, and add it to u where it is done."""
        if self._u is None:
            self._start(b, u)
        residual = self._residual
        if self._flow is None:
            cycles = self.task.tolerance.maxiter - len(self.norms)
            self._flow, self._correction = self._begin(residual, residual, cycles), None
        if self._flow is None:
            return self._complete(self.task.cycle(residual))
        self._correction = self._flow.step(residual, self._correction)
        if not self._flow.turned:
            return self._complete(self._correction)
        # What float32 says is not known yet: the tolerance is met by float64 residuals alone.
        self.norms.append(max(self._flow.norms[-1], math.nextafter(self._target, math.inf)))
        return self._shown()

    @property
    def _is_watched(self) -> bool:
        """Whether every iterate is to be an array of its own, complete, as somebody looks at it."""
        return self.task.callback is not None

    def _start(self, b: Array, u: Array | None) -> None:
        """Take up u, or zero, and its residual in float32."""
        if u is None:
            self._u = zeros(b.shape, b.dtype)
            kernels.convert(self._residual, b)
        else:
            self._u = u.copy()
            kernels.restate(self._residual, b, self._u, self._tables)

    def _begin(self, f: Array, b: Array, cycles: int) -> Flow | None:
        """Return how to get at a correction from zero, by at most so many cycles; None where every cycle stands alone."""
        cycle = self.task.cycle
        legs = None if self._is_watched else legs_in_flow(cycle)
        if legs is None or not isinstance(cycle, StencilCycle):
            return None
        norm = kernels.norm(b) if not self.norms else self.norms[-1]
        system = replace(self.task.system, b=b, residual_norm=lambda u: norm)
        enough = Tolerance(0.0, max(self._target, SINGLE_FLOOR * norm), max(cycles, 1), 0.0)
        return Flow(cycle, legs, f, system, enough)

    def _complete(self, correction: Array) -> Array:
        """Add a correction that is done; write what it leaves in float32, and note the norm of that in float64."""
        self._flow = self._correction = None
        b, fresh = self.task.system.b, self._u is None
        self._u = empty(b.shape, b.dtype) if self._u is None else self._u
        self.norms.append(kernels.correct(self._residual, b, self._u, correction, fresh, self._tables))
        return self._shown()

    def _shown(self) -> Array:
        assert self._u is not None
        return self._u.copy() if self._is_watched else self._u

    def _residual_norm(self, u: Array | None) -> float:
        """Return |b - A u|: as the last step noted it, or anew."""
        return self.norms[-1] if u is not None and self.norms else self.task.system.residual_norm(u)
