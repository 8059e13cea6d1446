"""The levels of a `StencilCycle` on a device: what has tables or arrays in its slots, moved there; see `device`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import reduce
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..cycle import NestedLevel, Operator, Prolongation, Restriction, SlotLevel, Smoother, StateTransfer, Steps
from ..stencil.coarse import DirectSolver, FourierSolver, basis, eigenvalue_sums
from ..stencil.grid import Axis
from ..stencil.hierarchy import StencilLevel
from ..stencil.kernels import slices
from ..stencil.kernels.bands import Band
from ..stencil.operator import StencilOperator
from ..stencil.slots import nested_transfers
from ..stencil.smoothers import Chebyshev, Jacobi, RedBlack
from ..stencil.transfers import SeparableTransfer
from .device_problems import DeviceProblem, moved, widest

MOST_GRAPHS = 256  # of one function: torch counts those of all levels and cycles together
OWN_SMOOTHERS = (Jacobi, RedBlack, Chebyshev)
PRECISIONS: dict[torch.dtype, np.dtype] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class DeviceLevel(SlotLevel, NestedLevel):
    """A level, its slots on a device; without `colored` there are no tables for red-black relaxation."""

    operator: DeviceOperator
    _nested: list[Any]  # transfers of nested iteration

    def __init__(
        self, level: StencilLevel, device: torch.device, dtype: torch.dtype, compiled: bool, colored: bool = True
    ) -> None:
        problem, coarser = level.problem, level.coarser
        self.operator = DeviceOperator(problem.operator, device, dtype, compiled, colored)
        self.problem = DeviceProblem(problem, self.operator, device, dtype)

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

    def without_values(self) -> DeviceLevel:
        """Return the level of the problem whose boundary values are all zero."""
        other = copy(self)
        other.problem = self.problem.without_values()
        return other

    def right_hand_side(self, f: Tensor) -> Tensor:
        return self.problem.compatible(self.problem.folded(f))

    def measured(self, b: Tensor, u: Tensor, start: Tensor | None, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Ascend; return the norm of the residual, which stays on the device, and u."""
        u = self.ascend(b, u, start, coarse)
        residual = self.operator.residual(b, u)
        return slices.inner(residual, residual).sqrt(), u

    def corrected(self, b: Tensor, u: Tensor | None, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return u + e, and b - A (u + e) in the precision of e with its norm, which stays on the device."""
        u = e.to(b.dtype) if u is None else u + e
        residual = self.operator.residual(b, u)
        return u, residual.to(e.dtype), slices.inner(residual, residual).sqrt()

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

    def __init__(
        self, operator: StencilOperator, device: torch.device, dtype: torch.dtype, compiled: bool, colored: bool = True
    ) -> None:
        self.host, self.smoothing_interval, self.norm_bound = operator, operator.smoothing_interval, operator.norm_bound
        axes, constant = operator.grid.axes, operator.constant_diagonal
        middle: Any = moved(operator.diagonal(), device, dtype) if constant is None else constant
        gain = 1.0 / middle
        relaxed = (0, 1) if colored else ()
        colors = [tuple(gain * mask for mask in _stages(axes, color, device, dtype)) for color in relaxed] or [(), ()]
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

    def magnitude(self, u: Tensor) -> float:
        """Return a bound of the 2-norm of the terms that A u sums up, which rounding is relative to."""
        return self.norm_bound * slices.norm(u)


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
        poisson, wide = problem.poisson, widest(device)
        axes = poisson.grid.axes
        self._bases = [[moved(each, device, wide) for each in basis(axis)] for axis in axes]
        self._inverse = moved(1.0 / eigenvalue_sums(axes, poisson.reaction), device, wide)
        adds = problem.has_constant_apart and not poisson.loses_reaction(PRECISIONS[dtype], largest)
        self._problem = problem if adds else None

    def __call__(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        wide: Any = f.to(self._inverse.dtype)
        for axis, (_, inverse) in enumerate(self._bases):
            wide = _along(inverse, wide, axis)
        wide = wide * self._inverse
        for axis, (vectors, _) in enumerate(self._bases):
            wide = _along(vectors, wide, axis)
        if self._problem is not None:
            wide = wide + self._problem.mean_there(f) / self._problem.reaction
        return wide.to(f.dtype)  # type: ignore[no-any-return]


def _along(matrix: Tensor, array: Tensor, axis: int) -> Tensor:
    """Return the product of a matrix with an array along one axis."""
    return torch.tensordot(matrix, array, dims=([1], [axis])).movedim(0, axis)
