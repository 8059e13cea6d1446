"""`mpiexec -n N unigrid solve`: each process reads, solves for and writes its rows of the files."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

from ..files import FileError, checked_output, expanded
from ..solution import GUIDE
from ..tables import UNSTATED
from . import options, reading
from .monitor import Stopwatch, show
from .options import UsageError, user_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..domains.communicator import Communicator
    from ..domains.cycle import DomainCycle
    from ..solution import Solution

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # by which MPICH and Open MPI tell a process how many it is started with
ERRORS = UsageError, FileError


def started_with_others() -> bool:
    """Whether this process was started by mpiexec as one of several."""
    return any(os.environ.get(name, "1").isdecimal() and int(os.environ.get(name, "1")) > 1 for name in SIZES)


def run(arguments: argparse.Namespace) -> int:
    """Do `unigrid solve` in this process and the others; the first one reports."""
    try:
        from mpi4py import MPI
    except ImportError as missing:
        raise UsageError(f"mpiexec needs mpi4py, which is not here ({missing}): pip install 'unigrid[mpi]'") from None
    from ..domains.communicator import MpiCommunicator

    comm = MpiCommunicator(MPI.COMM_WORLD)
    try:
        return _run(arguments, comm)
    except (UsageError, FileError):  # raised in all of them
        if comm.rank == 0:
            raise
        raise SystemExit(2) from None
    except KeyboardInterrupt:  # mpiexec interrupts all of them
        if comm.rank == 0:
            raise
        raise SystemExit(130) from None
    except BaseException:  # the others wait for this one, and would do so for ever
        _abort(MPI, comm.rank)


def _abort(mpi: Any, rank: int) -> NoReturn:
    print(f"unigrid: process {rank} failed, and ends the others", file=sys.stderr)
    traceback.print_exc()
    sys.stderr.flush()
    mpi.COMM_WORLD.Abort(1)
    raise SystemExit(1)


def _run(arguments: argparse.Namespace, comm: Communicator) -> int:
    from ..domains.communicator import together

    stopwatch = Stopwatch()
    with stopwatch.measure("import"):
        together(comm, lambda: options.load_kernels(arguments.threads), *ERRORS)
    with stopwatch.measure("setup"):
        f, given = together(comm, lambda: _prepared(arguments, comm), *ERRORS)
        cycle = _cycle(arguments, f.shape, given, comm)
    with stopwatch.measure("read"):
        block = together(comm, lambda: _block(arguments, f, cycle), *ERRORS)
    stopwatch.seconds.setdefault("compile", 0.0)
    with _watch(arguments, block, comm) as watch, stopwatch.measure("solve"):
        solution = _solved(arguments, cycle, block, watch)
    with stopwatch.measure("write"):
        written = _write(arguments, cycle, solution)
    _report(arguments, cycle, block, solution, stopwatch, written)
    return 0 if solution.converged else 1


def _prepared(arguments: argparse.Namespace, comm: Communicator) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return the file of f, of which nothing has been read yet, and the block of what varies, if anything does."""
    _refuse_others(arguments)
    f = _opened(arguments.rhs)
    options.check_outputs(array=arguments.output, source=arguments.rhs, replace=arguments.force)
    if arguments.output is not None and checked_output(arguments.output).suffix != ".npy":
        raise UsageError(f"-o {arguments.output}: several processes write .npy")
    with user_errors():
        return f, _given(arguments, f.shape, comm)


def _opened(text: str) -> NDArray[Any]:
    """Return the array in a file, of which nothing has been read yet. Raises FileError."""
    import numpy as np

    path = expanded(text)
    try:
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read by several processes: {error}; they read .npy") from None


def _block_of(text: str, name: str, shape: tuple[int, ...], rows: tuple[slice, ...]) -> NDArray[Any]:
    """Return the rows of this process of the array in a file, given after --name. Raises UsageError and FileError."""
    array = _opened(text)
    if array.shape != shape:
        raise UsageError(f"--{name} {text} has shape {array.shape}, and f {shape}; give an array of the shape of f")
    return array[rows].copy()


def _given(arguments: argparse.Namespace, shape: tuple[int, ...], comm: Communicator) -> dict[str, Any]:
    """Return the options of a problem; of arrays the block of this process. Raises ValueError and FileError."""
    from ..domains.problem import DomainProblem

    rows = DomainProblem.rows(shape, comm)

    def block(name: str, text: str) -> Any:
        if not reading.names_file(text):
            return reading.number_or_array(text, f"--{name} ", UNSTATED)
        array = _opened(text)
        if array.shape != shape:
            raise ValueError(
                f"--{name} {text} has shape {array.shape}, and f {shape}; several processes read their rows of both"
            )
        return array[rows].copy()

    texts = {name: getattr(arguments, name, None) for name in ("reaction", "coefficient", "mask", "outside", "fixed")}
    given = {name: text for name, text in texts.items() if text is not None}
    for name, text in given.items():
        parts = [text if text == reading.NATURAL else block(name, part) for part in text.split(",")]
        if len(parts) > 1 and not all(isinstance(part, float) for part in parts):
            raise ValueError(f"several processes have no --{name} at the faces of each axis; give one file, at the unknowns")
        given[name] = parts[0] if len(parts) == 1 else tuple(parts)
    if "mask" in given:
        given["mask"] = reading.truth_of(given["mask"], arguments.mask)
    if "fixed" in given:
        given["fixed"] = given["fixed"] == given["fixed"], given["fixed"]
    form = reading.format_of(arguments)
    boundary = options.boundary_of(arguments.boundary, len(shape), form)
    spacing = reading.spacing_of(arguments.spacing, form)
    return {**given, "boundary": boundary, "spacing": spacing, "lengths": arguments.lengths, "centering": arguments.centering}


def _varies(given: dict[str, Any]) -> bool:
    """Whether options make coefficients that vary, from point to point or at sides."""
    from ..stencil.grid import Robin

    arrays = [given.get(name) for name in ("reaction", "coefficient")]
    lengths = given["spacing"] if isinstance(given["spacing"], list | tuple) else ()
    robin = any(isinstance(side, Robin) for pair in given["boundary"] for side in pair)
    return robin or "mask" in given or "fixed" in given or any(hasattr(each, "shape") for each in (*arrays, *lengths))


def _cycle(arguments: argparse.Namespace, shape: tuple[int, ...], given: dict[str, Any], comm: Communicator) -> DomainCycle:
    """Return the cycle. Raises UsageError, in all processes."""
    from ..domains.cycle import DomainCycle
    from ..domains.problem import DomainProblem

    kind = arguments.cycle.upper()
    if getattr(arguments, "order", 2) != 2:
        raise UsageError("several processes have no --order 4; leave it out, or mpiexec")
    if _varies(given):
        options.refuse_slots(arguments)
        smoother = "auto" if arguments.smoother == "tuned" else arguments.smoother
        with user_errors():
            problem = DomainProblem(shape, comm, **given)
            return DomainCycle(problem, comm, cycle="auto" if kind in ("V", "AUTO") else kind, smoother=smoother)
    with user_errors():
        slots = {name: getattr(arguments, name) for name in ("pre", "post", "restriction", "prolongation")}
        chosen = options.smoother_of(arguments.smoother, arguments.omega)
        return DomainCycle(options.problem_of(arguments, shape), comm, cycle=kind, smoother=chosen, **slots)


def _refuse_others(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that several processes have not."""
    ours = ("stack", "plot", "plot_history", "plot_hierarchy", "report", "array", "device")
    for name in ours:
        if getattr(arguments, name, None):
            raise UsageError(f"several processes have no --{name.replace('_', '-')}; leave it out, or mpiexec")
    if arguments.output == "-" or arguments.rhs == "-":
        raise UsageError("several processes read and write files; give names in place of -")


def _block(arguments: argparse.Namespace, f: NDArray[Any], cycle: DomainCycle) -> NDArray[Any]:
    from ..stencil.grid import real_array

    with user_errors(f"{arguments.rhs}: "):
        return real_array(f[cycle.local].copy(), "f")


def _watch(arguments: argparse.Namespace, block: NDArray[Any], comm: Communicator) -> AbstractContextManager[Any]:
    from .solve import watch_of

    return watch_of(arguments, block) if comm.rank == 0 else nullcontext()


def _solved(arguments: argparse.Namespace, cycle: DomainCycle, block: NDArray[Any], watch: Any) -> Solution:
    from ..domains.communicator import together

    names = ("rtol", "atol", "maxiter", "start", "accelerate", "compatibility", "precision")
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    if arguments.u0 is not None:
        given["u0"] = together(cycle.comm, lambda: _block_of(arguments.u0, "u0", cycle.shape, cycle.local), *ERRORS)
    with user_errors():
        return cycle.solve(block, raise_on_failure=False, callback=watch, threads=arguments.threads, **given)


def _write(arguments: argparse.Namespace, cycle: DomainCycle, solution: Solution) -> list[str]:
    """Write u, each process its rows, into a new file, which takes the place of an old one when it is whole."""
    import numpy as np

    from ..domains.communicator import together

    if arguments.output is None or solution.u is None:
        return []
    path, comm = checked_output(arguments.output), cycle.comm
    unfinished = path.with_name(f"{path.name}.unfinished")

    def begin() -> None:
        if comm.rank == 0:
            np.lib.format.open_memmap(unfinished, mode="w+", dtype=solution.u.dtype, shape=cycle.shape).flush()

    def fill() -> None:
        whole = np.lib.format.open_memmap(unfinished, mode="r+")
        whole[cycle.local] = solution.u
        whole.flush()

    def end() -> None:
        if comm.rank == 0:
            os.replace(unfinished, path)

    try:
        for step in (begin, fill, end):
            together(comm, step, OSError)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UsageError(f"{path}: {error.strerror or error}") from None
    return [arguments.output]


def _report(
    arguments: argparse.Namespace, cycle: DomainCycle, block: NDArray[Any], solution: Solution, stopwatch: Stopwatch,
    written: list[str],
) -> None:  # fmt: skip
    """Print the report, in the first process, about the whole."""
    from .solve import Run, facts_of, report

    comm = cycle.comm
    u = solution.u
    known = None if u is None else u[u == u]  # NaN may stand where --outside gives nothing, and no unknown needs it
    ranges = comm.allgather(None if known is None else [float(known.min(initial=inf)), float(known.max(initial=-inf))])
    if comm.rank != 0:
        return
    facts = facts_of(Run(arguments, block, cycle.serial, solution, stopwatch.seconds), written)  # type: ignore[arg-type]
    facts["range"] = None if None in ranges else [min(low for low, _ in ranges), max(high for _, high in ranges)]
    facts["problem"]["title"] += ", coefficients that vary" if cycle.problem.varies else ""
    facts["processes"] = comm.size
    facts["cycle"]["title"] += f", on {comm.size} processes"
    show(facts, arguments.json, report, sys.stdout)
    if not solution.converged:
        print(f"unigrid: {solution.reason}: {solution.reason.text} {GUIDE}", file=sys.stderr)
