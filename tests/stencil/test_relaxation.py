"""Smoothing of black box multigrid: lines against block Gauss-Seidel, what "auto" takes, what a user may give."""

import itertools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.coarsening import coarse_points, coarsened, roughness, strong_axes
from unigrid.stencil.coupled import matrix_of
from unigrid.stencil.galerkin_levels import hierarchy_of
from unigrid.stencil.kernels.cpu.compiled.strengths import points_in_lines

SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann")]


def block_gauss_seidel(matrix, shape, axes, b, u):
    """Solve for the lines along each axis in turn, every other one first along each of the other axes."""
    numbers = np.arange(u.size).reshape(shape)
    u = u.ravel().copy()
    for axis in axes:
        others = [each for each in range(3) if each != axis]
        places = list(itertools.product(*(range(shape[each]) for each in others)))
        for first, second in itertools.product(range(2), repeat=2):
            for place in places:
                if (place[0] % 2, place[1] % 2) != (first, second):
                    continue
                index = [slice(None)] * 3
                index[others[0]], index[others[1]] = place
                line = numbers[tuple(index)].ravel()
                u[line] += np.linalg.solve(matrix[np.ix_(line, line)], (b.ravel() - matrix @ u)[line])
    return u.reshape(shape)


@pack
@pytest.mark.parametrize("seed", range(60))
def test_lines_are_block_gauss_seidel(seed):
    rng = np.random.default_rng(seed)
    ndim = 2 + seed % 2
    shape = tuple(int(n) for n in rng.integers(3, {2: 9, 3: 5}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    problem = unigrid.Poisson(
        shape, boundary=sides, centering="cell", coefficient=np.exp(rng.standard_normal(shape)), reaction=rng.random(shape)
    )
    axes = tuple(int(axis) for axis in rng.permutation(ndim))
    for level in hierarchy_of(problem, 2):
        matrix = matrix_of(level.operator.stencil).toarray()
        b, u = rng.standard_normal((2, *level.shape))
        before = u.copy()
        wanted = block_gauss_seidel(matrix, level.shape, [axis + 3 - ndim for axis in axes], b, u)
        got = unigrid.Lines(axes).from_the_last(ndim)(level.operator, b, u)
        assert np.allclose(got, wanted, rtol=1e-11, atol=1e-11)
        assert np.array_equal(u, before)


# What "auto" takes


def channels(n, jump=1e3):
    """Two of every sixteen rows conduct, bent."""
    rows, shift = np.arange(n)[:, None], np.rint(4 * np.sin(2 * np.pi * np.arange(n) / n)).astype(int)[None, :]
    return np.where((rows - shift) % 16 < 2, jump, 1.0)


def lognormal(shape, sigma=2.0):
    return np.exp(sigma * np.random.default_rng(0).standard_normal(shape))


def squares(n, jump=1e6):
    """Squares of 8 x 8 cells, every other one conducts."""
    blocks = np.arange(n) // 8 % 2
    return np.where(blocks[:, None] ^ blocks[None, :], jump, 1.0)


def steps_of(cycle):
    return [type(level.smoother.step).__name__ for level in cycle.levels[:-1]]


def iterations(problem, **options):
    """Return those of conjugate gradients with random f, to 1e-8."""
    f = problem.compatible(np.random.default_rng(1).standard_normal(problem.shape))
    return unigrid.GalerkinCycle(problem, **options).solve(f, rtol=1e-8).iterations


def test_smooth_coefficients_take_points_and_v():
    a = 1 + 0.5 * np.sin(np.arange(127) / 20)[:, None] * np.ones(127)
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((127, 127), coefficient=a))
    assert set(steps_of(cycle)) == {"Points"}
    assert cycle.visits() == [1] * len(cycle.levels)
    assert cycle.name == "V(2,2)"


def test_jumps_take_points_and_two_visits_of_small_levels(monkeypatch):
    """Squares of 8 x 8 vertices: V takes 12 iterations."""
    monkeypatch.setattr("unigrid.stencil.coarsening.MANY_JUMPS", 1.0)
    a = squares(255)
    faces = (a[:, 1:] + a[:, :-1]) / 2, (a[1:] + a[:-1]) / 2
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((254, 254), coefficient=faces))
    assert set(steps_of(cycle)) == {"Points"}
    assert cycle.visits() == [1, 1, 2, 2]
    assert cycle.solve(np.random.default_rng(1).standard_normal((254, 254)), rtol=1e-8).iterations <= 9


def test_jumps_all_over_take_two_visits_of_all_levels():
    """Squares of 8 x 8 cells: 7 and 12 iterations with two visits of small levels alone, and a start that rounding spoils."""
    half, whole = (unigrid.Poisson((n, n), boundary="neumann", centering="cell", coefficient=squares(n)) for n in (127, 255))
    assert unigrid.GalerkinCycle(whole).visits()[:4] == [1, 2, 4, 8]
    assert iterations(half) <= 6
    assert iterations(whole) <= 7


def test_rough_levels_take_lines_and_two_visits(monkeypatch):
    """Layers across which the strong axis turns at x = 1/2."""
    for name, value in (("COARSEST_ROUGH", ((0.0, 0),) * 2), ("COARSEST_UNKNOWNS", 300)):
        monkeypatch.setattr(f"unigrid.stencil.galerkin_levels.{name}", value)
    strong = np.where(np.arange(128) < 64, 1e3, 1.0)[:, None] * np.ones(127)
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((127, 127), centering="cell", coefficient=(strong, 1e3 / strong.T)))
    assert set(steps_of(cycle)) == {"Lines"}
    assert cycle.visits() == [1, 2, 4, 4]
    assert cycle.name == "W(1,1)"
    assert cycle.work_units < 2 * 4 + 1  # two sweeps along each of two axes, on all levels twice as many as on the finest
    assert cycle.replaced(cycle="V").visits() == [1] * len(cycle.levels)


def test_a_level_is_rough_where_the_next_one_is():
    """Squares of 8 x 8 cells: strong couplings in pairs appear where a point stands for half a square."""
    problem = unigrid.Poisson((132, 132), boundary="neumann", centering="cell", coefficient=squares(132))
    levels = unigrid.GalerkinCycle(problem).levels
    own = [roughness(level.operator.stencil, strong_axes(level.operator.stencil)).rough for level in levels[:-1]]
    assert [level.roughness.rough for level in levels[:-1]] == [any(own[: number + 2]) for number in range(len(own))]
    assert [level.roughness.rough for level in levels[:-1]] != own


def strengths_of(stencil):
    """Return how strongly the two axes couple at each point, from the entries of the matrix."""
    matrix, (_, n, m) = matrix_of(stencil).toarray(), stencil.excess.shape
    places = np.array([divmod(number, m) for number in range(n * m)])
    steps = places[None, :, :] - places[:, None, :]
    return [
        sum(np.abs(np.where(steps[..., axis] == sign, matrix, 0.0).sum(axis=1)) for sign in (1, -1)).reshape(n, m)
        for axis in range(2)
    ]


def in_lines(stencil, ratio):
    """Return how many points end five that couple strongly along one axis, or couple 5000 times stronger along one."""
    strengths, count = strengths_of(stencil), 0
    for i, j in np.ndindex(strengths[0].shape):
        lines = (slice(max(i - 4, 0), i + 1), j), (i, slice(max(j - 4, 0), j + 1))
        runs = [np.count_nonzero(strengths[axis][lines[axis]] > ratio * strengths[1 - axis][lines[axis]]) for axis in range(2)]
        both = [each[i, j] for each in strengths]
        count += 5 in runs or max(both) > 5000 * min(both)
    return count


@pytest.mark.parametrize(("ratio", "sigma"), [(2.0, 1.0), (1.2, 1.0), (10.0, 4.0)])
def test_points_in_lines_are_counted_alike_in_any_parts(ratio, sigma, rng):
    """On the finest level, and on one with stencils of 9 points."""
    faces = np.exp(sigma * rng.standard_normal((30, 27))), 1.5 * np.exp(sigma * rng.standard_normal((29, 28)))
    faces[0][5:20, 8] *= 40
    problem = unigrid.Poisson((29, 27), centering="cell", coefficient=faces)
    stencils = [unigrid.GalerkinCycle(problem).levels[0].operator.stencil]
    stencils.append(
        coarsened(stencils[0], [coarse_points(1, None, False), *(coarse_points(n, None, True) for n in (29, 27))])[1]
    )
    for stencil in stencils:
        rows, wanted = stencil.excess.shape[1], in_lines(stencil, ratio)
        assert wanted < stencil.excess.size
        assert wanted > 0 or stencil is not stencils[0]
        for cuts in ([0, rows], [0, 3, 5, 6, rows], range(rows + 1)):
            parts = [points_in_lines(stencil, True, True, ratio, *part) for part in itertools.pairwise(cuts)]
            assert sum(parts) == wanted


@pytest.mark.parametrize(
    ("name", "a", "most"),
    [
        ("two-phase", np.where(np.random.default_rng(0).random((127, 127)) < 0.5, 1e3, 1.0), 14),
        ("log-normal", lognormal((127, 127)), 6),
    ],
)
def test_random_coefficients_take_many_points(name, a, most):
    """Lines take 30 and 8 iterations, two sweeps of points 33 and 9."""
    problem = unigrid.Poisson((127, 127), boundary="neumann", centering="cell", coefficient=a)
    cycle = unigrid.GalerkinCycle(problem)
    assert [level.smoother for level in cycle.levels[:-1]] == [unigrid.Steps(unigrid.Points(1.85), 14)] * 2
    assert iterations(problem) <= most


def test_single_cells_of_a_large_jump_take_lines():
    """Pairs of them are coupled 1e6 times stronger than to others: points take 18 iterations."""
    single = np.random.default_rng(0).random((96, 96)) < 0.1
    problem = unigrid.Poisson((96, 96), centering="cell", coefficient=np.where(single, 1e6, 1.0))
    assert set(steps_of(unigrid.GalerkinCycle(problem))) == {"Lines"}
    assert iterations(problem) <= 10


def test_a_rough_hierarchy_is_solved_directly_earlier():
    rough, even = (
        unigrid.GalerkinCycle(unigrid.Poisson((255, 255), coefficient=a)) for a in (channels(255), np.ones((255, 255)))
    )
    assert 1000 < np.prod(rough.shapes[-1]) <= 255**2 / 15
    assert np.prod(even.shapes[-1]) <= 1000


def test_two_visits_cost_a_bounded_amount_where_one_axis_is_coarsened(monkeypatch):
    monkeypatch.setattr("unigrid.stencil.galerkin_levels.COARSEST_UNKNOWNS", 4)
    faces = lognormal((65, 64)), 1e3 * lognormal((64, 65))
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((64, 64), centering="cell", coefficient=faces))
    assert sum(v * np.prod(s) for v, s in zip(cycle.visits(), cycle.shapes, strict=True)) <= 3 * 64**2


@pytest.mark.parametrize("sides", ["neumann", "periodic", [("dirichlet", "neumann"), "periodic"]])
def test_channels_are_bounded(sides):
    """Points and V take 10, 10, 16 iterations, lines where needed and V 8, 8, 10."""
    problem = unigrid.Poisson((300, 300), boundary=sides, centering="cell", coefficient=channels(300))
    f = problem.compatible(np.random.default_rng(1).standard_normal((300, 300)))
    assert unigrid.GalerkinCycle(problem).solve(f, rtol=1e-8).iterations <= 7


@pytest.mark.parametrize("axis", range(3))
def test_three_axes_with_a_strong_one(axis):
    """In each orientation the same: 1 : 1 : 256, in arrays."""
    ratios = [256.0 if each == axis else 1.0 for each in range(3)]
    shapes = [tuple(20 + (each == other) for each in range(3)) for other in range(3)]
    problem = unigrid.Poisson((20, 20, 20), centering="cell", coefficient=tuple(map(np.full, shapes, ratios)))
    f = np.random.default_rng(1).standard_normal((20, 20, 20))
    assert unigrid.GalerkinCycle(problem).solve(f, rtol=1e-8).iterations <= 7


def test_random_coefficients_in_three_axes_take_points():
    problem = unigrid.Poisson((24, 24, 24), centering="cell", coefficient=lognormal((24, 24, 24)))
    cycle = unigrid.GalerkinCycle(problem)
    assert set(steps_of(cycle)) == {"Points"}
    assert cycle.solve(np.random.default_rng(1).standard_normal((24, 24, 24)), rtol=1e-8).iterations <= 12


# What a user may give


class Damped(unigrid.Smoother):
    """A user's own: damped Jacobi, in ten lines."""

    def __call__(self, operator, b, u):
        assert b.ndim == 2
        correction = 0.8 * operator.residual(b, u) / operator.diagonal()
        return correction if u is None else u + correction


PROBLEM = unigrid.Poisson((63, 63), coefficient=lambda x, y: 1 + 99 * (x > y))
SOURCE = np.random.default_rng(2).standard_normal((63, 63))


@pytest.mark.parametrize(
    "smoother", ["points", "lines", unigrid.Points(1.0), unigrid.Lines((1, 0)), unigrid.RedBlack(1.1), Damped()]
)
def test_any_smoother_solves(smoother):
    wanted = unigrid.GalerkinCycle(PROBLEM).solve(SOURCE, rtol=1e-10).u
    cycle = unigrid.GalerkinCycle(PROBLEM, smoother=smoother, steps=(2, 1))
    assert np.abs(cycle.solve(SOURCE, rtol=1e-10).u - wanted).max() <= 1e-8 * np.abs(wanted).max()
    assert cycle.name == "V(2,1)"
    single = cycle.solve(SOURCE.astype(np.float32))
    assert single.converged
    assert single.u.dtype == np.float32


def test_a_smoother_of_ones_own_is_what_its_formula_gives():
    """One step on the finest level, beside the formula on the matrix."""
    level = unigrid.GalerkinCycle(PROBLEM, smoother=Damped(), steps=1).levels[0]
    matrix = matrix_of(level.operator.stencil)
    b, u = np.random.default_rng(3).standard_normal((2, *level.shape))
    wanted = u.ravel() + 0.8 * (b.ravel() - matrix @ u.ravel()) / matrix.diagonal()
    assert np.allclose(level.smoother(level.operator, b, u).ravel(), wanted, rtol=1e-12)


def test_one_level_may_have_another_smoother():
    cycle = unigrid.GalerkinCycle(PROBLEM)
    other = cycle.replaced(level=0, smoother=unigrid.Steps(unigrid.Lines((0,)), 3), post_smoother=None)
    assert other.name == "V(3,0)"
    assert "3 x zebra lines along x, then no smoothing" in repr(other)
    assert cycle.name == "V(2,2)"
    assert other.solve(SOURCE).converged
    assert cycle.replaced(smoother="lines").name == "V(1,1)"
    assert cycle.replaced(steps=3).name == "V(3,3)"


def test_the_repr_names_each_level():
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((63, 40), coefficient=lambda x, y: 1 + y, boundary="neumann"))
    head, *rows = repr(cycle).splitlines()
    assert head == "<GalerkinCycle: V(2,2), black box multigrid, smoothing by points"
    assert rows[0] == "  63 x 40 unknowns, stencil of 5 points: 2 x points, omega 1.15"
    assert rows[-1].endswith(": direct solve>")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"smoother": "line"}, ValueError, "unknown smoother 'line'; allowed: 'auto', 'points', 'lines'"),
        ({"smoother": unigrid.Jacobi()}, TypeError, r"unigrid\.Points\(omega\)"),
        ({"smoother": unigrid.RedBlack((1.0, 1.1))}, TypeError, "smoother must be one of"),
        ({"smoother": Damped}, TypeError, "smoother must be one of"),
        ({"smoother": unigrid.Lines((2,))}, ValueError, "from -2 to 1 on a grid of 2 axes"),
        ({"cycle": "K"}, ValueError, "unknown cycle 'K'; allowed: 'auto', 'V', 'W', 'F'"),
        ({"steps": (0, 0)}, ValueError, "both 0"),
        ({"steps": (1, 2, 3)}, ValueError, "before and after"),
        ({"steps": 0}, ValueError, "steps"),
    ],
)
def test_bad_slots(options, error, words):
    with pytest.raises(error, match=words) as raised:
        unigrid.GalerkinCycle(PROBLEM, **options)
    assert "\n" not in str(raised.value)


def test_bad_slots_of_one_level():
    cycle = unigrid.GalerkinCycle(PROBLEM)
    with pytest.raises(IndexError, match="level must be from -2 to 1, as there are 2; got 2"):
        cycle.replaced(level=2, smoother=unigrid.Points(1.0))
    with pytest.raises(ValueError, match="unknown slot of a level 'restriction'"):
        cycle.replaced(level=0, restriction=None)
    with pytest.raises(ValueError, match="takes a smoother itself"):
        cycle.replaced(level=0, smoother="lines")
    with pytest.raises(ValueError, match="axes of Lines must be"):
        unigrid.Lines(())
    with pytest.raises(ValueError, match="omega must be a finite number > 0"):
        unigrid.Points(0.0)


@pytest.mark.parametrize("smoother", [unigrid.Points(1.0), unigrid.Lines((0,))])
def test_constant_coefficients_have_other_smoothers(smoother):
    with pytest.raises(TypeError, match=r"smooth in a unigrid\.GalerkinCycle"):
        unigrid.solve(SOURCE, smoother=smoother)


def test_solve_takes_them_too():
    a = np.ones((63, 63))
    a[20:40] = 1e3
    wanted = unigrid.solve(SOURCE, coefficient=a, rtol=1e-10).u
    for options in ({"smoother": unigrid.Lines((0, 1))}, {"cycle": "W"}, {"cycle": "F", "smoother": "points"}):
        assert np.allclose(unigrid.solve(SOURCE, coefficient=a, rtol=1e-10, **options).u, wanted, rtol=1e-6, atol=1e-12)
    problem = unigrid.Poisson((63, 63), centering="cell", coefficient=lognormal((63, 63)))
    by_default = unigrid.solve(SOURCE, centering="cell", coefficient=lognormal((63, 63))).u
    assert np.array_equal(by_default, unigrid.GalerkinCycle(problem, cycle="auto").solve(SOURCE).u)
