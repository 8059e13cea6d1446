"""The set-up of black box multigrid as loops: interpolation from the couplings, and coarse operators.

Arrays and stencils as in `couplings`. All loops run along rows, over `CHUNK` points at once, with one term of a sum after the
other: neighbors along the last axis, which may be every second point of a fine row, are a shift. A point's patch are the fine
points at -2 to 2 from it, its block those at -1 to 1; offset (a, b, c) is entry 62 + 25 a + 5 b + c of the one, 13 + 9 a + 3 b
+ c of the other.

Functions that take the stencil are inlined: passing its arrays takes longer than what is done for a row. They return no arrays,
as they count no references.

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

import numpy as np

from .compiling import LOOPS, compiled, inlined, kernel

allocating = compiled(**LOOPS)
CHUNK = 128  # points of a row at once: their patches, 25 numbers per point in 2-D, stay in the first cache
PATCH, BLOCK = 125, 27
SLABS = 8  # fine slabs whose weights are written before couplings follow: in 2-D, at 1023^2, they take half of the cache
MARGIN = 5  # slabs beside a coarse one that its couplings depend on: 3 whose weights they take, which 2 more must precede


def workspace():
    """Return memory for the patches of a chunk of points, or their blocks and five rows more."""
    return np.empty((PATCH, CHUNK))


@inlined
def _rows(shape, first, last):
    """Return the ranges of the first two indices in slabs `first` to `last`: planes in 3-D, rows in 2-D."""
    return (first, last, 0, shape[1]) if shape[0] > 1 else (0, 1, first, last)


@inlined
def _inner(n, start, step, count):
    """Return which of the places start, start + step, .. are inside range(n), first and last: one at either end may not be."""
    low = 1 if start < 0 else 0
    return low, max(low, count - 1 if start + step * (count - 1) >= n else count)


@inlined
def add(out, row, start, step):
    """Add row[start], row[start + step], .. to `out`; the row is continued periodically."""
    n, count = row.shape[0], out.shape[0]
    low, high = _inner(n, start, step, count)
    if low > 0:
        out[0] += row[start % n]
    if high < count:
        out[count - 1] += row[(start + step * (count - 1)) % n]
    target, source = out[low:high], row[max(start + step * low, 0) :]  # slices: these loops are vectorized
    if step == 2:
        for k in range(target.shape[0]):
            target[k] += source[2 * k]
    else:
        for k in range(target.shape[0]):
            target[k] += source[k]


@inlined
def add_product(out, row, start, step, factor, sign=1.0):
    """Add the products of row[start], row[start + step], .. with `factor` to `out`; the row is continued periodically."""
    n, count = row.shape[0], out.shape[0]
    low, high = _inner(n, start, step, count)
    if low > 0:
        out[0] += sign * row[start % n] * factor[0]
    if high < count:
        out[count - 1] += sign * row[(start + step * (count - 1)) % n] * factor[count - 1]
    target, factors, source = out[low:high], factor[low:high], row[max(start + step * low, 0) :]
    if step == 2:
        for k in range(target.shape[0]):
            target[k] += sign * source[2 * k] * factors[k]
    else:
        for k in range(target.shape[0]):
            target[k] += sign * source[k] * factors[k]


@inlined
def _behind(stencil, half, i, j):
    """Return the row from which a half-offset leads to row (i, j)."""
    d0, d1, _ = stencil.offsets[half]
    return (
        stencil.before[0, i] if d0 > 0 else i,
        stencil.before[1, j] if d1 > 0 else stencil.after[1, j] if d1 < 0 else j,
    )


@inlined
def _points(axis, children, between, n, m):
    """Return the points of an axis that are coarse, or between coarse ones: the first, their distance, and their number."""
    first = children[axis, 0, 1]
    step = children[axis, 1, 1] - first if m > 1 else 2
    return (1 - first, step, n - m) if between else (first, step, m)


@inlined
def _mark(marks, i, j, between, chunk, defect):
    """Mark that a chunk of points of a row, coarse along it or between, has defects, or a neighbor has them at its end."""
    chunks = marks.shape[3]
    marks[i, j, between, chunk] = True
    if defect[0] != 0.0:
        marks[i, j, between, (chunk - 1) % chunks] = True
    if defect[defect.shape[0] - 1] != 0.0:
        marks[i, j, between, (chunk + 1) % chunks] = True


@kernel
def set_up(scratch, stencil, made, stage, first, last):
    """Write P and P^T A P in fine slabs `first` to `last`, in four stages, each of which needs the one before in all slabs.

    The first does all but for a few slabs at either end, which need others' numbers: block by block, weights of points between
    coarse ones along one axis, along two and three a slab behind, then couplings, from numbers that are in the cache still. At
    the ends, stage 1 and 2 write the weights of points between coarse ones along two and three axes, stage 3 couplings.
    """
    axis = 0 if stencil.excess.shape[0] > 1 else 1
    positions = made.transfer.children[axis, : made.excess.shape[axis], 1]
    inner_first = np.searchsorted(positions, first + MARGIN)
    inner_last = max(inner_first, np.searchsorted(positions, last - MARGIN))
    if stage == 0:
        done = inner_first
        for begin in range(first, last, SLABS):
            end = min(begin + SLABS, last)
            for count in range(1, 4):
                _interpolate(scratch, stencil, made, count, max(begin - count + 1, first + count - 1), end - count + 1)
            reached = np.searchsorted(positions, end - MARGIN)
            _couple_slabs(scratch, stencil, made, done, reached)
            done = max(done, reached)
    elif stage < 3:
        begin, end = min(first + stage, last), max(last - stage, first + stage)
        _interpolate(scratch, stencil, made, stage + 1, first, begin)
        _interpolate(scratch, stencil, made, stage + 1, end, last)
    else:
        begin, end = np.searchsorted(positions, first), np.searchsorted(positions, last)
        _couple_slabs(scratch, stencil, made, begin, min(inner_first, end))
        _couple_slabs(scratch, stencil, made, max(inner_last, begin), end)


@kernel
def _interpolate(scratch, stencil, made, count, first, last):
    """Write the weights of P of points that are between coarse ones along `count` axes, in fine slabs `first` to `last`.

    A point between coarse ones along axes K: its stencil, summed over the other axes, couples it to neighbors that are coarse
    along one of K at least, whose weights have been written before. Constants are interpolated exactly where the excess is
    small beside the couplings; where not, 1 - P 1 is written to `defects`, and marked.

    Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
    """
    block, rows = scratch[:BLOCK], scratch[BLOCK : BLOCK + 5]
    weights, children, parents = made.transfer.weights, made.transfer.children, made.transfer.parents
    columns, defects, marks = made.columns, made.defects, made.marks
    low0, high0, low1, high1 = _rows(stencil.excess.shape, first, last)
    for i in range(low0, high0):
        for j in range(low1, high1):
            k0, k1 = int(parents[0, i, 1] < 0), int(parents[1, j, 1] < 0)
            k2 = count - k0 - k1
            if k2 < 0 or k2 > 1:
                continue
            start, step, total = _points(2, children, k2 == 1, stencil.excess.shape[2], weights.shape[3])
            bits = _reach(stencil, k0, k1, k2)
            for low in range(0, total, CHUNK):
                size, place = min(CHUNK, total - low), start + step * low
                _sum_across(block, size, bits, stencil, i, j, place, step, k0, k1, k2)
                any_excess = _divide(rows, block, size, bits, stencil.excess[i, j], place, step, k0, k1, k2)
                inverse, defect, added = rows[0, :size], rows[1, :size], rows[2, :size]
                if not any_excess:
                    defect[:] = 0.0
                if count > 1 and _add_defects(added, block, bits, defects, marks, stencil, i, j, low // CHUNK, place, step):
                    any_excess = True
                    for k in range(size):
                        defect[k] += added[k] * inverse[k]
                if any_excess and _any(defect):
                    _mark(marks, i, j, k2, low // CHUNK, defect)
                    for k in range(size):
                        defects[i, j, place + step * k] = defect[k]
                for s0 in range(-k0, k0 + 1, 2):
                    for s1 in range(-k1, k1 + 1, 2):
                        a, b = parents[0, i, 1 - s0], parents[1, j, 1 - s1]
                        if a < 0 or b < 0:
                            continue
                        for s2 in range(-k2, k2 + 1, 2):
                            _weigh(weights, columns, block, bits, inverse, a, b, s0, s1, s2, start, low, parents)


@inlined
def _reach(stencil, k0, k1, k2):
    """Return which entries of a block are not zero, as bits: offsets summed over the axes along which a point is coarse."""
    bits = 0
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        move = 9 * k0 * d0 + 3 * k1 * d1 + k2 * d2
        if move != 0:
            bits |= (1 << 13 + move) | (1 << 13 - move)
    return bits


@inlined
def _sum_across(block, size, bits, stencil, i, j, place, step, k0, k1, k2):
    """Write the couplings of points of a row, summed over the axes along which they are coarse, into their blocks."""
    for entry in range(BLOCK):
        if bits >> entry & 1:
            block[entry, :size] = 0.0
    for half in range(stencil.offsets.shape[0]):
        d0, d1, d2 = stencil.offsets[half]
        move = 9 * k0 * d0 + 3 * k1 * d1 + k2 * d2
        if move != 0:
            a, b = _behind(stencil, half, i, j)
            add(block[13 + move, :size], stencil.couplings[half, i, j], place, step)
            add(block[13 - move, :size], stencil.couplings[half, a, b], place - d2, step)


@inlined
def _divide(rows, block, size, bits, excess, place, step, k0, k1, k2):
    """Write one over the divisors of points of a row, and what their weights lack to a sum of one by themselves.

    The divisor contains the excess where that is large, or where a neighbor is missing on one side of an axis. Return whether
    there is any excess; if not, nothing is lacking.
    """
    total, missing, own = rows[0, :size], rows[1, :size], rows[2, :size]
    total[:] = 0.0
    own[:] = 0.0
    for entry in range(BLOCK):
        if bits >> entry & 1:
            add(total, block[entry, :size], 0, 1)
    add(own, excess, place, step)
    inverse, defect = total, missing
    if not _any(own):
        for k in range(size):
            inverse[k] = 1.0 / total[k] if total[k] != 0.0 else 0.0
        return False
    missing[:] = 0.0
    for axis in range(3):
        if (k0, k1, k2)[axis]:
            _add_missing(missing, rows[3, :size], rows[4, :size], block, bits, 9 if axis == 0 else 3 if axis == 1 else 1)
    for k in range(size):
        added = own[k] if missing[k] > 0.0 or own[k] > 0.5 * total[k] else 0.0
        divisor = total[k] + added
        inverse[k] = 1.0 / divisor if divisor != 0.0 else 0.0
        defect[k] = added * inverse[k] if divisor != 0.0 else 1.0
    return True


@inlined
def _add_missing(missing, low, high, block, bits, stride):
    """Add one where the neighbors on one side of an axis are missing: the entries of a block with 0 or 2 as digit `stride`."""
    low[:] = 0.0
    high[:] = 0.0
    for entry in range(BLOCK):
        digit = entry // stride % 3
        if bits >> entry & 1 and digit != 1:
            side, own = low if digit == 0 else high, block[entry]
            for k in range(low.shape[0]):
                side[k] += abs(own[k])
    for k in range(missing.shape[0]):  # on one side alone: the difference of both sides is as large as their sum
        missing[k] += 1.0 if low[k] + high[k] == abs(low[k] - high[k]) else 0.0


@inlined
def _add_defects(total, block, bits, defects, marks, stencil, i, j, chunk, place, step):
    """Write the defects of the neighbors that points of a row are interpolated from, times what couples them, if any."""
    found = False
    for entry in range(BLOCK):
        if bits >> entry & 1:
            a, b, c = entry // 9 - 1, entry // 3 % 3 - 1, entry % 3 - 1
            ia = stencil.before[0, i] if a < 0 else stencil.after[0, i] if a > 0 else i
            jb = stencil.before[1, j] if b < 0 else stencil.after[1, j] if b > 0 else j
            if marks[ia, jb, 0, chunk] or marks[ia, jb, 1, chunk]:
                if not found:
                    total[:] = 0.0
                    found = True
                add_product(total, defects[ia, jb], place + c, step, block[entry, : total.shape[0]])
    return found


@inlined
def _weigh(weights, columns, block, bits, inverse, a, b, s0, s1, s2, start, low, parents):
    """Write the weights of the parents at (s0, s1, s2), in coarse row (a, b), of points of a row."""
    m, size = weights.shape[3], inverse.shape[0]
    begin = low if s2 == 0 else low + start - (1 if s2 < 0 else 0)  # the parent of the first point
    inner_first, inner_last = max(0, -begin), min(size, m - begin)
    _weigh_some(weights, columns, block, bits, inverse, a, b, s0, s1, s2, begin, inner_first, inner_last)
    if inner_last < size:
        around = parents[2, start + 2 * (low + inner_last), 1 - s2]
        if around >= 0:
            _weigh_some(weights, columns, block, bits, inverse, a, b, s0, s1, s2, around - inner_last, inner_last, size)


@inlined
def _weigh_some(weights, columns, block, bits, inverse, a, b, s0, s1, s2, begin, first, last):
    """Do so for the points from `first` to `last` of a chunk, whose parents begin at `begin`."""
    out = weights[columns[13 - 9 * s0 - 3 * s1 - s2], a, b, begin + first : begin + last]
    divisor = inverse[first:last]
    if abs(s0) + abs(s1) + abs(s2) == 1:
        own = block[13 + 9 * s0 + 3 * s1 + s2, first:last]
        for k in range(out.shape[0]):
            out[k] = own[k] * divisor[k]
        return
    out[:] = 0.0
    for t0 in range(min(s0, 0), max(s0, 0) + 1):
        for t1 in range(min(s1, 0), max(s1, 0) + 1):
            for t2 in range(min(s2, 0), max(s2, 0) + 1):
                entry = 13 + 9 * t0 + 3 * t1 + t2
                if bits >> entry & 1:
                    rest = columns[13 - 9 * (s0 - t0) - 3 * (s1 - t1) - (s2 - t2)]  # of a coarse neighbor: all ones
                    add_product(out, block[entry, first:last], 0, 1, weights[rest, a, b, begin + first : begin + last])
    for k in range(out.shape[0]):
        out[k] *= divisor[k]


@kernel
def _couple_slabs(patch, stencil, made, first, last):
    """Write the couplings and the excess of P^T A P, coarse slabs from `first` to `last`.

    The excess is P^T (s - A (1 - P 1)), s that of A.
    """
    transfer, out, sums, halves, wanted = made.transfer, made.couplings, made.excess, made.halves, made.wanted
    defects, marks, following, images = made.defects, made.marks, made.following, made.images
    _, _, m1, m2 = out.shape
    start, step, _ = _points(2, transfer.children, False, stencil.excess.shape[2], m2)
    low0, high0, low1, high1 = _rows((stencil.excess.shape[0], m1, m2), first, last)  # slabs are those of the fine grid
    for i in range(low0, high0):
        for j in range(low1, high1):
            for low in range(0, m2, CHUNK):
                size, place = min(CHUNK, m2 - low), start + step * low
                excess = sums[i, j, low : low + size]
                state = _marked(marks, 0, transfer, i, j, low // CHUNK) + 2 * _marked(marks, 1, transfer, i, j, low // CHUNK)
                _fill_patch(patch, size, wanted[state], stencil, transfer, i, j, low, place, step)
                for half in range(halves.shape[0]):
                    row = out[half, i, j, low : low + size]
                    _couple(row, patch, halves[half], transfer.weights, transfer.offsets, following, images, i, j, low, step)
                excess[:] = 0.0
                any_excess = False
                for number in range(transfer.offsets.shape[0]):
                    a, b, d2 = _child(transfer, number, i, j)
                    if a < 0 or b < 0:
                        continue
                    if number == 0 or transfer.offsets[number, 2] <= transfer.offsets[number - 1, 2]:  # another fine row
                        any_excess = _any(stencil.excess[a, b, max(place - 1, 0) : place + step * size])
                        any_excess |= stencil.excess[a, b, (place - 1) % stencil.excess.shape[2]] != 0.0
                    if any_excess:
                        own = transfer.weights[number, i, j, low : low + size]
                        add_product(excess, stencil.excess[a, b], place + d2, step, own)
                if state > 0:
                    _add_patch_of_defects(excess, patch, wanted[state], defects, transfer, i, j, place, step)


@inlined
def _any(row):
    """Whether there is anything but zero."""
    found = False
    for k in range(row.shape[0]):
        found |= row[k] != 0.0
    return found


@inlined
def _child(transfer, number, i, j):
    """Return the fine row at an offset from coarse row (i, j), and the offset along the row."""
    d0, d1, d2 = transfer.offsets[number]
    return transfer.children[0, i, d0 + 1], transfer.children[1, j, d1 + 1], d2


@inlined
def _marked(marks, between, transfer, i, j, chunk):
    """Whether points of the patches of a chunk that are coarse along rows, or between, have defects."""
    n0, n1, flat = marks.shape[0], marks.shape[1], 2 if marks.shape[0] == 1 else 0
    for p in range(flat - 2, 3 - flat):
        a = (transfer.children[0, i, 1] + p) % n0
        for q in range(-2, 3):
            if marks[a, (transfer.children[1, j, 1] + q) % n1, between, chunk]:
                return True
    return False


@inlined
def _add_patch_of_defects(excess, patch, wanted, defects, transfer, i, j, place, step):
    n0, n1, flat = defects.shape[0], defects.shape[1], 2 if defects.shape[0] == 1 else 0
    for p in range(flat - 2, 3 - flat):
        a = (transfer.children[0, i, 1] + p) % n0
        for q in range(-2, 3):
            b = (transfer.children[1, j, 1] + q) % n1
            for r in range(-2, 3):
                entry = 62 + 25 * p + 5 * q + r
                if wanted[entry] > 1:
                    add_product(excess, defects[a, b], place + r, step, patch[entry, : excess.shape[0]])


@inlined
def _fill_patch(patch, size, wanted, stencil, transfer, i, j, low, place, step):
    """Write columns of -A P into the patches of coarse points of a row, where they are wanted."""
    flat = 50 if stencil.excess.shape[0] == 1 else 0
    for entry in range(flat, PATCH - flat):
        if wanted[entry] > 0:
            patch[entry, :size] = 0.0
    for number in range(transfer.offsets.shape[0]):
        a, b, d2 = _child(transfer, number, i, j)
        if a < 0 or b < 0:
            continue
        weights = transfer.weights[number, i, j, low : low + size]
        entry = 62 + 25 * transfer.offsets[number, 0] + 5 * transfer.offsets[number, 1] + d2
        if wanted[entry] > 0:
            add_product(patch[entry, :size], stencil.diagonal[a, b], place + d2, step, weights, -1.0)
        for half in range(stencil.offsets.shape[0]):
            o0, o1, o2 = stencil.offsets[half]
            move = 25 * o0 + 5 * o1 + o2
            if wanted[entry + move] > 0:
                add_product(patch[entry + move, :size], stencil.couplings[half, a, b], place + d2, step, weights)
            if wanted[entry - move] > 0:
                ia, jb = _behind(stencil, half, a, b)
                add_product(patch[entry - move, :size], stencil.couplings[half, ia, jb], place + d2 - o2, step, weights)


@inlined
def _couple(row, patch, offset, weights, offsets, following, images, i, j, low, step):
    """Write the couplings of coarse points of a row, from `low` on, to those at an offset."""
    _, m0, m1, m2 = weights.shape
    o0, o1, o2 = offset
    a, at0 = _neighbor(following, 0, i, m0, o0)
    b, at1 = _neighbor(following, 1, j, m1, o1)
    row[:] = 0.0
    if a < 0 or b < 0:
        return
    size = row.shape[0]
    inner_first, inner_last = max(0, -o2 - low), min(size, m2 - o2 - low)
    if images.any():
        inner_first, inner_last = size, size
    for number in range(offsets.shape[0]):
        d0, d1, d2 = offsets[number]
        p, q, r = at0 + d0, at1 + d1, step * o2 + d2
        if abs(p) <= 2 and abs(q) <= 2 and abs(r) <= 2 and inner_first < inner_last:
            factor = weights[number, a, b, low + o2 + inner_first : low + o2 + inner_last]
            own = patch[62 + 25 * p + 5 * q + r, inner_first:inner_last]
            add_product(row[inner_first:inner_last], own, 0, 1, factor)
    for end in range(inner_first + size - inner_last if inner_first < inner_last else size):
        k = end if end < inner_first else inner_last + end - inner_first
        c, at2 = _neighbor(following, 2, low + k, m2, o2)
        if c >= 0:
            for number in range(offsets.shape[0]):
                d0, d1, d2 = offsets[number]
                row[k] += weights[number, a, b, c] * _with_images(patch[:, k], at0 + d0, at1 + d1, at2 + d2, images)


@inlined
def _with_images(patch, d0, d1, d2, images):
    """Return the entry of a patch at an offset, with its images along axes of one coarse point."""
    total = 0.0
    for s0 in range(-1, 2) if images[0] > 0 else range(1):
        for s1 in range(-1, 2) if images[1] > 0 else range(1):
            for s2 in range(-1, 2) if images[2] > 0 else range(1):
                p, q, r = d0 + s0 * images[0], d1 + s1 * images[1], d2 + s2 * images[2]
                if abs(p) <= 2 and abs(q) <= 2 and abs(r) <= 2:
                    total += patch[62 + 25 * p + 5 * q + r]
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
def finish(diagonal, inverse, stencil, first, last):
    """Write the diagonal of A, and one over it, 0 where that is not above zero."""
    low0, high0, low1, high1 = _rows(diagonal.shape, first, last)
    for i in range(low0, high0):
        for j in range(low1, high1):
            own, over, excess = diagonal[i, j], inverse[i, j], stencil.excess[i, j]
            own[:] = 0.0
            for half in range(stencil.offsets.shape[0]):
                a, b = _behind(stencil, half, i, j)
                add(own, stencil.couplings[half, i, j], 0, 1)
                add(own, stencil.couplings[half, a, b], -stencil.offsets[half, 2], 1)
            for k in range(own.shape[0]):
                own[k] += excess[k]
                over[k] = 1.0 / own[k] if own[k] > 0.0 else 0.0 * own[k]


@allocating
def axis_strengths(stencil, first, last):
    """Return, over points in slabs `first` to `last`, sums of how strongly each axis couples beside the strongest there."""
    n2 = stencil.excess.shape[2]
    scratch, sum0, sum1, sum2 = np.empty((4, CHUNK)), 0.0, 0.0, 0.0
    low0, high0, low1, high1 = _rows(stencil.excess.shape, first, last)
    for i in range(low0, high0):
        for j in range(low1, high1):
            if True:
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
    return sum0, sum1, sum2


@allocating
def weak_points(stencil, strong0, strong1, strong2, ratio, first, last):
    """Return the number of points where one of the given axes couples `ratio` times weaker than another axis."""
    n2 = stencil.excess.shape[2]
    scratch, count = np.empty((4, CHUNK)), 0
    low0, high0, low1, high1 = _rows(stencil.excess.shape, first, last)
    for i in range(low0, high0):
        for j in range(low1, high1):
            if True:
                for low in range(0, n2, CHUNK):
                    size = min(CHUNK, n2 - low)
                    _write_strengths(scratch, size, stencil, i, j, low)
                    t0, t1, t2 = scratch[0, :size], scratch[1, :size], scratch[2, :size]
                    for k in range(size):
                        largest = max(t0[k], t1[k], t2[k])
                        weakest = min(
                            t0[k] if strong0 else largest, t1[k] if strong1 else largest, t2[k] if strong2 else largest
                        )
                        count += largest > ratio * weakest
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
