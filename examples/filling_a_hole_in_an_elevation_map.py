"""Filling a hole in an elevation map: the smoothest surface that meets the terrain all around the hole.

Radar leaves voids. A rectangular one is filled by the harmonic surface

    -Laplace u = 0   in the hole,        u = measured elevation   on its rim,

with the rim as four arrays of Dirichlet data and cells that are not square: a degree of longitude is shorter than one of
latitude. The map has no void, so the hole is cut into it and the filling is compared with the truth.

Source: G. Grohman, G. Kroenung, J. Strebeck, Filling SRTM voids, Photogramm. Eng. Remote Sens. 72 (2006), for the problem.
Data: Jacksboro fault, Tennessee, SRTM, from matplotlib's sample data.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import cbook
from matplotlib.figure import Figure

import unigrid

METERS_PER_DEGREE = np.pi / 180 * 6_371_000
HOLE = slice(160, 196), slice(195, 240)  # the unknowns: rows from north to south, columns from west to east
MARGIN = 40  # of terrain in the figure


def fill(elevation: np.ndarray, hole: tuple[slice, slice], spacing: tuple[float, float]) -> unigrid.Solution:
    """Return the harmonic filling of a hole from the values just outside it; those inside are not looked at."""
    rows, columns = hole
    north, south = elevation[rows.start - 1, columns], elevation[rows.stop, columns]
    west, east = elevation[rows, columns.start - 1], elevation[rows, columns.stop]
    sides = [(unigrid.Dirichlet(north), unigrid.Dirichlet(south)), (unigrid.Dirichlet(west), unigrid.Dirichlet(east))]
    return unigrid.solve(np.zeros(elevation[hole].shape), spacing=spacing, boundary=sides)


def extent(shape: tuple[int, ...], dy: float, dx: float) -> tuple[float, ...]:
    """Return the sides of a picture in kilometers."""
    return 0, shape[1] * dx / 1000, 0, shape[0] * dy / 1000


def main(output: Path) -> dict[str, float]:
    """Cut, fill and compare, save the figure, return what was measured."""
    with np.load(cbook.get_sample_data("jacksboro_fault_dem.npz", asfileobj=False)) as data:
        elevation = data["elevation"].astype(float)
        latitude = (data["ymin"] + data["ymax"]) / 2
        dy, dx = METERS_PER_DEGREE * data["dy"], METERS_PER_DEGREE * data["dx"] * np.cos(np.radians(latitude))
    solution = fill(elevation, HOLE, (dy, dx))
    truth = elevation[HOLE]
    error = solution.u - truth

    cut, filled = elevation.copy(), elevation.copy()
    cut[HOLE], filled[HOLE] = np.nan, solution.u
    window = tuple(slice(side.start - MARGIN, side.stop + MARGIN) for side in HOLE)
    low, high, limit = elevation[window].min(), elevation[window].max(), np.abs(error).max()
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels = figure.subplots(1, 4)
    for axes, picture, title in zip(panels, (cut, filled, elevation), ("with a hole", "filled", "truth"), strict=False):
        terrain = axes.imshow(
            picture[window], extent=extent(picture[window].shape, dy, dx), cmap="cividis", vmin=low, vmax=high
        )
        axes.set(title=title, xlabel="km")
    difference = panels[3].imshow(error, extent=extent(error.shape, dy, dx), cmap="PuOr", vmin=-limit, vmax=limit)
    panels[3].set(title="filled less truth", xlabel="km (the hole alone)")
    panels[0].set_ylabel("km")
    figure.colorbar(terrain, ax=panels[:3], label="elevation (m)", location="bottom", shrink=0.6)
    figure.colorbar(difference, ax=panels[3], label="difference (m)", location="bottom")
    figure.savefig(output, dpi=150)
    return {
        "unknowns": truth.size,
        "cycles": solution.iterations,
        "range of the truth (m)": float(np.ptp(truth)),
        "RMS error (m)": float(np.sqrt(np.mean(error**2))),
        "RMS error of a flat filling (m)": float(truth.std()),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "filling_a_hole_in_an_elevation_map.png")).items():
        print(f"{name}: {value:.4g}")
