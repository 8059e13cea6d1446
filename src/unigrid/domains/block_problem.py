"""A problem with coefficients that vary, on the rows of a process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..stencil.grid import Axis, Dirichlet, Grid, Neumann
from ..stencil.kernels.cpu.compiled import gradients
from ..stencil.kernels.cpu.primitives import as_box
from ..stencil.problem import CANCELS, Poisson, SideValues
from ..stencil.robin import Exchange
from ..stencil.sums import exact_parts, exact_sum
from .components import parts_of
from .operators import BlockOperator, Local, Whole
from .parts import Part
from .rows import Rows

Array = NDArray[Any]
Numbers = NDArray[np.float64]
ALONE = Axis(1, 1.0, Neumann, Neumann, "cell")  # the second axis of arrays on the rows of a 1-D grid


class DomainKind(NamedTuple):
    """The domain as a whole: whether there is nothing at some point, True, or else None."""

    void: bool | None


@final
class BlockProblem:
    """What solving needs of a `Poisson` problem, where a process has some rows of it. Arrays have all its rows."""

    nonlinear, order, varies, has_waves = None, 2, True, False

    def __init__(self, own: Poisson, rows: Rows, whole: Grid, homogeneous: bool) -> None:
        """`own` is the problem on the rows, a `BlockOperator` in it; `homogeneous`: whether the whole one is."""
        self.rows, self.grid, self._own, self.homogeneous = rows, whole, own, homogeneous
        self.operator: BlockOperator = own.operator
        self.shape = whole.shape
        self._is_whole = own.domain is None or rows.maxima(float((~rows.owned(own.domain.unknown)).any()))[0] == 0.0
        self.domain = own.domain and DomainKind(self.operator.has_void or None)
        self.parts = parts_of(self.operator)

    @property
    def coupled_operator(self) -> BlockOperator:
        """The operator."""
        return self.operator

    @property
    def void(self) -> NDArray[np.bool_] | None:
        """Where there is nothing, on the rows; None where that is nowhere in the whole grid."""
        domain = self._own.domain
        return None if domain is None or not self.operator.has_void else ~(domain.unknown | domain.given)

    @property
    def reaction(self) -> float:
        """The least c."""
        return self.operator.reaction

    @property
    def has_constant_apart(self) -> bool:
        """As of `Poisson`."""
        apart = self.operator.keeps_constants and self.grid.has_constant_apart(self.reaction / self.operator.least)
        return apart and self._is_whole

    @property
    def singular(self) -> bool:
        """As of `Poisson`."""
        if self.parts is not None:
            return self.parts.reaction == 0.0
        ends = all(axis.singular for axis in self.grid.axes)
        return ends and self._is_whole and self.operator.keeps_constants and self.reaction == 0.0

    fits: Any = Poisson.fits  # of what that asks for, this has all

    def mean(self, array: Array) -> float:
        """Return the mean of the whole grid in the inner product of the cell volumes."""
        first, *others = (axis.weights / axis.weights.sum() for axis in self.grid.axes)
        factors = [self.rows.part.taken(first), *(others or [np.ones(1)])]
        factors = [np.ones(1)] * (3 - len(factors)) + factors
        box = as_box(array)
        return self.rows.sums(lambda kept, *slabs: gradients.weighted(box, *factors, kept, *slabs), box)[0]

    def exact_mean(self, array: Array) -> float:
        """Return the mean but for its last digits, as of `Poisson`."""
        mean = self.mean(array)
        if abs(mean) > CANCELS * self.rows.norm(array) / math.sqrt(self.grid.size):
            return mean
        weights = [axis.weights / axis.h for axis in self.grid.axes]
        volumes = np.ones(())
        for each in self._on_rows(weights):
            volumes = np.multiply.outer(volumes, each)
        parts = chain.from_iterable(self.rows.comm.allgather(exact_parts(volumes * self.rows.owned(array))))
        return math.fsum(parts) / math.prod(exact_sum(each) for each in weights)

    def _on_rows(self, weights: Sequence[Numbers]) -> list[Numbers]:
        """Return weights per axis on the own rows."""
        first, *others = weights
        own = first[self.rows.part.first : self.rows.part.last]
        return [own, *(others or [np.ones(1)])]

    def centered(self, u: Array) -> Array:
        """Return u without its mean where the constant part is found apart, and on each free component; else u."""
        if self.parts is not None:
            return self.parts.centered(u)
        return u - u.dtype.type(self.mean(u)) if self.has_constant_apart else u

    def compatible(self, b: Array) -> Array:
        """Return b without its mean if the problem is singular, else b."""
        return self.centered(b) if self.singular else b

    def folded(self, f: Array) -> Array:
        """Return the right-hand side of a source, its halo filled."""
        return f if self.homogeneous else self.rows.fill(self._own.folded(f))

    def filled(self, u: Array) -> Array:
        """Return u with the given values, which are no unknowns."""
        return self._own.filled(u)

    def emptied(self, u: Array) -> Array:
        """Return u with zero where there is no unknown."""
        return self._own.emptied(u)


def local_grid(grid: Grid, part: Part) -> Grid:
    """Return the grid of the rows of a process. Where they end within the whole, values beyond are taken to be zero."""
    first, *others = grid.axes
    low = first.low if not part.low else Dirichlet
    high = first.high if not part.high else Dirichlet
    own = replace(first, n=len(part.rows), low=low, high=high, distances=())
    if first.distances:
        own = replace(own, distances=tuple(_distances(first, own, part).tolist()))
    return Grid((own, *(others or [ALONE])))


def _distances(axis: Axis, own: Axis, part: Part) -> Numbers:
    """Return the distances of the rows: lengths of cells, or between vertices and to sides that are none."""
    rows = part.rows
    if axis.centering == "cell":
        return np.take(axis.distances, np.arange(rows.start, rows.stop), mode="wrap")
    between = np.arange(rows.start + (own.low is Neumann), rows.stop + 1 - (own.high is Neumann))
    steps = axis.steps[:-1] if axis.periodic else axis.steps
    return np.take(steps, between, mode="wrap")


def cut_out(problem: Poisson, rows: Rows) -> BlockProblem:
    """Return the rows of a process of a problem that it has as a whole."""
    part, grid, operator = rows.part, problem.grid, problem.coupled_operator

    def taken(array: Array) -> Array:
        return columned(part.taken(array))

    first, *others = operator.faces
    between = np.arange(part.rows.start, part.rows.stop + 1)
    if part.periodic:  # the first face is the last one, which counts
        first, between = first[1:], between - 1
    along = columned(np.take(first, between, axis=0, mode="wrap"))
    faces = along, *([taken(each) for each in others] or [np.ones((len(part.rows), 2))])
    field = operator.reaction_field
    domain = problem.domain and problem.domain.mapped(taken)
    reaction = field if np.ndim(field) == 0 else taken(field)
    exchange = sides_of(operator.exchange, part)
    local = Local(local_grid(grid, part), faces, reaction, domain, exchange)
    own = BlockOperator(local, Whole(grid, operator.exchange), rows)
    values = side_values_of(problem.side_values, part)
    return BlockProblem(Poisson.of_parts(local.grid, own, values, domain), rows, grid, problem.homogeneous)


def columned(array: Array) -> Array:
    """Return an array over rows with as many axes as arrays have: one column in 1-D."""
    return np.ascontiguousarray(array).reshape(-1, 1) if array.ndim == 1 else np.ascontiguousarray(array)


def sides_of(exchange: Exchange, part: Part) -> Exchange:
    """Return alpha of the sides that the rows lie on."""
    kept = {}
    for (number, end), alpha in exchange.items():
        if number > 0:
            kept[number, end] = alpha if alpha.ndim == 0 else part.taken(alpha)
        elif not (part.low if end == 0 else part.high):
            kept[number, end] = alpha
    return kept


def side_values_of(values: SideValues, part: Part) -> SideValues:
    """Return the values of the sides that the rows lie on; zero beyond their ends within the whole."""
    zero = np.zeros(())
    (low, high), *pairs = values
    ends = zero if part.low else low, zero if part.high else high
    across = [tuple(value if value.ndim == 0 else part.taken(value) for value in pair) for pair in pairs]
    return (ends, *(across or [(zero, zero)]))
