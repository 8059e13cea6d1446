"""What the benchmarks of tensors are made of: the problem, the residual that all solvers are held to, rivals, and bars."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from benchmark_scripts import Record, load
from benchmark_scripts import shared_modules as shared_modules

import unigrid


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("n", [2, 5, 300])
def test_the_residual_is_that_of_the_matrix(rng, n, centering):
    from tensor_rivals import direct, relative_error, relative_residual

    f, u = rng.standard_normal((n, n)), rng.standard_normal((n, n))
    cells = centering == "cell"
    r = f.ravel() - unigrid.Poisson((n, n), centering=centering).matrix() @ u.ravel()
    assert relative_residual(f, u, cells) == pytest.approx(np.linalg.norm(r) / np.linalg.norm(f), rel=1e-12)
    exact = direct(f, cells)
    assert relative_residual(f, exact, cells) < 1e-9
    assert relative_error(exact + u, exact) == pytest.approx(np.linalg.norm(u) / np.linalg.norm(exact))


def test_the_published_problem_is_solved_by_ones():
    from tensor_rivals import relative_residual, source

    assert relative_residual(source(9, "ones"), np.ones((9, 9)), cells=False) < 1e-15
    assert np.array_equal(source(9, "random"), source(9, "random"))


RIVALS = (
    "torch-sla CG + Jacobi", "torch-sla CG + AMG", "torch-sla AMG", "torch-sla LU", "solvax multigrid + CG",
    "solvax multigrid, tuned", "solvax diagonalization, cells",
)  # fmt: skip


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.filterwarnings("ignore")
def test_rivals_reach_the_tolerance(name):
    from tensor_rivals import METHODS, direct, missing, relative_error, relative_residual, source

    method = METHODS[name]
    if lacking := missing(method.needs):
        pytest.skip(f"compares with packages that are not installed: {', '.join(lacking)}")
    f = source(63, "random")
    given = f.copy()
    u = method.prepare(given, 1e-8)()
    assert relative_residual(f, u, method.cells) <= 1.01e-8
    assert relative_error(u, direct(f, method.cells)) < 1e-6
    assert np.array_equal(given, f)


def test_all_rivals_are_tested():
    from tensor_rivals import METHODS

    assert {name for name in METHODS if not name.startswith("unigrid")} == set(RIVALS)


def measured(method: str, n: int, again: float, **other: Any) -> Record:
    row = {"method": method, "n": n, "again": again, "first": 2 * again, "prepare": again, "relative_residual": 1e-9}
    return {**row, "outcome": None, **other}


def test_bars_beside_others():
    module = load("tensors_beside_others")
    rows = [
        *(measured("unigrid", n, 0.1) for n in (255, 1023)),
        *(measured("torch-sla LU", n, 0.3) for n in (255, 1023)),
        measured("torch-sla AMG", 1023, 0.2),
        measured("torch-sla CG + Jacobi", 1023, 0.01, relative_residual=1e-7),  # did not solve the problem
        measured("solvax multigrid, tuned", 255, 0.05),
        {"method": "solvax multigrid, tuned", "n": 1023, "outcome": "over 1 s"},
        measured("unigrid, cells", 255, 0.1),
        measured("solvax diagonalization, cells", 255, 0.02),
    ]
    published = [measured("unigrid", 1000, 0.2), measured("unigrid", 9000, 2.0), measured("torch-sla CG + Jacobi", 1000, 9.0)]
    assert [(each.what, each.measured, each.bar, each.holds, each.aim) for each in module.verdicts(published, rows)] == [
        ("1000^2, torch-sla's problem: seconds to 1e-08", 0.2, 0.19, False, False),
        ("9000^2, torch-sla's problem: seconds to 1e-08", 2.0, 75.9, True, False),
        ("255^2: times as fast as torch-sla LU", pytest.approx(3), 1.0, True, True),
        ("255^2: times as fast as solvax multigrid, tuned", 0.5, 1.0, False, True),
        ("255^2: times as fast as solvax diagonalization, cells", pytest.approx(0.2), 1.0, False, True),
        ("1023^2: times as fast as torch-sla AMG", 2.0, 1.0, True, False),
    ]


def test_no_size_is_begun_that_takes_longer_than_the_limit():
    module = load("tensors_beside_others")
    linear = [measured("a", 100, 1.0), measured("a", 200, 4.0)]
    assert module.beyond([], 1000, 1.0) is None
    assert module.beyond(linear, 400, 49.0) is None
    assert module.beyond(linear, 400, 47.0) == "over 47 s"
    cubic = [measured("a", 100, 1.0), measured("a", 200, 8.0)]
    assert module.beyond(cubic, 400, 193.0) is None
    assert module.beyond(cubic, 400, 191.0) == "over 191 s"
    assert module.beyond([{"n": 100, "outcome": "out of memory"}], 200, 1e9) == "out of memory"


def test_a_process_that_takes_too_long_or_fails_is_a_row_without_numbers(monkeypatch, tmp_path):
    module = load("tensors_beside_others")
    assert module.in_fresh_process("torch-sla LU", 7, "random", 1e-8, 1e-3)["outcome"] == "over 0.001 s"
    script = tmp_path / "script.py"
    monkeypatch.setattr(module, "__file__", str(script))
    for error, outcome in (("MemoryError", "out of memory"), ("ValueError('no')", "failed: ValueError: no")):
        script.write_text(f"raise {error}")
        assert module.in_fresh_process("torch-sla LU", 7, "random", 1e-8, 60.0)["outcome"] == outcome
    with pytest.raises(SystemExit, match="unigrid at n = 7 failed"):
        module.in_fresh_process("unigrid", 7, "random", 1e-8, 60.0)


def test_bars_of_gradients():
    module = load("gradients_cheap")
    times = [{"what": "f", "n": 63, "ratio": 2.2}, {"what": "reaction", "n": 63, "ratio": 2.4}]
    overheads = [{"n": n, "overhead_ms": {"tensor": 0.05, "with gradient": 0.2}} for n in (255, 1023)]
    memories = [{"cycles": 5, "kept_arrays": 0.0, "allocated_arrays": 1.0, "resident_arrays": None}]
    memories += [{"cycles": 20, "kept_arrays": 0.0, "allocated_arrays": 16.0, "resident_arrays": None}]
    assert [(each.what, each.measured, each.holds) for each in module.verdicts(times, overheads, memories)] == [
        ("63^2, f: both passes / forward", 2.2, True),
        ("63^2, reaction: both passes / forward", 2.4, False),
        ("255^2, tensor: more than the array, ms", 0.05, True),
        ("255^2, with gradient: more than the array, ms", 0.2, False),
        ("1023^2, tensor: more than the array, ms", 0.05, True),
        ("1023^2, with gradient: more than the array, ms", 0.2, False),
        ("20 cycles: arrays kept, more than of 5", 0.0, True),
        ("20 cycles: arrays allocated, more than of 5", 15.0, False),
    ]


def test_arguments_change_from_call_to_call_where_they_are_new():
    module = load("gradients_cheap")
    for what in ("f", "reaction", "coefficient"):
        name, *_ = first = next(module.parameters(what, 7))
        assert name == what
        assert "f" in first
    for what in ("reaction", "coefficient"):
        several = module.parameters(f"{what}, new", 7)
        one, other = next(several)[what], next(several)[what]
        assert (one != other).all()
        assert (one > 0).all()


def test_a_rival_is_missing_by_its_module():
    from tensor_rivals import missing

    assert missing(("no-such-package", "numpy")) == ["no-such-package"]
    assert ("torch-sla" in missing(("torch-sla",))) is (importlib.util.find_spec("torch_sla") is None)


@pytest.mark.parametrize("form", ["odd extension", "half size"])
@pytest.mark.parametrize("shape", [(31,), (15, 7), (7, 15, 7)])
def test_sine_transforms_solve_the_equation(rng, form, shape):
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'unigrid[learn]'")
    from gpu_rivals import sine_solver

    f = rng.standard_normal(shape)
    problem = unigrid.Poisson(shape, spacing=1.0 / (shape[0] + 1))
    u = sine_solver(torch.from_numpy(f), form, torch)().numpy()
    assert np.abs(problem.matrix() @ u.ravel() - f.ravel()).max() < 1e-12


def test_without_a_gpu_rows_are_marked():
    benchmark = load("on_a_gpu")
    for stage in benchmark.STAGES:
        rows = benchmark.rows_of(stage, None, False, float("inf"), None)
        assert rows
        assert all(row["measured"] == f"not measured; {benchmark.COMMAND} --stage {stage}" for row in rows)
        assert all(verdict.measured is None for verdict in benchmark.verdicts(stage, rows))


def test_the_bars_of_solves_on_a_gpu():
    benchmark = load("on_a_gpu")
    row = {"grid": "8191^2", "precision": "float64", "unknowns_per_second": 6e9, "seconds": 1.0}
    bars = benchmark.verdicts("squares", [{**row, "solver": "unigrid"}])
    assert [bar.holds for bar in bars] == [True, False, None, None]
    rivals = [{**row, "solver": "unigrid"}, {**row, "solver": "torch", "seconds": 19.0}]
    rivals += [
        {**row, "solver": f"sine transform, {form}, torch", "seconds": taken}
        for form, taken in (("odd extension", 1.3), ("half size", 1.1))
    ]
    assert [(bar.measured, bar.holds) for bar in benchmark.verdicts("rivals", rivals)] == [(19.0, False), (1.1, False)]
