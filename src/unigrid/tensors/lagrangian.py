"""L = <dual, b(p) - A(p) u>: its derivatives are all that gradients need of the discretization.

By p, with A^-T v for the dual state, they are the gradient of the solution in p; by the dual state, the change of the residual
with p. A is the symmetric form of `stencil.coupled`: a difference across each face, times its coefficient, area and 1/distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..stencil.coupled import SMOOTH, shares
from ..stencil.grid import Axis, Dirichlet, Grid, Neumann, Periodic, parse_boundary
from ..stencil.problem import Poisson
from .problems import Equation, filled


@final
@dataclass(frozen=True, eq=False)
class Lagrangian:
    """L for an equation, as a function of its parameters; leading axes of both states are a batch, which is summed up.

    has_sides : whether b has the values on sides, or is a right-hand side of its own
    """

    equation: Equation
    dual: Tensor
    u: Tensor
    has_sides: bool

    def __call__(self, *parameters: Tensor) -> Tensor:
        options = filled(self.equation.problem_options, parameters)
        total = torch.zeros(())
        if self.equation.learns("reaction"):
            c: Tensor = options["reaction"]
            total = total + (c * self.slope_in_reaction(c)).sum()
        if self.equation.learns("coefficient", "boundary"):
            total = total + self._fluxes(self.equation.stand_in(self.u.shape, len(parameters)), options)
        return total

    def slope_in_reaction(self, c: Tensor) -> Tensor:
        """Return the derivative of L in c, in which it is linear."""
        if c.ndim == 0:  # without an array in between: new memory takes longer than a product
            return -torch.dot(self.dual.reshape(-1), self.u.reshape(-1)).to(c.dtype)
        return -(self.dual * self.u).sum_to_size(c.shape).to(c.dtype)

    def _fluxes(self, problem: Poisson, options: dict[str, Any]) -> Tensor:
        """Return what passes through the faces inside, where coefficients are parameters, and through the sides."""
        grid = problem.box
        dual, total = _over_volumes(self.dual, grid), torch.zeros(())
        conditions = parse_boundary(options["boundary"], grid.ndim)
        varies, is_natural = self.equation.learns("coefficient"), isinstance(options["outside"], str)
        has_void = is_natural and options["mask"] is not None
        void = torch.as_tensor(~np.asarray(options["mask"]), device=dual.device) if has_void else None
        for number, (axis, pair) in enumerate(zip(grid.axes, conditions, strict=True)):
            along, u = dual.movedim(number - grid.ndim, -1), self.u.movedim(number - grid.ndim, -1)
            area = _area(grid, number, dual)
            a = _faces(problem, options["coefficient"], number, dual)
            if varies:
                own = None if void is None else void.movedim(number, -1)
                total = total - _inside(axis, along, u, area, a, own)
            for end, condition in zip((0, -1), pair, strict=True):
                if not isinstance(condition, Periodic):
                    entering = _entering(condition, axis, end, u[..., end], _at(a, end), self.has_sides)
                    total = total + (area * along[..., end] * entering).sum()
        return total


def _inside(axis: Axis, dual: Tensor, u: Tensor, area: Any, a: Any, void: Tensor | None) -> Tensor:
    """Return the sum of a (difference of the dual state) (difference of u) over the faces inside, but for those of a void."""
    steps: Any = _numbers(axis.steps, dual) if axis.distances else axis.h
    inner = steps[1:-1] if axis.distances else steps
    conductance = (a[..., 1:-1] if isinstance(a, Tensor) and a.ndim else a) / inner
    product = dual.diff(dim=-1) * u.diff(dim=-1)
    if void is not None:
        product = product.masked_fill(void[..., 1:] | void[..., :-1], 0.0)
    total = (_spread(area) * conductance * product).sum()
    if axis.periodic and axis.n > 1:
        last = _at(a, -1) / (steps[-1] if axis.distances else steps)
        seam = (dual[..., 0] - dual[..., -1]) * (u[..., 0] - u[..., -1])
        if void is not None:
            seam = seam.masked_fill(void[..., 0] | void[..., -1], 0.0)
        total = total + (area * last * seam).sum()
    return total


def _entering(condition: Any, axis: Axis, end: int, u: Tensor, a: Any, has_sides: bool) -> Any:
    """Return the flux a du/dn that enters through a side, per area."""
    step = float(axis.steps[end])
    value: Any = condition.value if has_sides else 0.0
    if type(condition) is Dirichlet:
        return a / step * (value - u)
    if type(condition) is Neumann:
        return value
    alpha = condition.alpha
    passed = 1.0 if axis.centering == "vertex" else 1.0 / (1.0 + alpha * step / a)
    return passed * (value - alpha * u)


def _faces(problem: Poisson, coefficient: Any, number: int, like: Tensor) -> Any:
    """Return the coefficient at the faces of an axis, n + 1 along the last dimension, or a number."""
    if callable(coefficient) or (isinstance(coefficient, tuple) and any(map(callable, coefficient))):
        return _numbers(problem.coupled_operator.faces[number], like).movedim(number, -1)
    own = coefficient[number] if isinstance(coefficient, tuple) else coefficient
    if own is None:
        return 1.0
    if not isinstance(own, Tensor) or own.ndim == 0:
        return own
    axis, values = problem.box.axes[number], own.movedim(number, -1)
    return _given_faces(values, axis) if isinstance(coefficient, tuple) else _faces_of_unknowns(values, axis)


def _given_faces(values: Tensor, axis: Axis) -> Tensor:
    """Return a user's face values, those beyond a vertex-Neumann end repeated: nothing reads them."""
    if axis.periodic:
        return torch.cat([values[..., -1:], values], -1)
    low, high = (axis.centering == "vertex" and side is Neumann for side in (axis.low, axis.high))
    return torch.cat([values[..., :1]] * low + [values] + [values[..., -1:]] * high, -1)


def _faces_of_unknowns(a: Tensor, axis: Axis) -> Tensor:
    """Return the harmonic means of values at the unknowns, as `stencil.coupled` takes them."""
    share = _numbers(shares(axis), a)
    inner = _harmonic(a[..., :-1], a[..., 1:], share[1:-1])
    if axis.periodic:
        seam = _harmonic(a[..., -1:], a[..., :1], share[:1])
        return torch.cat([seam, inner, seam], -1)
    ends = []
    for end, beside, inward in ((0, min(1, axis.n - 1), 1), (axis.n - 1, max(axis.n - 2, 0), -2)):
        first, second = a[..., end : end + 1], a[..., beside : beside + 1]
        smooth = torch.maximum(first, second) < SMOOTH * torch.minimum(first, second)
        distance = float(axis.steps[0 if end == 0 else -1] / axis.steps[inward])
        on_side = torch.where(smooth, first + distance * (first - second), first)
        ends.append(on_side if axis.centering == "cell" else _harmonic(first, on_side, 0.5))
    return torch.cat([ends[0], inner, ends[1]], -1)


def _harmonic(a: Tensor, b: Tensor, share: Any) -> Tensor:
    return 1.0 / (share / a + (1.0 - share) / b)


def _over_volumes(dual: Tensor, grid: Grid) -> Tensor:
    """Return the dual state over the volumes, in units of h per axis."""
    for number, axis in enumerate(grid.axes):
        if not _is_even(axis):
            weights = _numbers(axis.weights / axis.h, dual)
            dual = dual / weights.reshape([-1 if other == number else 1 for other in range(grid.ndim)])
    return dual


def _area(grid: Grid, number: int, like: Tensor) -> Any:
    """Return the areas of the faces of an axis over its h, in units of h per axis: a number, or of the shape of a side."""
    area: Any = 1.0 / grid.axes[number].h
    others = grid.axes[:number] + grid.axes[number + 1 :]
    for place, axis in enumerate(others):
        if not _is_even(axis):
            shape = [-1 if other == place else 1 for other in range(len(others))]
            area = area * _numbers(axis.weights / axis.h, like).reshape(shape)
    return area


def _is_even(axis: Axis) -> bool:
    """Whether the cells of all unknowns are alike."""
    return not axis.distances and (axis.centering == "cell" or Neumann not in (axis.low, axis.high))


def _at(a: Any, end: int) -> Any:
    return a[..., end] if isinstance(a, Tensor) and a.ndim else a


def _spread(area: Any) -> Any:
    return area.unsqueeze(-1) if isinstance(area, Tensor) else area


def _numbers(values: Sequence[float] | np.ndarray, like: Tensor) -> Tensor:
    """Return numbers as a tensor beside another one."""
    return torch.tensor(np.asarray(values).tolist(), dtype=torch.float64, device=like.device)
