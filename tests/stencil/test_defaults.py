"""The smoothing that a cycle does by default: when it is the tuned one, and that it is worth it on grids of all kinds."""

import numpy as np
import pytest

import unigrid
from unigrid.cycle import Steps
from unigrid.stencil.smoothers import OMEGAS, ONE_PASS_OMEGA

PLAIN = unigrid.RedBlack()


def omegas_of(cycle):
    return cycle.smoother.omegas, cycle.post_smoother.omegas


@pytest.mark.parametrize("shape", [(20, 30), (9, 10, 11)])
def test_nothing_said_is_the_tuned_smoothing(shape):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape))
    assert omegas_of(cycle) == OMEGAS[len(shape)]
    assert (cycle.pre, cycle.post) == (1, 1)
    level = cycle.levels[0]
    assert isinstance(level.smoother, Steps)
    assert (level.smoother.step, level.post_smoother.step) == (cycle.smoother, cycle.post_smoother)
    sweeps = f"{len(OMEGAS[len(shape)][0]) // 2},{len(OMEGAS[len(shape)][1]) // 2}"
    assert cycle.title.startswith(f"V({sweeps}), red-black")
    assert cycle.title in repr(cycle)


@pytest.mark.parametrize(
    ("options", "pre", "post"),
    [
        ({"post_smoother": PLAIN}, 2, 2),
        ({"pre": 2}, 2, 2),
        ({"post": 0}, 2, 0),
        ({"smoother": PLAIN}, 2, 2),
        ({"pre": 1, "post": 3}, 1, 3),
    ],
)
def test_anything_said_of_smoothing_is_plain_red_black(options, pre, post):
    cycle = unigrid.StencilCycle(unigrid.Poisson((20, 30)), **options)
    assert (cycle.smoother, cycle.post_smoother, cycle.pre, cycle.post) == (PLAIN, PLAIN, pre, post)
    assert cycle.title.startswith(f"V({pre},{post}), {PLAIN!r}")


def test_sweeps_are_counted_by_half_sweeps():
    cycle = unigrid.StencilCycle(unigrid.Poisson((20, 30)), smoother=unigrid.RedBlack((1.0, 1.1, 1.2, 1.3)), pre=1, post=2)
    assert (cycle.sweeps, cycle.name, cycle.work_units > 6) == ((2, 4), "V(2,4)", True)


def test_one_pass_takes_less_smoothing_where_nothing_is_said():
    cycle = unigrid.StencilCycle(unigrid.Poisson((20, 30)))
    once = cycle.for_one_pass()
    assert (once.smoother, once.post_smoother) == (unigrid.RedBlack(ONE_PASS_OMEGA[2]),) * 2
    assert (once.pre, once.post) == (1, 1)
    assert once.for_one_pass() is once
    assert cycle.composed().for_one_pass().levels[0].fused is None
    assert omegas_of(cycle) == OMEGAS[2]  # left as it was
    for other in (
        unigrid.StencilCycle(unigrid.Poisson((20, 30)), pre=1),
        unigrid.StencilCycle(unigrid.Poisson((9, 10, 11))),
        unigrid.StencilCycle(unigrid.Poisson((100,))),
    ):
        assert other.for_one_pass() is other


def test_slots_put_in_by_hand_stay_in_one_pass(rng):
    f = rng.standard_normal((127, 100))
    cycle = unigrid.StencilCycle(unigrid.Poisson(f.shape))
    plain = cycle.solve(f, rtol="discretization").u
    weak = unigrid.cycle.Steps(unigrid.RedBlack(0.5), 1)
    for level, slot in ((1, "post_smoother"), (-1, "smoother"), (0, "smoother")):
        cycle = cycle.replaced(level=level, **{slot: weak})
        changed = cycle.solve(f, rtol="discretization").u
        assert np.abs(changed - plain).max() > 1e-6 * np.abs(plain).max()
        assert getattr(cycle.for_one_pass().levels[level], slot) == weak
        plain = changed
    restriction = cycle.levels[0].restriction
    cycle = cycle.replaced(level=0, restriction=lambda residual: 0.5 * restriction(residual))
    assert np.abs(cycle.solve(f, rtol="discretization").u - plain).max() > 1e-6 * np.abs(plain).max()


def test_a_callback_sees_one_pass_end_well():
    seen = []
    solution = unigrid.solve(np.ones((20, 30)), rtol="discretization", callback=seen.append)
    assert [(each.converged, each.reason, each.message) for each in seen] == [(True, solution.reason, solution.message)]


def test_rtol_discretization_is_one_pass(rng):
    f = rng.standard_normal((40, 50))
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 50)))
    solution = cycle.solve(f, rtol="discretization", maxiter=7)
    assert (solution.converged, solution.reason, solution.iterations) == (True, unigrid.Reason.CONVERGED, 1)
    assert "one pass of full multigrid" in solution.message
    assert solution.residuals[-1] == pytest.approx(cycle.problem.operator.residual_norm(f, solution.u), rel=1e-10)
    plain = cycle.for_one_pass().solve(f, rtol=0.0, maxiter=1, raise_on_failure=False)
    assert np.array_equal(solution.u, plain.u)
    assert np.array_equal(unigrid.solve(f, spacing=cycle.problem.spacing, rtol="discretization").u, plain.u)
    several = cycle.solve(np.stack([f, 2 * f]), rtol="discretization")
    assert (several.converged, [part.iterations for part in several.parts]) == (True, [1, 1])
    mixed = cycle.solve(f, rtol="discretization", precision="mixed")
    assert (mixed.converged, mixed.iterations) == (True, 1)
    assert np.allclose(mixed.u, plain.u, atol=1e-4 * np.abs(plain.u).max())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rtol": "discretisation"}, "rtol must be a finite number >= 0, 'discretization' or None, got 'discretisation'"),
        ({"rtol": "discretization", "u0": np.zeros((20, 30))}, "u0 has no place in it"),
        ({"rtol": "discretization", "start": "zero"}, "start is 'zero'"),
        ({"rtol": "discretization", "accelerate": "cg"}, "accelerate is 'cg'"),
        ({"rtol": "discretization", "maxiter": 0}, "maxiter"),
    ],
)
def test_one_pass_refuses_what_it_has_no_place_for(options, said):
    with pytest.raises(ValueError, match=said):
        unigrid.StencilCycle(unigrid.Poisson((20, 30))).solve(np.ones((20, 30)), **options)


def test_a_cycle_without_transfers_for_solutions_refuses_one_pass():
    class Foreign(unigrid.MultigridCycle):
        def __call__(self, f, u=None):
            return f

    with pytest.raises(ValueError, match="needs a StencilCycle; this is a Foreign"):
        unigrid.solve(np.ones((20, 30)), cycle=Foreign(), rtol="discretization")


def test_one_dimension_is_plain_red_black():
    cycle = unigrid.StencilCycle(unigrid.Poisson((100,)))
    assert (cycle.smoother, cycle.pre, cycle.post) == (PLAIN, 2, 2)


def test_conjugate_gradients_take_plain_red_black_which_is_symmetric(rng):
    problem = unigrid.Poisson((33, 40))
    found = unigrid.StencilCycle(problem, cycle="W", restriction="cell-average", prolongation="constant").symmetric()
    assert (found.smoother, found.pre, found.post) == (PLAIN, 2, 2)
    assert (found.levels[0].post_smoother.step, found.kind) == (PLAIN.adjoint(), "W")
    preconditioner = unigrid.StencilCycle(problem).aspreconditioner()
    x, y = rng.standard_normal((2, problem.grid.size))
    assert y @ (preconditioner @ x) == pytest.approx(x @ (preconditioner @ y), rel=1e-10)


GRIDS = [
    ((63, 63), {}),
    ((70, 90), {"spacing": 1.0}),
    ((64, 64), {"boundary": "periodic"}),
    ((65, 65), {"boundary": "neumann"}),
    ((64, 64), {"centering": "cell", "boundary": ["neumann", "dirichlet"]}),
    ((63, 63), {"spacing": (1.0, 1.5)}),
    ((63, 63), {"spacing": (1.0, 30.0)}),
    ((63, 63), {"reaction": 1000.0}),
    ((31, 31, 31), {}),
    ((20, 30, 25), {"spacing": 1.0}),
    ((24, 24, 24), {"centering": "cell", "boundary": "periodic"}),
]


@pytest.mark.parametrize(("shape", "options"), GRIDS, ids=str)
@pytest.mark.parametrize("start", ["fmg", "zero"])
def test_it_leaves_less_than_one_omega_does(shape, options, start, rng):
    problem = unigrid.Poisson(shape, **options)
    f = problem.compatible(rng.standard_normal(shape))
    tuned, plain = (
        unigrid.StencilCycle(problem, **slots).solve(f, rtol=1e-15, maxiter=4, start=start, raise_on_failure=False).residuals
        for slots in ({}, {"smoother": PLAIN})
    )
    assert tuned[3] < plain[3]
    assert tuned[4] < plain[4]


@pytest.mark.parametrize(("shape", "iterations"), [((127, 127), 3), ((100, 150), 4), ((31, 31, 31), 3), ((40, 40, 40), 4)])
def test_iterations_to_1e_8(shape, iterations, rng):
    f = rng.standard_normal(shape)
    assert unigrid.solve(f, rtol=1e-8, spacing=1.0).iterations == iterations
    assert unigrid.solve(f, rtol=1e-8, spacing=1.0, precision="mixed").iterations == iterations


@pytest.mark.parametrize(
    ("shape", "coarsest"),
    [
        ((127,), (63,)),
        ((31, 31), (15, 15)),
        ((15, 15), (7, 7)),
        ((255, 255), (15, 15)),
        ((31, 31, 31), (7, 7, 7)),
        ((5, 5), (5, 5)),
    ],
)
def test_by_default_coarsening_ends_where_a_dense_product_is_cheaper_but_not_on_the_finest_level(shape, coarsest):
    assert unigrid.StencilCycle(unigrid.Poisson(shape)).levels[-1].problem.shape == coarsest
