"""Gradients through the solve, against central differences (`gradcheck`), dense inverses and autograd through dense systems."""

import numpy as np
import pytest
from tiers import pack

torch = pytest.importorskip("torch")

import unigrid  # noqa: E402

EXACT = {"rtol": 1e-13, "compatibility": "project"}
BARS = {"atol": 1e-7, "rtol": 1e-6}
PAIRS = ("dd", "dn", "nd", "nn", "rd", "nr", "pp")
SIDES = {"d": unigrid.Dirichlet, "n": unigrid.Neumann, "r": lambda value: unigrid.Robin(2.0, value)}
NAMES = {"d": "dirichlet", "n": "neumann", "p": "periodic"}


@pytest.fixture
def tensors(rng):
    """tensors((3, 4), ()) -> tensors of these shapes, of numbers from 0.5 to 1.5, which require gradients."""

    def make(*shapes):
        made = [torch.tensor(rng.uniform(0.5, 1.5, shape)).requires_grad_() for shape in shapes]
        return made[0] if len(made) == 1 else made

    return make


def sided(pair, low, high):
    return unigrid.Periodic() if pair == "pp" else (SIDES[pair[0]](low), SIDES[pair[1]](high))


def is_right(function, given, second=True, absent=False):
    """Whether derivatives are those of differences: every entry backward; forward, batched, of second order and mixed along
    random directions, to which any wrong entry adds. `absent`: of each choice of inputs that have no tangent, too.
    """
    torch.manual_seed(0)
    every = torch.autograd.gradcheck(function, given, **BARS)
    along = {"check_batched_grad": True, "check_undefined_grad": absent, "fast_mode": True}
    first = torch.autograd.gradcheck(function, given, check_forward_ad=True, **along, **BARS)
    return (
        every
        and first
        and (not second or torch.autograd.gradgradcheck(function, given, check_fwd_over_rev=True, **along, **BARS))
    )


@pack
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("other", "centering"), [("dirichlet", "vertex"), ("neumann", "vertex"), ("neumann", "cell")], ids=["dv", "nv", "nc"]
)
def test_of_source_sides_and_reaction(pair, other, centering, tensors):
    def solved(f, c, low, high):
        options = {"boundary": [sided(pair, low, high), other], "centering": centering, "reaction": c}
        return unigrid.solve(f, **options, **EXACT).u

    assert is_right(solved, tensors((2, 3), (), (3,), ()))


COEFFICIENTS = {
    "number": lambda n: (),
    "points": lambda n: (n, 3),
    "per axis": lambda n: (2,),
    "reaction": lambda n: (n, 3),
}


@pack
@pytest.mark.parametrize("pair", ["dn", "nr", "pp"])
@pytest.mark.parametrize("kind", [*COEFFICIENTS, "alpha", "faces"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_of_coefficients(pair, kind, centering, tensors):
    """Beside a value on a side that the coefficient multiplies. At the unknowns, means at faces have kinks nowhere near."""
    n = 2

    def solved(f, value, a):
        low = unigrid.Robin(a, value) if kind == "alpha" else value
        sides = (low, unigrid.Neumann(value)) if kind == "alpha" else sided(pair, value, 1.0)
        given = {"reaction": a} if kind == "reaction" else {} if kind == "alpha" else {"coefficient": a}
        if kind == "faces":
            given = {"coefficient": (a, 1.0 + torch.zeros(n, faces_across, dtype=a.dtype))}
        return unigrid.solve(f, boundary=[sides, "dirichlet"], centering=centering, **given, **EXACT).u

    faces_across = 4  # the other axis has Dirichlet sides
    along = {"vertex": n + 1 - pair.count("n") - pair.count("r"), "cell": n + 1}[centering] if pair != "pp" else n
    shape = COEFFICIENTS[kind](n) if kind in COEFFICIENTS else {"alpha": (3,), "faces": (along, 3)}[kind]
    assert is_right(solved, tensors((n, 3), (3,), shape), second=pair == "dn" or kind in ("points", "faces", "alpha"))


@pytest.mark.slow
def test_where_some_have_no_tangents(tensors):
    def solved(f, value, a, c):
        sides = [(unigrid.Dirichlet(value), "neumann"), "dirichlet"]
        return unigrid.solve(f, boundary=sides, coefficient=a, reaction=c, **EXACT).u

    assert is_right(solved, tensors((2, 2), (2,), (2, 2), ()), absent=True)


@pytest.mark.slow
@pack
@pytest.mark.parametrize("beyond", [0.3, None], ids=["given", "natural"])
def test_of_masks(beyond, tensors):
    mask = np.ones((4, 4), bool)
    mask[:2, 2:] = False

    def solved(f, c, value):
        outside = "natural" if beyond is None else beyond
        sides = [(unigrid.Dirichlet(value), "neumann"), "neumann"]
        return unigrid.solve(f, boundary=sides, mask=mask, outside=outside, reaction=c, **EXACT).u

    assert is_right(solved, tensors((4, 4), (4, 4), (4,)), second=False)


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["dn", "nn", "pp"])
@pytest.mark.parametrize("beyond", [{"outside": 0.3}, {"outside": "natural"}], ids=["given", "natural"])
def test_of_a_coefficient_in_a_mask(pair, beyond, tensors):
    """With a point inside where u is given."""
    mask, fixed = np.ones((4, 3), bool), np.zeros((4, 3), bool)
    mask[0, 2] = mask[2, 0] = False
    fixed[1, 1] = True

    def solved(f, a, value):
        sides = [sided(pair, value, value), "neumann"]
        return unigrid.solve(f, coefficient=a, boundary=sides, mask=mask, fixed=(fixed, 2.0), **beyond, **EXACT).u

    assert is_right(solved, tensors((4, 3), (4, 3), (3,)), second=False)


@pytest.mark.slow
@pack
@pytest.mark.parametrize("pair", ["dd", "nr", "pp"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_of_stretched_axes(pair, centering, tensors, rng):
    intervals = {"dd": 5, "nr": 3, "pp": 4}[pair] if centering == "vertex" else 4
    spacing = [rng.uniform(0.1, 0.3, intervals), 0.2]

    def solved(f, a, value):
        sides = [sided(pair, value, 1.0), ("neumann", "dirichlet")]
        return unigrid.solve(f, boundary=sides, centering=centering, spacing=spacing, coefficient=a, **EXACT).u

    assert is_right(solved, tensors((4, 2), (4, 2), (2,)), second=False)


@pytest.mark.slow
def test_in_three_dimensions(tensors):
    def solved(f, a, value):
        sides = [(unigrid.Dirichlet(value), "neumann"), "periodic", "neumann"]
        return unigrid.solve(f, boundary=sides, coefficient=a, **EXACT).u

    assert is_right(solved, tensors((2, 3, 2), (2, 3, 2), (3, 2)), second=False)


def test_of_functions_beside_tensors(tensors):
    def solved(f, value):
        sides = [(unigrid.Dirichlet(value), "neumann"), "neumann"]
        return unigrid.solve(f, boundary=sides, coefficient=lambda x, y: 1 + x + 0 * y, **EXACT).u

    assert is_right(solved, tensors((3, 2), (2,)), second=False)


@pack
@pytest.mark.parametrize("first", ["dd", "dn", "nn", "pp"])
@pytest.mark.parametrize("second", ["dd", "nd", "nn", "pp"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("reaction", [0.0, 2.5])
def test_jacobian_is_the_dense_inverse(first, second, centering, reaction, written_out):
    """That of A; where A is singular, of A bordered by constants: f without its mean, u of mean zero."""
    shape, pairs = (5, 4), (first, second)
    kinds = [tuple(NAMES[end] for end in pair) for pair in pairs]
    boundary = [kind[0] if kind[0] == "periodic" else kind for kind in kinds]
    matrix, _ = written_out(shape, (1.0, 0.7), kinds, [(0.0, 0.0)] * 2, centering, reaction)
    options = {"lengths": (1.0, 0.7), "boundary": boundary, "centering": centering, "reaction": reaction}
    jacobian = torch.autograd.functional.jacobian(
        lambda f: unigrid.solve(f, **options, **EXACT).u, torch.ones(shape, dtype=torch.float64)
    )
    ends = [[1.0 if centering == "cell" or kind != "neumann" else 0.5 for kind in pair] for pair in kinds]
    weights = [np.array([low, *np.ones(n - 2), high]) for n, (low, high) in zip(shape, ends, strict=True)]
    exact = np.linalg.inv(bordered(matrix.toarray(), np.outer(*weights).ravel()))[:20, :20]
    if reaction or "d" in first + second:
        exact = np.linalg.inv(matrix.toarray())
    assert np.abs(jacobian.reshape(20, 20).numpy() - exact).max() < 1e-9 * np.abs(exact).max()


def bordered(matrix, weights):
    ones = np.ones((len(weights), 1))
    return np.block([[matrix, ones], [weights[None], np.zeros((1, 1))]])


def test_second_derivative_in_a_reaction(tensors):
    """With L = <1, u>, d^2 L / d c^2 = 2 <1, A^-3 f>."""
    f, c = torch.ones(6, dtype=torch.float64), tensors(())
    value = unigrid.solve(f, reaction=c, **EXACT).u.sum()
    (slope,) = torch.autograd.grad(value, c, create_graph=True)
    (bend,) = torch.autograd.grad(slope, c)
    inverse = np.linalg.inv(unigrid.Poisson(6, reaction=c.item()).matrix().toarray())
    exact = 2 * (inverse @ inverse @ inverse @ np.ones(6)).sum()
    assert abs(bend.item() - exact) < 1e-13 * exact


def across(n, kinds):
    """Return differences across the n + 1 faces of n cells of length 1, u = 0 half a cell beyond "dirichlet" ends."""
    ends = [np.sqrt(2.0) * (kind == "dirichlet") for kind in kinds]
    differences = np.eye(n + 1, n) - np.eye(n + 1, n, -1)
    differences[0] *= ends[0]
    differences[-1] *= ends[1]
    return torch.tensor(differences)


@pytest.mark.parametrize("kinds", [("dirichlet", "dirichlet"), ("neumann", "dirichlet")], ids="-".join)
def test_all_second_derivatives_in_source_and_coefficient(kinds, tensors):
    """Those of f and both arrays of faces, mixed ones too, are autograd's through a dense system, G^T a G u = f."""
    n, m = 3, 2
    sides = [kinds, ("dirichlet", "neumann")]
    along = torch.kron(across(n, kinds), torch.eye(m)), torch.kron(torch.eye(n), across(m, sides[1]))

    def dense(f, *faces):
        matrix = sum(g.T @ (a.ravel()[:, None] * g) for g, a in zip(along, faces, strict=True))
        return (torch.linalg.solve(matrix, f.ravel()) ** 3).sum()

    def solved(f, *faces):
        return (unigrid.solve(f, spacing=1.0, boundary=sides, centering="cell", coefficient=faces, **EXACT).u ** 3).sum()

    given = tuple(tensors((n, m), (n + 1, m), (n, m + 1)))
    found, expected = (torch.autograd.functional.hessian(function, given) for function in (solved, dense))
    for own, exact in zip(sum(found, ()), sum(expected, ()), strict=True):
        assert torch.allclose(own, exact, rtol=1e-9, atol=1e-9 * float(exact.abs().max()))
        assert exact.abs().max() > 1e-3


@pytest.mark.slow
@pack
@pytest.mark.parametrize("way", [{}, {"cycle": "newton"}, {"mask": np.tri(4, 3, 1, bool), "outside": 0.3}], ids=str)
def test_of_nonlinear_reactions(way, tensors):
    """First order alone, as there is no g''."""
    k = np.linspace(1.0, 2.0, 3)
    reaction = unigrid.Nonlinear(lambda u, k: k * np.sinh(u), lambda u, k: k * np.cosh(u), fields=(k,))

    def solved(f, a, value):
        sides = [(unigrid.Dirichlet(value), "neumann"), "dirichlet"]
        return unigrid.solve(f, reaction=reaction, coefficient=a, boundary=sides, rtol=1e-13, **way).u

    given = tensors((4, 3), (4, 3), (3,))
    assert is_right(solved, given, second=False)
    stacked = torch.func.vmap(torch.func.grad(lambda f: solved(f, *given[1:]).sum()))(torch.stack([given[0], 2 * given[0]]))
    assert torch.allclose(stacked[1], torch.func.grad(lambda f: solved(f, *given[1:]).sum())(2 * given[0]), rtol=1e-9)
    (slope,) = torch.autograd.grad(solved(*given).sum(), given[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="first order alone"):
        slope.sum().backward()


def test_below_zero_reactions_have_gradients(tensors):
    def solved(f, c):
        return unigrid.solve(f, reaction=-3.0 * c, **EXACT).u

    assert is_right(solved, tensors((4, 4), ()), second=False)


def test_of_numbers_in_single_precision(tensors):
    f = tensors((9, 9)).detach().float().requires_grad_()
    c = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    u = unigrid.solve(f, reaction=c).u
    u.sum().backward()
    assert (u.dtype, f.grad.dtype, c.grad.dtype) == (torch.float32, torch.float32, torch.float64)
    half = f.detach().bfloat16().requires_grad_()
    unigrid.solve(half).u.sum().backward()
    assert half.grad.dtype == torch.bfloat16
