"""Claim: the defaults are about the fastest of all smoothers, cycles and omegas, and faster than PyAMG or plain CG.

Two measurements on random right-hand sides to rtol 1e-8, Dirichlet sides:

- comparison: the default, red-black with an omega for each half-sweep; every smoother in V(1,1), V(2,2), V(3,3), F(1,1) and
  W(1,1) (Gauss-Seidel, which runs on one core, only in V), beside PyAMG (Ruge-Stueben and smoothed aggregation, each with
  CG) and plain CG: iterations, convergence rate, work units, seconds;
- defaults: the same default beside red-black with omega from 1 to 1.3 in V(1,1) to V(3,3), over sizes in 2-D and 3-D.
  `relative` is the geometric mean, over the sizes, of the time to 1e-8 over the best time at that size; since this
  jumps with the number of iterations, `per digit` is the same for the time of one cycle over the digits gained by it.

A work unit is a smoothing sweep on the finest level, for PyAMG as its own cycle_complexity counts, a product with the matrix
being one. The kernels are compiled beforehand; times are medians of runs that take turns; hierarchies are built beforehand,
and the time for this is a column of its own.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse.linalg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_most, interleaved_seconds, show, show_verdicts, table, write
from rivals import matrix_for_pyamg, require_pyamg

import unigrid
from unigrid.plots import COLORS, MARKERS

CLAIM = "the default smoother and cycle need at most a tenth more time to 1e-8 than the best of all, over 2-D and 3-D sizes"
RTOL = 1e-8
SMOOTHERS: dict[str, unigrid.Smoother] = {
    f"red-black {unigrid.RedBlack().omega}": unigrid.RedBlack(),
    "red-black 1.0": unigrid.RedBlack(omega=1.0),
    "Jacobi 0.8": unigrid.Jacobi(omega=0.8),
    "Gauss-Seidel 1.0": unigrid.GaussSeidel(),
    "Chebyshev 3": unigrid.Chebyshev(degree=3),
}
OMEGAS = sorted({1.0, 1.1, 1.15, 1.2, 1.25, 1.3, unigrid.RedBlack().omega})
SWEEPS = ((1, 1), (2, 1), (2, 2), (3, 3))
CYCLES = (("V", 1), ("V", 2), ("V", 3), ("F", 1), ("W", 1))
DEFAULT, TUNED = "default", "each its own"  # the default smoothing, and its omegas
CG_RESIDUAL_EVERY = 25  # iterations
SLOW = 5.0  # seconds in total after which a method is not measured again
EXCESS_BAR = 1.1  # time of the defaults over that of the best setting
Array = np.ndarray


@dataclass
class History:
    """Residuals relative to ||b|| with the seconds since the start; `record` is called after every iteration."""

    residuals: list[float] = field(default_factory=lambda: [1.0])
    times: list[float] = field(default_factory=lambda: [0.0])
    start: float = 0.0

    def begin(self) -> History:
        self.start = time.perf_counter()
        return self

    def tick(self) -> None:
        self.times.append(time.perf_counter() - self.start)


def nested_work_units(cycle: unigrid.StencilCycle) -> float:
    """Return the work units of a full-multigrid start: one cycle from every level down."""
    visits, sizes = cycle.visits(), [level.problem.grid.size for level in cycle.levels]
    cost = getattr(cycle.smoother, "cost", 1) * (cycle.pre + cycle.post)
    last = len(sizes) - 1
    pairs = [(top, at) for top in range(len(sizes)) for at in range(top, len(sizes))]
    return sum(visits[at - top] * (cost if at < last else 1) * sizes[at] for top, at in pairs) / sizes[0]


def run_unigrid(cycle: unigrid.StencilCycle, f: Array) -> dict[str, Any]:
    """Return iterations, rate and history of one solve with a prepared cycle."""
    history = History().begin()
    solution = cycle.solve(f, rtol=RTOL, maxiter=200, callback=lambda _: history.tick())
    history.residuals = [residual / solution.residuals[0] for residual in solution.residuals]
    per_cycle, first = cycle.work_units, nested_work_units(cycle)
    units = [0.0, *(first + per_cycle * number for number in range(solution.iterations))]
    return {"iterations": solution.iterations, "rate": solution.rate, **_traces(history, units)}


def run_pyamg(hierarchy: Any, f: Array) -> dict[str, Any]:
    """Return the same of one solve with a prepared PyAMG hierarchy as the preconditioner of CG."""
    norms: list[float] = []
    history = History().begin()
    hierarchy.solve(f.ravel(), tol=RTOL, accel="cg", maxiter=200, residuals=norms, callback=lambda _: history.tick())
    history.residuals = [norm / norms[0] for norm in norms]
    per_iteration = hierarchy.cycle_complexity() + 1
    return {
        "iterations": len(norms) - 1,
        "rate": _rate(norms),
        **_traces(history, [per_iteration * number for number in range(len(norms))]),
    }


def run_cg(matrix: Any, f: Array) -> dict[str, Any]:
    """Return the same of one solve by plain conjugate gradients; residuals are computed every 25 iterations only."""
    b, history, count = f.ravel(), History().begin(), itertools.count(1)
    norm, units = float(np.linalg.norm(b)), [0.0]

    def note(x: Array, number: int) -> None:
        history.tick()
        history.residuals.append(float(np.linalg.norm(b - matrix @ x)) / norm)
        units.append(float(number))

    def look(x: Array) -> None:
        if (number := next(count)) % CG_RESIDUAL_EVERY == 0:
            note(x, number)

    x, _ = scipy.sparse.linalg.cg(matrix, b, rtol=RTOL, maxiter=100_000, callback=look)
    rate = _rate(history.residuals) ** (1 / CG_RESIDUAL_EVERY)
    note(x, iterations := next(count) - 1)
    return {"iterations": iterations, "rate": rate, **_traces(history, units)}


def _rate(norms: list[float]) -> float:
    ratios = [new / old for old, new in itertools.pairwise(norms)]
    return statistics.geometric_mean(ratios[len(ratios) // 2 :]) if ratios else math.nan


def _traces(history: History, units: list[float]) -> dict[str, Any]:
    return {"units": units[-1], "history": {"residuals": history.residuals, "seconds": history.times, "units": units}}


def compare(shape: tuple[int, ...], repeats: int, small: bool) -> list[dict[str, Any]]:
    """Return one row per method at one size."""
    problem = unigrid.Poisson(shape)
    f = np.random.default_rng(1).standard_normal(shape)
    rows: list[dict[str, Any]] = []
    calls: dict[int, Callable[[], Any]] = {}

    def add(names: dict[str, str], build: Callable[[], Any], run: Callable[[Any, Array], dict[str, Any]]) -> None:
        start = time.perf_counter()
        prepared = build()
        rows.append({"shape": list(shape), **names, "setup_seconds": time.perf_counter() - start})
        row = rows[-1]
        calls[len(rows) - 1] = lambda: row.update(run(prepared, f))

    for (name, smoother), (kind, sweeps) in itertools.product(SMOOTHERS.items(), CYCLES):
        if kind != "V" and (small or isinstance(smoother, unigrid.GaussSeidel)):
            continue

        def build(kind: str = kind, sweeps: int = sweeps, smoother: unigrid.Smoother = smoother) -> unigrid.StencilCycle:
            return unigrid.StencilCycle(problem, cycle=kind, pre=sweeps, post=sweeps, smoother=smoother)

        add({"method": name, "cycle": f"{kind}({sweeps},{sweeps})"}, build, run_unigrid)
    add({"method": DEFAULT, "cycle": unigrid.StencilCycle(problem).name}, lambda: unigrid.StencilCycle(problem), run_unigrid)
    times = interleaved_seconds(calls, repeats, SLOW)

    import pyamg

    matrix = matrix_for_pyamg(problem)
    calls.clear()
    add({"method": "PyAMG Ruge-Stueben", "cycle": "CG"}, lambda: pyamg.ruge_stuben_solver(matrix), run_pyamg)
    add({"method": "PyAMG smoothed aggregation", "cycle": "CG"}, lambda: pyamg.smoothed_aggregation_solver(matrix), run_pyamg)
    add({"method": "plain", "cycle": "CG"}, lambda: matrix, run_cg)
    times |= interleaved_seconds(calls, 1)
    for number, row in enumerate(rows):
        row["solve_seconds"] = times[number]
    return rows


def tune(shape: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """Return iterations, time to the tolerance, and time per digit, for each omega and number of sweeps at one size.

    The time of a cycle does not depend on omega: settings with equal sweeps share one time per cycle, those with equal sweeps
    and iterations share one time to the tolerance, the median of all measured.
    """
    problem = unigrid.Poisson(shape)
    f, u = np.random.default_rng(2).standard_normal((2, *shape))
    rows: list[dict[str, Any]] = []
    solves: dict[int, Callable[[], Any]] = {}
    cycles: dict[int, Callable[[], Any]] = {}
    settings: list[tuple[Any, dict[str, Any]]] = [(TUNED, {})]
    for omega, (pre, post) in itertools.product(OMEGAS, SWEEPS):
        settings.append((omega, {"pre": pre, "post": post, "smoother": unigrid.RedBlack(omega)}))
    for number, (omega, slots) in enumerate(settings):
        cycle = unigrid.StencilCycle(problem, **slots)
        iterations = cycle.solve(f, rtol=RTOL).iterations
        rate = cycle.solve(f, rtol=1e-11, start="zero").rate
        rows.append(
            {"shape": list(shape), "omega": omega, "sweeps": list(cycle.sweeps), "iterations": iterations, "rate": rate}
        )
        solves[number] = functools.partial(cycle.solve, f, rtol=RTOL)
        cycles[number] = functools.partial(cycle, f, u)
    whole, single = interleaved_seconds(solves, repeats), interleaved_seconds(cycles, repeats)
    for row in rows:
        alike = [number for number, other in enumerate(rows) if other["sweeps"] == row["sweeps"]]
        alike_whole = [number for number in alike if rows[number]["iterations"] == row["iterations"]]
        row["solve_seconds"] = statistics.median(whole[number] for number in alike_whole)
        row["seconds_per_digit"] = statistics.median(single[number] for number in alike) / -math.log10(row["rate"])
    return rows


def ranking(rows: list[dict[str, Any]], dimensions: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return each setting's time relative to the best at the same size, geometric mean over the sizes, best first."""
    rows = [row for row in rows if len(row["shape"]) in dimensions]
    relative: dict[tuple[Any, str], list[tuple[float, float, int]]] = {}
    for _, members in itertools.groupby(rows, key=lambda row: row["shape"]):
        group = list(members)
        best = [min(row[name] for row in group) for name in ("solve_seconds", "seconds_per_digit")]
        for row in group:
            key = row["omega"], DEFAULT if row["omega"] == TUNED else "V({},{})".format(*row["sweeps"])
            found = row["solve_seconds"] / best[0], row["seconds_per_digit"] / best[1], row["iterations"]
            relative.setdefault(key, []).append(found)
    ranked = [
        {
            "omega": omega,
            "cycle": cycle,
            "relative": statistics.geometric_mean(found[0] for found in all_found),
            "relative_per_digit": statistics.geometric_mean(found[1] for found in all_found),
            "most_iterations": max(found[2] for found in all_found),
        }
        for (omega, cycle), all_found in relative.items()
    ]
    return sorted(ranked, key=lambda row: row["relative"])


def defaults(ranked: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the default settings."""
    return next(row for row in ranked if row["omega"] == TUNED)


def verdict(excess: float) -> Verdict:
    """Return the bar of the defaults' time over that of the best setting."""
    return at_most("time of the defaults over that of the best setting, all sizes", excess, EXCESS_BAR)


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Return the figure: residual against time and against work units, one row of panels per size."""
    shapes = [shape for shape, _ in itertools.groupby(row["shape"] for row in rows)]
    figure = Figure(figsize=(10, 4 * len(shapes)), layout="constrained")
    panels = figure.subplots(len(shapes), 2, squeeze=False)
    shown = [name for name in SMOOTHERS if "red-black" not in name]
    for axes, shape in zip(panels, shapes, strict=True):
        chosen = [
            row
            for row in rows
            if row["shape"] == shape
            and (row["cycle"] == "CG" or row["method"] == DEFAULT or (row["method"] in shown and row["cycle"] == "V(2,2)"))
        ]
        for row, color, marker in zip(chosen, COLORS, MARKERS, strict=True):
            label = f"{row['method']} + CG" if row["cycle"] == "CG" else f"{row['method']}, {row['cycle']}"
            label = DEFAULT if row["method"] == DEFAULT else label
            label = "plain CG" if row["method"] == "plain" else label
            style = {
                "color": color,
                "marker": marker,
                "markersize": 2 if row["method"] == "plain" else 5,
                "fillstyle": "none",
                "label": label,
            }
            history = row["history"]
            axes[0].loglog(history["seconds"][1:], history["residuals"][1:], **style)
            axes[1].loglog(history["units"][1:], history["residuals"][1:], **style)
        axes[0].set(
            xlabel="seconds of the solve (setup apart)",
            ylabel="residual / ||b||",
            title=f"{' x '.join(map(str, shape))} unknowns",
        )
        axes[1].set(xlabel="work units", title="the same, by work")
        for one in axes:
            one.grid(alpha=0.3)
            one.axhline(RTOL, color="gray", linewidth=0.8, linestyle="--")
    figure.legend(*panels[0][0].get_legend_handles_labels(), fontsize="small", loc="outside lower center", ncols=4)
    return figure


def main() -> None:
    options = arguments(__doc__)
    require_pyamg()
    shapes = [(63, 63), (15, 15, 15)] if options.small else [(1023, 1023), (127, 127, 127)]
    sizes = (
        [(63, 63), (15, 15, 15)] if options.small else [(300,) * 2, (1000,) * 2, (1023,) * 2, (63,) * 3, (64,) * 3, (100,) * 3]
    )
    unigrid.solve(np.ones((31, 31)))  # compiles, if the cache of kernels is empty
    comparison = []
    columns = ["method", "cycle", "iterations", "rate", "units", "setup_seconds", "solve_seconds"]
    for shape in shapes:
        rows = compare(shape, 1 if options.small else 3, options.small)
        comparison += rows
        cells = [[row[name] for name in columns] for row in sorted(rows, key=lambda row: row["solve_seconds"])]
        show(f"{' x '.join(map(str, shape))}, random f, to {RTOL:g}; kernels compiled beforehand")
        show(table([*columns[:4], "work units", "setup (s)", "solve (s)"], cells), end="\n\n")
    tuning = [row for shape in sizes for row in tune(shape, 1 if options.small else 7)]
    rankings = {name: ranking(tuning, dimensions) for name, dimensions in {"2-D": (2,), "3-D": (3,), "all": (2, 3)}.items()}
    for name, ranked in rankings.items():
        show(f"defaults, {name}: time relative to the best setting at each size")
        keys = ["omega", "cycle", "relative", "relative_per_digit", "most_iterations"]
        show(
            table(
                ["omega", "cycle", "relative", "per digit", "iterations (most)"], [[row[key] for key in keys] for row in ranked]
            ),
            end="\n\n",
        )
    best, default = rankings["all"][0], defaults(rankings["all"])
    excess = default["relative"] / best["relative"]
    show(f"least time over all sizes: {best['cycle']} with omega {best['omega']}", end="; ")
    show(f"the defaults: {excess:.3f} times this")
    found = [verdict(excess)]
    show_verdicts(found)
    result = {
        "rtol": RTOL, "comparison": comparison, "tuning": tuning, "rankings": rankings, "best": best, "default": default,
        "default_over_best": excess,
    }  # fmt: skip
    path = write("smoothers_and_cycles", CLAIM, options, result, found)
    draw(comparison).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
