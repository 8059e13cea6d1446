"""The log of a run: whole lines whatever happens, each epoch once after a resume; and the facts of a run without its paths."""

import csv
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
import types
import typing
from pathlib import Path

import pytest
import torch

from unigrid import __version__
from unigrid.files import FileError
from unigrid.training.runs.logs import Log, write_run_facts


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def table(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def write_epochs(folder, count):
    with Log(folder) as log:
        for epoch in range(1, count + 1):
            log.record({"step": 100 * epoch, "epoch": epoch, "loss": 1 / epoch})
    return log.rows


class Writer:
    """What TensorBoard's SummaryWriter is asked for."""

    made: typing.ClassVar = []

    def __init__(self, log_dir, purge_step=None):
        self.log_dir, self.purge_step, self.scalars, self.calls = log_dir, purge_step, [], []
        Writer.made.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


@pytest.fixture(autouse=True)
def board(monkeypatch):
    """A module in the place of TensorBoard's; `monkeypatch.setitem(sys.modules, board, None)` takes it away."""
    monkeypatch.setattr(Writer, "made", [])
    name = "torch.utils.tensorboard"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(SummaryWriter=Writer))
    return name


# Rows


def test_rows_are_in_both_files_and_in_memory(tmp_path):
    folder = tmp_path / "runs" / "first"
    with Log(folder) as log:
        log.record({"step": 5, "loss": 0.1, "phase": "warm, up", "best": True, "time": None})
        log.record({"step": 10, "loss": 1e-30, "phase": 'so-called "late"', "best": False, "time": 2})
    wanted = [
        {"step": 5, "loss": 0.1, "phase": "warm, up", "best": True, "time": None},
        {"step": 10, "loss": 1e-30, "phase": 'so-called "late"', "best": False, "time": 2},
    ]
    assert log.rows == wanted == lines(folder)
    assert table(folder) == [{k: "" if v is None else str(v) for k, v in row.items()} for row in wanted]
    assert (folder / "log.csv").read_text().splitlines()[0] == "step,loss,phase,best,time"


def test_every_row_is_whole_as_soon_as_it_is_recorded(tmp_path):
    log = Log(tmp_path)
    for step in range(1, 4):
        log.record({"step": step, "loss": 0.5})
        assert (
            [row["step"] for row in lines(tmp_path)] == [int(row["step"]) for row in table(tmp_path)] == [*range(1, step + 1)]
        )
        for name in ("log.jsonl", "log.csv"):
            assert (tmp_path / name).read_bytes().endswith(b"\n")


def test_what_json_cannot_write_is_text_there_and_a_number_again_at_a_resume(tmp_path):
    with Log(tmp_path) as log:
        log.record({"step": 1, "a": math.nan, "b": math.inf, "c": -math.inf})
    assert lines(tmp_path) == [{"step": 1, "a": "nan", "b": "inf", "c": "-inf"}]
    row = table(tmp_path)[0]
    assert math.isnan(float(row["a"]))
    assert (float(row["b"]), float(row["c"])) == (math.inf, -math.inf)
    again = Log(tmp_path, resume_from_step=1).rows[0]
    assert math.isnan(again["a"])
    assert (again["b"], again["c"]) == (math.inf, -math.inf)


def test_new_columns_are_added_and_absent_ones_left_empty(tmp_path):
    with Log(tmp_path) as log:
        log.record({"step": 1, "loss": 0.5})
        log.record({"step": 2, "loss": 0.4, "accuracy": 0.9})
        log.record({"step": 3, "accuracy": 0.95})
    assert (tmp_path / "log.csv").read_text() == "step,loss,accuracy\n1,0.5,\n2,0.4,0.9\n3,,0.95\n"
    assert lines(tmp_path)[2] == {"step": 3, "accuracy": 0.95}


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Log(None) as log:
        log.record({"step": 1, "loss": 0.5})
    assert not list(tmp_path.iterdir())
    assert not Writer.made


# Resume


@pytest.mark.parametrize(("step", "kept"), [(400, 4), (250, 2), (200, 2), (99, 0), (-1, 0)])
def test_a_resumed_log_holds_each_epoch_once(tmp_path, step, kept):
    before = write_epochs(tmp_path, 4)
    with Log(tmp_path, resume_from_step=step) as log:
        assert log.rows == before[:kept] == lines(tmp_path)
        assert [int(row["epoch"]) for row in table(tmp_path)] == list(range(1, kept + 1))
        for epoch in range(kept + 1, 6):
            log.record({"step": 100 * epoch, "epoch": epoch, "loss": 1 / epoch})
    write_epochs(tmp_path / "unbroken", 5)
    for name in ("log.jsonl", "log.csv"):
        assert (tmp_path / name).read_text() == (tmp_path / "unbroken" / name).read_text()


@pytest.mark.parametrize("cut", [1, 2, 10, 44])
@pytest.mark.parametrize("step", [300, 200])
def test_a_broken_last_line_is_repaired(tmp_path, cut, step):
    write_epochs(tmp_path, 3)
    for name in ("log.jsonl", "log.csv"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-cut])
    whole = 2 if cut > 1 or step == 200 else 3  # of the first cut only the end of the line falls victim
    with Log(tmp_path, resume_from_step=step) as log:
        assert [row["epoch"] for row in log.rows] == list(range(1, whole + 1))
        log.record({"step": 350, "epoch": 4, "loss": 0.25})
    assert [row["step"] for row in lines(tmp_path)] == [int(row["step"]) for row in table(tmp_path)]
    assert len(lines(tmp_path)) == whole + 1


def test_zeros_after_a_power_cut_are_a_broken_last_line(tmp_path):
    write_epochs(tmp_path, 2)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b"\0" * 30)
    assert [row["epoch"] for row in Log(tmp_path, resume_from_step=200).rows] == [1, 2]


def test_damage_in_the_middle_is_told_and_nothing_is_lost(tmp_path):
    write_epochs(tmp_path, 3)
    damaged = (tmp_path / "log.jsonl").read_text().splitlines()
    damaged[1] = '{"loss": 0.5}'
    (tmp_path / "log.jsonl").write_text("\n".join(damaged) + "\n")
    with pytest.raises(FileError, match=r"log\.jsonl: line 2 is damaged") as error:
        Log(tmp_path, resume_from_step=300)
    assert "\n" not in str(error.value)
    assert (tmp_path / "log.jsonl").read_text().splitlines() == damaged


def test_a_table_that_was_lost_is_made_anew(tmp_path):
    write_epochs(tmp_path, 2)
    before = (tmp_path / "log.csv").read_text()
    (tmp_path / "log.csv").unlink()
    Log(tmp_path, resume_from_step=200)
    assert (tmp_path / "log.csv").read_text() == before


def test_a_log_is_never_overwritten_unasked(tmp_path):
    write_epochs(tmp_path, 2)
    before = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(FileError, match=r"log\.jsonl: a log is there already; resume its run, or choose another folder"):
        Log(tmp_path)
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(FileError, match=r"log\.csv: a log is there already"):
        Log(tmp_path)
    with pytest.raises(FileError, match=r"log\.jsonl: missing, while log\.csv is there"):
        Log(tmp_path, resume_from_step=200)
    assert len(before.splitlines()) == len(table(tmp_path)) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
def test_a_disk_that_is_full_leaves_whole_lines(tmp_path):
    import resource

    log = Log(tmp_path)
    log.record({"step": 1, "text": "x" * 1_000_000})
    size = (tmp_path / "log.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # room for ten bytes of the next line
    try:
        with pytest.raises(FileError, match=r"log\.jsonl: cannot be written"):
            log.record({"step": 2, "text": "y" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "log.jsonl").stat().st_size == size
    log.record({"step": 2, "text": "y"})
    assert [row["step"] for row in lines(tmp_path)] == [row["step"] for row in log.rows] == [1, 2]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="the folder cannot be made"):
        Log(tmp_path / "file")


# TensorBoard


def test_tensorboard_gets_the_numbers(tmp_path):
    with Log(tmp_path) as log:
        log.record({"step": 7, "loss": 0.5, "phase": "warm", "time": None, "count": 3})
        (writer,) = Writer.made
        assert writer.calls == ["flush"]
    assert Path(writer.log_dir) == tmp_path / "tensorboard"
    assert writer.scalars == [("loss", 0.5, 7), ("count", 3, 7)]
    assert writer.calls == ["flush", "close"]
    assert writer.purge_step is None


def test_tensorboard_forgets_the_steps_that_come_again(tmp_path):
    write_epochs(tmp_path, 3)
    Log(tmp_path, resume_from_step=200)
    assert [writer.purge_step for writer in Writer.made] == [None, 201]


class Broken:
    """A tensorboard that is installed but does not fit the rest."""

    def __getattr__(self, name):
        raise TypeError("descriptors cannot be created directly")


@pytest.mark.parametrize("broken", [False, True])
def test_without_tensorboard_nothing_is_said_and_the_rest_is_written(tmp_path, monkeypatch, capfd, board, broken):
    monkeypatch.setitem(sys.modules, board, Broken() if broken else None)
    write_epochs(tmp_path, 2)
    assert len(lines(tmp_path)) == len(table(tmp_path)) == 2
    assert not (tmp_path / "tensorboard").exists()
    assert capfd.readouterr() == ("", "")


# The facts of a run


def read_facts(folder):
    return json.loads((folder / "config.json").read_text(), parse_constant=pytest.fail)


def test_a_run_tells_what_it_was(tmp_path):
    configuration = {"model": {"kind": "MgNetConfig", "steps": [1, 1]}, "rates": [0.1, 0.2], "resume": False, "subset": None}
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    assert write_run_facts(tmp_path / "run", configuration) == tmp_path / "run" / "config.json"
    facts = read_facts(tmp_path / "run")
    assert facts["configuration"] == configuration
    assert facts["versions"] == {
        "python": platform.python_version(),
        "unigrid": __version__,
        **{name: importlib.metadata.version(name) for name in ("torch", "numpy", "safetensors")},
    }
    assert facts["threads"] == torch.get_num_threads()
    assert before <= datetime.datetime.fromisoformat(facts["date"]) <= datetime.datetime.now(datetime.UTC)
    assert facts["device"]


def test_the_graphics_card_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    write_run_facts(tmp_path, {}, device="cuda:1")
    assert read_facts(tmp_path)["device"] == "card 1"


PATHS = {
    "/home/ada/data/cifar": "...",
    "/home/ada/data/cifar/": "...",
    "/home/ada": "...",
    "/mnt/disk/ada/": "...",
    "/": "...",
    "~": "...",
    "~/data": "...",
    "~ada": "...",
    "~bob": "...",
    "~bob/runs": "...",
    "../../ada/runs": "...",
    "..": "...",
    "runs/../../../x": "...",
    "C:\\Users\\Ada Lovelace\\My runs": "...",
    "C:/Users/ada/x": "...",
    "\\\\engine\\share\\x": "...",
    "/data/engine": "...",
    "runs/first": "runs/first",
    "out": "out",
    "mgnet-64-Bl": "mgnet-64-Bl",
    "1e-3": "1e-3",
    "A^l+B^l": "A^l+B^l",
    "": "",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_tell_nothing_of_the_machine(tmp_path, monkeypatch, path):
    shown = PATHS[path]
    monkeypatch.setattr(sys, "argv", ["/home/ada/venv/bin/unigrid", "train", path, f"--out={path}"])
    write_run_facts(tmp_path, {})
    assert shlex.split(read_facts(tmp_path)["command"]) == ["unigrid", "train", shown, f"--out={shown}"]
    text = (tmp_path / "config.json").read_text()
    assert not [word for word in ("ada", "Ada", "engine", "home", "Users", "bob") if word in text]


def test_a_path_below_the_working_folder_is_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["unigrid", "train", f"--out={Path.cwd() / 'runs' / 'first'}"])
    write_run_facts(tmp_path, {})
    assert read_facts(tmp_path)["command"] == f"unigrid train --out={Path('runs', 'first')}"


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("/home/ada/venv/bin/unigrid", "unigrid demo"),
        ("/home/ada/src/unigrid/__main__.py", "python -m unigrid demo"),
        ("C:\\Users\\ada\\unigrid.exe", "unigrid.exe demo"),
        ("train.py", "train.py demo"),
        ("-c", "-c demo"),
        ("__main__.py", "__main__.py demo"),
    ],
)
def test_the_program_is_named_without_its_folder(tmp_path, monkeypatch, program, shown):
    monkeypatch.setattr(sys, "argv", [program, "demo"])
    write_run_facts(tmp_path, {})
    assert read_facts(tmp_path)["command"] == shown


def test_without_arguments_there_is_no_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    write_run_facts(tmp_path, {})
    assert read_facts(tmp_path)["command"] == ""


def test_facts_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    write_run_facts(tmp_path, {"run": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        write_run_facts(tmp_path, {"run": 2})
    assert read_facts(tmp_path)["configuration"] == {"run": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
