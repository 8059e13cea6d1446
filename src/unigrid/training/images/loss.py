"""The loss of training on images: cross entropy, with weights of classes, label smoothing, and labels that are mixed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .protocols import ImageProtocol


def weights_of_classes(protocol: ImageProtocol, labels: Tensor, classes: int) -> Tensor | None:
    """Return the weight of each class in float64, None where all are equal. Raises ValueError for another number of them."""
    choice = protocol.class_weights
    if choice == "equal":
        return None
    if choice == "balanced":
        counts = torch.bincount(labels.cpu(), minlength=classes).clamp_min(1)  # a class without images has no loss
        return len(labels) / (classes * counts.double())
    if len(choice) != classes:
        raise ValueError(f"class_weights must be one number per class, {classes}, or 'balanced'; got {len(choice)} numbers")
    return torch.tensor(choice, dtype=torch.float64)


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, shares: Tensor | None, weights: Tensor | None, smoothing: float
) -> Tensor:
    """Return the mean over images of s loss(y_i) + (1 - s) loss(y_j), y_j being the label before y_i; None: s = 1.

    As in PyTorch, a mean with weights is the sum divided by that of the weights of the labels.
    """
    if shares is None:
        return functional.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    losses = [
        share * functional.cross_entropy(logits, each, weights, reduction="none", label_smoothing=smoothing)
        for share, each in _parts(labels, shares)
    ]
    return torch.stack(losses).sum() / total_weight(labels, shares, weights)


def total_weight(labels: Tensor, shares: Tensor | None, weights: Tensor | None) -> Tensor:
    """Return the sum of the weights of the labels, each in its proportion; None: weights of 1."""
    parts = _parts(labels, torch.ones_like(labels) if shares is None else shares)
    return torch.stack([share * (1 if weights is None else weights[each]) for share, each in parts]).sum()


def right_answers(logits: Tensor, labels: Tensor, shares: Tensor | None) -> Tensor:
    """Return the number of images classified as their label, each label counting by its share in the image."""
    answers = logits.argmax(1)
    if shares is None:
        return (answers == labels).sum()
    own, other = (share * (answers == each) for share, each in _parts(labels, shares))
    return (own + other).sum()


def _parts(labels: Tensor, shares: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return share and label of each image, and those of the image before, mixed into it.

    Labels without a share come first: those of images that others are mixed with, and that belong to another process.
    """
    first = len(labels) - len(shares)
    return [(shares, labels[first:]), (1 - shares, labels.roll(1)[first:])]
