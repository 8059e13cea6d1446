"""Mixup and cutmix: training images mixed with others of their batch, and their labels in the same proportion.

    mixup     x = s x_i + (1 - s) x_j                        s from Beta(alpha, alpha)
    cutmix    x = x_j in a rectangle, x_i around it          of share 1 - s of the image, its center anywhere, cut off at the
                                                             border; s is then the share of x_i that is left
    loss      s loss(x, y_i) + (1 - s) loss(x, y_j)

x_j is the image before x_i in its batch, and the last one for the first. All numbers of an epoch are drawn from seed and epoch
alone, one row per image, so that a resumed run draws the same ones.

Source: H. Zhang et al., mixup, arXiv:1710.09412; S. Yun et al., CutMix, arXiv:1905.04899, equations 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ...messages import checked_number

LARGEST = 1e6  # alpha: all shares are one half then


class MixingPlan(NamedTuple):
    """The numbers of one epoch, one row per image in the order of the data."""

    shares: Tensor  # float32 (count,): of the image itself
    pasted: Tensor  # bool (count,): whether a rectangle is pasted into it (cutmix), or the other image added (mixup)
    boxes: Tensor  # int64 (count, 2, 2): first row and column of the rectangle, and those after its last

    def mix(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images (n, channels, height, width) of these indices, mixed, and the share (n,) each has of its own."""
        shares, pasted, boxes = (part[indices] for part in self)
        inside = [
            (place >= boxes[:, 0, axis, None]) & (place < boxes[:, 1, axis, None])
            for axis, place in enumerate(torch.arange(extent, device=images.device) for extent in images.shape[2:])
        ]
        around = ~(inside[0][:, :, None] & inside[1][:, None, :])
        own = torch.where(pasted[:, None, None], around.to(images.dtype), shares[:, None, None].to(images.dtype))
        return torch.lerp(images.roll(1, 0), images, own[:, None]), shares


@final
@dataclass(frozen=True)
class Mixing:
    """How training images are mixed with others.

    Parameters
    ----------
    mixup, cutmix : float
        The alpha of Beta(alpha, alpha), from which the share of an image is drawn; 0: none. With both, each image takes
        one of the two, at random.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            wanted = f"a number from 0 to {LARGEST:g}, the alpha of Beta(alpha, alpha)"
            value = checked_number(name, getattr(self, name), wanted, lambda alpha: 0 <= alpha <= LARGEST)
            object.__setattr__(self, name, value)

    def plan(self, count: int, size: tuple[int, int], seed: int, epoch: int, device: torch.device) -> MixingPlan | None:
        """Draw the numbers of an epoch for `count` images of height and width `size`; None where nothing is mixed."""
        if not (self.mixup or self.cutmix):
            return None
        rng = np.random.default_rng([seed, epoch])
        coins, centers = rng.random(count), np.floor(rng.random((count, 2)) * size)
        pasted = coins < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        alphas = np.where(pasted, self.cutmix, self.mixup)
        shares = rng.beta(alphas, alphas)
        half = np.sqrt(1 - shares)[:, None] * size / 2
        boxes = np.stack([centers - half, centers + half], axis=1).astype(np.int64).clip(0, size)
        areas = (boxes[:, 1] - boxes[:, 0]).prod(1)
        shares = np.where(pasted, 1 - areas / math.prod(size), shares).astype(np.float32)
        return MixingPlan(*(torch.from_numpy(part).to(device) for part in (shares, pasted, boxes)))
