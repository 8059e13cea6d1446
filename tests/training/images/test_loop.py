"""One step written out, what a batch is made of, losses that are no numbers, Ctrl-C, checkpoints in the middle of an epoch."""

import dataclasses
import math
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

import unigrid
from unigrid.training import Protocol, TrainingError
from unigrid.training.data.datasets import ImageData, Split
from unigrid.training.images import loop
from unigrid.training.runs import checkpoint

PLAIN = Protocol("plain", 2, batch_size=8)


@pytest.fixture
def every_epoch(monkeypatch):
    """A checkpoint at the end of every epoch, however short."""
    monkeypatch.setattr(loop, "SAVE_SHARE", -1)


def make_data(count=32, side=8, channels=3, classes=3, **choices):
    """Random images whose class shows in their brightness; the test set is another draw."""
    rng = np.random.default_rng(count)
    splits = []
    for size in (count, 20):
        labels = np.arange(size) % classes
        images = rng.integers(60, size=(size, channels, side, side)) + 60 * labels[:, None, None, None]
        splits.append(Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)))
    names = tuple(map(str, range(classes)))
    mean, std = (0.4,) * channels, (0.25,) * channels
    return ImageData("custom", *splits, names, **{"mean": mean, "std": std, **choices})


class Tiny(nn.Module):
    """A convolution, a batch norm, a linear layer; `at_step(k)` is called before the k-th batch of training."""

    def __init__(self, channels=3, classes=3, at_step=None, seed=0):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.convolution = nn.Conv2d(channels, 4, 3, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, classes)
        self.at_step, self.steps, self.seen = at_step, 0, []

    def forward(self, images):
        if self.training:
            self.steps += 1
            self.seen.append(images.detach().clone())
            if self.at_step is not None:
                self.at_step(self.steps)
        features = functional.relu(self.norm(self.convolution(images)))
        return self.head(features.mean((2, 3)))


def train(model, data, protocol=PLAIN, **choices):
    return unigrid.train(data, model, protocol, **{"device": "cpu", "progress": False, **choices})


def _distances(batch, images):
    """The largest difference of every image of the batch from every image of the training set."""
    return (batch[:, None] - images[None]).abs().flatten(2).amax(2)


def _indices(batch, images):
    """Which images of the training set the batch holds."""
    near = _distances(batch, images) < 1e-5
    assert near.any(1).all(), "an image that is not in the training set, or was changed"
    return near.double().argmax(1)


def normalized(data, dtype=torch.float64):
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return ((data.train.images.double() / 255 - mean) / std).to(dtype)


# one step, written out


def _logits(weights, images, buffers):
    """The network in training, from its equations; the running statistics move as they do in PyTorch."""
    features = functional.conv2d(images, weights["convolution.weight"])
    mean, variance = features.mean((0, 2, 3)), features.var((0, 2, 3), unbiased=False)
    count = features.numel() // features.shape[1]
    with torch.no_grad():
        buffers["norm.running_mean"] += 0.1 * (mean - buffers["norm.running_mean"])
        buffers["norm.running_var"] += 0.1 * (variance * count / (count - 1) - buffers["norm.running_var"])
    scaled = (features - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + 1e-5).sqrt()
    scaled = scaled * weights["norm.weight"].view(1, -1, 1, 1) + weights["norm.bias"].view(1, -1, 1, 1)
    return scaled.clamp_min(0).mean((2, 3)) @ weights["head.weight"].T + weights["head.bias"]


def _smoothed_loss(logits, labels, smoothing):
    classes = logits.shape[1]
    target = torch.full_like(logits, smoothing / classes)
    target[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(target * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1).mean()


def _rates(protocol, epochs, steps):
    if protocol.schedule == "steps":
        return [protocol.learning_rate * protocol.decay ** (k // steps // protocol.decay_every) for k in range(epochs * steps)]
    peak, total = protocol.learning_rate * protocol.batch_size / 128, epochs * steps
    middles = [(k + 0.5) / total for k in range(total)]
    return [peak * min(m / protocol.warmup, (1 - m) / (1 - protocol.warmup)) for m in middles]


def _straight_line(model, batches, protocol, rates):
    """Stochastic gradient descent, from the equations. Returns weights, their averages, buffers, and loss and hits a step."""
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    buffers = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    velocity, average, log = {}, None, []
    for (images, labels), rate in zip(batches, rates, strict=True):
        logits = _logits(weights, images, buffers)
        loss = _smoothed_loss(logits, labels, protocol.label_smoothing)
        log.append((float(loss.detach()), int((logits.argmax(1) == labels).sum()), len(labels)))
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        with torch.no_grad():
            for name, weight in weights.items():
                decays = protocol.decay_norms or name in ("convolution.weight", "head.weight")
                gradient = gradients[name] + (protocol.weight_decay * weight if decays else 0)
                velocity[name] = protocol.momentum * velocity.get(name, 0) + gradient
                weight -= rate * (gradient + protocol.momentum * velocity[name] if protocol.nesterov else velocity[name])
            values = {name: value.detach().clone() for name, value in {**weights, **buffers}.items()}
            if average is None:
                average = values
            else:
                number = len(log) - 1  # of the weights in the average so far
                kept = min(protocol.average, (1 + number) / (10 + number))
                average = {name: kept * value + (1 - kept) * values[name] for name, value in average.items()}
    return values, average, log


@pytest.mark.parametrize(
    "protocol",
    [
        dataclasses.replace(PLAIN, weight_decay=0.03),
        dataclasses.replace(PLAIN, momentum=0.0, decay_every=1, decay=0.3),
        dataclasses.replace(
            PLAIN, learning_rate=2.0, scale_rate=True, schedule="one-cycle", warmup=0.4, momentum=0.8, nesterov=True,
            weight_decay=0.05, decay_norms=False, label_smoothing=0.2, average=0.7,
        ),
    ],
    ids=["momentum and decay", "plain, steps", "as in fast"],
)  # fmt: skip
def test_training_equals_gradient_descent_written_out_in_double_precision(protocol):
    data = make_data(count=21)
    model = Tiny().double()
    start = Tiny().double()
    used = []

    def note(optimizer, *arguments):
        used.append({group["lr"] for group in optimizer.param_groups})

    handle = register_optimizer_step_pre_hook(note)
    try:
        result = train(model, data, protocol)
    finally:
        handle.remove()
    images = normalized(data)
    orders = [_indices(batch, images) for batch in model.seen]
    for epoch in (orders[:3], orders[3:]):
        assert [len(order) for order in epoch] == [8, 8, 5]
        assert sorted(torch.cat(epoch).tolist()) == list(range(21))
    rates = _rates(protocol, 2, 3)
    assert [max(rate) for rate in used] == pytest.approx(rates, rel=1e-12)
    assert all(len(rate) == 1 for rate in used)
    batches = [(images[order], data.train.labels[order]) for order in orders]
    last, average, log = _straight_line(start, batches, protocol, rates)
    expected = average if protocol.average else last
    trained = result.model.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(value, start.state_dict()[name], rtol=1e-3, atol=1e-5), (
            "a weight that hardly moved tests little"
        )
    for row, part in zip(result.history, (log[:3], log[3:]), strict=True):
        assert row["train_loss"] == pytest.approx(sum(loss * count for loss, _, count in part) / 21, rel=1e-10)
        assert row["train_accuracy"] == sum(right for _, right, _ in part) / 21
    assert [row["learning_rate"] for row in result.history] == pytest.approx([rates[2], rates[5]], rel=1e-12)
    assert [row["step"] for row in result.history] == [3, 6]
    assert [row["epoch"] for row in result.history] == [1, 2]


# what a batch is made of


def test_without_augmentation_batches_hold_the_images_as_they_are_each_once_an_epoch():
    data, model = make_data(count=20), Tiny()
    train(model, data, dataclasses.replace(PLAIN, drop_last=False))
    assert [len(batch) for batch in model.seen] == [8, 8, 4] * 2
    first, second = torch.cat(model.seen[:3]), torch.cat(model.seen[3:])
    assert sorted(len(torch.unique(part.flatten(1), dim=0)) for part in (first, second)) == [20, 20]
    assert not torch.equal(first, second), "the second epoch has another order"


def test_a_batch_that_is_not_whole_is_left_out_on_request_and_others_each_time():
    data, model = make_data(count=20), Tiny(at_step=None)
    result = train(model, data, dataclasses.replace(PLAIN, epochs=6, drop_last=True))
    assert [len(batch) for batch in model.seen] == [8] * 12
    assert [row["step"] for row in result.history] == [2, 4, 6, 8, 10, 12]
    images = normalized(data, torch.float32)
    used = [_indices(torch.cat(model.seen[at : at + 2]), images).tolist() for at in range(0, 12, 2)]
    left_out = [frozenset(range(20)) - set(epoch) for epoch in used]
    assert all(len(out) == 4 for out in left_out)
    assert len(set(left_out)) > 1


@pytest.mark.parametrize("flip", [True, False])
def test_only_data_that_allow_it_are_mirrored_in_training_and_in_tests(flip):
    data, model = make_data(count=24, flip=flip), Tiny()
    tested = []
    model.register_forward_pre_hook(lambda module, inputs: None if module.training else tested.append(inputs[0].clone()))
    train(model, data, dataclasses.replace(PLAIN, flip=True, test_flip=True))
    images = normalized(data, torch.float32)
    for batch in model.seen:
        plain = (_distances(batch, images) < 1e-5).any(1)
        mirrored = (_distances(batch.flip(3), images) < 1e-5).any(1)
        assert (plain ^ mirrored).all()
        assert flip or plain.all()
    if flip:
        share = float(torch.cat([_distances(batch, images).amin(1) < 1e-5 for batch in model.seen]).float().mean())
        assert 0.2 < share < 0.8
    tested = [batch for batch in tested if len(batch) == 20]
    assert len(tested) == (2 if flip else 1)
    assert not flip or torch.equal(tested[0].flip(3), tested[1])


def test_crops_come_from_a_frame_of_the_protocols_width():
    data, model = make_data(count=24), Tiny()
    train(model, data, dataclasses.replace(PLAIN, pad=2, epochs=3))
    black = -0.4 / 0.25
    rows = [(batch == black).all(dim=(1, 3)).sum(1) for batch in model.seen]
    assert set(torch.cat(rows).tolist()) == {0, 1, 2}


def test_cutout_of_the_protocol_sets_squares_to_the_mean():
    data, model = make_data(count=24), Tiny()
    train(model, data, dataclasses.replace(PLAIN, cutout=3))
    holes = torch.cat([(batch == 0).all(1).sum((1, 2)) for batch in model.seen])
    assert int(holes.max()) == 9
    assert int(holes.min()) >= 4


# losses that are no numbers


def last_state(folder):
    return checkpoint.latest(folder).state


class Broken(Tiny):
    """Answers with `answer(logits)` from the given step of training on."""

    def __init__(self, step, answer, **choices):
        super().__init__(**choices)
        self.broken_from, self.answer = step, answer

    def forward(self, images):
        logits = super().forward(images)
        return self.answer(logits) if self.training and self.steps >= self.broken_from else logits


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        (lambda logits: logits * math.nan, "nonfinite", "the loss became nan in epoch 3, step 12"),
        (lambda logits: logits * math.inf, "nonfinite", "the loss became nan in epoch 3, step 12"),
        (
            lambda logits: logits - 1e9 * logits.detach().sign(),
            "diverged",
            "the loss grew to .* in epoch 3, step 12; guessing costs 1.1",
        ),
    ],
    ids=["nan", "inf", "diverging"],
)
def test_a_loss_that_is_lost_stops_the_run_and_the_last_good_checkpoint_stays(tmp_path, every_epoch, answer, reason, text):
    data = make_data(count=32)
    with pytest.raises(TrainingError, match=text) as error:
        train(Broken(10, answer), data, epochs=4, out=tmp_path, validation=0.25, batch_size=6)
    assert error.value.reason == reason
    assert "take a learning rate below 0.1" in str(error.value)
    assert f"the last good checkpoint in {tmp_path} is kept" in str(error.value)
    state = last_state(tmp_path)
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (2, 8)
    assert all(bool(value.isfinite().all()) for value in state["model"].values())
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] <= 2
    assert not (tmp_path / "result.json").exists()


def test_without_a_folder_the_message_speaks_of_none():
    with pytest.raises(TrainingError) as error:
        train(Broken(1, lambda logits: logits * math.nan), make_data())
    assert "checkpoint" not in str(error.value)


def test_a_huge_learning_rate_is_noticed():
    with pytest.raises(TrainingError, match="take a learning rate below 1e") as error:
        train(Tiny(), make_data(count=64), dataclasses.replace(PLAIN, epochs=8), learning_rate=1e12)
    assert error.value.reason in ("nonfinite", "diverged")


def test_a_lost_loss_is_noticed_within_twenty_steps_not_only_at_the_end_of_an_epoch():
    model = Broken(3, lambda logits: logits * math.nan)
    with pytest.raises(TrainingError, match="step 20"):
        train(model, make_data(count=200), epochs=1, batch_size=4)
    assert model.steps == 20


def test_one_bad_stretch_counts_by_itself_not_in_the_mean_of_the_epoch():
    """A loss of about 8 in the last third of 60 batches: too much there; in the mean of all, 3.4, it would pass."""
    model = Broken(41, lambda logits: 0 * logits + torch.tensor([12.0, 0.0, 0.0]))
    with pytest.raises(TrainingError, match=r"the loss grew to [6-9]\S* in epoch 1, step 60; guessing costs 1\.1"):
        train(model, make_data(count=400), epochs=1, batch_size=4, learning_rate=1e-6)


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path, every_epoch):
    model = Tiny()

    def spoil(row):
        if row["epoch"] == 2:
            model.norm.running_mean.fill_(math.nan)  # the loss of training does not show it

    with pytest.raises(TrainingError, match="a weight is not finite") as error:
        train(model, make_data(), epochs=4, out=tmp_path, callback=spoil)
    assert error.value.reason == "nonfinite"
    state = last_state(tmp_path)
    assert state["progress"]["epoch"] == 2
    assert all(bool(value.isfinite().all()) for value in state["model"].values())


class BadOnValidation(Tiny):
    """Answers NaN in evaluation once `bad` is set, and is right by chance then: NaN comes first in every comparison."""

    bad = False

    def forward(self, images):
        logits = super().forward(images)
        if self.bad and not self.training:
            logits = logits.clone()
            logits[:, 0] = math.nan
        return logits


def test_a_validation_loss_that_is_nan_is_never_best(tmp_path):
    data, model = make_data(), BadOnValidation()
    only_zeros = dataclasses.replace(data, train=Split(data.train.images, torch.zeros_like(data.train.labels)))

    model.head.bias.data[1] = 2.0

    def spoil(row):
        model.bad = row["epoch"] < 3  # and well again for the test

    result = train(model, only_zeros, epochs=3, learning_rate=1e-30, out=tmp_path, validation=8, callback=spoil)
    assert [math.isnan(row["validation_loss"]) for row in result.history] == [False, True, True]
    assert [row["validation_accuracy"] for row in result.history[1:]] == [1.0, 1.0], "NaN would have won"
    assert result.history[0]["validation_accuracy"] < 1
    assert result.runs[0].best_epoch == 1
    assert result.runs[0].best_validation_accuracy == result.history[0]["validation_accuracy"]
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 1


def test_a_first_validation_that_is_nan_is_not_best_either():
    model = BadOnValidation()
    model.bad = True

    def mend(row):
        model.bad = False

    result = train(model, make_data(), epochs=1, validation=8, callback=mend)
    assert result.runs[0].best_epoch is None
    assert result.runs[0].best_test is None


# Ctrl-C, and checkpoints in the middle of an epoch


def interrupt_at(step, times=1):
    def at_step(number):
        if number == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    return at_step


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_ctrl_c_ends_the_run_after_the_step_with_a_checkpoint(tmp_path, step):
    model = Tiny(at_step=interrupt_at(step))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(model, make_data(), out=tmp_path, epochs=3)
    assert signal.getsignal(signal.SIGINT) is before
    assert model.steps == step
    progress = last_state(tmp_path)["progress"]
    assert progress["step"] == step
    assert 4 * progress["epoch"] + progress["batch"] == step
    assert progress["seen"] == 8 * progress["batch"]
    assert progress["seen"] == progress["checked"]


def test_ctrl_c_without_a_folder_ends_the_run_too():
    model = Tiny(at_step=interrupt_at(2))
    with pytest.raises(KeyboardInterrupt):
        train(model, make_data())
    assert model.steps == 2


def test_a_second_ctrl_c_does_not_wait(tmp_path, every_epoch):
    model = Tiny(at_step=interrupt_at(6, times=2))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(model, make_data(), out=tmp_path, epochs=3)
    assert signal.getsignal(signal.SIGINT) is before
    assert last_state(tmp_path)["progress"]["step"] == 4, "that of the epoch before"


def test_training_in_a_thread_of_its_own_leaves_signals_alone():
    results, before = [], signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: results.append(train(Tiny(), make_data())))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    alone = train(Tiny(), make_data())
    assert all(torch.equal(value, alone.model.state_dict()[name]) for name, value in results[0].model.state_dict().items())


def test_a_long_epoch_is_saved_on_its_way(tmp_path, every_epoch, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "CHECK_EVERY", 3)
    saved = []
    real = checkpoint.save

    def save(folder, state, step):
        saved.append((step, state["progress"]["epoch"], state["progress"]["batch"]))
        return real(folder, state, step)

    monkeypatch.setattr(checkpoint, "save", save)
    train(Tiny(), make_data(count=64), epochs=2, out=tmp_path)
    assert saved == [(3, 0, 3), (6, 0, 6), (8, 1, 0), (9, 1, 1), (12, 1, 4), (15, 1, 7), (16, 2, 0)]


def test_checkpoints_within_an_epoch_wait_a_minute(tmp_path, monkeypatch):
    assert loop.SAVE_EVERY == 60
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(loop, "CHECK_EVERY", 1)
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda folder, state, step: saved.append(step) or Path(folder))
    train(Tiny(at_step=lambda step: clock.__setitem__(0, 25.0 * step)), make_data(count=64), epochs=1, out=tmp_path)
    assert saved == [3, 6, 8], "after 75, 150 seconds, and at the end"


def test_the_loss_is_looked_at_rarely(monkeypatch):
    looks = []
    real = loop.ImageRun._check_loss
    monkeypatch.setattr(loop.ImageRun, "_check_loss", lambda run: (looks.append(run.progress.step), real(run))[1])
    train(Tiny(), make_data(count=50), epochs=1, batch_size=1, learning_rate=1e-6)
    assert looks == [20, 40, 50]
