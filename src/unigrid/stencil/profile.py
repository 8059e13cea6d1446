"""Where the time of a solve goes, level by level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, final

from numpy.typing import ArrayLike

from ..solution import Solution

if TYPE_CHECKING:
    from .hierarchy import StencilCycle

# What a level does, by the methods that do it. In flow the finest level is asked for its fused legs themselves.
DOWN, UP, TURN, NESTED = "down", "up", "turn", "source"
METHODS = {"descend": DOWN, "descend_nested": DOWN, "ascend": UP, "nested_restriction": NESTED}
LEGS = {"descend": DOWN, "descend_in_place": DOWN, "descend_nested": DOWN, "ascend_measured": UP, "turn": TURN}


@final
@dataclass
class LevelProfile:
    """Calls and seconds of one level, by what was done: "down", "up", "turn" (up and down again), "source" (f restricted)."""

    shape: tuple[int, ...]
    calls: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all that was done here."""
        return sum(self.seconds.values())


@final
@dataclass(frozen=True)
class Profile:
    """What `StencilCycle.profile` has measured. Printed, it is a table.

    seconds : of the whole solve; what the levels leave of it is checks, norms and the driver
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
        kinds = [kind for kind in (NESTED, DOWN, TURN, UP) if any(kind in level.calls for level in self.levels)]
        head = f"{'level':>6} {'grid':>18}" + "".join(f"{kind + ' ms':>12} {'calls':>5}" for kind in kinds) + f"{'share':>8}"
        lines = [f"{self.seconds * 1e3:.3g} ms, {self.solution.iterations} iterations, {self.solution.reason.value}", head]
        for number, level in enumerate(self.levels):
            parts = "".join(f"{level.seconds.get(kind, 0.0) * 1e3:>12.3f} {level.calls.get(kind, 0):>5}" for kind in kinds)
            shape = " x ".join(map(str, level.shape))
            lines.append(f"{number:>6} {shape:>18}{parts}{level.total / self.seconds:>8.1%}")
        rest = f"{'elsewhere':>25}" + f"{self.elsewhere / self.seconds:>{18 * len(kinds) + 8}.1%}"
        return "\n".join([*lines, rest])


def profile(cycle: StencilCycle, f: ArrayLike, **options: Any) -> Profile:
    """Solve twice, and return where the second time went; options as of `StencilCycle.solve`."""
    cycle.solve(f, **options)
    clock = _Clock([LevelProfile(level.problem.shape) for level in cycle.levels])
    twin = _watched(cycle, clock)
    start = time.perf_counter()
    solution = twin.solve(f, **options)
    return Profile(time.perf_counter() - start, clock.levels, solution)


def _watched(cycle: StencilCycle, clock: _Clock) -> StencilCycle:
    """Return a twin whose legs are noted, and those of the cycles that a solve derives from it."""
    twin = cycle.twin()
    twin.joins_levels = False  # or the small ones could not be told apart
    for derive in ("symmetric", "for_one_pass"):
        setattr(twin, derive, partial(_derived, getattr(cycle, derive), clock))
    for number, level in enumerate(twin.levels):
        if number == 0 and len(twin.levels) > 1 and level.legs is not None:
            level.exchange_legs(_Watched(level.legs, clock, number, LEGS))
        for name, kind in METHODS.items():
            setattr(level, name, clock.timed(getattr(level, name), number, kind))
    return twin


def _derived(derive: Callable[[], StencilCycle], clock: _Clock) -> StencilCycle:
    return _watched(derive(), clock)


@final
class _Clock:
    """Notes what levels do. A method that calls another of the same level is noted once."""

    def __init__(self, levels: list[LevelProfile]) -> None:
        self.levels = levels
        self._busy = [False] * len(levels)

    @contextmanager
    def noting(self, number: int, kind: str) -> Iterator[None]:
        if self._busy[number]:
            yield
            return
        level, self._busy[number], start = self.levels[number], True, time.perf_counter()
        try:
            yield
        finally:
            level.seconds[kind] = level.seconds.get(kind, 0.0) + time.perf_counter() - start
            level.calls[kind] = level.calls.get(kind, 0) + 1
            self._busy[number] = False

    def timed(self, method: Callable[..., Any], number: int, kind: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self.noting(number, kind):
                return method(*arguments)

        return call


@final
class _Watched:
    """An object, some of whose methods are noted."""

    def __init__(self, watched: Any, clock: _Clock, number: int, methods: dict[str, str]) -> None:
        self._watched, self._clock, self._number, self._methods = watched, clock, number, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._watched, name)
        return self._clock.timed(found, self._number, self._methods[name]) if name in self._methods else found
