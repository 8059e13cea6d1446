"""What holds for every grid, every mix of sides and every choice of slots: tried on examples that hypothesis draws.

The examples are the same in every run unless UNIGRID_TEST_DRAW asks for others (tests/conftest.py).
"""

import itertools

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import unigrid
from unigrid.stencil.transfers import CellAverage, Constant, FullWeighting, Linear

SIDES = ["periodic", *itertools.product(["dirichlet", "neumann"], repeat=2)]
TRANSFERS = {"full-weighting": "linear", "cell-average": "constant"}
LARGEST = {1: 200, 2: 70, 3: 20}
ROUND_OFF = 200  # times eps, relative to the norm of A times the largest value


@st.composite
def problems(draw, dimensions=(1, 2, 3)):
    """Any Poisson problem on a small grid."""
    ndim = draw(st.sampled_from(dimensions))
    shape = tuple(draw(st.integers(4, LARGEST[ndim])) for _ in range(ndim))
    ratio = draw(st.sampled_from([1.0, 1.0, 1.4, 3.0, 20.0]))
    return unigrid.Poisson(
        shape,
        spacing=[ratio if axis == 0 else 1.0 for axis in range(ndim)],
        boundary=[draw(st.sampled_from(SIDES)) for _ in range(ndim)],
        centering=draw(st.sampled_from(["vertex", "cell"])),
        reaction=draw(st.sampled_from([0.0, 0.0, 0.3, 30.0])),
    )


def red_black():
    omegas = st.floats(0.6, 1.6)
    pairs = st.lists(omegas, min_size=1, max_size=2).map(lambda each: tuple(each) * 2)
    return st.builds(unigrid.RedBlack, st.one_of(omegas, pairs), st.sampled_from(["red", "black"]))


SMOOTHERS = st.one_of(
    red_black(), st.builds(unigrid.Jacobi, st.floats(0.5, 1.0)), st.builds(unigrid.Chebyshev, st.integers(1, 4))
)
SEEDS = st.integers(0, 2**32 - 1)


def arrays(problem, seed, count, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((count, *problem.shape)).astype(dtype)


@given(
    problem=problems(dimensions=(2, 3)),
    smoother=SMOOTHERS,
    sweeps=st.tuples(st.integers(1, 3), st.integers(0, 2)),
    restriction=st.sampled_from(sorted(TRANSFERS)),
    kind=st.sampled_from("VWF"),
    levels=st.integers(2, 5),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=SEEDS,
)
def test_a_fused_cycle_is_the_composed_one(problem, smoother, sweeps, restriction, kind, levels, dtype, seed):
    cycle = unigrid.StencilCycle(
        problem, smoother=smoother, pre=sweeps[0], post=sweeps[1], restriction=restriction,
        prolongation=TRANSFERS[restriction], cycle=kind, max_levels=levels,
    )  # fmt: skip
    f, u = arrays(problem, seed, 2, dtype)
    f = problem.compatible(f)
    for start in (None, u):
        fused, composed = (problem.compatible(each(f, start)) for each in (cycle, cycle.composed()))
        scale = max(np.abs(composed).max(), 0.0 if start is None else np.abs(start).max())
        assert fused.dtype == dtype
        # Of a smooth error, which a coarse level may make of its rounding, A takes as little as it takes to make it.
        difference = np.abs(problem.operator(fused - composed)).max()
        assert difference <= ROUND_OFF * np.finfo(dtype).eps * problem.operator.norm_bound * scale


@given(
    problem=problems(dimensions=(2, 3)),
    smoother=SMOOTHERS,
    options=st.sampled_from([{}, {"start": "zero"}, {"rtol": "discretization"}]),
    levels=st.integers(2, 5),
    seed=SEEDS,
)
def test_a_fused_solve_is_the_composed_one(problem, smoother, options, levels, seed):
    cycle = unigrid.StencilCycle(problem, smoother=smoother, max_levels=levels)
    f = problem.compatible(arrays(problem, seed, 1)[0])
    options = {"rtol": 0.0, "maxiter": 2, "precision": "full", "raise_on_failure": False, **options}
    fused, composed = (each.solve(f, compatibility="project", **options) for each in (cycle, cycle.composed()))
    assert fused.iterations == composed.iterations
    assert np.abs(fused.u - composed.u).max() <= 1e-11 * np.abs(composed.u).max()
    residual = np.linalg.norm((f - problem.operator(fused.u)).ravel())
    assert abs(fused.residuals[-1] - residual) <= 1e-6 * residual + 1e-12 * fused.residuals[0]


@given(problem=problems(), transfers=st.sampled_from([(FullWeighting(), Linear()), (CellAverage(), Constant())]), seed=SEEDS)
def test_restriction_is_the_adjoint_of_prolongation_in_the_cell_volumes(problem, transfers, seed):
    """R = W_c^-1 P^T W_f, on every pair of levels down to one unknown."""
    (down, up), rng = transfers, np.random.default_rng(seed)
    fine = problem.grid
    while (coarse := fine.coarsened()) is not None:
        r, e = rng.standard_normal(fine.shape), rng.standard_normal(coarse.shape)
        restrict, prolong = down.between(fine, coarse), up.between(fine, coarse)
        left, right = (coarse.weights * restrict(r) * e).sum(), (fine.weights * r * prolong(e)).sum()
        size = (fine.weights * np.abs(r) * prolong(np.abs(e))).sum()
        assert abs(left - right) <= 1e-12 * max(size, 1e-300)
        fine = coarse


@given(
    problem=problems(),
    smoother=st.one_of(SMOOTHERS, st.builds(unigrid.GaussSeidel, st.floats(0.6, 1.5), st.booleans())),
    sweeps=st.integers(1, 2),
    restriction=st.sampled_from(sorted(TRANSFERS)),
    kind=st.sampled_from("VW"),
    levels=st.integers(2, 5),
    seed=SEEDS,
)
def test_the_preconditioner_is_symmetric_and_positive(problem, smoother, sweeps, restriction, kind, levels, seed):
    assume(restriction == "full-weighting" or problem.grid.ndim < 3)
    cycle = unigrid.StencilCycle(
        problem, smoother=smoother, pre=sweeps, post=sweeps, restriction=restriction, prolongation=TRANSFERS[restriction],
        cycle=kind, max_levels=levels,
    )  # fmt: skip
    precondition, w = cycle.aspreconditioner(), problem.weights.ravel()
    x, y = (problem.compatible(each).ravel() for each in arrays(problem, seed, 2))
    of_x, of_y = precondition @ x, precondition @ y
    assume(np.abs(x).max() > 1e-12 and np.abs(y).max() > 1e-12)  # one unknown, and its mean taken out
    size = np.sqrt((w * x) @ (w * x) * (of_y @ of_y))
    assert abs((w * x) @ of_y - (w * y) @ of_x) <= 1e-11 * size
    assert (w * x) @ of_x > 0
