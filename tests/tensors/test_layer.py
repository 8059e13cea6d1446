"""A layer that solves: gradients, what is learned, and all that is done with modules."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import unigrid

SHAPE = (9, 8)
LEARNED = {
    "nothing": {},
    "reaction": {"reaction": 2.0, "learn_reaction": True},
    "reaction field": {"reaction": 1.0 + np.random.default_rng(0).random(SHAPE), "learn_reaction": True},
    "coefficient": {"learn_coefficient": True},
    "coefficient field": {"coefficient": 1.0 + np.random.default_rng(1).random(SHAPE), "learn_coefficient": True},
    "both": {"coefficient": np.full(SHAPE, 3.0), "reaction": 0.5, "learn_coefficient": True, "learn_reaction": True},
    "a fixed coefficient": {"coefficient": 1.0 + np.random.default_rng(1).random(SHAPE), "boundary": unigrid.Dirichlet(1.0)},
}


def layer_of(name, **more):
    return unigrid.PoissonLayer(SHAPE, **LEARNED[name], **more)


@pytest.fixture
def f():
    return torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_it_solves_and_its_gradients_are_right(name, f):
    layer = layer_of(name, rtol=1e-12)
    own = {key: value for key, value in LEARNED[name].items() if not key.startswith("learn")}
    wanted = unigrid.solve(f.numpy(), batch_dims=1, rtol=1e-12, **own).u
    assert torch.allclose(layer(f), torch.from_numpy(wanted), rtol=1e-9, atol=1e-12)
    parameters = dict(layer.named_parameters())

    def function(f, *raw):
        return torch.func.functional_call(layer, dict(zip(parameters, raw, strict=True)), (f,))

    inputs = [each.detach().clone().requires_grad_() for each in (f[0], *parameters.values())]
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(function, inputs, atol=1e-7, rtol=1e-6, fast_mode=True)  # along random directions


@pytest.mark.parametrize("name", ["reaction", "reaction field", "coefficient field"])
def test_a_learned_value_begins_as_given_and_stays_above_zero(name):
    layer = layer_of(name)
    which = name.split()[0]
    assert np.allclose(layer.value(which).detach().numpy(), LEARNED[name][which], rtol=1e-14)
    with torch.no_grad():
        getattr(layer, f"raw_{which}").fill_(-30.0)
    assert (layer.value(which) > 0.0).all()


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_the_parametrization_holds_numbers_of_any_size(scale):
    layer = unigrid.PoissonLayer(5, reaction=scale, learn_reaction=True)
    assert layer.value("reaction").item() == pytest.approx(scale, rel=1e-12)


def test_what_is_learned_can_be_found_again():
    """A network that has only u finds c and a by gradient descent."""
    torch.manual_seed(0)
    f = torch.randn(8, *SHAPE, dtype=torch.float64)
    u = torch.from_numpy(unigrid.solve(f.numpy(), batch_dims=1, reaction=30.0).u)
    layer = unigrid.PoissonLayer(SHAPE, reaction=3.0, learn_reaction=True)
    optimizer = torch.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = ((layer(f) - u) ** 2).sum() / (u**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert layer.value("reaction").item() == pytest.approx(30.0, rel=1e-3)


@pytest.mark.parametrize("name", LEARNED)
def test_copies_and_files(name, f):
    layer = layer_of(name)
    u = layer(f)
    saved, whole = io.BytesIO(), io.BytesIO()
    torch.save(layer.state_dict(), saved)
    torch.save(layer, whole)
    saved.seek(0)
    whole.seek(0)
    other = layer_of(name)
    other.load_state_dict(torch.load(saved))
    loaded = torch.load(whole, weights_only=False)
    for each in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other, loaded):
        assert torch.equal(each(f), u)
    assert list(layer.state_dict()) == [key for key, _ in layer.named_parameters()]


def test_precisions(f):
    layer = layer_of("reaction")
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        own = copy.deepcopy(layer).to(dtype)
        x = f.to(dtype).requires_grad_()
        own(x).sum().backward()
        assert own(x).dtype == torch.float32
        assert x.grad.dtype == dtype
        assert own.raw_reaction.grad.dtype == dtype


def test_the_last_solution_has_no_graph(f):
    layer = layer_of("reaction")
    assert layer.solution is None
    u = layer(f)
    assert layer.solution.converged
    assert torch.equal(layer.solution.u, u)
    assert not layer.solution.u.requires_grad
    assert not layer.solution.parts[0].u.requires_grad


def test_it_works_in_distributed_training(f, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        layer = layer_of("both")
        alone = copy.deepcopy(layer)
        parallel = torch.nn.parallel.DistributedDataParallel(layer)
        for each in (parallel, alone):
            each(f).square().sum().backward()
        for own, other in zip(layer.parameters(), alone.parameters(), strict=True):
            assert torch.equal(own.grad, other.grad)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing", "reaction", "both"])
def test_a_compiled_layer_is_the_same_function(name, f):
    layer = layer_of(name, rtol=1e-12)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    inputs = [f.clone().requires_grad_() for _ in range(2)]
    outputs = [each(x) for each, x in zip((layer, compiled), inputs, strict=True)]
    grads = [torch.autograd.grad(u.square().sum(), [x, *layer.parameters()]) for u, x in zip(outputs, inputs, strict=True)]
    assert torch.allclose(*outputs, rtol=1e-9)
    for own, other in zip(*grads, strict=True):
        assert torch.allclose(own, other, rtol=1e-8, atol=1e-14)


def test_its_representation_shows_the_problem():
    assert "9 x 8 unknowns on" in repr(layer_of("both"))
    assert repr(layer_of("both")).endswith("learned: reaction and coefficient)")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"reaction": 0.0, "learn_reaction": True}, ValueError, "reaction must be a finite number > 0 to be learned, got 0"),
        ({"coefficient": np.zeros(SHAPE), "learn_coefficient": True}, ValueError, "above zero everywhere"),
        ({"coefficient": np.ones(3), "learn_coefficient": True}, ValueError, r"an array of shape \(9, 8\)"),
        ({"u0": np.zeros(SHAPE)}, TypeError, "PoissonLayer has no u0, which belongs to one f"),
        ({"tol": 1e-3}, TypeError, "PoissonLayer has no argument 'tol'"),
        ({"rtol": -1.0}, ValueError, "rtol must be"),
        ({"boundary": "dirichlett"}, ValueError, "boundary"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_when_it_is_made(arguments, error, words):
    with pytest.raises(error, match=words):
        unigrid.PoissonLayer(SHAPE, **arguments)


@pytest.mark.parametrize("name", ["nothing", "reaction"])
@pytest.mark.parametrize("shape", [(8, 9), (9,), (2, 9, 9)])
def test_other_shapes_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"f must have shape \(..., 9, 8\), got"):
        layer_of(name)(torch.ones(shape))
