"""Seamless cloning: a drawn moth settles on a photograph, and no edge of the patch shows.

Inside a rectangular patch the result u has the Laplacian of the drawing, on the rim it has the colors of the photograph:

    Laplace u = Laplace source   in the patch,        u = photograph   on its rim,

once for each of the channels red, green and blue.

Source: P. Perez, M. Gangnet, A. Blake, Poisson image editing, ACM Trans. Graph. 22 (2003), 313-318.
Photograph: Grace Hopper, from matplotlib's sample data; a moth was the first computer bug her team found.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import cbook, image
from matplotlib.figure import Figure

import unigrid

TOP, LEFT, HEIGHT, WIDTH = 80, 381, 140, 128  # the patch, rim included


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


def clone(source: np.ndarray, target: np.ndarray) -> unigrid.Solution:
    """Solve for the inside of a patch; `source` and `target` have shape (height, width, channels), rim included."""
    shape = (source.shape[0] - 2, source.shape[1] - 2)
    folded = []
    for drawn, photo in zip(np.moveaxis(source, 2, 0), np.moveaxis(target, 2, 0), strict=True):
        f = 4 * drawn[1:-1, 1:-1] - drawn[:-2, 1:-1] - drawn[2:, 1:-1] - drawn[1:-1, :-2] - drawn[1:-1, 2:]
        rows = unigrid.Dirichlet(photo[0, 1:-1]), unigrid.Dirichlet(photo[-1, 1:-1])
        columns = unigrid.Dirichlet(photo[1:-1, 0]), unigrid.Dirichlet(photo[1:-1, -1])
        folded.append(unigrid.Poisson(shape, spacing=1, boundary=[rows, columns]).rhs(f))
    # With its colors folded in, each channel is a right-hand side of one and the same problem: u = 0 on the rim. Its coarser
    # grids no longer know the colors that full multigrid would need there, so the start is zero.
    return unigrid.StencilCycle(unigrid.Poisson(shape, spacing=1)).solve(np.stack(folded), start="zero")


def main(output: Path) -> dict[str, float]:
    """Clone, save the figure, return what was measured."""
    photograph = image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) / 255
    patch = slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH)
    source, pasted, cloned = draw_moth(HEIGHT, WIDTH), photograph.copy(), photograph.copy()
    pasted[patch] = source
    solution = clone(source, photograph[patch])
    cloned[patch][1:-1, 1:-1] = np.moveaxis(solution.u, 0, 2)

    figure = Figure(figsize=(9, 3.3), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[0.86, 1, 1])
    titles = "source: a drawing", "pasted", "cloned seamlessly"
    for axes, title, picture in zip(panels, titles, (source, pasted[:360, 140:], cloned[:360, 140:]), strict=True):
        axes.imshow(np.clip(picture, 0, 1))
        axes.set_title(title)
        axes.set_axis_off()
    figure.savefig(output, dpi=150, bbox_inches="tight")
    return {
        "unknowns": solution.u.size,
        "cycles": solution.iterations,
        "largest step at the rim, pasted": float(np.abs(source[0] - photograph[patch][0]).max()),
        "largest step at the rim, cloned": float(np.abs(cloned[patch][0] - cloned[patch][1]).max()),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "seamless_cloning.png")).items():
        print(f"{name}: {value:.4g}")
