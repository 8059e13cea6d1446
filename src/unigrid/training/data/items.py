"""The items of a torch Dataset, one after the other; the one that cannot be read is named."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

from PIL.Image import Image
from torch.utils.data import IterableDataset, Subset

from ...files import one_line
from .archives import DatasetError


def items_of(dataset: Any) -> Iterator[Any]:
    """Yield the items of a Dataset, pictures of Pillow decoded. Raises DatasetError, naming the one that cannot be read."""
    items = iter(dataset) if isinstance(dataset, IterableDataset) else (dataset[i] for i in range(len(dataset)))
    for number in itertools.count():
        try:
            item = next(items)
            for part in item if isinstance(item, tuple | list) else ():
                if isinstance(part, Image):
                    _decode(part)
        except StopIteration:
            return
        except Exception as error:  # a damaged file can make the user's reader raise anything
            raise DatasetError(f"{_place(dataset, number)}: cannot be read ({one_line(error)})") from error
        yield item


def _decode(picture: Image) -> None:
    """Read the file of a picture, which Pillow leaves until its pixels are asked for, and where that fails leaves open."""
    try:
        picture.load()
    except BaseException:
        picture.close()
        raise


def _place(dataset: Any, number: int) -> str:
    """Return the path of an item of a Dataset that lists its files as those of torchvision do, or else its number."""
    while isinstance(dataset, Subset):
        dataset, number = dataset.dataset, dataset.indices[number]
    listed = getattr(dataset, "samples", None)
    sample = listed[number] if isinstance(listed, Sequence) and number < len(listed) else None
    path = sample[0] if isinstance(sample, tuple | list) and sample else sample
    return str(path) if isinstance(path, str | os.PathLike) else f"item {number} of the Dataset"
