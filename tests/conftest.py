"""What several test files need: a seeded generator, threads, and the discrete equations written down a second time."""

import itertools
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; to be set before NumPy and torch are imported
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
import scipy.sparse
from tiers import DRAW, SLOW, SYSTEM, generator

import unigrid
from unigrid.stencil import hierarchy, kernels
from unigrid.stencil.kernels.cpu import threads as threading_module

# Examples are the same in every run, unless they are drawn anew, and then there are more of them.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None, max_examples=100)
hypothesis.settings.register_profile("drawn", deadline=None, database=None, print_blob=True, max_examples=1000)
hypothesis.settings.load_profile("drawn" if DRAW else "fixed")


def pytest_report_header():
    """Name the draw, by which a run can be repeated."""
    return f"UNIGRID_TEST_DRAW={DRAW}"


def pytest_collection_modifyitems(items):
    """Mark what is not in the fast tier by name."""
    for item in items:
        for names, mark in ((SLOW, "slow"), (SYSTEM, "system")):
            if item.nodeid.startswith(names):
                item.add_marker(mark)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes():
    """Compile the kernels before the workers start, as each would otherwise compile them all for itself."""
    sources = Path(kernels.__file__).parent
    compiled = [path.stat().st_mtime for path in sources.rglob("__pycache__/*.nbc")]
    if max(compiled, default=0.0) < max(path.stat().st_mtime for path in sources.rglob("*.py")):
        from golden.cases import CASES, run

        for case in CASES:
            run(case)


@pytest.fixture
def rng(request):
    """A generator of random numbers that depends on the test's own name, and on the draw."""
    return generator(request.node.nodeid)


@pytest.fixture
def deep(monkeypatch):
    """As many levels as fit, also on the small grids of tests; by default coarsening ends at a few hundred unknowns."""
    monkeypatch.setattr(hierarchy, "COARSEST_UNKNOWNS", hierarchy.FEWEST_UNKNOWNS)


@pytest.fixture
def use_threads(monkeypatch):
    """use_threads(3): three threads on every grid, however small; restored afterwards."""
    before = unigrid.get_num_threads()

    def use(count):
        monkeypatch.setattr(threading_module, "PARALLEL_FROM", 1)
        unigrid.set_num_threads(count)

    yield use
    unigrid.set_num_threads(before)


@pytest.fixture
def make_condition():
    """make_condition("neumann", 2.0) -> unigrid.Neumann(2.0)."""
    classes = {"dirichlet": unigrid.Dirichlet, "neumann": unigrid.Neumann}
    return lambda kind, value=0.0: unigrid.Periodic() if kind == "periodic" else classes[kind](value)


@pytest.fixture
def written_out():
    """written_out(shape, lengths, kinds, values, centering, reaction) -> A, g with A u = f + g, from the equations, by points.

    `kinds` has a (low, high) pair of names an axis, `values` a pair of numbers or arrays. Every case that the contract of
    `Poisson` names stands here in words of its own; nothing of unigrid is used.
    """
    return _written_out


def _spacing(n, length, kinds, centering):
    if centering == "cell" or kinds == ("periodic", "periodic"):
        return length / n
    return length / {0: n + 1, 1: n, 2: n - 1}[kinds.count("neumann")]


def _written_out(shape, lengths, kinds, values, centering, reaction):
    number = {point: i for i, point in enumerate(itertools.product(*map(range, shape)))}
    matrix, g = scipy.sparse.lil_array((len(number), len(number))), np.zeros(shape)
    for point, row in number.items():
        matrix[row, row] += reaction
        for axis, n in enumerate(shape):
            h = _spacing(n, lengths[axis], tuple(kinds[axis]), centering)
            for end, step in ((0, -1), (1, 1)):
                matrix[row, row] += 1 / h**2
                place = point[axis] + step
                kind, value = kinds[axis][end], values[axis][end]
                if np.ndim(value):
                    value = value[point[:axis] + point[axis + 1 :]]
                if kind == "periodic":
                    place %= n
                elif not 0 <= place < n:  # the neighbor is missing; what the condition says of it
                    if kind == "dirichlet" and centering == "vertex":  # it is the boundary node: u = value
                        g[point] += value / h**2
                        continue
                    if kind == "dirichlet":  # the side lies halfway: (ghost + u) / 2 = value
                        matrix[row, row] += 1 / h**2
                        g[point] += 2 * value / h**2
                        continue
                    if centering == "cell":  # (ghost - u) / h = flux
                        matrix[row, row] -= 1 / h**2
                        g[point] += value / h
                        continue
                    g[point] += 2 * value / h  # (ghost - u_mirrored) / 2h = flux
                    place = point[axis] - step
                    if not 0 <= place < n:  # the mirrored node is the Dirichlet node of the other end
                        other = values[axis][1 - end]
                        g[point] += (other[point[:axis] + point[axis + 1 :]] if np.ndim(other) else other) / h**2
                        continue
                matrix[row, number[(*point[:axis], place, *point[axis + 1 :])]] -= 1 / h**2
    return matrix.tocsr(), g
