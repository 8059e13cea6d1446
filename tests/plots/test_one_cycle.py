"""The figure of the one cycle: both halves alike, filled by what a run holds, nothing written over anything."""

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch

import unigrid

if not importlib.util.find_spec("torch"):
    pytest.skip("MgNet needs torch", allow_module_level=True)
SCRIPT = Path(unigrid.__file__).resolve().parents[2] / "docs" / "figures" / "one_cycle.py"
if not SCRIPT.exists():
    pytest.skip("unigrid is installed, not a source tree", allow_module_level=True)


def _load():
    spec = importlib.util.spec_from_file_location("one_cycle", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["one_cycle"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


one_cycle = _load()
CHANNELS, LEVELS, SHOWN = one_cycle.CHANNELS, one_cycle.LEVELS, one_cycle.SHOWN


@pytest.fixture(scope="module")
def axes():
    import torch

    before, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    yield one_cycle.draw().axes[0]
    torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), state)


def places(objects, place, axes):
    """Return the objects' places in each half, x counted from the half's left end."""
    middle = sum(axes.get_xlim()) / 2
    halves = [[place(thing) for thing in objects if (place(thing)[0] > middle) == right] for right in (False, True)]
    found = []
    for half in halves:
        left = min(x for x, *_ in half)
        found.append(sorted(tuple(round(value, 6) for value in (x - left, *rest)) for x, *rest in half))
    return found


def place_of_arrow(arrow):
    (x, y), (to_x, to_y) = arrow._posA_posB
    return x, to_x - x, y, to_y


def place_of_image(image):
    left, right, bottom, top = image.get_extent()
    return left, right - left, bottom, top


def test_both_halves_have_the_same_arrows(axes):
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    found = places(arrows, place_of_arrow, axes)
    assert found[0] == found[1]
    assert len(found[0]) == 2 * LEVELS + 3 * (LEVELS - 1)  # B and A; R, Pi and P


def test_both_halves_have_the_same_boxes(axes):
    tiles = [image for image in axes.images if image.get_array().shape[0] > 3]
    kernels = [image for image in axes.images if image.get_array().shape[0] <= 3]
    found = places(kernels, place_of_image, axes)
    assert found[0] == found[1]
    assert len(found[0]) == 2 * LEVELS + 2 * (LEVELS - 1)
    left, right = places(tiles, place_of_image, axes)
    assert set(left) <= set(right)
    assert (len(left), len(right)) == (2 * LEVELS, 2 * LEVELS * SHOWN)


def test_the_tiles_are_of_a_run(axes):
    """The coarsest level of the left half is solved: A u = f; every grid is half as fine as the one above."""
    from unigrid import Poisson

    middle = sum(axes.get_xlim()) / 2
    left = [image for image in axes.images if image.get_array().shape[0] > 3 and image.get_extent()[0] < middle]
    values = [np.asarray(image.get_array()) for image in left]
    assert [value.shape[0] for value in values] == [63, 63, 31, 31, 15, 15]
    f, u = values[-2:]
    np.testing.assert_allclose(Poisson((15, 15)).operator(u), f, atol=1e-10 * np.abs(f).max())
    right = [image for image in axes.images if image.get_array().shape[0] > 3 and image.get_extent()[0] > middle]
    assert [image.get_array().shape[0] for image in right] == [side for side in (64, 32, 16) for _ in range(2 * SHOWN)]
    assert all(np.asarray(image.get_array()).any() for image in right if image.get_array().shape[0] < 64)


def test_what_is_paired_is_named(axes, texts):
    shown = texts(axes)
    assert shown.count("smoothing\n=\nfeature extraction") == LEVELS
    assert shown.count("restriction = pooling") == LEVELS - 1
    assert [f"level {number}\n{side} × {side}" in shown for number, side in enumerate((63, 31, 15))] == [True] * LEVELS
    assert all(f"{side} × {side}\n× {CHANNELS}" in shown for side in (64, 32, 16))
    for text in ("data  $f$", "features  $u$", "right-hand side  $f$", "solution  $u$", "$B$   $A^{-1}$"):
        assert text in shown


def test_no_text_is_written_over_another_or_a_tile(axes, overlaps):
    figure = axes.figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text() != "solve"]
    assert overlaps(boxes) == []
    tiles = [image.get_window_extent() for image in axes.images]
    assert not [1 for text, tile in itertools.product(boxes, tiles) if text.overlaps(tile)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.system
def test_the_script_writes_it(tmp_path):
    subprocess.run([sys.executable, SCRIPT, tmp_path / "one.png"], check=True)
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_the_seed_draws_the_weights():
    def kernels(figure):
        return [np.asarray(image.get_array()) for image in figure.axes[0].images]

    one, again, other = (kernels(one_cycle.draw(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
