"""Claim: at 1023 x 1023, rtol 1e-8, unigrid is at least 20 times as fast as PyAMG, in at most a quarter of its memory.

The same matrix, the same f, the same tolerance, in one run; both residuals are measured at the end by the same sparse matrix.
PyAMG is given the matrix (CSR, 32-bit indices) and runs Ruge-Stueben and smoothed aggregation, each as the preconditioner of
CG; the faster one counts. The algebraic solver is the more general one: its only input is the matrix.

Every run is a fresh process, which first solves a small problem of the same kind: the kernels of unigrid are compiled before
and kept in numba's cache, PyAMG comes compiled. The methods take turns; times are medians, set-up and solve separately.
Memory is the high-water mark of the process during set-up and solve, less the memory held after the imports and the small
problem ("above the interpreter", its own input included), or after its input was loaded as well ("above the input").
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_least, at_most, show, show_verdicts, table, write
from rivals import matrix_for_pyamg, require_pyamg

import unigrid

CLAIM = "at 1023 x 1023, rtol 1e-8: at least 20 times as fast as PyAMG, setup and solve, in at most a quarter of its memory"
RTOL = 1e-8
METHODS = {
    "unigrid": "unigrid (defaults)",
    "ruge-stueben": "PyAMG Ruge-Stueben + CG",
    "smoothed-aggregation": "PyAMG smoothed aggregation + CG",
}
SPEED_BAR, MEMORY_BAR, BARS_AT = 20.0, 0.25, 1023
Array = np.ndarray


def unigrid_method(folder: Path | None, n: int) -> tuple[Callable[[], Any], Callable[[Any], Array], Array]:
    """Return set-up, solve and f of a run, its input loaded."""
    f = _source(folder, n)
    return lambda: unigrid.StencilCycle(unigrid.Poisson((n, n))), lambda cycle: cycle.solve(f, rtol=RTOL).u.ravel(), f.ravel()


def pyamg_method(name: str, folder: Path | None, n: int) -> tuple[Callable[[], Any], Callable[[Any], Array], Array]:
    """Return set-up, solve and f of a run, its input loaded."""
    import pyamg

    build = {"ruge-stueben": pyamg.ruge_stuben_solver, "smoothed-aggregation": pyamg.smoothed_aggregation_solver}[name]
    matrix = matrix_for_pyamg(unigrid.Poisson((n, n))) if folder is None else loaded_matrix(folder)
    f = _source(folder, n).ravel()
    return lambda: build(matrix), lambda hierarchy: hierarchy.solve(f, tol=RTOL, accel="cg", maxiter=200), f


def _source(folder: Path | None, n: int) -> Array:
    return np.random.default_rng(0).standard_normal((n, n)) if folder is None else np.load(folder / "f.npy")


def loaded_matrix(folder: Path) -> sparse.csr_matrix:
    """Return the matrix stored by the parent process: assembling it here would count as memory of the method."""
    data, indices, indptr = (np.load(folder / f"{part}.npy") for part in ("data", "indices", "indptr"))
    return sparse.csr_matrix((data, indices, indptr), (len(indptr) - 1,) * 2)


def held_and_peak() -> tuple[int, int]:
    """Return the memory of this process in bytes, now and at its peak."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
    import resource

    import psutil  # type: ignore[import-untyped]

    unit = 1 if sys.platform == "darwin" else 1024
    return psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def work(method: str, n: int, folder: Path) -> dict[str, float]:
    """Run one method once in this process; return times, memory and the residual."""

    def prepared(folder: Path | None, n: int) -> tuple[Callable[[], Any], Callable[[Any], Array], Array]:
        return unigrid_method(folder, n) if method == "unigrid" else pyamg_method(method, folder, n)

    setup, solve, _ = prepared(None, 31)
    solve(setup())
    interpreter, _ = held_and_peak()
    setup, solve, f = prepared(folder, n)
    with_input, _ = held_and_peak()
    start = time.perf_counter()
    hierarchy = setup()
    middle = time.perf_counter()
    u = solve(hierarchy)
    end = time.perf_counter()
    _, peak = held_and_peak()
    residual = f - loaded_matrix(folder) @ u
    return {
        "setup_seconds": middle - start,
        "solve_seconds": end - middle,
        "peak_above_interpreter_bytes": peak - interpreter,
        "peak_above_input_bytes": peak - with_input,
        "relative_residual": float(np.linalg.norm(residual) / np.linalg.norm(f)),
    }


def in_fresh_process(method: str, n: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", method, str(n), str(folder)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{method} at n = {n} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def compare(n: int, repeats: int) -> list[dict[str, Any]]:
    """Return the medians of every method at one size."""
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        matrix = matrix_for_pyamg(unigrid.Poisson((n, n)))
        for part in ("data", "indices", "indptr"):
            np.save(folder / f"{part}.npy", getattr(matrix, part))
        np.save(folder / "f.npy", np.random.default_rng(n).standard_normal((n, n)))
        for _ in range(repeats):
            for method, found in runs.items():
                found.append(in_fresh_process(method, n, folder))
    rows = []
    for method, found in runs.items():
        row = {key: statistics.median(run[key] for run in found) for key in found[0]}
        row["total_seconds"] = statistics.median(run["setup_seconds"] + run["solve_seconds"] for run in found)
        rows.append({"n": n, "method": method, "runs": len(found), **row})
    return rows


def comparison(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the comparison with the faster solver of PyAMG at one size."""
    ours, *theirs = rows
    best = min(theirs, key=lambda row: row["total_seconds"])
    return {
        "n": ours["n"],
        "against": best["method"],
        "times_as_fast": best["total_seconds"] / ours["total_seconds"],
        "solve_alone_times_as_fast": best["solve_seconds"] / ours["solve_seconds"],
        "share_of_memory": ours["peak_above_interpreter_bytes"] / best["peak_above_interpreter_bytes"],
        "share_of_memory_above_input": ours["peak_above_input_bytes"] / best["peak_above_input_bytes"],
        "largest_relative_residual": max(row["relative_residual"] for row in rows),
    }


def verdicts(comparisons: list[dict[str, Any]]) -> list[Verdict]:
    """Return the bars, which are set for one size."""
    found = []
    for each in comparisons:
        if each["n"] == BARS_AT:
            speed, memory = each["times_as_fast"], each["share_of_memory"]
            found.append(at_least(f"{BARS_AT}^2: times as fast as PyAMG's faster solver", speed, SPEED_BAR))
            found.append(at_most(f"{BARS_AT}^2: share of its memory", memory, MEMORY_BAR))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(work(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
        return
    options: argparse.Namespace = arguments(__doc__)
    require_pyamg()
    in_plan = [(63, 1), (127, 1)] if options.small else [(511, 5), (1023, 5), (2047, 3)]
    unigrid.solve(np.ones((31, 31)))  # compiles, if the cache of kernels is empty
    rows, comparisons = [], []
    for n, repeats in in_plan:
        rows += (of_size := compare(n, repeats))
        comparisons.append(comparison(of_size))
    columns = ["setup_seconds", "solve_seconds", "total_seconds", "relative_residual"]
    cells = [
        [METHODS[row["method"]], f"{row['n']}^2", *(row[column] for column in columns)]
        + [row[f"peak_above_{what}_bytes"] / 2**20 for what in ("interpreter", "input")]
        for row in rows
    ]
    show("medians of fresh processes; kernels compiled beforehand; memory: peak in MiB above the interpreter, above the input")
    headings = ["method", "size", "setup (s)", "solve (s)", "total (s)", "residual", "MiB", "MiB above input"]
    show(table(headings, cells), end="\n\n")
    names = ["times_as_fast", "solve_alone_times_as_fast", "share_of_memory", "share_of_memory_above_input"]
    lines = [[f"{found['n']}^2", found["against"], *(found[name] for name in names)] for found in comparisons]
    show(table(["size", "against", "times as fast", "solve alone", "share of memory", "above input"], lines))
    found = verdicts(comparisons)
    show_verdicts(found)
    result = {"rtol": RTOL, "comparisons": comparisons, "rows": rows}
    write("faster_than_algebraic_multigrid", CLAIM, options, result, found)


if __name__ == "__main__":
    main()
