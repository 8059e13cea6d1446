"""MgNet with a way up is a U-Net: the same weights in an encoder and a decoder that are written out, without any cycle.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithm 3 (the way down) and its V-cycle in the authors' later
notes; O. Ronneberger, P. Fischer, T. Brox, U-Net, arXiv:1505.04597.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ..conv.classifier import ACTIVATIONS
from ..conv.mgnet import MgNet, MgNetConfig
from .rewriting import filled

WRITTEN_OUT = {
    "cycle": ("V",),
    "operator": ("linear",),
    "operator_sharing": ("level",),
    "extractor": ("convolution",),
    "extractor_sharing": ("level", "step"),
    "restriction_sharing": ("level",),
    "state_transfer": ("convolution", "zero"),
    "state_transfer_sharing": ("level",),
    "operator_norm": (False,),
    "norms": ("step",),
    "semi_iteration": ("none",),
    "padding": ("zeros",),
}
# The dictionary, name by name: a weight of the U-Net, and the same weight of MgNet.
NAMES = (
    (r"theta\.(.+)", r"theta.\1"),
    (r"explain\.(\d+)\.(.+)", r"cycle.levels.\1.operator.convolution.\2"),
    (r"encoder\.(\d+)\.(data_norm|feature_norm|convolution)s\.(\d+)\.(.+)", r"cycle.levels.\1.smoother.steps.\3.\2.\4"),
    (r"decoder\.(\d+)\.(data_norm|feature_norm|convolution)s\.(\d+)\.(.+)", r"cycle.levels.\1.post_smoother.steps.\3.\2.\4"),
    (r"pool_data\.(\d+)\.(convolution|norm)\.(.+)", r"cycle.levels.\1.restriction.\2.\3"),
    (r"pool_features\.(\d+)\.(convolution|norm)\.(.+)", r"cycle.levels.\1.state_transfer.\2.\3"),
    (r"unpool\.(\d+)\.(convolution|norm)\.(.+)", r"cycle.levels.\1.prolongation.\2.\3"),
    (r"head\.(.+)", r"head.\1"),
)


class Skip(NamedTuple):
    """The skip connection from the encoder to the decoder of the same level."""

    data: Tensor
    features: Tensor
    start: Tensor | None  # the features that the coarser level began with


@final
class UNet(nn.Module):
    """An encoder that halves the grid, a decoder that doubles it, and skip connections from the one to the other.

        encoder    u <- u + sigma N B sigma N (f - A u), some times; skip (f, u); f <- pooled residual + A' u', u <- pooled u
        decoder    u <- u of the skip + unpooled change of the coarser u; then as in the encoder, with f of the skip
        head       global average pooling, one linear layer

    Beside the features u of a usual U-Net it has the data f, which every step uses again. It does not use `MultigridCycle`.
    `to_unet` makes it from an MgNet.

    Parameters
    ----------
    config : MgNetConfig
        With cycle="V" and, for the rest, the choices that `WRITTEN_OUT` lists.

    Raises
    ------
    ValueError
        For a choice that is not written out.
    """

    def __init__(self, config: MgNetConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        features, data = config.channels_of_features, config.channels_of_data
        levels, levels_but_last = range(len(config.steps)), range(len(config.steps) - 1)
        self.activation = ACTIVATIONS[config.activation]()
        self.theta = nn.Sequential(_convolution(config.in_channels, data[0]), nn.BatchNorm2d(data[0]), self.activation)
        self.explain = nn.ModuleList(
            _convolution(features[at], data[at]) if _explains(config, at) else nn.Identity() for at in levels
        )
        self.encoder = nn.ModuleList(_Stage(config, at) for at in levels)
        self.decoder = nn.ModuleList(_Stage(config, at) for at in levels_but_last)
        self.pool_data = nn.ModuleList(_pool(config, data[at], data[at + 1]) for at in levels_but_last)
        pools = levels_but_last if config.state_transfer == "convolution" else range(0)
        self.pool_features = nn.ModuleList(_pool(config, features[at], features[at + 1]) for at in pools)
        self.unpool = nn.ModuleList(_Unpool(config, features[at + 1], features[at]) for at in levels_but_last)
        self.head = nn.Linear(features[0], config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, num_classes) of images (n, in_channels, h, w)."""
        features = self.decode(*self.encode(self.theta(images)))
        return self.head(features.mean(dim=(2, 3)))

    def encode(self, f: Tensor) -> tuple[Tensor, list[Skip]]:
        """Return the features of the coarsest level, and the skip connections of the others, finest first."""
        u: Tensor | None = None
        skips: list[Skip] = []
        for at, stage in enumerate(self.encoder[:-1]):
            u = stage(self.explain[at], f, u)
            pooled = self.pool_data[at](f - self.explain[at](u))
            start = self.pool_features[at](u) if len(self.pool_features) else None
            skips.append(Skip(f, u, start))
            f, u = pooled if start is None else pooled + self.explain[at + 1](start), start
        return self.encoder[-1](self.explain[-1], f, u), skips

    def decode(self, u: Tensor, skips: list[Skip]) -> Tensor:
        """Return the features of the finest level."""
        for at in reversed(range(len(skips))):
            skip = skips[at]
            change = u if skip.start is None else u - skip.start
            u = self.decoder[at](self.explain[at], skip.data, skip.features + self.unpool[at](change, skip.features))
        return u


class _Stage(nn.Module):
    """The convolutions of one size: u <- u + sigma N B sigma N (f - A u)."""

    def __init__(self, config: MgNetConfig, at: int) -> None:
        super().__init__()
        features, data, steps = config.channels_of_features[at], config.channels_of_data[at], config.steps[at]
        count = 1 if config.extractor_sharing == "level" else steps
        self.convolutions = nn.ModuleList(_convolution(data, features) for _ in range(count))
        self.data_norms = nn.ModuleList(nn.BatchNorm2d(data) for _ in range(steps))
        self.feature_norms = nn.ModuleList(nn.BatchNorm2d(features) for _ in range(steps))
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, explain: nn.Module, f: Tensor, u: Tensor | None) -> Tensor:
        for step, (data_norm, feature_norm) in enumerate(zip(self.data_norms, self.feature_norms, strict=True)):
            residual = f if u is None else f - explain(u)
            convolution = self.convolutions[step if len(self.convolutions) > 1 else 0]
            found = self.activation(feature_norm(convolution(self.activation(data_norm(residual)))))
            u = found if u is None else u + found
        assert u is not None
        return u


def _pool(config: MgNetConfig, inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution of stride 2, with norm and activation."""
    norm = nn.BatchNorm2d(outputs) if config.transfer_norms else nn.Identity()
    activation = ACTIVATIONS[config.activation]() if config.transfer_activation else nn.Identity()
    return nn.Sequential(OrderedDict(convolution=_convolution(inputs, outputs, stride=2), norm=norm, activation=activation))


class _Unpool(nn.Module):
    """A transposed convolution of stride 2 onto the grid of what it will be added to, with norm."""

    def __init__(self, config: MgNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs) if config.transfer_norms else nn.Identity()

    def forward(self, coarse: Tensor, onto: Tensor) -> Tensor:
        return self.norm(self.convolution(coarse, output_size=onto.shape[-2:]))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _explains(config: MgNetConfig, at: int) -> bool:
    """Return whether A of a level is ever applied: not where a single step starts from u = 0 and is the last."""
    return at < len(config.steps) - 1 or config.steps[at] > 1 or (at > 0 and config.state_transfer != "zero")


def _check(config: MgNetConfig) -> None:
    for name, allowed in WRITTEN_OUT.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(
                f"{name}={value!r} is not written out as a U-Net; {' or '.join(f'{name}={entry!r}' for entry in allowed)} is"
            )


def to_unet(mgnet: MgNet) -> UNet:
    """Return MgNet with cycle="V" as a U-Net: the way down is the encoder, the way up the decoder, written out by hand.

    A skip connection holds f and u of a level. The unpooled change P (u' - Pi u) is added to u, where the usual U-Net
    concatenates channels and lets a convolution add them.

    Parameters
    ----------
    mgnet : MgNet with cycle="V"
        With linear A, one per level, B a convolution, norms of each step: `unigrid.equivalence.unet.WRITTEN_OUT` lists all
        conditions.

    Returns
    -------
    UNet
        The same function of the image, any size; the weights copied.

    Raises
    ------
    ValueError
        For cycle="down", which has no decoder, and for choices that are not written out.

    Examples
    --------
    >>> import torch, unigrid
    >>> from unigrid.equivalence import to_unet
    >>> mgnet = unigrid.MgNet(steps=(1, 2, 1), features=(4, 6, 8), cycle="V").double().eval()
    >>> image = torch.randn(1, 3, 13, 18, dtype=torch.float64)
    >>> torch.allclose(to_unet(mgnet)(image), mgnet(image), rtol=1e-12, atol=1e-12)
    True
    """
    if not isinstance(mgnet, MgNet):
        raise TypeError(f"mgnet must be an MgNet, got {type(mgnet).__name__}")
    with torch.device("meta"):
        made = UNet(mgnet.config)
    names, weights = _dictionary(made), mgnet.state_dict(keep_vars=True)
    return filled(made, {ours: weights[theirs] for ours, theirs in names.items()}, mgnet, names)


def from_unet(unet: UNet) -> MgNet:
    """Return the MgNet whose U-Net is given: the inverse of `to_unet`, which see.

    Examples
    --------
    >>> import unigrid
    >>> from unigrid.equivalence import UNet, from_unet
    >>> from_unet(UNet(unigrid.MgNetConfig(steps=(1, 1), features=4, cycle="V"))).config.cycle
    'V'
    """
    if not isinstance(unet, UNet):
        raise TypeError(f"unet must be a UNet, got {type(unet).__name__}")
    with torch.device("meta"):
        made = unet.config.build()
    names, weights = {theirs: ours for ours, theirs in _dictionary(unet).items()}, unet.state_dict(keep_vars=True)
    return filled(made, {theirs: weights[ours] for theirs, ours in names.items()}, unet, names)


def _dictionary(unet: UNet) -> dict[str, str]:
    """Return MgNet's name of every weight of the U-Net."""
    return {name: name_in_mgnet(name) for name in unet.state_dict()}


@functools.cache
def name_in_mgnet(name: str) -> str:
    """Return the name in MgNet of this weight of a U-Net. Raises KeyError for an unknown name."""
    for ours, theirs in NAMES:
        if match := re.fullmatch(ours, name):
            return match.expand(theirs)
    raise KeyError(f"the dictionary has no word for {name!r}")
