"""What the waves of `waves` do to a row: split it by parity, relax, take the residual, restrict, interpolate.

Every row is split into its even and its odd points: all points of one color in a row are one of the halves, so that relaxation
reads and writes without gaps. Rows stand in a ring, (places, rows, 2, length), places being slabs under way: a half begins
behind `MARGIN` zeros, and zeros follow it, so that vectors may run over its end.

The functions of other files are compiled in, and numba's cache sees changes in this file alone: so it names theirs.
"""

import numba
import numpy as np

from .cpu import _along, _options
from .vectors import BYTES, evens, lanes_of, load, odds, prefetch, spread, store, zip_high, zip_low

COMPILED_IN = {"cpu": "f3fa85ae6164", "vectors": "be7f5729359f"}
# Sums keep the order in which they are written, wherever the compiler puts them: a grid in parts gives the same numbers. And
# nothing here makes an array, so views need not be counted (_nrt): on short rows that took half of the time.
_ordered = {**_options, "fastmath": {"contract", "nsz"}, "_nrt": False}
kernel = numba.njit(**_ordered)
counting = numba.njit(**{**_ordered, "_nrt": True})  # for what returns a view: nothing that is done for every row
inlined = numba.njit(**_ordered, forceinline=True)  # saves handing over a dozen numbers; a constant argument is one inside
MARGIN = 16  # numbers before the first and after the last vector of a row: whole cache lines, in either precision
LINE = 64  # bytes of a cache line
TERMS = 64  # room for the rows that a row of a transfer combines
CLOSED, WRAPPED, EXTENDED = 0, 1, 2  # what lies beyond the ends of a row of e


@inlined
def split(row, halves):
    """Copy a row into its even and its odd points, and zeros behind them."""
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
    _end_with_zeros(halves, n)


@inlined
def _end_with_zeros(halves, n):
    """Write zeros behind the even and the odd points of a row of n."""
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
    """Return the sum over t of weights[t, m] buffer[m + shift + t], as a vector of m = first, first + 1, .."""
    start = MARGIN + first + shift
    total = load(weights, first) * load(buffer, start)
    for t in range(1, terms):
        total = total + load(weights, t * length + first) * load(buffer, start + t)
    return total


@inlined
def _terms_of(lines, factors, along, along_weights, across, across_weights, size, length):
    """List the rows of a tensor product that have a weight: where each begins, and its weight; return how many."""
    count = 0
    for a in range(along.shape[0]):
        for b in range(across.shape[0]):
            weight = along_weights[a] * across_weights[b]
            if weight != 0:
                lines[count], factors[count] = along[a] * size + across[b] * length, weight
                count += 1
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
def gather(coarse, shape, slab, j, ends, room, along, across):
    """Combine e's rows for row j of slab `slab` of P e.

    `coarse` is e as one row, of the shape (rows, n); beyond its ends are zeros, or what `ends` says.
    """
    buffer, factors, lines = room[0][0], room[0][3], room[1]
    rows, n = shape
    count = _terms_of(lines, factors, along[0][slab], along[1][slab], across[0][j], across[1][j], rows * n, n)
    _combine(buffer, coarse, n, lines, factors, count)
    if ends == WRAPPED:
        _wrap(buffer, n)
    elif ends == EXTENDED:
        _extrapolate(buffer, n)
    else:
        buffer[MARGIN - 4 : MARGIN], buffer[MARGIN + n : MARGIN + n + 4] = 0, 0


@inlined
def add_correction(halves, n, buffer, bands, even_weights, odd_weights):
    """Add what `gather` has made, spread over even and odd points."""
    even, odd = halves[0], halves[1]
    even_shift, even_terms, odd_shift, odd_terms, length = bands[0], bands[1], bands[2], bands[3], bands[4]
    for first in range(0, (n + 1) // 2, lanes_of(buffer)):
        place = MARGIN + first
        store(even, place, load(even, place) + _band(even_weights, buffer, first, even_shift, even_terms, length))
        store(odd, place, load(odd, place) + _band(odd_weights, buffer, first, odd_shift, odd_terms, length))


@inlined
def beside(r, slab, slabs, axis, periodic, neighbors, coefficients):
    """Return both neighbors of slab r of the ring with their weights, and the axis' part of the diagonal."""
    low, low_weight, high, high_weight, diagonal = _along(slab, axis, slabs, neighbors, coefficients)
    if periodic or slab > 0:
        low = r - 1
    if periodic or slab < slabs - 1:
        high = r + 1
    return low, low_weight, high, high_weight, diagonal


@inlined
def _around_end(ring, k, line, length, across, upper, here, ends):
    """Return the weighted sum of an end's neighbors but the one below.

    `here` and `upper` say where their slabs begin in the ring, `line` is the row's place in a slab; `ends` is what `_along`
    says of the row's end.
    """
    left, left_weight, right, right_weight, _ = ends
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
    """Say whether an end is a point like any other, with zero beyond it: a Dirichlet side's, on vertices."""
    return beyond_weight == 0 and inner_weight == scale and own == scale + scale


@inlined
def _relax_vectors(u, f, half, at, omegas, slab, size, weights, crossed, watched, ahead):
    """Relax a row's half in as many slabs as there are omegas, each before the last, with vectors; see `relax_row`."""
    by_data, by_side, by_low, by_high, by_back, by_front = weights
    own, sides, behind, before, shift = at
    here, above, below = slab
    lanes = lanes_of(u)
    watch, left, before_last, factor, next_factor = watched
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
            total = total + by_high * below_it
            below_it = center + spread(omegas[stage]) * total
            store(u, place + own, below_it)
            if stage == watch:
                store(left, MARGIN + first, factor * total)
            elif stage == watch + 1:
                store(before_last, MARGIN + first, next_factor * total)
            center, place = above_it, upper
            upper = upper - size[0] if upper >= size[0] else upper + size[1]


@inlined
def relax_row(ring, r, j, n, q, watch, beside, across, ends, omegas, coefficients, rooms, ahead):
    """Relax the points of parity q in row j of slab r of the ring, then of slab r - 1, and so on: a stage for each of `omegas`.

    `beside` and `across` are what `beside` says of the slabs and `_along` of the rows of a slab, `ends` what that says of the
    ends of a row; `ahead` is (row of u, row of f) to be fetched meanwhile.

    Between stage `watch` and the next stands the residual whose norm is wanted, and both tell it by what D^-1 times it would
    change, of which they take omega: the first leaves 1 - omega of it on its points, the next finds all of it on its own.
    Returned is the sum of squares that the two have seen, as far as they are among these stages.
    """
    u, f, places, rows, length, _ = ring
    low, low_weight, high, high_weight, outer = beside
    back, back_weight, front, front_weight, middle = across
    size, line = rows * 2 * length, j * 2 * length + MARGIN
    here, above, below = r % places * size, low % places * size, high % places * size
    beyond, own = (places - 1) * size, line + q * length
    count, kept, changes = omegas.shape[0], rooms[4:6], rooms[6:8]
    one = omegas.dtype.type(1)
    remaining = one - omegas[watch] if 0 <= watch < count else one
    diagonal, scale = outer + middle + coefficients[3, 0], coefficients[2, 0]
    crossing = back * 2 * length + MARGIN, back_weight, front * 2 * length + MARGIN, front_weight
    whole = diagonal + scale + scale
    (_, low_beyond, _, low_inner, low_own), (_, high_inner, _, high_beyond, high_own) = ends
    own_ends = (
        not _is_plain(low_beyond, low_inner, low_own, scale), not _is_plain(high_beyond, high_inner, high_own, scale)
    )  # fmt: skip
    # Such ends have weights of their own. They are reckoned first and put in place when the vectors have run over them.
    for end in range(2):
        k = end * (n - 1)
        if k % 2 != q or not own_ends[end]:
            continue
        place, upper, at = here, above, own + k // 2
        new, own_whole = u[below + at], diagonal + ends[end][4]
        share = one / own_whole
        by_new = share * high_weight
        for stage in range(count):
            old = u[place + at]
            around = _around_end(u, k, line, length, crossing, (upper, low_weight), place, ends[end])
            # A stage waits for the one before only here, at the end: what takes longest is not in that chain.
            change = by_new * new + (share * (f[place + at] + around) - old)
            new = old + omegas[stage] * change
            kept[end, stage] = new
            if stage == watch or stage == watch + 1:
                kept[end, count + stage - watch] = own_whole * (remaining if stage == watch else one) * change
            place, upper = upper, upper - size if upper >= size else beyond
    share = one / whole
    weights = (
        spread(share), spread(share * scale), spread(share * low_weight), spread(share * high_weight),
        spread(share * back_weight), spread(share * front_weight),
    )  # fmt: skip
    # The other neighbor along the row is one to the left or to the right in the half of the other parity.
    at = own, line + (1 - q) * length, crossing[0] + q * length, crossing[2] + q * length, 2 * q - 1
    slab, around_ring = (here, above, below), (size, beyond)
    watched = watch, changes[0], changes[1], spread(remaining * whole), spread(whole)
    if rows > 1:
        _relax_vectors(u, f, (n + 1) // 2, at, omegas, slab, around_ring, weights, True, watched, ahead)
    else:
        _relax_vectors(u, f, (n + 1) // 2, at, omegas, slab, around_ring, weights, False, watched, ahead)
    for end in range(2):
        k = end * (n - 1)
        if k % 2 == q and own_ends[end]:
            place = here
            for stage in range(count):
                u[place + own + k // 2] = kept[end, stage]
                place = above if stage == 0 else (place - size if place >= size else beyond)
            changes[0, MARGIN + k // 2], changes[1, MARGIN + k // 2] = kept[end, count], kept[end, count + 1]
    if not own_ends[1]:  # the last point sees what lies beyond it
        place = here
        for stage in range(count):
            u[place + own + (n + 1 - q) // 2] = 0
            place = above if stage == 0 else (place - size if place >= size else beyond)
    total = 0.0
    for stage in range(max(watch, 0), min(watch + 2, count)):
        total += sum_of_row(changes[stage - watch, MARGIN : MARGIN + (n + 1 - q) // 2])
    return total


@inlined
def _residual_vectors(out, u, f, half, length, at, weights, crossed):
    """Write f - A u on a row's inner points, and anything at its ends, into `out`, (2, length); see `residual_row`."""
    by_itself, by_side, by_low, by_high, by_back, by_front = weights
    here, above, below, behind, before, data = at
    lanes = lanes_of(u)
    even, odd = out[0], out[1]
    for first in range(0, half, lanes):
        own, other = first, first + length
        sides = load(u, here + other - 1) + load(u, here + other)
        total = load(f, data + own) - by_itself * load(u, here + own) + by_side * sides
        total = total + by_low * load(u, above + own) + by_high * load(u, below + own)
        if crossed:
            total = total + by_back * load(u, behind + own) + by_front * load(u, before + own)
        store(even, MARGIN + first, total)
        sides = load(u, here + own) + load(u, here + own + 1)
        total = load(f, data + other) - by_itself * load(u, here + other) + by_side * sides
        total = total + by_low * load(u, above + other) + by_high * load(u, below + other)
        if crossed:
            total = total + by_back * load(u, behind + other) + by_front * load(u, before + other)
        store(odd, MARGIN + first, total)


@inlined
def residual_row(out, ring, r, j, n, beside, across, ends, coefficients):
    """Write f - A u on row j of slab r of the ring into `out`, (2, length)."""
    u, f, places, rows, length, f_places = ring
    low, low_weight, high, high_weight, outer = beside
    back, back_weight, front, front_weight, middle = across
    size, line = rows * 2 * length, j * 2 * length + MARGIN
    here, above, below = r % places * size, low % places * size, high % places * size
    crossing = back * 2 * length + MARGIN, back_weight, front * 2 * length + MARGIN, front_weight
    diagonal, scale = outer + middle + coefficients[3, 0], coefficients[2, 0]
    weights = (
        spread(diagonal + scale + scale), spread(scale), spread(low_weight), spread(high_weight), spread(back_weight),
        spread(front_weight),
    )  # fmt: skip
    data = r % f_places * size + line
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
        out[k % 2, MARGIN + k // 2] = f[data + m] - (diagonal + ends[end][4]) * u[here + line + m] + around
    _end_with_zeros(out, n)


@numba.njit(**_options, _nrt=False)
def multiply(out, matrix, vector):
    """Write matrix times vector, in the precision of the matrix."""
    for i in range(out.shape[0]):
        total = 0.0
        for k in range(vector.shape[0]):
            total += matrix[i, k] * vector[k]
        out[i] = total


@numba.njit(**_options, _nrt=False)
def sum_of_row(row):
    """Return the sum of squares in double precision."""
    total = 0.0
    for m in range(row.shape[0]):
        value = np.float64(row[m])
        total += value * value
    return total


@kernel
def restrict_slab(
    out, coarse_rows, values, ring, n, begin, around, room, slab_weights, across, bands, even_weights, odd_weights
):
    """Write one slab of R r, (rows, points), from the slabs begin, begin + 1, .. of rows of n that a ring holds.

    `values` is the ring as one row, `ring` its (places, rows, length); `coarse_rows` is (first row to be written, end of them,
    row of the fine grid that the ring's rows begin with).
    """
    lanes, scratch, lines = lanes_of(values), room[0], room[1]
    factors, target = scratch[3], scratch[2]
    places, rows, length = ring
    held = lines[TERMS : TERMS + slab_weights.shape[0]]
    for a in range(held.shape[0]):
        held[a] = (begin + a) % places
    even_shift, even_terms, odd_shift, odd_terms, padded = bands[0], bands[1], bands[2], bands[3], bands[4]
    for j in range(coarse_rows[0], coarse_rows[1]):
        count = _terms_of(lines, factors, held, slab_weights, across[0][j], across[1][j], rows * 2 * length, 2 * length)
        for q in range(2):
            buffer = scratch[q]
            for first in range(MARGIN, MARGIN + (n + 1) // 2, lanes):
                start = (q - 2 * coarse_rows[2]) * length + first
                total = spread(factors[0]) * load(values, lines[0] + start)
                for t in range(1, count):
                    total = total + spread(factors[t]) * load(values, lines[t] + start)
                store(buffer, first, total)
            if around:
                _wrap(buffer, n // 2)
        row, even, odd, coarse_n = out[j], scratch[0], scratch[1], out.shape[1]
        for first in range(0, coarse_n, lanes):
            start = min(first, max(coarse_n - lanes, 0))
            total = _band(even_weights, even, start, even_shift, even_terms, padded)
            total = total + _band(odd_weights, odd, start, odd_shift, odd_terms, padded)
            store(row if coarse_n >= lanes else target, start, total)
        for m in range(coarse_n if coarse_n < lanes else 0):
            row[m] = target[m]
