"""What a solve leaves behind: nothing that waits for the collector of reference cycles, which may come many grids later."""

import gc
import weakref

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.kernels.cpu import threads
from unigrid.stencil.learned import LearnedSmoother

CYCLE = unigrid.StencilCycle(unigrid.Poisson((70, 66)))


class External(unigrid.MultigridCycle):
    levels, kind = (None,), "V"

    def __call__(self, b, u=None):
        return CYCLE(b, u)


class Broken(unigrid.Smoother):
    def __call__(self, operator, b, u):
        raise ZeroDivisionError


class Misshapen(unigrid.Smoother):
    def __call__(self, operator, b, u):
        return b[1:]


def stop(solution):
    raise StopIteration


def interrupt(solution):
    raise KeyboardInterrupt


def with_nan(f):
    f[3, 4] = np.nan
    return unigrid.solve(f)


SOLVES = {
    "plain": unigrid.solve,
    "first": lambda f: unigrid.clear_cache() or unigrid.solve(f),
    "own hierarchy": lambda f: unigrid.StencilCycle(unigrid.Poisson(f.shape)).solve(f),
    "CG": lambda f: unigrid.solve(f, accelerate="cg"),
    "mixed": lambda f: unigrid.solve(f, precision="mixed"),
    "single": lambda f: unigrid.solve(f.astype(np.float32)),
    "one pass": lambda f: unigrid.solve(f, rtol="discretization"),
    "W-cycle": lambda f: unigrid.solve(f, cycle="W", smoother="chebyshev"),
    "callback": lambda f: unigrid.solve(f, callback=lambda solution: None),
    "stopped": lambda f: unigrid.solve(f, callback=stop),
    "interrupted": lambda f: unigrid.solve(f, callback=interrupt),
    "stack": lambda f: CYCLE.solve(np.stack([f, f])),
    "profile": CYCLE.profile,
    "nearly singular": lambda f: unigrid.solve(f, boundary="neumann", reaction=1e-9),
    "boundary values": lambda f: unigrid.solve(f, boundary=unigrid.Dirichlet(1.0), u0=f),
    "factors": lambda f: unigrid.StencilCycle(unigrid.Poisson(f.shape), max_levels=1).solve(f),
    "transforms": lambda f: unigrid.StencilCycle(unigrid.Poisson(f.shape), coarsest="fft", max_levels=2).solve(f),
    "learned": lambda f: unigrid.solve(f, smoother=LearnedSmoother(np.eye(3)[None, None] * 0.02), maxiter=2),
    "external": lambda f: unigrid.solve(f, cycle=External()),
    "preconditioner": lambda f: CYCLE.aspreconditioner() @ f.ravel(),
    "replaced": lambda f: CYCLE.replaced(level=0, smoother=unigrid.Jacobi(0.8)).solve(f),
    "failed": lambda f: unigrid.solve(f, maxiter=1),
    "failed, returned": lambda f: unigrid.solve(f, maxiter=1, raise_on_failure=False),
    "diverged": lambda f: unigrid.solve(f, smoother=unigrid.Jacobi(3.0)),
    "NaN": with_nan,
    "wrong option": lambda f: unigrid.solve(f, rtol=-1),
    "wrong name": lambda f: unigrid.solve(f, tol=1),
    "wrong slot": lambda f: unigrid.solve(f, smoother=Misshapen()),
    "broken slot": lambda f: unigrid.solve(f, smoother=Broken()),
}


def quietly(call, argument):
    try:
        return call(argument)
    except (unigrid.ConvergenceError, ValueError, TypeError, ZeroDivisionError, KeyboardInterrupt):
        return None


@pytest.fixture(autouse=True, scope="module")
def without_collector():
    """Nothing is collected unless a test asks for it, and what was there before is not looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pack
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", SOLVES)
def test_a_solve_leaves_no_cycles_of_references(kind, workers, use_threads):
    use_threads(workers)
    for _ in range(2):
        quietly(SOLVES[kind], np.random.default_rng(0).standard_normal((70, 66)))
    gc.collect()
    f = np.random.default_rng(0).standard_normal((70, 66))
    quietly(SOLVES[kind], f)
    assert gc.collect() == 0
    watched = weakref.ref(f)
    del f
    assert watched() is None


@pytest.mark.parametrize("failing", [{1}, {2}, {0, 1}, {1, 2}], ids=str)
def test_errors_in_workers_leave_none_either(failing, use_threads):
    use_threads(3)

    def kernel(first, last):
        if first in failing:
            raise ZeroDivisionError

    for _ in range(2):
        gc.collect()
        quietly(lambda kernel: threads.over_slabs(kernel, 3, 10**9), kernel)
    assert gc.collect() == 0
