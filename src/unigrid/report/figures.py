"""Figures and pictures inside a page: curves as SVG in the colors of the page, arrays and photographs as PNG or JPEG."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ..plots.style import DIVERGING, SHARES

DOTS = 150  # per inch, of pictures within a figure
THUMBNAIL, AS_PNG = 64, 32  # pixels of a side to which pictures are reduced; up to which they are stored without loss
CLEAR = 255  # the color of a mosaic that shows the page
SIDE = 96  # least number of pixels of the side of a mosaic
# Colors of figures, drawn for white paper, and the properties of the page that replace them.
INKS = {
    "#000000": "currentColor", "#333333": "var(--soft)", "#4c4c4c": "var(--soft)", "#4d4d4d": "var(--soft)",
    "#666666": "var(--soft)", "#cccccc": "var(--line)", "#e5e5e5": "var(--line)", "#e6e6e6": "var(--line)",
    "#0072b2": "var(--first)", "#d55e00": "var(--second)", "#009e73": "var(--third)",
}  # fmt: skip
Pixels = NDArray[np.uint8]


@final
@dataclass(frozen=True)
class Picture:
    """What a template shows: the address of a picture that holds the picture itself, or SVG; and a text in its place."""

    alt: str
    source: str = ""
    svg: str = ""


def vector(figure: Figure, name: str, alt: str) -> Picture:
    """Return a figure as SVG without a background; `name` begins its identifiers, which must be unique in a page."""
    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    file = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    cut: dict[str, Any] = (
        {} if figure.get_layout_engine() else {"bbox_inches": "tight", "pad_inches": 0.03}
    )  # else the layout fills the figure
    figure.savefig(file, format="svg", dpi=DOTS, metadata=nothing, **cut)
    text = file.getvalue()
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    text = re.sub("#[0-9a-f]{6}\\b", lambda found: INKS.get(found[0], found[0]), text)
    return Picture(alt, svg=text)


def _stored(image: Image.Image, alt: str, lossless: bool = True) -> Picture:
    """Return a picture as a PNG, or else as a JPEG."""
    file, kind = io.BytesIO(), "png" if lossless else "jpeg"
    image.save(file, kind, **({"optimize": True} if lossless else {"quality": 85}))
    return Picture(alt, f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}")


def thumbnail(pixels: Pixels, alt: str) -> Picture:
    """Return a photograph (height, width) or (height, width, 3), reduced where it is large."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return _stored(image, alt, lossless=max(image.size) <= AS_PNG)


def mosaic(tiles: NDArray[np.float64], limit: float, alt: str) -> Picture:
    """Return arrays (count, height, width) side by side in rows, to the diverging colors that end at +-limit.

    Gaps, and values that are not finite, show the page.
    """
    count, height, width = tiles.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    zoom = max(1, -(-SIDE // (columns * width)))
    gap = max(1, zoom * width // 8)
    tall, wide = zoom * height + gap, zoom * width + gap
    pixels = np.full((rows * tall - gap, columns * wide - gap), CLEAR, np.uint8)
    finite = np.rint((CLEAR - 1) * np.clip(0.5 + 0.5 * np.nan_to_num(tiles) / limit, 0.0, 1.0))
    numbers = np.where(np.isfinite(tiles), finite, CLEAR).astype(np.uint8).repeat(zoom, 1).repeat(zoom, 2)
    for number, tile in enumerate(numbers):
        top, left = number // columns * tall, number % columns * wide
        pixels[top : top + zoom * height, left : left + zoom * width] = tile
    image = Image.fromarray(pixels)
    image.putpalette(colormaps[DIVERGING](np.arange(CLEAR) / (CLEAR - 1), bytes=True)[:, :3].tobytes() + bytes(3))
    image.info["transparency"] = CLEAR
    return _stored(image, alt)


def shades(shares: NDArray[np.float64], alt: str) -> Picture:
    """Return a matrix of shares from 0 to 1 as a picture, a few pixels per entry, darker by the root of the share."""
    zoom = max(1, 400 // len(shares))
    colors = colormaps[SHARES](np.sqrt(np.nan_to_num(shares)), bytes=True)[:, :, :3]
    return _stored(Image.fromarray(colors.repeat(zoom, 0).repeat(zoom, 1)), alt)
