"""Shared parts of the conversions: modules that are owned or borrowed, and weights under other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from ..conv.slots import Borrowed, Part, hold

Network = TypeVar("Network", bound=nn.Module)


def part_of(owner: nn.Module, name: str) -> Part:
    """Return `owner.name` as it was given to the owner: a module of its own, or a borrowed one."""
    module = getattr(owner, name)
    return module if name in owner._modules else Borrowed(module)


def put(owner: nn.Module, name: str, part: Part) -> None:
    """Set `owner.name` to another part, owned or borrowed, regardless of the one before."""
    owner._modules.pop(name, None)
    hold(owner, name, part)


def keep_modes(made: nn.Module, before: nn.Module) -> None:
    """Put new modules of `made` into the mode of `before`; modules that both hold keep theirs, as frozen norms do."""
    kept = {id(module) for module in before.modules()}
    for module in made.modules():
        if id(module) not in kept:
            module.training = before.training


def filled(made: Network, weights: Mapping[str, Tensor], like: nn.Module, names: Mapping[str, str] | None = None) -> Network:
    """Return `made`, a network without memory, with copies of these weights, as trainable, its norms in the modes of `like`.

    Built on the device "meta", it leaves the state of torch's generator alone. `weights` are those of a
    `state_dict(keep_vars=True)` by their names in `made`; `names` leads from these to the names in `like`, where they differ.
    """
    made.load_state_dict({name: value.detach().clone() for name, value in weights.items()}, assign=True)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(weights[name].requires_grad)
    made.train(like.training)
    modules = dict(like.named_modules())
    for name, module in made.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            mean = f"{name}.running_mean"
            namesake = (names[mean] if names else mean).removesuffix(".running_mean")
            module.train(modules.get(namesake, like).training)
    return made
