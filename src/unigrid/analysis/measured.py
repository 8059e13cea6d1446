"""The measured convergence factor of a cycle, which Fourier analysis predicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..messages import checked_count, entries_of, shown

MOST_CYCLES = 10**6


def measured_factor(
    cycle: Callable[[Any, Any], Any], shape: tuple[int, ...] | None = None, *, cycles: int = 40, last: int = 3, seed: int = 0
) -> float:
    """Return the asymptotic convergence factor: the factor by which one late cycle reduces the norm of the error.

    The right-hand side is 0 and the start random, so u is the error. The factor is the geometric mean of the last `last` of
    `cycles` ratios; the error is rescaled to norm 1 after each cycle, so that it never underflows. On a singular problem its
    mean is removed.

    Parameters
    ----------
    cycle : callable
        Called as `cycle(b, u)` with arrays: a `StencilCycle`, or a network of `unigrid.equivalence.to_conv`.
    shape : tuple of int, optional
        Shape of the grid, by default that of the cycle's problem.
    cycles, last : int
        Number of cycles, and of the last ones that count. cycles > last >= 1.
    seed : int
        Seed of the random start.

    Raises
    ------
    ValueError, TypeError
        For counts that are not as above, for a nonlinear problem, or if neither a shape nor a cycle with a problem is given.

    Examples
    --------
    >>> import unigrid
    >>> from unigrid.analysis import measured_factor
    >>> cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=unigrid.RedBlack(1.0), pre=1, post=1, max_levels=4)
    >>> 0.1 < measured_factor(cycle) < 0.13
    True

    Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), section 2.5.2.
    """
    cycles, last, seed = (
        checked_count("cycles", cycles, 1, MOST_CYCLES),
        checked_count("last", last),
        checked_count("seed", seed, 0),
    )
    if not cycles > last:
        raise ValueError(f"cycles must be more than last, and last at least 1; got cycles={shown(cycles)}, last={shown(last)}")
    problem: Any = getattr(cycle, "problem", None)
    if getattr(problem, "nonlinear", None) is not None:
        raise TypeError("the factor of a nonlinear cycle depends on u; Solution.rate is that of a solve")
    if shape is None:
        if problem is None:
            raise ValueError(f"a {type(cycle).__name__} has no problem of its own: give the shape of its grid")
        shape = problem.shape
    shape = tuple(checked_count("an entry of shape", n) for n in entries_of(shape) or (shape,))
    fits = problem is not None and problem.shape == shape
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
