"""The levels of black box multigrid: operators, transfers, and the smoothing that their coefficients need.

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Descent, Level, NestedLevel, SlotLevel, Smoother, Steps
from .coarsening import (
    JUMP,
    CoupledTransfers,
    Interpolation,
    Points1D,
    Roughness,
    Transposed,
    coarse_points,
    coarsened,
    guided,
    has_many_jumps,
    roughness,
    strong_axes,
    without_rows,
)  # fmt: skip
from .coupled import CoupledOperator, SymmetricOperator, matrix_of
from .grid import Grid
from .helmholtz import check_direct, check_waves, is_unresolved
from .kernels.cpu import coupled
from .kernels.cpu.compiled.arguments import CoupledTransfer, SymmetricStencil
from .kernels.cpu.fused_points import FusedPoints
from .kernels.workspace import zeros
from .problem import Poisson
from .relaxation import MANY, OMEGA, OMEGA_OF_MANY, Points, lines_of, words_of

Array = NDArray[np.floating]
# Bent channels with Neumann sides, 255^2, take 27 iterations where coarsening ends at 200 unknowns, 11 at 400, 8 to 11 at 1000.
COARSEST_UNKNOWNS = 1000
# On stretched grids coarse levels lose more, as distances on them grow by larger factors: tanh 1 : 1000 on both axes, Neumann
# cells, 511^2 and 1023^2, 19 and 31 iterations with the former bound, 6 and 10 with this one, and less time from 250^2 on.
COARSEST_STRETCHED = 5000
# Where a level was rough, coarsening ends before strong couplings of different objects merge: channels of period 16, 500^2,
# periodic, 34 -> 7 iterations. A 2-D matrix of 16384 unknowns takes 60 ms to factorize and 2 ms to solve, of 65536 300 and 12.
COARSEST_ROUGH = ((1 / 15, 16_384), (1 / 60, 65_536))  # parts of the unknowns, and at most so many
# Corners where regions meet slow V-cycles down, the more the more levels there are: squares of 8 x 8 cells, 127^2 and 255^2,
# 8 and 12 iterations. Two visits of the levels from the third on cost a tenth: 8 and 9. Made where a diagonal jumps. Where the
# finest one jumps all over, all levels are visited twice: 6 and 7 (mixed sides, vertices; others take 6 or 7 at any size).
CHEAP = 1 / 12  # levels with at most this part of the unknowns
SLACK = 1.3  # coarse grids of odd lengths have more than a quarter of the points
EVEN = Roughness(False, False)
MOST_FUSED = 16  # steps in one pass: every part of a grid computes two slabs per step beyond its own


@final
class Coarsest(Smoother):
    """The direct solve of the coarsest level, without the constant part of the solution where that is found apart.

    `pinned` points, one on each singular component, are held by a spring: it stays at rest where the component has a solution,
    and determines the constant.
    """

    def __init__(self, stencil: SymmetricStencil, apart: bool, pinned: NDArray[np.intp] | None = None) -> None:
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve
        from scipy.sparse.linalg import splu

        matrix: Any = matrix_of(stencil)
        if pinned is not None:
            springs = np.zeros(matrix.shape[0])
            springs[pinned] = stencil.diagonal.max() or 1.0
            matrix = matrix + sparse.diags_array(springs)
        if apart:  # bordered with the constant, the matrix is regular however small c is
            ones = np.ones((matrix.shape[0], 1))
            matrix = sparse.block_array([[matrix, ones], [ones.T, None]])
        self._added = int(apart)
        self._solve = splu(sparse.csc_matrix(matrix)).solve

    def inverse(self, size: int) -> NDArray[np.float64]:
        """Return the matrix of this solve, for so many unknowns."""
        inverse: NDArray[np.float64] = self._solve(np.eye(size + self._added, size))[:size]
        return inverse

    def __call__(self, operator: Any, b: Array, u: Array | None) -> Array:
        right = np.zeros(b.size + self._added)
        right[: b.size] = b.ravel()
        return self._solve(right)[: b.size].reshape(b.shape).astype(b.dtype)  # type: ignore[no-any-return]


@final
class CoupledLevel(SlotLevel, NestedLevel):
    """One level: a symmetric operator, P and R made of it, and its smoothing.

    Post-smoothing repeats pre-smoothing, not its adjoint: the cycle is then no symmetric operator, which flexible conjugate
    gradients tolerate, and reduces the error by .023 in place of .13 (Poisson, 127^2, two sweeps on either side).
    """

    operator: SymmetricOperator

    def __init__(
        self, operator: SymmetricOperator, transfers: CoupledTransfers | None, roughness: Roughness = EVEN, ndim: int = 3
    ) -> None:
        """`roughness` is that of this level and the next. `smoothed` fills the slots of smoothing."""
        self.operator, self.transfers, self.roughness, self.ndim = operator, transfers, roughness, ndim
        self.smoother = self.post_smoother = self.state_transfer = None
        if transfers is not None:
            self.restriction, self.prolongation = Transposed(transfers), Interpolation(transfers, operator.stencil.excess.shape)

    def smoothed(self, smoother: Smoother | None, post_smoother: Smoother | None) -> CoupledLevel:
        """Return this level with another smoothing."""
        level = CoupledLevel(self.operator, self.transfers, self.roughness, self.ndim)
        level.smoother, level.post_smoother = smoother, post_smoother
        return level

    def like(self, other: CoupledLevel) -> CoupledLevel:
        """Return this level with the smoothing of another one."""
        return self.smoothed(other.smoother, other.post_smoother)

    @cached_property
    def fused(self) -> FusedPoints | None:
        """The half-cycles for these slots in one pass over memory each, where there are any."""
        steps, transfers = self.smoother, self.transfers
        if transfers is None or not isinstance(steps, Steps) or not isinstance(steps.step, Points) or steps.count > MOST_FUSED:
            return None
        if self.post_smoother != steps or steps.step.backward:
            return None
        made = self.operator.stencil, transfers.tables(np.dtype(np.float64))
        return FusedPoints(*made, steps.step.omega, 2 * steps.count) if FusedPoints.serves(*made) else None

    def descend(self, b: Array, u: Array | None, coarser: Level | None) -> Descent:
        if self.fused is None:
            return super().descend(b, u, coarser)
        return *self.fused.descend(b, u), None

    def ascend(self, b: Array, u: Array, start: Array | None, coarse: Array) -> Array:
        return super().ascend(b, u, start, coarse) if self.fused is None else self.fused.ascend(b, u, coarse)

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid, as a box of three axes."""
        return self.operator.stencil.excess.shape

    def right_hand_side(self, f: Array) -> Array:
        return f

    def nested_restriction(self, f: Array) -> Array:
        return coupled.restrict(f, self._nested_tables(f.dtype))

    def nested_prolongation(self, u: Array) -> Array:
        return coupled.add_interpolated(zeros(self.shape, u.dtype), u, self._nested_tables(u.dtype))

    def _nested_tables(self, dtype: np.dtype) -> CoupledTransfer:
        """Return P for a single use: in the precision of cycles where those read it too, else without a copy."""
        assert self.transfers is not None
        return self.transfers.tables(dtype) if self.fused is None else self.transfers.exact

    @property
    def many_jumps(self) -> bool:
        """Whether this level, in 2-D, jumps all over."""
        return self.ndim == 2 and has_many_jumps(self.operator.stencil)

    @property
    def jumps(self) -> bool:
        """Whether the couplings of some points are much stronger than those of others."""
        diagonal = self.operator.stencil.diagonal
        return bool(diagonal.max() > JUMP * diagonal.min(where=diagonal > 0.0, initial=np.inf))

    def __repr__(self) -> str:
        return f"<CoupledLevel: {self.described(None)}>"

    def described(self, finer: CoupledLevel | None) -> str:
        """Return shape, stencil, the axes coarsened since the level above, and the smoothing, in words."""
        shape = self.shape[3 - self.ndim :]
        points = 2 * len(self.operator.stencil.offsets) + 1
        parts = [f"{' x '.join(map(str, shape))} unknowns", f"{'stencil of ' if finer is None else ''}{points} points"]
        if finer is not None:
            names = [name for name, n, of in zip("xyz", shape, finer.shape[3 - self.ndim :], strict=False) if n < of]
            parts.append(f"coarsened along {', '.join(names)}")
        slots = [words_of(self.smoother, self.ndim)]
        if self.transfers is not None and self.post_smoother != self.smoother:
            slots.append(words_of(self.post_smoother, self.ndim))
        return f"{', '.join(parts)}: {', then '.join(slots)}"


def hierarchy_of(problem: Poisson, max_levels: int | None) -> list[CoupledLevel]:
    """Return the levels for a problem, finest first, without smoothing; the coarsest is solved directly."""
    return list(one_by_one(problem, max_levels))


class Begun(NamedTuple):
    """What a hierarchy goes on from.

    operator : of the next level
    stencil : what coarser levels are made of
    guide : what P follows from, where that is not this stencil
    void : where there is nothing, whose rows P leaves out; None where that is nowhere, or done
    rough : the roughness of the levels before, each by itself
    """

    operator: SymmetricOperator
    stencil: SymmetricStencil
    guide: SymmetricStencil | None
    void: NDArray[np.bool_] | None
    rough: list[Roughness]


def one_by_one(problem: Poisson, max_levels: int | None) -> Iterator[CoupledLevel]:
    """Make the levels for a problem, finest first; no other reference to a level's arrays stays than that of the next one."""
    if problem.has_waves:
        check_waves(problem)
    operator = problem.coupled_operator
    void = None if problem.domain is None else problem.domain.void
    stencil, guide = operator.conducting.stencil, _guide(operator.conducting)
    return continued(problem, Begun(operator.symmetric, stencil, guide, void, []), max_levels)


def continued(problem: Poisson, begun: Begun, max_levels: int | None) -> Iterator[CoupledLevel]:
    """Make the levels from one on, as `one_by_one` does.

    A level is called rough also where the next coarser one is, as the sources of that lie on it.
    """
    last, stencil, guide, void, rough = begun
    del begun
    ndim = problem.grid.ndim
    waiting: list[tuple[SymmetricOperator, CoupledTransfers]] = []
    while stencil.excess.size > most_coarsest(problem.grid, rough):
        strong = strong_axes(stencil)
        if not any(strong) or len(rough) + 1 == max_levels:
            break
        points = points_of(stencil.excess.shape, problem.grid, strong)
        if guide is None:
            transfer, coarse = coarsened(stencil, points)
        else:
            transfer, coarse, guide = guided(guide, stencil, points)
        if problem.has_waves and is_unresolved(coarse):
            break
        if void is not None:
            transfer, void = without_rows(transfer, void), None
        rough.append(roughness(stencil, strong))
        if waiting:
            yield CoupledLevel(*waiting.pop(), treated(rough, len(rough) - 2), ndim)
        waiting.append((last, CoupledTransfers(transfer)))
        last, stencil = SymmetricOperator(coarse), coarse
        del transfer, coarse
    if waiting:
        yield CoupledLevel(*waiting.pop(), treated(rough, len(rough) - 1), ndim)
    coarsest = CoupledLevel(last, None, ndim=ndim)
    yield coarsest.smoothed(_coarsest(problem, last.stencil, bool(rough)), None)


def points_of(shape: tuple[int, ...], grid: Grid, strong: list[bool]) -> list[Points1D]:
    """Return the coarse points of every axis of a box; the grid is the finest one, for its sides."""
    sides = [*[None] * (3 - grid.ndim), *grid.axes]
    return [coarse_points(n, axis, coarsen) for n, axis, coarsen in zip(shape, sides, strong, strict=True)]


def treated(rough: Sequence[Roughness], number: int) -> Roughness:
    """Return how a level is treated: rough where it, a finer or the next coarser one is, by lines where it or a finer one is.

    (Channels, 127^2, 255^2, 511^2, mixed sides: 6, 8, 8 iterations where the next coarser level decides on lines too, else 6.)
    Where levels are rough from the third on alone, regions have a shape, and lines cost less on levels as small.
    """
    is_rough = any(each.rough for each in rough[: number + 2])
    lines = any(each.lines for each in rough[: number + 1]) or not any(each.rough for each in rough[:2])
    return Roughness(is_rough, is_rough and lines)


def _coarsest(problem: Poisson, stencil: SymmetricStencil, coarsened_once: bool) -> Coarsest:
    """Return the direct solve of the coarsest level."""
    if problem.has_waves:
        check_direct(stencil)
    if problem.domain is None or problem.domain.void is None:
        return Coarsest(stencil, problem.has_constant_apart)
    if coarsened_once:
        return Coarsest(stencil, not stencil.excess.any())
    pinned = problem.parts.first_points if problem.parts is not None and problem.singular else None
    return Coarsest(stencil, False, pinned)


def most_coarsest(grid: Grid, rough: Sequence[Roughness]) -> float:
    """Return how many unknowns are solved directly, where levels of the grid are so rough."""
    if grid.ndim != 2:
        return COARSEST_UNKNOWNS
    most = COARSEST_STRETCHED if any(axis.distances for axis in grid.axes) else COARSEST_UNKNOWNS
    if not any(each.rough for each in rough):
        return most
    return max(most, *(min(part * grid.size, limit) for part, limit in COARSEST_ROUGH))


def _guide(operator: CoupledOperator) -> SymmetricStencil | None:
    """Return the stencil that P follows from where that is not the operator's own: without what passes weak Robin sides.

    On a line that couples strongly, the whole line loses what its end gives off; the end's own stencil, in which that may be
    more than what couples it to its neighbors across, would interpolate by decay. (Geometric distances 1 : 1000 on both axes,
    250^2, alpha = 3: 37 iterations, with a guide 7.)
    """
    guide = operator.without_weak_sides
    if guide is operator or not roughness(operator.stencil, strong_axes(operator.stencil)).rough:
        return None
    return guide.stencil


def levels_of(
    problem: Poisson, smoother: str | Smoother, steps: int | tuple[int, int], max_levels: int | None
) -> list[CoupledLevel]:
    """Return the levels for a problem, finest first."""
    levels = hierarchy_of(problem, max_levels)
    return [*(smoothed(level, smoother, steps) for level in levels[:-1]), levels[-1]]


def smoothed(level: CoupledLevel, smoother: str | Smoother, steps: int | tuple[int, int]) -> CoupledLevel:
    """Return a level with a smoother, by its name or itself.

    "auto" takes lines, and half the steps, where strong couplings form lines; where they do not, but the level is rough, points
    with a larger omega, and many times the steps.
    """
    pair = (steps, steps) if isinstance(steps, int) else steps
    rough, lines = level.roughness if smoother == "auto" else (False, smoother == "lines")
    if smoother == "auto" and lines:
        pair = ((pair[0] + 1) // 2, (pair[1] + 1) // 2)
    elif rough:
        pair = (MANY * pair[0], MANY * pair[1])
    if lines:
        step: Smoother = lines_of(level.shape)
    elif isinstance(smoother, str):
        step = Points(OMEGA_OF_MANY if rough else OMEGA[max(sum(n > 1 for n in level.shape), 1)])
    else:
        step = smoother
    before, after = (Steps(step, count) if count else None for count in pair)
    return level.smoothed(before, after)


def repeats_of(levels: Sequence[Any]) -> tuple[int, ...]:
    """Return how often each level is visited by one visit of the finer one: twice where it is rough, or jumps and is small.

    It is small enough wherever the finest level, in 2-D, jumps all over.

    Twice as long as every axis is coarsened, so that all visits of a level cost half of those of the finer one, in 2-D.
    """
    finest, visits, repeats = math.prod(levels[0].shape), 1, [1]
    small = 1.0 if levels[0].many_jumps else CHEAP
    for number, level in enumerate(levels[1:-1], start=1):
        size = math.prod(level.shape)
        affordable = 2 * visits * size <= SLACK * finest / 2**number
        repeats.append(2 if affordable and (level.roughness.rough or (size <= small * finest and level.jumps)) else 1)
        visits *= repeats[-1]
    return (*repeats, 1)[: len(levels)]
