"""One A per level, one per step, or one for all levels: the same network as long as they are equal."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..conv.levels import ConvLevel
from ..conv.mgnet import MgNet
from ..conv.residual import BlockRestriction, CarriedResidual, ResNet
from ..conv.slots import ConvOperator, operator_of_step
from ..messages import choose
from .rewriting import filled

Network = TypeVar("Network", MgNet, ResNet)
SHARINGS = ("step", "level", "global")  # from most operators to one


def unshare_operators(model: Network, to: str = "step") -> Network:
    """Return the same network with more operators A, each a copy of the one that several steps or levels shared.

    Sharing is a constraint on the weights, A^(l,i) = A^l: a network that obeys it is one of those without it. So every ResNet
    with A^l (Mg-ResNet, in its sigma-form) is a ResNet, and training it further may now move its A apart.

    Parameters
    ----------
    model : MgNet or ResNet
        Any; of MgNet the A may be nonlinear, the cycle a V.
    to : "step" or "level"
        One A for each step, or one for each level, where MgNet has one for all levels (operator_sharing="global").

    Returns
    -------
    The model's class
        The same function of the image; weights copied. An A that is never applied still has no weights.

    Raises
    ------
    ValueError
        If `to` does not lead to more operators.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import ResNet
    >>> from unigrid.equivalence import unshare_operators
    >>> shared = ResNet(blocks=(2, 2), channels=(4, 6), operator_sharing="level").double().eval()
    >>> image = torch.randn(1, 3, 13, 18, dtype=torch.float64)
    >>> torch.allclose(unshare_operators(shared)(image), shared(image), rtol=1e-12, atol=1e-12)
    True

    Source: J. He & J. Xu, MgNet (2019), section 4, arXiv:1901.10415; arXiv:1911.10428 (what sharing costs: A of a level instead
    of A of each step leaves the accuracy as it is and saves a third of the weights).
    """
    return _with_sharing(model, to, more=True)


def share_operators(model: Network, to: str = "level") -> Network:
    """Return the same network with fewer operators A, where those that become one are equal: back from `unshare_operators`.

    Parameters
    ----------
    model : MgNet or ResNet
    to : "level" or, of MgNet, "global"

    Raises
    ------
    ValueError
        Where two of those A differ, with their places and by how much; if `to` does not lead to fewer operators.

    Examples
    --------
    >>> from unigrid.conv import ResNet
    >>> from unigrid.equivalence import share_operators, unshare_operators
    >>> shared = ResNet(blocks=(3, 2), channels=(4, 6), operator_sharing="level")
    >>> again = share_operators(unshare_operators(shared))
    >>> all((value == again.state_dict()[name]).all() for name, value in shared.state_dict().items())
    True
    """
    return _with_sharing(model, to, more=False)


def _with_sharing(model: Network, to: str, more: bool) -> Network:
    if not isinstance(model, (MgNet, ResNet)):
        raise TypeError(f"model must be an MgNet or a ResNet, got {type(model).__name__}")
    given = model.config.operator_sharing
    order = SHARINGS.index(given) - SHARINGS.index(choose(to, SHARINGS, "operator_sharing"))
    if (order <= 0) if more else (order >= 0):
        raise ValueError(
            f"the model has operator_sharing={given!r}; to={to!r} leads to {'no more' if more else 'no fewer'} of them"
        )
    config = dataclasses.replace(model.config, operator_sharing=to)
    with torch.device("meta"):
        target: Any = config.build()
    return filled(target, _weights(model, target), model)


def _weights(model: Network, target: Network) -> dict[str, Tensor]:
    """Return the model's weights by the names of the target, whose operators are others."""
    source, places = model.state_dict(keep_vars=True), _operators(model)
    wanted: dict[int, list[tuple[str, Tensor]]] = {}  # of every tensor of A in the target: where in the source, and its value
    for place, module in _operators(target).items():
        if place in places:  # a shared A exists also for steps that never apply it
            values = places[place].state_dict(keep_vars=True)
            for name, tensor in module.state_dict(keep_vars=True).items():
                wanted.setdefault(id(tensor), []).append((place, values[name]))
    return {
        name: _common(wanted[id(tensor)]) if id(tensor) in wanted else source[name]
        for name, tensor in target.state_dict(keep_vars=True).items()
    }


def _common(values: list[tuple[str, Tensor]]) -> Tensor:
    """Return the common value of all these places. Raises ValueError where they differ."""
    first, value = values[0]
    for place, other in values[1:]:
        if not torch.equal(value, other):
            value, other = value.detach(), other.detach()
            scale = value.abs().max().clamp(min=torch.finfo(value.dtype).tiny)
            difference = float((value - other).abs().max() / scale)
            raise ValueError(
                f"A of {first} and of {place} differ by {difference:.2g} of the largest weight, so no one A has both; "
                "only equal ones can be shared, as after unshare_operators"
            )
    return value


def _operators(model: MgNet | ResNet) -> dict[str, nn.Module]:
    """Return the modules of A, and of its norm, by the places where they are used; none where A has no weights."""
    places: dict[str, nn.Module] = {}
    for at, level in enumerate(model.cycle.levels):
        assert isinstance(level, ConvLevel)
        operator = level.operator
        smoother: Any = level.smoother
        if isinstance(operator, CarriedResidual):
            places |= {f"level {at}, step {step}": operator.of_step(step) for step in range(len(smoother.blocks))}
        else:
            for step in range(len(smoother.steps)):
                of_step = operator_of_step(operator, step)
                if isinstance(of_step, ConvOperator):
                    places[f"level {at}, step {step}"] = of_step.convolution
                    if of_step.norm is not None:  # of A' u': it belongs to the first step
                        places[f"level {at}, norm"] = of_step.norm
        if isinstance(level.restriction, BlockRestriction):
            places[f"the restriction into level {at + 1}"] = level.restriction.operator
    return places
