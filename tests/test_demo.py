"""The demonstration, end to end: a photograph from its Laplacian, and a network that learns."""

import functools
import importlib.util
import re

import numpy as np
import pytest
from PIL import Image

import unigrid
from unigrid.cli import demo, main
from unigrid.cli.monitor import Stopwatch
from unigrid.files import FileError, read_array

SMALL = {"model": "mgnet-4-Bl", "epochs": 2, "subset": 600}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'unigrid[learn]'")


@pytest.fixture(scope="module")
def learned():
    """The second half in seconds; after so short a training it takes many pictures for what they are not."""
    return demo.learn(**SMALL, stopwatch=Stopwatch())


def test_the_laplacian_of_a_paraboloid():
    x, y = np.meshgrid(np.arange(7.0), np.arange(5.0), indexing="ij")
    assert np.array_equal(demo.minus_laplacian(x**2 + 3 * y**2), np.full((5, 3), -8.0))


def test_the_photograph_comes_back():
    pixels = read_array(demo.sample_photograph())
    assert pixels.shape == (600, 512)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    recovered = demo.recover(pixels, Stopwatch())
    assert np.array_equal(recovered.photograph, pixels[1:-1, 1:-1])
    assert recovered.solution.converged
    assert recovered.solution.iterations <= 6
    assert recovered.error.max() < 1e-7
    assert np.array_equal(recovered.error, np.abs(recovered.solution.u - pixels[1:-1, 1:-1]))


def test_the_sides_belong_where_they_are():
    """Were two sides exchanged, a picture without symmetry would not come back."""
    pixels = np.random.default_rng(0).random((12, 20))
    assert demo.recover(pixels, Stopwatch()).error.max() < 1e-6


def test_the_figure_shows_photograph_source_solution_and_error():
    pixels = np.random.default_rng(0).random((20, 30))
    recovered = demo.recover(pixels, Stopwatch())
    figure = demo.draw(recovered)
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.get_title()]
    expected = [recovered.photograph, recovered.f, recovered.solution.u, recovered.error]
    for image, values in zip(images, expected, strict=True):
        assert np.array_equal(image.get_array(), values)
    source = images[1].get_clim()
    assert source[0] == -source[1]
    assert "504 unknowns" in figure.get_suptitle()


@pytest.mark.slow
def test_the_command_without_torch(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert main(["demo", "-o", str(tmp_path / "new" / "folder")]) == 0
    path = tmp_path / "new" / "folder" / "unigrid-demo.png"
    with Image.open(path) as picture:
        assert picture.size[0] > 2000
    assert list(path.parent.iterdir()) == [path]
    printed = capsys.readouterr().out
    for text in ("600 x 512 pixels", "304,980 unknowns", "6 levels", "iterations", "largest error", f"Wrote {path}"):
        assert text in printed
    last = printed.splitlines()[-1]
    assert "pip install 'unigrid[learn]'" in last
    assert last == demo.WITHOUT_TORCH


@pytest.mark.slow
@needs_torch
def test_the_command(monkeypatch, tmp_path, capsys):
    photograph_part, training_part = demo.PARTS
    monkeypatch.setattr(demo, "PARTS", (photograph_part, functools.partial(training_part, **SMALL)))
    assert main(["demo", "-o", str(tmp_path)]) == 0
    path = tmp_path / "unigrid-demo-training.png"
    assert set(tmp_path.iterdir()) == {path, tmp_path / "unigrid-demo.png"}
    with Image.open(path) as picture:
        assert picture.size[0] > 2000
    said = capsys.readouterr()
    assert said.err == "" or "compiling" in said.err  # no progress bar where there is no terminal
    assert "the second half" not in said.out.lower()
    first, second = re.split("(?=MgNet, trained)", said.out)
    assert "600 x 512 pixels" in first
    parameters = sum(weight.numel() for weight in unigrid.create_model(SMALL["model"]).parameters())
    for text in (
        f"mgnet-4-Bl, {parameters:,} parameters", "4 levels, 32 x 32 to 4 x 4, [2, 2, 2, 2] smoothing steps",
        "540 synthetic pictures, 2 epochs, protocol fast in float32", "of 2,000 other synthetic pictures",
        "run MultigridCycle.cycle,", f"Wrote {path}",
    ):  # fmt: skip
        assert text in second
    assert "synthetic" in second.splitlines()[0]


@needs_torch
@pytest.mark.slow  # trains
def test_both_halves_run_the_same_cycle(learned):
    algorithm = unigrid.MultigridCycle.cycle
    assert type(learned.network.cycle).cycle is algorithm
    assert unigrid.StencilCycle.cycle is algorithm


@needs_torch
@pytest.mark.slow  # trains
def test_the_network_is_tested_on_other_pictures(learned):
    import torch

    assert learned.data.synthetic
    assert learned.configuration["dataset"]["training_images"] == 0.9 * SMALL["subset"]
    images = learned.data.test.images / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (learned.data.mean, learned.data.std))
    with torch.no_grad():
        logits = learned.network((images - mean) / std)
    accuracy = float((logits.argmax(1) == learned.data.test.labels).double().mean())
    assert learned.test.accuracy == pytest.approx(accuracy, abs=0.02)  # that of mirror images, too
    assert not learned.configuration["protocol"]["mixed_precision"]
    assert learned.run.test.accuracy == learned.test.accuracy
    star = int((learned.data.test.labels == learned.data.classes.index("star")).nonzero()[0])
    with torch.no_grad():
        levels = learned.network.forward_intermediates((images[star : star + 1] - mean) / std)[1]
    for features, level in zip(learned.features, levels, strict=True):
        np.testing.assert_allclose(features, level.features[0], atol=1e-5 * np.abs(features).max())


@needs_torch
def test_the_most_confused_pair():
    from unigrid.training import Evaluation

    confusion = np.array([[8, 2, 0], [0, 10, 0], [3, 1, 6]])
    assert demo._most_confused(Evaluation(0.8, 1.0, confusion), ("disk", "ring", "star")) == "star: 30.0 % taken for disk"
    assert demo._most_confused(Evaluation(1.0, 0.0, np.eye(3)), ("disk", "ring", "star")) == "none"


@needs_torch
@pytest.mark.slow  # trains
def test_the_figure_of_the_training_shows_pictures_curves_confusion_and_features(learned):
    figure = demo.draw_learned(learned)
    title = figure.get_suptitle()
    assert f"{100 * learned.test.accuracy:.1f} % of 2,000" in title
    assert "synthetic" in title
    with_images = [axes for axes in figure.axes if axes.images]
    pictures = [axes for axes in with_images if axes.images[0].get_array().ndim == 3]
    labels, test = learned.data.test.labels.tolist(), learned.data.test.images.numpy()
    for label, (axes, name) in enumerate(zip(pictures, learned.data.classes, strict=True)):
        assert np.array_equal(axes.images[0].get_array(), test[labels.index(label)].transpose(1, 2, 0))
        assert name in axes.get_title()
    confusion = next(axes for axes in with_images if axes.get_ylabel() == "true class")
    assert f"accuracy {100 * learned.test.accuracy:.1f} %" in confusion.get_title()
    levels = [axes for axes in with_images if axes.get_title().startswith("level")]
    assert [axes.get_title() for axes in levels] == [f"level {at}: {side} x {side}" for at, side in enumerate((32, 16, 8, 4))]
    for axes, features in zip(levels, learned.features, strict=True):
        largest = features[np.argmax(np.square(features).sum(axis=(1, 2)))]
        assert np.array_equal(axes.images[0].get_array(), largest)
    accuracy = next(axes for axes in figure.axes if axes.get_ylabel() == "accuracy (%)")
    ends = [line.get_ydata()[-1] for line in accuracy.lines]
    last = learned.run.history[-1]
    wanted = [last["train_accuracy"], last["validation_accuracy"], learned.test.accuracy]
    assert ends == pytest.approx([100 * value for value in wanted])


@needs_torch
@pytest.mark.slow  # trains
def test_what_the_network_takes_the_pictures_for(learned):
    """Titles follow the answers: a network that answers "ring" to all is right once and wrong nine times."""
    import torch

    ring = learned.data.classes.index("ring")
    network = unigrid.create_model(SMALL["model"])
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()[ring] = 1
    figure = demo.draw_learned(learned._replace(network=network.eval()))
    pictures = [axes for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 3]
    wanted = ["ring" if name == "ring" else f"ring?\n(is {name})" for name in learned.data.classes]
    assert [axes.get_title() for axes in pictures] == wanted


def test_a_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["demo", "-o", str(tmp_path / "file")]) == 2
    assert "the folder cannot be made" in capsys.readouterr().err


def test_a_matplotlib_without_sample_data(monkeypatch):
    monkeypatch.setattr(demo, "PHOTOGRAPH", "no-such-photograph.jpg")
    with pytest.raises(FileError, match="without its sample data"):
        demo.sample_photograph()
