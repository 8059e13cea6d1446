"""Plain networks as residual ones, and average pooling as restriction."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from ..conv.classifier import Classifier
from ..conv.configuration import MOST
from ..conv.levels import ConvCycle, ConvLevel
from ..conv.plain import PlainNet
from ..conv.residual import CarriedResidual, ResidualSteps, SigmaBlock
from ..conv.slots import ConvRestriction
from ..cycle import Restriction
from ..messages import checked_count
from .rewriting import keep_modes


@final
class Defect(nn.Module):
    """eta = [id, -id] (chi - id): the change of a step, and its negative; channels c to 2c. chi keeps the channels."""

    def __init__(self, chi: nn.Module) -> None:
        super().__init__()
        self.chi = chi

    def forward(self, s: Tensor) -> Tensor:
        change = self.chi(s) - s
        return torch.cat((change, -change), dim=1)


@final
class Difference(nn.Module):
    """-xi, [X, Y] to X - Y, channels 2c to c: nothing to train. The sign of A is absorbed, as in every residual network."""

    def forward(self, both: Tensor) -> Tensor:
        positive, negative = both.chunk(2, dim=1)
        return positive - negative


@final
class ActivatedRestriction(nn.Sequential, Restriction):
    """R of a network whose state is the argument of sigma: chi R sigma(g), with chi where the channels change.

    Without chi the coarse level starts at R sigma(g) >= 0, which is its own ReLU.
    """


def to_plain_residual_form(plain: PlainNet) -> Classifier:
    """Return a plain network (LeNet, AlexNet, VGG) as a residual one: a sigma-ResNet with one A, which is fixed.

    In the argument g of the activation a plain step is g <- chi sigma(g). Where it keeps the channels, it equals

        g <- sigma(g) - xi sigma eta sigma(g),     eta = [id, -id] (chi - id),     xi [X, Y] = -(X - Y),

    for ReLU(x) - ReLU(-x) = x: from c channels to 2c and back, with nothing to train in xi. (The published proof has the
    sign of Y wrong.) Steps that change the channels, which follow a pooling, stay chi sigma(g): they belong to the restriction
    chi R sigma(g), as in ResNet. chi holds the batch norm or the bias, so that the identity holds in training, too.

    Parameters
    ----------
    plain : PlainNet with activation="relu"

    Returns
    -------
    Classifier
        The same function of the image, its blocks `SigmaBlock`, the weights copied. sigma of each level's features is the
        data that the plain network leaves that level with.

    Raises
    ------
    ValueError
        For another activation, for which sigma(x) - sigma(-x) = x does not hold.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import PlainNet
    >>> from unigrid.equivalence import to_plain_residual_form
    >>> vgg = PlainNet(steps=(2, 2), channels=(4, 6)).double().eval()
    >>> image = torch.randn(1, 3, 13, 18, dtype=torch.float64)
    >>> residual = to_plain_residual_form(vgg)
    >>> torch.allclose(residual(image), vgg(image), rtol=1e-12, atol=1e-12)
    True

    Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4, arXiv:1901.10415.
    """
    if not isinstance(plain, PlainNet):
        raise TypeError(f"plain must be a PlainNet, got {type(plain).__name__}")
    if plain.config.activation != "relu":
        raise ValueError(
            f"activation={plain.config.activation!r}: xi rests on sigma(x) - sigma(-x) = x, which ReLU obeys; activation='relu'"
        )
    source = copy.deepcopy(plain)
    theta: Any = source.theta
    cycle = ConvCycle(_residual_levels(source.cycle.levels))
    with torch.device("meta"):  # the head is replaced, so it needs neither memory nor random numbers
        made = Classifier(source.config, theta[:-1], cycle, source.num_features, nn.ReLU())
    made.head = source.head
    keep_modes(made, source)
    return made


def _residual_levels(levels: Sequence[Any]) -> list[ConvLevel]:
    steps = [[step[:-1] for step in level.smoother.steps] for level in levels]  # without their activations
    restrictions = []
    for level, chis in zip(levels[:-1], steps[1:], strict=True):
        parts = {"activation": nn.ReLU(), "pooling": level.restriction}
        if chis and chis[0][0].in_channels != chis[0][0].out_channels:  # as in no other step of a level
            parts["chi"] = chis.pop(0)
        restrictions.append(ActivatedRestriction(OrderedDict(parts)))
    return [
        ConvLevel(CarriedResidual([Difference()] if chis else []), ResidualSteps(list(map(_sigma_block, chis))), restriction)
        for chis, restriction in zip(steps, [*restrictions, None], strict=True)
    ]


def _sigma_block(chi: nn.Module) -> SigmaBlock:
    block = SigmaBlock(Defect(chi), (1, 1), nn.Identity(), nn.ReLU())
    block.first_norm = block.second_norm = nn.Identity()  # type: ignore[assignment]
    return block


def pooling_as_restriction(channels: int) -> ConvRestriction:
    """Return average pooling as R: a convolution of stride 2 with the fixed kernel 1/4 [1 1; 1 1] per channel.

    On a grid of cells each coarse cell is four fine ones, and 1/4 of their sum is the restriction of the finite-volume
    multigrid, the adjoint of constant interpolation: `StencilCycle(..., restriction="cell-average")` of a problem with
    `centering="cell"`. Max pooling is a restriction as well, one that is not linear, so no kernel has it.

    Parameters
    ----------
    channels : int
        Of the data, at least 1. Their height and width must be even: of an odd number, pooling rounds up, and averages what
        there is at the end, where a convolution leaves it out.

    Returns
    -------
    ConvRestriction
        (n, channels, h, w) to (n, channels, h/2, w/2), in torch's default precision. Its kernel is no weight to train
        (`requires_grad=False`).

    Raises
    ------
    ValueError
        For `channels` below 1.

    Examples
    --------
    >>> import torch
    >>> from unigrid.equivalence import pooling_as_restriction
    >>> data = torch.randn(2, 5, 8, 12)
    >>> torch.allclose(pooling_as_restriction(5)(data), torch.nn.AvgPool2d(2)(data))
    True

    Source: J. He & J. Xu, MgNet (2019), section 3, pooling as restriction; U. Trottenberg, C. Oosterlee, A. Schueller,
    Multigrid (2001), 2.8.4.
    """
    channels = checked_count("channels", channels, 1, MOST)
    with torch.device("meta"):
        convolution = nn.Conv2d(channels, channels, 2, stride=2, groups=channels, bias=False)
    convolution.weight = nn.Parameter(torch.full((channels, 1, 2, 2), 0.25), requires_grad=False)
    return ConvRestriction(convolution, None, None)
