"""Checks that the configurations of all networks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..messages import checked_count, entries_of, nearest, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MOST = 10**6  # layers, channels or classes
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
        entries = entries_of(value)
        levels = entries if name == counting else getattr(config, counting)
        if not levels:
            raise ValueError(f"{counting} must have one entry per level, such as (2, 2, 2, 2), got {shown(value)}")
        if entries is None:
            object.__setattr__(config, name, checked_count(name, value, 1, MOST))
            continue
        if len(entries) != len(levels):
            raise ValueError(
                f"{name} has {len(entries)} entries, {counting} has {len(levels)}; give one number, or one per level"
            )
        checked = tuple(checked_count(f"{name}[{at}]", entry, 1, MOST) for at, entry in enumerate(entries))
        object.__setattr__(config, name, checked)


def normalize_counts(config: Any, names: Sequence[str]) -> None:
    """Check these fields, each an integer >= 1 of any make, and turn them into ints."""
    for name in names:
        object.__setattr__(config, name, checked_count(name, getattr(config, name), 1, MOST))
