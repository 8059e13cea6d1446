"""Filling holes in an elevation map
=================================

Radar leaves noise, and voids of any shape.

First the noise, where there are measurements z: implicit smoothing over a length L, no flux through the rims of the voids,

::

    u - L^2 Laplace u = z   where it was measured,      du/dn = 0   on the rim of each void,

so that what is unknown in the voids takes no part. Then the voids, by the smoothest surface that meets the terrain around::

    -Laplace u = 0   in the voids,      u = the smoothed elevation   elsewhere.

Cells are not square: a degree of longitude is shorter than one of latitude. Noise and voids are made, so the truth is known.

Source: G. Grohman, G. Kroenung, J. Strebeck, Filling SRTM voids, Photogramm. Eng. Remote Sens. 72 (2006), for the problem.
Data: Jacksboro fault, Tennessee, SRTM, from matplotlib's sample data.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.ndimage
from matplotlib import cbook
from matplotlib.figure import Figure

import unigrid

METERS_PER_DEGREE = np.pi / 180 * 6_371_000
NOISE = 15.0  # meters
SMOOTHING = 60.0  # meters: the length L
VOIDS = 0.12  # part of the map
WINDOW = slice(150, 250), slice(150, 290)  # of the figure: rows from north to south, columns from west to east


def measured(elevation: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return the elevation with noise, and NaN in voids."""
    random = np.random.default_rng(seed)
    clouds = scipy.ndimage.gaussian_filter(random.standard_normal(elevation.shape), 5)
    noisy = elevation + NOISE * random.standard_normal(elevation.shape)
    return np.where(clouds > np.quantile(clouds, 1 - VOIDS), np.nan, noisy)


def smooth(z: np.ndarray, spacing: tuple[float, float], length: float) -> unigrid.Solution:
    """Return z, smoothed where it is not NaN; 0 elsewhere."""
    c = length**-2
    sides = {"spacing": spacing, "boundary": "neumann", "centering": "cell"}
    return unigrid.solve(c * z, reaction=c, mask=~np.isnan(z), outside="natural", **sides)


def fill(z: np.ndarray, spacing: tuple[float, float]) -> unigrid.Solution:
    """Return z with a harmonic surface where it is NaN."""
    sides = {"spacing": spacing, "boundary": "neumann", "centering": "cell"}
    return unigrid.solve(np.zeros(z.shape), mask=np.isnan(z), outside=z, **sides)


def root_mean_square(values: np.ndarray) -> float:
    """Return it over all values."""
    return float(np.sqrt(np.mean(values**2)))


def main(output: Path) -> dict[str, float]:
    """Smooth, fill and compare, save the figure, return what was measured."""
    with np.load(cbook.get_sample_data("jacksboro_fault_dem.npz", asfileobj=False)) as data:
        elevation = data["elevation"].astype(float)
        latitude = (data["ymin"] + data["ymax"]) / 2
        spacing = METERS_PER_DEGREE * data["dy"], METERS_PER_DEGREE * data["dx"] * np.cos(np.radians(latitude))
    z = measured(elevation)
    void = np.isnan(z)
    smoothing = smooth(z, spacing, SMOOTHING)
    smoothed = np.where(void, np.nan, smoothing.u)
    filling = fill(smoothed, spacing)
    error = filling.u - elevation

    part = elevation[WINDOW]
    height, width = (n * h / 1000 for n, h in zip(part.shape, spacing, strict=True))
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    panels = figure.subplots(1, 4)
    titles = "measured, with voids", "smoothed", "filled"
    for axes, picture, title in zip(panels, (z, smoothed, filling.u), titles, strict=False):
        terrain = axes.imshow(
            picture[WINDOW], extent=(0, width, 0, height), cmap="cividis", vmin=part.min(), vmax=part.max(),
        )  # fmt: skip
        axes.set(title=title, xlabel="km")
    limit = 4 * root_mean_square(error)
    difference = panels[3].imshow(error[WINDOW], extent=(0, width, 0, height), cmap="PuOr", vmin=-limit, vmax=limit)
    panels[3].contour(void[WINDOW][::-1], levels=[0.5], extent=(0, width, 0, height), colors="black", linewidths=0.5)
    panels[3].set(title="filled less truth", xlabel="km (voids outlined)")
    panels[0].set_ylabel("km")
    figure.colorbar(terrain, ax=panels[:3], label="elevation (m)", location="bottom", shrink=0.6)
    figure.colorbar(difference, ax=panels[3], label="difference (m)", location="bottom")
    figure.savefig(output, dpi=150, bbox_inches="tight")
    known = elevation[~void]
    return {
        "measured points": known.size,
        "points in voids": int(void.sum()),
        "iterations, smoothing": smoothing.iterations,
        "iterations, filling": filling.iterations,
        "RMS error measured (m)": root_mean_square(z[~void] - known),
        "RMS error smoothed (m)": root_mean_square(error[~void]),
        "RMS error in the voids (m)": root_mean_square(error[void]),
        "RMS error in the voids, filled with the mean (m)": root_mean_square(elevation[void] - known.mean()),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "filling_a_hole_in_an_elevation_map.png")).items():
        print(f"{name}: {value:.4g}")
