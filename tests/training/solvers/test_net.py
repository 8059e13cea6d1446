"""A network that is a solver: hierarchy, tensors and arrays are one; what it holds, and how it is kept."""

import copy
import pickle

import numpy as np
import pytest
import torch

import unigrid
from unigrid.conv.weights import load_weights, save_weights
from unigrid.equivalence import to_stencil
from unigrid.training import PoissonNet, PoissonNetConfig

D, N, P = "dirichlet", "neumann", "periodic"
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = unigrid.Poisson((15, 15))
CONFIGS = [
    {},
    {"pre": 2, "post": 1, "degree": 2},
    {"symmetric": False, "transfers": True},
    {"transfers": True, "degree": 1, "pre": 2, "post": 2},
]
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS, ids=str)


def image(*arrays):
    return torch.from_numpy(np.stack(arrays))[:, None]


def assert_close(found, wanted, tolerance=1e-12):
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 0
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


# -------------------------------------------------------------------------------------------------------------- the net

GRIDS = [
    {"shape": (31, 31)},
    {"shape": (15, 31), "spacing": (2.0, 1.0)},
    {"shape": (16, 32), "boundary": P, "reaction": 1.0, "spacing": 1.0},
    {"shape": (16, 16), "boundary": [(N, D), P], "centering": "cell"},
    {"shape": (16, 16), "boundary": [D, N], "centering": "cell"},  # equal spacings: D changes along the sides, not in a corner
    {"shape": (17, 16), "boundary": [N, (D, N)], "spacing": 1.0},
]


def every_config_on(grids):
    """All configurations on all grids; in the fast tier, each grid with one of them, and each of them."""
    cases = [
        pytest.param(config, grid, id=f"{config}-{grid}", marks=() if at % len(CONFIGS) == number else pytest.mark.slow)
        for at, grid in enumerate(grids)
        for number, config in enumerate(CONFIGS)
    ]
    return pytest.mark.parametrize(("config", "grid"), cases)


@every_config_on(GRIDS)
def test_hierarchy_network_and_arrays_are_one(noisy, config, grid, rng):
    net, problem = noisy(**config), unigrid.Poisson(**grid)
    f, u = rng.standard_normal((2, *problem.shape))
    cycle = net.on(problem)
    wanted = cycle(f, u)
    network = net.network(problem)
    assert_close(network(f, u), wanted)
    assert_close(to_stencil(net, problem)(f, u), wanted)
    assert_close(network(image(f, 2 * f), image(u, 2 * u))[1, 0].detach().numpy(), 2 * wanted)
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


@every_config_on(GRIDS[:4])
def test_every_number_gets_its_gradient(noisy, config, grid, rng):
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


def test_the_network_of_a_problem_sees_the_kernels_as_they_are(noisy, rng):
    net, f = noisy(), image(rng.standard_normal((15, 15)))
    network = net.network(SMALL)
    before = network(f)
    with torch.no_grad():
        net.pre.add_(0.05)
    assert not torch.equal(network(f), before)
    np.testing.assert_array_equal(network(f).detach()[0, 0], net.network(SMALL)(f).detach()[0, 0])
    assert_close(net(f.numpy()[0, 0]), net(f).detach().numpy()[0, 0])
    assert not list(network.named_parameters()) or all("coefficients" not in name for name, _ in network.named_parameters())


def test_the_net_follows_its_problem(noisy, rng):
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
def test_it_solves_on_any_size_and_sides(noisy, options, shape, rng):
    problem = unigrid.Poisson(shape, **options)
    f = problem.compatible(rng.standard_normal(shape))
    solution = unigrid.solve(f, cycle=noisy(transfers=True, size=0.01), maxiter=100, **options)
    assert solution.converged
    left = f.ravel() - problem.matrix() @ solution.u.ravel()
    assert np.linalg.norm(left) <= 1.01e-8 * np.linalg.norm(f)


def test_symmetric_kernels_are_even_and_others_are_free(noisy, rng):
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
def test_twins_do_the_same_and_stand_apart(noisy, twin, rng):
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
def test_its_state_dict_is_its_numbers(noisy, config, tmp_path, rng):
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


def test_on_arrays_precision_is_kept(noisy, rng):
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


def test_a_net_computes_in_double_precision_and_says_so(noisy, rng):
    net, f = noisy().double(), rng.standard_normal((31, 31))
    assert_close(net(image(f)).detach().numpy()[0, 0], net(f), 1e-12)
    with pytest.raises(TypeError, match=r"computes in float64, its kernels have become torch\.float32: net\.double\(\)"):
        noisy().float()(image(f).float())
