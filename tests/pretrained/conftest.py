"""What the tests of trained networks share: copies of the files to damage, and a reader of .safetensors of our own."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unigrid import pretrained

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
SHIPPED = Path(pretrained.__file__).parent


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A copy of the folder of trained networks, which unigrid takes for its own."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for path in SHIPPED.iterdir():
        if path.suffix in (".json", ".safetensors"):
            shutil.copy(path, folder)
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


@pytest.fixture
def another(shelf):
    """Add a copy of a trained network under another name; its card is made to fit."""

    def add(name, other):
        card = pretrained.card_of(name)
        model, _, dataset = other.partition("@")
        content = card.content()
        new = pretrained.Card(**{**vars(card), "model": model, "dataset": dataset})
        (shelf / f"{other}.safetensors").write_bytes(content)
        (shelf / f"{other}.json").write_bytes(new.to_json())

    return add


def tensors_in(path):
    """Read a .safetensors file by its specification: the length of a header, the header, the numbers."""
    content = Path(path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, found = json.loads(content[8 : 8 + length]), {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = _numbers(content[8 + length + begin : 8 + length + end], entry["dtype"]).reshape(entry["shape"])
    return found


def _numbers(stored, kind):
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(stored, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(stored, {"F32": "<f4", "F64": "<f8", "I64": "<i8"}[kind])


@pytest.fixture
def reading():
    return SimpleNamespace(tensors=tensors_in, shipped=SHIPPED)
