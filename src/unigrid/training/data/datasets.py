"""Data sets for training: by name, or from arrays and torch Datasets. All are held as bytes in memory.

`cifar10`, `cifar100` and `mnist` are the published files, read from a folder, checked bit for bit, downloaded on request;
`shapes` is drawn by unigrid itself and marked synthetic. Pictures of one's own in files: see `on_disk`.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ...files import expanded, os_errors
from ...messages import checked_count, choose, entries_of, shown
from ...pictures import as_bytes, pixels_of
from ..images.pictures import fitted
from . import archives, download, on_disk, shapes
from .archives import DatasetError
from .items import items_of
from .labelled import SPLIT_SEED, ImageData, Labelled, Split, are_numbers, listed

__all__ = [
    "NAMES", "DatasetError", "ImageData", "Labelled", "Split", "are_numbers", "data_directory", "listed", "load", "load_test",
    "validation_set",
]  # fmt: skip

NAMES = ("cifar10", "cifar100", "mnist", "shapes")
CLASSES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
        caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
        forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
        mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
        possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
        sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
        wolf woman worm""",
    "mnist": "0 1 2 3 4 5 6 7 8 9",
}
# Mean and standard deviation used for the published results. (That of CIFAR-10 is the mean over the images of each image's own
# deviation; another would make results differ from the published ones.)
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "mnist": ((0.1307,), (0.3081,)),
}
LARGEST = 2**14  # pixels of a side to which images are resized
TEST_FRACTION = 10  # every tenth image is a test image where the data have no test set


def load(
    dataset: Any,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    channels: Literal["first", "last"] | None = None,
    size: int | Sequence[int] | None = None,
) -> ImageData:
    """Return a data set, all of it in memory as bytes.

    Parameters
    ----------
    dataset : str, path, ImageData, or data of your own
        - "cifar10", "cifar100", "mnist": the published files, bit for bit, pickled or binary, unpacked or in their archive.
        - "shapes": 8,000 + 2,000 synthetic pictures of 10 classes, 32 x 32 x 3; needs no file.
        - a path: a folder with one folder of pictures per class, or with such folders train, test and val; an .npz file of
          images and labels; a .parquet file, or a folder of them, with a column of encoded pictures and one of labels.
        - ((train images, train labels), (test images, test labels)): numpy or torch arrays. Images are uint8, or uint16 or
          floats from 0 to 1, which are rounded to 255ths; (count, channels, height, width), (count, height, width) for one
          channel, or (count, height, width, channels); see `channels`. Labels are whole numbers 0 to k - 1.
        - (images, labels): every tenth image of each class, drawn with a fixed seed, becomes the test set.
        - a torch Dataset of (picture, label), or a (train, test) pair of them: each is read once. Pictures are PIL
          images, arrays or tensors, before any normalization or random change; those of PIL are turned upright as their EXIF
          orientation demands, and their transparency is ignored. Where both have names of their classes, `classes`, the
          labels of the second become those of the first, by name.
    data_dir : path, optional
        Folder with the files, their folder or their archive, or one of these itself. Default: UNIGRID_DATA, otherwise
        `unigrid` in the user's cache.
    download : bool
        Whether missing files are downloaded from the data set's own site.
    channels : "first" or "last", optional
        Which axis of an image in an array is that of the channels. Needed where the shape may be read either way; not where
        one reading alone has 1 or 3 channels, or square images with channels first.
    size : int or (height, width), optional
        To which all images are resized, after they are cut to that aspect ratio about their center. Default: their own size,
        which must then be the same for all.

    Raises
    ------
    ImportError
        For parquet files without the package pyarrow, with the command that installs it.
    ValueError
        For an unknown name, and for arrays that are no labelled images; the message has the value and what is allowed. For
        images whose channels may be first or last.
    DatasetError
        For files that are missing (with the command that downloads them), damaged or not the published ones.

    Examples
    --------
    >>> load("shapes")
    ImageData(shapes, synthetic: 8000 + 2000 images, 32 x 32 x 3, 10 classes)
    """
    if channels is not None:
        choose(channels, ("first", "last"), "channels")
    wanted = None if size is None else checked_size(size)
    if on_disk.is_path(dataset) and dataset not in NAMES:
        return _from_files(on_disk.read(Path(dataset), wanted), wanted, channels)
    data = dataset if isinstance(dataset, ImageData) else _loaded(dataset, data_dir, download, channels)
    return data if wanted is None else _resized(data, wanted)


def checked_size(size: Any) -> tuple[int, int]:
    """Return height and width of images from one number or two. Raises ValueError."""
    pair = entries_of(size) or (size,)
    if len(pair) not in (1, 2):
        raise ValueError(f"size must be one number of pixels, or height and width, got {len(pair)} numbers")
    height, width = (checked_count("size", value, most=LARGEST) for value in (pair[0], pair[-1]))
    return height, width


def validation_set(source: Any, data: ImageData) -> ImageData:
    """Return the data with another validation set: a path, (images, labels) or a torch Dataset, its classes those of the data.

    Raises ValueError where it does not fit, and DatasetError.
    """
    channels, *size = data.shape
    if on_disk.is_path(source):
        found = on_disk.read(Path(source), (size[0], size[1]), channels)
        images, labels = found.splits.get("validation") or found.whole
        split = _resized_split(_from_arrays(images, labels, "validation", found.channels), (size[0], size[1]))
        held = Labelled(str(source), split, found.names)
    elif isinstance(source, Dataset) or _is_pair(source):
        held = _read(source, "validation", None)
    else:
        raise ValueError(
            f"validation must be a count or a share of the {len(data.train)} training images, a path, (images, labels) or a "
            f"torch Dataset, got {shown(source)}"
        )
    split = Split(held.split.images, held.labels_among(data.classes))
    return dataclasses.replace(data, validation=_fitting(split, "validation", data.train, len(data.classes)))


def _loaded(dataset: Any, data_dir: str | os.PathLike[str] | None, download: bool, channels: str | None) -> ImageData:
    if not isinstance(dataset, str):
        return _custom(dataset, channels)
    if choose(dataset, NAMES, "dataset or path") != "shapes":
        return _published(dataset, data_dir, download)
    train, test = (Split(_tensor(images), _tensor(labels)) for images, labels in shapes.make())
    return ImageData("shapes", train, test, tuple(shapes.FIGURES), *_statistics(train.images), synthetic=True)


def load_test(
    dataset: Any,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    channels: Literal["first", "last"] | None = None,
    shape: tuple[int, int, int] | None = None,
) -> Labelled:
    """Return the images to test a network on: the test set of data that have one, all images of others.

    Nothing is split off, and not every class needs an image. Arguments and errors as of `load`; `dataset` may also be a
    `Split`. `shape` is channels, height and width, to which pictures from files are fitted, and published images resized.
    """
    size = None if shape is None else shape[1:]
    if on_disk.is_path(dataset) and dataset not in NAMES:
        found = on_disk.read(Path(dataset), size, None if shape is None else shape[0])
        split = _from_arrays(*(found.splits.get("test") or found.whole), "test", found.channels or channels)
        return Labelled("custom", split if size is None else _resized_split(split, size), found.names)
    if isinstance(dataset, str | ImageData):
        data = load(dataset, data_dir, download, None, size if isinstance(dataset, str) else None)
        return Labelled(data.name, data.test, data.classes, data.synthetic)
    return Labelled("custom", dataset) if isinstance(dataset, Split) else _read(_parts(dataset)[-1], "test", channels)


def data_directory(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of data sets: the argument, else UNIGRID_DATA, else `unigrid` in the user's cache."""
    given = data_dir if data_dir is not None else os.environ.get("UNIGRID_DATA")
    if given:
        return expanded(given)
    cache = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(cache) / "unigrid" if cache else Path.home() / ".cache" / "unigrid"


def _published(name: str, data_dir: str | os.PathLike[str] | None, fetch: bool) -> ImageData:
    where, layouts = data_directory(data_dir), archives.LAYOUTS[name]
    with os_errors(where, "cannot be looked into", DatasetError):
        found = archives.find(layouts, where)
        if found is None and fetch:
            download.fetch_dataset(name, where)
            found = archives.find(layouts, where)
        if found is None:
            raise DatasetError(_missing(name, where, data_dir is not None))
    train, test = (Split(_tensor(images), _tensor(labels).long()) for images, labels in archives.read(found))
    mean, std = STATISTICS[name]
    return ImageData(name, train, test, tuple(CLASSES[name].split()), mean, std, flip=name != "mnist")


def _missing(name: str, where: Path, given: bool) -> str:
    """Return the message for missing data: what was looked for, where, and the commands that help."""
    layouts = archives.LAYOUTS[name]
    wanted = [f"{folder}/" for layout in layouts for folder in layout.folders]
    wanted += [layout.archive for layout in layouts if layout.archive is not None]
    folder = where.parent if where.is_file() else where
    option = f" --data-dir {shlex.quote(str(folder))}" if given else ""
    return (
        f"{where}: {_state(name, where)} (looked for {', '.join(wanted)}); `unigrid train {name} --download{option}` fetches "
        f"{download.megabytes(name)} MB from {download.SITES[name]}; if you have the files, "
        f"`unigrid train {name} --data-dir FOLDER` or UNIGRID_DATA=FOLDER reads them from there"
    )


def _state(name: str, where: Path) -> str:
    if not where.exists():
        return f"no such folder, so no {name}"
    partly = archives.incomplete(archives.LAYOUTS[name], where)
    if partly is not None:
        return f"{name} is incomplete: {partly}"
    others = [other for other, layouts in archives.LAYOUTS.items() if archives.find(layouts, where) is not None]
    return f"holds {' and '.join(others)}, not {name}" if others else f"{name} is not here"


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor of its own, writable and contiguous."""
    return torch.from_numpy(np.array(array, order="C"))


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, for values from 0 to 1; 1 for a channel that is constant."""
    total = torch.zeros(images.shape[1], dtype=torch.int64)
    squares = torch.zeros_like(total)
    for part in torch.split(images, 1000):  # whole numbers: exact, so the order of summation is no part of the result
        values = part.to(torch.int32)
        total += values.sum((0, 2, 3))
        squares += (values * values).sum((0, 2, 3))
    count = images.numel() // images.shape[1]
    mean = total.double() / count
    variance = squares.double() / count - mean**2
    std = torch.where(variance > 1e-9, variance.clamp_min(0).sqrt(), 255.0)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


# Data of the user.


def _from_files(found: on_disk.Found, size: tuple[int, int] | None, channels: str | None) -> ImageData:
    splits = {name: _from_arrays(*arrays, name, found.channels or channels) for name, arrays in found.splits.items()}
    if size is not None:
        splits = {name: _resized_split(split, size) for name, split in splits.items()}
    train, validation = splits["train"], splits.get("validation")
    data = _custom_data(train, splits["test"], found.names) if "test" in splits else _split_off(train, found.names)
    if validation is None:
        return data
    return dataclasses.replace(data, validation=_fitting(validation, "validation", train, len(data.classes)))


def _resized(data: ImageData, size: tuple[int, int]) -> ImageData:
    validation = None if data.validation is None else _resized_split(data.validation, size)
    train, test = (_resized_split(split, size) for split in (data.train, data.test))
    return dataclasses.replace(data, train=train, test=test, validation=validation)


def _resized_split(split: Split, size: tuple[int, int]) -> Split:
    channels, *before = split.images.shape[1:]
    if tuple(before) == size:
        return split
    return Split(torch.stack([fitted(image.permute(1, 2, 0), (channels, *size)) for image in split.images]), split.labels)


def _fitting(split: Split, which: str, train: Split, classes: int) -> Split:
    """Return a split whose images have the shape of the training images, and its labels a class. Raises ValueError."""
    if split.images.shape[1:] != train.images.shape[1:]:
        raise ValueError(
            f"training and {which} images must have the same channels, height and width, "
            f"got {tuple(train.images.shape[1:])} and {tuple(split.images.shape[1:])}"
        )
    if int(split.labels.max()) >= classes:
        raise ValueError(f"the {which} labels reach {int(split.labels.max())}, but those of training only {classes - 1}")
    return split


def _custom(dataset: Any, channels: str | None) -> ImageData:
    parts = _parts(dataset)
    if len(parts) == 1:
        data = _read(parts[0], "the", channels)
        return _split_off(data.split, data.classes)
    train, test = _read(parts[0], "training", channels), _read(parts[1], "test", channels)
    labels = test.labels_among(train.classes) if train.classes and test.classes else test.split.labels
    return _custom_data(train.split, Split(test.split.images, labels), train.classes)


def _parts(dataset: Any) -> tuple[Any, ...]:
    """Return the training set and the test set, or the only set: each a Dataset, or a pair of images and labels."""
    if isinstance(dataset, Dataset):
        return (dataset,)
    if not isinstance(dataset, tuple | list) or len(dataset) != 2:
        raise ValueError(
            f"dataset must be one of {', '.join(map(repr, NAMES))}, (images, labels), a (train, test) pair of these, "
            f"or a torch Dataset or two; got {type(dataset).__name__}"
        )
    return tuple(dataset) if all(isinstance(part, Dataset) or _is_pair(part) for part in dataset) else (tuple(dataset),)


def _read(part: Any, which: str, channels: str | None) -> Labelled:
    if isinstance(part, Dataset):
        return Labelled("custom", _from_dataset(part, channels), _class_names(part))
    images, labels = part
    return Labelled("custom", _from_arrays(images, labels, which, channels))


def _is_pair(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 2


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the names of the classes where a Dataset, or the one that it is part of, has them, as those of torchvision do."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    given = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if given and names else None


def _custom_data(train: Split, test: Split, names: tuple[str, ...] | None = None) -> ImageData:
    classes = _count_classes(train.labels)
    test = _fitting(test, "test", train, classes)
    if names is None or len(names) < classes:
        names = tuple(map(str, range(classes)))
    return ImageData("custom", train, test, names[:classes], *_statistics(train.images))


def _count_classes(labels: Tensor) -> int:
    present = np.unique(labels.numpy())
    classes = int(present[-1]) + 1
    if len(present) != classes:
        absent = next(label for label, there in enumerate(present) if label != there)
        raise ValueError(
            f"labels must be 0 to k - 1 with an image for each, got {len(present)} different ones from {present[0]} "
            f"to {classes - 1}: label {absent} has no training image"
        )
    if classes < 2:
        raise ValueError("labels must name at least 2 classes, got 1")
    return classes


def _split_off(data: Split, names: tuple[str, ...] | None = None) -> ImageData:
    """Make every tenth image of each class, drawn with a fixed seed, the test set."""
    if len(data) < TEST_FRACTION:
        raise ValueError(f"{len(data)} images are too few to split a test set off: give ((images, labels), (images, labels))")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SPLIT_SEED))
    order = order[data.labels[order].argsort(stable=True)]
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[order[TEST_FRACTION - 1 :: TEST_FRACTION]] = True
    return _custom_data(data.subset(torch.where(~chosen)[0]), data.subset(torch.where(chosen)[0]), names)


def _from_arrays(images: Any, labels: Any, which: str, channels: str | None) -> Split:
    split = Split(_checked_images(_as_array(images), which, channels), _checked_labels(_as_array(labels), which))
    if len(split.images) != len(split.labels):
        raise ValueError(f"{which} images and labels must be equally many, got {len(split.images)} and {len(split.labels)}")
    return split


def _as_array(values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy()
    return np.asarray(values)


def _checked_images(images: NDArray[Any], which: str, channels: str | None) -> Tensor:
    if images.ndim not in (3, 4) or images.size == 0:
        raise ValueError(
            f"{which} images must have the axes (count, channels, height, width), (count, height, width) or "
            f"(count, height, width, channels), got shape {images.shape}"
        )
    if images.ndim == 3:
        images = images[:, None]
    elif (channels or _where_channels_are(images.shape[1:], which)) == "last":
        images = np.moveaxis(images, 3, 1)
    return _tensor(as_bytes(images, f"{which} images"))


def _where_channels_are(shape: tuple[int, ...], which: str) -> str:
    """Return "first" or "last" for the shape of an image, where one of them alone is likely. Raises ValueError."""
    gray_or_color = [axis in (1, 3) for axis in (shape[0], shape[2])]
    first, last = gray_or_color[0] or shape[1] == shape[2], gray_or_color[1] or shape[0] == shape[1]
    if first and not last:
        return "first"
    if gray_or_color[1] and not first:
        return "last"
    raise ValueError(
        f"{which} images of shape {shape} may be {shape[0]} channels of {shape[1]} x {shape[2]} or {shape[2]} channels of "
        f'{shape[0]} x {shape[1]}: give unigrid.training.load(dataset, channels="first"), or "last", in place of the dataset; '
        "to evaluate, that argument itself"
    )


def _checked_labels(labels: NDArray[Any], which: str) -> Tensor:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{which} labels must be whole numbers, one per image, got {labels.dtype} of shape {labels.shape}")
    if labels.size and labels.min() < 0:
        raise ValueError(f"{which} labels must be 0 to k - 1, got {labels.min()}")
    return _tensor(labels.astype(np.int64))


def _from_dataset(dataset: Any, channels: str | None) -> Split:
    """Read a torch Dataset once."""
    pictures, labels = [], []
    for number, item in enumerate(items_of(dataset)):
        try:
            picture, label = item
            labels.append(operator.index(label))
        except (TypeError, ValueError):
            raise ValueError(
                f"a Dataset must give (picture, whole-number label), item {number} is {_described(item)}"
            ) from None
        if isinstance(picture, Image):
            picture, channels = pixels_of(picture), "last"
        pictures.append(as_bytes(_as_array(picture), "the Dataset's images"))
        if pictures[-1].shape != pictures[0].shape:
            raise ValueError(f"pictures must have one size, got {pictures[0].shape} and, item {number}, {pictures[-1].shape}")
    if not pictures:
        raise ValueError("the Dataset is empty")
    split_images = _checked_images(np.stack(pictures), "the Dataset's", channels)
    return Split(split_images, _checked_labels(np.array(labels), "the Dataset's"))


def _described(item: Any) -> str:
    if isinstance(item, Sequence) and not isinstance(item, str):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__
