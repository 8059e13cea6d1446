"""The gradient of a design problem, heat conduction with penalized densities, against differences of the objective."""

import pytest
import torch

import unigrid

SHAPE, LENGTHS = (16, 8), (2.0, 1.0)
LEAST, MOST = 1e-3, 1.0
STEP = 1e-5


def temperature(density, flux):
    """Heat enters at x = 2 and leaves at x = 0, where u = 0; the rest is insulated."""
    sides = [(unigrid.Dirichlet(0.0), unigrid.Neumann(flux)), "neumann"]
    k = LEAST + (MOST - LEAST) * density**3
    f = torch.full(SHAPE, 0.1, dtype=torch.float64)
    return unigrid.solve(f, lengths=LENGTHS, boundary=sides, centering="cell", coefficient=k, rtol=1e-12).u


def objectives(u, flux, wanted):
    return {"compliance": (u[-1] * flux).sum(), "misfit": ((u - wanted) ** 2)[::3, ::2].sum()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compliance", "misfit"])
def test_the_gradient_points_where_differences_do(name):
    generator = torch.Generator().manual_seed(0)
    density = 0.2 + 0.7 * torch.rand(SHAPE, dtype=torch.float64, generator=generator)
    flux = torch.linspace(0.5, 1.5, SHAPE[1], dtype=torch.float64)
    wanted = temperature(torch.full(SHAPE, 0.6, dtype=torch.float64), flux)

    def objective(density):
        return objectives(temperature(density, flux), flux, wanted)[name]

    own = density.clone().requires_grad_()
    objective(own).backward()
    differences = torch.zeros(SHAPE, dtype=torch.float64)
    for index in torch.cartesian_prod(torch.arange(SHAPE[0]), torch.arange(SHAPE[1])).tolist():
        change = torch.zeros_like(density)
        change[tuple(index)] = STEP
        differences[tuple(index)] = (objective(density + change) - objective(density - change)) / (2 * STEP)
    cosine = torch.nn.functional.cosine_similarity(own.grad.ravel(), differences.ravel(), dim=0)
    assert cosine > 1 - 1e-8
    assert torch.allclose(own.grad, differences, rtol=1e-4, atol=1e-6 * own.grad.abs().max().item())
