"""The command line: what it does, prints, writes and returns; every wrong input in one line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import unigrid
from unigrid import Dirichlet, Neumann, Periodic, cli
from unigrid.cli import main, monitor, options
from unigrid.stencil import transfers
from unigrid.stencil.cycle import StencilCycle
from unigrid.stencil.grid import CENTERINGS, NAMES
from unigrid.stencil.smoothers import SMOOTHERS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with f.npy, of 12 x 17 unknowns."""
    monkeypatch.chdir(tmp_path)
    np.save("f.npy", np.random.default_rng(1).standard_normal((12, 17)))
    return tmp_path


@pytest.fixture
def command(folder, capsys):
    """Run a command line; return its exit code and what it printed."""

    def run(text):
        code = main(text.split())
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


def no_constants(name):
    raise AssertionError(f"{name} is no JSON")


def loads(text):
    return json.loads(text, parse_constant=no_constants)


def environment(**more):
    """The environment for a child that finds the same unigrid, wherever it runs."""
    source = os.path.dirname(os.path.dirname(unigrid.__file__))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]), **more}


def process(*arguments, **more):
    settings = {"capture_output": True, "text": True, "timeout": 120, "check": False, "env": environment(**more)}
    return subprocess.run([sys.executable, *arguments], **settings)


class TestSolve:
    def test_it_solves_what_the_library_solves(self, command):
        assert command("solve f.npy -o u.npy").code == 0
        assert np.array_equal(np.load("u.npy"), unigrid.solve(np.load("f.npy")).u)

    @pytest.mark.parametrize("centering", CENTERINGS)
    def test_every_option_reaches_the_library(self, command, centering):
        options = (
            "--lengths 3,5 --boundary dirichlet=1.5:neumann=-2,periodic --reaction 0.5 --cycle w --pre 1 --post 3 "
            "--smoother jacobi --omega 0.7 --restriction cell-average --prolongation constant --rtol 1e-5 --atol 1e-9 "
            f"--maxiter 40 --start zero --centering {centering}"
        )
        assert command(f"solve f.npy -o u.npy {options}").code == 0
        expected = unigrid.solve(
            np.load("f.npy"), lengths=(3, 5), boundary=[(Dirichlet(1.5), Neumann(-2)), Periodic()], reaction=0.5, cycle="W",
            pre=1, post=3, smoother=unigrid.Jacobi(0.7), restriction="cell-average", prolongation="constant", rtol=1e-5,
            atol=1e-9, maxiter=40, start="zero", centering=centering,
        )  # fmt: skip
        assert np.array_equal(np.load("u.npy"), expected.u)

    def test_spacing_and_one_entry_for_all_axes(self, command):
        assert command("solve f.npy -o u.npy --spacing 0.1 --boundary neumann=0.25 --compatibility project").code == 0
        expected = unigrid.solve(np.load("f.npy"), spacing=0.1, boundary=[Neumann(0.25)] * 2, compatibility="project")
        assert np.array_equal(np.load("u.npy"), expected.u)

    def test_a_device(self, command):
        torch = pytest.importorskip("torch")
        assert command("solve f.npy -o u.npy --device cpu --monitor").code == 0
        assert np.abs(np.load("u.npy") - unigrid.solve(np.load("f.npy")).u).max() < 1e-12
        if not torch.cuda.is_available():
            refused = command("solve f.npy --device cuda")
            assert refused.code == 2
            assert "no GPU is there" in refused.err
        assert "unknown device 'gpu'; allowed: auto, cpu, cuda" in command("solve f.npy --device gpu").err

    def test_mixed_precision(self, command):
        f = np.random.default_rng(0).standard_normal((200, 210))
        np.save("f.npy", f)
        assert command("solve f.npy -o u.npy --precision mixed --rtol 1e-10").code == 0
        wanted = unigrid.solve(f, rtol=1e-10, precision="mixed").u
        assert np.abs(np.load("u.npy") - wanted).max() <= 1e-12 * np.abs(wanted).max()
        assert "'full', 'mixed'" in command("solve f.npy --precision single").err

    def test_one_pass_names_the_cycle_that_it_does(self, command):
        printed = command("solve f.npy -o u.npy --rtol discretization --plot-history history.png")
        assert "V(1,1), RedBlack" in printed.out
        assert "one pass of full multigrid" in printed.out
        assert np.array_equal(np.load("u.npy"), unigrid.solve(np.load("f.npy"), rtol="discretization").u)
        assert (
            "V(1,1)"
            in command("compare f.npy --smoothers tuned --cycles V --start fmg --rtol discretization --plot both.png").out
        )

    def test_conjugate_gradients(self, command):
        printed = command("solve f.npy --accelerate cg --json")
        expected = unigrid.solve(np.load("f.npy"), accelerate="cg")
        assert loads(printed.out)["residuals"] == list(expected.residuals)

    @pytest.mark.parametrize("shape", [(9,), (5, 6), (4, 5, 6)])
    def test_one_two_and_three_axes(self, command, shape):
        np.save("f.npy", np.ones(shape, dtype=np.float32))
        assert command("solve f.npy -o u.npz --plot u.png --plot-history h.svg --plot-hierarchy c.pdf").code == 0
        with np.load("u.npz") as archive:
            assert archive["u"].shape == shape
            assert archive["u"].dtype == np.float32
        assert sorted(os.listdir()) == ["c.pdf", "f.npy", "h.svg", "u.npz", "u.png"]

    def test_an_array_of_an_archive(self, command):
        np.savez("f.npz", source=np.ones((4, 4)), other=np.zeros(3))
        assert loads(command("solve f.npz --array source --json").out)["problem"]["shape"] == [4, 4]
        failed = command("solve f.npz")
        assert (failed.code, failed.out) == (2, "")
        assert "choose one with --array" in failed.err

    def test_text_and_picture_as_input(self, command):
        np.savetxt("f.csv", np.load("f.npy"), delimiter=",", fmt="%.17g")
        command("solve f.npy -o a.npy")
        command("solve f.csv -o b.npy")
        assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
        from PIL import Image

        Image.new("L", (8, 5), 255).save("f.png")
        assert command("solve f.png -o c.npy --plot c.pdf").code == 0
        assert np.load("c.npy").shape == (5, 8)

    def test_the_report(self, command):
        printed = command("solve f.npy -o u.csv")
        assert printed.err == ""
        for text in ("12 x 17 unknowns", "V(3,2)", "levels", "Converged", "Factor", "to solve", "Wrote u.csv"):
            assert text in printed.out
        assert "u is not stored; -o u.npy stores it." in command("solve f.npy").out

    def test_the_summary_is_json_and_nothing_else(self, command):
        printed = command("solve f.npy -o u.npy --plot u.png --json --force")
        facts = loads(printed.out)
        expected = unigrid.solve(np.load("f.npy"))
        assert printed.err == ""
        assert facts["problem"]["shape"] == [12, 17]
        assert facts["problem"]["boundary"] == ["dirichlet:dirichlet"] * 2
        assert facts["converged"] is True
        assert facts["reason"] == "converged"
        assert facts["iterations"] == expected.iterations
        assert facts["residuals"] == list(expected.residuals)
        assert facts["rate"] == expected.rate
        assert facts["written"] == ["u.npy", "u.png"]
        assert facts["levels"][0] == {"shape": [12, 17], "unknowns": 204}
        assert {"setup", "solve", "compile"} <= set(facts["seconds"])
        assert facts["versions"]["unigrid"] == unigrid.__version__

    def test_a_rate_that_does_not_exist_is_null(self, command):
        np.save("f.npy", np.zeros((5, 5)))
        facts = loads(command("solve f.npy --json").out)
        assert facts["rate"] is None
        assert facts["iterations"] == 0

    def test_the_monitor(self, command):
        lines = command("solve f.npy --monitor").out.splitlines()
        residuals = unigrid.solve(np.load("f.npy")).residuals
        assert lines[0].split() == ["iteration", "residual", "relative", "factor"]
        for number, residual in enumerate(residuals):
            fields = lines[1 + number].split()
            assert int(fields[0]) == number
            assert float(fields[1]) == pytest.approx(residual, rel=1e-4)
            assert float(fields[2]) == pytest.approx(residual / residuals[0], rel=1e-4)

    def test_the_monitor_leaves_json_alone(self, command):
        printed = command("solve f.npy --monitor --json")
        loads(printed.out)
        assert "iteration" in printed.err

    def test_threads(self, command):
        before = unigrid.get_num_threads()
        try:
            assert loads(command("solve f.npy --threads 3 --json").out)["threads"] == 3
        finally:
            unigrid.set_num_threads(before)


class TestFailures:
    def test_not_converged_is_exit_code_1_and_u_is_written(self, command):
        printed = command("solve f.npy --maxiter 1 -o u.npy")
        assert printed.code == 1
        assert unigrid.Reason.MAXITER.text in printed.err
        assert len(printed.err.splitlines()) == 1
        expected = unigrid.solve(np.load("f.npy"), maxiter=1, raise_on_failure=False)
        assert np.array_equal(np.load("u.npy"), expected.u)

    def test_divergence(self, command):
        printed = command("solve f.npy --smoother jacobi --omega 3 --start zero --json")
        assert printed.code == 1
        assert loads(printed.out)["reason"] == "diverged"
        assert unigrid.Reason.DIVERGED.text in printed.err

    def test_overflow_in_the_first_cycle_is_no_crash(self, command):
        np.save("f.npy", np.full((40, 40), 3e38, dtype=np.float32))
        printed = command("solve f.npy -o u.npy --plot u.png --json --start zero")
        assert printed.code == 1
        assert loads(printed.out)["converged"] is False

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("solve", "required: RHS"),
            ("slove f.npy", "did you mean 'solve'"),
            ("solve f.npy --smoothr jacobi", "did you mean '--smoother'"),
            ("solve f.npy --smooth jacobi", "solve has no option '--smooth'"),
            ("solve f.npy extra", "has no option 'extra'"),
            ("solve missing.npy", "missing.npy: no such file"),
            ("solve g.npy", "did you mean 'f.npy'"),
            ("solve .", "is a directory"),
            ("solve f.txt", "unknown file ending '.txt'"),
            ("solve f.npy --array x", "only .npz, .mat, .h5, .hdf5, .nc hold arrays by name"),
            ("solve f.npy --smoother jacoby", "did you mean 'jacobi'"),
            ("solve f.npy --cycle X", "allowed: 'V', 'W', 'F'"),
            ("solve f.npy --start fgm", "did you mean 'fmg'"),
            ("solve f.npy --restriction full-weigthing", "did you mean 'full-weighting'"),
            ("solve f.npy --prolongation lineer", "did you mean 'linear'"),
            ("solve f.npy --centering node", "allowed: 'vertex', 'cell'"),
            ("solve f.npy --compatibility projekt", "did you mean 'project'"),
            ("solve f.npy --accelerate gc", "unknown accelerate 'gc'"),
            ("solve f.npy --accelerate cg --cycle F", "the F-cycle is not symmetric"),
            ("solve f.npy --boundary dirchlet", "did you mean 'dirichlet'"),
            ("solve f.npy --boundary neumann,neumann,neumann", "names 3 axes, f has 2"),
            ("solve f.npy --boundary a:b:c", "names 3 sides"),
            ("solve f.npy --boundary dirichlet:periodic", "periodic on one side alone"),
            ("solve f.npy --boundary periodic=1", "a periodic axis has no value"),
            ("solve f.npy --boundary neumann=x", "'x' is not a number"),
            ("solve f.npy --boundary dirichlet=nan", "must be a finite number"),
            ("solve f.npy --boundary neumann=1", "compatibility='project' takes the mean out"),
            ("solve f.npy --lengths 1,2,3", "got 3 for 2 axes"),
            ("solve f.npy --lengths a", "argument --lengths: 'a' is not a number"),
            ("solve f.npy --lengths 0", "lengths must be finite and > 0"),
            ("solve f.npy --lengths 1 --spacing 1", "not both"),
            ("solve f.npy --reaction=nan", "reaction must be a finite number, got nan"),
            ("solve f.npy --rtol=-1", "rtol must be a finite number >= 0"),
            ("solve f.npy --rtol tiny", "argument --rtol: must be a number or 'discretization', got 'tiny'"),
            ("solve f.npy --rtol discretization --start zero", "start is 'zero'"),
            ("solve f.npy --maxiter 0", "maxiter must be an integer >= 1"),
            ("solve f.npy --pre 0 --post 0", "give at least one sweep"),
            ("solve f.npy --omega 0", "omega must be a finite number > 0"),
            ("solve f.npy --smoother chebyshev --omega 1", "smoother 'chebyshev' has no omega"),
            ("solve f.npy --threads 0", "threads must be an integer >= 1"),
            ("solve f.npy -o u.txt", "unknown file ending '.txt'; allowed: '.npy', '.npz', '.csv'"),
            ("solve f.npy -o nowhere/u.npy", "there is no directory nowhere"),
            ("solve f.npy -o f.npy", "is the input"),
            ("solve f.npy --plot u.gif", "allowed: '.png', '.pdf', '.svg'"),
            ("solve f.npy --plot u.png --plot-history u.png", "named for two outputs"),
            ("solve f.npy --lengths -3,5", "lengths must be finite and > 0, got -3.0"),
            ("solve f.npy --reaction -1e9", "reaction = -k^2, down to -1e+09, makes waves of k h"),
            ("solve f.npy --lengths 1e-200", "choose other units"),
            ("compare f.npy --shape 3,3", "not both"),
            ("compare --shape 3,x", "is not a shape"),
            ("compare --shape 0", "integers >= 1"),
            ("compare --shape 3,3,3,3", "1, 2 or 3 axes"),
            ("compare --array x", "no file is given"),
            ("compare --shape 9 --smoothers red-blak", "did you mean 'red-black'"),
            ("compare --shape 9 --smoothers jacobi=x", "omega must be a number, got 'x'"),
            ("compare --shape 9 --cycles V,X", "unknown cycle 'X'"),
            ("compare --shape 9 --maxiter 0", "maxiter must be an integer >= 1"),
            ("compare --plot h.gif", "unknown file ending '.gif'"),
        ],
    )
    def test_the_users_errors_are_one_line_and_exit_code_2(self, command, text, expected):
        before = sorted(os.listdir())
        printed = command(text)
        assert printed.code == 2
        assert printed.err.startswith("unigrid: error: ")
        assert expected in printed.err
        assert len(printed.err.splitlines()) == 1
        assert printed.out == ""
        assert sorted(os.listdir()) == before

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_value_that_is_not_finite_is_named(self, command, value):
        f = np.load("f.npy")
        f[2, 3] = value
        np.save("f.npy", f)
        printed = command("solve f.npy")
        assert printed.code == 2
        assert f"f.npy: f must be finite, but f[2, 3] is {value}" in printed.err

    @pytest.mark.parametrize("array", [np.ones((2, 3), complex), np.array(["a", "b"]), np.ones((2, 2, 2, 2))])
    def test_arrays_of_the_wrong_kind(self, command, array):
        np.save("f.npy", array)
        printed = command("solve f.npy")
        assert printed.code == 2
        assert printed.err.startswith("unigrid: error: f.npy: f must ")

    def test_three_axes_do_not_fit_into_a_text_file(self, command):
        np.save("f.npy", np.ones((3, 3, 3)))
        printed = command("solve f.npy -o u.csv")
        assert printed.code == 2
        assert ".csv holds at most 2 axes" in printed.err

    def test_outputs_are_refused_before_the_solve(self, command, monkeypatch):
        monkeypatch.setattr(StencilCycle, "solve", lambda *_, **__: pytest.fail("solved"))
        for output in ("-o u.txt", "--plot u.txt", "--plot-history nowhere/u.png"):
            assert command(f"solve f.npy {output}").code == 2

    def test_a_fault_of_ours_is_not_dressed_up_as_the_users(self, folder, monkeypatch):
        def broken(*arguments):
            raise ValueError("a fault")

        monkeypatch.setattr("unigrid.cli.solve.report", broken)
        with pytest.raises(ValueError, match="a fault"):
            main(["solve", "f.npy"])

    @pytest.mark.system
    def test_a_wrong_environment_variable(self, folder):
        done = process("-m", "unigrid", "solve", "f.npy", UNIGRID_NUM_THREADS="many")
        assert done.returncode == 2
        assert done.stderr.startswith("unigrid: error: UNIGRID_NUM_THREADS must be an integer >= 1")
        assert len(done.stderr.splitlines()) == 1


class TestInterrupts:
    def test_ctrl_c_in_the_solve(self, command, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(StencilCycle, "solve", interrupted)
        printed = command("solve f.npy -o u.npy")
        assert (printed.code, printed.out, printed.err) == (130, "", "unigrid: interrupted\n")
        assert os.listdir() == ["f.npy"]

    def test_ctrl_c_while_writing_leaves_the_old_file(self, command, monkeypatch):
        def half(file, array):
            file.write(b"half")
            raise KeyboardInterrupt

        command("solve f.npy -o u.npy")
        before = np.load("u.npy")
        monkeypatch.setattr(np, "save", half)
        assert command("solve f.npy -o u.npy --force --boundary neumann --compatibility project").code == 130
        assert np.array_equal(np.load("u.npy"), before)
        assert sorted(os.listdir()) == ["f.npy", "u.npy"]

    @pytest.mark.system
    @pytest.mark.skipif(os.name != "posix", reason="signals")
    def test_a_real_ctrl_c(self, folder):
        np.save("f.npy", np.random.default_rng(0).standard_normal((300, 300)))
        # A parent may have told its children to ignore SIGINT; a terminal's child does not.
        program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from unigrid.cli import main;"
        text = "solve f.npy -o u.npy --smoother jacobi --omega 0.01 --maxiter 100000 --monitor --start zero"
        arguments = [sys.executable, "-c", f"{program} raise SystemExit(main({text.split()!r}))"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()}
        with subprocess.Popen(arguments, text=True, **pipes) as running:
            while not running.stdout.readline().lstrip().startswith("3 "):
                assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=60)
        assert errors.splitlines()[-1] == "unigrid: interrupted"
        assert "Traceback" not in errors
        assert running.returncode == 130
        assert os.listdir() == ["f.npy"]

    @pytest.mark.system
    def test_a_reader_who_leaves(self, folder):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()}
        with subprocess.Popen([sys.executable, "-m", "unigrid", "info"], **pipes) as running:
            running.stdout.close()
            assert running.stderr.read() == b""
        assert running.returncode == 1


class TestCompare:
    def test_the_table(self, command):
        printed = command("compare --shape 31,31 --smoothers tuned,jacobi=0.7 --cycles V,W")
        assert printed.code == 0
        rows = [line.split() for line in printed.out.splitlines()[4:8]]
        sweeps = {"tuned": "3,2", "jacobi=0.7": "2,2"}
        assert [row[:2] for row in rows] == [[s, f"{kind}({count})"] for s, count in sweeps.items() for kind in "VW"]
        cycle = StencilCycle(unigrid.Poisson((31, 31)), smoother=unigrid.Jacobi(0.7), cycle="W")
        solution = cycle.solve(np.random.default_rng(0).standard_normal((31, 31)), start="zero")
        assert int(rows[3][2]) == solution.iterations
        assert float(rows[3][3]) == pytest.approx(solution.rate, abs=5e-4)
        assert float(rows[3][4]) == pytest.approx(cycle.work_units, abs=5e-3)
        assert float(rows[3][6]) == pytest.approx(cycle.work_units / -np.log10(solution.rate), abs=5e-3)

    def test_the_history_is_printed_and_drawn(self, command, folder):
        printed = command("compare --shape 31,31 --smoothers red-black --cycles V")
        lines = printed.out.splitlines()
        row = lines[lines.index("relative residual after each iteration") + 1].split()
        values = [float(value) for value in row[2:]]
        assert row[:2] == ["red-black", "V"]
        assert 1 > values[0] > values[-1]
        assert values[-1] <= 1e-8
        assert (folder / "unigrid-compare.png").stat().st_size > 10_000

    def test_json_and_picture(self, command):
        printed = command("compare f.npy --boundary neumann --compatibility project --cycles V --plot h.png --json --rtol 1e-6")
        facts = loads(printed.out)
        assert [run["smoother"] for run in facts["runs"]] == ["tuned", "red-black", "jacobi", "gauss-seidel", "chebyshev"]
        assert all(run["converged"] and run["seconds"] > 0 for run in facts["runs"])
        assert facts["problem"]["shape"] == [12, 17]
        assert facts["written"] == ["h.png"]
        assert sorted(os.listdir()) == ["f.npy", "h.png"]

    def test_a_smoother_that_diverges_is_a_result(self, command):
        printed = command("compare --shape 31,31 --smoothers jacobi=3 --cycles V --json")
        assert printed.code == 0
        (run,) = loads(printed.out)["runs"]
        assert run["reason"] == "diverged"
        assert run["work_units_per_digit"] is None


class TestInfo:
    def test_text(self, command):
        printed = command("info")
        assert printed.code == 0
        for text in (unigrid.__version__, "numpy", "threading layer", "kernel cache", "devices", "UNIGRID_NUM_THREADS"):
            assert text in printed.out

    def test_json(self, command):
        facts = loads(command("info --json").out)
        assert facts["unigrid"] == unigrid.__version__
        assert facts["numpy"] == np.__version__
        assert str(unigrid.get_num_threads()) in facts["threads"]

    def test_without_installed_metadata(self, command, monkeypatch):
        from importlib import metadata

        def missing(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "version", missing)
        facts = loads(command("info --json").out)
        assert facts["unigrid"] == unigrid.__version__
        assert facts["numpy"] == np.__version__

    @pytest.mark.system
    def test_torch_is_imported_on_request_alone(self):
        program = "import sys; from unigrid.cli import main; main(['info']); assert 'torch' not in sys.modules"
        assert process("-c", program).returncode == 0

    def test_devices_with_a_torch(self, command, monkeypatch):
        def properties(number):
            return SimpleNamespace(name=f"model {number}", total_memory=80 << 30, major=9, minor=number)

        cuda = SimpleNamespace(device_count=lambda: 2, get_device_properties=properties)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, __version__="2"))
        facts = loads(command("info --devices --json").out)
        assert facts["devices"] == "CPU, cuda:0 model 0, 80 GiB, sm_90, cuda:1 model 1, 80 GiB, sm_91"
        assert re.match(r"triton \d|not installed: pip install 'unigrid\[gpu\]'", facts["GPU kernels"])

    def test_devices_without_torch(self, command, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.setattr("unigrid.cli.info.versions", lambda packages=None: {"torch": None, "triton": None})
        assert "pip install 'unigrid[learn]'" in loads(command("info --devices --json").out)["devices"]


class TestHelp:
    def test_no_command_shows_where_to_begin(self, command):
        printed = command("")
        assert printed.code == 2
        assert not printed.out
        assert "unigrid demo" in printed.err
        assert "unigrid --help" in printed.err
        pages = re.findall(r"(?:tutorials|how-to)/[\w-]+", printed.err)
        assert len(pages) == 2
        assert all((Path(__file__).parents[1] / "docs" / f"{page}.md").exists() for page in pages)

    def test_a_failure_names_the_page_about_failures(self, command, tmp_path):
        np.save(tmp_path / "f.npy", np.ones((31, 31)))
        printed = command(f"solve {tmp_path / 'f.npy'} --maxiter 1 --rtol 1e-12")
        assert printed.code == 1
        assert "maxiter" in printed.err
        assert "how-to/failures" in printed.err

    @pytest.mark.parametrize("text", ["--help", *(f"{name} --help" for name in cli.COMMANDS)])
    def test_help(self, command, text):
        printed = command(text)
        assert printed.code == 0
        assert "examples:" in printed.out

    def test_version(self, command):
        assert command("--version").out == f"unigrid {unigrid.__version__}\n"

    def test_help_lists_every_name_of_the_library(self, command):
        """The parser does not import the solver, so its texts repeat the names; here is what keeps them true."""
        text = "".join(command("solve --help").out.split())  # argparse breaks lines at hyphens, too
        for name in [*SMOOTHERS, *transfers.RESTRICTIONS, *transfers.PROLONGATIONS, *NAMES, *CENTERINGS]:
            assert name in text


class TestBoundaries:
    @pytest.mark.parametrize(
        ("text", "ndim", "expected"),
        [
            ("neumann", 2, [("Neumann", 0, "Neumann", 0)] * 2),
            ("Dirichlet", 1, [("Dirichlet", 0, "Dirichlet", 0)]),
            ("dirichlet:neumann,periodic", 2, [("Dirichlet", 0, "Neumann", 0), ("Periodic", 0, "Periodic", 0)]),
            ("dirichlet=1.5 : neumann = -2", 3, [("Dirichlet", 1.5, "Neumann", -2)] * 3),
            ("periodic:periodic", 1, [("Periodic", 0, "Periodic", 0)]),
        ],
    )
    def test_what_they_mean(self, text, ndim, expected):
        pairs = options.boundary_of(text, ndim)
        found = [(type(low).__name__, low.value, type(high).__name__, high.value) for low, high in pairs]
        assert found == expected


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestProgress:
    def test_a_bar_on_a_terminal(self, folder, monkeypatch, capsys):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["solve", "f.npy"]) == 0
        assert "solving:   0%" in terminal.getvalue()
        assert "solving: 100%" in terminal.getvalue()
        assert "solving" not in capsys.readouterr().out

    def test_none_in_a_log_nor_beside_the_monitor(self, folder, monkeypatch, command):
        assert command("solve f.npy").err == ""
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        main(["solve", "f.npy", "--monitor"])
        assert terminal.getvalue() == ""

    def test_it_measures_digits(self, monkeypatch):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with monitor.progress_bar(lambda initial: 1e-8 * initial) as watch:
            for residuals in ((2.0, 2e-2), (2.0, 2e-2, 1.0), (2.0, 2e-2, 1.0, 2e-4)):
                watch(unigrid.Solution(None, False, unigrid.Reason.MAXITER, len(residuals) - 1, residuals))
        shown = terminal.getvalue()
        assert "25%" in shown
        assert "50%" in shown
        assert "iteration 3, residual 1.0e-04" in shown


@pytest.mark.system
class TestFreshInterpreter:
    def test_a_numpy_solve_imports_neither_torch_nor_matplotlib(self):
        program = (
            "import sys, numpy, unigrid; unigrid.solve(numpy.ones((9, 9)));"
            "print([name for name in ('torch', 'matplotlib', 'tqdm', 'PIL') if name in sys.modules])"
        )
        assert process("-c", program).stdout == "[]\n"

    def test_nor_does_the_command(self, folder):
        program = (
            "import sys; from unigrid.cli import main; main(['solve', 'f.npy', '-o', 'u.npy']);"
            "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
        )
        assert process("-c", program).stdout.endswith("\n[]\n")

    def test_help_imports_no_solver(self):
        program = "import sys; from unigrid.cli import main; main(['solve', '--help']); assert 'numba' not in sys.modules"
        assert process("-c", program).returncode == 0

    def test_compilation_is_announced_when_it_happens(self, folder):
        cache = str(folder / "cache")
        first, second = (process("-m", "unigrid", "solve", "f.npy", "--json", NUMBA_CACHE_DIR=cache) for _ in range(2))
        assert first.stderr == monitor.COMPILING + "\n"
        assert loads(first.stdout)["seconds"]["compile"] > 0
        assert second.stderr == ""
        assert loads(second.stdout)["seconds"]["compile"] == 0

    def test_info_names_a_place_without_a_cache(self):
        nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": os.devnull}
        assert "none: no folder can be written to" in process("-m", "unigrid", "info", **nowhere).stdout
