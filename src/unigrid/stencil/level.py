"""One grid of the hierarchy: its problem, its slots, and the legs in fused form that may stand for them."""

from __future__ import annotations

from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Level, NestedLevel, SlotLevel
from .fusing import fused_legs
from .kernels.cpu.half_cycles import HalfCycles
from .operator import StencilOperator
from .problem import Poisson
from .transfers import Cubic, SeparableTransfer, SourceWeighting

Array = NDArray[np.floating]


SLOTS = ("smoother", "post_smoother", "restriction", "prolongation", "state_transfer")
MAKE_LEGS = {*SLOTS, "coarser", "fuses"}  # what the fused legs are made of


@final
class StencilLevel(SlotLevel, NestedLevel):
    """One grid of the hierarchy, its problem and its slots."""

    operator: StencilOperator
    coarser: Poisson  # the next level's problem; the coarsest level has none

    def __init__(self, problem: Poisson) -> None:
        self.problem = problem
        self.operator = problem.operator
        self.smoother = self.post_smoother = None
        self.prolongation = self.state_transfer = None
        self.fuses = True  # whether fused legs may stand for the slots
        self._fused: tuple[HalfCycles | None] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in MAKE_LEGS:
            self._fused = None

    def descend(self, f: Array, u: Array | None, coarser: Level | None) -> tuple[Array, Array, Array | None]:
        legs = None if coarser is None else self.legs
        if legs is None:
            return super().descend(f, u, coarser)
        return *legs.descend(f, u), None

    def ascend(self, f: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        legs = self.legs
        return super().ascend(f, u, start, coarse) if legs is None else legs.ascend(f, u, coarse)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_fused": None}  # made anew when first used

    @property
    def legs(self) -> HalfCycles | None:
        """The legs in fused form, one pass over memory each, where these slots have one; the slots stay their definition."""
        made = self._fused
        if made is None:
            made = self._fused = (self._make_legs(),)
        return made[0]

    @property
    def slots(self) -> tuple[Any, ...]:
        """What is in the slots, in the order of SLOTS."""
        return tuple(getattr(self, name, None) for name in SLOTS)  # the coarsest level has no restriction

    def _make_legs(self) -> HalfCycles | None:
        if not self.fuses or not hasattr(self, "coarser"):
            return None
        return fused_legs(self.problem, self.coarser, self.slots, lambda: self._nested_transfers)

    def exchange_legs(self, legs: Any) -> None:
        """Use these in place of the fused legs, as long as the slots stay the same."""
        self._fused = (legs,)

    def right_hand_side(self, f: Array) -> Array:
        return self.problem.compatible(self.problem.folded(f))

    def nested_restriction(self, f: Array) -> Array:
        legs = self.legs
        return self._nested_transfers[0](f) if legs is None or not legs.nests else legs.restrict_source(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self._nested_transfers[1](u)

    def descend_nested(self, f: Array, coarse: Array, coarser: Level) -> tuple[Array, Array, Array | None]:
        legs = self.legs
        if legs is None or not legs.nests:
            return super().descend_nested(f, coarse, coarser)
        return *legs.descend_nested(f, coarse), None

    @cached_property
    def _nested_transfers(self) -> tuple[SeparableTransfer, SeparableTransfer]:
        """What nested iteration carries down and up, f and u; made when it first runs, as not every use does."""
        fine, coarse = self.problem.grid, self.coarser.grid
        return SourceWeighting().between(fine, coarse), Cubic().between(fine, coarse)

    def twin(self) -> StencilLevel:
        """Return a level of its own that holds the same slots."""
        twin = StencilLevel.__new__(StencilLevel)
        vars(twin).update(vars(self))
        return twin
