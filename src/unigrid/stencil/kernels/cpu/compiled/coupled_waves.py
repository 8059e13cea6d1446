"""A wave of relaxation over a grid whose couplings differ from point to point, slab by slab: rows in 2-D, planes in 3-D.

Slabs on their way are held in rings, every row split into its even and its odd points; stage k is k slabs behind the slab that
is loaded, so that a slab passes through memory once for all stages, the residual, and its restriction. A stencil with two
colors relaxes one of them per stage, other stencils every other slab, all colors of that slab. All sums run over lists of
places, one per neighbor, so one loop serves every stencil and every transfer.

Sums are of differences, a (u - u_o), as in `couplings`: a constant times rounded couplings is zero. So coefficients may be in
single precision where u is in double precision.
"""

from .compiling import LOOPS, compiled, inlined, kernel
from .rows import MARGIN, merge, split
from .vectors import BYTES as BYTES
from .vectors import lanes_of, load, load_for, spread, store

loops = compiled(**{**LOOPS, "_nrt": False})


@loops
def pack_stencil(packed, length, stencil, periodic, scratch, first, last):
    """Write the coefficients of rows `first` to `last`, of all rows of the grid, as of a `PackedStencil`."""
    n1 = stencil.excess.shape[1]
    halves = stencil.couplings.shape[0]
    for line in range(first, last):
        i, j = line // n1, line % n1
        place = line * (halves + 2) * 2 * length
        _pack_row(packed, place, length, stencil.excess[i, j], scratch, False)
        _pack_row(packed, place + 2 * length, length, stencil.inverse[i, j], scratch, False)
        for half in range(halves):
            at = place + (4 + 2 * half) * length
            _pack_row(packed, at, length, stencil.couplings[half, i, j], scratch, periodic)


@inlined
def _pack_row(packed, place, length, row, scratch, periodic):
    """Split a row, in the precision of `packed`; a periodic one, of even length, continues beyond its ends."""
    n = row.shape[0]
    for k in range(n):
        scratch[k] = row[k]
    halves = packed[place : place + 2 * length].reshape((2, length))
    halves[0, :MARGIN] = 0
    halves[1, :MARGIN] = 0
    split(scratch, halves)
    if periodic:
        packed[place + MARGIN + n // 2], packed[place + length + MARGIN - 1] = row[0], row[n - 1]


@loops
def pack_weights(packed, length, weights, periodic, first, last):
    """Write the weights of P of coarse rows `first` to `last`, of all coarse rows, as of a `PackedTransfer`."""
    terms, _, m1, m2 = weights.shape
    for line in range(first, last):
        i, j = line // m1, line % m1
        for number in range(terms):
            place, row = (line * terms + number) * length, weights[number, i, j]
            target = packed[place + MARGIN : place + length]
            packed[place : place + MARGIN] = 0
            for k in range(m2):
                target[k] = row[k]
            target[m2:] = 0
            if periodic:
                packed[place + MARGIN - 1], packed[place + MARGIN + m2] = row[m2 - 1], row[0]


@inlined
def _list(lines, slabs, rows, terms, own):
    """List the places of a row's neighbors and of their couplings; return how many.

    `slabs` and `rows` have where the slab before, this slab and the next one begin, (2, 3): in the ring, and in the
    coefficients; `own` is the place in both within a row.
    """
    for t in range(terms.shape[0]):
        lines[0, t] = slabs[0, 1 + terms[t, 0]] + rows[0, 1 + terms[t, 1]] + terms[t, 2] + own[0]
        lines[1, t] = slabs[1, 1 + terms[t, 3]] + rows[1, 1 + terms[t, 4]] + terms[t, 5] + own[1]
    return terms.shape[0]


@inlined
def _defect(ring, f, coefficients, lines, count, place, excess, m):
    """Return f - A u at the points m, m + 1, .. of half a row, as a vector, and u there."""
    own = load(ring, place + m)
    total = load(f, place + m) - load_for(coefficients, excess + m, ring) * own
    for t in range(count):
        total = total - load_for(coefficients, lines[1, t] + m, ring) * (own - load(ring, lines[0, t] + m))
    return total, own


@inlined
def _product(rows, weights, lines, count, m):
    """Return the sum of rows times weights, listed by their places."""
    total = load_for(weights, lines[1, 0] + m, rows) * load(rows, lines[0, 0] + m)
    for t in range(1, count):
        total = total + load_for(weights, lines[1, t] + m, rows) * load(rows, lines[0, t] + m)
    return total


@inlined
def _close(ring, place, size, periodic):
    """Fill the places before and behind half a row: with zeros, or where the row is periodic, its other end."""
    ring[place - 1] = ring[place + size - 1] if periodic else 0 * ring[place]
    ring[place + size] = ring[place] if periodic else 0 * ring[place]


@inlined
def _row_size(level):
    """Return the length of a row of coefficients: the excess, one over the diagonal, a coupling for every two neighbors."""
    return (2 + level.terms.shape[1] // 2) * 2 * level.length


@inlined
def _locate_slab(bases, r, portion, shape, ring, level):
    """Write where slab r and its neighbors begin: in the ring, and in the coefficients."""
    size = shape[1] * _row_size(level)
    for d in range(3):
        there = r + d - 1
        # A slab that is not in the ring has no coupling to this one, or what it enters is not used.
        known = there if portion.first <= there < portion.last else r
        bases[0, d] = known % ring.shape[0] * (ring.shape[1] * 2 * ring.shape[3]) + MARGIN
        bases[1, d] = there % shape[0] * size + MARGIN


@inlined
def _locate_row(bases, j, shape, ring, level):
    size = _row_size(level)
    for d in range(3):
        there = (j + d - 1) % shape[1]
        bases[2, d] = there * 2 * ring.shape[3]
        bases[3, d] = there * size


@inlined
def _relax_half(ring, f, level, lines, count, place, own, size, omega):
    """Relax the even or the odd points of a row, `size` of them, which begin at `place`; their coefficients at `own`."""
    coefficients, factor = level.coefficients, spread(omega)
    for m in range(0, size, lanes_of(ring)):
        defect, center = _defect(ring, f, coefficients, lines, count, place, own, m)
        inverse = load_for(coefficients, own + 2 * level.length + m, ring)
        store(ring, place + m, center + factor * inverse * defect)


@inlined
def _relax_slab(rings, bases, level, shape, r, stage, omega, fresh):
    """Do stage `stage` = 0, 1, .. in slab r, located already; where u is zero everywhere, `fresh`, without its neighbors."""
    ring, f, lines, n = rings.u.reshape(-1), rings.f.reshape(-1), rings.lines, shape[2]
    if not level.two_colors and (r + stage) % 2 == 1:
        return
    for parity in range(1 if level.two_colors else 2):
        for j in range(parity, shape[1], 1 if level.two_colors else 2):
            _locate_row(bases, j, shape, rings.u, level)
            start = (stage + r + j) % 2 if level.two_colors else 0
            for q in range(start, start + 1 if level.two_colors else 2):
                size = (n + 1 - q) // 2
                place = bases[0, 1] + bases[2, 1] + q * rings.u.shape[3]
                own = bases[1, 1] + bases[3, 1] + q * level.length
                count = 0 if fresh else _list(lines, bases[:2], bases[2:], level.terms[q], (0, 0))
                _relax_half(ring, f, level, lines, count, place, own, size, omega)
                if level.periodic[2] and size > 0:
                    _close(ring, place, size, True)


@inlined
def _residual_slab(rings, bases, level, shape, r):
    """Write the residual of slab r into its ring."""
    ring, f, out, lines, n = rings.u.reshape(-1), rings.f.reshape(-1), rings.residuals.reshape(-1), rings.lines, shape[2]
    length = rings.u.shape[3]
    start = r % rings.residuals.shape[0] * (rings.u.shape[1] * 2 * length) + MARGIN
    for j in range(shape[1]):
        _locate_row(bases, j, shape, rings.u, level)
        for q in range(2):
            size = (n + 1 - q) // 2
            place, target = bases[0, 1] + bases[2, 1] + q * length, start + bases[2, 1] + q * length
            own = bases[1, 1] + bases[3, 1] + q * level.length
            count = _list(lines, bases[:2], bases[2:], level.terms[q], (0, 0))
            for m in range(0, size, lanes_of(ring)):
                store(out, target + m, _defect(ring, f, level.coefficients, lines, count, place, own, m)[0])
            _close(out, target, size, level.periodic[2] and size > 0)


@inlined
def _restrict_slab(coarse, rings, bases, level, transfer, shape, portion, number):
    """Restrict to coarse slab `number` of a virtual grid without ends."""
    center = transfer.starts[0] + 2 * number if transfer.coarsened[0] else number
    slab, lines, terms = number % coarse.shape[0], rings.lines, transfer.down
    source, size, length = rings.residuals.reshape(-1), coarse.shape[2], rings.u.shape[3]
    places, across = rings.residuals.shape[0], rings.u.shape[1] * 2 * length
    lanes, spare = lanes_of(source), rings.scratch[0]
    for d in range(3):
        there = center + d - 1
        known = there if portion.first <= there < portion.last else center
        bases[0, d] = known % places * across + MARGIN
    for j in range(coarse.shape[1]):
        middle, row = transfer.starts[1] + 2 * j if transfer.coarsened[1] else j, coarse[slab, j]
        for t in range(terms.shape[0]):
            there = (middle + terms[t, 1]) % shape[1]
            lines[0, t] = bases[0, 1 + terms[t, 0]] + there * 2 * length + terms[t, 2]
            lines[1, t] = ((slab * coarse.shape[1] + j) * terms.shape[0] + t) * transfer.length + MARGIN
        for m in range(0, size if size >= lanes else 0, lanes):
            begin = min(m, size - lanes)  # the last vectors overlap the ones before
            store(row, begin, _product(source, transfer.weights, lines, terms.shape[0], begin))
        if size < lanes:
            store(spare, 0, _product(source, transfer.weights, lines, terms.shape[0], 0))
            for k in range(size):
                row[k] = spare[k]


@inlined
def _parents(place, start, coarsened, count, periodic):
    """Return the coarse index on the left of a fine slab or row and its distance, and those on the right; -1 for none."""
    if not coarsened:
        return place, 0, -1, 0
    if (place - start) % 2 == 0:
        return (place - start) // 2 % count, 0, -1, 0
    left, right = (place - 1 - start) // 2, (place + 1 - start) // 2
    if periodic:
        return left % count, 1, right % count, -1
    return left, 1, right if right < count else -1, -1


@inlined
def _add_correction(rings, target, e, level, transfer, slab, j):
    """Add row j of slab `slab` of P e to a row of u that begins at `target` of its ring."""
    ring, scratch, lines, up = rings.u.reshape(-1), rings.scratch.reshape(-1), rings.lines, transfer.up
    across, size, length, terms = rings.scratch.shape[1], e.shape[2], rings.u.shape[3], transfer.down.shape[0]
    a0, a0_step, a1, a1_step = _parents(slab, transfer.starts[0], transfer.coarsened[0], e.shape[0], level.periodic[0])
    b0, b0_step, b1, b1_step = _parents(j, transfer.starts[1], transfer.coarsened[1], e.shape[1], level.periodic[1])
    for q in range(2):
        count = 0
        for number in range(4):
            a, a_step = (a0, a0_step) if number < 2 else (a1, a1_step)
            b, b_step = (b0, b0_step) if number % 2 == 0 else (b1, b1_step)
            if a < 0 or b < 0:
                continue
            if q == 0:
                row, begin = e[a, b], number * across + MARGIN
                for k in range(size):
                    scratch[begin + k] = row[k]
                scratch[begin + size : (number + 1) * across] = 0
                _close(scratch, begin, size, level.periodic[2])
            for t in range(up.shape[1]):
                if up[q, t, 3] and up[q, t, 0] == a_step and up[q, t, 1] == b_step:
                    lines[0, count] = number * across + MARGIN + up[q, t, 2]
                    lines[1, count] = ((a * e.shape[1] + b) * terms + t) * transfer.length + MARGIN + up[q, t, 2]
                    count += 1
        place = target + q * length
        if count > 0:
            for m in range(0, (level.length - MARGIN), lanes_of(ring)):
                store(ring, place + m, load(ring, place + m) + _product(scratch, transfer.weights, lines, count, m))


@inlined
def _load_slab(rings, f, u, e, level, transfer, r):
    """Load a slab of f, and of u: zero where that is empty, else u, or u + P e."""
    slabs, n = f.shape[0], f.shape[2]
    slab, place, length = r % slabs, r % rings.u.shape[0], rings.u.shape[3]
    for j in range(f.shape[1]):
        split(f[slab, j], rings.f[place, j])
        own = rings.u[place, j]
        if u.shape[0] == 0:
            own[:] = 0
        else:
            split(u[slab, j], own)
        target = (place * f.shape[1] + j) * 2 * length + MARGIN
        if e.shape[0] > 0:
            _add_correction(rings, target, e, level, transfer, slab, j)
        if level.periodic[2] and n > 1:
            ring = rings.u.reshape(-1)
            _close(ring, target, n // 2, True)
            _close(ring, target + length, n // 2, True)


@kernel
def wave(out, coarse, f, u, e, level, transfer, stages, omega, rings, portion):
    """Relax by `stages` stages, from zero where u is empty, else from u, or from u + P e where e is not empty: into `out`.

    Where `coarse` is not empty, write the restricted residual there. All arrays are (slabs, rows, n).
    """
    shape = f.shape
    bases, restricts = rings.lines[2:6], coarse.shape[0] > 0
    number, low, high = portion.coarse_low, portion.first, portion.last
    reach = 1 if transfer.coarsened[0] else 0
    for front in range(low, high + stages + 1):
        if front < high:
            _load_slab(rings, f, u, e, level, transfer, front)
        for stage in range(stages):
            r = front - 1 - stage
            if low <= r < high:
                _locate_slab(bases, r, portion, shape, rings.u, level)
                _relax_slab(rings, bases, level, shape, r, stage, omega, stage == 0 and level.two_colors and u.shape[0] == 0)
        r = front - 1 - stages
        if restricts and low <= r < high:
            _locate_slab(bases, r, portion, shape, rings.u, level)
            _residual_slab(rings, bases, level, shape, r)
            while number < portion.coarse_high and (
                (transfer.starts[0] + 2 * number if transfer.coarsened[0] else number) + reach <= r or r == high - 1
            ):
                _restrict_slab(coarse, rings, bases, level, transfer, shape, portion, number)
                number += 1
        if portion.low <= r < portion.high:
            for j in range(shape[1]):
                merge(out[r % shape[0], j], rings.u[r % rings.u.shape[0], j])
