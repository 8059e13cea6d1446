"""What every training run does alike: it has a seed, takes up the run in its folder, and asks its callback whether to stop."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..files import FileError
from . import checkpoint
from .loop import Row


class Run(Protocol):
    """A run as far as its folder is concerned."""

    configuration: dict[str, Any]
    checkpoint: Path | None

    @property
    def folder(self) -> Path | None:
        """Where its files are."""

    @property
    def history(self) -> list[Row]:
        """A row for each epoch that is done."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""


def checked_seeds(seed: int | Sequence[int]) -> list[int]:
    """Return the seeds as a list. Raises ValueError for what is no seed, and for the same one twice."""
    seeds = list(seed) if isinstance(seed, Sequence) else [seed]
    for number in seeds:
        if isinstance(number, bool) or not hasattr(number, "__index__") or not 0 <= number < 2**63:
            raise ValueError(f"seed must be an integer >= 0, or several, got {seed!r}")
    seeds = [operator.index(number) for number in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different ones, at least one, got {seed!r}")
    return seeds


def take_up(run: Run, resume: bool) -> int | None:
    """Restore the run from its folder if that is asked for; return the step for its log to go on from.

    Raises FileError where the folder holds a run and none was asked for, or another run than this one.
    """
    if run.folder is None:
        return None
    found = checkpoint.latest(run.folder) if run.folder.is_dir() else None
    if found is None:
        return -1 if resume else None
    if not resume:
        raise FileError(f"{run.folder}: holds a run already; resume=True (--resume) goes on with it, or choose another folder")
    for message in found.messages:
        print(f"unigrid: {message}", file=sys.stderr)
    _compare(run.folder, found.state.get("configuration", {}), run.configuration)
    try:
        run.restore(found.state)
    except ValueError as error:  # a network of one's own, of other shapes
        raise FileError(f"{run.folder}: {error}") from None
    run.checkpoint = found.path
    return run.history[-1]["step"] if run.history else -1  # of the last whole epoch: the open one is yet to be told


def _compare(folder: Path, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse to go on with a run as another one. More epochs are allowed where the learning rate does not depend on them."""
    differences = [
        f"{place}: {before!r} there, {now!r} now"
        for place, before, now in _differences(stored, asked)
        if not (place == "protocol.epochs" and asked["protocol"].get("schedule") == "steps" and now > before)
    ]
    if differences:
        raise FileError(f"{folder}: holds another run, which cannot be resumed as this one ({'; '.join(differences[:5])})")


def _differences(before: Any, now: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)
    elif before != now:
        yield place, before, now


def wants_to_stop(callback: Callable[[Row], Any] | None, row: Row) -> bool:
    """Show a row to the callback, if there is one; StopIteration from it ends the run."""
    if callback is None:
        return False
    try:
        callback(row)
    except StopIteration:
        return True
    return False
