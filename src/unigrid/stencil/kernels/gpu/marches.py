"""Half-cycles that march along the first axis of a grid: the Triton half of `sweeps`.

A program owns a tile of columns and a chunk of planes (in 2-D rows). It holds the last planes in registers, and stage k works
on plane r - k while plane r arrives, so a plane is loaded once for all stages. What neighboring programs own is recomputed in
a halo, and results go to other arrays than those that are read: programs need not wait for each other.

A plane of a tile is two halves of T points. In row y the half A has the columns 2 m + y % 2, the half B the others, so in any
plane each half is of one color, and planes alternate. All stages of a step work on the same half. Of its neighbors, those in
planes and rows are at the same m, as is one of the two in the row; the other is one place away, a gather through shared memory.

Missing neighbors are coefficients: along each axis those of the lower and upper neighbor and the diagonal differ at the first
and the last point alone, so there are three classes of points along each axis, and a fourth beyond the ends.

Source: the wave of `cpu.compiled.waves`; T. Grosser et al., Hybrid hexagonal/classical tiling for GPUs, CGO 2014.
"""

import triton
import triton.language as tl

SIZES = ("nz", "ny", "nx", "mz", "my", "mx", "count_x", "planes")  # one compiled kernel serves grids of all sizes


@triton.jit
def _class(i, n):
    """Return 0 at the first place of an axis, 2 at the last, 1 between them, 3 beyond."""
    inner = tl.where(i == 0, 0, tl.where(i == n - 1, 2, 1))
    return tl.where((i < 0) | (i >= n), 3, inner)


@triton.jit
def _placed(i, n, periodic: tl.constexpr):
    """Return where place i is found: at the other end, where the axis is periodic."""
    if periodic:
        return (i % n + n) % n
    return i


@triton.jit
def _of_class(pointer, kind):
    """Return the coefficient of a class, 0 beyond the ends."""
    return tl.load(pointer + kind, mask=kind < 3, other=0.0)


@triton.jit
def _interpolated(e, indices, weights, z, x_terms, y_terms, strides, WZ: tl.constexpr, WY: tl.constexpr, WX: tl.constexpr):
    """Return P e in plane z: of each term along an axis, where it is and its weight."""
    total = x_terms[1][0] * 0.0
    for a in tl.static_range(WZ):
        plane = e + tl.load(indices + z * WZ + a).to(tl.int64) * strides[0]
        total += tl.load(weights + z * WZ + a) * _in_plane(plane, x_terms, y_terms, strides[1], WY, WX)
    return total


@triton.jit
def _in_plane(plane, x_terms, y_terms, stride, WY: tl.constexpr, WX: tl.constexpr):
    """Return what a plane of e adds."""
    total = x_terms[1][0] * 0.0
    for b in tl.static_range(WY):
        for c in tl.static_range(WX):
            total += y_terms[1][b] * x_terms[1][c] * tl.load(plane + y_terms[0][b] * stride + x_terms[0][c])
    return total


@triton.jit
def _terms(indices, weights, i, W: tl.constexpr):
    """Return the places and weights of the terms of row i of a band."""
    places, factors = (), ()
    for t in tl.static_range(W):
        places = places + (tl.load(indices + i * W + t),)
        factors = factors + (tl.load(weights + i * W + t),)
    return places, factors


@triton.jit
def _varying(pointers, between, kind_z, NDIM: tl.constexpr):
    """Return what depends on the class of a plane: in 2-D what holds `between` the ends stays in registers."""
    if NDIM == 3:
        return tl.load(pointers)
    return tl.where(kind_z == 1, between, tl.load(pointers, mask=kind_z != 1, other=0.0))


@triton.jit
def _arrival(
    u, e, indices, weights, r, nz, plane_size, offset_a, offset_b, inside_a, inside_b, a_terms, b_terms, y_terms, strides,
    READS: tl.constexpr, CORRECTS: tl.constexpr, PZ: tl.constexpr, PWZ: tl.constexpr, PWY: tl.constexpr, PWX: tl.constexpr,
    T: tl.constexpr,
):  # fmt: skip
    """Return both halves of plane r as they begin."""
    z = _placed(r, nz, PZ)
    arrives, plane = (z >= 0) & (z < nz), z.to(tl.int64) * plane_size
    a, b = tl.zeros([T], dtype=u.dtype.element_ty), tl.zeros([T], dtype=u.dtype.element_ty)
    if READS:
        a = tl.load(u + plane + offset_a, mask=inside_a & arrives, other=0.0)
        b = tl.load(u + plane + offset_b, mask=inside_b & arrives, other=0.0)
    if CORRECTS:
        at = tl.where(arrives, z, 0)
        more_a = _interpolated(e, indices, weights, at, a_terms, y_terms, strides, PWZ, PWY, PWX)
        more_b = _interpolated(e, indices, weights, at, b_terms, y_terms, strides, PWZ, PWY, PWX)
        a += tl.where(inside_a & arrives, more_a, 0.0)
        b += tl.where(inside_b & arrives, more_b, 0.0)
    return a, b


@triton.jit
def _places(
    own_y, own_x, ny, nx, PY: tl.constexpr, PX: tl.constexpr, NDIM: tl.constexpr, ROWS: tl.constexpr, HALF: tl.constexpr,
    HALO_Y: tl.constexpr, HALO_X: tl.constexpr, OWN_Y: tl.constexpr, OWN_X: tl.constexpr,
):  # fmt: skip
    """Return, of the points of a tile, row and column in the grid, and whether they are its own: of half A, and of B."""
    k = tl.arange(0, ROWS * HALF)
    y, m = k // HALF, k % HALF
    gy, ga, gb = own_y - HALO_Y + y, own_x - HALO_X + 2 * m + y % 2, own_x - HALO_X + 2 * m + 1 - y % 2
    own_rows = (gy >= own_y) & (gy < own_y + OWN_Y) & (gy < ny)
    if NDIM == 2:
        gy, own_rows = y, y == 0
    end_x = tl.minimum(own_x + OWN_X, nx)
    own_a, own_b = own_rows & (ga >= own_x) & (ga < end_x), own_rows & (gb >= own_x) & (gb < end_x)
    return _placed(gy, ny, PY), _placed(ga, nx, PX), _placed(gb, nx, PX), own_a, own_b


@triton.jit
def _neighbors(coefficients, class_a, class_b, ROWS: tl.constexpr, HALF: tl.constexpr):
    """Return, of the points of each half, the place in the other one of the neighbor that is one place away, and the
    coefficients of that at the same place and of this.
    """
    k = tl.arange(0, ROWS * HALF)
    is_even = (k // HALF) % 2 == 0
    shift = tl.where(is_even, 1, -1)
    shift_a = tl.minimum(tl.maximum(k - shift, 0), ROWS * HALF - 1)
    shift_b = tl.minimum(tl.maximum(k + shift, 0), ROWS * HALF - 1)
    low_a, high_a = _of_class(coefficients + 12, class_a), _of_class(coefficients + 15, class_a)
    low_b, high_b = _of_class(coefficients + 12, class_b), _of_class(coefficients + 15, class_b)
    a = (shift_a, tl.where(is_even, high_a, low_a), tl.where(is_even, low_a, high_a))
    b = (shift_b, tl.where(is_even, low_b, high_b), tl.where(is_even, high_b, low_b))
    return a, b


@triton.jit(do_not_specialize=SIZES)
def march(
    u, f, e, out, coarse, snapshot, sums, done, coefficients,
    p_z, p_y, p_x, pw_z, pw_y, pw_x,
    finish, r_y, r_x, rw_z, rw_y, rw_x, tiles_y, tiles_x,
    nz, ny, nx, mz, my, mx, count_x, planes,
    READS: tl.constexpr, CORRECTS: tl.constexpr, COLOR: tl.constexpr, OMEGAS: tl.constexpr,
    BEFORE: tl.constexpr, NORM: tl.constexpr, SNAPSHOT: tl.constexpr, AFTER: tl.constexpr, RESTRICT: tl.constexpr,
    NDIM: tl.constexpr, PZ: tl.constexpr, PY: tl.constexpr, PX: tl.constexpr, EVEN: tl.constexpr, MIRRORED: tl.constexpr,
    ROWS: tl.constexpr, HALF: tl.constexpr, AHEAD: tl.constexpr,
    HALO_Y: tl.constexpr, HALO_X: tl.constexpr, OWN_Y: tl.constexpr, OWN_X: tl.constexpr,
    PWZ: tl.constexpr, PWY: tl.constexpr, PWX: tl.constexpr,
    RWZ: tl.constexpr, RWY: tl.constexpr, RWX: tl.constexpr, COARSE_ROWS: tl.constexpr, COARSE_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Run the stages of a half-cycle, or of two, on one tile and chunk of planes of one right-hand side.

    Plane r of u arrives as zero, with READS as in `u`, with CORRECTS as u + P e. Then follow: BEFORE half-sweeps, each with its
    omega of OMEGAS; with NORM the residual, whose squares are summed up in `sums`, one number per program, and with SNAPSHOT a
    copy of u; AFTER half-sweeps; with RESTRICT the residual and its restriction, into `coarse`. A residual takes two stages,
    one for each half. The last u goes to `out`. Nothing is done where `done` is not zero.

    p_z .. pw_x : places and weights of each row of P, along each axis
    finish : for each plane the coarse plane whose residuals are complete with it, else -1
    r_y .. rw_x : where each row of R begins, and its weights; tiles_y, tiles_x : the first coarse row or column of each tile
    EVEN, MIRRORED : whether the diagonal is the same in all planes, and whether coefficients of inner neighbors are not
    ROWS, HALF : the rows of a tile, and the points of each half of its rows; powers of two
    OWN, HALO : how many rows or columns of a tile are its own, and after how many they begin; even
    AHEAD : whether a plane is asked for one step before it is needed
    planes : of a chunk
    """
    T: tl.constexpr = ROWS * HALF
    STAGES: tl.constexpr = BEFORE + 2 * NORM + AFTER + 2 * RESTRICT
    MEASURED: tl.constexpr = BEFORE + 1 if NORM else STAGES + 1  # the first of two stages
    RESTRICTED: tl.constexpr = STAGES - 1 if RESTRICT else STAGES + 1
    LEAD: tl.constexpr = BEFORE + AFTER + (RWZ if RESTRICT else 0) + 1 + (BEFORE + AFTER + (RWZ if RESTRICT else 0) + 1) % 2
    if tl.load(done) != 0:
        return
    ty, tx = tl.program_id(0) // count_x, tl.program_id(0) % count_x
    own_y, own_x = ty * OWN_Y, tx * OWN_X
    first, batch = tl.program_id(1) * planes, tl.program_id(2).to(tl.int64)
    is_last = tl.program_id(1) == tl.num_programs(1) - 1
    size, coarse_size, plane_size = nz.to(tl.int64) * ny * nx, mz.to(tl.int64) * my * mx, (ny * nx).to(tl.int64)
    u, f, out, snapshot = u + batch * size, f + batch * size, out + batch * size, snapshot + batch * size
    e, coarse = e + batch * coarse_size, coarse + batch * coarse_size
    strides = ((my * mx).to(tl.int64), mx)
    number_type: tl.constexpr = f.dtype.element_ty

    k = tl.arange(0, T)
    row_below, row_above = tl.maximum(k - HALF, 0), tl.minimum(k + HALF, T - 1)
    py, pa, pb, own_a, own_b = _places(
        own_y, own_x, ny, nx, PY, PX, NDIM, ROWS, HALF, HALO_Y, HALO_X, OWN_Y, OWN_X
    )  # fmt: skip
    class_y, class_a, class_b = _class(py, ny), _class(pa, nx), _class(pb, nx)
    inside_a, inside_b = (class_y < 3) & (class_a < 3), (class_y < 3) & (class_b < 3)
    offset_a, offset_b = py * nx + pa, py * nx + pb
    low_y, high_y = _of_class(coefficients + 6, class_y), _of_class(coefficients + 9, class_y)
    beside_a, beside_b = _neighbors(coefficients, class_a, class_b, ROWS, HALF)
    below, last_below = tl.load(coefficients + 1), tl.load(coefficients + 2)
    first_above, above = tl.load(coefficients + 3), tl.load(coefficients + 4)
    kind_a = tl.where(inside_a, class_y * 3 + class_a, 9)
    kind_b = tl.where(inside_b, class_y * 3 + class_b, 9)
    inverses, diagonals = coefficients + 18, coefficients + 58  # 4 classes of planes, 10 of the points of a plane
    inverse_a, inverse_b = tl.load(inverses + 10 + kind_a), tl.load(inverses + 10 + kind_b)
    if NORM or RESTRICT:
        diagonal_a, diagonal_b = tl.load(diagonals + 10 + kind_a), tl.load(diagonals + 10 + kind_b)
    else:
        diagonal_a, diagonal_b = inverse_a, inverse_b
    y_terms, a_terms, b_terms = (), (), ()
    if CORRECTS and NDIM == 2:
        y_terms = _terms(p_y, pw_y, tl.where(class_y < 3, py, 0), PWY)
        a_terms = _terms(p_x, pw_x, tl.where(class_a < 3, pa, 0), PWX)
        b_terms = _terms(p_x, pw_x, tl.where(class_b < 3, pb, 0), PWX)

    nothing = tl.zeros([T], dtype=number_type)
    u_a, u_b, f_a, f_b = (nothing,), (nothing,), (nothing,), (nothing,)
    for _ in tl.static_range(STAGES + 1):
        u_a, u_b, f_a, f_b = u_a + (nothing,), u_b + (nothing,), f_a + (nothing,), f_b + (nothing,)
    residual = nothing  # of the half that was worked on in the last step
    held_a, held_b = (nothing,), (nothing,)  # the last residuals
    for _ in tl.static_range(RWZ - 1):
        held_a, held_b = held_a + (nothing,), held_b + (nothing,)
    total = tl.zeros([T], dtype=tl.float64)
    end = tl.minimum(first + planes, nz)
    last = end + STAGES + (tl.where(is_last, RWZ, 0) if RESTRICT else 0)

    coming_a, coming_b = nothing, nothing
    if AHEAD:
        coming_a, coming_b = _arrival(
            u, e, p_z, pw_z, first - LEAD, nz, plane_size, offset_a, offset_b, inside_a, inside_b, a_terms, b_terms, y_terms,
            strides, READS, CORRECTS, PZ, PWZ, PWY, PWX, T,
        )  # fmt: skip

    for pair in range(first - LEAD, last, 2):
        for parity in tl.static_range(2):
            r = pair + parity
            new_a, new_b = coming_a, coming_b
            of_y, of_a, of_b = y_terms, a_terms, b_terms
            if CORRECTS and NDIM == 3:  # there are no registers left for them
                of_y = _terms(p_y, pw_y, tl.where(class_y < 3, py, 0), PWY)
                of_a = _terms(p_x, pw_x, tl.where(class_a < 3, pa, 0), PWX)
                of_b = _terms(p_x, pw_x, tl.where(class_b < 3, pb, 0), PWX)
            coming_a, coming_b = _arrival(
                u, e, p_z, pw_z, r + AHEAD, nz, plane_size, offset_a, offset_b, inside_a, inside_b, of_a, of_b, of_y,
                strides, READS, CORRECTS, PZ, PWZ, PWY, PWX, T,
            )  # fmt: skip
            if not AHEAD:
                new_a, new_b = coming_a, coming_b
            z = _placed(r, nz, PZ)
            arrives, plane = (z >= 0) & (z < nz), z.to(tl.int64) * plane_size
            next_a, next_b = (new_a,), (new_b,)
            next_fa = (tl.load(f + plane + offset_a, mask=inside_a & arrives, other=0.0),)
            next_fb = (tl.load(f + plane + offset_b, mask=inside_b & arrives, other=0.0),)
            for j in tl.static_range(STAGES + 1):
                next_a, next_b, next_fa, next_fb = (
                    next_a + (u_a[j],), next_b + (u_b[j],), next_fa + (f_a[j],), next_fb + (f_b[j],)
                )  # fmt: skip
            u_a, u_b, f_a, f_b = next_a, next_b, next_fa, next_fb

            if (parity + 1) % 2 == COLOR:  # then this step works on A
                active, passive, source = u_a, u_b, f_a
                neighbors, kind, inverse_of, diagonal_of = beside_a, kind_a, inverse_a, diagonal_a
                inside, owned = inside_a, own_a
            else:
                active, passive, source = u_b, u_a, f_b
                neighbors, kind, inverse_of, diagonal_of = beside_b, kind_b, inverse_b, diagonal_b
                inside, owned = inside_b, own_b
            changed = (active[0],)
            for stage in tl.static_range(1, STAGES + 1):
                p = r - stage
                here, beside, low, high = active[stage], passive[stage], below, above
                if MIRRORED:  # beyond an end u is zero, and its coefficient does not matter
                    low, high = tl.where(p == nz - 1, last_below, below), tl.where(p == 0, first_above, above)
                exists = (p >= 0) & (p < nz) | PZ
                if not EVEN:
                    kind_z = tl.where(p == 0, 0, tl.where(p == nz - 1, 2, 1))
                around = source[stage] + low * active[stage + 1] + high * changed[stage - 1]
                around += neighbors[1] * beside + neighbors[2] * tl.gather(beside, neighbors[0], 0)
                if NDIM == 3:
                    around += low_y * tl.gather(beside, row_below, 0) + high_y * tl.gather(beside, row_above, 0)
                if stage == MEASURED or stage == MEASURED + 1 or stage >= RESTRICTED:
                    diagonal = diagonal_of
                    if not EVEN:
                        diagonal = _varying(diagonals + kind_z * 10 + kind, diagonal_of, kind_z, NDIM)
                    left = tl.where(inside & exists, around - diagonal * here, 0.0)
                    if stage == MEASURED or stage == MEASURED + 1:
                        counted = owned & (p >= first) & (p < end)
                        wide = tl.where(counted, left, 0.0).to(tl.float64)
                        total += wide * wide
                    if stage == RESTRICTED + 1:
                        full_a, full_b = residual, left
                        if (parity + 1) % 2 == COLOR:
                            full_a, full_b = left, residual
                        next_a, next_b = (), ()
                        for j in tl.static_range(1, RWZ):
                            next_a, next_b = next_a + (held_a[j],), next_b + (held_b[j],)
                        held_a, held_b = next_a + (full_a,), next_b + (full_b,)
                    if stage == RESTRICTED:
                        fresh = left
                    changed = changed + (here,)
                else:
                    inverse = inverse_of
                    if not EVEN:
                        inverse = _varying(inverses + kind_z * 10 + kind, inverse_of, kind_z, NDIM)
                    if not PZ:
                        inverse = tl.where(exists, inverse, 0.0)
                    step = OMEGAS[stage - 1 - (2 if stage > MEASURED else 0)] * (inverse * around - here)
                    changed = changed + (here + step,)
            changed = changed + (active[STAGES + 1],)
            if (parity + 1) % 2 == COLOR:
                u_a = changed
            else:
                u_b = changed

            if RESTRICT:
                residual = fresh
                p = r - STAGES
                finishes = (p >= first) & ((p < end) | is_last & (p < nz + RWZ))
                c = tl.load(finish + p, mask=finishes, other=-1)
                if c >= 0:
                    _restrict(
                        coarse + c.to(tl.int64) * strides[0], held_a, held_b, rw_z + c * RWZ, r_y, r_x, rw_y, rw_x,
                        tl.load(tiles_y + ty), tl.load(tiles_y + ty + 1), tl.load(tiles_x + tx), tl.load(tiles_x + tx + 1),
                        own_y - HALO_Y, own_x - HALO_X, mx, NDIM, RWZ, RWY, RWX, HALF, T, COARSE_ROWS, COARSE_COLUMNS,
                    )  # fmt: skip
            if SNAPSHOT:
                p = r - BEFORE - 1
                stored = (p >= first) & (p < end)
                plane = p.to(tl.int64) * plane_size
                tl.store(snapshot + plane + offset_a, u_a[BEFORE + 1], mask=own_a & stored)
                tl.store(snapshot + plane + offset_b, u_b[BEFORE + 1], mask=own_b & stored)
            p = r - STAGES
            stored = (p >= first) & (p < end)
            plane = p.to(tl.int64) * plane_size
            tl.store(out + plane + offset_a, u_a[STAGES], mask=own_a & stored)
            tl.store(out + plane + offset_b, u_b[STAGES], mask=own_b & stored)

    if NORM:
        program = tl.program_id(0) + tl.num_programs(0) * (tl.program_id(1) + tl.num_programs(1) * tl.program_id(2))
        tl.store(sums + program, tl.sum(total, 0))


@triton.jit
def _restrict(
    coarse, held_a, held_b, weights, r_y, r_x, rw_y, rw_x, first_y, end_y, first_x, end_x, low_y, low_x, mx,
    NDIM: tl.constexpr, RWZ: tl.constexpr, RWY: tl.constexpr, RWX: tl.constexpr, HALF: tl.constexpr, T: tl.constexpr,
    COARSE_ROWS: tl.constexpr, COARSE_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the points of a coarse plane that a tile owns, from the residuals that are held."""
    a, b = tl.load(weights) * held_a[0], tl.load(weights) * held_b[0]
    for t in tl.static_range(1, RWZ):
        weight = tl.load(weights + t)
        a, b = a + weight * held_a[t], b + weight * held_b[t]
    both = tl.reshape(tl.join(a, b), [2 * T])
    j = tl.arange(0, COARSE_ROWS * COARSE_COLUMNS)
    jy, jx = first_y + j // COARSE_COLUMNS, first_x + j % COARSE_COLUMNS
    owned = (jy < end_y) & (jx < end_x)
    x = tl.load(r_x + jx, mask=owned, other=0) - low_x
    y = tl.load(r_y + jy, mask=owned, other=0) - low_y
    if NDIM == 2:
        y = jy * 0
    value = tl.zeros([COARSE_ROWS * COARSE_COLUMNS], dtype=a.dtype)
    for s in tl.static_range(RWY):
        for t in tl.static_range(RWX):
            weight = tl.load(rw_y + jy * RWY + s, mask=owned, other=0.0) * tl.load(rw_x + jx * RWX + t, mask=owned, other=0.0)
            row, column = y + s, x + t
            at = 2 * (row * HALF + column // 2) + (row + column) % 2
            value += weight * tl.gather(both, tl.minimum(tl.maximum(at, 0), 2 * T - 1), 0)
    tl.store(coarse + jy * mx + jx, value, mask=owned)


@triton.jit
def _around(source, beside, neighbors, low_y, high_y, below, above):
    """Return the source and what the neighbors add to it."""
    around = source + neighbors[1] * beside + neighbors[2] * tl.gather(beside, neighbors[0], 0)
    return around + low_y * tl.gather(beside, below, 0) + high_y * tl.gather(beside, above, 0)


@triton.jit(do_not_specialize=SIZES)
def relax_tile(
    u, f, e, out, coarse, sums, done, coefficients,
    p_y, p_x, pw_y, pw_x, r_y, r_x, rw_z, rw_y, rw_x, tiles_y, tiles_x, ny, nx, my, mx, count_x,
    READS: tl.constexpr, CORRECTS: tl.constexpr, COLOR: tl.constexpr, OMEGAS: tl.constexpr,
    BEFORE: tl.constexpr, NORM: tl.constexpr, RESTRICT: tl.constexpr, PY: tl.constexpr, PX: tl.constexpr,
    ROWS: tl.constexpr, HALF: tl.constexpr,
    HALO_Y: tl.constexpr, HALO_X: tl.constexpr, OWN_Y: tl.constexpr, OWN_X: tl.constexpr,
    PWY: tl.constexpr, PWX: tl.constexpr, RWY: tl.constexpr, RWX: tl.constexpr,
    COARSE_ROWS: tl.constexpr, COARSE_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Do what `march` does on a tile of a 2-D grid that is held as a whole: on small grids, where a march would be a wait for
    each of its steps. One plane, no AFTER.
    """
    T: tl.constexpr = ROWS * HALF
    if tl.load(done) != 0:
        return
    ty, tx = tl.program_id(0) // count_x, tl.program_id(0) % count_x
    own_y, own_x, batch = ty * OWN_Y, tx * OWN_X, tl.program_id(2).to(tl.int64)
    u, f, out = u + batch * ny * nx, f + batch * ny * nx, out + batch * ny * nx
    e, coarse = e + batch * my * mx, coarse + batch * my * mx
    k = tl.arange(0, T)
    below, above = tl.maximum(k - HALF, 0), tl.minimum(k + HALF, T - 1)
    py, pa, pb, own_a, own_b = _places(
        own_y, own_x, ny, nx, PY, PX, 3, ROWS, HALF, HALO_Y, HALO_X, OWN_Y, OWN_X
    )  # fmt: skip
    class_y, class_a, class_b = _class(py, ny), _class(pa, nx), _class(pb, nx)
    inside_a, inside_b = (class_y < 3) & (class_a < 3), (class_y < 3) & (class_b < 3)
    offset_a, offset_b = py * nx + pa, py * nx + pb
    low_y, high_y = _of_class(coefficients + 6, class_y), _of_class(coefficients + 9, class_y)
    beside_a, beside_b = _neighbors(coefficients, class_a, class_b, ROWS, HALF)
    kind_a, kind_b = tl.where(inside_a, class_y * 3 + class_a, 9), tl.where(inside_b, class_y * 3 + class_b, 9)
    inverse_a, inverse_b = tl.load(coefficients + 28 + kind_a), tl.load(coefficients + 28 + kind_b)

    f_a = tl.load(f + offset_a, mask=inside_a, other=0.0)
    f_b = tl.load(f + offset_b, mask=inside_b, other=0.0)
    u_a, u_b = f_a * 0.0, f_b * 0.0
    if READS:
        u_a = tl.load(u + offset_a, mask=inside_a, other=0.0)
        u_b = tl.load(u + offset_b, mask=inside_b, other=0.0)
    if CORRECTS:
        y_terms = _terms(p_y, pw_y, tl.where(class_y < 3, py, 0), PWY)
        a_terms = _terms(p_x, pw_x, tl.where(class_a < 3, pa, 0), PWX)
        b_terms = _terms(p_x, pw_x, tl.where(class_b < 3, pb, 0), PWX)
        u_a += tl.where(inside_a, _in_plane(e, a_terms, y_terms, mx, PWY, PWX), 0.0)
        u_b += tl.where(inside_b, _in_plane(e, b_terms, y_terms, mx, PWY, PWX), 0.0)
    for number in tl.static_range(BEFORE):
        if (COLOR + number) % 2 == 0:
            around = _around(f_a, u_b, beside_a, low_y, high_y, below, above)
            u_a += OMEGAS[number] * (inverse_a * around - u_a)
        else:
            around = _around(f_b, u_a, beside_b, low_y, high_y, below, above)
            u_b += OMEGAS[number] * (inverse_b * around - u_b)
    tl.store(out + offset_a, u_a, mask=own_a)
    tl.store(out + offset_b, u_b, mask=own_b)
    if NORM or RESTRICT:
        a = _around(f_a, u_b, beside_a, low_y, high_y, below, above) - tl.load(coefficients + 68 + kind_a) * u_a
        b = _around(f_b, u_a, beside_b, low_y, high_y, below, above) - tl.load(coefficients + 68 + kind_b) * u_b
        if NORM:
            wide_a, wide_b = tl.where(own_a, a, 0.0).to(tl.float64), tl.where(own_b, b, 0.0).to(tl.float64)
            program = tl.program_id(0) + tl.num_programs(0) * tl.program_id(2)
            tl.store(sums + program, tl.sum(wide_a * wide_a + wide_b * wide_b, 0))
        if RESTRICT:
            held_a, held_b = (tl.where(inside_a, a, 0.0),), (tl.where(inside_b, b, 0.0),)
            _restrict(
                coarse, held_a, held_b, rw_z, r_y, r_x, rw_y, rw_x,
                tl.load(tiles_y + ty), tl.load(tiles_y + ty + 1), tl.load(tiles_x + tx), tl.load(tiles_x + tx + 1),
                own_y - HALO_Y, own_x - HALO_X, mx, 3, 1, RWY, RWX, HALF, T, COARSE_ROWS, COARSE_COLUMNS,
            )  # fmt: skip
