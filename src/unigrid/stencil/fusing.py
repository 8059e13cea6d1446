"""Slots that have fused half-cycles: red-black, Jacobi, Chebyshev, transfers of one tensor product, in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..cycle import Prolongation, Restriction, Smoother, StateTransfer, Steps
from .grid import Grid
from .interpolation import lagrange
from .kernels.bands import Band
from .kernels.cpu.fused import FusedSweeps, Sweeps
from .kernels.cpu.fused_steps import FusedSteps, Schedule
from .kernels.cpu.half_cycles import EXTRAPOLATED, Transfers
from .problem import Poisson
from .smoothers import Chebyshev, Jacobi, RedBlack
from .transfers import Cubic, SeparableTransfer, SourceWeighting


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
    transfers = _transfers(slots.restriction, slots.prolongation)
    if transfers is None:
        return None
    common = (
        (problem.shape, coarser.shape),
        problem.operator.tables,
        transfers,
        partial(_nested_transfers, problem.grid, coarser.grid),
        tuple(axis.periodic for axis in axes),
    )
    sweeps = _both(slots, _sweeps)
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
    if not isinstance(step, RedBlack):
        return None
    return Sweeps(step.omegas * smoother.count, step.colors[0], step.first == "black")


def _schedule(problem: Poisson, smoother: Steps) -> Schedule | None:
    step = smoother.step
    if isinstance(step, Jacobi):
        return Schedule(step.omega, (1.0,) * smoother.count)
    if isinstance(step, Chebyshev):
        gain, weights = step.schedule(problem.operator.smoothing_interval)
        return Schedule(gain, (1.0, *weights) * smoother.count)
    return None


def _nested_transfers(fine: Grid, coarse: Grid) -> Transfers | None:
    """Return the fused transfers of nested iteration; None where the rows are too short, or not coarsened."""
    last, coarse_last = fine.axes[-1], coarse.axes[-1]
    if coarse_last.n < 4 or last == coarse_last:
        return None
    extended = None if last.periodic else lagrange(coarse_last, last.positions, beyond=EXTRAPOLATED)
    return _transfers(*nested_transfers(fine, coarse), extended)


def _transfers(restriction: Any, prolongation: Any, extended: Band | None = None) -> Transfers | None:
    if not isinstance(restriction, SeparableTransfer) or not isinstance(prolongation, SeparableTransfer):
        return None
    if len(restriction.products) > 1 or len(prolongation.products) > 1:
        return None
    return Transfers.of(restriction.products[0], prolongation.products[0], extended)
