"""`Poisson`: shapes and lengths, coordinates, right-hand sides with boundary values, means, coarser problems."""

import numpy as np
import pytest
import scipy.sparse.linalg

import unigrid

D, N = unigrid.Dirichlet, unigrid.Neumann


# Shapes, lengths, spacing.


@pytest.mark.parametrize(
    ("boundary", "centering", "h"),
    [
        ("dirichlet", "vertex", 1 / 9),
        ([("dirichlet", "neumann")], "vertex", 1 / 8),
        ([("neumann", "dirichlet")], "vertex", 1 / 8),
        ("neumann", "vertex", 1 / 7),
        ("periodic", "vertex", 1 / 8),
        ("dirichlet", "cell", 1 / 8),
        ("neumann", "cell", 1 / 8),
        ("periodic", "cell", 1 / 8),
    ],
    ids=str,
)
def test_the_spacing_of_eight_unknowns_on_a_length_of_one(boundary, centering, h):
    assert unigrid.Poisson(8, lengths=1.0, boundary=boundary, centering=centering).spacing == (pytest.approx(h, rel=1e-15),)


def test_cells_are_square_and_axis_0_has_length_1_by_default():
    problem = unigrid.Poisson((9, 24, 4), boundary=["dirichlet", "periodic", "neumann"])
    assert problem.spacing == pytest.approx((0.1, 0.1, 0.1))
    assert problem.lengths == pytest.approx((1.0, 2.4, 0.3))


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"lengths": 2.0}, (2.0, 2.0)),
        ({"lengths": (3, 5)}, (3.0, 5.0)),
        ({"lengths": np.array([3.0, 5.0])}, (3.0, 5.0)),
        ({"spacing": 0.5}, (5.0, 2.5)),
        ({"spacing": [0.5, 1.0]}, (5.0, 5.0)),
    ],
    ids=str,
)
def test_lengths_or_spacing_may_be_given_for_all_axes_or_each(options, lengths):
    problem = unigrid.Poisson((9, 4), **options)
    assert problem.lengths == pytest.approx(lengths)
    assert problem.spacing == pytest.approx((lengths[0] / 10, lengths[1] / 5))


@pytest.mark.parametrize("shape", [7, (7,), [7], np.array([7]), np.int64(7)])
def test_a_shape_may_be_a_number_or_a_sequence(shape):
    assert unigrid.Poisson(shape).shape == (7,)


@pytest.mark.parametrize("shape", [0, (-1, 4), (4, 4.5), (), (2, 2, 2, 2), (True, 3), ("4", "5"), 4.5, None, "7"])
def test_a_shape_without_meaning_is_refused_in_one_line(shape):
    with pytest.raises((ValueError, TypeError), match="shape") as error:
        unigrid.Poisson(shape)
    assert "\n" not in str(error.value)


def test_the_coordinates_broadcast_against_f_and_begin_at_the_low_corner():
    problem = unigrid.Poisson((4, 5, 3), lengths=(1.0, 2.0, 6.0), boundary=["dirichlet", "neumann", "periodic"])
    x, y, z = problem.coordinates()
    assert (x.shape, y.shape, z.shape) == ((4, 1, 1), (1, 5, 1), (1, 1, 3))
    np.testing.assert_allclose(x.ravel(), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(y.ravel(), [0.0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(z.ravel(), [0.0, 2.0, 4.0])


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_weights_are_the_volumes(centering):
    problem = unigrid.Poisson((3, 4), lengths=(2.0, 3.0), boundary="neumann", centering=centering)
    assert problem.weights.shape == (3, 4)
    assert problem.weights.sum() == pytest.approx(6.0)
    corner, inner = problem.weights[0, 0], problem.weights[1, 1]
    assert corner == pytest.approx(inner / 4 if centering == "vertex" else inner)


@pytest.mark.parametrize(
    ("boundary", "reaction", "singular"),
    [
        ("neumann", 0.0, True),
        ("periodic", 0.0, True),
        (["periodic", "neumann"], 0.0, True),
        (N(3.0), 0.0, True),
        ("neumann", 1e-3, False),
        (["neumann", ("neumann", "dirichlet")], 0.0, False),
        ("dirichlet", 0.0, False),
    ],
    ids=str,
)
def test_a_problem_is_singular_without_dirichlet_sides_and_reaction(boundary, reaction, singular):
    assert unigrid.Poisson((5, 6), boundary=boundary, reaction=reaction).singular is singular


def test_repr_says_what_the_problem_is():
    problem = unigrid.Poisson(
        (30, 40), lengths=(3, 5), boundary=["periodic", ("dirichlet", N(1.0))], centering="cell", reaction=2.0
    )
    text = repr(problem)
    for words in ("30 x 40", "3 x 5", "cell", "periodic", "dirichlet:neumann", "reaction 2"):
        assert words in text
    assert "reaction" not in repr(unigrid.Poisson(4))


# Right-hand sides, against equations written by hand.


@pytest.mark.parametrize(
    ("n", "boundary", "centering", "expected"),
    [
        # h = 1/4; the neighbors at 0 and 1 are known: (2 u1 - u2 - 5) / h^2 = f
        (3, [(D(5.0), D(7.0))], "vertex", [1 + 5 * 16, 1, 1 + 7 * 16]),
        # h = 1/3; the last node lies on the side: (2 u3 - 2 u2 - 2 h 7) / h^2 = f
        (3, [(D(5.0), N(7.0))], "vertex", [1 + 5 * 9, 1, 1 + 2 * 7 * 3]),
        (3, [(N(7.0), D(5.0))], "vertex", [1 + 2 * 7 * 3, 1, 1 + 5 * 9]),
        # h = 1/2
        (3, [(N(5.0), N(7.0))], "vertex", [1 + 2 * 5 * 2, 1, 1 + 2 * 7 * 2]),
        # h = 1/3; the ghost is 2 value - u: (3 u1 - u2 - 10) / h^2 = f
        (3, [(D(5.0), D(7.0))], "cell", [1 + 10 * 9, 1, 1 + 14 * 9]),
        # the ghost is u + h flux: (u3 - u2 - h 7) / h^2 = f
        (3, [(D(5.0), N(7.0))], "cell", [1 + 10 * 9, 1, 1 + 7 * 3]),
        (3, [(N(5.0), N(7.0))], "cell", [1 + 5 * 3, 1, 1 + 7 * 3]),
        (3, "periodic", "vertex", [1, 1, 1]),
        # one unknown, both sides act on it; h = 1/2, 1, 1
        (1, [(D(5.0), D(7.0))], "vertex", [1 + (5 + 7) * 4]),
        (1, [(D(5.0), D(7.0))], "cell", [1 + 10 + 14]),
        # the mirrored node of the Neumann end is the Dirichlet node: (2 u - 5 - (5 + 2 h 7)) / h^2 = f, h = 1
        (1, [(D(5.0), N(7.0))], "vertex", [1 + 5 + 5 + 14]),
    ],
    ids=str,
)
def test_boundary_values_folded_in_by_hand(n, boundary, centering, expected):
    np.testing.assert_allclose(unigrid.Poisson(n, boundary=boundary, centering=centering).rhs(np.ones(n)), expected, rtol=1e-14)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_values_along_a_side_go_to_their_own_unknowns(centering, rng):
    low, high = rng.standard_normal((2, 4, 3))
    problem = unigrid.Poisson((4, 5, 3), lengths=1.0, boundary=["neumann", (D(low), D(high)), "periodic"], centering=centering)
    b, gain = problem.rhs(0.0), (1 if centering == "vertex" else 2) / problem.spacing[1] ** 2
    np.testing.assert_allclose(b[:, 0], gain * low)
    np.testing.assert_allclose(b[:, -1], gain * high)
    assert not b[:, 1:-1].any()


def test_rhs_is_a_new_array_of_the_precision_of_f():
    problem = unigrid.Poisson((3, 4))
    for dtype, made in [(np.float32, np.float32), (np.float64, np.float64), (int, np.float64), (bool, np.float64)]:
        f = np.ones((3, 4), dtype)
        b = problem.rhs(f)
        assert b.dtype == made
        assert not np.shares_memory(b, f)
        assert b.flags.writeable
        assert b.flags.c_contiguous
    np.testing.assert_array_equal(problem.rhs(2.0), np.full((3, 4), 2.0))
    x, _ = problem.coordinates()
    np.testing.assert_array_equal(problem.rhs(x), np.broadcast_to(x, (3, 4)))


@pytest.mark.parametrize(
    "f", [np.ones((3, 4), complex), np.array([["a"] * 4] * 3), np.full((3, 4), None)], ids=["complex", "text", "object"]
)
def test_rhs_refuses_what_is_not_real(f):
    with pytest.raises((TypeError, ValueError), match=r"real|float"):
        unigrid.Poisson((3, 4)).rhs(f)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("kinds", [("dirichlet", "dirichlet"), ("dirichlet", "neumann"), ("neumann", "dirichlet")], ids=str)
def test_quadratics_are_solved_exactly_at_the_unknowns(kinds, centering):
    """Second differences are exact for them, mirrored and halved ghosts included, but for the cell-Dirichlet ghost."""
    low, high = kinds
    values = {"dirichlet": (D(1.0), D(1.0 + 2.0 + 3.0)), "neumann": (N(-2.0), N(2.0 + 2 * 3.0))}
    problem = unigrid.Poisson(12, lengths=1.0, boundary=[(values[low][0], values[high][1])], centering=centering)
    (x,) = problem.coordinates()
    u = scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), problem.rhs(np.full(12, -6.0)))
    exact = 1 + 2 * x + 3 * x**2
    if centering == "vertex":
        np.testing.assert_allclose(u, exact, rtol=1e-11)
    else:
        assert np.abs(u - exact).max() <= 3 * problem.spacing[0] ** 2


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_linear_functions_are_solved_exactly_whatever_the_sides(centering):
    shape, lengths = (7, 6), (1.0, 2.0)
    probe = unigrid.Poisson(shape, lengths=lengths, boundary=["dirichlet", ("neumann", "dirichlet")], centering=centering)
    x, y = (coordinate.ravel() for coordinate in probe.coordinates())
    boundary = [(D(1 + 3 * y), D(1 + 2 + 3 * y)), (N(-3.0), D(1 + 2 * x + 3 * 2.0))]
    u = unigrid.solve(
        np.zeros(shape), lengths=lengths, boundary=boundary, centering=centering, rtol=1e-13, raise_on_failure=False
    ).u
    np.testing.assert_allclose(u, 1 + 2 * x[:, None] + 3 * y, rtol=1e-11)


# Means.


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_is_the_one_in_the_weights(centering, dtype, rng):
    problem = unigrid.Poisson((9, 8), boundary="neumann", centering=centering)
    u = rng.standard_normal((9, 8)).astype(dtype)
    assert problem.mean(u) == pytest.approx((problem.weights * u).sum() / problem.weights.sum(), rel=1e-6)
    compatible = problem.compatible(u)
    assert compatible.dtype == dtype
    assert abs(problem.mean(compatible)) <= 10 * np.finfo(dtype).eps
    regular = unigrid.Poisson((9, 8))
    assert regular.compatible(u) is u


def test_a_compatible_right_hand_side_is_in_the_range_of_a(rng):
    problem = unigrid.Poisson((9, 8), boundary=["neumann", "periodic"])
    b = problem.compatible(rng.standard_normal((9, 8)))
    u = np.linalg.lstsq(problem.matrix().toarray(), b.ravel(), rcond=None)[0]
    np.testing.assert_allclose(problem.matrix() @ u, b.ravel(), rtol=0, atol=1e-11)


# Coarser problems.


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_a_coarser_problem_has_the_same_box_and_its_own_boundary_values(centering):
    def boundary(problem):
        x, y = (coordinate.ravel() for coordinate in problem.coordinates())
        return [(D(y**3), N(1 - y)), (D(2.5), N(x**2 - x))]

    options = {"lengths": (1.0, 2.0), "centering": centering, "reaction": 3.0}
    kinds = unigrid.Poisson((32, 50), boundary=[("dirichlet", "neumann")] * 2, **options)
    problem = unigrid.Poisson((32, 50), boundary=boundary(kinds), **options)
    coarse = problem.coarsened()
    assert coarse.lengths == pytest.approx((1.0, 2.0))
    assert coarse.reaction == 3.0
    assert coarse.shape == (16, 25)
    own = unigrid.Poisson(coarse.shape, boundary=boundary(coarse), **options)  # cubics are carried without error
    np.testing.assert_allclose(coarse.rhs(0.0), own.rhs(0.0), rtol=0, atol=1e-9)
    assert abs(coarse.matrix() - own.matrix()).max() < 1e-9


def test_one_unknown_is_not_coarsened():
    assert unigrid.Poisson((1, 1)).coarsened() is None


def test_the_matrix_is_sparse_by_rows_with_few_entries():
    matrix = unigrid.Poisson((20, 30, 4), boundary=["periodic", "dirichlet", "neumann"]).matrix()
    assert matrix.format == "csr"
    assert matrix.dtype == np.float64
    assert np.diff(matrix.indptr).max() <= 7


SIDES_OF_TWO_AXES = [
    "dirichlet",
    "neumann",
    "periodic",
    [("dirichlet", "neumann"), "periodic"],
    [("neumann", "neumann"), "dirichlet"],
]


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("boundary", SIDES_OF_TWO_AXES, ids=str)
def test_the_smallest_eigenvalue_is_that_of_the_matrix(boundary, centering, rng):
    for reaction in (0.0, 2.0):
        problem = unigrid.Poisson((7, 8), boundary=boundary, centering=centering, reaction=reaction)
        roots = np.sqrt(problem.weights.ravel())
        symmetric = roots[:, None] * problem.matrix().toarray() / roots
        eigenvalues = np.linalg.eigvalsh((symmetric + symmetric.T) / 2)
        wanted = eigenvalues[eigenvalues > 1e-9 * eigenvalues[-1]][0]
        assert problem.operator.smallest_eigenvalue == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("boundary", SIDES_OF_TWO_AXES, ids=str)
def test_the_bound_of_round_off_holds(boundary, centering, rng):
    """Also for the smoothest solution, which is the largest."""
    problem = unigrid.Poisson((30, 40), boundary=boundary, centering=centering)
    cycle = unigrid.StencilCycle(problem)
    x, y = problem.coordinates()
    for f in (rng.standard_normal(problem.shape), np.cos(np.pi * x / problem.lengths[0]) + 0 * y, 1.0 + 0 * x * y):
        b = problem.compatible(f)
        if np.linalg.norm(b) < 1e-10:  # a constant, of which a singular problem leaves nothing
            continue
        u = cycle.solve(b, maxiter=1, raise_on_failure=False).u
        assert np.linalg.norm(u) <= 4.0 * np.linalg.norm(b) / problem.operator.smallest_eigenvalue
