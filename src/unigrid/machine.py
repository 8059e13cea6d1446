"""What the numbers of a run depend on: versions and the processor."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from .version import __version__

PACKAGES = ("numpy", "scipy", "numba", "matplotlib", "tqdm", "torch")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Return the versions of unigrid, Python and these packages; None for what is not installed. Imports nothing."""
    found: dict[str, str | None] = {"unigrid": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = getattr(sys.modules.get(package), "__version__", None)
    return found


def cpu_name() -> str:
    """Return the processor's name, as well as it can be had without other packages."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
