"""Augmentation against a loop over single images, bit for bit; what an epoch draws; what depends on nothing."""

import numpy as np
import pytest
import torch

from unigrid.training.data.augmentation import Augmentation, EpochPlan, Pipeline

MEAN, STD = (0.4914, 0.4822, 0.4465, 0.5), (0.2023, 0.1994, 0.2010, 0.25)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(count, channels=3, height=32, width=32):
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=seeded(99))


def pipeline(images, augmentation=None, **keywords):
    channels = images.shape[1]
    return Pipeline(images, MEAN[:channels], STD[:channels], augmentation, **keywords)


def one_by_one(image, number, plan, augmentation):
    """Return what becomes of one image, (channels, height, width) in float32, from the definitions."""
    channels, height, width = image.shape
    pad, side = augmentation.pad, augmentation.cutout
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    top, left = plan.offsets[number].tolist()
    picture = padded[:, top : top + height, left : left + width]
    if plan.flips[number]:
        picture = np.stack([np.fliplr(plane) for plane in picture])
    out = np.empty(picture.shape, np.float32)
    for channel in range(channels):
        scale, shift = np.float32(1 / (255 * STD[channel])), np.float32(-MEAN[channel] / STD[channel])
        out[channel] = picture[channel].astype(np.float32) * scale + shift
    row, column = plan.centers[number].tolist()
    if side:
        rows = slice(max(row - side // 2, 0), max(row - side // 2 + side, 0))
        out[:, rows, max(column - side // 2, 0) : max(column - side // 2 + side, 0)] = 0
    return out


CASES = [
    Augmentation(),
    Augmentation(pad=4, flip=True),
    Augmentation(2, True, 8),
    Augmentation(0, False, 5),
    Augmentation(1, True, 1),
]


@pytest.mark.parametrize("augmentation", CASES, ids=str)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 7, 12)], ids=str)
def test_batches_equal_a_loop_over_images_bit_by_bit(augmentation, shape):
    images = random_images(60, *shape)
    pipe = pipeline(images, augmentation)
    plan = pipe.plan(seeded(1))
    batch = pipe.batch(plan.order[:40], plan)
    assert batch.shape == (40, *shape)
    assert batch.dtype == torch.float32
    for number, picture in zip(plan.order[:40].tolist(), batch, strict=True):
        assert np.array_equal(picture.numpy(), one_by_one(images[number].numpy(), number, plan, augmentation))


def test_the_scale_is_that_of_torchvision():
    images = random_images(5)
    mean, std = (torch.tensor(values[:3], dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    expected = (images.double() / 255 - mean) / std
    exact = pipeline(images, dtype=torch.float64).plain(0, 5)
    assert exact.dtype == torch.float64
    assert torch.allclose(exact, expected, rtol=0, atol=1e-14)
    assert torch.allclose(pipeline(images).plain(0, 5).double(), expected, rtol=0, atol=1e-6)


def test_bfloat16_is_rounded_once():
    images, augmentation = random_images(20), Augmentation(4, True, 8)
    plan = EpochPlan.draw(20, (32, 32), augmentation, seeded())
    short = pipeline(images, augmentation, dtype=torch.bfloat16).batch(plan.order, plan)
    assert short.dtype == torch.bfloat16
    assert torch.equal(short, pipeline(images, augmentation).batch(plan.order, plan).to(torch.bfloat16))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_is_as_asked(memory_format):
    images = random_images(6)
    pipe = pipeline(images, Augmentation(2, True, 4), memory_format=memory_format)
    plan = pipe.plan(seeded())
    other = pipeline(images, Augmentation(2, True, 4))
    for batch, expected in (
        (pipe.batch(plan.order, plan), other.batch(plan.order, plan)),
        (pipe.plain(1, 5), other.plain(1, 5)),
    ):
        assert batch.is_contiguous(memory_format=memory_format)
        assert torch.equal(batch, expected)


def test_what_happens_to_an_image_depends_neither_on_the_batch_nor_on_the_order():
    pipe = pipeline(random_images(50), Augmentation(4, True, 8))
    plan = pipe.plan(seeded(3))
    whole = pipe.batch(torch.arange(50), plan)
    assert torch.equal(torch.cat([pipe.batch(part, plan) for part in torch.arange(50).split(7)]), whole)
    shuffled = torch.randperm(50, generator=seeded(4))
    assert torch.equal(pipe.batch(shuffled, plan), whole[shuffled])
    assert torch.equal(pipe.batch(torch.tensor([17]), plan), whole[17:18])


def test_one_seed_is_one_epoch_and_another_is_another():
    images, augmentation = random_images(50), Augmentation(4, True, 8)
    plans = [EpochPlan.draw(50, (32, 32), augmentation, seeded(seed)) for seed in (5, 5, 6)]
    batches = [pipeline(images, augmentation).batch(plan.order, plan) for plan in plans]
    assert torch.equal(batches[0], batches[1])
    for part in ("order", "offsets", "flips", "centers"):
        assert torch.equal(getattr(plans[0], part), getattr(plans[1], part))
        assert not torch.equal(getattr(plans[0], part), getattr(plans[2], part))


def test_two_epochs_of_one_generator_differ():
    generator, pipe = seeded(), pipeline(random_images(50), Augmentation(4, True))
    assert not torch.equal(pipe.plan(generator).order, pipe.plan(generator).order)


def test_an_epoch_visits_every_image_once_in_no_order():
    plan = EpochPlan.draw(1000, (32, 32), Augmentation(), seeded())
    assert torch.equal(plan.order.sort().values, torch.arange(1000))
    assert (plan.order - torch.arange(1000)).abs().float().mean() > 250  # 333 for a uniform order, 0 for none


def test_offsets_flips_and_centers_are_uniform():
    count = 81 * 500
    plan = EpochPlan.draw(count, (32, 28), Augmentation(4, True, 8), seeded(7))
    places = (plan.offsets[:, 0] * 9 + plan.offsets[:, 1]).bincount(minlength=81)
    assert len(places) == 81
    assert (places - 500).abs().max() < 5 * 500**0.5  # five standard deviations
    assert abs(plan.flips.float().mean() - 0.5) < 5 * 0.5 / count**0.5
    for axis, extent in enumerate((32, 28)):
        times = plan.centers[:, axis].bincount()
        assert len(times) == extent
        assert (times - count / extent).abs().max() < 5 * (count / extent) ** 0.5
    both = torch.stack([plan.offsets[:, 0], plan.offsets[:, 1], plan.flips.long(), plan.centers[:, 0], plan.centers[:, 1]])
    others = torch.corrcoef(both.double()) - torch.eye(5, dtype=torch.float64)
    assert others.abs().max() < 5 / count**0.5


@pytest.mark.parametrize(("augmentation", "same"), [(Augmentation(4, False, 8), "offsets"), (Augmentation(0, True), "flips")])
def test_switching_one_part_off_leaves_the_others(augmentation, same):
    plan = EpochPlan.draw(100, (32, 32), augmentation, seeded())
    full = EpochPlan.draw(100, (32, 32), Augmentation(4, True, 8), seeded())
    for part in ("order", same):
        assert torch.equal(getattr(plan, part), getattr(full, part))
    assert plan.flips.any() == augmentation.flip
    assert plan.offsets.any() == (augmentation.pad > 0)


def test_evaluation_batches_are_not_augmented():
    images = random_images(30)
    pipe = pipeline(images, Augmentation(4, True, 8))
    assert torch.equal(pipe.plain(0, 30), pipeline(images).plain(0, 30))
    assert torch.equal(torch.cat([pipe.plain(0, 11), pipe.plain(11, 30)]), pipe.plain(0, 30))
    plan = EpochPlan.draw(30, (32, 32), Augmentation(), seeded())
    assert torch.equal(pipeline(images).batch(torch.arange(30), plan), pipe.plain(0, 30))


def test_the_frame_is_black_and_the_hole_is_the_mean():
    white = torch.full((200, 3, 8, 8), 255, dtype=torch.uint8)
    pipe = pipeline(white, Augmentation(pad=2, cutout=3))
    plan = pipe.plan(seeded())
    batch = pipe.batch(torch.arange(200), plan)
    black, bright = ((level - np.array(MEAN[:3])) / np.array(STD[:3]) for level in (0, 1))
    expected = {0.0, *np.float32(black).tolist(), *np.float32(bright).tolist()}
    assert all(min(abs(value - known) for known in expected) < 1e-6 for value in batch.unique().tolist())
    holes = (batch == 0).all(1).sum((1, 2))
    assert holes.max() == 9
    assert holes.min() == 4  # centered on a corner
    corner = torch.where((plan.offsets == 0).all(1))[0][0]
    assert torch.allclose(batch[corner, :, 0, 1], torch.from_numpy(black).float()) or (batch[corner, :, 0, 1] == 0).all()


def test_the_bytes_that_came_in_stay_as_they_are():
    images = random_images(20)
    before = images.clone()
    pipe = pipeline(images, Augmentation(0, True, 8))
    first = pipe.plain(0, 20)
    for epoch in range(3):
        plan = pipe.plan(seeded(epoch))
        pipe.batch(plan.order, plan).zero_()
        pipe.plain(0, 20).zero_()
    assert torch.equal(images, before)
    assert torch.equal(pipe.plain(0, 20), first)
    images.zero_()
    assert torch.equal(pipe.plain(0, 20), first)


@pytest.mark.slow
def test_nothing_waits_for_the_device():
    """On the meta device there are no values at all: whatever must look at one to go on cannot."""
    pipe = pipeline(random_images(10), Augmentation(4, True, 8), device="meta", dtype=torch.bfloat16)
    plan = pipe.plan(seeded())
    assert pipe.device.type == plan.order.device.type == "meta"
    assert pipe.batch(plan.order[:6], plan).shape == (6, 3, 32, 32)
    assert pipe.plain(2, 5).shape == (3, 3, 32, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits():
    images, augmentation = random_images(100), Augmentation(4, True, 8)
    pipes = [pipeline(images, augmentation, device=device) for device in ("cpu", "cuda")]
    plans = [pipe.plan(seeded(2)) for pipe in pipes]
    batches = [pipe.batch(plan.order, plan) for pipe, plan in zip(pipes, plans, strict=True)]
    assert batches[1].is_cuda
    assert torch.equal(batches[0], batches[1].cpu())


@pytest.mark.parametrize("count", [0, 1])
def test_small_batches(count):
    pipe = pipeline(random_images(4), Augmentation(4, True, 8))
    plan = pipe.plan(seeded())
    assert pipe.batch(plan.order[:count], plan).shape == (count, 3, 32, 32)
    assert pipe.plain(0, count).shape == (count, 3, 32, 32)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"pad": -1}, "pad must be a whole number of pixels >= 0, got -1"),
        ({"pad": 4.0}, "pad must be a whole number of pixels >= 0, got 4.0"),
        ({"pad": True}, "pad must be"),
        ({"cutout": -2}, "cutout must be a whole number of pixels >= 0, got -2"),
        ({"flip": 1}, "flip must be True or False, got 1"),
    ],
)
def test_a_wrong_augmentation_is_refused(keywords, text):
    with pytest.raises(ValueError, match=text):
        Augmentation(**keywords)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"images must be uint8 .*got torch.float32 \(2, 3, 8, 8\)"):
        pipeline(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"images must be uint8 .*got torch.uint8 \(2, 8, 8\)"):
        Pipeline(torch.zeros(2, 8, 8, dtype=torch.uint8), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="images of 3 channels need as many means and deviations, got 1, 1"):
        Pipeline(random_images(2), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="std must be > 0 in every channel"):
        Pipeline(random_images(2), (0.5,) * 3, (0.5, 0.0, 0.5))
    assert len(pipeline(random_images(7))) == 7


def test_a_frame_wider_than_the_images_is_refused():
    images = torch.zeros(2, 1, 6, 9, dtype=torch.uint8)
    assert Pipeline(images, [0.5], [0.5], Augmentation(pad=9)).count == 2
    for pad in (10, 10_000):
        with pytest.raises(ValueError, match=f"pad must be at most 9 pixels, the size of the images, .*; got {pad}$"):
            Pipeline(images, [0.5], [0.5], Augmentation(pad=pad))
    with pytest.raises(ValueError, match="pad must be a whole number of pixels >= 0 and at most 10,000, got 100000000"):
        Augmentation(pad=10**8)
