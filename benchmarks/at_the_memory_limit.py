"""Claim: fused legs make multigrid faster than the direct FFT solve on a constant-coefficient box, at the same accuracy.

In one run, on one machine: the STREAM triad a = b + s c (24 bytes an unknown, arrays four times the last cache, best of ten)
with one thread and with all; then, for every grid, interleaved and each the median of several runs,

- `solve`: random f, default settings, to rtol 1e-8; the hierarchy prepared, the kernels compiled;
- `unfused`: the same with the composed slots, one pass over memory an operator;
- `one FMG`: a single full-multigrid pass, which is all that the discretization error asks for;
- `DST`: the direct solve by scipy.fft with as many workers, the inverse eigenvalues made beforehand (FFT on periodic sides).

B* is time times the triad's bandwidth over unknowns: the bytes an unknown could have moved meanwhile. The model's minimum for
FMG and four V-cycles is 265 B, for a V-cycle 42.7 B. Memory is the peak that NumPy allocates during a solve, in grid arrays.
The error of one FMG pass is that for u = exp(x) cos(2 y), inhomogeneous sides, over the discretization's own error.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import scipy.fft
from matplotlib.figure import Figure
from record import COLORS, arguments, interleaved_seconds, show, table, write

import unigrid
from unigrid.stencil.kernels.threads import even_parts, over_parts

CLAIM = "multigrid to 1e-8 is at least as fast as scipy's DST-I with as many workers from 2047^2 on, and 1.2 times at 4095^2"
RTOL = 1e-8
BARS = {  # shape of a Dirichlet box: how many times as fast as the DST a solve has to be
    (1023, 1023): 0.8, (1500, 1500): 1.0, (2047, 2047): 1.0, (3000, 3000): 1.2, (4095, 4095): 1.2, (255, 255, 255): 1.0,
}  # fmt: skip
FMG_BAR, CYCLE_BAR = 3.0, 130.0  # at 4095^2: times as fast as the DST; B* of one V(2,2)
CYCLE_MODEL, SOLVE_MODEL = 42.7, 265.0  # bytes an unknown: the least a fused V-cycle, FMG and four V-cycles can move
Array = np.ndarray


@numba.njit(nogil=True, cache=True)
def triad(a: Array, b: Array, c: Array, s: float, first: int, last: int) -> None:
    """Compute a = b + s c on a part."""
    for k in range(first, last):
        a[k] = b[k] + s * c[k]


def bandwidth(threads: int, size: int) -> float:
    """Return the triad's bytes a second, the best of ten, each thread having touched its own part first."""
    a, b, c = (np.empty(size) for _ in range(3))
    parts = even_parts(size, threads)
    for array in (a, b, c):
        over_parts(lambda first, last, array=array: array[first:last].fill(1.0), parts)
    best = float("inf")
    for _ in range(11):
        start = time.perf_counter()
        over_parts(lambda first, last: triad(a, b, c, 3.0, first, last), parts)
        best = min(best, time.perf_counter() - start)
    return 24.0 * size / best


def direct(problem: unigrid.Poisson, workers: int) -> Callable[[Array], Array]:
    """Return the direct solve that an expert would write: sine transforms, or real Fourier ones where sides are periodic."""
    periodic = problem.grid.axes[0].periodic
    eigenvalues: Any = np.zeros(())
    for number, axis in enumerate(problem.grid.axes):
        last = periodic and number == len(problem.shape) - 1
        k = np.arange(axis.n // 2 + 1 if last else axis.n)
        angle = 2 * np.pi * k / axis.n if periodic else np.pi * (k + 1) / (axis.n + 1)
        eigenvalues = np.add.outer(eigenvalues, (2 * np.sin(angle / 2) / axis.h) ** 2)
    if periodic:
        eigenvalues[(0,) * eigenvalues.ndim] = np.inf
    inverse = 1.0 / eigenvalues
    if periodic:
        return lambda f: scipy.fft.irfftn(
            scipy.fft.rfftn(f, workers=workers) * inverse, s=f.shape, workers=workers, overwrite_x=True
        )

    def solve(f: Array) -> Array:
        spectrum = scipy.fft.dstn(f, type=1, workers=workers)
        spectrum *= inverse
        return scipy.fft.idstn(spectrum, type=1, workers=workers, overwrite_x=True)

    return solve


def peak_in_arrays(call: Callable[[], Any], unknowns: int) -> float:
    """Return the most that NumPy has allocated during a call, the result included, in float64 grid arrays."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / (8.0 * unknowns)
    finally:
        tracemalloc.stop()


def measure(shape: tuple[int, ...], boundary: str, triads: dict[int, float], repeats: int) -> list[dict[str, Any]]:
    """Return one row for each number of threads."""
    problem = unigrid.Poisson(shape, boundary=boundary)
    f = np.random.default_rng(0).standard_normal(shape)
    f -= f.mean() if boundary == "periodic" else 0.0
    rows, before = [], unigrid.get_num_threads()
    for threads, bytes_per_second in triads.items():
        unigrid.set_num_threads(threads)
        cycle, fast = unigrid.StencilCycle(problem), direct(problem, threads)
        calls: dict[str, Callable[[], Any]] = {
            "solve": partial(cycle.solve, f, rtol=RTOL),
            "one FMG": partial(cycle.solve, f, maxiter=1, raise_on_failure=False),
            "unfused": partial(unigrid.StencilCycle(problem).composed().solve, f, rtol=RTOL),
            "DST": partial(fast, f),
        }
        solution, wanted = calls["solve"](), fast(f)
        for call in calls.values():
            call()
        seconds = interleaved_seconds(calls, repeats)
        per_cycle = (seconds["solve"] - seconds["one FMG"]) / max(solution.iterations - 1, 1)
        stars = {name: value * bytes_per_second / f.size for name, value in {**seconds, "cycle": per_cycle}.items()}
        fresh = unigrid.StencilCycle(problem)
        rows.append({
            "shape": list(shape), "boundary": boundary, "threads": threads, "iterations": solution.iterations,
            "seconds": seconds, "unknowns_per_second": f.size / seconds["solve"], "b_star": stars,
            "times_as_fast_as_dst": seconds["DST"] / seconds["solve"], "fmg_over_dst": seconds["DST"] / seconds["one FMG"],
            "times_as_fast_as_unfused": seconds["unfused"] / seconds["solve"],
            "share_of_model": SOLVE_MODEL / stars["solve"] if len(shape) == 2 else None,
            "difference_to_dst": float(np.abs(solution.u - wanted).max() / np.abs(wanted).max()),
            "peak_arrays": peak_in_arrays(lambda fresh=fresh: fresh.solve(f, rtol=RTOL), f.size),
        })  # fmt: skip
    unigrid.set_num_threads(before)
    return rows


def fmg_error(n: int) -> float:
    """Return the error of one full-multigrid pass over the discretization error, for u = exp(x) cos(2 y) on the unit square."""
    x = np.arange(1, n + 1) / (n + 1)
    exact = np.exp(x)[:, None] * np.cos(2 * x)
    sides = [
        (unigrid.Dirichlet(np.cos(2 * x)), unigrid.Dirichlet(np.e * np.cos(2 * x))),
        (unigrid.Dirichlet(np.exp(x)), unigrid.Dirichlet(np.exp(x) * np.cos(2.0))),
    ]
    cycle = unigrid.StencilCycle(unigrid.Poisson((n, n), boundary=sides))
    first = cycle.solve(3 * exact, maxiter=1, raise_on_failure=False).u
    solved = cycle.solve(3 * exact, rtol=1e-10, raise_on_failure=False).u
    return float(np.linalg.norm(first - exact) / np.linalg.norm(solved - exact))


def text_of(rows: list[dict[str, Any]]) -> str:
    headings = ("grid", "threads", "cycles", "solve s", "M unknowns/s", "B*", "B* a cycle", "of model", "DST/solve", "DST/FMG",
                "unfused/solve", "arrays")  # fmt: skip
    body = [
        (
            f"{' x '.join(map(str, row['shape']))} {row['boundary']}", row["threads"], row["iterations"],
            row["seconds"]["solve"], row["unknowns_per_second"] / 1e6, row["b_star"]["solve"], row["b_star"]["cycle"],
            row["share_of_model"], row["times_as_fast_as_dst"], row["fmg_over_dst"], row["times_as_fast_as_unfused"],
            row["peak_arrays"],
        )
        for row in rows
    ]  # fmt: skip
    return table(headings, body)


def verdicts(rows: list[dict[str, Any]], error: float) -> list[str]:
    """Return what holds of the bars, and what does not."""
    lines = []
    for row in rows:
        shape = tuple(row["shape"])
        if shape not in BARS or row["boundary"] != "dirichlet":
            continue
        checks = [("DST/solve", row["times_as_fast_as_dst"], BARS[shape], True)]
        if shape == (4095, 4095):
            checks += [
                ("DST/FMG", row["fmg_over_dst"], FMG_BAR, True),
                ("B* a cycle", row["b_star"]["cycle"], CYCLE_BAR, False),
            ]
        for name, found, bar, least in checks:
            holds = found >= bar if least else found <= bar
            lines.append(
                f"{' x '.join(map(str, shape))}, {row['threads']} thread{'s' * (row['threads'] > 1)}: {name} {found:.3g}, "
                f"bar {'>=' if least else '<='} {bar:g}: {'holds' if holds else 'NOT MET'}"
            )
    lines.append(f"error of one FMG pass over the discretization error: {error:.3f}, bar <= 1.2: "
                 f"{'holds' if error <= 1.2 else 'NOT MET'}")  # fmt: skip
    return lines


def draw(rows: list[dict[str, Any]], triads: dict[int, float]) -> Figure:
    """Draw unknowns a second over size: ours, unfused, the direct solve, and what memory would allow."""
    most = max(triads)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, ndim in zip(figure.subplots(1, 2, sharey=True), (2, 3), strict=True):
        chosen = [
            row for row in rows if len(row["shape"]) == ndim and row["threads"] == most and row["boundary"] == "dirichlet"
        ]
        sizes = [float(np.prod(row["shape"])) for row in chosen]
        for number, name in enumerate(("solve", "one FMG", "unfused", "DST")):
            rates = [size / row["seconds"][name] / 1e6 for size, row in zip(sizes, chosen, strict=True)]
            label = {"solve": "multigrid to 1e-8", "one FMG": "one FMG pass", "unfused": "the same, unfused"}.get(
                name, "scipy DST-I"
            )
            axes.loglog(sizes, rates, marker="os^D"[number], color=COLORS[number], label=label)
        if ndim == 2:
            axes.axhline(triads[most] / SOLVE_MODEL / 1e6, color="0.5", ls="--", lw=1)
            axes.text(sizes[0], triads[most] / SOLVE_MODEL / 1e6 * 1.05, "memory's limit, FMG + 4 V", color="0.4", fontsize=8)
        axes.set(title=f"{ndim}-D Dirichlet box, {most} threads", xlabel="unknowns")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel("million unknowns a second")
    figure.axes[0].legend(fontsize=9)
    return figure


def main() -> None:
    options = arguments(__doc__)
    most = unigrid.get_num_threads()
    size = 1_000_000 if options.small else 16_000_000
    triads = {threads: bandwidth(threads, size) for threads in sorted({1, most})}
    gain = triads[most] / triads[1]
    show(f"STREAM triad: {', '.join(f'{n} thread(s) {b / 1e9:.1f} GB/s' for n, b in triads.items())}; gain {gain:.2f}\n")
    shapes = [(127, 127), (20, 20, 20)] if options.small else [*BARS, (8191, 8191), (127, 127, 127)]
    periodic = [(128, 128)] if options.small else [(1024, 1024), (4096, 4096), (128, 128, 128)]
    rows: list[dict[str, Any]] = []
    for shape, boundary in [*((shape, "dirichlet") for shape in shapes), *((shape, "periodic") for shape in periodic)]:
        repeats = 3 if options.small or np.prod(shape) > 5e7 else 5
        rows += measure(shape, boundary, triads, repeats)
    error = fmg_error(63 if options.small else 1023)
    show(text_of(rows))
    lines = verdicts(rows, error)
    show("\n" + "\n".join(lines))
    result = {
        "triad_bytes_per_second": {str(threads): value for threads, value in triads.items()}, "triad_gain": gain, "rows": rows,
        "fmg_error_over_discretization_error": error, "verdicts": lines, "bars": {str(list(k)): v for k, v in BARS.items()},
    }  # fmt: skip
    path = write("at_the_memory_limit", CLAIM, options, result)
    draw(rows, triads).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
