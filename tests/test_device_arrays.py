"""Arrays of CuPy, which come back as what they were; by a stand-in for CuPy, as there need be no GPU."""

import contextlib
import sys
import types

import numpy as np
import pytest

import unigrid
from unigrid import arrays

F = np.random.default_rng(0).standard_normal((9, 8))
CUDA = (2, 0)


class Array:
    """What CuPy's arrays do with NumPy and DLPack: nothing by itself, and copies by `get`."""

    def __init__(self, array):
        self._array = np.array(array)
        self.shape, self.dtype, self.ndim = self._array.shape, self._array.dtype, self._array.ndim
        self.device = contextlib.nullcontext()

    def get(self):
        return self._array.copy()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __len__(self):
        return len(self._array)

    def __getitem__(self, index):
        return cupy_array(self._array[index])

    def __dlpack_device__(self):
        return CUDA

    def __dlpack__(self, **options):
        return self._array.__dlpack__()


def cupy_array(array):
    return sys.modules["cupy"].ndarray(array)


@pytest.fixture
def cupy(monkeypatch):
    """A module of that name."""
    module = types.ModuleType("cupy")
    module.ndarray = type("ndarray", (Array,), {"__module__": "cupy"})
    module.asarray = module.ndarray
    module.from_dlpack = lambda tensor: module.ndarray(tensor.numpy())
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def with_cuda(monkeypatch):
    """Torch as where it has CUDA; tensors are on the CPU. The list gets what is taken by DLPack."""
    torch, taken = pytest.importorskip("torch"), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "from_dlpack", lambda f: taken.append(f) or torch.from_numpy(f.get()))
    return taken


PROBLEMS = {
    "plain": (F, {}),
    "half": (F.astype("f2"), {}),
    "integers": ((10 * F).astype("i4"), {}),
    "complex": (F + 2j * F[::-1], {"reaction": 1.0, "u0": F + 1j}),
    "channels": (F, {"channels": "last"}),
    "batch": (np.stack([F, 2 * F]), {"batch_dims": 1}),
    "arguments": (
        F,
        {"reaction": abs(F), "coefficient": 1 + abs(F), "u0": F, "boundary": [unigrid.Dirichlet(F[0]), "neumann"]},
    ),
    "mask": (F, {"mask": F < 1, "outside": F}),
    "side": (F, {"boundary": [("dirichlet", unigrid.Robin(2.0, F[0])), "periodic"]}),
}


def on_gpu(value, cupy):
    return arrays.rebuilt(value, lambda each: cupy.ndarray(each) if isinstance(each, np.ndarray) else each)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("cuda", [False, True], ids=["host", "tensors"])
def test_they_come_back_on_the_gpu(name, cuda, cupy, request):
    taken = request.getfixturevalue("with_cuda") if cuda else []
    f, options = PROBLEMS[name]
    expected = unigrid.solve(f, **options)
    solution = unigrid.solve(cupy.ndarray(f), **on_gpu(options, cupy))
    assert type(solution.u) is cupy.ndarray
    assert solution.u.dtype == expected.u.dtype
    assert np.array_equal(solution.u.get(), expected.u)
    assert [type(part.u) for part in solution.parts] == [cupy.ndarray] * len(expected.parts)
    assert len(taken) == cuda


@pytest.mark.parametrize("cuda", [False, True], ids=["host", "tensors"])
def test_cycles_and_callbacks(cuda, cupy, request):
    if cuda:
        request.getfixturevalue("with_cuda")
    options = {"backend": "torch"} if cuda else {}
    seen, cycle = [], unigrid.StencilCycle(unigrid.Poisson(F.shape, boundary=unigrid.Dirichlet(1.0)))
    solution = cycle.solve(cupy.ndarray(F), callback=lambda solution: seen.append(solution.u), **options)
    assert np.abs(solution.u.get() - cycle.solve(F).u).max() < 1e-12
    assert {type(each) for each in seen} == {cupy.ndarray}
    b = cycle.problem.rhs(cupy.ndarray(F))
    assert np.array_equal(b.get(), cycle.problem.rhs(F))


def test_the_device_of_torch_solves(cupy, with_cuda):
    u = unigrid.solve(cupy.ndarray(F), backend="torch").u
    assert np.abs(u.get() - unigrid.solve(F).u).max() < 1e-12
    with pytest.raises(TypeError, match=r"give f\.get\(\), without backend"):
        unigrid.solve(cupy.ndarray(F), backend="torch", order=4)


def test_arguments_beside_an_array_of_numpy(cupy):
    sides = {"boundary": [unigrid.Dirichlet(F[0]), "neumann"]}
    for options in (sides | {"reaction": abs(F), "coefficient": 1 + abs(F), "u0": F}, {"mask": F < 1, "outside": F}):
        assert np.array_equal(unigrid.solve(F, **on_gpu(options, cupy)).u, unigrid.solve(F, **options).u)


def test_gradients_are_not_lost(cupy, with_cuda):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="its gradient would be lost"):
        unigrid.solve(cupy.ndarray(F), reaction=torch.ones((), requires_grad=True))


def test_other_arrays_on_a_gpu(cupy, monkeypatch, request):
    """Those of a library with a namespace are tensors too; without CUDA for torch they are refused."""
    other = type("Other", (Array,), {"__array_namespace__": lambda self: cupy})
    with pytest.raises(TypeError, match="not in the memory of the CPU"):
        unigrid.solve(other(F))
    request.getfixturevalue("with_cuda")
    assert np.array_equal(unigrid.solve(other(F)).u.get(), unigrid.solve(F).u)
