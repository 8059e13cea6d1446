"""`unigrid train poisson`, and what `evaluate` and `predict` make of its runs."""

import contextlib
import io
from types import SimpleNamespace

import pytest

from unigrid import training
from unigrid.cli import main

TINY = "--size 15 --set steps=2"


@pytest.fixture(scope="module")
def solver(tmp_path_factory):
    """A run through the command line that has ended, and what it printed."""
    place, out, err = tmp_path_factory.mktemp("solver"), io.StringIO(), io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(f"train poisson {TINY} --epochs 2 --plot smoothing.png".split())
    assert code == 0, err.getvalue()
    return SimpleNamespace(place=place, folder=place / "runs" / "poisson", out=out.getvalue(), err=err.getvalue())


def test_the_default_size_is_that_of_the_library(command):
    assert f"default {training.anisotropic(1.0).shape[0]}" in command("train --help").out


def test_a_run_reports_what_it_does_and_where_it_lies(solver):
    lines = solver.out.splitlines()
    assert lines[0] == "Problem: -1 u_xx - u_yy = f, 15 x 15 unknowns."
    assert lines[1].startswith("Files: runs")
    assert "Wrote smoothing.png" in lines
    assert "unigrid.solve(f, cycle=" in lines[-1]
    assert (solver.place / "smoothing.png").stat().st_size > 10_000
    assert solver.folder.is_dir()
    epochs = [line for line in solver.err.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in epochs] == ["epoch 1", "epoch 2"]
    assert all("measured factor 0." in line for line in epochs)


def test_json_is_one_object_with_everything(command, loads):
    printed = command(f"train poisson {TINY} --epochs 1 --eps 0.3 --seed 3 --json")
    facts = loads(printed.out)
    assert printed.code == 0
    assert facts["seed"] == 3
    assert facts["folder"].endswith("poisson-eps-0.3-seed-3")
    assert len(facts["history"]) == 1
    assert 0 < facts["factors"][0] < 1
    assert {"python", "unigrid", "torch"} <= set(facts["versions"])


def test_several_eps_are_one_net(command, loads):
    facts = loads(command("train poisson --size 15 --set steps=1 --epochs 1 --eps 0.1,0.3 --set degree=3 --json").out)
    assert len(facts["factors"]) == 2
    assert facts["model"]["degree"] == 3
    assert facts["folder"].endswith("poisson-eps-0.1-0.3")


def test_a_run_that_has_ended_is_resumed_by_doing_nothing(command, loads):
    first = loads(command(f"train poisson {TINY} --epochs 2 --out here --json").out)
    again = command(f"train poisson {TINY} --epochs 2 --out here --json --resume")
    assert again.code == 0, again.err
    assert loads(again.out)["history"] == first["history"]


def test_another_run_is_not_resumed(command):
    assert command(f"train poisson {TINY} --epochs 1 --out here").code == 0
    printed = command(f"train poisson {TINY} --epochs 2 --out here --resume")
    assert printed.code == 2
    assert "here: holds another run" in printed.err


def test_evaluate_measures_the_convergence_of_a_trained_solver(command, solver, loads):
    text = command(f"evaluate {solver.folder}").out
    assert "63" in text
    assert "255" in text
    facts = loads(command(f"evaluate {solver.folder} --json").out)
    factors = [row["factor"] for row in facts["rows"]] if "rows" in facts else list(facts["factors"].values())
    assert len(factors) == 3
    assert all(0 < factor < 1 for factor in factors)


def test_predict_refuses_a_solver(refused, solver):
    refused(f"predict {solver.folder} picture.png", "solves Poisson's equation")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train poison", "unknown dataset or path 'poison'"),
        ("train poison", "did you mean 'poisson'"),
        ("train poisson --set degre=1", "degree"),
        ("train poisson --protocol fast", "'fourier'"),
        ("train poisson --batch-size 4", "--batch-size is for images; poisson has none"),
        ("train poisson --model mgnet-4-Bl", "--model is for images; poisson has none"),
        ("train poisson --device cuda", "poisson is trained on the CPU"),
        ("train poisson --seed 0,1", "one seed"),
        ("train poisson --set epochs=3 --epochs 4", "given twice"),
        ("train poisson --size 0", "integers >= 1"),
        ("train poisson --eps -1", "eps"),
        ("train shapes --eps 3", "--eps describes a Poisson problem"),
        ("train shapes --size 3", "images of 3 x 3 pixels; 4 levels halve them and need at least 8 x 8"),
        ("train poisson --size 15,31", "a Poisson problem has as many unknowns along either axis"),
        ("train poisson --weights runs/one", "--weights is for images"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(refused, place, text, expected):
    refused(text, expected)
    assert not (place / "runs").exists()


def test_a_run_that_diverges_ends_with_one_and_says_why(command):
    printed = command(f"train poisson {TINY} --epochs 3 --protocol random --learning-rate 1e9")
    assert printed.code == 1
    assert printed.err.splitlines()[-1].startswith("unigrid: ")


def test_a_fault_of_ours_is_not_called_the_users(command, monkeypatch):
    def broken(*arguments, **named):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(training, "train_solver", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        command(f"train poisson {TINY} --epochs 1")
