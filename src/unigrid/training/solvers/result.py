"""The result of training on Poisson problems."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..runs.run import Row
from .net import PoissonNet


@final
@dataclass(frozen=True, eq=False, repr=False)
class PoissonResult:
    """The result of training on Poisson problems.

    Attributes
    ----------
    model : PoissonNet
        A `MultigridCycle`: `unigrid.solve(f, cycle=model)`, on grids of any size.
    factors : tuple of float
        The measured asymptotic convergence factor on each of the problems; `factor` is the largest.
    history : list of dict
        One row per epoch: epoch, step, train_loss, predicted_factor, measured_factor, seconds.
    reason : str
        "completed", or "stopped" by the callback.
    folder, checkpoint : Path or None
    seconds : float
    configuration : dict
    """

    model: PoissonNet
    factors: tuple[float, ...]
    history: list[Row]
    reason: str
    folder: Path | None
    checkpoint: Path | None
    seconds: float
    configuration: dict[str, Any]

    @property
    def factor(self) -> float:
        """The largest measured factor."""
        return max(self.factors)

    def __str__(self) -> str:
        several = f", the largest of {len(self.factors)} problems" if len(self.factors) > 1 else ""
        numbers = sum(parameter.numel() for parameter in self.model.parameters())
        return f"convergence factor {self.factor:.4f} per cycle{several}; {numbers} numbers trained in {self.seconds:.1f} s"

    def __repr__(self) -> str:
        return f"PoissonResult(protocol {self.configuration['protocol']['name']}, {self.reason}: {self})"
