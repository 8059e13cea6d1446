"""Slots of the user's own, written carelessly: the cycle holds them to shape, precision and new arrays."""

import numpy as np
import pytest

import unigrid


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
