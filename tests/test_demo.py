"""The demonstration: a photograph from its Laplacian, end to end."""

import numpy as np
import pytest
from PIL import Image

from unigrid import demo
from unigrid.cli import main
from unigrid.cli.monitor import Stopwatch
from unigrid.files import FileError, read_array


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


def test_the_command(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "new" / "folder")]) == 0
    path = tmp_path / "new" / "folder" / "unigrid-demo.png"
    with Image.open(path) as picture:
        assert picture.size[0] > 2000
    assert list(path.parent.iterdir()) == [path]
    printed = capsys.readouterr().out
    for text in ("600 x 512 pixels", "304,980 unknowns", "8 levels", "iterations", "largest error", f"Wrote {path}"):
        assert text in printed


def test_a_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["demo", "-o", str(tmp_path / "file")]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err


def test_a_matplotlib_without_sample_data(monkeypatch):
    monkeypatch.setattr(demo, "PHOTOGRAPH", "no-such-photograph.jpg")
    with pytest.raises(FileError, match="without its sample data"):
        demo.sample_photograph()
