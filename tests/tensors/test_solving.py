"""Tensors in, tensors out: the numbers of the NumPy call, what its options mean for gradients, and what is refused."""

import weakref

import numpy as np
import pytest
from tiers import pack

torch = pytest.importorskip("torch")

import unigrid  # noqa: E402
from unigrid.stencil import galerkin  # noqa: E402

F = np.random.default_rng(0).standard_normal((40, 33))
A = np.random.default_rng(1).uniform(0.5, 1.5, F.shape)
PROBLEMS = {
    "plain": {},
    "neumann": {"boundary": "neumann", "reaction": 2.0},
    "singular": {"boundary": "periodic", "compatibility": "project"},
    "sides": {"boundary": [(unigrid.Dirichlet(2.0), unigrid.Neumann(np.ones(33))), unigrid.Robin(1.0, 0.5)]},
    "cells": {"centering": "cell", "boundary": ["periodic", ("dirichlet", "neumann")], "cycle": "W"},
    "coefficient": {"coefficient": A, "boundary": unigrid.Dirichlet(1.0)},
    "function": {"coefficient": lambda x, y: 1 + x * y},
    "per axis": {"coefficient": (1.0, 3.0)},
    "mask": {"mask": A > 0.6, "outside": 1.0},
    "order 4": {"order": 4},
    "nonlinear": {"reaction": unigrid.Nonlinear(np.sinh, np.cosh)},
    "waves": {"reaction": -5.0},
    "own slots": {"smoother": unigrid.RedBlack(1.1), "pre": 1},
}


@pack
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_numbers_are_those_of_the_numpy_call(name, dtype):
    f = F.astype(dtype)
    expected, solution = (unigrid.solve(given, **PROBLEMS[name]) for given in (f, torch.from_numpy(f)))
    assert isinstance(solution.u, torch.Tensor)
    assert np.array_equal(solution.u.numpy(), expected.u)
    assert (solution.iterations, solution.residuals) == (expected.iterations, expected.residuals)


def test_tensors_among_the_options_are_the_same_numbers():
    given = {"reaction": A, "coefficient": A + 1, "boundary": [(unigrid.Dirichlet(A[0]), "neumann"), unigrid.Neumann(0.5)]}
    sides = [(unigrid.Dirichlet(torch.from_numpy(A[0])), "neumann"), unigrid.Neumann(torch.tensor(0.5))]
    tensors = {"reaction": torch.from_numpy(A), "coefficient": torch.from_numpy(A + 1), "boundary": sides}
    assert np.array_equal(unigrid.solve(torch.from_numpy(F), **tensors).u.numpy(), unigrid.solve(F, **given).u)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int32", "bool"])
def test_other_types_are_promoted_as_arrays_are(kind):
    f = torch.from_numpy(F).to(getattr(torch, kind))
    u = unigrid.solve(f).u
    wide = torch.float32 if "float" in kind else torch.float64
    assert u.dtype == wide
    assert torch.equal(u, unigrid.solve(f.to(wide)).u)


def test_a_cycle_solves_a_stack_and_its_parts_are_tensors():
    cycle, f = unigrid.StencilCycle(unigrid.Poisson((9, 8))), torch.ones(2, 3, 9, 8, requires_grad=True)
    solution = cycle.solve(f)
    assert [part.u.shape for part in solution.parts] == [(9, 8)] * 6
    (gradient,) = torch.autograd.grad(solution.parts[4].u.sum(), f)
    assert torch.equal(gradient[1, 1], cycle.solve(torch.ones(9, 8)).u)
    assert gradient.count_nonzero() == 72


def test_batches_are_leading_axes():
    f = torch.tensor(np.stack([F, 2 * F]), requires_grad=True)
    solution = unigrid.solve(f, batch_dims=1, reaction=torch.tensor(1.0))
    assert torch.equal(solution.u[1], unigrid.solve(f[1], reaction=1.0).u)
    assert torch.equal(solution.parts[1].u, solution.u[1])
    cycle = unigrid.StencilCycle(unigrid.Poisson(F.shape))
    assert torch.equal(unigrid.solve(f, batch_dims=1, cycle=cycle).u, cycle.solve(f).u)


def test_channels_are_the_last_axis():
    f = torch.tensor(np.stack([F, 2 * F], -1), requires_grad=True)
    u = unigrid.solve(f, channels="last", u0=torch.zeros(f.shape)).u
    assert np.array_equal(u.detach().numpy(), unigrid.solve(f.detach().numpy(), channels="last", u0=np.zeros(f.shape)).u)
    (gradient,) = torch.autograd.grad(u[..., 1].sum(), f)
    assert not gradient[..., 0].any()


def test_the_set_up_is_shared_between_forward_and_backward(monkeypatch):
    made = []
    original = galerkin.GalerkinCycle.__init__
    monkeypatch.setattr(galerkin.GalerkinCycle, "__init__", lambda *a, **k: (made.append(1), original(*a, **k))[1])
    f, a = torch.tensor(F, requires_grad=True), torch.tensor(A, requires_grad=True)
    u = unigrid.solve(f, coefficient=a, boundary=unigrid.Dirichlet(1.0)).u
    (slope,) = torch.autograd.grad((u**2).sum(), a, create_graph=True)
    slope.sum().backward()
    assert len(made) == 1


def test_coefficients_that_change_in_place_are_not_mistaken():
    f, a = torch.from_numpy(F), torch.from_numpy(A.copy())
    first = unigrid.solve(f, coefficient=a).u
    a.mul_(2.0)
    assert torch.allclose(unigrid.solve(f, coefficient=a).u, first / 2, rtol=1e-6)


@pytest.mark.parametrize("rtol", [1e-2, 1e-12])
def test_nothing_of_grid_size_is_saved_for_the_source_alone(rtol):
    """However many cycles there are: with a parameter it is u, and the parameter."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: saved.append(each) or each, lambda each: each):
        unigrid.solve(torch.tensor(F, requires_grad=True), rtol=rtol)
        assert saved == []
        unigrid.solve(torch.tensor(F, requires_grad=True), reaction=torch.ones((), requires_grad=True), rtol=rtol)
        assert [each.shape for each in saved] == [F.shape, ()]


def test_nothing_keeps_a_solution_alive():
    u = unigrid.solve(torch.tensor(F, requires_grad=True)).u
    u.sum().backward()
    alive = weakref.ref(u)
    del u
    assert alive() is None


def test_gradient_rtol_is_the_tolerance_of_the_adjoint_solve():
    exact = unigrid.solve(np.ones(F.shape), rtol=1e-12).u
    errors = []
    for options in ({"rtol": 1e-3}, {"rtol": 1e-3, "gradient_rtol": 1e-11}, {}, {"rtol": "discretization"}):
        f = torch.tensor(F, requires_grad=True)
        unigrid.solve(f, **options).u.sum().backward()
        errors.append(np.abs(f.grad.numpy() - exact).max() / exact.max())
    assert errors[1] < 1e-10 < 1e-9 < errors[0]
    assert max(errors[2:]) < 1e-7


def test_a_gradient_that_fails_tells_so():
    f = torch.tensor(F, requires_grad=True)
    u = unigrid.solve(f, gradient_rtol=0.0).u
    with pytest.raises(unigrid.ConvergenceError, match="solve for a gradient"):
        u.sum().backward()


def test_gradients_that_are_not_finite_stay_so_one_by_one():
    f = torch.tensor(np.stack([F, F]), requires_grad=True)
    cycle = unigrid.StencilCycle(unigrid.Poisson(F.shape))
    v = torch.ones(f.shape, dtype=f.dtype)
    v[0, 1, 1] = torch.inf
    cycle.solve(f).u.backward(v)
    assert f.grad[0].isnan().all()
    assert torch.equal(f.grad[1], cycle.solve(v[1]).u)


@pytest.mark.parametrize("scale", [1e-40, 1e-300, 1e200, 0.0])
def test_gradients_of_any_size(scale):
    dtype = torch.float32 if scale == 1e-40 else torch.float64
    f = torch.tensor(F, dtype=dtype, requires_grad=True)
    v = torch.full(f.shape, scale, dtype=dtype)
    unigrid.solve(f).u.backward(v)
    expected = unigrid.solve(torch.ones(F.shape, dtype=torch.float64)).u * scale
    assert torch.allclose(f.grad.double(), expected, rtol=1e-3, atol=1e-44)


def test_loss_scaling_skips_a_step_that_overflows():
    f = torch.nn.Parameter(torch.ones(9, 9))
    optimizer, scaler = torch.optim.SGD([f], 1.0), torch.amp.GradScaler("cpu", init_scale=1.0)
    scaler.scale((unigrid.solve(f).u * torch.inf).sum()).backward()
    scaler.step(optimizer)
    assert torch.equal(f.detach(), torch.ones(9, 9))


SOURCE = torch.ones(9, 9, dtype=torch.float64)
NEEDED = torch.tensor(0.1, requires_grad=True)


@pytest.mark.parametrize(
    ("f", "options", "error", "match"),
    [
        (SOURCE.to_sparse(), {}, TypeError, "dense.*to_dense"),
        (SOURCE, {"reaction": torch.tensor(1j)}, TypeError, "must be real"),
        (SOURCE, {"spacing": NEEDED}, TypeError, "spacing requires a gradient.*detach"),
        (SOURCE, {"mask": SOURCE > 0, "outside": NEEDED}, TypeError, "outside requires a gradient"),
        (SOURCE, {"gradient_rtol": -1.0}, ValueError, "gradient_rtol must be a finite number"),
        (SOURCE, {"rtoll": 1.0}, TypeError, "did you mean 'rtol'"),
        (SOURCE, {"cycle": 3}, TypeError, "cycle must be"),
        (SOURCE, {"reaction": torch.ones(3)}, ValueError, "reaction must be a number, or an array"),
        (SOURCE, {"boundary": unigrid.Dirichlet(torch.ones(3))}, ValueError, "boundary value of axis 0"),
        (SOURCE, {"coefficient": -SOURCE}, ValueError, "coefficient must be > 0"),
        (torch.ones(9, 9, 3, dtype=torch.uint8), {}, ValueError, "looks like a picture"),
        (SOURCE, {"batch_dims": 3}, ValueError, "batch_dims must be an integer from 0 to 1"),
        (SOURCE * torch.nan, {}, ValueError, "f must be finite"),
        (SOURCE[None, None], {}, ValueError, "f must have 1, 2 or 3 axes"),
        (SOURCE[:0], {}, ValueError, "f must have 1, 2 or 3 axes"),
    ],
)
def test_what_is_refused(f, options, error, match):
    with pytest.raises(error, match=match) as caught:
        unigrid.solve(f, **options)
    assert "\n" not in str(caught.value)


def test_a_source_of_another_shape_than_the_cycle_is_refused():
    with pytest.raises(ValueError, match=r"f must have shape \(9, 8\)"):
        unigrid.StencilCycle(unigrid.Poisson((9, 8))).solve(torch.ones(8, 9))


def test_gradients_that_there_are_not_are_refused():
    f = torch.ones(9, 9, dtype=torch.float64, requires_grad=True)
    bratu = unigrid.Nonlinear(np.sinh, np.cosh)
    for u in (
        unigrid.solve(f, order=4).u,
        unigrid.FASCycle(unigrid.Poisson((9, 9), reaction=bratu)).solve(f).u,
    ):
        with pytest.raises(NotImplementedError, match="no gradients through a solve with"):
            u.sum().backward()
