"""Trained slots on arrays against dense linear algebra written out: K as a matrix, D^-1, A; transfers with filters."""

import functools
import itertools
import pickle

import numpy as np
import pytest

import unigrid
from unigrid.stencil.learned import FilteredProlongation, FilteredRestriction, LearnedSmoother, anisotropy

D, N, P = "dirichlet", "neumann", "periodic"
SIDES = [(D, D), (D, N), (N, D), (N, N), (P, P)]
SIZES = {1: (7,), 2: (5, 6), 3: (3, 5, 4)}


def kernels_of(rng, ndim, steps=2, terms=1):
    coefficients = 0.1 * rng.standard_normal((steps, terms, *(3,) * ndim))
    coefficients[(slice(None), 0, *(1,) * ndim)] += 0.7
    return coefficients


def problem_of(shape, mix, centering, **options):
    boundary = [P if pair == (P, P) else pair for pair in mix]
    return unigrid.Poisson(shape, boundary=boundary, centering=centering, reaction=0.3, **options)


def with_ghosts(n, kinds, centering):
    """Return the (n + 2, n) matrix that adds what lies beyond either end, from the words of the contract."""
    matrix = np.vstack([np.zeros((1, n)), np.eye(n), np.zeros((1, n))])
    for row, kind, first, second, other in ((0, kinds[0], 0, 1, n - 1), (n + 1, kinds[1], n - 1, n - 2, 0)):
        if kind == P:
            matrix[row, other] = 1
        elif centering == "cell":
            matrix[row, first] = -1 if kind == D else 1
        elif kind == N and 0 <= second < n:
            matrix[row, second] = 1  # else the mirrored node is a Dirichlet node
    return matrix


def dense(kernel, shape, mix, centering):
    """Return the matrix of a 3^d kernel: a sum over its entries of products of shifts, reflected at the sides."""
    ghosts = [with_ghosts(n, pair, centering) for n, pair in zip(shape, mix, strict=True)]
    total = 0.0
    for place, weight in np.ndenumerate(kernel):
        shifts = [ghost[at : at + n] for ghost, at, n in zip(ghosts, place, shape, strict=True)]
        total = total + weight * functools.reduce(np.kron, shifts)
    return total


def smoothed(problem, kernels, mix, centering, f, u):
    matrix = problem.matrix().toarray()
    for kernel in kernels:
        u = u + dense(kernel, problem.shape, mix, centering) @ ((f - matrix @ u) / np.diag(matrix))
    return u


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.4, 0.5, 0.6)], ids=["square", "oblong"])  # D differs
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_it_is_what_its_docstring_says_on_all_sides(ndim, centering, spacing, rng):
    mixes = list(itertools.product(SIDES, repeat=ndim))
    for mix in mixes if ndim < 3 else mixes[::9]:
        problem = problem_of(SIZES[ndim], mix, centering, spacing=spacing[:ndim])
        kernels = kernels_of(rng, ndim)[:, 0]
        f, u = rng.standard_normal((2, *problem.shape))
        smoother, before = LearnedSmoother(kernels[:, None]), u.copy()
        for start in (u, None):
            found = smoother(problem.operator, f, start)
            expected = smoothed(problem, kernels, mix, centering, f.ravel(), 0.0 * u.ravel() if start is None else u.ravel())
            np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-13 * np.abs(expected).max(), err_msg=str(mix))
        np.testing.assert_array_equal(u, before)


@pytest.mark.parametrize(
    ("shape", "mix"),
    [
        ((1, 6), ((D, D), (N, D))),
        ((1, 6), ((D, N), (D, D))),
        ((1, 6), ((N, D), (N, N))),
        ((2, 4), ((D, N), (D, D))),
        ((2, 4), ((N, D), (N, N))),
        ((2, 4), ((N, N), (P, P))),
    ],
    ids=str,
)
def test_axes_of_one_and_two_unknowns(shape, mix, rng):
    problem = problem_of(shape, mix, "vertex", spacing=1.0)
    kernels = kernels_of(rng, 2)[:, 0]
    f, u = rng.standard_normal((2, *shape))
    found = LearnedSmoother(kernels[:, None])(problem.operator, f, u)
    np.testing.assert_allclose(found.ravel(), smoothed(problem, kernels, mix, "vertex", f.ravel(), u.ravel()), rtol=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 3.0), (2.5, 1.0)], ids=str)
@pytest.mark.parametrize("terms", [1, 2, 4])
def test_kernels_are_polynomials_in_the_anisotropy(spacing, terms, rng):
    problem = unigrid.Poisson((6, 5), spacing=spacing)
    coefficients = kernels_of(rng, 2, steps=3, terms=terms)
    x = (spacing[0] ** -2 - spacing[1] ** -2) / (spacing[0] ** -2 + spacing[1] ** -2)
    assert anisotropy(problem.operator) == pytest.approx(x, abs=1e-15)
    expected = sum(np.cos(k * np.arccos(x)) * coefficients[:, k] for k in range(terms))
    smoother = LearnedSmoother(coefficients)
    np.testing.assert_allclose(smoother.kernels(problem.operator), expected, rtol=0, atol=1e-14)
    f, u = rng.standard_normal((2, 6, 5))
    made = smoothed(problem, expected, ((D, D), (D, D)), "vertex", f.ravel(), u.ravel())
    np.testing.assert_allclose(smoother(problem.operator, f, u).ravel(), made, rtol=0, atol=1e-13 * np.abs(made).max())


@pytest.mark.parametrize("shape", [(9,), (4, 5, 6)], ids=str)
def test_only_grids_of_two_axes_have_an_anisotropy(shape):
    assert anisotropy(unigrid.Poisson(shape, spacing=tuple(range(1, len(shape) + 1))).operator) == 0.0


def test_single_precision_stays_single(rng):
    problem = unigrid.Poisson((31, 30), boundary=[D, (N, D)], centering="cell")
    smoother = LearnedSmoother(kernels_of(rng, 2))
    f, u = rng.standard_normal((2, 31, 30)).astype(np.float32)
    single = smoother(problem.operator, f, u)
    assert single.dtype == np.float32
    double = smoother(problem.operator, f.astype(float), u.astype(float))
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * np.abs(double).max())


def test_the_coefficients_are_kept_apart_from_the_callers(rng):
    coefficients = kernels_of(rng, 2)
    smoother = LearnedSmoother(coefficients)
    coefficients[:] = 0
    assert smoother.coefficients.any()
    with pytest.raises(ValueError, match="read-only"):
        smoother.coefficients[:] = 0
    again = pickle.loads(pickle.dumps(smoother))
    np.testing.assert_array_equal(again.coefficients, smoother.coefficients)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((3, 3)), np.zeros((1, 1, 3, 4)), np.zeros((1, 1, 5, 5)), np.zeros((0, 1, 3, 3)), np.zeros((1, 0, 3, 3)), 0.8],
)
def test_coefficients_of_another_shape_are_refused(bad):
    with pytest.raises(ValueError, match=r"shape \(steps, degree \+ 1, 3, \.\., 3\), got"):
        LearnedSmoother(bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coefficients_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        LearnedSmoother(np.full((1, 1, 3, 3), bad))


@pytest.mark.parametrize("shape", [(63,), (7, 7, 7)], ids=str)
def test_a_grid_of_other_axes_is_refused_with_the_reason(shape, rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape, lengths=1.0), smoother=LearnedSmoother(kernels_of(rng, 2)))
    with pytest.raises(ValueError, match=rf"these kernels have 2 axes, the grid has {len(shape)}"):
        cycle(np.ones(shape))


def test_cost_and_repr(rng):
    assert LearnedSmoother(kernels_of(rng, 2, steps=3, terms=2)).cost == 6
    assert repr(LearnedSmoother(kernels_of(rng, 2, steps=3, terms=2))) == "LearnedSmoother(3 steps of 3x3, degree 1)"
    assert repr(LearnedSmoother(kernels_of(rng, 1, steps=1))) == "LearnedSmoother(1 step of 3, degree 0)"


@pytest.mark.parametrize(
    "changed",
    [{}, {"boundary": [(N, D), P], "centering": "cell"}, {"boundary": [(D, N), N]}, {"spacing": (1.0, 2.0)}],
    ids=str,
)
def test_filtered_transfers_are_their_filter_and_their_base(changed, rng):
    options = {"spacing": 1.0, **changed}
    plain = unigrid.StencilCycle(unigrid.Poisson((21, 16), **options))
    down, up = rng.standard_normal((2, 3, 3))
    cycle = unigrid.StencilCycle(plain.problem, restriction=FilteredRestriction(down), prolongation=FilteredProlongation(up))
    centering = options.get("centering", "vertex")
    mix = [(P, P) if pair == P else (pair, pair) if isinstance(pair, str) else pair for pair in options.get("boundary", [D, D])]
    for level, base in zip(cycle.levels[:-1], plain.levels, strict=False):
        shape, coarse = level.problem.shape, level.coarser.shape
        fine, error = rng.standard_normal(shape), rng.standard_normal(coarse)
        filtered = (dense(down, shape, mix, centering) @ fine.ravel()).reshape(shape)
        np.testing.assert_allclose(level.restriction(fine), base.restriction(filtered), rtol=0, atol=1e-12)
        expected = dense(up, shape, mix, centering) @ base.prolongation(error).ravel()
        np.testing.assert_allclose(level.prolongation(error).ravel(), expected, rtol=0, atol=1e-12)
        single = level.prolongation(error.astype(np.float32))
        assert single.dtype == np.float32


def test_a_cycle_of_trained_slots_solves(rng):
    """Damped Jacobi in the clothes of a trained net, with transfers that do nothing besides: any size, any sides."""
    center = np.zeros((3, 3))
    center[1, 1] = 1.0
    slots = {
        "smoother": LearnedSmoother(0.8 * center[None, None]),
        "restriction": FilteredRestriction(center),
        "prolongation": FilteredProlongation(center),
    }
    problem = unigrid.Poisson((100, 37), boundary=[(N, D), P], lengths=1.0)
    f = rng.standard_normal(problem.shape)
    cycles = [unigrid.StencilCycle(problem, **slots), unigrid.StencilCycle(problem, smoother=unigrid.Jacobi(0.8))]
    learned, jacobi = (cycle.solve(f) for cycle in cycles)
    assert learned.converged
    assert learned.iterations == jacobi.iterations
    np.testing.assert_allclose(learned.u, jacobi.u, rtol=0, atol=1e-11 * np.abs(jacobi.u).max())
    f32 = cycles[0].solve(f.astype(np.float32))
    assert f32.converged
    assert f32.u.dtype == np.float32
