"""Recorded cycles with a recorder that replays on the CPU: what is recorded, when the host looks, when a cycle is stopped."""

import itertools
from typing import ClassVar

import numpy as np
import pytest
from tiers import generator

import unigrid
from unigrid.stencil.solving import SolveOptions

torch = pytest.importorskip("torch")
from unigrid.tensors import device, recorded  # noqa: E402


class Replays:
    """Does the work again, into the arrays that it made at first, as a graph would; counts what is asked of it."""

    made: ClassVar[list] = []

    def __init__(self, where):
        self.recordings = self.replays = self.looks = 0
        Replays.made.append(self)

    def record(self, work):
        self.recordings += 1
        first = work()

        def replay():
            self.replays += 1
            again = work()
            for kept, new in zip((*first.iterates, first.norms), (*again.iterates, again.norms), strict=True):
                kept.copy_(new)
            return first

        return replay

    def fetch(self, numbers):
        self.looks += 1
        return numbers.tolist()


@pytest.fixture
def recorders(monkeypatch):
    monkeypatch.setattr(recorded, "recorder_for", lambda device, backend: Replays)
    recorded.recording_of.cache_clear()
    monkeypatch.setattr(Replays, "made", [])
    return Replays.made


def test_recorded_cycles_are_those_of_numpy(recorders):
    """Sides, singular problems, kinds of cycles, starts, tolerances: as many iterations, u to round-off."""
    sides, tolerances = ["dirichlet", "neumann", "periodic"], itertools.cycle([1e-3, 1e-9, None, 1e-6, 1e-11])
    for side, kind, start in itertools.product(sides, "VW", ["fmg", "zero"]):
        rtol = next(tolerances)
        f = generator(f"recorded {side} {kind} {start} {rtol}").standard_normal((40, 24))
        options = {"boundary": side, "cycle": kind, "start": start, "rtol": rtol, "compatibility": "project"}
        expected = unigrid.solve(f, **options)
        solution = unigrid.solve(torch.from_numpy(f), backend="torch", **options)
        assert (solution.iterations, solution.reason) == (expected.iterations, expected.reason), options
        assert np.abs(solution.u.numpy() - expected.u).max() < 1e-12 * np.abs(expected.u).max(), options
        assert np.allclose(solution.residuals, expected.residuals, rtol=1e-6), options


def test_a_cycle_is_recorded_once_and_the_host_looks_every_second_cycle(recorders):
    cycle, rng = unigrid.StencilCycle(unigrid.Poisson((40, 24))), generator("recorded once")
    for _ in range(3):
        f = torch.from_numpy(rng.standard_normal((40, 24)))
        solution = cycle.solve(f, backend="torch", rtol=1e-11)
    own = recorders[0]
    assert len(recorders) == 1
    assert own.recordings == 2  # full multigrid and a cycle; two cycles
    assert solution.iterations > 4
    assert own.looks == own.replays <= 3 * (solution.iterations + 2) // 2


def test_few_recordings_are_kept(recorders):
    f = torch.ones(20, 20, dtype=torch.float64)
    cycles = [unigrid.StencilCycle(unigrid.Poisson((20, 20), reaction=c)) for c in range(recorded.RECORDED + 2)]
    for cycle in cycles:
        cycle.solve(f, backend="torch")
    assert recorded.recording_of.cache_info().currsize == recorded.RECORDED


def test_a_second_cycle_is_stopped_on_the_device(recorders, monkeypatch):
    """The flag that lets kernels do nothing stands when the second cycle begins, unless that is wanted in any case."""
    f, flags = torch.from_numpy(generator("flags").standard_normal((40, 24))), []
    cycle = unigrid.StencilCycle(unigrid.Poisson((40, 24)))
    own = device.cycle_on(cycle, f, SolveOptions(backend="torch"))
    plain = type(own.levels[0]).measured

    def watched(level, *arguments):
        flags.append(int(own.done))
        return plain(level, *arguments)

    monkeypatch.setattr(type(own.levels[0]), "measured", watched)
    assert cycle.solve(f, backend="torch", rtol=0.1).iterations == 1
    assert flags[-2:] == [0, 1]
    assert cycle.solve(f, backend="torch", rtol=1e-9).iterations > 2
    assert flags.count(1) in (2, 3)  # of the first solve, which was recorded and replayed, and at the end perhaps
    assert int(own.done) == 0


@pytest.mark.parametrize("shape", [(40, 24), (14, 11, 12)])
def test_mixed_precision(recorders, shape):
    f = generator(f"mixed on a device {shape}").standard_normal(shape)
    options = {"precision": "mixed", "rtol": 1e-10, "boundary": "neumann", "reaction": 3.0}
    expected = unigrid.solve(f, **options)
    solution = unigrid.solve(torch.from_numpy(f), backend="torch", **options)
    assert "mixed" in solution.message
    assert abs(solution.iterations - expected.iterations) <= 1
    exact = unigrid.solve(f, **options | {"precision": "full", "rtol": None}).u
    assert np.abs(solution.u.numpy() - exact).max() < 1e-8 * np.abs(exact).max()
    again = unigrid.solve(torch.from_numpy(f), u0=solution.u, backend="torch", **options | {"rtol": 1e-12})
    assert 0 < again.iterations < 4


def test_gradients_take_recordings_of_their_own(recorders):
    f = torch.from_numpy(generator("slopes").standard_normal((20, 21))).requires_grad_()
    cycle = unigrid.StencilCycle(unigrid.Poisson((20, 21), boundary=[("neumann", unigrid.Dirichlet(2.0)), "dirichlet"]))
    v = torch.from_numpy(generator("v").standard_normal((20, 21)))
    (cycle.solve(f, backend="torch", rtol=1e-12).u * v).sum().backward()
    expected = np.linalg.solve(cycle.problem.matrix().toarray().T, v.numpy().ravel()).reshape(20, 21)
    assert np.abs(f.grad.numpy() - expected).max() < 1e-10 * np.abs(expected).max()
    assert len(recorders) == 2


def test_a_callback_sees_every_iterate(recorders):
    f, seen = torch.from_numpy(generator("watched").standard_normal((30, 20))), []
    solution = unigrid.solve(f, backend="torch", rtol=1e-9, callback=lambda each: seen.append(each.u.clone()))
    assert len(seen) == solution.iterations
    assert torch.equal(seen[-1], solution.u)
    assert not recorders
