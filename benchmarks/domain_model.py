"""How long a grid in blocks takes: messages of a solve, counted from the algorithm, and a machine of five numbers.

A solve is full multigrid and K - 1 further V-cycles. Level l is visited K + l times; in blocks, it has its halo filled K + 1
times (l = 0: the source, then once per iteration) or 3 (K + l) times (a right-hand side comes down, a correction is taken from
it, and its own u is filled, in each of K + l cycles). The first level that is whole is gathered as often as a cycle gets there.
A cycle is taken to begin in the pass that ends the one before; one that was not expected to be needed fills u once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grids import Shape

import unigrid

ITEM = 8  # bytes of a number


@dataclass(frozen=True)
class Block:
    """What a process has of a level: its own rows, those with the halo, the depth of the halo, the unknowns per row."""

    own: int
    held: int
    halo: int
    width: int


@dataclass(frozen=True)
class Layout:
    """The levels of a process of `size`: those in blocks, the unknowns of those that are whole, and its neighbors."""

    size: int
    neighbors: int
    blocks: tuple[Block, ...]
    whole: tuple[int, ...]


@dataclass(frozen=True)
class Machine:
    """Seconds of a message (with its calls in Python), bytes per second, seconds of a sum, of an unknown, of a level.

    A sum is that of one number between two processes; an unknown and a level are counted once per visit.
    """

    latency: float
    bandwidth: float
    sum: float
    unknown: float
    level: float


class Pretended:
    """A communicator that only has a number among others: what a process would have of a grid is known without its peers."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def exchange(self, sent: Any, received: Any) -> None:
        raise NotImplementedError

    def allgather(self, item: Any) -> list[Any]:
        raise NotImplementedError

    def allgather_rows(self, rows: Any, counts: Sequence[int]) -> Any:
        raise NotImplementedError


def box(shape: Shape) -> unigrid.Poisson:
    """Return the problem with one spacing along all axes, that of the longest side of length 1."""
    return unigrid.Poisson(shape, spacing=1.0 / (max(shape) + 1))


def layout_of(shape: Shape, size: int) -> Layout:
    """Return what a process in the middle has. Raises ValueError where the grid cannot be cut into so many blocks."""
    cycle = unigrid.DomainCycle(box(shape), Pretended(size // 2, size))
    blocks, whole = [], []
    for level in cycle.levels:
        unknowns = math.prod(level.problem.shape)
        part = getattr(level, "part", None)
        if part is None:
            whole.append(unknowns)
        else:
            held = len(part.rows)
            blocks.append(Block(part.last - part.first, held, part.halo, unknowns // held))
    return Layout(size, min(2, size - 1), tuple(blocks), tuple(whole))


def fills_of(level: int, iterations: int) -> int:
    """Return how often the halo of a level is filled in a solve."""
    return iterations + 1 if level == 0 else 3 * (iterations + level)


def traffic_of(layout: Layout, iterations: int) -> dict[str, int]:
    """Return the exchanges of a process in a solve, the messages and bytes that it sends, its gathers, and its sums."""
    fills = [fills_of(level, iterations) for level in range(len(layout.blocks))]
    sent = sum(count * ITEM * block.halo * block.width for count, block in zip(fills, layout.blocks, strict=True))
    return {
        "exchanges": sum(fills), "messages": layout.neighbors * sum(fills), "bytes": layout.neighbors * sent,
        "gathers": len(layout.blocks) + iterations, "sums": iterations + 3,
    }  # fmt: skip


def visited(layout: Layout, iterations: int) -> tuple[int, int]:
    """Return the unknowns and the levels that a process computes on in a solve, halos included, each once per visit."""
    sizes = [*(block.held * block.width for block in layout.blocks), *layout.whole]
    visits = [iterations + level for level in range(len(sizes))]
    return sum(count * size for count, size in zip(visits, sizes, strict=True)), sum(visits)


def seconds_of(layout: Layout, iterations: int, machine: Machine) -> dict[str, float]:
    """Return the modelled parts of a solve: arithmetic, exchanges, gathered levels (their arithmetic aside), sums."""
    unknowns, levels = visited(layout, iterations)
    traffic = traffic_of(layout, iterations)
    rounds = math.ceil(math.log2(layout.size))
    gathered = ITEM * layout.whole[0] * (layout.size - 1) / layout.size
    return {
        "arithmetic": unknowns * machine.unknown + levels * machine.level,
        "exchanges": traffic["messages"] * machine.latency + traffic["bytes"] / machine.bandwidth,
        "gathers": traffic["gathers"] * (rounds * machine.latency + gathered / machine.bandwidth),
        "sums": traffic["sums"] * rounds * machine.sum,
    }


def unknown_seconds(layout: Layout, iterations: int, seconds: float, level: float) -> float:
    """Return the seconds per unknown and visit of a solve without neighbors, given those per level and visit."""
    unknowns, levels = visited(layout, iterations)
    return max(seconds - levels * level, 0.1 * seconds) / unknowns


def line_through(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return latency and bandwidth: seconds = latency + size / bandwidth, least squares of relative errors."""
    weights = [1.0 / each for each in seconds]
    a = sum(w * w for w in weights)
    b = sum(w * w * size for w, size in zip(weights, sizes, strict=True))
    c = sum(w * w * size * size for w, size in zip(weights, sizes, strict=True))
    p, q = sum(weights), sum(w * size for w, size in zip(weights, sizes, strict=True))
    determinant = a * c - b * b
    latency, inverse = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    return max(latency, min(seconds) / 10), 1.0 / inverse
