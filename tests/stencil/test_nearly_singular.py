"""Problems that only a tiny reaction keeps from being singular, against eigenvectors written out in extended precision."""

import functools

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid.stencil.sums import exact_sum

WIDE = np.longdouble
TINY = [1e-300, 1e-200, 1e-100, 1e-30, 1e-16, 1e-12, 1e-10, 1e-8, 1e-6, 1e-3]
GRIDS = [
    ((255,), "neumann", "vertex"),
    ((100,), "periodic", "cell"),
    ((64, 64), "neumann", "cell"),
    ((65, 40), "neumann", "vertex"),
    ((64, 48), "periodic", "vertex"),
    ((129, 33), ["neumann", "periodic"], "vertex"),
    ((20, 17, 9), "neumann", "vertex"),
    ((16, 24, 12), ["periodic", "neumann", "periodic"], "cell"),
]
SOLVES = [{}, {"accelerate": "cg"}, {"precision": "mixed"}, {"cycle": "W", "start": "zero"}]


def axis_basis(n, h, side, centering):
    """Return eigenvectors, (n, n) by columns, their inverse, the eigenvalues, and the weights along an axis."""
    i, k = np.arange(n, dtype=WIDE), np.arange(n, dtype=WIDE)
    weights = np.ones(n, dtype=WIDE)
    pi = WIDE("3.14159265358979323846264338327950288")
    if side == "periodic":
        frequency = (k + 1) // 2
        angles = 2 * pi * np.outer(i, frequency) / n
        vectors = np.where(k % 2 == 1, np.cos(angles), np.sin(angles))
        vectors[:, 0] = 1
        if n % 2 == 0:
            vectors[:, -1] = np.where(i % 2 == 0, 1, -1)
        half_angles = pi * frequency / n
    elif centering == "cell":
        vectors, half_angles = np.cos(pi * np.outer(i + WIDE(0.5), k) / n), pi * k / (2 * n)
    else:
        vectors, half_angles = np.cos(pi * np.outer(i, k) / (n - 1)), pi * k / (2 * (n - 1))
        weights[[0, -1]] = WIDE(0.5)
    inverse = (weights[:, None] * vectors).T / (weights[:, None] * vectors**2).sum(axis=0)[:, None]
    return vectors, inverse, (2 * np.sin(half_angles) / WIDE(h)) ** 2, weights


def exact(problem, f, sides, centering):
    """Return u in extended precision; its mean is that of f, summed up exactly, over c."""
    sides = [sides] * f.ndim if isinstance(sides, str) else sides
    bases = [axis_basis(n, h, side, centering) for n, h, side in zip(f.shape, problem.spacing, sides, strict=True)]
    spectrum, total, weights = f.astype(WIDE), np.zeros((), WIDE), np.ones(())
    for axis, (_, inverse, eigenvalues, own) in enumerate(bases):
        spectrum = np.moveaxis(np.tensordot(inverse, spectrum, axes=(1, axis)), 0, axis)
        total = np.add.outer(total, eigenvalues)
        weights = np.multiply.outer(weights, own.astype(float))
    total = total + WIDE(problem.reaction)
    spectrum = spectrum / total
    spectrum.flat[0] = WIDE(exact_sum(weights * f)) / WIDE(weights.sum()) / WIDE(problem.reaction)
    for axis, (vectors, _, _, _) in enumerate(bases):
        spectrum = np.moveaxis(np.tensordot(vectors, spectrum, axes=(1, axis)), 0, axis)
    return spectrum


@functools.cache
def balanced(shape, sides, centering, seed=0):
    """Return a source, rough and smooth, whose weighted mean is exactly zero: multiples of 2^-10, one of them adapted."""
    rng = np.random.default_rng(seed)
    wave = functools.reduce(np.multiply.outer, [np.cos(np.linspace(0, 3, n)) for n in shape])
    f = 8 * np.rint(rng.integers(-300, 300, shape) + 500 * wave)
    problem = unigrid.Poisson(shape, boundary=list(sides) if isinstance(sides, tuple) else sides, centering=centering)
    weights = problem.weights / np.prod(problem.spacing)
    middle = tuple(n // 2 for n in shape)
    f[middle] -= np.rint(weights * f * 8).sum() / 8
    assert exact_sum(np.rint(8 * weights) * f) == 0.0
    return f / 1024


def source_for(shape, sides, centering):
    return balanced(shape, tuple(sides) if isinstance(sides, list) else sides, centering).copy()


def assert_right(problem, u, wanted, precision=1e-6):
    """Compare values, means, and differences of neighbors, which show what a large constant would hide."""
    u, scale = u.astype(WIDE), np.abs(wanted).max()
    assert np.abs(u - wanted).max() <= precision * scale
    if problem.has_constant_apart:
        assert abs(problem.exact_mean((u - wanted).astype(float))) <= 1e-4 * precision * scale
    for axis in range(u.ndim):
        gradient = np.diff(wanted, axis=axis)
        assert np.abs(np.diff(u, axis=axis) - gradient).max() <= precision * np.abs(gradient).max()


@pack
@pytest.mark.parametrize("options", SOLVES, ids=str)
@pytest.mark.parametrize(("shape", "sides", "centering"), GRIDS, ids=str)
@pytest.mark.parametrize("c", TINY)
def test_the_solution_is_right_however_small_the_reaction(shape, sides, centering, c, options):
    f = source_for(shape, sides, centering)
    problem = unigrid.Poisson(shape, boundary=sides, centering=centering, reaction=c)
    solution = unigrid.solve(f, boundary=sides, centering=centering, reaction=c, rtol=1e-10, **options)
    assert_right(problem, solution.u, exact(problem, f, sides, centering))
    assert solution.iterations <= 12


@pack
@pytest.mark.parametrize("options", SOLVES, ids=str)
@pytest.mark.parametrize("c", [1e-3, 0.1, 1.0, 5.0, 9.8, 9.9, 40.0])
@pytest.mark.parametrize(("shape", "sides", "centering"), GRIDS, ids=str)
def test_a_source_with_a_mean_is_solved_on_either_side_of_the_threshold(shape, sides, centering, c, options):
    f = source_for(shape, sides, centering) + 0.3
    problem = unigrid.Poisson(shape, boundary=sides, centering=centering, reaction=c)
    solution = unigrid.solve(f, boundary=sides, centering=centering, reaction=c, rtol=1e-9, **options)
    assert_right(problem, solution.u, exact(problem, f, sides, centering))


@pack
@pytest.mark.parametrize("c", [1e-30, 1e-12, 1e-6, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize(("shape", "sides", "centering"), GRIDS, ids=str)
def test_in_single_precision_too(shape, sides, centering, c):
    f = source_for(shape, sides, centering).astype(np.float32)
    problem = unigrid.Poisson(shape, boundary=sides, centering=centering, reaction=c)
    solution = unigrid.solve(f, boundary=sides, centering=centering, reaction=c)
    assert_right(problem, solution.u, exact(problem, f.astype(float), sides, centering), 3e-3)


def test_a_mean_that_is_rounding_alone_does_not_take_over():
    f = np.random.default_rng(0).standard_normal((64, 64))
    f -= f.mean()
    for c in (1e-10, 1e-12):
        u = unigrid.solve(f, boundary="neumann", centering="cell", reaction=c).u
        assert abs(u.mean()) < 0.01 * np.abs(u).max()
        assert u.mean() == pytest.approx(exact_sum(f) / f.size / c, rel=1e-6)


@pytest.mark.parametrize(("n", "c", "dtype"), [(256, 0.1, np.float32), (1024, 0.1, np.float32), (512, 1e-8, np.float64)])
def test_large_grids_keep_their_digits(n, c, dtype):
    f = np.outer(np.cos(np.pi * (np.arange(n) + 0.5) / n), np.ones(n)).astype(dtype)
    f -= f[::-1, ::-1].copy()  # odd about the middle: its mean is exactly zero
    eigenvalue = (2 * n * np.sin(np.pi / 2 / n)) ** 2 + c
    for rtol in (None, "discretization"):
        u = unigrid.solve(f, boundary="neumann", centering="cell", reaction=c, rtol=rtol).u
        allowed = 2e-2 if dtype == np.float32 else 1e-5  # the lowest frequency, and rounding of 1/h^2 in it
        assert np.abs(u - f / eigenvalue).max() <= allowed * np.abs(f / eigenvalue).max()


def test_constants_alone_are_solved():
    for f, boundary, c, wanted in (
        (np.ones(665), "neumann", 1e-12, 1e12),
        (np.full((30, 40), 2.0), "periodic", 1e-300, 2e300),
        (np.full((5, 4, 6), -1.0), "neumann", 0.5, -2.0),
    ):
        assert np.allclose(
            unigrid.solve(f, boundary=boundary, reaction=c, lengths=1.0).u, wanted, rtol=1e-14 if f.ndim < 3 else 1e-6
        )


def test_a_mean_too_large_for_the_rest_is_no_success_and_its_cause_is_named():
    f = source_for((64, 64), "neumann", "cell") + 1.0
    with pytest.raises(unigrid.ConvergenceError, match=r"the mean of u.*1\.0e\+30.*give reaction=0") as caught:
        unigrid.solve(f, boundary="neumann", centering="cell", reaction=1e-30)
    assert caught.value.solution.reason is unigrid.Reason.STAGNATED
    assert np.allclose(caught.value.solution.u, 1e30, rtol=1e-12)
    with pytest.raises(ValueError, match="beyond the range of float64"):
        unigrid.solve(1e10 * f, boundary="neumann", centering="cell", reaction=1e-300)
    with pytest.raises(ValueError, match="beyond the range of float32"):
        unigrid.solve(f.astype(np.float32), boundary="neumann", centering="cell", reaction=1e-39)


@pytest.mark.parametrize("accelerate", [None, "cg"])
@pytest.mark.parametrize("shape", [(8, 400), (400, 8), (6, 6, 200)], ids=str)
def test_long_boxes_with_one_dirichlet_axis_converge(shape, accelerate):
    """There no constant is apart, but the smallest eigenvalue is small."""
    spacing = tuple(1.0 for _ in shape)
    long = int(np.argmax(shape))
    boundary = ["dirichlet" if axis == long else "neumann" for axis in range(len(shape))]
    f = np.random.default_rng(1).standard_normal(shape)
    problem = unigrid.Poisson(shape, boundary=boundary, spacing=spacing, reaction=1e-9)
    solution = unigrid.solve(f, boundary=boundary, spacing=spacing, reaction=1e-9, rtol=1e-9, accelerate=accelerate)
    from scipy.sparse.linalg import spsolve

    wanted = spsolve(problem.matrix().tocsc(), f.ravel()).reshape(shape)
    assert np.abs(solution.u - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_callbacks_see_the_constant_part_too():
    f = source_for((40, 40), "neumann", "cell") + 1.0
    seen = []
    solution = unigrid.solve(f, boundary="neumann", centering="cell", reaction=0.5, callback=lambda s: seen.append(s.u.mean()))
    assert np.allclose(seen, 2.0, rtol=1e-12)
    assert len(seen) == solution.iterations


def test_a_cycle_called_by_itself_solves_for_the_constant():
    problem = unigrid.Poisson((33, 33), boundary="neumann", reaction=1e-14)
    f = source_for((33, 33), "neumann", "vertex") + 1e-14
    cycle, u = unigrid.StencilCycle(problem), None
    for _ in range(8):
        u = cycle(f, u)
    assert problem.mean(u) == pytest.approx(problem.exact_mean(f) / 1e-14, rel=1e-12)
    M = cycle.aspreconditioner()
    assert problem.mean((M @ f.ravel()).reshape(f.shape)) == pytest.approx(problem.exact_mean(f) / 1e-14, rel=1e-12)


def test_the_exact_sum_is_that_of_fractions():
    from fractions import Fraction

    rng = np.random.default_rng(3)
    for values in (
        rng.standard_normal(5000),
        rng.standard_normal(300) * 10.0 ** rng.integers(-250, 250, 300),
        np.array([1e100, 1.0, -1e100]),
        np.array([5e-324, 1.0, -1.0]),
        rng.standard_normal((20, 30)).astype(np.float32),
        np.zeros(4),
    ):
        assert exact_sum(values) == float(sum((Fraction(float(value)) for value in values.ravel()), Fraction(0)))


@pytest.mark.parametrize("lost", [0.0, 0.9, 1.1, 30.0])
@pytest.mark.parametrize(("shape", "mean"), [((74,), -2.0), ((40, 33), 1e2), ((9, 12, 10), 1e4)], ids=str)
def test_one_pass_is_as_good_for_a_source_with_a_mean(shape, mean, lost):
    """float32, for reactions of so many times what its rounding of A loses. Beside mean / c it has no digits left for the rest
    of u: only how that was found is compared.
    """
    f = source_for(shape, "neumann", "cell").astype(np.float32)
    options = {"boundary": "neumann", "centering": "cell", "spacing": 0.6}
    c = lost * float(np.finfo(np.float32).eps) * unigrid.Poisson(shape, **options).operator.norm_bound
    options |= {"reaction": c, "compatibility": "project", "rtol": "discretization", "raise_on_failure": False}
    plain, other = (unigrid.solve(each, **options).residuals for each in (f, f + np.float32(mean)))
    assert other[-1] <= 2 * plain[-1] + 1e-6 * abs(mean) * f.size**0.5


@pytest.mark.parametrize("options", [{}, {"accelerate": "cg"}, {"rtol": "discretization"}, {"cycle": "W"}], ids=str)
@pytest.mark.parametrize("c", [1e-100, 3e-14, 1e-7])
def test_sources_that_are_constant_but_for_rounding(c, options):
    for f in (np.full((62, 24), 1.6076083547162174), np.full(75, -0.427), np.full((30, 27), -1e7) + 1e-9 * np.arange(27)):
        solution = unigrid.solve(f, boundary=["neumann", "periodic"][: f.ndim], reaction=c, raise_on_failure=False, **options)
        assert solution.reason in (unigrid.Reason.CONVERGED, unigrid.Reason.STAGNATED), solution.message
        assert np.allclose(solution.u, f.mean() / c, rtol=1e-9)
