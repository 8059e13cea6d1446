"""Pictures of any kind as images for a network.

A picture is cut to the aspect ratio of the training images about its center (a square, for the published data sets), resized
with antialiasing (bicubic), and converted to gray or RGB.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ...files import FileError, expanded
from ...pictures import as_bytes, pixels_of, read

MODES = {1: "L", 3: "RGB"}


def fitted(picture: Any, shape: tuple[int, int, int]) -> Tensor:
    """Return a picture as uint8 (channels, height, width) of that shape: cut about its center, resized with antialiasing."""
    channels, height, width = shape
    kind, image = mode(channels), Image.fromarray(_bytes_of(picture))
    image = ImageOps.fit(image.convert(kind), (width, height), Image.Resampling.BICUBIC)
    pixels = np.array(image).reshape(height, width, channels)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)))


def mode(channels: int) -> str:
    """Return the mode of pictures, "L" (gray) or "RGB". Raises ValueError for other numbers of channels."""
    if channels not in MODES:
        raise ValueError(f"the network takes images of {channels} channels; pictures have 1 or 3")
    return MODES[channels]


def _bytes_of(picture: Any) -> NDArray[np.uint8]:
    """Return the pixels of a picture as bytes, (height, width) or (height, width, 3)."""
    if isinstance(picture, (str, os.PathLike)):
        path = expanded(picture)
        try:
            return as_bytes(read(path), "pictures")
        except FileError:
            raise
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
    if isinstance(picture, Image.Image):
        return as_bytes(pixels_of(picture), "pictures")
    if isinstance(picture, (np.ndarray, Tensor)):
        return as_bytes(_channels_last(picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture), "pictures")
    raise TypeError(f"a picture must be a path, a PIL image or an array, got {type(picture).__name__}")


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as (height, width) or (height, width, 3)."""
    first, last = (array.ndim == 3 and array.shape[axis] in MODES for axis in (0, 2))
    if array.size == 0 or not (array.ndim == 2 or first or last):
        raise ValueError(
            f"a picture must have the axes (height, width), (height, width, channels) or (channels, height, width) with 1 or "
            f"3 channels, got shape {array.shape}"
        )
    if first and last:
        raise ValueError(
            f"a picture of shape {array.shape} may have its channels first or last; give it as a PIL image, or gray as "
            f"(height, width)"
        )
    pixels = np.moveaxis(array, 0, 2) if first else array
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
