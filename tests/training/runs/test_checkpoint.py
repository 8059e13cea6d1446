"""Checkpoints under attack: kill -9, full disks, truncation, flipped bytes, malicious pickles; and what may be in one."""

import collections
import hashlib
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unigrid.files import FileError
from unigrid.training.runs import checkpoint
from unigrid.training.runs.checkpoint import CheckpointError


def make_state(step, size=300):
    return {"step": step, "model": {"weight": torch.full((size,), float(step)), "count": torch.tensor(step)}}


def assert_holds(loaded, step):
    assert loaded.step == step
    assert loaded.path.name == f"checkpoint-{step:09d}.pt"
    assert loaded.state["step"] == step
    assert torch.equal(loaded.state["model"]["weight"], torch.full((300,), float(step)))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder):
    return sorted(contents(folder))


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def write_by_hand(path, payload, version=2):
    """A file of the format that the docstring of checkpoint.py describes."""
    front = f"unigrid-checkpoint {version} {len(payload)} ".encode()
    line = front + hashlib.sha256(front + payload).hexdigest().encode() + b"\n"
    path.write_bytes(line + payload if version == 1 else payload + b"\n" + line)


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture
def three(tmp_path):
    """A folder of a run that saved at steps 10, 20 and 30."""
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, make_state(step), step)
    return tmp_path


def test_the_file_is_what_the_docstring_says(tmp_path):
    content = checkpoint.save(tmp_path, make_state(3), 3).read_bytes()
    payload, line, last = content.rsplit(b"\n", 2)
    name, version, length, digest = line.decode().split(" ")
    assert (name, version, int(length), last) == ("unigrid-checkpoint", "2", len(payload), b"")
    assert hashlib.sha256(line[: -len(digest)] + payload).hexdigest() == digest
    assert torch.load(io.BytesIO(payload), weights_only=True)["step"] == 3
    write_by_hand(tmp_path / "again.pt", payload)
    assert (tmp_path / "again.pt").read_bytes() == content


def test_all_that_training_has_to_remember_comes_back(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    schedule.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": {"python": random.getstate(), "torch": torch.get_rng_state()},
        "plain": [True, None, "text", 10**30, 0.1, float("inf"), -0.0, (1, [2, {3: (4,)}])],
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "parameter": nn.Parameter(torch.ones(2)),
    }
    loaded = checkpoint.load(checkpoint.save(tmp_path, state, 1))
    assert loaded["plain"] == state["plain"]
    assert loaded["random"]["python"] == random.getstate()
    assert torch.equal(loaded["random"]["torch"], state["random"]["torch"])
    assert loaded["schedule"] == schedule.state_dict()
    assert torch.equal(loaded["half"].view(torch.int16), state["half"].view(torch.int16))
    assert type(loaded["parameter"]) is torch.Tensor
    assert type(loaded["model"]) is dict
    for key, value in model.state_dict().items():
        assert torch.equal(loaded["model"][key], value)
        assert loaded["model"][key].stride() == value.stride()
    moment = loaded["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moment, optimizer.state_dict()["state"][0]["exp_avg"])
    torch.optim.AdamW(model.parameters()).load_state_dict(loaded["optimizer"])


def test_a_small_part_of_a_big_tensor_is_a_small_file(tmp_path):
    big = torch.arange(1_000_000.0)
    path = checkpoint.save(tmp_path, {"part": big[5:8]}, 1)
    assert path.stat().st_size < 10_000
    assert checkpoint.load(path)["part"].tolist() == [5, 6, 7]


def test_a_tensor_that_stands_twice_is_written_once(tmp_path):
    weight = torch.ones(100_000)
    path = checkpoint.save(tmp_path, {"model": weight, "average": weight}, 1)
    assert path.stat().st_size < 1.5 * weight.nbytes


class Foo:
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"config": {"x": Foo()}}, r"state\['config'\]\['x'\] is a .*Foo; a checkpoint holds tensors, numbers"),
        ({"a": [1, (2, {3})]}, r"state\['a'\]\[1\]\[1\] is a set"),
        ({"a": np.float64(1)}, r"state\['a'\] is a numpy\.float64"),
        ({"a": np.ones(2)}, r"state\['a'\] is a numpy\.ndarray"),
        ({"a": Path("x")}, r"state\['a'\] is a pathlib"),
        ({"a": torch.float32}, r"state\['a'\] is a torch\.dtype"),
        ({"a": torch.device("cpu")}, r"state\['a'\] is a torch\.device"),
        ({"a": Point(1, 2)}, r"state\['a'\] is a .*Point"),
        ({"a": collections.Counter()}, r"state\['a'\] is a collections\.Counter"),
        ({"a": len}, r"state\['a'\] is a builtin_function_or_method"),
        ({"a": {(1, 2): 3}}, r"state\['a'\] has a tuple for a key"),
        ({"a": torch.ones(2).to_sparse()}, r"state\['a'\] is a torch\.Tensor \(torch\.sparse_coo, cpu\); give a plain, dense"),
        ({"a": torch.ones(2, device="meta")}, r"state\['a'\] is a torch\.Tensor \(torch\.strided, meta\)"),
    ],
)
def test_what_could_not_be_loaded_is_refused_by_its_place(three, state, text):
    before = contents(three)
    with pytest.raises(TypeError, match=text):
        checkpoint.save(three, state, 40)
    assert contents(three) == before


def test_the_last_two_are_kept(tmp_path):
    folder = tmp_path / "runs" / "first"
    kept = []
    for step in (9, 10, 100, 999_999_999, 1_000_000_000):
        path = checkpoint.save(folder, make_state(step), step)
        kept = [*kept[-1:], path.name]
        assert names(folder) == sorted(kept)
        assert checkpoint.latest(folder).path == path
    assert kept == ["checkpoint-999999999.pt", "checkpoint-1000000000.pt"]


def test_the_older_ones_are_there_until_the_new_one_is(three, monkeypatch):
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append(names(three))
        replace(source, target)
        seen.append(names(three))

    monkeypatch.setattr(os, "replace", watched)
    checkpoint.save(three, make_state(40), 40)
    temporary = f".checkpoint-000000040.pt.{os.getpid()}.tmp"
    assert seen[0] == [temporary, "checkpoint-000000020.pt", "checkpoint-000000030.pt"]
    assert seen[1] == [f"checkpoint-0000000{step}.pt" for step in (20, 30, 40)]
    assert names(three) == [f"checkpoint-0000000{step}.pt" for step in (30, 40)]


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folders, so only the file can be synced")
def test_the_file_is_synced_before_it_takes_its_name_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace

    def watched_sync(descriptor):
        status = os.fstat(descriptor)
        calls.append("folder" if os.path.samestat(status, os.stat(tmp_path)) else status.st_size)
        sync(descriptor)

    def watched_replace(source, target):
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    path = checkpoint.save(tmp_path, make_state(1), 1)
    assert calls == [path.stat().st_size, "replace", "folder"]


def test_a_step_saved_again_replaces_the_first(three):
    checkpoint.save(three, {"step": "again"}, 30)
    assert names(three) == ["checkpoint-000000020.pt", "checkpoint-000000030.pt"]
    assert checkpoint.latest(three).state == {"step": "again"}


def test_what_was_just_written_stays_though_later_steps_are_there(three):
    path = checkpoint.save(three, make_state(5), 5)
    assert path.exists()
    assert names(three) == [f"checkpoint-0000000{step}.pt" for step in ("05", "20", "30")]


def test_a_damaged_one_is_never_the_one_that_is_kept(three):
    damaged = three / "checkpoint-000000030.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    checkpoint.save(three, make_state(40), 40)
    assert names(three) == ["checkpoint-000000020.pt", "checkpoint-000000040.pt"]


def test_a_run_that_fell_back_leaves_the_damaged_one_behind(three):
    damaged = three / "checkpoint-000000030.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    checkpoint.save(three, make_state(25), 25)
    assert names(three) == ["checkpoint-000000020.pt", "checkpoint-000000025.pt"]
    assert checkpoint.latest(three).messages == ()


def test_a_newer_format_is_not_taken_for_damage(three):
    write_by_hand(three / "checkpoint-000000090.pt", torch_bytes({}), version=3)
    checkpoint.save(three, make_state(40), 40)
    assert "checkpoint-000000090.pt" in names(three)


@pytest.mark.parametrize("earlier", [(), (10,), (10, 20, 30)])
def test_a_newer_format_is_not_gone_back_from(tmp_path, earlier):
    for step in earlier:
        checkpoint.save(tmp_path, make_state(step), step)
    write_by_hand(tmp_path / "checkpoint-000000090.pt", torch_bytes({}), version=3)
    with pytest.raises(CheckpointError, match="written by a newer unigrid") as error:
        checkpoint.latest(tmp_path)
    assert one_line(error).startswith(f"{tmp_path / 'checkpoint-000000090.pt'}: ")


def test_what_a_killed_process_left_is_swept_away_and_nothing_else(three):
    for name in (".checkpoint-000000040.pt.4711.tmp", ".best.pt.4711.tmp", ".log.csv.4711.tmp"):
        (three / name).write_bytes(b"half")
    others = [".notes.txt.4711.tmp", "checkpoint-000000001.pt.bak", "checkpoint-1.pt", "log.csv", "my.tmp"]
    for name in others:
        (three / name).touch()
    checkpoint.save(three, make_state(40), 40)
    assert names(three) == sorted([*others, "checkpoint-000000030.pt", "checkpoint-000000040.pt"])


def test_the_best_is_a_file_of_its_own(three):
    before = names(three)
    for step in (1, 2):
        assert checkpoint.save_best(three, make_state(step)) == three / "best.pt"
        assert checkpoint.load(three / "best.pt")["step"] == step
    assert names(three) == sorted([*before, "best.pt"])
    assert_holds(checkpoint.latest(three), 30)
    checkpoint.save(three, make_state(40), 40)
    assert "best.pt" in names(three)


def test_without_any_checkpoint_there_is_none(tmp_path):
    assert checkpoint.latest(tmp_path / "nowhere") is None
    checkpoint.save_best(tmp_path, make_state(1))
    assert checkpoint.latest(tmp_path) is None


def test_a_file_cut_anywhere_gives_the_one_before(three):
    path = three / "checkpoint-000000030.pt"
    whole = path.read_bytes()
    spread = np.random.default_rng(0).integers(1, len(whole), 30).tolist()
    for kept in [0, 1, 17, 18, 19, 25, 60, 90, len(whole) - 1, *spread]:
        path.write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match=r"empty|truncated") as error:
            checkpoint.load(path)
        assert one_line(error).startswith(f"{path}: ")
        loaded = checkpoint.latest(three)
        assert_holds(loaded, 20)
        assert len(loaded.messages) == 1
        assert loaded.messages[0] == f"{error.value}; going back to checkpoint-000000020.pt"


def test_a_byte_flipped_anywhere_gives_the_one_before(three):
    path = three / "checkpoint-000000030.pt"
    whole = path.read_bytes()
    line = whole.rindex(b"\n", 0, -1)
    rng = np.random.default_rng(1)
    positions = [0, 1, 2, 3, *rng.integers(4, line, 40).tolist(), *range(line, len(whole), 4), len(whole) - 1]
    for position in positions:
        for change in (1 << int(rng.integers(8)), 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= change
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"damaged|truncated") as error:
                checkpoint.load(path)
            one_line(error)
            loaded = checkpoint.latest(three)
            assert_holds(loaded, 20)
            assert loaded.messages == (f"{error.value}; going back to checkpoint-000000020.pt",)


def test_bytes_too_many_are_damage(three):
    path = three / "checkpoint-000000030.pt"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


def test_where_all_are_damaged_each_is_named(three):
    for name in names(three):
        (three / name).write_bytes(b"\0" * 500)
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints can be loaded") as error:
        checkpoint.latest(three)
    for name in names(three):
        assert str(three / name) in one_line(error)


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.pt").write_text("not at all a checkpoint\n")
    torch.save({"a": 1}, tmp_path / "torch.pt")
    write_by_hand(tmp_path / "list.pt", torch_bytes([1, 2]))
    write_by_hand(tmp_path / "noise.pt", b"PK\3\4 and no more")
    write_by_hand(tmp_path / "newer.pt", torch_bytes({"a": 1}), version=3)
    for name, text in {
        "text.pt": "not a checkpoint of unigrid",
        "torch.pt": "or not a checkpoint of unigrid",
        "list.pt": "holds a list, a checkpoint holds a dict",
        "noise.pt": "unigrid did not write it, and nothing of it was run",
        "newer.pt": r"written by a newer unigrid \(format 3, this one reads 2\); pip install --upgrade unigrid",
        "missing.pt": "cannot be read .No such file",
        ".": "cannot be read",
    }.items():
        with pytest.raises(CheckpointError, match=text) as error:
            checkpoint.load(tmp_path / name)
        assert one_line(error).startswith(str(tmp_path / name))


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["zip", "pickle", "protocol 4"])
def test_a_malicious_pickle_runs_no_code(three, form):
    evil = {"step": 40, "model": Malicious(three / "ran")}
    payload = {"zip": torch_bytes, "pickle": pickle.dumps, "protocol 4": lambda value: pickle.dumps(value, 4)}[form](evil)
    path = three / "checkpoint-000000040.pt"
    write_by_hand(path, payload)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(CheckpointError, match="nothing of it was run") as error:
            checkpoint.load(path)
    assert not said
    assert "weights_only" not in one_line(error)
    loaded = checkpoint.latest(three)
    assert_holds(loaded, 30)
    assert "nothing of it was run" in loaded.messages[0]
    assert not (three / "ran").exists()
    if form == "zip":
        torch.load(io.BytesIO(payload), weights_only=False)
    else:
        pickle.loads(payload)
    assert (three / "ran").exists()  # the attack is a real one: what does not refuse it falls for it


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("best", [False, True])
def test_a_disk_that_is_full_leaves_all_as_it_was(three, monkeypatch, call, best):
    checkpoint.save_best(three, make_state(20))
    before = contents(three)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(FileError, match="No space left on device") as error:
        checkpoint.save_best(three, make_state(40)) if best else checkpoint.save(three, make_state(40), 40)
    assert one_line(error).startswith(str(three))
    assert contents(three) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("step", [30, 40])
def test_a_file_that_the_system_stops_in_the_middle_leaves_all_as_it_was(three, step):
    import resource

    before = contents(three)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(FileError, match=r"cannot be written .File too large") as error:
            checkpoint.save(three, make_state(step, size=500_000), step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one_line(error)
    assert contents(three) == before


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(FileError, match="the folder cannot be made") as error:
            checkpoint.save(folder, make_state(1), 1)
        one_line(error)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is permitted to root")
def test_a_folder_that_may_not_be_written_to(three):
    before = contents(three)
    three.chmod(0o555)
    try:
        with pytest.raises(FileError, match="Permission denied"):
            checkpoint.save(three, make_state(40), 40)
    finally:
        three.chmod(0o755)
    assert contents(three) == before


KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from unigrid.training.runs import checkpoint

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
seconds = random.Random(0)

def state(step):
    return {"step": step, "model": [torch.full((200_000,), float(step)), torch.full((100_000,), step)], "last": step}

def save_for_ever(pipe):
    found = checkpoint.latest(folder)
    step = found.step if found else 0
    while True:
        step += 1
        checkpoint.save(folder, state(step), step)
        os.write(pipe, b"%d " % step)

def wait_for_a_write():
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and not any(name.endswith(".tmp") for name in os.listdir(folder)):
        pass

def kill_once(amid):
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        save_for_ever(mouth)
    os.close(mouth)
    saved = os.read(ear, 1000)  # it is at work
    time.sleep(seconds.uniform(0, 0.03))
    if amid:
        wait_for_a_write()
        time.sleep(seconds.uniform(0, 0.005))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    saved += os.read(ear, 1_000_000)
    os.close(ear)
    files = [path.name for path in folder.iterdir()]
    loaded = checkpoint.latest(folder)
    numbers = {loaded.step, loaded.state["step"], loaded.state["last"]}
    numbers |= {float(number) for tensor in loaded.state["model"] for number in tensor.unique()}
    return {"saved": int(saved.split()[-1]), "found": sorted(numbers), "messages": loaded.messages, "files": files}

print(json.dumps([kill_once(amid=number % 2 == 0) for number in range(kills)]))
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="needs fork and SIGKILL")
@pytest.mark.system
def test_kill_9_at_50_random_moments_always_leaves_the_last_checkpoint(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path), "50"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    assert len(kills) == 50
    for kill in kills:
        assert len(kill["found"]) == 1  # all of it from one save
        assert kill["saved"] <= kill["found"][0] <= kill["saved"] + 1  # and from the last that was finished, or the one after
        assert kill["messages"] == []  # no file under its final name is ever half
        assert sum(name.startswith("checkpoint-") for name in kill["files"]) <= 3
        assert sum(name.endswith(".tmp") for name in kill["files"]) <= 1
    unfinished = [kill for kill in kills if len(kill["files"]) > 2]  # half a new one, or an old one not yet removed
    assert len(unfinished) >= 10  # the moments are such as matter


def test_torch_load_reads_a_checkpoint(tmp_path):
    state = {**make_state(3), "plain": [1, 2.5, None, "text"]}
    for path in (checkpoint.save(tmp_path, state, 3), checkpoint.save_best(tmp_path, state)):
        for options in ({}, {"weights_only": False}, {"mmap": True}, {"map_location": "cpu"}):
            loaded = torch.load(path, **options)
            assert loaded["plain"] == state["plain"]
            assert torch.equal(loaded["model"]["weight"], state["model"]["weight"])
        with path.open("rb") as file:
            assert torch.load(file)["step"] == 3


def test_the_first_format_is_read_as_before(three):
    path = three / "checkpoint-000000040.pt"
    write_by_hand(path, torch_bytes(make_state(40)), version=1)
    assert_holds(checkpoint.latest(three), 40)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:50], content[:200] + b"x" + content[201:]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"truncated|damaged"):
            checkpoint.load(path)
        assert_holds(checkpoint.latest(three), 30)
