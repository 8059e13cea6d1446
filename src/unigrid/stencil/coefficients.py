"""Coefficients as users give them, checked and brought to the forms that `coupled.faces_of` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..messages import checked_number, entries_of, plain_number, shown
from .grid import real_array


def checked_coefficient(coefficient: Any, shape: tuple[int, ...]) -> Any:
    """Return a number, one per axis as a tuple, an array, a tuple of arrays, or functions that return arrays.

    Raises TypeError or ValueError, naming what is allowed, for what can be none of these.
    """
    if callable(coefficient):
        return _guarded(coefficient, "coefficient")
    if isinstance(coefficient, np.ndarray) and coefficient.shape == (len(shape),) != shape:
        coefficient = tuple(coefficient)
    if isinstance(coefficient, bool | np.bool_ | str | bytes | dict | set):
        raise TypeError(f"coefficient must be {_allowed(shape)}; got {shown(coefficient)}")
    if not isinstance(coefficient, tuple | list) or len(coefficient) != len(shape):
        return coefficient
    if _is_nested(coefficient, len(shape)):
        return real_array(coefficient, "coefficient")
    entries = [_guarded(each, f"coefficient[{axis}]") if callable(each) else each for axis, each in enumerate(coefficient)]
    kinds = {_kind_of(each, f"coefficient[{axis}]") for axis, each in enumerate(entries)}
    if len(kinds) > 1:
        raise ValueError(
            f"coefficient has {' and '.join(f'{kind}s' for kind in sorted(kinds))} side by side, {shown(coefficient)}; give "
            "the same kind for every axis, numpy.full(shape, number) in place of a number"
        )
    return tuple(entries)


def constants_of(coefficient: Any, ndim: int) -> list[float] | None:
    """Return the coefficient of each axis, given as a number or as one per axis; None for what varies. Raises ValueError."""
    entries = coefficient if isinstance(coefficient, tuple | list) else (coefficient,) * ndim
    if len(entries) != ndim or any(plain_number(each) is None for each in entries):
        return None
    return [checked_number("coefficient", each, "a finite number > 0", lambda a: a > 0) for each in entries]


def _kind_of(entry: Any, name: str) -> str:
    if plain_number(entry) is not None:
        return "number"
    if callable(entry):
        return "function"
    if isinstance(entry, str) or entries_of(entry) is None:
        raise TypeError(
            f"{name} must be a number > 0, an array at the faces or a function of the coordinates, got {shown(entry)}"
        )
    return "array"


def _allowed(shape: tuple[int, ...]) -> str:
    return (
        f"a number, one per axis, an array of f's shape {shape}, a tuple of arrays at the faces of each axis, or a function of "
        "the coordinates"
    )


def _is_nested(entries: Sequence[Any], ndim: int) -> bool:
    """Whether these are the rows of an array of so many axes, and not one entry per axis of the grid."""
    try:
        return ndim > 1 and all(np.ndim(each) == ndim - 1 for each in entries)
    except ValueError:  # of different lengths
        return False


def _guarded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function whose failures are one line, about what it was called with and what it has to return."""
    called = f"{name} as a function of the coordinates"

    def checked(*x: Any) -> Any:
        shapes = [each.shape for each in x]
        try:
            values = function(*x)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"{called} failed with {reason}; it is called with one whole array per axis, here of shapes "
                f"{' and '.join(map(str, shapes))}, so numpy.where takes the place of if"
            ) from error
        array, wanted = real_array(values, f"{name}(...)"), np.broadcast_shapes(*shapes)
        try:
            np.broadcast_to(array, wanted)
        except ValueError:
            raise ValueError(f"{called} must return values that broadcast to {wanted}, got shape {array.shape}") from None
        return array

    return checked
