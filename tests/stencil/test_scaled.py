"""Smooth coefficients by cycles for constant ones: the bound against eigenvalues, solutions against sparse direct solves."""

import pickle

import numpy as np
import pytest
import scipy.sparse.linalg as linalg
from scipy.linalg import eigh, eigvalsh
from tiers import pack

import unigrid
from unigrid.stencil import scaled
from unigrid.stencil.scaled import ScaledCycle, scaling_of
from unigrid.stencil.solve import prepared_cycle

DEFAULTS = {
    "smoothing": "tuned", "smoother": None, "pre": None, "post": None, "restriction": "full-weighting",
    "prolongation": "linear",
}  # fmt: skip
SIDES = ["dirichlet", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def wave(*x):
    return 2.0 + 0.5 * np.sin(3.0 * x[0]) * np.cos(2.0 * x[-1])


def along_x(x, y):
    return 1.0 + 0.3 * np.sin(3.0 * x) + 0.0 * y


def random_problem(rng, ndim):
    shape = tuple(int(n) for n in rng.integers(*{2: (5, 13), 3: (4, 7)}[ndim], ndim))
    sides = ["dirichlet", *(SIDES[int(i)] for i in rng.integers(0, 4, ndim - 1))]
    rng.shuffle(sides)
    cells = bool(rng.integers(2)) or not {"dirichlet", "periodic"}.issuperset(map(str, sides))
    options = {"boundary": sides, "centering": "cell" if cells else "vertex", "spacing": tuple(rng.uniform(0.5, 2, ndim) / 20)}
    x = unigrid.Poisson(shape, **options).coordinates()
    a = np.exp(sum(rng.uniform(-1, 1) * each + rng.uniform(-0.2, 0.2) * np.sin(5 * each) for each in x))
    reaction = [0.0, 3.0, 5.0 * rng.random(shape)][int(rng.integers(3))]
    return unigrid.Poisson(shape, coefficient=a, reaction=reaction, **options)


def constant(problem, shift):
    return unigrid.Poisson.homogeneous_on(problem.grid, shift).matrix().toarray()


@pack
@pytest.mark.parametrize("seed", range(24))
def test_the_bound_is_one_of_the_eigenvalues(seed):
    """|eigenvalue - 1| of (L + s)^-1 S^-1 A S^-1, densely; S is the root of the mean of the faces around a point."""
    problem = random_problem(np.random.default_rng(seed), 2 + seed % 2)
    scaling = scaling_of(problem, np.inf, np.dtype(np.float64))
    root = np.diag(scaling.weights.ravel())
    eigenvalues = eigh(root @ problem.matrix().toarray() @ root, constant(problem, scaling.shift), eigvals_only=True)
    assert abs(eigenvalues - 1.0).max() <= scaling.contraction * (1.0 + 1e-9)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_a_barrier_is_the_largest_multiple_of_itself_below_the_operator(side, centering):
    """L phi = v phi with phi > 0: the least eigenvalue of L - v is zero."""
    axis = unigrid.Poisson(12, lengths=2.0, boundary=[side], centering=centering).grid.axes[0]
    eigenvalues = eigvalsh(axis.second_difference().toarray() - np.diag(scaled._barrier(axis)))
    if centering == "cell" or side in ("dirichlet", "periodic"):  # else it is symmetric in another inner product
        assert abs(eigenvalues[0]) < 1e-10 * eigenvalues[-1]
        assert eigenvalues[1] > 1e-3 * eigenvalues[-1]


def test_the_bound_written_out():
    """A constant a, so that the potential is c / a."""
    least = float(eigvalsh(unigrid.Poisson((9, 12)).matrix().toarray())[0])
    for c in (np.full((9, 12), 10.0), np.linspace(8.0, 80.0, 108).reshape(9, 12)):
        problem = unigrid.Poisson((9, 12), coefficient=2.0 * np.ones((9, 12)), reaction=c)
        scaling = scaling_of(problem, 1.0, np.dtype(np.float64))
        middle, half = 0.25 * (c.min() + c.max()), 0.25 * (c.max() - c.min())
        assert np.isclose(scaling.shift, middle)
        assert np.isclose(scaling.contraction, half / (least + middle))


def test_the_bound_is_sharp_within_a_factor_and_falls_with_the_variation():
    found = []
    for part in (0.4, 0.2, 0.1):
        problem = unigrid.Poisson((16, 16), coefficient=lambda x, y, part=part: 1.0 + part * np.sin(3 * x) * np.cos(2 * y))
        scaling = scaling_of(problem, 1.0, np.dtype(np.float64))
        root = np.diag(scaling.weights.ravel())
        matrices = root @ problem.matrix().toarray() @ root, constant(problem, scaling.shift)
        found.append((scaling.contraction, abs(eigh(*matrices, eigvals_only=True) - 1.0).max()))
    for bound, exact in found:
        assert exact <= bound < 4 * exact
    assert found[0][0] > 1.5 * found[1][0] > 2.4 * found[2][0]


@pytest.mark.parametrize(
    "options",
    [
        {"coefficient": wave},
        {"coefficient": wave, "centering": "cell", "reaction": 7.0},
        {"coefficient": wave, "boundary": [(unigrid.Dirichlet(2.0), "dirichlet"), "dirichlet"]},
        {"coefficient": wave, "lengths": (2.0, 0.5), "reaction": lambda shape: 9.0 * np.random.default_rng(2).random(shape)},
        {"coefficient": (wave, wave)},
        {"coefficient": lambda x, y: 1.0 + 0.2 * np.sin(2 * np.pi * x) + 0 * y, "boundary": ["periodic", "dirichlet"]},
        {"coefficient": along_x, "boundary": ["dirichlet", ("dirichlet", unigrid.Neumann(1.0))], "centering": "cell"},
        {"coefficient": lambda x, y, z: wave(x, y) + z, "shape": (17, 20, 15)},
        {"coefficient": lambda x, y, z: wave(x, y) + z, "shape": (16, 13, 15), "centering": "cell"},
    ],
)
def test_solutions_are_those_of_a_direct_solve(options):
    options = dict(options)
    shape = options.pop("shape", (45, 38))
    if callable(options.get("reaction")):
        options["reaction"] = options["reaction"](shape)
    f = np.random.default_rng(0).standard_normal(shape)
    problem = unigrid.Poisson(shape, **options)
    solution = unigrid.solve(f, cycle="scaled", rtol=1e-10, **options)
    wanted = linalg.spsolve(problem.matrix().tocsc(), problem.rhs(f).ravel()).reshape(shape)
    assert abs(solution.u - wanted).max() <= 1e-8 * abs(wanted).max()
    assert solution.iterations <= 9


def test_iterations_grow_with_the_bound_alone():
    """Random f: what a bound of a contraction promises, and about the same number on all grids."""
    for part, most in ((0.0, 5), (0.5, 6), (0.9, 7)):
        for n in (40, 81, 160):
            f = np.random.default_rng(1).standard_normal((n, n))
            a = unigrid.Poisson((n, n), centering="cell").coordinates()
            a = 1.01 + part * np.sin(3 * a[0]) * np.cos(2 * a[1])
            solution = unigrid.solve(f, coefficient=a, centering="cell", cycle="scaled", rtol=1e-8)
            assert solution.iterations <= most


def chosen(n=128, once=True, **options):
    return prepared_cycle(unigrid.Poisson((n, n), **options), "V", DEFAULTS, once)


def test_it_is_chosen_where_the_bound_allows_it():
    x, y = unigrid.Poisson((128, 128)).coordinates()
    noise = np.random.default_rng(0).standard_normal((128, 128))
    assert isinstance(chosen(coefficient=wave), ScaledCycle)
    others = [
        chosen(n=127, coefficient=wave),  # small: cycles in double precision
        chosen(coefficient=wave, once=False),
        chosen(coefficient=np.exp(noise)),
        chosen(coefficient=np.exp(0.01 * noise)),
        chosen(coefficient=np.where((abs(x - 0.9) < 0.05) & (abs(y - 0.9) < 0.05), 1e6, 1.0)),  # beside the middle rows
        chosen(coefficient=lambda x, y: 2 + np.sin(40 * x) * np.sin(40 * y)),
        chosen(coefficient=lambda x, y: 1 + x, boundary=["neumann", "dirichlet"]),
        chosen(coefficient=lambda x, y: 1 + x, boundary=["neumann", "dirichlet"], centering="cell"),
        chosen(coefficient=wave, boundary="neumann"),
        chosen(coefficient=wave, boundary=unigrid.Robin(1.0)),
        chosen(coefficient=wave, mask=x + y < 1.5),
        chosen(coefficient=(lambda x, y: 1 + 0 * x, wave)),
    ]
    assert [type(each).__name__ for each in others] == ["GalerkinCycle"] * len(others)


def test_the_bound_decides_and_nothing_else(monkeypatch):
    problem = unigrid.Poisson((128, 128), coefficient=wave)
    bound = scaling_of(problem, 1.0, np.dtype(np.float32)).contraction
    for most, kind in ((bound * 1.001, "ScaledCycle"), (bound * 0.999, "GalerkinCycle")):
        monkeypatch.setattr(scaled, "MOST_CONTRACTION", most)
        assert type(prepared_cycle(problem, "V", DEFAULTS, True)).__name__ == kind


def test_both_ways_can_be_chosen_and_agree():
    f = np.random.default_rng(3).standard_normal((130, 140))
    solutions = [unigrid.solve(f, coefficient=wave, cycle=cycle, rtol=1e-9) for cycle in ("V", "scaled", "galerkin")]
    for solution in solutions:
        assert np.linalg.norm(solution.u - solutions[0].u) <= 1e-8 * np.linalg.norm(solutions[0].u)
    kinds = [
        chosen(coefficient=wave),
        prepared_cycle(unigrid.Poisson((128, 128), coefficient=wave), "galerkin", DEFAULTS, True),
    ]
    assert [type(each).__name__ for each in kinds] == ["ScaledCycle", "GalerkinCycle"]


def test_the_smoother_given_beside_its_name_is_that_of_the_cycle():
    f = np.ones((31, 31))
    given = unigrid.solve(f, coefficient=wave, cycle="scaled", smoother="jacobi")
    made = ScaledCycle(unigrid.Poisson(f.shape, coefficient=wave), smoother="jacobi").solve(f)
    assert np.array_equal(given.u, made.u)
    with pytest.raises(ValueError, match="unknown smoother 'points'; allowed: 'jacobi'"):
        unigrid.solve(f, coefficient=wave, cycle="scaled", smoother="points")
    with pytest.raises(ValueError, match=r"unknown cycle 'scald'.* did you mean 'scaled'"):
        unigrid.solve(f, coefficient=wave, cycle="scald")


def test_rough_coefficients_are_solved_as_before():
    f = np.random.default_rng(3).standard_normal((130, 140))
    a = np.exp(np.random.default_rng(4).standard_normal(f.shape))
    default, galerkin = (unigrid.solve(f, coefficient=a, cycle=cycle) for cycle in ("V", "galerkin"))
    assert default.residuals == galerkin.residuals
    assert (default.u == galerkin.u).all()


@pytest.mark.parametrize(
    "options", [{"precision": "full"}, {"precision": "mixed"}, {"accelerate": None}, {"accelerate": "minres"}]
)
def test_every_way_of_solving(options):
    problem = unigrid.Poisson((40, 50), coefficient=wave)
    f = np.random.default_rng(5).standard_normal(problem.shape)
    cycle = ScaledCycle(problem)
    wanted = linalg.spsolve(problem.matrix().tocsc(), f.ravel()).reshape(f.shape)
    for given in (f, np.array([f, 2 * f])):
        u = cycle.solve(given, rtol=1e-9, **options).u
        assert np.allclose(u, [wanted, 2 * wanted] if given.ndim == 3 else wanted, atol=1e-7 * abs(wanted).max())
    assert abs(cycle.solve(f.astype(np.float32)).u - wanted).max() < 1e-3 * abs(wanted).max()
    assert cycle.solve(f, u0=wanted, rtol=1e-6).iterations == 0


def test_it_is_a_value():
    problem = unigrid.Poisson((40, 50), coefficient=wave)
    cycle = ScaledCycle(problem, smoother="jacobi", pre=1, post=1)
    b = np.random.default_rng(6).standard_normal(problem.shape)
    kept = b.copy()
    u = cycle(b)
    assert (b == kept).all()
    assert np.allclose(pickle.loads(pickle.dumps(cycle))(b), u, rtol=1e-12)
    assert np.allclose(cycle(b, u), u + cycle(problem.operator.residual(b, u)), atol=1e-12 * abs(u).max())
    assert "V(1,1)" in repr(cycle)
    assert "contraction" in repr(cycle)
    assert "V(2,2)" in repr(cycle.replaced(pre=2, post=2))
    with pytest.raises(AttributeError, match="fixed"):
        cycle.weights = None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coefficient": lambda x, y: 1 + 1e6 * (x > 0.5)}, "smoothly"),
        ({"coefficient": wave, "boundary": "neumann"}, "vertices on Neumann sides|no side holds"),
        ({"coefficient": wave, "boundary": "periodic"}, "no side holds"),
        ({"coefficient": wave, "boundary": unigrid.Robin(1.0)}, "Robin"),
        ({"coefficient": wave, "spacing": [np.geomspace(0.1, 0.2, 21), 0.1]}, "stretched"),
        ({"coefficient": wave, "reaction": -1.0}, "below zero"),
        ({"coefficient": wave, "mask": np.tri(20, 20) > 0}, "mask"),
        ({"coefficient": 2.0}, "no coefficients that vary"),
        ({"coefficient": lambda x: 2.0 + x, "shape": (20,)}, "axis"),
    ],
)
def test_what_it_has_no_room_for(options, words):
    options = dict(options)
    problem = unigrid.Poisson(options.pop("shape", (20, 20)), **options)
    with pytest.raises(ValueError, match=words):
        ScaledCycle(problem)
    with pytest.raises(ValueError, match=r"rtol=.*number"):
        ScaledCycle(unigrid.Poisson((20, 20), coefficient=wave)).solve(np.ones((20, 20)), rtol="discretization")
    with pytest.raises(TypeError, match=r"must be a unigrid\.Poisson"):
        ScaledCycle((20, 20))
