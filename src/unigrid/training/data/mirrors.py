"""Whether the mirror images of a class look like another class, as those of the letter b like d."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .datasets import Split

SIDE = 8  # pixels of the small images that are compared
MOST = 5000  # images, more are not needed
LEAST = 8  # images of a class, or it proves nothing
DEVIATIONS = 2.5  # of the share of n even chances, 1 / (2 sqrt(n)), above one half: what is no accident


def mirrored_pair(split: Split) -> tuple[int, int] | None:
    """Return two classes, where mirror images of the first look like images of the second; None where none do surely.

    Half of the images of each class give its mean; those of the other half, as they are and mirrored, are given to the class
    of the nearest mean, which must also be nearer to the mirrored mean of the first class than to the mean itself. What moves
    or turns in its images is not found that way.
    """
    split = split.subset(min(len(split), MOST))
    split = split.subset(split.labels.argsort(stable=True))
    height, width = (min(SIDE, side) for side in split.images.shape[2:])
    parts = torch.split(split.images, 500)
    small = torch.cat([functional.adaptive_avg_pool2d(part.float(), (height, width)) for part in parts])
    labels, others = split.labels[::2], split.labels[1::2]
    classes = int(split.labels.max()) + 1
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    sums = torch.zeros(classes, *small.shape[1:], device=small.device).index_add_(0, labels, small[::2])
    means = sums / counts.view(-1, 1, 1, 1)
    distances, of_mirrored = (torch.cdist(each.flatten(1), means.flatten(1)) for each in (means, means.flip(3)))
    asked = torch.bincount(others, minlength=classes)
    plain, mirrored = (_shares(each, others, means, asked) for each in (small[1::2], small[1::2].flip(3)))
    surely = torch.where(asked < LEAST, math.inf, 0.5 + DEVIATIONS / 2 / asked.clamp_min(1).sqrt())
    known = plain.diagonal() >= surely
    pairs = (known[:, None] & (mirrored >= surely[:, None]) & (of_mirrored < distances / 2)).nonzero()
    return (int(pairs[0, 0]), int(pairs[0, 1])) if len(pairs) else None


def _shares(images: Tensor, labels: Tensor, means: Tensor, counts: Tensor) -> Tensor:
    """Return which share of the images of each class (row) is nearest to the mean of each (column)."""
    nearest = torch.cdist(images.flatten(1), means.flatten(1)).argmin(1)
    found = torch.bincount(labels * len(means) + nearest, minlength=len(means) ** 2)
    return found.view(len(means), len(means)) / counts.clamp_min(1)[:, None]
