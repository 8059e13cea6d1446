"""Symmetric scaling by 1 / sqrt(a), on NumPy arrays of any number of axes, spread over threads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..workspace import empty
from .compiled import scalings as loops
from .compiled.scalings import INSULATED as INSULATED
from .compiled.scalings import NOTHING as NOTHING
from .compiled.scalings import WALL as WALL
from .primitives import as_box, slab_count
from .threads import over_slabs

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]


class Spread(NamedTuple):
    """How an operator, scaled, differs from -Laplace: see `compiled.scalings.spread`."""

    couplings: float
    lowest: float
    highest: float
    ratio: float

    @staticmethod
    def joined(parts: list[tuple[float, ...]]) -> Spread:
        """Return that of all parts of a grid."""
        couplings, lowest, highest, ratio = zip(*parts, strict=True)
        return Spread(max(couplings), min(lowest), max(highest), max(ratio))


class Terms(NamedTuple):
    """Of a grid of three axes: 1/h^2; the kind of each side; which axes are periodic; a potential that -Laplace is above."""

    squares: Numbers
    sides: NDArray[np.int64]
    wraps: NDArray[np.int64]
    barriers: tuple[Numbers, Numbers, Numbers]


def spread(
    faces: tuple[Numbers, ...], reaction: Numbers, terms: Terms, dtype: np.dtype, slabs: tuple[int, int]
) -> tuple[Array, Spread]:
    """Return 1 / sqrt(a) in a precision, and how the operator, scaled, differs from -Laplace, on some slabs of the grid."""
    ndim = len(faces)
    shape = (faces[0].shape[0] - 1, *faces[0].shape[1:])
    boxes = (np.zeros((1, 1, 1)),) * (3 - ndim) + tuple(map(as_box, faces))
    field = as_box(np.ascontiguousarray(reaction, np.float64).reshape(np.shape(reaction) or (1,) * ndim))
    root, weights = empty(shape, np.float64), empty(shape, dtype)
    box, out, (first, last) = as_box(root), as_box(weights), slabs
    size, beside = root.size * (last - first) // shape[0], (max(first - 1, 0), min(last + 1, shape[0]))
    over_slabs(
        lambda low, high: loops.roots(box, boxes, terms.squares, low + beside[0], high + beside[0]), beside[1] - beside[0], size
    )
    parts = over_slabs(
        lambda low, high: loops.spread(out, box, boxes, *terms[:3], field, terms.barriers, low + first, high + first),
        last - first, size,
    )  # fmt: skip
    return weights, Spread.joined(parts)


def weighted(u: Array, weights: Array) -> Array:
    """Return u times weights, in the precision of u."""
    out = empty(u.shape, u.dtype)
    boxes = as_box(out), as_box(u), as_box(weights)
    over_slabs(lambda first, last: loops.weigh(*boxes, first, last), slab_count(boxes[0]), u.size)
    return out
