"""Coefficients that vary on several processes: the iterates and iteration counts of one, whatever their number."""

import numpy as np
import pytest
from processes.comparison import blocks, drawn_sides

import unigrid

EPS = np.finfo(np.float64).eps


def drawn_coefficient(rng, shape, kind):
    """Return a coefficient: smooth, with jumps, random from point to point, or stronger along one axis, which may turn."""
    points = np.meshgrid(*(np.linspace(0.0, 1.0, n) for n in shape), indexing="ij")
    waves = np.prod([1.5 + np.sin(rng.uniform(1, 6) * x + rng.uniform(0, 6)) for x in points], axis=0)
    if kind == "smooth":
        return waves
    if kind == "inclusion":
        inside = np.all([abs(x - rng.uniform(0.3, 0.7)) < 0.25 for x in points], axis=0)
        return np.where(inside, 10.0 ** rng.integers(-4, 5), waves)
    if kind == "random":
        return np.exp(rng.choice([1.0, 2.0]) * rng.standard_normal(shape))
    if kind == "squares":
        parity = sum(np.indices(shape) // rng.integers(6, 12)) % 2
        return np.where(parity == 1, 1e3, 1.0)
    strength = 10.0 ** rng.uniform(-2, 2, len(shape))
    if kind == "strong axis":
        return [(lambda *x, a=a: a * (1.0 + 0 * sum(x))) for a in strength]
    return [(lambda *x, a=a: np.where(sum(x) > 0.5 * len(x), a, 1.0 / a)) for a in strength]  # "turning"


def drawn_distances(rng, axis_of):
    """Return distances between grid lines that grow smoothly."""
    steps = np.linspace(0.0, 1.0, axis_of)
    return 0.05 + rng.uniform(0.2, 2.0) * np.sin(np.pi * steps) ** 2 + rng.uniform(0.0, 1.0) * steps


KINDS = "smooth", "inclusion", "random", "squares", "strong axis", "turning", "none"


def drawn_mask(rng, shape):
    """Return options of a mask: a ball, or points strewn, with values or nothing outside, and points where u is given."""
    points = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    center = rng.uniform(-0.2, 0.2, len(shape))
    ball = sum((x - at) ** 2 for x, at in zip(points, center, strict=True)) < rng.uniform(0.6, 0.95) ** 2
    mask = ball if rng.random() < 0.5 else rng.random(shape) < rng.uniform(0.7, 0.95)
    options = {"mask": mask}
    if rng.random() < 0.6:
        options["outside"] = "natural"
    elif rng.random() < 0.5:
        options["outside"] = rng.standard_normal(shape)
    if rng.random() < 0.3:
        options["fixed"] = mask & (rng.random(shape) < 0.05), 1.5
    return options


def drawn(seed):
    """Return the arguments of a problem of any kind, a source, slots, and how many processes."""
    rng = np.random.default_rng(seed)
    size, ndim = int(rng.choice([1, 2, 3, 4, 6, 8])), int(rng.choice([1, 2, 2, 2, 3, 3]))
    masked = ndim > 1 and rng.random() < 0.3  # the window of a mask is up to a third smaller
    rows = int(rng.integers((18 if masked else 12) * size, 20 * size + 60)) if ndim > 1 else int(rng.integers(5200, 6000))
    least = 12000 if masked else 5200
    others = [(), rng.integers(max(9, least // rows), max(20, least // rows + 40), 1), rng.integers(17, 24, 2)][ndim - 1]
    if masked and ndim == 3:
        others = others + 10
    centering = ["vertex", "cell"][rng.integers(2)]
    boundary = drawn_sides(rng, ndim)
    rows += rows % 2 * (boundary[0] == "periodic")
    shape = (rows, *map(int, others))
    kind = KINDS[rng.integers(len(KINDS))]
    options = {"boundary": boundary, "centering": centering, "spacing": [float(h) for h in rng.uniform(0.5, 1.0, ndim)]}
    if kind != "none":
        options["coefficient"] = drawn_coefficient(rng, shape, kind)
    options["reaction"] = [0.0, 0.0, 2.0, rng.uniform(0.0, 3.0, shape)][rng.integers(4)]
    if kind == "none" and not masked:
        options["reaction"] = rng.uniform(0.0, 3.0, shape)
    number = int(rng.integers(ndim))
    if rng.random() < 0.2 and boundary[number] != "periodic":
        boundary[number] = (unigrid.Robin(float(10.0 ** rng.uniform(-3, 1)), 1.0), boundary[number][1])
    if rng.random() < 0.2:
        axes = unigrid.Poisson(shape, boundary=boundary, centering=centering).grid.axes
        options["spacing"] = [drawn_distances(rng, axis.intervals) for axis in axes]
    if masked:
        options |= drawn_mask(rng, shape)
    slots = {"cycle": ["auto", "V", "W", "F"][rng.integers(4)]}
    if rng.random() < 0.2:
        slots["smoother"] = ["points", "lines"][rng.integers(2)]
    return shape, options, rng.standard_normal(shape), slots, size


def in_blocks(shape, options, comm):
    """Return the problem of which each process is given its rows of all arrays."""
    rows = unigrid.DomainProblem.rows(shape, comm)

    def cut(value):
        if isinstance(value, tuple):
            return tuple(map(cut, value))
        return value[rows] if isinstance(value, np.ndarray) else value

    kept = {name: value if name in ("boundary", "spacing") else cut(value) for name, value in options.items()}
    return unigrid.DomainProblem(shape, comm, **kept)


def compared(seed, **more):
    """Return the solutions on several processes and on one, and the largest difference of u as a part of u."""
    shape, options, f, slots, size = drawn(seed)
    problem = unigrid.Poisson(shape, **options)
    keywords = {"compatibility": "project", "start": ["fmg", "zero"][seed % 2], "raise_on_failure": False, **more}
    keywords["precision"] = ["auto", "full"][seed // 2 % 2]
    own = unigrid.GalerkinCycle(problem, **slots).solve(f, **keywords)
    given = problem if seed % 3 else lambda comm: in_blocks(shape, options, comm)
    u, solution = blocks(given, f, size, slots, **keywords)
    return solution, own, float(np.abs(u - own.u).max() / np.abs(own.u).max())


def assert_the_same(seed):
    solution, own, difference = compared(seed)
    assert (solution.iterations, solution.reason) == (own.iterations, own.reason)
    # Sums of means differ in their last bits, which the condition of 5,000 unknowns in a row, 1e7, makes larger.
    assert difference <= (1e-12 if own.u.ndim > 1 else 1e-9)
    assert solution.residuals[0] == pytest.approx(own.residuals[0], rel=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3, 6])
def test_the_iterates_are_those_of_one_process(seed):
    assert_the_same(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 220, 10))
def test_the_iterates_are_those_of_one_process_for_any_problem(first):
    for seed in range(first, first + 10):
        assert_the_same(seed)
