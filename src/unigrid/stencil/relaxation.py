"""The slot S of black box multigrid: relaxation of points and of lines, by symmetric stencils.

Arrays on a level are boxes of three axes, missing leading ones of one point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Smoother
from .coupled import SymmetricOperator
from .kernels.cpu import coupled
from .smoothers import own_copy

Array = NDArray[np.floating]
OMEGA = {1: 1.0, 2: 1.15, 3: 1.2}  # of point relaxation, by dimension: quadrant 1e6 at 127^2 .068 -> .023 a cycle


@final
@dataclass(frozen=True)
class Points(Smoother):
    """Gauss-Seidel by colors, over-relaxed: two colors where points couple along axes alone, else 2^d."""

    omega: float

    def __call__(self, operator: SymmetricOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: SymmetricOperator, b: Array, u: Array) -> Array:
        stencil = operator.tables(u.dtype)
        ndim = sum(n > 1 for n in u.shape)
        colors = 2 if len(stencil.offsets) <= ndim else 8
        coupled.relax_colors(u, b, self.omega, colors, stencil)
        return u


@final
@dataclass(frozen=True)
class Lines(Smoother):
    """Zebra line relaxation, along one axis after the other: whole lines at once, every other one first."""

    axes: tuple[int, ...]  # of three

    @property
    def cost(self) -> float:
        """Sweeps per step."""
        return float(len(self.axes))

    def __call__(self, operator: SymmetricOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: SymmetricOperator, b: Array, u: Array) -> Array:
        for axis in self.axes:
            coupled.relax_lines(u, b, axis, operator.tables(u.dtype))
        return u
