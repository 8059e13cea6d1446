"""The reference of the site: every public name and every option is in it, and the examples that it adds run."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unigrid

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXTRA = re.split(r"^([\w.]+):\n", (DOCS / "reference" / "examples.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
EXAMPLES = dict(zip(EXTRA[::2], EXTRA[1::2], strict=True))
LEARNED = ("conv", "training", "tensors")


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("sphinx", "sphinx_gallery", "torch"):
        pytest.importorskip(package)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith((str(ROOT / "docs"), str(ROOT / "benchmarks"))):
            del sys.modules[name]


def case(name: str) -> object:
    """Return a name as a parameter: in the fast tier are those of the solver."""
    is_fast = "." not in name and not unigrid._HOME_OF[name].startswith("training")
    return pytest.param(name, marks=() if is_fast else pytest.mark.system)


@pytest.mark.parametrize("name", [case(name) for name in EXAMPLES if "mpi4py" not in EXAMPLES[name]])
def test_the_examples_of_the_reference_run(name: str) -> None:
    if unigrid._HOME_OF.get(name, "conv").startswith(LEARNED):
        pytest.importorskip("torch")
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], {}, name, None, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.system
@pytest.mark.parametrize("name", [name for name in EXAMPLES if "mpi4py" in EXAMPLES[name]])
def test_the_examples_with_mpi_run(name: str) -> None:
    """In a process of its own, as MPI stays initialized in one that has used it."""
    pytest.importorskip("mpi4py")
    code = "import doctest, sys; t = doctest.DocTestParser().get_doctest(sys.stdin.read(), {}, 'n', None, 0); "
    code += "sys.exit(doctest.DocTestRunner().run(t).failed)"
    done = subprocess.run([sys.executable, "-c", code], input=EXAMPLES[name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_public_name_has_an_example(extensions: None) -> None:
    import reference

    values = {target: reference.value_of(target) for target in reference.targets().values()}
    classes = {target.removeprefix("unigrid.") for target, value in values.items() if callable(value)}
    shown = {name for name in classes if ">>>" in (inspect.getdoc(values[f"unigrid.{name}"]) or "")}
    assert classes - shown == set(EXAMPLES)  # one place for each
    assert set(unigrid._HOME_OF) <= classes


def test_every_public_name_has_a_page(extensions: None) -> None:
    import reference

    pages = {f"unigrid.{name}" for name in unigrid._HOME_OF}
    assert pages <= set(reference.targets().values())
    listed = re.findall(r":py:obj:`~(unigrid\.\w+)`\n     - (.*)", reference.index())
    assert sorted(name for name, _ in listed) == sorted(pages)  # each once
    assert all(len(sentence) > 7 for _, sentence in listed)


def test_every_public_module_has_a_page(extensions: None) -> None:
    import reference

    assert set(reference.MODULES) | {"cycle", "iterate", "solution", "stencil"} == set(unigrid._MODULES)
    for module, title in reference.MODULES.items():
        page = reference.page_of_module(module)
        assert page.startswith(title)
        assert all(
            f"~unigrid.{module}." in page or f"~unigrid.{name}`" in page
            for name in reference.names_of(getattr(unigrid, module))
        )


def test_docstrings_become_markup(extensions: None) -> None:
    import docstrings
    import reference

    for module in (docstrings, reference):
        assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_every_option_has_an_entry(extensions: None) -> None:
    import command_line

    from unigrid.cli import _parsers

    _, parsers = _parsers()
    help_texts = (ROOT / "tests" / "golden" / "help.txt").read_text(encoding="utf-8")
    for name, parser in parsers.items():
        of_command = help_texts.partition(f"$ unigrid {name} --help")[2].partition("\n$ unigrid")[0]
        options = set(re.findall(r"^  (?:-\w[ \w]*, )?(--[a-z0-9-]+)", of_command, flags=re.MULTILINE))
        page = command_line.page_of(parser)
        assert options <= set(
            re.findall(r"--[a-z0-9-]+", " ".join(re.findall(r"^.. option:: (.*)$", page, flags=re.MULTILINE)))
        )
        assert len(options) >= 1


def test_a_record_is_fresh_until_its_source_changes(extensions: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sources

    for part in sources.SOLVING:
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text("a = 1\n") if part.endswith(".py") else (tmp_path / part).mkdir()
    (tmp_path / "stencil" / "solve.py").write_text("b = 2\n")
    monkeypatch.setattr(sources, "PACKAGE", tmp_path)
    record = {"benchmark": "one_call", "source": sources.digest("one_call")}
    assert sources.is_fresh(tmp_path / "one_call.json", record) is True
    (tmp_path / "stencil" / "solve.py").write_bytes(b"b = 2\r\n")
    assert sources.is_fresh(tmp_path / "one_call.json", record) is True
    (tmp_path / "stencil" / "solve.py").write_text("b = 3\n")
    assert sources.is_fresh(tmp_path / "one_call.json", record) is False


def test_the_measured_parts_are_there(extensions: None) -> None:
    import sources

    scripts = {path.stem for path in (ROOT / "benchmarks" / "claims").glob("*.py")}
    assert set(sources.MEASURED) <= scripts
    assert all((sources.PACKAGE / part).exists() for parts in sources.MEASURED.values() for part in parts)


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs Sphinx: pip install 'unigrid[docs]'")
def test_what_the_site_needs_is_an_extra_with_pins() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").replace("_", "-").lower()
    for requirement in [*extras["docs"], *extras["docs-check"]]:
        assert f"\n{re.match(r'[a-z-]+', requirement)[0]}==" in pins
