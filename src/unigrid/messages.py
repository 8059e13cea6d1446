"""Checks of arguments shared by the package. Their messages name what came, what is allowed, and how to fix it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
# What commands a terminal, breaks a line, turns the direction of writing, or stands for the undecodable bytes of a file name.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Return a text of foreign origin, such as the name of a file or a class, fit for a line on a terminal.

    >>> print(printable("cat\x1b[2J"))
    cat\x1b[2J
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return `name` if it is allowed; otherwise raise ValueError with the allowed names and the nearest of them."""
    allowed = list(allowed)
    if name in allowed:
        return name
    raise ValueError(f"unknown {what} {name!r}; allowed: {', '.join(map(repr, allowed))}{nearest(name, allowed)}")


def checked_count(name: str, value: Any, least: int = 1) -> int:
    """Return the value as an int if it is an integer, of NumPy's perhaps, and at least `least`. Raises ValueError."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return operator.index(value)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the allowed name most like `name`, or nothing."""
    spelled = {option.lower(): option for option in allowed}
    matches = difflib.get_close_matches(str(name).lower(), spelled, n=1, cutoff=0.6)
    return f"; did you mean {spelled[matches[0]]!r}?" if matches else ""


def reject_unknown_keywords(function: Callable[P, T], label: str | None = None) -> Callable[P, T]:
    """Let a function refuse an unknown keyword with the nearest one that it has.

    `label` is the name in the message: the function's own, or that of the class for a constructor, if not given.
    """
    parameters = inspect.signature(function).parameters
    known = [name for name, found in parameters.items() if name != "self" and found.kind is not found.POSITIONAL_ONLY]
    called = label or function.__qualname__.removesuffix(".__init__").split(".")[-1]

    @functools.wraps(function)
    def checked(*positional: P.args, **keywords: P.kwargs) -> T:
        for name in keywords:
            if name not in known:
                _refuse_keyword(name, called, known)
        return function(*positional, **keywords)

    return checked


def lists_options(options: type) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Show the fields of a frozen dataclass in the signature of a function that takes them as `**options`.

    So the dataclass is the only list of options, and users and tools see it.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)
        own = [found for found in signature.parameters.values() if found.kind is not found.VAR_KEYWORD]
        fields = [
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
            for field in dataclasses.fields(options)
        ]
        function.__signature__ = signature.replace(parameters=[*own, *fields])  # type: ignore[attr-defined]
        return function

    return decorate


def refuse_keyword(name: str, function: Callable[..., Any], label: str) -> NoReturn:
    """Raise TypeError for a keyword that a function, which the user calls `label`, does not have, with the nearest it has."""
    known = [each for each in inspect.signature(function).parameters if each not in ("self", "f")]
    _refuse_keyword(name, label, known)


def _refuse_keyword(name: str, label: str, known: list[str]) -> NoReturn:
    raise TypeError(f"{label} has no argument {name!r}; its arguments are {', '.join(known)}{nearest(name, known)}")
