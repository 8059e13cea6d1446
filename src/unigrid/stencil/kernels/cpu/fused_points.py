"""Fused half-cycles for point relaxation with couplings of their own at every point, each in one pass over memory.

On several cores every part of the grid computes as many slabs beyond its own as there are stages, from the same data as its
neighbor does: there is nothing to wait for, and the numbers do not depend on the parts.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..workspace import aligned_zeros, empty, shared
from . import threads as team
from .compiled import coupled_waves as waves
from .compiled import rows
from .compiled.arguments import CoupledTransfer, PackedStencil, PackedTransfer, Portion, Rings, SymmetricStencil
from .compiled.compiling import specialized
from .primitives import writable

Array = NDArray[np.floating]
LANES = waves.BYTES // 4  # numbers of a vector in single precision: then rows are of one length in both
MOST_TERMS = 32  # places listed for a row: of 26 neighbors, or of 27 terms of P


@final
class FusedPoints:
    """Descent and ascent of a level with colored point relaxation, in either precision."""

    def __init__(self, stencil: SymmetricStencil, transfer: CoupledTransfer, omega: float, stages: int) -> None:
        self._stencil, self._transfer = stencil, transfer
        self._omega, self._stages = omega, stages
        box, coarse = stencil.excess.shape, transfer.weights.shape[1:]
        # Slabs are rows in 2-D; the arrays are the same, as the third axis has one point.
        self._order = (1, 0, 2) if box[0] == 1 else (0, 1, 2)
        self._shape, self._coarse_shape = (tuple(each[axis] for axis in self._order) for each in (box, coarse))
        self._box, self._coarse_box = box, coarse
        self._periodic = _wraps(stencil)[list(self._order)]
        self._made: dict[np.dtype, tuple[PackedStencil, PackedTransfer]] = {}
        self._held: tuple[PackedStencil, PackedTransfer] | None = None
        self._kernels: dict[np.dtype, Callable[..., None]] = {}
        self._local = threading.local()

    @staticmethod
    def serves(stencil: SymmetricStencil, transfer: CoupledTransfer) -> bool:
        """Whether rows are coarsened, and no two neighbors across a seam have one color."""
        return not stencil.seams.any() and (transfer.offsets[:, 2] != 0).any()

    def descend(self, b: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after pre-smoothing, and the restricted residual."""
        coarse = empty(self._coarse_box, b.dtype)
        return self._run(b, u, None, coarse), coarse

    def ascend(self, b: Array, u: Array, e: Array) -> Array:
        """Return u + P e after post-smoothing."""
        return self._run(b, u, e, None)

    def relaxed(self, b: Array, u: Array | None, sweeps: int) -> Array:
        """Return u after so many sweeps, of two stages each, as many as there are at most."""
        return self._run(b, u, None, None, 2 * sweeps)

    def restricted(self, f: Array) -> Array:
        """Return P^T f."""
        coarse = empty(self._coarse_box, f.dtype)
        self._run(f, None, None, coarse, 0)
        return coarse

    def interpolated(self, e: Array) -> Array:
        """Return P e."""
        out = empty(self._box, e.dtype)
        return self._run(out, None, e, None, 0)

    def hold(self, dtype: np.dtype) -> None:
        """Hold the coefficients in this precision alone, from now on, for arrays of either one."""
        self._held = self._pack(dtype)
        del self._stencil
        self._transfer = self._transfer._replace(weights=np.empty((0, 0, 0, 0)))

    def _run(self, b: Array, u: Array | None, e: Array | None, coarse: Array | None, stages: int | None = None) -> Array:
        dtype, out = b.dtype, empty(self._box, b.dtype)
        stages = self._stages if stages is None else stages
        level, transfer = self._held or self._made.get(dtype) or self._pack(dtype)
        nothing = np.empty((0, 1, 1), dtype)
        arrays = (
            out.reshape(self._shape),
            nothing if coarse is None else coarse.reshape(self._coarse_shape),
            writable(b).reshape(self._shape),
            nothing if u is None else writable(u).reshape(self._shape),
            nothing if e is None else writable(e).reshape(self._coarse_shape),
        )
        fixed = level, transfer, stages, dtype.type(self._omega)
        if dtype not in self._kernels:
            self._kernels[dtype] = specialized(waves.wave, *arrays, *fixed, self._rings(dtype), Portion(0, 0, 0, 0, 0, 0))
        kernel = self._kernels[dtype]
        reach = stages + (0 if coarse is None else 2)
        parts = [self._portion(*part, reach) for part in team.slab_parts(self._shape[0], b.size)]
        team.over_each(lambda part: kernel(*arrays, *fixed, self._rings(dtype), part), parts)
        return out

    def _portion(self, low: int, high: int, reach: int) -> Portion:
        first, last = low - reach, high + reach
        if not self._periodic[0]:
            first, last = max(first, 0), min(last, self._shape[0])
        start, step = self._slabs_start()
        coarse = [min(max(-(-(slab - start) // step), 0), self._coarse_shape[0]) for slab in (low, high)]
        return Portion(low, high, first, last, *coarse)

    def _slabs_start(self) -> tuple[int, int]:
        start, coarsened = _starts(self._transfer)[self._order[0]]
        return start, 2 if coarsened else 1

    def _rings(self, dtype: np.dtype) -> Rings:
        """Return this thread's memory for slabs under way."""
        rings: Rings | None = self._local.__dict__.get(dtype.name)
        if rings is None:
            places, rows_of_slab, length = self._stages + 3, self._shape[1], _whole(self._shape[2]) + 2 * rows.MARGIN
            slabs = [(count, rows_of_slab, 2, length) for count in (places, places, 4)]
            scratch = aligned_zeros((4, length + LANES), dtype)
            u, f, residual = shared(slabs, dtype)
            rings = Rings(u, f, residual, scratch, np.zeros((6, MOST_TERMS), np.int64))
            setattr(self._local, dtype.name, rings)
        return rings

    def _pack(self, dtype: np.dtype) -> tuple[PackedStencil, PackedTransfer]:
        """Bring stencil and transfer into the layout and the precision of the waves, once."""
        stencil, weights = self._stencil, self._transfer.weights
        ring = _whole(self._shape[2]) + 2 * rows.MARGIN
        length, coarse_length = (_whole(n) + rows.MARGIN for n in (self._shape[2], 2 * self._coarse_shape[2] + 1))
        lines, coarse_lines = self._shape[0] * self._shape[1], self._coarse_shape[0] * self._coarse_shape[1]
        row = (len(stencil.offsets) + 2) * 2 * length
        coefficients = _with_tail(lines * row, dtype)
        wraps, n = bool(self._periodic[2]), self._shape[2]
        team.over_slabs(
            lambda first, last: waves.pack_stencil(coefficients, length, stencil, wraps, np.empty(n, dtype), first, last),
            lines,
            stencil.excess.size,
        )
        packed = _with_tail(coarse_lines * len(weights) * coarse_length, dtype)
        team.over_slabs(
            lambda first, last: waves.pack_weights(packed, coarse_length, weights, wraps, first, last),
            coarse_lines, stencil.excess.size,
        )  # fmt: skip
        offsets = stencil.offsets[:, list(self._order)]
        terms = np.array([[_neighbor(*each, q, ring, length) for each in _both_ways(offsets)] for q in range(2)], np.int64)
        starts = [_starts(self._transfer)[axis] for axis in self._order]
        steps = self._transfer.offsets[:, list(self._order)]
        down, up = _down(steps, starts[2][0], ring), _up(steps, starts[2][0])
        two_colors = len(offsets) <= sum(n > 1 for n in self._shape)
        level = PackedStencil(terms.reshape(2, -1, 6), coefficients, length, two_colors, self._periodic)
        first, coarsened = np.array(starts, np.int64)[:2].T.copy()
        own = level, PackedTransfer(down, up, packed, coarse_length, first, coarsened)
        return self._made.setdefault(dtype, own)


def _wraps(stencil: SymmetricStencil) -> NDArray[np.int64]:
    """Return along which axes the last point is coupled to the first."""
    wraps = np.zeros(3, np.int64)
    for axis, n in enumerate(stencil.excess.shape):
        steps = zip(stencil.couplings, stencil.offsets[:, axis], strict=True)
        wraps[axis] = n > 1 and any(own.take(-1 if step > 0 else 0, axis).any() for own, step in steps if step)
    return wraps


def _starts(transfer: CoupledTransfer) -> list[tuple[int, int]]:
    """Return, for each axis, the fine index of the first coarse point, and whether the axis is coarsened."""
    return [(int(transfer.children[axis, 0, 1]), int(transfer.offsets[:, axis].any())) for axis in range(3)]


def _both_ways(offsets: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64], int]]:
    """Return the number of each coupling, and an offset that it belongs to with its sign."""
    return [(half, sign * offset, sign) for half, offset in enumerate(offsets) for sign in (1, -1)]


def _split(k: int) -> tuple[int, int]:
    """Return the parity and the place of point k of a row among those of its parity."""
    return k % 2, k // 2


def _neighbor(half: int, offset: NDArray[np.int64], sign: int, q: int, ring: int, length: int) -> list[int]:
    """Return a row of `PackedStencil.terms`: a coupling is stored at the point from which its offset is positive."""
    slab, row, step = (int(each) for each in offset)
    parity, shift = _split(q + step)
    block = (2 + half) * 2 * length
    if sign > 0:
        return [slab, row, parity * ring + shift, 0, 0, block + q * length]
    return [slab, row, parity * ring + shift, slab, row, block + parity * length + shift]


def _down(steps: NDArray[np.int64], start: int, ring: int) -> NDArray[np.int64]:
    places = [_split(start + int(step)) for step in steps[:, 2]]
    return np.array([[*each[:2], parity * ring + shift] for each, (parity, shift) in zip(steps, places, strict=True)], np.int64)


def _up(steps: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    up = np.zeros((2, len(steps), 4), np.int64)
    for q, (t, step) in itertools.product(range(2), enumerate(steps)):
        parity, shift = _split(q - start - int(step[2]))
        up[q, t] = *step[:2], shift, parity == 0
    return up


def _whole(n: int) -> int:
    """Return the numbers of half a row of n, up to a whole vector."""
    return -(-((n + 1) // 2) // LANES) * LANES


def _with_tail(size: int, dtype: np.dtype) -> Array:
    """Return memory of a size, behind which there are zeros: vectors run over the end of the last row."""
    array = empty((size + 2 * rows.MARGIN + LANES,), dtype)
    array[size:] = 0
    return array
