"""Pictures as arrays: one reader for right-hand sides, data sets and classifiers.

Pillow decodes. Of color with 16 bits per channel it keeps the high bytes alone; such files are decoded a second time, with
the bytes of each pair exchanged, for the low ones.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .files import FileError, check_readable, is_folder, one_line

Array = NDArray[Any]
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")  # decoded in this process; an EPS would start Ghostscript
PIXELS = 2**27  # of the largest picture that is read: a file of kilobytes may unpack to gigabytes
# Rec. 601: what cameras, JPEG and television call the brightness of red, green and blue.
LUMINANCE = (0.299, 0.587, 0.114)
# Pillow's layouts of 16 bits per channel that it reduces to the high bytes, and those that give the low bytes in their place.
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_LOW = {f"{mode};16{order}": f"{mode};16{_ORDERS[order]}" for mode in ("RGB", "RGBA", "RGBX") for order in _ORDERS}
_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284  # tags of TIFF
_WHITE_IS_ZERO = 0


def read(path: Path) -> Array:
    """Return the pixels of a picture file, turned upright as its EXIF orientation demands; transparency is ignored, and of an
    animation all but the first picture.

    Returns
    -------
    array, (height, width) or (height, width, 3)
        Gray or RGB: uint8 or uint16 (TIFF: uint32 too) from black, 0, to white, the largest of the type; float32 as stored.

    Raises
    ------
    FileError
        For a file that is missing, damaged or of another format, of more than `PIXELS` pixels, or that could be read with a
        loss alone.
    """
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a picture")
    check_readable(path)
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")  # on large pictures and odd metadata; errors become one line
            return decoded(file)
    except UnidentifiedImageError:
        raise FileError(
            f"{path}: not a picture, or of a format that is not read; convert it to one of {', '.join(FORMATS)}"
        ) from None
    except MemoryError:
        raise FileError(f"{path}: the picture does not fit into memory") from None
    except Exception as error:  # a damaged file can make the library raise anything
        raise FileError(f"{path}: not a readable picture ({one_line(error)})") from None


def pixels_of(image: Image.Image) -> Array:
    """Return the pixels of a PIL image as `read` does those of a file. Raises ValueError for whole numbers without a scale."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        return _as_uint16(np.asarray(image))
    if image.mode == "F":
        return np.asarray(image)
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow requires this intermediate step
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def gray(pixels: Array) -> Array:
    """Return the gray values of pixels that were read, (height, width): from 0, black, to 1; floats as they are."""
    if pixels.ndim == 2:
        return pixels if pixels.dtype.kind == "f" else pixels / _largest(pixels)
    total = np.zeros(pixels.shape[:2])
    for at, weight in enumerate(LUMINANCE):
        total += weight / _largest(pixels) * pixels[..., at]
    return total


def as_bytes(pixels: Array, what: str) -> NDArray[np.uint8]:
    """Return pixels of any type as bytes, rounded. Raises ValueError, which begins with `what`, for other numbers."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "u":
        return np.rint(pixels / (_largest(pixels) / 255)).astype(np.uint8)
    if pixels.dtype.kind != "f":
        raise ValueError(f"{what} must be uint8, uint16, or floats from 0 to 1, got {pixels.dtype}; see numpy.ndarray.astype")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise ValueError(
            f"{what} that are floats must lie in 0..1, got {low:g} to {high:g}; "
            f"give them before normalization, or divided by 255"
        )
    scaled: NDArray[np.uint8] = np.rint(pixels * pixels.dtype.type(255)).astype(np.uint8)
    return scaled


def _largest(pixels: Array) -> float:
    return 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)


def _as_uint16(values: Array) -> NDArray[np.uint16]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its whole numbers, {low} to {high}, are no 16-bit gray values; give it as floats")
    return values.astype(np.uint16)


def decoded(file: BinaryIO) -> Array:
    """Return the pixels of an open file as `read` does; whatever the library raises for a damaged one passes."""
    image = Image.open(file, formats=FORMATS)
    _check_size(image)
    raw = _raw_mode(image)
    if image.format == "TIFF":
        _check_tiff(image)
    if raw == "LA;16B":  # its four bytes are the pixel; Pillow would keep two
        gray_alpha = np.asarray(ImageOps.exif_transpose(_reopened(file, "RGBA"))).astype(np.uint16)
        return gray_alpha[..., 0] << 8 | gray_alpha[..., 1]
    if raw in _LOW:
        high, low = pixels_of(image), pixels_of(_reopened(file, _LOW[raw]))
        return high.astype(np.uint16) << 8 | low
    if raw == "I;12":
        pixels = pixels_of(image)
        return pixels << 4 | pixels >> 8
    if raw == "I;32N":
        return np.asarray(ImageOps.exif_transpose(image)).view(np.uint32)
    if raw == "F;32BF" and image.tile[0][0] == "libtiff":  # which has put the bytes in the order of this machine
        return pixels_of(_reopened(file, "F;32NF"))
    if raw.startswith("I;") and raw.endswith("S"):
        raise ValueError("its whole numbers have a sign, so that none of them is white; save it as unsigned or as floats")
    if ";16" in raw and not image.mode.startswith("I"):
        raise ValueError(f"16 bits per channel in the layout {raw} would lose 8 of them; save it as RGB or as PNG")
    return pixels_of(image)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many, at most {PIXELS:,} are read; make it smaller")


def _check_tiff(image: Any) -> None:
    """Raise ValueError for a TIFF that would be read in part, or otherwise than it is meant."""
    if image.n_frames > 1:
        raise ValueError(f"holds {image.n_frames} pictures; save each to a file of its own")
    tags = image.tag_v2
    deep = max(tags.get(_BITS, (1,))) > 8
    if deep and tags.get(_PLANAR) == 2:
        raise ValueError("more than 8 bits with one plane per channel; save it with channels interleaved")
    if deep and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise ValueError("more than 8 bits where 0 is white; save it with 0 for black")


def _raw_mode(image: Any) -> str:
    """Return Pillow's name of the layout of the pixels in the file."""
    args = image.tile[0][3] if image.tile else ""
    raw = args if isinstance(args, str) else args[0] if args else ""
    if image.format == "PPM" and image.mode == "RGB" and not isinstance(args, str) and args[-1] > 255:
        raw = "RGB;16 of PPM"
    return str(raw)


def _reopened(file: BinaryIO, raw: str) -> Image.Image:
    """Return the picture of a file opened anew, its pixels to be taken in another layout of as many bits."""
    file.seek(0)
    image: Any = Image.open(file, formats=FORMATS)
    image.tile = [tile._replace(args=raw if isinstance(tile[3], str) else (raw, *tile[3][1:])) for tile in image.tile]
    return image  # type: ignore[no-any-return]
