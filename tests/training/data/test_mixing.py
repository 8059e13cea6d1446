"""Mixup and cutmix against their formulas, one image at a time."""

import numpy as np
import pytest
import torch
from tiers import pack

from unigrid.training.data.mixing import Mixing, MixingPlan

CPU = torch.device("cpu")
COUNT = 400


def plan(mixup, cutmix, size=(8, 12), seed=3, epoch=2, count=COUNT):
    return Mixing(mixup, cutmix).plan(count, size, seed, epoch, CPU)


def one_by_one(images, chosen, made):
    """The definitions, in NumPy."""
    images, (shares, pasted, boxes) = images.numpy(), (part.numpy() for part in made)
    mixed = []
    for place, index in enumerate(chosen.tolist()):
        image, other = images[place].copy(), images[place - 1]
        if pasted[index]:
            (top, left), (bottom, right) = boxes[index]
            image[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        else:
            image = shares[index] * image + (1 - shares[index]) * other
        mixed.append(image)
    return np.stack(mixed)


@pack
@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0), (0, 1), (0.2, 1), (3, 0.5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_are_mixed_as_defined(batch, channels, mixup, cutmix, dtype, rng):
    made, chosen = plan(mixup, cutmix), torch.from_numpy(rng.permutation(COUNT)[:batch])
    images = torch.from_numpy(rng.standard_normal((batch, channels, 8, 12))).to(dtype)
    before = images.clone()
    mixed, shares = made.mix(images, chosen)
    np.testing.assert_allclose(mixed.numpy(), one_by_one(images, chosen, made), rtol=0, atol=1e-6)
    assert torch.equal(shares, made.shares[chosen])
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [(8, 12), (5, 5), (1, 9)])
def test_the_share_of_cutmix_is_the_area_that_is_left(size):
    made = plan(0, 1, size)
    areas = (made.boxes[:, 1] - made.boxes[:, 0]).prod(1)
    np.testing.assert_allclose(made.shares, 1 - areas / np.prod(size), rtol=0, atol=1e-6)
    assert (made.boxes >= 0).all()
    assert (made.boxes <= torch.tensor(size)).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    shares = plan(alpha, 0, count=20_000).shares.double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_with_both_each_image_takes_one():
    pasted = plan(1, 1, count=10_000).pasted
    assert float(pasted.double().mean()) == pytest.approx(0.5, abs=0.02)
    assert plan(1, 0).pasted.any() == plan(0, 0.3).pasted.logical_not().any() == torch.tensor(False)


def test_a_plan_depends_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    made = plan(0.2, 1)
    torch.manual_seed(2)
    np.random.seed(2)
    before = torch.get_rng_state()
    assert all(map(torch.equal, made, plan(0.2, 1)))
    assert torch.equal(torch.get_rng_state(), before)
    for other in (plan(0.2, 1, seed=4), plan(0.2, 1, epoch=1), plan(0.2, 1, seed=2**62)):
        assert not torch.equal(made.shares, other.shares)


def test_without_either_nothing_is_drawn():
    assert plan(0, 0) is None


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), 1e300, True, "0.2", None])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_what_is_no_alpha_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be a number from 0 to 1e\+06, the alpha of Beta\(alpha, alpha\), got"):
        Mixing(**{name: value})


def test_an_image_that_keeps_all_of_itself_keeps_its_bits():
    images = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    made = MixingPlan(torch.ones(3), torch.zeros(3, dtype=torch.bool), torch.zeros(3, 2, 2, dtype=torch.int64))
    assert torch.equal(made.mix(images, torch.arange(3))[0], images)
