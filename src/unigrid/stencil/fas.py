"""The levels of nonlinear problems: A u + w g(u) on ever coarser grids, smoothed and solved by Newton steps.

They are those of black box multigrid for A. On a coarse level, whose unknowns u' stand for their neighborhoods, the operator is
P^T A P u' + w' g(u') with w' = P^T w, w the volumes.

A smoothing step linearizes at u, A + w g'(u), and relaxes each point once. A point changes in its own turn alone, so that this
is a Newton step per point, and g is called once per sweep, for all points together.

Source: A. Brandt, Multi-level adaptive solutions to boundary-value problems, Math. Comp. 31 (1977), section 5 (FAS);
U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), section 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import NestedLevel, Operator, Prolongation, SlotLevel, Smoother, StateTransfer, Steps
from . import kernels
from .coarsening import CoupledTransfers, Transposed
from .coupled import SymmetricOperator
from .galerkin_levels import Coarsest, CoupledLevel
from .kernels.cpu.compiled.arguments import SymmetricStencil
from .problem import Poisson
from .reaction import LocalReaction, NonfiniteReactionError, NonlinearOperator
from .relaxation import Points
from .smoothers import own_copy

Array = NDArray[np.floating]
SHIFT = 1e-6  # of g' for a Newton step, in units of A on the coarsest level, where a step without it does not help
ENOUGH = 1e-4  # of the decrease that a Newton step promises
COARSE_STEPS, COARSE_RTOL = 20, 1e-3  # of Newton's method on the coarsest level; 1e-8 saves no cycle


@final
class LinearizedOperator(Operator):
    """A + S, S a diagonal matrix, in one precision."""

    def __init__(self, stencil: SymmetricStencil) -> None:
        self.stencil = stencil

    def tables(self, dtype: np.dtype) -> SymmetricStencil:
        """Return the stencil, which is in the precision of the arrays."""
        return self.stencil

    def __call__(self, u: Array) -> Array:
        return kernels.of(u).apply(u, self.stencil)

    def residual(self, b: Array, u: Array | None) -> Array:
        return b if u is None else kernels.of(b).residual(b, u, self.stencil)


@final
class LevelOperator(Operator):
    """A u + w g(u) on one level, boxes of three axes; A in symmetric form, w the volumes of what the unknowns stand for."""

    def __init__(self, linear: SymmetricOperator, weights: NDArray[np.float64], local: LocalReaction) -> None:
        self.linear, self.local = linear, local
        self._weights = {np.dtype(np.float64): weights}

    def weights(self, dtype: np.dtype) -> Array:
        """Return w in the precision of the arrays."""
        if dtype not in self._weights:
            self._weights[dtype] = self._weights[np.dtype(np.float64)].astype(dtype)
        return self._weights[dtype]

    def __call__(self, u: Array) -> Array:
        result = self.linear(u)
        result += self.weights(u.dtype) * self.local(u)
        return result

    def residual(self, b: Array, u: Array | None) -> Array:
        """Return b - A u - w g(u); None is u = 0."""
        u = np.zeros_like(b) if u is None else u
        result = self.linear.residual(b, u)
        result -= self.weights(u.dtype) * self.local(u)
        return result

    def slope(self, u: Array, shift: float = 0.0) -> Array:
        """Return w (g'(u) + shift): the diagonal matrix that linearization adds to A."""
        derivative = self.local.derivative(u)
        return self.weights(u.dtype) * (derivative + u.dtype.type(shift) if shift else derivative)

    @cached_property
    def shift(self) -> float:
        """The shift of g' for Newton steps whose linear problem is singular: a small part of what A is on this level."""
        return SHIFT * (float(self.linear.stencil.diagonal.mean() / self._weights[np.dtype(np.float64)].mean()) or 1.0)

    def linearized(self, slope: Array) -> LinearizedOperator:
        """Return A + S."""
        stencil = self.linear.tables(slope.dtype)
        diagonal = stencil.diagonal + slope
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal != 0.0)
        return LinearizedOperator(stencil._replace(excess=stencil.excess + slope, diagonal=diagonal, inverse=inverse))

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid, as a box of three axes."""
        return self.linear.stencil.excess.shape


@final
@dataclass(frozen=True)
class PointwiseNewton(Smoother):
    """One Newton step per point, or per line: a sweep of a linear smoother for A u + S u = b - w g(u0) + S u0, S = w g'(u0)."""

    sweep: Smoother

    @property
    def cost(self) -> float:
        """Work of one call."""
        return self.sweep.cost

    def __call__(self, operator: LevelOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: LevelOperator, b: Array, u: Array) -> Array:
        slope = operator.slope(u)
        right = b - operator.weights(u.dtype) * operator.local(u)
        right += slope * u
        return self.sweep.overwrite(operator.linearized(slope), right, u)


@final
class CoarsestNewton(Smoother):
    """Newton's method with sparse direct solves and halved steps, until the residual has fallen far enough or does not fall."""

    def __call__(self, operator: LevelOperator, b: Array, u: Array | None) -> Array:
        u = np.zeros(b.shape) if u is None else u.astype(np.float64)
        data = b.astype(np.float64)
        norm = first = norm_of(operator, data, u)
        for _ in range(COARSE_STEPS):
            improved, norm = damped(operator, data, u, norm, partial(self._step, operator, data, u), operator.shift)
            if improved is u or norm <= COARSE_RTOL * first:
                return improved.astype(b.dtype)
            u = improved
        return u.astype(b.dtype)

    def _step(self, operator: LevelOperator, b: Array, u: Array, shift: float) -> Array:
        linear = operator.linearized(operator.slope(u, shift))
        return _direct(linear)(linear, operator.residual(b, u), None)


def _direct(linear: LinearizedOperator) -> Smoother:
    """Return the sparse direct solve of a level, or a sweep where the matrix is singular."""
    try:
        return Coarsest(linear.stencil, apart=False)
    except RuntimeError:
        return Points(1.0)


def norm_of(operator: Operator, b: Array, u: Array) -> float:
    """Return the norm of the residual, infinity where g is not finite."""
    try:
        norm = kernels.of(b).norm(operator.residual(b, u))
    except NonfiniteReactionError:
        return math.inf
    return norm if math.isfinite(norm) else math.inf


def damped(
    operator: Operator, b: Array, u: Array, norm: float, step: Callable[[float], Array], shift: float
) -> tuple[Array, float]:
    """Return u + t step, t the first of 1, 1/2, 1/4, .. with which the residual falls, and its norm; u itself if none does.

    `step` is the Newton step for a shift of g'. Where no part of that without a shift helps, as when the linear problem is
    singular (all sides Neumann and g'(u) = 0, for example), the shifted one may be far too long.
    """
    for used, shrinking, trials in ((0.0, 0.5, 12), (shift, 0.25, 24)):
        whole, part = step(used), 1.0
        for _ in range(trials):
            trial = u + u.dtype.type(part) * whole
            reached = norm_of(operator, b, trial)
            if reached < (1.0 - ENOUGH * part) * norm:
                return trial, reached
            part *= shrinking
    return u, norm


@final
@dataclass(frozen=True, eq=False)
class AtCoarsePoints(StateTransfer):
    """The slot Pi: the values at the coarse points. Means of their neighborhoods save nothing for smooth u, and for rough ones,
    10000 u^3 with random f at 63^2, take 27 cycles in place of 11.
    """

    transfers: CoupledTransfers

    def __call__(self, u: Array) -> Array:
        table = self.transfers.tables(u.dtype)
        return u[np.ix_(*(table.children[axis, :n, 1] for axis, n in enumerate(table.weights.shape[1:])))]


@final
@dataclass(frozen=True, eq=False)
class BesideMask(StateTransfer):
    """The slot Pi where some coarse points are no unknowns of the finer level, but stand for unknowns around: means there."""

    transfers: CoupledTransfers
    operator: LevelOperator

    def __call__(self, u: Array) -> Array:
        weights, mean, values = self.operator.weights(u.dtype), Transposed(self.transfers), AtCoarsePoints(self.transfers)
        sums, sizes = mean(weights * u), mean(weights)
        return np.where(values(weights) > 0.0, values(u), np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0.0))


@final
class FASLevel(SlotLevel, NestedLevel):
    """One level: a nonlinear operator, P and R of the linear one, and smoothing by Newton steps.

    Full multigrid restricts b, boundary values folded in, by P^T: that is the right-hand side of the coarse operator P^T A P.
    """

    operator: LevelOperator
    smoother: Smoother
    state_transfer: StateTransfer
    prolongation: Prolongation

    def __init__(self, operator: LevelOperator, linear: CoupledLevel) -> None:
        self.operator, self.linear = operator, linear
        self.smoother = self.post_smoother = CoarsestNewton()
        if isinstance(linear.smoother, Steps):
            self.smoother = self.post_smoother = Steps(
                PointwiseNewton(_not_relaxed(linear.smoother.step)), linear.smoother.count
            )
            self.restriction, self.prolongation = linear.restriction, cast(Prolongation, linear.prolongation)
            whole = operator.local.absent is None
            self.state_transfer = AtCoarsePoints(self.transfers) if whole else BesideMask(self.transfers, operator)

    @property
    def transfers(self) -> CoupledTransfers:
        """P, and R = P^T."""
        return cast(Transposed, self.linear.restriction).transfers

    def __repr__(self) -> str:
        return f"<FASLevel: {self.linear!r}>"

    def right_hand_side(self, f: Array) -> Array:
        return f

    def nested_restriction(self, f: Array) -> Array:
        return self.restriction(f)

    def nested_prolongation(self, u: Array) -> Array:
        return self.prolongation(u)

    def linearized(self, slope: Array) -> CoupledLevel:
        """Return the level of the linear problem A + S."""
        smoother = self.linear.smoother
        if not isinstance(smoother, Steps):
            operator: Any = self.operator.linearized(slope.astype(np.float64))
            return CoupledLevel(operator, None).smoothed(_direct(operator), None)
        operator = self.operator.linearized(slope)
        return CoupledLevel(operator, self.transfers).like(self.linear)


def _not_relaxed(sweep: Smoother) -> Smoother:
    """Return a sweep without over-relaxation, with which a Newton step is too long where g curves; it saves no cycle here."""
    return Points(1.0) if isinstance(sweep, Points) else sweep


def linear_part(problem: Poisson) -> Poisson:
    """Return the problem without g(u)."""
    linear = copy(problem)
    linear.operator = problem.operator.linear
    return linear


def levels_of(problem: Poisson, linear: Iterable[CoupledLevel]) -> tuple[FASLevel, ...]:
    """Return the levels for a problem, finest first, on those of its linear part."""
    operator: NonlinearOperator = problem.operator
    volumes = operator.linear.volumes
    shape = (1,) * (3 - problem.grid.ndim) + problem.shape
    weights = np.ones(shape) if volumes is None else volumes.reshape(shape)
    if operator.local.absent is not None:
        weights = np.where(operator.local.absent.reshape(shape), 0.0, weights)
    fields = tuple(np.ascontiguousarray(field).reshape(shape) for field in operator.local.fields)
    levels = []
    for level in linear:
        absent = None if weights.all() else weights == 0.0
        local = LocalReaction(operator.nonlinear, fields, absent)
        levels.append(FASLevel(LevelOperator(level.operator, weights, local), level))
        if isinstance(level.smoother, Steps):
            sums = [level.restriction(np.ascontiguousarray(weights * field)) for field in fields]
            weights = np.maximum(level.restriction(weights), 0.0)
            fields = tuple(np.divide(each, weights, out=np.zeros_like(each), where=weights > 0.0) for each in sums)
    return tuple(levels)
