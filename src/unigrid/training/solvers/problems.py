"""The Poisson problems that a run is trained on: built, described in plain values, and built again from those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...messages import checked_number
from ...stencil.problem import Poisson as Poisson
from ...training_defaults import POISSON, POISSON_SIZE


def anisotropic(eps: float, n: int = POISSON_SIZE) -> Poisson:
    """Return -eps u_xx - u_yy = f on the unit square between Dirichlet sides, n x n unknowns.

    It is Poisson's equation on a box of length eps^(-1/2) along the first axis.
    """
    eps = checked_number("eps", eps, "a finite number > 0", lambda number: number > 0)
    return Poisson((n, n), lengths=(eps**-0.5, 1.0))


def description(problems: Sequence[Poisson]) -> dict[str, Any]:
    """Return problems in plain values."""
    entries = [
        {
            "shape": list(problem.shape), "lengths": [axis.length for axis in problem.grid.axes], "reaction": problem.reaction,
            "boundary": [[axis.low.__name__.lower(), axis.high.__name__.lower()] for axis in problem.grid.axes],
            "centering": problem.grid.axes[0].centering,
        }
        for problem in problems
    ]  # fmt: skip
    return {"name": POISSON, "problems": entries}


def problems_of(configuration: dict[str, Any], sizes: Sequence[int]) -> list[Poisson]:
    """Return the problems that a run was trained on, on grids of `sizes` unknowns along their first axis."""
    problems = []
    for known in configuration["dataset"]["problems"]:
        options = {name: known[name] for name in ("lengths", "reaction", "boundary", "centering")}
        for size in sizes:
            shape = [max(3, round((n + 1) * (size + 1) / (known["shape"][0] + 1)) - 1) for n in known["shape"]]
            problems.append(Poisson(shape, **options))
    return problems
