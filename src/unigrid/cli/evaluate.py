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
  unigrid evaluate --pretrained mgnet-32-Bli@cifar10 --download

CHECKPOINT is the folder of a run, whose last checkpoint is taken, or a file: checkpoint-*.pt, or best.pt, the epoch that was
best on the validation set."""
CHECKPOINT = "folder of a run, or a checkpoint in it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help=CHECKPOINT)
    options.add_pretrained_option(parser)
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
    with user_errors():
        card = None if arguments.pretrained is None or arguments.dataset is not None else _card(arguments.pretrained)
        trained = options.trained_network(arguments.checkpoint, arguments.pretrained, arguments.device)
        if trained.solves and arguments.dataset in (None, POISSON):
            return _measure(trained, card, arguments.json)
        data = trained.data(arguments.dataset, arguments.data_dir, arguments.download)
    result = trained.evaluate(data)
    confusion = result.confusion.numpy()
    written = save_figures((arguments.confusion, lambda plots: plots.plot_confusion(confusion, data.classes)))
    if arguments.logits:
        written.append(_save_logits(arguments.logits, result, trained.classes))
    facts = facts_of(trained, result, data, written)
    if card:
        facts["card"] = card
    if arguments.per_class:
        facts["per_class"] = result.per_class(trained.classes)
    show(facts, arguments.json, report)
    return 0


def _card(pretrained: str) -> Facts:
    from ..conv.pretrained import pretrained_card

    card = pretrained_card(pretrained)
    return {"name": card.name, "summary": card.summary(), "measured": card.measured}


def _save_logits(path: str, result: Evaluation, classes: tuple[str, ...]) -> str:
    """Write logits (count, classes), labels (count,) and names of the classes, and return the path."""
    with atomic_output(Path(path)) as file:
        np.savez(file, logits=result.logits.numpy(), labels=result.labels.numpy(), classes=np.array(classes))
    return path


def _measure(trained: TrainedModel, card: Facts | None, as_json: bool) -> int:
    """Print the convergence factor of a trained solver on grids of several sizes."""
    from ..training import PoissonNet
    from ..training.solvers.measured import factors_of

    net, model = trained.model, trained.configuration["model"]
    assert isinstance(net, PoissonNet)
    rows = factors_of(net, trained.configuration)
    lines = [
        f"{trained.path}: {model['kind'].removesuffix('Config')}, {trained.parameters} numbers, trained on Poisson's equation: "
        f"epoch {trained.epoch}",
        *("convergence factor {factor:.4f} per cycle on {problem}".format(**row) for row in rows),
        *_stated(card),
    ]
    facts = {"checkpoint": str(trained.path), "model": model, "rows": rows, **({"card": card} if card else {})}
    show(facts, as_json, lambda _: lines)
    return 0


def _stated(card: Facts | None) -> list[str]:
    """Return the line about what the card of a trained network states."""
    return [] if card is None else [f"Stated on the card of {card['name']}: {card['summary']}."]


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
        *_stated(facts.get("card")),
        *per_class(facts.get("per_class", [])),
        *(f"Wrote {path}" for path in facts["written"]),
    ]
