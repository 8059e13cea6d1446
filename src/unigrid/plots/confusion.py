"""The confusion matrix of a classifier and its most confused pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_count
from .style import SHARES

EXPONENT = 0.5  # the shade grows with the root of the share, so that a few per cent are visible beside the diagonal
TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
MOST_NUMBERS = 12  # a matrix of at most so many classes has its counts written into its cells
MOST_NAMES = 30  # one of more than so many has numbered classes, as their names would overlap
WORST = 12  # how many confused pairs are listed where the cells hold no counts
DARK_FROM = 0.65  # from this part of the color map on, white is easier to read than black


def plot_confusion(matrix: ArrayLike, classes: Sequence[str] | None = None) -> Figure:
    """Return a figure of a confusion matrix: the share of each true class in color, and the counts where there is room.

    Of many classes it lists the most confused pairs instead of the counts. The title has the accuracy, trace over sum.

    Parameters
    ----------
    matrix : array_like of counts (k, k)
        matrix[i, j] images of class i were taken for class j.
    classes : sequence of k str, optional
        Their names; without them classes go by their number.

    Raises
    ------
    ValueError
        If the matrix is not square, has anything but counts in it, or counts no image; if there are not k names.

    Examples
    --------
    >>> from unigrid import plots
    >>> plots.plot_confusion([[8, 2], [1, 9]], ["cat", "dog"]).axes[0].get_title()
    'accuracy 85.0 % of 20 images'
    """
    matrix, names = _checked(matrix, classes)
    many = len(matrix) > MOST_NUMBERS
    side = min(2.2 + 0.42 * len(matrix), 6.8)
    figure = Figure(figsize=(side + (3.6 if many else 1.0), side), layout="constrained")
    if many:
        axes, beside = figure.subplots(1, 2, width_ratios=(side, 2.6))
        _draw_worst(beside, matrix, names)
    else:
        axes = figure.subplots()
    image = draw_confusion(axes, matrix, names)
    bar = figure.colorbar(image, ax=axes, label="share of the true class (%)", ticks=TICKS, shrink=0.8, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}"))
    return figure


def draw_confusion(axes: Axes, matrix: ArrayLike, classes: Sequence[str] | None = None) -> AxesImage:
    """Draw the confusion matrix into `axes`, without color bar and list of pairs; arguments as of `plot_confusion`."""
    matrix, names = _checked(matrix, classes)
    shares = _shares(matrix)
    axes.set_facecolor("0.9")  # what a class without images shows
    image = axes.imshow(shares, cmap=SHARES, norm=PowerNorm(EXPONENT, 0.0, 1.0), interpolation="nearest")
    if len(matrix) <= MOST_NUMBERS:
        _write_counts(axes, matrix, np.asarray(image.norm(shares)))
    _label(axes, names)
    axes.set_title(f"accuracy {100 * (np.trace(matrix) / matrix.sum()):.1f} % of {matrix.sum():,} images", fontsize="medium")
    return image


def most_confused(matrix: ArrayLike, count: int = WORST) -> list[tuple[int, int, float]]:
    """Return the most confused pairs as (true class, predicted class, share of the true class), the worst first.

    >>> most_confused([[7, 3, 0], [0, 8, 2], [0, 0, 5]], count=2)
    [(0, 1, 0.3), (1, 2, 0.2)]
    """
    shares = np.nan_to_num(_shares(_checked(matrix, None)[0]))
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[: checked_count("count", count)]
    pairs = zip(*np.unravel_index(order, shares.shape), strict=True)
    return [(int(true), int(predicted), float(shares[true, predicted])) for true, predicted in pairs if shares[true, predicted]]


def _checked(matrix: ArrayLike, classes: Sequence[str] | None) -> tuple[NDArray[np.int64], list[str]]:
    values = np.asarray(matrix)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
        raise ValueError(f"a confusion matrix has shape (classes, classes), got {values.shape}")
    if values.dtype.kind not in "biuf" or not np.all(np.isfinite(values) & (values >= 0) & (values == np.floor(values))):
        raise ValueError("a confusion matrix holds counts, whole numbers >= 0; give the counts, not shares of them")
    if not values.any():
        raise ValueError("the confusion matrix counts no image; evaluate the model on at least one")
    if classes is not None and len(classes) != len(values):
        raise ValueError(f"the matrix has {len(values)} classes, but there are {len(classes)} names")
    names = [str(number) for number in range(len(values))] if classes is None else list(classes)
    return values.astype(np.int64), names


def _shares(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the shares of each true class; NaN for a class without images."""
    images = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, images, out=np.full(matrix.shape, np.nan), where=images > 0)


def _write_counts(axes: Axes, matrix: NDArray[np.int64], shades: NDArray[np.float64]) -> None:
    """Write each count into its cell; zeros, which are white, would only hide the rest."""
    size = min(9.0, 36.0 / len(f"{matrix.max()}"))
    for (true, predicted), count in np.ndenumerate(matrix):
        if count:
            color = "white" if shades[true, predicted] >= DARK_FROM else "black"
            axes.text(predicted, true, str(count), ha="center", va="center", fontsize=size, color=color)


def _label(axes: Axes, names: list[str]) -> None:
    if len(names) > MOST_NAMES:
        axes.set(xlabel="number of the predicted class", ylabel="number of the true class")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10, integer=True))
        return
    axes.set(xlabel="predicted class", ylabel="true class")
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 2 else {}
    axes.set_xticks(range(len(names)), names, **slanted)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)


def _draw_worst(axes: Axes, matrix: NDArray[np.int64], names: list[str]) -> None:
    """List the most confused pairs, with their numbers where the axes of the matrix go by numbers."""
    axes.set_axis_off()
    numbered = len(names) > MOST_NAMES
    worst = most_confused(matrix)
    head = "most often taken for another\n(share of the true class)" if worst else "no image was taken for another"
    axes.text(0.0, 1.0, head, va="top", fontweight="bold", fontsize=9)
    for row, (true, predicted, share) in enumerate(worst):
        pair = " → ".join(f"{names[number]} ({number})" if numbered else names[number] for number in (true, predicted))
        height = 0.91 - 0.05 * row
        axes.text(0.13, height, f"{100 * share:.0f} %", va="top", ha="right", fontsize=9)
        axes.text(0.17, height, pair, va="top", fontsize=9)
