"""Relaxation of lines on blocks: along the axes that a process has whole, and across all processes.

Lines across are moved: every process gets some of them whole, solves for those, and sends the corrections back, to the rows of
halos too. So the numbers are those of one process, whatever their number.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Smoother
from ..stencil import kernels
from ..stencil.coupled import SymmetricOperator
from ..stencil.kernels.cpu import coupled
from ..stencil.kernels.cpu.compiled import couplings
from ..stencil.kernels.cpu.compiled.arguments import SymmetricStencil
from ..stencil.kernels.workspace import empty, zeros
from ..stencil.relaxation import Lines
from ..stencil.smoothers import own_copy
from .black_box import divided, front
from .communicator import Communicator
from .parts import even_cuts
from .rows import Rows

Array = NDArray[Any]


class Chosen(NamedTuple):
    """Every other plane and every other point of rows, or all of them, up to an end each."""

    planes: range
    points: range

    def within(self, first: int, last: int) -> range:
        """Return the points among those from `first` to `last`, counted from there."""
        start, step = self.points.start, self.points.step
        begin = max(start, first + (start - first) % step)
        return range(begin - first, min(self.points.stop, last) - first, step)


@final
class BlockLines(Smoother):
    """`Lines` on the rows of a process. A sweep along an axis that it has whole spoils two rows of a halo."""

    def __init__(self, lines: Lines, rows: Rows, stencil: SymmetricStencil) -> None:
        self._lines, self._rows = lines, rows
        self._across = divided(stencil.excess) - 3
        self._made: dict[np.dtype, LinesAcross] = {}

    @property
    def cost(self) -> float:
        return self._lines.cost

    @property
    def reach(self) -> int:
        """How many rows of a halo a step spoils."""
        return 2 * sum(axis != self._across for axis in self._lines.axes)

    def __call__(self, operator: SymmetricOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: SymmetricOperator, b: Array, u: Array) -> Array:
        tables = operator.tables(u.dtype)
        for axis in self._lines.axes:
            if axis != self._across:
                coupled.relax_lines(u, b, axis + 3, tables, self._lines.backward)
                continue
            if u.dtype not in self._made:
                self._made[u.dtype] = LinesAcross(self._rows, tables)
            self._made[u.dtype].relax(b, u, tables, self._lines.backward)
        return u


@final
class LinesAcross:
    """Lines across all processes: this one solves for those in some columns, at some points of all rows.

    Arrays of whole lines are (planes, n, columns).
    """

    def __init__(self, rows: Rows, stencil: SymmetricStencil) -> None:
        self._rows, self._number = rows, divided(stencil.excess)
        self._columns = even_cuts(front(stencil.excess).shape[2], rows.comm.size)
        number = self._number
        self._seams = int(stencil.seams[1]) if number == 0 else 0, int(stencil.seams[2]) if number < 2 else 0
        straight = [int(offset[number]) == np.abs(offset).sum() for offset in stencil.offsets].index(True)
        _, planes, points = front(stencil.excess).shape
        everything = Chosen(range(planes), range(points))
        along, diagonal = front(stencil.couplings[straight]), front(stencil.diagonal)
        self._couplings, self._diagonal = (self._whole(each, everything) for each in (along, diagonal))

    def relax(self, b: Array, u: Array, stencil: SymmetricStencil, backward: bool) -> None:
        """Relax all lines in place, every other one first, or last; in 3-D they have four colors."""
        _, planes, points = front(u).shape
        for plane, point in [(0, 0), (0, 1), (1, 0), (1, 1)][:: -1 if backward else 1]:
            for first, last in coupled.every_other(planes, plane, self._seams[0]):
                for begin, end in coupled.every_other(points, point, self._seams[1]):
                    self._relax(b, u, stencil, Chosen(range(first, last, 2), range(begin, end, 2)))

    def _relax(self, b: Array, u: Array, stencil: SymmetricStencil, chosen: Chosen) -> None:
        residual = kernels.of(u).residual(b, u, stencil)
        r, own = self._whole(front(residual), chosen), self._own(chosen)
        e = zeros(r.shape, r.dtype)
        planes, points = (chosen.planes.start, chosen.planes.stop), (own.start, own.stop)
        if len(own) and self._number == 0:  # by the loops that one process runs, to the same bits
            couplings.add_solved_deep(e, r, self._couplings, self._diagonal, planes, points)
        elif len(own):
            coupled.add_solved(e, r, self._couplings, self._diagonal, 1, (*planes, *points))
        self._add(front(u), e, chosen)

    def _own(self, chosen: Chosen, rank: int | None = None) -> range:
        rank = self._rows.comm.rank if rank is None else rank
        return chosen.within(self._columns[rank], self._columns[rank + 1])

    def _whole(self, block: Array, chosen: Chosen) -> Array:
        """Return the columns of this process of what all have in blocks, (rows, planes, points)."""
        comm, own, owned = self._rows.comm, self._own(chosen), block[self._rows.part.owned]
        n = self._rows.part.cuts[-1]
        whole = zeros((block.shape[1], n, self._columns[comm.rank + 1] - self._columns[comm.rank]), block.dtype)
        sent = [
            (rank, np.ascontiguousarray(owned[:, _slice(chosen.planes), first:][:, :, _slice(self._own(chosen, rank))]))
            for rank, first in enumerate(self._columns[:-1])
        ]
        received = [
            (rank, empty((count, len(chosen.planes), len(own)), block.dtype))
            for rank, count in enumerate(self._rows.part.counts)
        ]
        _swap(comm, sent, received)
        for (_, rows), part in zip(received, self._rows.parts, strict=True):
            whole[_slice(chosen.planes), part.first : part.last, _slice(own)] = rows.swapaxes(0, 1)
        return whole

    def _add(self, u: Array, e: Array, chosen: Chosen) -> None:
        """Add corrections to the rows of all processes, halos included."""
        comm, own = self._rows.comm, self._own(chosen)
        ours = e[_slice(chosen.planes), :, _slice(own)].swapaxes(0, 1)
        sent = [(rank, np.ascontiguousarray(part.taken(ours))) for rank, part in enumerate(self._rows.parts)]
        columns = [self._own(chosen, rank) for rank in range(comm.size)]
        received = [(rank, empty((len(u), len(chosen.planes), len(each)), u.dtype)) for rank, each in enumerate(columns)]
        _swap(comm, sent, received)
        for (rank, rows), each in zip(received, columns, strict=True):
            u[:, _slice(chosen.planes), self._columns[rank] :][:, :, _slice(each)] += rows


def _swap(comm: Communicator, sent: list[tuple[int, Array]], received: list[tuple[int, Array]]) -> None:
    """Exchange what is not empty."""
    comm.exchange([each for each in sent if each[1].size], [each for each in received if each[1].size])


def _slice(numbers: range) -> slice:
    return slice(numbers.start, max(numbers.stop, numbers.start), numbers.step)
