"""Shared by all benchmarks: command-line arguments, timing, tables, bars, and the record with machine and versions."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sources

import unigrid
from unigrid.machine import cpu_name
from unigrid.machine import versions as installed_versions

Name = TypeVar("Name", bound=Hashable)
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scipy", "numba", "matplotlib", "pyamg", "ducc0", "torch", "torch-sla", "solvax", "jax", "mpi4py", "mpich")
_shown: list[str] = []  # the report so far


# --- command line -----------------------------------------------------------------------------------------------------


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options common to all benchmarks, `--small` and `--output`."""
    common = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_argument("--small", action="store_true", help="a run of seconds that only tests the script")
    common.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the record (default: benchmarks/results/<machine>)"
    )
    return common


def arguments(description: str | None, command_line: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed common options."""
    return parser(description).parse_args(command_line)


# --- machine ----------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return the properties of this machine that measurements depend on; no host name, no address."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts: dict[str, Any] = {"processor": cpu_name(), "avx512": has_avx512(), "cores": cores, "system": platform.system()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    return facts


def has_avx512() -> bool | None:
    """Whether the processor has AVX-512; None if the system does not list the processor's flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.startswith("flags")), None)
    return None if flags is None else "avx512f" in flags.split()


def machine_name(facts: Mapping[str, Any]) -> str:
    """Return the short name of a machine, which is the name of its folder of results.

    Examples
    --------
    >>> machine_name({"processor": "AMD EPYC 9B45 48-Core Processor", "avx512": True, "cores": 2})
    'amd-epyc-9b45-avx512-2c'
    """
    plain = re.sub(r"\((r|tm)\)|\d+-core|processor|cpu|@.*", " ", facts["processor"].lower())
    words = re.findall(r"[a-z0-9]+", plain) or ["unknown"]
    vectors = {True: ["avx512"], False: ["no", "avx512"], None: []}[facts.get("avx512")]
    return "-".join([*words, *vectors, f"{facts['cores']}c"])


def versions() -> dict[str, str]:
    """Return the versions of Python, unigrid, its dependencies and the packages compared with, as far as installed."""
    return {name: version for name, version in installed_versions(PACKAGES).items() if version is not None}


# --- timing -----------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved_seconds(calls: Mapping[Name, Callable[[], Any]], repeats: int, budget: float = math.inf) -> dict[Name, float]:
    """Return the median time of each call.

    The calls take turns, so that a disturbance of the machine affects all of them alike. Each sample follows a call that is not
    timed, so that none depends on what the call before left in the caches. A call that has taken more than `budget` seconds in
    total is not repeated.
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            if sum(times[name]) <= budget:
                call()
                times[name].append(seconds(call))
    return {name: statistics.median(values) for name, values in times.items()}


# --- bars -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A measured number against its bar.

    what : the quantity, with size and number of threads
    measured : its value; None if it was not measured
    bar : the value required
    at_least : whether the bar is a lower bound, otherwise an upper bound
    aim : whether missing the bar is reported without failing the claim
    """

    what: str
    measured: float | None
    bar: float
    at_least: bool = False
    aim: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None if it was not measured."""
        if self.measured is None:
            return None
        return bool(self.measured >= self.bar if self.at_least else self.measured <= self.bar)

    @property
    def mark(self) -> str:
        """PASS, FAIL, MISSED (an aim that was not reached) or NOT MEASURED."""
        return {None: "NOT MEASURED", True: "PASS", False: "MISSED" if self.aim else "FAIL"}[self.holds]

    @property
    def limit(self) -> str:
        """The bar in words."""
        return f"{'aim' if self.aim else 'bar'}: at {'least' if self.at_least else 'most'} {rounded(self.bar)}"

    def __str__(self) -> str:
        found = "" if self.measured is None else f" {rounded(self.measured)}"
        return f"{self.mark:<6} {self.what}:{found} ({self.limit})"


def rounded(value: float) -> str:
    """Return a number with three digits, or as an integer from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def at_most(what: str, measured: float | None, bar: float) -> Verdict:
    """Return the verdict of an upper bound."""
    return Verdict(what, measured, bar)


def at_least(what: str, measured: float | None, bar: float, aim: bool = False) -> Verdict:
    """Return the verdict of a lower bound."""
    return Verdict(what, measured, bar, at_least=True, aim=aim)


def all_hold(verdicts: Iterable[Verdict]) -> bool | None:
    """Whether a claim holds: every bar that is not an aim; None if one of them was not measured, and none failed."""
    found = [verdict.holds for verdict in verdicts if not verdict.aim]
    return False if False in found else None if None in found or not found else True


# --- report and record ------------------------------------------------------------------------------------------------


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as text, the first column flush left, all others flush right."""
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


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print one line per bar, PASS or FAIL, and one line for the claim as a whole."""
    if not verdicts:
        return
    claim = {None: "not decided", True: "PASS", False: "FAIL"}[all_hold(verdicts)]
    show("\n" + "\n".join(map(str, verdicts)) + f"\nclaim: {claim}")


def record_path(name: str, options: argparse.Namespace) -> Path:
    """Return the path of a benchmark's JSON record on this machine."""
    folder = options.output or RESULTS / machine_name(machine())
    return Path(folder) / f"{name}.json"


def write(
    name: str, claim: str, options: argparse.Namespace, result: Mapping[str, Any], verdicts: Sequence[Verdict] = ()
) -> Path:
    """Write the printed report as text, and the result as JSON with machine, versions and verdicts.

    Returns the path of the JSON file, beside which a figure can be saved.
    """
    record = {
        "benchmark": name,
        "claim": claim,
        "small": options.small,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {**machine(), "threads": unigrid.get_num_threads()},
        "versions": versions(),
        "source": sources.digest(name),
        "holds": all_hold(verdicts),
        **result,
        "verdicts": [{**asdict(verdict), "holds": verdict.holds} for verdict in verdicts],
    }
    path = record_path(name, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _shown:  # a record that grows from run to run keeps its text until the next report
        path.with_suffix(".txt").write_text("".join(_shown), encoding="utf-8")
    _shown.clear()
    whole = path.with_suffix(".json.partial")
    whole.write_text(json.dumps(record, indent=1) + "\n")
    whole.replace(path)  # at once: whoever stops the run here loses nothing
    return path
