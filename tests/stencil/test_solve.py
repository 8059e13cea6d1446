"""`unigrid.solve` as a user meets it: arrays of any kind in, the same kind out, and a residual that is true."""

import inspect

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid import Reason
from unigrid.stencil.cycle import StencilCycle


def rough(shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


# The signature is a contract.


def test_the_signature_is_that_of_the_contract():
    given = {name: p.default for name, p in inspect.signature(unigrid.solve).parameters.items() if name != "f"}
    assert given == {
        "lengths": None, "spacing": None, "boundary": "dirichlet", "centering": "vertex", "reaction": 0.0,
        "coefficient": None, "mask": None, "outside": 0.0, "fixed": None, "order": 2, "channels": None, "batch_dims": 0,
        "u0": None,
        "rtol": None, "atol": 0.0, "maxiter": 50, "cycle": "V", "smoothing": "tuned",
        "smoother": None, "pre": None,
        "post": None,
        "restriction": "full-weighting", "prolongation": "linear", "start": "fmg", "accelerate": "auto",
        "compatibility": "error", "callback": None, "raise_on_failure": True, "precision": "auto",
        "threads": None, "gradient_rtol": None, "backend": None,
    }  # fmt: skip
    with pytest.raises(TypeError):
        unigrid.solve(np.ones(5), 1.0)


def test_defaults_of_the_prepared_cycle_are_those_of_solve():
    """What several signatures list has the same default in all of them."""
    of_solve = inspect.signature(unigrid.solve).parameters
    for call in (StencilCycle.__init__, StencilCycle.solve, unigrid.Poisson.__init__):
        for name, parameter in inspect.signature(call).parameters.items():
            if name in of_solve and name not in ("f", "cycle"):
                assert parameter.default == of_solve[name].default, name


# What comes in, what goes out.


@pytest.mark.parametrize(
    ("dtype", "made"),
    [(np.float64, np.float64), (np.float32, np.float32), (np.float16, np.float32), (">f8", np.float64), (">f4", np.float32)]
    + [(dtype, np.float64) for dtype in (np.int64, np.int8, np.uint16, bool, ">i4")],
)
def test_precision_is_kept_and_integers_promoted(dtype, made):
    f = (10 * rough((12, 13))).astype(dtype)
    before = f.copy()
    solution = unigrid.solve(f)
    assert solution.u.dtype == made
    assert solution.u.dtype.isnative
    np.testing.assert_array_equal(f, before)
    expected = unigrid.solve(f.astype(np.float64)).u
    np.testing.assert_allclose(
        solution.u, expected, rtol=0, atol=(1e-7 if made == np.float64 else 2e-3) * np.abs(expected).max()
    )


@pytest.mark.parametrize("dtype", [np.clongdouble, np.longdouble, object, "U3", "datetime64[s]"])
def test_what_is_not_real_is_refused_in_one_line(dtype):
    with pytest.raises(TypeError, match="f must be ") as error:
        unigrid.solve(np.zeros((4, 4), dtype))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "turn",
    [
        np.asfortranarray,
        lambda f: f[::-1, ::-1],
        lambda f: np.repeat(np.repeat(f, 2, 0), 3, 1)[::2, ::3],
        lambda f: np.ascontiguousarray(f.T).T,
        lambda f: np.broadcast_to(f[:1], f.shape),
        lambda f: f.tolist(),
    ],
    ids=["fortran", "reversed", "strided", "transposed", "broadcast", "lists"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_memory_layout_gives_the_same_solution(turn, dtype):
    f = turn(rough((40, 33)).astype(dtype))
    plain = np.array(f, dtype=np.float64 if isinstance(f, list) else dtype, order="C")
    np.testing.assert_array_equal(unigrid.solve(f).u, unigrid.solve(plain).u)
    if isinstance(f, np.ndarray) and f.flags.writeable:
        f.flags.writeable = False
        np.testing.assert_array_equal(unigrid.solve(f, u0=f).u, unigrid.solve(plain, u0=plain).u)


@pytest.mark.parametrize(
    "options",
    [{}, {"start": "zero"}, {"accelerate": "cg"}, {"cycle": "W"}, {"pre": 0}, {"post": 0}, {"smoother": "chebyshev"}],
    ids=str,
)
@pytest.mark.parametrize("boundary_name", ["dirichlet", "neumann"])
def test_nothing_given_is_changed_and_nothing_given_is_returned(options, boundary_name):
    make = unigrid.Dirichlet if boundary_name == "dirichlet" else unigrid.Neumann
    f, u0, side = rough((30, 31)), rough((30, 31)) + 1, rough((31,))
    before = f.copy(), u0.copy(), side.copy()
    for start in (None, u0):
        if start is not None and "start" in options:
            continue
        if options.get("pre") == 0 and options.get("accelerate"):
            continue
        solution = unigrid.solve(f, u0=start, boundary=[(make(side), "dirichlet"), "periodic"], **options)
        assert not np.shares_memory(solution.u, f)
        assert not np.shares_memory(solution.u, u0)
        assert solution.u.flags.writeable
        assert solution.u.flags.c_contiguous
        for given, copy in zip((f, u0, side), before, strict=True):
            np.testing.assert_array_equal(given, copy)


def test_u0_of_another_precision_is_taken_in_that_of_f():
    f = rough((20, 20)).astype(np.float32)
    assert unigrid.solve(f, u0=rough((20, 20))).u.dtype == np.float32
    assert unigrid.solve(f, u0=np.ones((20, 20), int)).u.dtype == np.float32


# The residual.


@pack
@pytest.mark.parametrize("shape", [(50,), (30, 41), (11, 12, 13)], ids=str)
@pytest.mark.parametrize("accelerate", [None, "cg"])
@pytest.mark.parametrize("start", ["fmg", "zero", "u0"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_last_residual_is_that_of_u(shape, accelerate, start, dtype):
    f = rough(shape).astype(dtype)
    boundary = [(unigrid.Dirichlet(2.0), unigrid.Neumann(-1.0)), "periodic", "dirichlet"][: len(shape)]
    options = {"u0": rough(shape)} if start == "u0" else {"start": start}
    solution = unigrid.solve(f, boundary=boundary, accelerate=accelerate, reaction=0.5, **options)
    problem = unigrid.Poisson(shape, boundary=boundary, reaction=0.5)
    b = problem.rhs(f.astype(float)).ravel()
    true = np.linalg.norm(b - problem.matrix() @ solution.u.astype(float).ravel())
    slack = 4 * np.finfo(dtype).eps * problem.operator.norm_bound * np.linalg.norm(solution.u)
    assert abs(solution.residuals[-1] - true) <= slack
    assert solution.reason is Reason.CONVERGED
    assert len(solution.residuals) == solution.iterations + 1
    first = np.linalg.norm(b if start != "u0" else b - problem.matrix() @ options["u0"].ravel())
    assert solution.residuals[0] == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("rtol", [1e-2, 1e-5, 1e-9])
def test_rtol_is_relative_to_b_boundary_values_included(rtol):
    f = rough((63, 63))
    boundary = unigrid.Dirichlet(100.0)
    solution = unigrid.solve(f, boundary=boundary, rtol=rtol, u0=np.zeros_like(f))
    b_norm = np.linalg.norm(unigrid.Poisson((63, 63), boundary=boundary).rhs(f))
    assert solution.residuals[-1] <= rtol * b_norm < solution.residuals[-2]


def test_atol_is_absolute_and_the_larger_of_both_counts():
    f = rough((63, 63))
    solution = unigrid.solve(f, rtol=0.0, atol=1e-3)
    assert solution.residuals[-1] <= 1e-3 < solution.residuals[-2]
    assert unigrid.solve(f, atol=1e9).iterations == 0


def test_default_tolerances_go_with_the_precision():
    f = rough((63, 63))
    for dtype, rtol in ((np.float64, 1e-8), (np.float32, 1e-4)):
        solution = unigrid.solve(f.astype(dtype))
        assert solution.residuals[-1] <= rtol * solution.residuals[0] < solution.residuals[-2]


# Starts.


def test_full_multigrid_is_one_iteration_and_better_than_a_cycle():
    f = rough((63, 63))
    fmg, zero = (unigrid.solve(f, start=start, maxiter=1, raise_on_failure=False) for start in ("fmg", "zero"))
    exact = unigrid.solve(f, rtol=1e-12).u
    assert fmg.iterations == zero.iterations == 1
    assert fmg.nested_start
    assert not zero.nested_start
    assert np.linalg.norm(fmg.u - exact) < np.linalg.norm(zero.u - exact)


def test_u0_replaces_the_start():
    f = rough((63, 63))
    near = unigrid.solve(f, rtol=1e-6).u
    solution = unigrid.solve(f, u0=near, rtol=1e-9)
    assert not solution.nested_start
    assert solution.residuals[0] <= 1e-6 * np.linalg.norm(f)
    assert solution.iterations <= 4
    zero = unigrid.solve(f, u0=np.zeros((63, 63)))
    assert zero.residuals == unigrid.solve(f, start="zero").residuals


@pack
@pytest.mark.parametrize("cycle", ["V", "W", "F"])
@pytest.mark.parametrize("smoother", ["red-black", "jacobi", "gauss-seidel", "chebyshev"])
@pytest.mark.parametrize(
    ("restriction", "prolongation"),
    [("full-weighting", "linear"), ("cell-average", "linear"), ("cell-average", "constant"), ("full-weighting", "cubic")],
)
def test_named_slots_solve(cycle, smoother, restriction, prolongation):
    f = rough((60, 44))
    solution = unigrid.solve(
        f, cycle=cycle, smoother=smoother, restriction=restriction, prolongation=prolongation, centering="cell", maxiter=100
    )
    expected = unigrid.solve(f, centering="cell", rtol=1e-11).u
    np.testing.assert_allclose(solution.u, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pack
@pytest.mark.parametrize(
    "shape", [(1,), (2,), (3,), (1, 1), (1, 7), (2, 2), (1, 1, 1), (1, 5, 1), (13, 1, 2), (1000,), (1, 1000), (97, 3)], ids=str
)
@pytest.mark.parametrize("centering", ["vertex", "cell"])
@pytest.mark.parametrize("accelerate", [None, "cg"])
def test_any_size_is_solved(shape, centering, accelerate):
    f = rough(shape) + 0.1
    solution = unigrid.solve(f, centering=centering, accelerate=accelerate)
    problem = unigrid.Poisson(shape, centering=centering)
    assert np.linalg.norm(f.ravel() - problem.matrix() @ solution.u.ravel()) <= 2e-8 * np.linalg.norm(f)


def test_scaling_by_a_power_of_two_scales_everything_exactly():
    f = rough((50, 47))
    one, other = unigrid.solve(f), unigrid.solve(f * 2.0**100)
    np.testing.assert_array_equal(other.u, one.u * 2.0**100)
    assert other.iterations == one.iterations


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_a_mirrored_problem_has_the_mirrored_solution(centering):
    f, side = rough((40, 31)), rough((31,))
    low = unigrid.solve(f, boundary=[(unigrid.Neumann(side), "dirichlet"), "periodic"], centering=centering, rtol=1e-11).u
    high = unigrid.solve(
        f[::-1], boundary=[("dirichlet", unigrid.Neumann(side)), "periodic"], centering=centering, rtol=1e-11
    ).u
    np.testing.assert_allclose(high[::-1], low, rtol=0, atol=1e-8 * np.abs(low).max())


def test_axes_may_be_exchanged():
    f = rough((40, 31, 3))
    boundary = ["dirichlet", ("neumann", "dirichlet"), "periodic"]
    plain = unigrid.solve(f, lengths=(1, 2, 3), boundary=boundary, rtol=1e-11).u
    turned = unigrid.solve(f.transpose(2, 0, 1), lengths=(3, 1, 2), boundary=[boundary[2], *boundary[:2]], rtol=1e-11).u
    np.testing.assert_allclose(turned.transpose(1, 2, 0), plain, rtol=0, atol=1e-8 * np.abs(plain).max())


def test_an_axis_along_which_nothing_changes_may_be_left_out():
    f = rough((45,))
    line = unigrid.solve(f, lengths=1.0, rtol=1e-12).u
    plane = unigrid.solve(np.tile(f[:, None], (1, 9)), lengths=(1.0, 0.2), boundary=["dirichlet", "neumann"], rtol=1e-12).u
    np.testing.assert_allclose(plane, np.tile(line[:, None], (1, 9)), rtol=0, atol=1e-9 * np.abs(line).max())


def test_a_cycle_that_solve_cannot_run_is_refused():
    class Other(unigrid.MultigridCycle):
        pass

    with pytest.raises(TypeError, match=r"cycle must be callable as cycle\(f, u\) -> u with arrays, which Other is not"):
        unigrid.solve(np.ones((5, 5)), cycle=Other())
