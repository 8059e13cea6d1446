"""Arrays in the memory of a GPU, CuPy's above all: by DLPack through torch where it has CUDA, else through the host.

`numpy.asarray` does not take CuPy's arrays; `get()` copies one to the host. By DLPack it is a tensor in the same memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

CPU, GPUS = 1, (2, 10, 13)  # the numbers of devices for DLPack: CUDA, ROCm, managed memory of CUDA


def device_of(array: Any) -> int:
    """Return the number of an array's device for DLPack; that of the CPU where it tells none."""
    try:
        return int(array.__dlpack_device__()[0]) if hasattr(array, "__dlpack_device__") else CPU
    except Exception:  # inside a transform, which is found where numbers are read
        return CPU


def as_tensor(f: Any) -> tuple[Any, Callable[[Any], Any]] | None:
    """Return an array on a GPU as a tensor in the same memory, and the way back; None where torch has no CUDA."""
    if device_of(f) not in GPUS or find_spec("torch") is None:
        return None
    import torch

    namespace = f.__array_namespace__() if hasattr(f, "__array_namespace__") else sys.modules[_library(f)]
    if not torch.cuda.is_available() or not hasattr(namespace, "from_dlpack"):
        return None
    return torch.from_dlpack(f), namespace.from_dlpack  # type: ignore[attr-defined]


def on_host(f: Any) -> tuple[np.ndarray, Callable[[Any], Any]]:
    """Return a copy of an array of CuPy on the host, and the way back to its GPU."""

    def back(u: Any) -> Any:
        with f.device:
            return sys.modules[_library(f)].asarray(u)

    return f.get(), back


def _library(array: Any) -> str:
    return type(array).__module__.partition(".")[0]
