"""Labelled pictures of one's own in files: a folder per class, arrays in an .npz file, rows of parquet files.

    FOLDER/cat/1.jpg, FOLDER/dog/2.png                 one folder per class, pictures at any depth in it
    FOLDER/train/cat/1.jpg, FOLDER/test/...            the same for each split: train, test, and val or validation
    FILE.npz                                           images, labels; or x_train, y_train, x_test, ...; or train_images, ...
    FILE.parquet; FOLDER/train-*.parquet, ...          a column of encoded pictures and one of labels, as on Hugging Face

Classes are matched by name between splits; in a folder they are in the order of their names, as in torchvision's ImageFolder.
"""

from __future__ import annotations

import importlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...files import FileError, os_errors
from ...pictures import FORMATS, decoded
from ..images.pictures import fitted
from .archives import DatasetError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
GRAY = ("1", "L", "LA", "I", "F")  # the beginnings of modes of Pillow without color
TURNED = (5, 6, 7, 8)  # EXIF orientations in which height and width change places
ORIENTATION = 0x0112
PAIRS = ("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}_x", "{}_y")
WHOLE = ("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels")

Size = tuple[int, int]  # height and width
Arrays = tuple[Any, Any]  # images and labels


@dataclass(frozen=True)
class Rows:
    """Pictures, each a path or the bytes of one, and their labels: names, or numbers."""

    pictures: list[Any]
    labels: list[Any]
    place: Path

    def named(self, number: int) -> str:
        """Return where a picture is."""
        picture = self.pictures[number]
        return str(picture) if isinstance(picture, Path) else f"{self.place}, row {number + 1}"


@dataclass(frozen=True)
class Found:
    """What files hold: images and labels by split, "train" where there are none; and the names of the classes."""

    splits: dict[str, Arrays]
    names: tuple[str, ...] | None
    place: Path
    channels: str | None = None  # "first" where that is known

    @property
    def whole(self) -> Arrays:
        """All images. Raises DatasetError where they are split, and of the split that is needed there are none."""
        if len(self.splits) > 1:
            raise DatasetError(f"{self.place}: holds {' and '.join(self.splits)} images; give the folder or file of one split")
        return self.splits["train"]


def is_path(dataset: Any) -> bool:
    """Whether a data set is given as a path: one that is there, or is written like one."""
    if not isinstance(dataset, str):
        return isinstance(dataset, os.PathLike)
    return os.sep in dataset or dataset.endswith((".npz", ".parquet")) or os.path.exists(dataset)


def read(path: Path, size: Size | None = None, channels: int | None = None) -> Found:
    """Return the labelled pictures of a folder or file.

    Parameters
    ----------
    path : path
    size : height and width, optional
        Pictures are cut to this aspect ratio about their center and resized. Without it they must be equally large.
    channels : int, optional
        1 or 3; default 1 if all pictures are gray. Neither this nor `size` applies to .npz files.

    Raises
    ------
    DatasetError
        For files that are missing, damaged or no labelled pictures.
    ImportError
        For parquet files without the package pyarrow.
    """
    path = path.expanduser()
    with os_errors(path, "cannot be read", DatasetError):
        if not path.exists():
            raise DatasetError(f"{path}: no such file or folder")
        if path.suffix == ".npz":
            return _from_npz(path)
        parts, known = _rows(path)
        known = tuple(known or _sorted_names(parts["train"]))
        rows = list(parts.values())
        size, channels = size or _common_size(rows), channels or (1 if all(map(_is_gray, _pictures(rows))) else 3)
        return Found({split: _decoded(part, (channels, *size), known) for split, part in parts.items()}, known, path, "first")


def _rows(path: Path) -> tuple[dict[str, Rows], Sequence[str] | None]:
    """Return the pictures by split, and the names of the classes where they are stored apart from the labels."""
    if path.is_file():
        if path.suffix != ".parquet":
            raise DatasetError(f"{path}: not a folder with one folder per class, nor an .npz or .parquet file")
        return _from_parquet({"train": [path]})
    files = sorted(entry for folder in (path, path / "data") if folder.is_dir() for entry in folder.glob("*.parquet"))
    if files:
        return _from_parquet(_by_split(path, files))
    folders = _folders(path)
    split = {entry: name for entry in folders for name, words in SPLITS.items() if entry.name.lower() in words}
    if "train" not in split.values():
        return {"train": _from_classes(path)}, None
    if others := [entry.name for entry in folders if entry not in split]:
        raise DatasetError(f"{path}: holds train and {others[0]!r}, which is no split (train, val, test); move one of them")
    if len(set(split.values())) < len(split):
        raise DatasetError(f"{path}: holds a split twice: {', '.join(entry.name for entry in split)}")
    return {name: _from_classes(entry) for entry, name in split.items()}, None


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _from_classes(path: Path) -> Rows:
    """Return the pictures of a folder with one folder per class."""
    if loose := [entry for entry in path.iterdir() if entry.is_file() and entry.suffix.lower() in ENDINGS]:
        raise DatasetError(f"{loose[0]}: belongs to no class; {path} must hold one folder per class, with the pictures in it")
    pictures: list[Path] = []
    labels: list[str] = []
    for folder in _folders(path):
        found = sorted(file for file in folder.rglob("*") if file.is_file() and not _is_clutter(file))
        if other := next((file for file in found if file.suffix.lower() not in ENDINGS), None):
            raise DatasetError(f"{other}: not one of {' '.join(ENDINGS)}; convert it, or move it out of the folder")
        if not found:
            raise DatasetError(f"{folder}: holds no picture; remove the folder, or put pictures of the class in")
        pictures += found
        labels += [folder.name] * len(found)
    if not pictures:
        raise DatasetError(f"{path}: holds no folder; it must hold one folder per class, with the pictures in it")
    return Rows(pictures, labels, path)


def _is_clutter(file: Path) -> bool:
    return file.name.startswith(".") or file.name in ("Thumbs.db", "desktop.ini")


def _by_split(path: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Return parquet files by split, which is the beginning of their names; all of them are training files without one."""
    found: dict[str, list[Path]] = {}
    for file in files:
        word = file.stem.lower().split("-")[0].split("_")[0]
        split = next((name for name, words in SPLITS.items() if word in words), None)
        found.setdefault(split or "", []).append(file)
    if "" not in found:
        return found
    if len(found) > 1:
        raise DatasetError(f"{found[''][0]}: begins with no split (train, val, test), as other files in {path} do; move it")
    return {"train": found[""]}


def _from_parquet(files: dict[str, list[Path]]) -> tuple[dict[str, Rows], Sequence[str] | None]:
    if "train" not in files:
        raise DatasetError(f"{next(iter(files.values()))[0]}: there are no training files (train-*.parquet) beside it")
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ImportError("parquet files are read by pyarrow: pip install 'unigrid[io]'") from None
    parts, names = {}, None
    for split, paths in files.items():
        tables = [_table(parquet, path) for path in paths]
        image, label = _columns(tables[0].schema, paths[0])
        cells = [cell for table in tables for cell in table[image].to_pylist()]
        labels = [cell for table in tables for cell in table[label].to_pylist()]
        pictures = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
        for number, (picture, each) in enumerate(zip(pictures, labels, strict=True), 1):
            if picture is None or each is None:
                raise DatasetError(f"{paths[0]}: row {number} has no picture or no label")
        parts[split] = Rows(pictures, labels, paths[0])
        names = names or _stored_names(tables[0].schema, label)
    return parts, names


def _table(parquet: Any, path: Path) -> Any:
    try:
        return parquet.read_table(path)
    except Exception as error:  # a damaged file can make the library raise anything
        raise DatasetError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    """Return the names of the columns of pictures and of labels."""
    kinds = {field.name: str(field.type) for field in schema}
    images = [name for name, kind in kinds.items() if kind in ("binary", "large_binary") or "bytes: binary" in kind]
    labels = [name for name, kind in kinds.items() if kind.startswith(("int", "uint", "string", "large_string", "dictionary"))]
    labels = [name for name in labels if name in ("label", "labels")] or labels
    for what, found in (("encoded pictures (bytes)", images), ("labels (whole numbers or names)", labels)):
        if len(found) != 1:
            told = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise DatasetError(f"{path}: needs one column of {what}, has {len(found)} among {told}; keep one, or call it label")
    return images[0], labels[0]


def _stored_names(schema: Any, label: str) -> list[str] | None:
    """Return the names of the classes that Hugging Face's `datasets` stores beside the columns."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, ValueError, TypeError):
        return None


def _from_npz(path: Path) -> Found:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # a damaged file can make the library raise anything
        raise DatasetError(f"{path}: not a readable .npz file ({str(error).splitlines()[0]})") from None
    splits: dict[str, Arrays] = {}
    for split, words in SPLITS.items():
        patterns = [(image.format(word), label.format(word)) for word in words for image, label in PAIRS]
        for image, label in (*patterns, *(WHOLE if split == "train" else ())):
            if image in arrays and label in arrays and split not in splits:
                splits[split] = arrays[image], _one_per_image(arrays[label])
    if "train" not in splits:
        raise DatasetError(
            f"{path}: holds {', '.join(arrays)}; labelled images are images and labels, or x_train, y_train, x_test, y_test, "
            "or train_images, train_labels, ..."
        )
    names = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else None
    return Found(splits, names, path)


def _one_per_image(labels: NDArray[Any]) -> NDArray[Any]:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _sorted_names(rows: Rows) -> list[str]:
    """Return the names of the classes in order; of numbers, all up to the largest."""
    if all(isinstance(label, int) for label in rows.labels):
        return [str(number) for number in range(max(rows.labels) + 1)]
    return sorted({str(label) for label in rows.labels})


def _pictures(rows: list[Rows]) -> Iterator[Image.Image]:
    """Yield all pictures, opened but not decoded."""
    for part in rows:
        for number, picture in enumerate(part.pictures):
            try:
                with Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture), formats=FORMATS) as image:
                    yield image
            except (OSError, ValueError, Image.DecompressionBombError):
                raise DatasetError(f"{part.named(number)}: not a readable picture") from None


def _is_gray(image: Image.Image) -> bool:
    return image.mode.startswith(GRAY) and image.mode != "LAB"


def _upright(image: Image.Image) -> Size:
    width, height = image.size
    return (width, height) if image.getexif().get(ORIENTATION) in TURNED else (height, width)


def _common_size(rows: list[Rows]) -> Size:
    sizes = {_upright(image) for image in _pictures(rows)}
    if len(sizes) == 1:
        return sizes.pop()
    low, high = min(sizes, key=_area), max(sizes, key=_area)
    raise DatasetError(
        f"{rows[0].place}: pictures of {len(sizes)} sizes, from {low[0]} x {low[1]} to {high[0]} x {high[1]}; "
        "size=64 (--size 64) cuts them to squares about their centers and resizes these, size=(48, 64) to another shape"
    )


def _area(size: Size) -> int:
    return size[0] * size[1]


def _decoded(rows: Rows, shape: tuple[int, int, int], names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return uint8 images (count, *shape) and int64 labels, which are places in `names`."""
    images = torch.empty(len(rows.pictures), *shape, dtype=torch.uint8)
    for number, picture in enumerate(rows.pictures):
        try:
            images[number] = fitted(picture if isinstance(picture, Path) else decoded(io.BytesIO(picture)), shape)
        except FileError:
            raise
        except Exception as error:  # a damaged picture can make the library raise anything
            raise DatasetError(f"{rows.named(number)}: not a readable picture ({str(error).splitlines()[0]})") from None
    places: dict[Any, int] = {name: place for place, name in enumerate(names)}
    if all(isinstance(label, int) for label in rows.labels):
        places = {place: place for place in range(len(names))}
    if unknown := [label for label in rows.labels if label not in places]:
        raise DatasetError(
            f"{rows.place}: class {unknown[0]!r} is none of the training's: {', '.join(map(str, [*places][:10]))}"
        )
    return images, torch.tensor([places[label] for label in rows.labels], dtype=torch.int64)
