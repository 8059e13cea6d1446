"""Evaluation: accuracy, loss, confusion matrix, logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...conv.modes import evaluating
from ...conv.weights import unwrap
from ..data.augmentation import Pipeline

BATCH = 500


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
    """

    accuracy: float
    loss: float
    confusion: Tensor

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


def evaluate_model(
    model: nn.Module, images: Pipeline, labels: Tensor, flip: bool = False, mixed_precision: bool = False
) -> Evaluation:
    """Return accuracy, loss and confusion of a model over images without augmentation.

    The model is in evaluation mode meanwhile. Nothing waits for the device before the end.
    """
    with evaluating(model):
        batches = [
            logits_of(model, images.plain(start, min(start + BATCH, len(images))), flip, mixed_precision)
            for start in range(0, len(images), BATCH)
        ]
    logits, labels = torch.cat(batches), labels.to(images.device)
    classes = logits.shape[1]
    counts = torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    confusion = counts.view(classes, classes).cpu()
    return Evaluation(
        accuracy=int(confusion.diagonal().sum()) / len(labels),
        loss=float(functional.cross_entropy(logits, labels)),
        confusion=confusion,
    )
