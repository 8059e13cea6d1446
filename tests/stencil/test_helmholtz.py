"""Reactions below zero, -k^2: solutions against sparse direct solves, iterations over k, resonances, what is refused."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
from tiers import pack

import unigrid
from unigrid.stencil import helmholtz
from unigrid.stencil.waves import nearest_eigenvalue

SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def source(shape):
    return np.random.default_rng(1).standard_normal(shape)


def direct(f, **options):
    problem = unigrid.Poisson(f.shape, **options)
    return problem.filled(scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), problem.rhs(f).ravel()).reshape(f.shape))


def varied(shape, seed=3):
    """Return smooth values from 1 to 2."""
    phases = np.random.default_rng(seed).uniform(0, 6, len(shape))
    x = np.meshgrid(*(np.linspace(0, 3, n) + p for n, p in zip(shape, phases, strict=True)), indexing="ij", sparse=True)
    return 1.5 + 0.5 * np.sin(sum(x))


KINDS = {
    "constant": lambda shape, k: {"reaction": -(k**2)},
    "order 4": lambda shape, k: {"reaction": -(k**2), "order": 4},
    "coefficient": lambda shape, k: {"reaction": -(k**2), "coefficient": varied(shape)},
    "jump": lambda shape, k: {"reaction": -(k**2), "coefficient": np.where(varied(shape) > 1.5, 100.0, 1.0)},
    "array": lambda shape, k: {"reaction": -(k**2) * varied(shape, 1) / 2},
    "both signs": lambda shape, k: {"reaction": k**2 * (3 - 2 * varied(shape, 2))},
    "mask": lambda shape, k: {"reaction": -(k**2), "mask": varied(shape, 5) > 1.2, "outside": 0.3},
}


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("boundary", [*SIDES, ["periodic", ("neumann", "dirichlet")]], ids=str)
@pytest.mark.parametrize("k", [4.0, 18.1])
def test_solutions_are_those_of_a_sparse_direct_solve(centering, kind, boundary, k):
    f = source((32, 29))
    boundary = boundary if isinstance(boundary, (str, list)) else [boundary, boundary]
    options = {"boundary": boundary, "centering": centering, **KINDS[kind](f.shape, k)}
    solution = unigrid.solve(f, rtol=1e-9, **options)
    wanted = direct(f, **options)
    assert np.abs(solution.u - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert solution.iterations <= (24 if kind == "order 4" else 17)


@pytest.mark.parametrize(("shape", "k"), [((300,), 40.0), ((10, 9, 11), 5.0)], ids=["1-D", "3-D"])
@pytest.mark.parametrize("kind", ["constant", "order 4", "coefficient"])
def test_one_and_three_dimensions(shape, k, kind):
    f, options = source(shape), KINDS[kind](shape, k)
    solution, wanted = unigrid.solve(f, rtol=1e-9, **options), direct(source(shape), **options)
    assert np.abs(solution.u - wanted).max() <= 1e-6 * np.abs(wanted).max()
    assert solution.iterations <= 20


@pytest.mark.parametrize(("k", "most"), [(1, 4), (4.4, 5), (5, 5), (10, 7), (20, 9), (38, 10)])
def test_iterations_depend_on_the_waves_alone(k, most):
    """Below the first eigenvalue, 2 pi^2, and above: four at k = 5, ten where the coarsest grid has ten points per wave."""
    for n in (65, 127, 255):
        if k / n < 0.6:
            assert unigrid.solve(source((n, n)), reaction=-(k**2)).iterations <= most


@pytest.mark.parametrize("coefficient", [None, varied((90, 90))], ids=["constant", "varied"])
def test_constants_are_waves_too_without_dirichlet_sides(coefficient):
    solution = unigrid.solve(source((90, 90)), boundary="neumann", centering="cell", coefficient=coefficient, reaction=-25.0)
    assert solution.iterations <= 6


def test_a_wave_crosses_the_box():
    """-u'' - k^2 u = 0 with u = 1 at the left and 0 at the right: sin k (1 - x) / sin k."""
    n, k = 511, 30.0
    x = np.arange(1, n + 1) / (n + 1)
    boundary = [(unigrid.Dirichlet(1.0), unigrid.Dirichlet(0.0)), "neumann"]
    wanted = np.sin(k * (1 - x)) / np.sin(k)
    errors = []
    for order in (2, 4):
        u = unigrid.solve(
            np.zeros((n, 8)),
            reaction=-(k**2),
            boundary=boundary,
            spacing=1 / (n + 1),
            centering="vertex",
            order=order,
            rtol=1e-11,
        ).u
        errors.append(np.abs(u - wanted[:, None]).max())
    assert errors[0] < 2e-2
    assert errors[1] < 1e-3 * errors[0]


def test_precisions_starts_and_cycles():
    f, options = source((70, 60)), {"reaction": -90.0}
    u = unigrid.solve(f, rtol=1e-10, **options).u
    single = unigrid.solve(f.astype(np.float32), **options).u
    assert single.dtype == np.float32
    assert np.abs(single - u).max() <= 1e-2 * np.abs(u).max()
    problem = unigrid.Poisson(f.shape, **options)
    for other in (
        unigrid.solve(f, u0=u + 1e-3, **options),
        unigrid.solve(f, start="zero", **options),
        unigrid.solve(f, cycle="W", smoother="jacobi", **options),
        unigrid.solve(f, cycle="F", coefficient=1.0, **options),
        unigrid.StencilCycle(problem, pre=1, post=1).solve(f),
        unigrid.GalerkinCycle(problem).solve(f),
        unigrid.solve(f, callback=lambda solution: None, **options),
    ):
        assert np.abs(other.u - u).max() <= 1e-6 * np.abs(u).max()
    low = unigrid.solve(f, reaction=-10.0, accelerate=None)  # below the first eigenvalue cycles converge by themselves
    assert np.abs(low.u - direct(f, reaction=-10.0)).max() <= 1e-6 * np.abs(low.u).max()


@pytest.mark.parametrize("shape", [(9,), (7, 6), (5, 6, 4)])
@pytest.mark.parametrize(
    ("boundary", "centering"), [*itertools.product(["dirichlet", "neumann", "periodic"], ["vertex", "cell"])]
)
def test_the_nearest_eigenvalue(shape, boundary, centering):
    grid = unigrid.Poisson(shape, boundary=boundary, centering=centering).grid
    eigenvalues = np.linalg.eigvals(unigrid.Poisson(shape, boundary=boundary, centering=centering).matrix().toarray()).real
    for c in (-1e-3, -3.0, -20.0, -77.0, -300.0, -1e5):
        assert nearest_eigenvalue(grid, c) == pytest.approx(np.abs(eigenvalues + c).min(), rel=1e-9, abs=1e-9)


def resonant(shape, number, **options):
    """Return minus an eigenvalue: of A u = lambda B u, where c stands before a B of its own, as in order 4."""
    at = [unigrid.Poisson(shape, reaction=c, **options).matrix().toarray() for c in (0.0, 1.0)]
    return -np.sort(scipy.linalg.eigvals(at[0], at[1] - at[0]).real)[number]


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("rtol", [None, 1e-8])
@pytest.mark.parametrize("kind", ["constant", "order 4", "coefficient"])
def test_a_resonance_never_ends_as_a_solution(number, rtol, kind):
    """At an eigenvalue there is no solution, and a little beside it one that rounding leaves few digits of."""
    shape = (16, 15)
    options = KINDS[kind](shape, 1.0)
    del options["reaction"]
    c = resonant(shape, number, **options)
    with pytest.raises(
        (ValueError, unigrid.ConvergenceError), match=r"is an eigenvalue of the problem|where k\^2 is an eigenvalue"
    ):
        unigrid.solve(source(shape), reaction=c, rtol=rtol, **options)
    beside = unigrid.solve(source(shape), reaction=c * (1 + 1e-4), rtol=rtol, **options).u
    wanted = direct(source(shape), reaction=c * (1 + 1e-4), **options)
    assert np.abs(beside - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_constants_resonate_without_dirichlet_sides():
    with pytest.raises(ValueError, match="is an eigenvalue of the problem"):
        unigrid.solve(source((40, 40)), boundary="neumann", centering="cell", reaction=-1e-13)


BAD = {
    "coarse": ({"reaction": -900.0}, r"waves of k h = 1.43, and up to 0.6 is resolved, .* take 2.38 times as many points"),
    "coarse somewhere": ({"reaction": np.where(np.eye(20) == 1, -900.0, 1.0)}, r"down to -900, makes waves of k h = 1.43"),
    "coarse with a": ({"reaction": -900.0, "coefficient": 2.0}, r"makes waves of k h = 1.01, and up to 0.6"),
    "coarse, order 4": ({"reaction": -900.0, "order": 4}, r"waves of k h = 1.43, and up to 0.6"),
    "cg": ({"reaction": -20.0, "accelerate": "cg"}, "accelerate='cg' needs a positive definite problem"),
    "one pass": ({"reaction": -20.0, "rtol": "discretization"}, "for reactions >= 0; give a number"),
    "mixed": ({"reaction": -20.0, "precision": "mixed"}, "for reactions >= 0; leave it out"),
    "nan": ({"reaction": np.nan}, "reaction must be a finite number, got nan"),
    "array of nan": ({"reaction": np.where(np.eye(20) == 1, np.nan, -1.0)}, r"reaction must be finite, but reaction\[0, 0\]"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        unigrid.solve(np.ones((20, 20)), **options)
    assert "\n" not in str(error.value)


def test_a_coarsest_grid_too_large_for_a_direct_solve_is_refused(monkeypatch):
    monkeypatch.setitem(helmholtz.MOST_DIRECT, 2, 500)
    with pytest.raises(ValueError, match="has 1024 unknowns, and a direct solve of it is limited to 500"):
        unigrid.solve(np.ones((64, 64)), reaction=-100.0, coefficient=varied((64, 64)) / 2)
    assert unigrid.solve(np.ones((64, 64)), reaction=-400.0, coefficient=2.0).converged


def test_small_grids_below_the_first_eigenvalue_need_no_points_per_wave():
    f = source((3, 3))
    assert np.allclose(unigrid.solve(f, reaction=-12.0, rtol=1e-12).u, direct(f, reaction=-12.0), rtol=1e-9)
