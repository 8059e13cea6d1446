"""From the folder of a finished run to weights and card of a trained network that comes with the package.

    python -m unigrid.training.export runs/cifar10-mgnet-32-Bli-fast [--out FOLDER] [--data-dir DIR] [--force]

The weights are those that the run tested. Matrices and kernels are rounded to bfloat16, if that costs at most 0.05 points of
accuracy on the test set, which the run has read before; otherwise all stay as they are. Which epoch or which run is taken does
not depend on the test set: there is nothing here to choose from.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import pretrained
from ..conv.models import is_named, list_models, named_model
from ..conv.weights import clean_state_dict, load_clean_state_dict, require_safetensors
from ..files import FileError, atomic_output, check_readable, expanded, is_folder, os_errors
from ..machine import versions
from ..messages import printable
from ..pretrained import CARD, MARK, WEIGHTS, Card
from .data.datasets import NAMES
from .images.evaluation import Evaluation
from .images.inference import CUSTOM, TrainedModel, load_trained
from .runs.folders import RESULT
from .runs.logs import FACTS, PACKAGES

LARGEST = 1_000_000  # bytes of a file of weights
COST = 0.0005  # of rounding, at most, in accuracy from 0 to 1: 0.05 points
ELSEWHERE = 0.003  # by how much rounding on another device, such as a GPU, may change the accuracy of a run
FIRST = 2000  # test images whose accuracy is on the card too, for a test of seconds
SOLVER = "poisson-net"
RUN_FACTS = ("versions", "device", "threads", "processes", "command", "date", "seconds")


@dataclass(frozen=True, eq=False)
class Stored:
    """The weights of a file, and what was measured of the network with them."""

    weights: dict[str, Tensor]
    precision: str
    measured: dict[str, Any]


def export(run: str | Path, out: str | Path | None = None, data_dir: str | Path | None = None, replace: bool = False) -> Card:
    """Write weights and card of a finished run, and return the card.

    Parameters
    ----------
    run : path
        The folder of a run on a data set that has a name, or on Poisson problems.
    out : path, optional
        Folder of the two files; default that of the package.
    data_dir : path, optional
        Where the data set is: as in `unigrid.training.load`.
    replace : bool
        Whether to replace files of the same name.

    Raises
    ------
    FileError
        For a run that is not finished, whose network has no name, or is too large, or does not reach the accuracy that the run
        has recorded; and for files that exist.
    DatasetError
        For a data set that is missing.
    """
    run, out = expanded(run), expanded(str(pretrained.FOLDER) if out is None else out)
    trained = load_trained(run, "cpu")
    facts = _facts(run / FACTS) | ({} if trained.solves else _facts(run / RESULT))
    model, dataset = SOLVER if trained.solves else _model_name(trained), trained.configuration["dataset"]["name"]
    places = [_place(out, f"{model}{MARK}{dataset}{ending}", replace) for ending in (WEIGHTS, CARD)]
    stored = _solver(trained) if trained.solves else _classifier(trained, facts.get("test_accuracy"), data_dir)
    content = require_safetensors().save({name: value.contiguous() for name, value in stored.weights.items()})
    if len(content) > LARGEST:
        raise FileError(f"{run}: {len(content):,} bytes of weights in {stored.precision}; at most {LARGEST:,} are shipped")
    configuration = json.loads(json.dumps(trained.configuration))  # lists for tuples, as a card that is read has them
    card = Card(
        model=model, dataset=dataset, parameters=trained.parameters, epoch=trained.epoch, step=trained.step,
        measured=stored.measured, configuration=configuration,
        trained={name: value for name, value in facts.items() if name in RUN_FACTS},
        exported={"versions": versions(PACKAGES), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
        weights={"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "precision": stored.precision},
    )  # fmt: skip
    for place, part in zip(places, (content, card.to_json()), strict=True):
        with atomic_output(place) as file:
            file.write(part)
    return card


def _place(folder: Path, name: str, replace: bool) -> Path:
    if not is_folder(folder):
        raise FileError(f"{folder}: there is no such folder")
    path = folder / name
    if path.exists() and not replace:
        raise FileError(f"{path}: exists; replace=True (--force) replaces it")
    return path


def _classifier(trained: TrainedModel, reported: float | None, data_dir: Any) -> Stored:
    if reported is None:
        raise FileError(f"{trained.path}: its run has not read the test set, {RESULT} has no test_accuracy")
    data = trained.configuration["dataset"]["name"]
    if data not in NAMES:
        raise FileError(f"{trained.path}: trained on data of its owner's, {data}; weights are shipped for {', '.join(NAMES)}")
    images, weights = trained.data(data_dir=data_dir).test, clean_state_dict(trained.model)
    weights = {name: value.detach().clone() for name, value in weights.items()}
    full = trained.evaluate(images)
    if abs(full.accuracy - reported) > ELSEWHERE:
        raise FileError(
            f"{trained.path}: reaches {100 * full.accuracy:.2f} % of the test images here, and {RESULT} has "
            f"{100 * reported:.2f} %; are these its data, and the unigrid that trained it?"
        )
    rounded = {name: value.bfloat16() if _is_matrix(value) else value for name, value in weights.items()}
    load_clean_state_dict(trained.model, rounded)
    test = trained.evaluate(images)
    if full.accuracy - test.accuracy > COST:
        load_clean_state_dict(trained.model, weights)
        return Stored(weights, "float32", _measured(full, full, reported))
    return Stored(rounded, "bfloat16", _measured(test, full, reported))


def _is_matrix(value: Tensor) -> bool:
    """Whether a tensor is one of convolution kernels or a matrix; batch norms are few numbers, and sensitive."""
    return value.is_floating_point() and value.ndim >= 2


def _measured(test: Evaluation, full: Evaluation, reported: float) -> dict[str, Any]:
    first = min(FIRST, test.count)
    right = test.logits[:first].argmax(1) == test.labels[:first]
    return {
        "images": test.count, "accuracy": test.accuracy, "top5_accuracy": test.top(5), "loss": test.loss, "first": first,
        "accuracy_of_first": float(right.double().mean()), "accuracy_before_rounding": full.accuracy,
        "accuracy_in_training": reported,
    }  # fmt: skip


def _solver(trained: TrainedModel) -> Stored:
    from .solvers.measured import factors_of  # here, as it imports the stencil backend

    net: Any = trained.model
    weights = {name: value.detach().clone() for name, value in clean_state_dict(net).items()}
    return Stored(weights, "float64", {"factors": factors_of(net, trained.configuration)})


def _model_name(trained: TrainedModel) -> str:
    """Return the name of the network among the named models. Raises FileError where none has its configuration."""
    model = trained.configuration["model"]
    if model["kind"].startswith(CUSTOM):
        raise FileError(f"{trained.path}: a network of its owner's, {model['kind']}; named models alone are shipped")
    candidates = [*list_models(), *(f"mgnet-{model.get('features')}-{version}" for version in ("Bl", "Bli", "shared"))]
    wanted: Any = trained.model.config
    counts = {"num_classes": wanted.num_classes, "in_channels": wanted.in_channels}
    for name in filter(is_named, candidates):
        config = named_model(name).config
        if type(config) is type(wanted) and dataclasses.replace(config, **counts) == wanted:
            return name
    raise FileError(f"{trained.path}: its network is none of `unigrid models`; named models alone are shipped")


def _facts(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileError(f"{path}: is not there; the folder of a finished run is needed")
    check_readable(path)
    with os_errors(path, "cannot be read"):
        text = path.read_bytes()
    try:
        facts: dict[str, Any] = json.loads(text)
    except ValueError:
        raise FileError(f"{path}: damaged, not JSON") from None
    return facts


def main(argv: Sequence[str] | None = None) -> int:
    """Export from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m unigrid.training.export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", metavar="FOLDER", help="where to write; default the folder of the package")
    parser.add_argument("--data-dir", metavar="DIR", help="folder that holds the data; default UNIGRID_DATA")
    parser.add_argument("--force", action="store_true", help="replace weights and card of the same name")
    given = parser.parse_args(argv)
    try:
        card = export(given.run, given.out, given.data_dir, given.force)
    except FileError as error:
        print(f"unigrid: error: {printable(error)}", file=sys.stderr)
        return 2
    size = f"{card.parameters:,} parameters in {card.weights['bytes']:,} bytes, {card.weights['precision']}"
    print(f"{card.name}: {size}; {card.summary()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
