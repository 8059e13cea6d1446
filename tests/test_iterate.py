"""The driver alone: its steps are made of plain numbers here, a u = b with a number for a."""

import math

import pytest

import unigrid
from unigrid import Reason, Solution
from unigrid.iterate import Iteration, Repeated, System, Tolerance, predicted
from unigrid.iterate import iterate as drive


def iterate(step, u, system, tolerance, *, nested=None, callback=None):
    """Drive a plain step."""
    return drive(Repeated(step, system, nested), u, system, tolerance, callback)


def system(b=1.0, round_off=0.0, **options):
    """u = b: the residual of u is b - u."""
    return System(b, lambda u: abs(b if u is None else b - u), lambda u: round_off, **options)


def tolerance(rtol=1e-6, atol=0.0, maxiter=50, default_rtol=1e-8):
    return Tolerance(rtol, atol, maxiter, default_rtol)


def shrink(factor):
    """A step after which the residual of u = b is `factor` times what it was."""
    return lambda b, u: b - factor * (b - (u or 0.0))


def follow(*residuals):
    """Steps that leave these residuals of u = 1, one after the other, and then the last one for ever."""
    left = list(residuals)
    return lambda b, u: b - (left.pop(0) if len(left) > 1 else left[0])


# Each way to end.


def test_converged_where_the_residual_is_at_the_tolerance():
    solution = iterate(shrink(0.1), None, system(), tolerance(1e-3 * (1 + 1e-9)))
    assert solution.reason is Reason.CONVERGED
    assert solution.converged
    assert solution.iterations == 3
    assert solution.residuals == pytest.approx((1, 0.1, 0.01, 0.001))
    assert abs(1.0 - solution.u) == solution.residuals[-1]
    assert solution.message.startswith("converged: residual 1.0e-03 ||b|| after 3 iterations")


def test_converged_before_the_first_step_where_the_start_solves():
    def fail(b, u):
        pytest.fail("no step was needed")

    solution = iterate(fail, 1.0, system(), tolerance(), callback=fail)
    assert (solution.reason, solution.iterations, solution.residuals, solution.u) == (Reason.CONVERGED, 0, (0.0,), 1.0)
    assert math.isnan(solution.rate)


def test_maxiter_where_the_iterations_are_used_up():
    solution = iterate(shrink(0.5), None, system(), tolerance(maxiter=4))
    assert (solution.reason, solution.converged, solution.iterations) == (Reason.MAXITER, False, 4)
    assert solution.residuals[-1] == 0.5**4


def test_the_last_allowed_iteration_may_still_converge():
    assert iterate(shrink(0.1), None, system(), tolerance(1.1e-4, maxiter=4)).reason is Reason.CONVERGED


@pytest.mark.parametrize("growth", [1.5, 3.0, 1e3, 1e5])
def test_diverged_within_ten_iterations_where_the_residual_grows(growth):
    solution = iterate(shrink(-growth), None, system(), tolerance())
    assert solution.reason is Reason.DIVERGED
    assert solution.iterations <= 10
    assert solution.residuals[-1] > solution.residuals[0]


def test_a_residual_that_rises_for_a_while_below_its_start_has_not_diverged():
    solution = iterate(follow(0.01, 0.02, 0.03, 0.04, 0.05, 0.008, 1e-9), None, system(), tolerance())
    assert solution.reason is Reason.CONVERGED


def test_a_single_large_residual_comes_back():
    assert iterate(follow(100.0, 1.0, 0.01, 1e-9), None, system(), tolerance()).reason is Reason.CONVERGED


def test_stagnated_where_nothing_is_gained():
    solution = iterate(follow(0.1, 0.01, 0.01), None, system(), tolerance())
    assert solution.reason is Reason.STAGNATED
    assert 5 <= solution.iterations <= 10


def test_stagnated_where_the_residual_wavers_about_a_level():
    solution = iterate(follow(0.1, *[0.01, 0.013] * 10), None, system(), tolerance())
    assert solution.reason is Reason.STAGNATED
    assert solution.iterations <= 12


def test_slow_convergence_is_no_stagnation():
    solution = iterate(shrink(0.97), None, system(), tolerance(maxiter=40))
    assert solution.reason is Reason.MAXITER
    assert solution.rate == pytest.approx(0.97)


def test_stagnated_soon_where_the_tolerance_lies_below_round_off():
    solution = iterate(follow(1e-3, 1e-6, 4e-7, 3.9e-7), None, system(round_off=1e-6), tolerance(1e-9))
    assert solution.reason is Reason.STAGNATED
    assert solution.iterations <= 5
    assert "rounding" in solution.message


def test_the_default_tolerance_is_the_round_off_level_where_that_is_larger():
    solution = iterate(follow(1e-3, 1e-6, 4e-7), None, system(round_off=5e-7), tolerance(None, default_rtol=1e-8))
    assert (solution.reason, solution.iterations) == (Reason.CONVERGED, 3)
    assert "round-off level 5.0e-07" in solution.message


def test_a_start_at_the_round_off_level_solves_by_the_default_tolerance():
    solution = iterate(shrink(0.9), 1.0 - 4e-7, system(round_off=5e-7), tolerance(None, default_rtol=1e-8))
    assert (solution.reason, solution.iterations) == (Reason.CONVERGED, 0)


def test_the_default_tolerance_is_the_default_rtol_elsewhere():
    assert iterate(shrink(0.1), None, system(round_off=1e-12), tolerance(None, default_rtol=1.5e-4)).iterations == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [2, 3])
def test_nonfinite_returns_the_last_finite_iterate(bad, at):
    def step(b, u):
        nonlocal count
        count += 1
        return bad if count == at else shrink(0.1)(b, u)

    count = 0
    solution = iterate(step, None, system(), tolerance())
    assert solution.reason is Reason.NONFINITE
    assert solution.iterations == at - 1
    assert solution.u == pytest.approx(1 - 0.1 ** (at - 1))
    assert abs(1 - solution.u) == solution.residuals[-1]
    assert f"iteration {at}" in solution.message


def test_nonfinite_in_the_first_iteration_returns_the_start():
    assert iterate(lambda b, u: math.nan, 0.25, system(), tolerance()).u == 0.25


@pytest.mark.parametrize("rtol", [None, 1e-3])
def test_nan_never_passes_for_convergence(rtol):
    """The tolerance itself may be infinite: NaN is still not below it."""
    broken = System(1.0, lambda u: 1e301 if u is None else math.nan, lambda u: math.inf)
    assert not iterate(lambda b, u: 1.0, None, broken, tolerance(rtol, atol=1e300)).converged


def test_stopped_by_the_callback_with_the_current_iterate():
    def callback(solution):
        if solution.iterations == 2:
            raise StopIteration

    solution = iterate(shrink(0.1), None, system(), tolerance(), callback=callback)
    assert (solution.reason, solution.converged, solution.iterations) == (Reason.STOPPED, False, 2)
    assert solution.u == pytest.approx(0.99)


def test_a_stop_in_the_iteration_that_converged_leaves_it_converged():
    def callback(solution):
        if solution.converged:
            raise StopIteration

    assert iterate(shrink(0.1), None, system(), tolerance(), callback=callback).reason is Reason.CONVERGED


def test_another_exception_of_the_callback_passes():
    def callback(solution):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        iterate(shrink(0.1), None, system(), tolerance(), callback=callback)


# History, callbacks, nested start.


def test_the_history_begins_with_the_residual_of_the_start():
    assert iterate(shrink(0.1), 0.5, system(), tolerance()).residuals[0] == 0.5
    assert iterate(shrink(0.1), None, system(), tolerance()).residuals[0] == 1.0


def test_the_callback_sees_each_iteration_once_in_order_through_the_view():
    seen = []
    solution = iterate(shrink(0.1), None, system(view=lambda u: ("seen", u)), tolerance(1.5e-6), callback=seen.append)
    assert [one.iterations for one in seen] == [1, 2, 3, 4, 5, 6]
    assert all(one.u[0] == "seen" for one in seen)
    assert all(one.residuals == solution.residuals[: one.iterations + 1] for one in seen)
    assert all(isinstance(one, Solution) for one in seen)
    assert [one.converged for one in seen] == [False] * (solution.iterations - 1) + [True]
    assert not isinstance(solution.u, tuple)


def test_the_callback_comes_after_its_step_and_before_the_next():
    order = []

    def step(b, u):
        order.append("step")
        return shrink(0.01)(b, u)

    iterate(step, None, system(), tolerance(1.5e-6), callback=lambda solution: order.append(solution.iterations))
    assert order == ["step", 1, "step", 2, "step", 3]


def test_a_nested_start_is_the_first_iteration_and_replaces_a_step():
    calls = []

    def step(b, u):
        calls.append(u)
        return shrink(0.1)(b, u)

    solution = iterate(step, None, system(), tolerance(1.5e-6), nested=lambda: 0.9999)
    assert solution.residuals == pytest.approx((1, 1e-4, 1e-5, 1e-6))
    assert calls[0] == 0.9999
    assert solution.nested_start
    assert solution.rate == pytest.approx(0.1)
    assert not iterate(shrink(0.1), None, system(), tolerance()).nested_start


def test_the_step_sees_b_and_the_last_iterate():
    seen = []

    def step(b, u):
        seen.append((b, u))
        return 2.0

    iterate(step, None, system(2.0), tolerance())
    assert seen == [(2.0, None)]


# The tolerance.


@pytest.mark.parametrize(
    ("rtol", "atol", "b_norm", "expected"),
    [
        (1e-3, 0.0, 5.0, 5e-3),
        (1e-3, 1e-2, 5.0, 1e-2),
        (0.0, 1e-2, 5.0, 1e-2),
        (None, 0.0, 5.0, 5e-8),
        (None, 1.0, 5.0, 1.0),
        (0, 0, 5.0, 0.0),
    ],
)
def test_the_target_is_the_larger_of_rtol_b_and_atol(rtol, atol, b_norm, expected):
    assert tolerance(rtol, atol).target(b_norm) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rtol": -1e-3}, "rtol"),
        ({"rtol": math.nan}, "rtol"),
        ({"rtol": math.inf}, "rtol"),
        ({"rtol": "1e-3"}, "rtol"),
        ({"rtol": 1j}, "rtol"),
        ({"atol": -1.0}, "atol"),
        ({"atol": math.nan}, "atol"),
        ({"maxiter": 0}, "maxiter"),
        ({"maxiter": -1}, "maxiter"),
        ({"maxiter": 1.0}, "maxiter"),
        ({"maxiter": True}, "maxiter"),
        ({"maxiter": None}, "maxiter"),
    ],
)
def test_a_tolerance_without_meaning_is_refused_in_one_line(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be") as error:
        tolerance(**arguments)
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_make_a_tolerance():
    np = pytest.importorskip("numpy")
    made = tolerance(np.float32(0.5), np.float64(0.25), np.int64(3))
    assert made.target(1.0) == 0.5


# What raises.


@pytest.mark.parametrize("reason", list(Reason))
def test_failures_raise_and_carry_the_solution(reason):
    from unigrid.iterate import raise_unless_converged

    solution = Solution(1.0, reason is Reason.CONVERGED, reason, 1, (1.0, 0.5), "what happened.")
    if reason in (Reason.CONVERGED, Reason.STOPPED):
        assert raise_unless_converged(solution) is solution
        return
    with pytest.raises(unigrid.ConvergenceError, match="what happened") as error:
        raise_unless_converged(solution)
    assert error.value.solution is solution


# Looking ahead.


class Turning(Iteration):
    """u = 1 by steps that may begin the next one: `log` holds what each was told, `left` the residuals they leave."""

    def __init__(self, *left, keeps=True):
        self.left, self.keeps, self.log = left, keeps, []

    def start(self, u):
        self.count, self.under_way, self._kept = 0, False, u

    def step(self, look_ahead):
        self.log.append(look_ahead)
        norm = self.left[min(self.count, len(self.left) - 1)]
        self.count, self.under_way = self.count + 1, look_ahead
        if math.isfinite(norm):
            self._kept = 1.0 - norm if self.keeps or not look_ahead else None
        return norm

    def current(self):
        return self._kept

    @property
    def state(self):
        return 1.0


def test_it_looks_ahead_as_long_as_another_iteration_is_expected():
    iteration = Turning(1e-3, 1e-6, 1e-9)
    solution = drive(iteration, None, system(), tolerance(1e-8))
    assert iteration.log == [True, True, False]  # 1, 1e-3 -> 1e-6 is expected, and then 1e-9
    assert (solution.iterations, solution.u) == (3, pytest.approx(1 - 1e-9, rel=1e-15))


def test_it_does_not_look_ahead_beyond_maxiter_nor_where_nothing_is_gained():
    iteration = Turning(0.5, 0.25, 0.125)
    assert drive(iteration, None, system(), tolerance(1e-8, maxiter=2)).reason is Reason.MAXITER
    assert iteration.log == [True, False]
    iteration = Turning(3.0, 9.0, 27.0, 81.0, 243.0)
    assert drive(iteration, None, system(), tolerance(1e-8)).reason is Reason.DIVERGED
    assert iteration.log == [True, False, False, False, False]


def test_a_run_ends_only_where_no_iteration_is_under_way():
    iteration = Turning(1e-9, 1e-12, keeps=False)  # better than expected: the second has begun already
    solution = drive(iteration, None, system(), tolerance(1e-8))
    assert iteration.log == [True, False]
    assert (solution.iterations, solution.residuals[-1]) == (2, 1e-12)
    assert solution.u == pytest.approx(1 - 1e-12, rel=1e-15)


@pytest.mark.parametrize("keeps", [True, False])
def test_the_last_finite_iterate_is_found_again_where_it_was_overwritten(keeps):
    iteration = Turning(1e-2, 1e-4, math.nan, keeps=keeps)
    solution = drive(iteration, None, system(), tolerance(1e-12))
    assert (solution.reason, solution.iterations) == (Reason.NONFINITE, 2)
    assert solution.u == pytest.approx(1 - 1e-4, rel=1e-15)
    assert iteration.log == [True, True, True] + [False, False] * (not keeps)


def test_whoever_watches_changes_no_decision():
    logs, seen = [], []
    for callback in (None, seen.append):
        iteration = Turning(1e-2, 1e-4, 1e-6, 1e-8)
        drive(iteration, None, system(), tolerance(1e-7), callback)
        logs.append(iteration.log)
    assert logs[0] == logs[1]
    assert [one.iterations for one in seen] == [1, 2, 3, 4]


def test_the_prediction_is_the_last_factor_again():
    assert predicted([2.0]) == pytest.approx(0.02)
    assert predicted([2.0, 1.0]) == pytest.approx(0.5)
