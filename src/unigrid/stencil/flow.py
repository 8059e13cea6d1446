"""Iterating in place: the way up of one cycle and the way down of the next are one pass over the finest level.

The plain iteration, in `prepared`, hands every iterate to the driver as an array of its own. Where nobody looks at iterates in
between, that is not needed: here u stays where it lies, its residual is measured on the way, and the turn from one cycle to the
next is taken whenever another cycle is expected. A run that does not end well is done again plainly, so that what it returns is
the iterate that its residual belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MultigridCycle
from ..iterate import System, Tolerance, after_one_more, iterate
from ..solution import Reason, Solution
from .hierarchy import StencilCycle
from .kernels.cpu.fused import FusedSweeps
from .task import Task

Array = NDArray[np.floating]
# What one cycle is expected to leave of the residual before any was seen; then it is what the last one has left, of the
# residual of zero if it was the first. A turn too many costs a cycle, one too few a pass.
FIRST_RATE = 0.01


def solve_in_flow(task: Task) -> Solution | None:
    """Return the Solution; None for a cycle that cannot flow, and where u is no longer the iterate of its residual."""
    cycle, legs = task.cycle, legs_in_flow(task.cycle)
    if legs is None or not isinstance(cycle, StencilCycle):
        return None
    flow = Flow(cycle, legs, task.f, task.system, task.tolerance)
    with np.errstate(over="ignore", invalid="ignore"):
        solution = flow.solve(task.u, task.nested)
    return None if solution is None else replace(solution, u=cycle.problem.made_compatible(solution.u))


def legs_in_flow(cycle: MultigridCycle) -> FusedSweeps | None:
    """Return the legs of the finest level, if they turn."""
    legs = cycle.levels[0].legs if isinstance(cycle, StencilCycle) and len(cycle.levels) > 1 else None
    return cast(FusedSweeps, legs) if legs is not None and legs.turns else None


@final
@dataclass(eq=False)
class Flow:
    """The finest level on its way through cycles."""

    cycle: StencilCycle
    legs: FusedSweeps
    f: Array
    system: System
    tolerance: Tolerance

    def __post_init__(self) -> None:
        self.norms: list[float] = []
        self._first = self.system.residual_norm(None)
        self._target = self.tolerance.target(self._first)
        self._own: Array | None = None  # the array that is iterated, ours to write over
        self._coarse_f: Array | None = None  # after a turn: the next level's data, u being smoothed for it already

    def solve(self, u: Array | None, nested: bool) -> Solution | None:
        """Iterate from u; return None where the array no longer holds the iterate that the last residual belongs to."""
        measured = replace(self.system, residual_norm=self._residual_norm)
        solution = iterate(self.step, u, measured, self.tolerance, nested=self.nested if nested else None)
        if solution.reason is Reason.NONFINITE or (not solution.converged and self._coarse_f is not None):
            return None
        if self._coarse_f is None:
            return solution
        return after_one_more(solution, self.step(self.system.b, solution.u), measured, self.tolerance)

    @property
    def turned(self) -> bool:
        """Whether u is on its way through the next cycle already."""
        return self._coarse_f is not None

    def nested(self) -> Array:
        """Full multigrid, its last cycle in place."""
        level, b = self.cycle.levels[0], self.system.b
        coarse = self.cycle.nested(level.nested_restriction(self.f), 1)
        return self._come_back(b, *level.descend_nested(b, coarse, self.cycle.levels[1])[:2])

    def step(self, b: Array, u: Array | None) -> Array:
        """Do one cycle; return u, which after a turn is on its way through the next."""
        if self._coarse_f is not None:
            assert u is not None
            coarse_f, self._coarse_f = self._coarse_f, None
        elif u is not None and u is self._own:
            coarse_f = self.legs.descend_in_place(b, u)
        else:
            u, coarse_f = self.legs.descend(b, u)
        return self._come_back(b, u, coarse_f)

    def _come_back(self, b: Array, u: Array, coarse_f: Array) -> Array:
        """Visit the coarser levels, and ascend; where another cycle is expected, turn into its way down."""
        self._own = u
        coarse = self.cycle.visit(coarse_f, None, self.cycle.kind, 1)
        if self._expects_more():
            norm, self._coarse_f = self.legs.turn(b, u, coarse)
        else:
            norm = self.legs.ascend_measured(b, u, coarse)
        self.norms.append(norm)
        return u

    def _expects_more(self) -> bool:
        """Say whether the cycle that is about to end will leave more than is asked for, and another one is allowed."""
        if len(self.norms) + 1 >= self.tolerance.maxiter:
            return False
        if not self.norms:
            return self._first * FIRST_RATE > self._target
        before, last = [self._first, *self.norms][-2:]
        return last * last > self._target * before

    def _residual_norm(self, u: Array | None) -> float:
        """Return |b - A u|: as the last step measured it, or anew."""
        return self.norms[-1] if u is not None and u is self._own and self.norms else self.system.residual_norm(u)
