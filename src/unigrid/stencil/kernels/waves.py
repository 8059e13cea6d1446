"""The compiled half of `fused`: a wave of stages over a grid, slab by slab (rows in 2-D, planes in 3-D).

Slabs on their way through the wave stand in rings. A stage is one slab behind the one before, so at any time all stages relax
points of one parity, and a row's stages follow each other in one loop (`rows.relax_row`): what one stage has made of a point
is, still in a register, the lower neighbor that the next stage wants. Meanwhile the next slab is fetched.

The functions of `rows`, `cpu` and `vectors` are compiled in; numba's cache does not notice a change there: touch this file as
well.
"""

from .cpu import _along
from .rows import (
    CLOSED,
    EXTENDED,
    WRAPPED,
    add_correction,
    beside,
    gather,
    inlined,
    kernel,
    merge,
    relax_row,
    residual_row,
    restrict_slab,
    split,
    sum_of_row,
)

AS_IT_IS, ZERO, COPY, CORRECTED, INTERPOLATED = 0, 1, 2, 3, 4  # how a slab of u begins
BY_STAGE, BY_CHANGES = 1, 2  # how the norm of a residual is found: by reckoning it, or by what relaxation changes
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


@kernel
def wave(u, f, source, coarse, omega, plan, prolongation, restriction, starts, neighbors, coefficients, rings, part, strip):
    """Run the stages of a leg over the grid in one pass; return the sum of squares of f - A u where it is wanted.

    Stage 0 takes a slab of u, as it is, zero, a copy of `source`, with P source added, or P source; `before` half-sweeps
    follow, the norm of the residual where it is wanted (`norm`), `after` half-sweeps, the residual and its restriction where
    `coarse` has slabs; then the slab goes back. A half-sweep reads of the neighboring slabs only the other color, which the
    stage behind it has not changed yet: so all is as if each stage had been a pass of its own.

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
    slots, data, residuals, scratch, _ = rings
    room = rings[3:]
    places, held = slots.shape[0], residuals.shape[0] - 1  # the last place is for the norm
    slabs, rows, n = u.shape
    row_low, row_high, row_low_slope, row_high_slope, base, coarse_row, coarse_row_end = strip
    loaded, first_residual = (base, row_low, row_high), base + 1 if base > 0 else 0
    ring = (slots.reshape(-1), data.reshape(-1), places, slots.shape[1], slots.shape[3], places)
    flat, values, held_shape = source.reshape(-1), residuals.reshape(-1), (held, slots.shape[1], residuals.shape[3])
    ends = _along(0, 2, n, neighbors, coefficients), _along(n - 1, 2, n, neighbors, coefficients)
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
            place, slab = front % places, front % slabs
            begin_slab(slots[place], u, data[place], f, source, flat, own_start, slab, loaded, around, room,
                       prolongation)  # fmt: skip
        next_slab = min(front + 1, last_slab - 1) % slabs
        k = 1
        while k < last:
            r = front - k
            if not low + k * low_slope <= r < high - k * high_slope:
                k += 1
                continue
            slab = r % slabs
            sides = beside(r, slab, slabs, axis, periodic, neighbors, coefficients)
            if before < k <= middle:
                for j in range(max(row_low - k * row_low_slope, 0), row_high - k * row_high_slope):
                    across, out = _across(j, base, 1 - axis, rows, neighbors, coefficients), residuals[held, j - base]
                    residual_row(out, ring, r, j - base, n, sides, across, ends, coefficients)
                    total += sum_of_row(out[0]) + sum_of_row(out[1])
                k += 1
                continue
            end = before + 1 if norm and k <= before else last
            count = _stages_together(k, end, front, (low, high, low_slope, high_slope), slabs, periodic)
            shade = color + k - 1 - (middle if k > middle else 0) + slab
            first, stop = max(row_low - (k + count - 1) * row_low_slope, 0), row_high - k * row_high_slope
            for number in range(stop - first):
                j = stop - 1 - number if backward else first + number
                # At a slope, the first rows begin with a later stage, the last ones end with an earlier one.
                early = max(k, row_low - j) if row_low_slope else k
                late = min(k + count, row_high - j) if row_high_slope else k + count
                if early >= late:
                    continue
                r = front - early
                sides = beside(r, r % slabs, slabs, axis, periodic, neighbors, coefficients)
                across = _across(j, base, 1 - axis, rows, neighbors, coefficients)
                ahead, q, watch = (u[next_slab, j], f[next_slab, j]), (shade + j) % 2, watched - early
                total += relax_row(ring, r, j - base, n, q, late - early, watch, sides, across, ends, omega, coefficients,
                                   scratch, ahead)  # fmt: skip
            k += count
        r = front - last
        if restricts and low + last * low_slope - wide <= r < high - last * high_slope + wide:
            sides = beside(r, r % slabs, slabs, axis, periodic, neighbors, coefficients)
            for j in range(first_residual, row_high - last * row_high_slope):
                across = _across(j, base, 1 - axis, rows, neighbors, coefficients)
                residual_row(residuals[r % held, j - base], ring, r, j - base, n, sides, across, ends, coefficients)
            width, count = restriction[0].shape[1], starts.shape[0]
            while coarse_slab < coarse_end:
                begin = starts[coarse_slab % count] + slabs * (coarse_slab // count)
                if begin + width - 1 > r:
                    break
                restrict_slab(coarse[coarse_slab % count], (coarse_row, coarse_row_end, base), values, held_shape, n, begin,
                              around, room, restriction[0][coarse_slab % count], *restriction[1:])  # fmt: skip
                coarse_slab += 1
        r = front - last - 1
        if first_slab <= r < last_slab:
            for j in range(base, row_high):
                merge(u[r % slabs, j], slots[r % places, j - base])
    return total
