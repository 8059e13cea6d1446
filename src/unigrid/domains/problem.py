"""The problem of which each process gives its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from numpy.typing import ArrayLike

from ..messages import reject_unknown_keywords
from ..stencil.grid import checked_shape
from .communicator import communicator_of
from .parts import own_block
from .sources import BlockSource


@final
class DomainProblem:
    """-div(a grad u) + c u = f on several processes, each with a block of rows of the first axis of all arrays.

    It is the `Poisson` problem with the same arguments; of arrays of the shape of f, each process gives its own rows, so that
    none has a whole array. All processes make it alike.

    Parameters
    ----------
    shape : tuple of int
        The unknowns of all processes along each axis.
    comm
        A communicator of mpi4py, or another `domains.communicator.Communicator`.
    lengths, spacing, boundary, centering
        As of `Poisson`. Values on sides are those of the whole side.
    reaction : float or array
        c; an array is the block of the process.
    coefficient : float, array or callable, optional
        a: a number, one per axis, the block of an array at the unknowns, or a function of the coordinates, or one per axis;
        functions are called with the coordinates of the rows of a process, and some beside them.
    mask, outside, fixed
        As of `Poisson`; arrays are blocks.

    Attributes
    ----------
    local : tuple of slices
        The block of this process: `a[problem.local]` is what it needs of a whole array.

    Raises
    ------
    TypeError, ValueError
        For what is none of these, on all processes alike.

    Examples
    --------
    With ``mpiexec -n 4 python script.py``::

        from mpi4py import MPI
        rows = unigrid.DomainProblem.rows((4095, 4095), MPI.COMM_WORLD)
        a = np.load("a.npy", mmap_mode="r")[rows]
        problem = unigrid.DomainProblem((4095, 4095), MPI.COMM_WORLD, coefficient=a)
        u = unigrid.DomainCycle(problem, MPI.COMM_WORLD).solve(np.load("f.npy", mmap_mode="r")[rows]).u
    """

    @reject_unknown_keywords
    def __init__(
        self,
        shape: int | Sequence[int],
        comm: Any,
        *,
        lengths: float | Sequence[float] | None = None,
        spacing: float | Sequence[float | ArrayLike] | None = None,
        boundary: Any = "dirichlet",
        centering: str = "vertex",
        reaction: float | ArrayLike = 0.0,
        coefficient: Any = None,
        mask: ArrayLike | None = None,
        outside: Any = 0.0,
        fixed: Any = None,
    ) -> None:
        given = {
            "lengths": lengths, "spacing": spacing, "boundary": boundary, "centering": centering, "reaction": reaction,
            "coefficient": coefficient, "mask": mask, "outside": outside, "fixed": fixed,
        }  # fmt: skip
        self._source = BlockSource(shape, comm, **given)  # type: ignore[arg-type]

    @staticmethod
    def rows(shape: int | Sequence[int], comm: Any) -> tuple[slice, ...]:
        """Return the block of this process in arrays of a shape, as a problem of that shape will have it."""
        found = communicator_of(comm)
        return own_block(checked_shape(shape), found.size, found.rank)

    @property
    def shape(self) -> tuple[int, ...]:
        """The unknowns of all processes along each axis."""
        return self._source.shape

    @property
    def local(self) -> tuple[slice, ...]:
        """The block of this process in a whole array."""
        return DomainProblem.rows(self.shape, self._source.comm)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"<DomainProblem: {shape} unknowns on {self._source.comm.size} processes>"
