"""The slots of one level: held to their contract where a user defined them, fused where kernels exist for them.

Wrappers enforce shape, precision and a new array for a new state on user-defined slots, so a class of ten lines may be written
in plain NumPy, where results easily become float64 or alias an argument. Fused half-cycles exist for red-black, Jacobi and
Chebyshev with transfers of one tensor product, in 2-D and 3-D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Operator, Prolongation, Restriction, Smoother, StateTransfer, Steps
from .coarse import DirectSolver, FourierSolver
from .grid import Grid
from .kernels.bands import EXTRAPOLATED, Band, Transfers
from .kernels.cpu.fused import FusedSweeps, Sweeps
from .kernels.cpu.fused_steps import FusedSteps, Schedule
from .kernels.workspace import copy
from .learned import LearnedSmoother
from .problem import Poisson
from .smoothers import SMOOTHERS, Chebyshev, Jacobi, RedBlack, named_smoother
from .transfers import Cubic, SeparableTransfer, SourceWeighting, TransferRecipe, lagrange

Array = NDArray[np.floating]
# Of steps, or half-sweeps, fused into one pass. Ctrl-C waits for the end of a pass, and past a few dozen none saves time.
MOST_FUSED = 128
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


class Slots(NamedTuple):
    """The slots of one level."""

    smoother: Smoother | None
    post_smoother: Smoother | None
    restriction: Restriction
    prolongation: Prolongation | None
    state_transfer: StateTransfer | None


def fused_half_cycles(problem: Poisson, coarser: Poisson, slots: Slots) -> FusedSweeps | FusedSteps | None:
    """Return the fused half-cycles of a level with these slots, None where there are none."""
    axes = problem.grid.axes
    if not 2 <= len(axes) <= 3 or axes[0].n < 2 or slots.state_transfer is not None:
        return None
    transfers = fused_transfers(slots.restriction, slots.prolongation)
    if transfers is None:
        return None
    common = (
        (problem.shape, coarser.shape),
        problem.operator.tables,
        transfers,
        partial(fused_nested_transfers, problem.grid, coarser.grid),
        tuple(axis.periodic for axis in axes),
    )
    sweeps = half_sweeps(slots)
    if sweeps is not None:
        # Along an odd periodic axis neighbors share a color, and the order of slabs would matter.
        fused = None if axes[0].periodic and axes[0].n % 2 else FusedSweeps(sweeps, *common)
        return fused if fused is not None and fused.fits else None
    schedules = _both(slots, partial(_schedule, problem))
    return None if schedules is None else FusedSteps(schedules, *common)


def nested_transfers(fine: Grid, coarse: Grid) -> tuple[SeparableTransfer, SeparableTransfer]:
    """Return R and P of nested iteration: of a source, and of a solution."""
    return SourceWeighting().between(fine, coarse), Cubic().between(fine, coarse)


def _both(slots: Slots, read: Callable[[Steps], Any]) -> tuple[Any, Any] | None:
    """Read both smoothers, the second as no steps where there is none; None where one of them is read as None."""
    down = read(slots.smoother) if isinstance(slots.smoother, Steps) else None
    if slots.post_smoother is None:
        return None if down is None else (down, down.without_steps())
    up = read(slots.post_smoother) if isinstance(slots.post_smoother, Steps) else None
    return None if down is None or up is None else (down, up)


def _sweeps(smoother: Steps) -> Sweeps | None:
    step = smoother.step
    if not isinstance(step, RedBlack) or len(step.omegas) * smoother.count > MOST_FUSED:
        return None
    return Sweeps(step.omegas * smoother.count, step.colors[0], step.first == "black")


def _schedule(problem: Poisson, smoother: Steps) -> Schedule | None:
    step = smoother.step
    if smoother.count * step.cost > MOST_FUSED:
        return None
    if isinstance(step, Jacobi):
        return Schedule(step.omega, (1.0,) * smoother.count)
    if isinstance(step, Chebyshev):
        gain, weights = step.schedule(problem.operator.smoothing_interval)
        return Schedule(gain, (1.0, *weights) * smoother.count)
    return None


def half_sweeps(slots: Slots) -> tuple[Sweeps, Sweeps] | None:
    """Return the half-sweeps of a level before and after the correction; None where its smoothers are not red-black."""
    return _both(slots, _sweeps)


Pair = tuple[SeparableTransfer, SeparableTransfer]


def fused_nested_transfers(fine: Grid, coarse: Grid, cut: Callable[[Pair], Pair] = lambda pair: pair) -> Transfers | None:
    """Return the fused transfers of nested iteration; None where the rows are too short, or not coarsened.

    `cut` returns the part of R and P for some of the slabs.
    """
    last, coarse_last = fine.axes[-1], coarse.axes[-1]
    if coarse_last.n < 4 or last == coarse_last:
        return None
    extended = None if last.periodic else lagrange(coarse_last, last.positions, beyond=EXTRAPOLATED)
    return fused_transfers(*cut(nested_transfers(fine, coarse)), extended)


def fused_transfers(restriction: Any, prolongation: Any, extended: Band | None = None) -> Transfers | None:
    if not isinstance(restriction, SeparableTransfer) or not isinstance(prolongation, SeparableTransfer):
        return None
    if len(restriction.products) > 1 or len(prolongation.products) > 1:
        return None
    return Transfers.of(restriction.products[0], prolongation.products[0], extended)
