"""Recycles the memory of grid arrays.

A cycle makes and drops a handful of arrays a level. Fresh memory is dear: the system hands it out page by page, zeroed, and
that can take longer than the arithmetic on it. So inside `with workspace:` an array's memory comes from one that nobody
refers to any more. Whether somebody does is asked of the interpreter's own reference count, as every view of an array
counts as a reference to its owner; so nothing has to be given back, and an array that leaves the cycle (a solution) is safe:
its memory is used again only when its user has let it go. (In a pass of full multigrid at 4095^2, fresh memory for the solution
took a tenth of the time.) Each thread recycles its own: two threads may use one hierarchy.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALLEST = 1 << 15  # bytes; below it the allocator of the C library recycles by itself
# A large array that begins on the boundary of a huge page needs few page faults; of a smaller one it would waste too much.
LINE, HUGE_PAGE, HUGE_PAGES = 64, 1 << 21, 16
_active = threading.local()


@final
class Workspace:
    """Memory that one owner's arrays use in turn; a context manager, which may be entered again within itself."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __enter__(self) -> None:
        if not hasattr(self._local, "buffers"):
            self._local.buffers, self._local.outer = {}, []
        self._local.outer.append(getattr(_active, "buffers", None))
        _active.buffers = self._local.buffers

    def __exit__(self, *exception: object) -> None:
        _active.buffers = self._local.outer.pop()
        if not self._local.outer:
            self._let_go()

    def _let_go(self) -> None:
        """Forget the memory of arrays that somebody outside still uses, which goes when they are done; but of the last one.

        That is the solution, most likely, and no longer needed when the next one has been found.
        """
        for owners, starts in self._local.buffers.values():
            if len(owners) == 1:
                continue  # nothing to forget, as mostly on small grids, where counting would be noticed
            outside = [index for index in range(len(owners)) if _references(owners, index) != _UNUSED]
            for index in reversed(outside[:-1]):
                del owners[index], starts[index]

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()  # memory stays; the copy begins without


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of any content, as np.empty, from the active workspace where there is one."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffers = getattr(_active, "buffers", None) if size >= SMALLEST else None
    if buffers is None:
        return np.empty(shape, dtype)
    if size not in buffers:
        buffers[size] = [], []
    owners, starts = buffers[size]
    for index in range(len(owners)):
        if _references(owners, index) == _UNUSED:
            return np.ndarray(shape, dtype, owners[index], starts[index])
    boundary = HUGE_PAGE if size >= HUGE_PAGES * HUGE_PAGE else LINE
    owners.append(np.empty(size + boundary, np.uint8))
    starts.append(-owners[-1].ctypes.data % boundary)
    return np.ndarray(shape, dtype, owners[-1], starts[-1])


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros, as np.zeros, from the active workspace where there is one."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def copy(array: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous copy, from the active workspace where there is one."""
    fresh = empty(array.shape, array.dtype)
    fresh[...] = array
    return fresh


def _references(owners: list[NDArray[Any]], index: int) -> int:
    return sys.getrefcount(owners[index])


_UNUSED = _references([np.empty(1)], 0)  # counted the same way, so that it fits the interpreter at hand
