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
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..cycle import MultigridCycle, NestedLevel, Operator, Prolongation, Restriction, SlotLevel, Smoother, Steps
from ..cycle import StateTransfer as StateTransferSlot
from ..iterate import EXCUSED, System, Tolerance, iterate, raise_unless_converged
from ..solution import ConvergenceError, Reason, Solution, stacked
from ..stencil.coarse import DirectSolver, FourierSolver, _basis, _eigenvalue_sums
from ..stencil.compatibility import FLUX_DEFECT
from ..stencil.cycle import StencilCycle
from ..stencil.grid import Axis
from ..stencil.hierarchy import StencilLevel
from ..stencil.iterations import Cycles, Run
from ..stencil.kernels import slices
from ..stencil.kernels.bands import Band
from ..stencil.operator import StencilOperator
from ..stencil.problem import Poisson
from ..stencil.slots import nested_transfers
from ..stencil.smoothers import Chebyshev, Jacobi, RedBlack
from ..stencil.solving import LARGEST_NORM, SMALLEST_NORM, ProblemCycle, SolveOptions, _round_off_of
from ..stencil.transfers import SeparableTransfer
from .problems import Equation, Mode, homogeneous, volumes

MOST_GRAPHS = 256  # of one function: torch counts those of all levels and cycles together
COMPILED_FROM = 1 << 14  # unknowns: below, a level takes less than its graph takes to compile, many times over
OWN_SMOOTHERS = (Jacobi, RedBlack, Chebyshev)
PRECISIONS: dict[torch.dtype, np.dtype] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}
_MOVED: WeakKeyDictionary[Any, dict[Any, DeviceCycle]] = WeakKeyDictionary()


def solved_on_device(equation: Equation, mode: Mode, f: Tensor, parameters: Sequence[Any]) -> Solution:
    """Return the solution, or A^-1 f or A^-T f = W A^-1 W^-1 f, homogeneous on the sides, W the volumes."""
    cycle = equation.cycle(f.shape, parameters)
    if mode == "solution":
        return solve_on_device(cycle, f, equation.options)
    cycle = homogeneous(cycle)
    own = volumes(cycle.problem) if mode == "adjoint" else None
    scale = None if own is None else _moved(own, f.device, f.dtype)
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
    u0 = None if options.u0 is None else torch.as_tensor(options.u0, dtype=f.dtype, device=f.device)
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
    for refused, what in ((options.accelerate == "cg", "accelerate='cg'"), (options.precision == "mixed", "precision='mixed'")):
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
            lambda u: _round_off_of(dtype, b_norm, 0.0 if u is None else bound.norm_bound * slices.norm(u)),
            _round_off_of(dtype, b_norm, 4.0 * b_norm * bound.norm_bound / bound.smallest_eigenvalue),
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


@final
class DeviceProblem:
    """Boundary values, and means, of a problem on a device."""

    def __init__(self, poisson: Poisson, device: torch.device, dtype: torch.dtype) -> None:
        self.poisson, self.dtype = poisson, dtype
        self.singular, self.apart = poisson.singular, poisson.has_constant_apart
        self.has_constant_apart = self.apart
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._weights = [_moved(axis.weights / axis.weights.sum(), device, wide) for axis in poisson.grid.axes]
        self._sides = [] if poisson.homogeneous else _sides(poisson, device, dtype)

    def folded(self, f: Tensor) -> Tensor:
        """Return the right-hand side."""
        if not self._sides:
            return f
        b = f.clone()
        for axis, end, values in self._sides:
            b.select(axis, end).add_(values)
        return b

    def mean(self, u: Tensor) -> Tensor:
        """Return the mean in the cells' volumes, as a tensor: it stays on the device."""
        return reduce(torch.matmul, reversed(self._weights), u.to(self._weights[0].dtype))

    def centered(self, u: Tensor) -> Tensor:
        """Return u without its mean where the constant part is found apart; else u."""
        return u - self.mean(u).to(u.dtype) if self.apart else u

    def compatible(self, b: Tensor) -> Tensor:
        """Return b without its mean if the problem is singular, else b."""
        return self.centered(b) if self.singular else b

    def without_constant(
        self, f: Tensor, b: Tensor, b_norm: float, compatibility: str
    ) -> tuple[Tensor, Tensor, float, float, str]:
        """Return b and f without their mean, the norm, the mean of u, and a note; as `stencil.compatibility`."""
        poisson, eps, size = self.poisson, torch.finfo(b.dtype).eps, math.sqrt(b.numel())
        mean = float(self.mean(b).item())
        mean_of_u = 0.0 if self.singular else mean / poisson.reaction
        if not abs(mean_of_u) <= torch.finfo(b.dtype).max:
            raise ValueError(
                f"the mean of u is mean(f) / reaction = {mean:.3g} / {poisson.reaction:.3g}, out of range; scale f"
            )
        if self.singular and compatibility == "error":
            self._check_compatible(f, b, mean)
        if abs(mean) <= eps * b_norm / size:
            return b, f, b_norm, mean_of_u, ""
        centered = b - mean
        norm = slices.norm(centered)
        if abs(mean) > norm / size:
            centered = self.centered(centered)
            norm = slices.norm(centered)
        if not norm > 4.0 * eps * b_norm:
            centered, norm = slices.zeros_like(b), 0.0
        noticeable = self.singular and abs(mean) > 10.0 * eps * float(b.abs().max().item())
        note = f"A mean of {mean:.3g} was taken out of the right-hand side." if noticeable else ""
        if poisson.reaction <= math.sqrt(eps) * poisson.operator.norm_bound:
            f = centered if f is b else f - mean
        return centered, f, norm, mean_of_u, note

    def _check_compatible(self, f: Tensor, b: Tensor, mean: float) -> None:
        allowed = math.sqrt(torch.finfo(b.dtype).eps) * self.mean(b.abs())
        if self._sides:
            allowed = allowed + FLUX_DEFECT / min(axis.intervals for axis in self.poisson.grid.axes) * self.mean((b - f).abs())
        if abs(mean) > allowed.item():
            raise ValueError(
                "a problem without Dirichlet sides and with reaction 0 has a solution only if f has mean zero, boundary fluxes "
                f"included; its mean is {mean:.6g}, unknowns by the volumes of their cells. compatibility='project' takes the "
                "mean out"
            )


def _sides(poisson: Poisson, device: torch.device, dtype: torch.dtype) -> list[tuple[int, int, Tensor]]:
    """Return what boundary values add to b: along which axis, at which end, how much."""
    return [
        (number, end, _moved(ghost.gain / axis.h**2 * value, device, dtype))
        for number, (axis, values) in enumerate(zip(poisson.grid.axes, poisson.side_values, strict=True))
        for end, ghost, value in zip((0, -1), axis.ghosts(), values, strict=True)
        if np.any(value)
    ]


def _moved(array: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=dtype, device=device)


@final
class DeviceLevel(SlotLevel, NestedLevel):
    """A level, its slots on a device."""

    operator: DeviceOperator

    def __init__(self, level: StencilLevel, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        problem, coarser = level.problem, level.coarser
        self.problem = DeviceProblem(problem, device, dtype)
        self.operator = DeviceOperator(problem.operator, device, dtype, compiled)

        def move(slot: Any) -> Any:
            return None if slot is None else DeviceTransfer.of(slot, device, dtype, compiled)

        def checked(slot: Smoother | None) -> Smoother | None:
            return CompiledSmoother(_checked(slot)) if compiled and slot is not None else _checked(slot)

        self.state_transfer, self.post_smoother = move(level.state_transfer), checked(level.post_smoother)
        if coarser is None:
            self.smoother: Smoother | None = _coarsest(level.smoother, self.problem, device, dtype)
            return
        self.smoother = checked(level.smoother)
        self.restriction, self.prolongation = move(level.restriction), move(level.prolongation)
        self._nested = [move(each) for each in nested_transfers(problem.grid, coarser.grid)]

    def right_hand_side(self, f: Tensor) -> Tensor:
        return self.problem.compatible(self.problem.folded(f))

    def nested_restriction(self, f: Tensor) -> Tensor:
        return self._nested[0](f)  # type: ignore[no-any-return]

    def nested_prolongation(self, u: Tensor) -> Tensor:
        return self._nested[1](u)  # type: ignore[no-any-return]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of one slot as one graph; each has its own, as the numbers of its level are in it."""
    compiled: Any = torch.compile(function, fullgraph=True, dynamic=False)

    def run(*arguments: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            return compiled(*arguments)

    return run


@final
class CompiledSmoother(Smoother):
    """A smoother, all of its steps as one graph."""

    def __init__(self, smoother: Any) -> None:
        self._call, self._overwrite = _compiled(smoother), _compiled(smoother.overwrite)

    def __call__(self, operator: Operator, b: Tensor, u: Tensor | None) -> Tensor:
        return self._call(operator, b, u)  # type: ignore[no-any-return]

    def overwrite(self, operator: Operator, b: Tensor, u: Tensor) -> Tensor:
        return self._overwrite(operator, b, u)  # type: ignore[no-any-return]


def _checked(smoother: Smoother | None) -> Smoother | None:
    """Return a smoother that runs on tensors. Raises TypeError for others."""
    step = smoother.step if isinstance(smoother, Steps) else smoother
    if step is None or isinstance(step, OWN_SMOOTHERS):
        return smoother
    kind = type(getattr(step, "smoother", step)).__name__
    raise TypeError(f"on a device smoothers are red-black, jacobi or chebyshev, got {kind}; take one of them, or give f.cpu()")


def _coarsest(smoother: Any, problem: DeviceProblem, device: torch.device, dtype: torch.dtype) -> Smoother | None:
    if isinstance(smoother, DirectSolver | FourierSolver):
        return EigenvectorSolver(problem, smoother.largest, device, dtype)
    return _checked(smoother)


@final
class DeviceOperator(Operator):
    """A, as numbers and tensors for `kernels.slices`."""

    def __init__(self, operator: StencilOperator, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        self.smoothing_interval = operator.smoothing_interval
        axes, constant = operator.grid.axes, operator.constant_diagonal
        middle: Any = _moved(operator.diagonal(), device, dtype) if constant is None else constant
        gain = 1.0 / middle
        colors = [tuple(gain * mask for mask in _stages(axes, color, device, dtype)) for color in (0, 1)]
        lines, own = _lines(operator), (gain, (colors[0], colors[1]))
        self._stencil: slices.Stencil = (
            slices.GatheredStencil(_neighbors(lines, axes, device, dtype), middle, *own)
            if compiled
            else slices.SliceStencil(lines, sum(2.0 * line.scale for line in lines) + operator.reaction, *own)
        )
        self._residual = _compiled(slices.residual) if compiled else slices.residual

    def tables(self, dtype: torch.dtype) -> slices.SliceStencil:
        """Return the arguments of kernels, in the one precision that there is here."""
        return self._stencil

    def __call__(self, u: Tensor) -> Tensor:
        return slices.apply(u, self._stencil)

    def residual(self, b: Tensor, u: Tensor | None) -> Tensor:
        return b if u is None else self._residual(b, u, self._stencil)

    def residual_norm(self, b: Tensor, u: Tensor | None) -> float:
        return slices.norm(self.residual(b, u))


def _lines(operator: StencilOperator) -> tuple[slices.Line, ...]:
    """Return the second differences along the axes."""
    neighbors, coefficients, _ = operator.tables(np.dtype(np.float64))
    axes, lines = operator.grid.axes, []
    for number, axis in enumerate(axes):
        row = 3 - len(axes) + number
        scale, *factors = map(float, coefficients[row])
        ends = [
            slices.End(place, int(neighbors[row, end]), scale * factors[end], scale * factors[2 + end])
            for end, place in enumerate((0, axis.n - 1))
        ]
        lines.append(slices.Line(number - len(axes), scale, (ends[0], ends[1])))
    return tuple(lines)


def _neighbors(
    lines: Sequence[slices.Line], axes: Sequence[Axis], device: torch.device, dtype: torch.dtype
) -> tuple[slices.BandTable, ...]:
    """Return both neighbors of all points along each axis, as bands."""
    tables = []
    for line, axis in zip(lines, axes, strict=True):
        columns, weights = np.arange(axis.n) + np.array([[-1], [1]]), np.full((2, axis.n), line.scale)
        for side, end in enumerate(line.ends):
            columns[side, end.place], weights[side, end.place] = end.inward, end.weight
        shaped = _moved(weights, device, dtype).reshape(2, axis.n, *[1] * (-line.axis - 1))
        tables.append(slices.BandTable(line.axis, _moved(columns, device).unbind(), shaped.unbind()))
    return tuple(tables)


def _stages(axes: Sequence[Axis], color: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Return the points of one color, 1 there and 0 elsewhere, by the order in which a forward sweep relaxes them.

    Along a periodic axis of odd length the last point follows the first, its neighbor of the same color. Neighbors across such
    seams differ in the number of axes at whose last point they are, which is the number of their stage.
    """
    shape, ndim = [axis.n for axis in axes], len(axes)
    parity, late = (torch.zeros(shape, dtype=torch.int32, device=device) for _ in range(2))
    for number, axis in enumerate(axes):
        index = torch.arange(axis.n, dtype=torch.int32, device=device).reshape([-1] + [1] * (ndim - number - 1))
        parity = parity + index
        if axis.periodic and axis.n % 2:
            late = late + (index == axis.n - 1)
    seams = sum(axis.periodic and axis.n % 2 == 1 for axis in axes)
    return [((parity % 2 == color) & (late == stage)).to(dtype) for stage in range(seams + 1)]


@final
class DeviceTransfer(Restriction, StateTransferSlot, Prolongation):
    """A sum of tensor products of bands, on a device."""

    def __init__(self, products: Sequence[Sequence[Band]], device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
        self._products = [
            [_table(band, number - len(bands), device, dtype) for number, band in enumerate(bands) if not _is_identity(band)]
            for bands in products
        ]
        self._apply = _compiled(_tensor_product) if compiled else _tensor_product

    @staticmethod
    def of(slot: Any, device: torch.device, dtype: torch.dtype, compiled: bool) -> DeviceTransfer:
        """Return a slot on a device. Raises TypeError for a user's own."""
        if not isinstance(slot, SeparableTransfer):
            raise TypeError(f"on a device transfers have names, got {slot!r}; give one of those, or f.cpu()")
        return DeviceTransfer(slot.products, device, dtype, compiled)

    def __call__(self, array: Tensor) -> Tensor:
        return self._apply(array, self._products)  # type: ignore[no-any-return]


def _tensor_product(array: Tensor, products: list[list[slices.BandTable]]) -> Tensor:
    return reduce(torch.add, [reduce(slices.gathered, tables, array) for tables in products])


def _is_identity(band: Band) -> bool:
    rows, columns = band.shape
    return rows == columns and band.weights.shape[1] == 1 and bool((band.weights == 1.0).all())


def _table(band: Band, axis: int, device: torch.device, dtype: torch.dtype) -> slices.BandTable:
    weights = _moved(band.weights.T, device, dtype).reshape(-1, band.shape[0], *[1] * (-axis - 1))
    return slices.BandTable(axis, _moved(band.indices.T, device).unbind(), weights.unbind())


@final
class EigenvectorSolver(Smoother):
    """u = A^-1 f by the eigenvectors along each axis: V (sum of eigenvalues)^-1 V^-1, V a tensor product."""

    def __init__(self, problem: DeviceProblem, largest: float, device: torch.device, dtype: torch.dtype) -> None:
        poisson, wide = problem.poisson, torch.float32 if device.type == "mps" else torch.float64
        axes = poisson.grid.axes
        self._bases = [[_moved(each, device, wide) for each in _basis(axis)] for axis in axes]
        self._inverse = _moved(1.0 / _eigenvalue_sums(axes, poisson.reaction), device, wide)
        adds = problem.apart and not poisson.loses_reaction(PRECISIONS[dtype], largest)
        self._problem = problem if adds else None

    def __call__(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        wide: Any = f.to(self._inverse.dtype)
        for axis, (_, inverse) in enumerate(self._bases):
            wide = _along(inverse, wide, axis)
        wide = wide * self._inverse
        for axis, (vectors, _) in enumerate(self._bases):
            wide = _along(vectors, wide, axis)
        if self._problem is not None:
            wide = wide + self._problem.mean(f) / self._problem.poisson.reaction
        return wide.to(f.dtype)  # type: ignore[no-any-return]


def _along(matrix: Tensor, array: Tensor, axis: int) -> Tensor:
    """Return the product of a matrix with an array along one axis."""
    return torch.tensordot(matrix, array, dims=([1], [axis])).movedim(0, axis)
