"""The set-up of black box multigrid on several processes: P and coarse operators from rows that a process has.

The weights of P and the couplings of P^T A P at a coarse row follow from fine rows nearby. So each process makes those of its
own rows with the loops of one process, to the same bits, and gets its neighbors' rows from them. From the first level on that
has few unknowns, or blocks of few rows, all processes have the whole operator, and go on alike.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..stencil.coarsening import (
    JUMP,
    MANY_JUMPS,
    SAMPLED,
    Points1D,
    Roughness,
    coarse_points,
    coarsened,
    guided,
    jumps_in,
    roughness_of,
    strong_axes,
    without_rows,
)  # fmt: skip
from ..stencil.coupled import SymmetricOperator, symmetric_stencil
from ..stencil.galerkin_levels import Begun, CoupledLevel, continued, most_coarsest
from ..stencil.grid import Axis
from ..stencil.kernels.cpu.compiled import strengths
from ..stencil.kernels.cpu.compiled.arguments import CoupledTransfer, SymmetricStencil
from ..stencil.kernels.workspace import empty
from .levels import GATHERED_BELOW
from .parts import narrowest
from .rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .block_problem import BlockProblem
    from .operators import BlockOperator

Array = NDArray[Any]
# Couplings of a coarse row depend on fine rows up to 5 away (`kernels.cpu.compiled.black_box`), the count of points in lines on
# 4 rows before, and a half-cycle of three sweeps on 8.
HALO = 8


class Block(NamedTuple):
    """A symmetric stencil on the rows of a process, a box of three axes; sums are of the whole grid."""

    rows: Rows
    stencil: SymmetricStencil

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole box."""
        own = list(self.stencil.excess.shape)
        own[divided(self.stencil.excess)] = self.rows.part.cuts[-1]
        return tuple(own)

    @property
    def size(self) -> int:
        """The unknowns of all processes."""
        return int(np.prod(self.shape))


class Coarser(NamedTuple):
    """P between the rows of a process on two levels: it begins with the coarse row `first`, and ends before `last`."""

    transfer: CoupledTransfer
    rows: Rows
    first: int
    last: int

    @property
    def inner(self) -> slice:
        """The rows of P among those of the coarse level."""
        start = self.rows.part.rows.start
        return slice(self.first - start, self.last - start)

    @property
    def owned(self) -> slice:
        """Those that the process owns among the rows of P."""
        return slice(self.rows.part.first - self.first, self.rows.part.last - self.first)


class Hierarchy(NamedTuple):
    """Levels in blocks, each with P to the next one, levels that are whole, and the roughness of all, each by itself."""

    blocks: list[tuple[Block, Coarser]]
    whole: list[CoupledLevel]
    rough: list[Roughness]


def divided(box: Array) -> int:
    """Return the axis of a box that is cut: the first one of more than one point."""
    return 0 if box.shape[-3] > 1 else 1 if box.shape[-2] > 1 else 2


def front(box: Array) -> Array:
    """Return a view of a box that is cut, its rows first: (rows, lines, points); arrays of boxes keep their first axis."""
    assert box.flags.c_contiguous
    number = divided(box) - 3
    return box.reshape(*box.shape[:-3], box.shape[number], -1, box.shape[-1] if number < -1 else 1)


def boxed(rows: Array, like: Array) -> Array:
    """Return a view of rows, (rows, lines, points), as a box with the axes of another one."""
    n, lines, points = rows.shape
    return rows.reshape([(n, lines, points), (1, n, points), (1, 1, n)][divided(like)])


def hierarchy_of(problem: BlockProblem, max_levels: int | None) -> Hierarchy:
    """Return the levels for a problem, by the rules of `stencil.galerkin_levels`; without smoothing."""
    operator, grid = problem.coupled_operator, problem.grid
    matter: Any = operator.conducting
    block = finest_block(problem.rows, matter)
    guide = _guide(matter, block)
    own = block if matter is operator else finest_block(problem.rows, operator)
    void = problem.void
    blocks: list[tuple[Block, Coarser]] = []
    rough: list[Roughness] = []
    while block.size > most_coarsest(grid, rough) and len(rough) + 1 != max_levels and has_rows(block, grid.axes[0]):
        strong = strong_axes(block.stencil)
        if not any(strong):
            break
        coarser, coarse, coarse_guide = _coarsened(block, guide, strong, grid.axes)
        if void is not None:
            coarser, void = coarser._replace(transfer=without_rows(coarser.transfer, void)), None
        rough.append(roughness(block, strong))
        blocks.append((own, coarser))
        own = block = coarse
        guide = coarse_guide
    if not blocks:
        return Hierarchy([], [], rough)
    whole = _gathered(block, grid.ndim)
    begun = Begun(SymmetricOperator(whole), whole, guide and _gathered(guide, grid.ndim), None, rough)
    return Hierarchy(blocks, list(continued(problem, begun, max_levels)), rough)  # type: ignore[arg-type]


def has_rows(block: Block, axis: Axis) -> bool:
    """Whether a level stays in blocks: not where it is small, nor across the seam of a periodic axis of odd length."""
    part = block.rows.part
    return block.size >= GATHERED_BELOW and narrowest(part.cuts) > HALO and not (axis.periodic and part.cuts[-1] % 2)


def _guide(matter: Any, block: Block) -> Block | None:
    """Return what P follows from where that is not the operator's own stencil; see `galerkin_levels`."""
    guide = matter.without_weak_sides
    if guide is matter or not roughness(block, strong_axes(block.stencil)).rough:
        return None
    return finest_block(block.rows, guide)


def finest_block(rows: Rows, operator: BlockOperator) -> Block:
    """Return the block of the finest operator."""
    stencil = operator.stencil
    if operator.whole.grid.ndim > 1:
        return _summed(rows, stencil)
    along = stencil.offsets[:, 1] == 1  # from arrays of one column to boxes of one row
    offsets = stencil.offsets[along][:, [0, 2, 1]]
    couplings: Any = stencil.couplings[along].reshape(1, 1, 1, -1)
    excess: Any = stencil.excess.reshape(1, 1, -1)
    return Block(rows, symmetric_stencil(offsets, couplings, excess))


def _summed(rows: Rows, stencil: SymmetricStencil) -> Block:
    """Return a block whose shares are those of the whole grid; in 1-D they are of one axis."""
    if divided(stencil.excess) == 2:
        return Block(rows, stencil)
    arrays = stencil.diagonal, stencil.inverse
    parts = rows.over_slabs(lambda *slabs: strengths.finish(*arrays, stencil, *slabs), stencil.excess.size)
    found = rows.comm.allgather((np.sum(parts, axis=0)[:3], float(np.min(parts, axis=0)[3])))
    sums, least = zip(*found, strict=True)
    return Block(rows, stencil._replace(shares=np.append(np.sum(sums, axis=0), min(least))))


def _coarsened(
    block: Block, guide: Block | None, strong: list[bool], axes: tuple[Axis, ...]
) -> tuple[Coarser, Block, Block | None]:
    """Return P, and the coarse operator on the rows of the process; the coarse guide."""
    stencil, number = block.stencil, divided(block.stencil.excess)
    points = [coarse_points(*each) for each in zip(block.shape, [*[None] * number, *axes], strong, strict=True)]
    part, held = block.rows.part, block.rows.part.rows
    first, step = int(points[number].positions[0]), 2 if strong[number] else 1
    cuts = (0, *(-((first - cut) // step) for cut in part.cuts[1:-1]), len(points[number].positions))
    coarse_rows = replace(block.rows, part=replace(part, cuts=cuts))
    low, high = (-((first - row) // step) for row in (held.start, held.stop))
    positions = first + step * np.arange(low, high) - held.start
    points[number] = Points1D(positions, len(held), strong[number], False)
    if guide is None:
        transfer, coarse = coarsened(stencil, points)
        made = [coarse]
    else:
        transfer, *made = guided(guide.stencil, stencil, points)
    coarser = Coarser(transfer, coarse_rows, low, high)
    weights = np.empty_like(transfer.weights)
    for own, given in zip(weights, transfer.weights, strict=True):
        front(own)[...] = coarse_rows.fill(coarse_rows.part.extended(front(given)[coarser.owned]))[coarser.inner]
    coarser = coarser._replace(transfer=transfer._replace(weights=weights))
    one, *other = [_summed(coarse_rows, _extended(each, coarser)) for each in made]
    return coarser, one, other[0] if other else None


def _extended(stencil: SymmetricStencil, coarser: Coarser) -> SymmetricStencil:
    """Return a coarse stencil, right on the own rows of P, on all rows of the level; nothing is coupled beyond these."""
    rows, excess = coarser.rows, stencil.excess

    def extended(given: Array) -> Array:
        return boxed(rows.fill(rows.part.extended(front(given)[coarser.owned])), given)

    made = extended(excess)
    couplings = empty((len(stencil.couplings), *made.shape), np.float64)
    for own, given in zip(couplings, stencil.couplings, strict=True):
        own[...] = extended(given)
    front(couplings)[stencil.offsets[:, divided(made)] > 0, -1] = 0.0
    return symmetric_stencil(stencil.offsets, couplings, made)


def _gathered(block: Block, ndim: int) -> SymmetricStencil:
    """Return the whole stencil, as one process has it."""
    rows, stencil = block.rows, block.stencil

    def gathered(box: Array) -> Array:
        return whole_box(rows.comm.allgather_rows(front(box)[rows.part.owned], rows.part.counts), ndim)

    couplings = np.array([gathered(each) for each in stencil.couplings])
    return symmetric_stencil(stencil.offsets, couplings, gathered(stencil.excess))


def whole_box(rows: Array, ndim: int) -> Array:
    """Return all rows of a grid, (rows, lines, points), as the box that one process has."""
    n, lines, points = rows.shape
    return rows.reshape({1: (1, 1, n), 2: (1, n, points), 3: (n, lines, points)}[ndim])


def roughness(block: Block, strong: list[bool]) -> Roughness:
    """Return the roughness of a level in blocks, as of one process."""
    rows, stencil = block.rows, block.stencil

    def total(count: Any) -> int:
        with _begun_anew(block):
            return int(rows.total(int(sum(rows.over_slabs(count, stencil.excess.size)))))

    return roughness_of(stencil, strong, block.size, total)


@contextmanager
def _begun_anew(block: Block) -> Iterator[None]:
    """Where the grid begins in the midst of the rows, as the axis is periodic: have no line of points lead into it.

    One process counts lines from its first row on. A line ends where a row couples most strongly along itself.
    """
    part, stencil = block.rows.part, block.stencil
    along = np.flatnonzero((stencil.offsets == (0, 0, 1)).all(axis=1))
    if not part.periodic or part.rank or not along.size:
        yield
        return
    row = front(stencil.couplings[along[0]])[part.owned.start - 1]
    kept = row.copy()
    row[...] = 10.0 * np.abs(stencil.couplings).max()
    try:
        yield
    finally:
        row[...] = kept


def jumps(block: Block) -> bool:
    """Whether the couplings of some points are much stronger than those of others."""
    own = front(block.stencil.diagonal)[block.rows.part.owned]
    largest, least = block.rows.maxima(float(own.max()), -float(own.min(where=own > 0.0, initial=np.inf)))
    return largest > -JUMP * least


def many_jumps(block: Block, ndim: int) -> bool:
    """Whether a level jumps all over; see `coarsening.has_many_jumps`."""
    if ndim != 2:
        return False
    part = block.rows.part
    sampled = front(block.stencil.diagonal)[part.owned, 0][-part.first % SAMPLED :: SAMPLED]
    found, size = (block.rows.total(each) for each in (jumps_in(sampled), sampled.size))
    return bool(found > MANY_JUMPS * size)
