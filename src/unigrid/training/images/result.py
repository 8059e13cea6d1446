"""The result of training on images: one run per seed, and their mean and deviation."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import nn

from ..runs.run import Row
from .evaluation import Evaluation


@final
@dataclass(frozen=True, eq=False, repr=False)
class SeedRun:
    """One training run, with one seed.

    Attributes
    ----------
    seed : int
    model : nn.Module
        With the weights that were tested: those of the last epoch or, if the protocol has `patience`, of the best one;
        averaged if the protocol averages.
    history : list of dict
        One row per epoch: epoch, step, train_loss, train_accuracy, learning_rate, images_per_second, seconds, and with a
        validation set validation_loss, validation_accuracy.
    reason : str
        "completed", also if the validation accuracy ended it early, or "stopped" by the callback.
    test : Evaluation or None
        Of these weights. The test set is read at the end of a run; None for a stopped one, and where memory did not suffice.
    epoch : int
        After which the model had its weights.
    best_epoch, best_validation_accuracy, best_test : int, float, Evaluation; None without a validation set
        The epoch with the highest validation accuracy, and how its weights do on the test set.
    folder, checkpoint : Path or None
        The folder of the run, and its last checkpoint; of several processes, in the one that writes.
    seconds : float
        Spent in training steps, without validation and tests.
    """

    seed: int
    model: nn.Module
    history: list[Row]
    reason: str
    test: Evaluation | None
    epoch: int
    best_epoch: int | None
    best_validation_accuracy: float | None
    best_test: Evaluation | None
    folder: Path | None
    checkpoint: Path | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return seed, accuracies and seconds in plain values."""
        return {
            "seed": self.seed,
            "test_accuracy": self.test.accuracy if self.test else None,
            "test_loss": self.test.loss if self.test else None,
            "test_top5_accuracy": self.test.top(5) if self.test else None,
            "tested_epoch": self.epoch if self.test else None,
            "best_epoch": self.best_epoch,
            "best_validation_accuracy": self.best_validation_accuracy,
            "best_test_accuracy": self.best_test.accuracy if self.best_test else None,
            "seconds": self.seconds,
        }

    def __repr__(self) -> str:
        accuracy = "" if self.test is None else f", test accuracy {100 * self.test.accuracy:.2f} %"
        kind, epochs = type(self.model).__name__, f"{len(self.history)} epoch{'' if len(self.history) == 1 else 's'}"
        return f"SeedRun(seed {self.seed}: {kind}, {self.reason} after {epochs}{accuracy})"


@final
@dataclass(frozen=True, eq=False, repr=False)
class TrainResult:
    """The result of training: one run per seed. Properties are those of the first run, accuracies the mean over all.

    Attributes
    ----------
    runs : tuple of SeedRun
    configuration : dict
        What was trained, on what, how: plain values.
    """

    runs: tuple[SeedRun, ...]
    configuration: dict[str, Any]

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy on the test set after the last epoch (with `patience`: the best), from 0 to 1; the mean over the seeds."""
        accuracies = self._accuracies
        return statistics.fmean(accuracies) if accuracies else None

    @property
    def test_accuracy_std(self) -> float | None:
        """Standard deviation of the test accuracy over the seeds (n - 1 in the denominator); None for fewer than two."""
        return statistics.stdev(self._accuracies) if len(self._accuracies) > 1 else None

    @property
    def best_test_accuracy(self) -> float | None:
        """Mean test accuracy of the epochs that were best on the validation set; None without one."""
        tests = [run.best_test.accuracy for run in self.runs if run.best_test is not None]
        return statistics.fmean(tests) if tests else None

    @property
    def model(self) -> nn.Module:
        """The trained network of the first seed."""
        return self.runs[0].model

    @property
    def history(self) -> list[Row]:
        """The epochs of the first seed."""
        return self.runs[0].history

    @property
    def checkpoint(self) -> Path | None:
        """The last checkpoint of the first seed."""
        return self.runs[0].checkpoint

    @property
    def _accuracies(self) -> list[float]:
        return [run.test.accuracy for run in self.runs if run.test is not None]

    def __str__(self) -> str:
        if self.test_accuracy is None:
            return f"{self.runs[-1].reason} after {len(self.history)} epochs; the test set was not read"
        text = f"test accuracy {100 * self.test_accuracy:.2f} %"
        if self.test_accuracy_std is not None:
            text += f" +- {100 * self.test_accuracy_std:.2f} (standard deviation of {len(self.runs)} seeds)"
        if self.best_test_accuracy is not None:
            epochs = ", ".join(str(run.best_epoch) for run in self.runs)
            text += f"; best epoch on the validation set ({epochs}): {100 * self.best_test_accuracy:.2f} %"
        return text + (" [synthetic data]" if self.configuration["dataset"]["synthetic"] else "")

    def __repr__(self) -> str:
        protocol, data = self.configuration["protocol"]["name"], self.configuration["dataset"]["name"]
        return f"TrainResult({type(self.model).__name__} on {data}, protocol {protocol}: {self})"
