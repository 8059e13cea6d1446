"""Visits to the small levels in one call equal those level by level: random grids, sides, slots, precisions, cycles."""

import pickle
from collections import Counter

import numpy as np
import pytest

import unigrid
from unigrid.stencil.kernels.cpu import fused as fused_module
from unigrid.stencil.kernels.cpu import threads as threading_module
from unigrid.stencil.kernels.cpu.small_levels import SmallLevels

SIDES = ("dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet"))
ROUND_OFF = 200  # times eps, relative to the largest value: a whole cycle, and two ways to multiply by the coarsest inverse


@pytest.fixture
def calls(monkeypatch):
    """Count the calls that stand for visits, by the number of levels that they pass through."""
    counted = Counter()
    whole = SmallLevels.__call__

    def call(self, f):
        counted[len(self._levels)] += 1
        return whole(self, f)

    monkeypatch.setattr(SmallLevels, "__call__", call)
    return counted


def level_by_level(cycle):
    twin = cycle.twin()
    twin.joins_levels = False
    return twin


def assert_same_cycle(cycle, f, u):
    found, wanted = cycle(f, u), level_by_level(cycle)(f, u)
    scale = max(np.abs(wanted).max(), 0.0 if u is None else np.abs(u).max())
    assert found.dtype == f.dtype
    assert np.abs(found - wanted).max() <= ROUND_OFF * np.finfo(f.dtype).eps * scale


def random_cycle(rng):
    """Return a hierarchy with red-black relaxation of random size, sides, centering, sweeps, transfers and levels."""
    ndim = int(rng.integers(2, 4))
    omegas = [tuple(rng.uniform(0.6, 1.6, 2 * int(rng.integers(1, 3))).tolist()) for _ in range(2)]
    down, up = (unigrid.RedBlack(each, str(rng.choice(["red", "black"]))) for each in omegas)
    restriction, prolongation = (("full-weighting", "linear"), ("cell-average", "constant"))[rng.integers(2)]
    problem = unigrid.Poisson(
        tuple(int(n) for n in rng.integers(9, 120 if ndim == 2 else 36, ndim)),
        boundary=[SIDES[kind] for kind in rng.integers(0, len(SIDES), ndim)], centering=str(rng.choice(["vertex", "cell"])),
        reaction=float(rng.uniform(0.1, 2.0)),
    )  # fmt: skip
    return unigrid.StencilCycle(
        problem, smoother=down, post_smoother=up, pre=int(rng.integers(1, 3)), post=int(rng.integers(0, 3)),
        restriction=restriction, prolongation=prolongation, max_levels=int(rng.integers(3, 7)),
        cycle=str(rng.choice(["V", "V", "W", "F"])),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_cycles_are_those_level_by_level(seed, calls, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(fused_module, "STRIP_ROWS", 5)
    while calls.total() < 60:
        monkeypatch.setattr(fused_module, "STRIP_BYTES", (fused_module.STRIP_BYTES, 1)[rng.integers(2)])
        cycle = random_cycle(rng)
        dtype = (np.float64, np.float32)[rng.integers(2)]
        f, u = rng.standard_normal((2, *cycle.problem.shape)).astype(dtype)
        before = f.copy(), u.copy()
        assert_same_cycle(cycle, f, (None, u)[rng.integers(2)])
        assert np.array_equal(f, before[0])
        assert np.array_equal(u, before[1])
    assert len(calls) > 1


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic", ["neumann", "periodic"]], ids=str)
@pytest.mark.parametrize("shape", [(64, 48), (65, 33), (24, 20, 28)], ids=str)
def test_the_default_cycle_on_sides_of_all_kinds(shape, boundary, calls, rng):
    boundary = boundary if isinstance(boundary, str) or len(shape) == 2 else [*boundary, "dirichlet"]
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape, boundary=boundary), max_levels=3)
    f = cycle.problem.compatible(rng.standard_normal(shape))
    for start in (None, rng.standard_normal(shape)):
        assert_same_cycle(cycle, f, start)
    found, wanted = (each.solve(f, rtol=1e-9) for each in (cycle, level_by_level(cycle)))
    assert found.iterations == wanted.iterations
    assert np.abs(found.u - wanted.u).max() <= 1e-10 * np.abs(wanted.u).max()
    # Around an odd axis nothing is fused, nor on small grids that are periodic along their slabs.
    if "periodic" not in boundary or (boundary != "periodic" and all(n % 2 == 0 for n in shape)):
        assert calls.total() > 0


def test_what_is_large_or_has_no_waves_is_visited_level_by_level(calls, rng, monkeypatch):
    f = rng.standard_normal((100, 100))
    problem = unigrid.Poisson(f.shape)
    jacobi = unigrid.StencilCycle(problem, smoother="jacobi")
    fourier = unigrid.StencilCycle(problem, coarsest="fft")
    many = unigrid.StencilCycle(unigrid.Poisson((100, 100)), max_levels=2)  # too many unknowns for a dense inverse
    for cycle in (jacobi, fourier, many, unigrid.StencilCycle(problem).composed()):
        cycle.solve(f)
    assert calls.total() == 0
    monkeypatch.setattr(threading_module, "PARALLEL_FROM", 50**2 - 1)
    cycle = unigrid.StencilCycle(problem)
    cycle(f)
    assert list(calls) == [len(cycle.levels) - 3]


def test_slots_that_are_exchanged_are_noticed(calls, rng):
    f = rng.standard_normal((127, 127))
    cycle = unigrid.StencilCycle(unigrid.Poisson(f.shape))
    plain = cycle(f)
    cycle.levels[2].post_smoother = unigrid.cycle.Steps(unigrid.RedBlack(0.7), 1)
    changed = cycle(f)
    assert np.abs(changed - plain).max() > 1e-6 * np.abs(plain).max()
    assert_same_cycle(cycle, f, None)
    cycle.levels[-1].smoother = unigrid.cycle.Steps(unigrid.RedBlack(1.0), 1)
    calls.clear()
    weak = cycle(f)
    assert calls.total() == 0
    assert np.abs(weak - changed).max() > 1e-6 * np.abs(plain).max()


def test_a_direct_solver_of_another_problem_is_refused(calls):
    other = unigrid.StencilCycle(unigrid.Poisson((5, 5)), max_levels=1).levels[0].smoother
    cycle = unigrid.StencilCycle(unigrid.Poisson((127, 127)))
    cycle.levels[-1].smoother = other
    with pytest.raises(ValueError, match="mismatch"):
        cycle(np.ones((127, 127)))
    assert calls.total() == 0


def test_it_can_be_pickled_after_use(rng):
    f = rng.standard_normal((127, 127))
    cycle = unigrid.StencilCycle(unigrid.Poisson(f.shape))
    solved, passed = cycle.solve(f).u, cycle.solve(f, rtol="discretization").u
    again = pickle.loads(pickle.dumps(cycle))
    assert np.array_equal(again.solve(f).u, solved)
    assert np.array_equal(again.solve(f, rtol="discretization").u, passed)


def test_nonfinite_numbers_come_through(rng):
    f = rng.standard_normal((127, 127))
    f[3, 4] = np.nan
    assert np.isnan(unigrid.StencilCycle(unigrid.Poisson(f.shape))(f)).any()
