"""Claim: fused half-cycles bring multigrid to the speed of the direct FFT solve on a constant-coefficient box.

In one run, on one machine: the STREAM triad a = b + s c (24 bytes per unknown, arrays four times the last cache, best of ten)
with one thread and with all, beside a copy by NumPy; then, for every grid, interleaved and each the median of several runs,

- `solve`: random f, default settings, to rtol 1e-8; the hierarchy prepared, the kernels compiled;
- `mixed`: the same with precision="mixed"; `tight`: the same to rtol 1e-10;
- `FMG`: rtol="discretization", a single full-multigrid pass with one sweep before and after (in 2-D);
- `unfused`: the solve with composed slots, one pass over memory per operator;
- `DST`: the direct solve by scipy.fft with as many workers and prepared eigenvalues (FFT on periodic sides);
- `ducc0`: the same by ducc0, if it is installed (extra `bench`).

(PyAMG's algebraic multigrid is 13 to 71 times slower than `solve`: `faster_than_algebraic_multigrid.py`. One call with its
set-up is measured by `one_call.py`.)

B* is time times the triad's bandwidth over unknowns: the bytes per unknown that could have been moved in that time. That of a
cycle is from a third of the difference between four iterations of V(2,2) and one; all else is with the default settings. The
model's minimum is 94 B for FMG, 42.7 B for a V-cycle, and for a solve FMG and a V-cycle for every further iteration. Memory is
the peak that NumPy allocates during a first solve, in a fresh process, in grid arrays. The error of one FMG pass is that for
u = exp(x) cos(2 y), inhomogeneous sides, over the discretization error. Last comes the cost of the abstraction: the cycle
against a loop by hand over its levels, and a V-cycle on a grid so small that calls are most of its time.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_least, at_most, interleaved_seconds, seconds, show, show_verdicts, table, write
from rivals import has_ducc0, prepared_ducc0, prepared_scipy
from solver_worker import Worker

import unigrid
from unigrid.plots import COLORS, MARKERS

CLAIM = "multigrid to 1e-8 against scipy's prepared DST-I with as many workers: as fast at 2047^2, 1.2 times as fast at 4095^2"
RTOL, TIGHT = 1e-8, 1e-10
BARS = {  # shape of a Dirichlet box: required time of the DST over that of a solve
    (1023, 1023): 0.8, (1500, 1500): 1.0, (2047, 2047): 1.0, (3000, 3000): 1.2, (4095, 4095): 1.2, (255, 255, 255): 1.0,
}  # fmt: skip
FMG_BAR, CYCLE_BAR, MIXED_BAR = 3.0, 130.0, 1.25  # at 4095^2: against the DST; B* of one V(2,2); against full precision
TIGHT_BAR, SIDES_BAR = 780.0, 1.3  # B* to 1e-10 at 2047^2; time per cycle on other sides over Dirichlet sides
ARRAYS_BARS = {"homogeneous": 2.2, "inhomogeneous": 3.2}  # peak memory beside f and u, in arrays
FMG_ERROR_BAR, FUSING_BAR = 1.2, 2.0
HAND_BAR, TINY_BAR, SMALL_BAR = 1.05, 60e-6, 1e-3
CYCLE_MODEL, FMG_MODEL = 42.7, 94.0  # least bytes per unknown moved by a fused V-cycle and by FMG
BUDGET = 25.0  # seconds in total after which a call is not repeated
Array = np.ndarray


@numba.njit(nogil=True, cache=True)
def triad(a: Array, b: Array, c: Array, s: float) -> None:
    """Compute a = b + s c on whole arrays (with index bounds, which might be negative, numba does not vectorize the loop)."""
    for k in range(a.size):
        a[k] = b[k] + s * c[k]


def bandwidth(threads: int, size: int) -> float:
    """Return the triad's bytes per second, the best of ten; each thread writes to its own part first."""
    a, b, c = (np.empty(size) for _ in range(3))
    parts = [slice(size * number // threads, size * (number + 1) // threads) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def on_all(call: Callable[[slice], Any]) -> None:
            list(pool.map(call, parts))

        for array in (a, b, c):
            on_all(lambda part, array=array: array[part].fill(1.0))
        calls = [seconds(lambda: on_all(lambda part: triad(a[part], b[part], c[part], 3.0))) for _ in range(11)]
    return 24.0 * size / min(calls)


def copying(size: int) -> float:
    """Return the bytes per second of a copy by NumPy, with one thread."""
    a, b = np.ones(size), np.ones(size)
    return 16.0 * size / min(seconds(lambda: np.copyto(a, b)) for _ in range(10))


def peak_in_arrays(shape: tuple[int, ...], boundary: str, value: float, threads: int) -> float:
    """Return the peak of memory allocated in a first solve, u included, in float64 grid arrays.

    A `value` other than 0 is prescribed on all sides.
    """
    with Worker() as worker:
        peak = worker("peak_memory", shape=shape, boundary=boundary, value=value, threads=threads, rtol=RTOL)
    return peak / (8.0 * math.prod(shape))


def source_on(problem: unigrid.Poisson) -> Array:
    """Return a random right-hand side, made compatible with the sides."""
    f = np.random.default_rng(0).standard_normal(problem.shape)
    return problem.compatible(f)


def iterated(cycle: unigrid.StencilCycle, f: Array, iterations: int) -> Callable[[], Any]:
    """Return a call of a given number of iterations, the first of which is full multigrid."""
    return partial(cycle.solve, f, rtol=1e-15, maxiter=iterations, raise_on_failure=False)


def measure(shape: tuple[int, ...], boundary: str, triads: dict[int, float], repeats: int) -> list[dict[str, Any]]:
    """Return one row per number of threads."""
    problem = unigrid.Poisson(shape, boundary=boundary)
    f = source_on(problem)
    rows, before = [], unigrid.get_num_threads()
    for threads, bytes_per_second in triads.items():
        unigrid.set_num_threads(threads)
        cycle, plain = unigrid.StencilCycle(problem), unigrid.StencilCycle(problem, pre=2, post=2)
        composed, plain_composed = cycle.composed(), plain.composed()
        periodic = boundary == "periodic"
        fast = prepared_scipy(shape, periodic, threads)
        faster = prepared_ducc0(shape, threads) if has_ducc0() and not periodic else None
        calls: dict[str, Callable[[], Any]] = {
            "solve": partial(cycle.solve, f, rtol=RTOL), "mixed": partial(cycle.solve, f, rtol=RTOL, precision="mixed"),
            "tight": partial(cycle.solve, f, rtol=TIGHT), "FMG": partial(cycle.solve, f, rtol="discretization"),
            "one": iterated(plain, f, 1),
            "four": iterated(plain, f, 4), "unfused": partial(composed.solve, f, rtol=RTOL),
            "unfused one": iterated(plain_composed, f, 1), "unfused four": iterated(plain_composed, f, 4),
            "DST": partial(fast, f),
        }  # fmt: skip
        if faster is not None:
            calls["ducc0"] = partial(faster, f)
        solution, mixed, wanted = calls["solve"](), calls["mixed"](), fast(f)
        assert faster is None or np.allclose(faster(f), wanted, rtol=1e-6, atol=1e-9 * np.abs(wanted).max())
        for call in calls.values():
            call()
        taken = interleaved_seconds(calls, repeats, BUDGET)
        taken["cycle"] = (taken["four"] - taken["one"]) / 3
        taken["unfused cycle"] = (taken["unfused four"] - taken["unfused one"]) / 3
        stars = {name: value * bytes_per_second / f.size for name, value in taken.items()}
        rows.append({
            "shape": list(shape), "boundary": boundary, "threads": threads, "iterations": solution.iterations,
            "iterations_mixed": mixed.iterations, "seconds": taken, "unknowns_per_second": f.size / taken["solve"],
            "b_star": stars, "times_as_fast_as_dst": taken["DST"] / taken["solve"], "fmg_over_dst": taken["DST"] / taken["FMG"],
            "mixed_over_dst": taken["DST"] / taken["mixed"], "mixed_over_full": taken["solve"] / taken["mixed"],
            "times_as_fast_as_ducc0": taken["ducc0"] / taken["solve"] if "ducc0" in taken else None,
            "unfused_over_fused_cycle": taken["unfused cycle"] / taken["cycle"],
            "share_of_model": model_of(solution.iterations) / stars["solve"] if len(shape) == 2 else None,
            "difference_to_dst": float(np.abs(solution.u - wanted).max() / np.abs(wanted).max()),
            "difference_of_mixed": float(np.abs(mixed.u - wanted).max() / np.abs(wanted).max()),
            "peak_arrays": peak_in_arrays(shape, boundary, 0.0, threads),
        })  # fmt: skip
    unigrid.set_num_threads(before)
    return rows


def model_of(iterations: int) -> float:
    """Return the least bytes per unknown moved by a solve in 2-D, whose first iteration is full multigrid."""
    return FMG_MODEL + (iterations - 1) * CYCLE_MODEL


def cycle_seconds(n: int, sides: tuple[str, ...], repeats: int) -> dict[str, float]:
    """Return the seconds of a V(2,2) per unknown on about n^2 unknowns, for each kind of sides."""
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    sizes = {"dirichlet": n, "neumann": n + 2, "periodic": n + 1}
    for side in sides:
        problem = unigrid.Poisson((sizes[side],) * 2, boundary=side)
        cycle, f = unigrid.StencilCycle(problem, pre=2, post=2), source_on(problem)
        for iterations in (1, 4):
            calls[side, iterations] = iterated(cycle, f, iterations)
            calls[side, iterations]()
    taken = interleaved_seconds(calls, repeats)
    return {side: (taken[side, 4] - taken[side, 1]) / 3 / sizes[side] ** 2 for side in sides}


def by_hand(cycle: unigrid.StencilCycle, f: Array, u: Array) -> Array:
    """Do a V-cycle by a loop over the levels of `cycle`, without its recursion."""
    down = []
    start: Array | None = u
    for level, coarser in itertools.pairwise(cycle.levels):
        improved, coarse_f, coarse_start = level.descend(f, start, coarser)
        down.append((level, f, improved, coarse_start))
        f, start = coarse_f, coarse_start
    correction, *_ = cycle.levels[-1].descend(f, start, None)
    for level, data, improved, coarse_start in reversed(down):
        correction = level.ascend(data, improved, coarse_start, correction)
    return correction


def abstraction(n: int, repeats: int) -> dict[str, float]:
    """Return the cost of `MultigridCycle`: relative to a loop by hand, and on grids with next to nothing to compute."""
    cycle = unigrid.StencilCycle(unigrid.Poisson((n, n)))
    f, u = np.random.default_rng(0).standard_normal((2, n, n))
    calls = {"cycle": lambda: cycle(f, u), "by hand": lambda: by_hand(cycle, f, u)}
    assert np.allclose(calls["cycle"](), calls["by hand"](), rtol=0.0, atol=1e-12 * np.abs(u).max())
    taken = interleaved_seconds(calls, repeats)
    small, g = unigrid.StencilCycle(unigrid.Poisson((63, 63))), np.random.default_rng(0).standard_normal((63, 63))
    tiny, h = unigrid.StencilCycle(unigrid.Poisson((31, 31)), max_levels=4), g[:31, :31].copy()
    return {
        "over_by_hand": taken["cycle"] / taken["by hand"],
        "cycle_31_seconds": median_seconds(lambda: tiny(h, h), 301),
        "solve_63_seconds": median_seconds(lambda: small.solve(g, rtol=RTOL, threads=1), 51),
    }


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of one call, after a first one that does not count."""
    call()
    return statistics.median(seconds(call) for _ in range(repeats))


def fmg_error(n: int) -> float:
    """Return the error of one full-multigrid pass over the discretization error, for u = exp(x) cos(2 y) on the unit square."""
    x = np.arange(1, n + 1) / (n + 1)
    exact = np.exp(x)[:, None] * np.cos(2 * x)
    sides = [
        (unigrid.Dirichlet(np.cos(2 * x)), unigrid.Dirichlet(np.e * np.cos(2 * x))),
        (unigrid.Dirichlet(np.exp(x)), unigrid.Dirichlet(np.exp(x) * np.cos(2.0))),
    ]
    cycle = unigrid.StencilCycle(unigrid.Poisson((n, n), boundary=sides))
    first = cycle.solve(3 * exact, rtol="discretization").u
    solved = cycle.solve(3 * exact, rtol=1e-10, raise_on_failure=False).u
    return float(np.linalg.norm(first - exact) / np.linalg.norm(solved - exact))


def text_of(rows: list[dict[str, Any]]) -> str:
    headings = (
        "grid", "threads", "cycles", "solve s", "M/s", "B*", "B* cycle", "of model", "DST/solve", "DST/mixed", "DST/FMG",
        "ducc0/solve", "solve/mixed", "unfused/cycle", "arrays",
    )  # fmt: skip
    body = [
        (
            f"{' x '.join(map(str, row['shape']))} {row['boundary']}", row["threads"], row["iterations"],
            row["seconds"]["solve"], row["unknowns_per_second"] / 1e6, row["b_star"]["solve"], row["b_star"]["cycle"],
            row["share_of_model"], row["times_as_fast_as_dst"], row["mixed_over_dst"], row["fmg_over_dst"],
            row["times_as_fast_as_ducc0"], row["mixed_over_full"], row["unfused_over_fused_cycle"], row["peak_arrays"],
        )
        for row in rows
    ]  # fmt: skip
    return table(headings, body)


def verdicts(rows: list[dict[str, Any]], extra: dict[str, Any]) -> list[Verdict]:
    """Return the bars that apply to the rows, and those of everything else."""
    found = []
    for row in rows:
        if tuple(row["shape"]) in BARS and row["boundary"] == "dirichlet":
            found += verdicts_of(row)
    for side, share in extra["cycle_over_dirichlet"].items():
        found.append(at_most(f"time per cycle, {side} over Dirichlet sides", share, SIDES_BAR))
    peak = extra["peak_arrays_with_values"] - 1
    return [
        *found,
        at_most("arrays beside f and u, sides with values", peak, ARRAYS_BARS["inhomogeneous"]),
        at_most("error of one FMG pass over the discretization error", extra["fmg_error"], FMG_ERROR_BAR),
        at_most("MultigridCycle over a loop by hand", extra["over_by_hand"], HAND_BAR),
        at_most("V-cycle of four levels, 31^2, us", extra["cycle_31_seconds"] * 1e6, TINY_BAR * 1e6),
        at_most("63^2 to 1e-8, ms", extra["solve_63_seconds"] * 1e3, SMALL_BAR * 1e3),
    ]


def verdicts_of(row: dict[str, Any]) -> list[Verdict]:
    """Return the bars of one size and number of threads."""
    shape = tuple(row["shape"])
    name = f"{' x '.join(map(str, shape))}, {row['threads']} thread{'s' * (row['threads'] > 1)}"
    found = [at_least(f"{name}: time of scipy's DST over that of the solve", row["times_as_fast_as_dst"], BARS[shape])]
    if shape == (4095, 4095):
        more = row["iterations_mixed"] - row["iterations"]
        found += [
            at_least(f"{name}: time of scipy's DST over that of one FMG pass", row["fmg_over_dst"], FMG_BAR),
            at_most(f"{name}: B* of a cycle, bytes per unknown", row["b_star"]["cycle"], CYCLE_BAR),
            at_least(f"{name}: unfused over fused cycle", row["unfused_over_fused_cycle"], FUSING_BAR),
            at_least(f"{name}: full over mixed precision", row["mixed_over_full"], MIXED_BAR),
            at_most(f"{name}: iterations more in mixed precision", more, 1),
        ]
    if shape == (2047, 2047):
        found.append(at_most(f"{name}: B* of a solve to 1e-10, bytes per unknown", row["b_star"]["tight"], TIGHT_BAR))
    if len(shape) == 2:
        found.append(at_most(f"{name}: arrays beside f and u", row["peak_arrays"] - 1, ARRAYS_BARS["homogeneous"]))
    return found


LABELS = {
    "solve": "multigrid to 1e-8", "mixed": "in mixed precision", "FMG": "one FMG pass", "unfused": "unfused, to 1e-8",
    "DST": "scipy DST-I", "ducc0": "ducc0 DST-I",
}  # fmt: skip


def draw(rows: list[dict[str, Any]], triads: dict[int, float]) -> Figure:
    """Draw unknowns per second over size: fused, unfused, the direct solves, and the limit by memory bandwidth."""
    most = max(triads)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    for axes, ndim in zip(figure.subplots(1, 2, sharey=True), (2, 3), strict=True):
        chosen = [
            row for row in rows if len(row["shape"]) == ndim and row["threads"] == most and row["boundary"] == "dirichlet"
        ]
        chosen.sort(key=lambda row: float(np.prod(row["shape"])))
        names = [name for name in LABELS if all(name in row["seconds"] for row in chosen)]
        sizes = [float(np.prod(row["shape"])) for row in chosen]
        for number, name in enumerate(names):
            rates = [size / row["seconds"][name] / 1e6 for size, row in zip(sizes, chosen, strict=True)]
            axes.loglog(sizes, rates, marker=MARKERS[number], color=COLORS[number], label=LABELS[name])
        if ndim == 2:
            iterations = min(row["iterations"] for row in chosen)
            limit = triads[most] / model_of(iterations) / 1e6
            axes.axhline(limit, color="0.5", ls="--", lw=1)
            axes.text(sizes[0], limit * 1.05, f"limit of memory, {iterations} iterations", color="0.4", fontsize=8)
        axes.set(title=f"{ndim}-D Dirichlet box, {most} threads", xlabel="unknowns")
        axes.grid(alpha=0.3, which="both")
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.axes[0].set_ylabel("million unknowns per second")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    return figure


def main() -> None:
    options = arguments(__doc__)
    most = unigrid.get_num_threads()
    size = 1_000_000 if options.small else 16_000_000
    triads = {threads: bandwidth(threads, size) for threads in sorted({1, most})}
    gain, copy = triads[most] / triads[1], copying(size)
    lines = ", ".join(f"{n} thread(s) {b / 1e9:.1f} GB/s" for n, b in triads.items())
    show(f"STREAM triad: {lines}; gain {gain:.2f}. NumPy's copy, 1 thread: {copy / 1e9:.1f} GB/s\n")
    shapes = [(127, 127), (20, 20, 20)] if options.small else [*BARS, (8191, 8191), (127, 127, 127), (383, 383, 383)]
    periodic = [(128, 128)] if options.small else [(1024, 1024), (4096, 4096), (128, 128, 128)]
    rows: list[dict[str, Any]] = []
    for shape, boundary in [*((shape, "dirichlet") for shape in shapes), *((shape, "periodic") for shape in periodic)]:
        rows += measure(shape, boundary, triads, 3 if options.small else 5)
    n = 127 if options.small else 2047
    per_cycle = cycle_seconds(n, ("dirichlet", "neumann", "periodic"), 5)
    extra = {
        "cycle_over_dirichlet": {side: per_cycle[side] / per_cycle["dirichlet"] for side in ("neumann", "periodic")},
        "peak_arrays_with_values": peak_in_arrays((n, n), "dirichlet", 1.0, most),
        "fmg_error": fmg_error(63 if options.small else 1023),
        **abstraction(63 if options.small else 255, 31),
    }  # fmt: skip
    show(text_of(rows))
    found = verdicts(rows, extra)
    show_verdicts(found)
    problem = unigrid.Poisson((n, n))
    show(f"\nProfile, {most} thread(s):\n{unigrid.StencilCycle(problem).profile(source_on(problem), rtol=RTOL)}")
    result = {
        "triad_bytes_per_second": {str(threads): value for threads, value in triads.items()}, "triad_gain": gain,
        "copy_bytes_per_second": copy, "rows": rows, **extra,
    }  # fmt: skip
    path = write("at_the_memory_limit", CLAIM, options, result, found)
    draw(rows, triads).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
