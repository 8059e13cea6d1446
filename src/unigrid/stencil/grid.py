"""Grids, one axis at a time: which points are unknowns, what closes an axis at its ends, and the next coarser grid.

A boundary condition replaces the missing neighbor by `weight * u[stand-in] + gain * value`: an odd reflection (Dirichlet), an
even one (Neumann) or the other end (periodic). Inside the cycle every condition is homogeneous, so `weight` and the
stand-in are all that kernels, matrices and transfers need
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import numpy.ma  # at once: NumPy loads it when first used, and does not survive being interrupted there
from numpy.typing import ArrayLike, NDArray

from ..messages import checked_number, choose, entries_of, per_axis, plain_number, refuse_lost_gradient, shown
from ..reflection import Reflection, Sides

if TYPE_CHECKING:
    from scipy import sparse

    from . import stretched

# An axis whose spacing is at least this many times the finest is not coarsened: point smoothers smooth along the strong axes
# alone, so coarsening the weak ones would lose errors that nothing has smoothed (at spacings 1:2,
# 100^2, a ratio of 2.1 raises the factor of V(2,2) from 0.08 to 0.23).
SEMICOARSENING_RATIO = 1.5
MOST_UNKNOWNS = 2**48
SMALLEST_SPACING, LARGEST_SPACING = 1e-70, 1e70  # between them 1/h^2, and its square in a norm, can be computed
Array = NDArray[np.floating]
CENTERINGS = ("vertex", "cell")


class Ghost(NamedTuple):
    """The missing neighbor of the unknown at an end: weight * u[inward] + gain * value, `inward` steps from that end."""

    inward: int
    weight: float
    gain: float


@final
@dataclass(frozen=True, eq=False)
class Dirichlet:
    """u = value on this side. `value`: a number, or an array of the shape of f less this axis.

    Vertex centering: the boundary node holds the value and is no unknown. Cell centering: the side is half a spacing from
    the first unknown and the ghost is 2 value - u.
    """

    value: ArrayLike = 0.0

    def ghost(self, centering: str, h: float) -> Ghost:
        """Return the ghost value as an affine function of the unknown that it refers to."""
        return Ghost(0, 0.0, 1.0) if centering == "vertex" else Ghost(0, -1.0, 2.0)


@final
@dataclass(frozen=True, eq=False)
class Neumann:
    """du/dn = flux on this side, n the outward normal. `flux`: a number, or an array of the shape of f less this axis.

    Vertex centering: the boundary node is an unknown, its ghost is the mirrored node + 2 h flux. Cell centering: the ghost
    is u + h flux.
    """

    flux: ArrayLike = 0.0

    @property
    def value(self) -> ArrayLike:
        """The flux, under the name that all conditions share."""
        return self.flux

    def ghost(self, centering: str, h: float) -> Ghost:
        """Return the ghost value as an affine function of the unknown that it refers to."""
        return Ghost(1, 1.0, 2.0 * h) if centering == "vertex" else Ghost(0, 1.0, h)


@final
@dataclass(frozen=True, eq=False)
class Periodic:
    """The two sides of this axis are one."""

    @property
    def value(self) -> ArrayLike:
        """Zero: nothing is prescribed."""
        return 0.0

    def ghost(self, centering: str, h: float) -> Ghost:
        """Return the ghost value as an affine function of the unknown that it refers to."""
        return Ghost(-1, 1.0, 0.0)  # one step outward from one end is the other end


@final
@dataclass(frozen=True, eq=False)
class Robin:
    """a du/dn + alpha u = value on this side, n the outward normal: heat given off to a medium, for example.

    `alpha` >= 0 and `value`: numbers, or arrays of the shape of f less this axis. alpha = 0 is `Neumann(value)`. The unknowns
    are those of a Neumann side. Vertex centering: the boundary node's balance has the flux value - alpha u. Cell centering: u
    on the side, half a spacing away, is eliminated, which leaves the flux (value - alpha u) / (1 + alpha h / 2a). A medium
    at temperature T has value = alpha T.

    Open sides: where u decays as r^-k far away (k = 1 around charges in space), alpha = k (x . n) / |x|^2 lets it, x from the
    middle of what causes u. (Two charge clouds, a box twice as wide as they are apart: u = 0 on the sides leaves an error
    of 0.17 of u, such sides one of 0.008.) See examples/flow_around_a_cylinder.py.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> cooled = unigrid.Robin(alpha=2.0, value=2.0 * 20.0)
    >>> unigrid.solve(np.zeros((30, 30)), boundary=[(unigrid.Dirichlet(100.0), cooled), "neumann"]).converged
    True

    Source: S. Patankar, Numerical heat transfer and fluid flow (1980), section 4.2.
    """

    alpha: ArrayLike
    value: ArrayLike = 0.0


Mirror = Dirichlet | Neumann | Periodic  # which a ghost value stands for
Condition = Mirror | Robin
NAMES: dict[str, type[Mirror]] = {"dirichlet": Dirichlet, "neumann": Neumann, "periodic": Periodic}
_HOW = (
    f"{', '.join(map(repr, NAMES))}, unigrid.Dirichlet(value), unigrid.Neumann(flux), unigrid.Robin(alpha, value) or "
    "unigrid.Periodic(), for all sides or one per axis, an axis' entry may be a (low, high) pair"
)


def checked_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return the number of unknowns along each axis. Raises ValueError."""
    entries = entries_of(shape)
    entries = (shape,) if entries is None else entries
    if not 1 <= len(entries) <= 3:
        raise ValueError(f"a problem has 1, 2 or 3 axes, got shape {shown(entries)}")
    numbers = [n for n in map(plain_number, entries) if type(n) is int and n >= 1]
    if len(numbers) < len(entries):
        raise ValueError(f"shape must hold integers >= 1, got {shown(entries)}")
    if math.prod(numbers) > MOST_UNKNOWNS:
        raise ValueError(f"a grid of shape {shown(entries)} has more unknowns than any memory holds; take a coarser one")
    return tuple(numbers)


def checked_lengths(
    intervals: list[int], lengths: float | Sequence[float] | None, spacing: float | Sequence[float] | None
) -> list[float]:
    """Return the length of every axis, from lengths or spacing."""
    if lengths is not None and spacing is not None:
        raise ValueError(f"give lengths or spacing, not both; got lengths={shown(lengths)} and spacing={shown(spacing)}")
    if lengths is not None:
        return per_axis(lengths, len(intervals), "lengths")
    if spacing is None:
        spacing = 1.0 / intervals[0]
    return [h * count for h, count in zip(per_axis(spacing, len(intervals), "spacing"), intervals, strict=True)]


def parse_boundary(boundary: Any, ndim: int) -> tuple[tuple[Condition, Condition], ...]:
    """Return the (low, high) pair of conditions of every axis. Raises ValueError or TypeError, naming what is allowed."""
    if isinstance(boundary, str | Condition):
        return (_parse_axis(boundary, 0),) * ndim
    if not isinstance(boundary, Sequence):
        raise TypeError(f"boundary must be {_HOW}; got {shown(boundary)}")
    if len(boundary) != ndim:
        hint = "; a (low, high) pair for the only axis is written [(low, high)]" if ndim == 1 and len(boundary) == 2 else ""
        raise ValueError(f"boundary has {len(boundary)} entries for {ndim} ax{'i' if ndim == 1 else 'e'}s; give {_HOW}{hint}")
    return tuple(_parse_axis(entry, axis) for axis, entry in enumerate(boundary))


def _parse_axis(entry: Any, axis: int) -> tuple[Condition, Condition]:
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        if len(entry) != 2:
            raise ValueError(f"boundary of axis {axis} must be one entry or a (low, high) pair, got {len(entry)} entries")
        low, high = (_parse_side(side, axis) for side in entry)
    else:
        low = high = _parse_side(entry, axis)
    if isinstance(low, Periodic) != isinstance(high, Periodic):
        raise ValueError(f"boundary of axis {axis} is periodic on one side alone; 'periodic' stands for both sides")
    return low, high


def _parse_side(side: Any, axis: int) -> Condition:
    if isinstance(side, Condition):
        return side
    if isinstance(side, str) and side.lower() == "robin":
        raise ValueError(f"boundary of axis {axis} is 'robin', which needs numbers: unigrid.Robin(alpha, value)")
    if isinstance(side, str):
        return NAMES[choose(side.lower(), NAMES, f"boundary of axis {axis}")]()
    raise TypeError(f"boundary of axis {axis} must be {_HOW}; got {shown(side)}")


def kind_of(condition: Condition) -> type[Mirror]:
    """Return the kind of condition of an axis: a Robin side has the unknowns of a Neumann side."""
    return Neumann if isinstance(condition, Robin) else type(condition)


def side_values(given: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Return values on a side as a float64 array: a scalar, or of `shape`. Raises ValueError or TypeError otherwise."""
    refuse_lost_gradient(name, given)
    if plain_number(given) is not None:
        return np.array(checked_number(name, given, "a finite number, or an array of them", lambda number: True))
    values = np.array(finite_array(given, name), dtype=np.float64)  # a copy: the caller may change his own later
    if values.ndim == 0:
        raise TypeError(f"{name} must be a number or an array of real numbers, got {shown(given)}")
    if values.shape != shape:
        raise ValueError(f"{name} must be a number or an array of shape {shape} (f's less that axis), got {values.shape}")
    return values


@final
@dataclass(frozen=True)
class Axis:
    """One axis of a box: `n` unknowns `h` apart, and the kind of condition at either end.

    A stretched axis has `distances` of its own (see `stretched`), and `h` is their mean.
    """

    n: int
    h: float
    low: type[Mirror]
    high: type[Mirror]
    centering: str
    distances: tuple[float, ...] = ()

    @staticmethod
    def of_length(n: int, length: float, low: type[Mirror], high: type[Mirror], centering: str) -> Axis:
        unit = Axis(n, 1.0, low, high, centering)
        return replace(unit, h=length / unit.intervals)

    @property
    def periodic(self) -> bool:
        return self.low is Periodic

    @property
    def singular(self) -> bool:
        """Whether a constant along this axis is in the null space of its second difference."""
        return Dirichlet not in (self.low, self.high)

    @property
    def intervals(self) -> int:
        """Length over spacing."""
        if self.centering == "cell" or self.periodic:
            return self.n
        return self.n + 1 - (self.low is Neumann) - (self.high is Neumann)

    @property
    def length(self) -> float:
        return self.intervals * self.h

    @property
    def origin(self) -> float:
        """Coordinate of unknown 0, in units of h."""
        if self.centering == "cell":
            return 0.5
        return 1.0 if self.low is Dirichlet else 0.0

    @property
    def positions(self) -> NDArray[np.float64]:
        """Coordinates of the unknowns, shape (n,), the low side at 0."""
        if self.distances:
            return self._stretched.positions
        return (np.arange(self.n, dtype=np.float64) + self.origin) * self.h

    @property
    def weights(self) -> NDArray[np.float64]:
        """Length of the cell of each unknown, shape (n,): h, halved at a vertex-Neumann end."""
        if self.distances:
            return self._stretched.weights
        weights = np.full(self.n, self.h)
        if self.centering == "vertex":
            weights[0] *= 0.5 if self.low is Neumann else 1.0
            weights[-1] *= 0.5 if self.high is Neumann else 1.0
        return weights

    @property
    def steps(self) -> NDArray[np.float64]:
        """Distances from each unknown to the one before it, shape (n + 1,); at the ends to the side, or the other end."""
        if self.distances:
            return self._stretched.steps
        steps = np.full(self.n + 1, self.h)
        if self.centering == "cell" and not self.periodic:
            steps[[0, -1]] *= 0.5
        return steps

    @property
    def faces(self) -> NDArray[np.float64]:
        """Coordinates of the faces between the cells of the unknowns, shape (n + 1,), the first and the last on the sides."""
        if self.distances:
            return self._stretched.faces
        faces = (np.arange(self.n + 1) + self.origin - 0.5) * self.h
        return np.mod(faces, self.length) if self.periodic else np.clip(faces, 0.0, self.length)

    @property
    def _stretched(self) -> stretched.Stretched:
        from .stretched import Stretched  # imported here: uniform axes do without

        nodes = self.low is Neumann, self.high is Neumann
        return Stretched(np.array(self.distances), self.centering, self.periodic, nodes)

    def ghosts(self) -> tuple[Ghost, Ghost]:
        """Return the ghost values at the low and at the high end; `inward` is an index of this axis here."""
        low, high = (side().ghost(self.centering, self.h) for side in (self.low, self.high))
        low_index, high_index = low.inward, self.n - 1 - high.inward
        if self.periodic:
            return low._replace(inward=low_index % self.n), high._replace(inward=high_index % self.n)
        # One vertex between a Dirichlet and a Neumann side: the mirrored node is the Dirichlet node, which has its value twice.
        if low_index >= self.n:
            low, high, low_index = low._replace(weight=0.0), high._replace(gain=high.gain + low.weight), 0
        if high_index < 0:
            low, high, high_index = low._replace(gain=low.gain + high.weight), high._replace(weight=0.0), 0
        return low._replace(inward=low_index), high._replace(inward=high_index)

    @property
    def reflections(self) -> tuple[Reflection, Reflection]:
        """The reflections beyond the low and the high end."""
        low, high = (side().ghost(self.centering, self.h) for side in (self.low, self.high))
        return Reflection(low.inward, low.weight), Reflection(high.inward, high.weight)

    def second_difference(self) -> sparse.csr_array:
        """Return the (n, n) matrix of -u'' along this axis."""
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve

        inner = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(self.n, self.n))
        ends, ghosts = [0, self.n - 1], self.ghosts()
        entries = [-ghost.weight for ghost in ghosts], (ends, [ghost.inward for ghost in ghosts])
        return sparse.csr_array((inner + sparse.coo_array(entries, shape=(self.n, self.n))) / self.h**2)

    @property
    def diagonal(self) -> NDArray[np.float64]:
        """The diagonal of `second_difference`, shape (n,): 2/h^2, less where a ghost is made of the end itself."""
        diagonal = np.full(self.n, 2.0)
        for end, ghost in zip((0, self.n - 1), self.ghosts(), strict=True):
            if ghost.inward == end:
                diagonal[end] -= ghost.weight
        return diagonal / self.h**2

    def frequencies(self, k: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the angles between neighboring unknowns of the eigenvectors number k, 0 <= k < n, along this axis."""
        if self.periodic:
            return 2.0 * np.pi * k / self.n
        if self.low is not self.high:
            return np.pi * (k + 0.5) / self.intervals
        return np.pi * (k + (self.low is Dirichlet)) / self.intervals

    def eigenvalues(self, k: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the eigenvalues number k of -u'' along this axis."""
        return self.diagonal[k] if self.n == 1 else (2.0 * np.sin(self.frequencies(k) / 2.0) / self.h) ** 2

    def coarsened(self) -> Axis | None:
        """Return the axis of ceil(intervals / 2) intervals over the same length, or None where one unknown is left."""
        if self.n == 1:
            return None
        intervals = math.ceil(self.intervals / 2)
        h = self.length / intervals
        if self.intervals == 1:  # two Neumann nodes: only the constant between them is left
            return replace(self, n=1, h=h, centering="cell")
        return replace(self, n=self.n - self.intervals + intervals, h=h)


@final
@dataclass(frozen=True)
class Grid:
    """A box of unknowns: the tensor product of its axes."""

    axes: tuple[Axis, ...]

    def __getstate__(self) -> dict[str, tuple[Axis, ...]]:
        return {"axes": self.axes}

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.n for axis in self.axes)

    @cached_property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        return tuple(axis.h for axis in self.axes)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Volume of the cell of each unknown, shape `shape`."""
        weights = np.ones(())
        for axis in self.axes:
            weights = np.multiply.outer(weights, axis.weights)
        return weights

    @cached_property
    def sides(self) -> Sides:
        """The reflections beyond the ends of every axis."""
        return tuple(axis.reflections for axis in self.axes)

    def smallest_eigenvalue(self, coefficients: Sequence[float], reaction: float) -> float:
        """Return the smallest eigenvalue that is not zero, one coefficient per axis; infinity where there is none."""
        pairs = list(zip(coefficients, self.axes, strict=True))
        first = [a * float(axis.eigenvalues(np.array([0]))[0]) for a, axis in pairs]
        second = [a * float(axis.eigenvalues(np.array([1]))[0]) for a, axis in pairs if axis.n > 1]
        return sum(first) + reaction or min(second, default=math.inf)

    def has_constant_apart(self, reaction: float) -> bool:
        """Whether the constant part of the solution of -Laplace(u) + c u = f is to be found apart from the cycles.

        Every side is Neumann or periodic: then constants are eigenvectors, A 1 = c 1, and so is what is orthogonal to them. And
        c is at most the next eigenvalue of the box: coarse-grid correction would amplify the rounding in the constant by 1/c,
        which leaves no trace in the residual.
        """
        turns = ((2.0 if axis.periodic else 1.0) / axis.length for axis in self.axes if axis.n > 1)
        following = min(((math.pi * turn) ** 2 for turn in turns), default=math.inf)
        return 0.0 <= reaction <= following and all(axis.singular for axis in self.axes)

    def without(self, axis: int) -> tuple[Axis, ...]:
        """Return the other axes: those of the sides at the ends of axis `axis`."""
        return self.axes[:axis] + self.axes[axis + 1 :]

    @cached_property
    def strong_axes(self) -> tuple[bool, ...]:
        """Which axes couple their unknowns strongly enough for point smoothing, and so take part in coarsening."""
        finest = min((axis.h for axis in self.axes if axis.n > 1), default=0.0)
        return tuple(axis.n > 1 and axis.h < SEMICOARSENING_RATIO * finest for axis in self.axes)

    def coarsened(self) -> Grid | None:
        """Return the next grid, every strong axis coarsened; None where one unknown is left."""
        if self.size == 1:
            return None
        pairs = zip(self.axes, self.strong_axes, strict=True)
        return Grid(tuple((axis.coarsened() or axis) if strong else axis for axis, strong in pairs))


# Arrays over a grid: real numbers, in single or double precision, all of them finite


def real_array(array: ArrayLike, name: str) -> Array:
    """Return `array` as float32 or float64; integers and half precision are promoted. Raises TypeError if it is not real."""
    if type(array) is not np.ndarray:
        from ..arrays import numbers_of

        array = numbers_of(array, name)
    try:
        array = np.asarray(array)
    except Exception as error:  # rows of different lengths, tensors among the entries, an `__array__` that fails
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} must be an array of real numbers, its rows of one length, got {shown(array)}") from None
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return array.astype(np.float32, copy=False)
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return array.astype(np.float64, copy=False)
    wanted = f"{name} must be an array of real numbers (float32, float64, integers), got dtype {array.dtype}"
    raise TypeError(f"{wanted}; give numpy.asarray(numbers).real.astype(float)")


def double_array(array: Any, name: str) -> NDArray[np.float64]:
    """Return a new float64 array of what `real_array` takes, or of a tensor. Raises TypeError or ValueError."""
    if hasattr(array, "detach") and not array.is_complex():
        array = array.detach().cpu().double().numpy()
    return np.array(real_array(array, name), dtype=np.float64)


def _all_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite; without an array of truth values. Both extremes are NaN where one value is."""
    return array.size == 0 or (math.isfinite(array.min()) and math.isfinite(array.max()))


def finite_array(array: ArrayLike, name: str) -> Array:
    """Return `array` as `real_array` does; raise ValueError with the first index where it is NaN or infinite."""
    array = real_array(array, name)
    if not _all_finite(array):
        bad = np.argwhere(~np.isfinite(array))
        index = tuple(int(i) for i in bad[0])
        place = f"{name}[{', '.join(map(str, index))}]" if index else "it"
        raise ValueError(f"{name} must be finite, but {place} is {array[index]} ({len(bad)} such in all)")
    return array


def refuse_picture(f: ArrayLike, channels: str | None = None) -> None:
    """Raise ValueError for a picture whose last axis is taken for one of space, or whose numbers stand for colors."""
    bands, dtype = getattr(f, "getbands", None), getattr(f, "dtype", None)
    if bands is None and dtype not in (np.uint8, np.uint16):
        return
    shape = np.shape(f)
    if channels is None and len(shape) == 3 and (bands or shape[2] in (2, 3, 4)):
        raise ValueError(
            f'f of shape {shape} looks like a picture of {shape[2]} channels: unigrid.solve(f, channels="last") solves for '
            "each of them; as a problem in 3-D, give numpy.asarray(f, float)"
        )
    if bands and getattr(f, "mode", "").startswith("P"):
        raise ValueError('f is a picture with a palette, whose numbers are no values; give f.convert("L") or f.convert("RGB")')
