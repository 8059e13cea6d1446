"""Claim: 64 right-hand sides of 255 x 255 in one call take at most half the time of 64 calls.

-Laplace(u) = f on the unit square, zero Dirichlet values, random f in float64, to rtol 1e-8, one and all threads:
`unigrid.solve(f, batch_dims=1)` with f of shape (64, n, n), and `[unigrid.solve(part) for part in f]`, which keeps its
hierarchy from call to call. They take turns; times are medians. Residuals ||f - A u|| / ||f|| are the largest of all parts, by
the operator of the problem; memory is the peak that NumPy allocates in a first call, u and the hierarchy included, in arrays of
the size of f.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from grids import title_of
from record import Verdict, arguments, at_least, interleaved_seconds, show, show_verdicts, table, write
from rivals import relative_residual

import unigrid

NAME = "batches_beside_calls"
CLAIM = "64 right-hand sides of 255 x 255 in one call are solved at least 2 times as fast as in 64 calls"
RTOL, PARTS = 1e-8, 64
SIZES, SMALL_SIZES = (31, 63, 127, 255, 511), (15,)
REPEATS = 9
BARS = {255: 2.0}
Row = dict[str, Any]


def measured(n: int, threads: int, repeats: int) -> Row:
    """Return medians, residuals and memory for one grid."""
    f = np.random.default_rng(n).standard_normal((PARTS, n, n))
    problem = unigrid.Poisson((n, n))
    calls: dict[str, Callable[[], Any]] = {
        "calls": lambda: [unigrid.solve(part, rtol=RTOL, threads=threads).u for part in f],
        "batch": lambda: unigrid.solve(f, batch_dims=1, rtol=RTOL, threads=threads).u,
    }
    residuals = {
        name: max(relative_residual(problem, part, u) for part, u in zip(f, call(), strict=True))
        for name, call in calls.items()
    }
    taken = interleaved_seconds(calls, repeats)
    unigrid.clear_cache()  # memory that is at hand is not allocated, and so not counted
    tracemalloc.start()
    calls["batch"]()
    peak = tracemalloc.get_traced_memory()[1] / f.nbytes
    tracemalloc.stop()
    return {
        "n": n, "threads": threads, "seconds": taken, "times_as_fast": taken["calls"] / taken["batch"],
        "relative_residuals": residuals, "peak_arrays": peak,
    }  # fmt: skip


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Return the bars, which are set for all threads, as without `threads=`."""
    most = max(row["threads"] for row in rows)
    return [
        at_least(f"{title_of((row['n'],) * 2)}, {most} threads: times as fast", row["times_as_fast"], BARS[row["n"]])
        for row in rows
        if row["n"] in BARS and row["threads"] == most
    ]


def main() -> None:
    options = arguments(__doc__)
    sizes, repeats = (SMALL_SIZES, 2) if options.small else (SIZES, REPEATS)
    rows = [measured(n, threads, repeats) for n in sizes for threads in sorted({1, unigrid.get_num_threads()})]
    lines = []
    for row in rows:
        milliseconds = (row["seconds"][name] * 1e3 for name in ("calls", "batch"))
        others = (row["times_as_fast"], max(row["relative_residuals"].values()), row["peak_arrays"])
        lines.append([title_of((row["n"],) * 2), row["threads"], *milliseconds, *others])
    show(f"{PARTS} right-hand sides to {RTOL:g}, medians of {repeats}")
    show(table(["grid", "threads", "calls ms", "batch ms", "times as fast", "largest residual", "peak arrays"], lines))
    found = verdicts(rows)
    show_verdicts(found)
    write(NAME, CLAIM, options, {"rtol": RTOL, "parts": PARTS, "rows": rows}, found)


if __name__ == "__main__":
    main()
