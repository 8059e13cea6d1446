"""Half-cycles of black box multigrid in one pass over memory, against the slots that define them."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.cycle import SlotLevel
from unigrid.stencil.galerkin_levels import levels_of
from unigrid.stencil.kernels.cpu import threads

SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def drawn_problem(rng, ndim):
    """Return a problem of any sides, centering and size, with jumps, a reaction or none, and perhaps a mask."""
    shape = tuple(int(n) for n in rng.integers(3, {1: 90, 2: 45, 3: 12}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    reaction = [0.0, 1.0, rng.random(shape)][int(rng.integers(3))]
    mask = rng.random(shape) < 0.8 if rng.random() < 0.3 else None
    return unigrid.Poisson(
        shape, boundary=sides, centering=["vertex", "cell"][int(rng.integers(2))], reaction=reaction, mask=mask,
        coefficient=np.exp(rng.uniform(0, 2) * rng.standard_normal(shape)), spacing=tuple(rng.uniform(0.7, 1.4, ndim)),
    )  # fmt: skip


def assert_equals_slots(fine, coarse, dtype, rng):
    """Compare both half-cycles of a level, from zero and from a given u, with those of its slots."""
    b, u, e = (rng.standard_normal(shape).astype(dtype) for shape in (fine.shape, fine.shape, coarse.shape))
    eps, largest = np.finfo(dtype).eps, 1.0 + np.abs(fine.operator.stencil.diagonal).max()
    for start in (None, u):
        smoothed, restricted, _ = fine.descend(b, start, coarse)
        wanted, right, _ = SlotLevel.descend(fine, b, start, coarse)
        size = np.abs(wanted).max()
        assert np.abs(smoothed - wanted).max() <= 500 * eps * size
        assert np.abs(restricted - right).max() <= 500 * eps * largest * (1.0 + size)
    wanted = SlotLevel.ascend(fine, b, u.copy(), None, e)
    assert np.abs(fine.ascend(b, u, None, e) - wanted).max() <= 500 * eps * np.abs(wanted).max()


@pack
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(90))
def test_fused_half_cycles_equal_their_slots(seed, dtype, monkeypatch):
    """Every side and centering, sizes that do not nest, seams, 1-D to 3-D; coarse levels have 9 and 27 points."""
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 1)
    rng = np.random.default_rng(seed)
    levels = levels_of(drawn_problem(rng, 1 + seed % 3), "points", 1 + seed % 2, None)
    for fine, coarse in itertools.pairwise(levels):
        assert_equals_slots(fine, coarse, dtype, rng)


@pytest.mark.parametrize("sides", ["dirichlet", "periodic", ("neumann", "dirichlet")])
@pytest.mark.parametrize("shape", [(40, 70), (16, 18, 20)])
def test_the_numbers_do_not_depend_on_the_parts(shape, sides, monkeypatch):
    monkeypatch.setattr(threads, "PARALLEL_FROM", 1)
    rng = np.random.default_rng(0)
    a = np.exp(rng.standard_normal(shape))
    problem = unigrid.Poisson(shape, boundary=[sides] * len(shape), centering="cell", coefficient=a, reaction=1.0)
    fine, coarse = levels_of(problem, "points", 2, None)[:2]
    assert fine.fused is not None
    b, e = rng.standard_normal(fine.shape), rng.standard_normal(coarse.shape)

    def run():
        u, right, _ = fine.descend(b, None, coarse)
        return u, right, fine.ascend(b, u, None, e)

    one = threads.limited_to(1).run(run)
    for count in (2, 3, 8):
        for got, wanted in zip(threads.limited_to(count).run(run), one, strict=True):
            assert np.array_equal(got, wanted)


# A half of a row is a whole number of vectors, or begins another one.
def test_rows_as_long_as_whole_vectors_and_one_more():
    rng = np.random.default_rng(0)
    for n in (63, 64, 65, 66, 128, 130):
        problem = unigrid.Poisson((17, n), boundary=["neumann", "periodic" if n % 2 == 0 else "dirichlet"], centering="cell",
                                  coefficient=np.exp(rng.standard_normal((17, n))))  # fmt: skip
        fine, coarse = levels_of(problem, "points", 2, None)[:2]
        assert_equals_slots(fine, coarse, np.float32, rng)


def test_all_levels_of_a_common_problem_are_fused():
    levels = levels_of(unigrid.Poisson((127, 127), coefficient=lambda x, y: 1 + x * y), "auto", 2, None)
    assert all(level.fused is not None for level in levels[:-1])
