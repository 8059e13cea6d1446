"""The slots of networks on grids with sides, module by module, against plain indexing."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from tiers import pack
from torch import nn

import unigrid
from unigrid.conv import Borrowed
from unigrid.conv.grids import Checkerboard, Colored, DenseSolve, Extended, GridProlongation, Repeated, Rescaling
from unigrid.reflection import Reflection, extended

ZERO, ODD, EVEN, MIRROR, WRAP = (
    Reflection(0, 0.0), Reflection(0, -1.0), Reflection(0, 1.0), Reflection(1, 1.0), Reflection(-1, 1.0),
)  # fmt: skip
PAIRS = [(ZERO, ZERO), (ODD, EVEN), (MIRROR, ZERO), (WRAP, WRAP)]


def images(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pack
@pytest.mark.parametrize("depths", [((1, 1), (1, 1)), ((0, 1), (1, 0)), ((0, 0), (0, 1)), ((0, 0), (0, 0))], ids=str)
@pytest.mark.parametrize("sides", list(itertools.product(PAIRS, repeat=2)), ids=str)
def test_extended_is_the_extension_of_arrays(sides, depths):
    values = images(2, 3, 4, 5)
    found = Extended(sides, depths)(values).numpy()
    np.testing.assert_array_equal(found, extended(values.numpy(), sides, depths, np.concatenate))
    assert found.shape == (2, 3, 4 + sum(depths[0]), 5 + sum(depths[1]))


def test_extended_passes_gradients_and_precision():
    values = images(1, 1, 4, 4).float().requires_grad_()
    out = Extended(((ODD, MIRROR), (WRAP, WRAP)), ((1, 1), (1, 1)))(values)
    assert out.dtype == torch.float32
    out.sum().backward()
    # Rows: first 1 - 1, third 1 + 1, others 1; columns: the ends count twice.
    np.testing.assert_allclose(values.grad[0, 0], np.outer([0, 1, 2, 1], [2, 1, 1, 2]))


@pytest.mark.parametrize("color", [0, 1])
def test_a_checkerboard_keeps_one_color(color):
    values = images(2, 1, 5, 4)
    kept = Checkerboard(color)(values)
    for i, j in itertools.product(range(5), range(4)):
        assert torch.equal(kept[:, :, i, j], values[:, :, i, j] * float((i + j) % 2 == color))
    assert kept.dtype == torch.float64
    values[0, 0, color, 1] = np.nan  # of the other color: zeroed, not multiplied by zero
    assert torch.isfinite(Checkerboard(color)(values)).all()


def test_colored_is_a_masked_convolution_that_may_be_anothers():
    convolution, values = nn.Conv2d(1, 1, 3, padding=1).double(), images(2, 1, 4, 4)
    wanted = Checkerboard(1)(convolution(values))
    assert torch.equal(Colored(convolution, 1)(values), wanted)
    assert list(Colored(convolution, 1).state_dict()) == ["convolution.weight", "convolution.bias"]
    borrowing = Colored(Borrowed(convolution), 1)
    assert torch.equal(borrowing(values), wanted)
    assert not borrowing.state_dict()


def test_rescaling_is_no_parameter_and_is_kept():
    weight = images(3, 4)
    module, values = Rescaling(weight), images(2, 1, 3, 4)
    assert torch.equal(module(values), values * weight)
    assert not list(module.parameters())
    assert list(module.state_dict()) == ["weight"]
    assert module.float().weight.dtype == torch.float32


class Adding(nn.Module, unigrid.Smoother):
    def __init__(self, number, cost):
        super().__init__()
        self.number, self.own_cost = nn.Parameter(torch.tensor(number)), cost

    @property
    def cost(self):
        return self.own_cost

    def forward(self, operator, f, u):
        return self.number * operator.residual(f, u) if u is None else 2 * u + self.number * operator.residual(f, u)


class Halving(unigrid.Operator):
    def __call__(self, u):
        return 0.5 * u


def test_repeated_hands_on_u_from_one_step_to_the_next():
    thrice, f = Repeated(Adding(3.0, 2), 3), images(1, 1, 2, 2)
    once = 3.0 * f
    twice = 2 * once + 3.0 * (f - 0.5 * once)
    torch.testing.assert_close(thrice(Halving(), f, None), 2 * twice + 3.0 * (f - 0.5 * twice))
    torch.testing.assert_close(thrice(Halving(), f, once), thrice(Halving(), f, 3.0 * f))
    assert thrice.cost == 6
    assert len(list(thrice.parameters())) == 1


def test_a_dense_solve_is_a_matrix_whatever_u():
    inverse = images(6, 6)
    layer, f = DenseSolve(inverse, (2, 3)), images(4, 1, 2, 3)
    for u in (None, images(4, 1, 2, 3)):
        found = layer(Halving(), f, u)
        np.testing.assert_allclose(found.reshape(4, 6), f.reshape(4, 6) @ inverse.T, rtol=1e-13)
        assert found.shape == f.shape
    assert list(layer.state_dict()) == ["inverse"]
    assert not list(layer.parameters())
    assert "shape=(2, 3)" in repr(layer)


@pytest.mark.parametrize("shape", [(4, 1, 3, 2), (4, 2, 2, 3), (4, 1, 6, 1)], ids=str)
def test_a_dense_solve_is_of_one_size(shape):
    with pytest.raises(ValueError, match=r"made for one channel of \(2, 3\)"):
        DenseSolve(images(6, 6), (2, 3))(Halving(), images(*shape), None)


@pack
@pytest.mark.parametrize("stride", [(2, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("surplus", [(1, 1), (0, 1), (-1, 0)], ids=str)
@pytest.mark.parametrize("starts", [(0, 0), (1, 2)], ids=str)
def test_a_prolongation_spreads_and_cuts(stride, surplus, starts):
    convolution = nn.ConvTranspose2d(1, 1, (5, 4), stride, bias=False).double()
    sides, depths, values = ((ODD, MIRROR), (WRAP, WRAP)), ((1, 0), (1, 1)), images(2, 1, 4, 3)
    shape = tuple(step * n + more for step, n, more in zip(stride, (4, 3), surplus, strict=True))
    found = GridProlongation(Extended(sides, depths), convolution, starts, surplus)(values).detach().numpy()
    assert found.shape == (2, 1, *shape)
    wide = extended(values.numpy(), sides, depths, np.concatenate)
    spread = np.zeros((2, 40, 40))
    for i, j, k, m in itertools.product(range(wide.shape[2]), range(wide.shape[3]), range(5), range(4)):
        weight = convolution.weight[0, 0, k, m].item()
        spread[:, stride[0] * i + k, stride[1] * j + m] += weight * wide[:, 0, i, j]
    cut = spread[:, starts[0] : starts[0] + shape[0], starts[1] : starts[1] + shape[1]]
    np.testing.assert_allclose(found[:, 0], cut, rtol=0, atol=1e-14)
    after = nn.Conv2d(1, 1, 3, padding=1).double()
    plain, filtering = (GridProlongation(nn.Identity(), convolution, (0, 0), (0, 0), part) for part in (None, after))
    assert torch.equal(filtering(values), after(plain(values)))
    assert "filter.weight" in filtering.state_dict()
    assert "starts=(0, 0), surplus=(0, 0)" in repr(filtering)


def test_all_of_them_can_be_pickled():
    values = images(1, 1, 4, 4)
    for module in (Extended(((ODD, EVEN),) * 2, ((1, 1),) * 2), Checkerboard(0), Rescaling(images(4, 4))):
        assert torch.equal(pickle.loads(pickle.dumps(module))(values), module(values))


# ------------------------------------------------------------------------------------ ConvCycle on arrays of one channel


def test_a_cycle_takes_arrays_and_gives_arrays(rng):
    from unigrid.conv import ConvCycle, ConvLevel, ConvOperator, Extraction, FeatureExtraction

    identities = nn.Identity(), nn.Identity()
    B = Extraction(nn.Conv2d(1, 1, 3, padding=1, bias=False), identities, nn.Identity())
    network = ConvCycle([ConvLevel(ConvOperator(nn.Conv2d(1, 1, 3, padding=1, bias=False)), FeatureExtraction([B]))])
    f, u = rng.standard_normal((2, 6, 7)).astype(np.float32)
    wanted = network(torch.from_numpy(f)[None, None], torch.from_numpy(u)[None, None])[0, 0].detach().numpy()
    found = network(f, u)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)
    assert network(f.astype(np.float64), u.astype(np.float64)).dtype == np.float64
    np.testing.assert_array_equal(network(f[::-1], u[::-1]), network(f[::-1].copy(), u[::-1].copy()))
    f.flags.writeable = False
    network(f)
