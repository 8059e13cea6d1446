"""Solves on the device where a tensor lives: the levels of a cycle, with tensors in their slots.

The algorithm (`unigrid.cycle`), the driver (`unigrid.iterate`), and of a `StencilCycle` the iteration (`Cycles`) and the
smoothers, are those of NumPy arrays; `kernels.of` gives them `kernels.slices`. What has tables is moved, once for each cycle,
device and precision:

    operator      spacings and ghosts, as numbers; 1 / diagonal and the two colors, as tensors
    transfers     the bands of each axis: columns and weights
    coarsest      eigenvectors along each axis: A^-1 is a few small products of matrices
    problem       boundary values, and the weights of the mean

A `GalerkinCycle` is set up on the host, as for arrays, and moved (`device_coupled`):

    operator      couplings, which are stored once, the diagonal and its inverse
    smoothers     factors of the lines
    transfers     the weights of P
    coarsest      A^-1, a matrix; beyond DENSE_UNKNOWNS the host solves, which is the one array that leaves the device
    problem       what given values add to b; where there are unknowns, and the free components of a mask

From the source to the solution nothing of grid size leaves the device; one number does in each cycle, the residual's norm.
With `backend="torch-compiled"` the slots of a `StencilCycle` are compiled on levels of at least COMPILED_FROM unknowns, each to
a graph: one of a whole half-cycle would compute residuals anew for every point that a restriction takes them to. Those of a
`GalerkinCycle` are not, as compiled slices are the slower ones (relaxation at 511^2, one core: 14 ms, not 4, and 20 s before).

With `backend="triton"` the levels of a `StencilCycle` have fused half-cycles (`device_marches`), and on a GPU two cycles with
their norms are one CUDA graph (`recorded`).

Order 4, coefficients in mixed precision and Krylov methods but the two of `device_gradients` are those of the CPU.
"""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from typing import Any, cast, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..cycle import MultigridCycle
from ..iterate import Iteration, Repeated, System, iterate, raise_unless_converged
from ..solution import ConvergenceError, Solution, stacked
from ..stencil.compatibility import RightHandSide, plus, with_constant, without_constant, without_means
from ..stencil.coupled import relative_volumes
from ..stencil.cycle import StencilCycle
from ..stencil.galerkin import GalerkinCycle
from ..stencil.iterations import EXCUSED_BESIDE_EIGENVALUES, Cycles, Run, checked_for_single, round_off_of
from ..stencil.kernels import gpu, slices
from ..stencil.problem import Poisson
from ..stencil.solving import LARGEST_NORM, SMALLEST_NORM, ProblemCycle, SolveOptions
from . import recorded
from .device_coupled import DeviceCoupledLevel, DeviceCoupledOperator
from .device_gradients import DeviceGradients, DeviceMinimalResiduals
from .device_levels import PRECISIONS, DeviceLevel
from .device_mixed import DeviceMixedCycles
from .device_problems import DeviceProblem, moved
from .problems import Equation, Mode

COMPILED_FROM = 1 << 14  # unknowns: below, a level takes less than its graph takes to compile, many times over
_MOVED: WeakKeyDictionary[Any, dict[Any, DeviceCycle]] = WeakKeyDictionary()


def solved_on_device(equation: Equation, mode: Mode, f: Tensor, parameters: Sequence[Any]) -> Solution:
    """Return the solution, or A^-1 f or A^-T f = W A^-1 W^-1 f, homogeneous on the sides, W the volumes."""
    cycle = equation.cycle(f.shape, parameters)
    if mode == "solution":
        return solve_on_device(cycle, f, equation.options)
    options = equation.gradient_options
    own = cycle_on(cycle, f, options).without_values()
    volumes = relative_volumes(cycle.problem.grid) if mode == "adjoint" else None
    scale = None if volumes is None else moved(volumes, f.device, f.dtype)
    try:
        solution = _solved(own, f if scale is None else f / scale, options)
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
    return _solved(cycle_on(cycle, f, options), f, options)


def _solved(own: DeviceCycle, f: Tensor, options: SolveOptions) -> Solution:
    shape = own.shape
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
    backend = _backend(cycle, f, options)
    key = f.device, f.dtype, backend, options.is_one_pass
    kept = _MOVED.setdefault(cycle, {})
    if key not in kept:
        chosen: Any = cycle.for_one_pass() if options.is_one_pass else cycle
        kept[key] = (
            DeviceStencilCycle(chosen, *key[:3]) if isinstance(cycle, StencilCycle) else DeviceGalerkinCycle(chosen, *key[:2])
        )
    return kept[key]


def _backend(cycle: ProblemCycle, f: Tensor, options: SolveOptions) -> str:
    """Return whose kernels solve: Triton's on a GPU that has them, else torch's. Raises ValueError where there are none."""
    if options.backend == "triton" and not gpu.takes(f.device):
        raise ValueError(
            f"backend='triton' needs a tensor on a CUDA device, and pip install 'unigrid[gpu]'; got one on {f.device}: "
            "give f.to('cuda'), or backend='torch'"
        )
    by_default = "triton" if f.device.type == "cuda" and gpu.takes(f.device) and isinstance(cycle, StencilCycle) else "torch"
    return options.backend or by_default


def _refuse(cycle: ProblemCycle, f: Tensor, options: SolveOptions) -> None:
    """Raise TypeError or ValueError for what has no kernels here."""
    where = f"a tensor on {f.device}" if f.device.type != "cpu" else f"backend={options.backend!r}"
    if f.dtype not in PRECISIONS:
        raise TypeError(f"f must be float32 or float64, got {f.dtype}; give f.float() or f.double()")
    if f.device.type == "mps" and f.dtype == torch.float64:
        raise TypeError("MPS has no float64; give f.float(), or f.cpu() for float64")
    problem = cycle.problem
    if problem.order != 2 or problem.nonlinear is not None:
        raise TypeError(f"{where} is solved for linear equations of order 2; give f.cpu(), without backend, else")
    if problem.has_waves and options.is_one_pass:
        raise ValueError("rtol='discretization' is one pass of full multigrid, for reactions >= 0; give a number for rtol")
    if not isinstance(cycle, StencilCycle | GalerkinCycle):
        raise TypeError(
            f"{where} is solved by a unigrid.StencilCycle or GalerkinCycle, got {type(cycle).__name__}; give f.cpu()"
        )
    if problem.has_waves and options.accelerate == "cg":
        raise ValueError("accelerate='cg' needs a positive definite problem; leave it out, or give reactions >= 0")
    has_gradients = isinstance(cycle, GalerkinCycle) and not problem.has_waves
    has_method = options.has_method and options.accelerate not in (("cg", "gmres") if has_gradients else ("gmres",))
    is_mixed = options.precision == "mixed" and not isinstance(cycle, StencilCycle)
    for refused, what in ((has_method, "accelerate"), (is_mixed, "precision='mixed'")):
        if refused:
            raise ValueError(
                f"{what} is there on the CPU alone, not for {where}; leave it out, or give f.cpu(), without backend"
            )


class DeviceCycle(MultigridCycle):
    """A cycle, its levels on a device."""

    problem: DeviceProblem

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a source."""
        return self.problem.poisson.shape

    @abstractmethod
    def without_values(self) -> DeviceCycle:
        """Return the cycle of the problem whose given values are all zero; tables are shared."""

    @abstractmethod
    def once(self, b: Tensor) -> Tensor:
        """Return one cycle from zero for A u = b."""

    @abstractmethod
    def full(self, f: Tensor) -> Tensor:
        """Return full multigrid for a source."""

    @abstractmethod
    def default(self, run: Run, target: float) -> Iteration:
        """Return the iteration where A is definite and no other is asked for."""

    def iteration(self, run: Run, system: System, options: SolveOptions, target: float) -> Iteration:
        """Return the iteration for a run."""
        problem, operator = self.problem, self.problem.operator
        has_waves, step = problem.poisson.has_waves, self._step
        if options.accelerate == "gmres" or (options.accelerate == "auto" and has_waves):
            step = DeviceMinimalResiduals(operator, self.once)
        elif isinstance(self, DeviceStencilCycle) and options.precision == "mixed":
            return self.mixed(run, system, target)
        elif options.accelerate is not None or isinstance(self, DeviceStencilCycle):
            one = options.is_one_pass or options.maxiter == 1
            return self.default(run, math.inf if one else target)
        nested = (lambda: problem.centered(self.full(run.f))) if run.nested else None  # type: ignore[arg-type]
        return Repeated(lambda b, u: problem.centered(step(b, u)), system, nested)

    def _step(self, b: Tensor, u: Tensor | None) -> Tensor:
        correction = self.once(self.problem.operator.residual(b, u))
        return correction if u is None else u + correction

    def solution(self, f: Tensor, u: Tensor | None, options: SolveOptions) -> Solution:
        """Solve for one source."""
        problem, operator, dtype = self.problem, self.problem.operator, PRECISIONS[f.dtype]
        f, tolerance = problem.emptied(f), options.tolerance(dtype)
        right = _right_hand_side(problem, f, dtype, options.compatibility)
        b, b_norm = right.b, right.norm
        if u is not None:
            u = problem.centered(problem.emptied(u))
            if not math.isfinite(operator.residual_norm(b, u)):
                raise ValueError("the residual of u0 leaves the range of numbers, or it is not finite; scale f and u0")
        bound, shown = operator.host, cast(Any, plus)

        def round_off(u: Tensor | None) -> float:
            level = round_off_of(dtype, b_norm, 0.0 if u is None else operator.magnitude(u))
            return min(level, EXCUSED_BESIDE_EIGENVALUES * b_norm) if problem.poisson.has_waves else level

        system = System(
            b,
            lambda u: b_norm if u is None else operator.residual_norm(b, u),
            round_off,
            round_off_of(dtype, b_norm, 4.0 * b_norm * bound.norm_bound / bound.smallest_eigenvalue),
            view=lambda u: problem.filled(shown(u, right.mean_of_u)),
            zero=lambda: slices.zeros_like(b),
        )
        nested, keeps = u is None and options.start == "fmg", options.callback is not None
        run = Run(problem, right.f, b, nested, keeps)  # type: ignore[arg-type]
        iteration = self.iteration(run, system, options, tolerance.target(b_norm))
        solution = iterate(iteration, u, system, tolerance, options.callback)
        if problem.has_constant_apart and not problem.singular:
            solution = replace(solution, u=problem.centered(solution.u))
        if right.has_constant:
            solution = with_constant(solution, problem, right, tolerance)  # type: ignore[arg-type]
        precision = "Precision: mixed." if iteration.mixed else ""
        message = " ".join(each for each in (solution.message, precision, right.note) if each)
        return replace(solution, u=problem.filled(solution.u), message=message)


def _right_hand_side(problem: Any, f: Tensor, dtype: np.dtype, compatibility: str) -> RightHandSide:
    """Return the right-hand side of a source. Raises ValueError where it has none, or numbers do not hold it."""
    b: Any = problem.folded(f)
    norm = slices.norm(b)
    _check_size(problem.poisson, f, norm, dtype)
    right = RightHandSide(b, f, norm, np.zeros(()), b)  # type: ignore[arg-type]
    if problem.parts is not None:
        return without_means(problem, problem.parts, right, compatibility)
    return without_constant(problem, right, compatibility) if problem.has_constant_apart else right


@final
class DeviceStencilCycle(DeviceCycle):
    """A `StencilCycle` on a device."""

    levels: list[DeviceLevel]

    def __init__(self, cycle: StencilCycle, device: torch.device, dtype: torch.dtype, backend: str) -> None:
        own = cycle.own_levels
        self.kind, self.device, self._backend, self._cycle = cycle.kind, device, backend, cycle
        self._turns, self._in_use = own[0].turns, threading.RLock()
        self._homogeneous: DeviceStencilCycle | None = None
        self._single: DeviceStencilCycle | None = None
        self.done = torch.zeros(1, dtype=torch.int32, device=device)  # whether kernels have nothing left to do
        if backend == "triton":
            from .device_marches import level_on_gpu

            self.levels = [level_on_gpu(each, self.done, dtype) for each in own]
        else:
            large = [backend == "torch-compiled" and each.problem.grid.size >= COMPILED_FROM for each in own]
            self.levels = [DeviceLevel(each, device, dtype, compiled) for each, compiled in zip(own, large, strict=True)]
        self.problem = self.levels[0].problem

    def without_values(self) -> DeviceStencilCycle:
        if self._homogeneous is None:
            other = self._homogeneous = copy(self)
            other.levels = [level.without_values() for level in self.levels]
            other.problem, other._homogeneous = other.levels[0].problem, other
        return self._homogeneous

    @property
    def single(self) -> DeviceStencilCycle:
        """The cycle in single precision."""
        if self._single is None:
            self._single = DeviceStencilCycle(self._cycle, self.device, torch.float32, self._backend)
        return self._single

    def once(self, b: Tensor) -> Tensor:
        return self.cycle(b)  # type: ignore[no-any-return]

    def full(self, f: Tensor) -> Tensor:
        return self.nested(f)  # type: ignore[no-any-return]

    def solution(self, f: Tensor, u: Tensor | None, options: SolveOptions) -> Solution:
        # One solve at a time, as recordings have arrays of their own; Triton starts kernels on the current device.
        with self._in_use, torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            return super().solution(f, u, options)

    def default(self, run: Run, target: float) -> Iteration:
        kind = None if run.keeps or len(self.levels) == 1 else recorded.recorder_for(self.device, self._backend)
        if kind is None:
            return Cycles(self, run)
        return recorded.RecordedCycles(recorded.recording_of(self, kind), run, target, self._turns)

    def mixed(self, run: Run, system: System, target: float) -> Iteration:
        """Return the iteration in mixed precision."""
        checked_for_single(self.problem.poisson, PRECISIONS[run.b.dtype], system.residual_norm(None))  # type: ignore[index]
        single = self.single.without_values() if self._homogeneous is self else self.single

        def begin(run: Run) -> Iteration:
            return single.default(replace(run, problem=single.problem), math.inf)  # type: ignore[arg-type]

        return DeviceMixedCycles(single.levels[0], begin, run, system, target)


@final
class DeviceGalerkinCycle(DeviceCycle):
    """A `GalerkinCycle` on a device, which works on boxes of three axes; of a mask, in the window of that."""

    levels: list[DeviceCoupledLevel]

    def __init__(self, cycle: GalerkinCycle, device: torch.device, dtype: torch.dtype) -> None:
        self.kind, self.repeats = cycle.kind, cycle.repeats
        self.levels = [DeviceCoupledLevel(level, device, dtype) for level in cycle.levels]
        window = None if cycle.window is None else cycle.window[0]
        poisson = cycle.problem if window is None else window.inner
        self.operator = DeviceCoupledOperator(poisson.coupled_operator, self.levels[0].operator)
        self.problem = DeviceProblem(poisson, self.operator, device, dtype)
        self.whole = None if window is None else DeviceProblem(cycle.problem, self.operator, device, dtype)
        self.window = None if window is None else window.slices

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.whole or self.problem).poisson.shape

    def without_values(self) -> DeviceGalerkinCycle:
        other = copy(self)
        other.problem = self.problem.without_values()
        other.whole = None if self.whole is None else self.whole.without_values()
        return other

    def solution(self, f: Tensor, u: Tensor | None, options: SolveOptions) -> Solution:
        if self.whole is None or self.window is None:
            return super().solution(f, u, options)
        solution = super().solution(f[self.window], None if u is None else u[self.window], self._watched(options))
        return self._embedding(solution)

    def _embedding(self, solution: Solution) -> Solution:
        """Return a solution in the window as one in the box."""
        assert self.whole is not None
        assert self.window is not None
        u = self.whole.filled(solution.u.new_zeros(self.shape))
        u[self.window] = solution.u
        return replace(solution, u=u)

    def _watched(self, options: SolveOptions) -> SolveOptions:
        """Return the options with a callback for solutions in the window."""
        callback = options.callback
        if not callable(callback):
            return options
        return replace(options, callback=lambda solution: callback(self._embedding(solution)))

    def visit(self, b: Tensor, u: Tensor | None, kind: str, at: int) -> Tensor:
        if kind != "auto":
            return super().visit(b, u, kind, at)  # type: ignore[no-any-return]
        improved: Any = u
        for _ in range(self.repeats[at]):
            improved = self.cycle(b, improved, kind, at)
        return improved  # type: ignore[no-any-return]

    def once(self, b: Tensor) -> Tensor:
        return self._correction(self.operator.integrated(b))

    def full(self, f: Tensor) -> Tensor:
        return self._nested(self.operator.integrated(self.problem.compatible(self.problem.folded(f))))

    def default(self, run: Run, target: float) -> Iteration:
        return DeviceGradients(self._correction, run, self.operator, target, self._nested if run.nested else None)

    def _correction(self, r: Tensor) -> Tensor:
        """Return one cycle from zero for the symmetric form."""
        return self.cycle(r.reshape(self.levels[0].shape)).reshape(r.shape)  # type: ignore[no-any-return]

    def _nested(self, b: Tensor) -> Tensor:
        """Return full multigrid for the symmetric form."""
        return self.nested(b.reshape(self.levels[0].shape)).reshape(b.shape)  # type: ignore[no-any-return]


def _check_size(problem: Poisson, f: Tensor, norm: float, dtype: np.dtype) -> None:
    """Raise ValueError where f is not finite, or numbers do not hold its squares."""
    if dtype == np.float32 and not problem.fits(dtype):
        raise ValueError(f"1/h^2 leaves the range of {dtype}; give f in float64, or lengths in other units")
    if not math.isfinite(norm) and not bool(f.isfinite().all().item()):
        raise ValueError("f must be finite, it has NaN or infinity")
    if norm != 0.0 and not SMALLEST_NORM < norm < LARGEST_NORM:
        raise ValueError("the squares of f leave the range of numbers; scale f, and u after it")
    lost = float(np.finfo(dtype).tiny) * max(1.0, problem.operator.norm_bound)
    if 0.0 < norm / math.sqrt(problem.grid.size) < lost:
        raise ValueError(f"f, or u, is too small for {dtype}; scale f up, and u down after it")
