"""What the fields of protocol `fast` are worth: short trainings of an MgNet, each with one choice changed, or with several.

Of the 50,000 training images of CIFAR-10, 5,000 drawn with a fixed seed are the validation images; a trial trains on others and
is judged by the validation accuracy after its last epoch. The test images are dropped before anything begins: no choice can
depend on them. Channels grow with the level, and there are two budgets:

    short    16, 32, 64, 128 channels, 589,786 weights, 12,000 images, 4 epochs
    long     8, 16, 32, 64 channels, 148,594 weights, 45,000 images, 4 epochs: whether a gain lasts

It runs in pieces, as `claims/fewer_weights_as_good.py` does: every trial is a row of the record, and a call does those that are
missing. `--only PATTERN` chooses trials by name, `--seed` seeds, `--workers` how many run side by side. In small: the synthetic
shapes and a tiny network.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import machine, parser, record_path, show, table, versions, write
from side_by_side import side_by_side

import unigrid
from unigrid.conv import MgNetConfig
from unigrid.training import PROTOCOLS, ImageData, load

NAME = "recipe"
CLAIM = "the fields of protocol fast are worth what the table shows"
VALIDATION = 5_000
BASE = "fast"
MUON = {"optimizer": "muon", "scale_rate": False}
MUON_05 = {**MUON, "learning_rate": 0.05}
TRIALS: dict[str, dict[str, Any]] = {
    "fast": {},
    "muon, 0.05": MUON_05,
    "muon, 0.1": {**MUON, "learning_rate": 0.1},
    "muon, 0.02": {**MUON, "learning_rate": 0.02},
    "muon, 0.05, whitening": {**MUON_05, "whitening": True},
    "muon, 0.05, first size 16": {**MUON_05, "first_size": 16},
    "muon, 0.05, identity": {**MUON_05, "initialization": "identity"},
    "muon, 0.1, batch 256": {**MUON, "learning_rate": 0.1, "batch_size": 256},
    "muon, 0.05, decay 0.02": {**MUON_05, "weight_decay": 0.02},
    "muon, 0.05, cutout 8": {**MUON_05, "cutout": 8},
    "rate 0.2": {"learning_rate": 0.2},
    "rate 0.05": {"learning_rate": 0.05},
    "whitening": {"whitening": True},
    "first size 16": {"first_size": 16},
    "identity": {"initialization": "identity"},
}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The network and the images of a trial."""

    dataset: str
    config: MgNetConfig
    images: int
    epochs: int


BUDGETS = {
    "short": Budget("cifar10", MgNetConfig(features=(16, 32, 64, 128)), 12_000, 4),
    "long": Budget("cifar10", MgNetConfig(features=(8, 16, 32, 64)), 45_000, 4),
    "small": Budget("shapes", MgNetConfig(steps=(1, 1), features=4), 256, 1),
}


def without_test_images(data: ImageData) -> ImageData:
    """Return the training images alone, some of them, the validation images, in place of the test set."""
    count = min(VALIDATION, len(data.train) // 10)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    learned, judged = order[count:].sort().values, order[:count].sort().values
    return dataclasses.replace(data, train=data.train.subset(learned), test=data.train.subset(judged))


def run(task: tuple[str, str, int], threads: int) -> Row:
    """Do one trial, given by its budget, its name and its seed; return the row."""
    torch.set_num_threads(threads)
    spent, name, seed = task
    budget, choices = BUDGETS[spent], TRIALS[name]
    wall, cpu = time.perf_counter(), time.process_time()
    result = unigrid.train(
        without_test_images(load(budget.dataset)), budget.config, BASE, epochs=budget.epochs, subset=budget.images, seed=seed,
        device="cpu", progress=False, **choices,
    )  # fmt: skip
    return {
        "budget": spent,
        "trial": name,
        "seed": seed,
        "choices": choices,
        "validation_accuracy": result.test_accuracy,
        "train_loss": result.history[-1]["train_loss"],
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "threads": threads,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "protocol": unigrid.training.Protocol(**result.configuration["protocol"]).label,
        "model": result.configuration["model"],
        "training_images": result.configuration["dataset"]["training_images"],
        "versions": {key: value for key, value in versions().items() if key in ("unigrid", "python", "torch")},
    }


def rows_of(options: argparse.Namespace) -> list[Row]:
    """Return the rows in the record of this machine; those of a small run never mix with others."""
    path = record_path(NAME, options)
    record = json.loads(path.read_text()) if path.exists() else {"small": None}
    rows: list[Row] = record["rows"] if record["small"] == options.small else []
    return rows


def save(options: argparse.Namespace, new: list[Row]) -> list[Row]:
    """Add rows to the record, and return all."""
    rows = [*rows_of(options), *new]
    recipe = dataclasses.asdict(PROTOCOLS[BASE])
    write(NAME, CLAIM, options, {"base": recipe, "rows": rows})
    return rows


def report(rows: list[Row]) -> None:
    """Show the means over the seeds, and what each choice changes on the seeds that the base has, too."""
    for budget in BUDGETS:
        cells = []
        for name in TRIALS:
            runs, base = ([row for row in rows if (row["budget"], row["trial"]) == (budget, trial)] for trial in (name, "fast"))
            if runs:
                mean = statistics.fmean(100 * row["validation_accuracy"] for row in runs)
                pairs = [(one, other) for one in runs for other in base if one["seed"] == other["seed"]]
                changes = [100 * (one["validation_accuracy"] - other["validation_accuracy"]) for one, other in pairs]
                change = f"{statistics.fmean(changes):+.2f}" if changes else None
                cpu = round(statistics.fmean(row["cpu_seconds"] for row in runs))
                cells.append([name, len(runs), f"{mean:.2f}", change, cpu])
        if cells:
            show(f"\n{budget}")
            show(table(["trial", "seeds", "validation %", "change, points", "CPU s"], cells))


def main() -> None:
    own = parser(__doc__)
    own.add_argument("--only", metavar="PATTERN", default="*", help="trials by name, with wildcards")
    own.add_argument("--seed", type=int, nargs="+", default=[0])
    own.add_argument("--workers", type=int, metavar="N", default=machine()["cores"])
    own.add_argument("--budget", choices=("short", "long"), default="short")
    own.add_argument("--report", action="store_true", help="do no trial")
    options = own.parse_args()
    budget = "small" if options.small else options.budget
    done = {(row["budget"], row["trial"], row["seed"]) for row in rows_of(options)}
    chosen = [(budget, name, seed) for seed in options.seed for name in TRIALS if fnmatch.fnmatchcase(name, options.only)]
    missing = [] if options.report else [task for task in chosen if task not in done][: 2 if options.small else None]
    threads = max(machine()["cores"] // options.workers, 1)
    if missing:
        for task, row in side_by_side(run, missing, options.workers, threads):
            save(options, [row])
            print(f"{', '.join(map(str, task))}: {100 * row['validation_accuracy']:.2f} %", file=sys.stderr, flush=True)
    report(rows_of(options))
    save(options, [])


if __name__ == "__main__":
    main()
