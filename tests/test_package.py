"""The package as a whole: what importing it costs, its names, its documentation, its version."""

import doctest
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unigrid

ROOT = Path(unigrid.__file__).resolve().parents[2]
HEAVY = ["torch", "matplotlib", "tqdm", "pyamg", "jinja2"]
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")


def modules_after(code):
    """Return the top-level modules that a fresh interpreter has loaded after running some code."""
    source = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n{code}\n"
    source += "import json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_unigrid_loads_no_library_at_all():
    assert not {*HEAVY, "numpy", "scipy", "numba"} & set(modules_after("import unigrid; dir(unigrid); unigrid.__version__"))


def test_a_numpy_solve_loads_neither_torch_nor_matplotlib():
    code = "import numpy as np, unigrid; assert unigrid.solve(np.ones((40, 40))).converged; repr(unigrid.StencilCycle)"
    loaded = modules_after(code)
    assert "numpy" in loaded
    assert not set(HEAVY) & set(loaded)


def test_the_cycle_alone_loads_only_the_standard_library():
    loaded = set(modules_after("import unigrid.cycle, unigrid.iterate, unigrid.solution"))
    assert not {*HEAVY, "numpy", "scipy", "numba"} & loaded


@pytest.mark.parametrize("name", unigrid.__all__)
def test_every_public_name_loads(name):
    value = getattr(unigrid, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert name in dir(unigrid)


def test_all_is_sorted_and_holds_the_contract():
    assert unigrid.__all__ == sorted(set(unigrid.__all__))
    contract = """
        solve Solution Reason ConvergenceError Poisson StencilCycle MultigridCycle
        Dirichlet Neumann Periodic RedBlack Jacobi Chebyshev
        GaussSeidel Smoother Restriction Prolongation StateTransfer Operator
    """
    if importlib.util.find_spec("torch"):
        contract += "ConvCycle MgNet MgNetConfig create_model list_models train TrainResult"
    assert set(contract.split()) <= set(unigrid.__all__)


def test_type_checkers_see_the_same_names():
    text = Path(unigrid.__file__).read_text(encoding="utf-8")
    checked = re.findall(r"^    from \.[\w.]+ import (\w+) as \1$", text, flags=re.MULTILINE)
    assert sorted(checked) == sorted(unigrid._HOME_OF)
    homes = re.findall(r"^    from \.([\w.]+) import (\w+) as \2$", text, flags=re.MULTILINE)
    assert {name: home for home, name in homes} == unigrid._HOME_OF


@pytest.mark.parametrize(
    ("name", "meant"), [("Poison", "Poisson"), ("slove", "solve"), ("RedBlak", "RedBlack"), ("Neuman", "Neumann")]
)
def test_an_unknown_attribute_is_answered_with_the_nearest(name, meant):
    with pytest.raises(AttributeError, match=f"module 'unigrid' has no attribute '{name}'; did you mean '{meant}'"):
        getattr(unigrid, name)


def test_an_attribute_like_none_is_refused_without_a_guess():
    with pytest.raises(AttributeError, match=r"has no attribute 'zzzzzzzz'$"):
        unigrid.zzzzzzzz  # noqa: B018


@pytest.mark.parametrize("name", unigrid.__all__)
def test_every_public_name_is_documented(name):
    text = inspect.getdoc(getattr(unigrid, name))
    assert text
    assert len(text.split()) >= 4


@pytest.mark.parametrize("name", unigrid.__all__)
def test_every_public_method_is_documented(name):
    value = getattr(unigrid, name)
    if inspect.isclass(value):
        for method, function in vars(value).items():
            if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                assert inspect.getdoc(getattr(value, method)) or inspect.getdoc(function), f"{name}.{method}"


MAIN = ["solve", "Poisson", "StencilCycle"] + ["MgNet", "train", "train_solver"] * bool(importlib.util.find_spec("torch"))


@pytest.mark.parametrize("name", MAIN)
def test_the_main_names_have_an_example_that_runs(name):
    value = getattr(unigrid, name)
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(value, name) if test.examples]
    assert tests
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        assert runner.run(test).failed == 0


@pytest.mark.parametrize("name", MAIN)
def test_the_main_names_document_every_argument(name):
    value = getattr(unigrid, name)
    text = inspect.getdoc(value)
    for parameter in inspect.signature(value).parameters:
        assert re.search(rf"\b{parameter}\b", text), parameter
    for section in ("Parameters", "Raises", "Examples", "Source:"):
        assert section in text


# Versions and metadata; these files stand in the source tree alone.

in_the_source_tree = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="unigrid is installed, not a source tree"
)


@in_the_source_tree
def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "unigrid.version.__version__"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, flags=re.MULTILINE).group(1).strip("\"'") == unigrid.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.\w+)?", unigrid.__version__)


@in_the_source_tree
def test_the_package_says_that_it_is_typed():
    assert (ROOT / "src" / "unigrid" / "py.typed").exists()


@in_the_source_tree
def test_no_file_is_too_long_to_read():
    for path in (ROOT / "src").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path.name


@in_the_source_tree
def test_arrows_point_one_way():
    """stencil -> iterate -> cycle: what is to the right imports nothing of what is to the left."""
    source = ROOT / "src" / "unigrid"
    forbidden = {
        "cycle.py": r"from \.|import numpy|import torch",
        "iterate.py": r"stencil|conv|numpy|torch",
        "solution.py": r"from \.|numpy|torch",
    }
    for name, pattern in forbidden.items():
        lines = [
            line for line in (source / name).read_text(encoding="utf-8").splitlines() if re.match(r"\s*(from|import) ", line)
        ]
        assert not [line for line in lines if re.search(pattern, line)]
    for path in (source / "stencil").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|matplotlib)", path.read_text(encoding="utf-8"), flags=re.MULTILINE), (
            path.name
        )
    others = {"conv": r"stencil|training|iterate|plots|report|cli", "training": r"stencil|plots|report|cli"}
    for folder, pattern in others.items():
        for path in (source / folder).rglob("*.py"):
            if path.parent.name == "solvers":  # training on Poisson problems imports both backends
                continue
            text = path.read_text(encoding="utf-8")
            assert not re.search(rf"^\s*from \.+({pattern})\b", text, flags=re.MULTILINE), path.name


@needs_torch
@pytest.mark.parametrize("path", sorted((Path(unigrid.__file__).parent / "conv").glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_of_the_learned_backend_run(path):
    run_examples(f"unigrid.conv.{path.stem}")


@needs_torch
@pytest.mark.parametrize("path", sorted((Path(unigrid.__file__).parent / "training").rglob("*.py")), ids=lambda path: path.stem)
def test_the_examples_of_training_run(path):
    run_examples(".".join(("unigrid", *path.relative_to(ROOT / "src" / "unigrid").with_suffix("").parts)))


def run_examples(name):
    result = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert result.failed == 0


@needs_torch
@pytest.mark.parametrize(
    "name",
    [
        *(f"analysis.{path.stem}" for path in sorted((Path(unigrid.__file__).parent / "analysis").glob("*.py"))),
        "pretrained",
        "stencil.learned",
        "stencil.cycle",
        "stencil.problem",
        "stencil.solve",
        "report.solves",
        "report.words",
    ],
)
def test_the_examples_of_analysis_and_stencils_run(name):
    run_examples(f"unigrid.{name}")


@pytest.mark.parametrize("name", ["analysis", "cycle", "iterate", "plots", "report", "solution", "stencil"])
def test_modules_are_there_without_an_import_of_their_own(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import unigrid; print(unigrid.{name}.__name__)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"unigrid.{name}"


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"  # what an interpreter without torch does


@pytest.mark.parametrize("name", ["MgNet", "PoissonNet", "train", "conv", "equivalence", "training", "list_models"])
def test_without_torch_what_is_learned_says_which_command_installs_it(name):
    code = f"{WITHOUT_TORCH}import unigrid\ntry: unigrid.{name}\nexcept ImportError as error: sys.exit(str(error))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == f"unigrid.{name} needs torch: pip install 'unigrid[learn]'"


def test_without_torch_everything_else_is_there():
    code = f"{WITHOUT_TORCH}from unigrid import *\nimport unigrid, numpy\n"
    code += "print('MgNet' in dir(unigrid), solve(numpy.ones(9)).converged)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@needs_torch
def test_an_import_that_fails_within_is_not_blamed_on_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "unigrid.conv.mgnet", None)
    monkeypatch.delitem(vars(unigrid), "MgNet", raising=False)
    with pytest.raises(ImportError, match=r"unigrid\.conv\.mgnet"):
        unigrid.MgNet  # noqa: B018
