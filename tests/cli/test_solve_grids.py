"""`unigrid solve` on stretched grids, and with Robin sides."""

import json

import numpy as np
import pytest

import unigrid


@pytest.fixture(autouse=True)
def f(place):
    """A working directory with f.npy, of 12 x 17 unknowns, and distances of cells along axis 0: the values of f."""
    f = np.random.default_rng(1).standard_normal((12, 17))
    np.save("f.npy", f)
    np.save("dx.npy", np.linspace(0.1, 0.4, 12))
    return f


def test_distances_from_files(command, f):
    np.savetxt("dy.csv", np.linspace(1, 2, 17))
    text = "f.npy --spacing dx.npy,dy.csv --boundary neumann:robin=2.5=50,dirichlet --centering cell"
    outcome = command(f"solve {text} -o u.npy --plot u.png --json")
    assert outcome.code == 0
    facts = json.loads(outcome.out)["problem"]
    assert facts["boundary"] == ["neumann:robin", "dirichlet:dirichlet"]
    assert np.allclose(facts["spacing"][0], np.linspace(0.1, 0.4, 12))
    spacing, boundary = [np.load("dx.npy"), np.linspace(1, 2, 17)], [("neumann", unigrid.Robin(2.5, 50)), "dirichlet"]
    wanted = unigrid.solve(f, spacing=spacing, boundary=boundary, centering="cell").u
    assert np.allclose(np.load("u.npy"), wanted, rtol=1e-12)
    assert "spacing 0.1 to 0.4 along axis 0" in command("solve f.npy --spacing dx.npy,0.3 --centering cell").out


def test_alpha_and_value_from_files(command, f):
    np.savez("side.npz", alpha=np.linspace(0, 1, 17), value=np.linspace(2, 1, 17))
    text = "f.npy --boundary robin=side.npz#alpha=side.npz#value:robin=3,dirichlet"
    assert command(f"solve {text} -o u.npy").code == 0
    boundary = [(unigrid.Robin(np.linspace(0, 1, 17), np.linspace(2, 1, 17)), unigrid.Robin(3.0)), "dirichlet"]
    assert np.allclose(np.load("u.npy"), unigrid.solve(f, boundary=boundary).u, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("--spacing dx.npy,1", "spacing[0] must hold 13 distances"),
        ("--spacing dx.npy --centering cell", "spacing must be a number or one entry per axis, got 1 for 2 axes"),
        ("--spacing missing.npy,1", "missing.npy: no such file"),
        ("--spacing dx.npy,wide", "'wide' is not a number, nor a file"),
        ("--spacing dx.npy,1 --centering cell -o u.vti", "a .vti has one distance along each axis"),
        ("--boundary robin", "write for example robin=1.5"),
        ("--boundary robin=warm", "'warm' is not a number, nor a file"),
        ("--boundary robin=-1=2", "alpha of the low side of axis 0 must be >= 0"),
        ("--boundary roben=1", "did you mean 'robin'"),
    ],
)
def test_wrong_input(command, text, part):
    outcome = command(f"solve f.npy {text}")
    assert outcome.code == 2
    assert part in outcome.err
    assert outcome.err.count("\n") == 1


def test_compare_takes_them(command):
    outcome = command("compare f.npy --spacing dx.npy,1 --boundary robin=1,dirichlet --centering cell --plot p.png --json")
    assert outcome.code == 0
