"""Standard streams that are closed, full, or of an encoding without some characters: none of them may end a command."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TextIO


class OutputError(Exception):
    """The standard output cannot be written."""


class Guarded:
    """A stream that writes under a guard, which handles errors of the system."""

    def __init__(self, stream: TextIO, guard: Callable[[], AbstractContextManager[Any]]) -> None:
        self._stream, self._guard = stream, guard

    def write(self, text: str) -> int:
        with self._guard():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._guard():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Raise an error of the system as an OutputError, but for a reader that has closed a pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the standard output cannot be written ({error.strerror or error})") from None


def prepare() -> None:
    """Open what is closed, write characters that the encoding lacks as escapes, and let stderr lose what it cannot take.

    Streams that a caller in Python has put in place fail as they do.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed; the next file that is opened would take its place, and what is printed to it
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for name, guard in (("stdout", reported), ("stderr", partial(contextlib.suppress, OSError))):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, Guarded(stream, guard))


def abandon_output() -> None:
    """Discard what stdout has not written, which would fail again when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_closed(stream: TextIO) -> bool:
    """Whether `prepare` has opened it in place of a closed one."""
    return getattr(stream, "name", None) == os.devnull
