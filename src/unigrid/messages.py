"""Checks of arguments shared by the package. Their messages name what came, what is allowed, and how to fix it.

Numbers of any make are accepted: Python's, NumPy's, 0-d arrays and tensors, fractions, decimals. They become int and float
where they come in, so that nothing behind a check meets another kind; no library is imported for that.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from numbers import Rational
from typing import Any, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
LONGEST = 100  # characters of a value in a message
DIGITS = 40  # of an integer that is written out
SCALARS = (bool, int, float, complex, str, bytes, type(None))
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
    if isinstance(name, str) and name in allowed:
        return name
    hint = nearest(name, allowed) if isinstance(name, str) else ""
    raise ValueError(f"unknown {what} {shown(name)}; allowed: {', '.join(map(repr, allowed))}{hint}")


def refuse_lost_gradient(name: str, value: Any) -> None:
    """Raise TypeError for a tensor that requires grad, where it is taken for a number or an array."""
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"{name} is a tensor that requires grad, and f is no tensor, so that its gradient would be lost; give f as "
            "a tensor too, or this one by .detach()"
        )


def checked_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return an integer of any make as an int, if it is at least `least` and at most `most`. Raises ValueError."""
    number = plain_number(value)
    if type(number) is int and number >= least and (most is None or number <= most):
        return number
    too_large = type(number) is int and number >= least
    wanted = f"an integer from {least} to {most}" if too_large else f"an integer >= {least}"
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def checked_number(
    name: str,
    value: Any,
    wanted: str = "a finite number >= 0",
    allowed: Callable[[float], bool] = lambda number: number >= 0,
) -> float:
    """Return a number of any make as a float, if it is finite and `allowed`. Raises ValueError with what is `wanted`."""
    number = plain_number(value)
    if type(number) is int:
        number = _as_float(number)
    if number is not None and math.isfinite(number) and allowed(number):
        return number
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def plain_number(value: Any) -> int | float | None:
    """Return a real number of any make, with no axes, as an int where it is one of an integer type, else as a float.

    A Fraction or a Decimal that is whole counts as an integer. NaN stands for what lies beyond the range of floats, and None
    for all that is no real number: truth values and complex numbers too.
    """
    if type(value) is float or type(value) is int:
        return value
    try:
        return _converted(value)
    except Exception:  # whatever a foreign type raises, it is no number
        return None


def _converted(value: Any) -> int | float | None:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("m", "M") or getattr(value, "mask", False):  # times, whose unit would be lost, and masked values
        return None
    if tuple(getattr(value, "shape", (0,))) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return None
    if hasattr(type(value), "__index__"):
        return operator.index(value)
    if not hasattr(type(value), "__float__"):
        return None
    number = _as_float(value)
    exact = isinstance(value, (Rational, Decimal)) and abs(number) < 2.0**53
    return int(number) if exact and value == int(number) else number


def _as_float(value: Any) -> float:
    """Return a number as a float, NaN where there is none near it."""
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if number or not value else math.nan


def entries_of(value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a sequence, or of an array along its first axis, as a tuple; None for a single value."""
    if isinstance(value, (*SCALARS, Mapping, Set)):
        return None
    try:
        return tuple(value)
    except Exception:  # 0-d arrays, as all that has no entries
        return None


def shown(value: Any) -> str:
    """Write a value for a message: on one line and short, an array by its shape."""
    text = " ".join(_short.repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


class _Short(reprlib.Repr):
    """Also of arrays, which would be written out, and of integers that are too long to be."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST

    def repr1(self, value: Any, level: int) -> str:
        if isinstance(value, int) and abs(value) >= 10**DIGITS:
            return f"an integer of about {math.floor(value.bit_length() * math.log10(2)) + 1} digits"
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape and hasattr(value, "dtype") and not isinstance(value, type):
            return f"{type(value).__name__} of shape {tuple(shape)}, {value.dtype}"
        return super().repr1(value, level)


_short = _Short()


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


def per_axis(values: float | Sequence[float], ndim: int, name: str) -> list[float]:
    """Return one number > 0 per axis, given as that or as one for all axes. Raises ValueError."""
    entries = entries_of(values)
    entries = (values,) * ndim if entries is None else entries
    if len(entries) != ndim:
        hint = "; distances along an axis are an entry: spacing=[array, ...]" if name == "spacing" and len(entries) > 3 else ""
        raise ValueError(f"{name} must be a number or one per axis, got {len(entries)} for {ndim} axes{hint}")
    return [checked_number(name, entry, "finite and > 0", lambda number: number > 0) for entry in entries]
