"""Checkpoints that are whole, run no code, and would take all memory: refused before they do, or their network is built."""

import dataclasses
import hashlib
import io
import struct
import zipfile

import pytest
import torch

import unigrid
from unigrid.conv.models import configuration_of
from unigrid.training.images.inference import load_trained
from unigrid.training.images.protocols import PROTOCOLS
from unigrid.training.runs import checkpoint
from unigrid.training.runs.checkpoint import CheckpointError

MODEL = "mgnet-4-Bl"


def write(path, payload):
    """Write a file of the format of checkpoints, whatever its payload."""
    front = f"unigrid-checkpoint 1 {len(payload)} ".encode()
    path.write_bytes(front + hashlib.sha256(front + payload).hexdigest().encode() + b"\n" + payload)
    return path


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def packed(payload):
    """Return the archive with its entries compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return buffer.getvalue()


def overlapping(payload):
    """Return the archive with a directory that lists its largest entry twenty times, under as many names."""
    buffer = io.BytesIO(payload)
    with zipfile.ZipFile(buffer, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(20):
            other = zipfile.ZipInfo(f"archive/data/{number + 100}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, name, getattr(largest, name))
            archive.filelist.append(other)
        archive._didModify = True
    return buffer.getvalue()


def nested(depth, width):
    value = [1.0] * width
    for _ in range(depth):
        value = [value] * width
    return value


SMALL = saved({"model": {"weight": torch.zeros(1000)}})
BOMBS = {
    "compressed": packed(saved({"model": {"weight": torch.zeros(2**21)}})),
    "compressed text": packed(saved({"configuration": "x" * 2**21})),
    "overlapping": overlapping(SMALL),
    "a repeated number": saved({"model": {"weight": torch.zeros(1).expand(2**30)}}),
    "a repeated row": saved({"average": [torch.zeros(1, 100).expand(10**7, 100)]}),
    "lists of one list": saved({"classes": nested(8, 40)}),
    "dicts of one dict": saved({"a": [dict.fromkeys(range(500), dict.fromkeys(range(500), dict.fromkeys(range(500))))]}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_unpacks_to_more_than_its_file_is_refused(tmp_path, monkeypatch, kind):
    path = write(tmp_path / "checkpoint-000000001.pt", BOMBS[kind])
    if kind.startswith(("compressed", "overlapping")):
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    for call in (checkpoint.load, load_trained):
        with pytest.raises(CheckpointError, match=r"unpacks to more than its [0-9,]+ bytes; unigrid did not write it") as error:
            call(path)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"none of its 1 checkpoints can be loaded: .* unpacks to more"):
        checkpoint.latest(tmp_path)


HIDDEN = {
    "after another archive": SMALL + SMALL,
    "before a comment": SMALL[:-2] + struct.pack("<H", 30) + bytes(30),
    "no archive": b"\x80\x02}q\x00.",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_an_archive_that_torch_might_read_otherwise_is_refused(tmp_path, kind):
    with pytest.raises(CheckpointError, match="holds something else than tensors and plain values"):
        checkpoint.load(write(tmp_path / "a.pt", HIDDEN[kind]))


def test_views_are_saved_as_what_they_show(tmp_path):
    state = {
        "row": torch.arange(3.0).expand(4, 3),
        "part": torch.arange(10)[3:5],
        "none": torch.zeros(0),
        "one": torch.zeros(()),
    }
    loaded = checkpoint.load(checkpoint.save(tmp_path, state, 1))
    for name, value in state.items():
        assert torch.equal(loaded[name], value)


# The network that a checkpoint declares.


@pytest.fixture(scope="module")
def state():
    model = unigrid.create_model(MODEL, num_classes=2)
    dataset = {
        "name": "custom", "classes": ["a", "b"], "shape": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "flip": False,
        "synthetic": False,
    }  # fmt: skip
    protocol = {**vars(PROTOCOLS["fast"]), "mixed_precision": False, "accelerated": False}
    configuration = {"model": configuration_of(model), "dataset": dataset, "protocol": protocol}
    return {"configuration": configuration, "model": dict(model.state_dict()), "epoch": 1}


def declared(state, **fields):
    """Return the state with another network declared."""
    configuration = state["configuration"]
    return {**state, "configuration": {**configuration, "model": {**configuration["model"], **fields}}}


def plain(value):
    """Return tuples as lists, as in a checkpoint that was read from JSON."""
    return {name: list(each) if isinstance(each, tuple) else each for name, each in value.items()}


def test_the_network_as_declared_is_loaded(tmp_path, state):
    trained = load_trained(write(tmp_path / "best.pt", saved(state)), device="cpu")
    assert trained.parameters == sum(weight.numel() for weight in trained.model.parameters())


DECLARED = {
    "wide": ({"features": 10**6}, "these [0-9]+ tensors do not fit"),
    "as wide as no machine": ({"features": 10**9}, "these [0-9]+ tensors do not fit|cannot be rebuilt"),
    "beyond integers": ({"features": 10**30}, "cannot be rebuilt by this version"),
    "many classes": ({"num_classes": 10**9}, "these [0-9]+ tensors do not fit|cannot be rebuilt"),
    "many steps": ({"steps": [10**9, 2, 2, 2]}, "steps must be at most 1000 in all"),
    "many levels": ({"steps": [1] * 5000}, "steps must be at most 1000 in all"),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_a_declared_network_is_compared_before_it_is_built(tmp_path, monkeypatch, state, kind):
    fields, text = DECLARED[kind]
    path = write(tmp_path / "best.pt", saved(declared(state, **fields)))
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(CheckpointError, match=text) as error:
        load_trained(path, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fields", [{"pre": 10**9}, {"degree": 10**9}, {"post": 900}])
def test_a_declared_solver_is_compared_too(tmp_path, fields):
    net = unigrid.PoissonNet()
    configuration = {
        "model": {"kind": "PoissonNetConfig", **dataclasses.asdict(net.config), **fields},
        "dataset": {"name": "poisson", "problems": []}, "protocol": {"name": "poisson"},
    }  # fmt: skip
    state = {"configuration": configuration, "model": dict(net.state_dict()), "epoch": 1}
    with pytest.raises(CheckpointError, match=r"must be at most 1000 in all|tensors do not fit"):
        load_trained(write(tmp_path / "best.pt", saved(state)), device="cpu")


def test_weights_that_share_their_numbers_declare_no_larger_network(tmp_path, state):
    wide = unigrid.create_model("mgnet-64-Bl", num_classes=2)
    numbers = torch.zeros(64 * 64 * 9)
    weights = {
        name: numbers[: value.numel()].view(value.shape) if value.is_floating_point() else value
        for name, value in wide.state_dict().items()
    }
    weights = {name: value.as_strided(value.shape, value.stride()) for name, value in weights.items()}
    hostile = {**declared(state, **configuration_of(wide)), "model": weights}
    with pytest.raises(CheckpointError, match="declares a network of more numbers than it holds"):
        load_trained(write(tmp_path / "best.pt", saved(hostile)), device="cpu")


@pytest.mark.parametrize("sharing", ["mgnet-8-shared", "resnet18-AlBl", "mgnet-8-Bli"])
def test_networks_that_share_their_own_numbers_are_loaded(tmp_path, state, sharing):
    choices = {"channels": (4, 4, 4, 4)} if sharing.startswith("resnet") else {}
    model = unigrid.create_model(sharing, num_classes=2, **choices)
    whole = {**declared(state), "model": dict(model.state_dict())}
    whole["configuration"]["model"] = plain(configuration_of(model))
    loaded = load_trained(checkpoint.save(tmp_path, whole, 1), device="cpu").model
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_what_is_no_checkpoint_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "huge.pt"
    with open(path, "wb") as file:
        file.truncate(2**40)  # a sparse file, of no bytes on the disk
    with pytest.raises(CheckpointError, match="not a checkpoint of unigrid"):
        load_trained(path)
    whole = write(tmp_path / "a.pt", SMALL)
    with open(whole, "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(CheckpointError, match="damaged, its content does not have the SHA-256"):
        checkpoint.load(whole)
