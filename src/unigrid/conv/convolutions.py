"""The convolutions of a network by level and slot, owned or borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def levels_of(model: Any) -> list[Any]:
    """Return the levels of a model's cycle, finest first. Raises TypeError for a model without a cycle."""
    levels = getattr(getattr(model, "cycle", None), "levels", None)
    if levels is None:
        raise TypeError(f"{type(model).__name__} has no cycle with levels, whose slots hold convolutions; try unigrid.MgNet")
    return list(levels)


def convolutions_of(slot: Any) -> list[nn.Module]:
    """Return all convolutions that a slot uses, each once."""
    found = (module for module in _modules(slot) if getattr(getattr(module, "weight", None), "ndim", 0) >= 3)  # has a kernel
    return list({id(module): module for module in found}.values())


def chains_of(slot: Any) -> list[list[Any]]:
    """Return, for each A or B of a slot, the convolutions that it applies one after the other, each chain once."""
    named = [module.convolution for module in _modules(slot) if hasattr(module, "convolution")]
    chains = [convolutions_of(part) for part in named or convolutions_of(slot)]
    return list({tuple(map(id, chain)): chain for chain in chains if chain}.values())


def _modules(slot: Any) -> Iterator[nn.Module]:
    """Yield the modules of a slot and, unlike `modules()`, those that it borrows."""
    if isinstance(slot, nn.Module):
        for module in slot.modules():
            yield module
            for value in vars(module).values():
                if isinstance(value, nn.Module):
                    yield from _modules(value)
