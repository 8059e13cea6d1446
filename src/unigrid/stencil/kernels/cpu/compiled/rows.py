"""Operations on rows for the waves: split by parity, relax, take the residual, restrict, interpolate.

Every row is split into its even and its odd points: all points of one color in a row are one of the halves, so relaxation
reads and writes without gaps. Rows are held in a ring, (places, rows, 2, length), the places being slabs under way: a half
begins after `MARGIN` zeros and is followed by zeros, so vectors may run over its end.

These functions are written for a `ConstantStencil`; another type of stencil overloads `along`, `relax_row` and `residual_row`.
"""

import numpy as np

from .arguments import Located, Neighbors
from .compiling import LOOPS, compiled, inlined, kernel
from .loops import along
from .vectors import BYTES, evens, lanes_of, load, odds, prefetch, spread, store, zip_high, zip_low

MARGIN = 16  # numbers before the first and after the last vector of a row: whole cache lines, in either precision
LINE = 64  # bytes of a cache line
TERMS = 64  # most rows that a row of a transfer combines
NEAR = 8192  # bytes of a row in all stages: beyond it, what is prefetched for the next row has left the first cache before
CLOSED, WRAPPED, EXTENDED = 0, 1, 2  # beyond the ends of a coarse row: zeros, the other end, extrapolated values


@inlined
def split(row, halves):
    """Copy a row into its even and its odd points, surrounded by zeros."""
    n, lanes, even, odd = row.shape[0], lanes_of(row), halves[0], halves[1]
    whole = n // 2
    for m in range(0, whole if whole >= lanes else 0, lanes):
        start = min(m, whole - lanes)  # the last vectors overlap the ones before
        first, second = load(row, 2 * start), load(row, 2 * start + lanes)
        store(even, MARGIN + start, evens(first, second))
        store(odd, MARGIN + start, odds(first, second))
    for m in range(whole if whole < lanes else 0):
        even[MARGIN + m] = row[2 * m]
        odd[MARGIN + m] = row[2 * m + 1]
    if n % 2 == 1:
        even[MARGIN + whole] = row[n - 1]
    _surround_by_zeros(halves, n)


@inlined
def _surround_by_zeros(halves, n):
    """Write zeros behind the even and the odd points of a row of n, and one before each."""
    halves[0, MARGIN - 1] = halves[1, MARGIN - 1] = 0
    halves[0, MARGIN + (n + 1) // 2 :] = 0
    halves[1, MARGIN + n // 2 :] = 0


@inlined
def merge(row, halves):
    """Copy even and odd points back into a row."""
    n, lanes, even, odd = row.shape[0], lanes_of(row), halves[0], halves[1]
    whole = n // 2
    for m in range(0, whole if whole >= lanes else 0, lanes):
        start = min(m, whole - lanes)
        first, second = load(even, MARGIN + start), load(odd, MARGIN + start)
        store(row, 2 * start, zip_low(first, second))
        store(row, 2 * start + lanes, zip_high(first, second))
    for m in range(whole if whole < lanes else 0):
        row[2 * m] = even[MARGIN + m]
        row[2 * m + 1] = odd[MARGIN + m]
    if n % 2 == 1:
        row[n - 1] = even[MARGIN + whole]


@inlined
def _wrap(buffer, n):
    """Fill the places beyond either end of n values with those of the other end."""
    for beyond in range(4):
        buffer[MARGIN - 1 - beyond] = buffer[MARGIN + n - 1 - beyond]
        buffer[MARGIN + n + beyond] = buffer[MARGIN + beyond]


@inlined
def _extrapolate(buffer, n):
    """Fill two places beyond either end of n values with those of the cubic through the last four."""
    for beyond in range(2):
        low, high = MARGIN - 1 - beyond, MARGIN + n + beyond
        buffer[low] = 4 * (buffer[low + 1] + buffer[low + 3]) - 6 * buffer[low + 2] - buffer[low + 4]
        buffer[high] = 4 * (buffer[high - 1] + buffer[high - 3]) - 6 * buffer[high - 2] - buffer[high - 4]


@inlined
def _band(weights, buffer, first, shift, terms, length):
    """Return the sum over t of weights[t * length + m] buffer[m + shift + t], as a vector over m = first, first + 1, .."""
    start = MARGIN + first + shift
    total = load(weights, first) * load(buffer, start)
    for t in range(1, terms):
        total = total + load(weights, t * length + first) * load(buffer, start + t)
    return total


@inlined
def _terms_of(lines, factors, slabs, slab_weights, rows, row_weights, size, length):
    """List the rows that enter a row of a tensor product with a nonzero weight: their places and weights; return the count."""
    count = 0
    for a in range(slabs.shape[0]):
        for b in range(rows.shape[0]):
            weight = slab_weights[a] * row_weights[b]
            lines[count], factors[count] = slabs[a] * size + rows[b] * length, weight
            count += int(weight != 0)
    if count == 0:
        lines[0], factors[0], count = 0, 0, 1
    return count


@inlined
def _combine(target, rows, n, lines, factors, count):
    """Write the weighted sum of rows of n into `target`, behind its margin."""
    lanes = lanes_of(target)
    for k in range(0, n if n >= lanes else 0, lanes):
        start = min(k, n - lanes)
        total = spread(factors[0]) * load(rows, lines[0] + start)
        for t in range(1, count):
            total = total + spread(factors[t]) * load(rows, lines[t] + start)
        store(target, MARGIN + start, total)
    for k in range(n if n < lanes else 0):
        value = factors[0] * rows[lines[0] + k]
        for t in range(1, count):
            value += factors[t] * rows[lines[t] + k]
        target[MARGIN + k] = value


@inlined
def gather(coarse, shape, slab, j, ends, rings, prolongation):
    """Combine the rows of e for row j of slab `slab` of P e.

    `coarse` is e as one row, of the shape (rows, n); `ends` selects the values beyond its ends.
    """
    buffer, factors, lines = rings.scratch[0], rings.scratch[3], rings.lines
    rows, n = shape
    along_slabs, across = prolongation.along, prolongation.across
    count = _terms_of(
        lines, factors, along_slabs.indices[slab], along_slabs.weights[slab], across.indices[j], across.weights[j], rows * n, n
    )
    _combine(buffer, coarse, n, lines, factors, count)
    if ends == WRAPPED:
        _wrap(buffer, n)
    elif ends == EXTENDED:
        _extrapolate(buffer, n)
    else:
        buffer[MARGIN - 4 : MARGIN], buffer[MARGIN + n : MARGIN + n + 4] = 0, 0


@inlined
def add_correction(halves, n, buffer, bands):
    """Add the row made by `gather`, interpolated to the even and the odd points."""
    even, odd = halves[0], halves[1]
    for first in range(0, (n + 1) // 2, lanes_of(buffer)):
        place = MARGIN + first
        to_even = _band(bands.even, buffer, first, bands.even_shift, bands.even_terms, bands.length)
        store(even, place, load(even, place) + to_even)
        to_odd = _band(bands.odd, buffer, first, bands.odd_shift, bands.odd_terms, bands.length)
        store(odd, place, load(odd, place) + to_odd)


@inlined
def wrapped(index, count):
    """Return the index modulo count, for an index between -count and 2 count."""
    return index + count if index < 0 else index - count if index >= count else index


@inlined
def locate(slab, place, sweep):
    """Return the `Located` of a slab that is at `place` of the ring."""
    low, low_weight, high, high_weight, diagonal = along(slab, sweep.axis, sweep.slabs, sweep.stencil)
    down, up = (-1, 1) if sweep.periodic else (low - slab if low_weight != 0 else 0, high - slab if high_weight != 0 else 0)
    places, size = sweep.ring.places, sweep.ring.rows * 2 * sweep.ring.length
    return Located(
        place * size, wrapped(place + down, places) * size, wrapped(place + up, places) * size, low_weight, high_weight,
        diagonal,
    )  # fmt: skip


@inlined
def row_neighbors(j, sweep):
    """Return the `Neighbors` of row j in its slab, counted from the first row that the ring holds.

    A neighbor of weight zero is row j itself: the ring need not hold another.
    """
    back, back_weight, front, front_weight, diagonal = along(j, 1 - sweep.axis, sweep.rows, sweep.stencil)
    back, front = back if back_weight != 0 else j, front if front_weight != 0 else j
    return Neighbors(back - sweep.base, back_weight, front - sweep.base, front_weight, diagonal)


@inlined
def _around_end(ring, k, line, length, across, upper, here, end):
    """Return the weighted sum of the neighbors of a row's end point, without the one below.

    `here` and `upper` are the places of the slabs in the ring, `line` is the row's place in a slab; `end` are the `Neighbors`
    of the end point along the row.
    """
    left, left_weight, right, right_weight, _ = end
    place = here + line
    total = left_weight * ring[place + left % 2 * length + left // 2]
    total += right_weight * ring[place + right % 2 * length + right // 2]
    at = k % 2 * length + k // 2
    if across[1] != 0:
        total += across[1] * ring[here + across[0] + at]
    if across[3] != 0:
        total += across[3] * ring[here + across[2] + at]
    return total + upper[1] * ring[upper[0] + line + at]


@inlined
def _is_plain(beyond_weight, inner_weight, own, scale):
    """Return whether an end point has the weights of an inner point, with zero beyond it: Dirichlet on vertices."""
    return beyond_weight == 0 and inner_weight == scale and own == scale + scale


@inlined
def _relax_vectors(u, f, half, at, omegas, slab, size, weights, crossed, watched, ahead):
    """Relax a row's half in as many slabs as there are omegas, each below the one before, by vectors; see `relax_row`."""
    by_data, by_side, by_low, by_high, by_back, by_front = (
        spread(weights[0]), spread(weights[1]), spread(weights[2]), spread(weights[3]), spread(weights[4]), spread(weights[5])
    )  # fmt: skip
    own, sides, behind, before, shift, ahead_row = at
    here, above, below = slab
    lanes = lanes_of(u)
    watch, changes, factor, next_factor = watched[0], watched[1], spread(watched[2]), spread(watched[3])
    left, before_last = changes[0], changes[1]
    for first in range(0, half, lanes):
        for line in range(2 * BYTES // LINE):
            prefetch(ahead[0], 2 * first + line * lanes * LINE // BYTES)
            prefetch(ahead[1], 2 * first + line * lanes * LINE // BYTES)
        place, upper = here + first, above + first
        center, below_it = load(u, place + own), load(u, below + first + own)
        for stage in range(omegas.shape[0]):
            above_it = load(u, upper + own)
            total = by_data * load(f, place + own) - center + by_low * above_it
            total = total + by_side * (load(u, place + sides) + load(u, place + sides + shift))
            if crossed:
                total = total + by_back * load(u, place + behind) + by_front * load(u, place + before)
                if ahead_row != 0:
                    for line in range(BYTES // LINE):
                        there = place + ahead_row + line * lanes * LINE // BYTES
                        prefetch(u, there + own)
                        prefetch(f, there + own)
                        prefetch(u, there + before)
            total = total + by_high * below_it
            below_it = center + spread(omegas[stage]) * total
            store(u, place + own, below_it)
            if stage == watch:
                store(left, MARGIN + first, factor * total)
            elif stage == watch + 1:
                store(before_last, MARGIN + first, next_factor * total)
            center, place = above_it, upper
            upper = upper - size[0] if upper >= size[0] else upper + size[1]


@kernel
def _relax_in_2d(u, f, half, at, omegas, slab, size, weights, watched, ahead):
    """Do `_relax_vectors` where a slab is a row. A function of its own, as its loops need all registers."""
    _relax_vectors(u, f, half, at, omegas, slab, size, weights, False, watched, ahead)


@kernel
def _relax_in_3d(u, f, half, at, omegas, slab, size, weights, watched, ahead):
    """Do `_relax_vectors` where a slab has rows."""
    _relax_vectors(u, f, half, at, omegas, slab, size, weights, True, watched, ahead)


@inlined
def relax_row(sweep, located, row, q, watch, counted, omegas, scratch, ahead):
    """Relax the points of parity q in a row of a slab, then of the slab below, and so on: a stage for each of `omegas`.

    `located` is where the first slab is in the ring, `ahead` is (row of u, row of f) to be prefetched meanwhile.

    Between stage `watch` and the next, the norm of the residual is wanted. Both stages compute D^-1 times it and apply omega
    times that: the first leaves 1 - omega of the residual on its points, the next finds all of it on its own. Returned is the
    sum of squares of the residual on the points of those two stages, as far as they are among these, and `counted`: from
    the first or the second on, to the end of the first or of the second.
    """
    u, f, places, rows, length = sweep.ring
    stencil, ends, n, j = sweep.stencil, sweep.ends, sweep.n, row - sweep.base
    here, above, below, low_weight, high_weight, outer = located
    back, back_weight, front, front_weight, middle = row_neighbors(row, sweep)
    size, line = rows * 2 * length, j * 2 * length + MARGIN
    beyond, own = (places - 1) * size, line + q * length
    count, kept, changes = omegas.shape[0], scratch[4:6], scratch[6:8]
    one = omegas.dtype.type(1)
    remaining = one - omegas[watch] if 0 <= watch < count else one
    diagonal, scale = outer + middle + stencil.coefficients[3, 0], stencil.coefficients[2, 0]
    crossing = back * 2 * length + MARGIN, back_weight, front * 2 * length + MARGIN, front_weight
    whole = diagonal + scale + scale
    (_, low_beyond, _, low_inner, low_own), (_, high_inner, _, high_beyond, high_own) = ends
    own_ends = (
        not _is_plain(low_beyond, low_inner, low_own, scale), not _is_plain(high_beyond, high_inner, high_own, scale)
    )  # fmt: skip
    # Such ends have weights of their own. They are computed first and stored after the vectors have run over them.
    for end in range(2):
        k = end * (n - 1)
        if k % 2 != q or not own_ends[end]:
            continue
        place, upper, at = here, above, own + k // 2
        new, own_whole = u[below + at], diagonal + ends[end].diagonal
        share = one / own_whole
        by_new = share * high_weight
        for stage in range(count):
            old = u[place + at]
            around = _around_end(u, k, line, length, crossing, (upper, low_weight), place, ends[end])
            # Only this line depends on the stage before: the slow operations are outside that chain.
            change = by_new * new + (share * (f[place + at] + around) - old)
            new = old + omegas[stage] * change
            kept[end, stage] = new
            if stage == watch or stage == watch + 1:
                kept[end, count + stage - watch] = own_whole * (remaining if stage == watch else one) * change
            place, upper = upper, upper - size if upper >= size else beyond
    share = one / whole
    weights = share, share * scale, share * low_weight, share * high_weight, share * back_weight, share * front_weight
    # Short rows are prefetched one row ahead, where points of the other parity are relaxed.
    ahead_row = (3 - 2 * q) * length if count * length * u.itemsize <= NEAR else 0
    # The other neighbor along the row is one to the left or to the right in the half of the other parity.
    at = own, line + (1 - q) * length, crossing[0] + q * length, crossing[2] + q * length, 2 * q - 1, ahead_row
    slab, around_ring = (here, above, below), (size, beyond)
    watched = watch, changes, remaining * whole, whole
    if rows > 1:
        _relax_in_3d(u, f, (n + 1) // 2, at, omegas, slab, around_ring, weights, watched, ahead)
    else:
        _relax_in_2d(u, f, (n + 1) // 2, at, omegas, slab, around_ring, weights, watched, ahead)
    for end in range(2):
        k = end * (n - 1)
        if k % 2 == q and own_ends[end]:
            place = here
            for stage in range(count):
                u[place + own + k // 2] = kept[end, stage]
                place = above if stage == 0 else (place - size if place >= size else beyond)
            changes[0, MARGIN + k // 2], changes[1, MARGIN + k // 2] = kept[end, count], kept[end, count + 1]
    if not own_ends[1]:  # the last point reads the value beyond it
        place = here
        for stage in range(count):
            u[place + own + (n + 1 - q) // 2] = 0
            place = above if stage == 0 else (place - size if place >= size else beyond)
    total = 0.0
    for stage in range(max(watch + counted[0], 0), min(watch + counted[1], count)):
        total += sum_of_row(changes[stage - watch, MARGIN : MARGIN + (n + 1 - q) // 2])
    return total


@inlined
def _residual_vectors(out, u, f, half, length, at, weights, crossed):
    """Write f - A u on a row's inner points, and anything at its ends, into `out`, (2, length); see `residual_row`."""
    by_itself, by_side, by_low, by_high, by_back, by_front = weights
    here, above, below, behind, before, data = at
    lanes = lanes_of(u)
    for q in range(2):
        own, other, row = q * length, (1 - q) * length, out[q]
        for m in range(0, half, lanes):
            sides = load(u, here + other + m) + load(u, here + other + m + 2 * q - 1)
            total = load(f, data + own + m) - by_itself * load(u, here + own + m) + by_side * sides
            total = total + by_low * load(u, above + own + m) + by_high * load(u, below + own + m)
            if crossed:
                total = total + by_back * load(u, behind + own + m) + by_front * load(u, before + own + m)
            store(row, MARGIN + m, total)


@inlined
def residual_row(out, sweep, located, f_place, row):
    """Write f - A u on a row of a slab into `out`, (2, length); f of that slab is at `f_place` of its ring."""
    u, f, _, rows, length = sweep.ring
    stencil, ends, n, j = sweep.stencil, sweep.ends, sweep.n, row - sweep.base
    here, above, below, low_weight, high_weight, outer = located
    back, back_weight, front, front_weight, middle = row_neighbors(row, sweep)
    line = j * 2 * length + MARGIN
    crossing = back * 2 * length + MARGIN, back_weight, front * 2 * length + MARGIN, front_weight
    diagonal, scale = outer + middle + stencil.coefficients[3, 0], stencil.coefficients[2, 0]
    weights = (
        spread(diagonal + scale + scale), spread(scale), spread(low_weight), spread(high_weight),
        spread(back_weight), spread(front_weight),
    )  # fmt: skip
    data = f_place * rows * 2 * length + line
    at = here + line, above + line, below + line, here + crossing[0], here + crossing[2], data
    if rows > 1:
        _residual_vectors(out, u, f, (n + 1) // 2, length, at, weights, True)
    else:
        _residual_vectors(out, u, f, (n + 1) // 2, length, at, weights, False)
    for end in range(2):
        k = end * (n - 1)
        m = k % 2 * length + k // 2
        around = _around_end(u, k, line, length, crossing, (above, low_weight), here, ends[end])
        around += high_weight * u[below + line + m]
        out[k % 2, MARGIN + k // 2] = f[data + m] - (diagonal + ends[end].diagonal) * u[here + line + m] + around
    _surround_by_zeros(out, n)


@compiled(**LOOPS, _nrt=False)
def sum_of_row(row):
    """Return the sum of squares in double precision."""
    total = 0.0
    for m in range(row.shape[0]):
        value = np.float64(row[m])
        total += value * value
    return total


@inlined
def restrict_slab(out, slab, begin, rows_between, residuals, n, periodic, rings, restriction, base):
    """Write rows of coarse slab `slab` of R r into `out`, (rows, points), from fine slabs begin, begin + 1, .. of rows of n.

    `residuals` is a ring of fine slabs, (places, rows, 2, length), that begins with row `base` of a slab; the coarse rows
    written are those of `rows_between`, (first, end).
    """
    scratch, lines, across, bands = rings.scratch, rings.lines, restriction.across, restriction.bands
    lanes, factors, target, values = lanes_of(scratch), scratch[3], scratch[2], residuals.reshape(-1)
    places, rows, length = residuals.shape[0], residuals.shape[1], residuals.shape[3]
    weights = restriction.weights[slab]
    held = lines[TERMS : TERMS + weights.shape[0]]
    held[0] = begin % places
    for a in range(1, held.shape[0]):
        held[a] = wrapped(held[a - 1] + 1, places)
    for j in range(rows_between[0], rows_between[1]):
        count = _terms_of(lines, factors, held, weights, across.indices[j], across.weights[j], rows * 2 * length, 2 * length)
        for q in range(2):
            buffer = scratch[q]
            for first in range(MARGIN, MARGIN + (n + 1) // 2, lanes):
                start = (q - 2 * base) * length + first
                total = spread(factors[0]) * load(values, lines[0] + start)
                for t in range(1, count):
                    total = total + spread(factors[t]) * load(values, lines[t] + start)
                store(buffer, first, total)
            if periodic:
                _wrap(buffer, n // 2)
        row, even, odd, coarse_n = out[j], scratch[0], scratch[1], out.shape[1]
        for first in range(0, coarse_n, lanes):
            start = min(first, max(coarse_n - lanes, 0))
            total = _band(bands.even, even, start, bands.even_shift, bands.even_terms, bands.length)
            total = total + _band(bands.odd, odd, start, bands.odd_shift, bands.odd_terms, bands.length)
            store(row if coarse_n >= lanes else target, start, total)
        for m in range(coarse_n if coarse_n < lanes else 0):
            row[m] = target[m]
