"""The history of one or more runs: residuals over iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..messages import checked_number
from .style import add_legend, label_steps, looks_of

if TYPE_CHECKING:
    from ..solution import Solution

MOST_RATES = 3  # more lines of asymptotic rates than these would only cover the runs


def plot_history(solutions: Mapping[Any, Solution], *, rtol: float | None = None) -> Figure:
    """Return a figure of the residuals of one or more runs, relative to the initial one, on a logarithmic scale.

    A thin line continues each run's asymptotic rate, `Solution.rate`, which the legend gives too.

    Parameters
    ----------
    solutions : mapping of labels to Solution
        A label is a str or a pair (group, variant): runs of one group then share their color, those of one variant the marker.
    rtol : float, optional
        The relative tolerance, drawn as a line.
    """
    many = len(solutions) > 3
    figure = Figure(figsize=(8.2 if many else 6.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _draw_runs(axes, solutions, rtol)
    add_legend(axes, beside=many)
    return figure


def draw_history(axes: Axes, solutions: Mapping[Any, Solution], *, rtol: float | None = None) -> None:
    """Draw the histories into `axes`; arguments as of `plot_history`."""
    _draw_runs(axes, solutions, rtol)
    add_legend(axes)


def _draw_runs(axes: Axes, solutions: Mapping[Any, Solution], rtol: float | None) -> None:
    looks = looks_of(list(solutions))
    for label, solution in solutions.items():
        text = label if isinstance(label, str) else ", ".join(label)
        if not math.isnan(solution.rate):
            text += f": factor {solution.rate:.3f}"
        axes.plot(relative_residuals(solution), label=text, linewidth=1.4, **looks[label])
        if len(solutions) <= MOST_RATES:
            _draw_rate(axes, solution, looks[label]["color"])
    rtol = 0.0 if rtol is None else checked_number("rtol", rtol)
    if rtol > 0:
        label = f"tolerance {rtol:.2g}".replace("e-0", "e-")
        axes.axhline(rtol, color="0.4", linewidth=0.9, linestyle=(0, (6, 3)), label=label, zorder=1)
    axes.set_yscale("log")
    label_steps(axes, "iteration", r"relative residual  $\|b - A u_k\| \, / \, \|b - A u_0\|$")


def _draw_rate(axes: Axes, solution: Solution, color: str) -> None:
    """Draw the line that falls by `rate` per iteration and ends with the run."""
    relative, rate = relative_residuals(solution), solution.rate
    if not rate > 0 or not np.isfinite(relative[-1]):
        return
    iterations = np.arange(1 if solution.nested_start else 0, len(relative))
    fitted = relative[-1] * rate ** (iterations - iterations[-1])
    axes.plot(iterations, fitted, color=color, linewidth=0.7, alpha=0.7, zorder=1, label="_rate")


def relative_residuals(solution: Solution) -> NDArray[np.float64]:
    """Return the residuals over the initial one; NaN, which leaves a gap, for a zero that a logarithm cannot show."""
    residuals = np.array(solution.residuals, dtype=np.float64)
    relative = residuals / residuals[0] if residuals[0] > 0 else np.ones_like(residuals)
    return np.where(relative > 0, relative, np.nan)
