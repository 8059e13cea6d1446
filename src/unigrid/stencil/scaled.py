"""Smooth coefficients by a fast solver of constant ones: scaled by sqrt(a), the operator is -Laplace and a little more.

With S = diag(sqrt(a)), S^-1 A S^-1 = L + E, where L is that of -Laplace. The diagonal of E is zero inside where a is the mean
of the faces around a point, and with w the coupling's part of that of L,

    (E y, y) = sum over points of p y^2 + sum over couplings of (w - 1) (y_i - y_j)^2 / h^2,    p = sum of (1 - w) / h^2,

p being Laplace(sqrt(a)) / sqrt(a) but for O(h^2), and w - 1 itself O(h^2). (Half a spacing from a Dirichlet side it has a part
O(h) of L's own entry.) So E is small beside L + s, for a number s, where p changes little beside the least eigenvalue: a bound
that one pass over the face values computes. Then S^-1 M S^-1 is a preconditioner of A, with M one cycle for L + s: it needs no
coarse operators.

Source: P. Concus, G. Golub, Use of fast direct methods for the efficient numerical solution of nonseparable elliptic
equations, SIAM J. Numer. Anal. 10 (1973).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from ..iterate import Iteration
from .coupled import relative_volumes
from .cycle import StencilCycle
from .galerkin import SINGLE_FROM, in_single
from .gradients import FlexibleGradients
from .grid import Axis, Dirichlet, Grid
from .iterations import SINGLE, Run
from .kernels.cpu import scalings
from .kernels.cpu.scalings import Spread, Terms
from .preconditioned import PreconditionedCycle
from .problem import Poisson

Array = NDArray[np.floating]
# The largest bound of the contraction up to which it is chosen by itself: up to it, 4 to 8 iterations (400^2 and 1023^2, random
# and smooth f, contrasts up to 1e4) and half of the time of black box multigrid; at .9, 11 iterations, and two thirds.
MOST_CONTRACTION = 0.5
BARRIER = 0.75  # of phi = sin(pi x / L)^BARRIER; 1 is the eigenvector
SHORTEST = 3  # unknowns along an axis


class Scaling(NamedTuple):
    """1 / sqrt(a), the number s, and a bound of how far (L + s)^-1 S^-1 A S^-1 is from the identity, in the norm of L + s."""

    weights: Array
    shift: float
    contraction: float


def scaling_of(problem: Poisson, most: float, dtype: np.dtype) -> Scaling | None:
    """Return the scaling of a problem, `weights` in this precision; None where the contraction is not below `most`."""
    if unsuited(problem) is not None:
        return None
    operator, grid = problem.coupled_operator, problem.grid
    given, middle = (operator.faces, operator.reaction_field, _terms(grid), dtype), grid.shape[0] // 2
    if not _contraction(scalings.spread(*given, (middle, middle + 1))[1], grid)[0] < most:  # as of most that are not smooth
        return None
    weights, spread = scalings.spread(*given, (0, grid.shape[0]))
    contraction, shift = _contraction(spread, grid)
    return Scaling(weights, shift, contraction) if contraction < most else None


def unsuited(problem: Poisson) -> str | None:
    """Return what a problem has that leaves it without a scaling, in words; None where there is nothing of the kind."""
    if not problem.varies or problem.nonlinear is not None or problem.order != 2:
        return "no coefficients that vary, or a nonlinear reaction"
    operator, grid = problem.coupled_operator, problem.grid
    reasons = {
        "a mask or fixed values": problem.domain is not None,
        "Robin sides": bool(operator.exchange),
        "a reaction below zero": problem.has_waves,
        "a stretched grid": any(axis.distances for axis in grid.axes),
        "vertices on Neumann sides": relative_volumes(grid) is not None,
        "constants that no side holds": all(axis.singular for axis in grid.axes),
        f"an axis of less than {SHORTEST} unknowns, or one axis alone": min(grid.shape) < SHORTEST or grid.ndim == 1,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def _contraction(spread: Spread, grid: Grid) -> tuple[float, float]:
    """Return the bound of the contraction, and s, 0 where that is as good."""
    least = sum(float(axis.eigenvalues(np.array([0]))[0]) for axis in grid.axes)
    plain = spread.couplings + min(spread.ratio, max(abs(spread.lowest), abs(spread.highest)) / least)
    shift = max(0.5 * (spread.lowest + spread.highest), 0.0)
    shifted = spread.couplings + 0.5 * (spread.highest - spread.lowest) / (least + shift) if shift else math.inf
    return (plain, 0.0) if not shifted < min(plain, 1.0) else (shifted, shift)


@final
class ScaledCycle(PreconditionedCycle):
    """u <- u + S^-1 M S^-1 (b - A u), with S = diag(sqrt(a)) and M one cycle for constant coefficients: for smooth a.

    It needs no coarse operators of its own: at 1023^2, set-up and solve take 0.55 of the time of `GalerkinCycle`. `solve`
    takes it by itself where `contraction` is at most 0.5, in float64, on large grids in 2-D and 3-D without masks, Robin
    sides, stretched axes and vertices on Neumann sides.

    Parameters
    ----------
    problem : Poisson
        With coefficients, or a reaction, that vary. One axis at least has a Dirichlet side.
    cycle, smoothing, smoother, pre, post, restriction, prolongation, ...
        The slots of M, as of `StencilCycle`.

    Attributes
    ----------
    contraction : float
        The bound, computed from the coefficient, of ||I - B^-1 A|| in the energy norm, were M exact; B^-1 = S^-1 M S^-1.
    weights : array
        1 / sqrt(a), shape of f.

    Raises
    ------
    ValueError
        For coefficients that are not smooth enough: the bound must be below 1.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> problem = unigrid.Poisson((63, 63), coefficient=lambda x, y: 2 + np.sin(3 * x) * y)
    >>> cycle = unigrid.ScaledCycle(problem)
    >>> cycle.solve(np.ones((63, 63))).iterations
    5
    >>> print(str(cycle).splitlines()[0])
    <ScaledCycle: V(3,2) for constant coefficients between scalings by 1 / sqrt(a), contraction 0.076 at most

    Source: P. Concus, G. Golub, SIAM J. Numer. Anal. 10 (1973).
    """

    _scaling: Scaling

    def __init__(self, problem: Poisson, **slots: Any) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        scaling = scaling_of(problem, 1.0, np.dtype(np.float64))
        if scaling is None:
            reason = unsuited(problem)
            raise ValueError(
                "ScaledCycle needs a coefficient that changes smoothly, and gently beside the size of the box: the bound of "
                "its contraction is not below 1; take unigrid.GalerkinCycle(problem)"
                if reason is None
                else f"ScaledCycle has no room for {reason}; take unigrid.GalerkinCycle(problem)"
            )
        cycled = StencilCycle(Poisson.homogeneous_on(problem.grid, scaling.shift), **slots)
        super().__init__(problem, cycled, _scaling=scaling)

    @classmethod
    def _of(cls, problem: Poisson, scaling: Scaling, cycled: StencilCycle) -> ScaledCycle:
        """Return the cycle made of these."""
        made = cls.__new__(cls)
        PreconditionedCycle.__init__(made, problem, cycled, _scaling=scaling)
        return made

    @property
    def contraction(self) -> float:
        """The bound, computed from the coefficient."""
        return self._scaling.contraction

    @property
    def weights(self) -> Array:
        """1 / sqrt(a), shape of f."""
        return self._scaling.weights

    def __repr__(self) -> str:
        head = (
            f"<ScaledCycle: {self.name} for constant coefficients between scalings by 1 / sqrt(a), contraction "
            f"{self.contraction:.2g} at most"
        )
        return f"{head}\n  A: {self.problem!r}\n  M: {len(self.levels)} levels for {self.cycled.problem!r}>"

    def once(self, b: Array) -> Array:
        return self._correction(b)

    def replaced(self, *, level: int | None = None, **slots: Any) -> ScaledCycle:
        """Return this cycle with other slots of M, on one level or on all, as of `StencilCycle.replaced`."""
        return self._of(self.problem, self._scaling, self.cycled.replaced(level=level, **slots))

    def selfadjoint(self) -> ScaledCycle:
        """Return this cycle made of the symmetric one for constant coefficients."""
        return self._of(self.problem, self._scaling, self.cycled.symmetric())

    def nested(self, f: Array, at: int = 0) -> Array:
        """Return full multigrid for constant coefficients, of the scaled source."""
        return self._nested(self.problem.folded(f))

    def for_one_pass(self) -> NoReturn:
        """Refuse: a pass of full multigrid is less exact than the discretization here."""
        raise ValueError(
            "rtol='discretization' is one pass of full multigrid, which needs constant coefficients; give a number"
        )

    def _correction(self, r: Array) -> Array:
        """Return one cycle from zero for a residual."""
        return scalings.weighted(self.cycled.once(scalings.weighted(r, self.weights)), self.weights)

    def _nested(self, b: Array) -> Array:
        """Return full multigrid for a right-hand side."""
        return scalings.weighted(self.cycled.nested(scalings.weighted(b, self.weights)), self.weights)

    def _gradients(self, run: Run, precision: str, target: float) -> Iteration:
        """Return flexible conjugate gradients, whose cycles run in single precision where that is faster."""
        dtype = SINGLE if in_single(self.problem, run, precision) else run.b.dtype
        return FlexibleGradients(self._correction, run, dtype, target, self._nested if run.nested else None)


def cycle_for_smooth(problem: Poisson, cycle_for: Callable[[float], StencilCycle]) -> ScaledCycle | None:
    """Return the cycle for a single solve of a problem; `cycle_for` returns that for -Laplace + s, given s.

    None where the coefficient is not smooth enough, the grid small, or the problem too large for single precision.
    """
    if problem.grid.size < SINGLE_FROM:
        return None
    scaling = scaling_of(problem, MOST_CONTRACTION, SINGLE)
    if scaling is None or not problem.fits(SINGLE):
        return None
    return ScaledCycle._of(problem, scaling, cycle_for(scaling.shift))


def _terms(grid: Grid) -> Terms:
    """Return the grid as compiled loops need it."""
    missing, axes = 3 - grid.ndim, grid.axes
    sides, wraps = np.full((3, 2), scalings.NOTHING), np.zeros(3, np.int64)
    for number, axis in enumerate(axes, missing):
        wraps[number] = axis.periodic
        for end, side in enumerate((axis.low, axis.high)):
            if axis.centering == "cell" and not axis.periodic:
                sides[number, end] = scalings.WALL if side is Dirichlet else scalings.INSULATED
    squares = np.array([0.0] * missing + [axis.h**-2 for axis in axes])
    barriers = [np.zeros(1)] * missing + [_barrier(axis) for axis in axes]
    return Terms(squares, sides, wraps, (barriers[0], barriers[1], barriers[2]))


def _barrier(axis: Axis) -> NDArray[np.float64]:
    """Return v >= 0 with (L y, y) >= (v y, y) for -u'' along an axis: L phi / phi, phi > 0 a power of the first eigenvector.

    It is as large as 1/x^2 beside a Dirichlet side, where a potential does little.
    """
    x = axis.positions / axis.length
    if axis.singular:
        return np.zeros(axis.n)
    if axis.low is axis.high:
        phi = np.sin(np.pi * x)
    else:
        phi = np.sin(0.5 * np.pi * x) if axis.low is Dirichlet else np.cos(0.5 * np.pi * x)
    phi = phi**BARRIER
    barrier: NDArray[np.float64] = axis.second_difference() @ phi / phi
    return barrier
