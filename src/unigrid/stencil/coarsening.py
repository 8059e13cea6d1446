"""Coarsening by the operator: which points are coarse, P from the couplings, R = P^T, and P^T A P.

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Prolongation, Restriction
from .coupled import halves, symmetric_stencil
from .grid import Axis, Dirichlet
from .kernels.cpu import coupled
from .kernels.cpu.compiled import black_box as loops
from .kernels.cpu.compiled import strengths
from .kernels.cpu.compiled.arguments import Coarsening, CoupledTransfer, SymmetricStencil
from .kernels.cpu.primitives import slab_count
from .kernels.cpu.threads import over_slabs
from .kernels.workspace import empty, zeros

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
STRONG = 0.25  # an axis is coarsened whose mean relative coupling is at least this part of the strongest one's
# A level is rough where, at more than this part of the points, a coarsened axis couples so many times weaker than another one.
# In 3-D random coefficients do well with points: lognormal 1 and 2, 63^3, 6 and 12 iterations, with lines 6 and 13. In 2-D they
# need more points than others, or lines where as many points are in lines of them: see `Roughness`.
WEAK_POINTS, WEAK = {1: 1e-3, 2: 1e-3, 3: 0.2}, 10.0
SAMPLED = 16  # every so many rows are looked at
JUMP, MANY_JUMPS = 100.0, 0.05  # there are many where this part of neighbors differ a hundredfold; squares of 8 x 8 cells: 1/8


class Roughness(NamedTuple):
    """Whether a level is rough: some coarsened axis couples much weaker than another one, at more than a few points.

    Where those points are strewn at random, strong couplings form no lines: `lines` is False. Many sweeps of points then reduce
    more, in less time: two phases 1 and 1e3 in cells, 1000^2, Dirichlet sides, 40 iterations with lines, 15 with points, in a
    quarter of the time.
    """

    rough: bool
    lines: bool


@final
class CoupledTransfers:
    """P and R = P^T between two levels, in either precision; `exact` is P in double."""

    def __init__(self, transfer: CoupledTransfer) -> None:
        self.exact = transfer
        self._made = {np.dtype(np.float64): transfer}

    def tables(self, dtype: np.dtype) -> CoupledTransfer:
        """Return P in the precision of the arrays."""
        if dtype not in self._made:
            self._made[dtype] = self.exact._replace(weights=self.exact.weights.astype(dtype))
        return self._made[dtype]


@final
@dataclass(frozen=True, eq=False)
class Transposed(Restriction):
    """The slot R: P^T."""

    transfers: CoupledTransfers

    def __call__(self, residual: Array) -> Array:
        return coupled.restrict(residual, self.transfers.tables(residual.dtype))


@final
@dataclass(frozen=True, eq=False)
class Interpolation(Prolongation):
    """The slot P: weights from the couplings."""

    transfers: CoupledTransfers
    shape: tuple[int, ...]

    def __call__(self, correction: Array) -> Array:
        return self.add_to(zeros(self.shape, correction.dtype), correction)

    def add_to(self, u: Array, correction: Array) -> Array:
        return coupled.add_interpolated(u, correction, self.transfers.tables(correction.dtype))


class Points1D(NamedTuple):
    """The coarse points of one axis: their fine indices, and whether the axis is coarsened and periodic."""

    positions: NDArray[np.int64]
    n: int
    coarsened: bool
    periodic: bool


def coarse_points(n: int, axis: Axis | None, coarsen: bool) -> Points1D:
    """Return the coarse points of an axis of n points; `axis` is the finest grid's, for its sides."""
    periodic = axis is not None and axis.periodic
    if not coarsen:
        return Points1D(np.arange(n), n, False, periodic)
    ends = [False, False] if axis is None else [side is Dirichlet for side in (axis.low, axis.high)]
    first = int(not periodic and (any(ends) if n % 2 else ends[0]) and n > 1)
    return Points1D(np.arange(first, n, 2), n, True, periodic)


def _transfer_tables(
    axes: list[Points1D],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of fine points from coarse ones, children, parents (see `CoupledTransfer`), and distances."""
    longest, most = max(len(axis.positions) for axis in axes), max(axis.n for axis in axes)
    children, parents = -np.ones((3, longest, 3), np.int64), -np.ones((3, most, 3), np.int64)
    following = np.zeros((3, longest), np.int64)
    for number, (positions, n, coarsened, periodic) in enumerate(axes):
        count = len(positions)
        is_coarse = np.zeros(n, bool)
        is_coarse[positions] = True
        for step in (-1, 0, 1):
            there = positions + step
            if periodic:
                there %= n
            inside = (there >= 0) & (there < n)
            inside[inside] &= (~is_coarse[there[inside]] & coarsened) if step else True
            children[number, :count, step + 1][inside] = there[inside]
            parents[number, there[inside], step + 1] = np.flatnonzero(inside)
        following[number, : count - 1] = np.diff(positions)
        if periodic and count > 1:
            following[number, count - 1] = positions[0] + n - positions[-1]
    steps = [(-1, 0, 1) if axis.coarsened and axis.n > 1 else (0,) for axis in axes]
    return np.array(list(itertools.product(*steps)), np.int64), children, parents, following


def coarsened(stencil: SymmetricStencil, axes: list[Points1D]) -> tuple[CoupledTransfer, SymmetricStencil]:
    """Return P, and the coarse operator P^T A P."""
    made = _set_up(stencil, axes)
    return made.transfer, symmetric_stencil(made.halves, made.couplings, made.excess)


def guided(
    guide: SymmetricStencil, stencil: SymmetricStencil, axes: list[Points1D]
) -> tuple[CoupledTransfer, SymmetricStencil, SymmetricStencil]:
    """Return P, which follows from the couplings of the guide, P^T A P, and the coarse guide."""
    made = _set_up(guide, axes)
    own = made._replace(couplings=np.empty_like(made.couplings), excess=np.empty_like(made.excess))
    slabs = made.excess.shape[0 if stencil.excess.shape[0] > 1 else 1]
    over_slabs(
        lambda first, last: loops.couple_slabs(loops.workspace(), stencil, own, first, last), slabs, stencil.excess.size
    )  # fmt: skip
    coarse, coarse_guide = (symmetric_stencil(each.halves, each.couplings, each.excess) for each in (own, made))
    return made.transfer, coarse, coarse_guide


def _set_up(stencil: SymmetricStencil, axes: list[Points1D]) -> Coarsening:
    """Return P, and the couplings and the excess of P^T A P."""
    shape, coarse_shape = stencil.excess.shape, tuple(len(axis.positions) for axis in axes)
    offsets, children, parents, following = _transfer_tables(axes)
    # P and excess are not recycled: where levels are packed they are dropped at once, and no other arrays are of their size.
    transfer = CoupledTransfer(offsets, np.empty((len(offsets), *coarse_shape)), children, parents)
    chunks = math.ceil(max(coarse_shape[2], shape[2] - coarse_shape[2]) / loops.CHUNK)
    defects, marks = np.zeros(shape), np.zeros((*shape[:2], 2, chunks), np.bool_)
    ndim = 3 - next((number for number, n in enumerate(shape) if n > 1), 2)
    half = halves(ndim, full=True)
    half = half[~np.any(half[:, np.array(coarse_shape) == 1], axis=1)]
    couplings, excess = empty((len(half), *coarse_shape), np.float64), np.empty(coarse_shape)
    images = np.array([axis.n if axis.periodic and axis.n > 1 == len(axis.positions) else 0 for axis in axes], np.int64)
    wanted = _wanted(half, transfer, following, bool(images.any()))
    columns = _begun(transfer)
    made = Coarsening(transfer, columns, defects, marks, half, couplings, excess, wanted, following, images)
    for stage in range(4):
        over_slabs(
            lambda first, last, stage=stage: loops.set_up(loops.workspace(), stencil, made, stage, first, last),
            _slabs(stencil), stencil.excess.size,
        )  # fmt: skip
    return made


def _begun(transfer: CoupledTransfer) -> NDArray[np.int64]:
    """Write the weights that depend on no coupling; return the number of each offset by its place in a block of 3^3."""
    offsets, weights, children, _ = transfer
    columns = np.full(loops.BLOCK, -1)
    columns[offsets @ (9, 3, 1) + 13] = np.arange(len(offsets))
    weights[columns[13]] = 1.0
    for axis, m in enumerate(weights.shape[1:]):
        for step, end in itertools.product((-1, 1), (0, m - 1)):
            if children[axis, end, step + 1] < 0:  # no fine point there, for which a weight would be written
                weights[(offsets[:, axis] == step, *(slice(None),) * axis, end)] = 0.0
    return columns


def _wanted(
    half: NDArray[np.int64], transfer: CoupledTransfer, following: NDArray[np.int64], imaged: bool
) -> NDArray[np.int64]:
    """Return which entries of a patch the couplings to other coarse points, and the defects, take; see `Coarsening`."""
    wanted = np.full((4, 5, 5, 5), int(imaged))
    distances = [np.unique(each[each > 0]) for each in following]
    for offset in half:
        for at in itertools.product(*(step * each if step else (0,) for step, each in zip(offset, distances, strict=True))):
            places = at + transfer.offsets
            wanted[(slice(None), *(places[(np.abs(places) <= 2).all(axis=1)] + 2).T)] = 1
    if not transfer.offsets[:, 2].any():  # rows are not coarsened: a point's patch ends at its neighbors
        wanted[1:, ..., 1:-1] |= 2
    elif len(distances[2]) > 1:  # neighbors along rows of a coarse point may be coarse
        wanted[1:] |= 2
    else:
        wanted[1, ..., ::2] |= 2
        wanted[2, ..., 1::2] |= 2
        wanted[3] |= 2
    return wanted.reshape(4, -1)


def without_rows(transfer: CoupledTransfer, void: NDArray[np.bool_]) -> CoupledTransfer:
    """Return P without corrections where there is nothing."""
    weights, box = transfer.weights.copy(), void.reshape((1,) * (3 - void.ndim) + void.shape)
    for own, offset in zip(weights, transfer.offsets, strict=True):
        fine = [children[:n, step + 1] for children, n, step in zip(transfer.children, own.shape, offset, strict=True)]
        own[box[np.ix_(*fine)]] = 0.0  # an index of -1 stands for no point, whose weight is zero
    return transfer._replace(weights=weights)


def strong_axes(stencil: SymmetricStencil) -> list[bool]:
    """Return which axes are to be coarsened: those that couple about as strongly as the strongest, in the mean."""
    sums = stencil.shares[:3]
    return [bool(total > STRONG * max(sums)) and n > 1 for total, n in zip(sums, stencil.excess.shape, strict=True)]


def roughness(stencil: SymmetricStencil, strong: list[bool]) -> Roughness:
    """Return whether a level is rough, and what smooths it then."""
    slabs, size = _slabs(stencil), stencil.excess.size
    return roughness_of(stencil, strong, size, lambda count: sum(over_slabs(count, slabs, size)))


def roughness_of(
    stencil: SymmetricStencil, strong: list[bool], size: int, total: Callable[[Callable[[int, int], int]], int]
) -> Roughness:
    """Return the roughness of a level of so many points; `total` adds up what a function counts in slabs."""
    if stencil.shares[3] > 1.001 / WEAK:  # nowhere
        return Roughness(False, False)
    ndim = sum(n > 1 for n in stencil.excess.shape)
    most = WEAK_POINTS[max(ndim, 1)] * size
    rough = bool(total(lambda first, last: strengths.weak_points(stencil, *strong, WEAK, first, last)) > most)
    if not rough or ndim > 2:
        return Roughness(rough, rough)
    lined = total(lambda first, last: strengths.points_in_lines(stencil, *strong[1:], WEAK, first, last))
    return Roughness(True, bool(lined > most))


def has_many_jumps(stencil: SymmetricStencil) -> bool:
    """Whether the diagonal jumps from one point of a row to the next at many places; of a 2-D stencil, every 16th row."""
    rows = stencil.diagonal[0, ::SAMPLED]
    return jumps_in(rows) > MANY_JUMPS * rows.size


def jumps_in(rows: Array) -> int:
    """Return at how many places a diagonal jumps from one point of a row to the next."""
    low, high = np.minimum(rows[:, 1:], rows[:, :-1]), np.maximum(rows[:, 1:], rows[:, :-1])
    return int(np.count_nonzero((high > JUMP * low) & (low > 0.0)))


def _slabs(stencil: SymmetricStencil) -> int:
    return slab_count(stencil.excess)
