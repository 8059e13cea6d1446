"""Black box multigrid on several processes: set-up, cycles and conjugate gradients in blocks, for coefficients that vary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Smoother
from ..iterate import Iteration, Repeated, iterate
from ..messages import checked_count, choose, reject_unknown_keywords
from ..solution import Solution
from ..stencil.compatibility import RightHandSide, without_constant, without_means
from ..stencil.galerkin import KINDS, SINGLE_FROM, GalerkinCycle, Revisiting
from ..stencil.galerkin_levels import repeats_of
from ..stencil.gradients import FlexibleGradients, unit_scale
from ..stencil.grid import Grid, finite_array
from ..stencil.iterations import QUIET, SINGLE, Run, checked_for_single, system_of
from ..stencil.relaxation import Lines, OnGrid, checked_smoother, checked_steps
from ..stencil.solving import LARGEST_NORM, SMALLEST_NORM, SolveOptions, checked_start, finished
from .black_box import HALO, hierarchy_of
from .block_problem import BlockProblem
from .communicator import Communicator, communicator_of, together
from .coupled_levels import CoupledDomainLevel, levels_of
from .cycle import DomainCycle
from .levels import GATHERED_BELOW
from .parts import Part, even_cuts, narrowest
from .problem import DomainProblem
from .rows import Passes, Rows
from .sources import WholeSource

Array = NDArray[np.floating]
SMOOTHERS = "'auto', 'points', 'lines', unigrid.Points(omega) and unigrid.Lines(axes)"


class Slots(NamedTuple):
    """The slots of a cycle, as of `GalerkinCycle`."""

    kind: str
    smoother: str | Smoother
    steps: tuple[int, int]
    max_levels: int | None


@reject_unknown_keywords
def slots_of(
    ndim: int, *, cycle: str = "auto", smoother: Any = "auto", steps: Any = None, max_levels: int | None = None
) -> Slots:
    """Return the slots that a user asks for. Raises TypeError or ValueError, naming what is allowed."""
    chosen = checked_smoother(smoother, ndim)
    if isinstance(chosen, OnGrid):
        raise TypeError(f"several processes smooth by {SMOOTHERS}; solve this one on one process by unigrid.solve")
    choose(cycle, KINDS, "cycle")
    pair = checked_steps(steps, 1 if chosen == "lines" or isinstance(chosen, Lines) else 2)
    return Slots(cycle, chosen, pair, None if max_levels is None else checked_count("max_levels", max_levels))


def rows_of(grid: Grid, comm: Communicator) -> Rows:
    """Return the rows of a process. Raises ValueError where a grid has no blocks, with the way out."""
    n, size, periodic = grid.shape[0], comm.size, grid.axes[0].periodic
    if grid.size < GATHERED_BELOW:
        raise ValueError(f"a grid of {grid.size} unknowns is too small to be cut; solve it on one process by unigrid.solve")
    if periodic and n % 2:
        raise ValueError(f"axis 0 is periodic with {n} unknowns, whose colors do not alternate across its seam; make it even")
    cuts = even_cuts(n, size)
    if narrowest(cuts) <= HALO:
        raise ValueError(
            f"{n} rows on {size} processes leave blocks of {n // size}, fewer than the {HALO + 1} that neighbors exchange; "
            f"take at most {n // (HALO + 1)} processes, or put the longest axis first"
        )
    return Rows(Part(cuts, comm.rank, HALO, periodic, even=True), comm)


@final
class GalerkinDomainCycle(Revisiting, DomainCycle):
    """A `DomainCycle` for coefficients that vary: the levels of `GalerkinCycle`, the finer ones in blocks."""

    problem: BlockProblem
    # Of levels alone, in blocks or not.
    shapes: Any = GalerkinCycle.shapes
    name: Any = GalerkinCycle.name
    title: Any = GalerkinCycle.title
    work_units: Any = GalerkinCycle.work_units

    def __init__(self, problem: Any, comm: Any, **slots: Any) -> None:
        self._hold(communicator_of(comm), problem.shape)
        self.slots = slots_of(len(problem.shape), **slots)
        self.source = problem._source if isinstance(problem, DomainProblem) else WholeSource(problem, self.comm)
        self.rows = rows_of(self.source.grid, self.comm)
        self.problem = self.source.problem_on(self.rows)
        hierarchy = hierarchy_of(self.problem, self.slots.max_levels)
        if not hierarchy.blocks:
            raise ValueError("a grid that is solved directly has no blocks; solve it on one process by unigrid.solve")
        self.levels = levels_of(hierarchy, self.slots.smoother, self.slots.steps, len(problem.shape))
        self.kind, self.repeats = self.slots.kind, repeats_of(self.levels)
        self.smoother = self.post_smoother = self.slots.smoother
        self.pre, self.post = self.slots.steps

    def __repr__(self) -> str:
        blocks = sum(isinstance(level, CoupledDomainLevel) for level in self.levels)
        rows = ", ".join(map(str, self.rows.part.counts[:8])) + (", .." if self.comm.size > 8 else "")
        return (
            f"DomainCycle: {self.title}, {self.comm.size} processes with {rows} rows of {self.problem.shape[0]}, "
            f"a halo of {HALO}; {blocks} levels in blocks, {len(self.levels) - blocks} whole on each"
        )

    @property
    def operator_complexity(self) -> float:
        """Couplings of all levels over those of the finest, as of `GalerkinCycle`."""
        levels: Any = self.levels
        stored = [len(level.operator.stencil.offsets) * math.prod(level.shape) for level in levels]
        return sum(stored) / stored[0]

    @property
    def serial(self) -> Any:
        """The cycle, with what describes the whole problem, for reports."""
        other = object.__new__(GalerkinDomainCycle)
        vars(other).update(vars(self), problem=self.source.described)
        return other

    def failure_note(self) -> str:
        """Return what the user should know where the iteration fails."""
        return ""

    def _solve(self, block: Array, u0: Array | None, options: SolveOptions) -> Solution:
        if options.is_one_pass:
            GalerkinCycle.for_one_pass(self)  # type: ignore[arg-type]
        problem = self.problem
        f = self._inward(block)
        right = self._right_hand_side(f, options.compatibility)
        if options.precision == "mixed":
            checked_for_single(problem, f.dtype, right.norm)  # type: ignore[arg-type]
        system = system_of(problem, right.b, right.norm, right.mean_of_u)  # type: ignore[arg-type]
        shown, tolerance = system.view, options.tolerance(f.dtype)
        system = replace(system, view=lambda u: self._outward(shown(u)))
        u = None if u0 is None else checked_start(problem, right.b, self._inward(u0))  # type: ignore[arg-type]
        nested = u is None and options.start == "fmg"
        run = Run(problem, right.f, right.b, nested, options.callback is not None)  # type: ignore[arg-type]
        iteration = self._iteration(run, options, tolerance.target(right.norm))
        solution = iterate(iteration, u, system, tolerance, options.callback)
        precision = "Precision: mixed." if iteration.mixed else ""
        solution = finished(self, solution, right, tolerance, precision)  # type: ignore[arg-type]
        return replace(solution, u=self._outward(solution.u))

    def _inward(self, block: Array) -> Array:
        """Return the rows of an array of which the user has given blocks."""
        own = self.source.solved(block.reshape(len(block), *(block.shape[1:] or (1,))), self.rows)
        return self.rows.fill(self.rows.part.extended(own))

    def _outward(self, u: Array) -> Array:
        """Return the block of an array as the user has it."""
        return self.source.returned(u[self.rows.part.owned], self.rows).reshape(self.local_shape)

    def _right_hand_side(self, f: Array, compatibility: str) -> RightHandSide:
        """Return the right-hand side of a source. Raises ValueError where it has none, or numbers do not hold it."""
        problem, rows = self.problem, self.rows
        if f.dtype == np.float32 and not problem.fits(f.dtype):
            raise ValueError(f"1/h^2 leaves the range of {f.dtype} here or on coarser grids; give f in float64")
        with np.errstate(over="ignore"):
            b = problem.folded(f)
        norm = rows.norm(b)
        if not math.isfinite(norm):
            self._refuse_infinite(f)
        if not SMALLEST_NORM < norm < LARGEST_NORM and norm != 0.0:
            raise ValueError(f"the squares of f, of norm {norm:.1e}, leave the range of numbers; scale f, and u after it")
        size, lost = norm / math.sqrt(problem.grid.size), float(np.finfo(b.dtype).tiny) * problem.operator.norm_bound
        if 0.0 < size < lost:
            raise ValueError(f"f, of size {size:.1e}, or u is too small for {b.dtype}; scale f up, and u down after it")
        right = RightHandSide(b, f, norm, np.zeros(()), b, measures=rows)
        if problem.parts is not None:
            return without_means(problem, problem.parts, right, compatibility)  # type: ignore[arg-type]
        return without_constant(problem, right, compatibility) if problem.has_constant_apart else right  # type: ignore[arg-type]

    def _refuse_infinite(self, f: Array) -> None:
        """Raise ValueError where a source is not finite at an unknown."""
        block, outside = self._outward(f), self.source.outside()
        if outside is not None:
            block = np.where(outside[0].reshape(block.shape), block, 0.0)
        together(self.comm, lambda: finite_array(block, "f"), ValueError)

    def _iteration(self, run: Run, options: SolveOptions, target: float) -> Iteration:
        """Return conjugate gradients, whose cycles run in single precision where that is faster, or cycles alone."""
        problem = self.problem
        start = self._nested if run.nested else None
        if options.accelerate is not None:
            large = problem.grid.size >= SINGLE_FROM or options.precision == "mixed"
            single = options.precision != "full" and large and problem.parts is None and problem.fits(SINGLE)
            return BlockGradients(self, run, SINGLE if single else run.b.dtype, target, start)
        if options.precision == "mixed":
            raise ValueError(
                "precision='mixed' is for cycles that precondition conjugate gradients; leave out accelerate, or it"
            )

        @np.errstate(**QUIET)
        def step(b: Array, u: Array | None) -> Array:
            correction = self._correction(problem.operator.integrated(problem.operator.residual(b, u)))
            return problem.centered(correction if u is None else u + correction)

        @np.errstate(**QUIET)
        def nested() -> Array:
            b = problem.compatible(problem.folded(run.f))
            return problem.centered(self._nested(problem.operator.integrated(b)))

        norm = self.rows.norm(run.b)
        return Repeated(step, system_of(problem, run.b, norm), nested if run.nested else None)  # type: ignore[arg-type]

    def _correction(self, r: Array) -> Array:
        """Return one cycle from zero for the symmetric form."""
        return self.cycle(self._boxed(r)).reshape(r.shape)  # type: ignore[no-any-return]

    def _nested(self, b: Array) -> Array:
        """Return full multigrid for the symmetric form."""
        return self.nested(self._boxed(b)).reshape(b.shape)  # type: ignore[no-any-return]

    def _boxed(self, array: Array) -> Array:
        """Return an array, its halo filled, as a box of three axes."""
        box = (1,) * (3 - self.problem.grid.ndim) + array.shape[: self.problem.grid.ndim]
        return self.rows.fill(array).reshape(box)


@final
class BlockGradients(FlexibleGradients):
    """Conjugate gradients on blocks."""

    def __init__(self, cycle: GalerkinDomainCycle, run: Run, dtype: np.dtype, target: float, nested: Any) -> None:
        self.passes, self._size = Passes(cycle.rows), cycle.problem.grid.size
        super().__init__(cycle._correction, run, dtype, target, nested)

    def _scaled(self, r: Array, dtype: np.dtype) -> tuple[Array, float]:
        """Return a copy in double precision too: cycles fill its halo."""
        scale = unit_scale(self._norm, self._size)
        return self.passes.scaled(r, scale, dtype), scale
