"""Logs of a training run: its rows, and its configuration with versions and device.

log.jsonl    one JSON object per row, the log itself; log.csv has the same rows as a table and is rebuilt from it at a resume
tensorboard  the same numbers, if the package tensorboard is installed
config.json  configuration, versions, device, threads, processes, command line, date; no user, host or path out of this folder

JSON has no NaN or infinity: they are the strings "nan", "inf" and "-inf" there, and nan, inf and -inf in the table.
"""

from __future__ import annotations

import csv
import datetime
import errno
import importlib
import io
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...files import FileError, atomic_output, make_folder, os_errors
from ...machine import cpu_name, versions
from ...torchrun import attempt

Row = dict[str, Any]
LINES, TABLE, BOARD, FACTS = "log.jsonl", "log.csv", "tensorboard", "config.json"
PACKAGES = ("torch", "numpy", "safetensors")
NOT_FINITE = ("nan", "inf", "-inf")
OUTWARD = re.compile(r"^(/|~|\\\\|[A-Za-z]:[\\/])|(^|[\\/])\.\.([\\/]|$)")  # paths that lead out of the working folder
ELSEWHERE = "..."  # replaces such a path


class Log:
    """The log of a run, a context manager: every row is in the files, as a whole line, when `record` returns.

    Without a folder nothing is written. At a resume, rows after `resume_from_step`, the step of the checkpoint, are dropped, as
    they will be recorded again, and so is an unfinished last line of a killed process; -1, where no checkpoint was found, drops
    all rows. If it is None, the folder must not contain a log.

    Raises FileError for a log where none was expected, one that is damaged, or one that cannot be written.
    """

    def __init__(self, folder: Path | None, resume_from_step: int | None = None) -> None:
        self.rows: list[Row] = []
        self._folder = folder
        self._columns: list[str] = []
        self._board: Any = None
        if folder is not None:
            make_folder(folder)
            self._take_up(folder, resume_from_step)
            self._board = _open_board(folder / BOARD, resume_from_step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._board is not None:
            self._board.close()

    def record(self, row: Row) -> None:
        """Append a row of numbers, strings and None; "step" is the number of steps done, by which a resume selects rows.

        Columns may differ from row to row: the table gets new ones, and missing values are empty.
        """
        if self._folder is None:
            return
        _append(self._folder / LINES, _line(row))
        self.rows.append(row)
        if all(name in self._columns for name in row):
            _append(self._folder / TABLE, _table(self._columns, [row]))
        else:
            self._rewrite_table(self._folder)
        if self._board is not None:
            _add_to_board(self._board, row)

    def _take_up(self, folder: Path, step: int | None) -> None:
        lines, table = folder / LINES, folder / TABLE
        present = [path for path in (lines, table) if path.exists()]
        if present and step is None:
            raise FileError(f"{present[0]}: a log is there already; resume its run, or choose another folder")
        if present == [table]:
            raise FileError(f"{lines}: missing, while {TABLE} is there; bring it back or remove {table}")
        if present and step is not None:
            self.rows = [row for row in read_rows(lines) if row["step"] <= step]
            _replace(lines, "".join(map(_line, self.rows)))
            self._rewrite_table(folder)

    def _rewrite_table(self, folder: Path) -> None:
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        header = [{name: name for name in self._columns}] if self.rows else []
        _replace(folder / TABLE, _table(self._columns, [*header, *self.rows]))


def write_run_facts(
    folder: Path, configuration: Mapping[str, Any], device: torch.device | str = "cpu", processes: int = 1
) -> Path:
    """Write config.json: the configuration of a run in values that JSON has, and the facts needed to repeat it.

    Paths in the command line are relative to the working folder; those out of it are not shown.
    """
    facts = {
        "configuration": configuration,
        "versions": versions(PACKAGES),
        "device": _device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "attempt": attempt(),
        "command": _command(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path = make_folder(folder) / FACTS
    _replace(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return path


def _line(row: Row) -> str:
    return json.dumps({name: _finite_or_text(value) for name, value in row.items()}, allow_nan=False) + "\n"


def _finite_or_text(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Return the rows of log.jsonl, without an unfinished last line."""
    with os_errors(path, "cannot be read"):
        lines = path.read_bytes().splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        row = _parsed(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise FileError(f"{path}: line {number} is damaged: no JSON object with a whole number 'step'; remove or mend it")
    return rows


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return {name: float(value) if value in NOT_FINITE else value for name, value in row.items()}


def _append(path: Path, text: str) -> None:
    """Append lines by one unbuffered write, so that a killed process leaves no half of it."""
    line = text.encode()
    with os_errors(path, "cannot be written"), open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _replace(path: Path, text: str) -> None:
    with atomic_output(path) as file:
        file.write(text.encode())


def _open_board(folder: Path, resume_from_step: int | None) -> Any:
    """Return TensorBoard's writer, which hides rows after the resumed step; None if the package is missing or broken."""
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except Exception:  # an optional package must not stop a run, whatever is wrong with it
        return None
    return writer(log_dir=str(folder), purge_step=None if resume_from_step is None else resume_from_step + 1)


def _add_to_board(board: Any, row: Row) -> None:
    for name, value in row.items():
        if name != "step" and isinstance(value, (int, float)):
            board.add_scalar(name, value, row["step"])
    board.flush()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return cpu_name()
    return str(device)


def _command(arguments: list[str]) -> str:
    program, *rest = arguments or [""]
    *folders, name = re.split(r"[\\/]", program)
    if folders and name == "__main__.py":
        name = f"python -m {folders[-1]}"
    return " ".join([name, *(shlex.quote(_without_folders(argument)) for argument in rest)])


def _without_folders(argument: str) -> str:
    """Return an argument; paths below the working folder are relative to it, other paths out of it are not shown."""
    option, mark, path = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    if os.path.isabs(path) and Path(path).is_relative_to(Path.cwd()):
        path = str(Path(path).relative_to(Path.cwd()))
    return option + mark + (ELSEWHERE if OUTWARD.search(path) else path)
