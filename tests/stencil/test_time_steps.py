"""`with_reaction`: a cycle for another c, its set-up kept, solves what a fresh one solves, in as many iterations."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import pack

import unigrid
from unigrid.stencil import galerkin_levels as galerkin

SHAPE = (63, 54)
SOURCE = np.random.default_rng(0).standard_normal(SHAPE)
SMOOTHERS = {
    "tuned": {},
    "jacobi": {"smoother": "jacobi", "cycle": "W"},
    "fft": {"coarsest": "fft", "max_levels": 2},
    "post": {"post": 0},
}
SIDES = {
    "dirichlet": "dirichlet", "neumann": "neumann",
    "given": [(unigrid.Dirichlet(1.0), unigrid.Neumann(2.0)), "periodic"],
}  # fmt: skip


@pytest.mark.parametrize("slots", SMOOTHERS.values(), ids=SMOOTHERS)
@pytest.mark.parametrize("boundary", SIDES.values(), ids=SIDES)
def test_a_stencil_cycle_is_that_for_the_other_reaction(slots, boundary):
    before = unigrid.StencilCycle(unigrid.Poisson(SHAPE, boundary=boundary, reaction=3.0), **slots)
    for c in (0.5, 1e4, -5.0):
        problem = unigrid.Poisson(SHAPE, boundary=boundary, reaction=c)
        cycle, fresh = before.with_reaction(c), unigrid.StencilCycle(problem, **slots)
        assert cycle.problem.reaction == c
        assert cycle.shapes == fresh.shapes
        assert np.array_equal(cycle.solve(SOURCE).u, fresh.solve(SOURCE).u)
        back = cycle.with_reaction(3.0)
        assert np.array_equal(back.solve(SOURCE).u, before.solve(SOURCE).u)


def test_slots_of_single_levels_are_kept():
    before = unigrid.StencilCycle(unigrid.Poisson(SHAPE)).replaced(level=1, smoother=unigrid.Jacobi(0.7))
    cycle = before.with_reaction(20.0)
    assert cycle.levels[1].smoother == before.levels[1].smoother
    wanted = unigrid.StencilCycle(unigrid.Poisson(SHAPE, reaction=20.0)).replaced(level=1, smoother=unigrid.Jacobi(0.7))
    assert np.array_equal(cycle.solve(SOURCE).u, wanted.solve(SOURCE).u)


def coefficient(kind):
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(*(np.linspace(0, 1, n) for n in SHAPE), indexing="ij")
    return {
        "smooth": 1.5 + np.sin(5 * x + y), "inclusion": np.where(np.maximum(abs(x - 0.5), abs(y - 0.5)) < 0.25, 1e6, 1.0),
        "lognormal": np.exp(2 * rng.standard_normal(SHAPE)),
    }[kind]  # fmt: skip


def direct(problem):
    b = problem.rhs(SOURCE).ravel()
    return problem.filled(scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), b).reshape(SHAPE))


OPTIONS = {
    "dirichlet": {},
    "neumann": {"boundary": "neumann", "centering": "cell"},
    "mask": {"mask": np.hypot(*np.ogrid[-1:1:63j, -1:1:54j]) < 0.9, "outside": 2.0},
    "given": {"boundary": ["periodic", (unigrid.Neumann(1.0), unigrid.Dirichlet(2.0))]},
}


@pack
@pytest.mark.parametrize("first", [0.0, 1.0, 1e5])
@pytest.mark.parametrize("kind", ["smooth", "inclusion", "lognormal"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_a_galerkin_cycle_takes_as_many_iterations_as_a_fresh_one(first, kind, options):
    options = {"coefficient": coefficient(kind), **options}
    cycle = unigrid.GalerkinCycle(unigrid.Poisson(SHAPE, reaction=first, **options))
    profile = 1 + np.linspace(0, 1, SHAPE[1])
    for c in (1.0, 1e2 * profile * np.ones(SHAPE), 1e4, 1e7):
        problem = unigrid.Poisson(SHAPE, reaction=c, **options)
        cycle = cycle.with_reaction(c)
        solution, fresh = (
            each.solve(SOURCE, rtol=1e-8, raise_on_failure=False) for each in (cycle, unigrid.GalerkinCycle(problem))
        )
        assert solution.reason == fresh.reason
        assert solution.iterations <= fresh.iterations + 2
        if fresh.converged:
            wanted = direct(problem)
            assert np.abs(solution.u - wanted).max() <= 1e-5 * np.abs(wanted).max()
        u = problem.emptied(SOURCE)
        assert np.abs(cycle.problem.operator(u) - problem.operator(u)).max() <= 1e-12 * np.abs(problem.matrix()).max()


def test_a_set_up_is_made_only_where_c_falls_below_the_first(monkeypatch):
    made, own = [], galerkin.coarsened
    monkeypatch.setattr(galerkin, "coarsened", lambda *arguments: made.append(1) or own(*arguments))
    cycle = unigrid.GalerkinCycle(unigrid.Poisson(SHAPE, coefficient=coefficient("smooth"), reaction=10.0))
    first = len(made)
    assert first > 0
    cycle = cycle.with_reaction(100.0).with_reaction(20.0)
    assert len(made) == first
    cycle = cycle.with_reaction(5.0)
    assert len(made) == 2 * first
    for c in (1e6, 1e-3, 0.0, np.full(SHAPE, 1e-4)):
        cycle = cycle.with_reaction(c)
    assert len(made) == 2 * first
    assert unigrid.GalerkinCycle(unigrid.Poisson(SHAPE, order=4)).with_reaction(10.0).solve(SOURCE).iterations <= 6
    assert cycle.with_reaction(-10.0).solve(SOURCE).converged


@pytest.mark.parametrize("kind", ["constant", "smooth"])
def test_implicit_steps_are_those_of_the_matrix(kind):
    """(u_new - u) / dt = div(a grad u_new), twenty steps, two step sizes, against a direct solve of each."""
    options = {} if kind == "constant" else {"coefficient": coefficient(kind)}
    problem = unigrid.Poisson(SHAPE, boundary="neumann", centering="cell", **options)
    cycle = (unigrid.StencilCycle if kind == "constant" else unigrid.GalerkinCycle)(problem)
    u = wanted = SOURCE
    for dt in (1e-4, 1e-3):
        step = cycle.with_reaction(1 / dt)
        solve = scipy.sparse.linalg.splu((scipy.sparse.eye_array(SOURCE.size) + dt * problem.matrix()).tocsc()).solve
        for _ in range(5):
            u = step.solve(u / dt, rtol=1e-11).u
            wanted = solve(wanted.ravel()).reshape(SHAPE)
    assert np.abs(u - wanted).max() <= 1e-9 * np.abs(wanted).max()
    assert u.mean() == pytest.approx(SOURCE.mean(), rel=1e-7)


def test_bad_reactions_are_refused_in_one_line():
    cycle, galerkin_cycle = (make(unigrid.Poisson(SHAPE)) for make in (unigrid.StencilCycle, unigrid.GalerkinCycle))
    with pytest.raises(TypeError, match=r"unigrid\.GalerkinCycle"):
        cycle.with_reaction(SOURCE**2)
    for each in (cycle, galerkin_cycle):
        with pytest.raises(ValueError, match="reaction must be a finite number, got nan"):
            each.with_reaction(np.nan)
        with pytest.raises(ValueError, match=r"array of f's shape \(63, 54\), got shape \(3,\)"):
            each.with_reaction([1.0, 2.0, 3.0])
        with pytest.raises(ValueError, match="makes waves of k h"):
            each.with_reaction(-1e6)
