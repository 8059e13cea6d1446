"""The kernels' cache on disk: valid in a copy of the folder, and for no kernel after a change in any of its files."""

import contextlib
import importlib.util
import resource
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


# Damaged files, and places that take none. A kernel in a folder of its own, loaded as by a new process each time.

OWN = """
from unigrid.stencil.kernels.cpu.compiled.compiling import kernel

@kernel
def probe(x):
    return x + x
"""


@pytest.fixture
def probe(tmp_path):
    """probe(): load the kernel anew, call it, and return whether it came from the cache."""
    path = tmp_path / "probe.py"
    path.write_text(OWN, encoding="utf-8")

    def load():
        spec = importlib.util.spec_from_file_location("probe", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.probe(1.5) == 3.0
        return bool(module.probe.stats.cache_hits)

    return load


def kept(tmp_path):
    return sorted((tmp_path / "__pycache__").glob("probe*.nb*"))


def changed(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "more at its end": lambda content: content + b"0",
    "another file": lambda content: b"\x89PNG\r\n" * 50,
    "zeros": lambda content: bytes(len(content)),
    "a bit at its beginning": lambda content: changed(content, 3),
    "a bit in its middle": lambda content: changed(content, len(content) // 2),
    "a bit near its end": lambda content: changed(content, len(content) - 70),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_anew(damage, probe, tmp_path):
    assert not probe()
    assert probe()
    for path in kept(tmp_path):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert not probe()
    assert probe()


def test_the_code_of_another_signature_or_version_is_compiled_anew(probe, tmp_path, monkeypatch):
    probe()
    files = kept(tmp_path)
    spec = importlib.util.spec_from_file_location("probe", tmp_path / "probe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.probe(2)
    other = next(path for path in kept(tmp_path) if path not in files and path.suffix == ".nbc")
    for path in files:
        shutil.copy(other, path)
    assert not probe()
    with monkeypatch.context() as patch:
        patch.setattr(compiling, "SOURCES", "0" * 64)
        assert not probe()
    assert not probe()
    assert probe()


@contextlib.contextmanager
def full_disk():
    """No file can grow beyond some bytes: what writing to a full disk is like, halfway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_time_and_a_warning(probe, tmp_path):
    with pytest.warns(RuntimeWarning, match=r"cannot be kept in .*File too large.*NUMBA_CACHE_DIR"), full_disk():
        assert not probe()
    assert not any((tmp_path / "__pycache__").glob("probe*.nb*"))
    assert not probe()
    assert probe()


def test_a_folder_in_the_place_of_a_file_costs_time_and_a_warning(probe, tmp_path):
    probe()
    for path in kept(tmp_path):
        path.unlink()
        path.mkdir()
    with pytest.warns(RuntimeWarning, match="cannot be kept in"):
        assert not probe()


def test_no_folder_that_can_be_written_to_costs_time_and_a_warning(probe, monkeypatch):
    monkeypatch.setattr(compiling.FunctionCache._impl_class, "_locator_classes", [])
    with pytest.warns(RuntimeWarning, match="cannot be kept in any folder"):
        assert not probe()
