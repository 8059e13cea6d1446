"""Relaxation and transfers for symmetric stencils, on NumPy arrays of any number of axes, spread over threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiled import couplings as loops
from .compiled.arguments import CoupledTransfer, SymmetricStencil
from .primitives import as_box, slab_count, writable
from .threads import over_slabs

Array = NDArray[np.floating]


def relax_colors(u: Array, f: Array, omega: float, colors: int, stencil: SymmetricStencil) -> None:
    """Relax all points in place, color by color."""
    box, data, weight = as_box(u), as_box(f), u.dtype.type(omega)
    chosen = [color for color in range(colors) if colors == 2 or _occurs(color, box.shape)]
    for color in chosen:
        _relax(loops.relax_color, (box, data, weight, color, colors, stencil), slab_count(box), int(box.shape[0] == 1))


def relax_lines(u: Array, f: Array, axis: int, stencil: SymmetricStencil) -> None:
    """Relax all lines along an axis (of three) in place, every other one first."""
    box, data = as_box(u), as_box(f)
    colors = 2 if box.shape[0] == 1 else 4
    for color in range(colors):
        slabs = slab_count(box) if axis == 2 else box.shape[1 - axis]
        across = 1 - axis if axis < 2 else int(box.shape[0] == 1)
        _relax(loops.relax_lines, (box, data, axis, color, colors, stencil), slabs, across)


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
