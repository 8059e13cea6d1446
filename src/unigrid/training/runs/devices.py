"""Devices, and whether compiling and bfloat16 pay on them."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import torch
from torch import nn

COMPILE_FROM = 500_000  # images of a run on a CPU for which half a minute of compiling pays


def device_named(name: str | torch.device) -> torch.device:
    """Return the device; "auto" is a GPU where there is one. Raises ValueError for a device that is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:0, cuda:1, ..., mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        built = "is built for CUDA, but finds no GPU" if torch.version.cuda else "is a build without CUDA"
        raise ValueError(
            f"device {str(name)!r}: no GPU is there (torch {torch.__version__} {built}); take device='cpu' or 'auto'"
        )
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise ValueError(f"device {str(name)!r}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {str(name)!r}: torch {torch.__version__} finds no such device here; take 'cpu' or 'auto'")
    return device


def compiling_pays(device: torch.device, images: int) -> bool:
    """Whether a network can be compiled, and a run over that many images is faster by more than the time of compiling."""
    if device.type == "cuda":
        return sys.platform == "linux"
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()  # included by the generated code
    compiler = headers and any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return device.type == "cpu" and sys.platform == "linux" and compiler and images >= COMPILE_FROM


def bfloat16_pays(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return device.type == "cpu" and any(has is not None and has() for has in known)


def compiled(model: nn.Module) -> nn.Module:
    """Return the model compiled by `torch.compile` for batches of one size."""
    wrapped: nn.Module = torch.compile(model, dynamic=False)  # type: ignore[assignment]
    return wrapped
