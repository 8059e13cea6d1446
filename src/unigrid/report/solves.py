"""The page of a solve: what came out, how the residuals fell and what that means, the levels and their times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..messages import checked_number, shown
from ..solution import Reason, Solution
from .page import Page, Table, render, require_jinja2, shortened, surroundings, table

if TYPE_CHECKING:
    from ..cycle import MultigridCycle
    from ..stencil.problem import Poisson
    from ..stencil.profile import Profile
    from .figures import Picture

Array = NDArray[Any]
FAST, SLOW = 0.25, 0.6  # factors per iteration below which multigrid is as it should be, and above which something is wrong
MOST_ROWS = 60  # of a table, its first and last ones
MOST_POINTS = 5000  # of a curve that is drawn as lines and not as pixels
TITLE = "Solution of Poisson's equation"
CYCLE = {
    "title": "cycle", "smoother": "smoother", "post_smoother": "smoother after the correction", "pre": "smoothing steps before",
    "post": "smoothing steps after", "restriction": "restriction", "prolongation": "prolongation",
    "work_units": "work units per cycle", "operator_complexity": "operator complexity",
}  # fmt: skip
OUTCOMES = {
    Reason.CONVERGED: "Solved in {}", Reason.MAXITER: "Not solved: the limit of {} was reached",
    Reason.DIVERGED: "Not solved: diverged after {}", Reason.STAGNATED: "Not solved to the tolerance: stagnated after {}",
    Reason.NONFINITE: "Not solved: NaN or infinity after {}", Reason.STOPPED: "Stopped by the callback after {}",
}  # fmt: skip
SLOWLY = (
    "This is slow. Usual causes are strong anisotropy, coefficients that vary much, and a smoother or transfer that does not "
    "fit them. Take accelerate='cg', the W-cycle, or more smoothing steps; where coefficients vary, smoother='lines'."
)


@dataclass(frozen=True)
class Step:
    """The residual after an iteration, relative to the first one, and its ratio to the one before."""

    iteration: int
    residual: float
    relative: float
    factor: float | None


@dataclass(frozen=True)
class LevelRow:
    """A grid of the hierarchy; the milliseconds spent there and their share, where they were measured."""

    number: int
    shape: str
    unknowns: int
    milliseconds: float | None
    share: float | None


@dataclass(frozen=True)
class PartRow:
    """The outcome for one of several right-hand sides."""

    number: int
    outcome: str
    iterations: int
    relative: float


@dataclass(frozen=True)
class SolveFacts:
    """All that the page of a solve shows."""

    title: str
    converged: bool
    outcome: str
    message: str
    advice: str
    meaning: tuple[str, ...]
    caption: str
    pictures: tuple[Picture, ...]
    history: Picture
    steps: tuple[Step, ...]
    left_out: int
    parts: tuple[PartRow, ...]
    levels: tuple[LevelRow, ...]
    timing: str
    tables: tuple[Table, ...]


def of_solution(
    solution: Solution,
    cycle: MultigridCycle | None = None,
    *,
    profile: Profile | None = None,
    title: str = TITLE,
    rtol: float | None = None,
    picture: bool = False,
    details: Mapping[str, Any] | None = None,
) -> Page:
    """Return the page of a solve: u, residuals per iteration and what they mean, the grids of the hierarchy, the problem.

    Parameters
    ----------
    solution : Solution
        Of `unigrid.solve` or of a cycle. Of several right-hand sides, u of the first is shown, and a table of all.
    cycle : StencilCycle, GalerkinCycle, ... optional
        The one that solved: the page then has the problem, in its coordinates, and the hierarchy.
    profile : Profile, optional
        Of `cycle.profile(f)`, for the time that each level takes.
    title : str
    rtol : float, optional
        The relative tolerance, drawn as a line among the residuals.
    picture : bool
        Whether axis 0 of a 2-D array points downward, as in photographs.
    details : mapping of str to numbers and texts, optional
        More rows, such as options, for a table of its own.

    Raises
    ------
    ImportError
        Without jinja2; the extra `report` installs it.
    TypeError
        For what is no Solution, such as u itself.
    ValueError
        If u does not have the shape of the problem.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)))
    >>> profile = cycle.profile(np.ones((63, 63)))
    >>> page = unigrid.report.of_solution(profile.solution, cycle, profile=profile, title="A membrane")
    >>> "A membrane" in page.html
    True
    """
    require_jinja2()
    if not isinstance(solution, Solution):
        raise TypeError(f"solution must be what unigrid.solve(f) returns, a Solution, got {shown(solution)}")
    rtol = None if rtol is None else checked_number("rtol", rtol)
    problem = getattr(cycle, "problem", None)
    caption, pictures = _solution_pictures(solution, problem, picture)
    steps = tuple(_steps(solution))
    rows, parts = _thinned(steps), tuple(_part(number, part) for number, part in enumerate(solution.parts))
    facts = SolveFacts(
        title=shortened(title), converged=solution.converged, outcome=_outcome(solution),
        message=_sentence(solution.message), advice="" if solution.converged else solution.reason.text,
        meaning=tuple(_meaning(solution, problem, rtol)), caption=caption, pictures=pictures,
        history=_history_picture(solution, rtol), steps=rows, left_out=len(steps) - len(rows), parts=_thinned(parts),
        levels=tuple(_level_rows(cycle, profile)), timing=_timing(profile),
        tables=tuple(_tables(cycle, details)),
    )  # fmt: skip
    return render("solve.html", facts)


def _outcome(solution: Solution) -> str:
    count = f"{solution.iterations} iteration{'s' * (solution.iterations != 1)}"
    return OUTCOMES[solution.reason].format(count)


def _sentence(message: str) -> str:
    """Return a message without the name of the reason before it."""
    _, found, rest = message.partition(": ")
    text = rest if found else message
    return shortened(text[:1].upper() + text[1:])


def _steps(solution: Solution) -> Iterator[Step]:
    residuals = solution.residuals
    first = residuals[0] if residuals else 1.0
    factors = [None, *(new / old if old > 0 else None for old, new in pairwise(residuals))]
    for iteration, (residual, factor) in enumerate(zip(residuals, factors, strict=False)):
        yield Step(iteration, residual, residual / first if first > 0 else math.nan, factor)


def _thinned(rows: tuple[Any, ...]) -> tuple[Any, ...]:
    return rows if len(rows) <= MOST_ROWS else rows[: MOST_ROWS // 2] + rows[-MOST_ROWS // 2 :]


def _part(number: int, part: Solution) -> PartRow:
    first, last = part.residuals[0], part.residuals[-1]
    return PartRow(number, str(part.reason), part.iterations, last / first if first > 0 else 0.0)


def _meaning(solution: Solution, problem: Poisson | None, rtol: float | None) -> Iterator[str]:
    """Yield sentences that explain the numbers of this run."""
    yield (
        "The residual b - A u is what the equations at the unknowns still lack. How far these equations are from the "
        f"differential equation is another matter, and depends on the grid{_order(problem)}."
    )
    if solution.nested_start and solution.iterations:
        yield "The first iteration is full multigrid, from the coarsest grid up, which the rate leaves out."
    rate = solution.rate
    if math.isfinite(rate):
        yield from _of_rate(rate)
    yield from _of_failure(solution, rate, rtol)


def _order(problem: Poisson | None) -> str:
    if problem is None:
        return ""
    fall = {2: "4 where the distance of the unknowns is halved", 4: "16 where the distance is halved"}[problem.order]
    return f": where u is smooth, that error falls by {fall}"


def _of_rate(rate: float) -> Iterator[str]:
    digits = f", {-math.log10(rate):.1f} decimal digits" if 0 < rate < 1 else ""
    yield f"In the last half of the run, an iteration multiplied the residual by {rate:.2g} on average{digits}."
    if rate <= FAST:
        yield "This is fast: multigrid at its best gains a digit or more per iteration, whatever the size of the grid."
    elif rate <= SLOW:
        yield "Multigrid at its best gains a digit per iteration. More smoothing steps, or accelerate='cg', may come closer."
    elif rate < 1:
        yield SLOWLY


def _of_failure(solution: Solution, rate: float, rtol: float | None) -> Iterator[str]:
    first, last = solution.residuals[0], solution.residuals[-1]
    if solution.reason is Reason.MAXITER and rtol and rate < 1 and 0 < first * rtol < last:
        more = math.ceil(math.log(first * rtol / last) / math.log(rate)) if rate > 0 else 1
        yield (
            f"At this rate the tolerance needs about {more:,} more iteration{'s' * (more != 1)}: "
            f"maxiter={solution.iterations + more}."
        )
    if solution.reason is Reason.STAGNATED and first > 0:
        yield f"The smallest residual of this run is {min(solution.residuals) / first:.1e} of the first one."


def _solution_pictures(solution: Solution, problem: Poisson | None, picture: bool) -> tuple[str, tuple[Picture, ...]]:
    """Return a caption, and the pictures of u: a curve, an image, or three slices."""
    from ..plots.solutions import plot_panels
    from .figures import vector

    if solution.u is None:
        return "There is no finite iterate to show.", ()
    u = _plain(solution.u)
    leading = _leading(u.shape, problem, len(solution.parts))
    one = u[(0,) * leading].real
    finite = one[np.isfinite(one)]
    span = f" Values from {finite.min():.4g} to {finite.max():.4g}." if finite.size else " No value is finite."
    which = f"The first of {len(solution.parts)} solutions: u" if solution.parts else "u"
    grid = " x ".join(map(str, one.shape))
    caption = f"{which} at {grid} unknowns{', its real part' * np.iscomplexobj(u)}.{span}"
    figures = plot_panels(one, problem, picture=picture)
    for line in (line for figure in figures for axes in figure.axes for line in axes.lines):
        line.set_rasterized(one.size > MOST_POINTS)
    planes = [axes.get_title() for axes in (figure.axes[0] for figure in figures)]
    alts = [f"Picture of {caption}{f' The plane {plane}.' if plane else ''}" for plane in planes]
    return caption, tuple(vector(figure, f"u{n}", alt) for n, (figure, alt) in enumerate(zip(figures, alts, strict=True)))


def _plain(u: Any) -> Array:
    """Return u as an array, whatever holds it."""
    return np.asarray(u.detach().cpu() if hasattr(u, "detach") else u)


def _leading(shape: tuple[int, ...], problem: Poisson | None, parts: int) -> int:
    """Return how many leading axes count right-hand sides."""
    if problem is not None:
        return max(len(shape) - len(problem.shape), 0)
    if not parts:
        return 0
    return next((count for count in range(1, len(shape)) if math.prod(shape[:count]) == parts), 0)


def _history_picture(solution: Solution, rtol: float | None) -> Picture:
    from matplotlib.figure import Figure

    from ..plots.history import draw_history
    from .figures import vector

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    draw_history(figure.add_subplot(), {"this run": solution}, rtol=rtol)
    residuals = solution.residuals
    last = residuals[-1] / residuals[0] if residuals[0] > 0 else 0.0
    alt = f"Curve of the relative residual over {solution.iterations} iterations: it ends at {last:.1e}."
    return vector(figure, "history", alt)


def _level_rows(cycle: Any, profile: Profile | None) -> Iterator[LevelRow]:
    """Yield the levels, finest first; those of a profile with their times."""
    shapes = getattr(cycle, "shapes", None) or ([level.shape for level in profile.levels] if profile else [])
    times = [level.total for level in profile.levels] if profile else []
    for number, shape in enumerate(shapes):
        seconds = times[number] if number < len(times) else None
        share = None if seconds is None or profile is None else seconds / profile.seconds
        text = " x ".join(map(str, shape))
        yield LevelRow(number, text, math.prod(shape), None if seconds is None else 1e3 * seconds, share)


def _timing(profile: Profile | None) -> str:
    if profile is None:
        return "The time per level was not measured."
    return (
        f"Measured in another solve, with all kernels loaded, by a clock at every level: {1e3 * profile.seconds:.3g} ms in "
        f"all, {profile.elsewhere / profile.seconds:.0%} of it elsewhere: checks, norms, and the loop over iterations."
    )


def _tables(cycle: Any, details: Mapping[str, Any] | None) -> Iterator[Table]:
    problem = getattr(cycle, "problem", None)
    if problem is not None:
        h = [float(value) for axis in problem.box.axes for value in (axis.distances or (axis.h,))]
        title = str(problem)[1:-1].removeprefix("Poisson: ")
        values = {
            "problem": title,
            "number of unknowns": f"{problem.grid.size:,}",
            "distance of unknowns": sorted({min(h), max(h)}),
        }
        yield table("Problem", values)
    if cycle is not None:
        yield table("Cycle", {label: _described(getattr(cycle, name, None)) for name, label in CYCLE.items()})
    if details:
        yield table("Options and times", details)
    yield surroundings()


def _described(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else repr(value)
