"""`unigrid solve`: what it takes from files, and how it states what the files leave open."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.io

import unigrid
from unigrid import Dirichlet, Neumann


@pytest.fixture(autouse=True)
def f(place):
    """A working directory with f.npy, of 12 x 17 unknowns: its values."""
    f = np.random.default_rng(1).standard_normal((12, 17))
    np.save("f.npy", f)
    return f


def solved(command, text):
    assert command(f"solve {text} -o u.npy --force").code == 0
    return np.load("u.npy")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".csv.gz", ".mat"])
def test_boundary_values_from_files(command, f, ending):
    low, high = np.linspace(0, 1, 17), np.linspace(-1, 2, 12)
    for name, values in (("low", low), ("high", high)):
        if ending == ".mat":
            scipy.io.savemat(f"{name}.mat", {"values": values})
        elif ending == ".csv.gz":
            np.savetxt(f"{name}.csv.gz", values)
        else:
            unigrid.files.write_array(f"{name}{ending}", values)
    u = solved(command, f"f.npy --boundary dirichlet=low{ending}:neumann=0.5,neumann:dirichlet=high{ending}")
    expected = unigrid.solve(f, boundary=[(Dirichlet(low), Neumann(0.5)), ("neumann", Dirichlet(high))]).u
    assert np.array_equal(u, expected)


def test_files_of_several_arrays(command, f):
    low, start = np.linspace(0, 1, 17), np.ones_like(f)
    np.savez("all.npz", f=f, low=low, start=start)
    u = solved(command, "all.npz --array f --u0 all.npz#start --boundary dirichlet=all.npz#low:dirichlet,periodic")
    assert np.array_equal(u, unigrid.solve(f, u0=start, boundary=[(Dirichlet(low), "dirichlet"), "periodic"]).u)
    assert "as FILE#NAME for --u0" in command("solve f.npy --u0 all.npz").err
    assert "did you mean 'start'" in command("solve f.npy --u0 all.npz#strat").err


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ("dirichlet=missing.npy", "missing.npy: no such file"),
        ("neumann=f.npy", "must be a number or an array of shape"),
        ("dirichlet=1.5x", "'1.5x' is not a number, nor a file"),
        ("periodic=f.npy", "a periodic axis has no value"),
    ],
)
def test_boundary_values_that_are_none(command, entry, part):
    printed = command(f"solve f.npy --boundary {entry}")
    assert (printed.code, len(printed.err.splitlines())) == (2, 1)
    assert part in printed.err


def test_a_first_iterate(command, f):
    np.save("start.npy", unigrid.solve(f, rtol=1e-3).u)
    u = solved(command, "f.npy --u0 start.npy --rtol 1e-10")
    assert np.array_equal(u, unigrid.solve(f, u0=np.load("start.npy"), rtol=1e-10).u)
    np.save("start.npy", np.ones((3, 4)))
    assert "u0 must have the shape of f" in command("solve f.npy --u0 start.npy").err
    assert "u0 has no place in it" in command("solve f.npy --u0 f.npy --rtol discretization").err


def test_several_sources_in_one_file(command, f):
    np.save("s.npy", np.stack([f, 2 * f, -f]))
    u = solved(command, "s.npy --stack")
    assert u.shape == (3, 12, 17)
    assert np.allclose(u[1], unigrid.solve(2 * f).u, rtol=1e-7)
    assert "3 of 3 right-hand sides converged" in command("solve s.npy --stack").out
    assert "--plot shows one solution" in command("solve s.npy --stack --plot u.png").err
    np.save("s.npy", np.ones((2, 3, 4, 5)))
    assert "--stack, if axis 0 counts several" in command("solve s.npy").err
    np.save("s.npy", np.ones(5))
    assert "got shape (5,) with --stack" in command("solve s.npy --stack").err


def test_image_data_at_the_points_of_the_problem(command, f):
    assert command("solve f.npy -o u.vti --lengths 3,5 --centering cell").code == 0
    head = Path("u.vti").read_bytes()[:400].decode("latin-1")
    assert 'Origin="0.125 0.14705882352941177 0.0" Spacing="0.25 0.29411764705882354 1.0"' in head


def test_compressed(command, f):
    with gzip.open("f.npy.gz", "wb") as file:
        np.save(file, f)
    assert np.array_equal(solved(command, "f.npy.gz"), unigrid.solve(f).u)


def long_table(f, h):
    return "x,y,f\n" + "".join(f"{i * h[0]:.17g},{j * h[1]:.17g},{value:.17g}\n" for (i, j), value in np.ndenumerate(f))


def test_a_long_table_brings_its_spacing(command, f):
    Path("long.csv").write_text(long_table(f, (0.25, 0.5)))
    refused = command("solve long.csv")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "give --columns x,y,f" in refused.err
    expected = unigrid.solve(f, spacing=(0.25, 0.5)).u
    assert np.allclose(solved(command, "long.csv --columns x,y,f"), expected, rtol=1e-6, atol=1e-9)
    assert np.allclose(solved(command, "long.csv --columns x,y,f --spacing 0.25,0.5"), expected, rtol=1e-6, atol=1e-9)
    assert "along axis 1 the points in long.csv are 0.5 apart" in command("solve long.csv --columns x,y,f --spacing 0.25").err
    assert "leave the option out" in command("solve long.csv --columns x,y,f --lengths 1").err


def test_netcdf_brings_its_spacing_unless_it_is_time(command, f):
    with scipy.io.netcdf_file("f.nc", "w") as file:
        for name, size in (("time", 2), ("x", 12), ("y", 17)):
            file.createDimension(name, size)
            file.createVariable(name, "d", (name,))[:] = 0.5 * np.arange(size)
        file.createVariable("f", "d", ("time", "x", "y"))[:] = [f, f]
    assert "f.nc has no spacing for axis 0; give --spacing or --lengths" in command("solve f.nc").err
    assert np.allclose(solved(command, "f.nc --stack")[1], unigrid.solve(f, spacing=0.5).u, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("--header perhaps", "must be yes or no"),
        ("--delimiter ab", "must be a character, or one of comma"),
        ("--decimal x", "must be '.' or ','"),
        ("", "give --header yes or no"),
    ],
)
def test_options_of_tables(command, options, part):
    Path("t.csv").write_text("0,1,2\n1.5,2.5,3.5\n7.5,3.5,1.5\n")
    printed = command(f"solve t.csv {options}")
    assert (printed.code, len(printed.err.splitlines())) == (2, 1)
    assert part in printed.err


def test_options_of_tables_reach_the_reader(command):
    Path("t.csv").write_text("0;1;2;\n1,5;2,5;3,5;\n7,5;3,5;1,5;\n")
    u = solved(command, "t.csv --header yes --delimiter semicolon --decimal , --index no")
    assert np.array_equal(u, unigrid.solve(np.array([[1.5, 2.5, 3.5], [7.5, 3.5, 1.5]])).u)


def test_a_trained_solver(command, f, tmp_path):
    pytest.importorskip("torch")
    problem = unigrid.training.anisotropic(1.0, 15)
    result = unigrid.train_solver(problem, epochs=1, out=tmp_path / "run", progress=False)
    u = solved(command, "f.npy --cycle run --rtol 1e-9")
    assert np.allclose(u, unigrid.solve(f, cycle=result.model, rtol=1e-9).u)
    assert "has slots of its own; leave out --smoother" in command("solve f.npy --cycle run --smoother jacobi").err
    assert command("solve f.npy --cycle nowhere/run").err.startswith("unigrid: error: nowhere/run")
