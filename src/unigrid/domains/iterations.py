"""The iterations of the stencil backend on blocks: what sums over a grid sums over all processes, and halos are filled."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from ..iterate import Repeated, System
from ..stencil.grid import Grid
from ..stencil.iterations import QUIET, ConjugateGradients, Cycles, MixedCycles, Run
from .levels import DomainLevel

if TYPE_CHECKING:
    from .stencil_cycle import StencilDomainCycle

Array = NDArray[np.floating]


@final
class DomainCycles(Cycles):
    """The iteration, its iterates centered by the mean of the whole grid."""

    _cycle: StencilDomainCycle

    def current(self) -> Array | None:
        u = self._kept
        return u if u is None or not self._run.problem.has_constant_apart else self._cycle.finest.centered(u)


@final
class MixedDomainCycles(MixedCycles):
    """Cycles in float32 inside residuals in float64; what is added and measured is the block's own rows."""

    def __init__(self, cycle: StencilDomainCycle, run: Run, system: System, target: float) -> None:
        super().__init__(partial(DomainCycles, cycle), run, system, target)
        self._cycle = cycle

    def _correct(self, u: Array, e: Array, fresh: bool) -> float:
        finest, comm, part = self._cycle.finest, self._cycle.comm, self._cycle.part
        part.fill(e, comm)
        for halo in (slice(0, part.owned.start), slice(part.owned.stop, len(u))):
            u[halo] = e[halo] if fresh else u[halo] + e[halo]
        norm = finest.correct(self._residual, self._run.b, u, e, fresh)
        part.fill(self._residual, comm)
        return norm

    def _restate(self, residual: Array, b: Array, u: Array) -> None:
        self._cycle.finest.restate(residual, b, u)


@final
class BlockOperator:
    """A on blocks: arguments and residuals have their halos filled."""

    def __init__(self, level: DomainLevel) -> None:
        self._level, self._operator = level, level.problem.operator

    @property
    def grid(self) -> Grid:
        """The whole grid."""
        return self._level.operator.grid  # type: ignore[attr-defined, no-any-return]

    def __call__(self, u: Array) -> Array:
        return self._operator(self._level.filled(u))  # type: ignore[no-any-return]

    def residual(self, b: Array, u: Array | None) -> Array:
        """Return b - A u."""
        return b if u is None else self._level.filled(self._operator.residual(b, self._level.filled(u)))


@final
class DomainGradients(ConjugateGradients):
    """Conjugate gradients, preconditioned by one symmetric cycle."""

    def __init__(self, cycle: StencilDomainCycle) -> None:
        project = cycle.finest.centered if cycle.problem.has_constant_apart else lambda u: u
        super().__init__(BlockOperator(cycle.finest), lambda b: cycle.cycle(b), project)  # type: ignore[arg-type]
        self._finest = cycle.finest

    def _inner(self, a: Array, b: Array) -> float:
        return self._finest.inner(a, b, self._weights)


def gradients(symmetric: StencilDomainCycle, nested: StencilDomainCycle | None, f: Array, system: System) -> Repeated:
    """Return conjugate gradients by a symmetric cycle; `nested`, if given, begins them by full multigrid for f."""
    own = DomainGradients(symmetric)
    center = symmetric.finest.centered if symmetric.problem.has_constant_apart else lambda u: u

    @np.errstate(**QUIET)
    def step(b: Array, u: Array | None) -> Array:
        return center(own(b, u))

    @np.errstate(**QUIET)
    def start() -> Array:
        assert nested is not None
        return center(symmetric.part.extended(nested.nested(f)[nested.part.owned]))

    return Repeated(step, system, None if nested is None else start)
