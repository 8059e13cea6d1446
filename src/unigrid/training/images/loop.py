"""The training loop on images: epochs of batches, a checkpoint at the end of an epoch and every minute, exact resumption.

The state of a run is in a few objects: the model, the moving average of its weights, the optimizer, the generator of random
numbers, and its `Progress`. A run restored from a checkpoint continues bit for bit on the CPU, also in mid-epoch.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ...conv.modes import frozen_modules
from ...conv.weights import clean_state_dict, load_clean_state_dict, precision_of, unwrap
from ..data.augmentation import EpochPlan, Pipeline
from ..data.mixing import MixingPlan
from ..runs import checkpoint
from ..runs.devices import compiled, compiling_pays
from ..runs.processes import ALONE, Processes
from ..runs.randomness import Streams, draws
from ..runs.run import Interrupt, Progress, Row, Run, TrainingError
from .averaging import WeightAverage
from .evaluation import Evaluation, checked_logits, in_full_precision
from .loss import mixed_cross_entropy, right_answers, total_weight, weights_of_classes
from .optimizers import optimizer_of
from .protocols import ImageProtocol
from .setup import Setup

CHECK_EVERY = 20  # steps between two checks of the loss; each waits for the device
SAVE_EVERY = 60.0  # seconds between two checkpoints, at most
SAVE_SHARE = 20  # a short epoch ends with a checkpoint after this many times the seconds that writing one takes
DIVERGED = 4.0  # times ln(classes), the loss of a uniform guess


@dataclass
class ImageProgress(Progress):
    """The counters of a run on images.

    `loss` and `correct` are sums over the `seen` images of the current epoch, `checked` of which were included in the last
    check of the loss. `best` is the epoch of the highest validation accuracy so far.
    """

    batch: int = 0  # within the epoch
    seen: int = 0
    checked: int = 0
    loss: float = 0.0
    correct: float = 0.0
    epoch_seconds: float = 0.0
    best: dict[str, Any] | None = None

    def row(self, learning_rate: float) -> Row:
        """Return the row of the epoch that is complete."""
        return {
            "epoch": self.epoch + 1,
            "step": self.step,
            "train_loss": self.loss / self.seen,
            "train_accuracy": self.correct / self.seen,
            "learning_rate": learning_rate,
            "images_per_second": self.seen / self.epoch_seconds,
            "seconds": self.seconds,
        }

    def next_epoch(self, row: Row) -> None:
        """Add the row of the epoch and begin the next one."""
        self.history.append(row)
        self.epoch += 1
        self.batch = self.seen = self.checked = 0
        self.loss = self.correct = self.epoch_seconds = 0.0


class ImageRun(Run):
    """One network, trained in place on one setup, by one process or by several together."""

    def __init__(
        self,
        model: nn.Module,
        setup: Setup,
        folder: Path | None,
        configuration: dict[str, Any],
        streams: Streams,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(configuration, setup.seed, folder, setup.device, setup.protocol.epochs, processes)
        protocol, device = setup.protocol, setup.device
        self.setup, self.streams = setup, streams
        model.to(device, memory_format=setup.memory_format)  # type: ignore[call-overload]
        self.given, self.model = model, unwrap(model)  # what is trained may be wrapped, what is stored is not
        self._draws = draws(self.model)
        self.streams.branch(processes.rank, 0)
        images = setup.steps_per_epoch * protocol.batch_size * protocol.epochs // processes.world
        pays = protocol.accelerated and compiling_pays(device, images)
        network = processes.parallel(self.model if pays and not isinstance(model, DistributedDataParallel) else model)
        self.network = compiled(network) if pays else network
        self.optimizer = optimizer_of(self.model, protocol)
        self.average = WeightAverage(self.model, protocol.average) if protocol.average else None
        self.frozen = frozen_modules(self.model)
        self.dtype = precision_of(self.model)
        self.images = setup.pipeline(setup.train.images, self.dtype, protocol.augmentation(setup.data.flip))
        self.labels = setup.train.labels.to(device)
        weights = weights_of_classes(protocol, setup.train.labels, len(setup.data.classes))
        exact = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.class_weights = None if weights is None else weights.to(device, exact)
        self.validation = None if setup.validation is None else setup.pipeline(setup.validation.images, self.dtype)
        self.generator = torch.Generator().manual_seed(setup.seed)
        self.epoch_began = self.generator.get_state()
        self.progress: ImageProgress = ImageProgress()
        self.mixing: MixingPlan | None = None  # of the current epoch
        self.size = (self.images.height, self.images.width)  # of what the network gets in it
        self.total_steps = setup.protocol.epochs * setup.steps_per_epoch
        self.best_weights: dict[str, Tensor] | None = None
        # Sums over the epoch, on the device: of the loss, and of correct answers. MPS has no double precision.
        self.sums = torch.zeros(2, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the moving average of the weights where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def stopped_early(self) -> bool:
        """Whether the validation accuracy did not rise for as many epochs as the protocol's patience."""
        best, patience = self.progress.best, self.setup.protocol.patience
        return patience > 0 and self.progress.epoch - (best["epoch"] if best else 0) >= patience

    @property
    def ended(self) -> bool:
        return super().ended or self.stopped_early

    @property
    def returns_best(self) -> bool:
        """Whether the weights of the best epoch are the ones to return and to test, instead of the last."""
        return self.setup.protocol.patience > 0 and self.best_weights is not None

    def calling(self) -> AbstractContextManager[None]:
        """Return the context in which the network is called: where it may draw random numbers, they are the run's own."""
        return self.streams.in_place() if self._draws else nullcontext()

    # one epoch

    def epoch(self, interrupt: Interrupt, watch: Callable[[], None]) -> Row:
        """Do the remaining batches of the epoch; after Ctrl-C or SIGTERM, write a checkpoint and raise KeyboardInterrupt."""
        progress, steps = self.progress, self.setup.steps_per_epoch
        self.generator.set_state(self.epoch_began)
        plan = self.images.plan(self.generator)
        size = self.images.height, self.images.width
        self.mixing = self.setup.protocol.mixing.plan(len(self.images), size, self.seed, progress.epoch, self.device)
        self.size = self.setup.protocol.size_in_epoch(progress.epoch, size)
        before = [progress.loss, progress.correct] if self.processes.is_writer else [0.0, 0.0]
        self.sums.copy_(torch.tensor(before, dtype=self.sums.dtype))
        self.network.train()
        for module in self.frozen:
            module.training = False
        while progress.batch < steps:
            began = time.perf_counter()
            with self.calling():
                self._step(plan)
            last = progress.batch == steps
            stopping = self.processes.any(interrupt.requested)  # read once per step: what is saved must have been counted
            if last or stopping or progress.step % CHECK_EVERY == 0:
                self._check_loss()
                watch()
            elapsed = time.perf_counter() - began
            progress.seconds += elapsed
            progress.epoch_seconds += elapsed
            if stopping:
                self.save()
                raise KeyboardInterrupt
            if not last and progress.step % CHECK_EVERY == 0 and self.processes.by_writer(self._is_late):
                self.save()
        return self._finish_epoch()

    def _step(self, plan: EpochPlan) -> None:
        """Do one optimizer step, and add its loss and its correct answers to the sums, without waiting for the device."""
        protocol, progress = self.setup.protocol, self.progress
        start = progress.batch * protocol.batch_size
        chosen = plan.order[start : start + protocol.batch_size]
        overlap = 0 if self.mixing is None else self.processes.overlap
        own = self.processes.share(chosen, overlap)
        images, labels, shares = self.images.batch(own, plan), self.labels[own], None
        if self.mixing is not None:
            images, shares = (part[overlap:] for part in self.mixing.mix(images, own))
        if self.size != images.shape[2:]:
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        for group in self.optimizer.param_groups:
            group["lr"] = protocol.rate(progress.step, self.setup.steps_per_epoch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=protocol.mixed_precision):
            logits = checked_logits(self.network(images), self.network, len(images), len(self.setup.data.classes))
        logits = in_full_precision(logits)
        loss = mixed_cross_entropy(logits, labels, shares, self.class_weights, protocol.label_smoothing)
        fraction = self._fraction(chosen, labels, shares)
        self.optimizer.zero_grad(set_to_none=True)
        (self.processes.world * fraction * loss).backward()  # type: ignore[no-untyped-call]
        if protocol.clip_grad:
            nn.utils.clip_grad_norm_(self.model.parameters(), protocol.clip_grad)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(progress.step)
        progress.batch += 1
        progress.step += 1
        progress.seen += len(chosen)
        right = right_answers(logits.detach(), labels, shares)
        part = loss.detach().to(self.sums.dtype) * (fraction * len(chosen))
        self.sums += torch.stack([part, right.to(self.sums.dtype)])

    def _fraction(self, chosen: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor | float:
        """Return the part that this process's images have in the weight of the whole batch."""
        if self.class_weights is None or self.processes.world == 1:
            return (len(labels) if shares is None else len(shares)) / len(chosen)
        every = None if self.mixing is None else self.mixing.shares[chosen]
        weights = (total_weight(*each, self.class_weights) for each in ((labels, shares), (self.labels[chosen], every)))
        return torch.div(*weights)

    def _check_loss(self) -> None:
        """Copy the sums from the device to the progress, and abort a diverging run."""
        progress = self.progress
        before, progress.loss, progress.correct = progress.loss, *self.processes.total(self.sums.cpu()).tolist()
        seen = progress.seen - progress.checked
        progress.checked = progress.seen
        mean, guessing = (progress.loss - before) / seen, math.log(max(len(self.setup.data.classes), 2))
        where = f"in epoch {progress.epoch + 1}, step {progress.step}"
        if not math.isfinite(mean):
            raise TrainingError("nonfinite", f"the loss became {mean} {where}: {self.advice()}")
        if mean > DIVERGED * guessing and seen >= self.setup.protocol.batch_size:  # a few images may be that hard
            grown = f"the loss grew to {mean:.3g} {where}; guessing costs {guessing:.3g}"
            raise TrainingError("diverged", f"{grown}: {self.advice()}")

    def _finish_epoch(self) -> Row:
        row = self.progress.row(self.setup.protocol.rate(self.progress.step - 1, self.setup.steps_per_epoch))
        if self.validation is not None and self.setup.validation is not None:
            result = self.evaluate(self.evaluated, self.validation, self.setup.validation.labels)
            row |= {"validation_loss": result.loss, "validation_accuracy": result.accuracy}
            self._keep_best(row["epoch"], result)
        self.progress.next_epoch(row)
        self.epoch_began = self.generator.get_state()
        return row

    def evaluate(self, model: nn.Module, images: Pipeline, labels: Tensor) -> Evaluation:
        """Evaluate a model as the protocol does, every image in one of the processes."""
        self.processes.equalize(model)
        with self.calling():
            return self.setup.evaluate(model, images, labels, self.processes)

    def _keep_best(self, epoch: int, result: Evaluation) -> None:
        """Keep the weights of the best epoch; one whose loss is not finite is never best."""
        best = self.progress.best
        if not math.isfinite(result.loss) or (best and result.accuracy <= best["validation_accuracy"]):
            return
        self.progress.best = {"epoch": epoch, "validation_accuracy": result.accuracy}
        self.best_weights = {name: value.detach().cpu().clone() for name, value in clean_state_dict(self.evaluated).items()}
        if self.folder is not None:
            state = {"configuration": self.configuration, "model": self.best_weights, **self.progress.best}
            checkpoint.save_best(self.folder, state)

    def remedy(self) -> str:
        return f"take a learning rate below {self.setup.protocol.learning_rate:g}, or look for faulty values in the data"

    def status(self) -> str:
        progress, seen = self.progress, max(self.progress.seen, 1)
        return f"epoch {progress.epoch + 1}, loss {progress.loss / seen:.3f}, {100 * progress.correct / seen:.1f} %"

    def release(self) -> None:
        """Free what only training needs: the test images take its place. No step can follow."""
        del self.optimizer, self.images, self.labels, self.network
        self.model.zero_grad(set_to_none=True)

    # checkpoints

    def comparable(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return a stored configuration with the fields that its version did not have at their defaults, as it trained then."""
        fields = dataclasses.fields(ImageProtocol)
        defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
        return {**stored, "protocol": {**defaults, **stored.get("protocol", {})}}

    def due(self) -> bool:
        """Whether the last checkpoint is old enough, compared to what one costs."""
        return time.monotonic() - self._saved_at > min(SAVE_EVERY, SAVE_SHARE * self._save_seconds)

    def _is_late(self) -> bool:
        return time.monotonic() - self._saved_at > SAVE_EVERY

    def save(self) -> bool:
        """Write a checkpoint, unless there is no folder or nothing new. Weights that are not finite are never written."""
        began = time.monotonic()
        if self.processes.any(not all(bool(value.isfinite().all()) for value in _learned(self.model))):
            raise TrainingError("nonfinite", f"a weight is not finite after step {self.progress.step}: {self.advice()}")
        written = self.processes.together(super().save)
        if written:
            self._saved_at = time.monotonic()
            self._save_seconds = self._saved_at - began
        return written

    def state(self) -> dict[str, Any]:
        """Return the whole state of the run. The learning rate is a function of the step and needs no entry."""
        return {
            **super().state(),
            "model": clean_state_dict(self.model),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else clean_state_dict(self.average.module),
            "best_weights": self.best_weights,
            "random": {"epoch": self.epoch_began, **self.streams.plain()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        load_clean_state_dict(self.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            load_clean_state_dict(self.average.module, state["average"])
        self.best_weights, best = state["best_weights"], self.progress.best
        if best and not (
            best["validation_accuracy"] >= 0 and best["epoch"] > 0 and set(self.best_weights) == set(state["model"])
        ):
            raise KeyError("best_weights")
        self.epoch_began = state["random"]["epoch"]
        self.streams.restore(state["random"])
        self.streams.branch(self.processes.rank, self.progress.step)


def _learned(model: nn.Module) -> Iterator[Tensor]:
    """Yield what training changes: weights and the statistics of batch norms. Other buffers may hold anything."""
    yield from model.parameters()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            yield from module.buffers()
