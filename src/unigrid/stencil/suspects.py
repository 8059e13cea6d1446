"""Which entry of a matrix is the wrong one, where it is none of a stencil: the one whose change alone makes it one.

A rule that does not hold, such as symmetry, is about several entries. Each of them is replaced by what the rule would have, and
the matrix recognized anew. Where more than one replacement serves, the one is taken whose numbers are those of other rows: sums
of rows, often zero or one constant, and couplings, often one number. Where there are none, as of random coefficients and
reactions, each replacement makes a matrix as good as the others, and all are named. So they are where the diagonal of the row
may be wrong too, or where one more entry would make an axis periodic: the numbers of a Neumann side, or of a periodic axis, are
those of a Dirichlet side with another reaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Point = tuple[int, ...]
MOST_SUSPECTS = 2  # pairs or rows for which a rule does not hold: of more than these, several entries are wrong
FEW = 2  # lines of an axis: of more than these, most tell whether rows at an end are twice as large
SAME = 1e-10  # relative, of numbers that are one number but for the rounding of whoever made the matrix


class Entry(NamedTuple):
    """The place of an entry: the points of its row and its column, neighbors, or one point."""

    row: Point
    column: Point

    @property
    def transposed(self) -> Entry:
        """The entry across the diagonal."""
        return Entry(self.column, self.row)

    @property
    def is_diagonal(self) -> bool:
        """Whether it is on the diagonal."""
        return self.row == self.column


class Rows(NamedTuple):
    """The entries of a matrix as arrays of the grid's shape: couplings to the next and the previous point of each axis."""

    after: list[Numbers]
    before: list[Numbers]
    diagonal: Numbers

    def place(self, entry: Entry) -> tuple[Numbers, float]:
        """Return the array that holds an entry, at its row, and with which sign."""
        for axis, (here, there) in enumerate(zip(*entry, strict=True)):
            if here != there:
                around = abs(there - here) > 1
                return (self.after if (there > here) != around else self.before)[axis], -1.0
        return self.diagonal, 1.0

    def value(self, entry: Entry) -> float:
        """Return an entry."""
        array, sign = self.place(entry)
        return sign * float(array[entry.row]) + 0.0  # never -0

    def replaced(self, entry: Entry, value: float) -> Rows:
        """Return the rows with another value of one entry."""
        array, sign = self.place(entry)
        changed = array.copy()
        changed[entry.row] = sign * value
        after, before = ([changed if each is array else each for each in own] for own in (self.after, self.before))
        return Rows(after, before, changed if array is self.diagonal else self.diagonal)


class MisfitError(Exception):
    """A rule of stencils that does not hold, and the first entries for which it does not."""

    def __init__(self, reason: str, *entries: Entry) -> None:
        super().__init__(reason)
        self.reason, self.entries = reason, entries


def neighbor_entry(point: Point, axis: int, shape: tuple[int, ...], reverse: bool = False) -> Entry:
    """Return the entry that couples a point to the next one along an axis, around its end too; or in reverse."""
    following = list(point)
    following[axis] = (point[axis] + 1) % shape[axis]
    entry = Entry(point, tuple(following))
    return entry.transposed if reverse else entry


def explained(rows: Rows, misfit: MisfitError, recognize: Callable[[Rows], object]) -> str:
    """Return what is wrong, with the entry that is; `recognize` raises MisfitError for rows that are none of a stencil."""
    best = _best(rows, misfit, recognize)
    named = next(iter(best)) if len(best) == 1 else misfit.entries[0]
    name, fits = _name(named, rows), [_wanted(entry, value, rows) for entry, value in best.items()]
    pair = "" if named.is_diagonal else f", which couples {named.row} and {named.column},"
    rule = f", {misfit.reason}" if {named, named.transposed} & set(misfit.entries) else ""
    rest = f"; A is a stencil with {', or with '.join(fits)}" if fits and not (named.is_diagonal and len(fits) == 1) else ""
    return f"{name}{pair} is {rows.value(named):.6g}{rule}{rest}"


def _best(rows: Rows, misfit: MisfitError, recognize: Callable[[Rows], object]) -> dict[Entry, float]:
    """Return the entries that may be the wrong one, with what would be in its place."""
    found: dict[Entry, float] = {}
    for entry, value in _replacements(rows, misfit):
        try:
            recognize(rows.replaced(entry, value))
        except MisfitError:
            continue
        found[entry] = value
    if any(entry.is_diagonal or value == 0.0 for entry, value in found.items()):
        return found
    scores = {entry: _alike(rows.replaced(entry, value), entry) for entry, value in found.items()}
    return {entry: value for entry, value in found.items() if scores[entry] == max(scores.values())}


def _replacements(rows: Rows, misfit: MisfitError) -> Iterator[tuple[Entry, float]]:
    """Yield each entry that may be the wrong one, with what would be in its place if it alone is."""
    if len(misfit.entries) > MOST_SUSPECTS:
        return
    pairs = (*misfit.entries, *_ends_of_few_lines(rows.diagonal.shape))
    for entry in dict.fromkeys(each for pair in pairs for each in (pair, pair.transposed)):
        if entry.is_diagonal:
            yield entry, 2.0 * sum(float(each[entry.row]) for each in (*rows.after, *rows.before))
        else:
            other = rows.value(entry.transposed)
            yield from ((entry, value) for value in (other, 2.0 * other, 0.5 * other) if value != rows.value(entry))


def _ends_of_few_lines(shape: Point) -> Iterator[Entry]:
    """Yield the couplings at the ends of axes of few lines, of which one wrong entry makes rows at an end twice as large."""
    for axis, n in enumerate(shape):
        if n > 1 and int(np.prod(shape)) // n <= FEW:
            for index in np.ndindex(*shape):
                if index[axis] in (0, n - 2):
                    yield neighbor_entry(index, axis, shape)


def _alike(rows: Rows, entry: Entry) -> int:
    """Return how many of the sums of both rows of a coupling, and the coupling itself, are those of other rows too."""
    sums = rows.diagonal - sum(rows.after) - sum(rows.before)
    array, _ = rows.place(entry)
    scale = SAME * rows.diagonal[entry.row]
    others = np.ones(sums.shape, bool)
    others[entry.row] = others[entry.column] = False
    numbers = [(sums, entry.row), (sums, entry.column), (array, entry.row)]
    return sum(bool((np.abs(each - each[point]) <= scale)[others].any()) for each, point in numbers)


def _name(entry: Entry, rows: Rows) -> str:
    row, column = (int(np.ravel_multi_index(each, rows.diagonal.shape)) for each in entry)
    return f"A[{row}, {column}]"


def _wanted(entry: Entry, value: float, rows: Rows) -> str:
    return f"a larger {_name(entry, rows)}" if entry.is_diagonal else f"{_name(entry, rows)} = {value:.6g}"
