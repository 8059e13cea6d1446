"""Convergence factors: the published ones, and the bars for every size, side, centering and spacing."""

import itertools

import numpy as np
import pytest
from tiers import DRAW, pack

import unigrid
from unigrid import Jacobi, Poisson, RedBlack, StencilCycle

pytestmark = pytest.mark.usefixtures("deep")
SIDES = [("dirichlet", "dirichlet"), ("dirichlet", "neumann"), ("neumann", "dirichlet"), ("neumann", "neumann"), "periodic"]


def residual_history(cycle, cycles):
    """Norms of the residual for f = 0 from a random start."""
    problem = cycle.problem
    u = problem.compatible(np.random.default_rng(1).standard_normal(problem.shape))
    b, norms = np.zeros(problem.shape), []
    for _ in range(cycles):
        u = problem.compatible(cycle(b, u))
        norms.append(problem.operator.residual_norm(b, u))
    return norms


def asymptotic_factor(problem, **slots):
    """Geometric mean of cycles 10 to 14 of V(2,2), red-black with omega 1, on at least three levels."""
    cycle = StencilCycle(problem, smoother=RedBlack(omega=1.0), **slots)
    assert len(cycle.levels) >= 3
    norms = residual_history(cycle, 14)
    return (norms[13] / norms[8]) ** (1 / 5)


# Smoother, pre, post, cycle, and the range that another implementation measured for n = 16..256.
PUBLISHED = [
    (Jacobi(0.8), 1, 0, "V", 0.582, 0.588),
    (Jacobi(0.8), 1, 1, "V", 0.343, 0.353),
    (Jacobi(0.8), 2, 1, "V", 0.223, 0.226),
    (Jacobi(0.8), 2, 2, "V", 0.165, 0.186),
    (Jacobi(0.8), 1, 1, "W", 0.346, 0.346),
    (RedBlack(1.0), 1, 0, "V", 0.28, 0.347),
    (RedBlack(1.0), 1, 1, "V", 0.103, 0.118),
    (RedBlack(1.0), 2, 1, "V", 0.072, 0.080),
    (RedBlack(1.0), 2, 2, "V", 0.055, 0.061),
    (RedBlack(1.0), 1, 1, "W", 0.072, 0.074),
    (RedBlack(1.1), 1, 1, "V", 0.062, 0.067),
    (RedBlack(1.15), 2, 2, "V", 0.020, 0.023),
    (RedBlack(1.2), 2, 2, "V", 0.015, 0.015),
]


@pack
@pytest.mark.parametrize("n", [63, 127])
@pytest.mark.parametrize(("smoother", "pre", "post", "kind", "low", "high"), PUBLISHED)
def test_factor_equals_the_published_one(smoother, pre, post, kind, low, high, n):
    cycle = StencilCycle(Poisson((n, n)), smoother=smoother, pre=pre, post=post, cycle=kind)
    norms = residual_history(cycle, 32)
    factor = (norms[-1] / norms[-4]) ** (1 / 3)
    assert 0.9 * low <= factor <= 1.1 * high


@pytest.mark.parametrize(("sweeps", "published"), [(1, 0.261), (2, 0.122)])
def test_symmetric_red_black_has_the_published_factor(sweeps, published):
    cycle = StencilCycle(Poisson((127, 127)), smoother=RedBlack(1.0), pre=sweeps, post=sweeps).symmetric()
    norms = residual_history(cycle, 32)
    assert (norms[-1] / norms[-4]) ** (1 / 3) == pytest.approx(published, rel=0.1)


SIZES_2D = [(n, n) for n in (30, 63, 64, 65, 100, 127, 129, 255, 300, 500, 1000, 1021)] + [(100, 357)]


@pack
@pytest.mark.parametrize("shape", SIZES_2D)
def test_every_size_in_2d_converges(shape):
    assert asymptotic_factor(Poisson(shape)) <= 0.11


@pytest.mark.slow
def test_random_sizes_in_2d_converge():
    seed = DRAW
    sizes = np.random.default_rng(seed).integers(17, 1100, size=20)
    factors = {int(n): asymptotic_factor(Poisson((n, n))) for n in sizes}
    assert max(factors.values()) <= 0.11, f"sizes drawn with seed {seed}: {factors}"


@pack
@pytest.mark.parametrize("n", [15, 24, 31, 33, 50, 63, 64])
def test_every_size_in_3d_converges(n):
    assert asymptotic_factor(Poisson((n, n, n))) <= 0.16


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("n", [64, 65, 100])
@pytest.mark.parametrize("sides", list(itertools.combinations_with_replacement(SIDES, 2)))
def test_every_mix_of_sides_in_2d_converges(sides, n, centering):
    assert asymptotic_factor(Poisson((n, n), boundary=list(sides), centering=centering)) <= 0.15


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("n", [31, 32, 33])
@pytest.mark.parametrize("sides", list(itertools.combinations_with_replacement(SIDES, 3)))
def test_every_mix_of_sides_in_3d_converges(sides, n, centering):
    assert asymptotic_factor(Poisson((n, n, n), boundary=list(sides), centering=centering)) <= 0.18


@pack
@pytest.mark.parametrize("ratio", [3, 10, 100])
@pytest.mark.parametrize("shape", [(64, 64), (100, 100), (127, 127), (32, 32, 32)])
def test_every_ratio_of_spacings_converges(shape, ratio):
    for axis in range(len(shape)):
        for wide, narrow in ((ratio, 1.0), (1.0, ratio)):
            spacing = [narrow] * len(shape)
            spacing[axis] = wide
            assert asymptotic_factor(Poisson(shape, spacing=spacing)) <= 0.15, spacing


CG_CASES = [
    *(Poisson(shape) for shape in SIZES_2D),
    *(Poisson((n, n, n)) for n in (15, 24, 31, 33, 50, 63, 64)),
    *(
        Poisson((n,) * len(sides), boundary=list(sides), centering=centering)
        for sides, n in [*((pair, 65) for pair in itertools.product(SIDES, repeat=2)), ((SIDES[1], "periodic", SIDES[3]), 33)]
        for centering in ("vertex", "cell")
    ),
    *(Poisson((100, 100), spacing=(1, ratio)) for ratio in (3, 10, 100)),
]


@pack
@pytest.mark.parametrize("problem", CG_CASES, ids=repr)
def test_conjugate_gradients_take_ten_iterations_to_1e_10(problem):
    f = problem.compatible(np.random.default_rng(2).standard_normal(problem.shape))
    solution = StencilCycle(problem).solve(f, accelerate="cg", rtol=1e-10, start="zero")
    assert solution.iterations <= 10


def test_a_wrong_transfer_is_seen_to_converge_badly():
    """The bars can be missed: injection of the residual of a red-black sweep is a wrong restriction."""
    problem = Poisson((127, 127))
    norms = residual_history(StencilCycle(problem, smoother=Jacobi(0.8), restriction="injection"), 14)
    assert not (norms[13] / norms[8]) ** (1 / 5) <= 0.11


def test_full_multigrid_reports_its_rate_without_the_first_iteration():
    f = np.random.default_rng(3).standard_normal((127, 127))
    solution = unigrid.solve(f, rtol=1e-10)
    ratios = np.divide(solution.residuals[2:], solution.residuals[1:-1])
    assert solution.rate == pytest.approx(np.prod(ratios[len(ratios) // 2 :]) ** (1 / len(ratios[len(ratios) // 2 :])))
