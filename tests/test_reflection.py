"""What lies beyond the sides of a grid, held against numpy.pad and against the reference's ghosts; arrays and tensors alike."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.reflection import Reflection, extended
from unigrid.stencil.grid import Axis
from unigrid.stencil.kernels import reference

D, N, P = unigrid.Dirichlet, unigrid.Neumann, unigrid.Periodic
SIDES = [(D, D), (D, N), (N, D), (N, N), (P, P)]
EVERY_AXIS = pytest.mark.parametrize(("sides", "centering"), list(itertools.product(SIDES, ("vertex", "cell"))), ids=str)


def by_numpy(array, number, axis, depth):
    """Add the ghosts of one axis by numpy.pad, each end for itself."""
    if axis.periodic:
        return np.pad(array, [depth if number == other else (0, 0) for other in range(array.ndim)], mode="wrap")
    for end, (side, count) in enumerate(zip((axis.low, axis.high), depth, strict=True)):
        width = [(0, 0)] * array.ndim
        width[number] = (0, count) if end else (count, 0)
        if axis.centering == "cell":
            array = np.pad(array, width, mode="symmetric")
            ghost = np.moveaxis(array, number, 0)[-1:] if end else np.moveaxis(array, number, 0)[:1]
            ghost *= -1 if side is D and count else 1
        else:
            array = np.pad(array, width, mode="constant" if side is D else "reflect")
    return array


@pack
@pytest.mark.parametrize("depth", list(itertools.product((0, 1), repeat=2)), ids=str)
@EVERY_AXIS
def test_one_axis_equals_numpy_pad(sides, centering, depth, rng):
    axis = Axis(5, 0.3, *sides, centering)
    values = rng.standard_normal(5)
    found = extended(values, (axis.reflections,), (depth,), np.concatenate)
    np.testing.assert_array_equal(found, by_numpy(values, 0, axis, depth))


@EVERY_AXIS
def test_the_reflections_are_those_of_the_operator(sides, centering, rng):
    """The oracle of the kernels writes the ghosts a third time: an operator and a convolution mean the same at a side."""
    for n in (2, 3, 8):
        axis = Axis(n, 0.3, *sides, centering)
        values = rng.standard_normal(n)
        found = extended(values, (axis.reflections,), ((1, 1),), np.concatenate)
        np.testing.assert_array_equal(found, reference.padded(values, axis))


def test_one_unknown_is_reflected_too():
    values = np.array([3.0])
    for sides, centering, ghosts in (
        ((D, D), "vertex", (0, 0)), ((D, D), "cell", (-3, -3)), ((D, N), "cell", (-3, 3)), ((N, N), "cell", (3, 3)),
        ((P, P), "vertex", (3, 3)),
    ):  # fmt: skip
        axis = Axis(1, 0.5, *sides, centering)
        assert extended(values, (axis.reflections,), ((1, 1),), np.concatenate).tolist() == [ghosts[0], 3, ghosts[1]]


@pytest.mark.parametrize(
    ("sides", "centering"), [((D, N), "vertex"), ((N, D), "vertex")], ids=["dirichlet-neumann", "neumann-dirichlet"]
)
def test_one_vertex_between_a_dirichlet_and_a_neumann_side_has_zeros_beyond_both(sides, centering):
    """The node mirrored in the Neumann side is the Dirichlet node, where u = 0; A sees it so, and so must a kernel."""
    axis = Axis(1, 0.5, *sides, centering)
    assert extended(np.array([3.0]), (axis.reflections,), ((1, 1),), np.concatenate).tolist() == [0, 3, 0]


@pytest.mark.parametrize("pair", list(itertools.product(itertools.product(SIDES, ("vertex", "cell")), repeat=2))[::7], ids=str)
def test_corners_are_reflections_of_reflections(pair, rng):
    axes = [Axis(n, 0.3, *sides, centering) for n, (sides, centering) in zip((4, 3), pair, strict=True)]
    values = rng.standard_normal((4, 3))
    sides = tuple(axis.reflections for axis in axes)
    found = extended(values, sides, ((1, 1), (1, 1)), np.concatenate)
    expected = by_numpy(by_numpy(values, 0, axes[0], (1, 1)), 1, axes[1], (1, 1))
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (6, 5)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.stack([values, 2 * values]))[:, None]
    made = extended(tensor, sides, ((1, 1), (1, 1)), torch.cat)
    np.testing.assert_array_equal(made[:, 0].numpy(), np.stack([expected, 2 * expected]))


def test_the_precision_stays_and_the_values_do_too(rng):
    values = rng.standard_normal((3, 4)).astype(np.float32)
    before = values.copy()
    sides = ((Reflection(0, -1.0), Reflection(0, 1.0)), (Reflection(-1, 1.0), Reflection(-1, 1.0)))
    made = extended(values, sides, ((1, 1), (0, 1)), np.concatenate)
    assert made.dtype == np.float32
    made[:] = 0
    np.testing.assert_array_equal(values, before)


def test_leading_axes_are_left_alone(rng):
    values = rng.standard_normal((2, 3, 4, 5))
    sides = ((Reflection(1, 1.0),) * 2,) * 2
    found = extended(values, sides, ((1, 0), (0, 1)), np.concatenate)
    assert found.shape == (2, 3, 5, 6)
    np.testing.assert_array_equal(found[:, :, 0, :5], values[:, :, 1])


def test_one_pair_of_sides_and_depths_an_axis():
    with pytest.raises(ValueError, match="zip"):
        extended(np.zeros((3, 3)), ((Reflection(0, 1.0),) * 2,) * 2, ((1, 1),), np.concatenate)
