"""Spacings and reactions at the ends of the range of float32: solved rightly, or refused before the first cycle."""

import re
import warnings

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.iterations import holds_in_single

SINGLE = np.dtype(np.float32)


def rough(shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def right_or_refused(f, **problem):
    """Whether the problem is solved in float32; it must be refused by its spacing, or solved as in float64."""
    expected = unigrid.solve(f.astype(np.float64), **problem).u
    size = np.abs(expected).max()
    try:
        u = unigrid.solve(f, **problem).u
    except ValueError as error:
        if not re.fullmatch("1/h\\^2 leaves the range of float32 .* give f in float64, or lengths in other units", str(error)):
            raise
        return False
    np.testing.assert_allclose(u / size, expected / size, rtol=0, atol=3e-3)
    return True


@pack
@pytest.mark.parametrize("shape", [(63,), (63, 63), (120, 40), (14, 15, 16)], ids=str)
@pytest.mark.parametrize("spacing", [1e-30, 1e-19, 1e-17, 1e10, 1e15, 1e17, 1e18, 1e19, 1e20, 1e60])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_any_spacing_is_solved_rightly_or_refused(shape, spacing, centering):
    f = np.float32(1e-3 if spacing > 1 else 1e3) * rough(shape)  # u grows as the square of the length
    solved = right_or_refused(f, spacing=spacing, centering=centering)
    assert solved == (1e-19 < spacing < 1e15) or spacing in (1e-19, 1e15, 1e17, 1e18)


@pytest.mark.parametrize(
    ("problem", "solved"),
    [
        ({"lengths": (1.0, 1e25)}, True),  # what couples weakly vanishes beside what couples strongly
        ({"lengths": (1e25, 1e24)}, False),
        ({"spacing": 1e20, "reaction": 1.0}, True),  # u = f / c but for rounding
        ({"spacing": 1e20, "reaction": 1e-40}, False),
        ({"spacing": 1e25, "reaction": 1.0}, False),
        ({"spacing": 1.0, "reaction": 1e39}, False),
        ({"spacing": 1e20, "boundary": "neumann", "reaction": 1e-3, "centering": "cell"}, True),
    ],
    ids=str,
)
def test_the_strongest_coupling_counts(problem, solved):
    assert right_or_refused(rough((40, 40)), **problem) == solved


def test_float64_takes_what_float32_does_not():
    f = rough((63, 63), np.float64)
    u = unigrid.solve(f, spacing=1e30).u
    np.testing.assert_allclose(u / 1e60, unigrid.solve(f, spacing=1.0).u, rtol=1e-6)


@pytest.mark.parametrize("spacing", [1e20, 1e25, 1e-21])
def test_mixed_precision_stays_away_from_them(spacing):
    problem = unigrid.Poisson((310, 310), spacing=spacing)
    assert not holds_in_single(problem, 1.0)
    f = rough(problem.shape, np.float64)
    assert "mixed" not in unigrid.solve(f, spacing=spacing).message
    with pytest.raises(ValueError, match="numbers that float32 holds"):
        unigrid.solve(f, spacing=spacing, precision="mixed")
    assert holds_in_single(unigrid.Poisson((310, 310)), 1.0)


@pytest.mark.parametrize("value", [1e38, 1e50, 1e300])
@pytest.mark.parametrize("coefficient", [None, 2.0, "varying"])
def test_a_value_on_a_side_beyond_the_range_is_refused_without_a_warning(value, coefficient):
    a = np.exp(np.random.default_rng(0).standard_normal((20, 20))) if coefficient == "varying" else coefficient
    f = np.ones((20, 20), np.float32 if value < 1e60 else np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="leave the range of numbers; scale f"):
            unigrid.solve(f, coefficient=a, boundary=unigrid.Dirichlet(value))


def test_coefficients_beyond_the_range_of_float32_are_named():
    f = np.ones((20, 20), np.float32)
    for scale in (1e40, 1e-45):
        with pytest.raises(
            ValueError, match=r"1/h\^2 leaves the range of float32 for coefficients from 1e.* and spacings of 0.04"
        ):
            unigrid.solve(f, coefficient=scale * np.ones((20, 20)))
