"""A claim that two models are the same: the cases that it is tried on, and by how much the two sides differ in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-12
Outputs = Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class Side:
    """One side of an equation: a model, and how it is run.

    Parameters
    ----------
    model : nn.Module, or anything else
        The buffers of a module are restored after each run, so that running statistics do not move. Two sides must not share a
        module, or nothing would be compared.
    run : callable
        `run(model, *inputs)` returns a tensor or several: logits, the features of each level, updated statistics.
    """

    model: Any
    run: Callable[..., Outputs]

    def outputs(self, inputs: Sequence[Tensor], training: bool = False) -> list[Tensor]:
        """Return the outputs of this side, in evaluation or in training mode, without gradients."""
        modules = [self.model.train(training)] if isinstance(self.model, nn.Module) else []
        buffers = [buffer for module in modules for buffer in module.buffers()]
        before = [buffer.clone() for buffer in buffers]
        with torch.no_grad():
            found = self.run(self.model, *inputs)
            results = [value.clone() for value in ([found] if isinstance(found, Tensor) else found)]
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        return results


@dataclass(frozen=True)
class Case:
    """Two sides that ought to agree on these inputs; differences are relative to the left one.

    With `training`, norms use the statistics of the batch and update their own, which the sides may return to be compared.
    """

    name: str
    left: Side
    right: Side
    inputs: tuple[Tensor, ...]
    training: bool = False

    def difference(self) -> float:
        """Return the largest relative difference of the outputs, max |a - b| / max |a| for each of them.

        It is NaN or infinite if an output is; if an output of the left side is zero throughout, which compares nothing; and
        infinite if the sides return other shapes, or another number of outputs.
        """
        left, right = (side.outputs(self.inputs, self.training) for side in (self.left, self.right))
        if [value.shape for value in left] != [value.shape for value in right]:
            return math.inf
        return largest(_relative(a, b) for a, b in zip(left, right, strict=True))


@dataclass(frozen=True)
class Claim:
    """An equivalence, in words, and the cases that it is tried on.

    Parameters
    ----------
    claim, conditions, compared : str
        The equivalence; its conditions; and the outputs that are compared.
    cases : callable
        `cases(seed)` returns or yields the `Case`s of one seed, with weights and inputs in float64 that depend on it alone.
    tolerance : float
        The largest relative difference that passes.
    """

    claim: str
    conditions: str
    compared: str
    cases: Callable[[int], Iterable[Case]]
    tolerance: float = TOLERANCE


def largest(values: Iterable[float]) -> float:
    """Return the largest number, NaN if one of them is, as `max` ignores NaN; infinity if there is none."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values, default=math.inf)


def _relative(a: Tensor, b: Tensor) -> float:
    if a.numel() == 0:
        return math.inf
    scale = float(a.abs().max())
    difference = float((a - b).abs().max())
    return difference / scale if scale else math.inf
