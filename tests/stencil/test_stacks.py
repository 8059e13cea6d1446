"""Blocks of right-hand sides that go through the hierarchy in step: each has the bits and the outcome of a call of its own."""

import numpy as np
import pytest

import unigrid
from unigrid.stencil import stacks

KINDS = ["dirichlet", "neumann", "periodic", unigrid.Dirichlet(0.3), unigrid.Neumann(-0.2)]


@pytest.fixture
def blocks(monkeypatch):
    """The heights of the blocks that are begun."""
    heights = []
    begun = stacks.Stacks._begun

    def watched(self, stack, f, entries, out):
        heights.append(len(entries))
        return begun(self, stack, f, entries, out)

    monkeypatch.setattr(stacks.Stacks, "_begun", watched)
    return heights


def of_each(cycle, f, u0=None, **options):
    starts = [None] * len(f) if u0 is None else u0
    return [cycle.solve(one, u0=start, raise_on_failure=False, **options) for one, start in zip(f, starts, strict=True)]


def assert_equal(together, alone):
    for part, own, u in zip(together.parts, alone, together.u, strict=True):
        assert np.array_equal(part.u, own.u)
        assert np.array_equal(u, own.u)
        assert (part.residuals, part.reason, part.message) == (own.residuals, own.reason, own.message)


@pytest.mark.parametrize("seed", range(12))
def test_a_block_is_its_calls(seed, blocks):
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 4))
    shape = tuple(int(n) for n in rng.integers(20, 48, 2) if ndim == 2) or tuple(int(n) for n in rng.integers(8, 14, 3))
    sides = [KINDS[rng.integers(len(KINDS))] for _ in range(ndim)]
    centering = ["vertex", "cell"][rng.integers(2)]
    reaction = float(rng.choice([0.0, 3.0]))
    problem = unigrid.Poisson(shape, boundary=sides, centering=centering, reaction=reaction)
    cycle = unigrid.StencilCycle(problem, cycle="VWF"[rng.integers(3)])
    # Sources of different smoothness and size, which take different numbers of cycles; one is zero.
    f = rng.standard_normal((6, *shape)) * (10.0 ** rng.integers(-3, 4, 6)).reshape(-1, *[1] * ndim)
    f[2], f[4] = 0.0, 1.0
    f = f.astype([np.float64, np.float32][rng.integers(2)])
    options = {"compatibility": "project", "threads": 1, "atol": float(rng.choice([0.0, 1e-3]))}
    u0 = rng.standard_normal(f.shape) if seed % 3 == 0 else None
    together = cycle.solve(f, u0=u0, raise_on_failure=False, **options)
    assert_equal(together, of_each(cycle, f, u0, **options))
    assert blocks == ([6] if stacks.can_stack(cycle) else [])
    assert blocks or "periodic" in sides  # a short periodic axis leaves no room for fused half-cycles


def test_entries_part_where_one_needs_another_cycle(blocks):
    problem = unigrid.Poisson((63, 47))
    cycle = unigrid.StencilCycle(problem)
    rng = np.random.default_rng(0)
    f = rng.standard_normal((8, 63, 47)) * np.logspace(0, 7, 8)[:, None, None]
    together = cycle.solve(f, atol=1e-2, rtol=0.0, threads=1)
    assert len({part.iterations for part in together.parts}) >= 4
    assert_equal(together, of_each(cycle, f, atol=1e-2, rtol=0.0))
    assert blocks == [8]


def test_one_whose_residual_is_not_finite_is_solved_for_alone(blocks, monkeypatch):
    step = stacks.StackCycles.step_of_each

    def spoilt(self, look_ahead):
        norms, u = step(self, look_ahead)
        return ([*norms[:1], np.nan, *norms[2:]], u) if len(norms) == 3 else (norms, u)

    monkeypatch.setattr(stacks.StackCycles, "step_of_each", spoilt)
    f = np.random.default_rng(1).standard_normal((3, 40, 40))
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 40)))
    assert_equal(cycle.solve(f, threads=1), of_each(cycle, f))
    assert blocks == [3]


@pytest.mark.parametrize("options", [{"accelerate": "cg"}, {"callback": lambda _: None}, {"precision": "mixed"}])
def test_what_is_not_cycles_alone_goes_one_by_one(options, blocks):
    f = np.random.default_rng(0).standard_normal((3, 31, 31))
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)))
    assert_equal(cycle.solve(f, **options), of_each(cycle, f, **options))
    assert blocks == []
