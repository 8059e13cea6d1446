"""Waves on grids: what a reaction c = -k^2 below zero makes of -Laplace + c."""

from __future__ import annotations

import math

import numpy as np

from .grid import Grid

RESOLVED = 0.6  # largest k h: ten points per wave
# On coarse grids also the phase that waves lose to the grid's dispersion along the longest axis, k^3 h^2 L / 24: iterations to
# 1e-8 are 10 at 0.16, 17 at 0.33.
LARGEST_PHASE = 0.5


def resolves(grid: Grid, reaction: float) -> bool:
    """Whether a coarse grid shows the waves of a reaction below zero about as they are."""
    k, h = math.sqrt(-reaction), max(grid.spacing)
    return k * h <= RESOLVED and k**3 * h**2 * max(axis.length for axis in grid.axes) / 24.0 <= LARGEST_PHASE


def nearest_eigenvalue(grid: Grid, reaction: float) -> float:
    """Return the distance from zero of the eigenvalue of -Laplace + c that is nearest to it."""
    along = [axis.eigenvalues(np.arange(axis.n)) for axis in grid.axes]
    last, sums = np.sort(along.pop()), np.zeros(1)
    for values in along:
        sums = np.add.outer(sums, values).ravel()
    wanted = -reaction - sums
    above = np.clip(np.searchsorted(last, wanted), 1, max(1, len(last) - 1))
    neighbors = last[above - 1], last[np.minimum(above, len(last) - 1)]
    return max(float(min(np.abs(each - wanted).min() for each in neighbors)), float(np.finfo(np.float64).tiny))
