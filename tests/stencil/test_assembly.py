"""Matrix, operator and right-hand side of every combination, against an assembly of the equations point by point."""

import numpy as np
import pytest
from assembly import draw_case
from tiers import generator, pack

CLOSE = 1e-13


@pack
@pytest.mark.parametrize("number", range(300))
def test_matrix_operator_and_right_hand_side_are_those_of_the_equations(number):
    rng = generator(f"assembly {number}")
    case = draw_case(lambda options: options[rng.integers(len(options))], rng)
    problem, (A, added), inside = case.problem, case.assembled(), case.unknown.ravel()
    found = problem.matrix().toarray()
    sizes = np.abs(A[inside]).sum(axis=1)
    assert (np.abs(found - A)[np.ix_(inside, inside)].max(axis=1) <= CLOSE * sizes).all()
    assert not found[np.ix_(inside, ~inside)].any()

    u, f = rng.standard_normal((2, *case.shape))
    v = u.ravel()
    terms = np.abs(A) @ np.abs(v)
    for dtype, digits in ((np.float64, CLOSE), (np.float32, 1e-6)):
        Au = problem.operator(u.astype(dtype)).ravel()
        assert Au.dtype == dtype
        assert (np.abs(Au - A @ v)[inside] <= digits * terms[inside]).all()
        r = problem.operator.residual(f.astype(dtype), u.astype(dtype)).ravel()
        assert (np.abs(r - (f.ravel() - A @ v))[inside] <= digits * (terms + np.abs(f.ravel()))[inside]).all()
        b = problem.rhs(f.astype(dtype))
        assert b.dtype == dtype
        assert np.abs(b - f - added).ravel()[inside].max() <= digits * np.abs(np.append(added, f)).max()
        assert not b.ravel()[~inside].any()

    weights = problem.weights.ravel()
    assert np.allclose(weights, case.volumes.ravel(), rtol=CLOSE)
    W = weights[:, None] * found
    assert np.abs(W - W.T).max() <= CLOSE * np.abs(W).max()
