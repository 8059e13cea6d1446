"""Runs on Poisson problems, by either loss: a few epochs of an optimizer on the kernels of a `PoissonNet`."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...analysis.measured import measured_factor
from ...conv.weights import load_clean_state_dict
from ...stencil.problem import Poisson
from ..runs.run import Interrupt, Progress, Row, Run, TrainingError
from .loss import STAGES, FourierLoss, RandomLoss
from .net import PoissonNet
from .problems import description
from .protocols import PoissonProtocol

DIVERGED = 10.0  # a convergence factor above which training has failed
OF_IMAGES = {
    "dataset": ("classes", "shape", "mean", "std", "flip", "synthetic"),
    "protocol": ("test_flip", "mixed_precision", "accelerated"),
}  # fields without a meaning here that the first version wrote


class SolverRun(Run):
    """One net, trained in place on its problems; the kernels of a fresh one get noise first."""

    def __init__(
        self,
        net: PoissonNet,
        problems: tuple[Poisson, ...],
        protocol: PoissonProtocol,
        seed: int,
        folder: Path | None,
        fresh: bool,
    ) -> None:
        configuration = {
            "model": {"kind": type(net.config).__name__, **dataclasses.asdict(net.config)},
            "dataset": description(problems),
            "protocol": dataclasses.asdict(protocol),
            "seed": seed,
        }
        super().__init__(configuration, seed, folder, torch.device("cpu"), protocol.epochs)
        self.net, self.problems, self.protocol = net, problems, protocol
        self.generator = torch.Generator().manual_seed(seed)
        if fresh:
            for parameter in net.parameters():
                noise = torch.randn(parameter.shape, dtype=torch.float64, generator=self.generator)
                parameter.data += protocol.noise * noise
        self.progress = Progress()

    @abstractmethod
    def optimize(self, interrupt: Interrupt, watch: Callable[[], None]) -> tuple[float, float | None]:
        """Do the steps of an epoch; return the loss, and the convergence factor that it predicts, if it does."""

    def epoch(self, interrupt: Interrupt, watch: Callable[[], None]) -> Row:
        """Do one epoch; where it fails or is interrupted, the kernels are those of the epoch before."""
        began, before = time.perf_counter(), copy.deepcopy(self.net.state_dict())
        try:
            loss, predicted = self.optimize(interrupt, watch)
            measured = max(measured_factor(self.net.on(problem)) for problem in self.problems)
            if not measured < DIVERGED:
                raise TrainingError("diverged", f"the cycle came to multiply errors by {measured:.3g}: {self.advice()}")
        except (KeyboardInterrupt, TrainingError):
            self.net.load_state_dict(before)
            raise
        progress = self.progress
        progress.seconds += time.perf_counter() - began
        progress.epoch += 1
        row = {
            "epoch": progress.epoch, "step": progress.step, "train_loss": loss, "predicted_factor": predicted,
            "measured_factor": measured, "seconds": progress.seconds,
        }  # fmt: skip
        progress.history.append(row)
        return row

    def check(self, loss: Tensor) -> None:
        """Raise TrainingError where the loss is not finite."""
        if not math.isfinite(loss.item()):
            raise TrainingError("nonfinite", f"the loss became {loss.item()} in step {self.progress.step}: {self.advice()}")

    def remedy(self) -> str:
        return f"take less noise than {self.protocol.noise:g}, a smaller learning rate, or other problems"

    def status(self) -> str:
        history = self.progress.history
        factor = f", factor {history[-1]['measured_factor']:.4f}" if history else ""
        return f"epoch {len(history) + 1} of {self.epochs}{factor}"

    def comparable(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return a stored configuration without the fields of image runs that the first version wrote."""
        return {
            part: {name: value for name, value in entry.items() if name not in OF_IMAGES[part]} if part in OF_IMAGES else entry
            for part, entry in stored.items()
        }

    def state(self) -> dict[str, Any]:
        return {**super().state(), "model": dict(self.net.state_dict()), "random": self.generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        load_clean_state_dict(self.net, state["model"])
        self.generator.set_state(state["random"])


class FourierRun(SolverRun):
    """L-BFGS on the smooth maximum, one sharpness per epoch; only the kernels are carried from one to the next."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.loss = FourierLoss(self.net, self.problems)

    def optimize(self, interrupt: Interrupt, watch: Callable[[], None]) -> tuple[float, float]:
        sharpness = STAGES[self.progress.epoch]
        optimizer = torch.optim.LBFGS(
            self.net.parameters(), self.protocol.learning_rate, max_iter=self.protocol.steps, history_size=20,
            line_search_fn="strong_wolfe", tolerance_change=1e-10, tolerance_grad=1e-8,
        )  # fmt: skip

        def evaluate() -> Tensor:
            if interrupt.requested:
                raise KeyboardInterrupt
            optimizer.zero_grad()
            loss = self.loss(sharpness)
            self.check(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            self.progress.step += 1
            watch()
            return loss

        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            return float(self.loss(sharpness)), self.loss.factor()


class RandomRun(SolverRun):
    """Adam on random errors."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.loss = RandomLoss(self.net, self.problems, self.generator)
        self.optimizer = torch.optim.Adam(self.net.parameters(), self.protocol.learning_rate)

    def optimize(self, interrupt: Interrupt, watch: Callable[[], None]) -> tuple[float, None]:
        protocol, total = self.protocol, 0.0
        for number in range(protocol.steps):
            if interrupt.requested:
                raise KeyboardInterrupt
            done = (self.progress.epoch * protocol.steps + number) / (protocol.epochs * protocol.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = protocol.learning_rate * (1.0 + math.cos(math.pi * done)) / 2.0
            self.optimizer.zero_grad()
            loss = self.loss()
            self.check(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.progress.step += 1
            total += loss.item()
            watch()
        return total / protocol.steps, None

    def state(self) -> dict[str, Any]:
        return {**super().state(), "optimizer": {"adam": self.optimizer.state_dict(), "errors": self.loss.errors}}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.optimizer.load_state_dict(state["optimizer"]["adam"])
        self.loss.errors = list(state["optimizer"]["errors"])
