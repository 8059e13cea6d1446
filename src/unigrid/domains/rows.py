"""Arrays over the rows of a process: halos filled, and sums over the whole grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..stencil.compatibility import Measures
from ..stencil.kernels.cpu import coupled
from ..stencil.kernels.cpu.compiled import gradients
from ..stencil.kernels.cpu.primitives import as_box
from ..stencil.kernels.cpu.threads import over_parts, slab_parts
from .communicator import Communicator
from .parts import Part

Array = NDArray[Any]


@final
@dataclass(frozen=True)
class Rows(Measures):
    """The rows of a process, those of its halo included. Arrays over them begin with their axis, or are boxes of three axes."""

    part: Part
    comm: Communicator

    @cached_property
    def parts(self) -> list[Part]:
        """The parts of all processes."""
        return [replace(self.part, rank=rank) for rank in range(self.comm.size)]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.part.rows)

    def fill(self, array: Array) -> Array:
        """Copy what neighbors own into the halo of an array; return the array."""
        assert array.flags.c_contiguous
        self.part.fill(array.reshape(self.count, -1), self.comm)
        return array

    def owned(self, array: Array) -> Array:
        """Return the own rows of an array that begins with their axis."""
        return array[self.part.owned]

    def total(self, number: Any) -> Any:
        """Return the sum over all processes, in their order."""
        return sum(self.comm.allgather(number))

    def maxima(self, *numbers: float) -> tuple[float, ...]:
        """Return, of each number, the largest of all processes."""
        return tuple(max(each) for each in zip(*self.comm.allgather(numbers), strict=True))

    def norm(self, array: Array) -> float:
        box = as_box(array)
        return math.sqrt(self.sums(lambda kept, *slabs: gradients.squares(box, kept, *slabs), box)[0])

    def sums(self, kernel: Callable[..., Any], box: Array) -> list[float]:
        """Return the two sums over the whole grid of a kernel that keeps those of rows of a box, (2, rows).

        They are added up row by row, as one thread does it: so they have its bits, whatever the number of processes.
        """
        lines = box.shape[1] if box.shape[0] > 1 else 1
        kept = np.zeros((2, box.shape[0] * box.shape[1]))
        self.over_slabs(lambda *slabs: kernel(kept, *slabs), box.size)
        owned = self.part.owned
        own = np.ascontiguousarray(kept[:, owned.start * lines : owned.stop * lines].T)
        whole = self.comm.allgather_rows(own, [count * lines for count in self.part.counts])
        return [float(np.add.accumulate(each)[-1]) for each in whole.T]

    def largest(self, array: Array) -> float:
        return self.maxima(float(np.abs(self.owned(array)).max()))[0]

    def plain_mean(self, array: Array) -> float:
        own = self.owned(array)
        total, size = (sum(each) for each in zip(*self.comm.allgather((float(own.sum()), own.size)), strict=True))
        return float(total / size)

    def over_slabs(self, kernel: Callable[[int, int], Any], unknowns: int) -> list[Any]:
        """Call `kernel(first, last)` on parts of the own rows, at once where that pays; return the results."""
        start, stop = self.part.owned.start, self.part.owned.stop
        return over_parts(kernel, [(start + first, start + last) for first, last in slab_parts(stop - start, unknowns)])


@final
class Passes:
    """The passes over memory of conjugate gradients, and their sums over the whole grid."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.scaled, self.rescale, self.norm = coupled.scaled, coupled.rescale, rows.norm

    def probe(self, z: Array, w: Array, stencil: Any) -> tuple[float, float]:
        """Return the sum of z w, and the norm of D z."""
        boxes = as_box(z), as_box(w)
        along, square = self._rows.sums(lambda kept, *slabs: gradients.probe(*boxes, stencil, kept, *slabs), boxes[0])
        return along, math.sqrt(square)

    def turn(self, p: Array, w: Array, z: Array, r: Array, beta: float, stencil: Any) -> list[float]:
        """Write p <- z + beta p and w <- -A z + beta w; return the sums of p w and of p r."""
        boxes, factor = [as_box(each) for each in (p, w, self._rows.fill(z), r)], p.dtype.type(beta)
        return self._rows.sums(lambda kept, *slabs: gradients.turn(*boxes, factor, stencil, kept, *slabs), boxes[0])

    def advance(self, u: Array, r: Array, p: Array, w: Array, step: float) -> float:
        """Write u <- u + step p and r <- r + step w; return the sum of squares of r."""
        boxes, factor = [as_box(each) for each in (u, r, p, w)], u.dtype.type(step)
        return self._rows.sums(lambda kept, *slabs: gradients.advance(*boxes, factor, kept, *slabs), boxes[0])[0]
