"""The prepared hierarchy: its levels and numbers, pickling, coarsest levels, symmetry, several right-hand sides."""

import inspect
import pickle
import re
import textwrap

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tiers import named, pack

import unigrid
from unigrid import Reason
from unigrid.stencil.coarse import DirectSolver, FourierSolver

pytestmark = pytest.mark.usefixtures("deep")
D, N = "dirichlet", "neumann"
MIXES = [
    ((40,), D, "vertex"),
    ((77,), [(N, D)], "vertex"),
    ((30, 33), D, "vertex"),
    ((31, 24), N, "vertex"),
    ((28, 31), [(D, N), (N, D)], "vertex"),
    ((29, 30), N, "cell"),
    ((27, 40), [D, (N, D)], "cell"),
    ((25, 27), "periodic", "vertex"),
    ((21, 35), ["periodic", N], "vertex"),
    ((23, 27), ["periodic", D], "cell"),
    ((15, 13, 11), ["periodic", "periodic", "periodic"], "vertex"),
    ((13, 9, 15), [N, "periodic", D], "vertex"),
    ((9, 14, 11), ["periodic", (D, N), N], "cell"),
]
EVERY_MIX = pytest.mark.parametrize(("shape", "boundary", "centering"), MIXES, ids=str)


def problem_of(shape, boundary, centering, **options):
    return unigrid.Poisson(shape, spacing=1.0, boundary=boundary, centering=centering, **options)


# Levels and their numbers.


def shapes(cycle):
    return [level.problem.shape for level in cycle.levels]


@pytest.mark.parametrize(
    ("shape", "boundary", "centering", "expected"),
    [
        ((127,), D, "vertex", [(127,), (63,), (31,)]),
        ((63, 63), D, "vertex", [(63, 63), (31, 31), (15, 15), (7, 7), (3, 3)]),
        ((64, 64), D, "vertex", [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
        ((65, 33), N, "vertex", [(65, 33), (33, 17), (17, 9), (9, 5), (5, 3)]),
        ((64, 64), N, "cell", [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
        ((100, 357), D, "cell", [(100, 357), (50, 179), (25, 90), (13, 45), (7, 23), (4, 12), (2, 6)]),
        ((15, 15, 15), D, "vertex", [(15, 15, 15), (7, 7, 7), (3, 3, 3)]),
        ((40, 5), "periodic", "cell", [(40, 5), (20, 3), (10, 2)]),
    ],
)
def test_levels_have_half_the_intervals_each_rounded_up(shape, boundary, centering, expected):
    assert shapes(unigrid.StencilCycle(problem_of(shape, boundary, centering), max_levels=99)) == expected


def test_the_weak_axis_is_left_alone_until_the_other_has_caught_up():
    cycle = unigrid.StencilCycle(unigrid.Poisson((64, 64), spacing=(1.0, 4.0), centering="cell"), max_levels=99)
    assert shapes(cycle) == [(64, 64), (32, 64), (16, 64), (8, 32), (4, 16), (2, 8)]
    cycle = unigrid.StencilCycle(unigrid.Poisson((64, 64), spacing=(1.49, 1.0), centering="cell"))
    assert shapes(cycle)[1] == (32, 32)
    cycle = unigrid.StencilCycle(unigrid.Poisson((64, 64), spacing=(1.51, 1.0), centering="cell"))
    assert shapes(cycle)[1] == (64, 32)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 50])
def test_max_levels_ends_the_coarsening(most):
    assert len(unigrid.StencilCycle(unigrid.Poisson((31, 31)), max_levels=most).levels) == min(most, 4)


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "2"])
def test_max_levels_without_meaning_is_refused(most):
    with pytest.raises(ValueError, match="max_levels must be an integer >= 1"):
        unigrid.StencilCycle(unigrid.Poisson((31, 31)), max_levels=most)


# 63^2, 31^2, 15^2, 7^2, 3^2 unknowns.
SIZES = [3969, 961, 225, 49, 9]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 5 * (3969 + 961 + 225 + 49) + 9),
        ({"pre": 1, "post": 0}, 3969 + 961 + 225 + 49 + 9),
        ({"pre": 2, "post": 1, "smoother": "jacobi"}, 3 * (3969 + 961 + 225 + 49) + 9),
        ({"smoother": unigrid.Chebyshev(degree=3), "pre": 1, "post": 1}, 6 * (3969 + 961 + 225 + 49) + 9),
        ({"cycle": "W"}, 5 * (3969 + 2 * 961 + 4 * 225 + 8 * 49) + 16 * 9),
        ({"cycle": "F", "pre": 1, "post": 1}, 2 * (3969 + 2 * 961 + 3 * 225 + 4 * 49) + 5 * 9),
        ({"max_levels": 2}, 5 * 3969 + 961),
        ({"max_levels": 1}, 3969),
    ],
    ids=str,
)
def test_work_units_are_sweeps_of_the_finest_level(options, expected):
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)), **options)
    assert cycle.work_units == pytest.approx(expected / 3969, rel=1e-14)


def test_operator_complexity_is_the_number_of_unknowns_over_the_finest():
    assert unigrid.StencilCycle(unigrid.Poisson((63, 63))).operator_complexity == sum(SIZES) / 3969
    assert unigrid.StencilCycle(unigrid.Poisson((63, 63)), max_levels=2).operator_complexity == (3969 + 961) / 3969
    assert unigrid.StencilCycle(unigrid.Poisson((15, 15, 15))).operator_complexity == (3375 + 343 + 27) / 3375
    assert unigrid.StencilCycle(unigrid.Poisson(5)).operator_complexity == 1.0


def test_repr_shows_the_hierarchy():
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)), cycle="W", pre=2, post=1, smoother=unigrid.Jacobi(0.7))
    text = repr(cycle)
    assert "W(2,1)" in text
    assert "Jacobi(omega=0.7)" in text
    assert "5 levels" in text
    assert f"{cycle.work_units:.2f} work units" in text
    rows = re.findall(r"^ *(\d+) +(\d+) x (\d+) +([\d,]+)", text, flags=re.MULTILINE)
    assert rows == [(str(k), str(n), str(n), f"{n * n:,}") for k, n in enumerate([63, 31, 15, 7, 3])]


@pytest.mark.parametrize("bad", [None, (63, 63), "problem", scipy.sparse.eye_array(4)])
def test_what_is_no_problem_is_refused(bad):
    with pytest.raises(TypeError, match=r"problem must be a unigrid\.Poisson"):
        unigrid.StencilCycle(bad)


# Pickling.


@pack
@pytest.mark.parametrize(
    "options", [{}, {"coarsest": "fft"}, {"smoother": "chebyshev", "cycle": "W"}, {"max_levels": 2}], ids=str
)
@EVERY_MIX
def test_a_pickled_cycle_gives_the_same_to_the_last_bit(shape, boundary, centering, options, rng):
    values = unigrid.Dirichlet(rng.standard_normal(shape[1:])) if boundary == D else None
    problem = problem_of(shape, [values, *[D] * (len(shape) - 1)] if values else boundary, centering, reaction=0.01)
    cycle = unigrid.StencilCycle(problem, **options)
    f = rng.standard_normal(shape)
    before = cycle.solve(f, raise_on_failure=False)
    copy = pickle.loads(pickle.dumps(cycle))
    after = copy.solve(f, raise_on_failure=False)
    np.testing.assert_array_equal(after.u, before.u)
    assert after.residuals == before.residuals
    assert repr(copy) == repr(cycle)


def test_pickling_a_used_cycle_does_not_carry_its_work_arrays(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((200, 200)))
    cycle.nested(np.ones((200, 200)))  # makes the transfers of nested iteration, which are part of the hierarchy
    fresh = len(pickle.dumps(cycle))
    cycle.solve(rng.standard_normal((200, 200)))
    assert len(pickle.dumps(cycle)) == fresh


def test_a_solution_and_its_error_can_be_pickled(rng):
    solution = unigrid.solve(rng.standard_normal((20, 20)), maxiter=1, rtol=1e-12, raise_on_failure=False)
    error = pickle.loads(pickle.dumps(unigrid.ConvergenceError(solution)))
    assert error.solution.reason is Reason.MAXITER
    np.testing.assert_array_equal(error.solution.u, solution.u)
    assert str(error) == str(unigrid.ConvergenceError(solution))


# Coarsest levels.


@pack
@pytest.mark.parametrize("most", [1, 2, None])
@EVERY_MIX
def test_every_coarsest_solver_gives_the_same_cycle(shape, boundary, centering, most, rng):
    problem = problem_of(shape, boundary, centering)
    b = problem.compatible(rng.standard_normal(shape))
    direct, fft = (
        problem.compatible(unigrid.StencilCycle(problem, coarsest=name, max_levels=most)(b)) for name in ("direct", "fft")
    )
    np.testing.assert_allclose(fft, direct, rtol=0, atol=1e-11 * np.abs(direct).max())


@pytest.mark.parametrize("boundary", [D, N])
def test_dense_and_sparse_factorizations_agree(boundary, rng, monkeypatch):
    problem = problem_of((30, 20), boundary, "vertex")
    b = problem.compatible(rng.standard_normal((30, 20)))
    dense = unigrid.StencilCycle(problem, max_levels=1)(b)
    monkeypatch.setattr("unigrid.stencil.coarse.DENSE_UNKNOWNS", 10)
    sparse = unigrid.StencilCycle(problem, max_levels=1)(b)
    np.testing.assert_allclose(sparse, dense, rtol=0, atol=1e-11 * np.abs(dense).max())


@EVERY_MIX
def test_one_level_is_a_direct_solver(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f = problem.compatible(rng.standard_normal(shape))
    for coarsest, kind in (("direct", DirectSolver), ("fft", FourierSolver)):
        cycle = unigrid.StencilCycle(problem, coarsest=coarsest, max_levels=1)
        assert isinstance(cycle.levels[-1].smoother, kind)
        assert cycle.solve(f).iterations == 1


def test_any_smoother_may_stand_on_the_coarsest_level(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), coarsest=unigrid.Steps(unigrid.GaussSeidel(), 30))
    assert cycle.solve(rng.standard_normal((31, 31))).converged
    with pytest.raises(TypeError, match="coarsest must be one of 'direct', 'fft'"):
        unigrid.StencilCycle(unigrid.Poisson((31, 31)), coarsest=3)


# Symmetry.


def dense(cycle, problem):
    """Return the matrix of one cycle from zero."""
    columns = [cycle(np.ascontiguousarray(e.reshape(problem.shape))).ravel() for e in np.eye(problem.grid.size)]
    return np.array(columns).T


SYMMETRIC = [
    {},
    {"pre": 1, "post": 1},
    {"cycle": "W"},
    {"smoother": unigrid.RedBlack(1.0)},
    {"smoother": unigrid.RedBlack(1.0, first="black"), "pre": 1, "post": 1},
    {"smoother": "jacobi"},
    {"smoother": "gauss-seidel"},
    {"smoother": unigrid.GaussSeidel(1.3, backward=True), "pre": 1, "post": 1},
    {"smoother": "chebyshev"},
    {"smoother": unigrid.Chebyshev(degree=2), "pre": 1, "post": 1, "cycle": "W"},
    {"restriction": "cell-average", "prolongation": "constant"},
    {"coarsest": "fft"},
    {"state_transfer": "injection"},
]


@pack
@pytest.mark.parametrize("options", SYMMETRIC, ids=str)
@EVERY_MIX
def test_the_symmetric_cycle_is_symmetric_and_positive_in_the_weights(shape, boundary, centering, options, rng):
    problem = problem_of(shape, boundary, centering)
    cycle = unigrid.StencilCycle(problem, **options)
    M, w = cycle.aspreconditioner(), problem.weights.ravel()
    for _ in range(4):
        r, s = (problem.compatible(v).ravel() for v in rng.standard_normal((2, *shape)))
        Mr, Ms = M @ r, M @ s
        size = np.sqrt((w * r) @ Mr * ((w * s) @ Ms))
        assert (w * r) @ Mr > 0
        assert abs((w * s) @ Mr - (w * r) @ Ms) <= 1e-13 * size * 10
        for vector in (r, s):  # smooth ones too: these are where a coarse level shows
            smooth = problem.compatible(cycle.symmetric()(vector.reshape(shape))).ravel()
            assert (w * smooth) @ (M @ smooth) > 0


@pack
@pytest.mark.parametrize("options", SYMMETRIC, ids=str)
@pytest.mark.parametrize(
    ("shape", "boundary", "centering"),
    [
        ((9, 7), ["periodic", N], "vertex"),
        ((7, 9), ["periodic", D], "cell"),
        ((5, 3, 5), "periodic", "vertex"),
        ((40,), [(N, D)], "vertex"),
    ],
    ids=str,
)
def test_the_symmetric_cycle_as_a_matrix(shape, boundary, centering, options):
    problem = problem_of(shape, boundary, centering, reaction=0.2)
    cycle = unigrid.StencilCycle(problem, **options)
    assert len(cycle.levels) >= 2
    weighted = problem.weights.ravel()[:, None] * dense(cycle.symmetric(), problem)
    assert np.abs(weighted - weighted.T).max() <= 1e-13 * np.abs(weighted).max()
    assert np.linalg.eigvalsh((weighted + weighted.T) / 2)[0] > 0


def test_a_cycle_is_not_symmetric_by_itself(rng):
    """The check above can fail: red before black on both sides is not symmetric."""
    problem = problem_of((15, 15), D, "vertex")
    matrix = dense(unigrid.StencilCycle(problem, smoother=unigrid.RedBlack()), problem)
    assert np.abs(matrix - matrix.T).max() > 1e-3 * np.abs(matrix).max()


class Unpaired(unigrid.Smoother):
    def __call__(self, operator, f, u):
        return unigrid.RedBlack()(operator, f, u)


class OwnRestriction(unigrid.Restriction):
    def __call__(self, residual):
        return residual


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cycle": "F"}, "F-cycle is not symmetric"),
        ({"pre": 1, "post": 2}, "pre = 1 and post = 2 must be equal"),
        ({"pre": 2, "post": 0}, "pre = 2 and post = 0 must be equal"),
        ({"smoother": Unpaired()}, "Unpaired has no adjoint"),
        ({"restriction": "injection"}, "must be adjoint"),
        ({"restriction": "half-weighting"}, "must be adjoint"),
        ({"restriction": "cell-average"}, "must be adjoint"),
        ({"prolongation": "constant"}, "must be adjoint"),
        ({"prolongation": "cubic"}, "must be adjoint"),
        ({"restriction": OwnRestriction()}, "must be adjoint"),
        ({"coarsest": unigrid.GaussSeidel()}, "coarsest"),
        ({"coarsest": Unpaired()}, "coarsest"),
    ],
    ids=named,
)
def test_what_cannot_be_symmetric_is_refused_in_one_line(options, words):
    cycle = unigrid.StencilCycle(unigrid.Poisson((63, 63)), **options)
    calls = [cycle.symmetric, cycle.aspreconditioner, lambda: cycle.solve(np.ones((63, 63)), accelerate="cg")]
    for call in calls:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


def test_making_the_symmetric_cycle_leaves_the_cycle_as_it_is(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 40)))
    b = rng.standard_normal((40, 40))
    before = cycle(b)
    symmetric = cycle.symmetric()
    assert np.abs(symmetric(b) - before).max() > 1e-6
    np.testing.assert_array_equal(cycle(b), before)


# Conjugate gradients.


@pack
@EVERY_MIX
def test_accelerated_solves_agree_with_a_direct_solver(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    f = problem.compatible(rng.standard_normal(shape))
    solution = unigrid.StencilCycle(problem).solve(f, accelerate="cg", rtol=1e-11)
    expected = problem.compatible(unigrid.StencilCycle(problem, max_levels=1)(f))
    np.testing.assert_allclose(solution.u, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert solution.iterations <= 11  # 10, and the full-multigrid start


@pack
@pytest.mark.parametrize("start", ["fmg", "zero"])
@EVERY_MIX
def test_acceleration_does_not_take_more_iterations(shape, boundary, centering, start, rng):
    problem = problem_of(shape, boundary, centering)
    f = problem.compatible(rng.standard_normal(shape))
    cycle = unigrid.StencilCycle(problem, smoother="jacobi", pre=1, post=1)
    plain, accelerated = (cycle.solve(f, rtol=1e-9, start=start, accelerate=way) for way in (None, "cg"))
    assert accelerated.iterations <= plain.iterations


def _docstring_code():
    blocks = re.split(r"\n\s*\n", inspect.getdoc(unigrid.StencilCycle.aspreconditioner))
    return [textwrap.dedent(block) for block in blocks if re.search(r"^\s+M = ", block, flags=re.MULTILINE) or "cg(" in block]


@pytest.mark.parametrize(
    ("boundary", "weighted"), [([D, "periodic"], False), (D, False), ([D, (N, D)], True), ([(D, N), N], True)], ids=str
)
def test_the_docstring_of_aspreconditioner_tells_how_to_use_it_in_scipy(boundary, weighted, rng):
    plain, with_weights = _docstring_code()
    problem = problem_of((33, 40), boundary, "vertex")
    f = rng.standard_normal((33, 40))
    b = problem.rhs(f).ravel()
    names = {
        "np": np,
        "scipy": scipy,
        "unigrid": unigrid,
        "problem": problem,
        "f": f,
        "b": b,
        "cycle": unigrid.StencilCycle(problem),
    }
    code = with_weights if weighted else plain
    for name in ("cg", "LinearOperator", "aslinearoperator"):
        names[name] = getattr(scipy.sparse.linalg, name)
    exec(code, names)
    assert names["info"] == 0
    assert np.linalg.norm(problem.matrix() @ names["x"] - b) <= 1e-4 * np.linalg.norm(b)


@pack
@EVERY_MIX
def test_scipy_cg_converges_quickly_with_the_preconditioner(shape, boundary, centering, rng):
    problem = problem_of(shape, boundary, centering)
    w = problem.weights.ravel()
    f = problem.compatible(rng.standard_normal(shape)).ravel()
    cycle, iterations = unigrid.StencilCycle(problem).aspreconditioner(), []
    M = scipy.sparse.linalg.LinearOperator(cycle.shape, matvec=lambda r: cycle @ (r.ravel() / w))
    x, info = scipy.sparse.linalg.cg(
        scipy.sparse.diags_array(w) @ problem.matrix(), w * f, M=M, rtol=1e-10, callback=iterations.append
    )
    assert info == 0
    assert len(iterations) <= 10
    assert np.linalg.norm(problem.matrix() @ x - f) <= 1e-8 * np.linalg.norm(f)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
def test_the_preconditioner_takes_vectors_and_columns(dtype, rng):
    problem = problem_of((12, 10), D, "vertex")
    M = unigrid.StencilCycle(problem).aspreconditioner()
    assert M.shape == (120, 120)
    vectors = (10 * rng.standard_normal((120, 3))).astype(dtype)
    before = vectors.copy()
    np.testing.assert_allclose((M @ vectors)[:, 1], M @ vectors[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(vectors, before)


# Several right-hand sides.


@pack
@pytest.mark.parametrize("lead", [(1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("accelerate", [None, "cg"])
@pytest.mark.parametrize("given_u0", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_leading_axes_are_independent_right_hand_sides(lead, accelerate, given_u0, dtype, rng):
    shape = (20, 31)
    cycle = unigrid.StencilCycle(unigrid.Poisson(shape, boundary=[(D, unigrid.Neumann(0.3)), "periodic"]))
    f, u0 = (array.astype(dtype) for array in rng.standard_normal((2, *lead, *shape)))
    together = cycle.solve(f, u0=u0 if given_u0 else None, accelerate=accelerate)
    assert together.u.shape == f.shape
    assert together.u.dtype == dtype
    assert together.converged
    assert together.reason is Reason.CONVERGED
    assert len(together.parts) == np.prod(lead)
    for part, index in zip(together.parts, np.ndindex(*lead), strict=True):
        alone = cycle.solve(f[index], u0=u0[index] if given_u0 else None, accelerate=accelerate)
        np.testing.assert_array_equal(together.u[index], alone.u)
        np.testing.assert_array_equal(part.u, alone.u)
        assert part.residuals == alone.residuals
        assert part.iterations == alone.iterations
    assert together.iterations == max(part.iterations for part in together.parts)
    assert len(together.residuals) == together.iterations + 1
    assert together.residuals[0] == pytest.approx(np.sqrt(sum(part.residuals[0] ** 2 for part in together.parts)))
    assert together.residuals[-1] == pytest.approx(np.sqrt(sum(part.residuals[-1] ** 2 for part in together.parts)))


def test_the_reason_of_a_stack_is_that_of_its_first_failure(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 40)))
    f = rng.standard_normal((3, 40, 40))
    f[0] = 0.0
    solution = cycle.solve(f, maxiter=2, rtol=1e-12, raise_on_failure=False)
    assert [part.reason for part in solution.parts] == [Reason.CONVERGED, Reason.MAXITER, Reason.MAXITER]
    assert solution.reason is Reason.MAXITER
    assert not solution.converged
    assert "1 of 3" in solution.message
    assert "Number 1" in solution.message
    with pytest.raises(unigrid.ConvergenceError, match="1 of 3"):
        cycle.solve(f, maxiter=2, rtol=1e-12)


def test_no_right_hand_sides_at_all_give_an_empty_stack():
    solution = unigrid.StencilCycle(unigrid.Poisson((5, 5))).solve(np.empty((0, 5, 5)))
    assert solution.u.shape == (0, 5, 5)
    assert solution.converged


def test_one_cycle_serves_many_right_hand_sides_and_both_precisions(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((50, 60)))
    for dtype in (np.float64, np.float32, np.float64):
        f = rng.standard_normal((50, 60)).astype(dtype)
        fresh = unigrid.StencilCycle(unigrid.Poisson((50, 60))).solve(f)
        np.testing.assert_array_equal(cycle.solve(f).u, fresh.u)
        np.testing.assert_array_equal(unigrid.solve(f, cycle=cycle).u, fresh.u)


@pytest.mark.parametrize("boundary", ["dirichlet", [("neumann", "dirichlet"), "neumann"]], ids=str)
def test_the_preconditioner_has_its_transpose_and_refuses_complex_vectors(boundary):
    preconditioner = unigrid.StencilCycle(unigrid.Poisson((20, 13), boundary=boundary)).aspreconditioner()
    x, y = np.random.default_rng(3).standard_normal((2, 260))
    assert y @ preconditioner.matvec(x) == pytest.approx(preconditioner.rmatvec(y) @ x, rel=1e-12)
    with pytest.raises(TypeError, match="real numbers"):
        preconditioner.matvec(x * 1j)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_serves(protocol):
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 30)))
    f = np.ones((40, 30))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cycle, protocol)).solve(f).u, cycle.solve(f).u)
