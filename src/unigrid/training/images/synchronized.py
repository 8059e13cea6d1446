"""Batch norms over the images of all processes, on any device: `torch.nn.SyncBatchNorm` is for GPUs alone.

    m = sum_r n_r m_r / n,    v = sum_r n_r (v_r + (m_r - m)^2) / n      of the n = sum_r n_r values of a channel

from mean m_r and variance v_r of the values in process r. Sums of squares would be one message as well, but lose the digits of
a variance that is small beside the mean.

Source: T. Chan, G. Golub, R. LeVeque, The American Statistician 37 (1983), for the formula.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..runs.processes import Processes

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextlib.contextmanager
def synchronized(model: nn.Module, processes: Processes) -> Iterator[None]:
    """Let the batch norms of a model, in training mode, take mean and variance over all processes meanwhile."""
    if processes.world == 1:
        yield
        return
    classes: dict[type[nn.Module], type[nn.Module]] = {
        kind: type(f"Synchronized{kind.__name__}", (_Synchronized, kind), {"processes": processes}) for kind in KINDS
    }
    norms = [(module, type(module)) for module in model.modules() if type(module) in classes]
    for module, kind in norms:
        module.__class__ = classes[kind]
    try:
        yield
    finally:
        for module, kind in norms:
            module.__class__ = kind


class _Synchronized(nn.modules.batchnorm._BatchNorm):
    """The part of a batch norm that is another one over several processes."""

    processes: Processes

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        values = input if input.dtype == torch.float64 else input.float()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        own, channels = torch.var_mean(values, axes, correction=0), values.shape[1]
        counted = values.new_full((1,), values.numel() / channels)
        parts = _gathered(torch.cat([*own, counted]), self.processes)
        variances, means, counts = parts.split([channels, channels, 1], dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
        normal = (values - mean.view(shape)) * scale.view(shape)
        return (normal if self.bias is None else normal + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Add a batch to the running mean and variance, where they are tracked; without a momentum as their plain average."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked.to(mean) if self.momentum is None else self.momentum
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running += (momentum * (value - running)).to(running.dtype)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch.compile compiles what is between messages
def _gathered(values: Tensor, processes: Processes) -> Tensor:
    """Return the values of all processes, one row each."""
    rows: Tensor = _Gathered.apply(values, processes)  # type: ignore[no-untyped-call]
    return rows


class _Gathered(torch.autograd.Function):
    """Every loss depends on all rows: the gradient of a process's row is the sum over the losses of all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.whole(values[None], processes.world)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.total(gradients[0])[ctx.processes.rank], None
