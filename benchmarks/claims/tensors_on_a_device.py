"""Claim: a tensor on a GPU is solved there, to 1e-8 in as many iterations as on the CPU; seconds at 1023^2, 4095^2 and 255^3.

A random source, Dirichlet sides, rtol 1e-8, float64 and float32 (to 1e-4), a prepared cycle: eager operations of torch, and
half-cycles that torch compiles. With a coefficient that varies, smoothly from 0.1 to 1.9, black box multigrid and conjugate
gradients, operations are eager alone. "first" is the first solve, with the move of the tables and the compilation; "again" the
median of later ones, the device synchronized before and after. Residuals and iterations are those of the Solution.

Without a GPU nothing is measured, and the record says so. The small form runs on small tensors of the CPU, by the same backend,
and compiles nothing unless --compiled is given; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from grids import title_of
from record import Verdict, at_most, parser, seconds, show, show_verdicts, table, write

import unigrid

NAME = "tensors_on_a_device"
CLAIM = "a tensor on a GPU is solved where it lives, in at most one iteration more than on the CPU in full precision"
SHAPES, SMALL_SHAPES = ((1023, 1023), (4095, 4095), (255, 255, 255)), ((63, 63), (15, 15, 15))
RTOL = {"float64": 1e-8, "float32": 1e-4}
REPEATS, SMALL_REPEATS = 7, 2
COMMAND = f"python benchmarks/claims/{NAME}.py"
Row = dict[str, Any]


def device_name() -> str | None:
    """Return "cuda" or "mps", None without a GPU."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None


def title_of_device(device: str) -> str:
    """Return the name of a device."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def synchronized(call: Callable[[], Any], device: str) -> float:
    """Return the seconds of a call, those of the device included."""

    def complete() -> None:
        call()
        if device != "cpu":
            getattr(torch, device).synchronize()

    return seconds(complete)


def cycle_of(shape: tuple[int, ...], coefficient: str) -> unigrid.StencilCycle | unigrid.GalerkinCycle:
    """Return the cycle for a constant coefficient, or for one that varies."""
    if coefficient == "constant":
        return unigrid.StencilCycle(unigrid.Poisson(shape))

    def wavy(*x: np.ndarray) -> np.ndarray:
        return 1.0 + 0.9 * math.prod(np.sin(7.0 * each) for each in x)

    return unigrid.GalerkinCycle(unigrid.Poisson(shape, coefficient=wavy))


def measured(shape: tuple[int, ...], coefficient: str, precision: str, backend: str, device: str, repeats: int) -> Row:
    """Return times, residual and iterations of one grid."""
    f = torch.from_numpy(np.random.default_rng(0).standard_normal(shape)).to(getattr(torch, precision)).to(device)
    cycle, found = cycle_of(shape, coefficient), []
    expected = cycle.solve(f.cpu().numpy(), rtol=RTOL[precision], precision="full").iterations

    def solve() -> None:
        found[:] = [cycle.solve(f, rtol=RTOL[precision], backend=backend)]

    first = synchronized(solve, device)
    again = statistics.median(synchronized(solve, device) for _ in range(repeats))
    residuals = found[0].residuals
    return {
        "grid": title_of(shape), "coefficient": coefficient, "unknowns": f.numel(), "precision": precision,
        "backend": backend, "first": first, "again": again, "iterations": found[0].iterations, "iterations_on_cpu": expected,
        "relative_residual": residuals[-1] / residuals[0],
    }  # fmt: skip


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Return the bar: iterations beyond those on the CPU."""
    more = max((row["iterations"] - row["iterations_on_cpu"] for row in rows), default=None)
    return [at_most("iterations beyond those on the CPU, at most", more, 1)]


def options_of(command_line: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    own = parser(__doc__)
    own.add_argument("--compiled", action="store_true", help="compile in the small form too")
    return own.parse_args(command_line)


def main() -> None:
    options = options_of()
    device = "cpu" if options.small else device_name()
    backends = ("torch",) if options.small and not options.compiled else ("torch", "torch-compiled")
    repeats = SMALL_REPEATS if options.small else REPEATS
    rows: list[Row] = []
    if device is not None:
        for shape in SMALL_SHAPES if options.small else SHAPES:
            for precision in ("float32",) if device == "mps" else tuple(RTOL):
                rows += [measured(shape, "constant", precision, backend, device, repeats) for backend in backends]
                rows.append(measured(shape, "varies", precision, "torch", device, repeats))
        show(f"seconds per solve on {title_of_device(device)}")
        headings = ("grid", "coefficient", "precision", "backend", "first", "again", "iterations", "relative_residual")
        show(
            table(
                [*headings[:4], "first s", "again s", "iterations", "residual"],
                [[row[h] for h in headings] for row in rows],
            )
        )
    else:
        show(f"not measured: there is no GPU here; where there is one, {COMMAND}")
    found = verdicts(rows)
    show_verdicts(found)
    write(NAME, CLAIM, options, {"device": device and title_of_device(device), "rtol": RTOL, "rows": rows}, found)


if __name__ == "__main__":
    main()
