"""A cycle's grids, and the path that one cycle takes through them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Polygon
from numpy.typing import NDArray

from ..cycle import VISITS
from .style import DENSE, DOWN, SURFACE, UP

if TYPE_CHECKING:
    from ..stencil.cycle import StencilCycle
    from ..stencil.grid import Axis

# The longest path that is still easy to follow, in levels; longer hierarchies are drawn without their middle.
MOST_LEVELS = {"V": 12, "W": 5, "F": 6}
# An axis of more intervals than this is drawn without its lines, in the shade that thin lines of this much ink would have.
MOST_LINES, INK, POINTS = 24, 0.17, 72.0


def plot_hierarchy(cycle: StencilCycle) -> Figure:
    """Return a figure of a cycle's grids, finest on top, and beside them the path that one cycle takes through them.

    If that path would be too long to read, levels in the middle are left out, which the figure states.
    """
    layout = _HierarchyLayout(cycle)
    figure = Figure(figsize=layout.size)
    draw_hierarchy(figure.add_axes((0.0, 0.0, 1.0, 1.0)), cycle)
    return figure


def draw_hierarchy(axes: Axes, cycle: StencilCycle) -> None:
    """Draw the hierarchy into `axes`, whose data units become inches at the figure's own size."""
    layout = _HierarchyLayout(cycle)
    axes.set(xlim=(0.0, layout.size[0]), ylim=(0.0, layout.size[1]), aspect="equal")
    axes.set_axis_off()
    _draw_table(axes, cycle, layout)
    _draw_path(axes, cycle, layout)


class _HierarchyLayout:
    """Positions, in inches from the lower left corner."""

    row_height, header, footer, margin = 0.52, 0.52, 0.62, 0.25
    grid_left, grid_width = 0.75, 1.2

    def __init__(self, cycle: StencilCycle) -> None:
        if not hasattr(cycle, "own_levels"):
            raise TypeError(f"a hierarchy is drawn of a unigrid.StencilCycle, got {type(cycle).__name__}")
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
    name = f"one {cycle.name}-cycle"
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
    """Return the entries of the legend."""
    node: dict[str, Any] = {"color": "black", "marker": "o", "linestyle": "", "markersize": 6}
    coarsest = {"solve on the coarsest grid": {**node, "marker": "s", "markersize": 6.5}}
    steps = ", ".join(f"{count} {way}" for count, way in zip(cycle.sweeps, ("down", "up"), strict=True) if count)
    looks: dict[str, dict[str, Any]] = {f"smoothing steps, {steps}": node, **coarsest}
    if not (cycle.pre and cycle.post):
        looks["no smoothing"] = {**node, "markerfacecolor": "white"}
    looks[r"restriction $R$ of the residual"] = {"color": DOWN, "linewidth": 1.5}
    looks[r"prolongation $P$ of the correction"] = {"color": UP, "linewidth": 1.5}
    shown = coarsest if len(cycle.levels) == 1 else looks
    return [Line2D([], [], label=label, **look) for label, look in shown.items()]
