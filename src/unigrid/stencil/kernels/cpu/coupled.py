"""Relaxation and transfers for symmetric stencils, on NumPy arrays of any number of axes, spread over threads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..workspace import empty
from .compiled import couplings as loops
from .compiled import faces as loops_of_faces
from .compiled import gradients, vectors
from .compiled import lines as loops_of_lines
from .compiled.arguments import CoupledTransfer, SymmetricStencil
from .primitives import as_box, norm, slab_count, writable
from .threads import over_slabs

Array = NDArray[np.floating]
NOTHING = np.empty((2, 0))  # of sums that are kept
__all__ = [
    "add_interpolated",
    "add_solved",
    "advance",
    "every_other",
    "harmonic_between",
    "norm",
    "probe",
    "relax_colors",
    "relax_lines",
    "rescale",
    "restrict",
    "scaled",
    "turn",
]


def relax_colors(u: Array, f: Array, omega: float, colors: int, stencil: SymmetricStencil, backward: bool = False) -> None:
    """Relax all points in place, color by color, or the last color first."""
    box, data, weight = as_box(u), as_box(f), u.dtype.type(omega)
    chosen = [color for color in range(colors) if colors == 2 or _occurs(color, box.shape)]
    for color in reversed(chosen) if backward else chosen:
        _relax(loops.relax_color, (box, data, weight, color, colors, stencil), slab_count(box), int(box.shape[0] == 1))


def relax_lines(u: Array, f: Array, axis: int, stencil: SymmetricStencil, backward: bool = False) -> None:
    """Relax all lines along an axis (of three) in place, every other one first, or last.

    In 3-D lines have four colors. Across a seam the last line is relaxed after all others of its color.
    """
    box, data = as_box(u), as_box(f)
    if axis == 0:
        for color in reversed(range(4)) if backward else range(4):
            _relax(loops.relax_deep_lines, (box, data, color, stencil), box.shape[1], 1)
        return
    across = 3 - axis
    straight = np.eye(3, dtype=np.int64)[axis]
    along = int(np.flatnonzero((stencil.offsets == straight).all(axis=1))[0]) if box.shape[axis] > 1 else -1
    couplings = stencil.couplings[along] if along >= 0 else np.zeros_like(stencil.excess)
    kinds = list(itertools.product(range(2 if box.shape[0] > 1 else 1), range(2)))
    for plane, parity in reversed(kinds) if backward else kinds:
        planes = every_other(box.shape[0], plane, stencil.seams[0])
        for chosen in itertools.product(planes, every_other(box.shape[across], parity, stencil.seams[across])):
            _relax_chosen(box, data, axis, couplings, stencil, (*chosen[0], *chosen[1]))


def every_other(n: int, parity: int, seam: int) -> list[tuple[int, int]]:
    """Return the ranges of every other index, with the last one apart where it is a neighbor of the first."""
    if seam and parity == 0:
        return [(0, n - 1), (n - 1, n)]
    return [(parity, n)] if parity < n else []


def _relax_chosen(
    u: Array, f: Array, axis: int, couplings: Array, stencil: SymmetricStencil, chosen: tuple[int, int, int, int]
) -> None:
    """Relax every other line of every other plane: planes chosen[0] to chosen[1], lines chosen[2] to chosen[3]."""
    r = empty(u.shape, u.dtype)
    over_slabs(
        lambda first, last: loops_of_lines.residual(r, f, u, stencil, axis, chosen, first, last),
        -(-(chosen[1] - chosen[0]) // 2) if u.shape[0] > 1 else u.shape[1], u.size,
    )  # fmt: skip
    add_solved(u, r, couplings, stencil.diagonal, axis, chosen)


def add_solved(u: Array, r: Array, couplings: Array, diagonal: Array, axis: int, chosen: tuple[int, int, int, int]) -> None:
    """Solve T e = r along lines, chosen as in `_relax_chosen`, and add e to u."""
    planes, lines = (-(-(stop - start) // 2) for start, stop in (chosen[:2], chosen[2:]))
    dtype, lanes = u.dtype, vectors.BYTES // u.dtype.itemsize

    def relax(first: int, last: int) -> None:
        work = empty((loops_of_lines.PARTS * u.shape[axis] * lanes,), dtype)
        loops_of_lines.relax(u, r, couplings, diagonal, axis, chosen, work, first, last)

    over_slabs(relax, planes * -(-lines // lanes), u.size)


def _relax(kernel: Callable[..., None], arguments: tuple[Any, ...], slabs: int, across: int) -> None:
    """Run a relaxation over slabs of the axis `across`; on one core where that has a seam. The last argument is the stencil."""
    if arguments[-1].seams[across]:
        kernel(*arguments, 0, slabs)
    else:
        over_slabs(lambda first, last: kernel(*arguments, first, last), slabs, arguments[0].size)


def _occurs(color: int, shape: tuple[int, ...]) -> bool:
    """Whether there are points of this color: an axis of one point has no odd ones."""
    return all(n > 1 or not (color >> bit) & 1 for bit, n in enumerate(reversed(shape)))


def restrict(r: Array, transfer: CoupledTransfer) -> Array:
    """Return P^T r, as a box of three axes."""
    box = as_box(r)
    out = np.empty(transfer.weights.shape[1:], r.dtype)
    over_slabs(lambda first, last: loops.restrict(out, box, transfer, first, last), slab_count(out), r.size)
    return out


def add_interpolated(u: Array, e: Array, transfer: CoupledTransfer) -> Array:
    """Return u + P e; u is overwritten where it is writable."""
    u = writable(u)
    box, correction = as_box(u), e.reshape(transfer.weights.shape[1:])
    over_slabs(lambda first, last: loops.interpolate(box, correction, transfer, first, last), slab_count(box), u.size)
    return u


def probe(z: Array, w: Array, stencil: SymmetricStencil) -> tuple[float, float]:
    """Return the sum of z w, and the 2-norm of D z, D the diagonal of A; z may be of another precision."""
    boxes = as_box(z), as_box(w)
    parts = over_slabs(lambda first, last: gradients.probe(*boxes, stencil, NOTHING, first, last), slab_count(boxes[0]), z.size)
    return float(sum(part[0] for part in parts)), math.sqrt(sum(part[1] for part in parts))


def turn(p: Array, w: Array, z: Array, r: Array, beta: float, stencil: SymmetricStencil) -> tuple[float, float]:
    """Write p <- z + beta p and w <- -A z + beta w; return the sums of p w and of p r. With beta 0, p and w may be anything."""
    boxes, factor = [as_box(each) for each in (p, w, z, r)], p.dtype.type(beta)
    parts = over_slabs(
        lambda first, last: gradients.turn(*boxes, factor, stencil, NOTHING, first, last), slab_count(boxes[0]), p.size
    )
    return float(sum(part[0] for part in parts)), float(sum(part[1] for part in parts))


def advance(u: Array, r: Array, p: Array, w: Array, step: float) -> float:
    """Write u <- u + step p and r <- r + step w; return the sum of squares of r."""
    boxes, factor = [as_box(each) for each in (u, r, p, w)], u.dtype.type(step)
    parts = over_slabs(
        lambda first, last: gradients.advance(*boxes, factor, NOTHING, first, last), slab_count(boxes[0]), u.size
    )
    return float(sum(parts))


def scaled(u: Array, scale: float, dtype: np.dtype) -> Array:
    """Return u times scale in a precision."""
    out = empty(u.shape, dtype)
    rescale(out, u, scale)
    return out


def rescale(out: Array, u: Array, scale: float) -> None:
    """Write u times scale, which need only be in the range of the wider precision."""
    boxes, factor = (as_box(out), as_box(u)), np.result_type(out, u).type(scale)
    over_slabs(lambda first, last: gradients.scaled(*boxes, factor, first, last), slab_count(boxes[0]), u.size)


def harmonic_between(a: Array) -> tuple[NDArray[np.float64], ...]:
    """Return arrays for face values, n + 1 along their axis, with the harmonic means of neighbors but for those at the ends."""
    shapes = [tuple(n + (each == axis) for each, n in enumerate(a.shape)) for axis in range(a.ndim)]
    faces = tuple(empty(shape, np.float64) for shape in shapes)
    boxes, box = (np.empty((1, 1, 1)),) * (3 - a.ndim) + tuple(map(as_box, faces)), as_box(a)
    over_slabs(lambda first, last: loops_of_faces.harmonic(boxes, box, first, last), slab_count(box), a.size)
    return faces
