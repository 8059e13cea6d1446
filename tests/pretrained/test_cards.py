"""Trained networks in the package: cards that are complete, names that are found or refused, damaged files."""

import hashlib
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

import unigrid
from unigrid import pretrained
from unigrid.conv.models import configuration_of
from unigrid.files import FileError
from unigrid.training import ImageProtocol

SHIPPED = Path(pretrained.__file__).parent
NAMES = unigrid.list_pretrained()
CLASSIFIERS = [name for name in NAMES if not name.startswith("poisson")]
ONE = "mgnet-32-Bli@cifar10"
REMEDY = r"the installation is damaged: pip install --force-reinstall --no-deps unigrid$"


def test_one_of_either_data_set_and_a_solver_are_there():
    assert {name.partition("@")[2] for name in NAMES} == {"cifar10", "cifar100", "poisson"}
    assert ONE in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_complete(name):
    fields = json.loads((SHIPPED / f"{name}.json").read_bytes())
    content = (SHIPPED / f"{name}.safetensors").read_bytes()
    assert fields["weights"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert fields["weights"]["bytes"] == len(content) <= 1_000_000
    assert f"{fields['model']}@{fields['dataset']}" == name
    assert {"versions", "device", "command", "date"} <= set(fields["trained"])
    assert fields["trained"]["versions"].keys() >= {"unigrid", "torch", "python"}
    assert {"model", "dataset", "protocol", "seed"} <= set(fields["configuration"])
    assert not re.search(r"/tmp|/work|/home|/root", json.dumps(fields))  # what is private to a machine


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_card_of_a_classifier_is_complete(name):
    card = pretrained.card_of(name)
    data, protocol = card.configuration["dataset"], ImageProtocol(**card.configuration["protocol"])
    assert protocol.epochs == card.epoch  # the last one
    assert len(data["classes"]) == card.configuration["model"]["num_classes"]
    assert len(data["mean"]) == len(data["std"]) == 3
    assert card.measured["images"] == 10_000
    assert card.measured["accuracy_before_rounding"] - card.measured["accuracy"] <= 0.0005
    model = unigrid.create_model(card.model, pretrained=card.dataset)
    own = json.loads(json.dumps(configuration_of(model)))
    assert {**own, **card.configuration["model"]} == own  # later versions may have fields with defaults
    assert sum(weight.numel() for weight in model.parameters()) == card.parameters


def test_the_package_has_both_files_of_all():
    """The patterns in pyproject.toml, by which they get into a wheel."""
    project = SHIPPED.parents[2] / "pyproject.toml"
    if not project.exists():
        pytest.skip("unigrid is installed, not a source tree")
    patterns = tomllib.loads(project.read_text())["tool"]["setuptools"]["package-data"]["unigrid"]
    packed = {path.name for pattern in patterns for path in SHIPPED.parent.glob(pattern)}
    assert {f"{name}{ending}" for name in NAMES for ending in (".json", ".safetensors")} <= packed


def test_names_are_found_by_model_and_data_set():
    whole = pretrained.card_of(ONE)
    assert pretrained.card_of("mgnet-32-Bli", "cifar10").name == whole.name == ONE
    assert pretrained.card_of("poisson-net").name == "poisson-net@poisson"


def test_a_model_with_weights_of_several_data_sets_is_not_guessed(another):
    another(ONE, "mgnet-32-Bli@cifar100")
    with pytest.raises(ValueError, match=r"of several data sets; give one of mgnet-32-Bli@cifar10, mgnet-32-Bli@cifar100$"):
        unigrid.load_pretrained("mgnet-32-Bli")
    assert pretrained.card_of("mgnet-32-Bli", "cifar100").dataset == "cifar100"


REFUSED = {
    "mgnet-32-Bil@cifar10": r"no trained weights are named '.*'; there are .*did you mean 'mgnet-32-Bli@cifar10'",
    "mgnet-32-bly": r"there are mgnet-.*; did you mean 'mgnet-32-Bl",
    "mgnet-256-Bl": rf"comes without trained weights; there are .*{ONE}.*`unigrid train DATASET --model mgnet-256-Bl`",
    "mgnet-20-Bl@cifar10": r"mgnet-20-Bl comes without trained weights; there are ",
    "mgnet-32-Bli@cifar01": r"comes with weights for cifar10, not for 'cifar01'; did you mean 'cifar10'",
    "mgnet-32-Bli@mnist": r"comes with weights for cifar10, not for 'mnist'$",
    "": r"no trained weights are named ''",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_without_weights_is_refused(name):
    with pytest.raises(ValueError, match=REFUSED[name]) as refusal:
        unigrid.load_pretrained(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("wrong", [True, 10, b"cifar10"])
def test_what_is_no_name_is_refused(wrong):
    with pytest.raises(ValueError, match="trained weights are named MODEL@DATASET, got "):
        unigrid.create_model("mgnet-32-Bli", pretrained=wrong)


def flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE = {
    "a number flipped": (".safetensors", lambda path: flipped(path, -33), r"damaged, its SHA-256 is not the one on its card"),
    "a header flipped": (".safetensors", lambda path: flipped(path, 20), r"damaged, its SHA-256 is not the one on its card"),
    "weights truncated": (".safetensors", truncated, r"\d+ bytes, its card has \d+"),
    "no weights": (".safetensors", lambda path: path.unlink(), r"cannot be read \(No such file"),
    "empty weights": (".safetensors", lambda path: path.write_bytes(b""), r"0 bytes, its card has \d+"),
    "no card": (".json", lambda path: path.unlink(), r"cannot be read \(No such file"),
    "card truncated": (".json", truncated, r"it is not the card that was written"),
    "empty card": (".json", lambda path: path.write_bytes(b"{}"), r"it is not the card that was written"),
    "a list": (".json", lambda path: path.write_bytes(b"[]"), r"it is not the card that was written"),
    "a number on the card": (
        ".json", lambda path: path.write_text(path.read_text().replace("0.4914", "0.4915")), r"not the card that was written",
    ),
    "the card of another": (
        ".json", lambda path: shutil.copy(path.with_name("poisson-net@poisson.json"), path), r"the card of poisson-net",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_refused_with_the_remedy(damage, shelf):
    ending, harm, expected = DAMAGE[damage]
    harm(shelf / f"{ONE}{ending}")
    for load in (
        lambda: unigrid.load_pretrained(ONE, device="cpu"), lambda: unigrid.create_model("mgnet-32-Bli", pretrained="cifar10"),
    ):  # fmt: skip
        with pytest.raises(FileError, match=rf"{ONE}\{ending}: .*{expected}.*; {REMEDY}") as refusal:
            load()
        assert "\n" not in str(refusal.value)


def test_the_weights_of_another_network_are_refused(shelf):
    """A card and a file that fit each other, but not the network on the card."""
    card = pretrained.card_of(ONE)
    content = (shelf / "poisson-net@poisson.safetensors").read_bytes()
    weights = {**card.weights, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (shelf / f"{ONE}.safetensors").write_bytes(content)
    (shelf / f"{ONE}.json").write_bytes(pretrained.Card(**{**vars(card), "weights": weights}).to_json())
    with pytest.raises(FileError, match=rf"do not fit the model's.*{REMEDY}"):
        unigrid.load_pretrained(ONE)


def test_nothing_of_the_processs_random_numbers_is_used():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    unigrid.load_pretrained(ONE, device="cpu")
    assert torch.rand(1) == expected
