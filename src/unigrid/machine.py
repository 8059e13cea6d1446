"""The processor and the package versions that measured numbers depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from .version import __version__

LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")  # of torchrun, MPICH and Open MPI
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


def cores_of_process() -> int:
    """Return this process's share of the usable cores: launchers start several processes per machine, and set their number."""
    numbers = [os.environ.get(name, "") for name in LOCAL_SIZES]
    return max(1, usable_cores() // max([1, *(int(number) for number in numbers if number.isdecimal())]))


def threads_of_process(given: int) -> int:
    """Return the number of threads for a library that has taken `given` from its environment.

    torchrun sets OMP_NUM_THREADS to 1 for several processes where it is not set: 1 stands here for their share of the cores.
    UNIGRID_NUM_THREADS comes first.
    """
    chosen, several = os.environ.get("UNIGRID_NUM_THREADS", ""), os.environ.get("LOCAL_WORLD_SIZE", "1") != "1"
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    return cores_of_process() if several and os.environ.get("OMP_NUM_THREADS", "1") == "1" else given
