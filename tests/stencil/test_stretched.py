"""Stretched grids: how fast they are solved, what is refused on them, and what they are called."""

import itertools

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import pack

import unigrid

RATIO = 1000.0


def geometric(n):
    return RATIO ** (np.arange(n) / (n - 1))


def hyperbolic(n):
    return np.diff(np.tanh(np.arccosh(np.sqrt(RATIO)) * np.linspace(-1.0, 1.0, n + 1)))


def to_both_ends(n):
    return np.concatenate([geometric(n - n // 2), geometric(n // 2)[::-1]])


def to_the_middle(n):
    return to_both_ends(n)[np.arange(n) - (n + 1) // 2]


def random(n):
    return 10.0 ** np.random.default_rng(n).random(n)


def uniform(n):
    return np.ones(n)


MESHES = [geometric, hyperbolic, to_both_ends, to_the_middle, random, uniform]
SIDES = ["dirichlet", "neumann", ("dirichlet", "neumann"), "robin", "periodic"]


def intervals(n, sides, centering):
    if centering == "cell" or sides == "periodic":
        return n
    return n + 1 - {"dirichlet": 0, "neumann": 2, "robin": 2}.get(sides, 1)


def normalized(distances):
    return distances / distances.sum()


@pack
@pytest.mark.parametrize("ratio", [1.0, RATIO])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize(
    "meshes", itertools.combinations_with_replacement(MESHES, 2), ids=lambda pair: f"{pair[0].__name__},{pair[1].__name__}"
)
def test_iterations_do_not_depend_on_distances(meshes, sides, centering, ratio, rng):
    """1 : 1000 within an axis, and between axes. (A geometric mesh is not periodic: its ends would meet at 1000 : 1.)"""
    if sides == "periodic" and geometric in meshes:
        return
    n = 127
    count = intervals(n, sides, centering)
    boundary = [unigrid.Robin(3.0, 1.0)] * 2 if sides == "robin" else [sides] * 2
    spacing = [normalized(meshes[0](count)), ratio * normalized(meshes[1](count))]
    f = rng.standard_normal((n, n))
    assert unigrid.solve(f, spacing=spacing, boundary=boundary, centering=centering, compatibility="project").iterations <= 10


def test_in_three_dimensions():
    f = np.random.default_rng(0).standard_normal((20, 24, 22))
    for mesh in (geometric, to_both_ends):
        assert unigrid.solve(f, spacing=[0.05, 0.04, normalized(mesh(23))]).iterations <= 15


@pack
@pytest.mark.parametrize("case", range(40))
def test_solve_agrees_with_a_sparse_direct_solve(case, rng):
    ndim = 1 + case % 3
    shape = tuple(int(n) for n in rng.integers(4, {1: 300, 2: 50, 3: 14}[ndim], ndim))
    kinds = [SIDES[int(rng.integers(len(SIDES)))] for _ in shape]
    centering = ["vertex", "cell"][case % 2]
    spacing = [np.exp(0.8 * rng.standard_normal(intervals(n, kind, centering))) for n, kind in zip(shape, kinds, strict=True)]
    boundary = [unigrid.Robin(rng.random(), rng.random()) if kind == "robin" else kind for kind in kinds]
    options = {
        "spacing": spacing,
        "boundary": boundary,
        "centering": centering,
        "coefficient": np.exp(rng.standard_normal(shape)),
    }
    problem = unigrid.Poisson(shape, **options)
    f = problem.compatible(rng.standard_normal(shape))
    A, b = problem.matrix(), problem.rhs(f).ravel()
    if problem.singular:
        w = (problem.weights / problem.weights.sum()).ravel()
        A = scipy.sparse.block_array([[A, np.ones((b.size, 1))], [w[None, :], None]])
        b = np.append(b, 0.0)
    wanted = scipy.sparse.linalg.spsolve(A.tocsc(), b)[: f.size].reshape(shape)
    u = unigrid.solve(f, rtol=1e-10, raise_on_failure=False, **options).u
    assert np.abs(u - wanted).max() <= 1e-7 * np.abs(wanted).max()


def test_alike_distances_are_a_spacing():
    f = np.random.default_rng(0).standard_normal((20, 30))
    problem = unigrid.Poisson(f.shape, spacing=[np.full(21, 0.1), 0.2])
    assert not problem.varies
    assert problem.spacing == (pytest.approx(0.1), pytest.approx(0.2))
    assert np.allclose(unigrid.solve(f, spacing=[np.full(21, 0.1), [0.2] * 31]).u, unigrid.solve(f, spacing=(0.1, 0.2)).u)


def test_nearly_alike_distances_are_nearly_a_spacing():
    f = np.random.default_rng(0).standard_normal((40, 30))
    for sides, centering in (("dirichlet", "vertex"), ("periodic", "vertex"), ("neumann", "cell")):
        count = intervals(40, sides, centering)
        near = 0.1 * (1 + 1e-9 * np.arange(count))
        options = {"boundary": [sides, "dirichlet"], "centering": centering, "rtol": 1e-11}
        one = unigrid.solve(f, spacing=[near, 0.1], **options).u
        assert np.allclose(one, unigrid.solve(f, spacing=0.1, **options).u, rtol=0, atol=1e-6)


def test_a_singular_problem_has_its_mean_in_cell_lengths():
    widths = normalized(geometric(30))
    f = np.random.default_rng(0).standard_normal(30)
    options = {"spacing": [widths], "boundary": "neumann", "centering": "cell"}
    with pytest.raises(ValueError, match=r"has mean zero.*count by the volumes of their cells"):
        unigrid.solve(f, **options)
    u = unigrid.solve(f - (widths * f).sum(), **options).u
    assert abs((widths * u).sum()) <= 1e-12 * np.abs(u).max()
    nearly = unigrid.solve(f - (widths * f).sum(), reaction=1e-6, **options).u
    assert np.abs(nearly - u).max() <= 1e-5 * np.abs(u).max()


def test_it_is_named():
    widths = np.linspace(0.1, 0.4, 8)
    problem = unigrid.Poisson((8, 9), spacing=[widths, 0.5], centering="cell")
    assert repr(problem).startswith("<Poisson: 8 x 9 unknowns on 2 x 4.5, spacing 0.1 to 0.4 along axis 0, cell centering")
    assert np.array_equal(problem.spacing[0], widths)
    assert problem.spacing[1] == 0.5
    again = unigrid.Poisson((8, 9), spacing=problem.spacing, centering="cell")
    assert np.array_equal(again.matrix().toarray(), problem.matrix().toarray())


D = np.linspace(1.0, 2.0, 9)  # of 8 unknowns between Dirichlet sides
BAD = {
    "count": (
        {"spacing": [D[:-1], 1.0]},
        r"spacing\[0\] must hold 9 distances, the distances of consecutive grid lines \(8 unk",
    ),
    "mixed": ({"spacing": [D, 1.0], "boundary": ("neumann", "dirichlet")}, r"must hold 7 distances.*Neumann-Neumann sides\)"),
    "cells": ({"spacing": [D, 1.0], "centering": "cell"}, r"spacing\[0\] must hold 8 distances, the length of each cell"),
    "periodic": ({"spacing": [D, D], "boundary": "periodic"}, r"must hold 8 distances.*periodic sides\), got .* shape \(9,\)"),
    "axes": ({"spacing": [D]}, "spacing must be a number or one entry per axis, got 1 for 2 axes"),
    "flat": ({"spacing": D}, r"spacing must be a number or one per axis, got 9 for 2 axes; .*spacing=\[array, \.\.\.\]"),
    "two": ({"spacing": [np.ones((9, 2)), 1.0]}, r"got an array of shape \(9, 2\)"),
    "zero": (
        {"spacing": [np.where(D == 1.5, 0.0, D), 1.0]},
        r"spacing\[0\] must be > 0 everywhere, but spacing\[0\]\[4\] is 0",
    ),
    "nan": ({"spacing": [1.0, np.where(D == 1.5, np.nan, D)]}, r"spacing\[1\] must be finite, but spacing\[1\]\[4\] is nan"),
    "number": ({"spacing": [D, -1.0]}, r"spacing\[1\] must be a finite number > 0, or an array of distances, got -1.0"),
    "lengths": ({"spacing": [D, 1.0], "lengths": 1.0}, "give lengths or spacing, not both"),
    "range": ({"spacing": [1e-80 * D, 1.0]}, "the spacing of axis 0 is .*e-80, too far from 1"),
    "one_pass": ({"spacing": [D, 1.0], "rtol": "discretization"}, r"needs constant coefficients.*; give a number"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_distances_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        unigrid.solve(np.ones((8, 8)), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a stretched grid", "Robin sides"])
def test_what_needs_equal_points_refuses_others_by_name(name):
    """Other cycles, Fourier analysis, and one pass."""
    from unigrid.analysis import FourierAnalysis

    options = {"spacing": [D, 1.0]} if name == "a stretched grid" else {"boundary": unigrid.Robin(1.0)}
    problem = unigrid.Poisson((8, 8), **options)
    for refuses in (unigrid.StencilCycle, FourierAnalysis, lambda problem: problem.coarsened()):
        with pytest.raises(TypeError, match=f"{name}.*GalerkinCycle") as error:
            refuses(problem)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="one pass of full multigrid"):
        unigrid.solve(np.ones((8, 8)), rtol="discretization", **options)
    assert 0 <= unigrid.analysis.measured_factor(unigrid.GalerkinCycle(problem)) < 0.07


def test_single_precision_names_spacings_that_it_cannot_hold():
    with pytest.raises(ValueError, match=r"1/h\^2 leaves the range of float32 for .*spacings of 1.*e-30, 1e-30"):
        unigrid.solve(np.ones((8, 8), np.float32), spacing=[1e-30 * D, 1e-30])


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("mesh", [geometric, to_both_ends, random])
def test_smooth_fluxes_are_compatible(mesh, centering):
    """The defect that their integral has on a grid is no error of the user's: u = exp(x) cos y, f = 0."""
    n = 40
    widths = normalized(mesh(n - (centering == "vertex")))
    options = {"spacing": [widths, widths], "centering": centering}
    x, y = unigrid.Poisson((n, n), boundary="neumann", **options).coordinates()
    flux = [(-np.exp(0) * np.cos(y[0]), np.exp(1) * np.cos(y[0])), (0 * x[:, 0], -np.exp(x[:, 0]) * np.sin(1))]
    boundary = [tuple(unigrid.Neumann(each) for each in pair) for pair in flux]
    u = unigrid.solve(np.zeros((n, n)), boundary=boundary, **options).u
    problem = unigrid.Poisson((n, n), boundary="neumann", **options)
    error = u - np.exp(x) * np.cos(y)
    error -= (problem.weights * error).sum() / problem.weights.sum()
    assert np.sqrt((problem.weights * error**2).sum()) <= 5e-3
