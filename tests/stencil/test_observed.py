"""Watching changes nothing: the same iterates and residuals with and without a callback, a progress bar or a profile."""

import io

import numpy as np
import pytest

import unigrid
from unigrid.cli import monitor

CASES = [
    ((120, 150), {}, {"precision": "full"}),
    ((120, 150), {}, {"precision": "mixed"}),
    ((255, 255), {}, {}),
    ((120, 150), {"boundary": ["periodic", ("neumann", "dirichlet")]}, {"start": "zero", "precision": "full"}),
    ((121, 150), {"boundary": ["periodic", "dirichlet"]}, {"precision": "mixed"}),
    ((40, 36, 44), {"centering": "cell"}, {"precision": "full", "rtol": 1e-11}),
    ((40, 36, 44), {}, {"precision": "mixed", "rtol": 1e-11}),
    ((500,), {}, {}),
    ((120, 150), {"boundary": "neumann"}, {"precision": "full"}),
    ((64, 64), {"boundary": "periodic"}, {"precision": "mixed"}),
    ((80, 90), {}, {"accelerate": "cg"}),
    ((80, 90), {}, {"rtol": "discretization"}),
    ((80, 90), {}, {"maxiter": 2, "raise_on_failure": False, "rtol": 1e-14}),
]


def cycle_and_source(shape, problem, **slots):
    problem = unigrid.Poisson(shape, **problem)
    return unigrid.StencilCycle(problem, **slots), problem.compatible(np.random.default_rng(1).standard_normal(shape))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shape", "problem", "options"), CASES, ids=str)
def test_a_callback_changes_neither_iterates_nor_residuals(shape, problem, options, threads, use_threads):
    use_threads(threads)
    cycle, f = cycle_and_source(shape, problem)
    seen = []
    plain = cycle.solve(f, **options)
    watched = cycle.solve(f, callback=seen.append, **options)
    np.testing.assert_array_equal(watched.u, plain.u)
    assert (watched.residuals, watched.reason, watched.message) == (plain.residuals, plain.reason, plain.message)
    assert [one.iterations for one in seen] == list(range(1, plain.iterations + 1))
    np.testing.assert_array_equal(seen[-1].u, plain.u)


@pytest.mark.parametrize("precision", ["full", "mixed"])
@pytest.mark.parametrize("slots", [{}, {"smoother": "jacobi"}, {"smoother": "red-black", "cycle": "W"}], ids=str)
def test_what_a_callback_receives_has_the_residual_it_is_told(slots, precision):
    cycle, f = cycle_and_source((90, 100), {}, **slots)
    seen = []
    cycle.solve(f, rtol=1e-11, precision=precision, callback=lambda one: seen.append((one.u, one.u.copy(), one.residuals[-1])))
    assert len(seen) > 2
    for u, copy, norm in seen:
        np.testing.assert_array_equal(u, copy)  # it stays as it was
        assert not u.flags.writeable
        # In mixed precision norms in between are those of float32, whose rounding shows.
        slack = 2e-6 * np.linalg.norm(f) if precision == "mixed" else 1e-12 * np.linalg.norm(f)
        assert norm == pytest.approx(np.linalg.norm(f - cycle.problem.operator(u)), rel=1e-6, abs=slack)


@pytest.mark.parametrize("precision", ["full", "mixed"])
@pytest.mark.parametrize("last", [1, 2])
def test_a_stop_returns_the_iterate_that_was_seen(last, precision):
    cycle, f = cycle_and_source((90, 100), {})
    seen = []

    def callback(solution):
        seen.append(solution.u.copy())
        if solution.iterations == last:
            raise StopIteration

    solution = cycle.solve(f, rtol=1e-12, precision=precision, callback=callback)
    assert (solution.reason, solution.iterations) == (unigrid.Reason.STOPPED, last)
    np.testing.assert_array_equal(solution.u, seen[-1])


@pytest.mark.parametrize(("shape", "problem", "options"), CASES[:6], ids=str)
def test_a_profile_runs_the_same_solve(shape, problem, options):
    cycle, f = cycle_and_source(shape, problem)
    plain, profile = cycle.solve(f, **options), cycle.profile(f, **options)
    np.testing.assert_array_equal(profile.solution.u, plain.u)
    assert profile.solution.residuals == plain.residuals


def test_a_progress_bar_runs_the_same_solve(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    cycle, f = cycle_and_source((255, 255), {})
    monkeypatch.setattr(monitor.sys, "stderr", Terminal())
    plain = cycle.solve(f)
    with monitor.progress_bar(lambda initial: 1e-8 * initial) as watch:
        assert watch is not None
        watched = cycle.solve(f, callback=watch)
    np.testing.assert_array_equal(watched.u, plain.u)
    assert watched.residuals == plain.residuals


def test_a_failing_run_is_not_repeated():
    cycle, f = cycle_and_source((90, 100), {}, smoother=unigrid.RedBlack(1.999), pre=1, post=1)
    seen = []
    solution = cycle.solve(f, start="zero", raise_on_failure=False, callback=lambda one: seen.append(one.iterations))
    assert not solution.converged
    assert seen == list(range(1, solution.iterations + 1))


@pytest.mark.parametrize("precision", ["full", "mixed"])
@pytest.mark.parametrize("watched", [True, False])
def test_the_last_finite_iterate_of_a_run_that_overflows(watched, precision):
    class Wild(unigrid.Smoother):
        def __init__(self):
            self.calls = 0

        def __call__(self, operator, b, u):
            self.calls += 1
            return np.full_like(b, np.nan) if self.calls > 60 else unigrid.Jacobi()(operator, b, u)

    f = np.random.default_rng(2).standard_normal((40, 50))
    cycle = unigrid.StencilCycle(unigrid.Poisson(f.shape), smoother=Wild(), pre=1, post=1)
    callback = (lambda one: None) if watched else None
    solution = cycle.solve(f, rtol=1e-30, precision=precision, callback=callback, raise_on_failure=False)
    assert solution.reason is unigrid.Reason.NONFINITE
    assert np.isfinite(solution.u).all()
    assert solution.residuals[-1] == pytest.approx(np.linalg.norm(f - cycle.problem.operator(solution.u)), rel=1e-6)
