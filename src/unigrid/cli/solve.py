"""`unigrid solve`: a right-hand side from a file, its solution into another."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..files import IMAGES, STREAM, checked_output, write_array
from ..iterate import DISCRETIZATION
from ..solution import GUIDE
from ..vti import Lattice
from . import blocks, options
from . import report as report_page
from .monitor import Facts, Stopwatch, Watch, announced_compilation, line_per_iteration, progress_bar, save_figures, show
from .options import UsageError, names_pretrained, user_errors
from .reading import array_in, format_of
from .streams import is_closed, reported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..solution import Solution
    from ..stencil.cycle import StencilCycle
    from ..stencil.galerkin import GalerkinCycle
    from ..stencil.preconditioned import FourthOrderCycle
    from ..stencil.problem import Poisson

SUMMARY = "solve -div(a grad u) + c u = f for an f from a file"
EPILOG = """\
files:
  f: .npy, .npz, .csv, .mat, .h5, .nc or a picture (.png, .jpg, .tif, ...: gray values from 0 to 1), 1 to 3 axes, f at the
     unknowns; axis 0, the first index, is x; also .gz, but for pictures; - is the standard input: .npy, .npz or a table
  u: .npy, .npz (array "u"), .csv or .vti (ParaView); also .gz; - is the standard output: .npy, the report goes to stderr

examples:
  unigrid solve f.npy -o u.npy --plot u.png
  unigrid solve f.npy --report solution.html
  unigrid solve f.npy --lengths 3,5 --boundary dirichlet=1.5:neumann=-2,periodic --centering cell
  unigrid solve f.npz --array source --cycle W --smoother jacobi --omega 0.7 --monitor
  unigrid solve f.csv --boundary neumann --compatibility project --json
  unigrid solve f.npy --reaction -900 --order 4 -o wave.npy
  unigrid solve points.csv --columns x,y,f --boundary dirichlet=left.npy:dirichlet,periodic -o u.vti
  unigrid solve f.npy --mask tank.png --outside natural --fixed electrodes.npy --boundary neumann --plot potential.png
  unigrid solve f.npy --spacing dr.npy,0.1 --boundary neumann:robin=5=100,dirichlet --centering cell
  unigrid solve f.npy --coefficient k.npy --boundary neumann,dirichlet=1:dirichlet=0 --centering cell --plot head.png
  mpiexec -n 4 unigrid solve f.npy -o u.npy --boundary neumann,dirichlet
  gunzip -c sources.npy.gz | unigrid solve - --stack --cycle runs/poisson -o - > solutions.npy

exit code: 0 converged, 1 not converged (u is written all the same), 2 wrong input, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rhs", metavar="RHS", help="file with the source f")
    parser.add_argument("--stack", action="store_true", help="axis 0 of f counts several sources, each solved for")
    parser.add_argument(
        "--u0",
        metavar="FILE",
        help="file with the first iterate, of the shape of f; FILE#NAME chooses an array; leaves out full multigrid",
    )
    options.add_problem_options(parser)
    options.add_coefficient_options(parser).add_argument(
        "--order",
        type=int,
        default=2,
        metavar="N",
        help="of accuracy: 2 (default), or 4, for smooth f and constant a and c",
    )
    group = parser.add_argument_group("cycle")
    group.add_argument(
        "--cycle",
        default="V",
        metavar="KIND",
        help="V (default), W or F; or the run, or the checkpoint, of a trained solver, "
        "or poisson-net, which comes with unigrid",
    )
    group.add_argument(
        "--smoother", default="tuned", metavar="NAME",
        help="tuned (default), red-black, jacobi, gauss-seidel, chebyshev; where a or c varies, auto (default), points, lines",
    )  # fmt: skip
    group.add_argument("--omega", type=float, help="relaxation factor of the smoother; default its own; of tuned: red-black")
    options.add_transfer_options(group)
    group.add_argument(
        "--accelerate", default="auto", metavar="METHOD",
        help="Krylov method that the cycle preconditions: cg (default where a or c varies), gmres, or of SciPy minres, ..",
    )  # fmt: skip
    group.add_argument(
        "--precision", default="auto", metavar="P", help="full, mixed (cycles in float32), or auto: the faster one (default)"
    )
    group.add_argument("--device", metavar="D", help="where torch solves: cuda, cuda:1, ..; default the CPU, without torch")
    options.add_stopping_options(parser, start="fmg")
    group = options.add_run_options(parser)
    group.add_argument("-o", "--output", metavar="FILE", help="file for u: .npy, .npz, .csv or .vti")
    group.add_argument("--plot-history", metavar="FILE", help="picture of the residuals")
    group.add_argument("--plot-hierarchy", metavar="FILE", help="picture of the grids and of the cycle")
    group.add_argument(
        "--report", metavar="FILE",
        help="page with u, the residuals and what they mean, the grids and the time of each, measured in another solve: .html",
    )  # fmt: skip
    group.add_argument("--monitor", action="store_true", help="print a line per iteration instead of the progress bar")


@dataclass(frozen=True)
class Run:
    """A finished solve and its surroundings, for the report."""

    arguments: argparse.Namespace
    f: NDArray[Any]
    cycle: StencilCycle | GalerkinCycle | FourthOrderCycle
    solution: Solution
    seconds: dict[str, float]
    u0: NDArray[Any] | None = None


def run(arguments: argparse.Namespace) -> int:
    if blocks.started_with_others():
        return blocks.run(arguments)
    pictures = arguments.plot, arguments.plot_history, arguments.plot_hierarchy
    outputs = {"array": arguments.output, "page": arguments.report}
    options.check_outputs(*pictures, **outputs, source=arguments.rhs, replace=arguments.force)
    if arguments.report:
        report_page.require_jinja2()
    if arguments.output == STREAM and is_closed(sys.stdout):
        raise UsageError("-o -: the standard output is closed")
    if arguments.stack and arguments.plot:
        raise UsageError("--plot shows one solution, and --stack makes several; leave one of them out")
    stopwatch = Stopwatch()
    with stopwatch.measure("import"):
        options.load_kernels(arguments.threads)
    with stopwatch.measure("read"):
        f, spacing = options.source_of(arguments, arguments.stack)
        u0 = None if arguments.u0 is None else array_in(arguments.u0, format_of(arguments))
    if arguments.output not in (None, STREAM):
        checked_output(arguments.output, ndim=f.ndim)
    with stopwatch.measure("setup"):
        problem = options.problem_of(arguments, f.shape[arguments.stack :], spacing)
        cycle = _cycle(arguments, problem)
    if arguments.output and ".vti" in Path(arguments.output).suffixes and any(axis.distances for axis in problem.grid.axes):
        raise UsageError(f"-o {arguments.output}: a .vti has one distance along each axis; for a stretched grid, write .npy")
    with announced_compilation(stopwatch), watch_of(arguments, f) as watch, stopwatch.measure("solve"):
        solution = _solve(cycle, f, arguments, callback=watch, u0=u0)
    ended = Run(arguments, f, cycle, solution, stopwatch.seconds, u0)
    with stopwatch.measure("write"):
        written = _write(ended)
    if arguments.report:
        with stopwatch.measure("report"):
            written.append(report_page.write_solve(ended, _rtol(arguments, f), _is_picture(arguments)))
    show(facts_of(ended, written), arguments.json, report, _report_stream(arguments))
    if not solution.converged:
        print(f"unigrid: {solution.reason}: {solution.reason.text} {GUIDE}", file=sys.stderr)
    return 0 if solution.converged else 1


def _report_stream(arguments: argparse.Namespace) -> IO[str]:
    """Return where the report goes: not among the bytes of u."""
    return sys.stderr if arguments.output == STREAM else sys.stdout


def _cycle(arguments: argparse.Namespace, problem: Poisson) -> StencilCycle | GalerkinCycle | FourthOrderCycle:
    """Return the cycle that the options describe, or the one of a trained solver. Raises UsageError."""
    kind = arguments.cycle
    if len(kind) > 1 and (os.path.exists(kind) or os.path.splitext(kind)[1] or os.sep in kind or names_pretrained(kind)):
        return _trained_cycle(arguments, problem)
    if problem.varies and problem.order == 2:
        if arguments.plot_hierarchy:
            raise UsageError("--plot-hierarchy draws the grids of constant coefficients; leave it out")
        smoother = "auto" if arguments.smoother == "tuned" else arguments.smoother
        return options.galerkin_cycle_of(problem, "auto" if kind.upper() == "V" else kind, smoother, arguments)
    with user_errors():
        smoother = options.smoother_of(arguments.smoother, arguments.omega)
    if problem.order == 2:
        return options.cycle_of(problem, kind, smoother, arguments)
    from ..stencil.preconditioned import FourthOrderCycle, second_order_of

    if arguments.plot_hierarchy:
        raise UsageError("--plot-hierarchy draws the grids of order 2; leave it out, or --order")
    return FourthOrderCycle(problem, options.cycle_of(second_order_of(problem), kind, smoother, arguments))


def _trained_cycle(arguments: argparse.Namespace, problem: Poisson) -> StencilCycle:
    own = {"smoother": "tuned", **options.SLOTS}
    given = [name for name, default in own.items() if getattr(arguments, name) != default]
    if given:
        raise UsageError(f"--cycle {arguments.cycle} has slots of its own; leave out --{given[0]}")
    options.load_learned()
    where = {"pretrained": arguments.cycle} if names_pretrained(arguments.cycle) else {"checkpoint": arguments.cycle}
    with user_errors():
        trained = options.trained_network(device="cpu", **where)
    if not trained.solves:
        raise UsageError(f"--cycle {arguments.cycle}: is a classifier; `unigrid train poisson` trains solvers")
    with user_errors():
        cycle: StencilCycle = trained.model.on(problem)  # type: ignore[operator]
        return cycle.for_one_pass() if arguments.rtol == DISCRETIZATION else cycle


def _solve(
    cycle: StencilCycle | GalerkinCycle | FourthOrderCycle, f: NDArray[Any], arguments: argparse.Namespace, **values: Any
) -> Solution:
    given = solve_options(arguments) | values | {"raise_on_failure": False}
    if arguments.device is not None:
        from .on_device import solved_on

        return solved_on(arguments.device, cycle, f, given)
    with user_errors():
        return cycle.solve(f, **given)


def solve_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `solve` that were given, u0 but as a file."""
    from ..stencil.solving import SolveOptions

    names = {field.name for field in dataclasses.fields(SolveOptions)} - {"threads", "u0"}  # threads: of the whole process
    return {name: value for name, value in vars(arguments).items() if name in names}


def _rtol(arguments: argparse.Namespace, f: NDArray[Any]) -> float | None:
    """Return the tolerance, or the default one; None where it is no number."""
    from ..stencil.solving import DEFAULT_RTOL

    return DEFAULT_RTOL[f.dtype] if arguments.rtol is None else options.numeric(arguments.rtol)


def watch_of(arguments: argparse.Namespace, f: NDArray[Any]) -> AbstractContextManager[Watch | None]:
    """Return what shows the iterations: lines, a progress bar, or nothing."""
    if arguments.monitor:
        return nullcontext(line_per_iteration(sys.stderr if arguments.json else _report_stream(arguments)))
    rtol = _rtol(arguments, f)
    if rtol is None or arguments.device is not None:
        return nullcontext()  # a single iteration needs no progress bar, and a GPU does not wait for one
    return progress_bar(lambda initial: max(rtol * initial, arguments.atol))


def _write(ended: Run) -> list[str]:
    """Write the requested files and return their paths."""
    arguments, cycle, u = ended.arguments, ended.cycle, ended.solution.u
    written = [arguments.output] if arguments.output and u is not None else []
    for path in written:
        with reported() if path == STREAM else nullcontext():
            write_array(path, u, lattice=_lattice(cycle.problem))
    picture = _is_picture(arguments)
    history, rtol = {f"{cycle.name}, {arguments.smoother}": ended.solution}, _rtol(arguments, ended.f)
    return written + save_figures(
        (arguments.plot if u is not None else None, lambda plots: plots.plot_solution(u, cycle.problem, picture=picture)),
        (arguments.plot_history, lambda plots: plots.plot_history(history, rtol=rtol)),
        (arguments.plot_hierarchy, lambda plots: plots.plot_hierarchy(cycle)),
    )


def _is_picture(arguments: argparse.Namespace) -> bool:
    """Whether axis 0 of f points downward."""
    return Path(arguments.rhs).suffix.lower() in IMAGES


def _lattice(problem: Poisson) -> Lattice:
    """Return the points of a .vti, which have one distance along each axis; others are refused before the solve."""
    return Lattice([float(axis.positions[0]) for axis in problem.box.axes], problem.spacing)


def facts_of(ended: Run, written: list[str]) -> Facts:
    """Return the outcome as plain values, for the report and for --json."""
    from ..stencil.kernels.cpu.threads import get_num_threads

    cycle, solution, u = ended.cycle, ended.solution, ended.solution.u
    return {
        "input": ended.arguments.rhs,
        "problem": {
            "title": str(cycle.problem)[1:-1], **options.describe_problem(cycle.problem), "dtype": str(ended.f.dtype),
        },
        "cycle": {
            "title": cycle.title, "kind": cycle.kind, "pre": cycle.pre, "post": cycle.post, "smoother": repr(cycle.smoother),
            "post_smoother": repr(cycle.post_smoother), "accelerate": ended.arguments.accelerate,
            "work_units": cycle.work_units, "operator_complexity": cycle.operator_complexity,
        },
        "levels": [{"shape": shape, "unknowns": math.prod(shape)} for shape in cycle.shapes],
        "converged": solution.converged,
        "reason": solution.reason.value,
        "message": solution.message,
        "iterations": solution.iterations,
        "residuals": list(solution.residuals),
        "rate": solution.rate,
        "range": None if u is None else _range(u),
        "seconds": {name: round(seconds, 6) for name, seconds in ended.seconds.items()},
        "threads": get_num_threads(),
        "device": ended.arguments.device or "cpu",
        "written": written,
        "output": ended.arguments.output,
    }  # fmt: skip


def _range(u: NDArray[Any]) -> list[float]:
    """Return the extremes of u; NaN may stand where --outside gives nothing, and no unknown needs it."""
    finite = u[u == u]
    return [float(finite.min()), float(finite.max())]


def report(facts: Facts) -> list[str]:
    """Return the lines of the report."""
    cycle, message, seconds = facts["cycle"], facts["message"], facts["seconds"]
    rate = "" if math.isnan(facts["rate"]) else f" Factor {facts['rate']:.3f} per iteration."
    compiled = f", {seconds['compile']:.1f} s to compile kernels, once" if seconds["compile"] > 0 else ""
    lines = [
        f"{facts['input']}: {facts['problem']['title']}, {facts['problem']['dtype']}",
        f"{cycle['title']}, {len(facts['levels'])} levels, {cycle['work_units']:.2f} work units per cycle",
        f"{message[:1].upper()}{message[1:]}{rate}",
        f"{seconds['setup']:.3f} s to set up, {seconds['solve']:.3f} s to solve{compiled}",
    ]
    if facts["range"] is None:
        lines.append("There is no finite iterate to write.")
    else:
        lines.append("u from {:.6g} to {:.6g}".format(*facts["range"]))
    lines += [f"Wrote {path}" for path in facts["written"]]
    if facts["output"] == STREAM:
        return [line.replace("Wrote -", "Wrote u to the standard output") for line in lines]
    return lines if facts["output"] else [*lines, "u is not stored; -o u.npy stores it."]
