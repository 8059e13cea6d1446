"""Claim: the convergence factor of a V-cycle depends neither on the mesh size nor on the sides or the shape of the cells.

Measured, with red-black smoothing:

- factor: f = 0, random start, geometric mean of the ratios of residuals in cycles 10 to 14, for V(2,2) with omega 1 (the
  textbook's) and for the default, which has an omega for each half-sweep;
- FMG: iterations of a solve with default settings to 1e-8, the first of which is full multigrid, f random;
- CG: iterations of `accelerate="cg"` from zero to 1e-10, f random.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_most, show, show_verdicts, table, write

import unigrid
from unigrid.plots import COLORS, MARKERS

CLAIM = "the convergence factor does not depend on the mesh size, the boundary conditions or the shape of the cells"
FIRST, LAST = 10, 14  # the cycles whose factors count
FACTOR_BARS = {"2-D": 0.11, "3-D": 0.17}  # of V(2,2) with omega 1
ITERATIONS_BAR, CG_BAR = 4, 9  # of full multigrid and V-cycles to 1e-8, of CG to 1e-10
PAIRS = [("dirichlet", "dirichlet"), ("dirichlet", "neumann"), ("neumann", "neumann"), ("periodic", "periodic")]
SIZES_2D = [30, 63, 64, 65, 100, 127, 129, 255, 300, 500, 1000, 1021, 1023, 2047]
SIZES_3D = [15, 24, 31, 33, 50, 63, 64, 100, 127, 255]
SMALL_2D, SMALL_3D = [30, 63, 64, 127], [15, 24]


class Case(NamedTuple):
    """A problem, and its group, of which the table has the worst member."""

    group: str
    problem: unigrid.Poisson


def cases(small: bool) -> Iterator[Case]:
    """Yield all problems, Dirichlet squares and cubes first."""
    for n in SMALL_2D if small else SIZES_2D:
        yield Case(f"2-D Dirichlet {n} x {n}", unigrid.Poisson((n, n)))
    yield Case("2-D Dirichlet 100 x 357", unigrid.Poisson((100, 357)))
    for n in SMALL_3D if small else SIZES_3D:
        yield Case(f"3-D Dirichlet {n} x {n} x {n}", unigrid.Poisson((n, n, n)))
    for centering in ("vertex", "cell"):
        for n in [64] if small else [64, 65, 100]:
            for sides in itertools.combinations_with_replacement(PAIRS, 2):
                yield Case(f"2-D mixed sides, {centering}, n = {n}", _square((n,) * 2, sides, centering))
        for n in [] if small else [31, 32, 33]:
            for six in itertools.combinations_with_replacement(PAIRS, 3):
                yield Case(f"3-D mixed sides, {centering}, n = {n}", _square((n,) * 3, six, centering))
    for ratio in (3, 10, 100):
        for n in [64] if small else [64, 100, 255]:
            yield Case(f"2-D cells 1 : {ratio}, n = {n}", unigrid.Poisson((n, n), spacing=(1.0, ratio)))
        for spacing in itertools.product((1, ratio), repeat=3):
            if not small and len(set(spacing)) > 1:
                yield Case(f"3-D cells 1 : {ratio}, n = 32", unigrid.Poisson((32,) * 3, spacing=spacing))


def _square(shape: tuple[int, ...], sides: Any, centering: Any) -> unigrid.Poisson:
    return unigrid.Poisson(shape, spacing=1.0 / shape[0], boundary=list(sides), centering=centering)


def factor(cycle: unigrid.StencilCycle, seed: int) -> float:
    """Return the asymptotic convergence factor of a cycle."""
    problem = cycle.problem
    f = np.zeros(problem.shape)
    u = problem.compatible(np.random.default_rng(seed).standard_normal(problem.shape))
    norms = []
    for _ in range(LAST + 1):
        norms.append(problem.operator.residual_norm(f, u))
        u = problem.compatible(cycle(f, u))
    return math.exp((math.log(norms[LAST]) - math.log(norms[FIRST - 1])) / (LAST - FIRST + 1))


def measure(problem: unigrid.Poisson, seed: int) -> dict[str, Any]:
    """Return the factors and iterations of one problem."""
    textbook = unigrid.StencilCycle(problem, pre=2, post=2, smoother=unigrid.RedBlack(omega=1.0))
    default = unigrid.StencilCycle(problem)
    f = problem.compatible(np.random.default_rng(seed + 1).standard_normal(problem.shape))
    return {
        "unknowns": math.prod(problem.shape),
        "levels": len(default.levels),
        "factor": factor(textbook, seed),
        "factor_default": factor(default, seed),
        "fmg_iterations": default.solve(f, rtol=1e-8).iterations,
        "cg_iterations": default.solve(f, rtol=1e-10, start="zero", accelerate="cg").iterations,
    }


def worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per group, with the largest value of every number."""
    groups = itertools.groupby(rows, key=lambda row: row["group"])
    summary = []
    for group, members in groups:
        found = list(members)
        largest = {key: max(row[key] for row in found) for key in found[0] if key not in ("group", "problem")}
        summary.append({"group": group, "problems": len(found), **largest})
    return summary


def verdicts(summary: list[dict[str, Any]]) -> list[Verdict]:
    """Return the bars of each dimension: largest factor and iterations over all groups."""
    found = []
    for ndim, bar in FACTOR_BARS.items():
        rows = [row for row in summary if row["group"].startswith(ndim)]
        found += [
            at_most(f"{ndim}: largest factor of V(2,2) with omega 1", max(row["factor"] for row in rows), bar),
            at_most(f"{ndim}: most iterations to 1e-8", max(row["fmg_iterations"] for row in rows), ITERATIONS_BAR),
            at_most(f"{ndim}: most iterations of CG to 1e-10", max(row["cg_iterations"] for row in rows), CG_BAR),
        ]
    return found


def draw(summary: list[dict[str, Any]]) -> Figure:
    """Return the figure: factors and iterations over the number of unknowns."""
    kinds = ("2-D Dirichlet", "3-D Dirichlet", "2-D mixed", "3-D mixed", "2-D cells", "3-D cells")
    names = (
        "2-D, Dirichlet",
        "3-D, Dirichlet",
        "2-D, worst mix of sides",
        "3-D, worst mix of sides",
        "2-D, flat cells",
        "3-D, flat cells",
    )
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for kind, name, color, marker in zip(kinds, names, COLORS, MARKERS, strict=False):
        rows = sorted((row for row in summary if row["group"].startswith(kind)), key=lambda row: row["unknowns"])
        unknowns = [row["unknowns"] for row in rows]
        style = {"color": color, "marker": marker, "linestyle": "none", "fillstyle": "none"}
        panels[0].plot(unknowns, [row["factor"] for row in rows], label=name, **style)
        panels[1].plot(unknowns, [row["fmg_iterations"] for row in rows], label=name, **style)
    panels[0].set(ylabel="factor per cycle", title="V(2,2), red-black, omega 1", ylim=(0, 0.25))
    panels[1].set(ylabel="iterations to 1e-8", title="unigrid.solve with its defaults", ylim=(0, 12))
    for axes in panels:
        axes.set(xscale="log", xlabel="unknowns")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="small", ncols=2, loc="upper left")
    return figure


def main() -> None:
    options = arguments(__doc__)
    rows = []
    for seed, (group, problem) in enumerate(cases(options.small)):
        rows.append({"group": group, "problem": repr(problem), **measure(problem, seed)})
    summary = worst(rows)
    columns = ["group", "problems", "levels", "factor", "factor_default", "fmg_iterations", "cg_iterations"]
    headings = ["problem (worst of its group)", "problems", "levels", "factor", "default", "FMG to 1e-8", "CG to 1e-10"]
    show(table(headings, [[row[column] for column in columns] for row in summary]))
    result = {"cycles": [FIRST, LAST], "summary": summary, "rows": rows}
    found = verdicts(summary)
    show_verdicts(found)
    path = write("converges_independently_of_h", CLAIM, options, result, found)
    draw(summary).savefig(path.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
