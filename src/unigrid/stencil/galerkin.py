"""Black box multigrid: coarse operators and transfers made of the fine operator, for coefficients that vary.

Coarse points are every second point along the strong axes, whatever the sides and the size. P follows from the couplings, so
that a correction's flux is about continuous across a jump; R = P^T; the coarse operator is P^T A P, its row sums carried apart.

Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from operator import mul
from typing import Any, NamedTuple, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import VISITS, Prolongation, Restriction, SlotLevel, Smoother, Steps
from ..messages import checked_count, choose, reject_unknown_keywords
from .coupled import SymmetricOperator, halves, matrix_of, symmetric_stencil
from .grid import Axis, Dirichlet
from .hierarchy import Frozen, checked_level
from .kernels.cpu import coupled
from .kernels.cpu.compiled import black_box as loops
from .kernels.cpu.compiled.arguments import CoupledTransfer, SymmetricStencil
from .kernels.cpu.primitives import slab_count
from .kernels.cpu.threads import over_slabs
from .kernels.workspace import zeros
from .problem import Poisson
from .relaxation import OMEGA, Lines, Points, checked_smoother, checked_steps, level_slot, lines_of, words_of
from .smoothers import sweeps_of
from .solving import ProblemCycle, SolveOptions, solve_with

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
# Bent channels with Neumann sides, 255^2, take 27 iterations where coarsening ends at 200 unknowns, 11 at 400, 8 to 11 at 1000.
COARSEST_UNKNOWNS = 1000
# Where a level was rough, coarsening ends before strong couplings of different objects merge: channels of period 16, 500^2,
# periodic, 34 -> 7 iterations. A 2-D matrix of 16384 unknowns takes 60 ms to factorize and 2 ms to solve, of 65536 300 and 12.
COARSEST_ROUGH = ((1 / 15, 16_384), (1 / 60, 65_536))  # parts of the unknowns, and at most so many
STRONG = 0.25  # an axis is coarsened whose mean relative coupling is at least this part of the strongest one's
# A level is rough where, at more than this part of the points, a coarsened axis couples so many times weaker than another one.
# In 3-D random coefficients do well with points: lognormal 1 and 2, 63^3, 6 and 12 iterations, with lines 6 and 13.
WEAK_POINTS, WEAK = {1: 1e-3, 2: 1e-3, 3: 0.2}, 10.0
# Corners where regions meet slow V-cycles down, the more the more levels there are: squares of 8 x 8 cells, 127^2 and 255^2,
# 8 and 12 iterations. Two visits of the levels from the third on cost a tenth: 8 and 9. Made where a diagonal jumps.
JUMP, CHEAP = 100.0, 1 / 12  # and levels with at most this part of the unknowns
KINDS = ("auto", *VISITS)
SLACK = 1.3  # coarse grids of odd lengths have more than a quarter of the points


@final
class CoupledTransfers:
    """P and R = P^T between two levels, in either precision."""

    def __init__(self, transfer: CoupledTransfer) -> None:
        self._made = {np.dtype(np.float64): transfer}

    def tables(self, dtype: np.dtype) -> CoupledTransfer:
        """Return P in the precision of the arrays."""
        if dtype not in self._made:
            made = self._made[np.dtype(np.float64)]
            self._made[dtype] = made._replace(weights=made.weights.astype(dtype))
        return self._made[dtype]


@final
@dataclass(frozen=True, eq=False)
class Transposed(Restriction):
    """The slot R: P^T."""

    transfers: CoupledTransfers

    def __call__(self, residual: Array) -> Array:
        return coupled.restrict(residual, self.transfers.tables(residual.dtype))


@final
@dataclass(frozen=True, eq=False)
class Interpolation(Prolongation):
    """The slot P: weights from the couplings."""

    transfers: CoupledTransfers
    shape: tuple[int, ...]

    def __call__(self, correction: Array) -> Array:
        return self.add_to(zeros(self.shape, correction.dtype), correction)

    def add_to(self, u: Array, correction: Array) -> Array:
        return coupled.add_interpolated(u, correction, self.transfers.tables(correction.dtype))


@final
class Coarsest(Smoother):
    """The direct solve of the coarsest level, without the constant part of the solution where that is found apart."""

    def __init__(self, stencil: SymmetricStencil, apart: bool) -> None:
        from scipy import sparse  # imported here: it takes longer to load than a small problem to solve
        from scipy.sparse.linalg import splu

        matrix: Any = matrix_of(stencil)
        if apart:  # bordered with the constant, the matrix is regular however small c is
            ones = np.ones((matrix.shape[0], 1))
            matrix = sparse.block_array([[matrix, ones], [ones.T, None]])
        self._added = int(apart)
        self._solve = splu(sparse.csc_matrix(matrix)).solve

    def __call__(self, operator: Any, b: Array, u: Array | None) -> Array:
        right = np.zeros(b.size + self._added)
        right[: b.size] = b.ravel()
        return self._solve(right)[: b.size].reshape(b.shape).astype(b.dtype)  # type: ignore[no-any-return]


@final
class CoupledLevel(SlotLevel):
    """One level: a symmetric operator, P and R made of it, and its smoothing.

    Post-smoothing repeats pre-smoothing, not its adjoint: the cycle is then no symmetric operator, which flexible conjugate
    gradients tolerate, and reduces the error by .023 in place of .13 (Poisson, 127^2, two sweeps on either side).
    """

    operator: SymmetricOperator

    def __init__(self, operator: SymmetricOperator, transfers: CoupledTransfers | None, rough: bool, ndim: int) -> None:
        self.operator, self.transfers, self.rough, self.ndim = operator, transfers, rough, ndim
        self.smoother = self.post_smoother = self.state_transfer = None
        if transfers is not None:
            self.restriction, self.prolongation = Transposed(transfers), Interpolation(transfers, operator.stencil.excess.shape)

    @property
    def jumps(self) -> bool:
        """Whether the couplings of some points are much stronger than those of others."""
        diagonal = self.operator.stencil.diagonal
        return bool(diagonal.max() > JUMP * diagonal.min(where=diagonal > 0.0, initial=np.inf))

    def smoothed(self, smoother: Smoother | None, post_smoother: Smoother | None) -> CoupledLevel:
        """Return this level with another smoothing."""
        level = CoupledLevel(self.operator, self.transfers, self.rough, self.ndim)
        level.smoother, level.post_smoother = smoother, post_smoother
        return level

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid, as a box of three axes."""
        return self.operator.stencil.excess.shape

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


class Points1D(NamedTuple):
    """The coarse points of one axis: their fine indices, and whether the axis is coarsened and periodic."""

    positions: NDArray[np.int64]
    n: int
    coarsened: bool
    periodic: bool


def _coarse_points(n: int, axis: Axis | None, coarsen: bool) -> Points1D:
    """Return the coarse points of an axis of n points; `axis` is the finest grid's, for its sides."""
    periodic = axis is not None and axis.periodic
    if not coarsen:
        return Points1D(np.arange(n), n, False, periodic)
    ends = [False, False] if axis is None else [side is Dirichlet for side in (axis.low, axis.high)]
    first = int(not periodic and (any(ends) if n % 2 else ends[0]) and n > 1)
    return Points1D(np.arange(first, n, 2), n, True, periodic)


def _transfer_tables(
    axes: list[Points1D],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets of fine points from coarse ones, children, parents (see `CoupledTransfer`), and distances."""
    longest, most = max(len(axis.positions) for axis in axes), max(axis.n for axis in axes)
    children, parents = -np.ones((3, longest, 3), np.int64), -np.ones((3, most, 3), np.int64)
    following = np.zeros((3, longest), np.int64)
    for number, (positions, n, coarsened, periodic) in enumerate(axes):
        count = len(positions)
        is_coarse = np.zeros(n, bool)
        is_coarse[positions] = True
        for step in (-1, 0, 1):
            there = positions + step
            if periodic:
                there %= n
            inside = (there >= 0) & (there < n)
            inside[inside] &= (~is_coarse[there[inside]] & coarsened) if step else True
            children[number, :count, step + 1][inside] = there[inside]
            parents[number, there[inside], step + 1] = np.flatnonzero(inside)
        following[number, : count - 1] = np.diff(positions)
        if periodic and count > 1:
            following[number, count - 1] = positions[0] + n - positions[-1]
    steps = [(-1, 0, 1) if axis.coarsened and axis.n > 1 else (0,) for axis in axes]
    return np.array(list(itertools.product(*steps)), np.int64), children, parents, following


def coarsened(stencil: SymmetricStencil, axes: list[Points1D]) -> tuple[CoupledTransfer, SymmetricStencil]:
    """Return P, and the coarse operator P^T A P."""
    shape, coarse_shape = stencil.excess.shape, tuple(len(axis.positions) for axis in axes)
    offsets, children, parents, following = _transfer_tables(axes)
    ndim = 3 - next((number for number, n in enumerate(shape) if n > 1), 2)
    rows = np.zeros((2**ndim, *shape))
    for count in range(4):
        over_slabs(
            lambda first, last, c=count: loops.interpolation_rows(rows, stencil, parents, c, first, last),
            _slabs(stencil), stencil.excess.size,
        )  # fmt: skip
    weights = np.zeros((len(offsets), *coarse_shape))
    loops.columns(weights, rows, offsets, children, coarse_shape)
    transfer = CoupledTransfer(offsets, weights, children, parents)
    kept = [
        offset
        for offset in halves(ndim, full=True)
        if all(n > 1 or not step for n, step in zip(coarse_shape, offset, strict=True))
    ]
    positive_half = np.array(kept, np.int64).reshape(-1, 3)
    couplings = np.zeros((len(positive_half), *coarse_shape))
    slabs = slab_count(couplings[0]) if len(couplings) else 1
    images = np.array([axis.n if axis.periodic and axis.n > 1 == len(axis.positions) else 0 for axis in axes], np.int64)
    over_slabs(
        lambda first, last: loops.coarse_couplings(couplings, positive_half, stencil, transfer, following, images, first, last),
        slabs, stencil.excess.size,
    )  # fmt: skip
    sums: Any = np.zeros(shape)
    if stencil.excess.any():  # a singular operator stays so exactly
        ones = rows.sum(axis=0)
        over_slabs(lambda first, last: loops.excess_of(sums, ones, stencil, first, last), _slabs(stencil), stencil.excess.size)
    excess: Any = coupled.restrict(sums, transfer)
    return transfer, symmetric_stencil(positive_half, couplings, excess)


def strong_axes(stencil: SymmetricStencil) -> list[bool]:
    """Return which axes are to be coarsened: those that couple about as strongly as the strongest, in the mean."""
    parts = over_slabs(lambda first, last: loops.axis_strengths(stencil, first, last), _slabs(stencil), stencil.excess.size)
    sums = [sum(axis) for axis in zip(*parts, strict=True)]
    return [total > STRONG * max(sums) and n > 1 for total, n in zip(sums, stencil.excess.shape, strict=True)]


def is_rough(stencil: SymmetricStencil, strong: list[bool]) -> bool:
    """Whether some coarsened axis couples much weaker than another one, at more than a few points."""
    size, ndim = stencil.excess.size, sum(n > 1 for n in stencil.excess.shape)
    parts = over_slabs(lambda first, last: loops.weak_points(stencil, *strong, WEAK, first, last), _slabs(stencil), size)
    return bool(sum(parts) > WEAK_POINTS[max(ndim, 1)] * size)


def _slabs(stencil: SymmetricStencil) -> int:
    return slab_count(stencil.excess)


def hierarchy_of(problem: Poisson, max_levels: int | None) -> list[CoupledLevel]:
    """Return the levels for a problem, finest first, without smoothing; the coarsest is solved directly.

    A level is called rough also where the next coarser one is, as the sources of that lie on it.
    """
    operator, ndim = problem.coupled_operator, problem.grid.ndim
    stencil, sides = operator.stencil, [*[None] * (3 - ndim), *operator.grid.axes]
    operators, transfers, rough = [operator.symmetric], list[CoupledTransfers](), list[bool]()
    while stencil.excess.size > _most_coarsest(operator.grid.size, ndim, any(rough)):
        strong = strong_axes(stencil)
        if not any(strong) or len(operators) == max_levels:
            break
        rough.append(is_rough(stencil, strong))
        points = [
            _coarse_points(n, axis, is_strong) for n, axis, is_strong in zip(stencil.excess.shape, sides, strong, strict=True)
        ]
        transfer, stencil = coarsened(stencil, points)
        operators.append(SymmetricOperator(stencil))
        transfers.append(CoupledTransfers(transfer))
    levels = [
        CoupledLevel(each, transfer, any(rough[: number + 2]), ndim)
        for number, (each, transfer) in enumerate(zip(operators, transfers, strict=False))
    ]
    last = CoupledLevel(operators[-1], None, False, ndim)
    return [*levels, last.smoothed(Coarsest(stencil, problem.has_constant_apart), None)]


def _most_coarsest(size: int, ndim: int, rough: bool) -> float:
    """Return how many unknowns are solved directly, of a problem with `size`."""
    most = COARSEST_UNKNOWNS
    return max(most, *(min(part * size, limit) for part, limit in COARSEST_ROUGH)) if rough and ndim == 2 else most


def levels_of(
    problem: Poisson, smoother: str | Smoother, steps: int | tuple[int, int], max_levels: int | None
) -> list[CoupledLevel]:
    """Return the levels for a problem, finest first."""
    levels = hierarchy_of(problem, max_levels)
    return [*(_smoothed(level, smoother, steps) for level in levels[:-1]), levels[-1]]


def _smoothed(level: CoupledLevel, smoother: str | Smoother, steps: int | tuple[int, int]) -> CoupledLevel:
    """Return a level with a smoother, by its name or itself; "auto" takes lines where it is rough, and half the steps."""
    pair = (steps, steps) if isinstance(steps, int) else steps
    if smoother == "auto" and level.rough:
        pair = ((pair[0] + 1) // 2, (pair[1] + 1) // 2)
    if smoother == "lines" or (smoother == "auto" and level.rough):
        step: Smoother = lines_of(level.shape)
    elif isinstance(smoother, str):
        step = Points(OMEGA[max(sum(n > 1 for n in level.shape), 1)])
    else:
        step = smoother
    before, after = (Steps(step, count) if count else None for count in pair)
    return level.smoothed(before, after)


def repeats_of(levels: list[CoupledLevel]) -> tuple[int, ...]:
    """Return how often each level is visited by one visit of the finer one: twice where it is rough, or small and jumps.

    Twice as long as every axis is coarsened, so that all visits of a level cost half of those of the finer one, in 2-D.
    """
    finest, visits, repeats = math.prod(levels[0].shape), 1, [1]
    for number, level in enumerate(levels[1:-1], start=1):
        size = math.prod(level.shape)
        affordable = 2 * visits * size <= SLACK * finest / 2**number
        repeats.append(2 if affordable and (level.rough or (size <= CHEAP * finest and level.jumps)) else 1)
        visits *= repeats[-1]
    return (*repeats, 1)[: len(levels)]


@final
class GalerkinCycle(Frozen, ProblemCycle):
    """Black box multigrid for a `Poisson` problem with coefficients: coarse operators and transfers follow from the fine one.

    Calling it, `cycle(b, u)`, returns u after one cycle for A u = b. `solve(f)` iterates, by default conjugate gradients with
    one cycle as preconditioner.

    Parameters
    ----------
    problem : Poisson
    cycle : "auto", "V", "W" or "F"
        "auto" visits a level twice where it is rough, or small and couplings differ a hundredfold, as long as all axes are
        coarsened; else once.
    smoother : "auto", "points", "lines", unigrid.Points(omega), unigrid.Lines(axes), unigrid.RedBlack(omega), or your own
        Gauss-Seidel by colors, or zebra line relaxation along each axis in turn. "auto" takes lines where a level is rough:
        where, there or on the next coarser level, one coarsened axis couples ten times weaker than another one at more than a
        thousandth of the points (3-D: a fifth), and on all levels below. Your own is an object of a subclass of `Smoother`: its
        `operator`, with `residual(b, u)` and `diagonal()`, is A times the volumes of the cells, which is symmetric.
    steps : int or (int, int), optional
        Steps of the smoother before and after the coarse-grid correction: by default two, of lines one. "auto" makes half as
        many of lines as of points.
    max_levels : int, optional

    Raises
    ------
    TypeError, ValueError
        For what is none of these.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> problem = unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + 999 * (x > y))
    >>> cycle = unigrid.GalerkinCycle(problem)
    >>> cycle.solve(np.ones((63, 63))).converged
    True
    >>> cycle
    <GalerkinCycle: V(2,2), black box multigrid, smoothing by points
      63 x 63 unknowns, stencil of 5 points: 2 x points, omega 1.15
      31 x 31 unknowns, 9 points, coarsened along x, y: direct solve>

    Source: J. Dendy, Black box multigrid, J. Comput. Phys. 48 (1982).
    """

    is_stencil = False
    accelerated = True
    problem: Poisson
    levels: tuple[CoupledLevel, ...]
    repeats: tuple[int, ...]  # of the visits of each level, where the cycle is "auto"
    smoother: str | Smoother
    pre: int
    post: int
    max_levels: int | None

    @reject_unknown_keywords
    def __init__(
        self,
        problem: Poisson,
        *,
        cycle: str = "auto",
        smoother: str | Smoother = "auto",
        steps: int | tuple[int, int] | None = None,
        max_levels: int | None = None,
    ) -> None:
        if not isinstance(problem, Poisson):
            raise TypeError(f"problem must be a unigrid.Poisson, got {type(problem).__name__}")
        chosen = checked_smoother(smoother, problem.grid.ndim)
        pair = checked_steps(steps, 1 if chosen == "lines" or isinstance(chosen, Lines) else 2)
        max_levels = None if max_levels is None else checked_count("max_levels", max_levels)
        choose(cycle, KINDS, "cycle")
        levels = levels_of(problem, chosen, pair, max_levels)
        vars(self).update(
            problem=problem, kind=cycle, levels=tuple(levels), repeats=repeats_of(levels), smoother=chosen, pre=pair[0],
            post=pair[1], max_levels=max_levels,
        )  # fmt: skip

    def __repr__(self) -> str:
        rows = []
        for number, level in enumerate(self.levels):
            twice = ", visited twice" if number and self.kind == "auto" and self.repeats[number] == 2 else ""
            rows.append(f"  {level.described(self.levels[number - 1] if number else None)}{twice}")
        return "\n".join([f"<GalerkinCycle: {self.title}", *rows]) + ">"

    def replaced(self, *, level: int | None = None, **slots: Any) -> GalerkinCycle:
        """Return a cycle with another smoothing, on one level or on all.

        Parameters
        ----------
        level : int, optional
            Which level; negative numbers count from the coarsest. None: all of them.
        **slots
            Of one level: `smoother` and `post_smoother`. A smoother is one step; `Steps(smoother, 2)` is two, None is none.
            Of all levels: the keywords of `GalerkinCycle`.

        Raises
        ------
        TypeError, ValueError, IndexError
            For slots or levels that there are not.

        Examples
        --------
        >>> import unigrid
        >>> cycle = unigrid.GalerkinCycle(unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + x))
        >>> other = cycle.replaced(level=0, post_smoother=unigrid.Lines((0,)))
        >>> print(str(other).splitlines()[1])
          63 x 63 unknowns, stencil of 5 points: 2 x points, omega 1.15, then 1 x zebra lines along x
        """
        if level is None:
            kept = {
                "cycle": self.kind, "smoother": self.smoother, "steps": (self.pre, self.post), "max_levels": self.max_levels,
            }  # fmt: skip
            if "smoother" in slots:
                del kept["steps"]
            return GalerkinCycle(self.problem, **{**kept, **slots})
        for name in slots:
            choose(name, ("smoother", "post_smoother"), "slot of a level")
        levels = list(self.levels)
        at = checked_level(level, len(levels))
        old, coarsest = levels[at], at % len(levels) == len(levels) - 1
        prepared = {name: level_slot(given, old.ndim, coarsest) for name, given in slots.items()}
        levels[at] = old.smoothed(**{"smoother": old.smoother, "post_smoother": old.post_smoother, **prepared})
        other = object.__new__(GalerkinCycle)
        vars(other).update(vars(self), levels=tuple(levels))
        return other

    def visit(self, b: Array, u: Array | None, kind: str, at: int) -> Array:
        if kind != "auto":
            return super().visit(b, u, kind, at)
        improved: Any = u
        for _ in range(self.repeats[at]):
            improved = self.cycle(b, improved, kind, at)
        return improved  # type: ignore[no-any-return]

    def visits(self) -> list[int]:
        return list(itertools.accumulate(self.repeats, mul)) if self.kind == "auto" else super().visits()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the grids, finest first."""
        ndim = self.problem.grid.ndim
        return tuple(level.shape[3 - ndim :] for level in self.levels)

    @property
    def post_smoother(self) -> str | Smoother:
        """The smoother after the correction: the same, but for levels where it was replaced."""
        return self.smoother

    @property
    def name(self) -> str:
        """The kind of cycle, and its steps on the finest level: V(2,2), for example."""
        kind = self.kind if self.kind != "auto" else "W" if 2 in self.repeats else "V"
        finest = self.levels[0]
        slots = (finest.smoother, finest.post_smoother)
        before, after = (sweeps_of(slot) for slot in slots) if len(self.levels) > 1 else (self.pre, self.post)
        return f"{kind}({before},{after})"

    @property
    def title(self) -> str:
        """The kind of cycle and its smoothing, in words."""
        slots = [slot for level in self.levels[:-1] for slot in (level.smoother, level.post_smoother)]
        kinds = {type(slot.step).__name__.lower() for slot in slots if isinstance(slot, Steps)}
        named = {"ongrid": "a smoother of your own"}
        words = " and ".join(sorted(named.get(kind, kind) for kind in kinds)) or "a direct solve"
        return f"{self.name}, black box multigrid, smoothing by {words}"

    @property
    def work_units(self) -> float:
        """Cost of one cycle in smoothing sweeps of the finest level, as of `StencilCycle`."""
        slots = [(level.smoother, level.post_smoother) for level in self.levels[:-1]]
        costs = [float(sum(slot.cost for slot in pair if slot is not None)) for pair in slots] + [1.0]
        sizes = [math.prod(shape) for shape in self.shapes]
        return sum(v * c * n for v, c, n in zip(self.visits(), costs, sizes, strict=True)) / sizes[0]

    @property
    def operator_complexity(self) -> float:
        """Couplings of all levels over those of the finest: the memory of the hierarchy."""
        stored = [level.operator.stencil.couplings.size for level in self.levels]
        return sum(stored) / stored[0]

    def __call__(self, b: Array, u: Array | None = None) -> Array:
        """Return u after one cycle for A u = b."""
        operator = self.problem.coupled_operator
        box = (1,) * (3 - b.ndim) + b.shape
        correction = self.cycle(operator.integrated(operator.residual(b, u)).reshape(box)).reshape(b.shape)
        return correction if u is None else u + correction

    def once(self, b: Array) -> Array:
        return self(b)

    @property
    def nests(self) -> bool:
        """Never: a full multigrid start needs boundary values on coarse levels."""
        return False

    def solve(self, f: Any, **options: Any) -> Any:
        """Return the Solution for a source f. Options as of `unigrid.solve`."""
        return solve_with(self, f, SolveOptions.of(options, GalerkinCycle.solve, "GalerkinCycle.solve"))

    def symmetric(self) -> GalerkinCycle:
        """Return this cycle: flexible conjugate gradients do without symmetry."""
        return self

    def for_one_pass(self) -> NoReturn:
        """Refuse: there is no full multigrid here."""
        raise ValueError(
            "rtol='discretization' is one pass of full multigrid, which needs constant coefficients; give a number"
        )
