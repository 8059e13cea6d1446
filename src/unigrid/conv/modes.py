"""Training and evaluation mode, module by module: a network's owner may have put parts of it into either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode meanwhile, and afterwards every module back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that stay in evaluation mode while the model is trained, as its owner put them there.

    A model that is in evaluation mode itself is in the mode in which trained ones are handed out and loaded: there, only parts
    whose weights are all frozen count as put there on purpose.
    """
    resting = [module for module in model.modules() if not module.training]
    if model.training:
        return resting
    frozen = [module for module in resting if _frozen(module)]
    return list({part for module in frozen for part in module.modules() if not part.training})


def _frozen(module: nn.Module) -> bool:
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)
