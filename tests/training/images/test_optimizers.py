"""Muon against its steps written out in float64; which weights it takes."""

import dataclasses

import pytest
import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.training import Protocol
from unigrid.training.images.optimizers import Together, optimizer_of

MUON = Protocol("own", 2, batch_size=10, learning_rate=0.05, optimizer="muon", weight_decay=0.02)
RATE, DECAY, STEPS = 0.1, 0.02, 4


def orthogonalized(matrix):
    """Five steps of x <- a x + b (x x^T) x + c (x x^T)^2 x from x / |x|, with the coefficients of the published code."""
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


def steps_by_hand(weight, gradients, momentum, nesterov):
    weight, velocity = weight.double(), torch.zeros_like(weight).double()
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        step = gradient + momentum * velocity if nesterov else velocity
        tall = max(1.0, weight.shape[0] / weight[0].numel()) ** 0.5
        weight = (1 - RATE * DECAY) * weight - RATE * tall * orthogonalized(step.flatten(1)).view_as(weight)
    return weight


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("shape", "momentum", "nesterov"), [((5, 3, 3, 3), 0.9, True), ((30, 2, 3, 3), 0.6, False)])
def test_muon_is_its_steps_written_out(layout, shape, momentum, nesterov):
    generator = torch.Generator().manual_seed(3)
    start, *gradients = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(1 + STEPS))
    layer = nn.Conv2d(shape[1], shape[0], 3, bias=False)
    layer.weight.data.copy_(start)
    layer = layer.to(memory_format=layout)
    protocol = dataclasses.replace(MUON, learning_rate=RATE, weight_decay=DECAY, momentum=momentum, nesterov=nesterov)
    optimizer = optimizer_of(layer, protocol)
    for gradient in gradients:
        optimizer.zero_grad()
        assert layer.weight.grad is None
        layer.weight.grad = gradient.float()
        optimizer.step()
    expected = steps_by_hand(start, gradients, momentum, nesterov)
    # It computes in bfloat16, three digits.
    assert (layer.weight - expected).norm() < 0.02 * (start - expected).norm()


def test_muon_takes_kernels_between_several_channels_and_sgd_all_other_weights():
    model = unigrid.create_model("mgnet-4-Bl", state_transfer="channelwise")
    sgd, muon = optimizer_of(model, MUON).parts
    kernels = [name for name, each in model.named_parameters() if any(each is kernel for kernel in muon.kernels)]
    convolutions = [name for name, each in model.named_parameters() if each.ndim == 4 and each.shape[1] > 1]
    assert kernels == convolutions
    left = {id(weight) for group in sgd.param_groups for weight in group["params"]}
    assert left == {id(each) for name, each in model.named_parameters() if name not in kernels}
    assert not isinstance(optimizer_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), MUON), Together)


def test_both_parts_take_the_rate_of_the_schedule_and_frozen_kernels_stay():
    config = unigrid.MgNetConfig(steps=(1, 1), features=4, num_classes=3)
    for learning_rate, least, most in ((0.05, 1e-4, 1.0), (1e-12, 0.0, 1e-9)):
        torch.manual_seed(0)
        model = config.build()
        model.theta[0].weight.requires_grad_(False)
        before = {name: each.detach().clone() for name, each in model.named_parameters()}
        result = unigrid.train(few_images(38), model, MUON, device="cpu", progress=False, learning_rate=learning_rate)
        for name, each in result.model.named_parameters():
            moved = float((each - before[name]).detach().abs().max())
            assert moved == 0 if name == "theta.0.weight" else least <= moved <= most, name
