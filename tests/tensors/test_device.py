"""The torch backend, `backend="torch"`, on tensors of the CPU: against the NumPy backend, and for what it transfers."""

import itertools

import numpy as np
import pytest
from tiers import generator

import unigrid

torch = pytest.importorskip("torch")
from transfers import Transfers, refused  # noqa: E402

from unigrid.stencil import kernels  # noqa: E402
from unigrid.tensors import device, device_levels  # noqa: E402

SIDES = ["periodic", *itertools.product(["dirichlet", "neumann"], repeat=2)]
SMOOTHERS = [None, "red-black", "jacobi", "chebyshev", unigrid.RedBlack(1.1, "black"), unigrid.Chebyshev(2)]
LARGEST = {1: 256, 2: 60, 3: 16}
COUNT = 200


def options_of(number):
    """Return the keywords of a random problem, and its source."""
    rng = generator(f"device {number}")
    ndim, centering = 1 + number % 3, ["vertex", "cell"][rng.integers(2)]
    sides = [SIDES[rng.integers(len(SIDES))] for _ in range(ndim)]
    if number % 5 == 0:
        sides = [["periodic", ("neumann", "neumann")][rng.integers(2)] for _ in range(ndim)]
    values = {"dirichlet": unigrid.Dirichlet, "neumann": unigrid.Neumann}
    boundary = [
        each if each == "periodic" else tuple(values[name](float(rng.normal()) * (number % 2)) for name in each)
        for each in sides
    ]
    shape = tuple(int(n) for n in rng.integers(4, LARGEST[ndim], ndim))
    keywords = {
        "spacing": tuple(rng.uniform(0.5, 2.0, ndim) / 20), "boundary": boundary, "centering": centering,
        "reaction": [0.0, float(rng.uniform(0, 30))][rng.integers(2)], "compatibility": "project", "maxiter": 12,
        "cycle": "VWF"[rng.integers(3)], "smoother": SMOOTHERS[rng.integers(len(SMOOTHERS))],
        "start": ["fmg", "fmg", "zero"][rng.integers(3)], "raise_on_failure": False,
    }  # fmt: skip
    return rng.standard_normal(shape), keywords


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))])
def test_random_problems_are_solved_as_by_numpy(part):
    """200 problems: dimensions, sides, values, sizes that do not nest, reactions, singular ones, cycles, smoothers, starts."""
    for number in range(part * COUNT // 8, (part + 1) * COUNT // 8):
        f, keywords = options_of(number)
        expected = unigrid.solve(f, **keywords)
        solution = unigrid.solve(torch.from_numpy(f), backend="torch", **keywords)
        assert solution.iterations == expected.iterations, (number, keywords)
        assert solution.reason == expected.reason, (number, keywords)
        scale = np.abs(expected.u).max()
        assert np.abs(solution.u.numpy() - expected.u).max() <= 1e-12 * scale, (number, f.shape, keywords)


@pytest.mark.parametrize(
    ("boundary", "reaction"), [("dirichlet", 0.0), ("neumann", 0.0), ("neumann", 2.0), (unigrid.Dirichlet(1.5), 1.0)]
)
def test_one_number_per_cycle_leaves_the_device(monkeypatch, boundary, reaction):
    cycle = unigrid.StencilCycle(unigrid.Poisson((33, 24), boundary=boundary, reaction=reaction))
    f = torch.from_numpy(generator("transfers").standard_normal((33, 24)))
    options = unigrid.stencil.solving.SolveOptions(backend="torch", compatibility="project", rtol=1e-9)
    device.cycle_on(cycle, f, options)  # set-up takes tables from the host to the device
    for name in ("numpy", "tolist", "cpu", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, refused)
    counts = []
    for maxiter in (3, 5):
        limited = unigrid.stencil.solving.SolveOptions(
            backend="torch", compatibility="project", rtol=1e-30, maxiter=maxiter, raise_on_failure=False
        )
        with Transfers() as transfers:
            assert device.solve_on_device(cycle, f, limited).iterations == maxiter
        counts.append(transfers.synchronizations)
    assert counts[1] - counts[0] <= 2  # in two more cycles
    assert counts[0] <= 3 + 7  # besides the norms and means before the first and after the last


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 10))])
def test_random_waves_are_solved_as_by_numpy(part):
    """60 problems with reactions below zero, half of them with coefficients that vary."""
    for number in range(part * 6, part * 6 + 6):
        rng = generator(f"waves on a device {number}")
        ndim = 1 + number % 3
        shape = tuple(int(n) for n in rng.integers(*[(60, 300), (25, 60), (12, 20)][ndim - 1], ndim))
        keywords = {
            "spacing": 1.0, "boundary": [SIDES[rng.integers(len(SIDES))] for _ in shape],
            "centering": ["vertex", "cell"][rng.integers(2)], "reaction": -(rng.uniform(0.05, 0.55) ** 2), "maxiter": 30,
            "raise_on_failure": False, "accelerate": ["auto", "auto", "gmres"][rng.integers(3)],
            "start": ["fmg", "zero"][rng.integers(2)],
        }  # fmt: skip
        if number % 2:
            keywords["coefficient"] = 1.5 * np.exp(0.3 * rng.random(shape))
        f = rng.standard_normal(shape)
        expected = unigrid.solve(f, **keywords)
        solution = unigrid.solve(torch.from_numpy(f), backend="torch", **keywords)
        assert (solution.iterations, solution.reason) == (expected.iterations, expected.reason), (number, keywords)
        assert np.abs(solution.u.numpy() - expected.u).max() <= 1e-12 * np.abs(expected.u).max(), (number, shape, keywords)


def test_the_solve_is_differentiable_by_itself():
    """Gradients through all cycles are those of the adjoint solve, which is another way to them."""
    cycle = unigrid.StencilCycle(unigrid.Poisson((11, 9), boundary=[("neumann", "dirichlet"), "dirichlet"]))
    f = torch.from_numpy(generator("unrolled").standard_normal((11, 9)))
    v = torch.from_numpy(generator("slope").standard_normal((11, 9)))
    options = unigrid.stencil.solving.SolveOptions(backend="torch", rtol=1e-13)
    unrolled, adjoint = f.clone().requires_grad_(), f.clone().requires_grad_()
    (device.solve_on_device(cycle, unrolled, options).u * v).sum().backward()
    (cycle.solve(adjoint, backend="torch", rtol=1e-13).u * v).sum().backward()
    expected = np.linalg.solve(cycle.problem.matrix().toarray().T, v.numpy().ravel()).reshape(11, 9)
    assert np.abs(adjoint.grad.numpy() - expected).max() < 1e-11 * np.abs(expected).max()
    assert np.abs(unrolled.grad.numpy() - expected).max() < 1e-9 * np.abs(expected).max()


def test_batches_single_precision_starts_and_callbacks():
    rng = generator("batches on a device")
    f, seen = torch.from_numpy(rng.standard_normal((2, 3, 17, 12))), []
    together = unigrid.solve(f, batch_dims=2, backend="torch", rtol=1e-11)
    assert len(together.parts) == 6
    for k, own in enumerate(f.reshape(6, 17, 12)):
        expected = unigrid.solve(own.numpy(), rtol=1e-11)
        assert np.abs(together.u.reshape(6, 17, 12)[k].numpy() - expected.u).max() < 1e-12 * np.abs(expected.u).max()
    single = unigrid.solve(f[0, 0].float(), backend="torch", callback=seen.append)
    assert single.u.dtype == torch.float32
    assert len(seen) == single.iterations
    again = unigrid.solve(f[0, 0], backend="torch", u0=together.u[0, 0], rtol=1e-10)
    assert again.iterations == 0
    assert unigrid.solve(f[0, 0], backend="torch", rtol="discretization").iterations == 1
    injected = {"restriction": "half-weighting", "prolongation": "cubic"}
    expected = unigrid.solve(f[0, 0, :, :7].numpy()[:15], **injected, smoother="jacobi", maxiter=3, raise_on_failure=False)
    solution = unigrid.solve(
        f[0, 0, :15, :7], **injected, smoother="jacobi", maxiter=3, raise_on_failure=False, backend="torch"
    )
    assert np.abs(solution.u.numpy() - expected.u).max() < 1e-12 * np.abs(expected.u).max()


@pytest.mark.parametrize(
    ("keywords", "error", "advice"),
    [
        ({"smoother": "gauss-seidel"}, TypeError, "red-black, jacobi or chebyshev, got GaussSeidel"),
        ({"order": 4}, TypeError, "order 2.*f.cpu"),
        ({"reaction": -5.0, "rtol": "discretization"}, ValueError, "for reactions >= 0; give a number"),
        ({"accelerate": "minres"}, ValueError, "accelerate is there on the CPU alone.*leave it out, or give f.cpu"),
        (
            {"precision": "mixed", "coefficient": np.linspace(1.0, 2.0, 81).reshape(9, 9)},
            ValueError,
            "leave it out, or give f.cpu",
        ),
        ({"backend": "triton"}, ValueError, "needs a tensor on a CUDA device.*got one on cpu.*backend='torch'"),
        ({"backend": "numpy"}, ValueError, "unknown backend .numpy.; allowed"),
        ({"boundary": "neumann"}, ValueError, "compatibility='project'"),
    ],
)
def test_what_has_no_kernels_is_refused_with_the_way_out(keywords, error, advice):
    with pytest.raises(error, match=advice):
        unigrid.solve(torch.ones(9, 9, dtype=torch.float64), **{"backend": "torch", **keywords})


def test_numpy_arrays_and_bad_tensors_are_refused():
    with pytest.raises(TypeError, match=r"torch\.from_numpy"):
        unigrid.solve(np.ones((9, 9)), backend="torch")
    with pytest.raises(ValueError, match="finite"):
        unigrid.solve(torch.full((9, 9), torch.nan), backend="torch")
    with pytest.raises(ValueError, match="u0 must have the shape"):
        unigrid.solve(torch.ones(9, 9), u0=torch.ones(8), backend="torch")
    cycle = unigrid.StencilCycle(unigrid.Poisson((9, 9)))
    with pytest.raises(ValueError, match="must have shape"):
        cycle.solve(torch.ones(9, 8), backend="torch")


def test_tensors_have_kernels_of_their_own():
    assert kernels.of(torch.ones(3)).__name__.endswith("slices")


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_gathered_and_sliced_stencils_are_the_matrix(centering):
    """Both forms of A, on every mix of sides, against the sparse matrix, which is put together by itself."""
    for boundary in itertools.product(SIDES, [("dirichlet", "neumann"), "periodic"]):
        problem = unigrid.Poisson((5, 4), boundary=list(boundary), centering=centering, reaction=0.7)
        u = torch.from_numpy(generator("forms").standard_normal((5, 4)))
        expected = (problem.matrix() @ u.numpy().ravel()).reshape(5, 4)
        for compiled in (False, True):
            tables = device_levels.DeviceOperator(problem.operator, u.device, u.dtype, compiled).tables(u.dtype)
            assert np.abs(kernels.of(u).apply(u, tables).numpy() - expected).max() < 1e-12 * np.abs(expected).max()
            zero = kernels.of(u).residual(torch.from_numpy(expected), u, tables)
            assert zero.abs().max() < 1e-12 * np.abs(expected).max()


@pytest.mark.slow
def test_compiled_slots_are_the_same(monkeypatch):
    monkeypatch.setattr(device, "COMPILED_FROM", 400)
    f = generator("compiled").standard_normal((33, 29))
    expected = unigrid.solve(f)
    solution = unigrid.solve(torch.from_numpy(f), backend="torch-compiled")
    assert solution.iterations == expected.iterations
    assert np.abs(solution.u.numpy() - expected.u).max() < 1e-12 * np.abs(expected.u).max()
