"""Every compiled kernel equals the plain-array reference to round-off, on one thread and on several."""

import functools
import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
from tiers import pack

import unigrid
from unigrid.stencil import kernels as seam
from unigrid.stencil.grid import Axis, Grid
from unigrid.stencil.kernels import reference
from unigrid.stencil.kernels.bands import Band
from unigrid.stencil.kernels.cpu import threads as threading_module
from unigrid.stencil.operator import StencilOperator
from unigrid.stencil.transfers import SeparableTransfer

kernels = seam.of(np.empty(0))

D, N, P = unigrid.Dirichlet, unigrid.Neumann, unigrid.Periodic
SIDES = [(D, D), (D, N), (N, D), (N, N), (P, P)]
SIZES_1D = [1, 2, 3, 4, 5, 7, 8, 31]
SIZES_2D = [(1, 6), (6, 1), (2, 3), (3, 2), (5, 7), (8, 9)]
SIZES_3D = [(1, 1, 5), (1, 5, 4), (4, 1, 5), (5, 3, 1), (2, 3, 4), (3, 5, 7), (5, 4, 3), (7, 6, 5)]
REACTION = 0.7


def _axis(n, sides, centering, h):
    # One node with a Neumann side at either end, and no other, is what no grid has; coarsening makes a cell of it.
    return Axis(n, h, *sides, "cell" if (n, sides, centering) == (1, (N, N), "vertex") else centering)


def _grids():
    for centering in ("vertex", "cell"):
        for ndim, sizes in ((1, [(n,) for n in SIZES_1D]), (2, SIZES_2D), (3, SIZES_3D)):
            for number, mix in enumerate(itertools.product(SIDES, repeat=ndim)):
                for shape in sizes if ndim < 3 else [sizes[number % len(sizes)]]:  # in 3-D the 125 mixes take turns
                    axes = zip(shape, mix, (0.31, 0.5, 0.42), strict=False)
                    grid = Grid(tuple(_axis(n, sides, centering, h) for n, sides, h in axes))
                    names = ",".join(f"{low.__name__[0]}{high.__name__[0]}" for low, high in mix)
                    yield pytest.param(grid, id=f"{centering}-{'x'.join(map(str, shape))}-{names}")


GRIDS = list(_grids())
EVERY_GRID = pytest.mark.parametrize("grid", GRIDS)
EVERY_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def arrays(grid, dtype, rng):
    return [rng.standard_normal(grid.shape).astype(dtype) for _ in range(3)]


@functools.cache
def operator_on(grid):
    return StencilOperator(grid, REACTION)


def tables_of(grid, dtype):
    return operator_on(grid).tables(np.dtype(dtype))


def _scale(grid, dtype):
    """One rounding of the largest number that enters a row of A u."""
    return np.finfo(dtype).eps * (sum(4 / h**2 for h in grid.spacing) + REACTION)


def _same_on_every_team(use_threads, kernel):
    """Return what a kernel makes on one thread; it must be the same to the last bit on two and three."""
    use_threads(1)
    alone = kernel()
    for count in (2, 3):
        use_threads(count)
        np.testing.assert_array_equal(kernel(), alone, err_msg=f"{count} threads")
    return alone


@EVERY_DTYPE
@pack
@EVERY_GRID
def test_apply_residual_and_their_norms_equal_the_reference(grid, dtype, rng, use_threads):
    (f, u, _), tables = arrays(grid, dtype, rng), tables_of(grid, dtype)
    tolerance = 20 * _scale(grid, dtype)
    applied = _same_on_every_team(use_threads, lambda: kernels.apply(u, tables))
    assert applied.dtype == dtype
    np.testing.assert_allclose(applied, reference.apply(u, grid, REACTION), rtol=0, atol=tolerance)
    remaining = _same_on_every_team(use_threads, lambda: kernels.residual(f, u, tables))
    assert remaining.dtype == dtype
    np.testing.assert_allclose(remaining, reference.residual(f, u, grid, REACTION), rtol=0, atol=tolerance)
    for count in (1, 2, 3):
        use_threads(count)
        np.testing.assert_allclose(kernels.residual_norm(f, u, tables), np.linalg.norm(remaining.ravel().astype(float)), 1e-6)
        np.testing.assert_allclose(kernels.norm(u), np.linalg.norm(u.ravel().astype(float)), rtol=1e-14)


@pack
@EVERY_GRID
def test_weighted_sums_equal_numpy(grid, rng, use_threads):
    u, v = rng.standard_normal((2, *grid.shape))
    weights = [rng.uniform(1, 2, n) for n in grid.shape]
    weight = np.ones(())
    for factor in weights:
        weight = np.multiply.outer(weight, factor)
    for count in (1, 2, 3):
        use_threads(count)
        np.testing.assert_allclose(kernels.weighted_sum(u, weights), (weight * u).sum(), rtol=0, atol=1e-13 * grid.size)
        np.testing.assert_allclose(
            kernels.weighted_inner(u, v, weights), (weight * u * v).sum(), rtol=0, atol=1e-13 * grid.size
        )


@EVERY_DTYPE
@pack
@EVERY_GRID
def test_semi_iterate_equals_the_reference(grid, dtype, rng, use_threads):
    (f, u, previous), tables = arrays(grid, dtype, rng), tables_of(grid, dtype)
    made = _same_on_every_team(use_threads, lambda: kernels.semi_iterate(previous.copy(), f, u, 0.8, 1.3, tables))
    expected = reference.semi_iterate(previous, f, u, 0.8, 1.3, grid, REACTION)
    np.testing.assert_allclose(made, expected, rtol=0, atol=100 * np.finfo(dtype).eps * np.abs(expected).max())


@EVERY_DTYPE
@pack
@EVERY_GRID
def test_relax_color_equals_the_reference(grid, dtype, rng, use_threads):
    (f, u, _), tables = arrays(grid, dtype, rng), tables_of(grid, dtype)
    for color, backward in itertools.product((0, 1), (False, True)):

        def relaxed(color=color, backward=backward):
            out = u.copy()
            kernels.relax_color(out, f, 1.2, color, backward, tables)
            return out

        made = _same_on_every_team(use_threads, relaxed)
        expected = reference.relax_color(u, f, 1.2, color, backward, grid, REACTION)
        np.testing.assert_allclose(made, expected, rtol=0, atol=100 * np.finfo(dtype).eps * max(1, np.abs(expected).max()))


@EVERY_DTYPE
@pack
@EVERY_GRID
def test_relax_lexicographic_equals_the_reference(grid, dtype, rng):
    (f, u, _), tables = arrays(grid, dtype, rng), tables_of(grid, dtype)
    for backward in (False, True):
        made = u.copy()
        kernels.relax_lexicographic(made, f, 0.9, backward, tables)
        expected = reference.relax_lexicographic(u, f, 0.9, backward, grid, REACTION)
        np.testing.assert_allclose(made, expected, rtol=0, atol=100 * np.finfo(dtype).eps * max(1, np.abs(expected).max()))


def _band(matrix):
    row, column = np.nonzero(matrix)
    return Band.of_entries(row, column, matrix[row, column], matrix.shape, False)


@EVERY_DTYPE
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize(
    ("fine", "coarse"),
    [
        ((1,), (1,)),
        ((7,), (3,)),
        ((3,), (8,)),
        ((5, 4), (2, 7)),
        ((1, 5), (1, 2)),
        ((4, 5, 6), (2, 5, 3)),
        ((1, 3, 4), (1, 6, 2)),
    ],
)
def test_separable_transfer_equals_the_tensor_product(fine, coarse, terms, dtype, rng, use_threads):
    products = [
        [rng.standard_normal((m, n)) * (rng.random((m, n)) < 0.6) for m, n in zip(coarse, fine, strict=True)]
        for _ in range(terms)
    ]
    slot = SeparableTransfer(coarse, [[_band(matrix) for matrix in matrices] for matrices in products], 0.5)
    u, start = rng.standard_normal(fine).astype(dtype), rng.standard_normal(coarse).astype(dtype)
    expected = reference.transfer(u, products, 0.5)
    tolerance = 100 * np.finfo(dtype).eps * max(1, np.abs(expected).max())
    made = _same_on_every_team(use_threads, lambda: slot(u))
    assert made.dtype == dtype
    np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance)
    added = _same_on_every_team(use_threads, lambda: slot.add_to(start.copy(), u))
    np.testing.assert_allclose(added, start + expected, rtol=0, atol=tolerance)


@EVERY_DTYPE
@pytest.mark.parametrize(
    ("shape", "width", "strides"),
    [
        ((9,), (3,), (1,)),
        ((9,), (3,), (2,)),
        ((8,), (2,), (3,)),
        ((3,), (3,), (2,)),
        ((7, 9), (3, 3), (1, 1)),
        ((7, 9), (3, 3), (2, 2)),
        ((8, 7), (3, 2), (2, 1)),
        ((3, 12), (3, 5), (1, 2)),
        ((5, 6), (1, 1), (1, 1)),
        ((5, 6, 7), (3, 3, 3), (1, 1, 1)),
        ((6, 5, 8), (2, 3, 4), (2, 1, 2)),
        ((3, 6, 3), (3, 1, 3), (1, 2, 1)),
    ],
    ids=str,
)
def test_correlate_equals_the_reference_and_scipy(shape, width, strides, dtype, rng, use_threads):
    values, weights = rng.standard_normal(shape).astype(dtype), rng.standard_normal(width)
    weights[(0,) * len(width)] = 0.0  # left out by the loops
    made = _same_on_every_team(use_threads, lambda: kernels.correlate(values, weights, strides))
    assert made.dtype == dtype
    tolerance = 20 * np.finfo(dtype).eps * np.abs(values).max() * np.abs(weights).sum()
    np.testing.assert_allclose(made, reference.correlate(values, weights, strides), rtol=0, atol=tolerance)
    everywhere = scipy.ndimage.correlate(values.astype(float), weights, mode="constant", origin=[-(w // 2) for w in width])
    inside = tuple(slice(0, n - w + 1, step) for n, w, step in zip(shape, width, strides, strict=True))
    np.testing.assert_allclose(made, everywhere[inside], rtol=0, atol=tolerance)


@EVERY_DTYPE
def test_correlate_takes_any_memory_layout_and_changes_nothing(dtype, rng):
    values = rng.standard_normal((9, 8)).astype(dtype)
    weights = rng.standard_normal((3, 3))
    wanted = kernels.correlate(values, weights, (2, 1))
    for layout in (np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2], values[::-1][::-1]):
        layout.flags.writeable = False
        np.testing.assert_array_equal(kernels.correlate(layout, np.asfortranarray(weights), (2, 1)), wanted)


@pytest.mark.parametrize(
    "make",
    [lambda u: np.asfortranarray(u), lambda u: u[::-1, ::-1], lambda u: np.repeat(u, 2, axis=1)[:, ::2]],
    ids=["fortran", "reversed", "strided"],
)
def test_sources_of_any_memory_layout_give_the_same(make, rng):
    grid = Grid((Axis(6, 0.2, D, N, "vertex"), Axis(9, 0.1, P, P, "vertex")))
    tables = StencilOperator(grid, 0.0).tables(np.dtype(np.float64))
    u = make(rng.standard_normal(grid.shape))
    assert not u.flags.c_contiguous
    np.testing.assert_array_equal(kernels.apply(u, tables), kernels.apply(u.copy(order="C"), tables))
    u.flags.writeable = False
    np.testing.assert_array_equal(kernels.apply(u, tables), kernels.apply(u.copy(order="C"), tables))


def test_nan_and_infinity_are_not_optimized_away(rng):
    grid = Grid((Axis(9, 0.1, D, D, "vertex"), Axis(9, 0.1, D, D, "vertex")))
    tables = StencilOperator(grid, 0.0).tables(np.dtype(np.float64))
    for bad in (np.nan, np.inf, -np.inf):
        u = rng.standard_normal(grid.shape)
        u[4, 5] = bad
        assert not np.isfinite(kernels.norm(u))
        assert not np.isfinite(kernels.residual_norm(np.zeros(grid.shape), u, tables))
        assert (~np.isfinite(kernels.apply(u, tables))).sum() == 5
        kernels.relax_color(u, np.zeros(grid.shape), 1.0, 0, False, tables)
        assert not np.isfinite(u).all()


def test_small_grids_stay_on_one_thread_and_large_ones_are_cut_into_slabs(use_threads, monkeypatch):
    use_threads(3)
    monkeypatch.setattr(threading_module, "PARALLEL_FROM", 100)
    assert threading_module.over_slabs(lambda first, last: (first, last), 10, 99) == [(0, 10)]
    assert threading_module.over_slabs(lambda first, last: (first, last), 10, 100) == [(0, 3), (3, 6), (6, 10)]
    assert threading_module.over_slabs(lambda first, last: (first, last), 2, 100) == [(0, 1), (1, 2)]
