"""`unigrid models`: the named networks, their sizes and published accuracies."""

from __future__ import annotations

import argparse
import shutil
import string
import sys
import textwrap
from typing import TYPE_CHECKING

from . import options
from .monitor import Facts, show
from .options import user_errors

if TYPE_CHECKING:
    from ..conv.models import NamedModel

SUMMARY = "list the networks that have a name, their sizes, published accuracies, and the trained ones that come with unigrid"
EPILOG = """\
examples:
  unigrid models
  unigrid models 'mgnet-*-Bl'
  unigrid models resnet18 --json

Names mgnet-CHANNELS-Bl, mgnet-CHANNELS-Bli and mgnet-CHANNELS-shared exist for any number of channels."""
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", help="part of the names to show, or a pattern with * and ?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(arguments: argparse.Namespace) -> int:
    options.load_learned()
    models = _matching(arguments.pattern)
    with user_errors():
        facts = {**facts_of(models), "pretrained": _pretrained(models if arguments.pattern else None)}
    show(facts, arguments.json, lambda facts: [*table(facts["models"], _columns()), *_trained(facts["pretrained"], _columns())])
    return 0


def _matching(pattern: str | None) -> list[NamedModel]:
    from ..conv.models import list_models, named_model

    if pattern is None:
        return [named_model(name) for name in list_models()]
    names = list_models(pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*")
    with user_errors():  # an unknown name; one that is not listed, such as that of 48 channels, is found
        return [named_model(name) for name in names or [pattern]]


def _pretrained(models: list[NamedModel] | None) -> list[Facts]:
    """Return the trained networks of these models as plain values; None: all, solvers too."""
    from ..pretrained import card_of, having_weights, list_pretrained

    names = list_pretrained() if models is None else [name for model in models for name in having_weights(model.name)]
    return [
        {
            "name": card.name,
            "parameters": card.parameters,
            "summary": card.summary(),
            "epoch": card.epoch,
            "measured": card.measured,
        }
        for card in map(card_of, names)
    ]


def _trained(cards: list[Facts], columns: int | None) -> list[str]:
    """Return the lines about trained networks."""
    if not cards:
        return []
    width = max(len(card["name"]) for card in cards)
    rows = [(f"{card['name']:<{width}}  {card['parameters']:10,}  ", card["summary"]) for card in cards]
    heading = "Trained, for `unigrid predict IMAGE --pretrained NAME` and unigrid.load_pretrained(NAME):"
    return ["", *_wrapped("", heading, columns), *(line for row in rows for line in _wrapped(*row, columns))]


def _columns() -> int | None:
    """Return the width of the terminal; None when stdout is not a terminal, where lines are not wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def facts_of(models: list[NamedModel]) -> Facts:
    """Return the models as plain values, for the table and for --json."""
    rows = [
        {
            "name": model.name, "parameters": model.parameters, "num_classes": model.config.num_classes,
            "in_channels": model.config.in_channels, "published": model.published, "source": model.source,
            "summary": model.summary,
        }
        for model in models
    ]  # fmt: skip
    return {"models": rows}


def table(models: list[Facts], columns: int | None = None) -> list[str]:
    """Return the lines of the table; summaries move to a second line if the table would be wider than `columns`."""
    keys = dict(zip(dict.fromkeys(model["source"] for model in models), string.ascii_lowercase, strict=False))
    width = max(len(model["name"]) for model in models)
    lines = [f"{'name':<{width}}  parameters  {'  '.join(DATASETS.values())}  source  summary"]
    for model in models:
        published = [f"{_number(model['published'].get(name)):>{len(title)}}" for name, title in DATASETS.items()]
        row = f"{model['name']:<{width}}  {model['parameters']:10,}  {'  '.join(published)}  {keys[model['source']]:<6}  "
        lines += _wrapped(row, model["summary"], columns)
    lines += ["", *_wrapped("", _legend(models), columns)]
    return lines + [line for source, key in keys.items() for line in _wrapped(f"{key}  ", source, columns)]


def _wrapped(row: str, text: str, columns: int | None) -> list[str]:
    """Return the row followed by the text, which is put below and indented if both together are too wide."""
    if columns is None or len(row + text) <= columns:
        return [row + text]
    indented = textwrap.wrap(text, max(columns, 20), initial_indent="    ", subsequent_indent="    ")
    return [row.rstrip(), *indented] if row else textwrap.wrap(text, max(columns, 20))


def _legend(models: list[Facts]) -> str:
    gray = ", ".join(model["name"] for model in models if model["in_channels"] == 1)
    for_gray = f" ({gray}: gray ones)" if gray else ""
    return f"Parameters are for 10 classes of RGB images{for_gray}; accuracies are published ones in %, last epoch where known."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
