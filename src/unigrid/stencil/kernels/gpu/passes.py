"""Passes over memory that stand alone: transfers, and the residual of a corrected iterate; the Triton half of `sweeps`."""

import triton
import triton.language as tl

SIZES = ("nz", "ny", "nx", "mz", "my", "mx")  # one compiled kernel serves grids of all sizes


@triton.jit(do_not_specialize=SIZES)
def transfer(
    out, u, done, i_z, i_y, i_x, w_z, w_y, w_x, nz, ny, nx, mz, my, mx,
    WZ: tl.constexpr, WY: tl.constexpr, WX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a block of a row of (T0 x T1 x T2) u, from (mz, my, mx) to (nz, ny, nx), by places and weights of each row."""
    if tl.load(done) != 0:
        return
    row, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    z, y, x = row // ny, row % ny, tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = x < nx
    value = tl.zeros([BLOCK], dtype=u.dtype.element_ty)
    u += batch * mz * my * mx
    for c in tl.static_range(WX):
        place = tl.load(i_x + x * WX + c, mask=inside, other=0)
        column = tl.zeros([BLOCK], dtype=u.dtype.element_ty)
        for a in tl.static_range(WZ):
            for b in tl.static_range(WY):
                line = tl.load(i_z + z * WZ + a).to(tl.int64) * my + tl.load(i_y + y * WY + b)
                weight = tl.load(w_z + z * WZ + a) * tl.load(w_y + y * WY + b)
                column += weight * tl.load(u + line * mx + place, mask=inside, other=0.0)
        value += tl.load(w_x + x * WX + c, mask=inside, other=0.0) * column
    tl.store(out + (batch * nz * ny + row) * nx + x, value, mask=inside)


@triton.jit
def _sum_at(u, e, offset, mask, FRESH: tl.constexpr):
    """Return u + e at some points, or e alone, in double precision."""
    correction = tl.load(e + offset, mask=mask, other=0.0).to(tl.float64)
    if FRESH:
        return correction
    return tl.load(u + offset, mask=mask, other=0.0) + correction


@triton.jit(do_not_specialize=SIZES)
def correct(
    out, left, sums, b, u, e, coefficients, nz, ny, nx,
    FRESH: tl.constexpr, PZ: tl.constexpr, PY: tl.constexpr, PX: tl.constexpr, NDIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a block of a row of u + e to `out`, of b - A (u + e) to `left` and its sum of squares to `sums`.

    u, b and `out` are in double precision, e and `left` in single precision. FRESH stands for u = 0.
    """
    row, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    z, y, x = row // ny, row % ny, tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = x < nx
    start = batch * nz * ny * nx
    b, u, e, out, left = b + start, u + start, e + start, out + start, left + start
    class_z = tl.where(z == 0, 0, tl.where(z == nz - 1, 2, 1))
    class_y = tl.where(y == 0, 0, tl.where(y == ny - 1, 2, 1))
    class_x = tl.where(x == 0, 0, tl.where(x == nx - 1, 2, 1))
    line = z.to(tl.int64) * ny + y
    here = _sum_at(u, e, line * nx + x, inside, FRESH)
    diagonal = tl.load(coefficients + 58 + class_z * 10 + class_y * 3 + class_x, mask=inside, other=0.0)
    rest = tl.load(b + line * nx + x, mask=inside, other=0.0) - diagonal * here
    for end in tl.static_range(2):
        to = 2 * end - 1
        there = x + to
        if PX:
            there = (there + nx) % nx
        weight = tl.load(coefficients + 12 + 3 * end + class_x)
        rest += weight * _sum_at(u, e, line * nx + there, inside & (there >= 0) & (there < nx), FRESH)
        up = z + to
        if PZ:
            up = (up + nz) % nz
        weight = tl.load(coefficients + 3 * end + class_z)
        rest += weight * _sum_at(u, e, (up.to(tl.int64) * ny + y) * nx + x, inside & (up >= 0) & (up < nz), FRESH)
        if NDIM == 3:
            beside = y + to
            if PY:
                beside = (beside + ny) % ny
            weight = tl.load(coefficients + 6 + 3 * end + class_y)
            place = (z.to(tl.int64) * ny + beside) * nx + x
            rest += weight * _sum_at(u, e, place, inside & (beside >= 0) & (beside < ny), FRESH)
    tl.store(out + line * nx + x, here, mask=inside)
    tl.store(left + line * nx + x, rest.to(tl.float32), mask=inside)
    rest = tl.where(inside, rest, 0.0)
    program = row + tl.num_programs(0) * (tl.program_id(1) + tl.num_programs(1) * batch)
    tl.store(sums + program, tl.sum(rest * rest, 0))
