"""Solves on the device where a tensor lives: the levels of a `StencilCycle`, with tensors in their slots.

The algorithm (`unigrid.cycle`), the driver (`unigrid.iterate`), the iteration (`Cycles`) and the smoothers are those of NumPy
arrays; `kernels.of` gives them `kernels.slices`. What has tables is moved, once for each cycle, device and precision:

    operator      spacings and ghosts, as numbers; 1 / diagonal and the two colors, as tensors
    transfers     the bands of each axis: columns and weights
    coarsest      eigenvectors along each axis: A^-1 is a few small products of matrices
    problem       boundary values, and the weights of the mean

From the source to the solution nothing of grid size leaves the device; one number does in each cycle, the residual's norm.
With `backend="torch-compiled"` the slots of levels of at least COMPILED_FROM unknowns are compiled, each to a graph: one
of a whole half-cycle would compute residuals anew for every point that a restriction takes them to.

Coefficients that vary, masks, order 4, reactions below zero and conjugate gradients are those of the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..cycle import MultigridCycle
from ..iterate import EXCUSED, System, Tolerance, iterate, raise_unless_converged
from ..solution import ConvergenceError, Reason, Solution, stacked
from ..stencil.coupled import relative_volumes
from ..stencil.cycle import StencilCycle
from ..stencil.iterations import Cycles, Run
from ..stencil.kernels import slices
from ..stencil.problem import Poisson
from ..stencil.solving import LARGEST_NORM, SMALLEST_NORM, ProblemCycle, SolveOptions, rounding_residual
from .device_levels import PRECISIONS, DeviceLevel, moved
from .problems import Equation, Mode, homogeneous

COMPILED_FROM = 1 << 14  # unknowns: below, a level takes less than its graph takes to compile, many times over
_MOVED: WeakKeyDictionary[Any, dict[Any, DeviceCycle]] = WeakKeyDictionary()


def solved_on_device(equation: Equation, mode: Mode, f: Tensor, parameters: Sequence[Any]) -> Solution:
    """Return the solution, or A^-1 f or A^-T f = W A^-1 W^-1 f, homogeneous on the sides, W the volumes."""
    cycle = equation.cycle(f.shape, parameters)
    if mode == "solution":
        return solve_on_device(cycle, f, equation.options)
    cycle = homogeneous(cycle)
    own = relative_volumes(cycle.problem.grid) if mode == "adjoint" else None
    scale = None if own is None else moved(own, f.device, f.dtype)
    try:
        solution = solve_on_device(cycle, f if scale is None else f / scale, equation.gradient_options)
    except ConvergenceError as error:
        failed = replace(error.solution, message=f"The solve for a gradient: {error.solution.message}")
        raise ConvergenceError(failed) from None
    return solution if scale is None else replace(solution, u=solution.u * scale)


def solve_on_device(cycle: ProblemCycle, f: Tensor, options: SolveOptions) -> Solution:
    """Return the Solution for a source on any device, u there too; leading axes are independent right-hand sides.

    Raises
    ------
    TypeError, ValueError
        For what has no kernels here, with the way out; for sources that `unigrid.solve` refuses.
    ConvergenceError
        Where the iteration fails.
    """
    own = cycle_on(cycle, f, options)
    shape = own.problem.poisson.shape
    if f.ndim < len(shape) or tuple(f.shape[f.ndim - len(shape) :]) != shape:
        raise ValueError(
            f"f must have shape {shape}, or that behind leading axes, as the cycle's problem has; got {tuple(f.shape)}"
        )
    u0 = None if options.u0 is None else _start(options.u0).to(f.device, f.dtype)
    if u0 is not None and u0.shape != f.shape:
        raise ValueError(f"u0 must have the shape of f, {tuple(f.shape)}, got {tuple(u0.shape)}")
    if tuple(f.shape) == shape:
        solution = own.solution(f, u0, options)
    else:
        sources = f.reshape(-1, *shape).unbind()
        starts = [None] * len(sources) if u0 is None else u0.reshape(-1, *shape).unbind()
        if not sources:
            raise ValueError(f"f has no right-hand side, its shape is {tuple(f.shape)}")
        parts = [own.solution(*each, options) for each in zip(sources, starts, strict=True)]
        solution = stacked(parts, torch.stack([part.u for part in parts]).reshape(f.shape))
    return raise_unless_converged(solution) if options.raise_on_failure else solution


def _start(u0: Any) -> Tensor:
    return u0 if isinstance(u0, Tensor) else torch.tensor(np.asarray(u0))


def cycle_on(cycle: ProblemCycle, f: Tensor, options: SolveOptions) -> DeviceCycle:
    """Return a cycle on the device and in the precision of a tensor; it is kept as long as the cycle."""
    _refuse(cycle, f, options)
    assert isinstance(cycle, StencilCycle)
    cycle = cycle.for_one_pass() if options.is_one_pass else cycle
    key = f.device, f.dtype, options.backend == "torch-compiled"
    kept = _MOVED.setdefault(cycle, {})
    if key not in kept:
        kept[key] = DeviceCycle(cycle, *key)
    return kept[key]


def _refuse(cycle: ProblemCycle, f: Tensor, options: SolveOptions) -> None:
    """Raise TypeError or ValueError for what has no kernels here."""
    where = f"a tensor on {f.device}" if f.device.type != "cpu" else f"backend={options.backend!r}"
    if f.dtype not in PRECISIONS:
        raise TypeError(f"f must be float32 or float64, got {f.dtype}; give f.float() or f.double()")
    if f.device.type == "mps" and f.dtype == torch.float64:
        raise TypeError("MPS has no float64; give f.float(), or f.cpu() for float64")
    problem = cycle.problem
    if problem.varies or problem.order != 2 or problem.nonlinear is not None or problem.domain is not None:
        raise TypeError(f"{where} is solved for constant coefficients, order 2, on a box; give f.cpu(), without backend, else")
    if problem.has_waves:
        raise ValueError(f"{where} is solved for reactions >= 0; give f.cpu(), without backend, for reactions below zero")
    if not isinstance(cycle, StencilCycle):
        raise TypeError(f"{where} is solved by a unigrid.StencilCycle, got {type(cycle).__name__}; give f.cpu()")
    for refused, what in ((options.has_method, "accelerate"), (options.precision == "mixed", "precision='mixed'")):
        if refused:
            raise ValueError(
                f"{what} is there on the CPU alone, not for {where}; leave it out, or give f.cpu(), without backend"
            )


@final
class DeviceCycle(MultigridCycle):
    """A `StencilCycle`, its levels on a device."""

    levels: list[DeviceLevel]

    def __init__(self, cycle: StencilCycle, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        own = cycle.own_levels
        self.kind, self.dtype = cycle.kind, dtype
        self.levels = [DeviceLevel(each, device, dtype, compiled and each.problem.grid.size >= COMPILED_FROM) for each in own]
        self.problem = self.levels[0].problem

    def solution(self, f: Tensor, u: Tensor | None, options: SolveOptions) -> Solution:
        """Solve for one source."""
        problem, operator, dtype = self.problem, self.levels[0].operator, PRECISIONS[f.dtype]
        tolerance, b = options.tolerance(dtype), problem.folded(f)
        whole, whole_norm = b, slices.norm(b)
        _check_size(problem.poisson, f, whole_norm, dtype)
        b_norm, mean_of_u, note = whole_norm, 0.0, ""
        if problem.apart:
            b, f, b_norm, mean_of_u, note = problem.without_constant(f, b, whole_norm, options.compatibility)
        if u is not None:
            u = problem.centered(u)
            if not math.isfinite(operator.residual_norm(b, u)):
                raise ValueError("the residual of u0 leaves the range of numbers, or it is not finite; scale f and u0")
        bound = problem.poisson.operator
        system = System(
            b,
            lambda u: b_norm if u is None else operator.residual_norm(b, u),
            lambda u: rounding_residual(dtype, b_norm, 0.0 if u is None else bound.norm_bound * slices.norm(u)),
            rounding_residual(dtype, b_norm, 4.0 * b_norm * bound.norm_bound / bound.smallest_eigenvalue),
            view=lambda u: u + mean_of_u,
            zero=lambda: slices.zeros_like(b),
        )
        run = Run(problem, f, b, u is None and options.start == "fmg", options.callback is not None)  # type: ignore[arg-type]
        solution = iterate(Cycles(self, run), u, system, tolerance, options.callback)
        if problem.apart and not problem.poisson.singular:
            solution = replace(solution, u=problem.centered(solution.u))
        if mean_of_u:
            solution = self._with_constant(solution, b, mean_of_u, slices.norm(whole), tolerance)
        return replace(solution, message=" ".join(each for each in (solution.message, note) if each))

    def _with_constant(self, solution: Solution, b: Tensor, mean: float, whole_norm: float, tolerance: Tolerance) -> Solution:
        """Return the solution with its constant part; as `stencil.compatibility.with_constant`."""
        u = solution.u + mean
        norm = self.levels[0].operator.residual_norm(b, u - mean)
        solution = replace(solution, u=u)
        excused = EXCUSED * whole_norm if tolerance.rtol is None or tolerance.one_pass else 0.0
        if not solution.converged or norm <= max(tolerance.target(whole_norm), solution.residuals[-1], excused):
            return solution
        message = (
            f"stagnated: the mean of u, mean(f) / reaction, is {mean:.1e}, and rounding it leaves a residual of "
            f"{norm / whole_norm:.1e} ||b||. Take the mean out of f, or give reaction=0 for the solution of mean zero."
        )
        return replace(solution, converged=False, reason=Reason.STAGNATED, message=message)


def _check_size(problem: Poisson, f: Tensor, norm: float, dtype: np.dtype) -> None:
    """Raise ValueError where f is not finite, or numbers do not hold its squares."""
    if not problem.fits(dtype):
        raise ValueError(f"1/h^2 leaves the range of {dtype}; give f in float64, or lengths in other units")
    if not math.isfinite(norm) and not bool(f.isfinite().all().item()):
        raise ValueError("f must be finite, it has NaN or infinity")
    if norm != 0.0 and not SMALLEST_NORM < norm < LARGEST_NORM:
        raise ValueError("the squares of f leave the range of numbers; scale f, and u after it")
    lost = float(np.finfo(dtype).tiny) * max(1.0, problem.operator.norm_bound)
    if 0.0 < norm / math.sqrt(problem.grid.size) < lost:
        raise ValueError(f"f, or u, is too small for {dtype}; scale f up, and u down after it")
