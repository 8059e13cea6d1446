"""Natural sides of any shape, through which no flux passes, against direct solves of matrices with the couplings dropped."""

import numpy as np
import pytest
from domains import SHAPES, corridors, direct, disc, half, letters, noise, slits
from tiers import pack

import unigrid

SIDES = ["dirichlet", "neumann", "periodic", ["neumann", ("dirichlet", "neumann")]]


def assert_solves(shape, mask, rng, tolerance=1e-8, dtype=np.float64, rtol=1e-12, **options):
    box = unigrid.Poisson(shape, **options)
    f = rng.standard_normal(shape).astype(dtype)
    solution = unigrid.solve(f, mask=mask, outside="natural", compatibility="project", rtol=rtol, **options)
    wanted, _ = direct(box, f.astype(float), mask, np.zeros_like(mask), np.zeros(shape))
    assert solution.u.dtype == dtype
    assert np.abs(solution.u - wanted).max() <= tolerance * np.abs(wanted).max()
    return solution


@pack
@pytest.mark.parametrize("side", SIDES, ids=str)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("n", [17, 40, 63])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_answer_of_a_direct_solve(shape, n, centering, side, rng):
    assert_solves((n, n), shape(n), rng, boundary=side, centering=centering)


@pack
@pytest.mark.parametrize("seed", range(40))
def test_coefficients_stretched_boxes_and_three_dimensions(seed, rng):
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(3, {1: 3000, 2: 60, 3: 17}[ndim], ndim))
    options = {
        "coefficient": np.exp(1.5 * rng.standard_normal(shape)), "boundary": SIDES[seed % 3],
        "centering": ["vertex", "cell"][seed // 3 % 2], "spacing": tuple(rng.uniform(0.5, 2.0, ndim)),
    }  # fmt: skip
    mask = rng.random(shape) < rng.uniform(0.3, 0.9)
    mask.flat[0] = True
    assert_solves(shape, mask, rng, **options)


@pack
@pytest.mark.parametrize("side", ["neumann", "periodic", ["dirichlet", "neumann"]], ids=str)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("reaction", [1e-7, 1e-5, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("shape", [disc, noise, half])
def test_a_reaction_holds_every_component(shape, reaction, centering, side, rng):
    assert_solves((40, 40), shape(40), rng, boundary=side, centering=centering, reaction=reaction, spacing=1, rtol=1e-9)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("reaction", [0.1, 1e-4, 1e-8])
def test_iterations_do_not_depend_on_the_reaction(reaction, centering):
    """Of two pixels in a void, one may be held by the reaction more than by what coarse levels add."""
    f = np.random.default_rng(0).standard_normal((127, 127)) + 0.3
    options = {"mask": noise(127), "outside": "natural", "boundary": "neumann", "centering": centering, "spacing": 1}
    volumes = unigrid.Poisson((127, 127), boundary="neumann", centering=centering, spacing=1).weights * noise(127)
    seen = []
    solution = unigrid.solve(f, reaction=reaction, rtol=1e-8, callback=lambda s: seen.append((volumes * s.u).sum()), **options)
    assert solution.iterations <= 11
    assert seen[0] == pytest.approx((volumes * f).sum() / reaction, rel=1e-6)  # with the constants, at once


@pytest.mark.parametrize("shape", [disc, slits, half])
def test_single_precision(shape):
    assert_solves((70, 70), shape(70), np.random.default_rng(0), 3e-3, np.float32, None, boundary="neumann", centering="cell")


def iterations(shape, n, side):
    f = np.random.default_rng(1).standard_normal((n, n))
    options = {"boundary": side, "centering": "cell", "compatibility": "project", "rtol": 1e-8}
    return unigrid.solve(f, mask=shape(n), outside="natural", **options).iterations


@pack
@pytest.mark.parametrize("side", ["neumann", "dirichlet", "periodic"])
@pytest.mark.parametrize("n", [127, 250])
@pytest.mark.parametrize("shape", SHAPES)
def test_iterations_do_not_depend_on_the_shape(shape, n, side):
    assert iterations(shape, n, side) <= (18 if shape in (noise, half) else 9)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [disc, slits, noise, half])
def test_iterations_on_large_grids(shape):
    assert iterations(shape, 1023, "neumann") <= (25 if shape in (noise, half) else 14)


def test_what_is_outside_is_zero_and_does_not_matter():
    mask, f, a = letters(40), np.random.default_rng(0).standard_normal((40, 40)), np.ones((40, 40))
    options = {"mask": mask, "outside": "natural", "boundary": "neumann", "compatibility": "project", "rtol": 1e-11}
    seen = []
    one = unigrid.solve(f, coefficient=a, callback=lambda solution: seen.append(solution.u[~mask]), **options).u
    assert not any(values.any() for values in [*seen, one[~mask]])
    f[~mask], a[~mask] = 1e6, 1e6
    u0 = np.where(mask, 0.0, 7.0)
    other = unigrid.solve(f, coefficient=a, u0=u0, **options).u
    assert np.abs(one - other).max() <= 1e-9 * np.abs(one).max()


@pytest.mark.parametrize("shape", [disc, corridors])
def test_the_matrix_and_the_right_hand_side_are_those_of_the_iteration(shape):
    rng, mask = np.random.default_rng(0), shape(20)
    boundary = ["periodic", (unigrid.Dirichlet(2.0), unigrid.Neumann(0.5))]
    problem = unigrid.Poisson((20, 20), mask=mask, outside="natural", boundary=boundary)
    f, u = rng.standard_normal((2, 20, 20))
    u[~mask] = 0.0
    A, applied = problem.matrix(), problem.operator(u)
    assert np.abs(A @ u.ravel() - applied.ravel()).max() <= 1e-13 * np.abs(applied).max()
    weighted = (problem.weights.ravel()[:, None] * A.toarray())[np.ix_(mask.ravel(), mask.ravel())]
    assert np.abs(weighted - weighted.T).max() <= 1e-13 * np.abs(weighted).max()
    solution = unigrid.solve(f, mask=mask, outside="natural", boundary=boundary, compatibility="project", rtol=1e-12)
    residual = problem.compatible(problem.rhs(f)).ravel() - A @ solution.u.ravel()
    assert np.abs(residual).max() <= 1e-9 * np.abs(f).max()


BAD = {
    "word": (
        {"mask": disc(8), "outside": "neumann"},
        "outside must be a number, an array of f's shape or 'natural', got 'neumann'",
    ),
    "alone": ({"outside": "natural"}, "give mask too"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_words_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        unigrid.solve(np.ones((8, 8)), **options)
    assert "\n" not in str(error.value)
