"""Boundary conditions: how they are written, what each makes of the missing neighbor, what is refused."""

import numpy as np
import pytest

import unigrid
from unigrid.stencil.grid import parse_boundary, side_values

D, N, P = unigrid.Dirichlet, unigrid.Neumann, unigrid.Periodic


def kinds(boundary, ndim):
    return [(type(low), type(high)) for low, high in parse_boundary(boundary, ndim)]


@pytest.mark.parametrize(
    ("boundary", "ndim", "expected"),
    [
        ("dirichlet", 1, [(D, D)]),
        ("Neumann", 2, [(N, N)] * 2),
        (P(), 3, [(P, P)] * 3),
        (D(2.0), 2, [(D, D)] * 2),
        (["dirichlet", "periodic"], 2, [(D, D), (P, P)]),
        ([("dirichlet", "neumann")], 1, [(D, N)]),
        ([(N(1.0), "dirichlet"), P(), "neumann"], 3, [(N, D), (P, P), (N, N)]),
        ((("dirichlet", "neumann"), ("neumann", "dirichlet")), 2, [(D, N), (N, D)]),
        (("dirichlet", "neumann"), 2, [(D, D), (N, N)]),
        ([["neumann", "dirichlet"], ["periodic", "periodic"]], 2, [(N, D), (P, P)]),
    ],
)
def test_boundaries_may_be_written_for_all_sides_by_axis_or_by_side(boundary, ndim, expected):
    assert kinds(boundary, ndim) == expected


@pytest.mark.parametrize(
    ("boundary", "ndim", "error", "words"),
    [
        ("dirichlt", 2, ValueError, "did you mean 'dirichlet'"),
        (["dirichlet", "periodc"], 2, ValueError, "boundary of axis 1 'periodc'.*did you mean 'periodic'"),
        (["dirichlet"] * 3, 2, ValueError, "boundary has 3 entries for 2 axes"),
        (("dirichlet", "neumann"), 1, ValueError, r"a \(low, high\) pair for the only axis is written \[\(low, high\)\]"),
        ([("dirichlet",), "neumann"], 2, ValueError, "axis 0 must be one entry or a .low, high. pair, got 1"),
        ([("periodic", "dirichlet"), "neumann"], 2, ValueError, "axis 0 is periodic on one side alone"),
        (None, 2, TypeError, "boundary must be 'dirichlet'"),
        (0.0, 2, TypeError, "boundary must be"),
        ({"x": "dirichlet"}, 2, TypeError, "boundary must be"),
        ([0.0, "dirichlet"], 2, TypeError, "boundary of axis 0 must be"),
        ([D, "dirichlet"], 2, TypeError, "boundary of axis 0 must be"),
        (D, 2, TypeError, "boundary must be"),
    ],
    ids=str,
)
def test_what_is_no_boundary_is_refused_in_one_line(boundary, ndim, error, words):
    with pytest.raises(error, match=words) as raised:
        parse_boundary(boundary, ndim)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "value", [2, 2.5, np.float32(1.5), np.array(3.0), [1.0, 2.0, 3.0], np.arange(3), range(3), np.ones(3, bool)]
)
def test_values_are_numbers_or_arrays_of_the_shape_of_a_side(value):
    made = side_values(value, (3,), "the value")
    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, np.asarray(value, float))


@pytest.mark.parametrize(
    "value", ["warm", None, 1j, object(), [[1.0], [2.0, 3.0]], np.ones(4), np.ones((3, 1)), np.full(3, 1j), np.nan]
)
def test_other_values_are_refused_in_one_line(value):
    with pytest.raises((TypeError, ValueError), match="the value") as error:
        side_values(value, (3,), "the value")
    assert "\n" not in str(error.value)


def test_values_are_copied_once_and_for_all(rng):
    values = rng.standard_normal(6)
    problem = unigrid.Poisson((5, 6), boundary=[(D(values), "neumann"), "periodic"])
    before = problem.rhs(0.0)
    values[:] = 0.0
    np.testing.assert_array_equal(problem.rhs(0.0), before)
    assert before.any()


def test_conditions_are_frozen():
    with pytest.raises(AttributeError):
        D(1.0).value = 2.0


@pytest.mark.parametrize(
    ("condition", "centering", "inward", "weight", "gain"),
    [
        (D(), "vertex", 0, 0.0, 1.0),  # the boundary node itself
        (D(), "cell", 0, -1.0, 2.0),  # 2 value - u
        (N(), "vertex", 1, 1.0, 0.5),  # the mirrored node + 2 h flux
        (N(), "cell", 0, 1.0, 0.25),  # u + h flux
        (P(), "vertex", -1, 1.0, 0.0),
        (P(), "cell", -1, 1.0, 0.0),
    ],
)
def test_what_stands_for_the_missing_neighbor(condition, centering, inward, weight, gain):
    ghost = condition.ghost(centering, 0.25)
    assert ghost.weight == weight
    assert ghost.gain == gain
    assert ghost.inward == inward or weight == 0.0


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_values_on_a_side_need_the_shape_of_f_less_that_axis(centering):
    unigrid.Poisson((4, 5, 6), boundary=[D(np.ones((5, 6))), N(np.ones((4, 6))), D(np.ones((4, 5)))], centering=centering)
    with pytest.raises(ValueError, match=r"the low boundary value of axis 1 must be .*\(4, 6\).*\(6, 4\)"):
        unigrid.Poisson((4, 5, 6), boundary=["dirichlet", N(np.ones((6, 4))), "dirichlet"], centering=centering)
