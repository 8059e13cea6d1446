"""Boundary conditions, and the ghost value that each puts beyond the end of a grid.

A condition replaces the missing neighbor by `weight * u[stand-in] + gain * value`: an odd reflection (Dirichlet), an even
one (Neumann) or the other end (periodic). Inside the cycle every condition is homogeneous, so `weight` and the stand-in are
all that kernels, matrices and transfers need; `value` is folded into the right-hand side, once. A condition to come (Robin:
another weight and another gain) is one more class here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..messages import choose
from .arrays import finite_array

CENTERINGS = ("vertex", "cell")


class Ghost(NamedTuple):
    """The missing neighbor of the unknown at an end: weight * u[inward] + gain * value, `inward` steps from that end."""

    inward: int
    weight: float
    gain: float


@final
@dataclass(frozen=True, eq=False)
class Dirichlet:
    """u = value on this side. `value`: a number, or an array of the shape of f less this axis.

    Vertex centering: the boundary node holds the value and is no unknown. Cell centering: the side is half a spacing from
    the first unknown and the ghost is 2 value - u.
    """

    value: ArrayLike = 0.0

    def ghost(self, centering: str, h: float) -> Ghost:
        """Return the ghost value as an affine function of the unknown that it refers to."""
        return Ghost(0, 0.0, 1.0) if centering == "vertex" else Ghost(0, -1.0, 2.0)


@final
@dataclass(frozen=True, eq=False)
class Neumann:
    """du/dn = flux on this side, n the outward normal. `flux`: a number, or an array of the shape of f less this axis.

    Vertex centering: the boundary node is an unknown, its ghost is the mirrored node + 2 h flux. Cell centering: the ghost
    is u + h flux.
    """

    flux: ArrayLike = 0.0

    @property
    def value(self) -> ArrayLike:
        """The flux, under the name that all conditions share."""
        return self.flux

    def ghost(self, centering: str, h: float) -> Ghost:
        """Return the ghost value as an affine function of the unknown that it refers to."""
        return Ghost(1, 1.0, 2.0 * h) if centering == "vertex" else Ghost(0, 1.0, h)


@final
@dataclass(frozen=True, eq=False)
class Periodic:
    """The two sides of this axis are one."""

    @property
    def value(self) -> ArrayLike:
        """Zero: nothing is prescribed."""
        return 0.0

    def ghost(self, centering: str, h: float) -> Ghost:
        """Return the ghost value as an affine function of the unknown that it refers to."""
        return Ghost(-1, 1.0, 0.0)  # one step outward from one end is the other end


Condition = Dirichlet | Neumann | Periodic
NAMES: dict[str, type[Condition]] = {"dirichlet": Dirichlet, "neumann": Neumann, "periodic": Periodic}
_HOW = (
    f"{', '.join(map(repr, NAMES))}, unigrid.Dirichlet(value), unigrid.Neumann(flux) or unigrid.Periodic(), "
    "for all sides or one per axis, an axis' entry may be a (low, high) pair"
)


def parse_boundary(boundary: Any, ndim: int) -> tuple[tuple[Condition, Condition], ...]:
    """Return the (low, high) pair of conditions of every axis. Raises ValueError or TypeError, naming what is allowed."""
    if isinstance(boundary, str | Condition):
        return (_parse_axis(boundary, 0),) * ndim
    if not isinstance(boundary, Sequence):
        raise TypeError(f"boundary must be {_HOW}; got {boundary!r}")
    if len(boundary) != ndim:
        hint = "; a (low, high) pair for the only axis is written [(low, high)]" if ndim == 1 and len(boundary) == 2 else ""
        raise ValueError(f"boundary has {len(boundary)} entries for {ndim} ax{'i' if ndim == 1 else 'e'}s; give {_HOW}{hint}")
    return tuple(_parse_axis(entry, axis) for axis, entry in enumerate(boundary))


def _parse_axis(entry: Any, axis: int) -> tuple[Condition, Condition]:
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        if len(entry) != 2:
            raise ValueError(f"boundary of axis {axis} must be one entry or a (low, high) pair, got {len(entry)} entries")
        low, high = (_parse_side(side, axis) for side in entry)
    else:
        low = high = _parse_side(entry, axis)
    if isinstance(low, Periodic) != isinstance(high, Periodic):
        raise ValueError(f"boundary of axis {axis} is periodic on one side alone; 'periodic' stands for both sides")
    return low, high


def _parse_side(side: Any, axis: int) -> Condition:
    if isinstance(side, Condition):
        return side
    if isinstance(side, str):
        return NAMES[choose(side.lower(), NAMES, f"boundary of axis {axis}")]()
    raise TypeError(f"boundary of axis {axis} must be {_HOW}; got {side!r}")


def side_values(condition: Condition, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Return a condition's values as a float64 array: a scalar, or of `shape`. Raises ValueError or TypeError otherwise."""
    values = np.array(finite_array(condition.value, name), dtype=np.float64)  # a copy: the caller may change his own later
    if values.shape not in ((), shape):
        raise ValueError(f"{name} must be a number or an array of shape {shape} (f's less that axis), got {values.shape}")
    return values
