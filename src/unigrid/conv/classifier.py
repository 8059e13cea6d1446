"""Classifier: a cycle between theta, which maps images to data, and a head, which maps features to logits.

Annotations are evaluated here: a graph that torch.fx traces stores those of `forward`, and cannot be pickled with strings.
"""

import dataclasses
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from .levels import ConvCycle, LevelState

ACTIVATIONS: dict[str, type[nn.Module]] = {  # add your own under a name, and any configuration can use it
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


class Classifier(nn.Module):
    """theta, one multigrid cycle, global average pooling, one linear layer.

    Its subclasses, one per family of networks, fill the slots of the cycle from their configuration, a frozen dataclass with
    fields `in_channels` and `num_classes`. Theta maps images (n, in_channels, h, w) to data f of the finest level; the cycle
    returns features of `channels` channels, and `head_norm` is applied to them before they are pooled.
    """

    def __init__(
        self, config: Any, theta: nn.Module, cycle: ConvCycle, channels: int, head_norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.theta = theta
        self.cycle = cycle
        self.head_norm = head_norm
        self.num_features = channels
        self.head = _head(channels, config.num_classes)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.config.num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w), normalized as in training."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the features that the cycle returns for the images, not pooled."""
        return self.cycle(self.theta(self._checked(images)))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of features; with `pre_logits` the pooled features (n, num_features)."""
        if self.head_norm is not None:
            features = self.head_norm(features)
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward_intermediates(self, images: Tensor) -> tuple[Tensor, list[LevelState]]:
        """Return the result of `forward_features`, and data, features and residual of every level, finest first.

        Examples
        --------
        >>> import torch, unigrid
        >>> model = unigrid.create_model("mgnet-16-Bl").eval()
        >>> features, levels = model.forward_intermediates(torch.zeros(1, 3, 32, 32))
        >>> [tuple(level.features.shape) for level in levels]
        [(1, 16, 32, 32), (1, 16, 16, 16), (1, 16, 8, 8), (1, 16, 4, 4)]
        """
        return self.cycle.trace(self.theta(self._checked(images)))

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network a new, untrained head for another number of classes."""
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
        self.head = _head(self.num_features, self.num_classes).to(self.head.weight)

    def _checked(self, images: Tensor) -> Tensor:
        return _checked_images(images, type(self).__name__, self.config.in_channels, len(self.cycle.levels))


@torch.fx.wrap  # one node of a traced graph, which has no sizes that its conditions could depend on
def _checked_images(images: Tensor, model: str, channels: int, levels: int) -> Tensor:
    """Return the images. Raises ValueError or TypeError for those that a model of so many channels and levels cannot take."""
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(
            f"images of shape {tuple(images.shape)}; this {model} takes (batch, {channels}, height, width). Another number of "
            "channels: create_model(..., in_channels=)"
        )
    smallest = 2 ** (levels - 1)
    if min(images.shape[-2:]) < smallest:
        raise ValueError(
            f"images of {images.shape[-2]} x {images.shape[-1]} pixels; {levels} levels halve them and need at least "
            f"{smallest} x {smallest}. Enlarge the images, or take fewer levels"
        )
    if not torch.is_floating_point(images):
        raise TypeError(f"images of {images.dtype}; floating point is needed: (images.float() / 255 - mean) / std")
    return images


def _head(channels: int, num_classes: int) -> nn.Linear:
    """Return a linear layer that at first finds all classes about equally likely, for features of any size."""
    head = nn.Linear(channels, num_classes)
    if head.weight.is_meta:  # nothing to initialize, and torch would import its compiler for it, which takes seconds
        return head
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head
