"""Periodic axes of one or two cells, where a point's neighbors are one another or itself: the second difference as it is."""

import numpy as np
import pytest
import scipy.sparse.linalg
from tiers import pack

import unigrid
from unigrid.stencil.smoothers import SMOOTHERS

SHAPES = [(2, 40), (40, 2), (1, 40), (40, 1), (2, 2), (1, 12, 13), (12, 2, 13), (12, 13, 2), (2, 1, 70), (2, 300), (2,), (1,)]


def sides(shape, others):
    return ["periodic" if n < 3 else others for n in shape]


def solution(problem, b):
    """Solve A u = b by sparse factors, with mean zero if A is singular."""
    matrix, constant = problem.matrix(), np.ones((problem.grid.size, 1))
    if not problem.singular:
        return scipy.sparse.linalg.spsolve(matrix.tocsc(), b.ravel()).reshape(problem.shape)
    weights = problem.weights.ravel() / problem.weights.sum()
    bordered = scipy.sparse.block_array([[matrix, constant], [weights[None], None]], format="csc")
    return scipy.sparse.linalg.spsolve(bordered, np.append(b.ravel(), 0.0))[:-1].reshape(problem.shape)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("shape", [(2, 5), (5, 2), (1, 5), (2, 1, 4), (2,), (1,)], ids=str)
def test_the_matrix_is_the_second_difference_written_out(shape, centering, written_out):
    problem = unigrid.Poisson(shape, boundary=sides(shape, "neumann"), centering=centering, reaction=0.5)
    kinds = [("periodic",) * 2 if n < 3 else ("neumann",) * 2 for n in shape]
    expected, _ = written_out(shape, problem.lengths, kinds, [(0.0, 0.0)] * len(shape), centering, 0.5)
    difference = problem.matrix() - expected
    assert abs(difference).max() <= 1e-12 * abs(expected).max()


@pack
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("others", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("reaction", [0.0, 1.0])
@pytest.mark.parametrize("smoother", [None, *SMOOTHERS])
def test_every_smoother_solves_what_sparse_factors_solve(shape, others, centering, reaction, smoother, rng, deep):
    h = 1.0 / max(shape)
    problem = unigrid.Poisson(shape, boundary=sides(shape, others), centering=centering, reaction=reaction, spacing=h)
    f = rng.standard_normal(shape)
    f -= problem.mean(f) if problem.singular else 0.0
    cycle = unigrid.StencilCycle(problem) if smoother is None else unigrid.StencilCycle(problem, smoother=smoother)
    u, expected = cycle.solve(f, rtol=1e-10, maxiter=100).u, solution(problem, f)
    assert np.abs(u - expected).max() <= 1e-7 * max(np.abs(expected).max(), 1e-6)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(2, 90, 91), (90, 2, 91), (91, 90, 1), (2, 3000), (3000, 1)], ids=str)
def test_fused_cycles_on_threads(shape, threads, use_threads, rng):
    use_threads(threads)
    problem = unigrid.Poisson(shape, boundary=sides(shape, "dirichlet"))
    f = rng.standard_normal(shape)
    u = unigrid.StencilCycle(problem).solve(f, rtol=1e-9).u
    assert np.linalg.norm(f.ravel() - problem.matrix() @ u.ravel()) <= 2e-9 * np.linalg.norm(f)


def test_one_cell_is_the_reaction_alone():
    u = unigrid.solve(np.array([[3.0]]), boundary="periodic", reaction=1e-9).u
    assert u[0, 0] == pytest.approx(3e9, rel=1e-14)


def test_a_long_single_cell_does_not_hide_that_the_mean_is_nearly_free(rng):
    f = rng.standard_normal((1, 64))
    problem = unigrid.Poisson(f.shape, boundary="periodic", spacing=(1e6, 0.01), reaction=1e-9)
    assert problem.has_constant_apart
    u = unigrid.StencilCycle(problem).solve(f).u
    assert u.mean() == pytest.approx(f.mean() / 1e-9, rel=1e-12)
