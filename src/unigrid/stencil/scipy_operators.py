"""Operators and cycles as SciPy's LinearOperators, symmetric in the plain inner product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grid import real_array

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from .solving import ProblemCycle

Array = NDArray[np.floating]


class SciPySystem(NamedTuple):
    """A and M, symmetric, and the factor of right-hand sides: A u = scale b."""

    A: LinearOperator
    M: LinearOperator
    scale: NDArray[np.float64]


def as_scipy(cycle: ProblemCycle) -> SciPySystem:
    """Return w A, the cycle as an approximation of its inverse, and w; see `ProblemCycle.as_scipy`."""
    problem = cycle.problem
    if problem.nonlinear is not None:
        raise ValueError("a Nonlinear reaction makes no linear operator; linearize it, reaction=derivative(u)")
    symmetric, operator = cycle.selfadjoint(), problem.operator
    scale = problem.weights / problem.weights.max()
    if problem.domain is not None:  # rows of points that are no unknowns
        scale = np.where(problem.domain.unknown, scale, 1.0)
    return SciPySystem(
        _linear(lambda u: scale * operator(u), problem.shape),
        _linear(lambda r: problem.centered(symmetric.once(problem.centered(r / scale))), problem.shape),
        scale.ravel(),
    )


def _linear(function: Callable[[Array], Array], shape: tuple[int, ...]) -> LinearOperator:
    from scipy.sparse.linalg import LinearOperator

    size = int(np.prod(shape))

    def apply(vector: Array) -> Array:
        box = np.ascontiguousarray(real_array(vector, "the vector"), np.float64).reshape(shape)
        return function(box).ravel()

    return LinearOperator((size, size), matvec=apply, rmatvec=apply, dtype=np.float64)
