"""Domains of any shape: unknowns where a mask is True, given values elsewhere; against matrices assembled point by point."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from domains import annulus, disc, everywhere, half, noise, one, slits
from tiers import pack

import unigrid

SHAPES = [disc, annulus, slits, noise, half, one, everywhere]


def direct(f, mask, outside, spacing, side):
    """Solve point by point: a neighbor outside of the mask is a value, one beyond the box is 0 or, Neumann cells, missing."""
    number = -np.ones(mask.shape, int)
    number[mask] = np.arange(mask.sum())
    rows, columns, values, b = [], [], [], f[mask].copy()
    for place in zip(*np.nonzero(mask), strict=True):
        own, diagonal = number[place], 0.0
        for axis, h in enumerate(spacing):
            for step in (-1, 1):
                there = (*place[:axis], place[axis] + step, *place[axis + 1 :])
                if not 0 <= there[axis] < mask.shape[axis]:
                    diagonal += 1 / h**2 if side == "dirichlet" else 0.0
                    continue
                diagonal += 1 / h**2
                if mask[there]:
                    rows.append(own), columns.append(number[there]), values.append(-1 / h**2)
                else:
                    b[own] += outside[there] / h**2
        rows.append(own), columns.append(own), values.append(diagonal)
    A = scipy.sparse.csc_array((values, (rows, columns)), shape=(b.size, b.size))
    u = outside.copy()
    u[mask] = scipy.sparse.linalg.spsolve(A, b)
    return u


@pack
@pytest.mark.parametrize(("side", "centering"), [("dirichlet", "vertex"), ("neumann", "cell")])
@pytest.mark.parametrize("n", [17, 40, 63])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_answer_of_a_direct_solve(shape, n, side, centering):
    mask, rng = shape(n), np.random.default_rng(1)
    if mask.all() and side == "neumann":
        pytest.skip("singular: there is no given value")
    f, outside = rng.standard_normal((2, n, n))
    options = {"mask": mask, "outside": outside, "boundary": side, "centering": centering}
    problem = unigrid.Poisson((n, n), **options)
    solution = unigrid.solve(f, rtol=1e-11, **options)
    wanted = direct(f, mask, outside, problem.spacing, side)
    assert np.abs(solution.u - wanted).max() <= 1e-8 * np.abs(wanted).max()
    assert (solution.u[~mask] == outside[~mask]).all()


@pytest.mark.parametrize("shape", [disc, annulus, slits, noise])
@pytest.mark.parametrize("n", [127, 250])
def test_iterations_do_not_depend_on_the_shape(shape, n):
    f = np.random.default_rng(1).standard_normal((n, n))
    for boundary in ("dirichlet", "periodic"):
        assert unigrid.solve(f, mask=shape(n), boundary=boundary, rtol=1e-8).iterations <= 9


def test_with_a_coefficient_and_in_three_dimensions():
    rng = np.random.default_rng(0)
    shape = (9, 10, 11)
    mask, a, f, outside = rng.random(shape) < 0.7, np.exp(rng.standard_normal(shape)), *rng.standard_normal((2, *shape))
    solution = unigrid.solve(f, mask=mask, outside=outside, coefficient=a, rtol=1e-11)
    whole = unigrid.Poisson(shape, coefficient=a).matrix().toarray()  # rows of unknowns, columns of given values moved to b
    inside = mask.ravel()
    b = f.ravel()[inside] - whole[np.ix_(inside, ~inside)] @ outside.ravel()[~inside]
    wanted = np.linalg.solve(whole[np.ix_(inside, inside)], b)
    assert np.abs(solution.u[mask] - wanted).max() <= 1e-8 * np.abs(wanted).max()


def test_a_callback_and_u0_have_the_values_outside():
    mask, f = disc(40), np.ones((40, 40))
    seen = []
    exact = unigrid.solve(f, mask=mask, outside=3.0, rtol=1e-10, callback=lambda s: seen.append(s.u[0, 0])).u
    assert set(seen) == {3.0}
    again = unigrid.solve(f, mask=mask, outside=3.0, rtol=1e-9, u0=exact)
    assert again.iterations == 0
    assert np.array_equal(again.u, exact)


def test_a_mask_that_is_true_everywhere_changes_nothing():
    f = np.random.default_rng(0).standard_normal((30, 30))
    f -= f.mean()
    for boundary in ("dirichlet", "periodic"):
        one = unigrid.solve(f, boundary=boundary, mask=everywhere(30), rtol=1e-11).u
        other = unigrid.solve(f, boundary=boundary, rtol=1e-11).u
        assert np.abs(one - other).max() <= 1e-9 * np.abs(other).max()
    with pytest.raises(ValueError, match="has mean zero"):
        unigrid.solve(f + 1, boundary="periodic", mask=everywhere(30))


BAD = {
    "kind": ({"mask": np.ones((8, 8))}, TypeError, "mask must be an array of bool.*got dtype float64; give array > 0"),
    "masked": ({"mask": np.ma.masked_equal(np.ones((8, 8), bool), True)}, TypeError, "masked values.*fill them first"),
    "ragged": ({"mask": [[True], [True, False]]}, ValueError, "mask must be an array of bool.*rows of one length"),
    "shape": ({"mask": np.ones((8, 7), bool)}, ValueError, r"mask must have the shape of f, \(8, 8\), got \(8, 7\)"),
    "empty": ({"mask": np.zeros((8, 8), bool)}, ValueError, "there is no unknown"),
    "alone": ({"outside": 2.0}, ValueError, "give mask too"),
    "outside": ({"mask": disc(8), "outside": np.ones(8)}, ValueError, r"outside must be a number or an array of f's shape"),
    "infinite": ({"mask": disc(8), "outside": np.full((8, 8), np.inf)}, ValueError, r"finite, but outside\[0, 0\] is inf"),
    "missing": ({"mask": disc(8), "outside": np.full((8, 8), np.nan)}, ValueError, r"data missing: outside\[0, 2\] is NaN"),
    "number": ({"mask": disc(8), "outside": np.nan}, ValueError, r"Dirichlet data missing: outside\[0, 2\] is NaN"),
}


@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_masks_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        unigrid.solve(np.ones((8, 8)), **options)


def test_values_inside_of_the_mask_do_not_matter():
    outside = np.where(disc(20), np.nan, 1.0)
    assert np.isfinite(unigrid.solve(np.ones((20, 20)), mask=disc(20), outside=outside).u).all()
