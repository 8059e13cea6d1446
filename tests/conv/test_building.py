"""Composition of cycles, and the errors for parts that do not fit."""

import numpy as np
import pytest
import torch
from torch import nn

from unigrid.conv import (
    Borrowed,
    Bottleneck,
    ConvCycle,
    ConvLevel,
    ConvOperator,
    Extraction,
    FeatureExtraction,
    MgNet,
    MgNetConfig,
    PlainNet,
    ResNet,
    create_model,
)
from unigrid.training.images.beginning import initialize


def smoother(channels=4):
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return FeatureExtraction([Extraction(convolution, (nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)), nn.ReLU())])


def test_a_bare_convolution_is_no_operator():
    with pytest.raises(TypeError, match=r"operator must be a unigrid\.Operator, got Conv2d"):
        ConvLevel(nn.Conv2d(4, 4, 3, padding=1), smoother())


@pytest.mark.parametrize("slot", ["restriction", "state_transfer", "prolongation", "post_smoother"])
def test_a_module_that_does_not_fill_its_slot_is_refused(slot):
    with pytest.raises(TypeError, match=f"{slot} must be a unigrid"):
        ConvLevel(ConvOperator(nn.Conv2d(4, 4, 3, padding=1)), smoother(), **{slot: nn.MaxPool2d(2)})


def test_a_cycle_without_levels_is_refused():
    with pytest.raises(ValueError, match="at least one level"):
        ConvCycle([])


@pytest.mark.parametrize("kind", ["W", "F"])
def test_visiting_twice_needs_a_way_back(kind):
    levels = list(MgNet(features=4).cycle.levels)
    with pytest.raises(ValueError, match=rf"kind '{kind}' .* needs a prolongation"):
        ConvCycle(levels, kind)
    assert ConvCycle(list(MgNet(features=4, cycle="V").cycle.levels), kind).visits() != [1, 1, 1, 1]


def test_counts_of_numpy_are_counts():
    config = MgNetConfig(features=4, num_classes=np.int64(7), in_channels=np.int32(1))
    assert (type(config.num_classes), config.num_classes, config.in_channels) == (int, 7, 1)


@pytest.mark.parametrize("make", [lambda: ResNet(blocks=(1, 1), channels=4), lambda: PlainNet(steps=(1, 1), channels=4)])
def test_the_operator_of_a_level_that_carries_its_residual_is_asked_for_nothing(make):
    with pytest.raises(ValueError, match="the state of this level is its residual"):
        make().cycle.levels[0].operator(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("kind", ["pytorch", "kaiming"])
@pytest.mark.parametrize(
    "choices", [{}, {"state_transfer": "channelwise"}, {"cycle": "V"}, {"extractor": "bottleneck"}], ids=str
)
def test_initialization_reaches_every_kernel(kind, choices):
    model = MgNet(features=8, **choices)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 5.0)
    initialize(model, kind)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            assert parameter.std() > 0, name
        if kind == "kaiming" and name.endswith("state_transfer.convolution.convolution.weight"):
            assert parameter.abs().max() > 1 / 3, "PyTorch's own rule ends there; nine numbers seldom all stay below"


def test_kaiming_gives_the_single_kernel_of_pi_the_deviation_of_its_rule():
    torch.manual_seed(0)
    drawn = []
    for _ in range(100):
        model = MgNet(steps=(1, 1), features=2, state_transfer="channelwise")
        initialize(model, "kaiming")
        drawn.append(model.cycle.levels[0].state_transfer.convolution.convolution.weight.detach())
    assert torch.stack(drawn).std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


def test_a_bottleneck_has_batch_norms_of_its_own_in_every_step_whatever_it_shares():
    steps = MgNet(features=8, extractor="bottleneck").cycle.levels[0].smoother.steps
    first, second = (step.convolution for step in steps)
    assert type(first) is type(second) is Bottleneck
    assert first.between is second.between
    assert first.first_norm is not second.first_norm
    assert first.second_norm is not second.second_norm
    shared = MgNet(features=8, extractor="bottleneck", norms="level").cycle.levels[0].smoother.steps
    assert shared[0].convolution.first_norm is shared[1].convolution.first_norm


def test_what_is_borrowed_is_not_stored_twice():
    convolution = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    owner, borrower = ConvOperator(convolution), ConvOperator(Borrowed(convolution))
    assert list(nn.ModuleList([owner, borrower]).state_dict()) == ["0.convolution.weight"]
    assert borrower.convolution is convolution


def test_states_of_levels_are_of_their_time():
    """The residual is that of the weights, and of the precision, with which the level was passed."""
    model = create_model("mgnet-4-Bl").eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        kept = model.forward_intermediates(images)[1][1].residual
        expected = kept.clone()
        model.cycle.levels[1].operator.convolution.weight.mul_(2)
        assert torch.equal(kept, expected)
        with torch.autocast("cpu", torch.bfloat16):
            _, states = model.forward_intermediates(images)
    assert all(bool(state.residual.isfinite().all()) for state in states)


def written_out(model, images, sigma):
    """ResNet of one level and one block, from its equation."""

    def norm(module, x):
        return (x - module.running_mean.view(1, -1, 1, 1)) / (module.running_var.view(1, -1, 1, 1) + module.eps).sqrt()

    level = model.cycle.levels[0]
    block, A = level.smoother.blocks[0], level.operator.steps[0]
    r = sigma(norm(model.theta[1], model.theta[0](images)))
    r = sigma(r + norm(block.second_norm, A(sigma(norm(block.first_norm, block.extractor(r))))))
    return r.mean((2, 3)) @ model.head.weight.T + model.head.bias


@pytest.mark.parametrize(("name", "sigma"), [("tanh", torch.tanh), ("elu", nn.functional.elu), ("relu", torch.relu)])
def test_residual_networks_take_any_activation(name, sigma):
    model = ResNet(blocks=(1,), channels=4, activation=name).double().eval()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(model(images), written_out(model, images, sigma), rtol=1e-12, atol=1e-13)
