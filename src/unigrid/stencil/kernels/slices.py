"""The primitives of the stencil backend on tensors of any device: slices, shifted and added up.

Only methods of tensors are called, and this file does not import torch: what is on a device stays there. Norms alone are
numbers of the host. All else is differentiable, and `torch.compile` takes it as one graph. Half-cycles fused for one kind
of device, `gpu`, equal compositions of these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Tensor = Any


class End(NamedTuple):
    """An end of an axis: what stands for the neighbor that is missing there.

    place : index of the last unknown
    inward : index of the unknown that its ghost is made of
    weight : of that unknown, times 1/h^2
    change : of the diagonal
    """

    place: int
    inward: int
    weight: float
    change: float


class Line(NamedTuple):
    """The second difference along one axis, counted from the last one: 1/h^2, and both ends."""

    axis: int
    scale: float
    ends: tuple[End, End]


class SliceStencil(NamedTuple):
    """-Laplace + c with one spacing per axis.

    middle : the diagonal away from the sides
    gain : 1 / diagonal, a number or a tensor
    stages : for each color the tensors of 1 / diagonal on points that are relaxed together, 0 elsewhere, in the order of a
        forward sweep; more than one only where neighbors share a color, as periodic axes of odd length make them
    """

    lines: tuple[Line, ...]
    middle: float
    gain: Any
    stages: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


class BandTable(NamedTuple):
    """A band along one axis, counted from the last: of each of its terms the columns, and the weights, shaped for that axis."""

    axis: int
    columns: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]


class GatheredStencil(NamedTuple):
    """The same operator as its neighbors along each axis, bands to be subtracted, and its diagonal, a number or a tensor.

    Compiled, a sweep of gathers is one pass over memory: at 1023^2, on one core, 4 half-sweeps take 18 ms, of slices 39 ms.
    Without compilation they take 101 ms and 64 ms.
    """

    neighbors: tuple[BandTable, ...]
    middle: Any
    gain: Any
    stages: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


Stencil = SliceStencil | GatheredStencil


def writable(array: Tensor) -> Tensor:
    """Return the array: tensors can be overwritten."""
    return array


def zeros_like(array: Tensor) -> Tensor:
    """Return zeros of its shape, precision and device."""
    return array.new_zeros(array.shape)


def limits(array: Tensor) -> np.finfo[Any]:
    """Return the limits of its precision."""
    return np.finfo(f"f{array.dtype.itemsize}")


def copy(array: Tensor) -> Tensor:
    """Return a copy."""
    return array.clone()


def apply(u: Tensor, stencil: Stencil) -> Tensor:
    """Return A u."""
    return _add_product(u * stencil.middle, u, stencil, 1.0)


def residual(b: Tensor, u: Tensor, stencil: Stencil) -> Tensor:
    """Return b - A u."""
    gathers = isinstance(stencil, GatheredStencil)
    return _add_product(b - u * stencil.middle if gathers else b.sub(u, alpha=stencil.middle), u, stencil, -1.0)


def _add_product(out: Tensor, u: Tensor, stencil: Stencil, sign: float) -> Tensor:
    """Add sign times what A u has besides the middle to `out`, and return that."""
    if isinstance(stencil, GatheredStencil):
        for table in stencil.neighbors:
            out = out - gathered(u, table) * sign
        return out
    for axis, scale, ends in stencil.lines:
        rest = u.shape[axis] - 1
        out.narrow(axis, 1, rest).sub_(u.narrow(axis, 0, rest), alpha=sign * scale)
        out.narrow(axis, 0, rest).sub_(u.narrow(axis, 1, rest), alpha=sign * scale)
        for place, inward, weight, change in ends:
            if change:
                out.select(axis, place).add_(u.select(axis, place), alpha=sign * change)
            if weight:
                out.select(axis, place).sub_(u.select(axis, inward), alpha=sign * weight)
    return out


def norm(u: Tensor) -> float:
    """Return the 2-norm, summed in double precision where the device has it: one synchronization."""
    return float((u if u.device.type == "mps" else u.double()).norm().item())


def inner(u: Tensor, v: Tensor) -> Tensor:
    """Return the inner product, summed in double precision where the device has it, as a tensor: it stays there."""
    u, v = (each if each.device.type == "mps" else each.double() for each in (u, v))
    return u.ravel().dot(v.ravel())


def residual_norm(b: Tensor, u: Tensor, stencil: Stencil) -> float:
    """Return the 2-norm of b - A u: one synchronization."""
    return norm(residual(b, u, stencil))


def semi_iterate(previous: Tensor, b: Tensor, u: Tensor, gain: float, weight: float, stencil: Stencil) -> Tensor:
    """Return weight (u + gain D^-1 (b - A u)) + (1 - weight) previous."""
    step = u + residual(b, u, stencil) * (stencil.gain * gain)
    return step if weight == 1.0 else step * weight + previous * (1.0 - weight)


def relax_color(u: Tensor, b: Tensor, omega: float, color: int, backward: bool, stencil: Stencil) -> None:
    """Relax the points of one color in place."""
    stages = stencil.stages[color]
    for gain in stages[::-1] if backward else stages:
        u.addcmul_(residual(b, u, stencil), gain, value=omega)


def gathered(u: Tensor, table: BandTable) -> Tensor:
    """Return the product of a band with u along its axis."""
    axis, columns, weights = table
    out = u.index_select(axis, columns[0]) * weights[0]
    for column, weight in zip(columns[1:], weights[1:], strict=True):
        out.addcmul_(u.index_select(axis, column), weight)
    return out
