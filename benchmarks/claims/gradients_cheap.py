"""Claim: with tensors, forward and backward take at most 2.3 times the forward, at most 0.1 ms more than the NumPy call, and
memory that does not depend on the number of cycles.

-Laplace(u) = f on the unit square, zero Dirichlet values, random f in float64, to rtol 1e-8, with all threads; hierarchies are
kept between calls, the kernels compiled.

- Times: `unigrid.solve(f, ...).u` of tensors that need no gradient ("forward"), and the same of tensors that need one, followed
  by `u.backward(v)` with random v ("both"); the gradient is that of f, of a number c in c u, or of a coefficient, one value per
  cell (where cells hold the unknowns). In the rows "new", c or the coefficient is another one in every call, as in training,
  and both times contain its hierarchy.
- Overhead: the call with a tensor, without and with gradient, less the call with the same NumPy array. Beyond 255^2 its bar is
  an aim: a solve leaves nothing of the interpreter in the caches, and then the same work before and after it takes longer.
- Memory: of a fresh process whose forward and adjoint solve take 5 or 20 cycles (v = f, weak smoothing, the tolerance chosen
  accordingly): bytes that autograd keeps between the passes, the peak that NumPy allocates in both passes, and the peak of
  resident memory, which contains torch's. In arrays of the size of f.

Calls take turns; times are medians. torch's OpenMP workers spin for some time after each of its operators and take cores from
the solve that follows: here torch has one thread, by `torch.set_num_threads(1)`, and the solver all. The last rows,
"torch's threads", are without that, and without a bar.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from grids import title_of
from record import Verdict, arguments, at_most, interleaved_seconds, seconds, show, show_verdicts, table, write

import unigrid

NAME = "gradients_cheap"
CLAIM = (
    "forward and backward take at most 2.3 times the forward, a tensor at most 0.1 ms more than an array, and the backward pass"
    " memory that does not depend on the number of cycles"
)
RTOL = 1e-8
SIZES, SMALL_SIZES = (63, 255, 1023), (31,)
LONG_ENOUGH, MOST_SAMPLES, LEAST_SAMPLES = 2.0, 301, 9  # calls are repeated until they have taken 2 s
RATIO_BAR, OVERHEAD_BAR, OVERHEAD_BARS_UP_TO, MEMORY_BAR = 2.3, 0.1, 255, 0.5
FIXED = ("f", "reaction", "coefficient")
KINDS = (*FIXED, "reaction, new", "coefficient, new")
CYCLES = (5, 20)
WEAK: dict[str, Any] = {"smoother": "jacobi", "pre": 1, "post": 0, "start": "zero"}
Row = dict[str, Any]


def random(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, n)))


def samples_for(call: Callable[[], Any], small: bool) -> int:
    """Return how often to repeat a call."""
    call()
    return 3 if small else max(LEAST_SAMPLES, min(MOST_SAMPLES, math.ceil(LONG_ENOUGH / seconds(call))))


# --- times ------------------------------------------------------------------------------------------------------------


def parameters(what: str, n: int) -> Iterator[dict[str, Any]]:
    """Return the arguments of one call after another; the tensor to differentiate is named first."""
    for number in count() if what.endswith("new") else repeat(0):
        change = 1 + 1e-3 * number
        if what == "f":
            yield {"f": random(n, 0)}
        elif what.startswith("reaction"):
            yield {"reaction": torch.tensor(change, dtype=torch.float64), "f": random(n, 0)}
        else:
            x = (np.arange(n) + 0.5) / n
            smooth = 1 + 0.5 * np.outer(np.sin(3 * x), np.cos(2 * x))
            yield {"coefficient": torch.from_numpy(change * smooth), "f": random(n, 0), "centering": "cell"}


def times(what: str, n: int, small: bool) -> Row:
    """Return the medians of forward, and of forward and backward."""
    v = random(n, 1)
    fixed = None if what.endswith("new") else next(parameters(what, n))
    changing = parameters(what, n)

    def solve(needs_gradient: bool, given: dict[str, Any]) -> torch.Tensor:
        name = next(iter(given))
        leaf = given[name].detach().requires_grad_(needs_gradient)
        return unigrid.solve(**{**given, name: leaf}, rtol=RTOL).u

    def arguments_of_call() -> dict[str, Any]:
        return next(changing) if fixed is None else fixed

    calls = {
        "forward": lambda given: solve(False, given),
        "both": lambda given: solve(True, given).backward(v),
    }
    samples = samples_for(lambda: calls["both"](arguments_of_call()), small)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(samples):
        for name, call in calls.items():
            for _ in range(2):  # the first is not timed, so that neither depends on what the other left in the caches
                given = arguments_of_call()
                last = seconds(lambda call=call, given=given: call(given))
            taken[name].append(last)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return {"what": what, "n": n, "samples": samples, "seconds": medians, "ratio": medians["both"] / medians["forward"]}


def overhead(n: int, small: bool) -> Row:
    """Return the medians of the calls with an array and with tensors."""
    tensor = random(n, 0)
    array, leaf = tensor.numpy(), tensor.clone().requires_grad_()
    calls: dict[str, Callable[[], Any]] = {
        "array": lambda: unigrid.solve(array, rtol=RTOL),
        "tensor": lambda: unigrid.solve(tensor, rtol=RTOL),
        "with gradient": lambda: unigrid.solve(leaf, rtol=RTOL),
    }
    taken = interleaved_seconds(calls, samples_for(calls["tensor"], small))
    more = {name: (taken[name] - taken["array"]) * 1e3 for name in ("tensor", "with gradient")}
    return {"n": n, "seconds": taken, "overhead_ms": more}


# --- memory -----------------------------------------------------------------------------------------------------------


def tolerance(n: int, cycles: int) -> float:
    """Return the tolerance that so many cycles reach."""
    f = random(n, 0).numpy()
    history = unigrid.solve(f, rtol=1e-30, maxiter=cycles, raise_on_failure=False, **WEAK).residuals
    return history[-1] / history[0] * (1 + 1e-6)


def peaks(n: int, rtol: float) -> Row:
    """Return the memory of a forward and a backward pass in this process, in arrays of the size of f."""
    kept = [0]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[0] += tensor.nbytes
        return tensor

    def both(f: torch.Tensor, rtol: float) -> int:
        leaf = f.detach().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            solution = unigrid.solve(leaf, rtol=rtol, **WEAK)
        solution.u.backward(f)
        return solution.iterations

    both(random(7, 0), 0.5)
    f, kept[0] = random(n, 0), 0
    tracemalloc.start()
    held = resident("VmRSS", reset_peak=True)
    cycles = both(f, rtol)
    peak = resident("VmHWM")
    return {
        "n": n, "cycles": cycles, "kept_arrays": kept[0] / f.nbytes,
        "allocated_arrays": tracemalloc.get_traced_memory()[1] / f.nbytes,
        "resident_arrays": None if held is None or peak is None else (peak - held) / f.nbytes,
    }  # fmt: skip


def resident(field: str, reset_peak: bool = False) -> int | None:
    """Return the resident memory of this process, now (VmRSS) or at its peak (VmHWM); None where the system does not tell."""
    try:
        if reset_peak:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# --- processes --------------------------------------------------------------------------------------------------------

WORK: dict[str, Callable[..., Any]] = {"times": times, "overhead": overhead, "tolerance": tolerance, "peaks": peaks}


def in_fresh_process(requests: list[list[Any]], torch_threads: int | None = 1) -> list[Any]:
    """Return what functions of `WORK` return, from one process; requests are names and arguments."""
    command = [sys.executable, __file__, "--worker", json.dumps([torch_threads, requests])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{requests} failed:\n{done.stderr}")
    return list(json.loads(done.stdout.splitlines()[-1]))


def work(torch_threads: int | None, requests: list[list[Any]]) -> list[Any]:
    if torch_threads is not None:
        torch.set_num_threads(torch_threads)
    return [WORK[name](*given) for name, *given in requests]


# --- report -----------------------------------------------------------------------------------------------------------


def verdicts(timed: list[Row], overheads: list[Row], memories: list[Row]) -> list[Verdict]:
    """Return the bars."""
    found = [
        at_most(f"{title_of((row['n'],) * 2)}, {row['what']}: both passes / forward", row["ratio"], RATIO_BAR) for row in timed
    ]
    for row in overheads:
        for name, more in row["overhead_ms"].items():
            what = f"{title_of((row['n'],) * 2)}, {name}: more than the array, ms"
            found.append(Verdict(what, more, OVERHEAD_BAR, aim=row["n"] > OVERHEAD_BARS_UP_TO))
    few, many = memories
    for name in ("kept", "allocated", "resident"):
        if few[f"{name}_arrays"] is not None:
            more = many[f"{name}_arrays"] - few[f"{name}_arrays"]
            found.append(at_most(f"{many['cycles']} cycles: arrays {name}, more than of {few['cycles']}", more, MEMORY_BAR))
    return found


def times_text(rows: list[Row], note: str = "") -> str:
    """Return the table of times."""
    lines = [
        [
            title_of((row["n"],) * 2),
            row["what"] + note,
            *(row["seconds"][name] * 1e3 for name in ("forward", "both")),
            row["ratio"],
        ]
        for row in rows
    ]
    return table(["grid", "gradient of", "forward ms", "both ms", "both/forward"], lines)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(work(*json.loads(sys.argv[2]))))
        return
    options = arguments(__doc__)
    sizes = SMALL_SIZES if options.small else SIZES
    largest = sizes[-1]
    requests = [["times", what, n, options.small] for n in sizes for what in KINDS]
    requests += [["overhead", n, options.small] for n in sizes] + [["tolerance", largest, cycles] for cycles in CYCLES]
    answers = in_fresh_process(requests)
    timed, (*overheads, few, many) = answers[: len(sizes) * len(KINDS)], answers[len(sizes) * len(KINDS) :]
    fixed = FIXED[:1] if options.small else FIXED
    with_threads = in_fresh_process([["times", what, largest, options.small] for what in fixed], torch_threads=None)
    with ThreadPoolExecutor() as pool:  # of processes, beside each other: nothing is timed
        memories = [
            row for rows in pool.map(lambda rtol: in_fresh_process([["peaks", largest, rtol]]), (few, many)) for row in rows
        ]
    show("medians")
    show(times_text(timed), end="\n\n")
    show(times_text(with_threads, ", torch's threads"), end="\n\n")
    lines = [[title_of((row["n"],) * 2), row["seconds"]["array"] * 1e3, *row["overhead_ms"].values()] for row in overheads]
    show(table(["grid", "array ms", "tensor: more ms", "with gradient: more ms"], lines), end="\n\n")
    show(f"memory of both passes, {title_of((largest,) * 2)}, in arrays of the size of f")
    lines = [[row["cycles"], *(row[f"{name}_arrays"] for name in ("kept", "allocated", "resident"))] for row in memories]
    show(table(["cycles", "kept by autograd", "peak of NumPy", "peak resident"], lines))
    found = verdicts(timed, overheads, memories)
    show_verdicts(found)
    result = {"rtol": RTOL, "times": timed, "torch_threads": with_threads, "overheads": overheads, "memory": memories}
    write(NAME, CLAIM, options, result, found)


if __name__ == "__main__":
    main()
