"""Interrupts between any two steps of the interpreter: an exception, or a whole solve in a signal's handler.

Compiled kernels are not interrupted: a handler runs before or after one. A trace function stands for the handler, which so
comes at every line and at every bytecode; real signals come at random.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest

import unigrid
from unigrid.stencil.kernels import workspace
from unigrid.stencil.kernels.cpu import fused, threads

PACKAGE = str(Path(unigrid.__file__).parent)
# Where what solves share is kept: memory, the team of threads and its limits, NumPy's handling of errors.
SHARED = (workspace.__file__, threads.__file__, contextlib.__file__, sys.modules[np.errstate.__module__].__file__)
STEP = int(os.environ.get("UNIGRID_TEST_STEP", "211"))  # 1 on a schedule: then at every bytecode
SIGNALS = int(os.environ.get("UNIGRID_TEST_SIGNALS", "200"))  # 10,000 on a schedule


class Interrupt(BaseException):
    pass


def traced(call, act, watched, opcodes):
    """Call with `act(frame)` before each line, or each bytecode, of the code that `watched` accepts."""

    def local(frame, event, argument):
        if event == ("opcode" if opcodes else "line"):
            act(frame)
        return local

    def tracer(frame, event, argument):
        if not watched(frame.f_code):
            return None
        frame.f_trace_opcodes = opcodes
        return local

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        return call()
    finally:
        sys.settrace(before)


def in_package(code):
    return in_shared(code) or code.co_filename.startswith(PACKAGE)


def in_shared(code):
    """Finalizers of threads are left out: what is raised there is lost, and at worst an idle thread stays."""
    return code.co_filename in (*SHARED, fused.__file__) and code.co_name not in ("__del__", "retire")


def place(frame, opcodes):
    return frame.f_code, frame.f_lasti if opcodes else frame.f_lineno


class Solve:
    """A solve, and what it returns when nothing comes between."""

    def __init__(self, number, shape, **options):
        self.f = np.random.default_rng(number).standard_normal(shape)
        self.options = options
        self.expected = self().copy()

    def __call__(self):
        return unigrid.solve(self.f, **self.options).u

    def check(self, where):
        np.testing.assert_array_equal(self(), self.expected, err_msg=f"after an interrupt at {where}")


SOLVES = {
    "plain": ((96, 90), {}),
    "cg": ((70, 75), {"accelerate": "cg"}),
    "mixed": ((80, 96), {"precision": "mixed", "threads": 1}),
    "limited": ((70, 70), {"threads": 1, "boundary": "neumann", "centering": "cell", "reaction": 1e-3}),
    "steps": ((90, 80), {"smoother": "chebyshev", "rtol": 1e-4}),
    "one pass": ((18, 30, 24), {"rtol": "discretization"}),
    "watched": ((72, 80), {"callback": lambda solution: None}),
}


@pytest.fixture
def strips(monkeypatch):
    """Several strips and seams on the grids of these tests, whose hierarchies are built anew."""
    monkeypatch.setattr(fused, "STRIP_BYTES", 1)
    monkeypatch.setattr(fused, "STRIP_ROWS", 8)
    unigrid.clear_cache()
    yield
    unigrid.clear_cache()


@pytest.fixture(autouse=True)
def seven_threads():
    """A number of threads that no limit of these tests equals; the grids are too small for them."""
    before = unigrid.get_num_threads()
    unigrid.set_num_threads(7)
    yield
    unigrid.set_num_threads(before)


def check_an_exception_at_every(opcodes, solve, watched):
    """Raise once at each place that a solve passes: it comes out, and the next solve is right."""
    places = {}
    traced(solve, lambda frame: places.setdefault(place(frame, opcodes), len(places)), watched, opcodes)
    limit, errors = unigrid.get_num_threads(), np.geterr()
    for wanted in places:

        def act(frame, wanted=wanted):
            if place(frame, opcodes) == wanted:
                raise Interrupt

        where = f"{wanted[0].co_qualname}, {wanted[1]}"
        try:
            traced(solve, act, watched, opcodes)
        except Interrupt:
            pass
        else:
            pytest.fail(f"an exception is lost at {where}")
        assert (unigrid.get_num_threads(), np.geterr()) == (limit, errors), where
        solve.check(where)
    return len(places)


def check_a_solve_at_every(step, opcodes, solve, other, watched):
    """Solve another problem at every `step`-th place that a solve passes; no result changes later."""
    kept, count = deque(maxlen=100), itertools.count()

    def act(frame):
        if next(count) % step == 0:
            kept.append(other())
            assert np.array_equal(kept[0], other.expected), place(frame, opcodes)
            assert np.array_equal(kept[-1], other.expected), place(frame, opcodes)

    np.testing.assert_array_equal(traced(solve, act, watched, opcodes), solve.expected)
    for u in kept:
        np.testing.assert_array_equal(u, other.expected)
    return next(count)


def test_an_exception_at_any_line_leaves_later_solves_right():
    assert check_an_exception_at_every(False, Solve(1, (66, 70), threads=1), in_package) > 300


def test_an_exception_at_any_bytecode_of_shared_memory_leaves_later_solves_right():
    solve = Solve(2, (66, 70), threads=1, start="zero", rtol=0.1)
    assert check_an_exception_at_every(True, solve, in_shared) > 300


@pytest.mark.parametrize("other", [(66, 70), (65, 64)], ids=["same grid", "other grid"])
def test_a_solve_at_any_line_of_another_leaves_both_right(other):
    assert check_a_solve_at_every(1, False, Solve(3, (66, 70), threads=1), Solve(4, other, rtol=0.1), in_package) > 1000


def test_an_exception_at_any_bytecode_of_a_team_leaves_later_solves_right(use_threads):
    use_threads(3)
    solve = Solve(2, (66, 70), start="zero", rtol=0.5)
    assert check_an_exception_at_every(True, solve, lambda code: code.co_filename == threads.__file__ and in_shared(code)) > 200


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", SOLVES)
def test_a_solve_at_any_bytecode_of_all_kinds_leaves_both_right(kind, workers, use_threads, strips):
    use_threads(workers)
    shape, options = SOLVES[kind]
    solve, other = Solve(5, shape, **options), Solve(6, shape, **options)
    assert check_a_solve_at_every(STEP, True, solve, other, in_package) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOLVES)
def test_an_exception_at_any_line_of_all_kinds_leaves_later_solves_right(kind, strips):
    shape, options = SOLVES[kind]
    assert check_an_exception_at_every(False, Solve(7, shape, **options), in_package) > 100


# Real signals.


def interrupted(call, seconds):
    """Call, with SIGALRM after so many seconds; return whether its handler ended the call."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        return True
    return False


@pytest.fixture
def on_alarm():
    """on_alarm(handler): what SIGALRM does in this test."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("workers", [1, 2])
def test_signals_during_solves_leave_later_ones_right(workers, on_alarm, rng):
    unigrid.set_num_threads(workers)
    solves = [Solve(n, (n, n)) for n in (31, 63, 127, 255, 511)]
    solves += [
        Solve(1, (127, 127), accelerate="cg"),
        Solve(2, (300, 305), precision="mixed"),
        Solve(3, (20, 31, 24), threads=1),
    ]
    kept, ended, nested = deque(maxlen=20), 0, 0

    def handler(number, frame):
        nonlocal nested
        if rng.random() < 0.5:
            raise Interrupt
        other = solves[rng.integers(len(solves))]
        kept.append((other(), other.expected))
        nested += 1

    on_alarm(handler)
    for _ in range(SIGNALS // 2):
        solve = solves[rng.choice(len(solves), p=[0.2, 0.2, 0.2, 0.1, 0.05, 0.1, 0.05, 0.1])]
        if rng.random() < 0.1:
            unigrid.clear_cache()
        start = time.perf_counter()
        solve()
        ended += interrupted(lambda solve=solve: solve.check("a signal"), 0.8 * rng.random() * (time.perf_counter() - start))
        assert unigrid.get_num_threads() == workers
        solve.check("a signal")
        for u, expected in kept:
            np.testing.assert_array_equal(u, expected)
    assert min(ended, nested) > SIGNALS // 20


FIRST = """
import os, signal, sys
import numpy as np, unigrid
unigrid.solve  # all is imported; kernels are loaded in the children
f = np.random.default_rng(0).standard_normal((96, 90))
class Interrupt(BaseException): pass
for number in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        nested = []
        def handler(signum, frame):
            if number % 2:
                raise Interrupt
            nested.append(unigrid.solve(f).u)
        signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, float(np.random.default_rng(number).uniform(0.001, 0.3)))
            unigrid.solve(f)
        except Interrupt:
            pass
        u = unigrid.solve(f).u
        residual = f - unigrid.Poisson(f.shape).operator(u)
        right = np.abs(residual).max() < 1e-6 and all(np.array_equal(u, other) for other in nested)
        os._exit(0 if right else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, number
"""


@pytest.mark.system
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_signals_while_kernels_are_loaded_leave_later_solves_right():
    Solve(0, (96, 90))  # the kernels are compiled
    command = [sys.executable, "-c", FIRST, str(SIGNALS // 40)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
