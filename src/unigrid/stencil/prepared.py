"""Solving with a prepared hierarchy: checks of the input, the right-hand side, the step, the driver's system."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..iterate import DISCRETIZATION, System, Tolerance, iterate, raise_unless_converged
from ..messages import checked_count, choose, reject_unknown_keywords
from ..solution import Solution, stacked
from . import kernels
from .arrays import finite_array, real_array
from .conjugate_gradients import ConjugateGradients
from .flow import solve_in_flow
from .kernels.cpu.threads import limited_to
from .problem import Poisson
from .refinement import solve_refined
from .task import Task

if TYPE_CHECKING:
    from .adopted import AdoptedCycle
    from .hierarchy import StencilCycle

Array = NDArray[np.floating]
DEFAULT_RTOL = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4}
# Rounding leaves a residual of ROUND_OFF eps (||A|| ||u|| + ||b||): measured 0.14 to 0.42, float32 and float64, 1-D to 3-D.
ROUND_OFF = 0.5
# The mean of b relative to max|b| that the discretization itself may leave in a singular problem; beyond it, f is wrong.
COMPATIBILITY_DEFECT = 1e-3
COMPATIBILITY_PART = 3e-2  # the same relative to the mean of |b|; measured 2.9e-3 at n = 8, falling as h^2
SMALLEST_NORM, LARGEST_NORM = 1e-140, 1e140  # between them the squares in a norm neither vanish nor overflow


class SolveOptions(TypedDict, total=False):
    """What a solve with a prepared cycle can be told; as of `solve`."""

    u0: ArrayLike | None
    rtol: float | Literal["discretization"] | None
    atol: float
    maxiter: int
    start: Literal["fmg", "zero"]
    accelerate: Literal["cg"] | None
    compatibility: Literal["error", "project"]
    callback: Callable[[Solution], Any] | None
    raise_on_failure: bool
    precision: Literal["full", "mixed"]
    threads: int | None


class _Options(NamedTuple):
    """Of `SolveOptions`, what says how one source is solved, checked."""

    start: str
    accelerate: str | None
    compatibility: str
    callback: Callable[[Solution], Any] | None
    precision: str


@partial(reject_unknown_keywords, label="StencilCycle.solve")
def solve_prepared(
    cycle: StencilCycle | AdoptedCycle,
    f: ArrayLike,
    /,
    *,
    u0: ArrayLike | None = None,
    rtol: float | Literal["discretization"] | None = None,
    atol: float = 0.0,
    maxiter: int = 50,
    start: str = "fmg",
    accelerate: str | None = None,
    compatibility: str = "error",
    callback: Callable[[Solution], Any] | None = None,
    raise_on_failure: bool = True,
    precision: str = "full",
    threads: int | None = None,
) -> Solution:
    """Solve with a prepared cycle; arguments as of `solve`. Leading axes of f, and of u0, are independent right-hand sides."""
    f = real_array(f, "f")
    if not np.isfinite(cycle.problem.operator.tables(f.dtype).coefficients).all():
        raise ValueError(f"1/h^2 leaves the range of {f.dtype}; give f in float64, or lengths in other units")
    f = kernels.writable(f)  # copied once, if at all, and not by every kernel
    shape = cycle.problem.shape
    if f.ndim < len(shape) or f.shape[f.ndim - len(shape) :] != shape:
        raise ValueError(f"f must have shape {shape}, or that behind leading axes, as the cycle's problem has; got {f.shape}")
    if u0 is not None:
        u0 = finite_array(u0, "u0")
        if u0.shape != f.shape:
            raise ValueError(f"u0 must have the shape of f, {f.shape}, got {u0.shape}")
        with np.errstate(over="ignore"):
            u0 = u0.astype(f.dtype)
        if not np.isfinite(u0).all():
            raise ValueError(f"u0 leaves the range of {f.dtype}, the precision of f; scale it, or give f in float64")
    choose(start, ("fmg", "zero"), "start")
    choose(precision, ("full", "mixed"), "precision")
    if precision == "mixed" and accelerate is not None:
        raise ValueError("precision='mixed' corrects by cycles alone; leave out accelerate, or precision")
    if threads is not None:
        checked_count("threads", threads)
    choose(compatibility, ("error", "project"), "compatibility")
    if accelerate is not None:
        choose(accelerate, ("cg",), "accelerate")
    options = _Options(start, accelerate, compatibility, callback, precision)
    if isinstance(rtol, str) and rtol != DISCRETIZATION:
        raise ValueError(f"rtol must be a finite number >= 0, {DISCRETIZATION!r} or None, got {rtol!r}")
    tolerance = Tolerance(0.0 if isinstance(rtol, str) else rtol, atol, maxiter, DEFAULT_RTOL[f.dtype])
    if rtol == DISCRETIZATION:
        cycle, tolerance = _for_one_pass(cycle, u0, options), replace(tolerance, maxiter=1, one_pass=True)

    def run(source: Array, first: Array | None) -> Solution:
        task, note = _task(cycle, source, first, tolerance, options)
        solution = _solve_one(task, options)
        return solution if not note else replace(solution, message=f"{solution.message} {note}")

    with cycle.workspace, limited_to(threads):
        if f.shape == shape:
            solution = run(f, u0)
        else:
            sources = finite_array(f, "f").reshape(-1, *shape)  # all of them, before the first is solved
            starts = [None] * len(sources) if u0 is None else u0.reshape(-1, *shape)
            parts = [run(source, first) for source, first in zip(sources, starts, strict=True)]
            u = np.array([part.u for part in parts], dtype=f.dtype).reshape(sources.shape)
            parts = [replace(part, u=own) for part, own in zip(parts, u, strict=True)]  # views: nothing is held twice
            solution = stacked(parts, u.reshape(f.shape))
    return raise_unless_converged(solution) if raise_on_failure else solution


def _for_one_pass(cycle: StencilCycle | AdoptedCycle, u0: ArrayLike | None, options: _Options) -> StencilCycle:
    """Return the cycle for a single pass of full multigrid; raise ValueError where something else was asked for as well."""
    problems = [
        (u0 is not None, "u0 has no place in it"),
        (options.start != "fmg", f"start is {options.start!r}"),
        (options.accelerate is not None, f"accelerate is {options.accelerate!r}"),
    ]
    for wrong, what in problems:
        if wrong:
            raise ValueError(f"rtol={DISCRETIZATION!r} is one pass of full multigrid, and {what}; leave it out")
    return cycle.for_one_pass()


def _task(
    cycle: StencilCycle | AdoptedCycle, f: Array, u: Array | None, tolerance: Tolerance, options: _Options
) -> tuple[Task, str]:
    """Return what is to be solved for one source, and a note on its right-hand side."""
    problem, operator = cycle.problem, cycle.problem.operator
    b, b_norm, note = _right_hand_side(problem, f, options.compatibility)
    if u is not None:
        u = problem.compatible(u)
        if not math.isfinite(operator.residual_norm(b, u)):
            raise ValueError("the residual of u0 leaves the range of numbers; scale f and u0")
    system = System(
        b,
        lambda u: b_norm if u is None else operator.residual_norm(b, u),
        lambda u: _round_off(problem, u, b_norm),
        view=_read_only,
        zero=lambda: np.zeros_like(b),
    )
    nested = u is None and options.start == "fmg" and cycle.nests
    return Task(cycle, f, u, system, tolerance, nested, options.callback), note


def _solve_one(task: Task, options: _Options) -> Solution:
    """Solve by the fastest way of iterating that does what is asked; plainly where that way did not end well."""
    solution = solve_refined(task) if options.precision == "mixed" else None
    if solution is None and options.accelerate is None and task.callback is None:
        solution = solve_in_flow(task)
    return _solve_plainly(task, options.accelerate) if solution is None else solution


def _solve_plainly(task: Task, accelerate: str | None) -> Solution:
    """Solve by iterates that are arrays of their own."""
    cycle, problem = task.cycle, task.cycle.problem
    step: Any = cycle
    if accelerate == "cg":
        step = ConjugateGradients(problem.operator, cycle.symmetric(), problem.compatible)

    @np.errstate(over="ignore", invalid="ignore")  # divergence is the driver's to report, not a warning's
    def iteration(b: Array, u: Array) -> Array:
        return problem.compatible(step(b, u))

    return iterate(
        iteration,
        task.u,
        task.system,
        task.tolerance,
        nested=(lambda: problem.compatible(cycle.nested(task.f))) if task.nested else None,
        callback=task.callback,
    )


def _right_hand_side(problem: Poisson, f: Array, compatibility: str) -> tuple[Array, float, str]:
    """Return b, boundary values folded in and, where the problem is singular, its mean taken out; its norm; a note on it."""
    b = problem.folded(f)
    b_norm = kernels.norm(b)
    if not math.isfinite(b_norm):
        finite_array(f, "f")
    if not SMALLEST_NORM < b_norm < LARGEST_NORM and b.any():
        raise ValueError(
            f"the squares of f, of size {np.abs(b).max():.1e}, leave the range of numbers; scale f, and u after it"
        )
    if not problem.singular:
        return b, b_norm, ""
    mean, eps = problem.mean(b), float(np.finfo(b.dtype).eps)
    if compatibility == "error":
        _check_compatible(problem, b, mean)
    if abs(mean) <= eps * b_norm / math.sqrt(b.size):
        return b, b_norm, ""  # as near to zero as rounding brings it
    projected = problem.compatible(b)
    projected_norm = kernels.norm(projected)
    if not projected_norm > 4.0 * eps * b_norm:  # a constant source leaves rounding alone, which is no source
        projected, projected_norm = np.zeros_like(b), 0.0
    seen = abs(mean) > 10.0 * eps * float(np.abs(b).max())
    return projected, projected_norm, f"A mean of {mean:.3g} was taken out of the right-hand side." if seen else ""


def _round_off(problem: Poisson, u: Array, b_norm: float) -> float:
    """Return the residual that remains when u and b are exact but for rounding."""
    return ROUND_OFF * float(np.finfo(u.dtype).eps) * (problem.operator.norm_bound * kernels.norm(u) + b_norm)


def _check_compatible(problem: Poisson, b: Array, mean: float) -> None:
    """Raise ValueError where the mean of b is more than the discretization of a compatible problem leaves.

    Measured by the mean of |b| as well as by its maximum: a point source, or a flux folded into few unknowns, has a maximum
    beside which any mean is small.
    """
    sizes = np.abs(b)
    if abs(mean) > min(COMPATIBILITY_DEFECT * float(sizes.max()), COMPATIBILITY_PART * problem.mean(sizes)):
        raise ValueError(
            f"a problem without Dirichlet sides and with reaction 0 has a solution only if f has mean zero, boundary fluxes "
            f"included; its mean is {mean:.6g} (largest value {sizes.max():.3g}). compatibility='project' takes the mean out"
        )


def _read_only(u: Array) -> Array:
    view = u.view()
    view.flags.writeable = False
    return view
