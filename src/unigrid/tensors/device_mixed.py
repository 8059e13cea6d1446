"""Cycles in mixed precision on a device: `stencil.iterations.MixedCycles`, where arrays are made and not overwritten."""

from __future__ import annotations

from typing import Any, final

import torch

from ..iterate import Iteration
from ..stencil.iterations import MixedCycles, Run


@final
class DeviceMixedCycles(MixedCycles):
    """Corrections in float32 inside residuals in float64. `finest` is the finest level of the cycle in float32."""

    def __init__(self, finest: Any, *arguments: Any) -> None:
        """`arguments` are those of `MixedCycles`."""
        super().__init__(*arguments)
        self._finest = finest

    def start(self, u: Any) -> None:
        self._u: Any = u
        self._norms = [self._system.residual_norm(u)]
        self._begins, self.under_way = True, False
        self._correction: Iteration | None = None

    def current(self) -> Any:
        if self._correction is None:
            return self._run.shown(self._u)
        e: Any = self._correction.current()
        if e is None:
            return None
        return self._run.shown(e.double() if self._u is None else self._u + e)

    def _add(self, e: Any) -> float:
        """Add a correction to u, and begin with what it leaves; return the norm of that."""
        b, problem = self._run.b, self._run.problem
        self._u, self._residual, norm = self._finest.corrected(b, self._u, e)
        if problem.has_constant_apart and not problem.singular:
            self._u = problem.centered(self._u)
            residual = problem.operator.residual(b, self._u)
            self._residual, norm = residual.to(torch.float32), residual.norm()  # type: ignore[attr-defined, assignment]
        return float(norm)

    def _begin(self) -> Iteration:
        """Return the cycles for a correction from zero; of a nested start, for the solution itself."""
        run, f = self._run, None
        if self._begins:
            left: Any = run.problem.operator.residual(run.b, self._u)
            self._residual = left.to(torch.float32)
            f = self._residual if run.f is run.b else run.f.to(torch.float32)  # type: ignore[attr-defined]
        nested = self._begins and run.nested
        cycles = self._cycles(Run(run.problem, self._residual if f is None else f, self._residual, nested, run.keeps))
        cycles.start(None)
        return cycles
