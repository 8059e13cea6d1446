"""Claim: where the coefficient jumps or varies at random, black box multigrid with CG takes a bounded number of iterations.

Five parts, each of which can be run alone; measurements that are not repeated stay in the record:

    sides        problems of the literature, 2-D, on sides of all kinds, sizes that nest and that do not, jumps of 1e6 and 1e3
    anisotropy   one axis 10 to 1000 times stronger, the same everywhere or turning, with and without jumps; stretched cells
    space        3-D: constants, an inclusion, random coefficients
    alone        the factor of single cycles without CG: mean of the residual's over the last 6 of 25, f = 0, random start
    others       PyAMG's two solvers as preconditioners of CG, hypre's where petsc4py is installed, SciPy's direct solve

    --only PART ...      --size N ...  only grids with so many unknowns per axis       --problem NAME ...

Iterations as `solve` counts them, random f, to 1e-8 or to what rounding leaves if that is larger; where `solve` goes on in vain
(marked s), until the residual is within twice the smallest. There is no timing here: iterations depend on no load.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import coefficients
from coefficients import Arguments, cells, on_sides
from record import Verdict, at_most, parser, record_path, show, show_verdicts, table, write
from rivals import matrix_for_pyamg, require_pyamg

import unigrid

NAME = "robust_to_coefficients"
CLAIM = "iterations to 1e-8 bounded by problem, for jumps to 1e6, any sides and sizes, anisotropy to 1000, in 2-D and 3-D"
PARTS = ("sides", "anisotropy", "space", "alone", "others")
Row = dict[str, Any]
BARS = {
    "Poisson": 9, "quadrant": 9, "inclusion": 9, "shifted": 9, "staircase": 9, "channels": 9, "lognormal 1": 12,
    "lognormal 2": 12, "checker8": 14, "bernoulli": 40,
}  # fmt: skip
NEUMANN_BAR = 15  # of cells with Neumann sides all round, where it is larger
GROWTH, GROWTH_OF = 1, {"bernoulli": 5}  # over a doubling of n
JUMPING = ("quadrant", "inclusion", "shifted", "staircase", "channels", "checker8")
SIZES, LARGEST, SIDES_OF_LARGEST = (127, 150, 255, 500, 511, 1000, 1023), 2047, 5
LOWER_JUMP_AT = (255, 500, 1023)
RATIOS = (1e-3, 1e-2, 0.1, 10.0, 100.0, 1e3)
TURNS = ("aligned", "halves", "quarters", "smooth")
SPACE_SIZES, SPACE_SIDES = (31, 42, 63, 100, 127), ("Dirichlet, vertex", "Dirichlet, cell", "Neumann, cell", "periodic, cell")
CONSTANTS = {
    "a = (2, 3, 40)": (2.0, 3.0, 40.0), "a = (1, 1, 256)": (1.0, 1.0, 256.0), "a = (1, 256, 1)": (1.0, 256.0, 1.0),
    "a = (256, 1, 1)": (256.0, 1.0, 1.0),
}  # fmt: skip
SPACE_BARS = {**dict.fromkeys(CONSTANTS, 12), "inclusion": 12, "lognormal 1": 12, "lognormal 2": 16}
COMPARED_AT = 255


# --- what is solved ---------------------------------------------------------------------------------------------------


def cases(part: str, small: bool) -> Iterator[tuple[Row, Callable[[], Arguments]]]:
    """Yield what describes each problem of a part, and the arguments of `solve`, made when they are needed."""
    if part == "sides":
        for n in (40, 80) if small else (*SIZES, LARGEST):
            kinds = list(coefficients.SIDES)
            for sides in kinds if n != LARGEST else [each for each in kinds if "cell" in each] + kinds[:1]:
                for name, bar in BARS.items():
                    allowed = max(bar, NEUMANN_BAR) if sides == "Neumann, cell" else bar
                    for jump in (coefficients.JUMP, 1e3) if name in JUMPING and n in LOWER_JUMP_AT else (coefficients.JUMP,):
                        yield (
                            {"problem": name, "sides": sides, "n": n, "jump": jump, "bar": allowed},
                            lambda name=name, sides=sides, n=n, jump=jump: on_sides(lambda m: cells(name, m, jump), sides, n),
                        )
    elif part == "anisotropy":
        for n in (40,) if small else (127, 255, 500, 1023):
            for sides in ("Dirichlet, vertex", "Dirichlet, cell", "Neumann, cell"):
                boundary, centering = coefficients.SIDES[sides]
                for turn in TURNS:
                    for ratio in RATIOS:
                        for jump in ("none", "quarters"):
                            described = {"problem": turn, "sides": sides, "n": n, "ratio": ratio, "jump": jump}
                            yield (
                                {**described, "bar": 10 if jump == "none" else 12},
                                lambda given=(turn, ratio, jump, centering, boundary, n): coefficients.turned(*given),
                            )
            for axes in (1, 2):
                for largest in (10.0, 1e3):
                    described = {"problem": f"stretched, {axes} axes", "sides": "Dirichlet, cell", "n": n, "ratio": largest}
                    yield {**described, "bar": 10}, lambda given=(largest, axes, n): coefficients.stretched(*given)
            for ratio in (1e-3, 1e3):
                described = {"problem": "lengths 1 : ratio", "sides": "Dirichlet, cell", "n": n, "ratio": ratio}
                smooth = {"centering": "cell", "lengths": (1.0, ratio)}
                yield {**described, "bar": 10}, lambda n=n, given=smooth: {**given, "coefficient": cells("smooth", n)}
    elif part == "space":
        for n in (12,) if small else SPACE_SIZES:
            for sides in SPACE_SIDES:
                for name, bar in SPACE_BARS.items():
                    yield {"problem": name, "sides": sides, "n": n, "bar": bar}, lambda g=(name, sides, n): in_space(*g)


def in_space(name: str, sides: str, n: int) -> Arguments:
    """Return the arguments of a problem in 3-D."""
    if name in CONSTANTS:
        boundary, centering = coefficients.SIDES[sides]
        return {"boundary": boundary, "centering": centering, "coefficient": CONSTANTS[name]}
    return on_sides(lambda m: cells(name, m, ndim=3), sides, n, ndim=3)


def counted(row: Row, problem: Arguments, ndim: int) -> Row:
    """Return the row with the iterations of a problem."""
    posed = unigrid.Poisson((row["n"],) * ndim, **problem)
    f = posed.compatible(np.random.default_rng(1).standard_normal(posed.shape))
    solution = unigrid.solve(f, **problem, accelerate="cg", raise_on_failure=False, maxiter=100)
    residuals = np.array(solution.residuals) / solution.residuals[0]
    reached = solution.iterations if solution.converged else int(np.argmax(residuals <= 2 * residuals.min()))
    return {
        **row, "iterations": reached, "counted_by_solve": solution.iterations, "converged": solution.converged,
        "reason": str(solution.reason), "relative_residual": float(residuals[-1]), "smallest": float(residuals.min()),
    }  # fmt: skip


# --- cycles alone, and others -----------------------------------------------------------------------------------------


def factor(cycle: unigrid.GalerkinCycle, cycles: int = 25, last: int = 6) -> float:
    """Return the mean factor of the residual over the last cycles, of A u = 0 from a random start."""
    problem = cycle.problem
    u, zero, norms = np.random.default_rng(0).standard_normal(problem.shape), np.zeros(problem.shape), []
    for _ in range(cycles):
        u = cycle(zero, u)
        norms.append(float(np.linalg.norm(problem.operator(u))))
        u = u / norms[-1]
    return float(np.exp(np.mean(np.log(norms[-last:]))))


def alone(small: bool) -> list[Row]:
    """Return the factors of cycles without CG, on vertices with Dirichlet sides."""
    rows: list[Row] = []
    for n in (63,) if small else (127, 255):
        cycles = [(name, "V", "points", bar) for name, bar in (("Poisson", 0.07), ("inclusion", 0.07), ("staircase", 0.07))]
        cycles += [("shifted", "V", "points", 0.09), ("quadrant", "W", "points", 0.12), ("checker8", "W", "points", 0.22)]
        for name, kind, smoother, bar in cycles:
            problem = on_sides(lambda m, name=name: cells(name, m), "Dirichlet, vertex", n)
            rows.append(_alone(name, n, kind, smoother, bar, problem))
        for ratio in (1e-3, 1e3):
            problem = coefficients.turned("aligned", ratio, "none", "vertex", "dirichlet", n)
            rows.append(_alone(f"aligned {ratio:g}", n, "V", "lines", 0.07, problem))
    return rows


def _alone(name: str, n: int, kind: str, smoother: str, bar: float, problem: Arguments) -> Row:
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((n, n), **problem), cycle=kind, smoother=smoother)
    return {"problem": name, "n": n, "cycle": f"{cycle.name} {smoother}", "factor": factor(cycle), "bar": bar}


def compared(name: str, n: int) -> Row:
    """Return the iterations of others, on cells with Dirichlet sides, and the residual of a direct solve."""
    import pyamg
    from scipy.sparse.linalg import spsolve

    problem = unigrid.Poisson((n, n), **on_sides(lambda m: cells(name, m), "Dirichlet, cell", n))
    matrix, f = matrix_for_pyamg(problem), np.random.default_rng(1).standard_normal(n * n)
    row: Row = {"problem": name, "n": n}
    for title, make in (
        ("ruge-stueben", pyamg.ruge_stuben_solver),
        ("smoothed-aggregation", pyamg.smoothed_aggregation_solver),
    ):
        residuals: list[float] = []
        make(matrix).solve(f, tol=1e-8, accel="cg", residuals=residuals, maxiter=300)
        row[title] = len(residuals) - 1
    row["hypre"] = _hypre(matrix, f)
    row["unigrid"] = unigrid.GalerkinCycle(problem).solve(f.reshape(n, n), raise_on_failure=False).iterations
    row["residual of a direct solve"] = float(np.linalg.norm(f - matrix @ spsolve(matrix.tocsc(), f)) / np.linalg.norm(f))
    return row


def _hypre(matrix: Any, f: np.ndarray) -> int | str:
    """Return the iterations of CG with hypre's BoomerAMG."""
    if importlib.util.find_spec("petsc4py") is None:
        return "not installed"
    from petsc4py import PETSc

    solver = PETSc.KSP().create()
    solver.setOperators(PETSc.Mat().createAIJ(matrix.shape, csr=(matrix.indptr, matrix.indices, matrix.data)))
    solver.setType("cg")
    solver.getPC().setType("hypre")
    solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    solver.setTolerances(rtol=1e-8)
    b = PETSc.Vec().createWithArray(f)
    solver.solve(b, b.duplicate())
    return int(solver.getIterationNumber())


# --- verdicts ---------------------------------------------------------------------------------------------------------


def verdicts(rows: dict[str, list[Row]]) -> list[Verdict]:
    """Return the bars."""
    found = []
    for name in BARS:
        mine = [row for row in rows["sides"] if row["problem"] == name]
        for neumann in (False, True):
            part = [row for row in mine if (row["sides"] == "Neumann, cell") == neumann]
            if part:
                sides = "cells, all sides Neumann" if neumann else "other sides"
                found.append(at_most(f"{name}, {sides}: iterations", _most(part), part[0]["bar"]))
        growth = growth_of(mine)
        if growth:
            found.append(at_most(f"{name}: growth over a doubling of n", max(growth), GROWTH_OF.get(name, GROWTH)))
    for what, chosen in (
        ("anisotropy", lambda row: row.get("jump") == "none"),
        ("anisotropy times jumps", lambda row: row.get("jump") == "quarters"),
        ("stretched cells and ratios of lengths", lambda row: "jump" not in row),
    ):
        part = [row for row in rows["anisotropy"] if chosen(row)]
        if part:
            found.append(at_most(f"{what}: iterations", _most(part), part[0]["bar"]))
    for name in SPACE_BARS:
        part = [row for row in rows["space"] if row["problem"] == name]
        if part:
            found.append(at_most(f"3-D, {name}: iterations", _most(part), part[0]["bar"]))
    found += [
        at_most(f"{row['problem']}, {row['n']}^2, {row['cycle']}: factor", row["factor"], row["bar"]) for row in rows["alone"]
    ]
    return found


def _most(rows: list[Row]) -> int:
    return max(row["iterations"] for row in rows)


def growth_of(rows: list[Row]) -> list[int]:
    """Return by how much iterations grow from n to 2 n or 2 n + 1, of the same sides and jump."""
    by_case = {(row["sides"], row["jump"], row["n"]): row["iterations"] for row in rows}
    pairs = [((sides, jump, 2 * n + odd), count) for (sides, jump, n), count in by_case.items() for odd in (0, 1)]
    return [by_case[double] - count for double, count in pairs if double in by_case]


# --- the run ----------------------------------------------------------------------------------------------------------


def options_of(command_line: list[str]) -> argparse.Namespace:
    """Return the options."""
    made = parser(__doc__)
    made.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    made.add_argument("--size", nargs="+", type=int, metavar="N")
    made.add_argument("--problem", nargs="+", metavar="NAME")
    return made.parse_args(command_line)


def earlier(options: argparse.Namespace) -> dict[str, list[Row]]:
    """Return the rows in the record; those of a small run never mix with others."""
    path = record_path(NAME, options)
    record = json.loads(path.read_text()) if path.exists() else {}
    return {part: record.get(part, []) if record.get("small") == options.small else [] for part in PARTS}


def merged(rows: list[Row], new: list[Row]) -> list[Row]:
    """Return the rows with new ones in place of those of the same problem, in the order of sizes."""
    kept = {_key(row): row for row in (*rows, *new)}
    return sorted(kept.values(), key=lambda row: row["n"])


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("problem", "sides", "n", "jump", "ratio", "cycle"))


def measured(part: str, options: argparse.Namespace) -> list[Row]:
    """Return the rows of a part."""

    def wanted(row: Row) -> bool:
        sizes, names = options.size, options.problem
        return (sizes is None or row["n"] in sizes) and (names is None or row["problem"] in names)

    if part == "alone":
        return [row for row in alone(options.small) if wanted(row)]
    if part == "others":
        rows: list[Row] = [{"problem": name, "n": 40 if options.small else COMPARED_AT} for name in BARS]
        return [compared(row["problem"], row["n"]) for row in rows if wanted(row)]
    ndim = 3 if part == "space" else 2
    return [counted(row, arguments(), ndim) for row, arguments in cases(part, options.small) if wanted(row)]


def main() -> None:
    options = options_of(sys.argv[1:])
    if "others" in options.only:
        require_pyamg()
    rows = earlier(options)
    for part in options.only:
        rows[part] = merged(rows[part], measured(part, options))
    report(rows)
    found = verdicts(rows)
    show_verdicts(found)
    write(NAME, CLAIM, options, {"rtol": 1e-8, **rows}, found)


def report(rows: dict[str, list[Row]]) -> None:
    """Print the tables."""
    show("Iterations of CG to 1e-8 or to what rounding leaves; s: stopped by rounding before that", end="\n\n")
    for sides in coefficients.SIDES:
        mine = [row for row in rows["sides"] if row["sides"] == sides]
        _show_counts(sides, mine, lambda row: row["problem"], lambda row: f"{row['n']}{', jump 1e3' * (row['jump'] == 1e3)}")
    _show_counts("anisotropy", rows["anisotropy"], _described, lambda row: f"{row['n']} {row['sides']}")
    _show_counts("3-D", rows["space"], lambda row: row["problem"], lambda row: f"{row['n']} {row['sides']}")
    if rows["alone"]:
        body = [[f"{row['problem']}, {row['n']}^2", row["cycle"], row["factor"]] for row in rows["alone"]]
        show(table(["cycles alone", "cycle", "factor"], body), end="\n\n")
    if rows["others"]:
        columns = ["unigrid", "ruge-stueben", "smoothed-aggregation", "hypre", "residual of a direct solve"]
        body = [[f"{row['problem']}, {row['n']}^2", *(row[name] for name in columns)] for row in rows["others"]]
        show(table(["iterations of others", *columns], body))


def _described(row: Row) -> str:
    jump = {"none": "", "quarters": ", jump 1e3 in quarters"}.get(row.get("jump", "none"), "")
    return f"{row['problem']}, {row['ratio']:g}{jump}"


def _show_counts(title: str, rows: list[Row], line: Callable[[Row], str], column: Callable[[Row], str]) -> None:
    """Print a table of iterations, marked where rounding stopped a run."""
    if rows:
        counts = {
            (line(row), column(row)): f"{row['iterations']}{'' if row['converged'] else row['reason'][0]}" for row in rows
        }
        lines, columns = dict.fromkeys(map(line, rows)), dict.fromkeys(map(column, rows))
        body = [[each, *(counts.get((each, other), "-") for other in columns)] for each in lines]
        show(table([title, *columns], body), end="\n\n")


if __name__ == "__main__":
    main()
