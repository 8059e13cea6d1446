"""Local Fourier analysis agrees with textbook formulas, with error matrices of whole cycles, and with measured factors."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.polynomial.chebyshev import Chebyshev as Polynomial
from numpy.testing import assert_allclose

import unigrid
from unigrid import analysis
from unigrid.analysis import FourierAnalysis, OperatorSymbol, symbol

pytestmark = pytest.mark.usefixtures("deep")

Poisson, StencilCycle = unigrid.Poisson, unigrid.StencilCycle
Jacobi, RedBlack, GaussSeidel, Chebyshev = unigrid.Jacobi, unigrid.RedBlack, unigrid.GaussSeidel, unigrid.Chebyshev
FIVE_POINTS = np.array([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])


def learned(steps=2, degree=1, ndim=2, seed=1):
    """A learned smoother near damped Jacobi, its kernels without symmetry."""
    from unigrid.stencil.learned import LearnedSmoother

    coefficients = np.random.default_rng(seed).normal(size=(steps, degree + 1, *(3,) * ndim)) * 0.05
    coefficients[:, 0, *(1,) * ndim] += 0.8
    return LearnedSmoother(coefficients)


def filtered(seed=2):
    """A restriction and a prolongation with trained kernels without symmetry."""
    from unigrid.stencil.learned import FilteredProlongation, FilteredRestriction

    kernels = np.random.default_rng(seed).normal(size=(2, 3, 3)) * 0.05
    kernels[:, 1, 1] += 1.0
    return {"restriction": FilteredRestriction(kernels[0]), "prolongation": FilteredProlongation(kernels[1])}


# ------------------------------------------------------------------------------------------------------------ symbols


def test_the_symbol_is_the_factor_of_a_fourier_mode(rng):
    stencil, theta = rng.standard_normal((3, 5)), np.array([0.7, -2.1])
    i, j = np.indices((9, 9)) - 4
    wave = np.exp(1j * (theta[0] * i + theta[1] * j))
    at_middle = (stencil * wave[3:6, 2:7]).sum()  # the wave is 1 in the middle
    assert symbol(stencil, *theta) == pytest.approx(at_middle, abs=1e-13)


def test_symbols_broadcast_over_frequencies():
    theta = np.linspace(-np.pi, np.pi, 7)
    expected = 4 - 2 * np.cos(theta)[:, None] - 2 * np.cos(theta)[None, :]
    assert symbol(FIVE_POINTS, theta[:, None], theta[None, :]) == pytest.approx(expected, abs=1e-14)


def test_low_frequencies_are_those_that_the_coarse_grid_represents():
    half = np.pi / 2
    found = analysis.symbols.is_low(np.array([[-half], [half], [0.1 - half], [-0.1 - half], [2 * np.pi], [np.pi]]), (2,))
    assert found.tolist() == [True, False, True, False, True, False]
    assert analysis.symbols.is_low(np.array([[np.pi, 0.0], [0.0, np.pi]]), (1, 2)).tolist() == [True, False]


# -------------------------------------------------------------------------------------------------- smoothing factors


def jacobi(omega, ndim):
    """1 - omega a with a from 1/ndim to 2 on the high frequencies."""
    return max(abs(1 - omega / ndim), abs(1 - 2 * omega))


SMOOTHING_FACTORS = [
    (1, Jacobi(2 / 3), 1 / 3),
    (2, Jacobi(0.8), 0.6),
    (3, Jacobi(6 / 7), 5 / 7),
    (2, Jacobi(0.5), jacobi(0.5, 2)),
    (2, Jacobi(1.0), 1.0),
    (1, RedBlack(1.0), 1 / 8),
    (2, RedBlack(1.0), 1 / 4),
    (3, RedBlack(1.0), 4 / 9),
    (1, GaussSeidel(), 1 / np.sqrt(5)),
    (2, GaussSeidel(), 1 / 2),
    (2, GaussSeidel(backward=True), 1 / 2),
    (3, GaussSeidel(), 0.567),
    (2, Chebyshev(1), 0.6),
    (2, Chebyshev(3), 1 / Polynomial.basis(3)(5 / 3)),
    (3, Chebyshev(2), 1 / Polynomial.basis(2)(7 / 5)),
    (2, Chebyshev(2, interval=(0.5, 2.0)), 1 / Polynomial.basis(2)(5 / 3)),
    (2, unigrid.Steps(Jacobi(0.8), 3), 0.6**3),
]


def test_smoothing_factors_of_the_books(subtests):
    for ndim, smoother, expected in SMOOTHING_FACTORS:
        with subtests.test(ndim=ndim, smoother=smoother):
            found = FourierAnalysis(Poisson((31,) * ndim), smoother=smoother).smoothing_factor
            assert found == pytest.approx(expected, abs=1e-3)


def test_the_smoothing_factor_without_smoothing_is_1():
    assert FourierAnalysis(Poisson((31, 31)), pre=0, post=0).smoothing_factor == 1.0


def test_red_black_smooths_less_the_more_often():
    """Trottenberg, Oosterlee, Schueller (2001), section 4.5: 0.250, 0.250, 0.322 for 1, 2, 3 steps together."""
    red_black = FourierAnalysis(Poisson((63, 63)), smoother=RedBlack(1.0))
    assert [round(red_black.smoothing_factor_of(steps), 3) for steps in (1, 2, 3)] == [0.25, 0.25, 0.322]
    damped = FourierAnalysis(Poisson((63, 63)), smoother=Jacobi(0.8))
    assert damped.smoothing_factor_of(3) == pytest.approx(0.6)


@pytest.mark.parametrize("omega", [0.9, 1.1, 1.2])
def test_red_black_with_over_relaxation(omega):
    """Against the factor of each block of two modes, written out: the update of one color, then of the other."""
    theta = np.linspace(-np.pi, np.pi, 65)[:, None], np.linspace(-np.pi, np.pi, 65)[None, :]
    a = (2 - np.cos(theta[0]) - np.cos(theta[1])) / 2
    b = 2 - a  # the value at theta + (pi, pi)
    red = np.array([[1 - omega / 2 * a, -omega / 2 * b], [-omega / 2 * a, 1 - omega / 2 * b]])
    black = np.array([[1 - omega / 2 * a, omega / 2 * b], [omega / 2 * a, 1 - omega / 2 * b]])
    both = np.einsum("ij...,jk...->...ik", black, red)
    high = np.maximum(np.abs(theta[0]), np.abs(theta[1])) >= np.pi / 2 - 1e-9
    partner_low = np.minimum(np.abs(theta[0]), np.abs(theta[1])) > np.pi / 2 + 1e-9  # then its amplitude is taken away
    both[partner_low, 1, :] = 0.0
    expected = np.abs(np.linalg.eigvals(both[high])).max()
    found = FourierAnalysis(Poisson((63, 63)), smoother=RedBlack(omega)).smoothing_factor
    assert found == pytest.approx(expected, rel=2e-3)


def test_an_axis_that_is_not_coarsened_has_no_high_frequencies():
    anisotropic = FourierAnalysis(Poisson((31, 31), spacing=(1.0, 4.0)), smoother=Jacobi(0.5))
    assert anisotropic.factors == (2, 1)
    assert anisotropic.smoothing_factor == pytest.approx(1 - 0.5 * 16 / 17)  # worst at theta = (pi/2, 0)
    assert FourierAnalysis(Poisson((31, 31), spacing=(4.0, 1.0)), smoother=Jacobi(0.5)).factors == (1, 2)


def test_a_reaction_smooths():
    c, h = 300.0, 1 / 32
    found = FourierAnalysis(Poisson((31, 31), reaction=c), smoother=Jacobi(0.6)).smoothing_factor
    assert found == pytest.approx(
        max(1 - 0.6 * (2 + c * h**2) / (4 + c * h**2), abs(1 - 0.6 * (8 + c * h**2) / (4 + c * h**2)))
    )


def test_the_picture_peaks_at_the_smoothing_factor():
    for smoother in (Jacobi(0.8), RedBlack(1.2), GaussSeidel()):
        one = FourierAnalysis(Poisson((63, 63)), smoother=smoother)
        theta, values = one.smoothing_symbol(256)
        low = np.abs(theta) < np.pi / 2
        assert values.shape == (256, 256)
        assert values[~np.logical_and.outer(low, low)].max() == pytest.approx(one.smoothing_factor, abs=5e-3)
        assert values.max() == pytest.approx(1.0, abs=1e-2)  # constants stay
        assert theta[0] == pytest.approx(-np.pi + np.pi / 256)


# ------------------------------------------------------------------------------------------------------- cycle factors


def test_the_two_grid_factor_in_one_dimension_is_the_formula_of_the_books():
    """E = S [[s, -c], [-s, c]] S with s = sin^2(theta/2), c = cos^2(theta/2), S = diag(1 - 2 omega s, 1 - 2 omega c)."""
    omega, theta = 0.7, np.linspace(1e-3, np.pi / 2, 400)
    s, c = np.sin(theta / 2) ** 2, np.cos(theta / 2) ** 2
    step = np.array([[1 - 2 * omega * s, 0 * s], [0 * s, 1 - 2 * omega * c]])
    blocks = np.einsum("ij...,jk...,kl...->...il", step, np.array([[s, -c], [-s, c]]), step)
    expected = np.abs(np.linalg.eigvals(blocks)).max()
    found = FourierAnalysis(Poisson((63,)), smoother=Jacobi(omega), pre=1, post=1).two_grid_factor
    assert found == pytest.approx(expected, rel=1e-3)


TWO_GRID_FACTORS = {
    RedBlack(1.0): {(1, 0): 0.25, (1, 1): 0.074, (2, 1): 0.053, (2, 2): 0.041},
    Jacobi(0.8): {(1, 0): 0.6, (1, 1): 0.36, (2, 1): 0.216, (2, 2): 0.137},
    GaussSeidel(): {(1, 0): 0.4, (1, 1): 0.193, (2, 1): 0.119, (2, 2): 0.084},
}


def test_two_grid_factors_of_the_books(subtests):
    """Trottenberg, Oosterlee, Schueller (2001), chapter 4."""
    for smoother, factors in TWO_GRID_FACTORS.items():
        for (pre, post), expected in factors.items():
            with subtests.test(smoother=smoother, pre=pre, post=post):
                found = FourierAnalysis(Poisson((63, 63)), smoother=smoother, pre=pre, post=post).two_grid_factor
                assert found == pytest.approx(expected, abs=1.5e-3)


def test_no_smoothing_at_all_never_converges():
    assert FourierAnalysis(FIVE_POINTS, pre=0, post=0).two_grid_factor > 0.999
    assert FourierAnalysis(FIVE_POINTS, smoother="red-black", pre=0, post=0).two_grid_factor > 0.999


def test_the_constant_of_a_singular_coarse_operator_is_not_corrected():
    coarse_constants = FourierAnalysis(FIVE_POINTS, pre=0, post=0, restriction="injection").cycle_symbol(0.0, 0.0)[1]
    assert coarse_constants == pytest.approx(np.eye(4), abs=1e-14)


@pytest.mark.parametrize(("kind", "visited"), [("V", [0, 1, 2]), ("W", [0, 1, 2, 2, 1, 2, 2]), ("F", [0, 1, 2, 2, 1, 2])])
def test_the_cycle_is_that_of_the_solver(kind, visited, monkeypatch):
    found, cycle = [], unigrid.MultigridCycle.cycle

    def recorded(self, b, u=None, kind=None, at=0):
        found.append(at)
        return cycle(self, b, u, kind, at)

    monkeypatch.setattr(unigrid.MultigridCycle, "cycle", recorded)
    FourierAnalysis(FIVE_POINTS, cycle=kind).cycle_symbol(0.3, 0.1, levels=3)
    assert found == visited


# ------------------------------------------------------------------------------------------------- what is analyzed


def smoothing_of(one):
    return one.smoother, one.pre, one.post_smoother, one.post


@pytest.mark.parametrize("problem", [Poisson((63, 63)), Poisson((31, 31, 31)), Poisson((63,))], ids=["2-D", "3-D", "1-D"])
def test_by_default_the_default_cycle_is_analyzed(problem):
    default = FourierAnalysis(problem)
    assert (
        smoothing_of(default) == smoothing_of(StencilCycle(problem)) == smoothing_of(FourierAnalysis.of(StencilCycle(problem)))
    )


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ({"smoother": "red-black"}, (RedBlack(), 2, RedBlack(), 2)),
        ({"smoother": "jacobi", "post": 1}, (Jacobi(), 2, Jacobi(), 1)),
        ({"pre": 1}, (RedBlack(), 1, RedBlack(), 2)),
        ({"post_smoother": Jacobi(0.5)}, (RedBlack(), 2, Jacobi(0.5), 2)),
        ({"pre": 0, "post": 0}, (None, 0, None, 0)),
    ],
    ids=str,
)
def test_smoothing_that_is_given_in_part_is_completed(slots, expected):
    assert smoothing_of(FourierAnalysis(Poisson((63, 63)), **slots)) == expected
    assert smoothing_of(FourierAnalysis(FIVE_POINTS, **slots)) == expected


def test_a_bare_stencil_has_red_black_by_default():
    assert smoothing_of(FourierAnalysis(FIVE_POINTS)) == (RedBlack(), 2, RedBlack(), 2)


# ---------------------------------------------------------------------------------- exactly the error matrix of a cycle

PERIODIC = {"boundary": "periodic"}
CELLS = {"boundary": "periodic", "centering": "cell"}
EXACT = {
    "jacobi": (Poisson((16, 16), **PERIODIC), 2, {"smoother": Jacobi(0.8), "pre": 1, "post": 2}),
    "red-black, three levels": (Poisson((16, 16), **PERIODIC), 3, {"smoother": RedBlack(1.1), "pre": 1, "post": 0}),
    "black-red, W": (Poisson((16, 16), **PERIODIC), 3, {"smoother": RedBlack(1.1, first="black"), "cycle": "W"}),
    "an omega for each half-sweep": (Poisson((16, 16), **PERIODIC), 2, {"smoother": RedBlack((1.3, 0.8, 1.1, 1.2)), "post": 1}),
    "red-black, F": (Poisson((16, 16), **PERIODIC), 3, {"smoother": RedBlack(1.1), "cycle": "F"}),
    "chebyshev, reaction": (Poisson((16, 16), reaction=50.0, **PERIODIC), 2, {"smoother": Chebyshev(3)}),
    "one axis coarsened, red-black": (Poisson((16, 8), spacing=(1, 4), **PERIODIC), 2, {"smoother": RedBlack(1.2)}),
    "the other axis coarsened, chebyshev": (Poisson((8, 16), spacing=(4, 1), **PERIODIC), 2, {"smoother": Chebyshev(2)}),
    "one axis, then both": (Poisson((32, 8), spacing=(1, 2.5), **PERIODIC), 3, {"smoother": RedBlack(1.2)}),
    "cells": (Poisson((16, 16), **CELLS), 2, {"smoother": RedBlack(1.2)}),
    "cells, constants": (
        Poisson((16, 16), **CELLS), 2, {"smoother": RedBlack(1.2), "restriction": "cell-average", "prolongation": "constant"},
    ),
    "cells, injection": (Poisson((8, 8), **CELLS), 2, {"restriction": "injection", "prolongation": "cubic"}),
    "half weighting": (Poisson((16, 16), **PERIODIC), 2, {"restriction": "half-weighting", "prolongation": "cubic"}),
    "learned": (Poisson((16, 16), **PERIODIC), 2, {"smoother": learned(), "pre": 1, "post": 1}),
    "learned, anisotropic": (Poisson((16, 8), spacing=(1, 1.3), **PERIODIC), 2, {"smoother": learned(), **filtered()}),
    "one dimension": (Poisson((64,), **PERIODIC), 2, {"smoother": RedBlack(0.9)}),
    "three dimensions": (Poisson((8, 4, 8), **PERIODIC), 2, {"smoother": RedBlack(1.15), "pre": 1, "post": 1}),
    "three dimensions, cells, two axes": (Poisson((8, 8, 4), spacing=(1, 1, 2), **CELLS), 2, {"smoother": Chebyshev(2)}),
}  # fmt: skip


def error_matrix(cycle):
    """Column by column, one cycle for b = 0 from every unit vector."""
    shape, b = cycle.problem.shape, np.zeros(cycle.problem.shape)
    return np.array([cycle(b, unit.reshape(shape)).ravel() for unit in np.eye(b.size)]).T


def in_modes(matrix, shape):
    """The same matrix on the modes exp(2 pi i k j / n), index vectors k and j in row-major order."""
    modes = np.array([[1.0 + 0j]])
    for n in shape:
        modes = np.kron(modes, np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n))
    return modes.conj().T @ matrix @ modes / len(modes)


def test_the_blocks_are_the_error_matrix_of_the_cycle(subtests):
    for name, (problem, levels, options) in EXACT.items():
        with subtests.test(name):
            assert_blocks_are_the_error_matrix(problem, levels, options)


def assert_blocks_are_the_error_matrix(problem, levels, options):
    cycle = StencilCycle(problem, coarsest="fft", max_levels=levels, **options)
    assert len(cycle.levels) == levels
    shape, expected = problem.shape, in_modes(error_matrix(cycle), problem.shape)
    found = np.zeros_like(expected)
    harmonics, blocks = FourierAnalysis.of(cycle).cycle_symbol(
        *(2 * np.pi * np.indices(shape).reshape(len(shape), -1).T / shape).T, levels=levels
    )
    numbers = np.rint(harmonics * shape / (2 * np.pi)).astype(int) % shape
    for index, block in zip(np.ravel_multi_index(tuple(np.moveaxis(numbers, -1, 0)), shape), blocks, strict=True):
        found[np.ix_(index, index)] = block
    kept = slice(1, None) if problem.singular else slice(None)  # a singular problem determines no constant
    assert_allclose(found[kept, kept], expected[kept, kept], rtol=0.0, atol=1e-12)


def test_the_adjoint_smoother_after_the_correction_is_analyzed():
    cycle = StencilCycle(Poisson((16, 16), **PERIODIC), smoother=RedBlack(1.0), pre=1, post=1)
    assert FourierAnalysis.of(cycle).post_smoother == RedBlack(1.0)
    symmetric = FourierAnalysis.of(cycle.symmetric())
    assert (symmetric.smoother, symmetric.post_smoother) == (RedBlack(1.0), RedBlack(1.0, first="black"))
    assert symmetric.two_grid_factor == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("backward", [False, True])
def test_lexicographic_gauss_seidel_is_a_splitting_of_the_stencil(rng, backward):
    """(D / omega + L) e' = ((1 / omega - 1) D - U) e on a periodic grid, solved as a whole: a sweep depends on its start."""
    stencil, omega, n = rng.standard_normal((3, 3)), 1.3, 8
    stencil[1, 1] = 20.0
    before = {(-1, -1), (-1, 0), (-1, 1), (0, -1)}
    implicit, explicit = np.zeros((n * n, n * n)), np.zeros((n * n, n * n))
    for i, j, s, t in itertools.product(range(n), range(n), (-1, 0, 1), (-1, 0, 1)):
        place, other, weight = i * n + j, (i + s) % n * n + (j + t) % n, stencil[1 + s, 1 + t]
        if (s, t) == (0, 0):
            implicit[place, other] += weight / omega
            explicit[place, other] += (1 / omega - 1) * weight
        elif ((s, t) in before) != backward:
            implicit[place, other] += weight
        else:
            explicit[place, other] -= weight
    expected = np.diag(in_modes(np.linalg.solve(implicit, explicit), (n, n))).reshape(n, n)
    theta = 2 * np.pi * np.arange(n) / n
    one = FourierAnalysis(stencil, smoother=GaussSeidel(omega, backward=backward), coarse="galerkin", pre=1, post=0)
    assert np.abs(expected) == pytest.approx(one._step(theta, 1)[0], abs=1e-12)


# ------------------------------------------------------------------------------------------------ cycles that really run


def measured_factor(cycle, cycles=50, last=15):
    """Asymptotic factor: b = 0, random start, geometric mean; rescaled after each cycle, so that nothing underflows."""
    u, b, norms = np.random.default_rng(0).standard_normal(cycle.problem.shape), np.zeros(cycle.problem.shape), []
    for _ in range(cycles):
        u = cycle.problem.compatible(cycle(b, u))  # on a singular problem the constant is not reduced
        norms.append(np.linalg.norm(u))
        u /= norms[-1]
    return np.exp(np.mean(np.log(norms[-last:])))


TABLE = [
    (smoother, pre, post)
    for smoother in (Jacobi(0.8), RedBlack(1.0), RedBlack(1.1), RedBlack(1.15), RedBlack(1.2))
    for pre, post in ((1, 0), (1, 1), (2, 1), (2, 2))
]


def assert_predicted(problem, **slots):
    """The two-grid factor within 5 %, the V-cycle within 15 % from three levels, 10 % from four."""
    predicted = FourierAnalysis(problem, **slots)
    assert predicted.two_grid_factor == pytest.approx(measured_factor(StencilCycle(problem, max_levels=2, **slots)), rel=0.05)
    v_cycle = measured_factor(StencilCycle(problem, **slots))
    assert predicted.cycle_factor(levels=3) == pytest.approx(v_cycle, rel=0.15)
    assert FourierAnalysis(problem, samples=64, **slots).cycle_factor(levels=4) == pytest.approx(v_cycle, rel=0.10)


def assert_all_predicted(cases, subtests):
    for smoother, pre, post in cases:
        with subtests.test(smoother=smoother, pre=pre, post=post):
            assert_predicted(Poisson((63, 63)), smoother=smoother, pre=pre, post=post)


def test_predictions_against_cycles_that_run(subtests):
    assert_all_predicted([(RedBlack(1.0), 1, 1), (Chebyshev(3), 1, 1), (learned(), 1, 1)], subtests)


@pytest.mark.slow
def test_all_predictions_against_cycles_that_run(subtests):
    assert_all_predicted([case for case in TABLE if case != (RedBlack(1.0), 1, 1)], subtests)


def test_the_default_cycle_runs_as_predicted():
    assert_predicted(Poisson((63, 63)))


def test_more_levels_come_closer_to_the_v_cycle():
    problem, slots = Poisson((127, 127)), {"smoother": RedBlack(1.0), "pre": 1, "post": 1}
    measured = measured_factor(StencilCycle(problem, **slots))
    factors = [FourierAnalysis(problem, **slots).cycle_factor(levels) for levels in (2, 3, 4)]
    assert factors[0] < factors[1] < factors[2] == pytest.approx(measured, rel=0.05)


def test_the_symmetric_order_and_the_w_cycle_run_as_predicted():
    cycle = StencilCycle(Poisson((63, 63)), smoother=RedBlack(1.0), pre=1, post=1)
    assert FourierAnalysis.of(cycle.symmetric()).cycle_factor() == pytest.approx(measured_factor(cycle.symmetric()), rel=0.15)
    w_cycle = StencilCycle(Poisson((63, 63)), smoother=RedBlack(1.0), pre=1, post=1, cycle="W")
    assert FourierAnalysis.of(w_cycle).cycle_factor() == pytest.approx(measured_factor(w_cycle), rel=0.05)


@pytest.mark.parametrize(
    ("problem", "slots"),
    [
        (Poisson((31, 31, 31)), {"smoother": RedBlack(1.0), "pre": 1, "post": 1}),
        (Poisson((127, 127)), {"smoother": GaussSeidel(), "pre": 1, "post": 1}),
        (Poisson((255,)), {"smoother": Jacobi(0.7), "pre": 1, "post": 1}),
        (Poisson((127, 31), spacing=(1.0, 4.0)), {"smoother": RedBlack(1.0), "pre": 1, "post": 1}),
        (Poisson((64, 64), centering="cell", boundary="neumann"), {"smoother": RedBlack(1.0), "pre": 2, "post": 2}),
    ],
    ids=["3-D", "lexicographic", "1-D", "semicoarsened", "cells"],
)
def test_other_grids_run_as_predicted(problem, slots):
    measured = measured_factor(StencilCycle(problem, max_levels=2, **slots))
    assert FourierAnalysis(problem, **slots).two_grid_factor == pytest.approx(measured, rel=0.05)


# ---------------------------------------------------------------------------------------------------- any constant stencil


@pytest.mark.parametrize("smoother", [Jacobi(0.8), RedBlack(1.1), Chebyshev(3), learned()], ids=str)
def test_a_bare_stencil_is_analyzed_as_its_problem(smoother):
    bare = FourierAnalysis(FIVE_POINTS, smoother=smoother, pre=1, post=1)
    of_problem = FourierAnalysis(Poisson((63, 63)), smoother=smoother, pre=1, post=1)
    for found, expected in (
        (bare.smoothing_factor, of_problem.smoothing_factor),
        (bare.cycle_factor(3), of_problem.cycle_factor(3)),
    ):
        assert found == pytest.approx(expected, rel=1e-9)


def test_a_bare_stencil_with_spacing_is_coarsened_as_its_problem():
    stencil = np.array([[0, -1, 0], [-1 / 9, 2 + 2 / 9 + 0.1, -1 / 9], [0, -1, 0]])
    bare = FourierAnalysis(stencil, smoother=Jacobi(0.6), spacing=(1.0, 3.0))
    of_problem = FourierAnalysis(Poisson((63, 21), spacing=(1.0, 3.0), reaction=0.1), smoother=Jacobi(0.6))
    assert bare.factors == of_problem.factors == (2, 1)
    assert bare.cycle_factor(4) == pytest.approx(of_problem.cycle_factor(4), rel=1e-9)


def test_nine_points_with_a_textbook_smoothing_factor():
    """1 - omega (1 - (4 cos x + 4 cos y + 2 cos x cos y) / 10): at (pi/2, 0) 1 - 0.6 omega, at (pi, pi) 1 - 1.6 omega."""
    nine = [[-1, -4, -1], [-4, 20, -4], [-1, -4, -1]]
    for omega in (0.8, 1.0):
        expected = max(abs(1 - 0.6 * omega), abs(1 - 1.6 * omega))
        assert FourierAnalysis(nine, smoother=Jacobi(omega)).smoothing_factor == pytest.approx(expected, abs=1e-9)


def test_the_galerkin_operator_is_r_a_p():
    """Bilinear and full weighting: K x M + M x K with K = [-1 2 -1] / H^2 and M = [1 6 1] / 8 along each axis."""
    K, M = np.array([-1, 2, -1]) / 4, np.array([1, 6, 1]) / 8
    one = FourierAnalysis(FIVE_POINTS, coarse="galerkin")
    expected = np.outer(K, M) + np.outer(M, K)
    assert one._operator(1).stencil == pytest.approx(expected, abs=1e-14)
    given = FourierAnalysis(FIVE_POINTS, coarse=[expected])
    assert one.two_grid_factor == pytest.approx(given.two_grid_factor, rel=1e-12)
    assert one.two_grid_factor != pytest.approx(FourierAnalysis(FIVE_POINTS).two_grid_factor, rel=1e-3)


def test_galerkin_corrections_vanish_on_the_range_of_the_prolongation(rng):
    """(I - P (R A P)^-1 R A) P = 0, for any stencil: here one without symmetry."""
    stencil = FIVE_POINTS + 0.3 * rng.standard_normal((3, 3))
    one = FourierAnalysis(stencil, pre=0, post=0, coarse="galerkin", **filtered())
    harmonics, blocks = one.cycle_symbol(0.4, -0.3)
    column = symbol(np.flip(one._transfer(0).prolongation), *harmonics.T)
    assert blocks @ column == pytest.approx(np.zeros(4), abs=1e-12)


class Richardson(unigrid.Smoother):
    """A user-defined smoother: two damped steps."""

    def __call__(self, operator, b, u):
        for weight in (0.5, 0.8):
            step = weight * operator.residual(b, u) / operator.diagonal()
            u = step if u is None else u + step
        return u

    def error_symbol(self, operator):
        assert isinstance(operator, OperatorSymbol)
        return (1 - 0.5 * operator.values / operator.diagonal) * (1 - 0.8 * operator.scaled)


def test_a_user_defined_smoother_has_its_own_symbol():
    cycle = StencilCycle(Poisson((63, 63)), smoother=Richardson(), pre=1, post=1, max_levels=2)
    assert FourierAnalysis.of(cycle).two_grid_factor == pytest.approx(measured_factor(cycle), rel=0.05)


class Checkerboard(unigrid.Smoother):
    """A user-defined smoother that couples frequencies: damped Jacobi on the red points alone."""

    def __call__(self, operator, b, u):
        step = 0.9 * operator.residual(b, u) / operator.diagonal() * (np.indices(b.shape).sum(axis=0) % 2 == 0)
        return step if u is None else u + step

    def error_symbol(self, operator):
        half = 0.45 * operator.scaled[..., None] * np.eye(operator.values.shape[-1])
        return np.eye(operator.values.shape[-1]) - half - half[..., operator.partners, :]


def test_a_user_defined_smoother_may_couple_frequencies():
    problem = Poisson((16, 8), spacing=(1, 4), **PERIODIC)
    for pre, post in ((1, 1), (2, 0)):
        assert_blocks_are_the_error_matrix(problem, 2, {"smoother": Checkerboard(), "pre": pre, "post": post})
    found = FourierAnalysis(FIVE_POINTS, smoother=Checkerboard()).smoothing_symbol(16)[1]
    assert found.max() == pytest.approx(1.0, abs=1e-2)


class Blurred(unigrid.TransferRecipe):
    """A user-defined restriction: full weighting of the means of neighbors along axis 0."""

    def __init__(self, power=1):
        self.power = power

    def __repr__(self):
        return "Blurred()"

    def between(self, fine, coarse):
        inner, power = unigrid.FullWeighting().between(fine, coarse), self.power

        class Slot(unigrid.Restriction):
            def __call__(self, r):
                return inner((0.5 * r + 0.5 * np.roll(r, 1, 0)) ** power)

        return Slot()


def test_a_user_defined_transfer_has_the_symbol_of_its_impulse_response():
    problem = Poisson((16, 16), **PERIODIC)
    cycle = StencilCycle(problem, smoother=Jacobi(0.8), restriction=Blurred(), coarsest="fft", max_levels=2)
    expected = np.abs(np.linalg.eigvals(error_matrix(cycle) - 1 / problem.grid.size)).max()
    theta = 2 * np.pi * np.indices((16, 16)).reshape(2, -1)[:, 1:] / 16
    blocks = FourierAnalysis.of(cycle).cycle_symbol(*theta[:, np.any(theta % np.pi > 1e-9, axis=0)])[1]
    assert np.abs(np.linalg.eigvals(blocks)).max() == pytest.approx(expected, rel=1e-9)


# ------------------------------------------------------------------------------------------------------------ bad input


REFUSED = [
    (lambda: symbol(np.ones((2, 3)), 0.0, 0.0), ValueError, r"odd number of entries .* shape \(2, 3\)"),
    (lambda: symbol([1.0, np.nan, 1.0], 0.0), ValueError, "must be finite"),
    (lambda: symbol(FIVE_POINTS, 0.0), ValueError, "2 axes needs as many frequencies, got 1"),
    (lambda: symbol("five points", 0.0), TypeError, "array of real numbers"),
    (lambda: FourierAnalysis("five points"), TypeError, "array of real numbers"),
    (lambda: FourierAnalysis(np.ones((3,) * 4)), ValueError, "1, 2 or 3 axes"),
    (lambda: FourierAnalysis([-1.0, 0.0, -1.0]), ValueError, "diagonal of the operator, is 0"),
    (lambda: FourierAnalysis(FIVE_POINTS, smoother="jacoby"), ValueError, "did you mean 'jacobi'"),
    (lambda: FourierAnalysis(FIVE_POINTS, restriction="full-wieghting"), ValueError, "did you mean 'full-weighting'"),
    (lambda: FourierAnalysis(FIVE_POINTS, prolongation=np.ones(3)), TypeError, "TransferRecipe.*got ndarray"),
    (lambda: FourierAnalysis(FIVE_POINTS, pre=-1), ValueError, "pre must be an integer >= 0, got -1"),
    (lambda: FourierAnalysis(FIVE_POINTS, cycle="X"), ValueError, "unknown cycle 'X'"),
    (lambda: FourierAnalysis(FIVE_POINTS, coarse="rap"), ValueError, "unknown coarse 'rap'"),
    (lambda: FourierAnalysis(FIVE_POINTS, coarse=2), TypeError, "a sequence of stencils, got 2"),
    (lambda: FourierAnalysis(FIVE_POINTS, coarse=[[1.0]]), ValueError, "2 axes"),
    (lambda: FourierAnalysis(FIVE_POINTS, coarse=[[1.0], 2]), ValueError, "odd number|2 axes"),
    (lambda: FourierAnalysis(FIVE_POINTS, coarse=[FIVE_POINTS]).cycle_factor(3), ValueError, "coarse holds 1 stencil"),
    (lambda: FourierAnalysis(FIVE_POINTS, spacing=(1.0, -1.0)), ValueError, "spacing must be"),
    (lambda: FourierAnalysis(FIVE_POINTS, spacing=(1.0, 1.0, 1.0)), ValueError, "one per axis, got 3 for 2 axes"),
    (lambda: FourierAnalysis(FIVE_POINTS, centering="corner"), ValueError, "unknown centering"),
    (lambda: FourierAnalysis(FIVE_POINTS, smother="jacobi"), TypeError, "did you mean 'smoother'"),
    (lambda: FourierAnalysis(FIVE_POINTS, samples=2), ValueError, "samples must be an integer >= 4"),
    (lambda: FourierAnalysis(Poisson((7, 7)), spacing=1.0), ValueError, "a problem has its own"),
    (lambda: FourierAnalysis(StencilCycle(Poisson((7, 7)))), TypeError, r"FourierAnalysis\.of"),
    (lambda: FourierAnalysis.of(Poisson((7, 7))), TypeError, "must be a unigrid.StencilCycle, got Poisson"),
    (lambda: FourierAnalysis(FIVE_POINTS).cycle_factor(1), ValueError, "levels must be an integer >= 2"),
    (lambda: FourierAnalysis(FIVE_POINTS).cycle_symbol(0.1), ValueError, "2 axes need as many frequencies, got 1"),
    (lambda: FourierAnalysis(FIVE_POINTS).smoothing_factor_of(0), ValueError, "steps must be"),
    (lambda: FourierAnalysis(FIVE_POINTS).smoothing_symbol(1), ValueError, "resolution must be"),
    (
        lambda: FourierAnalysis(FIVE_POINTS, smoother=len).smoothing_factor,
        TypeError,
        "give the class a method error_symbol",
    ),
    (lambda: FourierAnalysis([1.0, 1.0, 1.0], smoother="chebyshev").smoothing_factor, ValueError, "give the interval"),
    (lambda: FourierAnalysis(np.eye(35)[17] + 0.01, coarse="galerkin").two_grid_factor, ValueError, r"shape \(35,\)"),
    (lambda: FourierAnalysis([1.0, -2.0, 0.5]).two_grid_factor, ValueError, "not point symmetric .* coarse='galerkin'"),
    (
        lambda: FourierAnalysis(np.pad([[9.0]], 1) - 1, spacing=(1, 2)).two_grid_factor,
        ValueError,
        "entries off the axes, .* coarse='galerkin'",
    ),
    (
        lambda: FourierAnalysis(FIVE_POINTS, restriction=Blurred(2)).two_grid_factor,
        ValueError,
        r"Blurred\(\) has no symbol",
    ),
]


def test_what_cannot_be_analyzed_is_refused(subtests):
    for make, error, message in REFUSED:
        with subtests.test(message), pytest.raises(error, match=f"(?i){message}"):
            make()


def test_an_error_symbol_of_another_shape_is_refused():
    class Wrong(Richardson):
        def error_symbol(self, operator):
            return np.ones(3)

    with pytest.raises(ValueError, match=r"Wrong\.error_symbol must return an array of the shape of operator\.values"):
        _ = FourierAnalysis(FIVE_POINTS, smoother=Wrong()).smoothing_factor


def test_a_transfer_slot_of_one_size_is_refused():
    class Slot(unigrid.Restriction):
        def __call__(self, residual):
            return residual[1::2, 1::2]

    with pytest.raises(TypeError, match="got Slot that fits one size only"):
        FourierAnalysis.of(StencilCycle(Poisson((15, 15)), restriction=Slot()))


def test_its_repr_names_what_is_analyzed():
    text = repr(FourierAnalysis(FIVE_POINTS, smoother=Jacobi(0.8), pre=1, post=0))
    assert text == "<FourierAnalysis: V(1,0), Jacobi(omega=0.8), 3 x 3 stencil, coarsening 2 x 2>"
    default = FourierAnalysis(Poisson((63, 63)))
    assert repr(default).startswith(f"<FourierAnalysis: V(3,2), {default.smoother!r}, then {default.post_smoother!r}, 3 x 3")
    assert repr(FourierAnalysis(FIVE_POINTS, pre=0, post=0)).startswith("<FourierAnalysis: V(0,0), no smoothing, 3 x 3")


def test_torch_stays_out():
    code = "import sys, unigrid.analysis; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------------------- networks


def kernel_symbol(*kernels):
    return analysis.KernelSymbol(
        "A", (0,), tuple(np.asarray(kernel, dtype=float).reshape(1, 1, *np.shape(kernel)) for kernel in kernels)
    )


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (np.outer([1, 2, 1], [1, 2, 1]), "low-pass"),
        (np.ones((3, 3)), "low-pass"),
        (FIVE_POINTS, "high-pass"),
        (np.outer([1, -2, 1], [1, -2, 1]), "high-pass"),
        (np.pad([[1.0]], 1), "mixed"),
        (np.outer([1, 0, -1], [0, 1, 0]), "mixed"),
        (np.zeros((3, 3)), "mixed"),
    ],
)
def test_kinds_of_filters(kernel, kind):
    assert kernel_symbol(kernel).kind == kind


@pytest.mark.parametrize(("share", "kind"), [(0.41, "low-pass"), (0.39, "mixed"), (0.145, "mixed"), (0.141, "high-pass")])
def test_filters_are_named_from_a_ratio_of_mean_energies_of_two(share, kind):
    found = kernel_symbol(np.ones((3, 3)))
    vars(found)["low_share"] = share
    assert found.kind == kind


def test_the_low_share_is_the_integral(rng):
    kernels = rng.standard_normal((4, 3, 3, 5)), rng.standard_normal((2, 5, 3, 3))
    found = analysis.KernelSymbol("B", (0,), kernels)
    theta = (np.arange(256) + 0.5) * 2 * np.pi / 256 - np.pi
    energy = sum(
        np.abs(symbol(kernel, theta[:, None], theta[None, :])) ** 2 for group in kernels for row in group for kernel in row
    )
    low = np.abs(theta) < np.pi / 2
    assert found.low_share == pytest.approx(energy[np.ix_(low, low)].sum() / energy.sum(), abs=1e-4)
    assert_allclose(found.root_mean_square(theta[:, None], theta[None, :]), np.sqrt(energy / 22), rtol=1e-12)
    assert found.flat_share == 0.25


def test_the_largest_singular_value_is_the_norm_of_the_matrix_symbol(rng):
    kernel = rng.standard_normal((4, 3, 3, 3))
    found = analysis.KernelSymbol("B", (0,), (0.1 * kernel, kernel)).largest_singular_value([0.3, 1.0], [-2.0, 0.0])
    matrix = np.array([[symbol(kernel[o, i], 0.3, -2.0) for i in range(3)] for o in range(4)])
    assert found.shape == (2,)
    assert found[0] == pytest.approx(np.sqrt(np.linalg.eigvalsh(matrix.conj().T @ matrix).max()))


class TestNetworks:
    """The kernels in the slots of networks are found on every level, shared or borrowed."""

    @pytest.fixture(autouse=True)
    def needs_torch(self):
        pytest.importorskip("torch")

    def found(self, model):
        return [(one.slot, one.levels, len(one.kernels)) for one in analysis.network_symbols(model)]

    def test_every_level_has_its_own(self):
        model = unigrid.MgNet(features=4, steps=(2, 1))
        assert self.found(model) == [("A", (0,), 1), ("B", (0,), 1), ("A", (1,), 1), ("B", (1,), 1)]
        first = analysis.network_symbols(model)[0]
        assert first.kernels[0] == pytest.approx(model.cycle.levels[0].operator.convolution.weight.detach().numpy())

    def test_shared_kernels_are_listed_once(self):
        model = unigrid.MgNet(features=4, steps=(2, 1), operator_sharing="global", extractor_sharing="step")
        assert self.found(model) == [("A", (0, 1), 1), ("B", (0,), 2), ("B", (1,), 1)]
        model = unigrid.MgNet(features=4, steps=(3, 2), operator_sharing="step", semi_iteration="multi-step")
        assert self.found(model)[:2] == [("A", (0,), 2), ("B", (0,), 1)]  # A of the first step is never applied

    @pytest.mark.parametrize(("choice", "slot"), [({"operator": "nonlinear"}, "A"), ({"extractor": "bottleneck"}, "B")])
    def test_several_convolutions_are_one_kernel(self, choice, slot):
        import torch

        model = unigrid.MgNet(features=8, steps=(1, 1), padding="circular", norms="none", **choice).double()
        (kernel,) = next(one for one in analysis.network_symbols(model) if one.slot == slot).kernels
        level = model.cycle.levels[0]
        part = level.operator.convolution if slot == "A" else level.smoother.steps[0].convolution
        parts = list(part) if slot == "A" else [part.narrow, part.between, part.widen]
        wave = np.exp(1j * (2 * np.pi / 8) * (3 * np.arange(8)[:, None] + np.arange(8)[None, :]))
        image = np.random.default_rng(0).standard_normal(8)[:, None, None] * wave

        def linear(values):
            values = torch.tensor(values)[None]
            for module in parts:
                values = module(values) if hasattr(module, "weight") else values
            return values[0].detach().numpy()

        expected = analysis.networks.matrix_symbol(kernel, 6 * np.pi / 8, 2 * np.pi / 8) @ image[:, 0, 0]
        assert linear(image.real)[:, 0, 0] + 1j * linear(image.imag)[:, 0, 0] == pytest.approx(expected, abs=1e-12)

    def test_other_networks_have_symbols(self):
        from unigrid import conv

        residual = conv.ResNet(channels=(4, 4), blocks=(1, 2))
        assert [slot for slot, _, _ in self.found(residual)] == ["A", "B", "A", "B"]
        assert [slot for slot, _, _ in self.found(conv.PlainNet(steps=(2, 2), channels=4))] == ["B", "B"]

    def test_models_without_levels_or_kernels_are_refused(self):
        import torch

        from unigrid import conv

        with pytest.raises(TypeError, match="Linear has no cycle with levels"):
            analysis.network_symbols(torch.nn.Linear(2, 2))
        with pytest.raises(ValueError, match="no level of this PlainNet has convolutions"):
            analysis.network_symbols(conv.PlainNet(steps=(1,), channels=2))
