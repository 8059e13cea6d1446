"""Cycles of another make on a Poisson problem: any `MultigridCycle` that maps arrays to arrays, a network among them."""

from __future__ import annotations

from abc import abstractmethod
from typing import NoReturn, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MultigridCycle
from .hierarchy import StencilCycle
from .kernels.workspace import Workspace
from .problem import Poisson

Array = NDArray[np.floating]


class SlotsForAnyGrid(MultigridCycle):
    """A cycle whose slots fit grids of any size: for each problem it makes a hierarchy of its own."""

    @abstractmethod
    def on(self, problem: Poisson) -> StencilCycle:
        """Return the hierarchy with these slots for a problem."""


@final
class AdoptedCycle(MultigridCycle):
    """A cycle of another make, on a problem of this backend: what it returns is held to the problem's shape and precision.

    It knows nothing of the boundary values and has no transfers for solutions, so it begins at zero.
    """

    def __init__(self, cycle: MultigridCycle, problem: Poisson) -> None:
        self.adopted, self.problem = cycle, problem
        self.levels, self.kind, self.workspace = getattr(cycle, "levels", ()), getattr(cycle, "kind", "V"), Workspace()

    @property
    def nests(self) -> bool:
        """Never: its levels are of another make, and perhaps of another size."""
        return False

    def __call__(self, f: Array, u: Array | None = None) -> Array:
        given = f.copy(), None if u is None else u.copy()  # a cycle that writes into them must not spoil the iteration
        result = self.adopted(*given)  # type: ignore[operator]
        if not isinstance(result, np.ndarray) or result.shape != self.problem.shape:
            got = f"shape {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
            name, shape = type(self.adopted).__name__, self.problem.shape
            raise ValueError(f"cycle(f, u) of this {name} must map arrays of shape {shape} to such, got {got}")
        return result.astype(f.dtype)  # a copy: the cycle may use its array again

    def symmetric(self) -> NoReturn:
        """Refuse: whether it is symmetric is not known."""
        raise ValueError(
            f"accelerate='cg' needs a StencilCycle, whose symmetry is known; this is a {type(self.adopted).__name__}"
        )

    def for_one_pass(self) -> NoReturn:
        """Refuse: it has no transfers for solutions."""
        raise ValueError(
            f"rtol='discretization' is one pass of full multigrid, which needs a StencilCycle; this is a "
            f"{type(self.adopted).__name__}; give a number"
        )


def adopted(cycle: MultigridCycle, problem: Poisson) -> StencilCycle | AdoptedCycle:
    """Return what `solve` can run: the cycle's own hierarchy for the problem where it makes one, else the cycle itself."""
    if isinstance(cycle, SlotsForAnyGrid):
        return cycle.on(problem)
    if not callable(cycle):
        raise TypeError(f"cycle must be callable as cycle(f, u) -> u with arrays, which {type(cycle).__name__} is not")
    return AdoptedCycle(cycle, problem)
