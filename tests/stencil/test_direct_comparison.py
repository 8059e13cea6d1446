"""unigrid against scipy.sparse.linalg.spsolve on the same matrix, and that matrix against the equations."""

import functools
import itertools
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import DRAW, pack

import unigrid
from unigrid.stencil.transfers import CellAverage, Constant, FullWeighting, Linear

pytestmark = pytest.mark.usefixtures("deep")
CASES, DEEP_CASES, COARSEST = 240, 150, 100
SIDES = [("dirichlet", "dirichlet"), ("dirichlet", "neumann"), ("neumann", "dirichlet"), ("neumann", "neumann")]
SIDES_AND_PERIODIC = [*SIDES, ("periodic", "periodic")]
LARGEST = {1: (70, 400), 2: (24, 48), 3: (10, 16)}  # every fifth case is smaller than these, down to one unknown an axis


class Case(NamedTuple):
    shape: tuple
    lengths: tuple
    kinds: tuple
    values: tuple
    centering: str
    reaction: float
    seed: int

    @property
    def boundary(self):
        classes = {"dirichlet": unigrid.Dirichlet, "neumann": unigrid.Neumann, "periodic": lambda value: unigrid.Periodic()}
        return [
            tuple(classes[kind](value) for kind, value in zip(*pair, strict=True))
            for pair in zip(self.kinds, self.values, strict=True)
        ]

    def problem(self):
        return unigrid.Poisson(
            self.shape, lengths=self.lengths, boundary=self.boundary, centering=self.centering, reaction=self.reaction
        )


def _random_case(seed):
    rng = np.random.default_rng(seed)
    ndim = int(rng.choice([1, 2, 2, 3]))
    low, high = LARGEST[ndim] if seed % 5 else (1, 12)
    centering = str(rng.choice(["vertex", "cell"]))
    kinds = tuple(SIDES_AND_PERIODIC[rng.integers(5)] for _ in range(ndim))
    least = [3 if "periodic" in pair else pair.count("neumann") if centering == "vertex" else 1 for pair in kinds]
    shape = tuple(max(int(n), m) for n, m in zip(rng.integers(low, high + 1, ndim), least, strict=True))
    lengths = tuple(
        float(length) for length in np.array(shape) * rng.choice([1.0, 1.0, 0.7, 1.7, 5.0], ndim) * rng.uniform(0.01, 0.1)
    )

    def value(axis):
        scalar = rng.random() < 0.5
        return float(rng.standard_normal()) if scalar else rng.standard_normal(shape[:axis] + shape[axis + 1 :])

    values = tuple((value(axis), value(axis)) for axis in range(ndim))
    reaction = float(rng.choice([0.0, 0.0, 0.0, 2.5, 300.0]))
    return Case(shape, lengths, kinds, values, centering, reaction, seed)


RANDOM_CASES = [_random_case(seed) for seed in range(CASES * DRAW, CASES * (DRAW + 1))]
EVERY_CASE = pytest.mark.parametrize("case", RANDOM_CASES, ids=lambda case: f"{case.seed}-{'x'.join(map(str, case.shape))}")


@functools.cache
def _cycle(seed):
    return unigrid.StencilCycle(_random_case(seed).problem())


def _direct(problem, b):
    """The solution by sparse factorization; where A is singular the mean-zero one, of b less its mean."""
    matrix = problem.matrix().tocsc()
    if not problem.singular:
        return scipy.sparse.linalg.spsolve(matrix, b.ravel()).reshape(problem.shape)
    w = (problem.weights / problem.weights.sum()).ravel()
    bordered = scipy.sparse.block_array([[matrix, np.ones((len(w), 1))], [w[None, :], None]], format="csc")
    return scipy.sparse.linalg.spsolve(bordered, np.append(b.ravel(), 0.0))[:-1].reshape(problem.shape)


@pytest.mark.slow
def test_enough_cases_have_three_levels_and_a_small_coarsest_one():
    levels = [_cycle(case.seed).levels for case in RANDOM_CASES]
    deep = [len(of_one) >= 3 and of_one[-1].problem.grid.size <= COARSEST for of_one in levels]
    assert CASES >= 200
    assert sum(deep) >= DEEP_CASES
    drawn = [(len(case.shape), case.centering, pair) for case in RANDOM_CASES for pair in case.kinds]
    assert set(drawn) >= set(itertools.product((1, 2, 3), ("vertex", "cell"), SIDES_AND_PERIODIC))
    assert sum(_cycle(case.seed).problem.singular for case in RANDOM_CASES) >= 10


@pack
@EVERY_CASE
def test_the_solution_is_that_of_a_direct_solver(case):
    cycle = _cycle(case.seed)
    f = np.random.default_rng(case.seed + 1000).standard_normal(case.shape) * 10
    # As many cycles as rounding lets be of use: the run itself may well end as stagnated.
    u = cycle.solve(f, rtol=1e-14, compatibility="project", raise_on_failure=False).u
    expected = _direct(cycle.problem, cycle.problem.rhs(f))
    assert np.abs(u - expected).max() <= 1e-9 * np.abs(expected).max()


@pack
@EVERY_CASE
def test_the_operator_is_the_matrix(case):
    for level in _cycle(case.seed).levels:
        problem = level.problem
        u = np.random.default_rng(case.seed).standard_normal(problem.shape)
        expected = (problem.matrix() @ u.ravel()).reshape(problem.shape)
        scale = abs(problem.matrix()).sum(axis=1).max() * np.abs(u).max()
        assert np.abs(problem.operator(u) - expected).max() <= 1e-13 * scale
        assert np.abs(problem.operator.residual(u, u) - (u - expected)).max() <= 1e-13 * max(1, scale)
        diagonal = problem.matrix().diagonal().reshape(problem.shape)
        np.testing.assert_allclose(problem.operator.diagonal(), diagonal, rtol=0, atol=1e-14 * problem.operator.norm_bound)


@pack
@EVERY_CASE
def test_the_matrix_is_symmetric_in_the_weights_and_positive(case):
    for level in _cycle(case.seed).levels:
        problem = level.problem
        weighted = scipy.sparse.diags_array(problem.weights.ravel()) @ problem.matrix()
        assert abs(weighted - weighted.T).max() <= 1e-13 * abs(weighted).max()
        u, ones = np.random.default_rng(case.seed).standard_normal(problem.grid.size), np.ones(problem.grid.size)
        assert u @ (weighted @ u) > -1e-13 * abs(weighted).max()
        assert problem.singular or ones @ (weighted @ ones) > 0
        assert not problem.singular or np.abs(problem.matrix() @ ones).max() <= 1e-12 * problem.operator.norm_bound


@pytest.mark.parametrize(("down", "up"), [(FullWeighting(), Linear()), (CellAverage(), Constant())], ids=["linear", "constant"])
@pack
@EVERY_CASE
def test_restriction_is_the_weighted_adjoint_of_prolongation(case, down, up):
    rng = np.random.default_rng(case.seed)
    levels = _cycle(case.seed).levels
    for fine, coarse in itertools.pairwise(level.problem.grid for level in levels):
        restrict, prolong = down.between(fine, coarse), up.between(fine, coarse)
        r, e = rng.standard_normal(fine.shape), rng.standard_normal(coarse.shape)
        left, right = (coarse.weights * restrict(r) * e).sum(), (fine.weights * r * prolong(e)).sum()
        size = (fine.weights * np.abs(r) * prolong(np.abs(e))).sum()
        assert abs(left - right) <= 1e-13 * size


def _small_cases():
    one_axis = [(n,) for n in (1, 2, 3, 4, 7)]
    for centering in ("vertex", "cell"):
        for ndim, shapes in ((1, one_axis), (2, [(1, 3), (4, 3)]), (3, [(3, 4, 2), (2, 1, 3)])):
            for number, kinds in enumerate(itertools.product(SIDES_AND_PERIODIC, repeat=ndim)):
                for shape in shapes if ndim < 3 else [shapes[number % 2]]:
                    least = [
                        3 if "periodic" in pair else pair.count("neumann") if centering == "vertex" else 1 for pair in kinds
                    ]
                    shape = tuple(max(n, m) for n, m in zip(shape, least, strict=True))
                    names = ",".join(f"{low[0]}{high[0]}" for low, high in kinds)
                    yield pytest.param(shape, kinds, centering, id=f"{centering}-{'x'.join(map(str, shape))}-{names}")


@pack
@pytest.mark.parametrize(("shape", "kinds", "centering"), list(_small_cases()))
def test_matrix_and_right_hand_side_are_the_equations(shape, kinds, centering, written_out, rng):
    lengths = tuple(rng.uniform(0.5, 2.0, len(shape)))
    values = tuple(
        (rng.standard_normal(shape[:axis] + shape[axis + 1 :]), float(rng.standard_normal())) for axis in range(len(shape))
    )
    case = Case(shape, lengths, kinds, values, centering, 0.3, 0)
    problem, f = case.problem(), rng.standard_normal(shape)
    matrix, g = written_out(shape, lengths, kinds, values, centering, 0.3)
    scale = abs(matrix).max()
    assert abs(problem.matrix() - matrix).max() <= 1e-14 * scale
    np.testing.assert_allclose(problem.rhs(f), f + g, rtol=0, atol=1e-13 * scale)
