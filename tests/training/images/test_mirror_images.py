"""Whether images may be mirrored is one fact, for training and for tests: letters that are each other's mirror image."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import unigrid
from unigrid.training import PROTOCOLS, ImageProtocol, load_trained

pytestmark = pytest.mark.system

LETTERS = {
    "b": ["X....", "X....", "XXXX.", "X...X", "XXXX."],
    "d": ["....X", "....X", ".XXXX", "X...X", ".XXXX"],
    "p": ["XXXX.", "X...X", "XXXX.", "X....", "X...."],
    "q": [".XXXX", "X...X", ".XXXX", "....X", "....X"],
}
ARROWS = {"left": ["..X..", ".X...", "XXXXX", ".X...", "..X.."], "right": ["..X..", "...X.", "XXXXX", "...X.", "..X.."]}


def drawn(figures, count):
    """Return images (count, 1, 5, 5) of the figures in turn, with noise, and their labels."""
    rng, labels = np.random.default_rng(count), np.arange(count) % len(figures)
    shapes = np.array([[[200 * (letter == "X") for letter in row] for row in rows] for rows in figures.values()])
    return (shapes[labels] + rng.integers(50, size=(count, 5, 5)))[:, None].astype(np.uint8), labels


class Reader(nn.Module):
    """Finds the likeliest figure by its template; the trained weight changes nothing of it."""

    def __init__(self, figures):
        super().__init__()
        shapes = [[[float(letter == "X") for letter in row] for row in rows] for rows in figures.values()]
        self.register_buffer("templates", torch.tensor(shapes).flatten(1))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        images = images.flatten(1) - images.flatten(1).amin(1, keepdim=True)
        distances = torch.cdist(images / images.amax(1, keepdim=True), self.templates)
        return -self.scale.abs() * distances


def train(figures, protocol, **choices):
    data = drawn(figures, 40), drawn(figures, 20)
    fixed = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-9, "pad": 0, "device": "cpu", "progress": False}
    return unigrid.train(data, Reader(figures), protocol, **fixed, **choices)


OWN = ImageProtocol("own", 1, test_flip=True)
WAYS = {"a choice": ("fast", {"flip": False}), "a protocol": (OWN, {}), "none asked for": ("paper", {})}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("figures", [LETTERS, ARROWS], ids=["letters", "arrows"])
def test_figures_that_are_mirror_images_of_each_other_are_told_apart(figures, way, tmp_path):
    protocol, choices = WAYS[way]
    result = train(figures, protocol, validation=20, out=tmp_path, **choices)
    assert result.test_accuracy == result.best_test_accuracy == result.history[-1]["validation_accuracy"] == 1.0
    trained = load_trained(tmp_path, device="cpu", model=Reader(figures))
    assert not trained.flips
    assert trained.evaluate(drawn(figures, 20)).accuracy == 1.0
    likeliest = [answer.classes[0] for answer in trained.predict(list(drawn(figures, 20)[0]), top=1)]
    assert likeliest == [str(label) for label in drawn(figures, 20)[1]]


def test_data_that_forbid_it_are_not_mirrored_by_any_protocol():
    data = dataclasses.replace(unigrid.training.load((drawn(LETTERS, 40), drawn(LETTERS, 20))), flip=False)
    choices = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-9, "pad": 0, "device": "cpu", "progress": False}
    assert unigrid.train(data, Reader(LETTERS), PROTOCOLS["fast"], **choices).test_accuracy == 1.0


def test_where_they_may_be_mirrored_they_are_in_tests_too():
    """The control: the letters cannot be told apart then."""
    assert train(LETTERS, "fast", flip=True).test_accuracy < 0.9
    assert train(LETTERS, "fast", flip=True, test_flip=False).test_accuracy == 1.0


@pytest.mark.parametrize("figures", [LETTERS, ARROWS], ids=["letters", "arrows"])
def test_where_a_protocol_would_mirror_them_it_asks(figures):
    one, other = list(figures)[:2]
    many = drawn(figures, 80), drawn(figures, 20)
    choices = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-9, "pad": 0, "device": "cpu", "progress": False}
    with pytest.raises(
        ValueError, match=r"mirror images of class 0 of custom look like class 1.*pass flip=False, or flip=True"
    ):
        unigrid.train(many, Reader(figures), **choices)
    data = dataclasses.replace(unigrid.training.load(many), classes=tuple(figures), name="figures")
    with pytest.raises(ValueError, match=f"mirror images of class {one} of figures look like class {other}"):
        unigrid.train(data, Reader(figures), "course", **choices)
    for flip in (True, False):
        assert (unigrid.train(data, Reader(figures), flip=flip, **choices).test_accuracy == 1) == (not flip)
    assert unigrid.train(data, Reader(figures), "paper", **choices).test_accuracy == 1
    assert unigrid.train(dataclasses.replace(data, flip=False), Reader(figures), **choices).test_accuracy == 1
