"""`unigrid evaluate`: test a trained network on a data set, or measure the convergence of a trained solver."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..training_defaults import POISSON
from . import options
from .monitor import json_text, plain
from .options import user_errors

if TYPE_CHECKING:
    from ..training import Evaluation, ImageData, TrainedModel

SUMMARY = "test a trained network"
EPILOG = """\
examples:
  unigrid evaluate runs/cifar10-mgnet-32-Bli-fast
  unigrid evaluate runs/cifar10-mgnet-32-Bli-fast/best.pt --confusion confusion.png
  unigrid evaluate checkpoint-000001953.pt --data-dir data --json

CHECKPOINT is the folder of a run, whose last checkpoint is taken, or a file: checkpoint-*.pt, or best.pt, the epoch that was
best on the validation set."""
SIZES = (63, 127, 255)  # unknowns along the first axis, on which a trained solver is measured
CHECKPOINT = "folder of a run, or a checkpoint in it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument("--dataset", metavar="NAME", help="default the one it was trained on")
    options.add_data_options(parser)
    options.add_device_option(parser)
    parser.add_argument("--confusion", metavar="FILE", help="save the confusion matrix as a picture: .png, .pdf or .svg")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    options.checked_pictures(arguments.confusion)
    from ..training import load_trained

    with user_errors():
        trained = load_trained(arguments.checkpoint, arguments.device)
        if trained.solves and arguments.dataset in (None, POISSON):
            return _measure(trained, arguments.json)
        data = trained.data(arguments.dataset, arguments.data_dir, arguments.download)
    result = trained.evaluate(data)
    if arguments.confusion:
        from .. import plots

        plots.save(plots.plot_confusion(result.confusion.numpy(), data.classes), arguments.confusion)
    facts = summary(trained, result, data, arguments)
    print(json_text(facts) if arguments.json else "\n".join(report(trained, result, facts)))
    return 0


def _measure(trained: TrainedModel, as_json: bool) -> int:
    """Print the convergence factor of a trained solver on grids of several sizes."""
    from ..analysis import measured_factor
    from ..training import PoissonNet
    from ..training.solvers.problems import problems_of

    net = trained.model
    assert isinstance(net, PoissonNet)
    rows = [
        {"problem": repr(problem), "shape": list(problem.shape), "factor": measured_factor(net.on(problem))}
        for problem in problems_of(trained.configuration, SIZES)
    ]
    if as_json:
        print(json_text({"checkpoint": str(trained.path), "model": plain(trained.configuration["model"]), "rows": rows}))
    else:
        kind = str(trained.configuration["model"]["kind"]).removesuffix("Config")
        print(f"{trained.path}: {kind}, {trained.parameters} numbers, trained on Poisson's equation: epoch {trained.epoch}")
        print("\n".join(f"convergence factor {row['factor']:.4f} per cycle on {row['problem']}" for row in rows))
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


def report(trained: TrainedModel, result: Evaluation, facts: dict[str, Any]) -> list[str]:
    """Return the lines of the report."""
    synthetic = " [synthetic data]" * facts["synthetic"]
    lines = [
        f"{trained.path}: {described(trained)}",
        f"Accuracy {100 * result.accuracy:.2f} % of the {result.count:,} test images of {facts['dataset']}, "
        f"loss {result.loss:.4f}{synthetic}",
    ]
    return [*lines, *(f"Wrote {path}" for path in facts["written"])]


def summary(trained: TrainedModel, result: Evaluation, data: ImageData, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the object that --json prints."""
    from ..machine import versions

    return {
        "checkpoint": str(trained.path),
        "model": plain(trained.configuration["model"]),
        "parameters": trained.parameters,
        "protocol": trained.configuration["protocol"]["name"],
        "epoch": trained.epoch,
        "step": trained.step,
        "dataset": data.name,
        "synthetic": data.synthetic,
        "images": result.count,
        "accuracy": result.accuracy,
        "loss": plain(result.loss),
        "classes": list(trained.classes),
        "confusion": result.confusion.tolist(),
        "device": str(trained.device),
        "written": [arguments.confusion] if arguments.confusion else [],
        "versions": versions(),
    }
