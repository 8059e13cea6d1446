"""Independent right-hand sides through one hierarchy: a core for each where one solve would use a single core.

From `PARALLEL_FROM` unknowns on, a solve uses all cores by itself, and right-hand sides follow one another. Below it, each core
takes the next right-hand side when it has done one. Either way every solution has the bits of a call of its own, and memory is
that of f, u and, per core, one solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..solution import Solution, stacked
from .kernels.cpu.threads import PARALLEL_FROM, get_num_threads, limited_to, over_each

Array = NDArray[np.floating]
# On smaller grids a solve is more Python than kernels, and cores would wait for one another's turn in the interpreter.
SEVERAL_FROM = 10_000  # 95^2 and 127^2 gain 1.04 and 1.20 on two cores, 255^2 1.5, 48^3 1.7


def solve_stack(
    solve: Callable[[Array, Array | None], Solution], f: Array, u0: Array | None, shape: tuple[int, ...], at_once: bool
) -> Solution:
    """Solve for every source in a stack, each of `shape`, `at_once` or in order; one that fails stops no other.

    An exception of one of them, such as that of a callback, ends all; of several, the first one's is raised.
    """
    u = np.empty_like(f)
    rows, sources = u.reshape(-1, *shape), f.reshape(-1, *shape)
    starts = [None] * len(sources) if u0 is None else u0.reshape(-1, *shape)

    def one(number: int) -> Solution:
        part = solve(sources[number], starts[number])
        rows[number] = part.u
        return replace(part, u=rows[number])  # a view: nothing is held twice

    pays = at_once and SEVERAL_FROM <= rows[:1].size < PARALLEL_FROM
    return stacked(_each(one, len(sources), min(get_num_threads(), len(sources)) if pays else 1), u)


def _each(one: Callable[[int], Solution], count: int, cores: int) -> list[Solution]:
    """Return `one(number)` for all numbers below `count`, each core taking the next."""
    if cores <= 1:
        return [one(number) for number in range(count)]
    numbers = iter(range(count))
    found: dict[int, Solution] = {}
    errors: dict[int, BaseException] = {}

    def take() -> None:
        for number in numbers:  # one iterator for all: what one core takes, no other does
            if errors:
                return
            try:
                found[number] = one(number)
            except BaseException as error:  # an interrupt too: the other cores must not go on
                errors[number] = error
                return

    over_each(lambda _: limited_to(1).run(take), list(range(cores)))
    if errors:
        raise errors[min(errors)]
    return [found[number] for number in range(count)]
