"""Black box multigrid: coarse operators and transfers made of the fine operator, for coefficients that vary.

Coarse points are every second point along the strong axes, whatever the sides and the size. P follows from the couplings, so
that a correction's flux is about continuous across a jump; R = P^T; the coarse operator is P^T A P, its row sums carried apart.

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import VISITS, MultigridCycle, Smoother, Steps
from ..iterate import Iteration
from ..messages import checked_count, choose, reject_unknown_keywords
from .coupled import SymmetricOperator, shifted
from .galerkin_levels import Coarsest, CoupledLevel, levels_of, repeats_of
from .hierarchy import Frozen, checked_level
from .iterations import SINGLE, Run
from .kernels.cpu import coupled
from .problem import Poisson
from .relaxation import Lines, checked_smoother, checked_steps, level_slot
from .smoothers import sweeps_of
from .solving import ProblemCycle, check_arrays
from .windows import Window

Array = NDArray[np.floating]
SINGLE_FROM = 128**2  # unknowns from which cycles in single precision are faster
KINDS = ("auto", *VISITS)


class Revisiting(MultigridCycle):
    """A cycle of kind "auto" visits each level as often as it needs it."""

    repeats: tuple[int, ...]  # of the visits of each level, where the cycle is "auto"

    def visit(self, b: Array, u: Array | None, kind: str, at: int) -> Array:
        if kind != "auto":
            return super().visit(b, u, kind, at)
        improved: Any = u
        for _ in range(self.repeats[at]):
            improved = self.cycle(b, improved, kind, at)
        return improved  # type: ignore[no-any-return]

    def visits(self) -> list[int]:
        return list(itertools.accumulate(self.repeats, mul)) if self.kind == "auto" else super().visits()


@final
class GalerkinCycle(Frozen, Revisiting, ProblemCycle):
    """Black box multigrid for a `Poisson` problem with coefficients: coarse operators and transfers follow from the fine one.

    Calling it, `cycle(b, u)`, returns u after one cycle for A u = b. `solve(f)` iterates, by default conjugate gradients with
    one cycle as preconditioner.

    Parameters
    ----------
    problem : Poisson
    cycle : "auto", "V", "W" or "F"
        "auto" visits a level twice where it is rough, or small and couplings differ a hundredfold, as long as all axes are
        coarsened; else once.
    smoother : "auto", "points", "lines", unigrid.Points(omega), unigrid.Lines(axes), unigrid.RedBlack(omega), or your own
        Gauss-Seidel by colors, or zebra line relaxation along each axis in turn. "auto" takes points, but where a level is
        rough: where, there or on the next coarser level, one coarsened axis couples ten times weaker than another one at more
        than a thousandth of the points (3-D: a fifth), and on all levels below. There it takes lines if a thousandth of the
        points are in lines of five such points or more, or differ 5000-fold; else, as in 2-D for coefficients that vary at
        random, many steps of points with omega 1.85. Your own is an object of a subclass of `Smoother`: its `operator`, with
        `residual(b, u)` and `diagonal()`, is A times the volumes of the cells, which is symmetric.
    steps : int or (int, int), optional
        Steps of the smoother before and after the coarse-grid correction: by default two, of lines one. "auto" makes half as
        many of lines, and seven times as many where coefficients vary at random.
    max_levels : int, optional

    Raises
    ------
    TypeError, ValueError
        For what is none of these.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> problem = unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + 999 * (x > y))
    >>> cycle = unigrid.GalerkinCycle(problem)
    >>> cycle.solve(np.ones((63, 63))).converged
    True
    >>> cycle
    <GalerkinCycle: V(2,2), black box multigrid, smoothing by points
      63 x 63 unknowns, stencil of 5 points: 2 x points, omega 1.15
      31 x 31 unknowns, 9 points, coarsened along x, y: direct solve>

    Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
    """

    is_stencil = False
    accelerated = True
    problem: Poisson
    levels: tuple[CoupledLevel, ...]
    smoother: str | Smoother
    pre: int
    post: int
    max_levels: int | None
    window: tuple[Window, GalerkinCycle] | None
    origin: GalerkinCycle | None  # whose set-up `with_reaction` kept
    _spoiling = False  # whether rounding in single precision would spoil cycles

    @reject_unknown_keywords
    def __init__(
        self,
        problem: Poisson,
        *,
        cycle: str = "auto",
        smoother: str | Smoother = "auto",
        steps: int | tuple[int, int] | None = None,
        max_levels: int | None = None,
    ) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        if problem.nonlinear is not None:
            raise TypeError(
                "this problem is nonlinear; unigrid.FASCycle(problem) and unigrid.NewtonCycle(problem) are for those"
            )
        chosen = checked_smoother(smoother, problem.grid.ndim)
        pair = checked_steps(steps, 1 if chosen == "lines" or isinstance(chosen, Lines) else 2)
        max_levels = None if max_levels is None else checked_count("max_levels", max_levels)
        choose(cycle, KINDS, "cycle")
        window = Window.of(problem)
        inner = window and GalerkinCycle(window.inner, cycle=cycle, smoother=chosen, steps=pair, max_levels=max_levels)
        levels = inner.levels if inner else tuple(levels_of(problem, chosen, pair, max_levels))
        vars(self).update(
            problem=problem, kind=cycle, levels=levels, repeats=repeats_of(levels), smoother=chosen, pre=pair[0], post=pair[1],
            max_levels=max_levels, origin=None, window=window and (window, inner),
        )  # fmt: skip

    @property
    def _options(self) -> dict[str, Any]:
        """The keywords that this cycle was made with."""
        return {"cycle": self.kind, "smoother": self.smoother, "steps": (self.pre, self.post), "max_levels": self.max_levels}

    def __reduce__(self) -> Any:
        slots = tuple((level.smoother, level.post_smoother) for level in self.levels[:-1])
        return _unpickled, (self.problem, self._options, slots)  # the factors of the coarsest level cannot be pickled

    def _but(self, **changes: Any) -> GalerkinCycle:
        """Return this cycle but for some attributes; its set-up is shared."""
        other = object.__new__(GalerkinCycle)
        vars(other).update(vars(self), **changes)
        return other

    def rebound(self, problem: Poisson) -> GalerkinCycle:
        """Return this cycle for a problem that differs in its boundary values alone."""
        if self.window is None:
            return self._but(problem=problem)
        window = self.window[0].rebound(problem)
        return self._but(problem=problem, window=(window, self.window[1].rebound(window.inner)))

    def __repr__(self) -> str:
        rows = []
        for number, level in enumerate(self.levels):
            twice = ", visited twice" if number and self.kind == "auto" and self.repeats[number] == 2 else ""
            rows.append(f"  {level.described(self.levels[number - 1] if number else None)}{twice}")
        return "\n".join([f"<GalerkinCycle: {self.title}", *rows]) + ">"

    def replaced(self, *, level: int | None = None, **slots: Any) -> GalerkinCycle:
        """Return a cycle with another smoothing, on one level or on all.

        Parameters
        ----------
        level : int, optional
            Which level; negative numbers count from the coarsest. None: all of them.
        **slots
            Of one level: `smoother` and `post_smoother`. A smoother is one step; `Steps(smoother, 2)` is two, None is none.
            Of all levels: the keywords of `GalerkinCycle`.

        Raises
        ------
        TypeError, ValueError, IndexError
            For slots or levels that there are not.

        Examples
        --------
        >>> import unigrid
        >>> cycle = unigrid.GalerkinCycle(unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + x))
        >>> other = cycle.replaced(level=0, post_smoother=unigrid.Lines((0,)))
        >>> print(str(other).splitlines()[1])
          63 x 63 unknowns, stencil of 5 points: 2 x points, omega 1.15, then 1 x zebra lines along x
        """
        if level is None:
            kept = self._options
            if "smoother" in slots:
                del kept["steps"]
            return GalerkinCycle(self.problem, **{**kept, **slots})
        for name in slots:
            choose(name, ("smoother", "post_smoother"), "slot of a level")
        levels = list(self.levels)
        at = checked_level(level, len(levels))
        old, coarsest = levels[at], at % len(levels) == len(levels) - 1
        prepared = {name: level_slot(given, old.ndim, coarsest) for name, given in slots.items()}
        levels[at] = old.smoothed(**{"smoother": old.smoother, "post_smoother": old.post_smoother, **prepared})
        return self._with_levels(tuple(levels))

    def _with_levels(self, levels: tuple[CoupledLevel, ...]) -> GalerkinCycle:
        if self.window is None:
            return self._but(levels=levels)
        return self._but(levels=levels, window=(self.window[0], self.window[1]._with_levels(levels)))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the grids, finest first."""
        ndim = self.problem.grid.ndim
        return tuple(level.shape[3 - ndim :] for level in self.levels)

    @property
    def post_smoother(self) -> str | Smoother:
        """The smoother after the correction: the same, but for levels where it was replaced."""
        return self.smoother

    @property
    def name(self) -> str:
        """The kind of cycle, and its steps on the finest level: V(2,2), for example."""
        kind = self.kind if self.kind != "auto" else "W" if 2 in self.repeats else "V"
        finest = self.levels[0]
        slots = (finest.smoother, finest.post_smoother)
        before, after = (sweeps_of(slot) for slot in slots) if len(self.levels) > 1 else (self.pre, self.post)
        return f"{kind}({before},{after})"

    @property
    def title(self) -> str:
        """The kind of cycle and its smoothing, in words."""
        slots = [slot for level in self.levels[:-1] for slot in (level.smoother, level.post_smoother)]
        kinds = {type(slot.step).__name__.lower() for slot in slots if isinstance(slot, Steps)}
        named = {"ongrid": "a smoother of your own"}
        words = " and ".join(sorted(named.get(kind, kind) for kind in kinds)) or "a direct solve"
        return f"{self.name}, black box multigrid, smoothing by {words}"

    @property
    def work_units(self) -> float:
        """Cost of one cycle in smoothing sweeps of the finest level, as of `StencilCycle`."""
        slots = [(level.smoother, level.post_smoother) for level in self.levels[:-1]]
        costs = [float(sum(slot.cost for slot in pair if slot is not None)) for pair in slots] + [1.0]
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

        single = in_single(self.problem, run, precision) and not self._spoiling
        start = self._nested if run.nested else None
        return FlexibleGradients(self._correction, run, SINGLE if single else run.b.dtype, target, start)

    def _correction(self, r: Array) -> Array:
        """Return one cycle from zero for the symmetric form."""
        return self.cycle(_boxed(r)).reshape(r.shape)  # type: ignore[no-any-return]

    def _nested(self, b: Array) -> Array:
        """Return full multigrid for the symmetric form."""
        return super().nested(_boxed(b)).reshape(b.shape)  # type: ignore[no-any-return]

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
        same = self._options
        if problem.has_waves or problem.order == 4 or problem.domain is not None:
            # Couplings depend on c, or levels on a window of the mask.
            return GalerkinCycle(problem, **same)  # type: ignore[arg-type]
        if np.any(problem.operator.reaction_field < origin.problem.operator.reaction_field):
            origin = GalerkinCycle(problem.with_reaction(0.0), **same)  # type: ignore[arg-type]
        return self._but(problem=problem, levels=_with_reaction(origin, problem), origin=origin)

    def symmetric(self) -> GalerkinCycle:
        """Return this cycle: flexible conjugate gradients do without symmetry."""
        return self

    def selfadjoint(self) -> GalerkinCycle:
        """Return this cycle with the adjoint smoothing after the correction."""
        levels = list(self.levels)
        for number, level in enumerate(levels[:-1]):
            adjoint = None if level.smoother is None else level.smoother.adjoint()
            if adjoint is None:
                raise ValueError("the smoother has no adjoint, so the cycle is not symmetric: take 'auto', 'points' or 'lines'")
            if level.operator.stencil.seams.any():  # their last point is relaxed after all others of its color
                raise ValueError("a periodic axis of odd length makes the cycle unsymmetric: take an even number of unknowns")
            levels[number] = level.smoothed(level.smoother, adjoint)
        return self._with_levels(tuple(levels))

    def for_one_pass(self) -> NoReturn:
        """Refuse: a pass of full multigrid is less exact than the discretization here."""
        raise ValueError(
            "rtol='discretization' is one pass of full multigrid, which needs constant coefficients; give a number"
        )


def in_single(problem: Poisson, run: Run, precision: str) -> bool:
    """Whether the cycles of a run are in single precision, which is faster where the grid is large."""
    large = run.b.size >= SINGLE_FROM or precision == "mixed"
    # On free components of a mask, cycles leave constants of any size, beside which the rest would be lost in rounding.
    return precision != "full" and large and problem.parts is None and problem.fits(SINGLE)


def _boxed(array: Array) -> Array:
    """Return an array as a box of three axes."""
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def _with_reaction(origin: GalerkinCycle, problem: Poisson) -> tuple[CoupledLevel, ...]:
    """Return the levels of a cycle for a problem that has more reaction."""
    added: Any = problem.coupled_operator.share_form(origin.problem.coupled_operator)
    operator, levels = problem.coupled_operator.symmetric, []
    for level, below in pairwise(origin.levels):
        assert level.transfers is not None
        levels.append(CoupledLevel(operator, level.transfers, level.roughness, level.ndim).like(level))
        added = coupled.restrict(added, level.transfers.tables(added.dtype))
        operator = SymmetricOperator(shifted(below.operator.stencil, added))
    last = CoupledLevel(operator, None, ndim=origin.levels[-1].ndim)
    return (*levels, last.smoothed(Coarsest(operator.stencil, problem.has_constant_apart), None))


def _unpickled(problem: Poisson, options: dict[str, Any], slots: Sequence[tuple[Smoother, Smoother]]) -> GalerkinCycle:
    """Return the cycle of a pickle: its set-up is made again."""
    cycle = GalerkinCycle(problem, **options)
    pairs = zip(cycle.levels, slots, strict=False)
    return cycle._with_levels((*(level.smoothed(*pair) for level, pair in pairs), cycle.levels[-1]))
