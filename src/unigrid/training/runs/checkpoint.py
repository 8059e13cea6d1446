"""Checkpoints that survive kill -9, a full disk and a flipped byte: the whole state of a training run in one file.

A checkpoint is the state as written by `torch.save`, and one line of text after it, which `torch.load` skips:

    <payload> LF unigrid-checkpoint <format version> <length of the payload in bytes> <SHA-256> LF

The SHA-256 is that of the line up to it (`unigrid-checkpoint 2 8123 `) followed by the payload, so no byte of the file can
change unnoticed. The line keeps this form in every format version; in version 1 it came first. The hash protects from
accidents; `weights_only` protects from malice: loading runs no code, whatever the payload, and a payload that would unpack to
more than its own size is refused.

The folder of a run contains the last two `checkpoint-<step>.pt`, and `best.pt` in the same format.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...files import FileError, atomic_output, make_folder, os_errors

MAGIC = "unigrid-checkpoint"
VERSION = 2
BEST = "best.pt"
HEADER = re.compile(rb"(" + MAGIC.encode() + rb" ([0-9]{1,9}) ([0-9]{1,18}) )([0-9a-f]{64})\n")
FOOTER, LONGEST = re.compile(rb"\n" + HEADER.pattern + rb"\Z"), 128  # bytes of a line
ZIP = b"PK\3\4"  # what torch.save begins with
NAME = re.compile(r"checkpoint-([0-9]{9,})\.pt")
FILES = r"checkpoint-[0-9]+\.pt|best\.pt|config\.json|log\.csv|log\.jsonl|result\.json|weights\.safetensors"  # of a run
TEMPORARY = re.compile(rf"\.({FILES})\.[0-9]+\.tmp")  # as `atomic_output` names them
PLAIN = (bool, int, float, str, type(None))


class CheckpointError(FileError):
    """A checkpoint that is missing, damaged or of a newer format, or a file that is none; one line, beginning with the path."""


class NewerFormatError(CheckpointError):
    """A whole checkpoint that only a later version of unigrid can read."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint that was read: its state as passed to `save`, tensors on the CPU.

    `messages` has one line for each newer checkpoint that was skipped as damaged, to be shown to the user.
    """

    path: Path
    state: dict[str, Any]
    messages: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The step under which it was saved."""
        return _step_of(self.path)


def save(folder: Path, state: dict[str, Any], step: int) -> Path:
    """Write `checkpoint-<step>.pt` to the folder and keep, beside it, the latest whole checkpoint of an earlier step.

    The file takes its name when all of it is on the disk; only then are older ones removed. So at every moment, also at a
    kill -9, at least the last finished checkpoint can be loaded. Also removed are half-written files of killed processes, and
    damaged checkpoints of later steps, left by a run that went back. A whole checkpoint of a later step belongs to another
    run and stays.

    The state consists of tensors, numbers, strings, None, and nested lists, tuples and dicts of these, so that it can be
    loaded without running code. Tensors come back as plain tensors, an OrderedDict as a dict.

    Raises TypeError for an entry of the state that is not allowed, naming its place, and FileError if the file cannot be
    written, as on a full disk; earlier checkpoints are then unchanged.
    """
    path = folder / f"checkpoint-{step:09d}.pt"
    _write(path, state)
    _remove_older(path)
    return path


def save_best(folder: Path, state: dict[str, Any]) -> Path:
    """Write `best.pt` to the folder, replacing an earlier one; otherwise like `save`."""
    path = folder / BEST
    _write(path, state)
    return path


def load(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint, its tensors on the CPU. No code in the file is run.

    Raises CheckpointError for a file that is missing, no checkpoint, truncated, damaged, of a newer format, or with other
    content than tensors and plain values.
    """
    version, payload = _verified(path)
    if version > VERSION:
        raise NewerFormatError(
            f"{path}: written by a newer unigrid (format {version}, this one reads {VERSION}); pip install --upgrade unigrid"
        )
    stream = io.BytesIO(payload)
    try:
        _check_archive(stream, len(payload))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on foreign pickles; the error below is one line
            state = torch.load(stream, weights_only=True, map_location="cpu")
        _check_extent(state, len(payload))
    except _TooLargeError:
        raise CheckpointError(f"{path}: unpacks to more than its {len(payload):,} bytes; unigrid did not write it") from None
    except Exception:  # not passed on: the text advises to load without weights_only
        raise CheckpointError(
            f"{path}: holds something else than tensors and plain values; unigrid did not write it, and nothing of it was run"
        ) from None
    if type(state) is not dict:
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, a checkpoint holds a dict")
    return state


class _TooLargeError(Exception):
    """The content of a checkpoint is larger than its file."""


def _check_archive(stream: io.BytesIO, size: int) -> None:
    """Raise an exception for an archive that `torch.save` does not write: compressed, overlapping, with another directory."""
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > size:
            raise _TooLargeError
        if archive.comment or min(entry.header_offset for entry in entries) > 0:  # where torch might find other entries
            raise ValueError
    stream.seek(0)


def _check_extent(state: Any, size: int) -> None:
    """Raise _TooLargeError for views that repeat stored numbers, and for containers that hold others many times over."""
    pending, entries = [state], 0
    while pending:
        value, entries = pending.pop(), entries + 1
        if entries > size or (isinstance(value, Tensor) and value.nbytes > value.untyped_storage().nbytes()):
            raise _TooLargeError
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()


def latest(folder: Path) -> Loaded | None:
    """Return the newest checkpoint of the folder that is whole, or None where there is none at all.

    Raises CheckpointError if there are checkpoints and none of them can be loaded; each is named. Also for one of a newer
    format, for which there is no going back.
    """
    faults: list[str] = []
    for path in reversed(_checkpoints(folder)):
        try:
            state = load(path)
        except NewerFormatError:  # going back to an earlier one would repeat, and mix, what a later version has done
            raise
        except CheckpointError as error:
            faults.append(str(error))
        else:
            return Loaded(path, state, tuple(f"{fault}; going back to {path.name}" for fault in faults))
    if faults:
        raise CheckpointError(f"{folder}: none of its {len(faults)} checkpoints can be loaded: {'; '.join(faults)}")
    return None


def _write(path: Path, state: dict[str, Any]) -> None:
    content = _content(state)
    make_folder(path.parent)
    _remove(entry for entry in path.parent.iterdir() if TEMPORARY.fullmatch(entry.name))
    with atomic_output(path) as file:
        for part in content:
            file.write(part)


def _content(state: dict[str, Any]) -> tuple[memoryview, bytes]:
    """Return the payload, and the line after it, with its hash."""
    buffer = io.BytesIO()
    torch.save(_checked(state, "state"), buffer)
    payload = buffer.getbuffer()
    front = f"{MAGIC} {VERSION} {len(payload)} ".encode()
    return payload, b"\n" + front + _digest(front, payload) + b"\n"


def _digest(front: bytes, payload: memoryview) -> bytes:
    total = hashlib.sha256(front)
    total.update(payload)
    return total.hexdigest().encode()


def _checked(value: Any, place: str) -> Any:
    """Return the value as plain dicts, lists, tuples and tensors; raise TypeError for what `weights_only` cannot load."""
    if type(value) in PLAIN:  # exactly: a NumPy float64 is a float too, and cannot be loaded
        return value
    if isinstance(value, Tensor):
        return _checked_tensor(value, place)
    if type(value) in (dict, OrderedDict):
        if keys := [key for key in value if type(key) not in PLAIN]:
            raise TypeError(f"{place} has a {_name_of(keys[0])} for a key; keys are numbers or strings")
        return {key: _checked(item, f"{place}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_checked(item, f"{place}[{number}]") for number, item in enumerate(value))
    raise TypeError(
        f"{place} is a {_name_of(value)}; a checkpoint holds tensors, numbers, strings, None, lists, tuples and dicts alone"
    )


def _checked_tensor(value: Tensor, place: str) -> Tensor:
    if type(value) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer) or value.layout != torch.strided or value.is_meta:
        raise TypeError(f"{place} is a {_name_of(value)} ({value.layout}, {value.device}); give a plain, dense tensor")
    value = value.detach()
    if value.untyped_storage().nbytes() != value.nbytes:
        return value.clone()  # a view: of a storage that would be written whole, or that it repeats
    return value


def _name_of(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _verified(path: Path) -> tuple[int, memoryview]:
    """Return format version and payload of a file, after checking its hash."""
    with os_errors(path, "cannot be read", CheckpointError), open(path, "rb") as file:
        begin, size = file.read(LONGEST), file.seek(0, io.SEEK_END)
        file.seek(max(0, size - LONGEST))
        header, footer = HEADER.match(begin), FOOTER.search(file.read(LONGEST))
        line = header or footer
        if line is None:  # whatever else it is, and however large
            raise CheckpointError(f"{path}: {_no_line(begin)}")
        wanted = int(line[3])
        file.seek(len(line[0]) if header else 0)
        payload = memoryview(file.read(min(wanted + 1, size - len(line[0]))))  # one byte more is damage enough
    if len(payload) < wanted:
        raise CheckpointError(f"{path}: truncated, {len(payload)} of {wanted} bytes are there")
    if _digest(line[1], payload) != line[4]:
        raise CheckpointError(f"{path}: damaged, its content does not have the SHA-256 it was written with")
    return int(line[2]), payload


def _no_line(content: bytes) -> str:
    if not content:
        return "the file is empty"
    if any(begin.startswith(content[: len(begin)]) for begin in (MAGIC.encode(), ZIP)):
        return f"truncated or damaged, or not a checkpoint of unigrid: its line that begins with {MAGIC!r} is missing"
    return f"not a checkpoint of unigrid, or damaged: it has no line that begins with {MAGIC!r}"


def _checkpoints(folder: Path) -> list[Path]:
    """Return the files named as checkpoints, whole or not, in the order of their steps."""
    with os_errors(folder, "cannot be read", CheckpointError):
        paths = list(folder.iterdir()) if folder.exists() else []
    return sorted((path for path in paths if NAME.fullmatch(path.name)), key=_step_of)


def _step_of(path: Path) -> int:
    name = NAME.fullmatch(path.name)
    assert name is not None
    return int(name[1])


def _is_whole(path: Path) -> bool:
    try:
        _verified(path)
    except CheckpointError:
        return False
    return True


def _remove_older(newest: Path) -> None:
    """Remove the earlier checkpoints except the last whole one, and damaged ones of later steps."""
    others = [path for path in _checkpoints(newest.parent) if path != newest]
    later = [path for path in others if _step_of(path) > _step_of(newest)]
    earlier = [path for path in others if path not in later]
    superfluous = [path for path in later if not _is_whole(path)]
    if len(earlier) > 1:
        kept = next((path for path in reversed(earlier) if _is_whole(path)), earlier[-1])
        superfluous += [path for path in earlier if path != kept]
    _remove(superfluous)


def _remove(superfluous: Iterable[Path]) -> None:
    for path in superfluous:
        with contextlib.suppress(OSError):  # one that stays does no harm
            path.unlink()
