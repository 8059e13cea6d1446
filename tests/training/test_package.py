"""`unigrid.training` as a package: what importing it loads, and its names."""

import subprocess
import sys
from pathlib import Path

import pytest

import unigrid
from unigrid import training

SOURCE = Path(unigrid.__file__).resolve().parents[1]


def run(code):
    """Run code in a fresh interpreter and return what it prints."""
    source = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout


SOLVER = "loaded = [name for name in sys.modules if name.startswith(('numba', 'scipy.sparse', 'unigrid.stencil'))]"


def test_importing_it_loads_neither_numba_nor_scipy_sparse():
    assert run(f"import unigrid.training\n{SOLVER}\nprint(loaded)").strip() == "[]"


def test_training_on_images_and_loading_the_run_loads_neither(tmp_path):
    code = f"""
import torch, unigrid
images = torch.arange(24 * 3 * 8 * 8).reshape(24, 3, 8, 8).to(torch.uint8)
torch.set_num_threads(1)
choices = {{"epochs": 1, "batch_size": 8, "device": "cpu", "progress": False, "out": {str(tmp_path)!r}}}
unigrid.train((images, torch.arange(24) % 2), unigrid.MgNetConfig(steps=(1,), features=2), **choices)
unigrid.training.load_trained({str(tmp_path)!r}, device="cpu")
{SOLVER}
print(loaded)
"""
    assert run(code).strip() == "[]"


def test_names_of_solvers_load_when_they_are_used():
    code = f"import unigrid.training\nunigrid.training.anisotropic\n{SOLVER}\nprint('unigrid.stencil.problem' in loaded)"
    assert run(code).strip() == "True"
    for name in ("PoissonNet", "PoissonNetConfig", "PoissonProtocol", "PoissonResult", "anisotropic", "train_solver"):
        assert name in dir(training)
        assert getattr(training, name).__name__ == name
    with pytest.raises(AttributeError, match=r"module 'unigrid.training' has no attribute 'trian'"):
        training.trian  # noqa: B018


def test_the_former_name_of_a_protocol_stays():
    assert training.Protocol is training.ImageProtocol
    assert unigrid.train_solver is training.train_solver
    assert unigrid.PoissonResult is training.PoissonResult
