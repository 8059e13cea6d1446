"""Solving on several processes: what all cycles in blocks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import MultigridCycle
from ..iterate import raise_unless_converged
from ..messages import lists_options
from ..solution import Solution
from ..stencil.grid import finite_array, real_array
from ..stencil.kernels.cpu.threads import limited_to
from ..stencil.problem import Poisson
from ..stencil.solving import SolveOptions
from .communicator import Communicator, together
from .parts import Cuts, even_cuts, own_block

Array = NDArray[np.floating]


class DomainCycle(MultigridCycle):
    """A cycle for a `Poisson` problem whose grid lies on several processes, each with a block of rows of the first axis.

    It is that of `StencilCycle`, where coefficients vary that of `GalerkinCycle`: the same levels and slots, the same iterates
    to round-off, whatever the number of processes. Finer levels are in blocks; from the first on that has few unknowns, or
    blocks of fewer rows than are exchanged, levels are whole on every process. All processes make it, and call its methods,
    alike.

    Parameters
    ----------
    problem : Poisson or DomainProblem
        The whole problem: a `Poisson` problem with constant coefficients holds no array of the size of the grid. Where
        something varies, a `DomainProblem` holds the rows of this process alone.
    comm
        A communicator of mpi4py, such as MPI.COMM_WORLD, or another `domains.communicator.Communicator`.
    **slots
        As of `StencilCycle`; smoothers are red-black, Jacobi or Chebyshev. Where coefficients vary, as of `GalerkinCycle`;
        smoothers are points and lines.

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

    comm: Communicator
    cuts: Cuts  # of the rows of f and u
    shape: tuple[int, ...]  # of the whole f and u
    problem: Any
    serial: Any  # the cycle of one process with the same slots, or what describes it

    def __new__(cls, problem: Any, comm: Any, **slots: Any) -> DomainCycle:
        """Return the cycle for a kind of problem."""
        if cls is not DomainCycle:
            return object.__new__(cls)
        if isinstance(problem, Poisson) and problem.has_waves:
            raise ValueError("on several processes the reaction must be >= 0; solve this one on a single one by unigrid.solve")
        if isinstance(problem, Poisson) and not problem.varies:
            from .stencil_cycle import StencilDomainCycle

            return object.__new__(StencilDomainCycle)
        from .galerkin_cycle import GalerkinDomainCycle
        from .problem import DomainProblem

        if not isinstance(problem, Poisson | DomainProblem):
            raise TypeError(f"problem must be a unigrid.Poisson or a unigrid.DomainProblem, got {type(problem).__name__}")
        if isinstance(problem, Poisson) and (problem.nonlinear or problem.order != 2):
            raise TypeError(f"several processes have no {problem.what_varies} yet; solve it on one process by unigrid.solve")
        return object.__new__(GalerkinDomainCycle)

    def __init__(self, problem: Any, comm: Any, **slots: Any) -> None:
        raise NotImplementedError

    def _hold(self, comm: Communicator, shape: Sequence[int]) -> None:
        """Take the communicator, and cut the rows of a grid of this shape."""
        self.comm, self.cuts, self.shape = comm, even_cuts(shape[0], comm.size), tuple(shape)

    @property
    def local(self) -> tuple[slice, ...]:
        """The block of this process in a whole array."""
        return own_block(self.shape, self.comm.size, self.comm.rank)

    @property
    def local_shape(self) -> tuple[int, ...]:
        """The shape of its block."""
        first, *others = self.local
        return first.stop - first.start, *(each.stop for each in others)

    def gather(self, u: Array) -> Array:
        """Return the whole array, on all processes, of their blocks."""
        return self.comm.allgather_rows(self._block(u, "u"), np.diff(self.cuts).tolist())

    @lists_options(SolveOptions)
    def solve(self, f: ArrayLike, **options: Any) -> Solution:
        """Return the Solution for the block of a source f on this process; its u is the block of the solution.

        All processes get the same outcome, residuals and errors. Options as of `unigrid.solve`, but for Krylov methods other
        than "cg"; `u0` is the block of the process, and `threads` is by default the share of this process in the cores of its
        machine.
        """
        chosen = SolveOptions.of(options, DomainCycle.solve, "DomainCycle.solve")
        _refuse_others(chosen)
        block = together(self.comm, lambda: self._block(f, "f"), TypeError, ValueError)
        given = str(block.dtype), chosen.callback is not None, chosen.u0 is not None
        kinds, watched, started = zip(*self.comm.allgather(given), strict=True)
        if len(set(kinds)) > 1:
            raise TypeError(f"f must have one precision on all processes, got {', '.join(kinds)}")
        if any(watched) and chosen.callback is None:
            chosen = replace(chosen, callback=lambda solution: None)  # what one of them sees is made by all
        if any(started) and not all(started):
            raise ValueError(f"u0 is given on process {started.index(True)} and not on process {started.index(False)}")
        u0 = self._start(chosen.u0, block.dtype) if all(started) else None
        solution = limited_to(chosen.threads).run(self._solve, block, u0, chosen)
        return raise_unless_converged(solution) if chosen.raise_on_failure else solution

    def _solve(self, block: Array, u0: Array | None, options: SolveOptions) -> Solution:
        """Return the outcome for the blocks of a source and a start, in the threads that are asked for."""
        raise NotImplementedError

    def _start(self, given: Any, dtype: np.dtype) -> Array:
        """Return the block of u0 in the precision of f. Raises ValueError where it is no start on some process."""

        def checked() -> Array:
            with np.errstate(over="ignore"):
                u0 = finite_array(self._block(given, "u0"), "u0").astype(dtype)
            return finite_array(u0, f"u0 in {dtype}, the precision of f,")

        return together(self.comm, checked, TypeError, ValueError)

    def _block(self, array: ArrayLike, name: str) -> Array:
        array = real_array(array, name)
        if array.shape != self.local_shape:
            rows = self.local[0]
            raise ValueError(
                f"{name} must be the block of its process, of shape {self.local_shape}, rows {rows.start} to {rows.stop} of "
                f"{self.cuts[-1]}; got shape {array.shape}. Give {name}[cycle.local]"
            )
        return array


def _refuse_others(options: SolveOptions) -> None:
    """Raise ValueError for what there is not."""
    for wrong, what in (
        (options.has_method and options.accelerate != "cg", "other methods of accelerate than 'cg'"),
        (options.backend is not None, "backend"),
    ):
        if wrong:
            raise ValueError(f"several processes have no {what} yet; leave it out, or solve on one process by unigrid.solve")
