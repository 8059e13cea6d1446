"""Claim: fused legs bring multigrid to the speed of the direct FFT solve on a constant-coefficient box, at the same accuracy.

In one run, on one machine: the STREAM triad a = b + s c (24 bytes an unknown, arrays four times the last cache, best of ten)
with one thread and with all, beside a copy by NumPy; then, for every grid, interleaved and each the median of several runs,

- `solve`: random f, default settings, to rtol 1e-8; the hierarchy prepared, the kernels compiled;
- `mixed`: the same with precision="mixed"; `tight`: the same to rtol 1e-10;
- `FMG`: rtol="discretization", a single full-multigrid pass with one sweep before and after (in 2-D);
- `unfused`: the same with the composed slots, one pass over memory an operator;
- `DST`: the direct solve by scipy.fft with as many workers, the inverse eigenvalues made beforehand (FFT on periodic sides);
- `ducc0`: the same by ducc0, where it is installed (extra `bench`).

(Algebraic multigrid, PyAMG's, is 13 to 71 times slower than `solve`: `faster_than_algebraic_multigrid.py`.)

B* is time times the triad's bandwidth over unknowns: the bytes an unknown could have moved meanwhile. A cycle's is that of a
third of what four iterations of V(2,2) take more than one; all else is with the default settings. The model's minimum for FMG
is 94 B, for a V-cycle 42.7 B, for a solve FMG and a V-cycle for every iteration more. Memory is the peak that NumPy allocates
during a solve, in grid arrays. The error of one FMG pass is that for u = exp(x) cos(2 y), inhomogeneous sides, over the
discretization's own error. At last what the abstraction costs: the cycle against a loop over the same kernels written out by
hand, and the Python of a V-cycle of eight levels (511^2), which is what is not spent in kernels.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import scipy.fft
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from record import COLORS, arguments, interleaved_seconds, seconds, show, table, write

import unigrid
from unigrid.stencil.kernels.cpu.compiled import waves
from unigrid.stencil.kernels.cpu.threads import even_parts, over_parts

CLAIM = "multigrid to 1e-8 against scipy's DST-I with as many workers: 1.2 times as fast at 4095^2, as fast at 2047^2"
RTOL, TIGHT = 1e-8, 1e-10
BARS = {  # shape of a Dirichlet box: how many times as fast as the DST a solve has to be
    (1023, 1023): 0.8, (1500, 1500): 1.0, (2047, 2047): 1.0, (3000, 3000): 1.2, (4095, 4095): 1.2, (255, 255, 255): 1.0,
}  # fmt: skip
FMG_BAR, CYCLE_BAR, MIXED_BAR = 3.0, 130.0, 1.25  # at 4095^2: times the DST; B* of one V(2,2); times the full precision
TIGHT_BAR, SIDES_BAR = 780.0, 1.3  # B* to 1e-10 at 2047^2; a cycle on other sides over one on Dirichlet's
ARRAYS_BARS = {"homogeneous": 2.2, "inhomogeneous": 3.2}  # peak memory beside f and u; a solve returns u, which is counted here
HAND_BAR, PYTHON_BAR, SMALL_BAR = 1.05, 60e-6, 1e-3
CYCLE_MODEL, FMG_MODEL = 42.7, 94.0  # bytes an unknown: the least that a fused V-cycle, and FMG, can move
BUDGET = 25.0  # seconds after which a call is not repeated
Array = np.ndarray


@numba.njit(nogil=True, cache=True)
def triad(a: Array, b: Array, c: Array, s: float) -> None:
    """Compute a = b + s c. Whole arrays: with a first and a last index, which might be negative, it is no vector loop."""
    for k in range(a.size):
        a[k] = b[k] + s * c[k]


def bandwidth(threads: int, size: int) -> float:
    """Return the triad's bytes a second, the best of ten, each thread having touched its own part first."""
    a, b, c = (np.empty(size) for _ in range(3))
    parts = even_parts(size, threads)
    for array in (a, b, c):
        over_parts(lambda first, last, array=array: array[first:last].fill(1.0), parts)
    calls = [
        seconds(lambda: over_parts(lambda first, last: triad(a[first:last], b[first:last], c[first:last], 3.0), parts))
        for _ in range(11)
    ]
    return 24.0 * size / min(calls)


def copying(size: int) -> float:
    """Return the bytes a second of a copy by NumPy, with one thread."""
    a, b = np.ones(size), np.ones(size)
    return 16.0 * size / min(seconds(lambda: np.copyto(a, b)) for _ in range(10))


def _eigenvalues(problem: unigrid.Poisson) -> Array:
    """Return the eigenvalues of A on the frequencies of the sine transform, or of the real Fourier transform."""
    periodic = problem.grid.axes[0].periodic
    eigenvalues: Any = np.zeros(())
    for number, axis in enumerate(problem.grid.axes):
        last = periodic and number == len(problem.shape) - 1
        k = np.arange(axis.n // 2 + 1 if last else axis.n)
        angle = 2 * np.pi * k / axis.n if periodic else np.pi * (k + 1) / (axis.n + 1)
        eigenvalues = np.add.outer(eigenvalues, (2 * np.sin(angle / 2) / axis.h) ** 2)
    if periodic:
        eigenvalues[(0,) * eigenvalues.ndim] = np.inf
    return eigenvalues


def direct(problem: unigrid.Poisson, workers: int) -> Callable[[Array], Array]:
    """Return the direct solve that an expert would write: sine transforms, or real Fourier ones where sides are periodic."""
    inverse = 1.0 / _eigenvalues(problem)
    if problem.grid.axes[0].periodic:
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


def with_ducc0(problem: unigrid.Poisson, workers: int) -> Callable[[Array], Array] | None:
    """Return the direct solve by ducc0's sine transforms; None where it is not installed, and on periodic sides."""
    if importlib.util.find_spec("ducc0") is None or problem.grid.axes[0].periodic:
        return None
    import ducc0

    twice = np.prod([2.0 * (axis.n + 1) for axis in problem.grid.axes])  # the transform, done twice, multiplies by that
    inverse = 1.0 / (twice * _eigenvalues(problem))

    def solve(f: Array) -> Array:
        spectrum = ducc0.fft.dst(f, type=1, nthreads=workers)
        spectrum *= inverse
        return ducc0.fft.dst(spectrum, type=1, nthreads=workers, out=spectrum)

    return solve


def source_on(problem: unigrid.Poisson) -> Array:
    """Return random numbers that the sides allow."""
    f = np.random.default_rng(0).standard_normal(problem.shape)
    return problem.compatible(f)


def iterated(cycle: unigrid.StencilCycle, f: Array, iterations: int) -> Callable[[], Any]:
    """Return a call of so many iterations, full multigrid the first."""
    return partial(cycle.solve, f, rtol=1e-15, maxiter=iterations, raise_on_failure=False)


def measure(shape: tuple[int, ...], boundary: str, triads: dict[int, float], repeats: int) -> list[dict[str, Any]]:
    """Return one row for each number of threads."""
    problem = unigrid.Poisson(shape, boundary=boundary)
    f = source_on(problem)
    rows, before = [], unigrid.get_num_threads()
    for threads, bytes_per_second in triads.items():
        unigrid.set_num_threads(threads)
        cycle, fast = unigrid.StencilCycle(problem), direct(problem, threads)
        composed, faster = cycle.composed(), with_ducc0(problem, threads)
        plain = unigrid.StencilCycle(problem, pre=2, post=2)
        plain.workspace = cycle.workspace  # fresh memory would cost more than a cycle: they take turns with one set of arrays
        plain_composed = plain.composed()
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
            "peak_arrays": peak_in_arrays(partial(unigrid.StencilCycle(problem).solve, f, rtol=RTOL), f.size),
        })  # fmt: skip
    unigrid.set_num_threads(before)
    return rows


def model_of(iterations: int) -> float:
    """Return the least bytes an unknown that a solve in 2-D can move: full multigrid is its first iteration."""
    return FMG_MODEL + (iterations - 1) * CYCLE_MODEL


def cycle_seconds(n: int, sides: tuple[str, ...], repeats: int) -> dict[str, float]:
    """Return the seconds of a V(2,2) an unknown on about n^2 unknowns, for each kind of sides."""
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


def peak_with_values(n: int) -> float:
    """Return the peak memory of a solve whose sides have values, in grid arrays."""
    problem = unigrid.Poisson((n, n), boundary=unigrid.Dirichlet(1.0))
    return peak_in_arrays(partial(unigrid.StencilCycle(problem).solve, source_on(problem), rtol=RTOL), n * n)


def by_hand(cycle: unigrid.StencilCycle, f: Array, u: Array) -> Array:
    """Do a V-cycle by a loop over the kernels of `cycle`, without it."""
    down = []
    start: Array | None = u
    for level in cycle.levels[:-1]:
        legs = level.legs
        assert legs is not None
        improved, coarse_f = legs.descend(f, start)
        down.append((legs, f, improved))
        f, start = coarse_f, None
    coarsest = cycle.levels[-1]
    assert coarsest.smoother is not None
    e = coarsest.smoother(coarsest.operator, f, None)
    for legs, data, improved in reversed(down):
        e = legs.ascend(data, improved, e)
    return e


def abstraction(n: int, repeats: int) -> dict[str, float]:
    """Return what `MultigridCycle` costs: against a loop by hand, in Python a V-cycle, and in a small solve."""
    cycle = unigrid.StencilCycle(unigrid.Poisson((n, n)))
    f, u = np.random.default_rng(0).standard_normal((2, n, n))
    with cycle.workspace:
        calls = {"cycle": lambda: cycle.cycle(f, u), "by hand": lambda: by_hand(cycle, f, u)}
        assert np.allclose(calls["cycle"](), calls["by hand"](), rtol=0.0, atol=1e-12 * np.abs(u).max())
        taken = interleaved_seconds(calls, repeats)
    small, g = unigrid.StencilCycle(unigrid.Poisson((63, 63))), np.random.default_rng(0).standard_normal((63, 63))
    small.solve(g)
    return {
        "over_by_hand": taken["cycle"] / taken["by hand"], "python_seconds": python_of_a_cycle(511, 8, 300),
        "python_seconds_in_cache": python_of_a_cycle(63, 5, 300),
        "solve_63_seconds": statistics.median(seconds(lambda: small.solve(g, rtol=RTOL)) for _ in range(51)),
    }  # fmt: skip


def python_of_a_cycle(n: int, levels: int, repeats: int) -> float:
    """Return the seconds of a V-cycle on n^2 that are not spent in kernels, which solve the coarsest level as well."""
    cycle = unigrid.StencilCycle(unigrid.Poisson((n, n)), max_levels=levels)
    f, spent, compiled = np.random.default_rng(0).standard_normal((n, n)), [], (waves.wave, waves.visit)
    inside = [0.0]

    def watched(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = kernel(*arguments)
            inside[0] += time.perf_counter() - start
            return result

        return call

    before = unigrid.get_num_threads()
    unigrid.set_num_threads(1)
    assert len(cycle.levels) == levels
    try:
        waves.wave, waves.visit = map(watched, compiled)
        for _ in range(repeats):
            inside[0] = 0.0
            spent.append(seconds(lambda: cycle(f, f)) - inside[0])
    finally:
        waves.wave, waves.visit = compiled
        unigrid.set_num_threads(before)
    return statistics.median(spent)


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
    headings = ("grid", "threads", "cycles", "solve s", "M/s", "B*", "a cycle", "of model", "DST/solve", "DST/mixed", "DST/FMG",
                "ducc0/solve", "solve/mixed", "unfused/cycle", "arrays")  # fmt: skip
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


def verdict(what: str, found: float, bar: float, least: bool = True) -> str:
    holds = found >= bar if least else found <= bar
    return f"{what} {found:.3g}, bar {'>=' if least else '<='} {bar:g}: {'holds' if holds else 'NOT MET'}"


def verdicts(rows: list[dict[str, Any]], extra: dict[str, Any]) -> list[str]:
    """Return what holds of the bars, and what does not."""
    lines = []
    for row in rows:
        shape = tuple(row["shape"])
        if shape not in BARS or row["boundary"] != "dirichlet":
            continue
        name = f"{' x '.join(map(str, shape))}, {row['threads']} thread{'s' * (row['threads'] > 1)}:"
        lines.append(verdict(f"{name} DST/solve", row["times_as_fast_as_dst"], BARS[shape]))
        if shape == (4095, 4095):
            lines.append(verdict(f"{name} DST/FMG", row["fmg_over_dst"], FMG_BAR))
            lines.append(verdict(f"{name} B* a cycle", row["b_star"]["cycle"], CYCLE_BAR, least=False))
            lines.append(verdict(f"{name} unfused/fused cycle", row["unfused_over_fused_cycle"], 2.0))
            lines.append(verdict(f"{name} full/mixed", row["mixed_over_full"], MIXED_BAR))
            lines.append(verdict(f"{name} cycles more in mixed", row["iterations_mixed"] - row["iterations"], 1, least=False))
        if shape == (2047, 2047):
            lines.append(verdict(f"{name} B* to 1e-10", row["b_star"]["tight"], TIGHT_BAR, least=False))
        if len(shape) == 2:
            lines.append(verdict(f"{name} arrays", row["peak_arrays"] - 1, ARRAYS_BARS["homogeneous"], least=False))
    for side, share in extra["cycle_over_dirichlet"].items():
        lines.append(verdict(f"a cycle, {side} over Dirichlet sides", share, SIDES_BAR, least=False))
    lines.append(
        verdict("arrays, sides with values", extra["peak_arrays_with_values"] - 1, ARRAYS_BARS["inhomogeneous"], False)
    )
    lines.append(verdict("error of one FMG pass over the discretization error", extra["fmg_error"], 1.2, least=False))
    lines.append(verdict("MultigridCycle over a loop by hand", extra["over_by_hand"], HAND_BAR, least=False))
    lines.append(verdict("Python of a V-cycle of 8 levels, us", extra["python_seconds"] * 1e6, PYTHON_BAR * 1e6, least=False))
    in_cache = extra["python_seconds_in_cache"] * 1e6
    lines.append(
        verdict(
            "the same, five levels of 63^2, whose arrays leave the interpreter in the cache", in_cache, PYTHON_BAR * 1e6, False
        )
    )
    lines.append(verdict("63^2 to 1e-8, ms", extra["solve_63_seconds"] * 1e3, SMALL_BAR * 1e3, least=False))
    return lines


LABELS = {
    "solve": "multigrid to 1e-8", "mixed": "in mixed precision", "FMG": "one FMG pass", "unfused": "unfused, to 1e-8",
    "DST": "scipy DST-I", "ducc0": "ducc0 DST-I",
}  # fmt: skip


def draw(rows: list[dict[str, Any]], triads: dict[int, float]) -> Figure:
    """Draw unknowns a second over size: ours, unfused, the direct solve, and what memory would allow."""
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
            axes.loglog(sizes, rates, marker="osv^DP"[number], color=COLORS[number], label=LABELS[name])
        if ndim == 2:
            iterations = min(row["iterations"] for row in chosen)
            limit = triads[most] / model_of(iterations) / 1e6
            axes.axhline(limit, color="0.5", ls="--", lw=1)
            axes.text(sizes[0], limit * 1.05, f"memory's limit, {iterations} iterations", color="0.4", fontsize=8)
        axes.set(title=f"{ndim}-D Dirichlet box, {most} threads", xlabel="unknowns")
        axes.grid(alpha=0.3, which="both")
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.axes[0].set_ylabel("million unknowns a second")
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
        "peak_arrays_with_values": peak_with_values(n), "fmg_error": fmg_error(63 if options.small else 1023),
        **abstraction(n, 9),
    }  # fmt: skip
    show(text_of(rows))
    lines_of_verdicts = verdicts(rows, extra)
    show("\n" + "\n".join(lines_of_verdicts))
    problem = unigrid.Poisson((n, n))
    show(f"\nWhere the time goes, {most} thread(s):\n{unigrid.StencilCycle(problem).profile(source_on(problem), rtol=RTOL)}")
    result = {
        "triad_bytes_per_second": {str(threads): value for threads, value in triads.items()}, "triad_gain": gain,
        "copy_bytes_per_second": copy, "rows": rows, **extra, "verdicts": lines_of_verdicts,
        "bars": {str(list(k)): v for k, v in BARS.items()},
    }  # fmt: skip
    path = write("at_the_memory_limit", CLAIM, options, result)
    draw(rows, triads).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
