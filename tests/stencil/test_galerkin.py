"""Coarse operators and transfers of black box multigrid, against sparse matrices."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.coupled import matrix_of
from unigrid.stencil.galerkin import hierarchy_of


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
    monkeypatch.setattr("unigrid.stencil.galerkin.COARSEST_UNKNOWNS", 1)
    rng = np.random.default_rng(seed)
    assert_galerkin(random_problem(rng, 1 + seed % 3), rng)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n", [3, 4])
def test_a_periodic_axis_may_be_coarsened_to_one_point(axis, n, monkeypatch):
    """That point is its own neighbor: what couples it to images of its other neighbors is one coupling."""
    monkeypatch.setattr("unigrid.stencil.galerkin.COARSEST_UNKNOWNS", 1)
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
    monkeypatch.setattr("unigrid.stencil.galerkin.COARSEST_UNKNOWNS", 1)
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(3, 12, 1 + seed % 3))
    problem = unigrid.Poisson(
        shape, boundary=["neumann", "periodic"][seed % 2], coefficient=np.exp(2 * rng.standard_normal(shape))
    )
    for fine, coarse in itertools.pairwise(hierarchy_of(problem, None)):
        assert np.allclose(fine.prolongation(np.ones(coarse.shape)), 1.0, rtol=1e-12)
        assert not coarse.operator.stencil.excess.any()
