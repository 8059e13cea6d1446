"""The levels of a network for one image: data f, features u and residual f - A u, side by side."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from .tiles import PanelGrid, color_limit, draw_tiles, hide_ticks, most_energetic

if TYPE_CHECKING:
    from torch import Tensor

    from ..conv.classifier import Classifier
    from ..conv.levels import LevelState

CHANNELS = 4
SHOWN_PART = 0.99  # of the values lie below the limit of the colors, or single pixels would leave the rest pale
CAPTION = 32  # characters per line
TITLES = ("data  $f$", "features  $u$", "residual  $f - A u$")


def plot_levels(model: Classifier, image: Tensor, *, picture: ArrayLike | None = None, channels: int = CHANNELS) -> Figure:
    """Return a figure of all levels for one image: one row per level; its data, features and residual in columns.

    Of data and of features the channels with the largest norm are shown, the residual in the channels of the data and to
    the same scale. White is 0; the limit of the colors stands below each panel, 99 % of its values being smaller. The model
    is evaluated as in `eval()` mode, and left in the mode that it was in.

    Parameters
    ----------
    model : unigrid.MgNet, or another network through `ConvCycle`
        Of a residual or plain network, whose state is the residual, no features apart from it are shown.
    image : Tensor (in_channels, height, width), or the same with a leading axis of length 1
        Normalized as in training.
    picture : array_like (height, width) or (height, width, 3), optional
        A picture to show for the image, uint8 or 0 to 1. By default the image itself, its values stretched to 0 to 1.
    channels : int
        The number of channels to show of each.

    Raises
    ------
    ValueError
        If the image is not a single one that the model takes, or `channels` is less than 1.
    TypeError
        If the model does not run through levels.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import MgNet
    >>> figure = plot_levels(MgNet(features=16), torch.rand(3, 32, 32))
    >>> figure.axes[1].get_ylabel()
    'level 0:  32 × 32'
    """
    _check(image, channels)
    image = image[None] if image.ndim == 3 else image
    levels = [_Level(state) for state in _evaluate(model, image)]
    grid = PanelGrid(len(levels), 4, aspect=image.shape[2] / image.shape[3])
    _draw_picture(grid.add(0, 0), _stretched(image) if picture is None else np.asarray(picture))
    panels = [[grid.add(row, column) for column in (1, 2, 3)] for row in range(len(levels))]
    for number, (level, row) in enumerate(zip(levels, panels, strict=True)):
        level.draw(row, channels)
        row[0].set_ylabel(f"level {number}:  {level.data.shape[1]} × {level.data.shape[2]}")
    for axes, title in zip(panels[0], TITLES, strict=True):
        axes.set_title(title, fontsize="medium")
    grid.add_bar(extend="both")
    return grid.figure


def draw_channels(axes: Axes, values: ArrayLike, *, channels: int = CHANNELS) -> None:
    """Draw the channels of largest norm of an array (channels, height, width) into `axes`, as `plot_levels` does."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or values.size == 0:
        raise ValueError(f"an array (channels, height, width) can be drawn, got shape {values.shape}")
    shown = most_energetic(values, channels)
    _draw_channels(axes, values, shown, color_limit(values[shown], SHOWN_PART))


class _Level:
    """A level's data, features and residual as arrays (channels, height, width); None where there is none."""

    def __init__(self, state: LevelState) -> None:
        residual = state.residual
        self.data = _array(state.data)
        self.residual = None if residual is None else _array(residual)
        self.features = None if state.features is None else _array(state.features)
        self.carries_residual = residual is not None and residual is state.features

    def draw(self, panels: list[Axes], channels: int) -> None:
        shown = most_energetic(self.data, channels)
        values = self.data[shown]
        if self.is_comparable:
            values = np.stack([values, self.residual[shown]])  # type: ignore[index]
        limit = color_limit(values, SHOWN_PART)
        _draw_channels(panels[0], self.data, shown, limit)
        self.draw_features(panels[1], channels)
        self.draw_residual(panels[2], shown, limit)

    @property
    def is_comparable(self) -> bool:
        """Whether the residual is data of the same channels; the steps of a plain network may widen it."""
        return self.residual is not None and self.residual.shape == self.data.shape

    def draw_features(self, axes: Axes, channels: int) -> None:
        if self.features is None:
            _say(axes, "$u = 0$")
        elif self.carries_residual:
            _say(axes, "the state is\nthe residual")
        else:
            draw_channels(axes, self.features, channels=channels)

    def draw_residual(self, axes: Axes, shown: NDArray[np.int64], limit: float) -> None:
        if self.residual is None:
            _say(axes, "no $A$ on this level")
        elif not self.is_comparable:
            draw_channels(axes, self.residual, channels=len(shown))
        else:
            draw_tiles(axes, self.residual[shown], limit)
            part = np.linalg.norm(self.residual) / (np.linalg.norm(self.data) or 1.0)
            axes.set_xlabel(rf"$\|f - A u\| = {part:.2g}\,\|f\|$" + "\nthe same channels and colors", fontsize=8)


def _check(image: Tensor, channels: int) -> None:
    if channels < 1:
        raise ValueError(f"channels must be >= 1, got {channels!r}")
    if not getattr(getattr(image, "dtype", None), "is_floating_point", False):
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"image must be a floating-point Tensor, normalized as in training, got {kind}")
    if image.ndim not in (3, 4) or (image.ndim == 4 and len(image) != 1):
        raise ValueError(f"one image of shape (channels, height, width) is drawn, got shape {tuple(image.shape)}")


def _evaluate(model: Classifier, image: Tensor) -> list[LevelState]:
    """Run the model without gradients and without touching its batch norms' statistics."""
    import torch

    if not hasattr(model, "forward_intermediates"):
        raise TypeError(
            f"{type(model).__name__} has no forward_intermediates, which returns the states of its levels; try unigrid.MgNet"
        )
    weight = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return model.forward_intermediates(image.to(weight.device, weight.dtype))[1]
    finally:
        for module, training in modes:  # one by one, as a user may have frozen some
            module.training = training


def _array(values: Tensor) -> NDArray[np.float64]:
    """Return the first of a batch."""
    return values[0].detach().double().cpu().numpy()


def _draw_channels(axes: Axes, values: NDArray[np.float64], shown: NDArray[np.int64], limit: float) -> None:
    draw_tiles(axes, values[shown], limit)
    numbers = textwrap.fill(f"channels {', '.join(map(str, shown))} of {len(values)}", CAPTION)
    axes.set_xlabel(f"{numbers}\ncolors to ±{limit:.2g}", fontsize=8)


def _stretched(image: Tensor) -> NDArray[np.float64]:
    values = _array(image).transpose(1, 2, 0)
    low, high = values.min(), values.max()
    return (values - low) / ((high - low) or 1.0)


def _draw_picture(axes: Axes, picture: NDArray[Any]) -> None:
    """Draw colors where there are three, else the first channel in gray."""
    if picture.ndim == 3 and picture.shape[2] != 3:
        picture = picture[:, :, 0]
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255 if picture.dtype == np.uint8 else 1}
    axes.imshow(picture, interpolation="nearest", **(gray if picture.ndim == 2 else {}))
    hide_ticks(axes)
    axes.set_title("image", fontsize="medium")


def _say(axes: Axes, text: str) -> None:
    hide_ticks(axes)
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
