"""The arguments of compiled kernels. Numba compiles named tuples as they are, and their types select the kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Indices = NDArray[np.int64]


class ConstantStencil(NamedTuple):
    """-Laplace + c with one spacing per axis, for grids of three axes; missing leading axes have coefficients of zero.

    neighbors : (3, 2), the index that replaces the missing neighbor at the low and the high end of each axis
    coefficients : (4, 5), per axis: 1/h^2; factors of the low and of the high replacement; change of the diagonal at the low
        and at the high end, in units of 1/h^2. Row 3 begins with the reaction c.
    seam : whether the first and the last slab are neighbors that hold adjacent points of one color
    """

    neighbors: Indices
    coefficients: Array
    seam: bool


class Neighbors(NamedTuple):
    """Both neighbors of a point along one axis: their indices, weights, and the axis' part of the diagonal."""

    low: int
    low_weight: float
    high: int
    high_weight: float
    diagonal: float


class SeparableTables(NamedTuple):
    """A tensor product of three sparse matrices, by rows: for each axis arrays of shape (width, rows)."""

    indices: tuple[Indices, ...]
    weights: tuple[Array, ...]


class Terms(NamedTuple):
    """A sparse matrix by rows, (rows, width): the indices that enter each row, and their weights."""

    indices: Indices
    weights: Array


class Bands(NamedTuple):
    """A transfer along rows, for the even and for the odd fine points a band of its own.

    Fine point 2 m + q has the weight t * length + m of its parity q at coarse point m + shift + t, t = 0, .., terms - 1. In a
    restriction, coarse point m has it at fine point 2 (m + shift + t) + q.
    """

    even_shift: int
    even_terms: int
    odd_shift: int
    odd_terms: int
    length: int
    even: Array
    odd: Array


class Prolongation(NamedTuple):
    """P: along slabs, across the rows of a slab, and along a row."""

    along: Terms
    across: Terms
    bands: Bands


class Restriction(NamedTuple):
    """R: coarse slab s combines the fine slabs starts[s], starts[s] + 1, .. with weights[s]; rows and points as in P."""

    starts: Indices
    weights: Array
    across: Terms
    bands: Bands


class Axes(NamedTuple):
    """Where slabs are cut: the axis (0 in 3-D, 1 in 2-D, of three), whether it is periodic, whether rows are."""

    slabs: int
    periodic: bool
    rows_periodic: bool


class Stages(NamedTuple):
    """What a wave does to a slab, see `waves.wave`.

    start : how a slab of u begins
    color : of the first half-sweep; colors alternate
    backward : whether rows are relaxed in the opposite order
    before, after : number of half-sweeps before and after the point where the residual's norm and the snapshot are taken
    norm : how the norm is found
    omegas : one per half-sweep
    """

    start: int
    color: int
    backward: bool
    before: int
    norm: int
    after: int
    omegas: Array


class Slabs(NamedTuple):
    """A part of the grid: stage k covers the slabs from low + k low_slope to high - k high_slope, and some coarse slabs.

    The norm is that of the slabs from counted_low to counted_high: others belong to another process.
    """

    low: int
    high: int
    low_slope: int
    high_slope: int
    coarse_low: int
    coarse_high: int
    counted_low: int
    counted_high: int


class Strip(NamedTuple):
    """A part of every slab's rows: stage k covers low - k low_slope to high - k high_slope; loading begins with row `base`."""

    low: int
    high: int
    low_slope: int
    high_slope: int
    base: int
    coarse_low: int
    coarse_high: int


class Overlap(NamedTuple):
    """A part of the grid in a cascade: slabs low to high, some coarse slabs, and the slabs whose residuals these need."""

    low: int
    high: int
    coarse_low: int
    coarse_high: int
    residual_low: int
    residual_high: int


class Rings(NamedTuple):
    """Memory of one thread for slabs under way; rows are split into even and odd points, (places, rows, 2, length).

    u, f : slabs of u and f
    residuals : slabs of the residual
    scratch : single rows
    lines : places of rows that are combined
    """

    u: Array
    f: Array
    residuals: Array
    scratch: Array
    lines: Indices


class Ring(NamedTuple):
    """Rings of u and f as one row each; the places of u's, and rows of two halves of `length` numbers."""

    u: Array
    f: Array
    places: int
    rows: int
    length: int


class Located(NamedTuple):
    """Where a slab and its two neighbors begin in the ring; the neighbors' weights, and the axis' part of the diagonal."""

    here: int
    above: int
    below: int
    low_weight: float
    high_weight: float
    diagonal: float


class Sweep(NamedTuple):
    """The grid that stages run over: its ring, its slabs, and the rows of a slab, of which the ring holds those from `base`."""

    ring: Ring
    slabs: int
    rows: int
    n: int
    base: int
    axis: int
    periodic: bool
    ends: tuple[Neighbors, Neighbors]
    stencil: ConstantStencil


class SymmetricStencil(NamedTuple):
    """Coefficients of their own at every point, as in `couplings`; arrays of three axes.

    offsets : (halves, 3), the positive half of the offsets of neighbors
    couplings : (halves, n0, n1, n2)
    excess, diagonal, inverse : (n0, n1, n2), the sum of a row of A; the diagonal of A; one over that, 0 for a row of zeros
    before, after : (3, length), the index of both neighbors along each axis
    seams : (3,), along which axes the first and the last point are neighbors of one color: 1, else 0
    shares : (4,), in float64: sums over points of |sum of the couplings upward| + |sum of those downward| of each axis,
        relative to the axis that couples most strongly there; and the least of these shares, of axes of more than one point
    """

    offsets: Indices
    couplings: Array
    excess: Array
    diagonal: Array
    inverse: Array
    before: Indices
    after: Indices
    seams: Indices
    shares: Array


class CoupledTransfer(NamedTuple):
    """P whose weights follow from couplings.

    offsets : (terms, 3), of the fine points that a coarse point reaches
    weights : (terms, m0, m1, m2)
    children : (3, length, 3), the fine index at -1, 0 and 1 from a coarse point along each axis; -1 where there is none
    parents : (3, length, 3), the coarse index to which a fine point is at -1, 0 and 1; -1 where there is none
    """

    offsets: Indices
    weights: Array
    children: Indices
    parents: Indices


class Coarsening(NamedTuple):
    """P and the coarse operator P^T A P while they are made.

    transfer : P, the weights of coarse points, 1, and those where there is no fine point, 0, given
    columns : (27,), the number in `transfer.weights` of an offset, by entries of a block; -1 where there is none
    defects, marks : 1 - P 1, (n0, n1, n2), where that is not zero, which is marked: (n0, n1, 2, chunks), for points of a row
        that are coarse along it, and those between
    halves, couplings, excess : the coarse operator's offsets, couplings and excess
    wanted : (4, 125), entries of a patch that couplings are made of (bit 1), and those that may have defects (bit 2) where, of
        points of rows nearby, those that are coarse along the row have some (odd index), or those between (index 2 and 3)
    following : (3, length), the distance from a coarse point to the next one along each axis, 0 where there is none
    images : (3,), the length of a periodic axis with one coarse point, which is its own neighbor, else 0
    """

    transfer: CoupledTransfer
    columns: Indices
    defects: Array
    marks: Array
    halves: Indices
    couplings: NDArray[np.float64]
    excess: NDArray[np.float64]
    wanted: Indices
    following: Indices
    images: Indices


class PackedStencil(NamedTuple):
    """A symmetric stencil on (slabs, rows, n), row by row: all coefficients of a row together, each split by parity.

    terms : (2, count, 6), for even and for odd points: a neighbor's slab and row, relative to the point; its place in a row
        of u, relative to the point's; and slab, row and place of the coupling
    coefficients : flat; of every row the excess, one over the diagonal, and the couplings, as even and odd points of `length`
    length : numbers per half of a row
    two_colors : whether points couple along axes alone
    periodic : (3,), whether an axis is, for slabs, rows and points
    """

    terms: Indices
    coefficients: Array
    length: int
    two_colors: bool
    periodic: Indices


class PackedTransfer(NamedTuple):
    """P row by row, on grids of (slabs, rows, n) whose points along rows are coarsened.

    down : (terms, 3), of the fine points that a coarse point reaches: slab, row, place in a row of the residual
    up : (2, terms, 4), for even and for odd points and each term: its slab, row, place, or no such term: 0
    weights : flat; of every coarse row, all terms, `length` numbers each
    length : numbers per term of a row
    starts, coarsened : (2,), the fine slab and row of the first coarse one; whether that axis is coarsened
    """

    down: Indices
    up: Indices
    weights: Array
    length: int
    starts: Indices
    coarsened: Indices


class Portion(NamedTuple):
    """Slabs of a thread: those that it writes, those that it computes, and the coarse slabs that it writes."""

    low: int
    high: int
    first: int
    last: int
    coarse_low: int
    coarse_high: int
