"""Black box multigrid for a single solve: levels that hold their coefficients in single precision alone.

Each level is packed as soon as the next coarser one has been made of it, and the arrays that it was made of are dropped: the
hierarchy takes a third of the memory. Cycles in double precision read the same coefficients: rounded, they are those of a
problem nearby, whose cycles serve as well, as conjugate gradients have the exact operator.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, NestedLevel
from ..messages import choose
from .coupled import CoupledOperator
from .galerkin import KINDS, SINGLE_FROM, GalerkinCycle
from .galerkin_levels import CoupledLevel, one_by_one, repeats_of, smoothed
from .iterations import SINGLE
from .kernels.cpu.fused_points import FusedPoints
from .problem import Poisson
from .relaxation import checked_smoother, checked_steps

Array = NDArray[np.floating]
# Of diagonals: from here on cycles run in double precision at once, as they mostly would later. Checkerboard of 1e6, 255^2: 6
# iterations, not 9.
SPOILING = 1e5
NOTHING = np.empty((0, 0, 0))


@final
class PackedLevel(NestedLevel):
    """A level whose half-cycles are fused, with its coefficients in single precision; it has no operator."""

    def __init__(self, level: CoupledLevel, fused: FusedPoints) -> None:
        self.shape, self.jumps, self.roughness, self.many_jumps = level.shape, level.jumps, level.roughness, level.many_jumps
        self._fused = fused
        fused.hold(SINGLE)

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
    """Return the cycle for a single solve by conjugate gradients, in less memory.

    Where the problem does not allow it, this is the cycle that keeps all it makes.
    """
    smoother = checked_smoother(smoother, problem.grid.ndim)
    if problem.grid.size < SINGLE_FROM or not isinstance(smoother, str) or not _serves(problem):
        return GalerkinCycle(problem, cycle=cycle, smoother=smoother)
    choose(cycle, KINDS, "cycle")
    steps = checked_steps(None, 1 if smoother == "lines" else 2)
    levels = _packed_levels(problem, smoother, steps)
    made = object.__new__(GalerkinCycle)
    vars(made).update(
        problem=problem, kind=cycle, levels=levels, repeats=repeats_of(levels), smoother=smoother, pre=steps[0], post=steps[1],
        max_levels=None, origin=None, window=None, _spoiling=_jumps(problem),
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


def _packed_levels(problem: Poisson, smoother: str, steps: tuple[int, int]) -> tuple[CoupledLevel | PackedLevel, ...]:
    """Return the levels, finest first, packed where their half-cycles are fused.

    The finest operator is left without the arrays that conjugate gradients do not read.
    """
    operator = problem.coupled_operator
    for name in ("least", "norm_bound", "smallest_eigenvalue"):
        getattr(operator, name)  # which are kept: no one asks for the faces again, as the couplings have been made of them
    operator.faces = ()
    levels: list[CoupledLevel | PackedLevel] = []
    for level in one_by_one(problem, None):
        own = level if level.transfers is None else smoothed(level, smoother, steps)
        levels.append(own if own.fused is None else PackedLevel(own, own.fused))
        del level, own  # before the next one is made
    if isinstance(levels[0], PackedLevel):
        _drop_unread(operator)
    return tuple(levels)


def _drop_unread(operator: CoupledOperator) -> None:
    """Drop one over the diagonal, and the excess, of an operator without a domain."""
    stencil, rim = operator._form
    vars(operator)["_form"] = stencil._replace(excess=NOTHING, inverse=NOTHING), rim
    vars(operator).pop("symmetric", None)
