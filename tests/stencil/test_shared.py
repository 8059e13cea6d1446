"""What calls share: hierarchies of recent solves, tables of axes, and memory; and that none of it belongs to a user."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import unigrid
from unigrid.stencil import solve as solve_module
from unigrid.stencil.kernels import workspace


@pytest.fixture(autouse=True)
def forgotten():
    unigrid.clear_cache()
    yield
    unigrid.clear_cache()


def hits():
    return solve_module._kept_hierarchy.cache_info().hits


def test_a_second_call_finds_its_hierarchy(rng):
    f = rng.standard_normal((70, 80))
    first = unigrid.solve(f)
    assert hits() == 0
    second = unigrid.solve(f, boundary="dirichlet", smoothing="tuned")
    assert hits() == 1
    np.testing.assert_array_equal(first.u, second.u)


@pytest.mark.parametrize(
    "other",
    [
        {"reaction": 1.0},
        {"lengths": 2.0},
        {"centering": "cell"},
        {"boundary": "periodic", "compatibility": "project"},
        {"boundary": [("dirichlet", "neumann"), "dirichlet"]},
        {"cycle": "W"},
        {"pre": 1},
        {"smoother": unigrid.RedBlack(1.1)},
        {"restriction": "cell-average", "prolongation": "constant"},
    ],
    ids=str,
)
def test_another_problem_or_other_slots_do_not(other, rng):
    f = rng.standard_normal((70, 80))
    unigrid.solve(f)
    problem_options = {name: value for name, value in other.items() if name in ("reaction", "lengths", "centering", "boundary")}
    slots = {name: value for name, value in other.items() if name not in problem_options and name != "compatibility"}
    found = unigrid.solve(f, **other)
    assert hits() == 0
    cycle = unigrid.StencilCycle(unigrid.Poisson(f.shape, **problem_options), **slots)
    np.testing.assert_array_equal(found.u, cycle.solve(f, compatibility="project").u)


@pytest.mark.parametrize("values", ["numbers", "arrays"])
def test_boundary_values_are_those_of_the_call(values, rng):
    shape = (70, 80)
    f = rng.standard_normal(shape)
    unigrid.solve(f)
    for seed in (1, 2):
        own = np.random.default_rng(seed)
        low, high = (own.standard_normal(80), own.standard_normal()) if values == "arrays" else own.standard_normal(2)
        boundary = [(unigrid.Dirichlet(low), unigrid.Dirichlet(high)), "dirichlet"]
        found = unigrid.solve(f, boundary=boundary)
        assert hits() == seed
        cycle = unigrid.StencilCycle(unigrid.Poisson(shape, boundary=boundary))
        np.testing.assert_array_equal(found.u, cycle.solve(f).u)


def test_no_array_of_the_user_is_kept():
    values, f = np.ones(80), np.ones((70, 80))
    references = [weakref.ref(values), weakref.ref(f)]
    unigrid.solve(f, boundary=[(unigrid.Dirichlet(values), "dirichlet"), "dirichlet"], u0=f)
    del values, f
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_objects_of_the_user_are_not_kept(rng):
    class Own(unigrid.Smoother):
        def __call__(self, operator, b, u):
            return unigrid.Jacobi()(operator, b, u)

    smoother = Own()
    reference = weakref.ref(smoother)
    unigrid.solve(rng.standard_normal((40, 40)), smoother=smoother)
    del smoother
    gc.collect()
    assert reference() is None


def test_the_number_of_kept_hierarchies_is_bounded(rng):
    for n in range(40, 40 + 2 * solve_module.KEPT):
        unigrid.solve(rng.standard_normal((n, 30)))
    assert solve_module._kept_hierarchy.cache_info().currsize == solve_module.KEPT


def test_an_argument_that_equals_another_type_is_another_one(rng):
    f = rng.standard_normal((40, 40))
    unigrid.solve(f, pre=2)
    with pytest.raises(ValueError, match="pre must be an integer"):
        unigrid.solve(f, pre=2.0)


def test_threads_share_hierarchies_and_memory(rng):
    f = rng.standard_normal((200, 210))
    wanted, found = unigrid.solve(f).u, {}

    def work(number):
        for _ in range(5):
            found[number] = unigrid.solve(f).u

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for u in found.values():
        np.testing.assert_array_equal(u, wanted)


# Memory.


def test_memory_comes_back_when_the_last_view_goes():
    array = workspace.empty((300, 300), np.float64)
    address, view = array.ctypes.data, array[10:20].T
    del array
    assert workspace.pool.kept_bytes == 0
    del view
    assert workspace.pool.kept_bytes >= 300 * 300 * 8
    assert workspace.empty((300, 300), np.float64).ctypes.data == address


def test_a_solution_is_safe_while_it_is_held(rng):
    f = rng.standard_normal((300, 300))
    first = unigrid.solve(f).u
    copy = first.copy()
    for _ in range(3):
        unigrid.solve(2 * f)
    np.testing.assert_array_equal(first, copy)


def test_a_view_of_the_base_does_not_return_the_memory_twice():
    array = workspace.empty((300, 300), np.float64)
    part = array.base[5:]
    del part
    assert workspace.pool.kept_bytes == 0


def test_arrays_begin_on_a_cache_line_or_a_huge_page():
    for shape, boundary in (((100, 100), 64), ((2100, 2100), 1 << 21)):
        assert workspace.empty(shape, np.float64).ctypes.data % boundary == 0


def test_small_arrays_are_none_of_the_pools():
    assert workspace.empty((10, 10), np.float64).base is None


def test_the_pool_keeps_no_more_than_its_bound(monkeypatch):
    monkeypatch.setattr(workspace, "KEPT_BYTES", 3_000_000)
    held = [workspace.empty((1 << 20,), np.uint8) for _ in range(5)]
    held.clear()
    assert 0 < workspace.pool.kept_bytes <= 3_000_000
    unigrid.clear_cache()
    assert workspace.pool.kept_bytes == 0


def test_no_memory_is_kept_beyond_the_bound_when_more_is_needed(monkeypatch):
    monkeypatch.setattr(workspace, "KEPT_BYTES", 1_000_000)
    held = [workspace.empty((number << 16,), np.uint8) for number in range(1, 13)]
    held.clear()
    workspace.empty((14 << 16,), np.uint8)
    assert workspace.pool.kept_bytes <= 1_000_000


def test_memory_in_a_cycle_of_references_is_not_lost():
    cycle = [workspace.empty((300, 300), np.float64)]
    watched = weakref.ref(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert watched() is None
    first, second = (workspace.empty((300, 300), np.float64) for _ in range(2))
    assert not np.shares_memory(first, second)


@pytest.mark.system
def test_arrays_that_outlive_the_interpreter_say_nothing():
    code = "import numpy as np, unigrid\nu = unigrid.solve(np.ones((300, 300))).u\nkept = [u[1:], unigrid]"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
