"""Record what the tests of this folder compare with: `record.py` with `iterates`, `api` or `help`; all three by default."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from golden import surface  # noqa: E402
from golden.cases import CASES, run  # noqa: E402

ITERATES, API, HELP = HERE / "iterates.npz", HERE / "api.txt", HERE / "help.txt"


def iterates() -> None:
    """Write the iterates of all cases, one vector per case: the residuals, the samples, the sums; their lengths lead."""
    made = {}
    for case in CASES:
        outcome = run(case)
        parts = outcome.residuals, outcome.samples, outcome.sums
        made[case.name] = np.concatenate([[len(part) for part in parts], *parts])
    np.savez_compressed(ITERATES, **made)


def api() -> None:
    """Write the public names and their signatures."""
    API.write_text(surface.api(), encoding="utf-8")


def help() -> None:
    """Write what the command line answers to --help."""
    HELP.write_text(surface.command_line_help(), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or ["iterates", "api", "help"]:
        {"iterates": iterates, "api": api, "help": help}[name]()
