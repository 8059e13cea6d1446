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


def test_images_load_neither_numba_nor_scipy_sparse_and_solvers_load_when_used(tmp_path):
    """After the import, after training on images, after loading the run, and after the use of a solver's name."""
    lines = run(f"""
def report():
    print([name for name in ("numba", "scipy.sparse", "unigrid.stencil", "unigrid.equivalence") if name in sys.modules])

import unigrid.training
report()
import torch
torch.set_num_threads(1)
images = torch.arange(24 * 3 * 8 * 8).reshape(24, 3, 8, 8).to(torch.uint8)
choices = {{"epochs": 1, "batch_size": 8, "device": "cpu", "progress": False, "out": {str(tmp_path)!r}}}
unigrid.train((images, torch.arange(24) % 2), unigrid.MgNetConfig(steps=(1,), features=2), **choices)
report()
unigrid.training.load_trained({str(tmp_path)!r}, device="cpu")
report()
unigrid.training.anisotropic
print("unigrid.stencil.problem" in sys.modules)
""")
    assert lines.splitlines() == ["[]", "[]", "[]", "True"]


def test_names_of_solvers_are_names_of_training():
    for name in ("PoissonNet", "PoissonNetConfig", "PoissonProtocol", "PoissonResult", "anisotropic", "train_solver"):
        assert name in dir(training)
        assert getattr(training, name).__name__ == name
    with pytest.raises(AttributeError, match=r"module 'unigrid.training' has no attribute 'trian'"):
        training.trian  # noqa: B018


def test_the_former_name_of_a_protocol_stays():
    assert training.Protocol is training.ImageProtocol
    assert unigrid.train_solver is training.train_solver
    assert unigrid.PoissonResult is training.PoissonResult
