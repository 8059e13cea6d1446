"""Claim: `unigrid.solve(f)` costs no set-up, and one call is as fast as a direct solve by fast sine transforms.

-Laplace(u) = f on the unit square or cube with zero Dirichlet values, random f in float64, from f to u, the kernels compiled:

- `second`: `unigrid.solve(f, rtol=1e-8)`, called again on the same problem;
- `first`: the same in a process that has solved other, small problems, but never this one (a fresh process for each sample);
- `prepared`: `StencilCycle.solve` of a cycle that was made before; `first` is compared with that of its own process;
- `scipy`, `ducc0`: the direct solve by DST-I of scipy.fft and of ducc0 (extra `bench`), eigenvalues included;
- `set-up`: `StencilCycle(Poisson(shape))` alone, in a fresh process again.

All but `first` and `set-up` take turns in one process; every number is the median of `--repeat` samples or more. All solutions
are checked: relative residual at most 1e-8.

    --sizes 63^2,1023^2,127^3    grids                  --repeat N    samples of each number, 7 by default
    --threads 1,2                numbers of threads     --quick       grids up to 1023^2 and 127^3, three samples
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

sys.path.insert(0, str(Path(__file__).parents[1]))
from grids import parse_shapes, parse_threads, title_of
from record import Verdict, at_least, at_most, interleaved_seconds, parser, seconds, show, show_verdicts, table, write
from rivals import ducc0_dst, has_ducc0, relative_residual, scipy_dst
from solver_worker import Worker

import unigrid
from unigrid.plots import COLORS, MARKERS

NAME = "one_call"
CLAIM = (
    "unigrid.solve(f, rtol=1e-8) costs at most 1.15 times the prepared solve when called again, at most 1.6 times the first "
    "time, and against scipy's DST-I with two workers is 1.1 times as fast at 1023^2, 2 at 1500^2, 1.2 at 2047^2, 4 at 3000^2, "
    "1.5 at 4095^2, 0.8 at 127^3 and 1.1 at 255^3"
)
RTOL = 1e-8
SIZES = "63^2,255^2,1023^2,1500^2,2047^2,3000^2,4095^2,127^3,255^3"
QUICK_SIZES, SMALL_SIZES = "63^2,255^2,1023^2,127^3", "31^2,63^2,15^3"
REPEAT, QUICK_REPEAT, SMALL_REPEAT = 7, 3, 2
LONG_ENOUGH, MOST_SAMPLES = 0.3, 101  # short calls are repeated until they have taken 0.3 s, at most 101 times
SECOND_BARS = {(63, 63): 1.5, (255, 255): 1.15, (1023, 1023): 1.15, (2047, 2047): 1.15, (127, 127, 127): 1.15}
FIRST_BAR, FIRST_FROM = 1.6, 1023**2  # from so many unknowns on
SET_UP_BAR, SET_UP_SHAPES = 3.0, ((1023, 1023), (127, 127, 127))  # milliseconds
SCIPY_BARS = {  # with two workers
    (1023, 1023): 1.1, (1500, 1500): 2.0, (2047, 2047): 1.2, (3000, 3000): 4.0, (4095, 4095): 1.5, (127, 127, 127): 0.8,
    (255, 255, 255): 1.1,
}  # fmt: skip
DUCC0_AIM = 1.0
Row = dict[str, Any]
Shape = tuple[int, ...]


def options_of(command_line: list[str] | None = None) -> argparse.Namespace:
    """Return the options, with sizes, threads and repeat filled in."""
    own = parser(__doc__)
    own.add_argument("--quick", action="store_true", help="fewer grids and samples")
    own.add_argument("--sizes", type=parse_shapes, metavar="N^D,...", help=f"default: {SIZES}")
    own.add_argument("--threads", type=parse_threads, metavar="N,...", help="default: 1 and all threads")
    own.add_argument("--repeat", type=int, metavar="N", help=f"samples of each number (default: {REPEAT})")
    options = own.parse_args(command_line)
    default_sizes = SMALL_SIZES if options.small else QUICK_SIZES if options.quick else SIZES
    default_repeat = SMALL_REPEAT if options.small else QUICK_REPEAT if options.quick else REPEAT
    options.sizes = options.sizes or parse_shapes(default_sizes)
    options.threads = options.threads or sorted({1, unigrid.get_num_threads()})
    options.repeat = options.repeat or default_repeat
    return options


def methods(problem: unigrid.Poisson, f: np.ndarray, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """Return the calls that take turns, each from f to u."""
    cycle = unigrid.StencilCycle(problem)
    calls: dict[str, Callable[[], np.ndarray]] = {
        "second": lambda: unigrid.solve(f, rtol=RTOL, threads=threads).u,
        "prepared": lambda: cycle.solve(f, rtol=RTOL, threads=threads).u,
        "scipy": partial(scipy_dst, f, threads),
    }
    if has_ducc0():
        calls["ducc0"] = partial(ducc0_dst, f, threads)
    return calls


def measure(shape: Shape, threads: int, repeat: int) -> Row:
    """Return the medians of all that runs in this process, and the residuals."""
    problem = unigrid.Poisson(shape)
    f = np.random.default_rng(0).standard_normal(shape)
    calls = methods(problem, f, threads)
    residuals = {name: relative_residual(problem, f, call()) for name, call in calls.items()}
    if worst := [name for name, residual in residuals.items() if not residual <= 1.01 * RTOL]:
        raise SystemExit(f"{title_of(shape)}: {', '.join(worst)} did not solve the problem: relative residuals {residuals}")
    longest = max(seconds(call) for call in calls.values())
    samples = max(repeat, min(MOST_SAMPLES, math.ceil(LONG_ENOUGH / longest)))
    taken = interleaved_seconds(calls, samples)
    iterations = unigrid.solve(f, rtol=RTOL, threads=threads).iterations
    return {
        "shape": list(shape), "threads": threads, "samples": samples, "iterations": iterations, "seconds": taken,
        "relative_residuals": residuals,
    }  # fmt: skip


def measure_first(shape: Shape, threads: int, repeat: int) -> Row:
    """Return the median of the first call, and of its ratio to the prepared solve of the same process."""
    firsts, ratios = [], []
    for _ in range(repeat):
        with Worker() as worker:
            worker("warm_up", ndim=len(shape), threads=threads)
            firsts.append(worker("first_call", shape=shape, threads=threads, rtol=RTOL))
            request = {"shape": shape, "threads": threads, "rtol": RTOL, "options": {}}
            worker("prepared", calls=2, **request)
            ratios.append(firsts[-1] / statistics.median(worker("prepared", calls=5, **request)))
    return {"first": statistics.median(firsts), "first_over_prepared": statistics.median(ratios), "first_ratios": ratios}


def measure_set_up(shape: Shape, repeat: int) -> float:
    """Return the median seconds of making a cycle in a process that has made other, small ones."""
    found = []
    for _ in range(repeat):
        with Worker() as worker:
            worker("warm_up", ndim=len(shape), threads=1)
            found.append(worker("set_up", shape=shape))
    return statistics.median(found)


def with_ratios(row: Row, first: Row, set_up: float) -> Row:
    """Return a row completed by the fresh processes' numbers and by all ratios."""
    taken = {**row["seconds"], "first": first["first"], "set_up": set_up}
    return {
        **row, "seconds": taken, "second_over_prepared": taken["second"] / taken["prepared"],
        "first_over_prepared": first["first_over_prepared"], "first_ratios": first["first_ratios"],
        "scipy_over_second": taken["scipy"] / taken["second"], "scipy_over_first": taken["scipy"] / taken["first"],
        "ducc0_over_second": taken["ducc0"] / taken["second"] if "ducc0" in taken else None,
    }  # fmt: skip


def text_of(rows: list[Row]) -> str:
    """Return the table."""
    headings = (
        "grid", "threads", "cycles", "set-up ms", "first ms", "second ms", "prepared ms", "scipy ms", "ducc0 ms",
        "second/prepared", "first/prepared", "scipy/second", "ducc0/second",
    )  # fmt: skip
    names = ("set_up", "first", "second", "prepared", "scipy", "ducc0")
    ratios = ("second_over_prepared", "first_over_prepared", "scipy_over_second", "ducc0_over_second")
    body = [
        [title_of(tuple(row["shape"])), row["threads"], row["iterations"]]
        + [row["seconds"][name] * 1e3 if name in row["seconds"] else None for name in names]
        + [row[ratio] for ratio in ratios]
        for row in rows
    ]
    return table(headings, body)


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Return the bars that apply to the rows."""
    found = []
    for row in rows:
        shape, threads = tuple(row["shape"]), row["threads"]
        place = f"{title_of(shape)}, {threads} thread{'s' * (threads > 1)}"
        if shape in SECOND_BARS:
            found.append(at_most(f"{place}: second call / prepared", row["second_over_prepared"], SECOND_BARS[shape]))
        if math.prod(shape) >= FIRST_FROM:
            found.append(at_most(f"{place}: first call / prepared", row["first_over_prepared"], FIRST_BAR))
        if shape in SCIPY_BARS and threads == 2:
            found.append(at_least(f"{place}: scipy / second call", row["scipy_over_second"], SCIPY_BARS[shape]))
        if shape in SCIPY_BARS and row["ducc0_over_second"] is not None:
            found.append(at_least(f"{place}: ducc0 / second call", row["ducc0_over_second"], DUCC0_AIM, aim=True))
    set_ups = {tuple(row["shape"]): row["seconds"]["set_up"] * 1e3 for row in rows}
    measured = [shape for shape in SET_UP_SHAPES if shape in set_ups]
    return found + [at_most(f"{title_of(shape)}: set-up, ms", set_ups[shape], SET_UP_BAR) for shape in measured]


LABELS = {
    "second": "unigrid.solve, called again", "first": "unigrid.solve, first call", "prepared": "prepared cycle",
    "scipy": "scipy DST-I", "ducc0": "ducc0 DST-I",
}  # fmt: skip


def draw(rows: list[Row]) -> Figure:
    """Return the figure: nanoseconds per unknown over the grids, one panel per number of threads."""
    counts = sorted({row["threads"] for row in rows})
    figure = Figure(figsize=(5.2 * len(counts) + 0.6, 4.6), layout="constrained")
    for axes, threads in zip(figure.subplots(1, len(counts), sharey=True, squeeze=False)[0], counts, strict=True):
        chosen = [row for row in rows if row["threads"] == threads]
        for number, (name, label) in enumerate(LABELS.items()):
            heights = [row["seconds"].get(name, math.nan) * 1e9 / math.prod(row["shape"]) for row in chosen]
            style = {"color": COLORS[number], "marker": MARKERS[number], "linestyle": "none", "fillstyle": "none"}
            axes.semilogy(range(len(chosen)), heights, markersize=8, markeredgewidth=1.8, label=label, **style)
        axes.set_xticks(range(len(chosen)), [title_of(tuple(row["shape"])) for row in chosen], rotation=40, ha="right")
        axes.set(title=f"{threads} thread{'s' * (threads > 1)}", xlim=(-0.5, len(chosen) - 0.5))
        axes.grid(alpha=0.3, which="both", axis="y")
        axes.grid(alpha=0.3, axis="x")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("nanoseconds per unknown, from f to u")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def main() -> None:
    options = options_of()
    set_ups = {shape: measure_set_up(shape, options.repeat) for shape in options.sizes}
    rows = []
    for shape in options.sizes:
        for threads in options.threads:
            first = measure_first(shape, threads, options.repeat)
            rows.append(with_ratios(measure(shape, threads, options.repeat), first, set_ups[shape]))
    show(f"-Laplace(u) = f to {RTOL:g}, from f to u; medians of at least {options.repeat} samples; milliseconds and ratios")
    show(text_of(rows))
    found = verdicts(rows)
    show_verdicts(found)
    path = write(NAME, CLAIM, options, {"rtol": RTOL, "repeat": options.repeat, "rows": rows}, found)
    draw(rows).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
