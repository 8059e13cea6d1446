"""Compiled loops read and write inside their arrays: what lies beyond is another array, or nothing."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Whatever has loops of its own: black box multigrid, half-cycles in one pass, relaxation of lines, transfers.
FILES = ("black_box", "fused", "fused_points", "galerkin", "kernels", "lines", "relaxation", "transfers")


def test_no_loop_leaves_its_arrays(tmp_path):
    """The fast tests of these files once more, with kernels that check every index."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))
    } | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}  # fmt: skip
    files = [str(HERE / f"test_{name}.py") for name in FILES]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not system", *files]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent.parent, check=False)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
