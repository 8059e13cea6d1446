"""The compiled half of `fused` and `visits`: a wave of stages over a grid, slab by slab (rows in 2-D, planes in 3-D).

Slabs on their way through the wave stand in rings. A stage is one slab behind the one before, so at any time all stages relax
points of one parity, and a row's stages follow each other in one loop (`rows.relax_row`): what one stage has made of a point
is, still in a register, the lower neighbor that the next stage wants. Meanwhile the next slab is fetched.

The functions of other files are compiled in, and numba's cache sees changes in this file alone: so it names theirs.
"""

from .cpu import _along
from .rows import (
    CLOSED,
    EXTENDED,
    WRAPPED,
    add_correction,
    beside,
    counting,
    gather,
    inlined,
    kernel,
    merge,
    multiply,
    relax_row,
    residual_row,
    restrict_slab,
    split,
    sum_of_row,
)

COMPILED_IN = {"cpu": "f3fa85ae6164", "rows": "d83c7a33b8ea"}
AS_IT_IS, ZERO, COPY, CORRECTED, INTERPOLATED = 0, 1, 2, 3, 4  # how a slab of u begins
NO_NORM, BY_STAGE, BY_CHANGES = 0, 1, 2  # how the norm of a residual is found: by reckoning it, or by what relaxation changes
LONGEST = 1 << 20  # more stages than any wave has


@kernel
def restrict_source(coarse, f, restriction, starts, rings, around, first, last):
    """Write slabs first to last of R f, from (slabs, rows, n) to (slabs, rows, n)."""
    ring, room = rings[2], rings[3:]
    values, shape = ring.reshape(-1), (ring.shape[0], ring.shape[1], ring.shape[3])
    slabs, n = f.shape[0], f.shape[2]
    done = starts[first]
    for slab in range(first, last):
        end = starts[slab] + restriction[0].shape[1]
        for fine in range(done, end):
            for j in range(f.shape[1]):
                split(f[fine % slabs, j], ring[fine % ring.shape[0], j])
        done = max(done, end)
        coarse_rows = 0, coarse.shape[1], 0
        restrict_slab(coarse[slab], coarse_rows, values, shape, n, starts[slab], around, room, restriction[0][slab],
                      *restriction[1:])  # fmt: skip


@inlined
def begin_slab(halves, u, f_halves, f, source, flat, start, slab, lines, around, room, prolongation):
    """Take up a slab of u, as `start` says, and of f; of the rows `lines`: from, as it is; from, as `start` says; to."""
    n, own_start = u.shape[2], start
    ends = WRAPPED if around else EXTENDED if start == INTERPOLATED else CLOSED
    along, across, bands, even_weights, odd_weights = prolongation
    for j in range(lines[0], lines[2]):
        # What is stored is not read at once: a load that lies across two stores has to wait for both.
        start, own = own_start if j >= lines[1] else AS_IT_IS, halves[j - lines[0]]
        if start in (CORRECTED, INTERPOLATED):
            gather(flat, source.shape[1:], slab, j, ends, room, along, across)
        if start in (ZERO, INTERPOLATED):
            own[:] = 0
        elif start == COPY:
            split(source[slab, j], own)
        else:
            split(u[slab, j], own)
        split(f[slab, j], f_halves[j - lines[0]])
        if start in (CORRECTED, INTERPOLATED):
            add_correction(own, n, room[0][0], bands, even_weights, odd_weights)


@inlined
def _stages_together(k, end, front, part, slabs, periodic):
    """Return how many stages, from stage k on, follow each other on slabs that both have neighbors like any other's."""
    low, high, low_slope, high_slope = part
    count = 1
    while True:
        slab = (front - k) % slabs
        if not periodic and not 0 < slab < slabs - 1:
            return max(count - 1, 1)
        k += 1
        if k >= end or not low + k * low_slope <= front - k < high - k * high_slope:
            return count
        count += 1


@inlined
def _across(j, base, axis, rows, neighbors, coefficients):
    """Return what `_along` says of the rows of a slab, neighbors counted from row `base`."""
    back, back_weight, front, front_weight, diagonal = _along(j, axis, rows, neighbors, coefficients)
    return back - base, back_weight, front - base, front_weight, diagonal


@inlined
def _write_residuals(out, grid, r, first, stop):
    """Write f - A u on rows first to stop of slab r into `out`, (rows, 2, length), the first of which is row `base`."""
    ring, slabs, rows, n, base, axis, periodic, ends, neighbors, coefficients = grid
    sides = beside(r, r % slabs, slabs, axis, periodic, neighbors, coefficients)
    for j in range(first, stop):
        across = _across(j, base, 1 - axis, rows, neighbors, coefficients)
        residual_row(out[j - base], ring, r, j - base, n, sides, across, ends, coefficients)


@inlined
def _relax_stages(grid, front, k, count, shade, backward, watched, strip, omegas, scratch, u, f, next_slab):
    """Do stages k to k + count, one slab behind the other, each with its omega; return the watched ones' sum of squares."""
    ring, slabs, rows, n, base, axis, periodic, ends, neighbors, coefficients = grid
    low, high, low_slope, high_slope = strip[0], strip[1], strip[2], strip[3]
    first, stop = max(low - (k + count - 1) * low_slope, 0), high - k * high_slope
    total = 0.0
    for number in range(stop - first):
        j = stop - 1 - number if backward else first + number
        # At a slope, the first rows begin with a later stage, the last ones end with an earlier one.
        early = max(k, low - j) if low_slope else k
        late = min(k + count, high - j) if high_slope else k + count
        if early < late:
            r = front - early
            sides = beside(r, r % slabs, slabs, axis, periodic, neighbors, coefficients)
            across = _across(j, base, 1 - axis, rows, neighbors, coefficients)
            ahead, q = (u[next_slab, j], f[next_slab, j]), (shade + j) % 2
            total += relax_row(ring, r, j - base, n, q, watched - early, sides, across, ends, omegas[early - k : late - k],
                               coefficients, scratch, ahead)  # fmt: skip
    return total


@inlined
def _restrict_ready(
    coarse, coarse_slab, coarse_end, r, slabs, values, shape, n, coarse_rows, around, room, restriction, starts
):
    """Write the coarse slabs that need no residual beyond slab r; return the next one."""
    width, count = restriction[0].shape[1], starts.shape[0]
    while coarse_slab < coarse_end:
        begin, number = starts[coarse_slab % count] + slabs * (coarse_slab // count), coarse_slab % count
        if begin + width - 1 > r:
            break
        restrict_slab(coarse[number], coarse_rows, values, shape, n, begin, around, room, restriction[0][number],
                      *restriction[1:])  # fmt: skip
        coarse_slab += 1
    return coarse_slab


@kernel
def wave(u, f, source, coarse, omegas, plan, prolongation, restriction, starts, neighbors, coefficients, rings, part, strip):
    """Run the stages of a leg over the grid in one pass; return the sum of squares of f - A u where it is wanted.

    Stage 0 takes a slab of u, as it is, zero, a copy of `source`, with P source added, or P source; `before` half-sweeps
    follow, the norm of the residual where it is wanted (`norm`), `after` half-sweeps, the residual and its restriction where
    `coarse` has slabs; then the slab goes back. A half-sweep, each with an omega of its own, reads of the neighboring slabs
    only the other color, which the stage behind it has not changed yet: so all is as if each stage had been a pass of its own.

    u, f, source and coarse are (slabs, rows, n). `plan` is (start, first color, backward, before, norm, after, axis of the
    slabs, whether it is periodic, whether the rows are); `part` is (low, high, slope at low, slope at high, first coarse slab,
    end of the coarse slabs): stage k does the slabs from low + k slope to high - k slope. Slabs beyond either end are those of
    the other end.

    `strip` cuts the rows of every slab, so that less is under way: (low, high, slope at low, slope at high, first row to be
    loaded, first coarse row, end of the coarse rows). Stage k does the rows from low - k slope to high - k slope: strips are
    done one after the other, and each leaves at its end what needs the next, which begins with that.
    """
    start, color, backward, before, norm, after, axis, periodic, around = plan
    watched, norm = before if norm == BY_CHANGES else -LONGEST, int(norm == BY_STAGE)
    low, high, low_slope, high_slope, coarse_slab, coarse_end = part
    row_low, row_high, row_low_slope, row_high_slope, base, coarse_row, coarse_row_end = strip
    slots, data, residuals, scratch, _ = rings
    room = rings[3:]
    slabs, rows, n = u.shape
    places, height, length = slots.shape[0], slots.shape[1], slots.shape[3]
    held = residuals.shape[0] - 1  # the last place is for the norm
    ring = slots.reshape(-1), data.reshape(-1), places, height, length, places
    ends = _along(0, 2, n, neighbors, coefficients), _along(n - 1, 2, n, neighbors, coefficients)
    grid = ring, slabs, rows, n, base, axis, periodic, ends, neighbors, coefficients
    flat, values = source.reshape(-1), residuals.reshape(-1)
    middle = before + norm
    last = middle + after + 1
    restricts = coarse_slab < coarse_end
    wide = (held + 1 if restricts else 0) if low_slope < 0 else 0  # a seam needs the residuals beside it once more
    first_slab = low + last * low_slope - wide - 1 if low_slope < 0 else low
    last_slab = high - last * high_slope + wide + 1 if high_slope < 0 else high
    total = 0.0
    for front in range(first_slab, last_slab + last + 2):
        if first_slab <= front < last_slab:
            own_start = start if start == AS_IT_IS or low <= front < high else AS_IT_IS
            place, slab, loaded = front % places, front % slabs, (base, row_low, row_high)
            begin_slab(slots[place], u, data[place], f, source, flat, own_start, slab, loaded, around, room, prolongation)
        next_slab = min(front + 1, last_slab - 1) % slabs
        k = 1
        while k < last:
            r = front - k
            count = 1
            if not low + k * low_slope <= r < high - k * high_slope:
                pass
            elif before < k <= middle:
                first, stop = max(row_low - k * row_low_slope, 0), row_high - k * row_high_slope
                _write_residuals(residuals[held], grid, r, first, stop)
                for j in range(first - base, stop - base):
                    total += sum_of_row(residuals[held, j, 0]) + sum_of_row(residuals[held, j, 1])
            else:
                end = before + 1 if norm and k <= before else last
                count = _stages_together(k, end, front, (low, high, low_slope, high_slope), slabs, periodic)
                shade = color + k - 1 - (middle if k > middle else 0) + r % slabs
                first = k - 1 - (norm if k > middle else 0)
                own = omegas[first : first + count]
                total += _relax_stages(grid, front, k, count, shade, backward, watched, strip, own, scratch, u, f, next_slab)
            k += count
        r = front - last
        if restricts and low + last * low_slope - wide <= r < high - last * high_slope + wide:
            first = base + 1 if base > 0 else 0
            _write_residuals(residuals[r % held], grid, r, first, row_high - last * row_high_slope)
            coarse_slab = _restrict_ready(
                coarse, coarse_slab, coarse_end, r, slabs, values, (held, height, length), n,
                (coarse_row, coarse_row_end, base), around, room, restriction, starts,
            )  # fmt: skip
        r = front - last - 1
        if first_slab <= r < last_slab:
            for j in range(base, row_high):
                merge(u[r % slabs, j], slots[r % places, j - base])
    return total


@counting
def _table(pool, place):
    """Return the table that begins at place[0], of the shape that follows there."""
    return pool[place[0] : place[0] + place[1] * place[2]].reshape(place[1], place[2])


@counting
def _row(pool, place):
    return pool[place[0] : place[0] + place[2]]


@counting
def _grid(room, grid, which):
    """Return the level's u (0) or f (1) in the room."""
    start = grid[3 + which]
    return room[start : start + grid[0] * grid[1] * grid[2]].reshape(grid[0], grid[1], grid[2])


@counting
def _ring(room, start, places, grid):
    """Return a ring of so many places in the room."""
    height, length = grid[6], grid[7]
    return room[start : start + places * height * 2 * length].reshape(places, height, 2, length)


@counting
def visit(u, f, places, grids, integers, numbers, room, lines, inverse):
    """Write into u what a V-cycle from zero makes of A u = f on this level, the ones below, and the coarsest, A^-1 = `inverse`.

    `places` is (leg, table, (where it begins, rows, columns)): in order of the legs, down and up again, and in the order of
    `wave`'s arguments, the arrays that it is told of; then its parts, and its strips. `grids` is a row for each level: slabs,
    rows, n, where u and f begin in `room`, then of the rings how many places, rows and numbers a half row, places for
    residuals, numbers of a row of scratch, and where each begins.
    """
    levels = grids.shape[0] - 1
    for step in range(2 * levels):
        level = step if step < levels else 2 * levels - 1 - step
        own, coarser = grids[level], grids[level + 1]
        here_u, here_f = (u, f) if level == 0 else (_grid(room, own, 0), _grid(room, own, 1))
        coarse_u, coarse_f = _grid(room, coarser, 0), _grid(room, coarser, 1)
        if step == levels:
            multiply(coarse_u.reshape(-1), inverse, coarse_f.reshape(-1))
        slots, width = own[5], own[9]
        rings = (
            _ring(room, own[10], slots, own), _ring(room, own[11], slots, own), _ring(room, own[12], own[8], own),
            room[own[13] : own[13] + 8 * width].reshape(8, width), lines,
        )  # fmt: skip
        t = places[step]
        omegas, k = _row(numbers, t[0]), _row(integers, t[1])
        plan = k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7], k[8]
        prolongation = (
            (_table(integers, t[2]), _table(numbers, t[3])), (_table(integers, t[4]), _table(numbers, t[5])),
            _row(integers, t[6]), _row(numbers, t[7]), _row(numbers, t[8]),
        )  # fmt: skip
        restriction = (
            _table(numbers, t[9]), (_table(integers, t[10]), _table(numbers, t[11])), _row(integers, t[12]),
            _row(numbers, t[13]), _row(numbers, t[14]),
        )  # fmt: skip
        starts, neighbors, coefficients = _row(integers, t[15]), _table(integers, t[16]), _table(numbers, t[17])
        parts, strips = _table(integers, t[18]), _table(integers, t[19])
        for number in range(parts.shape[0] * strips.shape[0]):
            p, s = parts[number // strips.shape[0]], strips[number % strips.shape[0]]
            part, strip = (p[0], p[1], p[2], p[3], p[4], p[5]), (s[0], s[1], s[2], s[3], s[4], s[5], s[6])
            wave(here_u, here_f, coarse_u, coarse_f, omegas, plan, prolongation, restriction, starts, neighbors, coefficients,
                 rings, part, strip)  # fmt: skip
