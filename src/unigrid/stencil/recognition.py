"""A sparse matrix recognized as the finite-volume stencil of a box, which geometric multigrid solves.

Times row factors w, the matrix is symmetric, with couplings between neighbors along axes and an excess per row,

    w_i (A u)_i = sum over neighbors of k_ij (u_i - u_j) + s_i u_i,     k > 0, s >= 0,

which is -div(a grad u) + c u on cells of length 1: k is a at the faces, s is c. Factors 1/2 at the ends of an axis are those of
vertices on Neumann sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..messages import shown
from .cycle import StencilCycle
from .galerkin import GalerkinCycle
from .grid import checked_shape
from .problem import Poisson

if TYPE_CHECKING:
    from scipy import sparse

Numbers = NDArray[np.float64]
ALIKE = 1e-12  # of the diagonal: what rounding leaves of a sum of zero
SAME = 1e-10  # relative, of numbers that are one number but for the rounding of whoever made the matrix


class Form(NamedTuple):
    """The matrix as arrays of the grid's shape: couplings to the next point of each axis, factors of rows, excess, diagonal."""

    couplings: list[Numbers]
    factors: Numbers
    excess: Numbers
    diagonal: Numbers


def from_matrix(A: Any, shape: int | Sequence[int]) -> StencilCycle | GalerkinCycle:
    """Return a cycle that solves A u = b, A the matrix of a 3-, 5- or 7-point stencil on a grid.

    Parameters
    ----------
    A : SciPy sparse matrix or array, of any format, N x N
        Row i is that of point `numpy.unravel_index(i, shape)`: the last axis first, as of `ravel`. Off the diagonal there are
        numbers below zero for all neighbors along axes, those around included where an axis is periodic, and nothing else. Rows
        sum to zero or more. A is symmetric, but for rows of vertices on Neumann sides, which are twice as large.
    shape : int or tuple of int
        Number of points along each axis, N in all.

    Returns
    -------
    StencilCycle or GalerkinCycle
        `cycle.problem.matrix()` is A. `cycle.solve(b.reshape(shape))` solves; `as_scipy` and the other methods serve too. A
        `StencilCycle` where the coefficients are constant.

    Raises
    ------
    TypeError, ValueError
        For what is no such matrix, with the first entry that is not as above.

    Examples
    --------
    >>> import numpy as np, scipy.sparse, unigrid
    >>> second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(30, 30))
    >>> identity = scipy.sparse.eye_array(30)
    >>> A = scipy.sparse.kron(second, identity) + 100 * scipy.sparse.kron(identity, second)
    >>> u = unigrid.from_matrix(A, (30, 30)).solve(np.ones((30, 30))).u
    >>> bool(abs(A @ u.ravel() - 1).max() < 1e-6)
    True
    """
    shape = checked_shape(shape)
    form = _form(_checked(A, shape), shape)
    halved = _halved(form, shape)
    problem = _constant(form, halved) or _variable(form, halved)
    return GalerkinCycle(problem) if problem.varies else StencilCycle(problem)


def _checked(A: Any, shape: tuple[int, ...]) -> sparse.coo_array:
    """Return the entries of the matrix that are not zero, those of one place summed up. Raises TypeError or ValueError."""
    from scipy import sparse

    if not sparse.issparse(A):
        raise TypeError(f"A must be a SciPy sparse matrix or array, got {shown(A)}; give scipy.sparse.csr_array(A)")
    size = int(np.prod(shape))
    if A.shape != (size, size):
        raise ValueError(
            f"A must be {size} x {size}, a row for each point of shape {shape}, got {' x '.join(map(str, A.shape))}"
        )
    if A.dtype.kind not in "biuf" or A.dtype.itemsize > 8:
        raise TypeError(f"A must hold real numbers (float64, float32, integers), got {A.dtype}; give A.astype(float)")
    matrix = sparse.csr_array(A, dtype=np.float64)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    entries = sparse.coo_array(matrix)
    wrong = ~np.isfinite(entries.data)
    if wrong.any():
        _refuse(entries, int(np.argmax(wrong)), "which is not finite")
    return entries


def _refuse(entries: sparse.coo_array, number: int, reason: str) -> None:
    row, column = (int(each[number]) for each in entries.coords)
    raise ValueError(f"A[{row}, {column}] is {entries.data[number]:.6g}, {reason}")


def _form(entries: sparse.coo_array, shape: tuple[int, ...]) -> Form:
    """Return the couplings, row factors and excess. Raises ValueError for the first entry that has no place in them."""
    rows, columns = entries.coords
    at = np.array(np.unravel_index(rows, shape))
    moves = np.array(np.unravel_index(columns, shape)) - at
    steps = np.where(np.abs(moves) == 1, moves, 0)
    for axis, n in enumerate(shape):
        if n > 2:
            steps[axis] = np.where(np.abs(moves[axis]) == n - 1, -np.sign(moves[axis]), steps[axis])
    is_diagonal, is_neighbor = ~moves.any(axis=0), ((moves != 0).sum(axis=0) == 1) & (np.abs(steps).sum(axis=0) == 1)
    for wrong, reason in (
        (~is_diagonal & ~is_neighbor, "and couples points that are no neighbors along an axis"),
        (is_neighbor & (entries.data > 0.0), "and couplings to neighbors must be below zero"),
        (is_diagonal & (entries.data < 0.0), "and diagonal entries must be above zero"),
    ):
        if wrong.any():
            _refuse(entries, int(np.argmax(wrong)), reason)
    diagonal = np.zeros(shape)
    diagonal[tuple(at[:, is_diagonal])] = entries.data[is_diagonal]
    after, before = [np.zeros(shape) for _ in shape], [np.zeros(shape) for _ in shape]
    for axis in range(len(shape)):
        for step, target in ((1, after[axis]), (-1, before[axis])):
            chosen = is_neighbor & (steps[axis] == step)
            target[tuple(at[:, chosen])] = -entries.data[chosen]
    return _symmetrized(after, before, diagonal)


def _symmetrized(after: list[Numbers], before: list[Numbers], diagonal: Numbers) -> Form:
    """Return the form, rows scaled so that it is symmetric. Raises ValueError where neighbors are not coupled both ways."""
    shape = diagonal.shape
    factors = np.ones(shape)
    for axis, (forth, back) in enumerate(zip(after, before, strict=True)):
        there = np.roll(back, -1, axis)  # of the next point, back to this one
        inner = np.arange(shape[axis]) < shape[axis] - 1
        inner = np.broadcast_to(inner.reshape([-1 if each == axis else 1 for each in range(len(shape))]), shape)
        missing = ((forth == 0.0) | (there == 0.0)) & inner
        one_way = (forth == 0.0) != (there == 0.0)
        if missing.any() or one_way.any():
            _refuse_pair(
                missing if missing.any() else one_way, axis, shape, "is zero, and must be below zero as of all neighbors"
            )
        around = np.take(forth, -1, axis) > 0.0
        if around.any() and not around.all():
            _refuse_pair((forth == 0.0) & ~inner, axis, shape, "is zero, while others around this axis are not")
        ratio = np.where(inner, np.divide(forth, there, out=np.ones(shape), where=there > 0.0), 1.0)
        line = np.take(ratio, [0], axis)  # of the first pair; others follow
        if shape[axis] > 1:
            factors[_slab(axis, 0, len(shape))] /= line
        if shape[axis] > 2:
            factors[_slab(axis, -1, len(shape))] *= np.take(ratio, [-2], axis)
    return _summed(after, before, diagonal, factors)


def _summed(after: list[Numbers], before: list[Numbers], diagonal: Numbers, factors: Numbers) -> Form:
    """Return the form for these row factors. Raises ValueError where it is not symmetric, or a row's sum is below zero."""
    shape = diagonal.shape
    couplings = []
    for axis, (forth, back) in enumerate(zip(after, before, strict=True)):
        own, other = factors * forth, np.roll(factors, -1, axis) * np.roll(back, -1, axis)
        unlike = np.abs(own - other) > SAME * np.maximum(own, other)
        if unlike.any():
            _refuse_pair(unlike, axis, shape, "differs from the entry across the diagonal")
        couplings.append(own)
    excess = factors * diagonal - sum(couplings) - sum(np.roll(own, 1, axis) for axis, own in enumerate(couplings))
    scaled = factors * diagonal
    excess = np.where(np.abs(excess) <= ALIKE * scaled, 0.0, excess)
    if (excess < 0.0).any():
        index = tuple(int(i) for i in np.argwhere(excess < 0.0)[0])
        row = int(np.ravel_multi_index(index, shape))
        raise ValueError(f"A[{row}, {row}] is {diagonal[index]:.6g}, less than the row's couplings: rows must sum to 0 or more")
    return Form(couplings, factors, excess, scaled)


def _refuse_pair(wrong: NDArray[np.bool_], axis: int, shape: tuple[int, ...], reason: str) -> None:
    index = np.argwhere(wrong)[0]
    other = index.copy()
    other[axis] = (other[axis] + 1) % shape[axis]
    row, column = (int(np.ravel_multi_index(tuple(each), shape)) for each in (index, other))
    raise ValueError(f"A[{row}, {column}], which couples {tuple(map(int, index))} and {tuple(map(int, other))}, {reason}")


def _halved(form: Form, shape: tuple[int, ...]) -> list[tuple[bool, bool]]:
    """Return at which ends of each axis row factors are 1/2. Raises ValueError for other factors."""
    halved, rebuilt = [], np.ones(())
    for axis, n in enumerate(shape):
        middle = [m // 2 for m in shape]
        line = form.factors[tuple(slice(None) if each == axis else at for each, at in enumerate(middle))]
        line = line / line.max()
        ends = abs(float(line[0]) - 0.5) < SAME, abs(float(line[-1]) - 0.5) < SAME
        halved.append(ends)
        own = np.ones(n)
        own[0] *= 0.5 if ends[0] else 1.0
        own[-1] *= 0.5 if ends[1] else 1.0
        rebuilt = np.multiply.outer(rebuilt, own)
    scale = form.factors.max()
    unlike = np.abs(form.factors / scale - rebuilt / rebuilt.max()) > 1e-8
    if unlike.any():
        index = tuple(int(i) for i in np.argwhere(unlike)[0])
        row = int(np.ravel_multi_index(index, shape))
        raise ValueError(
            f"row {row} of A, of point {index}, would have to be scaled to make A symmetric, and is no row on a Neumann "
            "side; give the symmetric matrix"
        )
    return halved


def _areas(halved: list[tuple[bool, bool]], shape: tuple[int, ...]) -> tuple[list[Numbers], Numbers]:
    """Return the areas of the faces of each axis, of one along it, and the volumes."""
    weights = []
    for n, (low, high) in zip(shape, halved, strict=True):
        own = np.ones(n)
        own[0] *= 0.5 if low else 1.0
        own[-1] *= 0.5 if high else 1.0
        weights.append(own)
    areas = [_outer([np.ones(1) if other == axis else own for other, own in enumerate(weights)]) for axis in range(len(shape))]
    return areas, _outer(weights)


def _outer(vectors: Sequence[Numbers]) -> Numbers:
    product = np.ones(())
    for vector in vectors:
        product = np.multiply.outer(product, vector)
    return product


def _is_periodic(form: Form, axis: int) -> bool:
    return bool(np.take(form.couplings[axis], -1, axis).any())


def _variable(form: Form, halved: list[tuple[bool, bool]]) -> Poisson:
    """Return the problem with a coefficient for every face, and a reaction for every point."""
    scale = form.factors.max()
    areas, volumes = _areas(halved, form.excess.shape)
    vertices = any(map(any, halved))
    periodic = [_is_periodic(form, axis) for axis in range(form.excess.ndim)]
    # Vertices have a side or half a row at an end: what couples them to a Dirichlet side is taken from the excess.
    dirichlet = [
        (axis, end) for axis, pair in enumerate(halved) for end in (0, -1) if vertices and not (periodic[axis] or pair[end])
    ]
    excess, shared = form.excess / scale, _shared(form.excess / scale, dirichlet)
    sides: list[Any] = []
    faces = []
    for axis, own in enumerate(form.couplings):
        k = own / scale
        if periodic[axis]:
            sides.append("periodic")
            faces.append(k / areas[axis])
            continue
        pair = tuple("dirichlet" if (axis, end) in dirichlet else "neumann" for end in (0, -1))
        parts = [np.take(k, range(k.shape[axis] - 1), axis)]
        for end, name in zip((0, -1), pair, strict=True):
            beside = np.ones(np.take(k, [0], axis).shape)  # on a Neumann side of cells, where it is not read
            if name == "dirichlet":
                beside = _beside(shared, parts[0], axis, end)
                excess[_slab(axis, end, excess.ndim)] -= beside
            if name == "dirichlet" or not vertices:
                parts = [beside, *parts] if end == 0 else [*parts, beside]
        sides.append(pair)
        faces.append(np.concatenate(parts, axis) / areas[axis])
    reaction = np.where(np.abs(excess) <= ALIKE * form.diagonal / scale, 0.0, excess) / volumes
    centering: Any = "vertex" if vertices else "cell"
    return Poisson(
        form.excess.shape, spacing=1.0, boundary=sides, centering=centering, coefficient=tuple(faces), reaction=reaction
    )


def _slab(axis: int, end: int, ndim: int) -> tuple[Any, ...]:
    """Return the index of the points at an end of an axis, which stays."""
    index: list[Any] = [slice(None)] * ndim
    index[axis] = slice(0, 1) if end == 0 else slice(-1, None)
    return tuple(index)


def _beside(shared: Numbers, inner: Numbers, axis: int, end: int) -> Numbers:
    """Return what couples the points at an end to a Dirichlet side: at most as much as inward. Raises ValueError for none."""
    own = shared[_slab(axis, end, shared.ndim)]
    if not (own > 0.0).all():
        _refuse_side(own <= 0.0, axis, end, shared.shape)
    return np.minimum(own, inner[_slab(axis, end, inner.ndim)]) if inner.shape[axis] else own


def _shared(excess: Numbers, ends: list[tuple[int, int]]) -> Numbers:
    """Return the excess of each point over how many of these sides it lies on."""
    count = np.zeros(excess.shape)
    for axis, end in ends:
        count[_slab(axis, end, excess.ndim)] += 1.0
    return excess / np.maximum(count, 1.0)


def _refuse_side(wrong: NDArray[np.bool_], axis: int, end: int, shape: tuple[int, ...]) -> None:
    index = np.argwhere(wrong)[0]
    index[axis] = end % shape[axis]
    row = int(np.ravel_multi_index(tuple(index), shape))
    raise ValueError(
        f"row {row} of A, of point {tuple(map(int, index))}, sums to 0, which beside rows on Neumann sides of vertices means a "
        f"Neumann side too, whose rows are twice as large"
    )


def _constant(form: Form, halved: list[tuple[bool, bool]]) -> Poisson | None:
    """Return the problem with constant coefficients, where it is one."""
    shape, scale = form.excess.shape, form.factors.max()
    areas, volumes = _areas(halved, shape)
    if any(n < 3 for n in shape):
        return None
    numbers = []
    for axis, own in enumerate(form.couplings):
        last = shape[axis] - (0 if _is_periodic(form, axis) else 1)
        inner = np.take(own / areas[axis], range(last), axis) / scale
        if np.ptp(inner) > SAME * inner.max():
            return None
        numbers.append(float(inner.flat[0]))
    excess, middle = form.excess / scale / volumes, tuple(n // 2 for n in shape)
    c, sides, found = float(excess[middle]), list[Any](), set[Any]()
    rest = excess - c
    for axis, number in enumerate(numbers):
        if _is_periodic(form, axis):
            sides.append("periodic")
            continue
        pair = []
        for end in (0, -1):
            at = list(middle)
            at[axis] = end
            times = round(float(rest[tuple(at)]) / number) if not halved[axis][end] else 0
            found.add("vertex" if halved[axis][end] or times == 1 else "cell")
            rest[_slab(axis, end, len(shape))] -= times * number
            pair.append("dirichlet" if times else "neumann")
        sides.append(tuple(pair))
    if len(found) > 1 or (np.abs(rest) > SAME * form.diagonal / scale / volumes).any():
        return None
    centering: Any = "vertex" if "vertex" in found else "cell"
    coefficient = numbers[0] if len(set(numbers)) == 1 else tuple(numbers)
    return Poisson(shape, spacing=1.0, boundary=sides, centering=centering, coefficient=coefficient, reaction=max(c, 0.0))
