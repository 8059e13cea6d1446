"""Learned kernels: those of A, B, R and Pi on every level of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_count
from .tiles import PanelGrid, color_limit, draw_tiles, most_energetic

if TYPE_CHECKING:
    from torch import Tensor

    from ..conv.classifier import Classifier

COUNT = 16
SLOTS = {
    "operator": "$A$", "smoother": "$B$", "restriction": "$R$", "state_transfer": r"$\Pi$", "prolongation": "$P$",
    "post_smoother": "$B$ of the way up",
}  # fmt: skip


def plot_kernels(model: Classifier, *, count: int = COUNT) -> Figure:
    """Return a figure of the learned kernels: one row per level, one column per slot, in each the kernels of the largest norm.

    A kernel maps one channel to one other. White is 0; the limit of the colors stands below each panel. Kernels that several
    levels share are drawn once, on the first of them, with a title that names the others; levels without kernels of their own
    have no row.

    Parameters
    ----------
    model : unigrid.MgNet, or another network through `ConvCycle`
    count : int
        The largest number of kernels to show per slot. Of a slot with kernels of several sizes, the largest size is shown.

    Raises
    ------
    ValueError
        If `count` is less than 1, or no slot has kernels.
    TypeError
        If the model has no cycle with levels.

    Examples
    --------
    >>> from unigrid.conv import MgNet
    >>> figure = plot_kernels(MgNet(features=16))
    >>> figure.axes[0].get_title(), figure.axes[0].get_xlabel().splitlines()[0]
    ('$A$, level 0', 'the 16 largest of 256')
    """
    from ..conv.convolutions import levels_of

    count = checked_count("count", count)
    levels = levels_of(model)
    groups = groups_of(levels)
    if not groups:
        raise ValueError(f"no slot of this {type(model).__name__} has convolution kernels to draw")
    rows = sorted({group.levels[0] for group in groups})
    slots = [slot for slot in SLOTS if any(group.slot == slot for group in groups)]
    grid = PanelGrid(len(rows), len(slots))
    for group in groups:
        axes = grid.add(rows.index(group.levels[0]), slots.index(group.slot))
        draw_kernels(axes, group.kernels, count=count)
        axes.set_title(group.name(len(levels)), fontsize=9)
    grid.add_bar()
    return grid.figure


def draw_kernels(axes: Axes, kernels: ArrayLike, *, count: int = COUNT) -> None:
    """Draw the `count` kernels of largest norm of an array (outputs, inputs, height, width) into `axes`."""
    shown, limit, caption = largest(kernels, count)
    draw_tiles(axes, shown, limit)
    axes.set_xlabel(caption, fontsize=8)


def largest(kernels: ArrayLike, count: int = COUNT) -> tuple[NDArray[np.float64], float, str]:
    """Return the kernels that `draw_kernels` shows (count, height, width), the limit of their colors, and the caption."""
    kernels = np.asarray(kernels, dtype=np.float64)
    if kernels.ndim < 3 or kernels.size == 0:
        raise ValueError(f"kernels (outputs, inputs, height, width) can be drawn, got shape {kernels.shape}")
    kernels = kernels.reshape(-1, *kernels.shape[-2:])
    shown = kernels[most_energetic(kernels, checked_count("count", count))]
    limit = color_limit(shown)
    which = f"all {len(kernels)}" if len(shown) == len(kernels) else f"the {len(shown)} largest of {len(kernels):,}"
    return shown, limit, f"{which if len(kernels) > 1 else 'one kernel'}\ncolors to ±{limit:.2g}"


@dataclass
class Group:
    """The weights (outputs, inputs, height, width) that a slot of a level uses, and the levels that share them."""

    slot: str
    weights: list[Tensor]
    levels: list[int]

    def name(self, depth: int) -> str:
        return f"{SLOTS[self.slot]}, {self.place(depth)}"

    def place(self, depth: int) -> str:
        """Return the level, or those that share the kernels, of a cycle of `depth` levels."""
        if len(self.levels) == 1:
            return f"level {self.levels[0]}"
        if len(self.levels) == depth or self.levels == list(range(depth - 1)):
            return "shared by all levels"
        return f"shared by levels {', '.join(map(str, self.levels))}"

    @property
    def kernels(self) -> NDArray[np.float64]:
        """Those of the largest size, (count, height, width)."""
        arrays = [weight.detach().double().cpu().numpy() for weight in self.weights]
        size = max(array[0, 0].size for array in arrays)
        return np.concatenate([array.reshape(-1, *array.shape[2:]) for array in arrays if array[0, 0].size == size])


def groups_of(levels: list[Any]) -> list[Group]:
    """Return the kernels of each slot of each level, those that several levels share once."""
    from ..conv.convolutions import convolutions_of

    groups: dict[tuple[Any, ...], Group] = {}
    for number, level in enumerate(levels):
        for slot in SLOTS:
            modules: list[Any] = convolutions_of(getattr(level, slot, None))
            if modules:
                group = Group(slot, [module.weight for module in modules], [])
                groups.setdefault((slot, *map(id, modules)), group).levels.append(number)
    return list(groups.values())
