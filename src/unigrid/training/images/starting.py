"""Weights that training starts from: those of an earlier run, or of a .safetensors file; for another set of classes too."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...conv.classifier import Classifier
from ...conv.models import Config, from_configuration
from ...conv.pretrained import pretrained_card, weights_of
from ...conv.weights import clean_state_dict, load_clean_state_dict, read_weights, unwrap
from ...files import FileError
from ...messages import nearest
from ...pretrained import MARK, Card, having_weights, list_pretrained
from ...training_defaults import RUNS
from ..data.datasets import ImageData, are_numbers, listed
from .inference import stored_network

SAFETENSORS = ".safetensors"


@dataclass(frozen=True, eq=False)
class StartingWeights:
    """Weights of a network, its configuration, and the names of its classes; None where they are not stored."""

    path: Path | str
    weights: dict[str, Tensor]
    model: dict[str, Any] | None
    classes: tuple[str, ...] | None
    new_head: bool

    def configuration(self, data: ImageData) -> Config:
        """Return the configuration of their network, for the channels and classes of the data. Raises ValueError."""
        if self.model is None:
            raise ValueError(f"{self.path}: does not name its model; give it (model=, --model)")
        known = from_configuration({**self.model, "num_classes": len(data.classes), "in_channels": data.shape[0]})
        config: Config = known.config
        return config

    def load_into(self, network: nn.Module, data: ImageData) -> None:
        """Copy the weights into a network, all but those of its head if that is to be new.

        Raises FileError where they do not fit the network, or belong to other classes.
        """
        weights, network = dict(self.weights), unwrap(network)
        if self.new_head:
            own = clean_state_dict(network)
            head = head_of(network)
            weights |= {name: value for name, value in own.items() if name.startswith(head)}
        elif self._belongs_to_others(data.classes):
            raise FileError(
                f"{self.path}: of classes {listed(self.classes or ())}, the data have {listed(data.classes)}; "
                "new_head=True (--new-head) keeps all weights but those of the last layer"
            )
        try:
            load_clean_state_dict(network, weights)
        except ValueError as error:
            raise FileError(f"{self.path}: {error}") from None

    def _belongs_to_others(self, classes: tuple[str, ...]) -> bool:
        """Whether the weights are known to be of other classes; classes without names match any."""
        if self.classes is None or self.classes == classes:
            return False
        return len(self.classes) != len(classes) or not (are_numbers(self.classes) or are_numbers(classes))

    def described(self) -> dict[str, Any]:
        """Return plain values that differ between other weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode() + value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return {"sha256": digest.hexdigest(), "new_head": self.new_head}


def starting_weights(source: str | os.PathLike[str], new_head: bool) -> StartingWeights:
    """Return the weights of a .safetensors file, a checkpoint, the folder of a run, or the run of that name in `runs`.

    Or those of that name that come with the package, where there is no such file. Raises FileError for what is missing or
    damaged, and ValueError for a name that has weights of several data sets.
    """
    path = _found(Path(source).expanduser())
    if path is None:
        return _pretrained(pretrained_card(str(source)), new_head)
    if path.suffix == SAFETENSORS:
        weights, metadata = read_weights(path)
        model, classes = (json.loads(metadata[name]) if name in metadata else None for name in ("model", "classes"))
        return StartingWeights(path, weights, model, classes and tuple(classes), new_head)
    path, configuration, weights = stored_network(path)
    model, classes = configuration["model"], configuration["dataset"].get("classes")
    if classes is None:
        raise FileError(f"{path}: its network solves Poisson's equation and classifies no images")
    return StartingWeights(path, weights, model if "in_channels" in model else None, tuple(classes), new_head)


def head_of(network: nn.Module) -> str:
    """Return the beginning of the names of a network's last layer: that of `get_classifier()` for those of timm."""
    if isinstance(network, Classifier):
        return "head."
    find: Any = getattr(network, "get_classifier", None)
    classifier = None if find is None else find()
    for name, module in network.named_modules():
        if name and module is classifier:
            return f"{name}."
    raise ValueError(
        f"new_head=True needs a network of unigrid, or one with get_classifier() as those of timm, got {type(network).__name__}"
    )


def _pretrained(card: Card, new_head: bool) -> StartingWeights:
    model, classes = card.configuration["model"], card.configuration["dataset"].get("classes")
    if classes is None:
        raise ValueError(f"{card.name}: solves Poisson's equation and classifies no images")
    return StartingWeights(card.name, weights_of(card), model, tuple(classes), new_head)


def _found(path: Path) -> Path | None:
    """Return the path of weights; None for the name of some that come with the package."""
    for place in (path, Path(RUNS) / path):
        if place.exists():
            return place
    if having_weights(str(path).partition(MARK)[0]):
        return None
    names = [entry.name for entry in Path(RUNS).iterdir()] if Path(RUNS).is_dir() else []
    raise FileError(
        f"{path}: no such file, no run of this name in {RUNS}, and no trained network of unigrid's own"
        f"{nearest(str(path), [*names, *list_pretrained()])}"
    )
