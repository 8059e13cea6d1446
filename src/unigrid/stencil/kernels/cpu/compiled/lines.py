"""Line relaxation for symmetric stencils: tridiagonal systems, a vector of lines at a time.

Lines of one color are gathered side by side, (points, lanes), whatever their axis: elimination runs along the points, and
every step of it is one vector operation over the lines. A periodic line is cyclic, by a correction of rank one.
"""

from .compiling import LOOPS, compiled, inlined, kernel
from .couplings import _residual_row
from .rows import LINE
from .vectors import BYTES, lanes_of, load, prefetch, reciprocal, spread, store

loops = compiled(**{**LOOPS, "_nrt": False})
BLOCK = 16  # points of a line that are gathered at once
AHEAD = 12  # rows between what is gathered and what is prefetched
RIGHT, COUPLING, DIAGONAL, SOLVED, UPPER, CYCLIC, PARTS = range(7)  # of the work of a batch


@kernel
def residual(out, f, u, stencil, axis, lines, first, last):
    """Write f - A u on planes lines[0], lines[0] + 2, .. before lines[1], from `first` to `last` of these.

    For lines along axis 2, on rows lines[2], lines[2] + 2, .. before lines[3] alone; in 2-D, `first` and `last` count rows.
    """
    n0, n1 = u.shape[:2]
    start, stop, step = (lines[2], lines[3], 2) if axis == 2 else (0, n1, 1)
    for i in range(lines[0], lines[1], 2):
        for j in range(start, stop, step):
            slab = (i - lines[0]) // 2 if n0 > 1 else j
            if first <= slab < last:
                _residual_row(out[i, j], f[i, j], u, stencil, i, j)


@loops
def relax(u, r, couplings, diagonal, axis, lines, work, first, last):
    """Solve T e = r along lines, u <- u + e: batches `first` to `last` of a vector of lines of one plane each.

    `couplings` are those along `axis`. `lines` is (first plane, end, first line, end): every other plane, every other line.
    `work` holds one batch.
    """
    lanes, n = lanes_of(work), u.shape[axis]
    across = (lines[3] - lines[2] + 1) // 2
    batches = (across + lanes - 1) // lanes
    size = n * lanes
    for batch in range(first, last):
        i, begin = lines[0] + 2 * (batch // batches), batch % batches * lanes
        filled, line = min(lanes, across - begin), lines[2] + 2 * begin
        for k in range(size if filled < lanes else 0):
            work[RIGHT * size + k] = work[COUPLING * size + k] = 0
            work[DIAGONAL * size + k] = 1
        if axis == 2:
            _gather_rows(work, RIGHT * size, r[i], line, filled)
            _gather_rows(work, COUPLING * size, couplings[i], line, filled)
            _gather_rows(work, DIAGONAL * size, diagonal[i], line, filled)
            _solve(work, n, size)
            _add_rows(u[i], work, line, filled)
        else:
            for k in range(n):
                _gather(work, RIGHT * size + k * lanes, r[i, k], line, filled)
                _gather(work, COUPLING * size + k * lanes, couplings[i, k], line, filled)
                _gather(work, DIAGONAL * size + k * lanes, diagonal[i, k], line, filled)
            _solve(work, n, size)
            for k in range(n):
                row, values = u[i, k, line:], work[RIGHT * size + k * lanes : RIGHT * size + (k + 1) * lanes]
                for lane in range(filled):
                    row[2 * lane] += values[lane]


@inlined
def _gather(work, place, row, line, filled):
    for part in range(BYTES * 2 // LINE + 1):  # of the row some steps ahead: the next one lies in another page
        prefetch(row, AHEAD * row.shape[0] + line + part * lanes_of(work) * LINE // BYTES)
    values, source = work[place : place + filled], row[line:]
    for lane in range(filled):
        values[lane] = source[2 * lane]


@inlined
def _gather_rows(work, place, plane, line, filled):
    """Gather every other row side by side, so many points at a time that they stay in the first cache."""
    lanes, n = lanes_of(work), plane.shape[1]
    for start in range(0, n, BLOCK):
        for lane in range(filled):
            row = plane[line + 2 * lane]
            for k in range(start, min(start + BLOCK, n)):
                work[place + k * lanes + lane] = row[k]


@inlined
def _add_rows(plane, work, line, filled):
    lanes, n = lanes_of(work), plane.shape[1]
    for start in range(0, n, BLOCK):
        for lane in range(filled):
            row = plane[line + 2 * lane]
            for k in range(start, min(start + BLOCK, n)):
                row[k] += work[k * lanes + lane]


@inlined
def _solve(work, n, size):
    """Solve for a batch; the solution takes the place of the right-hand side."""
    lanes = lanes_of(work)
    right, coupling, diagonal = RIGHT * size, COUPLING * size, DIAGONAL * size
    solved, upper, cyclic = SOLVED * size, UPPER * size, CYCLIC * size
    last = (n - 1) * lanes
    nothing = spread(work.dtype.type(0))
    corner, around = nothing, False
    if n > 2:
        corner = load(work, coupling + last)
        for lane in range(lanes):
            around = around or work[coupling + last + lane] != 0
    elif n == 2:  # periodic, both ends couple twice
        store(work, coupling, load(work, coupling) + load(work, coupling + last))
    # T = tridiagonal - corner (e_0 e_n + e_n e_0), as tridiagonal' - v v^T corner with both end diagonals raised.
    for at in range(0, size, lanes):
        is_end = at == 0 or at == last
        pivot, value, raised = load(work, diagonal + at), load(work, right + at), nothing
        if around and is_end:
            pivot, raised = pivot + corner, corner
        if at > 0:
            link = load(work, coupling + at - lanes)
            pivot = pivot - link * load(work, upper + at - lanes)
            value = value + link * load(work, solved + at - lanes)
            if around:
                raised = raised + link * load(work, cyclic + at - lanes)
        inverse = reciprocal(pivot)
        store(work, upper + at, load(work, coupling + at) * inverse)
        store(work, solved + at, value * inverse)
        if around:
            store(work, cyclic + at, raised * inverse)
    value = load(work, solved + last)
    store(work, right + last, value)
    for at in range(last - lanes, -1, -lanes):
        value = load(work, solved + at) + load(work, upper + at) * value
        store(work, right + at, value)
    if around:
        raised = load(work, cyclic + last)
        for at in range(last - lanes, -1, -lanes):
            raised = load(work, cyclic + at) + load(work, upper + at) * raised
            store(work, cyclic + at, raised)
        one = spread(work.dtype.type(1))
        ends = load(work, right) + load(work, right + last)
        factor = ends * reciprocal(one - load(work, cyclic) - load(work, cyclic + last))
        for at in range(0, size, lanes):
            store(work, right + at, load(work, right + at) + factor * load(work, cyclic + at))
