"""The driver: repeats an iteration until the residual is small enough, or until that is hopeless, and reports which.

Everything about *when* to stop is here and nowhere else; everything about arrays is in an `Iteration`. So both
backends share it.

An iteration may begin the next cycle before the residual of this one is known, as ascending and descending again are one pass
over memory (`cycle.Level.turn`). Whether it should look ahead is decided here, from the residuals so far and the iterations
that are left, and never depends on whether somebody watches. A run ends only where no cycle is under way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, final

from .messages import checked_count, checked_number, shown
from .solution import Array, ConvergenceError, Reason, Solution

Callback = Callable[[Solution], Any]

DISCRETIZATION = "discretization"  # in place of a relative tolerance: one pass of full multigrid, which is as exact as that

# A residual this many times the initial one, or one that rose this often in a row, will not come back.
DIVERGED_GROWTH, DIVERGED_RISES = 1e4, 5
# No gain of a percent on the smallest residual in this many iterations, or, at round-off level, no halving in one.
STAGNATED_GAIN, STAGNATED_ITERATIONS, ROUND_OFF_RANGE = 0.99, 5, 10.0
# Rounding excuses at most this part of ||b||: a residual near ||b|| means that no digit of u need be right. The same holds for
# one pass of full multigrid.
EXCUSED = 0.5
# The expected factor of the first iteration. Looking ahead in vain costs a cycle, failing to look ahead a pass over memory.
FIRST_RATE = 0.01


@dataclass(frozen=True)
class System:
    """A u = b as the driver needs it: two measurements, and how a state is shown or made."""

    b: Array
    residual_norm: Callable[[Array | None], float]  # u -> ||b - A u||
    round_off: Callable[[Array | None], float]  # u -> the residual that rounding of u and b leaves
    round_off_bound: float = math.inf  # which round_off never exceeds: for residuals far above it, u need not be measured
    view: Callable[[Array], Array] = lambda u: u  # what a callback receives: read-only where the backend can
    zero: Callable[[], Array | None] = lambda: None  # the state that None stands for


class Iteration(ABC):
    """A state that improves step by step."""

    under_way: bool = False  # whether the next cycle has begun
    nested_start: bool = False  # whether the first step is full multigrid
    mixed: bool = False  # whether cycles run in a lower precision than the rest

    @abstractmethod
    def start(self, u: Array | None) -> None:
        """Begin at u, which is never changed; None is zero."""

    @abstractmethod
    def step(self, look_ahead: bool) -> float:
        """Do one iteration; return the norm of its residual. With `look_ahead` the next one may be begun as well."""

    @abstractmethod
    def current(self) -> Array | None:
        """Return the iterate of the last finite norm; None where it is zero, or was overwritten as nobody keeps iterates."""

    @property
    @abstractmethod
    def state(self) -> Array | None:
        """What is held of the iterate, under way or not: only its size counts."""


@final
class Repeated(Iteration):
    """Any step (b, u) -> u, repeated.

    Parameters
    ----------
    step : (b, u) -> u
        One iteration. It must not change its arguments, so that the last finite iterate can be returned.
    system : System
    nested : () -> u, optional
        Full multigrid: the first iteration, in place of `step`.
    """

    def __init__(
        self, step: Callable[[Array, Array], Array], system: System, nested: Callable[[], Array] | None = None
    ) -> None:
        self._step, self._system, self._nested = step, system, nested
        self.nested_start = nested is not None

    def start(self, u: Array | None) -> None:
        self._u, self._begins = u, True

    def step(self, look_ahead: bool) -> float:
        nested, self._begins = self._nested if self._begins else None, False
        u = self._step(self._system.b, self._u) if nested is None else nested()
        norm = self._system.residual_norm(u)
        if math.isfinite(norm):
            self._u = u
        return norm

    def current(self) -> Array | None:
        return self._u

    @property
    def state(self) -> Array | None:
        return self._u


@dataclass(frozen=True)
class Tolerance:
    """Stop when ||b - A u|| <= max(rtol ||b||, atol).

    With `rtol=None` the relative tolerance is `default_rtol`, or the round-off level where that is larger. With `one_pass` the
    `maxiter` iterations are enough, whatever they leave.
    """

    rtol: float | None
    atol: float
    maxiter: int
    default_rtol: float
    one_pass: bool = False

    def __post_init__(self) -> None:
        if self.rtol is not None and not _is_plain(self.rtol):
            object.__setattr__(self, "rtol", checked_number("rtol", self.rtol, "a finite number >= 0 or None"))
        if not _is_plain(self.atol):
            object.__setattr__(self, "atol", checked_number("atol", self.atol))
        if type(self.maxiter) is not int or self.maxiter < 1:
            object.__setattr__(self, "maxiter", checked_count("maxiter", self.maxiter))

    def target(self, b_norm: float) -> float:
        """The absolute tolerance, round-off aside."""
        return max((self.default_rtol if self.rtol is None else self.rtol) * b_norm, self.atol)


def _is_plain(value: Any) -> bool:
    """Whether a tolerance needs neither a check nor a conversion: that of most calls."""
    return type(value) is float and 0.0 <= value < math.inf


def iterate(
    iteration: Iteration, u: Array | None, system: System, tolerance: Tolerance, callback: Callback | None = None
) -> Solution:
    """Return the Solution that an iteration leads to, converged or not; nothing is raised for a failure.

    Parameters
    ----------
    iteration : Iteration
        With a callback, it must keep its iterates.
    u : array or None
        The start; None is zero.
    callback : Solution -> None, optional
        Receives the Solution so far after each iteration. StopIteration ends the run as `stopped`; any other exception passes.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable with a Solution, or None, got {shown(callback)}")
    course = Course(system, tolerance, u, iteration.nested_start)
    if course.verdict is not None:
        return course.solution(course.start, *course.verdict)
    iteration.start(course.start)
    while True:
        norm = iteration.step(course.looks_ahead)
        if not math.isfinite(norm):
            count = len(course.residuals)
            state = _last_finite(iteration, course.start, count - 1)
            return course.solution(state, Reason.NONFINITE, f"; iteration {count} made NaN or infinity")
        course.add(norm, iteration.state)
        ended = None if iteration.under_way else course.verdict
        if callback is not None:
            so_far = course.solution(iteration.current(), *(ended or (Reason.MAXITER, ", still running")))
            try:
                callback(replace(so_far, u=system.view(so_far.u)))
            except StopIteration:
                return course.solution(iteration.current(), *(ended or (Reason.STOPPED, ", by the callback")))
        if ended is not None:
            return course.solution(iteration.current(), *ended)


@final
class Course:
    """The residuals of one run so far, and what they decide: whether to begin the next cycle early, whether and why to stop."""

    def __init__(self, system: System, tolerance: Tolerance, u: Array | None, nested_start: bool) -> None:
        self._system, self._tolerance, self._nested_start = system, tolerance, nested_start
        self._b_norm = b_norm = system.residual_norm(None)
        self.start = u = None if b_norm == 0.0 else u  # b = 0 has the solution 0, whatever the start
        self.residuals = [b_norm if u is None else system.residual_norm(u)]
        met = _met(self.residuals[0], b_norm, tolerance, (lambda: 0.0) if u is None else partial(system.round_off, u))
        self.verdict = None if met is None else (Reason.CONVERGED, f"{met}: the start is already the solution")

    @property
    def looks_ahead(self) -> bool:
        """Whether the iteration that begins will gain, but leave more than the tolerance, and another one is allowed."""
        residuals, tolerance = self.residuals, self._tolerance
        return (
            self.verdict is None
            and len(residuals) < tolerance.maxiter
            and tolerance.target(self._b_norm) < predicted(residuals) < residuals[-1]
        )

    def add(self, norm: float, state: Array | None) -> None:
        """Take the residual of another iteration, and what is held of its iterate."""
        self.residuals.append(norm)
        system = self._system
        near = norm <= ROUND_OFF_RANGE * system.round_off_bound
        round_off = cache(lambda: system.round_off(state)) if near else lambda: 0.0
        self.verdict = _verdict(self.residuals, self._b_norm, self._tolerance, round_off)

    def solution(self, u: Array | None, reason: Reason, detail: str) -> Solution:
        """Return the outcome with this iterate; None is zero."""
        residuals = tuple(self.residuals)
        iterations, reached = len(residuals) - 1, _relative(residuals[-1], self._b_norm)
        message = f"{reason.value}: residual {reached} after {iterations} iteration{'s' * (iterations != 1)}{detail}."
        u = self._system.zero() if u is None else u
        converged = reason is Reason.CONVERGED
        return Solution(u, converged, reason, iterations, residuals, message, nested_start=self._nested_start)


def predicted(residuals: Sequence[float]) -> float:
    """Return the residual expected after one more iteration: the last factor again, FIRST_RATE where there is none."""
    return residuals[-1] * (residuals[-1] / residuals[-2] if len(residuals) > 1 and residuals[-2] > 0.0 else FIRST_RATE)


def _last_finite(iteration: Iteration, u: Array | None, count: int) -> Array | None:
    """Return the iterate after so many iterations from u: the one at hand, or repeated with every iterate kept."""
    if count == 0:
        return u
    at_hand = iteration.current()
    if at_hand is not None:
        return at_hand
    iteration.start(u)
    for _ in range(count):
        iteration.step(look_ahead=False)
    return iteration.current()


def _verdict(
    residuals: list[float], b_norm: float, tolerance: Tolerance, round_off: Callable[[], float]
) -> tuple[Reason, str] | None:
    """Return whether and why to stop after these residuals. Tests are written so that NaN can never pass one."""
    norm, iterations, target = residuals[-1], len(residuals) - 1, tolerance.target(b_norm)
    met = _met(norm, b_norm, tolerance, round_off)
    if met is not None:
        return Reason.CONVERGED, met
    if norm > DIVERGED_GROWTH * residuals[0] or _rises(residuals) >= DIVERGED_RISES:
        return Reason.DIVERGED, f", {norm / residuals[0]:.1e} times the initial residual"
    if iterations > 1 and norm > 0.5 * residuals[-2] and max(target, norm) < ROUND_OFF_RANGE * (level := round_off()):
        wanted, left = _relative(target, b_norm), _relative(level, b_norm)
        return Reason.STAGNATED, f": the tolerance {wanted} is not reachable, rounding alone leaves about {left}"
    if _stagnates(residuals):
        return Reason.STAGNATED, f": no gain in {STAGNATED_ITERATIONS} iterations (tolerance {_relative(target, b_norm)})"
    if iterations >= tolerance.maxiter and tolerance.one_pass:
        if norm <= EXCUSED * b_norm:
            return Reason.CONVERGED, ": one pass of full multigrid, to the accuracy of the discretization if f is smooth"
        return Reason.MAXITER, ": one pass of full multigrid is not enough here; give a number for rtol, or more smoothing"
    if iterations >= tolerance.maxiter:
        return Reason.MAXITER, f" of at most {tolerance.maxiter} (tolerance {_relative(target, b_norm)})"
    return None


def _stagnates(residuals: list[float]) -> bool:
    """Return whether the last iterations brought nothing: no new smallest residual, and no fall either, as it may have begun to
    fall from above all that came before (full multigrid can begin above ||b||).
    """
    if len(residuals) < STAGNATED_ITERATIONS + 2:
        return False
    last, before = residuals[-STAGNATED_ITERATIONS:], residuals[:-STAGNATED_ITERATIONS]
    return min(last) > STAGNATED_GAIN * min(before) and last[-1] > STAGNATED_GAIN * before[-1]


def _relative(norm: float, b_norm: float) -> str:
    """Write a residual or a tolerance, all in one unit."""
    return f"{norm / b_norm:.1e} ||b||" if b_norm > 0 else f"{norm:.1e}"


def _met(norm: float, b_norm: float, tolerance: Tolerance, round_off: Callable[[], float]) -> str | None:
    """Return which tolerance the residual meets, None where it meets none."""
    target = tolerance.target(b_norm)
    if norm <= target:
        return f" (tolerance {_relative(target, b_norm)})"
    if tolerance.rtol is None and norm <= min(round_off(), EXCUSED * b_norm):
        level, wanted = _relative(round_off(), b_norm), _relative(target, b_norm)
        return f", at the round-off level {level}, which lies above the tolerance {wanted}"
    return None


def _rises(residuals: list[float]) -> int:
    """Return how often in a row the residual has risen at the end, beyond its initial value; 0 where it has not."""
    if residuals[-1] <= residuals[0]:
        return 0
    count = 0
    for old, new in zip(reversed(residuals[:-1]), reversed(residuals), strict=False):
        if new <= old:
            break
        count += 1
    return count


def raise_unless_converged(solution: Solution) -> Solution:
    """Return the solution; raise ConvergenceError, which carries it, where the iteration failed. A stop on request is none."""
    if solution.converged or solution.reason is Reason.STOPPED:
        return solution
    raise ConvergenceError(solution)
