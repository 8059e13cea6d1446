"""Robin sides: their limits, what they do to singular problems, how fast they are solved, and what is refused."""

import pickle

import numpy as np
import pytest
import scipy.sparse.linalg

import unigrid
from unigrid.stencil.operator import StencilOperator

SHAPE = (21, 18)


def source(seed=0):
    return np.random.default_rng(seed).standard_normal(SHAPE)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_alpha_zero_is_a_neumann_side(centering):
    boundary = [(unigrid.Robin(np.zeros(18), 0.3), "dirichlet"), (unigrid.Robin(0, 0.2), unigrid.Robin(0.0))]
    problem = unigrid.Poisson(SHAPE, boundary=boundary, centering=centering)
    assert isinstance(problem.operator, StencilOperator)
    wanted = [(unigrid.Neumann(0.3), "dirichlet"), (unigrid.Neumann(0.2), "neumann")]
    one, other = (unigrid.solve(source(), boundary=each, centering=centering).u for each in (boundary, wanted))
    assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="has mean zero"):
        unigrid.solve(source() + 1.0, boundary=unigrid.Robin(0.0), centering=centering)


@pytest.mark.parametrize("alpha", [1e4, 1e8, 1e60])
def test_a_large_alpha_is_a_dirichlet_side(alpha):
    """Cells; u on the side differs from value / alpha by the flux over alpha."""
    values = np.random.default_rng(1).standard_normal(18)
    sides = [(unigrid.Robin(alpha, alpha * values), "neumann"), "periodic"]
    u = unigrid.solve(source(), boundary=sides, centering="cell", rtol=1e-11).u
    wanted = unigrid.solve(source(), boundary=[(unigrid.Dirichlet(values), "neumann"), "periodic"], centering="cell").u
    assert np.abs(u - wanted).max() <= 100.0 / alpha + 1e-7


def test_a_large_alpha_at_nodes():
    """Vertices: the nodes on the side are unknowns, and have nearly the value."""
    values = np.random.default_rng(1).standard_normal(18)
    alpha = 5e3 * 20  # times a / h
    u = unigrid.solve(source(), boundary=[(unigrid.Robin(alpha, alpha * values), "neumann"), "periodic"], rtol=1e-11).u
    beyond = unigrid.solve(source()[1:], boundary=[(unigrid.Dirichlet(values), "neumann"), "periodic"], spacing=1 / 20).u
    assert np.abs(u[1:] - beyond).max() <= 2e-3
    assert np.abs(u[0] - values).max() <= 2e-3
    with pytest.raises(
        ValueError, match=r"alpha of the low side of axis 0 is 1e\+07 times a / h.*give Dirichlet.*or centering"
    ):
        unigrid.solve(source(), boundary=[(unigrid.Robin(2e8), "neumann"), "periodic"])


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_a_box_without_dirichlet_sides_is_regular(centering):
    """Whatever the mean of f; also where alpha is 0 on most of the side."""
    alpha = np.where(np.arange(18) < 3, 2.0, 0.0)
    boundary = [(unigrid.Robin(alpha, 1.0), "neumann"), "neumann"]
    problem = unigrid.Poisson(SHAPE, boundary=boundary, centering=centering)
    assert not problem.singular
    f = source() + 1.0
    wanted = scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), problem.rhs(f).ravel()).reshape(SHAPE)
    u = unigrid.solve(f, boundary=boundary, centering=centering, rtol=1e-11).u
    assert np.abs(u - wanted).max() <= 1e-8 * np.abs(wanted).max()


def test_what_flows_in_flows_out():
    """The integral of f leaves through the sides: sum of alpha u area, u on the side half a spacing beyond the cells."""
    alpha, f = 3.0, np.abs(source())
    problem = unigrid.Poisson(SHAPE, boundary=unigrid.Robin(alpha), centering="cell")
    u = unigrid.solve(f, boundary=unigrid.Robin(alpha), centering="cell", rtol=1e-12).u
    h, k = problem.spacing
    ends = np.array([u[0], u[-1]]).sum() * k / (1 + alpha * h / 2) + np.array([u[:, 0], u[:, -1]]).sum() * h / (
        1 + alpha * k / 2
    )
    assert alpha * ends == pytest.approx(f.sum() * h * k, rel=1e-9)


@pytest.mark.parametrize("alpha", [1e-2, 3.0, 1e2, 1e3])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_iterations_do_not_depend_on_alpha(centering, alpha):
    f = np.random.default_rng(0).standard_normal((127, 100))
    mixes = [
        unigrid.Robin(alpha),
        [(unigrid.Robin(alpha), "neumann"), "periodic"],
        [("dirichlet", unigrid.Robin(alpha)), "neumann"],
    ]
    for boundary in mixes:
        for ratios in ((1.0, 1.0), (1.0, 1e3)):
            assert unigrid.solve(f, boundary=boundary, centering=centering, coefficient=ratios).iterations <= 7


def test_beside_masks_coefficients_and_single_precision():
    rng = np.random.default_rng(0)
    mask, a = rng.random(SHAPE) < 0.8, np.exp(rng.standard_normal(SHAPE))
    options = {"boundary": unigrid.Robin(2.0, 0.5), "centering": "cell", "coefficient": a, "mask": mask, "outside": 1.0}
    u = unigrid.solve(source(), rtol=1e-11, **options).u
    whole = unigrid.Poisson(SHAPE, boundary=unigrid.Robin(2.0, 0.5), centering="cell", coefficient=a)
    A, inside = whole.matrix().toarray(), mask.ravel()
    b = whole.rhs(source()).ravel()[inside] - A[np.ix_(inside, ~inside)].sum(axis=1)
    assert np.allclose(u[mask], np.linalg.solve(A[np.ix_(inside, inside)], b), rtol=0, atol=1e-8)
    single = unigrid.solve(source().astype(np.float32), **options).u
    assert single.dtype == np.float32
    assert np.abs(single - u).max() <= 1e-3


def test_it_is_named_and_can_be_pickled():
    problem = unigrid.Poisson(SHAPE, boundary=[(unigrid.Robin(1.0), "neumann"), "periodic"])
    assert "robin:neumann, periodic" in repr(problem)
    assert problem.sides == (("robin", "neumann"), ("periodic", "periodic"))
    again = pickle.loads(pickle.dumps(problem))
    assert np.array_equal(again.matrix().toarray(), problem.matrix().toarray())


BAD = {
    "negative": (
        unigrid.Robin(-1.0),
        ValueError,
        r"alpha of the low side of axis 0 must be >= 0, got -1: .* no stable solution",
    ),
    "one": (unigrid.Robin([1.0] * 17 + [-2.0]), ValueError, "alpha of the low side of axis 0 must be >= 0, got -2"),
    "nan": (unigrid.Robin(np.nan), ValueError, "alpha of the low side of axis 0 must be a finite number"),
    "infinite": (unigrid.Robin(np.inf), ValueError, "alpha of the low side of axis 0 must be a finite number"),
    "large": (unigrid.Robin(1e300), ValueError, r"must be at most 1e\+70; there, give Dirichlet"),
    "shape": (unigrid.Robin(np.ones(7)), ValueError, r"must be a number or an array of shape \(18,\).*got \(7,\)"),
    "value": (unigrid.Robin(1.0, np.ones(7)), ValueError, r"the low boundary value of axis 0 must be a number or an array of"),
    "word": ("robin", ValueError, r"is 'robin', which needs numbers: unigrid.Robin\(alpha, value\)"),
    "text": (unigrid.Robin("warm"), TypeError, "alpha of the low side of axis 0 must be an array of real numbers"),
}


@pytest.mark.parametrize(("side", "error", "message"), BAD.values(), ids=BAD)
def test_bad_sides_are_refused_in_one_line(side, error, message):
    with pytest.raises(error, match=message) as raised:
        unigrid.Poisson(SHAPE, boundary=[(side, "dirichlet"), "periodic"], centering="cell")
    assert "\n" not in str(raised.value)


def test_the_coefficient_is_read_on_robin_sides_alone():
    """On a Neumann side the flux is given: r may be the coefficient of cells up to the axis of a cylinder."""
    r = lambda x, y: x + 0 * y  # noqa: E731
    for sides in (("neumann", "dirichlet"), ("neumann", unigrid.Robin(1.0))):
        unigrid.Poisson(SHAPE, boundary=[sides, "periodic"], centering="cell", coefficient=r)
    faces = np.linspace(0, 1, 22)[:, None] * np.ones(18), np.ones(SHAPE)
    unigrid.Poisson(SHAPE, boundary=["neumann", "periodic"], centering="cell", coefficient=faces)
    with pytest.raises(ValueError, match=r"coefficient\[0\] must be > 0 everywhere, but coefficient\[0\]\[0, 0\] is 0"):
        unigrid.Poisson(SHAPE, boundary=[unigrid.Robin(1.0), "periodic"], centering="cell", coefficient=faces)
    with pytest.raises(ValueError, match=r"coefficient\(\.\.\.\)\[0, 0\] is 0"):
        unigrid.Poisson(SHAPE, boundary=["dirichlet", "periodic"], centering="cell", coefficient=r)
