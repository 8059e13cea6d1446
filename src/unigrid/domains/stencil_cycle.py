"""The classical cycle for constant coefficients on several processes: its finer levels in blocks, the others whole on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import NestedLevel
from ..iterate import Iteration, System, iterate
from ..solution import Solution
from ..stencil import kernels
from ..stencil.coarse import block_counts
from ..stencil.compatibility import allowed_mean, incompatible, plus
from ..stencil.cycle import StencilCycle
from ..stencil.grid import finite_array
from ..stencil.hierarchy import StencilLevel
from ..stencil.iterations import Run, checked_for_single, round_off_of
from ..stencil.problem import Poisson
from ..stencil.solving import LARGEST_NORM, SMALLEST_NORM, SolveOptions, prefers_mixed, single_is_enough
from .communicator import communicator_of, together
from .cycle import DomainCycle
from .iterations import DomainCycles, MixedDomainCycles, gradients
from .levels import GATHERED_BELOW, DomainLevel, halo_of, has_blocks
from .parts import Part, coarse_cuts, even_cuts, narrowest

Array = NDArray[np.floating]


@final
class StencilDomainCycle(DomainCycle):
    """A `DomainCycle` for constant coefficients. Its problem holds no array of the size of the grid."""

    def __init__(self, problem: Poisson, comm: Any, **slots: Any) -> None:
        self._hold(communicator_of(comm), problem.shape)
        self.serial = StencilCycle(problem, **slots)
        self._set(self.serial)

    def _set(self, serial: StencilCycle) -> None:
        self.problem, self.kind = serial.problem, serial.kind
        parts = _parts(serial.own_levels, self.comm.size, self.comm.rank)
        count = len(parts) - 1  # the last part is that of the first level that is gathered
        if count < 1:
            raise ValueError(_why_not(serial.own_levels[0], self.comm.size))
        blocks: list[NestedLevel] = [
            DomainLevel(level, parts[at], parts[at + 1], at + 1 == count, self.comm)
            for at, level in enumerate(serial.own_levels[:count])
        ]
        self.levels: list[NestedLevel] = [*blocks, *serial.own_levels[count:]]
        self.part = parts[0]

    @property
    def finest(self) -> DomainLevel:
        """The finest level."""
        level = self.levels[0]
        assert isinstance(level, DomainLevel)
        return level

    def __repr__(self) -> str:
        blocks = sum(isinstance(level, DomainLevel) for level in self.levels)
        rows = ", ".join(map(str, self.part.counts[:8])) + (", .." if self.comm.size > 8 else "")
        return (
            f"DomainCycle: {self.serial.title}, {self.comm.size} processes with {rows} rows of {self.problem.shape[0]}, "
            f"a halo of {self.part.halo}; {blocks} levels in blocks, {len(self.levels) - blocks} whole on each"
        )

    def _solve(self, block: Array, u0: Array | None, options: SolveOptions) -> Solution:
        cycle = self._for(options)
        finest, problem, comm = cycle.finest, cycle.problem, cycle.comm
        b, mean = cycle._right_hand_side(block, options.compatibility)
        b_norm, sums = cycle._norm_and_sums(b)
        if not math.isfinite(b_norm):
            together(comm, lambda: finite_array(block, "f"), ValueError)
        if not SMALLEST_NORM < b_norm < LARGEST_NORM and b_norm != 0.0:
            raise ValueError(f"the squares of f, of norm {b_norm:.1e}, leave the range of numbers; scale f, and u after it")
        u = None if u0 is None else cycle._first(u0, b)
        nested = u is None and options.start == "fmg"
        eps_of = partial(round_off_of, b.dtype, b_norm)
        operator = problem.operator
        system = System(
            b,
            lambda u: b_norm if u is None else finest.residual_norm(b, cycle.part.fill(u, comm)),
            lambda u: eps_of(0.0 if u is None else operator.norm_bound * cycle._norm(u)),
            eps_of(4.0 * b_norm * operator.norm_bound / operator.smallest_eigenvalue),
            view=lambda u: u[cycle.part.owned],
            zero=lambda: np.zeros_like(b),
        )
        tolerance = options.tolerance(b.dtype)
        if options.accelerate == "cg":
            iteration: Iteration = gradients(cycle, self if nested else None, self._source(block, mean), system)
        else:
            f = b if problem.homogeneous else cycle._source(block, mean)
            run = Run(problem, f, b, nested, keeps=options.callback is not None)
            mixed = cycle._takes_mixed(b, b_norm, sums, options)
            target = tolerance.target(b_norm)
            iteration = MixedDomainCycles(cycle, run, system, target) if mixed else DomainCycles(cycle, run)
        solution = iterate(iteration, u, system, tolerance, options.callback)
        constant = mean / problem.reaction if problem.has_constant_apart and not problem.singular else 0.0
        return replace(solution, u=plus(solution.u[cycle.part.owned], constant))

    def _for(self, options: SolveOptions) -> StencilDomainCycle:
        """Return the cycle for these options: this one, that of one pass, or the symmetric one."""
        if not options.is_one_pass and options.accelerate != "cg":
            return self
        other = object.__new__(StencilDomainCycle)
        other._hold(self.comm, self.problem.shape)
        other.serial = self.serial.for_one_pass() if options.is_one_pass else self.serial.symmetric()
        other._set(other.serial)
        return other

    def _first(self, u0: Array, b: Array) -> Array:
        """Return a start on all rows of the part. Raises ValueError where numbers do not hold its residual."""
        u = self.part.fill(self.part.extended(u0), self.comm)
        u = self.finest.centered(u) if self.problem.has_constant_apart else u
        if not math.isfinite(self.finest.residual_norm(b, u)):
            raise ValueError("the residual of u0 leaves the range of numbers; scale f and u0")
        return u

    def _source(self, block: Array, mean: float) -> Array:
        """Return f on all rows of the part, without the mean that was taken out of b."""
        return self.part.fill(self.part.extended(block), self.comm) - block.dtype.type(mean)

    def _right_hand_side(self, block: Array, compatibility: str) -> tuple[Array, float]:
        """Return b on all rows of the part, and the mean that was taken out of it, where the constant is found apart."""
        finest, part = self.finest, self.part
        b = part.fill(finest.problem.folded(part.extended(block)), self.comm)
        if not self.problem.has_constant_apart:
            return b, 0.0
        mean = finest.mean(b)
        if self.problem.singular and compatibility == "error":
            self._check_compatible(b, block, mean)
        return finest.centered(b), mean

    def _check_compatible(self, b: Array, block: Array, mean: float) -> None:
        """Raise ValueError where the mean of b is more than rounding, and what boundary fluxes may leave, explain."""
        problem, finest, limits = self.problem, self.finest, np.finfo(b.dtype)
        own = b[self.part.owned]
        of_sides = 0.0 if problem.homogeneous else finest.mean(np.abs(b - self.part.extended(block)))
        if abs(mean) > allowed_mean(problem, limits, finest.mean(np.abs(b)), of_sides):
            sums = np.sum(self.comm.allgather([own.sum(dtype=np.float64), np.abs(own).sum(dtype=np.float64)]), axis=0)
            raise incompatible(problem, limits, mean, *(float(each) / problem.grid.size for each in sums))

    def _takes_mixed(self, b: Array, b_norm: float, sums: NDArray[np.float64], options: SolveOptions) -> bool:
        """Whether cycles run in float32, by the rules of one process; never where the constant is found apart."""
        if self.problem.has_constant_apart:
            return False
        if options.precision == "mixed":
            return checked_for_single(self.problem, b.dtype, b_norm)
        return prefers_mixed(self.serial, b.dtype, options) and single_is_enough(self.problem, b_norm, sums)

    def _norm_and_sums(self, b: Array) -> tuple[float, NDArray[np.float64]]:
        """Return the norm of b, and its sums over blocks of the whole grid, as the choice of the precision needs them."""
        parts = self.comm.allgather(self.part.norm_and_sums(b, block_counts(self.problem.grid)))
        return math.hypot(*(norm for norm, _ in parts)), np.sum([sums for _, sums in parts], axis=0)

    def _norm(self, array: Array) -> float:
        return math.sqrt(sum(self.comm.allgather(kernels.of(array).norm(array[self.part.owned]) ** 2)))


def _parts(levels: Sequence[StencilLevel], size: int, rank: int) -> list[Part]:
    """Return the part of this process of each level in blocks, and of the first one that is whole."""
    cuts = even_cuts(levels[0].problem.shape[0], size)
    parts: list[Part] = []
    needed = 0
    for level in levels:
        axis = level.problem.grid.axes[0]
        fits = level.coarser is not None and level.problem.grid.size >= GATHERED_BELOW and has_blocks(level)
        halo = max(needed, halo_of(level, level.turns and not parts) if fits else 0)
        parts.append(Part(cuts, rank, halo, axis.periodic))
        if not fits or narrowest(cuts) < halo:
            return parts
        coarse = level.coarser.grid.axes[0]
        cuts, needed = coarse_cuts(cuts, axis, coarse), math.ceil(halo * axis.h / coarse.h) + 2  # to interpolate from
    return parts


def _why_not(level: StencilLevel, size: int) -> str:
    """Return why the finest level has no blocks."""
    n = level.problem.shape[0]
    if not has_blocks(level):
        odd = [each.n for each in level.problem.grid.axes if each.periodic and each.n % 2]
        if odd:
            return f"an axis is periodic with {odd[0]} unknowns, whose colors do not alternate across its seam; make it even"
        return (
            "blocks are for red-black, Jacobi and Chebyshev smoothing and transfers of unigrid's own, without a state "
            "transfer; solve this one on a single process by unigrid.solve"
        )
    if level.problem.grid.size < GATHERED_BELOW:
        return f"a grid of {level.problem.grid.size} unknowns is too small to be cut; solve it on one process by unigrid.solve"
    halo = halo_of(level, level.turns)
    return (
        f"{n} rows on {size} processes leave blocks of {n // size}, fewer than the {halo} that neighbors exchange; take at "
        f"most {n // halo} processes, or put the longest axis first"
    )
