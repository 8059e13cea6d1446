"""Small multiples: arrays side by side in one pair of axes, to one color scale whose middle is 0 and white."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from .style import BETWEEN, DIVERGING

GAP = 0.08  # between tiles, in sides of a tile


def draw_tiles(axes: Axes, tiles: NDArray[np.float64], limit: float) -> list[AxesImage]:
    """Draw arrays (count, height, width), each to a tile, in rows from the upper left; colors end at +-limit."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height = tiles.shape[1] / tiles.shape[2]
    images = []
    for number, tile in enumerate(tiles):
        left, top = (number % columns) * (1 + GAP), (number // columns) * (height + GAP)
        extent = (left, left + 1, top + height, top)
        images.append(axes.imshow(tile, extent=extent, cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest"))
    axes.set(xlim=(-GAP, columns * (1 + GAP)), ylim=(rows * (height + GAP), -GAP), aspect="equal", facecolor=BETWEEN)
    hide_ticks(axes)
    return images


def hide_ticks(axes: Axes) -> None:
    """Take ticks and frame away; the axes keep their labels and their background."""
    axes.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


class PanelGrid:
    """A figure of panels in rows and columns, each with room for a title above and a caption below, and one color bar.

    `aspect` is height over width of what the panels show.
    """

    width, left, gap, right, above, below = 1.8, 0.1, 0.4, 0.8, 0.32, 0.5  # inches

    def __init__(self, rows: int, columns: int, aspect: float = 1.0) -> None:
        self.height = self.width * min(max(aspect, 0.4), 1.25)
        self.pitch = self.above + self.height + self.below
        self.size = self.left + columns * (self.width + self.gap) - self.gap + self.right, rows * self.pitch
        self.figure = Figure(figsize=self.size)

    def add(self, row: int, column: int) -> Axes:
        """Return new axes for a panel, row 0 being the upper one."""
        x, y = self.left + column * (self.width + self.gap), self.size[1] - row * self.pitch - self.above - self.height
        return self._axes(x, y, self.width, self.height)

    def add_bar(self, extend: str = "neither") -> None:
        """Add the color bar; its ends are the limits below each panel; `extend` as in matplotlib's `colorbar`."""
        height = min(2.5, 0.8 * self.size[1])
        axes = self._axes(self.size[0] - self.right + 0.25, (self.size[1] - height) / 2, 0.12, height)
        bar = self.figure.colorbar(ScalarMappable(Normalize(-1, 1), DIVERGING), cax=axes, ticks=[-1, 0, 1], extend=extend)
        bar.ax.set_yticklabels(["−", "0", "+"])

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        across, up = self.size
        return self.figure.add_axes((x / across, y / up, width / across, height / up))


def most_energetic(tiles: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the numbers of the `count` arrays of the largest norm, the largest first."""
    return np.argsort(-np.square(tiles).sum(axis=(1, 2)), kind="stable")[:count]


def color_limit(tiles: NDArray[np.float64], part: float = 1.0) -> float:
    """Return the absolute value that this part of all finite ones does not exceed; 1 if all are 0, as colors need a width."""
    values = np.abs(tiles[np.isfinite(tiles)])
    if not values.any():
        return 1.0
    return float(np.quantile(values, part)) or float(values.max())
