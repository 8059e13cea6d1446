"""The compiled half of `fused_steps`: a cascade of iterates over a grid, slab by slab (rows in 2-D, planes in 3-D).

A step of the semi-iteration makes a slab of a new iterate from three slabs of the last one and one of the one before it. Each
iterate has a ring of a few slabs of its own, and is one slab behind the last: a slab of u and f is loaded once for all steps.
Nothing is written where it is read. So a grid may be cut anywhere: a part loads as many slabs more, at either end, as it has
steps, wrapped around a periodic axis, and does on them again what its neighbor does.

The functions of other files are compiled in, and numba's cache sees changes in this file alone: so it names theirs.
"""

from .cpu import _along
from .rows import MARGIN, beside, inlined, kernel, merge, residual_row, restrict_slab
from .vectors import lanes_of, load, spread, store
from .waves import begin_slab

COMPILED_IN = {"cpu": "f3fa85ae6164", "rows": "d83c7a33b8ea", "vectors": "be7f5729359f", "waves": "53ac5adbea96"}
PLACES = 4  # slabs of an iterate: three that the next step sees, and one under way


@inlined
def _step_row(target, center, older, residual, weight, gain, n, diagonal, scale, ends):
    """Write weight (center + gain D^-1 residual) + (1 - weight) older, all of them rows in halves, into `target`."""
    rest, lanes = weight / weight - weight, lanes_of(target)
    of_center, of_residual, of_older = spread(weight), spread(weight * gain / (diagonal + scale + scale)), spread(rest)
    for q in range(2):
        to, at, before, left = target[q], center[q], older[q], residual[q]
        for first in range(MARGIN, MARGIN + (n + 1) // 2, lanes):
            total = of_center * load(at, first) + of_residual * load(left, first)
            store(to, first, total + of_older * load(before, first))
    for end in range(2):
        k = end * (n - 1)
        q, m = k % 2, MARGIN + k // 2
        factor = weight * gain / (diagonal + ends[end][4])
        target[q, m] = weight * center[q, m] + factor * residual[q, m] + rest * older[q, m]


@kernel
def cascade(out, u, f, source, coarse, gain, weights, plan, prolongation, restriction, starts, neighbors, coefficients, rings,
            part):  # fmt: skip
    """Do the steps of the semi-iteration, `weights` one a step, on slabs low to high; restrict the residual where wanted.

    It begins, as `start` says, with u, with zero, with u + P source, or with P source. u, f and `out` are (slabs, rows, n).
    `plan` is (start, axis of the slabs, whether it is periodic, whether the rows are); `part` is (low, high, first coarse slab,
    end of the coarse slabs, first slab and end of those whose residuals these need).
    """
    start, axis, periodic, around = plan
    low, high, coarse_slab, coarse_end, lowest, highest = part
    iterates, data, residuals, _, _ = rings
    room, left = rings[3:], residuals[residuals.shape[0] - 1, 0]
    slabs, rows, n = out.shape
    steps, f_places, held, length = weights.shape[0], data.shape[0], residuals.shape[0] - 1, data.shape[3]
    flat, values = source.reshape(-1), residuals.reshape(-1)
    ends = _along(0, 2, n, neighbors, coefficients), _along(n - 1, 2, n, neighbors, coefficients)
    begin, end = min(low, lowest - 1), max(high, highest + 1)  # of the last iterate: a residual sees a slab on either side
    for front in range(begin - steps, end + steps + 2):
        first, last = begin - steps, end + steps
        if not periodic:
            first, last = max(first, 0), min(last, slabs)
        if first <= front < last:
            begin_slab(iterates[0, front % PLACES], u, data[front % f_places], f, source, flat, start, front % slabs,
                       (0, 0, rows), around, room, prolongation)  # fmt: skip
        for step in range(1, steps + 1):
            r, first, last = front - step, begin - steps + step, end + steps - step
            if not periodic:
                first, last = max(first, 0), min(last, slabs)
            if not first <= r < last:
                continue
            weight, place = weights[step - 1], r % PLACES
            ring = iterates[step - 1].reshape(-1), data.reshape(-1), PLACES, rows, length, f_places
            older = step - 1 if weight == 1 else step - 2  # a first step has none before it, and takes nothing of it
            sides = beside(r, r % slabs, slabs, axis, periodic, neighbors, coefficients)
            for j in range(rows):
                across = _along(j, 1 - axis, rows, neighbors, coefficients)
                residual_row(left, ring, r, j, n, sides, across, ends, coefficients)
                _step_row(iterates[step, place, j], iterates[step - 1, place, j], iterates[older, place, j], left, weight, gain,
                          n, sides[4] + across[4] + coefficients[3, 0], coefficients[2, 0], ends)  # fmt: skip
        r = front - steps
        if low <= r < high:
            for j in range(rows):
                merge(out[r, j], iterates[steps, r % PLACES, j])
        r = front - steps - 1
        if coarse_slab < coarse_end and lowest <= r < highest:
            ring = iterates[steps].reshape(-1), data.reshape(-1), PLACES, rows, length, f_places
            sides = beside(r, r % slabs, slabs, axis, periodic, neighbors, coefficients)
            for j in range(rows):
                across = _along(j, 1 - axis, rows, neighbors, coefficients)
                residual_row(residuals[r % held, j], ring, r, j, n, sides, across, ends, coefficients)
            while coarse_slab < coarse_end and starts[coarse_slab] + restriction[0].shape[1] - 1 <= r:
                lead, coarse_rows = starts[coarse_slab], (0, coarse.shape[1], 0)
                restrict_slab(coarse[coarse_slab], coarse_rows, values, (held, rows, length), n, lead, around, room,
                              restriction[0][coarse_slab], *restriction[1:])  # fmt: skip
                coarse_slab += 1
