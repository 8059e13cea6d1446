"""Which slots have legs in fused form: red-black, Jacobi, Chebyshev, transfers of one tensor product, in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from scipy import sparse

from ..cycle import Steps
from .grid import Grid
from .interpolation import lagrange
from .kernels.cpu.fused import FusedSweeps, Sweeps
from .kernels.cpu.fused_steps import FusedSteps, Schedule
from .kernels.cpu.half_cycles import EXTRAPOLATED, Transfers
from .problem import Poisson
from .smoothers import Chebyshev, Jacobi, RedBlack
from .transfers import SeparableTransfer


def fused_legs(
    problem: Poisson,
    coarser: Poisson,
    slots: tuple[Any, ...],
    nested: Callable[[], tuple[SeparableTransfer, SeparableTransfer]],
) -> FusedSweeps | FusedSteps | None:
    """Return the fused legs of a level with these slots: smoothers, R, P and Pi; None where they have none.

    `nested` makes R and P of nested iteration.
    """
    smoother, post_smoother, restriction, prolongation, state_transfer = slots
    axes = problem.grid.axes
    if not 2 <= len(axes) <= 3 or axes[0].n < 2 or state_transfer is not None:
        return None
    transfers = _transfers(restriction, prolongation, (axes[0].periodic, axes[-1].periodic))
    if transfers is None:
        return None
    common = (
        (problem.shape, coarser.shape),
        problem.operator.tables,
        transfers,
        lambda: _nested_transfers(nested(), problem.grid, coarser.grid),
        tuple(axis.periodic for axis in axes),
    )
    sweeps = _both(smoother, post_smoother, _sweeps)
    if sweeps is not None:
        # Along an odd periodic axis neighbors share a color, and the order of slabs would matter.
        legs = None if axes[0].periodic and axes[0].n % 2 else FusedSweeps(sweeps, *common)
        return legs if legs is not None and legs.fits else None
    schedules = _both(smoother, post_smoother, partial(_schedule, problem))
    return None if schedules is None else FusedSteps(schedules, *common)


def _both(smoother: Any, post_smoother: Any, read: Callable[[Steps], Any]) -> tuple[Any, Any] | None:
    """Return what `read` makes of both smoothers, of no steps where there is no second; None if it does not know one."""
    down = read(smoother) if isinstance(smoother, Steps) else None
    if post_smoother is None:
        return None if down is None else (down, down.without_steps())
    up = read(post_smoother) if isinstance(post_smoother, Steps) else None
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


def _nested_transfers(transfers: tuple[SeparableTransfer, SeparableTransfer], fine: Grid, coarse: Grid) -> Transfers | None:
    """Return those of nested iteration; None where the rows are too short, or not coarsened."""
    (first, last), coarse_last = (fine.axes[0], fine.axes[-1]), coarse.axes[-1]
    if coarse_last.n < 4 or last == coarse_last:
        return None
    extended = None if last.periodic else lagrange(coarse_last, last.positions, beyond=EXTRAPOLATED)
    return _transfers(*transfers, (first.periodic, last.periodic), extended)


def _transfers(
    restriction: Any, prolongation: Any, periodic: tuple[bool, bool], extended: sparse.csr_array | None = None
) -> Transfers | None:
    if not isinstance(restriction, SeparableTransfer) or not isinstance(prolongation, SeparableTransfer):
        return None
    down, up = restriction.axis_matrices(), prolongation.axis_matrices()
    if len(down) > 1 or len(up) > 1:
        return None
    return Transfers.of(down[0], up[0], restriction.tables[0], prolongation.tables[0], periodic, extended)
