"""`unigrid.solve`: one call from a source to its Solution. It finds the hierarchy; `solving` does the rest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import VISITS, MultigridCycle, Prolongation, Restriction, Smoother
from ..iterate import raise_unless_converged
from ..messages import checked_count, choose, lists_options, refuse_lost_gradient
from ..solution import Solution, stacked
from . import coarse, kernels, transfers
from .cycle import StencilCycle
from .external import on_problem
from .galerkin import GalerkinCycle
from .grid import Grid, real_array
from .kernels.workspace import pool
from .masks import per_channel
from .problem import Poisson
from .smoothers import SMOOTHERS, Smoothing
from .solving import ProblemCycle, SolveOptions, solve_with
from .transfers import PROLONGATIONS, RESTRICTIONS, TransferRecipe

if TYPE_CHECKING:
    from .reaction import Nonlinear

Array = NDArray[np.floating]
KEPT = 16  # hierarchies
# What a kept hierarchy may be made of: values, which nobody can change.
VALUES = (str, int, type(None), Smoothing, *SMOOTHERS.values(), *RESTRICTIONS.values(), *PROLONGATIONS.values())


@lists_options(SolveOptions)
def solve(
    f: ArrayLike,
    *,
    lengths: float | Sequence[float] | None = None,
    spacing: float | Sequence[float | ArrayLike] | None = None,
    boundary: Any = "dirichlet",
    centering: Literal["vertex", "cell"] = "vertex",
    reaction: float | ArrayLike | Nonlinear = 0.0,
    coefficient: Any = None,
    mask: ArrayLike | None = None,
    outside: Any = 0.0,
    fixed: Any = None,
    order: Literal[2, 4] = 2,
    channels: Literal["last"] | None = None,
    batch_dims: int = 0,
    cycle: str | MultigridCycle = "V",
    smoothing: str | Smoothing = "tuned",
    smoother: str | Smoother | None = None,
    pre: int | None = None,
    post: int | None = None,
    restriction: str | TransferRecipe | Restriction = "full-weighting",
    prolongation: str | TransferRecipe | Prolongation = "linear",
    **options: Any,
) -> Solution:
    """Solve -div(a grad u) + c u = f, or + g(u) in place of c u, on a box in 1-D, 2-D or 3-D by multigrid.

    Parameters
    ----------
    f : array_like, 1 to 3 axes
        The source at the unknowns, axis 0 first. float32 and float64 are kept, integers promoted to float64. Colors of a
        picture are no third axis: see `channels`.
    lengths, spacing, boundary, centering, reaction, coefficient, mask, outside, fixed, order
        The problem: as of `Poisson`.
    channels : None or "last"
        "last": the last axis of f (and of u0 and u) has independent right-hand sides, such as the colors of a picture.
        `outside`, and the values of `fixed`, may then have that axis too.
    batch_dims : int
        How many leading axes of f (and of u0 and u) are a batch: independent right-hand sides of one problem, of the shape of
        the other axes, solved through one hierarchy. Each stops by itself, and has its own Solution in `parts`; where some
        fail, all are solved, and the error's Solution holds them.
    u0 : array_like, optional
        Where to begin; replaces `start`. Never changed.
    rtol, atol : float
        Stop when ||b - A u|| <= max(rtol ||b||, atol), plain 2-norm, b the right-hand side with boundary values folded in.
        Where the reaction is `Nonlinear`, relative to the residual of u = 0, ||b - g(0)||, in place of ||b||.
        `rtol=None` is 1e-8 in float64 and 1e-4 in float32, or what rounding allows if that is larger.
        `rtol="discretization"` is one pass of full multigrid. Where f is smooth, more cycles bring u little nearer to the exact
        solution: the error is that of the discretization and at most 15 % more (measured, float64, default smoothing).
    maxiter : int
        Most iterations; a full-multigrid start is the first.
    cycle : "V", "W", "F", "scaled", "galerkin", "newton" or a MultigridCycle
        Where coefficients vary, "V" is `GalerkinCycle`'s default: levels are visited twice where they need it; or, where they
        are smooth and the grid is large, `ScaledCycle`, which is faster. "scaled" and "galerkin" choose one of the two.
        "newton" is for a reaction that is `Nonlinear`: steps of a `NewtonCycle` in place of cycles of a `FASCycle`.
        A cycle brings its slots: then none may be given here (an argument that equals its default counts as not given). A
        `StencilCycle` brings its problem too. Any other, a network that `unigrid.equivalence.to_conv` made or
        `unigrid.train("poisson")` trained, runs on the problem that the arguments describe, of any size that it takes.
    smoothing, smoother, pre, post, restriction, prolongation
        The slots: as of `StencilCycle`.
    start : "fmg" or "zero"
        Full multigrid (nested iteration) reaches the discretization error in one iteration; "zero" begins at u = 0.
    accelerate : "auto", "cg", "gmres", a name or function of SciPy's, or None
        Conjugate gradients with one symmetric cycle as preconditioner; "auto" takes them where coefficients vary and for order
        4, and minimal residuals (GMRES) for a reaction below zero. Of SciPy: "bicg", "bicgstab", "cgs", "gcrotmk", "lgmres",
        "minres", "qmr", "tfqmr", or a function with the arguments of these; residuals are the true ones, one per callback.
    compatibility : "error" or "project"
        For a singular problem (all sides Neumann or periodic, c = 0) f must have mean zero, boundary fluxes included: an error,
        or projected out. The mean-zero solution is returned. The same for each component of a mask that no value holds.
    callback : Solution -> None, optional
        Called after each iteration with the Solution so far, whose `u` is read-only. StopIteration ends the run. It costs a
        copy of u per iteration and changes nothing.
    raise_on_failure : bool
        Whether a run that does not converge raises ConvergenceError, which carries the Solution, or returns it.
    precision : "auto", "full" or "mixed"
        "mixed" runs the cycles in float32 on corrections, and keeps u and its residual in float64: the same accuracy, faster
        on large grids. Between two float64 residuals, `residuals` holds float32 ones. "auto" is mixed where that is faster and
        reaches the same tolerance: for float64 f on large 2-D and 3-D grids; `message` names it.
    threads : int, optional
        Cores to use for this call; by default those of `set_num_threads` or the variable UNIGRID_NUM_THREADS, or all.
    gradient_rtol : float, optional
        Where f is a torch tensor: the tolerance of the solves that gradients take, in place of `rtol`.
    backend : "triton", "torch" or "torch-compiled", optional
        Where f is a torch tensor: solve it where it lives by kernels in Triton, by operations of torch, or by graphs that torch
        compiles at the first solve. By default tensors on the CPU take the kernels of NumPy arrays, which are faster, without a
        copy, those on a CUDA device "triton" where it is installed and coefficients are constant, and all others "torch".
        "triton" takes the slots of levels for which it has no kernels, and what 1-D grids and periodic axes of odd length
        need, from "torch", which has every side, coefficients that vary, masks and reactions below zero, all of order 2;
        levels are set up on the host, and moved. Its cycles run in the precision of f, with no smoother of one's own and not
        Gauss-Seidel; `accelerate` is "auto", None, "gmres", or "cg" where coefficients vary. What it has not is refused, with
        the way out.

    Returns
    -------
    Solution
        `u`, `converged`, `reason`, `iterations`, `residuals`, `rate`.

    Raises
    ------
    ValueError, TypeError
        For input that is not as above, NaN and infinity included; for a picture in color, without `channels`.
    ConvergenceError
        Where the iteration fails.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> x = np.arange(1, 128) / 128
    >>> f = 2 * np.pi**2 * np.outer(np.sin(np.pi * x), np.sin(np.pi * x))
    >>> solution = unigrid.solve(f)
    >>> bool(abs(solution.u - f / (2 * np.pi**2)).max() < 1e-4)
    True

    Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), chapters 2 and 7.8.
    """
    if channels is not None:
        choose(channels, ("last",), "channels")
    run: Callable[..., Solution] = solve_with if channels is None else _solve_channels
    problem_options = {
        "lengths": lengths, "spacing": spacing, "boundary": boundary, "centering": centering, "reaction": reaction,
        "coefficient": coefficient, "mask": mask, "outside": outside, "fixed": fixed, "order": order,
    }  # fmt: skip
    slots = {
        "smoothing": smoothing, "smoother": smoother, "pre": pre, "post": post, "restriction": restriction,
        "prolongation": prolongation,
    }  # fmt: skip
    if not kernels.take(f):
        from ..arrays import solve_any

        keywords = {"cycle": cycle, "channels": channels, "batch_dims": batch_dims, **options}
        return solve_any(solve, f, {**problem_options, **slots, **keywords})
    if type(batch_dims) is not int or batch_dims != 0:
        batch_dims = checked_batch(batch_dims, f, channels, cycle)
    refuse_lost_gradient("reaction", reaction)
    refuse_lost_gradient("coefficient", coefficient)
    chosen = SolveOptions.of(options, solve, "solve")
    if not isinstance(cycle, (str, MultigridCycle)):
        raise TypeError(f"cycle must be 'V', 'W', 'F' or a unigrid.MultigridCycle, got {type(cycle).__name__}")
    if isinstance(cycle, ProblemCycle):
        refuse_beside("a prepared cycle brings its own problem and slots", {**problem_options, **slots})
        return run(cycle, f, chosen)
    values = [] if channels is None else per_channel(outside, fixed, f.shape)
    if values:
        problem_options |= values[0]
        run = partial(_solve_channels, values=values)
    problem = Poisson(solvable_shape(f, channels, batch_dims), **problem_options)  # type: ignore[arg-type]
    once = f.dtype.char == "d" and chosen.precision == "auto" and chosen.accelerate in ("auto", "cg")
    return run(prepared_cycle(problem, cycle, slots, once), f, chosen)


def prepared_cycle(problem: Poisson, cycle: str | MultigridCycle, slots: dict[str, Any], once: bool = False) -> ProblemCycle:
    """Return the cycle for a problem, with the slots as given to `solve`; recent ones of constant coefficients are kept.

    `once`: for one solve by conjugate gradients, whose cycles run in single precision where that serves.
    """
    if isinstance(cycle, MultigridCycle):
        refuse_beside("a cycle brings its own slots", slots)
        return on_problem(cycle, problem)
    if problem.order == 4:
        from .preconditioned import FourthOrderCycle, second_order_of

        return FourthOrderCycle(problem, StencilCycle(second_order_of(problem), cycle=cycle, **slots))  # type: ignore[arg-type]
    if problem.varies:
        refuse_beside(
            "coefficients that vary, and nonlinear reactions, bring their own slots",
            {name: slots[name] for name in slots if name != "smoother"},
        )
        by_default = once and cycle == "V" and slots["smoother"] is None
        scaled = _scaled_cycle(problem, cycle, slots) if by_default or cycle == "scaled" else None
        return scaled or _coupled_cycle(problem, cycle, "auto" if slots["smoother"] is None else slots["smoother"], once)
    if all(isinstance(slot, VALUES) for slot in slots.values()):
        prepared = _kept_hierarchy(problem.grid, problem.reaction, cycle, **slots)
        return prepared if problem.homogeneous else prepared.rebound(problem)
    # An object of the user's own may change, and may hold arrays.
    return StencilCycle(problem, cycle=cycle, **slots)  # type: ignore[arg-type]


def _scaled_cycle(problem: Poisson, cycle: str, slots: dict[str, Any]) -> ProblemCycle | None:
    """Return the cycle for smooth coefficients; None where they are not, unless it was asked for."""
    from .scaled import ScaledCycle, cycle_for_smooth  # imported here: constant coefficients do without

    def cycle_for(shift: float) -> StencilCycle:
        kept = _kept_hierarchy(problem.grid, 0.0, "V", **slots)
        return kept.with_reaction(shift) if shift else kept

    return ScaledCycle(problem, smoother=slots["smoother"]) if cycle == "scaled" else cycle_for_smooth(problem, cycle_for)


def _coupled_cycle(problem: Poisson, cycle: str, smoother: Any, once: bool) -> ProblemCycle:
    """Return black box multigrid for a problem, or one of the cycles that are made of it for nonlinear ones."""
    if problem.nonlinear is None:
        choose(cycle, (*VISITS, "auto", "scaled", "galerkin"), "cycle")
        make: Callable[..., ProblemCycle] = GalerkinCycle
        if once:
            from .packed import cycle_for_one_solve as make  # imported here: constant coefficients do without
        return make(problem, cycle="auto" if cycle in ("V", "galerkin") else cycle, smoother=smoother)
    from .nonlinear import FASCycle, NewtonCycle

    choose(cycle, (*VISITS, "newton"), "cycle")
    if cycle == "newton":
        return NewtonCycle(problem, smoother=smoother)
    return FASCycle(problem, cycle=cycle, smoother=smoother)


def _solve_channels(
    cycle: ProblemCycle, f: ArrayLike, options: SolveOptions, values: Sequence[dict[str, Any]] = ()
) -> Solution:
    """Solve for each channel of the last axis; `values` are `outside` and `fixed` of each, where they are its own."""
    f, u0 = _channels_first(f, "f"), None if options.u0 is None else _channels_first(options.u0, "u0")
    if values:
        cycles = [cycle.rebound(cycle.problem.with_values(**each)) for each in values]
        starts = [replace(options, u0=None if u0 is None else u0[k], raise_on_failure=False) for k in range(len(values))]
        parts = [solve_with(*each) for each in zip(cycles, f, starts, strict=True)]
        together = stacked(parts, np.array([part.u for part in parts]))
    else:
        together = solve_with(cycle, f, replace(options, u0=u0, raise_on_failure=False))
    solution = replace(together, u=np.moveaxis(together.u, 0, -1))
    return raise_unless_converged(solution) if options.raise_on_failure else solution


def _channels_first(array: ArrayLike, name: str) -> Array:
    return np.moveaxis(np.atleast_1d(real_array(array, name)), -1, 0)


@lru_cache(KEPT, typed=True)
def _kept_hierarchy(grid: Grid, reaction: float, cycle: str, **slots: Any) -> StencilCycle:
    """Return the hierarchy for a grid, whatever the boundary values, kept for the next call."""
    return StencilCycle(Poisson.homogeneous_on(grid, reaction), cycle=cycle, **slots)


def clear_cache() -> None:
    """Free what repeated calls share: hierarchies of recent `solve` calls, tables of axes, and memory for grid arrays.

    Nothing of it belongs to the user's arrays or problems; the next solve computes anew what it needs.

    Examples
    --------
    >>> import unigrid
    >>> unigrid.clear_cache()
    """
    _kept_hierarchy.cache_clear()
    transfers.clear_cache()
    coarse.clear_cache()
    pool.clear()


def refuse_beside(reason: str, beside: dict[str, Any]) -> None:
    """Raise ValueError if an argument was given that the cycle brings itself."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(solve).parameters.items()}
    plain = (str, int, float)
    given = [
        name
        for name, value in beside.items()
        if value is not defaults[name] and not (isinstance(value, plain) and value == defaults[name])
    ]
    if given:
        raise ValueError(f"{reason}; leave out {', '.join(given)}, or give them to it")


def solvable_shape(f: Array, channels: str | None, batch_dims: int) -> tuple[int, ...]:
    """Return the shape of the problem for f."""
    shape = f.shape[batch_dims:] if channels is None else f.shape[:-1]
    if not 1 <= len(shape) <= 3 or 0 in shape or (channels and f.size == 0):
        more = ", and an axis of channels" if channels else f", behind {batch_dims} of a batch" if batch_dims else ""
        raise ValueError(
            f"f must have 1, 2 or 3 axes of at least one unknown{more}, got shape {f.shape}; for several right-hand sides at "
            "once, batch_dims is how many leading axes they have"
        )
    return shape


def checked_batch(batch_dims: int, f: Any, channels: str | None, cycle: str | MultigridCycle) -> int:
    """Return the number of leading axes of a batch. Raises ValueError where f or the cycle has others."""
    number = checked_count("batch_dims", batch_dims, 0, f.ndim - 1)
    if channels is not None and number:
        raise ValueError("batch_dims are leading axes, and channels the last one; give one of them")
    own = f.ndim - len(cycle.problem.shape) if isinstance(cycle, ProblemCycle) else number
    if own != number:
        raise ValueError(f"batch_dims is {number}, but f has {own} axes before those of the cycle's problem; leave it out")
    return number
