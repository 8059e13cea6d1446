"""`shapes`: a small synthetic set of pictures, drawn by unigrid for offline use and labelled as synthetic everywhere.

Ten figures of random place, size and angle, in a random light color on a random dark background with a gradient, with noise.
Mirroring a picture never changes its class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 throughout

SIDE = 32  # pixels
PART = 200  # pictures drawn at once, so that they fit into a cache
SOFTNESS = 0.08  # half width of an edge, in radii of the figure
NOISE = 16.0  # standard deviation, in gray values
DARK, LIGHT = (0, 140), (100, 255)  # red, green and blue of backgrounds and of figures, in gray values
SLOPE = 1.0  # largest change of a background from pixel to pixel, in gray values
RADIUS = (7, 12)  # of a figure, in pixels


# Each: negative inside the figure, which has a radius of about 1.
FIGURES: dict[str, Callable[[Array, Array], Array]] = {
    "disk": lambda x, y: np.hypot(x, y) - 1,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.72) - 0.28,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.85,
    "frame": lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.65) - 0.22,
    "triangle": lambda x, y: np.maximum(np.abs(x) * np.float32(0.866) + y * np.float32(0.5), -y) - 0.55,
    "cross": lambda x, y: np.maximum(np.minimum(np.abs(x), np.abs(y)) - 0.28, np.maximum(np.abs(x), np.abs(y)) - 1),
    "bar": lambda x, y: np.maximum(np.abs(x) - 1.1, np.abs(y) - 0.3),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1, 0.75 - np.hypot(x, y - np.float32(0.55))),
    "star": lambda x, y: np.hypot(x, y) - (0.68 + 0.34 * np.cos(5 * np.arctan2(y, x))),
    "dots": lambda x, y: np.hypot(np.abs(x) - np.float32(0.65), y) - 0.4,
}


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `count` pictures, uint8 (count, 3, 32, 32), and their labels, each class equally often up to one.

    The same seed always gives the same pictures.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count, dtype=np.int64) % len(FIGURES))
    pictures = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for start in range(0, count, PART):
        part = slice(start, start + PART)
        pictures[part] = _drawn(labels[part], rng)
    return pictures, labels


def _drawn(labels: NDArray[np.int64], rng: np.random.Generator) -> Array:
    x, y = _coordinates(len(labels), rng)
    depth = np.empty_like(x)
    for label, figure in enumerate(FIGURES.values()):
        chosen = labels == label
        depth[chosen] = figure(x[chosen], y[chosen])
    inside = np.clip(0.5 - depth / (2 * SOFTNESS), 0, 1)[:, None]
    pictures, color = _colors(len(labels), rng)
    pictures += inside * (color - pictures)
    noise = rng.standard_normal(pictures.shape, dtype=np.float32)
    noise *= NOISE
    pictures += noise
    np.rint(pictures, out=pictures)
    return np.clip(pictures, 0, 255, out=pictures)


@functools.cache
def make(train: int = 8000, test: int = 2000, seed: int = 0) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return the training set and the test set, drawn once per process and read-only."""
    pairs = draw(train, seed), draw(test, seed + 1)
    for array in (*pairs[0], *pairs[1]):
        array.flags.writeable = False
    return pairs


def _coordinates(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return x, y of every pixel in the coordinates of each figure, (count, 32, 32)."""
    radius = rng.uniform(*RADIUS, count)
    center = (rng.uniform(-1, 1, (2, count)) * (SIDE / 2 - 0.8 * radius)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi, count)
    cosine, sine = ((f(angle) / radius).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    place = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    across = place - center[0][:, None, None]
    down = place[:, None] - center[1][:, None, None]
    return across * cosine + down * sine, down * cosine - across * sine


def _colors(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return backgrounds (count, 3, 32, 32) with a gradient, and the colors of the figures (count, 3, 1, 1)."""
    base, color = (rng.uniform(*levels, (count, 3)).astype(np.float32) for levels in (DARK, LIGHT))
    slope = rng.uniform(-SLOPE, SLOPE, (2, count, 1)).astype(np.float32)
    place = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    shade = slope[0] * place
    shade = shade[:, None, :] + (slope[1] * place)[:, :, None]
    return base[:, :, None, None] + shade[:, None], color[:, :, None, None]
