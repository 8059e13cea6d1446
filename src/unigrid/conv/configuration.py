"""Checks that the configurations of all networks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..messages import checked_count, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def configured(kind: type[Config], config: Config | None, choices: dict[str, Any]) -> Config:
    """Return the configuration with some of its fields chosen anew. Raises TypeError for an unknown one, naming the nearest."""
    known = [field.name for field in dataclasses.fields(kind)]
    for name in choices:
        if name not in known:
            raise TypeError(f"{kind.__name__} has no field {name!r}; it has {', '.join(known)}{nearest(name, known)}")
    return kind(**choices) if config is None else dataclasses.replace(config, **choices)


def per_level(value: int | tuple[int, ...], levels: int) -> tuple[int, ...]:
    """Return one number per level."""
    return value if isinstance(value, tuple) else (value,) * levels


def normalize_levels(config: Any, names: Sequence[str]) -> None:
    """Check these fields, each an integer >= 1 or one per level, and turn lists into tuples, which can be hashed.

    The first of them has one per level. Raises ValueError.
    """
    counting = names[0]
    for name in names:
        value = getattr(config, name)
        value = tuple(value) if isinstance(value, list) else value
        object.__setattr__(config, name, value)
        levels = getattr(config, counting)
        if not isinstance(levels, tuple) or not levels:
            raise ValueError(f"{counting} must have one entry per level, such as (2, 2, 2, 2), got {levels!r}")
        values = per_level(value, len(levels))
        if len(values) != len(levels):
            raise ValueError(
                f"{name} has {len(values)} entries, {counting} has {len(levels)}; give one number, or one per level"
            )
        for at, entry in enumerate(values):
            checked_count(f"{name}[{at}]" if isinstance(value, tuple) else name, entry)


def normalize_counts(config: Any, names: Sequence[str]) -> None:
    """Check these fields, each an integer >= 1, and turn NumPy's integers into ints."""
    for name in names:
        object.__setattr__(config, name, checked_count(name, getattr(config, name)))
