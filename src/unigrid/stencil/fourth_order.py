"""The compact discretization of fourth order of -Laplace(u) + c u = f: 9 points in 2-D, 19 in 3-D.

With D_i the second difference of -u'' along axis i, whose error is h_i^2/12 of the fourth derivative, and the equation itself
for that derivative,

    A u = sum_i D_i u - sum_(i<j) (h_i^2 + h_j^2)/12 D_i D_j u + c B u = B f,      B = 1 - sum_i h_i^2/12 D_i.

The missing neighbors are the same reflections as of second order: A is a sum of tensor products of the axes' matrices, and
symmetric in the cell volumes. What reflections lack goes to the right-hand side, beyond sides and corners: the values on a
side, and derivatives along the normal from the equation, u_nn = c g - f - g_tt.

Source: L. Collatz, The numerical treatment of differential equations (1960), chapter V; J. Strikwerda, Finite difference
schemes and partial differential equations (2004), section 12.5.
"""

from __future__ import annotations

import itertools
from functools import cached_property, reduce
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..messages import plain_number, shown
from .coupled import CoupledOperator, halves, symmetric_stencil
from .grid import Axis, Dirichlet, Grid
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .masks import Rim
from .operator import StencilOperator

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
SideValues = tuple[tuple[Numbers, ...], ...]  # per axis, low and high
FEWEST = 5  # unknowns of an axis with sides: a polynomial of degree 4 goes through them
# Largest c over the sum of 1/h^2 in 3-D, where B vanishes on the finest oscillation: iterations 14, at 10 about 20, at 30 44.
LARGEST_REACTION = 10.0
# The polynomial through the first five unknowns at an end, inward: its value one spacing before them, its value and its outward
# derivative (times h) half a spacing before them, and that derivative at the first. Through four, the order on cells with
# Neumann sides is 3.5 at 60^2 in place of 4.0.
BEYOND = np.array([5.0, -10.0, 10.0, -5.0, 1.0])
HALF_BEYOND = np.array([315.0, -420.0, 378.0, -180.0, 35.0]) / 128
SLOPE_HALF_BEYOND = np.array([93.0, -229.0, 225.0, -111.0, 22.0]) / 24
SLOPE = np.array([25.0, -48.0, 36.0, -16.0, 3.0]) / 12


def operator_of_order(order: Any, operator: StencilOperator | CoupledOperator) -> FourthOrderOperator:
    """Return the operator for `order=4` to one of order 2. Raises ValueError where there is none, and for another order."""
    if plain_number(order) != 4:
        raise ValueError(f"order must be 2 or 4, got {shown(order)}")
    if not isinstance(operator, StencilOperator):
        raise ValueError(
            "order=4 is for a coefficient and a reaction that are numbers, on a whole box without a mask, with equal distances "
            "and no Robin sides; leave out order"
        )
    grid, reaction = operator.grid, operator.reaction
    for number, axis in enumerate(grid.axes):
        if axis.n < FEWEST and not axis.periodic:
            raise ValueError(f"order=4 needs at least {FEWEST} unknowns between sides, and axis {number} has {axis.n}")
    largest = LARGEST_REACTION * sum(1.0 / h**2 for h in grid.spacing)
    if grid.ndim == 3 and reaction > largest:
        raise ValueError(
            f"order=4 in 3-D is for reactions up to {largest:.3g} on this grid, got {reaction:.3g}, whose layers at the sides "
            "it does not resolve; take more points, or leave out order"
        )
    return FourthOrderOperator(grid, reaction)


@final
class FourthOrderOperator(CoupledOperator):
    """A of fourth order, with one number c."""

    order = 4

    def __init__(self, grid: Grid, reaction: float) -> None:
        super().__init__(grid, (), np.asarray(reaction))

    def with_reaction(self, reaction: Numbers) -> FourthOrderOperator:
        """Return the operator with another c. Raises ValueError if that is no number."""
        number = np.ndim(reaction) == 0
        same = StencilOperator(self.grid, float(reaction)) if number else CoupledOperator(self.grid, (), reaction)
        return operator_of_order(4, same)

    def __repr__(self) -> str:
        return f"<FourthOrderOperator: {' x '.join(map(str, self.grid.shape))} unknowns, {3**self.grid.ndim}-point stencil>"

    @cached_property
    def least(self) -> float:
        """The coefficient a."""
        return 1.0

    @cached_property
    def _form(self) -> tuple[SymmetricStencil, Rim]:
        axes, ndim = self.grid.axes, self.grid.ndim
        offsets = halves(ndim, full=True)
        offsets = offsets[np.abs(offsets).sum(axis=1) <= 2]
        box = (1,) * (3 - ndim) + self.grid.shape
        couplings = np.array([-_products(axes, self.reaction, offset[3 - ndim :]) for offset in offsets]).reshape(-1, *box)
        excess = _products(axes, self.reaction, None).reshape(box)
        return symmetric_stencil(offsets, couplings, excess), Rim(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))

    @cached_property
    def norm_bound(self) -> float:
        """Upper bound of the largest eigenvalue of A: that of second order, as mixed terms and B are positive."""
        return sum(4.0 / h**2 for h in self.grid.spacing) + self.reaction

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """About the smallest eigenvalue of A that is not zero: at least a third of that of second order."""
        if self.reaction < 0.0:  # as near to zero as rounding allows
            return float(np.finfo(np.float64).eps) * self.norm_bound
        return self.grid.smallest_eigenvalue([1.0 / 3.0] * self.grid.ndim, self.reaction)

    def averaged(self, f: Array) -> Numbers:
        """Return B f, f extrapolated beyond sides."""
        source: Numbers = f.astype(np.float64, copy=False)
        averaged = source.copy()
        for number, axis in enumerate(self.grid.axes):
            averaged -= axis.h**2 / 12.0 * _differenced(_extended(source, axis, number), axis, number)
        return averaged

    def right_hand_side(self, f: Array, side_values: SideValues) -> Array:
        """Return b with A u = b for a source f and the values on the sides; in the precision of f."""
        b = self.averaged(f)
        lacking = _beyond_sides(self.grid, self.reaction, side_values, f.astype(np.float64, copy=False))
        if lacking.any():
            b -= _applied(lacking, self.grid, self.reaction)
        return b.astype(f.dtype, copy=False)


def _products(axes: tuple[Axis, ...], reaction: float, offset: NDArray[np.int64] | None) -> Numbers:
    """Return the entries of volumes A at an offset from the diagonal, or the sums of its rows for None."""
    steps = (None,) * len(axes) if offset is None else tuple(int(step) for step in offset)
    volumes = [_volume(axis, step) for axis, step in zip(axes, steps, strict=True)]
    seconds = [_second_difference(axis, step) for axis, step in zip(axes, steps, strict=True)]

    def outer(*differenced: int) -> Numbers:
        factors = [seconds[k] if k in differenced else volumes[k] for k in range(len(axes))]
        return reduce(np.multiply.outer, factors)

    total = reaction * outer()
    for i, axis in enumerate(axes):
        total = total + (1.0 - reaction * axis.h**2 / 12.0) * outer(i)
    for i, j in itertools.combinations(range(len(axes)), 2):
        total -= (axes[i].h ** 2 + axes[j].h ** 2) / 12.0 * outer(i, j)
    return total


def _volume(axis: Axis, step: int | None) -> Numbers:
    """Return the entries of an axis' diagonal matrix of volumes, in units of h."""
    return np.zeros(axis.n) if step else axis.weights / axis.h


def _second_difference(axis: Axis, step: int | None) -> Numbers:
    """Return the entries of volumes D of an axis at `step` from the diagonal, or the sums of its rows."""
    n, ends = axis.n, np.zeros(axis.n)
    if not axis.periodic:
        per_side = 2.0 if axis.centering == "cell" else 1.0
        ends[0] += per_side * (axis.low is Dirichlet)
        ends[-1] += per_side * (axis.high is Dirichlet)
    if step is None:
        return ends / axis.h**2
    after, before = np.ones(n), np.ones(n)
    if not axis.periodic or n == 1:
        after[-1], before[0] = 0.0, 0.0
    if step:
        return -(after if step > 0 else before) / axis.h**2
    return (after + before + ends) / axis.h**2


def _applied(extended: Numbers, grid: Grid, reaction: float) -> Numbers:
    """Return A of values that are zero but for one spacing beyond the sides, at the unknowns."""
    total = np.zeros(grid.shape)
    seconds = []
    for number, axis in enumerate(grid.axes):
        seconds.append(_differenced(extended, axis, number))
        total += (1.0 - reaction * axis.h**2 / 12.0) * _inner(seconds[-1], grid.shape)
    for i, j in itertools.combinations(range(grid.ndim), 2):
        mixed = _differenced(seconds[i], grid.axes[j], j)
        total -= (grid.axes[i].h ** 2 + grid.axes[j].h ** 2) / 12.0 * _inner(mixed, grid.shape)
    return total


def _beyond_sides(grid: Grid, reaction: float, side_values: SideValues, f: Numbers) -> Numbers:
    """Return what is to be added to the reflections of u to have its values one spacing beyond the sides; zero inside."""
    extended = np.zeros([n + 2 for n in grid.shape])
    for number, (axis, pair) in enumerate(zip(grid.axes, side_values, strict=True)):
        along = np.moveaxis(extended, number, 0)
        if axis.periodic:
            along[0], along[-1] = along[-2], along[1]
            continue
        others = grid.axes[:number] + grid.axes[number + 1 :]
        for end, (reflection, value) in enumerate(zip(axis.reflections, pair, strict=True)):
            near = np.moveaxis(f, number, 0)[:: 1 - 2 * end][:FEWEST]
            lacking = _lacking(axis, others, reaction, near, value, (axis.low, axis.high)[end] is Dirichlet)
            for before in range(number):  # corners beyond axes that come later are made of this side by theirs
                lacking = _extended(lacking, others[before], before)
            inside = tuple(slice(None) if k < number else slice(1, -1) for k in range(len(others)))
            ghost, mirrored = (0, 1 + reflection.inward) if end == 0 else (-1, -2 - reflection.inward)
            along[(ghost, *inside)] = reflection.weight * along[(mirrored, *inside)] + lacking
    return extended


def _lacking(
    axis: Axis, others: tuple[Axis, ...], reaction: float, near: Numbers, value: Numbers, is_dirichlet: bool
) -> Numbers:
    """Return a missing neighbor less the reflection, on a side with these values; `near`: the source from there inward."""
    g = np.broadcast_to(value, near.shape[1:])
    tangential = sum(
        (-_differenced(_extended(g, other, number), other, number) for number, other in enumerate(others)),
        np.zeros(g.shape),
    )
    given, h, is_cell = reaction * g - tangential, axis.h, axis.centering == "cell"
    if is_dirichlet:
        return 2.0 * g + h**2 / 4.0 * (given - np.tensordot(HALF_BEYOND, near, 1)) if is_cell else g
    if is_cell:
        return h * g + h**3 / 24.0 * (given - np.tensordot(SLOPE_HALF_BEYOND, near, 1) / h)
    return 2.0 * h * g + h**3 / 3.0 * (given - np.tensordot(SLOPE, near, 1) / h)


def _extended(values: Numbers, axis: Axis, number: int) -> Numbers:
    """Return values with one more at either end along an axis: extrapolated, or the other end's."""
    along = np.moveaxis(values, number, 0)
    if axis.periodic:
        ends = along[-1], along[0]
    else:
        ends = np.tensordot(BEYOND, along[:FEWEST], 1), np.tensordot(BEYOND, along[: -FEWEST - 1 : -1], 1)
    return np.moveaxis(np.concatenate([ends[0][None], along, ends[1][None]]), 0, number)


def _differenced(extended: Numbers, axis: Axis, number: int) -> Numbers:
    """Return -u'' along an axis, of values with one more at either end."""
    along = np.moveaxis(extended, number, 0)
    return np.moveaxis((2.0 * along[1:-1] - along[:-2] - along[2:]) / axis.h**2, 0, number)


def _inner(values: Numbers, shape: tuple[int, ...]) -> Numbers:
    """Return values without what lies beyond the sides, along the axes where that is still there."""
    return values[tuple(slice(1, -1) if n > m else slice(None) for n, m in zip(values.shape, shape, strict=True))]
