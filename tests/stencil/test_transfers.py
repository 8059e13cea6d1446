"""Restriction and prolongation: what they reproduce exactly, their stencils, what they refuse."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.grid import Axis, Grid
from unigrid.stencil.kernels import reference
from unigrid.stencil.transfers import (
    CellAverage,
    Constant,
    Cubic,
    FullWeighting,
    HalfWeighting,
    Injection,
    Linear,
    constant,
    lagrange,
    linear,
    nearest,
)

D, N, P = unigrid.Dirichlet, unigrid.Neumann, unigrid.Periodic
KINDS = list(itertools.product([(D, D), (D, N), (N, D), (N, N), (P, P)], ["vertex", "cell"]))
EVERY_KIND = pytest.mark.parametrize(
    ("sides", "centering"),
    KINDS,
    ids=[f"{sides[0].__name__[0]}{sides[1].__name__[0]}-{centering}" for sides, centering in KINDS],
)
SIZES = [4, 5, 8, 17, 31, 64, 101]


def pair(n, sides, centering, length=1.0):
    fine = Axis.of_length(n, length, *sides, centering)
    return fine, fine.coarsened()


def box(shape, sides=(D, D), centering="vertex", spacing=1.0):
    fine = Grid(tuple(Axis(n, spacing, *sides, centering) for n in shape))
    return fine, fine.coarsened()


# Linear interpolation.


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_linear_is_exact_for_linear_functions_in_the_interior(sides, centering, n):
    fine, coarse = pair(n, sides, centering)
    x, made = fine.positions, linear(fine, coarse) @ (2.0 + 3.0 * coarse.positions)
    inside = (x >= coarse.positions[0]) & (x <= coarse.positions[-1])
    assert inside.sum() >= 1
    np.testing.assert_allclose(made[inside], (2.0 + 3.0 * x)[inside], rtol=1e-13)


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_linear_continues_as_the_sides_demand(sides, centering, n):
    """Near a side: towards zero (odd), flat (even) or into the other end, as numpy interpolates between ghosts."""
    fine, coarse = pair(n, sides, centering)
    values = np.random.default_rng(n).standard_normal(coarse.n)
    extended = reference.padded(values, coarse)
    nodes = (np.arange(-1, coarse.n + 1) + coarse.origin) * coarse.h
    np.testing.assert_allclose(linear(fine, coarse) @ values, np.interp(fine.positions, nodes, extended), rtol=0, atol=1e-12)


def test_linear_on_nested_vertices_is_the_known_stencil():
    fine, coarse = pair(7, (D, D), "vertex")
    expected = [[0.5, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 0.5]]
    np.testing.assert_allclose(linear(fine, coarse).toarray(), expected, atol=1e-15)


def test_linear_on_nested_cells_is_the_known_stencil():
    fine, coarse = pair(6, (N, N), "cell")
    expected = np.array([[4, 0, 0], [3, 1, 0], [1, 3, 0], [0, 3, 1], [0, 1, 3], [0, 0, 4]]) / 4
    np.testing.assert_allclose(linear(fine, coarse).toarray(), expected, atol=1e-15)


@pack
@pytest.mark.parametrize("shape", [(9,), (8, 11), (7, 6, 9)], ids=str)
@EVERY_KIND
def test_transfers_are_tensor_products_of_their_axes(shape, sides, centering, rng):
    fine, coarse = box(shape, sides, centering)
    pairs = list(zip(fine.axes, coarse.axes, strict=True))
    e = rng.standard_normal(coarse.shape)
    for recipe, matrix in [(Linear(), linear), (Constant(), constant), (Cubic(), lambda f, c: lagrange(c, f.positions))]:
        expected = reference.transfer(e, [[matrix(f, c).toarray() for f, c in pairs]])
        np.testing.assert_allclose(recipe.between(fine, coarse)(e), expected, rtol=0, atol=1e-13)
    r = rng.standard_normal(fine.shape)
    expected = reference.transfer(r, [[nearest(f, c).toarray() for f, c in pairs]])
    np.testing.assert_array_equal(Injection().between(fine, coarse)(r), expected)


def test_an_axis_that_is_not_coarsened_is_left_alone(rng):
    fine = Grid((Axis(8, 1.0, D, D, "cell"), Axis(6, 5.0, N, D, "cell")))
    coarse = fine.coarsened()
    assert coarse.shape == (4, 6)
    e = rng.standard_normal(coarse.shape)
    along = linear(fine.axes[0], coarse.axes[0])
    np.testing.assert_allclose(Linear().between(fine, coarse)(e), along @ e, rtol=0, atol=1e-14)


@pytest.mark.parametrize("recipe", [Linear(), Constant(), Cubic()], ids=repr)
def test_add_to_adds_the_interpolated_correction(recipe, rng):
    fine, coarse = box((9, 12))
    slot, e, u = recipe.between(fine, coarse), rng.standard_normal(coarse.shape), rng.standard_normal(fine.shape)
    e_before, expected = e.copy(), u + slot(e)
    np.testing.assert_allclose(slot.add_to(u.copy(), e), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(slot.add_to(np.asfortranarray(u), e), expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(e, e_before)


@pytest.mark.parametrize(
    "recipe", [Linear(), Constant(), Cubic(), FullWeighting(), CellAverage(), Injection(), HalfWeighting()], ids=repr
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transfers_keep_the_precision(recipe, dtype):
    fine, coarse = box((15, 15))
    downward = isinstance(recipe, FullWeighting | CellAverage | Injection | HalfWeighting)
    source, target = (fine, coarse) if downward else (coarse, fine)
    made = recipe.between(fine, coarse)(np.ones(source.shape, dtype))
    assert made.dtype == dtype
    assert made.shape == target.shape


# Cubic interpolation.


@pack
@pytest.mark.parametrize("n", [12, 16, 33, 100])
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
@EVERY_KIND
def test_lagrange_is_exact_for_polynomials_up_to_its_degree_one_sided_near_the_ends(sides, centering, n, degree):
    if sides == (P, P):
        return
    fine, coarse = pair(n, sides, centering)
    targets = np.concatenate([fine.positions, [0.0, 1.0]])  # the sides too, beyond the last unknown
    for power in range(degree + 1):
        made = lagrange(coarse, targets, degree) @ coarse.positions**power
        np.testing.assert_allclose(made, targets**power, rtol=0, atol=1e-11)


def test_lagrange_is_not_exact_beyond_its_degree():
    fine, coarse = pair(33, (N, N), "vertex")
    assert np.abs(lagrange(coarse, fine.positions) @ coarse.positions**4 - fine.positions**4).max() > 1e-8


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("n", [24, 25, 64])
def test_periodic_cubic_interpolation_wraps_and_is_of_fourth_order(centering, n):
    errors = []
    for size in (n, 2 * n):
        fine, coarse = pair(size, (P, P), centering)
        made = lagrange(coarse, fine.positions) @ np.sin(2 * np.pi * coarse.positions + 1)
        errors.append(np.abs(made - np.sin(2 * np.pi * fine.positions + 1)).max())
    assert np.log2(errors[0] / errors[1]) > 3.5


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("sides", [(D, D), (P, P)], ids=["dirichlet", "periodic"])
def test_lagrange_lowers_its_degree_on_few_unknowns(n, sides):
    axis = Axis(n, 1.0 / n, *sides, "cell")
    matrix = lagrange(axis, np.array([0.0, 0.1, 0.77, 1.0]))
    np.testing.assert_allclose(matrix @ np.ones(n), 1.0, rtol=1e-13)


@pytest.mark.parametrize("sides", [(D, D), (P, P)], ids=["dirichlet", "periodic"])
def test_cubic_interpolation_is_centered_in_the_interior(sides):
    axis = Axis(10, 1.0, *sides, "cell")
    halfway = lagrange(axis, np.array([5.0])).toarray()[0]
    np.testing.assert_allclose(halfway[3:7], np.array([-1, 9, 9, -1]) / 16, rtol=1e-13)
    assert np.count_nonzero(halfway) == 4


@EVERY_KIND
def test_interpolation_reproduces_unknowns_that_coincide(sides, centering):
    axis = Axis.of_length(12, 0.7, *sides, centering)
    np.testing.assert_allclose(lagrange(axis, axis.positions).toarray(), np.eye(12), atol=1e-12)


# Restrictions.


def test_full_weighting_on_nested_vertices_is_one_two_one():
    fine, coarse = box((7, 7))
    r = np.zeros((7, 7))
    r[3, 3] = 1.0
    np.testing.assert_allclose(FullWeighting().between(fine, coarse)(r), np.diag([0, 0.25, 0]), atol=1e-15)
    r = np.arange(49.0).reshape(7, 7) ** 2
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = [[(kernel * r[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]).sum() for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(FullWeighting().between(fine, coarse)(r), expected, rtol=1e-14)


def test_full_weighting_at_a_nested_neumann_node_is_one_half_one_half():
    fine, coarse = box((9,), (N, N))
    r = np.arange(9.0) ** 2
    expected = [
        0.5 * r[0] + 0.5 * r[1],
        *(0.25 * r[i - 1] + 0.5 * r[i] + 0.25 * r[i + 1] for i in (2, 4, 6)),
        0.5 * r[7] + 0.5 * r[8],
    ]
    np.testing.assert_allclose(FullWeighting().between(fine, coarse)(r), expected, rtol=1e-14)


def test_half_weighting_is_the_five_point_stencil():
    fine, coarse = box((7, 9))
    r = np.random.default_rng(0).standard_normal((7, 9))
    kernel = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
    expected = [[(kernel * r[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]).sum() for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(HalfWeighting().between(fine, coarse)(r), expected, rtol=1e-13)


def test_half_weighting_in_three_dimensions_is_the_seven_point_stencil():
    fine, coarse = box((3, 3, 3))
    kernel = np.zeros((3, 3, 3))
    kernel[1, 1, 1] = 6 / 12
    for point in ((0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)):
        kernel[point] = 1 / 12
    r = np.random.default_rng(0).standard_normal((3, 3, 3))
    np.testing.assert_allclose(HalfWeighting().between(fine, coarse)(r), [[[(kernel * r).sum()]]], rtol=1e-13)


def test_half_weighting_in_one_dimension_is_full_weighting(rng):
    fine, coarse = box((15,))
    r = rng.standard_normal(15)
    np.testing.assert_allclose(HalfWeighting().between(fine, coarse)(r), FullWeighting().between(fine, coarse)(r), rtol=1e-14)


@pytest.mark.parametrize(
    ("shape", "sides", "centering"),
    [
        ((8,), (D, D), "vertex"),
        ((7, 8), (D, D), "vertex"),
        ((8, 8), (N, N), "vertex"),
        ((9, 9), (P, P), "vertex"),
        ((8, 8), (D, D), "cell"),
    ],
    ids=str,
)
def test_half_weighting_refuses_what_does_not_nest_in_one_line(shape, sides, centering):
    with pytest.raises(ValueError, match=r"needs nested vertices; axis \d with \d unknowns.*full-weighting") as error:
        HalfWeighting().between(*box(shape, sides, centering))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(63,), (63, 31), (15, 31, 15)], ids=str)
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
def test_half_weighting_converges_on_nested_grids(shape, boundary, rng):
    shape = tuple(n + 2 for n in shape) if boundary == "neumann" else shape
    f = rng.standard_normal(shape)
    assert unigrid.solve(f, restriction="half-weighting", boundary=boundary, compatibility="project").iterations <= 15


def test_injection_takes_the_coinciding_unknown():
    fine, coarse = box((7, 7))
    r = np.arange(49.0).reshape(7, 7)
    np.testing.assert_array_equal(Injection().between(fine, coarse)(r), r[1::2, 1::2])
    fine, coarse = box((9,), (N, N))
    np.testing.assert_array_equal(Injection().between(fine, coarse)(np.arange(9.0)), [0, 2, 4, 6, 8])


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_injection_takes_the_nearest_unknown(sides, centering, n):
    fine, coarse = pair(n, sides, centering)
    taken = (nearest(fine, coarse) @ fine.positions).ravel()
    distance = np.abs(taken - coarse.positions)
    if sides == (P, P):
        distance = np.minimum(distance, fine.length - distance)
    assert distance.max() <= fine.h / 2 + 1e-12


@pytest.mark.parametrize("shape", [(8,), (8, 6), (4, 6, 8)], ids=str)
def test_cell_average_on_nested_cells_is_the_mean_of_blocks(shape, rng):
    fine, coarse = box(shape, (D, N), "cell")
    r = rng.standard_normal(shape)
    blocks = r.reshape([k for n in shape for k in (n // 2, 2)]).mean(axis=tuple(range(1, 2 * len(shape), 2)))
    np.testing.assert_allclose(CellAverage().between(fine, coarse)(r), blocks, rtol=0, atol=1e-14)
    e = rng.standard_normal(coarse.shape)
    parents = np.ix_(*(np.arange(n) // 2 for n in shape))
    np.testing.assert_allclose(Constant().between(fine, coarse)(e), e[parents], rtol=0, atol=1e-14)


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_averages_keep_the_integral_and_the_constants(sides, centering, n):
    """The sum of w r stays what it was, and constants stay constant, where no vertex-Dirichlet node keeps half a cell."""
    fine, coarse = pair(n, sides, centering)
    if centering == "vertex" and D in sides:
        return
    down = CellAverage().between(Grid((fine,)), Grid((coarse,)))
    r = np.random.default_rng(n).standard_normal(n)
    assert (coarse.weights * down(r)).sum() == pytest.approx((fine.weights * r).sum(), rel=1e-11, abs=1e-12)
    np.testing.assert_allclose(constant(fine, coarse) @ np.ones(coarse.n), 1.0, rtol=1e-12)
    np.testing.assert_allclose(down(np.ones(n)), 1.0, rtol=1e-12)


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_full_weighting_keeps_the_integral_where_linear_keeps_constants(sides, centering, n):
    fine, coarse = pair(n, sides, centering)
    if D in sides:
        return
    down = FullWeighting().between(Grid((fine,)), Grid((coarse,)))
    r = np.random.default_rng(n).standard_normal(n)
    assert (coarse.weights * down(r)).sum() == pytest.approx((fine.weights * r).sum(), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize(("recipe", "other"), [(Linear(), FullWeighting()), (Constant(), CellAverage())])
def test_adjoint_recipes_know_each_other(recipe, other):
    assert recipe.adjoint() == other
    assert other.adjoint() == recipe
    for lonely in (Cubic(), Injection(), HalfWeighting()):
        assert lonely.adjoint() is None


@EVERY_KIND
def test_the_smallest_grids_have_transfers(sides, centering, rng):
    for n in (2, 3, 4):
        least = 3 if sides == (P, P) else 2
        fine, coarse = box((max(n, least), max(n, least)), sides, centering)
        while coarse is not None:
            for down, up in ((FullWeighting(), Linear()), (CellAverage(), Constant())):
                r, e = rng.standard_normal(fine.shape), rng.standard_normal(coarse.shape)
                left = (coarse.weights * down.between(fine, coarse)(r) * e).sum()
                right = (fine.weights * r * up.between(fine, coarse)(e)).sum()
                assert left == pytest.approx(right, rel=1e-11, abs=1e-13)
            assert np.isfinite(Cubic().between(fine, coarse)(e)).all()
            assert np.isfinite(Injection().between(fine, coarse)(r)).all()
            fine, coarse = coarse, coarse.coarsened()
