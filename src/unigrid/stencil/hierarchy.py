"""The classical multigrid cycle: a Poisson problem on ever coarser grids, its slots filled with stencils."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import VISITS, MultigridCycle, Prolongation, Restriction, Smoother, StateTransfer, Steps
from ..messages import checked_count, choose, reject_unknown_keywords
from ..solution import Solution
from .arrays import real_array
from .coarse import DirectSolver, FourierSolver
from .custom import between, fitted
from .defaults import SWEEPS, Smoothing, for_one_pass, tuned
from .kernels.cpu.small_levels import SmallLevels
from .kernels.workspace import Workspace
from .level import StencilLevel
from .problem import Poisson
from .smoothers import SMOOTHERS, RedBlack
from .transfers import PROLONGATIONS, RESTRICTIONS, TransferRecipe

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from .prepared import SolveOptions
    from .profile import Profile

Array = NDArray[np.floating]
DEFAULT = "red-black"  # the smoother, by name
PRECISIONS = {np.dtype(np.float32), np.dtype(np.float64)}
COARSEST: dict[str, Callable[[Poisson], Smoother]] = {"direct": DirectSolver, "fft": FourierSolver}
# Coarsening ends at this many unknowns, 15^2 or 7^3: a dense product there takes 3 to 15 us, the levels that it saves 70.
# Where the number of levels is asked for it goes on, down to as few unknowns as are worth a level at all.
COARSEST_UNKNOWNS, FEWEST_UNKNOWNS = 350, 32


@final
class StencilCycle(MultigridCycle):
    """A multigrid cycle for a `Poisson` problem: built once, used for many right-hand sides, by several threads at once.

    Calling it, `cycle(b, u)`, returns u after one cycle for A u = b; b is a right-hand side as `problem.rhs(f)` returns it,
    boundary values folded in. `solve(f)` iterates. It can be pickled. It keeps the memory of a solve, about four grid arrays a
    thread that uses it, for the next one.

    Parameters
    ----------
    problem : Poisson
        What to solve.
    cycle : "V", "W" or "F"
        How often a level visits the next.
    pre, post : int, optional
        Steps of the smoother before and after the coarse-grid correction, >= 0, not both 0; 2 if not given. `post=0` is the
        backslash cycle.
    smoother : str or Smoother
        "red-black", "jacobi", "gauss-seidel", "chebyshev", or an object: `RedBlack(omega=1.2)`, a class of your own. The
        default, with neither `pre` nor `post`, is red-black with an omega for each half-sweep, tuned together: one step of
        three sweeps before, and one of two (in 3-D, three) after the correction (`unigrid.stencil.defaults`). In 1-D it is
        red-black with omega 1.23 and two sweeps on either side.
    post_smoother : str or Smoother, optional
        Another smoother after the correction; the same one if not given.
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

    @reject_unknown_keywords
    def __init__(
        self,
        problem: Poisson,
        *,
        cycle: str = "V",
        pre: int | None = None,
        post: int | None = None,
        smoother: str | Smoother = DEFAULT,
        post_smoother: str | Smoother | None = None,
        restriction: str | TransferRecipe | Restriction = "full-weighting",
        prolongation: str | TransferRecipe | Prolongation = "linear",
        state_transfer: str | TransferRecipe | StateTransfer | None = None,
        coarsest: str | Smoother = "direct",
        max_levels: int | None = None,
    ) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        given = _smoothing(smoother, pre, post_smoother, post)
        says_nothing = isinstance(smoother, str) and smoother == DEFAULT and (pre, post_smoother, post) == (None, None, None)
        by_default = tuned(problem) if says_nothing else None
        if max_levels is not None:
            checked_count("max_levels", max_levels, 1)
        self.kind = choose(cycle, VISITS, "cycle")
        self.problem = problem
        self._tuned_from = None if by_default is None else given  # what the tuned smoothing stands for
        self._for_one_pass: tuple[list[Any], StencilCycle] | None = None
        self.joins_levels = True  # whether one call may stand for the visits to all small levels
        self._joined: dict[int, tuple[list[Any], SmallLevels | None]] = {}
        self.smoother, self.pre, self.post_smoother, self.post = by_default or given
        self.restriction = _slot(restriction, RESTRICTIONS, Restriction, "restriction")
        self.prolongation = _slot(prolongation, PROLONGATIONS, Prolongation, "prolongation")
        self.state_transfer = (
            None if state_transfer is None else _slot(state_transfer, RESTRICTIONS, StateTransfer, "state_transfer")
        )
        self.coarsest, self.max_levels = coarsest, max_levels
        self.workspace = Workspace()
        self.levels: list[StencilLevel] = _levels(problem, max_levels)
        for level, coarser in zip(self.levels, self.levels[1:], strict=False):
            self._fill(level, coarser.problem)
        self.levels[-1].smoother = _coarsest(coarsest, self.levels[-1].problem)

    def _fill(self, level: StencilLevel, coarser: Poisson) -> None:
        """Put this configuration's slots into a level."""
        fine, coarse = level.problem.grid, coarser.grid
        level.coarser = coarser
        level.restriction = between(self.restriction, fine, coarse, coarse.shape)
        level.prolongation = between(self.prolongation, fine, coarse, fine.shape)
        level.state_transfer = None if self.state_transfer is None else between(self.state_transfer, fine, coarse, coarse.shape)
        level.smoother = Steps(fitted(self.smoother), self.pre) if self.pre else None
        level.post_smoother = Steps(fitted(self.post_smoother), self.post) if self.post else None

    def __call__(self, f: Array, u: Array | None = None) -> Array:
        """Return u after one cycle for A u = f, homogeneous at the boundary; None is zero."""
        for name, array in (("f", f), ("u", u)):
            if array is None:
                continue
            if not isinstance(array, np.ndarray) or array.dtype not in PRECISIONS or array.dtype != f.dtype:
                kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"f and u must be arrays, both float32 or float64; {name} is {kind}")
            if array.shape != self.problem.shape:
                raise ValueError(f"{name} must have the problem's shape {self.problem.shape}, got {array.shape}")
        with self.workspace:
            return self.cycle(f, u)

    def visit(self, f: Array, u: Array | None, kind: str, at: int) -> Array:
        small = self._small_visits(at) if u is None and kind == "V" and self.joins_levels else None
        return super().visit(f, u, kind, at) if small is None else small(f)

    def _small_visits(self, at: int) -> SmallLevels | None:
        """Return what does the visits from level `at` down in one call, if there is that; made anew where slots changed."""
        made_of: list[Any] = [level.legs for level in self.levels[at:-1]]
        made_of.append(self.levels[-1].smoother)
        made_for, small = self._joined.get(at, ([], None))
        if _same(made_for, made_of):
            return small
        *legs, solver = made_of
        small = SmallLevels.of(legs, solver.inverse if isinstance(solver, DirectSolver) else None)
        self._joined[at] = made_of, small
        return small

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_joined": {}, "_for_one_pass": None}  # made anew when first used

    def solve(self, f: ArrayLike, **options: Unpack[SolveOptions]) -> Solution:
        """Return the Solution for a source f; leading axes of f are independent right-hand sides.

        Options as of `unigrid.solve`: u0, rtol, atol, maxiter, start, accelerate, compatibility, callback, raise_on_failure,
        precision, threads.
        """
        from .prepared import solve_prepared

        return solve_prepared(self, f, **options)

    def profile(self, f: ArrayLike, **options: Unpack[SolveOptions]) -> Profile:
        """Solve, and return where the time went, level by level; printed, it is a table. Options as of `solve`.

        The small levels, otherwise one call, are visited one by one for it.

        Examples
        --------
        >>> import numpy as np, unigrid
        >>> profile = unigrid.StencilCycle(unigrid.Poisson((63, 63))).profile(np.ones((63, 63)))
        >>> [level.shape for level in profile.levels[:2]]
        [(63, 63), (31, 31)]
        """
        from .profile import profile

        return profile(self, f, **options)

    def symmetric(self) -> StencilCycle:
        """Return this cycle with the adjoint smoother after the correction, so that one cycle is a symmetric operator.

        The smoothing by default is tuned, not symmetric: plain red-black, two sweeps on either side, stands for it.
        Raises ValueError, in one line, where the slots cannot be symmetric.
        """
        if self._tuned_from is not None:
            return self._smoothed_by(self._tuned_from).symmetric()
        adjoint = self.smoother.adjoint()
        problems = [
            (self.kind == "F", "the F-cycle is not symmetric: take cycle='V' or 'W'"),
            (self.post_smoother is not self.smoother, "leave out post_smoother: it is the smoother's adjoint then"),
            (self.pre != self.post, f"pre = {self.pre} and post = {self.post} must be equal"),
            (
                adjoint is None,
                f"{type(self.smoother).__name__} has no adjoint(): take red-black or jacobi, or write that method",
            ),
            (
                self.levels[-1].smoother is None or self.levels[-1].smoother.adjoint() != self.levels[-1].smoother,
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
        twin = self.twin()
        for level in twin.levels[:-1]:
            level.post_smoother = Steps(fitted(adjoint), self.post)
        return twin

    def for_one_pass(self) -> StencilCycle:
        """Return this cycle with as much smoothing by default as a single pass of full multigrid needs, no more.

        Where smoothing was given, it stays.
        """
        smoothing = None if self._tuned_from is None else for_one_pass(self.problem)
        if smoothing is None:
            return self
        made_of = [self.joins_levels, *(part for level in self.levels for part in (level.fuses, *level.slots))]
        if self._for_one_pass is None or not _same(self._for_one_pass[0], made_of):
            self._for_one_pass = made_of, self._smoothed_by(smoothing)
        return self._for_one_pass[1]

    def _smoothed_by(self, smoothing: Smoothing) -> StencilCycle:
        """Return this cycle with another smoothing; what was put into a level by hand stays there."""
        twin = self.twin()
        twin.smoother, twin.pre, twin.post_smoother, twin.post = smoothing
        twin._tuned_from = None
        for level in twin.levels[:-1]:
            if _repeats(level.smoother, self.smoother):
                level.smoother = Steps(fitted(twin.smoother), twin.pre)
            if _repeats(level.post_smoother, self.post_smoother):
                level.post_smoother = Steps(fitted(twin.post_smoother), twin.post)
        return twin

    def composed(self) -> StencilCycle:
        """Return this cycle without fused legs: slot after slot, as they are defined, one pass over memory each.

        The iterates are the same, to round-off; it is for comparison.
        """
        twin = self.twin()
        for level in twin.levels:
            level.fuses = False
        return twin

    def twin(self) -> StencilCycle:
        """Return a cycle with levels of its own that hold the same slots."""
        twin = StencilCycle.__new__(StencilCycle)
        vars(twin).update(vars(self))
        twin.levels = [level.twin() for level in self.levels]
        twin._for_one_pass, twin._joined = None, {}
        return twin

    def aspreconditioner(self) -> LinearOperator:
        """Return one symmetric cycle as a SciPy LinearOperator on raveled arrays, an approximation of A^-1.

        It is symmetric and positive definite in the inner product of `problem.weights` (semi-definite where the problem is
        singular). Without vertex-Neumann sides the weights are all equal and it goes straight into SciPy::

            M = cycle.aspreconditioner()
            x, info = scipy.sparse.linalg.cg(problem.matrix(), problem.rhs(f).ravel(), M=M)

        With them, SciPy's cg, which knows the plain product alone, wants the symmetric matrix diag(weights) A::

            w = problem.weights.ravel()
            M = cycle.aspreconditioner() @ scipy.sparse.linalg.aslinearoperator(scipy.sparse.diags_array(1 / w))
            x, info = scipy.sparse.linalg.cg(scipy.sparse.diags_array(w) @ problem.matrix(), w * problem.rhs(f).ravel(), M=M)

        Raises ValueError where the cycle cannot be symmetric (F-cycle, pre != post, a smoother without adjoint).
        """
        from scipy.sparse.linalg import LinearOperator

        symmetric, problem = self.symmetric(), self.problem

        def apply(vector: Array) -> Array:
            r = real_array(vector, "the vector").reshape(problem.shape)
            return problem.compatible(symmetric(problem.compatible(r))).ravel()

        def transposed(vector: Array) -> Array:
            weights = problem.weights.ravel()
            return weights * apply(vector.ravel() / weights)

        size = problem.grid.size
        return LinearOperator((size, size), matvec=apply, rmatvec=transposed, dtype=np.float64)

    @property
    def work_units(self) -> float:
        """Cost of one cycle in smoothing sweeps of the finest level: sum over levels of visits x sweeps x unknowns / finest
        unknowns; the coarsest level counts one sweep a visit, a Chebyshev step its degree, transfers nothing.
        """
        visits, finest = self.visits(), self.problem.grid.size
        cost = self.smoother.cost * self.pre + self.post_smoother.cost * self.post
        sweeps = [cost] * (len(self.levels) - 1) + [1]
        sizes = [level.problem.grid.size for level in self.levels]
        return sum(v * s * n for v, s, n in zip(visits, sweeps, sizes, strict=True)) / finest

    @property
    def operator_complexity(self) -> float:
        """Unknowns of all levels over those of the finest: the memory of the hierarchy."""
        return sum(level.problem.grid.size for level in self.levels) / self.problem.grid.size

    @property
    def sweeps(self) -> tuple[int, int]:
        """How often a level is swept before and after the correction: steps; of red-black, as many as its omegas ask for."""
        return _sweeps(self.smoother, self.pre), _sweeps(self.post_smoother, self.post)

    @property
    def name(self) -> str:
        """V(3,2), say: the kind of cycle, and its sweeps."""
        return "{}({},{})".format(self.kind, *self.sweeps)

    @property
    def title(self) -> str:
        """What kind of cycle this is, and how it smooths, in words."""
        if self._tuned_from is not None:
            return f"{self.name}, red-black with an omega for each half-sweep"
        return f"{self.name}, {self.smoother!r}" + f", then {self.post_smoother!r}" * (self.post_smoother is not self.smoother)

    def __repr__(self) -> str:
        head = (
            f"StencilCycle: {self.title}, {len(self.levels)} levels, "
            f"{self.work_units:.2f} work units a cycle, operator complexity {self.operator_complexity:.2f}"
        )
        rows = [f"{'level':>6} {'grid':>18} {'unknowns':>12}   spacing"]
        for number, level in enumerate(self.levels):
            grid = level.problem.grid
            spacing = " x ".join(f"{h:.3g}" for h in grid.spacing)
            rows.append(f"{number:>6} {' x '.join(map(str, grid.shape)):>18} {grid.size:>12,}   {spacing}")
        return "\n".join([head, f"{self.problem!r}", *rows])


def _levels(problem: Poisson, max_levels: int | None) -> list[StencilLevel]:
    """Coarsen until few enough unknowns are left, one is left, or the number of levels is reached; once, where that can be."""
    levels = [StencilLevel(problem)]
    while max_levels is None or len(levels) < max_levels:
        enough = COARSEST_UNKNOWNS if max_levels is None and len(levels) > 1 else FEWEST_UNKNOWNS
        coarser = problem.coarsened() if problem.grid.size > enough else None
        if coarser is None:
            break
        levels.append(StencilLevel(coarser))
        problem = coarser
    return levels


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Say whether both hold the very same objects."""
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _repeats(smoother: Smoother | None, step: Smoother) -> bool:
    return isinstance(smoother, Steps) and smoother.step == step


def _smoothing(smoother: str | Smoother, pre: int | None, post_smoother: str | Smoother | None, post: int | None) -> Smoothing:
    """Return what was said of smoothing, completed."""
    pre, post = (SWEEPS if count is None else count for count in (pre, post))
    checked_count("pre", pre, 0)
    checked_count("post", post, 0)
    if pre == post == 0:
        raise ValueError("pre and post are both 0: a cycle without smoothing does not converge; give at least one sweep")
    first = _smoother(smoother)
    return Smoothing(first, pre, first if post_smoother is None else _smoother(post_smoother), post)


def _sweeps(smoother: Smoother, steps: int) -> int:
    return steps * len(smoother.omegas) // 2 if isinstance(smoother, RedBlack) else steps


def _smoother(smoother: str | Smoother) -> Smoother:
    if isinstance(smoother, str):
        return SMOOTHERS[choose(smoother, SMOOTHERS, "smoother")]()
    if isinstance(smoother, Smoother):
        return smoother
    raise TypeError(
        f"smoother must be one of {', '.join(map(repr, SMOOTHERS))} or an object of a unigrid.Smoother subclass (with a method "
        f"__call__(self, operator, f, u)), got {smoother!r}"
    )


def _slot(given: Any, named: Mapping[str, type[TransferRecipe]], slot: type, what: str) -> Any:
    if isinstance(given, str):
        return named[choose(given, named, what)]()
    if isinstance(given, slot | TransferRecipe):
        return given
    raise TypeError(
        f"{what} must be one of {', '.join(map(repr, named))} or an object of a unigrid.{slot.__name__} subclass, got {given!r}"
    )


def _coarsest(given: str | Smoother, problem: Poisson) -> Smoother:
    if isinstance(given, str):
        return COARSEST[choose(given, COARSEST, "coarsest")](problem)
    if isinstance(given, Smoother):
        return fitted(given)
    raise TypeError(f"coarsest must be one of {', '.join(map(repr, COARSEST))} or a unigrid.Smoother, got {given!r}")
