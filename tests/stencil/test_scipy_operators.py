"""Operators and cycles in SciPy's solvers: symmetric, definite, and the solution of the problem."""

import numpy as np
import pytest
import scipy.sparse.linalg as linalg
from tiers import pack

import unigrid

SHAPE = (12, 10)
RNG = np.random.default_rng(0)
A = np.exp(RNG.standard_normal(SHAPE))
ODD = 1.0 + np.eye(15, 20)
PROBLEMS = {
    "dirichlet": {},
    "mixed": {"boundary": [("neumann", "dirichlet"), "neumann"]},
    "neumann": {"boundary": "neumann"},
    "periodic cells": {"boundary": "periodic", "centering": "cell"},
    "reaction": {"boundary": "neumann", "reaction": 3.0},
    "coefficient": {"coefficient": A, "boundary": [("neumann", "dirichlet"), "neumann"]},
    "coefficient, singular": {"coefficient": A, "boundary": "neumann", "centering": "cell"},
    "jumps": {"coefficient": np.where(RNG.random(SHAPE) < 0.5, 1e4, 1.0)},
    "stretched": {"spacing": [np.geomspace(0.01, 1.0, 13), 0.1]},
    "mask": {"mask": RNG.random(SHAPE) < 0.8},
    "natural mask": {"mask": RNG.random(SHAPE) < 0.9, "outside": "natural"},
    "order 4": {"order": 4},
    "3-D": {"coefficient": np.exp(RNG.standard_normal((6, 5, 4)))},
}


def cycle_of(options):
    shape = (6, 5, 4) if np.ndim(options.get("coefficient")) == 3 else SHAPE
    problem = unigrid.Poisson(shape, **options)
    if problem.order == 4:
        from unigrid.stencil.preconditioned import FourthOrderCycle, second_order_of

        return FourthOrderCycle(problem, unigrid.StencilCycle(second_order_of(problem)))
    return unigrid.GalerkinCycle(problem) if problem.varies else unigrid.StencilCycle(problem)


@pytest.fixture
def deep(monkeypatch):
    """Several levels on small grids too."""
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 4)
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_STRETCHED", 4)


@pytest.mark.parametrize("name", PROBLEMS)
def test_both_are_symmetric_and_definite(name, deep):
    cycle = cycle_of(PROBLEMS[name])
    problem = cycle.problem
    operator, preconditioner, scale = cycle.as_scipy()
    identity = np.eye(operator.shape[0])
    dense, inverse = operator @ identity, preconditioner @ identity
    wanted = scale[:, None] * problem.matrix().toarray()
    assert np.allclose(dense, wanted, atol=1e-10 * abs(wanted).max())
    for matrix in (dense, inverse):
        assert np.allclose(matrix, matrix.T, atol=1e-10 * abs(matrix).max())
        assert np.linalg.eigvalsh(matrix).min() > -1e-10 * abs(matrix).max()


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", ["cg", "minres", "gmres"])
def test_scipy_finds_the_solution(name, method, deep):
    cycle = cycle_of(PROBLEMS[name])
    problem = cycle.problem
    operator, preconditioner, scale = cycle.as_scipy()
    b = problem.centered(problem.rhs(problem.emptied(np.random.default_rng(1).standard_normal(problem.shape))))
    count = []
    u, info = getattr(linalg, method)(
        operator, scale * b.ravel(), M=preconditioner, rtol=1e-10, callback=count.append,
        **({"callback_type": "pr_norm"} if method == "gmres" else {}),
    )  # fmt: skip
    assert info == 0
    assert len(count) < 40
    residual = problem.emptied(problem.centered(b) - problem.operator(u.reshape(problem.shape)))
    assert np.linalg.norm(problem.centered(residual)) <= 1e-6 * np.linalg.norm(b)


def test_the_smallest_eigenvalues_by_lobpcg():
    problem = unigrid.Poisson((31, 31))
    operator, preconditioner, _ = unigrid.StencilCycle(problem).as_scipy()
    start = np.random.default_rng(0).standard_normal((31 * 31, 3))
    found, _ = linalg.lobpcg(operator, start, M=preconditioner, largest=False, tol=1e-8, maxiter=40)
    one = [(64 * np.sin(np.pi * k / 64)) ** 2 for k in (1, 2)]
    assert np.allclose(np.sort(found), [2 * one[0], one[0] + one[1], one[0] + one[1]], rtol=1e-8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: unigrid.StencilCycle(unigrid.Poisson(SHAPE), cycle="F"), "F-cycle is not symmetric"),
        (lambda: unigrid.GalerkinCycle(unigrid.Poisson((15, 20), boundary="periodic", coefficient=ODD)), "odd length"),
        (lambda: unigrid.FASCycle(unigrid.Poisson(SHAPE, reaction=unigrid.Nonlinear(np.sinh, np.cosh))), "linearize"),
    ],
)  # fmt: skip
def test_what_is_not_symmetric_is_refused(make, words, deep):
    with pytest.raises(ValueError, match=words):
        make().as_scipy()


def test_vectors_of_other_types():
    operator, preconditioner, _ = unigrid.StencilCycle(unigrid.Poisson(SHAPE)).as_scipy()
    vector = np.arange(120)
    for each in (operator, preconditioner):
        assert np.array_equal(each @ vector, each @ vector.astype(float))
        assert np.allclose(each @ vector.astype("f4"), each @ vector.astype(float))


@pack
@pytest.mark.parametrize("smoother", [unigrid.Points(1.1), unigrid.Lines((0, 1)), unigrid.Lines((-1,))], ids=str)
@pytest.mark.parametrize("shape", [(9, 8), (6, 5, 7)])
def test_the_adjoint_of_a_smoother_is_the_adjoint_of_its_error_matrix(smoother, shape):
    """In the inner product of A: <A e, S f> = <A S* e, f>."""
    problem = unigrid.Poisson(shape, coefficient=np.exp(np.random.default_rng(0).standard_normal(shape)))
    operator = problem.coupled_operator.symmetric
    box = (1,) * (3 - len(shape)) + shape
    own = smoother.from_the_last(len(shape)) if isinstance(smoother, unigrid.Lines) else smoother

    def matrix(step):
        columns = np.eye(int(np.prod(shape)))
        zero = np.zeros(box)
        return np.stack([step(operator, zero, column.reshape(box)).ravel() for column in columns], axis=1)

    form = np.stack([operator(column.reshape(box)).ravel() for column in np.eye(int(np.prod(shape)))], axis=1)
    forward, backward = matrix(own), matrix(own.adjoint())
    assert np.allclose(form @ forward, (form @ backward).T, atol=1e-10 * abs(form).max())
    assert own.adjoint().adjoint() == own
