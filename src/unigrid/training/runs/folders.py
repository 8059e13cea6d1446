"""The folder of a run: which run it holds, and whether another may go on in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...files import FileError
from . import checkpoint

SPELLED = {("model.cycle", "\\"): "down"}  # values as earlier versions wrote them, and as they are written now
RESULT, WEIGHTS = "result.json", "weights.safetensors"  # written at the end of a run


def last_checkpoint(folder: Path, resume: bool) -> checkpoint.Loaded | None:
    """Return the last whole checkpoint, None without one; print which newer ones are damaged.

    Raises FileError where there is one and `resume` is false.
    """
    found = checkpoint.latest(folder) if folder.is_dir() else None
    if found is None:
        return None
    if not resume:
        raise FileError(f"{folder}: holds a run already; resume=True (--resume) goes on with it, or choose another folder")
    for message in found.messages:
        print(f"unigrid: {message}", file=sys.stderr)
    return found


def check_same_run(folder: Path, stored: dict[str, Any], requested: dict[str, Any]) -> None:
    """Raise FileError for another run. More epochs are the same run if the learning rate does not depend on their number."""
    wanted = requested["protocol"]
    differences = [
        f"{place}: {before!r} there, {now!r} now"
        for place, before, now in _differences(stored, requested)
        if not (place == "protocol.epochs" and wanted.get("schedule") == "steps" and now > before)
    ]
    if differences:
        longer = len(differences) == 1 and differences[0].startswith("protocol.epochs") and "schedule" in wanted
        advice = f"; weights={str(folder)!r} (--weights) and another folder: a run that starts from its weights" * longer
        listed = "; ".join(differences[:5])
        raise FileError(f"{folder}: holds another run, which cannot be resumed as this one ({listed}){advice}")


def _differences(before: Any, now: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)
    elif (SPELLED.get((place, before), before) if isinstance(before, str) else before) != now:
        yield place, before, now


def remove_result(folder: Path) -> None:
    """Remove the result of fewer epochs from the folder of a run that goes on."""
    for name in (RESULT, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
