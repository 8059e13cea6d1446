"""The dictionary between networks: independent copies that compute the same, ways back, and refusals that give the reason."""

import copy
import doctest
import importlib
import itertools
import re

import pytest
import torch
from tiers import pack
from torch import nn

from unigrid.conv import (
    ACTIVATIONS,
    Borrowed,
    ConvCycle,
    ConvLevel,
    ConvOperator,
    Extraction,
    FeatureExtraction,
    MgNet,
    PlainNet,
    ResNet,
    create_model,
)
from unigrid.conv.residual import CarriedResidual, PreActBlock, ResidualSteps
from unigrid.equivalence import (
    from_sigma_form,
    from_unet,
    pooling_as_restriction,
    share_operators,
    to_feature_form,
    to_plain_residual_form,
    to_residual_form,
    to_sigma_form,
    to_unet,
    unshare_operators,
)
from unigrid.equivalence.unet import WRITTEN_OUT, UNet

SMALL = {"steps": (2, 1, 2), "features": (4, 6, 5), "data": (6, 5, 7)}
SHARED = {"form": "pre-act", "blocks": (3, 1, 2), "channels": (4, 6, 5), "operator_sharing": "level"}
CONVERSIONS = {
    "to_residual_form": (to_residual_form, lambda: MgNet(**SMALL)),
    "to_feature_form": (to_feature_form, lambda: ResNet(**SHARED)),
    "to_sigma_form": (to_sigma_form, lambda: ResNet(blocks=(2, 2), channels=(4, 6))),
    "from_sigma_form": (from_sigma_form, lambda: ResNet(blocks=(2, 2), channels=(4, 6), form="sigma")),
    "to_plain_residual_form": (to_plain_residual_form, lambda: PlainNet(steps=(2, 2), channels=(4, 6))),
    "unshare_operators": (unshare_operators, lambda: MgNet(**SMALL)),
    "share_operators": (share_operators, lambda: unshare_operators(MgNet(**SMALL))),
    "to_unet": (to_unet, lambda: MgNet(**SMALL, cycle="V")),
    "from_unet": (from_unet, lambda: to_unet(MgNet(**SMALL, cycle="V"))),
}


def images(*size, channels=3):
    return torch.randn(2, channels, *(size or (16, 16)), dtype=torch.float64)


def assert_close(found, wanted, tolerance=1e-12):
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() / wanted.abs().max() <= tolerance


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def data_of(model):
    """Return what the cycle, or the whole network, takes."""
    return (
        images(channels=model.levels[0].smoother.blocks[0].first_norm.num_features)
        if isinstance(model, ConvCycle)
        else images()
    )


# ------------------------------------------------------------------------------------------------ what all conversions obey


@pytest.mark.parametrize("name", CONVERSIONS)
class TestEveryConversion:
    def test_it_returns_copies(self, name, randomized):
        convert, make = CONVERSIONS[name]
        network = randomized(make())
        before = copy.deepcopy(network)
        made = convert(network)
        ours = {value.untyped_storage().data_ptr() for value in network.state_dict().values()}
        assert not ours & {value.untyped_storage().data_ptr() for value in made.state_dict().values()}
        for parameter in made.parameters():
            parameter.data.add_(1)
        assert same_weights(network, before)

    def test_its_state_dict_has_every_value_once(self, name, randomized):
        convert, make = CONVERSIONS[name]
        made = convert(randomized(make()))
        storages = [value.untyped_storage().data_ptr() for value in made.state_dict().values()]
        assert len(storages) == len(set(storages))
        unique = sum(value.numel() for value in itertools.chain(made.parameters(), made.buffers()))
        assert sum(value.numel() for value in made.state_dict().values()) == unique
        assert not any(value.is_meta for value in made.state_dict().values())

    def test_gradients_reach_every_weight(self, name, randomized):
        convert, make = CONVERSIONS[name]
        made = convert(randomized(make())).train()
        if isinstance(made, ConvCycle):
            f = images(channels=4 if name == "to_feature_form" else 6)
            result = sum(value.square().sum() for value in (made.trace(f)[1][-1].residual, made(f)))
        else:
            result = made(images()).square().sum()
        result.backward()
        for parameter, value in made.named_parameters():
            assert value.grad is not None, parameter
            assert value.grad.abs().max() > 0, parameter

    @pytest.mark.parametrize("training", [True, False])
    def test_it_keeps_mode_precision_and_what_is_frozen(self, name, training, randomized):
        convert, make = CONVERSIONS[name]
        network = randomized(make()).train(training).float()
        made = convert(network)
        assert {module.training for module in made.modules()} == {training}
        assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
        assert all(parameter.requires_grad for parameter in made.parameters())
        assert not any(parameter.requires_grad for parameter in convert(network.requires_grad_(False)).parameters())

    def test_a_frozen_norm_stays_frozen(self, name, randomized):
        convert, make = CONVERSIONS[name]
        network = randomized(make()).train()
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.eval()
        assert not any(module.training for module in convert(network).modules() if isinstance(module, nn.BatchNorm2d))

    def test_it_leaves_the_generator_of_random_numbers_alone(self, name, randomized):
        convert, make = CONVERSIONS[name]
        network, state = randomized(make()), None
        state = torch.get_rng_state()
        convert(network)
        assert torch.equal(torch.get_rng_state(), state)

    def test_another_object_is_refused(self, name):
        with pytest.raises(TypeError, match=r"must be a.*got Linear"):
            CONVERSIONS[name][0](nn.Linear(1, 1))


# -------------------------------------------------------------------------------------------------- feature and data space


@pack
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"state_transfer": "zero"},
        {"state_transfer": "channelwise", "features": 5},
        {"operator_sharing": "global", "features": 5, "data": 6},
        {"extractor_sharing": "step"},
        {"extractor_sharing": "scaled"},
        {"extractor_sharing": "scaled", "operator_sharing": "global", "features": 5, "data": None},
        {"extractor_sharing": "global", "features": 5, "data": 6},
        {"extractor": "bottleneck"},
        {"norms": "level"},
        {"norms": "none"},
        {"transfer_norms": False, "transfer_activation": False},
        {"padding": "circular"},
        {"activation": "tanh"},
        {"steps": (3,), "features": 4, "data": 5},
    ],
    ids=str,
)
@torch.no_grad()
def test_mgnet_in_data_space(randomized, choices, training):
    """With the loop r <- r - A B r and f' = R r written out: the residuals of all levels, and the result, agree."""
    mgnet = randomized(MgNet(**{**SMALL, **choices})).train(training)
    f = mgnet.theta(images(13, 18))
    made = to_residual_form(mgnet)
    twin = copy.deepcopy(mgnet)
    r = f
    for level, state in zip(twin.cycle.levels, mgnet.cycle.trace(f)[1], strict=True):
        for step in level.smoother.steps:
            r = r - level.operator.convolution(step(r))
        assert_close(r, state.residual)
        assert_close(state.residual, r)
        r = r if level.restriction is None else level.restriction(r)
    assert_close(made(f), r)
    assert all(isinstance(level.operator, CarriedResidual) for level in made.levels)
    assert all(type(block) is PreActBlock for level in made.levels for block in level.smoother.blocks)
    if not training:
        for found, wanted in zip(made.trace(f)[1], mgnet.cycle.trace(f)[1], strict=True):
            assert_close(found.features, wanted.residual)


def test_pi_is_not_carried_over_and_all_else_is(randomized):
    mgnet = randomized(MgNet(**SMALL))
    count = sum(p.numel() for name, p in mgnet.cycle.named_parameters() if "state_transfer" not in name)
    made = to_residual_form(mgnet)
    assert sum(p.numel() for p in made.parameters()) == count
    assert torch.equal(made.levels[0].operator.steps[0].weight, -mgnet.cycle.levels[0].operator.convolution.weight)


@pytest.mark.parametrize(
    "choices",
    [{}, {"extractor_sharing": "scaled"}, {"operator_sharing": "global", "features": 5, "data": 6}, {"norms": "level"}],
    ids=str,
)
def test_from_feature_space_to_data_space_and_back(randomized, choices):
    mgnet = randomized(MgNet(**{**SMALL, **choices}, state_transfer="zero"))
    again = to_feature_form(to_residual_form(mgnet))
    assert same_weights(again, mgnet.cycle)
    f = images(channels=6)
    assert torch.equal(again(f), mgnet.cycle(f))


@pytest.mark.parametrize("extractor_sharing", ["level", "step"])
@pytest.mark.parametrize("blocks", [(3, 1, 2), (1, 1, 2), (2, 2, 2)], ids=str)
def test_from_data_space_to_feature_space_and_back(randomized, blocks, extractor_sharing):
    resnet = randomized(ResNet(**{**SHARED, "blocks": blocks}, extractor_sharing=extractor_sharing))
    as_mgnet = to_feature_form(resnet)
    assert sum(p.numel() for p in as_mgnet.parameters()) == sum(p.numel() for p in resnet.cycle.parameters())
    again = to_residual_form(as_mgnet)
    assert same_weights(again, resnet.cycle)
    r = images(channels=4)
    assert torch.equal(again(r), resnet.cycle(r))
    if blocks[1] > 1:
        assert again.levels[0].restriction.operator is again.levels[1].operator.steps[0]


@pytest.mark.slow
def test_both_forms_stay_one_while_they_are_trained(randomized):
    """The sign of A is turned, and so is its gradient: a step of gradient descent leaves the two as equal as before."""
    resnet = randomized(ResNet(**SHARED)).train()
    cycle = to_feature_form(resnet)
    f = images(channels=4)
    resnet.cycle(f).sin().sum().backward()
    cycle.trace(f)[1][-1].residual.sin().sum().backward()
    for network in (resnet.cycle, cycle):
        torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9).step()
    with torch.no_grad():
        assert_close(cycle.trace(f)[1][-1].residual, resnet.cycle(f), 1e-10)


def test_a_named_preact_resnet_is_an_mgnet_cycle(randomized):
    resnet = randomized(create_model("preact-resnet18-Al", channels=(4, 6, 8, 10)))
    cycle = to_feature_form(resnet)
    assert all(isinstance(level.smoother, FeatureExtraction) for level in cycle.levels)
    assert all(level.state_transfer is None for level in cycle.levels)
    x = images(32, 32)
    with torch.no_grad():
        states, wanted = cycle.trace(resnet.theta(x))[1], resnet.forward_intermediates(x)[1]
        for state, level in zip(states, wanted, strict=True):
            assert_close(state.residual, level.features)
        assert_close(resnet.forward_head(states[-1].residual), resnet(x))


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"operator": "nonlinear"}, "A of level 0 is Sequential: r - A B r is f - A (u + B r) only where A is linear"),
        ({"operator_sharing": "step"}, "level 0 has an A for each step"),
        ({"operator_norm": True}, "A' u' of level 1 has a batch norm"),
        ({"semi_iteration": "chebyshev"}, "ChebyshevExtraction: its steps use several earlier u"),
        ({"semi_iteration": "multi-step"}, "MultiStepExtraction: its steps use several earlier u"),
        ({"cycle": "V"}, "level 0 has a prolongation"),
        ({"steps": (2, 2, 1), "state_transfer": "zero"}, "level 2 has no A"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_where_mgnet_is_no_residual_network(choices, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        to_residual_form(MgNet(**{**SMALL, **choices}))


def test_a_bias_makes_a_not_linear():
    def level(bias):
        norms = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        B = Extraction(nn.Conv2d(3, 3, 3, padding=1), norms, nn.ReLU())
        return ConvLevel(ConvOperator(nn.Conv2d(3, 3, 3, padding=1, bias=bias)), FeatureExtraction([B, copy.deepcopy(B)]))

    to_residual_form(ConvCycle([level(False)]))
    with pytest.raises(ValueError, match="one convolution without a bias"):
        to_residual_form(ConvCycle([level(True)]))
    data = ConvLevel(
        CarriedResidual([nn.Conv2d(3, 3, 3, padding=1)]), to_residual_form(ConvCycle([level(False)])).levels[0].smoother
    )
    with pytest.raises(ValueError, match="is not linear"):
        to_feature_form(ConvCycle([data]))


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"form": "resnet"}, "form='resnet': a batch norm and sigma stand behind its A"),
        ({"form": "sigma"}, "form='sigma': a batch norm and sigma stand behind its A"),
        ({"operator_sharing": "step"}, "level 0 has an A for each of its 3 blocks"),
        ({"blocks": (2, 2, 1)}, "level 2, the last one, has no block"),
    ],
    ids=str,
)
def test_where_a_residual_network_is_no_mgnet(choices, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        to_feature_form(ResNet(**{**SHARED, **choices}))


def test_levels_of_another_space_are_refused():
    with pytest.raises(ValueError, match="a level in data space has CarriedResidual and ResidualSteps"):
        to_feature_form(MgNet(**SMALL).cycle)
    with pytest.raises(ValueError, match="ResidualSteps: its steps"):
        to_residual_form(ResNet(**SHARED).cycle)
    with pytest.raises(ValueError, match="blocks ResNetBlock"):
        to_feature_form(ResNet(**{**SHARED, "form": "resnet"}).cycle)
    block = PreActBlock(nn.Conv2d(3, 3, 1), (3, 3), nn.Conv2d(3, 3, 1), nn.ReLU())
    with pytest.raises(ValueError, match="blocks with a shortcut"):
        to_feature_form(ConvCycle([ConvLevel(CarriedResidual([nn.Conv2d(3, 3, 1, bias=False)]), ResidualSteps([block]))]))
    with pytest.raises(TypeError, match="must be a ConvLevel"):
        to_residual_form(ConvCycle([nn.Identity()]))


# -------------------------------------------------------------------------------------------- sigma-ResNet, plain networks


@pytest.mark.parametrize("sharing", list(itertools.product(("step", "level"), repeat=2)), ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@torch.no_grad()
def test_sigma_form_and_back(randomized, sharing, activation):
    sharings = {"operator_sharing": sharing[0], "extractor_sharing": sharing[1]}
    resnet = randomized(ResNet(blocks=(2, 3), channels=(4, 6), activation=activation, **sharings))
    sigma = to_sigma_form(resnet)
    assert sigma.config.form == "sigma"
    x = images(13, 18)
    assert_close(sigma(x), resnet(x))
    for found, wanted in zip(sigma.forward_intermediates(x)[1], resnet.forward_intermediates(x)[1], strict=True):
        assert_close(ACTIVATIONS[activation]()(found.features), wanted.features)
    again = from_sigma_form(sigma)
    assert again.config == resnet.config
    assert same_weights(again, resnet)


def test_forms_that_have_no_sigma_to_move():
    for convert in (to_sigma_form, from_sigma_form):
        with pytest.raises(ValueError, match="has no outer sigma to move"):
            convert(ResNet(**SHARED))
    with pytest.raises(ValueError, match="from_sigma_form leads back"):
        to_sigma_form(ResNet(**{**SHARED, "form": "sigma"}))
    with pytest.raises(ValueError, match="to_sigma_form leads back"):
        from_sigma_form(ResNet(**{**SHARED, "form": "resnet"}))


@pack
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "bias"])
@pytest.mark.parametrize(
    "choices",
    [
        {"pooling": "max"},
        {"pooling": "average"},
        {"kernel": 5},
        {"steps": (1, 1, 1)},
        {"channels": 5},
        {"steps": (3,), "channels": 4},
    ],
    ids=str,
)
@torch.no_grad()
def test_plain_networks_are_residual_networks(randomized, choices, norm, training):
    plain = randomized(PlainNet(**{"steps": (3, 2, 1), "channels": (4, 6, 6)} | choices | {"norm": norm})).train(training)
    made = to_plain_residual_form(plain)
    x = images(13, 18)
    wanted, found = plain(x), made(x)
    assert_close(found, wanted)
    plain.eval(), made.eval()
    for found, wanted in zip(made.forward_intermediates(x)[1], plain.forward_intermediates(x)[1], strict=True):
        assert_close(torch.relu(found.features), wanted.features)
    assert sum(p.numel() for p in made.parameters()) == sum(p.numel() for p in plain.parameters())
    assert not any(list(level.operator.parameters()) for level in made.cycle.levels)


def test_the_sign_in_xi_matters(randomized):
    """A control: with the sign of Y that the published proof has, X + Y in place of X - Y, the identity fails."""
    plain = randomized(PlainNet(steps=(2, 2), channels=(4, 6)))
    made = to_plain_residual_form(plain)

    class Sum(nn.Module):
        def forward(self, both):
            return both.chunk(2, dim=1)[0] + both.chunk(2, dim=1)[1]

    made.cycle.levels[0].operator.steps[0] = Sum()
    with torch.no_grad():
        assert (made(images()) - plain(images())).abs().max() > 1e-3


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"relu"}))
def test_xi_needs_relu(activation):
    with pytest.raises(ValueError, match=f"activation='{activation}'.*which ReLU obeys"):
        to_plain_residual_form(PlainNet(steps=(1, 1), channels=(4, 6), activation=activation))


@pytest.mark.parametrize("channels", [1, 5])
@torch.no_grad()
def test_average_pooling_is_a_convolution(channels):
    restriction, data = pooling_as_restriction(channels).double(), images(8, 12, channels=channels)
    corners = [data[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    assert_close(restriction(data), sum(corners) / 4)
    assert_close(restriction(data), nn.AvgPool2d(2)(data))
    assert not any(parameter.requires_grad for parameter in restriction.parameters())
    with pytest.raises(ValueError, match="channels must be an integer >= 1, got 0"):
        pooling_as_restriction(0)


# ------------------------------------------------------------------------------------------------------------------ sharing

MODELS = {
    "mgnet": lambda **more: MgNet(**SMALL, **more),
    "mgnet, no Pi": lambda **more: MgNet(**SMALL, state_transfer="zero", **more),
    "mgnet, V": lambda **more: MgNet(**SMALL, cycle="V", **more),
    "mgnet, nonlinear": lambda **more: MgNet(**SMALL, operator="nonlinear", **more),
    "mgnet, operator norm": lambda **more: MgNet(**SMALL, operator_norm=True, **more),
    "mgnet, Chebyshev": lambda **more: MgNet(**SMALL, semi_iteration="chebyshev", **more),
    "mgnet, multi-step": lambda **more: MgNet(**SMALL, semi_iteration="multi-step", **more),
    "resnet": lambda **more: ResNet(**{**SHARED, "form": "resnet", "extractor_sharing": "level"}, **more),
    "pre-act": lambda **more: ResNet(**SHARED, **more),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_unshared_and_shared_again(randomized, name):
    model = randomized(MODELS[name]())
    unshared = unshare_operators(model)
    assert unshared.config.operator_sharing == "step"
    x = images(13, 18)
    assert_close(unshared(x), model(x))
    again = share_operators(unshared)
    assert again.config == model.config
    assert same_weights(again, model)


@pytest.mark.parametrize("to", ["level", "step"])
@pytest.mark.parametrize("choices", [{}, {"operator": "nonlinear", "operator_norm": True}, {"state_transfer": "zero"}], ids=str)
@torch.no_grad()
def test_one_a_for_all_levels(randomized, to, choices):
    model = randomized(MgNet(steps=(2, 1, 2), features=5, data=6, operator_sharing="global", **choices))
    unshared = unshare_operators(model, to=to)
    x = images()
    assert_close(unshared(x), model(x))
    assert same_weights(share_operators(unshared, to="global"), model)


def test_the_copies_may_then_move_apart(randomized):
    model = randomized(MgNet(**SMALL))
    steps = unshare_operators(model).cycle.levels[0].operator.steps
    assert type(steps[0]).__name__ == "UnusedOperator"  # at u = 0 nothing is explained, so there is nothing to train
    assert steps[1].convolution.weight.data_ptr() != model.cycle.levels[0].operator.convolution.weight.data_ptr()


def test_different_operators_cannot_be_shared(randomized):
    unshared = unshare_operators(randomized(ResNet(**SHARED)))
    weight = unshared.cycle.levels[0].operator.steps[2].weight
    with torch.no_grad():
        weight.view(-1)[weight.abs().argmax()] *= 1.5
    with pytest.raises(ValueError, match=r"A of level 0, step 0 and of level 0, step 2 differ by 0\.5 of"):
        share_operators(unshared)
    unshared = unshare_operators(randomized(ResNet(**SHARED)))
    with torch.no_grad():
        unshared.cycle.levels[1].restriction.operator.weight.neg_()
    with pytest.raises(
        ValueError,
        match="A of the restriction into level 2 and of level 2, step 0 differ by 2 of",
    ):
        share_operators(unshared)
    with pytest.raises(ValueError, match="differ by"):
        share_operators(randomized(MgNet(steps=(2, 2), features=5)), to="global")


def test_sharing_leads_one_way():
    with pytest.raises(ValueError, match="operator_sharing='step'; to='step' leads to no more of them"):
        unshare_operators(MgNet(steps=(2,), features=4, operator_sharing="step"))
    with pytest.raises(ValueError, match="operator_sharing='level'; to='step' leads to no fewer of them"):
        share_operators(MgNet(steps=(2,), features=4), to="step")
    with pytest.raises(ValueError, match=r"unknown operator_sharing 'stop'.*did you mean 'step'"):
        unshare_operators(MgNet(steps=(2,), features=4), to="stop")
    with pytest.raises(ValueError, match="allowed: 'step', 'level'"):
        share_operators(ResNet(**SHARED), to="global")


# -------------------------------------------------------------------------------------------------------------------- U-Net


@pack
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"state_transfer": "zero"},
        {"extractor_sharing": "step"},
        {"transfer_norms": False, "transfer_activation": False},
        {"activation": "gelu", "in_channels": 1, "num_classes": 4},
        {"steps": (1, 1, 1), "state_transfer": "zero"},
        {"steps": (2,), "features": 4, "data": 5},
        {"steps": (1,), "features": 4, "data": 5},
    ],
    ids=str,
)
@torch.no_grad()
def test_unet_and_back(randomized, choices, training):
    mgnet = randomized(MgNet(**{**SMALL, **choices}, cycle="V")).train(training)
    unet = to_unet(mgnet)
    assert same_weights(from_unet(unet), mgnet)
    x = images(13, 18, channels=mgnet.config.in_channels)
    assert_close(unet(x), mgnet(x))
    assert same_weights(from_unet(unet), mgnet)  # running statistics moved alike
    assert sum(p.numel() for p in unet.parameters()) == sum(p.numel() for p in mgnet.parameters())


def test_the_unet_runs_without_the_cycle(randomized, monkeypatch):
    from unigrid.cycle import MultigridCycle

    unet = to_unet(randomized(MgNet(**SMALL, cycle="V")))
    monkeypatch.setattr(MultigridCycle, "cycle", None)
    assert unet(images()).shape == (2, 10)
    assert not any(isinstance(module, (ConvCycle, ConvLevel)) for module in unet.modules())


OTHERS = {
    "cycle": "down", "operator": "nonlinear", "operator_sharing": "step", "extractor": "bottleneck",
    "extractor_sharing": "scaled", "restriction_sharing": "global", "state_transfer": "channelwise",
    "state_transfer_sharing": "global", "operator_norm": True, "norms": "none", "semi_iteration": "chebyshev",
    "padding": "circular",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_what_the_unet_does_not_have(name):
    value = OTHERS[name]
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r} is not written out as a U-Net; {name}=")):
        to_unet(MgNet(**{"steps": (2, 2), "features": 4, "cycle": "V", name: value}))


def test_every_weight_of_a_unet_has_a_name_in_mgnet():
    from unigrid.equivalence.unet import name_in_mgnet

    config = MgNet(**SMALL, cycle="V").config
    names = [name_in_mgnet(name) for name in UNet(config).state_dict()]
    assert sorted(names) == sorted(MgNet(config).state_dict())
    with pytest.raises(KeyError, match="no word for 'bottle'"):
        name_in_mgnet("bottle")


# ----------------------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize(
    "name", ["data_space", "sigma", "plain", "sharing", "unet", "claims.claim", "claims.report", "rewriting"]
)
def test_examples_run(name):
    module = importlib.import_module(f"unigrid.equivalence.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0 or name in ("claims.claim", "rewriting")


def test_borrowed_parts_stay_borrowed(randomized):
    """One A for all levels: the first level owns it, in both spaces."""
    made = to_residual_form(randomized(MgNet(steps=(2, 2), features=5, operator_sharing="global")))
    owner, borrower = (level.operator.steps[0] for level in made.levels)
    assert borrower.convolution is owner
    assert not list(borrower.parameters())
    again = to_feature_form(made)
    assert again.levels[1].operator.convolution is again.levels[0].operator.convolution
    assert isinstance(Borrowed(owner).module, nn.Conv2d)
