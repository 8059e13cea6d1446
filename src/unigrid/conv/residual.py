"""The residual networks, in the slots of the same cycle: ResNet, pre-act ResNet, sigma-ResNet and Mg-ResNet.

A residual network lives in data space. Its state is the residual r = f - A u itself, and u is not kept:

    A           the last convolution of every block, with the sign absorbed (`CarriedResidual`)
    B           the first convolution of every block
    smoother    the blocks of one size (`ResidualSteps`)
    R           the block that halves the grid, its 1x1 shortcut included (`BlockRestriction`)
    Pi          none: features begin at 0 on every level
    theta       the first convolution; head: the residual of the last level

Where A is shared in a level (the `Al` versions), the blocks of a pre-act ResNet are MgNet's smoothing steps exactly, for A is
linear and nothing stands behind it: r <- r - A sigma B sigma(r) is u <- u + sigma B sigma(f - A u). In the two other forms a
batch norm and an outer sigma stand behind A; they run through the same slots, but are not f - A u of any u.

Source: J. He & J. Xu, MgNet (2019), section 4; J. He, Y. Chen, L. Zhang, J. Xu, arXiv:1911.10428 (A^l, B^l versions);
K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning, arXiv:1512.03385, and Identity mappings, arXiv:1603.05027.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from ..cycle import Operator, Restriction, Smoother
from ..messages import choose
from .classifier import ACTIVATIONS, Classifier
from .configuration import configured, normalize_counts, normalize_levels, per_level
from .levels import ConvCycle, ConvLevel
from .slots import Borrowed, Part, hold


@final
class CarriedResidual(nn.Module, Operator):
    """A of a level whose state is the residual: f - A u is carried, so nothing has to be subtracted.

    The data f only start the residual, where there is no state yet; the smoother uses A^(l,i) itself. `steps` are A^(l,i) of
    every block, or a single one for all of them.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def of_step(self, step: int) -> nn.Module:
        """Return A^(l,i)."""
        return self.steps[step if len(self.steps) > 1 else 0]

    def forward(self, u: Tensor) -> Tensor:
        raise ValueError("the state of this level is its residual, so there is no A u; it takes no state transfer Pi")

    def residual(self, f: Tensor, u: Tensor | None) -> Tensor:
        return f if u is None else u


class _Block(nn.Module):
    """Common part of the blocks: B, two batch norms N and M, and the shortcut W. A is an argument of the call."""

    extractor: nn.Module

    def __init__(self, extractor: Part, normed: tuple[int, int], shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        hold(self, "extractor", extractor)
        self.first_norm = nn.BatchNorm2d(normed[0])
        self.second_norm = nn.BatchNorm2d(normed[1])
        self.shortcut = shortcut
        self.activation = activation


@final
class ResNetBlock(_Block):
    """r <- sigma(W r + M A sigma N B r)."""

    def forward(self, A: nn.Module, r: Tensor) -> Tensor:
        correction = self.activation(self.first_norm(self.extractor(r)))
        return self.activation(self.shortcut(r) + self.second_norm(A(correction)))


@final
class SigmaBlock(_Block):
    """r <- W sigma(r) + M A sigma N B sigma(r): the ResNet block in the argument of its last sigma."""

    def forward(self, A: nn.Module, r: Tensor) -> Tensor:
        r = self.activation(r)
        correction = self.activation(self.first_norm(self.extractor(r)))
        return self.shortcut(r) + self.second_norm(A(correction))


@final
class PreActBlock(_Block):
    """r <- r + A sigma M B sigma(N r), or, where the shortcut is no identity, W sigma(N r) in place of the first r."""

    def forward(self, A: nn.Module, r: Tensor) -> Tensor:
        activated = self.activation(self.first_norm(r))
        kept = r if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated)
        return kept + A(self.activation(self.second_norm(self.extractor(activated))))


BLOCKS: dict[str, type[_Block]] = {"resnet": ResNetBlock, "sigma": SigmaBlock, "pre-act": PreActBlock}


@final
class ResidualSteps(nn.Module, Smoother):
    """The blocks of one level, each with its B; A is the level's."""

    def __init__(self, blocks: Sequence[_Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    @property
    def cost(self) -> float:
        return len(self.blocks)

    def forward(self, operator: CarriedResidual, f: Tensor, u: Tensor | None) -> Tensor:
        r = operator.residual(f, u)
        for number, block in enumerate(self.blocks):
            r = block(operator.of_step(number), r)
        return r


@final
class BlockRestriction(nn.Module, Restriction):
    """R of a residual network: the block that halves the grid. It may borrow A from the level below, and B too."""

    operator: nn.Module

    def __init__(self, block: _Block, operator: Part) -> None:
        super().__init__()
        self.block = block
        hold(self, "operator", operator)

    def forward(self, residual: Tensor) -> Tensor:
        return self.block(self.operator, residual)


@final
class LiftedExtractor(nn.Module):
    """B of a level, borrowed by the block that enters it: a 1x1 convolution of stride 2 brings the data to that level first."""

    extractor: nn.Module

    def __init__(self, lift: nn.Module, extractor: Part) -> None:
        super().__init__()
        self.lift = lift
        hold(self, "extractor", extractor)

    def forward(self, r: Tensor) -> Tensor:
        return self.extractor(self.lift(r))


@dataclass(frozen=True)
class ResNetConfig:
    """A residual network.

    Parameters
    ----------
    blocks : tuple of int
        Residual blocks of every level; from the second level on, the first of them is the restriction into it.
    channels : int or tuple of int
        Of every level.
    form : "resnet", "sigma" or "pre-act"
        Where sigma stands. "sigma" is ResNet in the variable before its outer sigma: the same function of the image.
    operator_sharing, extractor_sharing : "step" or "level"
        A and B of every block, or one for all blocks of a level: the A^l, B^l versions. A restriction into a level shares with
        it; its B is then the level's after a 1x1 convolution of stride 2.
    activation : str
        A key of `unigrid.conv.ACTIVATIONS`.
    in_channels, num_classes : int

    Raises
    ------
    ValueError
        For a value that is not allowed.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    channels: int | tuple[int, ...] = (64, 128, 256, 512)
    form: str = "resnet"
    operator_sharing: str = "step"
    extractor_sharing: str = "step"
    activation: str = "relu"
    in_channels: int = 3
    num_classes: int = 10

    def __post_init__(self) -> None:
        choose(self.form, BLOCKS, "form")
        choose(self.activation, ACTIVATIONS, "activation")
        for name in ("operator_sharing", "extractor_sharing"):
            choose(getattr(self, name), ("step", "level"), name)
        normalize_levels(self, ["blocks", "channels"])
        normalize_counts(self, ["in_channels", "num_classes"])

    def build(self) -> ResNet:
        """Return the network, untrained: PyTorch's initial weights, except for a head with about equal logits."""
        return ResNet(self)


@final
class ResNet(Classifier):
    """ResNet, pre-act ResNet, sigma-ResNet and Mg-ResNet for small images, as a multigrid cycle in data space.

    Parameters
    ----------
    config : ResNetConfig, optional
        Or its fields, as keywords.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import ResNet
    >>> ResNet(channels=(8, 16), blocks=(1, 1), form="pre-act")(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """

    config: ResNetConfig

    def __init__(self, config: ResNetConfig | None = None, **choices: Any) -> None:
        config = configured(ResNetConfig, config, choices)
        builder = _Builder(config)
        super().__init__(config, builder.theta(), builder.cycle(), builder.channels[-1], builder.head_norm())


class _Builder:
    """Makes the slots of every level, coarsest first: a restriction borrows from the level that it enters."""

    def __init__(self, config: ResNetConfig) -> None:
        self.config = config
        self.channels = per_level(config.channels, len(config.blocks))
        self.block = BLOCKS[config.form]

    def theta(self) -> nn.Module:
        lift = nn.Conv2d(self.config.in_channels, self.channels[0], 3, padding=1, bias=False)
        if self.config.form == "pre-act":
            return lift
        norm = nn.BatchNorm2d(self.channels[0])
        return nn.Sequential(lift, norm) if self.config.form == "sigma" else nn.Sequential(lift, norm, self.activation())

    def head_norm(self) -> nn.Module | None:
        if self.config.form == "resnet":
            return None
        if self.config.form == "sigma":
            return self.activation()
        return nn.Sequential(nn.BatchNorm2d(self.channels[-1]), self.activation())

    def cycle(self) -> ConvCycle:
        levels: list[ConvLevel] = []
        restriction: BlockRestriction | None = None
        for at in reversed(range(len(self.channels))):
            channels = self.channels[at]
            steps = self.config.blocks[at] - (1 if at else 0)
            operators = self.modules(self.config.operator_sharing, steps, channels)
            extractors = self.modules(self.config.extractor_sharing, steps, channels)
            parts: list[Part] = [*extractors, *[Borrowed(extractor) for extractor in extractors] * (steps - len(extractors))]
            blocks = [self.block(part, (channels, channels), nn.Identity(), self.activation()) for part in parts]
            levels.insert(0, ConvLevel(CarriedResidual(operators), ResidualSteps(blocks), restriction))
            restriction = self.into(at, operators, extractors) if at else None
        return ConvCycle(levels)

    def modules(self, sharing: str, steps: int, channels: int) -> list[nn.Module]:
        """Return the convolutions of a level: one per step, or one for all."""
        return [self.convolution(channels, channels) for _ in range(min(steps, 1) if sharing == "level" else steps)]

    def into(self, at: int, operators: list[nn.Module], extractors: list[nn.Module]) -> BlockRestriction:
        """Return the block of stride 2 that leads into level `at`, and shares with it what the level's blocks share."""
        fine, coarse = self.channels[at - 1], self.channels[at]
        A: Part = self.convolution(coarse, coarse)
        if self.config.operator_sharing == "level" and operators:
            A = Borrowed(operators[0])
        B: Part = self.convolution(fine, coarse, stride=2)
        if self.config.extractor_sharing == "level" and extractors:
            B = LiftedExtractor(nn.Conv2d(fine, coarse, 1, stride=2, bias=False), Borrowed(extractors[0]))
        shortcut: nn.Module = nn.Conv2d(fine, coarse, 1, stride=2, bias=False)
        normed = (fine, coarse)  # pre-act norms what comes in, the others what B makes
        if self.config.form != "pre-act":
            shortcut, normed = nn.Sequential(shortcut, nn.BatchNorm2d(coarse)), (coarse, coarse)
        return BlockRestriction(self.block(B, normed, shortcut, self.activation()), A)

    def convolution(self, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)

    def activation(self) -> nn.Module:
        return ACTIVATIONS[self.config.activation]()
