"""Several processes by MPI: `mpiexec -n N unigrid solve`, faults of one process, memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import unigrid

pytest.importorskip("mpi4py")
BESIDE = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
pytestmark = [pytest.mark.system, pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec")]
SOURCE = str(Path(unigrid.__file__).parents[1])
PATIENCE = 100  # seconds


def command(count, *arguments):
    return [str(MPIEXEC), "-n", str(count), sys.executable, *arguments]


def environment(**more):
    return {**os.environ, "PYTHONPATH": SOURCE, "UNIGRID_NUM_THREADS": "1", **more}


def ended(started, folder, **more):
    """Run a command to its end."""
    options = {"cwd": folder, "env": environment(), "capture_output": True, "text": True, "timeout": PATIENCE}
    return subprocess.run(started, **{**options, **more})


def unigrid_on(count, *arguments, folder):
    return ended(command(count, "-m", "unigrid", *arguments), folder)


@pytest.fixture
def source(tmp_path):
    f = np.random.default_rng(0).standard_normal((160, 60))
    np.save(tmp_path / "f.npy", f)
    return f


def test_solve_writes_what_one_process_writes(source, tmp_path):
    options = ("--boundary", "neumann:dirichlet=2,periodic", "--centering", "cell", "--spacing", "0.1,0.2")
    done = unigrid_on(3, "solve", "f.npy", "-o", "u.npy", *options, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "on 3 processes" in done.stdout
    assert "Wrote u.npy" in done.stdout
    alone = unigrid.solve(
        source,
        boundary=[("neumann", unigrid.Dirichlet(2.0)), "periodic"],
        centering="cell",
        spacing=(0.1, 0.2),
        precision="full",
    )
    assert np.array_equal(np.load(tmp_path / "u.npy"), alone.u)
    assert f"u from {alone.u.min():.6g} to {alone.u.max():.6g}" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["f.npy", "u.npy"]


def test_what_varies_is_read_by_rows(source, tmp_path):
    rng, (x, y) = np.random.default_rng(1), np.meshgrid(np.linspace(-1, 1, 160), np.linspace(-1, 1, 60), indexing="ij")
    arrays = {
        "coefficient": np.exp(rng.standard_normal(source.shape)),
        "reaction": rng.uniform(0.0, 2.0, source.shape),
        "mask": x**2 + y**2 < 0.9,
        "outside": x + y,
        "fixed": np.where((abs(x) < 0.1) & (abs(y) < 0.1), 3.0, np.nan),
        "u0": rng.standard_normal(source.shape),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    given = [part for name in arrays for part in (f"--{name}", f"{name}.npy")]
    done = unigrid_on(3, "solve", "f.npy", "-o", "u.npy", *given, "--spacing", "0.1,0.2", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "coefficients that vary" in done.stdout
    fixed = arrays.pop("fixed")
    alone = unigrid.solve(source, **arrays, fixed=(fixed == 3.0, 3.0), spacing=(0.1, 0.2))
    assert f"after {alone.iterations} iterations" in done.stdout
    assert np.abs(np.load(tmp_path / "u.npy") - alone.u).max() <= 1e-12 * np.abs(alone.u).max()


def test_what_is_wrong_is_reported_once(source, tmp_path):
    np.save(tmp_path / "nan.npy", np.where(np.arange(160)[:, None] == 150, np.nan, source))
    for arguments, words in (
        (("none.npy",), "none.npy: cannot be read"),
        (("nan.npy",), "process 1 of 2: f"),
        (("f.npy", "--u0", "none.npy"), "none.npy: cannot be read"),
        (("f.npy", "--coefficient", "f.npy"), "process 0 of 2: coefficient must be > 0 everywhere"),
        (("f.npy", "--coefficient", "f.npy,f.npy"), "no --coefficient at the faces of each axis"),
        (("f.npy", "-o", "u.csv"), "several processes write .npy"),
        (("f.npy", "--boundary", "neumann"), "mean zero"),
    ):
        done = unigrid_on(2, "solve", *arguments, folder=tmp_path)
        assert done.returncode == 2, arguments
        assert done.stderr.count("unigrid: error") == 1, done.stderr
        assert words in done.stderr


def test_no_convergence_is_the_exit_code_and_u_is_written(source, tmp_path):
    done = unigrid_on(2, "solve", "f.npy", "-o", "u.npy", "--maxiter", "1", "--json", folder=tmp_path)
    facts = json.loads(done.stdout)
    assert (facts["converged"], facts["processes"]) == (False, 2)
    assert (tmp_path / "u.npy").exists()


def test_mpi4py_missing(tmp_path, source):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('none here')")
    several = {**environment(PMI_SIZE="2"), "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCE}"}
    done = ended([sys.executable, "-m", "unigrid", "solve", "f.npy"], tmp_path, env=several)
    assert done.returncode == 2
    assert "pip install 'unigrid[mpi]'" in done.stderr


FOR_EVER = """
import os, sys
from pathlib import Path
from mpi4py import MPI
import numpy as np, unigrid
cycle = unigrid.DomainCycle(unigrid.Poisson((160, 60)), MPI.COMM_WORLD)
f = np.random.default_rng(0).standard_normal(cycle.local_shape)
while True:
    cycle.solve(f)
    Path(f"{cycle.comm.rank}.pid").write_text(str(os.getpid()))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_is_killed_in_the_midst_ends_all(tmp_path):
    started = subprocess.Popen(command(3, "-c", FOR_EVER), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    files, deadline = [tmp_path / f"{rank}.pid" for rank in range(3)], time.monotonic() + PATIENCE
    try:
        while not all(file.exists() and file.read_text() for file in files):
            assert started.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pids = [int(file.read_text()) for file in files]
        os.kill(pids[1], signal.SIGKILL)
        started.communicate(timeout=30)
        assert started.returncode != 0
        assert not any(is_alive(pid) for pid in pids)
    finally:
        started.kill()
        started.communicate()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


FAILING = """
from mpi4py import MPI
import unigrid.domains.cycle as module
import sys
from unigrid.cli import main
if MPI.COMM_WORLD.Get_rank() == 1:
    module.DomainCycle.solve = lambda *_, **__: 1 / 0
sys.exit(main(["solve", "f.npy"]))
"""


def test_a_fault_of_one_process_ends_all(source, tmp_path):
    done = ended(command(3, "-c", FAILING), tmp_path)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr


PEAK = """
import resource, sys
from mpi4py import MPI
import numpy as np, unigrid

def problem(n):
    if sys.argv[2] == "constant":
        return unigrid.Poisson((n, n))
    rows = unigrid.DomainProblem.rows((n, n), MPI.COMM_WORLD)
    x = np.linspace(0.0, 7.0, n)
    return unigrid.DomainProblem((n, n), MPI.COMM_WORLD, coefficient=np.exp(np.sin(np.add.outer(x[rows[0]], x))))

def solved(n):
    cycle = unigrid.DomainCycle(problem(n), MPI.COMM_WORLD)
    return cycle.solve(np.random.default_rng(0).standard_normal(cycle.local_shape)).u

solved(511)  # all that is loaded, and compiled
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
u = solved(int(sys.argv[1]))
peaks = MPI.COMM_WORLD.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
if MPI.COMM_WORLD.Get_rank() == 0:
    print(1024 * max(peaks))
"""


def peak(count, n, kind, folder):
    """Return the largest growth of memory of a process in a solve."""
    done = ended(command(count, "-c", PEAK, str(n), kind), folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_memory_is_that_of_the_share(tmp_path):
    gathered = 8 * (3 * 64 * 64 + 225**2)  # f, b and u of the first level that is whole; the inverse of the coarsest
    one = peak(1, 4095, "constant", tmp_path)
    assert one < 5 * 8 * 4095**2
    assert peak(4, 4095, "constant", tmp_path) <= 1.15 * one / 4 + gathered
    # Of smaller blocks, the last page of each array, of 2 MB, is a larger part: measured 1.17.
    assert peak(4, 2047, "constant", tmp_path) <= 1.25 * peak(1, 2047, "constant", tmp_path) / 4 + gathered


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_memory_of_coefficients_that_vary_is_that_of_the_share(tmp_path):
    gathered = 8 * 64 * 64 * 20  # couplings, P and what follows from them, of the first level that is whole and below
    # Measured 1.21: the last page of each array, of 2 MB, and halos of 16 rows beside 512.
    assert peak(4, 2047, "varying", tmp_path) <= 1.25 * peak(1, 2047, "varying", tmp_path) / 4 + gathered
