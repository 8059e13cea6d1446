"""Labelled images in memory: splits, data sets of a training set and a test set, and labels matched by the names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...messages import plain_number, shown

SPLIT_SEED = 0


@final
@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels: uint8 (count, channels, height, width) and int64 (count,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self)} images, {' x '.join(map(str, self.images.shape[1:]))})"

    def to(self, device: torch.device | str) -> Split:
        """Return the split on a device."""
        return Split(self.images.to(device), self.labels.to(device))

    def subset(self, chosen: int | Tensor) -> Split:
        """Return part of the split: the images of these indices, or that many, spread at random by a fixed seed.

        A count gives the same images every time, in the order of the data. Raises ValueError for one that is not between 1
        and the number of images.
        """
        if isinstance(chosen, Tensor) and chosen.ndim > 0:
            return Split(self.images[chosen], self.labels[chosen])
        count = plain_number(chosen)
        if type(count) is not int or not 1 <= count <= len(self):
            raise ValueError(f"subset must be a whole number from 1 to {len(self)}, the number of images, got {shown(chosen)}")
        if count == len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(SPLIT_SEED))
        return self.subset(order[:count].sort().values.to(self.images.device))


@final
@dataclass(frozen=True, eq=False)
class ImageData:
    """A training set and a test set of labelled images.

    Parameters
    ----------
    name : str
        "cifar10", ..., or "custom".
    train, test : Split
    classes : tuple of str
        The name of each label.
    mean, std : tuple of float, one per channel
        Of images scaled to 0..1, for normalization.
    synthetic : bool
        Whether the images were drawn by a program; every report mentions it.
    flip : bool
        Whether a mirrored image keeps its label.
    validation : Split, optional
        A validation set of its own; without one it is split off the training set.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    synthetic: bool = False
    flip: bool = True
    validation: Split | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def __repr__(self) -> str:
        channels, height, width = self.shape
        kind = ", synthetic" if self.synthetic else ""
        return (
            f"ImageData({self.name}{kind}: {len(self.train)} + {len(self.test)} images, {height} x {width} x {channels}, "
            f"{len(self.classes)} classes)"
        )


@final
@dataclass(frozen=True, eq=False)
class Labelled:
    """Images that a network is tested on, and the names of their labels, None where they have none."""

    name: str
    split: Split
    classes: tuple[str, ...] | None = None
    synthetic: bool = False

    def labels_among(self, classes: tuple[str, ...]) -> Tensor:
        """Return the labels as places in `classes`, found by their names; those without names are such places already.

        Raises ValueError for an image of no class, with what came and what is allowed.
        """
        labels, names = self.split.labels, self.classes
        present = torch.unique(labels).tolist()
        if not present:
            raise ValueError(f"{self.name} has no images")
        if names is not None and are_numbers(names) and not set(names) <= set(classes):
            names = None  # of arrays that were loaded before
        known = classes if names is None else names
        if present[-1] >= len(known):
            raise ValueError(f"{self.name} has a label {present[-1]}, but {len(known)} classes, 0 to {len(known) - 1}")
        if names is None or names == classes:
            return labels
        others = [names[label] for label in present if names[label] not in classes]
        if others:
            raise ValueError(
                f"{self.name} has images of {listed(others)}, not among the classes {listed(classes)}; rename them, or give "
                "(images, labels) with their places among these as labels"
            )
        places = {name: place for place, name in enumerate(classes)}
        return torch.tensor([places.get(name, -1) for name in names], device=labels.device)[labels]


def listed(classes: Sequence[str]) -> str:
    """Return the first names of classes for a message."""
    return ", ".join(classes[:3]) + ", ..." * (len(classes) > 3)


def are_numbers(classes: tuple[str, ...]) -> bool:
    return classes == tuple(map(str, range(len(classes))))
