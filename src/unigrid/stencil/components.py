"""Free parts of a domain: connected, held by no given value, with one reaction c everywhere.

A constant on such a part, 0 elsewhere, is an eigenvector, A 1 = c 1. With c = 0 the problem is singular there: f must have
mean zero on each of them, and u is meant to have. With c > 0 the mean of u is that of f over c. Cycles leave it out, as coarse
levels tie the parts together, and conjugate gradients would take an iteration for each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .grid import Grid
from .masks import Domain

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
MOST_NAMED = 3  # components in one message


@dataclass(frozen=True, eq=False)
class FreeParts:
    """The free components, numbered from 1.

    labels : shape of the grid, which part a point belongs to; 0 for none
    numbers : of each part, its number among all components of the mask, as `scipy.ndimage.label` counts them
    components : how many of them there are
    reaction : c on the parts
    volumes : of the unknowns' cells; None where all are 1
    origin : where the first point lies in the user's box
    """

    labels: NDArray[np.intp]
    numbers: NDArray[np.intp]
    components: int
    reaction: float
    volumes: Numbers | None
    origin: tuple[int, ...]

    @cached_property
    def sizes(self) -> Numbers:
        """The volume of each part; infinite for what belongs to none, which has mean zero."""
        sizes = self._sums(np.ones(self.labels.shape) if self.volumes is None else self.volumes)
        sizes[0] = np.inf
        return sizes

    @cached_property
    def first_points(self) -> NDArray[np.intp]:
        """One point of each part: its index in raveled arrays."""
        points: NDArray[np.intp] = np.unique(self.labels, return_index=True)[1]
        return points[-len(self.numbers) :]

    def means(self, u: Array) -> Numbers:
        """Return the mean of u on each part, weighted by volumes; entry 0 is 0."""
        return self._sums(u if self.volumes is None else u * self.volumes) / self.sizes

    def _sums(self, array: Array) -> Numbers:
        """Return the sum of an array over each part, and over what belongs to none."""
        return np.asarray(np.bincount(self.labels.ravel(), array.ravel(), len(self.numbers) + 1), np.float64)

    def spread(self, values: Numbers, dtype: np.dtype) -> Array:
        """Return the array that has one value on each part; values[0] where there is none."""
        spread: Array = values.astype(dtype)[self.labels]
        return spread

    def centered(self, u: Array) -> Array:
        """Return u with mean zero on each part."""
        return u - self.spread(self.means(u), u.dtype)

    def refuse_incompatible(self, means: Numbers, allowed: Numbers) -> None:
        """Raise ValueError, naming the parts on which the mean of b is larger than allowed."""
        bad = np.flatnonzero(np.abs(means) > allowed)
        if not bad.size:
            return
        named = "; ".join(self._description(int(part), float(means[part])) for part in bad[:MOST_NAMED])
        more = f"; and {bad.size - MOST_NAMED} more" if bad.size > MOST_NAMED else ""
        raise ValueError(
            f"a component of the mask without Dirichlet data and with reaction 0 has a solution only if f has mean zero on it, "
            f"boundary fluxes included, which fails on {bad.size} of {self.components}: {named}{more}. compatibility='project' "
            f"takes the means out"
        )

    def _extent(self, part: int) -> tuple[int, list[tuple[int, int]]]:
        """Return the number of unknowns of a part, and between which places of the user's box they lie, along each axis."""
        places = np.nonzero(self.labels == part)
        ends = [(at + int(axis.min()), at + int(axis.max()) + 1) for at, axis in zip(self.origin, places, strict=True)]
        return len(places[0]), ends

    def _description(self, part: int, mean: float) -> str:
        size, ends = self._extent(part)
        where = ", ".join(f"{first}:{last}" for first, last in ends)
        return f"component {self.numbers[part - 1]} ({size} unknown{'s' * (size != 1)} in [{where}]) has mean {mean:.6g}"


def free_parts(domain: Domain, grid: Grid, excess: Array, reaction: float, volumes: Numbers | None) -> FreeParts | None:
    """Return the parts on which the row sums `excess` are the reaction, and nothing else; None where there is none."""
    labels, count = components_of(domain.unknown, grid)
    held = np.zeros(count + 1, bool)
    held[0] = True
    held[labels[excess.reshape(grid.shape) != (reaction if volumes is None else reaction * volumes)]] = True
    numbers = np.flatnonzero(~held)
    if not numbers.size:
        return None
    relabelled = np.zeros(count + 1, np.intp)
    relabelled[numbers] = np.arange(1, numbers.size + 1)
    return FreeParts(relabelled[labels], numbers, count, reaction, volumes, domain.origin)


def components_of(unknown: NDArray[np.bool_], grid: Grid) -> tuple[NDArray[Any], int]:
    """Return the number of the component that each point belongs to, from 1, 0 outside; and how many there are."""
    from scipy import ndimage  # imported here: it takes longer to load than a small problem to solve

    labels, count = ndimage.label(unknown)
    pairs = [np.zeros((2, 0), np.intp)]
    for number, axis in enumerate(grid.axes):
        if axis.periodic:
            low, high = np.moveaxis(labels, number, 0)[[0, -1]]
            pairs.append(np.stack([low, high])[:, (low > 0) & (high > 0)])
    joined = np.concatenate([pair.reshape(2, -1) for pair in pairs], axis=1)
    if not joined.size:
        return labels, count
    merged, count = merged_by(joined, count)
    return merged[labels], count


def merged_by(pairs: NDArray[Any], count: int) -> tuple[NDArray[np.intp], int]:
    """Return the number that each of 0, 1, .., count gets where both of a pair are one, and how many there are beside 0."""
    from scipy import sparse
    from scipy.sparse import csgraph

    graph = sparse.coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(count + 1,) * 2)
    _, merged = csgraph.connected_components(graph, directed=False)
    _, firsts, numbers = np.unique(merged, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(firsts))  # numbered as their first parts were; that of the outside, which is first, stays 0
    return order[numbers], len(firsts) - 1


def allowance(parts: FreeParts, b: Array, added: Array | None, defect: float) -> Numbers:
    """Return how large a mean on each part may be: rounding, and the part `defect` of what sides add, which is inexact."""
    allowed = math.sqrt(float(kernels.of(b).limits(b).eps)) * parts.means(abs(b))
    return allowed if added is None else allowed + defect * parts.means(abs(added))
