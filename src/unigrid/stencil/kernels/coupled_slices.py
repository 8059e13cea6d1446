"""Symmetric stencils with coefficients of their own at every point, and their transfers, on tensors of any device.

What `cpu.coupled` and `cpu.primitives` do for NumPy arrays, by slices of arrays that have one point more at either end of each
axis: zero beyond a side, where no coupling leads, the other end along a periodic axis. Every array is (n0, n1, n2); missing
leading axes have one point. As in `slices`, only methods of tensors are called.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

Tensor = Any
Range = tuple[int, int, int]  # start, stop, step
Slices = tuple[slice, ...]


class Frame(NamedTuple):
    """The shape of a grid, and along each axis: how many points are added at either end, and whether they are the other end."""

    shape: tuple[int, ...]
    pads: tuple[int, ...]
    periodic: tuple[bool, ...]


class Term(NamedTuple):
    """Weights of a grid, and the places in a framed array that they belong to."""

    weights: Tensor
    places: Slices


class Block(NamedTuple):
    """Points that are relaxed at once.

    own : their places in a framed array
    at : and in one without a frame
    terms : the couplings to their neighbors
    """

    own: Slices
    at: Slices
    terms: tuple[Term, ...]


class CoupledStencil(NamedTuple):
    """A u = diagonal u - sum of the terms.

    inverse : of the diagonal, 0 for a row of zeros
    offsets : of the terms
    seams : along which axes the first and the last point are neighbors of one color
    colors : the blocks of each color, in the order in which they are relaxed
    """

    frame: Frame
    terms: tuple[Term, ...]
    diagonal: Tensor
    inverse: Tensor
    offsets: tuple[tuple[int, ...], ...]
    seams: tuple[bool, ...]
    colors: tuple[tuple[Block, ...], ...]


class Reduction(NamedTuple):
    """One step of cyclic reduction along an axis: every other point is expressed by its neighbors.

    low, high : the couplings of these points to the one before and the one behind, over their diagonals
    inverse : of their diagonals
    """

    low: Tensor
    high: Tensor
    inverse: Tensor


class LineStencil(NamedTuple):
    """The tridiagonal systems along an axis, factorized: reductions, the inverse for the last point; the blocks of lines."""

    axis: int
    reductions: tuple[Reduction, ...]
    last: Tensor
    colors: tuple[tuple[Block, ...], ...]


class TransferStencil(NamedTuple):
    """P whose weights follow from couplings: terms on the coarse grid, with the places of fine points."""

    frame: Frame  # of the fine grid
    coarse: tuple[int, ...]
    terms: tuple[Term, ...]


def framed(u: Tensor, frame: Frame) -> Tensor:
    """Return an array with its frame."""
    out = u.new_zeros([n + 2 * pad for n, pad in zip(frame.shape, frame.pads, strict=True)])
    inside(out, frame).copy_(u)
    wrap(out, frame)
    return out


def inside(u: Tensor, frame: Frame) -> Tensor:
    """Return a framed array without its frame, a view."""
    return u[tuple(slice(pad, pad + n) for n, pad in zip(frame.shape, frame.pads, strict=True))]


def wrap(u: Tensor, frame: Frame) -> None:
    """Write the other end into the frame along periodic axes."""
    for axis, (n, periodic) in enumerate(zip(frame.shape, frame.periodic, strict=True)):
        if periodic:
            u.narrow(axis, 0, 1).copy_(u.narrow(axis, n, 1))
            u.narrow(axis, n + 1, 1).copy_(u.narrow(axis, 1, 1))


def folded(u: Tensor, frame: Frame) -> Tensor:
    """Return a framed array without its frame, what P wrote there added to the other end along periodic axes.

    Their first point is coarse, so that P reaches beyond the low end alone.
    """
    for axis, (n, periodic) in enumerate(zip(frame.shape, frame.periodic, strict=True)):
        if periodic:
            u.narrow(axis, n, 1).add_(u.narrow(axis, 0, 1))
    return inside(u, frame)


def places(frame: Frame, offset: Sequence[int], ranges: Sequence[Range]) -> Slices:
    """Return where the points at an offset from those in some ranges are in a framed array."""
    shifts = [pad + step for pad, step in zip(frame.pads, offset, strict=True)]
    return tuple(slice(start + by, stop + by, step) for (start, stop, step), by in zip(ranges, shifts, strict=True))


def parity_blocks(stencil: CoupledStencil, along: int | None = None) -> dict[tuple[int, ...], tuple[Block, ...]]:
    """Return the blocks of every other point along each axis, by their parities; with `along`, of whole lines of that axis.

    Of a color, the last point of an axis with a seam is relaxed after the first one.
    """
    shape, blocks = stencil.frame.shape, {}
    for parities in itertools.product(*(range(2 if n > 1 and axis != along else 1) for axis, n in enumerate(shape))):
        ranges = [
            [(0, n, 1)] if axis == along else _every_other(n, parity, stencil.seams[axis])
            for axis, (n, parity) in enumerate(zip(shape, parities, strict=True))
        ]
        blocks[parities] = tuple(_block(stencil, chosen) for chosen in itertools.product(*ranges))
    return blocks


def _every_other(n: int, parity: int, seam: bool) -> list[Range]:
    if seam and parity == 0:
        return [(0, n - 1, 2), (n - 1, n, 1)]
    return [(parity, n, 2)]


def _block(stencil: CoupledStencil, ranges: Sequence[Range]) -> Block:
    frame, at = stencil.frame, tuple(slice(*each) for each in ranges)
    terms = [
        Term(term.weights[at], places(frame, offset, ranges))
        for offset, term in zip(stencil.offsets, stencil.terms, strict=True)
    ]
    return Block(places(frame, (0, 0, 0), ranges), at, tuple(terms))


def apply(u: Tensor, stencil: CoupledStencil) -> Tensor:
    """Return A u."""
    return _with_neighbors(u * stencil.diagonal, framed(u, stencil.frame), stencil.terms, -1.0)


def residual(b: Tensor, u: Tensor, stencil: CoupledStencil) -> Tensor:
    """Return b - A u."""
    return _with_neighbors(b.addcmul(stencil.diagonal, u, value=-1.0), framed(u, stencil.frame), stencil.terms, 1.0)


def _with_neighbors(out: Tensor, u: Tensor, terms: Sequence[Term], sign: float) -> Tensor:
    for weights, there in terms:
        out.addcmul_(weights, u[there], value=sign)
    return out


def relax_colors(u: Tensor, b: Tensor, omega: float, stencil: CoupledStencil, backward: bool) -> None:
    """Relax all points of a framed array in place, color by color, or the last color first."""
    for blocks in reversed(stencil.colors) if backward else stencil.colors:
        for own, at, terms in blocks:
            data = _with_neighbors(b[at].clone(), u, terms, 1.0)
            u[own].mul_(1.0 - omega).addcmul_(data, stencil.inverse[at], value=omega)
            wrap(u, stencil.frame)


def relax_lines(u: Tensor, b: Tensor, stencil: CoupledStencil, lines: LineStencil, backward: bool) -> None:
    """Relax whole lines along an axis of a framed array in place, every other one first, or last."""
    for blocks in reversed(lines.colors) if backward else lines.colors:
        for own, at, terms in blocks:
            data = _with_neighbors(b[at].addcmul(stencil.diagonal[at], u[own], value=-1.0), u, terms, 1.0)
            u[own].add_(_solved(data, lines.axis, at, lines.reductions, lines.last))
            wrap(u, stencil.frame)


def _solved(r: Tensor, axis: int, at: Slices, reductions: Sequence[Reduction], last: Tensor) -> Tensor:
    """Return T^-1 r along an axis."""
    if not reductions:
        return r * last[at]
    low, high, inverse = (each[at] for each in reductions[0])
    even, odd = every_other(r, axis, 0), every_other(r, axis, 1)
    even = to_high(to_low(even.clone(), low * odd, axis), high * odd, axis)
    even = _solved(even, axis, at, reductions[1:], last)
    odd = (odd * inverse).addcmul_(low, even.narrow(axis, 0, odd.shape[axis])).addcmul_(high, behind(even, odd, axis))
    out = r.new_empty(r.shape)
    every_other(out, axis, 0).copy_(even)
    every_other(out, axis, 1).copy_(odd)
    return out


def every_other(u: Tensor, axis: int, parity: int) -> Tensor:
    """Return the points of even or odd index along an axis, a view."""
    return u[(slice(None),) * axis + (slice(parity, None, 2),)]


def behind(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Return, for each odd point of an axis, the even one behind it: of the last one the first, where there is no other."""
    return even.roll(-1, axis) if even.shape[axis] == odd.shape[axis] else even.narrow(axis, 1, odd.shape[axis])


def to_low(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Add values of odd points of an axis to the even ones before them, in place."""
    even.narrow(axis, 0, odd.shape[axis]).add_(odd)
    return even


def to_high(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """Add values of odd points of an axis to the even ones behind them, in place."""
    behind_them = odd.roll(1, axis) if even.shape[axis] == odd.shape[axis] else odd
    even.narrow(axis, even.shape[axis] - odd.shape[axis], odd.shape[axis]).add_(behind_them)
    return even


def restrict(r: Tensor, transfer: TransferStencil) -> Tensor:
    """Return P^T r."""
    fine = framed(r, transfer.frame)
    return _with_neighbors(r.new_zeros(transfer.coarse), fine, transfer.terms, 1.0)


def interpolated(e: Tensor, transfer: TransferStencil) -> Tensor:
    """Return P e."""
    frame = transfer.frame
    out = e.new_zeros([n + 2 * pad for n, pad in zip(frame.shape, frame.pads, strict=True)])
    for weights, there in transfer.terms:
        out[there].addcmul_(weights, e)
    return folded(out, frame)
