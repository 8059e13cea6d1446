"""Where the time of a solve goes, level by level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

from ..cycle import Descent, Level, MultigridCycle, NestedLevel
from ..solution import Solution
from .problem import Poisson

Array = Any
Watch = Callable[[int, Any], Level]  # puts something in the place of a level, given its number
DOWN, UP, TURN, SOURCE, VISIT = "down", "up", "turn", "source", "visit"


@final
@dataclass
class LevelProfile:
    """Calls and seconds of one level, by what was done: "down", "up", "turn" (up and down again), "source" (f restricted); or
    "visit", which is down and up.
    """

    shape: tuple[int, ...]
    calls: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all that was done here."""
        return sum(self.seconds.values())

    def add(self, kind: str, seconds: float) -> None:
        """Count a call that took so long."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        self.calls[kind] = self.calls.get(kind, 0) + 1


@final
@dataclass(frozen=True)
class Profile:
    """What `StencilCycle.profile` has measured. Printed, it is a table.

    seconds : of the whole solve; what the levels do not account for is checks, norms and the driver
    levels : finest first
    solution : the Solution
    """

    seconds: float
    levels: list[LevelProfile]
    solution: Solution

    @property
    def elsewhere(self) -> float:
        """Seconds that no level accounts for."""
        return self.seconds - sum(level.total for level in self.levels)

    def __str__(self) -> str:
        kinds = [kind for kind in (SOURCE, DOWN, TURN, UP, VISIT) if any(kind in level.calls for level in self.levels)]
        head = f"{'level':>6} {'grid':>18}" + "".join(f"{kind + ' ms':>12} {'calls':>5}" for kind in kinds) + f"{'share':>8}"
        lines = [f"{self.seconds * 1e3:.3g} ms, {self.solution.iterations} iterations, {self.solution.reason.value}", head]
        for number, level in enumerate(self.levels):
            parts = "".join(f"{level.seconds.get(kind, 0.0) * 1e3:>12.3f} {level.calls.get(kind, 0):>5}" for kind in kinds)
            shape = " x ".join(map(str, level.shape))
            lines.append(f"{number:>6} {shape:>18}{parts}{level.total / self.seconds:>8.1%}")
        rest = f"{'elsewhere':>25}" + f"{self.elsewhere / self.seconds:>{18 * len(kinds) + 8}.1%}"
        return "\n".join([*lines, rest])


@final
class Clock:
    """Measures what levels do, through `TimedLevel`s in their place."""

    def __init__(self, shapes: Iterable[tuple[int, ...]]) -> None:
        self.levels = [LevelProfile(shape) for shape in shapes]

    def watched(self, number: int, level: NestedLevel) -> TimedLevel:
        """Return a level that does the same, and is timed."""
        return TimedLevel(level, self.levels[number])

    def visited(self, cycle: Any) -> Any:
        """Return a GalerkinCycle that does the same, and whose visits of levels are timed, without those of coarser levels."""
        window = cycle.window and (cycle.window[0], self.visited(cycle.window[1]))
        watched, below = cycle._but(window=window), [0.0]

        def visit(b: Array, u: Array | None = None, kind: str | None = None, at: int = 0) -> Array:
            start = time.perf_counter()
            below.append(0.0)
            u = MultigridCycle.cycle(watched, b, u, kind, at)
            taken = time.perf_counter() - start
            self.levels[at].add(VISIT, taken - below.pop())
            below[-1] += taken
            return u

        vars(watched)["cycle"] = visit
        return watched

    def profile(self, run: Callable[[], Solution]) -> Profile:
        """Run; return where the time went."""
        start = time.perf_counter()
        solution = run()
        return Profile(time.perf_counter() - start, self.levels, solution)


def profile_visits(cycle: Any, f: Array, **options: Any) -> Profile:
    """Solve by a GalerkinCycle, and return where the time went, level by level; options as of `solve`."""
    cycle.solve(f, **options)
    clock = Clock(cycle.shapes)
    return clock.profile(partial(clock.visited(cycle).solve, f, **options))


@final
class TimedLevel(NestedLevel):
    """A level, every pass through which is timed."""

    problem: Poisson

    def __init__(self, level: NestedLevel, times: LevelProfile) -> None:
        self._level, self._times = level, times
        self.operator, self.problem, self.turns = level.operator, level.problem, level.turns  # type: ignore[attr-defined]

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        with self._timed(DOWN):
            return self._level.descend(b, u, coarser)

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        with self._timed(UP):
            return self._level.ascend(b, u, start, coarse)

    def ascend_measured(self, b: Array, u: Array, start: Array | None, coarse: Array) -> tuple[float, Array]:
        with self._timed(UP):
            return self._level.ascend_measured(b, u, start, coarse)

    def turn(
        self, b: Array, u: Array, start: Array | None, coarse: Array, coarser: Level, keep: bool
    ) -> tuple[float, Array | None, Descent]:
        with self._timed(TURN):
            return self._level.turn(b, u, start, coarse, coarser, keep)

    def right_hand_side(self, f: Array) -> Array:
        return self._level.right_hand_side(f)

    def nested_restriction(self, f: Array) -> Array:
        with self._timed(SOURCE):
            return self._level.nested_restriction(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self._level.nested_prolongation(u)

    def descend_nested(self, b: Array, coarse: Array, coarser: Level) -> Descent:
        with self._timed(DOWN):
            return self._level.descend_nested(b, coarse, coarser)

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._times.add(kind, time.perf_counter() - start)
