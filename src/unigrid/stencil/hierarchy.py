"""The levels of a classical hierarchy: a Poisson problem on ever coarser grids, each with its slots filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, NestedLevel, Prolongation, Restriction, SlotLevel, Smoother, StateTransfer
from ..messages import plain_number, shown
from .coarse import DirectSolver, FourierSolver
from .helmholtz import check_waves
from .kernels.cpu.fused import FusedSweeps
from .kernels.cpu.fused_steps import FusedSteps
from .operator import StencilOperator
from .problem import Poisson
from .slots import Slots, between, fitted, fused_half_cycles, nested_transfers
from .smoothers import Smoothing
from .transfers import SeparableTransfer, TransferRecipe

Array = NDArray[np.floating]
COARSEST: dict[str, type[DirectSolver] | type[FourierSolver]] = {"direct": DirectSolver, "fft": FourierSolver}
# Coarsening ends at this many unknowns, 15^2 or 7^3: a dense product there takes 3 to 15 us, the levels that it saves 70.
# Where a number of levels is given it continues, down to as few unknowns as are worth a level at all.
COARSEST_UNKNOWNS, FEWEST_UNKNOWNS = 350, 32
SLOTS = Slots._fields


@final
@dataclass(frozen=True)
class Configuration:
    """How a problem is to be solved: the slots of all levels, as a user describes them.

    smoothing : on every level but the coarsest
    restriction, prolongation, state_transfer : recipes, or slots of the user's own
    coarsest : "direct", "fft", or a smoother
    max_levels : most levels; None ends coarsening where a direct solve is faster
    """

    smoothing: Smoothing
    restriction: TransferRecipe | Restriction
    prolongation: TransferRecipe | Prolongation
    state_transfer: TransferRecipe | StateTransfer | None = None
    coarsest: str | Smoother = "direct"
    max_levels: int | None = None


def checked_level(level: Any, count: int) -> int:
    """Return the number of a level, of so many. Raises IndexError."""
    at = plain_number(level)
    if type(at) is not int or not -count <= at < count:
        raise IndexError(f"level must be from {-count} to {count - 1}, as there are {count}; got {shown(level)}")
    return at


class Frozen:
    """A value: its attributes are set once, at construction."""

    def __setattr__(self, name: str, value: Any) -> None:
        shown, kind = name if name in SLOTS else "smoother", type(self).__name__
        advice = (
            f"cycle.replaced(level=k, {shown}=...) returns a cycle with another slot on level k, "
            f"cycle.replaced({shown}=...) one with another on all levels"
            if hasattr(self, "replaced")
            else f"make another one: {kind}(problem, ...)"
        )
        raise AttributeError(f"{kind} is fixed: assigning {name!r} would not change what was derived from it. {advice}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is fixed: {name!r} cannot be deleted")


@final
class StencilLevel(Frozen, SlotLevel, NestedLevel):
    """One grid of the hierarchy: its problem and its slots, which define it, and the fused half-cycles that may stand for them.

    A fused half-cycle is one pass over memory in place of one per slot; it equals the slots to round-off.
    """

    operator: StencilOperator
    problem: Poisson
    coarser: Poisson  # the next level's problem; None on the coarsest
    fuses: bool  # whether fused half-cycles may stand for the slots

    def __init__(self, problem: Poisson, coarser: Poisson | None, slots: Mapping[str, Any], fuses: bool = True) -> None:
        filled = {name: slots.get(name) for name in SLOTS}
        vars(self).update(filled, problem=problem, operator=problem.operator, coarser=coarser, fuses=fuses)

    def __repr__(self) -> str:
        filled = ", ".join(f"{name}={getattr(self, name)!r}" for name in SLOTS if getattr(self, name) is not None)
        return f"<StencilLevel: {' x '.join(map(str, self.problem.shape))} unknowns, {filled}>"

    def replaced(self, **changes: Any) -> StencilLevel:
        """Return a level with other slots, or with another `problem` and `coarser` on the same grids, or `fuses`."""
        slots = {name: changes.pop(name, getattr(self, name)) for name in SLOTS}
        others = {"problem": self.problem, "coarser": self.coarser, "fuses": self.fuses, **changes}
        return StencilLevel(slots=slots, **others)

    def rebound(self, problem: Poisson, coarser: Poisson | None) -> StencilLevel:
        """Return this level for a problem that differs in its boundary values alone: all that is derived is shared."""
        level = self.replaced(problem=problem, coarser=coarser)
        vars(level).update(fused=self.fused, operator=self.operator)
        return level

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("fused", "turns", "_nested_transfers")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    @cached_property
    def fused(self) -> FusedSweeps | FusedSteps | None:
        """The fused half-cycles for these slots, where there are any."""
        if not self.fuses or self.coarser is None:
            return None
        slots = Slots(*(getattr(self, name) for name in SLOTS))
        return fused_half_cycles(self.problem, self.coarser, slots)

    @cached_property
    def turns(self) -> bool:  # type: ignore[override]
        """Whether ascending and descending again are one pass over memory."""
        return self.fused is not None and self.fused.turns

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        if self.fused is None:
            return super().descend(b, u, coarser)
        return *self.fused.descend(b, u), None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        return super().ascend(b, u, start, coarse) if self.fused is None else self.fused.ascend(b, u, coarse)

    def ascend_measured(self, b: Array, u: Array, start: Array | None, coarse: Array) -> tuple[float, Array]:
        if not isinstance(self.fused, FusedSweeps) or not self.turns:
            return super().ascend_measured(b, u, start, coarse)
        return self.fused.ascend_measured(b, u, coarse), u

    def turn(
        self, b: Array, u: Array, start: Array | None, coarse: Array, coarser: Level, keep: bool
    ) -> tuple[float, Array | None, Descent]:
        if not isinstance(self.fused, FusedSweeps) or not self.turns:
            return super().turn(b, u, start, coarse, coarser, keep)
        kept = np.empty_like(u) if keep else None
        norm, coarse_b = self.fused.turn(b, u, coarse, kept)
        return norm, kept, (u, coarse_b, None)

    def right_hand_side(self, f: Array) -> Array:
        problem = self.problem
        return f if problem.homogeneous and not problem.singular else problem.compatible(problem.folded(f))

    def nested_restriction(self, f: Array) -> Array:
        return self._nested_transfers[0](f) if self.fused is None or not self.fused.nests else self.fused.restrict_source(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self._nested_transfers[1](u)

    def descend_nested(self, b: Array, coarse: Array, coarser: Level) -> Descent:
        if self.fused is None or not self.fused.nests:
            return super().descend_nested(b, coarse, coarser)
        return *self.fused.descend_nested(b, coarse), None

    @cached_property
    def _nested_transfers(self) -> tuple[SeparableTransfer, SeparableTransfer]:
        """The transfers of nested iteration: of a source down, of a solution up."""
        return nested_transfers(self.problem.grid, self.coarser.grid)


def levels_of(problem: Poisson, configuration: Configuration) -> tuple[StencilLevel, ...]:
    """Return the levels for a problem, finest first."""
    if problem.has_waves:
        check_waves(problem)
    problems = _coarsened(problem, configuration.max_levels)
    levels = [_filled(fine, coarse, configuration) for fine, coarse in pairwise(problems)]
    coarsest = "fft" if problem.has_waves and configuration.coarsest == "direct" else configuration.coarsest
    return (*levels, _coarsest(problems[-1], coarsest, problem.operator.norm_bound))


def _coarsest(problem: Poisson, solver: str | Smoother, largest: float) -> StencilLevel:
    smoother = COARSEST[solver](problem, largest) if isinstance(solver, str) else fitted(solver)
    return StencilLevel(problem, None, {"smoother": smoother})


def with_reaction(levels: Sequence[StencilLevel], problem: Poisson, solver: str | Smoother) -> list[StencilLevel]:
    """Return levels for a problem that differs in c alone, slots kept but for the solver of the coarsest."""
    problems = [problem, *(level.problem.with_reaction(problem.reaction) for level in levels[1:])]
    pairs = zip(levels, pairwise(problems), strict=False)
    finer = [level.replaced(problem=fine, coarser=coarse) for level, (fine, coarse) in pairs]
    return [*finer, _coarsest(problems[-1], solver, problem.operator.norm_bound)]


def _coarsened(problem: Poisson, max_levels: int | None) -> list[Poisson]:
    """Coarsen until few enough unknowns are left, one is left, or the number of levels is reached; once, where possible."""
    problems = [problem]
    while max_levels is None or len(problems) < max_levels:
        enough = COARSEST_UNKNOWNS if max_levels is None and len(problems) > 1 else FEWEST_UNKNOWNS
        coarser = problems[-1].coarsened() if problems[-1].grid.size > enough else None
        if coarser is None:
            break
        problems.append(coarser)
    return problems


def _filled(problem: Poisson, coarser: Poisson, configuration: Configuration) -> StencilLevel:
    """Return a level with the slots of a configuration."""
    fine, coarse = problem.grid, coarser.grid
    transfer, smoothing = configuration.state_transfer, configuration.smoothing
    slots = {
        "smoother": smoothing.before(fitted),
        "post_smoother": smoothing.after(fitted),
        "restriction": between(configuration.restriction, fine, coarse, coarse.shape),
        "prolongation": between(configuration.prolongation, fine, coarse, fine.shape),
        "state_transfer": None if transfer is None else between(transfer, fine, coarse, coarse.shape),
    }
    return StencilLevel(problem, coarser, slots)
