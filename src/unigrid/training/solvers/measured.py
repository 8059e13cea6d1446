"""How fast trained solvers converge, on grids of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...analysis.measured import measured_factor
from .net import PoissonNet
from .problems import problems_of

SIZES = (63, 127, 255)  # unknowns along the first axis


def factors_of(net: PoissonNet, configuration: dict[str, Any], sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """Return problem, shape and convergence factor on each problem that a run was trained on, on grids of these sizes."""
    return [
        {"problem": repr(problem), "shape": list(problem.shape), "factor": measured_factor(net.on(problem))}
        for problem in problems_of(configuration, sizes)
    ]
