"""to_conv: a classical hierarchy as a network. Ten cycles, every slot against dense matrices written out, what is refused."""

import copy
import functools
import itertools
import pickle

import numpy as np
import pytest
import torch
from tiers import pack

import unigrid
from unigrid.conv import ConvCycle, ConvLevel, MgNet
from unigrid.conv.weights import load_weights, save_weights
from unigrid.cycle import MultigridCycle, SlotLevel, Steps
from unigrid.equivalence import to_conv
from unigrid.stencil.hierarchy import StencilLevel
from unigrid.stencil.learned import FilteredProlongation, FilteredRestriction

D, N, P = "dirichlet", "neumann", "periodic"
TOLERANCE = 1e-12
JACOBI, CHEBYSHEV, RED_BLACK = unigrid.Jacobi(0.8), unigrid.Chebyshev(4), unigrid.RedBlack(1.15)
SMOOTHERS = pytest.mark.parametrize(
    "smoother", [JACOBI, CHEBYSHEV, RED_BLACK, unigrid.RedBlack((1.0, 1.2), first="black"), unigrid.Chebyshev(1)], ids=repr
)
pytestmark = pytest.mark.usefixtures("deep")
SIDES = {  # per axis: the sides, and the unknowns of a grid of 8 and one of 16 intervals
    "vertex": [((D, D), 7, 15), ((D, N), 8, 16), ((N, D), 8, 16), ((N, N), 9, 17), ((P, P), 8, 16)],
    "cell": [((D, D), 8, 16), ((D, N), 8, 16), ((N, D), 8, 16), ((N, N), 8, 16), ((P, P), 8, 16)],
}
NESTING = [
    pytest.param(centering, (rows[0], columns[0]), (rows[1], columns[2]), id=f"{centering}-{'-'.join(rows[0] + columns[0])}")
    for centering, sides in SIDES.items()
    for rows, columns in itertools.product(sides, repeat=2)
]
EVERY_NESTING_GRID = pytest.mark.parametrize(("centering", "mix", "shape"), NESTING)


def problem_of(centering, mix, shape, reaction=0.0, spacing=1.0):
    boundary = [P if pair == (P, P) else pair for pair in mix]
    return unigrid.Poisson(shape, spacing=spacing, boundary=boundary, centering=centering, reaction=reaction)


def image(*arrays):
    return torch.from_numpy(np.stack(arrays))[:, None]


def array(tensor):
    assert tensor.shape[:2] == (1, 1)
    return tensor[0, 0].detach().numpy()


def assert_close(found, wanted, tolerance=TOLERANCE):
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 0
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


# ------------------------------------------------------------------------------------------------- the iterates


@pack
@pytest.mark.parametrize("post", [0, 2], ids=["backslash", "V"])
@pytest.mark.parametrize(
    ("shape", "boundary", "reaction"), [((31, 31), D, 0.0), ((32, 32), P, 0.0), ((32, 32), P, 2.0)], ids=str
)
@SMOOTHERS
def test_ten_cycles_are_the_classical_ones(smoother, shape, boundary, reaction, post, rng):
    problem = unigrid.Poisson(shape, boundary=boundary, reaction=reaction)
    cycle = unigrid.StencilCycle(problem, smoother=smoother, pre=2, post=post)
    network = to_conv(cycle)
    f = problem.compatible(rng.standard_normal(shape))
    u, state, of_arrays = None, None, None
    for _ in range(10):
        u, state, of_arrays = cycle(f, u), network(image(f), state), network(f, of_arrays)
        assert_close(array(state), u)
        assert_close(of_arrays, u)
    assert isinstance(of_arrays, np.ndarray)


@pack
@EVERY_NESTING_GRID
def test_cycles_on_every_grid_that_nests(centering, mix, shape, rng):
    problem = problem_of(centering, mix, shape, reaction=0.01)
    smoother = (JACOBI, CHEBYSHEV, RED_BLACK)[rng.integers(3)]
    cycle = unigrid.StencilCycle(problem, smoother=smoother, pre=1, post=1, state_transfer="full-weighting")
    network, f, u = to_conv(cycle), *rng.standard_normal((2, *shape))
    state = image(u)
    for _ in range(3):
        u, state = cycle(f, u), network(image(f), state)
        assert_close(array(state), u)


@pack
@pytest.mark.parametrize("kind", ["V", "W", "F"])
@pytest.mark.parametrize("state_transfer", [None, "injection", "full-weighting", "cell-average", "half-weighting"])
def test_all_kinds_of_visits_and_all_state_transfers(kind, state_transfer, rng):
    cycle = unigrid.StencilCycle(
        unigrid.Poisson((31, 15), spacing=1.0), cycle=kind, state_transfer=state_transfer, smoother=JACOBI
    )
    network, f, u = to_conv(cycle), *rng.standard_normal((2, 31, 15))
    assert network.kind == kind
    assert_close(network(f, u), cycle(f, u))
    assert_close(network(f), cycle(f))


@pytest.mark.parametrize(
    "options",
    [
        {"post_smoother": CHEBYSHEV, "smoother": JACOBI, "pre": 1, "post": 3},
        {"smoother": unigrid.LearnedSmoother(np.random.default_rng(0).standard_normal((2, 1, 3, 3)) / 20), "post": 1},
        {"coarsest": "fft"},
        {"coarsest": unigrid.Jacobi(0.7)},
        {"coarsest": unigrid.RedBlack()},
        {"max_levels": 1},
        {"max_levels": 2, "restriction": "half-weighting"},
        {"restriction": "injection", "post": 3},
        {
            "restriction": FilteredRestriction(np.random.default_rng(1).standard_normal((3, 3))),
            "prolongation": FilteredProlongation(np.random.default_rng(2).standard_normal((3, 3))),
        },
    ],
    ids=lambda options: "-".join(options),
)
def test_every_other_slot(options, rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((15, 31), spacing=1.0), **options)
    network, f, u = to_conv(cycle), *rng.standard_normal((2, 15, 31))
    assert_close(network(f, u), cycle(f, u))


@pytest.mark.parametrize("prolongation", ["linear", "constant"])
@pytest.mark.parametrize("restriction", ["full-weighting", "cell-average", "injection"])
def test_transfers_of_cells(restriction, prolongation, rng):
    problem = unigrid.Poisson((16, 32), spacing=1.0, boundary=[(N, D), P], centering="cell")
    cycle = unigrid.StencilCycle(problem, restriction=restriction, prolongation=prolongation, smoother=JACOBI)
    network, f, u = to_conv(cycle), *rng.standard_normal((2, 16, 32))
    assert_close(network(f, u), cycle(f, u))


@pack
@pytest.mark.parametrize("spacing", [(1.0, 4.0), (4.0, 1.0)], ids=str)
@pytest.mark.parametrize(("centering", "mix", "shape"), NESTING[::3])
def test_an_axis_that_is_left_alone(spacing, centering, mix, shape, rng):
    problem = problem_of(centering, mix, shape, reaction=0.01, spacing=spacing)
    cycle = unigrid.StencilCycle(problem, smoother=CHEBYSHEV, pre=1, post=1)
    assert (cycle.levels[1].problem.shape[0] == shape[0]) != (cycle.levels[1].problem.shape[1] == shape[1])
    network, f, u = to_conv(cycle), *rng.standard_normal((2, *shape))
    assert_close(network(f, u), cycle(f, u))


# ------------------------------------------------------------------- slot by slot, against dense matrices written out


def hat(fine, coarse, kinds, centering):
    """Return linear interpolation along one axis: hat functions about the coarse unknowns and about their mirror images."""
    h, n = 1.0, len(fine)
    length = n * h if centering == "cell" or kinds == (P, P) else (n + 1 - kinds.count(N)) * h
    width = coarse[1] - coarse[0]

    def values(centers):
        return np.maximum(0.0, 1.0 - np.abs(fine[:, None] - centers[None, :]) / width)

    matrix = values(coarse)
    if kinds == (P, P):
        return matrix + values(coarse - length) + values(coarse + length)
    if centering == "cell":
        for kind, mirrored in ((kinds[0], -coarse), (kinds[1], 2 * length - coarse)):
            matrix = matrix + (-1 if kind == D else 1) * values(mirrored)
    return matrix


def places(n, kinds, centering, h):
    first = 0.5 if centering == "cell" else 1.0 if kinds[0] == D else 0.0
    return (np.arange(n) + first) * h


def columns_of(slot, shape):
    """Return the matrix of a slot, column by column; it maps tensors (batch, 1, rows, columns)."""
    units = np.eye(shape[0] * shape[1]).reshape(-1, *shape)
    return slot(image(*units)).detach().numpy().reshape(len(units), -1).T


@pack
@EVERY_NESTING_GRID
def test_a_and_its_transfers_are_the_dense_matrices(centering, mix, shape):
    problem = problem_of(centering, mix, shape, reaction=0.01)
    network = to_conv(unigrid.StencilCycle(problem, smoother=JACOBI, max_levels=2))
    fine_level, coarse_level = network.levels[:2]
    assert_close(columns_of(fine_level.operator, shape), problem.matrix().toarray())
    halves = {(D, D): lambda n: n // 2, (N, N): lambda n: n // 2 + 1}
    coarse_shape = tuple(
        halves.get(pair, lambda n: n // 2)(n) if centering == "vertex" else n // 2 for pair, n in zip(mix, shape, strict=True)
    )
    coarse = problem_of(centering, mix, coarse_shape, reaction=0.01, spacing=2.0)
    assert_close(columns_of(coarse_level.operator, coarse_shape), coarse.matrix().toarray())
    prolongation = functools.reduce(
        np.kron,
        [
            hat(places(n, pair, centering, 1.0), places(m, pair, centering, 2.0), pair, centering)
            for n, m, pair in zip(shape, coarse_shape, mix, strict=True)
        ],
    )
    assert_close(columns_of(fine_level.prolongation, coarse_shape), prolongation)
    restriction = prolongation.T * problem.weights.ravel() / coarse.weights.ravel()[:, None]
    assert_close(columns_of(fine_level.restriction, shape), restriction)


def step_matrices(smoother, matrix, shape):
    """Return M_k of the steps u <- u + M_k (f - A u) of one call, dense; None for Chebyshev, which is no such product."""
    inverse = np.diag(1.0 / np.diag(matrix))
    if isinstance(smoother, unigrid.Jacobi):
        return [smoother.omega * inverse]
    color = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).ravel() % 2
    order = (0, 1) if smoother.first == "red" else (1, 0)
    omegas = smoother.omega if isinstance(smoother.omega, tuple) else (smoother.omega,) * 2
    return [omega * inverse * (color == order[number % 2])[:, None] for number, omega in enumerate(omegas)]


def dense_smoothing(smoother, matrix, shape, f, u, interval):
    if not isinstance(smoother, unigrid.Chebyshev):
        for step in step_matrices(smoother, matrix, shape):
            u = u + step @ (f - matrix @ u)
        return u
    # Chebyshev's polynomial on the interval, from its three-term recurrence for the residual polynomial itself.
    low, high = interval
    middle, radius = (high + low) / 2, (high - low) / 2
    preconditioned, right = matrix / np.diag(matrix)[:, None], f / np.diag(matrix)
    error = np.linalg.solve(preconditioned, right) - u
    shifted = (middle * np.eye(len(matrix)) - preconditioned) / radius
    one, two, scale_one, scale_two = error, shifted @ error, 1.0, middle / radius
    for _ in range(smoother.degree - 1):
        one, two = two, 2 * shifted @ two - one
        scale_one, scale_two = scale_two, 2 * middle / radius * scale_two - scale_one
    return u + error - two / scale_two


@pack
@SMOOTHERS
@pytest.mark.parametrize(("centering", "mix", "shape"), NESTING[::7])
def test_smoothers_are_the_dense_ones(centering, mix, shape, smoother, rng):
    problem = problem_of(centering, mix, shape, reaction=0.5)
    network = to_conv(unigrid.StencilCycle(problem, smoother=smoother, pre=2, post=1, max_levels=2))
    f, u = rng.standard_normal((2, *shape))
    matrix = problem.matrix().toarray()
    once = dense_smoothing(smoother, matrix, shape, f.ravel(), u.ravel(), problem.operator.smoothing_interval)
    expected = dense_smoothing(smoother, matrix, shape, f.ravel(), once, problem.operator.smoothing_interval)
    level = network.levels[0]
    assert_close(array(level.smoother(level.operator, image(f), image(u))), expected.reshape(shape), 1e-11)
    assert_close(array(level.post_smoother(level.operator, image(f), image(u))), once.reshape(shape), 1e-11)


@pytest.mark.parametrize(("boundary", "reaction"), [(D, 0.0), (P, 0.0), (P, 1.0)])
def test_the_coarsest_level_is_a_direct_solver(boundary, reaction, rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((16, 16) if boundary == P else (15, 15), boundary=boundary, reaction=reaction))
    network, coarsest = to_conv(cycle), cycle.levels[-1].problem
    f, matrix = coarsest.compatible(rng.standard_normal(coarsest.shape)), coarsest.matrix().toarray()
    level = network.levels[-1]
    found = array(level.smoother(level.operator, image(f), image(np.ones_like(f))))
    assert_close(matrix @ found.ravel(), f.ravel(), 1e-10)
    assert_close(found.ravel(), np.linalg.pinv(matrix) @ f.ravel(), 1e-10)


@pytest.mark.parametrize("state_transfer", ["injection", "full-weighting"])
def test_every_level_holds_the_same(state_transfer, rng):
    from unigrid.conv.levels import traced

    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=RED_BLACK, state_transfer=state_transfer, post=1)
    f, u = rng.standard_normal((2, 31, 31))
    of_arrays, of_tensors = traced(cycle, f, u)[1], to_conv(cycle).trace(image(f), image(u))[1]
    assert len(of_arrays) == len(of_tensors) == 4
    for one, other in zip(of_arrays, of_tensors, strict=True):
        assert_close(array(other.features), one.features, 1e-11)
        assert_close(array(other.data), one.data, 1e-11)


# ------------------------------------------------------------------------------------------------- one cycle, two backends


def test_the_classifier_and_the_solver_pass_through_the_same_descend(monkeypatch):
    """One call of the one `SlotLevel.descend` per level and visit, from a solver, its network and a classifier.

    The solver is asked for its slots one after the other; fused legs equal them to round-off, in tests of their own.
    """
    calls = []
    descend = SlotLevel.descend

    def watched(self, f, u, coarser):
        calls.append(self)
        return descend(self, f, u, coarser)

    monkeypatch.setattr(SlotLevel, "descend", watched)
    assert issubclass(StencilLevel, SlotLevel)
    assert ConvLevel.descend is watched
    for owner in (unigrid.StencilCycle, ConvCycle, MgNet):
        assert "cycle" not in vars(owner)
    assert unigrid.StencilCycle.cycle is ConvCycle.cycle is MultigridCycle.cycle

    classifier = MgNet(steps=(1, 1, 1), features=4, num_classes=3)
    classifier(torch.zeros(2, 3, 16, 16))
    assert calls == list(classifier.cycle.levels)
    for kind, visits in (("V", 1), ("W", 2)):
        cycle = unigrid.StencilCycle(unigrid.Poisson((15, 15)), cycle=kind, smoother="jacobi").composed()
        calls.clear()
        solution = cycle.solve(np.ones((15, 15)), start="zero")
        assert solution.iterations >= 2
        assert [calls.count(level) for level in cycle.levels] == [solution.iterations * visits**at for at in range(3)]
        network = to_conv(cycle)
        calls.clear()
        network(np.ones((15, 15)))
        assert [calls.count(level) for level in network.levels] == [visits**at for at in range(3)]


# ---------------------------------------------------------------------------------------------------------- as a network


@pytest.fixture(params=[JACOBI, CHEBYSHEV, RED_BLACK], ids=repr)
def cycle(request):
    return unigrid.StencilCycle(unigrid.Poisson((15, 15)), smoother=request.param, pre=2, post=2, state_transfer="injection")


def test_torch_draws_as_if_nothing_had_been_made(cycle):
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    to_conv(cycle)
    assert torch.equal(torch.rand(4), wanted)


def test_weights_are_fixed_until_asked_for_gradients(cycle, rng):
    network = to_conv(cycle)
    assert all(parameter.dtype == torch.float64 for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    f = image(rng.standard_normal((15, 15)))
    assert not network(f).requires_grad
    network.requires_grad_()
    u = network(f, network(f))
    u.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_training_moves_the_network_and_not_the_hierarchy(cycle, rng):
    f = rng.standard_normal((15, 15))
    before, network = cycle(f), to_conv(cycle).requires_grad_()
    network(image(f)).square().sum().backward()
    torch.optim.SGD(network.parameters(), 1e-3).step()
    np.testing.assert_array_equal(cycle(f), before)
    assert np.abs(network(f) - before).max() > 0


def test_its_state_dict_has_every_number_once_and_survives_a_file(cycle, rng, tmp_path):
    pytest.importorskip("safetensors")
    network, f = to_conv(cycle), rng.standard_normal((15, 15))
    state = network.state_dict()
    storages = [value.untyped_storage().data_ptr() for value in state.values()]
    assert len(set(storages)) == len(storages)
    unique = sum(value.numel() for value in itertools.chain(network.parameters(), network.buffers()))
    assert sum(value.numel() for value in state.values()) == unique
    save_weights(network, tmp_path / "cycle.safetensors")
    other = to_conv(cycle)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.zero_()
    load_weights(other, tmp_path / "cycle.safetensors")
    np.testing.assert_array_equal(other(f), network(f))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))], ids=["copy", "pickle"])
def test_twins_do_the_same_and_stand_apart(cycle, rng, twin):
    network, f = to_conv(cycle), rng.standard_normal((15, 15))
    wanted, made = network(f), twin(network)
    np.testing.assert_array_equal(made(f), wanted)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(network(f), wanted)


def test_several_right_hand_sides_at_once(cycle, rng):
    fs, us = rng.standard_normal((2, 5, 15, 15))
    found = to_conv(cycle)(image(*fs), image(*us))
    assert found.shape == (5, 1, 15, 15)
    for number in range(5):
        assert_close(found[number, 0].numpy(), cycle(fs[number], us[number]))


def test_what_comes_in_stays_as_it_is(cycle, rng):
    network, (f, u) = to_conv(cycle), rng.standard_normal((2, 15, 15))
    before = f.copy(), u.copy()
    network(f, u)
    tensors = image(f), image(u)
    network(*tensors)
    for now, then in zip((f, u), before, strict=True):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(array(now), then)


def test_single_precision(cycle, rng):
    f = rng.standard_normal((15, 15))
    network = to_conv(cycle)
    found = network(f.astype(np.float32))
    assert found.dtype == np.float32  # computed in float64 all the same
    assert_close(found, cycle(f).astype(np.float32), 1e-6)
    single = to_conv(cycle).float()
    assert_close(array(single(image(f.astype(np.float32)))), cycle(f).astype(np.float32), 1e-5)
    assert single(f).dtype == np.float64


@pytest.fixture
def network():
    return to_conv(unigrid.StencilCycle(unigrid.Poisson((15, 15)), smoother=JACOBI))


@pytest.mark.parametrize("shape", [(31, 31), (7, 7), (15, 31), (16, 16), (15,), (7, 7, 7), (0, 0)], ids=str)
def test_arrays_of_another_size_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"made for|made from|axes|shape"):
        network(np.zeros(shape))


@pytest.mark.parametrize("shape", [(31, 31), (7, 7)], ids=str)
def test_tensors_of_another_size_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"made for|made from|axes|shape"):
        network(torch.zeros(1, 1, *shape, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(1, 15), (15, 1), (15,), ()], ids=str)
def test_a_state_of_another_shape_is_never_spread_over_the_grid(network, shape):
    with pytest.raises(ValueError, match="u"):
        network(np.zeros((15, 15)), np.ones(shape))


def test_the_trace_shows_what_the_direct_solver_leaves():
    network = to_conv(unigrid.StencilCycle(unigrid.Poisson((15, 15))))
    f = np.ones((15, 15))
    states = network.trace(image(f))[1]
    assert states[-1].residual.abs().max() < 1e-10 * states[-1].data.abs().max()


# ------------------------------------------------------------------------------------------------------------- refused


class Own(unigrid.Smoother):
    def __call__(self, operator, f, u):
        return 0.1 * f if u is None else u + 0.1 * (f - operator(u))


@pytest.mark.parametrize(
    ("shape", "problem", "options", "reason"),
    [
        ((31,), {}, {}, "images of grids, which have 2 axes; this problem has 1"),
        ((7, 7, 7), {}, {}, "images of grids, which have 2 axes; this problem has 3"),
        ((15, 15), {}, {"smoother": "gauss-seidel"}, "lexicographic Gauss-Seidel .* red-black order is one"),
        ((15, 15), {}, {"smoother": JACOBI, "post_smoother": "gauss-seidel"}, "lexicographic Gauss-Seidel"),
        ((15, 15), {}, {"coarsest": unigrid.GaussSeidel()}, "lexicographic Gauss-Seidel"),
        ((15, 15), {}, {"smoother": Own()}, "Own is no known convolution; known are Jacobi.*LearnedSmoother"),
        ((15, 15), {}, {"pre": 0}, "pre=0.*take pre >= 1"),
        ((30, 30), {}, {"smoother": "jacobi"}, r"level 0: the restriction between 30 and 15 unknowns.*2\^k - 1"),
        ((22, 22), {"centering": "cell"}, {"smoother": "jacobi"}, r"level 1: the restriction between 11 and 6 unknowns"),
        ((15, 16), {}, {"smoother": "jacobi"}, "level 0"),
        ((15, 14), {"boundary": P}, {}, "periodic axis of odd length two neighbors share a color.*even number"),
        ((15, 14), {"boundary": P}, {"smoother": "jacobi"}, "level 0"),
        ((15, 15), {}, {"prolongation": "cubic"}, "prolongation"),
        ((16, 16), {"centering": "cell"}, {"prolongation": "cubic"}, "prolongation"),
        ((127, 127), {}, {"max_levels": 1}, r"16129 unknowns.*at most 4096\^2.*Leave max_levels out"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_no_convolution_is_refused_with_the_reason(shape, problem, options, reason):
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape, lengths=1.0, **problem), **options)
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        to_conv(cycle)


def test_a_transfer_of_ones_own_is_refused():
    class Every(unigrid.Restriction):
        def __call__(self, residual):
            return residual[1::2, 1::2]

    with pytest.raises(ValueError, match="Every is no known convolution"):
        to_conv(unigrid.StencilCycle(unigrid.Poisson((15, 15)), restriction=Every()))


@pytest.mark.parametrize("bad", [None, "V", unigrid.Poisson((7, 7)), np.zeros((3, 3))], ids=lambda bad: type(bad).__name__)
def test_what_is_no_hierarchy_is_refused(bad):
    with pytest.raises(TypeError, match=rf"to_conv takes a unigrid\.StencilCycle, got {type(bad).__name__}"):
        to_conv(bad)


def test_steps_are_counted_once():
    """pre=3 Jacobi steps share one B: one weight in the state_dict, three steps in the network."""
    network = to_conv(unigrid.StencilCycle(unigrid.Poisson((7, 7)), smoother=JACOBI, pre=3, post=0, max_levels=2))
    level = network.levels[0]
    assert len(level.smoother.steps) == 3
    assert sum(parameter.numel() for parameter in level.smoother.parameters()) == 1
    assert level.post_smoother is None
    assert isinstance(unigrid.StencilCycle(unigrid.Poisson((7, 7)), pre=3, max_levels=2).levels[0].smoother, Steps)


def test_coefficients_that_vary_are_no_convolution():
    """Their operator multiplies two inputs; constant ones, of one axis each, are a kernel."""
    varying = unigrid.GalerkinCycle(unigrid.Poisson((31, 31), coefficient=lambda x, y: 1 + x))
    with pytest.raises(TypeError, match="same kernel at every point, and couplings that vary multiply u by a second input"):
        to_conv(varying)
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31), coefficient=(1.0, 0.8)), smoother="jacobi")
    f = np.random.default_rng(0).standard_normal((31, 31))
    assert np.abs(to_conv(cycle)(f) - cycle(f)).max() < 1e-14 * np.abs(cycle(f)).max() * 10
