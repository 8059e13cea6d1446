"""Processes that are threads of one: for tests of what does not depend on how messages travel."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PATIENCE = 60.0  # seconds


class Group:
    """So many threads that call one function, each with a communicator."""

    def __init__(self, size: int) -> None:
        self.size = size
        pairs = itertools.product(range(size), repeat=2)  # made beforehand: two threads that make one lose a message
        self.mail: dict[tuple[int, int], queue.Queue] = {pair: queue.Queue() for pair in pairs}
        self.barrier = threading.Barrier(size)
        self.items: list[Any] = [None] * size
        self.errors: dict[int, BaseException] = {}
        self.found: list[Any] = [None] * size

    def run(self, function: Callable[[ThreadCommunicator], Any]) -> list[Any]:
        """Return what the function returns on each; raise the first error."""

        def one(rank: int) -> None:
            try:
                self.found[rank] = function(ThreadCommunicator(self, rank))
            except BaseException as error:
                self.errors[rank] = error
                self.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        own = {rank: error for rank, error in self.errors.items() if not isinstance(error, threading.BrokenBarrierError)}
        for rank in sorted(own or self.errors):
            raise self.errors[rank]
        return self.found


class ThreadCommunicator:
    """A communicator of `Group`; it counts what it sends."""

    def __init__(self, group: Group, rank: int) -> None:
        self._group, self.rank, self.size = group, rank, group.size
        self.messages: list[int] = []  # the bytes of each that was sent

    def exchange(self, sent: Sequence[tuple[int, np.ndarray]], received: Sequence[tuple[int, np.ndarray]]) -> None:
        for other, array in sent:
            self.messages.append(array.nbytes)
            self._group.mail[self.rank, other].put(array.copy())
        for other, array in received:
            array[...] = self._group.mail[other, self.rank].get(timeout=PATIENCE)

    def allgather(self, item: Any) -> list[Any]:
        self._group.items[self.rank] = item
        self._group.barrier.wait(PATIENCE)
        items = list(self._group.items)
        self._group.barrier.wait(PATIENCE)
        return items

    def allgather_rows(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        parts = self.allgather(rows.copy())
        assert [len(part) for part in parts] == list(counts)
        return np.concatenate(parts)
