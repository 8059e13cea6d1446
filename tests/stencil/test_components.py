"""Components of a mask that no value holds: f must have mean zero on each, and u is the solution that has."""

import itertools
import re

import numpy as np
import pytest
from domains import corridors, direct, disc, half, letters, many, noise, one
from tiers import pack

import unigrid

NATURAL = {"outside": "natural", "boundary": "neumann", "centering": "cell"}


def parts_of(mask, periodic=()):
    """Return the number of the component of each point, from 1 in the order of their first points, by flooding."""
    labels, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        count += 1
        stack, labels[start] = [start], count
        while stack:
            place = stack.pop()
            for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
                there = list(place)
                there[axis] += step
                if axis in periodic:
                    there[axis] %= mask.shape[axis]
                there = tuple(there)
                if 0 <= there[axis] < mask.shape[axis] and mask[there] and not labels[there]:
                    labels[there] = count
                    stack.append(there)
    return labels


def means(values, labels):
    return np.array([values[labels == part].mean() for part in range(1, labels.max() + 1)])


@pack
@pytest.mark.parametrize("seed", range(40))
def test_parts_are_those_of_flooding(seed, rng):
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(1, 12, ndim))
    mask = rng.random(shape) < rng.uniform(0.2, 0.8)
    mask.flat[0], mask.flat[-1] = True, mask.size == 1
    periodic = [axis for axis in range(ndim) if rng.random() < 0.5]
    sides = ["periodic" if axis in periodic else "neumann" for axis in range(ndim)]
    problem = unigrid.Poisson(shape, mask=mask, outside="natural", boundary=sides, centering="cell")
    labels = parts_of(mask, periodic)
    if mask.all():
        assert problem.parts is None
        return
    assert np.array_equal(problem.parts.labels, labels)
    assert problem.parts.components == labels.max()
    centered = problem.centered(rng.standard_normal(shape))
    assert np.abs(means(centered, labels)).max() <= 1e-13


@pytest.mark.parametrize("shape", [letters, many, corridors, half, noise, one])
def test_a_compatible_source_needs_no_option_and_u_has_mean_zero(shape):
    mask, rng = shape(40), np.random.default_rng(0)
    labels, f = parts_of(mask), rng.standard_normal((40, 40))
    f[mask] -= means(f, labels)[labels[mask] - 1]
    f[~mask] = np.nan  # never read
    solution = unigrid.solve(f, mask=mask, rtol=1e-10, **NATURAL)
    assert solution.converged
    assert np.abs(means(solution.u, labels)).max() <= 1e-14
    shifted = np.where(mask, solution.u + labels, 0.0)  # another constant on each
    assert unigrid.solve(f, mask=mask, u0=shifted, rtol=1e-9, **NATURAL).iterations == 0


def three(n=30):
    """A disc, a block and a pixel."""
    mask = np.zeros((n, n), bool)
    mask[:16, :16], mask[20:24, 3:10], mask[27, 28] = disc(16), True, True
    return mask


def test_the_error_names_each_component_that_has_no_solution():
    mask = three()
    f = np.where(parts_of(mask) == 2, -1.5, np.where(parts_of(mask) == 3, 4.0, 0.0))
    with pytest.raises(ValueError, match="mean zero") as error:
        unigrid.solve(f, mask=mask, **NATURAL)
    message = str(error.value)
    assert "which fails on 2 of 3: component 2" in message
    assert "component 2 (28 unknowns in [20:24, 3:10]) has mean -1.5" in message
    assert "component 3 (1 unknown in [27:28, 28:29]) has mean 4" in message
    assert "compatibility='project'" in message
    assert "component 1 (" not in message
    assert "\n" not in message
    projected = unigrid.solve(f, mask=mask, compatibility="project", **NATURAL)
    assert not projected.u.any()
    assert "Means of up to 4 were taken out" in projected.message


def test_an_error_about_many_components_is_short():
    with pytest.raises(ValueError, match=r"fails on \d+ of \d+: component 1 .*; and \d+ more\.") as error:
        unigrid.solve(np.ones((60, 60)), mask=half(60), **NATURAL)
    assert len(str(error.value)) < 600


def test_some_components_are_held():
    """By a side, by a value, by a reaction; the others are not."""
    mask = np.zeros((20, 30), bool)
    for first in (0, 8, 14):
        for left in (2, 9, 16, 23):
            mask[first : first + 5, left : left + 5] = True
    labels = parts_of(mask)
    where, reaction = np.zeros_like(mask), np.zeros(mask.shape)
    where[10, 4] = True
    reaction[15, 10:12] = 3.0
    boundary = [("dirichlet", "neumann"), "neumann"]
    values = np.where(where, 2.0, np.nan)
    f = np.random.default_rng(0).standard_normal(mask.shape)
    f[labels > 5] -= means(f, labels)[labels[labels > 5] - 1]
    f[labels == 10] += 1.0  # that of the reaction may have any mean
    options = {"boundary": boundary, "reaction": reaction}
    u = unigrid.solve(f, mask=mask, outside="natural", fixed=(where, values), rtol=1e-12, **options).u
    held = sorted({1, 2, 3, 4, labels[10, 4], labels[15, 10]})
    wanted, free = direct(unigrid.Poisson(mask.shape, **options), f, mask & ~where, where, values)
    assert np.abs(u - wanted).max() <= 1e-9 * np.abs(wanted).max()
    assert not set(np.unique(labels[(free == 0) & mask])) - set(held)
    f[labels == 12] += 1.0
    with pytest.raises(ValueError, match=r"fails on 1 of 12: component 12 \("):
        unigrid.solve(f, mask=mask, outside="natural", fixed=(where, values), **options)


def test_fluxes_through_the_sides_of_the_box_count():
    mask = np.ones((12, 12), bool)
    mask[:, 6] = False
    flux = unigrid.Neumann(1.0)
    options = {"mask": mask, "outside": "natural", "centering": "cell", "boundary": ["neumann", (flux, "neumann")]}
    f = np.zeros((12, 12))
    with pytest.raises(ValueError, match=r"fails on 1 of 2: component 1 \(72 unknowns in \[0:12, 0:6\]\) has mean 2\b"):
        unigrid.solve(f, **options)
    f[:, :6] = -2.0  # on half of the width
    assert unigrid.solve(f, **options).converged


def test_a_box_split_by_a_slit_is_two_boxes():
    f = np.random.default_rng(0).standard_normal((32, 41))
    left, right = f[:, :20], f[:, 21:]
    left -= left.mean()
    right -= right.mean()
    mask = np.ones(f.shape, bool)
    mask[:, 20] = False
    u = unigrid.solve(f, mask=mask, outside="natural", boundary="neumann", centering="cell", spacing=1, rtol=1e-11).u
    for part, own in ((u[:, :20], left), (u[:, 21:], right)):
        alone = unigrid.solve(own, boundary="neumann", centering="cell", spacing=1, rtol=1e-11).u
        assert np.abs(part - alone).max() <= 1e-9 * np.abs(alone).max()


def test_thousands_of_components_are_told_apart_in_one_go():
    mask = half(300)
    problem = unigrid.Poisson(mask.shape, mask=mask, **NATURAL)
    assert problem.parts.components > 5000
    u = np.random.default_rng(0).standard_normal(mask.shape)
    labels = problem.parts.labels
    assert np.abs(np.bincount(labels.ravel(), problem.centered(u).ravel())[1:]).max() <= 1e-12
    assert np.array_equal(problem.centered(u)[~mask], u[~mask])
    assert re.fullmatch(r"\d+", str(problem.parts.numbers[-1]))
