"""Checkpoints of other versions: fields that are missing, unknown or of another kind are one line, and nothing is lost."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
from few_images import few_images

import unigrid
from unigrid.files import FileError
from unigrid.training import Protocol, load_trained
from unigrid.training.runs import checkpoint

BEFORE = Path(__file__).parent / "written_before"
PROTOCOL = Protocol("plain", 3, batch_size=10, learning_rate=0.05, pad=1, flip=True, average=0.8, initialization="own")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.system]


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Hundreds of small files need not reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def resumed(kind, folder):
    if kind == "images":
        model = unigrid.MgNetConfig(steps=(1, 1), features=2)
        choices = {"validation": 8, "device": "cpu", "progress": False}
        return unigrid.train(few_images(38), model, PROTOCOL, out=folder, resume=True, **choices)
    problem = unigrid.Poisson((15, 15))
    return unigrid.train_solver(problem, None, kind, epochs=3, steps=3, progress=False, out=folder, resume=True)


def places(value, path=()):
    """The places of all entries of nested dictionaries, weights and random numbers left out, as they have no fields."""
    for name, item in value.items() if isinstance(value, dict) else ():
        yield (*path, name)
        if name not in ("model", "average", "best_weights", "optimizer", "random") or path:
            yield from places(item, (*path, name))


def changed(state, place, how):
    state = copy.deepcopy(state)
    *path, last = place
    entry = state
    for name in path:
        entry = entry[name]
    if how == "missing":
        del entry[last]
    elif how == "unknown":
        entry[f"{last}_of_another_version"] = 1
    else:
        entry[last] = [None] if not isinstance(entry[last], list) else 5
    return state


@pytest.mark.parametrize(
    ("kind", "how"), [*(("images", how) for how in ("missing", "unknown", "of another kind")), ("random", "of another kind")]
)
def test_a_state_of_another_version_is_refused_in_one_line_or_goes_on(tmp_path, kind, how):
    found = checkpoint.latest(BEFORE / kind)
    refusals = []
    for number, place in enumerate(places(found.state)):
        if len(place) == 3 and place[1] != "dataset" and number % 4:
            continue  # model and protocol have many fields alike
        folder = shutil.copytree(BEFORE / kind, tmp_path / str(number))
        for old in folder.glob("*.pt"):
            old.unlink()
        path = checkpoint.save(folder, changed(found.state, place, how), found.step)
        before = path.read_bytes()
        whole = place[0] == "progress" or (len(place) == 1 and how != "unknown")  # other configurations are other runs
        for use in (lambda kind, folder: load_trained(folder, device="cpu"), *([resumed] if whole else [])):
            try:
                use(kind, folder)
            except FileError as error:
                refusals.append(str(error))
                assert path.read_bytes() == before
    assert len(refusals) > 3
    assert all("\n" not in text and str(tmp_path) in text for text in refusals)


@pytest.mark.parametrize("content", [{}, {"epoch": 3, "state_dict": {"weight": torch.ones(2)}}, {"configuration": []}])
def test_a_checkpoint_of_another_program_in_the_folder_is_refused_in_one_line(tmp_path, content):
    checkpoint.save(tmp_path, content, 5)
    with pytest.raises(FileError, match=r"checkpoint-000000005\.pt") as error:
        resumed("images", tmp_path)
    assert "\n" not in str(error.value)
