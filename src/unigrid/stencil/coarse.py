"""The smoothers of the coarsest level: direct solvers, which leave no error."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, final

import numpy as np
import scipy  # its parts load when first used: a first solve waits for none that it does not need
from numpy.typing import NDArray

from ..cycle import Operator, Smoother
from .grid import Axis, Dirichlet, Grid
from .problem import Poisson

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
# Up to about here a dense inverse is faster to apply than sparse factors (2-D: 15 us against 24 at 400 unknowns, 113 against 46
# at 900), and beyond it the inverse itself takes long.
DENSE_UNKNOWNS = 400
# Multiplications of a product of matrices beyond which BLAS wakes its threads (OpenBLAS), which then spin for 0.1 s on the
# cores that the solve is about to use: at most this many, which one row of the largest inverse has fewer than.
SERIAL_PRODUCT = 1 << 18


@final
class DirectSolver(Smoother):
    """u = A^-1 f by a dense inverse (few unknowns) or a sparse factorization; see `_constant_part` where A is nearly singular.

    The dense inverse comes from the eigenvectors along each axis, which are known: A^-1 = V (sum of eigenvalues)^-1 V^-1, V a
    tensor product.
    """

    def __init__(self, problem: Poisson, largest: float | None = None) -> None:
        """`largest` bounds the eigenvalues of A on the finest level; that of `problem` itself, if not given."""
        self.problem, self.largest = problem, largest or problem.operator.norm_bound
        dense = problem.grid.size <= DENSE_UNKNOWNS
        self.inverse = _dense_inverse(problem.grid.axes, problem.reaction) if dense else None  # u = inverse f
        self._solve: Callable[[Numbers], Numbers] = (
            self.inverse.__matmul__ if self.inverse is not None else _factorized(problem)
        )

    def __repr__(self) -> str:
        return f"<DirectSolver: {self.problem.grid.size} unknowns, {'factorized' if self.inverse is None else 'dense inverse'}>"

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        u = self._solve(f.astype(np.float64).ravel()).reshape(f.shape)
        u += _constant_part(self.problem, self.largest, f)
        return u.astype(f.dtype)

    def of_each(self, f: Array) -> Array:
        """Return the solutions for a stack of right-hand sides."""
        if self.inverse is None or self.problem.has_constant_apart:
            return np.stack([self(self.problem.operator, each, None) for each in f])
        # A product of matrices would round otherwise than the products with vectors that each has in a call of its own.
        return (self.inverse @ f.reshape(len(f), -1, 1).astype(np.float64)).reshape(f.shape).astype(f.dtype)

    def adjoint(self) -> DirectSolver:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"problem": self.problem, "largest": self.largest}  # factors of the sparse solver cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _constant_part(problem: Poisson, largest: float, f: Array) -> float:
    """Return the constant to be added to the solution without its constant part.

    That is mean(f) / c where the constant is found apart, and zero where c is lost in the rounding of the finest operator: 1/c
    would amplify rounding until nothing else is left. Above, it has to be solved for, as smoothing does not keep the mean.
    """
    if not problem.has_constant_apart or problem.loses_reaction(f.dtype, largest):
        return 0.0
    weights = problem.weights
    return float((weights * f).sum() / weights.sum()) / problem.reaction


@lru_cache(32)
def _dense_inverse(axes: tuple[Axis, ...], reaction: float) -> Numbers:
    """Return A^-1, (unknowns, unknowns); where the constant is found apart, the matrix of the rest."""
    result = 1.0 / eigenvalue_sums(axes, reaction)
    # One axis after the other: the sum over k of V[i, k] result[k, ..] V^-1[k, j], i and j last; as a stack of small products.
    for axis in axes:
        vectors, inverse = basis(axis)
        rest = result.reshape(axis.n, -1).T
        rows = max(rows for rows in range(1, axis.n + 1) if axis.n % rows == 0 and rows * axis.n**2 <= SERIAL_PRODUCT)
        result = ((rest[:, None, :] * vectors).reshape(-1, rows, axis.n) @ inverse).reshape(rest.shape[0], -1)
    shape = [axis.n for axis in axes]
    split = result.reshape([n for n in shape for _ in range(2)])
    order = [*range(0, 2 * len(shape), 2), *range(1, 2 * len(shape), 2)]
    size = int(np.prod(shape))
    inverse = np.ascontiguousarray(split.transpose(order).reshape(size, size))
    inverse.flags.writeable = False
    return inverse


BLOCKS = {1: 256, 2: 16, 3: 6}  # per axis, by dimension: what `solution_norm` solves for


def block_counts(grid: Grid) -> tuple[int, ...]:
    """Return the blocks along each axis that `solution_norm` takes the sums of b over."""
    return tuple(min(axis.n, BLOCKS[grid.ndim]) for axis in grid.axes)


def solution_norm(grid: Grid, reaction: float, block_sums: Numbers) -> float:
    """Return about the 2-norm of the solution of A u = b, from the sums of b over blocks of the grid.

    The solution of a few hundred cells, as its norm is that of its low frequencies.
    """
    counts = block_sums.shape
    axes = tuple(
        Axis.of_length(count, axis.length, axis.low, axis.high, "cell") for count, axis in zip(counts, grid.axes, strict=True)
    )
    per_block = grid.size / block_sums.size
    u = _dense_inverse(axes, reaction) @ (block_sums.ravel() / per_block)
    return float(np.sqrt(per_block * (u @ u)))


def _factorized(problem: Poisson) -> Callable[[Numbers], Numbers]:
    """Return the solve with sparse factors."""
    import scipy.sparse
    from scipy.sparse.linalg import splu

    matrix = problem.matrix()
    if not problem.has_constant_apart:
        return splu(matrix.tocsc()).solve  # type: ignore[no-any-return]
    # Bordered with the constant, [A 1; w^T 0] is regular however small c is, and its solution has mean zero.
    weights = (problem.weights / problem.weights.sum()).ravel()
    ones = np.ones((len(weights), 1))
    bordered = scipy.sparse.block_array([[matrix, ones], [weights[None, :], None]], format="csc")
    solve = splu(bordered).solve
    return lambda b: solve(np.append(b, 0.0))[:-1]


@final
class FourierSolver(Smoother):
    """u = A^-1 f by diagonalization: a fast sine, cosine or Fourier transform along each axis, by the sides it ends at.

    Alone on one level it is the classical fast Poisson solver.

    Source: G. Strang, The discrete cosine transform, SIAM Review 41 (1999), for the eight bases.
    """

    def __init__(self, problem: Poisson, largest: float | None = None) -> None:
        """`largest` as of `DirectSolver`."""
        self.problem, self.axes, self.largest = problem, problem.grid.axes, largest or problem.operator.norm_bound
        self._inverse = 1.0 / eigenvalue_sums(self.axes, problem.reaction)

    def __repr__(self) -> str:
        return f"<FourierSolver: {' x '.join(str(axis.n) for axis in self.axes)} unknowns>"

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        spectrum: Any = f
        for number, axis in enumerate(self.axes):
            spectrum = _transform(spectrum, axis, number)
        spectrum = spectrum * self._inverse.astype(f.dtype)
        for number, axis in reversed(list(enumerate(self.axes))):
            spectrum = _back_transform(spectrum, axis, number)
        u = np.ascontiguousarray(spectrum.real, dtype=f.dtype)
        u += f.dtype.type(_constant_part(self.problem, self.largest, f))
        return u

    def adjoint(self) -> FourierSolver:
        return self


def _kind(axis: Axis) -> tuple[str, int]:
    """Return the family and the type of the transform whose basis meets the conditions at both ends."""
    family = "dst" if axis.low is Dirichlet else "dct"
    if axis.low is axis.high:
        return family, 2 if axis.centering == "cell" else 1
    return family, 4 if axis.centering == "cell" else 3


def basis(axis: Axis) -> tuple[Numbers, Numbers]:
    """Return V, whose columns are the eigenvectors along one axis, and V^-1, both (n, n).

    The eigenvectors are orthogonal in the weights of the axis; of a periodic axis they are cos + sin (Hartley's basis).
    """
    if axis.n == 1:
        return np.ones((1, 1)), np.ones((1, 1))
    angles = np.outer(np.arange(axis.n) + (0.0 if axis.periodic else axis.origin), axis.frequencies(np.arange(axis.n)))
    vectors = np.sin(angles) if axis.low is Dirichlet else np.cos(angles)
    if axis.periodic:
        vectors += np.sin(angles)
    weighted = axis.weights[:, None] * vectors
    return vectors, (weighted / (vectors * weighted).sum(axis=0)).T


def eigenvalue_sums(axes: tuple[Axis, ...], reaction: float) -> Numbers:
    """Return the eigenvalues of A, one array axis per grid axis; infinity for the constant where that is found apart."""
    sums = np.full((), reaction)
    for axis in axes:
        sums = np.add.outer(sums, axis.eigenvalues(np.arange(axis.n)))
    if Grid(axes).has_constant_apart(reaction):
        sums[(0,) * len(axes)] = np.inf
    return sums


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


def clear_cache() -> None:
    """Forget the dense inverses that were kept."""
    _dense_inverse.cache_clear()
