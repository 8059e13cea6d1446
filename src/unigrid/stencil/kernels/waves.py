"""The compiled half of `fused`: a wave of stages over a grid, slab by slab (rows in 2-D, planes in 3-D).

Slabs on their way through the wave stand in rings, every row split into its even and its odd points: all points of one color
in a row are one of the halves, so that relaxation reads and writes without gaps, which is four times as fast. A stage is one
slab behind the one before. `_along` is that of `cpu`; numba's cache does not notice a change there: touch this file as well.
"""

import numba
import numpy as np

from .cpu import _along, _options

kernel = numba.njit(**_options)
AS_IT_IS, ZERO, COPY, CORRECTED = 0, 1, 2, 3  # how a slab of u begins


@kernel
def _split(row, halves, j):
    """Copy a row into its even and its odd points."""
    even, odd, n = halves[0, j], halves[1, j], row.shape[0]
    for m in range(n // 2):
        even[m] = row[2 * m]
        odd[m] = row[2 * m + 1]
    if n % 2 == 1:
        even[n // 2] = row[n - 1]


@kernel
def _merge(row, halves, j):
    """Copy even and odd points back into a row."""
    even, odd, n = halves[0, j], halves[1, j], row.shape[0]
    for m in range(n // 2):
        row[2 * m] = even[m]
        row[2 * m + 1] = odd[m]
    if n % 2 == 1:
        row[n - 1] = even[n // 2]


@kernel
def _wrap(buffer, n):
    """Fill the two places beyond either end of n values with those of the other end."""
    buffer[0], buffer[1] = buffer[n], buffer[n + 1]
    buffer[n + 2], buffer[n + 3] = buffer[2], buffer[3]


@kernel
def _add_scaled(total, weight, row):
    """Add weight times a row to `total`."""
    if weight != 0:
        for k in range(total.shape[0]):
            total[k] += weight * row[k]


@kernel
def _add_band(target, weights, row, shift):
    """Add sum over t of weights[t, m] row[m + shift + t] to target[m]; the row has two values beyond either end."""
    for t in range(weights.shape[0]):
        shifted, factor = row[2 + shift + t :], weights[t]
        for m in range(min(target.shape[0], shifted.shape[0])):
            target[m] += factor[m] * shifted[m]


@kernel
def _add_correction(halves, j, coarse, slab, around, slab_indices, slab_weights, cross_indices, cross_weights, shifts, weights):
    """Add row j of slab `slab` of P e: e's rows combined first, then spread over even and odd points."""
    n = coarse.shape[2]
    buffer = np.zeros(n + 4, coarse.dtype)  # two zeros beyond either end
    inner = buffer[2 : n + 2]
    for a in range(slab_indices.shape[0]):
        for b in range(cross_indices.shape[0]):
            weight = slab_weights[a, slab] * cross_weights[b, j]
            _add_scaled(inner, weight, coarse[slab_indices[a, slab], cross_indices[b, j]])
    if around:
        _wrap(buffer, n)
    for q in range(2):
        _add_band(halves[q, j], weights[q], buffer, shifts[q])


@kernel
def _inner(q, n):
    """Return the range of the inner points among the even (q = 0) or odd (q = 1) ones of a row of n."""
    return (1, (n - 2) // 2 + 1) if q == 0 else (0, (n - 3) // 2 + 1)


@kernel
def _beside(r, slab, slabs, axis, periodic, neighbors, coefficients):
    """Return both neighbors of slab r of the ring with their weights, and the axis' part of the diagonal."""
    low, low_weight, high, high_weight, diagonal = _along(slab, axis, slabs, neighbors, coefficients)
    if periodic or slab > 0:
        low = r - 1
    if periodic or slab < slabs - 1:
        high = r + 1
    return low, low_weight, high, high_weight, diagonal


@kernel
def _relax_slab(u, f, r, slab, slabs, axis, periodic, n, color, backward, omega, neighbors, coefficients):
    """Relax the points of one color in slab r of the ring."""
    slots = u.shape[0]
    low, low_weight, high, high_weight, outer = _beside(r, slab, slabs, axis, periodic, neighbors, coefficients)
    here, above, below, data = u[r % slots], u[low % slots], u[high % slots], f[r % f.shape[0]]
    scale, keep = coefficients[2, 0], omega / omega - omega
    for number in range(here.shape[1]):
        j = here.shape[1] - 1 - number if backward else number
        back, back_weight, front, front_weight, middle = _along(j, 1 - axis, here.shape[1], neighbors, coefficients)
        diagonal = outer + middle + coefficients[3, 0]
        gain = omega / (diagonal + scale + scale)
        q = (color + slab + j) % 2
        begin, end = _inner(q, n)
        low_end, high_end = q == 0, n > 1 and (n - 1) % 2 == q
        if high_end if backward else low_end:
            k = n - 1 if backward else 0
            _relax_end(here, above, below, data, j, k, n, low_weight, high_weight, back, back_weight, front, front_weight,
                       diagonal, omega, neighbors, coefficients)  # fmt: skip
        # All rows are cut to begin at the first inner point: an index that may be negative would keep the loops from vectors.
        left, right = here[1 - q, j], here[1 - q, j][1:]
        x, up, down, g = here[q, j][begin:], above[q, j][begin:], below[q, j][begin:], data[q, j][begin:]
        if here.shape[1] > 1:
            behind, before = here[q, back][begin:], here[q, front][begin:]
            for m in range(end - begin):
                around = low_weight * up[m] + high_weight * down[m] + back_weight * behind[m] + front_weight * before[m]
                x[m] = keep * x[m] + gain * (g[m] + around + scale * (left[m] + right[m]))
        else:
            for m in range(end - begin):
                around = low_weight * up[m] + high_weight * down[m]
                x[m] = keep * x[m] + gain * (g[m] + around + scale * (left[m] + right[m]))
        if low_end if backward else high_end:
            k = 0 if backward else n - 1
            _relax_end(here, above, below, data, j, k, n, low_weight, high_weight, back, back_weight, front, front_weight,
                       diagonal, omega, neighbors, coefficients)  # fmt: skip


@kernel
def _around(
    here, above, below, j, k, n, low_weight, high_weight, back, back_weight, front, front_weight, neighbors, coefficients
):
    """Return the weighted sum of the neighbors of an end of a row, and what the end adds to the diagonal."""
    left, left_weight, right, right_weight, own = _along(k, 2, n, neighbors, coefficients)
    q, m = k % 2, k // 2
    total = (
        left_weight * here[left % 2, j, left // 2]
        + right_weight * here[right % 2, j, right // 2]
        + back_weight * here[q, back, m]
        + front_weight * here[q, front, m]
        + low_weight * above[q, j, m]
        + high_weight * below[q, j, m]
    )
    return total, own


@kernel
def _relax_end(here, above, below, data, j, k, n, low_weight, high_weight, back, back_weight, front, front_weight, diagonal,
               omega, neighbors, coefficients):  # fmt: skip
    """Relax the first or the last point of a row."""
    total, own = _around(here, above, below, j, k, n, low_weight, high_weight, back, back_weight, front, front_weight,
                         neighbors, coefficients)  # fmt: skip
    q, m = k % 2, k // 2
    here[q, j, m] += omega * ((data[q, j, m] + total) / (diagonal + own) - here[q, j, m])


@kernel
def _residual_slab(out, u, f, r, slab, slabs, axis, periodic, n, neighbors, coefficients):
    """Write f - A u on slab r of the ring into `out`, (2, rows, half a row)."""
    slots = u.shape[0]
    low, low_weight, high, high_weight, outer = _beside(r, slab, slabs, axis, periodic, neighbors, coefficients)
    here, above, below, data = u[r % slots], u[low % slots], u[high % slots], f[r % f.shape[0]]
    scale = coefficients[2, 0]
    for j in range(here.shape[1]):
        back, back_weight, front, front_weight, middle = _along(j, 1 - axis, here.shape[1], neighbors, coefficients)
        diagonal = outer + middle + coefficients[3, 0]
        inner = diagonal + scale + scale
        for q in range(2):
            begin, end = _inner(q, n)
            # All rows are cut to begin at the same inner point, so that no index can be negative.
            left, right = here[1 - q, j], here[1 - q, j][1:]
            x, up, down = here[q, j][begin:], above[q, j][begin:], below[q, j][begin:]
            behind, before = here[q, back][begin:], here[q, front][begin:]
            g, result = data[q, j][begin:], out[q, j][begin:]
            if here.shape[1] > 1:
                for m in range(end - begin):
                    around = low_weight * up[m] + high_weight * down[m] + back_weight * behind[m] + front_weight * before[m]
                    result[m] = g[m] - inner * x[m] + around + scale * (left[m] + right[m])
            else:
                for m in range(end - begin):
                    around = low_weight * up[m] + high_weight * down[m]
                    result[m] = g[m] - inner * x[m] + around + scale * (left[m] + right[m])
        for end in range(min(n, 2)):
            k = end * (n - 1)
            total, own = _around(here, above, below, j, k, n, low_weight, high_weight, back, back_weight, front, front_weight,
                                 neighbors, coefficients)  # fmt: skip
            q, m = k % 2, k // 2
            out[q, j, m] = data[q, j, m] - (diagonal + own) * here[q, j, m] + total


@kernel
def _restrict_slab(out, ring, begin, around, slab_weights, cross_indices, cross_weights, shifts, weights):
    """Write one slab of R r, (rows, n), from the residual's slabs begin, begin + 1, .. that the ring holds."""
    half = ring.shape[3]
    buffer = np.zeros((2, half + 4), ring.dtype)  # two zeros beyond either end
    for j in range(out.shape[0]):
        buffer[:] = 0
        for q in range(2):
            inner = buffer[q, 2 : half + 2]
            for a in range(slab_weights.shape[0]):
                for b in range(cross_indices.shape[0]):
                    weight = slab_weights[a] * cross_weights[b, j]
                    _add_scaled(inner, weight, ring[(begin + a) % ring.shape[0], q, cross_indices[b, j]])
            if around:
                _wrap(buffer[q], half)
        row = out[j]
        row[:] = 0
        for q in range(2):
            _add_band(row, weights[q], buffer[q], shifts[q])


@kernel
def _sum_of_squares(halves, n):
    """Return the sum of squares in double precision, row sums first."""
    total = 0.0
    for q in range(2):
        for j in range(halves.shape[1]):
            row, row_total = halves[q, j], 0.0
            for m in range((n + 1 - q) // 2):
                value = np.float64(row[m])
                row_total += value * value
            total += row_total
    return total


@kernel
def wave(u, f, source, coarse, omega, plan, prolongation, restriction, starts, neighbors, coefficients, rings, part):
    """Run the stages of a leg over the grid in one pass; return the sum of squares of f - A u where it is wanted.

    Stage 0 takes a slab of u, as it is, zero, a copy of `source`, or with P source added; `before` half-sweeps follow, the
    norm of the residual where it is wanted, `after` half-sweeps, the residual and its restriction where `coarse` has slabs;
    then the slab goes back. A half-sweep reads of the neighboring slabs only the other color, which the stage behind it has
    not changed yet: so all is as if each stage had been a pass of its own.

    u, f, source and coarse are (slabs, rows, n). `plan` is (start, first color, backward, before, norm, after, axis of the
    slabs, whether it is periodic, whether the rows are); `part` is (low, high, slope at low, slope at high, first coarse slab,
    end of the coarse slabs): stage k does the slabs from low + k slope to high - k slope. Slabs beyond either end are those of
    the other end.
    """
    start, color, backward, before, norm, after, axis, periodic, around = plan
    low, high, low_slope, high_slope, coarse_slab, coarse_end = part
    slots, data, residuals = rings
    held = residuals.shape[0] - 1  # the last place is for the norm
    slabs, n = u.shape[0], u.shape[2]
    middle = before + norm
    last = middle + after + 1
    restricts = coarse_slab < coarse_end
    beside = (held + 1 if restricts else 0) if low_slope < 0 else 0  # a seam needs the residuals beside it once more
    first_slab = low + last * low_slope - beside - 1 if low_slope < 0 else low
    last_slab = high - last * high_slope + beside + 1 if high_slope < 0 else high
    total = 0.0
    for front in range(first_slab, last_slab + last + 2):
        if first_slab <= front < last_slab:
            slab = front % slabs
            for j in range(u.shape[1]):
                if start == ZERO and low <= front < high:
                    slots[front % slots.shape[0], :, j] = 0
                elif start == COPY and low <= front < high:
                    _split(source[slab, j], slots[front % slots.shape[0]], j)
                else:
                    _split(u[slab, j], slots[front % slots.shape[0]], j)
                if start == CORRECTED and low <= front < high:
                    _add_correction(slots[front % slots.shape[0]], j, source, slab, around, *prolongation)
                _split(f[slab, j], data[front % data.shape[0]], j)
        for k in range(1, last):
            r = front - k
            if low + k * low_slope <= r < high - k * high_slope:
                if before < k <= middle:
                    _residual_slab(
                        residuals[held], slots, data, r, r % slabs, slabs, axis, periodic, n, neighbors, coefficients
                    )
                    total += _sum_of_squares(residuals[held], n)
                else:
                    shade = (color + k - 1 - (middle if k > middle else 0)) % 2
                    _relax_slab(slots, data, r, r % slabs, slabs, axis, periodic, n, shade, backward, omega, neighbors,
                                coefficients)  # fmt: skip
        r = front - last
        if restricts and low + last * low_slope - beside <= r < high - last * high_slope + beside:
            _residual_slab(residuals[r % held], slots, data, r, r % slabs, slabs, axis, periodic, n, neighbors, coefficients)
            width, count = restriction[0].shape[1], starts.shape[0]
            while coarse_slab < coarse_end:
                begin = starts[coarse_slab % count] + slabs * (coarse_slab // count)
                if begin + width - 1 > r:
                    break
                weights = restriction[0][coarse_slab % count]
                _restrict_slab(coarse[coarse_slab % count], residuals[:held], begin, around, weights, *restriction[1:])
                coarse_slab += 1
        r = front - last - 1
        if first_slab <= r < last_slab:
            for j in range(u.shape[1]):
                _merge(u[r % slabs, j], slots[r % slots.shape[0]], j)
    return total
