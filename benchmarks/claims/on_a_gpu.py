"""Claim: on a GPU a solve runs at a large part of the memory's bandwidth: 8191^2 at 5 billion unknowns per second, to 1e-8.

A random source, Dirichlet sides, rtol 1e-8 (float32: 1e-4), a prepared cycle, everything on the device; the minimum of several
solves, the device synchronized before and after. Stages of less than 9 minutes each, with a record of its own, `on_a_gpu-NAME`:

    squares, cubes    float64, mixed and float32; copy and triad of the card in the same run
    coefficients      a coefficient that varies smoothly from 0.1 to 1.9
    bytes             a V(2,2), by its seconds and the bandwidth of the copy, in bytes per unknown against the model
    rivals            operations of torch, what torch.compile makes of them, sine transforms by torch.fft in two forms, and by
                      CuPy where it is installed

The model counts what kernels have to move: down a level in 2-D u and f are read and u written, 24 bytes in float64, and the
coarser right-hand side, 2; up the same; 8 % more for what neighboring programs load twice; a third of all of it for the coarser
levels. In 3-D, where a pass has room for one sweep, it is 132 bytes on the finest level, and a seventh for the coarser ones.

Without a GPU nothing is measured, and every row of the record is marked so. The small form runs on the CPU by the operations of
torch; its numbers mean nothing. For errors of memory access, before `python`: compute-sanitizer, and --largest 255 behind.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from gpu_rivals import FORMS, sine_solver
from grids import title_of
from record import Verdict, at_least, at_most, parser, seconds, show, show_verdicts, table, write

import unigrid

NAME = "on_a_gpu"
CLAIM = "on a GPU a solve runs at a large part of the memory's bandwidth"
COMMAND = f"python benchmarks/claims/{NAME}.py"
SQUARES, CUBES = [(n, n) for n in (1023, 2047, 4095, 8191, 16383)], [(n, n, n) for n in (127, 255, 511)]
STAGES: dict[str, list[tuple[int, ...]]] = {
    "squares": SQUARES, "cubes": CUBES, "coefficients": [*SQUARES[:1], SQUARES[2], *CUBES[:2]],
    "bytes": [SQUARES[2], SQUARES[3], CUBES[1]], "rivals": [SQUARES[0], SQUARES[2], SQUARES[3], *CUBES[:2]],
}  # fmt: skip
SMALL = {"squares": [(63, 63)], "cubes": [(15, 15, 15)], "coefficients": [(31, 31)], "bytes": [(63, 63)], "rivals": [(31, 31)]}
COMPILED = [SQUARES[0], SQUARES[2]]  # by torch.compile, which takes minutes on each grid
RTOL = {"float64": 1e-8, "mixed": 1e-8, "float32": 1e-4}
MODEL = {2: 4 / 3 * 1.08 * 52, 3: 8 / 7 * 132}  # bytes per unknown of a V(2,2) in float64
REPEATS, SMALL_REPEATS = 9, 2
COPIED, SMALL_COPIED = 1 << 27, 1 << 10  # numbers
Row = dict[str, Any]


def fastest(call: Callable[[], Any], device: str, repeats: int) -> float:
    """Return the fewest seconds of a call, those of the device included, after two that are not timed."""

    def complete() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    complete()
    complete()
    return min(seconds(complete) for _ in range(repeats))


def bandwidth(device: str, small: bool) -> dict[str, float]:
    """Return what the card's memory moves in a copy and in a triad, in bytes per second."""
    a, b, c = (torch.ones(SMALL_COPIED if small else COPIED, dtype=torch.float64, device=device) for _ in range(3))
    repeats, size = SMALL_REPEATS if small else REPEATS, 8 * len(a)
    copied, added = (
        fastest(lambda: a.copy_(b), device, repeats),
        fastest(lambda: torch.add(b, c, alpha=3.0, out=a), device, repeats),
    )
    return {"copy": 2 * size / copied, "triad": 3 * size / added}


def source(shape: tuple[int, ...], precision: str, device: str) -> torch.Tensor:
    """Return the random source of a grid."""
    dtype = torch.float32 if precision == "float32" else torch.float64
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape)).to(device, dtype)


def cycle_of(shape: tuple[int, ...], varies: bool) -> unigrid.StencilCycle | unigrid.GalerkinCycle:
    """Return the cycle for a constant coefficient, or for one that varies."""
    if not varies:
        return unigrid.StencilCycle(unigrid.Poisson(shape))

    def wavy(*x: np.ndarray) -> np.ndarray:
        return 1.0 + 0.9 * math.prod(np.sin(7.0 * each) for each in x)

    return unigrid.GalerkinCycle(unigrid.Poisson(shape, coefficient=wavy))


def solved(solver: str, shape: tuple[int, ...], precision: str, device: str, repeats: int) -> Row:
    """Return the seconds of a solve by unigrid's kernels, or by another backend of it."""
    f, found, backends = source(shape, precision, device), [], {"torch": "torch", "torch.compile": "torch-compiled"}
    backend = backends.get(solver, "torch" if device == "cpu" else None)
    options = {"backend": backend, "rtol": RTOL[precision], "precision": "mixed" if precision == "mixed" else "full"}
    cycle = cycle_of(shape, solver == "unigrid, coefficient varies")

    def solve() -> None:
        found[:] = [cycle.solve(f, **options)]

    taken, residuals = fastest(solve, device, repeats), found[0].residuals
    return {"seconds": taken, "iterations": found[0].iterations, "relative_residual": residuals[-1] / residuals[0]}


def one_cycle(shape: tuple[int, ...], device: str, repeats: int) -> Row:
    """Return the seconds of one V(2,2), from solves of 2 and of 6 cycles."""
    f, cycle = (
        source(shape, "float64", device),
        unigrid.StencilCycle(unigrid.Poisson(shape), smoother="red-black", pre=2, post=2),
    )
    options = {"backend": "torch" if device == "cpu" else None, "rtol": 1e-300, "start": "zero", "raise_on_failure": False}
    two, six = (
        fastest(lambda count=count: cycle.solve(f, maxiter=count, **options), device, repeats) for count in (2, 6)
    )  # fmt: skip
    return {"seconds": max(six - two, 1e-9) / 4}


def transformed(form: str, library: str, shape: tuple[int, ...], device: str, repeats: int) -> Row:
    """Return the seconds of a direct solve by sine transforms, and the residual that it leaves."""
    f = source(shape, "float64", device)
    if library == "torch":
        solve = sine_solver(f, form, torch)
        u = solve()
    else:
        import cupy  # type: ignore[import-not-found]

        solve = sine_solver(cupy.asarray(f), form, cupy)
        u = torch.as_tensor(solve(), device=device)
    h = shape[0] + 1
    left = f - 2 * f.ndim * h**2 * u
    for axis in range(f.ndim):
        rest = shape[axis] - 1
        left.narrow(axis, 1, rest).add_(u.narrow(axis, 0, rest), alpha=h**2)
        left.narrow(axis, 0, rest).add_(u.narrow(axis, 1, rest), alpha=h**2)
    residual = float(left.norm() / f.norm())
    return {"seconds": fastest(solve, device, repeats), "iterations": 1, "relative_residual": residual}


def planned(stage: str, small: bool) -> Iterator[tuple[tuple[int, ...], str, str, Callable[..., Row]]]:
    """Yield the rows of a stage: grid, precision, solver, and what measures it on a device, so many times."""
    for shape in (SMALL if small else STAGES)[stage]:
        if stage == "bytes":
            yield shape, "float64", "unigrid, V(2,2)", lambda *rest, s=shape: one_cycle(s, *rest)
        elif stage == "rivals":
            compiles = not small and shape in COMPILED
            for name in ("unigrid", "torch", *(["torch.compile"] if compiles else [])):
                yield shape, "float64", name, lambda *rest, s=shape, n=name: solved(n, s, "float64", *rest)
            for library in ("torch", *(["cupy"] if importlib.util.find_spec("cupy") else [])):
                for form in FORMS:
                    name = f"sine transform, {form}, {library}"
                    yield shape, "float64", name, lambda *rest, s=shape, f=form, lib=library: transformed(f, lib, s, *rest)
        else:
            name = "unigrid, coefficient varies" if stage == "coefficients" else "unigrid"
            for precision in ("float64", "float32") if stage == "coefficients" else RTOL:
                yield shape, precision, name, lambda *rest, s=shape, n=name, p=precision: solved(n, s, p, *rest)


def rows_of(stage: str, device: str | None, small: bool, largest: float, copy: float | None) -> list[Row]:
    """Return the rows of a stage, each marked with where it was measured, or that it was not."""
    rows = []
    for shape, precision, solver, measure in planned(stage, small):
        if max(shape) > largest:
            continue
        row: Row = {
            "stage": stage,
            "grid": title_of(shape),
            "unknowns": math.prod(shape),
            "precision": precision,
            "solver": solver,
        }
        if device is None:
            rows.append({**row, "measured": f"not measured; {COMMAND} --stage {stage}"})
            continue
        row |= {
            **measure(device, SMALL_REPEATS if small else REPEATS),
            "measured": "small form, on the CPU" if small else device,
        }
        row["unknowns_per_second"] = row["unknowns"] / row["seconds"]
        if stage == "bytes" and copy is not None:
            row |= {"bytes_per_unknown": row["seconds"] * copy / row["unknowns"], "model": MODEL[len(shape)]}
        rows.append(row)
    return rows


def verdicts(stage: str, rows: list[Row]) -> list[Verdict]:
    """Return the bars of a stage; what was not measured decides none."""

    def of(name: str, grid: str, precision: str = "float64", solver: str = "unigrid") -> Any:
        found = [row for row in rows if (row["grid"], row["precision"], row["solver"]) == (grid, precision, solver)]
        return found[0].get(name) if found else None

    def times(solver: str) -> float | None:
        ours, theirs = of("seconds", "8191^2"), of("seconds", "8191^2", solver=solver)
        return None if ours is None or theirs is None else theirs / ours

    speed = "unknowns_per_second"
    if stage == "squares":
        fast = of(speed, "8191^2")
        return [
            at_least("unknowns per second at 8191^2, float64", fast, 5e9), at_least("the same", fast, 9e9, aim=True),
            at_least("unknowns per second at 8191^2, mixed", of(speed, "8191^2", "mixed"), 8e9),
            at_most("seconds at 1023^2, float64", of("seconds", "1023^2"), 5e-4),
        ]  # fmt: skip
    if stage == "cubes":
        return [at_least("unknowns per second at 511^3, float64", of(speed, "511^3"), 3e9)]
    if stage == "coefficients":
        varies = of(speed, "4095^2", solver="unigrid, coefficient varies")
        return [at_least("unknowns per second at 4095^2, coefficient varies", varies, 2e9)]
    if stage == "bytes":
        moved = of("bytes_per_unknown", "8191^2", solver="unigrid, V(2,2)")
        return [at_most("bytes of a V(2,2) over the model's at 8191^2", moved and moved / MODEL[2], 2.0)]
    transforms = [each for form in FORMS for lib in ("torch", "cupy") if (each := times(f"sine transform, {form}, {lib}"))]
    return [
        at_least("times as fast as operations of torch at 8191^2", times("torch"), 20.0),
        at_least("times as fast as the best sine transform at 8191^2", min(transforms, default=None), 1.2),
    ]


def facts_of(device: str | None) -> Row:
    """Return the card, its driver and the versions of what runs on it."""
    versions = unigrid_versions()
    if device != "cuda":
        return {"device": device, **versions}
    return {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "driver": torch._C._cuda_getDriverVersion(),
        **versions,
    }


def unigrid_versions() -> Row:
    """Return the versions of the libraries for GPUs, None where they are not installed."""
    found = {name: importlib.util.find_spec(name) is not None for name in ("triton", "cupy")}
    return {name: importlib.import_module(name).__version__ if there else None for name, there in found.items()}


def run(stages: list[str], name: str, options: Any) -> None:
    """Run stages, print and record them."""
    device = "cpu" if options.small else "cuda" if torch.cuda.is_available() else None
    moved = None if device is None else bandwidth(device, options.small)
    rows, found = [], []
    for stage in stages:
        own = rows_of(stage, device, options.small, options.largest, moved and moved["copy"])
        rows += own
        found += [] if options.small else verdicts(stage, own)
    if device is None:
        show(f"not measured: there is no CUDA device here; where there is one, {COMMAND}")
    else:
        show(f"{facts_of(device)}\nbandwidth: copy {moved['copy']:.3g}, triad {moved['triad']:.3g} bytes per second\n")
    headings = ("stage", "grid", "precision", "solver", "seconds", "unknowns_per_second", "iterations", "relative_residual",
                "bytes_per_unknown", "model", "measured")  # fmt: skip
    show(table(headings, [[row.get(heading) for heading in headings] for row in rows]))
    show_verdicts(found)
    write(name, CLAIM, options, {**facts_of(device), "bandwidth": moved, "rtol": RTOL, "rows": rows}, found)


def main() -> None:
    own = parser(__doc__)
    own.add_argument("--stage", choices=STAGES, help="one stage alone; default all, one after the other")
    own.add_argument(
        "--largest", type=float, default=math.inf, metavar="N", help="leave out grids of more unknowns along an axis"
    )
    options = own.parse_args()
    if options.small:
        run([options.stage] if options.stage else list(STAGES), NAME, options)
        return
    for stage in [options.stage] if options.stage else STAGES:
        run([stage], f"{NAME}-{stage}", options)


if __name__ == "__main__":
    main()
