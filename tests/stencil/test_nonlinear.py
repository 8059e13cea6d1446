"""-div(a grad u) + g(u) = f: against Newton's method with sparse direct solves, closed forms and published values."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
from tiers import pack

import unigrid
from unigrid.stencil import fas

D, N = unigrid.Dirichlet, unigrid.Neumann
REACTIONS = {  # g, g'
    "cubic": (lambda u: 50 * u * u * u, lambda u: 150 * u * u),
    "sinh": (lambda u: 9 * np.sinh(2 * u), lambda u: 18 * np.cosh(2 * u)),
    "exponential": (lambda u: 20 * u * np.exp(u), lambda u: 20 * (1 + u) * np.exp(u)),
    "bratu": (lambda u: -0.5 * np.exp(u), lambda u: -0.5 * np.exp(u)),
    "linear": (lambda u: 3.0 * u, lambda u: 3.0 * np.ones_like(u)),
}
METHODS = ("V", "W", "F", "newton")
SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]


def bratu(strength):
    return unigrid.Nonlinear(lambda u: -strength * np.exp(u), lambda u: -strength * np.exp(u))


def by_newton(A, b, g, slope, u=None):
    """Return the solution of A u + g(u) = b."""
    u = np.zeros_like(b) if u is None else u
    for _ in range(60):
        residual = b - A @ u - g(u)
        if np.linalg.norm(residual) <= 1e-12 * np.linalg.norm(b - g(np.zeros_like(b))):
            break
        step = scipy.sparse.linalg.spsolve((A + scipy.sparse.diags_array(slope(u))).tocsc(), residual)
        while np.linalg.norm(b - A @ (u + step) - g(u + step)) > np.linalg.norm(residual) * (1 + 1e-9):
            step /= 2
        u = u + step
    return u


def five_points(n):
    """Return -Laplace on n x n vertices of the unit square, u = 0 on its sides."""
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)) * (n + 1) ** 2
    return scipy.sparse.kron(line, scipy.sparse.eye_array(n)) + scipy.sparse.kron(scipy.sparse.eye_array(n), line)


def square(n):
    x = np.arange(1, n + 1) / (n + 1)
    return x[:, None], x[None, :]


# Solutions


@pack
@pytest.mark.parametrize("name", REACTIONS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(9))
def test_solve_agrees_with_newtons_method(seed, method, name):
    """The linear matrix is that of the linear problem, which test_coefficients.py compares with an assembly of its own."""
    rng = np.random.default_rng(seed)
    ndim = 1 + seed % 3
    shape = tuple(int(n) for n in rng.integers(3, {1: 300, 2: 40, 3: 12}[ndim], ndim))
    sides = [SIDES[int(i)] for i in rng.integers(0, len(SIDES), ndim)]
    sides[0] = sides[0] if name in ("exponential", "linear") else "dirichlet"  # else g' vanishes or is negative
    options = {"boundary": sides, "centering": ["vertex", "cell"][int(rng.integers(2))]}
    options["coefficient"] = [None, 2.5, np.exp(rng.standard_normal(shape)), 1.0 + rng.random(shape)][int(rng.integers(4))]
    g, slope = REACTIONS[name]
    f = (2.0 if name == "exponential" else 10.0) * rng.random(shape)
    linear = unigrid.Poisson(shape, **options)
    wanted = by_newton(linear.matrix(), linear.rhs(f).ravel(), g, slope).reshape(shape)
    solution = unigrid.solve(f, reaction=unigrid.Nonlinear(g, slope), cycle=method, rtol=1e-10, **options)
    assert np.abs(solution.u - wanted).max() <= 1e-8 * np.abs(wanted).max()
    assert solution.iterations <= 24


@pytest.mark.parametrize("method", ["V", "newton"])
def test_the_largest_values_of_bratus_problem_are_those_published(method):
    for strength, largest in ((1.0, 0.0781), (5.0, 0.557), (6.8, 1.326)):
        u = unigrid.solve(np.zeros((47, 47)), reaction=bratu(strength), cycle=method, rtol=1e-10).u
        assert u.max() == pytest.approx(largest, rel=2e-3)
        assert np.allclose(u, u.T, atol=1e-6)
        assert np.allclose(u, u[::-1], atol=1e-6)


@pytest.mark.parametrize("method", ["V", "newton"])
def test_both_solutions_of_bratus_problem_in_one_dimension_have_their_closed_form(method):
    """u = 2 log(cosh(t / 4) / cosh((x - 1/2) t / 2)) with t = sqrt(2 lambda) cosh(t / 4), which has two roots."""
    errors = []
    for n in (63, 127):
        x = np.arange(1, n + 1) / (n + 1)
        for interval, start in (((1.0, 2.0), None), ((9.0, 12.0), 4.1 * np.sin(np.pi * x))):
            t = scipy.optimize.brentq(lambda t: t - np.sqrt(2.0) * np.cosh(t / 4), *interval, xtol=1e-14)
            exact = 2 * np.log(np.cosh(t / 4) / np.cosh((x - 0.5) * t / 2))
            u = unigrid.solve(np.zeros(n), reaction=bratu(1.0), cycle=method, u0=start).u
            errors.append(np.abs(u - exact).max() / exact.max())
    assert max(errors) < 3e-3
    assert np.log2(errors[0] / errors[2]) == pytest.approx(2.0, abs=0.05)
    assert np.log2(errors[1] / errors[3]) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("method", ["V", "newton"])
def test_the_order_of_accuracy_is_two(method, centering):
    """u = (x^2 - x^3) sin(3 pi y) + 1 + x, gamma = 10 of gamma u e^u, a = 1 + x, with values and a flux on the sides."""
    errors = []
    g, slope = REACTIONS["exponential"]
    for n in (31, 63) if centering == "vertex" else (32, 64):
        where = unigrid.Poisson((n, n), centering=centering, boundary=["dirichlet", ("dirichlet", "neumann")])
        x, y = where.coordinates()
        u = (x**2 - x**3) * np.sin(3 * np.pi * y) + 1 + x
        along, lengths = (2 * x - 3 * x**2) * np.sin(3 * np.pi * y) + 1, where.lengths
        laplace = (2 - 6 * x - 9 * np.pi**2 * (x**2 - x**3)) * np.sin(3 * np.pi * y)
        top = lengths[1]
        flux = (1 + x[:, 0]) * 3 * np.pi * (x[:, 0] ** 2 - x[:, 0] ** 3) * np.cos(3 * np.pi * top)
        boundary = [(D(1.0), D(2.0)), (D(1 + x[:, 0]), N(flux))]
        f = -(1 + x) * laplace - along + g(u)
        solution = unigrid.solve(
            f, boundary=boundary, centering=centering, coefficient=lambda x, y: 1 + x, cycle=method, lengths=lengths,
            reaction=unigrid.Nonlinear(g, slope),
        )  # fmt: skip
        errors.append(np.sqrt(np.mean((solution.u - u) ** 2)))
    assert np.log2(errors[0] / errors[1]) > 1.95


def test_the_integral_of_a_coefficient_of_u_makes_it_linear():
    """The way out for -div(k(u) grad u) = f: k = 1 + u^2, w = u + u^3 / 3, u = sin(pi x) sin(pi y)."""
    errors = []
    for n in (31, 63):
        x, y = square(n)
        u = np.sin(np.pi * x) * np.sin(np.pi * y)
        steepness = np.pi**2 * ((np.cos(np.pi * x) * np.sin(np.pi * y)) ** 2 + (np.sin(np.pi * x) * np.cos(np.pi * y)) ** 2)
        w = unigrid.solve((1 + u**2) * 2 * np.pi**2 * u - 2 * u * steepness).u
        root = np.cbrt(1.5 * w + np.sqrt(2.25 * w**2 + 1))
        errors.append(np.abs(root - 1 / root - u).max())
    assert np.log2(errors[0] / errors[1]) > 1.95
    with pytest.raises(TypeError, match=r"integral w of k from 0 to u solves -Laplace\(w\) = f.*coefficient=k\(u\)"):
        unigrid.solve(np.ones((8, 8)), coefficient=unigrid.Nonlinear(lambda u: 1 + u**2, lambda u: 2 * u))


# Convergence

PROBLEMS = {  # reaction, sides, source
    "bratu 1": (bratu(1.0), "dirichlet", 0.0),
    "bratu 5": (bratu(5.0), "dirichlet", 0.0),
    "bratu 6.8": (bratu(6.8), "dirichlet", 0.0),
    "100 u^3": (unigrid.Nonlinear(lambda u: 100 * u * u * u, lambda u: 300 * u * u), "dirichlet", 1e2),
    "10000 u^3": (unigrid.Nonlinear(lambda u: 1e4 * u * u * u, lambda u: 3e4 * u * u), "dirichlet", 1e4),
    "1000 u e^u": (unigrid.Nonlinear(lambda u: 1e3 * u * np.exp(u), lambda u: 1e3 * (1 + u) * np.exp(u)), "dirichlet", 1e2),
    "sinh u": (unigrid.Nonlinear(np.sinh, np.cosh), D(10.0), 0.0),
    "100 sinh u": (unigrid.Nonlinear(lambda u: 100 * np.sinh(u), lambda u: 100 * np.cosh(u)), D(10.0), 0.0),
    "10000 sinh u": (
        unigrid.Nonlinear(lambda u: 1e4 * np.sinh(u), lambda u: 1e4 * np.cosh(u)), [(D(10.0), D(-10.0)), "neumann"], 0.0,
    ),
    "a step of Allen-Cahn": (unigrid.Nonlinear(lambda u: 400 * u * u * u, lambda u: 1200 * u * u), "periodic", 400.0),
}  # fmt: skip


def cycles_of(name, n, method, start):
    reaction, sides, size = PROBLEMS[name]
    x, y = square(n)
    f = size * np.sin(np.pi * x) * np.sin(2 * np.pi * y)
    return unigrid.solve(f, reaction=reaction, boundary=sides, cycle=method, start=start, rtol=1e-8).iterations


@pytest.mark.parametrize("name", PROBLEMS)
def test_few_iterations_are_enough(name):
    for method, start, most in (("V", "fmg", 6), ("V", "zero", 7), ("newton", "fmg", 8), ("newton", "zero", 10)):
        assert cycles_of(name, 40, method, start) <= most, (method, start)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_iterations_do_not_depend_on_h(name):
    for method, start, most in (("V", "fmg", 6), ("V", "zero", 7), ("newton", "fmg", 9), ("newton", "zero", 11)):
        counts = [cycles_of(name, n, method, start) for n in (127, 511)]
        assert max(counts) <= most, (method, start)
        assert counts[-1] - counts[0] <= 2


@pytest.mark.parametrize("n", [40, pytest.param(63, marks=pytest.mark.slow), pytest.param(127, marks=pytest.mark.slow)])
def test_rough_solutions_need_a_few_more(n):
    """u is about the cube root of f at each point: that at a coarse point is far from that of the mean of f around it."""
    f = 1e4 * np.random.default_rng(0).uniform(-1, 1, (n, n))
    for method, most in (("V", 12), ("newton", 7)):
        assert unigrid.solve(f, reaction=PROBLEMS["10000 u^3"][0], cycle=method, rtol=1e-8).iterations <= most


@pytest.mark.parametrize("method", ["V", "newton"])
def test_jumps_and_three_dimensions(method):
    f = 100 * np.random.default_rng(0).standard_normal((60, 70))
    g = unigrid.Nonlinear(*REACTIONS["cubic"])
    inclusion = lambda x, y: np.where((abs(x - 0.5) < 0.2) & (abs(y - 0.5) < 0.2), 1e6, 1.0)  # noqa: E731
    assert unigrid.solve(f, reaction=g, coefficient=inclusion, cycle=method, rtol=1e-8).iterations <= 8
    assert unigrid.solve(f, reaction=g, coefficient=(1.0, 1e3), cycle=method, rtol=1e-8).iterations <= 6
    assert unigrid.solve(np.zeros((20, 21, 22)), reaction=bratu(5.0), cycle=method, rtol=1e-8).iterations <= 8
    rough = np.exp(2 * np.random.default_rng(1).standard_normal(f.shape))
    assert unigrid.solve(f, reaction=g, coefficient=rough, cycle="newton", rtol=1e-8).iterations <= 10


# The cycles themselves


@pytest.mark.parametrize("cycle", [unigrid.FASCycle, unigrid.NewtonCycle])
@pytest.mark.parametrize("masked", [False, True])
def test_a_solution_is_a_fixed_point(cycle, masked):
    n = 40
    mask = np.random.default_rng(0).random((n, n)) < 0.8 if masked else None
    g, slope = REACTIONS["sinh"]
    given = {"mask": mask, "outside": 0.3 * np.ones((n, n))} if masked else {"boundary": D(0.3)}
    linear = unigrid.Poisson((n, n), coefficient=1.0, **given)
    f = np.random.default_rng(1).standard_normal((n, n))
    b, inside = linear.rhs(f), np.ones((n, n), bool) if mask is None else mask
    keep = np.flatnonzero(inside)
    u = np.zeros((n, n))
    u[inside] = by_newton(linear.matrix()[keep][:, keep], b[inside], g, slope)
    problem = unigrid.Poisson((n, n), reaction=unigrid.Nonlinear(g, slope), **given)
    assert np.abs(problem.rhs(f) - b).max() <= 1e-12 * np.abs(b).max()
    assert np.abs(problem.operator.residual(b, u)).max() <= 1e-8 * np.abs(b).max()
    assert np.abs(cycle(problem)(b, u) - u).max() <= 1e-9
    assert np.abs(cycle(problem).solve(f, rtol=1e-10).u - np.where(inside, u, 0.3)).max() <= 1e-8


def test_a_mask_where_g_is_finite_for_positive_u_alone():
    """Outside the mask, where the state is zero inside the cycles, log(u) is never asked."""
    x, y = square(60)
    disc = np.hypot(x - 0.5, y - 0.5) < 0.43
    log = unigrid.Nonlinear(lambda u: 20 * np.log(u), lambda u: 20 / u)
    for method in ("V", "newton"):
        solution = unigrid.solve(
            np.zeros((60, 60)), reaction=log, mask=disc, outside=5.0, u0=np.full((60, 60), 3.0), cycle=method
        )
        assert solution.iterations <= 7
        assert solution.u[disc].min() > 1.0
        assert (solution.u[~disc] == 5.0).all()


def test_coarse_points_that_lie_outside_the_mask_get_means():
    """Such a point stands for unknowns around it: on a coarse level it is one."""
    mask = np.random.default_rng(0).random((90, 90)) < 0.8
    levels = unigrid.FASCycle(unigrid.Poisson((90, 90), reaction=bratu(1.0), mask=mask)).levels
    u, beside = np.where(mask, 2.0, 0.0)[None], 0
    for level, coarser in itertools.pairwise(levels):
        inside = (
            ~np.zeros(coarser.operator.shape, bool) if coarser.operator.local.absent is None else ~coarser.operator.local.absent
        )
        beside += int((inside & (fas.AtCoarsePoints(level.transfers)(u) == 0.0)).sum())
        u = level.state_transfer(u)
        assert np.allclose(u[inside], 2.0, rtol=1e-12)
    assert beside > 0


@pytest.mark.parametrize("method", ["V", "newton"])
def test_g_may_depend_on_the_place(method):
    n = 50
    x, y = square(n)
    k = 1 + 30 * (x > 0.4) * np.ones((n, n))
    reaction = unigrid.Nonlinear(lambda u, k, y: k * k * np.sinh(u + y), lambda u, k, y: k * k * np.cosh(u + y), fields=(k, y))
    f = np.random.default_rng(0).standard_normal((n, n))
    solution = unigrid.solve(f, reaction=reaction, cycle=method, rtol=1e-10)
    all_y = np.broadcast_to(y, (n, n)).ravel()
    g, slope = (lambda u, of=of: k.ravel() ** 2 * of(u + all_y) for of in (np.sinh, np.cosh))
    wanted = by_newton(five_points(n), f.ravel(), g, slope).reshape(n, n)
    assert np.abs(solution.u - wanted).max() <= 1e-9 * np.abs(wanted).max()
    assert solution.iterations <= 9


def test_a_linear_reaction_gives_the_linear_solution():
    f = np.random.default_rng(0).standard_normal((33, 34))
    wanted = unigrid.solve(f, reaction=3.0, boundary="neumann", rtol=1e-11).u
    reaction = unigrid.Nonlinear(*REACTIONS["linear"])
    for method in METHODS:
        u = unigrid.solve(f, reaction=reaction, boundary="neumann", cycle=method, rtol=1e-11).u
        assert np.abs(u - wanted).max() <= 1e-9 * np.abs(wanted).max()


def test_g_is_called_for_all_points_of_a_grid_at_once():
    """Once per sweep: five evaluations of g on the finest grid per cycle, four of them for sweeps, one for the residual."""
    sizes = []

    def g(u):
        sizes.append(u.size)
        return u**3

    problem = unigrid.Poisson((255, 255), reaction=unigrid.Nonlinear(g, lambda u: 3 * u**2))
    cycle, b = unigrid.FASCycle(problem), np.ones((255, 255))
    sizes.clear()
    cycle(b, b)
    assert sizes.count(255**2) == 5
    assert set(sizes) <= {255**2, 127**2, 63**2, 31**2}


@pytest.mark.parametrize("kind", [unigrid.FASCycle, unigrid.NewtonCycle])
def test_another_reaction_on_the_same_hierarchy(kind):
    problem = unigrid.Poisson((40, 41), reaction=bratu(1.0), boundary=["neumann", D(0.2)])
    other = kind(problem, steps=1).with_reaction(bratu(2.0))
    wanted = kind(unigrid.Poisson((40, 41), reaction=bratu(2.0), boundary=["neumann", D(0.2)]), steps=1)
    f = np.zeros((40, 41))
    assert type(other) is kind
    assert np.array_equal(other.solve(f).u, wanted.solve(f).u)
    assert other.problem.nonlinear is not problem.nonlinear
    with pytest.raises(TypeError, match=r"reaction must be a unigrid.Nonlinear, got 3.0"):
        other.with_reaction(3.0)


def test_the_cycles_show_what_they_are():
    problem = unigrid.Poisson((47, 47), reaction=bratu(1.0))
    assert "Nonlinear" in repr(problem)
    for cycle in (unigrid.FASCycle(problem, cycle="W", steps=1), unigrid.NewtonCycle(problem, smoother="lines")):
        assert type(cycle).__name__ in repr(cycle)
        assert cycle.shapes == ((47, 47), (23, 23))
        assert unigrid.solve(np.zeros((47, 47)), cycle=cycle).u.max() == pytest.approx(0.0781, rel=2e-3)
        with pytest.raises(AttributeError, match="fixed"):
            cycle.steps = 3


# Options of a solve


@pytest.mark.parametrize("method", ["V", "newton"])
def test_options_of_linear_solves_work_as_there(method):
    reaction, f = bratu(5.0), np.zeros((40, 40))
    seen = []
    solution = unigrid.solve(f, reaction=reaction, cycle=method, rtol=1e-10, callback=seen.append)
    assert [each.iterations for each in seen] == list(range(1, solution.iterations + 1))
    assert not seen[0].u.flags.writeable
    A = five_points(40)
    norms = [np.linalg.norm(5 * np.exp(each.u.ravel()) - A @ each.u.ravel()) for each in seen]
    assert np.allclose(norms, solution.residuals[1:], rtol=1e-3, atol=1e-9)
    assert solution.residuals[0] == pytest.approx(5.0 * 40)  # ||b - g(0)||
    assert solution.residuals[-1] <= 1e-10 * solution.residuals[0]
    again = unigrid.solve(f, reaction=reaction, cycle=method, rtol=1e-10, u0=solution.u)
    assert again.iterations == 0
    assert np.array_equal(again.u, solution.u)
    assert unigrid.solve(f, reaction=reaction, cycle=method, atol=1.0, rtol=0.0).residuals[-1] <= 1.0
    stopped = unigrid.solve(f, reaction=reaction, cycle=method, maxiter=1, raise_on_failure=False, start="zero")
    assert (stopped.reason, stopped.iterations) == (unigrid.Reason.MAXITER, 1)
    assert "||b - g(0)||" in stopped.message

    def stop(_):
        raise StopIteration

    assert unigrid.solve(f, reaction=reaction, cycle=method, callback=stop).reason is unigrid.Reason.STOPPED


@pytest.mark.parametrize("method", ["V", "newton"])
def test_single_precision_stays_single(method):
    f = np.random.default_rng(0).standard_normal((50, 60)).astype(np.float32)
    solution = unigrid.solve(f, reaction=unigrid.Nonlinear(*REACTIONS["sinh"]), cycle=method)
    assert solution.u.dtype == np.float32
    wanted = unigrid.solve(f.astype(float), reaction=unigrid.Nonlinear(*REACTIONS["sinh"])).u
    assert np.abs(solution.u - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_stacks_channels_and_threads():
    f = np.random.default_rng(0).standard_normal((3, 40, 41))
    problem = unigrid.Poisson((40, 41), reaction=unigrid.Nonlinear(*REACTIONS["sinh"]))
    stacked = unigrid.FASCycle(problem).solve(f)
    assert len(stacked.parts) == 3
    one = unigrid.solve(f[1], reaction=unigrid.Nonlinear(*REACTIONS["sinh"]), threads=2)
    assert np.abs(one.u - stacked.u[1]).max() <= 1e-12
    last = unigrid.solve(np.moveaxis(f, 0, -1), reaction=unigrid.Nonlinear(*REACTIONS["sinh"]), channels="last")
    assert np.array_equal(last.u[..., 1], stacked.u[1])


def test_a_start_chooses_among_solutions():
    """Of (u^3 - u) / eps^2, zero is a solution, and not the one that a start near 1 leads to."""
    steady = unigrid.Nonlinear(lambda u: 400 * (u**3 - u), lambda u: 400 * (3 * u**2 - 1))
    assert unigrid.solve(np.zeros((63, 63)), reaction=steady).u.max() == 0.0
    solution = unigrid.solve(np.zeros((63, 63)), reaction=steady, u0=np.ones((63, 63)), cycle="newton")
    assert solution.u.max() == pytest.approx(1.0, abs=1e-3)


def test_without_dirichlet_sides_a_rising_g_is_enough():
    """At u = 0, where the iteration begins, 3 u^2 is zero, and so the linear problem singular."""
    f = np.random.default_rng(0).standard_normal((32, 32)) + 2.0
    problem = unigrid.Poisson((32, 32), boundary="neumann", centering="cell")
    wanted = by_newton(problem.matrix(), f.ravel(), lambda u: u**3, lambda u: 3 * u**2, np.ones(f.size)).reshape(f.shape)
    for method in METHODS:
        for start in ("fmg", "zero"):
            u = unigrid.solve(
                f, boundary="neumann", centering="cell", reaction=unigrid.Nonlinear(lambda u: u**3, lambda u: 3 * u**2),
                cycle=method, start=start, rtol=1e-10,
            ).u  # fmt: skip
            assert np.abs(u - wanted).max() <= 1e-7 * np.abs(wanted).max()


# What cannot be solved


@pack
@pytest.mark.parametrize("strength", [6.85, 20.0, 100.0])
@pytest.mark.parametrize("start", ["fmg", "zero"])
@pytest.mark.parametrize("method", ["V", "F", "newton"])
def test_beyond_the_fold_the_end_is_typed(method, start, strength):
    solution = unigrid.solve(np.zeros((33, 33)), reaction=bratu(strength), cycle=method, start=start, raise_on_failure=False)
    assert solution.reason in (unigrid.Reason.DIVERGED, unigrid.Reason.STAGNATED, unigrid.Reason.NONFINITE)
    assert np.isfinite(solution.u).all()
    for advice in ("fold", "u0", "newton", "time steps", "max_levels"):
        assert advice in solution.message
    assert "\n" not in solution.message


def test_a_failure_raises_and_carries_the_last_iterate():
    with pytest.raises(unigrid.ConvergenceError, match="no solution") as caught:
        unigrid.solve(np.zeros((40, 40)), reaction=bratu(7.0), cycle="newton")
    assert 1.0 < caught.value.solution.u.max() < 2.0


def test_nan_from_g_is_named_with_where_it_happened():
    root = unigrid.Nonlinear(lambda u: np.sqrt(u + 1), lambda u: 0.5 / np.sqrt(1 + u))
    solution = unigrid.solve(np.full((63, 63), -100.0), reaction=root, raise_on_failure=False)
    assert solution.reason is unigrid.Reason.NONFINITE
    assert np.isfinite(solution.u).all()
    assert "(u) is nan at" in solution.message
    assert "with u " in solution.message
    assert "-1" in solution.message.partition("with u ")[2]


BAD = {
    "g": (lambda: unigrid.Nonlinear(3, np.cosh), TypeError, r"g of Nonlinear must be a function of u, got 3"),
    "derivative": (lambda: unigrid.Nonlinear(np.sinh, None), TypeError, r"derivative of Nonlinear must be a function"),
    "fields": (lambda: unigrid.Nonlinear(np.sinh, np.cosh, np.ones(3)), TypeError, r"one is written \(k,\)"),
    "nan_field": (
        lambda: unigrid.Nonlinear(np.sinh, np.cosh, (np.array([np.nan]),)),
        ValueError,
        r"fields\[0\] must be finite",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_bad_reactions_are_refused(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


K = np.ones((9, 9))
WRONG = {
    "derivative": ((lambda u: u**3, lambda u: u**2), r"derivative is not that of g: at u = .* it is 0.01, but .* is 0.03"),
    "sign": ((lambda u: -np.exp(u), np.exp), r"at u = 0 it is 1, but \(g\(u \+ h\) - g\(u - h\)\) / 2h is -1"),
    "shape": ((lambda u: u[0], lambda u: u), r"for an array of shape \(9, 9\) it returned one of shape \(9,\)"),
    "closure": ((lambda u: K * u, lambda u: K), r"element by element.*fields=\(k,\).*raised ValueError"),
    "together": ((lambda u: u - u.max() + 1, lambda u: 1.0), r"its value at an unknown depends on what else"),
    "pole": ((lambda u: 1 / u, lambda u: -1 / u**2), r"g\(u\) is inf at 81 of 81 points, with u = 0, at the start; give u0"),
    "slope": ((np.sqrt, lambda u: 0.5 / np.sqrt(u)), r"derivative\(u\) is inf at 81 of 81"),
    "writes": ((lambda u: np.exp(u, out=u), np.exp), r"read-only"),
}


@pytest.mark.parametrize(("functions", "message"), WRONG.values(), ids=WRONG)
def test_wrong_functions_are_refused_at_the_start(functions, message):
    f = np.random.default_rng(0).random((9, 9))
    start = {"u0": f} if "depends" in message else {}
    for method in ("V", "newton"):
        with pytest.raises(ValueError, match=message) as caught:
            unigrid.solve(f, reaction=unigrid.Nonlinear(*functions), cycle=method, **start)
        assert "\n" not in str(caught.value)


RIGHT = {
    "corner": (lambda u: 100 * np.maximum(u, 0), lambda u: 100.0 * (u > 0)),
    "other slope in the corner": (lambda u: 100 * np.maximum(u, 0), lambda u: 100.0 * (u >= 0)),
    "cubic": (lambda u: 1e6 * u**3, lambda u: 3e6 * u**2),
    "quick": (lambda u: np.sinh(1e6 * u), lambda u: 1e6 * np.cosh(1e6 * u)),
    "logarithm": (np.log1p, lambda u: 1 / (1 + u)),
    "number": (lambda u: 3.0, lambda u: 0),
}


@pytest.mark.parametrize("functions", RIGHT.values(), ids=RIGHT)
def test_right_derivatives_pass(functions):
    assert unigrid.solve(np.ones((9, 9)), reaction=unigrid.Nonlinear(*functions)).converged


def test_options_that_are_for_linear_problems_are_refused():
    reaction, f = bratu(1.0), np.zeros((16, 16))
    for options, message in (
        ({"accelerate": "cg"}, "accelerate='cg' is for linear problems.*cycle='newton'"),
        ({"precision": "mixed"}, "precision='mixed' is for linear problems"),
        ({"rtol": "discretization"}, "is for linear problems.*give a number"),
        ({"cycle": "newtons"}, "unknown cycle 'newtons'.*did you mean 'newton'"),
        ({"restriction": "injection"}, "leave out restriction"),
        ({"boundary": "neumann"}, "only where g' > 0, and near the start g' is -2.72"),
    ):
        with pytest.raises(ValueError, match=message):
            unigrid.solve(f, reaction=reaction, **options)
    with pytest.raises(ValueError, match=r"fields\[0\] of Nonlinear must broadcast to f's shape \(16, 16\), got shape \(3,\)"):
        unigrid.solve(f, reaction=unigrid.Nonlinear(lambda u, k: k * u, lambda u, k: k, fields=(np.ones(3),)))


def test_what_is_for_linear_problems_refuses_others():
    problem = unigrid.Poisson((16, 16), reaction=bratu(1.0))
    linear = unigrid.Poisson((16, 16))
    for call, message in (
        (problem.matrix, "has no matrix"),
        (problem.coarsened, "FASCycle"),
        (lambda: unigrid.StencilCycle(problem), "unigrid.FASCycle"),
        (lambda: unigrid.GalerkinCycle(problem), "unigrid.NewtonCycle"),
        (lambda: unigrid.FASCycle(linear), r"unigrid.StencilCycle\(problem\)"),
        (lambda: unigrid.FASCycle(3), "must be a unigrid.Poisson"),
        (lambda: unigrid.analysis.FourierAnalysis(problem), "constant coefficients"),
        (lambda: unigrid.analysis.measured_factor(unigrid.FASCycle(problem)), "Solution.rate"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_the_operator_is_that_of_the_equation():
    rng = np.random.default_rng(0)
    g, slope = REACTIONS["sinh"]
    problem = unigrid.Poisson((12, 12), reaction=unigrid.Nonlinear(g, slope))
    u, b = rng.standard_normal((2, 12, 12))
    wanted = (five_points(12) @ u.ravel()).reshape(12, 12) + g(u)
    assert np.abs(problem.operator(u) - wanted).max() <= 1e-11 * np.abs(wanted).max()
    assert np.abs(problem.operator.residual(b, u) - (b - wanted)).max() <= 1e-11 * np.abs(wanted).max()
    assert np.array_equal(problem.operator.residual(b, None), b - g(np.zeros_like(b)))
    assert problem.operator.residual_norm(b, u) == pytest.approx(np.linalg.norm(b - wanted))
