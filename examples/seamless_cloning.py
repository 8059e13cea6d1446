"""Seamless cloning
================

A drawn moth settles on a photograph, and no edge of the patch shows.

Inside an outline drawn by hand the result u has the Laplacian of the drawing, around it the colors of the photograph::

    Laplace u = Laplace source   inside the outline,        u = photograph   elsewhere,

once for each of the channels red, green and blue.

Source: P. Perez, M. Gangnet, A. Blake, Poisson image editing, ACM Trans. Graph. 22 (2003), 313-318.
Photograph: Grace Hopper, from matplotlib's sample data; a moth was the first computer bug her team found.
"""

import pathlib
import sys

import numpy as np
from matplotlib import cbook, image
from matplotlib.figure import Figure
from matplotlib.path import Path

import unigrid

TOP, LEFT, HEIGHT, WIDTH = 80, 381, 140, 128  # the drawing, in the photograph
# The outline around the moth, as drawn: (down, right) in parts of the drawing, clockwise.
OUTLINE = [
    (0.10, 0.30), (0.16, 0.42), (0.14, 0.58), (0.10, 0.70), (0.20, 0.93), (0.42, 0.96), (0.58, 0.88), (0.78, 0.80),
    (0.86, 0.62), (0.84, 0.50), (0.87, 0.36), (0.78, 0.20), (0.58, 0.10), (0.44, 0.03), (0.20, 0.07),
]  # fmt: skip


def draw_moth(height: int, width: int) -> np.ndarray:
    """Return a moth on a card that is lit from above, shape (height, width, 3), colors from 0 to 1."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    side = np.abs(x)  # a moth is symmetric
    picture = (0.42 - 0.10 * y)[..., None] * np.ones(3)
    parts = [  # center, half axes, angle, color
        (0.34, -0.16, 0.42, 0.23, -0.5, (0.95, 0.72, 0.35)),
        (0.26, 0.24, 0.27, 0.22, 0.6, (0.95, 0.82, 0.55)),
        (0.42, -0.20, 0.10, 0.08, 0.0, (0.35, 0.20, 0.15)),
        (0.28, 0.26, 0.07, 0.06, 0.0, (0.55, 0.30, 0.20)),
        (0.00, 0.02, 0.07, 0.34, 0.0, (0.30, 0.22, 0.20)),
        (0.12, -0.46, 0.17, 0.012, -1.0, (0.30, 0.22, 0.20)),
    ]
    for center_x, center_y, long, short, angle, color in parts:
        along = (side - center_x) * np.cos(angle) + (y - center_y) * np.sin(angle)
        across = (y - center_y) * np.cos(angle) - (side - center_x) * np.sin(angle)
        distance = (np.hypot(along / long, across / short) - 1) * min(long, short) * width / 2  # in pixels, roughly
        picture += np.clip(0.5 - distance, 0, 1)[..., None] * (np.array(color) - picture)
    return picture


def inside(outline: list[tuple[float, float]], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a closed outline: True where it runs around a pixel."""
    pixels = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    corners = np.array([(TOP + HEIGHT * down, LEFT + WIDTH * right) for down, right in outline])
    return Path(corners).contains_points(pixels).reshape(shape)


def clone(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> unigrid.Solution:
    """Return the target with the source cloned into it where the mask is True; pictures of shape (height, width, channels)."""
    around = np.pad(source, ((1, 1), (1, 1), (0, 0)), mode="edge")
    f = 4 * source - around[:-2, 1:-1] - around[2:, 1:-1] - around[1:-1, :-2] - around[1:-1, 2:]
    return unigrid.solve(f, mask=mask, outside=target, spacing=1, boundary="neumann", centering="cell", channels="last")


def largest_step(picture: np.ndarray, mask: np.ndarray) -> float:
    """Return the largest difference of two pixels side by side, one inside of the mask, one outside."""
    return max(float(np.abs(np.diff(picture, axis=axis))[np.diff(mask, axis=axis)].max()) for axis in (0, 1))


def main(output: pathlib.Path) -> dict[str, float]:
    """Clone, save the figure, return what was measured."""
    photograph = image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) / 255
    source, mask = photograph.copy(), inside(OUTLINE, photograph.shape[:2])
    source[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = draw_moth(HEIGHT, WIDTH)
    pasted = np.where(mask[..., None], source, photograph)
    solution = clone(source, photograph, mask)

    figure = Figure(figsize=(9, 3.3), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[0.86, 1, 1])
    card, region = (slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH)), (slice(None, 360), slice(140, None))
    titles = "source: a drawing, and an outline", "pasted", "cloned seamlessly"
    for axes, title, picture in zip(panels, titles, (source[card], pasted[region], solution.u[region]), strict=True):
        axes.imshow(np.clip(picture, 0, 1))
        axes.set_title(title)
        axes.set_axis_off()
    panels[0].contour(mask[card], levels=[0.5], colors="white", linestyles="dashed")
    figure.savefig(output, dpi=150, bbox_inches="tight")
    return {
        "unknowns": solution.u.shape[-1] * int(mask.sum()),
        "iterations": solution.iterations,
        "largest step at the rim, photograph": largest_step(photograph, mask),
        "largest step at the rim, pasted": largest_step(pasted, mask),
        "largest step at the rim, cloned": largest_step(solution.u, mask),
    }


if __name__ == "__main__":
    for name, value in main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "seamless_cloning.png")).items():
        print(f"{name}: {value:.4g}")
