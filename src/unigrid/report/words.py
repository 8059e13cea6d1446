"""What a run came to, in sentences and numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .page import LONGEST_NAME, shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..training import TrainedModel
    from .records import Record


CUSTOM = "custom"


def summary(found: Sequence[Record], trained: TrainedModel | None, matrix: NDArray[np.int64] | None) -> Iterator[str]:
    """Yield the sentences at the top of the page."""
    first = found[0]
    size = f" ({trained.parameters:,} parameters)" if trained is not None else ""
    if first.solves:
        yield from _of_solver(first, size)
    else:
        yield from _of_classifier(found, size, matrix)
    yield _time(found)


def _of_classifier(found: Sequence[Record], size: str, matrix: NDArray[np.int64] | None) -> Iterator[str]:
    first = found[0]
    data, epochs = first.configuration["dataset"], first.rows[-1]["epoch"]
    count, classes = data.get("training_images"), len(data.get("classes", ()))
    pictures = f"{count:,} pictures" if isinstance(count, int) else "the pictures"
    drawn = ", which are drawn by a program" if data.get("synthetic") else ""
    source = "" if data["name"] == CUSTOM else f" of {data_name(first)}"
    yield (
        f"The network {model_name(first.configuration['model'])}{size} was trained for {plural(epochs, 'epoch')} on {pictures}"
        f"{source}{drawn}, to tell {classes} classes apart."
    )
    accuracies = [record.test_accuracy for record in found if record.test_accuracy is not None]
    if not accuracies:
        yield f"On the pictures that it was trained with it is right in {share(_last(first, 'train_accuracy'))}."
        return
    images = "" if matrix is None else f"{int(matrix.sum()) // len(accuracies):,} "
    spread = ""
    if len(accuracies) > 1:
        deviation = 100 * statistics.stdev(accuracies)
        spread = f", the mean of {len(accuracies)} runs with a standard deviation of {deviation:.2f} points"
    yield f"It recognizes {share(statistics.fmean(accuracies))} of the {images}test pictures{spread}."
    if matrix is not None:
        yield f"Always answering with the most frequent class would be right in {share(matrix.sum(1).max() / matrix.sum())}."


def _of_solver(record: Record, size: str) -> Iterator[str]:
    row = record.rows[-1]
    epochs = plural(row["epoch"], "epoch")
    yield f"The smoothers of a multigrid cycle{size} were trained for {epochs} to solve Poisson's equation."
    factor = row.get("measured_factor")
    if isinstance(factor, (int, float)) and math.isfinite(factor) and factor > 0:
        digits = f", {-math.log10(factor):.1f} decimal digits" if factor < 1 else ""
        yield f"One cycle multiplies the error by {factor:.3g}{digits}, measured on the grids that it was trained on."
    if record.configuration["protocol"].get("name") == "fourier":
        yield (
            "The loss is a smooth maximum that comes closer to the maximum from epoch to epoch, so that it may rise; what "
            "counts are the factors."
        )


def _time(found: Sequence[Record]) -> str:
    first = found[0]
    taken = [record.seconds for record in found if record.seconds is not None]
    device, threads = first.surroundings.get("device"), first.surroundings.get("threads")
    where = f" on {shortened(str(device), LONGEST_NAME)}" if device else ""
    cores = f", {plural(threads, 'thread')}" if isinstance(threads, int) else ""
    each = " in all" if len(found) > 1 else ""
    return f"Training took {duration(sum(taken))}{each}{where}{cores}." if taken else "The time was not recorded."


def numbers(found: Sequence[Record], trained: TrainedModel | None) -> Iterator[tuple[str, str]]:
    """Yield the figures that stand out: labels and values."""
    first = found[0]
    accuracies = [record.test_accuracy for record in found if record.test_accuracy is not None]
    if accuracies:
        yield "test accuracy", share(statistics.fmean(accuracies))
    if first.solves:
        yield "factor per cycle", number(first.rows[-1].get("measured_factor"))
    if trained is not None:
        yield "parameters", f"{trained.parameters:,}"
    yield "epochs", f"{first.rows[-1]['epoch']} of {first.epochs}"
    taken = [record.seconds for record in found if record.seconds is not None]
    if taken:
        yield "training time", duration(sum(taken))


def model_name(model: Mapping[str, Any]) -> str:
    """Return the name of a network among those of `unigrid models`, else that of its kind."""
    from ..conv.models import list_models, named_model

    wanted, channels = _comparable(model), model.get("features")
    others = (
        [f"mgnet-{channels}-{sharing}" for sharing in ("Bl", "Bli", "shared")] if type(channels) is int and channels > 0 else []
    )
    for name in (*others, *list_models()):
        config = named_model(name).config
        if _comparable({"kind": type(config).__name__, **dataclasses.asdict(config)}) == wanted:
            return name
    return shortened(str(model["kind"]).removesuffix("Config"), LONGEST_NAME)


def _comparable(model: Mapping[str, Any]) -> Any:
    """Return a configuration as JSON has it, without what the data decide."""
    return json.loads(json.dumps({name: value for name, value in model.items() if name not in ("num_classes", "in_channels")}))


def data_name(record: Record) -> str:
    """Return the name of the data; "custom" is that of all data which have none."""
    if record.configuration["dataset"]["name"] == CUSTOM:
        return "custom data"
    return shortened(str(record.configuration["dataset"]["name"]), LONGEST_NAME)


def share(value: float | None) -> str:
    """Return a part of 1 in per cent."""
    return "an unknown share" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def number(value: Any) -> str:
    """Return a number for a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else shortened(str(value), LONGEST_NAME)


def plural(count: int, noun: str) -> str:
    """Return a count and its noun."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Return a time in the units that suit it.

    >>> duration(14.93), duration(1290), duration(11100)
    ('14.9 s', '21 min 30 s', '3 h 05 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _last(record: Record, key: str) -> float | None:
    value = record.rows[-1].get(key)
    return float(value) if isinstance(value, (int, float)) else None
