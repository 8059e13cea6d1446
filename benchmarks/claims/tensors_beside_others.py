"""Claim: `unigrid.solve(tensor)` on a CPU takes less time than other solvers for tensors, the published ones of a GPU included.

-Laplace(u) = f on the unit square, zero Dirichlet values, float64, from a torch tensor f to a torch tensor u:

- beside the times that torch-sla publishes (README of version 0.4.0, 2026: conjugate gradients on one NVIDIA H200, float64, to
  1e-6; not measured here): the problem of its benchmark, whose discrete solution is 1 everywhere, and here to 1e-8;
- beside torch-sla and solvax (JAX) on this machine: random f, all to 1e-8. torch-sla by its backends for CPUs; solvax by its
  geometric multigrid as its documentation builds it, the same with parts written by hand, and its direct solver for separable
  problems, which needs cells; `tensor_rivals.py` shows each call. What is not installed is left out.

Every method and size is a fresh process with all cores, which solves a small problem first. `prepare` is what a rival does
before it has f: assembly of the matrix, compilation, eigenvectors. `first` is the first call, hierarchies included; `again` is
the median of later calls with the same f, for which unigrid and torch-sla's AMG keep theirs. All residuals ||f - A u|| / ||f||
are measured by one function in plain NumPy, all errors against the direct solution by sine transforms; memory is the peak above
the imports. A process ends after --limit seconds, and no size is begun that would take longer by the growth between the two
sizes before.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from grids import title_of
from record import Verdict, at_least, at_most, parser, seconds, show, show_verdicts, table, write
from tensor_rivals import METHODS, direct, missing, relative_error, relative_residual, source

from unigrid.plots import COLORS, MARKERS

NAME = "tensors_beside_others"
CLAIM = (
    "unigrid.solve(tensor) on this CPU, to 1e-8, takes less time than torch-sla publishes for an H200, to 1e-6, and than"
    " torch-sla and solvax on this CPU, from 1 M to 81 M unknowns"
)
RTOL, PUBLISHED_RTOL = 1e-8, 1e-6
PUBLISHED = {1000: 0.190, 4000: 7.3, 9000: 75.9}  # seconds of one H200, by points per side
SIZES, SMALL_SIZES, AIM_BELOW = (255, 1023, 4095, 8191), (63,), 1000  # bars apply from AIM_BELOW points per side on
LIMIT, SHORT = 75.0, 15.0  # seconds of a process; of a first call that is followed by others
LONG_ENOUGH, MOST_CALLS = 3.0, 51  # calls are repeated until they have taken 3 s, at most 51 times
INSTALL = {"torch-sla": "pip install torch-sla pyamg", "solvax": "pip install solvax 'jax[cpu]'"}
Row = dict[str, Any]


# --- one method, in a process of its own ------------------------------------------------------------------------------


def work(name: str, n: int, kind: str, rtol: float) -> Row:
    """Run one method in this process."""
    method = METHODS[name]
    method.prepare(source(method.warm_up, kind), rtol)()
    held, _ = held_and_peak()
    f = source(n, kind)
    calls, results = [], []
    prepare = seconds(lambda: calls.append(method.prepare(f, rtol)))

    def run() -> None:
        results[:] = [calls[0]()]

    first = seconds(run)
    later: list[float] = []
    while first < SHORT and sum(later) < LONG_ENOUGH and len(later) < MOST_CALLS:
        later.append(seconds(run))
    _, peak = held_and_peak()
    exact = np.ones_like(f) if kind == "ones" and not method.cells else direct(f, method.cells)
    return {
        "prepare": prepare, "first": first, "again": statistics.median(later or [first]), "calls": 1 + len(later),
        "relative_residual": relative_residual(f, results[0], method.cells),
        "relative_error": relative_error(results[0], exact), "peak_bytes": None if peak is None else peak - held,
    }  # fmt: skip


def held_and_peak() -> tuple[int, int | None]:
    """Return the memory of this process in bytes, now and at its peak; 0 and None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0, None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    held, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return held, peak


def stay_within_memory() -> None:
    """Let this process fail, instead of others, when the machine's memory is used up."""
    try:
        import os
        import resource
    except ImportError:
        return
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def in_fresh_process(name: str, n: int, kind: str, rtol: float, limit: float) -> Row:
    """Return the row of one method and size; "outcome" is why there are no numbers, or None."""
    row = {"method": name, "n": n, "kind": kind, "rtol": rtol}
    command = [sys.executable, __file__, "--worker", name, str(n), kind, str(rtol)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {**row, "outcome": f"over {limit:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        if name.startswith("unigrid"):
            raise SystemExit(f"{name} at n = {n} failed:\n{done.stderr}")
        return {**row, "outcome": "out of memory" if "emory" in last or "alloc" in last else f"failed: {last[:60]}"}
    return {**row, **json.loads(done.stdout.splitlines()[-1]), "outcome": None}


# --- all methods ------------------------------------------------------------------------------------------------------


def compare(name: str, sizes: tuple[int, ...], limit: float) -> list[Row]:
    """Return the rows of one method for random f, up to the first size beyond the limit; on cells of n + 1 per side."""
    rows: list[Row] = []
    for n in (points + METHODS[name].cells for points in sizes):
        if reason := beyond(rows, n, limit):
            rows.append({"method": name, "n": n, "kind": "random", "rtol": RTOL, "outcome": reason})
        else:
            rows.append(in_fresh_process(name, n, "random", RTOL, limit))
    return rows


def beyond(rows: list[Row], n: int, limit: float) -> str | None:
    """Return why the next size is not begun, from the rows of smaller ones; None if it is."""
    if not rows:
        return None
    if rows[-1]["outcome"]:
        return str(rows[-1]["outcome"])
    growth = n**2 / rows[-1]["n"] ** 2
    expected = 0.0
    for part in ("prepare", "first"):
        power = 1.0
        if len(rows) > 1:
            power = math.log(rows[-1][part] / rows[-2][part]) / math.log(rows[-1]["n"] ** 2 / rows[-2]["n"] ** 2)
        expected += rows[-1][part] * growth ** max(power, 0.0)
    return f"over {limit:g} s" if expected > limit else None


def beside_published(sizes: tuple[int, ...], limit: float) -> list[Row]:
    """Return the rows of torch-sla's own benchmark: unigrid for all sizes, torch-sla's method for the smallest one."""
    rows = [in_fresh_process("unigrid", n, "ones", RTOL, limit) for n in sizes]
    same = "torch-sla CG + Jacobi"
    if not missing(METHODS[same].needs):
        rows.append(in_fresh_process(same, sizes[0], "ones", PUBLISHED_RTOL, limit))
    return rows


def fastest(rows: list[Row], package: str, n: int, cells: bool) -> Row | None:
    """Return the row of a package's fastest method for random f; None if there is none with numbers."""
    found = [
        row for row in rows
        if row["method"].startswith(package) and row["n"] == n and METHODS[row["method"]].cells == cells and not row["outcome"]
        and row["relative_residual"] <= 1.01 * RTOL
    ]  # fmt: skip
    return min(found, key=lambda row: row["again"], default=None)


def verdicts(published: list[Row], rows: list[Row]) -> list[Verdict]:
    """Return the bars: published times, and the fastest rivals of this machine as far as they were measured."""
    found = [
        at_most(f"{title_of((row['n'],) * 2)}, torch-sla's problem: seconds to {RTOL:g}", row.get("again"), PUBLISHED[row["n"]])
        for row in published
        if row["method"] == "unigrid" and row["n"] in PUBLISHED
    ]
    for n in sorted({row["n"] for row in rows}):
        for cells in (False, True):
            ours = fastest(rows, "unigrid", n, cells)
            for package in INSTALL:
                theirs = fastest(rows, package, n, cells)
                if ours and theirs:
                    what = f"{title_of((n, n))}: times as fast as {theirs['method']}"
                    found.append(at_least(what, theirs["again"] / ours["again"], 1.0, aim=n < AIM_BELOW))
    return found


# --- report -----------------------------------------------------------------------------------------------------------


def published_text(rows: list[Row]) -> str:
    """Return the table beside the published times."""
    there = {row["n"]: row.get("again", row["outcome"]) for row in rows if row["method"] != "unigrid"}
    columns = ["first", "again", "relative_residual", "relative_error"]
    lines = []
    for row in rows:
        if row["method"] == "unigrid":
            n, theirs = row["n"], PUBLISHED.get(row["n"])
            ours = [row["outcome"], *[None] * 3] if row["outcome"] else [row[column] for column in columns]
            ratio = None if row["outcome"] or not theirs else theirs / row["again"]
            lines.append([title_of((n, n)), n**2, *ours, theirs, ratio, there.get(n)])
    headings = ["grid", "unknowns", "first s", "again s", "residual", "error", "H200 s", "H200/again", "torch-sla here s"]
    return table(headings, lines)


def measured_text(rows: list[Row]) -> str:
    """Return the table of this machine."""
    ours = {(row["n"], METHODS[row["method"]].cells): row.get("again") for row in rows if row["method"].startswith("unigrid")}
    lines = []
    for row in sorted(rows, key=lambda row: row["n"]):
        start = [title_of((row["n"],) * 2), row["method"]]
        if row["outcome"]:
            lines.append([*start, row["outcome"], *[None] * 6])
            continue
        columns = ("prepare", "first", "again", "relative_residual", "relative_error")
        peak = None if row["peak_bytes"] is None else row["peak_bytes"] / row["n"] ** 2
        lines.append(
            [*start, *(row[name] for name in columns), peak, row["again"] / ours[row["n"], METHODS[row["method"]].cells]]
        )
    headings = ["grid", "method", "prepare s", "first s", "again s", "residual", "error", "bytes/unknown", "again/unigrid"]
    return table(headings, lines)


def draw(published: list[Row], rows: list[Row]) -> Figure:
    """Return the figure: seconds over unknowns."""
    figure = Figure(figsize=(8.2, 5.0), layout="constrained")
    axes = figure.subplots()
    colors = dict(zip(("unigrid", *INSTALL), COLORS, strict=False))
    for name, marker in zip(METHODS, (*MARKERS, "<", ">"), strict=False):
        chosen = [row for row in rows if row["method"] == name and not row["outcome"]]
        package = next(package for package in colors if name.startswith(package))
        style = {"color": colors[package], "marker": marker, "fillstyle": "none"}
        style["linestyle"] = "--" if METHODS[name].cells else "-"
        if chosen:
            axes.loglog([row["n"] ** 2 for row in chosen], [row["again"] for row in chosen], label=name, **style)
    if any(row["n"] in PUBLISHED for row in published):
        style = {"color": colors["torch-sla"], "marker": "*", "markersize": 11, "linestyle": ":"}
        label = f"torch-sla CG on an H200, published, to {PUBLISHED_RTOL:g}"
        axes.loglog([n**2 for n in PUBLISHED], list(PUBLISHED.values()), label=label, **style)
    axes.set(xlabel="unknowns", ylabel="seconds per call, hierarchy kept", title=f"-Laplace(u) = f on a CPU, to {RTOL:g}")
    axes.grid(alpha=0.3, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def options_of(command_line: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    own = parser(__doc__)
    own.add_argument("--limit", type=float, default=LIMIT, metavar="S", help=f"seconds per process (default: {LIMIT:g})")
    return own.parse_args(command_line)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        stay_within_memory()
        name, n, kind, rtol = sys.argv[2:]
        print(json.dumps(work(name, int(n), kind, float(rtol))))
        return
    options = options_of()
    sizes, published_sizes = (SMALL_SIZES, (50,)) if options.small else (SIZES, tuple(PUBLISHED))
    published = beside_published(published_sizes, options.limit)
    present = [name for name, method in METHODS.items() if not missing(method.needs)]
    rows = [row for name in present for row in compare(name, sizes, options.limit)]
    show(f"torch-sla's benchmark: unigrid here, to {RTOL:g}; an H200, as published, and torch-sla here, to {PUBLISHED_RTOL:g}")
    show(published_text(published), end="\n\n")
    show(f"random f, on this CPU, to {RTOL:g}")
    show(measured_text(rows))
    for package, command in INSTALL.items():
        needs = next(method.needs for name, method in METHODS.items() if name.startswith(package))
        if lacking := missing(needs):
            show(f"{package} is not measured: {', '.join(lacking)} not installed; {command}")
    found = verdicts(published, rows)
    show_verdicts(found)
    result = {"rtol": RTOL, "published_rtol": PUBLISHED_RTOL, "limit": options.limit, "published": published, "rows": rows}
    path = write(NAME, CLAIM, options, {**result, "published_seconds": PUBLISHED}, found)
    draw(published, rows).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
