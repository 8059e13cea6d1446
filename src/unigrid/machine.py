"""The machine and the package versions that measured numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .version import __version__

PACKAGES = ("numpy", "scipy", "numba", "matplotlib", "tqdm", "torch")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Return the versions of unigrid, Python and these packages; None for a package that is not installed.

    Nothing is imported.

    Examples
    --------
    >>> list(versions(["numpy"]))
    ['unigrid', 'python', 'numpy']
    """
    found: dict[str, str | None] = {"unigrid": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = getattr(sys.modules.get(package), "__version__", None)
    return found


def cpu_name() -> str:
    """Return the model name of the processor, as far as the standard library can find it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> int | None:
    """Return the physical memory in GiB, rounded; None where the system does not report it."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def machine() -> dict[str, Any]:
    """Return processor, usable cores, operating system and, where known, memory; neither a host name nor an address.

    Examples
    --------
    >>> sorted({"processor", "cores", "system"} - set(machine()))
    []
    """
    facts: dict[str, Any] = {"processor": cpu_name(), "cores": usable_cores(), "system": platform.system()}
    memory = memory_gib()
    return facts if memory is None else {**facts, "memory_gib": memory}
