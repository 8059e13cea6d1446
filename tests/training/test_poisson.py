"""Multigrid that learns its smoothers: the net, its loss against dense error matrices, runs that repeat bit for bit."""

import contextlib
import copy
import json
import pickle
import signal

import numpy as np
import pytest
import torch

import unigrid
from unigrid.analysis import measured_factor
from unigrid.conv.weights import load_weights, save_weights
from unigrid.equivalence import to_stencil
from unigrid.files import FileError
from unigrid.training import PoissonNet, PoissonNetConfig, PoissonProtocol, TrainingError, anisotropic, checkpoint, load_trained
from unigrid.training.poisson_loss import (
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
SMALL = unigrid.Poisson((15, 15))
FOURIER = {"protocol": "fourier", "epochs": 3, "steps": 3, "progress": False}
RANDOM = {"protocol": "random", "epochs": 3, "steps": 4, "progress": False}
PROTOCOLS = pytest.mark.parametrize("options", [FOURIER, RANDOM], ids=["fourier", "random"])
CONFIGS = [
    {},
    {"pre": 2, "post": 1, "degree": 2},
    {"symmetric": False, "transfers": True},
    {"transfers": True, "degree": 1, "pre": 2, "post": 2},
]
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS, ids=str)
TIMES = ("seconds",)


@pytest.fixture(autouse=True)
def one_thread():
    """The networks here are tiny."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy(seed=0, size=0.03, **config):
    """Return a net whose every number is something else than where it begins."""
    net, generator = PoissonNet(**config), torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data += size * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return net


def image(*arrays):
    return torch.from_numpy(np.stack(arrays))[:, None]


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


# -------------------------------------------------------------------------------------------------------------- the net

GRIDS = [
    {"shape": (31, 31)},
    {"shape": (15, 31), "spacing": (2.0, 1.0)},
    {"shape": (16, 32), "boundary": P, "reaction": 1.0, "spacing": 1.0},
    {"shape": (16, 16), "boundary": [(N, D), P], "centering": "cell"},
    {"shape": (16, 16), "boundary": [D, N], "centering": "cell"},  # equal spacings: D changes along the sides, not in a corner
    {"shape": (17, 16), "boundary": [N, (D, N)], "spacing": 1.0},
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@EVERY_CONFIG
def test_hierarchy_network_and_arrays_are_one(config, grid, rng):
    net, problem = noisy(**config), unigrid.Poisson(**grid)
    f, u = rng.standard_normal((2, *problem.shape))
    cycle = net.on(problem)
    wanted = cycle(f, u)
    assert_close(net.network(problem)(f, u), wanted)
    assert_close(to_stencil(net, problem)(f, u), wanted)
    assert_close(net.network(problem)(image(f, 2 * f), image(u, 2 * u))[1, 0].detach().numpy(), 2 * wanted)
    net.problem = problem
    assert_close(net(f, u), wanted)
    assert_close(net(image(f), image(u))[0, 0].detach().numpy(), wanted)
    assert_close(net(f), cycle(f))


def test_it_begins_as_damped_jacobi(rng):
    f = rng.standard_normal((40, 30))
    problem = unigrid.Poisson(f.shape)
    jacobi = unigrid.StencilCycle(problem, smoother=unigrid.Jacobi(0.8), pre=2, post=1)
    assert_close(PoissonNet(pre=2, post=1, transfers=True).on(problem)(f), jacobi(f))


def test_the_pre_smoother_is_before_the_correction_and_each_step_has_its_kernel(rng):
    net = PoissonNet(pre=2, post=1)
    with torch.no_grad():
        for number, omega in enumerate((0.5, 0.9)):
            net.pre[number, 0, 1, 1] = omega
        net.post[0, 0, 1, 1] = 0.7
    f, start = rng.standard_normal((2, 15, 15))
    cycle, u = net.on(SMALL), start
    level, operator = cycle.levels[0], SMALL.operator
    for omega in (0.5, 0.9):
        u = u + omega * operator.residual(f, u) / operator.diagonal()
    u = u + level.prolongation(cycle.cycle(level.restriction(operator.residual(f, u)), None, at=1))
    u = u + 0.7 * operator.residual(f, u) / operator.diagonal()
    assert_close(cycle(f, start), u)


@pytest.mark.parametrize("grid", GRIDS[:4], ids=str)
@EVERY_CONFIG
def test_every_number_gets_its_gradient(config, grid, rng):
    """Held against central differences of the hierarchy on arrays, which knows nothing of gradients."""
    net, problem = noisy(**config), unigrid.Poisson(**grid)
    f, u = rng.standard_normal((2, *problem.shape))
    weights = rng.standard_normal(problem.shape)
    (net.network(problem)(image(f), image(u)) * image(weights)).sum().backward()
    for name, parameter in net.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        at = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[at] += step
                values.append((net.on(problem)(f, u) * weights).sum())
                parameter[at] -= step
        difference = (values[0] - values[1]) / 2e-5
        assert gradient[at].item() == pytest.approx(difference, rel=1e-5), name
        anisotropic_grid = problem.spacing[0] != problem.spacing[1]
        assert (gradient != 0).all() or (config.get("degree", 0) > 0 and not anisotropic_grid), name


def test_the_network_of_a_problem_sees_the_kernels_as_they_are(rng):
    net, f = noisy(), image(rng.standard_normal((15, 15)))
    network = net.network(SMALL)
    before = network(f)
    with torch.no_grad():
        net.pre.add_(0.05)
    assert not torch.equal(network(f), before)
    np.testing.assert_array_equal(network(f).detach()[0, 0], net.network(SMALL)(f).detach()[0, 0])
    assert_close(net(f.numpy()[0, 0]), net(f).detach().numpy()[0, 0])
    assert not list(network.named_parameters()) or all("coefficients" not in name for name, _ in network.named_parameters())


def test_the_net_follows_its_problem(rng):
    """Networks are kept from call to call: by what the problem is, not by its shape alone."""
    net, f = noisy(), rng.standard_normal((16, 16))
    for options in (
        {"boundary": P, "reaction": 1.0},
        {"boundary": P, "reaction": 2.0},
        {"boundary": [P, N], "centering": "cell"},
    ):
        net.problem = unigrid.Poisson((16, 16), **{"reaction": 1.0, **options})
        wanted = net.on(net.problem)(f)
        for _ in range(2):
            assert_close(net(image(f)).detach().numpy()[0, 0], wanted)
        assert_close(net(f), wanted)
        assert [level.operator(image(f)).shape[-1] for level in net.levels[:1]] == [16]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (100, 70)),
        ({}, (33, 8)),
        ({"boundary": N}, (64, 50)),
        ({"boundary": P}, (63, 40)),
        ({"boundary": [(D, N), P], "centering": "cell"}, (37, 64)),
        ({"lengths": (5.0, 1.0), "reaction": 2.0}, (31, 31)),
    ],
    ids=str,
)
def test_it_solves_on_any_size_and_sides(options, shape, rng):
    problem = unigrid.Poisson(shape, **options)
    f = problem.compatible(rng.standard_normal(shape))
    solution = unigrid.solve(f, cycle=noisy(transfers=True, size=0.01), maxiter=100, **options)
    assert solution.converged
    left = f.ravel() - problem.matrix() @ solution.u.ravel()
    assert np.linalg.norm(left) <= 1.01e-8 * np.linalg.norm(f)


def test_symmetric_kernels_are_even_and_others_are_free(rng):
    for config in ({"transfers": True, "degree": 1}, {"transfers": True, "degree": 1, "symmetric": False}):
        slots = noisy(**config).slots()
        kernels = [
            *slots["smoother"].coefficients.reshape(-1, 3, 3), *slots["post_smoother"].coefficients.reshape(-1, 3, 3),
            slots["restriction"].kernel, slots["prolongation"].kernel,
        ]  # fmt: skip
        for kernel in kernels:
            even = np.allclose(kernel, kernel[::-1], atol=1e-15) and np.allclose(kernel, kernel[:, ::-1], atol=1e-15)
            assert even == config.get("symmetric", True)
    parameter, slots = noisy().pre.detach().numpy()[0, 0], noisy().slots()
    mean = sum(parameter[i, j] for i in (0, 2) for j in (0, 2)) / 4
    assert slots["smoother"].coefficients[0, 0, 0, 2] == pytest.approx(mean)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_twins_do_the_same_and_stand_apart(twin, rng):
    net, f = noisy(), image(rng.standard_normal((31, 31)))
    wanted = net(f).detach()  # fills the cache of networks, which must not be shared
    made = twin(net)
    assert torch.equal(made(f), wanted)
    with torch.no_grad():
        made.pre.add_(0.1)
    assert torch.equal(net(f), wanted)
    assert not torch.equal(made(f), wanted)
    assert_close(made(f).detach().numpy()[0, 0], made(f.numpy()[0, 0]))


@EVERY_CONFIG
def test_its_state_dict_is_its_numbers(config, tmp_path, rng):
    net, f = noisy(**config), rng.standard_normal((31, 31))
    net(image(f))
    names = ["pre", "post", "restriction", "prolongation"] if config.get("transfers") else ["pre", "post"]
    assert list(net.state_dict()) == names
    steps, terms = config.get("pre", 1) + config.get("post", 1), config.get("degree", 0) + 1
    count = 9 * steps * terms + 18 * config.get("transfers", False)
    assert sum(value.numel() for value in net.state_dict().values()) == count
    other = PoissonNet(**config)
    other(image(f))
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other(image(f)).detach(), net(image(f)).detach())
    pytest.importorskip("safetensors")
    save_weights(net, tmp_path / "net.safetensors")
    third = PoissonNet(**config)
    load_weights(third, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(third(f), net(f))


def test_on_arrays_precision_is_kept(rng):
    net, f = noisy(), rng.standard_normal((31, 31))
    single = net(f.astype(np.float32))
    assert single.dtype == np.float32
    assert_close(single, net(f), 1e-4)


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        ({"pre": 0}, ValueError, "pre must be an integer >= 1, got 0"),
        ({"post": True}, ValueError, "post must be"),
        ({"pre": 1.5}, ValueError, "pre must be"),
        ({"degree": -1}, ValueError, "degree must be an integer >= 0, got -1"),
        ({"degree": True}, ValueError, "degree"),
        ({"degree": 1.0}, ValueError, "degree"),
        ({"transfers": 1}, TypeError, "transfers must be True or False, got 1"),
        ({"symmetric": "yes"}, TypeError, "symmetric must be True or False"),
        ({"degre": 1}, TypeError, "degree"),
    ],
    ids=str,
)
def test_a_configuration_is_checked(config, error, reason):
    with pytest.raises(error, match=reason):
        PoissonNet(**config)
    if "degre" not in config:
        with pytest.raises(error, match=reason):
            PoissonNetConfig(**config)


def test_a_configuration_builds_its_net():
    config = PoissonNetConfig(pre=2, degree=1)
    assert config.build().config == config
    assert "pre=2, post=1, degree=1, transfers=False, symmetric=True" in repr(config.build())


@pytest.mark.parametrize("shape", [(31,), (7, 7, 7)], ids=str)
def test_it_is_for_grids_of_two_axes(shape):
    with pytest.raises(ValueError, match=f"3x3, for grids of 2 axes; this problem has {len(shape)}"):
        PoissonNet().on(unigrid.Poisson(shape, lengths=1.0))
    with pytest.raises(ValueError, match="grids of 2 axes"):
        unigrid.train(unigrid.Poisson(shape, lengths=1.0))


def test_tensors_of_a_grid_that_does_not_nest_are_refused():
    with pytest.raises(ValueError, match="grids that nest have"):
        PoissonNet()(torch.zeros(1, 1, 30, 30, dtype=torch.float64))


@pytest.mark.parametrize("convert", [lambda net: net.float(), lambda net: net.double()], ids=["float", "double"])
def test_a_net_of_another_precision_works_or_says_why_not(convert, rng):
    net = convert(noisy())
    dtype = next(net.parameters()).dtype
    f = rng.standard_normal((31, 31))
    with contextlib.suppress(TypeError, ValueError):
        assert_close(net(image(f).to(dtype)).detach().numpy()[0, 0], net(f), 1e-4)


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
def test_blocks_hold_the_spectrum_of_the_error_matrix(config, window):
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
def test_the_loss_bounds_the_factor_it_smooths(window):
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


def test_the_factor_foretold_is_the_one_measured():
    net = noisy()
    loss = FourierLoss.of(net, [unigrid.Poisson((63, 63))])
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
    assert len(FourierLoss.of(PoissonNet(degree=1), problems).parts) == 4
    assert len(FourierLoss.of(PoissonNet(degree=1), problems[1:]).parts) > 3


def test_random_errors_are_carried_on_and_one_is_drawn_anew():
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
        lambda: noisy().on(SMALL),
        lambda: unigrid.StencilCycle(SMALL, smoother="jacobi", pre=1, post=1),
        lambda: unigrid.StencilCycle(unigrid.Poisson((12, 11), boundary=[P, N], spacing=1.0), smoother="chebyshev", pre=1),
        lambda: unigrid.StencilCycle(SMALL, smoother=unigrid.Jacobi(2.6), pre=1, post=1),
    ],
    ids=["net", "jacobi", "singular", "diverging"],
)
def test_a_measured_factor_is_the_spectral_radius(make):
    cycle = make()
    assert measured_factor(cycle, cycles=200, last=20) == pytest.approx(spectral_radius(error_matrix(cycle)), rel=0.02)


def test_a_factor_on_a_grid_of_another_shape_than_the_nets_own_problem():
    """The problem's mean is not this grid's: a net that was trained between periodic sides is measured all the same."""
    net = noisy()
    net.problem = unigrid.Poisson((16, 16), boundary=P)
    wanted = measured_factor(net.on(unigrid.Poisson((31, 31))), cycles=5)
    assert measured_factor(net, (31, 31), cycles=5) == pytest.approx(wanted)


@pytest.mark.parametrize(("cycles", "last"), [(3, 3), (5, 0), (0, 0), (2, -1)])
def test_a_factor_needs_cycles_to_measure(cycles, last):
    with pytest.raises(ValueError, match=f"cycles must be more than last, .*cycles={cycles}, last={last}"):
        measured_factor(unigrid.StencilCycle(SMALL), cycles=cycles, last=last)


# ----------------------------------------------------------------------------------------------------- what it has learned


@pytest.fixture(scope="module")
def trained():
    """18 numbers, 63 x 63 unknowns, three epochs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    result = unigrid.train("poisson", epochs=3, steps=40, progress=False)
    torch.set_num_threads(before)
    return result


def test_eighteen_numbers_smooth_as_they_should_on_every_size(trained):
    net = trained.model
    assert sum(parameter.numel() for parameter in net.parameters()) == 18
    factors = {n: measured_factor(net.on(unigrid.Poisson((n, n))), cycles=30) for n in (63, 255, 511)}
    assert factors[255] <= 0.12
    assert factors[511] <= 1.1 * factors[255]
    assert trained.factor == pytest.approx(factors[63], rel=0.05)


def test_it_beats_damped_jacobi_and_takes_fewer_cycles(trained, rng):
    f = rng.standard_normal((127, 127))
    learned = unigrid.solve(f, cycle=trained.model, start="zero")
    jacobi = unigrid.solve(f, smoother="jacobi", pre=1, post=1, start="zero")
    assert learned.converged
    assert learned.iterations <= 0.6 * jacobi.iterations


def test_the_result_tells_what_came_out(trained):
    assert trained.reason == "completed"
    assert trained.folder is trained.checkpoint is None
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]
    assert [row["step"] for row in trained.history] == sorted(row["step"] for row in trained.history)
    for row in trained.history:
        assert row["predicted_factor"] == pytest.approx(row["measured_factor"], rel=0.2)
    assert f"convergence factor {trained.factor:.4f} a cycle; 18 numbers trained in" in str(trained)
    assert trained.model.problem.shape == (63, 63)
    assert trained.seconds == trained.history[-1]["seconds"] > 0


def test_learned_for_an_anisotropy_it_beats_jacobi_and_chebyshev_at_equal_work():
    """Per work unit, in which a step of a learned kernel counts twice one of Jacobi, and Chebyshev's its degree."""
    problem = anisotropic(0.1, 127)

    def per_work_unit(cycle):
        return measured_factor(cycle, cycles=50) ** (1 / cycle.work_units)

    learned = unigrid.train(anisotropic(0.1, 63), degree=2, epochs=2, steps=20, progress=False).model
    others = [(unigrid.Jacobi(omega), count) for omega in (0.7, 0.8, 0.9) for count in (1, 2)]
    others += [(unigrid.Chebyshev(degree), 1) for degree in (1, 2, 3)]
    cycles = [unigrid.StencilCycle(problem, smoother=smoother, pre=count, post=count) for smoother, count in others]
    assert per_work_unit(learned.on(problem)) < 0.97 * min(map(per_work_unit, cycles))


# ------------------------------------------------------------------------------------------------------------- runs


def run(folder=None, **options):
    return unigrid.train(options.pop("problems", SMALL), options.pop("model", None), out=folder, **options)


def numbers(result):
    return {name: value.numpy().tobytes() for name, value in result.model.state_dict().items()}


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def bits(value):
    """Make a state comparable by ==: tensors as bytes, times left out."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items() if name not in TIMES}
    return [bits(item) for item in value] if isinstance(value, (list, tuple)) else value


def left_behind(result):
    folder = result.folder
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {
        "numbers": numbers(result),
        "factors": result.factors,
        "history": without_times(result.history),
        "state": bits(checkpoint.load(result.checkpoint)),
        "log": without_times(rows),
        "weights": (folder / "weights.safetensors").read_bytes(),
    }


@PROTOCOLS
def test_a_seed_gives_the_same_numbers_and_another_gives_others(options):
    one, two = (run(seed=3, **options) for _ in range(2))
    assert numbers(one) == numbers(two)
    assert without_times(one.history) == without_times(two.history)
    assert numbers(run(seed=4, **options)) != numbers(one)


@PROTOCOLS
def test_torch_draws_as_if_there_had_been_no_run(options):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    run(**options)
    assert torch.equal(torch.rand(3), wanted)


def interrupt_after(epoch, error=KeyboardInterrupt):
    def callback(row):
        if row["epoch"] == epoch:
            raise error

    return callback


@pytest.mark.parametrize("epoch", [1, 2, 3])
@PROTOCOLS
def test_resumed_after_any_epoch_it_is_the_uninterrupted_run(options, epoch, tmp_path):
    pytest.importorskip("safetensors")
    straight = left_behind(run(tmp_path / "straight", **options))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", callback=interrupt_after(epoch), **options)
    assert left_behind(run(tmp_path / "cut", resume=True, **options)) == straight


@pytest.mark.parametrize("step", [2, 5, 9])
@PROTOCOLS
def test_resumed_after_an_interrupt_in_mid_epoch(options, step, tmp_path, monkeypatch):
    """Ctrl-C before the k-th evaluation of the loss: that epoch is lost, those before it are not."""
    pytest.importorskip("safetensors")
    straight = left_behind(run(tmp_path / "straight", **options))
    loss, name = (FourierLoss if options is FOURIER else RandomLoss), "__call__"
    evaluate, count = getattr(loss, name), iter(range(1, 1000))

    def interrupted(self, *arguments):
        if next(count) == step:
            signal.raise_signal(signal.SIGINT)
        return evaluate(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loss, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", **options)
    assert left_behind(run(tmp_path / "cut", resume=True, **options)) == straight


@PROTOCOLS
def test_an_interrupt_gives_a_given_net_back_as_it_was_after_the_last_epoch(options, monkeypatch):
    net, kept, seen = noisy(), [], []
    loss, name = (FourierLoss if options is FOURIER else RandomLoss), "__call__"
    evaluate = getattr(loss, name)

    def interrupted(self, *arguments):
        if kept:
            seen.append(bits(dict(net.state_dict())))
            if len(seen) == 3:
                signal.raise_signal(signal.SIGINT)
        return evaluate(self, *arguments)

    monkeypatch.setattr(loss, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model=net, callback=lambda row: kept.append(bits(dict(net.state_dict()))), **options)
    assert len(kept) == 1
    assert seen[-1] != kept[0]  # in mid-epoch the kernels were others
    assert bits(dict(net.state_dict())) == kept[0]


@PROTOCOLS
def test_an_interrupt_after_the_last_step_is_not_swallowed(options, tmp_path):
    pytest.importorskip("safetensors")

    def press(row):
        if row["epoch"] == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", callback=press, **options)
    again = left_behind(run(tmp_path / "cut", resume=True, **options))
    assert again == left_behind(run(tmp_path / "straight", **options))


def test_stopped_by_the_callback_and_gone_on_with(tmp_path):
    pytest.importorskip("safetensors")
    straight = left_behind(run(tmp_path / "straight", **FOURIER))
    seen = []

    def stop(row):
        seen.append(row)
        if row["epoch"] == 2:
            raise StopIteration

    stopped = run(tmp_path / "cut", callback=stop, seed=0, **FOURIER)
    assert stopped.reason == "stopped"
    assert [row["seed"] for row in seen] == [0, 0]
    assert len(stopped.history) == 2
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    assert left_behind(run(tmp_path / "cut", resume=True, **FOURIER)) == straight
    assert run(callback=interrupt_after(3, StopIteration), **FOURIER).reason == "completed"


@PROTOCOLS
def test_the_folder_is_read_back_as_the_same_net(options, tmp_path, rng):
    pytest.importorskip("safetensors")
    result = run(tmp_path / "run", degree=1, pre=2, **options)
    f = rng.standard_normal((20, 31))
    for place in (result.folder, result.checkpoint, str(result.folder)):
        net = load_trained(place)
        net = getattr(net, "model", net)
        assert isinstance(net, PoissonNet)
        assert net.config == result.model.config
        np.testing.assert_array_equal(net(f), result.model(f))
    weights = PoissonNet(degree=1, pre=2)
    load_weights(weights, result.folder / "weights.safetensors")
    np.testing.assert_array_equal(weights(f), result.model(f))


def test_a_stopped_runs_folder_is_read_back_too(tmp_path, rng):
    pytest.importorskip("safetensors")
    result = run(tmp_path / "run", callback=interrupt_after(1, StopIteration), **FOURIER)
    net = load_trained(tmp_path / "run")
    f = rng.standard_normal((15, 15))
    np.testing.assert_array_equal(getattr(net, "model", net)(f), result.model(f))


def test_a_finished_run_resumed_is_the_same_again(tmp_path):
    pytest.importorskip("safetensors")
    first = run(tmp_path / "run", **FOURIER)
    again = run(tmp_path / "run", resume=True, **FOURIER)
    assert numbers(again) == numbers(first)
    assert again.factors == first.factors
    assert again.reason == "completed"
    assert again.checkpoint == first.checkpoint


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1}, {"steps": 4}, {"epochs": 2}, {"noise": 0.01}, {"pre": 2}, {"degree": 1},
        {"problems": unigrid.Poisson((31, 31))},
        {"problems": [SMALL, SMALL]}, {"problems": unigrid.Poisson((15, 15), boundary=[D, (D, N)])}, {"protocol": "random"},
        {"problems": unigrid.Poisson((15, 15), lengths=(1.0, 2.0))}, {"problems": unigrid.Poisson((15, 15), reaction=1.0)},
    ],
    ids=str,
)  # fmt: skip
def test_another_run_is_not_resumed(changed, tmp_path_factory):
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.getbasetemp() / "poisson-run"
    if not folder.exists():
        run(folder, callback=interrupt_after(1, StopIteration), **FOURIER)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(FileError, match="holds another run"):
        run(folder, resume=True, **{**FOURIER, **changed})
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    with pytest.raises(FileError, match=r"holds a run already; resume=True \(--resume\) goes on with it"):
        run(folder, **{**FOURIER, **changed})


def test_a_given_net_is_trained_in_place_from_the_kernels_it_has():
    net = noisy(seed=7)
    before = copy.deepcopy(net.state_dict())
    result = run(model=net, **FOURIER)
    assert result.model is net
    assert bits(dict(net.state_dict())) != bits(dict(before))
    other = PoissonNet()
    other.load_state_dict(before)
    assert numbers(run(model=other, seed=5, **FOURIER)) == numbers(result)  # nothing is drawn: the noise is for new nets
    assert measured_factor(net.on(SMALL)) < measured_factor(noisy(seed=7).on(SMALL))
    fresh = run(model=PoissonNetConfig(pre=2), **FOURIER)
    assert fresh.model.config.pre == 2
    assert run(model=PoissonNetConfig(pre=2), degree=1, **FOURIER).model.config == PoissonNetConfig(pre=2, degree=1)


def test_one_net_for_several_problems():
    problems = [SMALL, anisotropic(0.1, 15), unigrid.Poisson((16, 16), boundary=P)]
    for options in (FOURIER, RANDOM):
        result = run(problems=problems, degree=2, **options)
        assert len(result.factors) == 3
        assert result.factor == max(result.factors)
        assert "the largest of 3 problems" in str(result)
        wanted = [measured_factor(result.model.on(problem), cycles=60, last=5) for problem in problems]
        assert result.factors == pytest.approx(wanted)
        measured = [measured_factor(result.model.on(problem)) for problem in problems]
        assert result.history[-1]["measured_factor"] == pytest.approx(max(measured))


@pytest.mark.parametrize(
    "problem",
    [
        unigrid.Poisson((16, 16), boundary=P),
        unigrid.Poisson((17, 17), boundary=N),
        unigrid.Poisson((16, 16), centering="cell", boundary=[D, N]),
    ],
    ids=["periodic", "neumann", "cells"],
)
@PROTOCOLS
def test_problems_with_other_sides(options, problem):
    result = run(problems=problem, **options)
    assert 0 < result.factor < 0.6


def test_grids_that_do_not_nest_are_for_the_fourier_loss_alone():
    assert run(problems=unigrid.Poisson((30, 20)), **FOURIER).factor < 0.6
    with pytest.raises(ValueError, match="nest"):
        run(problems=unigrid.Poisson((30, 20)), **RANDOM)


# --------------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({**RANDOM, "noise": 50.0}, TrainingError),
        ({**RANDOM, "learning_rate": 1e6}, TrainingError),
        ({**FOURIER, "noise": 1e200}, TrainingError),
    ],
    ids=["noise", "learning rate", "overflow"],
)
def test_lost_training_says_so_and_gives_the_kernels_back(options, error):
    net = noisy(seed=2)
    if "noise" in options:
        options = dict(options)
        with torch.no_grad():
            net.pre.add_(options.pop("noise"))
    before = bits(dict(net.state_dict()))
    with pytest.raises(error, match=r"take less noise than|smaller learning rate"):
        run(model=net, **options)
    assert bits(dict(net.state_dict())) == before


@PROTOCOLS
def test_a_loss_that_is_no_number_in_mid_epoch_gives_the_kernels_back(options, monkeypatch):
    net, kept, count = noisy(), [], iter(range(1, 1000))
    loss, name = (FourierLoss if options is FOURIER else RandomLoss), "__call__"
    evaluate = getattr(loss, name)

    def spoilt(self, *arguments):
        kept.append(bits(dict(net.state_dict())))
        return evaluate(self, *arguments) * (np.nan if next(count) == 3 else 1.0)

    monkeypatch.setattr(loss, name, spoilt)
    with pytest.raises(TrainingError, match=r"the loss became nan in step 2: take less noise"):
        run(model=net, **options)
    assert kept[-1] != kept[0] == bits(dict(net.state_dict()))


def test_a_new_net_of_too_much_noise_is_lost_too():
    with pytest.raises(TrainingError, match="take less noise than 50"):
        run(noise=50.0, **RANDOM)


def test_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    forward, count = RandomLoss.__call__, iter(range(1, 1000))
    monkeypatch.setattr(RandomLoss, "__call__", lambda self: forward(self) * (np.nan if next(count) == 6 else 1.0))
    with pytest.raises(TrainingError, match=r"nan in step 5.*the last good checkpoint in .* is kept") as caught:
        run(tmp_path / "run", **RANDOM)
    assert caught.value.args
    monkeypatch.undo()
    assert left_behind(run(tmp_path / "run", resume=True, **RANDOM)) == left_behind(run(tmp_path / "straight", **RANDOM))


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"protocol": "furier"}, ValueError, "fourier"),
        ({"protocol": "paper"}, ValueError, "protocol for Poisson problems"),
        ({"protocol": 3}, TypeError, "protocol must be one of 'fourier', 'random' or a PoissonProtocol, got 3"),
        ({"step": 3}, TypeError, "no 'step'.*steps"),
        ({"degre": 3}, TypeError, "no 'degre'.*degree"),
        ({"weight_decay": 0.1}, TypeError, "no 'weight_decay'"),
        ({"epochs": 6}, ValueError, "epochs of protocol 'fourier' must be an integer from 1 to 5, got 6"),
        ({"epochs": 0}, ValueError, "epochs of protocol 'fourier'"),
        ({"steps": 0}, ValueError, "steps of protocol 'fourier' must be an integer from 1 to 1000000, got 0"),
        ({"steps": True}, ValueError, "steps"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be a finite number >= 0, got -1.0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate"),
        ({"noise": "much"}, ValueError, "noise must be"),
        ({"batch_size": 3}, TypeError, "batch_size: for images alone"),
        ({"subset": 3}, TypeError, "subset: for images alone"),
        ({"validation": 0.1}, TypeError, "validation: for images alone"),
        ({"data_dir": "x"}, TypeError, "data_dir: for images alone"),
        ({"download": True, "device": "cuda"}, TypeError, "download, device: for images alone"),
        ({"seed": [1, 2]}, ValueError, r"one seed, got \[1, 2\]; call train once for each"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"resume": True}, ValueError, "resume=True needs out="),
        ({"model": "mgnet-64-Bl"}, TypeError, "model must be a PoissonNetConfig or a PoissonNet"),
        ({"model": PoissonNet(), "degree": 1}, TypeError, "a PoissonNet brings its own degree"),
        ({"pre": 0}, ValueError, "pre must be an integer >= 1"),
        ({"callback": 3}, TypeError, "callable"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(options, error, reason):
    with pytest.raises(error, match=f"(?s){reason}"):
        unigrid.train("poisson", **{"epochs": 1, "steps": 1, "progress": False, **options})


@pytest.mark.parametrize(
    "harmless", [{"device": "cpu"}, {"device": torch.device("cpu")}, {"seed": [4]}, {"validation": 0}], ids=str
)
def test_what_says_nothing_new_is_taken(harmless):
    assert run(**{**FOURIER, "epochs": 1, **harmless}).reason == "completed"


def test_a_protocol_may_be_ones_own():
    own = PoissonProtocol("random", epochs=2, steps=3, learning_rate=0.01, noise=0.0)
    result = run(protocol=own, progress=False)
    assert len(result.history) == 2
    assert result.configuration["protocol"]["noise"] == 0.0
    with pytest.raises(ValueError, match=r"fourier|random"):
        PoissonProtocol("adam", epochs=2, steps=3, learning_rate=0.01)


def test_the_data_set_may_be_misspelled():
    with pytest.raises(ValueError, match="poisson"):
        unigrid.train("poison", epochs=1)


def test_rows_are_logged_and_shown(tmp_path, capsys):
    pytest.importorskip("safetensors")
    result = run(tmp_path / "run", **{**RANDOM, "progress": True})
    assert "epoch 3 of 3, factor 0." in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert without_times(rows)[-1].items() >= without_times(result.history[-1]).items()
    configuration = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "poisson" in json.dumps(configuration)
