"""Claim: a prepared solve takes at most 1.03 times as long as in an earlier version, at every size and number of threads.

Another checkout of unigrid is given by its source folder, `--against PATH`: the folder that holds the package `unigrid`, or one
above it that has `src`. A pair of processes, one for each version, solves in turns, within seconds of each other: before, now,
now, before. Only `StencilCycle(Poisson(shape)).solve(f, rtol=1e-8, threads=...)` is used. Where a process keeps its arrays
changes its times by a few percent, with the same code: so there are several pairs of processes, one after the other, and the
versions take turns in being started first.

- `default`: default options on both sides, which may differ between the versions;
- `full`: precision="full" on both sides.

A pair's ratio is the median time now over the median time before, of `--repeat` samples or more; a sample is one call, or as
many as take 20 ms. The ratio that counts is the median of the pairs' ratios.

    --sizes 63^2,1023^2,127^3    grids                  --repeat N    samples of each version in each pair, 7 by default
    --threads 1,2                numbers of threads     --pairs N     pairs of processes, 4 by default
    --quick                      grids up to 1023^2 and 63^3, two pairs
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from grids import parse_shapes, parse_threads, title_of
from record import Verdict, at_least, at_most, parser, show, show_verdicts, table, write
from solver_worker import Worker

import unigrid

NAME = "no_slower_than_before"
CLAIM = (
    "prepared solves to 1e-8 take at most 1.03 times as long as in the version before, from 63^2 to 4095^2 and from 31^3 to "
    "255^3; by default 255^3 is at least 1.3 times as fast"
)
RTOL = 1e-8
SIZES = "63^2,127^2,255^2,511^2,1023^2,1500^2,2047^2,4095^2,31^3,63^3,127^3,255^3"
QUICK_SIZES, SMALL_SIZES = "63^2,255^2,1023^2,31^3,63^3", "31^2,15^3"
REPEAT, SMALL_REPEAT = 7, 2
PAIRS, QUICK_PAIRS, SMALL_PAIRS = 4, 2, 1
RATIO_BAR = 1.03
FASTER_BARS = {(255, 255, 255): 1.3}  # times as fast as before, with default options
OPTIONS: dict[str, dict[str, Any]] = {"default": {}, "full": {"precision": "full"}}
SAMPLE_SECONDS, SIZE_SECONDS, MOST_SAMPLES = 0.02, 1.0, 21  # of one sample at least, of one version at one size in total
HERE = Path(unigrid.__file__).parents[1]
Row = dict[str, Any]
Shape = tuple[int, ...]
Case = tuple[Shape, int, str]  # grid, threads, options


def options_of(command_line: list[str] | None = None) -> argparse.Namespace:
    """Return the options, with sizes, threads and repeat filled in."""
    own = parser(__doc__)
    own.add_argument("--against", type=source_folder, required=True, metavar="PATH", help="source folder of the other version")
    own.add_argument("--quick", action="store_true", help="fewer grids and pairs")
    own.add_argument("--sizes", type=parse_shapes, metavar="N^D,...", help=f"default: {SIZES}")
    own.add_argument("--threads", type=parse_threads, metavar="N,...", help="default: 1 and all threads")
    own.add_argument("--repeat", type=int, metavar="N", help=f"samples of each version (default: {REPEAT})")
    own.add_argument("--pairs", type=int, metavar="N", help=f"pairs of processes (default: {PAIRS})")
    options = own.parse_args(command_line)
    default_sizes = SMALL_SIZES if options.small else QUICK_SIZES if options.quick else SIZES
    default_pairs = SMALL_PAIRS if options.small else QUICK_PAIRS if options.quick else PAIRS
    options.sizes = options.sizes or parse_shapes(default_sizes)
    options.threads = options.threads or sorted({1, unigrid.get_num_threads()})
    options.repeat = options.repeat or (SMALL_REPEAT if options.small else REPEAT)
    options.pairs = options.pairs or default_pairs
    return options


def source_folder(text: str) -> Path:
    """Return the folder that holds the package. Raises argparse.ArgumentTypeError if there is none."""
    for folder in (Path(text), Path(text) / "src"):
        if (folder / "unigrid" / "__init__.py").exists():
            return folder.resolve()
    raise argparse.ArgumentTypeError(f"neither {text} nor {text}/src holds the package unigrid")


def commit_of(source: Path) -> str | None:
    """Return the commit that is checked out, with a plus sign if files differ from it; None outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(source), *arguments], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "--short=10", "HEAD"), git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return None if commit is None else commit + "+" * bool(changes)


def alternate(before: Worker, now: Worker, repeat: int, **request: Any) -> dict[str, list[float]]:
    """Return the samples of both versions for one grid, number of threads and set of options."""
    workers = {"before": before, "now": now}
    once = max(min(worker("prepared", calls=3, **request)) for worker in workers.values())
    calls = max(1, math.ceil(SAMPLE_SECONDS / once))
    samples = max(repeat, min(MOST_SAMPLES, math.ceil(SIZE_SECONDS / (calls * once))))
    times: dict[str, list[float]] = {version: [] for version in workers}
    for number in range(samples):
        for version in list(workers)[:: 1 if number % 2 == 0 else -1]:
            times[version].append(statistics.median(workers[version]("prepared", calls=calls, **request)))
    return times


def compare(options: argparse.Namespace) -> list[Row]:
    """Return a row for each grid, number of threads and set of options."""
    cases = list(itertools.product(options.sizes, options.threads, OPTIONS))
    pairs = [run_pair(options, cases, now_first=number % 2 == 1) for number in range(options.pairs)]
    return [row_of(case, [pair[number] for pair in pairs]) for number, case in enumerate(cases)]


def run_pair(options: argparse.Namespace, cases: list[Case], now_first: bool) -> list[dict[str, list[float]]]:
    """Return the samples of all cases, measured by one pair of processes."""
    sources = {"before": options.against, "now": HERE}
    found = []
    with ExitStack() as processes:
        workers = {}
        for version in reversed(sources) if now_first else sources:
            workers[version] = processes.enter_context(Worker(sources[version]))
            warm_up(workers[version], sources[version], options)
        before, now = workers["before"], workers["now"]
        for shape, group in itertools.groupby(cases, key=lambda case: case[0]):
            for _, threads, name in group:
                request = {"shape": shape, "threads": threads, "rtol": RTOL, "options": OPTIONS[name]}
                found.append(alternate(before, now, options.repeat, **request))
            for worker in (before, now):
                worker("forget")
    return found


def warm_up(worker: Worker, source: Path, options: argparse.Namespace) -> None:
    """Load all kernels of a version, and check that it is the one asked for."""
    if Path(worker("origin")).resolve() != source.resolve():
        raise SystemExit(f"the process for {source} imported unigrid from {worker('origin')}")
    for ndim, threads in itertools.product({len(shape) for shape in options.sizes}, options.threads):
        worker("warm_up", ndim=ndim, threads=threads)


def row_of(case: Case, pairs: list[dict[str, list[float]]]) -> Row:
    """Return the medians of one case, and its ratio: the median of the pairs' ratios of medians."""
    shape, threads, name = case
    ratios = [statistics.median(pair["now"]) / statistics.median(pair["before"]) for pair in pairs]
    medians = {version: statistics.median(itertools.chain(*(pair[version] for pair in pairs))) for version in pairs[0]}
    return {
        "shape": list(shape), "threads": threads, "options": name, "samples": sum(len(pair["now"]) for pair in pairs),
        "seconds": medians, "ratio": statistics.median(ratios), "ratios_of_pairs": ratios,
    }  # fmt: skip


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Return the bars that apply to the rows."""
    found = []
    for row in rows:
        shape, threads = tuple(row["shape"]), row["threads"]
        place = f"{title_of(shape)}, {threads} thread{'s' * (threads > 1)}, {row['options']}"
        found.append(at_most(f"{place}: time now / before", row["ratio"], RATIO_BAR))
        if shape in FASTER_BARS and row["options"] == "default":
            found.append(at_least(f"{place}: times as fast as before", 1 / row["ratio"], FASTER_BARS[shape]))
    return found


def cells_of(row: Row) -> list[Any]:
    """Return a row of the table."""
    milliseconds = [row["seconds"][version] * 1e3 for version in ("before", "now")]
    ratios = [row["ratio"], min(row["ratios_of_pairs"]), max(row["ratios_of_pairs"])]
    return [title_of(tuple(row["shape"])), row["threads"], row["options"], *milliseconds, *ratios, row["samples"]]


def main() -> None:
    options = options_of()
    commits = {"before": commit_of(options.against), "now": commit_of(HERE)}
    rows = compare(options)
    headings = ("grid", "threads", "options", "before ms", "now ms", "now/before", "least", "most", "samples")
    cells = [cells_of(row) for row in rows]
    show(f"prepared solves to {RTOL:g}; before: {commits['before']}, now: {commits['now']}; {options.pairs} pairs of processes")
    show(table(headings, cells))
    found = verdicts(rows)
    show_verdicts(found)
    write(NAME, CLAIM, options, {"rtol": RTOL, "commits": commits, "pairs": options.pairs, "rows": rows}, found)


if __name__ == "__main__":
    main()
