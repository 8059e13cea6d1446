"""Accuracy, loss and confusion against NumPy, by hand; and in a run: what is validated, tested, and read when."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import unigrid
from unigrid.conv import MgNetConfig
from unigrid.training import Protocol, evaluate_model
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.data.datasets import ImageData, Split
from unigrid.training.images import evaluation, loop
from unigrid.training.images.evaluation import in_full_precision, logits_of
from unigrid.training.runs import checkpoint

CLASSES = 4
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.25, 0.3)


class Linear(nn.Module):
    """Logits as a fixed linear map of the pixels, which a mirror image changes; in training it answers otherwise."""

    def __init__(self, pixels=3 * 6 * 5):
        super().__init__()
        weight = np.random.default_rng(5).standard_normal((CLASSES, pixels)) / 8
        self.weight = nn.Parameter(torch.from_numpy(weight).float())
        self.batches = []

    def forward(self, images):
        self.batches.append((len(images), images.requires_grad, torch.is_grad_enabled(), self.training))
        assert not self.training
        return images.flatten(1) @ self.weight.T


@pytest.fixture
def images(rng):
    return rng.integers(256, size=(37, 3, 6, 5), dtype=np.uint8)


@pytest.fixture
def labels(rng):
    return rng.integers(CLASSES, size=37)


def pipeline(images, dtype=torch.float32):
    return Pipeline(torch.from_numpy(images), MEAN, STD, dtype=dtype)


def by_hand(model, images, labels, flip=False):
    """Accuracy, loss and confusion in NumPy, in double precision, image by image."""
    weight = model.weight.detach().double().numpy()
    confusion, loss = np.zeros((CLASSES, CLASSES), int), 0.0
    for image, label in zip(images, labels, strict=True):
        values = (image / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
        logits = weight @ values.ravel()
        if flip:
            logits = (logits + weight @ values[:, :, ::-1].ravel()) / 2
        confusion[label, logits.argmax()] += 1
        loss -= np.log(np.exp(logits[label]) / np.exp(logits).sum())
    return np.trace(confusion) / len(labels), loss / len(labels), confusion


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [1, 10, 36, 37, 500])
def test_accuracy_loss_and_confusion_are_those_of_numpy(monkeypatch, images, labels, flip, batch):
    monkeypatch.setattr(evaluation, "BATCH", batch)
    model = Linear()
    result = evaluate_model(model, pipeline(images), torch.from_numpy(labels), flip)
    accuracy, loss, confusion = by_hand(model, images, labels, flip)
    assert result.accuracy == accuracy
    assert result.loss == pytest.approx(loss, rel=1e-5)
    assert result.confusion.dtype == torch.int64
    assert np.array_equal(result.confusion.numpy(), confusion)
    assert not np.array_equal(confusion, confusion.T), "a symmetric one could not tell rows from columns"
    assert result.count == 37
    sizes = [count for count, *_ in model.batches]
    assert sum(sizes) == 37 * (2 if flip else 1)
    assert max(sizes) == min(batch, 37)


def test_mirror_images_matter_here(images, labels):
    """The control of the test above: without them the loss is another one."""
    plain, mirrored = (by_hand(Linear(), images, labels, flip)[1] for flip in (False, True))
    assert abs(plain - mirrored) > 1e-2


def test_logits_of_an_image_and_of_its_mirror_image_are_the_same(images):
    batch = pipeline(images).plain(0, 37)
    assert torch.equal(logits_of(Linear().eval(), batch, flip=True), logits_of(Linear().eval(), batch.flip(3), flip=True))
    assert not torch.allclose(logits_of(Linear().eval(), batch), logits_of(Linear().eval(), batch.flip(3)))


def test_a_perfect_and_a_useless_model():
    images = np.repeat(np.arange(CLASSES, dtype=np.uint8), 5)[:, None, None, None].repeat(3, 1).repeat(6, 2).repeat(5, 3)
    labels = torch.arange(CLASSES).repeat_interleave(5)

    class Reads(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, images):
            levels = ((images[:, 0, 0, 0] * STD[0] + MEAN[0]) * 255).round().long()
            return 30.0 * nn.functional.one_hot((levels + self.shift) % CLASSES, CLASSES)

    right = evaluate_model(Reads(0), pipeline(images), labels)
    assert (right.accuracy, right.confusion.tolist()) == (1.0, torch.diag(torch.full((CLASSES,), 5)).tolist())
    assert right.loss < 1e-10
    wrong = evaluate_model(Reads(1), pipeline(images), labels)
    assert wrong.accuracy == 0
    assert wrong.confusion[0].tolist() == [0, 5, 0, 0]
    assert wrong.loss == pytest.approx(30.0, rel=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_in_evaluation_mode_meanwhile_and_then_as_before(images, labels, training):
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3), Linear()).train(training)
    statistics = model[1].running_mean.clone()
    once, again = (evaluate_model(model, pipeline(images), torch.from_numpy(labels)) for _ in range(2))
    assert once.loss == again.loss, "no dropout"
    assert torch.equal(model[1].running_mean, statistics)
    assert model.training is model[0].training is model[2].training is training
    assert {(gradient, enabled, mode) for _, gradient, enabled, mode in model[2].batches} == {(False, False, False)}


def test_after_an_error_the_model_is_as_before(images, labels):
    class Fails(nn.Module):
        def forward(self, images):
            raise RuntimeError("no")

    model = Fails().train()
    with pytest.raises(RuntimeError, match="no"):
        evaluate_model(model, pipeline(images), torch.from_numpy(labels))
    assert model.training


def test_double_precision_stays(images, labels):
    model = Linear().double()
    result = evaluate_model(model, pipeline(images, torch.float64), torch.from_numpy(labels))
    assert result.loss == pytest.approx(by_hand(model, images, labels)[1], rel=1e-13)
    assert logits_of(model.eval(), pipeline(images, torch.float64).plain(0, 3)).dtype == torch.float64


def test_mixed_precision_rounds_to_bfloat16_and_answers_in_float32(images):
    batch, model = pipeline(images).plain(0, 37), Linear().eval()
    exact, mixed = (logits_of(model, batch, mixed_precision=mixed) for mixed in (False, True))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, mixed.bfloat16().float())
    assert not torch.equal(mixed, exact)
    torch.testing.assert_close(mixed, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("flip", [False, True])
def test_mixed_precision_and_mirroring_of_a_whole_evaluation(images, labels, flip):
    model = Linear()
    exact, mixed = (evaluate_model(model, pipeline(images), torch.from_numpy(labels), flip, mixed) for mixed in (False, True))
    assert exact.loss != mixed.loss
    assert mixed.loss == pytest.approx(exact.loss, rel=0.05)


def test_a_loss_is_computed_in_single_precision_at_least():
    kinds = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    assert {kind: in_full_precision(torch.ones(1, dtype=kind)).dtype for kind in kinds} == kinds


def test_a_model_that_answers_nan_has_a_loss_that_says_so(images, labels):
    class Nothing(nn.Module):
        def forward(self, images):
            return torch.full((len(images), CLASSES), torch.nan)

    result = evaluate_model(Nothing(), pipeline(images), torch.from_numpy(labels))
    assert np.isnan(result.loss)
    assert result.count == 37


# what training and tests see: subset, validation set, test set

PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05)


def make_data(test=20):
    """Random images whose class shows in their brightness."""
    rng = np.random.default_rng(40)
    splits = []
    for size in (40, test):
        labels = np.arange(size) % 3
        images = rng.integers(100, size=(size, 3, 8, 8)) + 60 * labels[:, None, None, None]
        splits.append(Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)))
    return ImageData("custom", *splits, ("a", "b", "c"), (0.4,) * 3, (0.25,) * 3)


def make_net():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*layers)


def train(dataset=None, model=None, **choices):
    network = MgNetConfig(steps=(1, 1), features=4) if model is None else model
    choices = {"device": "cpu", "progress": False, **choices}
    return unigrid.train(make_data() if dataset is None else dataset, network, PLAIN, **choices)


def evaluated(model, data, **how):
    images = Pipeline(data.test.images, data.mean, data.std, memory_format=torch.contiguous_format)
    return evaluate_model(model, images, data.test.labels, **how)


def test_a_subset_is_the_same_one_every_time_and_all_that_training_sees():
    data, nets = make_data(), [make_net(), make_net()]
    seen = [[], []]
    for net, images, seed in zip(nets, seen, (0, 1), strict=True):
        net.register_forward_pre_hook(
            lambda module, inputs, images=images: images.append(inputs[0]) if module.training else None
        )
        train(data, net, subset=16, epochs=1, seed=seed)
    drawn = [torch.unique(torch.cat(images).flatten(1), dim=0) for images in seen]
    assert drawn[0].shape[0] == 16
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("validation", "count"), [(10, 10), (0.25, 10), (1, 1), (0.5, 20)])
def test_images_for_validation_are_kept_apart_and_drawn_with_the_seed(monkeypatch, validation, count):
    splits = []
    real = loop.ImageRun.__init__

    def spy(run, model, task, *others):
        splits.append(task)
        real(run, model, task, *others)

    monkeypatch.setattr(loop.ImageRun, "__init__", spy)
    for seed in (0, 0, 1):
        train(validation=validation, epochs=1, seed=seed)
    data = make_data().train

    def indices(split):
        same = (split.images[:, None] == data.images[None]).flatten(2).all(2)
        found = same.double().argmax(1)
        assert torch.equal(split.labels, data.labels[found])
        return found.tolist()

    for task in splits:
        held, trained = indices(task.validation), indices(task.train)
        assert (len(held), len(trained)) == (count, 40 - count)
        assert sorted(held + trained) == list(range(40))
    assert indices(splits[0].validation) == indices(splits[1].validation)
    assert indices(splits[0].validation) != indices(splits[2].validation)


def test_without_validation_there_is_no_best_epoch():
    run = train().runs[0]
    assert run.best_epoch is run.best_validation_accuracy is run.best_test is None
    assert "validation_loss" not in run.history[0]


class Watched:
    """A test set that notes when its images are read."""

    def __init__(self, split, epochs):
        self._split, self.epochs, self.reads = split, epochs, []

    labels = property(lambda self: self._split.labels)

    @property
    def images(self):
        self.reads.append(len(self.epochs))
        return self._split.images


@pytest.mark.parametrize("validation", [0, 8])
def test_the_test_set_is_read_once_at_the_end(validation):
    epochs = []
    data = make_data()
    marked = Split(data.test.images.clone(), data.test.labels)
    marked.images[:, :, 0, 0] = 255  # no other image has this
    watched = Watched(marked, epochs)
    seen, net = [], make_net()
    net.register_forward_pre_hook(lambda module, inputs: seen.append((len(epochs), bool((inputs[0][:, 0, 0, 0] > 2.39).any()))))
    train(dataclasses.replace(data, test=watched), net, epochs=3, validation=validation, callback=epochs.append)
    assert watched.reads == [3]
    assert {done for done, is_test in seen if is_test} == {3}
    assert sum(is_test for _, is_test in seen) == (2 if validation else 1)


def test_a_run_that_was_stopped_has_not_read_the_test_set():
    def stop(row):
        raise StopIteration

    data = make_data()
    watched = Watched(data.test, [])
    result = train(dataclasses.replace(data, test=watched), callback=stop)
    assert watched.reads == []
    assert result.test_accuracy is result.best_test_accuracy is result.runs[0].test is None
    assert result.runs[0].reason == "stopped"


class Brightness(nn.Module):
    """Tells classes apart by brightness, perfectly; with its sign turned, never right for the first and last."""

    def __init__(self):
        super().__init__()
        self.sign = nn.Parameter(torch.ones(()))

    def forward(self, images):
        level = ((images.mean((1, 2, 3)) * 0.25 + 0.4) * 255 - 50) / 60  # 0, 1, 2 for the classes
        return -self.sign * (level[:, None] - torch.arange(3)) ** 2


def test_last_and_best_epoch_are_reported_apart_each_with_its_own_weights(tmp_path):
    data, model = make_data(), Brightness()

    def spoil(row):
        if row["epoch"] == 2:
            with torch.no_grad():
                model.sign.neg_()

    result = train(data, model, epochs=4, learning_rate=1e-30, validation=9, out=tmp_path, callback=spoil)
    run = result.runs[0]
    assert [row["validation_accuracy"] for row in run.history] == [1.0, 1.0, 0.0, 0.0]
    assert (run.best_epoch, run.best_validation_accuracy) == (1, 1.0), "the first of equals"
    assert (run.test.accuracy, run.best_test.accuracy) == (0.0, 1.0)
    assert (result.test_accuracy, result.best_test_accuracy) == (0.0, 1.0)
    assert float(result.model.sign.detach()) == -1.0
    best = checkpoint.load(tmp_path / "best.pt")
    assert (best["epoch"], float(best["model"]["sign"])) == (1, 1.0)
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["test_accuracy"], record["best_test_accuracy"], record["best_epoch"]) == (0.0, 1.0, 1)
    assert str(result) == "test accuracy 0.00 %; best epoch on the validation set (1): 100.00 %"


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_the_best_epoch_is_tested_as_if_training_had_ended_there(average):
    choices = {"average": average, "validation": 8, "learning_rate": 0.3}
    whole = train(epochs=6, **choices).runs[0]
    assert whole.best_epoch < 6, "the last would prove little"
    ended = train(epochs=whole.best_epoch, **choices).runs[0]
    assert (whole.best_test.accuracy, whole.best_test.loss) == (ended.test.accuracy, ended.test.loss)
    assert whole.test.loss != ended.test.loss


@pytest.mark.parametrize(
    "choices", [{}, {"average": 0.6}, {"flip": True, "test_flip": True, "average": 0.6}, {"mixed_precision": True}], ids=str
)
def test_the_test_accuracy_is_that_of_the_model_that_is_handed_over(choices):
    data = make_data(test=501)
    result = train(data, epochs=3, validation=8, **choices)
    how = {"flip": choices.get("test_flip", False), "mixed_precision": choices.get("mixed_precision", False)}
    again = evaluated(result.model, data, **how)
    test = result.runs[0].test
    assert (again.accuracy, again.loss) == (test.accuracy, test.loss)
    assert torch.equal(again.confusion, test.confusion)
    assert test.count == 501


def test_with_an_average_it_is_the_average_that_is_validated_tested_and_kept_as_best(tmp_path):
    how = {"epochs": 3, "batch_size": 30, "validation": 10}
    result = train(model=make_net(), average=0.9, out=tmp_path, **how)
    stored, best = checkpoint.latest(tmp_path).state, checkpoint.load(tmp_path / "best.pt")
    handed_over = result.model.state_dict()
    assert not torch.allclose(stored["model"]["5.weight"], handed_over["5.weight"], rtol=1e-4)
    for name, value in handed_over.items():
        assert torch.equal(stored["average"][name], value)
        assert result.runs[0].best_epoch < 3 or torch.equal(best["model"][name], value)
    plain = train(model=make_net(), **how)
    assert result.history[-1]["train_loss"] == plain.history[-1]["train_loss"], "averaging changes nothing in training"
    assert result.history[-1]["validation_loss"] != pytest.approx(plain.history[-1]["validation_loss"], rel=1e-6)
    torch.testing.assert_close(plain.model.state_dict()["5.weight"], stored["model"]["5.weight"], rtol=0, atol=0)
