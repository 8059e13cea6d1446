"""What comes out: the convergence factor, reasons that explain themselves, stacks, the error."""

import math
import pickle

import numpy as np
import pytest

import unigrid
from unigrid import Reason, Solution
from unigrid.solution import stacked


def solution(residuals, nested=False, reason=Reason.CONVERGED, u=0.0):
    return Solution(u, reason is Reason.CONVERGED, reason, len(residuals) - 1, tuple(residuals), "message.", nested)


@pytest.mark.parametrize(
    ("residuals", "nested", "expected"),
    [
        ((1, 0.5), False, 0.5),
        ((1, 0.5, 0.05), False, 0.1),  # two ratios: the last
        ((1, 0.5, 0.05, 0.01), False, math.sqrt(0.1 * 0.2)),  # three ratios: the last two
        ((1, 0.5, 0.05, 0.01, 0.004), False, math.sqrt(0.2 * 0.4)),  # four: the last two
        ((1, 0.001, 0.0001), True, 0.1),  # full multigrid left out
        ((1, 0.001, 0.0001, 0.00002), True, 0.2),
        ((1, 2, 8), False, 4.0),
    ],
)
def test_rate_is_the_geometric_mean_of_the_last_half_of_the_ratios(residuals, nested, expected):
    assert solution(residuals, nested).rate == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("residuals", "nested"), [((1.0,), False), ((0.0,), False), ((1.0, 0.1), True), ((1.0,), True)])
def test_rate_is_nan_where_there_is_no_ratio(residuals, nested):
    assert math.isnan(solution(residuals, nested).rate)


def test_rate_of_a_residual_that_became_zero_is_zero():
    assert solution((1.0, 0.0)).rate == 0.0


def test_the_rate_of_a_real_run_leaves_full_multigrid_out():
    f = np.random.default_rng(0).standard_normal((63, 63))
    run = unigrid.solve(f, rtol=1e-11)
    ratios = [new / old for old, new in zip(run.residuals[1:], run.residuals[2:], strict=False)]
    last = ratios[len(ratios) // 2 :]
    assert run.rate == pytest.approx(math.prod(last) ** (1 / len(last)))
    assert 0 < run.rate < 0.2


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_says_what_happened_and_what_to_do(reason):
    assert str(reason) == reason.value == reason.name.lower()
    assert "\n" not in reason.text
    assert reason.text.endswith(".")
    assert len(reason.text) > 40


def test_the_six_reasons_are_those_of_the_contract():
    assert {reason.value for reason in Reason} == {"converged", "maxiter", "diverged", "stagnated", "nonfinite", "stopped"}


def test_a_solution_is_frozen_and_does_not_print_its_array():
    one = solution((1.0, 0.1), u=np.arange(1000))
    with pytest.raises(AttributeError):
        one.u = 3
    assert "999" not in repr(one)
    assert "CONVERGED" in repr(one)


def test_a_convergence_error_says_all_in_one_line_and_survives_pickling():
    error = unigrid.ConvergenceError(solution((1.0, 0.1), reason=Reason.MAXITER))
    text = str(error)
    assert "\n" not in text
    for words in ("message.", Reason.MAXITER.text, ".solution", "raise_on_failure=False"):
        assert words in text
    assert vars(pickle.loads(pickle.dumps(error)).solution) == vars(error.solution)


def test_a_stack_is_summed_up():
    parts = [solution((3.0, 0.3, 0.03)), solution((4.0, 0.4))]
    whole = stacked(parts, "u")
    assert whole.u == "u"
    assert whole.iterations == 2
    assert whole.residuals == pytest.approx((5.0, 0.5, math.hypot(0.03, 0.4)))
    assert whole.parts == tuple(parts)
    assert whole.converged
    assert whole.reason is Reason.CONVERGED


def test_a_stack_fails_with_its_first_failure():
    parts = [solution((1.0, 0.1)), solution((1.0, 2.0), reason=Reason.DIVERGED), solution((1.0, 0.9), reason=Reason.MAXITER)]
    whole = stacked(parts, None)
    assert whole.reason is Reason.DIVERGED
    assert not whole.converged
    assert whole.message.startswith("1 of 3 right-hand sides converged. Number 1: message.")


@pytest.mark.parametrize("nested", [[True, True], [True, False]])
def test_a_stack_starts_nested_where_all_of_it_does(nested):
    assert stacked([solution((1.0, 0.1), one) for one in nested], None).nested_start is all(nested)
