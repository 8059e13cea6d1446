"""What a learned smoother is trained on, against dense error matrices."""

import numpy as np
import pytest
import torch

import unigrid
from unigrid.analysis import measured_factor
from unigrid.training import PoissonNet, anisotropic
from unigrid.training.solvers.loss import (
    STAGES,
    FourierLoss,
    RandomLoss,
    Sharpness,
    Window,
    error_blocks,
    smooth_maximum,
    windows,
)

D, N, P = "dirichlet", "neumann", "periodic"
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = unigrid.Poisson((15, 15))


def assert_close(found, wanted, tolerance=1e-12):
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 0
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def error_matrix(cycle):
    """Return E of u <- E u for f = 0, column by column, constants taken out where A does not see them."""
    problem = cycle.problem
    zero, units = np.zeros(problem.shape), np.eye(problem.grid.size).reshape(-1, *problem.shape)
    return np.stack([problem.compatible(cycle(zero, problem.compatible(unit))).ravel() for unit in units], axis=1)


def spectral_radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


# ------------------------------------------------------------------------------------------------------------- the loss

SMALL_WINDOWS = [
    Window(unigrid.Poisson((12, 16), spacing=1.0, boundary=P), 2, (2, 2)),
    Window(unigrid.Poisson((16, 12), spacing=1.0, boundary=P, reaction=0.2), 2, (2, 2)),
    Window(unigrid.Poisson((16, 16), spacing=1.0, boundary=P), 3, (4, 4)),
    Window(unigrid.Poisson((6, 16), spacing=(4.0, 1.0), boundary=P), 3, (1, 4)),
    Window(unigrid.Poisson((12, 8), spacing=(1.0, 1.9), boundary=P), 2, (2, 1)),
]
EVERY_WINDOW = pytest.mark.parametrize("window", SMALL_WINDOWS, ids=lambda w: f"{w.problem.shape}-{w.factors}")


@pytest.mark.parametrize("config", [{}, {"degree": 1, "transfers": True, "symmetric": False, "pre": 2}], ids=str)
@EVERY_WINDOW
def test_blocks_hold_the_spectrum_of_the_error_matrix(noisy, config, window):
    net = noisy(**config)
    blocks = error_blocks(net.network(window.problem, window.levels), window).detach()
    cycle = net.on(window.problem, window.levels)
    assert len(cycle.levels) == window.levels
    ratio = np.divide(window.problem.shape, cycle.levels[-1].problem.shape)
    assert tuple(ratio) == window.factors
    count = window.factors[0] * window.factors[1]
    assert blocks.shape[1:] == (count, count)
    matrix = error_matrix(cycle)
    size = len(matrix)
    matrix = matrix - matrix.mean(axis=0)  # constants, which the loss takes out even where A sees them
    found = torch.linalg.eigvals(blocks).abs().max().item()
    assert found == pytest.approx(spectral_radius(matrix), rel=1e-8)
    # At frequency zero, M_qp is the sum over all x = q + F i of E(x, p), x and p among the first points.
    shape, (down, right) = window.problem.shape, window.factors
    sums = matrix.reshape(shape[0] // down, down, shape[1] // right, right, *shape).sum((0, 2))[:, :, :down, :right]
    assert_close(blocks[0].real.numpy(), sums.reshape(count, count), 1e-10)
    # Half the frequencies stand for all: the others are their conjugates. Twice their squares is the Frobenius norm.
    frequencies = [n // f for n, f in zip(window.problem.shape, window.factors, strict=True)]
    columns = np.arange(frequencies[1] // 2 + 1)
    twice = np.where((columns == 0) | (2 * columns == frequencies[1]), 1, 2)
    squares = (blocks.abs() ** 2).sum((1, 2)).reshape(frequencies[0], len(columns)).numpy()
    assert (squares * twice).sum() / size * count == pytest.approx((matrix**2).sum() / size * count, rel=1e-10)


@EVERY_WINDOW
def test_the_loss_bounds_the_factor_it_smooths(noisy, window):
    net = noisy()
    blocks = error_blocks(net.network(window.problem, window.levels), window)
    largest = torch.linalg.eigvals(blocks).abs().max().log().item()
    values = [smooth_maximum(blocks, stage).item() for stage in STAGES]
    frequencies, count = len(blocks), blocks.shape[-1]
    for stage, value in zip(STAGES, values, strict=True):
        m = 2**stage.squarings
        # |E^m| >= rho^m of the largest block, one of so many in the mean.
        assert value >= largest - np.log(frequencies) / (m * stage.power) - 1e-12
    assert abs(values[-1] - largest) < abs(values[0] - largest)
    sharp = smooth_maximum(blocks, Sharpness(7, 400)).item()
    assert sharp == pytest.approx(largest, abs=np.log(100 * count) / 2**7)


def test_a_smooth_maximum_written_out():
    blocks = torch.diag_embed(torch.tensor([[0.5, 0.1], [0.2, 0.3], [0.0, 0.4]], dtype=torch.float64))
    norms = [np.hypot(0.5**4, 0.1**4), np.hypot(0.2**4, 0.3**4), 0.4**4]
    wanted = np.log(np.mean(np.power(norms, 3)) ** (1 / 12))
    assert smooth_maximum(blocks, Sharpness(2, 3)).item() == pytest.approx(wanted, rel=1e-12)


def test_the_factor_foretold_is_the_one_measured(noisy):
    net = noisy()
    loss = FourierLoss(net, [unigrid.Poisson((63, 63))])
    assert [window.factors for window, _ in loss.parts] == [(4, 4)]
    measured = measured_factor(net.on(unigrid.Poisson((127, 127))))
    assert loss.factor() == pytest.approx(measured, rel=0.1)
    assert loss(Sharpness(7, 400)).exp().item() == pytest.approx(loss.factor(), rel=0.03)


def test_windows_follow_the_coarsening_until_all_axes_couple_alike():
    (only,) = windows(unigrid.Poisson((63, 63)))
    assert (only.factors, only.levels) == ((4, 4), 3)
    found = windows(anisotropic(0.1, 63))
    levels = [level.problem for level in unigrid.StencilCycle(anisotropic(0.1, 63)).levels]
    assert len(found) >= 2
    for window, problem in zip(found, levels, strict=False):
        np.testing.assert_allclose(window.problem.spacing, problem.spacing)
        assert window.problem.singular
        hierarchy = unigrid.StencilCycle(window.problem, max_levels=window.levels)
        assert len(hierarchy.levels) == window.levels
        assert tuple(np.divide(window.problem.shape, hierarchy.levels[-1].problem.shape)) == window.factors
    # The last of them couples all axes, and every coarser level of the hierarchy couples as it does.
    assert [window.factors[0] > 1 for window in found[-1:]] == [True]
    couplings = {round(problem.spacing[0] / problem.spacing[1], 9) for problem in levels[: len(levels) - 1]}
    assert couplings <= {round(window.problem.spacing[0] / window.problem.spacing[1], 9) for window in found}
    assert windows(unigrid.Poisson((31, 31), reaction=3.0))[0].problem.reaction == 3.0


def test_of_many_problems_only_the_finest_windows_count():
    problems = [anisotropic(eps, 31) for eps in (1.0, 0.5, 0.1, 0.05)]
    assert len(FourierLoss(PoissonNet(degree=1), problems).parts) == 4
    assert len(FourierLoss(PoissonNet(degree=1), problems[1:]).parts) > 3


def test_random_errors_are_carried_on_and_one_is_drawn_anew(noisy):
    net, generator = noisy(), torch.Generator().manual_seed(0)
    loss = RandomLoss(net, [SMALL], generator)
    before = loss.errors[0].clone()
    value = loss()
    cycle, after = net.on(SMALL), []
    for error in before[:, 0].numpy():
        u = cycle(np.zeros_like(error), cycle(np.zeros_like(error), error))
        after.append(np.log(np.linalg.norm(u) / np.linalg.norm(error)) / 2)
    assert value.item() == pytest.approx(np.mean(after), rel=1e-10)
    np.testing.assert_allclose(torch.linalg.vector_norm(loss.errors[0][1:], dim=(1, 2, 3)), 1.0)
    u = cycle(np.zeros((15, 15)), cycle(np.zeros((15, 15)), before[3, 0].numpy()))
    assert_close(loss.errors[0][3, 0].numpy(), u / np.linalg.norm(u), 1e-10)
    assert not loss.errors[0].requires_grad
    assert torch.linalg.vector_norm(loss.errors[0][0]) > 5  # 225 numbers drawn


@pytest.mark.parametrize("eps", [0, -1, np.nan, np.inf, "0.1", None])
def test_anisotropy_must_be_a_number_above_zero(eps):
    with pytest.raises(ValueError, match="eps must be a finite number > 0"):
        anisotropic(eps)


def test_anisotropic_is_a_stretch():
    problem, eps, n = anisotropic(0.1, 5), 0.1, 5
    h = 1 / (n + 1)
    second = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) / h**2
    wanted = np.kron(eps * second, np.eye(n)) + np.kron(np.eye(n), second)
    assert_close(problem.matrix().toarray(), wanted)


# ------------------------------------------------------------------------------------------------------ measured factors


@pytest.mark.parametrize(
    "make",
    [
        lambda noisy: noisy().on(SMALL),
        lambda _: unigrid.StencilCycle(SMALL, smoother="jacobi", pre=1, post=1),
        lambda _: unigrid.StencilCycle(unigrid.Poisson((12, 11), boundary=[P, N], spacing=1.0), smoother="chebyshev", pre=1),
        lambda _: unigrid.StencilCycle(SMALL, smoother=unigrid.Jacobi(2.6), pre=1, post=1),
    ],
    ids=["net", "jacobi", "singular", "diverging"],
)
def test_a_measured_factor_is_the_spectral_radius(noisy, make):
    cycle = make(noisy)
    assert measured_factor(cycle, cycles=200, last=20) == pytest.approx(spectral_radius(error_matrix(cycle)), rel=0.02)


def test_a_factor_on_a_grid_of_another_shape_than_the_nets_own_problem(noisy):
    """The problem's mean is not this grid's: a net that was trained between periodic sides is measured all the same."""
    net = noisy()
    net.problem = unigrid.Poisson((16, 16), boundary=P)
    wanted = measured_factor(net.on(unigrid.Poisson((31, 31))), cycles=5)
    assert measured_factor(net, (31, 31), cycles=5) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("cycles", "last", "message"),
    [
        (3, 3, "cycles must be more than last, .*cycles=3, last=3"),
        (5, 0, "last must be an integer >= 1, got 0"),
        (0, 0, "cycles must be an integer >= 1, got 0"),
        (2, -1, "last must be an integer >= 1, got -1"),
    ],
)
def test_a_factor_needs_cycles_to_measure(cycles, last, message):
    with pytest.raises(ValueError, match=message):
        measured_factor(unigrid.StencilCycle(SMALL), cycles=cycles, last=last)
