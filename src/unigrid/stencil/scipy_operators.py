"""Operators and cycles as SciPy's LinearOperators, symmetric in the plain inner product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import real_array

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from .problem import Poisson

Array = NDArray[np.floating]


class SciPySystem(NamedTuple):
    """A and M, symmetric, and the factor of right-hand sides: A u = scale b."""

    A: LinearOperator
    M: LinearOperator
    scale: NDArray[np.float64]


def system_of(problem: Poisson, once: Callable[[Array], Array]) -> SciPySystem:
    """Return w A, a symmetric cycle from zero as an approximation of its inverse, and w; see `ProblemCycle.as_scipy`."""
    operator = problem.operator
    scale = problem.weights / problem.weights.max()
    if problem.domain is not None:  # rows of points that are no unknowns
        scale = np.where(problem.domain.unknown, scale, 1.0)
    return SciPySystem(
        _linear(lambda u: scale * operator(u), problem.shape),
        _linear(lambda r: problem.centered(once(problem.centered(r / scale))), problem.shape),
        scale.ravel(),
    )


def _linear(function: Callable[[Array], Array], shape: tuple[int, ...]) -> LinearOperator:
    from scipy.sparse.linalg import LinearOperator

    size = int(np.prod(shape))

    def apply(vector: Array) -> Array:
        box = np.ascontiguousarray(real_array(vector, "the vector"), np.float64).reshape(shape)
        return function(box).ravel()

    return LinearOperator((size, size), matvec=apply, rmatvec=apply, dtype=np.float64)
