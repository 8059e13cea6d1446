"""How strongly the axes of a symmetric stencil couple, and its diagonal. Arrays and stencils as in `couplings`."""

import numpy as np

from .black_box import CHUNK, _behind, _rows, add
from .compiling import LOOPS, compiled, inlined

allocating = compiled(**LOOPS)
LINE, EXTREME = 5, 5000.0  # points in a row that one axis couples strongly; a ratio of couplings at which a pair is enough


@allocating
def finish(diagonal, inverse, stencil, first, last):
    """Write the diagonal of A, and one over it, 0 where that is not above zero, slabs `first` to `last`.

    Return sums of how strongly each axis couples beside the strongest at each point, and the least of these shares, of axes of
    more than one point.
    """
    scratch, lowest, sum0, sum1, sum2 = np.empty((4, CHUNK)), np.ones(CHUNK), 0.0, 0.0, 0.0
    n0, n1, n2 = stencil.excess.shape
    low0, high0, low1, high1 = _rows(diagonal.shape, first, last)
    for i in range(low0, high0):
        for j in range(low1, high1):
            own, over, excess = diagonal[i, j], inverse[i, j], stencil.excess[i, j]
            own[:] = 0.0
            for half in range(stencil.offsets.shape[0]):
                a, b = _behind(stencil, half, i, j)
                add(own, stencil.couplings[half, i, j], 0, 1)
                add(own, stencil.couplings[half, a, b], -stencil.offsets[half, 2], 1)
            for k in range(n2):
                own[k] += excess[k]
                over[k] = 1.0 / own[k] if own[k] > 0.0 else 0.0 * own[k]
            for low in range(0, n2, CHUNK):
                size = min(CHUNK, n2 - low)
                _write_strengths(scratch, size, stencil, i, j, low)
                t0, t1, t2 = scratch[0, :size], scratch[1, :size], scratch[2, :size]
                for k in range(size):
                    largest = max(t0[k], t1[k], t2[k])
                    share = 1.0 / largest if largest > 0.0 else 0.0
                    sum0 += t0[k] * share
                    sum1 += t1[k] * share
                    sum2 += t2[k] * share
                    weakest = min(t0[k] if n0 > 1 else largest, t1[k] if n1 > 1 else largest, t2[k] if n2 > 1 else largest)
                    weakest = weakest * share if largest > 0.0 else 1.0
                    lowest[k] = weakest if weakest < lowest[k] else lowest[k]  # a number per lane: this loop is vectorized
    return sum0, sum1, sum2, lowest.min()


@allocating
def weak_points(stencil, strong0, strong1, strong2, ratio, first, last):
    """Return the number of points where one of the given axes couples `ratio` times weaker than another axis."""
    n2 = stencil.excess.shape[2]
    scratch, count = np.empty((4, CHUNK)), 0
    low0, high0, low1, high1 = _rows(stencil.excess.shape, first, last)
    for i in range(low0, high0):
        for j in range(low1, high1):
            for low in range(0, n2, CHUNK):
                size = min(CHUNK, n2 - low)
                _write_strengths(scratch, size, stencil, i, j, low)
                t0, t1, t2 = scratch[0, :size], scratch[1, :size], scratch[2, :size]
                for k in range(size):
                    largest = max(t0[k], t1[k], t2[k])
                    weakest = min(t0[k] if strong0 else largest, t1[k] if strong1 else largest, t2[k] if strong2 else largest)
                    count += largest > ratio * weakest
    return count


@allocating
def points_in_lines(stencil, strong1, strong2, ratio, first, last):
    """Return, of the points that `weak_points` counts in 2-D, how many end `LINE` of them in a row along the axis that couples
    strongly there, or have another axis that couples `EXTREME` times weaker.
    """
    n2 = stencil.excess.shape[2]
    scratch, above, count = np.empty((4, CHUNK)), np.zeros(n2, np.int64), 0
    for j in range(max(first - LINE + 1, 0), last):  # the rows before `first` are others' to count
        before = 0
        for low in range(0, n2, CHUNK):
            size = min(CHUNK, n2 - low)
            _write_strengths(scratch, size, stencil, 0, j, low)
            t1, t2 = scratch[1, :size], scratch[2, :size]
            for k in range(size):
                largest = max(t1[k], t2[k])
                weakest = min(t1[k] if strong1 else largest, t2[k] if strong2 else largest)
                weak = largest > ratio * weakest
                before = before + 1 if weak and t2[k] == largest else 0
                above[low + k] = above[low + k] + 1 if weak and t1[k] == largest else 0
                count += j >= first and (max(before, above[low + k]) >= LINE or largest > EXTREME * weakest)
    return count


@inlined
def _write_strengths(scratch, size, stencil, i, j, low):
    """Write, for each axis, |sum of the couplings upward| + |sum of those downward| of points of a row, from `low` on."""
    side = scratch[3, :size]
    for axis in range(3):
        total = scratch[axis, :size]
        total[:] = 0.0
        if stencil.excess.shape[axis] == 1:
            continue
        for direction in range(-1, 2, 2):
            side[:] = 0.0
            for half in range(stencil.offsets.shape[0]):
                d2 = stencil.offsets[half, 2]
                if stencil.offsets[half, axis] == direction:
                    add(side, stencil.couplings[half, i, j], low, 1)
                elif stencil.offsets[half, axis] == -direction:
                    a, b = _behind(stencil, half, i, j)
                    add(side, stencil.couplings[half, a, b], low - d2, 1)
            for k in range(size):
                total[k] += abs(side[k])
