"""Stretched grids and Robin sides: matrix, operator and right-hand side against a balance of every cell, written out."""

import itertools

import numpy as np
import pytest
import scipy.sparse
from tiers import pack

import unigrid

KINDS = ["dirichlet", "neumann", "robin"]


class Line:
    """One axis: where its unknowns lie, and how far from each the faces before and behind it are, plainly."""

    def __init__(self, n, low, high, centering, distances):
        self.n, self.sides, self.centering, self.distances = n, (low, high), centering, distances
        x = np.concatenate([[0.0], np.cumsum(distances)])
        self.length = x[-1]
        if centering == "cell":
            self.at = [(x[i] + x[i + 1]) / 2 for i in range(n)]
            self.halves = [(d / 2, d / 2) for d in distances]
        else:
            first = 1 if low == "dirichlet" else 0
            self.at = [x[first + i] for i in range(n)]
            self.halves = [(self.gap(first + i - 1) / 2, self.gap(first + i) / 2) for i in range(n)]

    def gap(self, number):
        """Return the distance number `number` of vertices, 0 beyond the box."""
        if self.sides[0] == "periodic":
            return self.distances[number % self.n]
        return self.distances[number] if 0 <= number < len(self.distances) else 0.0

    def width(self, i):
        return sum(self.halves[i])

    def to_side(self, i, behind):
        """Return the distance from an unknown at an end to the side: cells end there, vertices end halfway."""
        return self.halves[i][behind] * (1 if self.centering == "cell" else 2)


def intervals(n, low, high, centering):
    if centering == "cell" or low == "periodic":
        return n
    return n + 1 - (low != "dirichlet") - (high != "dirichlet")


def balance(lines, a, c, alphas, values):
    """Return A and b's part from the sides: flux out of each cell, plus c u volume, over its volume.

    Between two unknowns the flux passes two conductors in series, each from an unknown to the face. At a Dirichlet side of
    cells it passes one; a Robin side adds the resistance 1 / alpha. `a` is a at the unknowns.
    """
    A, added = scipy.sparse.dok_array((a.size, a.size)), np.zeros(a.shape)
    number = np.arange(a.size).reshape(a.shape)
    for place in itertools.product(*map(range, a.shape)):
        own = number[place]
        A[own, own] += c[place]
        for axis, line in enumerate(lines):
            i, n = place[axis], line.n
            for step in (-1, 1):
                j, side, end = i + step, line.sides[step > 0], 0 if step < 0 else -1
                inside = line.halves[i][step > 0]
                across = tuple(p for other, p in enumerate(place) if other != axis)
                if 0 <= j < n or side == "periodic":
                    there = (*place[:axis], j % n, *place[axis + 1 :])
                    if there == place:  # one unknown around: no flux
                        continue
                    outside = line.halves[j % n][step < 0]
                    per_area = 1.0 / (inside / a[place] + outside / a[there])
                    A[own, number[there]] -= per_area / line.width(i)
                elif side == "neumann":
                    added[place] += values[axis, end][across] / line.width(i)
                    continue
                elif side == "robin":
                    alpha = alphas[axis, end][across]
                    conducts = np.inf if line.centering == "vertex" else extrapolated(a, place, axis, -step, line) / inside
                    passed = 1.0 if np.isinf(conducts) else conducts / (conducts + alpha)
                    per_area = alpha * passed
                    added[place] += passed * values[axis, end][across] / line.width(i)
                elif line.centering == "cell":
                    per_area = extrapolated(a, place, axis, -step, line) / inside
                    added[place] += per_area * values[axis, end][across] / line.width(i)
                else:  # a node on the side, as far beyond the face as the unknown is before it
                    per_area = 1.0 / (inside / a[place] + inside / extrapolated(a, place, axis, -step, line))
                    added[place] += per_area * values[axis, end][across] / line.width(i)
                A[own, own] += per_area / line.width(i)
    return A.tocsr(), added


def extrapolated(a, place, axis, inward, line):
    """Return a on the side: on the line through two unknowns where they differ by less than 2, else that of the nearest."""
    n, i = line.n, place[axis]
    inner = (*place[:axis], i + inward, *place[axis + 1 :]) if n > 1 else place
    one, two = a[place], a[inner]
    if n == 1 or max(one, two) >= 2 * min(one, two):
        return one
    between = line.halves[i][inward > 0] + line.halves[i + inward][inward < 0]
    return one + line.to_side(i, inward < 0) / between * (one - two)


def random_case(rng, ndim):
    centering = ["vertex", "cell"][int(rng.integers(2))]
    lines, spacing, boundary, alphas, values = [], [], [], {}, {}
    shape = tuple(int(n) for n in rng.integers(1, {1: 12, 2: 7, 3: 5}[ndim], ndim))
    pairs = [("periodic",) * 2 if rng.random() < 0.2 else tuple(rng.choice(KINDS, 2)) for _ in shape]
    least = [2 if centering == "vertex" and not {"dirichlet", "periodic"} & set(pair) else 1 for pair in pairs]
    shape = tuple(max(n, few) for n, few in zip(shape, least, strict=True))
    for axis, (n, pair) in enumerate(zip(shape, pairs, strict=True)):
        count = intervals(n, *pair, centering)
        distances = (
            np.exp(rng.uniform(0, 3) * rng.standard_normal(count)) if rng.random() < 0.8 else np.full(count, rng.random())
        )
        uniform = (distances == distances[0]).all()
        spacing.append(float(distances[0]) if uniform and rng.random() < 0.5 else distances)
        lines.append(Line(n, *pair, centering, distances))
        across, sides = shape[:axis] + shape[axis + 1 :], []
        for end, kind in zip((0, -1), pair, strict=True):
            values[axis, end] = rng.standard_normal(across)
            alphas[axis, end] = rng.random(across) * 10.0 ** rng.integers(-3, 3) * (rng.random(across) < 0.8)
            sides.append(
                {
                    "dirichlet": unigrid.Dirichlet(values[axis, end]),
                    "neumann": unigrid.Neumann(values[axis, end]),
                    "robin": unigrid.Robin(alphas[axis, end], values[axis, end]),
                    "periodic": unigrid.Periodic(),
                }[kind]
            )
        boundary.append(tuple(sides))
    a = np.exp(rng.uniform(0, 2) * rng.standard_normal(shape)) if rng.random() < 0.8 else np.ones(shape)
    c = [np.zeros(shape), rng.random(shape)][int(rng.integers(2))]
    options = {"spacing": spacing, "boundary": boundary, "centering": centering, "reaction": c}
    if rng.random() < 0.5 or (a != 1.0).any():
        options["coefficient"] = a
    return shape, lines, a, c, alphas, values, options


@pack
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("case", range(110))
def test_matrix_operator_and_right_hand_side_balance_every_cell(case, ndim, rng):
    shape, lines, a, c, alphas, values, options = random_case(rng, ndim)
    mask = rng.random(shape) < 0.7 if rng.random() < 0.4 else np.ones(shape, bool)
    outside = rng.standard_normal(shape)
    if mask.any() and not mask.all():
        options |= {"mask": mask, "outside": outside}
    else:
        mask[:] = True
    problem = unigrid.Poisson(shape, **options)
    A, added = balance(lines, a, c, alphas, values)
    rows = np.abs(A).sum(axis=1)  # what rounding is relative to, row by row
    inside = mask.ravel()
    added = added.ravel() - A[:, ~inside] @ outside.ravel()[~inside]  # given values are no unknowns
    A = A.toarray()[np.ix_(inside, inside)]
    found = problem.matrix().toarray()
    assert not found[np.ix_(inside, ~inside)].any()
    assert (np.abs(found[np.ix_(inside, inside)] - A) / rows[inside, None]).max() <= 1e-13
    u, f = rng.standard_normal(shape), rng.standard_normal(shape)
    wanted, scale = A @ u[mask], rows[inside] * np.abs(u).max()
    u = np.where(mask, u, 0.0)
    assert (np.abs(problem.operator(u)[mask] - wanted) / scale).max() <= 1e-13
    assert (np.abs(problem.operator.residual(f, u)[mask] - (f[mask] - wanted)) / (scale + np.abs(f[mask]))).max() <= 1e-13
    b = problem.rhs(f)
    terms = np.abs(f).ravel() + np.abs(added) + rows * np.abs(outside).max()
    assert (np.abs(b[mask] - (f[mask] + added[inside])) <= 1e-13 * terms[inside]).all()
    volumes = np.ones(())
    for x, line in zip(problem.coordinates(), lines, strict=True):
        np.testing.assert_allclose(x.ravel(), line.at, rtol=1e-13, atol=1e-13 * line.length)
        volumes = np.multiply.outer(volumes, [line.width(i) for i in range(line.n)])
    np.testing.assert_allclose(problem.weights, volumes, rtol=1e-12)
    W = scipy.sparse.diags_array(problem.weights.ravel()) @ problem.matrix()
    assert np.abs(W - W.T).max() <= 1e-13 * np.abs(W).max()
