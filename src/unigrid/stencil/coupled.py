"""The operator with coefficients that vary, -div(a grad u) + c u, in the symmetric form of couplings between neighbors.

Times the cell volumes, (A u)_i = sum over neighbors of w_ij (u_i - u_j) + s_i u_i, with w_ij = a area / h at the face in
between, and the excess s_i = c volume + a area / h for each Dirichlet side (2 a area / h where the side is half a spacing
away). Volumes and areas are in units of the volume inside, and halved at vertex-Neumann sides. The face value is the harmonic
mean of the two unknowns' a: then the flux is continuous through a jump, and 1-D solutions through jumps are exact.

Source: S. Patankar, Numerical heat transfer and fluid flow (1980), section 4.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Operator
from . import kernels
from .coefficients import constants_of
from .grid import Axis, Dirichlet, Grid, Neumann, finite_array
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .kernels.cpu.primitives import slab_count
from .kernels.cpu.threads import over_slabs
from .kernels.workspace import empty

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
LEAST, MOST = 1e-100, 1e100  # of coefficients: products with 1/h^2, and squares in norms, neither vanish nor overflow
Faces = tuple[Numbers, ...]  # per axis: n + 1 values along it, the first and the last on its sides


def faces_of(coefficient: Any, grid: Grid) -> Faces:
    """Return the face values of a coefficient: an array at the unknowns, arrays at the faces, or a function of coordinates.

    Raises ValueError or TypeError, naming what is allowed.
    """
    if callable(coefficient):
        return tuple(_faces_of_function(coefficient, grid, number) for number in range(grid.ndim))
    constants = constants_of(coefficient, grid.ndim)
    if constants is not None:
        return tuple(np.full(_all_faces(grid, number), value) for number, value in enumerate(constants))
    if (
        isinstance(coefficient, tuple | list)
        and len(coefficient) == grid.ndim
        and all(np.ndim(each) > 0 for each in coefficient)
    ):
        return tuple(_given_faces(each, grid, number) for number, each in enumerate(coefficient))
    a = positive(coefficient, "coefficient")
    if a.shape != grid.shape:
        raise ValueError(
            f"coefficient must be a number, one per axis, an array of f's shape {grid.shape}, a tuple of arrays at the faces "
            f"of each axis, or a function of the coordinates; got an array of shape {a.shape}"
        )
    return tuple(_faces_of_unknowns(a, axis, number) for number, axis in enumerate(grid.axes))


def positive(values: Any, name: str) -> Numbers:
    """Return values as float64. Raises ValueError with the first place where they are not finite and above zero."""
    array = finite_array(values, name).astype(np.float64, copy=False)
    if array.size and not (array.min() >= LEAST and array.max() <= MOST):
        wrong, rule = array <= 0.0, "> 0"
        if not wrong.any():
            wrong, rule = (array < LEAST) | (array > MOST), f"from {LEAST:.0e} to {MOST:.0e}"
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must be {rule} everywhere, but {name}{list(index) if index else ''} is {array[index]:.6g}")
    return array


def harmonic(a: Numbers, b: Numbers) -> Numbers:
    """Return the harmonic mean."""
    return 2.0 / (1.0 / a + 1.0 / b)


def _on_side(first: Numbers, second: Numbers, distance: float) -> Numbers:
    """Return the value beyond the first unknown: extrapolated where it changes little, the nearest elsewhere (a jump)."""
    smooth = np.maximum(first, second) < 2.0 * np.minimum(first, second)
    return np.where(smooth, first + distance * (first - second), first)


def _faces_of_unknowns(a: Numbers, axis: Axis, number: int) -> Numbers:
    a = np.moveaxis(a, number, 0)
    inner = harmonic(a[:-1], a[1:])
    if axis.periodic:
        around = harmonic(a[-1:], a[:1])
        faces = np.concatenate([around, inner, around])
    else:
        ends = []
        for end, beside in ((0, min(1, axis.n - 1)), (-1, -min(2, axis.n))):
            if axis.centering == "cell":
                ends.append(_on_side(a[end], a[beside], 0.5)[None])
            else:
                ends.append(harmonic(a[end], _on_side(a[end], a[beside], 1.0))[None])
        faces = np.concatenate([ends[0], inner, ends[1]])
    return np.moveaxis(faces, 0, number)


def _faces_of_function(function: Callable[..., Any], grid: Grid, number: int) -> Numbers:
    """Return the values of a function at the faces of an axis; on a cell's side, at the side itself."""
    points = [axis.positions for axis in grid.axes]
    axis = grid.axes[number]
    faces = (np.arange(axis.n + 1) + axis.origin - 0.5) * axis.h
    points[number] = np.mod(faces, axis.length) if axis.periodic else np.clip(faces, 0.0, axis.length)
    mesh = np.meshgrid(*points, indexing="ij", sparse=True)
    shape = tuple(len(values) for values in points)
    values = function(*mesh)
    try:
        values = np.broadcast_to(finite_array(values, "coefficient(...)"), shape)
    except ValueError as error:
        got = np.shape(values)
        raise ValueError(
            f"coefficient as a function of {grid.ndim} coordinate arrays must return values that broadcast to {shape}, got "
            f"shape {got} ({error})"
        ) from None
    return positive(values, "coefficient(...)")


def _all_faces(grid: Grid, number: int) -> tuple[int, ...]:
    return (*grid.shape[:number], grid.shape[number] + 1, *grid.shape[number + 1 :])


def face_shape(grid: Grid, number: int) -> tuple[int, ...]:
    """Return the shape of a user's array at the faces of an axis: n + 1 along it for cells, one per interval for vertices."""
    axis = grid.axes[number]
    along = axis.n if axis.periodic else axis.n + 1 if axis.centering == "cell" else axis.intervals
    return (*grid.shape[:number], along, *grid.shape[number + 1 :])


def _given_faces(values: Any, grid: Grid, number: int) -> Numbers:
    """Return a user's face values along an axis, those that no one reads (beyond a vertex-Neumann end) repeated."""
    array, wanted, axis = positive(values, f"coefficient[{number}]"), face_shape(grid, number), grid.axes[number]
    if array.shape != wanted:
        raise ValueError(
            f"coefficient[{number}], at the faces of axis {number}, must have shape {wanted}, got {array.shape}; an array at "
            f"the unknowns is given by itself, not in a tuple"
        )
    moved = np.moveaxis(array, number, 0)
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
    from .kernels.cpu.compiled import black_box as loops  # imported here: constant coefficients do without

    shape = excess.shape
    before, after = (np.zeros((3, max(shape)), np.int64) for _ in range(2))
    for axis, n in enumerate(shape):
        # Beyond an end the other end stands in: what couples them is zero where the axis is not periodic.
        before[axis, :n], after[axis, :n] = (np.arange(n) - 1) % n, (np.arange(n) + 1) % n
    seams = np.zeros(3, np.int64)
    for axis, n in enumerate(shape):
        ends = [own.take(0 if step < 0 else -1, axis) for own, step in zip(couplings, offsets[:, axis], strict=True) if step]
        seams[axis] = n > 1 and n % 2 and any(end.any() for end in ends)
    diagonal, inverse = empty(shape, excess.dtype), empty(shape, excess.dtype)
    stencil = SymmetricStencil(offsets, couplings, excess, diagonal, inverse, before, after, seams)
    over_slabs(lambda first, last: loops.finish(diagonal, inverse, stencil, first, last), slab_count(excess), excess.size)
    return stencil


@final
class SymmetricOperator(Operator):
    """The slot A of a level: a symmetric stencil, in either precision."""

    def __init__(self, stencil: SymmetricStencil) -> None:
        self.stencil = stencil
        self._made = {np.dtype(np.float64): stencil}

    def tables(self, dtype: np.dtype) -> SymmetricStencil:
        """Return the stencil in the precision of the arrays."""
        if dtype not in self._made:
            self._made[dtype] = in_precision(self.stencil, dtype)
        return self._made[dtype]

    def __call__(self, u: Array) -> Array:
        return kernels.of(u).apply(u, self.tables(u.dtype))

    def residual(self, f: Array, u: Array | None) -> Array:
        return f if u is None else kernels.of(f).residual(f, u, self.tables(u.dtype))

    def residual_norm(self, f: Array, u: Array | None) -> float:
        """Return ||f - A u||."""
        return kernels.of(f).norm(self.residual(f, u))


class Rim(NamedTuple):
    """Couplings of unknowns to points where u is given: the indices of both in raveled arrays, and the weights."""

    unknown: NDArray[np.int64]
    given: NDArray[np.int64]
    weights: Numbers


@final
class CoupledOperator(Operator):
    """A u with coefficients of their own at every point; `volumes` relates the symmetric form to the discrete equation.

    A u = (couplings and excess) u / volumes. Outside of `mask`, A is a multiple of the identity, and no unknown is coupled to
    it: the couplings that lead outside are part of the excess, as at a Dirichlet side.
    """

    def __init__(self, grid: Grid, faces: Faces, reaction: Numbers, mask: NDArray[np.bool_] | None = None) -> None:
        """`reaction`: c at the unknowns, or a number. `mask`: where there are unknowns; None is everywhere."""
        self.grid, self.faces, self.reaction_field, self.mask = grid, faces, reaction, mask

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("grid", "faces", "reaction_field", "mask")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __repr__(self) -> str:
        low, high = min(float(face.min()) for face in self.faces), max(float(face.max()) for face in self.faces)
        shape = " x ".join(map(str, self.grid.shape))
        return f"<CoupledOperator: {shape} unknowns, coefficients from {low:.3g} to {high:.3g}>"

    @property
    def reaction(self) -> float:
        """The least value of c."""
        return float(np.min(self.reaction_field))

    @property
    def keeps_constants(self) -> bool:
        """Whether c is the same everywhere, so that A 1 = c 1 away from Dirichlet sides."""
        return np.ndim(self.reaction_field) == 0

    @cached_property
    def least(self) -> float:
        """The least value of the coefficient."""
        return min(float(face.min()) for face in self.faces)

    @cached_property
    def volumes(self) -> Numbers | None:
        """Volume of the cell of each unknown in units of that inside; None where all are 1."""
        weights = [axis.weights / axis.h for axis in self.grid.axes]
        return None if all((weight == 1.0).all() for weight in weights) else _outer(weights)

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
        """The symmetric form, and the couplings that lead out of the mask."""
        grid, ndim = self.grid, self.grid.ndim
        excess = np.broadcast_to(np.asarray(self.reaction_field, np.float64), grid.shape).copy()
        if self.volumes is not None:
            excess *= self.volumes
        offsets = halves(ndim, full=False)
        couplings = np.zeros((len(offsets), *grid.shape))
        for half, offset in enumerate(offsets):
            number = int(np.argmax(offset)) - (3 - ndim)
            axis, faces = grid.axes[number], np.moveaxis(self._conductances(number), number, 0)
            own = np.moveaxis(couplings[half], number, 0)
            own[: axis.n - 1] = faces[1:-1]
            if axis.periodic:
                own[-1] = faces[-1] if axis.n > 1 else 0.0
            at = np.moveaxis(excess, number, 0)
            for end, side in ((0, axis.low), (-1, axis.high)):
                if side is Dirichlet:
                    at[end] += _steps_to_side(axis) * faces[end]
        rim = self._cut(offsets, couplings, excess)
        box = (1,) * (3 - ndim) + grid.shape
        return symmetric_stencil(offsets, couplings.reshape(-1, *box), excess.reshape(box)), rim

    def _cut(self, offsets: NDArray[np.int64], couplings: Numbers, excess: Numbers) -> Rim:
        """Make the couplings that lead out of the mask part of the excess; return them."""
        nothing = np.zeros(0, np.int64)
        if self.mask is None:
            return Rim(nothing, nothing, np.zeros(0))
        mask, parts = self.mask, []
        numbers = np.arange(mask.size).reshape(mask.shape)
        for offset, coupling in zip(offsets, couplings, strict=True):
            there = np.roll(numbers, tuple(-int(step) for step in offset[3 - mask.ndim :]), axis=tuple(range(mask.ndim)))
            beyond = mask.ravel()[there]
            for out, unknown, given in ((mask & ~beyond, numbers, there), (~mask & beyond, there, numbers)):
                parts.append(Rim(unknown[out], given[out], coupling[out]))
            coupling[~(mask & beyond)] = 0.0
        rim = Rim(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        np.add.at(excess.reshape(-1), rim.unknown, rim.weights)
        excess[~mask] = excess.max() + couplings.max(initial=0.0)
        return rim

    def fold_outside(self, b: Array, outside: Numbers) -> None:
        """Add to b what the values outside of the mask contribute; outside, b becomes zero."""
        assert self.mask is not None
        rim = self._form[1]
        added = np.zeros(b.shape)
        np.add.at(added.reshape(-1), rim.unknown, rim.weights * outside.ravel()[rim.given])
        b += self._divided(added).astype(b.dtype)
        b[~self.mask] = 0.0

    def _conductances(self, number: int) -> Numbers:
        """Return a area / h at the faces of an axis, in units of the volume inside."""
        axis = self.grid.axes[number]
        areas = _outer([np.ones(1) if other == number else a.weights / a.h for other, a in enumerate(self.grid.axes)])
        return self.faces[number] * areas / axis.h**2

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

    def fold(self, b: Array, number: int, end: int, value: NDArray[Any]) -> None:
        """Add to b, at one end of an axis, what a value (or a flux a du/dn) on that side contributes."""
        axis = self.grid.axes[number]
        at = np.moveaxis(b, number, 0)
        if (axis.low if end == 0 else axis.high) is Dirichlet:
            faces = np.moveaxis(self.faces[number], number, 0)[end]
            steps = _steps_to_side(axis) / (axis.h * axis.weights[end])  # one vertex may have a Neumann side beside it
            at[end] += (steps * faces * value).astype(b.dtype)
        else:
            at[end] += (value / axis.weights[end]).astype(b.dtype)

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
        return float((2.0 * self.diagonal() - self._divided(self.stencil.excess.reshape(self.grid.shape).copy())).max())

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """Lower bound of the smallest eigenvalue of A that is not zero; infinity where there is none."""
        return self.grid.smallest_eigenvalue([float(face.min()) for face in self.faces], self.reaction)


def _steps_to_side(axis: Axis) -> float:
    """Return by how much closer than a spacing a Dirichlet side is: twice, for cells."""
    return 2.0 if axis.centering == "cell" else 1.0


def _outer(vectors: Sequence[Numbers]) -> Numbers:
    product = np.ones(())
    for vector in vectors:
        product = np.multiply.outer(product, vector)
    return product


def in_precision(stencil: SymmetricStencil, dtype: np.dtype) -> SymmetricStencil:
    """Return a stencil in another precision."""
    arrays = {name: getattr(stencil, name).astype(dtype) for name in ("couplings", "excess", "diagonal", "inverse")}
    return stencil._replace(**arrays)


def matrix_of(stencil: SymmetricStencil) -> sparse.csr_array:
    """Return a symmetric stencil as a sparse matrix."""
    from scipy import sparse  # imported here: it takes longer to load than a small problem to solve

    shape = stencil.excess.shape
    numbers = np.arange(stencil.excess.size).reshape(shape)
    rows, columns, values = [numbers.ravel()], [numbers.ravel()], [stencil.diagonal.ravel()]
    for offset, coupling in zip(stencil.offsets, stencil.couplings, strict=True):
        there, kept = numbers, coupling.ravel() != 0.0
        for axis, step in enumerate(offset):
            there = np.roll(there, -step, axis=axis)
        one, other, value = numbers.ravel()[kept], there.ravel()[kept], -coupling.ravel()[kept]
        rows += [one, other]
        columns += [other, one]
        values += [value, value]
    triplets = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(sparse.coo_array(triplets, shape=(numbers.size, numbers.size)))
