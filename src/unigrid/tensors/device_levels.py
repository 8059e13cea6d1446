"""The levels of a `StencilCycle` on a device: what has tables or arrays in its slots, moved there; see `device`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..cycle import NestedLevel, Operator, Prolongation, Restriction, SlotLevel, Smoother, StateTransfer, Steps
from ..stencil.coarse import DirectSolver, FourierSolver, basis, eigenvalue_sums
from ..stencil.compatibility import FLUX_DEFECT
from ..stencil.grid import Axis
from ..stencil.hierarchy import StencilLevel
from ..stencil.kernels import slices
from ..stencil.kernels.bands import Band
from ..stencil.operator import StencilOperator
from ..stencil.problem import Poisson
from ..stencil.slots import nested_transfers
from ..stencil.smoothers import Chebyshev, Jacobi, RedBlack
from ..stencil.transfers import SeparableTransfer

MOST_GRAPHS = 256  # of one function: torch counts those of all levels and cycles together
OWN_SMOOTHERS = (Jacobi, RedBlack, Chebyshev)
PRECISIONS: dict[torch.dtype, np.dtype] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


@final
class DeviceProblem:
    """Boundary values, and means, of a problem on a device."""

    def __init__(self, poisson: Poisson, device: torch.device, dtype: torch.dtype) -> None:
        self.poisson, self.dtype = poisson, dtype
        self.singular, self.apart = poisson.singular, poisson.has_constant_apart
        self.has_constant_apart = self.apart
        wide = torch.float32 if device.type == "mps" else torch.float64
        self._weights = [moved(axis.weights / axis.weights.sum(), device, wide) for axis in poisson.grid.axes]
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
        (number, end, moved(ghost.gain / axis.h**2 * value, device, dtype))
        for number, (axis, values) in enumerate(zip(poisson.grid.axes, poisson.side_values, strict=True))
        for end, ghost, value in zip((0, -1), axis.ghosts(), values, strict=True)
        if np.any(value)
    ]


def moved(array: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
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
        middle: Any = moved(operator.diagonal(), device, dtype) if constant is None else constant
        gain = 1.0 / middle
        colors = [tuple(gain * mask for mask in _stages(axes, color, device, dtype)) for color in (0, 1)]
        lines, own = _lines(operator), (gain, (colors[0], colors[1]))
        self._stencil: slices.Stencil = (
            slices.GatheredStencil(_neighbors(lines, axes, device, dtype), middle, *own)
            if compiled
            else slices.SliceStencil(lines, sum(2.0 * line.scale for line in lines) + operator.reaction, *own)
        )
        self._residual = _compiled(slices.residual) if compiled else slices.residual

    def tables(self, dtype: torch.dtype) -> slices.Stencil:
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
        shaped = moved(weights, device, dtype).reshape(2, axis.n, *[1] * (-line.axis - 1))
        tables.append(slices.BandTable(line.axis, moved(columns, device).unbind(), shaped.unbind()))
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
class DeviceTransfer(Restriction, StateTransfer, Prolongation):
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
    weights = moved(band.weights.T, device, dtype).reshape(-1, band.shape[0], *[1] * (-axis - 1))
    return slices.BandTable(axis, moved(band.indices.T, device).unbind(), weights.unbind())


@final
class EigenvectorSolver(Smoother):
    """u = A^-1 f by the eigenvectors along each axis: V (sum of eigenvalues)^-1 V^-1, V a tensor product."""

    def __init__(self, problem: DeviceProblem, largest: float, device: torch.device, dtype: torch.dtype) -> None:
        poisson, wide = problem.poisson, torch.float32 if device.type == "mps" else torch.float64
        axes = poisson.grid.axes
        self._bases = [[moved(each, device, wide) for each in basis(axis)] for axis in axes]
        self._inverse = moved(1.0 / eigenvalue_sums(axes, poisson.reaction), device, wide)
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
