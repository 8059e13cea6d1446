"""Banded matrices along one axis of a grid: what transfers and interpolations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Band:
    """A matrix along one axis, stored as a band.

    Attributes
    ----------
    starts : ndarray of int, (rows,)
    weights : ndarray, (rows, width)
        Row i has weights[i, t] in column starts[i] + t; some of them may be zero.
    columns : int
    wraps : bool
        Whether columns continue at the other end: then starts[i] + t is meant modulo `columns`, and may be negative.
    """

    starts: Indices
    weights: Numbers
    columns: int
    wraps: bool

    @staticmethod
    def of_entries(row: Indices, column: Indices, value: Numbers, shape: tuple[int, int], wraps: bool) -> Band:
        """Return the matrix with these entries, flat arrays; those of the same place are added up."""
        rows, columns = shape
        kept = value != 0.0
        row, column, value = row[kept], column[kept], value[kept]
        starts = np.full(rows, columns, dtype=np.int64)
        np.minimum.at(starts, row, column)
        place = column - starts[row]
        width = int(place.max(initial=0)) + 1
        if not wraps:
            clipped = np.minimum(starts, max(columns - width, 0))
            place += (starts - clipped)[row]
            starts = clipped
        weights = np.bincount(row * width + place, value, rows * width).astype(np.float64, copy=False).reshape(rows, width)
        return Band(starts, weights, columns, wraps)

    @staticmethod
    def identity(n: int, wraps: bool) -> Band:
        """Return the identity, (n, n)."""
        return Band(np.arange(n), np.ones((n, 1)), n, wraps)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.starts), self.columns

    @property
    def nodes(self) -> Indices:
        """Column of each weight, (rows, width); beyond the ends where the axis wraps."""
        return self.starts[:, None] + np.arange(self.weights.shape[1])

    @property
    def indices(self) -> Indices:
        """Column of each weight, (rows, width), from 0 to columns - 1."""
        return self.nodes % self.columns if self.wraps else self.nodes

    def transposed(self) -> Band:
        """Return the transpose."""
        rows, columns = self.shape
        row = np.repeat(np.arange(rows), self.weights.shape[1])
        turn, column = np.divmod(self.nodes.ravel(), columns)
        return Band.of_entries(column, row - rows * turn, self.weights.ravel(), (columns, rows), self.wraps)

    def weighted(self, of_rows: Numbers | float, of_columns: Numbers) -> Band:
        """Return the matrix with every row and column multiplied by a number of its own."""
        rows = np.broadcast_to(np.asarray(of_rows, dtype=np.float64), len(self.starts))
        return Band(self.starts, self.weights * of_columns[self.indices] * rows[:, None], self.columns, self.wraps)

    def scaled(self, factor: float) -> Band:
        """Return factor times the matrix."""
        return self if factor == 1.0 else Band(self.starts, factor * self.weights, self.columns, self.wraps)

    def __matmul__(self, values: NDArray[Any]) -> NDArray[Any]:
        gathered = values[self.indices]  # (rows, width, ..)
        return np.einsum("rw,rw...->r...", self.weights, gathered)

    def toarray(self) -> Numbers:
        """Return the matrix as a dense array."""
        dense = np.zeros(self.shape)
        np.add.at(dense, (np.arange(len(self.starts))[:, None], self.indices), self.weights)
        return dense

    def tosparse(self) -> sparse.csr_array:
        """Return the matrix as a SciPy sparse array, without stored zeros."""
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve

        row = np.repeat(np.arange(len(self.starts)), self.weights.shape[1])
        matrix = sparse.csr_array((self.weights.ravel(), (row, self.indices.ravel())), shape=self.shape)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix
