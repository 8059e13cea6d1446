"""-div(a grad u) + c u = f: the operator against an assembly of its own, solutions against sparse direct solves."""

import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import pack

import unigrid

D, N = unigrid.Dirichlet, unigrid.Neumann
SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def mean(a, b):
    return 2 * a * b / (a + b)


def beyond(first, second, distance):
    """Return the coefficient beyond an end: extrapolated where it is smooth, else that of the nearest unknown."""
    return first + distance * (first - second) if max(first, second) < 2 * min(first, second) else first


def assembled(a, c, spacing, sides, centering):
    """Return A entry by entry, and what a value of 1 on each side adds to b, from the equation of each unknown."""
    A = scipy.sparse.dok_array((a.size, a.size))
    number = np.arange(a.size).reshape(a.shape)
    added = {}
    for place in itertools.product(*(range(n) for n in a.shape)):
        own = number[place]
        A[own, own] += c[place]
        for axis, (n, h, pair) in enumerate(zip(a.shape, spacing, sides, strict=True)):
            i = place[axis]
            at = {o: (*place[:axis], (i + o) % n, *place[axis + 1 :]) for o in (-1, 1, -2, 2)}
            for step, side in ((-1, pair[0]), (1, pair[1])):
                if 0 <= i + step < n or side == "periodic":
                    w = mean(a[place], a[at[step]]) / h**2
                    # Between a Neumann node and its neighbor half of the volume loses the whole flux.
                    if centering == "vertex" and not 0 <= i - step < n and pair[0 if step > 0 else 1] == "neumann":
                        w *= 2
                    A[own, own] += w
                    A[own, number[at[step]]] -= w
                elif side == "dirichlet":
                    inner = a[at[-step]] if n > 1 else a[place]
                    if centering == "cell":
                        w = 2 * beyond(a[place], inner, 0.5) / h**2
                    else:
                        w = mean(a[place], beyond(a[place], inner, 1.0)) / h**2
                        if not 0 <= i - step < n and pair[0 if step > 0 else 1] == "neumann":
                            w *= 2
                    A[own, own] += w
                    added[axis, step, place] = w
                else:
                    added[axis, step, place] = (2 if centering == "vertex" else 1) / h
    return A.tocsr(), added


def random_case(seed, ndim):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, {1: 12, 2: 7, 3: 5}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    centering = ["vertex", "cell"][int(rng.integers(2))]
    least = [2 if (side, centering) == ("neumann", "vertex") else 1 for side in sides]
    shape = tuple(max(n, few) for n, few in zip(shape, least, strict=True))
    a = np.exp(rng.uniform(0, 2) * rng.standard_normal(shape))
    c = [np.zeros(shape), rng.random(shape)][int(rng.integers(2))]
    return rng, shape, sides, centering, a, c, tuple(rng.uniform(0.5, 2.0, ndim))


@pack
@pytest.mark.parametrize("seed", range(120))
def test_matrix_operator_and_right_hand_side_are_those_of_the_equation(seed):
    rng, shape, sides, centering, a, c, spacing = random_case(seed, 1 + seed % 3)
    pairs = [(side, side) if isinstance(side, str) else side for side in sides]
    values = rng.standard_normal((len(shape), 2))
    kinds = {"dirichlet": D, "neumann": N, "periodic": lambda _: unigrid.Periodic()}
    boundary = [tuple(kinds[s](v) for s, v in zip(pair, two, strict=True)) for pair, two in zip(pairs, values, strict=True)]
    problem = unigrid.Poisson(shape, boundary=boundary, centering=centering, coefficient=a, reaction=c, spacing=spacing)
    A, added = assembled(a, c, spacing, pairs, centering)
    scale = np.abs(A).max()
    assert np.abs(problem.matrix() - A).max() <= 1e-13 * scale
    u, f = rng.standard_normal(shape), rng.standard_normal(shape)
    assert np.abs(problem.operator(u) - (A @ u.ravel()).reshape(shape)).max() <= 1e-13 * scale * np.abs(u).max() * 10
    assert np.abs(problem.operator.residual(f, u) - (f - problem.operator(u))).max() <= 1e-13 * scale * 10
    b = f.copy()
    for (axis, step, place), weight in added.items():
        b[place] += weight * values[axis, 0 if step < 0 else 1]
    assert np.allclose(problem.rhs(f), b, rtol=1e-13, atol=1e-13 * np.abs(b).max())
    W = scipy.sparse.diags_array(problem.weights.ravel()) @ problem.matrix()
    assert np.abs(W - W.T).max() <= 1e-13 * np.abs(W).max()


def direct(problem, f):
    """Return the solution by a sparse direct method, of mean zero where the problem is singular."""
    A, b = problem.matrix(), problem.rhs(f).ravel()
    if problem.singular:
        w = (problem.weights / problem.weights.sum()).ravel()
        A = scipy.sparse.block_array([[A, np.ones((b.size, 1))], [w[None, :], None]])
        b = np.append(b, 0.0)
    return scipy.sparse.linalg.spsolve(A.tocsc(), b)[: f.size].reshape(f.shape)


@pack
@pytest.mark.parametrize("seed", range(90))
def test_solve_agrees_with_a_sparse_direct_solve(seed):
    rng = np.random.default_rng(1000 + seed)
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(3, {1: 400, 2: 70, 3: 16}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    centering = ["vertex", "cell"][int(rng.integers(2))]
    kind = int(rng.integers(4))
    a = [np.exp(rng.standard_normal(shape)), np.where(rng.random(shape) < 0.3, 1e3, 1.0), 1.0 + rng.random(shape), 2.5][kind]
    c = [0.0, 1.0, rng.random(shape) * 10, 1e3][int(rng.integers(4))]
    options = {"boundary": sides, "centering": centering, "coefficient": a, "reaction": c}
    problem = unigrid.Poisson(shape, **options)
    f = problem.compatible(rng.standard_normal(shape))
    solution = unigrid.solve(f, rtol=1e-9, **options)
    wanted = direct(problem, f)
    assert np.abs(solution.u - wanted).max() <= 1e-6 * np.abs(wanted).max()
    assert solution.iterations <= 35


CHECKS = {
    "smooth": (lambda x, y: 1 + 0.5 * np.sin(3 * x) * np.cos(2 * y), 7),
    "inclusion": (lambda x, y: np.where((abs(x - 0.5) < 0.25) & (abs(y - 0.5) < 0.25), 1e6, 1.0), 8),
    "quadrant": (lambda x, y: np.where((x < 0.5) ^ (y < 0.5), 1e6, 1.0), 9),
    "staircase": (lambda x, y: np.where(np.floor(8 * y) > np.floor(8 * x), 1e3, 1.0), 9),
}


@pytest.mark.parametrize(("coefficient", "most"), CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic", [("dirichlet", "neumann"), "periodic"]], ids=str)
@pytest.mark.parametrize("n", [100, 127])
def test_iterations_do_not_depend_on_jumps(coefficient, most, boundary, n):
    f = np.random.default_rng(1).standard_normal((n, n))
    f -= f.mean()
    x = (np.arange(n) + 0.5) / n
    a = coefficient(x[:, None], x[None, :])
    solution = unigrid.solve(f, coefficient=a, boundary=boundary, centering="cell", rtol=1e-8)
    assert solution.iterations <= most


@pytest.mark.parametrize("ratios", [(1.0, 1e3), (1e3, 1.0), (1.0, 1e-3)], ids=str)
@pytest.mark.parametrize("n", [90, 127])
def test_anisotropy_along_the_axes_costs_nothing(ratios, n):
    f = np.random.default_rng(1).standard_normal((n, n))
    assert unigrid.solve(f, coefficient=ratios, rtol=1e-8).iterations <= 10
    assert unigrid.solve(f, coefficient=np.ones((n, n)), lengths=ratios, rtol=1e-8).iterations <= 10


@pytest.mark.parametrize("ratios", [(2.0, 3.0, 40.0), (1.0, 1.0, 256.0), (1.0, 256.0, 1.0), (256.0, 1.0, 1.0)], ids=str)
def test_anisotropy_in_three_dimensions(ratios):
    f = np.random.default_rng(1).standard_normal((24, 24, 24))
    for boundary in ("dirichlet", ["periodic", "dirichlet", ("neumann", "dirichlet")]):
        assert unigrid.solve(f, coefficient=ratios, boundary=boundary, centering="cell", rtol=1e-8).iterations <= 9


def error_of(n, boundary_kinds, centering):
    """Return the error for u = sin(2 x + 1) exp(y), a = 1 + x^2 + y/2, with values and fluxes of the exact solution."""
    u = lambda x, y: np.sin(2 * x + 1) * np.exp(y)  # noqa: E731
    a = lambda x, y: 1 + x**2 + 0.5 * y  # noqa: E731
    ux, uy = lambda x, y: 2 * np.cos(2 * x + 1) * np.exp(y), u
    f = lambda x, y: -(2 * x * ux(x, y) + 0.5 * uy(x, y) + a(x, y) * (-4 + 1) * u(x, y)) + 3 * u(x, y)  # noqa: E731
    probe = unigrid.Poisson((n, n), boundary=boundary_kinds, centering=centering, lengths=(1.0, 1.0))
    x, y = probe.coordinates()
    boundary = []
    for axis, pair in enumerate(boundary_kinds):
        sides = []
        for end, kind in zip((0.0, 1.0), pair, strict=True):
            at = (end, y[0]) if axis == 0 else (x[:, 0], end)
            outward = (ux, uy)[axis](*at) * (1 if end else -1) * a(*at)
            sides.append(D(u(*at)) if kind == "dirichlet" else N(outward))
        boundary.append(tuple(sides))
    a_here = a(x, y)
    solved = unigrid.solve(
        f(x, y), boundary=boundary, centering=centering, lengths=(1.0, 1.0), coefficient=a_here, reaction=3.0, rtol=1e-11
    )
    return np.sqrt(np.mean((solved.u - u(x, y)) ** 2))


MIXES = [
    [("dirichlet", "dirichlet"), ("dirichlet", "dirichlet")],
    [("dirichlet", "neumann"), ("neumann", "dirichlet")],
    [("neumann", "neumann"), ("neumann", "neumann")],
]


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", MIXES, ids=["dirichlet", "mixed", "neumann"])
def test_the_discretization_is_of_second_order(sides, centering):
    errors = [error_of(n, sides, centering) for n in (32, 64, 128)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() >= 1.9
    assert orders[-1] >= 1.95


@pytest.mark.parametrize("n", [40, 63, 100])
def test_one_dimensional_jumps_are_reproduced_to_rounding(n):
    """-(a u')' = 0 between two layers, the jump on a face: u is linear in each, its flux continuous."""
    x = (np.arange(n) + 0.5) / n
    layer = n // 3
    a = np.where(np.arange(n) < layer, 1.0, 1e4)
    at = layer / n
    flux = 1.0 / (at / 1.0 + (1 - at) / 1e4)
    wanted = np.where(x < at, flux * x, 1.0 - flux * (1.0 - x) / 1e4)
    u = unigrid.solve(
        np.zeros(n), boundary=[(D(0.0), D(1.0))], centering="cell", coefficient=a, rtol=1e-13, raise_on_failure=False
    ).u
    assert np.abs(u - wanted).max() <= 1e-11


def test_a_function_arrays_at_faces_and_numbers_agree():
    n = 20
    f = np.random.default_rng(0).standard_normal((n, n + 3))
    one = unigrid.solve(f, coefficient=(2.0, 3.0), rtol=1e-11).u
    faces = np.full((n + 1, n + 3), 2.0), np.full((n, n + 4), 3.0)
    assert np.allclose(unigrid.solve(f, coefficient=faces, rtol=1e-11).u, one, rtol=0, atol=1e-9 * np.abs(one).max())
    number = unigrid.solve(f, coefficient=2.0, rtol=1e-11).u
    assert np.allclose(2 * number, unigrid.solve(f, rtol=1e-11).u, rtol=0, atol=1e-9 * np.abs(number).max())
    by_function = unigrid.solve(f, coefficient=lambda x, y: 2.0 + 0 * x, rtol=1e-11).u
    assert np.allclose(by_function, number, rtol=0, atol=1e-9 * np.abs(number).max())


def test_single_precision_stays_single():
    f = np.random.default_rng(0).standard_normal((60, 70)).astype(np.float32)
    a = np.exp(np.random.default_rng(1).standard_normal((60, 70)))
    solution = unigrid.solve(f, coefficient=a, reaction=1.0)
    assert solution.u.dtype == np.float32
    wanted = unigrid.solve(f.astype(np.float64), coefficient=a, reaction=1.0).u
    assert np.abs(solution.u - wanted).max() <= 1e-3 * np.abs(wanted).max()


def test_results_do_not_depend_on_the_number_of_threads():
    f = np.random.default_rng(0).standard_normal((401, 400))
    a = np.exp(np.random.default_rng(1).standard_normal(f.shape))
    for boundary in ("dirichlet", ["periodic", "neumann"]):
        one, two = (unigrid.solve(f, coefficient=a, boundary=boundary, reaction=1.0, threads=t).u for t in (1, 2))
        assert np.abs(one - two).max() <= 1e-9 * np.abs(one).max()


def test_the_cycle_is_a_value_and_can_be_pickled():
    problem = unigrid.Poisson((40, 40), coefficient=lambda x, y: 1 + x)
    cycle = unigrid.GalerkinCycle(problem)
    f = np.ones((40, 40))
    with pytest.raises(AttributeError, match="fixed"):
        cycle.smoother = "lines"
    u = cycle.solve(f).u
    problem = pickle.loads(pickle.dumps(problem))
    assert np.array_equal(unigrid.GalerkinCycle(problem).solve(f).u, u)
    assert np.array_equal(unigrid.solve(f, cycle=cycle).u, u)
    assert "points" in repr(cycle)
    seen = []
    assert np.array_equal(cycle.solve(f, callback=lambda s: seen.append(s.residuals[-1])).u, u)
    assert len(seen) == cycle.solve(f).iterations


LAYERS = np.arange(1.0, 9.0)[:, None] * np.ones(8)
BAD = {
    "zero": ({"coefficient": np.zeros((8, 8))}, r"must be > 0 everywhere, but coefficient\[0, 0\] is 0"),
    "negative": ({"coefficient": np.where(np.eye(8) == 1, -1.0, 1.0)}, r"coefficient\[0, 0\] is -1"),
    "nan": ({"coefficient": np.where(np.eye(8)[::-1] == 1, np.nan, 1.0)}, r"coefficient\[0, 7\] is nan"),
    "shape": ({"coefficient": np.ones((7, 8))}, r"array of f's shape \(8, 8\).*got an array of shape \(7, 8\)"),
    "faces": ({"coefficient": (np.ones((8, 8)), np.ones((8, 9)))}, r"coefficient\[0\].*must have shape \(9, 8\), got \(8, 8\)"),
    "function": ({"coefficient": lambda x, y: np.ones(3)}, r"must return values that broadcast to \(9, 8\).*got shape \(3,\)"),
    "negative_number": ({"coefficient": -2.0}, r"must be a finite number > 0, got -2.0"),
    "reaction_shape": ({"reaction": np.ones(8)}, r"array of f's shape \(8, 8\), got shape \(8,\)"),
    "slots": ({"coefficient": LAYERS, "restriction": "injection"}, r"bring their own slots; leave out restriction"),
    "smoother": (
        {"coefficient": LAYERS, "smoother": "jacobi"},
        r"unknown smoother 'jacobi'; allowed: 'auto', 'points', 'lines'",
    ),
    "one_pass": ({"coefficient": LAYERS, "rtol": "discretization"}, r"needs constant coefficients; give a number"),
    "mixed": ({"coefficient": LAYERS, "precision": "mixed", "accelerate": None}, r"leave out accelerate"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        unigrid.solve(np.ones((8, 8)), **options)
    assert "\n" not in str(error.value)


def test_the_stencil_cycle_names_the_other_one():
    with pytest.raises(TypeError, match="GalerkinCycle"):
        unigrid.StencilCycle(unigrid.Poisson((8, 8), coefficient=LAYERS))


@pytest.mark.parametrize("c", [1e-300, 1e-12, 1e-6, 1e-2])
@pytest.mark.parametrize(("boundary", "centering"), [("neumann", "cell"), ("periodic", "vertex"), ("neumann", "vertex")])
def test_a_tiny_reaction_leaves_the_solution_right(c, boundary, centering):
    """The solution is that of c = 0, but for c / eigenvalue, and its mean is zero."""
    rng = np.random.default_rng(2)
    a = np.exp(rng.standard_normal((48, 40)))
    f = rng.integers(-9, 9, (48, 40)) * 8.0
    problem = unigrid.Poisson(f.shape, boundary=boundary, centering=centering, coefficient=a, reaction=c)
    weights = problem.weights / np.prod(problem.spacing)
    f[20, 20] -= (weights * f).sum()
    u = unigrid.solve(f, boundary=boundary, centering=centering, coefficient=a, reaction=c, rtol=1e-10).u
    without = unigrid.solve(f, boundary=boundary, centering=centering, coefficient=a, rtol=1e-10).u
    assert np.abs(u - without).max() <= (1e-7 + c) * np.abs(without).max()


def test_a_tiny_reaction_that_varies_is_solved_for():
    rng = np.random.default_rng(3)
    a, c = np.exp(rng.standard_normal((30, 30))), 1e-4 * rng.random((30, 30))
    f = rng.standard_normal((30, 30))
    problem = unigrid.Poisson(f.shape, boundary="neumann", centering="cell", coefficient=a, reaction=c)
    u = unigrid.solve(f, boundary="neumann", centering="cell", coefficient=a, reaction=c, rtol=1e-9).u
    assert np.abs(u - direct(problem, f)).max() <= 1e-6 * np.abs(u).max()


def test_what_needs_constant_coefficients_refuses_others():
    from unigrid.analysis import FourierAnalysis

    problem = unigrid.Poisson((8, 8), coefficient=LAYERS)
    with pytest.raises(TypeError, match=r"constant coefficients.*measured_factor"):
        FourierAnalysis(problem)
    assert 0 < unigrid.analysis.measured_factor(unigrid.GalerkinCycle(unigrid.Poisson((63, 63), coefficient=2.0))) < 0.07


def test_an_array_of_one_number_is_that_number():
    """An array of zeros leaves a problem singular, and its compatibility is checked."""
    f = np.random.default_rng(0).standard_normal((20, 20))
    with pytest.raises(ValueError, match="has mean zero"):
        unigrid.solve(f + 1.0, boundary="periodic", reaction=np.zeros(f.shape))
    f -= f.mean()
    for c in (0.0, 1e-9):
        number = unigrid.solve(f, boundary="periodic", reaction=c, rtol=1e-11).u
        array = unigrid.solve(f, boundary="periodic", reaction=np.full(f.shape, c), rtol=1e-11).u
        assert np.abs(number - array).max() <= 1e-9 * np.abs(number).max()


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", ["periodic", ("dirichlet", "neumann")]], ids=str)
def test_the_cycle_takes_constant_coefficients_too(boundary):
    f = np.random.default_rng(0).standard_normal((50, 41))
    problem = unigrid.Poisson(f.shape, boundary=boundary, reaction=0.5)
    wanted = unigrid.solve(f, boundary=boundary, reaction=0.5, rtol=1e-11).u
    assert np.abs(unigrid.GalerkinCycle(problem).solve(f, rtol=1e-11).u - wanted).max() <= 1e-8 * np.abs(wanted).max()


@pytest.mark.parametrize(("boundary", "centering"), [("neumann", "cell"), ("neumann", "vertex"), ("periodic", "vertex")])
def test_conjugate_gradients_end_where_rounding_does(boundary, centering):
    """With u so large that rounding is felt: the noise of one direction must not be carried on by the following ones."""
    f = np.random.default_rng(1).standard_normal((127, 127))
    problem = unigrid.Poisson(f.shape, lengths=(1.0, 1e3), boundary=boundary, centering=centering, coefficient=np.ones(f.shape))
    f = problem.compatible(f)
    solution = unigrid.GalerkinCycle(problem).solve(f, rtol=0.0, raise_on_failure=False)
    rounding = 0.5 * np.finfo(float).eps * (problem.operator.magnitude(solution.u) + np.linalg.norm(f))
    assert solution.residuals[-1] <= rounding
    assert solution.iterations <= 8


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", [("dirichlet", "neumann"), ("neumann", "dirichlet"), ("neumann", "neumann")], ids=str)
def test_one_coefficient_per_axis_is_the_constant_case(sides, centering):
    """Its answer is that of the same numbers at every face, and of the same problem in lengths over sqrt(a)."""
    rng = np.random.default_rng(0)
    shape, a, h = (21, 30), (3.0, 0.02), (0.5, 0.7)
    kinds = {"dirichlet": D, "neumann": N}
    boundary = [tuple(kinds[side](rng.standard_normal()) for side in sides), "dirichlet"]
    options = {"boundary": boundary, "centering": centering, "reaction": 0.3, "spacing": h}
    problem, f = unigrid.Poisson(shape, coefficient=a, **options), rng.standard_normal(shape)
    varying = unigrid.Poisson(shape, coefficient=lambda x, y: 1.0 + 0 * x, **options)
    faces = tuple(value * np.ones_like(face) for value, face in zip(a, varying.operator.faces, strict=True))
    varying.operator = type(varying.operator)(varying.grid, faces, np.float64(0.3))
    assert not problem.varies
    assert "coefficient 3 x 0.02" in repr(problem)
    assert np.abs(problem.matrix() - varying.matrix()).max() <= 1e-14 * np.abs(varying.matrix()).max()
    assert np.allclose(problem.rhs(f), varying.rhs(f), rtol=1e-13, atol=1e-13)
    assert np.allclose(problem.weights, varying.weights, rtol=1e-14)
    assert all(map(np.array_equal, problem.coordinates(), varying.coordinates()))
    assert problem.spacing == h
    u = unigrid.solve(f, coefficient=a, rtol=1e-11, **options).u
    wanted = scipy.sparse.linalg.spsolve(problem.matrix(), problem.rhs(f).ravel()).reshape(shape)
    assert np.abs(u - wanted).max() <= 1e-8 * np.abs(wanted).max()


def test_constant_coefficients_keep_what_the_constant_case_has():
    f = np.random.default_rng(0).standard_normal((63, 63))
    solution = unigrid.solve(f, coefficient=(1.0, 1e-3), rtol="discretization")
    assert solution.iterations == 1
    assert unigrid.solve(f, coefficient=(1.0, 1e-3)).iterations <= 5
    assert "StencilCycle" in repr(unigrid.StencilCycle(unigrid.Poisson((63, 63), coefficient=(1.0, 1e-3))))
    with pytest.raises(ValueError, match=r"coefficient / spacing\^2 of axis 1 is 1e-200 / 0.0156\^2, too far from 1"):
        unigrid.solve(f, coefficient=(1.0, 1e-200))


def test_the_problem_names_its_coefficients():
    a, c = np.linspace(0.5, 3.0, 64).reshape(8, 8), np.linspace(0.0, 2.0, 64).reshape(8, 8)
    end = "dirichlet:dirichlet, dirichlet:dirichlet"
    varying = repr(unigrid.Poisson((8, 8), coefficient=a, reaction=c, boundary="periodic"))
    assert "periodic, periodic, coefficient 0.51" in varying
    assert varying.endswith(", reaction 0 to 2>")
    assert repr(unigrid.Poisson((8, 8), reaction=c)).endswith(end + ", coefficient 1, reaction 0 to 2>")
    assert repr(unigrid.Poisson((8, 8), coefficient=2.0, reaction=3.0)).endswith(end + ", coefficient 2 x 2, reaction 3>")
    assert repr(unigrid.Poisson((8, 8))).endswith(end + ">")


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_fourth_order_takes_one_coefficient_per_axis(centering):
    """U = sin(2 x + 1) exp(y), a value and a flux a du/dn on either axis: the error falls as h^4."""
    a, errors = (2.0, 0.3), []
    for n in (16, 32):
        kinds = {"lengths": (1.0, 1.0), "centering": centering}
        x, y = unigrid.Poisson((n, n), boundary=[("dirichlet", "neumann"), ("neumann", "dirichlet")], **kinds).coordinates()
        u = np.sin(2 * x + 1) * np.exp(y)
        boundary = [
            (D(np.sin(1.0) * np.exp(y[0])), N(a[0] * 2 * np.cos(3.0) * np.exp(y[0]))),
            (N(-a[1] * np.sin(2 * x[:, 0] + 1)), D(np.sin(2 * x[:, 0] + 1) * np.e)),
        ]
        f = (4 * a[0] - a[1] + 3.0) * u
        solved = unigrid.solve(f, order=4, coefficient=a, reaction=3.0, boundary=boundary, rtol=1e-11, **kinds).u
        errors.append(np.sqrt(np.mean((solved - u) ** 2)))
    assert np.log2(errors[0] / errors[1]) > 3.7
