"""Trained networks that come with the package: weights, and beside them a card, which records where they come from.

    <model>@<data set>.safetensors      the weights
    <model>@<data set>.json             the card: network, data, recipe, accuracy as measured, versions, commands, hashes

`python -m unigrid.training.export RUN` writes such a pair from the folder of a finished run. `unigrid.create_model(model,
pretrained=dataset)` and `unigrid.load_pretrained` load one. Nothing in this module needs torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, final

from ..files import FileError
from ..messages import nearest, shown

__all__ = ["Card", "card_of", "list_pretrained"]

FOLDER: Traversable = files(__name__)
WEIGHTS, CARD = ".safetensors", ".json"
MARK = "@"  # between model and data set
DIGEST = "sha256_of_card"
REMEDY = "the installation is damaged: pip install --force-reinstall --no-deps unigrid"


@final
@dataclass(frozen=True, eq=False)
class Card:
    """The origin of trained weights, as their .json file has it.

    Attributes
    ----------
    model, dataset : str
        Such as "mgnet-32-Bli" and "cifar10".
    parameters : int
    epoch, step : int
        Of training, after which the weights were these.
    measured : dict
        Of these weights, rounded as they are stored. Of a classifier on the test set: "accuracy" from 0 to 1, "images",
        "accuracy_of_first" of the first "first" images, "accuracy_before_rounding", and "accuracy_in_training", as the run has
        it. Of a solver: "factors", each with its grid.
    configuration : dict
        Network, data (classes, mean, deviation) and recipe (all fields of the protocol, seed), as in config.json of the run.
    trained, exported : dict
        Versions, machine, command and date of the training; versions and date of the export.
    weights : dict
        "sha256" and "bytes" of the file, and "precision" of its matrices.

    Examples
    --------
    >>> from unigrid.pretrained import card_of
    >>> card = card_of("mgnet-32-Bli@cifar10")
    >>> card.weights["precision"], card.configuration["dataset"]["mean"]
    ('bfloat16', [0.4914, 0.4822, 0.4465])
    """

    model: str
    dataset: str
    parameters: int
    epoch: int
    step: int | None
    measured: dict[str, Any]
    configuration: dict[str, Any]
    trained: dict[str, Any]
    exported: dict[str, Any]
    weights: dict[str, Any]

    @property
    def name(self) -> str:
        """Model and data set: the name under which the weights are loaded."""
        return f"{self.model}{MARK}{self.dataset}"

    @property
    def path(self) -> Path:
        """The path of the weights."""
        return Path(str(FOLDER / f"{self.name}{WEIGHTS}"))

    def summary(self) -> str:
        """Return what was measured of the weights, in a few words."""
        if "factors" in self.measured:
            return f"convergence factor at most {max(row['factor'] for row in self.measured['factors']):.4f} per cycle"
        return f"{100 * self.measured['accuracy']:.2f} % of the {self.measured['images']:,} test images of {self.dataset}"

    def content(self) -> bytes:
        """Return the file of weights, whose hash is the one on the card. Raises FileError for a missing or damaged file."""
        content = _read(f"{self.name}{WEIGHTS}")
        if len(content) != self.weights["bytes"]:
            raise FileError(f"{self.path}: {len(content)} bytes, its card has {self.weights['bytes']}; {REMEDY}")
        if hashlib.sha256(content).hexdigest() != self.weights["sha256"]:
            raise FileError(f"{self.path}: damaged, its SHA-256 is not the one on its card; {REMEDY}")
        return content

    def to_json(self) -> bytes:
        """Return the .json file, with a hash of all else in it."""
        fields = dataclasses.asdict(self)
        return (json.dumps({**fields, DIGEST: _digest(fields)}, indent=1, allow_nan=False) + "\n").encode()

    def __repr__(self) -> str:
        return f"Card({self.name}, {self.parameters:,} parameters)"


def list_pretrained() -> list[str]:
    """Return the names of all trained networks that come with the package, MODEL@DATASET.

    Examples
    --------
    >>> import unigrid
    >>> "mgnet-32-Bli@cifar10" in unigrid.list_pretrained()
    True
    """
    names = [entry.name for entry in FOLDER.iterdir()]
    return sorted({name.removesuffix(end) for name in names for end in (WEIGHTS, CARD) if name.endswith(end)})


def having_weights(model: str) -> list[str]:
    """Return the names of all trained networks of a model."""
    return [name for name in list_pretrained() if name.partition(MARK)[0] == model]


def card_of(name: str, dataset: str | None = None) -> Card:
    """Return the card of MODEL@DATASET, or of MODEL where its weights are of one data set or `dataset` is given.

    Raises
    ------
    ValueError
        For a name without weights, with the nearest that has some, and for one with weights of several data sets.
    FileError
        For a card that is missing or damaged.

    Examples
    --------
    >>> from unigrid.pretrained import card_of
    >>> card_of("mgnet-32-Bli", "cifar10")
    Card(mgnet-32-Bli@cifar10, 168,554 parameters)
    """
    if not isinstance(name, str) or not isinstance(dataset, str | None):
        raise ValueError(f"trained weights are named MODEL{MARK}DATASET, got {shown(name if dataset is None else dataset)}")
    full, known = name if dataset is None else f"{name}{MARK}{dataset}", list_pretrained()
    found = [full] if full in known else having_weights(full)
    if len(found) == 1:
        return _card(found[0])
    if found:
        raise ValueError(f"{name} comes with weights of several data sets; give one of {', '.join(found)}")
    model, _, data = full.partition(MARK)
    if of_model := having_weights(model):
        datasets = [other.partition(MARK)[2] for other in of_model]
        raise ValueError(f"{model} comes with weights for {', '.join(datasets)}, not for {data!r}{nearest(data, datasets)}")
    meant = nearest(full, [*known, *(other.partition(MARK)[0] for other in known)])
    raise ValueError(f"no trained weights are named {full!r}; there are {', '.join(known)}{meant}")


def _card(name: str) -> Card:
    path = f"{FOLDER / name}{CARD}"
    try:
        fields = json.loads(_read(f"{name}{CARD}"))
        if fields.pop(DIGEST) != _digest(fields):
            raise ValueError
        card = Card(**fields)
    except FileError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError):
        raise FileError(f"{path}: damaged, it is not the card that was written; {REMEDY}") from None
    if card.name != name:
        raise FileError(f"{path}: the card of {card.name}; {REMEDY}")
    return card


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _read(name: str) -> bytes:
    try:
        return (FOLDER / name).read_bytes()
    except OSError as error:
        raise FileError(f"{FOLDER / name}: cannot be read ({error.strerror or error}); {REMEDY}") from None
