"""`unigrid predict`: classify pictures with a trained network."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from ..files import FileError
from ..machine import versions
from ..messages import printable
from . import options
from .evaluate import CHECKPOINT, described
from .monitor import as_text, json_text
from .options import UsageError, user_errors

SUMMARY = "classify pictures with a trained network"
EPILOG = """\
examples:
  unigrid predict runs/cifar10-mgnet-32-Bli-fast cat.jpg
  unigrid predict runs/cifar10-mgnet-32-Bli-fast photos/*.jpg --top 1
  unigrid predict best.pt cat.png dog.png --json
  unigrid predict cat.jpg --pretrained mgnet-32-Bli

Pictures (PNG, JPEG, TIFF, BMP, GIF, WebP, PPM) of any size: they are turned upright, cut to a square about their center (to
the shape of the training images), resized to it, and made gray or RGB as those are. A network has no classes but those that it
was trained on.

exit code: 0 all pictures were read, 2 one could not be (the others are answered all the same), or other wrong input"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "operands", metavar="CHECKPOINT IMAGE", nargs="*", help=f"{CHECKPOINT}; and pictures: .png, .jpg, ..."
    )  # fmt: skip
    options.add_pretrained_option(parser)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes per picture, default 5")
    options.add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the report")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    if arguments.top < 1:
        raise UsageError(f"--top must be an integer >= 1, got {arguments.top}")
    own = 1 if arguments.pretrained is None else 0  # of the operands, the first may be a checkpoint
    checkpoint, images = next(iter(arguments.operands[:own]), None), arguments.operands[own:]
    if not images:
        raise UsageError("give a CHECKPOINT and an IMAGE, or an IMAGE and --pretrained NAME; `unigrid models` lists names")
    with user_errors():
        trained = options.trained_network(checkpoint, arguments.pretrained, arguments.device)
        trained.require_pictures()
    if not arguments.json:
        name = trained.path if arguments.pretrained is None else trained.path.stem
        print(printable(f"{name}: {described(trained)}"), flush=True)
    pictures = []
    for path in dict.fromkeys(images):
        try:
            answer = trained.predict([path], arguments.top)[0]
        except FileError as error:
            print(f"unigrid: error: {error}", file=sys.stderr, flush=True)
            pictures.append({"path": path, "error": str(error)})
            continue
        pictures.append({"path": path, **dataclasses.asdict(answer)})
        if not arguments.json:
            pairs = zip(answer.probabilities, answer.classes, strict=True)
            print(as_text([path, *(f"  {100 * share:5.1f} %  {name}" for share, name in pairs)]), flush=True)
    if arguments.json:
        known = trained.configuration["dataset"]
        facts = {
            "checkpoint": str(trained.path), "trained_on": known["name"], "synthetic": known["synthetic"], "pictures": pictures,
            "device": str(trained.device), "versions": versions(),
        }  # fmt: skip
        print(json_text(facts))
    return 2 if any("error" in picture for picture in pictures) else 0
