"""The discrete problem: -Laplace(u) + c u = f on a box, second-order differences of 3, 5 or 7 points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_number, choose, entries_of, plain_number, reject_unknown_keywords
from . import kernels
from .coefficients import checked_coefficient, constants_of, reaction_field
from .components import FreeParts, free_parts
from .coupled import CoupledOperator, faces_of
from .grid import (
    CENTERINGS,
    LARGEST_SPACING,
    SMALLEST_SPACING,
    Axis,
    Grid,
    Neumann,
    Robin,
    checked_lengths,
    checked_shape,
    kind_of,
    parse_boundary,
    side_values,
)
from .masks import Domain
from .operator import StencilOperator
from .robin import exchange_of, refuse_stiff_sides
from .sums import exact_sum
from .transfers import interpolated_side
from .waves import resolves

if TYPE_CHECKING:
    from scipy import sparse

    from .reaction import Nonlinear

CANCELS = 1e-2  # a mean below this part of the root mean square is summed up anew, exactly
SideValues = tuple[tuple[NDArray[np.float64], ...], ...]  # per axis, low and high


@final
class Poisson:
    """-Laplace(u) + c u = f on a box in 1-D, 2-D or 3-D, discretized by second-order central differences.

    Parameters
    ----------
    shape : int or tuple of int
        Number of unknowns along each axis; axis 0 is the first index of f. At least 1, vertex Neumann-Neumann 2.
    lengths, spacing : float or sequence of float, optional
        Length of the box, or distance of the unknowns, along each axis; not both. With neither, cells are square and
        axis 0 has length 1. An entry of `spacing` may be an array, for a stretched grid: vertex centering, the distances of
        consecutive grid lines, Dirichlet and Neumann sides included (L / h of them); cell centering, the n lengths of cells.
    boundary : str, condition, or sequence of these or of (low, high) pairs
        `"dirichlet"`, `"neumann"`, `"periodic"`, or `Dirichlet(value)`, `Neumann(flux)`, `Robin(alpha, value)`, `Periodic()`:
        one for all sides, or one entry per axis. `value`, `flux` (outward du/dn) and `alpha` (a du/dn + alpha u = value) are
        numbers or arrays of the shape of f less that axis.
    centering : "vertex" or "cell"
        Vertex: unknowns on grid lines; a Dirichlet node is none, a Neumann node is one; h = L/(n+1), L/n, L/(n-1) for
        Dirichlet-Dirichlet, Dirichlet-Neumann, Neumann-Neumann and L/n for periodic. Cell: unknowns in cell centers, h = L/n.
    reaction : float, array or Nonlinear
        c: a number, or an array of the shape of f; below zero, -k^2, where the grid resolves the waves: k h <= 0.6. Or a
        function g(u) in place of c u, with its derivative.
    coefficient : float, sequence, array or callable, optional
        a > 0 of -div(a grad u) + c u = f: a number; one per axis; an array of the shape of f, a at the unknowns; a tuple of
        arrays at the faces, one per axis; or a function of the coordinates, as `coordinates()` returns them, or a tuple of
        functions, one per axis. Fluxes of `Neumann` are then a du/dn, and a is not read on such sides of cells: so r may be
        a, with the axis of a cylinder at r = 0. None is 1. Numbers keep the speed of the constant case.
    mask : array of bool, optional
        The shape of f: True where there is an unknown. Elsewhere u is given, a Dirichlet boundary of any shape, or there is
        nothing.
    outside : float, array or "natural"
        What u is where `mask` is False; an array has the shape of f, and may be NaN where no unknown is beside it. "natural":
        no flux crosses the rim of the mask, and u is 0 outside. What is connected to no given value is then singular, as a box
        without Dirichlet sides is: f must have mean zero on each such component, and so has u.
    fixed : (where, values), optional
        Points inside at which u is given, such as electrodes: `where` an array of bool of the shape of f, `values` a number or
        an array of that shape.
    order : 2 or 4
        Of accuracy. 4: the compact stencil of 9 or 19 points, for smooth f, coefficients and reactions that are numbers, and
        at least 5 unknowns along each axis that is not periodic; see `stencil.fourth_order`.

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
    operator: Any  # a StencilOperator, CoupledOperator (coefficients vary) or NonlinearOperator (so is the reaction)
    side_values: SideValues
    domain: Domain | None  # where there are unknowns, and what u is elsewhere; None: unknowns everywhere

    @reject_unknown_keywords
    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        lengths: float | Sequence[float] | None = None,
        spacing: float | Sequence[float | ArrayLike] | None = None,
        boundary: Any = "dirichlet",
        centering: Literal["vertex", "cell"] = "vertex",
        reaction: float | ArrayLike | Nonlinear = 0.0,
        coefficient: Any = None,
        mask: ArrayLike | None = None,
        outside: Any = 0.0,
        fixed: Any = None,
        order: Literal[2, 4] = 2,
    ) -> None:
        shape = checked_shape(shape)
        choose(centering, CENTERINGS, "centering")
        single = entries_of(reaction) is None and type(reaction).__name__ != "Nonlinear"
        c = checked_number("reaction", reaction, "a finite number", math.isfinite) if single else None
        conditions = parse_boundary(boundary, len(shape))
        self.box = self.grid = grid_of(shape, conditions, centering, lengths, spacing)
        is_whole = mask is None and fixed is None and plain_number(outside) == 0
        self.domain = None if is_whole else Domain.of(self.grid, mask, outside, fixed)
        coefficient = None if coefficient is None else checked_coefficient(coefficient, shape)
        constants = None if coefficient is None else constants_of(coefficient, len(shape))
        has_robin = any(isinstance(side, Robin) for pair in conditions for side in pair)
        exchange = exchange_of(conditions, shape) if has_robin else {}
        alike = self.domain is None and not exchange and not any(axis.distances for axis in self.box.axes)
        if c is not None and alike and (coefficient is None or constants is not None):
            if constants is not None:
                from .rescaled import rescaled

                self.grid = rescaled(self.box, constants)
            self.operator = StencilOperator(self.grid, c)
        elif any(type(each).__name__ == "Nonlinear" for each in (reaction, coefficient)):
            from .reaction import operator_of  # imported here: few problems need it

            self.operator = operator_of(self.grid, 1.0 if coefficient is None else coefficient, reaction, self.domain, exchange)
        else:
            faces = faces_of(1.0 if coefficient is None else coefficient, self.grid, exchange)
            refuse_stiff_sides(exchange, self.grid, faces)
            self.operator = CoupledOperator(self.grid, faces, reaction_field(reaction, shape), self.domain, exchange)
        if order != 2:
            from .fourth_order import operator_of_order

            self.operator = operator_of_order(order, self.operator)
        self.side_values = tuple(
            tuple(
                side_values(condition.value, shape[:axis] + shape[axis + 1 :], f"the {end} boundary value of axis {axis}")
                for end, condition in zip(("low", "high"), pair, strict=True)
            )
            for axis, pair in enumerate(conditions)
        )
        if self.grid is not self.box:
            from .rescaled import rescaled_fluxes

            self.side_values = rescaled_fluxes(self.side_values, self.box, self.grid)

    @classmethod
    def homogeneous_on(cls, grid: Grid, reaction: float) -> Poisson:
        """Return the problem on a grid with all boundary values zero."""
        zero = np.zeros(())
        return cls.of_parts(grid, StencilOperator(grid, reaction), ((zero, zero),) * grid.ndim)

    @classmethod
    def of_parts(cls, grid: Grid, operator: Any, values: SideValues, domain: Domain | None = None) -> Poisson:
        """Return the problem made of these."""
        problem = cls.__new__(cls)
        problem.box = problem.grid = grid
        problem.operator, problem.side_values, problem.domain = operator, values, domain
        return problem

    def with_values(self, outside: Any, fixed: Any) -> Poisson:
        """Return this problem with other values where it has no unknowns; arguments as at construction."""
        if self.domain is None:
            return self
        mask = self.domain.unknown if fixed is None else self.domain.unknown | fixed[0]
        return self.with_domain(Domain.of(self.grid, mask, outside, fixed))

    def with_domain(self, domain: Domain) -> Poisson:
        """Return this problem with other values on its domain: all that is derived is shared."""
        problem = Poisson.__new__(Poisson)
        vars(problem).update(vars(self), domain=domain)
        return problem

    def with_reaction(self, reaction: float | ArrayLike) -> Poisson:
        """Return the problem with another c, as of `Poisson`.

        Examples
        --------
        >>> import unigrid
        >>> unigrid.Poisson((9, 9)).with_reaction(2.0).reaction
        2.0
        """
        problem = Poisson.__new__(Poisson)
        vars(problem).update(self.__getstate__())
        is_number = entries_of(reaction) is None
        field: Any = (
            checked_number("reaction", reaction, "a finite number", math.isfinite)
            if is_number
            else reaction_field(reaction, self.shape)
        )
        varies = self.varies or np.ndim(field) > 0
        problem.operator = (self.coupled_operator if varies else self.operator).with_reaction(field)
        return problem

    @cached_property
    def coupled_operator(self) -> CoupledOperator:
        """The operator in the symmetric form of couplings, constant coefficients too."""
        if self.varies:
            return self.operator.linear  # type: ignore[no-any-return]
        return CoupledOperator(self.grid, faces_of(1.0, self.grid, {}), np.asarray(self.reaction))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("grid", "box", "operator", "side_values", "domain")}

    def __repr__(self) -> str:
        sides = ", ".join("periodic" if low == "periodic" else f"{low}:{high}" for low, high in self.sides)
        lengths = " x ".join(f"{length:.4g}" for length in self.lengths) + "".join(
            f", spacing {min(axis.distances):.3g} to {max(axis.distances):.3g} along axis {number}"
            for number, axis in enumerate(self.grid.axes) if axis.distances
        )  # fmt: skip
        reaction = f", reaction {self.nonlinear or format(self.reaction, '.4g')}" if self.nonlinear or self.reaction else ""
        a = [(own.h / axis.h) ** 2 for own, axis in zip(self.box.axes, self.grid.axes, strict=True)]
        coefficient = f", coefficient {' x '.join(f'{each:.4g}' for each in a)}" if self.grid is not self.box else ""
        if self.varies and self.order == 2:
            coefficient = f", {self.coupled_operator.words}"
            reaction = f", reaction {self.nonlinear}" if self.nonlinear else ""
        order = f", order {self.order}" if self.order != 2 else ""
        shape = " x ".join(map(str, self.shape))
        centering = self.grid.axes[0].centering
        return f"<Poisson: {shape} unknowns on {lengths}, {centering} centering, {sides}{coefficient}{reaction}{order}>"

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of unknowns along each axis."""
        return self.grid.shape

    @property
    def lengths(self) -> tuple[float, ...]:
        """Length of the box along each axis."""
        return tuple(axis.length for axis in self.box.axes)

    @property
    def spacing(self) -> tuple[Any, ...]:
        """Distance h of the unknowns along each axis; where that is stretched, an array of distances."""
        return tuple(np.array(axis.distances) if axis.distances else axis.h for axis in self.box.axes)

    @property
    def sides(self) -> tuple[tuple[str, str], ...]:
        """The names of the conditions on the low and the high side of each axis: "dirichlet", "neumann", ..."""
        pairs = [(axis.low.__name__.lower(), axis.high.__name__.lower()) for axis in self.grid.axes]
        if not self.varies:
            return tuple(pairs)
        robin = self.coupled_operator.exchange
        return tuple(
            ("robin" if (number, 0) in robin else low, "robin" if (number, -1) in robin else high)
            for number, (low, high) in enumerate(pairs)
        )

    @property
    def reaction(self) -> float:
        """The coefficient c of u; the least one, where it varies."""
        return self.operator.reaction

    @property
    def order(self) -> int:
        """The order of accuracy, 2 or 4."""
        return self.operator.order  # type: ignore[no-any-return]

    @property
    def weights(self) -> NDArray[np.float64]:
        """Cell volumes, shape `shape`, halved at each vertex-Neumann side: the inner product in which A is symmetric."""
        return self.box.weights

    @cached_property
    def singular(self) -> bool:
        """Whether constants solve the homogeneous problem, or what is constant on a component of the mask."""
        if self.parts is not None:
            return self.parts.reaction == 0.0
        ends = all(axis.singular for axis in self.grid.axes)
        return ends and self._is_whole and self.operator.keeps_constants and self.reaction == 0.0

    @cached_property
    def has_waves(self) -> bool:
        """Whether c is below zero somewhere, with which A may be indefinite."""
        return self.reaction < 0.0

    @cached_property
    def has_constant_apart(self) -> bool:
        """Whether the constant part of u is found apart from the cycles: where the problem is singular, or nearly so."""
        apart = self.operator.keeps_constants and self.grid.has_constant_apart(self.reaction / self.operator.least)
        return apart and self._is_whole

    @property
    def _is_whole(self) -> bool:
        """Whether there are unknowns everywhere in the box."""
        return self.domain is None or self.domain.is_whole

    @cached_property
    def parts(self) -> FreeParts | None:
        """The components of a domain on which constants are eigenvectors, found apart from the cycles; None in a whole box."""
        if self.domain is None or self.domain.void is None:  # elsewhere, every component has a given value beside it
            return None
        operator = self.coupled_operator
        c = self.reaction if operator.keeps_constants else 0.0
        return free_parts(self.domain, self.grid, operator.stencil.excess, c, operator.volumes)

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

        if self.varies:
            return self.operator.matrix()  # type: ignore[no-any-return]
        identities = [sparse.eye_array(n) for n in self.shape]
        matrix = self.reaction * sparse.eye_array(self.grid.size)
        for number, axis in enumerate(self.grid.axes):
            matrix += reduce(sparse.kron, [*identities[:number], axis.second_difference(), *identities[number + 1 :]])
        return sparse.csr_array(matrix)

    def rhs(self, f: ArrayLike) -> NDArray[Any]:
        """Return b, a new array: f, broadcast to `shape`, with the boundary values folded in, so that A u = b.

        float32 stays float32, everything else becomes float64.
        """
        if not kernels.take(f):
            from ..arrays import mapped

            return mapped(self.rhs, f)
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
        if self.order == 4:
            return self.operator.right_hand_side(f, self.side_values)  # type: ignore[no-any-return]
        b = np.array(f, order="C")
        if self.varies:
            self.operator.linear.fold(b, self.side_values)
        else:
            for number, (axis, values) in enumerate(zip(self.grid.axes, self.side_values, strict=True)):
                along = np.moveaxis(b, number, 0)
                for end, ghost, value in zip((0, -1), axis.ghosts(), values, strict=True):
                    along[end] += (ghost.gain / axis.h**2 * value).astype(b.dtype)
        if self.domain is not None:
            self.operator.linear.fold_given(b, self.domain)
        return b

    @cached_property
    def homogeneous(self) -> bool:
        """Whether b is f: every boundary value is zero, there are unknowns everywhere, and no order 4 averages f."""
        return self.order == 2 and self.domain is None and not any(value.any() for pair in self.side_values for value in pair)

    def mean(self, array: NDArray[Any]) -> float:
        """Return the mean of a grid array in the inner product of `weights`."""
        weights = [axis.weights / axis.weights.sum() for axis in self.grid.axes]
        return kernels.of(array).weighted_sum(array, weights)

    def exact_mean(self, array: NDArray[Any]) -> float:
        """Return the mean but for its last digits, even of values that cancel; exactly zero where they cancel to nothing."""
        mean = self.mean(array)
        if abs(mean) > CANCELS * kernels.of(array).norm(array) / math.sqrt(array.size):
            return mean
        # 1, or powers of 1/2, unless stretched: products are exact
        weights = reduce(np.multiply.outer, [axis.weights / axis.h for axis in self.grid.axes])
        return exact_sum(weights * array) / exact_sum(weights)

    def compatible(self, b: NDArray[Any]) -> NDArray[Any]:
        """Return b without its mean if the problem is singular, else b: a right-hand side that has a solution."""
        return self.centered(b) if self.singular else b

    def centered(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return u without its mean where the constant part is found apart, and on each free component; else u."""
        if self.parts is not None:
            return self.parts.centered(u)
        return u - u.dtype.type(self.mean(u)) if self.has_constant_apart else u

    def filled(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return u with the given values, which are no unknowns."""
        return u if self.domain is None else np.where(self.domain.unknown, u, self.domain.values).astype(u.dtype)

    def emptied(self, u: NDArray[Any]) -> NDArray[Any]:
        """Return u with zero where A u = b has no unknowns."""
        return u if self.domain is None else np.where(self.domain.unknown, u, 0).astype(u.dtype)

    @property
    def varies(self) -> bool:
        """Whether the operator has coefficients of its own at every point."""
        return not isinstance(self.operator, StencilOperator)

    @property
    def nonlinear(self) -> Nonlinear | None:
        """The reaction g(u), where it is not linear."""
        return getattr(self.operator, "nonlinear", None)

    @property
    def cycle_name(self) -> str:
        """The cycle that is made for problems of this kind."""
        return "FASCycle" if self.nonlinear else "GalerkinCycle" if self.varies else "StencilCycle"

    @property
    def what_varies(self) -> str:
        """What the operator has that is not alike at all points, in words."""
        if any(axis.distances for axis in self.grid.axes):
            return "a stretched grid"
        if self.nonlinear or self.order == 4:
            return "a Nonlinear reaction" if self.nonlinear else "order 4"
        return "Robin sides" if self.coupled_operator.exchange else "coefficients that vary"

    def coarsened(self) -> Poisson | None:
        """Return the same problem on the next coarser grid, boundary values interpolated; None where one unknown is left, or
        where that grid does not resolve the waves of a reaction below zero.

        Raises TypeError where coefficients vary: `GalerkinCycle` makes coarse operators of the fine one.
        """
        if self.varies:
            raise TypeError(
                f"a problem with {self.what_varies} has no coarser one; unigrid.{self.cycle_name} coarsens its operator"
            )
        grid = self.grid.coarsened()
        if grid is None:
            return None
        if self.has_waves and not resolves(grid, self.reaction):
            return None
        values = tuple(
            tuple(interpolated_side(value, self.grid.without(axis), grid.without(axis)) for value in pair)
            for axis, pair in enumerate(self.side_values)
        )
        return Poisson.of_parts(grid, StencilOperator(grid, self.reaction), values)


def grid_of(shape: tuple[int, ...], conditions: Any, centering: str, lengths: Any, spacing: Any) -> Grid:
    """Return the grid that fits pairs of conditions on the sides. Raises ValueError."""
    kinds = [(kind_of(low), kind_of(high)) for low, high in conditions]
    for axis, (n, (low, high)) in enumerate(zip(shape, kinds, strict=True)):
        least = 2 if (centering, low, high) == ("vertex", Neumann, Neumann) else 1
        if n < least:
            what = f"axis {axis} has {n} unknown{'s' * (n != 1)}, but {centering} centering with"
            raise ValueError(f"{what} {low.__name__}-{high.__name__} sides needs at least {least}")
    units = [Axis(n, 1.0, low, high, centering) for n, (low, high) in zip(shape, kinds, strict=True)]
    return Grid(tuple(_axes(units, lengths, spacing)))


def _axes(units: list[Axis], lengths: Any, spacing: Any) -> list[Axis]:
    """Return the axes, of lengths or spacings that may be arrays. Raises ValueError."""
    if any(entries_of(entry) is not None for entry in entries_of(spacing) or ()):
        from .spacings import axes_of  # imported here: uniform axes do without

        axes = axes_of(units, lengths, spacing)
    else:
        box = checked_lengths([unit.intervals for unit in units], lengths, spacing)
        axes = [replace(unit, h=length / unit.intervals) for unit, length in zip(units, box, strict=True)]
    for number, axis in enumerate(axes):
        for h in (axis.h, min(axis.distances, default=axis.h), max(axis.distances, default=axis.h)):
            if not SMALLEST_SPACING < h < LARGEST_SPACING:
                raise ValueError(f"the spacing of axis {number} is {h:.3g}, too far from 1 for 1/h^2; choose other units")
    return axes
