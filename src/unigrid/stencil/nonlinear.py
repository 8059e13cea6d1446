"""Cycles for A u + g(u) = f: the full approximation scheme, and Newton's method with multigrid inside.

Both have the same levels, those of black box multigrid for A. On a coarse level, whose unknowns u' stand for the means of their
neighborhoods, the operator is P^T A P u' + w' g(u') with w' = P^T w, w the volumes; u' is u at the coarse points.

A smoothing step linearizes at u, A + w g'(u), and relaxes each point once. A point changes in its own turn alone, so that this
is a Newton step per point, and g is called once per sweep, for all points together.

Source: A. Brandt, Multi-level adaptive solutions to boundary-value problems, Math. Comp. 31 (1977), section 5 (FAS);
U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), section 5.3; R. Dembo, S. Eisenstat, T. Steihaug, Inexact Newton
methods, SIAM J. Numer. Anal. 19 (1982).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MOST_STEPS, VISITS, MultigridCycle, NestedLevel, Operator, SlotLevel, Smoother, StateTransfer, Steps
from ..iterate import Iteration, System, Tolerance, iterate
from ..messages import checked_count, choose, reject_unknown_keywords
from ..solution import Reason, Solution
from . import kernels
from .coupled import SymmetricOperator
from .galerkin import SMOOTHERS, Coarsest, CoupledLevel, CoupledTransfers, Points
from .galerkin import levels_of as linear_levels
from .grid import finite_array
from .hierarchy import Frozen
from .iterations import QUIET
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .problem import Poisson
from .reaction import LocalReaction, NonfiniteReactionError, NonlinearOperator, check_at_start
from .smoothers import own_copy
from .solving import ROUND_OFF, ProblemCycle, SolveOptions, solve_with

Array = NDArray[np.floating]
LEAST_DIAGONAL = 0.1  # of that of A: what a falling g leaves of it at least in a linearization that smooths
HALVINGS = 12  # of a Newton step
SHIFTS = (0.0, 1e-2)  # of the diagonal for a Newton step, relative to that of A: the second where the first does not help
ENOUGH = 1e-4  # of the decrease that a Newton step promises
COARSE_STEPS, COARSE_RTOL = 20, 1e-8  # of Newton's method on the coarsest level
FORCING = 0.1  # what the linear iterations of a Newton step leave of its residual
MOST_INNER = 10


@final
class LinearizedOperator(Operator):
    """A + S, S a diagonal matrix, in one precision."""

    def __init__(self, stencil: SymmetricStencil) -> None:
        self.stencil = stencil

    def tables(self, dtype: np.dtype) -> SymmetricStencil:
        """Return the stencil, which is in the precision of the arrays."""
        return self.stencil

    def __call__(self, u: Array) -> Array:
        return kernels.of(u).apply(u, self.stencil)

    def residual(self, b: Array, u: Array | None) -> Array:
        return b if u is None else kernels.of(b).residual(b, u, self.stencil)


@final
class LevelOperator(Operator):
    """A u + w g(u) on one level, boxes of three axes; A in symmetric form, w the volumes of what the unknowns stand for."""

    def __init__(self, linear: SymmetricOperator, weights: NDArray[np.float64], local: LocalReaction) -> None:
        self.linear, self.local = linear, local
        self._weights = {np.dtype(np.float64): weights}

    def weights(self, dtype: np.dtype) -> Array:
        """Return w in the precision of the arrays."""
        if dtype not in self._weights:
            self._weights[dtype] = self._weights[np.dtype(np.float64)].astype(dtype)
        return self._weights[dtype]

    def __call__(self, u: Array) -> Array:
        result = self.linear(u)
        result += self.weights(u.dtype) * self.local(u)
        return result

    def residual(self, b: Array, u: Array | None) -> Array:
        """Return b - A u - w g(u); None is u = 0."""
        u = np.zeros_like(b) if u is None else u
        result = self.linear.residual(b, u)
        result -= self.weights(u.dtype) * self.local(u)
        return result

    def slope(self, u: Array) -> Array:
        """Return w g'(u): the diagonal matrix that linearization adds to A."""
        return self.weights(u.dtype) * self.local.derivative(u)

    def linearized(self, slope: Array, shift: float = 0.0) -> LinearizedOperator:
        """Return A + S + shift D, D the diagonal of A."""
        stencil = self.linear.tables(slope.dtype)
        if shift:
            slope = slope + slope.dtype.type(shift) * stencil.diagonal
        diagonal = stencil.diagonal + slope
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal != 0.0)
        return LinearizedOperator(stencil._replace(excess=stencil.excess + slope, diagonal=diagonal, inverse=inverse))

    def limited(self, slope: Array) -> Array:
        """Return w g', less of it where g falls so steeply that the diagonal of A + w g' would nearly vanish."""
        return np.maximum(slope, (LEAST_DIAGONAL - 1.0) * self.linear.tables(slope.dtype).diagonal)

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid, as a box of three axes."""
        return self.linear.stencil.excess.shape


@final
@dataclass(frozen=True)
class PointwiseNewton(Smoother):
    """One Newton step per point, or per line: a sweep of a linear smoother for A u + S u = b - w g(u0) + S u0, S = w g'(u0)."""

    sweep: Smoother

    @property
    def cost(self) -> float:
        """Work of one call."""
        return self.sweep.cost

    def __call__(self, operator: LevelOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: LevelOperator, b: Array, u: Array) -> Array:
        slope = operator.limited(operator.slope(u))
        right = b - operator.weights(u.dtype) * operator.local(u)
        right += slope * u
        return self.sweep.overwrite(operator.linearized(slope), right, u)


@final
class CoarsestNewton(Smoother):
    """Newton's method with sparse direct solves and halved steps, until the residual has fallen far enough or does not fall."""

    def __call__(self, operator: LevelOperator, b: Array, u: Array | None) -> Array:
        u = np.zeros(b.shape) if u is None else u.astype(np.float64)
        data = b.astype(np.float64)
        norm = first = _norm(operator, data, u)
        for _ in range(COARSE_STEPS):
            improved, norm = _damped(operator, data, u, norm, partial(self._step, operator, data, u))
            if improved is u or norm <= COARSE_RTOL * first:
                return improved.astype(b.dtype)
            u = improved
        return u.astype(b.dtype)

    def _step(self, operator: LevelOperator, b: Array, u: Array, shift: float) -> Array:
        linear = operator.linearized(operator.slope(u), shift)
        return _direct(linear)(linear, operator.residual(b, u), None)


def _direct(linear: LinearizedOperator) -> Smoother:
    """Return the sparse direct solve of a level, or a sweep where the matrix is singular."""
    try:
        return Coarsest(linear.stencil, apart=False)
    except RuntimeError:
        return Points(1.0)


def _norm(operator: Operator, b: Array, u: Array) -> float:
    """Return the norm of the residual, infinity where g is not finite."""
    try:
        norm = kernels.of(b).norm(operator.residual(b, u))
    except NonfiniteReactionError:
        return math.inf
    return norm if math.isfinite(norm) else math.inf


def _damped(operator: Operator, b: Array, u: Array, norm: float, step: Callable[[float], Array]) -> tuple[Array, float]:
    """Return u + t step, t the first of 1, 1/2, 1/4, .. with which the residual falls, and its norm; u itself if none does.

    `step` is the Newton step for a given shift of the diagonal: zero at first, more where no part of that step helps, as when
    the linear problem is singular (all sides Neumann and g'(u) = 0, for example).
    """
    for shift in SHIFTS:
        whole, part = step(shift), 1.0
        for _ in range(HALVINGS):
            trial = u + u.dtype.type(part) * whole
            reached = _norm(operator, b, trial)
            if reached < (1.0 - ENOUGH * part) * norm:
                return trial, reached
            part /= 2.0
    return u, norm


@final
@dataclass(frozen=True, eq=False)
class AtCoarsePoints(StateTransfer):
    """The slot Pi: the values at the coarse points."""

    transfers: CoupledTransfers

    def __call__(self, u: Array) -> Array:
        table = self.transfers.tables(u.dtype)
        return u[np.ix_(*(table.children[axis, :n, 1] for axis, n in enumerate(table.weights.shape[1:])))]


@final
class FASLevel(SlotLevel, NestedLevel):
    """One level: a nonlinear operator, P and R of the linear one, and smoothing by Newton steps.

    Full multigrid restricts b, boundary values folded in, by P^T: that is the right-hand side of the coarse operator P^T A P.
    """

    operator: LevelOperator

    def __init__(self, operator: LevelOperator, linear: CoupledLevel) -> None:
        self.operator, self.linear = operator, linear
        self.smoother: Smoother = CoarsestNewton()
        if isinstance(linear.smoother, Steps):
            self.smoother = Steps(PointwiseNewton(_not_relaxed(linear.smoother.step)), linear.smoother.count)
            self.state_transfer = AtCoarsePoints(linear.restriction.transfers)
            self.restriction, self.prolongation = linear.restriction, linear.prolongation
        self.post_smoother = self.smoother

    def __repr__(self) -> str:
        return f"<FASLevel: {self.linear!r}>"

    def right_hand_side(self, f: Array) -> Array:
        return f

    def nested_restriction(self, f: Array) -> Array:
        return self.restriction(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self.prolongation(u)

    def linearized(self, u: Array, shift: float) -> CoupledLevel:
        """Return the level of the linear problem at u, fit for smoothing, its diagonal shifted."""
        operator: Any = self.operator.linearized(self.operator.limited(self.operator.slope(u)), shift)
        smoother = self.linear.smoother
        if not isinstance(smoother, Steps):
            return CoupledLevel(operator, _direct(operator), None)
        return CoupledLevel(operator, smoother, self.linear.restriction.transfers)


def _not_relaxed(sweep: Smoother) -> Smoother:
    """Return a sweep without over-relaxation, with which Newton steps for e^u diverge."""
    return Points(1.0) if isinstance(sweep, Points) else sweep


def levels_of(problem: Poisson, smoother: str, steps: int, max_levels: int | None) -> tuple[FASLevel, ...]:
    """Return the levels for a problem, finest first."""
    operator: NonlinearOperator = problem.operator
    linear = copy(problem)
    linear.operator = operator.linear
    shape = (1,) * (3 - problem.grid.ndim) + problem.shape
    weights = np.ones(shape) if linear.operator.volumes is None else linear.operator.volumes.reshape(shape)
    if operator.local.absent is not None:
        weights = np.where(operator.local.absent.reshape(shape), 0.0, weights)
    fields = tuple(np.ascontiguousarray(field).reshape(shape) for field in operator.local.fields)
    levels = []
    for level in linear_levels(linear, smoother, steps, max_levels):
        absent = None if weights.all() else weights == 0.0
        local = LocalReaction(operator.nonlinear, fields, absent)
        levels.append(FASLevel(LevelOperator(level.operator, weights, local), level))
        if isinstance(level.smoother, Steps):
            sums = [level.restriction(np.ascontiguousarray(weights * field)) for field in fields]
            weights = np.maximum(level.restriction(weights), 0.0)
            fields = tuple(np.divide(each, weights, out=np.zeros_like(each), where=weights > 0.0) for each in sums)
    return tuple(levels)


@final
@dataclass(frozen=True, eq=False)
class LinearCycle(MultigridCycle):
    """Linear levels and how they are visited."""

    levels: Sequence[CoupledLevel]
    kind: str


class NonlinearCycle(Frozen, ProblemCycle):
    """What both cycles for A u + g(u) = f share: levels, checks, and how one source is solved for."""

    is_stencil = False
    solves_itself = True
    levels: tuple[FASLevel, ...]
    smoother: str
    steps: int

    def _set(
        self, problem: Poisson, cycle: str, smoother: str, steps: int, max_levels: int | None
    ) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        if problem.nonlinear is None:
            raise TypeError(
                f"{type(self).__name__} is for a problem with reaction=unigrid.Nonlinear(g, derivative); for this one take "
                f"unigrid.{'GalerkinCycle' if problem.varies else 'StencilCycle'}(problem)"
            )
        choose(smoother, SMOOTHERS, "smoother")
        steps = checked_count("steps", steps, most=MOST_STEPS)
        max_levels = None if max_levels is None else checked_count("max_levels", max_levels)
        vars(self).update(
            problem=problem, kind=choose(cycle, VISITS, "cycle"), smoother=smoother, steps=steps,
            levels=levels_of(problem, smoother, steps, max_levels),
        )  # fmt: skip

    def __repr__(self) -> str:
        lines = "\n".join(f"  {level!r}" for level in self.levels)
        return f"<{type(self).__name__}: {self.name}, {self.problem.nonlinear!r}\n{lines}>"

    @property
    def name(self) -> str:
        """The kind of cycle, and its steps: V(2,2), for example."""
        return f"{self.kind}({self.steps},{self.steps})"

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the grids, finest first."""
        return tuple(level.operator.shape[3 - self.problem.grid.ndim :] for level in self.levels)

    @abstractmethod
    def improved(self, b: Array, u: Array | None, at: int = 0) -> Array:
        """Return u after one iteration on level `at`; boxes of three axes, b times the volumes."""

    def __call__(self, b: Array, u: Array | None = None) -> Array:
        """Return u after one iteration for A u + g(u) = b; None is zero."""
        box = self.levels[0].operator.shape
        return self.improved(self._integrated(b), None if u is None else u.reshape(box)).reshape(b.shape)

    def _integrated(self, b: Array) -> Array:
        integrated: Array = self.problem.operator.linear.integrated(b)
        return integrated.reshape(self.levels[0].operator.shape)

    def solve(self, f: Any, **options: Any) -> Solution:
        """Return the Solution for a source f. Options as of `unigrid.solve`."""
        return solve_with(self, f, SolveOptions.of(options, type(self).solve, f"{type(self).__name__}.solve"))

    def symmetric(self) -> NoReturn:
        """Refuse: it is not linear."""
        raise ValueError(
            "accelerate='cg' is for linear problems, and this reaction is Nonlinear; cycle='newton' accelerates the linear problem "
            "of each step"
        )

    def for_one_pass(self) -> NoReturn:
        """Refuse: full multigrid interpolates linearly here."""
        raise ValueError("rtol='discretization' is for linear problems, and this reaction is Nonlinear; give a number")

    def solve_one(self, f: Array, u: Array | None, tolerance: Tolerance, options: SolveOptions) -> Solution:
        """Solve for one source, to a residual ||b - A u - g(u)|| relative to that of u = 0."""
        if options.accelerate == "cg":
            self.symmetric()
        if options.precision == "mixed":
            raise ValueError("precision='mixed' is for linear problems, and this reaction is Nonlinear; leave it out")
        problem, operator = self.problem, self.problem.operator
        b = problem.folded(finite_array(f, "f"))
        start = np.zeros_like(b) if u is None else problem.emptied(u)
        check_at_start(operator, start)
        unit = _norm(operator, b, np.zeros_like(b))
        if u is not None and not 0.0 < unit < math.inf:  # zero is a solution, but not the one looked for, or g(0) is infinite
            unit = operator.residual_norm(b, start)
        if not math.isfinite(unit):
            raise ValueError("the residual of the start leaves the range of numbers; scale f, or give another u0")

        def round_off(state: Array | None) -> float:
            eps, size = float(np.finfo(b.dtype).eps), 0.0 if state is None else operator.magnitude(state)
            return ROUND_OFF * eps * (size + kernels.of(b).norm(b))

        def view(state: Array) -> Array:
            shown = problem.filled(state).view()
            shown.flags.writeable = False
            return shown

        system = System(
            b, lambda state: unit if state is None else operator.residual_norm(b, state), round_off, view=view, zero=start.copy
        )
        nested = partial(self._nested, b) if u is None and options.start == "fmg" else None
        iteration = Guarded(self, system, nested)
        solution = iterate(iteration, None if u is None else start, system, tolerance, options.callback)
        failed = not solution.converged and solution.reason is not Reason.STOPPED
        notes = [solution.message, iteration.fault, *([ADVICE] if failed else [])]
        return replace(solution, u=problem.filled(solution.u), message=" ".join(note for note in notes if note))

    def _nested(self, b: Array) -> Array:
        return self.nested(self._integrated(b)).reshape(b.shape)


ADVICE = (
    "The equation may have no solution (beyond a fold: -Laplace(u) = lambda e^u has none on the unit square for lambda > 6.81), "
    "or the start is too far from one: give u0, approach the parameter in steps, each from the last solution, take "
    "cycle='newton', whose steps are damped, or make time steps, u/dt added to g and u_old/dt to f."
)


@final
class Guarded(Iteration):
    """A cycle, repeated; where g is not finite, the residual is NaN, and `fault` tells where that happened."""

    def __init__(self, cycle: NonlinearCycle, system: System, nested: Callable[[], Array] | None) -> None:
        self._cycle, self._system, self._nested = cycle, system, nested
        self.nested_start, self.fault = nested is not None, ""

    def start(self, u: Array | None) -> None:
        self._u, self._first = u, self._nested

    def step(self, look_ahead: bool) -> float:
        first, self._first = self._first, None
        try:
            with np.errstate(**QUIET):
                u = self._cycle(self._system.b, self._u) if first is None else first()
                norm = self._system.residual_norm(u)
        except NonfiniteReactionError as error:
            self.fault = f"{error}."
            return math.nan
        if math.isfinite(norm):
            self._u = u
        return norm

    def current(self) -> Array | None:
        return self._u

    @property
    def state(self) -> Array | None:
        return self._u


@final
class FASCycle(NonlinearCycle):
    """The full approximation scheme for -div(a grad u) + g(u) = f.

    Calling it, `cycle(b, u)`, returns u after one cycle for A u + g(u) = b. `solve(f)` iterates. Coarse levels have the nonlinear
    problem itself, P^T A P u' + w' g(u') = b', in place of a linear one for a correction; the coarsest, of at most 1000
    unknowns, is solved by Newton's method: near a fold a much coarser problem need have no solution.

    Parameters
    ----------
    problem : Poisson
        With `reaction=Nonlinear(g, derivative)`.
    cycle : "V", "W" or "F"
    smoother : "auto", "points" or "lines"
        Newton steps at one point after the other by colors, or on zebra lines, as of `GalerkinCycle`.
    steps : int
        Sweeps before and after the coarse-grid correction.
    max_levels : int, optional

    Raises
    ------
    TypeError, ValueError
        For a problem that is linear, and names or numbers that are not as above.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> cubic = unigrid.Nonlinear(lambda u: 100 * u**3, lambda u: 300 * u**2)
    >>> cycle = unigrid.FASCycle(unigrid.Poisson((63, 63), reaction=cubic))
    >>> cycle.solve(np.ones((63, 63))).converged
    True

    Source: A. Brandt, Multi-level adaptive solutions to boundary-value problems, Math. Comp. 31 (1977), section 5.
    """

    @reject_unknown_keywords
    def __init__(
        self, problem: Poisson, *, cycle: str = "V", smoother: str = "auto", steps: int = 2, max_levels: int | None = None
    ) -> None:
        self._set(problem, cycle, smoother, steps, max_levels)

    def improved(self, b: Array, u: Array | None, at: int = 0) -> Array:
        return self.cycle(b, u, at=at)


@final
class NewtonCycle(NonlinearCycle):
    """Newton's method for -div(a grad u) + g(u) = f, its linear problems solved by multigrid to a tenth of the residual.

    Calling it, `cycle(b, u)`, returns u after one step: u + t d with (A + g'(u)) d = b - A u - g(u), about, and t = 1, 1/2, 1/4,
    .., the first with which the residual falls. d comes of generalized conjugate residuals, preconditioned by one cycle; these
    minimize the linear residual, so that d is a direction of descent, and need neither symmetry nor g' >= 0.

    Parameters
    ----------
    problem, cycle, smoother, steps, max_levels
        As of `FASCycle`; of the cycles for the linear problems.

    Raises
    ------
    TypeError, ValueError
        As of `FASCycle`.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> bratu = unigrid.Nonlinear(lambda u: -6.8 * np.exp(u), lambda u: -6.8 * np.exp(u))
    >>> cycle = unigrid.NewtonCycle(unigrid.Poisson((63, 63), reaction=bratu))
    >>> round(float(cycle.solve(np.zeros((63, 63))).u.max()), 2)
    1.32

    Source: R. Dembo, S. Eisenstat, T. Steihaug, Inexact Newton methods, SIAM J. Numer. Anal. 19 (1982); S. Eisenstat, H. Elman,
    M. Schultz, Variational iterative methods for nonsymmetric systems of linear equations, SIAM J. Numer. Anal. 20 (1983).
    """

    @reject_unknown_keywords
    def __init__(
        self, problem: Poisson, *, cycle: str = "V", smoother: str = "auto", steps: int = 2, max_levels: int | None = None
    ) -> None:
        self._set(problem, cycle, smoother, steps, max_levels)

    def improved(self, b: Array, u: Array | None, at: int = 0) -> Array:
        u = np.zeros_like(b) if u is None else u
        operator = self.levels[at].operator
        residual = operator.residual(b, u)
        norm = kernels.of(b).norm(residual)

        def step(shift: float) -> Array:
            linear = operator.linearized(operator.slope(u), shift)
            return _conjugate_residuals(linear, self._linear(u, shift, at).cycle, residual, FORCING * norm)

        return _damped(operator, b, u, norm, step)[0]

    def _linear(self, u: Array, shift: float, at: int) -> LinearCycle:
        """Return the cycle for the linear problem at u."""
        levels = []
        for level in self.levels[at:]:
            levels.append(level.linearized(u, shift))
            u = u if level is self.levels[-1] else level.state_transfer(u)
        return LinearCycle(levels, self.kind)

    def nested(self, f: Array, at: int = 0) -> Array:
        """Solve the coarser problem, interpolate its solution, improve it by one step."""
        level = self.levels[at]
        if at + 1 == len(self.levels):
            return level.smoother(level.operator, f, None)
        return self.improved(f, level.nested_prolongation(self.nested(level.nested_restriction(f), at + 1)), at)


def _conjugate_residuals(operator: Operator, cycle: Callable[[Array], Array], residual: Array, target: float) -> Array:
    """Return d with ||r - A d|| <= target, or after MOST_INNER iterations, the smallest that they reach."""
    inner = kernels.of(residual).weighted_inner
    ones = [np.ones(n) for n in residual.shape]
    solution, images = np.zeros_like(residual), []
    for _ in range(MOST_INNER):
        direction = cycle(residual)
        image = operator(direction)
        for other, its_image in images:
            part = image.dtype.type(inner(image, its_image, ones))
            direction, image = direction - part * other, image - part * its_image
        norm = kernels.of(image).norm(image)
        if not norm > 0.0 or not math.isfinite(norm):
            break
        direction, image = direction / image.dtype.type(norm), image / image.dtype.type(norm)
        images.append((direction, image))
        part = image.dtype.type(inner(residual, image, ones))
        solution, residual = solution + part * direction, residual - part * image
        if kernels.of(residual).norm(residual) <= target:
            break
    return solution
