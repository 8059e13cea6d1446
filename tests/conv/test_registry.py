"""The registry of named models: patterns, models of one's own, names that are taken."""

import dataclasses

import pytest
import torch

from unigrid.conv import MgNetConfig, NamedModel, create_model, list_models, models, named_model, register_model
from unigrid.conv.models import configuration_of, from_configuration


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Whatever a test registers is forgotten after it."""
    monkeypatch.setattr(models, "_LISTED", dict(models._LISTED))
    monkeypatch.setattr(models, "CONFIGS", dict(models.CONFIGS))


@dataclasses.dataclass(frozen=True)
class OwnConfig:
    channels: int = 4
    in_channels: int = 3
    num_classes: int = 10

    def build(self):
        network = create_model("mgnet-4-Bl", num_classes=self.num_classes, in_channels=self.in_channels)
        network.config = self
        return network


OWN = NamedModel("own-4", OwnConfig(), "a network of one's own", "this test")


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", lambda name: True),
        ("resnet*", lambda name: name.startswith("resnet")),
        ("RESNET*", lambda name: name.startswith("resnet")),
        ("*-Al", lambda name: name.endswith("-Al")),
        ("mgnet-??-Bl", lambda name: name in {"mgnet-16-Bl", "mgnet-32-Bl", "mgnet-64-Bl"}),
        ("resnet18", lambda name: name == "resnet18"),
        ("nothing", lambda name: False),
    ],
)
def test_names_are_listed_by_a_pattern(pattern, matches):
    assert list_models(pattern) == [name for name in list_models() if matches(name)]


def test_a_registered_model_is_a_named_one():
    assert register_model(OWN) is OWN
    assert named_model("own-4") is OWN
    assert list_models("own-*") == ["own-4"]
    model = create_model("own-4", num_classes=7, channels=2)
    assert model.config == OwnConfig(2, 3, 7)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
    with pytest.raises(TypeError, match=r"OwnConfig has no field 'chanels'.*did you mean 'channels'"):
        create_model("own-4", chanels=2)


def test_a_registered_model_can_be_rebuilt():
    model = OWN.config.build()
    with pytest.raises(ValueError, match="kind 'OwnConfig' cannot be rebuilt"):
        from_configuration(configuration_of(model))
    register_model(OWN)
    assert from_configuration(configuration_of(model)).config == OWN.config


@pytest.mark.parametrize("name", ["resnet18", "mgnet-48-Bl", "mgnet-48-shared"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match=f"there is a model '{name}' already"):
        register_model(NamedModel(name, MgNetConfig(), "", ""))
    assert name not in list_models() or named_model(name).summary


def test_another_class_of_the_same_name_is_refused():
    same = dataclasses.make_dataclass("MgNetConfig", [("num_classes", int, 10)], frozen=True)
    with pytest.raises(ValueError, match="another class of configurations is named MgNetConfig"):
        register_model(NamedModel("own-2", same(), "", ""))
    assert not list_models("own-2")
