"""`unigrid equivalence`: run both sides of every equivalence of multigrid and networks, and compare them."""

from __future__ import annotations

import argparse

from . import options
from .monitor import show

SUMMARY = "run both sides of every equivalence of multigrid and networks, and print how far they differ"
EPILOG = """\
examples:
  unigrid equivalence
  unigrid equivalence --seeds 0,1,2,3,4 --json

The exit code is 0 if all of them hold in float64, 1 otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", type=options.seeds, default=[0, 1, 2], metavar="N[,N..]", help="of weights and inputs; default 0,1,2"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    options.load_kernels()
    from ..equivalence import report
    from ..machine import versions

    seeds = arguments.seeds if isinstance(arguments.seeds, list) else [arguments.seeds]
    with options.user_errors():  # a seed that is no seed
        found = report(seeds)
    show({**found.summary(), "versions": versions()}, arguments.json, lambda _: str(found).splitlines())
    return 0 if found.passed else 1
