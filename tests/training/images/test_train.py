"""`unigrid.train` from outside: what it refuses, what it hands back, what it writes, and that networks learn."""

import contextlib
import copy
import csv
import dataclasses
import io
import json
import os
import re
import statistics
import sys

import numpy as np
import pytest
import torch
from torch import nn

import unigrid
from unigrid.conv import MgNetConfig
from unigrid.conv.weights import load_clean_state_dict, load_weights
from unigrid.training import Protocol, evaluate_model, load
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.data.datasets import ImageData, Split
from unigrid.training.runs import checkpoint

PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05)
SMALL = MgNetConfig(steps=(1, 1), features=4)


def make_data(count=40, channels=3, side=8, test=20, **choices):
    """Random images whose class shows in their brightness."""
    rng = np.random.default_rng(count)
    splits = []
    for size in (count, test):
        labels = np.arange(size) % 3
        images = rng.integers(100, size=(size, channels, side, side)) + 60 * labels[:, None, None, None]
        splits.append(Split(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)))
    return ImageData("custom", *splits, ("a", "b", "c"), (0.4,) * channels, (0.25,) * channels, **choices)


def make_net(seed=0, classes=3):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
        )


def train(dataset=None, model=SMALL, protocol=PLAIN, **choices):
    data = make_data() if dataset is None else dataset
    return unigrid.train(data, model, protocol, **{"device": "cpu", "progress": False, **choices})


def evaluated(model, data, **how):
    images = Pipeline(data.test.images, data.mean, data.std, dtype=torch.float32, memory_format=torch.contiguous_format)
    return evaluate_model(model, images, data.test.labels, **how)


def same_weights(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def unmoved(model, start):
    """Whether a learning rate of 1e-30 led from there to here; a bias of 0 may have become 1e-30."""
    pairs = zip(model.parameters(), start.parameters(), strict=True)
    return all(torch.allclose(one, other, rtol=0, atol=1e-20) for one, other in pairs)


# what is refused


@pytest.mark.parametrize(
    ("choices", "kind", "text"),
    [
        ({"dataset": "cifar11"}, ValueError, "unknown dataset or path 'cifar11'; .*did you mean 'cifar10"),
        ({"model": "mgnet-64-Bil"}, ValueError, "unknown model 'mgnet-64-Bil'; did you mean 'mgnet-64-Bl'"),
        ({"model": 3}, TypeError, "model must be a name, a configuration or an nn.Module, got int"),
        ({"model": nn.Conv2d}, TypeError, "model must be a name, a configuration or an nn.Module, got type"),
        ({"model": nn.Flatten()}, ValueError, "the model Flatten has no weights to train"),
        ({"model": make_net(classes=4)}, ValueError, r"maps 2 images to \(2, 4\) in evaluation mode, and \(2, 3\) is needed"),
        ({"model": nn.Conv2d(3, 3, 3)}, ValueError, r"the model Conv2d maps 2 images to \(2, 3, 6, 6\)"),
        ({"protocol": "fsat"}, ValueError, r"unknown protocol 'fsat'; allowed: .*; did you mean 'fast'\?"),
        ({"epoch": 3}, TypeError, r"no argument 'epoch', .*did you mean 'epochs'\?"),
        ({"momentun": 0.5}, TypeError, r"did you mean 'momentum'\?"),
        ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
        ({"batch_size": 41}, ValueError, "batch_size 41 is larger than the 40 training images; take a smaller one"),
        ({"batch_size": 35, "validation": 6}, ValueError, "batch_size 35 is larger than the 34 training images"),
        ({"subset": 41}, ValueError, "subset must be a whole number from 1 to 40, the number of images, got 41"),
        ({"subset": 0}, ValueError, "subset must be a whole number from 1 to 40, the number of images, got 0"),
        ({"validation": 40}, ValueError, "validation must be a count or a share of the 40 training images, got 40"),
        ({"validation": -0.1}, ValueError, "validation must be a count or a share of the 40 training images, got -0.1"),
        ({"validation": float("nan")}, ValueError, "validation must be a count or a share .*, got nan"),
        ({"validation": True}, ValueError, "validation must be a count or a share .*, got True"),
        ({"validation": "0.1"}, ValueError, r"a share of the 40 training images, a path, \(images, labels\) .*, got '0.1'"),
        ({"validation": 31, "subset": 30}, ValueError, "a share of the 30 training images, got 31"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0, or several, got -1"),
        ({"seed": 1.5}, ValueError, "seed must be an integer >= 0, or several, got 1.5"),
        ({"seed": True}, ValueError, "seed must be an integer >= 0, or several, got True"),
        ({"seed": [0, -3]}, ValueError, r"seed must be an integer >= 0, or several, got \[0, -3\]"),
        ({"seed": "12"}, ValueError, "seed must be an integer >= 0, or several, got '12'"),
        ({"seed": []}, ValueError, r"seeds must be different ones, at least one, got \[\]"),
        ({"seed": [2, 2]}, ValueError, r"seeds must be different ones, at least one, got \[2, 2\]"),
        ({"device": "gpu"}, ValueError, "unknown device 'gpu'; allowed: auto, cpu, cuda"),
        ({"resume": True}, ValueError, "resume=True needs out="),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_does(choices, kind, text):
    with pytest.raises(kind, match=text) as error:
        train(**choices)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_is_refused_is_left_as_it_was(training):
    net = make_net(classes=4).train(training)
    with pytest.raises(ValueError, match="the model Sequential maps 2 images to"):
        train(model=net)
    assert net.training is net[1].training is training
    assert same_weights(net, make_net(classes=4))


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda': no GPU is there"):
        train(device="cuda")
    with pytest.raises(ValueError, match="device 'mps': torch"):
        train(device="mps")


def test_images_too_small_for_the_levels_are_refused_before_any_file_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"images of 4 x 4 pixels; 4 levels halve them and need at least 8 x 8"):
        train(make_data(side=4), "mgnet-4-Bl", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_of_one_class_are_refused():
    images = np.zeros((20, 3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="labels must name at least 2 classes, got 1"):
        train((images, np.zeros(20, int)))


def test_an_output_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(unigrid.training.runs.checkpoint.FileError, match="file: the folder cannot be made"):
        train(out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


# data and models of one's own


@pytest.mark.parametrize("kind", ["bytes", "floats", "last", "gray", "tensors", "one pair"])
def test_arrays_of_ones_own(kind):
    data = make_data()
    pairs = [(split.images.numpy(), split.labels.numpy()) for split in (data.train, data.test)]
    if kind == "floats":
        pairs = [(images.astype(np.float32) / 255, labels) for images, labels in pairs]
    if kind == "last":
        pairs = [(np.moveaxis(images, 1, 3), labels) for images, labels in pairs]
    if kind == "gray":
        pairs = [(images[:, 0], labels) for images, labels in pairs]
    if kind == "tensors":
        pairs = [(torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in pairs]
    result = train(pairs[0] if kind == "one pair" else tuple(pairs))
    assert result.configuration["dataset"]["shape"] == [1 if kind == "gray" else 3, 8, 8]
    assert result.configuration["model"]["in_channels"] == (1 if kind == "gray" else 3)
    assert result.configuration["model"]["num_classes"] == 3
    assert result.runs[0].test.count == (sum(np.arange(40) % 3 == 0) // 10 * 3 + 1 if kind == "one pair" else 20)


@pytest.mark.parametrize("model", ["mgnet-4-Bl", "mgnet-4-Bli", MgNetConfig(steps=(1,), features=3), SMALL])
@pytest.mark.parametrize("channels", [1, 3])
def test_models_by_name_and_by_configuration_take_channels_and_classes_from_the_data(model, channels):
    result = train(make_data(channels=channels), model, epochs=1)
    assert result.model(torch.zeros(2, channels, 8, 8)).shape == (2, 3)
    assert not result.model.training
    assert len(result.history) == 1


def test_a_network_of_ones_own_is_trained_in_place_from_its_own_weights():
    net = make_net()
    result = train(model=net, learning_rate=1e-30)
    assert result.model is net
    start = make_net()
    assert unmoved(net, start)
    train(model=net)
    assert not any(torch.equal(one, other) for one, other in zip(net.parameters(), start.parameters(), strict=True))


def test_a_network_that_comes_in_evaluation_mode_is_trained_all_the_same():
    assert same_weights(train(model=make_net().eval()).model, train(model=make_net()).model)


def test_a_network_in_double_precision_stays_in_it():
    result = train(model=make_net().double(), epochs=1)
    assert {value.dtype for value in result.model.parameters()} == {torch.float64}


@pytest.mark.parametrize(("protocol", "low", "high"), [("paper", 1.3, 1.5), ("code", 0.55, 0.6), ("fast", None, None)])
def test_training_begins_from_the_weights_of_the_protocol(protocol, low, high):
    """The deviation of weights times the root of the fan-out: sqrt(2) for Kaiming, 1 / sqrt(3) for PyTorch."""
    choices = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-30, "average": 0.0, "accelerated": False}
    model = train(model=MgNetConfig(steps=(1, 1), features=16), protocol=protocol, **choices).model
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        own = MgNetConfig(steps=(1, 1), features=16, num_classes=3).build()
    assert unmoved(model, own) == (protocol == "fast")
    if low is not None:
        inner = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d) and module.in_channels == 16]
        deviation = float(torch.cat([weight.detach().flatten() for weight in inner]).std()) * 12
        assert low < deviation < high


@pytest.mark.parametrize("pays", [True, False])
def test_bfloat16_is_used_where_it_pays_or_is_asked_for(monkeypatch, pays):
    monkeypatch.setattr(sys.modules["unigrid.training.images.train"], "bfloat16_pays", lambda device: pays)
    protocol = dataclasses.replace(PLAIN, mixed_precision=True)

    def used(**choices):
        kinds = []
        net = make_net()
        net[0].register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype) if module.training else None)
        result = train(model=net, protocol=protocol, epochs=1, **choices)
        assert {torch.bfloat16 if result.configuration["protocol"]["mixed_precision"] else torch.float32} == set(kinds)
        assert {value.dtype for value in result.model.parameters()} == {torch.float32}
        return kinds[0]

    assert used() == (torch.bfloat16 if pays else torch.float32)
    assert used(mixed_precision=True) == torch.bfloat16
    assert used(mixed_precision=False) == torch.float32


# several seeds


def test_several_seeds_are_single_runs_with_mean_and_deviation(tmp_path):
    seeds = (3, 0, 7)
    result = train(seed=seeds, out=tmp_path)
    singles = [train(seed=seed, out=tmp_path / "single" / str(seed)) for seed in seeds]
    accuracies = [single.test_accuracy for single in singles]
    assert [run.seed for run in result.runs] == list(seeds)
    assert [run.test.accuracy for run in result.runs] == accuracies
    assert result.test_accuracy == pytest.approx(sum(accuracies) / 3, rel=1e-12)
    assert result.test_accuracy_std == pytest.approx(np.std(accuracies, ddof=1), rel=1e-9)
    assert result.test_accuracy_std == pytest.approx(statistics.stdev(accuracies), rel=1e-12)
    for run, single in zip(result.runs, singles, strict=True):
        assert same_weights(run.model, single.model)
        assert run.folder == tmp_path / f"seed-{run.seed}"
        assert json.loads((run.folder / "config.json").read_text())["configuration"]["seed"] == run.seed
        assert json.loads((run.folder / "result.json").read_text())["test_accuracy"] == run.test.accuracy
    assert not same_weights(result.runs[0].model, result.runs[1].model)
    assert result.model is result.runs[0].model
    assert result.history is result.runs[0].history
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0", "seed-3", "seed-7", "single"]
    mean, deviation = 100 * result.test_accuracy, 100 * result.test_accuracy_std
    assert str(result) == f"test accuracy {mean:.2f} % +- {deviation:.2f} (standard deviation of 3 seeds)"


def test_a_single_run_has_no_deviation_and_a_sequence_of_one_seed_is_a_single_run(tmp_path):
    result = train(seed=[4], out=tmp_path)
    assert result.test_accuracy_std is None
    assert result.runs[0].folder == tmp_path
    assert same_weights(result.model, train(seed=4).model)


def test_a_callback_that_stops_one_seed_stops_them_all():
    rows = []

    def stop(row):
        rows.append((row["seed"], row["epoch"]))
        if len(rows) == 3:
            raise StopIteration

    result = train(seed=[5, 6, 7], callback=stop)
    assert rows == [(5, 1), (5, 2), (6, 1)]
    assert [run.reason for run in result.runs] == ["completed", "stopped"]


def test_mean_and_deviation_of_best_epochs():
    result = train(seed=range(3), validation=8, epochs=3)
    best = [run.best_test.accuracy for run in result.runs]
    assert result.best_test_accuracy == pytest.approx(np.mean(best), rel=1e-12)
    assert [run.best_epoch for run in result.runs] == [
        1 + int(np.argmax([row["validation_accuracy"] for row in run.history])) for run in result.runs
    ]


def test_with_several_seeds_a_network_of_ones_own_is_copied():
    net = make_net()
    kept = copy.deepcopy(net)
    result = train(model=net, seed=[0, 1])
    assert same_weights(net, kept)
    assert not any(run.model is net for run in result.runs)
    assert same_weights(result.runs[1].model, train(model=make_net(), seed=1).model)


def test_the_users_own_random_numbers_are_left_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    before = np.random.get_state()[1].tolist()
    train(model=nn.Sequential(nn.Dropout(0.3), *make_net()))
    assert torch.equal(torch.rand(3), expected)
    assert np.random.get_state()[1].tolist() == before


def test_the_users_random_numbers_do_not_change_the_run():
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(train(model=nn.Sequential(nn.Dropout(0.3), *make_net())))
    assert same_weights(results[0].model, results[1].model)


# callback, history, progress


def test_the_callback_gets_every_row_and_cannot_change_the_history():
    rows = []

    def callback(row):
        rows.append(dict(row))
        row.clear()

    result = train(epochs=3, validation=8, seed=5, callback=callback)
    assert [row.pop("seed") for row in rows] == [5, 5, 5]
    assert rows == result.history
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {
        "epoch", "step", "train_loss", "train_accuracy", "learning_rate", "images_per_second", "seconds",
        "validation_loss", "validation_accuracy",
    }  # fmt: skip
    assert all(0 <= row["train_accuracy"] <= 1 and row["images_per_second"] > 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert 0 < seconds[0] < seconds[1] < seconds[2] == result.runs[0].seconds


def test_an_error_in_the_callback_is_the_users_to_see():
    def callback(row):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        train(callback=callback)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "shown"),
    [(Terminal, None, True), (io.StringIO, None, False), (Terminal, False, False), (io.StringIO, True, True)],
)
def test_a_progress_bar_is_shown_on_a_terminal_only_or_on_request(monkeypatch, stream, progress, shown):
    error, output = stream(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", error)
    with contextlib.redirect_stdout(output):
        train(progress=progress)
    assert output.getvalue() == ""
    text = error.getvalue()
    assert bool(text) == shown
    if shown:
        assert re.search(r"training: .*10/10 .*epoch 2, loss \d\.\d+, \d+\.\d %", text)


# what is written


FILES = {"config.json", "log.csv", "log.jsonl", "result.json", "weights.safetensors"}


def test_the_files_of_a_run(tmp_path):
    folder = tmp_path / "a" / "run"
    result = train(out=folder, epochs=3, validation=8)
    names = {path.name for path in folder.iterdir() if path.name != "tensorboard"}
    checkpoints = {name for name in names if name.startswith("checkpoint-")}
    assert names - checkpoints == FILES | {"best.pt"}
    assert result.checkpoint == folder / "checkpoint-000000012.pt"
    assert result.checkpoint.name in checkpoints
    assert len(checkpoints) <= 2
    assert result.runs[0].folder == folder

    facts = json.loads((folder / "config.json").read_text())
    assert facts["configuration"] == json.loads(json.dumps(result.configuration))
    assert facts["configuration"]["protocol"] == dataclasses.asdict(dataclasses.replace(PLAIN, epochs=3))
    assert facts["configuration"]["model"]["kind"] == "MgNetConfig"
    assert (facts["configuration"]["seed"], facts["configuration"]["validation"]) == (0, 8)
    assert facts["configuration"]["dataset"]["training_images"] == 32
    assert facts["versions"]["torch"] == torch.__version__

    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows == result.history
    with open(folder / "log.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in table] == rows

    record = json.loads((folder / "result.json").read_text())
    run = result.runs[0]
    assert record == {
        "seed": 0,
        "epochs": 3,
        "step": 12,
        "test_accuracy": run.test.accuracy,
        "test_loss": run.test.loss,
        "test_top5_accuracy": 1.0,
        "tested_epoch": 3,
        "best_epoch": run.best_epoch,
        "best_validation_accuracy": run.best_validation_accuracy,
        "best_test_accuracy": run.best_test.accuracy,
        "seconds": run.seconds,
        "synthetic": False,
        "confusion": run.test.confusion.tolist(),
    }


def test_the_weights_of_a_run_give_its_accuracy_in_a_new_model(tmp_path):
    data = make_data()
    result = train(data, "mgnet-4-Bl", out=tmp_path, epochs=3, average=0.7)
    model = unigrid.create_model("mgnet-4-Bl", num_classes=3)
    metadata = load_weights(model, tmp_path / "weights.safetensors")
    again = evaluated(model, data)
    assert (again.accuracy, again.loss) == (result.test_accuracy, result.runs[0].test.loss)
    assert json.loads(metadata["model"]) == json.loads(json.dumps(result.configuration["model"]))
    assert float(metadata["test_accuracy"]) == pytest.approx(result.test_accuracy, abs=1e-4)


def test_the_best_weights_on_file_are_those_that_were_tested(tmp_path):
    data = make_data()
    result = train(data, out=tmp_path, epochs=4, average=0.5, validation=8, learning_rate=0.3)
    run, best = result.runs[0], checkpoint.load(tmp_path / "best.pt")
    assert (best["epoch"], best["validation_accuracy"]) == (run.best_epoch, run.best_validation_accuracy)
    assert best["configuration"]["model"]["kind"] == "MgNetConfig"
    model = dataclasses.replace(SMALL, num_classes=3).build()
    load_clean_state_dict(model, best["model"])
    again = evaluated(model, data)
    assert (again.accuracy, again.loss) == (run.best_test.accuracy, run.best_test.loss)
    stored = checkpoint.load(result.checkpoint)["best_weights"]
    assert all(torch.equal(value, stored[name]) for name, value in best["model"].items())


def test_a_checkpoint_is_plain_and_has_the_bare_names(tmp_path):
    result = train(out=tmp_path, average=0.9, accelerated=True)
    state = torch.load(result.checkpoint)
    assert set(state) == {"configuration", "model", "optimizer", "average", "best_weights", "progress", "random"}
    model = dataclasses.replace(SMALL, num_classes=3).build()
    assert set(state["model"]) == set(model.state_dict())
    assert not [name for name in state["model"] if "_orig_mod" in name or name.startswith("module")]
    assert state["configuration"] == result.configuration


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = train(validation=8)
    assert result.checkpoint is result.runs[0].folder is None
    assert os.listdir(tmp_path) == []


def test_synthetic_data_are_called_so(tmp_path):
    result = train(make_data(synthetic=True), out=tmp_path)
    assert str(result).endswith(" [synthetic data]")
    assert json.loads((tmp_path / "result.json").read_text())["synthetic"] is True


# networks learn


@pytest.mark.slow
def test_a_small_network_learns_shapes():
    data = load("shapes")
    part = dataclasses.replace(data, test=data.test.subset(500))
    result = train(part, "mgnet-8-Bl", "fast", epochs=5, subset=800, batch_size=16, learning_rate=0.4, average=0.9)
    assert result.test_accuracy > 0.25, "10 % is chance; its deviation is 1.3 %"
    losses = [row["train_loss"] for row in result.history]
    assert losses[-1] < losses[1] < losses[0]


@pytest.mark.slow
def test_a_small_network_learns_real_photographs():
    if not os.environ.get("UNIGRID_DATA"):
        pytest.skip("needs UNIGRID_DATA with cifar-10")
    result = train("cifar10", "mgnet-16-Bl", "fast", epochs=3, subset=2000, batch_size=32, average=0.9)
    assert result.test_accuracy > 0.25
    assert result.runs[0].test.count == 10_000
    assert not str(result).endswith("[synthetic data]")


# results as text


def test_results_have_a_short_repr():
    result = train(make_data(synthetic=True), seed=[0, 1], validation=8)
    assert repr(result) == f"TrainResult(MgNet on custom, protocol plain: {result})"
    assert "\n" not in repr(result)
    accuracy = 100 * result.runs[1].test.accuracy
    assert (
        repr(result.runs[1].test) == f"Evaluation(accuracy {accuracy:.2f} % of 20 images, loss {result.runs[1].test.loss:.4f})"
    )
    assert repr(result.runs[1]) == f"SeedRun(seed 1: MgNet, completed after 2 epochs, test accuracy {accuracy:.2f} %)"


def test_a_stopped_result_has_a_short_repr():
    def stop(row):
        raise StopIteration

    result = train(callback=stop)
    assert repr(result) == "TrainResult(MgNet on custom, protocol plain: stopped after 1 epochs; the test set was not read)"
    assert repr(result.runs[0]) == "SeedRun(seed 0: MgNet, stopped after 1 epoch)"
