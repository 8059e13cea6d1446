"""The cycle by itself, with slots of floats and fractions, and filled with stencils: FAS, visits, legs."""

import ast
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiers import pack

import unigrid
from unigrid import cycle as cycle_module
from unigrid.stencil.transfers import CellAverage, FullWeighting, Injection

pytestmark = pytest.mark.usefixtures("deep")
MIXES = [
    ((63,), "dirichlet", "vertex"),
    ((100,), [("dirichlet", "neumann")], "cell"),
    ((31, 40), ["dirichlet", ("neumann", "dirichlet")], "vertex"),
    ((45, 33), ["periodic", "dirichlet"], "cell"),
    ((33, 27), ["neumann", "periodic"], "vertex"),
    ((12, 15, 11), ["dirichlet", "periodic", "neumann"], "vertex"),
    ((13, 10, 14), "dirichlet", "cell"),
]
EVERY_MIX = pytest.mark.parametrize(("shape", "boundary", "centering"), MIXES, ids=str)
EVERY_SMOOTHER = pytest.mark.parametrize(
    "smoother",
    [
        unigrid.RedBlack(),
        unigrid.RedBlack(1.0, "black"),
        unigrid.Jacobi(),
        unigrid.GaussSeidel(),
        unigrid.Chebyshev(),
        unigrid.Chebyshev(1),
    ],
    ids=repr,
)


# The full approximation scheme.


@pack
@pytest.mark.parametrize("kind", ["V", "W", "F"])
@pytest.mark.parametrize("transfer", [Injection(), FullWeighting(), CellAverage()], ids=repr)
@EVERY_MIX
def test_fas_gives_the_iterates_of_the_correction_scheme(shape, boundary, centering, transfer, kind, rng):
    problem = unigrid.Poisson(shape, boundary=boundary, centering=centering, reaction=0.5)
    correction = unigrid.StencilCycle(problem, cycle=kind)
    full = unigrid.StencilCycle(problem, cycle=kind, state_transfer=transfer)
    assert len(full.levels) >= 2
    assert all(level.state_transfer is not None for level in full.levels[:-1])
    b, u = rng.standard_normal((2, *shape))
    v, largest = u, np.abs(u).max()
    for _ in range(4):
        u, v = correction(b, u), full(b, v)
        assert np.abs(u - v).max() <= 1e-13 * max(largest, np.abs(u).max())


@pytest.mark.parametrize("name", ["injection", "full-weighting", "cell-average"])
def test_a_state_transfer_may_be_named(name, rng):
    problem = unigrid.Poisson((40, 40))
    b = rng.standard_normal((40, 40))
    np.testing.assert_allclose(
        unigrid.StencilCycle(problem, state_transfer=name)(b), unigrid.StencilCycle(problem)(b), rtol=0, atol=1e-13
    )


def test_fas_with_a_transfer_that_is_no_interpolation_at_all(rng):
    """Pi may be anything: with a linear A its choice cancels."""

    class Scaled(unigrid.StateTransfer):
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, u):
            return -3.0 * self.inner(u)

    problem = unigrid.Poisson((40, 40))
    full, correction = unigrid.StencilCycle(problem, state_transfer="injection"), unigrid.StencilCycle(problem)
    for number, level in enumerate(full.levels[:-1]):
        full = full.replaced(level=number, state_transfer=Scaled(level.state_transfer))
    b, u = rng.standard_normal((2, 40, 40))
    np.testing.assert_allclose(full(b, u), correction(b, u), rtol=0, atol=1e-12)


# Nothing that is given is changed.


@pack
@pytest.mark.parametrize("kind", ["V", "W", "F"])
@pytest.mark.parametrize("state_transfer", [None, "injection"])
@pytest.mark.parametrize(("pre", "post"), [(2, 2), (0, 1), (1, 0)])
@EVERY_SMOOTHER
def test_a_cycle_leaves_b_and_u_as_they_are(smoother, kind, state_transfer, pre, post, rng):
    cycle = unigrid.StencilCycle(
        unigrid.Poisson((30, 33), boundary=["dirichlet", "periodic"]),
        smoother=smoother, cycle=kind, state_transfer=state_transfer, pre=pre, post=post,
    )  # fmt: skip
    b, u = rng.standard_normal((2, 30, 33))
    b_before, u_before = b.copy(), u.copy()
    b.flags.writeable = u.flags.writeable = False
    first = cycle(b, u)
    np.testing.assert_array_equal(b, b_before)
    np.testing.assert_array_equal(u, u_before)
    assert not np.shares_memory(first, u)
    assert not np.shares_memory(first, b)
    np.testing.assert_array_equal(cycle(b, u), first)
    np.testing.assert_array_equal(cycle(b), cycle(b, None))


@pack
@pytest.mark.parametrize("state_transfer", [None, "full-weighting"])
@EVERY_SMOOTHER
@EVERY_MIX
def test_no_leg_changes_what_it_is_given(shape, boundary, centering, smoother, state_transfer, rng):
    problem = unigrid.Poisson(shape, boundary=boundary, centering=centering)
    cycle = unigrid.StencilCycle(problem, smoother=smoother, state_transfer=state_transfer)
    for level, coarser in zip(cycle.levels, [*cycle.levels[1:], None], strict=True):
        f, u = rng.standard_normal((2, *level.problem.shape))
        f.flags.writeable = u.flags.writeable = False  # an attempt to write would raise, or be lost in a copy
        f_before, u_before = f.copy(), u.copy()
        smoothed, coarse_f, start = level.descend(f, u, coarser)
        if coarser is not None:
            coarse = rng.standard_normal(coarse_f.shape)
            kept = coarse.copy(), coarse_f.copy(), None if start is None else start.copy()
            level.ascend(f, smoothed.copy(), start, coarse)
            np.testing.assert_array_equal(coarse, kept[0])
            np.testing.assert_array_equal(coarse_f, kept[1])
            assert start is None or np.array_equal(start, kept[2])
        np.testing.assert_array_equal(f, f_before)
        np.testing.assert_array_equal(u, u_before)


# How levels are visited.


@pytest.mark.parametrize(
    ("kind", "expected"), [("V", [1, 1, 1, 1, 1]), ("W", [1, 2, 4, 8, 16]), ("F", [1, 2, 3, 4, 5])], ids=["V", "W", "F"]
)
def test_visits_of_each_level(kind, expected):
    counts = [0] * 5

    class Counting(unigrid.Level):
        def __init__(self, number):
            self.number = number

        def descend(self, f, u, coarser):
            counts[self.number] += 1
            return 0.0, 0.0, None

        def ascend(self, f, u, start, coarse):
            return 0.0

    class Cycle(unigrid.MultigridCycle):
        levels = [Counting(number) for number in range(5)]  # noqa: RUF012

    cycle = Cycle()
    cycle.kind = kind
    cycle.cycle(0.0)
    assert counts == expected == cycle.visits()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("V", "0 1 2 3"), ("W", "0 1 2 3 3 2 3 3 1 2 3 3 2 3 3"), ("F", "0 1 2 3 3 2 3 1 2 3")],  # F: an F, then a V
    ids=["V", "W", "F"],
)
def test_the_order_of_visits(kind, expected):
    order = []

    class Told(unigrid.Level):
        def __init__(self, number):
            self.number = number

        def descend(self, f, u, coarser):
            order.append(self.number)
            return 0.0, 0.0, None

        def ascend(self, f, u, start, coarse):
            return 0.0

    cycle = unigrid.MultigridCycle()
    cycle.kind, cycle.levels = kind, [Told(number) for number in range(4)]
    cycle.cycle(0.0)
    assert order == [int(number) for number in expected.split()]


# Any slots with + and -.


class Times(unigrid.Operator):
    def __init__(self, a):
        self.a = a

    def __call__(self, u):
        return self.a * u


class Richardson(unigrid.Smoother):
    def __init__(self, gain):
        self.gain = gain

    def __call__(self, operator, f, u):
        return self.gain * operator.residual(f, u) + (0 if u is None else u)


class Same(unigrid.Restriction, unigrid.Prolongation, unigrid.StateTransfer):
    def __call__(self, value):
        return value


class Slots(unigrid.SlotLevel):
    def __init__(self, operator, smoother, restriction=None, state_transfer=None, prolongation=None, post_smoother=None):
        self.operator, self.smoother, self.restriction = operator, smoother, restriction
        self.state_transfer, self.prolongation, self.post_smoother = state_transfer, prolongation, post_smoother


def two_levels(number, state_transfer=None, post=True, prolongation=True):
    cycle = unigrid.MultigridCycle()
    cycle.kind, same = "V", Same()
    smoother = Richardson(number(1) / 8)
    cycle.levels = [
        Slots(Times(number(4)), smoother, same, state_transfer, same if prolongation else None, smoother if post else None),
        Slots(Times(number(5)), Richardson(number(1) / 5)),
    ]
    return cycle


@pytest.mark.parametrize("number", [float, Fraction])
@pytest.mark.parametrize("state_transfer", [None, Same()])
@pytest.mark.parametrize("u", [None, 3])
def test_a_cycle_of_plain_numbers_is_the_two_level_formula(number, state_transfer, u):
    f, start = number(12), None if u is None else number(u)
    expected = start or number(0)
    expected += (f - 4 * expected) / 8  # smoothing
    expected += (f - 4 * expected) / 5  # the coarse correction, exact for A' = 5
    assert two_levels(number, state_transfer, post=False).cycle(f, start) == expected
    expected += (f - 4 * expected) / 8
    result = two_levels(number, state_transfer).cycle(f, start)
    assert result == expected
    assert isinstance(result, number)


def test_fas_with_fractions_is_exactly_the_correction_scheme():
    f, u = Fraction(7, 3), Fraction(5, 11)
    assert two_levels(Fraction, Same()).cycle(f, u) == two_levels(Fraction).cycle(f, u)


def test_where_nothing_ascends_the_coarsest_state_is_the_result():
    u = Fraction(3) + (Fraction(12) - 12) / 8
    coarse = (Fraction(12) - 4 * u) + 5 * u  # f' = R r + A' Pi u
    assert two_levels(Fraction, Same(), prolongation=False).cycle(Fraction(12), Fraction(3)) == u + (coarse - 5 * u) / 5


def test_without_a_smoother_the_zero_state_is_never_touched():
    cycle = two_levels(Fraction)
    cycle.levels[0].smoother = None
    cycle.levels[0].post_smoother = None
    assert cycle.cycle(Fraction(10)) == 2


def test_a_nonlinear_problem_needs_a_state_transfer_and_gets_one():
    class Cubic(unigrid.Operator):
        def __call__(self, u):
            return u + u * u * u

    class Newton(unigrid.Smoother):
        def __call__(self, operator, f, u):
            for _ in range(60):
                u = u + operator.residual(f, u) / (1 + 3 * u * u)
            return u

    cycle = unigrid.MultigridCycle()
    cycle.kind = "V"
    cycle.levels = [Slots(Cubic(), Richardson(0.05), Same(), Same(), Same()), Slots(Cubic(), Newton())]
    u = cycle.cycle(10.0, 1.0)
    assert u + u**3 == pytest.approx(10.0, rel=1e-12)


# Steps.


class Counted(unigrid.Smoother):
    def __init__(self, paired=True):
        self.calls, self.paired = [], paired

    def __call__(self, operator, f, u):
        self.calls.append(("call", u))
        return (u or 0) + 1

    def overwrite(self, operator, f, u):
        self.calls.append(("overwrite", u))
        return u + 1

    def adjoint(self):
        return Richardson(1) if self.paired else None


def test_steps_start_with_a_call_and_go_on_by_overwriting():
    smoother = Counted()
    assert unigrid.Steps(smoother, 3)(None, 0, None) == 3
    assert smoother.calls == [("call", None), ("overwrite", 1), ("overwrite", 2)]
    smoother.calls.clear()
    assert unigrid.Steps(smoother, 2).overwrite(None, 0, 5) == 7
    assert smoother.calls == [("overwrite", 5), ("overwrite", 6)]


def test_steps_are_adjoint_step_by_step():
    adjoint = unigrid.Steps(Counted(), 4).adjoint()
    assert isinstance(adjoint.step, Richardson)
    assert adjoint.count == 4
    assert unigrid.Steps(Counted(paired=False), 4).adjoint() is None
    assert Richardson(1).adjoint() is None


@pack
@pytest.mark.parametrize("count", [1, 2, 3])
@EVERY_SMOOTHER
def test_steps_equal_repeated_calls(smoother, count, rng):
    operator = unigrid.Poisson((20, 17), boundary=["neumann", "periodic"], reaction=1.0).operator
    f, u = rng.standard_normal((2, 20, 17))
    for start in (u, None):
        expected = start
        for _ in range(count):
            expected = smoother(operator, f, expected)
        np.testing.assert_array_equal(unigrid.Steps(smoother, count)(operator, f, start), expected)
    np.testing.assert_array_equal(
        unigrid.Steps(smoother, count).overwrite(operator, f, u.copy()), unigrid.Steps(smoother, count)(operator, f, u)
    )


# Nested iteration.


def test_nested_iteration_needs_levels_that_know_it():
    with pytest.raises(TypeError, match="level 0 is a Slots"):
        two_levels(float).nested(1.0)


def test_nested_iteration_solves_coarse_first_and_folds_each_levels_own_values():
    order = []

    class Told(unigrid.cycle.NestedLevel):
        def __init__(self, name):
            self.name = name

        def right_hand_side(self, f):
            return f + 1000

        def nested_restriction(self, f):
            return f + 1

        def nested_prolongation(self, u):
            order.append(f"to {self.name}")
            return u

        def descend(self, f, u, coarser):
            order.append((self.name, f, u))
            return 5, 0, None

        def ascend(self, f, u, start, coarse):
            return 7

    cycle = unigrid.MultigridCycle()
    cycle.kind, cycle.levels = "V", [Told("fine"), Told("middle"), Told("coarse")]
    assert cycle.nested(10) == 7
    assert order == [
        ("coarse", 1012, None), "to middle", ("middle", 1011, 5), ("coarse", 0, None),
        "to fine", ("fine", 1010, 7), ("middle", 0, None), ("coarse", 0, None),
    ]  # fmt: skip


# Sweeps before and after.


def factor(problem, **options):
    """The mean factor of 10 cycles on f = 0."""
    cycle = unigrid.StencilCycle(problem, **options)
    u = np.random.default_rng(3).standard_normal(problem.shape)
    b, first = np.zeros(problem.shape), problem.operator.residual_norm(np.zeros(problem.shape), u)
    for _ in range(10):
        u = cycle(b, u)
    return (problem.operator.residual_norm(b, u) / first) ** 0.1


@pytest.mark.parametrize(("pre", "post"), [(2, 0), (0, 2), (4, 0), (0, 4), (1, 0)])
def test_backslash_and_slash_cycles_converge(pre, post):
    assert factor(unigrid.Poisson((63, 63)), pre=pre, post=post, smoother=unigrid.RedBlack(1.0)) < 0.4


def test_the_backslash_cycle_still_prolongs(rng):
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 40)), pre=1, post=0)
    b = rng.standard_normal((40, 40))
    smoothed = cycle.levels[0].smoother(cycle.levels[0].operator, b, None)
    assert np.abs(cycle(b) - smoothed).max() > 0.1 * np.abs(smoothed).max()
    assert cycle.levels[0].post_smoother is None


def test_more_sweeps_make_a_smaller_factor():
    problem = unigrid.Poisson((63, 63))
    factors = [factor(problem, pre=nu, post=nu, smoother=unigrid.RedBlack(1.0)) for nu in (1, 2, 3)]
    assert factors[0] > factors[1] > factors[2]


# Slots of the user's own, in ten lines each.


class WeightedJacobi(unigrid.Smoother):
    def __init__(self, omega):
        self.omega = omega

    def __call__(self, operator, f, u):
        u = np.zeros_like(f) if u is None else u
        return u + self.omega / operator.diagonal() * operator.residual(f, u)


class EverySecond(unigrid.Restriction):
    """Nested vertices, full weighting by slices."""

    def __call__(self, residual):
        for axis in range(residual.ndim):
            r = np.moveaxis(residual, axis, 0)
            residual = np.moveaxis(0.25 * r[:-2:2] + 0.5 * r[1:-1:2] + 0.25 * r[2::2], 0, axis)
        return residual


class Between(unigrid.Prolongation):
    """Nested vertices, linear interpolation by slices."""

    def __call__(self, correction):
        for axis in range(correction.ndim):
            e = np.pad(np.moveaxis(correction, axis, 0), [(1, 1)] + [(0, 0)] * (correction.ndim - 1))
            fine = np.empty((2 * len(e) - 3, *e.shape[1:]))
            fine[1::2], fine[::2] = e[1:-1], 0.5 * (e[:-1] + e[1:])
            correction = np.moveaxis(fine, 0, axis)
        return correction


@pytest.mark.parametrize("shape", [(127,), (63, 31), (15, 15, 31)], ids=str)
@pytest.mark.parametrize("pre", [0, 1, 2])
def test_slots_of_the_users_own_equal_the_built_in_ones(shape, pre, rng):
    problem = unigrid.Poisson(shape, spacing=0.1)
    own = unigrid.StencilCycle(
        problem, smoother=WeightedJacobi(0.8), restriction=EverySecond(), prolongation=Between(), pre=pre, post=2
    )
    built_in = unigrid.StencilCycle(problem, smoother=unigrid.Jacobi(0.8), pre=pre, post=2)
    assert len(own.levels) >= 3
    b, u = rng.standard_normal((2, *shape))
    for start in (u, None):
        expected = built_in(b, start)
        np.testing.assert_allclose(own(b, start), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    assert own.solve(b).converged


@pytest.mark.parametrize("slot", ["smoother", "restriction", "prolongation"])
def test_a_slot_of_the_users_own_goes_into_solve(slot, rng):
    slots = {"smoother": WeightedJacobi(0.8), "restriction": EverySecond(), "prolongation": Between()}
    assert unigrid.solve(rng.standard_normal((63, 63)), **{slot: slots[slot]}).converged


@pytest.mark.parametrize("pre", [0, 2])
@pytest.mark.parametrize("built_in", ["red-black", "gauss-seidel", "chebyshev"])
def test_arrays_of_any_memory_layout_from_the_users_own_slots_are_taken(built_in, pre, rng):
    class Fortran(unigrid.Prolongation):
        def __call__(self, correction):
            return np.asfortranarray(Between()(correction))

    problem = unigrid.Poisson((63, 63))
    plain = unigrid.StencilCycle(problem, smoother=built_in, pre=pre)
    turned = unigrid.StencilCycle(problem, smoother=built_in, pre=pre, prolongation=Fortran())
    b = rng.standard_normal((63, 63))
    np.testing.assert_allclose(turned(b), plain(b), rtol=0, atol=1e-13)


def test_a_smoother_may_return_any_memory_layout(rng):
    class Fortran(unigrid.Smoother):
        def __call__(self, operator, f, u):
            return np.asfortranarray(WeightedJacobi(0.8)(operator, f, u))

    problem = unigrid.Poisson((40, 40))
    b = rng.standard_normal((40, 40))
    expected = unigrid.StencilCycle(problem, smoother=WeightedJacobi(0.8))(b)
    np.testing.assert_allclose(unigrid.StencilCycle(problem, smoother=Fortran())(b), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["red-black", "gauss-seidel", "jacobi", "chebyshev"])
def test_overwrite_relaxes_arrays_of_any_memory_layout(name, rng):
    operator = unigrid.Poisson((12, 13)).operator
    smoother = unigrid.StencilCycle(unigrid.Poisson((12, 13)), smoother=name).smoother
    f, u = rng.standard_normal((2, 12, 13))
    expected = smoother(operator, f, u)
    np.testing.assert_array_equal(smoother.overwrite(operator, f, np.asfortranarray(u)), expected)


# What cycle.py may know.


def test_cycle_imports_only_the_standard_library():
    tree = ast.parse(Path(cycle_module.__file__).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "cycle.py imports nothing of unigrid"
            imported.add(node.module.split(".")[0])
    assert imported <= set(sys.stdlib_module_names)


def test_slot_level_declares_its_slots_and_stores_none():
    slots = ["smoother", "restriction", "state_transfer", "prolongation", "post_smoother"]
    assert not any(name in vars(unigrid.SlotLevel) for name in slots)
    assert set(slots) <= set(unigrid.SlotLevel.__annotations__)
