"""Coefficients at the faces between unknowns."""

from .compiling import LOOPS, compiled, inlined
from .gradients import rows_between

summing = compiled(**LOOPS, _nrt=False)


@inlined
def _between(out, a, b):
    for k in range(out.shape[0]):
        out[k] = 2.0 / (1.0 / a[k] + 1.0 / b[k])


@summing
def harmonic(faces, a, first, last):
    """Write the harmonic means of neighbors, boxes of three axes: face i lies before unknown i, and those at ends are kept."""
    n1, n2 = a.shape[1:]
    start, stop = rows_between(first, last, a.shape)
    for row in range(start, stop):
        i, j = row // n1, row % n1
        if i > 0:
            _between(faces[0][i, j], a[i - 1, j], a[i, j])
        if j > 0:
            _between(faces[1][i, j], a[i, j - 1], a[i, j])
        _between(faces[2][i, j, 1:n2], a[i, j, : n2 - 1], a[i, j, 1:])
