"""Primitives of the stencil backend as loops over slabs: one pass over memory per operator.

Every array is (n0, n1, n2), C-contiguous; grids of fewer axes have leading axes of one unknown, whose coefficients are zero.
`stencil` is a `ConstantStencil` (see `StencilOperator.tables`): every boundary condition is an index and a weight for the two
neighbors that a grid's end lacks, so one loop body serves all conditions. `first` and `last` are slabs: planes in 3-D, rows in
2-D; a kernel writes to its slabs of the output alone, so slabs may be computed at once.

Scalars are passed as zero-dimensional values of the arrays' own type: a Python float would promote float32 arithmetic to
float64.
"""

import numpy as np

from .arguments import Neighbors
from .compiling import LOOPS, compiled, inlined, kernel
from .vectors import lanes_of, load, prefetch, spread, store

# Reference counts of views take as long as short rows do: only kernels that allocate a buffer count them, and call another.
allocating = compiled(**LOOPS)
summing = compiled(**LOOPS, _nrt=False)  # sums in any order, so that they are vectorized


@kernel
def along(i, axis, n, stencil):
    """Return the `Neighbors` of index i along an axis of n points."""
    scale = stencil.coefficients[axis, 0]
    low, low_weight, high, high_weight, diagonal = i - 1, scale, i + 1, scale, scale + scale
    if i == 0:
        low = stencil.neighbors[axis, 0]
        low_weight = scale * stencil.coefficients[axis, 1]
        diagonal += scale * stencil.coefficients[axis, 3]
    if i == n - 1:
        high = stencil.neighbors[axis, 1]
        high_weight = scale * stencil.coefficients[axis, 2]
        diagonal += scale * stencil.coefficients[axis, 4]
    return Neighbors(low, low_weight, high, high_weight, diagonal)


@inlined
def _inside_in_3d(out, f, rows, weights):
    """Write the inner points of a row of f - A u in 3-D, from the row of u and the four beside it.

    With vectors: the compiler does not vectorize a loop over so many rows, and a residual took 1.9 to 2.8 times as long.
    """
    center, behind, before, above, below = rows
    by_center, by_side, by_behind, by_before, by_above, by_below = (
        spread(weights[0]), spread(weights[1]), spread(weights[2]), spread(weights[3]), spread(weights[4]), spread(weights[5])
    )  # fmt: skip
    n, lanes = center.shape[0], lanes_of(center)
    vectors = n - 2 >= lanes
    for first in range(1, n - 1 if vectors else 1, lanes):
        k = min(first, n - 1 - lanes)
        total = load(f, k) - by_center * load(center, k) + by_side * (load(center, k - 1) + load(center, k + 1))
        total = total + by_above * load(above, k) + by_below * load(below, k)
        store(out, k, total + by_behind * load(behind, k) + by_before * load(before, k))
    for k in range(1, 1 if vectors else n - 1):
        total = f[k] - weights[0] * center[k] + weights[1] * (center[k - 1] + center[k + 1])
        total = total + weights[4] * above[k] + weights[5] * below[k]
        out[k] = total + weights[2] * behind[k] + weights[3] * before[k]


@kernel
def _residual_row(out, f, u, i, j, stencil):
    """Write row (i, j) of f - A u into `out`; f is that row, not the same memory as `out`.

    Sums are in the order of `rows.residual_row`, so that both agree to the last bit in the interior.
    """
    n0, n1, n2 = u.shape
    up, up_weight, down, down_weight, outer = along(i, 0, n0, stencil)
    back, back_weight, front, front_weight, middle = along(j, 1, n1, stencil)
    scale = stencil.coefficients[2, 0]
    diagonal = outer + middle + stencil.coefficients[3, 0]
    center, above, below, behind, before = u[i, j], u[up, j], u[down, j], u[i, back], u[i, front]
    inner = diagonal + scale + scale
    if n0 > 1:
        weights = inner, scale, back_weight, front_weight, up_weight, down_weight
        _inside_in_3d(out, f, (center, behind, before, above, below), weights)
    else:
        for k in range(1, n2 - 1):
            total = f[k] - inner * center[k] + scale * (center[k - 1] + center[k + 1])
            out[k] = total + back_weight * behind[k] + front_weight * before[k]
    for end in range(min(n2, 2)):
        k = end * (n2 - 1)
        left, left_weight, right, right_weight, own = along(k, 2, n2, stencil)
        around = (
            left_weight * center[left]
            + right_weight * center[right]
            + back_weight * behind[k]
            + front_weight * before[k]
            + up_weight * above[k]
            + down_weight * below[k]
        )
        out[k] = f[k] - (diagonal + own) * center[k] + around


@kernel
def _diagonal(i, j, k, shape, stencil):
    """Return the diagonal entry of A at a point."""
    n0, n1, n2 = shape
    return (
        along(i, 0, n0, stencil).diagonal
        + along(j, 1, n1, stencil).diagonal
        + along(k, 2, n2, stencil).diagonal
        + stencil.coefficients[3, 0]
    )


@kernel
def _rows(first, last, shape):
    """Return the first and the last row of a slab, rows counted through the grid, and how many a plane has."""
    if shape[0] > 1:
        return first * shape[1], last * shape[1], shape[1]
    return first, last, shape[1]


@kernel
def _apply(out, u, stencil, first, last, zeros):
    """Do `apply` with a row of zeros."""
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // rows, row % rows
        out_row = out[i, j]
        _residual_row(out_row, zeros, u, i, j, stencil)
        for k in range(u.shape[2]):
            out_row[k] = -out_row[k]


@allocating
def apply(out, u, stencil, first, last):
    """Write A u into out."""
    _apply(out, u, stencil, first, last, np.zeros(u.shape[2], u.dtype))


@kernel
def residual(out, f, u, stencil, first, last):
    """Write f - A u into out."""
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // rows, row % rows
        _residual_row(out[i, j], f[i, j], u, i, j, stencil)


@summing
def _residual_sum_of_squares(f, u, stencil, first, last, buffer):
    """Do `residual_sum_of_squares` with a buffer for a row."""
    total = 0.0
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // rows, row % rows
        _residual_row(buffer, f[i, j], u, i, j, stencil)
        row_total = 0.0
        for k in range(u.shape[2]):
            row_total += np.float64(buffer[k]) * np.float64(buffer[k])
        total += row_total
    return total


@allocating
def residual_sum_of_squares(f, u, stencil, first, last):
    """Return the sum of (f - A u)^2 over the slab, in double precision: row sums first, so that rounding stays small."""
    return _residual_sum_of_squares(f, u, stencil, first, last, np.empty(u.shape[2], u.dtype))


@summing
def _restate_slab(out, u, f, slab, buffer, stencil):
    """Write f - A u on a slab into `out`, which may be of lower precision; return its sum of squares in double precision."""
    total = 0.0
    start, stop, rows = _rows(slab, slab + 1, u.shape)
    for row in range(start, stop):
        i, j = row // rows, row % rows
        _residual_row(buffer, f[i, j], u, i, j, stencil)
        out_row, row_total = out[i, j], 0.0
        for k in range(u.shape[2]):
            out_row[k] = buffer[k]
            row_total += np.float64(buffer[k]) * np.float64(buffer[k])
        total += row_total
    return total


@summing
def _restate(out, u, f, stencil, first, last, buffer):
    """Do `restate` with a buffer for a row."""
    total = 0.0
    for slab in range(first, last):
        total += _restate_slab(out, u, f, slab, buffer, stencil)
    return total


@allocating
def restate(out, u, f, stencil, first, last):
    """Write f - A u into `out`, which may be of lower precision; return its sum of squares in double precision."""
    return _restate(out, u, f, stencil, first, last, np.empty(u.shape[2], u.dtype))


@summing
def _correct(out, u, e, f, fresh, stencil, first, last, buffer):
    """Do `correct` with a buffer for a row."""
    total = 0.0
    for slab in range(first, last):
        start, stop, rows = _rows(slab, slab + 1, u.shape)
        for row in range(start, stop):
            i, j = row // rows, row % rows
            u_row, e_row = u[i, j], e[i, j]
            for k in range(0, u.shape[2], 8):  # of the row that is restated next
                prefetch(f[i, j], k)
                prefetch(out[i, j], k)
            if fresh:
                for k in range(u.shape[2]):
                    u_row[k] = e_row[k]
            else:
                for k in range(u.shape[2]):
                    u_row[k] += e_row[k]
        if slab - 1 > first:
            total += _restate_slab(out, u, f, slab - 1, buffer, stencil)
    return total


@allocating
def correct(out, u, e, f, fresh, stencil, first, last):
    """Add e to u, or write it there where u is `fresh`, and do as `restate` on all slabs but the first and the last."""
    return _correct(out, u, e, f, fresh, stencil, first, last, np.empty(u.shape[2], u.dtype))


@kernel
def convert(out, u, first, last):
    """Copy u into out, which may be of another precision."""
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        out_row, u_row = out[row // rows, row % rows], u[row // rows, row % rows]
        for k in range(u.shape[2]):
            out_row[k] = u_row[k]


@summing
def sum_of_squares(u, first, last):
    """Return the sum of u^2 over the slab, in double precision."""
    total = 0.0
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        u_row = u[row // rows, row % rows]
        row_total = 0.0
        for k in range(u.shape[2]):
            value = np.float64(u_row[k])
            row_total += value * value
        total += row_total
    return total


@kernel
def _fold(sums, columns):
    """Add columns, (blocks1, n2), to the blocks, (blocks1, blocks2), and begin anew."""
    n2, blocks2 = columns.shape[1], sums.shape[1]
    for block1 in range(columns.shape[0]):
        for k in range(n2):
            sums[block1, k * blocks2 // n2] += columns[block1, k]
    columns[:] = 0.0


@summing
def _sum_of_squares_and_blocks(u, sums, first, last, columns):
    """Do `sum_of_squares_and_blocks` with zeros for the columns of blocks under way."""
    blocks0, blocks1 = sums.shape[0], sums.shape[1]
    n0, n1, n2 = u.shape
    total = 0.0
    start, stop, rows = _rows(first, last, u.shape)
    block0 = start // rows * blocks0 // n0
    for row in range(start, stop):
        i, j = row // rows, row % rows
        if i * blocks0 // n0 != block0:
            _fold(sums[block0], columns)
            block0 = i * blocks0 // n0
        u_row, own, row_total = u[i, j], columns[j * blocks1 // n1], 0.0
        for k in range(n2):
            value = np.float64(u_row[k])
            own[k] += value
            row_total += value * value
        total += row_total
    _fold(sums[block0], columns)
    return total


@allocating
def sum_of_squares_and_blocks(u, sums, first, last):
    """Return the sum of u^2 over the slab, in double precision; add the sums of u over blocks to `sums`, one per block."""
    return _sum_of_squares_and_blocks(u, sums, first, last, np.zeros((sums.shape[1], u.shape[2])))


@summing
def weighted_sum(u, weights0, weights1, weights2, first, last):
    """Return the sum of w0 w1 w2 u over the slab, in double precision."""
    total = 0.0
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // rows, row % rows
        u_row = u[i, j]
        row_total = 0.0
        for k in range(u.shape[2]):
            row_total += weights2[k] * np.float64(u_row[k])
        total += weights0[i] * weights1[j] * row_total
    return total


@summing
def weighted_inner(u, v, weights0, weights1, weights2, first, last):
    """Return the sum of w0 w1 w2 u v over the slab, in double precision."""
    total = 0.0
    start, stop, rows = _rows(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // rows, row % rows
        u_row, v_row = u[i, j], v[i, j]
        row_total = 0.0
        for k in range(u.shape[2]):
            row_total += weights2[k] * np.float64(u_row[k]) * np.float64(v_row[k])
        total += weights0[i] * weights1[j] * row_total
    return total


@kernel
def _semi_iterate(out, previous, f, u, gain, weight, stencil, first, last, buffer):
    """Do `semi_iterate` with a buffer for a row."""
    rest = gain / gain - weight
    start, stop, rows = _rows(first, last, u.shape)
    n2 = u.shape[2]
    for row in range(start, stop):
        i, j = row // rows, row % rows
        _residual_row(buffer, f[i, j], u, i, j, stencil)
        out_row, previous_row, u_row = out[i, j], previous[i, j], u[i, j]
        factor = weight * gain / _diagonal(i, j, min(1, n2 - 1), u.shape, stencil)
        for k in range(1, n2 - 1):
            out_row[k] = weight * u_row[k] + factor * buffer[k] + rest * previous_row[k]
        for end in range(min(n2, 2)):
            k = end * (n2 - 1)
            factor = weight * gain / _diagonal(i, j, k, u.shape, stencil)
            out_row[k] = weight * u_row[k] + factor * buffer[k] + rest * previous_row[k]


@allocating
def semi_iterate(out, previous, f, u, gain, weight, stencil, first, last):
    """Write weight (u + gain D^-1 (f - A u)) + (1 - weight) previous into out, which may be `previous`.

    Damped Jacobi is weight = 1; with changing weights it is the Chebyshev semi-iteration.
    """
    return _semi_iterate(out, previous, f, u, gain, weight, stencil, first, last, np.empty(u.shape[2], u.dtype))


@kernel
def _relax_point(u, f, i, j, k, omega, stencil):
    """Relax one point, wherever it lies: u <- u + omega D^-1 (f - A u) there."""
    n0, n1, n2 = u.shape
    up, up_weight, down, down_weight, outer = along(i, 0, n0, stencil)
    back, back_weight, front, front_weight, middle = along(j, 1, n1, stencil)
    left, left_weight, right, right_weight, own = along(k, 2, n2, stencil)
    diagonal = outer + middle + own + stencil.coefficients[3, 0]
    around = (
        left_weight * u[i, j, left]
        + right_weight * u[i, j, right]
        + back_weight * u[i, back, k]
        + front_weight * u[i, front, k]
        + up_weight * u[up, j, k]
        + down_weight * u[down, j, k]
    )
    u[i, j, k] += omega * ((f[i, j, k] + around) / diagonal - u[i, j, k])


@kernel
def _relax_alternate(u, f, i, j, begin, omega, stencil):
    """Relax every second inner point of row (i, j), from `begin`."""
    n0, n1, n2 = u.shape
    up, up_weight, down, down_weight, outer = along(i, 0, n0, stencil)
    back, back_weight, front, front_weight, middle = along(j, 1, n1, stencil)
    scale = stencil.coefficients[2, 0]
    gain = omega / (outer + middle + scale + scale + stencil.coefficients[3, 0])
    keep = omega / omega - omega
    # Rows are cut to begin at the left neighbor of the first point, so that indices are seen not to be negative, and the stride
    # stands in the code as a number: together they save a third of the time.
    left = begin - 1
    center, f_row = u[i, j][left:], f[i, j][left:]
    above, below, behind, before = u[up, j][left:], u[down, j][left:], u[i, back][left:], u[i, front][left:]
    if n0 > 1:
        for m in range((n2 - begin) // 2):
            k = 2 * m + 1
            around = back_weight * behind[k] + front_weight * before[k] + up_weight * above[k] + down_weight * below[k]
            center[k] = keep * center[k] + gain * (f_row[k] + around + scale * (center[k - 1] + center[k + 1]))
    else:
        for m in range((n2 - begin) // 2):
            k = 2 * m + 1
            around = back_weight * behind[k] + front_weight * before[k]
            center[k] = keep * center[k] + gain * (f_row[k] + around + scale * (center[k - 1] + center[k + 1]))


@kernel
def relax_color(u, f, omega, color, backward, stencil, first, last):
    """Relax, in place, the points with (i + j + k) mod 2 = color, in the order of the grid or in the opposite one.

    Points of one color are independent, so the order is of no account but on a periodic axis of odd length, where two
    points of one color meet at the seam. There the opposite order makes the adjoint.
    """
    start, stop, rows = _rows(first, last, u.shape)
    n2 = u.shape[2]
    for number in range(start, stop):
        row = start + stop - 1 - number if backward else number
        i, j = row // rows, row % rows
        parity = (color + i + j) % 2
        low_end, high_end = parity == 0, n2 > 1 and (n2 - 1) % 2 == parity
        if high_end if backward else low_end:
            _relax_point(u, f, i, j, n2 - 1 if backward else 0, omega, stencil)
        _relax_alternate(u, f, i, j, 2 - parity, omega, stencil)
        if low_end if backward else high_end:
            _relax_point(u, f, i, j, 0 if backward else n2 - 1, omega, stencil)


@kernel
def _relax_in_turn(u, f, i, j, omega, backward, stencil):
    """Relax the inner points of row (i, j) one after the other."""
    n0, n1, n2 = u.shape
    up, up_weight, down, down_weight, outer = along(i, 0, n0, stencil)
    back, back_weight, front, front_weight, middle = along(j, 1, n1, stencil)
    scale = stencil.coefficients[2, 0]
    gain = omega / (outer + middle + scale + scale + stencil.coefficients[3, 0])
    keep = omega / omega - omega
    center, f_row, above, below, behind, before = u[i, j], f[i, j], u[up, j], u[down, j], u[i, back], u[i, front]
    for m in range(1, n2 - 1):
        k = n2 - 1 - m if backward else m
        around = back_weight * behind[k] + front_weight * before[k] + up_weight * above[k] + down_weight * below[k]
        center[k] = keep * center[k] + gain * (f_row[k] + around + scale * (center[k - 1] + center[k + 1]))


@kernel
def relax_lexicographic(u, f, omega, backward, stencil):
    """Relax, in place, every point in the order of the grid or in the opposite one. Each needs the last: no slabs here."""
    n0, n1, n2 = u.shape
    for number in range(n0 * n1):
        row = n0 * n1 - 1 - number if backward else number
        i, j = row // n1, row % n1
        _relax_point(u, f, i, j, n2 - 1 if backward else 0, omega, stencil)
        _relax_in_turn(u, f, i, j, omega, backward, stencil)
        if n2 > 1:
            _relax_point(u, f, i, j, 0 if backward else n2 - 1, omega, stencil)


@kernel
def _add_separable(out, u, indices0, weights0, indices1, weights1, indices2, weights2, first, last, buffer):
    """Do `add_separable` with a buffer for a row."""
    start, stop, rows = _rows(first, last, out.shape)
    n2, m2 = out.shape[2], u.shape[2]
    for row in range(start, stop):
        i, j = row // rows, row % rows
        buffer[:] = 0
        for a in range(indices0.shape[0]):
            for b in range(indices1.shape[0]):
                weight = weights0[a, i] * weights1[b, j]
                if weight != 0:
                    u_row = u[indices0[a, i], indices1[b, j]]
                    for k in range(m2):
                        buffer[k] += weight * u_row[k]
        out_row = out[i, j]
        for c in range(indices2.shape[0]):
            index_row, weight_row = indices2[c], weights2[c]
            for k in range(n2):
                out_row[k] += weight_row[k] * buffer[index_row[k]]


@allocating
def add_separable(out, u, indices0, weights0, indices1, weights1, indices2, weights2, first, last):
    """Add (T0 x T1 x T2) u to out, each T a sparse matrix by rows: `indices` and `weights` of shape (width, length in out)."""
    return _add_separable(
        out, u, indices0, weights0, indices1, weights1, indices2, weights2, first, last, np.empty(u.shape[2], u.dtype)
    )


@kernel
def correlate(out, extended, weights, strides, first, last):
    """Write the sum over j of weights[j] extended[stride i + j] into out[i]."""
    start, stop, rows = _rows(first, last, out.shape)
    n2, step = out.shape[2], strides[2]
    for row in range(start, stop):
        i, j = row // rows, row % rows
        out_row = out[i, j]
        out_row[:] = 0
        for a in range(weights.shape[0]):
            for b in range(weights.shape[1]):
                source = extended[strides[0] * i + a, strides[1] * j + b]
                for c in range(weights.shape[2]):
                    weight = weights[a, b, c]
                    if weight != 0:
                        if step == 1:
                            shifted = source[c:]
                            for k in range(n2):
                                out_row[k] += weight * shifted[k]
                        else:
                            for k in range(n2):
                                out_row[k] += weight * source[step * k + c]
