"""V-cycles on the small levels in one compiled call: there, call overhead exceeds the arithmetic.

The call equals the cycle from a level down to the coarsest, which is solved by a dense inverse: it runs the same waves in the
same order, their arguments being records in one block of memory.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..workspace import empty
from . import threads as team
from .arrays import writable
from .compiled import records, waves
from .compiled.arguments import HalfCycle
from .compiled.compiling import specialized
from .fused import FusedSweeps
from .half_cycles import aligned_zeros

Array = NDArray[np.floating]


class _Prepared(NamedTuple):
    """The compiled call in one precision and for one thread, and all its arguments but u and b."""

    call: Callable[..., None]
    fixed: tuple[Any, ...]
    half_cycles: list[HalfCycle]  # whose arrays the records refer to


@final
class SmallLevels:
    """The cycle on levels with these half-cycles, finest first, the last of them above one that `inverse` solves."""

    def __init__(self, levels: Sequence[FusedSweeps], inverse: NDArray[np.float64]) -> None:
        self._levels, self._inverse = tuple(levels), np.ascontiguousarray(inverse)
        self._local = threading.local()

    @staticmethod
    def of(levels: Sequence[Any], inverse: NDArray[np.float64] | None) -> SmallLevels | None:
        """Return the call; None unless all levels relax in waves on one thread, and the inverse is that of the coarsest."""
        if not levels or not all(isinstance(each, FusedSweeps) for each in levels) or levels[0].unknowns >= team.PARALLEL_FROM:
            return None
        if inverse is None or len(inverse) != math.prod(levels[-1].coarse):
            return None
        return SmallLevels(levels, inverse)

    def __call__(self, b: Array) -> Array:
        """Return the result of a V-cycle from zero for A u = b."""
        prepared: _Prepared = self._local.__dict__.get(b.dtype.name) or self._prepare(b.dtype)
        u, box = empty(b.shape, b.dtype), self._levels[0].fine
        prepared.call(u.reshape(box), writable(b).reshape(box), *prepared.fixed)
        return u

    def _prepare(self, dtype: np.dtype) -> _Prepared:
        """Lay out the arrays of the levels below, and the half-cycles on all."""
        shapes = [self._levels[0].fine, *(level.coarse for level in self._levels)]
        arrays = [(aligned_zeros(shape, dtype), aligned_zeros(shape, dtype)) for shape in shapes]
        grids = [(*fine, *coarse) for fine, coarse in itertools.pairwise(arrays)]
        down = [level.alone(dtype, False, grid) for level, grid in zip(self._levels, grids, strict=True)]
        up = [level.alone(dtype, True, grid) for level, grid in zip(self._levels, grids, strict=True)]
        half_cycles = [*down, *reversed(up)]
        fixed = np.empty((0, 1, 1), dtype), *records.stored(half_cycles), half_cycles[0], self._inverse
        call = specialized(waves.small_cycle, half_cycles[0].u, half_cycles[0].b, *fixed)
        prepared = self._local.__dict__[dtype.name] = _Prepared(call, fixed, half_cycles)
        return prepared
