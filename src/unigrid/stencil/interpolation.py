"""Interpolation along one axis, as banded matrices; tensor products of them make every transfer and carry boundary values.

Each matrix follows from a formula in the two axes alone, and an axis is a value: so matrices are computed once and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .grid import Axis
from .kernels.bands import Band, Numbers

KEPT = 256  # matrices


def lagrange(source: Axis, targets: Numbers, degree: int = 3, beyond: int = 0) -> Band:
    """Return the (len(targets), source.n) matrix of polynomial interpolation of a function, whatever its boundary values.

    Near an end the stencil is one-sided: a solution, unlike a correction, has no reflection to rely on. Lower degree where
    the axis has too few unknowns. With `beyond` there are that many further values at either end to interpolate from; if they
    come from the same polynomial, extrapolated, the result is the same.
    """
    degree = min(degree, source.n - 1)
    position = _position(targets, source)
    first = np.floor(position).astype(np.int64) - (degree - 1) // 2 if degree else np.zeros(len(targets), np.int64)
    if not source.periodic:
        first = np.clip(first, -beyond, source.n - 1 - degree + beyond)
    distance = (position - first)[:, None] - np.arange(degree + 1)
    weights = np.ones(distance.shape)
    for own in range(degree + 1):
        for other in range(degree + 1):
            if other != own:
                weights[:, own] *= distance[:, other] / (own - other)
    columns = source.n + 2 * beyond
    if not source.periodic:
        first = first + beyond
    row = np.repeat(np.arange(len(targets)), degree + 1)
    nodes = first[:, None] + np.arange(degree + 1)
    return Band.of_entries(row, nodes.ravel(), weights.ravel(), (len(targets), columns), source.periodic)


AxisMatrix = Callable[[Axis, Axis], Band]


@lru_cache(KEPT)
def cubic(fine: Axis, coarse: Axis) -> Band:
    """Return the (fine.n, coarse.n) matrix of cubic interpolation of a solution; see `lagrange`."""
    return lagrange(coarse, fine.positions)


@lru_cache(KEPT)
def linear(fine: Axis, coarse: Axis) -> Band:
    """Return the (fine.n, coarse.n) matrix of linear interpolation of a correction, which is homogeneous at the boundary."""
    position = _position(fine.positions, coarse)
    left = np.floor(position)
    right_weight = position - left
    nodes = left.astype(np.int64)[:, None] + np.arange(2)
    weights = np.stack([1.0 - right_weight, right_weight], axis=1)
    if not coarse.periodic:
        low, high = coarse.ghosts()
        for outside, ghost in ((nodes < 0, low), (nodes >= coarse.n, high)):
            weights[outside] *= ghost.weight
            nodes[outside] = ghost.inward
    row = np.repeat(np.arange(fine.n), 2)
    return Band.of_entries(row, nodes.ravel(), weights.ravel(), (fine.n, coarse.n), coarse.periodic)


@lru_cache(KEPT)
def constant(fine: Axis, coarse: Axis) -> Band:
    """Return the (fine.n, coarse.n) matrix that gives each fine cell the mean, over it, of constants on the coarse cells.

    The cell of an unknown reaches halfway to its neighbors; at a vertex-Neumann end it is the inner half.
    """
    nodes = np.rint(_position(fine.positions, coarse)).astype(np.int64)[:, None] + np.array([-1, 0, 1])
    fine_low, fine_high = _cell(fine.positions, fine)
    coarse_low, coarse_high = _cell((nodes + coarse.origin) * coarse.h, coarse)
    overlap = np.minimum(fine_high[:, None], coarse_high) - np.maximum(fine_low[:, None], coarse_low)
    weights = np.clip(overlap, 0.0, None) / (fine_high - fine_low)[:, None]
    if not coarse.periodic:
        outside = (nodes < 0) | (nodes >= coarse.n)
        weights[outside] = 0.0
    row = np.repeat(np.arange(fine.n), 3)
    return Band.of_entries(row, nodes.ravel(), weights.ravel(), (fine.n, coarse.n), coarse.periodic)


@lru_cache(KEPT)
def nearest(fine: Axis, coarse: Axis) -> Band:
    """Return the (coarse.n, fine.n) matrix that gives each coarse unknown the value of the nearest fine one (injection)."""
    index = np.ceil(_position(coarse.positions, fine) - 0.5).astype(np.int64)
    if not fine.periodic:
        index = np.clip(index, 0, fine.n - 1)
    return Band(index, np.ones((coarse.n, 1)), fine.n, fine.periodic)


@lru_cache(KEPT)
def full_weighting(fine: Axis, coarse: Axis) -> Band:
    """Return the (coarse.n, fine.n) adjoint of `linear` in the cell volumes."""
    return _adjoint(linear, fine, coarse)


@lru_cache(KEPT)
def cell_average(fine: Axis, coarse: Axis) -> Band:
    """Return the (coarse.n, fine.n) adjoint of `constant` in the cell volumes."""
    return _adjoint(constant, fine, coarse)


@lru_cache(KEPT)
def source_weighting(fine: Axis, coarse: Axis) -> Band:
    """Return `full_weighting` with the weights w_j of each row times a + b d_j, d_j the distance from the coarse unknown, such
    that constants and linear functions are restricted exactly: sum w_j (a + b d_j) = 1, sum w_j (a + b d_j) d_j = 0.
    """
    band = full_weighting(fine, coarse)
    distance = (band.nodes + fine.origin) - (coarse.positions / fine.h)[:, None]
    zeroth, first, second = ((band.weights * distance**power).sum(axis=1) for power in (0, 1, 2))
    determinant = zeroth * second - first**2
    enough = determinant > 1e-9  # a row of one weight can carry constants alone
    a = np.where(enough, second / np.where(enough, determinant, 1.0), 1.0 / zeroth)
    b = np.where(enough, -first / np.where(enough, determinant, 1.0), 0.0)
    return Band(band.starts, band.weights * (a[:, None] + b[:, None] * distance), band.columns, band.wraps)


def _adjoint(matrix: AxisMatrix, fine: Axis, coarse: Axis) -> Band:
    """Return W_c^-1 P^T W_f, W the cell volumes along the axis."""
    return matrix(fine, coarse).transposed().weighted(1.0 / coarse.weights, fine.weights)


def _position(points: Numbers, axis: Axis) -> Numbers:
    """Return where the points lie in index space, points that coincide with unknowns exactly there."""
    position = points / axis.h - axis.origin
    whole = np.rint(position)
    return np.where(np.abs(position - whole) < 1e-9, whole, position)


def _cell(points: Numbers, axis: Axis) -> tuple[Numbers, Numbers]:
    """Return the ends of the cells around the points."""
    low, high = points - axis.h / 2, points + axis.h / 2
    return (low, high) if axis.periodic else (np.clip(low, 0.0, axis.length), np.clip(high, 0.0, axis.length))


def clear_cache() -> None:
    """Forget the matrices that were kept."""
    for kept in (cubic, linear, constant, nearest, full_weighting, cell_average, source_weighting):
        kept.cache_clear()
