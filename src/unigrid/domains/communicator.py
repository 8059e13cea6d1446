"""What domains need of several processes: neighbors exchange rows, and all learn what each has.

`Communicator` is the interface: MPI through mpi4py is one, NCCL can be another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Result = TypeVar("Result")
HOW = "a communicator of mpi4py, such as mpi4py.MPI.COMM_WORLD, or a unigrid Communicator"


class Communicator(Protocol):
    """A group of processes, of which this is number `rank` of `size`. All of them call the same methods in the same order."""

    rank: int
    size: int

    def exchange(self, sent: Sequence[tuple[int, Array]], received: Sequence[tuple[int, Array]]) -> None:
        """Send arrays to processes, and fill others with what processes send.

        Between two processes, the i-th array that one sends is the i-th that the other receives.
        """

    def allgather(self, item: Any) -> list[Any]:
        """Return the items of all processes, in the order of their numbers: anything that can be pickled."""

    def allgather_rows(self, rows: Array, counts: Sequence[int]) -> Array:
        """Return the rows of all processes in one array; `counts` are how many each has."""


@final
class MpiCommunicator:
    """MPI's, through mpi4py."""

    def __init__(self, comm: Any) -> None:
        self._comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()

    def exchange(self, sent: Sequence[tuple[int, Array]], received: Sequence[tuple[int, Array]]) -> None:
        requests = [self._comm.Irecv(array, source=other) for other, array in received]
        requests += [self._comm.Isend(array, dest=other) for other, array in sent]
        for request in requests:
            request.Wait()

    def allgather(self, item: Any) -> list[Any]:
        return self._comm.allgather(item)  # type: ignore[no-any-return]

    def allgather_rows(self, rows: Array, counts: Sequence[int]) -> Array:
        whole = np.empty((sum(counts), *rows.shape[1:]), rows.dtype)
        entries = [count * int(np.prod(rows.shape[1:])) for count in counts]
        self._comm.Allgatherv(np.ascontiguousarray(rows), (whole, entries))
        return whole


def communicator_of(comm: Any) -> Communicator:
    """Return the communicator that a user's object is, or stands for. Raises TypeError."""
    if hasattr(comm, "Get_rank") and hasattr(comm, "Allgatherv"):
        return MpiCommunicator(comm)
    if all(hasattr(comm, name) for name in ("rank", "size", "exchange", "allgather", "allgather_rows")):
        return comm  # type: ignore[no-any-return]
    raise TypeError(f"comm must be {HOW}, got {type(comm).__module__}.{type(comm).__qualname__}")


def together(comm: Communicator, call: Callable[[], Result], *errors: type[Exception]) -> Result:
    """Return the result of a call that all processes make; an error of one of them is raised in all.

    It is that of the first process that has one; its text names that process, unless all have the same.
    """
    error, result = None, None
    try:
        result = call()
    except errors as raised:
        error = raised
    found = comm.allgather(None if error is None else (type(error), str(error)))
    if error is not None and all(each == found[0] for each in found):
        raise error
    for rank, each in enumerate(found):
        if each is not None:
            kind, text = each
            raise kind(f"process {rank} of {comm.size}: {text}")
    return result  # type: ignore[return-value]
