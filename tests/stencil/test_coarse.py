"""Coarsest levels: the dense, the sparse and the Fourier solver against spsolve, on every pair of sides."""

import functools
import itertools
import pickle
import time

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import pack

import unigrid
from unigrid.stencil import coarse
from unigrid.stencil.coarse import DirectSolver, FourierSolver

SIDES = [
    ("dirichlet", "dirichlet"),
    ("dirichlet", "neumann"),
    ("neumann", "dirichlet"),
    ("neumann", "neumann"),
    ("periodic", "periodic"),
]
SHAPES = {1: [(1,), (2,), (3,), (4,), (7,), (16,), (35,)], 2: [(5, 8), (1, 6), (9, 3)], 3: [(4, 5, 3), (3, 1, 6)]}


def _problems():
    for centering, ndim in itertools.product(("vertex", "cell"), (1, 2, 3)):
        for number, kinds in enumerate(itertools.product(SIDES, repeat=ndim)):
            for shape in SHAPES[ndim] if ndim < 3 else [SHAPES[3][number % 2]]:
                least = [3 if "periodic" in pair else pair.count("neumann") if centering == "vertex" else 1 for pair in kinds]
                shape = tuple(max(n, m) for n, m in zip(shape, least, strict=True))
                names = ",".join(f"{low[0]}{high[0]}" for low, high in kinds)
                yield pytest.param(shape, kinds, centering, id=f"{centering}-{'x'.join(map(str, shape))}-{names}")


PROBLEMS = list({param.id: param for param in _problems()}.values())
EVERY_PROBLEM = pytest.mark.parametrize(("shape", "kinds", "centering"), PROBLEMS)


@functools.cache
def problem_of(shape, kinds, centering, reaction=0.0):
    spacing = (0.5, 0.3, 0.7)[: len(shape)]
    return unigrid.Poisson(shape, spacing=spacing, boundary=list(kinds), centering=centering, reaction=reaction)


@functools.cache
def factors_of(problem):
    """The factors of A; where A is singular, with the last equation replaced by "the mean is zero"."""
    matrix = problem.matrix().tolil()
    if problem.singular:
        matrix[-1, :] = problem.weights.ravel()[None, :]
    return scipy.sparse.linalg.splu(scipy.sparse.csc_array(matrix))


def expected_solution(problem, b):
    """By SciPy's sparse direct solver."""
    right = b.astype(float).ravel().copy()
    if problem.singular:
        right[-1] = 0.0
    return factors_of(problem).solve(right).reshape(problem.shape)


@pytest.fixture(params=["fourier", "dense", "sparse"])
def solver(request, monkeypatch):
    monkeypatch.setattr(coarse, "DENSE_UNKNOWNS", 0 if request.param == "sparse" else 10**6)
    return FourierSolver if request.param == "fourier" else DirectSolver


@pack
@EVERY_PROBLEM
def test_the_solution_is_that_of_spsolve(solver, shape, kinds, centering, rng):
    for reaction in (0.0, 1.3):
        problem = problem_of(shape, kinds, centering, reaction)
        b = problem.compatible(rng.standard_normal(shape))
        b_before, expected = b.copy(), expected_solution(problem, b)
        made = solver(problem)(problem.operator, b, None)
        assert made.shape == shape
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-11 * max(1.0, np.abs(expected).max()))
        assert abs(problem.mean(made)) <= 1e-12 or not problem.singular
        np.testing.assert_array_equal(b, b_before)


@pack
@EVERY_PROBLEM
def test_float32_stays_float32(solver, shape, kinds, centering, rng):
    problem = problem_of(shape, kinds, centering, 0.5)
    b = rng.standard_normal(shape).astype(np.float32)
    made = solver(problem)(problem.operator, b, None)
    assert made.dtype == np.float32
    expected = expected_solution(problem, b)
    np.testing.assert_allclose(made, expected, rtol=0, atol=3e-5 * max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("kinds", [(SIDES[3],) * 2, (SIDES[4],) * 2, (SIDES[3], SIDES[4])], ids=str)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_where_a_is_singular_a_constant_in_b_is_of_no_account(solver, kinds, centering, rng):
    """Rounding leaves such a constant; it must not come out as 1/0 times itself."""
    problem = problem_of((8, 9), kinds, centering)
    b = problem.compatible(rng.standard_normal((8, 9)))
    made = [solver(problem)(problem.operator, b + shift, None) for shift in (0.0, 1.0)]
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=1e-12)


def test_the_start_is_of_no_account(solver, rng):
    problem = unigrid.Poisson((6, 7))
    b, u = rng.standard_normal((2, 6, 7))
    solve, u_before = solver(problem), u.copy()
    np.testing.assert_array_equal(solve(problem.operator, b, u), solve(problem.operator, b, None))
    np.testing.assert_array_equal(u, u_before)


@pytest.mark.parametrize("turned", [np.asfortranarray, lambda b: b[::-1]], ids=["fortran", "reversed"])
def test_any_memory_layout_is_taken(solver, turned, rng):
    problem = unigrid.Poisson((6, 7))
    b = turned(rng.standard_normal((6, 7)))
    made = solver(problem)(problem.operator, b, None)
    np.testing.assert_allclose(made, solver(problem)(problem.operator, b.copy(order="C"), None), rtol=0, atol=1e-15)
    assert made.flags.c_contiguous
    assert made.flags.writeable


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_solvers_can_be_pickled_and_are_their_own_adjoint(solver, boundary, rng):
    problem = unigrid.Poisson((6, 7), boundary=boundary)
    b = problem.compatible(rng.standard_normal((6, 7)))
    one = solver(problem)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one))(problem.operator, b, None), one(problem.operator, b, None))
    assert one.adjoint() is one


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic", [("neumann", "dirichlet"), "periodic"]], ids=str)
def test_few_unknowns_are_inverted_densely_and_many_factorized(boundary, rng):
    for shape in ((20, 20), (40, 40)):
        problem = unigrid.Poisson(shape, boundary=boundary)
        b = problem.compatible(rng.standard_normal(shape))
        direct, fourier = (kind(problem)(problem.operator, b, None) for kind in (DirectSolver, FourierSolver))
        np.testing.assert_allclose(direct, fourier, rtol=0, atol=1e-11 * np.abs(fourier).max())


@pytest.mark.parametrize("shape", [(300, 200), (31, 64, 17)], ids=str)
def test_alone_on_one_level_fourier_is_a_fast_solver(shape, rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape), coarsest="fft", max_levels=1)
    solution = cycle.solve(rng.standard_normal(shape))
    assert solution.iterations == 1
    assert solution.residuals[-1] <= 1e-10 * solution.residuals[0]


def test_set_up_leaves_no_thread_spinning():
    # The threads of BLAS spin for about 0.1 s once they have been woken, on the cores that a solve is about to use.
    time.sleep(0.3)  # those that another test has woken
    unigrid.clear_cache()
    DirectSolver(unigrid.Poisson((15, 15)))
    busy, begun = time.process_time(), time.perf_counter()
    time.sleep(0.05)
    assert time.process_time() - busy < 0.5 * (time.perf_counter() - begun)
