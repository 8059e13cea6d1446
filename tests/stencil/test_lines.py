"""Line relaxation for coefficients that vary: every line against a dense solve."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.coupled import matrix_of
from unigrid.stencil.galerkin_levels import levels_of
from unigrid.stencil.kernels.cpu import coupled, threads

SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann")]


def every_other(n, parity, seam):
    """Return groups of indices that are relaxed at once: across a seam the last one is a neighbor of the first."""
    chosen = list(range(parity, n, 2))
    return [chosen[:-1], chosen[-1:]] if seam and parity == 0 else [chosen]


def relaxed(u, f, axis, stencil):
    """Return u after one zebra sweep, line by line."""
    A, numbers, (n0, *_), across = matrix_of(stencil).toarray(), np.arange(u.size).reshape(u.shape), u.shape, 3 - axis
    u = u.copy()
    for plane, parity in itertools.product(range(2 if n0 > 1 else 1), range(2)):
        planes = every_other(n0, plane, stencil.seams[0])
        for chosen in itertools.product(planes, every_other(u.shape[across], parity, stencil.seams[across])):
            r = f.ravel() - A @ u.ravel()
            for i, p in itertools.product(*chosen):
                line = numbers[i, p, :] if axis == 2 else numbers[i, :, p]
                u.reshape(-1)[line] += np.linalg.solve(A[np.ix_(line, line)], r[line])
    return u


def drawn(rng, ndim, most):
    shape = tuple(int(n) for n in rng.integers(3, most, ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    a = np.exp(rng.standard_normal(shape))
    return unigrid.Poisson(shape, boundary=sides, centering="cell", coefficient=a, reaction=0.1)


@pack
@pytest.mark.parametrize("seed", range(60))
def test_lines_are_solved_exactly_every_other_one_first(seed, monkeypatch):
    """Fewer and more lines than a vector has numbers; cyclic lines, of two points too; 5 to 27 points."""
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 1)
    monkeypatch.setattr(threads, "PARALLEL_FROM", 1)
    rng = np.random.default_rng(seed)
    ndim = 2 + seed % 2
    levels = levels_of(drawn(rng, ndim, 7 if ndim == 3 else 75 if seed % 8 == 0 else 12), "points", 1, None)
    for level, axis in itertools.product(levels[:2], (1, 2)):
        if level.shape[axis] > 1:
            f, u = rng.standard_normal(level.shape), rng.standard_normal(level.shape)
            wanted = relaxed(u, f, axis, level.operator.stencil)
            for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-3)):
                got = u.astype(dtype)
                stencil = level.operator.tables(np.dtype(dtype))
                threads.limited_to(1 + seed % 3).run(coupled.relax_lines, got, f.astype(dtype), axis, stencil)
                assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()
