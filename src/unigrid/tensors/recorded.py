"""Cycles on a GPU without a word from the host in between: recorded once, as CUDA graphs, and replayed.

A solve at 1023^2 is some 200 kernels of a few microseconds each; to start one by one takes longer than to run it. So two cycles
with their norms are one graph, full multigrid with the cycle after it another. The host waits for both norms of a graph at
once. Where the first of them meets the tolerance, a flag on the device lets the kernels of the second cycle do nothing; each
cycle writes to arrays of its own, so either iterate can be returned.

Source: A. Gray, Getting started with CUDA graphs (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar, final

import torch
from torch import Tensor

from ..cycle import MultigridCycle
from ..iterate import Iteration
from ..stencil.iterations import Run

RECORDED = 4  # cycles whose graphs are kept: each holds about ten arrays of the size of the grid
Made = TypeVar("Made")


class Recorder(Protocol):
    """What turns work on a device into a recording."""

    def record(self, work: Callable[[], Made]) -> Callable[[], Made]:
        """Return what repeats the work with the numbers that its arrays then have, into the arrays that it made at first."""

    def fetch(self, numbers: Tensor) -> list[float]:
        """Return numbers on the host, once what was started before is done."""


@final
class GraphRecorder:
    """Work as CUDA graphs, which share one pool of memory, as one is replayed after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, torch.cuda.graph_pool_handle()
        self._host = torch.empty(2, dtype=torch.float64, pin_memory=True)

    def record(self, work: Callable[[], Made]) -> Callable[[], Made]:
        with torch.cuda.device(self._device):
            beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):  # Triton compiles, and cuBLAS takes its memory, which a graph cannot record
                work()
            torch.cuda.current_stream().wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                made = work()

        def replay() -> Made:
            graph.replay()  # type: ignore[no-untyped-call]
            return made

        return replay

    def fetch(self, numbers: Tensor) -> list[float]:
        host = self._host[: len(numbers)]
        host.copy_(numbers, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return host.tolist()  # type: ignore[no-any-return]


class Done(NamedTuple):
    """Cycles that were done: their iterates, and the norms of their residuals, on the device."""

    iterates: tuple[Tensor, ...]
    norms: Tensor


@final
class Recording:
    """One or two cycles of a hierarchy, from where the last ones ended or by full multigrid, on arrays of their own."""

    def __init__(self, cycle: Any, recorder: Recorder) -> None:
        """`cycle` is a `DeviceStencilCycle`."""
        self._cycle, self.recorder = cycle, recorder
        like = cycle.problem.empty()
        self.f, self.b, self.u = (torch.zeros_like(like) for _ in range(3))
        self.target = torch.zeros(1, dtype=torch.float64, device=like.device)
        self._made: dict[tuple[bool, int], Callable[[], Done]] = {}

    def replayed(self, nested: bool, count: int) -> Done:
        """Return so many more cycles, of which the first is full multigrid where it is nested."""
        if (nested, count) not in self._made:
            before = self.u.clone()
            self._made[nested, count] = self.recorder.record(lambda: self._cycles(nested, count))
            self.u.copy_(before)  # which recording may have changed
        return self._made[nested, count]()

    def _cycles(self, nested: bool, count: int) -> Done:
        cycle, done, u, iterates, norms = self._cycle, self._cycle.done, self.u, [], []
        done.zero_()
        for number in range(count):
            begins = nested and number == 0
            descent = cycle.descend_nested(self.f, self.b) if begins else cycle.levels[0].descend(self.b, u, cycle.levels[1])
            norm, u = cycle.levels[0].measured(self.b, *cycle.below(descent, cycle.kind, 1))
            norms.append(norm.reshape(1).double())
            iterates.append(u)
            done.copy_(norms[-1] <= self.target)
        self.u.copy_(u)
        done.zero_()  # the levels serve other solves too
        return Done(tuple(iterates), torch.cat(norms))


@final
class RecordedCycles(Iteration):
    """What `stencil.iterations.Cycles` does, two cycles at a time. It looks ahead as `Cycles` on the host would."""

    def __init__(self, recording: Recording, run: Run, target: float, turns: bool) -> None:
        """`target` is the residual to be reached; infinity stands for one cycle at a time.

        `turns` is whether the finest level on the host begins cycles early.
        """
        self._recording, self._run, self._target, self._turns = recording, run, target, turns
        self.nested_start = run.nested

    def start(self, u: Tensor | None) -> None:
        recording, run = self._recording, self._run
        self._nested = u is None and run.nested
        recording.b.copy_(run.b)  # type: ignore[arg-type]
        if self._nested:
            recording.f.copy_(run.f)  # type: ignore[arg-type]
        recording.u.zero_() if u is None else recording.u.copy_(u)
        self._u: Tensor | None = u
        self._waiting: list[tuple[float, Tensor]] = []
        self.under_way = False

    def step(self, look_ahead: bool) -> float:
        self.under_way = not self._waiting and look_ahead and self._turns
        if not self._waiting:
            self._replay()
        norm, u = self._waiting.pop(0)
        if math.isfinite(norm):
            self._u = u
        return norm

    def _replay(self) -> None:
        """Do cycles; unless the next one is under way, a second only where the first does not reach the target."""
        recording = self._recording
        recording.target.fill_(-1.0 if self.under_way else self._target)
        count = 2 if self.under_way or self._target < math.inf else 1
        done = recording.replayed(self._nested, count)
        self._nested = False
        self._waiting = list(zip(recording.recorder.fetch(done.norms), done.iterates, strict=True))

    def current(self) -> Tensor | None:
        return None if self._u is None else self._run.shown(self._u.clone())  # type: ignore[arg-type, return-value]

    @property
    def state(self) -> Tensor | None:
        return self._u


def recorder_for(device: torch.device, backend: str) -> Callable[[torch.device], Recorder] | None:
    """Return what records on a device; None where cycles run one by one."""
    return GraphRecorder if device.type == "cuda" and backend == "triton" else None


@lru_cache(RECORDED)
def recording_of(cycle: MultigridCycle, kind: Callable[[torch.device], Recorder]) -> Recording:
    """Return the recording of a cycle, which is kept for the next solve."""
    return Recording(cycle, kind(cycle.device))  # type: ignore[attr-defined]
