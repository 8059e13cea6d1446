"""The window of a mask: the smallest box with all unknowns and what is beside them. A small region of a large picture is solved
in its window, at the cost of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..solution import Solution
from .coupled import CoupledOperator
from .grid import Axis, Dirichlet, Grid, Neumann, finite_array
from .masks import Domain
from .problem import Poisson, SideValues
from .robin import Exchange

Array = NDArray[np.floating]
Slices = tuple[slice, ...]


@final
@dataclass(frozen=True, eq=False)
class Window:
    """A window of a box: the problem in the box, and the same one in the window, whose sides have no effect."""

    slices: Slices
    problem: Poisson
    inner: Poisson

    @staticmethod
    def of(problem: Poisson) -> Window | None:
        """Return the window of a problem's mask; None where that is the whole box."""
        if problem.domain is None:
            return None
        slices = slices_of([places_of(problem.domain.unknown, axis) for axis in range(problem.grid.ndim)], problem.grid)
        return None if slices is None else Window(slices, problem, _cropped(problem, slices))

    def rebound(self, problem: Poisson) -> Window:
        """Return this window for a problem that differs in its given values alone."""
        assert problem.domain is not None
        return Window(self.slices, problem, self.inner.with_domain(_domain_in(problem.domain, self.slices)))

    def source(self, f: Array) -> Array:
        """Return the part of f that lies in the window. Raises ValueError where it is not finite, by its place in the box."""
        part = self.inner.emptied(self.cut_out(f))
        if not np.isfinite(part).all():
            finite_array(self.problem.emptied(f), "f")
        return part

    def cut_out(self, array: Array) -> Array:
        """Return the part of an array that lies in the window."""
        return np.ascontiguousarray(array[self.slices])

    def embedded(self, u: Array) -> Array:
        """Return an array over the box: u in the window, zero elsewhere."""
        whole = np.zeros(self.problem.shape, u.dtype)
        whole[self.slices] = u
        return whole

    def embedding(self, solution: Solution) -> Solution:
        """Return a solution in the window as one in the box."""
        assert self.problem.domain is not None
        whole = self.problem.domain.values.astype(solution.u.dtype)
        whole[self.slices] = solution.u
        whole.flags.writeable = solution.u.flags.writeable
        return replace(solution, u=whole)

    def watching(self, callback: Any) -> Any:
        """Return the callback that passes solutions in the window on to one for those in the box."""
        if not callable(callback):
            return callback
        watch: Callable[[Solution], Any] = callback
        return lambda solution: watch(self.embedding(solution))


def places_of(unknown: NDArray[np.bool_], number: int) -> NDArray[np.intp]:
    """Return the indices along an axis where there are unknowns."""
    return np.flatnonzero(unknown.any(axis=tuple(other for other in range(unknown.ndim) if other != number)))


def slices_of(places: Sequence[NDArray[np.intp]], grid: Grid) -> Slices | None:
    """Return the window of unknowns at these indices along each axis; None where that is the whole box."""
    ranges = [_range(own, axis) for own, axis in zip(places, grid.axes, strict=True)]
    if all(last - first == n for (first, last), n in zip(ranges, grid.shape, strict=True)):
        return None
    return tuple(slice(*each) for each in ranges)


def _range(places: NDArray[np.intp], axis: Axis) -> tuple[int, int]:
    """Return the indices along an axis where there are unknowns, and one more on either side."""
    first, last = int(places[0]) - 1, int(places[-1]) + 2
    if axis.periodic and (first < 0 or last > axis.n):  # what is beside them may lie at the other end
        return 0, axis.n
    return max(first, 0), min(last, axis.n)


def _cropped(problem: Poisson, slices: Slices) -> Poisson:
    """Return the problem in a window of its box."""
    domain, operator = problem.domain, problem.coupled_operator
    assert domain is not None
    grid = cropped_grid(problem.grid, slices)
    faces = tuple(
        np.ascontiguousarray(own[(*slices[:number], slice(part.start, part.stop + 1), *slices[number + 1 :])])
        for number, (own, part) in enumerate(zip(operator.faces, slices, strict=True))
    )
    field = operator.reaction_field
    inside = _domain_in(domain, slices)
    reaction = field if np.ndim(field) == 0 else np.ascontiguousarray(field[slices])
    inner = CoupledOperator(grid, faces, reaction, inside, cropped_exchange(operator.exchange, slices, problem.shape))
    values = cropped_values(problem.side_values, slices, problem.shape)
    return Poisson.of_parts(grid, inner, values, inside)


def cropped_grid(grid: Grid, slices: Slices) -> Grid:
    """Return the grid in a window of its box."""
    return Grid(tuple(_cropped_axis(axis, part) for axis, part in zip(grid.axes, slices, strict=True)))


def cropped_exchange(exchange: Exchange, slices: Slices, shape: tuple[int, ...]) -> Exchange:
    """Return alpha of the Robin sides that a window reaches."""
    return {
        (number, end): alpha if alpha.ndim == 0 else np.ascontiguousarray(alpha[slices[:number] + slices[number + 1 :]])
        for (number, end), alpha in exchange.items()
        if (slices[number].start == 0 if end == 0 else slices[number].stop == shape[number])
    }


def cropped_values(values: SideValues, slices: Slices, shape: tuple[int, ...]) -> SideValues:
    """Return the values of the sides that a window reaches, zero for the others."""
    return tuple(
        tuple(
            np.zeros(()) if cut else value if value.ndim == 0 else value[slices[:number] + slices[number + 1 :]]
            for value, cut in zip(pair, (part.start > 0, part.stop < n), strict=True)
        )
        for number, (pair, part, n) in enumerate(zip(values, slices, shape, strict=True))
    )


def _cropped_axis(axis: Axis, part: slice) -> Axis:
    """Return a part of an axis. A side that is cut off is beside points without unknowns, so its kind has no effect."""
    if part.stop - part.start == axis.n:
        return axis
    low, high = axis.low if part.start == 0 else Dirichlet, axis.high if part.stop == axis.n else Dirichlet
    if axis.periodic:
        low = high = Dirichlet
    cropped = replace(axis, n=part.stop - part.start, low=low, high=high, distances=())
    if not axis.distances:
        return cropped
    if axis.centering == "cell":
        distances = axis.distances[part]
    else:  # between unknowns, and to the sides that are none
        distances = tuple(axis.steps[part.start + (low is Neumann) : part.stop + 1 - (high is Neumann)].tolist())
    return replace(cropped, h=sum(distances) / cropped.intervals, distances=distances)


def _domain_in(domain: Domain, slices: Slices) -> Domain:
    unknown, given, values = domain.unknown[slices], domain.given[slices], domain.values[slices]
    return Domain(unknown.copy(), given.copy(), values.copy(), tuple(part.start for part in slices))
