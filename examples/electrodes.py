"""Electrodes
==========

The potential between electrodes of any shape in a tank of salt water, and the lines along which current flows.

::

    -Laplace u = 0   in the water,      u = volts   on the electrodes,      du/dn = 0   at the walls and around a glass rod,

so the water is the mask, its rim is natural, and the electrodes are fixed values inside. What one electrode gives, the other
takes, through whatever section between them; current times voltage is the power that heats the water.

Source: D. J. Griffiths, Introduction to electrodynamics (1999), chapter 7.1.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import unigrid

CELLS, LENGTHS = (240, 400), (0.6, 1.0)  # of the tank, seen from above; in meters
VOLTS = 1.0, -1.0

Electrodes = list[tuple[np.ndarray, float]]  # where each is, and its potential


def tank() -> tuple[np.ndarray, Electrodes]:
    """Return where there is water, or an electrode in it, and the electrodes."""
    y, x = ((np.arange(n) + 0.5) * length / n for n, length in zip(CELLS, LENGTHS, strict=True))
    y = y[:, None]
    water = np.hypot(x - 0.47, y - 0.26) > 0.08  # a glass rod stands in it
    comb = (np.abs(x - 0.12) < 0.015) & (np.abs(y - 0.3) < 0.2)
    for tooth in (0.12, 0.3, 0.48):
        comb = comb | ((np.abs(y - tooth) < 0.012) & (x > 0.12) & (x < 0.27))
    radius, angle = np.hypot(x - 0.78, y - 0.32), np.arctan2(y - 0.32, x - 0.78)
    hook = (np.abs(radius - 0.13) < 0.013) & (np.abs(angle) < 2.2)
    return water, [(comb, VOLTS[0]), (hook, VOLTS[1])]


def potential(water: np.ndarray, electrodes: Electrodes, lengths: tuple[float, float]) -> unigrid.Solution:
    """Return the solution for the potential; the walls are insulated."""
    where = np.any([at for at, _ in electrodes], axis=0)
    volts = np.sum([value * at for at, value in electrodes], axis=0)
    f, sides = np.zeros(water.shape), {"boundary": "neumann", "centering": "cell", "lengths": lengths}
    return unigrid.solve(f, mask=water, outside="natural", fixed=(where, volts), rtol=1e-10, **sides)


def fluxes(u: np.ndarray, water: np.ndarray, lengths: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return -grad u at the faces between two cells of water, downward and to the right; zero at those of glass."""
    down, right = (length / n for n, length in zip(u.shape, lengths, strict=True))
    return (
        -np.diff(u, axis=0) / down * (water[1:] & water[:-1]),
        -np.diff(u, axis=1) / right * (water[:, 1:] & water[:, :-1]),
    )


def current(at: np.ndarray, down: np.ndarray, right: np.ndarray, lengths: tuple[float, float]) -> float:
    """Return what flows out of an electrode, per depth and conductivity."""
    height, width = (length / n for n, length in zip(at.shape, lengths, strict=True))
    leaves_down, leaves_right = (-np.diff(at.astype(float), axis=axis) for axis in (0, 1))  # 1, -1: out, in
    return float((leaves_down * down).sum() * width + (leaves_right * right).sum() * height)


def main(output: Path) -> dict[str, float]:
    """Solve, save the figure, return what was measured."""
    water, electrodes = tank()
    solution = potential(water, electrodes, LENGTHS)
    u, (down, right) = solution.u, fluxes(solution.u, water, LENGTHS)
    given, taken = (current(at, down, right, LENGTHS) for at, _ in electrodes)
    dy, dx = (length / n for n, length in zip(u.shape, LENGTHS, strict=True))
    power = ((down**2).sum() + (right**2).sum()) * dy * dx

    y, x = ((np.arange(n) + 0.5) * length / n for n, length in zip(u.shape, LENGTHS, strict=True))
    metal = np.any([at for at, _ in electrodes], axis=0)
    field = np.zeros((2, *u.shape))  # to the right, and down, at the cells
    field[0, :, 1:-1], field[1, 1:-1] = (right[:, 1:] + right[:, :-1]) / 2, (down[1:] + down[:-1]) / 2
    field[:, metal | ~water] = np.nan
    figure = Figure(figsize=(9, 4.9), layout="constrained")
    axes = figure.subplots()
    wet = np.where(water, u, np.nan)
    shown = axes.imshow(wet, extent=(0, LENGTHS[1], LENGTHS[0], 0), cmap="RdBu_r", vmin=-1.3, vmax=1.3)
    figure.colorbar(shown, ax=axes, label="potential (V)", boundaries=np.linspace(-1, 1, 201), ticks=np.linspace(-1, 1, 9))
    axes.contour(x, y, wet, levels=np.linspace(-0.9, 0.9, 19), colors="white", linewidths=0.7, linestyles="solid")
    inner = field[:, 1:-1, 1:-1]
    axes.streamplot(x[1:-1], y[1:-1], *inner, color="black", density=1.4, linewidth=0.8, arrowsize=0.9)
    axes.contourf(x, y, metal, levels=[0.5, 1], colors=["#333333"])
    axes.contourf(x, y, ~water, levels=[0.5, 1], colors=["#dddddd"])
    axes.set(aspect="equal", xlim=(0, LENGTHS[1]), ylim=(LENGTHS[0], 0), xlabel="x (m)", ylabel="y (m)")
    axes.set_title("A comb at 1 V, a hook at -1 V, and a glass rod that the current flows around")
    figure.savefig(output, dpi=150)
    return {
        "unknowns": int((water & ~metal).sum()),
        "iterations": solution.iterations,
        "current, per depth and conductivity (V)": given,
        "given and taken current differ by": abs(given + taken) / given,
        "power over current times voltage": float(power / (given * (VOLTS[0] - VOLTS[1]))),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "electrodes.png")).items():
        print(f"{name}: {value:.6g}")
