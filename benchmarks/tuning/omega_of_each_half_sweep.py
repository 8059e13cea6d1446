"""The omegas of the default smoothing, red-black with an omega for each half-sweep: how they compare, and a search.

The default smoothing is V(3,2) in 2-D and V(3,3) in 3-D with an omega for each half-sweep. It is compared, by iterations and by
the residual after three and four of them (the first is full multigrid), with single omegas in V(2,2), V(3,2) and V(3,3), for
random right-hand sides on nested and not nested grids, with sides of all kinds, unequal spacings, a reaction. Bar: no more
iterations to 1e-8 and 1e-10 than with any single omega.

Then the omegas are optimized again, from the defaults, by the simplex of Nelder and Mead, for the residuals on small grids (see
`objective`). The defaults were found with such an objective in a wider search: runs of CMA-ES over 75 to 130 generations, each
from the result of the one before, the first from 1.2 for all. The progress of the simplex is what can still be gained nearby.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_most, show, show_verdicts, table, write

import unigrid
from unigrid.plots import COLORS, MARKERS

CLAIM = (
    "an omega for each half-sweep needs no more iterations to 1e-8 and 1e-10 than any single omega with up to three sweeps, "
    "on any grid, and fewer than V(2,2) with omega 1.23 on most"
)
LOOSE, TIGHT = 1e-8, 1e-10
SINGLE, SWEEPS = (1.15, 1.2, 1.23), ((2, 2), (3, 2), (3, 3))
MOST = 12  # iterations
SLOWEST = math.log(3e-9), math.log(4e-8)  # allowed residual after four iterations on grids that do not nest: 2-D, 3-D
Array = np.ndarray
GRIDS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("nested", (511, 511), {}),
    ("nested, periodic", (512, 512), {"boundary": "periodic"}),
    ("nested, Neumann", (513, 513), {"boundary": "neumann"}),
    ("not nested", (500, 500), {}),
    ("not nested, oblong", (600, 330), {"spacing": 1.0}),
    ("cells", (512, 512), {"centering": "cell"}),
    ("spacing 1 : 1.5", (511, 511), {"spacing": (1.0, 1.5)}),
    ("spacing 1 : 5", (511, 511), {"spacing": (1.0, 5.0)}),
    ("reaction", (511, 511), {"reaction": 1e4}),
    ("nested", (63, 63, 63), {}),
    ("nested, periodic", (64, 64, 64), {"boundary": "periodic"}),
    ("nested, Neumann", (65, 65, 65), {"boundary": "neumann"}),
    ("not nested", (80, 80, 80), {}),
    ("cells", (64, 64, 64), {"centering": "cell"}),
    ("spacing 1 : 1.4 : 1.9", (63, 63, 63), {"spacing": (1.0, 1.4, 1.9)}),
]
SMALL = ("nested", "not nested")


def residuals(cycle: unigrid.StencilCycle, f: Array, iterations: int = MOST) -> list[float]:
    """Return the residuals of a given number of iterations, relative to the first."""
    solution = cycle.solve(f, rtol=1e-15, maxiter=iterations, raise_on_failure=False)
    return [residual / solution.residuals[0] for residual in solution.residuals]


def until(history: Sequence[float], rtol: float) -> int:
    """Return the iterations to a tolerance."""
    return next((number for number, residual in enumerate(history) if residual <= rtol), len(history))


def compare(name: str, shape: tuple[int, ...], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per smoothing on one grid."""
    problem = unigrid.Poisson(shape, **options)
    f = problem.compatible(np.random.default_rng(0).standard_normal(shape))
    cycles = {"default": unigrid.StencilCycle(problem)}
    for omega, (pre, post) in itertools.product(SINGLE, SWEEPS):
        cycle = unigrid.StencilCycle(problem, smoother=unigrid.RedBlack(omega), pre=pre, post=post)
        cycles[f"{cycle.name} {omega}"] = cycle
    rows = []
    for smoothing, cycle in cycles.items():
        history = residuals(cycle, f)
        rows.append({
            "grid": name, "shape": list(shape), "smoothing": smoothing, "residuals": history, "to_loose": until(history, LOOSE),
            "to_tight": until(history, TIGHT),
            "sweeps": sum(cycle.sweeps),
        })  # fmt: skip
    return rows


def grids_of(ndim: int) -> tuple[list[unigrid.Poisson], list[unigrid.Poisson]]:
    """Return the small grids of the search: nested ones, and others."""
    n, m = (127, 150) if ndim == 2 else (31, 40)
    nested = [
        unigrid.Poisson((n,) * ndim), unigrid.Poisson((n + 1,) * ndim, boundary="periodic"),
        unigrid.Poisson((n + 2,) * ndim, boundary="neumann"),
    ]  # fmt: skip
    return nested, [unigrid.Poisson((m,) * ndim), unigrid.Poisson((n + 1,) * ndim, centering="cell")]


def objective(ndim: int) -> Any:
    """Return the function of all omegas that is minimized.

    It is the logarithm of the mean residual after three iterations on nested grids, plus a part of the mean logarithm of the
    fourth iteration's factor, plus a penalty if the residual after four iterations is too large on other grids.
    """
    nested, others = grids_of(ndim)
    sources = [problem.compatible(np.random.default_rng(0).standard_normal(problem.shape)) for problem in (*nested, *others)]
    before = len(default_omegas(ndim)[0])

    def left(omegas: Array) -> float:
        down, up = (unigrid.RedBlack(tuple(part)) for part in (omegas[:before], omegas[before:]))
        found = []
        for problem, f in zip((*nested, *others), sources, strict=True):
            cycle = unigrid.StencilCycle(problem, smoother=down, post_smoother=up, pre=1, post=1)
            found.append(residuals(cycle, f, 4))
        if any(len(history) < 5 for history in found):
            return math.inf
        own, rest = found[: len(nested)], found[len(nested) :]
        value = math.log(statistics.fmean(history[3] for history in own))
        value += 0.3 * statistics.fmean(math.log(history[4] / history[3]) for history in own)
        return value + 1.5 * sum(max(0.0, math.log(history[4]) - SLOWEST[ndim - 2]) for history in rest)

    return lambda omegas: left(omegas) if np.all(omegas > 0) else math.inf


def default_omegas(ndim: int) -> list[Array]:
    """Return the omegas of the default smoothing: before the correction, and after it."""
    cycle = unigrid.StencilCycle(unigrid.Poisson((31,) * ndim))
    return [np.array(smoother.omegas) for smoother in (cycle.smoother, cycle.post_smoother)]


def verdicts(rows: list[dict[str, Any]]) -> list[Verdict]:
    """Return the bars: the most iterations that the default takes more than the best single omega, over all grids."""
    more = {"to_loose": [0], "to_tight": [0]}
    for _, members in itertools.groupby(rows, key=lambda row: (row["grid"], row["shape"])):
        default, *single = members
        for name, found in more.items():
            found.append(default[name] - min(row[name] for row in single))
    return [
        at_most(f"most iterations to {rtol:g} more than with the best single omega", max(more[name]), 0)
        for name, rtol in (("to_loose", LOOSE), ("to_tight", TIGHT))
    ]


def search(ndim: int, evaluations: int) -> dict[str, Any]:
    """Return the result of the simplex, started from the defaults."""
    start, left = np.concatenate(default_omegas(ndim)), objective(ndim)
    found = minimize(left, start, method="Nelder-Mead", options={"maxfev": evaluations, "adaptive": True})
    constant = {omega: left(np.full(len(start), omega)) for omega in SINGLE}
    return {
        "ndim": ndim, "evaluations": found.nfev, "defaults": left(start), "found": float(found.fun), "omegas": found.x.tolist(),
        "single": constant,
    }  # fmt: skip


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw the residual after each iteration, on four grids."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    names = [(name, len(shape)) for name, shape, _ in GRIDS if name in SMALL]
    for axes, (name, ndim) in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        chosen = [row for row in rows if row["grid"] == name and len(row["shape"]) == ndim]
        for number, row in enumerate(row for row in chosen if row["smoothing"] in ("default", "V(2,2) 1.23", "V(3,3) 1.2")):
            history = row["residuals"][:8]
            axes.semilogy(history, marker=MARKERS[number], color=COLORS[number], label=row["smoothing"])
        axes.axhline(LOOSE, color="0.5", ls="--", lw=1)
        axes.set(title=" x ".join(map(str, chosen[0]["shape"])), xlabel="iteration", ylim=(1e-13, 2))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("residual / first residual")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


def main() -> None:
    options = arguments(__doc__)
    grids = (
        [(name, tuple(n // 4 for n in shape), kind) for name, shape, kind in GRIDS if name in SMALL] if options.small else GRIDS
    )
    rows = [row for grid in grids for row in compare(*grid)]
    headings = ("grid", "smoothing", "sweeps", "to 1e-8", "to 1e-10", "after 3", "after 4")
    body = [
        (
            f"{' x '.join(map(str, row['shape']))} {row['grid']}", row["smoothing"], row["sweeps"], row["to_loose"],
            row["to_tight"], row["residuals"][3], row["residuals"][4],
        )
        for row in rows
    ]  # fmt: skip
    show(table(headings, body))
    searches = [search(ndim, 5 if options.small else 400) for ndim in (2, 3)]
    for each in searches:
        best = min(each["single"].values())
        show(
            f"\n{each['ndim']}-D: the objective is {each['defaults']:.2f} for the defaults, {each['found']:.2f} after "
            f"{each['evaluations']} steps of the simplex, {best:.2f} for the best single omega."
        )
    found = verdicts(rows)
    show_verdicts(found)
    path = write("omega_of_each_half_sweep", CLAIM, options, {"rows": rows, "searches": searches}, found)
    draw(rows).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
