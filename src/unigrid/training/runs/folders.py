"""The folder of a run: which run it holds, whether another may go on in it, and that only one does at a time."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import SoftFileLock, Timeout

from ...files import FileError, is_folder, make_folder, os_errors
from ...torchrun import attempt
from . import checkpoint
from .logs import FACTS

SPELLED = {("model.cycle", "\\"): "down"}  # values as earlier versions wrote them, and as they are written now
RESULT, WEIGHTS = "result.json", "weights.safetensors"  # written at the end of a run
LOCK = ".lock"


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[Path | None]:
    """Yield the folder of a run, made if it is missing, in which nothing else runs meanwhile: no thread, process or host.

    The lock is a file with process and host. Where that process of this host is gone, the lock is taken over.

    Raises FileError for a folder that is held, or cannot be written to.
    """
    if folder is None:
        yield None
        return
    made = not is_folder(folder)
    lock = SoftFileLock(make_folder(folder) / LOCK, timeout=0)
    with os_errors(folder, "cannot be written to"):
        try:
            lock.acquire()
        except Timeout:
            raise FileError(f"{folder}: another run is in it, {_holder(folder / LOCK)}") from None
    try:
        yield folder
    finally:
        lock.release()
        if made:
            with contextlib.suppress(OSError):  # it stays if anything is in it
                folder.rmdir()


def _holder(lock: Path) -> str:
    with os_errors(lock, "cannot be read"):
        process, host, *_ = [*lock.read_text(errors="replace").split(), "unknown", "unknown"]
    return f"process {process} on {host}; wait for its end, choose another folder, or remove {lock} if there is no such process"


def last_checkpoint(folder: Path, resume: bool) -> checkpoint.Loaded | None:
    """Return the last whole checkpoint, None without one; print which newer ones are damaged.

    Raises FileError where there is one and `resume` is false.
    """
    found = checkpoint.latest(folder) if is_folder(folder) else None
    if found is None:
        return None
    if not resume:
        raise FileError(f"{folder}: holds a run already; resume=True (--resume) goes on with it, or choose another folder")
    for message in found.messages:
        print(f"unigrid: {message}", file=sys.stderr)
    return found


def is_restarted(folder: Path | None) -> bool:
    """Whether torchrun has restarted the processes of the run that is in a folder, as `--max-restarts` lets it."""
    now = attempt()
    if folder is None or now is None or not (folder / FACTS).exists():
        return False
    with os_errors(folder / FACTS, "cannot be read"), contextlib.suppress(ValueError, LookupError, TypeError):
        before = json.loads((folder / FACTS).read_bytes())[
            "attempt"
        ]  # None, or not there, of a run that torchrun did not start
        return bool(before["torchrun"] == now["torchrun"] and before["restarts"] < now["restarts"])
    return False


def check_same_run(folder: Path, stored: dict[str, Any], requested: dict[str, Any]) -> None:
    """Raise FileError for another run. More epochs are the same run if the learning rate does not depend on their number."""
    wanted = requested["protocol"]
    others = [
        f"{place}: {before!r} there, {now!r} now"
        for place, before, now in differences(stored, requested)
        if not (place == "protocol.epochs" and wanted.get("schedule") == "steps" and now > before)
    ]
    if others:
        longer = len(others) == 1 and others[0].startswith("protocol.epochs") and "schedule" in wanted
        advice = f"; weights={str(folder)!r} (--weights) and another folder: a run that starts from its weights" * longer
        listed = "; ".join(others[:5])
        raise FileError(f"{folder}: holds another run, which cannot be resumed as this one ({listed}){advice}")


def differences(before: Any, now: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two configurations differ, and the two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)
    elif isinstance(now, dict):
        raise TypeError(f"{place or 'configuration'} is no dictionary")
    elif (SPELLED.get((place, before), before) if isinstance(before, str) else before) != now:
        yield place, before, now


def remove_result(folder: Path) -> None:
    """Remove the result of fewer epochs from the folder of a run that goes on."""
    for name in (RESULT, WEIGHTS):
        with os_errors(folder / name, "cannot be removed"):
            (folder / name).unlink(missing_ok=True)
