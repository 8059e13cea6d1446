"""The classical multigrid cycle: a Poisson problem on ever coarser grids, its slots filled with stencils."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import VISITS, Level, Prolongation, Restriction, Smoother, StateTransfer
from ..messages import checked_count, choose, lists_options, reject_unknown_keywords, shown
from .grid import real_array
from .hierarchy import COARSEST, SLOTS, Configuration, Frozen, StencilLevel, checked_level, levels_of, with_reaction
from .learned import LearnedSmoother
from .problem import Poisson
from .profile import Clock, Profile, Watch
from .slots import fitted, prepared_slots
from .smoothers import Smoothing, sweeps_of
from .solving import ProblemCycle, SolveOptions, check_arrays, prefers_mixed
from .transfers import PROLONGATIONS, RESTRICTIONS, TransferRecipe

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Array = NDArray[np.floating]


@final
class StencilCycle(Frozen, ProblemCycle):
    """A multigrid cycle for a `Poisson` problem: built once, used for many right-hand sides, by several threads at once.

    Calling it, `cycle(b, u)`, returns u after one cycle for A u = b; b is a right-hand side as `problem.rhs(f)` returns it,
    boundary values folded in. `solve(f)` iterates. It is a value: levels and slots are fixed, `replaced` returns another cycle.
    It can be pickled.

    Parameters
    ----------
    problem : Poisson
        What to solve.
    cycle : "V", "W" or "F"
        How often each level visits the next.
    smoothing : "tuned" or Smoothing
        All of the smoothing at once. "tuned", the default, is red-black with an omega for each half-sweep, tuned together: one
        step of three sweeps before, and one of two (in 3-D, three) after the correction. It is the fastest as a solver.
    smoother, pre, post_smoother, post : optional
        In place of `smoothing`: the smoother, "red-black", "jacobi", "gauss-seidel", "chebyshev" or an object,
        `RedBlack(omega=1.2)` or of a class of your own; its steps before and after the coarse-grid correction, >= 0, not both
        0; and another smoother after it. Where one of them is given, the others are red-black with omega 1.23, 2 and 2.
        `post=0` is the backslash cycle.
    restriction : str or Restriction
        "full-weighting", "half-weighting" (nested vertices), "injection", "cell-average", or a slot of your own.
    prolongation : str or Prolongation
        "linear", "constant", "cubic", or a slot of your own.
    state_transfer : None, str or StateTransfer
        Pi of the full approximation scheme, by the names of restrictions. None is zero, the correction scheme; as A is
        linear, every choice gives the same iterates.
    coarsest : "direct", "fft" or a Smoother
        What solves the coarsest level.
    max_levels : int, optional
        At most so many levels, coarsening until at most 32 unknowns are left. By default it ends at 350, after a level at
        least: they are solved directly.

    Raises
    ------
    ValueError, TypeError
        For names, numbers or slots that are not as above.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)), smoother=unigrid.RedBlack(omega=1.1), pre=1, post=1)
    >>> cycle.solve(np.ones((63, 63))).converged
    True

    Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), chapter 2; cell-centered transfers and
    semicoarsening there in 2.8.4 and 5.1.
    """

    problem: Poisson
    configuration: Configuration
    own_levels: tuple[StencilLevel, ...]  # finest first
    levels: tuple[StencilLevel, ...]  # the same; where they are watched, what watches them
    watch: Watch | None
    is_stencil = True

    @reject_unknown_keywords
    def __init__(
        self,
        problem: Poisson,
        *,
        cycle: str = "V",
        smoothing: str | Smoothing = "tuned",
        smoother: str | Smoother | None = None,
        pre: int | None = None,
        post: int | None = None,
        post_smoother: str | Smoother | None = None,
        restriction: str | TransferRecipe | Restriction = "full-weighting",
        prolongation: str | TransferRecipe | Prolongation = "linear",
        state_transfer: str | TransferRecipe | StateTransfer | None = None,
        coarsest: str | Smoother = "direct",
        max_levels: int | None = None,
    ) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        if problem.order != 2:
            raise TypeError(f"this problem is of order {problem.order}; unigrid.solve(f, order={problem.order}) has its cycle")
        if problem.varies:
            raise TypeError(
                f"this problem has {problem.what_varies}, for which unigrid.{problem.cycle_name}(problem) is the cycle"
            )
        if max_levels is not None:
            max_levels = checked_count("max_levels", max_levels, 1)
        configuration = Configuration(
            _smoothing(smoothing, (smoother, pre, post_smoother, post), problem.grid.ndim),
            _slot(restriction, RESTRICTIONS, Restriction, "restriction"),
            _slot(prolongation, PROLONGATIONS, Prolongation, "prolongation"),
            None if state_transfer is None else _slot(state_transfer, RESTRICTIONS, StateTransfer, "state_transfer"),
            _coarsest(coarsest),
            max_levels,
        )
        self._set(problem, choose(cycle, VISITS, "cycle"), configuration, levels_of(problem, configuration), None)

    def _set(
        self,
        problem: Poisson,
        kind: str,
        configuration: Configuration,
        levels: Sequence[StencilLevel],
        watch: Watch | None,
    ) -> None:
        seen: Sequence[Level] = levels if watch is None else [watch(number, level) for number, level in enumerate(levels)]
        vars(self).update(
            problem=problem, kind=kind, configuration=configuration, own_levels=tuple(levels), levels=tuple(seen), watch=watch,
        )  # fmt: skip

    def _like_this(
        self,
        levels: Sequence[StencilLevel],
        configuration: Configuration | None = None,
        problem: Poisson | None = None,
        watch: Watch | None = None,
    ) -> StencilCycle:
        """Return a cycle that differs from this one in what is given."""
        cycle = StencilCycle.__new__(StencilCycle)
        cycle._set(problem or self.problem, self.kind, configuration or self.configuration, levels, watch or self.watch)
        return cycle

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __call__(self, b: Array, u: Array | None = None) -> Array:
        """Return u after one cycle for A u = b, homogeneous at the boundary; None is zero."""
        problem = self.problem
        check_arrays(problem, b, u)
        u = self.cycle(b, u)
        if problem.singular or not problem.loses_reaction(b.dtype):
            return u
        return problem.centered(u) + b.dtype.type(problem.exact_mean(b) / problem.reaction)

    @lists_options(SolveOptions)
    def profile(self, f: ArrayLike, **options: Any) -> Profile:
        """Solve, and return where the time went, level by level; printed, it is a table. Options as of `solve`.

        Examples
        --------
        >>> import numpy as np, unigrid
        >>> profile = unigrid.StencilCycle(unigrid.Poisson((63, 63))).profile(np.ones((63, 63)))
        >>> [level.shape for level in profile.levels[:2]]
        [(63, 63), (31, 31)]
        """
        self.solve(f, **options)
        clock = Clock(level.problem.shape for level in self.own_levels)
        return clock.profile(partial(self._like_this(self.own_levels, watch=clock.watched).solve, f, **options))

    def replaced(self, *, level: int | None = None, **slots: Any) -> StencilCycle:
        """Return a cycle with other slots, on one level or on all.

        Parameters
        ----------
        level : int, optional
            Which level; negative numbers count from the coarsest. None: all of them.
        **slots
            Of one level: `smoother`, `post_smoother`, `restriction`, `prolongation`, `state_transfer`. A smoother is one step;
            `Steps(smoother, 2)` is two, None is none. Of all levels: the keywords of `StencilCycle`.

        Raises
        ------
        TypeError, ValueError, IndexError
            For slots or levels that there are not.

        Examples
        --------
        >>> import unigrid
        >>> cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)))
        >>> other = cycle.replaced(level=0, post_smoother=unigrid.Jacobi(0.8))
        >>> other.levels[0].post_smoother
        Steps(step=Jacobi(omega=0.8), count=1)
        """
        if level is None:
            return StencilCycle(self.problem, **{"cycle": self.kind, **self._keywords(slots), **slots})
        for name in slots:
            choose(name, SLOTS, "slot of a level")
        levels = list(self.own_levels)
        at = checked_level(level, len(levels))
        old = levels[at]
        levels[at] = old.replaced(**prepared_slots(old.problem, old.coarser, slots))
        return self._like_this(levels)

    def _keywords(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keywords of the constructor that describe this cycle, fit to be changed by these."""
        configuration = self.configuration
        keywords = {field.name: getattr(configuration, field.name) for field in dataclasses.fields(configuration)}
        smoothing = keywords["smoothing"]
        if changes.keys() & {field.name for field in dataclasses.fields(Smoothing)}:
            del keywords["smoothing"]
        if "smoothing" not in keywords and not smoothing.is_tuned:  # the parts of the tuned smoothing make sense together alone
            keywords.update(smoother=smoothing.smoother, pre=smoothing.pre, post=smoothing.post)
            if smoothing.post_smoother != smoothing.smoother:
                keywords["post_smoother"] = smoothing.post_smoother
        return keywords

    def rebound(self, problem: Poisson) -> StencilCycle:
        """Return this cycle for a problem that differs in its boundary values alone: all that is derived is shared."""
        problems: list[Poisson | None] = [problem]
        for _ in self.own_levels[1:]:
            assert problems[-1] is not None
            problems.append(problems[-1].coarsened())
        pairs = zip(self.own_levels, problems, [*problems[1:], None], strict=True)
        levels = [level.rebound(fine, coarse) for level, fine, coarse in pairs if fine is not None]
        return self._like_this(levels, problem=problem)

    def with_reaction(self, reaction: float) -> StencilCycle:
        """Return this cycle for another c, slots and transfers kept, for time steps: c = 1/dt. Raises TypeError for arrays."""
        problem = self.problem.with_reaction(reaction)
        if problem.varies or problem.has_waves or self.problem.has_waves:  # waves have levels of their own
            return StencilCycle(problem, **{"cycle": self.kind, **self._keywords({})})
        return self._like_this(with_reaction(self.own_levels, problem, self.configuration.coarsest), problem=problem)

    def symmetric(self) -> StencilCycle:
        """Return this cycle with the adjoint smoother after the correction, so that one cycle is a symmetric operator.

        The tuned smoothing is not symmetric: red-black, two sweeps on either side, takes its place.
        Raises ValueError, in one line, where the slots cannot be symmetric.
        """
        if self.smoothing.is_tuned:
            return self._smoothed(Smoothing.of(None, None, None, None)).symmetric()
        adjoint, coarsest = self.smoother.adjoint(), self.own_levels[-1].smoother
        problems = [
            (self.kind == "F", "the F-cycle is not symmetric: take cycle='V' or 'W'"),
            (
                self.post_smoother not in (self.smoother, adjoint),
                "leave out post_smoother: it is the smoother's adjoint then",
            ),
            (self.pre != self.post, f"pre = {self.pre} and post = {self.post} must be equal"),
            (
                adjoint is None,
                f"{type(self.smoother).__name__} has no adjoint(): take red-black or jacobi, or write that method",
            ),
            (
                coarsest is None or coarsest.adjoint() != coarsest,
                "the smoother of the coarsest level is not its own adjoint: take coarsest='direct' or 'fft'",
            ),
            (
                not isinstance(self.prolongation, TransferRecipe) or self.prolongation.adjoint() != self.restriction,
                "restriction and prolongation must be adjoint: full-weighting with linear, or cell-average with constant",
            ),
        ]
        for wrong, what in problems:
            if wrong:
                raise ValueError(f"conjugate gradients need a symmetric cycle: {what}")
        assert adjoint is not None
        return self._smoothed(Smoothing(self.smoother, self.pre, adjoint, self.post))

    def for_one_pass(self) -> StencilCycle:
        """Return this cycle with as much of the tuned smoothing as a single pass of full multigrid needs, no more.

        Where another smoothing was given, it stays.
        """
        enough = Smoothing.one_pass(self.problem.grid.ndim)
        return self._smoothed(enough) if self.smoothing.is_tuned and self.smoothing != enough else self

    def _smoothed(self, smoothing: Smoothing) -> StencilCycle:
        """Return this cycle with another smoothing; slots that were replaced on single levels stay."""
        before, after = self.smoothing.before(fitted), self.smoothing.after(fitted)
        levels = [
            level.replaced(
                smoother=smoothing.before(fitted) if level.smoother == before else level.smoother,
                post_smoother=smoothing.after(fitted) if level.post_smoother == after else level.post_smoother,
            )
            for level in self.own_levels[:-1]
        ]
        configuration = dataclasses.replace(self.configuration, smoothing=smoothing)
        return self._like_this([*levels, self.own_levels[-1]], configuration)

    def failure_note(self) -> str:
        """Return what is particular to trained smoothers: they need not converge on other problems than they have seen."""
        if not any(isinstance(each, LearnedSmoother) for each in (self.smoother, self.post_smoother)):
            return ""
        return (
            "The smoothers of this cycle are trained, and may fail for other ratios of spacings or reactions than those of the "
            "training: unigrid.train_solver(problem) trains them for this problem."
        )

    def composed(self) -> StencilCycle:
        """Return this cycle without fused half-cycles: slot after slot, as they are defined, one pass over memory each.

        The iterates are the same, to round-off; it is for comparison.
        """
        return self._like_this([level.replaced(fuses=False) for level in self.own_levels])

    def aspreconditioner(self) -> LinearOperator:
        """Return one symmetric cycle as a SciPy LinearOperator on raveled arrays, an approximation of A^-1.

        It is symmetric and positive definite in the inner product of `problem.weights` (semi-definite where the problem is
        singular). Without vertex-Neumann sides the weights are all equal and it goes straight into SciPy::

            M = cycle.aspreconditioner()
            x, info = scipy.sparse.linalg.cg(problem.matrix(), problem.rhs(f).ravel(), M=M)

        With them, SciPy's cg, whose product is the plain one, needs the symmetric matrix diag(weights) A::

            w = problem.weights.ravel()
            M = cycle.aspreconditioner() @ scipy.sparse.linalg.aslinearoperator(scipy.sparse.diags_array(1 / w))
            x, info = scipy.sparse.linalg.cg(scipy.sparse.diags_array(w) @ problem.matrix(), w * problem.rhs(f).ravel(), M=M)

        Raises ValueError where the cycle cannot be symmetric (F-cycle, pre != post, a smoother without adjoint).
        """
        from scipy.sparse.linalg import LinearOperator

        symmetric, problem = self.symmetric(), self.problem

        def apply(vector: Array) -> Array:
            r = real_array(vector, "the vector").reshape(problem.shape)
            return problem.compatible(symmetric(r)).ravel()

        def transposed(vector: Array) -> Array:
            weights = problem.weights.ravel()
            return weights * apply(vector.ravel() / weights)

        size = problem.grid.size
        return LinearOperator((size, size), matvec=apply, rmatvec=transposed, dtype=np.float64)

    @property
    def work_units(self) -> float:
        """Cost of one cycle in smoothing sweeps of the finest level: sum over levels of visits x sweeps x unknowns / finest
        unknowns; the coarsest level counts one sweep per visit, a Chebyshev step its degree, transfers nothing.
        """
        smoothers = [(level.smoother, level.post_smoother) for level in self.own_levels[:-1]]
        costs = [sum(smoother.cost for smoother in pair if smoother is not None) for pair in smoothers] + [1]
        sizes = [level.problem.grid.size for level in self.own_levels]
        return sum(v * c * n for v, c, n in zip(self.visits(), costs, sizes, strict=True)) / sizes[0]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the grids, finest first."""
        return tuple(level.problem.shape for level in self.own_levels)

    @property
    def operator_complexity(self) -> float:
        """Unknowns of all levels over those of the finest: the memory of the hierarchy."""
        return sum(level.problem.grid.size for level in self.own_levels) / self.problem.grid.size

    @property
    def smoothing(self) -> Smoothing:
        """The smoothing of all levels but those where it was replaced."""
        return self.configuration.smoothing

    @property
    def smoother(self) -> Smoother:
        """The smoother before the correction."""
        return self.smoothing.smoother

    @property
    def pre(self) -> int:
        """Steps before the correction."""
        return self.smoothing.pre

    @property
    def post_smoother(self) -> Smoother:
        """The smoother after the correction."""
        return self.smoothing.post_smoother

    @property
    def post(self) -> int:
        """Steps after the correction."""
        return self.smoothing.post

    @property
    def restriction(self) -> TransferRecipe | Restriction:
        """R: a recipe, or a slot of the user's own."""
        return self.configuration.restriction

    @property
    def prolongation(self) -> TransferRecipe | Prolongation:
        """P: a recipe, or a slot of the user's own."""
        return self.configuration.prolongation

    @property
    def state_transfer(self) -> TransferRecipe | StateTransfer | None:
        """Pi: a recipe, a slot of the user's own, or None for zero."""
        return self.configuration.state_transfer

    @property
    def sweeps(self) -> tuple[int, int]:
        """Sweeps of the finest level before and after the correction: its steps, or as many as the omegas of red-black make."""
        smoothing = self.smoothing
        slots = (self.own_levels[0].smoother, self.own_levels[0].post_smoother)
        before, after = slots if len(self.own_levels) > 1 else (smoothing.before(fitted), smoothing.after(fitted))
        return sweeps_of(before), sweeps_of(after)

    @property
    def name(self) -> str:
        """The kind of cycle, and its sweeps: V(3,2), for example."""
        return "{}({},{})".format(self.kind, *self.sweeps)

    @property
    def title(self) -> str:
        """The kind of cycle and its smoothing, in words."""
        if self.smoothing.is_tuned:
            words = "red-black with an omega for each half-sweep"
        elif self.post_smoother == self.smoother:
            words = repr(self.smoother)
        else:
            words = f"{self.smoother!r}, then {self.post_smoother!r}"
        before, after = self.smoothing.before(fitted), self.smoothing.after(fitted)
        pairs = [(level.smoother, level.post_smoother) for level in self.own_levels[:-1]]
        others = [str(number) for number, pair in enumerate(pairs) if pair != (before, after)]
        changed = f", other smoothing on level{'s' if len(others) > 1 else ''} {', '.join(others)}" if others else ""
        return f"{self.name}, {words}{changed}"

    def __repr__(self) -> str:
        head = (
            f"StencilCycle: {self.title}, {len(self.levels)} levels, "
            f"{self.work_units:.2f} work units per cycle, operator complexity {self.operator_complexity:.2f}, "
            f"float64 {'mixed with float32' if prefers_mixed(self, np.dtype(np.float64), SolveOptions()) else 'throughout'}"
        )
        rows = [f"{'level':>6} {'grid':>18} {'unknowns':>12}   spacing"]
        for number, level in enumerate(self.own_levels):
            grid = level.problem.grid
            spacing = " x ".join(f"{h:.3g}" for h in grid.spacing)
            rows.append(f"{number:>6} {' x '.join(map(str, grid.shape)):>18} {grid.size:>12,}   {spacing}")
        return "\n".join([head, f"{self.problem!r}", *rows])


def _smoothing(smoothing: str | Smoothing, parts: tuple[Any, Any, Any, Any], ndim: int) -> Smoothing:
    """Return the smoothing that the arguments describe; `parts` is smoother, pre, post_smoother, post."""
    none_given = all(part is None for part in parts)
    if isinstance(smoothing, str) and smoothing == "tuned":
        return Smoothing.tuned(ndim) if none_given else Smoothing.of(*parts)
    if isinstance(smoothing, str):
        choose(smoothing, ("tuned",), "smoothing")
    if not isinstance(smoothing, Smoothing):
        raise TypeError(f"smoothing must be 'tuned' or a unigrid.Smoothing, got {shown(smoothing)}")
    if not none_given:
        raise ValueError("give smoothing, or smoother, pre, post_smoother and post; not both")
    return smoothing


def _slot(given: Any, named: Mapping[str, type[TransferRecipe]], slot: type, what: str) -> Any:
    if isinstance(given, str):
        return named[choose(given, named, what)]()
    if isinstance(given, slot | TransferRecipe):
        return given
    raise TypeError(
        f"{what} must be one of {', '.join(map(repr, named))} or an object of a unigrid.{slot.__name__} subclass, "
        f"got {shown(given)}"
    )


def _coarsest(given: str | Smoother) -> str | Smoother:
    if isinstance(given, str):
        return choose(given, COARSEST, "coarsest")
    if isinstance(given, Smoother):
        return given
    raise TypeError(f"coarsest must be one of {', '.join(map(repr, COARSEST))} or a unigrid.Smoother, got {shown(given)}")
