"""The optimizers of a protocol: SGD, AdamW, or Muon for convolutions and SGD for all other weights.

Muon takes the momentum of a kernel as a matrix, outputs x (inputs 3 3), and replaces it by the nearest matrix with orthogonal
rows or columns: all directions of a kernel then learn at the same rate.

Source: K. Jordan et al., Muon, kellerjordan.github.io/posts/muon (2024); torch.optim.Muon, which takes matrices alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from .protocols import ImageProtocol


def optimizer_of(model: nn.Module, protocol: ImageProtocol) -> torch.optim.Optimizer | Together:
    """Return the optimizer; batch norms, biases and other values per channel decay only if the protocol has `decay_norms`."""
    kernels = [each for each in model.parameters() if protocol.optimizer == "muon" and _is_kernel(each)]
    taken = {id(kernel) for kernel in kernels}
    groups = []
    for decaying, weight_decay in ((True, protocol.weight_decay), (False, 0.0)):
        params = [
            each for each in model.parameters() if id(each) not in taken and (each.ndim > 1 or protocol.decay_norms) == decaying
        ]
        groups += [{"params": params, "weight_decay": weight_decay}] if params else []
    if protocol.optimizer == "adamw":
        return torch.optim.AdamW(groups, protocol.learning_rate, (protocol.momentum, 0.999))
    parts: list[torch.optim.Optimizer] = []
    if groups:
        parts = [torch.optim.SGD(groups, protocol.learning_rate, protocol.momentum, nesterov=protocol.nesterov)]
    if kernels:
        parts += [MuonOfKernels(kernels, protocol)]
    return parts[0] if len(parts) == 1 else Together(parts)


def _is_kernel(weight: Tensor) -> bool:
    """Whether a weight is a kernel between several channels. One that has a single channel is no matrix of any rank but 1."""
    return weight.ndim > 2 and min(weight.shape[:2]) > 1 and weight.is_floating_point()


def _as_matrix(kernel: Tensor) -> Tensor:
    """Return a kernel as a matrix, a view where its memory allows: the order of the columns changes nothing."""
    if kernel.ndim == 4 and kernel.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.flatten(1)


@final
class MuonOfKernels(torch.optim.Muon):
    """torch's Muon for kernels of any number of dimensions, which it changes in place through views of them."""

    def __init__(self, kernels: Sequence[nn.Parameter], protocol: ImageProtocol) -> None:
        self.kernels = list(kernels)
        matrices = [_as_matrix(kernel.detach()) for kernel in self.kernels]
        super().__init__(matrices, protocol.learning_rate, protocol.weight_decay, protocol.momentum, protocol.nesterov)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for kernel in self.kernels:
            kernel.grad = None

    def step(self, closure: Any = None) -> Any:
        for kernel, matrix in zip(self.kernels, self.param_groups[0]["params"], strict=True):
            if kernel.grad is not None:
                gradient = kernel.grad
                if kernel.ndim == 4 and kernel.is_contiguous(memory_format=torch.channels_last):
                    gradient = gradient.contiguous(memory_format=torch.channels_last)
                matrix.grad = _as_matrix(gradient)
        return super().step(closure)  # type: ignore[no-untyped-call]


@final
class Together:
    """Several optimizers, each of weights of its own, as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Do one step of every part."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of all parts."""
        for part, its in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(its)
