"""From a source to its Solution with a prepared cycle: options, checks, the right-hand side, the choice of the iteration."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import MultigridCycle
from ..iterate import DISCRETIZATION, Iteration, Repeated, Tolerance, iterate, raise_unless_converged
from ..messages import checked_count, checked_number, choose, lists_options, refuse_keyword, shown
from ..solution import Reason, Solution
from . import kernels
from .coarse import block_counts, solution_norm
from .compatibility import RightHandSide, with_constant, without_constant, without_means
from .grid import finite_array, real_array
from .iterations import (
    QUIET,
    ROUND_OFF,
    ConjugateGradients,
    Cycles,
    MixedCycles,
    Run,
    checked_for_single,
    holds_in_single,
    system_of,
)
from .kernels.cpu.threads import limited_to
from .problem import Poisson
from .windows import Window

if TYPE_CHECKING:
    from .scipy_operators import SciPySystem

Array = NDArray[np.floating]
DEFAULT_RTOL = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4}
SMALLEST_NORM, LARGEST_NORM = 1e-140, 1e140  # between them the squares in a norm neither vanish nor overflow
# Mixed precision is chosen where rounding in float32 leaves at most this much of ||b||: of a random source, full multigrid in
# any precision leaves 2e-3, and rounding 1.4e-5 (1023^2) to 5.6e-5 (4095^2); of a smooth source, rounding leaves 6e-3 (1023^2).
SINGLE_ROUND_OFF = 2.5e-4
# Unknowns from which mixed precision is the faster one, by dimension: it takes, of full precision on one thread, 1.04 at 255^2,
# 0.94 at 300^2, 0.89 at 511^2; 1.06 at 63^3, 0.90 at 80^3, 0.73 at 100^3.
MIXED_FROM = {2: 300**2, 3: 80**3}

# SciPy's methods by name, all that are preconditioned; "cg" and "gmres" are unigrid's own.
OF_SCIPY = ("bicg", "bicgstab", "cgs", "gcrotmk", "lgmres", "minres", "qmr", "tfqmr")
CHOICES: dict[str, tuple[str | None, ...]] = {
    "start": ("fmg", "zero"),
    "accelerate": ("auto", "cg", "gmres", *OF_SCIPY, None),
    "compatibility": ("error", "project"),
    "precision": ("auto", "full", "mixed"),
    "backend": ("triton", "torch", "torch-compiled", None),
}


@final
@dataclass(frozen=True)
class SolveOptions:
    """The options of a solve with a prepared cycle; see `unigrid.solve`."""

    u0: ArrayLike | None = None
    rtol: float | Literal["discretization"] | None = None
    atol: float = 0.0
    maxiter: int = 50
    start: Literal["fmg", "zero"] = "fmg"
    accelerate: str | Callable[..., Any] | None = "auto"
    compatibility: Literal["error", "project"] = "error"
    callback: Callable[[Solution], Any] | None = None
    raise_on_failure: bool = True
    precision: Literal["auto", "full", "mixed"] = "auto"
    threads: int | None = None
    gradient_rtol: float | None = None
    backend: Literal["triton", "torch", "torch-compiled"] | None = None

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            chosen = getattr(self, name)
            if name == "accelerate" and callable(chosen):
                continue
            if not isinstance(chosen, (str, type(None))) or chosen not in allowed:
                choose(chosen, [each for each in allowed if each is not None], name)
        if self.precision == "mixed" and self.has_method:
            raise ValueError("precision='mixed' corrects by cycles alone; leave out accelerate, or precision")
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            object.__setattr__(self, "threads", checked_count("threads", self.threads))
        if self.gradient_rtol is not None:
            object.__setattr__(self, "gradient_rtol", checked_number("gradient_rtol", self.gradient_rtol))
        if isinstance(self.rtol, str) and self.rtol != DISCRETIZATION:
            raise ValueError(f"rtol must be a finite number >= 0, {DISCRETIZATION!r} or None, got {shown(self.rtol)}")
        if self.is_one_pass:
            self._refuse_beside_one_pass()
        stop = Tolerance(None if isinstance(self.rtol, str) else self.rtol, self.atol, self.maxiter, 0.0)  # which checks them
        for name in ("atol", "maxiter") if self.is_one_pass else ("rtol", "atol", "maxiter"):
            object.__setattr__(self, name, getattr(stop, name))

    def _refuse_beside_one_pass(self) -> None:
        problems = [
            (self.u0 is not None, "u0 has no place in it"),
            (self.start != "fmg", f"start is {self.start!r}"),
            (self.has_method, f"accelerate is {shown(self.accelerate)}"),
        ]
        for wrong, what in problems:
            if wrong:
                raise ValueError(f"rtol={DISCRETIZATION!r} is one pass of full multigrid, and {what}; leave it out")

    @staticmethod
    def of(given: dict[str, Any], function: Callable[..., Any], label: str) -> SolveOptions:
        """Return the options that a function was given as keywords. Raises TypeError for others, with the nearest name."""
        for name in given:
            if name not in SolveOptions.__dataclass_fields__:
                refuse_keyword(name, function, label)
        return SolveOptions(**given)

    @property
    def has_method(self) -> bool:
        """Whether a Krylov method is asked for."""
        return self.accelerate is not None and self.accelerate != "auto"

    @property
    def is_one_pass(self) -> bool:
        """Whether the options are those of one pass of full multigrid."""
        return isinstance(self.rtol, str)

    def tolerance(self, dtype: np.dtype) -> Tolerance:
        """Return when to stop, for arrays of this precision."""
        if isinstance(self.rtol, str):
            tolerance = Tolerance(0.0, self.atol, self.maxiter, DEFAULT_RTOL[dtype])
            return replace(tolerance, maxiter=1, one_pass=True)
        return Tolerance(self.rtol, self.atol, self.maxiter, DEFAULT_RTOL[dtype])


class ProblemCycle(MultigridCycle):
    """A cycle for one Poisson problem, as solving needs it."""

    problem: Poisson
    is_stencil: bool  # whether its levels hold this backend's arrays, of any precision
    accelerated = False  # whether accelerate="auto" is conjugate gradients
    solves_itself = False  # whether `solve_one` is the way to a solution
    window: tuple[Window, ProblemCycle] | None = None  # that of a mask, and the cycle in it

    @abstractmethod
    def __call__(self, b: Array, u: Array | None = None) -> Array:
        """Return u after one cycle."""

    @lists_options(SolveOptions)
    def solve(self, f: ArrayLike, **options: Any) -> Solution:
        """Return the Solution for a source f; leading axes of f are independent right-hand sides.

        Options as of `unigrid.solve`.
        """
        return solve_with(self, f, SolveOptions.of(options, type(self).solve, f"{type(self).__name__}.solve"))

    def once(self, b: Array) -> Array:
        """Return one cycle from zero for A u = b; the constant, where it is found apart, is left out."""
        return self.cycle(b)

    def solve_one(self, f: Array, u: Array | None, tolerance: Tolerance, options: SolveOptions) -> Solution:
        """Solve for one source, where the iteration is not one for A u = b."""
        raise NotImplementedError

    def rebound(self, problem: Poisson) -> ProblemCycle:
        """Return this cycle for a problem that differs in its boundary values alone."""
        other = copy(self)
        vars(other)["problem"] = problem
        return other

    @abstractmethod
    def symmetric(self) -> ProblemCycle:
        """Return the symmetric cycle that preconditions conjugate gradients. Raises ValueError where there is none."""

    def _gradients(self, run: Run, precision: str, target: float) -> Iteration | None:
        """Return conjugate gradients of its own for a run; None where those of any cycle serve."""
        return None

    def selfadjoint(self) -> ProblemCycle:
        """Return the cycle that is a symmetric operator in the inner product of `weights`. Raises ValueError without one."""
        return self.symmetric()

    def as_scipy(self) -> SciPySystem:
        """Return (A, M, scale) for SciPy: the operator and one cycle as symmetric LinearOperators.

        SciPy's methods for symmetric systems take the plain inner product, in which A is not symmetric where a vertex lies on a
        Neumann side. With the volumes w of the cells, relative to those inside, w A u = w b has the same solution and is
        symmetric::

            A, M, scale = cycle.as_scipy()
            u, info = scipy.sparse.linalg.cg(A, scale * problem.rhs(f).ravel(), M=M)

        Returns
        -------
        A, M : scipy.sparse.linalg.LinearOperator
            On raveled arrays: u -> w A u, without a matrix, and an approximation of its inverse, both symmetric and positive
            definite; semi-definite where the problem is singular. Then M returns mean zero, and right-hand sides need it.
        scale : array
            w, raveled.

        Raises
        ------
        ValueError
            Where the cycle is not symmetric, or the problem is not linear.

        Examples
        --------
        >>> import numpy as np, scipy.sparse.linalg, unigrid
        >>> problem = unigrid.Poisson((40, 30), boundary=["neumann", "dirichlet"], reaction=1.0)
        >>> A, M, scale = unigrid.StencilCycle(problem).as_scipy()
        >>> u, info = scipy.sparse.linalg.minres(A, scale * problem.rhs(np.ones((40, 30))).ravel(), M=M)
        >>> info
        0
        """
        from .scipy_operators import system_of

        if self.problem.nonlinear is not None:
            raise ValueError("a Nonlinear reaction makes no linear operator; linearize it, reaction=derivative(u)")
        return system_of(self.problem, self.selfadjoint().once)

    @abstractmethod
    def for_one_pass(self) -> ProblemCycle:
        """Return the cycle for a single pass of full multigrid. Raises ValueError where there is none."""

    def failure_note(self) -> str:
        """Return what the user should know where the iteration fails: a cause that residuals do not show."""
        return ""


def check_arrays(problem: Poisson, b: Any, u: Any) -> None:
    """Raise TypeError or ValueError unless a cycle can be called with b and u: of one precision, and of the problem's shape."""
    for name, array in (("b", b), ("u", u)):
        if array is None and name == "u":
            continue
        if not isinstance(array, np.ndarray) or array.dtype not in DEFAULT_RTOL or array.dtype != b.dtype:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"b and u must be arrays, both float32 or float64; {name} is {kind}")
        if array.shape != problem.shape:
            raise ValueError(f"{name} must have the problem's shape {problem.shape}, got {array.shape}")


def solve_with(cycle: ProblemCycle, f: ArrayLike, options: SolveOptions) -> Solution:
    """Solve with a prepared cycle. Leading axes of f, and of u0, are independent right-hand sides."""
    if not kernels.take(f):
        from ..arrays import solve_any

        return solve_any(cycle.solve, f, {each.name: getattr(options, each.name) for each in fields(options)})
    if options.backend is not None:
        raise TypeError(
            f"backend={options.backend!r} is for tensors, got a NumPy array; give torch.from_numpy(f), or no backend"
        )
    f = _source(cycle.problem, f, cycle.problem if cycle.window is None else cycle.window[0].inner)
    u0 = None if options.u0 is None else _start(options.u0, f)
    tolerance = options.tolerance(f.dtype)
    if options.is_one_pass and cycle.problem.has_waves:
        raise ValueError("rtol='discretization' is one pass of full multigrid, for reactions >= 0; give a number for rtol")
    cycle = cycle.for_one_pass() if options.is_one_pass else cycle
    solve = _solve_one if f.shape == cycle.problem.shape else _solve_stack
    solution = limited_to(options.threads).run(solve, cycle, f, u0, tolerance, options)
    return raise_unless_converged(solution) if options.raise_on_failure else solution


def _source(problem: Poisson, f: ArrayLike, solved: Poisson) -> Array:
    """Return f as an array that kernels can read, checked but for NaN: that is found by its norm.

    `solved` is the problem, or the part of it that is solved.
    """
    f = f if type(f) is np.ndarray and f.dtype in DEFAULT_RTOL else real_array(f, "f")
    if f.dtype == np.float32 and not solved.fits(f.dtype):
        spacing = ", ".join(f"{h:.3g}" for h in problem.grid.spacing)
        a = f"coefficients from {problem.operator.least:.3g} and " if problem.varies else ""
        raise ValueError(
            f"1/h^2 leaves the range of {f.dtype} for {a}spacings of {spacing}, here or on coarser grids; give f in float64, "
            "or lengths in other units"
        )
    shape = problem.shape
    if f.ndim < len(shape) or f.shape[f.ndim - len(shape) :] != shape:
        raise ValueError(f"f must have shape {shape}, or that behind leading axes, as the cycle's problem has; got {f.shape}")
    return kernels.of(f).writable(f)  # copied once, if at all, and not by every kernel


def _start(u0: ArrayLike, f: Array) -> Array:
    """Return u0 in the precision of f."""
    u0 = finite_array(u0, "u0")
    if u0.shape != f.shape:
        raise ValueError(f"u0 must have the shape of f, {f.shape}, got {u0.shape}")
    with np.errstate(over="ignore"):
        u0 = u0.astype(f.dtype)
    if not np.isfinite(u0).all():
        raise ValueError(f"u0 leaves the range of {f.dtype}, the precision of f; scale it, or give f in float64")
    return u0


def _solve_stack(cycle: ProblemCycle, f: Array, u0: Array | None, tolerance: Tolerance, options: SolveOptions) -> Solution:
    """Solve for every source in a stack; a callback watches one after the other."""
    from .batches import goes_in_step, solve_stack
    from .stacks import Entry, Stacks, can_stack

    problem, stack = cycle.problem, f
    in_step = goes_in_step(problem.grid.size) and _cycles_alone(cycle, f.dtype, options) and can_stack(cycle)
    if not in_step and f.size and not math.isfinite(kernels.of(f).norm(f.reshape(-1, f.shape[-1]))):
        finite_array(problem.emptied(f), "f")  # all of them, before the first is solved
    alone = partial(_solve_one, cycle, tolerance=tolerance, options=options)
    stacks = Stacks(cycle, tolerance)

    def entry(f: Array, u: Array | None) -> Entry:
        try:
            right = right_hand_side(problem, f, options.compatibility, False)
        except ValueError:
            finite_array(problem.emptied(stack), "f")  # which names the place in the stack
            raise
        u = None if u is None else checked_start(problem, right.b, u)
        run = Run(problem, right.f, right.b, u is None and options.start == "fmg" and cycle.nests, keeps=False)
        finish = partial(finished, cycle, right=right, tolerance=tolerance, precision="")
        return Entry(run, system_of(problem, right.b, right.norm, right.mean_of_u), u, finish)

    def solve(f: Array, u: Array | None, out: Array) -> list[Solution]:
        rows, starts = list(f), [None] * len(f) if u is None else list(u)
        if not in_step:
            return [alone(*each) for each in zip(rows, starts, strict=True)]
        entries = [entry(*each) for each in zip(rows, starts, strict=True)]
        return stacks.solve(f, rows, entries, out, lambda number: alone(rows[number], starts[number]))

    return solve_stack(solve, f, u0, problem.shape, in_step, options.callback is None)


def _cycles_alone(cycle: ProblemCycle, dtype: np.dtype, options: SolveOptions) -> bool:
    """Whether a solve is cycles in the precision of f, which nobody watches."""
    special = cycle.solves_itself or cycle.window is not None or cycle.accelerated or cycle.problem.has_waves
    others = options.has_method or options.callback is not None or options.precision == "mixed"
    return not (special or others or prefers_mixed(cycle, dtype, options))


def _solve_one(cycle: ProblemCycle, f: Array, u: Array | None, tolerance: Tolerance, options: SolveOptions) -> Solution:
    """Solve for one source: in the window of its mask, where that is smaller than the box."""
    if cycle.solves_itself:
        return cycle.solve_one(f, u, tolerance, options)
    if cycle.window is not None:
        window, inner = cycle.window
        options = replace(options, callback=window.watching(options.callback))
        u = None if u is None else window.cut_out(u)
        return window.embedding(_solve_one(inner, window.source(f), u, tolerance, options))
    problem = cycle.problem
    may_mix = prefers_mixed(cycle, f.dtype, options)
    right = right_hand_side(problem, f, options.compatibility, may_mix)
    system = system_of(problem, right.b, right.norm, right.mean_of_u)
    u = None if u is None else checked_start(problem, right.b, u)
    nested = u is None and options.start == "fmg" and cycle.nests
    run = Run(problem, right.f, right.b, nested, keeps=options.callback is not None)
    mixed = may_mix and single_is_enough(problem, right.norm, right.blocks)
    if options.precision == "mixed":
        mixed = checked_for_single(problem, right.b.dtype, right.norm)
    target = tolerance.target(right.norm)
    begin = partial(_iteration, cycle, options, target)
    iteration = MixedCycles(begin, run, system, target) if mixed and not cycle.accelerated else begin(run)
    solution = iterate(iteration, u, system, tolerance, options.callback)
    return finished(cycle, solution, right, tolerance, "Precision: mixed." if iteration.mixed else "")


def finished(cycle: ProblemCycle, solution: Solution, right: RightHandSide, tolerance: Tolerance, precision: str) -> Solution:
    """Return what an iteration led to as the solution of the problem, with its constant and what lies outside of its mask."""
    problem = cycle.problem
    if problem.has_constant_apart and not problem.singular:  # once more: cycles leave means of up to 1e9 times the rest
        solution = replace(solution, u=problem.centered(solution.u))
    if right.has_constant:
        solution = with_constant(solution, problem, right, tolerance)
    if problem.domain is not None:
        solution = replace(solution, u=problem.filled(solution.u))
    failed = not solution.converged and solution.reason is not Reason.STOPPED
    parts = solution.message, precision, right.note, _failure_note(cycle) if failed else ""
    return replace(solution, message=" ".join(each for each in parts if each))


def checked_start(problem: Poisson, b: Array, u: Array) -> Array:
    """Return u as an iteration begins with it. Raises ValueError where numbers do not hold its residual."""
    u = problem.centered(problem.emptied(u))
    if not math.isfinite(problem.operator.residual_norm(b, u)):
        raise ValueError("the residual of u0 leaves the range of numbers; scale f and u0")
    return u


def _failure_note(cycle: ProblemCycle) -> str:
    """Return what the user should know where the iteration fails: of the cycle, and of the problem."""
    if cycle.problem.has_waves:
        return (
            "With a reaction below zero, -k^2, there is no unique solution where k^2 is an eigenvalue: change k a little, or "
            "take a finer grid where waves cross the box many times."
        )
    return cycle.failure_note()


def _iteration(cycle: ProblemCycle, options: SolveOptions, target: float, run: Run) -> Iteration:
    """Return the iteration in the precision of the run's arrays."""
    problem = run.problem
    by_default = options.accelerate == "auto" and (cycle.accelerated or problem.has_waves)
    accelerated = options.accelerate in ("cg", "gmres") or by_default
    if options.has_method and not accelerated:
        return _krylov(cycle, options, run)
    own_gradients = accelerated and not problem.has_waves and options.accelerate != "gmres"
    own = cycle._gradients(run, options.precision, target) if own_gradients else None
    if own is not None:
        return own
    if options.precision == "mixed" and problem.varies:
        raise ValueError("precision='mixed' is for cycles that precondition conjugate gradients; leave out accelerate, or it")
    if cycle.is_stencil and not accelerated:
        return Cycles(cycle, run)
    step = _accelerated(cycle, options) if accelerated else cycle

    @np.errstate(**QUIET)
    def iteration(b: Array, u: Array | None) -> Array:
        return problem.centered(step(b, u))

    @np.errstate(**QUIET)
    def nested() -> Array:
        return problem.centered(cycle.nested(run.f))

    system = system_of(problem, run.b, kernels.of(run.b).norm(run.b))
    return Repeated(iteration, system, nested if run.nested else None)


def _krylov(cycle: ProblemCycle, options: SolveOptions, run: Run) -> Iteration:
    """Return one of SciPy's methods, with a cycle as preconditioner."""
    from .krylov import Krylov, method_of

    assert options.accelerate is not None
    method, system = method_of(options.accelerate), system_of(run.problem, run.b, kernels.of(run.b).norm(run.b))
    return Krylov(method, cycle.as_scipy(), run, system, lambda: run.problem.centered(cycle.nested(run.f)))


def _accelerated(cycle: ProblemCycle, options: SolveOptions) -> Callable[[Array, Array | None], Array]:
    """Return one iteration with a cycle as preconditioner: of conjugate gradients, or where A may be indefinite, of GMRES."""
    problem = cycle.problem
    if problem.has_waves or options.accelerate == "gmres":
        if options.accelerate == "cg":
            raise ValueError(
                "accelerate='cg' needs a positive definite problem, which a reaction below zero need not leave; leave it out"
            )
        from .minimal_residuals import MinimalResiduals

        return MinimalResiduals(problem.operator, cycle)
    return ConjugateGradients(problem.operator, cycle.symmetric().once, problem.centered)


def single_is_enough(problem: Poisson, b_norm: float, blocks: NDArray[np.float64]) -> bool:
    """Whether full multigrid in float32 leaves about what it leaves in float64.

    It does for a rough source. For a smooth one, full multigrid in float64 leaves far less than rounding in float32 does, which
    costs cycles: 2 iterations become 5 at 1023^2.
    """
    if not holds_in_single(problem, b_norm / math.sqrt(problem.grid.size)):
        return False
    u_norm = solution_norm(problem.grid, problem.reaction, blocks)
    eps = float(np.finfo(np.float32).eps)
    return ROUND_OFF * eps * problem.operator.norm_bound * u_norm < SINGLE_ROUND_OFF * b_norm


def prefers_mixed(cycle: ProblemCycle, dtype: np.dtype, options: SolveOptions) -> bool:
    """Whether `precision="auto"` may choose mixed precision, which depends on the source too (`single_is_enough`).

    Not on small grids, nor without fused half-cycles, where it is slower; not for a single iteration, which in float32
    leaves more than the discretization's error.
    """
    grid = cycle.problem.grid
    return (
        options.precision == "auto"
        and not options.has_method
        and not options.is_one_pass
        and options.maxiter > 1
        and not cycle.problem.has_waves
        and dtype == np.float64
        and grid.size >= MIXED_FROM.get(grid.ndim, math.inf)
        and cycle.is_stencil
        and cycle.levels[0].turns
    )


def right_hand_side(problem: Poisson, f: Array, compatibility: str, with_blocks: bool) -> RightHandSide:
    """Return the right-hand side of a source. Raises ValueError where it has none, or numbers do not hold it."""
    with np.errstate(over="ignore"):  # of values on sides, which makes the norm infinite
        b, blocks = f if problem.homogeneous else problem.folded(f), np.zeros(())
    if with_blocks:
        b_norm, blocks = kernels.of(b).norm_and_blocks(b, block_counts(problem.grid))
    else:
        b_norm = kernels.of(b).norm(b)
    if not math.isfinite(b_norm):
        finite_array(problem.emptied(f), "f")
    if not SMALLEST_NORM < b_norm < LARGEST_NORM and b.any():
        raise ValueError(
            f"the squares of f, of size {np.abs(b).max():.1e}, leave the range of numbers; scale f, and u after it"
        )
    size, lost = b_norm / math.sqrt(b.size), float(np.finfo(b.dtype).tiny) * max(1.0, problem.operator.norm_bound)
    if 0.0 < size < lost:  # the last digits of u, times A, are as large as f
        raise ValueError(f"f, of size {size:.1e}, or u is too small for {b.dtype}; scale f up, and u down after it")
    right = RightHandSide(b, f, b_norm, blocks, b)
    if problem.parts is not None:
        return without_means(problem, problem.parts, right, compatibility)
    return without_constant(problem, right, compatibility) if problem.has_constant_apart else right
