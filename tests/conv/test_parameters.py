"""How many numbers the models hold: the published counts, typed from the sources, and each number stored once."""

import itertools

import pytest
import torch
from tiers import pack

from unigrid.conv import MgNet, MgNetConfig, ResNetConfig, create_model, list_models, named_model
from unigrid.conv.mgnet import CHOICES

TABLE = {  # channels: CIFAR-10 B^l, CIFAR-10 B^(l,i), CIFAR-100 B^l, CIFAR-100 B^(l,i)
    64: (521_418, 668_874, 527_268, 674_724),
    128: (2_075_018, 2_664_842, 2_086_628, 2_676_452),
    256: (8_278_794, 10_638_090, 8_301_924, 10_661_220),
    512: (33_072_650, 42_509_834, 33_118_820, 42_556_004),
}
COLUMNS = list(itertools.product((10, 100), ("Bl", "Bli")))

PRINTED = {  # as the papers print them, in millions; the number of decimals is the papers'
    ("mgnet-paper-256-pi0", 10): "7.1",
    ("mgnet-paper-256-pi1", 10): "8.9",
    ("mgnet-paper-256-512-pi1", 10): "19.5",
    ("mgnet-256-Bl", 10): "8.28",
    ("mgnet-256-Bl", 100): "8.30",
    ("mgnet-256-Bli", 100): "10.66",
    ("mgnet-512-Bl", 100): "33.1",
    ("mgnet-256-shared", 100): "2.40",
    ("mgnet-128-shared", 100): "0.61",
    ("resnet18", 10): "11.2",
    ("resnet34", 10): "21.3",
    ("preact-resnet18", 10): "11.2",
    ("resnet18", 100): "11",
    ("resnet18-Al", 100): "8.1",
    ("resnet18-AlBl", 100): "6.7",
    ("resnet34", 100): "21",
    ("resnet34-Al", 100): "13",
}

# By hand: 3x3 convolutions, batch norms (2c), 1x1 shortcuts, head; He et al. 2015 with a 3x3 stem, as usual on CIFAR.
RESNET18 = 27 * 64 + 128
RESNET18 += 4 * 9 * 64**2 + 4 * 128
for _narrow, _wide in ((64, 128), (128, 256), (256, 512)):
    RESNET18 += 9 * _narrow * _wide + 3 * 9 * _wide**2 + 4 * 2 * _wide + _narrow * _wide + 2 * _wide
RESNET18 += 10 * 513


def meta(make):
    with torch.device("meta"):
        return make()


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def assert_every_number_is_stored_once(model):
    stored = model.state_dict()
    named = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    assert set(stored) == set(named)
    assert len({id(tensor) for tensor in named.values()}) == len(named)
    unique = sum(t.numel() for t in model.parameters()) + sum(t.numel() for t in model.buffers())
    assert sum(value.numel() for value in stored.values()) == unique


@pack
@pytest.mark.parametrize("channels", TABLE)
@pytest.mark.parametrize("column", range(4), ids=lambda at: "{}-{}".format(*COLUMNS[at]))
def test_every_entry_of_the_table(channels, column):
    classes, sharing = COLUMNS[column]
    model = meta(lambda: create_model(f"mgnet-{channels}-{sharing}", num_classes=classes))
    assert parameters(model) == TABLE[channels][column]
    assert_every_number_is_stored_once(model)


@pytest.mark.parametrize("steps", [(1,), (2, 2), (3, 1, 2), (2, 2, 2, 2), (8, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("sharing", ["level", "step"])
def test_the_formula_of_the_table(steps, sharing):
    c, k, levels, total = 12, 7, len(steps), sum(steps)
    extractors = levels if sharing == "level" else total
    wanted = 27 * c + 9 * c**2 * (levels + extractors + 2 * (levels - 1)) + 2 * c * (1 + 2 * total + 2 * (levels - 1))
    wanted += k * (c + 1)
    if steps == (1,):
        wanted -= 9 * c**2  # one step from u = 0: no A is ever applied, and none is kept
    model = MgNet(steps=steps, features=c, extractor_sharing=sharing, num_classes=k)
    assert parameters(model) == wanted


@pack
@pytest.mark.parametrize(("name", "classes"), PRINTED)
def test_the_counts_that_the_papers_print(name, classes):
    printed = PRINTED[name, classes]
    decimals = len(printed.partition(".")[2])
    assert f"{parameters(meta(lambda: create_model(name, num_classes=classes))) / 1e6:.{decimals}f}" == printed


def test_the_mnist_model():
    assert named_model("mgnet-mnist-64").parameters == 557_514
    assert parameters(create_model("mgnet-mnist-64")) == 557_514
    assert create_model("mgnet-mnist-64").theta[0].weight.shape == (64, 1, 3, 3)


def test_resnet_18_and_34_to_the_last_number():
    assert named_model("resnet18").parameters == RESNET18 == 11_173_962
    block = 18 * 64**2 + 4 * 64, 18 * 128**2 + 4 * 128, 18 * 256**2 + 4 * 256, 18 * 512**2 + 4 * 512
    assert named_model("resnet34").parameters == RESNET18 + block[0] + 2 * block[1] + 4 * block[2] + block[3] == 21_282_122


@pytest.mark.parametrize("form", ["resnet", "sigma", "pre-act"])
def test_what_sharing_a_and_b_saves_in_a_residual_network(form):
    """[3, 3]: sharing keeps one of three A, one of two B and a 1x1 convolution instead of the third, which pools, a level."""
    counts = {
        (A, B): parameters(ResNetConfig((3, 3), (8, 12), form, operator_sharing=A, extractor_sharing=B).build())
        for A, B in itertools.product(("step", "level"), repeat=2)
    }
    fine, coarse = 9 * 8**2, 9 * 12**2
    saved_A = 2 * fine + 2 * coarse
    saved_B = 2 * fine + coarse + 9 * 8 * 12 - 8 * 12
    assert counts["step", "step"] - counts["level", "step"] == saved_A
    assert counts["step", "step"] - counts["step", "level"] == saved_B
    assert counts["step", "step"] - counts["level", "level"] == saved_A + saved_B


def test_the_parameters_of_a_named_model_are_those_of_the_built_one():
    assert named_model("mgnet-16-Bl").parameters == parameters(create_model("mgnet-16-Bl"))


SHARING = ("operator_sharing", "extractor_sharing")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [("restriction_sharing", "state_transfer_sharing", "state_transfer"), ("norms", "semi_iteration", "cycle")],
    ids=["transfers", "steps"],
)
def test_numbers_are_stored_once_in_every_sharing_mode(more):
    fields = (*SHARING, *more)
    for values in itertools.product(*(CHOICES[name] for name in fields)):
        choices = dict(zip(fields, values, strict=True))
        assert_every_number_is_stored_once(meta(lambda choices=choices: MgNet(steps=(2, 1, 2), features=2, **choices)))


@pack
@pytest.mark.parametrize("name", list_models())
def test_numbers_are_stored_once_in_every_named_model(name):
    assert_every_number_is_stored_once(meta(lambda: create_model(name)))


@pack
@pytest.mark.parametrize("sharing", ["level", "global", "step"])
@pytest.mark.parametrize("state_transfer", ["convolution", "zero"])
@pytest.mark.parametrize("cycle", ["\\", "V"])
def test_an_operator_that_only_sees_zero_features_is_not_there(sharing, state_transfer, cycle):
    """On the first level features begin at 0, as they do on every level where Pi = 0; there A of the first step has no work."""
    steps = (2, 1, 3)
    model = MgNet(MgNetConfig(steps, 4, operator_sharing=sharing, state_transfer=state_transfer, cycle=cycle))
    found = sum(name.endswith("convolution.weight") and ".operator." in name for name, _ in model.named_parameters())
    if sharing == "step":
        wanted = {("convolution", "\\"): 5, ("zero", "\\"): 4, ("convolution", "V"): 6, ("zero", "V"): 5}
        # [2, 1, 3]: A^(1,1) is missing; where Pi = 0, A^(3,1) too, while A^(2,1) still makes f - A u to be restricted.
        assert found == wanted[state_transfer, cycle]
    else:
        assert found == (3 if sharing == "level" else 1)


def test_without_any_use_no_operator_is_kept():
    model = MgNet(steps=(1,), features=4)
    assert not any(".operator." in name for name in model.state_dict())
    assert not any("levels.1.operator" in name for name in MgNet(steps=(1, 1), features=4, state_transfer="zero").state_dict())
