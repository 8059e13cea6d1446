"""The slots R, Pi and P of the stencil backend: tensor products of one small banded matrix per axis.

A user names a recipe, `FullWeighting()`; its `between(fine, coarse)` returns the slot of one level. A recipe that is
the adjoint of another, in the inner product of the cell volumes, R = W_c^-1 P^T W_f, returns it from `adjoint`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Prolongation, Restriction, StateTransfer
from . import kernels
from .grid import Grid
from .interpolation import (
    AxisMatrix,
    cell_average,
    constant,
    cubic,
    full_weighting,
    linear,
    nearest,
    source_weighting,
)
from .kernels.bands import Band
from .kernels.workspace import zeros

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[np.floating]


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
