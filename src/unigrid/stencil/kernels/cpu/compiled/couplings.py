"""Symmetric stencils with coefficients of their own at every point: residual, relaxation, transfers, and coarse operators.

Every array is (n0, n1, n2), C-contiguous; missing leading axes have one point. A stencil couples a point to at most its 26
neighbors. Each coupling is stored once, at the point from which its offset is positive; beyond an end it is zero, so that the
index of the neighbor that an end lacks may be any. A u = sum_o a_o (u - u_o) + s u, with the excess s apart from the diagonal:
in a nearly singular problem the differences would be lost in the rounding of a diagonal.
"""

import numpy as np

from .compiling import LOOPS, compiled, inlined, kernel

allocating = compiled(**LOOPS)


@inlined
def _add_couplings(out, u, stencil, i, j):
    """Add to a row `out` the couplings of row (i, j) times the neighbors: sum over o of a_o u_o."""
    n2 = u.shape[2]
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        here = stencil.couplings[half, i, j]
        up, down = stencil.after[0, i] if d0 > 0 else i, stencil.before[0, i] if d0 > 0 else i
        if d1 > 0:
            ahead, behind = stencil.after[1, j], stencil.before[1, j]
        elif d1 < 0:
            ahead, behind = stencil.before[1, j], stencil.after[1, j]
        else:
            ahead, behind = j, j
        high, low, there = u[up, ahead], u[down, behind], stencil.couplings[half, down, behind]
        if d2 == 0:
            for k in range(n2):
                out[k] += here[k] * high[k] + there[k] * low[k]
        else:
            # Slices: an index with a variable part could be negative, and the loop would not be vectorized.
            inner, ours, theirs = out[1 : n2 - 1], here[1 : n2 - 1], there[1 - d2 : n2 - 1 - d2]
            right, left = high[1 + d2 : n2 - 1 + d2], low[1 - d2 : n2 - 1 - d2]
            for k in range(n2 - 2):
                inner[k] += ours[k] * right[k] + theirs[k] * left[k]
            for end in range(min(n2, 2)):
                k = end * (n2 - 1)
                after = stencil.after[2, k] if d2 > 0 else stencil.before[2, k]
                before = stencil.before[2, k] if d2 > 0 else stencil.after[2, k]
                out[k] += here[k] * high[after] + there[before] * low[before]


@inlined
def in_slabs(i, j, shape, first, last):
    """Whether row (i, j) lies in slabs `first` to `last`: planes in 3-D, rows in 2-D."""
    slab = i if shape[0] > 1 else j
    return first <= slab < last


@inlined
def _residual_row(out, f, u, stencil, i, j):
    center, diagonal = u[i, j], stencil.diagonal[i, j]
    for k in range(u.shape[2]):
        out[k] = f[k] - diagonal[k] * center[k]
    _add_couplings(out, u, stencil, i, j)


@kernel
def residual(out, f, u, stencil, first, last):
    """Write f - A u."""
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            if in_slabs(i, j, u.shape, first, last):
                _residual_row(out[i, j], f[i, j], u, stencil, i, j)


@kernel
def apply(out, u, stencil, first, last):
    """Write A u."""
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            if in_slabs(i, j, u.shape, first, last):
                row = out[i, j]
                row[:] = 0
                _residual_row(row, row, u, stencil, i, j)
                for k in range(u.shape[2]):
                    row[k] = -row[k]


@allocating
def relax_color(u, f, omega, color, colors, stencil, first, last):
    """Relax the points of one color in place: of 2 colors, where i + j + k is `color` mod 2; of more, by the bits of it."""
    buffer = np.empty(u.shape[2], u.dtype)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            chosen = colors == 2 or ((color >> 1) % 2 == j % 2 and (color >> 2) % 2 == i % 2)
            if chosen and in_slabs(i, j, u.shape, first, last):
                start = (color + i + j) % 2 if colors == 2 else color % 2
                _relax_row(buffer, u, f, omega, start, stencil, i, j)


@inlined
def _relax_row(buffer, u, f, omega, start, stencil, i, j):
    data, center, inverse = f[i, j], u[i, j], stencil.inverse[i, j]
    for k in range(u.shape[2]):
        buffer[k] = data[k]
    _add_couplings(buffer, u, stencil, i, j)
    last = u.shape[2] - 1
    seam = stencil.seams[2] and start == 0
    for k in range(start, last if seam else last + 1, 2):
        center[k] += omega * (buffer[k] * inverse[k] - center[k])
    if seam:  # the last point has the first as a neighbor, which has changed
        for k in range(last + 1):
            buffer[k] = data[k]
        _add_couplings(buffer, u, stencil, i, j)
        center[last] += omega * (buffer[last] * inverse[last] - center[last])


@allocating
def relax_deep_lines(u, f, color, stencil, first, last):
    """Relax whole lines along axis 0 in place: those of one of 4 colors, by the parity of the other indices.

    They run through the planes of axis 1 from `first` to `last`; those of a plane are eliminated side by side.
    """
    n2 = u.shape[2]
    work = np.empty((3, u.shape[0], n2), u.dtype)
    seam = 1 if stencil.seams[2] and color % 2 == 0 else 0
    for plane in range(first, last):
        if (color >> 1) % 2 == plane % 2:
            for part in range(1 + seam):  # at a seam the last line has the first as a neighbor, which has changed
                start, stop = (n2 - 1, n2) if part == 1 else (color % 2, n2 - seam)
                _relax_deep_lines(work, u, f, stencil, plane, start, stop)


@allocating
def add_solved_deep(u, r, couplings, diagonal, planes, points):
    """Solve T e = r along axis 1 of (planes, n, points) and add e to u: for every other plane, and every other point."""
    work = np.empty((3, *u.shape[1:]), u.dtype)
    for plane in range(planes[0], planes[1], 2):
        work[0] = r[plane]
        _eliminate_side_by_side(work, u[plane], couplings[plane], diagonal[plane], diagonal[plane], points[0], points[1])


@kernel
def _half_along(stencil, axis):
    """Return which half-offset leads straight along an axis."""
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        if abs(d0) + abs(d1) + abs(d2) == 1 and stencil.offsets[half, axis] == 1:
            return half
    return 0


@kernel
def _relax_deep_lines(work, u, f, stencil, j, start, stop):
    """Solve T e = r, T tridiagonal or cyclic, along every other column of plane j of axis 1; u <- u + e."""
    for i in range(u.shape[0]):
        _residual_row(work[0, i], f[i, j], u, stencil, i, j)
    couplings = stencil.couplings[_half_along(stencil, 0), :, j]
    _eliminate_side_by_side(work, u[:, j], couplings, stencil.diagonal[:, j], stencil.inverse[:, j], start, stop)


@kernel
def _eliminate_side_by_side(work, plane, couplings, diagonal, inverses, start, stop):
    """Add T^-1 r, along the first axis of a plane, to every other column, the recurrences side by side; work[0] is r."""
    n = plane.shape[0]
    r, upper, cyclic = work[0], work[1], work[2]
    if n == 1:
        for k in range(start, stop, 2):
            plane[0, k] += r[0, k] * inverses[0, k]
        return
    periodic = n > 2
    for j in range(n):
        for k in range(start, stop, 2):
            corner = couplings[n - 1, k] if periodic else 0.0 * couplings[n - 1, k]
            wrap = couplings[n - 1, k] if n == 2 else 0.0 * couplings[n - 1, k]
            pivot = diagonal[j, k] + (corner if j == 0 or j == n - 1 else 0.0 * corner)
            around = corner if j == 0 or j == n - 1 else 0.0 * corner
            if j > 0:
                link = couplings[j - 1, k] + wrap
                pivot -= link * upper[j - 1, k]
                r[j, k] += link * r[j - 1, k]
                around += link * cyclic[j - 1, k]
            inverse = 1.0 / pivot if pivot != 0.0 else 0.0 * pivot
            upper[j, k] = (couplings[j, k] + wrap) * inverse if j < n - 1 else 0.0 * inverse
            r[j, k] *= inverse
            cyclic[j, k] = around * inverse
    for j in range(n - 2, -1, -1):
        for k in range(start, stop, 2):
            r[j, k] += upper[j, k] * r[j + 1, k]
            cyclic[j, k] += upper[j, k] * cyclic[j + 1, k]
    for k in range(start, stop, 2):
        denominator = 1.0 - (cyclic[0, k] + cyclic[n - 1, k])
        corner = couplings[n - 1, k]
        upper[0, k] = (
            (r[0, k] + r[n - 1, k]) / denominator if periodic and corner != 0.0 and denominator != 0.0 else 0.0 * corner
        )
    for j in range(n):
        for k in range(start, stop, 2):
            plane[j, k] += r[j, k] + upper[0, k] * cyclic[j, k]


@kernel
def restrict(out, r, transfer, first, last):
    """Write P^T r: coarse slabs from `first` to `last`."""
    m0, m1, m2 = out.shape
    for i in range(m0):
        for j in range(m1):
            if not in_slabs(i, j, out.shape, first, last):
                continue
            row = out[i, j]
            row[:] = 0
            for number in range(transfer.offsets.shape[0]):
                d0, d1, d2 = transfer.offsets[number]
                fine0, fine1 = transfer.children[0, i, d0 + 1], transfer.children[1, j, d1 + 1]
                if fine0 < 0 or fine1 < 0:
                    continue
                weights, data, places = transfer.weights[number, i, j], r[fine0, fine1], transfer.children[2, :, d2 + 1]
                for k in range(m2):
                    row[k] += weights[k] * data[max(places[k], 0)]


@kernel
def interpolate(u, e, transfer, first, last):
    """Add P e to u: fine slabs from `first` to `last`."""
    n0, n1 = u.shape[:2]
    for i in range(n0):
        for j in range(n1):
            if not in_slabs(i, j, u.shape, first, last):
                continue
            row = u[i, j]
            for number in range(transfer.offsets.shape[0]):
                d0, d1, d2 = transfer.offsets[number]
                coarse0, coarse1 = transfer.parents[0, i, d0 + 1], transfer.parents[1, j, d1 + 1]
                if coarse0 < 0 or coarse1 < 0:
                    continue
                weights, data, places = (
                    transfer.weights[number, coarse0, coarse1],
                    e[coarse0, coarse1],
                    transfer.children[2, :, d2 + 1],
                )
                for k in range(data.shape[0]):
                    if places[k] >= 0:
                        row[places[k]] += weights[k] * data[k]
