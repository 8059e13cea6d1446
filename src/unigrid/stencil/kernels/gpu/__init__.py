"""Kernels for NVIDIA GPUs, in Triton: fused half-cycles on tensors, loaded where one on such a device is solved for."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any


def takes(device: Any) -> bool:
    """Whether the kernels run on a device of torch: CUDA, where Triton is installed.

    With TRITON_INTERPRET=1 in the environment Triton interprets them, slowly, and on the CPU.
    """
    kind = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    return device.type == kind and find_spec("triton") is not None
