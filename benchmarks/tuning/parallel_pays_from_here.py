"""The number of unknowns from which parallel kernels are worthwhile: `unigrid.stencil.kernels.threads.PARALLEL_FROM`.

Times the kernels of a cycle, serial and on all threads, over sizes in 2-D and 3-D, and their sum for a V(2,2) on the finest
level: eight half-sweeps, a residual, a restriction, an interpolation. Serial and parallel calls take turns, arrays have been
used before, kernels are compiled; the gain is serial time over parallel time, both medians. The recommended value is the
smallest number of unknowns from which the gain of the sum is at least `WORTHWHILE`, at this and every larger size measured:
a smaller gain is not worth occupying a second core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import arguments, interleaved_seconds, show, table, write

import unigrid
from unigrid.stencil.kernels.cpu import threads

CLAIM = "parallel kernels pay from PARALLEL_FROM unknowns on"
WORTHWHILE = 1.1
PART_OF_A_CYCLE = {"relax_color": 8, "residual": 1, "restriction": 1, "interpolation": 1}
SIZES = {2: [64, 96, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048], 3: [16, 20, 25, 32, 40, 51, 64, 81, 102, 128]}
SMALL_SIZES = {2: [64, 256], 3: [16]}


def kernels_of(problem: unigrid.Poisson) -> dict[str, Callable[[], Any]]:
    """Return the kernels of the finest level, each as a call without arguments."""
    random = np.random.default_rng(0)
    u, f = random.standard_normal(problem.shape), random.standard_normal(problem.shape)
    finest, coarser = unigrid.StencilCycle(problem).levels[:2]
    correction = random.standard_normal(coarser.problem.shape)
    smoother, operator = unigrid.RedBlack(), problem.operator
    assert finest.restriction is not None
    assert finest.prolongation is not None
    restriction, prolongation = finest.restriction, finest.prolongation
    return {
        "relax_color": lambda: smoother.overwrite(operator, f, u),  # both colors: two half-sweeps
        "residual": lambda: operator.residual(f, u),
        "restriction": lambda: restriction(f),
        "interpolation": lambda: prolongation.add_to(u, correction),
    }


def switched(call: Callable[[], Any], parallel_from: int, times: int) -> Callable[[], Any]:
    """Return a call that repeats `call` with another value of PARALLEL_FROM."""

    def run() -> None:
        kept, threads.PARALLEL_FROM = threads.PARALLEL_FROM, parallel_from
        try:
            for _ in range(times):
                call()
        finally:
            threads.PARALLEL_FROM = kept

    return run


def measure(shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Return serial and parallel seconds of every kernel at one size."""
    problem = unigrid.Poisson(shape)
    row: dict[str, Any] = {"shape": list(shape), "unknowns": problem.grid.size}
    sums = {"serial": 0.0, "parallel": 0.0}
    for name, call in kernels_of(problem).items():
        times = max(1, 200_000 // problem.grid.size)  # long enough for the clock, and for a worker to stay awake as in a cycle
        calls = {"serial": switched(call, 1 << 62, times), "parallel": switched(call, 0, times)}
        found = interleaved_seconds(calls, repeats)
        halves = 2 if name == "relax_color" else 1
        row[name] = {how: value / times / halves for how, value in found.items()}
        row[name]["gain"] = row[name]["serial"] / row[name]["parallel"]
        for how in sums:
            sums[how] += PART_OF_A_CYCLE[name] * row[name][how]
    return {**row, "sum": {**sums, "gain": sums["serial"] / sums["parallel"]}}


def pays_from(rows: list[dict[str, Any]], name: str) -> int | None:
    """Return the fewest unknowns from which parallel kernels are worthwhile at every size; None if there is no such size."""
    least = None
    for row in sorted(rows, key=lambda row: -row["unknowns"]):
        if row[name]["gain"] < WORTHWHILE:
            break
        least = row["unknowns"]
    return least


def main() -> None:
    options = arguments(__doc__)
    count = unigrid.get_num_threads()
    if count < 2:
        show("only one thread: nothing runs in parallel, and no value is recommended")
    unigrid.solve(np.ones((31, 31)))  # compiles, if the cache of kernels is empty
    sizes = SMALL_SIZES if options.small else SIZES
    rows = [measure((n,) * ndim, 5 if options.small else 41) for ndim, several in sizes.items() for n in several]
    names = [*PART_OF_A_CYCLE, "sum"]
    cells = [
        [
            " x ".join(map(str, row["shape"])),
            row["unknowns"],
            row["sum"]["serial"] * 1e6,
            *(row[name]["gain"] for name in names),
        ]
        for row in rows
    ]
    show(f"gain of {count} threads over one (serial time / parallel time); kernels compiled beforehand")
    show(table(["size", "unknowns", "serial sum (us)", *names], cells), end="\n\n")
    by_name = {name: pays_from(rows, name) for name in names}
    show(table(["kernel", f"gains {WORTHWHILE} from (unknowns)"], list(by_name.items())))
    recommended = by_name["sum"] or "none: parallel kernels are never worthwhile on this machine"
    show(f"recommended PARALLEL_FROM: {recommended}; now {threads.PARALLEL_FROM:,}")
    result = {
        "worthwhile": WORTHWHILE,
        "recommended": by_name["sum"],
        "now": threads.PARALLEL_FROM,
        "pays_from": by_name,
        "rows": rows,
    }
    write("parallel_pays_from_here", CLAIM, options, result)


if __name__ == "__main__":
    main()
