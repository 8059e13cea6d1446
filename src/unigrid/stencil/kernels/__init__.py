"""Kernels of the stencil backend, behind functions of arrays of any number of axes.

`cpu` holds the compiled loops, `threads` spreads them over cores, `reference` says in plain array arithmetic what they
compute and is the oracle of their tests. A new target is a new file beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import cpu
from .threads import over_parts, over_slabs, slab_parts
from .workspace import copy, empty

Array = NDArray[np.floating]
Weights = Sequence[NDArray[np.float64]]  # one array an axis


class Tables(NamedTuple):
    """What the kernels know of an operator: for each of three axes both ends' neighbors, and the numbers that go with them."""

    neighbors: NDArray[np.int64]  # (3, 2): the index that stands in for the missing neighbor at the low and the high end
    coefficients: Array  # (4, 5): 1/h^2; weight of the low and of the high stand-in; change of the diagonal there, twice.
    #                       Row 3 begins with the reaction c.
    seam: bool  # whether the first and the last slab hold neighboring points of one color


class SeparableTables(NamedTuple):
    """A tensor product of three sparse matrices, row by row."""

    indices: tuple[NDArray[np.int64], ...]  # each (width, rows)
    weights: tuple[Array, ...]


def writable(array: Array) -> Array:
    """Return the array where kernels can write into it, in the one memory layout they are compiled for; else a copy."""
    return array if array.flags.c_contiguous and array.flags.writeable else copy(array)


def _box(array: Array) -> Array:
    """View an array, or a copy of it in the kernels' memory layout, as a box of three axes."""
    array = writable(array)
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def _slabs(box: Array) -> int:
    return box.shape[0] if box.shape[0] > 1 else box.shape[1]


def apply(u: Array, tables: Tables) -> Array:
    """Return A u."""
    out, box = empty(u.shape, u.dtype), _box(u)
    over_slabs(lambda first, last: cpu.apply(_box(out), box, *tables[:2], first, last), _slabs(box), u.size)
    return out


def residual(f: Array, u: Array, tables: Tables) -> Array:
    """Return f - A u."""
    out, box, data = empty(u.shape, u.dtype), _box(u), _box(f)
    over_slabs(lambda first, last: cpu.residual(_box(out), data, box, *tables[:2], first, last), _slabs(box), u.size)
    return out


def residual_norm(f: Array, u: Array, tables: Tables) -> float:
    """Return the 2-norm of f - A u, summed in double precision."""
    box, data = _box(u), _box(f)
    sums = over_slabs(lambda first, last: cpu.residual_sum_of_squares(data, box, *tables[:2], first, last), _slabs(box), u.size)
    return math.sqrt(sum(sums))


def norm(u: Array) -> float:
    """Return the 2-norm, summed in double precision. Not BLAS: its threads would go on spinning on our workers' cores."""
    box = _box(u)
    return math.sqrt(sum(over_slabs(lambda first, last: cpu.sum_of_squares(box, first, last), _slabs(box), u.size)))


def norm_and_blocks(u: Array, blocks: tuple[int, ...]) -> tuple[float, NDArray[np.float64]]:
    """Return the 2-norm, and the sums of u over so many blocks along each axis: index i is in block i * blocks // n."""
    box, shape = _box(u), (1,) * (3 - u.ndim) + blocks

    def part(first: int, last: int) -> tuple[float, NDArray[np.float64]]:
        sums = np.zeros(shape)
        return cpu.sum_of_squares_and_blocks(box, sums, first, last), sums

    parts = over_slabs(part, _slabs(box), u.size)
    return math.sqrt(sum(total for total, _ in parts)), np.sum([sums for _, sums in parts], axis=0).reshape(blocks)


def convert(out: Array, u: Array) -> Array:
    """Copy u into `out`, which may be of another precision, and return that."""
    boxes = _box(out), _box(u)
    over_slabs(lambda first, last: cpu.convert(*boxes, first, last), _slabs(boxes[0]), u.size)
    return out


def restate(out: Array, f: Array, u: Array, tables: Tables) -> float:
    """Write f - A u into `out`, which may be of lower precision; return its norm in double precision."""
    boxes = _box(out), _box(u), _box(f)
    sums = over_slabs(lambda first, last: cpu.restate(*boxes, *tables[:2], first, last), _slabs(boxes[0]), u.size)
    return math.sqrt(sum(sums))


def correct(out: Array, f: Array, u: Array, correction: Array, fresh: bool, tables: Tables) -> float:
    """Add a correction to u, or write it there where u is `fresh`; then do as `restate`."""
    boxes = _box(out), _box(u), _box(correction), _box(f)
    parts = slab_parts(_slabs(boxes[0]), u.size)
    total = sum(over_parts(lambda first, last: cpu.correct(*boxes, fresh, *tables[:2], first, last), parts))
    for slab in {end for first, last in parts for end in (first, last - 1)}:  # next to them others were at work
        total += cpu.restate(boxes[0], boxes[1], boxes[3], *tables[:2], slab, slab + 1)
    return math.sqrt(total)


def weighted_sum(u: Array, weights: Weights) -> float:
    """Return the sum of w u, w the product of one weight an axis."""
    box, factors = _box(u), _three(weights)
    parts = over_slabs(lambda first, last: cpu.weighted_sum(box, *factors, first, last), _slabs(box), u.size)
    return float(sum(parts))


def weighted_inner(u: Array, v: Array, weights: Weights) -> float:
    """Return the sum of w u v, w the product of one weight an axis."""
    box, other, factors = _box(u), _box(v), _three(weights)
    parts = over_slabs(lambda first, last: cpu.weighted_inner(box, other, *factors, first, last), _slabs(box), u.size)
    return float(sum(parts))


def _three(weights: Weights) -> list[NDArray[np.float64]]:
    return [np.ones(1)] * (3 - len(weights)) + list(weights)


def semi_iterate(previous: Array, f: Array, u: Array, gain: float, weight: float, tables: Tables) -> Array:
    """Return weight (u + gain D^-1 (f - A u)) + (1 - weight) previous, written over `previous` where that is writable."""
    previous = writable(previous)
    out, box, data, scalar = _box(previous), _box(u), _box(f), u.dtype.type
    over_slabs(
        lambda first, last: cpu.semi_iterate(out, out, data, box, scalar(gain), scalar(weight), *tables[:2], first, last),
        _slabs(box),
        u.size,
    )
    return previous


def relax_color(u: Array, f: Array, omega: float, color: int, backward: bool, tables: Tables) -> None:
    """Relax the points of one color in place; u must be `writable`."""
    box, data, factor = _box(u), _box(f), u.dtype.type(omega)

    def relax(first: int, last: int) -> None:
        cpu.relax_color(box, data, factor, color, backward, *tables[:2], first, last)

    slabs = _slabs(box)
    if not tables.seam:
        over_slabs(relax, slabs, u.size)
    elif backward:
        relax(slabs - 1, slabs)
        over_slabs(relax, slabs - 1, u.size)
    else:
        over_slabs(relax, slabs - 1, u.size)
        relax(slabs - 1, slabs)


def relax_lexicographic(u: Array, f: Array, omega: float, backward: bool, tables: Tables) -> None:
    """Relax all points in place, one after the other, u being `writable`; on one core, as each needs the one before."""
    cpu.relax_lexicographic(_box(u), _box(f), u.dtype.type(omega), backward, *tables[:2])


def add_separable(out: Array, u: Array, tables: SeparableTables) -> Array:
    """Return out + (T0 x T1 x T2) u, written over `out` where that is writable."""
    out = writable(out)
    box, source = _box(out), _box(u)
    pairs = [table for pair in zip(tables.indices, tables.weights, strict=True) for table in pair]
    over_slabs(lambda first, last: cpu.add_separable(box, source, *pairs, first, last), _slabs(box), out.size)
    return out


def correlate(extended: Array, weights: Array, strides: tuple[int, ...]) -> Array:
    """Return the cross-correlation sum_j weights[j] extended[stride i + j], wherever all of it lies inside."""
    shape = tuple((n - width) // stride + 1 for n, width, stride in zip(extended.shape, weights.shape, strides, strict=True))
    out = empty(shape, extended.dtype)
    box, source, factors = _box(out), _box(extended), _box(weights.astype(extended.dtype))
    steps = np.array((1,) * (3 - len(strides)) + tuple(strides))
    over_slabs(lambda first, last: cpu.correlate(box, source, factors, steps, first, last), _slabs(box), out.size)
    return out
