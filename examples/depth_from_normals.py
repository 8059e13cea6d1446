"""Depth from normals
==================

Photographs under a few lamps show which way a surface faces at each pixel; the surface is found by integrating that.

The brightness of a matt surface is the cosine between its normal and the light, so that three lamps or more give the normal,
and with it the slopes p = dz/dx and q = dz/dy (photometric stereo). Slopes with noise are those of no surface; the one that
comes closest, in least squares, solves Poisson's equation with the measured slope on its rim::

    minimize the sum over faces of (dz - slope)^2      <=>      -Laplace z = -div (p, q),     dz/dn = (p, q) . n   on the rim

The rim is that of the pixels that enough lamps reach: a mask of any shape, whose outside is natural. Each part of it that is
connected is found but for its height, which no normal shows.

The surface is a real one, a landscape in Tennessee, lit low from four sides; slopes turned away from a lamp are dark.

Source: R. Woodham, Photometric method for determining surface orientation from multiple images, Optical Engineering 19 (1980).
Data: Jacksboro fault, Tennessee, SRTM, from matplotlib's sample data.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.ndimage
from matplotlib import cbook, colormaps
from matplotlib.colors import LightSource
from matplotlib.figure import Figure

import unigrid

SPACING = 85.0  # meters between pixels, about that of the data
LAMPS = [(azimuth, 25.0) for azimuth in (45, 135, 225, 315)]  # degrees: from the first axis towards the second, and upward
NOISE, DARK = 0.02, 0.05  # of the photographs; darker pixels are in the shade
Slopes = tuple[np.ndarray, np.ndarray]


def directions() -> np.ndarray:
    """Return the unit vectors towards the lamps, (lamps, 3)."""
    azimuth, elevation = np.radians(np.array(LAMPS)).T
    return np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], axis=1)


def photographs(z: np.ndarray) -> np.ndarray:
    """Return the surface under each lamp, with noise, (lamps, height, width)."""
    p, q = np.gradient(z, SPACING)
    normals = np.stack([-p, -q, np.ones_like(z)]) / np.sqrt(p**2 + q**2 + 1)
    bright = np.clip(np.tensordot(directions(), normals, axes=1), 0, None)
    return bright + NOISE * np.random.default_rng(0).standard_normal(bright.shape)


def slopes(pictures: np.ndarray) -> tuple[Slopes, np.ndarray]:
    """Return dz/dx and dz/dy by least squares over the lamps, and where three of them or more shine."""
    lit = (pictures > DARK).astype(float)
    lamps = directions()
    matrices = np.einsum("lhw,li,lj->hwij", lit, lamps, lamps)
    known = lit.sum(axis=0) >= 3
    matrices[~known] = np.eye(3)
    n = np.linalg.solve(matrices, np.einsum("lhw,li->hwi", lit * pictures, lamps)[..., None])[..., 0]
    known &= n[..., 2] > 0.2
    vertical = np.where(known, n[..., 2], 1.0)
    return (-n[..., 0] / vertical, -n[..., 1] / vertical), known


def integrate(p: np.ndarray, q: np.ndarray, known: np.ndarray) -> unigrid.Solution:
    """Return the surface whose differences from pixel to pixel come closest to the slopes, of mean zero in each part."""
    along_x = np.pad((p[1:] + p[:-1]) / 2 * (known[1:] & known[:-1]), ((1, 1), (0, 0)))  # at faces, 0 on the rim
    along_y = np.pad((q[:, 1:] + q[:, :-1]) / 2 * (known[:, 1:] & known[:, :-1]), ((0, 0), (1, 1)))
    f = -(np.diff(along_x, axis=0) + np.diff(along_y, axis=1)) / SPACING
    sides = {"spacing": SPACING, "boundary": "neumann", "centering": "cell"}
    return unigrid.solve(f, mask=known, outside="natural", compatibility="project", **sides)


def leveled(surface: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the surface with each connected part lifted to the mean height of the truth there; NaN where nothing is known."""
    parts, count = scipy.ndimage.label(known)
    lift = scipy.ndimage.mean(truth - surface, parts, np.arange(1, count + 1))
    return np.where(known, surface + np.concatenate([[np.nan], lift])[parts], np.nan)


def main(output: Path) -> dict[str, float]:
    """Photograph, integrate and compare, save the figure, return what was measured."""
    with np.load(cbook.get_sample_data("jacksboro_fault_dem.npz", asfileobj=False)) as data:
        truth = data["elevation"].astype(float)
    pictures = photographs(truth)
    (p, q), known = slopes(pictures)
    solution = integrate(p, q, known)
    found = leveled(solution.u, truth, known)
    along = truth[0] + np.cumsum(np.where(known, p, 0) * SPACING, axis=0)  # what comes of adding slopes up, row by row
    errors = {name: z - truth for name, z in (("Poisson", found), ("summed", leveled(along, truth, known)))}

    figure = Figure(figsize=(11, 6.6), layout="constrained")
    panels = figure.subplots(2, 3)
    for axes, picture, (azimuth, _) in zip(panels[0], pictures, LAMPS, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"a photograph, light from {azimuth}°")
    shade = LightSource(azdeg=315, altdeg=40)
    limits = truth.min(), truth.max()
    shown = np.nan_to_num(found, nan=limits[0])
    relief = shade.shade(shown, colormaps["gist_earth"], blend_mode="soft", vmin=limits[0], vmax=limits[1], dx=85, dy=85)
    relief[~known] = 1
    panels[1, 0].imshow(relief)
    panels[1, 0].set_title("the surface, by Poisson's equation")
    largest = np.nanquantile(np.abs(errors["summed"]), 0.95)
    titles = {"Poisson": "its error", "summed": "error of slopes added up"}
    for axes, (name, error) in zip(panels[1, 1:], errors.items(), strict=True):
        shown = axes.imshow(error, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set_title(f"{titles[name]}: {np.sqrt(np.nanmean(error**2)):.0f} m (RMS)")
    figure.colorbar(shown, ax=panels[1, 1:], label="m", shrink=0.8)
    for axes in panels.flat:
        axes.set_axis_off()
    figure.savefig(output, dpi=150)
    return {
        "pixels": float(known.sum()),
        "iterations": float(solution.iterations),
        "relief (m)": float(truth.max() - truth.min()),
        "RMS error (m)": float(np.sqrt(np.nanmean(errors["Poisson"] ** 2))),
        "RMS error of slopes added up (m)": float(np.sqrt(np.nanmean(errors["summed"] ** 2))),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "depth_from_normals.png")).items():
        print(f"{name}: {value:.4g}")
