"""The levels of a `StencilCycle` on a GPU, with the fused half-cycles of `stencil.kernels.gpu`, which equal their slots."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..cycle import Descent, Level, Operator, Smoother
from ..stencil.coarse import DirectSolver
from ..stencil.hierarchy import SLOTS, StencilLevel
from ..stencil.kernels.gpu.sweeps import Correction, MarchedSweeps, Transfer, sweeps_for
from ..stencil.slots import Slots, half_sweeps, nested_transfers
from ..stencil.transfers import SeparableTransfer
from .device_levels import PRECISIONS, DeviceLevel
from .device_problems import moved


def level_on_gpu(level: StencilLevel, done: Tensor, dtype: torch.dtype) -> DeviceLevel:
    """Return a level with fused half-cycles where there are kernels for its slots, else with its slots.

    Kernels do nothing where the number in `done` is not zero.
    """
    device = done.device
    if level.coarser is None:
        plain = DeviceLevel(level, device, dtype, False)
        inverse = level.smoother.inverse if isinstance(level.smoother, DirectSolver) else None
        if inverse is not None and not plain.problem.has_constant_apart:
            plain.smoother = DenseSolver(moved(inverse, device, torch.float64))
        return plain
    sweeps = half_sweeps(Slots(*(getattr(level, name) for name in SLOTS)))
    transfers = [each for each in (level.restriction, level.prolongation) if isinstance(each, SeparableTransfer)]
    single = len(transfers) == 2 and all(len(each.products) == 1 for each in transfers)
    if sweeps is None or level.state_transfer is not None or not single:
        return DeviceLevel(level, device, dtype, False)
    covered = MarchedSweeps.covers(level.problem.grid.axes, transfers[0].products[0], sweeps)
    return MarchedLevel(level, done, dtype) if covered else DeviceLevel(level, device, dtype, False)


@final
class MarchedLevel(DeviceLevel):
    """A level with fused half-cycles. Arrays may have leading axes: a batch."""

    def __init__(self, level: StencilLevel, done: Tensor, dtype: torch.dtype) -> None:
        super().__init__(level, done.device, dtype, False, colored=False)
        precision = PRECISIONS[dtype]

        def move(array: Any) -> Tensor:
            array = np.asarray(array)
            return moved(np.ascontiguousarray(array if array.dtype.kind == "i" else array.astype(precision)), done.device)

        problem, coarser = level.problem, level.coarser
        sweeps = half_sweeps(Slots(*(getattr(level, name) for name in SLOTS)))
        assert sweeps is not None
        slots: Any = level
        transfers = slots.restriction.products[0], slots.prolongation.products[0]
        self._own = sweeps_for(problem.grid.axes, coarser.shape, problem.reaction, sweeps, transfers, done, move)
        down, up = nested_transfers(problem.grid, coarser.grid)
        self._nested = [Transfer(each.products[0], done, move) for each in (down, up)]
        self.turns = self._own.turns
        self._correction = None if dtype != torch.float32 else Correction(
            problem.grid.axes, problem.reaction, lambda array: moved(array, done.device, torch.float64)
        )  # fmt: skip

    def descend(self, b: Tensor, u: Tensor | None, coarser: Level | None) -> Descent:
        return *self._own.descend(b, u), None

    def ascend(self, b: Tensor, u: Tensor, start: Tensor | None, coarse: Tensor) -> Tensor:
        return self._own.ascend(b, u, coarse)

    def ascend_measured(self, b: Tensor, u: Tensor, start: Tensor | None, coarse: Tensor) -> tuple[float, Tensor]:
        norm, u = self.measured(b, u, start, coarse)
        return float(norm), u

    def measured(self, b: Tensor, u: Tensor, start: Tensor | None, coarse: Tensor) -> tuple[Tensor, Tensor]:
        return self._own.ascend_measured(b, u, coarse)

    def corrected(self, b: Tensor, u: Tensor | None, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().corrected(b, u, e) if self._correction is None else self._correction(b, u, e)

    def turn(
        self, b: Tensor, u: Tensor, start: Tensor | None, coarse: Tensor, coarser: Level, keep: bool
    ) -> tuple[float, Tensor | None, Descent]:
        norm, kept, out, coarse_b = self._own.turn(b, u, coarse, keep)
        return float(norm), kept, (out, coarse_b, None)


@final
class DenseSolver(Smoother):
    """u = A^-1 f by the inverse matrix, in double precision; leading axes are a batch."""

    def __init__(self, inverse: Tensor) -> None:
        self._inverse = inverse

    def __call__(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        flat = f.reshape(-1, self._inverse.shape[0]).to(self._inverse.dtype)
        return (flat @ self._inverse.T).to(f.dtype).reshape(f.shape)  # type: ignore[no-any-return]
