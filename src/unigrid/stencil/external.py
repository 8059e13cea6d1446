"""External cycles: any `MultigridCycle` on arrays, a network for example, applied to a Poisson problem."""

from __future__ import annotations

from abc import abstractmethod
from typing import NoReturn, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MultigridCycle
from .cycle import StencilCycle
from .problem import Poisson
from .solving import ProblemCycle

Array = NDArray[np.floating]
KEPT = 1e-10  # of a solution: what a cycle in float64 may change for rounding


class SlotsForAnyGrid(MultigridCycle):
    """A cycle whose slots fit grids of any size: for each problem it makes a hierarchy of its own."""

    @abstractmethod
    def on(self, problem: Poisson) -> StencilCycle:
        """Return the hierarchy with these slots for a problem."""


@final
class ExternalCycle(ProblemCycle):
    """An external cycle on a problem: what it returns must have the problem's shape, and is brought to its precision.

    Boundary values are not part of it and it has no transfers for solutions, so it begins at zero.
    """

    is_stencil = False

    def __init__(self, cycle: MultigridCycle, problem: Poisson) -> None:
        self.cycled, self.problem = cycle, problem
        self.levels, self.kind = getattr(cycle, "levels", ()), getattr(cycle, "kind", "V")

    @property
    def nests(self) -> bool:
        """Never: its levels are not of this backend, and perhaps of another size."""
        return False

    def __call__(self, b: Array, u: Array | None = None) -> Array:
        given = b.copy(), None if u is None else u.copy()  # a cycle that writes into them must not spoil the iteration
        result = self.cycled(*given)  # type: ignore[operator]
        if not isinstance(result, np.ndarray) or result.shape != self.problem.shape:
            got = f"shape {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
            name, shape = type(self.cycled).__name__, self.problem.shape
            raise ValueError(f"cycle(f, u) of this {name} must map arrays of shape {shape} to such, got {got}")
        return result.astype(b.dtype)  # a copy: the cycle may use its array again

    def failure_note(self) -> str:
        """Return how much one cycle changes a solution of the problem, which a cycle made for this problem keeps."""
        problem = self.problem
        u = problem.centered(np.random.default_rng(0).standard_normal(problem.shape)) / problem.operator.norm_bound
        with np.errstate(all="ignore"):
            change = float(np.linalg.norm(problem.centered(self(problem.operator(u), u)) - u) / (np.linalg.norm(u) or 1.0))
        if change < KEPT:
            return ""
        return (
            f"One cycle changes a given solution of this problem by {change:.1e} of it: the cycle was made for another "
            "spacing, boundary, coefficient or reaction, or computes in a lower precision."
        )

    def symmetric(self) -> NoReturn:
        """Refuse: whether it is symmetric is not known."""
        raise ValueError(
            f"accelerate='cg' needs a StencilCycle, whose symmetry is known; this is a {type(self.cycled).__name__}"
        )

    def for_one_pass(self) -> NoReturn:
        """Refuse: it has no transfers for solutions."""
        raise ValueError(
            f"rtol='discretization' is one pass of full multigrid, which needs a StencilCycle; this is a "
            f"{type(self.cycled).__name__}; give a number"
        )


def on_problem(cycle: MultigridCycle, problem: Poisson) -> ProblemCycle:
    """Return the cycle on a problem, for `solve`: its own hierarchy for the problem where it makes one, else itself."""
    if isinstance(cycle, SlotsForAnyGrid):
        return cycle.on(problem)
    if not callable(cycle):
        raise TypeError(f"cycle must be callable as cycle(f, u) -> u with arrays, which {type(cycle).__name__} is not")
    return ExternalCycle(cycle, problem)
