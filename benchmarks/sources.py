"""The source that a benchmark measured: whether a record is fresh, or what it measured has changed since.

Every record holds a digest of the source. Those written before there was one are dated by the commit that brought them.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "unigrid"
SOLVING = ("cycle.py", "iterate.py", "stencil")
LEARNING = ("cycle.py", "conv", "training")
MEASURED = {  # where it is not `SOLVING`
    "trains_on_two_cores": LEARNING,
    "trains_on_a_gpu": LEARNING,
    "what_networks_smooth": ("analysis", *LEARNING),
    "classical_against_learned": ("analysis", "training/solvers", *SOLVING),
    "scales": ("domains", *SOLVING),
    "gradients_cheap": ("tensors", *SOLVING),
    "tensors_beside_others": ("tensors", *SOLVING),
    "tensors_on_a_device": ("tensors", *SOLVING),
}


def files(benchmark: str) -> list[Path]:
    """Return the files of the package that a benchmark measures."""
    return sorted(_files_below(MEASURED.get(benchmark, SOLVING)))


def _files_below(parts: tuple[str, ...]) -> Iterator[Path]:
    for part in parts:
        path = PACKAGE / part
        yield from path.rglob("*.py") if path.is_dir() else [path]


def digest(benchmark: str) -> str:
    """Return the digest of the source that a benchmark measures, line endings aside."""
    found = hashlib.sha256()
    for path in files(benchmark):
        found.update(path.relative_to(PACKAGE).as_posix().encode())
        found.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return found.hexdigest()[:16]


def is_fresh(path: Path, record: Mapping[str, Any]) -> bool | None:
    """Whether the source is still what a record measured; None where neither digest nor history tells."""
    if "source" in record:
        return bool(record["source"] == digest(record["benchmark"]))
    written = _git("log", "-1", "--format=%H", "--", str(path))
    if not written:
        return None
    parts = [str(PACKAGE / part) for part in MEASURED.get(record["benchmark"], SOLVING)]
    changed = _git("diff", "--name-only", written, "--", *parts)
    return None if changed is None else not changed


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
