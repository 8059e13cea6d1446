"""What a trained network does with test pictures: which it confuses, what its levels make of them, and its kernels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..messages import checked_count, entries_of
from .figures import Picture, mosaic, thumbnail

if TYPE_CHECKING:
    from torch import Tensor

    from ..training import Evaluation, ImageData, TrainedModel

SLOTS = {
    "operator": "A", "smoother": "B", "restriction": "R", "state_transfer": "Π", "prolongation": "P",
    "post_smoother": "B of the way up",
}  # fmt: skip
SMOOTHERS = ("smoother", "post_smoother")  # what is trained of a solver
TEX = {"$": "", r"\|": "‖", r"\,": " ", "\n": "; ", " - ": " − "}
COLUMNS = ("data f", "features u", "residual f − A u")
SHOWN, MOST_SHOWN = 3, 12  # pictures whose levels are shown, by default and at most
CHANNELS = 4  # of each that are shown
TILE = 64  # pixels of a side to which channels of larger images are averaged


@dataclass(frozen=True, eq=False)
class Tested:
    """A network and its answers: the evaluation on the test pictures."""

    name: str
    trained: TrainedModel
    evaluation: Evaluation


@dataclass(frozen=True)
class Shown:
    """What one panel shows: a picture or, where there is nothing to show, only the caption."""

    column: str
    picture: Picture | None
    caption: str


@dataclass(frozen=True)
class LevelPictures:
    """A level of the network for one picture: data, features and residual."""

    number: int
    size: str
    panels: tuple[Shown, ...]


@dataclass(frozen=True)
class ImageLevels:
    """A test picture and what the levels make of it."""

    title: str
    picture: Picture
    levels: tuple[LevelPictures, ...]


@dataclass(frozen=True)
class Kernels:
    """The largest kernels of a slot."""

    slot: str
    place: str
    picture: Picture
    caption: str


def pixels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (channels, height, width) as a picture, the first channel alone where there are not three."""
    values: NDArray[np.uint8] = image.cpu().numpy()
    return np.ascontiguousarray(values.transpose(1, 2, 0)) if len(values) == 3 else np.ascontiguousarray(values[0])


def label_of(tested: Sequence[Tested], data: ImageData, number: int, classes: Sequence[str]) -> str:
    """Return a test picture in words: its number, its class and, where it was tested, what the first network takes it for."""
    label = int(data.test.labels[number])
    named = f"test picture {number}, {classes[label]}"
    if not tested:
        return named
    probabilities = tested[0].evaluation.logits[number].softmax(0)
    guess = int(probabilities.argmax())
    answer = "recognized" if guess == label else f"taken for {classes[guess]}"
    return f"{named}: {answer}, {float(probabilities[guess]):.0%} sure"


def telling(evaluation: Evaluation) -> list[int]:
    """Return three test pictures: the surest right answer, the surest wrong one, and the least sure one."""
    sure, guess = evaluation.logits.softmax(1).max(1)
    right = guess == evaluation.labels
    chosen = [int((sure * right).argmax()), int((sure * ~right).argmax()), int(sure.argmin())]
    return list(dict.fromkeys(chosen))


def checked_images(images: Any, count: int) -> list[int] | None:
    """Return the numbers of test pictures, given as several or as one.

    Raises ValueError for others than 0 to count - 1, and for more than a page has room for.
    """
    if images is None:
        return None
    several = entries_of(images)
    numbers = (images,) if several is None else several
    chosen = list(dict.fromkeys(checked_count("images", number, 0, count - 1) for number in numbers))
    if len(chosen) > MOST_SHOWN:
        raise ValueError(f"images must be at most {MOST_SHOWN} for one page, got {len(chosen)}")
    return chosen


def levels_of_image(trained: TrainedModel, data: ImageData, number: int, title: str) -> ImageLevels:
    """Return what the levels of a network make of a test picture. Raises TypeError for a network without levels."""
    from ..plots.features import panels_of, states_of

    image = data.test.images[number]
    model: Any = trained.model
    states = states_of(model, trained._pipeline(image[None]).plain(0, 1))
    levels = []
    for level, state in enumerate(states):
        size = "{} × {}".format(*state.data.shape[2:])
        panels = zip(COLUMNS, panels_of(state, CHANNELS), strict=True)
        shown = tuple(_shown(name, panel, f"of level {level}, {title}") for name, panel in panels)
        levels.append(LevelPictures(level, size, shown))
    return ImageLevels(title, thumbnail(pixels(image), title), tuple(levels))


def _shown(column: str, panel: Any, where: str) -> Shown:
    caption = panel.caption if panel.channels is not None else panel.caption.replace("\n", " ")
    for tex, plain in TEX.items():
        caption = caption.replace(tex, plain)
    if panel.channels is None:
        return Shown(column, None, caption)
    return Shown(column, mosaic(_averaged(panel.channels), panel.limit, f"{column} {where}; {caption}"), caption)


def _averaged(tiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return arrays of at most TILE x TILE, averaged over squares where they are larger."""
    count, height, width = tiles.shape
    step = -(-max(height, width) // TILE)
    tall, wide = max(height // step, 1), max(width // step, 1)
    cut = tiles[:, : tall * step, : wide * step]
    return cut.reshape(count, tall, -1, wide, cut.shape[2] // wide).mean(axis=(2, 4))


def kernels_of(levels: Sequence[Any], slots: Collection[str] = SLOTS) -> Iterator[Kernels]:
    """Yield the kernels of these slots of all levels, those that levels share once."""
    from ..plots.kernels import groups_of, largest

    for group in groups_of(list(levels)):
        if group.slot not in slots:
            continue
        tiles, limit, caption = largest(group.kernels)
        slot, place, text = SLOTS[group.slot], group.place(len(levels)), caption.replace("\n", "; ")
        alt = f"Kernels of {slot}, {place}: {text}"
        yield Kernels(slot, place, mosaic(tiles, limit, alt), text)
