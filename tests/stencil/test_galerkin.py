"""Coarse operators and transfers of black box multigrid, against sparse matrices."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.coupled import matrix_of
from unigrid.stencil.galerkin_levels import hierarchy_of, levels_of


def transfer_matrix(level, coarse_shape):
    """Return P, column by column."""
    columns = []
    for place in itertools.product(*(range(n) for n in coarse_shape)):
        unit = np.zeros(coarse_shape)
        unit[place] = 1.0
        columns.append(level.prolongation(unit).ravel())
    return np.array(columns).T


SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def random_problem(rng, ndim):
    shape = tuple(int(n) for n in rng.integers(2, {1: 40, 2: 14, 3: 8}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    shape = tuple(max(n, 3) if side == "periodic" else n for n, side in zip(shape, sides, strict=True))
    centering = ["vertex", "cell"][int(rng.integers(2))]
    a = np.exp(rng.uniform(0, 2) * rng.standard_normal(shape))
    reaction = [0.0, 1.0, rng.random(shape)][int(rng.integers(3))]
    return unigrid.Poisson(
        shape, boundary=sides, centering=centering, coefficient=a, reaction=reaction, spacing=tuple(rng.uniform(0.5, 2, ndim))
    )


@pack
@pytest.mark.parametrize("seed", range(120))
def test_the_coarse_operator_is_that_of_galerkin(seed, monkeypatch):
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 1)
    rng = np.random.default_rng(seed)
    assert_galerkin(random_problem(rng, 1 + seed % 3), rng)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n", [3, 4])
def test_a_periodic_axis_may_be_coarsened_to_one_point(axis, n, monkeypatch):
    """That point is its own neighbor: what couples it to images of its other neighbors is one coupling."""
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 1)
    rng = np.random.default_rng(axis)
    sides = ["periodic" if each == axis else "dirichlet" for each in range(3)]
    ratios = [256.0 if each == axis else 1.0 for each in range(3)]
    shape = [n if each == axis else 3 for each in range(3)]
    wanted = [[*shape[:each], shape[each] + (each != axis), *shape[each + 1 :]] for each in range(3)]
    faces = tuple(ratio * np.exp(0.3 * rng.standard_normal(each)) for ratio, each in zip(ratios, wanted, strict=True))
    problem = unigrid.Poisson(tuple(shape), boundary=sides, centering="cell", coefficient=faces)
    levels = hierarchy_of(problem, None)
    assert any(level.shape[axis] == 1 for level in levels[:-1])
    assert_galerkin(problem, rng)


@pytest.mark.parametrize("shape", [(17, 14), (9, 8, 7)], ids=str)
def test_the_coarse_operator_is_that_of_galerkin_with_a_guide(shape, monkeypatch):
    """Where P follows from another stencil: Robin sides on stretched grids."""
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 1)
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_STRETCHED", 1)
    rng = np.random.default_rng(0)
    spacing = [10.0 ** rng.uniform(0, 2, n) for n in shape]
    problem = unigrid.Poisson(shape, spacing=spacing, boundary=unigrid.Robin(0.01), centering="cell")
    guide = problem.operator.without_weak_sides
    prolonged = []
    for chosen in (None, guide.stencil):
        monkeypatch.setattr("unigrid.stencil.galerkin_levels._guide", lambda operator, chosen=chosen: chosen)
        assert_galerkin(problem, rng)
        fine, coarse = levels_of(problem, "points", 2, None)[:2]
        prolonged.append(fine.prolongation(np.ones(coarse.shape)))
    assert np.allclose(prolonged[1], 1.0)  # without sides through which anything passes, P keeps constants
    assert not np.allclose(prolonged[0], 1.0, rtol=1e-3)


def assert_galerkin(problem, rng):
    """Compare every coarse operator, and R, with the matrices of P and A."""
    levels = hierarchy_of(problem, None)
    for fine, coarse in itertools.pairwise(levels):
        P = transfer_matrix(fine, coarse.shape)
        A, wanted = matrix_of(fine.operator.stencil).toarray(), matrix_of(coarse.operator.stencil).toarray()
        assert np.abs(P.T @ A @ P - wanted).max() <= 1e-12 * np.abs(A).max()
        r = rng.standard_normal(fine.shape)
        assert np.allclose(fine.restriction(r).ravel(), P.T @ r.ravel(), rtol=1e-13, atol=1e-13)


@pack
@pytest.mark.parametrize("seed", range(60))
def test_constants_are_interpolated_exactly_away_from_dirichlet_sides(seed, monkeypatch):
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 1)
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(3, 12, 1 + seed % 3))
    problem = unigrid.Poisson(
        shape, boundary=["neumann", "periodic"][seed % 2], coefficient=np.exp(2 * rng.standard_normal(shape))
    )
    for fine, coarse in itertools.pairwise(hierarchy_of(problem, None)):
        assert np.allclose(fine.prolongation(np.ones(coarse.shape)), 1.0, rtol=1e-12)
        assert not coarse.operator.stencil.excess.any()


@pytest.mark.parametrize(
    "boundary", ["dirichlet", "neumann", [(unigrid.Dirichlet(1.0), unigrid.Neumann(2.0)), "periodic"]], ids=str
)
def test_full_multigrid_is_the_start(boundary):
    """Coarse right-hand sides are P^T b; from the coarsest level up, a solution interpolated by P is improved by one cycle."""
    x, y = np.meshgrid(np.linspace(0, 1, 63), np.linspace(0, 1, 70), indexing="ij")
    problem = unigrid.Poisson(x.shape, boundary=boundary, coefficient=1.5 + np.sin(5 * x + y))
    f = problem.compatible(np.sin(2 * np.pi * x) + y**2)
    cycle = unigrid.GalerkinCycle(problem)
    b = [problem.operator.integrated(problem.compatible(problem.rhs(f)))[None]]
    for level in cycle.levels[:-1]:
        b.append(level.restriction(b[-1]))
    u = cycle.levels[-1].smoother(None, b[-1], None)
    for number in reversed(range(len(b) - 1)):
        u = cycle.cycle(b[number], cycle.levels[number].prolongation(u), at=number)
    assert np.abs(cycle.nested(f) - u[0]).max() <= 1e-12 * np.abs(u).max()
    started, from_zero = cycle.solve(f), cycle.solve(f, start="zero")
    assert started.nested_start
    assert started.iterations <= from_zero.iterations - (boundary == "dirichlet")
    assert np.abs(started.u - from_zero.u).max() <= 1e-6 * np.abs(started.u).max()
