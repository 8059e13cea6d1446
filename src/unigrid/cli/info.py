"""`unigrid info`: versions, machine, threads and devices, with which a report of a problem should begin."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from pathlib import Path

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
    load_kernels()
    from ..stencil.kernels.cpu.compiled.loops import apply
    from ..stencil.kernels.cpu.threads import ENVIRONMENT_VARIABLE, get_num_threads

    cache = apply.stats.cache_path
    compiled = len(list(Path(cache).glob("cpu.*.nbc"))) if cache else 0
    variable = f"{ENVIRONMENT_VARIABLE}={os.environ.get(ENVIRONMENT_VARIABLE, 'unset')}"
    return {
        **{name: version or "not installed" for name, version in versions().items()},
        "platform": platform.platform(),
        "CPU": cpu_name(),
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "threads": f"{get_num_threads()} on large grids (--threads, or {variable})",
        "threading layer": "unigrid's own team of threads runs the compiled kernels; numba's layers are not used",
        "kernel cache": f"{cache} ({compiled} compiled; NUMBA_CACHE_DIR moves it)",
        "devices": _devices() if devices else _devices_hint(),
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
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = [f"cuda:{number} {name}" for number, name in enumerate(names)]
    return ", ".join(["CPU", *found]) + "; no CUDA device" * (not found)
