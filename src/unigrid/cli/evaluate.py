"""`unigrid evaluate`: test a trained network on a data set, or measure the convergence of a trained solver."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import atomic_output, checked_output
from ..training_defaults import POISSON
from . import options
from .monitor import TOP, Facts, per_class, save_figures, show
from .options import user_errors

if TYPE_CHECKING:
    from ..training import Evaluation, ImageData, TrainedModel

SUMMARY = "test a trained network"
EPILOG = """\
examples:
  unigrid evaluate runs/cifar10-mgnet-32-Bli-fast
  unigrid evaluate runs/cifar10-mgnet-32-Bli-fast/best.pt --confusion confusion.png
  unigrid evaluate checkpoint-000001953.pt --data-dir data --json
  unigrid evaluate runs/photos-mgnet-32-Bl-fast --dataset photos/ --per-class --logits logits.npz

CHECKPOINT is the folder of a run, whose last checkpoint is taken, or a file: checkpoint-*.pt, or best.pt, the epoch that was
best on the validation set."""
SIZES = (63, 127, 255)  # unknowns along the first axis, on which a trained solver is measured
CHECKPOINT = "folder of a run, or a checkpoint in it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument("--dataset", metavar="NAME|PATH", help="default the one it was trained on; or pictures of your own")
    options.add_data_options(parser)
    options.add_device_option(parser)
    parser.add_argument("--confusion", metavar="FILE", help="save the confusion matrix as a picture: .png, .pdf or .svg")
    options.add_force_option(parser)
    parser.add_argument("--logits", metavar="FILE", help="save logits, labels and the names of the classes: .npz")
    parser.add_argument("--per-class", action="store_true", help="report precision, recall and f1 of every class")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    options.check_outputs(arguments.confusion, array=arguments.logits, replace=arguments.force)
    if arguments.logits:
        checked_output(arguments.logits, (".npz",))
    from ..training import load_trained

    with user_errors():
        trained = load_trained(arguments.checkpoint, arguments.device)
        if trained.solves and arguments.dataset in (None, POISSON):
            return _measure(trained, arguments.json)
        data = trained.data(arguments.dataset, arguments.data_dir, arguments.download)
    result = trained.evaluate(data)
    confusion = result.confusion.numpy()
    written = save_figures((arguments.confusion, lambda plots: plots.plot_confusion(confusion, data.classes)))
    if arguments.logits:
        written.append(_save_logits(arguments.logits, result, trained.classes))
    facts = facts_of(trained, result, data, written)
    if arguments.per_class:
        facts["per_class"] = result.per_class(trained.classes)
    show(facts, arguments.json, report)
    return 0


def _save_logits(path: str, result: Evaluation, classes: tuple[str, ...]) -> str:
    """Write logits (count, classes), labels (count,) and names of the classes, and return the path."""
    with atomic_output(Path(path)) as file:
        np.savez(file, logits=result.logits.numpy(), labels=result.labels.numpy(), classes=np.array(classes))
    return path


def _measure(trained: TrainedModel, as_json: bool) -> int:
    """Print the convergence factor of a trained solver on grids of several sizes."""
    from ..analysis import measured_factor
    from ..training import PoissonNet
    from ..training.solvers.problems import problems_of

    net, model = trained.model, trained.configuration["model"]
    assert isinstance(net, PoissonNet)
    rows: list[Facts] = [
        {"problem": repr(problem), "shape": list(problem.shape), "factor": measured_factor(net.on(problem))}
        for problem in problems_of(trained.configuration, SIZES)
    ]
    lines = [
        f"{trained.path}: {model['kind'].removesuffix('Config')}, {trained.parameters} numbers, trained on Poisson's equation: "
        f"epoch {trained.epoch}",
        *("convergence factor {factor:.4f} per cycle on {problem}".format(**row) for row in rows),
    ]
    show({"checkpoint": str(trained.path), "model": model, "rows": rows}, as_json, lambda _: lines)
    return 0


def described(trained: TrainedModel) -> str:
    """Return a network on one line: its kind, and the data that it was trained on."""
    from ..training import ImageProtocol

    known = trained.configuration["dataset"]
    kind = str(trained.configuration["model"]["kind"]).removesuffix("Config")
    steps = "" if trained.step is None else f", {trained.step} steps"
    return (
        f"{kind}, {trained.parameters:,} parameters, trained on {known['name']}{' (synthetic)' * known['synthetic']} "
        f"by protocol {ImageProtocol(**trained.configuration['protocol']).label}: epoch {trained.epoch}{steps}"
    )


def facts_of(trained: TrainedModel, result: Evaluation, data: ImageData, written: list[str]) -> Facts:
    """Return the outcome as plain values, for the report and for --json."""
    return {
        "checkpoint": str(trained.path),
        "title": described(trained),
        "model": trained.configuration["model"],
        "parameters": trained.parameters,
        "protocol": trained.configuration["protocol"]["name"],
        "epoch": trained.epoch,
        "step": trained.step,
        "dataset": data.name,
        "synthetic": data.synthetic,
        "images": result.count,
        "accuracy": result.accuracy,
        "top5_accuracy": result.top(TOP),
        "loss": result.loss,
        "classes": list(trained.classes),
        "confusion": result.confusion.tolist(),
        "device": str(trained.device),
        "written": written,
    }


def report(facts: Facts) -> list[str]:
    """Return the lines of the report."""
    return [
        f"{facts['checkpoint']}: {facts['title']}",
        f"Accuracy {100 * facts['accuracy']:.2f} % of the {facts['images']:,} test images of {facts['dataset']}, "
        f"loss {facts['loss']:.4f}{' [synthetic data]' * facts['synthetic']}",
        *([f"Among the {TOP} likeliest classes: {100 * facts['top5_accuracy']:.2f} %"] * (len(facts["classes"]) > TOP)),
        *per_class(facts.get("per_class", [])),
        *(f"Wrote {path}" for path in facts["written"]),
    ]
