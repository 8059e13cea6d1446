"""A wave of stages over a grid, slab by slab (rows in 2-D, planes in 3-D): the compiled half of `fused`.

Slabs on their way through the wave are held in rings. A stage is one slab behind the one before, so at any time all stages
relax points of one parity, and the stages of a row follow each other in one loop (`rows.relax_row`): the value that one stage
has computed is, still in a register, the lower neighbor that the next stage needs. Meanwhile the next slab is prefetched.
"""

from .arguments import Ring, Sweep
from .compiling import inlined, kernel
from .loops import along
from .rows import (
    CLOSED,
    EXTENDED,
    MARGIN,
    WRAPPED,
    add_correction,
    gather,
    locate,
    merge,
    relax_row,
    residual_row,
    restrict_slab,
    split,
    sum_of_row,
    wrapped,
)

AS_IT_IS, ZERO, COPY, CORRECTED, INTERPOLATED = 0, 1, 2, 3, 4  # how a slab of u begins
NO_NORM, NORM_FROM_RESIDUAL, NORM_FROM_UPDATES = 0, 1, 2  # of a residual: computed, or from the updates of half-sweeps
LONGEST = 1 << 20  # more stages than any wave has
FAR = 1 << 60  # beyond any slab


@kernel
def restrict_source(coarse, f, restriction, rings, periodic, first, last):
    """Write slabs first to last of R f, from (slabs, rows, n) to (slabs, rows, n); `periodic` applies to rows."""
    ring, starts, width = rings.residuals, restriction.starts, restriction.weights.shape[1]
    slabs, n = f.shape[0], f.shape[2]
    done = starts[first]
    for slab in range(first, last):
        end = starts[slab] + width
        for fine in range(done, end):
            for j in range(f.shape[1]):
                split(f[fine % slabs, j], ring[fine % ring.shape[0], j])
        done = max(done, end)
        restrict_slab(coarse[slab], slab, starts[slab], (0, coarse.shape[1]), ring, n, periodic, rings, restriction, 0)


@inlined
def begin_slab(halves, u, f_halves, f, source, flat, start, slab, lines, periodic, rings, prolongation):
    """Load a slab of f, and a slab of u as given by `start`.

    `lines` is (first row, first row that begins as given by `start`, end): the rows before the second begin as they are.
    """
    n, own_start = u.shape[2], start
    ends = WRAPPED if periodic else EXTENDED if start == INTERPOLATED else CLOSED
    for j in range(lines[0], lines[2]):
        # The correction is added last: a load that lies across two recent stores has to wait for both.
        start, own = own_start if j >= lines[1] else AS_IT_IS, halves[j - lines[0]]
        if start in (CORRECTED, INTERPOLATED):
            gather(flat, source.shape[1:], slab, j, ends, rings, prolongation)
        if start in (ZERO, INTERPOLATED):
            own[:] = 0
        elif start == COPY:
            split(source[slab, j], own)
        else:
            split(u[slab, j], own)
        split(f[slab, j], f_halves[j - lines[0]])
        if start in (CORRECTED, INTERPOLATED):
            add_correction(own, n, rings.scratch[0], prolongation.bands)


@inlined
def _stages_together(k, end, front, part, sweep):
    """Return how many stages, from stage k on, are in successive slabs that all have two inner neighbors."""
    count = 1
    while True:
        if not sweep.periodic and not 0 < front - k < sweep.slabs - 1:
            return max(count - 1, 1)
        k += 1
        if k >= end or not part.low + k * part.low_slope <= front - k < part.high - k * part.high_slope:
            return count
        count += 1


@inlined
def _write_residuals(out, sweep, slab, place, first, stop):
    """Write f - A u on rows first to stop of a slab into `out`, (rows, 2, length), which begins with row `base`."""
    located = locate(slab, place, sweep)
    for row in range(first, stop):
        residual_row(out[row - sweep.base], sweep, located, place, row)


@inlined
def _relax_stages(sweep, front, place, k, count, shade, backward, watched, part, strip, omegas, scratch, u, f, next_slab):
    """Do stages k to k + count, each one slab behind the last, with its own omega; return the watched ones' sum of squares.

    `place` is that of slab `front` in the ring.
    """
    r = front - watched
    counted = int(not part.counted_low <= r < part.counted_high), 1 + int(part.counted_low <= r - 1 < part.counted_high)
    first, stop = max(strip.low - (k + count - 1) * strip.low_slope, 0), strip.high - k * strip.high_slope
    places, slabs, total, at_stage = sweep.ring.places, sweep.slabs, 0.0, k
    located = locate(wrapped(front - k, slabs), wrapped(place - k, places), sweep)
    for number in range(stop - first):
        j = stop - 1 - number if backward else first + number
        # At a slope, the first rows begin with a later stage, the last ones end with an earlier one.
        early = max(k, strip.low - j) if strip.low_slope else k
        late = min(k + count, strip.high - j) if strip.high_slope else k + count
        if early < late:
            if early != at_stage:
                located, at_stage = locate(wrapped(front - early, slabs), wrapped(place - early, places), sweep), early
            ahead, q = (u[next_slab, j], f[next_slab, j]), (shade + j) & 1
            total += relax_row(sweep, located, j, q, watched - early, counted, omegas[early - k : late - k], scratch, ahead)
    return total


@inlined
def _restrict_ready(coarse, coarse_slab, slabs, r, sweep, strip, rings, restriction, residuals, periodic):
    """Restrict the coarse slabs before `slabs` that need no residual beyond slab r; return the next one."""
    width, count = restriction.weights.shape[1], restriction.starts.shape[0]
    while coarse_slab < slabs:
        number = wrapped(coarse_slab, count)
        begin = restriction.starts[number] + (sweep.slabs if number < coarse_slab else 0)
        if begin + width - 1 > r:
            break
        restrict_slab(coarse[number], number, begin, (strip.coarse_low, strip.coarse_high), residuals, sweep.n, periodic, rings,
                      restriction, strip.base)  # fmt: skip
        coarse_slab += 1
    return coarse_slab


@inlined
def _merge_rows(out, halves, first, stop, base):
    """Copy rows first to stop of a slab of the ring into `out`."""
    for j in range(first, stop):
        merge(out[j], halves[j - base])


@kernel
def wave(u, f, source, coarse, snapshot, stages, axes, prolongation, restriction, stencil, rings, part, strip):
    """Run the stages of a half-cycle, or of two, in one pass; return the sum of squares of f - A u where it is wanted.

    Stage 0 loads a slab of u, as it is, zero, a copy of `source`, with P source added, or P source. Then follow: `before`
    half-sweeps; the norm of the residual, where it is wanted (`norm`), and a copy of u into `snapshot`, where it has slabs;
    `after` half-sweeps; the residual and its restriction, where `coarse` has slabs. Then the slab is stored. A half-sweep
    reads, of the neighboring slabs, only the other color, which the stage behind it has not changed yet: so the result is as
    if each stage had been a pass of its own.

    u, f, source, coarse and snapshot are (slabs, rows, n). `part` and `strip` are the slabs and the rows that each stage covers
    (see `arguments.Slabs` and `Strip`). Slabs beyond either end are those of the other end. Strips are done one after the
    other; each leaves at its end what the next needs, which begins there.
    """
    color, before, after = stages.color, stages.before, stages.after
    watched = before if stages.norm == NORM_FROM_UPDATES else -LONGEST
    norm = int(stages.norm == NORM_FROM_RESIDUAL)
    slots, data, residuals = rings.u, rings.f, rings.residuals
    slabs, rows, n = u.shape
    base, places, length = strip.base, slots.shape[0], slots.shape[3]
    held = residuals.shape[0] - 1  # the last place is for the norm
    ring = Ring(slots.reshape(-1), data.reshape(-1), places, slots.shape[1], length)
    ends = along(0, 2, n, stencil), along(n - 1, 2, n, stencil)
    sweep = Sweep(ring, slabs, rows, n, base, axes.slabs, axes.periodic, ends, stencil)
    flat = source.reshape(-1)
    middle = before + norm
    last = middle + after + 1
    coarse_slab, low, high, low_slope, high_slope = part.coarse_low, part.low, part.high, part.low_slope, part.high_slope
    restricts = coarse_slab < part.coarse_high
    wide = (held + 1 if restricts else 0) if low_slope < 0 else 0  # a seam needs the residuals beside it once more
    first_slab = low + last * low_slope - wide - 1 if low_slope < 0 else low
    last_slab = high - last * high_slope + wide + 1 if high_slope < 0 else high
    total = 0.0
    place = first_slab % places
    for front in range(first_slab, last_slab + last + 2):
        if first_slab <= front < last_slab:
            own_start = stages.start if stages.start == AS_IT_IS or low <= front < high else AS_IT_IS
            slab, loaded = wrapped(front, slabs), (base, strip.low, strip.high)
            begin_slab(slots[place], u, data[place], f, source, flat, own_start, slab, loaded, axes.rows_periodic, rings,
                       prolongation)  # fmt: skip
        next_slab = wrapped(min(front + 1, last_slab - 1), slabs)
        k = 1
        while k < last:
            r = front - k
            count = 1
            if not low + k * low_slope <= r < high - k * high_slope:
                pass
            elif before < k <= middle:
                first, stop = max(strip.low - k * strip.low_slope, 0), strip.high - k * strip.high_slope
                _write_residuals(residuals[held], sweep, wrapped(r, slabs), wrapped(place - k, places), first, stop)
                for j in range(first - base, stop - base if part.counted_low <= r < part.counted_high else 0):
                    even, odd = residuals[held, j, 0, MARGIN:], residuals[held, j, 1, MARGIN:]
                    total += sum_of_row(even) + sum_of_row(odd)
            else:
                end = before + 1 if norm and k <= before else last
                count = _stages_together(k, end, front, part, sweep)
                shade = color + k - 1 - (middle if k > middle else 0) + wrapped(r, slabs)
                first = k - 1 - (norm if k > middle else 0)
                own = stages.omegas[first : first + count]
                total += _relax_stages(sweep, front, place, k, count, shade, stages.backward, watched, part, strip,
                                       own, rings.scratch, u, f, next_slab)  # fmt: skip
            k += count
        r = front - before
        if snapshot.shape[0] > 0 and low + before * low_slope <= r < high - before * high_slope:
            first, stop = max(strip.low - before * strip.low_slope, 0), strip.high - before * strip.high_slope
            _merge_rows(snapshot[wrapped(r, slabs)], slots[wrapped(place - before, places)], first, stop, base)
        r = front - last
        if restricts and low + last * low_slope - wide <= r < high - last * high_slope + wide:
            first, stop = base + 1 if base > 0 else 0, strip.high - last * strip.high_slope
            _write_residuals(residuals[r % held], sweep, wrapped(r, slabs), wrapped(place - last, places), first, stop)
            coarse_slab = _restrict_ready(
                coarse, coarse_slab, part.coarse_high, r, sweep, strip, rings, restriction, residuals[:held], axes.rows_periodic
            )
        r = front - last - 1
        if first_slab <= r < last_slab:
            _merge_rows(u[wrapped(r, slabs)], slots[wrapped(place - last - 1, places)], base, strip.high, base)
        place = wrapped(place + 1, places)
    return total


@kernel
def restrict_each(coarse, f, restriction, rings, periodic):
    """Write R f for each of several grids, arrays being (grids, slabs, rows, n)."""
    for i in range(f.shape[0]):
        restrict_source(coarse[i], f[i], restriction, rings, periodic, 0, coarse.shape[1])


@kernel
def wave_of_each(u, f, source, coarse, snapshot, stages, axes, prolongation, restriction, stencil, rings, part, strip, sums):
    """Run a wave on each of several grids, arrays being (grids, slabs, rows, n); write its sums of squares into `sums`."""
    for i in range(u.shape[0]):
        sums[i] = wave(u[i], f[i], source[i], coarse[i], snapshot[i], stages, axes, prolongation, restriction, stencil, rings,
                       part, strip)  # fmt: skip
