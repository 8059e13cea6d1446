"""The trained smoother in the package: it solves, as fast as its card has it, on grids it was not trained on."""

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.sparse.linalg import spsolve

import unigrid
from unigrid.pretrained import card_of


@pytest.fixture(scope="module")
def net():
    return unigrid.load_pretrained("poisson-net").model


def laplacian(rows, columns):
    """-Laplace u on the unit square between Dirichlet sides: the matrix, written out."""
    second = [sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)) for n in (rows, columns)]
    return sparse.csc_array(sparse.kron(second[0], sparse.eye_array(columns)) + sparse.kron(sparse.eye_array(rows), second[1]))


def test_it_converges_as_its_card_states_where_it_was_not_trained(net):
    """The factor by the errors of iterates themselves: their exact solution is found directly."""
    trained_on = card_of("poisson-net").configuration["dataset"]["problems"]
    (stated,) = (row["factor"] for row in card_of("poisson-net").measured["factors"] if row["shape"] == [127, 127])
    assert [127, 127] not in [problem["shape"] for problem in trained_on]
    n, random = 127, np.random.default_rng(5)
    f = random.standard_normal((n, n))
    exact = spsolve(laplacian(n, n) * (n + 1) ** 2, f.ravel()).reshape(n, n)
    u, errors, cycle = random.standard_normal((n, n)), [], net.on(unigrid.Poisson((n, n)))
    for _ in range(12):
        u = cycle(f, u)
        errors.append(np.linalg.norm(u - exact))
    assert (errors[8] / errors[2]) ** (1 / 6) < 1.1 * stated


@pytest.mark.parametrize("shape", [(40, 70), (17, 300)])
def test_it_solves_any_grid(net, shape):
    f = np.random.default_rng(1).standard_normal(shape)
    solution = unigrid.solve(f, cycle=net, rtol=1e-10, spacing=1.0)
    np.testing.assert_allclose(solution.u.ravel(), spsolve(laplacian(*shape), f.ravel()), rtol=1e-6, atol=1e-7)
    assert solution.rate < 0.2
