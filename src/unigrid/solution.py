"""The outcome of an iteration, and why it ended."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Array = Any
GUIDE = "More: the page how-to/failures of the documentation."  # which shows each reason and what to do


class Reason(enum.Enum):
    """Why an iteration ended. The value is the name; `text` explains what happened, why, and what to do."""

    CONVERGED = "converged"
    MAXITER = "maxiter"
    DIVERGED = "diverged"
    STAGNATED = "stagnated"
    NONFINITE = "nonfinite"
    STOPPED = "stopped"

    @property
    def text(self) -> str:
        """What happened, why, and what to do."""
        return _TEXTS[self]

    def __str__(self) -> str:
        return self.value


_TEXTS = {
    Reason.CONVERGED: "The residual is at or below the tolerance, or the one pass of full multigrid is done.",
    Reason.MAXITER: "The allowed number of iterations is used up before the tolerance was met. If the residuals still fall, "
    "raise maxiter; if they fall slowly, take more sweeps (pre, post), the W-cycle, or accelerate='cg'.",
    Reason.DIVERGED: "The residual grows from cycle to cycle: the smoother amplifies the error. Take a smaller omega "
    "(red-black converges for 0 < omega < 2, Jacobi for 0 < omega < 1), check a smoother or transfer of your own, or, where no "
    "side is Dirichlet and the reaction is tiny, set it to 0: such a problem is singular but for rounding.",
    Reason.STAGNATED: "The residual no longer falls: the tolerance lies below what the precision of the numbers, or this "
    "cycle, can reach. Take rtol=None (the reachable level), float64 input, or other slots.",
    Reason.NONFINITE: "A cycle made NaN or infinity; the last finite iterate is returned. Look for overflow (rescale f), "
    "a smoother with omega >= 2, or a fault in a smoother or transfer of your own.",
    Reason.STOPPED: "The callback raised StopIteration; the current iterate is returned.",
}


@dataclass(frozen=True, eq=False)
class Solution:
    """The outcome of an iteration for A u = b.

    Attributes
    ----------
    u : array
        The last iterate (for `nonfinite`: the last finite one).
    converged : bool
        Whether the stopping test held: ||b - A u|| <= max(rtol ||b||, atol), or the round-off level where rtol is None; or
        the pass of full multigrid of rtol="discretization" is done.
    reason : Reason
        Why the iteration ended; `reason.text` explains it, `message` adds this run's numbers.
    iterations : int
        Number of iterations done; a full-multigrid start counts as one.
    residuals : tuple of float
        Plain 2-norms of b - A u: `residuals[0]` before the first iteration, `residuals[k]` after iteration k.
        `residuals[-1]` belongs to `u`.
    message : str
        One sentence: what happened in this run, with its numbers.
    nested_start : bool
        Whether the first iteration was full multigrid; `rate` leaves it out.
    parts : tuple of Solution
        For a stack of right-hand sides, the outcome of each, in C order; the fields above then describe the whole stack.
    """

    u: Array = field(repr=False)
    converged: bool
    reason: Reason
    iterations: int
    residuals: tuple[float, ...]
    message: str = ""
    nested_start: bool = False
    parts: tuple[Solution, ...] = field(default=(), repr=False)

    @property
    def rate(self) -> float:
        """Convergence factor per iteration: geometric mean of the last half of the ratios of residuals, the full-multigrid
        start left out; NaN where there is no ratio.
        """
        residuals = self.residuals[1:] if self.nested_start else self.residuals
        ratios = [new / old for old, new in pairwise(residuals) if old > 0.0]
        last = ratios[len(ratios) // 2 :]
        if not last or not all(math.isfinite(ratio) for ratio in last):
            return math.nan
        return math.prod(last) ** (1.0 / len(last))


def stacked(parts: list[Solution], u: Array) -> Solution:
    """Return the outcome for a stack of right-hand sides: the reason is the first failure's, the residuals are those of the
    whole stack, a part that has ended keeping its last one.
    """
    iterations = max((part.iterations for part in parts), default=0)
    failed = [(number, part) for number, part in enumerate(parts) if not part.converged]
    histories = [part.residuals + (part.residuals[-1],) * (iterations - part.iterations) for part in parts]
    residuals = tuple(math.hypot(*norms) for norms in zip(*histories, strict=True))
    # The first failure; one that was stopped on request must not hide another that failed.
    number, worst = min(failed, key=lambda found: found[1].reason is Reason.STOPPED) if failed else (0, None)
    message = f"{len(parts) - len(failed)} of {len(parts)} right-hand sides converged."
    if failed and worst is not None:
        message += f" Number {number}: {worst.message}"
    reason = worst.reason if worst is not None else Reason.CONVERGED
    nested = bool(parts) and all(part.nested_start for part in parts)
    return Solution(u, not failed, reason, iterations, residuals, message, nested, tuple(parts))


class ConvergenceError(RuntimeError):
    """Raised when an iteration does not converge. `solution` holds all that there is; `raise_on_failure=False` returns it."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(solution)
        self.solution = solution

    def __str__(self) -> str:
        return (
            f"{self.solution.message} {self.solution.reason.text} "
            f"The iterate is in this exception's .solution; raise_on_failure=False returns it instead. {GUIDE}"
        )
