"""Plain convolutional networks, of the LeNet and VGG type, in the slots of the same cycle.

    smoother    the convolutions of one size, f <- sigma(chi f): the state is the data itself, as in a residual network
    R           pooling: the largest value or the mean of 2 x 2. Pooling is restriction, with nothing to train
    Pi, A       none

In its argument, a step f <- chi sigma(f) that keeps the channels equals sigma(f) - xi sigma eta sigma(f) with a fixed xi: a
residual step in disguise.

Source: J. He & J. Xu, MgNet (2019), section 4; K. Simonyan, A. Zisserman, Very deep convolutional networks, arXiv:1409.1556.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from ..cycle import Operator, Restriction, Smoother
from ..messages import choose
from .classifier import ACTIVATIONS, Classifier
from .configuration import configured, normalize_counts, normalize_levels, per_level
from .levels import ConvCycle, ConvLevel
from .residual import CarriedResidual

POOLING: dict[str, Callable[..., nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


@final
class PlainSteps(nn.Module, Smoother):
    """Convolution, batch norm, activation: as many as there are steps."""

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)

    @property
    def cost(self) -> float:
        return len(self.steps)

    def forward(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        return self.steps(operator.residual(f, u))


@final
class PoolingRestriction(nn.Module, Restriction):
    """R with nothing to train: the largest value, or the mean, of 2 x 2; an odd size is rounded up."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.pooling = POOLING[kind](2, ceil_mode=True)

    def forward(self, residual: Tensor) -> Tensor:
        return self.pooling(residual)


@dataclass(frozen=True)
class PlainConfig:
    """A plain convolutional network.

    Parameters
    ----------
    steps : tuple of int
        Convolutions of every level.
    channels : int or tuple of int
        Of every level.
    kernel : int
        Side of the convolutions, odd.
    pooling : "max" or "average"
    norm : bool
        Whether every convolution has a batch norm, instead of a bias.
    activation : str
        A key of `unigrid.conv.ACTIVATIONS`.
    in_channels, num_classes : int
    """

    steps: tuple[int, ...] = (1, 1, 2, 2, 2)
    channels: int | tuple[int, ...] = (64, 128, 256, 512, 512)
    kernel: int = 3
    pooling: str = "max"
    norm: bool = True
    activation: str = "relu"
    in_channels: int = 3
    num_classes: int = 10

    def __post_init__(self) -> None:
        choose(self.pooling, POOLING, "pooling")
        choose(self.activation, ACTIVATIONS, "activation")
        normalize_levels(self, ["steps", "channels"])
        normalize_counts(self, ["in_channels", "num_classes", "kernel"])
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, for an output as large as its input, got {self.kernel}")

    def build(self) -> PlainNet:
        """Return the network, untrained: PyTorch's initial weights, except for a head with about equal logits."""
        return PlainNet(self)


@final
class PlainNet(Classifier):
    """A network of the LeNet or VGG type, as a multigrid cycle without state transfer: smoothing by convolution, R by pooling.

    Parameters
    ----------
    config : PlainConfig, optional
        Or its fields, as keywords.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import PlainNet
    >>> PlainNet(steps=(1, 1), channels=(6, 16), kernel=5, pooling="average")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    config: PlainConfig

    def __init__(self, config: PlainConfig | None = None, **choices: Any) -> None:
        config = configured(PlainConfig, config, choices)
        channels = per_level(config.channels, len(config.steps))
        super().__init__(config, _layer(config, config.in_channels, channels[0]), _cycle(config, channels), channels[-1])


def _cycle(config: PlainConfig, channels: tuple[int, ...]) -> ConvCycle:
    """Return the levels; theta has done the first convolution of the first level."""
    levels = []
    for at, count in enumerate(config.steps):
        widths = [channels[at - 1], *[channels[at]] * count] if at else [channels[0]] * count
        steps = [_layer(config, narrow, wide) for narrow, wide in itertools.pairwise(widths)]
        last = at == len(config.steps) - 1
        levels.append(ConvLevel(CarriedResidual([]), PlainSteps(steps), None if last else PoolingRestriction(config.pooling)))
    return ConvCycle(levels)


def _layer(config: PlainConfig, inputs: int, outputs: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, config.kernel, padding=config.kernel // 2, bias=not config.norm)
    norms = [nn.BatchNorm2d(outputs)] if config.norm else []
    return nn.Sequential(convolution, *norms, ACTIVATIONS[config.activation]())
