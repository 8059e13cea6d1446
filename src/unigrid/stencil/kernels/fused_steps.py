"""The legs of the cycle with Jacobi or Chebyshev smoothing, each in one pass over memory instead of one a step.

A leg is a cascade of iterates (`cascade.cascade`), each one slab (a row in 2-D, a plane in 3-D) behind the one before. On
several cores the grid is cut into parts, which overlap: what a part needs of its neighbor's iterates it makes itself, so that
parts need not wait for each other, and any end of the grid is a slab that is wrapped or reflected.

Source: M. Wittmann, G. Hager, J. Treibig, G. Wellein, Leveraging shared caches for parallel temporal blocking of stencil codes,
Parallel Processing Letters 20 (2010).
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from . import threads as team
from . import waves, writable
from .cascade import PLACES, cascade
from .legs import Legs
from .workspace import empty

Array = NDArray[np.floating]
Part = tuple[int, int, int, int, int, int]


class Schedule(NamedTuple):
    """A semi-iteration: u_(k+1) = w_k (u_k + gain D^-1 (f - A u_k)) + (1 - w_k) u_(k-1), one weight w_k a step.

    A weight of 1 begins anew: it is a Jacobi step, damped by the gain.
    """

    gain: float
    weights: tuple[float, ...]

    def without_steps(self) -> Schedule:
        """Return the same, to do nothing."""
        return self._replace(weights=())


@final
class FusedSteps(Legs):
    """What a level needs to run its legs in cascades."""

    turns = False

    def __init__(self, schedules: tuple[Schedule, Schedule], *grids_and_transfers: Any) -> None:
        """`schedules` down and up; the rest as of `Legs`."""
        super().__init__(*grids_and_transfers)
        self.down, self.up = schedules
        self._ready: dict[tuple[int, Schedule, np.dtype], tuple[Any, ...]] = {}

    def descend(self, f: Array, u: Array | None) -> tuple[Array, Array]:
        start = waves.ZERO if u is None else waves.AS_IT_IS
        return self._down(start, f, f if u is None else u, None)

    def descend_nested(self, f: Array, coarse: Array) -> tuple[Array, Array]:
        return self._down(waves.INTERPOLATED, f, f, coarse)

    def ascend(self, f: Array, u: Array, correction: Array) -> Array:
        out = empty(self.shapes[0], f.dtype)
        self._run(waves.CORRECTED, self.up, (out, u, f), correction, None)
        return out

    def _down(self, start: int, f: Array, u: Array, source: Array | None) -> tuple[Array, Array]:
        out, coarse = empty(self.shapes[0], f.dtype), empty(self.shapes[1], f.dtype)
        self._run(start, self.down, (out, u, f), source, coarse)
        return out, coarse

    def _run(
        self, start: int, schedule: Schedule, grids: tuple[Array, Array, Array], source: Array | None, coarse: Array | None
    ) -> None:
        """Run a cascade over the parts of the grid."""
        dtype = grids[0].dtype
        fixed = self._ready.get((start, schedule, dtype)) or self._prepare(start, schedule, dtype)
        nothing, steps = self.of_type(dtype).nothing, len(schedule.weights)
        from_source = nothing if source is None else writable(source).reshape(self.coarse)
        target = nothing if coarse is None else coarse.reshape(self.coarse)
        arrays = *(writable(grid).reshape(self.fine) for grid in grids), from_source, target

        def run(*part: int) -> None:
            iterates, *others = self.rings(((steps + 1) * PLACES, steps + 2, self.width + 2), dtype)
            each = iterates.reshape(steps + 1, PLACES, *iterates.shape[1:])
            cascade(*arrays, *fixed, (each, *others), part)

        team.over_parts(run, self._parts(steps, coarse is not None))

    def _prepare(self, start: int, schedule: Schedule, dtype: np.dtype) -> tuple[Any, ...]:
        """Gather what a leg hands to its cascades besides arrays and parts, once."""
        typed = self.of_type(dtype)
        prolongation = typed.nested_prolongation if start == waves.INTERPOLATED else typed.prolongation
        plan = start, self.axis, int(self.periodic), int(self.around)
        gain, weights = dtype.type(schedule.gain), np.array(schedule.weights, dtype)
        fixed = gain, weights, plan, prolongation, typed.restriction, self.transfers.starts, *typed.operator
        return self._ready.setdefault((start, schedule, dtype), fixed)

    def _parts(self, steps: int, restricts: bool) -> list[Part]:
        """Return the parts of the grid, each as `cascade` wants it."""
        slabs, coarse = self.fine[0], self.coarse[0] if restricts else 0
        count = max(1, min(team.threads_for(self.unknowns), slabs // (2 * (steps + self.width + 2))))
        starts, parts = self.transfers.starts, []
        for (low, high), (first, last) in zip(team.even_parts(slabs, count), team.even_parts(coarse, count), strict=True):
            reach = (int(starts[first]), int(starts[last - 1]) + self.width) if first < last else (low + 1, high - 1)
            parts.append((low, high, first, last, *reach))
        return parts
