"""The levels of a network for one image: data f, features u and residual f - A u, side by side."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_count
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
    channels = checked_count("channels", channels)
    _check(image)
    image = image[None] if image.ndim == 3 else image
    states = states_of(model, image)
    grid = PanelGrid(len(states), 4, aspect=image.shape[2] / image.shape[3])
    _draw_picture(grid.add(0, 0), _stretched(image) if picture is None else np.asarray(picture))
    for number, state in enumerate(states):
        panels = [grid.add(number, column) for column in (1, 2, 3)]
        for axes, panel in zip(panels, panels_of(state, channels), strict=True):
            _draw(axes, panel)
        panels[0].set_ylabel("level {}:  {} × {}".format(number, *state.data.shape[2:]))
        if number == 0:
            for axes, title in zip(panels, TITLES, strict=True):
                axes.set_title(title, fontsize="medium")
    grid.add_bar(extend="both")
    return grid.figure


def draw_channels(axes: Axes, values: ArrayLike, *, channels: int = CHANNELS) -> None:
    """Draw the channels of largest norm of an array (channels, height, width) into `axes`, as `plot_levels` does."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 3 or values.size == 0:
        raise ValueError(f"an array (channels, height, width) can be drawn, got shape {values.shape}")
    _draw(axes, _strongest(values, checked_count("channels", channels)))


@dataclass(frozen=True)
class Panel:
    """What one panel shows: channels (count, height, width), the limit of their colors, a caption; or a note in their place."""

    channels: NDArray[np.float64] | None
    limit: float
    caption: str


def panels_of(state: LevelState, channels: int = CHANNELS) -> tuple[Panel, Panel, Panel]:
    """Return data, features and residual of a level, the residual like the data if it has the channels of the data."""
    data = _array(state.data)
    residual = None if state.residual is None else _array(state.residual)
    shown = most_energetic(data, channels)
    values = data[shown]
    if residual is not None and residual.shape == data.shape:
        values = np.stack([values, residual[shown]])
    limit = color_limit(values, SHOWN_PART)
    return _panel(data, shown, limit), _features(state, channels), _residual(residual, data, shown, limit)


def _features(state: LevelState, channels: int) -> Panel:
    if state.features is None:
        return Panel(None, 1.0, "$u = 0$")
    if state.features is state.residual:
        return Panel(None, 1.0, "the state is\nthe residual")
    return _strongest(_array(state.features), channels)


def _residual(residual: NDArray[np.float64] | None, data: NDArray[np.float64], shown: NDArray[np.int64], limit: float) -> Panel:
    if residual is None:
        return Panel(None, 1.0, "no $A$ on this level")
    if residual.shape != data.shape:
        return _strongest(residual, len(shown))  # the steps of a plain network may widen it
    part = np.linalg.norm(residual) / (np.linalg.norm(data) or 1.0)
    return Panel(residual[shown], limit, rf"$\|f - A u\| = {part:.2g}\,\|f\|$" + "\nthe same channels and colors")


def _strongest(values: NDArray[np.float64], channels: int) -> Panel:
    shown = most_energetic(values, channels)
    return _panel(values, shown, color_limit(values[shown], SHOWN_PART))


def _panel(values: NDArray[np.float64], shown: NDArray[np.int64], limit: float) -> Panel:
    numbers = textwrap.fill(f"channels {', '.join(map(str, shown))} of {len(values)}", CAPTION)
    return Panel(values[shown], limit, f"{numbers}\ncolors to ±{limit:.2g}")


def _draw(axes: Axes, panel: Panel) -> None:
    if panel.channels is None:
        _say(axes, panel.caption)
        return
    draw_tiles(axes, panel.channels, panel.limit)
    axes.set_xlabel(panel.caption, fontsize=8)


def _check(image: Tensor) -> None:
    if not getattr(getattr(image, "dtype", None), "is_floating_point", False):
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"image must be a floating-point Tensor, normalized as in training, got {kind}")
    if image.ndim not in (3, 4) or (image.ndim == 4 and len(image) != 1):
        raise ValueError(f"one image of shape (channels, height, width) is drawn, got shape {tuple(image.shape)}")


def states_of(model: Classifier, image: Tensor) -> list[LevelState]:
    """Run the model without gradients and without touching its batch norms' statistics."""
    import torch

    if not hasattr(model, "forward_intermediates"):
        raise TypeError(
            f"{type(model).__name__} has no forward_intermediates, which returns the states of its levels; try unigrid.MgNet"
        )
    from ..conv.modes import evaluating

    weight = next(model.parameters())
    with torch.no_grad(), evaluating(model):
        return model.forward_intermediates(image.to(weight.device, weight.dtype))[1]


def _array(values: Tensor) -> NDArray[np.float64]:
    """Return the first of a batch."""
    return values[0].detach().double().cpu().numpy()


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
