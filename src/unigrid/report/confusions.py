"""The confusion matrix with the pictures behind each of its cells, those of the surest answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..plots.confusion import most_confused
from .figures import Picture, shades, thumbnail
from .networks import Tested, pixels

if TYPE_CHECKING:
    from ..training import ImageData

MOST_CLASSES = 20  # of a matrix whose cells are written out; of more, the most confused pairs stand for it
PAIRS = 24  # that are listed then, and
WORST = 6  # that are listed, and printed on paper, beside a matrix
PER_CELL, IN_ALL = 8, 600  # pictures
SHADES = 10


@dataclass(frozen=True)
class Shot:
    """A test picture behind a cell, and how sure the network was of its answer."""

    caption: str
    picture: Picture


@dataclass(frozen=True)
class Cell:
    """Test pictures of one class that were taken for one class; `shade` is 0 to 10 by the root of their share."""

    name: str
    label: str
    taken_for: str
    count: int
    share: float
    shade: int
    right: bool
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Confusion:
    """The matrix by rows of cells, empty for many classes; its most confused cells; or, for many classes, a picture of it."""

    classes: tuple[str, ...]
    images: int
    rows: tuple[tuple[Cell, ...], ...]
    worst: tuple[Cell, ...]
    picture: Picture | None


def confusion_of(
    matrix: NDArray[np.int64], classes: Sequence[str], tested: Sequence[Tested], data: ImageData | None
) -> Confusion:
    """Return the matrix of counts; with the pictures of `data` behind its cells where the networks were tested on them."""
    many = len(classes) > MOST_CLASSES
    pairs = [(true, guess) for true, guess, _ in most_confused(matrix, PAIRS if many else WORST)]
    wanted = pairs if many else [(true, guess) for true, guess in np.argwhere(matrix).tolist()]
    shots = {} if data is None else _shots(tested, data, wanted)

    def cell(true: int, guess: int) -> Cell:
        count, of_class = int(matrix[true, guess]), int(matrix[true].sum())
        share = count / of_class if of_class else 0.0
        shade = round(SHADES * share**0.5)
        found = tuple(shots.get((true, guess), ()))
        return Cell(f"cell-{true}-{guess}", classes[true], classes[guess], count, share, shade, true == guess, found)

    numbers = range(len(classes))
    rows = () if many else tuple(tuple(cell(true, guess) for guess in numbers) for true in numbers)
    images = int(matrix.sum())
    alt = f"Confusion matrix of {len(classes)} classes: rows are true classes, columns what they were taken for."
    picture = shades(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), alt) if many else None
    return Confusion(tuple(classes), images, rows, tuple(cell(*pair) for pair in pairs), picture)


def _shots(tested: Sequence[Tested], data: ImageData, cells: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[Shot]]:
    """Return the pictures of each cell, the surest answers first, of all networks together."""
    room = min(PER_CELL, max(1, IN_ALL // max(len(cells), 1)))
    shots: dict[tuple[int, int], list[Shot]] = {place: [] for place in cells}
    for sure, place, number, name in sorted(_answers(tested), key=lambda found: -found[0]):
        if place in shots and len(shots[place]) < room:
            seed = f", {name}" if len(tested) > 1 else ""
            text = f"{sure:.0%}{seed}"
            alt = f"test picture {number}, {sure:.0%} sure{seed}"
            shots[place].append(Shot(text, thumbnail(pixels(data.test.images[number]), alt)))
    return shots


def _answers(tested: Sequence[Tested]) -> Iterator[tuple[float, tuple[int, int], int, str]]:
    """Yield how sure each network was of each picture, the cell of the answer, the picture, and the network."""
    for each in tested:
        sure, guess = each.evaluation.logits.softmax(1).max(1)
        cells = zip(each.evaluation.labels.tolist(), guess.tolist(), strict=True)
        for number, (probability, place) in enumerate(zip(sure.tolist(), cells, strict=True)):
            yield probability, place, number, each.name
