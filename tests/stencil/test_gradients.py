"""Flexible conjugate gradients for coefficients that vary: against the textbook, and where single precision is not enough."""

import gc
import weakref

import numpy as np
import pytest

import unigrid
from unigrid.stencil import coupled, galerkin, packed
from unigrid.stencil.kernels import workspace


def jumping(n, jump):
    x = (np.arange(n) + 0.5) / n
    inside = np.abs(x - 0.5) < 0.25
    return np.where(np.outer(inside, inside), jump, 1.0)


def textbook(cycle, b, count):
    """Return residual norms of flexible conjugate gradients in the symmetric form, in plain NumPy."""
    problem, operator = cycle.problem, cycle.problem.coupled_operator
    volumes = 1.0 if operator.volumes is None else operator.volumes
    A = problem.matrix()

    def image(v):
        return volumes * (A @ v.ravel()).reshape(v.shape)

    u, norms, p, q = np.zeros_like(b), [], None, None
    for _ in range(count):
        r = volumes * b - image(u)
        z = cycle.cycle(r[None])[0]
        p = z if p is None else z - (z * q).sum() / (p * q).sum() * p
        q = image(p)
        u = u + (p * r).sum() / (p * q).sum() * p
        norms.append(np.linalg.norm((volumes * b - image(u)) / volumes))
    return norms


@pytest.mark.parametrize("sides", ["dirichlet", ("neumann", "dirichlet")])
def test_residuals_are_those_of_the_textbook(sides, rng):
    a = np.exp(rng.standard_normal((40, 45)))
    problem = unigrid.Poisson((40, 45), boundary=[sides, sides], centering="vertex", coefficient=a, reaction=0.5)
    cycle, b = unigrid.GalerkinCycle(problem, steps=1), rng.standard_normal((40, 45))
    got = cycle.solve(b, rtol=1e-7, precision="full", start="zero").residuals[1:]
    assert np.allclose(got, textbook(cycle, b, len(got)), rtol=1e-3)


@pytest.mark.parametrize("case", ["dirichlet", "neumann", "periodic", "vertex sides"])
def test_single_precision_cycles_reach_the_tolerance_of_double(case, rng):
    n, sides = 96, {"vertex sides": ("neumann", "dirichlet")}.get(case, case)
    centering = "vertex" if case == "vertex sides" else "cell"
    problem = unigrid.Poisson((n, n), boundary=[sides, sides], centering=centering, coefficient=jumping(n, 100.0))
    cycle, f = unigrid.GalerkinCycle(problem), rng.standard_normal((n, n))
    f -= problem.mean(f) if problem.singular else 0.0
    full, mixed = (cycle.solve(f, rtol=1e-9, precision=precision) for precision in ("full", "mixed"))
    assert "mixed" in mixed.message
    assert "mixed" not in full.message
    assert mixed.iterations <= full.iterations + 1
    assert np.linalg.norm(f - problem.operator(mixed.u)) <= 1e-9 * np.linalg.norm(f)
    assert np.abs(mixed.u - full.u).max() <= 1e-5 * np.abs(full.u).max()


def checkered(n, jump):
    blocks = np.arange(n) // 8 % 2
    return np.where(blocks[:, None] ^ blocks[None, :], jump, 1.0)


def test_cycles_are_repeated_in_double_precision_where_rounding_would_cost_iterations(rng):
    f = rng.standard_normal((160, 160))
    for coefficient, more in ((checkered(160, 1e6), 0), (jumping(160, 1e6), 1), (jumping(160, 1e7), 0)):
        cycle = unigrid.GalerkinCycle(unigrid.Poisson((160, 160), centering="cell", coefficient=coefficient))
        full, mixed = (cycle.solve(f, rtol=1e-6, precision=each, start="zero") for each in ("full", "mixed"))
        assert mixed.iterations <= full.iterations + more
        assert np.linalg.norm(f - cycle.problem.operator(mixed.u)) <= 1e-6 * np.linalg.norm(f)


@pytest.mark.parametrize("size", [1e-120, 1e-30, 1e30, 1e120])
def test_the_size_of_the_source_does_not_matter(size, rng):
    f, a = rng.standard_normal((40, 40)), np.exp(rng.standard_normal((40, 40)))
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((40, 40), coefficient=a))
    scaled, plain = cycle.solve(size * f, rtol=1e-8, atol=0.0), cycle.solve(f, rtol=1e-8)
    assert scaled.iterations == plain.iterations
    assert np.allclose(scaled.u / size, plain.u, rtol=1e-6)


@pytest.mark.parametrize("precision", ["full", "mixed"])
def test_a_start_is_improved_and_left_as_it_is(precision, rng):
    f, a = rng.standard_normal((50, 50)), np.exp(rng.standard_normal((50, 50)))
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((50, 50), coefficient=a))
    exact = cycle.solve(f, rtol=1e-11, precision="full").u
    start = exact + 1e-3 * rng.standard_normal(f.shape)
    kept = start.copy()
    seen = []
    solution = cycle.solve(f, u0=start, rtol=1e-9, precision=precision, callback=lambda so_far: seen.append(so_far.u))
    assert np.array_equal(start, kept)
    assert np.allclose(solution.u, exact, atol=1e-7 * np.abs(exact).max())
    residuals = [np.linalg.norm(f - cycle.problem.operator(u)) for u in seen]
    assert np.allclose(residuals, solution.residuals[1:], rtol=1e-2)  # every iterate is kept as it was


def test_large_grids_take_single_precision_by_themselves(monkeypatch, rng):
    monkeypatch.setattr(galerkin, "SINGLE_FROM", 100)
    f = rng.standard_normal((20, 20))
    assert "mixed" in unigrid.solve(f, coefficient=np.exp(rng.standard_normal((20, 20)))).message
    assert "mixed" not in unigrid.solve(f, coefficient=np.exp(rng.standard_normal((20, 20))), precision="full").message
    assert "mixed" not in unigrid.solve(f.astype(np.float32), coefficient=np.exp(rng.standard_normal((20, 20)))).message


def test_single_precision_is_given_up_where_rounding_spoils_an_iteration():
    """Channels of 1e6 without Dirichlet sides, 150^2: single precision alone stagnates at 3.5e-5."""
    rows = np.arange(150)
    shift = np.rint(4 * np.sin(2 * np.pi * rows / 150)).astype(int)
    channels = np.where((rows[:, None] - shift[None, :]) % 16 < 2, 1e6, 1.0)
    problem = unigrid.Poisson((150, 150), boundary="periodic", centering="cell", coefficient=channels)
    f = problem.compatible(np.random.default_rng(1).standard_normal((150, 150)))
    cycle = unigrid.GalerkinCycle(problem)
    full, mixed = (cycle.solve(f, rtol=1e-8, precision=each).iterations for each in ("full", "mixed"))
    assert mixed <= full + 4


def test_a_start_that_single_precision_spoils_is_followed_by_cycles_in_double(monkeypatch, rng):
    """In single precision some would stagnate: shifted squares of 1e6 at 1023^2, staircases at 150^2, Neumann sides."""
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((130, 130), coefficient=jumping(130, 10.0)))
    nested, cycles = [], []
    start, correction = galerkin.GalerkinCycle._nested, galerkin.GalerkinCycle._correction

    def spoilt(self, b):
        nested.append(b.dtype.name)
        return np.zeros_like(b) if b.dtype == np.float32 else start(self, b)

    monkeypatch.setattr(galerkin.GalerkinCycle, "_nested", spoilt)
    monkeypatch.setattr(
        galerkin.GalerkinCycle, "_correction", lambda self, b: cycles.append(b.dtype.name) or correction(self, b)
    )
    assert cycle.solve(rng.standard_normal((130, 130))).converged
    assert nested == ["float32", "float64"]
    assert set(cycles) == {"float64"}


def test_a_start_of_which_rounding_leaves_the_most_is_followed_by_cycles_in_double(rng):
    """A tenth of the residual and more: 12 iterations, not 8."""
    blocks = np.arange(255) // 8 % 2
    a = np.where(blocks[:, None] ^ blocks[None, :], 1e6, 1.0)
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((255, 255), boundary="neumann", centering="cell", coefficient=a))
    f = cycle.problem.compatible(np.random.default_rng(1).standard_normal((255, 255)))
    full, mixed = (cycle.solve(f, rtol=1e-8, precision=each) for each in ("full", "auto"))
    assert mixed.iterations == full.iterations
    assert mixed.residuals[1] < 1.1 * full.residuals[1]


@pytest.mark.parametrize("size", [1e-120, 1e120])
def test_a_start_in_single_precision_takes_sources_of_any_size(monkeypatch, size, rng):
    nested, start = [], galerkin.GalerkinCycle._nested
    monkeypatch.setattr(galerkin.GalerkinCycle, "_nested", lambda self, b: nested.append(b.dtype.name) or start(self, b))
    assert unigrid.solve(size * rng.standard_normal((130, 130)), coefficient=jumping(130, 10.0)).converged
    assert nested == ["float32"]


def test_full_multigrid_makes_no_copy_of_transfers_that_cycles_do_without(rng):
    cycle = unigrid.GalerkinCycle(unigrid.Poisson((130, 130), coefficient=jumping(130, 10.0)))
    assert "mixed" in cycle.solve(rng.standard_normal((130, 130))).message
    fused = [level for level in cycle.levels[:-1] if level.fused is not None]
    assert fused
    assert all(list(level.transfers._made) == [np.dtype(np.float64)] for level in fused)


def test_a_solve_leaves_no_arrays_to_the_garbage_collector(rng, monkeypatch):
    made = []
    monkeypatch.setattr(
        coupled, "symmetric_stencil", lambda *parts, own=coupled.symmetric_stencil: made.append(own(*parts)) or made[-1]
    )
    gc.collect()
    gc.disable()
    try:
        unigrid.solve(rng.standard_normal((40, 40)), coefficient=jumping(40, 10.0))
        finest = weakref.ref(made.pop().couplings)
        assert finest() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("case", ["dirichlet", "reaction", "vertex sides"])
def test_one_solve_equals_that_of_a_kept_cycle(case, rng):
    """Levels that are packed for one solve, with cycles in double precision where the jump is large."""
    n, options = 140, {"dirichlet": {}, "reaction": {"reaction": 3.0}}.get(case, {"boundary": [("neumann", "dirichlet")] * 2})
    for jump in (10.0, 1e7):
        a, f = jumping(n, jump), rng.standard_normal((n, n))
        problem = unigrid.Poisson((n, n), coefficient=a, **options)
        once, kept = unigrid.solve(f, coefficient=a, rtol=1e-7, **options), unigrid.GalerkinCycle(problem).solve(f, rtol=1e-7)
        assert once.iterations <= kept.iterations + 1
        assert np.linalg.norm(f.ravel() - problem.matrix() @ once.u.ravel()) <= 1e-7 * np.linalg.norm(f)


def test_packed_levels_serve_both_precisions(rng):
    """Their coefficients are in single precision: in double precision, the cycle is that of a problem beside this one."""
    a = jumping(140, 1e3)
    problems = [unigrid.Poisson((140, 140), coefficient=a, reaction=2.0) for _ in range(2)]
    cycle, r = packed.cycle_for_one_solve(problems[0], cycle="auto", smoother="auto"), rng.standard_normal((140, 140))
    kept, single = unigrid.GalerkinCycle(problems[1]), r.astype(np.float32)
    assert np.array_equal(cycle._correction(single), kept._correction(single))
    wanted = kept._correction(r)
    assert cycle._correction(r).dtype == np.float64
    assert np.abs(cycle._correction(r) - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_coefficients_in_single_precision_leave_the_accuracy_of_double_precision(rng):
    """An inclusion of 1e6, in which u is as good as constant: cycles in single precision leave the whole right-hand side."""
    n = 200
    x = np.abs((np.arange(n) + 0.5) / n - 0.5) < 0.25
    a, f = np.where(np.outer(x, x), 1e6, 1.0), rng.standard_normal((n, n))
    problem = unigrid.Poisson((n, n), centering="cell", coefficient=a)
    solution = unigrid.solve(f, centering="cell", coefficient=a, rtol=1e-8)
    assert solution.iterations <= 5
    assert "mixed" not in solution.message
    assert np.linalg.norm(f.ravel() - problem.matrix() @ solution.u.ravel()) <= 1e-8 * np.linalg.norm(f)


def test_packed_levels_begin_with_the_same_full_multigrid(rng):
    a, f = jumping(140, 10.0), rng.standard_normal((140, 140)).astype(np.float32)
    problems = [unigrid.Poisson((140, 140), coefficient=a) for _ in range(2)]
    once, kept = packed.cycle_for_one_solve(problems[0], cycle="auto", smoother="auto"), unigrid.GalerkinCycle(problems[1])
    wanted = kept.nested(f)
    assert np.abs(once.nested(f) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_one_solve_holds_few_grid_arrays(rng):
    a, f = np.exp(rng.standard_normal((200, 200))), rng.standard_normal((200, 200))
    unigrid.clear_cache()
    unigrid.solve(f, coefficient=a)
    assert workspace.pool.kept_bytes <= 17 * f.nbytes
