"""Fused legs equal the composed slots, which are their definition: on random grids, sides, sweeps, threads and precisions."""

from collections import Counter

import numpy as np
import pytest

import unigrid
from unigrid.cycle import SlotLevel
from unigrid.stencil.kernels.cpu import fused as fused_module
from unigrid.stencil.kernels.cpu import threads as threading_module
from unigrid.stencil.kernels.cpu.fused import FusedSweeps

pytestmark = pytest.mark.usefixtures("deep")
SIDES = ("dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet"))
TRANSFERS = (("full-weighting", "linear"), ("cell-average", "constant"))
ROUND_OFF = 50  # times eps, relative to the largest value
CASES = 450


def random_omega(rng):
    """Return one number, or one for each half-sweep of one or two sweeps."""
    count = int(rng.integers(3))
    return tuple(rng.uniform(0.6, 1.7, 2 * count).tolist()) if count else float(rng.uniform(0.8, 1.4))


def random_cycle(rng):
    """Return a hierarchy of random size, sides, centering, sweeps and transfers; None where the sides do not fit the size."""
    ndim = int(rng.integers(2, 4))
    shape = tuple(int(n) for n in rng.integers(3, 80 if ndim == 2 else 24, ndim))
    smoother = (
        unigrid.RedBlack(random_omega(rng), str(rng.choice(["red", "black"]))),
        unigrid.Jacobi(float(rng.uniform(0.5, 1.0))),
        unigrid.Chebyshev(int(rng.integers(1, 4))),
    )[rng.choice(3, p=(0.6, 0.2, 0.2))]
    restriction, prolongation = TRANSFERS[rng.integers(2)]
    problem = unigrid.Poisson(
        shape,
        boundary=[SIDES[kind] for kind in rng.integers(0, len(SIDES), ndim)],
        centering=str(rng.choice(["vertex", "cell"])),
        reaction=float(rng.integers(2)),
    )
    return unigrid.StencilCycle(
        problem, smoother=smoother, pre=int(rng.integers(1, 4)), post=int(rng.integers(0, 4)), restriction=restriction,
        prolongation=prolongation,
    )  # fmt: skip


def assert_close(found, wanted, scale=None):
    size = max(np.abs(wanted).max(), 0.0 if scale is None else np.abs(scale).max())
    assert size > 0
    assert found.dtype == wanted.dtype
    assert np.abs(found - wanted).max() <= ROUND_OFF * np.finfo(wanted.dtype).eps * size


def compare(level, coarser, rng, dtype):
    """Compare both legs of a level with its slots, from zero and from a start."""
    f, u = rng.standard_normal((2, *level.problem.shape)).astype(dtype)
    correction = rng.standard_normal(coarser.problem.shape).astype(dtype)
    kept = f.copy(), u.copy(), correction.copy()
    for start in (None, u):
        composed, restricted, _ = SlotLevel.descend(level, f, start, coarser)
        fused, fused_restricted, pi = level.descend(f, start, coarser)
        assert pi is None
        assert_close(fused, composed)
        assert_close(fused_restricted, restricted, scale=level.operator(composed))
    ascended = SlotLevel.ascend(level, f, u.copy(), None, correction)
    assert_close(level.ascend(f, u.copy(), None, correction), ascended)
    if isinstance(level.fused, FusedSweeps):
        compare_turn(level, coarser, f, u.copy(), correction, ascended)
    compare_nested(level, coarser, f, correction)
    for array, before in zip((f, u, correction), kept, strict=True):
        np.testing.assert_array_equal(array, before)


def compare_turn(level, coarser, f, u, correction, ascended):
    """Compare the way up, measured, and the turn into the next way down with the slots one after the other."""
    norm = level.operator.residual_norm(f, ascended)
    slack = ROUND_OFF * np.finfo(f.dtype).eps * np.sqrt(f.size) * np.abs(level.operator(ascended)).max()
    measured = u.copy()
    assert abs(level.fused.ascend_measured(f, measured, correction) - norm) <= slack
    assert_close(measured, ascended)
    composed, restricted, _ = SlotLevel.descend(level, f, ascended.copy(), coarser)
    descended, restricted_by_it = level.fused.descend(f, ascended)
    scale = level.operator(composed)  # of the rounding of a residual, when relaxation has made u rough
    assert_close(restricted_by_it, restricted, scale)
    assert_close(descended, composed)
    if level.fused.turns:
        watched, snapshot = u.copy(), np.full_like(u, np.nan)
        found, coarse = level.fused.turn(f, u, correction)
        assert abs(found - norm) <= slack
        assert_close(u, composed)
        assert_close(coarse, restricted, scale)
        found_watched, coarse_watched = level.fused.turn(f, watched, correction, snapshot)
        assert found_watched == found
        np.testing.assert_array_equal(watched, u)
        np.testing.assert_array_equal(coarse_watched, coarse)
        np.testing.assert_array_equal(snapshot, measured)


def compare_nested(level, coarser, f, solution):
    """Compare what nested iteration carries down and up, and the way down from there, with the slots."""
    restriction, prolongation = level._nested_transfers
    assert_close(level.nested_restriction(f), restriction(f), scale=f)
    composed, restricted, _ = SlotLevel.descend(level, f, prolongation(solution), coarser)
    fused, fused_restricted, pi = level.descend_nested(f, solution, coarser)
    assert pi is None
    assert_close(fused, composed, scale=solution)
    # the residual of a rough solution is as large as A times it, and so is its rounding
    assert_close(fused_restricted, restricted, scale=level.operator(composed))


def is_stripped(level):
    """Say whether the rows of its planes were cut into strips."""
    return isinstance(level.fused, FusedSweeps) and any(len(ready.strips) > 1 for ready in level.fused._arguments.values())


def even_parts_of(level, pre):
    """Return the parts that the level's way down is cut into."""
    if isinstance(level.fused, FusedSweeps):
        return level.fused.cuts(
            len(level.fused.down.omegas) + 1, True, threading_module.threads_for(level.fused.unknowns)
        ).parts
    return level.fused._parts(len(level.fused.down.weights), True)


@pytest.mark.slow
def test_fused_legs_equal_composed_ones_on_random_cases(rng, monkeypatch):
    monkeypatch.setattr(threading_module, "PARALLEL_FROM", 1)
    monkeypatch.setattr(fused_module, "STRIP_ROWS", 5)
    stripped = 0
    before, fused, parallel = unigrid.get_num_threads(), Counter(), 0
    try:
        while fused.total() < CASES:
            threads = int(rng.integers(1, 5))
            unigrid.set_num_threads(threads)
            monkeypatch.setattr(fused_module, "STRIP_BYTES", (fused_module.STRIP_BYTES, 1)[rng.integers(2)])
            cycle = random_cycle(rng)
            dtype = (np.float64, np.float32)[rng.integers(2)]
            for level, coarser in zip(cycle.levels, cycle.levels[1:], strict=False):
                if level.fused is not None:
                    compare(level, coarser, rng, dtype)
                    fused[type(cycle.smoother).__name__] += 1
                    stripped += is_stripped(level)
                    parallel += len(even_parts_of(level, cycle.pre)) > 1
    finally:
        unigrid.set_num_threads(before)
    assert parallel > 20
    assert stripped > 20
    assert min(fused[name] for name in ("RedBlack", "Jacobi", "Chebyshev")) > 50


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    ("shape", "boundary"),
    [((255, 255), "dirichlet"), ((256, 130), "periodic"), ((300, 41), ["neumann", "periodic"]), ((90, 13, 14), "dirichlet")],
    ids=str,
)
def test_a_whole_solve_is_the_same_on_any_number_of_threads(use_threads, shape, boundary, threads):
    f = np.random.default_rng(1).standard_normal(shape)
    f -= f.mean()
    options = {"boundary": boundary, "reaction": 1.0, "rtol": 1e-9}
    use_threads(1)
    wanted = unigrid.solve(f, **options)
    use_threads(threads)
    found = unigrid.solve(f, **options)
    assert_close(found.u, wanted.u)
    assert found.iterations == wanted.iterations


@pytest.mark.parametrize("rtol", [0.5, 1e-2, 1e-4, 1e-6, 1e-8, None])
@pytest.mark.parametrize("source", ["rough", "smooth"])
def test_a_run_in_flow_tells_of_the_iterate_that_it_returns(source, rtol):
    x = np.linspace(0, 1, 129)[1:-1]
    f = np.outer(np.exp(x), np.cos(2 * x)) if source == "smooth" else np.random.default_rng(0).standard_normal((127, 127))
    problem = unigrid.Poisson(f.shape)
    for options in ({}, {"start": "zero"}, {"u0": f}, {"maxiter": 1, "raise_on_failure": False}):
        flowing = unigrid.StencilCycle(problem).solve(f, rtol=rtol, **options)
        plain = unigrid.StencilCycle(problem).solve(f, rtol=rtol, callback=lambda solution: None, **options)
        assert flowing.reason is plain.reason
        assert plain.iterations <= flowing.iterations <= plain.iterations + 1  # it may have turned once too often
        assert flowing.residuals[: plain.iterations + 1] == pytest.approx(plain.residuals, rel=1e-3)
        assert flowing.residuals[-1] == pytest.approx(np.linalg.norm(f - problem.operator(flowing.u)), rel=1e-3)
        assert len(flowing.residuals) == flowing.iterations + 1
        assert f"after {flowing.iterations} iteration" in flowing.message


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 6e-13), (np.float32, 3.5e-4)])
def test_residuals_are_the_true_ones_where_rounding_is_all_that_is_left(dtype, rtol):
    """What relaxation changes does not tell of the rounding of what it wrote last: near the floor a third of it all."""
    cycle = unigrid.StencilCycle(unigrid.Poisson((255, 255)))
    f = np.ones((255, 255), dtype)
    solution = cycle.solve(f, rtol=rtol, raise_on_failure=False)
    # The truth in more digits: here the residual in the precision of u is off by a sixth itself.
    u = np.pad(solution.u.astype(np.longdouble), 1)
    neighbors = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
    residual = 1 - (4 * u[1:-1, 1:-1] - neighbors) * np.longdouble(256) ** 2
    assert solution.residuals[-1] == pytest.approx(float(np.sqrt((residual**2).sum())), rel=0.15)


@pytest.mark.parametrize("smoother", ["red-black", "chebyshev"])
@pytest.mark.parametrize("shape", [(64, 49), (30, 31, 28)], ids=str)
def test_nan_in_one_call_leaves_nothing_behind_in_shared_memory(shape, smoother, rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape), smoother=smoother)
    f, bad = rng.standard_normal(shape), np.full(shape, np.nan)
    wanted = cycle(f), cycle.solve(f).u
    cycle(bad, bad)
    half_cycles = cycle.levels[0].fused
    assert np.isnan(half_cycles.descend_nested(bad, np.full(half_cycles.shapes[1], np.nan))[0]).all()
    half_cycles.restrict_source(bad)
    np.testing.assert_array_equal(cycle(f), wanted[0])
    np.testing.assert_array_equal(cycle.solve(f).u, wanted[1])


def fused_of(**options):
    options = {"shape": (64, 64), **options}
    problem = {name: options.pop(name) for name in ("shape", "boundary", "centering", "lengths") if name in options}
    return unigrid.StencilCycle(unigrid.Poisson(**problem), **options).levels[0].fused


def test_the_default_slots_are_fused_in_two_and_three_dimensions():
    for shape in ((63, 63), (100, 37), (30, 20, 25)):
        for boundary in ("dirichlet", "neumann"):
            for centering in ("vertex", "cell"):
                assert fused_of(shape=shape, boundary=boundary, centering=centering) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"smoother": "gauss-seidel"},
        {"post_smoother": "jacobi"},
        {"smoother": "jacobi", "post_smoother": "red-black"},
        {"pre": 0},
        {"restriction": "half-weighting", "shape": (63, 63)},
        {"prolongation": "cubic"},
        {"state_transfer": "injection"},
        {"shape": (64,)},
        {"shape": (65, 64), "boundary": "periodic"},
        {"shape": (64, 65), "boundary": "periodic"},
        {"shape": (16, 64), "boundary": "periodic"},
        {"lengths": (1.0, 5.0)},
    ],
    ids=str,
)
def test_what_has_no_fused_form_is_composed(options):
    assert fused_of(**options) is None


def test_the_fused_form_is_that_of_the_slots():
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)))
    assert cycle.levels[0].fused is cycle.levels[0].fused
    level = cycle.replaced(level=0, post_smoother=unigrid.cycle.Steps(unigrid.RedBlack(1.0), 1)).levels[0]
    assert level.fused is not cycle.levels[0].fused
    assert level.fused.up.omegas == (1.0, 1.0)
    assert cycle.replaced(level=0, smoother=unigrid.cycle.Steps(unigrid.GaussSeidel(), 2)).levels[0].fused is None


def test_a_composed_cycle_gives_the_same_iterates_without_fused_legs(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 90)))
    composed = cycle.composed()
    assert all(level.fused is None for level in composed.levels)
    assert cycle.levels[0].fused is not None
    f, u = rng.standard_normal((2, 63, 90))
    assert_close(cycle(f, u), composed(f, u), scale=u)
    found, wanted = (each.solve(f, rtol=1e-10) for each in (cycle, composed))
    assert found.iterations == wanted.iterations
    assert_close(found.u, wanted.u)


def test_the_symmetric_cycle_sweeps_backward_on_its_way_up():
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)), smoother=unigrid.RedBlack((1.1, 1.3)))
    assert cycle.levels[0].fused.up == ((1.1, 1.3, 1.1, 1.3), 0, False)
    assert cycle.symmetric().levels[0].fused.up == ((1.3, 1.1, 1.3, 1.1), 1, True)
    assert cycle.levels[0].fused.up.color == 0
