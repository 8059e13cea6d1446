"""Conjugate gradients, preconditioned by one symmetric cycle, as a step for the driver."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .operator import StencilOperator

Array = NDArray[np.floating]


@final
class ConjugateGradients:
    """(b, u) -> u, one iteration, in the inner product of the cell volumes, in which A is symmetric.

    z = M r;  p = z + beta p with beta = <z, r - r_old> / <z_old, r_old>;  u <- u + (<z, r> / <p, A p>) p. The residual is
    computed anew each time, not carried along: the one that the driver measures and the one used here are the same.

    Source: Y. Saad, Iterative methods for sparse linear systems (2003), algorithm 9.1; beta as in A. Knyazev, I. Lashuk,
    SIAM J. Matrix Anal. Appl. 29 (2007), which forgives a preconditioner that rounding makes unsymmetric.
    """

    def __init__(self, operator: StencilOperator, cycle: Callable[[Array], Array], project: Callable[[Array], Array]) -> None:
        """`cycle` is the symmetric preconditioner, `project` takes out what a singular operator cannot see."""
        self._operator, self._cycle, self._project = operator, cycle, project
        self._weights = [axis.weights for axis in operator.grid.axes]
        self._direction: Array | None = None
        self._residual: Array | None = None
        self._squared = math.nan

    def __call__(self, b: Array, u: Array | None) -> Array:
        residual = self._project(self._operator.residual(b, u))
        z = self._project(self._cycle(residual))
        squared = self._inner(z, residual)
        if self._direction is None or self._residual is None:
            direction = z
        else:
            beta = (squared - self._inner(z, self._residual)) / self._squared
            direction = z + z.dtype.type(beta) * self._direction
        curvature = self._inner(direction, self._operator(direction))
        if curvature == 0.0:  # nothing left to gain in this precision
            return np.zeros_like(b) if u is None else u
        step = z.dtype.type(self._inner(direction, residual) / curvature)
        self._direction, self._residual, self._squared = direction, residual, squared
        return step * direction if u is None else u + step * direction

    def _inner(self, a: Array, b: Array) -> float:
        return kernels.weighted_inner(a, b, self._weights)
