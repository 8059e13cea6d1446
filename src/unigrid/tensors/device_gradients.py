"""Flexible conjugate gradients, and minimal residuals, on a device; their coefficients stay there too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from ..cycle import Operator
from ..iterate import Iteration
from ..stencil.gradients import SPOILT, TRUSTED, unit_scale
from ..stencil.iterations import Run
from ..stencil.kernels import slices
from ..stencil.minimal_residuals import KEPT
from .device_coupled import DeviceCoupledOperator
from .device_problems import DeviceProblem


@final
class DeviceGradients(Iteration):
    """What `stencil.gradients.FlexibleGradients` does in one precision, where arrays are made and not overwritten.

    So it is differentiable, as a function of tensors, and takes one number from the device in each iteration, the norm.
    """

    _r: Tensor  # the residual, in the symmetric form
    _norm: float  # of the residual now, and when it was last computed anew
    _known: float

    def __init__(
        self,
        cycle: Callable[[Tensor], Tensor],
        run: Run,
        operator: DeviceCoupledOperator,
        target: float,
        nested: Callable[[Tensor], Tensor] | None,
    ) -> None:
        """`cycle` returns M r; `nested`, full multigrid for the symmetric form, is the first iteration from zero."""
        self._cycle, self._run, self._operator, self._target, self._nested = cycle, run, operator, target, nested
        self._problem: DeviceProblem = run.problem  # type: ignore[assignment]
        self._b: Tensor = run.b  # type: ignore[assignment]
        self.nested_start = nested is not None

    def start(self, u: Tensor | None) -> None:
        self._begins = u is None and self._nested is not None
        self._u = torch.zeros_like(self._b) if u is None else u
        self._direction: tuple[Tensor, Tensor, Tensor] | None = None  # p, w = -A p, and <p, w>
        self._restate(self._u)

    def step(self, look_ahead: bool) -> float:
        if self._begins:
            return self._begin()
        z = self._scaled(self._cycle)
        p, w = z, -self._operator.symmetric(z)
        if self._direction is not None:
            p_before, w_before, curvature = self._direction
            beta = _ratio(slices.inner(z, w_before), curvature)
            p, w = p - beta * p_before, w - beta * w_before
        image, before = slices.inner(p, w), self._norm
        step = -_ratio(slices.inner(p, self._r), image)
        u, r = self._u + step * p, self._r + step * w
        norm = slices.norm(r if self._operator.volumes is None else r / self._operator.volumes)
        if not math.isfinite(norm):
            return norm
        self._u, self._r, self._norm, self._direction = u, r, norm, (p, w, image)
        if norm <= max(self._target, TRUSTED * self._known) or norm > SPOILT * before:
            self._restate(u)
        return self._norm

    def _begin(self) -> float:
        """Take full multigrid as the first iterate, unless rounding spoils it."""
        self._begins, before = False, self._norm
        assert self._nested is not None
        self._u = self._scaled(self._nested) / unit_scale(before, self._r.numel())
        self._restate(self._u)
        if not self._norm < before:
            self._u = torch.zeros_like(self._u)
            self._restate(self._u)
        return self._norm

    def current(self) -> Tensor | None:
        return self._run.shown(self._u)  # type: ignore[arg-type, return-value]

    @property
    def state(self) -> Tensor | None:
        return self._u

    def _restate(self, u: Tensor) -> None:
        """Compute the residual anew, projected where the problem is singular."""
        residual = self._problem.centered(self._operator.residual(self._b, u))
        self._r = self._operator.integrated(residual)
        self._norm = self._known = slices.norm(residual)

    def _scaled(self, solve: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a cycle makes of the residual, brought to the size of 1."""
        return self._problem.centered(solve(self._r * unit_scale(self._norm, self._r.numel())))


@final
class DeviceMinimalResiduals:
    """(b, u) -> u, as `stencil.minimal_residuals.MinimalResiduals`."""

    def __init__(self, operator: Operator, cycle: Callable[[Tensor], Tensor]) -> None:
        self._operator, self._cycle = operator, cycle
        self._directions: list[tuple[Tensor, Tensor]] = []  # z and A z

    def __call__(self, b: Tensor, u: Tensor | None) -> Tensor:
        residual = self._operator.residual(b, u)
        z = self._cycle(residual)
        image = self._operator(z)
        for older, its_image in self._directions:
            part = slices.inner(its_image, image)
            z, image = z - part * older, image - part * its_image
        square = slices.inner(image, image)
        scale = torch.where(square > 0.0, square, 1.0).rsqrt()
        z, image = z * scale, image * scale
        self._directions = [*self._directions, (z, image)][-KEPT:]
        step = slices.inner(image, residual) * z
        return step if u is None else u + step


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, 0 where there is nothing left to gain in this precision."""
    return torch.where(b == 0.0, 0.0, a / b)
