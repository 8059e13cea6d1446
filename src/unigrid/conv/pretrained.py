"""Trained weights that come with the package, and models with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ..files import FileError, one_line
from ..messages import shown
from ..pretrained import MARK, REMEDY, Card, card_of, having_weights, list_pretrained
from .classifier import Classifier
from .configuration import configured
from .weights import load_clean_state_dict, require_safetensors


def pretrained_card(name: str, dataset: str | None = None) -> Card:
    """Return the card of MODEL or MODEL@DATASET, as `card_of` does; a named model that has no weights is told from no model."""
    from .models import is_named

    model = str(name).partition(MARK)[0]
    if is_named(model) and not having_weights(model):
        raise ValueError(
            f"{model} comes without trained weights; there are {', '.join(list_pretrained())}, and `unigrid train DATASET "
            f"--model {model}` trains it"
        )
    return card_of(name, dataset)


def weights_of(card: Card) -> dict[str, Tensor]:
    """Return the tensors of a card, in float32 where they are stored in bfloat16. Raises FileError for a damaged file."""
    load, content = require_safetensors().load, card.content()
    try:
        tensors = load(content)
    except Exception as error:  # whatever the library raises
        raise FileError(f"{card.path}: not a readable .safetensors file ({one_line(error)}); {REMEDY}") from None
    return {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in tensors.items()}


def load_pretrained_weights(model: nn.Module, card: Card) -> None:
    """Copy the weights of a card into a network. Raises FileError for a damaged file, and where the network is another."""
    weights = weights_of(card)
    try:
        load_clean_state_dict(model, weights)
    except ValueError as error:
        raise FileError(f"{card.path}: {error}; {REMEDY}") from None


def pretrained_model(name: str, dataset: str, choices: dict[str, Any]) -> Classifier:
    """Return the classifier of that name with its weights of a data set.

    Raises ValueError where the configuration of the named model, with the choices of the user, is another than that of the
    weights; and FileError as above.
    """
    from .models import from_configuration, is_named, named_model

    if not is_named(name) and having_weights(name):
        raise ValueError(f"{name} is a solver, no classifier: unigrid.load_pretrained({name!r}).model")
    config, card = named_model(name).config, pretrained_card(name, dataset)
    model = from_configuration(card.configuration["model"])
    wanted: Any = configured(type(config), config, {"num_classes": model.num_classes, **choices})
    if wanted.num_classes != model.num_classes:
        raise ValueError(
            f"num_classes={wanted.num_classes}: the weights {card.name} are for {model.num_classes} classes. Leave it out; "
            f"model.reset_classifier({wanted.num_classes}) then makes a new, untrained head, or unigrid.train(data, "
            f"weights={card.name!r}, new_head=True) trains such a network"
        )
    for field, value in dataclasses.asdict(wanted).items():
        own = getattr(model.config, field)
        if value != own:
            raise ValueError(
                f"{field}={shown(value)}: the weights {card.name} are of a network with {field}={own!r}; leave it out"
            )
    load_pretrained_weights(model, card)
    return model
