"""Fused half-cycles of several right-hand sides, one after the other within each call of a kernel.

On small grids a call of a kernel takes as long as its arithmetic, and threads wait for one another in the interpreter between
calls. Here one call is for all arrays of a stack, with the same machine code, and so the same bits, as for each alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..workspace import empty
from .compiled import waves
from .compiled.arguments import Slabs, Strip
from .compiled.compiling import specialized
from .fused import FusedSweeps, Pass
from .primitives import writable

Array = NDArray[np.floating]


@final
class StackedSweeps(FusedSweeps):
    """The half-cycles of `FusedSweeps` on stacks of `count` arrays, with an axis in front, on one core; norms are arrays.

    A new u is written to `out`, if that is given.
    """

    def __init__(self, sweeps: FusedSweeps, count: int, out: Array | None = None) -> None:
        vars(self).update(vars(sweeps), shapes=tuple((count, *shape) for shape in sweeps.shapes))
        self._count, self._out = count, out
        self._kernels: dict[Any, Callable[..., None]] = sweeps.stacked

    def _new(self, dtype: np.dtype) -> Array:
        return super()._new(dtype) if self._out is None else self._out

    def restrict_source(self, f: Array) -> Array:
        """Return the coarse sources, for full multigrid."""
        dtype, count = f.dtype, self._count
        coarse, (restriction, places) = empty(self.shapes[1], dtype), self.nested_restriction(dtype)
        arguments = (
            coarse.reshape(count, *self.coarse), writable(f).reshape(count, *self.fine), restriction,
            self.rings(places, dtype), self.axes.rows_periodic,
        )  # fmt: skip
        self._kernel("restrict", dtype, waves.restrict_each, arguments)(*arguments)
        return coarse

    def _run(  # type: ignore[override]
        self, which: Pass, u: Array, b: Array, source: Array | None, coarse_b: Array | None, snapshot: Array | None = None
    ) -> NDArray[np.float64]:
        """Run a wave over each grid, cut only where it is periodic; return the norms of the residuals where they are wanted."""
        own, count = self.arguments(which, u.dtype), self._count
        rings, none = self.rings(own.places, u.dtype, own.rows), np.empty((count, *own.empty.shape), u.dtype)
        arrays = (
            u.reshape(count, *self.fine),
            writable(b).reshape(count, *self.fine),
            none if source is None else writable(source).reshape(count, *own.source_shape),
            none if coarse_b is None else coarse_b.reshape(count, *self.coarse),
            none if snapshot is None else snapshot.reshape(count, *self.fine),
        )
        cuts, sums = self.cuts(which.last, coarse_b is not None, 1), np.zeros(count)
        common: tuple[Any, ...] = *arrays, *own.fixed, rings
        kernel = self._kernel(which, u.dtype, waves.wave_of_each, (*common, cuts.parts[0], own.strips[0], sums))

        def wave(part: Slabs) -> Any:
            return sum(one_strip(part, strip) for strip in own.strips)

        def one_strip(part: Slabs, strip: Strip) -> NDArray[np.float64]:
            kernel(*common, part, strip, sums)
            return sums.copy()

        return np.sqrt(sum(map(wave, cuts.parts)) + sum(map(wave, cuts.seams)))

    def _kernel(self, key: Any, dtype: np.dtype, kernel: Callable[..., None], examples: tuple[Any, ...]) -> Callable[..., None]:
        """Return a kernel for arguments of the examples' types; looked for once."""
        if (key, dtype) not in self._kernels:
            self._kernels[key, dtype] = specialized(kernel, *examples)
        return self._kernels[key, dtype]
