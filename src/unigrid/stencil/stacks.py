"""Several right-hand sides through one hierarchy in step: one call of a kernel is for all of them.

The cycle is `cycle.MultigridCycle`, its levels those of `hierarchy`; arrays have an axis more in front, and norms are arrays.
What each right-hand side needs, another cycle or none, is decided by its own `iterate.Course`, as in a call of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, MultigridCycle, NestedLevel
from ..iterate import Course, System, Tolerance
from ..solution import Solution
from .coarse import DirectSolver
from .hierarchy import StencilLevel
from .iterations import Cycles, Run
from .kernels.cpu.fused import FusedSweeps
from .kernels.cpu.fused_stacks import StackedSweeps

Array = NDArray[np.floating]


class Entry(NamedTuple):
    """One of the right-hand sides: its run, its system, its start, and what makes the outcome of its iteration a solution."""

    run: Run
    system: System
    start: Array | None
    finish: Callable[[Solution], Solution]


def can_stack(cycle: MultigridCycle) -> bool:
    """Whether the levels of a cycle have half-cycles for stacks."""
    levels = cycle.levels
    fit = all(isinstance(level, StencilLevel) for level in levels) and len(levels) > 1
    return fit and all(isinstance(level.fused, FusedSweeps) and level.turns and level.fused.nests for level in levels[:-1])  # type: ignore[attr-defined]


Part = tuple["StackCycles", Sequence[int]]  # iterations in step, and the numbers of their right-hand sides


@final
class StackLevel(NestedLevel):
    """A level for a stack of so many arrays."""

    turns = True

    def __init__(self, level: StencilLevel, count: int, out: Array | None = None) -> None:
        self._level, self.operator = level, level.operator
        self._fused = StackedSweeps(level.fused, count, out) if isinstance(level.fused, FusedSweeps) else None

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        if self._fused is not None:
            return *self._fused.descend(b, u), None
        smoother = self._level.smoother
        if isinstance(smoother, DirectSolver):
            return smoother.of_each(b), None, None
        starts = [None] * len(b) if u is None else u
        return np.stack([self._level.descend(*each, None)[0] for each in zip(b, starts, strict=True)]), None, None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        assert self._fused is not None
        return self._fused.ascend(b, u, coarse)

    def ascend_measured(self, b: Array, u: Array, start: Array | None, coarse: Array) -> tuple[Any, Array]:
        assert self._fused is not None
        return self._fused.ascend_measured(b, u, coarse), u

    def turn(
        self, b: Array, u: Array, start: Array | None, coarse: Array, coarser: Level, keep: bool
    ) -> tuple[Any, Array | None, Descent]:
        assert self._fused is not None
        norms, coarse_b = self._fused.turn(b, u, coarse)
        return norms, None, (u, coarse_b, None)

    def right_hand_side(self, f: Array) -> Array:
        problem = self._level.problem
        as_it_is = problem.homogeneous and not problem.singular
        return f if as_it_is else np.stack([self._level.right_hand_side(each) for each in f])

    def nested_restriction(self, f: Array) -> Array:
        assert self._fused is not None
        return self._fused.restrict_source(f)

    def nested_prolongation(self, u: Array) -> Array:
        return np.stack([self._level.nested_prolongation(each) for each in u])

    def descend_nested(self, b: Array, coarse: Array, coarser: Level) -> Descent:
        assert self._fused is not None
        return *self._fused.descend_nested(b, coarse), None


@final
class StackCycle(MultigridCycle):
    """A cycle for a stack of so many arrays, whose solutions are written to `out`, if that is given."""

    def __init__(self, cycle: MultigridCycle, count: int, out: Array | None = None) -> None:
        finest, *coarser = cycle.levels
        self.kind = cycle.kind
        self.levels = [StackLevel(finest, count, out), *(StackLevel(level, count) for level in coarser)]  # type: ignore[arg-type]


@final
class StackCycles(Cycles):
    """The iterations of several right-hand sides in step. Norms are arrays, and may be NaN."""

    def _hold(self, norm: Any, u: Array, kept: Array | None, was_under_way: bool) -> None:
        self._u = self._kept = u

    def step_of_each(self, look_ahead: bool) -> tuple[list[float], Array]:
        """Do one iteration of each; return the norms of their residuals, and what is held of their iterates."""
        norms: Any = self.step(look_ahead)
        assert self._u is not None
        return norms.tolist(), self._u

    def taken(self, at: list[int], cycle: StackCycle) -> StackCycles:
        """Return the iterations of these places alone, as far as they are, with a cycle for so many."""
        run = self._run
        b = run.b[at]
        part = StackCycles(cycle, replace(run, b=b, f=b if run.f is run.b else run.f[at]))
        part._u = part._kept = None if self._u is None else self._u[at]
        part._begins, part.under_way = self._begins, self.under_way
        part._descent = None if self._descent is None else (part._u, self._descent[1][at], None)
        return part


@final
class Stacks:
    """Solves for blocks of right-hand sides with one cycle."""

    def __init__(self, cycle: MultigridCycle, tolerance: Tolerance) -> None:
        self._cycle, self._tolerance = cycle, tolerance

    def solve(
        self, stack: Array, f: Sequence[Array], entries: Sequence[Entry], out: Array, alone: Callable[[int], Solution]
    ) -> list[Solution]:
        """Return the solutions for the entries, made of the arrays f, the rows of a stack; they are in `out`, or elsewhere.

        `alone` solves for one whose iterates become NaN or infinite.
        """
        run = entries[0].run
        courses = [Course(each.system, self._tolerance, each.start, run.nested) for each in entries]
        found: dict[int, Solution] = {}

        def end(number: int, u: Array | None) -> None:
            course = courses[number]
            assert course.verdict is not None
            found[number] = entries[number].finish(course.solution(u, *course.verdict))

        for number, course in enumerate(courses):
            if course.verdict is not None:
                end(number, course.start)
        under_way = self._going_on(self._begun(stack, f, entries, out), range(len(entries)), found)
        while under_way:
            cycles, rows = under_way.pop()
            ahead = [courses[number].looks_ahead for number in rows]
            if any(ahead) and not all(ahead):
                under_way += self._parts(cycles, rows, ahead)
                continue
            for norm, u, number in zip(*cycles.step_of_each(ahead[0]), rows, strict=True):
                if not math.isfinite(norm):
                    found[number] = alone(number)
                    continue
                courses[number].add(norm, u)
                if courses[number].verdict is not None and not cycles.under_way:
                    end(number, run.shown(u))
            under_way += self._going_on(cycles, rows, found)
        return [found[number] for number in range(len(entries))]

    def _begun(self, stack: Array, f: Sequence[Array], entries: Sequence[Entry], out: Array) -> StackCycles:
        run = entries[0].run
        as_given = all(each.run.b is row for each, row in zip(entries, f, strict=True))
        b = stack if as_given else np.stack([each.run.b for each in entries])
        same = all(each.run.f is each.run.b for each in entries)
        run = replace(run, b=b, f=b if same else np.stack([each.run.f for each in entries]))
        cycles = StackCycles(StackCycle(self._cycle, len(entries), out), run)
        cycles.start(None if entries[0].start is None else np.stack([each.start for each in entries]))  # type: ignore[misc]
        return cycles

    def _going_on(self, cycles: StackCycles, rows: Sequence[int], found: Mapping[int, Solution]) -> list[Part]:
        return self._parts(cycles, rows, [None if number in found else True for number in rows])

    def _parts(self, cycles: StackCycles, rows: Sequence[int], keys: Sequence[bool | None]) -> list[Part]:
        """Return the iterations of rows of one key together, for each key but None."""
        if None not in keys and len(set(keys)) == 1:
            return [(cycles, rows)]
        parts: list[Part] = []
        for key in (True, False):
            at = [place for place, each in enumerate(keys) if each is key]
            if at:
                parts.append((cycles.taken(at, StackCycle(self._cycle, len(at))), [rows[place] for place in at]))
        return parts
