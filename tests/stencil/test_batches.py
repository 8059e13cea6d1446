"""Several right-hand sides through one hierarchy: each as a call of its own, and what happens where some fail."""

import threading

import numpy as np
import pytest

import unigrid
from unigrid.solution import Reason
from unigrid.stencil import batches

SHAPE = (23, 17)


@pytest.fixture
def cores(monkeypatch):
    """Three cores, also for small grids."""
    monkeypatch.setattr(batches, "SEVERAL_FROM", 1)
    before = unigrid.get_num_threads()
    unigrid.set_num_threads(3)
    yield 3
    unigrid.set_num_threads(before)


PROBLEMS = [
    {},
    {"boundary": "neumann", "compatibility": "project"},
    {"boundary": [("dirichlet", unigrid.Neumann(1.0)), "periodic"], "centering": "cell"},
    {"coefficient": 1.0 + np.random.default_rng(0).random(SHAPE)},
    {"mask": np.random.default_rng(1).random(SHAPE) < 0.9, "outside": 2.0},
    {"order": 4},
    {"reaction": unigrid.Nonlinear(lambda u: u**3, lambda u: 3 * u**2)},
    {"reaction": unigrid.Nonlinear(lambda u: u**3, lambda u: 3 * u**2), "cycle": "newton"},
    {"reaction": -30.0},
]


@pytest.mark.parametrize("options", PROBLEMS, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_entry_has_the_bits_of_its_own_call(options, dtype, cores):
    f = np.random.default_rng(2).standard_normal((2, 4, *SHAPE)).astype(dtype)
    together = unigrid.solve(f, batch_dims=2, **options)
    assert together.u.shape == f.shape
    assert together.converged
    assert len(together.parts) == 8
    for own, part, u in zip(f.reshape(-1, *SHAPE), together.parts, together.u.reshape(-1, *SHAPE), strict=True):
        alone = unigrid.solve(own, **options)
        assert np.array_equal(u, alone.u)
        assert np.array_equal(part.u, alone.u)
        assert part.residuals == alone.residuals
    assert np.allclose(together.residuals[0], np.sqrt(sum(part.residuals[0] ** 2 for part in together.parts)))


@pytest.mark.parametrize("precision", ["mixed", "full"])
@pytest.mark.parametrize("coefficient", [None, 1.0 + np.random.default_rng(0).random(SHAPE)], ids=["constant", "varies"])
def test_every_precision(precision, coefficient, cores):
    """A batch has the bits and the words of its own calls, and solves the system of equations to the tolerance."""
    f, options = np.random.default_rng(2).standard_normal((5, *SHAPE)), {"coefficient": coefficient, "precision": precision}
    together = unigrid.solve(f, batch_dims=1, rtol=1e-10, **options)
    matrix = unigrid.Poisson(SHAPE, coefficient=coefficient).matrix()
    for own, part in zip(f, together.parts, strict=True):
        alone = unigrid.solve(own, rtol=1e-10, **options)
        assert np.array_equal(part.u, alone.u)
        assert (part.message, part.residuals) == (alone.message, alone.residuals)
        assert part.message.endswith("Precision: mixed.") == (precision == "mixed")
        assert np.linalg.norm(matrix @ part.u.ravel() - own.ravel()) <= 1e-10 * np.linalg.norm(own)


def test_several_cores_are_used(cores):
    seen = set()

    class Watching(unigrid.Smoother):
        def __call__(self, operator, b, u):
            seen.add(threading.get_ident())
            return unigrid.Jacobi(0.8)(operator, b, u)

    f = np.random.default_rng(0).standard_normal((12, *SHAPE))
    unigrid.StencilCycle(unigrid.Poisson(SHAPE), smoother=Watching()).solve(f, maxiter=40)
    assert len(seen) > 1


def test_each_begins_with_its_own_u0_and_stops_by_itself(cores):
    f = np.random.default_rng(0).standard_normal((5, *SHAPE))
    u0 = unigrid.solve(f, batch_dims=1).u
    u0[2] = 0.0
    assert [part.iterations for part in unigrid.solve(f, batch_dims=1, u0=u0).parts].count(0) == 4


@pytest.mark.parametrize("threads", [1, None])
def test_entries_that_fail_leave_the_others_solved(threads, cores):
    f = np.random.default_rng(0).standard_normal((5, *SHAPE))
    u0 = unigrid.solve(f, batch_dims=1).u
    u0[1] = u0[3] = 0.0
    options = {"batch_dims": 1, "u0": u0, "maxiter": 1, "threads": threads}
    with pytest.raises(unigrid.ConvergenceError, match=r"3 of 5 right-hand sides converged\. Number 1: ") as error:
        unigrid.solve(f, **options)
    solution = error.value.solution
    assert [part.converged for part in solution.parts] == [True, False, True, False, True]
    assert solution.reason is Reason.MAXITER
    assert np.array_equal(unigrid.solve(f, raise_on_failure=False, **options).u, solution.u)


def test_a_callback_sees_one_after_the_other_and_may_end_one(cores):
    f, seen = np.random.default_rng(0).standard_normal((4, *SHAPE)), []

    def watch(solution):
        seen.append(solution.iterations)
        if len(seen) == 2:
            raise StopIteration

    parts = unigrid.solve(f, batch_dims=1, callback=watch, raise_on_failure=False).parts
    assert [part.reason for part in parts].count(Reason.STOPPED) == 1
    assert parts[0].reason is Reason.STOPPED
    assert seen == [number for part in parts for number in range(1, part.iterations + 1)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_all_and_the_first_one_is_raised(error, cores):
    done = []

    class Failing(unigrid.Smoother):
        def __call__(self, operator, b, u):
            done.append(float(b.flat[0]))
            if b.shape == SHAPE and b.flat[0] >= 2.0:
                raise error(f"entry {b.flat[0]:.0f}")
            return unigrid.Jacobi(0.8)(operator, b, u)

    f = np.ones((40, *SHAPE)) * np.arange(40.0)[:, None, None]
    cycle = unigrid.StencilCycle(unigrid.Poisson(SHAPE), smoother=Failing())
    with pytest.raises(error, match="entry 2"):
        cycle.solve(f, maxiter=100, start="zero")
    assert max(done) < 10.0
    assert unigrid.solve(f[:3], batch_dims=1).converged  # the workers are free again


def test_an_empty_batch_has_nothing_to_solve():
    solution = unigrid.solve(np.ones((0, 3, *SHAPE)), batch_dims=2)
    assert solution.u.shape == (0, 3, *SHAPE)
    assert solution.converged
    assert solution.parts == ()


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, 9, 9), {"batch_dims": -1}, "batch_dims must be an integer >= 0, got -1"),
        ((3, 9, 9), {"batch_dims": 1.5}, "batch_dims must be an integer >= 0, got 1.5"),
        ((3, 9, 9), {"batch_dims": True}, "batch_dims must be an integer >= 0, got True"),
        ((3, 9, 9), {"batch_dims": 3}, "batch_dims must be an integer from 0 to 2, got 3"),
        ((3, 9, 9, 9, 9), {}, "batch_dims is how many leading axes"),
        ((3, 0, 9), {"batch_dims": 1}, "at least one unknown"),
        ((3, 9, 9), {"batch_dims": 1, "channels": "last"}, "give one of them"),
        ((3, 9, 9), {"batch_dims": 1, "u0": np.zeros((9, 9))}, "u0 must have the shape of f"),
        ((3, 9, 9), {"batch_dims": 1, "boundary": [unigrid.Dirichlet(np.ones((3, 9))), "neumann"]}, r"of shape \(9,\)"),
        ((3, 9, 9), {"batch_dims": 2, "cycle": unigrid.StencilCycle(unigrid.Poisson((9, 9)))}, "f has 1 axes before"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(shape, options, words):
    with pytest.raises(ValueError, match=words):
        unigrid.solve(np.ones(shape), **options)


def test_a_value_that_is_not_finite_is_named_before_anything_is_solved():
    f = np.ones((3, 9, 9))
    f[2, 4, 5] = np.nan
    with pytest.raises(ValueError, match=r"f\[2, 4, 5\] is nan"):
        unigrid.solve(f, batch_dims=1)
