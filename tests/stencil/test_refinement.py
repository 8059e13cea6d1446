"""Mixed precision: the accuracy of float64, for every kind of cycle, and what it refuses."""

import numpy as np
import pytest
import scipy.sparse.linalg
from tiers import pack

import unigrid
from unigrid.stencil import solving

SIDES = [
    "dirichlet",
    "neumann",
    "periodic",
    [("dirichlet", "neumann"), "periodic"],
    [(unigrid.Dirichlet(2.0), unigrid.Neumann(-1.0)), ("neumann", unigrid.Dirichlet(0.5))],
]


def rough(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("boundary", SIDES, ids=str)
@pytest.mark.parametrize("shape", [(127, 127), (100, 64)], ids=str)
def test_it_reaches_the_answer_of_a_sparse_direct_solve(shape, boundary):
    f = rough(shape)
    problem = unigrid.Poisson(shape, boundary=boundary, reaction=1.0)
    solution = unigrid.solve(f, boundary=boundary, reaction=1.0, rtol=1e-11, precision="mixed")
    wanted = scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), problem.rhs(f).ravel()).reshape(shape)
    assert solution.u.dtype == np.float64
    assert np.abs(solution.u - wanted).max() <= 1e-9 * np.abs(wanted).max()


@pack
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": "zero"},
        {"u0": "given"},
        {"cycle": "W"},
        {"cycle": "F", "pre": 1},
        {"post": 0},
        {"smoother": "jacobi"},
        {"smoother": "chebyshev"},
    ],
    ids=str,
)
@pytest.mark.parametrize("rtol", [1e-6, 1e-8, 1e-12])
@pytest.mark.parametrize("shape", [(255,), (127, 130), (31, 32, 33)], ids=str)
def test_it_takes_at_most_one_cycle_more_and_tells_the_residual_of_what_it_returns(shape, rtol, options):
    f = rough(shape)
    options = {**options, "u0": rough(shape, 1)} if options.get("u0") else options
    kept = f.copy()
    plain = unigrid.solve(f, rtol=rtol, precision="full", **options)
    mixed = unigrid.solve(f, rtol=rtol, precision="mixed", **options)
    np.testing.assert_array_equal(f, kept)
    residual = np.linalg.norm(f - unigrid.Poisson(shape).operator(mixed.u))
    assert mixed.converged
    assert mixed.residuals[-1] == pytest.approx(residual, rel=1e-3)
    assert residual <= rtol * np.linalg.norm(f)
    assert mixed.iterations <= plain.iterations + 1
    assert len(mixed.residuals) == mixed.iterations + 1


def test_it_works_where_a_solution_is_smooth_and_float32_has_no_digits_left():
    x = np.arange(1, 1024) / 1024
    exact = np.outer(np.sin(np.pi * x), np.sin(3 * np.pi * x))
    f = 10 * np.pi**2 * exact
    mixed, single = unigrid.solve(f, precision="mixed", rtol=1e-9), unigrid.solve(f.astype(np.float32), rtol=1e-2)
    plain = unigrid.solve(f, rtol=1e-9, precision="full")
    error = np.abs(plain.u - exact).max()
    assert np.abs(mixed.u - exact).max() <= 1.01 * error
    assert np.abs(single.u - exact).max() > 1.2 * error


def test_a_run_that_is_cut_short_returns_what_its_residual_belongs_to():
    f = rough((127, 127))
    operator = unigrid.Poisson(f.shape).operator
    for maxiter in range(1, 5):
        solution = unigrid.solve(f, rtol=1e-13, maxiter=maxiter, precision="mixed", raise_on_failure=False)
        assert solution.reason is unigrid.Reason.MAXITER
        assert solution.iterations == maxiter
        assert solution.residuals[-1] == pytest.approx(np.linalg.norm(f - operator(solution.u)), rel=1e-3)


def test_a_callback_sees_iterates_that_stay_as_they_are():
    f, seen = rough((100, 100)), []
    operator = unigrid.Poisson(f.shape).operator
    unigrid.solve(f, precision="mixed", callback=lambda solution: seen.append((solution.u, solution.residuals[-1])))
    assert len(seen) > 2
    for u, norm in seen:
        assert norm == pytest.approx(np.linalg.norm(f - operator(u)), rel=1e-3)


def test_a_prepared_cycle_solves_in_either_precision_in_turn():
    f = rough((127, 127))
    cycle = unigrid.StencilCycle(unigrid.Poisson(f.shape))
    first, mixed, second = (cycle.solve(f, precision=each) for each in ("full", "mixed", "full"))
    np.testing.assert_array_equal(first.u, second.u)
    assert np.abs(mixed.u - first.u).max() <= 1e-6 * np.abs(first.u).max()
    several = cycle.solve(np.stack([f, 2 * f]), precision="mixed")
    assert np.abs(several.u[1] - 2 * several.u[0]).max() <= 1e-6 * np.abs(first.u).max()


def test_a_tolerance_that_float32_believes_met_is_proved_in_float64(monkeypatch):
    """The second cycle meets it, and the third has begun by then, as more was expected: it ends, and nothing is done again."""
    f = rough((127, 127))
    first = unigrid.solve(f, rtol=1e-12, precision="full")
    assert first.residuals[2] < 0.008 * first.residuals[1]  # better than is expected of a cycle before any was seen

    runs, iterate = [], solving.iterate
    monkeypatch.setattr(solving, "iterate", lambda *arguments: runs.append(arguments) or iterate(*arguments))
    mixed = unigrid.solve(f, rtol=0.0, atol=1.2 * first.residuals[2], precision="mixed")
    assert len(runs) == 1
    assert mixed.residuals[-1] <= 1.2 * first.residuals[2]
    assert mixed.residuals[-1] == pytest.approx(np.linalg.norm(f - unigrid.Poisson(f.shape).operator(mixed.u)), rel=1e-3)


def test_a_zero_source_needs_no_cycle():
    solution = unigrid.solve(np.zeros((65, 65)), precision="mixed")
    assert solution.iterations == 0
    assert not solution.u.any()


@pytest.mark.parametrize("sides", ["neumann", "periodic"])
def test_a_singular_problem_gets_its_mean_zero_solution(sides):
    f = rough((96, 96))
    mixed = unigrid.solve(f, boundary=sides, compatibility="project", precision="mixed", rtol=1e-10)
    plain = unigrid.solve(f, boundary=sides, compatibility="project", rtol=1e-10, precision="full")
    assert np.abs(mixed.u - plain.u).max() <= 1e-8 * np.abs(plain.u).max()
    assert abs(unigrid.Poisson(f.shape, boundary=sides).mean(mixed.u)) <= 1e-12 * np.abs(plain.u).max()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_gives_the_same_on_any_number_of_threads(threads):
    f = rough((400, 401))
    one, several = (unigrid.solve(f, precision="mixed", threads=count) for count in (1, threads))
    assert np.abs(one.u - several.u).max() <= 1e-6 * np.abs(one.u).max()  # rounding of float32 corrections
    assert several.residuals[-1] == pytest.approx(np.linalg.norm(f - unigrid.Poisson(f.shape).operator(several.u)), rel=1e-3)


@pytest.mark.parametrize(
    ("f", "options", "words"),
    [
        (np.ones((9, 9), np.float32), {}, "f is float32"),
        (np.full((9, 9), 1e30), {}, r"size 1\.0e\+30"),
        (np.full((9, 9), 1e-20), {}, r"size 1\.0e-20"),
        (np.ones((9, 9)), {"lengths": 1e-25}, "numbers that float32 holds"),
        (np.ones((9, 9)), {"accelerate": "cg"}, "leave out accelerate"),
    ],
)
def test_what_float32_cannot_do_is_refused(f, options, words):
    with pytest.raises(ValueError, match=words):
        unigrid.solve(f, precision="mixed", **options)


def test_a_wrong_name_is_told_the_right_ones():
    with pytest.raises(ValueError, match=r"precision 'mixd'.*'auto', 'full', 'mixed'"):
        unigrid.solve(np.ones((9, 9)), precision="mixd")


def test_divergence_is_found_as_in_full_precision():
    wild = unigrid.RedBlack(1.999)
    reasons = []
    for precision in ("full", "mixed"):
        solution = unigrid.solve(rough((64, 64)), smoother=wild, precision=precision, raise_on_failure=False, start="zero")
        reasons.append(solution.reason)
    assert reasons[0] is reasons[1]
    assert not solution.converged


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_wrong_number_of_threads_is_refused(threads):
    with pytest.raises((ValueError, TypeError), match="threads"):
        unigrid.solve(np.ones((9, 9)), threads=threads)


def test_threads_of_one_call_do_not_stay(use_threads):
    use_threads(2)
    seen = []
    unigrid.solve(rough((40, 40)), threads=1, callback=lambda solution: seen.append(unigrid.get_num_threads()))
    assert set(seen) == {1}
    assert unigrid.get_num_threads() == 2
