"""Black box multigrid: coarse operators and transfers made of the fine operator, for coefficients that vary.

Coarse points are every second point along the strong axes, whatever the sides and the size. P follows from the couplings, so
that a correction's flux is about continuous across a jump; R = P^T; the coarse operator is P^T A P, its row sums carried apart.

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import math
from copy import copy
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import MOST_STEPS, VISITS, Descent, Level, NestedLevel, SlotLevel, Smoother, Steps
from ..iterate import Iteration
from ..messages import checked_count, choose, lists_options, reject_unknown_keywords
from ..solution import Solution
from .coarsening import (
    CoupledTransfers,
    Interpolation,
    Transposed,
    coarse_points,
    coarsened,
    guided,
    needs_lines,
    strong_axes,
    without_rows,
)
from .coupled import CoupledOperator, SymmetricOperator, matrix_of, shifted
from .grid import Axis
from .helmholtz import check_direct, check_waves, is_unresolved
from .hierarchy import Frozen
from .iterations import SINGLE, Run
from .kernels.cpu import coupled
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .kernels.cpu.fused_points import FusedPoints
from .problem import Poisson
from .relaxation import OMEGA, Lines, Points
from .solving import ProblemCycle, SolveOptions, check_arrays, solve_with
from .windows import Window

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
SMOOTHERS = ("auto", "points", "lines")
# Bent channels with Neumann sides, 255^2, take 27 iterations where coarsening ends at 200 unknowns, 11 at 400, 8 to 11 at 1000.
COARSEST_UNKNOWNS = 1000
# On stretched grids coarse levels lose more, as distances on them grow by larger factors: tanh 1 : 1000 on both axes, Neumann
# cells, 511^2 and 1023^2, 19 and 31 iterations with the former bound, 6 and 10 with this one, and less time from 250^2 on.
COARSEST_STRETCHED = 5000
SINGLE_FROM = 128**2  # unknowns from which cycles in single precision are faster
MOST_FUSED = 16  # steps in one pass: every part of a grid computes two slabs per step beyond its own


@final
class Coarsest(Smoother):
    """The direct solve of the coarsest level, without the constant part of the solution where that is found apart.

    `pinned` points, one on each singular component, are held by a spring: it stays at rest where the component has a solution,
    and determines the constant.
    """

    def __init__(self, stencil: SymmetricStencil, apart: bool, pinned: NDArray[np.intp] | None = None) -> None:
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve
        from scipy.sparse.linalg import splu

        matrix: Any = matrix_of(stencil)
        if pinned is not None:
            springs = np.zeros(matrix.shape[0])
            springs[pinned] = stencil.diagonal.max() or 1.0
            matrix = matrix + sparse.diags_array(springs)
        if apart:  # bordered with the constant, the matrix is regular however small c is
            ones = np.ones((matrix.shape[0], 1))
            matrix = sparse.block_array([[matrix, ones], [ones.T, None]])
        self._added = int(apart)
        self._solve = splu(sparse.csc_matrix(matrix)).solve

    def __call__(self, operator: Any, b: Array, u: Array | None) -> Array:
        right = np.zeros(b.size + self._added)
        right[: b.size] = b.ravel()
        return self._solve(right)[: b.size].reshape(b.shape).astype(b.dtype)  # type: ignore[no-any-return]


@final
class CoupledLevel(SlotLevel, NestedLevel):
    """One level: a symmetric operator, P and R made of it, and its smoothing.

    Post-smoothing repeats pre-smoothing, not its adjoint: the cycle is then no symmetric operator, which flexible conjugate
    gradients tolerate, and reduces the error by .023 in place of .13 (Poisson, 127^2, two sweeps on either side).
    """

    operator: SymmetricOperator

    def __init__(self, operator: SymmetricOperator, smoother: Smoother, transfers: CoupledTransfers | None) -> None:
        self.operator, self.smoother, self.post_smoother = operator, smoother, smoother
        self.state_transfer = None
        if transfers is not None:
            self.restriction, self.prolongation = Transposed(transfers), Interpolation(transfers, operator.stencil.excess.shape)

        self._transfers = transfers

    @cached_property
    def fused(self) -> FusedPoints | None:
        """The half-cycles for these slots in one pass over memory each, where there are any."""
        steps, transfers = self.smoother, self._transfers
        if transfers is None or not isinstance(steps, Steps) or not isinstance(steps.step, Points) or steps.count > MOST_FUSED:
            return None
        made = self.operator.stencil, transfers.tables(np.dtype(np.float64))
        return FusedPoints(*made, steps.step.omega, 2 * steps.count) if FusedPoints.serves(*made) else None

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        if self.fused is None:
            return super().descend(b, u, coarser)
        return *self.fused.descend(b, u), None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        return super().ascend(b, u, start, coarse) if self.fused is None else self.fused.ascend(b, u, coarse)

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid, as a box of three axes."""
        return self.operator.stencil.excess.shape

    def right_hand_side(self, f: Array) -> Array:
        return f

    def nested_restriction(self, f: Array) -> Array:
        return self.restriction(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self.prolongation(u)  # type: ignore[misc, no-any-return]

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.shape if n > 1) or "1"
        return f"<CoupledLevel: {shape} unknowns, {type(getattr(self.smoother, 'step', self.smoother)).__name__}>"


def levels_of(problem: Poisson, smoother: str, steps: int, max_levels: int | None) -> list[CoupledLevel]:
    """Return the levels for a problem, finest first."""
    operator = problem.coupled_operator
    fine, stencil, guide = operator.symmetric, operator.conducting.stencil, _guide(operator.conducting)
    void = None if problem.domain is None else problem.domain.void
    levels: list[CoupledLevel] = []
    if problem.has_waves:
        check_waves(problem)
    sides: list[Axis | None] = [None] * (3 - operator.grid.ndim) + list(operator.grid.axes)
    stretched = operator.grid.ndim == 2 and any(axis.distances for axis in operator.grid.axes)
    smallest = COARSEST_STRETCHED if stretched else COARSEST_UNKNOWNS
    while stencil.excess.size > smallest and (max_levels is None or len(levels) + 1 < max_levels):
        strong = strong_axes(stencil)
        if not any(strong):
            break
        by_lines = smoother == "lines" or (smoother == "auto" and needs_lines(stencil, strong))
        points = [
            coarse_points(n, axis, is_strong) for n, axis, is_strong in zip(stencil.excess.shape, sides, strong, strict=True)
        ]
        if guide is None:
            transfer, coarse = coarsened(stencil, points)
        else:
            transfer, coarse, guide = guided(guide, stencil, points)
        if not levels and void is not None:
            transfer = without_rows(transfer, void)
        if problem.has_waves and is_unresolved(coarse):
            break
        levels.append(CoupledLevel(fine, _smoother(stencil.excess.shape, by_lines, steps), CoupledTransfers(transfer)))
        fine, stencil = SymmetricOperator(coarse), coarse
    if problem.has_waves:
        check_direct(stencil)
    if void is None:
        coarsest = Coarsest(stencil, problem.has_constant_apart)
    elif levels:
        coarsest = Coarsest(stencil, not stencil.excess.any())
    else:
        pinned = problem.parts.first_points if problem.parts is not None and problem.singular else None
        coarsest = Coarsest(fine.stencil, False, pinned)
    return [*levels, CoupledLevel(fine, coarsest, None)]


def _guide(operator: CoupledOperator) -> SymmetricStencil | None:
    """Return the stencil that P follows from where that is not the operator's own: without what passes weak Robin sides.

    On a line that couples strongly, the whole line loses what its end gives off; the end's own stencil, in which that may be
    more than what couples it to its neighbors across, would interpolate by decay. (Geometric distances 1 : 1000 on both axes,
    250^2, alpha = 3: 37 iterations, with a guide 7.)
    """
    guide = operator.without_weak_sides
    if guide is operator or not needs_lines(operator.stencil, strong_axes(operator.stencil)):
        return None
    return guide.stencil


def _smoother(shape: tuple[int, ...], by_lines: bool, steps: int) -> Smoother:
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    if by_lines and len(axes) > 1:
        along = tuple(reversed([axis for axis in axes if axis > 0]))
        return Steps(Lines(along), max(1, steps // 2))
    return Steps(Points(OMEGA[max(len(axes), 1)]), steps)


@final
class GalerkinCycle(Frozen, ProblemCycle):
    """Black box multigrid for a `Poisson` problem with coefficients: coarse operators and transfers follow from the fine one.

    Calling it, `cycle(b, u)`, returns u after one cycle for A u = b. `solve(f)` iterates, by default conjugate gradients with
    one cycle as preconditioner.

    Parameters
    ----------
    problem : Poisson
    cycle : "V", "W" or "F"
    smoother : "auto", "points" or "lines"
        Colored Gauss-Seidel, or zebra line relaxation along each axis in turn; "auto" takes lines on levels where the strong
        axis changes from place to place.
    steps : int
        Point sweeps before and after the coarse-grid correction; half as many of lines.
    max_levels : int, optional

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> problem = unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + 999 * (x > 0.5))
    >>> unigrid.GalerkinCycle(problem).solve(np.ones((63, 63))).converged
    True

    Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
    """

    is_stencil = False
    accelerated = True
    problem: Poisson
    levels: tuple[CoupledLevel, ...]
    smoother: str
    steps: int
    max_levels: int | None
    origin: GalerkinCycle | None  # whose set-up `with_reaction` kept

    @reject_unknown_keywords
    def __init__(
        self, problem: Poisson, *, cycle: str = "V", smoother: str = "auto", steps: int = 2, max_levels: int | None = None
    ) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        if problem.nonlinear is not None:
            raise TypeError(
                "this problem is nonlinear; unigrid.FASCycle(problem) and unigrid.NewtonCycle(problem) are for those"
            )
        choose(smoother, SMOOTHERS, "smoother")
        steps = checked_count("steps", steps, most=MOST_STEPS)
        max_levels = None if max_levels is None else checked_count("max_levels", max_levels)
        window = Window.of(problem)
        inner = window and GalerkinCycle(window.inner, cycle=cycle, smoother=smoother, steps=steps, max_levels=max_levels)
        levels = inner.levels if inner else tuple(levels_of(problem, smoother, steps, max_levels))
        vars(self).update(
            problem=problem, kind=choose(cycle, VISITS, "cycle"), levels=levels, smoother=smoother,
            steps=steps, max_levels=max_levels, origin=None, window=window and (window, inner),
        )  # fmt: skip

    def __reduce__(self) -> Any:
        options: dict[str, Any] = {
            "cycle": self.kind,
            "smoother": self.smoother,
            "steps": self.steps,
            "max_levels": self.max_levels,
        }
        return partial(GalerkinCycle, **options), (self.problem,)  # the factors of the coarsest level cannot be pickled

    def rebound(self, problem: Poisson) -> GalerkinCycle:
        """Return this cycle for a problem that differs in its boundary values alone."""
        other = copy(self)
        vars(other)["problem"] = problem
        if self.window is not None:
            window = self.window[0].rebound(problem)
            vars(other)["window"] = window, self.window[1].rebound(window.inner)
        return other

    def __repr__(self) -> str:
        lines = "\n".join(f"  {level!r}" for level in self.levels)
        return f"<GalerkinCycle: {self.kind}-cycle, smoother {self.smoother!r}\n{lines}>"

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the grids, finest first."""
        ndim = self.problem.grid.ndim
        return tuple(level.shape[3 - ndim :] for level in self.levels)

    @property
    def pre(self) -> int:
        """Steps before the correction."""
        return self.steps

    @property
    def post(self) -> int:
        """Steps after the correction: as many."""
        return self.steps

    @property
    def post_smoother(self) -> str:
        """The smoother after the correction: the same."""
        return self.smoother

    @property
    def name(self) -> str:
        """The kind of cycle, and its steps: V(2,2), for example."""
        return f"{self.kind}({self.steps},{self.steps})"

    @property
    def title(self) -> str:
        """The kind of cycle and its smoothing, in words."""
        kinds = {type(level.smoother.step).__name__.lower() for level in self.levels[:-1] if isinstance(level.smoother, Steps)}
        return f"{self.name}, black box multigrid, smoothing by {' and '.join(sorted(kinds)) or 'a direct solve'}"

    @property
    def work_units(self) -> float:
        """Cost of one cycle in smoothing sweeps of the finest level, as of `StencilCycle`."""
        costs = [2.0 * level.smoother.cost for level in self.levels[:-1] if level.smoother is not None] + [1.0]
        sizes = [math.prod(shape) for shape in self.shapes]
        return sum(v * c * n for v, c, n in zip(self.visits(), costs, sizes, strict=True)) / sizes[0]

    @property
    def operator_complexity(self) -> float:
        """Couplings of all levels over those of the finest: the memory of the hierarchy."""
        stored = [level.operator.stencil.couplings.size for level in self.levels]
        return sum(stored) / stored[0]

    def __call__(self, b: Array, u: Array | None = None) -> Array:
        """Return u after one cycle for A u = b."""
        check_arrays(self.problem, b, u)
        if self.window is not None:
            window, inner = self.window
            return window.embedded(inner(window.source(b), None if u is None else window.cut_out(u)))
        operator = self.problem.coupled_operator
        correction = self._correction(operator.integrated(operator.residual(b, u)))
        return correction if u is None else u + correction

    def once(self, b: Array) -> Array:
        return self(b)

    def nested(self, f: Array, at: int = 0) -> Array:
        """Return full multigrid for a source f; right-hand sides, boundary values folded in, are restricted by P^T.

        It is a start that saves up to two iterations of conjugate gradients. It is less exact than the discretization where
        values on a side are not zero, as P takes them for zero.
        """
        if at > 0:
            return super().nested(f, at)  # type: ignore[no-any-return]
        b = self.problem.compatible(self.problem.folded(f))
        return self._nested(self.problem.coupled_operator.integrated(b))

    def _gradients(self, run: Run, precision: str, target: float) -> Iteration:
        """Return flexible conjugate gradients, whose cycles run in single precision where that is faster."""
        from .gradients import FlexibleGradients  # imported here: constant coefficients do without

        large = run.b.size >= SINGLE_FROM or precision == "mixed"
        # On free components of a mask, cycles leave constants of any size, beside which the rest would be lost in rounding.
        single = precision != "full" and large and self.problem.parts is None and self.problem.fits(SINGLE)
        start = self._nested if run.nested else None
        return FlexibleGradients(self._correction, run, SINGLE if single else run.b.dtype, target, start)

    def _correction(self, r: Array) -> Array:
        """Return one cycle from zero for the symmetric form."""
        return self.cycle(_boxed(r)).reshape(r.shape)

    def _nested(self, b: Array) -> Array:
        """Return full multigrid for the symmetric form."""
        return super().nested(_boxed(b)).reshape(b.shape)  # type: ignore[no-any-return]

    @lists_options(SolveOptions)
    def solve(self, f: ArrayLike, **options: Any) -> Solution:
        """Return the Solution for a source f; leading axes of f are independent right-hand sides.

        Options as of `unigrid.solve`.
        """
        return solve_with(self, f, SolveOptions.of(options, GalerkinCycle.solve, "GalerkinCycle.solve"))

    def with_reaction(self, reaction: float | ArrayLike) -> GalerkinCycle:
        """Return the cycle for another c, with P and the couplings of all levels kept: for time steps, c = 1/dt.

        On coarse levels the change of c is lumped, P^T V 1, as P^T V P is not diagonal; the finest operator is exact. P holds
        for every c above the one that it was made for, so that where this c is smaller, a first set-up for c = 0 is made, and
        kept by the cycle that is returned, for all that follow. Reactions below zero, order 4 and masks have their own set-ups.

        Examples
        --------
        >>> import numpy as np, unigrid
        >>> problem = unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + 999 * (x > 0.5))
        >>> step = unigrid.GalerkinCycle(problem).with_reaction(1 / 0.01)
        >>> step.solve(np.ones((63, 63)) / 0.01).converged
        True
        """
        origin, problem = self.origin or self, self.problem.with_reaction(reaction)
        same = {"cycle": self.kind, "smoother": self.smoother, "steps": self.steps, "max_levels": self.max_levels}
        if problem.has_waves or problem.order == 4 or problem.domain is not None:
            # Couplings depend on c, or levels on a window of the mask.
            return GalerkinCycle(problem, **same)  # type: ignore[arg-type]
        if np.any(problem.operator.reaction_field < origin.problem.operator.reaction_field):
            origin = GalerkinCycle(problem.with_reaction(0.0), **same)  # type: ignore[arg-type]
        cycle = GalerkinCycle.__new__(GalerkinCycle)
        vars(cycle).update(vars(self), problem=problem, levels=_with_reaction(origin, problem), origin=origin)
        return cycle

    def symmetric(self) -> GalerkinCycle:
        """Return this cycle: flexible conjugate gradients do without symmetry."""
        return self

    def for_one_pass(self) -> NoReturn:
        """Refuse: a pass of full multigrid is less exact than the discretization here."""
        raise ValueError(
            "rtol='discretization' is one pass of full multigrid, which needs constant coefficients; give a number"
        )


def _boxed(array: Array) -> Array:
    """Return an array as a box of three axes."""
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def _with_reaction(origin: GalerkinCycle, problem: Poisson) -> tuple[CoupledLevel, ...]:
    """Return the levels of a cycle for a problem that has more reaction."""
    added: Any = problem.coupled_operator.share_form(origin.problem.coupled_operator)
    operator, levels = problem.coupled_operator.symmetric, []
    for level, below in pairwise(origin.levels):
        transfers = level.restriction.transfers  # type: ignore[attr-defined]
        levels.append(CoupledLevel(operator, level.smoother, transfers))  # type: ignore[arg-type]
        added = coupled.restrict(added, transfers.tables(added.dtype))
        operator = SymmetricOperator(shifted(below.operator.stencil, added))
    return (*levels, CoupledLevel(operator, Coarsest(operator.stencil, problem.has_constant_apart), None))
