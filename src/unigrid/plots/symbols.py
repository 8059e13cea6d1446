"""Symbols over the frequencies: the amplification of each wave by a smoother, and by the A^l and B^l of a network."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from ..analysis import FourierAnalysis, KernelSymbol, network_symbols
from .style import SEQUENTIAL, add_color_bar, looks_of
from .tiles import PanelGrid

if TYPE_CHECKING:
    from ..conv.classifier import Classifier

RESOLUTION = 128  # frequencies along each axis of a picture
MOST_COLUMNS = 4


def plot_smoothing(*analyses: FourierAnalysis, labels: list[str] | None = None) -> Figure:
    """Return a figure of |S(theta)|, the factor by which one step of each smoother reduces an error wave of frequency theta.

    In 2-D one panel per analysis, in 1-D one line. The frequencies that the coarser grid represents lie inside the dashed
    box; the largest value outside is the smoothing factor, mu. Red-black couples theta with theta + (pi, .., pi): of it the
    spectral radius on those of the two on the same side is drawn, see `FourierAnalysis.smoothing_symbol`.

    Parameters
    ----------
    *analyses : FourierAnalysis
        Of stencils of one axis, or of two.
    labels : list of str, optional
        Their names; by default those of the smoothers.

    Raises
    ------
    ValueError
        Without an analysis, for three axes, or for another number of labels.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), sections 4.3 and 4.5.

    Examples
    --------
    >>> import unigrid
    >>> problem = unigrid.Poisson((63, 63))
    >>> smoothers = [unigrid.Jacobi(0.8), unigrid.RedBlack(omega=1.0)]
    >>> figure = plot_smoothing(*(FourierAnalysis(problem, smoother=smoother) for smoother in smoothers))
    >>> [f"{axes.get_title()}: {axes.get_xlabel()}" for axes in figure.axes[:2]]
    ['Jacobi(0.8): μ = 0.600', 'RedBlack(1.0): μ = 0.250']
    """
    axes_counts = {analysis.ndim for analysis in analyses}
    if axes_counts not in ({1}, {2}):
        what = f"got analyses of {sorted(axes_counts)} axes" if analyses else "got none"
        raise ValueError(f"smoothers on stencils of one axis, or all of two, can be drawn; {what}")
    if labels is not None and len(labels) != len(analyses):
        raise ValueError(f"{len(analyses)} analyses need as many labels, got {len(labels)}")
    names = [_name(analysis.smoother) for analysis in analyses] if labels is None else labels
    return _lines(analyses, names) if axes_counts == {1} else _images(analyses, names)


def plot_symbols(model: Classifier) -> Figure:
    """Return a figure of the symbols of a network's A^l (upper row) and B^l (lower row), one column per level.

    Drawn is the root of the mean of |K^(theta)|^2 over pairs of channels, in parts of its largest value, which stands below
    with the share of the energy inside the dashed box |theta| < pi/2. A filter that treats all frequencies alike has 25 %
    there; one with at least 40 % is called low-pass, one with at most 14 % high-pass: then the mean energies inside and
    outside differ by a factor of two. Operators that several levels share are drawn once, on the first of them, with a title
    that names the others.

    Parameters
    ----------
    model : unigrid.MgNet, or another network through `ConvCycle`

    Raises
    ------
    TypeError, ValueError
        As `unigrid.analysis.network_symbols`.

    Examples
    --------
    >>> from unigrid.conv import MgNet
    >>> figure = plot_symbols(MgNet(features=16))
    >>> figure.axes[0].get_title()
    '$A$, level 0: mixed'
    """
    symbols = network_symbols(model)
    slots = sorted({symbol.slot for symbol in symbols})
    columns = sorted({symbol.levels[0] for symbol in symbols})
    panels = _Panels(len(slots), len(columns))
    for symbol in symbols:
        axes = panels.add(slots.index(symbol.slot), columns.index(symbol.levels[0]))
        image = draw_symbol(axes, symbol)
    panels.add_scale(image, "root mean square, in parts of its largest")
    return panels.figure


def draw_symbol(axes: Axes, symbol: KernelSymbol) -> AxesImage:
    """Draw the root mean square of a symbol over the frequencies into `axes`, in parts of its largest value, with its kind.

    As images are, axis 0 is drawn vertical.
    """
    theta = (np.arange(RESOLUTION) + 0.5) * 2 * np.pi / RESOLUTION - np.pi
    values = symbol.root_mean_square(theta[:, None], theta[None, :])
    largest = float(values.max())
    image = _draw(axes, values / largest if largest else values, (2, 2), ("θ₁", "θ₀"), 1.0)
    where = f"level{'s' * (len(symbol.levels) > 1)} {', '.join(map(str, symbol.levels))}"
    axes.set_title(f"${symbol.slot}$, {where}: {symbol.kind}", fontsize=9)
    axes.set_xlabel(f"{symbol.low_share:.1%} of the energy low\nlargest {largest:.2g}", fontsize=8)
    return image


def _images(analyses: tuple[FourierAnalysis, ...], names: list[str]) -> Figure:
    rows = math.ceil(len(analyses) / MOST_COLUMNS)
    columns = math.ceil(len(analyses) / rows)
    panels = _Panels(rows, columns)
    drawn = [analysis.smoothing_symbol(RESOLUTION)[1] for analysis in analyses]
    limit = max(1.0, *(float(values.max()) for values in drawn))
    for number, (analysis, values, name) in enumerate(zip(analyses, drawn, names, strict=True)):
        axes = panels.add(*divmod(number, columns))
        image = _draw(axes, values.T, analysis.factors, ("θ₀", "θ₁"), limit)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel(f"μ = {analysis.smoothing_factor:.3f}", fontsize=9)
    panels.add_scale(image, "|S(θ)|, amplification per step")
    return panels.figure


def _lines(analyses: tuple[FourierAnalysis, ...], names: list[str]) -> Figure:
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(-np.pi / 2, np.pi / 2, color="0.93", zorder=0)
    axes.set_title("represented on the coarser grid", fontsize=8)
    looks = looks_of(list(range(len(analyses))))
    for number, (analysis, name) in enumerate(zip(analyses, names, strict=True)):
        theta, values = analysis.smoothing_symbol(RESOLUTION)
        label = f"{name}, μ = {analysis.smoothing_factor:.3f}"
        axes.plot(theta, values, markevery=(4, 8), label=label, **looks[number])
    axes.set(xlabel="θ, radians per grid point", ylabel="|S(θ)|, amplification per step", xlim=(-np.pi, np.pi), ylim=(0, None))
    axes.set_xticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi], ["−π", "−π/2", "0", "π/2", "π"])
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _name(smoother: Any) -> str:
    """Return a short name: the first of a smoother's numbers, and what else is not by default."""
    if not dataclasses.is_dataclass(smoother) or not dataclasses.fields(smoother):
        return f"{smoother!r}"
    first, *others = dataclasses.fields(smoother)
    changed = [(field.name, getattr(smoother, field.name)) for field in others]
    given = [f"{name}={value!r}" for (name, value), field in zip(changed, others, strict=True) if value != field.default]
    return f"{type(smoother).__name__}({', '.join([f'{getattr(smoother, first.name)!r}', *given])})"


class _Panels(PanelGrid):
    """Panels with room for ticks, and a color bar with a label."""

    left, gap, right, below = 0.35, 0.45, 0.95, 0.68

    def add_scale(self, image: AxesImage, label: str) -> None:
        """Add the color bar of an image."""
        height = min(2.5, 0.8 * self.size[1])
        bar = self._axes(self.size[0] - self.right + 0.2, (self.size[1] - height + self.below - self.above) / 2, 0.12, height)
        add_color_bar(bar, image, label)
        bar.tick_params(labelsize=8)
        bar.yaxis.label.set_fontsize(8)


def _draw(axes: Axes, values: ArrayLike, factors: tuple[int, ...], names: tuple[str, str], limit: float) -> AxesImage:
    """Draw values (upward, to the right) of -pi to pi, and the box of low frequencies; `names` of the axes: right, upward."""
    extent = (-np.pi, np.pi, -np.pi, np.pi)
    image = axes.imshow(values, origin="lower", extent=extent, cmap=SEQUENTIAL, vmin=0.0, vmax=limit)
    width, height = (2 * np.pi / factor for factor in factors)
    box = Rectangle((-width / 2, -height / 2), width, height, fill=False, color="white", linestyle="--", linewidth=1.2)
    axes.add_patch(box)
    axes.set_xticks([-np.pi, 0.0, np.pi], ["−π", names[0], "π"])
    axes.set_yticks([-np.pi, 0.0, np.pi], ["−π", names[1], "π"])
    axes.tick_params(labelsize=8)
    return image
