"""The page of a training run, or of the runs of several seeds in one folder."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..files import FileError, one_line
from . import records, words
from .page import LONGEST_NAME, Page, Table, render, require_jinja2, shortened, surroundings, table
from .records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from ..training import ImageData, TrainedModel
    from .confusions import Confusion
    from .figures import Picture
    from .networks import ImageLevels, Kernels, Tested

MOST_CLASSES, MOST_EPOCHS = 200, 100  # rows of a table


@dataclass(frozen=True)
class Curve:
    """A quantity over the epochs."""

    title: str
    picture: Picture


@dataclass(frozen=True)
class SeedRow:
    """One seed among several."""

    name: str
    epochs: str
    test_accuracy: float | None
    best_validation_accuracy: float | None
    seconds: float | None


@dataclass(frozen=True)
class RunFacts:
    """All that the page of a run shows."""

    title: str
    badges: tuple[str, ...]
    summary: tuple[str, ...]
    numbers: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    curves: tuple[Curve, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    seeds: tuple[SeedRow, ...]
    confusion: Confusion | None
    per_class: tuple[Mapping[str, Any], ...]
    images: tuple[ImageLevels, ...]
    kernels: tuple[Kernels, ...]
    tables: tuple[Table, ...]


def of_run(
    folder: str | os.PathLike[str],
    *,
    dataset: Any = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    device: str = "auto",
    model: nn.Module | None = None,
    images: int | Iterable[int] | None = None,
) -> Page:
    """Return the page of a training run: summary, curves, confusion with pictures, levels of the network, kernels, settings.

    The test set of a finished run is classified again, as nothing is stored of it but the confusion matrix. What is missing,
    such as the data, is stated on the page.

    Parameters
    ----------
    folder : path
        Of a run of `unigrid.train`, or one with the folders of several seeds: accuracies are then means, and the confusion
        matrix is that of all seeds together.
    dataset, data_dir, download
        The data set and where it is, as for `TrainedModel.evaluate`. Needed for pictures of your own.
    device : "auto", "cpu", "cuda", ...
    model : nn.Module, optional
        The network that the weights are loaded into, which networks of your own need; it stays as it is.
    images : int or several, optional
        The numbers of the test pictures whose features and residuals are shown, from 0. By default the surest right answer,
        the surest wrong one, and the least sure one.

    Raises
    ------
    ImportError
        Without jinja2 or torch; the extras `report` and `learn` install them.
    FileError
        For a folder that is missing, is no run, or of which no epoch has ended.
    ValueError
        For a device that is not there, or a picture that the test set does not have.

    Examples
    --------
    >>> import tempfile, unigrid
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = unigrid.train("shapes", "mgnet-4-Bl", epochs=1, subset=128, device="cpu", out=folder)
    ...     page = unigrid.report.of_run(folder, device="cpu")
    >>> "Confusion" in page.html
    True
    """
    require_jinja2()
    found = records.read(folder)
    notices = [*(fault for record in found for fault in record.faults), *_unfinished(found)]
    networks = _networks(found, device, model, notices)
    data = _data(networks, {"dataset": dataset, "data_dir": data_dir, "download": download}, notices)
    tested = _tested(networks, data, notices)
    matrix = _matrix(found, tested, notices)
    classes = _classes(found[0])
    trained = networks[0][1] if networks else None
    facts = RunFacts(
        title=_title(found[0]), badges=tuple(_badges(found)), summary=tuple(words.summary(found, trained, matrix)),
        numbers=tuple(words.numbers(found, trained)), curves=tuple(_curves(found)), columns=_columns(found[0]),
        rows=tuple(_rows(found)), seeds=tuple(_seeds(found)), confusion=_confusion(matrix, classes, tested, data),
        per_class=tuple(_per_class(matrix, classes)), images=tuple(_images(networks, tested, data, images, notices)),
        kernels=tuple(_kernels(trained)), tables=tuple(_tables(found)), notices=tuple(dict.fromkeys(notices)),
    )  # fmt: skip
    return render("run.html", facts)


def _unfinished(found: Sequence[Record]) -> Iterator[str]:
    for record in found:
        if not record.is_finished and not record.faults:
            name = f"{record.name}: " if len(found) > 1 else ""
            tested = "" if record.solves else ", and the test set was not read"
            yield (
                f"{name}The run is not finished: {record.rows[-1]['epoch']} of {record.epochs} epochs are done{tested}; the "
                "command that began it goes on with --resume."
            )


def _networks(
    found: Sequence[Record], device: str, model: nn.Module | None, notices: list[str]
) -> list[tuple[Record, TrainedModel]]:
    """Return the networks that can be loaded; note the others."""
    from ..training import load_trained
    from ..training.runs.devices import device_named

    place, networks = device_named(device), []
    for record in found:
        try:
            networks.append((record, load_trained(record.folder, place, copy.deepcopy(model))))
        except FileError as error:
            hint = "; so does unigrid.report.of_run(folder, model=...)" if "model=..." in str(error) else ""
            notices.append(f"No network, and so no kernels and no pictures: {_from(record, error)}{hint}")
    return networks


def _from(record: Record, error: Exception) -> str:
    """Return the text of an error without the folders that lead to the run."""
    return shortened(one_line(str(error).replace(str(record.folder), record.folder.name)))


def _data(networks: Sequence[tuple[Record, TrainedModel]], source: dict[str, Any], notices: list[str]) -> ImageData | None:
    """Return the test pictures, None without them, which is noted."""
    if not networks or networks[0][0].solves:
        return None
    record, trained = networks[0]
    try:
        return trained.data(**source)
    except (ValueError, ImportError) as error:  # with the command that downloads the data, or that installs a package
        hint = "; --dataset names them" if source["dataset"] is None and "no name" in str(error) else ""
        notices.append(f"No test pictures: {_from(record, error)}{hint}")
        return None


def _tested(networks: Sequence[tuple[Record, TrainedModel]], data: ImageData | None, notices: list[str]) -> tuple[Tested, ...]:
    """Return the answers of the networks that were tested when their run ended; nobody reads the test set before that."""
    from .networks import Tested

    if data is None:
        return ()
    try:
        return tuple(
            Tested(record.name, trained, trained.evaluate(data.test))
            for record, trained in networks
            if record.result is not None
        )
    except MemoryError as error:
        notices.append(f"No pictures behind the confusion matrix: {one_line(error)}")
        return ()


def _matrix(found: Sequence[Record], tested: Sequence[Tested], notices: list[str]) -> NDArray[np.int64] | None:
    """Return the confusion matrix of all seeds together: that of the pictures on the page, else the one in the results."""
    import numpy as np

    stored = [record.result["confusion"] for record in found if record.result is not None and record.result["confusion"]]
    total: NDArray[np.int64] = np.sum(stored, axis=0, dtype=np.int64) if stored else np.zeros((0, 0), np.int64)
    if tested and len(tested) == len(stored):
        counted: NDArray[np.int64] = np.sum([each.evaluation.confusion.numpy() for each in tested], axis=0)
        if counted.sum() != total.sum():
            notices.append(
                f"The confusion matrix is of the {counted.sum():,} pictures of the data set that was named for this page; "
                f"when the run ended, it was tested on {total.sum():,}."
            )
        total = counted
    return total if total.sum() else None


def _classes(record: Record) -> tuple[str, ...]:
    return tuple(shortened(str(name), LONGEST_NAME) for name in record.configuration["dataset"].get("classes", ()))


def _title(record: Record) -> str:
    return f"{words.data_name(record)}, {words.model_name(record.configuration['model'])}"


def _badges(found: Sequence[Record]) -> Iterator[str]:
    if found[0].configuration["dataset"].get("synthetic"):
        yield "synthetic data"
    if len(found) > 1:
        yield f"{len(found)} seeds"
    if not all(record.is_finished for record in found):
        yield "not finished"


def _curves(found: Sequence[Record]) -> Iterator[Curve]:
    from .curves import draw

    histories: Any = {record.name: record.rows for record in found} if len(found) > 1 else found[0].rows
    tests = {record.name: record.test_accuracy for record in found if record.test_accuracy is not None}
    accuracies: Any = tests if len(found) > 1 else next(iter(tests.values()), None)
    yield from (Curve(*drawn) for drawn in draw(histories, accuracies, found[0].solves))


def _columns(record: Record) -> tuple[str, ...]:
    names = dict.fromkeys(name for row in record.rows for name in row)
    return tuple(name.replace("_", " ") for name in names)


def _rows(found: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the first run as texts, the first and the last of many."""
    rows = found[0].rows
    names = dict.fromkeys(name for row in rows for name in row)
    shown = rows if len(rows) <= MOST_EPOCHS else rows[: MOST_EPOCHS // 2] + rows[-MOST_EPOCHS // 2 :]
    for row in shown:
        yield tuple(words.number(row.get(name)) for name in names)


def _seeds(found: Sequence[Record]) -> Iterator[SeedRow]:
    if len(found) > 1:
        for record in found:
            result = record.result or {}
            epochs = f"{record.rows[-1]['epoch']} of {record.epochs}"
            validation = result.get("best_validation_accuracy")
            yield SeedRow(record.name, epochs, record.test_accuracy, validation, record.seconds)


def _confusion(
    matrix: NDArray[np.int64] | None, classes: tuple[str, ...], tested: Sequence[Tested], data: ImageData | None
) -> Confusion | None:
    from .confusions import confusion_of

    return None if matrix is None else confusion_of(matrix, classes, tested, data)


def _per_class(matrix: NDArray[np.int64] | None, classes: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """Yield the scores of the classes; of very many, of those that are recognized worst."""
    import torch

    from ..training import Evaluation

    if matrix is None:
        return
    rows = Evaluation(0.0, 0.0, torch.from_numpy(matrix)).per_class(classes)
    yield from rows if len(rows) <= MOST_CLASSES else sorted(rows, key=lambda row: row["f1"])[:MOST_CLASSES]


def _images(
    networks: Sequence[tuple[Record, TrainedModel]],
    tested: Sequence[Tested],
    data: ImageData | None,
    images: Any,
    notices: list[str],
) -> Iterator[ImageLevels]:
    """Yield what the levels of the first network make of the chosen test pictures."""
    from .networks import SHOWN, checked_images, label_of, levels_of_image, telling

    if data is None:
        return
    numbers = checked_images(images, len(data.test))
    if numbers is None:
        numbers = telling(tested[0].evaluation) if tested else list(range(min(SHOWN, len(data.test))))
    trained, classes = networks[0][1], _classes(networks[0][0])
    for number in numbers:
        try:
            yield levels_of_image(trained, data, number, label_of(tested, data, number, classes))
        except TypeError as error:
            notices.append(f"No levels: {one_line(error)}")
            return


def _kernels(trained: TrainedModel | None) -> Iterator[Kernels]:
    from .networks import SLOTS, SMOOTHERS, kernels_of

    if trained is None:
        return
    network: Any = trained.model
    levels = network.levels[:1] if trained.solves else getattr(getattr(network, "cycle", None), "levels", ())
    yield from kernels_of(levels, SMOOTHERS if trained.solves else SLOTS)


def _tables(found: Sequence[Record]) -> Iterator[Table]:
    first = found[0]
    configuration = first.configuration
    data = {name: value for name, value in configuration["dataset"].items() if name != "classes"}
    yield table("Network", configuration["model"])
    yield table("Data", {**data, **{name: configuration.get(name) for name in ("subset", "validation")}})
    yield table("Protocol", configuration["protocol"])
    others = {name: first.surroundings.get(name) for name in ("device", "threads", "processes", "command", "date")}
    yield surroundings(first.surroundings.get("versions") or {}, **others)
