"""Black box multigrid for a single solve: levels that hold their coefficients in the precision of its cycles alone.

Each level is packed as soon as the next coarser one has been made of it, and the arrays that it was made of are dropped: in
single precision the hierarchy takes a third of the memory. Where cycles in double precision are needed after all, single
precision is dropped and the hierarchy made again.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, NestedLevel
from ..messages import choose
from .galerkin import KINDS, SINGLE_FROM, GalerkinCycle
from .galerkin_levels import CoupledLevel, one_by_one, repeats_of, smoothed
from .iterations import SINGLE
from .kernels.cpu.fused_points import FusedPoints
from .kernels.workspace import pool
from .problem import Poisson
from .relaxation import checked_smoother, checked_steps

Array = NDArray[np.floating]
DOUBLE = np.dtype(np.float64)
# Of diagonals: from here on cycles run in double precision at once, as they mostly would later. Inclusion, 1e6, 1023^2: 191 ms,
# not 270, as levels are made once; checkerboard of 1e6, 255^2: 6 iterations, not 9.
SPOILING = 1e5
NOTHING = np.empty((0, 0, 0))


@final
class PackedLevel(NestedLevel):
    """A level whose half-cycles are fused, for arrays of one precision; it has no operator."""

    def __init__(self, level: CoupledLevel, fused: FusedPoints, dtype: np.dtype) -> None:
        self.shape, self.jumps, self.roughness, self.many_jumps = level.shape, level.jumps, level.roughness, level.many_jumps
        self._fused = fused
        fused.hold(dtype)

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        return *self._fused.descend(b, u), None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        return self._fused.ascend(b, u, coarse)

    def right_hand_side(self, f: Array) -> Array:
        return f

    def nested_restriction(self, f: Array) -> Array:
        return self._fused.restricted(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self._fused.interpolated(u)


def cycle_for_one_solve(problem: Poisson, *, cycle: str, smoother: Any) -> GalerkinCycle:
    """Return the cycle for a single solve by conjugate gradients whose cycles run in single precision, in less memory.

    Where the problem does not allow it, this is the cycle that keeps all it makes.
    """
    smoother = checked_smoother(smoother, problem.grid.ndim)
    if problem.grid.size < SINGLE_FROM or not isinstance(smoother, str) or not _serves(problem):
        return GalerkinCycle(problem, cycle=cycle, smoother=smoother)
    choose(cycle, KINDS, "cycle")
    steps = checked_steps(None, 1 if smoother == "lines" else 2)
    hierarchy = PackedHierarchy(problem, smoother, steps)
    levels = hierarchy.levels_in(DOUBLE if _jumps(problem) else SINGLE)
    made = object.__new__(GalerkinCycle)
    vars(made).update(
        problem=problem, kind=cycle, levels=levels, repeats=repeats_of(levels), smoother=smoother, pre=steps[0], post=steps[1],
        max_levels=None, origin=None, window=None, _packed=hierarchy,
    )  # fmt: skip
    return made


def _serves(problem: Poisson) -> bool:
    """Whether the problem can do without the arrays that are dropped: those of given values on sides, domains, and parts."""
    operator = problem.coupled_operator
    plain = problem.nonlinear is None and problem.homogeneous and not operator.exchange and not problem.has_waves
    return plain and problem.fits(SINGLE)


def _jumps(problem: Poisson) -> bool:
    """Whether rounding in single precision is likely to spoil full multigrid."""
    diagonal = problem.coupled_operator.stencil.diagonal
    return bool(diagonal.max() > SPOILING * diagonal.min())


@final
class PackedHierarchy:
    """The levels of a problem in one precision, made again for another one; `dtype` is the one that they are in.

    The finest operator is left without the arrays that conjugate gradients do not read.
    """

    def __init__(self, problem: Poisson, smoother: str, steps: tuple[int, int]) -> None:
        operator = problem.coupled_operator
        for name in ("least", "norm_bound", "smallest_eigenvalue"):
            getattr(operator, name)  # which are kept: no one asks for the faces again, as the couplings have been made of them
        operator.faces = ()
        self._problem, self._operator, self._smoother, self._steps = problem, operator, smoother, steps
        self._ends: list[tuple[Any, Array]] = []  # of the excess

    def levels_in(self, dtype: np.dtype) -> tuple[CoupledLevel | PackedLevel, ...]:
        """Return the levels, finest first, packed where their half-cycles are fused; those made before must be dropped."""
        if self._ends:
            pool.trim()  # of arrays in the other precision
            self._restore()
        self.dtype = dtype
        levels: list[CoupledLevel | PackedLevel] = []
        for level in one_by_one(self._problem, None):
            own = level if level.transfers is None else smoothed(level, self._smoother, self._steps)
            levels.append(own if own.fused is None else PackedLevel(own, own.fused, dtype))
            del level, own  # before the next one is made
        if isinstance(levels[0], PackedLevel):
            self._drop()
        return tuple(levels)

    def _drop(self) -> None:
        """Drop one over the diagonal, and the excess where that is c but at the ends of axes."""
        operator, excess = self._operator, self._operator.stencil.excess
        for axis in range(3):
            if excess.shape[axis] > 1:
                places = (*(slice(None),) * axis, slice(None, None, excess.shape[axis] - 1))
                self._ends.append((places, excess[places].copy()))
        is_constant = operator.volumes is None and np.ndim(operator.reaction_field) == 0
        self._set(NOTHING if is_constant else excess, NOTHING)

    def _restore(self) -> None:
        """Make them again."""
        operator, diagonal, excess = self._operator, self._operator.stencil.diagonal, self._operator.stencil.excess
        if not excess.size:
            excess = np.full(diagonal.shape, float(operator.reaction_field))
            for places, values in self._ends:
                excess[places] = values
        self._ends.clear()
        self._set(excess, np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0.0))

    def _set(self, excess: Array, inverse: Array) -> None:
        stencil, rim = self._operator._form
        vars(self._operator)["_form"] = stencil._replace(excess=excess, inverse=inverse), rim
        vars(self._operator).pop("symmetric", None)
