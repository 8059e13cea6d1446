"""The discretization is of second order for every mix of sides, on uniform and stretched grids; jumps in 1-D are exact."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid

SIDES = [*itertools.product(("dirichlet", "neumann", "robin"), repeat=2), ("periodic", "periodic")]
TURN = 2 * np.pi


def distances(intervals, periodic):
    """Return those of a smooth mesh, stretched 1 : 4."""
    t = np.linspace(0.0, 1.0, intervals + 1)
    return np.diff(t + 0.1 * np.sin(TURN * t) if periodic else np.expm1(1.5 * t) / np.expm1(1.5))


class Manufactured:
    """U = product of one function per axis, -div(a grad u) + 3 u = f with a = 2 + 0.5 product of sines."""

    def __init__(self, pairs):
        self.periodic = [low == "periodic" for low, _ in pairs]

    def u(self, x, along=None, times=0):
        """Return u, or its derivative along an axis."""
        product = 1.0
        for axis, (each, periodic) in enumerate(zip(x, self.periodic, strict=True)):
            k, phase, mean = (TURN, 0.0, 2.0) if periodic else (2.0, 1.0, 0.0)
            derivative = times if axis == along else 0
            product = product * (k**derivative * np.sin(k * each + phase + derivative * np.pi / 2) + mean * (derivative == 0))
        return product

    def a(self, *x, along=None):
        product = 0.5
        for axis, each in enumerate(x):
            wave = TURN * each + axis + 0.4
            product = product * (TURN * np.cos(wave) if axis == along else np.sin(wave))
        return product + (2.0 if along is None else 0.0)

    def f(self, x):
        axes = range(len(x))
        return 3 * self.u(x) - sum(
            self.a(*x, along=k) * self.u(x, k, 1) + self.a(*x) * self.u(x, k, 2) for k in axes
        )  # fmt: skip

    def condition(self, kind, axis, end, x):
        """Return the condition that the exact solution fulfils on a side; alpha changes along it."""
        at = [np.array(float(end)) if k == axis else each.ravel() for k, each in enumerate(x)]
        flux = self.a(*at) * self.u(at, axis, 1) * (1 if end else -1)
        alpha = 2.0 + sum(np.sin(each) ** 2 for each in at)
        return {
            "dirichlet": lambda: unigrid.Dirichlet(self.u(at)),
            "neumann": lambda: unigrid.Neumann(flux),
            "robin": lambda: unigrid.Robin(alpha, flux + alpha * self.u(at)),
            "periodic": unigrid.Periodic,
        }[kind]()


def error(intervals, pairs, centering, stretched, by_function):
    exact, shape, spacing = Manufactured(pairs), [], []
    for low, high in pairs:
        periodic = low == "periodic"
        shape.append(intervals if periodic or centering == "cell" else intervals + 1 - (low, high).count("dirichlet"))
        spacing.append(distances(intervals, periodic) if stretched else 1.0 / intervals)
    options = {"spacing": spacing, "centering": centering}
    # A Robin side has its unknowns where a Neumann side has them.
    plain = [tuple("neumann" if side == "robin" else side for side in pair) for pair in pairs]
    probe = unigrid.Poisson(tuple(shape), boundary=plain, **options)
    x = probe.coordinates()
    boundary = [
        tuple(exact.condition(kind, axis, end, x) for end, kind in enumerate(pair)) for axis, pair in enumerate(pairs)
    ]  # fmt: skip
    coefficient = exact.a if by_function else exact.a(*x)
    f = exact.f(x) * np.ones(shape)
    u = unigrid.solve(f, boundary=boundary, coefficient=coefficient, reaction=3.0, rtol=1e-9, **options).u
    return np.sqrt((probe.weights * (u - exact.u(x)) ** 2).sum() / probe.weights.sum())


@pack
@pytest.mark.parametrize("by_function", [True, False], ids=["function", "array"])
@pytest.mark.parametrize("stretched", [True, False], ids=["stretched", "uniform"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", SIDES, ids="-".join)
def test_in_one_dimension(sides, centering, stretched, by_function):
    coarse, fine = (error(n, [sides], centering, stretched, by_function) for n in (512, 1024))
    assert np.log2(coarse / fine) >= 1.95


@pack
@pytest.mark.parametrize("by_function", [True, False], ids=["function", "array"])
@pytest.mark.parametrize("stretched", [True, False], ids=["stretched", "uniform"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("number", range(len(SIDES)))
@pytest.mark.parametrize("shift", [4, 7])
def test_in_two_dimensions(shift, number, centering, stretched, by_function):
    pairs = [SIDES[number], SIDES[(number + shift) % len(SIDES)]]
    coarse, fine = (error(n, pairs, centering, stretched, by_function) for n in (48, 96))
    assert np.log2(coarse / fine) >= 1.95


@pack
@pytest.mark.parametrize("case", range(60))
def test_jumps_in_one_dimension_are_exact(case, rng):
    """Layers in series, a from 1e-3 to 1e3, between media: what each passes is what all pass together."""
    centering, n = ["vertex", "cell"][case % 2], int(rng.integers(8, 200))
    kinds = rng.choice(["dirichlet", "robin"], 2)
    intervals = n if centering == "cell" else n + 1 - (kinds == "robin").sum()
    widths = rng.uniform(0.1, 1.0, intervals) if case % 3 else np.full(intervals, 0.7)
    alphas, temperatures = 10.0 ** rng.uniform(-2, 2, 2), rng.standard_normal(2)
    ends = np.sort(rng.choice(np.arange(2, n - 1), 4, replace=False))  # two unknowns at least in the first and the last layer
    a = np.select([np.arange(n) < end for end in ends], 10.0 ** rng.uniform(-3, 3, 4), 7.0)
    if centering == "cell":
        inside, between = widths / a, None
        before = np.concatenate([[0.0], np.cumsum(inside)])
        resistances, total = (before[1:] + before[:-1]) / 2, before[-1]
    else:  # half of an interval has the coefficient of the unknown at either end
        low, high = (int(kind == "dirichlet") for kind in kinds)
        beside = np.concatenate([a[:1]] * low + [a] + [a[-1:]] * high)
        between = widths * (1 / beside[1:] + 1 / beside[:-1]) / 2
        before = np.concatenate([[0.0], np.cumsum(between)])
        resistances, total = before[low : low + n], before[-1]
    films = np.where(kinds == "robin", 1 / alphas, 0.0)
    flux = (temperatures[0] - temperatures[1]) / (films.sum() + total)
    wanted = temperatures[0] - flux * (films[0] + resistances)
    sides = tuple(
        unigrid.Dirichlet(t) if kind == "dirichlet" else unigrid.Robin(alpha, alpha * t)
        for kind, alpha, t in zip(kinds, alphas, temperatures, strict=True)
    )
    options = {"spacing": [widths], "boundary": [sides], "centering": centering, "coefficient": a}
    problem = unigrid.Poisson((n,), **options)
    terms = np.abs(problem.matrix()) @ np.abs(wanted) + np.abs(problem.rhs(0.0))
    assert (np.abs(problem.operator.residual(problem.rhs(0.0), wanted)) <= 1e-12 * terms).all()
    u = unigrid.solve(np.zeros(n), rtol=1e-14, raise_on_failure=False, **options).u
    assert np.abs(u - wanted).max() <= 1e-8  # what rounding, amplified by the condition, leaves


def composite_error(shape, fitted):
    """Return the error of the potential around a cylinder in a uniform field, which conducts 10 times as well."""
    radius, k = 0.5, 10.0
    inside, dipole = 2 / (1 + k), (1 - k) / (1 + k) * radius**2
    exact = lambda r, cosine: np.where(r < radius, inside * r, r + dipole / r) * cosine  # noqa: E731
    if fitted:  # polar coordinates: the cylinder's surface is a face
        radial, around = shape
        r = (np.arange(radial) + 0.5) / radial
        angle = (np.arange(around) + 0.5) * TURN / around
        conducts = np.where(r < radius, k, 1.0)
        faces = np.concatenate([[1.0], 2 / (1 / conducts[1:] + 1 / conducts[:-1]), [1.0]]) * np.linspace(0, 1, radial + 1)
        coefficient = faces[:, None] * np.ones(shape[1]), (conducts / r)[:, None] * np.ones(shape[1])
        wanted = exact(r[:, None], np.cos(angle))
        rim = unigrid.Dirichlet(exact(1.0, np.cos(angle)))
        u = unigrid.solve(
            np.zeros(shape), lengths=(1.0, TURN), boundary=[("neumann", rim), "periodic"], centering="cell",
            coefficient=coefficient, rtol=1e-10,
        ).u  # fmt: skip
        return np.sqrt((r[:, None] * (u - wanted) ** 2).mean())
    x, y = ((np.arange(n) + 0.5) * 2 / n - 1 for n in shape)
    r = np.hypot(x[:, None], y)
    distance = lambda x, y: np.maximum(np.hypot(x, y), 1e-12)  # noqa: E731
    rim = lambda x, y: exact(distance(x, y), x / distance(x, y))  # noqa: E731
    sides = [[unigrid.Dirichlet(rim(end, y)) for end in (-1, 1)], [unigrid.Dirichlet(rim(x, end)) for end in (-1, 1)]]
    coefficient = np.where(r < radius, k, 1.0)
    u = unigrid.solve(np.zeros(shape), lengths=2.0, boundary=sides, centering="cell", coefficient=coefficient, rtol=1e-10).u
    return np.sqrt(np.mean((u - rim(x[:, None], y)) ** 2))


def test_a_composite_is_of_its_known_order():
    """Two where its surface is a face; one where that cuts cells, on the average over sizes."""
    fitted = [composite_error((n, 4 * n), True) for n in (16, 32, 64)]
    assert np.log2(np.array(fitted[:-1]) / fitted[1:]).min() >= 1.95
    cut = [np.mean([composite_error((n + k, n + k), False) for k in (0, 3, 6)]) for n in (32, 64, 128)]
    assert np.log2(cut[0] / cut[-1]) / 2 >= 0.9
