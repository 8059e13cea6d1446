"""Canonical files of CIFAR-10, CIFAR-100 and MNIST: found by path, checked bit for bit, read.

The name of a data set stands for the published bytes only: every file must have its canonical size and MD5 before anything in
it is parsed. Archives are read in place, into memory; nothing is unpacked to disk.

Source: A. Krizhevsky, Learning multiple layers of features from tiny images (2009), https://www.cs.toronto.edu/~kriz/cifar.html
for both forms of CIFAR; Y. LeCun, C. Cortes, C. Burges, The MNIST database, for the idx form.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ...files import FileError, one_line

Bytes = NDArray[np.uint8]
Parsed = tuple[Bytes, Bytes]  # images (count, channels, height, width), labels (count,)
DAMAGE = (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile)  # raised by the libraries for a damaged archive


class DatasetError(FileError):
    """Data that are missing, damaged or not the published ones; one line: the fault and what to do about it."""


@final
@dataclass(frozen=True)
class KnownFile:
    """A file of a data set, as published."""

    name: str
    size: int
    md5: str


@final
@dataclass(frozen=True)
class Layout:
    """One published form of a data set: its folders and files, and the function that parses the files of a split."""

    folders: tuple[str, ...]
    archive: str | None
    train: tuple[KnownFile, ...]
    test: tuple[KnownFile, ...]
    parse: Callable[[Sequence[bytes]], Parsed]

    @property
    def files(self) -> tuple[KnownFile, ...]:
        """All files that hold images or labels."""
        return self.train + self.test


@final
@dataclass(frozen=True)
class Found:
    """A layout, and the folder or the archive in which it was found."""

    layout: Layout
    path: Path


def find(layouts: Sequence[Layout], where: Path) -> Found | None:
    """Return the first complete folder, else the first archive, under `where` or `where` itself; None if there is neither."""
    if where.is_file():
        return next((Found(layout, where) for layout in layouts if layout.archive == where.name), None)
    for found in _folders(layouts, where):
        if not _missing(found):
            return found
    held = (layout for layout in layouts if layout.archive is not None and (where / layout.archive).is_file())
    return next((Found(layout, where / str(layout.archive)) for layout in held), None)


def incomplete(layouts: Sequence[Layout], where: Path) -> str | None:
    """Return which folder has some of the files, and which are missing; None if no folder has any."""
    for found in _folders(layouts, where):
        missing = _missing(found)
        if len(missing) < len(found.layout.files):
            return f"{found.path} lacks {', '.join(missing)}"
    return None


def _folders(layouts: Sequence[Layout], where: Path) -> list[Found]:
    return [Found(layout, where / name) for layout in layouts for name in (*layout.folders, ".")]


def read(found: Found) -> tuple[Parsed, Parsed]:
    """Return images and labels of the training set, then of the test set, as bytes.

    Raises DatasetError for a file that cannot be read or is not the canonical one.
    """
    layout = found.layout
    try:
        contents = _from_folder(found) if found.path.is_dir() else _from_archive(found)
    except DAMAGE as error:
        raise DatasetError(f"{found.path}: truncated or damaged ({one_line(error)}); delete it and get it again") from None
    except OSError as error:
        raise DatasetError(f"{found.path}: cannot be read ({error.strerror or one_line(error)})") from None
    train, test = (layout.parse([contents.pop(file.name) for file in part]) for part in (layout.train, layout.test))
    return train, test


def check(data: bytes, known: KnownFile, path: Path, others: Iterable[KnownFile] = ()) -> None:
    """Raise DatasetError, with the likely reason, unless the data are those of the known file."""
    if len(data) == known.size and _md5(data) == known.md5:
        return
    if len(data) < known.size:
        reason = f"truncated, or not the canonical file: {len(data)} bytes instead of {known.size}"
    elif len(data) > known.size:
        reason = f"not the canonical file: more than its {known.size} bytes"
    else:
        reason = f"damaged, or not the canonical file: its MD5 is {_md5(data)} instead of {known.md5}"
    twin = next((other.name for other in others if other.md5 == _md5(data)), None)
    if twin is not None:
        reason = f"mislabelled: this is the canonical {twin}"
    raise DatasetError(f"{path}: {reason}; delete it and get it again (data of your own go in as arrays)")


def _missing(found: Found) -> list[str]:
    return [file.name for file in found.layout.files if _path_of(found.path, file.name) is None]


def _path_of(folder: Path, name: str) -> Path | None:
    """Return the path of a file, or of its .gz: MNIST is published compressed file by file, and often found unpacked."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _from_folder(found: Found) -> dict[str, bytes]:
    contents = {}
    for known in found.layout.files:
        path = _path_of(found.path, known.name) or found.path / known.name
        try:
            with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
                data = file.read(known.size + 1)  # at most, whatever size the file unpacks to
        except DAMAGE as error:
            raise DatasetError(f"{path}: truncated or damaged ({one_line(error)}); delete it and get it again") from None
        check(data, known, path, found.layout.files)
        contents[known.name] = data
    return contents


def _from_archive(found: Found) -> dict[str, bytes]:
    """Read an archive once, from front to back: seeking backwards in a compressed file decompresses it again."""
    wanted = {f"{folder}/{known.name}": known for folder in found.layout.folders for known in found.layout.files}
    contents: dict[str, bytes] = {}
    with tarfile.open(found.path) as archive:
        for member in archive:
            known = wanted.get(member.name.removeprefix("./"))
            file = archive.extractfile(member) if known is not None and member.isreg() else None
            if known is not None and file is not None:
                data = file.read(known.size + 1)
                check(data, known, found.path / known.name, found.layout.files)
                contents[known.name] = data
    missing = [known.name for known in found.layout.files if known.name not in contents]
    if missing:
        raise DatasetError(f"{found.path}: truncated, or another archive: without {', '.join(missing)}")
    return contents


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@final
class _Unpickler(pickle.Unpickler):
    """Calls nothing but the four names in the published files: a pickle is a program that calls the objects it names."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[str, Any] = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": lambda code, *flags: np.dtype(code, copy=True),  # the flags 0 and 1 of Python 2 are deprecated
            "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
            "_codecs.encode": codecs.encode,
        }
        found = allowed.get(f"{module}.{name}".replace("numpy._core", "numpy.core"))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR file needs: it may be malicious")
        return found


def unpickle(data: bytes) -> Any:
    """Return what a pickle of Python 2 holds; its strings are bytes."""
    return _Unpickler(io.BytesIO(data), encoding="bytes").load()


# The contents of the files have been checked bit for bit before they are parsed.


def _pickled(label: bytes, contents: Sequence[bytes]) -> Parsed:
    """Parse batches of CIFAR that are pickled dictionaries: b'data' (count, 3072), and a list of labels under `label`."""
    batches = [unpickle(data) for data in contents]
    images, labels = (np.concatenate([batch[key] for batch in batches]) for key in (b"data", label))
    return images.reshape(-1, 3, 32, 32), labels.astype(np.uint8)


def _records(label_bytes: int, contents: Sequence[bytes]) -> Parsed:
    """Parse binary batches of CIFAR: records of `label_bytes` labels, the last of them used, and 3072 pixels."""
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, label_bytes + 3072)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1]


def _idx(contents: Sequence[bytes]) -> Parsed:
    """Parse MNIST's images and labels: a header of four bytes and four more per axis, then the elements."""
    images, labels = (np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]) for data in contents)
    return images.reshape(-1, 1, 28, 28), labels


# Sizes and MD5 of the files inside the archives of https://www.cs.toronto.edu/~kriz/cifar.html. Those of the pickles are also
# checked by torchvision; those of the binary files were computed from files whose pixels and labels equal those of the
# pickles, image by image. MNIST: of the decompressed published files.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "cifar10": (
        Layout(
            ("cifar-10-batches-py",), "cifar-10-python.tar.gz",
            (
                KnownFile("data_batch_1", 31035704, "c99cafc152244af753f735de768cd75f"),
                KnownFile("data_batch_2", 31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
                KnownFile("data_batch_3", 31035999, "54ebc095f3ab1f0389bbae665268c751"),
                KnownFile("data_batch_4", 31035696, "634d18415352ddfa80567beed471001a"),
                KnownFile("data_batch_5", 31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
            ),
            (KnownFile("test_batch", 31035526, "40351d587109b95175f43aff81a1287e"),),
            partial(_pickled, b"labels"),
        ),
        Layout(
            ("cifar-10-batches-bin",), "cifar-10-binary.tar.gz",
            (
                KnownFile("data_batch_1.bin", 30730000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
                KnownFile("data_batch_2.bin", 30730000, "5ea93a67294ea407fff1d09f752e9692"),
                KnownFile("data_batch_3.bin", 30730000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
                KnownFile("data_batch_4.bin", 30730000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
                KnownFile("data_batch_5.bin", 30730000, "53f37980c15c3d472c316c40844f3f0d"),
            ),
            (KnownFile("test_batch.bin", 30730000, "803d5f7f4d78ea53de84dbe85f74fb6d"),),
            partial(_records, 1),
        ),
    ),
    "cifar100": (
        Layout(
            ("cifar-100-python",), "cifar-100-python.tar.gz",
            (KnownFile("train", 155249918, "16019d7e3df5f24257cddd939b257f8d"),),
            (KnownFile("test", 31049707, "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
            partial(_pickled, b"fine_labels"),
        ),
        Layout(
            ("cifar-100-binary",), "cifar-100-binary.tar.gz",
            (KnownFile("train.bin", 153700000, "6172c7755cfe09b2fe270c85cebc1b15"),),
            (KnownFile("test.bin", 30740000, "4499cfba6c016c1be1438163640a0898"),),
            partial(_records, 2),
        ),
    ),
    "mnist": (
        Layout(
            ("MNIST/raw", "mnist"), None,
            (
                KnownFile("train-images-idx3-ubyte", 47040016, "6bbc9ace898e44ae57da46a324031adb"),
                KnownFile("train-labels-idx1-ubyte", 60008, "a25bea736e30d166cdddb491f175f624"),
            ),
            (
                KnownFile("t10k-images-idx3-ubyte", 7840016, "2646ac647ad5339dbf082846283269ea"),
                KnownFile("t10k-labels-idx1-ubyte", 10008, "27ae3e4e09519cfbb04c329615203637"),
            ),
            _idx,
        ),
    ),
}  # fmt: skip
