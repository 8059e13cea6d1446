"""Claim: trained on CIFAR-10, MgNet passes low frequencies, in A as well as in B, whereas the A of a solver is high-pass.

The symbol K^(theta) of a convolution is its response to a wave of frequency theta; its low share is the part of
sum |K^(theta)|^2 in |theta| < pi/2, the frequencies that the next grid resolves. For random weights it is 25 %. A filter with
at least 40 % is called low-pass, with at most 1/7 high-pass: then the mean energies of low and high frequencies differ by a
factor of two (`unigrid.analysis.KernelSymbol`). Of the same network, untrained and trained with protocol fast:

    A^l, B^l    the symbols of the operators and the extractors, by `unigrid.analysis.network_symbols`
    R, Pi       those of the restrictions, which sample afterwards: the high frequencies they pass are aliased

The claim holds if in every network every B^l is low-pass, every A^l has a low share of at least 1/3 (low frequencies then
have 1.5 times the mean energy of high ones), and every R and Pi has a larger one than untrained. These bars were set after
seeds 0 and 1 of the smaller network; its seed 2 and the larger network test them. Last come the slots of a solver: five
points, damped Jacobi, full weighting.

Real CIFAR-10 is read from UNIGRID_DATA or the user's cache (`unigrid train cifar10 --download` downloads it). Without it,
and in small, the networks are trained on the synthetic shapes, as noted in the record: then the claim is not tested.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_least, at_most, record_path, show, show_verdicts, table, write

import unigrid
from unigrid import plots
from unigrid.analysis import KernelSymbol, network_symbols
from unigrid.training import DatasetError, ImageData, load

NAME = "what_networks_smooth"
CLAIM = (
    "training on CIFAR-10 makes every B of MgNet low-pass and gives every A a low share of at least 1/3, whereas the A of a "
    "solver is high-pass"
)
LEAST_OF_A, LEAST_OF_B, MOST_OF_SOLVER = 1 / 3, 0.4, 1 / 7
RUNS = [("mgnet-16-Bl", seed, 10_000, 8) for seed in range(3)] + [("mgnet-32-Bl", 0, 25_000, 10)]
SMALL = [("mgnet-4-Bl", 0, 256, 1)]
SLOTS = ("A", "B", "R", "Pi")
Row = dict[str, Any]


def data(small: bool) -> ImageData:
    """Return CIFAR-10, or the synthetic shapes if it is missing."""
    if not small:
        try:
            return load("cifar10")
        except DatasetError as error:
            print(f"{error}\nthe synthetic shapes are used instead, which test no claim", file=sys.stderr)
    return load("shapes")


def transfer_symbols(model: unigrid.MgNet) -> Iterator[KernelSymbol]:
    """Yield the symbols of R and of Pi, level by level."""
    for number, level in enumerate(model.cycle.levels[:-1]):
        for name, slot in zip(("R", "Pi"), (level.restriction, level.state_transfer), strict=True):
            yield KernelSymbol(name, (number,), (slot.convolution.weight.detach().double().numpy(),))


def filters(model: unigrid.MgNet) -> dict[tuple[str, int], KernelSymbol]:
    """Return the symbols of a network by slot and level."""
    symbols = [*network_symbols(model), *transfer_symbols(model)]
    return {(symbol.slot, symbol.levels[0]): symbol for symbol in sorted(symbols, key=lambda symbol: SLOTS.index(symbol.slot))}


def solver_filters() -> list[KernelSymbol]:
    """Return the same slots of a textbook multigrid solver."""
    five_points = np.array([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
    jacobi = np.zeros((3, 3))
    jacobi[1, 1] = 0.8 / 4
    weighting = np.outer([1, 2, 1], [1, 2, 1]) / 16
    kernels = {"A": five_points, "B": jacobi, "R": weighting, "Pi": weighting}
    return [KernelSymbol(slot, (0,), (kernel[None, None],)) for slot, kernel in kernels.items()]


def learn(images: ImageData, name: str, seed: int, subset: int, epochs: int) -> tuple[unigrid.MgNet, Row]:
    """Train a network; return it, and the low shares of its filters before and after."""
    torch.manual_seed(seed)
    model = unigrid.create_model(name, len(images.classes), images.shape[0])
    before = filters(model)
    result = unigrid.train(images, model, "fast", seed=seed, subset=subset, epochs=epochs, device="cpu", progress=False)
    after = filters(model)
    shares = [
        {"slot": slot, "level": level, "before": before[slot, level].low_share, "after": symbol.low_share, "kind": symbol.kind}
        for (slot, level), symbol in after.items()
    ]
    row = {"model": name, "seed": seed, "images": subset, "epochs": epochs, "test_accuracy": result.test_accuracy}
    return model, {**row, "filters": shares, "configuration": result.configuration}


def holds(run: Row) -> bool:
    """Whether the claim holds of a network."""
    for row in run["filters"]:
        enough = {"A": row["after"] >= LEAST_OF_A, "B": row["kind"] == "low-pass"}
        if not enough.get(row["slot"], row["after"] > row["before"]):
            return False
    return True


def report(run: Row) -> None:
    """Show the shares of a network in percent, one row per filter."""
    title = f"{run['model']}, seed {run['seed']}: {run['epochs']} epochs of {run['images']:,} images"
    show(f"\n{title}, test accuracy {run['test_accuracy']:.1%}, {'as claimed' if holds(run) else 'not as claimed'}")
    cells = [
        [f"{row['slot']}, level {row['level']}", 100 * row["before"], 100 * row["after"], row["kind"]] for row in run["filters"]
    ]
    show(table(["filter", "low % before", "low % after", "kind"], cells))


def verdicts(runs: list[Row], solver: list[Row]) -> list[Verdict]:
    """Return the bars: the least share of each slot over all networks, the least gain of R and Pi, and the solver's A."""
    filters = [row for run in runs for row in run["filters"]]
    least = {slot: min(row["after"] for row in filters if row["slot"] == slot) for slot in "AB"}
    gain = min(row["after"] / row["before"] for row in filters if row["slot"] in ("R", "Pi"))
    return [
        at_least("A of all networks: smallest low share", least["A"], LEAST_OF_A),
        at_least("B of all networks: smallest low share", least["B"], LEAST_OF_B),
        at_least("R and Pi of all networks: smallest ratio of low shares, trained over untrained", gain, 1.0),
        at_most("A of a solver: low share", solver[0]["low_share"], MOST_OF_SOLVER),
    ]


def measure(options: argparse.Namespace) -> Row:
    """Train all networks, draw the symbols of the last one, and return the record."""
    images = data(options.small)
    show(f"{images!r}")
    runs = []
    for task in SMALL if options.small else RUNS:
        model, run = learn(images, *task)
        report(run)
        runs.append(run)
    solver = [{"slot": symbol.slot, "low_share": symbol.low_share, "kind": symbol.kind} for symbol in solver_filters()]
    show("\na solver")
    show(table(["filter", "low %", "kind"], [[row["slot"], 100 * row["low_share"], row["kind"]] for row in solver]))
    path = record_path(NAME, options).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(plots.plot_symbols(model), path)
    return {"synthetic": images.synthetic, "runs": runs, "solver": solver, "holds_of": [holds(run) for run in runs]}


def main() -> None:
    options = arguments(__doc__)
    result = measure(options)
    found = [] if result["synthetic"] else verdicts(result["runs"], result["solver"])
    show_verdicts(found)
    if result["synthetic"]:
        show("\nclaim: not tested, the data are synthetic")
    write(NAME, CLAIM, options, result, found)


if __name__ == "__main__":
    main()
