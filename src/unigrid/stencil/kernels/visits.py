"""V-cycles on the small levels, all of them in one compiled call: on these, calling takes longer than computing.

The kernel takes the place of `MultigridCycle.visit` from a level down to the coarsest, which is solved by a dense inverse. It
runs the same waves in the same order. Their tables lie in two long rows, one of integers and one of numbers, with a list of
where each begins: handing over an array takes a fifth of a microsecond, and there are forty for each leg.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from . import rows, waves, writable
from . import threads as team
from .fused import FusedLegs, Ready
from .legs import aligned_zeros
from .workspace import empty

Array = NDArray[np.floating]


class _Tables(NamedTuple):
    """What `waves.visit` wants in one precision, but its room."""

    places: NDArray[np.int64]
    grids: NDArray[np.int64]
    integers: NDArray[np.int64]
    numbers: Array


@final
class SmallVisits:
    """Visits to a level that has `legs` below others that have them too, the last of them above one that `inverse` solves."""

    def __init__(self, legs: Sequence[FusedLegs], inverse: NDArray[np.float64]) -> None:
        self._legs, self._inverse = tuple(legs), np.ascontiguousarray(inverse)
        self._tables: dict[np.dtype, tuple[_Tables, int]] = {}
        self._local = threading.local()  # rings, and the arrays of the levels below: a set for each thread

    @staticmethod
    def of(legs: Sequence[Any], inverse: NDArray[np.float64] | None) -> SmallVisits | None:
        """Return them; None unless all levels relax in waves, one thread is enough, and the inverse is of the coarsest."""
        if not legs or not all(isinstance(each, FusedLegs) for each in legs) or legs[0].unknowns >= team.PARALLEL_FROM:
            return None
        if inverse is None or len(inverse) != math.prod(legs[-1].coarse):
            return None
        return SmallVisits(legs, inverse)

    def __call__(self, f: Array) -> Array:
        """Return what a V-cycle from zero makes of A u = f."""
        tables, size = self._tables.get(f.dtype) or self._prepare(f.dtype)
        rooms = self._local.__dict__
        if f.dtype not in rooms.setdefault("made", {}):
            rooms["made"][f.dtype] = aligned_zeros((size,), f.dtype), np.zeros(2 * rows.TERMS, np.int64)
        u, box = empty(f.shape, f.dtype), self._legs[0].fine
        waves.visit(u.reshape(box), writable(f).reshape(box), *tables, *rooms["made"][f.dtype], self._inverse)
        return u

    def _prepare(self, dtype: np.dtype) -> tuple[_Tables, int]:
        """Gather the tables of all legs, and lay out the room for what is under way; return both, the room by its size."""
        runs = [each.alone(dtype) for each in self._legs]
        in_order = [down for down, _ in runs] + [up for _, up in reversed(runs)]
        tables = [list(_flattened((ready.fixed, parts, ready.strips))) for ready, parts in in_order]
        places, integers, numbers = _laid_out(tables, dtype)
        grids, size = self._rooms([(down, up) for (down, _), (up, _) in runs], dtype)
        self._tables[dtype] = _Tables(places, grids, integers, numbers), size
        return self._tables[dtype]

    def _rooms(self, ways: list[tuple[Ready, Ready]], dtype: np.dtype) -> tuple[NDArray[np.int64], int]:
        """Return a row for each level, as `waves.visit` unpacks it, and the size of all."""
        grids, size = [], 0
        line = rows.LINE // dtype.itemsize

        def begins(*shape: int) -> int:
            nonlocal size
            start = size
            size += -(-math.prod(shape) // line) * line
            return start

        for number, (legs, (down, up)) in enumerate(zip(self._legs, ways, strict=True)):
            length = legs.row_bytes(dtype) // (2 * dtype.itemsize)
            places, held = max(down.places[0], up.places[0]), down.places[2]
            height = max(down.rows, up.rows)
            width = max(length, places + 2, rows.TERMS)
            own = legs.fine if number else (0,)  # the first level's u and f come from outside
            grids.append([
                *legs.fine, begins(*own), begins(*own), places, height, length, held, width,
                begins(places, height, 2, length), begins(places, height, 2, length), begins(held, height, 2, length),
                begins(8, width),
            ])  # fmt: skip
        coarsest = self._legs[-1].coarse
        grids.append([*coarsest, begins(*coarsest), begins(*coarsest), *(0,) * (len(grids[0]) - 5)])
        return np.array(grids, np.int64), size


def _flattened(tables: Any) -> Iterator[NDArray[Any]]:
    """Yield the arrays in nested tuples and lists, in order; integers of their own are an array together."""
    if isinstance(tables, np.ndarray):
        yield tables
    elif isinstance(tables, list) or all(isinstance(each, int) for each in tables):
        yield np.array(tables, np.int64)
    else:
        for each in tables:
            yield from _flattened(each)


def _laid_out(tables: list[list[NDArray[Any]]], dtype: np.dtype) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return where each table begins in its row, and its shape; the row of integers, and the row of numbers."""
    integers, numbers = _Pool(np.dtype(np.int64)), _Pool(dtype)
    places = [
        [(integers if table.dtype == np.int64 else numbers).begin(np.atleast_2d(table)) for table in of_leg]
        for of_leg in tables
    ]
    return np.array(places, np.int64), integers.whole(), numbers.whole()


class _Pool:
    """Tables one after the other in one row."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype, self._rows, self._size = dtype, list[NDArray[Any]](), 0

    def begin(self, table: NDArray[Any]) -> tuple[int, int, int]:
        """Append a table; return where it begins, and its shape."""
        start = self._size
        self._rows.append(table.ravel())
        self._size += table.size
        return (start, *table.shape)

    def whole(self) -> NDArray[Any]:
        return np.concatenate(self._rows).astype(self._dtype)
