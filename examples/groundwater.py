"""Groundwater
===========

The head of water in an aquifer whose permeability varies by orders of magnitude, and where the water flows.

::

    -div(K grad h) = 0,   h given at the left and the right side, no flow through the others,

K log-normal with a correlation length of a few cells. Water takes the permeable paths; what flows in on the left flows out on
the right, and the effective permeability lies between the harmonic and the arithmetic mean of K.

Source: R. A. Freeze, A stochastic-conceptual analysis of one-dimensional groundwater flow in nonuniform homogeneous media,
Water Resources Research 11 (1975).
"""

import sys
from pathlib import Path

import numpy as np
import scipy.ndimage
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import unigrid

CELLS, LENGTHS, SPREAD, CORRELATION = (160, 320), (1.0, 2.0), 1.6, 5.0  # SPREAD: of log K; CORRELATION: in cells
HIGH, LOW = 1.0, 0.0  # the head on the left and on the right
TUBES = 20


def permeability(seed: int = 4) -> np.ndarray:
    """Return K in every cell."""
    smooth = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(CELLS), CORRELATION)
    return np.exp(SPREAD * smooth / smooth.std())


def head(k: np.ndarray) -> unigrid.Solution:
    """Return the solution for the head; axis 0 is the depth, axis 1 leads from left to right."""
    boundary = ["neumann", (unigrid.Dirichlet(HIGH), unigrid.Dirichlet(LOW))]
    source = np.zeros(k.shape)
    return unigrid.solve(source, coefficient=k, boundary=boundary, centering="cell", lengths=LENGTHS, rtol=1e-10)


def flow(k: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return -K dh/dx at the faces between left and right neighbors, from the mean of conductors in series."""
    between = 2 / (1 / k[:, 1:] + 1 / k[:, :-1])
    return -between * np.diff(h, axis=1) * k.shape[1] / LENGTHS[1]


def main(output: Path) -> dict[str, float]:
    """Solve, save the figure, return what was measured."""
    k = permeability()
    solution = head(k)
    right = flow(k, solution.u)
    through = right.mean(axis=0) * LENGTHS[0]  # the water that passes each vertical section
    effective = through.mean() * LENGTHS[1] / LENGTHS[0] / (HIGH - LOW)

    # What flows above each corner of the cells is constant along the water's way: its level lines are streamlines.
    above = np.pad(np.cumsum(right, axis=0), ((1, 0), (0, 0))) * LENGTHS[0] / CELLS[0]
    y, x = ((np.arange(n) + 0.5) * length / n for n, length in zip(CELLS, LENGTHS, strict=True))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(k, extent=(0, LENGTHS[1], LENGTHS[0], 0), cmap="YlGnBu", norm=LogNorm(), alpha=0.9)
    figure.colorbar(shown, ax=axes, label="permeability K")
    axes.contour(x, y, solution.u, levels=np.linspace(LOW, HIGH, TUBES + 1)[1:-1], colors="black", linewidths=0.5)
    axes.contour(
        np.arange(1, CELLS[1]) * LENGTHS[1] / CELLS[1], np.arange(CELLS[0] + 1) * LENGTHS[0] / CELLS[0], above,
        levels=through.mean() * np.arange(1, TUBES) / TUBES, colors="#c1272d", linewidths=1.2,
    )  # fmt: skip
    axes.set(
        title=f"{TUBES} streamtubes of equal flow (red) crowd where rock is permeable; lines of equal head (black)",
        xlabel="x", ylabel="depth",
    )  # fmt: skip
    figure.savefig(output, dpi=150)
    return {
        "iterations": solution.iterations,
        "largest over smallest permeability": k.max() / k.min(),
        "flow differs between sections by at most": float(np.ptp(through) / through.mean()),
        "effective permeability": float(effective),
        "harmonic mean": float(1 / np.mean(1 / k)),
        "arithmetic mean": float(k.mean()),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "groundwater.png")).items():
        print(f"{name}: {value:.4g}")
