"""Claim: networks that follow multigrid need fewer weights than residual networks, and classify as well.

Real CIFAR-10 and CIFAR-100 (from UNIGRID_DATA or the user's cache; `unigrid train cifar10 --download` downloads it), one recipe
for all networks: protocol fast, 10 epochs of all 50,000 training images, the last epoch, the test set read once per run, two
seeds. MgNet has the same number of channels on every level; the widths of the residual networks are scaled, so that both
families have a like number of weights, at three scales:

    small        MgNet with 16 channels, residual networks with 4, 8, 16, 32: about 42,000 weights
    middle       32 channels; 8, 16, 32, 64: about 170,000 weights
    published    256 channels; 64, 128, 256, 512: 8.3 and 11.2 million weights, as published; on a GPU

"As well" is at most half a percentage point less, in the mean over the seeds. The bars: MgNet with one B per level, which has
three quarters of the weights, beside ResNet-18 and pre-act ResNet-18; and these with one A per level beside themselves.

It runs in pieces. Every finished run is a row of the record, written at once; a call measures what is missing, in an order
that fills the table evenly, and a run that was cut off begins anew. `--only PATTERN` chooses networks by name, `--scale` a
scale, `--report` measures nothing. On a CPU several runs go side by side, one thread each (`--workers`): 16 channels train on
more images per second that way than in one run with all threads. Wall seconds include whatever else the machine did
meanwhile, and pauses of the process; CPU seconds (time.process_time) are those of the run alone. The recipe's bfloat16 is
compared with float32 at the end of the small scale. In small: synthetic shapes and tiny networks; accuracies mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, at_least, machine, parser, record_path, show, show_verdicts, table, versions, write
from side_by_side import side_by_side

import unigrid
from unigrid.conv import MgNetConfig, ResNetConfig, list_models, named_model
from unigrid.plots import COLORS
from unigrid.training import PROTOCOLS, DatasetError, ImageProtocol

NAME = "fewer_weights_as_good"
CLAIM = "MgNet with three quarters of the weights, and residual networks with one A per level, classify as well as ResNet-18"
AS_WELL = -0.5  # percentage points
SEEDS = (0, 1)
CLASSES = {"cifar10": 10, "cifar100": 100, "shapes": 10}
RECIPE = {"protocol": "fast", "epochs": 10}
SMALL_RECIPE = {"protocol": "fast", "epochs": 1, "subset": 256}
COMMAND = f"UNIGRID_DATA=FOLDER python benchmarks/claims/{NAME}.py"
FAMILIES = {"MgNet": COLORS[0], "ResNet": COLORS[1], "pre-act ResNet": COLORS[2]}
SAME_HANDS = {"resnet18": 94.56, "preact-resnet18": 94.82}  # CIFAR-10, %, by the authors' released code, as MgNet's 96.00
Config = MgNetConfig | ResNetConfig
Row = dict[str, Any]


# --- networks


@dataclass(frozen=True)
class Network:
    """A network: its name in the tables, and its configuration, for whatever number of classes."""

    name: str
    config: Config

    @property
    def family(self) -> str:
        """A key of FAMILIES."""
        if isinstance(self.config, MgNetConfig):
            return "MgNet"
        return {"resnet": "ResNet", "pre-act": "pre-act ResNet"}[self.config.form]

    def for_data(self, dataset: str) -> Config:
        """Return the configuration with the classes of a data set."""
        return dataclasses.replace(self.config, num_classes=CLASSES[dataset])


def mgnet(channels: int, sharing: str, variant: str = "", **choices: Any) -> Network:
    """Return MgNet-<channels>-<sharing>, with other choices of its configuration as a variant."""
    name = f"mgnet-{channels}-{sharing}"
    return Network(f"{name}-{variant}" if variant else name, dataclasses.replace(named_model(name).config, **choices))


def residual(form: str, width: int, sharing: str = "") -> Network:
    """Return ResNet-18 or pre-act ResNet-18 with width, 2 width, 4 width and 8 width channels."""
    named = named_model(f"{form}18{sharing}")
    channels = (width, 2 * width, 4 * width, 8 * width)
    return Network(f"{form}18-{width}{sharing}", dataclasses.replace(named.config, channels=channels))


def residuals(width: int, *sharings: str) -> list[Network]:
    """Return ResNet-18 and pre-act ResNet-18 of one width in these versions."""
    return [residual(form, width, sharing) for sharing in sharings for form in ("resnet", "preact-resnet")]


SCALES = {
    "small": [
        mgnet(16, "Bl"), mgnet(16, "Bli"), *residuals(4, "", "-Al", "-AlBl", "-Bl"), mgnet(16, "shared"),
        mgnet(16, "Bl", "nonlinear", operator="nonlinear"),
        mgnet(16, "Bl", "chebyshev", semi_iteration="chebyshev"),
        mgnet(16, "Bl", "multistep", semi_iteration="multi-step"),
        mgnet(16, "Bli", "Pi0", state_transfer="zero"),
        mgnet(16, "Bli", "Pi2", state_transfer="channelwise"),
        mgnet(16, "Bl", "V", cycle="V"),
        *residuals(5, "-AlBl"), mgnet(32, "shared"),
    ],
    "middle": [mgnet(32, "Bl"), mgnet(32, "Bli"), *residuals(8, "", "-Al")],
    "published": [mgnet(256, "Bl"), mgnet(256, "Bli"), mgnet(256, "shared"), *residuals(64, "", "-Al", "-Bl", "-AlBl")],
    "tiny": [mgnet(4, "Bl"), *residuals(2, "", "-Al")],
}  # fmt: skip
DATASETS = {scale: ("shapes",) if scale == "tiny" else ("cifar10", "cifar100") for scale in SCALES}
IN_FLOAT32 = ("mgnet-16-Bl", "resnet18-4")  # the control, on CIFAR-10


def networks_of(scale: str) -> dict[str, Network]:
    """Return the networks of a scale by name."""
    return {network.name: network for network in SCALES[scale]}


def compared(scale: str) -> list[tuple[str, str]]:
    """Return the pairs of networks of the bars: fewer weights, and more."""
    ours = SCALES[scale][0].name
    plain = [each.name for each in SCALES[scale][1:] if each.config.operator_sharing == each.config.extractor_sharing == "step"]
    return [(ours, name) for name in plain] + [(f"{name}-Al", name) for name in plain]


@cache
def size_of(config: Config) -> tuple[int, int]:
    """Return weights, and multiply-adds of one image of 32 x 32, counted without computing anything."""
    with torch.device("meta"):
        model, image = config.build().eval(), torch.zeros(1, config.in_channels, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return sum(weight.numel() for weight in model.parameters()), counter.get_total_flops() // 2


# --- runs


@dataclass(frozen=True)
class Task:
    """One run: a network on a data set with a seed. `precision` is "recipe", or "float32" for the control."""

    scale: str
    network: str
    dataset: str
    seed: int
    precision: str = "recipe"

    def is_row(self, row: Row) -> bool:
        """Whether a row is the result of this run."""
        return all(row[name] == value for name, value in dataclasses.asdict(self).items())


def tasks(scale: str) -> Iterator[Task]:
    """Yield all runs of a scale in the order in which the table fills evenly."""
    for seed in SEEDS:
        for dataset in DATASETS[scale]:
            yield from (Task(scale, name, dataset, seed) for name in networks_of(scale))
    if scale == "small":
        yield from (Task(scale, name, "cifar10", seed, "float32") for seed in SEEDS for name in IN_FLOAT32)


def run(task: Task, threads: int, device: str) -> Row:
    """Train one network; return the row."""
    torch.set_num_threads(threads)
    config = networks_of(task.scale)[task.network].for_data(task.dataset)
    choices: dict[str, Any] = {**(SMALL_RECIPE if task.scale == "tiny" else RECIPE)}
    if task.precision == "float32":
        choices["mixed_precision"] = False
    wall, cpu = time.perf_counter(), time.process_time()
    result = unigrid.train(task.dataset, config, seed=task.seed, device=device, progress=False, **choices)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    weights, multiply_adds = size_of(config)
    return {
        **dataclasses.asdict(task),
        "weights": weights,
        "multiply_adds": multiply_adds,
        "test_accuracy": result.test_accuracy,
        "train_accuracy": result.history[-1]["train_accuracy"],
        "train_loss": result.history[-1]["train_loss"],
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "training_images": result.configuration["dataset"]["training_images"],
        "synthetic": result.configuration["dataset"]["synthetic"],
        "protocol": ImageProtocol(**result.configuration["protocol"]).label,
        "model": result.configuration["model"],
        "machine": machine(),
        "versions": {name: version for name, version in versions().items() if name in ("unigrid", "python", "torch")},
    }


def measure(options: argparse.Namespace, missing: list[Task]) -> None:
    """Do the runs, several side by side; add every row to the record when it is there."""
    device = "cuda" if torch.cuda.is_available() and not options.small else "cpu"
    threads = max(machine()["cores"] // options.workers, 1)
    for task, row in side_by_side(run, missing, options.workers, threads, device):
        save(options, [row])
        what = f"{task.network} on {task.dataset}, seed {task.seed}, {task.precision}"
        print(f"{what}: {100 * row['test_accuracy']:.2f} %, {row['wall_seconds']:.0f} s", file=sys.stderr, flush=True)


# --- the record, which grows from run to run


def rows_of(options: argparse.Namespace) -> list[Row]:
    """Return the rows in the record; those of a small run never mix with others, and those of another recipe are refused."""
    path = record_path(NAME, options)
    record = json.loads(path.read_text()) if path.exists() else {"small": None}
    if record["small"] != options.small:
        return []
    for name, value in recipe(options).items():
        if record["recipe"].get(name, value) != value:
            raise SystemExit(f"{path} has runs with {name}={record['recipe'][name]}, now it is {value}; take another --output")
    rows: list[Row] = record["rows"]
    return rows


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the protocol that all runs have in common."""
    choices = SMALL_RECIPE if options.small else RECIPE
    return dataclasses.asdict(PROTOCOLS[choices["protocol"]].with_choices(epochs=choices["epochs"]))


def save(options: argparse.Namespace, new: list[Row]) -> list[Row]:
    """Add rows to those that the record has by now, and write it. Another call may work on other runs meanwhile."""
    old = [row for row in rows_of(options) if not any(Task(**_key(each)).is_row(row) for each in new)]
    order = [task for scale in SCALES for task in tasks(scale)]
    rows = sorted([*old, *new], key=lambda row: order.index(Task(**_key(row))))
    result = {"recipe": recipe(options), "measured": shares(rows, options), "command": COMMAND, "rows": rows}
    write(NAME, CLAIM, options, result, verdicts(rows, options))
    return rows


def _key(row: Row) -> Row:
    return {field.name: row[field.name] for field in dataclasses.fields(Task)}


def scales_of(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the scales that the record is about."""
    return ("tiny",) if options.small else ("small", "middle", "published")


def shares(rows: list[Row], options: argparse.Namespace) -> dict[str, str]:
    """Return how many of the runs of every scale are there."""
    counts = {scale: (sum(row["scale"] == scale for row in rows), len(list(tasks(scale)))) for scale in scales_of(options)}
    return {scale: f"{done} of {all_runs} runs" for scale, (done, all_runs) in counts.items()}


def accuracies(rows: list[Row], scale: str, network: str, dataset: str, precision: str = "recipe") -> list[float]:
    """Return the test accuracies in % of one network on one data set, by seed."""
    found = {
        row["seed"]: 100 * row["test_accuracy"]
        for row in rows
        if Task(scale, network, dataset, row["seed"], precision).is_row(row)
    }
    return [found[seed] for seed in sorted(found)]


def verdicts(rows: list[Row], options: argparse.Namespace) -> list[Verdict]:
    """Return the bars; one whose networks do not have all seeds yet has no number."""
    found = []
    for scale in scales_of(options):
        for dataset in DATASETS[scale]:
            for fewer, more in compared(scale):
                ours, theirs = (accuracies(rows, scale, name, dataset) for name in (fewer, more))
                complete = len(ours) == len(theirs) == len(SEEDS)
                points = statistics.fmean(ours) - statistics.fmean(theirs) if complete else None
                found.append(at_least(f"{scale}, {dataset}, points of {fewer} over {more}", points, AS_WELL))
    return found


# --- report


def report(options: argparse.Namespace, rows: list[Row]) -> None:
    """Show one table per scale and data set, the control of the precision, the bars, and how to measure what is missing."""
    if options.small:
        show("a small run with synthetic data: the numbers mean nothing")
    headings = ["weights", "million multiply-adds", "seeds", "test accuracy %", "std", "wall s", "CPU s", "device"]
    for scale in scales_of(options):
        for dataset in DATASETS[scale]:
            show(f"\n{scale}, {dataset}")
            show(table(["network", *headings], [cells(rows, scale, network, dataset) for network in SCALES[scale]]))
    control = [control_cells(rows, name) for name in IN_FLOAT32]
    if any(row["precision"] == "float32" for row in rows):
        show("\nthe control: the recipe's bfloat16 beside float32, CIFAR-10")
        show(table(["network", "seeds", "bfloat16 %", "float32 %", "difference"], control))
    found = verdicts(rows, options)
    show_verdicts(found)
    for scale, share in shares(rows, options).items():
        command = f"{COMMAND} --scale {scale}" + (" (it needs a GPU)" if scale == "published" else "")
        show(f"{scale}: {share}" if options.small else f"{scale}: {share}; the others: {command}")


def cells(rows: list[Row], scale: str, network: Network, dataset: str) -> list[Any]:
    """Return the cells of a network: means over its runs."""
    found = accuracies(rows, scale, network.name, dataset)
    weights, multiply_adds = size_of(network.for_data(dataset))
    head = [network.name, weights, multiply_adds / 1e6]
    if not found:
        return [*head, 0, "not measured", None, None, None, None]
    runs = [row for row in rows if Task(scale, network.name, dataset, row["seed"]).is_row(row)]
    wall, cpu = (round(statistics.fmean(row[name] for row in runs)) for name in ("wall_seconds", "cpu_seconds"))
    devices = ", ".join(sorted({row["device"] for row in runs}))
    spread = f"{statistics.stdev(found):.2f}" if len(found) > 1 else None
    return [*head, len(found), f"{statistics.fmean(found):.2f}", spread, wall, cpu, devices]


def control_cells(rows: list[Row], network: str) -> list[Any]:
    """Return the cells of a network in both precisions, over the seeds that both have."""
    half, full = (accuracies(rows, "small", network, "cifar10", precision) for precision in ("recipe", "float32"))
    seeds = min(len(half), len(full))
    if not seeds:
        return [network, 0, None, None, None]
    means = [statistics.fmean(each[:seeds]) for each in (half, full)]
    return [network, seeds, *(f"{mean:.2f}" for mean in means), f"{means[0] - means[1]:+.2f}"]


def published_points(dataset: str) -> Iterator[tuple[str, int, float]]:
    """Yield family, weights and published accuracy of the named models that are MgNet or (pre-act) ResNet."""
    for name in list_models():
        config = named_model(name).config
        accuracy = named_model(name).published.get(dataset) or (SAME_HANDS.get(name) if dataset == "cifar10" else None)
        if accuracy is not None:
            network = Network(name, config)
            yield network.family, size_of(network.for_data(dataset))[0], accuracy


def draw(rows: list[Row], options: argparse.Namespace) -> Figure:
    """Return the figure: accuracy over weights, above all scales and the published points, below the small scale with names."""
    datasets, first = DATASETS[scales_of(options)[0]], scales_of(options)[0]
    figure = Figure(figsize=(7 * len(datasets), 10.5), layout="constrained")
    for column, dataset in enumerate(datasets):
        above, below = (figure.add_subplot(2, len(datasets), place * len(datasets) + column + 1) for place in (0, 1))
        for family, weights, accuracy in published_points(dataset):
            above.plot(weights, accuracy, "o", mfc="none", mec=FAMILIES[family], ms=7)
        for scale in scales_of(options):
            draw_scale(above, rows, scale, dataset)
        draw_scale(below, rows, first, dataset)
        add_names(below, rows, first, dataset)
        above.set_title(dataset)
        below.set_title(f"{dataset}, {first} scale")
        for axes in (above, below):
            axes.set(xscale="log", xlabel="weights", ylabel="test accuracy, %")
            axes.grid(True, color="0.9", linewidth=0.7)
            axes.set_axisbelow(True)
        below.xaxis.set_major_locator(FixedLocator([10_000, 20_000, 30_000, 40_000, 50_000]))
        below.xaxis.set_major_formatter("{x:,.0f}")
        below.xaxis.set_minor_locator(NullLocator())
    for family, color in FAMILIES.items():
        figure.axes[0].plot([], [], "o", color=color, label=family)
    figure.axes[0].plot([], [], "o", color="0.4", label="measured, 10 epochs")
    figure.axes[0].plot([], [], "o", mfc="none", mec="0.4", label="published, 120 to 300 epochs")
    figure.axes[0].legend(frameon=False, loc="lower right")
    return figure


def draw_scale(axes: Axes, rows: list[Row], scale: str, dataset: str) -> None:
    """Draw the means of one scale, with the range over the seeds."""
    for network, weights, found in measured(rows, scale, dataset):
        mean = statistics.fmean(found)
        spread = [[mean - min(found)], [max(found) - mean]]
        axes.errorbar(weights, mean, spread, fmt="o", color=FAMILIES[network.family], ms=6, capsize=2, lw=1)


def add_names(axes: Axes, rows: list[Row], scale: str, dataset: str) -> None:
    """Name the points of one scale in a column beside the axes, evenly spaced, with a line from each point."""
    points = sorted(measured(rows, scale, dataset), key=lambda point: statistics.fmean(point[2]))
    for place, (network, weights, found) in enumerate(points):
        height, color = (place + 0.5) / len(points), FAMILIES[network.family]
        axes.annotate(
            network.name, (weights, statistics.fmean(found)), (1.04, height), textcoords="axes fraction", va="center",
            fontsize=8, color=color, arrowprops={"arrowstyle": "-", "color": color, "lw": 0.4, "alpha": 0.6},
        )  # fmt: skip


def measured(rows: list[Row], scale: str, dataset: str) -> list[tuple[Network, int, list[float]]]:
    """Return the networks of a scale that have a run on a data set, with their weights and accuracies."""
    found = [(network, accuracies(rows, scale, network.name, dataset)) for network in SCALES[scale]]
    return [(network, size_of(network.for_data(dataset))[0], values) for network, values in found if values]


# --- command line


def options_of(command_line: list[str]) -> argparse.Namespace:
    """Return the options common to all benchmarks, and those of this one."""
    own = parser(__doc__)
    own.add_argument("--scale", choices=("small", "middle", "published"), help="default: published on a GPU, else the others")
    own.add_argument("--only", metavar="PATTERN", default="*", help="networks by name, with wildcards")
    own.add_argument("--workers", type=int, metavar="N", help="runs side by side (default: cores on a CPU, 1 on a GPU)")
    own.add_argument("--report", action="store_true", help="measure nothing")
    options = own.parse_args(command_line)
    on_gpu = torch.cuda.is_available() and not options.small
    options.workers = options.workers or (1 if on_gpu else machine()["cores"])
    if options.workers < 1:
        own.error(f"--workers must be at least 1, got {options.workers}")
    return options


def missing_of(options: argparse.Namespace, rows: list[Row]) -> list[Task]:
    """Return the runs that the options choose and the record does not have."""
    on_gpu = torch.cuda.is_available()
    scales = scales_of(options) if options.small else ("published",) if on_gpu else ("small", "middle")
    if options.scale and not options.small:
        scales = (options.scale,)
    if "published" in scales and not on_gpu:
        return []
    chosen = [task for scale in scales for task in tasks(scale) if fnmatch.fnmatchcase(task.network, options.only)]
    return [task for task in chosen if not any(task.is_row(row) for row in rows)]


def main() -> None:
    options = options_of(sys.argv[1:])
    rows = rows_of(options)
    missing = [] if options.report else missing_of(options, rows)
    if missing:
        measure(options, missing)
    rows = rows_of(options)
    report(options, rows)
    save(options, [])
    draw(rows, options).savefig(record_path(NAME, options).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        main()
    except DatasetError as error:
        raise SystemExit(str(error)) from None
