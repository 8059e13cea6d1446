"""Evaluation: accuracy, loss, confusion matrix, logits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...conv.modes import evaluating
from ...conv.weights import unwrap
from ...files import one_line
from ...messages import checked_count
from ..data.augmentation import Pipeline
from ..runs.processes import ALONE, Processes

T = TypeVar("T")
BATCH, VALUES = 500, 3 * 32 * 32  # most images of a batch, of that many values each; of larger ones fewer, in the same memory
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|alloc_failed", re.IGNORECASE)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """The evaluation of a classifier on labelled images.

    Attributes
    ----------
    accuracy : float
        Share of images whose most likely class is the right one, from 0 to 1.
    loss : float
        Mean cross entropy, natural logarithm.
    confusion : Tensor, int64 (classes, classes)
        Number of images of class i (row) that were classified as j (column).
    logits : Tensor, float (count, classes)
    labels : Tensor, int64 (count,)
        Of the images in their order, on the CPU.
    """

    accuracy: float
    loss: float
    confusion: Tensor
    logits: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def top(self, k: int) -> float:
        """Return the share of images whose label is among the k likeliest classes; of equally likely ones the first counts."""
        k, labels = checked_count("k", k), self.labels[:, None]
        own, places = self.logits.gather(1, labels), torch.arange(self.logits.shape[1])
        likelier = (self.logits > own) | ((self.logits == own) & (places < labels)) | own.isnan()
        return float((likelier.sum(1) < min(k, len(places))).double().mean())

    def per_class(self, classes: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return class (its name, default its number), precision, recall, f1 and support (number of images) of each class.

        0 stands for 0 / 0.
        """
        right, found, there = self.confusion.diagonal(), self.confusion.sum(0), self.confusion.sum(1)
        scores = {
            "precision": right / found.clamp_min(1), "recall": right / there.clamp_min(1),
            "f1": 2 * right / (found + there).clamp_min(1),
        }  # fmt: skip
        return [
            {"class": name, **{score: float(values[label]) for score, values in scores.items()}, "support": int(there[label])}
            for label, name in enumerate(map(str, range(len(there))) if classes is None else classes)
        ]

    @property
    def count(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    def __repr__(self) -> str:
        return f"Evaluation(accuracy {100 * self.accuracy:.2f} % of {self.count:,} images, loss {self.loss:.4f})"


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, flip: bool = False, mixed_precision: bool = False) -> Tensor:
    """Return float32 logits (n, classes) of normalized images; with `flip` the mean over each image and its mirror image."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed_precision):
        logits = checked_logits(model(images), model, len(images))
        if flip:
            logits = (logits + model(images.flip(3))) / 2
    return in_full_precision(logits)


def checked_logits(output: Any, model: nn.Module, count: int, classes: int | None = None) -> Tensor:
    """Return what a model made of `count` images. Raises ValueError unless it is a tensor of logits (count, classes)."""
    if isinstance(output, Tensor) and output.ndim == 2 and output.shape[0] == count and classes in (None, output.shape[1]):
        return output
    came = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    mode = "training" if model.training else "evaluation"
    hint = "" if isinstance(output, Tensor) else "; wrap it in a module that returns its logits alone"
    raise ValueError(
        f"the model {type(unwrap(model)).__name__} maps {count} images to {came} in {mode} mode, and "
        f"({count}, {classes or 'classes'}) is needed, a logit per class{hint}"
    )


def in_full_precision(logits: Tensor) -> Tensor:
    """Return logits in float32 at least, for computing a loss."""
    return logits if logits.dtype == torch.float64 else logits.float()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, on any device, or of Python is one of memory that does not suffice."""
    named = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return named or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None)


def in_batches(compute: Callable[[int, int], T], count: int, values: int) -> list[T]:
    """Return compute(start, stop) of `count` images of `values` values each, batch after batch.

    A batch has as many images as fit into the memory of 500 CIFAR images; where memory does not suffice, it is halved. Raises
    MemoryError where it does not suffice for one image.
    """
    size, start, results = max(1, min(count, BATCH, BATCH * VALUES // values)), 0, []
    while start < count:
        stop = min(start + size, count)
        try:
            results.append(compute(start, stop))
            start = stop
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError(f"memory does not suffice for one image ({one_line(error)})") from error
            size //= 2  # the next attempt comes after this block, which keeps the tensors of the failed one alive
    return results


def evaluate_model(
    model: nn.Module,
    images: Pipeline,
    labels: Tensor,
    flip: bool = False,
    mixed_precision: bool = False,
    processes: Processes = ALONE,
) -> Evaluation:
    """Return accuracy, loss and confusion of a model over images without augmentation, shared among processes.

    The model is in evaluation mode meanwhile. Nothing waits for the device before the end. Batches are smaller where images
    are large, or memory does not suffice.
    """
    first, end = processes.span(len(images))
    count = max(end - first, 1)  # one is no share of this process, but shows how many classes there are
    with evaluating(model):
        batches = processes.together(
            lambda: in_batches(
                lambda start, stop: logits_of(model, images.plain(first + start, first + stop), flip, mixed_precision),
                count,
                images.channels * images.height * images.width,
            )
        )
    logits, labels = processes.whole(torch.cat(batches), len(images)), labels.to(images.device)
    classes = logits.shape[1]
    counts = torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    confusion = counts.view(classes, classes).cpu()
    return Evaluation(
        accuracy=int(confusion.diagonal().sum()) / len(labels),
        loss=float(functional.cross_entropy(logits, labels)),
        confusion=confusion,
        logits=logits.cpu(),
        labels=labels.cpu(),
    )
