"""One grid on several processes: the iterates of one process, whatever their number. Here they are threads of this one."""

import numpy as np
import pytest
from processes.comparison import blocks, drawn_sides
from processes.threads import Group

import unigrid
from unigrid.domains.levels import DomainLevel

EPS = np.finfo(np.float64).eps


def alone(problem, f, slots=None, **options):
    return unigrid.StencilCycle(problem, **(slots or {})).solve(f, precision="full", **options)


def drawn(seed):
    """Return a problem of any kind, a source, slots, and how many processes."""
    rng = np.random.default_rng(seed)
    size, ndim = int(rng.choice([1, 2, 3, 4, 6, 8])), int(rng.choice([1, 2, 2, 2, 3, 3]))
    rows = int(rng.integers(16 * size, 20 * size + 60)) if ndim > 1 else int(rng.integers(5200, 6000))
    others = [(), rng.integers(max(9, 5200 // rows), max(20, 5200 // rows + 40), 1), rng.integers(17, 24, 2)][ndim - 1]
    centering = ["vertex", "cell"][rng.integers(2)]

    boundary = drawn_sides(rng, ndim)
    shape = tuple(int(n + n % 2 * (side == "periodic")) for n, side in zip((rows, *others), boundary, strict=True))
    spacing = [float(h) for h in rng.uniform(0.5, 1.0, ndim) * 10.0 ** rng.integers(-1, 1)]
    reaction = float(rng.choice([0.0, 0.0, 2.0]))
    problem = unigrid.Poisson(shape, boundary=boundary, centering=centering, spacing=spacing, reaction=reaction)
    f = rng.standard_normal(shape)
    slots = {"cycle": "VWF"[rng.integers(3)]}
    if rng.random() < 0.2:
        slots |= {"smoother": ["jacobi", "chebyshev", "red-black"][rng.integers(3)], "restriction": "cell-average"}
    return problem, f, slots, size


def assert_the_same(seed):
    problem, f, slots, size = drawn(seed)
    options = {"compatibility": "project", "start": ["fmg", "zero"][seed % 2]}
    u, solution = blocks(problem, f, size, slots, **options)
    own = alone(problem, f, slots, **options)
    assert solution.iterations == own.iterations
    assert solution.reason == own.reason
    # Sums of means differ in their last bits, which the condition of 5,000 unknowns in a row, 1e7, makes larger.
    assert np.abs(u - own.u).max() <= (1e-12 if f.ndim > 1 else 1e-10) * np.abs(own.u).max()
    noise = 1e3 * EPS * problem.operator.norm_bound * np.linalg.norm(own.u)
    assert np.allclose(solution.residuals, own.residuals, rtol=1e-9, atol=noise)


@pytest.mark.parametrize("seed", range(6))
def test_the_iterates_are_those_of_one_process(seed):
    assert_the_same(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 220, 10))
def test_the_iterates_are_those_of_one_process_for_any_problem(first):
    for seed in range(first, first + 10):
        assert_the_same(seed)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_do_not_depend_on_the_number_of_processes(dtype):
    problem = unigrid.Poisson((200, 62), boundary=[(unigrid.Dirichlet(1.0), "neumann"), "periodic"], centering="cell")
    f = np.random.default_rng(0).standard_normal(problem.shape).astype(dtype)
    found = [blocks(problem, f, size)[0] for size in (1, 2, 3, 5)]
    assert found[0].dtype == dtype
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert np.array_equal(found[0], alone(problem, f).u)


def test_one_pass_of_full_multigrid():
    problem = unigrid.Poisson((90, 70))
    f = np.random.default_rng(0).standard_normal(problem.shape)
    u, solution = blocks(problem, f, 3, rtol="discretization", raise_on_failure=False)
    own = alone(problem, f, rtol="discretization", raise_on_failure=False)
    assert np.array_equal(u, own.u)
    assert (solution.iterations, solution.reason) == (own.iterations, own.reason)


@pytest.mark.parametrize("shape", [(311, 310), (100, 72, 80)])
@pytest.mark.parametrize("precision", ["auto", "mixed", "full"])
def test_cycles_in_float32_inside_residuals_in_float64(shape, precision):
    problem = unigrid.Poisson(shape, boundary=[("dirichlet", unigrid.Neumann(0.5)), *["dirichlet"] * (len(shape) - 1)])
    f = np.random.default_rng(0).standard_normal(shape)
    u, solution = blocks(problem, f, 3, precision=precision)
    own = unigrid.StencilCycle(problem).solve(f, precision=precision)
    assert solution.iterations == own.iterations
    assert np.array_equal(u, own.u)
    smooth = np.ones(shape)  # for which rounding in float32 would cost cycles
    u, solution = blocks(problem, smooth, 2, precision=precision)
    own = unigrid.StencilCycle(problem).solve(smooth, precision=precision)
    assert (solution.iterations, np.array_equal(u, own.u)) == (own.iterations, True)


@pytest.mark.parametrize(
    "boundary", ["dirichlet", ["periodic", "dirichlet"], "neumann", [(unigrid.Neumann(1.0), "dirichlet"), "neumann"]]
)
@pytest.mark.parametrize("start", ["fmg", "zero"])
def test_conjugate_gradients(boundary, start):
    problem = unigrid.Poisson((120, 66), boundary=boundary)
    f = np.random.default_rng(0).standard_normal(problem.shape)
    options = {"accelerate": "cg", "start": start, "compatibility": "project"}
    u, solution = blocks(problem, f, 3, **options)
    own = alone(problem, f, **options)
    assert solution.iterations == own.iterations
    assert np.abs(u - own.u).max() <= 1e-12 * np.abs(own.u).max()
    assert np.allclose(solution.residuals, own.residuals, rtol=1e-9, atol=1e-13 * own.residuals[0])


def test_values_on_sides_are_those_of_the_whole_side():
    shape = (110, 60)
    values = np.random.default_rng(1).standard_normal(110)
    problem = unigrid.Poisson(shape, boundary=["dirichlet", (unigrid.Dirichlet(values), unigrid.Neumann(-values))])
    f = np.random.default_rng(0).standard_normal(shape)
    assert np.array_equal(blocks(problem, f, 4)[0], alone(problem, f).u)


def test_nearly_singular_problems_have_their_mean():
    problem = unigrid.Poisson((80, 70), boundary="neumann", centering="cell", reaction=1e-7)
    f = np.random.default_rng(0).standard_normal(problem.shape) + 0.1
    u, own = blocks(problem, f, 3)[0], alone(problem, f).u
    assert np.abs(u - own).max() <= 1e-12 * np.abs(own).max()


def test_a_callback_sees_the_block_and_may_end_all():
    problem = unigrid.Poisson((100, 60))
    f = np.random.default_rng(0).standard_normal(problem.shape)
    seen = []

    def callback(solution):
        seen.append(solution.u.shape)
        if solution.iterations == 2:
            raise StopIteration

    _, solution = blocks(problem, f, 2, callback=callback)
    assert solution.reason is unigrid.Reason.STOPPED
    assert seen == [(50, 60)] * 4


def test_scattered_and_gathered():
    problem = unigrid.Poisson((97, 60))
    f = np.random.default_rng(0).standard_normal(problem.shape)

    def around(comm):
        cycle = unigrid.DomainCycle(problem, comm)
        assert f[cycle.local].shape == cycle.local_shape
        return cycle.gather(f[cycle.local]), repr(cycle)

    for whole, text in Group(3).run(around):
        assert np.array_equal(whole, f)
        assert "3 processes with 32, 32, 33 rows of 97" in text


def test_messages_per_cycle_and_level():
    """A cycle: three exchanges per level in blocks, of its u, and of b and u of the next; on the last, two are gathered."""
    problem = unigrid.Poisson((511, 255))

    def counted(comm):
        cycle = unigrid.DomainCycle(problem, comm)
        b = cycle.part.fill(cycle.part.extended(np.random.default_rng(0).standard_normal(cycle.local_shape)), comm)
        u = cycle.cycle(b)
        before = len(comm.messages)
        cycle.cycle(b, u)
        levels = sum(isinstance(level, DomainLevel) for level in cycle.levels)
        return len(comm.messages) - before, levels

    (first, levels), (middle, _), (last, _) = Group(3).run(counted)
    assert levels == 3
    exchanges = 1 + levels + 2 * (levels - 1)  # u before the descent; u in each ascent; b down and u up between levels
    assert (first, middle, last) == (exchanges, 2 * exchanges, exchanges)


REFUSED = [
    ((40, 200), {}, {}, 4, ValueError, "blocks of 10, fewer than the 13 that neighbors exchange; take at most 3 processes"),
    ((3, 2000), {}, {}, 8, ValueError, "3 rows on 8 processes"),
    ((101, 60), {"boundary": "periodic"}, {}, 2, ValueError, "periodic with 101 unknowns"),
    ((30, 30), {}, {}, 2, ValueError, "too small to be cut"),
    ((100, 100), {"reaction": -9.0}, {}, 2, ValueError, "the reaction must be >= 0"),
    ((100, 100), {}, {"smoother": "gauss-seidel"}, 2, ValueError, "blocks are for red-black, Jacobi and Chebyshev"),
]


@pytest.mark.parametrize(("shape", "options", "slots", "size", "error", "words"), REFUSED)
def test_problems_without_blocks_are_refused(shape, options, slots, size, error, words):
    problem = unigrid.Poisson(shape, **options)
    with pytest.raises(error, match=words):
        Group(size).run(lambda comm: unigrid.DomainCycle(problem, comm, **slots))


def of_the_last(comm, f, spoil):
    return spoil(f.copy()) if comm.rank == comm.size - 1 else f


def spoilt_by_nan(f):
    f[0, 3] = np.nan
    return f


FAULTS = [
    (spoilt_by_nan, {}, ValueError, "process 2 of 3: f .*nan"),
    (
        lambda f: f[:-1],
        {},
        ValueError,
        r"process 2 of 3: f must be the block of its process, of shape \(34, 60\), rows 66 to 100",
    ),
    (lambda f: f.astype(np.float32), {}, TypeError, "one precision on all processes, got float64, float64, float32"),
    (lambda f: f + 1j, {}, TypeError, "process 2 of 3"),
    (lambda f: f, {"accelerate": "gmres"}, ValueError, "several processes have no other methods of accelerate than 'cg'"),
    (lambda f: f, {"u0": np.zeros((33, 60))}, ValueError, "process 2 of 3: u0 must be the block of its process"),
    (lambda f: f * 1e200, {}, ValueError, "leave the range of numbers"),
]


@pytest.mark.parametrize(("spoil", "options", "error", "words"), FAULTS)
def test_what_is_wrong_on_one_process_ends_all_alike(spoil, options, error, words):
    problem = unigrid.Poisson((100, 60))
    texts = []

    def solve(comm):
        cycle = unigrid.DomainCycle(problem, comm)
        f = np.random.default_rng(comm.rank).standard_normal(cycle.local_shape)
        with pytest.raises(error, match=words) as caught:
            cycle.solve(of_the_last(comm, f, spoil), **options)
        texts.append(str(caught.value))

    Group(3).run(solve)
    assert len(set(texts)) == 1


def test_an_incompatible_source_is_refused_on_all():
    problem = unigrid.Poisson((100, 60), boundary="neumann")
    with pytest.raises(ValueError, match=r"mean zero, boundary fluxes included; its mean is 1, in which"):
        blocks(problem, np.ones(problem.shape), 2)


@pytest.mark.parametrize("centering", ["vertex", "cell"])
def test_what_is_incompatible_is_so_on_any_number_of_processes(centering):
    """A large source, and small fluxes, which excuse little of its mean."""
    problem = unigrid.Poisson((100, 60), boundary=unigrid.Neumann(1e-3), centering=centering)
    f = np.random.default_rng(0).standard_normal(problem.shape)
    f += 1e-3 - f.mean()
    with pytest.raises(ValueError, match="has a solution only if f has mean zero") as one:
        alone(problem, f)
    with pytest.raises(ValueError, match="has a solution only if f has mean zero") as several:
        blocks(problem, f, 3)
    assert str(several.value) == str(one.value)


def test_no_communicator_is_refused():
    with pytest.raises(TypeError, match=r"comm must be a communicator of mpi4py"):
        unigrid.DomainCycle(unigrid.Poisson((100, 100)), 4)
