"""The slot S of black box multigrid: relaxation of points and of lines, by symmetric stencils, and a user's own smoother.

Arrays on a level are boxes of three axes, missing leading ones of one point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MOST_STEPS, Operator, Smoother, Steps
from ..messages import checked_count, checked_number, choose, entries_of, plain_number, shown
from .coupled import SymmetricOperator
from .kernels.cpu import coupled
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .slots import OWN_SMOOTHERS, FittedSmoother
from .smoothers import RedBlack, own_copy

Array = NDArray[np.floating]
NAMES = ("auto", "points", "lines")
OMEGA = {1: 1.0, 2: 1.15, 3: 1.2}  # of point relaxation, by dimension: quadrant 1e6 at 127^2 .068 -> .023 a cycle
# In 2-D, where coefficients vary at random: so many times the steps, which cost little in one pass over memory, and another
# omega. What converges slowly are clusters that no coarse point stands for. Two phases of 1 and 1e3, cells, 511^2, periodic
# along one axis: 2, 4, 6, 8 and 12 steps with 1.45 take 46, 35, 29, 26 and 23 iterations, 8 with 1.7 23, 14 with 1.85 16, in
# less time than a sweep of lines, which takes 40. From 255^2 to 511^2 iterations grow by 8 with 8 steps, 5 with 12, 4 with 14.
MANY, OMEGA_OF_MANY = 7, 1.85


@final
@dataclass(frozen=True)
class Points(Smoother):
    """Gauss-Seidel by colors, over-relaxed: two colors where points couple along axes alone, else 2^d."""

    omega: float = OMEGA[2]
    backward: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "omega", checked_number("omega", self.omega, "a finite number > 0", lambda value: value > 0))

    def __call__(self, operator: SymmetricOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: SymmetricOperator, b: Array, u: Array) -> Array:
        stencil = _tables(operator, u.dtype)
        coupled.relax_colors(u, b, self.omega, colors_of(stencil), stencil, self.backward)
        return u

    def adjoint(self) -> Points:
        """Return the sweep in the opposite order."""
        return Points(self.omega, not self.backward)


@final
@dataclass(frozen=True)
class Lines(Smoother):
    """Zebra line relaxation, along one axis after the other: whole lines at once, every other one first.

    `axes` counts as NumPy does, from the first or, negative, from the last axis.
    """

    axes: tuple[int, ...]
    backward: bool = False

    def __post_init__(self) -> None:
        numbers = tuple(plain_number(axis) for axis in entries_of(self.axes) or ())
        if not numbers or any(type(axis) is not int or not -3 <= axis < 3 for axis in numbers):
            raise ValueError(f"axes of Lines must be one or more integers from -3 to 2, got {shown(self.axes)}")
        object.__setattr__(self, "axes", numbers)

    @property
    def cost(self) -> float:
        """Sweeps per step."""
        return float(len(self.axes))

    def from_the_last(self, ndim: int) -> Lines:
        """Return the same for a grid of `ndim` axes, counted from the last axis, as they are in a box of three axes too."""
        if not all(-ndim <= axis < ndim for axis in self.axes):
            raise ValueError(f"axes of Lines must be from {-ndim} to {ndim - 1} on a grid of {ndim} axes, got {self.axes}")
        return Lines(tuple(axis if axis < 0 else axis - ndim for axis in self.axes), self.backward)

    def adjoint(self) -> Lines:
        """Return the sweeps in the opposite order."""
        return Lines(self.axes[::-1], not self.backward)

    def __call__(self, operator: SymmetricOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: SymmetricOperator, b: Array, u: Array) -> Array:
        for axis in self.from_the_last(u.ndim).axes:
            coupled.relax_lines(u, b, axis + 3, _tables(operator, u.dtype), self.backward)
        return u


def colors_of(stencil: SymmetricStencil) -> int:
    """Return how many colors points have: two where they couple along axes alone, else one for each combination of parities."""
    return 2 if len(stencil.offsets) <= sum(n > 1 for n in stencil.excess.shape) else 8


def _tables(operator: Any, dtype: np.dtype) -> SymmetricStencil:
    """Return the stencil of a level of black box multigrid. Raises TypeError for other operators."""
    stencil = operator.tables(dtype)
    if not isinstance(stencil, SymmetricStencil):
        raise TypeError(
            "unigrid.Points and unigrid.Lines smooth in a unigrid.GalerkinCycle; a unigrid.StencilCycle takes unigrid.RedBlack"
        )
    return stencil


@final
class LevelOperator(Operator):
    """A of a level, as a user's smoother receives it: for arrays with as many axes as the problem has."""

    def __init__(self, operator: SymmetricOperator, shape: tuple[int, ...]) -> None:
        self._operator, self._shape = operator, shape

    def __call__(self, u: Array) -> Array:
        return self._operator(u)

    def diagonal(self) -> Array:
        """Return the diagonal of A, shape of the grid."""
        return self._operator.stencil.diagonal.reshape(self._shape).copy()


@final
@dataclass(frozen=True)
class OnGrid(Smoother):
    """A user's smoother, between boxes of three axes and arrays with as many axes as the problem has."""

    smoother: FittedSmoother
    ndim: int

    @property
    def cost(self) -> float:
        """Work of one call."""
        return self.smoother.cost

    def __call__(self, operator: SymmetricOperator, b: Array, u: Array | None) -> Array:
        shape = b.shape[b.ndim - self.ndim :]
        start = None if u is None else u.reshape(shape)
        return self.smoother(LevelOperator(operator, shape), b.reshape(shape), start).reshape(b.shape)

    def overwrite(self, operator: SymmetricOperator, b: Array, u: Array) -> Array:
        shape = b.shape[b.ndim - self.ndim :]
        return self.smoother.overwrite(LevelOperator(operator, shape), b.reshape(shape), u.reshape(shape)).reshape(b.shape)


def checked_smoother(given: Any, ndim: int) -> str | Smoother:
    """Return a smoother for levels of a grid of `ndim` axes, or the name of one. Raises ValueError or TypeError."""
    if isinstance(given, str):
        return choose(given, NAMES, "smoother")
    if isinstance(given, (Points, OnGrid)):
        return given
    if isinstance(given, Lines):
        return given.from_the_last(ndim)
    if isinstance(given, RedBlack) and not isinstance(given.omega, tuple) and given.first == "red":
        return Points(given.omega)
    if isinstance(given, Smoother) and not isinstance(given, OWN_SMOOTHERS):
        return OnGrid(FittedSmoother(given), ndim)
    raise TypeError(
        f"smoother must be one of {', '.join(map(repr, NAMES))}, unigrid.Points(omega), unigrid.Lines(axes), "
        f"unigrid.RedBlack(omega), or an object of your own subclass of unigrid.Smoother; got {shown(given)}"
    )


def lines_of(shape: tuple[int, ...]) -> Lines:
    """Return lines along every axis of a box that has more than one point, the last axis first."""
    return Lines(tuple(axis for axis in (-1, -2, -3) if shape[axis] > 1) or (-1,))


def _described(smoother: Smoother | None, ndim: int) -> str:
    """Return the name of a step of a smoother, with its parameters."""
    if isinstance(smoother, Points):
        return f"points, omega {smoother.omega:g}" + ", backward" * smoother.backward
    if isinstance(smoother, Lines):
        return f"zebra lines along {', '.join('xyz'[axis + ndim] for axis in smoother.axes)}"
    return type(smoother.smoother.smoother).__name__ if isinstance(smoother, OnGrid) else "direct solve"


def words_of(smoother: Smoother | None, ndim: int) -> str:
    """Describe a slot before or after the correction."""
    if smoother is None:
        return "no smoothing"
    return (
        f"{smoother.count} x {_described(smoother.step, ndim)}" if isinstance(smoother, Steps) else _described(smoother, ndim)
    )


def level_slot(given: Any, ndim: int, coarsest: bool) -> Smoother | None:
    """Return the slot of a level: steps, but for the coarsest level; None for none."""
    if given is None:
        return None
    if isinstance(given, Steps):
        return Steps(_one_smoother(given.step, ndim), given.count)
    smoother = _one_smoother(given, ndim)
    return smoother if coarsest else Steps(smoother, 1)


def _one_smoother(given: Any, ndim: int) -> Smoother:
    smoother = checked_smoother(given, ndim)
    if isinstance(smoother, str):
        raise ValueError(f"a level takes a smoother itself, unigrid.Points(omega), for example; got the name {smoother!r}")
    return smoother


def checked_steps(steps: Any, default: int) -> tuple[int, int]:
    """Return the steps before and after the correction. Raises ValueError."""
    if steps is None:
        return default, default
    entries = entries_of(steps)
    if entries is None:
        count = checked_count("steps", steps, most=MOST_STEPS)
        return count, count
    if len(entries) != 2:
        raise ValueError(f"steps must be an integer, or two: before and after the correction; got {shown(steps)}")
    before, after = (checked_count("steps", entry, 0, MOST_STEPS) for entry in entries)
    if before == after == 0:
        raise ValueError("steps are both 0: a cycle without smoothing does not converge; give at least one")
    return before, after
