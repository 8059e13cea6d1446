"""Interrupts between any two steps of the interpreter: an exception, or a whole solve in a signal's handler.

Compiled kernels are not interrupted: a handler runs before or after one. A trace function stands for the handler, which so
comes at every line and at every bytecode; real signals come at random.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from tiers import generator

import unigrid
from unigrid.stencil.kernels import workspace
from unigrid.stencil.kernels.cpu import fused, threads

PACKAGE = str(Path(unigrid.__file__).parent)
# Where what solves share is kept: memory, the team of threads and its limits, NumPy's handling of errors.
SHARED = (workspace.__file__, threads.__file__, contextlib.__file__, sys.modules[np.errstate.__module__].__file__)
SIGNALS = int(os.environ.get("UNIGRID_TEST_SIGNALS", "300"))  # 10,000 on a schedule


class Interrupt(BaseException):
    pass


def traced(call, act, watched, opcodes):
    """Call with `act(frame)` before each line, or each bytecode, of the files that `watched` accepts."""

    def local(frame, event, argument):
        if event == ("opcode" if opcodes else "line"):
            act(frame)
        return local

    def tracer(frame, event, argument):
        if not watched(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = opcodes
        return local

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        return call()
    finally:
        sys.settrace(before)


def in_package(name):
    return name.startswith(PACKAGE) or name in SHARED


def in_shared(name):
    return name in SHARED or name == fused.__file__


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
        with pytest.raises(Interrupt):
            traced(solve, act, watched, opcodes)
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


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", SOLVES)
def test_a_solve_at_any_bytecode_leaves_both_right(kind, workers, use_threads, strips):
    use_threads(workers)
    shape, options = SOLVES[kind]
    solve, other = Solve(5, shape, **options), Solve(6, shape, **options)
    assert check_a_solve_at_every(37, True, solve, other, in_package) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOLVES)
def test_an_exception_at_any_line_of_all_kinds_leaves_later_solves_right(kind, strips):
    shape, options = SOLVES[kind]
    assert check_an_exception_at_every(False, Solve(7, shape, **options), in_package) > 100
