"""Logs of a training run: its rows, and its configuration with versions and device.

log.jsonl    one JSON object per row, the log itself; log.csv has the same rows as a table and is rebuilt from it at a resume
tensorboard  the same numbers, if the package tensorboard is installed
config.json  configuration, versions, device, threads, command line and date; no user, host or path out of the working folder

JSON has no NaN or infinity: they are the strings "nan", "inf" and "-inf" there, and nan, inf and -inf in the table.
"""

from __future__ import annotations

import csv
import datetime
import errno
import importlib
import importlib.metadata
import io
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from ...files import FileError, atomic_output, make_folder
from ...machine import cpu_name, versions

Scalar = bool | int | float | str | None
Row = dict[str, Scalar]
LINES, TABLE, BOARD, FACTS = "log.jsonl", "log.csv", "tensorboard", "config.json"
PACKAGES = ("torch", "numpy", "safetensors")
NOT_FINITE = ("nan", "inf", "-inf")
OUTWARD = re.compile(r"^(/|~|\\\\|[A-Za-z]:[\\/])|(^|[\\/])\.\.([\\/]|$)")  # paths that lead out of the working folder
ELSEWHERE = "..."  # replaces such a path


class Log:
    """The log of a run, a context manager: every row is in the files, as a whole line, when `record` returns.

    >>> with Log(None) as log:
    ...     log.record({"step": 100, "loss": 2.25})
    >>> log.rows
    [{'step': 100, 'loss': 2.25}]

    Parameters
    ----------
    folder : Path or None
        Of the run; created if it does not exist. None: rows are only kept in memory.
    resume_from_step : int, optional
        Step of the checkpoint from which the run goes on. Rows of later steps are dropped, as they will be recorded again, and
        so is an unfinished last line of a killed process. -1, if no checkpoint was found, drops all rows. None: the folder
        must not contain a log.

    Raises
    ------
    FileError
        For a log where none was expected, one that is damaged, or one that cannot be written.
    """

    def __init__(self, folder: Path | None, resume_from_step: int | None = None) -> None:
        self.rows: list[Row] = []
        self._folder = None if folder is None else Path(folder)
        self._columns: list[str] = []
        self._board: Any = None
        if self._folder is None:
            return
        make_folder(self._folder)
        self._take_up(self._folder, resume_from_step)
        self._board = _open_board(self._folder / BOARD, resume_from_step)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def record(self, row: Mapping[str, Any]) -> None:
        """Append a row of scalars; one of them is "step", the whole number of steps done, by which a resume selects rows.

        Columns may differ from row to row: the table gets new ones, and missing values are empty. Numbers of NumPy and
        tensors of one element are converted.
        """
        plain = {_checked_name(name): _scalar(name, value) for name, value in row.items()}
        if type(plain.get("step")) is not int:
            raise ValueError(f"a row needs the whole number 'step', got the columns {', '.join(plain) or 'none'}")
        if self._folder is not None:
            self._write(self._folder, plain)
        self.rows.append(plain)
        if self._board is not None:
            _add_to_board(self._board, plain)

    def close(self) -> None:
        """Close TensorBoard's file, if there is one; the other files are closed after every row."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _take_up(self, folder: Path, step: int | None) -> None:
        lines, table = folder / LINES, folder / TABLE
        present = [path for path in (lines, table) if path.exists()]
        if present and step is None:
            raise FileError(f"{present[0]}: a log is there already; resume its run, or choose another folder")
        if present == [table]:
            raise FileError(f"{lines}: missing, while {TABLE} is there; bring it back or remove {table}")
        if present and step is not None:
            self.rows = [row for row in _read(lines) if row["step"] <= step]  # type: ignore[operator]
            _replace(lines, "".join(map(_line, self.rows)))
            self._rewrite_table(folder, self.rows)

    def _write(self, folder: Path, row: Row) -> None:
        _append(folder / LINES, _line(row))
        if any(name not in self._columns for name in row):
            self._rewrite_table(folder, [*self.rows, row])
        else:
            _append(folder / TABLE, _table_lines([self._cells(row)]))

    def _rewrite_table(self, folder: Path, rows: list[Row]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        header = [self._columns] if rows else []
        _replace(folder / TABLE, _table_lines([*header, *map(self._cells, rows)]))

    def _cells(self, row: Row) -> list[Scalar]:
        return [row.get(name) for name in self._columns]


def write_run_facts(folder: Path, configuration: Mapping[str, Any], device: torch.device | str = "cpu") -> Path:
    """Write config.json: the resolved configuration of the run, and the facts needed to repeat it.

    These are versions (Python, unigrid, torch, NumPy, safetensors), the name of the device, threads, the command line and the
    date. Paths in the command line are relative to the working folder; those out of it are not shown.

    Parameters
    ----------
    folder : Path
        Of the run; created if it does not exist.
    configuration : mapping
        Values that JSON has; the configuration of a run has no others, and no paths.
    device : torch.device or str
        On which the run computes.
    """
    facts = {
        "configuration": configuration,
        "versions": versions(PACKAGES),
        "device": _device_name(torch.device(device)),
        "threads": torch.get_num_threads(),
        "command": _command(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    make_folder(Path(folder))
    path = Path(folder) / FACTS
    _replace(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return path


def _checked_name(name: Any) -> str:
    if isinstance(name, str):
        return name
    raise TypeError(f"columns are named by strings, got {name!r}")


def _scalar(name: str, value: Any) -> Scalar:
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and math.prod(value.shape) == 1:
        value = value.item()
    if type(value) in (bool, int, float, str, type(None)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}; a row holds numbers, strings, True, False and None")


def _line(row: Row) -> str:
    return json.dumps({name: _finite_or_text(value) for name, value in row.items()}, allow_nan=False) + "\n"


def _finite_or_text(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _table_lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read(path: Path) -> list[Row]:
    """Return the rows of log.jsonl, without an unfinished last line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None
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
    try:
        with open(path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if file.write(line) != len(line):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror or error})") from None


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
