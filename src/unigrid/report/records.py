"""What the folder of a run holds, or each folder of its seeds: configuration, log, result. Nothing is computed here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import FileError, expanded, is_folder, os_errors
from ..messages import nearest

FACTS, LINES, RESULT = "config.json", "log.jsonl", "result.json"
SEED = re.compile(r"seed-([0-9]+)")
LISTED = 5  # runs that are named where the folder above them is given
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """The files of one run: its configuration, its surroundings, one row per epoch, and its result if it is finished.

    `surroundings` has versions, device, threads, processes, command and date.
    """

    name: str
    folder: Path
    configuration: Facts
    surroundings: Facts
    rows: tuple[Facts, ...]
    result: Facts | None
    faults: tuple[str, ...] = ()

    @property
    def solves(self) -> bool:
        """Whether a solver was trained, and not a classifier."""
        return "problems" in self.configuration["dataset"]

    @property
    def epochs(self) -> int:
        """The number of epochs that the protocol has."""
        return int(self.configuration["protocol"]["epochs"])

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done and, of a classifier, its result is there."""
        return self.rows[-1]["epoch"] >= self.epochs if self.solves else self.result is not None

    @property
    def test_accuracy(self) -> float | None:
        """The share of the test images that was recognized when the run ended."""
        return None if self.result is None else self.result["test_accuracy"]

    @property
    def seconds(self) -> float | None:
        """Spent in training so far."""
        value = (self.result or self.rows[-1]).get("seconds")
        return float(value) if isinstance(value, (int, float)) else None


def read(folder: str | os.PathLike[str]) -> tuple[Record, ...]:
    """Return the run in a folder, or the runs of its seeds, those with at least one epoch.

    Raises FileError for a folder that is missing, holds no run, or one without an epoch, and for damaged files.
    """
    path = expanded(folder)
    records = [_record(place, f"seed {_seed(place)}") for place in _places(path)]
    begun = tuple(record for record in records if record.rows)
    if not begun:
        raise FileError(f"{path}: no epoch of the run has ended yet; a report needs at least one")
    if len({json.dumps([record.configuration["model"], _classes(record)]) for record in begun}) > 1:
        raise FileError(f"{path}: its seeds are runs of different networks or classes; give the folder of one of them")
    return begun


def _places(path: Path) -> list[Path]:
    """Return the folders that hold a run each: this one, or those of its seeds."""
    if not is_folder(path):
        if path.exists():
            raise FileError(f"{path}: is a file; give the folder of a run, {path.parent} if this is a part of one")
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise FileError(f"{path}: no such folder{nearest(path.name, beside)}")
    if _is_run(path):
        return [path]
    seeds = [entry for entry in _folders(path) if SEED.fullmatch(entry.name) and _is_run(entry)]
    if not seeds:
        below = [entry.name for entry in _folders(path) if _is_run(entry) or any(map(_is_run, _folders(entry)))]
        more = f", ... ({len(below)} in all)" if len(below) > LISTED else ""
        hint = f"; give one of the runs in it: {', '.join(below[:LISTED])}{more}" if below else ""
        raise FileError(f"{path}: holds no run, as there is no {FACTS} in it{hint or '; `unigrid train` writes such folders'}")
    return sorted(seeds, key=_seed)


def _folders(path: Path) -> Iterator[Path]:
    with os_errors(path, "cannot be read"):
        yield from sorted(entry for entry in path.iterdir() if entry.is_dir())


def _is_run(path: Path) -> bool:
    return (path / FACTS).is_file()


def _seed(folder: Path) -> int:
    """Return the seed after which a folder is named, or that of its run."""
    named = SEED.fullmatch(folder.name)
    return int(named[1]) if named else int(_json(folder / FACTS)["configuration"]["seed"])


def _record(folder: Path, name: str) -> Record:
    from ..training.runs.logs import read_rows

    facts = _json(folder / FACTS)
    configuration = facts["configuration"]
    rows = tuple(map(_numbers, read_rows(folder / LINES))) if (folder / LINES).exists() else ()
    surroundings = {key: value for key, value in facts.items() if key != "configuration"}
    result, faults = None, []
    if (folder / RESULT).exists():
        try:
            result = _result(folder / RESULT, len(_classes_of(configuration)))
        except FileError as error:
            faults.append(str(error))
    whole = tuple(row for row in rows if type(row.get("epoch")) is int)
    return Record(name, folder, configuration, surroundings, whole, result, tuple(faults))


def _numbers(row: Facts) -> Facts:
    return {name: value for name, value in row.items() if isinstance(value, (int, float))}


def _json(path: Path) -> dict[str, Any]:
    """Return the content of config.json. Raises FileError where it is not what a run writes."""
    with os_errors(path, "cannot be read"):
        text = path.read_bytes()
    try:
        facts: dict[str, Any] = json.loads(text)
        configuration = facts["configuration"]
        str(configuration["model"]["kind"]), str(configuration["dataset"]["name"]), int(configuration["seed"])
        int(configuration["protocol"]["epochs"]), dict(facts.get("versions") or {})
        if not isinstance(_classes_of(configuration), list):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise FileError(f"{path}: damaged, or not written by `unigrid train`") from None
    return facts


def _classes_of(configuration: Facts) -> list[Any]:
    classes: list[Any] = configuration["dataset"].get("classes", [])
    return classes


def _classes(record: Record) -> list[Any]:
    return _classes_of(record.configuration)


def _result(path: Path, classes: int) -> Facts:
    """Return the content of result.json. Raises FileError where it is not what a run writes."""
    with os_errors(path, "cannot be read"):
        text = path.read_bytes()
    try:
        result: dict[str, Any] = json.loads(text)
        counts = result["confusion"]
        square = counts is None or [len(row) for row in counts] == [classes] * classes
        whole = counts is None or all(type(count) is int and count >= 0 for row in counts for count in row)
        accuracy, seconds = result["test_accuracy"], result["seconds"]
        measured = (accuracy is None or 0.0 <= accuracy <= 1.0) and seconds >= 0.0
        if not (square and whole and measured):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise FileError(f"{path}: damaged, and left out") from None
    return result
