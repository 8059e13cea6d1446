"""The legs of the cycle with red-black relaxation, each in one pass over memory instead of one an operator.

A leg is a wave of stages (`waves.wave`), each one slab (a row in 2-D, a plane in 3-D) behind the one before, so that a slab is
loaded once for all of them. On several cores the grid is cut into parts. A part leaves out, at a cut, one slab more with every
stage, as those need what the neighbor has not done yet; the wedges left open are closed afterwards. A periodic axis is cut
where it begins. Every point is relaxed with the values that it would see pass by pass: the composed slots stay the definition.

Source: D. Orozco, G. Gao, Mapping the FDTD application to many-core chip architectures, ICPP 2009 (split tiling); C. Weiss,
W. Karl, M. Kowarschik, U. Ruede, Memory characteristics of iterative methods, SC 1999 (fused red-black sweeps).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from . import SeparableTables, Tables, rows, vectors, waves, writable
from . import threads as team
from .workspace import empty

Array = NDArray[np.floating]
MOST_TERMS, BEYOND = 4, 4  # of a transfer, for points of one parity; so many values beyond either end are kept
EXTRAPOLATED = 2  # of them, for a solution that is interpolated
Part = tuple[int, int, int, int, int, int]
NOTHING = np.empty((0, 1, 1))
# Rows whose distance is a multiple of a page share their places in the first cache: they are moved apart by so many bytes.
PAGE, ASSOCIATIVE = 4096, 128


class Sweeps(NamedTuple):
    """Red-black relaxation: `half_sweeps` of alternating color, the first of `color`."""

    half_sweeps: int
    color: int
    backward: bool
    omega: float


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
    def of(
        restriction: Sequence[sparse.csr_array],
        prolongation: Sequence[sparse.csr_array],
        restriction_tables: SeparableTables,
        prolongation_tables: SeparableTables,
        periodic: tuple[bool, bool],
        extended: sparse.csr_array | None,
    ) -> Transfers | None:
        """Return them from the matrices of all axes, slabs first; None where a row of them has no such bands.

        The tables are the same transfers, row by row; `periodic` says so of the slabs and of the rows; `extended`, if any,
        stands for P along a row, from a row with EXTRAPOLATED values more at both ends.
        """
        along_row = _by_parity(prolongation[-1], periodic[1]) if extended is None else _by_parity(extended, False, EXTRAPOLATED)
        columns = _by_parity(restriction[-1].T.tocsr(), periodic[1], transposed=True)
        if along_row is None or columns is None:
            return None
        starts, weights = _bands(restriction[0], periodic[0])
        along, cross, _ = _slab_tables(prolongation_tables, len(prolongation))
        _, coarse_cross, _ = _slab_tables(restriction_tables, len(restriction))
        return Transfers((weights, coarse_cross, *columns), (along, cross, *along_row), starts)


def _slab_tables(tables: SeparableTables, ndim: int) -> list[tuple[NDArray[np.int64], Array]]:
    """Return indices and weights, (length, width), of the axis of slabs, of the rows in a slab, and along a row."""
    pairs = [
        (np.ascontiguousarray(indices.T), np.ascontiguousarray(weights.T))
        for indices, weights in zip(tables.indices, tables.weights, strict=True)
    ]
    return [pairs[1], pairs[0], pairs[2]] if ndim == 2 else pairs


def _bands(matrix: sparse.csr_array, periodic: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return where each row begins, and its weights from there on; rows across the end of a periodic axis go on beyond it."""
    rows, columns = matrix.shape
    row, column = matrix.tocoo().coords
    if periodic:
        center = row * columns // rows
        column = center + (column - center + columns // 2) % columns - columns // 2
    starts = np.full(rows, columns, dtype=np.int64)
    np.minimum.at(starts, row, column)
    width = int((column - starts[row]).max()) + 1
    if not periodic:
        starts = np.minimum(starts, max(columns - width, 0))
    weights = np.zeros((rows, width))
    weights[row, column - starts[row]] = matrix.tocoo().data
    return starts, weights


def _by_parity(
    matrix: sparse.csr_array, periodic: bool, beyond: int = 0, transposed: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return a (fine, coarse) matrix as bands of the even and of the odd fine points, in one row each.

    Fine point 2 m + q has weights[t, m] at the coarse points m + shift + t; transposed, coarse point m has weights[t, m]
    at the fine points 2 (m + shift + t) + q. First comes (shift and number of t for q = 0, the same for q = 1, length of a
    band, which ends in zeros). None where it takes more than a few t. A row of the coarse grid has `beyond` values more at
    both ends.
    """
    fine, coarse = matrix.shape
    entries = matrix.tocoo()
    k, c = entries.coords
    q, m = k % 2, k // 2
    distance = m - c if transposed else c - beyond - m
    if periodic:
        if fine % 2:
            return None
        distance = (distance + coarse // 2) % coarse - coarse // 2
    if len(distance) == 0 or coarse < (BEYOND if periodic else 2) or np.abs(distance).max() > BEYOND:
        return None
    length = _whole_vectors(coarse if transposed else (fine + 1) // 2, np.dtype(np.float32))
    sizes, bands = [], []
    for parity in (0, 1):
        chosen = q == parity
        shift = int(distance[chosen].min()) if chosen.any() else 0
        place = distance[chosen] - shift
        terms = int(place.max(initial=0)) + 1
        if terms > MOST_TERMS:
            return None
        weights = np.zeros((terms, length))
        np.add.at(weights, (place, (c if transposed else m)[chosen]), entries.data[chosen])
        sizes += [shift, terms]
        bands.append(weights.ravel())
    return np.array([*sizes, length], np.int64), bands[0], bands[1]


def _whole_vectors(count: int, dtype: np.dtype) -> int:
    """Return the count of numbers rounded up to whole vectors."""
    lanes = vectors.BYTES // dtype.itemsize
    return -(-count // lanes) * lanes


class _Typed(NamedTuple):
    """Transfers and operator in one precision, as the waves want them, and an array of nothing."""

    prolongation: tuple[Any, ...]
    restriction: tuple[Any, ...]
    nested_prolongation: tuple[Any, ...]
    nested_restriction: tuple[Any, ...]
    operator: tuple[Any, ...]
    nothing: Array


class _Leg(NamedTuple):
    """How a wave begins, and its stages: half-sweeps, how a norm is found after them, if at all, and half-sweeps again."""

    start: int
    before: int
    norm: int
    after: int


class _Ready(NamedTuple):
    """What a leg hands to its waves in one precision, besides arrays and parts."""

    fixed: tuple[Any, ...]
    last: int
    source_shape: tuple[int, int, int]
    nothing: Array


@final
class FusedLegs:
    """What a level needs to run its legs in waves."""

    def __init__(
        self,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        tables: Callable[[np.dtype], Tables],
        sweeps: tuple[Sweeps, Sweeps],
        transfers: Transfers,
        nested: Callable[[], Transfers | None],
        periodic: tuple[bool, ...],
    ) -> None:
        """`shapes` of this grid and the coarser, `sweeps` down and up, `periodic` along each axis.

        `nested` makes the transfers of nested iteration.
        """
        self.fine, self.coarse = (_box(shape) for shape in shapes)
        self._shapes, self._unknowns = shapes, math.prod(shapes[0])
        self._width = int(transfers.restriction[0].shape[1])
        self._tables, self._transfers, self._make_nested = tables, transfers, nested
        self.down, self.up = sweeps
        self._periodic, self._around = periodic[0], periodic[-1]
        before, after = self.up.half_sweeps, self.down.half_sweeps
        self._from_zero, self._from_copy, self._from_interpolated, self._in_place = (
            _Leg(start, after, 0, 0) for start in (waves.ZERO, waves.COPY, waves.INTERPOLATED, waves.AS_IT_IS)
        )
        # Around an odd axis points of one color touch, and what one leaves is not what it has left when the other is done.
        touching = any(wraps and n % 2 for wraps, n in zip(periodic, shapes[0], strict=True))
        self._upward, self._measured, self._turning = (
            _Leg(waves.CORRECTED, before, 0, 0),
            _Leg(waves.CORRECTED, before, waves.BY_STAGE, 0),
            _Leg(waves.CORRECTED, before, waves.BY_STAGE if touching else waves.BY_CHANGES, after),
        )
        self._ready: dict[tuple[_Leg, np.dtype], _Ready] = {}
        self._axis = 1 if len(shapes[0]) == 2 else 0
        self._typed: dict[np.dtype, _Typed] = {}
        self._local = threading.local()  # rings of slabs, a set for each thread
        self._made: dict[tuple[int, bool, int], tuple[list[Part], list[Part]]] = {}

    @property
    def fits(self) -> bool:
        """Whether a grid that is periodic along its slabs has room for the seam."""
        return not self._periodic or self.fine[0] >= self._room(self.down.half_sweeps + self.up.half_sweeps + 1)

    def descend(self, f: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after the smoothing steps down, and the restricted residual; the u that comes in stays as it is."""
        out, coarse = empty(self._shapes[0], f.dtype), empty(self._shapes[1], f.dtype)
        self._run(self._from_zero if u is None else self._from_copy, out, f, u, coarse)
        return out, coarse

    @cached_property
    def _nested(self) -> Transfers | None:
        return self._make_nested()

    @property
    def nests(self) -> bool:
        """Whether nested iteration has fused transfers here."""
        return self._nested is not None

    def descend_nested(self, f: Array, coarse: Array) -> tuple[Array, Array]:
        """Return what the smoothing steps down make of the next level's solution, interpolated; and the restricted residual."""
        assert self._nested is not None
        out, coarse_f = empty(self._shapes[0], f.dtype), empty(self._shapes[1], f.dtype)
        self._run(self._from_interpolated, out, f, coarse, coarse_f)
        return out, coarse_f

    def restrict_source(self, f: Array) -> Array:
        """Return a source on the next level, as nested iteration wants it."""
        assert self._nested is not None
        coarse, data = empty(self._shapes[1], f.dtype), writable(f).reshape(self.fine)
        target, restriction = coarse.reshape(self.coarse), self._of_type(f.dtype).nested_restriction
        starts, width = self._nested.starts, int(restriction[0].shape[1])

        def restrict(first: int, last: int) -> None:
            rings = self._rings(1, width, f.dtype)
            waves.restrict_source(target, data, restriction, starts, rings, int(self._around), first, last)

        team.over_slabs(restrict, self.coarse[0], f.size)
        return coarse

    def descend_in_place(self, f: Array, u: Array) -> Array:
        """Smooth u where it lies, and return the restricted residual."""
        coarse = empty(self._shapes[1], f.dtype)
        self._run(self._in_place, u, f, None, coarse)
        return coarse

    def ascend(self, f: Array, u: Array, correction: Array) -> Array:
        """Return u + P e after the smoothing steps up, written over u where that is writable."""
        u = writable(u)
        self._run(self._upward, u, f, correction, None)
        return u

    def ascend_measured(self, f: Array, u: Array, correction: Array) -> float:
        """Do the same with u where it lies; return the norm of the residual that is left."""
        return math.sqrt(self._run(self._measured, u, f, correction, None))

    @property
    def turns(self) -> bool:
        """Whether a way up and the next way down are one wave: they relax alike."""
        return self.up.half_sweeps > 0 and self.up[1:] == self.down[1:]

    def turn(self, f: Array, u: Array, correction: Array) -> tuple[float, Array]:
        """Go up, measure, and go down again with u where it lies; return the norm in between, and the restricted residual."""
        coarse = empty(self._shapes[1], f.dtype)
        return math.sqrt(self._run(self._turning, u, f, correction, coarse)), coarse

    def _run(self, leg: _Leg, u: Array, f: Array, source: Array | None, coarse: Array | None) -> float:
        """Run a wave over the grid, cut into parts; return the sum of squares of the residual where it is wanted."""
        dtype = u.dtype
        ready = self._ready.get((leg, dtype)) or self._prepare(leg, dtype)
        from_source = ready.nothing if source is None else writable(source).reshape(ready.source_shape)
        target = ready.nothing if coarse is None else coarse.reshape(self.coarse)
        arrays = u.reshape(self.fine), writable(f).reshape(self.fine), from_source, target
        rings = self._rings(ready.last, self._width, dtype)
        legs, seams = self._parts(ready.last, coarse is not None)
        if len(legs) == 1 and not seams:
            return waves.wave(*arrays, *ready.fixed, rings, legs[0])  # type: ignore[no-any-return]

        def wave(*part: int) -> float:
            return waves.wave(*arrays, *ready.fixed, self._rings(ready.last, self._width, dtype), part)

        return float(sum(team.over_parts(wave, legs)) + sum(team.over_parts(wave, seams)))

    def _prepare(self, leg: _Leg, dtype: np.dtype) -> _Ready:
        """Gather what a leg hands to its waves, once: on small grids that would take longer than they do."""
        typed = self._of_type(dtype)
        sweeps = self.up if leg.start == waves.CORRECTED else self.down
        plan = (leg.start, sweeps.color, int(sweeps.backward), leg.before, leg.norm, leg.after, self._axis, int(self._periodic),
                int(self._around))  # fmt: skip
        prolongation = typed.nested_prolongation if leg.start == waves.INTERPOLATED else typed.prolongation
        omega, starts = dtype.type(sweeps.omega), self._transfers.starts
        fixed = omega, plan, prolongation, typed.restriction, starts, *typed.operator
        last = leg.before + int(leg.norm == waves.BY_STAGE) + leg.after + 1
        shape = self.fine if leg.start == waves.COPY else self.coarse
        self._ready[leg, dtype] = _Ready(fixed, last, shape, typed.nothing)
        return self._ready[leg, dtype]

    def _rings(self, last: int, width: int, dtype: np.dtype) -> tuple[Any, ...]:
        """Return this thread's memory for the slabs under way, zero where rows end: of u, of f, of residuals; and for rows.

        The residuals have one place more, for a norm.
        """
        made = self._local.__dict__.setdefault("rings", {})
        if (last, width, dtype) not in made:
            length = _whole_vectors((self.fine[2] + 1) // 2, dtype) + 2 * rows.MARGIN
            if length * dtype.itemsize % PAGE < ASSOCIATIVE:
                length += ASSOCIATIVE // dtype.itemsize
            places = last + 3, last + 3, width + 2
            slabs = [_zeros((count, self.fine[1], 2, length), dtype) for count in places]
            scratch = _zeros((8, max(length, last + 2, rows.TERMS)), dtype)
            made[last, width, dtype] = *slabs, scratch, np.zeros(2 * rows.TERMS, np.int64)
        rings: tuple[Any, ...] = made[last, width, dtype]
        return rings

    def _room(self, last: int) -> int:
        """Return how many slabs a part must have for the wedges at both of its ends, and what reaches beyond them."""
        return 2 * (last + self._width + 4)

    def _parts(self, last: int, restricts: bool) -> tuple[list[Part], list[Part]]:
        """Return the parts of the grid and the seams between them, each as `waves.wave` wants it; made once."""
        threads = team.get_num_threads() if self._unknowns >= team.PARALLEL_FROM else 1
        key = last, restricts, threads
        if key not in self._made:
            self._made[key] = self._cut(last, restricts, threads)
        return self._made[key]

    def _cut(self, last: int, restricts: bool, threads: int) -> tuple[list[Part], list[Part]]:
        slabs, coarse = self.fine[0], self.coarse[0] if restricts else 0
        ranges = team.even_parts(slabs, max(1, min(threads, slabs // self._room(last))))
        starts, legs = self._transfers.starts, []
        for low, high in ranges:
            open_low, open_high = int(low > 0 or self._periodic), int(high < slabs or self._periodic)
            first = int(np.searchsorted(starts, low + last)) if open_low else 0
            beyond = int(np.searchsorted(starts, high - last - self._width, side="right")) if open_high else coarse
            legs.append((low, high, open_low, open_high, *((first, beyond) if restricts else (0, 0))))
        seams = []
        for leg, following in zip(legs, [*legs[1:], *legs[:1]], strict=True):
            if leg is legs[-1] and not self._periodic:
                break
            around = coarse if leg is legs[-1] else 0  # across the end, coarse slabs are counted on
            seams.append((leg[1], leg[1], -1, -1, leg[5], following[4] + around))
        return legs, seams

    def _of_type(self, dtype: np.dtype) -> _Typed:
        """Return what the waves need in the arrays' precision."""
        if dtype not in self._typed:
            plain, nested = self._transfers, self._nested or self._transfers
            transfers = plain.prolongation, plain.restriction, nested.prolongation, nested.restriction
            parts = [_in_precision(part, dtype) for part in transfers]
            operator, nothing = self._tables(dtype)[:2], NOTHING.astype(dtype)
            self._typed[dtype] = _Typed(parts[0], parts[1], parts[2], parts[3], operator, nothing)
        return self._typed[dtype]


def _in_precision(tables: Any, dtype: np.dtype) -> Any:
    """Return arrays in nested tuples in a precision, indices as they are."""
    if isinstance(tables, tuple):
        return tuple(_in_precision(part, dtype) for part in tables)
    return tables if tables.dtype == np.int64 else tables.astype(dtype)


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Return zeros that begin on a cache line, as vectors would otherwise lie across two."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + rows.LINE, np.uint8)
    start = -memory.ctypes.data % rows.LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _box(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape as (slabs, rows, points of a row)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])
