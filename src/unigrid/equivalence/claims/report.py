"""All equivalences, run and measured: one row a claim."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..conv.threads import one_thread
from .claims import Claim, largest
from .network_claims import NETWORK_CLAIMS
from .stencil_claims import STENCIL_CLAIMS

CLAIMS: tuple[Claim, ...] = (*STENCIL_CLAIMS, *NETWORK_CLAIMS)
WIDTHS = {"claim": 32, "conditions": 36, "compared": 31, "cases": 5, "difference": 10, "passed": 6}  # of the table's columns


@dataclass(frozen=True)
class Row:
    """What became of one claim.

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


@dataclass(frozen=True)
class Report:
    """What became of all claims; `str(report)` is the table."""

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether every row did."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        rows = [
            {
                "claim": row.claim, "conditions": row.conditions, "compared": row.compared, "cases": row.cases,
                "difference": row.difference, "tolerance": row.tolerance, "passed": row.passed,
            }
            for row in self.rows
        ]  # fmt: skip
        return {"passed": self.passed, "seeds": list(self.seeds), "rows": rows}

    def __str__(self) -> str:
        lines = [_line(list(WIDTHS)), _line(["-" * width for width in WIDTHS.values()])]
        for row in self.rows:
            verdict = "yes" if row.passed else "NO"
            lines += _lines([row.claim, row.conditions, row.compared, f"{row.cases}", f"{row.difference:.1e}", verdict])
            lines.append("")
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
        what = f"float64, {seeds}; difference = max |a - b| / max |a|, the largest over all outputs of all cases"
        failed = sum(not row.passed for row in self.rows)
        if failed:
            return f"{failed} of {len(self.rows)} equivalences FAIL; {what}"
        tolerances = {row.tolerance for row in self.rows}
        return (
            f"all {len(self.rows)} equivalences hold to {max(tolerances):.0e}; {what}" if self.rows else "nothing was compared"
        )


def report(seeds: Sequence[int] = (0, 1, 2), claims: Sequence[Claim] | None = None) -> Report:
    """Try every equivalence on random networks and return how far its two sides differ: `print(report())` is a table.

    Each seed draws all weights, running statistics of the norms and inputs anew; a claim's cases go through image sizes, with
    and without Pi, equal and unequal channels, and norms as in evaluation and as in training. All is float64.

    Parameters
    ----------
    seeds : sequence of int
    claims : sequence of Claim, optional
        Which; all by default.

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
    seeds = tuple(seeds)
    if not seeds:
        raise ValueError("seeds is empty; give at least one, such as (0, 1, 2)")
    with one_thread():
        return Report(tuple(check(claim, seeds) for claim in (CLAIMS if claims is None else claims)), seeds)


def check(claim: Claim, seeds: Sequence[int]) -> Row:
    """Return the row of one claim."""
    differences = [case.difference() for seed in seeds for case in claim.cases(seed)]
    found = largest(differences) if differences else float("inf")
    return Row(claim.claim, claim.conditions, claim.compared, len(differences), found, claim.tolerance)


def _lines(cells: list[str]) -> list[str]:
    """Return the lines of a row whose cells are as wide as their columns."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, WIDTHS.values(), strict=True)]
    height = max(map(len, wrapped))
    return [_line([lines[at] if at < len(lines) else "" for lines in wrapped]) for at in range(height)]


def _line(cells: list[str]) -> str:
    sides = ["<", "<", "<", ">", ">", "<"]
    return "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, WIDTHS.values(), strict=True)).rstrip()
