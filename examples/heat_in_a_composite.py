"""Heat through a wall with steel studs
====================================

A composite whose conductivities differ 1 : 1400, with air on both sides.

::

    -div(k grad T) = 0,   k dT/dn + h T = h T_air on either side of the wall (Robin), periodic along it.

Cells are half a millimeter at the steel, which is 1.5 mm thick, and centimeters elsewhere. Without studs the layers are
resistances in series, which finite volumes give to the last digit. With them, the heat lies between that of two models in which
engineers cut a wall: into strips between which no heat flows (too little), and into layers of one temperature (too much).

Source: ISO 6946, Building components and building elements, thermal resistance and thermal transmittance, section 6.7.2.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import unigrid

BRICK, WOOL, PLASTER, STEEL = 0.8, 0.035, 0.25, 50.0  # conductivities, W/(m K)
OUTSIDE, INSIDE = (25.0, -10.0), (7.7, 20.0)  # heat transfer, W/(m^2 K), and temperature of the air, Celsius


def graded(length: float, cells: int, ratio: float) -> np.ndarray:
    """Return lengths of cells that grow from both ends to the middle by this ratio, or fall, if it is below 1."""
    growing = ratio ** (1 - np.abs(np.linspace(-1, 1, cells)))
    return length * growing / growing.sum()


# Across the wall: brick, a flange of the stud, wool, the other flange, plaster. Along it: wool, web, flanges, wool.
ACROSS = [graded(0.1, 32, 8), graded(1.5e-3, 3, 1), graded(0.147, 64, 16), graded(1.5e-3, 3, 1), graded(0.0125, 16, 3)]
ALONG = [graded(0.28, 72, 40), graded(1.5e-3, 3, 1), graded(0.04, 32, 8), graded(0.2785, 72, 40)]


def conductivity(with_studs: bool) -> np.ndarray:
    """Return k in every cell; axis 0 leads across the wall, from outside, axis 1 along it."""
    across = np.repeat([BRICK, WOOL, WOOL, WOOL, PLASTER], list(map(len, ACROSS)))
    k = across[:, None] * np.ones(sum(map(len, ALONG)))
    if with_studs:
        part_across, part_along = (np.repeat(np.arange(len(parts)), list(map(len, parts))) for parts in (ACROSS, ALONG))
        flanges = np.isin(part_across, [1, 3])[:, None] & np.isin(part_along, [1, 2])
        k[flanges | ((part_across == 2)[:, None] & (part_along == 1))] = STEEL
    return k


def temperature(k: np.ndarray) -> unigrid.Solution:
    """Return the solution for the temperature."""
    outside, inside = (unigrid.Robin(h, h * air) for h, air in (OUTSIDE, INSIDE))
    spacing = [np.concatenate(ACROSS), np.concatenate(ALONG)]
    boundary = [(outside, inside), "periodic"]
    return unigrid.solve(np.zeros(k.shape), coefficient=k, spacing=spacing, boundary=boundary, centering="cell", rtol=1e-11)


def heat(k: np.ndarray, u: np.ndarray, side: int) -> np.ndarray:
    """Return the heat that flows outward through the cells of a side (0 or -1), W/m^2: through half a cell, and to the air."""
    h, air = OUTSIDE if side == 0 else INSIDE
    return (u[side] - air) / (1 / h + np.concatenate(ACROSS)[side] / 2 / k[side])


def models(k: np.ndarray) -> tuple[float, float]:
    """Return W/(m^2 K) of strips side by side, and of layers one after the other."""
    across, along = np.concatenate(ACROSS), np.concatenate(ALONG) / np.concatenate(ALONG).sum()
    films = 1 / OUTSIDE[0] + 1 / INSIDE[0]
    strips = along @ (1 / (films + (across[:, None] / k).sum(axis=0)))
    return float(strips), float(1 / (films + (across / (k @ along)).sum()))


def main(output: Path) -> dict[str, float]:
    """Solve, save the figure, return what was measured."""
    across, along, difference = np.concatenate(ACROSS), np.concatenate(ALONG), INSIDE[1] - OUTSIDE[1]
    plain, k = conductivity(with_studs=False), conductivity(with_studs=True)
    layers, solution = temperature(plain), temperature(k)
    flux = heat(k, solution.u, 0)
    transmittance = flux @ along / along.sum() / difference
    entering = -heat(k, solution.u, -1) @ along / along.sum() / difference
    series, (strips, planes) = models(plain)[0], models(k)

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    material, field, profile = figure.subplots(1, 3, width_ratios=(1, 1.15, 1))
    x, y = (1000 * np.concatenate([[0], np.cumsum(widths)]) for widths in (across, along))
    centers = [(lines[1:] + lines[:-1]) / 2 for lines in (x, y)]
    shown = material.pcolormesh(x, y, k.T, norm=LogNorm(), cmap="cividis", rasterized=True)
    figure.colorbar(shown, ax=material, label="conductivity, W/(m K)")
    shown = field.pcolormesh(x, y, solution.u.T, cmap="coolwarm", vmin=OUTSIDE[1], vmax=INSIDE[1], rasterized=True)
    field.contour(*centers, solution.u.T, levels=np.arange(-8, 20, 2), colors="black", linewidths=0.5)
    figure.colorbar(shown, ax=field, label="temperature, °C")
    for axes, title in ((material, "Wall: outside left, inside right"), (field, "Temperature")):
        axes.set(xlabel="across, mm", ylabel="along, mm", ylim=(180, 420), title=title)
    profile.plot(flux, centers[1], color="#c1272d")
    profile.axvline(series * difference, color="#1f5a96")
    profile.text(17, 186, "with studs", color="#c1272d")
    profile.text(series * difference + 0.6, 296, "layers alone", color="#1f5a96")
    profile.set(xlabel="heat flux, W/m²", ylabel="along, mm", ylim=(180, 420), xlim=(0, None), title="Heat lost to the outside")
    profile.grid(alpha=0.3)
    figure.savefig(output, dpi=150)
    return {
        "iterations": solution.iterations,
        "longest over shortest cell": float(along.max() / along.min()),
        "layers, difference from resistances in series": float(
            np.abs(heat(plain, layers.u, 0) / (series * difference) - 1).max()
        ),
        "W/(m2 K) without studs": series,
        "W/(m2 K) with studs": float(transmittance),
        "heat entering over heat leaving": float(entering / transmittance),
        "model of strips": strips,
        "model of layers of one temperature": planes,
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "heat_in_a_composite.png")).items():
        print(f"{name}: {value:.6g}")
