"""Options about input files, and values that a problem takes from files."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import IMAGES, READABLE, read_array
from ..tables import TableFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

NATURAL = "natural"  # a word that --outside takes
CHARACTERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "space": " "}


def yes_or_no(text: str) -> bool:
    """Return "yes" as True and "no" as False."""
    if text.lower() not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no, got {text!r}")
    return text.lower() == "yes"


def delimiter(text: str) -> str:
    """Return a character, or the one of that name; a space stands for white space."""
    character = CHARACTERS.get(text, text)
    if len(character) != 1:
        raise argparse.ArgumentTypeError(f"must be a character, or one of {', '.join(CHARACTERS)}, got {text!r}")
    return character


def decimal(text: str) -> str:
    """Return "." or ","."""
    if text not in (".", ","):
        raise argparse.ArgumentTypeError(f"must be '.' or ',', got {text!r}")
    return text


def columns(text: str) -> tuple[str, ...]:
    """Return "x,y,f" as a tuple."""
    return tuple(entry.strip() for entry in text.split(","))


def add_table_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("text tables", "needed where a file can be read in two ways")
    group.add_argument("--header", type=yes_or_no, metavar="yes|no", help="whether the first line holds names of columns")
    group.add_argument(
        "--index", type=yes_or_no, metavar="yes|no", help="whether the first column names the rows and is no data"
    )
    group.add_argument("--delimiter", type=delimiter, metavar="D", help="a character, or comma, semicolon, tab, space")
    group.add_argument("--decimal", type=decimal, metavar="M", help="decimal mark, '.' or ','")
    group.add_argument(
        "--columns", type=columns, metavar="x,y,f",
        help="of a table with one point per line, in any order: names, or numbers from 1, of the coordinates and of f, last; "
        "their spacing is that of the grid",
    )  # fmt: skip


def format_of(arguments: argparse.Namespace) -> TableFormat:
    """Return what the options state about text tables."""
    return TableFormat(arguments.header, arguments.index, arguments.delimiter, arguments.decimal, arguments.columns)


def array_in(text: str, form: TableFormat) -> NDArray[Any]:
    """Return the array in a file; FILE#NAME chooses one of several. Raises FileError."""
    path, _, name = text.partition("#")
    return read_array(path, name or None, form)


def coefficients_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return reaction, coefficient, mask, outside and fixed, as far as the command has these options.

    Raises ValueError and FileError.
    """
    form = dataclasses.replace(format_of(arguments), columns=None)  # those of f
    found: dict[str, Any] = {"reaction": number_or_array(arguments.reaction, "--reaction ", form)}
    names = "coefficient", "mask", "outside", "fixed"
    coefficient, mask, outside, fixed = (getattr(arguments, name, None) for name in names)
    if coefficient is not None:
        parts = [number_or_array(part, "--coefficient ", form) for part in coefficient.split(",")]
        found["coefficient"] = parts[0] if len(parts) == 1 else tuple(parts)
    if mask is not None:
        found["mask"] = mask_in(mask, form)
    if outside is not None:
        found["outside"] = outside if outside == NATURAL else number_or_array(outside, "--outside ", form)
    if fixed is not None:
        found["fixed"] = fixed_in(fixed, form)
    return found


def mask_in(text: str, form: TableFormat) -> NDArray[Any]:
    """Return the mask in a file: a picture's light parts, or an array of bool or of 0 and 1. Raises ValueError, FileError."""
    values = array_in(text, form)
    if Path(text).suffix.lower() in IMAGES:
        return values > 0.5  # type: ignore[no-any-return]
    return truth_of(values, text)


def truth_of(values: NDArray[Any], text: str) -> NDArray[Any]:
    """Return a mask of 0 and 1, or of bool, from a file of that name. Raises ValueError."""
    if not ((values == 0) | (values == 1)).all():
        raise ValueError(f"--mask {text}: must hold 0 and 1, or True where u is unknown; or be a picture, light there")
    return values == 1  # type: ignore[no-any-return]


def fixed_in(text: str, form: TableFormat) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where u is given, and what it is: the file's array, where that is not NaN. Raises ValueError, FileError."""
    values = array_in(text, form)
    where = values == values
    if not where.any():
        raise ValueError(f"--fixed {text}: is NaN everywhere; it must hold u where that is given, and NaN elsewhere")
    return where, values


def names_file(text: str) -> bool:
    """Whether a text ends as the names of readable files do; FILE#NAME too."""
    return Path(text.partition("#")[0].lower().removesuffix(".gz")).suffix in READABLE


def spacing_of(given: Any, form: TableFormat) -> Any:
    """Return a spacing, its files read as vectors of distances. Raises FileError."""
    if not isinstance(given, list):
        return given
    form = dataclasses.replace(form, columns=None)
    arrays = [array_in(entry, form) if isinstance(entry, str) else entry for entry in given]
    return [entry.ravel() if getattr(entry, "ndim", 0) > 1 and max(entry.shape) == entry.size else entry for entry in arrays]


def number_or_array(text: str, option: str, form: TableFormat) -> float | NDArray[Any]:
    """Return a number, or the array in a file, given after `option`. Raises ValueError for what is neither, and FileError."""
    try:
        return float(text)
    except ValueError:
        if names_file(text):
            return array_in(text, form)
        raise ValueError(f"{text!r} is not a number, nor a file; write for example {option}1.5 or {option}left.npy") from None
