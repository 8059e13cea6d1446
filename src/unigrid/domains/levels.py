"""A level whose grid lies on several processes: the half-cycles of one process, each on its rows, between exchanges of rows.

A halo is as deep as half-sweeps are many, and a few rows more: so one exchange is enough for all of a half-cycle, and what
several processes compute alike, they compute with the same machine code, to the same bits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, NestedLevel, Steps
from ..stencil import kernels
from ..stencil.hierarchy import SLOTS, StencilLevel
from ..stencil.kernels.cpu.compiled import loops
from ..stencil.kernels.cpu.fused import FusedSweeps
from ..stencil.kernels.cpu.primitives import as_box
from ..stencil.kernels.cpu.threads import over_parts, slab_parts
from ..stencil.slots import Slots, fused_nested_transfers, fused_transfers, half_sweeps, nested_transfers
from ..stencil.smoothers import Chebyshev, Jacobi, RedBlack
from ..stencil.transfers import SeparableTransfer
from .communicator import Communicator
from .parts import Part

Array = NDArray[np.floating]
# Levels of fewer unknowns are gathered: to exchange their rows takes longer than to smooth them on every process.
GATHERED_BELOW = 5_000

POINTWISE = (RedBlack, Jacobi, Chebyshev)  # smoothers whose value at a point depends on its neighbors alone


def has_blocks(level: StencilLevel) -> bool:
    """Whether the slots of a level work on blocks."""
    transfers = level.restriction, level.prolongation
    smoothers = [level.smoother, level.post_smoother]
    red_black = any(isinstance(each, Steps) and isinstance(each.step, RedBlack) for each in smoothers)
    seams = red_black and any(axis.periodic and axis.n % 2 for axis in level.problem.grid.axes)
    pointwise = all(each is None or (isinstance(each, Steps) and isinstance(each.step, POINTWISE)) for each in smoothers)
    separable = all(isinstance(each, SeparableTransfer) for each in transfers)
    return pointwise and separable and not seams and level.state_transfer is None


def halo_of(level: StencilLevel, turns: bool) -> int:
    """Return how deep a halo must be: for every pass of a smoother a row, for the residual and its restriction three more.

    Where the level `turns`, it goes up and down again before rows are exchanged.
    """
    down, up = (_passes(smoother) for smoother in (level.smoother, level.post_smoother))
    return up + down + 3 if turns else max(down, up) + 3


def _passes(smoother: Any) -> int:
    if smoother is None:
        return 0
    step = smoother.step
    return smoother.count * (len(step.omegas) if isinstance(step, RedBlack) else int(step.cost))


def _shifted(smoother: Any, rows: int) -> Any:
    """Return a smoother whose colors are those of a grid that begins so many rows before."""
    if smoother is None or not isinstance(smoother.step, RedBlack) or rows % 2 == 0:
        return smoother
    other = "black" if smoother.step.first == "red" else "red"
    return replace(smoother, step=replace(smoother.step, first=other))


@final
class BlockSweeps(FusedSweeps):
    """The half-cycles of a block, whose own rows alone count in norms."""

    def __init__(self, owned: slice, *as_ever: Any) -> None:
        super().__init__(*as_ever)
        self.counted = owned.start, owned.stop


@final
class BlockSlots:
    """The half-cycles of a block slot by slot."""

    def __init__(self, level: StencilLevel) -> None:
        self._level = level

    def descend(self, b: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after pre-smoothing, and the restricted residual."""
        u, coarse_b, _ = self._level.descend(b, u, self._level)
        return u, coarse_b

    def ascend(self, b: Array, u: Array, correction: Array) -> Array:
        """Return u + P e after post-smoothing."""
        return self._level.ascend(b, u, None, correction)


@final
class DomainLevel(NestedLevel):
    """A block of a level. Arrays have all rows of its `part`; what lies in the halo counts only where it has been filled."""

    def __init__(self, level: StencilLevel, part: Part, coarse: Part, gathers: bool, comm: Communicator) -> None:
        """`coarse` is the part of the next level; `gathers`: whether all processes have all of that."""
        self.operator, self.part, self.gathers, self.turns = level.operator, part, gathers, level.turns
        self._whole, self._coarse, self._comm = level.problem, coarse, comm
        self.problem = part.problem(level.problem)
        self._grids = level.problem.grid, level.coarser.grid
        self._halves = self._fused(level) if isinstance(level.fused, FusedSweeps) else self._composed(level)

    def _fused(self, level: StencilLevel) -> BlockSweeps:
        sweeps = half_sweeps(Slots(*(getattr(level, name) for name in SLOTS)))
        transfers = fused_transfers(*self._cut((level.restriction, level.prolongation)))  # type: ignore[arg-type]
        assert sweeps is not None
        assert transfers is not None
        shapes = self.problem.shape, (len(self._coarse.rows), *level.coarser.shape[1:])
        shifted = tuple(each._replace(color=(each.color + self.part.rows.start) % 2) for each in sweeps)
        periodic = False, *(axis.periodic for axis in self._grids[0].axes[1:])
        nested = partial(fused_nested_transfers, *self._grids, self._cut)
        return BlockSweeps(self.part.owned, shifted, shapes, self.problem.operator.tables, transfers, nested, periodic)

    def _composed(self, level: StencilLevel) -> BlockSlots:
        restriction, prolongation = self._cut((level.restriction, level.prolongation))  # type: ignore[arg-type]
        before, after = (_shifted(each, self.part.rows.start) for each in (level.smoother, level.post_smoother))
        slots = {"smoother": before, "post_smoother": after, "restriction": restriction, "prolongation": prolongation}
        return BlockSlots(StencilLevel(self.problem, level.coarser, slots, fuses=False))

    def _cut(self, pair: tuple[SeparableTransfer, SeparableTransfer]) -> tuple[SeparableTransfer, SeparableTransfer]:
        """Return the part of R and P between its rows and those of the next level."""
        return self._coarse.transfer(pair[0], self.part), self.part.transfer(pair[1], self._coarse)

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        u = u if u is None else self.part.fill(u, self._comm)
        u, coarse_b = self._halves.descend(b, u)
        return u, self._handed_down(coarse_b), None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        return self._halves.ascend(b, self.part.fill(u, self._comm), self._handed_up(coarse))

    def ascend_measured(self, b: Array, u: Array, start: Array | None, coarse: Array) -> tuple[float, Array]:
        if isinstance(self._halves, BlockSlots):
            u = self.ascend(b, u, start, coarse)
            return self.residual_norm(b, u), u
        norm = self._halves.ascend_measured(b, self.part.fill(u, self._comm), self._handed_up(coarse))
        return self._norm_of_all(norm), u

    def turn(
        self, b: Array, u: Array, start: Array | None, coarse: Array, coarser: Level, keep: bool
    ) -> tuple[float, Array | None, Descent]:
        assert isinstance(self._halves, BlockSweeps)
        kept = np.empty_like(u) if keep else None
        norm, coarse_b = self._halves.turn(b, self.part.fill(u, self._comm), self._handed_up(coarse), kept)
        return self._norm_of_all(norm), kept, (u, self._handed_down(coarse_b), None)

    def _norm_of_all(self, norm: float) -> float:
        """Return the norm of the whole grid, of those of the blocks."""
        return math.sqrt(sum(each * each for each in self._comm.allgather(norm)))

    def residual_norm(self, b: Array, u: Array) -> float:
        """Return the norm of b - A u of the whole grid; the halo of u counts, and is filled."""
        residual = self.problem.operator.residual(b, u)[self.part.owned]
        return self._norm_of_all(kernels.of(b).norm(residual))

    def correct(self, residual: Array, b: Array, u: Array, e: Array, fresh: bool) -> float:
        """Add e to the block's rows of u, or copy it to a fresh u, whose halo has it already.

        Write b - A u into these rows of `residual`, which may be of lower precision; return its norm of the whole grid.
        """
        boxes, tables = (as_box(residual), as_box(u), as_box(e), as_box(b)), self.problem.operator.tables(b.dtype)
        start, rows = self.part.owned.start, self.part.owned.stop - self.part.owned.start
        parts = [(start + first, start + last) for first, last in slab_parts(rows, u.size)]
        total = sum(over_parts(lambda first, last: loops.correct(*boxes, fresh, tables, first, last), parts))
        for slab in {end for first, last in parts for end in (first, last - 1)}:  # their neighbors were not corrected yet
            total += loops.restate(boxes[0], boxes[1], boxes[3], tables, slab, slab + 1)
        return self._norm_of_all(math.sqrt(total))

    def restate(self, residual: Array, b: Array, u: Array) -> None:
        """Write b - A u, of u whose halo is filled, into `residual`, which may be of lower precision, its halo too."""
        boxes, tables = (as_box(residual), as_box(u), as_box(b)), self.problem.operator.tables(b.dtype)
        start, rows = self.part.owned.start, self.part.owned.stop - self.part.owned.start
        parts = [(start + first, start + last) for first, last in slab_parts(rows, u.size)]
        over_parts(lambda first, last: loops.restate(*boxes, tables, first, last), parts)
        self.filled(residual)

    def right_hand_side(self, f: Array) -> Array:
        b = self.problem.folded(f)
        return self.centered(b) if self._whole.singular else b

    def centered(self, u: Array) -> Array:
        """Return u without the mean of the whole grid."""
        return u - u.dtype.type(self.mean(u))

    def filled(self, array: Array) -> Array:
        """Return an array, its halo filled."""
        return self.part.fill(array, self._comm)

    def inner(self, a: Array, b: Array, weights: list[NDArray[np.float64]]) -> float:
        """Return the sum of w a b over the whole grid, w the product of one weight per axis."""
        own = [weights[0][self.part.first : self.part.last], *weights[1:]]
        part = kernels.of(a).weighted_inner(a[self.part.owned], b[self.part.owned], own)
        return float(sum(self._comm.allgather(part)))

    def mean(self, u: Array) -> float:
        """Return the mean of the whole grid in the inner product of `weights`."""
        first, *others = (axis.weights / axis.weights.sum() for axis in self._whole.grid.axes)
        own = [first[self.part.first : self.part.last], *others]
        return float(sum(self._comm.allgather(kernels.of(u).weighted_sum(u[self.part.owned], own))))

    def nested_restriction(self, f: Array) -> Array:
        halves = self._halves
        fused = isinstance(halves, BlockSweeps) and halves.nests
        return self._handed_down(halves.restrict_source(f) if fused else self._nested_transfers[0](f))  # type: ignore[union-attr]

    def nested_prolongation(self, u: Array) -> Array:
        return self._nested_transfers[1](self._handed_up(u))

    @cached_property
    def _nested_transfers(self) -> tuple[SeparableTransfer, SeparableTransfer]:
        return self._cut(nested_transfers(*self._grids))

    def descend_nested(self, b: Array, coarse: Array, coarser: Level) -> Descent:
        if isinstance(self._halves, BlockSlots) or not self._halves.nests:
            return super().descend_nested(b, coarse, coarser)
        u, coarse_b = self._halves.descend_nested(b, self._handed_up(coarse))
        return u, self._handed_down(coarse_b), None

    def _handed_down(self, coarse: Array) -> Array:
        """Return a restricted array as the next level has it."""
        if self.gathers:
            return self._comm.allgather_rows(coarse[self._coarse.owned], self._coarse.counts)
        return self._coarse.fill(coarse, self._comm)

    def _handed_up(self, coarse: Array) -> Array:
        """Return the rows of an array of the next level that this one interpolates from."""
        return self._coarse.taken(coarse) if self.gathers else self._coarse.fill(coarse, self._comm)
