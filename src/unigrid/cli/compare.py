"""`unigrid compare`: smoothers x cycles on one problem, as a table and as a picture of the residuals."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..tables import Field
from . import options
from .monitor import Facts, Stopwatch, announced_compilation, save_figures, show
from .options import UsageError, load_kernels, user_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..solution import Solution
    from ..stencil.cycle import StencilCycle
    from ..stencil.galerkin import GalerkinCycle
    from ..stencil.problem import Poisson

SUMMARY = "compare smoothers and cycles on one problem"
EPILOG = """\
examples:
  unigrid compare
  unigrid compare --shape 63,63,63 --smoothers red-black=1.0,red-black,chebyshev --cycles V,W --plot history.png
  unigrid compare f.npy --boundary neumann,periodic --compatibility project --json
  unigrid compare f.npy --coefficient k.npy --smoothers points,lines --cycles V,W

Without RHS, f is random (seeded) and so contains all frequencies. The factor is the geometric mean of the last half of the
iterations. Seconds are those of the best of three runs, kernels compiled before. A work unit is a smoothing sweep of the finest
grid, other work not counted; work units per digit are the cost of one decimal digit of the residual. The history is printed,
and drawn into unigrid-compare.png or the file of --plot; with --json only into the latter."""
SMOOTHERS, COUPLED = ["tuned", "red-black", "jacobi", "gauss-seidel", "chebyshev"], ["auto", "points", "lines"]
RUNS = 3
MOST_SHOWN = 12  # residuals per line; the picture and --json hold all
PICTURE = "unigrid-compare.png"


class Outcome(NamedTuple):
    """One line of the table."""

    smoother: str
    cycle: StencilCycle | GalerkinCycle
    solution: Solution
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rhs", metavar="RHS", nargs="?", help="file with the source f; default a random one of --shape")
    parser.add_argument("--shape", type=options.shape, metavar="N[,N..]", help="unknowns along each axis, default 255,255")
    group = parser.add_argument_group("cycles")
    group.add_argument(
        "--smoothers", type=options.names, metavar="NAMES",
        help=f"by comma, with omega after '=' where wanted; default {','.join(SMOOTHERS)}; where a or c varies, "
        f"{','.join(COUPLED)}",
    )  # fmt: skip
    group.add_argument("--cycles", type=options.names, default=["V", "W", "F"], metavar="KINDS", help="by comma, default V,W,F")
    options.add_transfer_options(group)
    options.add_problem_options(parser)
    options.add_coefficient_options(parser)
    options.add_stopping_options(parser, start="zero")
    options.add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    options.check_outputs(arguments.plot, replace=arguments.force)
    if not (arguments.plot or arguments.json):
        arguments.plot = PICTURE  # a name of unigrid's own, replaced at every run
        options.check_outputs(arguments.plot, replace=True)
    load_kernels(arguments.threads)
    f, spacing = _source(arguments)
    problem = options.problem_of(arguments, f.shape, spacing)
    cycles = list(_cycles(problem, arguments))
    with announced_compilation(Stopwatch()):
        outcomes = [_outcome(name, cycle, f, arguments) for name, cycle in cycles]
    histories = {(each.smoother, f"{each.cycle.kind}-cycle"): each.solution for each in outcomes}
    rtol = options.numeric(arguments.rtol)
    written = save_figures((arguments.plot, lambda plots: plots.plot_history(histories, rtol=rtol)))
    show(facts_of(outcomes, arguments, written), arguments.json, report)
    return 0


def _cycles(problem: Poisson, arguments: argparse.Namespace) -> Iterator[tuple[str, StencilCycle | GalerkinCycle]]:
    """Yield a name and a cycle for each row of the table. Raises UsageError."""
    for text in arguments.smoothers or (COUPLED if problem.varies else SMOOTHERS):
        smoother = text if problem.varies else _smoother_of(text)
        for kind in arguments.cycles:
            make = options.galerkin_cycle_of if problem.varies else options.cycle_of
            yield text, make(problem, kind, smoother, arguments)


def _source(arguments: argparse.Namespace) -> Field:
    import numpy as np

    if arguments.rhs is not None:
        if arguments.shape is not None:
            raise UsageError("give RHS or --shape, not both: a file brings its shape")
        return options.source_of(arguments)
    if arguments.array is not None:
        raise UsageError("--array names an array of an .npz file, but no file is given")
    unknowns = arguments.shape or (255, 255)
    if min(unknowns) < 1:
        raise UsageError(f"--shape must hold integers >= 1, got {unknowns}")
    return Field(np.random.default_rng(0).standard_normal(unknowns))


def _smoother_of(text: str) -> Any:
    name, equals, value = text.partition("=")
    with user_errors(f"--smoothers {text!r}: "):
        try:
            omega = float(value) if equals else None
        except ValueError:
            raise ValueError(f"omega must be a number, got {value!r}") from None
        return options.smoother_of(name, omega)


def _outcome(name: str, cycle: StencilCycle | GalerkinCycle, f: NDArray[Any], arguments: argparse.Namespace) -> Outcome:
    given = {key: getattr(arguments, key) for key in ("rtol", "atol", "start", "compatibility")}

    def solve(maxiter: int) -> Solution:
        with user_errors():
            return cycle.solve(f, maxiter=maxiter, raise_on_failure=False, **given)

    solve(1)  # compiles, and touches the memory
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        solution = solve(arguments.maxiter)
        seconds.append(time.perf_counter() - begin)
    return Outcome(name, cycle, solution, min(seconds))


def facts_of(outcomes: list[Outcome], arguments: argparse.Namespace, written: list[str]) -> Facts:
    """Return the outcomes as plain values, for the report and for --json."""
    from ..stencil.kernels.cpu.threads import get_num_threads

    first = outcomes[0].cycle
    return {
        "input": arguments.rhs or "random, seed 0",
        "problem": {"title": repr(first.problem), **options.describe_problem(first.problem)},
        "levels": len(first.levels),
        "runs": [_run_facts(outcome) for outcome in outcomes],
        "written": written,
        "threads": get_num_threads(),
    }


def _run_facts(outcome: Outcome) -> Facts:
    cycle, solution = outcome.cycle, outcome.solution
    per_digit = cycle.work_units / -math.log10(solution.rate) if 0 < solution.rate < 1 else math.nan  # NaN: no gain
    return {
        "smoother": outcome.smoother, "cycle": cycle.kind, "name": cycle.name, "pre": cycle.pre, "post": cycle.post,
        "converged": solution.converged, "reason": solution.reason.value, "iterations": solution.iterations,
        "rate": solution.rate, "residuals": list(solution.residuals), "work_units": cycle.work_units,
        "work_units_per_digit": per_digit, "seconds": outcome.seconds,
    }  # fmt: skip


def report(facts: Facts) -> list[str]:
    """Return the lines of the table and of the history."""
    width = max(len("smoother"), *(len(run["smoother"]) for run in facts["runs"]))
    return [
        f"{facts['problem']['title']}, {facts['levels']} levels",
        "",
        f"{'smoother':<{width}}  cycle   iterations  factor  work units  seconds  work units  ended",
        f"{'':<{width}}                               per cycle            per digit",
        *(_row(run, width) for run in facts["runs"]),
        "",
        "relative residual after each iteration",
        *(_history(run, width) for run in facts["runs"]),
        *(line for path in facts["written"] for line in ("", f"Wrote {path}")),
    ]


def _row(run: Facts, width: int) -> str:
    return (
        f"{run['smoother']:<{width}}  {run['name']:<6}  {run['iterations']:10}  {_number(run['rate'], 6, 3)}  "
        f"{run['work_units']:10.2f}  {run['seconds']:7.4f}  {_number(run['work_units_per_digit'], 10, 2)}  {run['reason']}"
    )


def _history(run: Facts, width: int) -> str:
    """Return the residuals of a run relative to its initial one."""
    first, *others = run["residuals"]
    shown = [f"{residual / first:.1e}" for residual in others[:MOST_SHOWN]] if first > 0 else []
    more = f" .. {others[-1] / first:.1e}" if len(others) > MOST_SHOWN else ""
    return f"{run['smoother']:<{width}}  {run['cycle']}  {' '.join(shown)}{more}"


def _number(value: float, width: int, digits: int) -> str:
    return f"{value:{width}.{digits}f}" if math.isfinite(value) else f"{'-':>{width}}"
