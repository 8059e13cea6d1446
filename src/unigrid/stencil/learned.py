"""Slots that were trained, as slots of the stencil backend: a few 3x3 kernels, the same at every point of every level.

They depend on no grid size: trained on 63^2, they run on 1000 x 300. `unigrid.train("poisson")` finds their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike, NDArray

from ..cycle import Prolongation, Restriction, Smoother
from .convolution import Convolution
from .grid import Grid, double_array
from .operator import StencilOperator
from .transfers import FullWeighting, Linear, TransferRecipe

Array = NDArray[np.floating]


def anisotropy(operator: StencilOperator) -> float:
    """Return x = (s_0 - s_1) / (s_0 + s_1) with s_a = 1/h_a^2: 0 where both axes couple alike, -1 and 1 at the extremes.

    Grids of one or three axes have no such number, and count as isotropic.
    """
    squares = [1.0 / h**2 for h in operator.grid.spacing]
    return 0.0 if len(squares) != 2 else (squares[0] - squares[1]) / (squares[0] + squares[1])


@final
class LearnedSmoother(Smoother):
    """u <- u + K_i * D^-1 (b - A u), one step for each kernel K_i, * a convolution.

    D is the diagonal of A, so that one kernel serves levels of any spacing. On a level of anisotropy x (see `anisotropy`) the
    kernel is the polynomial K_i = sum_k C_ik T_k(x), T_k those of Chebyshev: degree 0 is one kernel for all.

    Parameters
    ----------
    coefficients : array_like, (steps, degree + 1, 3, 3)
        C, or (steps, degree + 1, 3) and (steps, degree + 1, 3, 3, 3) for grids of one and three axes.

    Raises
    ------
    ValueError
        For coefficients of another shape, or that are not finite.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> jacobi = np.zeros((1, 1, 3, 3))
    >>> jacobi[0, 0, 1, 1] = 0.8
    >>> b = np.ones((31, 31))
    >>> cycles = [unigrid.StencilCycle(unigrid.Poisson(b.shape), smoother=smoother)
    ...           for smoother in (unigrid.LearnedSmoother(jacobi), unigrid.Jacobi(0.8))]
    >>> bool(np.allclose(*(cycle(b) for cycle in cycles), rtol=1e-12))
    True
    """

    def __init__(self, coefficients: ArrayLike) -> None:
        values = double_array(coefficients, "coefficients")
        if values.ndim not in (3, 4, 5) or values.shape[2:] != (3,) * (values.ndim - 2) or 0 in values.shape:
            raise ValueError(f"coefficients must have shape (steps, degree + 1, 3, .., 3), got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("coefficients must be finite numbers")
        values.flags.writeable = False
        self.coefficients = values

    def __repr__(self) -> str:
        steps, terms = self.coefficients.shape[:2]
        kernel = "x".join(map(str, self.coefficients.shape[2:]))
        return f"LearnedSmoother({steps} step{'s' * (steps != 1)} of {kernel}, degree {terms - 1})"

    @property
    def cost(self) -> float:
        """Applications of A; a kernel of nine numbers costs about as much as A itself again."""
        return 2 * len(self.coefficients)

    def kernels(self, operator: StencilOperator) -> NDArray[np.float64]:
        """Return the kernels K_i on the level of this operator, (steps, 3, .., 3)."""
        ndim = self.coefficients.ndim - 2
        if operator.grid.ndim != ndim:
            raise ValueError(f"these kernels have {ndim} axes, the grid has {operator.grid.ndim}: train some for such grids")
        degree = self.coefficients.shape[1] - 1
        return np.tensordot(self.coefficients, chebyshev.chebvander(anisotropy(operator), degree).ravel(), axes=(1, 0))

    def __call__(self, operator: StencilOperator, b: Array, u: Array | None) -> Array:
        constant = operator.constant_diagonal
        for weights in self.kernels(operator):
            residual = operator.residual(b, u)
            if constant is None:
                residual = residual / operator.diagonal().astype(b.dtype)
            else:
                weights = weights / constant  # nine numbers in place of a pass over the grid
            step = Convolution.centered(weights, operator.grid.sides)(residual)
            u = step if u is None else u + step
        assert u is not None
        return u


@final
@dataclass(frozen=True, eq=False)
class FilteredRestriction(TransferRecipe):
    """R r = R_0 (K * r): a trained kernel on the fine grid, then a classical restriction, which fits grids of any size."""

    kernel: NDArray[np.float64]
    base: TransferRecipe = field(default_factory=FullWeighting)

    def between(self, fine: Grid, coarse: Grid) -> Restriction:
        base = self.base.between(fine, coarse)
        assert isinstance(base, Restriction)
        return FilteredDown(Convolution.centered(self.kernel, fine.sides), base)


@final
@dataclass(frozen=True, eq=False)
class FilteredProlongation(TransferRecipe):
    """P e = K * (P_0 e): a classical prolongation, then a trained kernel on the fine grid."""

    kernel: NDArray[np.float64]
    base: TransferRecipe = field(default_factory=Linear)

    def between(self, fine: Grid, coarse: Grid) -> Prolongation:
        base = self.base.between(fine, coarse)
        assert isinstance(base, Prolongation)
        return FilteredUp(base, Convolution.centered(self.kernel, fine.sides))


@final
@dataclass(frozen=True, eq=False)
class FilteredDown(Restriction):
    """The restriction of one level: a filter, then a restriction."""

    filter: Convolution
    base: Restriction

    def __call__(self, residual: Array) -> Array:
        return self.base(self.filter(residual))


@final
@dataclass(frozen=True, eq=False)
class FilteredUp(Prolongation):
    """The prolongation of one level: a prolongation, then a filter."""

    base: Prolongation
    filter: Convolution

    def __call__(self, correction: Array) -> Array:
        return self.filter(self.base(correction))
