"""Common properties of all pictures: how they are written, and that they touch no global state."""

import doctest
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import unigrid
from unigrid import Poisson, StencilCycle, plots
from unigrid.files import FileError


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_save(tmp_path, ending, magic):
    path = tmp_path / f"figure.{ending}"
    plots.save(plots.plot_solution(np.arange(5.0)), path)
    assert path.read_bytes().startswith(magic)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_save_refuses_other_endings(tmp_path):
    with pytest.raises(FileError, match=r"unknown file ending '\.gif'; allowed: '\.png', '\.pdf', '\.svg'"):
        plots.save(Figure(), tmp_path / "figure.gif")


@pytest.mark.system
def test_no_display_no_global_state_and_no_torch_are_touched():
    program = (
        f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(unigrid.__file__))!r}); import numpy as np;"
        "from unigrid import plots; plots.plot_solution(np.ones((4, 4))); plots.plot_confusion([[1]]);"
        "plots.plot_training([{'epoch': 1, 'train_loss': 1.0}]); assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.slow
def test_a_real_run_end_to_end(tmp_path):
    f = np.random.default_rng(0).standard_normal((30, 50))
    problem = Poisson(f.shape)
    cycle = StencilCycle(problem)
    solution = cycle.solve(f)
    for figure in (plots.plot_solution(solution.u, problem), plots.plot_history({"V": solution}), plots.plot_hierarchy(cycle)):
        assert isinstance(figure, Figure)
        plots.save(figure, tmp_path / "figure.png")
    assert isinstance(unigrid.plots, type(plots))


@pytest.mark.parametrize("name", ["plot_training", "plot_confusion", "most_confused", "plot_levels", "plot_kernels"])
def test_the_examples_run(name):
    if name in ("plot_levels", "plot_kernels"):
        pytest.importorskip("torch")
    function = getattr(plots, name)
    home = importlib.import_module(function.__module__)
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(function, name, globs=vars(home)) if test.examples]
    assert tests
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0
