"""Generalized conjugate residuals: GMRES for the driver, for operators that may be indefinite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Operator
from . import kernels

Array = NDArray[np.floating]
KEPT = 30  # directions


@final
class MinimalResiduals:
    """(b, u) -> u, one iteration of generalized conjugate residuals, which is GMRES with the iterate at hand in each step.

    z = M r, made such that A z is orthogonal to those of the last directions and of norm 1;  u <- u + <A z, r> z.

    Source: S. Eisenstat, H. Elman, M. Schultz, SIAM J. Numer. Anal. 20 (1983).
    """

    def __init__(self, operator: Operator, cycle: Callable[[Array], Array]) -> None:
        self._operator, self._cycle = operator, cycle
        self._directions: list[tuple[Array, Array]] = []  # z and A z

    def __call__(self, b: Array, u: Array | None) -> Array:
        residual = self._operator.residual(b, u)
        z = self._cycle(residual)
        image = self._operator(z)
        for older, its_image in self._directions:
            part = _inner(its_image, image)
            z, image = z - part * older, image - part * its_image
        norm = kernels.of(image).norm(image)
        if norm > 0.0:  # else nothing is left to gain
            z, image = z / z.dtype.type(norm), image / image.dtype.type(norm)
            self._directions = [*self._directions, (z, image)][-KEPT:]
        step = _inner(image, residual) * z
        return step if u is None else u + step


def _inner(a: Array, b: Array) -> Any:
    """Return the plain inner product, in the precision of the arrays."""
    return a.dtype.type(np.vdot(a, b))
