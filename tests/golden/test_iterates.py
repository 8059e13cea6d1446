"""The iterates of about 120 configurations equal those recorded, to round-off.

Where a change of the iterates is meant, `python tests/golden/record.py iterates` records them anew.
"""

import itertools

import numpy as np
import pytest
from golden.cases import CASES, Outcome, run
from golden.record import ITERATES

import unigrid

RECORDED = np.load(ITERATES)
RUNS = [pytest.param(case, threads, id=f"{case.name}-{threads}") for case in CASES for threads in case.threads]


def recorded(case):
    vector = RECORDED[case.name]
    ends = np.cumsum([0, *vector[:3].astype(int)]) + 3
    return Outcome(*(vector[first:last] for first, last in itertools.pairwise(ends)))


def tolerances(case):
    """Return what rounding may change: of u, relative to its largest value; of a residual, relative to it; and the unit of
    rounding that bounds what is left of it where it is small."""
    if case.single:
        return 2e-5, 1e-2, np.finfo(np.float32).eps
    if case.mixed:  # the float32 corrections round differently; what they leave is taken out by the next
        return (2e-5 if "maxiter" in case.solve or case.solve["rtol"] == "discretization" else 1e-8), 0.25, 1e-12
    return 1e-11, 1e-6, np.finfo(np.float64).eps


def round_off(case, outcome, eps):
    """Return the residual that rounding alone leaves."""
    problem = unigrid.Poisson(case.shape, **case.problem())
    return eps * (problem.operator.norm_bound * outcome.sums[0] + outcome.residuals[0])


@pytest.mark.parametrize(("case", "threads"), RUNS)
def test_iterates_are_those_recorded(case, threads):
    wanted, found = recorded(case), run(case, threads)
    of_u, of_residual, eps = tolerances(case)
    assert len(found.residuals) == len(wanted.residuals), f"iterations: {found.residuals} and, recorded, {wanted.residuals}"
    np.testing.assert_allclose(
        found.residuals, wanted.residuals, rtol=of_residual, atol=10 * round_off(case, wanted, eps), err_msg="residuals"
    )
    largest = np.abs(wanted.samples).max()
    np.testing.assert_allclose(found.samples, wanted.samples, rtol=0, atol=of_u * largest, err_msg="u at sample points")
    norm = wanted.sums[0]
    np.testing.assert_allclose(found.sums, wanted.sums, rtol=0, atol=4 * of_u * norm, err_msg="norm of u, weighted sum")


def test_the_record_holds_the_cases_and_is_small():
    assert sorted(RECORDED) == sorted(case.name for case in CASES)
    assert ITERATES.stat().st_size <= 250_000


def test_the_cases_leave_precision_and_smoothing_to_no_default_that_may_change():
    for case in CASES:
        assert case.via == "calls" or "precision" in case.solve, case.name
        assert case.slots.get("smoother") != "red-black", case.name
        given = {"pre", "post"} & set(case.slots)
        assert "smoother" not in case.slots or given == {"pre", "post"}, case.name
