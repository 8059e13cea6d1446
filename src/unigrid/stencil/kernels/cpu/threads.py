"""Run a kernel over slabs of a grid on several cores.

The kernels are compiled once, serial, without the interpreter's lock; a team of Python threads runs them on disjoint slabs.
So there is no numba threading layer to select or to conflict with torch's, two Python threads may use one hierarchy, and one
compiled signature serves the serial and the parallel case. Slabs depend on the thread count alone, and so do results.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from itertools import pairwise
from typing import Any, TypeVar

from ....machine import cores_of_process
from ....messages import checked_count, shown

ENVIRONMENT_VARIABLE, MOST_DIGITS = "UNIGRID_NUM_THREADS", 9
# Unknowns from which a second core pays for waking its thread (measured: benchmarks/tuning/parallel_pays_from_here.py).
PARALLEL_FROM = 130_000

SlabKernel = Callable[..., Any]  # of the first and the last slab, or of another description of a part
_Part = TypeVar("_Part")


class _Call:
    """A call to be made by a worker, and its result or error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # raised again by `result`
            self._error = error
        del self._call  # before the result is available: memory of arrays that it refers to could not be reused
        self.done.release()

    def result(self) -> Any:
        self.done.acquire()
        try:
            if self._error is not None:
                raise self._error
        finally:
            self.forget()
        return self._result

    def forget(self) -> None:
        """Drop the error, whose traceback refers to this call."""
        self._error = None


class _Worker(threading.Thread):
    """A thread that makes calls, in order."""

    def __init__(self) -> None:
        super().__init__(name="unigrid-worker", daemon=True)
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            del call  # an idle worker keeps no array alive

    def begin(self, call: _Call) -> None:
        self._calls.put(call)

    def retire(self) -> None:
        """End the thread after its calls."""
        self._calls.put(None)

    def finish(self) -> None:
        """Wait until all calls are done: no one may go on while a worker still writes to an array.

        For use when an exception is being raised already; another one during the wait, a second Ctrl-C, changes nothing.
        """
        while True:
            with contextlib.suppress(BaseException):
                last = _Call(bool)
                self.begin(last)
                last.result()
                return


class _Team:
    """The calling thread and `threads - 1` workers, started when first needed. One caller at a time has the workers."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.workers: list[_Worker] = []
        self.taken = threading.Lock()

    def __del__(self) -> None:
        for worker in self.workers:
            worker.retire()

    def run(self, kernel: SlabKernel, parts: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not self.taken.acquire(blocking=False):
            return [kernel(*part) for part in parts]  # another of the user's threads has the workers: the same slabs, serially
        try:
            if not self._started(len(parts) - 1):
                return [kernel(*part) for part in parts]
            calls = [_Call(functools.partial(kernel, *part)) for part in parts[1:]]
            helpers = self.workers[: len(calls)]
            try:
                for worker, call in zip(helpers, calls, strict=True):
                    worker.begin(call)
                own = kernel(*parts[0])
                return [own, *(call.result() for call in calls)]
            except BaseException:
                for worker in helpers:
                    worker.finish()
                for call in calls:
                    call.forget()
                raise
        finally:
            self.taken.release()

    def _started(self, count: int) -> bool:
        """Start workers up to this number; whether there are so many, as the system may refuse another thread."""
        with contextlib.suppress(RuntimeError, MemoryError):
            while len(self.workers) < count:
                self.workers.append(_Worker())
        return len(self.workers) >= count


def _default_threads() -> int:
    cores = cores_of_process()
    asked = os.environ.get(ENVIRONMENT_VARIABLE)
    if asked is None:
        return cores
    if not asked.strip().isdecimal() or len(asked) > MOST_DIGITS or int(asked) < 1:
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE} must be an integer >= 1, got {shown(asked)}; unset it to use all {cores} cores"
        )
    return int(asked)


_team = _Team(_default_threads())
_limit: ContextVar[int | None] = ContextVar("threads of a solve", default=None)


def get_num_threads() -> int:
    """Return how many cores the stencil kernels use on large grids."""
    return _limit.get() or _team.threads


def limited_to(threads: int | None) -> Context:
    """Return a context whose calls, `run(call, ..)`, use at most this number of cores, in this thread alone; None is no limit.

    The interpreter itself leaves a context: whatever interrupts a call, the limit ends with it, and so does what it changed of
    NumPy's handling of errors.
    """
    context = copy_context()
    if threads is not None:
        context.run(_limit.set, threads)
    return context


def set_num_threads(threads: int) -> None:
    """Use `threads` cores for the stencil kernels on large grids, for all hierarchies.

    The default is every core this process may use, its share of them under torchrun, or the environment variable
    UNIGRID_NUM_THREADS.
    Raises ValueError for anything but an integer >= 1.
    """
    _team.threads = checked_count("threads", threads)


def _replace(team: _Team) -> None:
    global _team
    if _team is team:
        _team = _Team(team.threads)


def _after_fork() -> None:
    """Make a new team: threads do not survive a fork; the child starts its own when it needs them."""
    global _team
    _team = _Team(_team.threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def over_slabs(kernel: SlabKernel, slabs: int, unknowns: int) -> list[Any]:
    """Call `kernel(first, last)` on parts of range(slabs), at once where that pays; return the results in order."""
    return over_parts(kernel, slab_parts(slabs, unknowns))


def over_each(kernel: Callable[[_Part], Any], parts: Sequence[_Part]) -> list[Any]:
    """Call `kernel(part)` for all parts at once; return the results in order."""
    return over_parts(kernel, [(part,) for part in parts])


def slab_parts(slabs: int, unknowns: int) -> list[tuple[int, int]]:
    """Return range(slabs) cut into one part per thread, where that pays."""
    return even_parts(slabs, min(threads_for(unknowns), slabs))


def threads_for(unknowns: int) -> int:
    """Return the number of threads for a grid of this size."""
    return get_num_threads() if unknowns >= PARALLEL_FROM else 1


def even_parts(slabs: int, count: int) -> list[tuple[int, int]]:
    """Return range(slabs) cut into `count` parts of about equal length."""
    return list(pairwise(slabs * part // count for part in range(count + 1)))


def over_parts(kernel: SlabKernel, parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call `kernel(*part)` for all parts at once; return the results in order."""
    if len(parts) <= 1:
        return [kernel(*part) for part in parts]
    team = _team
    try:
        return team.run(kernel, parts)
    except BaseException:
        _replace(team)  # interrupted anywhere, it may hold its lock forever: the next call gets a new team
        raise
