"""MgNet in feature space and pre-act ResNet in data space: the same iteration, in u and in f - A u.

    feature space   u <- u + B^i (f - A u)              MgNet, B^i = sigma N eta^i sigma N
    data space      r <- r - A B^i r,   r = f - A u     pre-act ResNet whose A is one for all blocks of a level

They are one wherever A is linear: f - A (u + B r) = r - A B r. Transfers need no more: f' = R r + A' u' starts the next level
at f' - A' u' = R r, for any u' = Pi u.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, final

from torch import Tensor, nn

from ..conv.classifier import Classifier
from ..conv.levels import ConvCycle, ConvLevel
from ..conv.mgnet import MgNet
from ..conv.residual import BlockRestriction, CarriedResidual, PreActBlock, ResidualSteps, ResNet
from ..conv.slots import Borrowed, ConvOperator, Extraction, FeatureExtraction, Part, StepOperators, UnusedOperator, hold
from .rewriting import keep_modes, part_of, put


@final
class ScaledConvolution(nn.Module):
    """s A: s is a trained alpha_i, where B^i = alpha_i B; or a fixed 1 or -1, for an A that another level owns."""

    convolution: nn.Module

    def __init__(self, convolution: Part, scale: nn.Parameter | float) -> None:
        super().__init__()
        hold(self, "convolution", convolution)
        self.scale = scale

    def forward(self, u: Tensor) -> Tensor:
        return self.scale * self.convolution(u)


def to_residual_form(network: MgNet | ConvCycle) -> ConvCycle:
    """Return the down-sweep of MgNet in data space: a pre-act ResNet whose blocks share one A on each level.

    A block of the result holds sigma N eta^i sigma N for B^i and -A for its outer convolution; batch norms act on the
    residual in both forms, with the statistics of the batch as well. Pi is neither needed nor kept.

    Parameters
    ----------
    network : MgNet or ConvCycle
        The data of the finest level are those of `network.cycle`: `model.theta(image)`.

    Returns
    -------
    ConvCycle
        `cycle(f)` is f - A u of the coarsest level, (n, c_f, h, w); `cycle.trace(f)` has that of every level as its features.
        Its weights are copies, but for Pi's, which are left out, and those of A, whose sign is turned.

    Raises
    ------
    ValueError
        Where the identity does not hold, with the reason: A that is not linear or not one for all steps of a level, a norm of
        A' u', semi-iteration, an up-sweep, or a last level whose A does not exist.

    Examples
    --------
    >>> import torch, unigrid
    >>> from unigrid.equivalence import to_residual_form
    >>> mgnet = unigrid.MgNet(steps=(2, 2), features=4, data=6).double().eval()
    >>> f = mgnet.theta(torch.randn(1, 3, 13, 18, dtype=torch.float64))
    >>> mgnet.cycle.levels[0].smoother.steps[0].data_norm.bias.data += 0.1
    >>> explained = mgnet.cycle.trace(f)[1][-1].residual
    >>> torch.allclose(to_residual_form(mgnet)(f), explained, rtol=1e-12, atol=1e-12)
    True

    Source: J. He & J. Xu, MgNet (2019), section 4, arXiv:1901.10415; arXiv:1911.10428 (pre-act ResNet with one A per level).
    """
    cycle = _checked_copy(network, MgNet, _check_feature_level)
    turned: dict[int, nn.Module] = {}  # convolutions whose sign is turned, each once, however many levels use it
    levels = [_in_data_space(level, turned) for level in cycle.levels]
    for level in levels:
        restriction = level.restriction
        if isinstance(restriction, BlockRestriction) and isinstance(restriction.operator, ScaledConvolution):
            level.restriction = BlockRestriction(restriction.block, Borrowed(restriction.operator.convolution))  # A, not -A
    return _made(levels, cycle)


def to_feature_form(network: ResNet | ConvCycle) -> ConvCycle:
    """Return a pre-act ResNet that has one A on each level in feature space: MgNet without Pi.

    Backwards, r <- r + A B^i r is f - A u for u <- u + B^i (f - (-A) u) from u = 0. R is what it was: the block of stride 2 is
    a nonlinear restriction, its A that of the level below. So `preact-resnet18-Al` is an MgNet cycle, and where `resnet` ends
    with r, its head reads the residual of the last level.

    Parameters
    ----------
    network : ResNet of form "pre-act" with operator_sharing="level", or such a ConvCycle

    Returns
    -------
    ConvCycle
        `cycle(f)` is u of the coarsest level; `cycle.trace(f)` has the ResNet's features as its residuals. As many weights,
        copied, the sign of A turned; `to_residual_form` turns it back, and returns the same network.

    Raises
    ------
    ValueError
        For another form, an A for each block, or a coarsest level without a block, with the reason.

    Examples
    --------
    >>> import torch, unigrid
    >>> from unigrid.equivalence import to_feature_form
    >>> resnet = unigrid.create_model("preact-resnet18-Al", channels=(4, 6, 8, 10)).double().eval()
    >>> image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    >>> cycle = to_feature_form(resnet)
    >>> residual = cycle.trace(resnet.theta(image))[1][-1].residual
    >>> torch.allclose(resnet.forward_head(residual), resnet(image), rtol=1e-12, atol=1e-12)
    True

    Source: as of `to_residual_form`.
    """
    if isinstance(network, ResNet) and network.config.form != "pre-act":
        raise ValueError(
            f"form={network.config.form!r}: a batch norm and sigma stand behind its A, so its r is not f - A u of any u; "
            "a ResNet of form 'pre-act' is"
        )
    cycle = _checked_copy(network, ResNet, _check_data_level)
    last: Any = cycle.levels[-1]
    if not len(last.smoother.blocks):
        raise ValueError(
            f"level {len(cycle.levels) - 1}, the last one, has no block, so its u is zero and cannot be a result; "
            "give it one more"
        )
    turned: dict[int, nn.Module] = {}
    levels = [_in_feature_space(level, turned) for level in cycle.levels]
    for level in levels:
        restriction = level.restriction
        if isinstance(restriction, BlockRestriction) and id(restriction.operator) in turned:
            negative = ScaledConvolution(Borrowed(restriction.operator), -1.0)
            level.restriction = BlockRestriction(restriction.block, negative)
    return _made(levels, cycle)


def _checked_copy(network: nn.Module, kind: type[Classifier], check: Callable[[int, ConvLevel], None]) -> ConvCycle:
    """Return a copy of the network's cycle, each of whose levels has been checked."""
    cycle = network.cycle if isinstance(network, kind) else network
    if not isinstance(cycle, ConvCycle):
        raise TypeError(f"network must be a {kind.__name__} or a ConvCycle, got {type(network).__name__}")
    for at, level in enumerate(cycle.levels):
        if not isinstance(level, ConvLevel):
            raise TypeError(f"level {at} must be a ConvLevel, whose slots are known, got {type(level).__name__}")
        if level.prolongation is not None:
            raise ValueError(
                f"level {at} has a prolongation: on the way up u changes by P e, f - A u by - A P e, and data space has no e; "
                "cycle='down' has no way up"
            )
        check(at, level)
    return copy.deepcopy(cycle)


def _made(levels: list[ConvLevel], before: ConvCycle) -> ConvCycle:
    made = ConvCycle(levels)
    keep_modes(made, before)
    return made


def _check_feature_level(at: int, level: ConvLevel) -> None:
    operator, smoother = level.operator, level.smoother
    if not isinstance(smoother, FeatureExtraction):
        raise ValueError(
            f"the smoother of level {at} is {type(smoother).__name__}: its steps use several earlier u, "
            "r <- r - A B r only the last; semi_iteration='none' does"
        )
    if isinstance(operator, UnusedOperator):
        if not len(smoother.steps):
            return
        raise ValueError(
            f"level {at} has no A: its single step starts at u = 0 and f - A u is never computed, so that residual does not "
            "exist; two steps or a Pi give it an A"
        )
    if isinstance(operator, StepOperators):
        raise ValueError(
            f"level {at} has an A for each step: after a step with one A, f - A u with the next one is another residual; "
            "operator_sharing='level' has one (share_operators, where they are equal)"
        )
    if not isinstance(operator, ConvOperator) or not _is_linear(operator.convolution):
        shown = operator.convolution if isinstance(operator, ConvOperator) else operator
        raise ValueError(
            f"A of level {at} is {type(shown).__name__}: r - A B r is f - A (u + B r) only where A is linear, "
            "one convolution without a bias; operator='linear'"
        )
    if operator.norm is not None:
        raise ValueError(
            f"A' u' of level {at} has a batch norm, f - A' u' has none: Pi then does not cancel; operator_norm=False"
        )


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.bias is None


def _check_data_level(at: int, level: ConvLevel) -> None:
    operator, smoother = level.operator, level.smoother
    if not isinstance(operator, CarriedResidual) or not isinstance(smoother, ResidualSteps):
        raise ValueError(
            f"level {at} has {type(operator).__name__} and {type(smoother).__name__}; "
            "a level in data space has CarriedResidual and ResidualSteps"
        )
    others = {type(block).__name__ for block in smoother.blocks if not isinstance(block, PreActBlock)}
    if others or any(not isinstance(block.shortcut, nn.Identity) for block in smoother.blocks):
        raise ValueError(
            f"level {at} has blocks {', '.join(sorted(others)) or 'with a shortcut'}: only r <- r + A B r is f - A u "
            "of some u, a PreActBlock whose shortcut is the identity"
        )
    convolutions = {_convolution(A) for A in operator.steps}
    if len(convolutions) > 1:
        raise ValueError(
            f"level {at} has an A for each of its {len(operator.steps)} blocks: then r is not f - A u with any one of them; "
            "operator_sharing='level' has one (share_operators, where they are equal)"
        )
    if not all(map(_is_linear, convolutions)):
        raise ValueError(
            f"A of level {at} is not linear, and r <- r + A B r is then not f - A u: one convolution without a bias"
        )


def _convolution(operator: nn.Module) -> nn.Module:
    return operator.convolution if isinstance(operator, ScaledConvolution) else operator


def _turned(part: Part, turned: dict[int, nn.Module]) -> Part:
    """Turn the sign of a convolution, unless another level has done so already."""
    convolution: Any = part.module if isinstance(part, Borrowed) else part
    if id(convolution) not in turned:
        convolution.weight.data.neg_()
        turned[id(convolution)] = convolution
    return part


def _in_data_space(level: Any, turned: dict[int, nn.Module]) -> ConvLevel:
    operators: list[nn.Module] = []
    if isinstance(level.operator, ConvOperator):
        operators = _of_steps(_turned(part_of(level.operator, "convolution"), turned), level.smoother.steps)
    return ConvLevel(CarriedResidual(operators), ResidualSteps(list(map(_block, level.smoother.steps))), level.restriction)


def _of_steps(part: Part, steps: Iterable[Any]) -> list[nn.Module]:
    """Return A, or alpha_i A for each step: A is linear, so that alpha_i may stand before B or before A."""
    scales = [step.scale for step in steps]
    if all(scale is None for scale in scales):
        return [ScaledConvolution(part, 1.0) if isinstance(part, Borrowed) else part]
    borrowed = part if isinstance(part, Borrowed) else Borrowed(part)
    return [ScaledConvolution(borrowed if number else part, scale) for number, scale in enumerate(scales)]


def _block(step: Extraction) -> PreActBlock:
    block = PreActBlock(part_of(step, "convolution"), (1, 1), nn.Identity(), step.activation)
    put(block, "first_norm", part_of(step, "data_norm"))
    put(block, "second_norm", part_of(step, "feature_norm"))
    return block


def _in_feature_space(level: Any, turned: dict[int, nn.Module]) -> ConvLevel:
    steps = [_extraction(block) for block in level.smoother.blocks]
    if not level.operator.steps:
        return ConvLevel(UnusedOperator(), FeatureExtraction(steps), level.restriction)
    for number, step in enumerate(steps):
        scale = getattr(level.operator.of_step(number), "scale", None)
        step.scale = scale if isinstance(scale, nn.Parameter) else None
    first = level.operator.steps[0]
    part = part_of(first, "convolution") if isinstance(first, ScaledConvolution) else first
    return ConvLevel(ConvOperator(_turned(part, turned)), FeatureExtraction(steps), level.restriction)


def _extraction(block: PreActBlock) -> Extraction:
    norms = part_of(block, "first_norm"), part_of(block, "second_norm")
    return Extraction(part_of(block, "extractor"), norms, block.activation)
