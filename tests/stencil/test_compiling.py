"""The kernels' cache on disk: valid in a copy of the folder, and for no kernel after a change in any of its files."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unigrid.stencil.kernels.cpu import compiled
from unigrid.stencil.kernels.cpu.compiled import compiling, loops

FOLDER = Path(compiled.__file__).parent
# A kernel in a file of its own, which compiles in a function of another file.
PROBE = """
from .compiling import kernel
from .loops import along

@kernel
def probe(i, stencil):
    return along(i, 2, 9, stencil).diagonal
"""
CALL = """
import numpy as np
from copied.arguments import ConstantStencil
from copied.probe import probe
stencil = ConstantStencil(np.zeros((3, 2), np.int64), np.ones((4, 5)), False)
print(probe(4, stencil), sum(probe.stats.cache_hits.values()))
"""


def call_probe(folder):
    """Return what the probe computes in a new process, and whether it was loaded from the cache."""
    command = [sys.executable, "-c", CALL]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    value, hits = done.stdout.split()
    return float(value), hits == "1"


def test_a_change_in_one_file_recompiles_the_kernels_of_another(tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "probe.py").write_text(PROBE, encoding="utf-8")
    assert call_probe(tmp_path) == (2.0, False)
    (copied / "loops.py").touch()
    assert call_probe(tmp_path) == (2.0, True)
    source = (copied / "loops.py").read_text(encoding="utf-8")
    changed = source.replace("i + 1, scale, scale + scale", "i + 1, scale, scale + scale + scale")
    assert changed != source
    (copied / "loops.py").write_text(changed, encoding="utf-8")
    assert call_probe(tmp_path) == (3.0, False)
    assert call_probe(tmp_path) == (3.0, True)


def test_a_specialized_kernel_computes_the_same_and_refuses_other_arrays():
    u, out = np.arange(24.0).reshape(2, 3, 4), np.zeros((2, 3, 4))
    copy = compiling.specialized(loops.convert, out, u, 0, 1)
    copy(out, u, 0, 2)
    np.testing.assert_array_equal(out, u)
    with pytest.raises(TypeError, match="can't unbox array"):
        copy(out, u.astype(np.float32), 0, 2)
