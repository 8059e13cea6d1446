"""Shared style of all pictures: colors, markers, color bars, and writing a figure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..files import PICTURES, atomic_output, checked_output, require_writable

# M. Okabe and K. Ito's colors, which the color-blind can tell apart; without their yellow, too pale for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":", "-.")
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
SHARES = "Blues"  # pale at 0, which most of a confusion matrix is, or single mistakes would drown
DOWN, UP = COLORS[0], COLORS[1]  # restriction, prolongation
SURFACE, DENSE = "#DCE6EF", "#ACB4BB"  # a grid with its lines drawn, and one with too many lines to draw
BETWEEN = "0.8"  # gray gaps between tiles: white stands for 0
RESOLUTION = 200  # dots per inch


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to .png, .pdf or .svg, by the path's ending and all at once. Raises FileError."""
    write(figure, require_writable(checked_output(path, PICTURES)))


def write(figure: Figure, path: Path) -> None:
    """Write a figure, in place of a read-only file, too. Raises FileError."""
    with atomic_output(path) as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=RESOLUTION, bbox_inches="tight", pad_inches=0.06)


def add_grid(axes: Axes) -> None:
    """Add grid lines at the major ticks, behind the curves."""
    axes.grid(True, which="major", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)


def label_steps(axes: Axes, step: str, label: str) -> None:
    """Label axes whose horizontal one counts iterations or epochs, and add the grid."""
    axes.set(xlabel=step, ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    add_grid(axes)


def add_legend(axes: Axes, beside: bool = False, **options: Any) -> None:
    """Add a legend inside the axes or beside them, where it covers nothing."""
    if beside:
        axes.figure.legend(loc="outside right upper", frameon=False, fontsize="small", **options)
    else:
        axes.legend(frameon=False, fontsize="small", **options)


def add_color_bar(axes: Axes, image: ScalarMappable, label: str, extend: str = "neither") -> None:
    """Fill `axes` with the color bar of an image."""
    bar = axes.figure.colorbar(image, cax=axes, label=label, extend=extend)
    shorten(bar.formatter)
    bar.ax.yaxis.get_offset_text().set(ha="left", x=0.0)  # above the bar, away from the panel's title
    bar.update_ticks()


def shorten(formatter: Any) -> None:
    """Take powers of ten out of tick labels that would be long."""
    formatter.set_powerlimits((-2, 4))
    formatter.set_useMathText(True)


def looks_of(labels: list[Any]) -> dict[Any, dict[str, Any]]:
    """Return the look of each label; of pairs, the group gives the color and the variant the rest.

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
