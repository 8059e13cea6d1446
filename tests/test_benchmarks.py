"""Every benchmark runs in its small form as a user would start it, and records what its claim needs."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unigrid

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHARED = {"record"}  # no benchmark, but what they have in common
NEED_PYAMG = {"smoothers_and_cycles", "faster_than_algebraic_multigrid"}
Record = dict[str, Any]


def check_converges_independently_of_h(record: Record) -> None:
    for group in ("2-D Dirichlet", "3-D Dirichlet", "2-D mixed", "2-D cells"):
        assert any(row["group"].startswith(group) for row in record["summary"])
    assert len(record["rows"]) > len(record["summary"])
    for row in record["rows"]:
        bar = 0.16 if "3-D" in row["group"] else 0.15 if "mixed" in row["group"] or "cells" in row["group"] else 0.11
        assert 0 < row["factor"] <= bar, row
        assert 0 < row["factor_default_omega"] < 0.2, row
        assert row["fmg_iterations"] <= 8, row
        assert row["cg_iterations"] <= 10, row


def check_smoothers_and_cycles(record: Record) -> None:
    methods = {row["method"] for row in record["comparison"]}
    assert {"plain", "PyAMG Ruge-Stueben", "PyAMG smoothed aggregation", "red-black 1.0", "Jacobi 0.8"} <= methods
    for row in record["comparison"]:
        assert row["history"]["residuals"][-1] <= 1.01e-8, row["method"]
        lengths = {len(row["history"][name]) for name in ("residuals", "seconds", "units")}
        assert len(lengths) == 1, row["method"]
        assert row["solve_seconds"] > 0
    assert {(row["omega"], *row["sweeps"]) for row in record["tuning"]} >= {(1.15, 2, 2), (1.0, 1, 1), (1.3, 3, 3)}
    assert record["best"] == record["rankings"]["all"][0]
    assert record["default"] in record["rankings"]["all"]


def check_faster_than_algebraic_multigrid(record: Record) -> None:
    for row in record["rows"]:
        assert row["relative_residual"] <= 1.01e-8, row
        assert row["setup_seconds"] > 0 < row["solve_seconds"]
        assert row["peak_above_interpreter_bytes"] > 0
    for verdict in record["verdicts"]:
        assert verdict["against"] in ("ruge-stueben", "smoothed-aggregation")
        assert verdict["times_as_fast"] > 0 < verdict["share_of_memory"]
    assert record["bars"] == {"times_as_fast": 20.0, "share_of_memory": 0.25, "at": 1023}


def check_parallel_pays_from_here(record: Record) -> None:
    assert record["now"] > 0
    assert set(record["pays_from"]) == {"relax_color", "residual", "restriction", "interpolation", "sum"}
    for row in record["rows"]:
        assert all(row[name]["serial"] > 0 < row[name]["parallel"] for name in record["pays_from"])


def check_starts_quickly(record: Record) -> None:
    assert record["first_run_says_it_compiles"]
    assert record["seconds"]["warm"] < record["seconds"]["first"]
    assert record["aims_seconds"] == {"first": 30.0, "warm": 2.5}


CHECKS: dict[str, Callable[[Record], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def test_every_benchmark_is_checked() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - SHARED == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_benchmark(name: str, tmp_path: Path) -> None:
    if name in NEED_PYAMG and importlib.util.find_spec("pyamg") is None:
        pytest.skip("compares with PyAMG, which is not installed: it is in the extra 'bench'")
    source = str(Path(unigrid.__file__).parents[1])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-W", "error", str(BENCHMARKS / f"{name}.py"), "--small", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "---" in done.stdout  # a table
    assert (tmp_path / f"{name}.txt").read_text() == done.stdout
    text = (tmp_path / f"{name}.json").read_text()
    record = json.loads(text)
    assert record["benchmark"] == name
    assert record["small"]
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["processor"]
    assert record["versions"]["python"] == platform.python_version()
    assert {"numpy", "scipy", "numba", "unigrid"} <= set(record["versions"])
    for private in (socket.gethostname(), str(Path.home()), str(tmp_path), str(BENCHMARKS)):
        assert len(private) < 4 or private not in text
    CHECKS[name](record)


def test_committed_results_are_of_full_runs() -> None:
    for path in (BENCHMARKS / "results").glob("*.json"):
        record = json.loads(path.read_text())
        assert record["benchmark"] == path.stem
        assert path.with_suffix(".txt").exists()
        assert not record["small"], f"{path.name} holds a small run, whose numbers mean little"
