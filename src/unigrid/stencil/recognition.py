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
from .coupled import outer
from .cycle import StencilCycle
from .galerkin import GalerkinCycle
from .grid import checked_shape
from .problem import Poisson
from .suspects import MOST_SUSPECTS, SAME, Entry, MisfitError, Rows, explained, neighbor_entry

if TYPE_CHECKING:
    from scipy import sparse

Numbers = NDArray[np.float64]
ALIKE = 1e-12  # of the diagonal: what rounding leaves of a sum of zero


class Form(NamedTuple):
    """The symmetric form as arrays of the grid's shape, and what is known of each axis.

    couplings : of each axis, to the next point; of the last point, around to the first
    excess, diagonal : of rows times the volumes
    halved : of each axis, whether rows count half at its low and at its high end
    """

    couplings: list[Numbers]
    excess: Numbers
    diagonal: Numbers
    halved: list[tuple[bool, bool]]

    @property
    def weights(self) -> list[Numbers]:
        """The factors of rows along each axis: 1, or 1/2 at an end."""
        return [_ends(n, pair) for n, pair in zip(self.excess.shape, self.halved, strict=True)]

    def areas(self, axis: int) -> Numbers:
        """Return the areas of the faces of an axis, of one along it."""
        return outer([np.ones(1) if other == axis else own for other, own in enumerate(self.weights)])

    def is_periodic(self, axis: int) -> bool:
        """Whether the last point of an axis is coupled to the first."""
        return bool(self.couplings[axis][_slab(axis, -1, self.excess.ndim)].any())


def _ends(n: int, halved: tuple[bool, bool]) -> Numbers:
    weights = np.ones(n)
    weights[0] *= 0.5 if halved[0] else 1.0
    weights[-1] *= 0.5 if halved[1] else 1.0
    return weights


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
        For what is no such matrix, with the first entry that is not as above. Where one entry alone is wrong it is that one,
        with what would fit; where either of several may be it, as other rows do not tell, all of them.

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
    rows = _rows(_checked(A, shape), shape)
    try:
        problem = _recognized(rows)
    except MisfitError as misfit:
        raise ValueError(explained(rows, misfit, _recognized)) from None
    return GalerkinCycle(problem) if problem.varies else StencilCycle(problem)


def _recognized(rows: Rows) -> Poisson:
    """Return the problem. Raises MisfitError where there is none."""
    form = _symmetrized(rows)
    return _constant(form) or _variable(form)


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


def _rows(entries: sparse.coo_array, shape: tuple[int, ...]) -> Rows:
    """Return the entries as arrays. Raises ValueError for the first one that has no place in them."""
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
    return Rows(after, before, diagonal)


def _symmetrized(rows: Rows) -> Form:
    """Return the symmetric form. Raises MisfitError where there is none, or a row's sum is below zero."""
    after, before, diagonal = rows
    back = [np.roll(own, -1, axis) for axis, own in enumerate(before)]  # of the next point, to this one
    halved = [_halved(*both, axis) for axis, both in enumerate(zip(after, back, strict=True))]
    volumes = outer([_ends(n, pair) for n, pair in zip(diagonal.shape, halved, strict=True)])
    couplings = []
    for axis, (forth, there) in enumerate(zip(after, back, strict=True)):
        own, other = volumes * forth, np.roll(volumes, -1, axis) * there
        _check_pairs(forth, there, axis)
        _refuse_pairs(
            np.abs(own - other) > SAME * np.maximum(own, other), axis, "and differs from the entry across the diagonal"
        )
        couplings.append(own)
    scaled = volumes * diagonal
    excess = scaled - sum(couplings) - sum(np.roll(own, 1, axis) for axis, own in enumerate(couplings))
    excess = np.where(np.abs(excess) <= ALIKE * scaled, 0.0, excess)
    if (excess < 0.0).any():
        raise MisfitError("less than the row's couplings: rows must sum to 0 or more", *_points(excess < 0.0))
    return Form(couplings, excess, scaled, halved)


def _check_pairs(forth: Numbers, back: Numbers, axis: int) -> None:
    """Raise MisfitError unless all neighbors are coupled both ways; those around the axis, or none of them."""
    missing, last = (forth == 0.0) & (back == 0.0), _slab(axis, -1, forth.ndim)
    if not _is_around(forth, back, axis):
        odd, reason = np.zeros_like(missing), "and couples the ends of an axis, as few others there"
        missing[last], odd[last] = False, True
        _refuse_pairs(odd & (forth > 0.0), axis, reason)
        _refuse_pairs(odd & (back > 0.0), axis, reason, reverse=True)
    reason = "and must be below zero as of all neighbors"
    _refuse_pairs(missing | ((forth == 0.0) & (back > 0.0)), axis, reason)
    _refuse_pairs((back == 0.0) & (forth > 0.0), axis, reason, reverse=True)


def _halved(forth: Numbers, back: Numbers, axis: int) -> tuple[bool, bool]:
    """Whether rows at the low and the high end are twice as large as symmetry has them: most of them, as one may be wrong."""
    n = forth.shape[axis]
    if n == 1 or _is_around(forth, back, axis):
        return False, False
    ratios = np.divide(forth, back, out=np.ones_like(forth), where=back > 0.0)
    low, high = (float(np.median(np.take(ratios, place, axis))) for place in (0, n - 2))
    return abs(low - 2.0) < SAME, abs(high - 0.5) < SAME


def _is_around(forth: Numbers, back: Numbers, axis: int) -> bool:
    """Whether the last points of an axis are coupled to the first: most of them, as one may be wrong."""
    last = _slab(axis, -1, forth.ndim)
    return bool(((forth[last] > 0.0) | (back[last] > 0.0)).mean() > 0.5)


def _refuse_pairs(wrong: NDArray[np.bool_], axis: int, reason: str, reverse: bool = False) -> None:
    """Raise MisfitError for points whose couplings to the next ones along an axis, or from them, are wrong."""
    if wrong.any():
        raise MisfitError(reason, *(neighbor_entry(each.row, axis, wrong.shape, reverse) for each in _points(wrong)))


def _points(wrong: NDArray[np.bool_]) -> list[Entry]:
    """Return the diagonal entries of the first of these points, some more than one wrong entry can be behind."""
    indices = np.argwhere(wrong)[: MOST_SUSPECTS + 1]
    return [Entry(point, point) for point in (tuple(map(int, each)) for each in indices)]


def _variable(form: Form) -> Poisson:
    """Return the problem with a coefficient for every face, and a reaction for every point."""
    vertices = any(map(any, form.halved))
    # Vertices have a side or half a row at an end: what couples them to a Dirichlet side is taken from the excess.
    dirichlet = [
        (axis, end)
        for axis, pair in enumerate(form.halved)
        for end in (0, -1)
        if vertices and not (form.is_periodic(axis) or pair[end])
    ]
    excess, shared = form.excess.copy(), _shared(form.excess, dirichlet)
    sides: list[Any] = []
    faces = []
    for axis, k in enumerate(form.couplings):
        if form.is_periodic(axis):
            sides.append("periodic")
            faces.append(k / form.areas(axis))
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
        faces.append(np.concatenate(parts, axis) / form.areas(axis))
    reaction = np.where(np.abs(excess) <= ALIKE * form.diagonal, 0.0, excess) / outer(form.weights)
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
    """Return what couples the points at an end to a Dirichlet side: at most as much as inward. Raises MisfitError for none."""
    own = shared[_slab(axis, end, shared.ndim)]
    if not (own > 0.0).all():
        wrong = np.zeros(shared.shape, bool)
        wrong[_slab(axis, end, shared.ndim)] = own <= 0.0
        reason = (
            "and the row sums to 0: beside rows on Neumann sides of vertices this is a Neumann side too, of rows twice as large"
        )
        raise MisfitError(reason, *_points(wrong))
    return np.minimum(own, inner[_slab(axis, end, inner.ndim)]) if inner.shape[axis] else own


def _shared(excess: Numbers, ends: list[tuple[int, int]]) -> Numbers:
    """Return the excess of each point over how many of these sides it lies on."""
    count = np.zeros(excess.shape)
    for axis, end in ends:
        count[_slab(axis, end, excess.ndim)] += 1.0
    return excess / np.maximum(count, 1.0)


def _constant(form: Form) -> Poisson | None:
    """Return the problem with constant coefficients, where it is one."""
    shape, volumes = form.excess.shape, outer(form.weights)
    if any(n < 3 for n in shape):
        return None
    numbers = []
    for axis, own in enumerate(form.couplings):
        last = shape[axis] - (0 if form.is_periodic(axis) else 1)
        inner = np.take(own / form.areas(axis), range(last), axis)
        if np.ptp(inner) > SAME * inner.max():
            return None
        numbers.append(float(inner.flat[0]))
    excess, middle = form.excess / volumes, tuple(n // 2 for n in shape)
    c, sides, found = float(excess[middle]), list[Any](), set[Any]()
    rest = excess - c
    for axis, number in enumerate(numbers):
        if form.is_periodic(axis):
            sides.append("periodic")
            continue
        pair = []
        for end in (0, -1):
            at = list(middle)
            at[axis] = end
            times = round(float(rest[tuple(at)]) / number) if not form.halved[axis][end] else 0
            found.add("vertex" if form.halved[axis][end] or times == 1 else "cell")
            rest[_slab(axis, end, len(shape))] -= times * number
            pair.append("dirichlet" if times else "neumann")
        sides.append(tuple(pair))
    if len(found) > 1 or (np.abs(rest) > SAME * form.diagonal / volumes).any():
        return None
    centering: Any = "vertex" if "vertex" in found else "cell"
    coefficient = numbers[0] if len(set(numbers)) == 1 else tuple(numbers)
    return Poisson(shape, spacing=1.0, boundary=sides, centering=centering, coefficient=coefficient, reaction=max(c, 0.0))
