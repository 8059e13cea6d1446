"""All equivalences, run and measured: one row per claim."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...conv.threads import one_thread
from ...messages import checked_count, entries_of
from .claim import Claim, largest
from .hierarchies import HIERARCHY_CLAIMS
from .networks import NETWORK_CLAIMS

CLAIMS: tuple[Claim, ...] = (*HIERARCHY_CLAIMS, *NETWORK_CLAIMS)
WIDTHS = {"claim": 32, "conditions": 36, "compared": 31, "cases": 5, "difference": 10, "passed": 6}  # of the table's columns
LINE = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<<<>><", WIDTHS.values(), strict=True))


@dataclass(frozen=True)
class Row:
    """The outcome of one claim.

    `difference` is max |a - b| / max |a|, the largest over all outputs of its `cases`; it passes if it is at most `tolerance`.
    """

    claim: str
    conditions: str
    compared: str
    cases: int
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two sides agree; NaN never does."""
        return self.cases > 0 and self.difference <= self.tolerance

    def summary(self) -> dict[str, Any]:
        """Return all fields, and whether it passed."""
        return {**vars(self), "passed": self.passed}


@dataclass(frozen=True)
class Report:
    """The outcome of all claims; `str(report)` is the table."""

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {"passed": self.passed, "seeds": list(self.seeds), "rows": [row.summary() for row in self.rows]}

    def __str__(self) -> str:
        lines = [*_lines(list(WIDTHS)), *_lines(["-" * width for width in WIDTHS.values()])]
        for row in self.rows:
            verdict = "yes" if row.passed else "NO"
            lines += _lines([row.claim, row.conditions, row.compared, f"{row.cases}", f"{row.difference:.1e}", verdict])
            lines.append("")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        if not self.rows:
            return "nothing was compared"
        failed = sum(not row.passed for row in self.rows)
        held = f"all {len(self.rows)} equivalences hold to {max(row.tolerance for row in self.rows):.0e}"
        verdict = f"{failed} of {len(self.rows)} equivalences FAIL" if failed else held
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
        return f"{verdict}; float64, {seeds}; difference = max |a - b| / max |a|, the largest over all outputs of all cases"


def report(seeds: Sequence[int] = (0, 1, 2), claims: Sequence[Claim] | None = None) -> Report:
    """Try every equivalence on random networks and return how far its two sides differ: `print(report())` is a table.

    Each seed draws all weights, running statistics of the norms and inputs anew. The cases of a claim combine image sizes, with
    and without Pi, equal and unequal channels, and norms as in evaluation and as in training. All is float64.

    Parameters
    ----------
    seeds : sequence of int
    claims : sequence of Claim, optional
        All by default.

    Raises
    ------
    ValueError
        If there is no seed.

    Examples
    --------
    >>> from unigrid.equivalence import CLAIMS, report
    >>> some = [claim for claim in CLAIMS if "pooling" in claim.claim]
    >>> report(seeds=[0], claims=some).passed
    True
    """
    several = entries_of(seeds)
    seeds = tuple(checked_count("a seed", seed, 0, 2**63 - 1) for seed in ((seeds,) if several is None else several))
    if not seeds:
        raise ValueError("seeds is empty; give at least one, such as (0, 1, 2)")
    claims = CLAIMS if claims is None else tuple(claims)
    differences: list[list[float]] = [[] for _ in claims]
    with one_thread():  # seed by seed, as claims share the hierarchies of a seed
        for seed, (claim, found) in itertools.product(seeds, zip(claims, differences, strict=True)):
            found += [case.difference() for case in claim.cases(seed)]
    rows = (
        Row(claim.claim, claim.conditions, claim.compared, len(found), largest(found), claim.tolerance)
        for claim, found in zip(claims, differences, strict=True)
    )
    return Report(tuple(rows), seeds)


def _lines(cells: list[str]) -> list[str]:
    """Return the lines of a row, each cell wrapped to the width of its column."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, WIDTHS.values(), strict=True)]
    return [LINE.format(*texts).rstrip() for texts in itertools.zip_longest(*wrapped, fillvalue="")]
