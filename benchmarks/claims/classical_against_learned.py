"""Claim: trained smoothers take fewer operations per decimal digit than damped Jacobi and Chebyshev.

Every method runs in the same V-cycle on the same hierarchy, semicoarsening included, with Dirichlet sides:

- sizes: Jacobi, red-black, Chebyshev and learned smoothers on -Laplace u = f, n x n unknowns; beside each measured factor the
  prediction of local Fourier analysis, two-grid and V-cycle (four levels, the coarsest exact); V-cycles of PyAMG as solvers;
- anisotropy: -eps u_xx - u_yy = f. A net per eps and one net for the range, against the best Jacobi (omega and sweeps from a
  scan), Chebyshev (degree, sweeps and interval: one for all levels, or a part of each level's own) and red-black;
- seeds: the nets trained from three starts, each factor and the seconds of training.

A factor is asymptotic: f = 0, random start, the geometric mean of the ratios of the last cycles. A scan runs on a smaller
grid; its best few are measured again on that of the table, where the best is chosen by measurement, never by prediction.

Cost: additions and multiplications per finest unknown and cycle, of a plain implementation for constant coefficients. A
residual takes 8, a Jacobi or red-black sweep 2 more. A step of Chebyshev is counted as a Richardson step, 10, the cheapest form
with the same iterates; the three-term form takes 12. A learned step takes residual, 3x3 convolution (12 if even along
both axes, else 17) and addition: 21 or 26. Before restriction another 8; both transfers and the correction's addition 5.75
where both axes are coarsened, 4 where one is. A coarse level starts from zero: 9 less there, 6 for red-black, which starts
from zero on half of its points alone. The coarsest level is a product with a dense inverse. `per digit` is the cost of a
factor 10: flops / -log10(factor). The folded count is 9 per classical sweep, all its constants multiplied beforehand.
PyAMG: 2 nnz a sweep, residual or transfer; its default sweeps are symmetric, two in one.

Training runs on one thread of torch: its matrices are so small that a second thread makes it slower.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_most, seconds, show, show_verdicts, table, write
from rivals import matrix_for_pyamg, require_pyamg

import unigrid
from unigrid.analysis import FourierAnalysis, measured_factor
from unigrid.plots import COLORS
from unigrid.training import anisotropic

CLAIM = (
    "a learned V(1,1) has a factor of at most 0.12 on 255^2, no more than a tenth worse on 1023^2, trained in 5 minutes; "
    "for eps = 0.1 it takes fewer operations per digit than the best damped Jacobi and Chebyshev"
)
MOST_LEVELS = 99  # as many as fit, so that the dense product on the coarsest level costs next to nothing
BARS = {
    "factor": 0.12, "growth": 1.1, "training_seconds": 300.0, "two_grid_deviation": 0.05, "cycle_deviation": 0.15, "flops": 1.0,
}  # fmt: skip
RESIDUAL, UPDATE, FOLDED = 8, 2, 1
KERNEL, EVEN_KERNEL = 17, 12
BOTH_AXES, ONE_AXIS = 5.75, 4.0
ESTIMATE_LEVELS = 4
CLASSICAL: dict[str, unigrid.Smoother] = {
    "Jacobi 0.8": unigrid.Jacobi(0.8),
    "red-black 1.0": unigrid.RedBlack(1.0),
    f"red-black {unigrid.RedBlack().omega}": unigrid.RedBlack(),
    **{f"Chebyshev {degree}": unigrid.Chebyshev(degree) for degree in (2, 3, 4)},
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The amount of measurement: sizes, scans and training."""

    sizes: tuple[int, ...] = (63, 127, 255, 511, 1023)
    two_grid_up_to: int = 255
    cycles: int = 60
    compared_at: int = 255  # the size of the anisotropic part, of the seeds, and of the comparison with Fourier analysis
    scanned_at: int = 127
    scan_cycles: int = 25
    eps: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01)
    own_nets: tuple[float, ...] = (1.0, 0.1, 0.01)
    seeds: tuple[int, ...] = (0, 1, 2)
    sweeps: tuple[int, ...] = (1, 2, 3, 4)
    omegas: tuple[float, ...] = (0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.9)
    red_black: tuple[float, ...] = (0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
    degrees: tuple[int, ...] = (1, 2, 3, 4)
    lows: tuple[float, ...] = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    shares: tuple[float, ...] = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8)
    highs: tuple[float, ...] = (1.9, 2.0, 2.1)
    epochs: int = 5
    steps: int = 80
    range_ratios: int = 8  # of spacings, from 1 to 10
    range_steps: int = 40
    samples: int | None = None  # frequencies of the Fourier analysis; None: its default


SMALL = Plan(
    sizes=(31, 63), two_grid_up_to=31, cycles=30, compared_at=63, scanned_at=31, scan_cycles=10, eps=(1.0, 0.1),
    own_nets=(1.0, 0.1), seeds=(0,), sweeps=(1, 2), omegas=(0.8, 0.85), red_black=(1.0, 1.2), degrees=(2,), lows=(0.3,),
    shares=(0.7, 1.0), highs=(2.0,), epochs=2, steps=8, range_ratios=2, range_steps=3, samples=32,
)  # fmt: skip


# --------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class LevelsChebyshev(unigrid.Smoother):
    """Chebyshev on a part of each level's own interval: `share` times its lower end, up to `high`."""

    degree: int
    share: float
    high: float

    @property
    def cost(self) -> int:
        return self.degree

    def __call__(self, operator: Any, f: np.ndarray, u: np.ndarray | None) -> np.ndarray:
        interval = self.share * operator.smoothing_interval[0], self.high
        return unigrid.Chebyshev(self.degree, interval)(operator, f, u)


def classical(problem: unigrid.Poisson, smoother: unigrid.Smoother, sweeps: int, **options: Any) -> unigrid.StencilCycle:
    return unigrid.StencilCycle(problem, pre=sweeps, post=sweeps, smoother=smoother, **{"max_levels": MOST_LEVELS, **options})


def trained(problems: Any, plan: Plan, seed: int, *, steps: int | None = None, **net: Any) -> Any:
    return unigrid.train(problems, seed=seed, epochs=plan.epochs, steps=steps or plan.steps, **net)


def range_problems(plan: Plan) -> list[unigrid.Poisson]:
    """Return the operators on which the net for a range is trained: ratios of spacings, equidistant on a log scale."""
    return [anisotropic(float(ratio) ** -2) for ratio in np.geomspace(1.0, 10.0, plan.range_ratios)]


# --------------------------------------------------------------------------------------------- counting


def smoothing_flops(smoother: Any, folded: bool = False) -> tuple[float, float]:
    """Return the operations per point of one call, and the number saved if it starts from zero."""
    sweep = RESIDUAL + UPDATE - FOLDED * folded
    if isinstance(smoother, unigrid.RedBlack):
        return sweep, 6 - 0.5 * folded  # red: all but one product; black: the three that involve its own value
    if isinstance(smoother, unigrid.LearnedSmoother):
        kernels = smoother.coefficients
        even = np.allclose(kernels, kernels[..., ::-1]) and np.allclose(kernels, kernels[..., ::-1, :])
        return len(kernels) * (RESIDUAL + (EVEN_KERNEL if even else KERNEL) + 1), RESIDUAL + 1
    return sweep * smoother.cost, sweep - 1


def flops(cycle: unigrid.StencilCycle, folded: bool = False) -> float:
    """Return the operations of one V-cycle per unknown of its finest level."""
    before, saved = smoothing_flops(cycle.smoother, folded)
    after, _ = smoothing_flops(cycle.post_smoother, folded)
    total = 0.0
    for number, (level, coarser) in enumerate(itertools.pairwise(cycle.levels)):
        coarsened = sum(n != m for n, m in zip(level.problem.shape, coarser.problem.shape, strict=True))
        each = cycle.pre * before + RESIDUAL + (BOTH_AXES if coarsened == 2 else ONE_AXIS) + cycle.post * after
        total += (each - saved * (number > 0)) * level.problem.grid.size
    return (total + 2 * cycle.levels[-1].problem.grid.size ** 2) / cycle.problem.grid.size


def three_term_flops(cycle: unigrid.StencilCycle) -> float:
    """Return the same, each Chebyshev step but the first of a call counted as 12."""
    steps = (cycle.pre + cycle.post) * (cycle.smoother.cost - 1)
    smoothed = sum(level.problem.grid.size for level in cycle.levels[:-1])
    return flops(cycle) + 2 * steps * smoothed / cycle.problem.grid.size


def per_digit(operations: float, factor: float) -> float:
    """Return the operations for a factor of 10; infinite if the cycle does not converge."""
    return operations / -math.log10(factor) if 0.0 < factor < 1.0 else math.inf


# --------------------------------------------------------------------------------------------- sizes


def over_sizes(plan: Plan, nets: dict[int, Any]) -> list[Row]:
    """Return one row per method, number of sweeps and size."""
    methods: list[tuple[str, int, Callable[..., unigrid.StencilCycle]]] = [
        (name, sweeps, functools.partial(classical, smoother=smoother, sweeps=sweeps))
        for name, smoother in CLASSICAL.items()
        for sweeps in (1, 2)
    ]
    methods += [("learned", sweeps, functools.partial(net.on, max_levels=MOST_LEVELS)) for sweeps, net in nets.items()]
    rows = []
    for name, sweeps, build in methods:
        analysis = FourierAnalysis.of(build(problem=unigrid.Poisson((plan.compared_at,) * 2)), samples=plan.samples)
        predicted = {"two_grid_predicted": analysis.two_grid_factor, "predicted": analysis.cycle_factor(levels=ESTIMATE_LEVELS)}
        for n in plan.sizes:
            problem = unigrid.Poisson((n, n))
            cycle = build(problem=problem)
            factor, two_grid = measured_factor(cycle, cycles=plan.cycles, last=5), None
            if n <= plan.two_grid_up_to:
                two_grid = measured_factor(two_levels(cycle), cycles=2 * plan.cycles, last=5)
            operations, f = flops(cycle), np.ones((n, n))
            rows.append({
                "method": name, "cycle": f"V({sweeps},{sweeps})", "n": n, "cycles": plan.cycles, "factor": factor, **predicted,
                "two_grid": two_grid, "flops": operations, "flops_per_digit": per_digit(operations, factor),
                "seconds": min(seconds(lambda: cycle(f, f)) for _ in range(3)),  # noqa: B023 - called here
            })  # fmt: skip
            if isinstance(cycle.smoother, unigrid.Chebyshev):
                rows[-1]["flops_three_term"] = three_term_flops(cycle)
    return rows


def two_levels(cycle: unigrid.StencilCycle) -> unigrid.StencilCycle:
    """Return the same cycle, the second level solved exactly."""
    return unigrid.StencilCycle(
        cycle.problem, pre=cycle.pre, post=cycle.post, smoother=cycle.smoother, post_smoother=cycle.post_smoother,
        coarsest="fft", max_levels=2,
    )  # fmt: skip


def algebraic(plan: Plan) -> list[Row]:
    """Return the rows of PyAMG: its V-cycles as solvers, with its own defaults."""
    import pyamg

    rows = []
    kinds = {"PyAMG Ruge-Stueben": pyamg.ruge_stuben_solver, "PyAMG smoothed aggregation": pyamg.smoothed_aggregation_solver}
    for (name, build), n in itertools.product(kinds.items(), plan.sizes):
        matrix = matrix_for_pyamg(unigrid.Poisson((n, n)))
        hierarchy = build(matrix)
        cycle, error, ratios = hierarchy.aspreconditioner(cycle="V"), np.random.default_rng(0).standard_normal(n * n), []
        cycles = plan.cycles if n <= 511 else plan.cycles // 3
        start = time.perf_counter()
        for _ in range(cycles):
            error /= np.linalg.norm(error)
            error -= cycle @ (matrix @ error)
            ratios.append(float(np.linalg.norm(error)))
        spent, factor, operations = time.perf_counter() - start, statistics.geometric_mean(ratios[-5:]), amg_flops(hierarchy)
        rows.append({
            "method": name, "cycle": "V(1,1)", "n": n, "cycles": cycles, "factor": factor, "two_grid_predicted": None,
            "predicted": None, "two_grid": None, "flops": operations, "flops_per_digit": per_digit(operations, factor),
            "seconds": spent / cycles, "cycle_complexity": hierarchy.cycle_complexity(),
        })  # fmt: skip
    return rows


def amg_flops(hierarchy: Any) -> float:
    """Return the operations of a V(1,1) of PyAMG per unknown; its Gauss-Seidel sweeps are symmetric."""
    *smoothed, last = hierarchy.levels
    total = sum(2 * ((2 + 2 + 1) * level.A.nnz + level.R.nnz + level.P.nnz) for level in smoothed)
    return (total + 2 * last.A.shape[0] ** 2) / hierarchy.levels[0].A.shape[0]


# --------------------------------------------------------------------------------------------- anisotropy


def candidates(plan: Plan) -> Iterator[tuple[str, str, unigrid.Smoother, int]]:
    """Yield all classical smoothers of the scan: family, description, smoother, sweeps."""
    for omega, sweeps in itertools.product(plan.omegas, plan.sweeps):
        yield "Jacobi", f"omega {omega:g}", unigrid.Jacobi(omega), sweeps
    for omega, sweeps in itertools.product(plan.red_black, plan.sweeps[:3]):
        yield "red-black", f"omega {omega:g}", unigrid.RedBlack(omega), sweeps
    for degree, sweeps in itertools.product(plan.degrees, (1, 2)):
        yield "Chebyshev", f"degree {degree}, default", unigrid.Chebyshev(degree), sweeps
        if degree == 1:
            continue  # another interval is Jacobi with another omega
        for low, high in itertools.product(plan.lows, plan.highs):
            yield "Chebyshev", f"degree {degree}, ({low:g}, {high:g})", unigrid.Chebyshev(degree, (low, high)), sweeps
        for share, high in itertools.product(plan.shares, plan.highs):
            words = f"degree {degree}, ({share:g} low, {high:g})"
            yield "Chebyshev", words, LevelsChebyshev(degree, share, high), sweeps


def best_classical(eps: float, plan: Plan) -> list[Row]:
    """Return the best of each family by flops per digit, and the best Chebyshev with the default interval."""
    scanned: dict[str, list[tuple[float, Any]]] = {}
    coarse = anisotropic(eps, plan.scanned_at)
    for candidate in candidates(plan):
        family, words, smoother, sweeps = candidate
        cycle = classical(coarse, smoother, sweeps)
        cost = per_digit(flops(cycle), measured_factor(cycle, cycles=plan.scan_cycles))
        scanned.setdefault(family, []).append((cost, candidate))
        if "default" in words:
            scanned.setdefault("Chebyshev, default", []).append((cost, candidate))
    rows = []
    for family, found in scanned.items():
        again = [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])[:3]]
        measured = [anisotropic_row(eps, family, words, _classical_at(eps, plan, *how), plan) for _, words, *how in again]
        rows.append({**min(measured, key=lambda row: row["flops_per_digit"]), "tried": len(found)})
    return rows


def _classical_at(eps: float, plan: Plan, smoother: unigrid.Smoother, sweeps: int) -> unigrid.StencilCycle:
    return classical(anisotropic(eps, plan.compared_at), smoother, sweeps)


def anisotropic_row(eps: float, family: str, words: str, cycle: unigrid.StencilCycle, plan: Plan) -> Row:
    """Return factor and flops of one cycle."""
    factor, operations = measured_factor(cycle, cycles=plan.cycles, last=5), flops(cycle)
    steps = [getattr(smoother, "coefficients", "x") for smoother in (cycle.smoother, cycle.post_smoother)]
    return {
        "eps": eps, "method": family, "setting": words, "cycle": f"V({cycle.pre * len(steps[0])},{cycle.post * len(steps[1])})",
        "n": plan.compared_at, "factor": factor, "flops": operations, "flops_per_digit": per_digit(operations, factor),
        "flops_per_digit_folded": per_digit(flops(cycle, folded=True), factor),
    }  # fmt: skip


def over_anisotropies(plan: Plan, own: dict[float, list[Any]], wide: Any) -> list[Row]:
    """Return, for each eps, the best classical smoothers and the nets; of the seeds of a net, the worst."""
    rows = []
    for eps in plan.eps:
        rows += best_classical(eps, plan)
        problem = anisotropic(eps, plan.compared_at)
        if eps in own:
            found = [
                anisotropic_row(eps, "learned, own net", "", result.model.on(problem, MOST_LEVELS), plan) for result in own[eps]
            ]
            words = f"worst of {len(found)} seeds"
            rows.append({**max(found, key=lambda row: row["factor"]), "setting": words})
        rows.append(anisotropic_row(eps, "learned, range net", "one for all eps", wide.model.on(problem, MOST_LEVELS), plan))
    return rows


# --------------------------------------------------------------------------------------------- seeds


def over_seeds(plan: Plan, nets: dict[str, tuple[float, list[Any]]]) -> list[Row]:
    """Return one row per kind of net: factors and seconds of training of every seed."""
    rows = []
    for name, (eps, results) in nets.items():
        factors = {
            n: [
                measured_factor(result.model.on(anisotropic(eps, n), MOST_LEVELS), cycles=plan.cycles, last=5)
                for result in results
            ]
            for n in sorted({plan.compared_at, plan.sizes[-1]})
        }
        rows.append({
            "net": name, "eps": eps, "numbers": sum(each.numel() for each in results[0].model.parameters()),
            "seeds": len(results), "factors": {str(n): found for n, found in factors.items()},
            "training_seconds": [result.seconds for result in results],
        })  # fmt: skip
    return rows


# --------------------------------------------------------------------------------------------- verdicts


def verdicts(plan: Plan, rows: list[Row], anisotropy: list[Row], seeds: list[Row]) -> list[Verdict]:
    """Return the bars of the learned smoothers and of Fourier analysis."""
    at, last, own = str(plan.compared_at), str(plan.sizes[-1]), seeds[0]
    grown = [large / small for large, small in zip(own["factors"][last], own["factors"][at], strict=True)]
    held = [row for row in rows if row["two_grid"] is not None and row["n"] == max(r["n"] for r in rows if r["two_grid"])]
    two_grid = max(abs(row["two_grid_predicted"] / row["two_grid"] - 1) for row in held)
    estimated = max(
        abs(row["predicted"] / row["factor"] - 1) for row in rows if row["n"] == plan.compared_at and row["predicted"]
    )
    here = {row["method"]: row for row in anisotropy if row["eps"] == 0.1}
    learned = here["learned, own net"]["flops_per_digit"]
    rivals = [here["Jacobi"], here["Chebyshev"]]
    found = [
        ("factor", f"learned V(1,1), {own['numbers']} numbers: largest factor of the seeds on {at}^2", max(own["factors"][at])),
        ("growth", f"the same net on {last}^2: factor over that on {at}^2, largest", max(grown)),
        ("training_seconds", "seconds of its training on the CPU, largest", max(own["training_seconds"])),
        ("flops", "eps 0.1: flops per digit over those of the best Jacobi or Chebyshev", learned / _least(rivals, "")),
        ("flops", "the same, constants of the classical sweeps folded", learned / _least(rivals, "_folded")),
        ("two_grid_deviation", f"two-grid factor: largest deviation of Fourier analysis on {held[0]['n']}^2", two_grid),
        ("cycle_deviation", f"V-cycle factor: largest deviation of the four-level estimate on {at}^2", estimated),
    ]
    return [at_most(what, value, BARS[bar]) for bar, what, value in found]


def _least(rows: list[Row], count: str) -> float:
    return min(row[f"flops_per_digit{count}"] for row in rows)


def against_red_black(anisotropy: list[Row]) -> list[Row]:
    """Return, for each eps, the flops per digit of the learned smoother over those of the best red-black smoother."""
    found = []
    for eps, members in itertools.groupby(anisotropy, key=lambda row: row["eps"]):
        here = {row["method"]: row["flops_per_digit"] for row in members}
        learned = min(cost for name, cost in here.items() if name.startswith("learned"))
        found.append({"eps": eps, "learned_over_red_black": learned / here["red-black"]})
    return found


# --------------------------------------------------------------------------------------------- report


def report(plan: Plan, rows: list[Row], anisotropy: list[Row], seeds: list[Row]) -> None:
    """Show the tables."""
    show("-Laplace u = f, Dirichlet sides: asymptotic factor of a cycle, predicted (LFA) and measured; flops per unknown")
    columns = ["two_grid_predicted", "two_grid", "predicted", "factor", "flops", "flops_per_digit", "seconds", "cycles"]
    headings = ["method", "cycle", "n", "LFA two-grid", "two-grid", "LFA V", "V", "flops", "per digit", "s per cycle", "cycles"]
    cells = [[row["method"], row["cycle"], row["n"], *(row[column] for column in columns)] for row in rows]
    show(table(headings, cells), end="\n\n")
    smoothing = FourierAnalysis(unigrid.Poisson((63, 63)), smoother=unigrid.Chebyshev(4)).smoothing_factor
    show(f"smoothing factor of Chebyshev of degree 4, its bound: {smoothing:.4f}", end="\n\n")
    show(f"-eps u_xx - u_yy = f, {plan.compared_at}^2: the best of each family by flops per digit")
    columns = ["method", "setting", "cycle", "factor", "flops", "flops_per_digit", "flops_per_digit_folded", "tried"]
    cells = [[f"{row['eps']:g}", *(row.get(column) for column in columns)] for row in anisotropy]
    show(table(["eps", *columns[:5], "per digit", "folded", "tried"], cells), end="\n\n")
    show("nets: factor and seconds of training, mean (least .. most) of the seeds")
    sizes = list(seeds[0]["factors"])
    cells = [
        [
            row["net"],
            row["numbers"],
            row["seeds"],
            *(spread(row["factors"][n], 4) for n in sizes),
            spread(row["training_seconds"], 1),
        ]
        for row in seeds
    ]
    show(table(["net", "numbers", "seeds", *(f"factor {n}^2" for n in sizes), "seconds"], cells), end="\n\n")
    for row in against_red_black(anisotropy):
        ratio = row["learned_over_red_black"]
        wins = "the learned smoother is cheaper" if ratio < 1 else "red-black is cheaper"
        show(f"eps {row['eps']:g}: {wins}, learned over best red-black flops per digit {ratio:.2f}")


def spread(values: list[float], digits: int) -> str:
    mean = statistics.mean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def draw(rows: list[Row], anisotropy: list[Row]) -> Figure:
    """Return the figure: factors over n beside their predictions, and the cost per digit over eps."""
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = {
        ("Jacobi 0.8", "V(1,1)"): COLORS[1], ("Chebyshev 2", "V(1,1)"): COLORS[0], ("Chebyshev 4", "V(1,1)"): COLORS[5],
        ("red-black 1.0", "V(1,1)"): COLORS[4], ("learned", "V(1,1)"): COLORS[2], ("learned", "V(2,2)"): COLORS[3],
    }  # fmt: skip
    for ((name, cycle), color), marker in zip(shown.items(), "sD^vop", strict=True):
        mine = [row for row in rows if (row["method"], row["cycle"]) == (name, cycle)]
        sizes, wide = [row["n"] for row in mine], 2.2 if name == "learned" else 1.3
        label = f"{name}, {cycle}"
        left.plot(sizes, [row["factor"] for row in mine], color=color, marker=marker, linewidth=wide, markersize=6, label=label)
        left.axhline(mine[0]["predicted"], color=color, linestyle=(0, (5, 4)), linewidth=1, alpha=0.8, zorder=1)
    left.plot([], [], color="gray", linestyle=(0, (5, 4)), linewidth=1, label="Fourier analysis")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="n, for n x n unknowns",
        ylabel="factor per cycle",
        title="One net, any size",
        ylim=(0.015, 1),
    )
    sizes = sorted({row["n"] for row in rows})
    left.set_xticks(sizes, [str(n) for n in sizes])
    left.minorticks_off()
    left.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
    left.legend(fontsize="small", loc="upper center", ncols=2, frameon=False)
    styles = {
        "Jacobi": (COLORS[1], "s", "Jacobi, best omega and sweeps"), "Chebyshev": (COLORS[0], "D", "Chebyshev, best of all"),
        "Chebyshev, default": (COLORS[5], "^", "Chebyshev, default interval"),
        "red-black": (COLORS[4], "v", "red-black, best omega and sweeps"),
        "learned, range net": (COLORS[3], "p", "learned, one net for the range"),
        "learned, own net": (COLORS[2], "o", "learned, one net per eps"),
    }  # fmt: skip
    for name, (color, marker, label) in styles.items():
        mine = [row for row in anisotropy if row["method"] == name]
        wide = 2.2 if name.startswith("learned") else 1.3
        costs = [row["flops_per_digit"] for row in mine]
        right.plot([row["eps"] for row in mine], costs, color=color, marker=marker, linewidth=wide, markersize=6, label=label)
    eps = sorted({row["eps"] for row in anisotropy}, reverse=True)
    right.set(xscale="log", xlabel="eps", ylabel="flops per unknown and digit", title="-eps u_xx - u_yy: cost per digit")
    right.set_xlim(eps[0] * 1.3, eps[-1] / 1.3)
    right.set_xticks(eps, [f"{each:g}" for each in eps])
    right.minorticks_off()
    right.set_ylim(0, 1.35 * max(row["flops_per_digit"] for row in anisotropy))
    right.legend(fontsize="small", loc="upper center", ncols=2, frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    options = arguments(__doc__)
    require_pyamg()
    torch.set_num_threads(1)
    plan, start = SMALL if options.small else Plan(), time.perf_counter()
    unigrid.solve(np.ones((31, 31)))  # compiles, if the cache of kernels is empty
    isotropic = {sweeps: [trained("poisson", plan, seed, pre=sweeps, post=sweeps) for seed in plan.seeds] for sweeps in (1, 2)}
    own = {1.0: isotropic[1]}
    for eps in plan.own_nets:
        if eps not in own:
            own[eps] = [trained(anisotropic(eps), plan, seed, degree=2) for seed in plan.seeds]
    wide = trained(range_problems(plan), plan, plan.seeds[0], degree=3, steps=plan.range_steps)
    nets = {"V(1,1)": (1.0, isotropic[1]), "V(2,2)": (1.0, isotropic[2])}
    nets |= {f"V(1,1), eps {eps:g}": (eps, own[eps]) for eps in plan.own_nets if eps != 1.0}
    seeds = over_seeds(plan, {**nets, "V(1,1), range": (1.0, [wide])})
    rows = over_sizes(plan, {sweeps: results[0].model for sweeps, results in isotropic.items()}) + algebraic(plan)
    anisotropy = over_anisotropies(plan, own, wide)
    found = verdicts(plan, rows, anisotropy, seeds)
    report(plan, rows, anisotropy, seeds)
    show_verdicts(found)
    result = {
        "rows": rows, "anisotropy": anisotropy,
        "against_red_black": against_red_black(anisotropy), "seeds": seeds, "seconds": time.perf_counter() - start,
    }  # fmt: skip
    path = write("classical_against_learned", CLAIM, options, result, found)
    draw(rows, anisotropy).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
