"""The curves of training runs, each a figure of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..plots.style import add_legend, label_steps, looks_of
from ..plots.training import draw_accuracy, draw_learning_rate, draw_loss
from .figures import Picture, vector

SIZE = (3.9, 2.8)  # inches: of a curve that a phone shows without making its text small
FACTORS = {"measured_factor": "measured", "predicted_factor": "predicted"}
Histories = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]]


def draw(histories: Histories, accuracies: Any, solver: bool) -> Iterator[tuple[str, Picture]]:
    """Yield the titles and pictures of the curves: loss, accuracy and learning rate; of a solver loss and factor."""
    runs = list(histories.values()) if isinstance(histories, Mapping) else [histories]
    several = f" of {len(runs)} runs" if len(runs) > 1 else ""

    def curve(name: str, title: str, key: str, draw: Any, **options: Any) -> tuple[str, Picture]:
        figure = Figure(figsize=SIZE, layout="constrained")
        draw(figure.add_subplot(), histories, **options)
        last = ", ".join(f"{value:.4g}" for value in (_last(run, key) for run in runs) if math.isfinite(value))
        alt = f"Curve of the {title.lower()} over the epochs{several}; it ends at {last or 'no finite value'}."
        return title, vector(figure, name, alt)

    yield curve("loss", "Loss", "train_loss", draw_loss)
    if solver:
        yield curve("factor", "Convergence factor", "measured_factor", _draw_factors)
        return
    yield curve("accuracy", "Accuracy", "train_accuracy", draw_accuracy, test_accuracy=accuracies)
    if any("learning_rate" in row for run in runs for row in run):
        yield curve("rate", "Learning rate", "learning_rate", draw_learning_rate)


def _last(run: Sequence[Mapping[str, Any]], key: str) -> float:
    value = run[-1].get(key)
    return float(value) if isinstance(value, (int, float)) else math.nan


def _draw_factors(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    epochs = [row["epoch"] for row in rows]
    looks = looks_of(list(FACTORS))
    for key, look in looks.items():
        values = np.array([_last([row], key) for row in rows])
        if np.isfinite(values).any():
            axes.plot(epochs, values, label=FACTORS[key], linewidth=1.4, **look)
    label_steps(axes, "epoch", "factor per cycle")
    add_legend(axes)
