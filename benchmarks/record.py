"""What every benchmark shares: its arguments, how it measures time, its table, and its record with machine and versions."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
_shown: list[str] = []  # the report so far
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scipy", "numba", "matplotlib", "pyamg", "ducc0", "torch")
# Okabe and Ito's colors, which color-blind readers can tell apart, without the yellow that white paper swallows.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")


def arguments(description: str | None, options: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's --small and --output."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="seconds in place of minutes; the numbers mean little then")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="DIR", help="where the record goes (default: %(default)s)"
    )
    return parser.parse_args(options)


def require_pyamg() -> None:
    """Stop with the command that helps where PyAMG, which is compared with, is not installed."""
    if importlib.util.find_spec("pyamg") is None:
        raise SystemExit("this benchmark compares with PyAMG, which is not installed: pip install 'unigrid[bench]'")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: the processor, how many of its cores are ours, the memory. No name, no address."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts: dict[str, Any] = {"processor": _processor(), "cores": cores, "system": platform.system()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python, of unigrid and of what it is built on or compared with."""
    import unigrid

    found = {"python": platform.python_version(), "unigrid": unigrid.__version__}
    for name in PACKAGES:
        if importlib.util.find_spec(name) is not None:
            found[name] = importlib.metadata.version(name)
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved_seconds(calls: Mapping[Name, Callable[[], Any]], repeats: int, budget: float = math.inf) -> dict[Name, float]:
    """Return each call's median time. The calls take turns, so that a busy minute of the machine hits all of them alike.

    A call that has taken more than `budget` seconds in all is not repeated.
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            if sum(times[name]) <= budget:
                times[name].append(seconds(call))
    return {name: statistics.median(values) for name, values in times.items()}


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as text, first column to the left, all others to the right."""
    texts = [list(headings), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    lines = []
    for row in texts:
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:,.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def show(text: str, end: str = "\n") -> None:
    """Print a part of the report, and keep it for the record."""
    print(text, end=end, flush=True)
    _shown.append(text + end)


def write(name: str, claim: str, options: argparse.Namespace, result: dict[str, Any]) -> Path:
    """Write what was shown as text, and the result as JSON with the machine and the versions; return where the JSON lies."""
    import unigrid

    record = {
        "benchmark": name,
        "claim": claim,
        "small": options.small,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {**machine(), "threads": unigrid.get_num_threads()},
        "versions": versions(),
        **result,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"{name}.txt").write_text("".join(_shown), encoding="utf-8")
    _shown.clear()
    path = options.output / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
