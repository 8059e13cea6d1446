"""Standard streams that are closed, full, or of an encoding without some characters: none of them may end a command."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO


class Lenient:
    """A stream whose messages are lost where they cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare() -> None:
    """Open what is closed, write characters that the encoding lacks as escapes, and let stderr lose what it cannot take.

    Streams that a caller in Python has put in place are left as they are.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed; the next file that is opened would take its place, and what is printed to it
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    if sys.stderr is sys.__stderr__:
        sys.stderr = Lenient(sys.stderr)  # type: ignore[assignment,arg-type]


def abandon_output() -> None:
    """Discard what stdout has not written, which would fail again when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_closed(stream: TextIO) -> bool:
    """Whether `prepare` has opened it in place of a closed one."""
    return getattr(stream, "name", None) == os.devnull
