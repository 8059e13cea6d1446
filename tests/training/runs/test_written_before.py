"""Checkpoints written before image runs and solver runs had formats of their own: they load, and their runs go on.

`written_before/` holds runs of three epochs, stopped after the second by version 0.1 at commit 6fbd5ec: one on images, and one
on a Poisson problem per loss. Numbers are compared to a tolerance, as other machines round sums otherwise.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from few_images import few_images

import unigrid
from unigrid.conv.weights import clean_state_dict
from unigrid.training import PoissonNet, Protocol, load_trained
from unigrid.training.runs import checkpoint

BEFORE = Path(__file__).parent / "written_before"
PROTOCOL = Protocol(
    "plain", 3, batch_size=10, learning_rate=0.05, pad=1, flip=True, average=0.8, initialization="own"
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("one_thread")


def train_images(**choices):
    model = unigrid.MgNetConfig(steps=(1, 1), features=2)
    return unigrid.train(few_images(38), model, PROTOCOL, validation=8, device="cpu", progress=False, **choices)


def train_solver(kind, **choices):
    return unigrid.train(unigrid.Poisson((15, 15)), None, kind, epochs=3, steps=3, progress=False, **choices)


def assert_same_weights(one, other):
    one, other = clean_state_dict(one), clean_state_dict(other)
    assert list(one) == list(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-4)


def without_times(history):
    return [{name: value for name, value in row.items() if "second" not in name and value is not None} for row in history]


def assert_same_history(one, other):
    for row, wanted in zip(without_times(one), without_times(other), strict=True):
        assert row == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_an_image_run_loads():
    trained = load_trained(BEFORE / "images", device="cpu")
    assert (trained.epoch, trained.step, trained.classes, trained.shape) == (2, 6, ("a", "b", "c"), (3, 8, 8))
    assert not trained.solves
    assert_same_weights(trained.model, train_images(callback=stop_after(2)).model)
    assert trained.evaluate(few_images(38)).count == 20
    best = load_trained(BEFORE / "images" / "best.pt", device="cpu")
    assert (best.epoch, best.step) == (1, None)


def test_an_image_run_goes_on(tmp_path):
    folder = shutil.copytree(BEFORE / "images", tmp_path / "run")
    resumed, straight = train_images(out=folder, resume=True), train_images()
    assert_same_history(resumed.history, straight.history)
    assert_same_weights(resumed.model, straight.model)
    assert resumed.test_accuracy == pytest.approx(straight.test_accuracy, abs=0.06)
    assert checkpoint.latest(folder).step == 9


@pytest.mark.parametrize("kind", ["fourier", "random"])
def test_a_solver_run_loads(kind):
    trained = load_trained(BEFORE / kind)
    assert isinstance(trained.model, PoissonNet)
    assert trained.solves
    assert (trained.epoch, trained.step) == (2, checkpoint.latest(BEFORE / kind).step)
    assert_same_weights(trained.model, train_solver(kind, callback=stop_after(2)).model)
    assert unigrid.solve(np.ones((31, 31)), cycle=trained.model).converged


@pytest.mark.parametrize("kind", ["fourier", "random"])
def test_a_solver_run_goes_on(tmp_path, kind):
    folder = shutil.copytree(BEFORE / kind, tmp_path / "run")
    resumed, straight = train_solver(kind, out=folder, resume=True), train_solver(kind)
    assert_same_history(resumed.history, straight.history)
    assert_same_weights(resumed.model, straight.model)
    assert resumed.factor == pytest.approx(straight.factor, rel=1e-2)


def test_another_solver_run_is_still_refused(tmp_path):
    folder = shutil.copytree(BEFORE / "random", tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds another run, .*\(seed: 0 there, 1 now\)"):
        train_solver("random", out=folder, resume=True, seed=1)
    with pytest.raises(ValueError, match=r"holds another run, .*dataset\.problems"):
        unigrid.train(unigrid.Poisson((31, 31)), None, "random", epochs=3, steps=3, progress=False, out=folder, resume=True)


def stop_after(epoch):
    def callback(row):
        if row["epoch"] == epoch:
            raise StopIteration

    return callback
