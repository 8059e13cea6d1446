"""The primitives of the stencil backend on NumPy arrays of any number of axes, in compiled loops spread over threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..workspace import copy, empty, zeros
from .compiled import couplings, loops
from .compiled.arguments import ConstantStencil, SeparableTables, SymmetricStencil
from .threads import over_parts, over_slabs, slab_parts

Array = NDArray[np.floating]
Weights = Sequence[NDArray[np.float64]]  # one array per axis


def writable(array: Array) -> Array:
    """Return the array where it is writable and C-contiguous, the layout that kernels are compiled for; else a copy."""
    return array if array.flags.c_contiguous and array.flags.writeable else copy(array)


def zeros_like(array: Array) -> Array:
    """Return zeros of its shape and precision."""
    return zeros(array.shape, array.dtype)


def limits(array: Array) -> np.finfo[Any]:
    """Return the limits of its precision."""
    return np.finfo(array.dtype)


def as_box(array: Array) -> Array:
    """Return a view of the array, or of a copy in the kernels' memory layout, as a box of three axes."""
    array = writable(array)
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def slab_count(box: Array) -> int:
    """Return the number of slabs: planes in 3-D, rows in 2-D."""
    return box.shape[0] if box.shape[0] > 1 else box.shape[1]


LOOPS = {ConstantStencil: loops, SymmetricStencil: couplings}  # the type of a stencil selects its kernels


def apply(u: Array, stencil: ConstantStencil | SymmetricStencil) -> Array:
    """Return A u."""
    out, box, own = empty(u.shape, u.dtype), as_box(u), LOOPS[type(stencil)]
    over_slabs(lambda first, last: own.apply(as_box(out), box, stencil, first, last), slab_count(box), u.size)
    return out


def residual(f: Array, u: Array, stencil: ConstantStencil | SymmetricStencil) -> Array:
    """Return f - A u."""
    out, box, data, own = empty(u.shape, u.dtype), as_box(u), as_box(f), LOOPS[type(stencil)]
    over_slabs(lambda first, last: own.residual(as_box(out), data, box, stencil, first, last), slab_count(box), u.size)
    return out


def residual_norm(f: Array, u: Array, stencil: ConstantStencil) -> float:
    """Return the 2-norm of f - A u, summed in double precision."""
    box, data = as_box(u), as_box(f)
    sums = over_slabs(
        lambda first, last: loops.residual_sum_of_squares(data, box, stencil, first, last), slab_count(box), u.size
    )
    return math.sqrt(sum(sums))


def norm(u: Array) -> float:
    """Return the 2-norm, summed in double precision. Not by BLAS: its threads would keep spinning on the workers' cores."""
    box = as_box(u)
    return math.sqrt(sum(over_slabs(lambda first, last: loops.sum_of_squares(box, first, last), slab_count(box), u.size)))


def norm_and_blocks(u: Array, blocks: tuple[int, ...]) -> tuple[float, NDArray[np.float64]]:
    """Return the 2-norm, and the sums of u over so many blocks along each axis: index i is in block i * blocks // n."""
    box, shape = as_box(u), (1,) * (3 - u.ndim) + blocks

    def part(first: int, last: int) -> tuple[float, NDArray[np.float64]]:
        sums = np.zeros(shape)
        return loops.sum_of_squares_and_blocks(box, sums, first, last), sums

    parts = over_slabs(part, slab_count(box), u.size)
    return math.sqrt(sum(total for total, _ in parts)), np.sum([sums for _, sums in parts], axis=0).reshape(blocks)


def convert(out: Array, u: Array) -> Array:
    """Copy u into `out`, which may be of another precision, and return that."""
    boxes = as_box(out), as_box(u)
    over_slabs(lambda first, last: loops.convert(*boxes, first, last), slab_count(boxes[0]), u.size)
    return out


def restate(out: Array, f: Array, u: Array, stencil: ConstantStencil) -> float:
    """Write f - A u into `out`, which may be of lower precision; return its norm in double precision."""
    boxes = as_box(out), as_box(u), as_box(f)
    sums = over_slabs(lambda first, last: loops.restate(*boxes, stencil, first, last), slab_count(boxes[0]), u.size)
    return math.sqrt(sum(sums))


def correct(out: Array, f: Array, u: Array, correction: Array, fresh: bool, stencil: ConstantStencil) -> float:
    """Add a correction to u, or copy it to u where that is `fresh`; then write f - A u into `out` and return its norm."""
    boxes = as_box(out), as_box(u), as_box(correction), as_box(f)
    parts = slab_parts(slab_count(boxes[0]), u.size)
    total = sum(over_parts(lambda first, last: loops.correct(*boxes, fresh, stencil, first, last), parts))
    for slab in {end for first, last in parts for end in (first, last - 1)}:  # their neighbors belonged to other threads
        total += loops.restate(boxes[0], boxes[1], boxes[3], stencil, slab, slab + 1)
    return math.sqrt(total)


def weighted_sum(u: Array, weights: Weights) -> float:
    """Return the sum of w u, w the product of one weight per axis."""
    box, factors = as_box(u), _three(weights)
    parts = over_slabs(lambda first, last: loops.weighted_sum(box, *factors, first, last), slab_count(box), u.size)
    return float(sum(parts))


def weighted_inner(u: Array, v: Array, weights: Weights) -> float:
    """Return the sum of w u v, w the product of one weight per axis."""
    box, other, factors = as_box(u), as_box(v), _three(weights)
    parts = over_slabs(lambda first, last: loops.weighted_inner(box, other, *factors, first, last), slab_count(box), u.size)
    return float(sum(parts))


def _three(weights: Weights) -> list[NDArray[np.float64]]:
    return [np.ones(1)] * (3 - len(weights)) + list(weights)


def semi_iterate(previous: Array, f: Array, u: Array, gain: float, weight: float, stencil: ConstantStencil) -> Array:
    """Return weight (u + gain D^-1 (f - A u)) + (1 - weight) previous, written over `previous` where that is writable."""
    previous = writable(previous)
    out, box, data, scalar = as_box(previous), as_box(u), as_box(f), u.dtype.type
    over_slabs(
        lambda first, last: loops.semi_iterate(out, out, data, box, scalar(gain), scalar(weight), stencil, first, last),
        slab_count(box),
        u.size,
    )
    return previous


def relax_color(u: Array, f: Array, omega: float, color: int, backward: bool, stencil: ConstantStencil) -> None:
    """Relax the points of one color in place; u must be `writable`."""
    box, data, factor = as_box(u), as_box(f), u.dtype.type(omega)

    def relax(first: int, last: int) -> None:
        loops.relax_color(box, data, factor, color, backward, stencil, first, last)

    slabs = slab_count(box)
    if not stencil.seam:
        over_slabs(relax, slabs, u.size)
    elif backward:
        relax(slabs - 1, slabs)
        over_slabs(relax, slabs - 1, u.size)
    else:
        over_slabs(relax, slabs - 1, u.size)
        relax(slabs - 1, slabs)


def relax_lexicographic(u: Array, f: Array, omega: float, backward: bool, stencil: ConstantStencil) -> None:
    """Relax all points in place, one after the other, on one core; u must be `writable`."""
    loops.relax_lexicographic(as_box(u), as_box(f), u.dtype.type(omega), backward, stencil)


def add_separable(out: Array, u: Array, tables: SeparableTables) -> Array:
    """Return out + (T0 x T1 x T2) u, written over `out` where that is writable."""
    out = writable(out)
    box, source = as_box(out), as_box(u)
    pairs = [table for pair in zip(tables.indices, tables.weights, strict=True) for table in pair]
    over_slabs(lambda first, last: loops.add_separable(box, source, *pairs, first, last), slab_count(box), out.size)
    return out


def correlate(extended: Array, weights: Array, strides: tuple[int, ...]) -> Array:
    """Return the cross-correlation sum_j weights[j] extended[stride i + j] for all i whose terms lie inside."""
    shape = tuple((n - width) // stride + 1 for n, width, stride in zip(extended.shape, weights.shape, strides, strict=True))
    out = empty(shape, extended.dtype)
    box, source, factors = as_box(out), as_box(extended), as_box(weights.astype(extended.dtype))
    steps = np.array((1,) * (3 - len(strides)) + tuple(strides))
    over_slabs(lambda first, last: loops.correlate(box, source, factors, steps, first, last), slab_count(box), out.size)
    return out
