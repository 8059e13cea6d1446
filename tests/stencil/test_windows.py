"""A small region of a large box is solved in its window: the same u, the same refusals, arrays of the box's shape."""

import numpy as np
import pytest
from domains import direct, disc, noise
from tiers import pack

import unigrid

SIDES = ["dirichlet", "neumann", "periodic", ["neumann", ("dirichlet", "neumann")]]


@pack
@pytest.mark.parametrize("seed", range(60))
def test_it_is_the_answer_of_a_direct_solve(seed, rng):
    """Regions at corners, at sides, across periodic seams, and inside."""
    ndim = 2 + seed % 2
    shape = tuple(int(n) for n in rng.integers(8, {2: 40, 3: 14}[ndim], ndim))
    first = [int(rng.integers(0, n - 3)) for n in shape]
    size = [int(rng.integers(2, n - at + 1)) for at, n in zip(first, shape, strict=True)]
    mask = np.zeros(shape, bool)
    mask[tuple(slice(at, at + n) for at, n in zip(first, size, strict=True))] = rng.random(size) < 0.7
    mask[tuple(first)] = True
    mask = np.roll(mask, tuple(rng.integers(0, shape)) if seed % 4 == 2 else (0,) * ndim, range(ndim))
    f, values = rng.standard_normal((2, *shape))
    options = {
        "boundary": SIDES[seed % 4] if ndim == 2 else SIDES[seed % 3], "centering": ["vertex", "cell"][seed // 4 % 2],
        "coefficient": np.exp(rng.standard_normal(shape)), "reaction": [0.0, rng.random(shape)][seed // 8 % 2],
        "spacing": tuple(rng.uniform(0.5, 2.0, ndim)),
    }  # fmt: skip
    box = unigrid.Poisson(shape, **options)
    for outside, given in ((values, ~mask), ("natural", np.zeros_like(mask))):
        solution = unigrid.solve(f, mask=mask, outside=outside, compatibility="project", rtol=1e-12, **options)
        wanted, _ = direct(box, f, mask, given, values)
        assert np.abs(solution.u - wanted).max() <= 1e-8 * np.abs(wanted[mask]).max() + 1e-13
        assert np.array_equal(solution.u[given], values[given])


def test_values_of_sides_are_cut_to_the_window():
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 40), bool)
    mask[:12, 20:33] = True
    low, values = rng.standard_normal(40), np.zeros((30, 40))
    options = {"boundary": [(unigrid.Dirichlet(low), unigrid.Neumann(3.0)), "dirichlet"], "spacing": 1}
    u = unigrid.solve(np.zeros((30, 40)), mask=mask, rtol=1e-12, **options).u
    f = np.zeros((30, 40))
    f[0] = low  # what the side adds
    wanted, _ = direct(
        unigrid.Poisson((30, 40), boundary=[("dirichlet", "neumann"), "dirichlet"], spacing=1), f, mask, ~mask, values
    )
    assert np.abs(u - wanted).max() <= 1e-9 * np.abs(wanted).max()


@pytest.mark.parametrize("first", [0, 3, 13])
def test_what_lies_across_a_periodic_seam_counts(first):
    """A region at the low end, inside, and at the high end of 16 rows."""
    rng = np.random.default_rng(0)
    mask = np.zeros((16, 9), bool)
    mask[first : first + 3, 2:6] = True
    f, values = rng.standard_normal((2, 16, 9))
    options = {"boundary": ["periodic", "dirichlet"], "spacing": 1}
    wanted, _ = direct(unigrid.Poisson((16, 9), **options), f, mask, ~mask, values)
    u = unigrid.solve(f, mask=mask, outside=values, rtol=1e-12, **options).u
    assert np.abs(u - wanted).max() <= 1e-9
    away = {0: 15, 3: 6, 13: 0}[first]  # a row beside the region, across the seam
    values[away, 3] = np.nan
    with pytest.raises(ValueError, match=rf"Dirichlet data missing: outside\[{away}, 3\] is NaN"):
        unigrid.solve(f, mask=mask, outside=values, **options)
    values[away, 3], values[(first + 8) % 16] = 0.0, np.nan
    assert unigrid.solve(f, mask=mask, outside=values, **options).converged


def corner(n, shape=disc):
    mask = np.zeros((n, n), bool)
    mask[3:43, 5:45] = shape(40)
    return mask


def test_the_levels_are_those_of_the_window():
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((300, 300), mask=corner(300)))
    assert cycle.levels[0].shape[1] < 45
    b = np.random.default_rng(0).standard_normal((300, 300))
    once = cycle(b)
    assert once.shape == b.shape
    assert not once[~corner(300)].any()
    residual = np.linalg.norm((b - cycle.problem.operator(once))[corner(300)])
    assert residual < 0.1 * np.linalg.norm(b[corner(300)])
    twice = cycle(b, once)
    assert np.linalg.norm((b - cycle.problem.operator(twice))[corner(300)]) < 0.1 * residual


def test_callbacks_and_u0_have_the_shape_of_the_box():
    mask, f, seen = corner(100), np.random.default_rng(0).standard_normal((100, 100)), []
    outside = np.random.default_rng(1).standard_normal((100, 100))

    def watch(solution):
        seen.append(solution.u)
        with pytest.raises(ValueError, match="read-only"):
            solution.u[0, 0] = 1.0

    u = unigrid.solve(f, mask=mask, outside=outside, rtol=1e-10, callback=watch).u
    assert all(np.array_equal(each[~mask], outside[~mask]) for each in seen)
    assert np.array_equal(seen[-1], u)
    assert u.flags.writeable
    assert unigrid.solve(f, mask=mask, outside=outside, rtol=1e-9, u0=u).iterations == 0
    with pytest.raises(TypeError, match="callback must be callable"):
        unigrid.solve(f, mask=mask, callback=3)


def test_errors_name_places_of_the_box():
    f = np.ones((100, 100))
    with pytest.raises(ValueError, match=r"component 1 \(\d+ unknowns in \[7:39, 9:41\]\) has mean 1\b"):
        unigrid.solve(f, mask=corner(100), outside="natural", boundary="neumann")
    f[20, 21] = f[90, 90] = np.nan
    for given, options in ((f, {}), (np.stack([f, f], -1), {"channels": "last"})):
        with pytest.raises(ValueError, match=r"f must be finite, but f\[.*20, 21\] is nan \([12] such"):
            unigrid.solve(given, mask=corner(100), **options)
    assert unigrid.solve(np.where(corner(100), 1.0, np.nan), mask=corner(100)).converged


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outside", [1.0, "natural"])
def test_the_operator_of_the_whole_box_is_never_assembled(outside, dtype):
    problem = unigrid.Poisson((200, 200), mask=corner(200), outside=outside, boundary="neumann")
    unigrid.GalerkinCycle(problem).solve(np.ones((2, 200, 200), dtype), compatibility="project")
    assert "_form" not in vars(problem.operator)


def test_a_small_region_costs_what_is_in_it():
    """Allocated memory stands for time: the arrays of the levels."""
    small, large = (unigrid.GalerkinCycle(unigrid.Poisson((n, n), mask=corner(n, noise))) for n in (50, 1000))
    assert small.operator_complexity == large.operator_complexity
    assert [level.shape for level in small.levels] == [level.shape for level in large.levels]


def test_a_stretched_periodic_axis_that_is_not_cut():
    rng = np.random.default_rng(0)
    mask = np.zeros((12, 20), bool)
    mask[:, 5:12] = True
    options = {"boundary": ["periodic", "dirichlet"], "spacing": [rng.uniform(0.5, 1.5, 12), rng.uniform(0.5, 1.5, 21)]}
    f = rng.standard_normal(mask.shape)
    wanted, _ = direct(unigrid.Poisson(mask.shape, **options), f, mask, ~mask, np.ones(mask.shape))
    u = unigrid.solve(f, mask=mask, outside=1.0, rtol=1e-12, **options).u
    assert np.abs(u - wanted)[mask].max() <= 1e-9 * np.abs(wanted[mask]).max()
