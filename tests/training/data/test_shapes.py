"""The synthetic set: what it holds, that a seed repeats it, and that a small network learns it where a linear map does not."""

import numpy as np
import pytest
import torch
from torch import nn

from unigrid.training.data import shapes
from unigrid.training.data.augmentation import Augmentation, Pipeline
from unigrid.training.data.datasets import load


@pytest.fixture(scope="module")
def data():
    return load("shapes")


def test_it_is_labelled_synthetic_and_balanced(data):
    assert data.synthetic
    assert data.name == "shapes"
    assert "synthetic" in repr(data)
    assert data.classes == tuple(shapes.FIGURES)
    assert data.train.images.shape == (8000, 3, 32, 32)
    assert data.test.images.shape == (2000, 3, 32, 32)
    for split in (data.train, data.test):
        assert split.images.dtype == torch.uint8
        assert (split.labels.bincount() == len(split) // 10).all()


def test_the_same_seed_draws_the_same_pictures():
    first, again, other = shapes.draw(30, 1), shapes.draw(30, 1), shapes.draw(30, 2)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_no_picture_of_the_test_set_is_in_the_training_set(data):
    train, test = ({picture.numpy().tobytes() for picture in split.images} for split in (data.train, data.test))
    assert len(train) == 8000
    assert not train & test


def test_what_a_caller_does_to_its_data_stays_with_it(data):
    mine = load("shapes")
    mine.train.images.zero_()
    assert torch.equal(load("shapes").train.images, data.train.images)


def test_every_figure_covers_a_part_of_the_picture_and_all_differ():
    place = np.linspace(-1.5, 1.5, 121, dtype=np.float32)
    x, y = np.meshgrid(place, place)
    inside = {name: figure(x, y) < 0 for name, figure in shapes.FIGURES.items()}
    for name, mask in inside.items():
        assert 0.08 < mask.mean() < 0.4, name
        assert not mask[[0, -1]].any(), name
        assert not mask[:, [0, -1]].any(), name
    names = list(inside)
    for i, name in enumerate(names):
        for other in names[:i]:
            assert (inside[name] ^ inside[other]).mean() > 0.03, (name, other)


@pytest.mark.parametrize("name", shapes.FIGURES)
def test_a_mirrored_figure_is_the_same_turned(name):
    """Each has an axis of symmetry, so mirroring a picture keeps its label."""
    place = np.linspace(-1.5, 1.5, 61, dtype=np.float32)
    x, y = np.meshgrid(place, place)
    figure = shapes.FIGURES[name]
    mirrored = [figure(-x, y), figure(x, -y)]
    assert any(np.allclose(figure(x, y), other, atol=1e-5) for other in mirrored)


def test_figures_are_lighter_than_what_surrounds_them():
    pictures, labels = shapes.draw(500, 3)
    disks = pictures[labels == list(shapes.FIGURES).index("disk")].astype(float)
    brightness = disks.mean(1).reshape(len(disks), -1)
    brightest, darkest = (np.sort(brightness, 1)[:, part].mean(1) for part in (slice(-100, None), slice(300)))
    assert (brightest - darkest).min() > 20
    median = np.median(brightness, axis=1)  # belongs to what there is more of
    assert (median - darkest).mean() < 0.5 * (brightest - median).mean()
    assert len(np.unique(pictures)) == 256


@pytest.mark.parametrize("label", range(10))
def test_the_figure_is_the_one_that_the_label_names(monkeypatch, label):
    """By its area, without noise: white on black, all of one size."""
    for name, value in {"NOISE": 0.0, "SLOPE": 0.0, "DARK": (0, 0), "LIGHT": (255, 255), "RADIUS": (8, 8)}.items():
        monkeypatch.setattr(shapes, name, value)
    pictures, labels = shapes.draw(300, 5)
    place = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    area = 9 * (list(shapes.FIGURES.values())[label](*np.meshgrid(place, place)) < 0).mean()
    found = pictures[labels == label].mean((1, 2, 3)) / 255 * 32**2 / 8**2
    assert np.median(found) == pytest.approx(area, rel=0.05)


@pytest.mark.slow
def test_a_linear_map_of_the_pixels_does_not_solve_it(data):
    images, labels = data.train.images[:4000].flatten(1).double() / 255, data.train.labels[:4000]
    images = torch.cat([images, torch.ones(len(images), 1, dtype=torch.float64)], 1)
    gram = images.T @ images + 100 * torch.eye(images.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, images.T @ nn.functional.one_hot(labels, 10).double())
    test = data.test.images.flatten(1).double() / 255
    guess = (torch.cat([test, torch.ones(len(test), 1, dtype=torch.float64)], 1) @ weights).argmax(1)
    assert (guess == data.test.labels).double().mean() < 0.3


@pytest.mark.slow
@pytest.mark.slow
def test_a_small_network_learns_it(data):
    torch.manual_seed(0)
    train, test = (Pipeline(split.images, data.mean, data.std, Augmentation(flip=True)) for split in (data.train, data.test))
    widths = ((3, 24), (24, 48), (48, 64))
    blocks = [layer for i, o in widths for layer in (nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())]
    net = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).to(memory_format=torch.channels_last)
    epochs, size = 6, 64
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs * len(train) // size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        plan = train.plan(generator)
        for chosen in plan.order.split(size):
            loss = nn.functional.cross_entropy(net(train.batch(chosen, plan)), data.train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        right = net(test.plain(0, 2000)).argmax(1) == data.test.labels
    assert right.float().mean() > 0.9
