"""What the tests of benchmarks share: where the scripts are, and how one is loaded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import unigrid

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SOURCE = Path(unigrid.__file__).parents[1]
NEED_TORCH = {
    "trains_on_two_cores", "trains_on_a_gpu", "classical_against_learned", "what_networks_smooth", "tensors_beside_others",
    "tensors_on_a_device", "on_a_gpu", "gradients_cheap", "fewer_weights_as_good", "recipe",
}  # fmt: skip
Record = dict[str, Any]
SCRIPTS = {path.stem: path for folder in ("claims", "tuning") for path in sorted((BENCHMARKS / folder).glob("*.py"))}


def load(name: str) -> ModuleType:
    """A benchmark as a module."""
    if name in NEED_TORCH:
        pytest.importorskip("torch", reason="needs torch: pip install 'unigrid[learn]'")
    specification = importlib.util.spec_from_file_location(name, SCRIPTS[name])
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    path = list(sys.path)
    sys.modules[name] = module  # where dataclasses look for the names in their annotations
    specification.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.fixture(autouse=True)
def shared_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
