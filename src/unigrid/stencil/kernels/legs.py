"""What legs in fused form have in common: transfers as bands, memory for slabs under way, the transfers of nested iteration."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..bands import Band
from . import Tables, rows, vectors, waves, writable
from . import threads as team
from .workspace import empty

Array = NDArray[np.floating]
MOST_TERMS, BEYOND = 6, 4  # of a transfer, for points of one parity; so many values beyond either end are kept
EXTRAPOLATED = 2  # of them, for a solution that is interpolated
NOTHING = np.empty((0, 1, 1))
# Rows whose distance is a multiple of a page share their places in the first cache: they are moved apart by so many bytes.
PAGE, ASSOCIATIVE = 4096, 128


@final
@dataclass(frozen=True, eq=False)
class Transfers:
    """R and P as the waves want them: along a row, the even and the odd points of the fine grid each see a band of the other.

    restriction, prolongation : tuples of arrays, as `waves` unpacks them
    starts : where each coarse slab begins on the fine grid
    """

    restriction: tuple[Any, ...]
    prolongation: tuple[Any, ...]
    starts: NDArray[np.int64]

    @staticmethod
    def of(restriction: Sequence[Band], prolongation: Sequence[Band], extended: Band | None) -> Transfers | None:
        """Return them from the matrices of all axes, slabs first; None where a row of the grid has no such bands.

        `extended`, if given, stands for P along a row, from a row with EXTRAPOLATED further values at both ends.
        """
        along_row = _by_parity(prolongation[-1]) if extended is None else _by_parity(extended, EXTRAPOLATED)
        columns = _gathered_by_parity(restriction[-1])
        if along_row is None or columns is None:
            return None
        slabs = restriction[0]
        along, cross = _slab_tables(prolongation)
        _, coarse_cross = _slab_tables(restriction)
        return Transfers((slabs.weights, coarse_cross, *columns), (along, cross, *along_row), slabs.starts)


_ONE_ROW = np.zeros((1, 1), np.int64), np.ones((1, 1))


def _slab_tables(matrices: Sequence[Band]) -> list[tuple[NDArray[np.int64], Array]]:
    """Return indices and weights, (length, width), along the axis of slabs, and along that of the rows in a slab."""
    tables: list[tuple[NDArray[np.int64], Array]] = [(band.indices, band.weights) for band in matrices[:-1]]
    return [*tables, _ONE_ROW] if len(tables) == 1 else tables


Parities = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def _by_parity(band: Band, beyond: int = 0) -> Parities | None:
    """Return a (fine, coarse) matrix as bands of the even and of the odd fine points, in one row each.

    Fine point 2 m + q has weights[t, m] at the coarse points m + shift + t. First comes (shift and number of t for q = 0, the
    same for q = 1, length of a band, which ends in zeros). None where it takes more than a few t. A row of the coarse grid has
    `beyond` further values at both ends.
    """
    fine, coarse = band.shape
    if band.wraps and fine % 2:
        return None
    m = np.arange(fine) // 2
    halves = [
        (
            band.nodes[q::2] - beyond - m[q::2, None],
            np.broadcast_to(m[q::2, None], band.weights[q::2].shape),
            band.weights[q::2],
        )
        for q in (0, 1)
    ]
    return _laid_out(halves, (fine + 1) // 2, coarse, band.wraps)


def _gathered_by_parity(band: Band) -> Parities | None:
    """Return a (coarse, fine) matrix as bands in the even and in the odd fine points: coarse point m has weights[t, m] at the
    fine points 2 (m + shift + t) + q; otherwise as `_by_parity`.
    """
    coarse, fine = band.shape
    if band.wraps and fine % 2:
        return None
    nodes, m = band.nodes, np.broadcast_to(np.arange(coarse)[:, None], band.weights.shape)
    halves = []
    for q in (0, 1):
        chosen = nodes % 2 == q
        halves.append(((nodes // 2 - m)[chosen], m[chosen], band.weights[chosen]))
    return _laid_out(halves, coarse, coarse, band.wraps)


def _laid_out(
    halves: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]], count: int, coarse: int, wraps: bool
) -> Parities | None:
    """Return (distance, m, weight) of either parity as bands of `count` columns m, and their sizes; None where that fails."""
    if coarse < (BEYOND if wraps else 2):
        return None
    length = _whole_vectors(count, np.dtype(np.float32))
    sizes: list[int] = []
    bands = []
    for distance, m, weight in halves:
        kept = weight != 0.0
        distance, m, weight = distance[kept], m[kept], weight[kept]
        shift, last = (int(distance.min()), int(distance.max())) if len(distance) else (0, 0)
        terms = last - shift + 1
        if max(-shift, last) > BEYOND or terms > MOST_TERMS:
            return None
        band = np.bincount((distance - shift) * length + m, weight, terms * length)
        bands.append(band.astype(np.float64, copy=False))  # of no weights at all, bincount returns integers
        sizes += [shift, terms]
    return np.array([*sizes, length], np.int64), bands[0], bands[1]


def _whole_vectors(count: int, dtype: np.dtype) -> int:
    """Return the count of numbers rounded up to whole vectors."""
    lanes = vectors.BYTES // dtype.itemsize
    return -(-count // lanes) * lanes


class Typed(NamedTuple):
    """Transfers and operator in one precision, as the waves want them, and an array of nothing."""

    prolongation: tuple[Any, ...]
    restriction: tuple[Any, ...]
    nested_prolongation: tuple[Any, ...]
    nested_restriction: tuple[Any, ...]
    operator: tuple[Any, ...]
    nothing: Array


class Legs(ABC):
    """The ways down and up through a level, each in one pass over memory."""

    turns: bool  # whether a way up and the next way down are one pass as well: those of `FusedLegs`

    def __init__(
        self,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        tables: Callable[[np.dtype], Tables],
        transfers: Transfers,
        nested: Callable[[], Transfers | None],
        periodic: tuple[bool, ...],
    ) -> None:
        """`shapes` of this grid and the coarser, `periodic` along each axis; `nested` makes nested iteration's transfers."""
        self.fine, self.coarse = (_box(shape) for shape in shapes)
        self.shapes, self.unknowns = shapes, math.prod(shapes[0])
        self.transfers, self.width = transfers, int(transfers.restriction[0].shape[1])
        self.wraps, self.periodic, self.around = periodic, periodic[0], periodic[-1]
        self.axis = 1 if len(shapes[0]) == 2 else 0
        self._tables, self._make_nested = tables, nested
        self._typed: dict[np.dtype, Typed] = {}
        self._local = threading.local()  # memory for slabs, a set for each thread

    @abstractmethod
    def descend(self, f: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after the smoothing steps down, and the restricted residual; the u that comes in stays as it is."""

    @abstractmethod
    def descend_nested(self, f: Array, coarse: Array) -> tuple[Array, Array]:
        """Return what the smoothing steps down make of the next level's solution, interpolated; and the restricted residual."""

    @abstractmethod
    def ascend(self, f: Array, u: Array, correction: Array) -> Array:
        """Return u + P e after the smoothing steps up; the u that comes in may be written over."""

    @cached_property
    def _nested(self) -> Transfers | None:
        return self._make_nested()

    @property
    def nests(self) -> bool:
        """Whether nested iteration has fused transfers here."""
        return self._nested is not None

    def restrict_source(self, f: Array) -> Array:
        """Return a source on the next level, as nested iteration wants it."""
        assert self._nested is not None
        coarse, data = empty(self.shapes[1], f.dtype), writable(f).reshape(self.fine)
        target, restriction = coarse.reshape(self.coarse), self.of_type(f.dtype).nested_restriction
        starts, width = self._nested.starts, int(restriction[0].shape[1])

        def restrict(first: int, last: int) -> None:
            rings = self.rings((1, 1, width + 1), f.dtype)
            waves.restrict_source(target, data, restriction, starts, rings, int(self.around), first, last)

        team.over_slabs(restrict, self.coarse[0], f.size)
        return coarse

    def rings(self, places: tuple[int, ...], dtype: np.dtype, height: int | None = None) -> tuple[Any, ...]:
        """Return this thread's memory for slabs under way, a ring of so many places for each number; and for single rows.

        It is zero where rows end. Of a slab it holds `height` rows, or all.
        """
        made = self._local.__dict__.setdefault("rings", {})
        key = places, dtype, height
        rings: tuple[Any, ...] | None = made.get(key)
        if rings is None:
            length = self.row_bytes(dtype) // (2 * dtype.itemsize)
            slabs = [aligned_zeros((count, height or self.fine[1], 2, length), dtype) for count in places]
            scratch = aligned_zeros((8, max(length, max(places) + 2, rows.TERMS)), dtype)
            rings = made[key] = *slabs, scratch, np.zeros(2 * rows.TERMS, np.int64)
        return rings

    def row_bytes(self, dtype: np.dtype) -> int:
        """Return how much a row in a ring takes."""
        length = _whole_vectors((self.fine[2] + 1) // 2, dtype) + 2 * rows.MARGIN
        if length * dtype.itemsize % PAGE < ASSOCIATIVE:
            length += ASSOCIATIVE // dtype.itemsize
        return 2 * length * dtype.itemsize

    def of_type(self, dtype: np.dtype) -> Typed:
        """Return what the kernels need in the arrays' precision."""
        if dtype not in self._typed:
            plain, nested = self.transfers, self._nested or self.transfers
            transfers = plain.prolongation, plain.restriction, nested.prolongation, nested.restriction
            parts = [_in_precision(part, dtype) for part in transfers]
            operator, nothing = self._tables(dtype)[:2], NOTHING.astype(dtype)
            self._typed[dtype] = Typed(parts[0], parts[1], parts[2], parts[3], operator, nothing)
        return self._typed[dtype]


def _in_precision(tables: Any, dtype: np.dtype) -> Any:
    """Return arrays in nested tuples in a precision, indices as they are."""
    if isinstance(tables, tuple):
        return tuple(_in_precision(part, dtype) for part in tables)
    return tables if tables.dtype == np.int64 else tables.astype(dtype)


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Return zeros that begin on a cache line, as vectors would otherwise lie across two."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + rows.LINE, np.uint8)
    start = -memory.ctypes.data % rows.LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _box(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape as (slabs, rows, points of a row)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])
