"""Banded matrices along one axis of a grid, of which transfers consist, and their layout for fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]
MOST_TERMS = 6  # of a transfer's row, for points of one parity
BEYOND = 4  # ghost values that fused kernels keep beyond each end of a row
EXTRAPOLATED = 2  # of these, the ones that are extrapolated where a solution is interpolated


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

    def window(self, rows: range, columns: range) -> Band:
        """Return the rows and columns in these ranges, which may go on across the ends of an axis that wraps.

        Entries in other columns are left out; starts never decrease.
        """
        turns, own = np.divmod(np.arange(rows.start, rows.stop), len(self.starts))
        width = self.weights.shape[1]
        starts = self.starts[own] + turns * self.columns - columns.start
        clipped = np.clip(starts, 0, len(columns) - width)
        nodes = starts[:, None] + np.arange(width)
        row, term = np.nonzero((nodes >= 0) & (nodes < len(columns)))
        weights = np.zeros((len(rows), width))
        weights[row, nodes[row, term] - clipped[row]] = self.weights[own][row, term]
        return Band(clipped, weights, len(columns), False)

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


class Parities(NamedTuple):
    """A transfer along a row: weights of shape (terms, count) for the even and for the odd fine points, with a shift each.

    In a prolongation, fine point 2 m + q has weights[t, m] of its parity q at coarse point m + shift + t. In a restriction,
    coarse point m has them at fine point 2 (m + shift + t) + q.
    """

    even_shift: int
    even: Numbers
    odd_shift: int
    odd: Numbers


class ByRows(NamedTuple):
    """A matrix row by row: column and weight of each term, (rows, width)."""

    indices: Indices
    weights: Numbers


class BandedRestriction(NamedTuple):
    """R: the weights (coarse slabs, width) of the fine slabs from `starts` on, rows across a slab, and points along a row."""

    starts: Indices
    weights: Numbers
    across: ByRows
    along_row: Parities


class BandedProlongation(NamedTuple):
    """P: slabs, rows across a slab, and points along a row."""

    slabs: ByRows
    across: ByRows
    along_row: Parities


class Transfers(NamedTuple):
    """R and P of one level in the layout of fused kernels."""

    restriction: BandedRestriction
    prolongation: BandedProlongation

    @staticmethod
    def of(restriction: Sequence[Band], prolongation: Sequence[Band], extended: Band | None) -> Transfers | None:
        """Return them from the matrices of all axes, slabs first; None where a row of the grid has no such bands.

        `extended`, if given, stands for P along a row, from a row with EXTRAPOLATED further values at both ends.
        """
        interpolated = _by_parity(prolongation[-1]) if extended is None else _by_parity(extended, EXTRAPOLATED)
        gathered = _gathered_by_parity(restriction[-1])
        if interpolated is None or gathered is None:
            return None
        slabs, *across = restriction[:-1]
        down = BandedRestriction(slabs.starts, slabs.weights, _across(across), gathered)
        slabs, *across = prolongation[:-1]
        return Transfers(down, BandedProlongation(ByRows(slabs.indices, slabs.weights), _across(across), interpolated))


_ONE_ROW = ByRows(np.zeros((1, 1), np.int64), np.ones((1, 1)))


def _across(matrices: Sequence[Band]) -> ByRows:
    """Return the matrix across the rows of a slab; in 2-D, where a slab is one row, that of one entry."""
    return ByRows(matrices[0].indices, matrices[0].weights) if matrices else _ONE_ROW


Half = tuple[Indices, Indices, Numbers]  # distance, m and weight of the entries of one parity


def _by_parity(band: Band, beyond: int = 0) -> Parities | None:
    """Return a (fine, coarse) matrix by the parity of the fine points; None where it takes more than a few terms.

    A row of the coarse grid has `beyond` further values at both ends.
    """
    fine, coarse = band.shape
    if band.wraps and fine % 2:
        return None
    m = np.broadcast_to((np.arange(fine) // 2)[:, None], band.weights.shape)
    distance = band.nodes - beyond - m
    even, odd = ((distance[q::2], m[q::2], band.weights[q::2]) for q in (0, 1))
    return _laid_out(even, odd, (fine + 1) // 2, coarse, band.wraps)


def _gathered_by_parity(band: Band) -> Parities | None:
    """Return a (coarse, fine) matrix by the parity of the fine points; None where it takes more than a few terms."""
    coarse, fine = band.shape
    if band.wraps and fine % 2:
        return None
    nodes, m = band.nodes, np.broadcast_to(np.arange(coarse)[:, None], band.weights.shape)
    chosen = (nodes % 2 == 0, nodes % 2 == 1)
    even, odd = (((nodes // 2 - m)[which], m[which], band.weights[which]) for which in chosen)
    return _laid_out(even, odd, coarse, coarse, band.wraps)


def _laid_out(even: Half, odd: Half, count: int, coarse: int, wraps: bool) -> Parities | None:
    if coarse < (BEYOND if wraps else 2):
        return None
    columns, odd_columns = _columns(even, count), _columns(odd, count)
    return None if columns is None or odd_columns is None else Parities(*columns, *odd_columns)


def _columns(half: Half, count: int) -> tuple[int, Numbers] | None:
    """Return the shift and the weights, (terms, count), of one parity; None where kernels have no room for them."""
    kept = half[2] != 0.0
    distance, m, weight = (entries[kept] for entries in half)
    shift, last = (int(distance.min()), int(distance.max())) if len(distance) else (0, 0)
    terms = last - shift + 1
    if max(-shift, last) > BEYOND or terms > MOST_TERMS:
        return None
    weights = np.bincount((distance - shift) * count + m, weight, terms * count)
    return shift, weights.astype(np.float64, copy=False).reshape(terms, count)  # of no weights, bincount returns integers
