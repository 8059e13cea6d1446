"""`unigrid solve` with coefficients from files and domains of any shape: what the command writes is what Python computes."""

import json

import numpy as np
import pytest
from PIL import Image

import unigrid
from unigrid.cli import main

SHAPE = (48, 60)


def electrodes(mask):
    """Two points of other values inside of the mask, and NaN elsewhere."""
    values = np.full(SHAPE, np.nan)
    values[20, 20:24], values[30, 40] = 1.0, -2.0
    return values


def fixed(mask):
    return np.isfinite(electrodes(mask)), electrodes(mask)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    f, k, c = rng.standard_normal(SHAPE), np.exp(rng.standard_normal(SHAPE)), rng.random(SHAPE)
    x, y = np.ogrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    mask, outside = x**2 + y**2 < 0.8, rng.standard_normal(SHAPE)
    np.save("fixed.npy", electrodes(mask))
    np.savetxt("fixed.csv", electrodes(mask), delimiter=",")
    np.save("partly.npy", np.where(x**2 + y**2 < 0.9, outside, np.nan))
    np.save("far.npy", y > x)
    np.save("nothing.npy", np.full(SHAPE, np.nan))
    for name, array in {"f": f, "k": k, "c": c, "mask": mask, "outside": outside}.items():
        np.save(f"{name}.npy", array)
    Image.fromarray((255 * mask).astype(np.uint8)).save("mask.png")
    return f, k, c, mask, outside


CASES = {
    "coefficient": (["--coefficient", "k.npy"], lambda k, c, mask, outside: {"coefficient": k}),
    "per axis": (["--coefficient", "2,0.5"], lambda k, c, mask, outside: {"coefficient": (2.0, 0.5)}),
    "reaction": (["--reaction", "c.npy"], lambda k, c, mask, outside: {"reaction": c}),
    "number": (["--reaction", "2.5"], lambda k, c, mask, outside: {"reaction": 2.5}),
    "waves": (["--reaction", "-200"], lambda k, c, mask, outside: {"reaction": -200.0}),
    "order": (["--order", "4"], lambda k, c, mask, outside: {"order": 4}),
    "waves of order 4": (
        ["--order", "4", "--reaction", "-90", "--smoother", "jacobi", "--cycle", "W"],
        lambda k, c, mask, outside: {"order": 4, "reaction": -90.0, "smoother": "jacobi", "cycle": "W"},
    ),
    "mask": (["--mask", "mask.npy", "--outside", "1.5"], lambda k, c, mask, outside: {"mask": mask, "outside": 1.5}),
    "picture": (
        ["--mask", "mask.png", "--outside", "outside.npy", "--coefficient", "k.npy", "--smoother", "lines"],
        lambda k, c, mask, outside: {"mask": mask, "outside": outside, "coefficient": k, "smoother": "lines"},
    ),
    "natural": (
        ["--mask", "mask.npy", "--outside", "natural", "--compatibility", "project"],
        lambda k, c, mask, outside: {"mask": mask, "outside": "natural", "compatibility": "project"},
    ),
    "electrodes": (
        ["--mask", "mask.png", "--outside", "natural", "--fixed", "fixed.npy", "--boundary", "neumann"],
        lambda k, c, mask, outside: {"mask": mask, "outside": "natural", "fixed": fixed(mask), "boundary": "neumann"},
    ),
    "fixed": (["--fixed", "fixed.csv"], lambda k, c, mask, outside: {"fixed": fixed(mask)}),
}


@pytest.mark.parametrize(("options", "arguments"), CASES.values(), ids=CASES)
def test_it_writes_what_python_computes(files, capsys, options, arguments):
    f, *others = files
    assert main(["solve", "f.npy", *options, "-o", "u.npy", "--plot", "u.png", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    solution = unigrid.solve(f, **arguments(*others))
    assert np.array_equal(np.load("u.npy"), solution.u)
    assert facts["iterations"] == solution.iterations
    assert facts["levels"][0]["shape"][0] in range(43, 49)  # the window of the mask
    assert facts["cycle"]["work_units"] > 1


def test_the_range_is_that_of_numbers(files, capsys):
    assert main(["solve", "f.npy", "--mask", "mask.npy", "--outside", "partly.npy", "-o", "u.npy", "--json"]) == 0
    u = np.load("u.npy")
    assert np.isnan(u).any()
    assert json.loads(capsys.readouterr().out)["range"] == [np.nanmin(u), np.nanmax(u)]


def test_the_report_names_the_method(files, capsys):
    assert main(["solve", "f.npy", "--coefficient", "k.npy"]) == 0
    assert "V(2,2), black box multigrid, smoothing by" in capsys.readouterr().out


BAD = {
    "slot": (["--coefficient", "k.npy", "--pre", "3"], "leave out --pre"),
    "smoother": (["--coefficient", "k.npy", "--smoother", "jacobi"], "unknown smoother 'jacobi'; allowed: 'auto'"),
    "mask": (["--mask", "k.npy"], "--mask k.npy: must hold 0 and 1"),
    "outside": (["--outside", "2"], "give mask too"),
    "word": (["--mask", "mask.npy", "--outside", "neumann"], "'neumann' is not a number, nor a file"),
    "natural alone": (["--outside", "natural"], "outside is what u is where mask is False, got 'natural'; give mask too"),
    "nothing fixed": (["--fixed", "nothing.npy"], "--fixed nothing.npy: is NaN everywhere"),
    "all fixed": (["--fixed", "k.npy"], "fixed gives u wherever mask is True: there is no unknown"),
    "fixed outside": (["--fixed", "fixed.npy", "--mask", "far.npy"], "fixed gives u at [20, 20], where mask is False"),
    "component": (["--mask", "mask.npy", "--outside", "natural"], "which fails on 1 of 1: component 1 ("),
    "text": (["--coefficient", "thick"], "'thick' is not a number, nor a file"),
    "missing": (["--reaction", "no.npy"], "no.npy"),
    "coarse waves": (["--reaction", "-1e4"], "take 3.4 times as many points per axis, or a smaller k"),
    "order": (["--order", "3"], "order must be 2 or 4, got 3"),
    "order of c": (["--order", "4", "--reaction", "c.npy"], "order=4 is for a coefficient and a reaction that are numbers"),
    "grids of order 4": (["--order", "4", "--plot-hierarchy", "h.png"], "leave it out, or --order"),
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
        assert run["iterations"] == cycle.solve(f, start="zero").iterations
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
