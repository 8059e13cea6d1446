"""The constant part of a solution, found apart from the cycles: where constants are eigenvectors, and f has to fit them.

Arrays are NumPy's, or tensors on a device, whose problem is one with the same methods.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..iterate import EXCUSED, Tolerance
from ..solution import Reason, Solution
from . import kernels
from .components import FreeParts, allowance
from .problem import Poisson

Array = NDArray[np.floating]
# The mean of b that boundary fluxes may leave in a singular problem, as the discretization integrates them inexactly: this
# part of the mean of what they add to |b|, over the intervals of an axis. Measured 2.9e-3 at n = 8 for smooth fluxes, falling
# as h^2; of fluxes that jump it falls as h. A source alone has no such defect: its mean is zero but for rounding.
FLUX_DEFECT = 0.25


class Measures:
    """How large arrays over a grid are; of a grid in blocks, what all processes have."""

    def norm(self, array: Array) -> float:
        """Return the 2-norm."""
        return kernels.of(array).norm(array)

    def largest(self, array: Array) -> float:
        """Return the largest absolute value."""
        return float(abs(array).max())

    def plain_mean(self, array: Array) -> float:
        """Return the mean in which all unknowns count alike."""
        return float(array.mean())


class RightHandSide(NamedTuple):
    """A u = b as cycles take it.

    b : boundary values folded in; where the constant part of u is found apart, without its mean
    f : the source that b was made of; without that mean where full multigrid would lose the rest beside it
    norm : of b
    blocks : sums of b over blocks, for `solution_norm`, where they are needed
    whole : b with its mean
    mean_of_u : which was found apart, and is to be added to the solution of b: a number, 0 where there is none, or an array
    has_constant : whether there is such a mean
    note : for the user
    measures : of arrays over the grid
    """

    b: Array
    f: Array
    norm: float
    blocks: NDArray[np.float64]
    whole: Array
    mean_of_u: float | Array = 0.0
    has_constant: bool = False
    note: str = ""
    measures: Measures = Measures()

    @property
    def largest_mean(self) -> float:
        """The mean of u; of several parts, the one farthest from zero."""
        means = np.ravel(self.mean_of_u)
        return float(means[np.abs(means).argmax()])


def with_constant(solution: Solution, problem: Poisson, right: RightHandSide, tolerance: Tolerance) -> Solution:
    """Return the solution with its constant part, which was found apart.

    Where the constant is so large that the sum keeps too few digits of the rest, it has not converged. The residual of the sum
    is measured without the constant, which fulfils its equation.
    """
    u = plus(solution.u, right.mean_of_u)
    norm, whole_norm = problem.operator.residual_norm(right.b, plus(u, -right.mean_of_u)), right.measures.norm(right.whole)
    solution = replace(solution, u=u)
    excused = EXCUSED * whole_norm if tolerance.rtol is None or tolerance.one_pass else 0.0
    reached = max(tolerance.target(whole_norm), solution.residuals[-1], excused)
    if not solution.converged or norm <= reached:
        return solution
    message = (
        f"stagnated: the mean of u, mean(f) / reaction, is {right.largest_mean:.1e}, and rounding it leaves a residual of "
        f"{norm / whole_norm:.1e} ||b||. Take the mean out of f, or give reaction=0 for the solution of mean zero."
    )
    return replace(solution, converged=False, reason=Reason.STAGNATED, message=message)


def plus(u: Array, mean: float | Array) -> Array:
    if isinstance(mean, float):
        return u + mean if mean else u
    return u + mean  # an array: one per part of a domain


def without_constant(problem: Poisson, right: RightHandSide, compatibility: str) -> RightHandSide:
    """Return the right-hand side without its mean, and the mean of u that belongs to it."""
    b, f, limits = right.whole, right.f, kernels.of(right.whole).limits(right.whole)
    eps, size, measures = float(limits.eps), math.sqrt(problem.grid.size), right.measures
    if problem.singular:
        mean, mean_of_u = problem.mean(b), 0.0
        if compatibility == "error":
            _check_compatible(problem, right, mean)
    else:
        mean = problem.exact_mean(b)
        mean_of_u = _mean_of_solution(problem, mean, limits)
    if abs(mean) <= eps * right.norm / size:
        return right._replace(mean_of_u=mean_of_u, has_constant=mean_of_u != 0.0)  # as near to zero as rounding brings it
    centered = b - mean
    norm = measures.norm(centered)
    if abs(mean) > norm / size:  # of the rounding of a large mean, one that is not small beside the rest is left
        centered = problem.centered(centered)
        norm = measures.norm(centered)
    if not norm > 4.0 * eps * right.norm:  # a constant source leaves rounding alone, which is no source
        centered, norm = kernels.of(b).zeros_like(b), 0.0
    noticeable = problem.singular and abs(mean) > 10.0 * eps * measures.largest(b)
    note = f"A mean of {mean:.3g} was taken out of the right-hand side." if noticeable else ""
    if problem.reaction <= math.sqrt(eps) * problem.operator.norm_bound:  # rounding of mean_of_u is as eps / c ||A|| to b
        f = centered if f is b else f - mean
    return right._replace(b=centered, f=f, norm=norm, mean_of_u=mean_of_u, has_constant=mean_of_u != 0.0, note=note)


def without_means(problem: Poisson, parts: FreeParts, right: RightHandSide, compatibility: str) -> RightHandSide:
    """Return the right-hand side without its mean on each free component of a domain, and the means of u that belong to it."""
    b, limits, means = right.whole, kernels.of(right.whole).limits(right.whole), parts.means(right.whole)
    eps = float(limits.eps)
    mean_of_u: float | Array = 0.0
    if not problem.singular:
        _mean_of_solution(problem, float(means[np.abs(means).argmax()]), limits)  # whether numbers hold it
        mean_of_u = parts.spread(means / parts.reaction, b.dtype)
    elif compatibility == "error":
        defect = FLUX_DEFECT / min(axis.intervals for axis in problem.grid.axes)
        parts.refuse_incompatible(means, allowance(parts, b, None if problem.homogeneous else b - right.f, defect))
    centered = parts.centered(parts.centered(b))  # once more, for the rounding of large means
    norm = right.measures.norm(centered)
    if not norm > 4.0 * eps * right.norm:  # constant sources leave rounding alone, which is no source
        centered, norm = kernels.of(b).zeros_like(b), 0.0
    largest = float(np.abs(means).max())
    noticeable = problem.singular and largest > 10.0 * eps * right.measures.largest(b)
    note = f"Means of up to {largest:.3g} were taken out of the right-hand side, component by component." if noticeable else ""
    return right._replace(b=centered, norm=norm, mean_of_u=mean_of_u, has_constant=not problem.singular, note=note)


def _mean_of_solution(problem: Poisson, mean: float, limits: np.finfo[Any]) -> float:
    """Return mean(b) / c, which is the mean of u. Raises ValueError where that leaves the range of numbers."""
    with np.errstate(over="ignore"):
        mean_of_u = float(np.float64(mean) / problem.reaction)
    if not abs(mean_of_u) <= float(limits.max):
        raise ValueError(
            f"the mean of u is mean(f) / reaction = {mean:.3g} / {problem.reaction:.3g}, beyond the range of {limits.dtype}; "
            f"scale f, take its mean out, or give reaction=0"
        )
    return mean_of_u


def _check_compatible(problem: Poisson, right: RightHandSide, mean: float) -> None:
    """Raise ValueError where the mean of b is more than rounding, and what boundary fluxes may leave, explain."""
    f, b, measures = right.f, right.whole, right.measures
    limits = kernels.of(b).limits(b)
    allowed = allowed_mean(problem, limits, problem.mean(abs(b)), 0.0 if problem.homogeneous else problem.mean(abs(b - f)))
    if problem.order == 4:  # whose b has the mean of f to a higher order than f has it itself
        allowed += problem.mean(abs(problem.operator.averaged(f) - f))
    if abs(mean) > allowed:
        raise incompatible(problem, limits, mean, measures.plain_mean(b), measures.plain_mean(abs(b)))


def allowed_mean(problem: Poisson, limits: np.finfo[Any], size: float, of_sides: float) -> float:
    """Return the mean of b that rounding, and what boundary fluxes may leave, explain; of means of |b| and of |b - f|."""
    defect = FLUX_DEFECT / min(axis.intervals for axis in problem.grid.axes)
    return math.sqrt(float(limits.eps)) * size + defect * of_sides


def incompatible(problem: Poisson, limits: np.finfo[Any], mean: float, plain: float, size: float) -> ValueError:
    """Return the error for a source of this mean; `plain` and `size`: means of b and |b| in which unknowns count alike."""
    axes = problem.grid.axes
    stretched = any(axis.distances for axis in axes)
    halved = not stretched and any(axis.centering == "vertex" and not axis.periodic for axis in axes)
    how = f"its mean is {mean:.6g}"
    if halved:
        how += f", in which unknowns on a Neumann side count half (their plain mean is {plain:.6g})"
    if stretched:
        how += ", in which unknowns count by the volumes of their cells"
    way_out = "compatibility='project' takes the mean out"
    if halved and problem.homogeneous and abs(plain) <= math.sqrt(float(limits.eps)) * size:
        way_out = f"with centering='cell', where all unknowns count alike, this f is compatible; {way_out}"
    return ValueError(
        f"a problem without Dirichlet sides and with reaction 0 has a solution only if f has mean zero, boundary fluxes "
        f"included; {how}. {way_out}"
    )
