"""The iterations of the stencil backend, for the driver in `iterate`: multigrid cycles, cycles in mixed precision, and CG.

All of them run the cycle of `cycle.MultigridCycle`, level by level. What they add is the state between two steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, MultigridCycle
from ..iterate import Iteration, System, predicted
from . import kernels
from .compatibility import plus
from .kernels.workspace import empty
from .operator import StencilOperator
from .problem import Poisson

Array = NDArray[np.floating]
SINGLE = np.dtype(np.float32)
# Rounding in float32 stops a residual that has fallen so far: n = 32 to 512, rough f, 2.7e-7 to 2.1e-6.
SINGLE_FLOOR = 1e-5
# Rounding leaves a residual of ROUND_OFF eps (||A|| ||u|| + ||b||): measured 0.14 to 0.42, float32 and float64, 1-D to 3-D.
ROUND_OFF = 0.5
# Beside an eigenvalue u is so large that its rounding leaves a residual as large as b: of that at most this part is excused.
EXCUSED_BESIDE_EIGENVALUES = 1e-6
# Conjugate gradients begin anew where rounding leaves a step this part of its length too short or too long: else the noise of
# one direction is in all following ones, and residuals stay at 2 to 40 times what rounding alone leaves.
LOST = 1e-3
QUIET: dict[str, Any] = {"over": "ignore", "invalid": "ignore"}  # divergence is reported by the driver, not by a warning


@final
@dataclass(frozen=True, eq=False)
class Run:
    """One solve: the problem and its data, and what the iteration is to do with them.

    f : the source, for full multigrid; `b` is the right-hand side made of it
    nested : whether the first iteration is full multigrid
    keeps : whether every iterate is kept, as somebody watches
    """

    problem: Poisson
    f: Array
    b: Array
    nested: bool
    keeps: bool

    def shown(self, u: Array | None) -> Array | None:
        """Return an iterate as it may leave the iteration: mean-zero where the constant is found apart."""
        return u if u is None or not self.problem.has_constant_apart else self.problem.centered(u)


def system_of(problem: Poisson, b: Array, b_norm: float, mean_of_u: float | Array = 0.0) -> System:
    """Return A u = b as the driver needs it; what a callback receives has the constant part that was found apart."""
    return System(
        b,
        lambda u: b_norm if u is None else problem.operator.residual_norm(b, u),
        partial(_round_off, problem, b.dtype, b_norm),
        # ||u|| <= ||b|| / smallest eigenvalue; 4 is for an iterate that is not the solution yet, and for halved weights.
        round_off_of(b.dtype, b_norm, 4.0 * b_norm * problem.operator.norm_bound / problem.operator.smallest_eigenvalue),
        view=lambda u: _read_only(problem.filled(plus(u, mean_of_u))),
        zero=lambda: np.zeros_like(b),
    )


def _round_off(problem: Poisson, dtype: np.dtype, b_norm: float, u: Array | None) -> float:
    """Return the residual that remains when u and b are exact but for rounding."""
    level = round_off_of(dtype, b_norm, 0.0 if u is None else problem.operator.magnitude(u))
    return min(level, EXCUSED_BESIDE_EIGENVALUES * b_norm) if problem.has_waves else level


def round_off_of(dtype: np.dtype, b_norm: float, magnitude: float) -> float:
    """Return the residual that rounding leaves beside b of this norm, and terms of A u of this magnitude."""
    return ROUND_OFF * float(np.finfo(dtype).eps) * (magnitude + b_norm)


def _read_only(u: Array) -> Array:
    view = u.view()
    view.flags.writeable = False
    return view


class Cycles(Iteration):
    """u <- cycle(b, u). Looking ahead, the finest level turns from one cycle into the next in place:
    post-smoothing of one cycle and pre-smoothing of the next are one pass over memory, if the level fuses them.
    """

    def __init__(self, cycle: MultigridCycle, run: Run) -> None:
        self._cycle, self._run = cycle, run
        self.nested_start = run.nested

    def start(self, u: Array | None) -> None:
        self._u, self._begins = u, True
        self._kept: Array | None = u
        self._descent: Descent | None = None
        self.under_way = False

    def step(self, look_ahead: bool) -> float:
        cycle, run, finest, was_under_way = self._cycle, self._run, self._cycle.levels[0], self.under_way
        self.under_way = look_ahead and finest.turns
        with np.errstate(**QUIET):
            if len(cycle.levels) == 1:
                u = kept = cycle.cycle(run.b, self._u)
                norm = finest.operator.residual_norm(run.b, u)
            elif self.under_way:
                norm, kept, self._descent = finest.turn(run.b, *self._below(), cycle.levels[1], run.keeps)
                u = self._descent[0]
            else:
                norm, u = finest.ascend_measured(run.b, *self._below())
                kept, self._descent = u, None
        self._begins = False
        self._hold(norm, u, kept, was_under_way)
        return norm

    def _hold(self, norm: float, u: Array, kept: Array | None, was_under_way: bool) -> None:
        """Take an iterate, unless its residual is not finite."""
        if math.isfinite(norm):
            self._u, self._kept = u, kept
        elif was_under_way and not self._run.keeps:
            self._kept = None

    def current(self) -> Array | None:
        return self._run.shown(self._kept)

    @property
    def state(self) -> Array | None:
        return self._u

    def _below(self) -> tuple[Array, Array | None, Array]:
        """Descend, unless that is done, and visit the coarser levels; return the arguments of `ascend` after b."""
        cycle, run = self._cycle, self._run
        if self._descent is not None:
            descent = self._descent
        elif self._begins and run.nested:
            descent = cycle.descend_nested(run.f, run.b)
        else:
            descent = cycle.levels[0].descend(run.b, self._u, cycle.levels[1])
        return cycle.below(descent, cycle.kind, 1)


class MixedCycles(Iteration):
    """Cycles in float32 inside residuals in float64 (iterative refinement).

    A correction e need not be accurate, as the next residual contains what it missed. So cycles run on A e = r in float32, at
    half the bytes and twice the numbers per vector, and float64 keeps the sum u and its residual. Updating u and computing its
    float64 residual costs 0.6 of a float32 cycle (2047^2, one thread: 3.6 ns per unknown against 5.7). It is done only when the
    float32 cycles are expected to be enough, or when float32 has no more digits to give; the norms in between are those of
    float32. The accuracy is that of float64.

    Source: J. Wilkinson, Rounding Errors in Algebraic Processes (1963), chapter 3; D. Goeddeke, R. Strzodka, S. Turek,
    Performance and accuracy of hardware-oriented native-, emulated- and mixed-precision solvers, IJPEDS 22 (2007).
    """

    mixed = True

    def __init__(self, cycles: Callable[[Run], Iteration], run: Run, system: System, target: float) -> None:
        """`cycles` returns the iteration for a correction, in float32; `target` is the residual to be reached."""
        self._cycles, self._run, self._system, self._target = cycles, run, system, target
        self._tables = run.problem.operator.tables(run.b.dtype)
        self.nested_start = run.nested

    def start(self, u: Array | None) -> None:
        self._u = None if u is None else u.copy()
        self._residual = empty(self._run.b.shape, SINGLE)
        self._norms = [self._system.residual_norm(u)]  # since the correction under way was begun
        self._begins = True
        self._correction: Iteration | None = None
        self.under_way = False

    def step(self, look_ahead: bool) -> float:
        correction = self._correction or self._begin()
        norm = correction.step(look_ahead and self._gains_more())
        self.under_way = correction.under_way
        if not math.isfinite(norm):
            self._correction = correction if len(self._norms) > 1 else None  # else nothing has been done on it yet
            return norm
        self._correction, self._begins = correction, False
        if not self.under_way:
            norm = self._add(correction.state)
            self._correction = None
            self._norms.clear()
        self._norms.append(norm)
        return norm

    def current(self) -> Array | None:
        if self._correction is None:
            return self._run.shown(self._u if not self._run.keeps or self._u is None else self._u.copy())
        e = self._correction.current()
        if e is None:
            return None
        return self._run.shown(e.astype(self._run.b.dtype) if self._u is None else self._u + e)

    @property
    def state(self) -> Array | None:
        if self._u is not None or self._correction is None:
            return self._u
        return self._correction.state

    def _add(self, e: Any) -> float:
        """Add a correction to u, and begin with what it leaves; return the norm of that."""
        fresh, b, problem = self._u is None, self._run.b, self._run.problem
        self._u = empty(b.shape, b.dtype) if self._u is None else self._u
        norm = self._correct(self._u, e, fresh)
        if problem.has_constant_apart and not problem.singular:  # in float32, c may be lost in rounding, and the mean drifts
            self._u = problem.centered(self._u)
            norm = kernels.of(b).restate(self._residual, b, self._u, self._tables)
        return norm

    def _correct(self, u: Array, e: Array, fresh: bool) -> float:
        """Add a correction to u, or copy it to a fresh u; return the norm of the residual, which is kept."""
        b = self._run.b
        return kernels.of(b).correct(self._residual, b, u, e, fresh, self._tables)

    def _restate(self, residual: Array, b: Array, u: Array) -> None:
        """Write b - A u into `residual`."""
        kernels.of(residual).restate(residual, b, u, self._tables)

    def _gains_more(self) -> bool:
        """Whether float32 has the digits for another cycle on this correction, and one is needed.

        A nested start is added up at once, as it leaves the residual of a smooth source at the level of rounding.
        """
        if self._begins and self._run.nested:
            return False
        stalls = len(self._norms) > 1 and self._norms[-1] > 0.5 * self._norms[-2]
        return not stalls and predicted(self._norms) > max(self._target, SINGLE_FLOOR * self._norms[0])

    def _begin(self) -> Iteration:
        """Return the cycles for a correction from zero; of a nested start, for the solution itself."""
        run, residual, begins = self._run, self._residual, self._begins
        f = residual
        if begins and self._u is not None:
            self._restate(residual, run.b, self._u)
        elif begins:
            kernels.of(residual).convert(residual, run.b)
            f = residual if run.f is run.b else kernels.of(run.f).convert(empty(run.f.shape, SINGLE), run.f)
        cycles = self._cycles(Run(run.problem, f, residual, begins and run.nested, run.keeps))
        cycles.start(None)
        return cycles


def holds_in_single(problem: Poisson, size: float) -> bool:
    """Whether float32 holds the operator, and a right-hand side of this root mean square with its residuals and solution."""
    return problem.fits(SINGLE) and (size == 0 or 1e-15 < size < 1e25)


def checked_for_single(problem: Poisson, dtype: np.dtype, b_norm: float) -> bool:
    """Return True; raise ValueError where float32 cannot hold the problem, or the precision is float32 anyway."""
    if dtype != np.float64:
        raise ValueError(f"precision='mixed' is float32 inside float64, and f is {dtype}; leave it out, or give float64")
    if problem.has_waves:
        raise ValueError("precision='mixed' is for reactions >= 0; leave it out")
    size = b_norm / math.sqrt(problem.grid.size)
    if not holds_in_single(problem, size):
        raise ValueError(
            f"precision='mixed' needs numbers that float32 holds, and f is of size {size:.1e}; scale f, and u after it"
        )
    return True


class ConjugateGradients:
    """(b, u) -> u, one iteration, preconditioned by one symmetric cycle, in the inner product of the cell volumes, in which A
    is symmetric.

    z = M r;  p = z + beta p with beta = <z, r - r_old> / <z_old, r_old>;  u <- u + (<z, r> / <p, A p>) p. The residual is
    computed anew each time, not carried along: the one that the driver measures and the one used here are the same.

    Source: Y. Saad, Iterative methods for sparse linear systems (2003), algorithm 9.1; beta as in A. Knyazev, I. Lashuk,
    SIAM J. Matrix Anal. Appl. 29 (2007), which tolerates a preconditioner that rounding makes unsymmetric.
    """

    def __init__(self, operator: StencilOperator, cycle: Callable[[Array], Array], project: Callable[[Array], Array]) -> None:
        """`cycle` is the symmetric preconditioner, `project` removes the null space of a singular operator."""
        self._operator, self._cycle, self._project = operator, cycle, project
        self._weights = [axis.weights for axis in operator.grid.axes]
        self._direction: Array | None = None
        self._residual: Array | None = None
        self._squared = math.nan

    def __call__(self, b: Array, u: Array | None) -> Array:
        residual = self._project(self._operator.residual(b, u))
        z = self._project(self._cycle(residual))
        squared = self._inner(z, residual)
        direction, slope = z, squared
        if self._direction is not None and self._residual is not None:
            beta = (squared - self._inner(z, self._residual)) / self._squared
            direction = z + z.dtype.type(beta) * self._direction
            slope = self._inner(direction, residual)
            if not abs(slope - squared) <= LOST * squared:  # the last direction is no longer orthogonal to the residual
                direction, slope = z, squared
        curvature = self._inner(direction, self._operator(direction))
        if curvature == 0.0:  # nothing left to gain in this precision
            return np.zeros_like(b) if u is None else u
        step = z.dtype.type(slope / curvature)
        self._direction, self._residual, self._squared = direction, residual, squared
        return step * direction if u is None else u + step * direction

    def _inner(self, a: Array, b: Array) -> float:
        return kernels.of(a).weighted_inner(a, b, self._weights)
