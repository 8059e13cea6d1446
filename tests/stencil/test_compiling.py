"""The kernels' cache on disk: valid in a copy of the folder, and for no kernel after a change in any of its files."""

import errno
import importlib.util
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numba.core.caching
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


DOUBLED = """
from unigrid.stencil.kernels.cpu.compiled.compiling import compiled

@compiled(nogil=True)
def doubled(x):
    return 2 * x
"""


class Place:
    """A folder with a kernel of its own, and its cache."""

    def __init__(self, folder):
        self.source = folder / "doubling.py"
        self.source.write_text(DOUBLED, encoding="utf-8")

    def kernel(self):
        """The kernel as a new process has it."""
        spec = importlib.util.spec_from_file_location("doubling", self.source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.doubled

    def call(self, x):
        """Return what a new process computes, and whether it was loaded from the cache."""
        kernel = self.kernel()
        return kernel(x), sum(kernel.stats.cache_hits.values()) == 1

    def files(self, ending):
        return sorted(self.source.parent.glob(f"__pycache__/*.{ending}"))


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    assert [made.call(3), made.call(3)] == [(6, False), (6, True)]
    return made


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 64]) + content[middle + 64 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"", lambda content: bytes(len(content))])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_cache_is_compiled_anew(place, damage, ending):
    (file,) = place.files(ending)
    file.write_bytes(damage(file.read_bytes()))
    assert [place.call(3), place.call(3)] == [(6, False), (6, True)]


def test_code_of_another_signature_under_its_name_is_not_run(place):
    """As two processes leave it that compile at the same time."""
    assert place.call(1.5) == (3.0, False)
    first, second = place.files("nbc")
    first.write_bytes(second.read_bytes())
    assert [place.call(3), place.call(3), place.call(1.5)] == [(6, False), (6, True), (3.0, True)]


def test_numba_itself_takes_the_index_for_one_of_another_version(place):
    (file,) = place.files("nbi")
    with open(file, "rb") as content:
        assert pickle.load(content) != numba.__version__


def test_a_full_disk_leaves_a_kernel_that_runs(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "_open_for_write", full)
    place = Place(tmp_path)
    assert [place.call(3), place.call(3)] == [(6, False), (6, False)]


def test_without_a_folder_kernels_are_compiled_in_every_process(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    place = Place(tmp_path)
    assert [place.call(3), place.call(3)] == [(6, False), (6, False)]
    assert place.kernel().stats.cache_path is None
