"""Trained classifiers reproduce the accuracy on their cards, on 2,000 published test images, read and counted here."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import unigrid
from unigrid.pretrained import card_of

FILES = {"cifar10": ("cifar-10-batches-py/test_batch", b"labels"), "cifar100": ("cifar-100-python/test", b"fine_labels")}
CLASSIFIERS = [name for name in unigrid.list_pretrained() if not name.startswith("poisson")]


def images_of(dataset, count):
    """The first images, uint8 (count, 3, 32, 32), and their labels, from the published pickles."""
    path, key = FILES[dataset]
    path = Path(os.environ.get("UNIGRID_DATA", "data")) / path
    if not path.exists():
        pytest.skip(f"no {dataset}: {path} is not there; set UNIGRID_DATA to the folder of the unpacked files")
    with open(path, "rb") as file:
        content = pickle.load(file, encoding="bytes")
    return content[b"data"][:count].reshape(-1, 3, 32, 32), np.array(content[key][:count])


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_stated_accuracy(name):
    card = card_of(name)
    images, labels = images_of(card.dataset, card.measured["first"])
    data, model = card.configuration["dataset"], unigrid.create_model(card.model, pretrained=card.dataset).eval()
    mean, std = (np.array(data[key], np.float32)[:, None, None] for key in ("mean", "std"))
    right = 0
    with torch.no_grad():
        for first in range(0, len(labels), 250):
            batch = torch.from_numpy((images[first : first + 250] / np.float32(255) - mean) / std)
            logits = model(batch) + model(batch.flip(3))  # as the protocol tests
            right += int((logits.argmax(1).numpy() == labels[first : first + 250]).sum())
    assert len(labels) == 2000
    assert right / 2000 == pytest.approx(card.measured["accuracy_of_first"], abs=0.002)  # float32 here, bfloat16 there
