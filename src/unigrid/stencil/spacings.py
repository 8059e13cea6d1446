"""Axes from spacings that are arrays of distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..messages import checked_number, entries_of, shown
from .grid import Axis, finite_array


def axes_of(units: Sequence[Axis], lengths: Any, spacing: Any) -> list[Axis]:
    """Return the axes with these distances. Raises ValueError, naming the wanted number of them."""
    entries = entries_of(spacing) or ()
    if lengths is not None:
        raise ValueError(f"give lengths or spacing, not both; got lengths={shown(lengths)} and arrays of distances")
    if len(entries) != len(units):
        raise ValueError(f"spacing must be a number or one entry per axis, got {len(entries)} for {len(units)} axes")
    return [_axis(unit, entry, f"spacing[{number}]") for number, (unit, entry) in enumerate(zip(units, entries, strict=True))]


def _axis(unit: Axis, entry: Any, name: str) -> Axis:
    kind = unit.low, unit.high, unit.centering
    if entries_of(entry) is None:
        h = checked_number(name, entry, "a finite number > 0, or an array of distances", lambda number: number > 0)
        return Axis.of_length(unit.n, h * unit.intervals, *kind)
    distances = finite_array(entry, name).astype(np.float64)
    if distances.shape != (unit.intervals,):
        what = "the length of each cell" if unit.centering == "cell" else "the distances of consecutive grid lines"
        sides = "periodic" if unit.periodic else f"{unit.low.__name__}-{unit.high.__name__}"
        raise ValueError(
            f"{name} must hold {unit.intervals} distances, {what} ({unit.n} unknowns, {unit.centering} centering, {sides} "
            f"sides), got an array of shape {distances.shape}"
        )
    if not (distances > 0.0).all():
        at = int(np.argmin(distances > 0.0))
        raise ValueError(f"{name} must be > 0 everywhere, but {name}[{at}] is {distances[at]:.6g}")
    if (distances == distances[0]).all():
        return Axis.of_length(unit.n, float(distances[0]) * unit.intervals, *kind)
    return Axis(unit.n, float(distances.sum()) / unit.intervals, *kind, tuple(distances.tolist()))
