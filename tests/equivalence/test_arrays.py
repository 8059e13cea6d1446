"""to_stencil: a linear network of one channel as a multigrid method on arrays; others are refused with the reason."""

import itertools
import pickle
import re

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from tiers import pack
from torch import nn

import unigrid
from unigrid.conv import ConvCycle, ConvLevel, ConvOperator, Extraction, FeatureExtraction, MgNet
from unigrid.conv.grids import Colored
from unigrid.equivalence import to_conv, to_stencil

LINEAR = {
    "features": 1, "in_channels": 1, "steps": (2, 3, 1), "norms": "none", "activation": "identity", "transfer_norms": False,
    "transfer_activation": False,
}  # fmt: skip
CHOICES = [
    dict(zip(("cycle", "semi_iteration", "state_transfer", "padding"), choice, strict=True))
    for choice in itertools.product(
        ("\\", "V"), ("none", "chebyshev"), ("convolution", "channelwise", "zero"), ("zeros", "circular")
    )
]


def linear(**choices):
    """Return the cycle of a linear MgNet of one channel with every number drawn anew, in float64."""
    network = MgNet(**{**LINEAR, **choices}).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network.cycle


def on_images(network, *arrays):
    with torch.no_grad():
        return network(*(torch.from_numpy(array)[None, None] for array in arrays))[0, 0].numpy()


def assert_close(found, wanted, tolerance=1e-12):
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 0
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pack
@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: "-".join(choices.values()))
def test_a_linear_mgnet_is_a_multigrid_method(choices, rng):
    network = linear(**choices)
    cycle = to_stencil(network)
    assert cycle.kind == network.kind
    for shape in ((16, 32), (8, 8)):
        f, u = rng.standard_normal((2, *shape))
        assert_close(cycle(f), on_images(network, f))
        if choices["state_transfer"] != "zero":  # else A of the last level, which has one step, is never applied
            assert_close(cycle(f, u), on_images(network, f, u))


@pack
@pytest.mark.parametrize("choices", [c for c in CHOICES if c["padding"] == "zeros"], ids=lambda c: "-".join(c.values()))
@pytest.mark.parametrize("shape", [(17, 13), (31, 6), (5, 5)], ids=str)
def test_odd_sizes_where_the_network_takes_them(choices, shape, rng):
    network = linear(**choices)
    f = rng.standard_normal(shape)
    try:
        wanted = on_images(network, f)
    except (RuntimeError, ValueError):
        with pytest.raises(ValueError, match=re.escape(str(shape[0]))):
            to_stencil(network)(f)
    else:
        assert_close(to_stencil(network)(f), wanted)


@pytest.mark.parametrize(
    "choices",
    [
        {"extractor_sharing": "scaled"},
        {"extractor_sharing": "step"},
        {"operator_sharing": "global"},
        {"operator": "nonlinear"},  # with the identity between its two convolutions
        {"steps": (1, 1)},
        {
            "steps": (4, 1),
            "semi_iteration": "chebyshev",
            "extractor_sharing": "step",
        },  # else the w commute
        {"steps": (3,)},
    ],
    ids=str,
)
def test_every_way_of_sharing(choices, rng):
    network, f = linear(**choices), rng.standard_normal((16, 8))
    assert_close(to_stencil(network)(f), on_images(network, f))


def test_slots_are_the_networks_slot_by_slot(rng):
    network = linear(cycle="V")
    for level, stencil in zip(network.levels, to_stencil(network).levels, strict=True):
        f, u = rng.standard_normal((2, 16, 8))
        pairs = [(level.operator, stencil.operator, (u,))]
        pairs += [(getattr(level, name), getattr(stencil, name), (u,)) for name in ("restriction", "state_transfer")]
        for module, slot, arrays in pairs:
            if module is not None:
                assert_close(slot(*arrays), on_images(module, *arrays))
        found = stencil.smoother(stencil.operator, f, u)
        images = [torch.from_numpy(array)[None, None] for array in (f, u)]
        assert_close(found, level.smoother(level.operator, *images)[0, 0].detach().numpy())
        assert_close(stencil.operator.residual(f, u), f - stencil.operator(u))


SMOOTHERS = [unigrid.Jacobi(0.8), unigrid.Chebyshev(4), unigrid.RedBlack(1.15), unigrid.RedBlack((1.2, 0.9))]


@pack
@pytest.mark.parametrize(
    "problem",
    [
        {"shape": (15, 31), "spacing": 1.0},
        {"shape": (16, 16), "boundary": "periodic", "reaction": 1.0},
        {"shape": (16, 32), "spacing": 1.0, "boundary": [("neumann", "neumann"), "periodic"], "centering": "cell"},
        {"shape": (17, 16), "spacing": 1.0, "boundary": ["neumann", ("dirichlet", "neumann")]},
    ],
    ids=str,
)
@pytest.mark.parametrize("smoother", SMOOTHERS, ids=repr)
def test_there_and_back(smoother, problem, rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson(**problem), smoother=smoother, post=1, cycle="W", state_transfer="injection")
    back = to_stencil(to_conv(cycle))
    f, u = rng.standard_normal((2, *cycle.problem.shape))
    for _ in range(3):
        assert_close(back(f, u), cycle(f, u))
        u = cycle(f, u)
    assert_close(back(f), cycle(f))
    single = back(f.astype(np.float32), u.astype(np.float32))
    assert single.dtype == np.float32
    assert_close(single, cycle(f, u), 1e-4)


def test_the_cycle_on_arrays_solves(rng):
    cycle = to_stencil(to_conv(unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother="chebyshev")))
    f = rng.standard_normal((31, 31))
    solution = unigrid.solve(f, cycle=cycle, rtol=1e-11)
    problem = unigrid.Poisson((31, 31))
    wanted = scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), f.ravel()).reshape(31, 31)
    assert_close(solution.u, wanted, 1e-9)


def test_the_cycle_on_arrays_can_be_pickled_and_keeps_its_numbers(rng):
    network = linear(cycle="V")
    cycle, f = to_stencil(network), rng.standard_normal((16, 16))
    again = pickle.loads(pickle.dumps(cycle))
    np.testing.assert_array_equal(again(f), cycle(f))
    # What it holds is numbers: the network may change or go.
    before = cycle(f)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(cycle(f), before)


def test_precision_and_inputs_are_kept(rng):
    network = linear(cycle="V", semi_iteration="chebyshev")
    cycle, (f, u) = to_stencil(network), rng.standard_normal((2, 16, 16))
    before = f.copy(), u.copy()
    single = cycle(f.astype(np.float32), u.astype(np.float32))
    assert single.dtype == np.float32
    assert_close(single, cycle(f, u), 1e-4)
    np.testing.assert_array_equal((f, u), before)
    f.flags.writeable = u.flags.writeable = False
    cycle(f, u)


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        ({"features": 2}, "maps between channels, weights .* a grid of numbers has one channel"),
        ({"features": 1, "data": 3}, "maps between channels"),
        ({"activation": "relu"}, "ReLU is not linear.*activation='identity'"),
        ({"activation": "tanh"}, "Tanh is not linear"),
        ({"norms": "step"}, "BatchNorm2d shifts what it scales; norms='none'"),
        ({"transfer_norms": True}, "the (restriction|state_transfer) of level 0 is no stencil: BatchNorm2d shifts"),
        ({"operator_norm": True}, "BatchNorm2d shifts"),
        ({"operator_sharing": "step"}, "is no stencil"),
        ({"semi_iteration": "multi-step"}, "use all earlier ones.*semi_iteration='chebyshev'"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_stencil_is_refused_with_the_reason(choices, reason):
    with pytest.raises(ValueError, match=f"(?s){reason}") as caught:
        to_stencil(linear(**choices))
    assert re.search(r"the \w+ of level \d is no stencil: ", str(caught.value))


def of(convolution, **options):
    identities = nn.Identity(), nn.Identity()
    B = Extraction(nn.Conv2d(1, 1, 3, padding=1, bias=False), identities, nn.Identity())
    return ConvCycle([ConvLevel(ConvOperator(convolution), FeatureExtraction([B]))])


@pytest.mark.parametrize(
    ("convolution", "reason"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), "a bias adds a constant"),
        (nn.Conv2d(1, 1, 5, padding=2, bias=False), r"pads by \(2, 2\)"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate", bias=False), "pads or dilates"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect", bias=False), "pads or dilates"),
        (nn.Conv2d(1, 1, 3, padding="same", bias=False), "pads or dilates"),
        (nn.Conv2d(1, 1, 3, padding=2, dilation=2, bias=False), "pads or dilates"),
        (nn.Conv2d(1, 2, 3, padding=1, bias=False), r"maps between channels, weights \(2, 1\)"),
        (nn.Dropout(), "Dropout is not linear, or not known to be"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Sigmoid()), "Sigmoid is not linear"),
        (nn.Linear(4, 4, bias=False), "Linear is not linear, or not known to be"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_convolutions_that_no_stencil_is(convolution, reason):
    with pytest.raises(ValueError, match=f"the operator of level 0 is no stencil: .*{reason}"):
        to_stencil(of(convolution))


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
        nn.Conv2d(1, 1, 1, bias=False),
        nn.Conv2d(1, 1, (3, 1), padding=(1, 0), bias=False),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False),
        Colored(nn.Conv2d(1, 1, 3, padding=1, bias=False), 1),
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Identity(), nn.Conv2d(1, 1, 1, bias=False)),
        nn.Sequential(),
    ],
    ids=lambda value: str(value)[:50],
)
def test_convolutions_that_are_one(convolution, rng):
    network = of(convolution).double()
    f, u = rng.standard_normal((2, 5, 6))
    assert_close(to_stencil(network)(f, u), on_images(network, f, u))


@pytest.mark.parametrize(
    "bad", [None, np.eye(3), nn.Conv2d(1, 1, 3), MgNet(steps=(1,), features=2)], ids=lambda b: type(b).__name__
)
def test_what_is_no_network_cycle_is_refused(bad):
    with pytest.raises(TypeError, match=f"takes a unigrid.ConvCycle or a trained Poisson network, got {type(bad).__name__}"):
        to_stencil(bad)


def test_a_hierarchy_is_one_already():
    with pytest.raises(TypeError, match="got StencilCycle"):
        to_stencil(unigrid.StencilCycle(unigrid.Poisson((7, 7))))


def test_a_problem_is_for_networks_that_fit_any():
    from unigrid.training import PoissonNet

    problem = unigrid.Poisson((9, 12))
    assert isinstance(to_stencil(PoissonNet(), problem), unigrid.StencilCycle)
    with pytest.raises(TypeError, match=r"so a problem is needed: to_stencil\(cycle, problem\)"):
        to_stencil(PoissonNet())
    with pytest.raises(TypeError, match="a ConvCycle has its own convolutions on every level"):
        to_stencil(linear(), problem)


@pytest.mark.parametrize("shape", [(7, 7), (31, 31), (16, 15)], ids=str)
def test_a_size_that_does_not_fit_is_refused(shape):
    cycle = to_stencil(to_conv(unigrid.StencilCycle(unigrid.Poisson((15, 15)))))
    with pytest.raises(ValueError, match=r"made for|grid"):
        cycle(np.ones(shape))


@pytest.mark.parametrize("shape", [(15,), (3, 15, 15)], ids=str)
def test_arrays_of_other_axes_are_refused_with_the_reason(shape):
    cycle = to_stencil(to_conv(unigrid.StencilCycle(unigrid.Poisson((15, 15)))))
    with pytest.raises(ValueError, match=r"axes|shape"):
        cycle(np.ones(shape))


def test_an_operator_that_is_never_applied_names_the_way_out():
    cycle = to_stencil(linear(state_transfer="zero", steps=(1,)))
    with pytest.raises(ValueError, match=r"this A has no weights.*start the cycle with u=None"):
        cycle(np.ones((8, 8)), np.ones((8, 8)))
