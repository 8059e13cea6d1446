"""A solve on several processes, and on one."""

from __future__ import annotations

import numpy as np
from processes.threads import Group

import unigrid


def blocks(problem, f, size, slots=None, **options):
    """Solve on so many processes; return the whole u and the Solution of the first, after all have the same residuals."""

    def solve(comm):
        cycle = unigrid.DomainCycle(problem(comm) if callable(problem) else problem, comm, **(slots or {}))
        return cycle.solve(f[cycle.local], **options)

    found = Group(size).run(solve)
    assert all(each.residuals == found[0].residuals for each in found)
    return np.concatenate([each.u for each in found]), found[0]


def drawn_sides(rng, ndim):
    """Return sides of any kind with values."""

    def side():
        value = float(rng.normal())
        return [unigrid.Dirichlet(value), unigrid.Neumann(value), "dirichlet", "neumann"][rng.integers(4)]

    return ["periodic" if rng.random() < 0.25 else (side(), side()) for _ in range(ndim)]
