"""Which smoothing a cycle does where nothing is said: red-black with an omega for each half-sweep.

The half-sweeps of a cycle work together: what one leaves, another takes. So their omegas were sought together, such that full
multigrid and two cycles leave the least of the residual of a random right-hand side, on grids of equal spacing, nested and not,
with sides of all kinds. On others too, of unequal spacing, with a reaction, they take no more cycles than any single omega
(benchmarks/tuning/omega_of_each_half_sweep.py). In time they are within a twentieth of the best of those, over sizes where they
save a cycle and sizes where they do not (benchmarks/claims/smoothers_and_cycles.py).

To the accuracy of the discretization, which is one pass of full multigrid, less will do in 2-D.
"""

from __future__ import annotations

from typing import NamedTuple

from ..cycle import Smoother
from .problem import Poisson
from .smoothers import RedBlack

SWEEPS = 2  # of any other smoother, before and after the correction
# By dimension: the omegas before the correction, and those after it.
OMEGAS = {
    2: ((1.0, 1.186, 1.799, 1.62, 1.121, 1.38), (1.038, 0.891, 1.693, 0.918)),
    3: ((1.4, 1.523, 1.61, 1.611, 1.057, 1.477), (1.344, 0.999, 1.203, 1.229, 1.445, 0.832)),
}
# One sweep before and after. The error of a pass over that of the discretization (tests/stencil/test_accuracy.py, all mixes of
# sides): on vertices 1.00 to 1.06, on cells up to 1.14, with the omegas above 1.09. On vertices 1 : 10 it is 1.10 (1.3: 1.19);
# on cells a larger omega would do better. In 3-D one sweep is not enough: up to 5.5.
ONE_PASS = {2: 1.28}


class Smoothing(NamedTuple):
    """A smoother and its steps before the correction, and those after it."""

    smoother: Smoother
    pre: int
    post_smoother: Smoother
    post: int


def tuned(problem: Poisson) -> Smoothing | None:
    """Return the smoothing that is tuned for grids of that dimension; None in 1-D."""
    omegas = OMEGAS.get(problem.grid.ndim)
    if omegas is None:
        return None
    down, up = (RedBlack(each) for each in omegas)
    return Smoothing(down, 1, up, 1)


def for_one_pass(problem: Poisson) -> Smoothing | None:
    """Return the smoothing that one pass of full multigrid needs; None where it is that of any cycle."""
    omega = ONE_PASS.get(problem.grid.ndim)
    if omega is None:
        return None
    smoother = RedBlack(omega)
    return Smoothing(smoother, 1, smoother, 1)
