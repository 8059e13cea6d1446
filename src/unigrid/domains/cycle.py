"""The classical cycle on several processes: its finer levels in blocks, the coarser ones whole on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import MultigridCycle, NestedLevel
from ..iterate import Iteration, System, iterate, raise_unless_converged
from ..messages import lists_options
from ..solution import Solution
from ..stencil import kernels
from ..stencil.coarse import block_counts
from ..stencil.compatibility import allowed_mean, incompatible, plus
from ..stencil.cycle import StencilCycle
from ..stencil.grid import finite_array, real_array
from ..stencil.hierarchy import StencilLevel
from ..stencil.iterations import Run, checked_for_single, round_off_of
from ..stencil.kernels.cpu.threads import limited_to
from ..stencil.problem import Poisson
from ..stencil.solving import LARGEST_NORM, SMALLEST_NORM, SolveOptions, prefers_mixed, single_is_enough
from .communicator import communicator_of, together
from .iterations import DomainCycles, MixedDomainCycles, gradients
from .levels import DomainLevel, halo_of, has_blocks
from .parts import Part, coarse_cuts, even_cuts, narrowest

Array = NDArray[np.floating]
# Levels of fewer unknowns are gathered: to exchange their rows takes longer than to smooth them on every process.
GATHERED_BELOW = 5_000


@final
class DomainCycle(MultigridCycle):
    """A cycle for a `Poisson` problem whose grid lies on several processes, each with a block of rows of the first axis.

    It is that of `StencilCycle`: the same levels and slots, the same iterates to round-off, whatever the number of processes.
    Finer levels are in blocks; from the first on that has few unknowns, or blocks of fewer rows than are exchanged, levels are
    whole on every process. All processes make it, and call its methods, alike.

    Parameters
    ----------
    problem : Poisson
        The whole problem, with constant coefficients. It holds no array of the size of the grid.
    comm
        A communicator of mpi4py, such as MPI.COMM_WORLD, or another `domains.communicator.Communicator`.
    **slots
        As of `StencilCycle`; smoothers are red-black, Jacobi or Chebyshev.

    Attributes
    ----------
    local : tuple of slices
        The block of this process: `f[cycle.local]` is what it needs of a whole array.

    Raises
    ------
    TypeError, ValueError
        For problems that have no blocks, with the way out.

    Examples
    --------
    With ``mpiexec -n 4 python script.py``::

        from mpi4py import MPI
        cycle = unigrid.DomainCycle(unigrid.Poisson((4095, 4095)), MPI.COMM_WORLD)
        f = np.load("f.npy", mmap_mode="r")[cycle.local]
        u = cycle.solve(f).u  # the block of this process

    Source: B. Smith, P. Bjorstad, W. Gropp, Domain decomposition (1996); halos of several rows: C. Ding, Y. He, A ghost cell
    expansion method for reducing communications in solving PDE problems, SC 2001.
    """

    def __init__(self, problem: Poisson, comm: Any, **slots: Any) -> None:
        self.comm = communicator_of(comm)
        if isinstance(problem, Poisson) and problem.has_waves:
            raise ValueError("on several processes the reaction must be >= 0; solve this one on a single one by unigrid.solve")
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

    @property
    def local(self) -> tuple[slice, ...]:
        """The block of this process in a whole array."""
        return slice(self.part.first, self.part.last), *(slice(0, n) for n in self.problem.shape[1:])

    @property
    def local_shape(self) -> tuple[int, ...]:
        """The shape of its block."""
        return self.part.last - self.part.first, *self.problem.shape[1:]

    def __repr__(self) -> str:
        blocks = sum(isinstance(level, DomainLevel) for level in self.levels)
        rows = ", ".join(map(str, self.part.counts[:8])) + (", .." if self.comm.size > 8 else "")
        return (
            f"DomainCycle: {self.serial.title}, {self.comm.size} processes with {rows} rows of {self.problem.shape[0]}, "
            f"a halo of {self.part.halo}; {blocks} levels in blocks, {len(self.levels) - blocks} whole on each"
        )

    def gather(self, u: Array) -> Array:
        """Return the whole array, on all processes, of their blocks."""
        return self.comm.allgather_rows(self._block(u, "u"), self.part.counts)

    @lists_options(SolveOptions)
    def solve(self, f: ArrayLike, **options: Any) -> Solution:
        """Return the Solution for the block of a source f on this process; its u is the block of the solution.

        All processes get the same outcome, residuals and errors. Options as of `unigrid.solve`, but for `u0` and Krylov
        methods other than "cg"; `threads` is by default the share of this process in the cores of its machine.
        """
        chosen = SolveOptions.of(options, DomainCycle.solve, "DomainCycle.solve")
        _refuse_others(chosen)
        block = together(self.comm, lambda: self._block(f, "f"), TypeError, ValueError)
        kinds = self.comm.allgather(str(block.dtype))
        if len(set(kinds)) > 1:
            raise TypeError(f"f must have one precision on all processes, got {', '.join(kinds)}")
        return limited_to(chosen.threads).run(self._solve, block, chosen)

    def _solve(self, block: Array, options: SolveOptions) -> Solution:
        cycle = self._for(options)
        finest, problem, comm = cycle.finest, cycle.problem, cycle.comm
        b, mean = cycle._right_hand_side(block, options.compatibility)
        b_norm, sums = cycle._norm_and_sums(b)
        if not math.isfinite(b_norm):
            together(comm, lambda: finite_array(block, "f"), ValueError)
        if not SMALLEST_NORM < b_norm < LARGEST_NORM and b_norm != 0.0:
            raise ValueError(f"the squares of f, of norm {b_norm:.1e}, leave the range of numbers; scale f, and u after it")
        nested = options.start == "fmg"
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
        solution = iterate(iteration, None, system, tolerance, options.callback)
        constant = mean / problem.reaction if problem.has_constant_apart and not problem.singular else 0.0
        solution = replace(solution, u=plus(solution.u[cycle.part.owned], constant))
        return raise_unless_converged(solution) if options.raise_on_failure else solution

    def _for(self, options: SolveOptions) -> DomainCycle:
        """Return the cycle for these options: this one, that of one pass, or the symmetric one."""
        if not options.is_one_pass and options.accelerate != "cg":
            return self
        other = DomainCycle.__new__(DomainCycle)
        other.comm = self.comm
        other.serial = self.serial.for_one_pass() if options.is_one_pass else self.serial.symmetric()
        other._set(other.serial)
        return other

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

    def _block(self, array: ArrayLike, name: str) -> Array:
        array = real_array(array, name)
        if array.shape != self.local_shape:
            raise ValueError(
                f"{name} must be the block of its process, of shape {self.local_shape}, rows {self.part.first} to "
                f"{self.part.last} of {self.problem.shape[0]}; got shape {array.shape}. Give {name}[cycle.local]"
            )
        return array


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


def _refuse_others(options: SolveOptions) -> None:
    """Raise ValueError for what there is not."""
    for wrong, what in (
        (options.has_method and options.accelerate != "cg", "other methods of accelerate than 'cg'"),
        (options.u0 is not None, "u0"), (options.backend is not None, "backend"),
    ):  # fmt: skip
        if wrong:
            raise ValueError(f"several processes have no {what} yet; leave it out, or solve on one process by unigrid.solve")
