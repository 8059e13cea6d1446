"""Fused half-cycles with Jacobi or Chebyshev smoothing, each in one pass over memory instead of one per step.

A half-cycle is a cascade of iterates (`cascade.cascade`), each one slab (a row in 2-D, a plane in 3-D) behind the one before.
On several cores the grid is cut into parts, which overlap: a part computes the slabs of its neighbor's iterates that it needs
itself, so parts need not wait for each other, and beyond any end of the grid lies a slab that is wrapped or reflected.

Source: M. Wittmann, G. Hager, J. Treibig, G. Wellein, Leveraging shared caches for parallel temporal blocking of stencil codes,
Parallel Processing Letters 20 (2010).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..workspace import empty
from . import threads as team
from .compiled import waves
from .compiled.arguments import Overlap
from .compiled.cascade import PLACES, cascade
from .compiled.compiling import specialized
from .fused import HalfCycles
from .primitives import writable

Array = NDArray[np.floating]


class Schedule(NamedTuple):
    """A semi-iteration: u_(k+1) = w_k (u_k + gain D^-1 (b - A u_k)) + (1 - w_k) u_(k-1), one weight w_k per step.

    A weight of 1 restarts it: that step is a Jacobi step, damped by the gain.
    """

    gain: float
    weights: tuple[float, ...]

    def without_steps(self) -> Schedule:
        """Return the same without steps."""
        return self._replace(weights=())


class CascadeArguments(NamedTuple):
    """A cascade in one precision: the compiled function, and all its arguments but the arrays, the memory and the part."""

    cascade: Callable[..., None]
    fixed: tuple[Any, ...]
    empty: Array


@final
class FusedSteps(HalfCycles):
    """The half-cycles of a level with Jacobi or Chebyshev smoothing."""

    turns = False

    def __init__(self, schedules: tuple[Schedule, Schedule], *grids_and_transfers: Any) -> None:
        """`schedules` of the descent and of the ascent; the rest as of `HalfCycles`."""
        super().__init__(*grids_and_transfers)
        self.down, self.up = schedules
        self._arguments: dict[tuple[int, Schedule, np.dtype], CascadeArguments] = {}

    def descend(self, b: Array, u: Array | None) -> tuple[Array, Array]:
        """Return u after pre-smoothing, and the restricted residual; the given u is not changed."""
        start = waves.ZERO if u is None else waves.AS_IT_IS
        return self._descend_from(start, b, b if u is None else u, None)

    def descend_nested(self, b: Array, coarse_u: Array) -> tuple[Array, Array]:
        """Interpolate the coarse solution; return it after pre-smoothing, and the restricted residual."""
        return self._descend_from(waves.INTERPOLATED, b, b, coarse_u)

    def ascend(self, b: Array, u: Array, correction: Array) -> Array:
        """Return u + P e after post-smoothing, in a new array."""
        out = empty(self.shapes[0], b.dtype)
        self._run(waves.CORRECTED, self.up, (out, u, b), correction, None)
        return out

    def _descend_from(self, start: int, b: Array, u: Array, source: Array | None) -> tuple[Array, Array]:
        out, coarse_b = empty(self.shapes[0], b.dtype), empty(self.shapes[1], b.dtype)
        self._run(start, self.down, (out, u, b), source, coarse_b)
        return out, coarse_b

    def _run(
        self, start: int, schedule: Schedule, grids: tuple[Array, Array, Array], source: Array | None, coarse_b: Array | None
    ) -> None:
        """Run a cascade over the parts of the grid."""
        dtype = grids[0].dtype
        own = self._arguments.get((start, schedule, dtype)) or self._prepare(start, schedule, dtype)
        from_source = own.empty if source is None else writable(source).reshape(self.coarse)
        target = own.empty if coarse_b is None else coarse_b.reshape(self.coarse)
        arrays = *(writable(grid).reshape(self.fine) for grid in grids), from_source, target
        steps = len(schedule.weights)

        def run(part: Overlap) -> None:
            own.cascade(*arrays, *own.fixed, *self._iterates(steps, dtype), part)

        team.over_each(run, self._parts(steps, coarse_b is not None))

    def _iterates(self, steps: int, dtype: np.dtype) -> tuple[Any, ...]:
        """Return this thread's memory for the iterates, and its rings."""
        rings = self.rings(((steps + 1) * PLACES, steps + 2, self.width + 2), dtype)
        return rings.u.reshape(steps + 1, PLACES, *rings.u.shape[1:]), rings

    def _prepare(self, start: int, schedule: Schedule, dtype: np.dtype) -> CascadeArguments:
        """Gather the arguments of a half-cycle, once."""
        tables = self.tables(dtype)
        prolongation = tables.nested_prolongation if start == waves.INTERPOLATED else tables.prolongation
        gain, weights = dtype.type(schedule.gain), np.array(schedule.weights, dtype)
        fixed = gain, weights, start, self.axes, prolongation, tables.restriction, tables.stencil
        memory = self._iterates(len(schedule.weights), dtype)
        kernel = specialized(cascade, *(tables.empty,) * 5, *fixed, *memory, Overlap(0, 0, 0, 0, 0, 0))
        return self._arguments.setdefault((start, schedule, dtype), CascadeArguments(kernel, fixed, tables.empty))

    def _parts(self, steps: int, restricts: bool) -> list[Overlap]:
        """Return the parts of the grid, which overlap by what each computes of its neighbors' iterates."""
        slabs, coarse = self.fine[0], self.coarse[0] if restricts else 0
        count = max(1, min(team.threads_for(self.unknowns), slabs // (2 * (steps + self.width + 2))))
        starts, parts = self.transfers.restriction.starts, []
        for (low, high), (first, last) in zip(team.even_parts(slabs, count), team.even_parts(coarse, count), strict=True):
            reach = (int(starts[first]), int(starts[last - 1]) + self.width) if first < last else (low + 1, high - 1)
            parts.append(Overlap(low, high, first, last, *reach))
        return parts
