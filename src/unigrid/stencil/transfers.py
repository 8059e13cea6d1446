"""The slots R, Pi and P of the stencil backend: tensor products of one small banded matrix per axis.

The matrices come first; each follows from a formula in the two axes alone, and an axis is a value, so they are computed once
and kept. Interpolation along an axis also carries the boundary values. A user names a recipe, `FullWeighting()`; its
`between(fine, coarse)` returns the slot of one level. A recipe that is the adjoint of another, in the inner product of the cell
volumes, R = W_c^-1 P^T W_f, returns it from `adjoint`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Prolongation, Restriction, StateTransfer
from . import kernels
from .grid import Axis, Grid
from .kernels.bands import Band, Numbers
from .kernels.workspace import zeros

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[np.floating]
KEPT = 256  # matrices


def lagrange(source: Axis, targets: Numbers, degree: int = 3, beyond: int = 0) -> Band:
    """Return the (len(targets), source.n) matrix of polynomial interpolation of a function, whatever its boundary values.

    Near an end the stencil is one-sided: a solution, unlike a correction, has no reflection to rely on. Lower degree where
    the axis has too few unknowns. With `beyond` there are that many further values at either end to interpolate from; if they
    come from the same polynomial, extrapolated, the result is the same.
    """
    degree = min(degree, source.n - 1)
    position = _position(targets, source)
    first = np.floor(position).astype(np.int64) - (degree - 1) // 2 if degree else np.zeros(len(targets), np.int64)
    if not source.periodic:
        first = np.clip(first, -beyond, source.n - 1 - degree + beyond)
    distance = (position - first)[:, None] - np.arange(degree + 1)
    weights = np.ones(distance.shape)
    for own in range(degree + 1):
        for other in range(degree + 1):
            if other != own:
                weights[:, own] *= distance[:, other] / (own - other)
    columns = source.n + 2 * beyond
    if not source.periodic:
        first = first + beyond
    row = np.repeat(np.arange(len(targets)), degree + 1)
    nodes = first[:, None] + np.arange(degree + 1)
    return Band.of_entries(row, nodes.ravel(), weights.ravel(), (len(targets), columns), source.periodic)


AxisMatrix = Callable[[Axis, Axis], Band]


@lru_cache(KEPT)
def cubic(fine: Axis, coarse: Axis) -> Band:
    """Return the (fine.n, coarse.n) matrix of cubic interpolation of a solution; see `lagrange`."""
    return lagrange(coarse, fine.positions)


@lru_cache(KEPT)
def linear(fine: Axis, coarse: Axis) -> Band:
    """Return the (fine.n, coarse.n) matrix of linear interpolation of a correction, which is homogeneous at the boundary."""
    position = _position(fine.positions, coarse)
    left = np.floor(position)
    right_weight = position - left
    nodes = left.astype(np.int64)[:, None] + np.arange(2)
    weights = np.stack([1.0 - right_weight, right_weight], axis=1)
    if not coarse.periodic:
        low, high = coarse.ghosts()
        for outside, ghost in ((nodes < 0, low), (nodes >= coarse.n, high)):
            weights[outside] *= ghost.weight
            nodes[outside] = ghost.inward
    row = np.repeat(np.arange(fine.n), 2)
    return Band.of_entries(row, nodes.ravel(), weights.ravel(), (fine.n, coarse.n), coarse.periodic)


@lru_cache(KEPT)
def constant(fine: Axis, coarse: Axis) -> Band:
    """Return the (fine.n, coarse.n) matrix that gives each fine cell the mean, over it, of constants on the coarse cells.

    The cell of an unknown reaches halfway to its neighbors; at a vertex-Neumann end it is the inner half.
    """
    nodes = np.rint(_position(fine.positions, coarse)).astype(np.int64)[:, None] + np.array([-1, 0, 1])
    fine_low, fine_high = _cell(fine.positions, fine)
    coarse_low, coarse_high = _cell((nodes + coarse.origin) * coarse.h, coarse)
    overlap = np.minimum(fine_high[:, None], coarse_high) - np.maximum(fine_low[:, None], coarse_low)
    weights = np.clip(overlap, 0.0, None) / (fine_high - fine_low)[:, None]
    if not coarse.periodic:
        outside = (nodes < 0) | (nodes >= coarse.n)
        weights[outside] = 0.0
    row = np.repeat(np.arange(fine.n), 3)
    return Band.of_entries(row, nodes.ravel(), weights.ravel(), (fine.n, coarse.n), coarse.periodic)


@lru_cache(KEPT)
def nearest(fine: Axis, coarse: Axis) -> Band:
    """Return the (coarse.n, fine.n) matrix that gives each coarse unknown the value of the nearest fine one (injection)."""
    index = np.ceil(_position(coarse.positions, fine) - 0.5).astype(np.int64)
    if not fine.periodic:
        index = np.clip(index, 0, fine.n - 1)
    return Band(index, np.ones((coarse.n, 1)), fine.n, fine.periodic)


@lru_cache(KEPT)
def full_weighting(fine: Axis, coarse: Axis) -> Band:
    """Return the (coarse.n, fine.n) adjoint of `linear` in the cell volumes."""
    return _adjoint(linear, fine, coarse)


@lru_cache(KEPT)
def cell_average(fine: Axis, coarse: Axis) -> Band:
    """Return the (coarse.n, fine.n) adjoint of `constant` in the cell volumes."""
    return _adjoint(constant, fine, coarse)


@lru_cache(KEPT)
def source_weighting(fine: Axis, coarse: Axis) -> Band:
    """Return `full_weighting` with the weights w_j of each row times a + b d_j, d_j the distance from the coarse unknown, such
    that constants and linear functions are restricted exactly: sum w_j (a + b d_j) = 1, sum w_j (a + b d_j) d_j = 0.
    """
    band = full_weighting(fine, coarse)
    distance = (band.nodes + fine.origin) - (coarse.positions / fine.h)[:, None]
    zeroth, first, second = ((band.weights * distance**power).sum(axis=1) for power in (0, 1, 2))
    determinant = zeroth * second - first**2
    enough = determinant > 1e-9  # a row of one weight can carry constants alone
    a = np.where(enough, second / np.where(enough, determinant, 1.0), 1.0 / zeroth)
    b = np.where(enough, -first / np.where(enough, determinant, 1.0), 0.0)
    return Band(band.starts, band.weights * (a[:, None] + b[:, None] * distance), band.columns, band.wraps)


def _adjoint(matrix: AxisMatrix, fine: Axis, coarse: Axis) -> Band:
    """Return W_c^-1 P^T W_f, W the cell volumes along the axis."""
    return matrix(fine, coarse).transposed().weighted(1.0 / coarse.weights, fine.weights)


def _position(points: Numbers, axis: Axis) -> Numbers:
    """Return where the points lie in index space, points that coincide with unknowns exactly there."""
    position = points / axis.h - axis.origin
    whole = np.rint(position)
    return np.where(np.abs(position - whole) < 1e-9, whole, position)


def _cell(points: Numbers, axis: Axis) -> tuple[Numbers, Numbers]:
    """Return the ends of the cells around the points."""
    low, high = points - axis.h / 2, points + axis.h / 2
    return (low, high) if axis.periodic else (np.clip(low, 0.0, axis.length), np.clip(high, 0.0, axis.length))


def clear_cache() -> None:
    """Forget the matrices that were kept."""
    for kept in (cubic, linear, constant, nearest, full_weighting, cell_average, source_weighting):
        kept.cache_clear()


@final
class SeparableTransfer(Restriction, StateTransfer, Prolongation):
    """T = scale (T_0 x T_1 x T_2), added up over `products`: any transfer that is a sum of tensor products.

    Parameters
    ----------
    shape : tuple of int
        Of the arrays that it returns.
    products : sequence of sequences of Band
        For each product its matrices, one per axis.
    scale : float
    """

    def __init__(self, shape: tuple[int, ...], products: Sequence[Sequence[Band]], scale: float = 1.0) -> None:
        self.shape = shape
        self.products = tuple((matrices[0].scaled(scale), *matrices[1:]) for matrices in products)

    def __repr__(self) -> str:
        source = " x ".join(str(band.columns) for band in self.products[0])
        return f"<SeparableTransfer: {source} to {' x '.join(map(str, self.shape))} unknowns>"

    def axis_matrices(self) -> list[list[sparse.csr_array]]:
        """Return, for each product, its matrices, one per axis; the scale is in the first."""
        return [[band.tosparse() for band in matrices] for matrices in self.products]

    def __call__(self, array: Array) -> Array:
        return self.add_to(zeros(self.shape, array.dtype), array)

    def add_to(self, u: Array, correction: Array) -> Array:
        for tables in self._single if correction.dtype == np.float32 else self._double:
            u = kernels.of(u).add_separable(u, correction, tables)
        return u

    @cached_property
    def _double(self) -> list[kernels.SeparableTables]:
        return [_tables(matrices) for matrices in self.products]

    @cached_property
    def _single(self) -> list[kernels.SeparableTables]:
        return [
            kernels.SeparableTables(indices, tuple(weight.astype(np.float32) for weight in weights))
            for indices, weights in self._double
        ]


def _tables(matrices: Sequence[Band]) -> kernels.SeparableTables:
    """Return the matrices row by row, (width, rows) each, missing leading axes as [1]."""
    padded = [_ONE] * (3 - len(matrices)) + [
        (np.ascontiguousarray(band.indices.T), np.ascontiguousarray(band.weights.T)) for band in matrices
    ]
    indices, weights = zip(*padded, strict=True)
    return kernels.SeparableTables(indices, weights)


_ONE = np.zeros((1, 1), np.int64), np.ones((1, 1))


class TransferRecipe(ABC):
    """A transfer by its rule: it returns the transfer between two grids when the hierarchy is built."""

    @abstractmethod
    def between(self, fine: Grid, coarse: Grid) -> Restriction | StateTransfer | Prolongation:
        """Return the transfer; restrictions lead from fine to coarse, prolongations back. May raise ValueError.

        For a user's own transfer that depends on the grids: on sizes other than 2^k - 1, for example, an axis of 32 unknowns
        may come from 64 or from 65.
        """

    def adjoint(self) -> TransferRecipe | None:
        """Return the recipe of the adjoint in the cell volumes, None where there is none here."""
        return None


@final
@dataclass(frozen=True)
class Linear(TransferRecipe):
    """P: (bi-, tri-) linear interpolation, exact for linear functions away from the sides, reflected at the sides."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(fine.shape, [_each_axis(linear, fine, coarse)])

    def adjoint(self) -> TransferRecipe:
        return FullWeighting()


@final
@dataclass(frozen=True)
class Constant(TransferRecipe):
    """P: each fine cell gets the mean of the coarse constants over it; on nested cells, its parent's value."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(fine.shape, [_each_axis(constant, fine, coarse)])

    def adjoint(self) -> TransferRecipe:
        return CellAverage()


@final
@dataclass(frozen=True)
class Cubic(TransferRecipe):
    """P: cubic interpolation of solutions, one-sided at the sides; of full multigrid, which needs more than second order."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(fine.shape, [_each_axis(cubic, fine, coarse)])


@final
@dataclass(frozen=True)
class FullWeighting(TransferRecipe):
    """R: the adjoint of linear interpolation; on nested vertices 1/4 [1 2 1] along each axis."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(coarse.shape, [_each_axis(full_weighting, fine, coarse)])

    def adjoint(self) -> TransferRecipe:
        return Linear()


@final
@dataclass(frozen=True)
class SourceWeighting(TransferRecipe):
    """R of nested iteration, for a source f itself: full weighting, made exact for linear functions on grids that do not nest.

    A residual is restricted as a functional, by an adjoint; f is a function, and its values on the coarse grid count. (At
    100^3 one full-multigrid pass is 2.0 times the discretization error off with plain full weighting, 1.3 with this.)
    """

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(coarse.shape, [_each_axis(source_weighting, fine, coarse)])


@final
@dataclass(frozen=True)
class CellAverage(TransferRecipe):
    """R: the mean over each coarse cell (average pooling); the adjoint of `Constant`."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(coarse.shape, [_each_axis(cell_average, fine, coarse)])

    def adjoint(self) -> TransferRecipe:
        return Constant()


@final
@dataclass(frozen=True)
class Injection(TransferRecipe):
    """R or Pi: the value of the nearest fine unknown."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(coarse.shape, [_each_axis(nearest, fine, coarse)])


@final
@dataclass(frozen=True)
class HalfWeighting(TransferRecipe):
    """R: the mean over the axes of 1/4 [1 2 1] along one of them; 1/8 [0 1 0; 1 4 1; 0 1 0] in 2-D. Nested vertices only."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        for number, (f, c) in enumerate(zip(fine.axes, coarse.axes, strict=True)):
            if f != c and (f.centering != "vertex" or f.intervals % 2 or c.centering != "vertex"):
                raise ValueError(
                    f"half weighting needs nested vertices; axis {number} with {f.n} unknowns ({f.centering} centering, "
                    f"{f.intervals} intervals) does not nest. Take restriction='full-weighting', which needs nothing of it"
                )
        weighted = _each_axis(full_weighting, fine, coarse)
        injected = _each_axis(nearest, fine, coarse)
        coarsened = [axis for axis in range(fine.ndim) if fine.axes[axis] != coarse.axes[axis]]
        products = [[*injected[:axis], weighted[axis], *injected[axis + 1 :]] for axis in coarsened]
        return SeparableTransfer(coarse.shape, products, 1.0 / len(coarsened))


def _each_axis(matrix: AxisMatrix, fine: Grid, coarse: Grid) -> list[Band]:
    """Return the matrix of each axis that is coarsened, the identity for the others."""
    pairs = zip(fine.axes, coarse.axes, strict=True)
    return [Band.identity(f.n, f.periodic) if f == c else matrix(f, c) for f, c in pairs]


RESTRICTIONS: dict[str, type[TransferRecipe]] = {
    "full-weighting": FullWeighting,
    "half-weighting": HalfWeighting,
    "injection": Injection,
    "cell-average": CellAverage,
}
PROLONGATIONS: dict[str, type[TransferRecipe]] = {"linear": Linear, "constant": Constant, "cubic": Cubic}


def interpolated_side(values: NDArray[np.float64], fine: tuple[Axis, ...], coarse: tuple[Axis, ...]) -> NDArray[np.float64]:
    """Return the values of a side at the points of the coarse grid; a number stays a number."""
    if values.ndim == 0:
        return values
    for number, (source, target) in enumerate(zip(fine, coarse, strict=True)):
        moved = np.moveaxis(values, number, 0)
        result = lagrange(source, target.positions) @ moved.reshape(moved.shape[0], -1)
        values = np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, number)
    return values
