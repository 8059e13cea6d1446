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
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from . import threads as team
from . import waves, writable
from .legs import Legs
from .workspace import empty

Array = NDArray[np.floating]
Part = tuple[int, int, int, int, int, int]
Strip = tuple[int, int, int, int, int, int, int]
# What may be under way at once; the fewest rows that a strip goes on by. A turn at 255^3, one thread, a second cache of 1 MB,
# takes 13.1 ns an unknown in one strip (18 MB), 9.0 with 8 MB, 7.2 with 4, 7.7 with 2, 10.0 with 1.
STRIP_BYTES, STRIP_ROWS = 4 << 20, 16


class Sweeps(NamedTuple):
    """Red-black relaxation: a half-sweep for each of `omegas`, of alternating color, the first of `color`."""

    omegas: tuple[float, ...]
    color: int
    backward: bool

    def without_steps(self) -> Sweeps:
        """Return the same, to do nothing."""
        return self._replace(omegas=())


@final
@dataclass(frozen=True, eq=False)
class _Leg:
    """How a wave begins, and its stages: omegas of half-sweeps, how a norm is found after them, and half-sweeps again."""

    start: int
    before: tuple[float, ...]
    norm: int = waves.NO_NORM
    after: tuple[float, ...] = ()


class Ready(NamedTuple):
    """What a leg hands to its waves in one precision, besides arrays and parts."""

    fixed: tuple[Any, ...]
    last: int
    places: tuple[int, int, int]
    rows: int  # of a slab, that are under way at once
    strips: list[Strip]
    source_shape: tuple[int, int, int]
    nothing: Array


@final
class FusedLegs(Legs):
    """What a level needs to run its legs in waves."""

    def __init__(self, sweeps: tuple[Sweeps, Sweeps], *grids_and_transfers: Any) -> None:
        """`sweeps` down and up; the rest as of `Legs`."""
        super().__init__(*grids_and_transfers)
        self.down, self.up = sweeps
        up, down = self.up.omegas, self.down.omegas
        self.turns = len(up) > 0 and self.up[1:] == self.down[1:]  # then both are one wave: colors go on by turns
        self._from_zero, self._from_copy, self._from_interpolated, self._in_place = (
            _Leg(start, down) for start in (waves.ZERO, waves.COPY, waves.INTERPOLATED, waves.AS_IT_IS)
        )
        # Around an odd axis points of one color touch, and what one leaves is not what it has left when the other is done.
        touching = any(wraps and n % 2 for wraps, n in zip(self.wraps, self.shapes[0], strict=True))
        self._upward, self._measured, self._turning = (
            _Leg(waves.CORRECTED, up),
            _Leg(waves.CORRECTED, up, waves.BY_STAGE),
            _Leg(waves.CORRECTED, up, waves.BY_STAGE if touching else waves.BY_CHANGES, down),
        )
        self._ready: dict[tuple[_Leg, np.dtype], Ready] = {}
        self._made: dict[tuple[int, bool, int], tuple[list[Part], list[Part]]] = {}

    @property
    def fits(self) -> bool:
        """Whether a grid that is periodic along its slabs has room for the seam."""
        return not self.periodic or self.fine[0] >= self._room(len(self.down.omegas) + len(self.up.omegas) + 1)

    def descend(self, f: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after the smoothing steps down, and the restricted residual; the u that comes in stays as it is."""
        out, coarse = empty(self.shapes[0], f.dtype), empty(self.shapes[1], f.dtype)
        self._run(self._from_zero if u is None else self._from_copy, out, f, u, coarse)
        return out, coarse

    def descend_nested(self, f: Array, coarse: Array) -> tuple[Array, Array]:
        """Return what the smoothing steps down make of the next level's solution, interpolated; and the restricted residual."""
        assert self._nested is not None
        out, coarse_f = empty(self.shapes[0], f.dtype), empty(self.shapes[1], f.dtype)
        self._run(self._from_interpolated, out, f, coarse, coarse_f)
        return out, coarse_f

    def descend_in_place(self, f: Array, u: Array) -> Array:
        """Smooth u where it lies, and return the restricted residual."""
        coarse = empty(self.shapes[1], f.dtype)
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

    def turn(self, f: Array, u: Array, correction: Array) -> tuple[float, Array]:
        """Go up, measure, and go down again with u where it lies; return the norm in between, and the restricted residual."""
        coarse = empty(self.shapes[1], f.dtype)
        return math.sqrt(self._run(self._turning, u, f, correction, coarse)), coarse

    def alone(self, dtype: np.dtype) -> tuple[tuple[Ready, list[Part]], tuple[Ready, list[Part]]]:
        """Return the ways down from zero and up, and their parts, as a single thread does them."""
        down, up = (self._ready.get((leg, dtype)) or self._prepare(leg, dtype) for leg in (self._from_zero, self._upward))
        (down_legs, down_seams), (up_legs, up_seams) = self._cut(down.last, True, 1), self._cut(up.last, False, 1)
        return (down, down_legs + down_seams), (up, up_legs + up_seams)

    def _run(self, leg: _Leg, u: Array, f: Array, source: Array | None, coarse: Array | None) -> float:
        """Run a wave over the grid, cut into parts; return the sum of squares of the residual where it is wanted."""
        dtype = u.dtype
        ready = self._ready.get((leg, dtype)) or self._prepare(leg, dtype)
        from_source = ready.nothing if source is None else writable(source).reshape(ready.source_shape)
        target = ready.nothing if coarse is None else coarse.reshape(self.coarse)
        arrays = u.reshape(self.fine), writable(f).reshape(self.fine), from_source, target
        legs, seams = self._parts(ready.last, coarse is not None)
        if len(legs) == len(ready.strips) == 1 and not seams:
            rings = self.rings(ready.places, dtype, ready.rows)
            return float(waves.wave(*arrays, *ready.fixed, rings, legs[0], ready.strips[0]))

        def wave(*part: int) -> float:
            rings = self.rings(ready.places, dtype, ready.rows)
            return sum(waves.wave(*arrays, *ready.fixed, rings, part, strip) for strip in ready.strips)

        return float(sum(team.over_parts(wave, legs)) + sum(team.over_parts(wave, seams)))

    def _prepare(self, leg: _Leg, dtype: np.dtype) -> Ready:
        """Gather what a leg hands to its waves, once: on small grids that would take longer than they do."""
        typed = self.of_type(dtype)
        sweeps = self.up if leg.start == waves.CORRECTED else self.down
        omegas, before, after = np.array(leg.before + leg.after, dtype), len(leg.before), len(leg.after)
        plan = (leg.start, sweeps.color, int(sweeps.backward), before, leg.norm, after, self.axis, int(self.periodic),
                int(self.around))  # fmt: skip
        prolongation = typed.nested_prolongation if leg.start == waves.INTERPOLATED else typed.prolongation
        fixed = omegas, plan, prolongation, typed.restriction, self.transfers.starts, *typed.operator
        last = before + int(leg.norm == waves.BY_STAGE) + after + 1
        shape = self.fine if leg.start == waves.COPY else self.coarse
        places = last + 3, last + 3, self.width + 2
        strips = self._strips(last, sum(places) * self.row_bytes(dtype))
        rows = max(strip[1] - strip[4] for strip in strips)
        self._ready[leg, dtype] = Ready(fixed, last, places, rows, strips, shape, typed.nothing)
        return self._ready[leg, dtype]

    def _strips(self, last: int, bytes_of_a_row: int) -> list[Strip]:
        """Return the strips that rows are cut into, each as `waves.wave` wants it: one, unless slabs have too many of them."""
        rows, coarse_rows = self.fine[1], self.coarse[1]
        indices, weights = self.transfers.restriction[1]
        ends = np.where(weights != 0, indices, -1).max(axis=1)
        span = int((ends - np.where(weights != 0, indices, rows).min(axis=1)).max()) + 1
        margin = last + span
        count = (
            1 if self.axis == 1 or self.wraps[1] else max(1, rows // max(STRIP_BYTES // bytes_of_a_row - margin, STRIP_ROWS))
        )
        strips, done = [], 0
        for low, high in team.even_parts(rows, count):
            low_slope, high_slope = int(low > 0), int(high < rows)
            until = int(np.searchsorted(ends, high - last * high_slope)) if high_slope else coarse_rows
            strips.append((low, high, low_slope, high_slope, max(low - margin, 0) if low_slope else 0, done, until))
            done = until
        return strips

    def _room(self, last: int) -> int:
        """Return how many slabs a part must have for the wedges at both of its ends, and what reaches beyond them."""
        return 2 * (last + self.width + 4)

    def _parts(self, last: int, restricts: bool) -> tuple[list[Part], list[Part]]:
        """Return the parts of the grid and the seams between them, each as `waves.wave` wants it; made once."""
        key = last, restricts, team.threads_for(self.unknowns)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._cut(*key)
        return made

    def _cut(self, last: int, restricts: bool, threads: int) -> tuple[list[Part], list[Part]]:
        slabs, coarse = self.fine[0], self.coarse[0] if restricts else 0
        ranges = team.even_parts(slabs, max(1, min(threads, slabs // self._room(last))))
        starts, legs = self.transfers.starts, []
        for low, high in ranges:
            open_low, open_high = int(low > 0 or self.periodic), int(high < slabs or self.periodic)
            first = int(np.searchsorted(starts, low + last)) if open_low else 0
            beyond = int(np.searchsorted(starts, high - last - self.width, side="right")) if open_high else coarse
            legs.append((low, high, open_low, open_high, *((first, beyond) if restricts else (0, 0))))
        seams = []
        for leg, following in zip(legs, [*legs[1:], *legs[:1]], strict=True):
            if leg is legs[-1] and not self.periodic:
                break
            around = coarse if leg is legs[-1] else 0  # across the end, coarse slabs are counted on
            seams.append((leg[1], leg[1], -1, -1, leg[5], following[4] + around))
        return legs, seams
