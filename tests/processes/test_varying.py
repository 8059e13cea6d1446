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


def drawn(seed):
    """Return a problem of any kind, a source, slots, and how many processes."""
    rng = np.random.default_rng(seed)
    size, ndim = int(rng.choice([1, 2, 3, 4, 6, 8])), int(rng.choice([1, 2, 2, 2, 3, 3]))
    rows = int(rng.integers(12 * size, 16 * size + 60)) if ndim > 1 else int(rng.integers(5200, 6000))
    others = [(), rng.integers(max(9, 5200 // rows), max(20, 5200 // rows + 40), 1), rng.integers(17, 24, 2)][ndim - 1]
    centering = ["vertex", "cell"][rng.integers(2)]
    boundary = drawn_sides(rng, ndim)
    shape = (rows, *map(int, others))
    shape = (shape[0] + shape[0] % 2 * (boundary[0] == "periodic"), *shape[1:])
    kind = KINDS[rng.integers(len(KINDS))]
    options = {"boundary": boundary, "centering": centering, "spacing": [float(h) for h in rng.uniform(0.5, 1.0, ndim)]}
    if kind != "none":
        options["coefficient"] = drawn_coefficient(rng, shape, kind)
    reactions = [0.0, 0.0, 2.0, "array"]
    options["reaction"] = reactions[rng.integers(4)]
    if options["reaction"] == "array" or kind == "none":
        options["reaction"] = rng.uniform(0.0, 3.0, shape)
    if rng.random() < 0.2:
        number = int(rng.integers(ndim))
        alpha = float(10.0 ** rng.uniform(-3, 1))
        if boundary[number] != "periodic":
            boundary[number] = (unigrid.Robin(alpha, 1.0), boundary[number][1])
    if rng.random() < 0.2:
        axes = unigrid.Poisson(shape, boundary=boundary, centering=centering).grid.axes
        options["spacing"] = [drawn_distances(rng, axis.intervals) for axis in axes]
    slots = {"cycle": ["auto", "V", "W", "F"][rng.integers(4)]}
    if rng.random() < 0.2:
        slots["smoother"] = ["points", "lines"][rng.integers(2)]
    return unigrid.Poisson(shape, **options), rng.standard_normal(shape), slots, size


def assert_the_same(seed):
    problem, f, slots, size = drawn(seed)
    options = {"compatibility": "project", "start": ["fmg", "zero"][seed % 2], "raise_on_failure": False}
    options["precision"] = ["auto", "full"][seed // 2 % 2]
    u, solution = blocks(problem, f, size, slots, **options)
    own = unigrid.GalerkinCycle(problem, **slots).solve(f, **options)
    assert (solution.iterations, solution.reason) == (own.iterations, own.reason)
    # Sums of means differ in their last bits, which the condition of 5,000 unknowns in a row, 1e7, makes larger.
    assert np.abs(u - own.u).max() <= (1e-12 if f.ndim > 1 else 1e-9) * np.abs(own.u).max()
    assert solution.residuals[0] == pytest.approx(own.residuals[0], rel=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3, 6])
def test_the_iterates_are_those_of_one_process(seed):
    assert_the_same(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 220, 10))
def test_the_iterates_are_those_of_one_process_for_any_problem(first):
    for seed in range(first, first + 10):
        assert_the_same(seed)
