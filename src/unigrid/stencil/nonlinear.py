"""Cycles for A u + g(u) = f: the full approximation scheme, and Newton's method with multigrid inside.

Both have the levels of `fas`.

Source: A. Brandt, Multi-level adaptive solutions to boundary-value problems, Math. Comp. 31 (1977), section 5 (FAS);
R. Dembo, S. Eisenstat, T. Steihaug, Inexact Newton methods, SIAM J. Numer. Anal. 19 (1982).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn, Self, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MOST_STEPS, VISITS, MultigridCycle, Operator
from ..iterate import Iteration, System, Tolerance, iterate
from ..messages import checked_count, choose, reject_unknown_keywords, shown
from ..solution import Reason, Solution
from . import kernels
from .fas import FASLevel, damped, levels_of, linear_part, norm_of
from .galerkin_levels import CoupledLevel
from .galerkin_levels import levels_of as linear_levels
from .grid import finite_array
from .hierarchy import Frozen
from .iterations import QUIET, ROUND_OFF
from .problem import Poisson
from .reaction import NonfiniteReactionError, Nonlinear, NonlinearOperator, check_at_start
from .relaxation import NAMES
from .solving import ProblemCycle, SolveOptions

Array = NDArray[np.floating]
FORCING = 0.1  # what the linear iterations of a Newton step leave of its residual
MOST_INNER = 10


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

    def _set(self, problem: Poisson, cycle: str, smoother: str, steps: int, max_levels: int | None) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        if problem.nonlinear is None:
            raise TypeError(
                f"{type(self).__name__} is for a problem with reaction=unigrid.Nonlinear(g, derivative); for this one take "
                f"unigrid.{problem.cycle_name}(problem)"
            )
        choose(smoother, NAMES, "smoother")
        steps = checked_count("steps", steps, most=MOST_STEPS)
        max_levels = None if max_levels is None else checked_count("max_levels", max_levels)
        vars(self).update(
            problem=problem, kind=choose(cycle, VISITS, "cycle"), smoother=smoother, steps=steps,
            levels=levels_of(problem, linear_levels(linear_part(problem), smoother, steps, max_levels)),
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
    def _improved(self, b: Array, u: Array | None, at: int = 0) -> Array:
        """Return u after one iteration on level `at`; boxes of three axes, b times the volumes."""

    def __call__(self, b: Array, u: Array | None = None) -> Array:
        """Return u after one iteration for A u + g(u) = b; None is zero."""
        box = self.levels[0].operator.shape
        return self._improved(self._integrated(b), None if u is None else u.reshape(box)).reshape(b.shape)

    def _integrated(self, b: Array) -> Array:
        integrated: Array = self.problem.operator.linear.integrated(b)
        return integrated.reshape(self.levels[0].operator.shape)

    def with_reaction(self, reaction: Nonlinear) -> Self:
        """Return this cycle for another g: A, P and the coarse operators of A, most of the set-up, are kept.

        Raises TypeError for what is no Nonlinear.

        Examples
        --------
        >>> import numpy as np, unigrid
        >>> bratu = lambda s: unigrid.Nonlinear(lambda u: -s * np.exp(u), lambda u: -s * np.exp(u))
        >>> cycle, u = unigrid.FASCycle(unigrid.Poisson((63, 63), reaction=bratu(1.0))), None
        >>> for strength in (2.0, 4.0, 6.0):
        ...     u = cycle.with_reaction(bratu(strength)).solve(np.zeros((63, 63)), u0=u).u
        >>> round(float(u.max()), 2)
        0.8
        """
        if not isinstance(reaction, Nonlinear):
            raise TypeError(f"reaction must be a unigrid.Nonlinear, got {shown(reaction)}")
        problem, cycle = linear_part(self.problem), type(self).__new__(type(self))
        problem.operator = NonlinearOperator(problem.operator, reaction)
        levels = levels_of(problem, [level.linear for level in self.levels])
        vars(cycle).update(vars(self), problem=problem, levels=levels)
        return cycle

    def symmetric(self) -> NoReturn:
        """Refuse: it is not linear."""
        raise ValueError(
            "accelerate='cg' is for linear problems, and this reaction is Nonlinear; cycle='newton' accelerates the linear "
            "problem of each step"
        )

    def for_one_pass(self) -> NoReturn:
        """Refuse: full multigrid interpolates linearly here."""
        raise ValueError("rtol='discretization' is for linear problems, and this reaction is Nonlinear; give a number")

    def solve_one(self, f: Array, u: Array | None, tolerance: Tolerance, options: SolveOptions) -> Solution:
        """Solve for one source, to a residual ||b - A u - g(u)|| relative to that of u = 0."""
        if options.has_method:
            self.symmetric()
        if options.precision == "mixed":
            raise ValueError("precision='mixed' is for linear problems, and this reaction is Nonlinear; leave it out")
        problem, operator = self.problem, self.problem.operator
        b = problem.folded(finite_array(f, "f"))
        start = np.zeros_like(b) if u is None else problem.emptied(u)
        check_at_start(operator, start)
        unit, symbol = norm_of(operator, b, np.zeros_like(b)), "||b - g(0)||"
        if u is not None and not 0.0 < unit < math.inf:  # zero is a solution, but not the one looked for, or g(0) is infinite
            unit, symbol = operator.residual_norm(b, start), "||b - A u0 - g(u0)||"
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
        message = " ".join(
            note for note in (solution.message.replace("||b||", symbol), iteration.fault, _advice(solution.reason)) if note
        )
        return replace(solution, u=problem.filled(solution.u), message=message)

    def _nested(self, b: Array) -> Array:
        return self.nested(self._integrated(b)).reshape(b.shape)


def _advice(reason: Reason) -> str:
    """Return what helps where the iteration has failed."""
    if reason in (Reason.CONVERGED, Reason.STOPPED):
        return ""
    if reason is Reason.MAXITER:
        return "Where cycles converge slowly, as for coefficients that jump, take cycle='newton', which accelerates them."
    return (
        "There may be no solution (-Laplace(u) = lambda e^u on the unit square has none beyond its fold, lambda = 6.81), or "
        "the start is too far from one: give u0, approach a parameter in steps, each from the last solution, take "
        "cycle='newton', whose steps are damped, make time steps (u/dt added to g, u_old/dt to f), or coarsen less, by "
        "FASCycle(problem, max_levels=2)."
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

    Calling it, `cycle(b, u)`, returns u after one cycle for A u + g(u) = b. `solve(f)` iterates. Coarse levels have the
    nonlinear problem itself, P^T A P u' + w' g(u') = b', in place of a linear one for a correction. The coarsest, of at most
    1000 unknowns, is solved by Newton's method: near a fold a much coarser problem need not have a solution.

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

    def _improved(self, b: Array, u: Array | None, at: int = 0) -> Array:
        return self.cycle(b, u, at=at)


@final
class NewtonCycle(NonlinearCycle):
    """Newton's method for -div(a grad u) + g(u) = f, its linear problems solved by multigrid to a tenth of the residual.

    Calling it, `cycle(b, u)`, returns u after one step: u + t d with (A + g'(u)) d = b - A u - g(u), about, and t the first of
    1, 1/2, 1/4, .. with which the residual falls. d is the result of a few iterations of generalized conjugate residuals with
    one cycle as preconditioner. They minimize the linear residual, so that d is a direction of descent, and need neither
    symmetry nor g' >= 0.

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

    def _improved(self, b: Array, u: Array | None, at: int = 0) -> Array:
        u = np.zeros_like(b) if u is None else u
        operator = self.levels[at].operator
        residual = operator.residual(b, u)
        norm = kernels.of(b).norm(residual)

        def step(shift: float) -> Array:
            slope = operator.slope(u, shift)
            return _conjugate_residuals(operator.linearized(slope), self._linear(slope, at).cycle, residual, FORCING * norm)

        return damped(operator, b, u, norm, step, self.levels[-1].operator.shift)[0]

    def _linear(self, slope: Array, at: int) -> LinearCycle:
        """Return the cycle for A + S from level `at` down; on coarser levels S is P^T S, its rows summed up."""
        levels = []
        for level in self.levels[at:]:
            levels.append(level.linearized(slope))
            slope = slope if level is self.levels[-1] else level.restriction(slope)
        return LinearCycle(levels, self.kind)

    def nested(self, f: Array, at: int = 0) -> Array:
        """Solve the coarser problem, interpolate its solution, improve it by one step."""
        level = self.levels[at]
        if at + 1 == len(self.levels):
            return level.smoother(level.operator, f, None)
        return self._improved(f, level.nested_prolongation(self.nested(level.nested_restriction(f), at + 1)), at)


def _conjugate_residuals(operator: Operator, cycle: Callable[[Array], Array], residual: Array, target: float) -> Array:
    """Return d with ||r - A d|| <= target, or after MOST_INNER iterations, the smallest that they reach."""
    inner = kernels.of(residual).weighted_inner
    ones = [np.ones(n) for n in residual.shape]
    solution = np.zeros_like(residual)
    images: list[tuple[Array, Array]] = []
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
