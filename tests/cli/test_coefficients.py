"""`unigrid solve` with coefficients from files and domains of any shape: what the command writes is what Python computes."""

import json

import numpy as np
import pytest
from PIL import Image

import unigrid
from unigrid.cli import main

SHAPE = (48, 60)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    f, k, c = rng.standard_normal(SHAPE), np.exp(rng.standard_normal(SHAPE)), rng.random(SHAPE)
    x, y = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    mask, outside = x**2 + y**2 < 0.8, rng.standard_normal(SHAPE)
    for name, array in {"f": f, "k": k, "c": c, "mask": mask, "outside": outside}.items():
        np.save(f"{name}.npy", array)
    Image.fromarray((255 * mask).astype(np.uint8)).save("mask.png")
    return f, k, c, mask, outside


CASES = {
    "coefficient": (["--coefficient", "k.npy"], lambda k, c, mask, outside: {"coefficient": k}),
    "per axis": (["--coefficient", "2,0.5"], lambda k, c, mask, outside: {"coefficient": (2.0, 0.5)}),
    "reaction": (["--reaction", "c.npy"], lambda k, c, mask, outside: {"reaction": c}),
    "number": (["--reaction", "2.5"], lambda k, c, mask, outside: {"reaction": 2.5}),
    "mask": (["--mask", "mask.npy", "--outside", "1.5"], lambda k, c, mask, outside: {"mask": mask, "outside": 1.5}),
    "picture": (
        ["--mask", "mask.png", "--outside", "outside.npy", "--coefficient", "k.npy", "--smoother", "lines"],
        lambda k, c, mask, outside: {"mask": mask, "outside": outside, "coefficient": k, "smoother": "lines"},
    ),
}


@pytest.mark.parametrize(("options", "arguments"), CASES.values(), ids=CASES)
def test_it_writes_what_python_computes(files, capsys, options, arguments):
    f, *others = files
    assert main(["solve", "f.npy", *options, "-o", "u.npy", "--plot", "u.png", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    solution = unigrid.solve(f, **arguments(*others))
    assert np.array_equal(np.load("u.npy"), solution.u)
    assert facts["iterations"] == solution.iterations
    assert facts["levels"][0]["shape"] == list(SHAPE)
    assert facts["cycle"]["work_units"] > 1


def test_the_report_names_the_method(files, capsys):
    assert main(["solve", "f.npy", "--coefficient", "k.npy"]) == 0
    assert "V(2,2), black box multigrid, smoothing by" in capsys.readouterr().out


BAD = {
    "slot": (["--coefficient", "k.npy", "--pre", "3"], "leave out --pre"),
    "smoother": (["--coefficient", "k.npy", "--smoother", "jacobi"], "unknown smoother 'jacobi'; allowed: 'auto'"),
    "mask": (["--mask", "k.npy"], "--mask k.npy: must hold 0 and 1"),
    "outside": (["--outside", "2"], "give mask too"),
    "text": (["--coefficient", "thick"], "'thick' is not a number, nor a file"),
    "missing": (["--reaction", "no.npy"], "no.npy"),
    "negative": (["--reaction", "outside.npy"], "reaction must be >= 0 everywhere"),
    "hierarchy": (["--coefficient", "k.npy", "--plot-hierarchy", "h.png"], "leave it out"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_options_are_one_line(files, capsys, options, message):
    assert main(["solve", "f.npy", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compare_takes_them_too(files, capsys):
    """Rows are the smoothers that there are for such a problem; the iterations are those of Python."""
    f, k, _, mask, _ = files
    assert main(["compare", "f.npy", "--coefficient", "k.npy", "--mask", "mask.npy", "--cycles", "V,W", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["smoother"], run["cycle"]) for run in runs] == [
        (s, kind) for s in ("auto", "points", "lines") for kind in "VW"
    ]
    problem = unigrid.Poisson(SHAPE, coefficient=k, mask=mask)
    for run in runs:
        cycle = unigrid.GalerkinCycle(problem, cycle=run["cycle"], smoother=run["smoother"])
        assert run["iterations"] == cycle.solve(f).iterations
    assert main(["compare", "f.npy", "--coefficient", "1,1e-3", "--cycles", "V", "--smoothers", "tuned,jacobi", "--json"]) == 0
    assert [run["smoother"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["tuned", "jacobi"]


def test_arrays_at_the_faces_from_one_file_per_axis(files, capsys):
    rng = np.random.default_rng(1)
    faces = np.exp(rng.standard_normal((SHAPE[0] + 1, SHAPE[1]))), np.exp(rng.standard_normal((SHAPE[0], SHAPE[1] + 1)))
    for name, array in zip("xy", faces, strict=True):
        np.save(f"k{name}.npy", array)
    assert main(["solve", "f.npy", "--coefficient", "kx.npy,ky.npy", "-o", "u.npy"]) == 0
    assert np.array_equal(np.load("u.npy"), unigrid.solve(files[0], coefficient=faces).u)


BAD_COMPARISONS = {
    "smoother": (["--coefficient", "k.npy", "--smoothers", "jacobi"], "unknown smoother 'jacobi'; allowed: 'auto'"),
    "omega": (["--coefficient", "k.npy", "--smoothers", "points=1.2"], "unknown smoother 'points=1.2'"),
    "slot": (["--reaction", "c.npy", "--post", "1"], "coefficients that vary bring their own slots; leave out --post"),
    "constant": (["--coefficient", "2", "--smoothers", "lines"], "unknown smoother 'lines'"),
    "text": (["--coefficient", "thick"], "write for example --coefficient 1.5 or --coefficient left.npy"),
    "faces": (
        ["--coefficient", "k.npy,k.npy"],
        "coefficient[0], at the faces of axis 0, must have shape (49, 60), got (48, 60)",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD_COMPARISONS.values(), ids=BAD_COMPARISONS)
def test_bad_comparisons_are_one_line(files, capsys, options, message):
    assert main(["compare", "f.npy", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
