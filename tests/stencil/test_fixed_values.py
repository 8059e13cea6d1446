"""Values of u given at points inside: electrodes, scribbles; alone, with a mask, and with natural sides."""

import pickle

import numpy as np
import pytest
from domains import SHAPES, direct, disc, letters
from tiers import pack

import unigrid


@pack
@pytest.mark.parametrize("outside", ["natural", "array", None])
@pytest.mark.parametrize("side", ["neumann", "periodic", ["dirichlet", ("neumann", "dirichlet")]], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_answer_of_a_direct_solve(shape, side, outside, rng):
    n, centering = int(rng.integers(20, 60)), ["vertex", "cell"][int(rng.integers(2))]
    mask = np.ones((n, n), bool) if outside is None else shape(n)
    where = (rng.random((n, n)) < 0.02) & mask
    where.flat[rng.choice(np.flatnonzero(mask))] = mask.sum() > 1
    f, values, beyond = rng.standard_normal((3, n, n))
    given = where if outside == "natural" else where | ~mask
    options = {"boundary": side, "centering": centering}
    domain = {} if outside is None else {"mask": mask, "outside": "natural" if outside == "natural" else beyond}
    fixed = where, np.where(where, values, np.nan)
    u = unigrid.solve(f, fixed=fixed, compatibility="project", rtol=1e-12, **domain, **options).u
    wanted, _ = direct(unigrid.Poisson((n, n), **options), f, mask & ~where, given, np.where(where, values, beyond))
    assert np.abs(u - wanted).max() <= 1e-8 * np.abs(wanted).max()
    assert np.array_equal(u[where], values[where])


def test_a_number_holds_all_of_the_points():
    where = np.zeros((9, 9), bool)
    where[4, 4] = where[2, 7] = True
    u = unigrid.solve(np.zeros((9, 9)), fixed=(where, 3), boundary="neumann", rtol=1e-12).u
    assert np.abs(u - 3.0).max() <= 1e-9


def test_a_line_of_fixed_values_is_a_dirichlet_side():
    """Vertices: with the nodes of a column given, the columns beside it are those of two boxes."""
    rng = np.random.default_rng(0)
    f, line = rng.standard_normal((20, 31)), rng.standard_normal(20)
    where = np.zeros(f.shape, bool)
    where[:, 15] = True
    values = np.where(where, line[:, None], np.nan)
    u = unigrid.solve(f, fixed=(where, values), spacing=0.1, rtol=1e-12).u
    left = unigrid.solve(f[:, :15], spacing=0.1, boundary=["dirichlet", ("dirichlet", unigrid.Dirichlet(line))], rtol=1e-12).u
    assert np.abs(u[:, :15] - left).max() <= 1e-9 * np.abs(left).max()


def test_in_three_dimensions_with_a_coefficient():
    rng, shape = np.random.default_rng(0), (9, 10, 11)
    mask, a = rng.random(shape) < 0.7, np.exp(rng.standard_normal(shape))
    where = mask & (rng.random(shape) < 0.05)
    f, values = rng.standard_normal((2, *shape))
    options = {"coefficient": a, "reaction": 0.5, "boundary": "neumann"}
    u = unigrid.solve(f, mask=mask, outside="natural", fixed=(where, values), rtol=1e-12, **options).u
    wanted, _ = direct(unigrid.Poisson(shape, **options), f, mask & ~where, where, values)
    assert np.abs(u - wanted).max() <= 1e-8 * np.abs(wanted).max()


def test_a_prepared_cycle_and_a_pickled_problem_keep_the_values():
    mask, where, f = letters(30), np.zeros((30, 30), bool), np.random.default_rng(0).standard_normal((30, 30))
    where[2, 2:5] = True
    problem = unigrid.Poisson((30, 30), mask=mask, outside="natural", fixed=(where, 5.0), boundary="neumann")
    options = {"compatibility": "project", "rtol": 1e-12}
    one, other = (unigrid.GalerkinCycle(each).solve(f, **options).u for each in (problem, pickle.loads(pickle.dumps(problem))))
    assert np.array_equal(one, other)
    assert (one[where] == 5.0).all()


def test_what_was_given_is_copied():
    mask, where, values = disc(20), np.zeros((20, 20), bool), np.full((20, 20), 2.0)
    where[10, 10] = True
    problem = unigrid.Poisson((20, 20), mask=mask, outside=values, fixed=(where, values))
    before = problem.rhs(np.ones((20, 20)))
    mask[:], where[:], values[:] = True, True, 9.0
    assert np.array_equal(problem.rhs(np.ones((20, 20))), before)


WHERE = np.zeros((8, 8), bool)
WHERE[3, 4] = True
BAD = {
    "no pair": (WHERE, TypeError, r"fixed must be a pair \(where, values\).*got ndarray of shape \(8, 8\)"),
    "three": ((WHERE, 1.0, 2.0), TypeError, "fixed must be a pair"),
    "kind": (
        (WHERE.astype(int), 1.0),
        TypeError,
        "first of fixed must be an array of bool, True where u is given; got dtype int",
    ),
    "shape": ((WHERE[1:], 1.0), ValueError, r"first of fixed must have the shape of f, \(8, 8\), got \(7, 8\)"),
    "values": ((WHERE, np.ones(1)), ValueError, r"values of fixed must be a number or an array of f's shape \(8, 8\), got"),
    "text": ((WHERE, "high"), TypeError, "values of fixed must be an array of real numbers"),
    "nan": ((WHERE, np.full((8, 8), np.nan)), ValueError, r"values of fixed must be finite, but at \[3, 4\] u is nan"),
    "number": ((WHERE, np.inf), ValueError, r"values of fixed must be finite, but at \[3, 4\] u is inf"),
    "all": ((np.ones((8, 8), bool), 1.0), ValueError, "fixed gives u wherever mask is True: there is no unknown"),
}


@pytest.mark.parametrize(("fixed", "error", "message"), BAD.values(), ids=BAD)
def test_bad_values_are_refused(fixed, error, message):
    with pytest.raises(error, match=message) as raised:
        unigrid.solve(np.ones((8, 8)), fixed=fixed)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("outside", [0.0, "natural"])
def test_a_value_where_the_mask_has_no_domain_is_a_contradiction(outside):
    mask = np.ones((8, 8), bool)
    mask[3, 4:] = False
    with pytest.raises(ValueError, match=r"fixed gives u at \[3, 4\], where mask is False"):
        unigrid.solve(np.ones((8, 8)), mask=mask, outside=outside, fixed=(WHERE, 1.0))
