"""Claim: on one GPU, mgnet-256-Bl reaches 25 % model FLOP utilization, 96.0 % on CIFAR-10, 79.9 % on CIFAR-100, in 5 minutes.

Two parts, each of which can be run alone; earlier measurements that are not repeated stay in the record:

    speed       images per second of `unigrid.train` (protocol fast: bfloat16, channels_last, compiled; batch 512; data and
                augmentation on the device) with mgnet-256-Bl and with ResNet-18, on random images of CIFAR's size
    training    mgnet-256-Bl with protocol fast on all training images, three seeds per data set, the accuracy that of the last
                epoch, the test set read once; seconds are those of the whole call, compilation and test included

Model FLOP utilization is the number of floating-point operations of forward and backward pass that the model itself needs (2
per multiply-add, convolutions and matrix products only, counted by torch on the real model), times images per second, over the
peak: that of the data sheet if the device is known, otherwise that of a large bfloat16 matrix product in the same run, which is
also given.

    --only speed|training    one part                         --epochs N               of each training run
    --dataset NAME           only cifar10 or cifar100         --set NAME=VALUE ...     other fields of the protocol
    --seed N ...             only these seeds

A run of another protocol or on another device replaces all earlier runs on its data set. Without a GPU nothing is measured, and
the record holds the command that measures it. The small form uses a tiny net, the synthetic shapes and the CPU, and its numbers
mean nothing.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, at_least, at_most, parser, record_path, show, show_verdicts, table, versions, write

import unigrid
from unigrid.conv import MgNetConfig, ResNetConfig
from unigrid.training import DatasetError

NAME = "trains_on_a_gpu"
CLAIM = "mgnet-256-Bl on one GPU: 25 % model FLOP utilization; 96.0 % on CIFAR-10, 79.9 % on CIFAR-100, under 300 s per run"
UTILIZATION_BAR, SECONDS_BAR = 0.25, 300.0
ACCURACY_BARS = {"cifar10": 0.960, "cifar100": 0.799}
SEEDS = (0, 1, 2)
# Dense bfloat16 with float32 sums, FLOP per second, by a part of the device's name. Source: NVIDIA's data sheets.
DATA_SHEETS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "H100 PCIe": 756e12, "A100": 312e12}
MODELS = {"mgnet-256-Bl": MgNetConfig(features=256), "resnet18": ResNetConfig()}
SMALL_MODELS = {"mgnet-4-Bl": MgNetConfig(features=4), "resnet18, 4 channels": ResNetConfig(channels=4)}
COMMAND = f"UNIGRID_DATA=FOLDER python benchmarks/claims/{NAME}.py"


def options_of(command_line: list[str]) -> argparse.Namespace:
    """Return the options common to all benchmarks, and those of this one."""
    own = parser(__doc__)
    own.add_argument("--only", choices=("speed", "training"))
    own.add_argument("--dataset", choices=tuple(ACCURACY_BARS))
    own.add_argument("--seed", type=int, nargs="+", default=list(SEEDS))
    own.add_argument("--epochs", type=int)
    own.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    return own.parse_args(command_line)


def protocol_choices(options: argparse.Namespace) -> dict[str, Any]:
    """Return the changed fields of the protocol: `--set warmup=0.3 nesterov=False` as keywords."""
    choices: dict[str, Any] = {"epochs": options.epochs}
    for text in options.set:
        name, _, value = text.partition("=")
        try:
            choices[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):  # a word, such as one-cycle
            choices[name] = value
    return choices


def circumstances(device: str) -> dict[str, Any]:
    """Return device, date and versions of a row: a record may hold rows of several runs."""
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {"device": name, "date": datetime.now(UTC).date().isoformat(), "versions": versions() | {"cuda": torch.version.cuda}}


# --- speed


def flops_per_image(config: MgNetConfig | ResNetConfig, size: int, batch_size: int = 2) -> float:
    """Return the floating-point operations of forward and backward pass, counted without computing anything."""
    with torch.device("meta"):
        model, images = config.build(), torch.zeros(batch_size, config.in_channels, size, size)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return counter.get_total_flops() / batch_size


def matmul_flops(device: str, size: int, repeats: int) -> float:
    """Return FLOP per second of a product of two square bfloat16 matrices."""
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    rates = []
    for _ in range(3):  # the first one warms up
        wait()
        begin = time.perf_counter()
        for _ in range(repeats):
            a @ b
        wait()
        rates.append(2 * size**3 * repeats / (time.perf_counter() - begin))
    return max(rates)


def data_sheet(device: str) -> float | None:
    """Return FLOP per second by the data sheet; None for an unknown device or a slice of one."""
    return None if "MIG" in device else next((peak for name, peak in DATA_SHEETS.items() if name in device), None)


def random_images(count: int, size: int) -> Any:
    """Return training and test images of noise: the speed does not depend on their content."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 10
    return (images, labels), (images[:100], labels[:100])


def measure_speed(name: str, small: bool, device: str) -> dict[str, Any]:
    """Train for a few epochs; the first one, in which kernels are compiled, does not count."""
    config = (SMALL_MODELS if small else MODELS)[name]
    count, size, batch_size, epochs = (64, 8, 32, 2) if small else (50_000, 32, 512, 4)
    result = unigrid.train(
        random_images(count, size), config, "fast", epochs=epochs, batch_size=batch_size, learning_rate=1e-3, device=device,
        progress=False,
    )  # fmt: skip
    rate = statistics.median(row["images_per_second"] for row in result.history[1:])
    flops = flops_per_image(config, size)
    matmul = matmul_flops(device, *((128, 2) if small else (8192, 20)))
    row = {**circumstances(device), "model": name, "batch_size": batch_size, "images_per_second": rate}
    sheet = data_sheet(row["device"])
    return row | {
        "flops_per_image": flops,
        "flops_per_second": flops * rate,
        "matmul_flops_per_second": matmul,
        "data_sheet_flops_per_second": sheet,
        "utilization_of_matmul": flops * rate / matmul,
        "utilization_of_data_sheet": flops * rate / sheet if sheet else None,
    }


def utilization(row: dict[str, Any]) -> float:
    """Return the utilized share of the peak: that of the data sheet if it is known."""
    of_sheet = row["utilization_of_data_sheet"]
    return row["utilization_of_matmul"] if of_sheet is None else of_sheet


# --- training


def measure_training(dataset: str, seed: int, options: argparse.Namespace, device: str) -> dict[str, Any]:
    """Train by `unigrid.train`; return the outcome and the time of the whole call."""
    model, choices = next(iter(SMALL_MODELS if options.small else MODELS)), protocol_choices(options)
    small = {"subset": 256, **choices, "epochs": choices["epochs"] or 1} if options.small else choices
    begin = time.perf_counter()
    result = unigrid.train("shapes" if options.small else dataset, model, "fast", seed=seed, device=device, **small)
    return {
        **circumstances(device),
        "dataset": dataset,
        "synthetic": result.configuration["dataset"]["synthetic"],
        "model": model,
        "seed": seed,
        "test_accuracy": result.test_accuracy,
        "wall_seconds": time.perf_counter() - begin,
        "training_seconds": result.runs[0].seconds,
        "images_per_second": result.history[-1]["images_per_second"],
        "training_images": result.configuration["dataset"]["training_images"],
        "protocol": result.configuration["protocol"],
    }


# --- the record, which grows from call to call


def earlier(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return the rows in the record; those of a small run never mix with others."""
    path = record_path(NAME, options)
    record = json.loads(path.read_text()) if path.exists() else {}
    kept = record.get("small") == options.small
    return {part: record[part] if kept else [] for part in ("speeds", "runs")}


def with_speed(rows: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with a new one in place of that of the same model, without those of another device."""
    return [row for row in rows if row["model"] != new["model"] and row["device"] == new["device"]] + [new]


def with_run(rows: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows with a new run, keeping on its data set only comparable runs of other seeds."""

    def stays(row: dict[str, Any]) -> bool:
        alike = all(row[name] == new[name] for name in ("model", "protocol", "device"))
        return row["dataset"] != new["dataset"] or (alike and row["seed"] != new["seed"])

    return sorted([row for row in rows if stays(row)] + [new], key=lambda row: (row["dataset"], row["seed"]))


def verdicts(rows: dict[str, list[dict[str, Any]]]) -> list[Verdict]:
    """Return the bars; one that was not measured, or not with all seeds, has no number."""
    speeds = [row for row in rows["speeds"] if row["model"].startswith("mgnet")]
    found = [at_least("utilization", utilization(speeds[-1]) if speeds else None, UTILIZATION_BAR)]
    for dataset, bar in ACCURACY_BARS.items():
        runs = [row for row in rows["runs"] if row["dataset"] == dataset]
        complete = len(runs) >= len(SEEDS)
        accuracy = statistics.fmean(row["test_accuracy"] for row in runs) if complete else None
        found.append(at_least(f"{dataset}: test accuracy", accuracy, bar))
        longest = max(row["wall_seconds"] for row in runs) if complete else None
        found.append(at_most(f"{dataset}: seconds of the longest run", longest, SECONDS_BAR))
    return found


def save(options: argparse.Namespace, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Write the record, after every measurement, so that an interrupted run keeps its results."""
    found = verdicts(rows)
    missing = [verdict.what for verdict in found if verdict.measured is None]
    write(NAME, CLAIM, options, {**rows, "not_measured": missing, "command": COMMAND}, found)


def report(options: argparse.Namespace, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Show both tables, the bars, and the command that measures what is missing."""
    if options.small:
        show("a small run on the CPU with synthetic data: the numbers mean nothing")
    for device in sorted({row["device"] for part in rows.values() for row in part}):
        show(f"device: {device}")
    headings = ["bfloat16", "batch", "images per second", "TFLOP/s", "% of data sheet", "% of matmul", "bar %"]
    show(table(headings, [speed_cells(name, rows["speeds"]) for name in (SMALL_MODELS if options.small else MODELS)]))
    headings = ["last epoch", "seeds", "epochs", "test accuracy %", "std", "bar %", "longest run s", "allowed s"]
    show(table(headings, [training_cells(dataset, rows["runs"]) for dataset in ACCURACY_BARS]))
    found = verdicts(rows)
    show_verdicts(found)
    if any(verdict.measured is None for verdict in found):
        show(f"not measured (it needs a GPU and CIFAR; all seeds): {COMMAND}")


def speed_cells(model: str, rows: list[dict[str, Any]]) -> list[Any]:
    bar = 100 * UTILIZATION_BAR if model.startswith("mgnet") else None
    for row in rows:
        if row["model"] == model:
            sheet = row["utilization_of_data_sheet"]
            share = None if sheet is None else 100 * sheet
            tera = row["flops_per_second"] / 1e12
            return [
                model, row["batch_size"], row["images_per_second"], tera, share, 100 * row["utilization_of_matmul"], bar
            ]  # fmt: skip
    return [model, None, "not measured", None, None, None, bar]


def training_cells(dataset: str, rows: list[dict[str, Any]]) -> list[Any]:
    runs = [row for row in rows if row["dataset"] == dataset]
    bar = 100 * ACCURACY_BARS[dataset]
    if not runs:
        return [dataset, None, None, "not measured", None, bar, None, SECONDS_BAR]
    accuracies = [100 * row["test_accuracy"] for row in runs]
    spread = statistics.stdev(accuracies) if len(runs) > 1 else None
    name = f"{dataset} (synthetic shapes)" if runs[0]["synthetic"] else dataset
    longest, epochs = max(row["wall_seconds"] for row in runs), runs[0]["protocol"]["epochs"]
    return [name, len(runs), epochs, statistics.fmean(accuracies), spread, bar, longest, SECONDS_BAR]


def measure(options: argparse.Namespace, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Measure the parts chosen by the options; add the rows to the record one by one."""
    device = "cpu" if options.small else "cuda"
    if options.only != "training":
        for name in SMALL_MODELS if options.small else MODELS:
            rows["speeds"] = with_speed(rows["speeds"], measure_speed(name, options.small, device))
            save(options, rows)
    if options.only != "speed":
        for dataset in [options.dataset] if options.dataset else ACCURACY_BARS:
            for seed in options.seed:
                rows["runs"] = with_run(rows["runs"], measure_training(dataset, seed, options, device))
                save(options, rows)


def main() -> None:
    options = options_of(sys.argv[1:])
    rows = earlier(options)
    if options.small or torch.cuda.is_available():
        measure(options, rows)
    report(options, rows)
    save(options, rows)


if __name__ == "__main__":
    try:
        main()
    except DatasetError as error:
        raise SystemExit(str(error)) from None
