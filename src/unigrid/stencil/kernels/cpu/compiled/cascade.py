"""A cascade of iterates over a grid, slab by slab (rows in 2-D, planes in 3-D): the compiled half of `fused_steps`.

A step of the semi-iteration computes a slab of a new iterate from three slabs of the last one and one of the one before it.
Each iterate has a ring of a few slabs, and is one slab behind the last: a slab of u and f is loaded once for all steps. Nothing
is written where it is read, so a grid may be cut anywhere: a part loads as many additional slabs, at either end, as it has
steps, wrapped around a periodic axis, and repeats on them what its neighbor does.
"""

from .arguments import Ring, Sweep
from .compiling import inlined, kernel
from .loops import along
from .rows import MARGIN, locate, merge, residual_row, restrict_slab, row_neighbors
from .vectors import lanes_of, load, spread, store
from .waves import begin_slab

PLACES = 4  # slabs held of an iterate: three that the next step reads, and one under way


@inlined
def _step_row(target, center, older, residual, weight, gain, n, diagonal, scale, ends):
    """Write weight (center + gain D^-1 residual) + (1 - weight) older into `target`; all are rows split by parity."""
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
        factor = weight * gain / (diagonal + ends[end].diagonal)
        target[q, m] = weight * center[q, m] + factor * residual[q, m] + rest * older[q, m]


@inlined
def _step_slab(iterates, older, step, r, f_place, sweep, residual, weight, gain):
    """Do a step of the semi-iteration on slab r; f of that slab is at `f_place` of its ring."""
    coefficients, place = sweep.stencil.coefficients, r % PLACES
    located = locate(r % sweep.slabs, place, sweep)
    for j in range(sweep.rows):
        residual_row(residual, sweep, located, f_place, j)
        diagonal = located.diagonal + row_neighbors(j, sweep).diagonal + coefficients[3, 0]
        _step_row(iterates[step, place, j], iterates[step - 1, place, j], iterates[older, place, j], residual, weight, gain,
                  sweep.n, diagonal, coefficients[2, 0], sweep.ends)  # fmt: skip


@kernel
def cascade(out, u, f, source, coarse, gain, weights, start, axes, prolongation, restriction, stencil, iterates, rings, part):
    """Do the steps of the semi-iteration, one per weight, on the slabs of a part; restrict the residual where wanted.

    It begins, as given by `start` (see `waves`), with u, zero, u + P source, or P source. u, f and `out` are (slabs, rows, n),
    `iterates` is a ring for each iterate, (steps + 1, PLACES, rows, 2, length), and `part` an `Overlap`.
    """
    data, residuals, low, high, coarse_slab = rings.f, rings.residuals, part.low, part.high, part.coarse_low
    residual = residuals[residuals.shape[0] - 1, 0]
    slabs, rows, n = out.shape
    steps, f_places, held, length = weights.shape[0], data.shape[0], residuals.shape[0] - 1, data.shape[3]
    flat, flat_f, width = source.reshape(-1), data.reshape(-1), restriction.weights.shape[1]
    ends = along(0, 2, n, stencil), along(n - 1, 2, n, stencil)
    # Of the last iterate: a residual reads a slab on either side.
    begin, end = min(low, part.residual_low - 1), max(high, part.residual_high + 1)
    for front in range(begin - steps, end + steps + 2):
        first, last = begin - steps, end + steps
        if not axes.periodic:
            first, last = max(first, 0), min(last, slabs)
        if first <= front < last:
            begin_slab(iterates[0, front % PLACES], u, data[front % f_places], f, source, flat, start, front % slabs,
                       (0, 0, rows), axes.rows_periodic, rings, prolongation)  # fmt: skip
        for step in range(1, steps + 1):
            r, first, last = front - step, begin - steps + step, end + steps - step
            if not axes.periodic:
                first, last = max(first, 0), min(last, slabs)
            if not first <= r < last:
                continue
            ring = Ring(iterates[step - 1].reshape(-1), flat_f, PLACES, rows, length)
            sweep = Sweep(ring, slabs, rows, n, 0, axes.slabs, axes.periodic, ends, stencil)
            weight = weights[step - 1]
            older = step - 1 if weight == 1 else step - 2  # a first step has none before it, and adds nothing of it
            _step_slab(iterates, older, step, r, r % f_places, sweep, residual, weight, gain)
        r = front - steps
        if low <= r < high:
            for j in range(rows):
                merge(out[r, j], iterates[steps, r % PLACES, j])
        r = front - steps - 1
        if coarse_slab < part.coarse_high and part.residual_low <= r < part.residual_high:
            ring = Ring(iterates[steps].reshape(-1), flat_f, PLACES, rows, length)
            sweep = Sweep(ring, slabs, rows, n, 0, axes.slabs, axes.periodic, ends, stencil)
            located = locate(r % slabs, r % PLACES, sweep)
            for j in range(rows):
                residual_row(residuals[r % held, j], sweep, located, r % f_places, j)
            while coarse_slab < part.coarse_high and restriction.starts[coarse_slab] + width - 1 <= r:
                restrict_slab(coarse[coarse_slab], coarse_slab, restriction.starts[coarse_slab], (0, coarse.shape[1]),
                              residuals[:held], n, axes.rows_periodic, rings, restriction, 0)  # fmt: skip
                coarse_slab += 1
