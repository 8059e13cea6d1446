"""Pictures of any kind as images for a network.

A picture is cut to the aspect ratio of the training images about its center (a square, for the published data sets), resized
with antialiasing (bicubic), and converted to gray or RGB.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...files import FileError, check_readable, expanded, is_folder, one_line

MODES = {1: "L", 3: "RGB"}


def fitted(picture: Any, shape: tuple[int, int, int]) -> Tensor:
    """Return a picture as uint8 (channels, height, width) of that shape: cut about its center, resized with antialiasing."""
    channels, height, width = shape
    image = ImageOps.fit(_image(picture, mode(channels)), (width, height), Image.Resampling.BICUBIC)
    pixels = np.array(image).reshape(height, width, channels)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)))


def mode(channels: int) -> str:
    """Return the mode of pictures, "L" (gray) or "RGB". Raises ValueError for other numbers of channels."""
    if channels not in MODES:
        raise ValueError(f"the network takes images of {channels} channels; pictures have 1 or 3")
    return MODES[channels]


def _image(picture: Any, kind: str) -> Image.Image:
    """Return the picture as a PIL image of that mode."""
    if isinstance(picture, (str, os.PathLike)):
        return _read(expanded(picture), kind)
    if isinstance(picture, Image.Image):
        return _converted(picture, kind)
    if isinstance(picture, (np.ndarray, Tensor)):
        return _converted(_from_array(picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture), kind)
    raise TypeError(f"a picture must be a path, a PIL image or an array, got {type(picture).__name__}")


def _read(path: Path, kind: str) -> Image.Image:
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a picture")
    check_readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on large pictures and odd metadata; errors become one line
            with open(path, "rb") as file, Image.open(file) as opened:
                return _converted(ImageOps.exif_transpose(opened), kind)
    except UnidentifiedImageError:
        raise FileError(f"{path}: not a picture, or of a kind that Pillow cannot read; convert it to PNG or JPEG") from None
    except MemoryError:
        raise FileError(f"{path}: the picture does not fit into memory") from None
    except Exception as error:  # a damaged file can make the library raise anything
        raise FileError(f"{path}: not a readable picture ({one_line(error)})") from None


def _converted(image: Image.Image, kind: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which a conversion to 8 would clip
        deep = np.asarray(image, dtype=np.float64) / 257.0
        image = Image.fromarray(np.rint(deep.clip(0, 255)).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow requires this intermediate step
    return image if image.mode == kind else image.convert(kind)


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
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
