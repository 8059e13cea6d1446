"""Smoothers: what one step is, what is adjoint to what, what they do to smooth and to rough errors."""

import copy
import math

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.kernels import reference
from unigrid.stencil.smoothers import SMOOTHERS

MIXES = [
    ((17,), "dirichlet", "vertex"),
    ((7, 8), "neumann", "vertex"),
    ((8, 9), ["periodic", "dirichlet"], "cell"),
    ((5, 7), ["neumann", "periodic"], "vertex"),
    ((5, 4, 3), ["dirichlet", "neumann", "periodic"], "cell"),
]
EVERY_MIX = pytest.mark.parametrize(("shape", "boundary", "centering"), MIXES, ids=str)
ALL = [
    *(kind() for kind in SMOOTHERS.values()),  # each with its defaults, and others
    unigrid.Jacobi(0.5),
    unigrid.RedBlack(1.0, "black"),
    unigrid.RedBlack((1.4, 0.9, 1.1, 1.2), "black"),
    unigrid.GaussSeidel(1.2, backward=True),
    unigrid.Chebyshev(1),
    unigrid.Chebyshev(4, (0.3, 1.9)),
]
EVERY_SMOOTHER = pytest.mark.parametrize("smoother", ALL, ids=repr)


def problem_of(shape, boundary, centering):
    return unigrid.Poisson(shape, spacing=0.3, boundary=boundary, centering=centering, reaction=0.7)


def error_matrix(smoother, problem):
    """What one step makes of an error: I - B A."""
    zero = np.zeros(problem.shape)
    columns = [smoother(problem.operator, zero, e.reshape(problem.shape)).ravel() for e in np.eye(problem.grid.size)]
    return np.array(columns).T


@EVERY_MIX
def test_red_black_relaxes_red_then_black_and_the_adjoint_the_other_way(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f, u = rng.standard_normal((2, *shape))
    for first, colors, backward in (("red", (0, 1), False), ("black", (1, 0), True)):
        expected = u
        for color in colors:
            expected = reference.relax_color(expected, f, 1.1, color, backward, problem.grid, 0.7)
        made = unigrid.RedBlack(1.1, first)(problem.operator, f, u)
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-13)


@EVERY_MIX
def test_red_black_relaxes_every_half_sweep_with_its_own_omega(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f, u = rng.standard_normal((2, *shape))
    expected, omegas = u, (1.3, 0.8, 1.1, 1.6)
    for omega, color in zip(omegas, (0, 1, 0, 1), strict=True):
        expected = reference.relax_color(expected, f, omega, color, False, problem.grid, 0.7)
    smoother = unigrid.RedBlack(omegas)
    np.testing.assert_allclose(smoother(problem.operator, f, u), expected, rtol=0, atol=1e-13)
    assert smoother.cost == 2
    assert unigrid.RedBlack(list(omegas)) == smoother


@EVERY_MIX
def test_gauss_seidel_relaxes_all_points_in_order(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f, u = rng.standard_normal((2, *shape))
    for backward in (False, True):
        expected = reference.relax_lexicographic(u, f, 0.9, backward, problem.grid, 0.7)
        np.testing.assert_allclose(unigrid.GaussSeidel(0.9, backward)(problem.operator, f, u), expected, rtol=0, atol=1e-13)


@EVERY_MIX
def test_gauss_seidel_inverts_the_lower_triangle(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f = rng.standard_normal(shape)
    expected = np.linalg.solve(np.tril(problem.matrix().toarray()), f.ravel()).reshape(shape)
    np.testing.assert_allclose(unigrid.GaussSeidel(1.0)(problem.operator, f, None), expected, rtol=0, atol=1e-13)


@EVERY_MIX
def test_jacobi_divides_by_the_diagonal(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f, u = rng.standard_normal((2, *shape))
    expected = u + 0.8 * (f - problem.operator(u)) / problem.matrix().diagonal().reshape(shape)
    np.testing.assert_allclose(unigrid.Jacobi(0.8)(problem.operator, f, u), expected, rtol=0, atol=1e-13)


@pack
@pytest.mark.parametrize("degree", [1, 2, 3, 6])
@pytest.mark.parametrize("interval", [None, (0.2, 1.7)])
@EVERY_MIX
def test_chebyshev_is_the_polynomial_it_is_named_after(shape, boundary, centering, degree, interval):
    """The error matrix is T_k((center - D^-1 A) / radius) / T_k(center / radius): compared by its eigenvalues."""
    problem = problem_of(shape, boundary, centering)
    scaled = problem.matrix().toarray() / problem.matrix().diagonal()[:, None]
    low, high = interval or problem.operator.smoothing_interval
    center, radius = (high + low) / 2, (high - low) / 2
    values, vectors = np.linalg.eig(scaled)
    polynomial = np.polynomial.Chebyshev.basis(degree)
    expected = polynomial((center - values.real) / radius) / polynomial(center / radius)
    matrix = error_matrix(unigrid.Chebyshev(degree, interval), problem)
    np.testing.assert_allclose(matrix @ vectors.real, vectors.real * expected, rtol=0, atol=1e-11)


def test_the_smoothing_interval_holds_what_the_next_grid_cannot_see():
    assert unigrid.Poisson((9, 9)).operator.smoothing_interval == pytest.approx((0.5, 2.0))
    assert unigrid.Poisson((9, 9, 9)).operator.smoothing_interval == pytest.approx((1 / 3, 2.0))
    assert unigrid.Poisson(9).operator.smoothing_interval == pytest.approx((1.0, 2.0))
    weak = unigrid.Poisson((9, 9), spacing=(1.0, 10.0)).operator.smoothing_interval
    assert weak == pytest.approx((1 / 1.01, 2.0))


@pack
@EVERY_SMOOTHER
@EVERY_MIX
def test_the_adjoint_is_the_adjoint_in_the_inner_product_of_a(shape, boundary, centering, smoother):
    problem = problem_of(shape, boundary, centering)
    energy = problem.weights.ravel()[:, None] * problem.matrix().toarray()
    step, adjoint = error_matrix(smoother, problem), error_matrix(smoother.adjoint(), problem)
    scale = np.abs(energy).max()
    np.testing.assert_allclose(energy @ step, (energy @ adjoint).T, rtol=0, atol=1e-13 * scale)
    assert smoother.adjoint().adjoint() == smoother


@pack
@EVERY_SMOOTHER
@EVERY_MIX
def test_the_solution_is_a_fixed_point(shape, boundary, centering, smoother, rng):
    problem = problem_of(shape, boundary, centering)
    u = rng.standard_normal(shape)
    f = problem.operator(u)
    np.testing.assert_allclose(smoother(problem.operator, f, u), u, rtol=0, atol=1e-12)


@pack
@pytest.mark.parametrize("smoother", [one for one in ALL if one != unigrid.Chebyshev(4, (0.3, 1.9))], ids=repr)
@EVERY_MIX
def test_the_energy_of_an_error_does_not_grow(shape, boundary, centering, smoother, rng):
    problem = problem_of(shape, boundary, centering)
    for _ in range(5):
        e = rng.standard_normal(shape)
        after = smoother(problem.operator, np.zeros(shape), e)
        energies = [(problem.weights * v * problem.operator(v)).sum() for v in (e, after)]
        assert energies[1] < energies[0]


@EVERY_SMOOTHER
def test_none_is_the_zero_state(smoother, rng):
    problem = unigrid.Poisson((9, 10))
    f = rng.standard_normal((9, 10))
    np.testing.assert_array_equal(smoother(problem.operator, f, None), smoother(problem.operator, f, np.zeros((9, 10))))


@pack
@EVERY_SMOOTHER
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [False, True])
def test_the_precision_is_kept_and_nothing_given_is_changed(smoother, dtype, given, rng):
    problem = unigrid.Poisson((9, 10))
    f, u = rng.standard_normal((2, 9, 10)).astype(dtype)
    f_before, u_before = f.copy(), u.copy()
    made = smoother(problem.operator, f, u if given else None)
    assert made.dtype == dtype
    assert not np.shares_memory(made, u)
    assert not np.shares_memory(made, f)
    np.testing.assert_array_equal(f, f_before)
    np.testing.assert_array_equal(u, u_before)


@EVERY_SMOOTHER
def test_overwrite_gives_what_the_call_gives(smoother, rng):
    problem = unigrid.Poisson((9, 10))
    f, u = rng.standard_normal((2, 9, 10))
    np.testing.assert_array_equal(smoother.overwrite(problem.operator, f, u.copy()), smoother(problem.operator, f, u))


@pytest.mark.parametrize("smoother", ALL[:-1], ids=repr)
def test_rough_errors_are_damped_much_more_than_smooth_ones(smoother):
    problem = unigrid.Poisson((63, 63))
    i = np.arange(1, 64)
    norms = []
    for k in (1, 45):
        wave = np.sin(np.pi * k * i / 64)
        e = np.outer(wave, wave)
        after = unigrid.Steps(smoother, 2)(problem.operator, np.zeros((63, 63)), e)
        norms.append(np.linalg.norm(after) / np.linalg.norm(e))
    smooth_left, rough_left = norms
    assert smooth_left > 0.96
    assert rough_left < 0.5


def test_jacobi_damps_waves_as_fourier_analysis_says():
    problem, i = unigrid.Poisson((31,)), np.arange(1, 32)
    for k in (1, 7, 16, 31):
        e = np.sin(np.pi * k * i / 32)
        factor = 1 - 2 * 0.8 * math.sin(np.pi * k / 64) ** 2
        np.testing.assert_allclose(unigrid.Jacobi(0.8)(problem.operator, np.zeros(31), e), factor * e, rtol=0, atol=1e-13)


@pytest.mark.parametrize("smoother", ALL, ids=repr)
def test_smoothers_are_values(smoother):
    assert copy.copy(smoother) == smoother
    assert hash(copy.copy(smoother)) == hash(smoother)
    with pytest.raises(AttributeError):
        smoother.omega = 3


def test_integers_of_other_precision_are_refused():
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        unigrid.Poisson(5).operator(np.ones(5, np.int64))


# So many steps that Ctrl-C would wait for long.


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize("shape", [(40, 41), (12, 13, 14)], ids=str)
@pytest.mark.parametrize(
    ("smoother", "pre", "fused"),
    [
        (unigrid.Chebyshev(128), 1, True), (unigrid.Chebyshev(129), 1, False), (unigrid.Chebyshev(10), 13, False),
        (unigrid.Jacobi(), 128, True), (unigrid.Jacobi(), 129, False), (unigrid.RedBlack(), 64, True),
        (unigrid.RedBlack(), 65, False), (unigrid.RedBlack((1.0,) * 130), 1, False),
    ],
    ids=str,
)  # fmt: skip
def test_more_steps_than_one_pass_should_do_are_done_one_after_the_other(shape, smoother, pre, fused):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape), smoother=smoother, pre=pre, post=1, post_smoother="jacobi")
    if isinstance(smoother, unigrid.RedBlack):
        cycle = unigrid.StencilCycle(unigrid.Poisson(shape), smoother=smoother, pre=pre, post=pre)
    assert (cycle.own_levels[0].fused is not None) == fused
    b = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(cycle(b), cycle.composed()(b), rtol=1e-9, atol=1e-12 * np.abs(b).max())


@pytest.mark.parametrize(
    "make",
    [
        lambda: unigrid.Chebyshev(10**5), lambda: unigrid.Steps(unigrid.Jacobi(), 10**30),
        lambda: unigrid.StencilCycle(unigrid.Poisson((9, 9)), pre=10**30),
        lambda: unigrid.Smoothing(unigrid.Jacobi(), 1, unigrid.Jacobi(), 10**5),
    ],
)  # fmt: skip
def test_steps_that_would_take_days_are_refused(make):
    with pytest.raises(ValueError, match=r"must be an integer from [01] to 10000"):
        make()
