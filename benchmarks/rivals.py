"""Solvers that unigrid is compared with, used as an expert would use them: sine transforms and algebraic multigrid."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import reduce

import numpy as np
import scipy.fft
from scipy import sparse

import unigrid

Array = np.ndarray
Solve = Callable[[Array], Array]


def require_pyamg() -> None:
    """Exit with the command that installs PyAMG if it is missing."""
    if importlib.util.find_spec("pyamg") is None:
        raise SystemExit("this benchmark compares with PyAMG, which is not installed: pip install 'unigrid[bench]'")


def has_ducc0() -> bool:
    """Whether ducc0 is installed (extra `bench`)."""
    return importlib.util.find_spec("ducc0") is not None


def matrix_for_pyamg(problem: unigrid.Poisson) -> sparse.csr_matrix:
    """Return the matrix of a problem with the 32-bit indices that PyAMG requires."""
    matrix = problem.matrix()
    return sparse.csr_matrix((matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)), matrix.shape)


def eigenvalues_of_axes(shape: tuple[int, ...], periodic: bool = False) -> list[Array]:
    """Return the eigenvalues of -d^2/dx^2 along each axis, shaped for broadcasting over all axes.

    The grid is that of `unigrid.Poisson(shape)`: equal spacing h, the first side of length 1.

    With Dirichlet sides the eigenvectors are those of DST-I, and lambda_k = (2 sin(pi (k + 1) / (2 (n + 1))) / h)^2; with
    periodic sides they are those of the DFT, whose last axis is halved for real input.
    """
    h = 1.0 / shape[0] if periodic else 1.0 / (shape[0] + 1)
    found = []
    for number, n in enumerate(shape):
        halved = periodic and number == len(shape) - 1
        k = np.arange(n // 2 + 1 if halved else n)
        angle = np.pi * k / n if periodic else np.pi * (k + 1) / (2 * (n + 1))
        found.append(((2 * np.sin(angle) / h) ** 2).reshape([-1 if axis == number else 1 for axis in range(len(shape))]))
    return found


def eigenvalues(shape: tuple[int, ...], periodic: bool = False, scaling: float = 1.0) -> Array:
    """Return the scaled eigenvalues of -Laplace for all frequencies; infinity in place of a zero eigenvalue."""
    values = reduce(np.add, [scaling * of_axis for of_axis in eigenvalues_of_axes(shape, periodic)])
    if periodic:
        values[(0,) * values.ndim] = np.inf
    return values


def dst_scaling(shape: tuple[int, ...]) -> float:
    """Return the factor by which the unnormalized DST-I, applied twice, multiplies."""
    return float(np.prod([2.0 * (n + 1) for n in shape]))


def scipy_dst(f: Array, workers: int) -> Array:
    """Solve -Laplace(u) = f with zero Dirichlet values by scipy.fft's DST-I, set-up included."""
    spectrum = scipy.fft.dstn(f, type=1, workers=workers)
    spectrum /= eigenvalues(f.shape)
    return scipy.fft.idstn(spectrum, type=1, workers=workers, overwrite_x=True)


def ducc0_dst(f: Array, threads: int) -> Array:
    """Solve the same problem by ducc0's DST-I, set-up included."""
    import ducc0

    spectrum = ducc0.fft.dst(f, type=1, nthreads=threads)
    spectrum /= eigenvalues(f.shape, scaling=dst_scaling(f.shape))
    return ducc0.fft.dst(spectrum, type=1, nthreads=threads, out=spectrum)


def prepared_scipy(shape: tuple[int, ...], periodic: bool, workers: int) -> Solve:
    """Return the direct solve by scipy.fft with prepared eigenvalues: DST-I, or the real FFT if the sides are periodic."""
    inverse = 1.0 / eigenvalues(shape, periodic)

    def by_fft(f: Array) -> Array:
        spectrum = scipy.fft.rfftn(f, workers=workers)
        spectrum *= inverse
        return scipy.fft.irfftn(spectrum, s=f.shape, workers=workers, overwrite_x=True)

    def by_dst(f: Array) -> Array:
        spectrum = scipy.fft.dstn(f, type=1, workers=workers)
        spectrum *= inverse
        return scipy.fft.idstn(spectrum, type=1, workers=workers, overwrite_x=True)

    return by_fft if periodic else by_dst


def prepared_ducc0(shape: tuple[int, ...], threads: int) -> Solve:
    """Return the direct solve by ducc0's DST-I with prepared eigenvalues."""
    import ducc0

    inverse = 1.0 / eigenvalues(shape, scaling=dst_scaling(shape))

    def solve(f: Array) -> Array:
        spectrum = ducc0.fft.dst(f, type=1, nthreads=threads)
        spectrum *= inverse
        return ducc0.fft.dst(spectrum, type=1, nthreads=threads, out=spectrum)

    return solve


def relative_residual(problem: unigrid.Poisson, f: Array, u: Array) -> float:
    """Return ||f - A u|| / ||f||."""
    return float(problem.operator.residual_norm(f, u) / np.linalg.norm(f))
