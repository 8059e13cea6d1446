"""Constant coefficients, one per axis: -sum of a u'' over the axes is -Laplace in lengths over sqrt(a)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .grid import LARGEST_SPACING, SMALLEST_SPACING, Grid, Neumann

SideValues = tuple[tuple[NDArray[np.float64], ...], ...]  # per axis, low and high


def rescaled(box: Grid, constants: Sequence[float]) -> Grid:
    """Return the grid on which -Laplace is -sum of a u'' over the axes: lengths in units of sqrt(a). Raises ValueError."""
    axes = [replace(axis, h=axis.h / math.sqrt(a)) for axis, a in zip(box.axes, constants, strict=True)]
    for number, (axis, a) in enumerate(zip(axes, constants, strict=True)):
        if not SMALLEST_SPACING < axis.h < LARGEST_SPACING:
            h = box.axes[number].h
            raise ValueError(
                f"coefficient / spacing^2 of axis {number} is {a:.3g} / {h:.3g}^2, too far from 1; choose other units"
            )
    return Grid(tuple(axes))


def rescaled_fluxes(values: SideValues, box: Grid, grid: Grid) -> SideValues:
    """Return side values, fluxes a du/dn as those du/dn of the rescaled grid."""
    return tuple(
        tuple(
            value * (own.h / axis.h) if side is Neumann else value
            for value, side in zip(pair, (axis.low, axis.high), strict=True)
        )
        for pair, axis, own in zip(values, box.axes, grid.axes, strict=True)
    )
