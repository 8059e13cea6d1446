"""Several cores, several threads of the user's own, forks and interrupts: the numbers stay the same."""

import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import unigrid
from unigrid.machine import usable_cores
from unigrid.stencil.kernels.cpu import threads as threading_module

pytestmark = pytest.mark.usefixtures("deep")
PATIENCE = 20.0  # seconds until what should take milliseconds counts as hung


class BoomError(Exception):
    pass


def rough(shape):
    return np.random.default_rng(7).standard_normal(shape)


def in_a_thread(call):
    """Return what `call` returns in a thread of its own, or what it raises; fail where it hangs."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        pytest.fail("it hangs")
    return outcome[0]


@pytest.mark.parametrize("shape", [(300,), (64, 37), (3, 50), (20, 21, 13), (3, 9, 8)], ids=str)
@pytest.mark.parametrize("smoother", ["red-black", "jacobi", "chebyshev", "gauss-seidel"])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_cycles_do_not_depend_on_the_number_of_threads(shape, smoother, boundary, use_threads):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape, boundary=boundary, reaction=1.0), smoother=smoother)
    b, results = rough(shape), []
    for count in (1, 2, 3, 5):
        use_threads(count)
        results.append(cycle(b, cycle(b)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("accelerate", [None, "cg"])
def test_a_solve_repeats_to_the_last_bit(count, accelerate, use_threads):
    use_threads(count)
    f = rough((60, 61))
    first, second = (unigrid.solve(f, accelerate=accelerate) for _ in range(2))
    np.testing.assert_array_equal(first.u, second.u)
    assert first.residuals == second.residuals


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("accelerate", [None, "cg"])
@pytest.mark.parametrize("smoother", ["red-black", "chebyshev"])
def test_two_threads_may_use_one_hierarchy(count, accelerate, smoother, use_threads):
    use_threads(count)
    cycle = unigrid.StencilCycle(unigrid.Poisson((100, 90), boundary=["neumann", "dirichlet"]), smoother=smoother)
    sources = [np.random.default_rng(seed).standard_normal((100, 90)) for seed in range(8)]
    alone = [cycle.solve(f, accelerate=accelerate) for f in sources]
    together, barrier = {}, threading.Barrier(4)

    def work(own):
        barrier.wait(PATIENCE)
        for _ in range(3):
            for number in own:
                together.setdefault(number, []).append(cycle.solve(sources[number], accelerate=accelerate))

    workers = [threading.Thread(target=work, args=([i, i + 4],), daemon=True) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    assert sorted(together) == list(range(8))
    for number, expected in enumerate(alone):
        assert len(together[number]) == 3
        for solution in together[number]:
            np.testing.assert_array_equal(solution.u, expected.u)
            assert solution.residuals == expected.residuals


def test_a_solution_outlives_the_cycle_and_later_solves():
    cycle = unigrid.StencilCycle(unigrid.Poisson((120, 120)))
    solutions = [cycle.solve(np.random.default_rng(seed).standard_normal((120, 120))) for seed in range(4)]
    copies = [solution.u.copy() for solution in solutions]
    once = cycle(rough((120, 120)))
    once_copy = once.copy()
    for seed in range(4, 8):
        cycle.solve(np.random.default_rng(seed).standard_normal((120, 120)))
    for solution, copy in zip(solutions, copies, strict=True):
        np.testing.assert_array_equal(solution.u, copy)
    np.testing.assert_array_equal(once, once_copy)
    assert not any(np.shares_memory(a.u, b.u) for a, b in itertools.pairwise(solutions))


def test_a_solution_that_is_held_outlives_later_ones():
    cycle, rng = unigrid.StencilCycle(unigrid.Poisson((80, 90))), np.random.default_rng(3)
    held, copies = [], []
    for number in range(6):
        held.append(cycle.solve(rng.standard_normal((80, 90))).u)
        copies.append(held[-1].copy())
        if number % 2:
            del held[0], copies[0]
        for array, copy in zip(held, copies, strict=True):
            np.testing.assert_array_equal(array, copy)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_solves_what_its_parent_solves(use_threads):
    use_threads(3)
    cycle = unigrid.StencilCycle(unigrid.Poisson((80, 90)))
    f = rough((80, 90))
    expected = cycle.solve(f).u  # the parent's workers run now; the child has none of them
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if np.array_equal(cycle.solve(f).u, expected) else 2
        finally:
            os._exit(status)
    deadline = time.monotonic() + PATIENCE
    while (waited := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(waited[1]) == 0
    np.testing.assert_array_equal(cycle.solve(f).u, expected)


@pytest.fixture
def own_team(monkeypatch):
    """own_team(): a fresh team of three from here on; what a test breaks is nobody else's."""
    return lambda: monkeypatch.setattr(threading_module, "_team", type(threading_module._team)(3))


@pytest.mark.parametrize("error", [BoomError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", [{0}, {1}, {2}, {0, 2}, {1, 2}, {0, 1, 2}], ids=str)
def test_an_error_in_any_slab_comes_out_after_all_slabs_have_ended(failing, error, own_team):
    own_team()
    running = set()

    def kernel(first, last):
        running.add(first)
        try:
            time.sleep(0.002 * (1 + first))
            if first in failing:
                raise error
            return first
        finally:
            running.discard(first)

    raised = in_a_thread(lambda: threading_module.over_slabs(kernel, 3, 10**9))
    assert isinstance(raised, error)
    assert not running
    for _ in range(3):
        assert in_a_thread(lambda: threading_module.over_slabs(lambda first, last: first, 3, 10**9)) == [0, 1, 2]


def interrupted_at(line, call):
    """Call with Ctrl-C as it may come: KeyboardInterrupt before the `line`-th line that runs in threads.py of this thread.

    Return where that was, None where the call had ended before. Finalizers are left out: the interpreter prints what is raised
    in one and goes on, and at worst an idle thread stays.
    """
    seen, where = 0, None

    def tracer(frame, event, argument):
        nonlocal seen, where
        if frame.f_code.co_filename != threading_module.__file__ or frame.f_code.co_name in ("__del__", "retire"):
            return None
        if event == "line" and where is None:
            seen += 1
            if seen == line:
                where = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                raise KeyboardInterrupt
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        call()
    except KeyboardInterrupt:
        assert where is not None
    finally:
        sys.settrace(before)
    return where


def test_ctrl_c_at_any_line_of_the_team_leaves_it_usable(own_team):
    for line in range(1, 500):
        own_team()
        running = set()

        def kernel(first, last, running=running):
            running.add(first)
            time.sleep(0.001)
            running.discard(first)
            return first

        def repeated(kernel=kernel):
            for _ in range(2):  # the first starts the workers, the second finds them there
                threading_module.over_slabs(kernel, 3, 10**9)

        where = in_a_thread(lambda line=line, repeated=repeated: interrupted_at(line, repeated))
        if where is None:
            break
        assert not running, f"a slab still runs after Ctrl-C at {where}"
        for _ in range(3):
            usable = in_a_thread(lambda: threading_module.over_slabs(lambda first, last: last, 3, 10**9))
            assert usable == [1, 2, 3], f"after Ctrl-C at {where}"
    assert 20 < line < 499


@pytest.mark.parametrize("allowed", [0, 1, 2])
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["no thread", "no memory"])
def test_without_a_thread_to_be_had_kernels_run_serially(allowed, error, own_team, monkeypatch):
    own_team()
    started, start = [], threading.Thread.start

    def refusing(thread):
        if len(started) >= allowed:
            raise error
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    caller = threading.get_ident()

    def kernel(first, last):
        return first, threading.get_ident() == caller

    for _ in range(2):
        results = threading_module.over_slabs(kernel, 3, 10**9)
        assert [first for first, _ in results] == [0, 1, 2]
        assert all(serial for _, serial in results) == (allowed < 2)
    allowed = 2  # threads are to be had again
    assert not all(serial for _, serial in threading_module.over_slabs(kernel, 3, 10**9))


def test_a_solve_without_threads_is_the_same(use_threads, monkeypatch):
    f = rough((60, 61))
    expected = unigrid.solve(f).u
    use_threads(3)
    monkeypatch.setattr(threading_module, "_team", type(threading_module._team)(3))
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
    np.testing.assert_array_equal(unigrid.solve(f).u, expected)


def test_the_number_of_threads_is_what_was_set():
    before = unigrid.get_num_threads()
    try:
        unigrid.set_num_threads(2)
        assert unigrid.get_num_threads() == 2
    finally:
        unigrid.set_num_threads(before)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_a_number_of_threads_without_meaning_is_refused(threads):
    with pytest.raises(ValueError, match="threads must be an integer >= 1"):
        unigrid.set_num_threads(threads)


def test_the_environment_sets_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("UNIGRID_NUM_THREADS", "3")
    assert threading_module._default_threads() == 3
    monkeypatch.delenv("UNIGRID_NUM_THREADS")
    assert threading_module._default_threads() >= 1
    for bad in ("0", "many", "-1", "1.5", "", "\u00b2", "9" * 5000):
        monkeypatch.setenv("UNIGRID_NUM_THREADS", bad)
        with pytest.raises(ValueError, match="UNIGRID_NUM_THREADS must be an integer >= 1"):
            threading_module._default_threads()


def test_a_pickled_cycle_solves_the_same_in_another_thread(use_threads):
    use_threads(2)
    cycle = unigrid.StencilCycle(unigrid.Poisson((70, 70)))
    f = rough((70, 70))
    copy = pickle.loads(pickle.dumps(cycle))
    np.testing.assert_array_equal(in_a_thread(lambda: copy.solve(f)).u, cycle.solve(f).u)


def test_a_team_that_was_interrupted_is_replaced(use_threads):
    use_threads(2)

    def interrupted(first, last):
        raise KeyboardInterrupt

    before = threading_module._team
    with pytest.raises(KeyboardInterrupt):
        threading_module.over_slabs(interrupted, 8, 8)
    assert threading_module._team is not before
    assert threading_module._team.threads == 2
    assert threading_module.over_slabs(lambda first, last: last - first, 8, 8) == [4, 4]


def test_an_error_in_one_thread_does_not_take_the_workers_from_another(use_threads):
    use_threads(2)
    entered, release, results = threading.Event(), threading.Event(), []

    def slow(first, last):
        if first == 0:
            entered.set()
            release.wait(PATIENCE)
        return last - first

    other = threading.Thread(target=lambda: results.append(threading_module.over_slabs(slow, 8, 10**9)))
    other.start()
    assert entered.wait(PATIENCE)

    def broken(first, last):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threading_module.over_slabs(broken, 8, 10**9)
    release.set()
    other.join(PATIENCE)
    assert results == [[4, 4]]


def test_idle_workers_hold_no_array_of_the_user(use_threads):
    use_threads(2)
    f = np.random.default_rng(0).standard_normal((100, 100))
    watched = weakref.ref(f)
    u = unigrid.solve(f).u
    del f, u
    gc.collect()
    assert watched() is None


BLAS = """
import threading
import time
from pathlib import Path

import numpy as np
import unigrid

unigrid.solve(np.ones((64, 64)))
time.sleep(0.5)  # the threads of BLAS begin with some spinning
own = threading.get_native_id()
others = [task / "schedstat" for task in Path("/proc/self/task").iterdir() if int(task.name) != own]  # those of BLAS

def spent(call):
    '''Return the nanoseconds that other threads run for.'''
    before = sum(int(times.read_text().split()[0]) for times in others)
    for _ in range(5):
        unigrid.clear_cache()
        call()
    return sum(int(times.read_text().split()[0]) for times in others) - before

rng = np.random.default_rng(0)
solve = lambda shape, **options: spent(lambda: unigrid.solve(rng.standard_normal(shape), threads=1, **options))
print(spent(lambda: unigrid.StencilCycle(unigrid.Poisson((64, 64)))))
print(solve((64, 64)))
print(solve((20, 20), boundary="neumann", centering="cell", reaction=1e-3))
print(solve((14, 13, 15), boundary=["periodic", "dirichlet", "neumann"]))
print(solve(399))
print(solve(350), solve((120, 3)), solve((3, 3, 66), boundary='periodic', reaction=1.0))
print(solve((72, 70), precision="mixed"))
print(solve((40, 41), boundary=unigrid.Dirichlet(1.0), accelerate="cg"))
matrix = rng.standard_normal((400, 400))
print(spent(lambda: matrix @ matrix))
"""


@pytest.mark.system
@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="times of threads are Linux's")
@pytest.mark.skipif(usable_cores() == 1, reason="BLAS has no threads on one core")
def test_a_solve_with_one_thread_wakes_none_of_blas():
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", BLAS], capture_output=True, text=True, check=True, env=environment)
    *times, product = map(int, done.stdout.split())
    assert product > 0  # what the test looks for, where there is something to be found
    assert times == [0] * len(times)
