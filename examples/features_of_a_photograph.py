"""Features of a photograph, level by level
========================================

What does each level of the cycle see of a picture, and what does it leave for the next?

The data f are the edges of a photograph, its Laplacian, and the cycle looks for the picture u behind them. Each level smooths,
which finds the features u that have its scale, and hands on the data that these do not explain yet::

    u <- S(A, f, u),        f' = R (f - A u)

This is the descent of MgNet, with the weights that Poisson's equation has in place of learned ones: R as pooling, smoothing as
extraction of features. On the way up the features are added, from coarse to fine, and the photograph comes back.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), algorithm 3.
Photograph: Grace Hopper, from matplotlib's sample data.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import cbook, image
from matplotlib.figure import Figure

import unigrid

SIZE = 384  # pixels, of the face
CORNER = 30, 100


def photograph() -> np.ndarray:
    """Return gray values of mean zero, (SIZE, SIZE)."""
    color = image.imread(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) / 255
    gray = color[CORNER[0] : CORNER[0] + SIZE, CORNER[1] : CORNER[1] + SIZE] @ (0.299, 0.587, 0.114)
    return gray - gray.mean()


def solver(shape: tuple[int, int]) -> unigrid.StencilCycle:
    """Return a V-cycle with insulated sides, on levels that halve."""
    problem = unigrid.Poisson(shape, spacing=1.0, boundary="neumann", centering="cell")
    return unigrid.StencilCycle(problem, smoother=unigrid.Chebyshev(degree=3), pre=1, post=1)


def descend(cycle: unigrid.StencilCycle, f: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return data, features and residual of every level on the way down, from u = 0."""
    states = []
    for level, coarser in zip(cycle.levels, [*cycle.levels[1:], None], strict=True):
        u, next_f, _ = level.descend(f, None, coarser)
        states.append((f, u, level.operator.residual(f, u)))
        f = next_f
    return states


def ascend(cycle: unigrid.StencilCycle, states: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Return u of every level on the way up: its own features, the correction of the coarser one, and smoothing."""
    found = [states[-1][1]]
    for level, (f, u, _) in zip(cycle.levels[-2::-1], states[-2::-1], strict=True):
        found.append(level.ascend(f, u.copy(), None, found[-1]))
    return found[::-1]


def main(output: Path, shown: int = 5) -> dict[str, float]:
    """Go down and up once, save the figure, return what was measured."""
    picture = photograph()
    cycle = solver(picture.shape)
    f = cycle.problem.operator(picture)
    states = descend(cycle, f)
    recovered = ascend(cycle, states)

    figure = Figure(figsize=(2.2 * shown + 1.2, 9.2), layout="constrained")
    panels = figure.subplots(4, shown)
    names = "data f", "features u", "residual f - A u", "u on the way up"
    for at, column in enumerate(panels.T):
        data, features, residual = states[at]
        rows = (data, "RdBu_r"), (features, "RdBu_r"), (residual, "RdBu_r"), (recovered[at], "gray")
        for axes, (values, colors) in zip(column, rows, strict=True):
            limit = np.quantile(np.abs(values), 0.995)
            axes.imshow(values, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f"level {at}: {' × '.join(map(str, data.shape))}")
    for axes, name in zip(panels[:, 0], names, strict=True):
        axes.set_ylabel(name, fontsize="large")
    figure.savefig(output, dpi=150)
    once = recovered[0] - recovered[0].mean() - picture
    norm = np.linalg.norm
    return {
        "levels": float(len(states)),
        "part of the data left by level 0": float(norm(states[0][2]) / norm(f)),
        "residual after the cycle": float(norm(cycle.problem.operator(recovered[0]) - f) / norm(f)),
        "error of the recovered photograph": float(norm(once) / norm(picture)),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "features_of_a_photograph.png")).items():
        print(f"{name}: {value:.4g}")
