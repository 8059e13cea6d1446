"""The tiers of the suite, cross products packed into few items, and where their random numbers come from.

A packed test is two items: `sample`, one case in twenty, and `rest`, which is `slow`. Every case is a subtest of its own. So
the fast tier, `-m "not slow and not system"`, goes through the sample, and the whole suite through all cases, each once. What
else is `slow` or `system` is marked where it stands, or by the lists below, which name whole files and folders.

Which cases are in the sample, and all random numbers, are the same in every run, unless the environment variable
UNIGRID_TEST_DRAW holds a number other than 0: then both are drawn anew from it.
"""

import functools
import inspect
import itertools
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

DRAW = int(os.environ.get("UNIGRID_TEST_DRAW", "0"))
ONE_IN = 20
# Files, folders and tests by the beginning of their names: what starts processes or trains networks, and what takes long.
SYSTEM = (
    "tests/cli/", "tests/test_benchmarks.py", "tests/test_parts_of_benchmarks.py", "tests/test_parts_of_tensor_benchmarks.py",
    "tests/test_demo.py", "tests/test_examples.py", "tests/stencil/test_bounds.py",
    "tests/training/data/test_shapes.py", "tests/training/images/test_edges_of_runs.py",
    "tests/training/images/test_evaluation.py", "tests/training/images/test_inference.py", "tests/training/images/test_loop.py",
    "tests/training/images/test_resume.py", "tests/training/images/test_train.py", "tests/training/images/test_tuning.py",
    "tests/training/runs/test_checkpoint.py", "tests/report/test_runs.py",
    "tests/training/runs/test_written_before.py", "tests/training/solvers/test_net.py", "tests/training/solvers/test_train.py",
    "tests/conv/test_fitting.py", "tests/gpu/test_kernels.py",
    "tests/test_package.py::test_a_numpy_solve_loads_neither_torch_nor_matplotlib",
    "tests/test_package.py::test_modules_are_there_without_an_import_of_their_own",
    "tests/test_package.py::test_the_examples_of_training_run",
    "tests/test_package.py::test_without_torch",
)  # fmt: skip
# In one process of their own or many; the help of the command line is in the fast tier.
SYSTEM += tuple(
    f"tests/test_cli.py::Test{name}"
    for name in ("Solve", "Failures", "Interrupts", "Compare", "Info", "Boundaries", "Progress", "FreshInterpreter")
)
SLOW = (
    "tests/conv/test_models.py::test_a_compiled_model_is_the_same_function",
    "tests/conv/test_models.py::test_precisions",
    "tests/conv/test_parameters.py::test_numbers_are_stored_once_in_every",
    "tests/conv/test_straight_line.py::test_a_sample_of_all_combinations",
    "tests/conv/test_straight_line.py::test_all_sharing_modes",
    "tests/equivalence/test_report.py",
    "tests/equivalence/test_stencils.py::test_cycles_on_every_grid_that_nests",
    "tests/equivalence/test_stencils.py::test_ten_cycles_are_the_classical_ones",
    "tests/test_analysis.py::test_predictions_against_cycles_that_run",
    "tests/test_package.py::test_the_examples_of_analysis_and_stencils_run[report.solves]",
    "tests/test_analysis.py::test_the_blocks_are_the_error_matrix_of_the_cycle",
    "tests/tensors/test_graphs.py",
    "tests/training/solvers/test_loss.py",
)
Row = tuple[str, dict[str, Any]]  # a case: its name and its arguments


def seed(text: str) -> int:
    """Return a number that depends on a text, and on the draw."""
    return zlib.crc32(text.encode(), DRAW)


def generator(text: str) -> np.random.Generator:
    """Return a generator of random numbers that depends on a text, and on the draw."""
    return np.random.default_rng(seed(text))


def pack(test: Callable[..., None]) -> Any:
    """Turn the items that the `parametrize` below this decorator would make into two, with the cases as subtests.

    A test that takes `rng` gets a generator for each case; other fixtures are made once per item. Each `parametrize` above
    this decorator still multiplies the items.
    """
    marks = getattr(test, "pytestmark", [])
    tables = [_rows(*mark.args, **mark.kwargs) for mark in marks if mark.name == "parametrize"]
    cases = _with_names_of_their_own([_joined(parts) for parts in itertools.product(*tables)])
    numbers = [seed(f"{test.__name__}[{name}]") for name, _ in cases]
    threshold = max(2**32 // ONE_IN, min(numbers))
    sample = [case for case, number in zip(cases, numbers, strict=True) if number <= threshold]
    rest = [case for case, number in zip(cases, numbers, strict=True) if number > threshold]
    needed = inspect.signature(test).parameters
    arguments = {name for _, values in cases for name in values}

    @functools.wraps(test)
    def run(request: Any, subtests: Any, cases: list[Row], **fixtures: Any) -> None:
        for name, values in cases:
            with subtests.test(name):
                drawn = {"rng": generator(f"{request.node.nodeid}[{name}]")} if "rng" in needed else {}
                test(**fixtures, **drawn, **values)

    fixtures = [name for name in needed if name not in arguments | {"rng"}]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("request", "subtests", "cases", *fixtures)]
    )
    run.pytestmark = [mark for mark in marks if mark.name != "parametrize"]  # type: ignore[attr-defined]
    parts = [pytest.param(sample, id="sample"), pytest.param(rest, id="rest", marks=pytest.mark.slow)]
    return pytest.mark.parametrize("cases", parts if rest else parts[:1])(run)


def _rows(names: Any, values: Any, *, ids: Any = None) -> list[Row]:
    """Return the cases of one `parametrize`."""
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    rows = []
    for number, value in enumerate(values):
        given, own = (value.values, value.id) if hasattr(value, "marks") else (value, None)
        given = list(given) if len(names) > 1 or hasattr(value, "marks") else [given]
        if own is None and isinstance(ids, list):
            own = ids[number]
        name = own or "-".join((ids or named)(each) for each in given)
        rows.append((name, dict(zip(names, given, strict=True))))
    return rows


def named(value: Any) -> str:
    """Return a name for a value, the same in every process: for `ids`."""
    return value.__name__ if hasattr(value, "__name__") else re.sub(r" at 0x[0-9a-f]+", "", str(value))


def _joined(parts: tuple[Row, ...]) -> Row:
    return "-".join(name for name, _ in reversed(parts)), {key: value for _, values in parts for key, value in values.items()}


def _with_names_of_their_own(cases: list[Row]) -> list[Row]:
    """Number the cases that have a name in common."""
    seen: Counter[str] = Counter()
    rows = []
    for name, values in cases:
        seen[name] += 1
        rows.append((f"{name}#{seen[name]}" if seen[name] > 1 else name, values))
    return rows
