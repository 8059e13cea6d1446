"""The slot A of the stencil backend: the 3-, 5- or 7-point operator -Laplace + c, homogeneous at the boundary."""

from __future__ import annotations

from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Operator
from . import kernels
from .grid import Grid
from .waves import nearest_eigenvalue

Array = NDArray[np.floating]
PRECISIONS = {np.dtype(np.float32), np.dtype(np.float64)}


@final
class StencilOperator(Operator):
    """A u = -Laplace_h(u) + c u on one grid, matrix-free.

    (A u)_i = sum over axes of (2 u_i - u_(i-1) - u_(i+1)) / h^2, plus c u_i; a neighbor beyond a side is
    replaced by its ghost value (see `boundary`).
    """

    def __init__(self, grid: Grid, reaction: float) -> None:
        self.grid, self.reaction = grid, reaction
        self._stencils: dict[np.dtype, kernels.ConstantStencil] = {}  # by precision, made when first needed

    @property
    def reaction_field(self) -> float:
        """C at the unknowns: a number."""
        return self.reaction

    keeps_constants = True  # A 1 = c 1 in the interior
    least = 1.0  # of the coefficient a
    order = 2

    def with_reaction(self, reaction: float) -> StencilOperator:
        """Return the operator with another c."""
        return StencilOperator(self.grid, reaction)

    def __reduce__(self) -> tuple[type[StencilOperator], tuple[Grid, float]]:
        return StencilOperator, (self.grid, self.reaction)  # all else follows from them

    def __repr__(self) -> str:
        return f"<StencilOperator: {' x '.join(map(str, self.grid.shape))} unknowns, {2 * self.grid.ndim + 1}-point stencil>"

    def tables(self, dtype: np.dtype) -> kernels.ConstantStencil:
        """Return the arguments of kernels for this operator, in the precision of the arrays."""
        if dtype not in self._stencils:
            if dtype not in PRECISIONS:
                raise TypeError(f"grid arrays must be float32 or float64, got {dtype}")
            self._stencils[dtype] = _stencil(self.grid, self.reaction, dtype)
        return self._stencils[dtype]

    def __call__(self, u: Array) -> Array:
        return kernels.of(u).apply(u, self.tables(u.dtype))

    def residual(self, f: Array, u: Array | None) -> Array:
        return f if u is None else kernels.of(f).residual(f, u, self.tables(u.dtype))

    def residual_norm(self, f: Array, u: Array | None) -> float:
        """Return ||f - A u||, plain 2-norm, without storing the residual."""
        if u is None:
            return kernels.of(f).norm(f)
        return kernels.of(f).residual_norm(f, u, self.tables(u.dtype))

    @property
    def stencil(self) -> NDArray[np.float64]:
        """The weights of A away from the sides, 3 along each axis: A u is their cross-correlation with u."""
        ndim = self.grid.ndim
        stencil = np.zeros((3,) * ndim)
        for number, h in enumerate(self.grid.spacing):
            line = stencil[tuple(slice(None) if number == axis else 1 for axis in range(ndim))]
            line += np.array([-1.0, 2.0, -1.0]) / h**2
        stencil[(1,) * ndim] += self.reaction
        return stencil

    def diagonal(self) -> NDArray[np.float64]:
        """Return the diagonal of A, shape of the grid; not constant where a cell-centered or one-unknown axis ends."""
        return self._diagonal.copy()

    @cached_property
    def constant_diagonal(self) -> float | None:
        """The diagonal of A where it is the same at every unknown, else None."""
        places = self._diagonal[np.ix_(*((0, n // 2, n - 1) for n in self.grid.shape))]  # ends and middle, in all combinations
        return float(places.flat[0]) if (places == places.flat[0]).all() else None

    @cached_property
    def _diagonal(self) -> NDArray[np.float64]:
        diagonal = np.full(self.grid.shape, self.reaction)
        for number, axis in enumerate(self.grid.axes):
            diagonal += axis.diagonal.reshape([-1 if number == other else 1 for other in range(self.grid.ndim)])
        return diagonal

    def magnitude(self, u: Array) -> float:
        """Return a bound of the 2-norm of the terms that A u sums up, which rounding is relative to."""
        return self.norm_bound * kernels.of(u).norm(u)

    @cached_property
    def norm_bound(self) -> float:
        """Upper bound of the largest eigenvalue of A: sum of 4 / h^2, plus c."""
        return sum(4.0 / h**2 for h in self.grid.spacing) + self.reaction

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of A that is not zero, by its size; infinity where there is none."""
        if self.reaction < 0.0:
            return nearest_eigenvalue(self.grid, self.reaction)
        return self.grid.smallest_eigenvalue([1.0] * self.grid.ndim, self.reaction)

    @property
    def smoothing_interval(self) -> tuple[float, float]:
        """The interval of the spectrum of D^-1 A for the errors that the next grid cannot represent.

        An error that oscillates in a strong axis a has at least (1/h_a^2) / sum(1/h^2) of the diagonal (a frequency of pi/2
        there, 0 elsewhere), and never more than 2.
        """
        squares = [1.0 / h**2 for h in self.grid.spacing]
        strong = [square for square, is_strong in zip(squares, self.grid.strong_axes, strict=True) if is_strong]
        return (min(strong, default=max(squares)) + 0.5 * self.reaction) / (sum(squares) + 0.5 * self.reaction), 2.0


def _stencil(grid: Grid, reaction: float, dtype: np.dtype) -> kernels.ConstantStencil:
    neighbors = np.zeros((3, 2), dtype=np.int64)
    coefficients = np.zeros((4, 5), dtype=np.float64)
    for row, axis in enumerate(grid.axes, start=3 - grid.ndim):
        coefficients[row, 0] = 1.0 / axis.h**2
        for end, ghost in enumerate(axis.ghosts()):
            neighbors[row, end] = ghost.inward
            own = ghost.inward == (0 if end == 0 else axis.n - 1)  # a ghost made of the end itself changes the diagonal
            coefficients[row, 3 + end if own else 1 + end] = -ghost.weight if own else ghost.weight
    coefficients[3, 0] = reaction
    cut = [axis for axis in grid.axes[:-1] if axis.n > 1][:1]  # the axis that slabs are cut from, as in kernels
    seam = any(axis.periodic and axis.n % 2 == 1 for axis in cut)
    with np.errstate(over="ignore", under="ignore"):  # beyond the range of float32; a solve in float32 checks that
        return kernels.ConstantStencil(neighbors, coefficients.astype(dtype), seam)
