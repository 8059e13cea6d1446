"""`unigrid predict`: classify pictures with a trained network."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..files import FileError
from . import options
from .evaluate import CHECKPOINT, described
from .monitor import json_text, plain
from .options import UsageError, user_errors

if TYPE_CHECKING:
    from ..training import Prediction, TrainedModel

SUMMARY = "classify pictures with a trained network"
EPILOG = """\
examples:
  unigrid predict runs/cifar10-mgnet-32-Bli-fast cat.jpg
  unigrid predict runs/cifar10-mgnet-32-Bli-fast photos/*.jpg --top 1
  unigrid predict best.pt cat.png dog.png --json

Pictures of any size and kind that Pillow reads: they are cut to a square about their center (to the shape of the training
images), resized to it, and made gray or RGB as those are. A network has no classes but those that it was trained on.

exit code: 0 all pictures were read, 2 one could not be (the others are answered all the same), or other wrong input"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="picture: .png, .jpg, ...")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes per picture, default 5")
    options.add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    if arguments.top < 1:
        raise UsageError(f"--top must be an integer >= 1, got {arguments.top}")
    from ..training import load_trained

    with user_errors():
        trained = load_trained(arguments.checkpoint, arguments.device)
        trained.require_pictures()
    if not arguments.json:
        print(f"{trained.path}: {described(trained)}", flush=True)
    answers: dict[str, Prediction | FileError] = {}
    for path in dict.fromkeys(arguments.images):
        answers[path] = _answer(trained, path, arguments.top)
        _show(path, answers[path], quiet=arguments.json)
    if arguments.json:
        print(json_text(summary(trained, answers)))
    return 2 if any(isinstance(answer, FileError) for answer in answers.values()) else 0


def _answer(trained: TrainedModel, path: str, top: int) -> Prediction | FileError:
    try:
        return trained.predict([path], top)[0]
    except FileError as error:
        return error


def _show(path: str, answer: Prediction | FileError, quiet: bool) -> None:
    if isinstance(answer, FileError):
        print(f"unigrid: error: {answer}", file=sys.stderr, flush=True)
    elif not quiet:
        pairs = zip(answer.probabilities, answer.classes, strict=True)
        print("\n".join([path, *(f"  {100 * share:5.1f} %  {name}" for share, name in pairs)]), flush=True)


def summary(trained: TrainedModel, answers: dict[str, Prediction | FileError]) -> dict[str, Any]:
    """Return the object that --json prints."""
    from ..machine import versions

    known = trained.configuration["dataset"]
    return {
        "checkpoint": str(trained.path),
        "trained_on": known["name"],
        "synthetic": known["synthetic"],
        "pictures": [
            {"path": path, "error": str(answer)}
            if isinstance(answer, FileError)
            else {"path": path, "classes": list(answer.classes), "probabilities": plain(answer.probabilities)}
            for path, answer in answers.items()
        ],
        "device": str(trained.device),
        "versions": versions(),
    }
