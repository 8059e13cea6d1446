"""The driver: repeats a step until the residual is small enough, or until that is hopeless, and says which.

A step is any `(b, u) -> u`: one multigrid cycle, one iteration of conjugate gradients. Everything about *when* to stop
lives here and nowhere else; everything about arrays lives in the functions of a `System`. So both backends share it.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from .messages import checked_count
from .solution import Array, ConvergenceError, Reason, Solution

Step = Callable[[Array, Array], Array]
Callback = Callable[[Solution], Any]

DISCRETIZATION = "discretization"  # in place of a relative tolerance: one pass of full multigrid, which is as exact as that

# A residual this many times the initial one, or one that rose this often in a row, will not come back.
DIVERGED_GROWTH, DIVERGED_RISES = 1e4, 5
# No gain of a percent on the smallest residual in this many iterations, or, at round-off level, no halving in one.
STAGNATED_GAIN, STAGNATED_ITERATIONS, ROUND_OFF_RANGE = 0.99, 5, 10.0


@dataclass(frozen=True)
class System:
    """A u = b as the driver sees it: the right-hand side, two measurements, and how a state is shown or made."""

    b: Array
    residual_norm: Callable[[Array | None], float]  # u -> ||b - A u||
    round_off: Callable[[Array], float]  # u -> the residual that rounding of u and b leaves
    view: Callable[[Array], Array] = lambda u: u  # what a callback may see: read-only where the backend can
    zero: Callable[[], Array | None] = lambda: None  # the state that None stands for


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
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if (name, value) != ("rtol", None) and not (
                isinstance(value, numbers.Real) and math.isfinite(value) and value >= 0
            ):
                raise ValueError(f"{name} must be a finite number >= 0{' or None' * (name == 'rtol')}, got {value!r}")
        checked_count("maxiter", self.maxiter)

    def target(self, b_norm: float) -> float:
        """The absolute tolerance, round-off aside."""
        return max((self.default_rtol if self.rtol is None else self.rtol) * b_norm, self.atol)


def iterate(
    step: Step,
    u: Array | None,
    system: System,
    tolerance: Tolerance,
    *,
    nested: Callable[[], Array] | None = None,
    callback: Callback | None = None,
) -> Solution:
    """Return the Solution that repeating `step` leads to, converged or not; nothing is raised for a failure.

    Parameters
    ----------
    step : (b, u) -> u
        One iteration. It must leave the u it is given as it is, so that the last finite iterate can be returned.
    u : array or None
        The start; None is zero.
    nested : () -> u, optional
        Full multigrid: the first iteration, in place of `step`.
    callback : Solution -> None, optional
        Sees the Solution so far after each iteration. StopIteration ends the run as `stopped`; any other exception passes.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable with a Solution, or None, got {callback!r}")
    b_norm = system.residual_norm(None)
    u = None if b_norm == 0.0 else u  # b = 0 has the solution 0, whatever the start
    residuals = [b_norm if u is None else system.residual_norm(u)]

    def solution(reason: Reason, detail: str) -> Solution:
        state = system.zero() if u is None else u
        return _outcome(state, reason, detail, tuple(residuals), b_norm, nested is not None)

    met = _met(residuals[-1], b_norm, tolerance, (lambda: 0.0) if u is None else partial(system.round_off, u))
    if met is not None:
        return solution(Reason.CONVERGED, f"{met}: the start is already the solution")
    while True:
        first = len(residuals) == 1
        new = nested() if first and nested is not None else step(system.b, u)
        norm = system.residual_norm(new)
        if not math.isfinite(norm):
            return solution(Reason.NONFINITE, f"; iteration {len(residuals)} made NaN or infinity")
        u = new
        residuals.append(norm)
        ended = _verdict(residuals, b_norm, tolerance, cache(partial(system.round_off, u)))
        if callback is not None:
            shown = solution(*(ended or (Reason.MAXITER, ", still running")))
            try:
                callback(replace(shown, u=system.view(shown.u)))
            except StopIteration:
                return solution(*(ended or (Reason.STOPPED, ", by the callback")))
        if ended is not None:
            return solution(*ended)


def after_one_more(solution: Solution, u: Array, system: System, tolerance: Tolerance) -> Solution | None:
    """Return the outcome of a run that had converged and did another iteration, to u; None if that misses the tolerance.

    For a step that had begun the iteration before it was known that no more were needed.
    """
    b_norm, norm = system.residual_norm(None), system.residual_norm(u)
    met = _met(norm, b_norm, tolerance, partial(system.round_off, u))
    if met is None:
        return None
    return _outcome(u, solution.reason, met, (*solution.residuals, norm), b_norm, solution.nested_start)


def _outcome(
    u: Array, reason: Reason, detail: str, residuals: tuple[float, ...], b_norm: float, nested_start: bool
) -> Solution:
    iterations, reached = len(residuals) - 1, _relative(residuals[-1], b_norm)
    message = f"{reason.value}: residual {reached} after {iterations} iteration{'s' * (iterations != 1)}{detail}."
    return Solution(u, reason is Reason.CONVERGED, reason, iterations, residuals, message, nested_start=nested_start)


def _verdict(
    residuals: list[float], b_norm: float, tolerance: Tolerance, round_off: Callable[[], float]
) -> tuple[Reason, str] | None:
    """Say whether and why to stop after these residuals. Tests are written so that NaN can never pass one."""
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
        return Reason.CONVERGED, ": one pass of full multigrid, to the accuracy of the discretization if f is smooth"
    if iterations >= tolerance.maxiter:
        return Reason.MAXITER, f" of at most {tolerance.maxiter} (tolerance {_relative(target, b_norm)})"
    return None


def _stagnates(residuals: list[float]) -> bool:
    """Say whether the last iterations brought nothing: no new smallest residual, and no fall either, as it may have begun to
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
    """Say which tolerance the residual meets, None where it meets none."""
    target = tolerance.target(b_norm)
    if norm <= target:
        return f" (tolerance {_relative(target, b_norm)})"
    if tolerance.rtol is None and norm <= round_off() <= b_norm:  # above ||b||, rounding leaves no digit of u right
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
