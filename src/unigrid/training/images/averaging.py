"""The moving average of a network's weights, which often classifies better than the last weights."""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn


@final
class WeightAverage:
    """A copy of a network with the moving average of its weights and of its batch norms' statistics.

        average <- d average + (1 - d) weights,     d = min(decay, (1 + n) / (10 + n)) after n steps, 0 after none

    The ramp of d lets the average of a short run forget its first weights.

    Source: B. Polyak & A. Juditsky, SIAM J. Control Optim. 30 (1992); the ramp is that of TensorFlow's moving average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay = decay
        averages, values = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        pairs = list(zip(averages, values, strict=True))
        averaged = [_has_average(average) for average in averages]
        self._averaged = [pair for pair, has in zip(pairs, averaged, strict=True) if has]
        self._copied = [pair for pair, has in zip(pairs, averaged, strict=True) if not has]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Update with the current weights after `steps` earlier updates; nothing waits for the device."""
        kept = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        averages, values = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, values, 1 - kept)
        for average, value in self._copied:
            average.copy_(value)


def _has_average(values: Tensor) -> bool:
    """Whether values can be averaged: no counts, as of batches in batch norms, and no masks with an infinity in a buffer."""
    return (values.is_floating_point() or values.is_complex()) and bool(values.isfinite().all())
