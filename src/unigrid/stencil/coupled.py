"""The operator with coefficients that vary, -div(a grad u) + c u, in the symmetric form of couplings between neighbors.

Times the cell volumes, (A u)_i = sum over neighbors of w_ij (u_i - u_j) + s_i u_i, with w_ij = a area / h at the face in
between, and the excess s_i = c volume + a area / h for each Dirichlet side (2 a area / h where the side is half a spacing
away), or alpha area for each Robin side (in series with a area / h where the side is half a spacing away). Volumes and areas
are in units of the volume inside (the mean one, where axes are stretched), and halved at vertex-Neumann sides. The face value
is the harmonic mean of the two unknowns' a: then the flux is continuous through a jump, and 1-D solutions through jumps are
exact.

Source: S. Patankar, Numerical heat transfer and fluid flow (1980), section 4.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Operator
from . import kernels
from .coefficients import constants_of
from .grid import Axis, Dirichlet, Grid, Neumann, finite_array, real_array
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .kernels.cpu.primitives import slab_count
from .kernels.cpu.threads import over_slabs
from .kernels.workspace import empty
from .masks import Domain, Rim, conducting, cut, row_size
from .robin import Exchange, least_eigenvalue, passed, without_weak_sides

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
LEAST, MOST = 1e-100, 1e100  # of coefficients: products with 1/h^2, and squares in norms, neither vanish nor overflow
SMOOTH = 2.0  # neighbors closer than this factor are extrapolated to a side
ROWS = 1 << 14  # numbers of a part that stays in the cache
Faces = tuple[Numbers, ...]  # per axis: n + 1 values along it, the first and the last on its sides


def faces_of(coefficient: Any, grid: Grid, exchange: Exchange) -> Faces:
    """Return the face values of a coefficient: an array at the unknowns, arrays at the faces, or a function of coordinates.

    On a Neumann side, where the flux is given, no value is read: there it may be zero, as r is on the axis of a cylinder.
    Raises ValueError or TypeError, naming what is allowed.
    """
    entries = coefficient if isinstance(coefficient, tuple | list) else (coefficient,) * grid.ndim
    if len(entries) == grid.ndim and all(map(callable, entries)):
        return tuple(_faces_of_function(function, grid, number, exchange) for number, function in enumerate(entries))
    constants = constants_of(coefficient, grid.ndim)
    if constants is not None:
        return tuple(np.full(_all_faces(grid, number), value) for number, value in enumerate(constants))
    if isinstance(coefficient, tuple | list) and len(entries) == grid.ndim and all(np.ndim(each) > 0 for each in entries):
        return tuple(_given_faces(each, grid, number, exchange) for number, each in enumerate(entries))
    a = positive(coefficient, "coefficient")
    if a.shape != grid.shape:
        raise ValueError(
            f"coefficient must be a number, one per axis, an array of f's shape {grid.shape}, a tuple of arrays at the faces "
            f"of each axis, or a function of the coordinates, or one per axis; got an array of shape {a.shape}"
        )
    from .kernels.cpu.coupled import harmonic_between  # imported here: constant coefficients do without

    faces = harmonic_between(a)
    for number, axis in enumerate(grid.axes):
        _complete(np.moveaxis(faces[number], number, 0), np.moveaxis(a, number, 0), axis)
    return faces


def positive(values: Any, name: str) -> Numbers:
    """Return values as float64. Raises ValueError with the first place where they are not finite and above zero."""
    array = real_array(values, name).astype(np.float64, copy=False)
    if array.size and not (array.min() >= LEAST and array.max() <= MOST):  # nor where one is NaN
        finite_array(array, name)
        wrong, rule = array <= 0.0, "> 0"
        if not wrong.any():
            wrong, rule = (array < LEAST) | (array > MOST), f"from {LEAST:.0e} to {MOST:.0e}"
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must be {rule} everywhere, but {name}{list(index) if index else ''} is {array[index]:.6g}")
    return array


def harmonic(a: Numbers, b: Numbers, share: Any = 0.5) -> Numbers:
    """Return the harmonic mean, that of conductors in series: a over this share of the distance, b over the rest."""
    return 1.0 / (share / a + (1.0 - share) / b)


def _on_side(first: Numbers, second: Numbers, distance: float) -> Numbers:
    """Return the value beyond the first unknown: extrapolated where it changes little, the nearest elsewhere (a jump)."""
    smooth = np.maximum(first, second) < SMOOTH * np.minimum(first, second)
    return np.where(smooth, first + distance * (first - second), first)


def _complete(along: Numbers, a: Numbers, axis: Axis) -> None:
    """Write the face values at the ends of an axis, the first one here, and all of a stretched axis."""
    share, steps = _along(shares(axis), 0, a.ndim), axis.steps
    if axis.distances:
        along[1:-1] = harmonic(a[:-1], a[1:], share[1:-1])
    if axis.periodic:
        along[0] = along[-1] = harmonic(a[-1], a[0], share[0])
        return
    for end, beside, inward in ((0, min(1, axis.n - 1), 1), (-1, -min(2, axis.n), -2)):
        on_side = _on_side(a[end], a[beside], steps[end] / steps[inward])
        along[end] = on_side if axis.centering == "cell" else harmonic(a[end], on_side)


def shares(axis: Axis) -> Numbers:
    """Return how much of each step lies before the face, shape (n + 1,): half of it between vertices, and cells alike."""
    if axis.centering == "vertex":
        return np.full(axis.n + 1, 0.5)
    weights = np.concatenate([axis.weights[-1:], axis.weights, axis.weights[:1]])
    return weights[:-1] / (weights[:-1] + weights[1:])


def _faces_of_function(function: Callable[..., Any], grid: Grid, number: int, exchange: Exchange) -> Numbers:
    """Return the values of a function at the faces of an axis; on a cell's side, at the side itself."""
    points = [axis.positions for axis in grid.axes]
    points[number] = grid.axes[number].faces
    mesh = np.meshgrid(*points, indexing="ij", sparse=True)
    shape = tuple(len(values) for values in points)
    values = real_array(function(*mesh), "coefficient(...)")
    try:
        values = np.broadcast_to(values, shape)
    except ValueError as error:
        got = np.shape(values)
        raise ValueError(
            f"coefficient as a function of {grid.ndim} coordinate arrays must return values that broadcast to {shape}, got "
            f"shape {got} ({error})"
        ) from None
    return positive(_without_unread(values, grid, number, exchange), "coefficient(...)")


def _without_unread(values: Array, grid: Grid, number: int, exchange: Exchange) -> Array:
    """Return face values, those on Neumann sides replaced by those inside."""
    axis = grid.axes[number]
    sides = ((0, 1, axis.low), (-1, -2, axis.high))
    unread = [(end, inner) for end, inner, side in sides if side is Neumann and (number, end) not in exchange]
    if not unread or axis.n == 1:
        return values
    moved = np.moveaxis(np.array(values), number, 0)
    for end, inner in unread:
        moved[end] = moved[inner]
    return np.moveaxis(moved, 0, number)


def _all_faces(grid: Grid, number: int) -> tuple[int, ...]:
    return (*grid.shape[:number], grid.shape[number] + 1, *grid.shape[number + 1 :])


def face_shape(grid: Grid, number: int) -> tuple[int, ...]:
    """Return the shape of a user's array at the faces of an axis: n + 1 along it for cells, one per interval for vertices."""
    axis = grid.axes[number]
    along = axis.n if axis.periodic else axis.n + 1 if axis.centering == "cell" else axis.intervals
    return (*grid.shape[:number], along, *grid.shape[number + 1 :])


def _given_faces(values: Any, grid: Grid, number: int, exchange: Exchange) -> Numbers:
    """Return a user's face values along an axis, those that no one reads (beyond a vertex-Neumann end) repeated."""
    array, wanted, axis = real_array(values, f"coefficient[{number}]"), face_shape(grid, number), grid.axes[number]
    if array.shape != wanted:
        raise ValueError(
            f"coefficient[{number}], at the faces of axis {number}, must have shape {wanted}, got {array.shape}; an array at "
            f"the unknowns is given by itself, not in a tuple"
        )
    if axis.centering == "cell":
        array = _without_unread(array, grid, number, exchange)
    moved = np.moveaxis(positive(array, f"coefficient[{number}]"), number, 0)
    if axis.periodic:  # face i lies between unknowns i and i + 1
        moved = np.concatenate([moved[-1:], moved])
    elif axis.centering == "vertex":
        low, high = (side is Neumann for side in (axis.low, axis.high))
        moved = np.concatenate([moved[:1]] * low + [moved] + [moved[-1:]] * high)
    return np.moveaxis(moved, 0, number)


def halves(ndim: int, full: bool) -> NDArray[np.int64]:
    """Return the positive half of the offsets of neighbors, (count, 3): along the axes, or of the full block."""
    offsets = [
        offset
        for offset in itertools.product((-1, 0, 1), repeat=3)
        if offset > (0, 0, 0) and not any(offset[: 3 - ndim]) and (full or np.abs(offset).sum() == 1)
    ]
    return np.array(offsets, dtype=np.int64).reshape(-1, 3)


def symmetric_stencil(offsets: NDArray[np.int64], couplings: Numbers, excess: Numbers) -> SymmetricStencil:
    """Return the stencil with these couplings and excess, boxes of three axes, in their precision."""
    from .kernels.cpu.compiled import strengths as loops  # imported here: constant coefficients do without

    shape = excess.shape
    before, after = (np.zeros((3, max(shape)), np.int64) for _ in range(2))
    for axis, n in enumerate(shape):
        # Beyond an end the other end stands in: what couples them is zero where the axis is not periodic.
        before[axis, :n], after[axis, :n] = (np.arange(n) - 1) % n, (np.arange(n) + 1) % n
    seams = np.zeros(3, np.int64)
    for axis, n in enumerate(shape):
        ends = [own.take(0 if step < 0 else -1, axis) for own, step in zip(couplings, offsets[:, axis], strict=True) if step]
        seams[axis] = n > 1 and n % 2 and any(end.any() for end in ends)
    made = empty(shape, excess.dtype), empty(shape, excess.dtype)
    stencil = SymmetricStencil(offsets, couplings, excess, *made, before, after, seams, np.zeros(4))
    parts = over_slabs(lambda first, last: loops.finish(*made, stencil, first, last), slab_count(excess), excess.size)
    return stencil._replace(shares=np.append(np.sum(parts, axis=0)[:3], np.min(parts, axis=0)[3]))


def shifted(stencil: SymmetricStencil, added: Numbers) -> SymmetricStencil:
    """Return a stencil with more on the diagonal, a box of three axes."""
    diagonal = stencil.diagonal + added
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0.0)
    return stencil._replace(excess=stencil.excess + added, diagonal=diagonal, inverse=inverse)


@final
class SymmetricOperator(Operator):
    """The slot A of a level: a symmetric stencil, in either precision."""

    def __init__(self, stencil: SymmetricStencil) -> None:
        self.stencil = stencil
        self._made = {np.dtype(np.float64): stencil}

    def tables(self, dtype: np.dtype) -> SymmetricStencil:
        """Return the stencil in the precision of the arrays."""
        if dtype not in self._made:
            names = ("couplings", "excess", "diagonal", "inverse")
            arrays = {name: getattr(self.stencil, name).astype(dtype) for name in names}
            self._made[dtype] = self.stencil._replace(**arrays)
        return self._made[dtype]

    def __call__(self, u: Array) -> Array:
        return kernels.of(u).apply(u, self.tables(u.dtype))

    def residual(self, f: Array, u: Array | None) -> Array:
        return f if u is None else kernels.of(f).residual(f, u, self.tables(u.dtype))

    def residual_norm(self, f: Array, u: Array | None) -> float:
        """Return ||f - A u||."""
        return kernels.of(f).norm(self.residual(f, u))


class CoupledOperator(Operator):
    """A u with coefficients of their own at every point; `volumes` relates the symmetric form to the discrete equation.

    A u = (couplings and excess) u / volumes. Where a domain has no unknowns, A is a multiple of the identity, and no unknown is
    coupled to it: couplings to given values are part of the excess, as at a Dirichlet side.
    """

    order = 2
    _size = staticmethod(row_size)

    def __init__(
        self, grid: Grid, faces: Faces, reaction: Numbers, domain: Domain | None = None, exchange: Exchange | None = None
    ) -> None:
        """`reaction`: c at the unknowns, or a number. `domain`: where there are unknowns; None is everywhere."""
        self.grid, self.faces, self.reaction_field, self.domain, self.exchange = grid, faces, reaction, domain, exchange or {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("grid", "faces", "reaction_field", "domain", "exchange")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def with_reaction(self, reaction: Numbers) -> CoupledOperator:
        """Return the operator with another c."""
        operator = CoupledOperator.__new__(CoupledOperator)
        operator.__setstate__({**self.__getstate__(), "reaction_field": reaction})
        return operator

    def share_form(self, other: CoupledOperator) -> Numbers:
        """Take over the couplings of an operator that differs in c alone; return by how much the diagonals differ, a box."""
        more: Any = np.broadcast_to(self.reaction_field - other.reaction_field, self.grid.shape)
        more = self.integrated(more if self.domain is None else np.where(self.domain.unknown, more, 0.0))
        added: Numbers = more.reshape(other.stencil.excess.shape)
        vars(self)["_form"] = shifted(other.stencil, added), other._form[1]
        return added

    def __repr__(self) -> str:
        return f"<CoupledOperator: {' x '.join(map(str, self.grid.shape))} unknowns, {self.words}>"

    @property
    def words(self) -> str:
        """The ranges of coefficient and reaction, for a representation."""
        coefficient = self.least, max(float(face.max()) for face in self.faces)
        reaction = self.reaction, float(np.max(self.reaction_field))
        return f"coefficient {_range(*coefficient)}" + (f", reaction {_range(*reaction)}" if any(reaction) else "")

    @property
    def linear(self) -> CoupledOperator:
        """The part that is linear: all of it."""
        return self

    @property
    def reaction(self) -> float:
        """The least value of c."""
        return float(np.min(self.reaction_field))

    @property
    def keeps_constants(self) -> bool:
        """Whether c is the same everywhere, and there is no Robin side, so that A 1 = c 1 away from Dirichlet sides."""
        return np.ndim(self.reaction_field) == 0 and not self.exchange

    @property
    def least(self) -> float:
        """The least value of the coefficient."""
        return min(self.least_of_axes)

    @cached_property
    def least_of_axes(self) -> list[float]:
        """The least value at the faces of each axis."""
        return [float(face.min()) for face in self.faces]

    @cached_property
    def volumes(self) -> Numbers | None:
        """Volume of the cell of each unknown in units of h per axis; None where all are 1."""
        return relative_volumes(self.grid)

    @property
    def stencil(self) -> SymmetricStencil:
        """The symmetric form, in double precision."""
        return self._form[0]

    @cached_property
    def symmetric(self) -> SymmetricOperator:
        """The symmetric form as an operator."""
        return SymmetricOperator(self.stencil)

    @cached_property
    def _form(self) -> tuple[SymmetricStencil, Rim]:
        """The symmetric form, and the couplings to given values."""
        grid, ndim = self.grid, self.grid.ndim
        excess = empty(grid.shape, np.float64)
        excess[...] = self.reaction_field
        if self.volumes is not None:
            excess *= self.volumes
        offsets = halves(ndim, full=False)
        couplings = empty((len(offsets), *grid.shape), np.float64)
        for half, offset in enumerate(offsets):
            number = int(np.argmax(offset)) - (3 - ndim)
            axis, faces = grid.axes[number], np.moveaxis(self.faces[number], number, 0)
            areas, steps = np.moveaxis(self._areas(number), number, 0) / axis.h, _along(axis.steps, 0, ndim)
            own, at = np.moveaxis(couplings[half], number, 0), np.moveaxis(excess, number, 0)
            np.multiply(faces[1:-1], areas / (steps[1:-1] if axis.distances else axis.h), out=own[:-1])
            own[-1] = faces[-1] * areas[0] / steps[-1] if axis.periodic and axis.n > 1 else 0.0
            for end, side in ((0, axis.low), (-1, axis.high)):
                if side is Dirichlet:
                    at[end] += faces[end] * areas[0] / steps[end]
                elif (number, end) in self.exchange:
                    entering = passed(self.exchange, number, end, axis, self.faces)
                    at[end] += areas[0] * self.exchange[number, end] * entering
        rim = cut(self.domain, offsets, couplings, excess, self._size)
        box = (1,) * (3 - ndim) + grid.shape
        return symmetric_stencil(offsets, couplings.reshape(-1, *box), excess.reshape(box)), rim

    def fold_given(self, b: Array, domain: Domain) -> None:
        """Add to b what the given values of a domain, this one but for its values, contribute; elsewhere b becomes zero."""
        rim = self._form[1]
        b += self._divided(rim.gathered(domain.values.ravel()[rim.given], b.shape)).astype(b.dtype)
        b[~domain.unknown] = 0.0

    @property
    def has_void(self) -> bool:
        """Whether there is nothing, neither an unknown nor a value, at some point."""
        return self.domain is not None and self.domain.void is not None

    @property
    def conducting(self) -> CoupledOperator:
        """The operator that coarse levels are made of: this one, but for voids, which conduct a little."""
        # Not kept where it is this one: a reference to itself would keep its arrays until the garbage collector runs.
        return self._with_conducting_voids if self.has_void else self

    @cached_property
    def _with_conducting_voids(self) -> CoupledOperator:
        assert self.domain is not None
        faces, reaction, domain = conducting(self.domain, self.grid, self.faces, self.reaction_field)
        return CoupledOperator(self.grid, faces, reaction, domain, self.exchange)

    @property
    def without_weak_sides(self) -> CoupledOperator:
        """The operator, insulated where a Robin side conducts less than the unknown beside it does inward."""
        kept = without_weak_sides(self.exchange, self.grid, self.faces)
        if kept is self.exchange:
            return self
        return CoupledOperator(self.grid, self.faces, self.reaction_field, self.domain, kept)

    def _areas(self, number: int) -> Numbers:
        """Return the areas of the faces of an axis, in units of h per axis, of shape 1 along the axis."""
        return outer([np.ones(1) if other == number else a.weights / a.h for other, a in enumerate(self.grid.axes)])

    def __call__(self, u: Array) -> Array:
        return self._divided(self.symmetric(u))

    def residual(self, f: Array, u: Array | None) -> Array:
        return self.symmetric.residual(f, u) if u is None or self.volumes is None else f - self(u)

    def residual_norm(self, f: Array, u: Array | None) -> float:
        """Return ||f - A u||, plain 2-norm."""
        return kernels.of(f).norm(self.residual(f, u))

    def integrated(self, b: Array) -> Array:
        """Return b times the volumes: the right-hand side of the symmetric form."""
        return b if self.volumes is None else (b * self.volumes).astype(b.dtype)

    def _divided(self, b: Any) -> Any:
        if self.volumes is not None:
            b /= self.volumes.astype(b.dtype)
        return b

    def fold(self, b: Array, side_values: tuple[tuple[Numbers, ...], ...]) -> None:
        """Add to b what values (or fluxes a du/dn) on the sides contribute."""
        for number, (axis, values) in enumerate(zip(self.grid.axes, side_values, strict=True)):
            at = np.moveaxis(b, number, 0)
            for end, side, value in zip((0, -1), (axis.low, axis.high), values, strict=True):
                per_value: Any = 1.0
                if side is Dirichlet:
                    per_value = self.faces[number].take(end, number) / axis.steps[end]
                elif (number, end) in self.exchange:
                    per_value = passed(self.exchange, number, end, axis, self.faces)
                at[end] += (per_value * value / axis.weights[end]).astype(b.dtype)

    def matrix(self) -> sparse.csr_array:
        """Return A as a sparse matrix."""
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve

        symmetric = matrix_of(self.stencil)
        return (
            symmetric if self.volumes is None else sparse.csr_array(sparse.diags_array(1.0 / self.volumes.ravel()) @ symmetric)
        )

    def diagonal(self) -> Numbers:
        """Return the diagonal of A, shape of the grid."""
        diagonal: Numbers = self._divided(self.stencil.diagonal.reshape(self.grid.shape).copy())
        return diagonal

    def magnitude(self, u: Array) -> float:
        """Return a bound of the 2-norm of the terms that A u sums up, which rounding is relative to."""
        terms = self._divided(2.0 * self.stencil.diagonal.reshape(self.grid.shape) * u)
        return kernels.of(u).norm(terms)

    @cached_property
    def norm_bound(self) -> float:
        """Upper bound of the largest eigenvalue of A: that of a row's absolute sum."""
        shape, volumes = self.grid.shape, self.volumes
        diagonal, excess = (each.reshape(shape) for each in (self.stencil.diagonal, self.stencil.excess))
        step, bounds = max(1, ROWS * shape[0] // diagonal.size), []
        for first in range(0, shape[0], step):  # in parts: new memory takes longer than the arithmetic
            rows = slice(first, first + step)
            sums = 2.0 * diagonal[rows] - excess[rows]
            bounds.append((sums if volumes is None else sums / volumes[rows]).max())
        return float(max(bounds))

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """Lower bound of the smallest eigenvalue of A that is not zero, by its size; infinity where there is none."""
        if self.reaction < 0.0:  # as near to zero as rounding allows
            return float(np.finfo(np.float64).eps) * self.norm_bound
        if self.has_void:
            return float(np.finfo(np.float64).tiny)  # of a maze, it is that of a path through all of its points
        return least_eigenvalue(self.grid, self.least_of_axes, self.exchange, self.reaction)


def relative_volumes(grid: Grid) -> Numbers | None:
    """Return the volume of the cell of each unknown in units of h per axis; None where all are 1."""
    weights = [axis.weights / axis.h for axis in grid.axes]
    return None if all((weight == 1.0).all() for weight in weights) else outer(weights)


def _along(values: Numbers, number: int, ndim: int) -> Numbers:
    """Return values along an axis, shaped to broadcast against a grid."""
    return values.reshape([-1 if axis == number else 1 for axis in range(ndim)])


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def outer(vectors: Sequence[Numbers]) -> Numbers:
    """Return the product of one vector per axis."""
    product = np.ones(())
    for vector in vectors:
        product = np.multiply.outer(product, vector)
    return product


def matrix_of(stencil: SymmetricStencil) -> sparse.csr_array:
    """Return a symmetric stencil as a sparse matrix."""
    from scipy import sparse  # imported here: it takes longer to load than a small problem to solve

    shape = stencil.excess.shape
    numbers = np.arange(stencil.excess.size).reshape(shape)
    rows, columns, values = [numbers.ravel()], [numbers.ravel()], [stencil.diagonal.ravel()]
    for offset, coupling in zip(stencil.offsets, stencil.couplings, strict=True):
        there = np.roll(numbers, [-step for step in offset], axis=tuple(range(numbers.ndim)))
        kept = coupling.ravel() != 0.0
        one, other, value = numbers.ravel()[kept], there.ravel()[kept], -coupling.ravel()[kept]
        rows += [one, other]
        columns += [other, one]
        values += [value, value]
    triplets = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(sparse.coo_array(triplets, shape=(numbers.size, numbers.size)))
