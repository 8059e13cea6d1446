"""The values beyond the sides of a grid: every homogeneous boundary condition is a reflection of the index, with a weight.

    Dirichlet, vertices     0                        (the boundary node itself)
    Dirichlet, cells        - u[first]               (odd reflection)
    Neumann, vertices         u[second]              (even reflection about the boundary node)
    Neumann, cells            u[first]               (even reflection)
    periodic                  u[last]                (the other end)

One function extends a grid array by such values, a NumPy array as well as a tensor, so that a stencil of the classical backend
and a padded convolution of the learned one mean the same at a boundary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any  # whatever can be sliced and joined: an ndarray, a tensor


class Reflection(NamedTuple):
    """The value beyond an end: `weight` times the value `inward` steps from that end; -1 is one step outward, the other end."""

    inward: int
    weight: float


Sides = tuple[tuple[Reflection, Reflection], ...]  # one (low, high) pair per axis
Depths = tuple[tuple[int, int], ...]  # how many values to add at the low and the high end of an axis, 0 or 1


def extended(array: Array, sides: Sides, depths: Depths, join: Callable[[list[Array], int], Array]) -> Array:
    """Return the array with values beyond its ends added, along its last len(sides) axes.

    Axis after axis, so that a corner is the reflection of a reflection. `join` is np.concatenate or torch.cat.
    """
    for axis, (pair, depth) in enumerate(zip(sides, depths, strict=True), start=array.ndim - len(sides)):
        parts = [_beyond(array, axis, pair[0], low=True)] if depth[0] else []
        parts.append(array)
        if depth[1]:
            parts.append(_beyond(array, axis, pair[1], low=False))
        if len(parts) > 1:
            array = join(parts, axis)
    return array


def _beyond(array: Array, axis: int, reflection: Reflection, low: bool) -> Array:
    n = array.shape[axis]
    if reflection.inward >= n:  # one vertex between a Dirichlet and a Neumann side: mirrored is the Dirichlet node
        reflection = Reflection(0, 0.0)
    at = reflection.inward % n if low else (n - 1 - reflection.inward) % n
    return reflection.weight * array[(slice(None),) * axis + (slice(at, at + 1),)]
