"""A grid array in 1, 2 or 3 dimensions, at the coordinates of its unknowns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_number
from .style import COLORS, DIVERGING, SEQUENTIAL, add_color_bar, add_grid, shorten

if TYPE_CHECKING:
    from ..stencil.problem import Poisson

# Data of both signs count as signed, zero their middle, when the smaller side is at least this part of the larger.
SIGNED_FROM = 0.1
# A box more than this many times longer than wide is drawn wider than to scale: it would be a thread.
LONGEST_TO_SCALE = 5.0


def plot_solution(
    u: ArrayLike, problem: Poisson | None = None, *, label: str = "u", picture: bool = False, cmap: str | None = None
) -> Figure:
    """Return a figure of a grid array: a curve in 1-D, an image in 2-D, three slices through the middle in 3-D.

    Parameters
    ----------
    u : array_like, 1 to 3 axes
        Values at the unknowns.
    problem : Poisson, optional
        The source of the coordinates, in the units of its `lengths`; without it they are indices.
    label : str
        The name of the values, with units.
    picture : bool
        Whether axis 0 of a 2-D array points downward, as in photographs, instead of to the right (x).
    cmap : str, optional
        A matplotlib color map. By default viridis, or a diverging map centered on 0 where values of both signs matter.

    Raises
    ------
    ValueError
        If u has no or more than 3 axes, is empty, or is not of the problem's shape.
    """
    u = _checked(u, problem)
    coordinates = _all_coordinates(u, problem)
    if u.ndim == 1:
        return _curve(u, coordinates[0], label)
    pairs = _pairs(u.ndim, picture)
    return _images(u, coordinates, pairs, _color_scale(u, cmap, None), label, longest=4.6 if u.ndim == 2 else 3.0)


def plot_panels(
    u: ArrayLike, problem: Poisson | None = None, *, label: str = "u", picture: bool = False, longest: float = 3.2
) -> list[Figure]:
    """Return the panels of `plot_solution` as figures of their own, to one scale of colors: for pages narrower than three.

    `longest`: inches of the longest axis.
    """
    u = _checked(u, problem)
    coordinates = _all_coordinates(u, problem)
    if u.ndim == 1:
        return [_curve(u, coordinates[0], label)]
    scale = _color_scale(u, None, None)
    return [_images(u, coordinates, [pair], scale, label, longest) for pair in _pairs(u.ndim, picture)]


def _all_coordinates(u: NDArray[Any], problem: Poisson | None) -> list[_Coordinates]:
    return [_Coordinates(n, number, problem) for number, n in enumerate(u.shape)]


def _pairs(ndim: int, picture: bool) -> list[tuple[int, int]]:
    """Return the horizontal and the vertical axis of each panel; that of a picture points downward, axis 0."""
    if ndim == 2:
        return [(1, 0) if picture else (0, 1)]
    return [(0, 1), (0, 2), (1, 2)]


def _curve(u: NDArray[Any], along: _Coordinates, label: str) -> Figure:
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    _draw_curve(figure.add_subplot(), u, along, label)
    return figure


def _images(
    u: NDArray[Any],
    coordinates: Sequence[_Coordinates],
    pairs: list[tuple[int, int]],
    scale: dict[str, Any],
    label: str,
    longest: float,
) -> Figure:
    """Return a figure with a panel for each pair of axes, a plane through the middle of the third where there is one."""
    figure, panels, bar = _panels(coordinates, pairs, longest)
    for panel, pair in zip(panels, pairs, strict=True):
        plane = u if u.ndim == 2 else _middle(panel, u, coordinates, fixed=3 - sum(pair))
        downward = pair[0] > pair[1]
        along = [coordinates[number] for number in pair]
        image = _draw_panel(panel, plane if downward else plane.T, along, scale, downward=downward)
    add_color_bar(bar, image, label)
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
) -> ScalarMappable:
    """Draw a 2-D grid array with its color bar into `axes`; arguments as of `plot_solution`.

    `limit` cuts the color scale at +-limit; the ends of the color bar are then pointed.
    """
    u = _checked(u, problem)
    coordinates = [_Coordinates(u.shape[number], number, problem) for number in ((1, 0) if picture else (0, 1))]
    image = _draw_panel(axes, u if picture else u.T, coordinates, _color_scale(u, cmap, limit), downward=picture)
    across, up = (along.length for along in coordinates)
    axes.set_aspect("equal" if max(across, up) <= LONGEST_TO_SCALE * min(across, up) else "auto")
    width = 0.045 * max(1.0, up / across)
    bar = axes.inset_axes((1.0 + width, 0.0, width, 1.0))
    add_color_bar(bar, image, label, extend="both" if limit is not None else "neither")
    return image


class _Coordinates:
    """The positions of the unknowns along one axis, the edges between them where it is stretched, and the label of the axis."""

    edges: NDArray[np.float64] | None = None

    def __init__(self, n: int, number: int, problem: Poisson | None) -> None:
        if problem is None:
            self.positions, h = np.arange(n, dtype=np.float64), 1.0
            self.low, self.high, self.label = -0.5, n - 0.5, f"axis {number}"
            self.visible = self.low, self.high
            return
        axis = problem.box.axes[number]
        self.positions, h = axis.positions, axis.h
        self.low, self.high = self.positions[0] - h / 2, self.positions[-1] + h / 2
        self.visible = (self.low, self.high) if axis.periodic else (0.0, axis.length)
        self.label = "xyz"[number]
        if axis.distances:
            between = (self.positions[1:] + self.positions[:-1]) / 2
            ends = self.positions[0] - axis.steps[0] / 2, self.positions[-1] + axis.steps[-1] / 2
            self.edges = axis.faces if axis.centering == "cell" else np.concatenate([ends[:1], between, ends[1:]])
            self.low, self.high = self.edges[[0, -1]]

    def all_edges(self) -> NDArray[np.float64]:
        """Return the edges between the unknowns, and beyond the first and the last one."""
        return np.linspace(self.low, self.high, len(self.positions) + 1) if self.edges is None else self.edges

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
    shorten(axes.yaxis.get_major_formatter())
    add_grid(axes)


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
    """Return a locator with as many ticks as an axis of that length can label without overlap."""
    return MaxNLocator(nbins=min(max(int(inches / 0.6), 1), 6), steps=[1, 2, 2.5, 5, 10])


def _middle(axes: Axes, u: NDArray[Any], coordinates: Sequence[_Coordinates], fixed: int) -> NDArray[Any]:
    """Return the plane through the middle of the fixed axis, and note its place in the title."""
    middle, along = u.shape[fixed] // 2, coordinates[fixed]
    axes.set_title(f"{along.label} = {along.positions[middle]:.4g}", fontsize="medium")
    return u.take(middle, axis=fixed)


def _draw_panel(
    axes: Axes, values: NDArray[Any], coordinates: Sequence[_Coordinates], scale: dict[str, Any], *, downward: bool
) -> ScalarMappable:
    """Draw values[vertical, horizontal] at their places."""
    across, up = coordinates
    vertical = (up.high, up.low) if downward else (up.low, up.high)
    image: ScalarMappable
    if across.edges is None and up.edges is None:
        extent = across.low, across.high, *vertical
        image = axes.imshow(values, origin="upper" if downward else "lower", extent=extent, aspect="auto", **scale)
    else:
        image = axes.pcolormesh(*(along.all_edges() for along in (across, up)), values, rasterized=True, **scale)
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
        positive = "a finite number > 0", lambda number: number > 0
        largest = max(-low, high) if limit is None else checked_number("limit", limit, *positive)
        return {"cmap": cmap or DIVERGING, "vmin": -largest, "vmax": largest}
    return {"cmap": cmap or SEQUENTIAL, "vmin": low, "vmax": high}
