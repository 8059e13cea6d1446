"""The slot contract: wrappers that enforce shape, precision and a new array for a new state on user-defined slots.

So a class of ten lines may be written in plain NumPy, where results easily become float64 or alias an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Operator, Prolongation, Restriction, Smoother, StateTransfer, Steps
from .coarse import DirectSolver, FourierSolver
from .grid import Grid
from .kernels.workspace import copy
from .learned import LearnedSmoother
from .problem import Poisson
from .smoothers import SMOOTHERS, named_smoother
from .transfers import SeparableTransfer, TransferRecipe

Array = NDArray[np.floating]
OWN_SMOOTHERS: tuple[type[Smoother], ...] = (*SMOOTHERS.values(), LearnedSmoother, DirectSolver, FourierSolver)


@final
@dataclass(frozen=True)
class FittedSmoother(Smoother):
    """A user's smoother: its result in the precision and shape of b, in memory of its own, even if it works in place on u."""

    smoother: Smoother

    @property
    def cost(self) -> float:
        """Work of one call."""
        return self.smoother.cost

    def __call__(self, operator: Operator, b: Array, u: Array | None) -> Array:
        return self._fit(self.smoother(operator, b, None if u is None else copy(u)), b)

    def overwrite(self, operator: Operator, b: Array, u: Array) -> Array:
        return self._fit(self.smoother.overwrite(operator, b, u), b)

    def adjoint(self) -> Smoother | None:
        adjoint = self.smoother.adjoint()
        return None if adjoint is None else FittedSmoother(adjoint)

    def _fit(self, smoothed: Any, b: Array) -> Array:
        smoothed = _fitted(smoothed, b.shape, b.dtype, self.smoother)
        return smoothed.copy() if np.may_share_memory(smoothed, b) else smoothed


@final
class FittedTransfer(Restriction, StateTransfer, Prolongation):
    """A user's transfer, its result in the precision of its argument and in the shape of the level it leads to."""

    def __init__(self, transfer: Restriction | StateTransfer | Prolongation, shape: tuple[int, ...]) -> None:
        self.transfer, self.shape = transfer, shape

    def __call__(self, array: Array) -> Array:
        return _fitted(self.transfer(array), self.shape, array.dtype, self.transfer)


def fitted(smoother: Smoother) -> Smoother:
    """Return a smoother that keeps the contract: one of this backend as it is, a user's in a wrapper."""
    if isinstance(smoother, Steps):
        return Steps(fitted(smoother.step), smoother.count)
    return smoother if isinstance(smoother, OWN_SMOOTHERS) else FittedSmoother(smoother)


def between(given: Any, fine: Grid, coarse: Grid, shape: tuple[int, ...]) -> SeparableTransfer | FittedTransfer:
    """Return the slot between two grids that a recipe makes, or that the user's own slot is; it leads to `shape`."""
    transfer = given.between(fine, coarse) if isinstance(given, TransferRecipe) else given
    return transfer if isinstance(transfer, SeparableTransfer) else FittedTransfer(transfer, shape)


def prepared_slots(fine: Poisson, coarser: Poisson | None, slots: Mapping[str, Any]) -> dict[str, Any]:
    """Return slots for the level of problem `fine`, as a user gave them, such that they keep the contract.

    A smoother that is no `Steps` becomes one step, but for the coarsest level, which has no `coarser`.
    """
    prepared: dict[str, Any] = {}
    for name, given in slots.items():
        if given is None:
            prepared[name] = None
        elif name in ("smoother", "post_smoother"):
            smoother = fitted(named_smoother(given))
            prepared[name] = smoother if coarser is None or isinstance(smoother, Steps) else Steps(smoother, 1)
        elif coarser is None:
            raise ValueError(f"the coarsest level has no {name}: there is no level below it")
        else:
            shape = fine.shape if name == "prolongation" else coarser.shape
            prepared[name] = between(given, fine.grid, coarser.grid, shape)
    return prepared


def _fitted(array: Any, shape: tuple[int, ...], dtype: np.dtype, slot: Any) -> Array:
    if not isinstance(array, np.ndarray) or array.shape != shape:
        got = f"shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{type(slot).__name__} must return an array of shape {shape} on this level, it returned {got}")
    return array.astype(dtype, copy=False)
