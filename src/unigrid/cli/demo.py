"""`unigrid demo`: the cycle on a photograph, then on a network that learns; `unigrid.demo` holds what it does."""

from __future__ import annotations

import argparse

from ..files import make_folder
from .monitor import Stopwatch, announced_compilation
from .options import load_kernels

SUMMARY = "recover a photograph from its Laplacian, train a network for a minute, and draw how"
EPILOG = """\
examples:
  unigrid demo
  unigrid demo -o pictures"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="folder for the figures, made if missing; default here"
    )


def run(arguments: argparse.Namespace) -> int:
    from ..demo import PARTS

    directory = make_folder(arguments.output)
    load_kernels()
    stopwatch = Stopwatch()
    with announced_compilation(stopwatch):
        for part in PARTS:
            print("\n".join(part(directory, stopwatch)), flush=True)
    return 0
