"""Resuming, bit for bit: what two runs leave behind, one straight and one interrupted, compared number by number."""

import dataclasses
import errno
import json
import os
import shutil
import signal

import pytest
import torch
from few_images import few_images
from torch import nn
from torch.nn import functional

import unigrid
from unigrid.files import FileError
from unigrid.training import Protocol
from unigrid.training.images import loop
from unigrid.training.runs import checkpoint
from unigrid.training.runs.checkpoint import CheckpointError

EPOCHS, STEPS, BATCH = 4, 3, 10  # 38 images, 8 of them for validation
PLAIN = Protocol("plain", EPOCHS, batch_size=BATCH, decay_every=1, decay=0.7, weight_decay=0.01, pad=1, flip=True, cutout=2)
CYCLE = dataclasses.replace(
    PLAIN, schedule="one-cycle", learning_rate=0.5, nesterov=True, decay_norms=False, label_smoothing=0.1, average=0.8,
    mixed_precision=True, accelerated=True, test_flip=True, initialization="own",
)  # fmt: skip
TIMES = ("seconds", "epoch_seconds", "images_per_second")


class Dropping(nn.Module):
    """A network with a dropout, which draws from torch's own generator; `at_step(k)` is called before its k-th batch."""

    def __init__(self, at_step=None, seed=0, width=4):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.convolution = nn.Conv2d(3, width, 3, bias=False)
            self.norm = nn.BatchNorm2d(width)
            self.dropout = nn.Dropout(0.4)
            self.head = nn.Linear(width, 3)
        self.at_step, self.steps = at_step, 0

    def forward(self, images):
        if self.training:
            self.steps += 1
            if self.at_step is not None:
                self.at_step(self.steps)
        features = functional.relu(self.norm(self.convolution(images))).mean((2, 3))
        return self.head(self.dropout(features))


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """A checkpoint at the end of every epoch, however short."""
    monkeypatch.setattr(loop, "SAVE_SHARE", -1)


def train(out, protocol=PLAIN, model=None, **choices):
    choices = {"device": "cpu", "progress": False, "validation": 8, "mixed_precision": protocol.mixed_precision, **choices}
    return unigrid.train(choices.pop("data", few_images(38)), model or Dropping(), protocol, out=out, **choices)


def stop_after(epoch):
    def callback(row):
        if row["epoch"] == epoch:
            raise StopIteration

    return callback


def interrupt_at(step):
    return lambda number: signal.raise_signal(signal.SIGINT) if number == step else None


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def different(one, other, place=""):
    """The places where two states differ in a single bit, times left out."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
        return [] if same else [place]
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in {**one, **other} if name not in TIMES]
        return [found for name in names for found in different(one.get(name), other.get(name), f"{place}/{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for at, (a, b) in enumerate(zip(one, other, strict=True)) for found in different(a, b, f"{place}/{at}")]
    return [] if type(one) is type(other) and one == other else [place]


def left_behind(result):
    """Everything of a finished run that has to be the same, times left out."""
    run = result.runs[0]
    rows = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    best = run.folder / "best.pt"
    return {
        "state": checkpoint.load(result.checkpoint),
        "best": checkpoint.load(best) if best.exists() else None,
        "weights": {name: value.clone() for name, value in result.model.state_dict().items()},
        "history": without_times(result.history),
        "log": without_times(rows),
        "table": [line.split(",")[0] for line in (run.folder / "log.csv").read_text().splitlines()],
        "result": without_times(json.loads((run.folder / "result.json").read_text())),
        "test": [run.test.accuracy, run.test.loss, run.test.confusion],
        "best test": [run.best_test.accuracy, run.best_test.loss] if run.best_test else None,
    }


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """straight(protocol) -> what a run without any interruption leaves behind."""
    kept = {}

    def run(protocol):
        if protocol not in kept:
            kept[protocol] = left_behind(train(tmp_path_factory.mktemp("straight"), protocol))
        return kept[protocol]

    return run


PROTOCOLS = pytest.mark.parametrize("protocol", [PLAIN, CYCLE], ids=["plain", "as in fast"])


@PROTOCOLS
def test_the_same_run_twice_is_the_same_and_another_seed_is_another(tmp_path, straight, protocol):
    assert different(left_behind(train(tmp_path / "again", protocol)), straight(protocol)) == []
    places = different(left_behind(train(tmp_path / "other", protocol, seed=1)), straight(protocol))
    assert "/weights/convolution.weight" in places


@PROTOCOLS
def test_four_epochs_are_two_and_two(tmp_path, straight, protocol):
    stopped = train(tmp_path, protocol, callback=stop_after(2))
    assert (stopped.runs[0].reason, stopped.test_accuracy, len(stopped.history)) == ("stopped", None, 2)
    assert str(stopped) == "stopped after 2 epochs; the test set was not read"
    assert not (tmp_path / "result.json").exists()
    resumed = train(tmp_path, protocol, Dropping(seed=99), resume=True)
    assert resumed.runs[0].reason == "completed"
    assert different(left_behind(resumed), straight(protocol)) == []


@PROTOCOLS
@pytest.mark.parametrize("step", [1, 3, 5, 11, 12], ids=lambda step: f"step {step}")
def test_a_run_that_ctrl_c_ended_in_the_middle_of_an_epoch_goes_on_bit_for_bit(tmp_path, straight, protocol, step):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, protocol, Dropping(interrupt_at(step)))
    progress = checkpoint.latest(tmp_path).state["progress"]
    assert (progress["step"], progress["epoch"] * STEPS + progress["batch"]) == (step, step)
    model = Dropping(seed=99)
    resumed = train(tmp_path, protocol, model, resume=True)
    assert model.steps == EPOCHS * STEPS - step
    assert different(left_behind(resumed), straight(protocol)) == []


@PROTOCOLS
def test_a_run_interrupted_again_and_again_goes_on_bit_for_bit(tmp_path, straight, protocol):
    for seed in (0, 5):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, protocol, Dropping(interrupt_at(2), seed=seed), resume=True)
    train(tmp_path, protocol, Dropping(seed=6), callback=stop_after(3), resume=True)
    assert different(left_behind(train(tmp_path, protocol, Dropping(seed=7), resume=True)), straight(protocol)) == []


def test_ctrl_c_during_validation_or_in_the_callback_ends_the_run_after_the_next_step(tmp_path, straight):
    def interrupt(row):
        if row["epoch"] == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, callback=interrupt)
    assert checkpoint.latest(tmp_path).step == 2 * STEPS + 1
    assert different(left_behind(train(tmp_path, resume=True)), straight(PLAIN)) == []


def test_a_run_that_was_killed_goes_on_from_a_checkpoint_within_an_epoch(tmp_path, straight, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1.0)
    monkeypatch.setattr(loop, "CHECK_EVERY", 1)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, model=Dropping(die_at(9)))
    progress = checkpoint.latest(tmp_path).state["progress"]
    assert (progress["epoch"], progress["batch"]) == (2, 2)
    assert different(left_behind(train(tmp_path, resume=True)), straight(PLAIN)) == []


def die_at(step):
    def at_step(number):
        if number == step:
            raise RuntimeError("killed")

    return at_step


def test_a_run_whose_newest_checkpoint_is_old_repeats_the_epochs_since(tmp_path, straight, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)  # after the first, no epoch is worth a checkpoint
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, model=Dropping(die_at(11)))
    assert checkpoint.latest(tmp_path).step == STEPS
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    assert different(left_behind(train(tmp_path, resume=True)), straight(PLAIN)) == []


@pytest.mark.parametrize(("cost", "expected"), [(1, [3, 9, 12, 18, 24]), (10, [3, 18, 24])])
def test_epochs_that_are_long_beside_a_checkpoint_end_with_one(tmp_path, monkeypatch, cost, expected):
    """At least one in 20 times what a checkpoint costs, in a minute, and at the end."""
    monkeypatch.setattr(loop, "SAVE_SHARE", 20)
    clock, saved = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    real = checkpoint.save

    def save(folder, state, step):
        clock[0] += cost
        saved.append(step)
        return real(folder, state, step)

    monkeypatch.setattr(checkpoint, "save", save)
    seconds = [1, 5, 16, 21, 3, 70, 2, 2]  # how long the epochs take

    def at_step(number):
        if number % STEPS == 1:
            clock[0] += seconds[number // STEPS]

    train(tmp_path, model=Dropping(at_step), epochs=8)
    assert saved == expected


@pytest.mark.parametrize(("epoch", "expected"), [(1, [3]), (2, [3, 6])])
def test_a_run_that_is_stopped_is_saved_once(tmp_path, monkeypatch, epoch, expected):
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)  # after the first, no epoch is worth a checkpoint
    saved = []
    real = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda folder, state, step: (saved.append(step), real(folder, state, step))[1])
    train(tmp_path, callback=stop_after(epoch))
    assert saved == expected


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_with_its_newest_checkpoint_damaged_a_run_goes_on_from_the_one_before(tmp_path, straight, capsys, damage):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, model=Dropping(interrupt_at(8)))
    newest = checkpoint.latest(tmp_path).path
    content = newest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    newest.write_bytes({"truncated": content[:-7], "flipped": flipped, "empty": b""}[damage])
    capsys.readouterr()
    model = Dropping()
    resumed = train(tmp_path, model=model, resume=True)
    assert f"unigrid: {newest}: " in capsys.readouterr().err
    assert model.steps == 2 * STEPS
    assert different(left_behind(resumed), straight(PLAIN)) == []


def test_with_no_checkpoint_left_whole_the_run_says_so_and_touches_nothing(tmp_path):
    train(tmp_path, callback=stop_after(2))
    for path in tmp_path.glob("checkpoint-*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints can be loaded"):
        train(tmp_path, resume=True)
    assert contents(tmp_path) == before


# negative controls: the comparison above sees each part of the state that goes missing


def _another_generator(state):
    return torch.Generator().manual_seed(77).get_state()


CONTROLS = {
    "order and augmentation": (("random", "epoch"), _another_generator),
    "torch's random numbers": (("random", "torch"), _another_generator),
    "position": (("progress", "batch"), lambda batch: 0),
    "step": (("progress", "step"), lambda step: step + 1),
    "model": (("model", "norm.running_mean"), torch.zeros_like),
    "optimizer": (("optimizer", "state"), lambda state: {}),
    "average": (("average", "head.bias"), torch.zeros_like),
    "sum of the losses": (("progress", "loss"), lambda loss: 0.0),
    "right answers": (("progress", "correct"), lambda correct: 0.0),
    "images seen": (("progress", "seen"), lambda seen: 0),
    "history": (("progress", "history"), lambda history: history[1:]),
    "best epoch": (("progress", "best"), lambda best: {"epoch": 1, "validation_accuracy": 2.0}),
    "weights of the best epoch": (("best_weights", "head.bias"), torch.zeros_like),
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that stopped in the middle of its third epoch."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(KeyboardInterrupt):
        train(folder, CYCLE, Dropping(interrupt_at(8)), learning_rate=1e-3)
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return left_behind(train(tmp_path_factory.mktemp("expected"), CYCLE, learning_rate=1e-3))


@pytest.mark.parametrize("part", CONTROLS)
def test_without_this_part_of_its_state_a_run_does_not_go_on_bit_for_bit(tmp_path, interrupted, expected, part):
    assert expected["state"]["progress"]["best"]["epoch"] < 3, "the best epoch has to lie in what was stored"
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    assert different(left_behind(train(folder, CYCLE, learning_rate=1e-3, resume=True)), expected) == []
    shutil.rmtree(folder)
    shutil.copytree(interrupted, folder)
    loaded = checkpoint.latest(folder)
    *way, last = CONTROLS[part][0]
    place = loaded.state
    for name in way:
        place = place[name]
    changed = CONTROLS[part][1](place[last])
    assert different(changed, place[last]) != []
    place[last] = changed
    checkpoint.save(folder, loaded.state, loaded.step)
    assert different(left_behind(train(folder, CYCLE, learning_rate=1e-3, resume=True)), expected) != []


def test_the_random_states_matter_for_the_weights_themselves(tmp_path, straight, monkeypatch):
    """The control that the issue asks for: a run that forgets its random states ends elsewhere."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, model=Dropping(interrupt_at(8)))
    real = loop.ImageRun.restore

    def forgetful(run, state):
        fresh = {"epoch": run.generator.get_state(), "torch": torch.get_rng_state(), "cuda": None}
        real(run, {**state, "random": fresh})

    monkeypatch.setattr(loop.ImageRun, "restore", forgetful)
    places = different(left_behind(train(tmp_path, resume=True)), straight(PLAIN))
    assert "/weights/convolution.weight" in places


# what may change between a run and its resumption


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("choices", "difference"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"batch_size": 15}, "protocol.batch_size: 10 there, 15 now"),
        ({"learning_rate": 0.2}, "protocol.learning_rate: 0.1 there, 0.2 now"),
        ({"protocol": dataclasses.replace(PLAIN, name="other")}, "protocol.name: 'plain' there, 'other' now"),
        ({"validation": 0.25}, "validation: 8 there, 0.25 now"),
        ({"subset": 30}, "subset: None there, 30 now"),
        ({"data": few_images(38, seed=39)}, "dataset.fingerprint: "),
        ({"data": few_images(40)}, "dataset.training_images: 30 there, 32 now"),
        ({"model": unigrid.MgNetConfig(steps=(1, 1), features=4)}, "model.kind: 'custom Dropping' there, 'MgNetConfig' now"),
        ({"model": Dropping(width=5)}, r"other model or options\?.* came with shape \(4, 3, 3, 3\), wanted is \(5, 3, 3, 3\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_as_another_one(tmp_path, choices, difference):
    train(tmp_path, callback=stop_after(1))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=difference) as error:
        train(tmp_path, **choices, resume=True)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == before


def test_a_named_model_is_not_resumed_as_another(tmp_path):
    config = unigrid.MgNetConfig(steps=(1, 1), features=4)
    train(tmp_path, model=config, callback=stop_after(1))
    with pytest.raises(ValueError, match="holds another run, which cannot be resumed as this one") as error:
        train(tmp_path, model=dataclasses.replace(config, extractor_sharing="step"), resume=True)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "model.extractor_sharing: 'level' there, 'step' now" in str(error.value)
    assert train(tmp_path, model=config, resume=True).runs[0].reason == "completed"


def test_more_epochs_are_no_other_run_where_the_rate_does_not_depend_on_them(tmp_path, straight):
    short = train(tmp_path, epochs=2)
    assert len(short.history) == 2
    assert (tmp_path / "result.json").exists()
    longer = train(tmp_path, epochs=4, resume=True)
    assert different(left_behind(longer), straight(PLAIN)) == []


def test_more_epochs_of_one_cycle_are_another_run(tmp_path):
    train(tmp_path, CYCLE, epochs=2)
    with pytest.raises(ValueError, match=r"protocol\.epochs: 2 there, 4 now"):
        train(tmp_path, CYCLE, epochs=4, resume=True)


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path):
    train(tmp_path, callback=stop_after(1))
    before, model = contents(tmp_path), Dropping()
    with pytest.raises(FileError, match=r"holds a run already; resume=True \(--resume\) goes on with it") as error:
        train(tmp_path, model=model)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert contents(tmp_path) == before
    assert model.steps == 0


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
def test_without_a_checkpoint_a_run_begins(tmp_path, straight, there):
    folder = tmp_path / "deep" / "run"
    if there:
        folder.mkdir(parents=True)
    assert different(left_behind(train(folder, resume=True)), straight(PLAIN)) == []


@pytest.mark.parametrize("rows", [0, 1], ids=["in the first epoch", "after its row"])
def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, straight, monkeypatch, rows):
    with monkeypatch.context() as patch:
        if rows:
            patch.setattr(loop.ImageRun, "save", lambda run: die_at(0)(0))
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path, model=Dropping(None if rows else die_at(2)))
    assert checkpoint.latest(tmp_path) is None
    log = tmp_path / "log.jsonl"
    assert (len(log.read_text().splitlines()) if log.exists() else 0) == rows
    assert different(left_behind(train(tmp_path, resume=True)), straight(PLAIN)) == []


@PROTOCOLS
def test_a_finished_run_resumed_gives_its_result_again(tmp_path, straight, protocol):
    train(tmp_path, protocol)
    model = Dropping(seed=99)
    again = train(tmp_path, protocol, model, resume=True)
    assert model.steps == 0
    assert different(left_behind(again), straight(protocol)) == []


def test_resuming_needs_a_folder():
    with pytest.raises(ValueError, match="resume=True needs out=, the folder of the run to go on with"):
        train(None, resume=True)


def test_several_seeds_are_resumed_each_from_its_own_folder(tmp_path):
    choices = {"model": unigrid.MgNetConfig(steps=(1, 1), features=4), "seed": [0, 1]}
    whole = train(tmp_path / "whole", **choices)
    epochs = []

    def stop(row):
        epochs.append(row["epoch"])
        if len(epochs) == EPOCHS + 2:
            raise StopIteration

    stopped = train(tmp_path / "parts", **choices, callback=stop)
    assert [run.reason for run in stopped.runs] == ["completed", "stopped"]
    assert stopped.test_accuracy == stopped.runs[0].test.accuracy
    resumed = train(tmp_path / "parts", **choices, resume=True)
    for one, other in zip(resumed.runs, whole.runs, strict=True):
        assert different(checkpoint.load(one.checkpoint), checkpoint.load(other.checkpoint)) == []
        assert one.test.accuracy == other.test.accuracy


# options of fine-tuning


@pytest.mark.parametrize(
    "choices",
    [
        {"optimizer": "adamw"}, {"schedule": "cosine"}, {"clip_grad": 0.1}, {"class_weights": "balanced"}, {"mixup": 0.3},
        {"cutmix": 1.0}, {"patience": 2, "learning_rate": 1e-9}, {"stratify": True},
        {"optimizer": "muon", "first_size": 4, "whitening": True, "initialization": "identity"},
        {"optimizer": "adamw", "schedule": "cosine", "mixup": 0.3, "cutmix": 1.0, "clip_grad": 1.0, "average": 0.8,
         "patience": 1, "class_weights": (1, 2, 3), "stratify": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("step", [2, 5])
def test_every_option_is_resumed_bit_for_bit(tmp_path, choices, step):
    protocol = PLAIN.with_choices(**choices)
    whole = train(tmp_path / "straight", protocol)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", protocol, Dropping(interrupt_at(step)))
    torch.manual_seed(step)
    resumed = train(tmp_path / "parts", protocol, Dropping(seed=5), resume=True)
    assert different(left_behind(resumed), left_behind(whole)) == []


def test_a_run_that_ended_early_and_is_resumed_gives_its_result_again(tmp_path):
    choices = {"patience": 2, "learning_rate": 1e-12, "epochs": 9}
    first = train(tmp_path, **choices)
    assert len(first.history) < 9
    model = Dropping(seed=9)
    again = train(tmp_path, model=model, **choices, resume=True)
    assert model.steps == 0
    assert different(left_behind(again), left_behind(first)) == []


def test_fine_tuning_is_resumed_from_the_same_weights_only(tmp_path):
    config = unigrid.MgNetConfig(steps=(1, 1), features=4)
    first, other = (train(tmp_path / str(seed), model=config, seed=seed, epochs=1).runs[0].folder for seed in (0, 1))
    choices = {"model": config, "new_head": True}
    train(tmp_path / "run", weights=first, callback=stop_after(1), **choices)
    with pytest.raises(FileError, match=r"holds another run, .*\(weights.sha256: "):
        train(tmp_path / "run", weights=other, resume=True, **choices)
    resumed = train(tmp_path / "run", weights=first, resume=True, **choices)
    straight = train(tmp_path / "straight", weights=first, **choices)
    assert different(left_behind(resumed), left_behind(straight)) == []


# disks that are full


@pytest.mark.parametrize("step", [None, 6], ids=["at the end of an epoch", "at Ctrl-C"])
def test_a_full_disk_is_told_and_the_earlier_checkpoint_still_serves(tmp_path, monkeypatch, step):
    full = [False]
    real = os.fsync

    def fsync(descriptor):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    def at_step(number):
        if number == 5:
            full[0] = True
        if number == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FileError, match=r"checkpoint-0000000\d\d\.pt: cannot be written \(No space left on device\)"):
        train(tmp_path, model=Dropping(at_step), validation=0)
    assert checkpoint.latest(tmp_path).step == 4
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    full[0] = False
    whole = left_behind(train(tmp_path / "whole", validation=0))
    assert different(left_behind(train(tmp_path, validation=0, resume=True)), whole) == []
