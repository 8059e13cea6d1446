"""MgNet in feature space and pre-act ResNet in data space: the same iteration, in u and in f - A u.

    feature space   u <- u + B^i (f - A u)              MgNet, B^i = sigma N eta^i sigma N
    data space      r <- r - A B^i r,   r = f - A u     pre-act ResNet whose A is one for all blocks of a level

They are one wherever A is linear: f - A (u + B r) = r - A B r. Transfers need no more: f' = R r + A' u' starts the next level
at f' - A' u' = R r, for any u' = Pi u.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4, arXiv:1901.10415; J. He, Y. Chen, L. Zhang, J. Xu,
Constrained linear data-feature mapping, arXiv:1911.10428.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import final

from torch import Tensor, nn

from ..conv.levels import ConvCycle, ConvLevel
from ..conv.mgnet import MgNet
from ..conv.residual import BlockRestriction, CarriedResidual, PreActBlock, ResidualSteps, ResNet
from ..conv.slots import Borrowed, ConvOperator, Extraction, FeatureExtraction, Part, StepOperators, UnusedOperator, hold
from .rewriting import keep_modes, part_of, put


@final
class ScaledConvolution(nn.Module):
    """alpha A with a trained number alpha: where B^i = alpha_i B, a residual network has alpha_i A in its place."""

    convolution: nn.Module

    def __init__(self, convolution: Part, scale: nn.Parameter) -> None:
        super().__init__()
        hold(self, "convolution", convolution)
        self.scale = scale

    def forward(self, u: Tensor) -> Tensor:
        return self.scale * self.convolution(u)


@final
class BorrowedConvolution(nn.Module):
    """A, or -A, of a convolution that another level owns: the same weights, which are stored and trained once.

    Parameters
    ----------
    convolution : Borrowed
    negative : bool
        Whether the sign is turned.
    """

    convolution: nn.Module

    def __init__(self, convolution: Borrowed, negative: bool = False) -> None:
        super().__init__()
        hold(self, "convolution", convolution)
        self.negative = negative

    def forward(self, u: Tensor) -> Tensor:
        return -self.convolution(u) if self.negative else self.convolution(u)


def to_residual_form(network: MgNet | ConvCycle) -> ConvCycle:
    """Return the down-sweep of MgNet in data space: a pre-act ResNet whose blocks share one A on each level.

    With r = f - A u, the smoothing steps u <- u + B^i (f - A u) are r <- r - A B^i r, for A (u + v) = A u + A v. A block of
    the result holds sigma N eta^i sigma N for B^i and -A for its outer convolution; batch norms act on the residual in both
    forms, with the statistics of the batch as well. From f' = R r + A' u' follows f' - A' u' = R r: the next level starts
    at R r, so Pi is neither needed nor kept. Data space has no u.

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
    cycle = _cycle_of(network, MgNet)
    for at, level in enumerate(cycle.levels):
        _check_feature_level(at, level)
    cycle = copy.deepcopy(cycle)
    turned: dict[int, nn.Module] = {}  # convolutions whose sign is turned, each once, however many levels use it
    levels = [_in_data_space(level, turned) for level in _conv_levels(cycle)]
    for level in levels:
        if isinstance(level.restriction, BlockRestriction):
            level.restriction = _with_positive_operator(level.restriction)
    made = ConvCycle(levels)
    keep_modes(made, cycle)
    return made


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
    cycle = _cycle_of(network, ResNet)
    for at, level in enumerate(cycle.levels):
        _check_data_level(at, level, at == len(cycle.levels) - 1)
    cycle = copy.deepcopy(cycle)
    turned: dict[int, nn.Module] = {}
    levels = [_in_feature_space(level, turned) for level in _conv_levels(cycle)]
    for level in levels:
        if isinstance(level.restriction, BlockRestriction) and id(level.restriction.operator) in turned:
            operator = BorrowedConvolution(Borrowed(level.restriction.operator), negative=True)
            level.restriction = BlockRestriction(level.restriction.block, operator)
    made = ConvCycle(levels)
    keep_modes(made, cycle)
    return made


def _cycle_of(network: nn.Module, kind: type[MgNet] | type[ResNet]) -> ConvCycle:
    if isinstance(network, kind):
        return network.cycle
    if isinstance(network, ConvCycle):
        return network
    raise TypeError(f"network must be a {kind.__name__} or a ConvCycle, got {type(network).__name__}")


def _conv_levels(cycle: ConvCycle) -> list[ConvLevel]:
    return [level for level in cycle.levels if isinstance(level, ConvLevel)]


def _check_descent(at: int, level: object) -> ConvLevel:
    if not isinstance(level, ConvLevel):
        raise TypeError(f"level {at} must be a ConvLevel, whose slots are known, got {type(level).__name__}")
    if level.prolongation is not None:
        raise ValueError(
            f"level {at} has a prolongation: on the way up u changes by P e, f - A u by - A P e, and data space has no e; "
            "cycle='down' has no way up"
        )
    return level


def _check_feature_level(at: int, level: object) -> None:
    operator, smoother = _check_descent(at, level).operator, _check_descent(at, level).smoother
    if not isinstance(smoother, FeatureExtraction):
        raise ValueError(
            f"the smoother of level {at} is {type(smoother).__name__}: its steps use several earlier u, "
            "r <- r - A B r only the last; semi_iteration='none' does"
        )
    if isinstance(operator, UnusedOperator) and len(smoother.steps) == 0:
        return
    if isinstance(operator, UnusedOperator):
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
    if isinstance(module, BorrowedConvolution):
        module = module.convolution
    return isinstance(module, nn.Conv2d) and module.bias is None


def _check_data_level(at: int, level: object, last: bool) -> None:
    operator, smoother = _check_descent(at, level).operator, _check_descent(at, level).smoother
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
    if last and not len(smoother.blocks):
        raise ValueError(f"level {at}, the last one, has no block, so its u is zero and cannot be a result; give it one more")
    convolutions = {id(convolution) for convolution, _ in map(_without_scale, operator.steps)}
    if len(convolutions) > 1:
        raise ValueError(
            f"level {at} has an A for each of its {len(operator.steps)} blocks: then r is not f - A u with any one of them; "
            "operator_sharing='level' has one (share_operators, where they are equal)"
        )
    if operator.steps and not _is_linear(_without_scale(operator.steps[0])[0]):
        raise ValueError(
            f"A of level {at} is not linear, and r <- r + A B r is then not f - A u: one convolution without a bias"
        )


def _in_data_space(level: ConvLevel, turned: dict[int, nn.Module]) -> ConvLevel:
    smoother = level.smoother
    assert isinstance(smoother, FeatureExtraction)
    operators: list[nn.Module] = []
    if isinstance(level.operator, ConvOperator):
        operators = _of_steps(_turned(part_of(level.operator, "convolution"), turned), smoother.steps)
    blocks = [_block(step) for step in smoother.steps if isinstance(step, Extraction)]
    return ConvLevel(CarriedResidual(operators), ResidualSteps(blocks), level.restriction)


def _turned(part: Part, turned: dict[int, nn.Module]) -> Part:
    """Turn the sign of a convolution, unless another level has done so already."""
    convolution = part.module if isinstance(part, Borrowed) else part
    if isinstance(convolution, BorrowedConvolution):
        return _turned(Borrowed(convolution.convolution), turned)
    if id(convolution) not in turned:
        convolution.weight.data.neg_()  # type: ignore[union-attr,operator]
        turned[id(convolution)] = convolution
    return part


def _of_steps(part: Part, steps: Iterable[nn.Module]) -> list[nn.Module]:
    """Return A, or alpha_i A for each step: A is linear, so that alpha_i may stand before B or before A."""
    scales = [step.scale for step in steps]
    if all(scale is None for scale in scales):
        return [_module(part)]
    owner = part.module if isinstance(part, Borrowed) else part
    return [
        ScaledConvolution(Borrowed(owner) if number else part, scale)  # type: ignore[arg-type]
        for number, scale in enumerate(scales)
    ]


def _module(part: Part) -> nn.Module:
    return BorrowedConvolution(part) if isinstance(part, Borrowed) else part


def _block(step: Extraction) -> PreActBlock:
    block = PreActBlock(part_of(step, "convolution"), (1, 1), nn.Identity(), step.activation)
    put(block, "first_norm", part_of(step, "data_norm"))
    put(block, "second_norm", part_of(step, "feature_norm"))
    return block


def _in_feature_space(level: ConvLevel, turned: dict[int, nn.Module]) -> ConvLevel:
    operator, smoother = level.operator, level.smoother
    assert isinstance(operator, CarriedResidual)
    assert isinstance(smoother, ResidualSteps)
    steps = [_extraction(block) for block in smoother.blocks if isinstance(block, PreActBlock)]
    if not operator.steps:
        return ConvLevel(UnusedOperator(), FeatureExtraction(steps), level.restriction)
    for number, step in enumerate(steps):
        step.scale = _without_scale(operator.of_step(number))[1]
    first = operator.steps[0]
    part = part_of(first, "convolution") if isinstance(first, (ScaledConvolution, BorrowedConvolution)) else first
    return ConvLevel(ConvOperator(_turned(part, turned)), FeatureExtraction(steps), level.restriction)


def _without_scale(module: nn.Module) -> tuple[nn.Module, nn.Parameter | None]:
    return (module.convolution, module.scale) if isinstance(module, ScaledConvolution) else (module, None)


def _extraction(block: PreActBlock) -> Extraction:
    norms = part_of(block, "first_norm"), part_of(block, "second_norm")
    return Extraction(part_of(block, "extractor"), norms, block.activation)


def _with_positive_operator(restriction: BlockRestriction) -> BlockRestriction:
    """Return the block of stride 2 with the A that it borrows as it is now, its sign turned."""
    operator = restriction.operator
    if isinstance(operator, BorrowedConvolution) and operator.negative:
        return BlockRestriction(restriction.block, Borrowed(operator.convolution))
    return restriction
