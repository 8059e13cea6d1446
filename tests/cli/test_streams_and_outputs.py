"""Streams that are closed, full or ascii, files that exist, packages and folders that are missing: one line, or none."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import unigrid
from unigrid import cli
from unigrid.cli import monitor

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")


@pytest.fixture(autouse=True)
def folder(place):
    """A working directory with f.npy, of 12 x 17 unknowns."""
    np.save("f.npy", np.random.default_rng(1).standard_normal((12, 17)))
    return place


def shell(line, **more):
    """Run a line of a shell, in which `unigrid` is this one."""
    source = os.path.dirname(os.path.dirname(unigrid.__file__))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]), **more}
    line = f'unigrid() {{ "{sys.executable}" -m unigrid "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", line], capture_output=True, env=environment, timeout=120, check=False)


@needs_full
@pytest.mark.parametrize(
    ("line", "code", "written"),
    [
        ("unigrid solve f.npy -o u.npy >/dev/full", 1, True),
        ("unigrid solve f.npy -o u.npy 2>/dev/full", 0, True),
        ("unigrid solve f.npy -o u.npy --monitor --json 2>/dev/full >/dev/full", 1, True),
        ("unigrid solve f.npy -o u.npy >&-", 0, True),
        ("unigrid solve f.npy -o u.npy <&- >&- 2>&-", 0, True),
        ("unigrid solve f.npy -o - >&-", 2, False),
        ("unigrid solve f.npy -o - 2>&- >/dev/full", 1, False),
        ("unigrid solve missing.npy 2>/dev/full", 2, False),
        ("unigrid info >/dev/full", 1, False),
    ],
)
def test_streams_that_are_closed_or_full(folder, line, code, written):
    done = shell(line)
    assert done.returncode == code
    assert done.stderr.count(b"\n") <= 1
    assert b"Traceback" not in done.stderr + done.stdout
    if written:
        assert np.array_equal(np.load("u.npy"), unigrid.solve(np.load("f.npy")).u)


def test_names_that_ascii_lacks(folder):
    os.rename("f.npy", "Kräfte.npy")
    done = shell("unigrid solve Kräfte.npy -o 解.npy && unigrid solve Kräfte.npz", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert rb"Kr\xe4fte.npy: Poisson" in done.stdout
    assert done.stderr.count(b"\n") == 1
    assert os.path.exists("解.npy")


def test_a_pipe(folder):
    done = shell("gzip -c f.npy | gunzip | unigrid solve - -o - | unigrid solve - --u0 f.npy -o v.npy")
    assert done.returncode == 0
    u = unigrid.solve(np.load("f.npy")).u
    assert np.allclose(np.load("v.npy"), unigrid.solve(u).u, rtol=1e-6)
    assert b"Wrote u to the standard output" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "solve f.npy -o u.npy",
        "solve f.npy -o u.npy.gz",
        "solve f.npy --plot u.png",
        "solve f.npy --plot-history u.svg",
        "solve f.npy --plot-hierarchy u.pdf",
        "compare f.npy --smoothers jacobi --cycles V --maxiter 2 --plot u.png",
    ],
)
@pytest.mark.parametrize("kind", ["file", "read-only file", "link", "link to nothing"])
def test_files_that_exist_are_replaced_by_force_alone(command, folder, line, kind):
    words = line.split()
    path = folder / words[-1]
    if kind == "link to nothing":
        path.symlink_to(folder / "nothing")
    else:
        target = folder / "target" if kind == "link" else path
        target.write_bytes(b"old")
        target.chmod(0o444 if kind == "read-only file" else 0o640)
        if kind == "link":
            path.symlink_to(target)
    before = os.readlink(path) if path.is_symlink() else path.read_bytes()
    printed = command(line)
    assert printed.code == 2
    assert f"{words[-1]}: exists; --force replaces it" in printed.err
    assert (os.readlink(path) if path.is_symlink() else path.read_bytes()) == before
    assert command(f"{line} --force").code in (0, 1)
    assert path.read_bytes()[:3] != b"old"
    assert path.is_symlink() == kind.startswith("link")
    if kind != "link to nothing":
        assert path.stat().st_mode & 0o777 == (0o444 if kind == "read-only file" else 0o640)


def test_the_input_is_never_replaced(command):
    assert "is the input, which is never written over" in command("solve f.npy -o f.npy --force").err


def test_the_picture_that_compare_names_itself_is_replaced(command):
    for _ in range(2):
        assert command("compare f.npy --smoothers jacobi --cycles V --maxiter 2").code == 0


@pytest.mark.parametrize(
    "error", [ImportError("numba needs\nNumPy 2.3 or less"), OSError("cannot map libLLVM"), RuntimeError()]
)
def test_info_works_where_the_kernels_do_not(command, monkeypatch, error):
    def broken():
        raise error

    monkeypatch.setattr(cli.info, "load_kernels", broken)
    printed = command("info")
    assert printed.code == 0
    assert "cannot be loaded: " in printed.out
    assert "numpy" in printed.out
    assert len({line.split("  ")[0] for line in printed.out.splitlines()}) == len(printed.out.splitlines())


def test_a_warning_while_compiling_is_one_line(capsys):
    with monitor.announced_compilation(monitor.Stopwatch()):
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("compiled kernels cannot be kept", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "unigrid: compiled kernels cannot be kept\n"


def test_info_names_a_wrong_number_of_threads(folder):
    done = shell("unigrid info", UNIGRID_NUM_THREADS="many")
    assert done.returncode == 0
    assert b"UNIGRID_NUM_THREADS must be an integer >= 1" in done.stdout


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("train shapes -o run --plot old.png", "old.png: exists; --force replaces it"),
        ("train poisson -o run --plot old.png", "old.png: exists; --force replaces it"),
        ("train shapes -o run --confusion old.png", "old.png: exists; --force replaces it"),
        ("evaluate run --confusion old.png", "old.png: exists; --force replaces it"),
        ("evaluate run --confusion old.png --force", "run"),
        ("train no-such-data -o run --plot old.png --resume", "unknown dataset"),  # its own picture, of before
    ],
)
def test_pictures_of_networks_are_checked_before_any_work(command, folder, line, part):
    pytest.importorskip("torch")
    (folder / "old.png").write_bytes(b"old")
    printed = command(line)
    assert printed.code == 2
    assert part in printed.err
    assert (folder / "old.png").read_bytes() == b"old"
    assert "exists" not in printed.err or "--force" not in line.split()
