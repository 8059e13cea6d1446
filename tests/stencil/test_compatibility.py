"""Singular problems: which sources they accept, and what the error explains."""

import numpy as np
import pytest

import unigrid


def rough(shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("boundary", ["neumann", "periodic", ["periodic", "neumann"]], ids=str)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_an_incompatible_source_is_an_error_with_the_mean_and_the_option(boundary, centering):
    problem = unigrid.Poisson((12, 15), boundary=boundary, centering=centering)
    f = problem.compatible(rough((12, 15))) + 3.25
    with pytest.raises(ValueError, match=r"mean is 3\.25\b.*compatibility=.project") as error:
        unigrid.solve(f, boundary=boundary, centering=centering)
    assert "\n" not in str(error.value)
    projected = unigrid.solve(f, boundary=boundary, centering=centering, compatibility="project", rtol=1e-11)
    np.testing.assert_allclose(
        projected.u, unigrid.solve(f - 3.25, boundary=boundary, centering=centering, rtol=1e-11).u, rtol=0, atol=1e-9
    )


def test_boundary_fluxes_count_in_the_mean():
    f = np.full((16, 16), -4.0)  # the fluxes into a unit square, 1 on each side, and what f takes out are equal
    assert unigrid.solve(f, boundary=unigrid.Neumann(1.0), centering="cell").converged
    with pytest.raises(ValueError, match="mean is 8"):
        unigrid.solve(-f * 0 + 4.0, boundary=unigrid.Neumann(1.0), centering="cell")


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
@pytest.mark.parametrize("shape", [(24, 20, 24), (33, 30), (50,)], ids=str)
@pytest.mark.parametrize("accelerate", [None, "cg"])
def test_a_compatible_source_gives_the_mean_zero_solution(shape, boundary, centering, accelerate):
    problem = unigrid.Poisson(shape, boundary=boundary, centering=centering)
    f = problem.compatible(rough(shape))
    solution = unigrid.solve(f, boundary=boundary, centering=centering, accelerate=accelerate)
    assert solution.converged
    assert abs(problem.mean(solution.u)) <= 1e-13 * np.abs(solution.u).max()
    assert np.linalg.norm(f.ravel() - problem.matrix() @ solution.u.ravel()) <= 1.1e-8 * np.linalg.norm(f)


def test_the_mean_zero_solution_is_returned_whatever_the_mean_of_u0():
    f = unigrid.Poisson((20, 20), boundary="periodic").compatible(rough((20, 20)))
    exact = unigrid.solve(f, boundary="periodic").u
    for u0 in (exact + 5.0, rough((20, 20)) + 100.0):
        assert abs(unigrid.solve(f, boundary="periodic", u0=u0).u.mean()) <= 1e-12


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
@pytest.mark.parametrize("value", [0.1, 3.7, 1e10])
def test_a_constant_source_projected_leaves_nothing_but_rounding(value, boundary, centering):
    f = np.full((23, 31), value)
    solution = unigrid.solve(f, boundary=boundary, centering=centering, compatibility="project")
    assert np.abs(solution.u).max() <= 1e-12 * value


@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_a_point_source_is_incompatible_however_large_its_value(boundary):
    f = np.zeros((64, 64))
    f[20, 20] = 1.0
    with pytest.raises(ValueError, match=r"mean is 0\.000.*compatibility='project'"):
        unigrid.solve(f, boundary=boundary)


@pytest.mark.parametrize("n", [100, 500, 1100])
def test_a_flux_without_an_outlet_is_incompatible_at_every_size(n):
    with pytest.raises(ValueError, match="has a solution only if f has mean zero"):
        unigrid.solve(np.zeros((n, n)), boundary=[(unigrid.Neumann(1.0), "neumann"), "neumann"])


def test_a_mean_that_was_taken_out_is_said_in_the_message():
    f = rough((300, 50))
    assert "was taken out of the right-hand side" in unigrid.solve(f, boundary="neumann", compatibility="project").message
    assert "taken out" not in unigrid.solve(f).message


def charges(excess, shape=(64, 64)):
    f = np.zeros(shape)
    f[10, 10], f[50, 50] = 1.0, -1.0 - excess
    return f


@pytest.mark.parametrize("excess", [0.06, 1e-3, 1e-6])
@pytest.mark.parametrize(("boundary", "centering"), [("periodic", "vertex"), ("neumann", "cell")])
def test_a_net_charge_is_no_rounding(boundary, centering, excess):
    with pytest.raises(ValueError, match=r"has mean zero.*its mean is -"):
        unigrid.solve(charges(excess), boundary=boundary, centering=centering)
    assert unigrid.solve(charges(excess), boundary=boundary, centering=centering, compatibility="project").converged
    assert unigrid.solve(charges(0.0), boundary=boundary, centering=centering).converged


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_mean_taken_out_by_the_user_is_zero_but_for_rounding(dtype, offset):
    f = (rough((50, 61, 20)) + offset).astype(dtype)
    f -= f.mean()
    assert unigrid.solve(f, boundary="periodic").converged
    assert unigrid.solve(f, boundary="neumann", centering="cell").converged


def test_the_message_explains_the_weighted_mean():
    f = rough((40, 40))
    f -= f.mean()
    with pytest.raises(ValueError, match=r"count half \(their plain mean is .*e-1\d\).*with centering='cell'.*is compatible"):
        unigrid.solve(f, boundary="neumann")
    with pytest.raises(ValueError, match="mean is 1") as caught:
        unigrid.solve(f + 1.0, boundary="neumann")
    assert "centering='cell'" not in str(caught.value)


@pytest.mark.parametrize("n", [8, 33, 128])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_boundary_fluxes_may_leave_what_they_cause(n, centering):
    """u = exp(x) cos(2 y): f = 3 u, and the fluxes of the four sides balance it but for the discretization."""
    problem = unigrid.Poisson((n, n), boundary="neumann", centering=centering)
    x, y = problem.coordinates()
    ends = [-np.cos(2 * y[0]), np.e * np.cos(2 * y[0])], [0 * x[:, 0], -2 * np.exp(x[:, 0]) * np.sin(2)]
    sides = [(unigrid.Neumann(low), unigrid.Neumann(high)) for low, high in ends]
    assert unigrid.solve(3 * np.exp(x) * np.cos(2 * y), boundary=sides, centering=centering).converged
    with pytest.raises(ValueError, match="boundary fluxes included"):
        unigrid.solve(3.5 * np.exp(x) * np.cos(2 * y), boundary=sides, centering=centering)
