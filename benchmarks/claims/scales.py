"""Claim: two processes with a thread each keep up with two threads, and a model of messages predicts their times.

-Laplace(u) = f, zero Dirichlet values, one spacing, random f in float64, to the default tolerance, in full precision but where
"default" is stated (mixed on large grids). The grid lies on the processes in blocks of rows of the first axis
(`unigrid.DomainCycle`). `mpiexec -n 2` starts this file; in it, process 0 alone solves by `unigrid.StencilCycle` with one and
two threads, and in one block; each process solves a half of its own, without the other; then both solve the grid, in blocks.
All take turns; times are medians.

The model has five numbers: latency and bandwidth, from exchanges of 1 kB to 4 MB; the time of a sum; the time per level, from a
tiny grid; the time per unknown, from the halves, each process on its own, so that both share the memory as they do in blocks.
The messages of a solve are counted, and must be those of the algorithm. For more than two processes, 2 us and 10 GB/s of a
network are assumed, as are the arithmetic of the halves and no overlap: those points are modelled, not measured, and
their efficiency is beside one process whose memory is as busy.

Memory is the growth of what is resident, as the system counts it, in a first solve of a fresh process, f and u included.

Blocks across one axis alone limit scaling: halos, as deep as half-sweeps are many, do not become shorter as blocks get thinner,
coarse levels are whole on all processes as soon as a block is thinner than its halo, and every process computes on them.

`--only` does one part (a grid such as 4095^2, exchanges, memory, model), and keeps the others of an earlier run of the record.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import domain_model as model
from domain_model import Machine, box, layout_of, line_through
from grids import Shape, parse_shapes, title_of
from record import Verdict, at_least, at_most, parser, record_path, seconds, show, show_verdicts, table, write

import unigrid

NAME = "scales"
CLAIM = (
    "two processes with a thread each are at least 0.85 times as fast as two threads at 4095^2 and 255^3, each has its share "
    "of the memory, and a model of messages predicts their times within 20 %"
)
GRIDS, SMALL_GRIDS = ("2047^2", "4095^2", "127^3", "255^3"), ("127^2", "47^3")
BARRED = ("4095^2", "255^3")
THREADS_BAR, ALONE_BAR, TRIAD_BAR, MODEL_BAR, MEMORY_BAR = 0.85, 1.5, 1.6, 0.2, 1.15
MEMORY, SMALL_MEMORY, MEMORY_PROCESSES = ((2047, 2047), (4095, 4095)), ((511, 511),), 4
EXCHANGED = tuple(1 << power for power in range(10, 23))
TINY, TRIAD_SIZE = (63, 63), 4_000_000
MODELLED = tuple(1 << power for power in range(3, 13))
NETWORK_LATENCY, NETWORK_BANDWIDTH = 2e-6, 1e10
WELL = 0.8  # an efficiency
Row = dict[str, Any]


# --- in the processes that mpiexec starts -----------------------------------------------------------------------------


class Counted:
    """A communicator of mpi4py that counts what is sent."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.found = {"messages": 0, "bytes": 0, "gathers": 0, "sums": 0}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def Isend(self, array: Any, dest: int) -> Any:  # noqa: N802
        self.found["messages"] += 1
        self.found["bytes"] += array.nbytes
        return self._comm.Isend(array, dest=dest)

    def allgather(self, item: Any) -> Any:
        self.found["sums"] += 1
        return self._comm.allgather(item)

    def Allgatherv(self, *arrays: Any) -> None:  # noqa: N802
        self.found["gathers"] += 1
        self._comm.Allgatherv(*arrays)


def halved(shape: Shape) -> Shape:
    """Return the grid of one of two processes."""
    return (shape[0] // 2, *shape[1:])


def wait(comm: Any) -> None:
    """Wait for the other processes without using a core."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(1e-3)


def together(comm: Any, call: Callable[[], Any]) -> float:
    """Return the time from when all processes begin to when all have ended."""
    wait(comm)
    comm.Barrier()
    start = time.perf_counter()
    call()
    comm.Barrier()
    return time.perf_counter() - start


def by_first(comm: Any, call: Callable[[], Any]) -> float:
    """Return the time of a call of process 0, while the others sleep."""
    taken = seconds(call) if comm.rank == 0 else 0.0
    wait(comm)
    return taken


def times(comm: Any, shape: Shape, repeats: int) -> Row:
    """Return the times of one grid, and what a solve in blocks sends."""
    from mpi4py import MPI

    problem, half = box(shape), box(halved(shape))
    serial, block, halves = unigrid.StencilCycle(problem), unigrid.DomainCycle(problem, comm), unigrid.StencilCycle(half)
    alone, whole = unigrid.DomainCycle(half, MPI.COMM_SELF), unigrid.DomainCycle(problem, MPI.COMM_SELF)
    rng = np.random.default_rng(comm.rank)
    f, own, g = (rng.standard_normal(each) for each in (shape, block.local_shape, half.shape))
    full: dict[str, Any] = {"precision": "full", "threads": 1}
    calls: dict[str, tuple[Callable[..., float], Callable[[], Any]]] = {
        "one thread": (by_first, lambda: serial.solve(f, **full)),
        "two threads": (by_first, lambda: serial.solve(f, precision="full", threads=2)),
        "default, two threads": (by_first, lambda: serial.solve(f, threads=2)),
        "one block": (by_first, lambda: whole.solve(f, **full)),
        "half": (by_first, lambda: halves.solve(g, **full)),
        "half in a block": (by_first, lambda: alone.solve(g, **full)),
        "halves apart": (together, lambda: alone.solve(g, **full)),
        "two processes": (together, lambda: block.solve(own, **full)),
        "default, two processes": (together, lambda: block.solve(own, threads=1)),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, (timed, call) in calls.items():
            timed(comm, call)
            taken[name].append(timed(comm, call))
    counted = Counted(comm)
    solution = unigrid.DomainCycle(problem, counted).solve(own, **full)
    return {
        "seconds": {name: statistics.median(each) for name, each in taken.items()},
        "least_seconds": {name: min(each) for name, each in taken.items()},
        "iterations": solution.iterations, "half_iterations": alone.solve(g, **full).iterations,
        "counted": counted.found, "triad_gain": triad_gain(comm, repeats),
    }  # fmt: skip


def triad_gain(comm: Any, repeats: int) -> float:
    """Return how much faster two processes compute a = b + s c on arrays beyond all caches than one alone does."""
    import numba

    @numba.njit
    def triad(a: Any, b: Any, c: Any, s: float) -> None:
        for k in range(a.size):
            a[k] = b[k] + s * c[k]

    a, b, c = (np.ones(TRIAD_SIZE) for _ in range(3))
    triad(a, b, c, 3.0)
    alone = min(by_first(comm, lambda: triad(a, b, c, 3.0)) for _ in range(max(5, repeats)))
    return 2.0 * alone / min(together(comm, lambda: triad(a, b, c, 3.0)) for _ in range(max(5, repeats)))


def exchanges(comm: Any, repeats: int) -> Row:
    """Return the seconds of exchanges by size, of a sum of one number, and of a level of a tiny grid."""
    other, found = 1 - comm.rank, []
    for size in EXCHANGED:
        sent, received = np.ones(size, np.uint8), np.empty(size, np.uint8)

        def exchange(sent: Any = sent, received: Any = received) -> None:
            requests = [comm.Irecv(received, source=other), comm.Isend(sent, dest=other)]
            for request in requests:
                request.Wait()

        found.append(several(comm, exchange, repeats))
    tiny, f = unigrid.StencilCycle(box(TINY)), np.random.default_rng(0).standard_normal(TINY)
    levels = model.visited(model.Layout(1, 0, (), tuple(math.prod(level.problem.shape) for level in tiny.levels)), 3)[1]
    solves = [by_first(comm, lambda: tiny.solve(f, precision="full", threads=1)) for _ in range(5 * repeats)]
    return {
        "sizes": EXCHANGED, "seconds": found, "sum": several(comm, lambda: comm.allgather(1.0), repeats),
        "level": statistics.median(solves) / levels,
    }  # fmt: skip


def several(comm: Any, call: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of a call among many of all processes."""
    taken = []
    for _ in range(5 * repeats):
        comm.Barrier()
        taken.append(seconds(lambda: [call() for _ in range(10)]) / 10)
    return statistics.median(taken)


def memory(comm: Any, shape: Shape) -> Row:
    """Return the most bytes that became resident in any process in a first solve, f and u included."""

    def solved(shape: Shape) -> Any:
        cycle = unigrid.DomainCycle(box(shape), comm)
        return cycle.solve(np.random.default_rng(0).standard_normal(cycle.local_shape), precision="full", threads=1).u

    solved((127, 99))
    unigrid.clear_cache()
    comm.Barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held = resident("VmRSS")
    solved(shape)
    return {"peak": max(comm.allgather(resident("VmHWM") - held))}


def resident(field: str) -> int:
    """Return the bytes of this process that are resident, now (VmRSS) or at most (VmHWM), as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def child(text: str) -> None:
    """Do what the process that started mpiexec asks for; process 0 prints the answer."""
    from mpi4py import MPI

    comm, request = MPI.COMM_WORLD, json.loads(text)
    do = {"times": times, "exchanges": exchanges, "memory": memory}[request.pop("do")]
    if "shape" in request:
        request["shape"] = tuple(request["shape"])
    found = do(comm, **request)
    if comm.rank == 0:
        print(json.dumps(found))


# --- in the one that starts them --------------------------------------------------------------------------------------


def asked(processes: int, do: str, **request: Any) -> Row:
    """Start so many processes; return the answer of the first."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    mpiexec = shutil.which("mpiexec", path=folders)
    if mpiexec is None:
        raise SystemExit("this benchmark needs mpiexec: pip install mpi4py mpich")
    command = [mpiexec, "-n", str(processes), sys.executable, "-m", "mpi4py", __file__]
    done = subprocess.run([*command, "--child", json.dumps({"do": do, **request})], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{do} on {processes} processes failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measured(part: str, small: bool) -> Any:
    """Return what was measured of one part."""
    repeats = 1 if small else 7
    if part == "exchanges":
        return asked(2, "exchanges", repeats=repeats)
    if part == "memory":
        return [occupied(shape) for shape in (SMALL_MEMORY if small else MEMORY)]
    shape = parse_shapes(part)[0]
    return {"shape": shape, **asked(2, "times", shape=shape, repeats=repeats if math.prod(shape) > 3e6 else 3 * repeats)}


def occupied(shape: Shape) -> Row:
    """Return the memory of one process, and of each of several beside its share of that and what is gathered."""
    one, each = (asked(size, "memory", shape=shape)["peak"] for size in (1, MEMORY_PROCESSES))
    gathered = 3 * 8 * sum(layout_of(shape, MEMORY_PROCESSES).whole)  # f, b and u
    return {
        "shape": shape,
        "one": one,
        "each": each,
        "gathered": gathered,
        "over_share": each / (one / MEMORY_PROCESSES + gathered),
    }


def completed(row: Row, exchanged: Row) -> Row:
    """Return a row with ratios, and with what the model predicts."""
    taken, shape, half = row["seconds"], tuple(row["shape"]), halved(tuple(row["shape"]))
    latency, bandwidth = line_through(exchanged["sizes"], exchanged["seconds"])
    one, two = layout_of(half, 1), layout_of(shape, 2)
    unknown = model.unknown_seconds(one, row["half_iterations"], taken["halves apart"], exchanged["level"])
    machine = Machine(latency, bandwidth, exchanged["sum"], unknown, exchanged["level"])
    parts = model.seconds_of(two, row["iterations"], machine)
    counted = {name: count for name, count in model.traffic_of(two, row["iterations"]).items() if name != "exchanges"}
    together = taken["two processes"]
    return {
        **row, "over_two_threads": taken["two threads"] / together, "over_one_thread": taken["one thread"] / together,
        "weak": taken["half"] / together, "machine": asdict(machine), "modelled_parts": parts, "modelled_traffic": counted,
        "modelled": sum(parts.values()), "error": sum(parts.values()) / together - 1.0,
        "as_modelled": counted == row["counted"],
    }  # fmt: skip


def modelled(row: Row) -> list[Row]:
    """Return the efficiency of more processes, of one grid for all, and of as many rows for each."""
    shape, found = tuple(row["shape"]), []
    machine = Machine(**row["machine"])
    machine = replace(
        machine, latency=machine.latency + NETWORK_LATENCY, sum=machine.sum + NETWORK_LATENCY,
        bandwidth=min(machine.bandwidth, NETWORK_BANDWIDTH),
    )  # fmt: skip
    rows, *others = halved(shape)
    strong_one, weak_one = (
        sum(model.seconds_of(layout_of(each, 1), row["iterations"], machine).values()) for each in (shape, (rows, *others))
    )
    for size in MODELLED:
        for kind, each, alone in (
            ("strong", shape, strong_one / size), ("weak", ((rows + 1) * size - 1, *others), weak_one),
        ):  # fmt: skip
            try:
                parts = model.seconds_of(layout_of(each, size), row["iterations"], machine)
            except ValueError:  # blocks thinner than a halo
                continue
            efficiency = alone / sum(parts.values())
            found.append({"grid": title_of(shape), "kind": kind, "processes": size, "efficiency": efficiency, "parts": parts})
    return found


def verdicts(rows: list[Row], peaks: list[Row]) -> list[Verdict]:
    """Return the bars of what was measured."""
    found = []
    for row in rows:
        title = f"{title_of(tuple(row['shape']))}, two processes"
        if title_of(tuple(row["shape"])) in BARRED:
            found.append(at_least(f"{title} over two threads: speed", row["over_two_threads"], THREADS_BAR))
            if row["triad_gain"] >= TRIAD_BAR:
                found.append(at_least(f"{title} over one thread: speed", row["over_one_thread"], ALONE_BAR))
        if title_of(tuple(row["shape"])) in GRIDS:
            found.append(at_most(f"{title}: relative error of the modelled time", abs(row["error"]), MODEL_BAR))
        found.append(at_least(f"{title}: messages, bytes, gathers and sums as counted by hand", float(row["as_modelled"]), 1))
    for peak in (each for each in peaks if tuple(each["shape"]) in MEMORY):
        title = f"{title_of(tuple(peak['shape']))}, {MEMORY_PROCESSES} processes"
        found.append(at_most(f"{title}: peak memory over the share, with gathered levels", peak["over_share"], MEMORY_BAR))
    return found


def show_all(rows: list[Row], points: list[Row], parts: Row) -> None:
    """Print what was measured, then what was modelled."""
    names = (
        "one thread", "two threads", "two processes", "default, two threads", "default, two processes", "one block", "half",
        "halves apart",
    )  # fmt: skip
    show("measured: ms, medians; relative speeds of two processes with one thread each")
    lines = [
        [title_of(tuple(row["shape"])), row["iterations"], *(1e3 * row["seconds"][name] for name in names),
         row["over_two_threads"], row["over_one_thread"], row["weak"], row["triad_gain"]]
        for row in rows
    ]  # fmt: skip
    show(table(["grid", "cycles", *names, "to two threads", "to one thread", "weak", "triad gain"], lines))
    show("\ncounted per process and solve, and modelled for two processes: ms")
    kinds = ("arithmetic", "exchanges", "gathers", "sums")
    lines = [
        [title_of(tuple(row["shape"])), *row["counted"].values(), *(1e3 * row["modelled_parts"][kind] for kind in kinds),
         1e3 * row["modelled"], 1e3 * row["seconds"]["two processes"], f"{row['error']:+.0%}"]
        for row in rows
    ]  # fmt: skip
    show(table(["grid", "messages", "bytes", "gathers", "sums", *kinds, "modelled", "measured", "error"], lines))
    if "exchanges" in parts:
        latency, bandwidth = line_through(parts["exchanges"]["sizes"], parts["exchanges"]["seconds"])
        show(
            f"\nfitted: {1e6 * latency:.3g} us and {bandwidth / 1e9:.3g} GB/s per exchange; "
            f"{1e6 * parts['exchanges']['sum']:.3g} us per sum; {1e6 * parts['exchanges']['level']:.3g} us per level visited"
        )
    for row in parts.get("memory", []):
        megabytes = [row[name] / 1e6 for name in ("one", "each", "gathered")]
        show(
            "peak memory, {}: {:.1f} MB on one process, {:.1f} on each of {}, of them {:.2f} gathered levels".format(
                title_of(tuple(row["shape"])), *megabytes[:2], MEMORY_PROCESSES, megabytes[2]
            )
        )
    show("\nmodelled, not measured: parallel efficiency; - where blocks would be thinner than their halo")
    show("strong: the grid on P processes; weak: for each the rows that one of two processes has of the grid")
    cells = {(point["grid"], point["kind"], point["processes"]): point["efficiency"] for point in points}
    kinds_of = sorted({(point["grid"], point["kind"]) for point in points}, key=lambda each: each[::-1])
    lines = [
        [f"{grid}, {kind}", *(cells.get((grid, kind, size)) for size in MODELLED), falls(points, grid, kind)]
        for grid, kind in kinds_of
    ]
    show(table(["grid and P", *map(str, MODELLED), f"below {WELL} from"], lines))


def falls(points: list[Row], grid: str, kind: str) -> int | None:
    """Return the first number of processes with an efficiency that is not good."""
    sizes = [p["processes"] for p in points if (p["grid"], p["kind"]) == (grid, kind) and p["efficiency"] < WELL]
    return min(sizes, default=None)


def figure(rows: list[Row], points: list[Row]) -> Any:
    """Return the picture: large markers are measured, dashed lines are modelled."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from unigrid.plots import COLORS, MARKERS

    picture = Figure(figsize=(10.0, 4.6), layout="constrained")
    style: dict[str, Any] = {"linewidth": 1.2, "markersize": 4, "markerfacecolor": "white"}
    for axes, kind, title in zip(
        picture.subplots(1, 2, sharey=True), ("strong", "weak"), ("one grid for all", "as many rows for each"), strict=True
    ):
        for row, color, marker in zip(rows, COLORS, MARKERS, strict=False):
            name = title_of(tuple(row["shape"]))
            taken = row["seconds"]
            efficiency = row["weak"] if kind == "weak" else taken["one thread"] / taken["two processes"] / 2
            axes.plot([1, 2], [1.0, efficiency], marker, color=color, markersize=8, label=name)
            model = [(p["processes"], p["efficiency"]) for p in points if (p["grid"], p["kind"]) == (name, kind)]
            if model:
                axes.plot(*zip(*model, strict=True), marker + "--", **style, color=color)
        axes.axhline(WELL, color="0.6", linewidth=0.8)
        axes.set(
            xscale="log",
            xlabel="processes, one thread each",
            title=f"{kind} scaling: {title}",
            ylim=(0.0, 1.1),
            xlim=(0.8, 5500),
        )
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 8, 64, 512, 4096], ["1", "2", "8", "64", "512", "4096"])
    first = picture.axes[0]
    first.set_ylabel("parallel efficiency")
    handles, labels = first.get_legend_handles_labels()
    kinds = [
        Line2D([], [], color="0.3", marker="o", linestyle="", markersize=8),
        Line2D([], [], color="0.3", marker="o", linestyle="--", **style),
    ]
    picture.legend(
        [*handles, *kinds], [*labels, "measured", "modelled"], loc="outside lower center", ncols=len(labels) + 2, frameon=False
    )
    return picture


def main() -> None:
    options_of = parser(__doc__)
    options_of.add_argument("--child", help=argparse.SUPPRESS)
    options_of.add_argument("--only", metavar="PART", help="a grid, exchanges, memory or model; other parts stay as recorded")
    options = options_of.parse_args()
    if options.child:
        child(options.child)
        return
    grids = SMALL_GRIDS if options.small else GRIDS
    path = record_path(NAME, options)
    parts = json.loads(path.read_text())["parts"] if options.only and path.exists() else {}
    for part in ("exchanges", "memory", *grids):
        if options.only in (None, part):
            parts[part] = measured(part, options.small)
    rows = [completed(parts[grid], parts["exchanges"]) for grid in grids if grid in parts and "exchanges" in parts]
    points = [point for row in rows for point in modelled(row)] if options.only in (None, "model") else []
    show_all(rows, points, parts)
    found = verdicts(rows, parts.get("memory", []))
    show_verdicts(found)
    path = write(NAME, CLAIM, options, {"parts": parts, "rows": rows, "modelled": points}, found)
    figure(rows, points).savefig(path.with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    main()
