"""Classes that are each other's mirror image are found, and no others."""

import pytest
import torch

from unigrid.training import Split
from unigrid.training.data.mirrors import mirrored_pair


def split_of(patterns, counts, side=12, channels=3, noise=40, seed=0):
    """So many images of each pattern, a function of the coordinates from 0 to 1, in random order, with noise."""
    generator = torch.Generator().manual_seed(seed)
    place = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(place, place, indexing="ij")
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    clean = torch.stack([150 * pattern(x, y).float() for pattern in patterns])[labels][:, None]
    images = clean + torch.randint(noise, (len(labels), channels, side, side), generator=generator)
    return Split(images.to(torch.uint8), labels)


def left(x, y):
    return x < 0.3


def right(x, y):
    return x > 0.7


def top(x, y):
    return y < 0.3


def rising(x, y):
    return (x + y - 1).abs() < 0.31


def falling(x, y):
    return (x - y).abs() < 0.31


@pytest.mark.parametrize(
    ("patterns", "pair"),
    [
        ((left, right), (0, 1)), ((top, left, right), (1, 2)), ((rising, top, falling), (0, 2)), ((left, top), None),
        ((rising, left), None), ((lambda x, y: x > 2, top), None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("counts", [(40, 40, 40), (30, 200, 20)])
@pytest.mark.parametrize("shape", [(5, 1), (12, 3), (40, 2)])
def test_mirrored_classes_are_found(patterns, pair, counts, shape):
    assert mirrored_pair(split_of(patterns, counts[: len(patterns)], *shape)) == pair


def test_a_few_images_prove_nothing():
    assert mirrored_pair(split_of((left, right), (14, 14))) is None
    assert mirrored_pair(split_of((left, right), (1, 1))) is None


def test_labels_without_an_image_and_many_images():
    few = split_of((left, top, right), (40, 0, 40))
    assert mirrored_pair(few) == (0, 2)
    many = Split(few.images.repeat(100, 1, 1, 1), few.labels.repeat(100))
    assert mirrored_pair(many) == (0, 2)


def test_noise_is_no_pair():
    generator = torch.Generator().manual_seed(0)
    for count in range(20, 120):
        images = torch.randint(256, (count, 1, 2, 2), generator=generator, dtype=torch.uint8)
        assert mirrored_pair(Split(images, torch.randint(2, (count,), generator=generator))) is None
