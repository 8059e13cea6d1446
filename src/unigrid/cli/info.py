"""`unigrid info`: versions, machine, threads and devices, with which a report of a problem should begin."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from pathlib import Path
from typing import Any

from ..files import one_line
from ..machine import cpu_name, usable_cores, versions
from .monitor import Facts, as_text, json_text
from .options import load_kernels

SUMMARY = "print versions, threads, caches and devices"
EPILOG = """\
examples:
  unigrid info
  unigrid info --devices --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", action="store_true", help="look for CUDA devices, which imports torch and takes seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    facts = collect(arguments.devices)
    width = max(map(len, facts))
    print(json_text(facts) if arguments.json else as_text(f"{name:<{width}}  {value}" for name, value in facts.items()))
    return 0


def collect(devices: bool) -> Facts:
    """Return versions, machine, threads, caches and devices by name."""
    return {
        **{name: version or "not installed" for name, version in versions().items()},
        "platform": platform.platform(),
        "CPU": cpu_name(),
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        **_kernel_facts(),
        "devices": _devices() if devices else _devices_hint(),
        **({"GPU kernels": _gpu_kernels()} if devices else {}),
    }


def _kernel_facts() -> Facts:
    """Return threads and caches; what keeps the kernels from loading where they do not."""
    try:
        load_kernels()
        from ..stencil.kernels.cpu.compiled.loops import apply
        from ..stencil.kernels.cpu.threads import ENVIRONMENT_VARIABLE, get_num_threads
    except Exception as error:  # a report of the problem begins with these facts, whatever it is
        return {"kernels": f"cannot be loaded: {one_line(error)}"}
    cache = apply.stats.cache_path
    compiled = len(list(Path(cache).glob("*.nbc"))) if cache else 0
    variable = f"{ENVIRONMENT_VARIABLE}={os.environ.get(ENVIRONMENT_VARIABLE, 'unset')}"
    nowhere = "none: no folder can be written to; NUMBA_CACHE_DIR names one"
    return {
        "threads": f"{get_num_threads()} on large grids (--threads, or {variable})",
        "threading layer": "unigrid's own team of threads runs the compiled kernels; numba's layers are not used",
        "kernel cache": f"{cache} ({compiled} compiled; NUMBA_CACHE_DIR moves it)" if cache else nowhere,
    }


def _devices_hint() -> str:
    if versions()["torch"] is None:
        return "CPU; CUDA needs torch: pip install 'unigrid[learn]'"
    return "CPU; `unigrid info --devices` looks for CUDA devices"


def _devices() -> str:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return _devices_hint()
    found = [f"cuda:{number} {_described(torch.cuda, number)}" for number in range(torch.cuda.device_count())]
    return ", ".join(["CPU", *found]) + "; no CUDA device" * (not found)


def _described(cuda: Any, number: int) -> str:
    """Return the model of a GPU, its memory and its compute capability."""
    properties = cuda.get_device_properties(number)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, sm_{properties.major}{properties.minor}"


def _gpu_kernels() -> str:
    version = versions(["triton"])["triton"]
    return "not installed: pip install 'unigrid[gpu]'" if version is None else f"triton {version}"
