"""The set-up of black box multigrid as loops: interpolation from the couplings, and coarse operators.

Arrays and stencils as in `couplings`. Functions that take the stencil are inlined: passing its seven arrays to one takes ten
times as long as what it does for a point (interpolation at 1023^2: 619 ms, inlined 67).

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

import numpy as np

from .compiling import LOOPS, compiled, inlined, kernel
from .couplings import in_slabs

allocating = compiled(**LOOPS)


@inlined
def _behind(stencil, half, i, j, k):
    """Return the point from which a half-offset leads to (i, j, k)."""
    d0, d1, d2 = stencil.offsets[half]
    i0 = stencil.before[0, i] if d0 > 0 else i
    j0 = stencil.before[1, j] if d1 > 0 else stencil.after[1, j] if d1 < 0 else j
    k0 = stencil.before[2, k] if d2 > 0 else stencil.after[2, k] if d2 < 0 else k
    return i0, j0, k0


@inlined
def _gather(local, stencil, i, j, k):
    """Write the couplings of a point to all of its neighbors into `local`, (3, 3, 3)."""
    lowest = 0 if stencil.excess.shape[0] > 1 else 1
    for a in range(lowest, 3 - lowest):
        for b in range(3):
            for c in range(3):
                local[a, b, c] = 0
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        local[1 + d0, 1 + d1, 1 + d2] += stencil.couplings[half, i, j, k]
        i0, j0, k0 = _behind(stencil, half, i, j, k)
        local[1 - d0, 1 - d1, 1 - d2] += stencil.couplings[half, i0, j0, k0]


@allocating
def interpolation_rows(rows, stencil, parents, count, first, last):
    """Write the weights of P by rows, of points that are between coarse ones along `count` axes, slabs `first` to `last`.

    rows[b] is the weight of the parent on the right along the axes whose bit is set in b. A point between coarse ones along
    axes K: its stencil, summed over the other axes, couples it to neighbors that are coarse along one of K at least, whose rows
    have been written before. Constants are interpolated exactly where the excess is small beside the couplings.

    Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
    """
    n0, n1, n2 = stencil.excess.shape
    summed = np.zeros((3, 3, 3))
    for i in range(n0):
        between0 = parents[0, i, 1] < 0
        for j in range(n1):
            between1 = parents[1, j, 1] < 0
            if (
                not in_slabs(i, j, stencil.excess.shape, first, last)
                or not between0 + between1 <= count <= between0 + between1 + 1
            ):
                continue
            for k in range(n2):
                between2 = parents[2, k, 1] < 0
                if between0 + between1 + between2 != count:
                    continue
                if count == 0:
                    rows[0, i, j, k] = 1.0
                    continue
                total, missing = _summed_across(summed, stencil, i, j, k, between0, between1, between2)
                excess = stencil.excess[i, j, k]
                divisor = total + excess if missing or excess > 0.5 * total else total
                if divisor != 0.0:
                    _row_of(rows, summed, divisor, stencil, i, j, k)


@inlined
def _summed_across(summed, stencil, i, j, k, between0, between1, between2):
    """Write a point's couplings, summed over the axes along which it is coarse, into `summed`, (3, 3, 3).

    Return the sum of all others, and whether a neighbor is missing on one side of an axis along which it is between.
    """
    lowest = 0 if stencil.excess.shape[0] > 1 else 1
    for a in range(lowest, 3 - lowest):
        for b in range(3):
            for c in range(3):
                summed[a, b, c] = 0
    total, size0, size1, size2, both0, both1, both2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        here = stencil.couplings[half, i, j, k]
        i0, j0, k0 = _behind(stencil, half, i, j, k)
        there = stencil.couplings[half, i0, j0, k0]
        p, q, r = d0 if between0 else 0, d1 if between1 else 0, d2 if between2 else 0
        if p == 0 and q == 0 and r == 0:
            continue
        summed[1 + p, 1 + q, 1 + r] += here
        summed[1 - p, 1 - q, 1 - r] += there
        total += here + there
        here, there = abs(here), abs(there)
        size0, both0 = size0 + p * p * (here + there), both0 + p * (here - there)
        size1, both1 = size1 + q * q * (here + there), both1 + q * (here - there)
        size2, both2 = size2 + r * r * (here + there), both2 + r * (here - there)
    # On one side alone: the difference of both sides is as large as their sum.
    missing = (between0 and size0 == abs(both0)) or (between1 and size1 == abs(both1)) or (between2 and size2 == abs(both2))
    return total, missing


@inlined
def _row_of(rows, summed, divisor, stencil, i, j, k):
    """Add up the rows of a point's neighbors, each with its coupling over the divisor."""
    lowest = 0 if stencil.excess.shape[0] > 1 else 1
    most = rows.shape[0]
    for a in range(lowest, 3 - lowest):
        ia = stencil.before[0, i] if a == 0 else stencil.after[0, i] if a == 2 else i
        for b in range(3):
            jb = stencil.before[1, j] if b == 0 else stencil.after[1, j] if b == 2 else j
            for c in range(3):
                coupling = summed[a, b, c]
                if coupling == 0.0:
                    continue
                kc = stencil.before[2, k] if c == 0 else stencil.after[2, k] if c == 2 else k
                moved = (4 if a == 2 else 0) + (2 if b == 2 else 0) + (1 if c == 2 else 0)
                fixed = (4 if a != 1 else 0) + (2 if b != 1 else 0) + (1 if c != 1 else 0)
                for bits in range(most):
                    if bits & fixed == 0:
                        rows[bits | moved, i, j, k] += coupling / divisor * rows[bits, ia, jb, kc]


@kernel
def columns(weights, rows, offsets, children, shape):
    """Write the weights of P by columns: weights[t, I] for the fine point at offsets[t] from coarse point I."""
    m0, m1, m2 = shape
    for number in range(offsets.shape[0]):
        d0, d1, d2 = offsets[number]
        bits = (4 if d0 < 0 else 0) + (2 if d1 < 0 else 0) + (1 if d2 < 0 else 0)
        for i in range(m0):
            for j in range(m1):
                for k in range(m2):
                    a, b, c = children[0, i, d0 + 1], children[1, j, d1 + 1], children[2, k, d2 + 1]
                    weights[number, i, j, k] = rows[bits, a, b, c] if a >= 0 and b >= 0 and c >= 0 else 0.0


@kernel
def excess_of(out, v, stencil, first, last):
    """Write A v by differences: sum over o of a_o (v - v_o), plus s v."""
    n0, n1, n2 = v.shape
    for i in range(n0):
        for j in range(n1):
            if not in_slabs(i, j, v.shape, first, last):
                continue
            for k in range(n2):
                own, total = v[i, j, k], stencil.excess[i, j, k] * v[i, j, k]
                for half in range(stencil.offsets.shape[0]):
                    d0, d1, d2 = stencil.offsets[half]
                    i1 = stencil.after[0, i] if d0 > 0 else i
                    j1 = stencil.after[1, j] if d1 > 0 else stencil.before[1, j] if d1 < 0 else j
                    k1 = stencil.after[2, k] if d2 > 0 else stencil.before[2, k] if d2 < 0 else k
                    i0, j0, k0 = _behind(stencil, half, i, j, k)
                    total += stencil.couplings[half, i, j, k] * (own - v[i1, j1, k1])
                    total += stencil.couplings[half, i0, j0, k0] * (own - v[i0, j0, k0])
                out[i, j, k] = total


@allocating
def coarse_couplings(out, halves, stencil, transfer, following, images, first, last):
    """Write the couplings of P^T A P, slabs from `first` to `last`: out[h, I] is the one at halves[h] from coarse point I.

    `following[axis, I]` is the distance from I to the next coarse point along an axis, 0 where there is none. `images[axis]` is
    the length of a periodic axis with one coarse point, which is its own neighbor, else 0.
    """
    _, m0, m1, m2 = out.shape
    local, patch = np.zeros((3, 3, 3)), np.zeros((5, 5, 5))
    flat = 0 if stencil.excess.shape[0] > 1 else 2  # the middle of the patch, where that has one plane
    for i in range(m0):
        for j in range(m1):
            slab = i if m0 > 1 else j
            if slab < first or slab >= last:
                continue
            for k in range(m2):
                for p in range(flat, 5 - flat):
                    for q in range(5):
                        for r in range(5):
                            patch[p, q, r] = 0
                for number in range(transfer.offsets.shape[0]):
                    weight = transfer.weights[number, i, j, k]
                    if weight == 0.0:
                        continue
                    d0, d1, d2 = transfer.offsets[number]
                    a, b = transfer.children[0, i, d0 + 1], transfer.children[1, j, d1 + 1]
                    c = transfer.children[2, k, d2 + 1]
                    _gather(local, stencil, a, b, c)
                    patch[2 + d0, 2 + d1, 2 + d2] += stencil.diagonal[a, b, c] * weight
                    for p in range(flat // 2, 3 - flat // 2):
                        for q in range(3):
                            for r in range(3):
                                if local[p, q, r] != 0.0:
                                    patch[1 + d0 + p, 1 + d1 + q, 1 + d2 + r] -= local[p, q, r] * weight
                for half in range(halves.shape[0]):
                    o0, o1, o2 = halves[half]
                    # The other coarse point, and where it lies in the patch.
                    a, at0 = _neighbor(following, 0, i, m0, o0)
                    b, at1 = _neighbor(following, 1, j, m1, o1)
                    c, at2 = _neighbor(following, 2, k, m2, o2)
                    total = 0.0
                    if a >= 0 and b >= 0 and c >= 0:
                        for number in range(transfer.offsets.shape[0]):
                            d0, d1, d2 = transfer.offsets[number]
                            around = _with_images(patch, at0 + d0, at1 + d1, at2 + d2, images)
                            total += transfer.weights[number, a, b, c] * around
                    out[half, i, j, k] = -total


@inlined
def _with_images(patch, d0, d1, d2, images):
    """Return the entry of a patch, (5, 5, 5), at an offset from its middle, with its images along axes of one coarse point."""
    total = 0.0
    for s0 in range(-1, 2) if images[0] > 0 else range(1):
        for s1 in range(-1, 2) if images[1] > 0 else range(1):
            for s2 in range(-1, 2) if images[2] > 0 else range(1):
                p, q, r = 2 + d0 + s0 * images[0], 2 + d1 + s1 * images[1], 2 + d2 + s2 * images[2]
                if 0 <= p < 5 and 0 <= q < 5 and 0 <= r < 5:
                    total += patch[p, q, r]
    return total


@inlined
def _neighbor(following, axis, i, m, step):
    """Return the coarse point one step on along an axis, and its distance; -1 where there is none."""
    if step == 0:
        return i, 0
    if step > 0:
        distance = following[axis, i]
        return ((i + 1) % m if distance > 0 else -1), distance
    previous = (i - 1) % m
    distance = following[axis, previous] if i > 0 or following[axis, m - 1] > 0 else 0
    return (previous if distance > 0 else -1), -distance


@kernel
def axis_strengths(stencil, first, last):
    """Return, over points in slabs `first` to `last`, sums of how strongly each axis couples beside the strongest there."""
    n0, n1, n2 = stencil.excess.shape
    sum0, sum1, sum2 = 0.0, 0.0, 0.0
    for i in range(n0):
        for j in range(n1):
            if in_slabs(i, j, stencil.excess.shape, first, last):
                for k in range(n2):
                    t0, t1, t2 = _strengths(stencil, i, j, k)
                    largest = max(t0, t1, t2)
                    if largest > 0.0:
                        sum0 += t0 / largest
                        sum1 += t1 / largest
                        sum2 += t2 / largest
    return sum0, sum1, sum2


@kernel
def weak_points(stencil, strong0, strong1, strong2, ratio, first, last):
    """Return the number of points where one of the given axes couples `ratio` times weaker than another axis."""
    n0, n1, n2 = stencil.excess.shape
    count = 0
    for i in range(n0):
        for j in range(n1):
            if in_slabs(i, j, stencil.excess.shape, first, last):
                for k in range(n2):
                    t0, t1, t2 = _strengths(stencil, i, j, k)
                    largest = max(t0, t1, t2)
                    weak = strong0 and largest > ratio * t0
                    weak = weak or (strong1 and largest > ratio * t1)
                    count += weak or (strong2 and largest > ratio * t2)
    return count


@inlined
def _strengths(stencil, i, j, k):
    """Return, for each axis, |sum of the couplings upward| + |sum of those downward| of a point."""
    up0, up1, up2, down0, down1, down2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        here = stencil.couplings[half, i, j, k]
        i0, j0, k0 = _behind(stencil, half, i, j, k)
        there = stencil.couplings[half, i0, j0, k0]
        if d0 > 0:
            up0 += here
            down0 += there
        if d1 != 0:
            up1 += here if d1 > 0 else there
            down1 += there if d1 > 0 else here
        if d2 != 0:
            up2 += here if d2 > 0 else there
            down2 += there if d2 > 0 else here
    return abs(up0) + abs(down0), abs(up1) + abs(down1), abs(up2) + abs(down2)
