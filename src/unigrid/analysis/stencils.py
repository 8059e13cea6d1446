"""Stencils per level: the operator, and the transfers to the next level, on a grid without boundaries.

The stencils of transfers are their responses to unit impulses on a periodic grid. So every recipe can be analyzed, your own
included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..messages import choose, per_axis
from ..stencil.coarsening import STRONG
from ..stencil.grid import Axis, Grid, Periodic
from ..stencil.operator import StencilOperator
from ..stencil.transfers import TransferRecipe
from .symbols import Reals, center, checked_stencil, entries, is_low, symbol

Coarsening = Callable[[Reals, Grid], tuple[bool, ...]]
SIDE = 32  # points along each axis of the periodic grid for impulses: wide enough for any product R A P of small stencils


@final
@dataclass(frozen=True, eq=False)
class StencilOnGrid:
    """The operator of one level: a stencil, and a grid of its spacing without boundaries."""

    stencil: Reals
    grid: Grid
    reaction: float
    discretized: bool  # whether the stencil is that of StencilOperator on this grid
    coarsening: Coarsening  # which axes the next grid coarsens

    @property
    def geometry(self) -> StencilOperator:
        """The Poisson operator on this level's grid, for smoothers that depend on the spacing."""
        return StencilOperator(self.grid, self.reaction)

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much the next grid is coarser: 2 along strong axes, 1 along the others."""
        return tuple(2 if strong else 1 for strong in self.coarsening(self.stencil, self.grid))

    @cached_property
    def smoothing_interval(self) -> tuple[float, float]:
        """The range of the symbol of D^-1 A on the frequencies that the next grid does not represent."""
        if self.discretized:
            return self.geometry.smoothing_interval
        thetas = np.stack(np.meshgrid(*[np.linspace(-np.pi, np.pi, SIDE, endpoint=False)] * self.grid.ndim), axis=-1)
        high = thetas[~is_low(thetas, self.factors)]
        values = symbol(self.stencil, *high.T).real / center(self.stencil)
        return float(values.min()), float(values.max())

    @staticmethod
    def of_bare(stencil: ArrayLike, spacing: float | Sequence[float] | None, centering: str | None) -> StencilOnGrid:
        """Return a user's stencil on a grid of that spacing, by default 1.

        Raises TypeError or ValueError for a stencil without a diagonal or of more than three axes, and for a bad spacing.
        """
        array = checked_stencil(stencil)
        if not 1 <= array.ndim <= 3:
            raise ValueError(f"stencils of 1, 2 or 3 axes can be analyzed, got shape {array.shape}")
        if center(array) == 0.0:
            raise ValueError("the middle of the stencil, the diagonal of the operator, is 0: no smoother here can divide by it")
        distances = per_axis(1.0 if spacing is None else spacing, array.ndim, "spacing")
        centering = choose(centering or "vertex", ("vertex", "cell"), "centering")
        return StencilOnGrid(array, endless(distances, centering), 0.0, False, by_spacing)

    @staticmethod
    def of_poisson(grid: Grid, reaction: float, coarsening: Coarsening) -> StencilOnGrid:
        """Return the 3-, 5- or 7-point stencil of -Laplace + c for the grid's spacing."""
        stencil = StencilOperator(grid, reaction).stencil
        return StencilOnGrid(stencil, endless(grid.spacing, grid.axes[0].centering), reaction, True, coarsening)

    def rediscretized(self) -> StencilOnGrid:
        """Return the same operator on the next grid.

        Raises ValueError for a bare stencil whose scaling is not known.
        """
        if self.discretized:
            return StencilOnGrid.of_poisson(next_grid(self.grid, self.factors), self.reaction, self.coarsening)
        return self.replaced(_scaled(self.stencil, self.factors))

    def replaced(self, stencil: Reals) -> StencilOnGrid:
        """Return another stencil as the operator on the next grid."""
        return StencilOnGrid(stencil, next_grid(self.grid, self.factors), self.reaction, False, self.coarsening)


@final
@dataclass(frozen=True, eq=False)
class TransferStencils:
    """R and P between a grid and the next.

    (R u)_j = sum over s of r_s u_(m j + s); (P e)_(m j + s) = p_s for e the unit impulse at the coarse point j.
    """

    restriction: Reals
    prolongation: Reals
    factors: tuple[int, ...]

    @staticmethod
    def between(
        fine: Grid, factors: tuple[int, ...], restriction: TransferRecipe, prolongation: TransferRecipe
    ) -> TransferStencils:
        """Return the stencils of both recipes between a grid and the one coarser by these factors."""
        coarse = _coarsened(fine, factors)
        down: Any = restriction.between(fine, coarse)
        up: Any = prolongation.between(fine, coarse)
        stencils = TransferStencils(_weights_down(down, fine, coarse, factors), _around(up(_impulse(coarse.shape))), factors)
        noise = np.random.default_rng(0)
        u, e = noise.standard_normal(fine.shape), noise.standard_normal(coarse.shape)
        for recipe, result, expected in (
            (restriction, down(u), stencils.restrict(u)),
            (prolongation, up(e), stencils.prolong(e)),
        ):
            if not np.allclose(result, expected, rtol=0.0, atol=1e-9 * max(1.0, float(np.abs(expected).max()))):
                raise ValueError(
                    f"{recipe!r} has no symbol: on a periodic grid it must be linear and equal at all points, but its result "
                    "on random values is not the sum of its results on unit impulses"
                )
        return stencils

    def restrict(self, u: Reals) -> Reals:
        """Return R u on a periodic grid."""
        whole = ndimage.correlate(u, self.restriction, mode="wrap")
        return whole[tuple(slice(None, None, factor) for factor in self.factors)]

    def prolong(self, e: Reals) -> Reals:
        """Return P e on a periodic grid."""
        spread = np.zeros([n * factor for n, factor in zip(e.shape, self.factors, strict=True)])
        spread[tuple(slice(None, None, factor) for factor in self.factors)] = e
        return ndimage.convolve(spread, self.prolongation, mode="wrap")


def galerkin(fine: StencilOnGrid, transfers: TransferStencils) -> StencilOnGrid:
    """Return R A P: its response to a unit impulse is its stencil, mirrored."""
    if max(fine.stencil.shape) // 2 > SIDE // 4:
        raise ValueError(
            f"R A P is available for stencils that reach at most {SIDE // 4} points far, got shape {fine.stencil.shape}"
        )
    coarse = [n // factor for n, factor in zip(fine.grid.shape, fine.factors, strict=True)]
    column = transfers.restrict(ndimage.correlate(transfers.prolong(_impulse(coarse)), fine.stencil, mode="wrap"))
    return fine.replaced(np.flip(_around(column)))


def endless(spacing: Sequence[float], centering: str) -> Grid:
    """Return a periodic grid in place of the infinite one."""
    return Grid(tuple(Axis(SIDE, h, Periodic, Periodic, centering) for h in spacing))


def next_grid(grid: Grid, factors: tuple[int, ...]) -> Grid:
    """Return the grid coarser by these factors, again without boundaries."""
    coarse = _coarsened(grid, factors)
    return endless(coarse.spacing, coarse.axes[0].centering)


def by_spacing(stencil: Reals, grid: Grid) -> tuple[bool, ...]:
    """Return which axes `StencilCycle` coarsens: those of about the smallest spacing."""
    return grid.strong_axes


def by_couplings(stencil: Reals, grid: Grid) -> tuple[bool, ...]:
    """Return which axes `GalerkinCycle` coarsens: those that couple about as strongly as the strongest."""
    sides = [np.moveaxis(stencil, axis, 0) for axis in range(stencil.ndim)]
    couplings = [abs(float(side[0].sum())) + abs(float(side[-1].sum())) for side in sides]
    return tuple(coupling > STRONG * max(couplings) for coupling in couplings)


def _coarsened(grid: Grid, factors: tuple[int, ...]) -> Grid:
    pairs = zip(grid.axes, factors, strict=True)
    return Grid(tuple(axis if factor == 1 else replace(axis, n=axis.n // 2, h=2 * axis.h) for axis, factor in pairs))


def _impulse(shape: Sequence[int], at: Sequence[int] | None = None) -> Reals:
    impulse = np.zeros(shape)
    impulse[tuple(n // 2 for n in shape) if at is None else tuple(at)] = 1.0
    return impulse


def _around(values: Reals) -> Reals:
    """Return the values around the middle point n // 2 of a grid as the smallest stencil that holds all nonzeros."""
    middle = np.array(values.shape) // 2
    far = np.abs(np.argwhere(np.abs(values) > 1e-14 * np.abs(values).max()) - middle).max(axis=0, initial=0)
    if (far >= middle).any():
        raise ValueError(
            f"this transfer reaches {far.max()} points far, too far to be analyzed; up to {SIDE // 4} is always possible"
        )
    return values[tuple(slice(at - reach, at + reach + 1) for at, reach in zip(middle, far, strict=True))]


def _weights_down(down: Any, fine: Grid, coarse: Grid, factors: tuple[int, ...]) -> Reals:
    """Return r from impulses at each fine point of one coarse cell: an impulse at i gives r_(i - m j) at the coarse point j."""
    weights = np.zeros(fine.shape)
    middle = [n // 2 for n in coarse.shape]
    for parity in np.ndindex(*factors):
        at = [m * j + p for m, j, p in zip(factors, middle, parity, strict=True)]
        places = [(n // 2 + i - m * np.arange(n // m)) % n for n, i, m in zip(fine.shape, at, factors, strict=True)]
        weights[np.ix_(*places)] = down(_impulse(fine.shape, at))
    return _around(weights)


def _scaled(stencil: Reals, factors: tuple[int, ...]) -> Reals:
    """Return a stencil of second derivatives plus a reaction for the coarser grid, where the derivatives scale like 1/h^2.

    The entries sum to the reaction, which is kept. Where only some axes are coarsened, each scales by itself.
    """
    middle = tuple(side // 2 for side in stencil.shape)
    reaction, coarse = float(stencil.sum()), np.zeros_like(stencil)
    advice = "take coarse='galerkin', or give the stencils of the coarser levels, coarse=[stencil, ..]"
    if not np.allclose(stencil, np.flip(stencil), rtol=0.0, atol=1e-12 * np.abs(stencil).max()):
        raise ValueError(
            f"a stencil that is not point symmetric has more than second derivatives, so the coarse one is not known: {advice}"
        )
    for offset, weight in entries(stencil):
        along = {factor for s, factor in zip(offset, factors, strict=True) if s}
        if len(along) > 1:
            raise ValueError(
                f"with entries off the axes, and only some axes coarsened, the coarse stencil is not known: {advice}"
            )
        if along:
            coarse[tuple(m + s for m, s in zip(middle, offset, strict=True))] = weight / along.pop() ** 2
    coarse[middle] = reaction - math.fsum(coarse.ravel())
    return coarse
