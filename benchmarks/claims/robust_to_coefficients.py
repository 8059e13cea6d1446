"""Claim: where the coefficient jumps or varies at random, black box multigrid with CG takes a bounded number of iterations.

Problems of the literature on the unit square, -div(a grad u) = f with a random f, to rtol 1e-8: one coefficient per cell as
unknowns ("cell", faces by the harmonic mean), or as the cells between vertices ("vertex", edges by the mean of two cells).
Iterations as `solve` counts them; a run that rounding stops before the tolerance is marked. PyAMG's two solvers, each as the
preconditioner of CG, run on the same matrix at one size; times of set-up and solve together, the runs taking turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_least, at_most, show, show_verdicts, table, write
from rivals import matrix_for_pyamg, require_pyamg

import unigrid

CLAIM = "iterations to 1e-8 bounded by problem, for jumps to 1e6, any sides and size; 10 times as fast as PyAMG"
RTOL, JUMP = 1e-8, 1e6
Array = np.ndarray
BARS = {
    "Poisson": 9, "quadrant": 9, "inclusion": 9, "shifted": 9, "staircase": 9, "channels": 9, "lognormal 1": 12,
    "lognormal 2": 12, "checker8": 14, "bernoulli": 40,
}  # fmt: skip
SIDES: dict[str, tuple[Any, str]] = {
    "Dirichlet, vertex": ("dirichlet", "vertex"),
    "Dirichlet, cell": ("dirichlet", "cell"),
    "Neumann, cell": ("neumann", "cell"),
    "periodic, cell": ("periodic", "cell"),
    "mixed, cell": ([("dirichlet", "neumann"), ("neumann", "dirichlet")], "cell"),
}
NEUMANN_BAR, TIMED = 15, ("smooth", "inclusion", "lognormal 1")


def channels(m: int) -> Array:
    """Return 2 of every 16 rows conducting, bent along a sine."""
    shift = np.rint(4 * np.sin(2 * np.pi * np.arange(m) / m)).astype(int)
    return np.where((np.arange(m)[:, None] - shift[None, :]) % 16 < 2, JUMP, 1.0)


def shifted(m: int) -> Array:
    """Return a square whose sides lie on no coarse line."""
    a = np.ones((m, m))
    a[m // 4 + 1 : 3 * m // 4 - 1, m // 4 + 1 : 3 * m // 4 - 1] = JUMP
    return a


def cells(name: str, m: int) -> Array:
    """Return the coefficient of a problem, one number per cell."""
    x = (np.arange(m) + 0.5) / m
    x, y = x[:, None], x[None, :]
    rng = np.random.default_rng(0)
    blocks = np.arange(m) // 8 % 2
    made: dict[str, Callable[[], Array]] = {
        "Poisson": lambda: np.ones((m, m)),
        "smooth": lambda: 1.0 + 0.5 * np.sin(3 * x) * np.cos(2 * y),
        "quadrant": lambda: np.where((x < 0.5) ^ (y < 0.5), JUMP, 1.0),
        "inclusion": lambda: np.where((abs(x - 0.5) < 0.25) & (abs(y - 0.5) < 0.25), JUMP, 1.0),
        "shifted": lambda: shifted(m),
        "staircase": lambda: np.where(np.floor(8 * y) > np.floor(8 * x), JUMP, 1.0),
        "channels": lambda: channels(m),
        "lognormal 1": lambda: np.exp(rng.standard_normal((m, m))),
        "lognormal 2": lambda: np.exp(2 * rng.standard_normal((m, m))),
        "checker8": lambda: np.where(blocks[:, None] ^ blocks[None, :], JUMP, 1.0),
        "bernoulli": lambda: np.where(rng.random((m, m)) < 0.5, 1e3, 1.0),
    }
    return made[name]()


def problem_of(name: str, sides: str, n: int) -> unigrid.Poisson:
    """Return a problem with n x n unknowns."""
    boundary, centering = SIDES[sides]
    if centering == "cell":
        return unigrid.Poisson((n, n), boundary=boundary, centering="cell", coefficient=cells(name, n))
    a = cells(name, n + 1)  # an edge between two vertices is the side of two cells
    edges = (a[:, 1:] + a[:, :-1]) / 2, (a[1:, :] + a[:-1, :]) / 2
    return unigrid.Poisson((n, n), boundary=boundary, coefficient=edges)


def source(problem: unigrid.Poisson) -> Array:
    return problem.compatible(np.random.default_rng(1).standard_normal(problem.shape))


def counted(name: str, sides: str, n: int) -> dict[str, Any]:
    """Return the iterations of one problem."""
    problem = problem_of(name, sides, n)
    solution = unigrid.GalerkinCycle(problem).solve(source(problem), rtol=RTOL, raise_on_failure=False)
    reached = solution.residuals[-1] / solution.residuals[0]
    return {
        "problem": name, "sides": sides, "n": n, "iterations": solution.iterations, "converged": solution.converged,
        "reason": str(solution.reason), "relative_residual": reached,
    }  # fmt: skip


def timed(name: str, n: int, repeats: int) -> dict[str, Any]:
    """Return the medians of set-up and solve in one call, ours and PyAMG's."""
    import pyamg

    a, f = cells(name, n), np.random.default_rng(1).standard_normal((n, n))
    matrix = matrix_for_pyamg(unigrid.Poisson((n, n), centering="cell", coefficient=a))
    runs: dict[str, Callable[[], Any]] = {
        "unigrid": lambda: unigrid.solve(f, centering="cell", coefficient=a, rtol=RTOL, raise_on_failure=False),
        "constant": lambda: unigrid.solve(f, centering="cell", rtol=RTOL),
        "ruge-stueben": lambda: pyamg.ruge_stuben_solver(matrix).solve(f.ravel(), tol=RTOL, accel="cg"),
        "smoothed-aggregation": lambda: pyamg.smoothed_aggregation_solver(matrix).solve(f.ravel(), tol=RTOL, accel="cg"),
    }
    seconds: dict[str, list[float]] = {method: [] for method in runs}
    for _ in range(repeats):
        for method, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[method].append(time.perf_counter() - begin)
    row: dict[str, Any] = {method: statistics.median(times) for method, times in seconds.items()}
    fastest = min(row["ruge-stueben"], row["smoothed-aggregation"])
    return {
        "problem": name,
        "n": n,
        **row,
        "times_as_fast": fastest / row["unigrid"],
        "of_constant": row["unigrid"] / row["constant"],
    }


def verdicts(rows: list[dict[str, Any]], times: list[dict[str, Any]]) -> list[Verdict]:
    """Return the bars."""
    found = []
    for name, bar in BARS.items():
        for neumann in (False, True):
            mine = [row["iterations"] for row in rows if row["problem"] == name and ("Neumann" in row["sides"]) == neumann]
            if mine:
                sides = "all sides Neumann" if neumann else "other sides"
                found.append(at_most(f"{name}, {sides}: iterations", max(mine), max(bar, NEUMANN_BAR) if neumann else bar))
    for row in times:
        found.append(
            at_least(f"{row['problem']}, {row['n']}^2: times as fast as PyAMG's faster solver", row["times_as_fast"], 10.0)
        )
        allowed = 4.0 if row["problem"] == "smooth" else 8.0
        found.append(at_most(f"{row['problem']}, {row['n']}^2: time over that of constant a", row["of_constant"], allowed))
    return found


def main() -> None:
    options = arguments(__doc__)
    require_pyamg()
    sizes, timed_at, repeats = ((31,), (63,), 1) if options.small else ((127, 200, 255, 511, 1023), (1023,), 3)
    unigrid.solve(np.ones((31, 31)), coefficient=np.ones((31, 31)))  # compiles, if the cache of kernels is empty
    rows = [counted(name, sides, n) for n in sizes for name in BARS for sides in SIDES]
    headings = ["problem", *(f"{sides} {n}" for sides in SIDES for n in sizes)]
    cells_of = [
        [name, *(_cell(row) for sides in SIDES for row in rows if row["problem"] == name and row["sides"] == sides)]
        for name in BARS
    ]
    show("CG iterations to 1e-8; s: stopped by rounding before the tolerance")
    show(table(headings, cells_of), end="\n\n")
    times = [timed(name, n, repeats) for n in timed_at for name in TIMED]
    columns = ["unigrid", "constant", "ruge-stueben", "smoothed-aggregation", "times_as_fast", "of_constant"]
    show(table(["problem", "n", *columns], [[row["problem"], row["n"], *(row[name] for name in columns)] for row in times]))
    found = verdicts(rows, times)
    show_verdicts(found)
    write("robust_to_coefficients", CLAIM, options, {"rtol": RTOL, "rows": rows, "times": times}, found)


def _cell(row: dict[str, Any]) -> str:
    return f"{row['iterations']}{'' if row['converged'] else row['reason'][0]}"


if __name__ == "__main__":
    main()
