"""`order=4`: the matrix against an assembly of its own, cubics reproduced to rounding, the order on every mix of sides."""

import itertools
import pickle
from functools import reduce

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import pack

import unigrid

D, N = unigrid.Dirichlet, unigrid.Neumann
SIDES = [
    ("dirichlet", "dirichlet"), ("neumann", "neumann"), ("dirichlet", "neumann"), ("neumann", "dirichlet"),
    ("periodic", "periodic"),
]  # fmt: skip
NAMES = {pair: "-".join(side[0] for side in pair) for pair in SIDES}


def named_sides(sides):
    return ",".join(NAMES[pair] for pair in sides)


def second_difference(n, h, pair, centering):
    """Return the matrix of -u'' along an axis, written out row by row."""
    matrix = np.zeros((n, n))
    for i in range(n):
        matrix[i, i] += 2
        for j, side in ((i - 1, pair[0]), (i + 1, pair[1])):
            if 0 <= j < n or side == "periodic":
                matrix[i, j % n] -= 1
            elif centering == "cell":
                matrix[i, i] += 1 if side == "dirichlet" else -1
            elif side == "neumann":
                matrix[i, 2 * i - j] -= 1
    return matrix / h**2


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("c", [0.0, 3.0])
@pytest.mark.parametrize("sides", [*itertools.product(SIDES, repeat=2), SIDES[:1], SIDES[-1:], SIDES[1:4]], ids=named_sides)
def test_the_matrix_is_the_compact_scheme(centering, c, sides, rng):
    shape = tuple(int(n) for n in rng.integers(5, 8, len(sides)))
    spacing = rng.uniform(0.5, 2.0, len(sides))
    problem = unigrid.Poisson(shape, boundary=[*sides], centering=centering, spacing=spacing, reaction=c, order=4)
    seconds = []
    for axis, (pair, h) in enumerate(zip(sides, spacing, strict=True)):
        factors = [np.eye(n) for n in shape]
        factors[axis] = second_difference(shape[axis], h, pair, centering)
        seconds.append(reduce(np.kron, factors))
    wanted = sum(seconds) + c * (np.eye(len(seconds[0])) - sum(h**2 / 12 * S for h, S in zip(spacing, seconds, strict=True)))
    for i, j in itertools.combinations(range(len(shape)), 2):
        wanted -= (spacing[i] ** 2 + spacing[j] ** 2) / 12 * seconds[i] @ seconds[j]
    scale = np.abs(wanted).max()
    matrix = problem.matrix().toarray()
    assert np.abs(matrix - wanted).max() <= 1e-13 * scale
    weighted = problem.weights.ravel()[:, None] * matrix
    assert np.abs(weighted - weighted.T).max() <= 1e-13 * scale * problem.weights.max()
    u, f = rng.standard_normal(shape), rng.standard_normal(shape)
    assert np.abs(problem.operator(u).ravel() - wanted @ u.ravel()).max() <= 1e-12 * scale
    assert np.abs(problem.operator.residual(f, u) - (f - problem.operator(u))).max() <= 1e-12 * scale
    assert np.abs(problem.operator.diagonal().ravel() - wanted.diagonal()).max() <= 1e-13 * scale
    assert np.linalg.eigvals(wanted).real.max() <= problem.operator.norm_bound * (1 + 1e-12)


class Polynomial:
    """The sum of terms {powers: weight}, with derivatives."""

    def __init__(self, terms):
        self.terms = terms

    def derivative(self, axis, times=1):
        terms = self.terms
        for _ in range(times):
            less = {power: (*power[:axis], power[axis] - 1, *power[axis + 1 :]) for power in terms if power[axis]}
            terms = {less[power]: weight * power[axis] for power, weight in terms.items() if power in less}
        return Polynomial(terms)

    def __call__(self, *x):
        values = [w * reduce(np.multiply, [xi**p for xi, p in zip(x, power, strict=True)]) for power, w in self.terms.items()]
        return sum(values) + np.zeros(np.broadcast_shapes(*(np.shape(xi) for xi in x)))


def cubic(sides, rng):
    """Return a polynomial of degree 3 in all coordinates together, constant along the periodic ones."""
    powers = itertools.product(*(range(1 if pair[0] == "periodic" else 4) for pair in sides))
    return Polynomial({power: rng.standard_normal() for power in powers if sum(power) <= 3})


def posed(u, shape, sides, centering, c, lengths, a=(1.0, 1.0, 1.0)):
    """Return f and the boundary for a function with derivatives, and its values at the unknowns; a: one per axis."""
    x = unigrid.Poisson(shape, boundary=[*sides], centering=centering, lengths=lengths).coordinates()
    f = c * u(*x) - sum(a[axis] * u.derivative(axis, 2)(*x) for axis in range(len(shape)))
    boundary = []
    for axis, pair in enumerate(sides):
        values = []
        for end, side in zip((0.0, lengths[axis]), pair, strict=True):
            at = [xi if other != axis else np.full((1,) * len(x), end) for other, xi in enumerate(x)]
            given = u(*at) if side == "dirichlet" else u.derivative(axis)(*at) * (a[axis] if end else -a[axis])
            given = given.squeeze(axis) if len(x) > 1 else given.item()
            values.append({"dirichlet": D, "neumann": N}[side](given) if side != "periodic" else unigrid.Periodic())
        boundary.append(tuple(values))
    return f, boundary, u(*x)


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("c", [0.0, 3.0])
@pytest.mark.parametrize("sides", [*itertools.product(SIDES, repeat=2), *zip(SIDES), SIDES[:3], SIDES[2:]], ids=named_sides)
def test_cubics_are_reproduced_to_rounding(centering, c, sides, rng):
    """What the scheme leaves out begins with sixth derivatives, at sides with fourth ones, of the source with fourth ones."""
    shape, lengths = tuple(int(n) for n in rng.integers(5, 8, len(sides))), rng.uniform(0.5, 2.0, len(sides))
    f, boundary, u = posed(cubic(sides, rng), shape, sides, centering, c, lengths)
    problem = unigrid.Poisson(shape, boundary=boundary, centering=centering, lengths=lengths, reaction=c, order=4)
    b, scale = problem.rhs(f), np.abs(problem.matrix()).sum(axis=1).max() * max(1.0, np.abs(u).max())
    assert np.abs(problem.operator(u) - b).max() <= 1e-13 * scale


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_a_coefficient_per_axis_is_taken(centering):
    rng, sides, a, lengths = np.random.default_rng(0), (SIDES[2], SIDES[1]), (2.0, 0.3), (1.0, 0.7)
    f, boundary, u = posed(cubic(sides, rng), (9, 11), sides, centering, 3.0, lengths, a)
    options = {"boundary": boundary, "centering": centering, "lengths": lengths, "reaction": 3.0, "coefficient": a, "order": 4}
    assert np.abs(unigrid.solve(f, rtol=1e-13, raise_on_failure=False, **options).u - u).max() <= 1e-10 * np.abs(u).max()


class Waves:
    """The product over the axes of sin(w x + p) + 2."""

    def __init__(self, waves, phases, orders):
        self.waves, self.phases, self.orders = waves, phases, orders

    def derivative(self, axis, times=1):
        return Waves(self.waves, self.phases, tuple(k + times * (axis == n) for n, k in enumerate(self.orders)))

    def __call__(self, *x):
        factors = zip(x, self.waves, self.phases, self.orders, strict=True)
        return reduce(np.multiply, [w**k * np.sin(w * xi + p + k * np.pi / 2) + 2.0 * (k == 0) for xi, w, p, k in factors])


def order_on(sides, centering, sizes, c=3.0):
    """Return the order between two sizes, by the root mean square of the error of u."""
    lengths = (1.0, 1.3, 0.8)[: len(sides)]
    waves = [
        2 * np.pi / length if pair[0] == "periodic" else w for pair, length, w in zip(sides, lengths, (3, 2.5, 4), strict=False)
    ]
    u, errors, spacings = Waves(waves, (0.3, 0.7, 1.1)[: len(sides)], (0,) * len(sides)), [], []
    for n in sizes:
        f, boundary, wanted = posed(u, (n,) * len(sides), sides, centering, c, lengths)
        solution = unigrid.solve(f, boundary=boundary, centering=centering, lengths=lengths, reaction=c, order=4, rtol=1e-12)
        errors.append(np.sqrt(np.mean((solution.u - wanted) ** 2)))
        spacings.append(unigrid.Poisson((n,) * len(sides), boundary=[*sides], centering=centering, lengths=lengths).spacing[0])
    return np.log(errors[0] / errors[1]) / np.log(spacings[0] / spacings[1])


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", [*itertools.combinations_with_replacement(SIDES, 2)], ids=named_sides)
def test_the_order_is_four_on_every_mix_of_sides(centering, sides):
    assert order_on(sides, centering, (60, 120)) >= 3.9


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", [*zip(SIDES), SIDES[:3], SIDES[2:], (SIDES[1],) * 3, (SIDES[2],) * 3], ids=named_sides)
def test_the_order_in_one_and_three_dimensions(centering, sides):
    sizes, least = ((60, 120), 3.9) if len(sides) == 1 else ((20, 40), 3.75)
    assert order_on(sides, centering, sizes) >= least


def direct(problem, f):
    """Return the solution by a sparse direct method, of mean zero where the problem is singular."""
    A, b = problem.matrix(), problem.rhs(f).ravel()
    if problem.singular:
        w = (problem.weights / problem.weights.sum()).ravel()
        A = scipy.sparse.block_array([[A, np.ones((b.size, 1))], [w[None, :], None]])
        b = np.append(b, 0.0)
    return scipy.sparse.linalg.spsolve(A.tocsc(), b)[: f.size].reshape(f.shape)


@pack
@pytest.mark.parametrize("seed", range(60))
def test_solve_agrees_with_a_sparse_direct_solve(seed):
    rng = np.random.default_rng(seed)
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(5, {1: 400, 2: 60, 3: 14}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    centering, c = ["vertex", "cell"][int(rng.integers(2))], [0.0, 1e-2, 1.0, 1e3][int(rng.integers(4))]
    options = {
        "boundary": sides,
        "centering": centering,
        "reaction": c,
        "spacing": rng.uniform(0.5, 1.5, ndim) / 20,
        "order": 4,
    }
    problem = unigrid.Poisson(shape, **options)
    f = rng.standard_normal(shape)
    f = f - problem.mean(problem.rhs(f)) if problem.singular else f
    solution = unigrid.solve(f, rtol=1e-10, **options)
    wanted = direct(problem, f)
    assert np.abs(solution.u - wanted).max() <= 1e-6 * np.abs(wanted).max()
    assert solution.iterations <= (13 if ndim < 3 else 22)
    black_box = unigrid.GalerkinCycle(problem).solve(f, rtol=1e-10)
    assert np.abs(black_box.u - solution.u).max() <= 1e-6 * np.abs(wanted).max()
    assert black_box.iterations <= 8


def smooth(shape):
    x = np.meshgrid(*(np.linspace(0.1, 1, n) for n in shape), indexing="ij", sparse=True)
    return np.cos(2 * sum(x)) + x[0]


def test_full_multigrid_of_second_order_is_the_start():
    x = np.arange(1, 128) / 128
    f = np.outer(np.sin(np.pi * x), np.sin(2 * np.pi * x))
    started, from_zero = unigrid.solve(f, order=4), unigrid.solve(f, order=4, start="zero")
    assert started.iterations <= from_zero.iterations - 1
    assert started.residuals[1] < 1e-3 * started.residuals[0]
    alone = unigrid.solve(f, order=4, accelerate=None)
    for other in (from_zero, alone, unigrid.solve(f, order=4, u0=started.u), unigrid.solve(f, order=4, smoother="jacobi")):
        assert np.abs(other.u - started.u).max() <= 1e-7 * np.abs(started.u).max()


def test_precisions_channels_and_callbacks():
    f, seen = smooth((60, 50)), []
    u = unigrid.solve(f, order=4, callback=lambda solution: seen.append(solution.residuals[-1])).u
    assert len(seen) > 2
    single = unigrid.solve(f.astype(np.float32), order=4)
    assert single.u.dtype == np.float32
    assert np.abs(single.u - u).max() <= 1e-4 * np.abs(u).max()
    two = unigrid.solve(np.stack([f, 2 * f], axis=-1), order=4, channels="last").u
    assert np.abs(two[..., 1] - 2 * u).max() <= 1e-6 * np.abs(u).max()
    problem = unigrid.Poisson((60, 50), order=4)
    again = pickle.loads(pickle.dumps(problem))
    assert again.order == 4
    assert np.array_equal(again.rhs(f), problem.rhs(f))
    assert "order 4" in repr(again)
    assert problem.rhs(f.astype(np.float32)).dtype == np.float32


def test_a_source_with_mean_zero_fits_sides_without_dirichlet():
    """Also where its mean is zero as the integral, or as the sum: b has neither mean to rounding."""
    n = 40
    x = (np.arange(n) + 0.5) / n
    f = np.exp(x)[:, None] * np.ones(n) - (np.e - 1)
    for source in (f, f - f.mean()):
        solution = unigrid.solve(source, boundary="neumann", centering="cell", order=4)
        assert "was taken out" in solution.message
    with pytest.raises(ValueError, match="only if f has mean zero"):
        unigrid.solve(f + 0.01, boundary="neumann", centering="cell", order=4)


BAD = {
    "order": ({"order": 3}, "order must be 2 or 4, got 3"),
    "no number": ({"order": "4"}, "order must be 2 or 4, got '4'"),
    "few": ({"shape": (4, 9)}, "at least 5 unknowns between sides, and axis 0 has 4"),
    "coefficient": ({"coefficient": np.full((9, 9), 2.0)}, "a coefficient and a reaction that are numbers, on a whole box"),
    "mask": ({"mask": np.eye(9) == 0}, "without a mask, .*; leave out order"),
    "reaction": ({"reaction": np.eye(9)}, "a coefficient and a reaction that are numbers"),
    "layers": ({"shape": (9, 9, 9), "reaction": 1e5}, "in 3-D is for reactions up to 3e\\+03 on this grid, got 1e\\+05"),
    "one pass": ({"rtol": "discretization"}, "which is of order 2; give a number"),
    "mixed": ({"precision": "mixed"}, "precision='mixed'"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(options, message):
    options = {"order": 4, **options}
    with pytest.raises(ValueError, match=message) as error:
        unigrid.solve(np.ones(options.pop("shape", (9, 9))), **options)
    assert "\n" not in str(error.value)


def test_the_stencil_cycle_names_what_solves_it():
    with pytest.raises(TypeError, match="of order 4"):
        unigrid.StencilCycle(unigrid.Poisson((9, 9), order=4))
    assert unigrid.Poisson((2, 9), boundary=["periodic", "dirichlet"], order=4).singular is False
