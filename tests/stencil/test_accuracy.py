"""Order of accuracy, and how close one full-multigrid pass comes, by manufactured solutions with inhomogeneous sides.

u = product over the axes of a function that is no eigenfunction of anything; its derivatives are written out.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from tiers import pack

from unigrid import Dirichlet, Neumann, Poisson, StencilCycle

LENGTHS = (1.3, 0.8, 1.1)
SIDES = [("dirichlet", "dirichlet"), ("dirichlet", "neumann"), ("neumann", "dirichlet"), ("neumann", "neumann"), "periodic"]


def growing(t):
    """exp(t) and its derivatives."""
    return np.exp(t), np.exp(t), np.exp(t)


def waving(t):
    """cos(3 t / 2 + 0.3)."""
    return np.cos(1.5 * t + 0.3), -1.5 * np.sin(1.5 * t + 0.3), -2.25 * np.cos(1.5 * t + 0.3)


def bulging(t):
    """t (1.1 - t) exp(t / 2) + 1, zero nowhere."""
    e = np.exp(t / 2)
    return (1.1 * t - t**2) * e + 1, (1.1 - 1.45 * t - t**2 / 2) * e, (-0.9 - 1.725 * t - t**2 / 4) * e


def repeating(length):
    """exp(sin(s) / 4), s = 2 pi t / length."""
    k = 2 * np.pi / length

    def function(t):
        sine, cosine = np.sin(k * t), np.cos(k * t)
        value = np.exp(sine / 4)
        return value, value * k * cosine / 4, value * k**2 * (cosine**2 / 16 - sine / 4)

    return function


@dataclass
class Manufactured:
    problem: Poisson
    f: np.ndarray
    u: np.ndarray

    def error(self, u):
        """Volume-weighted L2 norm of the error, means taken out where u is free of them."""
        difference = u - self.u
        if self.problem.singular:
            difference = difference - self.problem.mean(difference)
        return np.sqrt(np.sum(self.problem.weights * difference**2))


def manufactured(shape, sides, centering, reaction=0.0, functions=(growing, waving, bulging)):
    ndim, lengths = len(shape), LENGTHS[: len(shape)]
    functions = [repeating(lengths[i]) if sides[i] == "periodic" else functions[i] for i in range(ndim)]
    grid = Poisson(shape, lengths=lengths, boundary=list(sides), centering=centering).coordinates()

    def derivative(orders, points):
        values = np.ones(())
        for function, order, t in zip(functions, orders, points, strict=True):
            values = values * function(t)[order]
        return values

    zero = (0,) * ndim
    f = reaction * derivative(zero, grid)
    for axis in range(ndim):
        f = f - derivative(tuple(2 * (axis == other) for other in range(ndim)), grid)

    def condition(axis, end, kind):
        points = list(grid)
        points[axis] = np.array((0.0, lengths[axis])[end])
        orders = tuple(int(axis == other and kind == "neumann") for other in range(ndim))
        values = np.broadcast_to(derivative(orders, points), (*shape[:axis], 1, *shape[axis + 1 :]))
        values = values.reshape(shape[:axis] + shape[axis + 1 :])
        return Dirichlet(values) if kind == "dirichlet" else Neumann(values if end else -values)

    boundary = [
        "periodic" if pair == "periodic" else tuple(condition(axis, end, kind) for end, kind in enumerate(pair))
        for axis, pair in enumerate(sides)
    ]
    problem = Poisson(shape, lengths=lengths, boundary=boundary, centering=centering, reaction=reaction)
    return Manufactured(problem, f, np.broadcast_to(derivative(zero, grid), shape))


def solve(case, **options):
    return StencilCycle(case.problem).solve(case.f, compatibility="project", raise_on_failure=False, **options)


def unknowns(intervals, side, centering):
    """Number of unknowns of an axis of so many intervals."""
    if centering == "cell" or side == "periodic":
        return intervals
    return intervals - 1 + side.count("neumann")


def mixes(ndim):
    return list(itertools.combinations_with_replacement(SIDES, ndim))


@pack
@pytest.mark.parametrize("reaction", [0.0, 3.0])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", mixes(1) + mixes(2) + mixes(3), ids=str)
def test_order_of_accuracy_is_two(sides, centering, reaction):
    pair = (16, 32) if len(sides) == 3 else (64, 128)
    shapes = [tuple(unknowns(intervals, side, centering) for side in sides) for intervals in pair]
    cases = [manufactured(shape, sides, centering, reaction) for shape in shapes]
    coarse, fine = (case.error(solve(case, rtol=1e-11).u) for case in cases)
    assert np.allclose(np.divide(cases[0].problem.spacing, cases[1].problem.spacing), 2.0)
    assert np.log2(coarse / fine) >= 1.95


PASSES = [{"maxiter": 1, "rtol": 0.0}, {"rtol": "discretization"}]  # the smoothing of any cycle, and that of a pass alone
FMG_SHAPES = [(127,), (100,), (63, 63), (255, 255), (100, 100), (31, 31, 31), (63, 63, 63), (100, 100, 100)]


@pack
@pytest.mark.parametrize("options", PASSES, ids=["any", "alone"])
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("shape", FMG_SHAPES, ids=str)
def test_one_full_multigrid_pass_reaches_the_discretization_error(shape, centering, options):
    case = manufactured(shape, [SIDES[0]] * len(shape), centering)
    one_pass = solve(case, **options)
    assert one_pass.iterations == 1
    assert case.error(one_pass.u) <= 1.15 * case.error(solve(case, rtol=1e-10).u)


@pack
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("sides", mixes(1) + mixes(2) + mixes(3), ids=str)
def test_one_full_multigrid_pass_suffices_for_every_mix_of_sides(sides, centering):
    for n in (31, 40) if len(sides) == 3 else (63, 100):
        case = manufactured((n,) * len(sides), sides, centering)
        discretization = case.error(solve(case, rtol=1e-10).u)
        for options in PASSES:
            assert case.error(solve(case, **options).u) <= 1.15 * discretization


def test_folding_homogeneous_values_on_coarse_levels_would_be_seen():
    """A negative control: one pass over levels that forget their boundary values is far off."""
    case = manufactured((127, 127), [SIDES[0]] * 2, "vertex")
    cycle = StencilCycle(case.problem)
    levels = [level.rebound(Poisson.homogeneous_on(level.problem.grid, 0.0), level.coarser) for level in cycle.own_levels[1:]]
    forgetful = cycle._like_this([cycle.own_levels[0], *levels]).solve(case.f, maxiter=1, rtol=0.0, raise_on_failure=False)
    assert case.error(forgetful.u) > 100 * case.error(solve(case, rtol=1e-10).u)
