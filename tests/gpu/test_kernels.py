"""Kernels for GPUs, without one: in Triton's interpreter against the slots, and compiled for sm_90, by other processes."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed: pip install 'unigrid[gpu]'", allow_module_level=True)

SOURCE = Path(__file__).parents[2] / "src"
# In CI a sample. UNIGRID_TEST_KERNELS=200 runs all, which takes minutes.
COUNT = int(os.environ.get("UNIGRID_TEST_KERNELS", "24"))


def output_of(script, *arguments, interpreted):
    """Return what a script prints at the end; its errors fail the test."""
    environment = os.environ | {"TRITON_INTERPRET": "1" if interpreted else "0", "PYTHONPATH": str(SOURCE)}
    result = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()[-1]


def test_kernels_equal_the_composed_slots():
    """Half-cycles and transfers, all sides, centrings and sizes, batches, in float64 and float32."""
    line = output_of("interpreted.py", "kernels", 0, COUNT, interpreted=True)
    assert int(re.match(r"(\d+) cases", line)[1]) > 0.9 * COUNT, line


def test_whole_solves_equal_those_of_numpy():
    """By the path of tensors on a GPU: as many iterations, u to round-off."""
    output_of("interpreted.py", "solves", 0, max(COUNT // 8, 2), interpreted=True)


@pytest.mark.parametrize("which", ["few", pytest.param("others", marks=pytest.mark.slow)])
def test_kernels_compile_without_spills(which):
    assert "none spills in float64" in output_of("compiled.py", which, interpreted=False)
