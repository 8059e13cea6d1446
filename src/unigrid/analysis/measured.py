"""The convergence factor of a cycle as it is measured: what Fourier analysis predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def measured_factor(
    cycle: Callable[[Any, Any], Any], shape: tuple[int, ...] | None = None, *, cycles: int = 40, last: int = 3, seed: int = 0
) -> float:
    """Return the asymptotic convergence factor: by how much one late cycle shrinks the error.

    f = 0 and a random start, so that u itself is the error; the geometric mean of its last `last` of `cycles` ratios, the error
    scaled back to size 1 after each, so that it never vanishes. On a singular problem the mean is taken out.

    Parameters
    ----------
    cycle : callable
        A cycle that is called as `cycle(f, u)` with arrays: a `StencilCycle`, a network of `unigrid.equivalence.to_conv`.
    shape : tuple of int, optional
        Of the grid; if not given, that of the cycle's problem.
    cycles, last : int
        How many cycles are done, and how many of the last ones count. cycles > last >= 1.
    seed : int
        Of the start.

    Raises
    ------
    ValueError
        For counts that are not as above, or a cycle without a problem and no shape.

    Examples
    --------
    >>> import unigrid
    >>> from unigrid.analysis import measured_factor
    >>> cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=unigrid.RedBlack(1.0), pre=1, post=1, max_levels=4)
    >>> 0.1 < measured_factor(cycle) < 0.13
    True

    Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), section 2.5.2.
    """
    if not cycles > last >= 1:
        raise ValueError(f"cycles must be more than last, and last at least 1; got cycles={cycles}, last={last}")
    problem: Any = getattr(cycle, "problem", None)
    if shape is None:
        if problem is None:
            raise ValueError(f"a {type(cycle).__name__} has no problem of its own: give the shape of its grid")
        shape = tuple(problem.shape)
    fits = problem is not None and problem.shape == tuple(shape)
    project: Any = problem.compatible if fits else (lambda u: u)
    zero, error = np.zeros(shape), project(np.random.default_rng(seed).standard_normal(shape))
    error /= np.linalg.norm(error)
    ratios = []
    for _ in range(cycles):
        error = project(cycle(zero, error))
        ratios.append(float(np.linalg.norm(error)))
        if not 0.0 < ratios[-1] < math.inf:
            return ratios[-1]
        error /= ratios[-1]
    return math.prod(ratios[-last:]) ** (1.0 / last)
