"""The solve in graphs: `torch.compile`, `torch.export` and tracers record it as an operator, and refuse what it cannot be."""

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

import unigrid  # noqa: E402

GENERATOR = np.random.default_rng(0)
COMPILED = {"fullgraph": True, "backend": "aot_eager"}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


def some(*shape):
    return torch.tensor(GENERATOR.uniform(0.5, 1.5, shape))


def loss(f, c, value, a):
    sides = [(unigrid.Dirichlet(value), unigrid.Robin(value, 1.0)), ("neumann", unigrid.Neumann(np.ones(len(f))))]
    return (unigrid.solve(torch.sin(f), reaction=c, boundary=sides, coefficient=a, rtol=1e-12).u ** 2).sum()


def plain(f, c):
    return (unigrid.solve(torch.sin(f), reaction=torch.exp(c)).u ** 2).sum()


def value_and_gradients(function, given):
    given = [each.clone().requires_grad_() for each in given]
    value = function(*given)
    return value.detach(), *torch.autograd.grad(value, given)


def assert_same(function, compiled, given):
    for own, expected in zip(value_and_gradients(compiled, given), value_and_gradients(function, given), strict=True):
        assert torch.allclose(own, expected, rtol=1e-8, atol=0)


def test_a_compiled_training_step_is_the_eager_one():
    assert_same(loss, torch.compile(loss, **COMPILED), (some(12, 8), some(), some(8), some(12, 8)))
    assert_same(plain, torch.compile(plain, fullgraph=True, backend="inductor"), (some(12, 8), some()))


def test_one_graph_serves_all_shapes():
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(plain, fullgraph=True, dynamic=True, backend=counter)
    for shape in ((12, 8), (9, 7), (20, 30), (5, 6)):
        assert_same(plain, compiled, (some(*shape), some()))
    assert counter.frame_count <= 2


def test_shapes_where_sides_are_tensors():
    compiled = torch.compile(loss, dynamic=True, **COMPILED)
    for shape in ((12, 8), (9, 7)):
        assert_same(loss, compiled, (some(*shape), some(), some(shape[1]), some(*shape)))


def test_numbers_and_conditions_that_change_compile_anew():
    compiled = torch.compile(lambda f, c, sides: unigrid.solve(f, reaction=c, boundary=sides).u, **COMPILED)
    f = some(6, 5)
    for c in (0.0, 1.0, 2.5):
        for sides in (unigrid.Dirichlet(1 / 3), [unigrid.Robin(1.0, np.ones(5)), "periodic"]):
            assert torch.equal(compiled(f, c, sides), unigrid.solve(f, reaction=c, boundary=sides).u)


def test_arrays_and_lists_that_change_in_place_are_seen():
    values, a, entries = np.ones(5), np.ones((6, 5)), [1.0, 2.0]
    low = unigrid.Dirichlet(values)

    def solved(f):
        return unigrid.solve(f, boundary=[low, unigrid.Neumann(entries * 3)], coefficient=a).u

    f, compiled = some(6, 5), torch.compile(solved, **COMPILED)
    for _ in range(3):
        assert torch.equal(compiled(f), solved(f))
        values += 1.0
        a *= 2.0
        entries[0] += 1.0


def test_a_compiled_map():
    mapped = torch.func.vmap(lambda f, c: unigrid.solve(f, reaction=c).u, (0, None))
    f, c = some(3, 6, 5), some()
    assert torch.equal(torch.compile(mapped, **COMPILED)(f, c), mapped(f, c))


class Model(torch.nn.Module):
    def forward(self, f, c):
        return unigrid.solve(f, reaction=c, boundary="neumann").u


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_program_is_saved_and_loaded(strict):
    size = torch.export.Dim("size", min=3, max=500)
    shapes = ({0: size}, None)
    program = torch.export.export(Model(), (some(6, 5), some()), dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    f, c = some(20, 5), some()
    assert torch.equal(torch.export.load(file).module()(f, c), Model()(f, c))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_traces_hold_the_solve_and_not_its_numbers(mode):
    f, c = some(6, 5), some()
    assert torch.equal(make_fx(plain, tracing_mode=mode)(f, c)(2 * f, c), plain(2 * f, c))


def test_what_a_graph_cannot_be_is_refused():
    f, c = some(6, 5), some()
    cycle = unigrid.StencilCycle(unigrid.Poisson((6, 5)))
    refused = [
        lambda f: cycle.solve(f).u,
        lambda f: unigrid.solve(f, cycle=cycle).u,
        lambda f: unigrid.solve(f, smoother=unigrid.RedBlack(1.1)).u,
        lambda f: unigrid.solve(f, raise_on_failure=False).u,
        lambda f: torch.func.jvp(plain, (f, c), (f, c))[1],
        lambda f: torch.func.grad(plain)(f, c),
    ]
    for function in refused:
        torch._dynamo.reset()
        with pytest.raises(Exception, match=r"graph|Unsupported|has no place|Tracking"):
            torch.compile(function, **COMPILED)(f)


def test_second_order_through_a_graph_is_refused():
    f, c = some(6, 5).requires_grad_(), some()
    (slope,) = torch.autograd.grad(torch.compile(plain, **COMPILED)(f, c), f, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.sum().backward()


def test_the_operator_is_what_it_tells_torch():
    recorded = make_fx(lambda f: unigrid.solve(f, reaction=2.0).u)(some(6, 5))
    (node,) = [node for node in recorded.graph.nodes if node.target is torch.ops.unigrid.solve.default]
    torch.library.opcheck(torch.ops.unigrid.solve.default, (some(6, 5).requires_grad_(), [], *node.args[2:]))
