"""Claim: set-up and solve with coefficients that vary, in one call, take a tenth of the time of PyAMG.

-div(a grad u) = f on cells, Dirichlet sides, random f, to rtol 1e-8; a smooth, jumping by 1e6 around a square (a cube), and
log-normal. `unigrid.solve(f, coefficient=a)` builds its hierarchy in every call. PyAMG is given the matrix and runs
Ruge-Stueben and smoothed aggregation, each as the preconditioner of CG; the faster one counts. Where the matrix is small
enough, SciPy's direct solver factors it. The same call without coefficient has the constant ones. The runs take turns; times
are medians. Residuals are measured by the sparse matrix.

Memory is the high-water mark of a fresh process during the call, less the memory held before it, its input loaded and a small
problem solved by the same kernels; in arrays of f's size.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_least, at_most, show, show_verdicts, table, write
from rivals import matrix_for_pyamg, require_pyamg

import unigrid

CLAIM = "coefficients that vary, set-up and solve in one call: 10 times as fast as PyAMG in 2-D, 5 times in 3-D"
RTOL, JUMP = 1e-8, 1e6
PROBLEMS = ("smooth", "inclusion", "lognormal 1")
PYAMG_BAR, MEMORY_BAR = {2: 10.0, 3: 5.0}, {2: 16.0, 3: 24.0}
CONSTANT_BAR = {"smooth": 4.0, "inclusion": 8.0, "lognormal 1": 8.0}
LARGEST_FACTORED = {2: 1023**2, 3: 40**3}  # its factors take 1 GiB and more beyond
Array = np.ndarray


def coefficient(name: str, shape: tuple[int, ...]) -> Array:
    """Return a, one number per cell."""
    x = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij", sparse=True)
    if name == "smooth":
        wave: Array = np.sin(3 * x[0]) * np.cos(2 * x[1])
        return np.broadcast_to(1.0 + 0.5 * (wave if len(shape) == 2 else wave * np.cos(x[2])), shape).copy()
    if name == "inclusion":
        inside = np.ones(shape, bool)
        for each in x:
            inside &= np.abs(each - 0.5) < 0.25
        return np.where(inside, JUMP, 1.0)
    return np.exp(np.random.default_rng(0).standard_normal(shape))


def source(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(1).standard_normal(shape)


def ours(a: Array | None, f: Array) -> Any:
    """Return the Solution; failures are counted, not raised."""
    return unigrid.solve(f, centering="cell", coefficient=a, rtol=RTOL, raise_on_failure=False)


def timed(name: str, shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Return medians of all methods for one problem."""
    import pyamg

    a, f = coefficient(name, shape), source(shape)
    matrix = matrix_for_pyamg(unigrid.Poisson(shape, centering="cell", coefficient=a))
    flat, options = f.ravel(), {"tol": RTOL, "accel": "cg", "maxiter": 200}
    runs: dict[str, Callable[[], Any]] = {
        "unigrid": lambda: ours(a, f),
        "constant": lambda: ours(None, f),
        "ruge-stueben": lambda: pyamg.ruge_stuben_solver(matrix).solve(flat, **options),
        "smoothed-aggregation": lambda: pyamg.smoothed_aggregation_solver(matrix).solve(
            flat, tol=RTOL, accel="cg", maxiter=200
        ),
    }
    if f.size <= LARGEST_FACTORED[f.ndim]:
        runs["splu"] = lambda: splu(csc_matrix(matrix)).solve(flat)
    seconds: dict[str, list[float]] = {method: [] for method in runs}
    results: dict[str, Any] = {}
    for _ in range(repeats):
        for method, run in runs.items():
            begin = time.perf_counter()
            results[method] = run()
            seconds[method].append(time.perf_counter() - begin)
    solution = results["unigrid"]
    found = {method: u for method, u in results.items() if method not in ("unigrid", "constant")} | {"unigrid": solution.u}
    residuals = {method: float(np.linalg.norm(flat - matrix @ u.ravel()) / np.linalg.norm(flat)) for method, u in found.items()}
    medians = {method: statistics.median(times) for method, times in seconds.items()}
    fastest = min(medians["ruge-stueben"], medians["smoothed-aggregation"])
    return {
        "problem": name, "shape": list(shape), "seconds": medians, "iterations": solution.iterations,
        "converged": solution.converged, "relative_residuals": residuals, "times_as_fast": fastest / medians["unigrid"],
        "of_constant": medians["unigrid"] / medians["constant"],
    }  # fmt: skip


def work(name: str, shape: tuple[int, ...]) -> float:
    """Return the peak memory of one call in this process, in arrays of f's size."""
    small = (160 if len(shape) == 2 else 31,) * len(shape)  # which takes the same kernels: their code is no memory of the call
    ours(coefficient(name, small), source(small))
    a, f = coefficient(name, shape), source(shape)
    held = _memory("VmRSS")
    ours(a, f)
    return (_memory("VmHWM") - held) / f.nbytes


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def arrays_at_peak(name: str, shape: tuple[int, ...]) -> float | None:
    """Return the peak of a fresh process; None where the system does not tell."""
    if not Path("/proc/self/status").exists():
        return None
    command = [sys.executable, __file__, "--worker", name, *map(str, shape)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} at {shape} failed:\n{done.stderr}")
    return float(json.loads(done.stdout))


def verdicts(rows: list[dict[str, Any]]) -> list[Verdict]:
    """Return the bars."""
    found = []
    for row in rows:
        ndim = len(row["shape"])
        what = f"{row['problem']}, {row['shape'][0]}^{ndim}"
        found.append(at_least(f"{what}: times as fast as PyAMG's faster solver", row["times_as_fast"], PYAMG_BAR[ndim]))
        if ndim == 2:
            bar = CONSTANT_BAR[row["problem"]]
            found.append(at_most(f"{what}: time over that of constant a", row["of_constant"], bar))
        if row["arrays_at_peak"] is not None:
            found.append(at_most(f"{what}: peak memory, arrays", row["arrays_at_peak"], MEMORY_BAR[ndim]))
    return found


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(work(sys.argv[2], tuple(map(int, sys.argv[3:])))))
        return
    options = arguments(__doc__)
    require_pyamg()
    plan = [((63, 63), 1), ((15, 15, 15), 1)] if options.small else [((1023,) * 2, 5), ((2047,) * 2, 3), ((127,) * 3, 3)]
    for ndim in (2, 3):  # compiles, if the cache of kernels is empty: small grids, and those with cycles in single precision
        for n in (15, 160 if ndim == 2 else 31):
            ours(coefficient("lognormal 1", (n,) * ndim), source((n,) * ndim))
    rows = [
        {**timed(name, shape, repeats), "arrays_at_peak": arrays_at_peak(name, shape)}
        for shape, repeats in plan
        for name in PROBLEMS
    ]
    methods = ["unigrid", "constant", "ruge-stueben", "smoothed-aggregation", "splu"]
    columns = ["times_as_fast", "of_constant", "iterations", "arrays_at_peak"]
    lines = [
        [row["problem"], f"{row['shape'][0]}^{len(row['shape'])}"]
        + [row["seconds"].get(method, "") for method in methods]
        + [row[column] for column in columns]
        for row in rows
    ]
    show("seconds, medians; set-up and solve")
    show(table(["problem", "size", *methods, "times as fast", "of constant", "iterations", "arrays"], lines))
    found = verdicts(rows)
    show_verdicts(found)
    write("variable_coefficients_fast", CLAIM, options, {"rtol": RTOL, "rows": rows}, found)


if __name__ == "__main__":
    main()
