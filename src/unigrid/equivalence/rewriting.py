"""Shared parts of the conversions: modules that are owned or borrowed, and weights under other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..conv.classifier import Classifier
from ..conv.slots import Borrowed, Part, hold

Network = TypeVar("Network", bound=Classifier)


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


def built_with(config: Any, weights: Mapping[str, Tensor], like: nn.Module) -> Any:
    """Return the network of a configuration with copies of these weights, its norms in the modes of their namesakes in `like`.

    It is built without memory or random numbers: the state of torch's generator is left alone.
    """
    with torch.device("meta"):
        made = config.build()
    load_copies(made, weights)
    copy_modes(made, like, {name: name for name in made.state_dict()})
    return made


def load_copies(made: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network that has no memory yet copies of these weights, a `state_dict(keep_vars=True)`, as trainable."""
    made.load_state_dict({name: value.detach().clone() for name, value in weights.items()}, assign=True)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(weights[name].requires_grad)


def copy_modes(made: nn.Module, like: nn.Module, names: Mapping[str, str]) -> None:
    """Put `made` into the mode of `like`, and each norm into that of its namesake there, to which `names` of weights lead."""
    made.train(like.training)
    modules = dict(like.named_modules())
    for name, module in made.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            namesake = modules.get(names[f"{name}.running_mean"].removesuffix(".running_mean"), like)
            module.train(namesake.training)
