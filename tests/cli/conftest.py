"""What the tests of the learned backend's command line share: a run, a place without data, and how output is read."""

import contextlib
import functools
import io
import json
import os
import shlex
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

import unigrid
from unigrid.cli import main

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]  # what they test says itself that it needs torch
TINY = "--model mgnet-4-Bl --batch-size 64 --subset 128 --device cpu"
RUN = f"train shapes {TINY} --epochs 3 --validation 40 --set average=0.5 --learning-rate 0.3"


@pytest.fixture(scope="session")
def shared_pictures():
    """A context in which the synthetic set is smaller, 1000 + 200 pictures, and drawn once for all tests of this folder."""
    from unigrid.training.data import shapes

    once = functools.partial(shapes.make, 1000, 200)

    @contextlib.contextmanager
    def shared():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shapes, "make", once)
            yield

    return shared


@pytest.fixture(scope="module", autouse=True)
def drawn_once(shared_pictures):
    with shared_pictures():
        yield


@pytest.fixture(scope="session")
def tiny():
    """Options of a training run that takes a fraction of a second."""
    return TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory, shared_pictures):
    """A run through the command line, with all that it wrote and printed."""
    place, out, err = tmp_path_factory.mktemp("trained"), io.StringIO(), io.StringIO()
    with shared_pictures(), contextlib.chdir(place), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(f"{RUN} --plot curves.png --confusion confusion.pdf --json".split())
    assert code == 0, err.getvalue()
    folder = place / "runs" / "shapes-mgnet-4-Bl-fast"
    return SimpleNamespace(command=RUN, place=place, folder=folder, facts=_loads(out.getvalue()), err=err.getvalue())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory, and no data anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIGRID_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def command(place, capsys):
    """Run a command line; return its exit code and what it printed."""

    def run(text):
        code = main(shlex.split(text))
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def refused(command):
    """Run a command line that must end with this error, in one line, and with nothing else."""

    def check(text, expected):
        printed = command(text)
        assert printed.code == 2
        assert printed.err.startswith("unigrid: error: ")
        assert expected in printed.err
        assert len(printed.err.splitlines()) == 1
        assert printed.out == ""
        return printed.err

    return check


@pytest.fixture(scope="session")
def environment():
    """The environment for a child that finds the same unigrid, wherever it runs."""
    source = os.path.dirname(os.path.dirname(unigrid.__file__))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="session")
def loads():
    """Read JSON, and nothing that merely resembles it."""
    return _loads


def _loads(text):
    return json.loads(text, parse_constant=_no_constants)


def _no_constants(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.fixture(scope="session")
def terminal():
    """A stream that is a terminal."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    return Terminal
