"""`unigrid train`: train a convolutional network on a data set, by a protocol, into a folder."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import FileError, expanded
from ..messages import choose, printable
from ..torchrun import command, rank_of_several
from ..training_defaults import IMAGE_MODEL, IMAGE_PROTOCOL, POISSON, POISSON_SIZE, RUNS
from . import options, train_poisson
from .monitor import TOP, Facts, as_text, files_in, line_per_epoch, per_class, save_figures, show
from .options import UsageError, user_errors

if TYPE_CHECKING:
    from ..training import ImageData, ImageProtocol, SeedRun, TrainResult
    from ..training.runs.processes import Processes

SUMMARY = "train a convolutional network on labelled images, or multigrid's smoothers on Poisson's equation"
EPILOG = """\
data sets:
  cifar10, cifar100, mnist: read from --data-dir, UNIGRID_DATA or the user's cache; --download fetches them
  shapes: small synthetic pictures, drawn by unigrid itself, to try things offline
  a folder with one folder of pictures per class, or with such folders train, val and test; an .npz file (images, labels, or
  x_train, y_train, x_test, y_test); parquet files with encoded pictures and labels (pip install 'unigrid[io]')
  poisson: not images but -EPS u_xx - u_yy = f; the smoothers of multigrid are trained; protocols fourier and random

examples:
  unigrid train shapes --model mgnet-8-Bl --epochs 2
  unigrid train cifar10 --download --model mgnet-16-Bl --subset 10000 --epochs 5
  unigrid train cifar100 --model mgnet-256-Bl --seed 0,1,2 --device cuda --out runs/hundred
  unigrid train poisson --eps 0.1 --set degree=2 --out runs/anisotropic
  unigrid train cifar10 --protocol course --set label_smoothing=0.1 --set cutout=8 --validation 5000 --plot curves.png
  unigrid train photos/ --size 64 --weights runs/hundred/seed-0 --new-head --set optimizer=adamw --set schedule=cosine
  unigrid train photos/ --size 32 --weights mgnet-32-Bl@cifar100 --new-head --epochs 20
  unigrid train photos/ --size 64 --validation 0.1 --set stratify=true --set patience=5 --set mixup=0.2 --per-class
  torchrun --nproc-per-node 4 -m unigrid train cifar100 --model mgnet-256-Bl --set sync_batch_norm=true --batch-size 512

Several processes, as torchrun starts them, share every batch; --batch-size is that of all together. A run may go on with
another number of them. torchrun takes --monitor for an option of its own, unless it stands after `torchrun ... -m -- unigrid`.

Ctrl-C, or a scheduler's SIGTERM, leaves a checkpoint; the same command with --resume goes on from it. `unigrid models` lists
the models; unigrid.train does the same from Python, for models and data of one's own. The test set is read once, at the end.

exit code: 0 done, 1 the loss diverged (the last good checkpoint is kept), 2 wrong input, 130 interrupted"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dataset", metavar="DATASET", help="cifar10, cifar100, mnist, shapes; a folder or file of pictures; or poisson"
    )
    parser.add_argument("--model", metavar="NAME", help=f"one of `unigrid models`, default {IMAGE_MODEL}, or that of --weights")
    parser.add_argument(
        "--weights", metavar="FILE|NAME",
        help=f"start from them: .safetensors, a checkpoint, the folder of a run, or its name in {RUNS}{os.sep}; or a trained "
        "network of `unigrid models`, MODEL@DATASET",
    )  # fmt: skip
    parser.add_argument("--new-head", action="store_true", help="leave out the last layer of --weights, for other classes")
    group = parser.add_argument_group("protocol")
    group.add_argument("--protocol", metavar="NAME", help=f"{IMAGE_PROTOCOL} (default), muon, paper, course or code")
    group.add_argument("--epochs", type=int, metavar="N", help="default the protocol's")
    group.add_argument("--batch-size", type=int, metavar="N", help="default the protocol's")
    group.add_argument("--learning-rate", type=float, metavar="R", help="default the protocol's")
    group.add_argument(
        "--set", type=options.assignment, action="append", default=[], metavar="NAME=VALUE",
        help="change another field of the protocol, such as optimizer=adamw, schedule=cosine, label_smoothing=0.2, mixup=0.2, "
        "cutmix=1, clip_grad=1, class_weights=balanced, patience=5; repeatable; for poisson also of the net",
    )  # fmt: skip
    group.add_argument("--seed", type=options.seeds, default=0, metavar="S[,S..]", help="one run each, default 0")
    train_poisson.add_arguments(parser)
    _add_data_options(parser)
    _add_output_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data and device")
    options.add_data_options(group)
    group.add_argument("--subset", type=int, metavar="N", help="train on N of the training images")
    group.add_argument(
        "--validation", type=options.count_or_path, default=0.0, metavar="N|PATH",
        help="keep N training images (or that share, if below 1) apart, to find the best epoch, or read others; default 0",
    )  # fmt: skip
    group.add_argument(
        "--size", type=options.size, metavar="N[,N]",
        help=f"resize pictures to this height and width; poisson: unknowns along either axis, default {POISSON_SIZE}",
    )  # fmt: skip
    options.add_device_option(group)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--out", metavar="DIR", help=f"folder of the run, default {RUNS}/DATASET-MODEL-PROTOCOL")
    group.add_argument("--resume", action="store_true", help="go on from the last checkpoint in that folder")
    group.add_argument("--plot", metavar="FILE", help="picture of the training curves: .png, .pdf or .svg")
    group.add_argument("--confusion", metavar="FILE", help="save the confusion matrix (summed over seeds) as a picture")
    options.add_force_option(group)
    group.add_argument("--per-class", action="store_true", help="report precision, recall and f1 of every class")
    group.add_argument("--monitor", action="store_true", help="print a line per epoch instead of the progress bar")
    group.add_argument("--json", action="store_true", help="print one JSON object instead of the report")


@dataclass(frozen=True, eq=False)
class Request:
    """The checked arguments, and what follows from them before training begins."""

    arguments: argparse.Namespace
    choices: dict[str, Any]
    protocol: ImageProtocol
    data: ImageData
    validation: float
    images: int
    held_out: int
    parameters: int
    device: str
    seeds: list[int]
    folder: Path
    processes: int


def run(arguments: argparse.Namespace) -> int:
    if not rank_of_several():  # of several processes, the first writes
        options.check_outputs(arguments.plot, arguments.confusion, replace=arguments.force or arguments.resume)
    options.load_learned()
    from ..training import TrainingError
    from ..training.runs.processes import is_shown_elsewhere, joined

    with joined() as processes:
        try:
            if arguments.dataset == POISSON:
                processes.together(lambda: train_poisson.refuse_processes(processes.world))
                return train_poisson.run(arguments)
            return _run(arguments, processes)
        except KeyboardInterrupt:
            again = [*arguments.argv, *(["--resume"] if "--resume" not in arguments.argv else [])]
            if processes.is_writer:
                print(f"unigrid: interrupted; to go on: {printable(shlex.join([*command(), *again]))}", file=sys.stderr)
            return 130
        except TrainingError as error:
            if processes.is_writer or error.reason == "lost":
                print(f"unigrid: {printable(error)}", file=sys.stderr)
            return 1
        except (UsageError, FileError) as error:
            if is_shown_elsewhere(error):
                return 2
            raise


def _run(arguments: argparse.Namespace, processes: Processes) -> int:
    from ..training.images.evaluation import is_out_of_memory

    request = processes.first_on_machine(lambda: _request(arguments, processes))
    if not arguments.json and processes.is_writer:
        print(as_text(introduction(request)), flush=True)
    try:
        result = _train(request)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(f"{request.device} has not enough memory; take a smaller --batch-size or model") from None
    if not processes.is_writer:
        return 0
    written = _write(request, result)
    show(facts_of(request, result, written), arguments.json, report)
    return 0


def _request(arguments: argparse.Namespace, processes: Processes) -> Request:
    """Check the arguments, the cheap ones first: a wrong name must not cost a download."""
    from ..conv.models import named_model
    from ..training import PROTOCOLS
    from ..training.data.datasets import NAMES
    from ..training.data.on_disk import is_path
    from ..training.images.setup import check_shares, training_splits
    from ..training.images.starting import starting_weights
    from ..training.images.train import check_mirrored, check_output
    from ..training.runs.devices import device_named
    from ..training.runs.run import checked_seeds

    arguments.protocol = arguments.protocol or IMAGE_PROTOCOL
    if arguments.weights is None:
        arguments.model = arguments.model or IMAGE_MODEL
    with user_errors():
        if not is_path(arguments.dataset):
            choose(arguments.dataset, (*NAMES, POISSON), "dataset or path")
        train_poisson.refuse_options(arguments)
        protocol = PROTOCOLS[choose(arguments.protocol, PROTOCOLS, "protocol")]
        choices = options.choices(arguments, ("epochs", "batch_size", "learning_rate"), "protocol field", type(protocol))
        protocol = protocol.with_choices(**choices)
        device = device_named(arguments.device)
        if arguments.new_head and arguments.weights is None:
            raise UsageError("--new-head needs --weights, whose other layers are kept")
        start = None if arguments.weights is None else starting_weights(arguments.weights, arguments.new_head)
        model = None if arguments.model is None else named_model(arguments.model)
        seeds = checked_seeds(arguments.seed)
        data, share = _data(arguments)
        check_mirrored(data, protocol, choices.get("flip"))
        training, validation = training_splits(data, protocol, arguments.subset, share, seeds[0])
        config: Any = start.configuration(data) if model is None and start is not None else model and model.config
        config = dataclasses.replace(config, num_classes=len(data.classes), in_channels=data.shape[0])
        network = config.build()
        check_output(network, data)
        check_shares(network, len(training), protocol, processes)
        if start is not None:
            start.load_into(network, data)
        parameters = sum(parameter.numel() for parameter in network.parameters())
    held_out, folder = 0 if validation is None else len(validation), expanded(arguments.out or _folder(arguments, seeds))
    return Request(
        arguments,
        choices,
        protocol,
        data,
        share,
        len(training),
        held_out,
        parameters,
        str(device),
        seeds,
        folder,
        processes.world,
    )


def _data(arguments: argparse.Namespace) -> tuple[ImageData, float]:
    """Return the data, and the count or share of validation images to split off."""
    from ..training import load
    from ..training.data.datasets import validation_set

    data = load(arguments.dataset, arguments.data_dir, arguments.download, None, arguments.size)
    if isinstance(arguments.validation, str):
        return validation_set(arguments.validation, data), 0.0
    return data, arguments.validation


def _folder(arguments: argparse.Namespace, seeds: list[int]) -> str:
    start = arguments.weights and f"from-{Path(arguments.weights).stem}"
    name = "-".join(filter(None, (Path(arguments.dataset).stem, arguments.model, start, arguments.protocol)))
    if seeds != [0]:
        name += f"-seed{'s' * (len(seeds) > 1)}-{'-'.join(map(str, seeds))}"
    return os.path.join(RUNS, name)


def _train(request: Request) -> TrainResult:
    from ..training import train

    arguments = request.arguments
    show = line_per_epoch(sys.stderr) if arguments.monitor or not sys.stderr.isatty() else None
    return train(
        request.data, arguments.model, arguments.protocol, seed=arguments.seed, device=arguments.device, out=request.folder,
        resume=arguments.resume, subset=arguments.subset, validation=request.validation, weights=arguments.weights,
        new_head=arguments.new_head, callback=show, progress=show is None, **request.choices,
    )  # fmt: skip


def _write(request: Request, result: TrainResult) -> list[str]:
    """Draw the requested figures and return their paths."""
    tests = {f"seed {run.seed}": run.test for run in result.runs if run.test is not None}
    histories: Any = {f"seed {run.seed}": run.history for run in result.runs}
    accuracies: Any = {name: test.accuracy for name, test in tests.items()}
    if len(histories) == 1:
        histories, accuracies = result.history, result.test_accuracy
    confusion = sum(test.confusion.numpy() for test in tests.values())
    return save_figures(
        (request.arguments.plot, lambda plots: plots.plot_training(histories, test_accuracy=accuracies)),
        (request.arguments.confusion if tests else None, lambda plots: plots.plot_confusion(confusion, request.data.classes)),
    )


def introduction(request: Request) -> list[str]:
    """Return the lines printed before training."""
    data, arguments = request.data, request.arguments
    channels, height, width = data.shape
    kept = f", {request.held_out:,} kept apart for validation" * (request.held_out > 0)
    return [
        f"Data: {data.name}{' (synthetic)' * data.synthetic}, {request.images:,} training images{kept}, "
        f"{len(data.test):,} test images, {height} x {width} x {channels}, {len(data.classes)} classes.",
        f"Model: {_model(arguments)}, {request.parameters:,} parameters.",
        f"Protocol: {described(request.protocol, data.flip)}.",
        f"Device: {_device(request.device)}{f', in each of {request.processes} processes' * (request.processes > 1)}. "
        f"Seed{'s' * (len(request.seeds) > 1)}: {', '.join(map(str, request.seeds))}.",
        f"Files: {request.folder}{os.sep}",
    ]


def _model(arguments: argparse.Namespace) -> str:
    """Return the name of the model, and what its weights start from."""
    if arguments.weights is None:
        return str(arguments.model)
    weights = f"weights of {arguments.weights}{' but for the last layer' * arguments.new_head}"
    return f"{arguments.model}, {weights}" if arguments.model else f"network and {weights}"


def described(protocol: ImageProtocol, flips: bool = True) -> str:
    """Return a protocol on one line, without what it does not use. `flips`: whether the data may be mirrored."""
    steps = f"times {protocol.decay:g} every {protocol.decay_every} epochs"
    rate = {"one-cycle": "in one cycle", "cosine": "in half a cosine"}.get(protocol.schedule, steps)
    momentum = f"{'Nesterov ' * protocol.nesterov}momentum {protocol.momentum:g}"
    weights = protocol.class_weights if isinstance(protocol.class_weights, str) else "chosen"
    scaled = " for a batch of 128, in proportion to it," * protocol.scale_rate
    parts = [
        f"{protocol.name}, {protocol.epochs} epoch{'s' * (protocol.epochs != 1)}", f"batch {protocol.batch_size}",
        f"learning rate {protocol.learning_rate:g}{scaled} {rate}",
        {"adamw": f"AdamW, beta_1 {protocol.momentum:g}", "muon": f"Muon, {momentum}"}.get(protocol.optimizer, momentum),
    ]  # fmt: skip
    named = {
        "weight decay": protocol.weight_decay, "label smoothing": protocol.label_smoothing, "crop padding": protocol.pad,
        "cutout": protocol.cutout, "mixup": protocol.mixup, "cutmix": protocol.cutmix, "average of weights": protocol.average,
        "gradient norm at most": protocol.clip_grad, "patience": protocol.patience,
        "pixels of the first images": protocol.first_size,
    }  # fmt: skip
    parts += [f"{name} {value:g}" for name, value in named.items() if value]
    parts += [f"{weights} class weights"] * (weights != "equal")
    mirrored = {"flip": protocol.augmentation(flips).flip, "flip at test time": protocol.averages_mirrored(flips)}
    return ", ".join(parts + [name for name, done in mirrored.items() if done])


def _device(name: str) -> str:
    import torch

    if not name.startswith("cpu"):
        return name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads != 1)}"


def images_per_second(run: SeedRun) -> float | None:
    """Return the mean over the training of a run, without validation and tests; None where nothing was trained."""
    seconds = [row["seconds"] for row in run.history]
    taken = [after - before for before, after in zip([0.0, *seconds], seconds, strict=False)]
    images = sum(row["images_per_second"] * each for row, each in zip(run.history, taken, strict=True))
    return images / sum(taken) if sum(taken) > 0 else None


def facts_of(request: Request, result: TrainResult, written: list[str]) -> Facts:
    """Return the outcome as plain values, for the report and for --json."""
    classes = request.data.classes if request.arguments.per_class else ()
    runs = [_facts_of_run(run, classes) for run in result.runs]
    rates = [run["images_per_second"] for run in runs if run["images_per_second"] is not None]
    return {
        "dataset": {**result.configuration["dataset"], "test_images": len(request.data.test)},
        "model": {"name": _model(request.arguments), "parameters": request.parameters, **result.configuration["model"]},
        "protocol": result.configuration["protocol"],
        "subset": request.arguments.subset,
        "validation": request.held_out,
        "device": request.device,
        "message": str(result),
        "test_accuracy": result.test_accuracy,
        "test_accuracy_std": result.test_accuracy_std,
        "best_test_accuracy": result.best_test_accuracy,
        "seconds": sum(run.seconds for run in result.runs),
        "images_per_second": statistics.fmean(rates) if rates else None,
        "runs": runs,
        "written": [*written, *(run["folder"] for run in runs)],
    }


def _facts_of_run(run: SeedRun, classes: Sequence[str]) -> Facts:
    rest: Facts = {"reason": run.reason, "images_per_second": images_per_second(run), "folder": str(run.folder)}
    if classes and run.test is not None:
        rest["per_class"] = run.test.per_class(classes)
    return {**run.to_dict(), **rest, "checkpoint": str(run.checkpoint), "history": run.history}


def report(facts: Facts) -> list[str]:
    """Return the lines of the report."""
    runs = facts["runs"]
    lines = [line for run in runs for line in _report_of(run, facts["dataset"], several=len(runs) > 1)]
    if len(runs) > 1:
        lines.append(f"All seeds: {facts['message']}")
    folders = [run["folder"] for run in runs]
    lines += [f"Wrote {path}" for path in facts["written"] if path not in folders]
    whole = folders[0] if len(folders) == 1 else os.path.dirname(folders[0])
    return [
        *lines,
        f"`unigrid predict {shlex.quote(folders[0])} IMAGE` classifies a picture of your own.",
        f"`unigrid report {shlex.quote(whole)}` makes a page of it all: mistakes, features and residuals level by level.",
    ]


def _report_of(run: Facts, data: Facts, several: bool) -> list[str]:
    lines, rate = [], run["images_per_second"]
    begin = f"Seed {run['seed']}: t" if several else "T"
    if run["test_accuracy"] is not None:
        lines.append(
            f"{begin}est accuracy {100 * run['test_accuracy']:.2f} % after {_tested(run)} "
            f"({data['test_images']:,} images, loss {run['test_loss']:.4f}){' [synthetic data]' * data['synthetic']}"
        )
    if run["test_top5_accuracy"] is not None and len(data["classes"]) > TOP:
        lines.append(f"Among the {TOP} likeliest classes: {100 * run['test_top5_accuracy']:.2f} %")
    if run["best_test_accuracy"] is not None and run["tested_epoch"] == len(run["history"]):
        lines.append(
            f"Best epoch on the validation set, {run['best_epoch']}: {100 * run['best_validation_accuracy']:.2f} % there, "
            f"{100 * run['best_test_accuracy']:.2f} % of the test images"
        )
    lines.append(f"{run['seconds']:.1f} s of training" + (f", {rate:,.0f} images per second" if rate else ""))
    return [*lines, *per_class(run.get("per_class", [])), files_in(run["folder"])]


def _tested(run: Facts) -> str:
    last = len(run["history"])
    if run["tested_epoch"] == last:
        return f"the last epoch, {last}"
    return f"epoch {run['tested_epoch']}, the best on the validation set of {last}"
