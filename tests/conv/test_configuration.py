"""Configurations are checked at construction; every error names the given and the allowed values."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from unigrid.conv import ConvCycle, MgNet, MgNetConfig, PlainConfig, PlainNet, ResNet, ResNetConfig, create_model, named_model
from unigrid.conv.models import configuration_of, from_configuration

CONFIGS = [MgNetConfig(), ResNetConfig(), PlainConfig()]
ALLOWED = r"allowed: '.*'"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_configurations_are_frozen_hashable_and_equal_by_value(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 4
    assert hash(config) == hash(type(config)())
    assert config == type(config)()
    assert dataclasses.replace(config, num_classes=4) != config


def test_lists_are_kept_as_tuples_and_a_single_number_is_for_every_level():
    config = MgNetConfig(steps=[1, 2], features=6, data=[4, 8])
    assert (config.steps, config.channels_of_features, config.channels_of_data) == ((1, 2), (6, 6), (4, 8))
    assert config == MgNetConfig(steps=(1, 2), features=6, data=(4, 8))
    assert hash(config) == hash(MgNetConfig(steps=(1, 2), features=6, data=(4, 8)))
    assert MgNetConfig(steps=(1, 2), features=(6, 8)).channels_of_data == (6, 8)
    for config in (ResNetConfig(blocks=[1, 2], channels=[4, 8]), PlainConfig(steps=[1, 2], channels=[4, 8])):
        assert config.channels == (4, 8)
        assert hash(config)
    assert ResNet(blocks=(1, 2), channels=4).num_features == PlainNet(steps=(1, 2), channels=4).num_features == 4


TEXTS = {
    "operator": "unknown operator 'x'; allowed: 'linear', 'nonlinear'",
    "operator_sharing": "unknown operator_sharing 'x'; allowed: 'level', 'global', 'step'",
    "extractor": "unknown extractor 'x'; allowed: 'convolution', 'bottleneck'",
    "extractor_sharing": "unknown extractor_sharing 'x'; allowed: 'level', 'scaled', 'step', 'global'",
    "restriction_sharing": "unknown restriction_sharing 'x'; allowed: 'level', 'global'",
    "state_transfer": "unknown state_transfer 'x'; allowed: 'convolution', 'channelwise', 'zero'",
    "state_transfer_sharing": "unknown state_transfer_sharing 'x'; allowed: 'level', 'global'",
    "norms": "unknown norms 'x'; allowed: 'step', 'level', 'none'",
    "semi_iteration": "unknown semi_iteration 'x'; allowed: 'none', 'chebyshev', 'multi-step'",
    "cycle": "unknown cycle 'x'; allowed: 'down', 'V'",
    "padding": "unknown padding 'x'; allowed: 'zeros', 'circular'",
    "activation": "unknown activation 'x'; allowed: 'relu', 'leaky-relu', ",
}


@pytest.mark.parametrize("field", TEXTS)
def test_an_unknown_choice_is_answered_with_the_allowed_ones(field):
    with pytest.raises(ValueError, match="unknown") as error:
        MgNetConfig(**{field: "x"})
    assert str(error.value).startswith(TEXTS[field])


WRONG = [
    (MgNetConfig, {"operator_sharing": "levels"}, ValueError, "'levels'.*did you mean 'level'"),
    (MgNetConfig, {"activation": "ReLU"}, ValueError, "'ReLU'.*did you mean 'relu'"),
    (MgNetConfig, {"padding": None}, ValueError, "unknown padding None"),
    (MgNetConfig, {"steps": ()}, ValueError, r"steps must have one entry per level, such as \(2, 2, 2, 2\), got \(\)"),
    (MgNetConfig, {"steps": 2}, ValueError, "steps must have one entry per level.*got 2"),
    (MgNetConfig, {"steps": "2222"}, ValueError, "steps must have one entry per level.*got '2222'"),
    (MgNetConfig, {"steps": (2, 0)}, ValueError, r"steps\[1\] must be an integer >= 1, got 0"),
    (MgNetConfig, {"steps": (2, True)}, ValueError, r"steps\[1\] must be an integer >= 1, got True"),
    (MgNetConfig, {"steps": (2, 1.5)}, ValueError, r"steps\[1\] must be an integer >= 1, got 1.5"),
    (MgNetConfig, {"features": (4, 4)}, ValueError, "features has 2 entries, steps has 4; give one number, or one per level"),
    (MgNetConfig, {"features": -3}, ValueError, "features must be an integer >= 1, got -3"),
    (MgNetConfig, {"features": "64"}, ValueError, "features must be an integer >= 1, got '64'"),
    (MgNetConfig, {"data": (4,) * 5}, ValueError, "data has 5 entries, steps has 4"),
    (MgNetConfig, {"data": 0}, ValueError, "data must be an integer >= 1, got 0"),
    (MgNetConfig, {"num_classes": 0}, ValueError, "num_classes must be an integer >= 1, got 0"),
    (MgNetConfig, {"in_channels": 3.0}, ValueError, "in_channels must be an integer >= 1, got 3.0"),
    (MgNetConfig, {"operator_norm": 1}, TypeError, "operator_norm must be True or False, got 1"),
    (MgNetConfig, {"transfer_norms": "no"}, TypeError, "transfer_norms must be True or False, got 'no'"),
    (MgNetConfig, {"transfer_activation": None}, TypeError, "transfer_activation must be True or False, got None"),
    (MgNetConfig, {"operator_norm": True, "state_transfer": "zero"}, ValueError, "operator_norm=True .*state_transfer='zero'"),
    (MgNetConfig, {"extractor": "bottleneck", "features": 3}, ValueError, "at least 4 of them, got"),
    (MgNetConfig, {"state_transfer": "channelwise", "features": (4, 4, 8, 8)}, ValueError, "features=.*8.* changes them"),
    (ResNetConfig, {"form": "preact"}, ValueError, "unknown form 'preact'; allowed: .*did you mean 'pre-act'"),
    (ResNetConfig, {"operator_sharing": "global"}, ValueError, "unknown operator_sharing 'global'; allowed: 'step', 'level'"),
    (ResNetConfig, {"extractor_sharing": "scaled"}, ValueError, "unknown extractor_sharing 'scaled'; allowed: 'step', 'level'"),
    (ResNetConfig, {"activation": "rellu"}, ValueError, "did you mean 'relu'"),
    (ResNetConfig, {"blocks": (2, 2)}, ValueError, "channels has 4 entries, blocks has 2"),
    (ResNetConfig, {"blocks": (2, 0, 2, 2)}, ValueError, r"blocks\[1\] must be an integer >= 1, got 0"),
    (ResNetConfig, {"num_classes": -1}, ValueError, "num_classes must be an integer >= 1, got -1"),
    (PlainConfig, {"pooling": "mean"}, ValueError, "unknown pooling 'mean'; allowed: 'max', 'average'"),
    (PlainConfig, {"kernel": 4}, ValueError, "kernel must be odd, for an output as large as its input, got 4"),
    (PlainConfig, {"kernel": 0}, ValueError, "kernel must be an integer >= 1, got 0"),
    (PlainConfig, {"channels": (4, 4)}, ValueError, "channels has 2 entries, steps has 5"),
]


@pytest.mark.parametrize(
    ("kind", "fields", "error", "text"), WRONG, ids=lambda value: str(value) if type(value) is dict else None
)
def test_a_wrong_value_is_refused(kind, fields, error, text):
    with pytest.raises(error, match=text) as raised:
        kind(**fields)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("space", ["features", "data"])
@pytest.mark.parametrize(
    ("name", "mapped"),
    [
        ("operator_sharing", ("features", "data")),
        ("extractor_sharing", ("features", "data")),
        ("restriction_sharing", ("data",)),
        ("state_transfer_sharing", ("features",)),
    ],
)
def test_what_all_levels_share_needs_the_same_channels_on_all(name, mapped, space):
    channels = {"features": 8, "data": 6, space: (4, 8, 8, 8)}
    assert MgNetConfig(features=8, data=6, **{name: "global"})
    if space in mapped:
        text = rf"{name}='global' needs as many {space} on every level, got \(4, 8, 8, 8\)"
        with pytest.raises(ValueError, match=text):
            MgNetConfig(**channels, **{name: "global"})
    else:
        assert MgNet(MgNetConfig(**channels, **{name: "global"}))(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize("model", [MgNet, ResNet, PlainNet])
def test_an_unknown_field_is_answered_with_the_nearest(model):
    with pytest.raises(TypeError, match=r"Config has no field 'num_clases'; it has .*; did you mean 'num_classes'"):
        model(num_clases=10)


def test_an_unknown_model_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnet81'; did you mean 'resnet18'.*list_models"):
        create_model("resnet81")
    with pytest.raises(ValueError, match=r"unknown model 'mgnet-0-Bl'.*mgnet-<channels>-Bl, -Bli and -shared"):
        named_model("mgnet-0-Bl")
    with pytest.raises(ValueError, match="unknown model 'mgnet-16-Bl '"):
        named_model("mgnet-16-Bl ")
    with pytest.raises(TypeError, match=r"MgNetConfig has no field 'activations'.*did you mean 'activation'"):
        create_model("mgnet-16-Bl", activations="gelu")
    with pytest.raises(TypeError, match="ResNetConfig has no field 'steps'"):
        create_model("resnet18", steps=(2, 2))


def test_an_unknown_configuration_is_refused():
    described = configuration_of(MgNet(features=4))
    with pytest.raises(ValueError, match="kind 'Transformer' cannot be rebuilt; known kinds: MgNetConfig, ResNetConfig"):
        from_configuration({**described, "kind": "Transformer"})
    with pytest.raises(ValueError, match="kind None"):
        from_configuration({})
    with pytest.raises(ValueError, match="unknown norms 'layer'"):
        from_configuration({**described, "norms": "layer"})
    with pytest.raises((TypeError, ValueError), match=r"'feature'.*did you mean 'features'"):
        from_configuration({**described, "feature": 4})
    assert described["kind"] == "MgNetConfig"  # what came in is left as it was


@pytest.mark.parametrize("model", [lambda: MgNet(features=4), lambda: ResNet(channels=4)], ids=["MgNet", "ResNet"])
def test_images_that_do_not_fit_are_refused(model):
    model = model()
    name = type(model).__name__
    for shape in ((2, 1, 32, 32), (3, 32, 32), (2, 3, 32), (2, 32, 32, 3)):
        with pytest.raises(ValueError, match="images of shape") as error:
            model(torch.zeros(shape))
        assert f"images of shape {shape}; this {name} takes (batch, 3, height, width)" in str(error.value)
        assert "in_channels=" in str(error.value)
    with pytest.raises(ValueError, match=r"images of 7 x 32 pixels; 4 levels halve them and need at least 8 x 8"):
        model(torch.zeros(2, 3, 7, 32))
    with pytest.raises(TypeError, match=r"images of torch.uint8; floating point is needed"):
        model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    for check in (model.forward_features, model.forward_intermediates):
        with pytest.raises(ValueError, match="images of shape"):
            check(torch.zeros(2, 1, 32, 32))


def test_an_unknown_kind_of_cycle_is_refused():
    with pytest.raises(ValueError, match="unknown kind of cycle 'X'; allowed: 'V', 'W', 'F'"):
        ConvCycle([], kind="X")


def test_a_start_where_the_first_step_has_no_operator_is_refused():
    cycle = MgNet(steps=(2, 1), features=4, operator_sharing="step").cycle  # A^(1,1) has no work, and no weights
    with pytest.raises(ValueError, match=r"this A has no weights, .*start the cycle with u=None"):
        cycle(torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8))


@pytest.mark.system
def test_the_cycle_needs_no_torch_and_the_learned_backend_names_it():
    program = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import unigrid, unigrid.cycle, unigrid.stencil
try:
    import unigrid.conv
except ImportError as error:
    print("torch" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_down_sweep_has_two_names_and_one_value():
    assert MgNetConfig().cycle == MgNetConfig(cycle="\\").cycle == "down"
    assert MgNetConfig(cycle="\\") == MgNetConfig(cycle="down") != MgNetConfig(cycle="V")
    stored = {**configuration_of(MgNet(features=4)), "cycle": "\\"}  # as earlier versions stored it
    assert from_configuration(stored).config == MgNetConfig(features=4)
