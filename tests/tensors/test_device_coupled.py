"""The torch backend where coefficients vary: against the NumPy backend and dense matrices, and for what it transfers."""

import numpy as np
import pytest
from assembly import draw_case
from tiers import generator

import unigrid
from unigrid.stencil import galerkin_levels

torch = pytest.importorskip("torch")
from transfers import Transfers, refused  # noqa: E402

from unigrid.tensors import device, device_coupled  # noqa: E402

LARGEST = {1: 150, 2: 24, 3: 9}
COUNT = 240
SMOOTHERS = ["auto", "points", "lines", unigrid.Points(1.3, True), unigrid.Lines((-1,), True)]


@pytest.fixture
def deep(monkeypatch):
    """Let coarsening go on where it would end, so that small grids have several levels."""
    for name in ("COARSEST_UNKNOWNS", "COARSEST_STRETCHED"):
        monkeypatch.setattr(galerkin_levels, name, 10)
    monkeypatch.setattr(galerkin_levels, "COARSEST_ROUGH", ((0.0, 0),))


def options_of(rng):
    """Return random options of a solve, and of a cycle."""

    def pick(options):
        return options[rng.integers(len(options))]

    options = {
        "rtol": pick([None, 1e-10]), "accelerate": pick(["auto", "auto", None, "cg"]), "start": pick(["fmg", "fmg", "zero"]),
        "compatibility": "project", "maxiter": 12, "raise_on_failure": False,
    }  # fmt: skip
    slots = {"cycle": pick(["auto", "auto", "V", "W", "F"]), "smoother": pick(SMOOTHERS)}
    return options, slots | {"steps": pick([None, None, 1, (2, 1), (0, 2)])}


def condition(case):
    """Return the condition number of A, of the rest where that is singular."""
    A = case.assembled()[0][np.ix_(case.unknown.ravel(), case.unknown.ravel())]
    values = np.linalg.svd(A, compute_uv=False)
    return values[0] / values[values > 1e-13 * values[0]].min()


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 40))])
def test_random_problems_are_solved_as_by_numpy(deep, part):
    """240 of all kinds: coefficients, reactions, masks, fixed values, stretched grids, Robin sides, singular ones, smoothers.

    In as many iterations, and to 1e-12; in 1-D, where lines are a direct solve, to the condition of A, and not on singular
    lines, where NumPy's elimination loses digits.
    """
    for number in range(part * COUNT // 40, (part + 1) * COUNT // 40):
        rng = generator(f"device, coefficients {number}")
        case = draw_case(lambda options, rng=rng: options[rng.integers(len(options))], rng, LARGEST)
        options, slots = options_of(rng)
        problem = case.problem
        if problem.has_waves and options["accelerate"] == "cg":
            options["accelerate"] = "gmres"
        if problem.grid.ndim == 1 and problem.singular:
            slots["smoother"] = "points"
        try:
            cycle = unigrid.GalerkinCycle(problem, **slots)
        except ValueError as error:
            if "waves" not in str(error):
                raise
            continue
        f = rng.standard_normal(case.shape)
        expected = cycle.solve(f, **options)
        solution = cycle.solve(torch.from_numpy(f), backend="torch", **options)
        what = number, case.shape, options, slots
        assert solution.iterations == expected.iterations, what
        assert solution.reason == expected.reason, what
        error = np.abs(solution.u.numpy() - expected.u).max() / np.abs(expected.u).max()
        assert error <= 1e-12 or (f.ndim == 1 and error <= np.finfo(float).eps * condition(case)), (error, what)


def test_every_keyword_of_coefficients_and_masks_is_taken():
    rng = generator("keywords on a device")
    f, a = rng.standard_normal((40, 33)), np.exp(rng.standard_normal((40, 33)))
    mask = np.hypot(*np.mgrid[-1:1:40j, -1:1:33j]) < 0.7
    for keywords in (
        {"coefficient": a, "reaction": rng.random((40, 33)), "boundary": ("neumann", unigrid.Dirichlet(2.0))},
        {"coefficient": a, "boundary": "periodic"},
        {"mask": mask, "outside": np.where(mask, np.nan, 1.5)},
        {"mask": mask, "outside": "natural", "fixed": (mask & (rng.random(mask.shape) < 0.01), 3.0), "coefficient": a},
        {"mask": mask, "outside": "natural", "centering": "cell"},
        {"boundary": unigrid.Robin(2.0, 1.0), "spacing": (rng.uniform(1, 2, 39), 1.0)},
    ):
        options = keywords | {"compatibility": "project", "rtol": 1e-11}
        expected = unigrid.solve(f, **options)
        solution = unigrid.solve(torch.from_numpy(f), backend="torch", **options)
        assert solution.iterations == expected.iterations
        assert np.abs(solution.u.numpy() - expected.u).max() < 1e-12 * np.abs(expected.u).max()


def levels_on_device(case, **slots):
    cycle = unigrid.GalerkinCycle(case.problem, **slots)
    f = torch.zeros(case.shape, dtype=torch.float64)
    options = unigrid.stencil.solving.SolveOptions(backend="torch")
    return cycle, device.cycle_on(cycle, f, options)


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)])
def test_the_operator_is_the_matrix_assembled_point_by_point(number):
    drawn = 0
    for attempt in range(200):
        rng = generator(f"assembled {number} {attempt}")
        case = draw_case(lambda options, rng=rng: options[rng.integers(len(options))], rng)
        if np.min(case.reaction) < 0.0 or not case.unknown.all():
            continue
        drawn += 1
        problem = levels_on_device(case)[1].problem
        u, (A, added) = rng.standard_normal(case.shape), case.assembled()
        image = problem.operator(torch.from_numpy(u)).numpy()
        assert np.abs(image.ravel() - A @ u.ravel()).max() <= 1e-12 * np.abs(A).max() * np.abs(u).max(), case
        b = problem.folded(torch.from_numpy(u)).numpy()
        assert np.abs(b - u - added).max() <= 1e-12 * np.abs(added).max(initial=1.0), case
        if drawn == 8:
            return


@pytest.mark.parametrize("smoother", ["points", pytest.param("lines", marks=pytest.mark.slow)])
def test_the_solve_is_differentiable_by_itself(deep, smoother):
    """Gradients through all iterations, and by the adjoint solve on the device, are those of the dense inverse."""
    rng = generator("unrolled coefficients")
    a, shape = np.exp(rng.standard_normal((13, 10))), (13, 10)
    problem = unigrid.Poisson(shape, coefficient=a, boundary=[("neumann", "dirichlet"), "periodic"])
    cycle = unigrid.GalerkinCycle(problem, smoother=smoother)
    assert len(cycle.levels) > 2
    f, v = (torch.from_numpy(rng.standard_normal(shape)) for _ in range(2))
    expected = np.linalg.solve(problem.matrix().toarray().T, v.numpy().ravel()).reshape(shape)
    for accelerate in ("auto", None, "gmres"):
        options = unigrid.stencil.solving.SolveOptions(backend="torch", rtol=1e-13, accelerate=accelerate)
        unrolled, adjoint = f.clone().requires_grad_(), f.clone().requires_grad_()
        (device.solve_on_device(cycle, unrolled, options).u * v).sum().backward()
        (cycle.solve(adjoint, backend="torch", rtol=1e-13).u * v).sum().backward()
        assert np.abs(adjoint.grad.numpy() - expected).max() < 1e-11 * np.abs(expected).max()
        assert np.abs(unrolled.grad.numpy() - expected).max() < 1e-9 * np.abs(expected).max(), accelerate


def test_gradients_in_the_coefficient_are_those_of_the_cpu():
    rng = generator("slopes on a device")
    f, mask = torch.from_numpy(rng.standard_normal((14, 11))), rng.random((14, 11)) < 0.9
    slopes = []
    for backend in (None, "torch"):
        a, c = (torch.full((14, 11), value, dtype=torch.float64, requires_grad=True) for value in (2.0, 0.3))
        side = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        keywords = {"coefficient": a, "reaction": c, "boundary": ["neumann", (unigrid.Dirichlet(side), "dirichlet")]}
        u = unigrid.solve(f, mask=mask, outside=0.7, rtol=1e-12, backend=backend, **keywords).u
        (u**2).sum().backward()
        slopes.append([each.grad.numpy() for each in (a, c, side)])
    for expected, found in zip(*slopes, strict=True):
        assert np.abs(found - expected).max() < 1e-10 * np.abs(expected).max()


def test_a_coarsest_level_beyond_dense_inverses_is_solved_on_the_host(monkeypatch, deep):
    rng = generator("host")
    problem = unigrid.Poisson((20, 17), coefficient=np.exp(rng.standard_normal((20, 17))))
    f, found = torch.from_numpy(rng.standard_normal((20, 17))), []
    for largest in (device_coupled.DENSE_UNKNOWNS, 0):
        monkeypatch.setattr(device_coupled, "DENSE_UNKNOWNS", largest)
        source = f.clone().requires_grad_()
        options = unigrid.stencil.solving.SolveOptions(backend="torch", rtol=1e-12)
        u = device.solve_on_device(unigrid.GalerkinCycle(problem, smoother="points"), source, options).u
        u.square().sum().backward()
        found.append((u.detach().numpy(), source.grad.numpy()))
    for expected, other in zip(*found, strict=True):
        assert np.abs(other - expected).max() < 1e-10 * np.abs(expected).max()


def test_batches_single_precision_starts_and_callbacks_in_a_window():
    rng = generator("windows on a device")
    mask = np.zeros((30, 28), bool)
    mask[5:20, 8:25] = rng.random((15, 17)) < 0.95
    f, keywords, seen = torch.from_numpy(rng.standard_normal((3, 30, 28))), {"mask": mask, "outside": 2.0}, []
    together = unigrid.solve(f, batch_dims=1, backend="torch", rtol=1e-11, callback=seen.append, **keywords)
    assert len(seen) == sum(part.iterations for part in together.parts)
    assert all(each.u.shape == (30, 28) and (each.u.numpy()[~mask] == 2.0).all() for each in seen)
    for own, part in zip(f, together.parts, strict=True):
        expected = unigrid.solve(own.numpy(), rtol=1e-11, **keywords)
        assert np.abs(part.u.numpy() - expected.u).max() < 1e-12 * np.abs(expected.u).max()
    again = unigrid.solve(f[0], backend="torch", u0=together.u[0], rtol=1e-10, **keywords)
    assert again.iterations == 0
    spoilt = torch.where(torch.from_numpy(mask), f[0], torch.nan)
    assert torch.equal(unigrid.solve(spoilt, backend="torch", rtol=1e-11, **keywords).u, together.u[0])
    single = unigrid.solve(f[0].float(), backend="torch", **keywords)
    assert single.u.dtype == torch.float32
    assert (single.u - together.u[0]).abs().max() < 1e-3 * together.u[0].abs().max()


def test_one_number_per_iteration_leaves_the_device(monkeypatch, deep):
    problem = unigrid.Poisson((33, 24), coefficient=np.exp(generator("a").standard_normal((33, 24))))
    cycle = unigrid.GalerkinCycle(problem, smoother="points")
    f = torch.from_numpy(generator("transfers").standard_normal((33, 24)))

    def solved(maxiter):
        options = {"backend": "torch", "rtol": 1e-30, "maxiter": maxiter, "raise_on_failure": False}
        return device.solve_on_device(cycle, f, unigrid.stencil.solving.SolveOptions(**options))

    solved(1)  # set-up takes tables from the host to the device
    for name in ("numpy", "tolist", "cpu", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, refused)
    counts = []
    for maxiter in (3, 5):
        with Transfers() as transfers:
            assert solved(maxiter).iterations == maxiter
        counts.append(transfers.synchronizations)
    assert counts[1] - counts[0] <= 4  # in two more iterations, with a residual computed anew in one or two of them


@pytest.mark.parametrize(
    ("slots", "options", "error", "advice"),
    [
        ({"smoother": "own"}, {}, TypeError, "points or lines, got Own; take one of them, or give f.cpu"),
        ({}, {"accelerate": "minres"}, ValueError, "accelerate is there on the CPU alone"),
        ({}, {"rtol": "discretization"}, ValueError, "one pass of full multigrid, which needs constant coefficients"),
    ],
)
def test_what_has_no_kernels_is_refused_with_the_way_out(slots, options, error, advice):
    class Own(unigrid.Smoother):
        def __call__(self, operator, b, u):
            return b

    if slots.get("smoother") == "own":
        slots = {"smoother": Own()}
    problem = unigrid.Poisson((40, 40), coefficient=lambda x, y: 1 + x * y)
    with pytest.raises(error, match=advice) as caught:
        unigrid.GalerkinCycle(problem, **slots).solve(torch.ones(40, 40), backend="torch", **options)
    assert "\n" not in str(caught.value)


def test_singular_components_are_named():
    mask = np.ones((12, 12), bool)
    mask[6] = False
    f = torch.ones(12, 12, dtype=torch.float64)
    with pytest.raises(ValueError, match="fails on 2 of 2: component 1"):
        unigrid.solve(f, mask=mask, outside="natural", boundary="neumann", backend="torch")
