"""What the fields of protocol `fast` are worth: short trainings of one MgNet, each with one choice changed, then with several.

The network has channels that grow with the level, 16, 32, 64, 128: 589,786 weights. Of the 50,000 training images of
CIFAR-10, 5,000 drawn with a fixed seed are the validation images; a trial trains on 12,000 of the others for 4 epochs and is
judged by the validation accuracy after the last one. The test images are dropped before anything begins: no choice can depend
on them.

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
TRIALS: dict[str, dict[str, Any]] = {
    "fast": {},
    "muon, 0.05": {**MUON, "learning_rate": 0.05},
    "first size 16": {"first_size": 16},
    "whitening": {"whitening": True},
    "muon, 0.02": {**MUON, "learning_rate": 0.02},
    "identity": {"initialization": "identity"},
    "muon, 0.1": {**MUON, "learning_rate": 0.1},
    "rate 0.2": {"learning_rate": 0.2},
    "first size 24": {"first_size": 24},
    "rate 0.05": {"learning_rate": 0.05},
    "batch 256": {"batch_size": 256},
    "warmup 0.3": {"warmup": 0.3},
    "average 0.995": {"average": 0.995},
    "cutout 8": {"cutout": 8},
}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The network and the images of a trial."""

    dataset: str
    config: MgNetConfig
    images: int
    epochs: int


SHORT = Budget("cifar10", MgNetConfig(features=(16, 32, 64, 128)), 12_000, 4)
SMALL = Budget("shapes", MgNetConfig(steps=(1, 1), features=4), 256, 1)


def without_test_images(data: ImageData) -> ImageData:
    """Return the training images alone, some of them, the validation images, in place of the test set."""
    count = min(VALIDATION, len(data.train) // 10)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    learned, judged = order[count:].sort().values, order[:count].sort().values
    return dataclasses.replace(data, train=data.train.subset(learned), test=data.train.subset(judged))


def run(task: tuple[str, int], budget: Budget, threads: int) -> Row:
    """Do one trial; return the row."""
    torch.set_num_threads(threads)
    (name, seed), choices = task, TRIALS[task[0]]
    wall, cpu = time.perf_counter(), time.process_time()
    result = unigrid.train(
        without_test_images(load(budget.dataset)), budget.config, BASE, epochs=budget.epochs, subset=budget.images, seed=seed,
        device="cpu", progress=False, **choices,
    )  # fmt: skip
    return {
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
    by_trial = {name: {row["seed"]: row for row in rows if row["trial"] == name} for name in TRIALS}
    cells = []
    for name, runs in by_trial.items():
        if runs:
            found = {seed: 100 * row["validation_accuracy"] for seed, row in runs.items()}
            base = {seed: 100 * row["validation_accuracy"] for seed, row in by_trial["fast"].items()}
            changes = [found[seed] - base[seed] for seed in found if seed in base]
            cpu = round(statistics.fmean(row["cpu_seconds"] for row in runs.values()))
            means = [f"{statistics.fmean(found.values()):.2f}", f"{statistics.fmean(changes):+.2f}" if changes else None]
            cells.append([name, len(runs), *means, cpu])
    show(table(["trial", "seeds", "validation %", "change, points", "CPU s"], cells))


def main() -> None:
    own = parser(__doc__)
    own.add_argument("--only", metavar="PATTERN", default="*", help="trials by name, with wildcards")
    own.add_argument("--seed", type=int, nargs="+", default=[0])
    own.add_argument("--workers", type=int, metavar="N", default=machine()["cores"])
    own.add_argument("--report", action="store_true", help="do no trial")
    options = own.parse_args()
    done = {(row["trial"], row["seed"]) for row in rows_of(options)}
    chosen = [(name, seed) for seed in options.seed for name in TRIALS if fnmatch.fnmatchcase(name, options.only)]
    missing = [] if options.report else [task for task in chosen if task not in done][: 2 if options.small else None]
    threads = max(machine()["cores"] // options.workers, 1)
    if missing:
        for (name, seed), row in side_by_side(run, missing, options.workers, SMALL if options.small else SHORT, threads):
            save(options, [row])
            print(f"{name}, seed {seed}: {100 * row['validation_accuracy']:.2f} %", file=sys.stderr, flush=True)
    report(rows_of(options))
    save(options, [])


if __name__ == "__main__":
    main()
