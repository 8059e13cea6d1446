"""Geometry: spacing, coordinates, weights, and which coarser grid comes next."""

import math

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.grid import Axis, Grid

D, N, P = unigrid.Dirichlet, unigrid.Neumann, unigrid.Periodic
# sides, centering, intervals of n unknowns, coordinate of unknown 0 in spacings: the contract of `Poisson`, line by line
KINDS = [
    (D, D, "vertex", lambda n: n + 1, 1.0),
    (D, N, "vertex", lambda n: n, 1.0),
    (N, D, "vertex", lambda n: n, 0.0),
    (N, N, "vertex", lambda n: n - 1, 0.0),
    (P, P, "vertex", lambda n: n, 0.0),
    (D, D, "cell", lambda n: n, 0.5),
    (D, N, "cell", lambda n: n, 0.5),
    (N, D, "cell", lambda n: n, 0.5),
    (N, N, "cell", lambda n: n, 0.5),
    (P, P, "cell", lambda n: n, 0.5),
]
EVERY_KIND = pytest.mark.parametrize(
    ("low", "high", "centering", "intervals", "origin"),
    KINDS,
    ids=[f"{low.__name__[0]}{high.__name__[0]}-{centering}" for low, high, centering, _, _ in KINDS],
)
SIZES = [3, 4, 5, 8, 17, 100, 357]


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_spacing_and_coordinates(low, high, centering, intervals, origin, n):
    axis = Axis.of_length(n, 3.0, low, high, centering)
    h = 3.0 / intervals(n)
    assert axis.h == pytest.approx(h, rel=1e-15)
    assert axis.intervals == intervals(n)
    assert axis.length == pytest.approx(3.0, rel=1e-15)
    np.testing.assert_allclose(axis.positions, (np.arange(n) + origin) * h, rtol=1e-15)
    assert axis.periodic is (low is P)
    assert axis.singular is (D not in (low, high))


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_weights_are_the_lengths_of_the_cells(low, high, centering, intervals, origin, n):
    axis = Axis.of_length(n, 3.0, low, high, centering)
    expected = np.full(n, axis.h)
    if centering == "vertex" and low is N:
        expected[0] = axis.h / 2
    if centering == "vertex" and high is N:
        expected[-1] = axis.h / 2
    np.testing.assert_allclose(axis.weights, expected, rtol=1e-15)
    dirichlet_nodes = (low, high).count(D) if centering == "vertex" else 0
    # Each vertex-Dirichlet node keeps the half cell beside it to itself.
    assert axis.weights.sum() == pytest.approx(3.0 - dirichlet_nodes * axis.h / 2)


@pack
@pytest.mark.parametrize("n", SIZES)
@EVERY_KIND
def test_coarsening_halves_the_intervals_rounded_up_over_the_same_length(low, high, centering, intervals, origin, n):
    axis = Axis.of_length(n, 3.0, low, high, centering)
    coarse = axis.coarsened()
    assert coarse.intervals == math.ceil(intervals(n) / 2)
    assert coarse.length == pytest.approx(3.0, rel=1e-15)
    assert coarse.n == math.ceil(intervals(n) / 2) - intervals(n) + n
    assert (coarse.low, coarse.high, coarse.centering) == (low, high, centering)
    assert coarse.n < n


@EVERY_KIND
def test_coarsening_ends_at_one_unknown(low, high, centering, intervals, origin):
    axis, sizes = Axis.of_length(100, 1.0, low, high, centering), []
    while axis is not None:
        sizes.append(axis.n)
        axis = axis.coarsened()
    assert sizes[-1] == 1
    assert sizes == sorted(set(sizes), reverse=True)
    assert len(sizes) <= 9


def test_one_cell_stands_for_two_neumann_nodes():
    last = Axis.of_length(2, 3.0, N, N, "vertex").coarsened()
    assert (last.n, last.h, last.length, last.centering) == (1, 3.0, 3.0, "cell")
    np.testing.assert_array_equal(last.second_difference().toarray(), [[0.0]])


@EVERY_KIND
def test_a_constant_is_in_the_null_space_where_no_side_is_dirichlet(low, high, centering, intervals, origin):
    axis = Axis.of_length(7, 1.0, low, high, centering)
    constant = axis.second_difference() @ np.ones(7)
    assert bool(np.abs(constant).max() < 1e-12) is axis.singular


@EVERY_KIND
def test_the_second_difference_is_exact_for_quadratics_in_the_interior(low, high, centering, intervals, origin):
    axis = Axis.of_length(9, 2.0, low, high, centering)
    np.testing.assert_allclose((axis.second_difference() @ axis.positions**2)[1:-1], -2.0, rtol=1e-11)


# Boxes.


def grid(shape, spacing, sides=(D, D), centering="cell"):
    return Grid(tuple(Axis(n, h, *sides, centering) for n, h in zip(shape, spacing, strict=True)))


def test_a_grid_is_the_product_of_its_axes():
    box = Grid((Axis(3, 0.5, N, D, "vertex"), Axis(4, 2.0, P, P, "vertex")))
    assert (box.shape, box.size, box.ndim, box.spacing) == ((3, 4), 12, 2, (0.5, 2.0))
    np.testing.assert_allclose(box.weights, np.outer([0.25, 0.5, 0.5], [2.0] * 4))


@pytest.mark.parametrize(
    ("spacing", "strong"),
    [
        ((1.0, 1.0), (True, True)),
        ((1.0, 1.49), (True, True)),
        ((1.0, 1.5), (True, False)),
        ((2.0, 1.0), (False, True)),
        ((1.0, 100.0), (True, False)),
        ((1.4, 1.0, 1.6), (True, True, False)),
        ((1.0, 2.0, 4.0), (True, False, False)),
    ],
    ids=str,
)
def test_axes_below_one_and_a_half_times_the_finest_spacing_coarsen(spacing, strong):
    box = grid((8,) * len(spacing), spacing)
    assert box.strong_axes == strong
    assert box.coarsened().shape == tuple(4 if is_strong else 8 for is_strong in strong)


def test_an_axis_of_one_unknown_does_not_hold_the_others_back():
    box = grid((1, 8, 8), (0.001, 1.0, 1.0))
    assert box.strong_axes == (False, True, True)
    assert box.coarsened().shape == (1, 4, 4)


@pack
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 3.0), (1.0, 10.0), (1.0, 100.0), (0.01, 1.0)], ids=str)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", [(D, D), (N, N), (P, P), (N, D)], ids=lambda sides: sides[0].__name__ + sides[1].__name__)
def test_every_grid_coarsens_to_one_unknown(spacing, centering, sides):
    box, levels = grid((37, 50), spacing, sides, centering), 0
    while (coarser := box.coarsened()) is not None:
        assert coarser.size < box.size
        box, levels = coarser, levels + 1
    assert box.size == 1
    assert levels <= 14


@pytest.mark.parametrize("ratio", [3.0, 10.0, 100.0])
def test_semicoarsening_makes_the_cells_square(ratio):
    box = grid((512, 512), (1.0, ratio))
    while box.strong_axes != (True, True):
        box = box.coarsened()
    assert 1 / 1.5 < box.spacing[0] / box.spacing[1] < 1.5
