"""Symmetric scaling of an operator with coefficients that vary: 1 / sqrt(a), and how far that leaves it from -Laplace.

Face values are as in `coupled`, one array per axis, boxes of three axes; those of an axis of one point are not read.
"""

import numpy as np

from .compiling import LOOPS, compiled, inlined
from .gradients import rows_between

allocating = compiled(**LOOPS)
summing = compiled(**LOOPS, _nrt=False)
NOTHING, WALL, INSULATED = 0, 1, 2  # beyond an end: nothing to be said; a Dirichlet side half a spacing away; a Neumann side


@allocating
def roots(out, faces, squares, first, last):
    """Write 1 / sqrt(a), a the mean of the faces around a point, those of each axis weighted by `squares`, 1/h^2."""
    n0, n1, n2 = out.shape
    half = 0.5 / squares.sum()
    start, stop = rows_between(first, last, out.shape)
    for row in range(start, stop):
        i, j = row // n1, row % n1
        own = out[i, j]
        own[:] = 0.0
        if n0 > 1:
            low, high, square = faces[0][i, j], faces[0][i + 1, j], half * squares[0]
            for k in range(n2):
                own[k] += square * (low[k] + high[k])
        if n1 > 1:
            low, high, square = faces[1][i, j], faces[1][i, j + 1], half * squares[1]
            for k in range(n2):
                own[k] += square * (low[k] + high[k])
        if n2 > 1:
            along, square = faces[2][i, j], half * squares[2]
            for k in range(n2):
                own[k] += square * (along[k] + along[k + 1])
        for k in range(n2):
            own[k] = 1.0 / np.sqrt(own[k])


@inlined
def _add(potential, largest, own, other, face, square):
    """Add what the couplings of a row lack of those of -Laplace, and take the largest of it."""
    for k in range(own.shape[0]):
        lacking = 1.0 - face[k] * own[k] * other[k]
        potential[k] += square * lacking
        largest[k] = max(largest[k], abs(lacking))


@inlined
def _add_side(potential, largest, own, face, square, kind):
    """Add what a side's part of the diagonal has more than that of -Laplace."""
    for k in range(own.shape[0]):
        more = face[k] * own[k] * own[k] - 1.0
        if kind == WALL:
            largest[k] = max(largest[k], abs(more))
        if kind == INSULATED:
            potential[k] -= square * more


@inlined
def _add_across(potential, largest, root, faces, axis, at, squares, sides, wraps):
    """Add the parts of both faces of a row along axis 0 or 1; `at` is its index."""
    i, j = at
    n = root.shape[axis]
    place = i if axis == 0 else j
    for end in range(2):
        there = place + 2 * end - 1
        face = faces[axis][i + end, j] if axis == 0 else faces[axis][i, j + end]
        if 0 <= there < n or wraps[axis]:
            there %= n
            other = root[there, j] if axis == 0 else root[i, there]
            _add(potential, largest, root[i, j], other, face, squares[axis])
        else:
            _add_side(potential, largest, root[i, j], face, squares[axis], sides[axis, end])


@allocating
def spread(weights, root, faces, squares, sides, wraps, reaction, barriers, first, last):
    """Write `root` into `weights`, in their precision, and return how the scaled operator differs from -Laplace, rows alike.

    The scaled operator is S^-1 A S^-1 = L + E, with L that of -Laplace and S^-1 = diag(root). Returned are the largest part
    of a coupling, or of a Dirichlet side, by which E changes it; the least and the largest entry of the potential, which is
    the rest of E; and the largest ratio of the potential to the sum of `barriers` of each axis.
    """
    n0, n1, n2 = root.shape
    largest, lowest, highest, ratio = np.zeros(n2), np.full(n2, np.inf), np.full(n2, -np.inf), np.zeros(n2)
    potential = np.empty(n2)
    start, stop = rows_between(first, last, root.shape)
    for row in range(start, stop):
        i, j = row // n1, row % n1
        own, out = root[i, j], weights[i, j]
        for k in range(n2):
            out[k] = own[k]
            potential[k] = 0.0
        if n0 > 1:
            _add_across(potential, largest, root, faces, 0, (i, j), squares, sides, wraps)
        if n1 > 1:
            _add_across(potential, largest, root, faces, 1, (i, j), squares, sides, wraps)
        if n2 > 1:
            along = faces[2][i, j]
            inner, last_face = along[1:n2], along[n2 : n2 + 1]
            _add(potential[1:], largest[1:], own[1:], own[: n2 - 1], inner, squares[2])
            _add(potential[: n2 - 1], largest[: n2 - 1], own[: n2 - 1], own[1:], inner, squares[2])
            if wraps[2]:
                _add(potential[:1], largest[:1], own[:1], own[n2 - 1 :], along[:1], squares[2])
                _add(potential[n2 - 1 :], largest[n2 - 1 :], own[n2 - 1 :], own[:1], last_face, squares[2])
            else:
                _add_side(potential[:1], largest[:1], own[:1], along[:1], squares[2], sides[2, 0])
                _add_side(potential[n2 - 1 :], largest[n2 - 1 :], own[n2 - 1 :], last_face, squares[2], sides[2, 1])
        if reaction.size > 1:
            field = reaction[i, j]
            for k in range(n2):
                potential[k] += field[k] * own[k] * own[k]
        else:
            for k in range(n2):
                potential[k] += reaction[0, 0, 0] * own[k] * own[k]
        behind = barriers[0][i] + barriers[1][j]
        for k in range(n2):
            lowest[k] = min(lowest[k], potential[k])
            highest[k] = max(highest[k], potential[k])
            ratio[k] = max(ratio[k], abs(potential[k]) / (behind + barriers[2][k]))
    return largest.max(), lowest.min(), highest.max(), ratio.max()


@summing
def weigh(out, u, weights, first, last):
    """Write weights u."""
    start, stop = rows_between(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // u.shape[1], row % u.shape[1]
        own, values, factors = out[i, j], u[i, j], weights[i, j]
        for k in range(u.shape[2]):
            own[k] = values[k] * factors[k]
