"""SciPy's Krylov methods by name or as functions, preconditioned by a cycle and watched by the driver."""

import threading
import time

import numpy as np
import pytest
import scipy.sparse.linalg as linalg
from scipy.sparse.linalg import spsolve

import unigrid
from unigrid.solution import Reason
from unigrid.stencil.solving import OF_SCIPY

SHAPE = (24, 20)
F = np.random.default_rng(0).standard_normal(SHAPE)
PROBLEMS = {
    "dirichlet": {"boundary": [("dirichlet", unigrid.Dirichlet(2.0)), "dirichlet"]},
    "mixed": {"boundary": [("neumann", "dirichlet"), unigrid.Neumann(0.5)]},
    "singular": {"boundary": "neumann", "compatibility": "project"},
    "coefficient": {"coefficient": np.exp(np.random.default_rng(1).standard_normal(SHAPE))},
    "mask": {"mask": np.random.default_rng(2).random(SHAPE) < 0.9, "outside": 1.0},
    "order 4": {"order": 4},
}


def leftover_threads():
    return [thread for thread in threading.enumerate() if thread.name == "unigrid-krylov"]


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", ["gmres", *OF_SCIPY])
def test_each_method_finds_the_solution(name, method):
    wanted = unigrid.solve(F, rtol=1e-10, **PROBLEMS[name]).u
    solution = unigrid.solve(F, accelerate=method, rtol=1e-9, **PROBLEMS[name])
    assert np.linalg.norm(solution.u - wanted) < 1e-6 * np.linalg.norm(wanted)
    assert solution.iterations <= 20
    assert len(solution.residuals) == solution.iterations + 1


@pytest.mark.parametrize("method", [linalg.cg, linalg.gmres, linalg.minres, linalg.qmr], ids=lambda each: each.__name__)
def test_a_function_of_scipy_is_taken_as_it_is(method):
    problem = unigrid.Poisson(SHAPE, boundary=["neumann", "dirichlet"])
    solution = unigrid.StencilCycle(problem).solve(F, accelerate=method, rtol=1e-10)
    wanted = spsolve(problem.matrix().tocsc(), F.ravel())
    assert np.linalg.norm(solution.u.ravel() - wanted) < 1e-7 * np.linalg.norm(wanted)


def test_residuals_are_the_true_ones_and_an_iteration_is_one_of_the_method():
    problem, seen = unigrid.Poisson(SHAPE), []
    cycle = unigrid.StencilCycle(problem)
    solution = cycle.solve(F, accelerate="minres", start="zero", callback=lambda solution: seen.append(solution.u.copy()))
    norms = [np.linalg.norm(F.ravel() - problem.matrix() @ u.ravel()) for u in seen]
    assert np.allclose(norms, solution.residuals[1:], rtol=1e-8)
    A, M, scale = cycle.as_scipy()
    own = []
    linalg.minres(A, scale * F.ravel(), M=M, maxiter=solution.iterations, rtol=1e-30, callback=lambda x: own.append(x.copy()))
    for mine, others in zip(seen, own, strict=True):
        assert np.allclose(mine.ravel(), others, rtol=1e-10, atol=1e-14)


def test_beginning_stopping_and_failing():
    u = unigrid.solve(F, rtol=1e-10).u
    assert unigrid.solve(F, accelerate="minres", u0=u).iterations == 0
    nested, plain = (unigrid.solve(F, accelerate="bicgstab", start=start) for start in ("fmg", "zero"))
    assert nested.nested_start
    assert not plain.nested_start
    assert nested.residuals[1] < 0.2 * nested.residuals[0]

    def stop(solution):
        if solution.iterations == 2:
            raise StopIteration

    stopped = unigrid.solve(F, accelerate="minres", start="zero", callback=stop)
    assert (stopped.reason, stopped.iterations) == (Reason.STOPPED, 2)
    with pytest.raises(unigrid.ConvergenceError) as error:
        unigrid.solve(F, accelerate="minres", start="zero", maxiter=2)
    assert error.value.solution.reason is Reason.MAXITER
    time.sleep(0.2)
    assert leftover_threads() == []


def test_float32_and_a_stack():
    single = unigrid.solve(F.astype("f4"), accelerate="minres")
    assert single.u.dtype == np.float32
    stack = unigrid.solve(np.stack([F, 2 * F]), batch_dims=1, accelerate="bicgstab", rtol=1e-9)
    assert np.allclose(stack.u[1], 2 * stack.u[0], rtol=1e-5, atol=1e-9)


def failing(A, b, x0=None, *, rtol=0, atol=0, maxiter=None, M=None, callback=None):
    raise ZeroDivisionError("broken down")


def ending(A, b, x0=None, *, rtol=0, atol=0, maxiter=None, M=None, callback=None):
    callback(M @ b)
    return M @ b, 0


def without_m(A, b, x0=None, maxiter=None, callback=None):
    return b, 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"accelerate": failing}, ValueError, "accelerate failed with ZeroDivisionError: broken down"),
        ({"accelerate": without_m}, TypeError, "without_m, has no argument M; it must be one of SciPy's"),
        ({"accelerate": linalg.lsqr}, TypeError, "has no argument maxiter, M, callback"),
        ({"accelerate": "minress"}, ValueError, "minres"),
        ({"accelerate": 3}, ValueError, "accelerate"),
        ({"accelerate": "minres", "precision": "mixed"}, ValueError, "leave out accelerate"),
        ({"accelerate": "minres", "rtol": "discretization"}, ValueError, "accelerate is 'minres'"),
        ({"accelerate": "minres", "cycle": "F"}, ValueError, "F-cycle is not symmetric"),
        ({"accelerate": "minres", "reaction": unigrid.Nonlinear(np.sinh, np.cosh)}, ValueError, "Nonlinear"),
    ],
    ids=range(9),
)
def test_what_is_refused_or_fails_says_why(options, error, words):
    with pytest.raises(error, match=words) as caught:
        unigrid.solve(F, **options)
    assert "\n" not in str(caught.value)
    assert leftover_threads() == []


def test_a_method_that_ends_by_itself_is_no_success():
    solution = unigrid.solve(F, accelerate=ending, start="zero", raise_on_failure=False)
    assert solution.reason is Reason.STAGNATED
