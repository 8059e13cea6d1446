"""Weights of a model in a safetensors file, under the names that the bare model gives them, and back.

A model may be wrapped: by `torch.compile`, by `DataParallel` or `DistributedDataParallel`, as a whole or in parts. The
wrappers' own names (`_orig_mod.`, `module.`) never get into a file, so what one program wrote every other can read.

Source: https://huggingface.co/docs/safetensors (the format: a JSON header, then plain numbers; nothing in it can run).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import FileError, atomic_output, check_readable, checked_output, expanded, is_folder, one_line, require_writable
from ..messages import shown

ENDINGS = (".safetensors",)
SHOWN = 5  # names of each kind that an error message lists
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the model itself, out of all wrappers around it; parts that were compiled on their own stay as they are."""
    while (inner := _inner_name(module)) is not None:
        module = getattr(module, inner)
    return module


def precision_of(model: nn.Module) -> torch.dtype:
    """Return the real precision of a model: that of its first weight that is no whole number; of a complex one, its parts'."""
    weights = (weight for weight in model.parameters() if weight.is_floating_point() or weight.is_complex())
    return next(weights).dtype.to_real()


def clean_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's state_dict under the names that it has without wrappers.

    The tensors are the module's own, not copies: clone what has to outlive the next step of training. A submodule that
    merely is called `module` keeps its name.

    >>> sorted(clean_state_dict(nn.DataParallel(nn.Linear(2, 1))))
    ['bias', 'weight']
    """
    return {_clean_key(module, key): tensor for key, tensor in module.state_dict().items()}


def load_clean_state_dict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the values of `clean_state_dict` into a module, wrapped or not; the values take the module's precision and device.

    Raises
    ------
    ValueError
        Where names or shapes are not exactly the module's, which is then left as it was.
    """
    own = {_clean_key(module, key): key for key in module.state_dict()}
    check_fit(module, state)
    module.load_state_dict({own[key]: value for key, value in state.items()})


def check_fit(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise ValueError where `load_clean_state_dict` would. The module may be on the device "meta"."""
    _check_fit(state, clean_state_dict(module))


def save_weights(module: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write parameters and buffers to a .safetensors file, all at once, under the bare model's names.

    Parameters
    ----------
    module : nn.Module
        Wrapped or not, on any device. Precisions are kept; channels_last values are written in the order of their axes, and
        values that two names share are written under both.
    path : path
        It ends in .safetensors. The format has no complex128: such values are written as float64 with a last axis of two.
    metadata : mapping of strings to strings, optional
        Such as the model's name.

    Raises
    ------
    FileError, ImportError
        Where the file cannot be written, and without the package safetensors.
    """
    save = require_safetensors().save
    path = require_writable(checked_output(path, ENDINGS))
    for key, value in (metadata or {}).items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(f"metadata holds strings under strings, got {shown(key)}: {shown(value)}; write str(...) around it")
    tensors = {
        # contiguous, with memory of its own: safetensors writes nothing else
        key: _storable(value.detach()).to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in clean_state_dict(module).items()
    }
    content = save(tensors, metadata=None if metadata is None else dict(metadata))
    with atomic_output(path) as file:
        file.write(content)


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Copy the weights of a .safetensors file into a module of the same names and shapes, and return the file's metadata.

    The module, wrapped or not, keeps its device, precision and order in memory: float64 weights are rounded by a float32
    module.

    Raises
    ------
    FileError
        For a file that is missing or damaged, and for the weights of another model. The module is then left as it was.
    ImportError
        Without the package safetensors.
    """
    path = expanded(path)
    tensors, metadata = read_weights(path)
    for key, value in clean_state_dict(module).items():
        if value.is_complex() and key in tensors and tensors[key].shape == (*value.shape, 2):
            tensors[key] = torch.view_as_complex(tensors[key].clone())  # aligned, as memory of the file need not be
    try:
        load_clean_state_dict(module, tensors)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    return metadata


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a .safetensors file, and its metadata. Raises FileError and ImportError, as `load_weights`."""
    require_safetensors()
    if is_folder(path):
        raise FileError(f"{path}: is a directory, give a file")
    check_readable(path)
    try:
        with importlib.import_module("safetensors").safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:  # any exception here is caused by a damaged file
        raise FileError(f"{path}: not a readable .safetensors file ({one_line(error)})") from None


def _storable(value: Tensor) -> Tensor:
    return torch.view_as_real(value.resolve_conj()) if value.dtype == torch.complex128 else value


def require_safetensors() -> Any:
    """Return the module safetensors.torch; raise ImportError with the command that installs it where it is missing."""
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise ImportError("weights are written and read by safetensors: pip install 'unigrid[learn]'") from None


def _inner_name(module: nn.Module) -> str | None:
    """Return the name under which a wrapper holds what it wraps; None for a module that is no wrapper."""
    if type(module).__name__ == "OptimizedModule":  # torch.compile's; its class is behind an import of seconds
        return "_orig_mod"
    return "module" if isinstance(module, PARALLEL) else None


def _clean_key(module: nn.Module, key: str) -> str:
    """Return a key of state_dict without the names that wrappers put in, at the top or further down."""
    kept = []
    here: nn.Module | None = module
    for part in key.split("."):
        if here is None or part != _inner_name(here):
            kept.append(part)
        here = None if here is None else here._modules.get(part)
    return ".".join(kept)


def _check_fit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(f"weights are tensors under their names, got {shown(state)}")
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    other = [
        f"{key} came with {_kind(state[key])}, wanted is {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and _kind(state[key]) != _kind(wanted[key])
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of other shape": other}
    faults = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names]
    if faults:
        raise ValueError(
            f"these {len(state)} tensors do not fit the model's {len(wanted)} (other model or options?): {'; '.join(faults)}"
        )


def _kind(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
