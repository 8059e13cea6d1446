"""Arrays and photographs as pictures inside a page."""

import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from unigrid.report import figures


def decoded(picture):
    kind, _, text = picture.source.partition(";base64,")
    return kind.removeprefix("data:image/"), Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_mosaic_has_the_colors_of_its_values():
    tiles = np.array([[[-1.0, 0.0], [1.0, np.nan]], [[9.0, -9.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    kind, image = decoded(figures.mosaic(tiles, 1.0, "tiles"))
    pixels = np.asarray(image.convert("RGBA"))
    assert kind == "png"
    zoom = 24  # two columns of two pixels become 96
    assert pixels.shape[:2] == (4 * zoom + 6, 4 * zoom + 6)
    low, white, high = (tuple(pixels[zoom // 2, x]) for x in (2, zoom + 2, 2 * zoom + 6 + 2))
    assert low[2] > low[0] + 50  # blue
    assert high[0] > high[2] + 50  # red
    assert min(white[:3]) > 240
    assert tuple(pixels[zoom + 2, 2]) == high  # 1 is the limit, and 9 beyond it
    for y, x in ((zoom + 2, zoom + 2), (2, 2 * zoom + 2), (4 * zoom, 4 * zoom)):  # not finite, a gap, no tile
        assert pixels[y, x, 3] == 0


@pytest.mark.parametrize(("side", "kind", "size"), [(8, "png", 8), (32, "png", 32), (33, "jpeg", 33), (224, "jpeg", 64)])
def test_a_photograph_is_reduced_and_small_ones_are_exact(side, kind, size):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    found, image = decoded(figures.thumbnail(pixels, "noise"))
    assert (found, image.size) == (kind, (size, size))
    assert kind == "jpeg" or np.array_equal(np.asarray(image), pixels)


def test_figures_take_the_colors_of_the_page():
    figure = Figure(figsize=(2, 2))
    axes = figure.add_subplot()
    axes.plot([0, 1], color="black")
    axes.set_xlabel("x")
    svg = figures.vector(figure, "name", "a line").svg
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "#ffffff" not in svg  # no background
    assert svg.startswith("<svg")
    assert 'id="name-' in svg
    assert "url(#name-" in svg
