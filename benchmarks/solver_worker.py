"""A process that solves on request, by unigrid's public API alone, whatever version of unigrid it imports.

Requests and replies are lines of JSON on standard input and output. `Worker` is the other end: it starts such a process, for
a given source folder of unigrid, and sends requests.

    {"do": "origin"}                                        the folder that unigrid was imported from
    {"do": "warm_up", "ndim", "threads"}                    solves small problems, so that all kernels are loaded
    {"do": "set_up", "shape"}                               seconds of StencilCycle(Poisson(shape))
    {"do": "first_call", "shape", "threads", "rtol"}        seconds of unigrid.solve on a problem not solved before
    {"do": "prepared", "shape", "threads", "rtol", "calls", "options"}
                                                            seconds of each of `calls` solves by a prepared cycle
    {"do": "peak_memory", "shape", "boundary", "value", "threads", "rtol"}
                                                            peak bytes that NumPy allocates in a first solve, u included
    {"do": "forget"}                                        drops the prepared cycles and right-hand sides
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

# Nested and not, large enough for several threads, and with no axis in common with a grid of 2^k - 1 or 1500 points.
WARM_UP = {1: [(383,), (400,)], 2: [(383, 383), (400, 400)], 3: [(95, 95, 95), (56, 56, 56)]}


class Worker:
    """The parent's end of a solver process; a context manager that ends it."""

    def __init__(self, source: Path | None = None) -> None:
        """Start the process; `source` is the folder that holds the package unigrid, by default that of this process."""
        environment = dict(os.environ)
        if source is not None:
            environment["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, [environment.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.__exit__(kind, error, traceback)  # closes the pipes, on which the process ends, and waits for it

    def __call__(self, do: str, **request: Any) -> Any:
        """Send a request, and return the reply. Raises RuntimeError if the process ends, its error printed before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        if not reply:
            raise RuntimeError(f"the solver process ended during {do!r} {request}")
        return json.loads(reply)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class _Requests:
    """The requests, one method each."""

    def __init__(self) -> None:
        self.sources: dict[tuple[int, ...], Any] = {}
        self.cycles: dict[tuple[int, ...], Any] = {}

    def origin(self) -> str:
        import unigrid

        return str(Path(unigrid.__file__).parents[1])

    def warm_up(self, ndim: int, threads: int) -> None:
        import numpy as np

        import unigrid

        for shape in WARM_UP[ndim]:
            f = np.random.default_rng(0).standard_normal(shape)
            for options in ({}, {"precision": "full"}, {"precision": "mixed"}):
                unigrid.solve(f, threads=threads, **options)

    def set_up(self, shape: list[int]) -> float:
        import unigrid

        return _seconds(lambda: unigrid.StencilCycle(unigrid.Poisson(tuple(shape))))

    def first_call(self, shape: list[int], threads: int, rtol: float) -> float:
        import unigrid

        f = self._source(shape)
        return _seconds(lambda: unigrid.solve(f, rtol=rtol, threads=threads))

    def prepared(self, shape: list[int], threads: int, rtol: float, calls: int, options: dict[str, Any]) -> list[float]:
        import unigrid

        f, key = self._source(shape), tuple(shape)
        if key not in self.cycles:
            self.cycles[key] = unigrid.StencilCycle(unigrid.Poisson(key))
        cycle = self.cycles[key]
        return [_seconds(lambda: cycle.solve(f, rtol=rtol, threads=threads, **options)) for _ in range(calls)]

    def peak_memory(self, shape: list[int], boundary: str, value: float, threads: int, rtol: float) -> int:
        import numpy as np

        import unigrid

        def prepare(shape: tuple[int, ...]) -> tuple[Any, Any]:
            problem = unigrid.Poisson(shape, boundary=unigrid.Dirichlet(value) if value else boundary)
            f = problem.compatible(np.random.default_rng(0).standard_normal(shape))
            return unigrid.StencilCycle(problem), f

        cycle, f = prepare((31,) * len(shape))
        cycle.solve(f, rtol=rtol, threads=threads)
        cycle, f = prepare(tuple(shape))
        tracemalloc.start()
        try:
            cycle.solve(f, rtol=rtol, threads=threads)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def forget(self) -> None:
        self.sources.clear()
        self.cycles.clear()

    def _source(self, shape: list[int]) -> Any:
        import numpy as np

        key = tuple(shape)
        if key not in self.sources:
            self.sources[key] = np.random.default_rng(0).standard_normal(key)
        return self.sources[key]


def main() -> None:
    requests = _Requests()
    for line in sys.stdin:
        request = json.loads(line)
        reply = getattr(requests, request.pop("do"))(**request)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
