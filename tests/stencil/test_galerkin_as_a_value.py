"""Black box multigrid as an object: called, copied, asked for what it lacks; what has no room for it says why."""

import copy
import pickle

import numpy as np
import pytest

import unigrid
from unigrid.analysis import FourierAnalysis

SHAPE = (40, 45)
PROBLEM = unigrid.Poisson(SHAPE, coefficient=lambda x, y: 1 + x)
ONES = np.ones(SHAPE)


@pytest.fixture(scope="module")
def cycle():
    return unigrid.GalerkinCycle(PROBLEM, cycle="W", smoother="lines", steps=3, max_levels=3)


@pytest.mark.parametrize(
    ("b", "u", "error", "message"),
    [
        (np.ones(3), None, ValueError, r"b must have the problem's shape \(40, 45\), got \(3,\)"),
        (np.ones((1, *SHAPE)), None, ValueError, r"got \(1, 40, 45\)"),
        (np.ones((2, 2, 2, 2)), None, ValueError, r"got \(2, 2, 2, 2\)"),
        (ONES, np.ones((45, 40)), ValueError, r"u must have the problem's shape \(40, 45\), got \(45, 40\)"),
        (ONES, ONES.astype(np.float32), TypeError, "both float32 or float64; u is float32"),
        (ONES.astype(int), None, TypeError, "b is int64"),
        (ONES.tolist(), None, TypeError, "b is list"),
        (None, None, TypeError, "b is NoneType"),
    ],
)
def test_it_is_called_with_arrays_of_its_shape(cycle, b, u, error, message):
    for each in (cycle, unigrid.StencilCycle(unigrid.Poisson(SHAPE))):
        with pytest.raises(error, match=message):
            each(b, u)


def test_a_copy_is_the_same_cycle(cycle):
    for other in (pickle.loads(pickle.dumps(cycle)), copy.deepcopy(cycle)):
        assert repr(other) == repr(cycle)
        assert np.array_equal(other(ONES), cycle(ONES))


def test_an_unknown_option_is_named_with_those_there_are(cycle):
    with pytest.raises(TypeError, match=r"GalerkinCycle\.solve has no argument 'rtoll'.*did you mean 'rtol'"):
        cycle.solve(ONES, rtoll=1e-3)


def test_its_attributes_are_fixed_and_the_advice_is_one_that_it_can_follow(cycle):
    with pytest.raises(AttributeError, match="GalerkinCycle is fixed") as raised:
        cycle.steps = 1
    assert "replaced" not in str(raised.value) or hasattr(cycle, "replaced")


def test_what_takes_no_coefficients_that_vary_says_why(cycle):
    with pytest.raises(TypeError, match="Fourier analysis is of constant coefficients"):
        FourierAnalysis.of(cycle)
    with pytest.raises(TypeError, match="GalerkinCycle coarsens the operator"):
        PROBLEM.coarsened()
