"""A multigrid method and MgNet, drawn side by side as the one cycle that both are.

`python docs/figures/one_cycle.py [FILE]` writes docs/one_cycle.png, or FILE.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from unigrid import Jacobi, MgNet, Poisson, StencilCycle
from unigrid.plots import COLORS, DIVERGING, DOWN, UP, save
from unigrid.plots.tiles import color_limit, most_energetic

Array = NDArray[np.float64]
LEVELS = 3
SIDES = (63, 64)  # grids of vertices nest from 2^k - 1, those of pixels from 2^k
CHANNELS, SHOWN = 8, 3  # of MgNet's data and features, and how many of them are drawn
EXPLAIN, EXTRACT = COLORS[3], COLORS[2]  # A, B
BAND, FRAME, QUIET = "#EEF3F7", "0.25", "0.35"
FIVE_POINT = ((0, -1, 0), (-1, 4, -1), (0, -1, 0))
POINT = ((0, 0, 0), (0, 1, 0), (0, 0, 0))
FULL_WEIGHTING = ((1, 2, 1), (2, 4, 2), (1, 2, 1))
UPWARD = (
    r"dashed: the way up,  $u \leftarrow u + P\,(u' - \Pi\,u)$,  of a V-cycle and of a U-Net; "
    "an MgNet that classifies ends on the last level"
)
FORMULA = r"$u \leftarrow u + B\,(f - A\,u)$      $f' = R\,(f - A\,u) + A'u'$      $u' = \Pi\,u$"


@dataclass(frozen=True)
class _Content:
    """One half: data and state of each level, channels first; kernels of its slots, None for a direct solve."""

    data: Sequence[Any]
    state: Sequence[Any]
    kernels: dict[str, Sequence[Any]]  # A, B, R, Pi: one 3 x 3 array per level
    words: dict[str, str]  # the terms of the field

    def size(self, level: int) -> str:
        """Return the size of a level's grid, and its number of channels if there are several."""
        channels, height, width = self.data[level].shape
        grid = f"{height} × {width}"
        return grid if channels == 1 else f"{grid}\n× {channels}"


def draw(seed: int = 0) -> Figure:
    """Return a figure of two networks that are one cycle: a multigrid method on the left, MgNet on the right.

    Both take the same picture, as the source f of -Laplace(u) = f and as the data f of an image. Level by level they hold data
    f and state u, which A maps to data; both extract the state from the residual, and pool the residual. All tiles are
    results of a run: V(2, 0) with damped Jacobi steps and Pi an injection; MgNet with untrained weights, three of its channels
    and one kernel of each convolution. The colors of each tile span its largest absolute value; white is 0.

    Parameters
    ----------
    seed : int
        Of MgNet's weights.

    Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithms 1 and 3.
    """
    layout = _Layout()
    figure = Figure(figsize=layout.size)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    _draw_bands(axes, layout)
    halves = _multigrid(), _mgnet(seed)
    for left, content in zip(layout.lefts, halves, strict=True):
        _Half(axes, layout, left).draw(content)
    _draw_sizes(axes, layout, halves)
    _draw_dictionary(axes, layout)
    axes.set(xlim=(0.0, layout.size[0]), ylim=(0.0, layout.size[1]), aspect="equal")
    axes.set_axis_off()
    return figure


# ------------------------------------------------------------------------------------------------------------- contents


def _picture(side: int) -> Array:
    """Return a ring and a bar, with soft edges, 1 on 0."""
    place = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = np.meshgrid(place, place, indexing="ij")
    ring = np.abs(np.hypot(x + 0.2, y + 0.15) - 0.42) - 0.11
    along, across = (x + y) / np.sqrt(2) - 0.35, (x - y) / np.sqrt(2)
    bar = np.maximum(np.abs(along) - 0.6, np.abs(across) - 0.09)
    return np.asarray(1 / (1 + np.exp(np.minimum(ring, bar) / 0.02)))


def _multigrid() -> _Content:
    problem = Poisson((SIDES[0], SIDES[0]))
    cycle = StencilCycle(problem, smoother=Jacobi(0.8), post=0, state_transfer="injection", max_levels=LEVELS)
    f, u = problem.rhs(_picture(SIDES[0])), None
    data, state = [], []
    for at, level in enumerate(cycle.levels):
        data.append(f[None])
        u, f, start = level.descend(f, u, cycle.levels[at + 1] if at + 1 < LEVELS else None)
        state.append(u[None])
        u = start
    kernels = {"A": FIVE_POINT, "R": FULL_WEIGHTING, "Pi": POINT}
    slots: dict[str, Sequence[Any]] = {name: [kernel] * LEVELS for name, kernel in kernels.items()}
    slots["B"] = [POINT] * (LEVELS - 1) + [None]  # the coarsest level is solved
    words = {
        "title": r"Multigrid for  $-\Delta u = f$",
        "data": "right-hand side  $f$",
        "state": "solution  $u$",
        "A": "5-point stencil",
        "B": r"$\omega D^{-1}$",
        "R": "full weighting",
        "Pi": "injection",
        "P": "interpolation",
    }
    return _Content(data, state, slots, words)


def _mgnet(seed: int) -> _Content:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = MgNet(steps=(2,) * LEVELS, features=CHANNELS, in_channels=1)  # norms take this picture's own statistics
        picture = torch.from_numpy(_picture(SIDES[1])).float()[None, None]
        levels = network.cycle.trace(network.theta(picture))[1]

    def kernel(name: str) -> Array:
        weights: Array = network.state_dict()[f"cycle.levels.{name}.weight"][0, 0].double().numpy()
        return weights

    at = range(LEVELS)
    kernels: dict[str, Sequence[Any]] = {
        "A": [kernel(f"{level}.operator.convolution") for level in at],
        "B": [kernel(f"{level}.smoother.steps.0.convolution") for level in at],
        "R": [kernel(f"{level}.restriction.convolution") for level in at[:-1]],
        "Pi": [kernel(f"{level}.state_transfer.convolution") for level in at[:-1]],
    }
    words = {
        "title": "MgNet for an image",
        "data": "data  $f$",
        "state": "features  $u$",
        "A": "convolution",
        "B": r"$\sigma\,\eta\ast\sigma$",
        "R": "stride 2",
        "Pi": "stride 2",
        "P": "transposed",
    }
    data = [level.data[0].double().numpy() for level in levels]
    return _Content(
        data, [level.features[0].double().numpy() for level in levels if level.features is not None], kernels, words
    )


# -------------------------------------------------------------------------------------------------------------- drawing


class _Layout:
    """Positions, in inches from the lower left corner."""

    tile, between, pitch = 1.1, 1.55, 2.1  # side of a tile, from f to u, from level to level
    header, footer, side = 1.15, 1.2, 1.2
    middle = 2.0  # width of the dictionary
    stack = 0.09  # offset of a channel from the one before it

    def __init__(self) -> None:
        self.half = 2 * self.tile + self.between + 0.55
        self.lefts = self.side, self.side + self.half + self.middle
        self.size = (
            self.lefts[1] + self.half + self.side - 0.1,
            self.header + self.footer + (LEVELS - 1) * self.pitch + self.tile,
        )
        self.center = self.side + self.half + self.middle / 2 - 0.03

    def y(self, level: int) -> float:
        """Height of the middle of a level."""
        return self.size[1] - self.header - self.tile / 2 - level * self.pitch


def _draw_bands(axes: Axes, layout: _Layout) -> None:
    for level in range(LEVELS):
        height = layout.tile + 0.46
        corner = (0.15, layout.y(level) - height / 2)
        shape = "round,pad=0,rounding_size=0.12"
        axes.add_patch(
            FancyBboxPatch(corner, layout.size[0] - 0.3, height, boxstyle=shape, facecolor=BAND, edgecolor="none", zorder=0)
        )


def _draw_sizes(axes: Axes, layout: _Layout, halves: Sequence[_Content]) -> None:
    """Draw the grids of both halves at the outer ends of each level's band."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "color": QUIET, "linespacing": 1.4}
    for level in range(LEVELS):
        axes.text(0.68, layout.y(level), f"level {level}\n{halves[0].size(level)}", **look)
        axes.text(layout.size[0] - 0.62, layout.y(level), halves[1].size(level), **look)


def _draw_dictionary(axes: Axes, layout: _Layout) -> None:
    """Draw the pairs of terms in the middle, between the two things that they name."""
    last = LEVELS - 1
    for level in range(LEVELS):
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "fontweight": "bold", "linespacing": 1.5}
        axes.text(layout.center, layout.y(level), "smoothing\n=\nfeature extraction", color=EXTRACT, **look)
        if level < last:
            axes.text(layout.center, layout.y(level) - layout.pitch / 2, "restriction = pooling", color=DOWN, **look)
    axes.text(layout.size[0] / 2, 0.72, FORMULA, ha="center", va="center", fontsize=12)
    axes.text(layout.size[0] / 2, 0.32, UPWARD, ha="center", va="center", fontsize=9, color=QUIET)


class _Half:
    """One of the two halves: the same boxes and arrows at the same places, with different contents."""

    def __init__(self, axes: Axes, layout: _Layout, left: float) -> None:
        self.axes, self.layout = axes, layout
        self.f, self.u = left, left + layout.tile + layout.between  # left ends of the two columns of tiles

    def draw(self, content: _Content) -> None:
        layout, top = self.layout, self.layout.size[1]
        middle = (self.f + self.u + layout.tile) / 2
        self.axes.text(middle, top - 0.3, content.words["title"], ha="center", va="center", fontsize=13, fontweight="bold")
        for x, name in ((self.f, "data"), (self.u, "state")):
            label = content.words[name]
            self.axes.text(x + layout.tile / 2, top - 0.78, label, ha="center", va="center", fontsize=10, color=QUIET)
        for level in range(LEVELS):
            self._draw_level(level, content)
            if level < LEVELS - 1:
                self._draw_transfers(level, content)

    def _draw_level(self, level: int, content: _Content) -> None:
        y = self.layout.y(level)
        for x, channels in ((self.f, content.data[level]), (self.u, content.state[level])):
            self._draw_channels(x, y, channels)
        begin, end = self.f + self.layout.tile + 0.24, self.u - 0.07
        self._arrow((begin, y + 0.22), (end, y + 0.22), EXTRACT)
        self._arrow((end, y - 0.22), (begin, y - 0.22), EXPLAIN)
        middle = (begin + end) / 2
        for name, height, color in (("B", y + 0.22, EXTRACT), ("A", y - 0.22, EXPLAIN)):
            self._draw_kernel((middle, height), content.kernels[name][level], color)
        extracts = content.words["B"] if content.kernels["B"][level] is not None else "$A^{-1}$"
        self.axes.text(middle, y + 0.52, f"$B$   {extracts}", ha="center", va="center", fontsize=9, color=EXTRACT)
        self.axes.text(middle, y - 0.52, f"$A$   {content.words['A']}", ha="center", va="center", fontsize=9, color=EXPLAIN)

    def _draw_transfers(self, level: int, content: _Content) -> None:
        layout = self.layout
        high, low = layout.y(level) - layout.tile / 2 - 0.05, layout.y(level + 1) + layout.tile / 2 + 0.22
        middle = (high + low) / 2
        for x, name, symbol in ((self.f, "R", "$R$"), (self.u, "Pi", r"$\Pi$")):
            x += layout.tile / 2 - 0.2
            self._arrow((x, high), (x, low), DOWN)
            self._draw_kernel((x, middle), content.kernels[name][level], DOWN)
            label = f"{symbol}   {content.words[name]}"
            self.axes.text(x + 0.26, middle, label, ha="left", va="center", fontsize=9, color=DOWN)
        x = self.u + layout.tile + 0.32
        self._arrow((x, layout.y(level + 1)), (x, layout.y(level)), UP, linestyle=(0, (3, 2)))
        label = f"$P$   {content.words['P']}"
        self.axes.text(x + 0.13, middle, label, ha="center", va="center", fontsize=9, color=UP, rotation=90)

    def _draw_channels(self, x: float, y: float, channels: Array) -> None:
        tile, step = self.layout.tile, self.layout.stack
        shown = channels[most_energetic(channels - channels.mean(axis=(1, 2), keepdims=True), SHOWN)]
        for number, channel in reversed(list(enumerate(shown))):
            left, bottom = x + number * step, y - tile / 2 + number * step
            self._image((left, bottom, tile), channel, zorder=3 - 0.1 * number)

    def _draw_kernel(self, center: tuple[float, float], kernel: Any, color: str) -> None:
        side = 0.3
        corner = (center[0] - side / 2, center[1] - side / 2, side)
        self._image(corner, np.zeros((1, 1)) if kernel is None else np.asarray(kernel, float), zorder=5, edge=color, width=1.2)
        if kernel is None:
            self.axes.text(*center, "solve", ha="center", va="center", fontsize=6.5, color=color, zorder=6)

    def _image(
        self, corner: tuple[float, float, float], values: Array, zorder: float, edge: str = FRAME, width: float = 0.6
    ) -> None:
        left, bottom, side = corner
        limit = color_limit(values)
        extent = (left, left + side, bottom, bottom + side)
        look: dict[str, Any] = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
        self.axes.imshow(values, extent=extent, zorder=zorder, **look)
        frame = Rectangle((left, bottom), side, side, facecolor="none", edgecolor=edge, linewidth=width, zorder=zorder + 0.01)
        self.axes.add_patch(frame)

    def _arrow(self, begin: tuple[float, float], end: tuple[float, float], color: str, **look: Any) -> None:
        arrow = FancyArrowPatch(
            begin, end, color=color, arrowstyle="-|>", mutation_scale=10, linewidth=1.5, shrinkA=0, shrinkB=0, **look
        )
        arrow.set_zorder(4)
        self.axes.add_patch(arrow)


if __name__ == "__main__":
    torch.set_num_threads(1)
    save(draw(), sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "one_cycle.png")
