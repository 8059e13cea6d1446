"""Error messages shared by the package: what came, what is allowed, how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return `name` if it is allowed; otherwise raise ValueError with the allowed names and the nearest of them."""
    allowed = list(allowed)
    if name in allowed:
        return name
    raise ValueError(f"unknown {what} {name!r}; allowed: {', '.join(map(repr, allowed))}{nearest(name, allowed)}")


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the allowed name most like `name`, or nothing."""
    spelled = {option.lower(): option for option in allowed}
    matches = difflib.get_close_matches(str(name).lower(), spelled, n=1, cutoff=0.5)
    return f"; did you mean {spelled[matches[0]]!r}?" if matches else ""
