"""Tables of numbers in text files. What a file holds is found from the file, or refused where two readings of it fit.

Delimiter, decimal mark, header and index are not written down in a text file. Each is inferred where the file admits one value
of it alone; otherwise the error names the readings and the option that chooses one.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Row = list[str]
DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'", " ": "white space", "\n": "none"}
COMMENTS = ("%", "!", "//")  # at the start of a line
COMMENT = re.compile(r"(^|\s)#(?!N/A|DIV/0!|NUM!|VALUE!|REF!|NAME\?|NULL!).*")  # but for the errors of a spreadsheet
MISSING = {"", "na", "n/a", "#n/a", "null", "none", "-", "--"}
COORDINATES = {"x", "y", "z", "lon", "lat", "longitude", "latitude", "easting", "northing", "i", "j", "k", "r", "t"}
COUNTERS = {"index", "id", "row", "no", "no.", "nr", "unnamed: 0"}
TALL = 10  # rows per column from which two to four columns may as well be coordinates and values
FIRST_LINES = 3
WHOLE = -1  # the style of a number without a decimal mark
MERGED, UNEVEN = 1e-6, 1e-2  # equal coordinates, relative to their range; deviations from equal spacing, relative to it
MARKS = (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")
PLAIN = str.maketrans({"D": "e", "d": "e", "Q": "e", "q": "e", "_": "?", "\N{MINUS SIGN}": "-"})  # exponents of Fortran
COMMAS = {**PLAIN, ord("."): "?", ord(","): "."}
THREE_DIGITS = re.compile(r"([+-]?(?:\d+\.\d*|\.\d+))([+-]\d{3})")  # 1.0-101, as Fortran prints three digits of an exponent
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3}){1,3}(\.\d+)?")


class ContentError(ValueError):
    """A file that cannot be read, or in more than one way; the text lacks the path."""


@dataclass(frozen=True)
class TableFormat:
    """What is known about a text table; None is to be found from the file.

    header : whether the first line holds names of columns
    index : whether the first column names the rows; False: it holds values, whatever it looks like
    delimiter : one character, " " for white space
    decimal : "." or ","
    columns : names, or numbers from 1, of a long table, which has one line per point: the coordinates, then the values
    """

    header: bool | None = None
    index: bool | None = None
    delimiter: str | None = None
    decimal: str | None = None
    columns: tuple[str, ...] | None = None


UNSTATED = TableFormat()


class Field(NamedTuple):
    """Values on a grid, and the distance of its points along each axis where the file has it."""

    values: Array
    spacing: tuple[float | None, ...] | None = None


class Line(NamedTuple):
    """A line that is no comment, with its number in the file, from 1."""

    number: int
    text: str


class Reading(NamedTuple):
    """How lines are cut into numbers."""

    delimiter: str
    decimal: str

    def __str__(self) -> str:
        return f"delimiter {DELIMITERS.get(self.delimiter, repr(self.delimiter))} and decimal {self.decimal!r}"


class Table(NamedTuple):
    """A table under one reading: names of columns or None, cells as text, their values, and the lines they stand in."""

    names: Row | None
    cells: list[Row]
    values: Array
    lines: list[Line]

    @property
    def size(self) -> str:
        rows, columns = self.values.shape
        return f"{rows} row{'s' * (rows != 1)} of {columns} column{'s' * (columns != 1)}"


def read_table(content: bytes, form: TableFormat) -> Field:
    """Return the numbers of a text table: a single row or column as one axis, a long table as the grid of its points.

    Raises
    ------
    ContentError
        Where a cell is no number, rows differ in length, or two readings fit.
    """
    lines = _lines(_decoded(content))
    if not lines:
        raise ContentError("holds no numbers")
    table = _parsed(lines, form)
    if form.columns is not None and len(form.columns) > 1:
        return _gridded(table, form.columns)
    if form.header is None and table.names is None:
        _refuse_numeric_header(table)
    if form.index is None and form.columns is None:
        _refuse_other_meanings(table)
    values = table.values
    return Field(values.ravel() if 1 in values.shape else values)


def _decoded(content: bytes) -> str:
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content:  # UTF-16 without a mark: numbers are ASCII, every other byte is zero
        odd, even = content[1::2], content[::2]
        encoding = "utf-16-le" if not any(odd) else "utf-16-be" if not any(even) else None
        if encoding is None:
            raise ContentError("holds zero bytes, and so is no text")
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        if encoding is not None:
            raise ContentError(f"is no valid {encoding.upper()} text") from None
        return content.decode("latin-1")  # which differs in names of columns alone: numbers are ASCII


def _lines(text: str) -> list[Line]:
    """Return the lines with content; a comment begins with #, anywhere outside quotes, or with another mark at the start."""
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        literal = "#" not in line or ('"' in line and not line.lstrip().startswith("#"))
        kept = line if literal else COMMENT.sub("", line)
        if kept.strip() and not kept.lstrip().startswith(COMMENTS):
            lines.append(Line(number, kept))
    return lines


def _parsed(lines: list[Line], form: TableFormat) -> Table:
    """Return the table under the only reading that fits."""
    fitting: list[tuple[Reading, Table]] = []
    faults: list[ContentError] = []
    for reading in _readings(lines, form):
        try:
            table = _cut(lines, reading, form)
        except ContentError as error:
            faults.append(error)
        else:
            if not any(_same(table, other) for _, other in fitting):
                fitting.append((reading, table))
    proven = [(reading, table) for reading, table in fitting if not _unproven(reading, table, form)]
    if len(fitting) == 1 and proven:
        _refuse_thousands(*proven[0], form)
        return proven[0][1]
    if len(fitting) > 1:
        ways = ", or as ".join(f"{table.size} with {reading}" for reading, table in fitting)
        raise ContentError(f"can be read as {ways}: choose with --delimiter or --decimal")
    if not faults and not fitting:
        raise ContentError("has no quotes, so that --delimiter and --decimal cannot be the same character")
    fault = str(faults[0]) if faults else "can be read as one column with decimal commas"
    raise ContentError(f"{fault}; where the comma is the decimal mark, give --decimal ," if fitting else fault)


def _readings(lines: list[Line], form: TableFormat) -> list[Reading]:
    """Return the readings to try, the usual ones first."""
    text = "\n".join(line.text for line in lines)
    found = [each for each in DELIMITERS if each in " \n" or each in text] if form.delimiter is None else [form.delimiter]
    marks = [form.decimal] if form.decimal else [".", ","] if "," in text else ["."]
    return [Reading(each, mark) for mark in marks for each in found if each != mark or '"' in text]


def _same(one: Table, other: Table) -> bool:
    return one.values.shape == other.values.shape and np.array_equal(one.values, other.values, equal_nan=True)


def _unproven(reading: Reading, table: Table, form: TableFormat) -> bool:
    """Whether nothing but the lack of another reading makes commas decimal marks: a column without name or neighbor."""
    alone = table.values.shape[1] == 1 and table.names is None and reading.delimiter != ","
    return reading.decimal == "," and form.decimal is None and alone


def _refuse_thousands(reading: Reading, table: Table, form: TableFormat) -> None:
    if form.decimal is not None or form.delimiter is not None:
        return
    if reading.delimiter == "," and reading.decimal == ".":
        groups = all(THOUSANDS.fullmatch(line.text.strip()) for line in table.lines)
    else:
        commas = [cell for row in table.cells for cell in row if "," in cell]
        groups = reading.decimal == "," and bool(commas) and all(THOUSANDS.fullmatch(cell) for cell in commas)
    if groups:
        raise ContentError(
            f"line {table.lines[0].number} may have commas between thousands, which are not read: take them out, or "
            "give --delimiter or --decimal for what the comma is"
        )


def _cut(lines: list[Line], reading: Reading, form: TableFormat) -> Table:
    """Return the table under a reading. Raises ContentError where it does not fit."""
    if len(lines) > FIRST_LINES:
        _cut(lines[:FIRST_LINES], reading, form)  # most readings that do not fit fail here, at once
    rows = _split(lines, reading.delimiter)
    header = _is_header(rows, lines[0], reading.decimal) if form.header is None else form.header
    names = rows[0] if header else None
    rows, lines = (rows[1:], lines[1:]) if header else (rows, lines)
    if not rows:
        raise ContentError("holds no numbers")
    if all(len(row) > 1 and not row[-1] for row in rows):  # a delimiter at the end of every line
        rows = [row[:-1] for row in rows]
        names = names[:-1] if names and len(names) > len(rows[0]) and not names[-1] else names
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            raise ContentError(f"line {line.number} has {_columns(row)}, line {lines[0].number} has {_columns(rows[0])}")
    kept = _kept(names, len(rows[0]), form)
    cells = [[row[column] for column in kept] for row in rows] if len(kept) < len(rows[0]) else rows
    if names and len(names) == 1 == len(kept) and reading.decimal == "," and re.search(r",\S", names[0]):
        raise ContentError(f"has one column under {names[0]!r}")  # names of several
    values = _converted(cells, [line.number for line in lines], kept, reading.decimal)
    short = names is not None and len(names) < len(rows[0])  # only the index has no name, and is not kept
    named = None if names is None else [names[column - short] for column in kept]
    return Table(named, cells, values, lines)


def _columns(row: Row) -> str:
    return f"{len(row)} column{'s' * (len(row) != 1)}"


def _split(lines: list[Line], delimiter: str) -> list[Row]:
    if delimiter == "\n":
        return [[line.text.strip()] for line in lines]
    texts = [" ".join(line.text.split()) if delimiter == " " else line.text for line in lines]
    if delimiter == " " and not any('"' in text for text in texts):
        return [text.split() for text in texts]
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True)
        ]
    except csv.Error as error:
        raise ContentError(f"has quotes that do not match ({error})") from None
    if len(rows) != len(lines):
        raise ContentError("has quotes that span lines")
    return rows


def _number(cell: str, decimal: str) -> float | None:
    text = cell.translate(COMMAS if decimal == "," else PLAIN)
    try:
        return float(THREE_DIGITS.sub(r"\1e\2", text))
    except ValueError:
        return None


def _is_header(rows: list[Row], line: Line, decimal: str) -> bool:
    """Whether the first line holds names: all of it is words, or all but numbers in order, which follow one word or no name."""
    first = rows[0]
    numbers = [_number(cell, decimal) for cell in first]
    words = [cell for cell, number in zip(first, numbers, strict=True) if number is None]
    if all(cell.lower() in MISSING for cell in words) and (len(words) == len(first) or numbers[0] is not None):
        return False  # numbers, some of which are missing perhaps
    if any(re.match(r"[+-]?\.?\d", word) for word in words):
        raise ContentError(f"line {line.number}: {words[0]!r} is no number; give --header yes if it is the name of a column")
    if all(not cell or cell in words for cell in first):
        return True
    rest = [number for number in numbers[1:] if number is not None]
    ordered = len(rest) == len(first) - 1 and all(a < b for a, b in pairwise(rest))
    named = _counts(first[1:]) if not first[0] else first[0].lower() not in MISSING  # a number may be missing in the corner
    if ordered and named and len(rows) > 1:
        return True
    raise ContentError(f"line {line.number} has words and numbers, such as {words[0]!r}: give --header yes or --header no")


def _kept(names: Row | None, width: int, form: TableFormat) -> list[int]:
    """Return the columns that hold data: those of --columns, or all but an index."""
    if names is not None and len(names) not in (width, width - (form.index is True)):
        hint = "; --index yes, if the first column names the rows" if len(names) == width - 1 else ""
        raise ContentError(f"has {len(names)} names for {width} columns{hint}")
    if form.columns is not None:
        return [_column(entry, names, width) for entry in form.columns]
    index = names is not None and width > 1 and not names[0] if form.index is None else form.index
    if index and width == 1:
        raise ContentError("has one column, which cannot be an index")
    return list(range(int(index), width))


def _column(entry: str, names: Row | None, width: int) -> int:
    offset = width - len(names) if names else 0
    if names and entry in names:
        return names.index(entry) + offset
    if entry.isdecimal() and 1 <= int(entry) <= width:
        return int(entry) - 1
    known = f"its names are {', '.join(names)}" if names else "its columns have no names"
    raise ContentError(f"has no column {entry!r}; {known}, its numbers are 1 to {width}")


def _converted(cells: list[Row], numbers: list[int], columns: list[int], decimal: str) -> Array:
    table = COMMAS if decimal == "," else PLAIN
    try:  # a row at once, which is faster
        return np.array([list(map(float, "\n".join(row).translate(table).split("\n"))) for row in cells])
    except ValueError:
        pass
    values = np.empty((len(cells), len(columns)))
    for number, row, out in zip(numbers, cells, values, strict=True):
        for place, (column, cell) in enumerate(zip(columns, row, strict=True)):
            value = _number(cell, decimal)
            if value is None:
                what = "is missing" if cell.lower() in MISSING else "is no number"
                raise ContentError(f"line {number}, column {column + 1}: {cell!r} {what}")
            out[place] = value
    return values


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, ..."""
    return list(cells) == [str(number) for number in range(len(cells))]


def _style(cell: str) -> int | None:
    """Return how a number is written: with how many decimals, `WHOLE` without a mark; None with an exponent."""
    match = re.fullmatch(r"[+-]?\d*(?:([.,])(\d*))?", cell)
    return None if match is None else WHOLE if match[1] is None else len(match[2])


def _labels(cells: Sequence[str], values: Array, others: Sequence[Sequence[str]]) -> bool:
    """Whether cells may be labels of others: 0, 1, 2, ..., or numbers in order that are written as no others are."""
    if _counts(cells):
        return True
    styles = set(map(_style, cells))
    rising = len(cells) > 1 and bool((np.diff(values) > 0).all())
    alone = len(styles) == 1 and None not in styles and not any(_style(cell) in styles for other in others for cell in other)
    return rising and alone


def _steps_evenly(values: Array) -> bool:
    """Whether at least three values have one distance, which is not zero."""
    if len(values) < 3 or not np.isfinite(values).all():
        return False
    step = (values[-1] - values[0]) / (len(values) - 1)
    return bool(step != 0 and (np.abs(np.diff(values) - step) <= 1e-3 * abs(step)).all())


def _refuse_numeric_header(table: Table) -> None:
    """Refuse a first row that may be names of columns: labels, evenly spaced alone, or quoted alone."""
    first, rest = table.cells[0], table.cells[1:]
    if not rest:
        return
    styles = {_style(row[0]) for row in rest}
    names = (
        _labels(first, table.values[0], rest)
        or (len(first) == 1 < len(rest) and len(styles) == 1 and _style(first[0]) not in styles)
        or (_steps_evenly(table.values[0]) and not _steps_evenly(table.values[1]))
        or ('"' in table.lines[0].text and not any('"' in line.text for line in table.lines[1:]))
    )
    if names:
        shown = ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")
        raise ContentError(f"line {table.lines[0].number} ({shown}) may be names of columns or values: give --header yes or no")


def _refuse_other_meanings(table: Table) -> None:
    """Refuse a table whose first columns may be an index or coordinates."""
    rows, width = table.values.shape
    if width == 1:
        return
    heads, others = [row[0] for row in table.cells], [row[1:] for row in table.cells]
    first, second = table.values[:, 0], table.values[:, 1]
    if table.names and table.names[0].lower() in COORDINATES:
        seen = f"its first column is named {table.names[0]!r}"
    elif table.names and table.names[0].lower() in COUNTERS:
        raise ContentError(
            f"its first column is named {table.names[0]!r}: give --index yes to leave it out, --index no to keep it"
        )
    elif table.names and [_number(name.replace(",", "."), ".") is None for name in table.names] == [True] + [False] * (
        width - 1
    ):
        seen = "all columns but the first are named by numbers"
    elif rows == 1:
        if _style(heads[0]) != WHOLE or WHOLE in map(_style, others[0]):
            return
        seen = "its first number alone is whole"
    elif any(_is_full_grid(table.values[:, :axes]) for axes in (2, 3) if axes < width):
        seen = "its first columns are the points of a grid"
    elif (
        _labels(heads, first, others)
        or (table.names and (np.diff(first) == 1).all())
        or (_steps_evenly(first) and not _steps_evenly(second))
    ):
        seen = f"its first column runs from {first[0]:g} to {first[-1]:g}"
    elif width == 2 and _steps_evenly(np.sort(first)):
        seen = "its first column has evenly spaced numbers"
    elif width <= 4 and rows >= TALL * width:
        seen = "it is long and narrow"
    else:
        return
    columns = ",".join(table.names or map(str, range(1, min(width, 4) + 1)))
    raise ContentError(
        f"has {table.size}, and {seen}: give --columns {columns} for coordinates and values, a point per line, --index yes to "
        f"leave the first column out, or --index no for a grid of {rows} x {width}"
    )


def _is_full_grid(points: Array) -> bool:
    """Whether every combination of the coordinates occurs once, at least two along each axis."""
    counts = [len(np.unique(column)) for column in points.T]
    return min(counts) > 1 and math.prod(counts) == len(points) and len(np.unique(points, axis=0)) == len(points)


def _gridded(table: Table, columns: tuple[str, ...]) -> Field:
    """Return the values of a long table on the grid of its points, axes in the order of the coordinates."""
    if len(columns) > 4:
        raise ContentError(f"--columns names {len(columns)} columns; give 1 to 3 coordinates and the values last")
    places, counts, spacing = zip(*(
        evenly_spaced(table.values[:, axis], name) for axis, name in enumerate(columns[:-1])
    ), strict=True)  # fmt: skip
    flat = np.ravel_multi_index(places, counts)
    order = np.argsort(flat, kind="stable")
    twice = np.flatnonzero(np.diff(flat[order]) == 0)
    if len(twice):
        lines = sorted(table.lines[order[twice[0] + offset]].number for offset in (0, 1))
        raise ContentError(f"lines {lines[0]} and {lines[1]} are the same point")
    if len(flat) < math.prod(counts):
        shape = " x ".join(map(str, counts))
        missing = np.unravel_index(np.setdiff1d(np.arange(math.prod(counts)), flat)[0], counts)
        low = table.values.min(axis=0)
        point = ", ".join(
            f"{name} = {low[axis] + missing[axis] * spacing[axis]:g}" for axis, name in enumerate(columns[:-1])
        )  # fmt: skip
        raise ContentError(f"has {len(flat)} points of a grid of {shape}; none is at {point}")
    return Field(table.values[order, -1].reshape(counts), spacing)


def evenly_spaced(values: Array, name: str) -> tuple[NDArray[np.intp], int, float]:
    """Return the place of each coordinate on its axis, the number of places, and their distance. Raises ContentError."""
    if not np.isfinite(values).all():
        raise ContentError(f"coordinate {name} has values that are not finite")
    found = np.unique(values)
    extent = found[-1] - found[0]
    distinct = found[np.diff(found, prepend=-np.inf) > MERGED * extent]
    if len(distinct) < 2:
        raise ContentError(f"coordinate {name} has one value alone, so no spacing; leave it out")
    h = float(extent) / (len(distinct) - 1)
    if (np.abs(np.diff(distinct) - h) > UNEVEN * h).any():
        raise ContentError(f"coordinate {name} is not evenly spaced: its steps are {_span(np.diff(distinct))}")
    return np.rint((values - found[0]) / h).astype(np.intp), len(distinct), h


def _span(steps: Array) -> str:
    return f"{steps.min():g} to {steps.max():g}"
