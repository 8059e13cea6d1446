"""Coefficients that vary on several processes: the iterates and iteration counts of one, whatever their number."""

import numpy as np
import pytest
from processes.comparison import blocks, drawn_sides
from processes.threads import Group

import unigrid


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


@pytest.mark.parametrize("seed", [6, 12])
def test_the_iterates_are_those_of_one_process(seed):
    assert_the_same(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 220, 10))
def test_the_iterates_are_those_of_one_process_for_any_problem(first):
    for seed in range(first, first + 10):
        assert_the_same(seed)


SHAPE = (110, 60)
F = np.random.default_rng(0).standard_normal(SHAPE)
JUMPS = np.where(np.add.outer(np.arange(110), np.arange(60)) % 50 < 20, 50.0, 1.0)


@pytest.mark.parametrize("options", [{}, {"accelerate": None}, {"accelerate": None, "precision": "auto", "dtype": np.float32}])
def test_bits_are_those_of_one_process(options):
    f = F.astype(options.pop("dtype", np.float64))
    problem = unigrid.Poisson(SHAPE, coefficient=JUMPS, boundary=[(unigrid.Dirichlet(1.0), "neumann"), "periodic"])
    own = unigrid.GalerkinCycle(problem).solve(f, **options)
    for size in (1, 3):
        u, solution = blocks(problem, f, size, **options)
        assert np.array_equal(u, own.u)
        assert (u.dtype, solution.residuals) == (f.dtype, own.residuals)


@pytest.mark.parametrize("boundary", [["periodic", "dirichlet"], "dirichlet"])
def test_lines_across_blocks(boundary):
    """A strong axis that turns makes lines along both; the first process has the beginning of a periodic axis in its midst."""
    along = [lambda x, y: np.where(x > 0.3, 100.0, 0.01), lambda x, y: np.where(x > 0.3, 0.01, 100.0)]
    problem = unigrid.Poisson(SHAPE, coefficient=along, boundary=boundary)
    own = unigrid.GalerkinCycle(problem)
    assert "lines" in own.title
    assert np.array_equal(blocks(problem, F, 3)[0], own.solve(F).u)


@pytest.mark.parametrize("coefficient", [None, JUMPS])
@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_a_start(coefficient, precision):
    problem = unigrid.Poisson(SHAPE, coefficient=coefficient, boundary=[("dirichlet", unigrid.Neumann(0.5)), "dirichlet"])
    cycle = unigrid.GalerkinCycle(problem) if problem.varies else unigrid.StencilCycle(problem)
    u0 = cycle.solve(F, rtol=1e-2).u
    own = cycle.solve(F, u0=u0, precision=precision)

    def solve(comm):
        cycle = unigrid.DomainCycle(problem, comm)
        return cycle.solve(F[cycle.local], u0=u0[cycle.local], precision=precision)

    found = Group(3).run(solve)
    assert found[0].iterations == own.iterations
    u = np.concatenate([each.u for each in found])
    assert np.abs(u - own.u).max() <= 1e-12 * np.abs(own.u).max()


def test_messages_per_cycle_and_level():
    """A cycle: two exchanges per level in blocks but the last, of the source going down and the correction going up."""

    def counted(comm):
        cycle = unigrid.DomainCycle(unigrid.Poisson((220, 100), coefficient=lambda x, y: 1.0 + x), comm, cycle="V")
        r = cycle.rows.part.extended(np.random.default_rng(0).standard_normal(cycle.local_shape))
        before = len(comm.messages)
        cycle._correction(r)
        return len(comm.messages) - before, sum("Domain" in type(level).__name__ for level in cycle.levels)

    (first, levels), (middle, _), (last, _) = Group(3).run(counted)
    assert levels == 2
    exchanges = 1 + 2 * (levels - 1)  # the source of the finest level
    assert (first, middle, last) == (exchanges, 2 * exchanges, exchanges)


def test_free_components_are_found_across_blocks():
    """Two combs that touch no side, their teeth in all blocks, and a source that has no mean on one of them."""
    mask = np.zeros(SHAPE, bool)
    mask[5:105, 4:28:4] = mask[5:8, 4:26] = True
    mask[5:105, 34:56:4] = mask[100:105, 34:56] = True
    problem = unigrid.Poisson(SHAPE, mask=mask, outside="natural")
    f = np.where(mask, F, np.nan)
    f[:, :30] -= f[:, :30][mask[:, :30]].mean()
    with pytest.raises(ValueError, match=r"component 2 \(680 unknowns in \[5:105, 34:56\]\) has mean") as one:
        unigrid.GalerkinCycle(problem).solve(f)
    with pytest.raises(ValueError, match="component 2") as several:
        blocks(problem, f, 3)
    assert str(several.value) == str(one.value)
    own = unigrid.GalerkinCycle(problem).solve(f, compatibility="project")
    u, solution = blocks(problem, f, 3, compatibility="project")
    assert np.array_equal(u, own.u)
    assert solution.iterations == own.iterations


REFUSED = [
    (
        (30, 200),
        {},
        {},
        4,
        "30 rows on 4 processes leave blocks of 7, fewer than the 9 that neighbors exchange; take at most 3",
    ),
    ((30, 30), {}, {}, 2, "a grid of 900 unknowns is too small to be cut; solve it on one process"),
    ((111, 60), {"boundary": "periodic"}, {}, 2, "axis 0 is periodic with 111 unknowns"),
    ((110, 60), {"reaction": -1.0}, {}, 2, "the reaction must be >= 0"),
    ((110, 60), {"order": 4, "coefficient": None}, {}, 2, "several processes have no order 4 yet"),
    ((110, 60), {"reaction": unigrid.Nonlinear(lambda u: u**3, lambda u: 3 * u**2)}, {}, 2, "no a Nonlinear reaction yet"),
    ((110, 60), {}, {"smoother": "jacobi"}, 2, "unknown smoother 'jacobi'"),
    ((110, 60), {}, {"omega": 1.0}, 2, "omega"),
    ((110, 60), {}, {"max_levels": 1}, 2, "solved directly has no blocks"),
]


@pytest.mark.parametrize(("shape", "options", "slots", "size", "words"), REFUSED)
def test_problems_without_blocks_are_refused(shape, options, slots, size, words):
    problem = unigrid.Poisson(shape, **{"coefficient": lambda x, y: 1.0 + x, **options})
    with pytest.raises((ValueError, TypeError), match=words):
        Group(size).run(lambda comm: unigrid.DomainCycle(problem, comm, **slots))


def spoilt(array, value):
    array = np.array(array)
    array[1, 2] = value
    return array


FAULTS = [  # of the last process
    ({"coefficient": lambda a: spoilt(a, np.nan)}, "process 2 of 3: coefficient must be finite"),
    (
        {"coefficient": lambda a: spoilt(a, -1.0)},
        r"process 2 of 3: coefficient must be > 0 everywhere, but coefficient\[1, 2\]",
    ),
    ({"coefficient": lambda a: a[:-1]}, r"process 2 of 3: coefficient must be a number or the block of its process, of shape"),
    ({"coefficient": lambda a: (a, a)}, "process 2 of 3: on several processes coefficient is a number, one per axis"),
    ({"coefficient": lambda a: 2.0}, "all processes must describe one problem"),
    ({"reaction": lambda c: spoilt(c, -1.0)}, "process 2 of 3: on several processes the reaction must be >= 0"),
    ({"mask": lambda mask: mask * 1.0}, "process 2 of 3: mask must be an array of bool"),
    ({"outside": lambda u: np.inf}, "process 2 of 3: outside must be finite"),
    ({"boundary": lambda sides: "neumann"}, "all processes must describe one problem"),
    ({"boundary": lambda sides: unigrid.Dirichlet(1.0)}, "all processes must describe one problem: the same grid and numbers"),
    ({"boundary": lambda sides: "none"}, "process 2 of 3: unknown boundary of axis 0"),
]


@pytest.mark.parametrize(("changes", "words"), FAULTS)
def test_what_is_wrong_on_one_process_ends_all_alike(changes, words):
    options = {"coefficient": JUMPS, "reaction": 1.0 / JUMPS, "mask": JUMPS > 1.0, "outside": 0.0, "boundary": "dirichlet"}
    texts = []

    def make(comm):
        rows = unigrid.DomainProblem.rows(SHAPE, comm)
        given = {name: value[rows] if isinstance(value, np.ndarray) else value for name, value in options.items()}
        if comm.rank == comm.size - 1:
            given |= {name: change(given[name]) for name, change in changes.items()}
        with pytest.raises((ValueError, TypeError), match=words) as caught:
            unigrid.DomainProblem(SHAPE, comm, **given)
        texts.append(str(caught.value))

    Group(3).run(make)
    assert len(set(texts)) == 1


def test_a_mask_without_unknowns():
    with pytest.raises(ValueError, match="there is no unknown"):
        Group(2).run(lambda comm: unigrid.DomainProblem(SHAPE, comm, mask=np.zeros((55, 60), bool)))
