"""solve(cycle=...) with cycles of another make, and hierarchies with another smoother on the way up."""

import contextlib
import pickle
import sys

import numpy as np
import pytest
import scipy.sparse.linalg

import unigrid
from unigrid import Reason
from unigrid.stencil.external import ExternalCycle, on_problem

D, N = "dirichlet", "neumann"
SHAPE = (31, 31)


class Foreign(unigrid.MultigridCycle):
    """A cycle that knows nothing of this backend's levels; what it returns goes through `change`."""

    levels, kind = (None,), "V"

    def __init__(self, cycle, change=lambda result: result):
        self.inner, self.change = cycle, change

    def __call__(self, f, u=None):
        return self.change(self.inner(f, u))


@pytest.fixture(autouse=True)
def one_thread():
    """The networks here are tiny: more threads of torch would only wait for one another."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(before)


@pytest.fixture
def foreign():
    return lambda change=lambda result: result, **options: Foreign(
        unigrid.StencilCycle(unigrid.Poisson(SHAPE), **options), change
    )


@pytest.fixture
def to_conv():
    pytest.importorskip("torch").set_num_threads(1)
    from unigrid.equivalence import to_conv

    return to_conv


def exact(f, **options):
    problem = unigrid.Poisson(f.shape, **options)
    return scipy.sparse.linalg.spsolve(problem.matrix().tocsc(), problem.rhs(f).ravel()).reshape(f.shape)


def close(found, wanted, tolerance=1e-9):
    return np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


# What runs, and gives the right answer.


def makes(kind, to_conv):
    cycle = unigrid.StencilCycle(unigrid.Poisson(SHAPE), smoother="chebyshev", pre=1, post=1)
    if kind == "ConvCycle":
        return to_conv(cycle)
    if kind == "ArrayCycle":
        from unigrid.equivalence import to_stencil

        return to_stencil(to_conv(cycle))
    if kind == "PoissonNet":
        from unigrid.training import PoissonNet

        return PoissonNet()
    return Foreign(cycle)


EVERY_MAKE = pytest.mark.parametrize("kind", ["ConvCycle", "ArrayCycle", "PoissonNet", "Foreign"])


@EVERY_MAKE
def test_its_solution_is_the_direct_solvers(kind, to_conv, rng):
    f = rng.standard_normal(SHAPE)
    before, cycle = f.copy(), makes(kind, to_conv)
    solution = unigrid.solve(f, cycle=cycle, rtol=1e-11)
    assert solution.converged
    assert close(solution.u, exact(f))
    np.testing.assert_array_equal(f, before)
    again = unigrid.solve(f, cycle=cycle, u0=solution.u, rtol=1e-10)
    assert again.iterations == 0


@EVERY_MAKE
def test_boundary_values_of_the_arguments_are_honored(kind, to_conv, rng):
    f = rng.standard_normal(SHAPE)
    sides = [(unigrid.Dirichlet(2.0), unigrid.Dirichlet(rng.standard_normal(31))), unigrid.Dirichlet(-1.0)]
    solution = unigrid.solve(f, boundary=sides, cycle=makes(kind, to_conv), rtol=1e-11)
    assert close(solution.u, exact(f, boundary=sides))


@EVERY_MAKE
def test_single_precision_comes_back_single(kind, to_conv, rng):
    f = rng.standard_normal(SHAPE).astype(np.float32)
    solution = unigrid.solve(f, cycle=makes(kind, to_conv))
    assert solution.converged
    assert solution.u.dtype == np.float32
    assert close(solution.u, exact(f.astype(float)), 1e-3)


@pytest.mark.parametrize(
    "options",
    [{"boundary": N}, {"boundary": "periodic"}, {"boundary": [D, (N, D)]}, {"lengths": 0.2}, {"reaction": 5.0}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["ConvCycle", "ArrayCycle"])
def test_a_cycle_for_another_problem_never_ends_as_if_converged(kind, options, to_conv, rng):
    f = rng.standard_normal(SHAPE)
    f -= unigrid.Poisson(SHAPE, **options).mean(f)
    solution = unigrid.solve(
        f, **options, cycle=makes(kind, to_conv), raise_on_failure=False, compatibility="project", maxiter=20
    )
    assert not solution.converged
    assert solution.reason in (Reason.STAGNATED, Reason.DIVERGED, Reason.MAXITER)
    problem = unigrid.Poisson(SHAPE, **options)
    b = problem.compatible(problem.rhs(f))
    left = np.linalg.norm(b.ravel() - problem.matrix() @ solution.u.ravel())
    assert solution.residuals[-1] == pytest.approx(left, rel=1e-6)  # what is said of u is true


@pytest.mark.parametrize(
    "options",
    [
        {"boundary": N}, {"boundary": "periodic"}, {"boundary": [(D, N), "periodic"], "centering": "cell"},
        {"lengths": (1.0, 4.0)},
        {"boundary": [(unigrid.Dirichlet(1.0), unigrid.Neumann(-2.0)), D], "reaction": 3.0},
    ],
    ids=str,
)  # fmt: skip
def test_a_trained_net_takes_every_problem_of_two_axes(options, to_conv, rng):
    from unigrid.training import PoissonNet

    f = rng.standard_normal((100, 70))
    problem = unigrid.Poisson(f.shape, **options)
    f -= problem.mean(f) if problem.singular else 0.0
    solution = unigrid.solve(f, cycle=PoissonNet(), maxiter=100, **options)
    assert solution.converged
    b = problem.compatible(problem.rhs(f)).ravel()
    assert np.linalg.norm(b - problem.matrix() @ solution.u.ravel()) <= 1.01e-8 * np.linalg.norm(b)
    if not problem.singular:
        assert close(solution.u, exact(f, **options), 1e-5)


def test_its_levels_start_nested_iteration_only_where_they_are_the_problems_own(to_conv, rng):
    """FMG counts as one iteration; a net begins with it, a network of convolutions, which has no cubic transfers, at zero."""
    from unigrid.training import PoissonNet

    f = rng.standard_normal((63, 63))
    net = PoissonNet()
    nested, zero = (unigrid.solve(f, cycle=net, start=start).residuals for start in ("fmg", "zero"))
    assert nested[1] != zero[1]
    assert nested == unigrid.solve(f, cycle=net.on(unigrid.Poisson((63, 63)))).residuals
    network = to_conv(unigrid.StencilCycle(unigrid.Poisson((63, 63))))
    assert unigrid.solve(f, cycle=network).residuals == unigrid.solve(f, cycle=network, start="zero").residuals


def test_callback_and_maxiter_reach_it(foreign):
    seen = []
    solution = unigrid.solve(np.ones(SHAPE), cycle=foreign(), callback=seen.append, maxiter=2, raise_on_failure=False)
    assert solution.reason is Reason.MAXITER
    assert [each.iterations for each in seen] == [1, 2]


# What is refused.


@pytest.mark.parametrize(
    ("name", "value"),
    [("pre", 1), ("post", 3), ("smoother", "jacobi"), ("restriction", "injection"), ("prolongation", "constant")],
)
@EVERY_MAKE
def test_slot_arguments_are_refused_beside_it(kind, name, value, to_conv):
    with pytest.raises(ValueError, match=f"a cycle brings its own slots; leave out {name}"):
        unigrid.solve(np.ones(SHAPE), cycle=makes(kind, to_conv), **{name: value})


def test_an_argument_that_equals_its_default_counts_as_not_given(foreign):
    assert unigrid.solve(np.ones(SHAPE), cycle=foreign(), pre=None, smoother=None, prolongation="linear").converged


@EVERY_MAKE
def test_conjugate_gradients_need_a_symmetry_that_is_known(kind, to_conv):
    with pytest.raises(ValueError, match="symmetr") as caught:
        unigrid.solve(np.ones(SHAPE), cycle=makes(kind, to_conv), accelerate="cg")
    if kind != "PoissonNet":
        name = {"Foreign": "Foreign"}.get(kind, kind)
        assert f"needs a StencilCycle, whose symmetry is known; this is a {name}" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda u: u[:-1], r"shape \(30, 31\)"),
        (lambda u: u[None], r"shape \(1, 31, 31\)"),
        (lambda u: u.tolist(), "list"),
        (lambda u: None, "NoneType"),
        (lambda u: float(u[0, 0]), "float"),
    ],
)
def test_what_it_returns_must_have_the_problems_shape(change, got, foreign):
    with pytest.raises(ValueError, match=rf"of this Foreign must map arrays of shape \(31, 31\) to such, got {got}"):
        unigrid.solve(np.ones(SHAPE), cycle=foreign(change))


def test_nan_that_it_makes_is_reported_and_the_last_finite_iterate_returned(foreign, rng):
    count = iter(range(10))
    solution = unigrid.solve(
        rng.standard_normal(SHAPE), cycle=foreign(lambda u: u * (np.nan if next(count) == 2 else 1)), raise_on_failure=False
    )
    assert solution.reason is Reason.NONFINITE
    assert solution.iterations == 2
    assert np.isfinite(solution.u).all()


def test_a_cycle_that_works_in_place_on_u_spoils_nothing(rng):
    class InPlace(Foreign):
        calls = 0

        def __call__(self, f, u=None):
            self.calls += 1
            made = self.inner(f, u)
            if u is None:
                return made
            u[:] = made if self.calls < 4 else np.nan
            return u

    cycle = InPlace(unigrid.StencilCycle(unigrid.Poisson(SHAPE), smoother="jacobi"))
    solution = unigrid.solve(rng.standard_normal(SHAPE), cycle=cycle, raise_on_failure=False)
    assert solution.reason is Reason.NONFINITE
    assert np.isfinite(solution.u).all()


@pytest.mark.parametrize("returns_f", [False, True])
def test_a_cycle_that_writes_into_f_never_ends_as_if_converged_to_something_else(returns_f, rng):
    class Greedy(Foreign):
        def __call__(self, f, u=None):
            made = self.inner(f, u)
            f[:] = made
            return f if returns_f else made

    f = rng.standard_normal(SHAPE)
    before, cycle = f.copy(), Greedy(unigrid.StencilCycle(unigrid.Poisson(SHAPE)))
    with contextlib.suppress(ValueError):  # a refusal, as of a read-only array, will do
        solution = unigrid.solve(f, cycle=cycle, raise_on_failure=False)
        assert not solution.converged or close(solution.u, exact(before), 1e-6)
    np.testing.assert_array_equal(f, before)


def test_a_whole_classifier_is_no_cycle(to_conv):
    from unigrid.conv import MgNet

    with pytest.raises((TypeError, ValueError), match="cycle") as caught:
        unigrid.solve(np.ones(SHAPE), cycle=MgNet())
    assert len(str(caught.value)) < 400  # and not the print of every layer


def test_what_is_not_callable_is_refused():
    class Silent(unigrid.MultigridCycle):
        levels, kind = (None,), "V"

    with pytest.raises(TypeError, match=r"cycle must be callable as cycle\(f, u\) -> u with arrays, which Silent is not"):
        unigrid.solve(np.ones(SHAPE), cycle=Silent())


def test_a_cycle_without_levels_is_taken_or_refused_with_a_reason(rng):
    """To be callable is all that the refusal above asks for; no error may come from inside."""

    class Bare(unigrid.MultigridCycle):
        inner = unigrid.StencilCycle(unigrid.Poisson(SHAPE))

        def __call__(self, f, u=None):
            return self.inner(f, u)

    f = rng.standard_normal(SHAPE)
    with contextlib.suppress(TypeError):
        assert close(unigrid.solve(f, cycle=Bare()).u, exact(f), 1e-6)


def test_levels_of_another_problem_take_no_part_in_nested_iteration(rng):
    """Its levels are a StencilCycle's, of another size: what checks shapes there is the call, and only the call."""

    class Wrapped(Foreign):
        def __init__(self, cycle):
            super().__init__(cycle)
            self.levels, self.kind = cycle.levels, cycle.kind

    wrapped = Wrapped(unigrid.StencilCycle(unigrid.Poisson((63, 63))))
    with pytest.raises(ValueError, match=r"must have the problem's shape \(63, 63\), got \(31, 31\)"):
        unigrid.solve(np.ones(SHAPE), cycle=wrapped)
    f = rng.standard_normal((63, 63))
    assert close(unigrid.solve(f, cycle=wrapped, rtol=1e-10).u, exact(f))


@pytest.mark.parametrize("shape", [(15,), (15, 15), (32, 32), (62, 30), (7, 7, 7)], ids=str)
@pytest.mark.parametrize("kind", ["ConvCycle", "ArrayCycle"])
def test_a_grid_of_another_size_is_refused(kind, shape, to_conv):
    with pytest.raises(ValueError, match=r"made for|grid|axes|shape"):
        unigrid.solve(np.ones(shape), lengths=1.0, cycle=makes(kind, to_conv))


@pytest.mark.parametrize("shape", [(15,), (7, 7, 7)], ids=str)
def test_a_net_is_for_two_axes(shape, to_conv):
    with pytest.raises(ValueError, match=f"3x3, for grids of 2 axes; this problem has {len(shape)}"):
        unigrid.solve(np.ones(shape), lengths=1.0, cycle=makes("PoissonNet", to_conv))


def test_adopted_holds_the_result_to_precision():
    problem = unigrid.Poisson(SHAPE)
    cycle = on_problem(Foreign(unigrid.StencilCycle(problem), lambda u: u.astype(np.float64)), problem)
    assert isinstance(cycle, ExternalCycle)
    assert cycle(np.ones(SHAPE, np.float32)).dtype == np.float32


# Another smoother on the way up.

JACOBI, CHEBYSHEV = unigrid.Jacobi(0.7), unigrid.Chebyshev(degree=3)


def test_the_post_smoother_comes_after_the_correction(rng):
    problem = unigrid.Poisson((15, 15))
    cycle = unigrid.StencilCycle(problem, smoother=JACOBI, post_smoother=CHEBYSHEV, pre=1, post=2)
    f, u = rng.standard_normal((2, 15, 15))
    operator, level = problem.operator, cycle.levels[0]
    smoothed = JACOBI(operator, f, u)
    coarse = cycle.cycle(level.restriction(operator.residual(f, smoothed)), None, at=1)
    expected = smoothed + level.prolongation(coarse)
    for _ in range(2):
        expected = CHEBYSHEV(operator, f, expected)
    np.testing.assert_allclose(cycle(f, u), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    turned = unigrid.StencilCycle(problem, smoother=CHEBYSHEV, post_smoother=JACOBI, pre=2, post=1)
    assert np.abs(turned(f, u) - expected).max() > 1e-4 * np.abs(expected).max()


def test_without_one_it_is_the_smoother(rng):
    problem, f = unigrid.Poisson((15, 15)), rng.standard_normal((15, 15))
    cycles = [unigrid.StencilCycle(problem, smoother=JACOBI, **more) for more in ({}, {"post_smoother": unigrid.Jacobi(0.7)})]
    np.testing.assert_array_equal(*(cycle(f) for cycle in cycles))
    assert cycles[0].post_smoother is cycles[0].smoother
    again = pickle.loads(pickle.dumps(unigrid.StencilCycle(problem, smoother=JACOBI, post_smoother=CHEBYSHEV)))
    assert again.post_smoother == CHEBYSHEV
    assert pickle.loads(pickle.dumps(cycles[0])).symmetric()


@pytest.mark.usefixtures("deep")
def test_its_work_is_counted_and_shown():
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)), smoother=JACOBI, post_smoother=CHEBYSHEV, pre=2, post=1)
    sizes = [3969, 961, 225, 49]
    assert cycle.work_units == pytest.approx(((2 * 1 + 1 * 3) * sum(sizes) + 9) / 3969, rel=1e-14)
    assert "V(2,1), Jacobi(omega=0.7), then Chebyshev(degree=3" in repr(cycle)
    assert "then" not in repr(unigrid.StencilCycle(unigrid.Poisson((63, 63)), smoother=JACOBI))


@pytest.mark.parametrize("name", ["red-black", "jacobi"])
def test_it_may_be_named(name):
    cycle = unigrid.StencilCycle(unigrid.Poisson((15, 15)), post_smoother=name)
    assert cycle.solve(np.ones((15, 15))).converged


def test_it_is_checked_as_the_smoother_is():
    with pytest.raises(ValueError, match="jacobi"):
        unigrid.StencilCycle(unigrid.Poisson((15, 15)), post_smoother="jacoby")
    with pytest.raises(TypeError, match="smoother must be one of"):
        unigrid.StencilCycle(unigrid.Poisson((15, 15)), post_smoother=3)


def test_symmetry_is_refused_with_it():
    cycle = unigrid.StencilCycle(unigrid.Poisson((15, 15)), smoother=JACOBI, post_smoother=CHEBYSHEV)
    for refuse in (cycle.symmetric, cycle.aspreconditioner, lambda: cycle.solve(np.ones((15, 15)), accelerate="cg")):
        with pytest.raises(ValueError, match="leave out post_smoother"):
            refuse()


# Why one fails.


@pytest.mark.parametrize(
    "other",
    [
        {"spacing": 1.0},
        {"spacing": 1.05 / 32},
        {"reaction": 100.0},
        {"centering": "cell"},
        {"boundary": ["neumann", "dirichlet"]},
    ],
    ids=str,
)
def test_a_network_of_another_problem_is_named_as_the_cause(to_conv, other):
    network = to_conv(unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother="jacobi"))
    f = np.random.default_rng(1).standard_normal((31, 31))
    assert "One cycle changes" not in unigrid.solve(f, cycle=network).message
    with pytest.raises(unigrid.ConvergenceError, match="made for another spacing, boundary, coefficient or reaction") as error:
        unigrid.solve(f, cycle=network, **other)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_a_network_of_lower_precision_is_named_as_the_cause(to_conv, kind):
    torch = pytest.importorskip("torch")
    network = to_conv(unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother="jacobi")).to(getattr(torch, kind))
    solution = unigrid.solve(np.ones((31, 31)), cycle=network, raise_on_failure=False)
    assert not solution.converged
    assert "computes in a lower precision" in solution.message


def test_trained_smoothers_are_named_where_they_fail():
    kernels = np.zeros((1, 1, 3, 3))
    kernels[0, 0, 1, 1] = 3.0
    smoother = unigrid.LearnedSmoother(kernels)
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=smoother, pre=1, post=1)
    failed = cycle.solve(np.ones((31, 31)), raise_on_failure=False)
    assert not failed.converged
    assert "unigrid.train_solver(problem)" in failed.message
    kernels[0, 0, 1, 1] = 0.8
    fine = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother=unigrid.LearnedSmoother(kernels)).solve(np.ones((31, 31)))
    assert "trained" not in fine.message
    plain = unigrid.solve(np.ones((31, 31)), smoother=unigrid.Jacobi(3.0), raise_on_failure=False)
    assert "trained" not in plain.message
