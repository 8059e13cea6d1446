"""The training loop: epochs of batches, a checkpoint at every epoch's end and every minute, and nothing lost on the way.

All that a run is lies in a few objects: the model, the moving average of its weights, the optimizer, the generator of random
numbers, and its `Progress`. `TrainingRun.state` puts them into one checkpoint, `TrainingRun.restore` takes them out again; a
restored run goes on bit for bit on the CPU, in the middle of an epoch too.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..conv.weights import clean_state_dict, load_clean_state_dict, unwrap
from . import checkpoint
from .augmentation import Augmentation, EpochPlan, Pipeline
from .averaging import WeightAverage
from .datasets import ImageData, Split
from .devices import compiled, compiling_pays
from .evaluation import Evaluation, evaluate_model, in_full_precision
from .protocols import Protocol

Row = dict[str, Any]
CHECK_EVERY = 20  # steps between two looks at the loss; each look waits for the device
SAVE_EVERY = 60.0  # seconds between two checkpoints, at most
SAVE_SHARE = 20  # times the seconds that a checkpoint takes must pass before the end of a short epoch is worth one
DIVERGED = 4.0  # times ln(classes), the loss of a network that knows nothing


class TrainingError(RuntimeError):
    """Training ended because its loss is no longer a number, or grows beyond what no knowledge at all would cost.

    `reason` is "nonfinite" or "diverged"; what was learned before is in the last checkpoint, which was not written over.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned and how: the data split for training and validation, the protocol, the seed, the device."""

    data: ImageData
    train: Split
    validation: Split | None
    protocol: Protocol
    seed: int
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has. A last one of a single image is left out: batch norm learns nothing from it."""
        whole, rest = divmod(len(self.train), self.protocol.batch_size)
        return whole if whole and (self.protocol.drop_last or rest <= 1) else whole + 1


@dataclass
class Progress:
    """How far a run has come, in plain numbers.

    `loss` and `correct` are sums over the `seen` images of the running epoch, of which `checked` were there when the loss was
    last looked at. `best` is the epoch of the highest validation accuracy so far.
    """

    epoch: int = 0
    batch: int = 0  # within the epoch
    step: int = 0
    seen: int = 0
    checked: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best: dict[str, Any] | None = None
    history: list[Row] = field(default_factory=list)


@dataclass
class Interrupt:
    """Ctrl-C, kept until the step that it fell into is done. A second one is not kept."""

    requested: bool = False

    @classmethod
    @contextmanager
    def deferred(cls) -> Iterator[Interrupt]:
        """Yield the interrupt that Ctrl-C asks for; outside the main thread, where Python delivers none, nobody asks."""
        interrupt = cls()
        if threading.current_thread() is not threading.main_thread():
            yield interrupt
            return

        def request(number: int, frame: Any) -> None:
            if interrupt.requested:
                raise KeyboardInterrupt
            interrupt.requested = True

        before = signal.signal(signal.SIGINT, request)
        try:
            yield interrupt
        finally:
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)  # None: not set from Python


class TrainingRun:
    """One network learning one task.

    Parameters
    ----------
    model : nn.Module
        Trained in place.
    task : Task
    folder : Path, optional
        Where checkpoints go; None: nowhere.
    configuration : dict
        What the run is, in plain values: stored in every checkpoint, and compared when a run is taken up again.
    """

    def __init__(self, model: nn.Module, task: Task, folder: Path | None, configuration: dict[str, Any]) -> None:
        protocol = task.protocol
        self.task, self.folder, self.configuration = task, folder, configuration
        model.to(task.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        self.given, self.model = model, unwrap(model)  # what is trained may be wrapped, what is stored is not
        self.optimizer = _optimizer(self.model, protocol)
        self.average = WeightAverage(self.model, protocol.average) if protocol.average else None
        images = task.steps_per_epoch * protocol.batch_size * protocol.epochs
        pays = protocol.accelerated and compiling_pays(task.device, images)
        self.network = compiled(self.model) if pays else model
        self.images = self.pipeline(task.train.images, protocol.augmentation(task.data.flip))
        self.labels = task.train.labels.to(task.device)
        self.validation = None if task.validation is None else self.pipeline(task.validation.images)
        self.generator = torch.Generator().manual_seed(task.seed)
        self.epoch_began = self.generator.get_state()
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] | None = None
        # Sums of the epoch, on the device: of the loss, and of right answers. Single precision where there is no other.
        self.sums = torch.zeros(2, device=task.device, dtype=torch.float32 if task.device.type == "mps" else torch.float64)
        self._saved_at, self._save_seconds = time.monotonic(), 0.0
        self._saved: tuple[int, int] | None = None  # epoch and step of the last checkpoint
        self.checkpoint: Path | None = None  # its file

    def pipeline(self, images: Tensor, augmentation: Augmentation | None = None) -> Pipeline:
        """Return images ready for batches on the device, in the precision of the model."""
        data = self.task.data
        dtype = next(self.model.parameters()).dtype
        return Pipeline(images, data.mean, data.std, augmentation, self.task.device, dtype, self.memory_format)

    @property
    def memory_format(self) -> torch.memory_format:
        """The order of images and weights in memory: the published protocols know nothing of channels last."""
        return torch.channels_last if self.task.protocol.accelerated else torch.contiguous_format

    @property
    def _place(self) -> tuple[int, int]:
        return self.progress.epoch, self.progress.step

    @property
    def history(self) -> list[Row]:
        """A row for each epoch that is done."""
        return self.progress.history

    @property
    def ended(self) -> bool:
        """Whether all epochs are done."""
        return self.progress.epoch >= self.task.protocol.epochs

    # one run from where it stands to its end

    def fit(self, interrupt: Interrupt, record: Callable[[Row], None], watch: Callable[[Progress], None]) -> Iterator[Row]:
        """Train to the last epoch; yield the row of every epoch, once it is recorded, and as a rule in a checkpoint.

        `record` gets the row first: a log forgets at a resume what no checkpoint holds, but cannot know what it was never
        told. `watch` gets the progress every few steps.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C, once a checkpoint is written.
        TrainingError
            When the loss is not finite, or diverges.
        """
        while not self.ended:
            self._epoch(interrupt, watch)
            row = self._finish_epoch()
            record(row)
            waited = time.monotonic() - self._saved_at
            if self.ended or waited > min(SAVE_EVERY, SAVE_SHARE * self._save_seconds):
                self.save()
            yield row

    def _epoch(self, interrupt: Interrupt, watch: Callable[[Progress], None]) -> None:
        """Do the batches of the epoch that are still to be done."""
        self.generator.set_state(self.epoch_began)
        plan = EpochPlan.draw(len(self.images), self.images.size, self.images.augmentation, self.generator).to(self.task.device)
        self.sums.copy_(torch.tensor([self.progress.loss, self.progress.correct], dtype=self.sums.dtype))
        self.network.train()
        while self.progress.batch < self.task.steps_per_epoch:
            began = time.perf_counter()
            self._step(plan)
            last = self.progress.batch == self.task.steps_per_epoch
            stopping = interrupt.requested  # looked at once a step: what is saved must have been counted
            if last or stopping or self.progress.step % CHECK_EVERY == 0:
                self._take_stock()
                watch(self.progress)
            elapsed = time.perf_counter() - began
            self.progress.seconds += elapsed
            self.progress.epoch_seconds += elapsed
            if stopping:
                self.save()
                raise KeyboardInterrupt
            if not last and self.progress.step % CHECK_EVERY == 0 and time.monotonic() - self._saved_at > SAVE_EVERY:
                self.save()

    def _step(self, plan: EpochPlan) -> None:
        """Do one optimizer step, and add its loss and its right answers to the sums, without waiting for the device."""
        protocol, progress = self.task.protocol, self.progress
        start = progress.batch * protocol.batch_size
        chosen = plan.order[start : start + protocol.batch_size]
        images, labels = self.images.batch(chosen, plan), self.labels[chosen]
        for group in self.optimizer.param_groups:
            group["lr"] = protocol.rate(progress.step, self.task.steps_per_epoch)
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=protocol.mixed_precision):
            logits = self.network(images)
        loss = functional.cross_entropy(in_full_precision(logits), labels, label_smoothing=protocol.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.average is not None:
            self.average.update(progress.step)
        progress.batch += 1
        progress.step += 1
        progress.seen += len(chosen)
        right = (logits.detach().argmax(1) == labels).sum()
        self.sums += torch.stack([loss.detach().to(self.sums.dtype) * len(chosen), right.to(self.sums.dtype)])

    def _take_stock(self) -> None:
        """Bring the sums from the device into the progress, and stop a run that has lost its way."""
        progress = self.progress
        before, progress.loss, progress.correct = progress.loss, *self.sums.tolist()
        seen = progress.seen - progress.checked
        progress.checked = progress.seen
        mean, guessing = (progress.loss - before) / seen, math.log(max(len(self.task.data.classes), 2))
        where = f"in epoch {progress.epoch + 1}, step {progress.step}"
        if not math.isfinite(mean):
            raise TrainingError("nonfinite", f"the loss became {mean} {where}: {self.advice()}")
        if mean > DIVERGED * guessing and seen >= self.task.protocol.batch_size:  # a few images may be that hard
            grown = f"the loss grew to {mean:.3g} {where}; guessing costs {guessing:.3g}"
            raise TrainingError("diverged", f"{grown}: {self.advice()}")

    def advice(self) -> str:
        """Return what to do about a loss that is lost."""
        rate = self.task.protocol.learning_rate
        kept = f"; the last good checkpoint in {self.folder} is kept" if self._saved else ""
        return f"take a learning rate below {rate:g}, or look for faulty values in the data{kept}"

    def _finish_epoch(self) -> Row:
        progress, protocol = self.progress, self.task.protocol
        row: Row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "train_loss": progress.loss / progress.seen,
            "train_accuracy": progress.correct / progress.seen,
            "learning_rate": protocol.rate(progress.step - 1, self.task.steps_per_epoch),
            "images_per_second": progress.seen / progress.epoch_seconds,
            "seconds": progress.seconds,
        }
        if self.validation is not None and self.task.validation is not None:
            result = self.evaluate(self.validation, self.task.validation.labels)
            row |= {"validation_loss": result.loss, "validation_accuracy": result.accuracy}
            self._keep_best(progress.epoch + 1, result)
        progress.history.append(row)
        progress.epoch += 1
        progress.batch = progress.seen = progress.checked = 0
        progress.loss = progress.correct = progress.epoch_seconds = 0.0
        self.epoch_began = self.generator.get_state()
        return row

    def evaluate(self, images: Pipeline, labels: Tensor) -> Evaluation:
        """Evaluate the weights that count: their moving average where there is one."""
        protocol = self.task.protocol
        flip = protocol.test_flip and self.task.data.flip
        return evaluate_model(self.evaluated, images, labels, flip, protocol.mixed_precision)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose answers count."""
        return self.model if self.average is None else self.average.module

    def _keep_best(self, epoch: int, result: Evaluation) -> None:
        """Remember the weights of the best epoch; a loss that is not finite is never best."""
        best = self.progress.best
        if not math.isfinite(result.loss) or (best and result.accuracy <= best["validation_accuracy"]):
            return
        self.progress.best = {"epoch": epoch, "validation_accuracy": result.accuracy}
        self.best_weights = {name: value.detach().cpu().clone() for name, value in clean_state_dict(self.evaluated).items()}
        if self.folder is not None:
            state = {"configuration": self.configuration, "model": self.best_weights, **self.progress.best}
            checkpoint.save_best(self.folder, state)

    # the whole run as one dictionary, and back

    def save(self) -> None:
        """Write a checkpoint, unless there is no folder or nothing new. Weights that are not finite are never written."""
        began = time.monotonic()
        if not all(bool(value.isfinite().all()) for value in _learned(self.model)):
            raise TrainingError("nonfinite", f"a weight is not finite after step {self.progress.step}: {self.advice()}")
        if self.folder is None or self._saved == self._place:
            return
        self.checkpoint = checkpoint.save(self.folder, self.state(), self.progress.step)
        self._saved_at, self._saved = time.monotonic(), self._place
        self._save_seconds = self._saved_at - began

    def state(self) -> dict[str, Any]:
        """Return all that the run is made of. The learning rate needs nothing stored: it is a function of the step."""
        cuda = torch.cuda.get_rng_state(self.task.device) if self.task.device.type == "cuda" else None
        return {
            "configuration": self.configuration,
            "model": clean_state_dict(self.model),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else clean_state_dict(self.average.module),
            "best_weights": self.best_weights,
            "progress": asdict(self.progress),
            "random": {"epoch": self.epoch_began, "torch": torch.get_rng_state(), "cuda": cuda},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken. The configurations must be the same; that is for the caller to check."""
        load_clean_state_dict(self.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            load_clean_state_dict(self.average.module, state["average"])
        self.best_weights = state["best_weights"]
        self.progress = Progress(**state["progress"])
        self.epoch_began = state["random"]["epoch"]
        self._saved = self._place
        torch.set_rng_state(state["random"]["torch"])
        if state["random"]["cuda"] is not None and self.task.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.task.device)


def _optimizer(model: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    """Return SGD; batch norms, biases and other single numbers a channel decay only where the protocol says so."""
    decaying = [parameter for parameter in model.parameters() if parameter.ndim > 1 or protocol.decay_norms]
    kept = [parameter for parameter in model.parameters() if parameter.ndim <= 1 and not protocol.decay_norms]
    groups = [{"params": decaying, "weight_decay": protocol.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [group for group in groups if group["params"]], protocol.learning_rate, protocol.momentum, nesterov=protocol.nesterov
    )


def _learned(model: nn.Module) -> Iterator[Tensor]:
    """Yield what training changes: weights, and the statistics of batch norms. Other buffers may hold what they like."""
    yield from model.parameters()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            yield from module.buffers()
