"""A data set of a few images in three classes, for runs that take seconds."""

import numpy as np
import torch

from unigrid.training import ImageData, Split


def few_images(count, *, noise=120, spread=40, seed=None):
    """Return `count` training and 20 test images, 3 x 8 x 8: random below `noise`, and brighter by `spread` with each class."""
    rng = np.random.default_rng(count if seed is None else seed)
    splits = []
    for size in (count, 20):
        labels = np.arange(size) % 3
        images = rng.integers(noise, size=(size, 3, 8, 8)) + spread * labels[:, None, None, None]
        splits.append(Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)))
    return ImageData("custom", *splits, ("a", "b", "c"), (0.4,) * 3, (0.25,) * 3)
