"""Where the time goes: every leg of every level is counted, and all of the time is accounted for."""

import numpy as np
import pytest

import unigrid
from unigrid.stencil.profile import profile_visits


def source(shape):
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("options", [{}, {"start": "zero"}, {"precision": "mixed"}, {"rtol": 1e-12}], ids=str)
def test_calls_are_those_of_the_cycles(options):
    cycle = unigrid.StencilCycle(unigrid.Poisson((127, 127)))
    profile = cycle.profile(source((127, 127)), **options)
    solved = cycle.solve(source((127, 127)), **options)
    assert profile.solution.iterations == solved.iterations
    np.testing.assert_allclose(profile.solution.u, solved.u, rtol=0.0, atol=1e-12 * np.abs(solved.u).max())
    finest, *coarser = profile.levels
    # Each cycle goes down once and up once on the finest level; a turn is one of both.
    calls = finest.calls
    assert "turn" in calls  # it is the flow that is watched, as it is
    assert calls["down"] + calls.get("turn", 0) == solved.iterations
    assert calls["up"] + calls.get("turn", 0) == solved.iterations
    for number, level in enumerate(coarser, start=1):
        extra = number if options.get("start") != "zero" else 0  # full multigrid begins a cycle on every level
        assert level.calls["down"] == solved.iterations + extra


@pytest.mark.parametrize("options", [{"rtol": "discretization"}, {"accelerate": "cg"}], ids=str)
def test_the_cycle_that_is_watched_is_the_one_that_solves(options):
    cycle, f = unigrid.StencilCycle(unigrid.Poisson((127, 127))), source((127, 127))
    profile, solved = cycle.profile(f, **options), cycle.solve(f, **options)
    assert profile.solution.iterations == solved.iterations
    np.testing.assert_allclose(profile.solution.u, solved.u, rtol=0.0, atol=1e-12 * np.abs(solved.u).max())
    for level in profile.levels[1:-1]:
        assert level.calls["down"] == level.calls["up"] > 0


@pytest.mark.parametrize("smoother", ["red-black", "jacobi"])
def test_all_of_the_time_is_accounted_for(smoother):
    cycle = unigrid.StencilCycle(unigrid.Poisson((255, 255)), smoother=smoother)
    profiles = [cycle.profile(source((255, 255))) for _ in range(5)]
    parts = [min(totals) for totals in zip(*([level.total for level in each.levels] for each in profiles), strict=True)]
    assert all(part > 0 for part in parts)
    assert parts[0] == max(parts)
    profile = profiles[0]
    parts = [level.total for level in profile.levels]
    assert sum(parts) + profile.elsewhere == pytest.approx(profile.seconds)
    assert 0 <= profile.elsewhere < profile.seconds


def test_a_profile_is_printed_as_a_table():
    text = str(unigrid.StencilCycle(unigrid.Poisson((63, 40))).profile(source((63, 40))))
    rows = text.splitlines()
    assert "ms" in rows[0]
    assert "63 x 40" in rows[2]
    assert rows[-1].strip().startswith("elsewhere")
    shares = [float(row.rsplit(None, 1)[-1].rstrip("%")) for row in rows[2:]]
    assert sum(shares) == pytest.approx(100.0, abs=1.0)


def test_the_cycle_is_left_as_it_was():
    cycle, f = unigrid.StencilCycle(unigrid.Poisson((63, 63))), source((63, 63))
    before = cycle.solve(f)
    fused = [level.fused for level in cycle.levels]
    cycle.profile(f)
    assert all(level.fused is then for level, then in zip(cycle.levels, fused, strict=True))
    assert "descend" not in vars(cycle.levels[0])
    np.testing.assert_array_equal(cycle.solve(f).u, before.u)


def test_a_wrong_option_is_refused():
    with pytest.raises(TypeError, match="rtoll"):
        unigrid.StencilCycle(unigrid.Poisson((9, 9))).profile(np.ones((9, 9)), rtoll=1.0)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("kind", ["V", "W"])
def test_visits_of_black_box_multigrid_are_those_of_its_cycles(kind, masked):
    shape = (63, 60)
    x, y = np.ogrid[-1:1:63j, -1:1:60j]
    mask = {"mask": x**2 + y**2 < 0.5} if masked else {}
    cycle = unigrid.GalerkinCycle(unigrid.Poisson(shape, coefficient=np.exp(x + y), **mask), cycle=kind)
    profile = profile_visits(cycle, source(shape), start="zero", precision="full")
    solved = cycle.solve(source(shape), start="zero", precision="full")
    assert profile.solution.residuals == solved.residuals
    assert [level.calls["visit"] for level in profile.levels] == [solved.iterations * visits for visits in cycle.visits()]
    assert sum(level.total for level in profile.levels) + profile.elsewhere == pytest.approx(profile.seconds)
    assert all(level.total > 0 for level in profile.levels)
    assert profile.elsewhere > 0
    assert "visit ms" in str(profile)
