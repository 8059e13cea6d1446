"""Where a process gets its rows of a problem from: a whole `Poisson` problem, or blocks of all processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..messages import checked_number, choose, entries_of, plain_number, shown
from ..stencil.coefficients import checked_coefficient, constants_of
from ..stencil.coupled import faces_of, positive
from ..stencil.grid import CENTERINGS, Grid, Robin, checked_shape, finite_array, parse_boundary, side_values
from ..stencil.masks import Domain
from ..stencil.operator import StencilOperator
from ..stencil.problem import Poisson, SideValues, grid_of
from ..stencil.robin import exchange_of, refuse_stiff_sides
from ..stencil.windows import Slices, Window, cropped_exchange, cropped_grid, cropped_values, places_of, slices_of
from .block_problem import BlockProblem, columned, cut_out, local_grid, side_values_of, sides_of
from .communicator import Communicator, communicator_of, together
from .moves import moved
from .operators import BlockOperator, Local, Whole
from .parts import Cuts, Part, even_cuts
from .rows import Rows

Array = NDArray[Any]
Numbers = NDArray[np.float64]


class Source(ABC):
    """A problem of which each process has some rows, and the window of its box in which it is solved.

    grid : that of the window
    slices : the window in the box
    """

    shape: tuple[int, ...]
    grid: Grid
    slices: Slices
    cuts: Cuts  # of the rows of the box that processes have
    comm: Communicator

    @property
    @abstractmethod
    def described(self) -> Poisson:
        """The whole problem, or one like it that holds no arrays, for reports."""

    @abstractmethod
    def problem_on(self, rows: Rows) -> BlockProblem:
        """Return the problem on rows of the window."""

    @abstractmethod
    def outside(self) -> tuple[NDArray[np.bool_], Numbers] | None:
        """Return where there are unknowns in the block of the process, and what u is elsewhere; None without a mask."""

    def solved(self, block: Array, rows: Rows) -> Array:
        """Return what this process solves for of an array of which it has a block."""
        inner = np.ascontiguousarray(block[:, *self.slices[1:]])
        return self._moved(inner, rows)

    def _moved(self, inner: Array, rows: Rows) -> Array:
        """Return the own rows of an array, cropped but for its rows, of which this process has a block."""
        held = [cut - self.slices[0].start for cut in self.cuts]
        return inner if held == [*rows.part.cuts] else moved(inner, held, rows.part.cuts, self.comm)

    def returned(self, own: Array, rows: Rows) -> Array:
        """Return the block of an array of which this process has solved for its own rows; elsewhere as it is outside."""
        held = [cut - self.slices[0].start for cut in self.cuts]
        n, outside = self.grid.shape[0], self.outside()
        if held == [*rows.part.cuts] and self.grid.shape == self.shape:
            return own
        wanted = [min(max(cut, 0), n) for cut in held]
        inner = moved(own, rows.part.cuts, wanted, self.comm)
        block = np.zeros((held[self.comm.rank + 1] - held[self.comm.rank], *(self.shape[1:] or (1,))), own.dtype)
        if outside is not None:
            block[...] = outside[1]
        start = wanted[self.comm.rank] - held[self.comm.rank]
        block[start : start + len(inner), *self.slices[1:]] = inner
        return block


@final
class WholeSource(Source):
    """A problem that every process has as a whole."""

    def __init__(self, problem: Poisson, comm: Communicator) -> None:
        window = Window.of(problem)
        self._problem, self._inner = problem, problem if window is None else window.inner
        self.shape, self.grid, self.comm = problem.shape, self._inner.grid, comm
        self.slices = tuple(slice(0, n) for n in problem.shape) if window is None else window.slices
        self.cuts = even_cuts(problem.shape[0], comm.size)

    @property
    def described(self) -> Poisson:
        return self._problem

    def problem_on(self, rows: Rows) -> BlockProblem:
        return cut_out(self._inner, rows)

    def outside(self) -> tuple[NDArray[np.bool_], Numbers] | None:
        domain, rows = self._problem.domain, slice(*self.cuts[self.comm.rank :][:2])
        return domain and (columned(domain.unknown[rows]), columned(domain.values[rows]))


@final
class BlockSource(Source):
    """A problem of whose arrays every process has its rows; arguments as of `DomainProblem`."""

    def __init__(
        self, shape: Any, comm: Any, *, lengths: Any, spacing: Any, boundary: Any, centering: str, reaction: Any,
        coefficient: Any, mask: Any, outside: Any, fixed: Any,
    ) -> None:  # fmt: skip
        self.comm, self.shape = communicator_of(comm), checked_shape(shape)
        self.cuts = even_cuts(self.shape[0], self.comm.size)
        if self.shape[0] < self.comm.size:
            raise ValueError(f"{self.shape[0]} rows on {self.comm.size} processes; take fewer, or put the longest axis first")
        self._together(lambda: self._frame(boundary, centering, lengths, spacing))
        given = self._together(lambda: self._given(coefficient, reaction, mask, outside, fixed))
        self._agree(given)
        rows = Rows(Part(self.cuts, self.comm.rank, 1, self._box.axes[0].periodic), self.comm)
        self._reaction = self._uniform(given.reaction)
        self._domain = given.domain and self._checked(given.domain, rows)
        places = None if self._domain is None else self._places(self._domain.unknown)
        window = None if places is None else slices_of(places, self._box)
        self.slices = tuple(slice(0, n) for n in self.shape) if window is None else window
        self.grid = self._box if window is None else cropped_grid(self._box, window)
        values = given.coefficient
        if isinstance(values, np.ndarray):
            values = rows.fill(rows.part.extended(columned(values)))
        self._together(lambda: self._hold_faces(values, rows))

    def _together(self, call: Callable[[], Any]) -> Any:
        return together(self.comm, call, TypeError, ValueError)

    def _frame(self, boundary: Any, centering: str, lengths: Any, spacing: Any) -> None:
        """Find the grid of the box, and what its sides are given."""
        choose(centering, CENTERINGS, "centering")
        conditions = parse_boundary(boundary, len(self.shape))
        self._box = grid_of(self.shape, conditions, centering, lengths, spacing)
        has_robin = any(isinstance(side, Robin) for pair in conditions for side in pair)
        self._exchange = exchange_of(conditions, self.shape) if has_robin else {}
        self._values = _side_values(conditions, self.shape)

    def _given(self, coefficient: Any, reaction: Any, mask: Any, outside: Any, fixed: Any) -> Given:
        """Return what varies, checked as far as one process can. Raises TypeError or ValueError."""
        first, last = self.cuts[self.comm.rank :][:2]
        shape = (last - first, *self.shape[1:])
        if type(reaction).__name__ == "Nonlinear" or callable(reaction):
            raise TypeError("on several processes the reaction is linear; solve this one on one process by unigrid.solve")
        if entries_of(reaction) is None:
            c: Any = checked_number("reaction", reaction, "a finite number >= 0", lambda value: value >= 0.0)
        else:
            c = _block(finite_array(reaction, "reaction").astype(np.float64), shape, "reaction")
            if c.min() < 0.0:
                raise ValueError("on several processes the reaction must be >= 0; solve this one on one by unigrid.solve")
        is_whole = mask is None and fixed is None and plain_number(outside) == 0
        domain = None if is_whole else Domain.described(shape, mask, outside, fixed)
        if domain is not None:
            domain.refuse_infinite()
        return Given(self._coefficient(coefficient, shape), c, domain, isinstance(outside, str))

    def _coefficient(self, coefficient: Any, shape: tuple[int, ...]) -> Any:
        """Return a coefficient: numbers per axis, functions per axis, or a block."""
        ndim = len(shape)
        checked = checked_coefficient(1.0 if coefficient is None else coefficient, shape)
        constants = constants_of(checked, ndim)
        if constants is not None:
            return constants
        entries = [checked] * ndim if callable(checked) else checked
        if isinstance(entries, tuple | list) and len(entries) == ndim and all(map(callable, entries)):
            return list(entries)
        if isinstance(checked, tuple | list):
            raise TypeError(
                "on several processes coefficient is a number, one per axis, the block of an array at the unknowns, or a "
                f"function of the coordinates, or one per axis; got {shown(coefficient)}"
            )
        return _block(positive(checked, "coefficient"), shape, "coefficient")

    def _agree(self, given: Given) -> None:
        """Raise ValueError where processes describe different problems."""
        kind = type(given.coefficient).__name__, np.ndim(given.reaction) > 0, given.domain is not None, given.natural
        constants = [each for each in given.coefficient if not callable(each)] if isinstance(given.coefficient, list) else []
        numbers = constants, None if kind[1] else given.reaction
        sides = (
            [value.tolist() for pair in self._values for value in pair],
            {side: alpha.tolist() for side, alpha in self._exchange.items()},
        )
        found = self.comm.allgather((self.shape, self._box, kind, numbers, crc32(str(sides).encode())))
        if any(each != found[0] for each in found):
            raise ValueError("all processes must describe one problem: the same grid and numbers, and arrays on all or on none")

    def _uniform(self, reaction: Any) -> Any:
        """Return c as a number where it is the same everywhere."""
        if np.ndim(reaction) == 0:
            return reaction
        found = self.comm.allgather((float(reaction.min()), float(reaction.max())))
        least, most = min(low for low, _ in found), max(high for _, high in found)
        return least if least == most else columned(reaction)

    def _checked(self, domain: Domain, rows: Rows) -> Domain:
        """Return the domain of the block. Raises ValueError where the whole one has no unknown, or data are missing."""
        if not rows.maxima(float(domain.unknown.any()))[0]:
            raise ValueError("there is no unknown: mask is False, or fixed gives u, everywhere")
        own, grid = domain.mapped(columned), local_grid(self._box, rows.part)
        around = own.mapped(lambda array: rows.fill(rows.part.extended(array)))
        self._together(lambda: around.refuse_unusable(grid))
        return own

    def _places(self, unknown: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
        """Return the indices along each axis where there are unknowns, of all processes."""
        own = [places_of(unknown, number) for number in range(len(self.shape))]
        own[0] = own[0] + self.cuts[self.comm.rank]
        return [np.unique(np.concatenate(each)) for each in zip(*self.comm.allgather(own), strict=True)]

    def _hold_faces(self, values: Any, rows: Rows) -> None:
        """Find the face values: those before its rows along the first axis, the last one, and those of the others."""
        part, grid = rows.part, local_grid(self._box, rows.part)
        exchange = sides_of(self._exchange, part)
        if isinstance(values, list):
            values = [self._on_rows(each, number, part) if callable(each) else each for number, each in enumerate(values)]
            ones: Any = (lambda *x: np.ones(())) if callable(values[0]) else 1.0
            values = [*values, *[ones] * (grid.ndim - len(values))]
        first, *others = faces_of(values, grid, exchange)
        refuse_stiff_sides(exchange, grid, (first, *others))
        self._before, self._last = first[part.owned].copy(), first[part.owned.stop].copy()
        self._others = [each[part.owned].copy() for each in others]

    def _on_rows(self, function: Any, number: int, part: Part) -> Any:
        """Return a function of the coordinates at the faces of an axis, on the rows of a process."""
        points = [axis.positions for axis in self._box.axes]
        points[number] = self._box.axes[number].faces
        kept = np.arange(part.rows.start, part.rows.stop + (number == 0))
        if number == 0 and part.periodic:  # the first face is the last one, which counts
            points[0], kept = points[0][1:], kept - 1
        points[0] = np.take(points[0], kept, mode="wrap")
        mesh = np.meshgrid(*points, *[np.zeros(1)] * (len(self.shape) == 1), indexing="ij", sparse=True)
        return lambda *_: function(*mesh[: len(self.shape)])

    @property
    def described(self) -> Poisson:
        return Poisson.of_parts(self._box, StencilOperator(self._box, float(np.min(self._reaction))), self._values)

    def problem_on(self, rows: Rows) -> BlockProblem:
        part, shape, axes = rows.part, self.shape, self.slices[1:]

        def solved(block: Array, number: int | None = None) -> Array:
            wider = [slice(own.start, own.stop + (axis == number)) for axis, own in enumerate(axes, start=1)]
            inner = np.ascontiguousarray(block[:, *wider])
            return rows.fill(part.extended(self._moved(inner, rows)))

        before = solved(self._before)
        last = before[-1:] if part.high or self.slices[0].stop < shape[0] else self._last[None, *axes]
        faces = np.concatenate([before, last]), *(solved(each, axis) for axis, each in enumerate(self._others, start=1))
        reaction = self._reaction if np.ndim(self._reaction) == 0 else solved(self._reaction)
        origin = tuple(each.start for each in self.slices)
        domain = self._domain and replace(self._domain.mapped(solved), origin=origin)
        exchange = cropped_exchange(self._exchange, self.slices, shape)
        local = Local(local_grid(self.grid, part), faces, reaction, domain, sides_of(exchange, part))
        operator = BlockOperator(local, Whole(self.grid, exchange), rows)
        values = cropped_values(self._values, self.slices, shape)
        problem = Poisson.of_parts(local.grid, operator, side_values_of(values, part), domain)
        homogeneous = domain is None and not any(value.any() for pair in values for value in pair)
        return BlockProblem(problem, rows, self.grid, homogeneous)

    def outside(self) -> tuple[NDArray[np.bool_], Numbers] | None:
        return self._domain and (self._domain.unknown, self._domain.values)


class Given(NamedTuple):
    """What varies, as a process was given it: arrays are blocks."""

    coefficient: Any
    reaction: Any
    domain: Domain | None
    natural: bool


def _block(array: Numbers, shape: tuple[int, ...], name: str) -> Numbers:
    """Return an array. Raises ValueError where it is not the block of a process."""
    if array.shape != shape:
        raise ValueError(f"{name} must be a number or the block of its process, of shape {shape}, got {array.shape}")
    return array


def _side_values(conditions: Sequence[Sequence[Any]], shape: tuple[int, ...]) -> SideValues:
    names = "low", "high"
    return tuple(
        tuple(
            side_values(condition.value, shape[:axis] + shape[axis + 1 :], f"the {end} boundary value of axis {axis}")
            for end, condition in zip(names, pair, strict=True)
        )
        for axis, pair in enumerate(conditions)
    )
