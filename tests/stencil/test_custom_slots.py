"""Slots of the user's own, written carelessly: the cycle holds them to shape, precision and new arrays."""

import numpy as np
import pytest

import unigrid

pytestmark = pytest.mark.usefixtures("deep")


class Richardson(unigrid.Smoother):
    """Ten lines in plain NumPy; the diagonal is float64, so float32 input comes back as float64."""

    cost = 2

    def __call__(self, operator, f, u):
        for weight in (0.5, 0.9):
            u = weight * f / operator.diagonal() if u is None else u + weight * (f - operator(u)) / operator.diagonal()
        return u

    def overwrite(self, operator, f, u):
        for weight in (0.9, 0.5):
            u = u + weight * operator.residual(f, u.astype(f.dtype)) / operator.diagonal()
        return u

    def adjoint(self):
        return self


class Lazy(unigrid.Smoother):
    """Hands its input back, where it has one."""

    def __call__(self, operator, f, u):
        return u if u is not None else 0.8 * f / operator.diagonal()


class Doubled(unigrid.Prolongation):
    def __call__(self, correction):
        return np.kron(correction, np.ones((2, 2)))


def test_float32_is_kept_with_a_smoother_that_makes_float64():
    f = np.random.default_rng(0).standard_normal((63, 40)).astype(np.float32)
    for options in ({}, {"start": "zero"}):
        solution = unigrid.solve(f, smoother=Richardson(), **options)
        assert solution.u.dtype == np.float32
        assert solution.converged
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 40)), smoother=Richardson())
    assert cycle(f).dtype == np.float32
    assert cycle(f, cycle(f)).dtype == np.float32


def test_a_smoother_that_hands_its_input_back_leaves_the_callers_array_alone():
    rng = np.random.default_rng(1)
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=Lazy(), pre=1, post=0)
    f, u = rng.standard_normal((2, 31, 31))
    kept = u.copy()
    assert not np.shares_memory(cycle(f, u), u)
    np.testing.assert_array_equal(u, kept)


def test_a_slot_that_returns_a_wrong_shape_is_named_with_the_right_one():
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), prolongation=Doubled())
    with pytest.raises(
        ValueError, match=r"Doubled must return an array of shape \(7, 7\) on this level, it returned shape \(6, 6\)"
    ):
        cycle(np.ones((31, 31)))


def test_a_slot_that_returns_no_array_is_named():
    class Nothing(unigrid.Smoother):
        def __call__(self, operator, f, u):
            return None

    with pytest.raises(ValueError, match=r"Nothing must return an array of shape \(9, 9\).*NoneType"):
        unigrid.solve(np.ones((9, 9)), smoother=Nothing())


def test_a_recipe_of_the_users_own_sees_the_grids_and_works_on_any_size():
    class Nearest(unigrid.TransferRecipe):
        def between(self, fine, coarse):
            index = [np.minimum(np.arange(f.n) * c.n // f.n, c.n - 1) for f, c in zip(fine.axes, coarse.axes, strict=True)]

            class Pick(unigrid.Prolongation):
                def __call__(self, correction):
                    return correction[np.ix_(*index)]

            return Pick()

    f = np.random.default_rng(2).standard_normal((50, 64))
    options = {"prolongation": Nearest(), "centering": "cell", "rtol": 1e-6, "maxiter": 60}
    solution = unigrid.solve(f, **options)
    np.testing.assert_allclose(solution.u, unigrid.solve(f, centering="cell").u, rtol=0, atol=1e-5 * np.abs(solution.u).max())


def test_the_cost_a_smoother_declares_counts_in_work_units():
    problem = unigrid.Poisson((63, 63))
    one, two = (unigrid.StencilCycle(problem, smoother=smoother) for smoother in (unigrid.Jacobi(), Richardson()))
    coarsest = one.levels[-1].problem.grid.size / problem.grid.size
    assert two.work_units - coarsest == pytest.approx(2 * (one.work_units - coarsest))


class InPlace(unigrid.Smoother):
    """Works on a flat view of what it is given, as a slip of the pen."""

    def __call__(self, operator, f, u):
        x = np.zeros(f.size, f.dtype) if u is None else u.ravel()
        x += 0.8 * operator.residual(f, x.reshape(f.shape)).ravel() / operator.diagonal().ravel()
        return x.reshape(f.shape)


class Echo(unigrid.Smoother):
    """Returns a view of f, or of u."""

    def __call__(self, operator, f, u):
        return (f if u is None else u).reshape(-1).reshape(f.shape)


@pytest.mark.parametrize("smoother", [InPlace(), Echo()], ids=["in place", "echo"])
def test_no_view_of_the_callers_arrays_is_ever_written_to(smoother):
    f, u = np.random.default_rng(4).standard_normal((2, 31, 31))
    kept = f.copy(), u.copy()
    for post in (0, 1):
        cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=smoother, pre=1, post=post)
        cycle(f, u)
        cycle.solve(f, start="zero", maxiter=3, raise_on_failure=False)
    np.testing.assert_array_equal((f, u), kept)


def test_an_in_place_smoother_does_not_change_solutions_that_a_callback_kept():
    seen, copies = [], []

    def keep(solution):
        seen.append(solution.u)
        copies.append(solution.u.copy())

    unigrid.solve(np.random.default_rng(5).standard_normal((31, 31)), smoother=InPlace(), callback=keep)
    np.testing.assert_array_equal(seen, copies)


@pytest.mark.parametrize("returned", [np.ones(3), np.ones(9), None], ids=["too few", "flat", "nothing"])
def test_a_coarsest_smoother_of_the_users_own_is_held_to_its_shape(returned):
    class Wrong(unigrid.Smoother):
        def __call__(self, operator, f, u):
            return returned

    with pytest.raises(ValueError, match="Wrong must return an array of shape"):
        unigrid.StencilCycle(unigrid.Poisson((31, 31)), coarsest=Wrong())(np.ones((31, 31)))


def test_a_coarsest_smoother_of_ten_lines_keeps_float32():
    f = np.ones((31, 31), np.float32)
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), coarsest=unigrid.Steps(Richardson(), 20))
    assert cycle(f, cycle(f)).dtype == np.float32
    assert unigrid.StencilCycle(unigrid.Poisson((31, 31)), coarsest=Richardson()).symmetric() is not None
