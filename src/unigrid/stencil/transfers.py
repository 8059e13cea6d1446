"""The slots R, Pi and P of the stencil backend: tensor products of one small sparse matrix an axis.

What a user names is a recipe, `FullWeighting()`; `between(fine, coarse)` makes of it the slot of one level. A recipe that is
the adjoint of another, in the inner product of the cell volumes, R = W_c^-1 P^T W_f, says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..cycle import Prolongation, Restriction, StateTransfer
from . import kernels
from .grid import Axis, Grid
from .interpolation import constant, exact_for_linear, lagrange, linear, nearest
from .kernels.workspace import zeros

Array = NDArray[np.floating]
AxisMatrix = Callable[[Axis, Axis], sparse.csr_array]


@final
class SeparableTransfer(Restriction, StateTransfer, Prolongation):
    """T = scale (T_0 x T_1 x T_2), added up over `products`: any transfer that is a sum of tensor products."""

    def __init__(self, shape: tuple[int, ...], products: Sequence[Sequence[sparse.csr_array]], scale: float = 1.0) -> None:
        self.shape = shape
        self._products = [[scale * matrices[0], *matrices[1:]] for matrices in products]
        self._double = [_tables(matrices) for matrices in self._products]
        self._single: list[kernels.SeparableTables] | None = None  # made when first needed, as most never need it

    def axis_matrices(self) -> list[list[sparse.csr_array]]:
        """Return, for each product, its matrices, one an axis; the scale is in the first."""
        return [list(matrices) for matrices in self._products]

    @property
    def tables(self) -> list[kernels.SeparableTables]:
        """The products row by row, in double precision, leading axes of one point included."""
        return self._double

    def _tables(self, dtype: np.dtype) -> list[kernels.SeparableTables]:
        if dtype == np.float64:
            return self._double
        if self._single is None:
            self._single = [
                kernels.SeparableTables(indices, tuple(weight.astype(np.float32) for weight in weights))
                for indices, weights in self._double
            ]
        return self._single

    def __call__(self, array: Array) -> Array:
        return self.add_to(zeros(self.shape, array.dtype), array)

    def add_to(self, u: Array, correction: Array) -> Array:
        for tables in self._tables(correction.dtype):
            u = kernels.add_separable(u, correction, tables)
        return u


def _tables(matrices: Sequence[sparse.csr_array]) -> kernels.SeparableTables:
    """Store each matrix by rows, padded with zeros to its longest row, missing leading axes as [1]."""
    indices, weights = zip(*([_ONE] * (3 - len(matrices)) + [_padded(matrix) for matrix in matrices]), strict=True)
    return kernels.SeparableTables(indices, weights)


_ONE = np.zeros((1, 1), np.int64), np.ones((1, 1))


def _padded(matrix: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    lengths = np.diff(matrix.indptr)
    width, rows = max(1, int(lengths.max())), matrix.shape[0]
    indices, weights = np.zeros((width, rows), np.int64), np.zeros((width, rows))
    row = np.repeat(np.arange(rows), lengths)
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], lengths)
    indices[place, row], weights[place, row] = matrix.indices, matrix.data
    return indices, weights


class TransferRecipe(ABC):
    """What a user names: makes the transfer between two grids when the hierarchy is built."""

    @abstractmethod
    def between(self, fine: Grid, coarse: Grid) -> Restriction | StateTransfer | Prolongation:
        """Return the transfer; restrictions lead from fine to coarse, prolongations back. May raise ValueError.

        To be written by a user whose transfer depends on the grids: on any size but 2^k - 1, say, where an axis of 32 unknowns
        may come from 64 or from 65.
        """

    def adjoint(self) -> TransferRecipe | None:
        """Return the recipe of the adjoint in the cell volumes, None where there is none here."""
        return None


@final
@dataclass(frozen=True)
class Linear(TransferRecipe):
    """P: (bi-, tri-) linear interpolation, exact for linear functions away from the sides, reflected as the sides demand."""

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
        return SeparableTransfer(fine.shape, [_each_axis(lambda f, c: lagrange(c, f.positions), fine, coarse)])


@final
@dataclass(frozen=True)
class FullWeighting(TransferRecipe):
    """R: the adjoint of linear interpolation; on nested vertices 1/4 [1 2 1] along each axis."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(coarse.shape, [_each_axis(_adjoint(linear), fine, coarse)])

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
        full_weighting = _adjoint(linear)
        matrices = _each_axis(lambda f, c: exact_for_linear(full_weighting(f, c), f, c), fine, coarse)
        return SeparableTransfer(coarse.shape, [matrices])


@final
@dataclass(frozen=True)
class CellAverage(TransferRecipe):
    """R: the mean over each coarse cell (average pooling); the adjoint of `Constant`."""

    def between(self, fine: Grid, coarse: Grid) -> SeparableTransfer:
        return SeparableTransfer(coarse.shape, [_each_axis(_adjoint(constant), fine, coarse)])

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
        weighted = _each_axis(_adjoint(linear), fine, coarse)
        injected = _each_axis(nearest, fine, coarse)
        coarsened = [axis for axis in range(fine.ndim) if fine.axes[axis] != coarse.axes[axis]]
        products = [[*injected[:axis], weighted[axis], *injected[axis + 1 :]] for axis in coarsened]
        return SeparableTransfer(coarse.shape, products, 1.0 / len(coarsened))


def _each_axis(matrix: AxisMatrix, fine: Grid, coarse: Grid) -> list[sparse.csr_array]:
    """Make the axis' matrix wherever the axis is coarsened, the identity elsewhere; like axes share one."""
    made: dict[tuple[Axis, Axis], sparse.csr_array] = {}
    pairs = list(zip(fine.axes, coarse.axes, strict=True))
    for f, c in pairs:
        if (f, c) not in made:
            made[f, c] = sparse.eye_array(f.n, format="csr") if f == c else matrix(f, c)
    return [made[pair] for pair in pairs]


def _adjoint(matrix: AxisMatrix) -> AxisMatrix:
    """Return what makes W_c^-1 P^T W_f, axis by axis: the weights are a product as well."""

    def adjoint(fine: Axis, coarse: Axis) -> sparse.csr_array:
        transposed = matrix(fine, coarse).T.tocsr()
        row = np.repeat(np.arange(coarse.n), np.diff(transposed.indptr))
        transposed.data = transposed.data * fine.weights[transposed.indices] / coarse.weights[row]
        return transposed

    return adjoint


RESTRICTIONS: dict[str, type[TransferRecipe]] = {
    "full-weighting": FullWeighting,
    "half-weighting": HalfWeighting,
    "injection": Injection,
    "cell-average": CellAverage,
}
PROLONGATIONS: dict[str, type[TransferRecipe]] = {"linear": Linear, "constant": Constant, "cubic": Cubic}
