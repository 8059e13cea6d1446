"""Iterating in place: the way up of one cycle and the way down of the next are one pass over the finest level.

The plain iteration, in `prepared`, hands every iterate to the driver as an array of its own. Where nobody looks at iterates in
between, that is not needed: here u stays where it lies, its residual is measured on the way, and the turn from one cycle to the
next is taken whenever another cycle is expected. A run that does not end well is done again plainly, so that what it returns is
the iterate that its residual belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..cycle import VISITS
from ..iterate import System, Tolerance, iterate
from ..solution import Reason, Solution
from .hierarchy import StencilCycle
from .kernels.fused import FusedLegs

Array = NDArray[np.floating]
# What one cycle is expected to leave of the residual before any was seen. A turn too many costs a cycle, one too few a pass.
FIRST_RATE = 0.01


@final
@dataclass(eq=False)
class Flow:
    """The finest level on its way through cycles."""

    cycle: StencilCycle
    legs: FusedLegs
    f: Array
    b: Array
    target: float
    maxiter: int

    def __post_init__(self) -> None:
        self.norms: list[float] = []
        self._own: Array | None = None  # the array that is iterated, ours to write over
        self._coarse_f: Array | None = None  # after a turn: the next level's data, u being smoothed for it already

    @staticmethod
    def of(cycle: StencilCycle, f: Array, b: Array, target: float, maxiter: int) -> Flow | None:
        """Return the flow of a cycle whose finest level has fused legs, None for others."""
        legs = cycle.levels[0].legs if len(cycle.levels) > 1 else None
        return None if legs is None or not legs.turns else Flow(cycle, legs, f, b, target, maxiter)

    def solve(self, u: Array | None, nested: bool, system: System, tolerance: Tolerance) -> Solution | None:
        """Return the Solution; None where u is no longer the iterate that its residual belongs to."""
        measured = replace(system, residual_norm=self._norm_of(system.residual_norm))
        with np.errstate(over="ignore", invalid="ignore"):
            solution = iterate(self.step, u, measured, tolerance, nested=self.nested if nested and u is None else None)
            if solution.reason is Reason.NONFINITE or (not solution.converged and self._coarse_f is not None):
                return None
            if self._coarse_f is not None:  # it came sooner than expected: the cycle that has begun is done
                u = self.step(self.b, solution.u)
                residuals = (*solution.residuals, self.norms[-1])
                if not residuals[-1] <= max(self.target, solution.residuals[-1]):
                    return None
                solution = replace(solution, u=u, residuals=residuals, iterations=solution.iterations + 1)
        return replace(solution, u=self.cycle.problem.compatible(solution.u))

    def nested(self) -> Array:
        """Full multigrid, its last cycle in place."""
        level = self.cycle.levels[0]
        self._own = level.nested_prolongation(self.cycle.nested(level.nested_restriction(self.f), 1))
        return self.step(self.b, self._own)

    def step(self, b: Array, u: Array | None) -> Array:
        """Do one cycle; return u, which after a turn is on its way through the next."""
        if self._coarse_f is not None:
            assert u is not None
            coarse_f, self._coarse_f = self._coarse_f, None
        elif u is not None and u is self._own:
            coarse_f = self.legs.descend_in_place(b, u)
        else:
            u, coarse_f = self.legs.descend(b, u)
        self._own = u
        coarse = None
        for visit in VISITS[self.cycle.kind]:
            coarse = self.cycle.cycle(coarse_f, coarse, visit, 1)
        assert coarse is not None
        if self._expects_more():
            norm, self._coarse_f = self.legs.turn(b, u, coarse)
        else:
            norm = self.legs.ascend_measured(b, u, coarse)
        self.norms.append(norm)
        return u

    def _expects_more(self) -> bool:
        """Say whether the cycle that is about to end will leave more than is asked for."""
        if len(self.norms) + 1 >= self.maxiter or not self.norms:
            return len(self.norms) + 1 < self.maxiter
        rate = self.norms[-1] / self.norms[-2] if len(self.norms) > 1 else FIRST_RATE
        return self.norms[-1] * rate > self.target

    def _norm_of(self, measure: Callable[[Array | None], float]) -> Callable[[Array | None], float]:
        """Return the residual norm: as the last step measured it, or anew."""
        return lambda u: self.norms[-1] if u is not None and u is self._own and self.norms else measure(u)
