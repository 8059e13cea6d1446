"""What the kernels compute, in plain array arithmetic: the oracle of their tests, slow and easy to read.

Nothing here is shared with the compiled kernels. Every boundary condition is a ghost, appended to the array as a reflection
of it (odd: Dirichlet, even: Neumann, wrap: periodic), and everything else follows from

    (A u)_i = sum over axes of (2 u_i - u_(i-1) - u_(i+1)) / h^2 + c u_i.

Arrays have the shape of the grid, 1 to 3 axes; no function changes what it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grid import Axis, Dirichlet, Grid

Array = NDArray[np.floating]


def padded(u: Array, axis: Axis) -> Array:
    """Return u, axis 0 of which is `axis`, with one ghost at either end of it."""
    if axis.periodic:
        return np.concatenate([u[-1:], u, u[:1]])
    if axis.centering == "cell":  # reflected in the side, half a spacing beyond the last unknown
        low, high = (-1 if side is Dirichlet else 1 for side in (axis.low, axis.high))
        return np.concatenate([low * u[:1], u, high * u[-1:]])
    node = np.zeros_like(u[:1])  # the boundary node of a Dirichlet side, where u = 0
    if axis.low is Dirichlet:
        u = np.concatenate([node, u])
    if axis.high is Dirichlet:
        u = np.concatenate([u, node])
    if axis.low is not Dirichlet:  # reflected in the boundary node, which is an unknown
        u = np.concatenate([u[1:2], u])
    if axis.high is not Dirichlet:
        u = np.concatenate([u, u[-2:-1]])
    return u


def second_difference(u: Array, axis: Axis) -> Array:
    """Return -u'' along axis 0 of u, which is `axis`."""
    extended = padded(u, axis)
    return (2 * u - extended[:-2] - extended[2:]) / u.dtype.type(axis.h) ** 2


def apply(u: Array, grid: Grid, reaction: float) -> Array:
    """Return A u."""
    out = u.dtype.type(reaction) * u
    for number, axis in enumerate(grid.axes):
        out = out + np.moveaxis(second_difference(np.moveaxis(u, number, 0), axis), 0, number)
    return out


def residual(f: Array, u: Array, grid: Grid, reaction: float) -> Array:
    """Return f - A u."""
    return f - apply(u, grid, reaction)


def residual_norm(f: Array, u: Array, grid: Grid, reaction: float) -> float:
    """Return the 2-norm of f - A u."""
    return float(np.linalg.norm(residual(f, u, grid, reaction).ravel().astype(np.float64)))


def diagonal(grid: Grid, reaction: float) -> NDArray[np.float64]:
    """Return the diagonal of A, shape of the grid."""
    total = np.full((), reaction)
    for matrix in axis_matrices(grid):
        total = np.add.outer(total, np.diagonal(matrix))
    return total


def axis_matrices(grid: Grid) -> list[Array]:
    """Return the dense (n, n) matrix of -u'' along each axis."""
    return [second_difference(np.eye(axis.n), axis) for axis in grid.axes]


def semi_iterate(previous: Array, f: Array, u: Array, gain: float, weight: float, grid: Grid, reaction: float) -> Array:
    """Return weight (u + gain D^-1 (f - A u)) + (1 - weight) previous."""
    step = u + gain * residual(f, u, grid, reaction) / diagonal(grid, reaction)
    return (weight * step + (1 - weight) * previous).astype(u.dtype)


def relax_color(u: Array, f: Array, omega: float, color: int, backward: bool, grid: Grid, reaction: float) -> Array:
    """Return u after relaxing the points whose index sum is even (color 0) or odd (1), one by one."""
    points = [point for point in np.ndindex(*grid.shape) if sum(point) % 2 == color]
    return _relax(u, f, omega, reversed(points) if backward else points, grid, reaction)


def relax_lexicographic(u: Array, f: Array, omega: float, backward: bool, grid: Grid, reaction: float) -> Array:
    """Return u after relaxing all points, one by one."""
    points = list(np.ndindex(*grid.shape))
    return _relax(u, f, omega, reversed(points) if backward else points, grid, reaction)


def _relax(u: Array, f: Array, omega: float, points: Iterable[tuple[int, ...]], grid: Grid, reaction: float) -> Array:
    """Return u after u <- u + omega D^-1 (f - A u) at one point after the other."""
    u, matrices, divisor = u.copy(), axis_matrices(grid), diagonal(grid, reaction)
    for point in points:
        value = reaction * u[point]
        for number, matrix in enumerate(matrices):
            line: Any = (*point[:number], slice(None), *point[number + 1 :])
            value += matrix[point[number]] @ u[line]
        u[point] += omega * (f[point] - value) / divisor[point]
    return u


def transfer(u: Array, products: Sequence[Sequence[NDArray[np.float64]]], scale: float = 1.0) -> Array:
    """Return scale times the sum over `products` of (T0 x T1 x T2) u, each T a dense matrix for one axis."""
    total: Any = 0.0
    for matrices in products:
        part = u
        for number, matrix in enumerate(matrices):
            part = np.moveaxis(np.tensordot(matrix, part, axes=(1, number)), 0, number)
        total = total + part
    return (scale * total).astype(u.dtype)


def correlate(extended: Array, weights: Array, strides: tuple[int, ...]) -> Array:
    """Return the cross-correlation wherever all of it lies inside."""
    windows = np.lib.stride_tricks.sliding_window_view(extended, weights.shape)
    windows = windows[tuple(slice(None, None, stride) for stride in strides)]
    return np.tensordot(windows, weights, axes=weights.ndim)
