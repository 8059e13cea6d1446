"""Fused half-cycles, and those with red-black relaxation, each in one pass over memory instead of one per operator.

A half-cycle is a wave of stages (`waves.wave`), each one slab (a row in 2-D, a plane in 3-D) behind the one before, so that a
slab is loaded once for all of them. On several cores the grid is cut into parts. At a cut, every stage of a part ends one slab
earlier than the stage before, as it needs slabs that the neighbor has not computed yet; the wedges left open, the seams, are
done afterwards. A periodic axis is also cut where it begins. Every point is relaxed with the values that it would have in
separate passes: the composed slots remain the definition.

Source: D. Orozco, G. Gao, Mapping the FDTD application to many-core chip architectures, ICPP 2009 (split tiling); C. Weiss,
W. Karl, M. Kowarschik, U. Ruede, Memory characteristics of iterative methods, SC 1999 (fused red-black sweeps).
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..bands import BandedProlongation, BandedRestriction, ByRows, Parities, Transfers
from ..workspace import aligned_zeros, empty, shared
from . import threads as team
from .compiled import rows, vectors, waves
from .compiled.arguments import Axes, Bands, ConstantStencil, Prolongation, Restriction, Rings, Slabs, Stages, Strip, Terms
from .compiled.compiling import specialized
from .primitives import writable

Array = NDArray[np.floating]
# Bytes under way at once; the fewest rows by which a strip advances. A turn at 255^3, one thread, a second cache of 1 MB, takes
# 13.1 ns per unknown in one strip (18 MB), 9.0 with 8 MB, 7.2 with 4, 7.7 with 2, 10.0 with 1.
STRIP_BYTES, STRIP_ROWS = 4 << 20, 16
# Rows at a distance of a multiple of a page compete for the same places in the first cache: they are moved apart by 128 bytes.
PAGE, APART = 4096, 128
EMPTY = np.empty((0, 1, 1))


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
        self.transfers, self.width = transfers, transfers.restriction.weights.shape[1]
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
        target, restriction, places = coarse.reshape(self.coarse), *self.nested_restriction(dtype)
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

    def nested_restriction(self, dtype: np.dtype) -> tuple[Restriction, tuple[int, int, int]]:
        """Return the restriction of full multigrid, and how many slabs of u, f and the residual it needs in memory."""
        restriction = self.tables(dtype).nested_restriction
        return restriction, (1, 1, int(restriction.weights.shape[1]) + 1)

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
            u, f, residual = shared(slabs, dtype)
            rings = made[key] = Rings(u, f, residual, scratch, np.zeros(2 * rows.TERMS, np.int64))
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
                _prolongation(plain.prolongation, dtype), _restriction(plain.restriction, dtype),
                _prolongation(nested.prolongation, dtype), _restriction(nested.restriction, dtype),
                self._stencil(dtype), EMPTY.astype(dtype),
            )  # fmt: skip
        return self._tables[dtype]


class Sweeps(NamedTuple):
    """Red-black relaxation: one half-sweep for each of `omegas`, of alternating color, beginning with `color`."""

    omegas: tuple[float, ...]
    color: int
    backward: bool

    def without_steps(self) -> Sweeps:
        """Return the same without half-sweeps."""
        return self._replace(omegas=())


@final
@dataclass(frozen=True, eq=False)
class Pass:
    """A wave: how it begins, the half-sweeps before the norm, how that is found, and the half-sweeps after it."""

    start: int
    before: tuple[float, ...]
    norm: int = waves.NO_NORM
    after: tuple[float, ...] = ()

    @property
    def last(self) -> int:
        """The number of the stage that takes the residual."""
        return len(self.before) + int(self.norm == waves.NORM_FROM_RESIDUAL) + len(self.after) + 1


class WaveArguments(NamedTuple):
    """A pass in one precision: its compiled wave, and all arguments of that but the arrays, the memory and the part."""

    wave: Callable[..., float]
    fixed: tuple[Stages, Axes, Prolongation, Restriction, ConstantStencil]
    places: tuple[int, int, int]
    rows: int  # of a slab, under way at once
    strips: list[Strip]
    source_shape: tuple[int, int, int]
    empty: Array


class Cuts(NamedTuple):
    """The parts of a grid that are done at once, and then the seams between them."""

    parts: list[Slabs]
    seams: list[Slabs]


class FusedSweeps(HalfCycles):
    """The half-cycles of a level with red-black relaxation."""

    counted = (-waves.FAR, waves.FAR)  # the slabs that count in norms

    def __init__(self, sweeps: tuple[Sweeps, Sweeps], *grids_and_transfers: Any) -> None:
        """`sweeps` of the descent and of the ascent; the rest as of `HalfCycles`."""
        super().__init__(*grids_and_transfers)
        self.down, self.up = sweeps
        up, down = self.up.omegas, self.down.omegas
        self.turns = len(up) > 0 and self.up[1:] == self.down[1:]  # then colors alternate through both
        self._from_zero, self._from_copy, self._from_interpolated = (
            Pass(start, down) for start in (waves.ZERO, waves.COPY, waves.INTERPOLATED)
        )
        # On a periodic axis of odd length points of one color are neighbors: what the watched stages see is not the residual.
        touching = any(wraps and n % 2 for wraps, n in zip(self.periodic, self.shapes[0], strict=True))
        norm = waves.NORM_FROM_RESIDUAL if touching else waves.NORM_FROM_UPDATES
        self._upward = Pass(waves.CORRECTED, up)
        self._measured = Pass(waves.CORRECTED, up, waves.NORM_FROM_RESIDUAL)
        self._turning = Pass(waves.CORRECTED, up, norm, down)
        self._arguments: dict[tuple[Pass, np.dtype], WaveArguments] = {}
        self._cuts: dict[tuple[int, bool, int], Cuts] = {}
        self.stacked: dict[Any, Callable[..., None]] = {}  # kernels for stacks of arrays, found once

    @property
    def fits(self) -> bool:
        """Whether a grid that is periodic along its slabs has room for the seam."""
        return not self.axes.periodic or self.fine[0] >= self._room(len(self.down.omegas) + len(self.up.omegas) + 1)

    def descend(self, b: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after pre-smoothing, and the restricted residual; the given u is not changed."""
        out, coarse_b = self._new(b.dtype), empty(self.shapes[1], b.dtype)
        self._run(self._from_zero if u is None else self._from_copy, out, b, u, coarse_b)
        return out, coarse_b

    def descend_nested(self, b: Array, coarse_u: Array) -> tuple[Array, Array]:
        """Interpolate the coarse solution; return it after pre-smoothing, and the restricted residual."""
        assert self.nests
        out, coarse_b = self._new(b.dtype), empty(self.shapes[1], b.dtype)
        self._run(self._from_interpolated, out, b, coarse_u, coarse_b)
        return out, coarse_b

    def _new(self, dtype: np.dtype) -> Array:
        """Return the memory of a new u."""
        return empty(self.shapes[0], dtype)

    def ascend(self, b: Array, u: Array, correction: Array) -> Array:
        """Return u + P e after post-smoothing, written over u where that is writable."""
        u = writable(u)
        self._run(self._upward, u, b, correction, None)
        return u

    def ascend_measured(self, b: Array, u: Array, correction: Array) -> float:
        """Do the same in place; return the norm of the residual."""
        return self._run(self._measured, u, b, correction, None)

    def turn(self, b: Array, u: Array, correction: Array, snapshot: Array | None = None) -> tuple[float, Array]:
        """Ascend and descend again in place; return the norm of the residual in between, and the restricted residual.

        The iterate in between is written to `snapshot`, an array like u, where one is given. Nothing else depends on it.
        """
        coarse_b = empty(self.shapes[1], b.dtype)
        return self._run(self._turning, u, b, correction, coarse_b, snapshot), coarse_b

    def _run(
        self, which: Pass, u: Array, b: Array, source: Array | None, coarse_b: Array | None, snapshot: Array | None = None
    ) -> float:
        """Run a wave over the grid, cut into parts; return the norm of the residual where it is wanted."""
        dtype = u.dtype
        own = self.arguments(which, dtype)
        kernel, fixed, strips = own.wave, own.fixed, own.strips
        arrays = (
            u.reshape(self.fine),
            writable(b).reshape(self.fine),
            own.empty if source is None else writable(source).reshape(own.source_shape),
            own.empty if coarse_b is None else coarse_b.reshape(self.coarse),
            own.empty if snapshot is None else snapshot.reshape(self.fine),
        )
        cuts = self.cuts(which.last, coarse_b is not None, team.threads_for(self.unknowns))
        if len(cuts.parts) == len(strips) == 1 and not cuts.seams:
            return math.sqrt(kernel(*arrays, *fixed, self.rings(own.places, dtype, own.rows), cuts.parts[0], strips[0]))

        def wave(part: Slabs) -> float:
            rings = self.rings(own.places, dtype, own.rows)
            return sum(kernel(*arrays, *fixed, rings, part, strip) for strip in strips)

        return math.sqrt(sum(team.over_each(wave, cuts.parts)) + sum(team.over_each(wave, cuts.seams)))

    def arguments(self, which: Pass, dtype: np.dtype) -> WaveArguments:
        """Return the arguments of a pass; made once."""
        return self._arguments.get((which, dtype)) or self._prepare(which, dtype)

    def _prepare(self, which: Pass, dtype: np.dtype) -> WaveArguments:
        """Gather the arguments of a pass, once: on small grids that would take longer than the pass."""
        tables, last = self.tables(dtype), which.last
        sweeps = self.up if which.start == waves.CORRECTED else self.down
        stages = Stages(
            which.start, sweeps.color, sweeps.backward, len(which.before), which.norm, len(which.after),
            np.array(which.before + which.after, dtype),
        )  # fmt: skip
        prolongation = tables.nested_prolongation if which.start == waves.INTERPOLATED else tables.prolongation
        fixed = stages, self.axes, prolongation, tables.restriction, tables.stencil
        places = last + 3, last + 3, self.width + 2
        strips = self._strips(last, sum(places) * self.row_bytes(dtype))
        rows = max(strip.high - strip.base for strip in strips)
        examples = *(tables.empty,) * 5, *fixed, self.rings(places, dtype, rows), Slabs(0, 0, 0, 0, 0, 0, 0, 0), strips[0]
        shape = self.fine if which.start == waves.COPY else self.coarse
        own = WaveArguments(specialized(waves.wave, *examples), fixed, places, rows, strips, shape, tables.empty)
        return self._arguments.setdefault((which, dtype), own)

    def _strips(self, last: int, bytes_of_a_row: int) -> list[Strip]:
        """Return the strips that rows are cut into: one, unless a slab has too many rows."""
        rows, coarse_rows = self.fine[1], self.coarse[1]
        indices, weights = self.transfers.restriction.across
        ends = np.where(weights != 0, indices, -1).max(axis=1)
        span = int((ends - np.where(weights != 0, indices, rows).min(axis=1)).max()) + 1
        margin = last + span
        cut = self.axes.slabs == 0 and not self.periodic[1]
        count = max(1, rows // max(STRIP_BYTES // bytes_of_a_row - margin, STRIP_ROWS)) if cut else 1
        strips, done = [], 0
        for low, high in team.even_parts(rows, count):
            low_slope, high_slope = int(low > 0), int(high < rows)
            until = int(np.searchsorted(ends, high - last * high_slope)) if high_slope else coarse_rows
            strips.append(Strip(low, high, low_slope, high_slope, max(low - margin, 0) if low_slope else 0, done, until))
            done = until
        return strips

    def _room(self, last: int) -> int:
        """Return how many slabs a part must have for the wedges at both of its ends, and for what they read beyond."""
        return 2 * (last + self.width + 4)

    def cuts(self, last: int, restricts: bool, threads: int) -> Cuts:
        """Return the parts of the grid and the seams between them; made once per number of threads."""
        key = last, restricts, threads
        cuts = self._cuts.get(key)
        if cuts is None:
            cuts = self._cuts[key] = self._cut(*key)
        return cuts

    def _cut(self, last: int, restricts: bool, threads: int) -> Cuts:
        slabs, coarse = self.fine[0], self.coarse[0] if restricts else 0
        ranges = team.even_parts(slabs, max(1, min(threads, slabs // self._room(last))))
        starts, parts = self.transfers.restriction.starts, []
        for low, high in ranges:
            open_low, open_high = int(low > 0 or self.axes.periodic), int(high < slabs or self.axes.periodic)
            first = int(np.searchsorted(starts, low + last)) if open_low else 0
            beyond = int(np.searchsorted(starts, high - last - self.width, side="right")) if open_high else coarse
            parts.append(Slabs(low, high, open_low, open_high, *((first, beyond) if restricts else (0, 0)), *self.counted))
        seams = []
        for part, following in zip(parts, [*parts[1:], *parts[:1]], strict=True):
            if part is parts[-1] and not self.axes.periodic:
                break
            around = coarse if part is parts[-1] else 0  # across the end, coarse slabs are counted on
            seams.append(Slabs(part.high, part.high, -1, -1, part.coarse_high, following.coarse_low + around, *self.counted))
        return Cuts(parts, seams)


def _prolongation(banded: BandedProlongation, dtype: np.dtype) -> Prolongation:
    return Prolongation(_terms(banded.slabs, dtype), _terms(banded.across, dtype), _bands(banded.along_row, dtype))


def _restriction(banded: BandedRestriction, dtype: np.dtype) -> Restriction:
    across, bands = _terms(banded.across, dtype), _bands(banded.along_row, dtype)
    return Restriction(banded.starts, banded.weights.astype(dtype), across, bands)


def _terms(matrix: ByRows, dtype: np.dtype) -> Terms:
    return Terms(matrix.indices, matrix.weights.astype(dtype))


def _bands(row: Parities, dtype: np.dtype) -> Bands:
    count = row.even.shape[1]
    length = _whole_vectors(count, dtype)
    even, odd = np.zeros((len(row.even), length), dtype), np.zeros((len(row.odd), length), dtype)
    even[:, :count], odd[:, :count] = row.even, row.odd
    return Bands(row.even_shift, len(even), row.odd_shift, len(odd), length, even.ravel(), odd.ravel())


def _whole_vectors(count: int, dtype: np.dtype) -> int:
    """Return the count of numbers rounded up to whole vectors."""
    lanes = vectors.BYTES // dtype.itemsize
    return -(-count // lanes) * lanes


def _box(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a shape as (slabs, rows, points of a row)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])
