"""Trained networks at work: a checkpoint becomes a network again, which is tested, or looks at pictures of one's own.

A picture is made to what the network was trained on: cut to the training images' shape about its center (a square, for the
published data sets), resized with antialiasing (bicubic), made gray or RGB, and normalized by the training run's mean and
standard deviation.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor, nn

from ..conv.models import from_configuration
from ..files import FileError, check_readable
from . import checkpoint
from .augmentation import Pipeline
from .checkpoint import CheckpointError, Loaded
from .datasets import ImageData, load
from .devices import device_named
from .evaluation import BATCH, Evaluation, evaluate_model, logits_of
from .poisson_net import PoissonNet, PoissonNetConfig

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}
CUSTOM = "custom"


@final
@dataclass(frozen=True)
class Prediction:
    """What a network takes a picture for: its likeliest classes, the likeliest first, and their probabilities."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@final
@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network out of a checkpoint, and what is known of its training. `load_trained` makes it.

    Attributes
    ----------
    model : nn.Module
        In evaluation mode, with the weights that count: their moving average where the run averages.
    configuration : dict
        What was trained, on what, how: as in the run's config.json.
    epoch, step : int; step None for best.pt
        How many epochs were done, and optimizer steps.
    path : Path
        Of the checkpoint.
    """

    model: nn.Module
    configuration: dict[str, Any]
    epoch: int
    step: int | None
    path: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.configuration["dataset"]["classes"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images it was trained on."""
        channels, height, width = self.configuration["dataset"]["shape"]
        return channels, height, width

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.model.parameters()).device

    @property
    def picture_mode(self) -> str:
        """What pictures are made to, "L" (gray) or "RGB". ValueError for a network of other channels, which takes none."""
        if self.solves:
            raise ValueError(
                f"{self.path}: its network solves Poisson's equation and takes no pictures: unigrid.solve(f, cycle=)"
            )
        return _mode(self.shape[0])

    @property
    def solves(self) -> bool:
        """Whether it was trained on Poisson problems: a cycle for `unigrid.solve`, no classifier."""
        return isinstance(self.model, PoissonNet)

    @property
    def flips(self) -> bool:
        """Whether its answer is the mean over an image and its mirror image, as in its training run."""
        return bool(self.configuration["protocol"]["test_flip"] and self.configuration["dataset"]["flip"])

    def evaluate(
        self, dataset: Any = None, data_dir: str | os.PathLike[str] | None = None, download: bool = False
    ) -> Evaluation:
        """Return how well the network classifies the test images of a data set, just as its training run evaluated it.

        Parameters
        ----------
        dataset : as in `load`, optional
            The data set that it was trained on, if not given.
        data_dir, download
            Where the data are, and whether to fetch them.

        Raises
        ------
        ValueError
            For data with other channels or other classes than those of the training run.
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
        data = self.data(dataset, data_dir, download)
        images = self._pipeline(data.test.images)
        return evaluate_model(self.model, images, data.test.labels, self.flips, self._mixed_precision)

    def data(self, dataset: Any = None, data_dir: str | os.PathLike[str] | None = None, download: bool = False) -> ImageData:
        """Return the data that `evaluate` would use, checked; arguments and errors as there."""
        known = self.configuration["dataset"]["name"]
        if self.solves:
            raise ValueError(
                f"{self.path}: its network solves Poisson's equation and classifies nothing; unigrid.analysis.measured_factor "
                "says how well"
            )
        if dataset is None and known == CUSTOM:
            raise ValueError(f"{self.path}: trained on data that have no name; say which data set to evaluate it on")
        data = load(known if dataset is None else dataset, data_dir, download)
        self._check(data)
        return data

    def predict(self, pictures: Iterable[Any], top: int = 5) -> list[Prediction]:
        """Return what the network takes pictures for.

        Parameters
        ----------
        pictures : iterable
            Paths, PIL images, or arrays and tensors: (height, width), (height, width, channels) or (channels, height, width)
            with 1 or 3 channels, uint8 or floats from 0 to 1. Of any size: the module's docstring says what is done to them.
        top : int
            How many classes to tell of each; at most all there are.

        Raises
        ------
        FileError
            For a path that is no picture; the text begins with it.
        ValueError, TypeError
            For what is no picture otherwise.
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise ValueError(f"top must be an integer >= 1, got {top!r}")
        if isinstance(pictures, (str, os.PathLike, np.ndarray, Tensor)) or hasattr(pictures, "getbands"):
            raise TypeError(f"pictures must be a list of them, got one {type(pictures).__name__}; write [picture]")
        images = [fitted(picture, self.shape) for picture in pictures]
        return [one for at in range(0, len(images), BATCH) for one in self._predicted(images[at : at + BATCH], top)]

    @torch.no_grad()
    def _predicted(self, images: list[Tensor], top: int) -> list[Prediction]:
        batch = self._pipeline(torch.stack(images)).plain(0, len(images))
        logits = logits_of(self.model, batch, self.flips, self._mixed_precision)
        likeliest = logits.softmax(1).cpu().topk(min(top, len(self.classes)))
        return [
            Prediction(tuple(self.classes[index] for index in indices), tuple(values))
            for values, indices in zip(likeliest.values.tolist(), likeliest.indices.tolist(), strict=True)
        ]

    @property
    def _mixed_precision(self) -> bool:
        return bool(self.configuration["protocol"]["mixed_precision"])

    def _pipeline(self, images: Tensor) -> Pipeline:
        known = self.configuration["dataset"]
        dtype = next(self.model.parameters()).dtype
        accelerated = self.configuration["protocol"]["accelerated"]
        order = torch.channels_last if accelerated else torch.contiguous_format
        return Pipeline(images, known["mean"], known["std"], None, self.device, dtype, order)

    def _check(self, data: ImageData) -> None:
        """Refuse data of which the network's answers would say nothing. Classes without names may be any."""
        known, channels = self.configuration["dataset"]["name"], self.shape[0]
        if data.shape[0] != channels:
            raise ValueError(
                f"{self.path}: trained on {known}, images of {_counted(channels, 'channel')}; "
                f"{data.name} has images of {_counted(data.shape[0], 'channel')}"
            )
        if len(data.classes) != len(self.classes):
            raise ValueError(
                f"{self.path}: trained on {known}, {len(self.classes)} classes; {data.name} has {len(data.classes)} classes"
            )
        if data.classes != self.classes and not (_unnamed(data.classes) or _unnamed(self.classes)):
            raise ValueError(
                f"{self.path}: trained on {known}, classes {_listed(self.classes)}; {data.name} has {_listed(data.classes)}"
            )


def load_trained(
    path: str | os.PathLike[str], device: str | torch.device = "auto", model: nn.Module | None = None
) -> TrainedModel:
    """Return the network of a checkpoint, ready to be used.

    Parameters
    ----------
    path : path
        A run's folder, of which the last whole checkpoint is taken; or a checkpoint-*.pt; or best.pt, the epoch that was best
        on the validation set.
    device : "auto", "cpu", "cuda", ...
    model : nn.Module, optional
        What the weights go into, in place. Needed for networks of one's own; the others are rebuilt from the checkpoint.

    Raises
    ------
    CheckpointError
        For a file that is damaged, no checkpoint of a training run, or of another network than `model`.
    FileError
        For a file that is not there.
    ValueError
        For a device that is not there.
    """
    place = device_named(device)
    found = _found(Path(path))
    for message in found.messages:
        print(f"unigrid: {message}", file=sys.stderr)
    try:
        configuration, weights, epoch, step = _parts(found.state)
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{found.path}: a checkpoint of something else than a training run of unigrid") from None
    network = _network(found.path, configuration["model"], model)
    try:
        checkpoint.load_clean_state_dict(network, weights)
    except ValueError as error:
        raise CheckpointError(f"{found.path}: {error}") from None
    network = network.to(place).eval()
    if configuration["protocol"]["accelerated"]:  # as in training, so that sums are rounded alike
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainedModel(network, configuration, epoch, step, found.path)


def _found(path: Path) -> Loaded:
    if not path.is_dir():
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
    """Return configuration, weights, epochs and steps of a run's state; KeyError and the like where they are not in it."""
    configuration = state["configuration"]
    _ = [configuration["dataset"][name] for name in ("name", "classes", "shape", "mean", "std", "flip", "synthetic")]
    _ = [configuration["protocol"][name] for name in ("name", "test_flip", "mixed_precision", "accelerated")]
    configuration["model"]["kind"].startswith(CUSTOM)
    if "progress" not in state:  # best.pt, whose weights are the ones that count
        return configuration, dict(state["model"]), state["epoch"], None
    weights = state["model"] if state["average"] is None else state["average"]
    return configuration, dict(weights), state["progress"]["epoch"], state["progress"]["step"]


def _network(path: Path, configuration: dict[str, Any], model: nn.Module | None) -> nn.Module:
    if model is not None:
        return model
    kind: str = configuration["kind"]
    if kind.startswith(CUSTOM):
        raise CheckpointError(
            f"{path}: holds the weights of a network of its owner's making, {kind.removeprefix(CUSTOM).strip()}; "
            "unigrid.training.load_trained(path, model=...) puts them into one"
        )
    try:
        if kind == PoissonNetConfig.__name__:
            return PoissonNetConfig(**{name: value for name, value in configuration.items() if name != "kind"}).build()
        return from_configuration(configuration)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its network cannot be rebuilt by this version of unigrid ({error})") from None


# Pictures.


def fitted(picture: Any, shape: tuple[int, int, int]) -> Tensor:
    """Return a picture as uint8 (channels, height, width) of that shape: cut about its center, resized with antialiasing."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    image = ImageOps.fit(_image(picture, _mode(channels)), (width, height), Image.Resampling.BICUBIC)
    pixels = np.array(image).reshape(height, width, channels)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)))


def _mode(channels: int) -> str:
    if channels not in MODES:
        raise ValueError(f"the network takes images of {channels} channels; pictures have 1 or 3")
    return MODES[channels]


def _image(picture: Any, mode: str) -> Image:
    """Return the picture as a PIL image of that mode, whatever it is."""
    from PIL import Image

    if isinstance(picture, (str, os.PathLike)):
        return _read(Path(picture), mode)
    if isinstance(picture, Image.Image):
        return _converted(picture, mode)
    if isinstance(picture, (np.ndarray, Tensor)):
        return _converted(_from_array(picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture), mode)
    raise TypeError(f"a picture must be a path, a PIL image or an array, got {type(picture).__name__}")


def _read(path: Path, mode: str) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if path.is_dir():
        raise FileError(f"{path}: is a directory, give a picture")
    check_readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on large pictures and odd metadata; what cannot be read is told in one line
            with open(path, "rb") as file, Image.open(file) as opened:
                return _converted(ImageOps.exif_transpose(opened), mode)
    except UnidentifiedImageError:
        raise FileError(f"{path}: not a picture, or of a kind that Pillow cannot read; convert it to PNG or JPEG") from None
    except MemoryError:
        raise FileError(f"{path}: the picture does not fit into memory") from None
    except Exception as error:  # whatever a damaged file makes the library raise, it is the file's fault
        text = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{path}: not a readable picture ({text})") from None


def _converted(image: Image, mode: str) -> Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which a conversion to 8 would clip
        deep = np.asarray(image, dtype=np.float64) / 257.0
        image = Image.fromarray(np.rint(deep.clip(0, 255)).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow wants this step between
    return image if image.mode == mode else image.convert(mode)


def _from_array(array: np.ndarray[Any, Any]) -> Image:
    from PIL import Image

    pixels = np.moveaxis(array, 0, 2) if array.ndim == 3 and array.shape[2] not in MODES else array
    if pixels.size == 0 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in MODES):
        raise ValueError(
            f"a picture must have the axes (height, width), (height, width, channels) or (channels, height, width) with 1 or "
            f"3 channels, got shape {array.shape}"
        )
    if np.issubdtype(pixels.dtype, np.floating):
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise ValueError(f"a picture of floats must lie in 0..1, got {low:g} to {high:g}; divide by 255")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8, or floats from 0 to 1, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _unnamed(classes: tuple[str, ...]) -> bool:
    return classes == tuple(map(str, range(len(classes))))


def _listed(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:3]) + ", ..." * (len(classes) > 3)
