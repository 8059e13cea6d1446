"""Interpolation along one axis, as sparse matrices; tensor products of them make every transfer and carry boundary values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .grid import Axis


def lagrange(source: Axis, targets: NDArray[np.float64], degree: int = 3, beyond: int = 0) -> sparse.csr_array:
    """Return the (len(targets), source.n) matrix of polynomial interpolation of a function, whatever its boundary values.

    Near an end the stencil is one-sided: a solution, unlike a correction, has no reflection to rely on. Lower degree where
    the axis has too few unknowns. With `beyond` there are so many values more at either end to be interpolated from; if those
    come from the same polynomial, extrapolated, the outcome is the same.
    """
    degree = min(degree, source.n - 1)
    position = _position(targets, source)
    first = np.floor(position).astype(int) - (degree - 1) // 2 if degree else np.zeros(len(targets), int)
    if not source.periodic:
        first = np.clip(first, -beyond, source.n - 1 - degree + beyond)
    nodes = first[:, None] + np.arange(degree + 1)
    weights = np.ones(nodes.shape)
    for own in range(degree + 1):
        for other in range(degree + 1):
            if other != own:
                weights[:, own] *= (position - nodes[:, other]) / (own - other)
    return _rows(nodes % source.n if source.periodic else nodes + beyond, weights, source.n + 2 * beyond)


def linear(fine: Axis, coarse: Axis) -> sparse.csr_array:
    """Return the (fine.n, coarse.n) matrix of linear interpolation of a correction, which is homogeneous at the boundary."""
    position = _position(fine.positions, coarse)
    left = np.floor(position).astype(int)
    right_weight = position - left
    nodes, weights = np.stack([left, left + 1], axis=1), np.stack([1.0 - right_weight, right_weight], axis=1)
    low, high = coarse.ghosts()
    for outside, ghost in ((nodes < 0, low), (nodes >= coarse.n, high)):
        weights[outside] *= ghost.weight
        nodes[outside] = ghost.inward
    return _rows(nodes, weights, coarse.n)


def constant(fine: Axis, coarse: Axis) -> sparse.csr_array:
    """Return the (fine.n, coarse.n) matrix that gives each fine cell the mean, over it, of constants on the coarse cells.

    The cell of an unknown reaches halfway to its neighbors; at a vertex-Neumann end it is the inner half.
    """
    nodes = np.rint(_position(fine.positions, coarse)).astype(int)[:, None] + np.array([-1, 0, 1])
    fine_low, fine_high = _cell(fine.positions, fine)
    coarse_low, coarse_high = _cell((nodes + coarse.origin) * coarse.h, coarse)
    overlap = np.minimum(fine_high[:, None], coarse_high) - np.maximum(fine_low[:, None], coarse_low)
    weights = np.clip(overlap, 0.0, None) / (fine_high - fine_low)[:, None]
    if coarse.periodic:
        return _rows(nodes % coarse.n, weights, coarse.n)
    outside = (nodes < 0) | (nodes >= coarse.n)
    return _rows(np.where(outside, 0, nodes), np.where(outside, 0.0, weights), coarse.n)


def nearest(fine: Axis, coarse: Axis) -> sparse.csr_array:
    """Return the (coarse.n, fine.n) matrix that gives each coarse unknown the value of the nearest fine one (injection)."""
    index = np.ceil(_position(coarse.positions, fine) - 0.5).astype(int)
    index = index % fine.n if fine.periodic else np.clip(index, 0, fine.n - 1)
    return _rows(index[:, None], np.ones((coarse.n, 1)), fine.n)


def exact_for_linear(restriction: sparse.csr_array, fine: Axis, coarse: Axis) -> sparse.csr_array:
    """Return the (coarse.n, fine.n) restriction with each row's weights w_j times a + b d_j, d_j the distance from the coarse
    unknown, such that constants and linear functions come out exactly: sum w_j (a + b d_j) = 1, sum w_j (a + b d_j) d_j = 0.
    """
    row = np.repeat(np.arange(coarse.n), np.diff(restriction.indptr))
    distance = (fine.positions[restriction.indices] - coarse.positions[row]) / fine.h
    if fine.periodic:
        distance -= fine.n * np.rint(distance / fine.n)
    zeroth, first, second = (np.bincount(row, restriction.data * distance**power, coarse.n) for power in (0, 1, 2))
    determinant = zeroth * second - first**2
    enough = determinant > 1e-9  # a row of one weight can carry constants alone
    a = np.where(enough, second / np.where(enough, determinant, 1.0), 1.0 / zeroth)
    b = np.where(enough, -first / np.where(enough, determinant, 1.0), 0.0)
    weights = restriction.data * (a[row] + b[row] * distance)
    return sparse.csr_array((weights, restriction.indices, restriction.indptr), shape=restriction.shape)


def _position(points: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    """Return where the points lie in index space, points that coincide with unknowns exactly there."""
    position = points / axis.h - axis.origin
    whole = np.rint(position)
    return np.where(np.abs(position - whole) < 1e-9, whole, position)


def _cell(points: NDArray[np.float64], axis: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the cells around the points."""
    low, high = points - axis.h / 2, points + axis.h / 2
    return (low, high) if axis.periodic else (np.clip(low, 0.0, axis.length), np.clip(high, 0.0, axis.length))


def _rows(nodes: NDArray[np.int_], weights: NDArray[np.float64], columns: int) -> sparse.csr_array:
    rows = np.repeat(np.arange(len(nodes)), nodes.shape[1])
    matrix = sparse.csr_array((weights.ravel(), (rows, nodes.ravel())), shape=(len(nodes), columns))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix
