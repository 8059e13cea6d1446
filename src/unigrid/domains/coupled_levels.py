"""A level of black box multigrid on several processes: half-cycles of one process on its rows, between exchanges of rows."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, NestedLevel, Smoother, Steps
from ..stencil.coarsening import CoupledTransfers
from ..stencil.coupled import SymmetricOperator
from ..stencil.galerkin_levels import CoupledLevel, smoothed, treated
from ..stencil.relaxation import Lines
from .black_box import HALO, Block, Coarser, Hierarchy, boxed, front, jumps, many_jumps, whole_box
from .lines import BlockLines
from .parts import even_cuts

Array = NDArray[np.floating]


class Slot(NamedTuple):
    """Smoothing in parts, between which halos are filled: steps in one pass, and those of passes apart from it."""

    together: Smoother | None
    apart: list[int]
    reach: int  # rows of a halo that the one pass spoils


@final
class CoupledDomainLevel(NestedLevel):
    """A block of a level. Arrays have all rows of the process; what lies in the halo counts only where it has been filled."""

    def __init__(self, block: Block, coarser: Coarser, slots: CoupledLevel, gathers: bool) -> None:
        """`slots` are those of one process, on the rows; `gathers`: whether all processes have all of the next level."""
        self._rows, self._coarser, self._gathers, self._like = block.rows, coarser, gathers, coarser.transfer.weights[0]
        self.operator, self.roughness, self.ndim, self.shape = slots.operator, slots.roughness, slots.ndim, block.shape
        self.jumps, self.many_jumps = jumps(block), many_jumps(block, slots.ndim)
        self._before, self._after = (_in_parts(slot, block) for slot in (slots.smoother, slots.post_smoother))
        self.smoother, self.post_smoother = slots.smoother, slots.post_smoother
        self._halves = slots.smoothed(self._before.together, self._after.together)

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        for count in self._before.apart:
            u = self._relaxed(b, u, self._before.together, count)
        u, residual, _ = self._halves.descend(b, self._filled(u), self._halves)
        return u, self._handed_down(residual), None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        if self._before.reach + self._after.reach > HALO:
            u = self._filled(u)
        u = self._halves.ascend(b, u, None, self._handed_up(coarse))
        for count in self._after.apart:
            u = self._relaxed(b, u, self._after.together, count)
        return u

    def right_hand_side(self, f: Array) -> Array:
        return f

    def nested_restriction(self, f: Array) -> Array:
        return self._handed_down(self._halves.nested_restriction(f))

    def nested_prolongation(self, u: Array) -> Array:
        return self._halves.nested_prolongation(self._handed_up(u))

    def _filled(self, u: Any) -> Any:
        return u if u is None else self._rows.fill(u)

    def _relaxed(self, b: Array, u: Array | None, slot: Any, count: int) -> Array:
        """Return u after some steps of a slot."""
        u, fused = self._filled(u), self._halves.fused
        return Steps(slot.step, count)(self.operator, b, u) if fused is None else fused.relaxed(b, u, count)

    def _handed_down(self, coarse: Array) -> Array:
        """Return a restricted array as the next level has it."""
        rows, own = self._coarser.rows, front(coarse)[self._coarser.owned]
        if self._gathers:
            return whole_box(rows.comm.allgather_rows(own, rows.part.counts), self.ndim)
        return boxed(rows.fill(rows.part.extended(own)), coarse)

    def _handed_up(self, coarse: Array) -> Array:
        """Return the rows of an array of the next level that this one interpolates from."""
        rows, like = self._coarser.rows, self._like
        if self._gathers:
            whole = coarse.reshape(rows.part.cuts[-1], *front(like).shape[1:])
            numbers = np.arange(self._coarser.first, self._coarser.last)
            return boxed(np.take(whole, numbers, axis=0, mode="wrap"), like)
        return boxed(front(rows.fill(coarse))[self._coarser.inner], like)


def levels_of(hierarchy: Hierarchy, smoother: str | Smoother, steps: tuple[int, int], ndim: int) -> list[NestedLevel]:
    """Return the levels of a hierarchy, finest first: those in blocks, then those that are whole."""
    levels: list[NestedLevel] = []
    for number, (block, coarser) in enumerate(hierarchy.blocks):
        parts = SymmetricOperator(block.stencil), CoupledTransfers(coarser.transfer), treated(hierarchy.rough, number)
        slots = smoothed(CoupledLevel(*parts, ndim), smoother, steps)
        levels.append(CoupledDomainLevel(block, coarser, slots, number + 1 == len(hierarchy.blocks)))
    *whole, coarsest = hierarchy.whole
    return [*levels, *(smoothed(level, smoother, steps) for level in whole), coarsest]


def _in_parts(slot: Smoother | None, block: Block) -> Slot:
    """Return the smoothing of a slot in passes that a halo suffices for, the longest of which comes last."""
    if not isinstance(slot, Steps):
        return Slot(None, [], 0)
    step, reach, beside = slot.step, 2, 0
    if isinstance(step, Lines):
        step = BlockLines(step, block.rows, block.stencil)
        reach, beside = step.reach, 1  # as residuals along lines across blocks depend on the rows beside those
    most = (HALO - 2) // max(reach, 1)  # to restrict a residual takes two rows more
    *apart, longest = sorted(np.diff(even_cuts(slot.count, -(-slot.count // most))).tolist())
    return Slot(Steps(step, longest), apart, reach * longest + beside)
