"""The discrete problem: -Laplace(u) + c u = f on a box, second-order differences of 3, 5 or 7 points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_number, choose, entries_of, plain_number, reject_unknown_keywords, shown
from . import kernels
from .coefficients import checked_coefficient, constants_of
from .coupled import CoupledOperator, faces_of
from .grid import CENTERINGS, Axis, Grid, Neumann, finite_array, parse_boundary, real_array, side_values
from .operator import StencilOperator
from .transfers import lagrange

if TYPE_CHECKING:
    from scipy import sparse

CANCELS = 1e-2  # a mean below this part of the root mean square is summed up anew, exactly
MOST_UNKNOWNS = 2**48
SideValues = tuple[tuple[NDArray[np.float64], ...], ...]  # per axis, low and high
SMALLEST_SPACING, LARGEST_SPACING = 1e-70, 1e70  # between them 1/h^2, and its square in a norm, can be computed


@final
class Poisson:
    """-Laplace(u) + c u = f on a box in 1-D, 2-D or 3-D, discretized by second-order central differences.

    Parameters
    ----------
    shape : int or tuple of int
        Number of unknowns along each axis; axis 0 is the first index of f. At least 1, vertex Neumann-Neumann 2.
    lengths, spacing : float or sequence of float, optional
        Length of the box, or distance of the unknowns, along each axis; not both. With neither, cells are square and
        axis 0 has length 1.
    boundary : str, condition, or sequence of these or of (low, high) pairs
        `"dirichlet"`, `"neumann"`, `"periodic"`, or `Dirichlet(value)`, `Neumann(flux)`, `Periodic()`: one for all sides, or
        one entry per axis. `value` and `flux` (outward du/dn) are numbers or arrays of the shape of f less that axis.
    centering : "vertex" or "cell"
        Vertex: unknowns on grid lines; a Dirichlet node is none, a Neumann node is one; h = L/(n+1), L/n, L/(n-1) for
        Dirichlet-Dirichlet, Dirichlet-Neumann, Neumann-Neumann and L/n for periodic. Cell: unknowns in cell centers, h = L/n.
    reaction : float or array
        c >= 0: a number, or an array of the shape of f.
    coefficient : float, sequence, array or callable, optional
        a > 0 of -div(a grad u) + c u = f: a number; one per axis; an array of the shape of f, a at the unknowns; a tuple of
        arrays at the faces, one per axis; or a function of the coordinates, as `coordinates()` returns them. Fluxes of
        `Neumann` are then a du/dn. None is 1. Numbers keep the speed of the constant case.
    mask : array of bool, optional
        The shape of f: True where there is an unknown. Elsewhere u is given, a Dirichlet boundary of any shape.
    outside : float or array
        What u is where `mask` is False; an array has the shape of f.

    Raises
    ------
    ValueError, TypeError
        For a shape, length, boundary or name that is not as above; the message names what came and what is allowed.

    Examples
    --------
    >>> import numpy as np, scipy.sparse.linalg, unigrid
    >>> problem = unigrid.Poisson((40, 30), lengths=(4, 3), boundary=["periodic", ("dirichlet", unigrid.Neumann(1.0))])
    >>> x, y = problem.coordinates()
    >>> b = problem.rhs(np.sin(np.pi * x / 2) * np.ones_like(y))
    >>> u = scipy.sparse.linalg.spsolve(problem.matrix(), b.ravel()).reshape(problem.shape)

    Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), sections 1.3, 2.8 and 5.6.
    """

    grid: Grid  # its operator is -Laplace + c: each axis in units of sqrt(a), where coefficients are constant
    box: Grid  # the same points in the user's lengths
    operator: Any  # a StencilOperator, or a CoupledOperator where coefficients vary
    side_values: SideValues
    mask: NDArray[np.bool_] | None  # where there are unknowns; None: everywhere
    outside: NDArray[np.float64]  # values elsewhere

    @reject_unknown_keywords
    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        lengths: float | Sequence[float] | None = None,
        spacing: float | Sequence[float] | None = None,
        boundary: Any = "dirichlet",
        centering: Literal["vertex", "cell"] = "vertex",
        reaction: float | ArrayLike = 0.0,
        coefficient: Any = None,
        mask: ArrayLike | None = None,
        outside: ArrayLike = 0.0,
    ) -> None:
        shape = _checked_shape(shape)
        choose(centering, CENTERINGS, "centering")
        c = checked_number("reaction", reaction) if entries_of(reaction) is None else None
        conditions = parse_boundary(boundary, len(shape))
        kinds = [(type(low), type(high)) for low, high in conditions]
        for axis, (n, (low, high)) in enumerate(zip(shape, kinds, strict=True)):
            least = 2 if (centering, low, high) == ("vertex", Neumann, Neumann) else 1
            if n < least:
                raise ValueError(
                    f"axis {axis} has {n} unknown{'s' * (n != 1)}, but {centering} centering with "
                    f"{low.__name__}-{high.__name__} sides needs at least {least}"
                )
        units = [Axis(n, 1.0, low, high, centering) for n, (low, high) in zip(shape, kinds, strict=True)]
        box = _checked_lengths([axis.intervals for axis in units], lengths, spacing)
        axes = [Axis.of_length(n, length, *kind, centering) for n, length, kind in zip(shape, box, kinds, strict=True)]
        for number, each in enumerate(axes):
            if not SMALLEST_SPACING < each.h < LARGEST_SPACING:
                raise ValueError(f"the spacing of axis {number} is {each.h:.3g}, too far from 1 for 1/h^2; choose other units")
        self.box = self.grid = Grid(tuple(axes))
        self.mask = None if mask is None else _checked_mask(mask, shape)
        self.outside = _checked_outside(outside, self.mask, shape)
        coefficient = None if coefficient is None else checked_coefficient(coefficient, shape)
        constants = None if coefficient is None else constants_of(coefficient, len(shape))
        if c is not None and mask is None and (coefficient is None or constants is not None):
            self.grid = self.box if constants is None else _rescaled(self.box, constants)
            self.operator = StencilOperator(self.grid, c)
        else:
            faces = faces_of(1.0 if coefficient is None else coefficient, self.grid)
            self.operator = CoupledOperator(self.grid, faces, _reaction_field(reaction, shape), self.mask)
        self.side_values = tuple(
            tuple(
                side_values(condition, shape[:axis] + shape[axis + 1 :], f"the {end} boundary value of axis {axis}")
                for end, condition in zip(("low", "high"), pair, strict=True)
            )
            for axis, pair in enumerate(conditions)
        )
        if self.grid is not self.box:
            self.side_values = _rescaled_fluxes(self.side_values, self.box, self.grid)

    @classmethod
    def homogeneous_on(cls, grid: Grid, reaction: float) -> Poisson:
        """Return the problem on a grid with all boundary values zero."""
        zero = np.zeros(())
        return cls._of(grid, reaction, ((zero, zero),) * grid.ndim)

    @classmethod
    def _of(cls, grid: Grid, reaction: float, values: SideValues) -> Poisson:
        problem = cls.__new__(cls)
        problem.box = problem.grid = grid
        problem.operator, problem.side_values = StencilOperator(grid, reaction), values
        problem.mask, problem.outside = None, np.zeros(())
        return problem

    @cached_property
    def coupled_operator(self) -> CoupledOperator:
        """The operator in the symmetric form of couplings, constant coefficients too."""
        if isinstance(self.operator, CoupledOperator):
            return self.operator
        return CoupledOperator(self.grid, faces_of(1.0, self.grid), np.asarray(self.reaction))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("grid", "box", "operator", "side_values", "mask", "outside")}

    def __repr__(self) -> str:
        names = [(axis.low.__name__.lower(), axis.high.__name__.lower()) for axis in self.grid.axes]
        sides = ", ".join("periodic" if low == "periodic" else f"{low}:{high}" for low, high in names)
        lengths = " x ".join(f"{length:.4g}" for length in self.lengths)
        reaction = f", reaction {self.reaction:.4g}" if self.reaction else ""
        a = [(own.h / axis.h) ** 2 for own, axis in zip(self.box.axes, self.grid.axes, strict=True)]
        coefficient = f", coefficient {' x '.join(f'{each:.4g}' for each in a)}" if self.grid is not self.box else ""
        shape = " x ".join(map(str, self.shape))
        centering = self.grid.axes[0].centering
        return f"<Poisson: {shape} unknowns on {lengths}, {centering} centering, {sides}{coefficient}{reaction}>"

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of unknowns along each axis."""
        return self.grid.shape

    @property
    def lengths(self) -> tuple[float, ...]:
        """Length of the box along each axis."""
        return tuple(axis.length for axis in self.box.axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance h of the unknowns along each axis."""
        return self.box.spacing

    @property
    def reaction(self) -> float:
        """The coefficient c >= 0 of u."""
        return self.operator.reaction

    @property
    def weights(self) -> NDArray[np.float64]:
        """Cell volumes, shape `shape`, halved at each vertex-Neumann side: the inner product in which A is symmetric."""
        return self.box.weights

    @cached_property
    def singular(self) -> bool:
        """Whether constants solve the homogeneous problem: every side Neumann or periodic, and c = 0."""
        ends = all(axis.singular for axis in self.grid.axes)
        return ends and not self._has_given_values and not np.any(self.operator.reaction_field)

    @cached_property
    def has_constant_apart(self) -> bool:
        """Whether the constant part of u is found apart from the cycles: where the problem is singular, or nearly so."""
        apart = self.operator.keeps_constants and self.grid.has_constant_apart(self.reaction / self.operator.least)
        return apart and not self._has_given_values

    @property
    def _has_given_values(self) -> bool:
        """Whether the mask leaves points out, at which u is given."""
        return self.mask is not None and not self.mask.all()

    def loses_reaction(self, dtype: np.dtype, largest: float | None = None) -> bool:
        """Whether the constant is found apart, and c is lost in the rounding of A in this precision.

        `largest` bounds the eigenvalues of the finest level's A; that of this one, if not given.
        """
        bound = largest or self.operator.norm_bound
        return self.has_constant_apart and self.reaction <= float(np.finfo(dtype).eps) * bound

    def fits(self, dtype: np.dtype) -> bool:
        """Whether numbers of this precision hold A, on this grid and on all coarser ones.

        Of the couplings 1/h^2 the largest counts, as what vanishes beside it is rounding; beside a reaction it may itself have
        few digits, but not vanish. The coarsest grid, solved directly, has a spacing of at most a quarter of the shortest axis.
        """
        limits, widest = np.finfo(dtype), min(axis.length for axis in self.grid.axes) / 4
        least = float(limits.tiny) if self.reaction <= float(limits.tiny) else float(limits.smallest_subnormal)
        return self.operator.least * widest**-2 > least and self.operator.norm_bound / 2 < float(limits.max)

    def coordinates(self) -> tuple[NDArray[np.float64], ...]:
        """Return the coordinates of the unknowns, one array per axis, shaped to broadcast against f; the low corner is 0."""
        return tuple(np.meshgrid(*(axis.positions for axis in self.box.axes), indexing="ij", sparse=True))

    def matrix(self) -> sparse.csr_array:
        """Return A, the operator as a sparse matrix that acts on f.ravel(), boundary values homogeneous.

        A is symmetric in the inner product of `weights`: diag(weights) A is a symmetric matrix.
        """
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve

        if isinstance(self.operator, CoupledOperator):
            return self.operator.matrix()
        identities = [sparse.eye_array(n) for n in self.shape]
        matrix = self.reaction * sparse.eye_array(self.grid.size)
        for number, axis in enumerate(self.grid.axes):
            factors = [*identities[:number], axis.second_difference(), *identities[number + 1 :]]
            matrix = matrix + reduce(sparse.kron, factors)
        return sparse.csr_array(matrix)

    def rhs(self, f: ArrayLike) -> NDArray[Any]:
        """Return b, a new array: f, broadcast to `shape`, with the boundary values folded in, so that A u = b.

        float32 stays float32, everything else becomes float64.
        """
        f = real_array(f, "f")
        try:
            f = np.broadcast_to(f, self.shape)
        except ValueError:
            raise ValueError(f"f must have shape {self.shape}, or broadcast to it, got {f.shape}") from None
        b = self.folded(f)
        return b if b is not f else np.array(f, order="C")

    def folded(self, f: NDArray[Any]) -> NDArray[Any]:
        """Return `rhs(f)`, but f itself, not a copy, where every boundary value is zero."""
        if self.homogeneous:
            return f
        b = np.array(f, order="C")
        for number, (axis, values) in enumerate(zip(self.grid.axes, self.side_values, strict=True)):
            along = np.moveaxis(b, number, 0)
            for end, ghost, value in zip((0, -1), axis.ghosts(), values, strict=True):
                if value.any() and isinstance(self.operator, CoupledOperator):
                    self.operator.fold(b, number, end, value)
                elif value.any():
                    along[end] += (ghost.gain / axis.h**2 * value).astype(b.dtype)
        if self.mask is not None:
            self.operator.fold_outside(b, np.broadcast_to(self.outside, self.shape))
        return b

    @cached_property
    def homogeneous(self) -> bool:
        """Whether every boundary value is zero, and there are unknowns everywhere."""
        return self.mask is None and not any(value.any() for pair in self.side_values for value in pair)

    def mean(self, array: NDArray[Any]) -> float:
        """Return the mean of a grid array in the inner product of `weights`."""
        weights = [axis.weights / axis.weights.sum() for axis in self.grid.axes]
        return kernels.of(array).weighted_sum(array, weights)

    def exact_mean(self, array: NDArray[Any]) -> float:
        """Return the mean but for its last digits, even of values that cancel; exactly zero where they cancel to nothing."""
        mean = self.mean(array)
        if abs(mean) > CANCELS * kernels.of(array).norm(array) / math.sqrt(array.size):
            return mean
        weights = np.ones(())
        for axis in self.grid.axes:
            weights = np.multiply.outer(weights, axis.weights / axis.h)  # 1, or a power of 1/2: products are exact
        return exact_sum(weights * array) / exact_sum(weights)

    def compatible(self, b: NDArray[Any]) -> NDArray[Any]:
        """Return b without its mean if the problem is singular, else b: a right-hand side that has a solution."""
        return self.centered(b) if self.singular else b

    def centered(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return u without its mean where the constant part is found apart, else u."""
        return u - u.dtype.type(self.mean(u)) if self.has_constant_apart else u

    def filled(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return u with the values outside of the mask."""
        return u if self.mask is None else np.where(self.mask, u, self.outside).astype(u.dtype)

    def emptied(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return u with zero outside of the mask, where A u = b has no unknowns."""
        return u if self.mask is None else np.where(self.mask, u, 0).astype(u.dtype)

    @property
    def varies(self) -> bool:
        """Whether the operator has coefficients of its own at every point."""
        return isinstance(self.operator, CoupledOperator)

    def coarsened(self) -> Poisson | None:
        """Return the same problem on the next coarser grid, boundary values interpolated; None where one unknown is left.

        Raises TypeError where coefficients vary: `GalerkinCycle` makes coarse operators of the fine one.
        """
        if self.varies:
            raise TypeError("coefficients that vary have no coarser problem; unigrid.GalerkinCycle coarsens the operator")
        grid = self.grid.coarsened()
        if grid is None:
            return None
        values = tuple(
            tuple(_interpolated(value, self.grid.without(axis), grid.without(axis)) for value in pair)
            for axis, pair in enumerate(self.side_values)
        )
        return Poisson._of(grid, self.reaction, values)


def _rescaled(box: Grid, constants: Sequence[float]) -> Grid:
    """Return the grid on which -Laplace is -sum of a u'' over the axes: lengths in units of sqrt(a). Raises ValueError."""
    axes = [replace(axis, h=axis.h / math.sqrt(a)) for axis, a in zip(box.axes, constants, strict=True)]
    for number, (axis, a) in enumerate(zip(axes, constants, strict=True)):
        if not SMALLEST_SPACING < axis.h < LARGEST_SPACING:
            h = box.axes[number].h
            raise ValueError(
                f"coefficient / spacing^2 of axis {number} is {a:.3g} / {h:.3g}^2, too far from 1; choose other units"
            )
    return Grid(tuple(axes))


def _rescaled_fluxes(values: SideValues, box: Grid, grid: Grid) -> SideValues:
    """Return side values, fluxes a du/dn as those du/dn of the rescaled grid."""
    return tuple(
        tuple(
            value * (own.h / axis.h) if side is Neumann else value
            for value, side in zip(pair, (axis.low, axis.high), strict=True)
        )
        for pair, axis, own in zip(values, box.axes, grid.axes, strict=True)
    )


def exact_sum(values: NDArray[Any]) -> float:
    """Return the sum of an array, rounded once.

    Adding a large power of two and taking it off again splits off the leading bits of all values, whose sum is exact.

    Source: S. Rump, T. Ogita, S. Oishi, Accurate floating-point summation, SIAM J. Sci. Comput. 31 (2008), algorithm 3.1.
    """
    rest = np.array(values, dtype=np.float64)
    sums = []
    while largest := float(np.abs(rest).max(initial=0.0)):
        power = math.ldexp(1.0, math.frexp(largest)[1] + (rest.size + 2).bit_length())
        leading = (rest + power) - power
        sums.append(float(leading.sum()))
        rest -= leading
    return math.fsum(sums)


def _interpolated(values: NDArray[np.float64], fine: tuple[Axis, ...], coarse: tuple[Axis, ...]) -> NDArray[np.float64]:
    """Return the values of a side at the points of the coarse grid; a number stays a number."""
    if values.ndim == 0:
        return values
    for number, (source, target) in enumerate(zip(fine, coarse, strict=True)):
        moved = np.moveaxis(values, number, 0)
        result = lagrange(source, target.positions) @ moved.reshape(moved.shape[0], -1)
        values = np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, number)
    return values


def _reaction_field(reaction: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return c as float64: a number, also for an array that holds one everywhere, or an array. Raises ValueError otherwise."""
    field = finite_array(reaction, "reaction").astype(np.float64)
    if field.shape not in ((), shape):
        raise ValueError(f"reaction must be a number, or an array of f's shape {shape}, got shape {field.shape}")
    if (field < 0.0).any():
        index = tuple(int(i) for i in np.argwhere(field < 0.0)[0])
        raise ValueError(f"reaction must be >= 0 everywhere, but reaction{list(index)} is {field[index]:.6g}")
    return field.ravel()[0] if (field == field.ravel()[0]).all() else field


def _checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a copy of a mask. Raises TypeError or ValueError if it is not of bool, not of `shape`, or False everywhere."""
    array = np.array(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask must be an array of bool, True where there is an unknown; got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"mask must have the shape of f, {shape}, got {array.shape}")
    if not array.any():
        raise ValueError("mask is False everywhere: there is no unknown")
    return array


def _checked_outside(outside: ArrayLike, mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the values outside of a mask, finite there and zero inside, whatever was given there."""
    values = np.array(real_array(outside, "outside"), dtype=np.float64)
    if values.shape not in ((), shape):
        raise ValueError(f"outside must be a number or an array of f's shape {shape}, got shape {values.shape}")
    if mask is None:
        if values.any():
            raise ValueError("outside gives u where mask is False; give mask too")
        return np.zeros(())
    given = np.where(mask, 0.0, values)
    return finite_array(given, "outside").astype(np.float64)


def _checked_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    entries = entries_of(shape)
    entries = (shape,) if entries is None else entries
    if not 1 <= len(entries) <= 3:
        raise ValueError(f"a problem has 1, 2 or 3 axes, got shape {shown(entries)}")
    numbers = [n for n in map(plain_number, entries) if type(n) is int and n >= 1]
    if len(numbers) < len(entries):
        raise ValueError(f"shape must hold integers >= 1, got {shown(entries)}")
    if math.prod(numbers) > MOST_UNKNOWNS:
        raise ValueError(f"a grid of shape {shown(entries)} has more unknowns than any memory holds; take a coarser one")
    return tuple(numbers)


def _checked_lengths(
    intervals: list[int], lengths: float | Sequence[float] | None, spacing: float | Sequence[float] | None
) -> list[float]:
    """Return the length of every axis, from lengths or spacing."""
    if lengths is not None and spacing is not None:
        raise ValueError(f"give lengths or spacing, not both; got lengths={shown(lengths)} and spacing={shown(spacing)}")
    if lengths is not None:
        return per_axis(lengths, len(intervals), "lengths")
    if spacing is None:
        spacing = 1.0 / intervals[0]
    return [h * count for h, count in zip(per_axis(spacing, len(intervals), "spacing"), intervals, strict=True)]


def per_axis(values: float | Sequence[float], ndim: int, name: str) -> list[float]:
    """Return one number > 0 per axis, given as that or as one for all axes. Raises ValueError."""
    entries = entries_of(values)
    entries = (values,) * ndim if entries is None else entries
    if len(entries) != ndim:
        raise ValueError(f"{name} must be a number or one per axis, got {len(entries)} for {ndim} axes")
    return [checked_number(name, entry, "finite and > 0", lambda number: number > 0) for entry in entries]
