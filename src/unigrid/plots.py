"""Pictures: a solution, the history of its residuals, the hierarchy with its cycle.

Every `plot_` function returns a `matplotlib.figure.Figure` that belongs to no window and no global state, so that it works
without a display and in threads; `save` writes it. A `draw_` function does the same into axes of one's own figure.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Polygon
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from .cycle import VISITS
from .files import PICTURES, atomic_output, checked_output

if TYPE_CHECKING:
    from .solution import Solution
    from .stencil.grid import Axis
    from .stencil.hierarchy import StencilCycle
    from .stencil.problem import Poisson

# M. Okabe and K. Ito's colors, which the color-blind can tell apart; without their yellow, too pale for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":", "-.")
MOST_RATES = 3  # more lines of asymptotic rates than these would only cover the runs
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
# Data of both signs count as signed, zero their middle, when the smaller side is at least this part of the larger.
SIGNED_FROM = 0.1
# A box more than this many times longer than wide is drawn wider than to scale: it would be a thread.
LONGEST_TO_SCALE = 5.0
RESOLUTION = 200  # dots per inch


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to .png, .pdf or .svg, by the path's ending and all at once. Raises FileError."""
    path = checked_output(path, PICTURES)
    with atomic_output(path) as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=RESOLUTION, bbox_inches="tight", pad_inches=0.06)


def plot_solution(
    u: ArrayLike,
    problem: Poisson | None = None,
    *,
    label: str = "u",
    picture: bool = False,
    cmap: str | None = None,
) -> Figure:
    """Return a figure of a grid array: a curve in 1-D, an image in 2-D, three slices through the middle in 3-D.

    Parameters
    ----------
    u : array_like, 1 to 3 axes
        Values at the unknowns.
    problem : Poisson, optional
        Brings the coordinates, in the units of its `lengths`; without it they are indices.
    label : str
        What the values are called, units included.
    picture : bool
        Whether a 2-D array is shown as photographs are, axis 0 downward, instead of axis 0 (x) to the right.
    cmap : str, optional
        A matplotlib color map. By default viridis, or a diverging map centered on 0 where values of both signs matter.

    Raises
    ------
    ValueError
        If u has no or more than 3 axes, is empty, or is not of the problem's shape.
    """
    u = _checked(u, problem)
    coordinates = [_Coordinates(u.shape[number], number, problem) for number in range(u.ndim)]
    if u.ndim == 1:
        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        _draw_curve(figure.add_subplot(), u, coordinates[0], label)
        return figure
    scale = _color_scale(u, cmap, None)
    if u.ndim == 2:
        pair = (1, 0) if picture else (0, 1)
        figure, (panel,), bar = _panels(coordinates, [pair], longest=4.6)
        image = _draw_panel(panel, u if picture else u.T, [coordinates[number] for number in pair], scale, downward=picture)
    else:
        pairs = [(0, 1), (0, 2), (1, 2)]
        figure, panels, bar = _panels(coordinates, pairs, longest=3.0)
        for panel, pair in zip(panels, pairs, strict=True):
            image = _draw_slice(panel, u, coordinates, pair, scale)
    _add_color_bar(bar, image, label)
    return figure


def draw_image(
    axes: Axes,
    u: ArrayLike,
    problem: Poisson | None = None,
    *,
    label: str = "u",
    picture: bool = False,
    cmap: str | None = None,
    limit: float | None = None,
) -> AxesImage:
    """Draw a 2-D grid array with its color bar into `axes`; arguments as of `plot_solution`.

    `limit` cuts the color scale at +-limit and says so by pointed ends of the color bar.
    """
    u = _checked(u, problem)
    coordinates = [_Coordinates(u.shape[number], number, problem) for number in ((1, 0) if picture else (0, 1))]
    image = _draw_panel(axes, u if picture else u.T, coordinates, _color_scale(u, cmap, limit), downward=picture)
    across, up = (along.length for along in coordinates)
    axes.set_aspect("equal" if max(across, up) <= LONGEST_TO_SCALE * min(across, up) else "auto")
    width = 0.045 * max(1.0, up / across)
    bar = axes.inset_axes((1.0 + width, 0.0, width, 1.0))
    _add_color_bar(bar, image, label, extend="both" if limit is not None else "neither")
    return image


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
    if many:
        figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    else:
        axes.legend(frameon=False, fontsize="small")
    return figure


def draw_history(axes: Axes, solutions: Mapping[Any, Solution], *, rtol: float | None = None) -> None:
    """Draw what `plot_history` draws into `axes`."""
    _draw_runs(axes, solutions, rtol)
    axes.legend(frameon=False, fontsize="small")


def _draw_runs(axes: Axes, solutions: Mapping[Any, Solution], rtol: float | None) -> None:
    looks = _looks(list(solutions))
    for label, solution in solutions.items():
        text = label if isinstance(label, str) else ", ".join(label)
        _draw_run(axes, solution, text, looks[label])
        if len(solutions) <= MOST_RATES:
            _draw_rate(axes, solution, looks[label]["color"])
    if rtol is not None and rtol > 0:
        axes.axhline(
            rtol,
            color="0.4",
            linewidth=0.9,
            linestyle=(0, (6, 3)),
            label=f"tolerance {rtol:.2g}".replace("e-0", "e-"),
            zorder=1,
        )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("iteration")
    axes.set_ylabel(r"relative residual  $\|b - A u_k\| \, / \, \|b - A u_0\|$")
    axes.grid(True, which="major", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)


def plot_hierarchy(cycle: StencilCycle) -> Figure:
    """Return a figure of a cycle's grids, finest on top, and beside them the path that one cycle takes through them.

    Where that path would be too long to read, levels in the middle are left out, and the figure says so.
    """
    layout = _HierarchyLayout(cycle)
    figure = Figure(figsize=layout.size)
    draw_hierarchy(figure.add_axes((0.0, 0.0, 1.0, 1.0)), cycle)
    return figure


def draw_hierarchy(axes: Axes, cycle: StencilCycle) -> None:
    """Draw what `plot_hierarchy` draws into `axes`, whose data units become inches at the figure's own size."""
    layout = _HierarchyLayout(cycle)
    axes.set(xlim=(0.0, layout.size[0]), ylim=(0.0, layout.size[1]), aspect="equal")
    axes.set_axis_off()
    _draw_table(axes, cycle, layout)
    _draw_path(axes, cycle, layout)


class _Coordinates:
    """Where the unknowns along one axis are, and what the axis is called."""

    def __init__(self, n: int, number: int, problem: Poisson | None) -> None:
        if problem is None:
            self.positions, h = np.arange(n, dtype=np.float64), 1.0
            self.low, self.high, self.label = -0.5, n - 0.5, f"axis {number}"
            self.visible = self.low, self.high
            return
        axis = problem.grid.axes[number]
        self.positions, h = axis.positions, axis.h
        self.low, self.high = self.positions[0] - h / 2, self.positions[-1] + h / 2
        self.visible = (self.low, self.high) if axis.periodic else (0.0, axis.length)
        self.label = "xyz"[number]

    @property
    def length(self) -> float:
        return float(self.visible[1] - self.visible[0])


def _checked(u: ArrayLike, problem: Poisson | None) -> NDArray[Any]:
    u = np.asarray(u)
    if not 1 <= u.ndim <= 3 or u.size == 0:
        raise ValueError(f"an array of 1, 2 or 3 axes can be drawn, got shape {u.shape}")
    if problem is not None and u.shape != problem.shape:
        raise ValueError(f"u must have the problem's shape {problem.shape}, got {u.shape}")
    return u


def _draw_curve(axes: Axes, u: NDArray[Any], along: _Coordinates, label: str) -> None:
    few = len(u) <= 40
    axes.plot(along.positions, u, color=COLORS[0], marker="o" if few else "", markersize=3.5, linewidth=1.4)
    axes.set(xlabel=along.label, ylabel=label)
    _shorten(axes.yaxis.get_major_formatter())
    axes.grid(True, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)


def _panels(
    coordinates: Sequence[_Coordinates], pairs: list[tuple[int, int]], longest: float
) -> tuple[Figure, list[Axes], Axes]:
    """Return a figure with a panel for each (horizontal, vertical) pair of axes, all to one scale, and axes for a color bar.

    The longest axis is `longest` inches long.
    """
    unit = longest / max(along.length for along in coordinates)
    inches = [max(along.length * unit, longest / LONGEST_TO_SCALE) for along in coordinates]
    left, gap, right, bottom, top = 0.8, 0.8, 1.3, 0.6, 0.4
    tallest = max(inches[up] for _, up in pairs)
    width = left + sum(inches[across] for across, _ in pairs) + gap * (len(pairs) - 1) + right
    height = bottom + tallest + top
    figure = Figure(figsize=(width, height))
    panels, x = [], left
    for across, up in pairs:
        y = bottom + (tallest - inches[up]) / 2
        panels.append(figure.add_axes((x / width, y / height, inches[across] / width, inches[up] / height)))
        panels[-1].xaxis.set_major_locator(_ticks(inches[across]))
        panels[-1].yaxis.set_major_locator(_ticks(inches[up]))
        x += inches[across] + gap
    bar = figure.add_axes(((x - gap + 0.2) / width, bottom / height, 0.17 / width, tallest / height))
    return figure, panels, bar


def _ticks(inches: float) -> MaxNLocator:
    """Return what puts so many ticks on an axis of that length that their labels do not meet."""
    return MaxNLocator(nbins=min(max(int(inches / 0.6), 1), 6), steps=[1, 2, 2.5, 5, 10])


def _draw_slice(
    axes: Axes, u: NDArray[Any], coordinates: Sequence[_Coordinates], pair: tuple[int, int], scale: dict[str, Any]
) -> AxesImage:
    """Draw the plane through the middle that the pair of axes spans."""
    fixed = 3 - sum(pair)
    middle = u.shape[fixed] // 2
    along = coordinates[fixed]
    axes.set_title(f"{along.label} = {along.positions[middle]:.4g}", fontsize="medium")
    return _draw_panel(axes, u.take(middle, axis=fixed).T, [coordinates[number] for number in pair], scale, downward=False)


def _add_color_bar(axes: Axes, image: AxesImage, label: str, extend: str = "neither") -> None:
    bar = axes.figure.colorbar(image, cax=axes, label=label, extend=extend)
    _shorten(bar.formatter)
    bar.ax.yaxis.get_offset_text().set(ha="left", x=0.0)  # above the bar, away from the panel's title
    bar.update_ticks()


def _shorten(formatter: Any) -> None:
    """Take powers of ten out of tick labels that would be long."""
    formatter.set_powerlimits((-2, 4))
    formatter.set_useMathText(True)


def _draw_panel(
    axes: Axes, values: NDArray[Any], coordinates: Sequence[_Coordinates], scale: dict[str, Any], *, downward: bool
) -> AxesImage:
    """Draw values[vertical, horizontal] at their places."""
    across, up = coordinates
    vertical = (up.high, up.low) if downward else (up.low, up.high)
    extent = across.low, across.high, *vertical
    image = axes.imshow(values, origin="upper" if downward else "lower", extent=extent, aspect="auto", **scale)
    axes.set_xlim(*across.visible)
    axes.set_ylim(*(reversed(up.visible) if downward else up.visible))
    axes.set(xlabel=across.label, ylabel=up.label)
    return image


def _color_scale(u: NDArray[Any], cmap: str | None, limit: float | None) -> dict[str, Any]:
    """Return color map and range; a range centered on 0 for signed values."""
    finite = u[np.isfinite(u)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    signed = low < 0 < high and min(-low, high) >= SIGNED_FROM * max(-low, high)
    if limit is not None or (signed and cmap is None):
        largest = limit if limit is not None else max(-low, high)
        return {"cmap": cmap or DIVERGING, "vmin": -largest, "vmax": largest}
    return {"cmap": cmap or SEQUENTIAL, "vmin": low, "vmax": high}


def _looks(labels: list[Any]) -> dict[Any, dict[str, Any]]:
    """Return each label's look; pairs take the color of their group, the rest of their variant.

    Markers of later variants are hollow and larger, so that a curve which hides another still shows both.
    """
    pairs = all(isinstance(label, tuple) for label in labels)
    groups = list(dict.fromkeys(label[0] for label in labels)) if pairs else []
    variants = list(dict.fromkeys(label[1] for label in labels)) if pairs else []
    looks = {}
    for number, label in enumerate(labels):
        group, variant = (groups.index(label[0]), variants.index(label[1])) if pairs else (number, number)
        ring = variant if pairs else number // len(COLORS)
        color = COLORS[group % len(COLORS)]
        looks[label] = {
            "color": color, "marker": MARKERS[variant % len(MARKERS)], "linestyle": STYLES[ring % len(STYLES)],
            "markersize": 4.5 + 2.5 * ring, "markerfacecolor": color if ring == 0 else "none",
        }  # fmt: skip
    return looks


def _draw_run(axes: Axes, solution: Solution, label: str, look: dict[str, Any]) -> None:
    rate = solution.rate
    text = label if math.isnan(rate) else f"{label}: factor {rate:.3f}"
    axes.plot(relative_residuals(solution), label=text, linewidth=1.4, **look)


def _draw_rate(axes: Axes, solution: Solution, color: str) -> None:
    """Draw the line that falls by `rate` an iteration and ends where the run does."""
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


# The longest path that is still easy to follow, in levels; longer hierarchies are drawn without their middle.
MOST_LEVELS = {"V": 12, "W": 5, "F": 6}
# An axis of more intervals than this is drawn without its lines, in the shade that thin lines of this much ink would have.
MOST_LINES, INK, POINTS = 24, 0.17, 72.0
SURFACE, DENSE = "#DCE6EF", "#ACB4BB"
DOWN, UP = COLORS[0], COLORS[1]


class _HierarchyLayout:
    """Where things stand, in inches from the lower left corner."""

    row_height, header, footer, margin = 0.52, 0.52, 0.62, 0.25
    grid_left, grid_width = 0.75, 1.2

    def __init__(self, cycle: StencilCycle) -> None:
        count, most = len(cycle.levels), MOST_LEVELS[cycle.kind]
        self.levels = list(range(count)) if count <= most else [*range(most - 1), count - 1]
        self.shortened = count > most
        self.nodes = _path(cycle.kind, len(self.levels))
        self.rows = len(self.levels) + self.shortened
        shapes = [len(" × ".join(map(str, level.problem.shape))) for level in cycle.levels]
        self.shape_right = self.grid_left + self.grid_width + 0.3 + 0.075 * max(*shapes, 4)
        self.unknowns_right = self.shape_right + 1.05
        self.path_left = self.unknowns_right + 0.5
        width = self.path_left + max(0.3 * len(self.nodes), 2.3) + self.margin
        self.size = width, self.header + self.footer + self.row_height * self.rows

    def y(self, place: int) -> float:
        """Height of the level shown at that place."""
        below_gap = self.shortened and place == len(self.levels) - 1
        return self.size[1] - self.header - self.row_height * (place + below_gap + 0.5)

    def x(self, step: int) -> float:
        """Horizontal place of a step of the path, which fills its column."""
        room = self.size[0] - self.margin - self.path_left
        return self.path_left + room * (step + 0.5) / len(self.nodes)


def _path(kind: str, depth: int) -> list[tuple[int, frozenset[str]]]:
    """Return the levels that a cycle passes, in order, each with the legs run there; what follows on one level is one stop."""

    def legs(kind: str, at: int) -> Iterator[tuple[int, str]]:
        yield at, "down"
        if at + 1 < depth:
            for visit in VISITS[kind]:
                yield from legs(visit, at + 1)
            yield at, "up"

    groups = itertools.groupby(legs(kind, 0), key=lambda leg: leg[0])
    return [(level, frozenset(leg for _, leg in group)) for level, group in groups]


def _draw_table(axes: Axes, cycle: StencilCycle, layout: _HierarchyLayout) -> None:
    top = layout.size[1] - 0.3
    name = f"one {cycle.kind}({cycle.pre},{cycle.post})-cycle"
    if layout.shortened:
        name += f", drawn with {len(layout.levels)} of {len(cycle.levels)} levels"
    heads = (0.45, "level", "center"), (layout.shape_right, "grid", "right"), (layout.unknowns_right, "unknowns", "right")
    for x, text, side in (*heads, (layout.path_left, name, "left")):
        axes.text(x, top, text, ha=side, va="center", fontsize=9, fontweight="bold")
    for place, number in enumerate(layout.levels):
        grid, y = cycle.levels[number].problem.grid, layout.y(place)
        axes.text(0.45, y, str(number), ha="center", va="center", fontsize=9)
        axes.text(layout.shape_right, y, " × ".join(map(str, grid.shape)), ha="right", va="center", fontsize=9)
        axes.text(layout.unknowns_right, y, f"{grid.size:,}", ha="right", va="center", fontsize=9)
        _draw_grid(axes, grid.axes, layout.grid_left, y)
    if layout.shortened:
        between = (layout.y(len(layout.levels) - 2) + layout.y(len(layout.levels) - 1)) / 2
        for x in (0.45, layout.grid_left + 0.6):
            axes.text(x, between, "⋮", ha="center", va="center", fontsize=12)


def _draw_grid(axes: Axes, grid: Sequence[Axis], left: float, middle: float) -> None:
    """Draw a grid's intervals in oblique view: a ruler, a sheared rectangle, or the three visible faces of a box."""
    directions = {1: [(1.2, 0.0)], 2: [(0.85, 0.0), (0.35, 0.32)], 3: [(0.8, 0.0), (0.3, 0.13), (0.0, 0.27)]}[len(grid)]
    edges = np.array(directions)
    corner = np.array([left, middle]) - [0.0, edges[:, 1].sum() / 2]
    if len(grid) == 1:
        tick = np.array([0.0, 0.06])
        _draw_face(axes, corner - tick, (edges[0], 2 * tick), grid)
        return
    faces = [(0, 1, np.zeros(2))] if len(grid) == 2 else [(0, 1, edges[2]), (0, 2, np.zeros(2)), (1, 2, edges[0])]
    for a, b, start in faces:
        _draw_face(axes, corner + start, (edges[a], edges[b]), (grid[a], grid[b]))


def _draw_face(axes: Axes, corner: NDArray[Any], edges: tuple[NDArray[Any], NDArray[Any]], divided: Sequence[Axis]) -> None:
    """Draw a parallelogram, its edges divided by the intervals of one or two axes."""
    a, b = edges
    dense = max(axis.intervals for axis in divided) > MOST_LINES
    outline = [corner, corner + a, corner + a + b, corner + b]
    axes.add_patch(Polygon(outline, closed=True, facecolor=DENSE if dense else SURFACE, edgecolor="0.25", linewidth=0.7))
    area = abs(a[0] * b[1] - a[1] * b[0])
    for axis, (along, across) in zip(divided, ((a, b), (b, a)), strict=False):
        if axis.intervals <= MOST_LINES:
            lines = [
                (corner + along * part, corner + along * part + across)
                for part in np.arange(1, axis.intervals) / axis.intervals
            ]
            width = min(0.5, INK * POINTS * area / math.hypot(*across) / axis.intervals)
            axes.add_collection(LineCollection(lines, colors="0.25", linewidths=width))


def _draw_path(axes: Axes, cycle: StencilCycle, layout: _HierarchyLayout) -> None:
    points = [(layout.x(step), layout.y(place)) for step, (place, _) in enumerate(layout.nodes)]
    gap = 1.5 * layout.row_height
    for begin, end in itertools.pairwise(points):
        axes.add_patch(
            FancyArrowPatch(
                begin, end, color=DOWN if end[1] < begin[1] else UP, linestyle="--" if abs(end[1] - begin[1]) > gap else "-",
                arrowstyle="-|>", mutation_scale=8, linewidth=1.3, shrinkA=4.5, shrinkB=4.5,
            )
        )  # fmt: skip
    for (x, y), (place, legs) in zip(points, layout.nodes, strict=True):
        if place == len(layout.levels) - 1:
            axes.plot(x, y, marker="s", color="black", markersize=6.5)
        else:
            smoothed = (cycle.pre > 0 and "down" in legs) or (cycle.post > 0 and "up" in legs)
            axes.plot(x, y, marker="o", color="black", markersize=6, markerfacecolor="black" if smoothed else "white")
    axes.legend(handles=_path_handles(cycle), loc="lower center", ncols=2, frameon=False, fontsize=8, borderaxespad=0.4)


def _path_handles(cycle: StencilCycle) -> list[Line2D]:
    """Return the entries of the legend, of what is drawn alone."""

    def handle(label: str, **look: Any) -> Line2D:
        return Line2D([], [], label=label, **look)

    coarsest = handle("solve on the coarsest grid", color="black", marker="s", linestyle="", markersize=6.5)
    if len(cycle.levels) == 1:
        return [coarsest]
    dot: dict[str, Any] = {"color": "black", "marker": "o", "linestyle": "", "markersize": 6}
    steps = ", ".join(f"{count} {way}" for count, way in ((cycle.pre, "down"), (cycle.post, "up")) if count)
    handles = [handle(f"smoothing steps, {steps}", **dot), coarsest]
    if not (cycle.pre and cycle.post):
        handles.append(handle("no smoothing", markerfacecolor="white", **dot))
    return [
        *handles,
        handle(r"restriction $R$ of the residual", color=DOWN, linewidth=1.5),
        handle(r"prolongation $P$ of the correction", color=UP, linewidth=1.5),
    ]
