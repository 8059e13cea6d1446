"""MgNet: convolutions in the slots of the multigrid cycle, with every choice that the paper and its code make.

    f^1 = theta(image),  u^1 = 0
    on level l:   u <- u + B^(l,i) (f - A^l u),  i = 1..nu_l          features extracted by smoothing
                  f' = R (f - A u) + A' u',  u' = Pi u                residual and features pooled by restriction
    head:         global average pooling of the last u, one linear layer

With * a trained convolution, N a batch norm and sigma the activation, the slots hold by default

    A u = xi * u                                  theta = sigma N (xi * image)
    B r = sigma N (eta * sigma N r)               the first N acts on the residual r = f - A u
    R r = sigma N (rho * r),  Pi u = sigma N (pi * u), both with stride 2;  A' u' has neither N nor sigma

This file only fills slots; the loop is `unigrid.cycle`.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithm 3 and section 5; J. He, Y. Chen, L. Zhang, J. Xu,
Constrained linear data-feature mapping, arXiv:1911.10428 (sharing of A and B); the authors' released code and notes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

from torch import nn

from ..cycle import Operator, Smoother
from ..messages import choose, shown
from .classifier import ACTIVATIONS, Classifier
from .configuration import configured, normalize_counts, normalize_levels, per_level
from .levels import ConvCycle, ConvLevel
from .slots import (
    Borrowed,
    Bottleneck,
    ChannelwiseConvolution,
    ChebyshevExtraction,
    ConvOperator,
    ConvProlongation,
    ConvRestriction,
    ConvStateTransfer,
    Extraction,
    FeatureExtraction,
    MultiStepExtraction,
    Part,
    StepOperators,
    UnusedOperator,
)

CHOICES = {
    "operator": ("linear", "nonlinear"),
    "operator_sharing": ("level", "global", "step"),
    "extractor": ("convolution", "bottleneck"),
    "extractor_sharing": ("level", "scaled", "step", "global"),
    "restriction_sharing": ("level", "global"),
    "state_transfer": ("convolution", "channelwise", "zero"),
    "state_transfer_sharing": ("level", "global"),
    "norms": ("step", "level", "none"),
    "semi_iteration": ("none", "chebyshev", "multi-step"),
    "cycle": ("down", "V"),
    "padding": ("zeros", "circular"),
    "activation": ACTIVATIONS,
}
BACKSLASH = "\\"  # the name of the down-sweep in the multigrid literature


@dataclass(frozen=True)
class MgNetConfig:
    r"""All choices of MgNet, checked at construction. The defaults are those of the authors' released code.

    Parameters
    ----------
    steps : tuple of int
        nu_l, the smoothing steps of every level; their number is the number of levels J.
    features, data : int, or one per level
        Channels c_u of the features u and c_f of the data f; `data=None`: as many as features.
    operator : "linear" or "nonlinear"
        A is one 3x3 convolution, or xi sigma eta, two of them with the activation between.
    operator_sharing : "level", "global" or "step"
        One A per level, one for all levels, or one for every smoothing step. Then the last step's A transfers on the fine level
        and the first step's on the coarse one.
    extractor : "convolution" or "bottleneck"
        B is one 3x3 convolution, or 1x1, 3x3, 1x1 with a quarter of the channels between.
    extractor_sharing : "level", "scaled", "step" or "global"
        B^l; alpha_i B^l with trained numbers alpha; B^(l,i); one B for all levels. The way up of a V-cycle has its own B^l.
    restriction_sharing, state_transfer_sharing : "level" or "global"
    state_transfer : "convolution", "channelwise" or "zero"
        Pi is a 3x3 convolution of stride 2, one 3x3 kernel for every channel, or nothing: features begin at 0 on every level.
    transfer_norms, transfer_activation : bool
        Whether R and Pi (and P) are followed by a batch norm, and R and Pi by the activation.
    operator_norm : bool
        Whether A' u' has a batch norm, too (three per transfer: the layout of the MNIST model).
    norms : "step", "level" or "none"
        Batch norms of the smoothing steps and of theta: separate ones for every step, even where convolutions are shared; the
        same ones in all steps of a level, whose running statistics then mix those of all steps; or none.
    semi_iteration : "none", "chebyshev" or "multi-step"
        How a step uses the states before it.
    cycle : "down" or "V"
        The down-sweep alone (also written "\\"), or also a trained up-sweep u <- u + P(u' - Pi u) with as many smoothing steps.
    padding : "zeros" or "circular"
    activation : str
        sigma, a key of `unigrid.conv.ACTIVATIONS`.
    in_channels, num_classes : int

    Raises
    ------
    ValueError
        For a value that is not allowed, and for choices that contradict each other.

    Examples
    --------
    >>> from unigrid.conv import MgNet, MgNetConfig
    >>> sum(p.numel() for p in MgNet(MgNetConfig(features=64)).parameters())
    521418
    """

    steps: tuple[int, ...] = (2, 2, 2, 2)
    features: int | tuple[int, ...] = 64
    data: int | tuple[int, ...] | None = None
    operator: str = "linear"
    operator_sharing: str = "level"
    extractor: str = "convolution"
    extractor_sharing: str = "level"
    restriction_sharing: str = "level"
    state_transfer: str = "convolution"
    state_transfer_sharing: str = "level"
    transfer_norms: bool = True
    transfer_activation: bool = True
    operator_norm: bool = False
    norms: str = "step"
    semi_iteration: str = "none"
    cycle: str = "down"
    padding: Literal["zeros", "circular"] = "zeros"
    activation: str = "relu"
    in_channels: int = 3
    num_classes: int = 10

    def __post_init__(self) -> None:
        if self.cycle == BACKSLASH:
            object.__setattr__(self, "cycle", "down")
        for name, allowed in CHOICES.items():
            choose(getattr(self, name), allowed, name)
        normalize_levels(self, ["steps", "features"] if self.data is None else ["steps", "features", "data"])
        normalize_counts(self, ["in_channels", "num_classes"])
        for name in ("transfer_norms", "transfer_activation", "operator_norm"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {shown(getattr(self, name))}")
        self._check_sharing()

    def _check_sharing(self) -> None:
        spaces = {"features": self.channels_of_features, "data": self.channels_of_data}
        changing = {space: channels for space, channels in spaces.items() if len(set(channels)) > 1}
        for space, channels in changing.items():
            for name in ("operator", "extractor", "restriction" if space == "data" else "state_transfer"):
                if getattr(self, f"{name}_sharing") == "global":
                    raise ValueError(f"{name}_sharing='global' needs as many {space} on every level, got {channels}")
        if self.state_transfer == "channelwise" and "features" in changing:
            raise ValueError(f"state_transfer='channelwise' keeps the channels, but features={self.features} changes them")
        if self.operator_norm and self.state_transfer == "zero":
            raise ValueError("operator_norm=True normalizes A' u', which state_transfer='zero' never makes")
        if self.extractor == "bottleneck" and min(self.channels_of_features) < 4:
            raise ValueError(f"extractor='bottleneck' takes a quarter of the features, at least 4 of them, got {self.features}")

    @property
    def channels_of_features(self) -> tuple[int, ...]:
        """c_u of every level."""
        return per_level(self.features, len(self.steps))

    @property
    def channels_of_data(self) -> tuple[int, ...]:
        """c_f of every level."""
        return self.channels_of_features if self.data is None else per_level(self.data, len(self.steps))

    def build(self) -> MgNet:
        """Return the network, untrained: PyTorch's initial weights, except for a head with about equal logits."""
        return MgNet(self)


@final
class MgNet(Classifier):
    """MgNet, the multigrid cycle that classifies images.

    A, B, R and Pi of a level are `model.cycle.levels[l].operator`, `.smoother`, `.restriction` and `.state_transfer`.

    Parameters
    ----------
    config : MgNetConfig, optional
        By default that of the released code.
    **choices
        Fields of `MgNetConfig`, to vary it.

    Raises
    ------
    ValueError, TypeError
        For a choice that is not allowed, and for an unknown one, with the nearest.

    Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithm 3.

    Examples
    --------
    >>> import torch, unigrid
    >>> model = unigrid.MgNet(features=16, extractor_sharing="step", num_classes=10)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    config: MgNetConfig

    def __init__(self, config: MgNetConfig | None = None, **choices: Any) -> None:
        config = configured(MgNetConfig, config, choices)
        builder = _Builder(config)
        super().__init__(
            config, builder.theta(), builder.cycle(), config.channels_of_features[-1 if config.cycle == "down" else 0]
        )


class _Builder:
    """Makes the slots of every level from the configuration; shared modules are made once and borrowed afterwards."""

    def __init__(self, config: MgNetConfig) -> None:
        self.config = config
        self.features, self.data = config.channels_of_features, config.channels_of_data
        self.last = len(config.steps) - 1
        self.owned: dict[tuple[Any, ...], nn.Module] = {}

    def theta(self) -> nn.Module:
        lift = self.convolution(self.config.in_channels, self.data[0])
        norms = [] if self.config.norms == "none" else [nn.BatchNorm2d(self.data[0])]
        return nn.Sequential(lift, *norms, self.activation())

    def cycle(self) -> ConvCycle:
        return ConvCycle([self.level(at) for at in range(self.last + 1)])

    def level(self, at: int) -> ConvLevel:
        operator, smoother = self.operator(at), self.smoother(at, "extractor")
        if at == self.last:
            return ConvLevel(operator, smoother)
        ascent: dict[str, Any] = {}
        if self.config.cycle == "V":
            ascent = {"prolongation": self.prolongation(at), "post_smoother": self.smoother(at, "post-extractor")}
        return ConvLevel(operator, smoother, self.restriction(at), self.state_transfer(at), **ascent)

    # what the slots of one level hold

    def operator(self, at: int) -> Operator:
        """Return A; where it is only ever applied to a state of zero, it must hold no weights."""
        transfers = at > 0 and self.config.state_transfer != "zero"  # then A of the first step is the A' of A' u'
        used = [step > 0 or transfers for step in range(self.config.steps[at])]
        if at < self.last:
            used[-1] = True  # f - A u, to be restricted
            if self.config.cycle == "V":
                used = [True] * len(used)  # the way up
        if self.config.operator_sharing != "step":
            return self.conv_operator(at, transfers) if any(used) else UnusedOperator()
        return StepOperators(
            [self.conv_operator(at, transfers and step == 0) if use else UnusedOperator() for step, use in enumerate(used)]
        )

    def conv_operator(self, at: int, transfers: bool) -> ConvOperator:
        part = self.shared("operator", self.config.operator_sharing, at, lambda: self.mapping(at))
        return ConvOperator(part, nn.BatchNorm2d(self.data[at]) if self.config.operator_norm and transfers else None)

    def mapping(self, at: int) -> nn.Module:
        """Return A itself: features to data."""
        features, data = self.features[at], self.data[at]
        if self.config.operator == "linear":
            return self.convolution(features, data)
        return nn.Sequential(self.convolution(features, data), self.activation(), self.convolution(data, data))

    def smoother(self, at: int, name: str) -> Smoother:
        steps = self.config.steps[at]
        if self.config.semi_iteration == "multi-step":
            return MultiStepExtraction([[self.extraction(at, name) for _ in range(step + 1)] for step in range(steps)])
        kind = FeatureExtraction if self.config.semi_iteration == "none" else ChebyshevExtraction
        return kind([self.extraction(at, name) for _ in range(steps)])

    def extraction(self, at: int, name: str) -> Extraction:
        part = self.extractor(at, name)
        norms = (self.step_norm(f"{name} data", self.data[at], at), self.step_norm(f"{name} features", self.features[at], at))
        return Extraction(part, norms, self.activation(), scaled=self.config.extractor_sharing == "scaled")

    def extractor(self, at: int, name: str) -> Part:
        """Return B itself: data to features."""
        sharing, data, features = self.config.extractor_sharing, self.data[at], self.features[at]
        own = "extractor" if sharing == "global" else name  # one B for all levels serves the way up as well
        if self.config.extractor == "convolution":
            return self.shared(own, sharing, at, lambda: self.convolution(data, features))
        thin = features // 4
        convolutions = (
            self.shared(f"narrow {own}", sharing, at, lambda: nn.Conv2d(data, thin, 1, bias=False)),
            self.shared(f"between {own}", sharing, at, lambda: self.convolution(thin, thin)),
            self.shared(f"widen {own}", sharing, at, lambda: nn.Conv2d(thin, features, 1, bias=False)),
        )
        norms = (self.step_norm(f"{name} narrow", thin, at), self.step_norm(f"{name} between", thin, at))
        return Bottleneck(convolutions, norms, self.activation())

    def restriction(self, at: int) -> ConvRestriction:
        pooling = self.shared("restriction", self.config.restriction_sharing, at, lambda: self.pooling(self.data, at))
        return ConvRestriction(pooling, *self.after_transfer(self.data[at + 1]))

    def state_transfer(self, at: int) -> ConvStateTransfer | None:
        if self.config.state_transfer == "zero":
            return None
        sharing = self.config.state_transfer_sharing
        pooling = self.shared("state transfer", sharing, at, lambda: self.feature_pooling(at))
        return ConvStateTransfer(pooling, *self.after_transfer(self.features[at + 1]))

    def feature_pooling(self, at: int) -> nn.Module:
        """Return Pi itself, without norm and activation."""
        if self.config.state_transfer == "channelwise":
            return ChannelwiseConvolution(self.config.padding)
        return self.pooling(self.features, at)

    def prolongation(self, at: int) -> ConvProlongation:
        norm = nn.BatchNorm2d(self.features[at]) if self.config.transfer_norms else None
        return ConvProlongation(self.features[at + 1], self.features[at], norm, self.config.padding)

    # the pieces they are made of

    def shared(self, name: str, sharing: str, at: int, make: Callable[[], nn.Module]) -> Part:
        """Return a new module at the first call, and the same one, borrowed, at the calls that share it."""
        if sharing == "step":
            return make()
        key = (name,) if sharing == "global" else (name, at)
        if key in self.owned:
            return Borrowed(self.owned[key])
        self.owned[key] = make()
        return self.owned[key]

    def step_norm(self, name: str, channels: int, at: int) -> Part:
        if self.config.norms == "none":
            return nn.Identity()
        return self.shared(f"norm of {name}", self.config.norms, at, lambda: nn.BatchNorm2d(channels))

    def after_transfer(self, channels: int) -> tuple[nn.Module | None, nn.Module | None]:
        norm = nn.BatchNorm2d(channels) if self.config.transfer_norms else None
        return norm, self.activation() if self.config.transfer_activation else None

    def pooling(self, channels: tuple[int, ...], at: int) -> nn.Module:
        return self.convolution(channels[at], channels[at + 1], stride=2)

    def convolution(self, inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False, padding_mode=self.config.padding)

    def activation(self) -> nn.Module:
        return ACTIVATIONS[self.config.activation]()
