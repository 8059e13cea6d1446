"""torch.func over the solve: each transform, and transforms of transforms, against loops and against each other."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap  # noqa: E402

import unigrid  # noqa: E402

SHAPE = (3, 4)
GENERATOR = np.random.default_rng(0)


def some(*shape):
    return torch.tensor(GENERATOR.uniform(0.5, 1.5, shape))


GIVEN = some(*SHAPE), some(), some(4), some(*SHAPE)


def solved(f, c, value, a):
    sides = [(unigrid.Dirichlet(value), "neumann"), "neumann"]
    return unigrid.solve(f, reaction=c, boundary=sides, coefficient=a, rtol=1e-13).u


def loss(*given):
    return (solved(*given) ** 2).sum()


def stacked_by_loop(function, dims, given, size):
    rows = [[each if dim is None else each.select(dim, k) for each, dim in zip(given, dims, strict=True)] for k in range(size)]
    return torch.stack([function(*row) for row in rows])


@pytest.mark.parametrize("outer", [jacfwd, jacrev])
@pytest.mark.parametrize("inner", [jacfwd, jacrev])
def test_hessians_agree_however_modes_are_nested(outer, inner):
    every = tuple(range(len(GIVEN)))
    found = outer(inner(loss, every), every)(*GIVEN)
    expected = torch.autograd.functional.hessian(loss, GIVEN)
    for own, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-12)
    assert float(found[1][1].abs()) > 1e-3


@pytest.mark.parametrize("dims", list(itertools.product((0, None), repeat=4))[:-1], ids=str)
def test_vmap_is_a_loop(dims):
    given = [each if dim is None else torch.stack([each, 2 * each]) for each, dim in zip(GIVEN, dims, strict=True)]
    assert torch.equal(vmap(solved, dims)(*given), stacked_by_loop(solved, dims, given, 2))


def test_vmap_over_another_axis_and_nested():
    f, c = some(3, 2, 4, 5), some(5)
    found = vmap(vmap(lambda f, c: unigrid.solve(f, reaction=c).u, (1, None)), (3, 0))(f, c)
    for i, j in np.ndindex(5, 2):
        assert torch.equal(found[i, j], unigrid.solve(f[:, j, :, i].contiguous(), reaction=c[i]).u)


def test_gradients_for_each_entry_of_a_batch():
    f = some(5, *SHAPE)
    found = vmap(grad(loss, (1, 2, 3)), (0, None, None, None))(f, *GIVEN[1:])
    for k in range(5):
        for own, expected in zip(found, grad(loss, (1, 2, 3))(f[k], *GIVEN[1:]), strict=True):
            assert torch.allclose(own[k], expected, rtol=1e-10)


def test_jvp_and_hessian_vector_products():
    tangents = tuple(some(*each.shape) for each in GIVEN)
    _, forward = jvp(loss, GIVEN, tangents)
    slopes = grad(loss, (0, 1, 2, 3))(*GIVEN)
    assert torch.allclose(forward, sum((s * t).sum() for s, t in zip(slopes, tangents, strict=True)), rtol=1e-10)
    _, product = jvp(grad(loss, 1), GIVEN, tangents)
    _, pull = torch.func.vjp(grad(loss, 1), *GIVEN)
    backward = sum((s * t).sum() for s, t in zip(pull(torch.ones_like(product)), tangents, strict=True))
    assert torch.allclose(product, backward, rtol=1e-9)


def test_hessian_of_a_map_over_a_batch():
    f = some(2, *SHAPE)
    found = vmap(hessian(loss, 1), (0, None, None, None))(f, *GIVEN[1:])
    assert torch.allclose(found, torch.stack([hessian(loss, 1)(each, *GIVEN[1:]) for each in f]), rtol=1e-9)


def test_a_checkpoint_solves_anew():
    given = [each.clone().requires_grad_() for each in GIVEN]
    torch.utils.checkpoint.checkpoint(loss, *given, use_reentrant=False).backward()
    for own, expected in zip(given, grad(loss, (0, 1, 2, 3))(*GIVEN), strict=True):
        assert torch.allclose(own.grad, expected, rtol=1e-10)


def test_the_outcome_of_a_map_is_that_of_all_its_solves():
    outcomes = []

    def watched(f, c):
        outcomes.append(unigrid.solve(f, reaction=c))
        return outcomes[-1].u

    vmap(watched, (0, 0))(some(3, 9, 9), some(3))
    assert outcomes[0].converged
    assert len(outcomes[0].parts) == 3
