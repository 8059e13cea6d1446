"""Random problems of all kinds, coefficients that vary and masks among them, each against a dense solve of its own equations.

A solve may refuse or fail, in one line; what it returns as converged must be right. UNIGRID_TEST_PROBLEMS is their number.
"""

import os
import warnings

import numpy as np
import pytest
import scipy.sparse.csgraph
from assembly import draw_case
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import generator

import unigrid

COUNT = int(os.environ.get("UNIGRID_TEST_PROBLEMS", "500")) // 2
LARGEST = {1: 400, 2: 20, 3: 8}


def tried(pick, rng):
    """Solve a problem; return what came of it, and hold it against the dense solution."""
    case = draw_case(pick, rng, LARGEST)
    dtype = pick([np.float64, np.float64, np.float32])
    rtol = pick([None, None, 1e-3, 1e-10 if dtype == np.float64 else 1e-5])
    options = {"rtol": rtol, "compatibility": "project", "accelerate": pick(["auto", "auto", "auto", None, "cg"])}
    options |= {"u0": pick([None, None, rng.standard_normal(case.shape)]), "cycle": pick(["V", "V", "W", "F"])}
    f = pick([rng.standard_normal(case.shape), np.ones(case.shape), np.zeros(case.shape)]).astype(dtype)
    what = f"{case}, {dtype}, {options}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solution = unigrid.solve(f, **case.options, **options, raise_on_failure=False)
    except (ValueError, TypeError) as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError(f"not one line: {error!r}; {what}") from error
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        raise AssertionError(f"{error!r}; {what}") from error
    if solution.converged:
        check(case, f, rtol, solution.u, what)
    return "converged" if solution.converged else solution.message


def check(case, f, rtol, u, what):
    """Hold u against the tolerance and, by the inverse of A, against the exact solution; both to rounding.

    On components where constants solve the homogeneous equations, the mean of b that no u gives is taken off, and u has mean 0.
    """
    (A, added), inside = case.assembled(), case.unknown.ravel()
    assert u.dtype == f.dtype
    elsewhere = np.nan_to_num(case.given).astype(f.dtype).ravel()[~inside]
    assert (u.ravel()[~inside] == elsewhere).all(), what
    A, u, b = A[np.ix_(inside, inside)], u.astype(float).ravel()[inside], (f + added).ravel()[inside]
    weights, size = case.volumes.ravel()[inside], np.linalg.norm(b)
    inverse, project = regular(A, weights)
    b = project(b)
    eps = float(np.finfo(f.dtype).eps)
    target = {None: 1e-8 if f.dtype == np.float64 else 1e-4}.get(rtol, rtol)
    rounding = 8 * eps * (np.abs(A).sum(axis=1).max() * np.linalg.norm(u) + size)
    allowed = 1.01 * target * np.linalg.norm(b) + rounding
    assert np.linalg.norm(b - A @ u) <= allowed, ("residual", np.linalg.norm(b - A @ u), allowed, what)
    wanted = project(inverse @ b)
    error = np.linalg.norm(u - wanted)
    assert error <= 3 * np.linalg.norm(inverse, 2) * allowed + 10 * eps * np.linalg.norm(wanted), ("error", error, what)


def regular(A, weights):
    """Return the inverse of A, or that of the rest where it is singular; and the projection on that rest."""
    count, labels = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(A))
    loose = [labels == part for part in range(count) if np.abs(A.sum(axis=1))[labels == part].max() <= 1e-12 * np.abs(A).max()]

    def project(b):
        for part in loose:
            b = b - part * (weights @ (b * part)) / weights[part].sum()
        return b

    for part in loose:  # a constant on the component becomes an eigenvector of its own
        A = A + np.abs(A).max() * np.outer(part, part * weights) / weights[part].sum()
    return np.linalg.inv(A + np.diag((np.abs(A).sum(axis=1) == 0.0).astype(float))), project


@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_what_converged_is_right(data, seed):
    tried(
        lambda options: data.draw(st.sampled_from(range(len(options))).map(lambda at: options[at])), np.random.default_rng(seed)
    )


@pytest.mark.slow
def test_most_converge_and_are_right():
    outcomes = []
    for number in range(COUNT):
        rng = generator(f"random coefficients {number}")
        outcomes.append(tried(lambda options, rng=rng: options[rng.integers(len(options))], rng))
    assert outcomes.count("converged") > 0.9 * len(outcomes), {each for each in outcomes if each != "converged"}
