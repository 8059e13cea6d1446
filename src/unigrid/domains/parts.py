"""Which rows of a grid a process has: those it owns, and copies of some that its neighbors own (a halo).

A grid is cut across its first axis, so that a block and its halo lie together in memory. A coarse unknown belongs to the
process whose fine block it lies in: any size can be cut anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..stencil import kernels
from ..stencil.grid import Axis, Dirichlet, Grid
from ..stencil.kernels.workspace import empty
from ..stencil.operator import StencilOperator
from ..stencil.problem import Poisson
from ..stencil.transfers import SeparableTransfer
from .communicator import Communicator

Array = NDArray[Any]
Cuts = tuple[int, ...]  # the first row of each process, and the number of rows


@final
@dataclass(frozen=True)
class Part:
    """The rows of a process: it owns `cuts[rank]` to `cuts[rank + 1]`, and has copies of up to `halo` rows on either side.

    Rows are counted on across the ends of a periodic axis: they may be negative. Where the first one is to be `even`, as colors
    are parities, there may be one more row before the block.
    """

    cuts: Cuts
    rank: int
    halo: int
    periodic: bool
    even: bool = False

    @property
    def first(self) -> int:
        """The first row that it owns."""
        return self.cuts[self.rank]

    @property
    def last(self) -> int:
        """The end of the rows that it owns."""
        return self.cuts[self.rank + 1]

    @property
    def low(self) -> int:
        """Rows of the halo before the block; none where the grid begins."""
        wanted = self.halo + (self.even and (self.first - self.halo) % 2)
        return wanted if self.periodic else min(wanted, self.first)

    @property
    def high(self) -> int:
        """Rows of the halo behind the block; none where the grid ends."""
        return self.halo if self.periodic else min(self.halo, self.cuts[-1] - self.last)

    @property
    def rows(self) -> range:
        """All its rows."""
        return range(self.first - self.low, self.last + self.high)

    @property
    def owned(self) -> slice:
        """Those it owns, among its rows."""
        return slice(self.low, self.low + self.last - self.first)

    @property
    def counts(self) -> list[int]:
        """How many rows each process owns."""
        return [int(count) for count in np.diff(self.cuts)]

    @property
    def _above(self) -> Part:
        """The part of the next process."""
        return replace(self, rank=(self.rank + 1) % (len(self.cuts) - 1))

    def taken(self, whole: Array) -> Array:
        """Return its rows of a whole array."""
        return np.take(whole, np.arange(self.rows.start, self.rows.stop), axis=0, mode="wrap")

    def extended(self, own: Array) -> Array:
        """Return an array of all its rows, those that it owns as given, the halo zero."""
        array = empty((len(self.rows), *own.shape[1:]), own.dtype)
        array[: self.low], array[self.owned.stop :] = 0, 0
        array[self.owned] = own
        return array

    def fill(self, array: Array, comm: Communicator) -> Array:
        """Copy what neighbors own into the halo of an array; return the array."""
        sent: list[tuple[int, Array]] = []
        received: list[tuple[int, Array]] = []
        start, end, size = self.owned.start, self.owned.stop, comm.size
        if self.low:
            sent.append(((self.rank - 1) % size, array[start : start + self.halo]))
            received.append(((self.rank - 1) % size, array[:start]))
        if self.high:
            sent.append(((self.rank + 1) % size, array[end - self._above.low : end]))
            received.append(((self.rank + 1) % size, array[end:]))
        if size <= 2 and self.periodic:  # both neighbors are one process: what it sends up arrives from below
            received.reverse()
        comm.exchange(sent, received)
        return array

    def norm_and_sums(self, array: Array, counts: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
        """Return the norm of its own rows, and their sums over blocks of the whole grid, so many along each axis."""
        n, own, norms = self.cuts[-1], array[self.owned], []
        sums = np.zeros(tuple(counts))
        numbers = np.arange(self.first, self.last) * counts[0] // n
        for number in range(int(numbers[0]), int(numbers[-1]) + 1):
            rows = own[np.searchsorted(numbers, number) : np.searchsorted(numbers, number, side="right")]
            norm, part = kernels.of(rows).norm_and_blocks(rows, (1, *counts[1:]))
            norms.append(norm)
            sums[number] = part.reshape(sums.shape[1:])
        return math.hypot(*norms), sums

    def problem(self, whole: Poisson) -> Poisson:
        """Return the problem on its rows. Beyond an end that is no side of the grid, values are taken to be zero.

        That is wrong, and spoils one row of the halo per half-sweep; a halo has room for that.
        """
        first, *others = whole.grid.axes
        low = first.low if not self.low else Dirichlet
        high = first.high if not self.high else Dirichlet
        own = Axis(len(self.rows), first.h, low, high, first.centering)
        grid, zero = Grid((own, *others)), np.zeros(())
        (low_value, high_value), *pairs = whole.side_values
        ends = zero if self.low else low_value, zero if self.high else high_value
        across = [tuple(value if value.ndim == 0 else self.taken(value) for value in pair) for pair in pairs]
        return Poisson.of_parts(grid, StencilOperator(grid, whole.reaction), (ends, *across))  # type: ignore[arg-type]

    def transfer(self, transfer: SeparableTransfer, source: Part) -> SeparableTransfer:
        """Return a transfer from the rows of `source` to these."""
        products = [[slabs.window(self.rows, source.rows), *others] for slabs, *others in transfer.products]
        return SeparableTransfer((len(self.rows), *transfer.shape[1:]), products)


def even_cuts(n: int, size: int) -> Cuts:
    """Return n rows cut into parts of about equal length."""
    return tuple(n * rank // size for rank in range(size + 1))


def own_block(shape: Sequence[int], size: int, rank: int) -> tuple[slice, ...]:
    """Return the block of a process in whole arrays of a shape."""
    first, last = even_cuts(shape[0], size)[rank : rank + 2]
    return slice(first, last), *(slice(0, n) for n in shape[1:])


def coarse_cuts(cuts: Cuts, fine: Axis, coarse: Axis) -> Cuts:
    """Return the cuts of a coarser axis at the same places."""
    faces = (np.array(cuts[1:-1]) + fine.origin - 0.5) * fine.h
    return (0, *map(int, np.searchsorted(coarse.positions, faces)), coarse.n)


def narrowest(cuts: Sequence[int]) -> int:
    """Return the rows of the smallest block."""
    return int(np.diff(cuts).min())
