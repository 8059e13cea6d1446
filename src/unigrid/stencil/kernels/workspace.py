"""Memory for grid arrays, recycled.

Newly allocated memory is expensive: the system hands it out page by page, zeroed, which can take longer than the arithmetic on
it (a tenth of a pass of full multigrid at 4095^2). So the memory of large arrays comes from a pool, and an array's memory goes
back to the pool when the array is dropped. Nobody has to give anything back: the array's base is a `_Lease`, which every view
of the array keeps alive and whose end returns the memory. An array that leaves the solver, a solution, is therefore safe for
as long as its user holds it.

The pool belongs to the process and serves all hierarchies and threads. It keeps about `KEPT_BYTES`; `unigrid.clear_cache()`
empties it.

A signal's handler may run, raise or solve between any two bytecodes here, as may other threads and the garbage collector. So
there are no locks, which a handler could wait for in vain. Memory is taken and returned by one operation of a deque, which is
atomic, and returning it runs no Python code at all, in which an exception would be lost.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALLEST = 1 << 15  # bytes; below it the allocator of the C library recycles by itself
KEPT_BYTES = 1 << 30  # at most, of one size of memory; and of all together whenever more memory is allocated
CLASSES = 8  # block sizes per power of two: a block serves every array that it is at most an eighth too large for
# An array of at least HUGE_PAGES begins on the boundary of one, and so needs few page faults: a first solve of 1023^2 takes
# 22 ms where it took 26. What lies before the boundary is never touched, and so takes no memory.
LINE, HUGE_PAGE, HUGE_PAGES = 64, 1 << 21, 2


@final
class _Lease(np.ndarray):
    """A block in use: the base of an array, and so kept alive by all of its views. Its token ends with it."""

    token: _Token


@final
class _Token:
    """What ends when a block is no longer in use."""

    __slots__ = ("__weakref__", "end")

    end: _End


@final
class _End(weakref.ref[_Token]):
    """The end of a token, which is what comes back to the pool; it holds the block."""

    block: _Lease | None = None  # none yet where an exception came before it was set


@final
class Pool:
    """Blocks of memory that no array uses, by size: the one that came back last is taken first."""

    def __init__(self) -> None:
        self._free: dict[int, deque[_End]] = {}

    @property
    def kept_bytes(self) -> int:
        """Bytes of the memory that no array uses."""
        return sum(size * len(ends) for size, ends in list(self._free.items()))

    def take(self, size: int) -> _Lease:
        """Return a block of `size` bytes, on lease: it comes back when all that refers to it has ended."""
        size = _block_size(size)
        free = self._free.get(size)
        if free is None:
            free = self._free.setdefault(size, deque(maxlen=KEPT_BYTES // size))
        block: _Lease | None = None
        try:
            while block is None:
                block = free.pop().block
        except IndexError:
            if self.kept_bytes > KEPT_BYTES:
                self.trim()
            block = _new_block(size)
        return _on_lease(block, free.append)

    def clear(self) -> None:
        """Free the memory that no array uses, and keep none of what is in use now."""
        self.trim()
        self._free.clear()

    def trim(self) -> None:
        """Free the memory that no array uses; what is in use now comes back."""
        for ends in list(self._free.values()):
            ends.clear()


def _new_block(size: int) -> _Lease:
    boundary = HUGE_PAGE if size >= HUGE_PAGES * HUGE_PAGE else LINE
    # A _Lease, though without a token: NumPy would skip a plain array's view when it looks for an array's base.
    memory = np.empty(size + boundary, np.uint8).view(_Lease)
    start = -memory.ctypes.data % boundary
    return memory[start : start + size].view(_Lease)


def _on_lease(block: _Lease, give_back: Callable[[_End], None]) -> _Lease:
    lease, token = block.view(), _Token()
    token.end = _End(token, give_back)
    token.end.block = block
    lease.token = token
    return lease


pool = Pool()


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of any content, as np.empty, in recycled memory where it is large."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, pool.take(size))


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of zeros, as np.zeros, in recycled memory where it is large."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def copy(array: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous copy, in recycled memory where it is large."""
    fresh = empty(array.shape, array.dtype)
    fresh[...] = array
    return fresh


def _block_size(size: int) -> int:
    """Return the size of the blocks that serve arrays of `size` bytes."""
    step = 1 << max(size.bit_length() - 1 - CLASSES.bit_length() + 1, 0)
    return -(-size // step) * step


# Memory for slabs under way, which one call after the other uses in a thread, and which so stays in the cache


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    """Return zeros that begin on a cache line; otherwise every vector would lie across two."""
    return _aligned_bytes(math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


def shared(shapes: Sequence[tuple[int, ...]], dtype: np.dtype) -> list[NDArray[Any]]:
    """Return arrays of any content that begin on cache lines, in memory that this thread's calls share."""
    sizes = [math.prod(shape) * dtype.itemsize for shape in shapes]
    starts = [0, *itertools.accumulate(-(-size // LINE) * LINE for size in sizes)]
    memory: NDArray[np.uint8] | None = getattr(_memory, "bytes", None)
    if memory is None or len(memory) < starts[-1]:
        memory = _memory.bytes = _aligned_bytes(1 << (starts[-1] - 1).bit_length())
    pieces = zip(shapes, sizes, starts, strict=False)
    return [memory[start : start + size].view(dtype).reshape(shape) for shape, size, start in pieces]


_memory = threading.local()


def _aligned_bytes(size: int) -> NDArray[np.uint8]:
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]
