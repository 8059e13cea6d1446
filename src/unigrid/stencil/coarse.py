"""What smooths on the coarsest level: a direct solver, which is a smoother that leaves no error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import scipy  # its parts load when first used: a first solve waits for none that it does not need
import scipy.sparse
from numpy.typing import NDArray

from ..cycle import Operator, Smoother
from .boundary import Dirichlet
from .grid import Axis
from .problem import Poisson

Array = NDArray[np.floating]
# Up to about here a dense inverse is faster to apply than sparse factors (2-D: 15 us against 24 at 400 unknowns, 113 against 46
# at 900), and beyond it the inverse itself takes long.
DENSE_UNKNOWNS = 400


@final
class DirectSolver(Smoother):
    """u = A^-1 f by a dense inverse (few unknowns) or a sparse factorization; the mean-zero solution where A is singular."""

    def __init__(self, problem: Poisson) -> None:
        self.problem = problem
        self._factorize()

    def _factorize(self) -> None:
        matrix = self.problem.matrix()
        self._singular = self.problem.singular
        self._weights = (self.problem.weights / self.problem.weights.sum()).ravel()
        if self._singular:
            # Bordered with the null space: [A 1; w^T 0] is regular, its solution has mean zero.
            ones = np.ones((len(self._weights), 1))
            matrix = scipy.sparse.block_array([[matrix, ones], [self._weights[None, :], None]], format="csr")
        self._solve: Callable[[Array], Array]
        self.inverse: NDArray[np.float64] | None = None  # u = inverse f, where it is dense
        if matrix.shape[0] <= DENSE_UNKNOWNS:
            whole = np.linalg.inv(matrix.toarray())
            self._solve, unknowns = whole.__matmul__, len(self._weights)
            self.inverse = whole[:unknowns, :unknowns]
        else:
            from scipy.sparse.linalg import splu

            self._solve = splu(matrix.tocsc()).solve

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        b = f.astype(np.float64).ravel()
        if self._singular:
            b = np.append(b, 0.0)
        x = self._solve(b)
        return x[: f.size].reshape(f.shape).astype(f.dtype)

    def adjoint(self) -> DirectSolver:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"problem": self.problem}  # factors of the sparse solver cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.problem = state["problem"]
        self._factorize()


@final
class FourierSolver(Smoother):
    """u = A^-1 f by diagonalization: a fast sine, cosine or Fourier transform along each axis, whatever its ends demand.

    Alone on one level it is the classical fast Poisson solver. The mean-zero solution where A is singular.

    Source: G. Strang, The discrete cosine transform, SIAM Review 41 (1999), for the eight bases.
    """

    def __init__(self, problem: Poisson) -> None:
        self.axes = problem.grid.axes
        eigenvalues = np.full((), problem.reaction)
        for axis in self.axes:
            eigenvalues = np.add.outer(eigenvalues, _eigenvalues(axis))
        if problem.singular:
            eigenvalues[(0,) * len(self.axes)] = np.inf  # the constant: the mean-zero solution has none
        self._inverse = 1.0 / eigenvalues

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        spectrum: Any = f
        for number, axis in enumerate(self.axes):
            spectrum = _transform(spectrum, axis, number)
        spectrum = spectrum * self._inverse.astype(f.dtype)
        for number, axis in reversed(list(enumerate(self.axes))):
            spectrum = _back_transform(spectrum, axis, number)
        return np.ascontiguousarray(spectrum.real, dtype=f.dtype)

    def adjoint(self) -> FourierSolver:
        return self


def _kind(axis: Axis) -> tuple[str, int]:
    """Return sine or cosine, and the type of the transform whose basis meets the conditions at both ends."""
    family = "dst" if axis.low is Dirichlet else "dct"
    if axis.low is axis.high:
        return family, 2 if axis.centering == "cell" else 1
    return family, 4 if axis.centering == "cell" else 3


def _frequencies(axis: Axis) -> NDArray[np.float64]:
    """Return the angle between neighboring unknowns of each basis vector."""
    k = np.arange(axis.n)
    if axis.periodic:
        return 2.0 * np.pi * k / axis.n
    if axis.low is not axis.high:
        return np.pi * (k + 0.5) / axis.intervals
    return np.pi * (k + (axis.low is Dirichlet)) / axis.intervals


def _eigenvalues(axis: Axis) -> NDArray[np.float64]:
    if axis.n == 1:
        return axis.second_difference().diagonal()
    return (2.0 * np.sin(_frequencies(axis) / 2.0) / axis.h) ** 2


def _transform(array: Any, axis: Axis, number: int) -> Any:
    if axis.n == 1:
        return array
    if axis.periodic:
        return scipy.fft.fft(array, axis=number)
    family, kind = _kind(axis)
    return _real_transform(getattr(scipy.fft, family), array, kind, number)


def _back_transform(array: Any, axis: Axis, number: int) -> Any:
    if axis.n == 1:
        return array
    if axis.periodic:
        return scipy.fft.ifft(array, axis=number)
    family, kind = _kind(axis)
    return _real_transform(getattr(scipy.fft, "i" + family), array, kind, number)


def _real_transform(transform: Any, array: Any, kind: int, number: int) -> Any:
    """Apply a sine or cosine transform; to the real and the imaginary part where a periodic axis came before."""
    if np.iscomplexobj(array):
        return transform(array.real, type=kind, axis=number) + 1j * transform(array.imag, type=kind, axis=number)
    return transform(array, type=kind, axis=number)
