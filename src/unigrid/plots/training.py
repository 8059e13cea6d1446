"""Training runs: loss, accuracy and learning rate over the epochs.

A history is a sequence of rows, one per epoch, each a mapping with the keys `epoch` (a whole number), `train_loss` and
`validation_loss`, `train_accuracy` and `validation_accuracy` (parts of 1), and `learning_rate`. All but `epoch` may be None or
absent; other keys are left alone. Several runs are a mapping of labels to such sequences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from ..messages import checked_number, shown
from .style import COLORS, add_legend, label_steps, looks_of

Row = Mapping[str, Any]
History = Sequence[Row]
Histories = History | Mapping[Any, History]

TRAINING, VALIDATION = "-", "--"
TEST_MARKER = "*"
LOG_FROM = 10.0  # a quantity whose largest value is this many times its smallest gets a logarithmic scale
MOST_IN_AXES = 3  # the legend of more runs than these stands beside the panels, where it covers nothing
HANDLE = 2.8  # length of a line in the legend, long enough to show dashes
MARKED = 12  # about how many epochs of a curve carry a marker


def plot_training(histories: Histories, *, test_accuracy: float | Mapping[Any, float] | None = None) -> Figure:
    """Return a figure of one or more training runs: loss, accuracy in %, and in a thin panel the learning rate, over epochs.

    Training is drawn solid, validation dashed. A training loss that is not finite leaves a gap; the first is marked.

    Parameters
    ----------
    histories : sequence of rows, or mapping of labels to sequences of rows
        Rows as in this module's docstring. A label is a str or a pair (group, variant): runs of one group then share
        their color, those of one variant the marker.
    test_accuracy : float, or mapping of labels to float, optional
        Part of the test set that the finished run got right, drawn as a star at its last epoch.

    Raises
    ------
    ValueError
        If there is no epoch to draw, a row lacks its epoch, or an accuracy is not between 0 and 1.

    Examples
    --------
    >>> from unigrid import plots
    >>> rows = [{"epoch": 1, "train_loss": 1.9, "train_accuracy": 0.3}, {"epoch": 2, "train_loss": 1.5, "train_accuracy": 0.45}]
    >>> [panel.get_ylabel() for panel in plots.plot_training(rows, test_accuracy=0.43).axes]
    ['training loss', 'accuracy (%)']
    """
    runs = _runs(histories, test_accuracy)
    many = len(runs) > MOST_IN_AXES
    with_rate = any(run.has("learning_rate") for run in runs)
    figure = Figure(figsize=(8.4 if many else 6.4, 6.6 if with_rate else 5.6), layout="constrained")
    panels = list(figure.subplots(2 + with_rate, 1, sharex=True, height_ratios=[3, 3, 1.2][: 2 + with_rate]))
    _draw_loss(panels[0], runs)
    _draw_accuracy(panels[1], runs)
    if with_rate:
        _draw_learning_rate(panels[2], runs)
    for panel in panels[:-1]:
        panel.set_xlabel("")
    _add_legend(panels[1], runs, beside=many)
    figure.align_ylabels(panels)
    return figure


def draw_loss(axes: Axes, histories: Histories) -> None:
    """Draw the loss over the epochs into `axes`; arguments as of `plot_training`."""
    runs = _runs(histories)
    _draw_loss(axes, runs)
    _add_legend(axes, runs)


def draw_accuracy(axes: Axes, histories: Histories, *, test_accuracy: float | Mapping[Any, float] | None = None) -> None:
    """Draw training and validation accuracy in % over the epochs into `axes`; arguments as of `plot_training`."""
    runs = _runs(histories, test_accuracy)
    _draw_accuracy(axes, runs)
    _add_legend(axes, runs)


def draw_learning_rate(axes: Axes, histories: Histories) -> None:
    """Draw the learning rate over the epochs into `axes`; arguments as of `plot_training`."""
    _draw_learning_rate(axes, _runs(histories))


@dataclass(frozen=True)
class _Run:
    """One history, its label (None: the only one) and its look."""

    label: Any
    look: Mapping[str, Any]
    rows: History
    test_accuracy: float | None

    @property
    def name(self) -> str:
        if self.label is None:
            return ""
        return ", ".join(map(str, self.label)) if isinstance(self.label, tuple) else str(self.label)

    @property
    def accuracies(self) -> str:
        """The text of the legend: of a run among several those to compare it by, the training accuracy only without them."""
        training = f"training {_percent(self.last('train_accuracy'))}"
        if self.label is None:
            return training
        measured = {"validation": self.last("validation_accuracy"), "test": _number(self.test_accuracy)}
        shown = [f"{name} {_percent(value)}" for name, value in measured.items() if not math.isnan(value)]
        return f"{self.name}: {', '.join(shown) or training}"

    @property
    def epochs(self) -> NDArray[np.int64]:
        return np.array([row["epoch"] for row in self.rows])

    def color(self, number: int) -> str:
        """Return a color of its own for part of a single run; among several runs the color stands for the run."""
        color: str = COLORS[number] if self.label is None else self.look["color"]
        return color

    def has(self, key: str) -> bool:
        return any(row.get(key) is not None for row in self.rows)

    def column(self, key: str) -> NDArray[np.float64]:
        """Return one number per epoch; NaN, which leaves a gap, for missing and infinite ones."""
        values = np.array([_number(row.get(key)) for row in self.rows])
        return np.where(np.isfinite(values), values, math.nan)

    @property
    def first_not_finite(self) -> int | None:
        """The first epoch whose loss was measured and is NaN or infinite."""
        measured = [row for row in self.rows if row.get("train_loss") is not None]
        return next((row["epoch"] for row in measured if not math.isfinite(_number(row["train_loss"]))), None)

    def last(self, key: str) -> float:
        """Return the last finite value, NaN if there is none."""
        values = self.column(key)
        return float(next((value for value in values[::-1] if not math.isnan(value)), math.nan))


def _runs(histories: Histories, test_accuracy: float | Mapping[Any, float] | None = None) -> list[_Run]:
    several = isinstance(histories, Mapping)
    named: Mapping[Any, History] = histories if isinstance(histories, Mapping) else {None: histories}
    if not named:
        raise ValueError("no run to draw: histories is empty")
    if isinstance(test_accuracy, Mapping) != several and test_accuracy is not None:
        wanted = "a mapping with the labels of histories" if several else "a number, as histories is a single run"
        raise ValueError(f"test_accuracy must be {wanted}, got {shown(test_accuracy)}")
    of_test = test_accuracy if isinstance(test_accuracy, Mapping) else {} if several else {None: test_accuracy}
    if unknown := [label for label in of_test if label not in named]:
        raise ValueError(f"test_accuracy has {unknown[0]!r}, which histories has not; it has {', '.join(map(repr, named))}")
    looks = looks_of(list(named))
    tests = {label: _accuracy(value) for label, value in of_test.items() if value is not None}
    runs = [_Run(label, looks[label], list(rows), tests.get(label)) for label, rows in named.items()]
    for run in runs:
        _check(run)
    return runs


def _accuracy(value: Any) -> float:
    return checked_number("test_accuracy", value, "a part of 1 (divide percentages by 100)", lambda number: 0 <= number <= 1)


def _check(run: _Run) -> None:
    where = "" if run.label is None else f"run {run.name!r}: "
    if not run.rows:
        raise ValueError(f"{where}no epochs to draw: the history is empty")
    for number, row in enumerate(run.rows):
        if row.get("epoch") is None:
            raise ValueError(f"{where}row {number} has no 'epoch'; it has {', '.join(map(repr, row)) or 'nothing'}")
    accuracies = [row.get(key) for row in run.rows for key in ("train_accuracy", "validation_accuracy")]
    for accuracy in map(_number, accuracies):
        if not (math.isnan(accuracy) or 0 <= accuracy <= 1):
            raise ValueError(f"{where}an accuracy is a part of 1, got {accuracy!r}; divide percentages by 100")


def _number(value: Any) -> float:
    """Return a number of a row, NaN for None; a log in JSON has the strings "nan" and "inf", which JSON lacks as numbers."""
    return math.nan if value is None else float(value)


def _draw_loss(axes: Axes, runs: Sequence[_Run]) -> None:
    for run in runs:
        validated = run.has("validation_loss")  # the label of the axis names a single curve
        _draw_curve(axes, run, run.column("train_loss"), run.name or "training" * validated)
        if validated:
            _draw_curve(axes, run, run.column("validation_loss"), "validation", VALIDATION)
    _mark_not_finite(axes, runs)
    _scale(axes, np.concatenate([run.column(key) for run in runs for key in ("train_loss", "validation_loss")]))
    label_steps(axes, "epoch", "loss" if any(run.has("validation_loss") for run in runs) else "training loss")


def _draw_accuracy(axes: Axes, runs: Sequence[_Run]) -> None:
    for run in runs:
        _draw_curve(axes, run, 100 * run.column("train_accuracy"), run.accuracies)
        if run.has("validation_accuracy"):
            text = f"validation {_percent(run.last('validation_accuracy'))}"
            _draw_curve(axes, run, 100 * run.column("validation_accuracy"), text, VALIDATION)
        if run.test_accuracy is not None:
            look: dict[str, Any] = {"color": run.color(4), "markeredgecolor": "black", "markeredgewidth": 0.6}
            axes.plot(
                run.epochs[-1], 100 * run.test_accuracy, marker=TEST_MARKER, markersize=12, zorder=5, linestyle="", **look,
                label=f"test {_percent(run.test_accuracy)}" if run.label is None else None,
            )  # fmt: skip
    label_steps(axes, "epoch", "accuracy (%)")


def _draw_learning_rate(axes: Axes, runs: Sequence[_Run]) -> None:
    for run in runs:
        _draw_curve(axes, run, run.column("learning_rate"))
    if all(_is_stepwise(run.column("learning_rate")) for run in runs):
        _scale(axes, np.concatenate([run.column("learning_rate") for run in runs]))
    label_steps(axes, "epoch", "learning rate")


def _is_stepwise(rates: NDArray[np.float64]) -> bool:
    """Whether a learning rate falls in a few steps, for a logarithmic scale, unlike a smooth curve that ends near 0."""
    return int(np.count_nonzero(np.diff(rates))) < len(rates) / 2


def _draw_curve(axes: Axes, run: _Run, values: NDArray[np.float64], label: str = "", style: str = TRAINING) -> None:
    """Draw one column of a run. Among several runs only the training curve, which stands for its run, has a label."""
    look = {**run.look, "linestyle": style, "markersize": 0.75 * run.look["markersize"]}
    if style == VALIDATION:
        look["color"] = run.color(1)
        look["markerfacecolor"] = run.color(1) if run.look["markerfacecolor"] != "none" else "none"
        label = label if run.label is None else ""
    axes.plot(run.epochs, values, linewidth=1.5, markevery=max(1, len(values) // MARKED), label=label or None, **look)


def _mark_not_finite(axes: Axes, runs: Sequence[_Run]) -> None:
    """Mark the epoch in which each run's loss was no longer finite, runs that share it together."""
    together: dict[int, list[str]] = {}
    for run in runs:
        if (epoch := run.first_not_finite) is not None:
            together.setdefault(epoch, []).append(run.name)
    for epoch, names in together.items():
        named = ": " + "; ".join(names) if len(runs) > 1 else ""
        axes.axvline(epoch, color="0.3", linewidth=1.0, linestyle=":")
        axes.annotate(
            f"not finite at epoch {epoch}{named}", (epoch, 0.97), (-3, 0), xycoords=axes.get_xaxis_transform(),
            textcoords="offset points", rotation=90, ha="right", va="top", fontsize="small", color="0.3",
        )  # fmt: skip


def _scale(axes: Axes, values: NDArray[np.float64]) -> None:
    """Make the scale logarithmic where the values span decades, with plain numbers at its ticks."""
    finite = values[np.isfinite(values)]
    if finite.size == 0 or finite.min() <= 0 or finite.max() < LOG_FROM * finite.min():
        return
    decades = math.log10(finite.max() / finite.min())
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e-")))
    axes.yaxis.set_minor_locator(NullLocator())


def _add_legend(axes: Axes, runs: Sequence[_Run], beside: bool = False) -> None:
    """Add a legend of all curves with a label, and of the line styles where color stands for the run."""
    handles: list[Any] = axes.get_legend_handles_labels()[0]
    styles: dict[Any, str] = {} if runs[0].label is None else {TRAINING: "training"}
    if styles and any(line.get_linestyle() == VALIDATION for line in axes.lines):
        styles[VALIDATION] = "validation"
    handles += [Line2D([], [], color="0.4", linewidth=1.5, linestyle=style, label=name) for style, name in styles.items()]
    if styles and any(run.test_accuracy is not None for run in runs):
        handles.append(Line2D([], [], color="0.4", marker=TEST_MARKER, markersize=11, linestyle="", label="test"))
    if handles:
        add_legend(axes, beside, handles=handles, handlelength=HANDLE)


def _percent(accuracy: float) -> str:
    return "not measured" if math.isnan(accuracy) else f"{100 * accuracy:.1f} %"
