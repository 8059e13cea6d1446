"""First weights: a first layer that whitens, kernels that begin as identities; images that grow."""

import re

import pytest
import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.training import Protocol
from unigrid.training.images.beginning import LEAST_VARIANCE, initialize, whiten

PLAIN = Protocol("plain", 2, batch_size=10, learning_rate=0.05)
SMALL = unigrid.MgNetConfig(steps=(1, 1), features=8)


def train(model=SMALL, **choices):
    return unigrid.train(few_images(38), model, PLAIN, device="cpu", progress=False, **choices)


def test_a_whitened_layer_answers_with_uncorrelated_values_of_both_signs():
    data = few_images(38)
    layer = nn.Conv2d(3, 60, 3, bias=False)
    own = layer.weight.detach().clone()
    whiten(layer, data.train.images, data.mean, data.std)
    values = layer((data.train.images.float() / 255 - 0.4) / 0.25).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(values[1:54:2], -values[0:54:2])
    variances = torch.cov(values[0:54:2])
    patches = nn.functional.unfold((data.train.images.float() / 255 - 0.4) / 0.25, 3).transpose(0, 1).flatten(1).double()
    of_patches = torch.linalg.svdvals(torch.cov(patches))
    expected = torch.diag(of_patches / (of_patches + LEAST_VARIANCE))
    torch.testing.assert_close(variances, expected, rtol=0, atol=1e-4)
    assert torch.equal(layer.weight[54:], own[54:])
    few = nn.Conv2d(3, 5, 3)
    whiten(few, data.train.images, data.mean, data.std)
    torch.testing.assert_close(few.weight, layer.weight[:5])


def test_whitening_is_what_a_run_begins_with_but_never_replaces_weights_that_are_given():
    data = few_images(38)
    begun = train(whitening=True, learning_rate=1e-12).model.theta[0]
    expected = nn.Conv2d(3, 8, 3)
    whiten(expected, data.train.images, data.mean, data.std)
    torch.testing.assert_close(begun.weight, expected.weight)
    given = unigrid.MgNet(SMALL, num_classes=3)
    before = given.theta[0].weight.detach().clone()
    kept = train(given, whitening=True, learning_rate=1e-12)
    torch.testing.assert_close(kept.model.theta[0].weight, before)
    assert not kept.configuration["protocol"]["whitening"]


def test_kernels_that_begin_as_identities_pass_their_inputs_on():
    model = unigrid.MgNetConfig(steps=(2, 2), features=(8, 12)).build()
    theta = model.theta[0].weight.detach().clone()
    initialize(model, "identity")
    images = torch.randn(2, 8, 6, 6)
    fine, coarse = model.cycle.levels
    assert torch.equal(fine.operator.convolution(images), images)
    assert torch.equal(fine.restriction.convolution(images)[:, :8], images[:, :, ::2, ::2])
    assert fine.restriction.convolution(images)[:, 8:].abs().min() > 0
    assert torch.equal(coarse.operator.convolution(torch.ones(1, 12, 3, 3)), torch.ones(1, 12, 3, 3))
    assert torch.equal(model.theta[0].weight, theta)


@pytest.mark.parametrize(
    ("first", "epochs", "size", "expected"),
    [
        (16, 9, (32, 32), [16, 20, 20, 24, 28, 28, 32, 32, 32]),  # 16 + 16 epoch / 6, to the nearest multiple of 4
        (0, 3, (32, 32), [32, 32, 32]),
        (32, 3, (32, 32), [32, 32, 32]),
        (6, 5, (8, 8), [8, 8, 8, 8, 8]),
        (16, 1, (32, 32), [32]),
    ],
)
def test_images_grow_over_three_quarters_of_the_epochs(first, epochs, size, expected):
    protocol = Protocol("own", epochs, first_size=first)
    assert [protocol.size_in_epoch(epoch, size)[0] for epoch in range(epochs)] == expected
    assert protocol.size_in_epoch(0, (size[0], 2 * size[1])) == (expected[0], 2 * expected[0])


class Sizes(nn.Module):
    """A network that notes the sizes of its images."""

    def __init__(self):
        super().__init__()
        self.head, self.seen = nn.Linear(3, 3), []

    def forward(self, images):
        self.seen.append((self.training, images.shape[-1], float(images.detach().mean())))
        return self.head(images.mean((2, 3)))


def test_small_images_are_the_same_ones_made_smaller():
    small, whole = Sizes(), Sizes()
    train(small, first_size=4, epochs=3)
    train(whole, epochs=3)
    assert [size for training, size, _ in small.seen if training] == [4] * 4 + [8] * 8
    assert {size for training, size, _ in small.seen if not training} == {8}
    for (_, size, mean), (_, _, expected) in zip(small.seen, whole.seen, strict=True):
        assert mean == pytest.approx(expected, abs=0.02 if size == 4 else 1e-6)


@pytest.mark.parametrize(
    ("model", "choices", "text"),
    [
        (SMALL, {"first_size": 9}, "first_size=9 is larger than the images, 8 x 8 pixels"),
        (SMALL, {"first_size": -1}, "first_size must be an integer >= 0, got -1"),
        (SMALL, {"first_size": 2.5}, "first_size must be an integer >= 0, got 2.5"),
        (SMALL, {"whitening": 1}, "whitening must be True or False, got 1"),
        (SMALL, {"initialization": "identitty"}, "did you mean 'identity'?"),
        (SMALL, {"optimizer": "myon"}, "did you mean 'muon'?"),
    ],
)
def test_what_does_not_fit_is_refused(model, choices, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        train(model, **choices)


@pytest.mark.parametrize("model", [nn.Linear(4, 3), nn.Conv2d(1, 3, 3)])
def test_only_a_first_convolution_can_whiten(model):
    with pytest.raises(ValueError, match=r"whitening=True sets the first convolution, but \w+ has none for 3 channels"):
        whiten(model, few_images(38).train.images, (0.4,) * 3, (0.25,) * 3)
