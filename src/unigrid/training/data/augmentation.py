"""Random crops, mirrored images and cutout for whole batches at once, on the device that holds the images.

The random numbers of an epoch are drawn before it begins, one entry per image: its place in the order, the offset of its crop,
whether it is mirrored, the center of its cutout. The augmentation of an image therefore depends neither on the batch nor on
the device; and nothing waits for the device.

    y = x[top : top + h, left : left + w]     of the image padded with black by `pad` pixels on every side
    y = y mirrored left to right              for half of the images
    z = (y / 255 - mean) / std
    z = 0 in a square                         with its center anywhere in the image, cut off at the image's border

Source: the order of torchvision's RandomCrop(padding), RandomHorizontalFlip, ToTensor, Normalize, which published CIFAR
results used (He et al., CVPR 2016); T. DeVries & G. Taylor, arXiv 1708.04552, for cutout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ...messages import plain_number, shown

MOST_PIXELS = 10_000


@final
@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images.

    Parameters
    ----------
    pad : int, pixels
        Width of the black frame added before a random crop of the image's own size; 0: no crop.
    flip : bool
        Whether half of the images are mirrored left to right.
    cutout : int, pixels
        Side of the square that is set to the mean; 0: none.
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("pad", "cutout"):
            value = plain_number(getattr(self, name))
            if type(value) is not int or not 0 <= value <= MOST_PIXELS:
                limit = f" and at most {MOST_PIXELS:,}" if type(value) is int and value > 0 else ""
                got = shown(getattr(self, name))
                raise ValueError(f"{name} must be a whole number of pixels >= 0{limit}, got {got}")
            object.__setattr__(self, name, value)
        if not isinstance(self.flip, bool):
            raise ValueError(f"flip must be True or False, got {shown(self.flip)}")


class EpochPlan(NamedTuple):
    """All random numbers of one epoch. `order` is the order of the images; the others have one row per image, in the order of
    the data, so that the augmentation of image i does not depend on its place in the epoch.
    """

    order: Tensor  # int64 (count,)
    offsets: Tensor  # int64 (count, 2): top and left of the crop within the padded image, 0 to 2 pad
    flips: Tensor  # bool (count,)
    centers: Tensor  # int64 (count, 2): row and column of the center of the cutout

    @classmethod
    def draw(cls, count: int, size: tuple[int, int], augmentation: Augmentation, generator: torch.Generator) -> EpochPlan:
        """Draw the plan of `count` images, with a generator on the CPU: a seed gives the same plan on every device.

        All numbers are drawn in any case, so that switching one change off does not affect the others.
        """
        order = torch.randperm(count, generator=generator)
        offsets = torch.randint(2 * augmentation.pad + 1, (count, 2), generator=generator)
        flips = (torch.randint(2, (count,), generator=generator) == 1) & augmentation.flip
        centers = torch.stack([torch.randint(extent, (count,), generator=generator) for extent in size], dim=1)
        return cls(order, offsets, flips, centers)


@final
class Pipeline:
    """Images on a device, and batches of them: normalized, and augmented by a plan or not at all.

    The images are stored as padded bytes, channels last: a crop is then a window of the array, gathered row by row, and a
    batch is in the memory format in which convolutions are fastest.

    Parameters
    ----------
    images : Tensor, uint8 (count, channels, height, width)
        Copied, never changed.
    mean, std : sequence of float, one per channel
        Of images scaled to 0..1.
    augmentation : Augmentation
        Used by `batch`, not by `plain`.
    device, dtype, memory_format
        Of the batches. Arithmetic is in float32, or in float64 if that is the dtype.
    """

    def __init__(
        self,
        images: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        self.augmentation = augmentation or Augmentation()
        self.dtype, self.memory_format = dtype, memory_format
        self._check(images, mean, std)
        self.count, self.channels, self.height, self.width = images.shape
        device = images.device if device is None else torch.device(device)
        pad, size = self.augmentation.pad, max(self.height, self.width)
        if pad > size:
            raise ValueError(f"pad must be at most {size} pixels, the size of the images, as crops beyond are black; got {pad}")
        padded = torch.zeros(
            self.count, self.height + 2 * pad, self.width + 2 * pad, self.channels, dtype=torch.uint8, device=device
        )
        self._plain = padded[:, pad : pad + self.height, pad : pad + self.width]
        self._plain.copy_(images.permute(0, 2, 3, 1))
        # One view of all crops of all images: (count, tops, lefts, height, width, channels).
        self._crops = padded.unfold(1, self.height, 1).unfold(2, self.width, 1).permute(0, 1, 2, 4, 5, 3)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        deviation = torch.tensor(std, dtype=torch.float64)
        scale, shift = 1 / (255 * deviation), -torch.tensor(mean, dtype=torch.float64) / deviation
        self._scale, self._shift = (each.repeat(self.width).to(device, exact) for each in (scale, shift))  # of a whole row
        self._rows, self._columns = (torch.arange(extent, device=device) for extent in (self.height, self.width))

    @staticmethod
    def _check(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images must be uint8 (count, channels, height, width), got {images.dtype} {tuple(images.shape)}")
        if not len(mean) == len(std) == images.shape[1]:
            raise ValueError(
                f"images of {images.shape[1]} channels need as many means and deviations, got {len(mean)}, {len(std)}"
            )
        if not all(value > 0 for value in std):
            raise ValueError(f"std must be > 0 in every channel, got {tuple(std)}")

    def __len__(self) -> int:
        return self.count

    @property
    def device(self) -> torch.device:
        """The device of the images and the batches."""
        return self._plain.device

    def plan(self, generator: torch.Generator) -> EpochPlan:
        """Return the plan of an epoch, drawn with a generator on the CPU; copied once, so that no batch waits for a copy."""
        plan = EpochPlan.draw(self.count, (self.height, self.width), self.augmentation, generator)
        return EpochPlan(*(part.to(self.device) for part in plan))

    def batch(self, indices: Tensor, plan: EpochPlan) -> Tensor:
        """Return the augmented images of these indices, (n, channels, height, width), normalized.

        With indices and plan on the images' device, nothing waits for it.
        """
        tops, lefts = plan.offsets[indices].unbind(1)
        images = self._crops[indices, tops, lefts] if self.augmentation.pad else self._plain.index_select(0, indices)
        if self.augmentation.flip:
            rows = torch.arange(len(indices), device=images.device)
            images = torch.cat([images, images.flip(2)]).index_select(0, rows + len(indices) * plan.flips[indices])
        values = self._normalized(images)
        if self.augmentation.cutout:
            values.masked_fill_(self._holes(plan.centers[indices]), 0.0)
        return self._finished(values)

    def plain(self, start: int, stop: int) -> Tensor:
        """Return images start to stop, normalized, in the order of the data: for evaluation."""
        return self._finished(self._normalized(self._plain[start:stop]))

    def _normalized(self, images: Tensor) -> Tensor:
        """Multiply, then add, each rounded separately, so that every device gives the same bits."""
        values = images.reshape(len(images), self.height, self.width * self.channels).to(self._scale.dtype)
        return values.mul_(self._scale).add_(self._shift).view(len(images), self.height, self.width, self.channels)

    def _holes(self, centers: Tensor) -> Tensor:
        side = self.augmentation.cutout
        top, left = (centers - side // 2).unsqueeze(2).unbind(1)
        rows = (self._rows >= top) & (self._rows < top + side)
        columns = (self._columns >= left) & (self._columns < left + side)
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(3)

    def _finished(self, values: Tensor) -> Tensor:
        return values.permute(0, 3, 1, 2).to(self.dtype).contiguous(memory_format=self.memory_format)
