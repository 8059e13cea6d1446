"""Free parts of a domain on several processes: labelled on each, joined across the borders of blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..stencil.components import FreeParts, components_of, merged_by
from ..stencil.grid import Dirichlet, Grid
from .operators import BlockOperator
from .rows import Rows

Array = NDArray[Any]
Numbers = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class BlockParts(FreeParts):
    """The free components, of which `labels` has the rows of the process; sums are those of the whole grid."""

    rows: Rows

    def _sums(self, array: Array) -> Numbers:
        """Return the sums, added up in the order of one process: each process goes on from those of the one before."""
        comm, count = self.rows.comm, len(self.numbers) + 1
        labels, own = self.rows.owned(self.labels).ravel(), self.rows.owned(array).ravel()
        sums: Array = np.zeros(count)
        if comm.rank > 0:
            comm.exchange([], [(comm.rank - 1, sums)])
        sums = np.bincount(np.concatenate([np.arange(count), labels]), np.concatenate([sums, own]), count)
        if comm.rank + 1 < comm.size:
            comm.exchange([(comm.rank + 1, sums)], [])
        return np.asarray(comm.allgather(sums)[-1], np.float64)

    def _extent(self, part: int) -> tuple[int, list[tuple[int, int]]]:
        places = np.nonzero(self.rows.owned(self.labels) == part)
        starts = (self.origin[0] + self.rows.part.first, *self.origin[1:])
        ends = [(at + int(axis.min()), at + int(axis.max()) + 1) for at, axis in zip(starts, places, strict=False) if len(axis)]
        found = [each for each in self.rows.comm.allgather((len(places[0]), ends)) if each[0]]
        boxes = np.array([each for _, each in found])
        joined = zip(boxes[:, :, 0].min(axis=0).tolist(), boxes[:, :, 1].max(axis=0).tolist(), strict=True)
        return sum(size for size, _ in found), list(joined)


def parts_of(operator: BlockOperator) -> BlockParts | None:
    """Return the free parts of an operator's domain; None where there are none."""
    if not operator.has_void:
        return None
    rows, domain = operator.rows, operator.domain
    assert domain is not None
    labels, count = _labelled(rows, rows.owned(domain.unknown), operator.grid)
    reaction = operator.reaction if operator.keeps_constants else 0.0
    target = reaction if operator.volumes is None else reaction * rows.owned(operator.volumes)
    held = np.unique(rows.owned(labels)[rows.owned(operator.stencil.excess.reshape(operator.grid.shape)) != target])
    free = np.ones(count + 1, bool)
    free[np.concatenate([[0], *rows.comm.allgather(held)])] = False
    numbers = np.flatnonzero(free)
    if not numbers.size:
        return None
    renumbered = np.zeros(count + 1, np.intp)
    renumbered[numbers] = np.arange(1, numbers.size + 1)
    parts = BlockParts(renumbered[labels], numbers, count, reaction, operator.volumes, domain.origin, rows)
    vars(parts)["sizes"] = FreeParts.sizes.func(parts)  # type: ignore[attr-defined]  # not in the lock of a cached property
    return parts


def _labelled(rows: Rows, unknown: NDArray[np.bool_], grid: Grid) -> tuple[NDArray[np.intp], int]:
    """Return the number of the component that each point of all rows belongs to, and how many there are in the whole grid."""
    first, *others = grid.axes
    cut = Grid((replace(first, n=len(unknown), low=Dirichlet, high=Dirichlet, distances=()), *others))
    own, count = components_of(unknown, cut)
    counts = rows.comm.allgather(count)
    before = sum(counts[: rows.comm.rank])
    labels = rows.fill(rows.part.extended(np.where(own > 0, own + before, 0).astype(np.intp)))
    pairs = np.zeros((2, 0), np.intp)
    if rows.part.high:
        stop = rows.part.owned.stop
        beside = labels[stop - 1 : stop + 1].reshape(2, -1)
        pairs = np.unique(beside[:, (beside > 0).all(axis=0)], axis=1)
    merged, total = merged_by(np.concatenate(rows.comm.allgather(pairs), axis=1), sum(counts))
    return merged[labels], total
