"""Load a checkpoint and run it on a test set or on image files."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from ...conv.models import from_configuration
from ...conv.weights import check_fit, load_clean_state_dict, precision_of
from ...files import check_readable, expanded, is_folder, one_line
from ...messages import checked_count, printable, shown
from ..data.augmentation import Pipeline
from ..data.datasets import ImageData, Split, load_test
from ..runs import checkpoint
from ..runs.checkpoint import CheckpointError, Loaded
from ..runs.devices import device_named
from ..runs.randomness import undisturbed
from .evaluation import Evaluation, evaluate_model, in_batches, logits_of
from .pictures import fitted, mode

CUSTOM = "custom"
DEPTHS = ("steps", "blocks", "pre", "post", "degree")  # the fields of configurations that count layers, and terms of kernels
DEEPEST = 1000
LISTS, FLAGS = dict.fromkeys(("classes", "shape", "mean", "std"), list), dict.fromkeys(("flip", "synthetic"), bool)
STORED: dict[str, dict[str, dict[str, type]]] = {
    "images": {
        "model": {"kind": str},
        "dataset": {"name": str, **LISTS, **FLAGS},
        "protocol": {"name": str, "flip": bool, "test_flip": bool, "mixed_precision": bool, "accelerated": bool},
    },
    "solver": {"model": {"kind": str}, "dataset": {"name": str}, "protocol": {"name": str}},
}  # what is read of the configuration of either kind of run


@final
@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of a picture, the likeliest first, and their probabilities."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@final
@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """A network from a checkpoint, and the configuration of its training.

    `load_trained` returns it, and `unigrid.load_pretrained` for weights that come with the package.

    A network that solves Poisson's equation (`solves`) is a cycle for `unigrid.solve(f, cycle=trained.model)`; what follows
    about classes and pictures is for classifiers, and raises ValueError for it.

    Attributes
    ----------
    model : nn.Module
        In evaluation mode, with the weights that were tested: their moving average if the protocol averages.
    configuration : dict
        What was trained, on what, how: as in the run's config.json.
    epoch, step : int; step None for the best epoch
        The number of epochs, and of optimizer steps.
    path : Path
        Of the checkpoint, or of the weights.
    """

    model: nn.Module
    configuration: dict[str, Any]
    epoch: int
    step: int | None
    path: Path

    @property
    def solves(self) -> bool:
        """Whether it was trained on Poisson problems: a cycle for `unigrid.solve`, no classifier."""
        return _solves(self.configuration)

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.model.parameters()).device

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self._images["classes"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images it was trained on."""
        channels, height, width = self._images["shape"]
        return channels, height, width

    def require_pictures(self) -> None:
        """Raise ValueError for a network that takes no pictures: a solver, or one of images of other channels than 1 or 3."""
        mode(self.shape[0])

    @property
    def flips(self) -> bool:
        """Whether its answer is the mean over an image and its mirror image; never where training mirrored no image."""
        protocol = self.configuration["protocol"]
        return bool(self._images["flip"] and protocol["flip"] and protocol["test_flip"])

    @property
    def _images(self) -> dict[str, Any]:
        """The stored description of the images. Raises ValueError for a solver."""
        if self.solves:
            raise ValueError(
                f"{self.path}: its network solves Poisson's equation and takes no pictures: unigrid.solve(f, cycle=); "
                "unigrid.analysis.measured_factor measures how well"
            )
        known: dict[str, Any] = self.configuration["dataset"]
        return known

    def __repr__(self) -> str:
        kind, name = type(self.model).__name__, self.configuration["dataset"]["name"]
        parts = f"{kind}, {self.parameters:,} parameters, trained on {name}, epoch {self.epoch}: {self.path}"
        return f"TrainedModel({printable(parts)})"

    def evaluate(
        self,
        dataset: Any = None,
        data_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
        channels: Literal["first", "last"] | None = None,
    ) -> Evaluation:
        """Return the evaluation on test images, computed as in the training run.

        Parameters
        ----------
        dataset : as in `load`, or a `Split`; optional
            Default: the data set that it was trained on. Of data with a test set it is the images of that, of others all
            images, as they are. Labels that have names are matched with the classes of the network by name, whatever their
            order and number; labels of arrays are places among these classes. Not every class needs an image.
        data_dir, download, channels
            Where the data are, whether to download them, and which axis of an array is that of the channels: as in `load`.

        Raises
        ------
        ValueError
            For data with other channels, and for images of a class that the network does not have.
        DatasetError
            For data that are missing or damaged.

        Examples
        --------
        >>> import unigrid, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = unigrid.train("shapes", "mgnet-4-Bl", epochs=1, subset=128, device="cpu", out=folder)
        ...     trained = load_trained(folder, device="cpu")
        >>> trained.evaluate().accuracy == result.test_accuracy
        True
        """
        data = self.data(dataset, data_dir, download, channels)
        images, mixed = self._pipeline(data.test.images), self.configuration["protocol"]["mixed_precision"]
        return evaluate_model(self.model, images, data.test.labels, self.flips, mixed)

    def data(
        self,
        dataset: Any = None,
        data_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
        channels: Literal["first", "last"] | None = None,
    ) -> ImageData:
        """Return the images that `evaluate` uses as a test set, labels those of the network; the training set is empty.

        Arguments and errors as there.
        """
        known = self._images["name"]
        if dataset is None and known == CUSTOM:
            raise ValueError(f"{self.path}: trained on data that have no name; pass the data set to evaluate it on")
        data = load_test(known if dataset is None else dataset, data_dir, download, channels, self.shape)
        images, trained_on = data.split.images, f"{self.path}: trained on {known}"
        if images.shape[1] != self.shape[0]:
            mine, theirs = (f"images of {count} channel{'s' * (count != 1)}" for count in (self.shape[0], images.shape[1]))
            raise ValueError(printable(f"{trained_on}, {mine}; {data.name} has {theirs}"))
        try:
            test = Split(images, data.labels_among(self.classes))
        except ValueError as error:
            raise ValueError(printable(f"{trained_on}; {error}")) from None
        mean, std = (tuple(self._images[name]) for name in ("mean", "std"))
        nothing = test.subset(torch.arange(0))
        return ImageData(data.name, nothing, test, self.classes, mean, std, data.synthetic, self._images["flip"])

    def predict(self, pictures: Iterable[Any], top: int = 5) -> list[Prediction]:
        """Return the likeliest classes of pictures.

        Parameters
        ----------
        pictures : iterable
            Paths, PIL images, or arrays and tensors: (height, width), (height, width, channels) or (channels, height, width)
            with 1 or 3 channels, uint8 or floats from 0 to 1. Of any size: see `unigrid.training.images.pictures`.
        top : int
            Number of classes per picture; at most all of them are returned.

        Raises
        ------
        FileError
            For a path that is no picture; the message begins with it.
        ValueError, TypeError
            For other objects that are no pictures.
        """
        top = checked_count("top", top)
        if isinstance(pictures, (str, os.PathLike, np.ndarray, Tensor)) or hasattr(pictures, "getbands"):
            raise TypeError(f"pictures must be a list of them, got one {type(pictures).__name__}; write [picture]")
        images = [fitted(picture, self.shape) for picture in pictures]
        batches = in_batches(lambda start, stop: self._predicted(images[start:stop], top), len(images), math.prod(self.shape))
        return [one for batch in batches for one in batch]

    @torch.no_grad()
    def _predicted(self, images: list[Tensor], top: int) -> list[Prediction]:
        batch = self._pipeline(torch.stack(images)).plain(0, len(images))
        logits = logits_of(self.model, batch, self.flips, self.configuration["protocol"]["mixed_precision"])
        likeliest = logits.softmax(1).cpu().topk(min(top, len(self.classes)))
        return [
            Prediction(tuple(self.classes[index] for index in indices), tuple(values))
            for values, indices in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
        ]

    def _pipeline(self, images: Tensor) -> Pipeline:
        known, precision = self._images, precision_of(self.model)
        order = torch.channels_last if self.configuration["protocol"]["accelerated"] else torch.contiguous_format
        return Pipeline(images, known["mean"], known["std"], None, self.device, precision, order)


def load_trained(
    path: str | os.PathLike[str], device: str | torch.device = "auto", model: nn.Module | None = None
) -> TrainedModel:
    """Return the network of a checkpoint.

    Parameters
    ----------
    path : path
        A run's folder, of which the last whole checkpoint is taken; or a checkpoint-*.pt; or best.pt, the epoch that was best
        on the validation set.
    device : "auto", "cpu", "cuda", ...
    model : nn.Module, optional
        The network that the weights are loaded into. Needed for networks of your own; others are rebuilt from the checkpoint.

    Raises
    ------
    CheckpointError
        For a file that is damaged, no checkpoint of a training run, or of another network than `model`.
    FileError
        For a missing file.
    ValueError
        For a device that is not available.
    """
    place = device_named(device)
    found, (configuration, weights, epoch, step) = _read(expanded(path))
    with undisturbed(torch.device("cpu")):  # a new network draws weights
        network = _network(found.path, configuration, weights) if model is None else model
    try:
        load_clean_state_dict(network, weights)
    except ValueError as error:
        raise CheckpointError(f"{found.path}: {error}") from None
    return TrainedModel(placed(network, configuration, place), configuration, epoch, step, found.path)


def placed(network: nn.Module, configuration: dict[str, Any], place: torch.device) -> nn.Module:
    """Return a network on a device, in evaluation mode, and in the memory order of its training."""
    network = network.to(place).eval()
    if configuration["protocol"].get("accelerated"):  # so that sums are rounded as in training
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def stored_network(path: Path) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """Return the path of a checkpoint, its configuration and the weights that were tested; arguments and errors as above."""
    found, (configuration, weights, _, _) = _read(path)
    return found.path, configuration, weights


def _read(path: Path) -> tuple[Loaded, tuple[dict[str, Any], dict[str, Tensor], int, int | None]]:
    """Return the checkpoint at a path and its parts; print which newer ones are damaged."""
    found = _found(path)
    for message in found.messages:
        print(f"unigrid: {message}", file=sys.stderr)
    try:
        return found, _parts(found.state)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(f"{found.path}: a checkpoint of something else than a training run of unigrid") from None


def _found(path: Path) -> Loaded:
    if not is_folder(path):
        check_readable(path)
        return Loaded(path, checkpoint.load(path))
    found = checkpoint.latest(path)
    if found is not None:
        return found
    seeds = sorted(entry.name for entry in path.glob("seed-*") if entry.is_dir())
    if seeds:
        raise CheckpointError(f"{path}: holds the runs of several seeds; give one of {', '.join(seeds)} in it")
    raise CheckpointError(f"{path}: holds no checkpoint; give the folder of a run, or a checkpoint-*.pt or best.pt")


def _parts(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor], int, int | None]:
    """Return configuration, weights, epochs and steps of a run's state; KeyError or the like where they are missing."""
    configuration = state["configuration"]
    for part, fields in STORED["solver" if _solves(configuration) else "images"].items():
        for name, kind in fields.items():
            if not isinstance(configuration[part][name], kind):
                raise TypeError(f"{part}.{name} is {shown(configuration[part][name])}")
    if not all(map(torch.is_tensor, state["model"].values())):
        raise TypeError
    if "progress" not in state:  # best.pt, whose weights are the ones that were tested
        return configuration, dict(state["model"]), state["epoch"], None
    progress, average = state["progress"], state.get("average")
    if configuration["protocol"].get("patience") and state.get("best_weights"):  # the ones that were tested
        return configuration, dict(state["best_weights"]), progress["best"]["epoch"], None
    weights = state["model"] if average is None else average
    return configuration, dict(weights), progress["epoch"], progress["step"]


def _solves(configuration: dict[str, Any]) -> bool:
    """Whether a run was one on Poisson problems."""
    return "problems" in configuration["dataset"]


def _network(path: Path, configuration: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """Return the network that a checkpoint declares, untrained. It is compared with the weights before it takes memory."""
    kind: str = configuration["model"]["kind"]
    if kind.startswith(CUSTOM):
        raise CheckpointError(
            f"{path}: holds the weights of a network of its owner's making, {kind.removeprefix(CUSTOM).strip()}; "
            "unigrid.training.load_trained(path, model=...) puts them into one"
        )
    try:
        _check_depth(configuration["model"])
        with torch.device("meta"):
            declared = built(configuration)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: its network cannot be rebuilt by this version of unigrid ({one_line(error)})") from None
    try:
        check_fit(declared, weights)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    stored = {weight.data_ptr(): weight.untyped_storage().nbytes() // weight.itemsize for weight in weights.values()}
    if sum(parameter.numel() for parameter in declared.parameters()) > sum(stored.values()):
        raise CheckpointError(f"{path}: declares a network of more numbers than it holds; unigrid did not write it")
    return built(configuration)


def _check_depth(fields: dict[str, Any]) -> None:
    """Raise ValueError for a network of so many layers that building it would take minutes and gigabytes."""
    for name in DEPTHS:
        count = fields.get(name, 0)
        if sum(count if isinstance(count, (list, tuple)) else [count]) > DEEPEST:
            raise ValueError(f"{name} must be at most {DEEPEST} in all")


def built(configuration: dict[str, Any]) -> nn.Module:
    """Return the untrained network of a configuration: a classifier or a solver."""
    fields = dict(configuration["model"])
    if not _solves(configuration):
        return from_configuration(fields)
    from ..solvers.net import PoissonNetConfig  # here, as it imports the stencil backend

    del fields["kind"]
    return PoissonNetConfig(**fields).build()
