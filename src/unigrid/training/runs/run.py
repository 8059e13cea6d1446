"""The course of a training run, whatever is trained: taken up from its folder, epoch by epoch, to its end or an interruption.

A `Run` is one object with all of its state: `state` returns it as one dictionary, `restore` goes back to it. What its epochs
do is for its subclasses; logs, checkpoints, the progress bar, Ctrl-C and the callback are handled here.
"""

from __future__ import annotations

import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...files import FileError
from ...messages import entries_of, plain_number, shown
from ...solution import GUIDE
from . import checkpoint, folders
from .checkpoint import CheckpointError
from .logs import Log, write_run_facts
from .processes import ALONE, Processes

Row = dict[str, Any]
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class TrainingError(RuntimeError):
    """Training ended because its loss is not finite, or exceeds that of a uniform guess by far, or the cycle diverges.

    `reason` is "nonfinite" or "diverged"; or "lost", where several processes train together and one of them is gone. What was
    learned before is in the last checkpoint, which is not overwritten.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Interrupt:
    """Ctrl-C or the end of a job, deferred to the end of the current step. A second Ctrl-C is not deferred.

    A scheduler ends a job by SIGTERM, often by more than one, a terminal that closes by SIGHUP. Where these are ignored, as
    under nohup, or handled by the user's program, they stay so.
    """

    requested: bool = False

    @classmethod
    @contextmanager
    def deferred(cls) -> Iterator[Interrupt]:
        """Yield the interrupt that signals set. Outside the main thread, to which Python delivers them, it is never set."""
        interrupt = cls()
        if threading.current_thread() is not threading.main_thread():
            yield interrupt
            return

        def request(number: int, frame: Any) -> None:
            if interrupt.requested and number == signal.SIGINT:
                raise KeyboardInterrupt
            interrupt.requested = True

        ends = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
        before = {number: signal.signal(number, request) for number in (signal.SIGINT, *ends)}
        try:
            yield interrupt
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # None: not set from Python


@dataclass
class Progress:
    """The counters of a run, in plain numbers: epochs and optimizer steps done, seconds of training, one row per epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)


class Run(ABC):
    """One training run: `epochs` epochs, in a folder or nowhere (None). Of several processes, the writer has the folder.

    The configuration is what is trained, on what, how: plain values, stored in every checkpoint and compared at a resume.
    """

    progress: Progress
    total_steps: int | None = None  # where known beforehand

    def __init__(
        self,
        configuration: dict[str, Any],
        seed: int,
        folder: Path | None,
        device: torch.device,
        epochs: int,
        processes: Processes = ALONE,
    ) -> None:
        self.configuration, self.seed, self.folder, self.device, self.epochs = configuration, seed, folder, device, epochs
        self.processes = processes
        self.checkpoint: Path | None = None  # the last one
        self._saved: tuple[int, int] | None = None  # epochs and steps in it

    # what a kind of run defines

    @abstractmethod
    def epoch(self, interrupt: Interrupt, watch: Callable[[], None]) -> Row:
        """Do the next epoch, or the rest of it; count it, and return its row. `watch` is called every few steps.

        Raises KeyboardInterrupt after Ctrl-C or SIGTERM, and TrainingError when the loss is not finite, or diverges.
        """

    @abstractmethod
    def remedy(self) -> str:
        """Return the advice for a training that fails."""

    @abstractmethod
    def status(self) -> str:
        """Return the text of the progress bar."""

    def state(self) -> dict[str, Any]:
        """Return the whole state of the run, as `checkpoint.save` takes it."""
        return {"configuration": self.configuration, "progress": asdict(self.progress)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken.

        Raises ValueError where it does not fit the model, and KeyError or TypeError where it is not the state of such a run.
        """
        stored, fresh = type(self.progress)(**state["progress"]), asdict(type(self.progress)())
        for name, value in asdict(stored).items():
            if fresh[name] is not None and type(value) is not type(fresh[name]):
                raise TypeError(f"progress: {name} is a {type(value).__name__}")
        self.progress = stored

    def comparable(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return a stored configuration as this version writes it."""
        return stored

    def due(self) -> bool:
        """Whether an epoch that has just ended is to be saved."""
        return True

    # what all runs do alike

    @property
    def ended(self) -> bool:
        """Whether all epochs are done."""
        return self.progress.epoch >= self.epochs

    def advice(self) -> str:
        """Return the advice for a training that fails, and the state of the run."""
        kept = f"; the last good checkpoint in {self.checkpoint.parent} is kept" if self.checkpoint else ""
        return f"{self.remedy()}{kept}. {GUIDE}"

    def save(self) -> bool:
        """Write a checkpoint, unless there is no folder or nothing new; return whether one was written."""
        place = self.progress.epoch, self.progress.step
        if self.folder is None or self._saved == place:
            return False
        self.checkpoint = checkpoint.save(self.folder, self.state(), self.progress.step)
        self._saved = place
        return True

    def complete(self, resume: bool, callback: Callable[[Row], Any] | None, progress: bool | None) -> str:
        """Begin the run or go on with it, and train to its end; return "completed", or "stopped" by the callback.

        `progress`: whether to show a progress bar; None: on a terminal.

        Raises FileError for a folder that holds a run if `resume` is false, or another run than this one; KeyboardInterrupt
        after Ctrl-C, once what is to be kept is in a checkpoint; and TrainingError.
        """
        resume = resume or self.processes.by_writer(lambda: folders.is_restarted(self.folder))
        step = self._take_up(resume)
        opened = self.processes.together(lambda: Log(self.folder, step))
        with opened as log, self._bar(progress) as watch, Interrupt.deferred() as interrupt:
            if self.folder is not None:
                write_run_facts(self.folder, self.configuration, self.device, self.processes.world)
                if not self.ended:
                    folders.remove_result(self.folder)
            while not self.ended:
                row = self.epoch(interrupt, watch)
                log.record(row)  # before the checkpoint: at a resume, a log drops rows that are in no checkpoint, but adds none
                if self.processes.by_writer(lambda: self.ended or self.due()):
                    self.save()
                if self.processes.by_writer(partial(_stops, callback, {"seed": self.seed, **row})) and not self.ended:
                    self.save()
                    return "stopped"
            if self.processes.any(interrupt.requested):  # all is saved, and a resumed run does what is left
                raise KeyboardInterrupt
        return "completed"

    def _take_up(self, resume: bool) -> int | None:
        """Restore the run from its folder where that is requested; return the step from which its log goes on."""
        found = self.processes.by_writer(lambda: self._found(resume))
        if found is None:
            return -1 if resume else None
        folder = found.path.parent
        try:
            folders.check_same_run(folder, self.comparable(found.state["configuration"]), self.configuration)
            self.restore(found.state)
        except FileError:
            raise
        except ValueError as error:  # a network of one's own, of other shapes
            raise FileError(f"{folder}: {error}") from None
        except (KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{found.path}: not the state of a run of this version of unigrid, which cannot go on"
            ) from None
        self.checkpoint, self._saved = found.path, (self.progress.epoch, self.progress.step)
        rows = self.progress.history
        return rows[-1]["step"] if rows else -1  # of the last whole epoch: the current one has no row yet

    def _found(self, resume: bool) -> checkpoint.Loaded | None:
        return None if self.folder is None else folders.last_checkpoint(self.folder, resume)

    @contextmanager
    def _bar(self, shown: bool | None) -> Iterator[Callable[[], None]]:
        """Yield the function that updates a progress bar on stderr, where one is shown."""
        shown = shown if self.processes.is_writer else False
        hidden = None if shown is None else not shown  # None: tqdm looks whether it is on a terminal
        looks: dict[str, Any] = {"desc": "training", "unit": "step", "file": sys.stderr, "dynamic_ncols": True}
        with tqdm(total=self.total_steps, initial=self.progress.step, disable=hidden, **looks) as bar:

            def watch() -> None:
                bar.set_postfix_str(self.status(), refresh=False)
                bar.update(self.progress.step - bar.n)

            yield watch


def _stops(callback: Callable[[Row], Any] | None, row: Row) -> bool:
    """Pass a row to the callback; whether it raised StopIteration."""
    if callback is None:
        return False
    try:
        callback(row)
    except StopIteration:
        return True
    return False


def checked_seeds(seed: int | Sequence[int]) -> list[int]:
    """Return the seeds as a list. Raises ValueError for what is no seed, and for the same one twice."""
    several = entries_of(seed)
    numbers = [plain_number(number) for number in ((seed,) if several is None else several)]
    seeds = [number for number in numbers if type(number) is int and 0 <= number < 2**63]
    if len(seeds) < len(numbers):
        raise ValueError(f"seed must be an integer >= 0, or several, got {shown(seed)}; the largest is 2^63 - 1")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different ones, at least one, got {shown(seed)}")
    return seeds
