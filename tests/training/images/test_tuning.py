"""Optimizers, rates, losses and gradients written out in a few lines of PyTorch; early stopping; fine-tuning."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from few_images import few_images
from tiers import named
from torch import nn
from torch.nn import functional

import unigrid
from unigrid.conv.weights import clean_state_dict
from unigrid.files import FileError
from unigrid.training import Protocol, Split, load_trained
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.images import loss
from unigrid.training.images.setup import training_splits

PLAIN = Protocol("plain", 2, batch_size=10, learning_rate=0.05)
SMALL = unigrid.MgNetConfig(steps=(1, 1), features=4)


def net(seed=0, classes=3):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def train(data=None, model=SMALL, protocol=PLAIN, **choices):
    data = few_images(38) if data is None else data
    return unigrid.train(data, model, protocol, **{"device": "cpu", "progress": False, **choices})


def by_hand(protocol, data, optimizer_of, scheduler_of=None, seed=0):
    """The same training in plain PyTorch: the order of the images is all that it takes from the package."""
    model = net()
    optimizer = optimizer_of(model.parameters())
    steps = math.ceil(len(data.train) / protocol.batch_size)
    scheduler = scheduler_of(optimizer, steps * protocol.epochs) if scheduler_of else None
    weights = None if protocol.class_weights == "equal" else torch.tensor(protocol.class_weights)
    generator = torch.Generator().manual_seed(seed)
    images = Pipeline(data.train.images, data.mean, data.std, memory_format=torch.contiguous_format)
    for epoch in range(protocol.epochs):
        plan = images.plan(generator)
        mixing = protocol.mixing.plan(len(images), (8, 8), seed, epoch, torch.device("cpu"))
        for chosen in plan.order.split(protocol.batch_size):
            batch, labels = images.batch(chosen, plan), data.train.labels[chosen]
            cost = functional.cross_entropy
            if mixing is None:
                value = cost(model(batch), labels, weights, label_smoothing=protocol.label_smoothing)
            else:
                mixed, shares = mixing.mix(batch, chosen)
                own, other = (functional.one_hot(each, 3).float() for each in (labels, labels.roll(1)))
                targets = shares[:, None] * own + (1 - shares[:, None]) * other
                value = cost(model(mixed), targets, label_smoothing=protocol.label_smoothing)
            optimizer.zero_grad()
            value.backward()
            if protocol.clip_grad:
                norm = torch.cat([each.grad.flatten() for each in model.parameters()]).norm()
                for each in model.parameters():
                    each.grad *= min(1.0, protocol.clip_grad / float(norm + 1e-6))
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
    return model


def assert_same_weights(one, other, atol=1e-6):
    one, other = clean_state_dict(one), clean_state_dict(other)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=atol, msg=name)


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.05, momentum=0.9)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("choices", "optimizer", "scheduler"),
    [
        (ADAMW, adamw, None),
        ({"schedule": "cosine", "epochs": 3}, sgd, torch.optim.lr_scheduler.CosineAnnealingLR),
        ({**ADAMW, "schedule": "cosine", "epochs": 4}, adamw, torch.optim.lr_scheduler.CosineAnnealingLR),
        ({"clip_grad": 0.05}, sgd, None),
        ({"clip_grad": 1e-3, "learning_rate": 0.05}, sgd, None),
        ({"class_weights": (0.2, 1.0, 3.0)}, sgd, None),
        ({"class_weights": (0.2, 1.0, 3.0), "label_smoothing": 0.3}, sgd, None),
        ({"mixup": 0.4}, sgd, None),
        ({"cutmix": 1.0, "label_smoothing": 0.2}, sgd, None),
        ({"mixup": 0.2, "cutmix": 0.7, **ADAMW}, adamw, None),
    ],
    ids=named,
)
def test_training_is_that_of_a_few_lines_of_pytorch(choices, optimizer, scheduler):
    protocol, data = dataclasses.replace(PLAIN, **choices), few_images(38)
    assert_same_weights(train(data, net(), protocol).model, by_hand(protocol, data, optimizer, scheduler))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_class_weights_of_mixed_labels_reduce_to_those_of_whole_ones(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 2, 1, 1, 0, 2])
    weights = torch.tensor([0.2, 1.0, 3.0])
    for shares, whole in ((torch.ones(6), labels), (torch.zeros(6), labels.roll(1))):
        mixed = loss.mixed_cross_entropy(logits, labels, shares, weights, smoothing)
        torch.testing.assert_close(mixed, functional.cross_entropy(logits, whole, weights, label_smoothing=smoothing))


def test_balanced_class_weights_are_those_of_scikit_learn():
    protocol = dataclasses.replace(PLAIN, class_weights="balanced")
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    # sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 2], y=labels)
    assert loss.weights_of_classes(protocol, labels, 3).tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    data = few_images(38)
    assert_same_weights(
        train(data, net(), protocol).model, train(data, net(), PLAIN, class_weights=(38 / 39, 38 / 39, 38 / 36)).model
    )


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array, np.float32, lambda weights: map(np.float16, weights)])
def test_class_weights_of_any_make_are_stored_as_plain_numbers(kind):
    weights = dataclasses.replace(PLAIN, class_weights=kind([0.25, 1, 3])).class_weights
    assert weights == (0.25, 1.0, 3.0)
    assert {type(weight) for weight in weights} == {float}


@pytest.mark.parametrize("epochs", [1, 3, 10])
def test_the_cosine_rate_is_pytorchs_at_every_step(epochs):
    protocol, steps = Protocol("own", epochs, learning_rate=0.3, schedule="cosine"), 7
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for step in range(epochs * steps):
        assert protocol.rate(step, steps) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_adamw_takes_pytorchs_defaults_unless_they_are_chosen():
    fast = unigrid.training.PROTOCOLS["fast"]
    changed = fast.with_choices(optimizer="adamw", epochs=None, learning_rate=None)
    assert (changed.learning_rate, changed.weight_decay, changed.nesterov) == (1e-3, 1e-2, False)
    assert changed.with_choices(batch_size=16, schedule="cosine").rate(0, 10) == 1e-3
    assert "optimizer=adamw" in changed.label
    assert "learning_rate=0.001" in changed.label
    kept = fast.with_choices(optimizer="adamw", learning_rate=0.02, weight_decay=0.0)
    assert (kept.learning_rate, kept.weight_decay) == (0.02, 0.0)
    assert kept.with_choices(optimizer="adamw", epochs=3).learning_rate == 0.02


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; allowed: 'sgd', 'adamw', 'muon'; did you mean 'adamw'?"),
        ({"optimizer": "adamw", "nesterov": True}, "nesterov=True is for optimizer='sgd' or 'muon', got 'adamw'"),
        ({"clip_grad": -1}, "clip_grad must be a number >= 0, got -1"),
        ({"class_weights": "balansed"}, "did you mean 'balanced'?"),
        ({"class_weights": (1, 0, 1)}, "class_weights[1] must be a number > 0, got 0"),
        ({"class_weights": 2}, "class_weights must be one number per class, 3, or 'balanced'; got 1 numbers"),
        ({"class_weights": [1, 2]}, "class_weights must be one number per class, 3, or 'balanced'; got 2 numbers"),
        ({"patience": -1}, "patience must be an integer >= 0, got -1"),
        ({"patience": 2}, "patience=2 needs validation images; give their number or share, validation=0.1"),
        ({"patience": 2.5}, "patience must be an integer >= 0, got 2.5"),
        ({"mixup": -1}, "mixup must be a number from 0 to 1e+06"),
        ({"new_head": True}, "new_head=True needs weights=, whose other layers are kept"),
        ({"weights": "no/such"}, "no/such: no such file, no run of this name in runs, and no trained network"),
        ({"size": 0}, "size must be an integer >= 1, got 0"),
        ({"size": (8, 8, 3)}, "size must be one number of pixels, or height and width, got 3 numbers"),
        (
            {"validation": [1, 2, 3]},
            "validation must be a count or a share of the 38 training images, a path, (images, labels)",
        ),
        ({"validation": "no/such"}, "no/such: no such file or folder"),
    ],
    ids=named,
)
def test_what_does_not_fit_is_refused_before_any_work(tmp_path, choices, text):
    with pytest.raises(ValueError, match=re.escape(text)) as error:
        train(out=tmp_path / "run", **choices)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# early stopping


class Spoiled(nn.Module):
    """A network that finds the class by the brightness, until its k-th batch of training."""

    def __init__(self, at_step):
        super().__init__()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 3)
        centers = (torch.tensor([59.5, 99.5, 139.5]) / 255 - 0.4) / 0.25  # of `few_images`
        self.head.weight.data[:] = 2 * centers[:, None] / 3
        self.head.bias.data[:] = -(centers**2)
        self.at_step, self.steps = at_step, 0

    def forward(self, images):
        self.steps += self.training
        if self.training and self.steps == self.at_step:
            with torch.no_grad():
                self.head.bias[:] = torch.tensor([3.0, 0.0, 0.0])
        return self.head(self.pool(images).flatten(1))


EARLY = Protocol("early", 30, batch_size=10, learning_rate=1e-12, patience=3)


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_training_ends_after_the_patience_and_the_best_epoch_is_tested(tmp_path, average):
    data, model = few_images(38), Spoiled(at_step=4)  # 3 steps per epoch
    result = train(data, model, EARLY, validation=8, out=tmp_path, average=average)
    run = result.runs[0]
    assert (run.reason, run.best_epoch, run.epoch, len(run.history)) == ("completed", 1, 1, 1 + EARLY.patience)
    assert run.test is run.best_test
    assert run.best_validation_accuracy > run.history[-1]["validation_accuracy"] + 0.3
    assert result.test_accuracy > 0.9
    assert_same_weights(result.model, Spoiled(0))
    stored = json.loads((tmp_path / "result.json").read_text())
    assert (stored["tested_epoch"], stored["epochs"]) == (1, 4)
    loaded = load_trained(tmp_path, device="cpu", model=Spoiled(0))
    assert_same_weights(loaded.model, result.model, atol=0)
    assert (loaded.epoch, loaded.evaluate(data).accuracy) == (1, result.test_accuracy)


def test_with_patience_to_spare_the_best_epoch_is_tested_all_the_same():
    result = train(validation=8, epochs=4, patience=4, learning_rate=0.3)
    run = result.runs[0]
    assert len(run.history) == 4
    assert run.epoch == run.best_epoch
    assert run.test is run.best_test


# validation sets


def unbalanced(counts=(30, 9, 3)):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return dataclasses.replace(few_images(len(labels)), train=Split(few_images(len(labels)).train.images, labels))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("counts", "validation"), [((30, 9, 3), 14), ((30, 9, 3), 1 / 3), ((10, 10, 10), 7), ((25, 2, 2), 5)])
def test_a_stratified_split_has_the_share_of_every_class(seed, counts, validation):
    data, protocol = unbalanced(counts), dataclasses.replace(PLAIN, stratify=True)
    kept, held = training_splits(data, protocol, None, validation, seed)
    assert len(held) == (validation if validation >= 1 else round(validation * sum(counts)))
    assert len(kept) + len(held) == sum(counts)
    for label, count in enumerate(counts):
        assert abs(int((held.labels == label).sum()) - len(held) * count / sum(counts)) < 1
    images = torch.cat([kept.images, held.images]).flatten(1)
    assert len(images.unique(dim=0)) == sum(counts), "every image is in one of the two"


def test_a_stratified_split_depends_on_the_seed():
    data, protocol = unbalanced(), dataclasses.replace(PLAIN, stratify=True)
    one, again, other = (training_splits(data, protocol, None, 14, seed)[1].images for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_validation_set_of_ones_own_picks_the_best_epoch(tmp_path):
    data, held = few_images(38), few_images(24, seed=5).train
    result = train(data, validation=(held.images, held.labels), epochs=3, out=tmp_path)
    model = load_trained(tmp_path / "best.pt", device="cpu")
    scored = model.evaluate(dataclasses.replace(data, test=held))
    assert scored.accuracy == result.runs[0].best_validation_accuracy == max(
        row["validation_accuracy"] for row in result.history
    )  # fmt: skip
    assert result.configuration["dataset"]["training_images"] == 38
    other = few_images(24, seed=6).train
    with pytest.raises(FileError, match=r"holds another run, which cannot be resumed as this one .validation: "):
        train(data, validation=(other.images, other.labels), epochs=3, out=tmp_path, resume=True)


def test_two_validation_sets_are_refused():
    data = dataclasses.replace(few_images(38), validation=few_images(24, seed=5).train)
    with pytest.raises(ValueError, match="the data have a validation set of 24 images; leave validation out, got 8"):
        train(data, validation=8)


# fine-tuning


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run on three classes."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    return train(out=folder, epochs=1).runs[0]


def other_classes(names=("x", "y")):
    data = few_images(40)
    parts = {name: Split(part.images, part.labels % len(names)) for name, part in (("train", data.train), ("test", data.test))}
    return dataclasses.replace(data, **parts, classes=names)


@pytest.mark.parametrize("source", ["folder", "checkpoint", "weights.safetensors", "name"])
def test_training_goes_on_from_the_weights_of_a_run(earlier, source, monkeypatch, tmp_path):
    places = {"folder": earlier.folder, "checkpoint": earlier.checkpoint, "name": "first"}
    if source == "name":
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "first").symlink_to(earlier.folder)
    result = train(model=None, weights=places.get(source, earlier.folder / source), learning_rate=1e-30, momentum=0, epochs=1)
    for name, value in clean_state_dict(result.model).items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, clean_state_dict(earlier.model)[name], rtol=0, atol=1e-20)
    assert result.model.config == earlier.model.config


@pytest.mark.parametrize("names", [("x", "y"), ("x", "y", "z")])
@pytest.mark.parametrize("model", [None, SMALL])
def test_a_new_head_keeps_all_other_weights(earlier, names, model):
    choices = {"weights": earlier.folder, "new_head": True, "learning_rate": 1e-30, "momentum": 0, "epochs": 1}
    result = train(other_classes(names), model, **choices)
    assert result.model.num_classes == len(names)
    for name, value in result.model.named_parameters():
        same = value.shape == clean_state_dict(earlier.model)[name].shape and torch.allclose(
            value, clean_state_dict(earlier.model)[name], rtol=0, atol=1e-20
        )
        assert same != name.startswith("head.weight") or name == "head.bias"


def test_seeds_differ_in_the_new_head_alone(earlier):
    choices = {"weights": earlier.folder, "new_head": True, "learning_rate": 1e-30, "momentum": 0, "epochs": 1}
    one, other = (run.model for run in train(other_classes(), None, **choices, seed=[0, 1]).runs)
    differing = [name for name, value in one.named_parameters() if not torch.equal(value, dict(other.named_parameters())[name])]
    assert "head.weight" in differing
    assert all(name.startswith("head.") for name in differing)


class Timm(nn.Module):
    """A network of one's own with timm's name for the last layer."""

    def __init__(self, classes):
        super().__init__()
        self.body, self.fc = net(3)[:4], nn.Linear(4, classes)

    def get_classifier(self):
        return self.fc

    def forward(self, images):
        return self.fc(self.body(images))


def test_a_network_of_ones_own_takes_weights_and_keeps_its_head(tmp_path):
    train(None, Timm(3), out=tmp_path, epochs=1)
    stored = load_trained(tmp_path, device="cpu", model=Timm(3)).model
    model = Timm(2)
    head = model.fc.weight.clone()
    train(other_classes(), model, weights=tmp_path, new_head=True, learning_rate=1e-30, momentum=0, epochs=1)
    torch.testing.assert_close(model.body[0].weight, stored.body[0].weight, rtol=0, atol=1e-20)
    torch.testing.assert_close(model.fc.weight, head, rtol=0, atol=1e-20)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        (
            {},
            "of classes a, b, c, the data have x, y; new_head=True (--new-head) keeps all weights but those of the last layer",
        ),
        ({"names": ("x", "y", "z")}, "of classes a, b, c, the data have x, y, z; new_head=True"),
        ({"names": ("c", "b", "a")}, "of classes a, b, c, the data have c, b, a; new_head=True"),
        ({"model": unigrid.MgNetConfig(steps=(1, 1), features=8), "new_head": True}, "do not fit the model's"),
        ({"model": net(classes=2), "new_head": True}, "needs a network of unigrid, or one with get_classifier()"),
    ],
    ids=named,
)
def test_weights_that_do_not_fit_are_refused(earlier, tmp_path, choices, text):
    data = other_classes(choices.get("names", ("x", "y")))
    rest = {name: value for name, value in choices.items() if name != "names"}
    with pytest.raises(ValueError, match=re.escape(text)) as error:
        train(data, **{"model": None, **rest}, weights=earlier.folder, out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_more_epochs_of_a_run_whose_rate_depends_on_them_start_from_its_weights(tmp_path):
    train(out=tmp_path / "run", schedule="cosine")
    with pytest.raises(FileError, match=r"protocol\.epochs: 2 there, 4 now\).*weights=.*a run that starts from its weights"):
        train(out=tmp_path / "run", schedule="cosine", epochs=4, resume=True)
    more = train(None, None, weights=tmp_path / "run", out=tmp_path / "more", schedule="cosine", epochs=4)
    assert len(more.history) == 4


# what an evaluation has


def test_top_k_logits_and_scores_of_classes(earlier):
    data = few_images(38)
    result = load_trained(earlier.folder, device="cpu").evaluate(data)
    logits, labels = result.logits, data.test.labels
    assert logits.shape == (20, 3)
    assert torch.equal(result.labels, labels)
    assert float(functional.cross_entropy(logits, labels)) == pytest.approx(result.loss)
    for k in (1, 2, 3, 5):
        likeliest = logits.topk(min(k, 3)).indices
        assert result.top(k) == pytest.approx(float((likeliest == labels[:, None]).any(1).double().mean()))
    assert result.top(1) == result.accuracy
    for label, scores in enumerate(result.per_class()):
        guessed, there = logits.argmax(1) == label, labels == label
        right = int((guessed & there).sum())
        assert scores["support"] == int(there.sum())
        assert scores["precision"] == pytest.approx(right / max(int(guessed.sum()), 1))
        assert scores["recall"] == pytest.approx(right / int(there.sum()))
        assert scores["f1"] == pytest.approx(2 * right / int(guessed.sum() + there.sum()))


def test_equal_logits_count_as_argmax_counts_them():
    evaluation = unigrid.training.Evaluation(
        0.25, 0.0, torch.zeros(4, 4, dtype=torch.int64), torch.zeros(4, 4), torch.arange(4)
    )
    assert [evaluation.top(k) for k in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
