"""Fourier analysis of zebra lines and of black box multigrid: formulas, error matrices of whole cycles, measured factors."""

import numpy as np
import pytest
from test_analysis import error_matrix, in_modes, measured_factor
from tiers import pack

import unigrid
from unigrid.analysis import FourierAnalysis
from unigrid.stencil import galerkin_levels as galerkin
from unigrid.stencil.relaxation import Lines, Points

Poisson, GalerkinCycle = unigrid.Poisson, unigrid.GalerkinCycle
ALONG = {0: Lines((-2,)), 1: Lines((-1,))}  # of two axes
BOTH = Lines((-2, -1))


def anisotropic(eps):
    """-u_xx - eps u_yy, the spacing 1."""
    return np.array([[0.0, -1.0, 0.0], [-eps, 2 + 2 * eps, -eps], [0.0, -1.0, 0.0]])


@pytest.mark.parametrize("eps", [1.0, 0.1, 0.01])
def test_smoothing_factors_of_zebra_lines(eps):
    """Along the strong axis max(1/8, (eps / (1 + eps))^2), whatever the ratio; along the weak one 1 / (1 + eps)^2."""
    strong, weak = (FourierAnalysis(anisotropic(eps), smoother=ALONG[axis], samples=64).smoothing_factor for axis in (0, 1))
    assert strong == pytest.approx(max(1 / 8, (eps / (1 + eps)) ** 2), abs=5e-4)
    assert weak == pytest.approx(1 / (1 + eps) ** 2, abs=5e-4)


def test_alternating_zebra_written_out():
    """The two zebra sweeps on the four modes of each set, every matrix by its entries."""
    theta = np.linspace(-np.pi, np.pi, 64, endpoint=False)
    x = theta[:, None, None] + np.pi * np.array([0, 0, 1, 1]) + 0 * theta[:, None]
    y = theta[:, None] + np.pi * np.array([0, 1, 0, 1]) + 0 * theta[:, None, None]
    along_x, along_y = 2 - 2 * np.cos(x), 2 - 2 * np.cos(y)
    S = np.eye(4)
    for swept, partner in ((along_x, [1, 0, 3, 2]), (along_y, [2, 3, 0, 1])):
        relaxed = (along_x + along_y) / (swept + 2)  # A / T
        for sign in (1, -1):
            half = (np.eye(4) + sign * np.eye(4)[partner]) / 2
            S = (np.eye(4) - half * relaxed[..., None, :]) @ S
    low = (np.abs(np.angle(np.exp(1j * x))) < np.pi / 2 - 1e-9) & (np.abs(np.angle(np.exp(1j * y))) < np.pi / 2 - 1e-9)
    expected = np.abs(np.linalg.eigvals(S * ~low[..., None])).max()
    assert FourierAnalysis(anisotropic(1.0), smoother=BOTH, samples=64).smoothing_factor == pytest.approx(expected, rel=2e-2)
    assert 0.04 < expected < 0.05


EXACT = [
    ((8, 8), (1.0, 1.0), 2, "V", "vertex"), ((16, 8), (1.0, 0.3), 3, "W", "vertex"), ((8, 8), (0.3, 1.0), 2, "V", "cell"),
    ((16, 8), (1.0, 0.1), 3, "F", "vertex"), ((8, 8), (0.01, 1.0), 2, "V", "cell"),
    ((8, 8, 4), (1.0, 0.5, 0.7), 2, "V", "vertex"), ((8, 4, 8), (1.0, 1.0, 0.1), 2, "V", "vertex"),
]  # fmt: skip


@pack
@pytest.mark.parametrize("smoother", ["points", "lines"])
@pytest.mark.parametrize(("shape", "a", "levels", "kind", "centering"), EXACT)
def test_the_blocks_are_the_error_matrix_of_black_box_multigrid(shape, a, levels, kind, centering, smoother, monkeypatch):
    monkeypatch.setattr(galerkin, "COARSEST_UNKNOWNS", 8)
    problem = Poisson(shape, boundary="periodic", centering=centering, coefficient=a, spacing=1.0)
    cycle = GalerkinCycle(problem, smoother=smoother, cycle=kind, max_levels=levels)
    assert len(cycle.levels) == levels
    expected = in_modes(error_matrix(cycle), shape)
    found = np.zeros_like(expected)
    theta = 2 * np.pi * np.indices(shape).reshape(len(shape), -1).T / shape
    harmonics, blocks = FourierAnalysis.of(cycle).cycle_symbol(*theta.T, levels=levels)
    numbers = np.rint(harmonics * shape / (2 * np.pi)).astype(int) % shape
    for index, block in zip(np.ravel_multi_index(tuple(np.moveaxis(numbers, -1, 0)), shape), blocks, strict=True):
        found[np.ix_(index, index)] = block
    assert np.abs(found - expected)[1:, 1:].max() <= 1e-12  # constants are determined by nothing


MEASURED = [
    ("points", (1.0, 1.0), 0.05), ("points", (1.0, 0.3), 0.08), ("points", (1.0, 0.1), 0.05), ("points", (1e-3, 1.0), 0.05),
    ("lines", (1.0, 1.0), 0.08), ("lines", (1.0, 0.5), 0.08), ("lines", (0.3, 1.0), 0.08),
]  # fmt: skip


@pytest.mark.parametrize(("smoother", "a", "within"), MEASURED, ids=str)
def test_black_box_multigrid_runs_as_predicted(smoother, a, within):
    """On a grid with sides: coarse lines, at odd indices there, are relaxed second."""
    cycle = GalerkinCycle(Poisson((63, 63), coefficient=a), smoother=smoother)
    predicted = FourierAnalysis.of(cycle).cycle_factor(levels=len(cycle.levels))
    assert predicted == pytest.approx(measured_factor(cycle, cycles=30, last=8), rel=within)


@pytest.mark.parametrize("a", [(1.0, 0.1), (1.0, 0.6)], ids=str)
def test_one_coefficient_per_axis_is_analyzed_as_it_runs(a):
    problem, slots = Poisson((63, 63), coefficient=a), {"smoother": unigrid.RedBlack(1.0), "pre": 1, "post": 1}
    cycle = unigrid.StencilCycle(problem, max_levels=2, **slots)
    assert FourierAnalysis(problem, **slots).factors == ((2, 1) if a[1] < 0.2 else (2, 2))
    assert FourierAnalysis(problem, **slots).two_grid_factor == pytest.approx(measured_factor(cycle), rel=0.05)


def test_points_take_two_colors_where_neighbors_lie_along_the_axes():
    stencil = anisotropic(0.5)
    one, other = (FourierAnalysis(stencil, smoother=smoother, samples=32) for smoother in (Points(1.1), unigrid.RedBlack(1.1)))
    assert one.smoothing_factor == pytest.approx(other.smoothing_factor, rel=1e-12)


def test_what_cannot_be_analyzed_is_refused():
    with pytest.raises(ValueError, match="solves its 64 unknowns directly: give a larger grid"):
        FourierAnalysis.of(GalerkinCycle(Poisson((8, 8), coefficient=2.0)))
    with pytest.raises(ValueError, match="depend on the reaction; give a problem with reaction=0"):
        FourierAnalysis.of(GalerkinCycle(Poisson((63, 63), reaction=2.0)))
    with pytest.raises(TypeError, match=r"constant coefficients.*measured_factor"):
        FourierAnalysis.of(GalerkinCycle(Poisson((63, 63), coefficient=lambda x, y: 1 + x)))
