"""Independent right-hand sides through one hierarchy.

From `PARALLEL_FROM` unknowns on, a solve uses all cores by itself, and right-hand sides follow one another. Below it, each core
takes the next block of right-hand sides when it has done one, and goes through the hierarchy with all of a block in step, where
there are kernels for that (see `stacks`). Either way every solution has the bits of a call of its own, and memory is that of
f, u and, per core, the solves of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..solution import Solution, stacked
from .kernels.cpu.threads import PARALLEL_FROM, get_num_threads, limited_to, over_each
from .kernels.workspace import empty

Array = NDArray[np.floating]
# One by one, a solve on a smaller grid is more Python than kernels, and cores would wait for one another's turn in the
# interpreter: 95^2 and 127^2 gain 1.04 and 1.20 on two cores, 255^2 1.5, 48^3 1.7.
SEVERAL_FROM = 10_000
# The right-hand sides of a block in step: at most so many, and of so many bytes.
MOST, MOST_BYTES = 16, 8 << 20


def goes_in_step(size: int) -> bool:
    """Whether grids of so many unknowns are solved for in step: each on one core."""
    return size < PARALLEL_FROM


def solve_stack(
    solve: Callable[[Array, Array | None, Array], list[Solution]],
    f: Array,
    u0: Array | None,
    shape: tuple[int, ...],
    in_step: bool,
    at_once: bool,
) -> Solution:
    """Solve for every source in a stack, each of `shape`, on several cores `at_once` or in order; no failure stops the others.

    `solve` takes a block of sources and of starts, more than one of them only where it solves `in_step`, and an array for the
    solutions, which it need not use. An exception, such as
    that of a callback, ends all; of several, that of the first block is raised.
    """
    u = empty(f.shape, f.dtype)
    rows, sources = u.reshape(-1, *shape), f.reshape(-1, *shape)
    starts = None if u0 is None else u0.reshape(-1, *shape)
    count, size = len(rows), math.prod(shape)
    pays = at_once and (in_step or SEVERAL_FROM <= size < PARALLEL_FROM)
    cores = min(get_num_threads(), count) if pays else 1
    height = max(1, min(MOST, MOST_BYTES // (size * f.itemsize), -(-count // max(1, cores)))) if in_step else 1

    def block(first: int) -> list[Solution]:
        own = slice(first, first + height)
        parts = solve(sources[own], None if starts is None else starts[own], rows[own])
        for row, part in zip(rows[own], parts, strict=True):
            if not np.may_share_memory(row, part.u):
                row[...] = part.u
        return [replace(part, u=row) for row, part in zip(rows[own], parts, strict=True)]  # views: nothing is held twice

    return stacked([part for parts in _each(block, range(0, count, height), cores) for part in parts], u)


def _each(one: Callable[[int], list[Solution]], blocks: Sequence[int], cores: int) -> list[list[Solution]]:
    """Return `one(block)` for all blocks, each core taking the next."""
    if cores <= 1:
        return [one(block) for block in blocks]
    numbers = iter(range(len(blocks)))
    found: dict[int, list[Solution]] = {}
    errors: dict[int, BaseException] = {}

    def take() -> None:
        for number in numbers:  # one iterator for all: what one core takes, no other does
            if errors:
                return
            try:
                found[number] = one(blocks[number])
            except BaseException as error:  # an interrupt too: the other cores must not go on
                errors[number] = error
                return

    over_each(lambda _: limited_to(1).run(take), list(range(cores)))
    if errors:
        raise errors[min(errors)]
    return [found[number] for number in range(len(blocks))]
