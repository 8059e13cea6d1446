"""Which slots have legs in fused form: red-black sweeps with transfers that are one tensor product, in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scipy import sparse

from ..cycle import Smoother, Steps
from .grid import Grid
from .interpolation import lagrange
from .kernels.fused import EXTRAPOLATED, FusedLegs, Sweeps, Transfers
from .problem import Poisson
from .smoothers import RedBlack
from .transfers import SeparableTransfer


def fused_legs(
    problem: Poisson,
    coarser: Poisson,
    slots: tuple[Any, ...],
    nested: Callable[[], tuple[SeparableTransfer, SeparableTransfer]],
) -> FusedLegs | None:
    """Return the fused legs of a level with these slots: smoothers, R, P and Pi; None where they have none.

    `nested` makes R and P of nested iteration.
    """
    smoother, post_smoother, restriction, prolongation, state_transfer = slots
    down, up = _sweeps(smoother), _sweeps(post_smoother)
    if down is None or (up is None and post_smoother is not None) or state_transfer is not None:
        return None
    axes = problem.grid.axes
    if not 2 <= len(axes) <= 3 or axes[0].n < 2 or (axes[0].periodic and axes[0].n % 2):
        return None  # along an odd periodic axis neighbors share a color, and the order of slabs would matter
    transfers = _transfers(restriction, prolongation, (axes[0].periodic, axes[-1].periodic))
    if transfers is None:
        return None
    legs = FusedLegs(
        (problem.shape, coarser.shape),
        problem.operator.tables,
        (down, down._replace(half_sweeps=0) if up is None else up),
        transfers,
        lambda: _nested_transfers(nested(), problem.grid, coarser.grid),
        tuple(axis.periodic for axis in axes),
    )
    return legs if legs.fits else None


def _sweeps(smoother: Smoother | None) -> Sweeps | None:
    if not isinstance(smoother, Steps) or not isinstance(smoother.step, RedBlack):
        return None
    step = smoother.step
    return Sweeps(2 * smoother.count, int(step.first == "black"), step.first == "black", step.omega)


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
