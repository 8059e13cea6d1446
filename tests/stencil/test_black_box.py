"""The set-up of black box multigrid, against its definition in plain loops and against sparse matrices."""

import itertools

import numpy as np
import pytest
from scipy import sparse

import unigrid
from unigrid.stencil.coarsening import coarse_points, coarsened
from unigrid.stencil.coupled import matrix_of

SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def drawn_level(rng, shape, levels):
    """Return a random operator after so many coarsenings, and the coarse points of the next one."""
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), len(shape))]
    reaction = np.where(rng.random(shape) < rng.choice([0.0, 0.1, 0.9]), 10.0 ** rng.uniform(-3, 8, shape), 0.0)
    problem = unigrid.Poisson(
        shape, boundary=sides, centering=["vertex", "cell"][int(rng.integers(2))],
        coefficient=np.exp(rng.uniform(0, 2) * rng.standard_normal(shape)), reaction=reaction,
        mask=rng.random(shape) < 0.9 if rng.random() < 0.3 else None,
    )  # fmt: skip
    stencil = problem.coupled_operator.stencil
    axes = [None] * (3 - len(shape)) + list(problem.grid.axes)
    for number in range(levels + 1):
        chosen = rng.random(3) < 0.8
        points = [coarse_points(n, axis, each) for n, axis, each in zip(stencil.excess.shape, axes, chosen, strict=True)]
        if number == levels:
            return stencil, points
        stencil = coarsened(stencil, points)[1]
    raise AssertionError


def matrix_of_transfer(transfer, points):
    """Return P as a sparse matrix, from its weights by columns."""
    shape, coarse = tuple(axis.n for axis in points), transfer.weights.shape[1:]
    columns, total = np.arange(np.prod(coarse)).reshape(coarse), sparse.csr_array((np.prod(shape), np.prod(coarse)))
    for offset, weights in zip(transfer.offsets, transfer.weights, strict=True):
        where = np.meshgrid(*(axis.positions + d for axis, d in zip(points, offset, strict=True)), indexing="ij")
        inside = np.all([axis.periodic | ((at >= 0) & (at < axis.n)) for axis, at in zip(points, where, strict=True)], axis=0)
        assert not weights[~inside].any()
        rows = np.ravel_multi_index([at[inside] for at in where], shape, mode="wrap")
        total += sparse.coo_array((weights[inside], (rows, columns[inside])), shape=total.shape).tocsr()
    return total


@pytest.mark.parametrize("seed", range(9))
def test_the_coarse_operator_of_long_rows_is_that_of_galerkin(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(250, 560))
    stencil, points = drawn_level(
        rng, [(n,), (int(rng.integers(1, 7)), n), (3, int(rng.integers(1, 5)), n)][seed % 3], seed % 2
    )
    transfer, coarse = coarsened(stencil, points)
    P, A = matrix_of_transfer(transfer, points), matrix_of(stencil)
    wanted, found = P.T @ A @ P, matrix_of(coarse)
    scale = np.sqrt(np.outer(*[np.maximum(wanted.diagonal(), 1e-300)] * 2)) if wanted.shape[0] < 2000 else 1.0
    assert (np.abs((wanted - found).toarray()) <= 1e-13 * np.maximum(scale, stencil.couplings.max(initial=0.0))).all()
    sums = P.T @ (A @ (P @ np.ones(P.shape[1])))
    assert np.allclose(coarse.excess.ravel(), sums, rtol=1e-12, atol=1e-12 * stencil.couplings.max(initial=0.0))


@pytest.mark.parametrize("place", [*range(252, 261), *range(508, 517)])
def test_a_single_large_excess_is_part_of_the_coarse_ones_around(place):
    """Also where a row is cut into chunks, of 128 coarse points: near 256 and 512."""
    reaction = np.zeros((2, 700))
    reaction[1, place] = 1e6
    problem = unigrid.Poisson((2, 700), boundary="neumann", coefficient=np.ones((2, 700)), reaction=reaction)
    stencil = problem.coupled_operator.stencil
    points = [coarse_points(n, axis, True) for n, axis in zip(stencil.excess.shape, [None, *problem.grid.axes], strict=True)]
    transfer, coarse = coarsened(stencil, points)
    P = matrix_of_transfer(transfer, points)
    sums = P.T @ (matrix_of(stencil) @ (P @ np.ones(P.shape[1])))
    assert np.allclose(coarse.excess.ravel(), sums, rtol=1e-12, atol=1e-12 * stencil.couplings.max())


@pytest.mark.parametrize("seed", range(12))
def test_the_number_of_threads_changes_nothing(seed, monkeypatch):
    """Each thread has slabs of its own, however few, and those at their ends need the weights of others."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 50))
    stencil, points = drawn_level(rng, [(n, 19), (n, 5, 7)][seed % 2], seed // 2 % 2)
    transfer, coarse = coarsened(stencil, points)
    monkeypatch.setattr("unigrid.stencil.kernels.cpu.threads.PARALLEL_FROM", 1)
    threads = unigrid.get_num_threads()
    try:
        unigrid.set_num_threads(3)
        same_transfer, same_coarse = coarsened(stencil, points)
    finally:
        unigrid.set_num_threads(threads)
    for one, other in zip([*transfer, *coarse[:-1]], [*same_transfer, *same_coarse[:-1]], strict=True):
        assert np.array_equal(one, other)
    assert np.allclose(coarse.shares, same_coarse.shares, rtol=1e-13)  # sums over other parts


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_strengths_of_axes_beside_the_strongest(seed):
    rng = np.random.default_rng(seed)
    shape = [(150,), (4, 140), (5, 3, 9)][seed % 3]
    stencil, _ = drawn_level(rng, shape, seed // 3 % 2)
    strengths = np.zeros((3, *stencil.excess.shape))
    for axis in range(3):
        for side in (1, -1):
            total = np.zeros(stencil.excess.shape)
            for offset, couplings in zip(stencil.offsets, stencil.couplings, strict=True):
                if offset[axis]:
                    total += couplings if offset[axis] == side else np.roll(couplings, offset, axis=(0, 1, 2))
            strengths[axis] += np.abs(total)
    with np.errstate(invalid="ignore"):
        shares = np.nan_to_num(strengths / strengths.max(axis=0))
    several = np.array(stencil.excess.shape) > 1
    least = np.where(strengths.max(axis=0) > 0, shares[several].min(axis=0), 1.0).min()
    assert np.allclose(stencil.shares, [*shares.sum(axis=(1, 2, 3)), least], rtol=1e-12)


def neighbors_of(stencil, x):
    """Return the offsets of the neighbors of a point, and its couplings to them."""
    shape, found = np.array(stencil.excess.shape), []
    for offset, couplings in zip(stencil.offsets, stencil.couplings, strict=True):
        found += [(offset, couplings[tuple(x)]), (-offset, couplings[tuple((x - offset) % shape)])]
    return found


def rows_of_interpolation(stencil, points):
    """Return P as a dictionary from fine points to {(coarse fine index, unwrapped): weight}, by the definition."""
    shape = stencil.excess.shape
    coarse = [set(axis.positions.tolist()) for axis in points]
    rows = {}

    def between(x):
        return np.array([i not in own for i, own in zip(x, coarse, strict=True)])

    for x in sorted(itertools.product(*map(range, shape)), key=lambda x: between(x).sum()):
        along = between(x)
        if not along.any():
            rows[x] = {x: 1.0}
            continue
        summed = {}
        for offset, coupling in neighbors_of(stencil, np.array(x)):
            step = tuple(int(d) for d in offset * along)
            summed[step] = summed.get(step, 0.0) + coupling
        summed.pop((0, 0, 0), None)
        total, excess = sum(summed.values()), stencil.excess[x]
        one_sided = any(
            not any(summed[step] for step in summed if step[axis] == side) for axis in np.flatnonzero(along) for side in (-1, 1)
        )
        divisor = total + excess if one_sided or excess > 0.5 * total else total
        row = {}
        for step, coupling in summed.items():
            there = tuple(int(i) for i in (np.array(x) + step) % shape)
            for parent, weight in rows[there].items() if coupling else ():
                row[parent] = row.get(parent, 0.0) + coupling / divisor * weight
        rows[x] = row
    return rows


@pytest.mark.parametrize("seed", range(30))
def test_interpolation_follows_from_the_couplings(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, [12, 9, 5][seed % 3], 1 + seed % 3))
    stencil, points = drawn_level(rng, shape, seed // 3 % 2)
    found = matrix_of_transfer(coarsened(stencil, points)[0], points).toarray()
    wanted = np.zeros_like(found)
    coarse = tuple(len(axis.positions) for axis in points)
    for x, row in rows_of_interpolation(stencil, points).items():
        for parent, weight in row.items():
            place = [int(np.searchsorted(axis.positions, i)) for axis, i in zip(points, parent, strict=True)]
            wanted[np.ravel_multi_index(x, stencil.excess.shape), np.ravel_multi_index(place, coarse)] += weight
    assert np.allclose(found, wanted, rtol=1e-11, atol=1e-11)
