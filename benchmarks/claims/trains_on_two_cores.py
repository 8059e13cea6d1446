"""Claim: MgNet trains on CIFAR-10 without a GPU: to 45 % in a minute, to 85 % in half an hour, twice as fast as a plain loop.

Three parts, all on real CIFAR-10 (from UNIGRID_DATA or the user's cache; `unigrid train cifar10 --download` downloads it), with
the seeds given in the record and the test set read once, after the last epoch:

    minute       mgnet-16-Bl, 10,000 training images, protocol fast
    half-hour    mgnet-32-Bli, all 50,000 training images, protocol fast, as a user would call it
    speed        images per second of `unigrid.train` beside a plain loop over the same network: data in memory as contiguous
                 float32, eager, SGD with foreach, no DataLoader, no augmentation. The loops take turns, each in a fresh
                 process, so that neither uses memory mapped by the other; the second of two epochs counts

`--only PART` measures one part again and leaves the others of the record as they are. The small form uses the
synthetic shapes, and its accuracies mean nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, at_least, at_most, parser, record_path, show, show_verdicts, table, write

import unigrid
from unigrid.training import load

NAME = "trains_on_two_cores"
CLAIM = "on two CPU cores: 45 % in 60 s, 85 % in 30 minutes, and at least twice the images per second of a plain loop"
BARS = {"minute": (0.45, 60.0), "half-hour": (0.85, 1800.0)}
SPEED_BAR = 2.0
PROTOCOL = "fast"
EPOCHS = 2  # of the comparison of speeds; the second one counts


def plain_loop(dataset: str, model: str, images: int, seed: int) -> float:
    """Return images per second of the simplest training loop."""
    data = load(dataset)
    torch.manual_seed(seed)
    network = unigrid.create_model(model, len(data.classes), data.shape[0])
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    inputs = ((data.train.images[:images].float() / 255 - mean) / std).contiguous()
    labels = data.train.labels[:images]
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, foreach=True)
    batch_size = unigrid.training.PROTOCOLS[PROTOCOL].batch_size
    for _ in range(EPOCHS):
        begin = time.perf_counter()
        for chosen in torch.randperm(images).split(batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
    return images / (time.perf_counter() - begin)


def our_loop(dataset: str, model: str, images: int, seed: int) -> float:
    """Return images per second of `unigrid.train`, augmentation and averaged weights included."""
    result = unigrid.train(dataset, model, PROTOCOL, epochs=EPOCHS, subset=images, seed=seed, device="cpu", progress=False)
    return result.history[-1]["images_per_second"]


def in_fresh_process(loop: Callable[..., float], *task: Any) -> float:
    """Return the result of a loop that runs in a Python process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(loop, *task).result()


def compare_speeds(dataset: str, model: str, images: int, repeats: int) -> dict[str, Any]:
    """Return images per second of both loops, measured in turns, and the median of the ratios."""
    ours, plain = [], []
    for seed in range(repeats):
        ours.append(in_fresh_process(our_loop, dataset, model, images, seed))
        plain.append(in_fresh_process(plain_loop, dataset, model, images, seed))
    ratio = statistics.median(fast / slow for fast, slow in zip(ours, plain, strict=True))
    return {"model": model, "images": images, "unigrid": ours, "plain": plain, "ratio": ratio, "bar": SPEED_BAR}


def learn(dataset: str, model: str, **choices: Any) -> dict[str, Any]:
    """Train by `unigrid.train`; return the outcome and the time of the whole call."""
    begin = time.perf_counter()
    result = unigrid.train(dataset, model, PROTOCOL, device="cpu", **choices)
    return {
        "model": model,
        "parameters": sum(parameter.numel() for parameter in result.model.parameters()),
        "wall_seconds": time.perf_counter() - begin,
        "training_seconds": result.runs[0].seconds,
        "test_accuracy": result.test_accuracy,
        "configuration": result.configuration,
        "history": result.history,
    }


def measure(part: str, small: bool) -> Any:
    """Return the record of one part."""
    tiny: dict[str, Any] = {"epochs": 1, "subset": 512}
    match part, small:
        case "minute", False:
            return learn("cifar10", "mgnet-16-Bl", subset=10_000, epochs=8)
        case "half-hour", False:
            return learn("cifar10", "mgnet-32-Bli")
        case "speed", False:
            return [compare_speeds("cifar10", model, 4_000, 5) for model in ("mgnet-16-Bl", "mgnet-32-Bli")]
        case "speed", True:
            return [compare_speeds("shapes", "mgnet-8-Bl", 512, 1)]
        case _:
            return learn("shapes", "mgnet-8-Bl" if part == "minute" else "mgnet-8-Bli", **tiny)


def verdicts(parts: dict[str, Any]) -> list[Verdict]:
    """Return the bars of both trainings, and of the speed of the smaller network."""
    found = []
    for name, (accuracy, seconds) in BARS.items():
        run = parts[name]
        found.append(at_least(f"{name}, {run['model']}: test accuracy", run["test_accuracy"], accuracy))
        found.append(at_most(f"{name}, {run['model']}: seconds in total", run["wall_seconds"], seconds))
    speed = parts["speed"][0]
    return [*found, at_least(f"speed over a plain loop, {speed['model']}", speed["ratio"], SPEED_BAR)]


def report(parts: dict[str, Any]) -> None:
    """Show the tables of all parts."""
    rows = []
    for name, (accuracy, seconds) in BARS.items():
        run = parts[name]
        epochs, reached = len(run["history"]), 100 * run["test_accuracy"]
        rows.append([f"{name}: {run['model']}", epochs, run["wall_seconds"], seconds, reached, 100 * accuracy])
    show(table(["run", "epochs", "seconds in total", "allowed", "test accuracy %", "bar %"], rows))
    cells = [
        [speed["model"], statistics.median(speed["unigrid"]), statistics.median(speed["plain"]), speed["ratio"], SPEED_BAR]
        for speed in parts["speed"]
    ]
    show(table(["images per second", "unigrid.train", "plain loop", "ratio", "bar"], cells))


def main() -> None:
    own = parser(__doc__)
    own.add_argument("--only", choices=[*BARS, "speed"], help="measure one part again")
    options = own.parse_args()
    path = record_path(NAME, options)
    earlier = json.loads(path.read_text()) if options.only and path.exists() else {"small": None}
    parts: dict[str, Any] = earlier["parts"] if earlier["small"] == options.small else {}
    for part in [options.only] if parts else ["minute", "speed", "half-hour"]:
        parts[part] = measure(part, options.small)
        parts[f"{part} measured"] = datetime.now(UTC).date().isoformat()
    show("the synthetic shapes, tiny" if options.small else "CIFAR-10, 50,000 + 10,000 images")
    report(parts)
    found = verdicts(parts)
    show_verdicts(found)
    write(NAME, CLAIM, options, {"parts": parts, "synthetic": options.small}, found)


if __name__ == "__main__":
    main()
