"""Shared parts of the fused half-cycles: banded transfers, memory for slabs under way, the transfers of full multigrid."""

from __future__ import annotations

import itertools
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
from ..workspace import empty
from . import threads as team
from .compiled import rows, vectors, waves
from .compiled.arguments import (
    Axes,
    Bands,
    ConstantStencil,
    Prolongation,
    Restriction,
    Rings,
    Terms,
)
from .compiled.compiling import specialized
from .primitives import writable

Array = NDArray[np.floating]
MOST_TERMS = 6  # of a transfer's row, for points of one parity
BEYOND = 4  # ghost values kept beyond each end of a row
EXTRAPOLATED = 2  # of these, the ones that are extrapolated where a solution is interpolated
EMPTY = np.empty((0, 1, 1))
# Rows at a distance of a multiple of a page compete for the same places in the first cache: they are moved apart by 128 bytes.
PAGE, APART = 4096, 128


@final
@dataclass(frozen=True, eq=False)
class Transfers:
    """R and P in banded form: along a row, the even and the odd points of the fine grid each have a band of weights.

    restriction : (weights of the fine slabs, (indices, weights) across rows, band sizes, even band, odd band)
    prolongation : ((indices, weights) along slabs, (indices, weights) across rows, band sizes, even band, odd band)
    starts : the first fine slab of each coarse slab
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


class LevelTables(NamedTuple):
    """Transfers and stencil of a level in one precision, and an empty array of it."""

    prolongation: Prolongation
    restriction: Restriction
    nested_prolongation: Prolongation
    nested_restriction: Restriction
    stencil: ConstantStencil
    empty: Array


class HalfCycles(ABC):
    """The descent and the ascent of a level, each in one pass over memory."""

    turns: bool  # whether an ascent and the next descent are one pass as well

    def __init__(
        self,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        stencil: Callable[[np.dtype], ConstantStencil],
        transfers: Transfers,
        nested: Callable[[], Transfers | None],
        periodic: tuple[bool, ...],
    ) -> None:
        """`shapes` of this grid and the coarser; `periodic` for each axis; `nested` makes the transfers of full multigrid."""
        self.fine, self.coarse = (_box(shape) for shape in shapes)
        self.shapes, self.unknowns = shapes, math.prod(shapes[0])
        self.transfers, self.width = transfers, int(transfers.restriction[0].shape[1])
        self.periodic = periodic
        self.axes = Axes(1 if len(shapes[0]) == 2 else 0, periodic[0], periodic[-1])
        self._stencil, self._make_nested = stencil, nested
        self._tables: dict[np.dtype, LevelTables] = {}
        self._restrict: dict[np.dtype, Callable[..., None]] = {}
        self._local = threading.local()  # memory for slabs, one set per thread

    @abstractmethod
    def descend(self, b: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after pre-smoothing, and the restricted residual; the given u is not changed."""

    @abstractmethod
    def descend_nested(self, b: Array, coarse_u: Array) -> tuple[Array, Array]:
        """Interpolate the coarse solution; return it after pre-smoothing, and the restricted residual."""

    @abstractmethod
    def ascend(self, b: Array, u: Array, correction: Array) -> Array:
        """Return u + P e after post-smoothing; the given u may be overwritten."""

    @cached_property
    def _nested(self) -> Transfers | None:
        return self._make_nested()

    @property
    def nests(self) -> bool:
        """Whether full multigrid has fused transfers here."""
        return self._nested is not None

    def restrict_source(self, f: Array) -> Array:
        """Return the coarse source, for full multigrid."""
        assert self._nested is not None
        dtype = f.dtype
        coarse, data = empty(self.shapes[1], dtype), writable(f).reshape(self.fine)
        target, restriction = coarse.reshape(self.coarse), self.tables(dtype).nested_restriction
        places = 1, 1, int(restriction.weights.shape[1]) + 1
        fixed = self.axes.rows_periodic, 0, 1
        if dtype not in self._restrict:
            examples = target, data, restriction, self.rings(places, dtype), *fixed
            self._restrict[dtype] = specialized(waves.restrict_source, *examples)
        kernel = self._restrict[dtype]

        parts = team.slab_parts(self.coarse[0], f.size)
        if len(parts) == 1:
            kernel(target, data, restriction, self.rings(places, dtype), self.axes.rows_periodic, *parts[0])
            return coarse

        def restrict(first: int, last: int) -> None:
            kernel(target, data, restriction, self.rings(places, dtype), self.axes.rows_periodic, first, last)

        team.over_parts(restrict, parts)
        return coarse

    def rings(self, places: tuple[int, int, int], dtype: np.dtype, height: int | None = None) -> Rings:
        """Return this thread's memory for slabs of u, f and the residual, so many `places` of each; and for single rows.

        It holds `height` rows of a slab, or all. All half-cycles of a thread share the memory of slabs, which so stays cached.
        """
        made = self._local.__dict__.setdefault("rings", {})
        key = places, dtype, height
        rings: Rings | None = made.get(key)
        if rings is None:
            length = self.row_bytes(dtype) // (2 * dtype.itemsize)
            slabs = [(count, height or self.fine[1], 2, length) for count in places]
            scratch = aligned_zeros((8, max(length, max(places) + 2, rows.TERMS)), dtype)
            rings = made[key] = Rings(*shared(slabs, dtype), scratch, np.zeros(2 * rows.TERMS, np.int64))
        return rings

    def row_bytes(self, dtype: np.dtype) -> int:
        """Return the bytes of a row in a ring."""
        length = _whole_vectors((self.fine[2] + 1) // 2, dtype) + 2 * rows.MARGIN
        if length * dtype.itemsize % PAGE < APART:
            length += APART // dtype.itemsize
        return 2 * length * dtype.itemsize

    def tables(self, dtype: np.dtype) -> LevelTables:
        """Return transfers and stencil in a precision; made once."""
        if dtype not in self._tables:
            plain, nested = self.transfers, self._nested or self.transfers
            self._tables[dtype] = LevelTables(
                _prolongation(plain, dtype), _restriction(plain, dtype), _prolongation(nested, dtype),
                _restriction(nested, dtype), self._stencil(dtype), EMPTY.astype(dtype),
            )  # fmt: skip
        return self._tables[dtype]


def _prolongation(transfers: Transfers, dtype: np.dtype) -> Prolongation:
    along, across, *bands = transfers.prolongation
    return Prolongation(_terms(along, dtype), _terms(across, dtype), _banded(bands, dtype))


def _restriction(transfers: Transfers, dtype: np.dtype) -> Restriction:
    weights, across, *bands = transfers.restriction
    return Restriction(transfers.starts, weights.astype(dtype), _terms(across, dtype), _banded(bands, dtype))


def _terms(given: tuple[NDArray[np.int64], Array], dtype: np.dtype) -> Terms:
    indices, weights = given
    return Terms(indices, weights.astype(dtype))


def _banded(given: Sequence[Any], dtype: np.dtype) -> Bands:
    sizes, even, odd = given
    even_shift, even_terms, odd_shift, odd_terms, length = sizes.tolist()
    return Bands(even_shift, even_terms, odd_shift, odd_terms, length, even.astype(dtype), odd.astype(dtype))


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Return zeros that begin on a cache line; otherwise every vector would lie across two."""
    return _aligned_bytes(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def _aligned_bytes(size: int) -> NDArray[np.uint8]:
    memory = np.zeros(size + rows.LINE, np.uint8)
    start = -memory.ctypes.data % rows.LINE
    return memory[start : start + size]


def shared(shapes: Sequence[tuple[int, ...]], dtype: np.dtype) -> tuple[Array, Array, Array]:
    """Return three arrays of any content that begin on cache lines, in memory that this thread's calls share."""
    sizes = [-(-math.prod(shape) * dtype.itemsize // rows.LINE) * rows.LINE for shape in shapes]
    starts = [0, *itertools.accumulate(sizes)]
    memory: NDArray[np.uint8] | None = getattr(_memory, "bytes", None)
    if memory is None or len(memory) < starts[-1]:
        memory = _memory.bytes = _aligned_bytes(1 << (starts[-1] - 1).bit_length())
    first, second, third = (
        memory[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        for start, shape in zip(starts, shapes, strict=False)
    )
    return first, second, third


_memory = threading.local()


def _box(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape as (slabs, rows, points of a row)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])
