"""Sparse matrices recognized as stencils: all that are, and the entry at which one is not."""

import re

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import spsolve
from tiers import pack

import unigrid

SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]
FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"]


def drawn(seed):
    """Return a problem of any sides, centering, size, coefficient and reaction."""
    rng = np.random.default_rng(seed)
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(3, {1: 30, 2: 12, 3: 6}[ndim], ndim))
    coefficient = np.exp(rng.standard_normal(shape)) if seed % 2 else None
    return unigrid.Poisson(
        shape, boundary=[SIDES[int(i)] for i in rng.integers(0, 5, ndim)], centering=["vertex", "cell"][int(rng.integers(2))],
        lengths=tuple(rng.uniform(0.5, 2, ndim)), coefficient=coefficient,
        reaction=[0.0, 2.0, rng.random(shape)][int(rng.integers(3))],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(120))
def test_the_matrix_of_a_problem_is_recognized_and_solved(seed):
    problem = drawn(seed)
    matrix = problem.matrix()
    cycle = unigrid.from_matrix(getattr(matrix, f"to{FORMATS[seed % 7]}")(), problem.shape)
    assert abs(cycle.problem.matrix() - matrix).max() <= 1e-13 * abs(matrix).max()
    assert cycle.problem.varies == problem.varies  # constants keep their fast path
    f = np.random.default_rng(seed).standard_normal(problem.shape)
    if problem.singular:
        f = problem.compatible(f)
    u = cycle.solve(f, rtol=1e-10).u
    if problem.singular:
        assert np.linalg.norm(matrix @ u.ravel() - f.ravel()) < 1e-8 * np.linalg.norm(f)
    else:
        wanted = spsolve(scipy.sparse.csc_array(matrix), f.ravel())
        assert np.linalg.norm(u.ravel() - wanted) < 1e-8 * np.linalg.norm(wanted)


def poisson(n=6, m=5):
    return unigrid.Poisson((n, m), spacing=1.0).matrix().tolil()


def changed(row, column, value):
    matrix = poisson()
    matrix[row, column] = value
    return matrix


def test_scaled_integer_single_and_unsorted_matrices():
    matrix = poisson().tocoo()
    order = np.random.default_rng(0).permutation(matrix.nnz)
    shuffled = scipy.sparse.coo_array((matrix.data[order] / 2, (matrix.row[order], matrix.col[order])), matrix.shape)
    twice = scipy.sparse.coo_array(  # entries of one place are summed up
        (np.concatenate([shuffled.data] * 2), tuple(np.concatenate([each] * 2) for each in shuffled.coords)), matrix.shape
    )
    for each, scale in (
        (twice, 1),
        (matrix.astype(np.int8), 1),
        (matrix.astype("f4"), 1),
        (1e-30 * matrix, 1e-30),
        (1e12 * matrix, 1e12),
    ):
        cycle = unigrid.from_matrix(each, (6, 5))
        assert isinstance(cycle, unigrid.StencilCycle)
        assert abs(cycle.problem.matrix() - scale * matrix).max() <= 1e-12 * scale


REFUSED = [
    (changed(7, 8, 0.5), r"^A\[7, 8\] is 0.5, and couplings to neighbors must be below zero"),
    (
        changed(7, 8, -0.9),
        r"^A\[7, 8\], which couples \(1, 2\) and \(1, 3\), is -0.9, and differs from the entry across the diagonal; "
        r"A is a stencil with A\[7, 8\] = -1$",
    ),
    (changed(7, 8, 0.0), r"^A\[7, 8\], which couples \(1, 2\) and \(1, 3\), is 0, and must be below zero"),
    (changed(0, 7, -0.1), r"^A\[0, 7\] is -0.1, and couples points that are no neighbors"),
    (changed(3, 3, -4.0), r"^A\[3, 3\] is -4, and diagonal entries must be above zero"),
    (changed(12, 12, 3.9), r"^A\[12, 12\] is 3.9, less than the row's couplings: rows must sum to 0 or more$"),
    (changed(3, 4, np.nan), r"^A\[3, 4\] is nan, which is not finite"),
    (changed(3, 3, np.inf), r"^A\[3, 3\] is inf, which is not finite"),
    (
        changed(0, 4, -1.0),
        r"^A\[0, 4\], which couples \(0, 0\) and \(0, 4\), is -1, and couples the ends of an axis, as few others",
    ),
    (poisson().astype(complex), "must hold real numbers"),
    (poisson().toarray(), "must be a SciPy sparse matrix"),
    (poisson(5, 5), "A must be 30 x 30"),
    (scipy.sparse.diags_array(np.linspace(1, 2, 30)) @ poisson(), "differs from the entry|would have to be scaled"),
]


@pytest.mark.parametrize(("matrix", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_stencil_is_named(matrix, words):
    with pytest.raises((TypeError, ValueError), match=words) as error:
        unigrid.from_matrix(matrix, (6, 5))
    assert "\n" not in str(error.value)


FACTORS = [0.0, 0.1, 0.5, 0.8, 1.7, 2.0, -1.0]


def perturbed(seed):
    """Return a problem, its matrix with one entry changed, or one more where an axis might be periodic, and which it is."""
    problem, rng = drawn(seed), np.random.default_rng(1000 + seed)
    matrix, entries = problem.matrix().tolil(), problem.matrix().tocoo()
    if seed % 8 < 7:
        number = int(rng.integers(entries.nnz))
        row, column = (int(each[number]) for each in entries.coords)
        matrix[row, column] *= FACTORS[seed % 8]
        return problem.shape, matrix, (row, column)
    axis, low = int(rng.integers(len(problem.shape))), rng.integers(problem.shape)
    low[axis], high = 0, low.copy()
    high[axis] = problem.shape[axis] - 1
    row, column = (int(np.ravel_multi_index(tuple(each), problem.shape)) for each in rng.permutation([low, high]))
    matrix[row, column] -= 1.0
    return problem.shape, matrix, (row, column)


def refusal(matrix, shape):
    """Return the words with which a matrix is refused; none for that of a stencil, which the problem then has."""
    try:
        found = unigrid.from_matrix(matrix.tocsr(), shape).problem.matrix()
    except ValueError as error:
        return str(error)
    assert abs(found - matrix).max() <= 1e-12 * abs(matrix).max()
    return ""


@pack
@pytest.mark.parametrize("part", range(20))
def test_one_wrong_entry_is_named(part):
    """It alone; or, where that cannot be told, it and others, each of which makes a stencil when changed as written."""
    found = {"alone": 0, "among": 0}
    for seed in range(12 * part, 12 * part + 12):
        shape, matrix, entry = perturbed(seed)
        words = refusal(matrix, shape)
        named = {(int(row), int(column)) for row, column in re.findall(r"A\[(\d+), (\d+)\]", words)}
        assert not words or entry in named, (seed, entry, words)
        found["alone" if len(named) == 1 else "among"] += bool(words)
        for row, column, value in re.findall(r"A\[(\d+), (\d+)\] = (.*?)(?:, or|$)", words):
            row, column, other = int(row), int(column), matrix.copy()
            exact = matrix[column, row] * np.array([0.5, 1.0, 2.0])  # of which the words have six digits
            other[row, column] = exact[np.argmin(abs(exact - float(value)))]
            assert not refusal(other, shape), (seed, words)
    assert found["alone"] > 2 * found["among"]


def test_rows_twice_as_large_at_the_end_of_a_periodic_axis_are_none_of_a_side():
    matrix = scipy.sparse.lil_array(unigrid.Poisson(6, spacing=1.0, boundary="periodic", reaction=1.0).matrix())
    matrix[5, 4] *= 2.0
    assert re.match(r"A\[5, 4\].* A is a stencil with A\[5, 4\] = -1$", refusal(matrix, 6))


@pytest.mark.parametrize("shape", [(5, 7), 35, (35, 1)])
def test_another_order_of_points_is_no_stencil(shape):
    matrix = unigrid.Poisson((7, 5)).matrix()
    with pytest.raises(ValueError, match=r"A\["):
        unigrid.from_matrix(matrix, shape)


def test_the_cycle_goes_into_scipy():
    matrix = drawn(1).matrix()
    cycle = unigrid.from_matrix(matrix, drawn(1).shape)
    operator, preconditioner, scale = cycle.as_scipy()
    b = np.random.default_rng(0).standard_normal(matrix.shape[0])
    if cycle.problem.singular:
        b = cycle.problem.compatible(b.reshape(cycle.problem.shape)).ravel()
    u, info = scipy.sparse.linalg.cg(operator, scale * b, M=preconditioner, rtol=1e-10)
    assert info == 0
    assert np.linalg.norm(matrix @ u - b) < 1e-8 * np.linalg.norm(b)
