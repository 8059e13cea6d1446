"""The passes over memory of flexible conjugate gradients for symmetric stencils, with all their inner products.

The image w = -A p is carried along: w <- -A z + beta w, which reads no neighbor that another core writes. Sums are in double
precision. Those of each row are kept in an array, (2, rows), where it has place for them.
"""

import numpy as np

from .compiling import LOOPS, compiled
from .couplings import _add_couplings

summing = compiled(**LOOPS, _nrt=False)


@summing
def rows_between(first, last, shape):
    """Return the first and the last row of some slabs, rows counted through the grid."""
    return (first * shape[1], last * shape[1]) if shape[0] > 1 else (first, last)


@summing
def probe(z, w, stencil, kept, first, last):
    """Return the sums of z w and of (D z)^2, D the diagonal of A."""
    along, square = 0.0, 0.0
    start, stop = rows_between(first, last, z.shape)
    for row in range(start, stop):
        i, j = row // z.shape[1], row % z.shape[1]
        z_row, w_row, diagonal = z[i, j], w[i, j], stencil.diagonal[i, j]
        row_along, row_square = 0.0, 0.0
        for k in range(z.shape[2]):
            value = np.float64(z_row[k])
            scaled = np.float64(diagonal[k]) * value
            row_along += value * np.float64(w_row[k])
            row_square += scaled * scaled
        along += row_along
        square += row_square
        if kept.shape[1] > 0:
            kept[0, row], kept[1, row] = row_along, row_square
    return along, square


@summing
def turn(p, w, z, r, beta, stencil, kept, first, last):
    """Write p <- z + beta p and w <- -A z + beta w; return the sums of p w and of p r."""
    along_image, along_residual = 0.0, 0.0
    start, stop = rows_between(first, last, p.shape)
    for row in range(start, stop):
        i, j = row // p.shape[1], row % p.shape[1]
        p_row, w_row, z_row, r_row, diagonal = p[i, j], w[i, j], z[i, j], r[i, j], stencil.diagonal[i, j]
        if beta == 0:  # of p and w, which may hold anything
            for k in range(p.shape[2]):
                p_row[k] = z_row[k]
                w_row[k] = -diagonal[k] * z_row[k]
        else:
            for k in range(p.shape[2]):
                p_row[k] = z_row[k] + beta * p_row[k]
                w_row[k] = beta * w_row[k] - diagonal[k] * z_row[k]
        _add_couplings(w_row, z, stencil, i, j)
        row_image, row_residual = 0.0, 0.0
        for k in range(p.shape[2]):
            row_image += np.float64(p_row[k]) * np.float64(w_row[k])
            row_residual += np.float64(p_row[k]) * np.float64(r_row[k])
        along_image += row_image
        along_residual += row_residual
        if kept.shape[1] > 0:
            kept[0, row], kept[1, row] = row_image, row_residual
    return along_image, along_residual


@summing
def advance(u, r, p, w, step, kept, first, last):
    """Write u <- u + step p and r <- r + step w; return the sum of squares of r."""
    total = 0.0
    start, stop = rows_between(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // u.shape[1], row % u.shape[1]
        u_row, r_row, p_row, w_row = u[i, j], r[i, j], p[i, j], w[i, j]
        row_total = 0.0
        for k in range(u.shape[2]):
            u_row[k] += step * p_row[k]
            value = r_row[k] + step * w_row[k]
            r_row[k] = value
            row_total += np.float64(value) * np.float64(value)
        total += row_total
        if kept.shape[1] > 0:
            kept[0, row] = row_total
    return total


@summing
def squares(u, kept, first, last):
    """Keep the sums of u^2 of rows."""
    start, stop = rows_between(first, last, u.shape)
    for row in range(start, stop):
        u_row = u[row // u.shape[1], row % u.shape[1]]
        row_total = 0.0
        for k in range(u.shape[2]):
            value = np.float64(u_row[k])
            row_total += value * value
        kept[0, row] = row_total


@summing
def weighted(u, weights0, weights1, weights2, kept, first, last):
    """Keep the sums of w0 w1 w2 u of rows."""
    start, stop = rows_between(first, last, u.shape)
    for row in range(start, stop):
        i, j = row // u.shape[1], row % u.shape[1]
        u_row = u[i, j]
        row_total = 0.0
        for k in range(u.shape[2]):
            row_total += weights2[k] * np.float64(u_row[k])
        kept[0, row] = weights0[i] * weights1[j] * row_total


@summing
def scaled(out, u, scale, first, last):
    """Write u times scale, in the precision of `out`."""
    start, stop = rows_between(first, last, u.shape)
    for row in range(start, stop):
        out_row, u_row = out[row // u.shape[1], row % u.shape[1]], u[row // u.shape[1], row % u.shape[1]]
        for k in range(u.shape[2]):
            out_row[k] = u_row[k] * scale
