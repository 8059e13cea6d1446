"""Memory for grid arrays, recycled.

Newly allocated memory is expensive: the system hands it out page by page, zeroed, which can take longer than the arithmetic on
it (a tenth of a pass of full multigrid at 4095^2). So the memory of large arrays comes from a pool, and an array's memory goes
back to the pool when the array is dropped. Nobody has to give anything back: the array's base is a `_Lease`, which every view
of the array keeps alive and whose end returns the memory. An array that leaves the solver, a solution, is therefore safe for
as long as its user holds it.

The pool belongs to the process and serves all hierarchies and threads. It keeps at most `KEPT_BYTES`; `unigrid.clear_cache()`
empties it.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALLEST = 1 << 15  # bytes; below it the allocator of the C library recycles by itself
KEPT_BYTES = 1 << 30
CLASSES = 8  # block sizes per power of two: a block serves every array that it is at most an eighth too large for
# An array of at least HUGE_PAGES begins on the boundary of one, and so needs few page faults: a first solve of 1023^2 takes
# 22 ms where it took 26. What lies before the boundary is never touched, and so takes no memory.
LINE, HUGE_PAGE, HUGE_PAGES = 64, 1 << 21, 2


@final
class _Lease(np.ndarray):
    """A block in use: the base of an array, and so kept alive by all of its views. Its end returns the block."""

    block: _Block | None = None  # a view of a lease is a _Lease too, and holds none

    def __del__(self) -> None:
        if self.block is not None:
            pool.give(self.block)


@final
class _Block:
    """Memory for one array at a time; `start` bytes from its beginning lies the boundary that arrays begin on."""

    __slots__ = ("memory", "size", "start")

    def __init__(self, size: int) -> None:
        boundary = HUGE_PAGE if size >= HUGE_PAGES * HUGE_PAGE else LINE
        self.size = size
        # A _Lease, though of no block: NumPy would skip a plain array's view when it looks for an array's base.
        self.memory = np.empty(size + boundary, np.uint8).view(_Lease)
        self.start = -self.memory.ctypes.data % boundary


@final
class Pool:
    """Blocks of memory that no array uses.

    A block may come back in any thread and at any moment, inside `take` even, where the garbage collector runs. So blocks are
    returned to a queue, whose operations are atomic, and sorted in by whoever holds the lock.
    """

    def __init__(self) -> None:
        self._returned: deque[_Block] = deque()
        self._free: OrderedDict[int, list[_Block]] = OrderedDict()  # by size; the size that came back last is the last
        self._lock = threading.Lock()
        self.kept_bytes = 0  # of the memory that no array uses

    def take(self, size: int) -> _Block:
        """Return a block for `size` bytes."""
        size = _block_size(size)
        with self._lock:
            if self._returned:
                self._sort_in()
            blocks = self._free.get(size)
            if blocks:
                self.kept_bytes -= size
                return blocks.pop()
        return _Block(size)

    def give(self, block: _Block) -> None:
        """Take a block back."""
        self._returned.append(block)
        if self._lock.acquire(blocking=False):
            try:
                self._sort_in()
            finally:
                self._lock.release()

    def clear(self) -> None:
        """Free the memory that no array uses."""
        with self._lock:
            self._sort_in()
            self._free.clear()
            self.kept_bytes = 0

    def _sort_in(self) -> None:
        """Take up what was returned; beyond KEPT_BYTES, free the sizes that have not come back for longest."""
        while self._returned:
            block = self._returned.popleft()
            self._free.setdefault(block.size, []).append(block)
            self._free.move_to_end(block.size)
            self.kept_bytes += block.size
        while self.kept_bytes > KEPT_BYTES:
            size, blocks = next(iter(self._free.items()))
            if blocks:
                blocks.pop()
                self.kept_bytes -= size
            else:
                del self._free[size]


pool = Pool()


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of any content, as np.empty, in recycled memory where it is large."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    block = pool.take(size)
    lease = block.memory.view(_Lease)
    lease.block = block
    return np.ndarray(shape, dtype, lease, block.start)


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
