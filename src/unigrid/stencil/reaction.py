"""Reactions g(u) that are not linear: the user's functions, checked wherever they are called, and the operator A u + g(u)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import Operator
from ..messages import shown
from . import kernels
from .coupled import CoupledOperator, faces_of
from .grid import Grid, finite_array, real_array
from .masks import Domain
from .robin import Exchange, refuse_stiff_sides

Array = NDArray[np.floating]
Function = Callable[..., Any]
SAMPLES = 33  # unknowns at which the derivative is checked
AWAY = (0.0, -0.1, 0.1, -1.0, 1.0)  # how far from the start, in units of its size, or of 1
STEP = 6e-6  # of differences, relative: the cube root of the rounding unit
WRONG = 1e-3  # relative deviation of a derivative from a difference
_ELEMENTWISE = (
    "must be a function of u, element by element; arrays that it depends on are given as Nonlinear(g, derivative, fields=(k,)) "
    "and come as its further arguments"
)


@final
@dataclass(frozen=True, eq=False)
class Nonlinear:
    """A reaction g(u) for -div(a grad u) + g(u) = f.

    Parameters
    ----------
    g, derivative : callable
        g(u) and g'(u): functions of an array of any shape, element by element, that return an array of that shape. They are
        called with coarse grids too. Both may take further arrays, those of `fields`.
    fields : sequence of array, optional
        What g depends on besides u, such as coordinates or a coefficient: arrays that broadcast to the shape of f. The
        functions are then g(u, *fields) and derivative(u, *fields); on coarse grids fields are means of their values.

    Raises
    ------
    TypeError, ValueError
        For what cannot be called, and for fields that are not finite.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> bratu = unigrid.Nonlinear(lambda u: -np.exp(u), lambda u: -np.exp(u))
    >>> round(float(unigrid.solve(np.zeros((63, 63)), reaction=bratu).u.max()), 4)
    0.0781

    With a coefficient that depends on the place:

    >>> k = np.linspace(1, 9, 63)
    >>> screened = unigrid.Nonlinear(lambda u, k: k**2 * np.sinh(u), lambda u, k: k**2 * np.cosh(u), fields=(k,))
    >>> unigrid.solve(np.ones((63, 63)), reaction=screened).converged
    True
    """

    g: Function
    derivative: Function
    fields: Sequence[ArrayLike] = ()

    def __post_init__(self) -> None:
        for name in ("g", "derivative"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} of Nonlinear must be a function of u, got {shown(getattr(self, name))}")
        if not isinstance(self.fields, tuple | list):
            raise TypeError(f"fields of Nonlinear must be a tuple of arrays, got {shown(self.fields)}; one is written (k,)")
        given = tuple(np.array(finite_array(field, f"fields[{number}]")) for number, field in enumerate(self.fields))
        object.__setattr__(self, "fields", given)

    def __repr__(self) -> str:
        names = [getattr(function, "__name__", type(function).__name__) for function in (self.g, self.derivative)]
        return f"Nonlinear({', '.join(names)}{f', {len(self.fields)} fields' if self.fields else ''})"


class NonfiniteReactionError(ArithmeticError):
    """g or its derivative returned NaN or infinity."""


@final
@dataclass(frozen=True, eq=False)
class LocalReaction:
    """g and g' at the unknowns of one grid: `fields` have its shape; `absent` is where there is no unknown, None: nowhere."""

    nonlinear: Nonlinear
    fields: tuple[Array, ...]
    absent: NDArray[np.bool_] | None = None

    @staticmethod
    def on(shape: tuple[int, ...], nonlinear: Nonlinear, mask: NDArray[np.bool_] | None) -> LocalReaction:
        """Return the reaction on the grid of a problem. Raises ValueError where a field does not fit it."""
        fields = []
        for number, field in enumerate(nonlinear.fields):
            try:
                fields.append(np.broadcast_to(np.asarray(field), shape))
            except ValueError:
                wrong = f"fields[{number}] of Nonlinear must broadcast to f's shape {shape}, got shape {np.shape(field)}"
                raise ValueError(wrong) from None
        return LocalReaction(nonlinear, tuple(fields), None if mask is None or mask.all() else ~mask)

    def __call__(self, u: Array) -> Array:
        """Return g(u), zero where there is no unknown. Raises NonfiniteReactionError."""
        return self._evaluated(self.nonlinear.g, "g", u)

    def derivative(self, u: Array) -> Array:
        """Return g'(u), zero where there is no unknown. Raises NonfiniteReactionError."""
        return self._evaluated(self.nonlinear.derivative, "derivative", u)

    def _evaluated(self, function: Function, name: str, u: Array) -> Array:
        given = u if self.absent is None else np.where(self.absent, u[~self.absent].flat[0], u)
        view = given.view()
        view.flags.writeable = False
        with np.errstate(all="ignore"):  # what comes of it is checked
            values = function(view, *self.fields)
        if type(values) is not np.ndarray or values.shape != u.shape or values.dtype != u.dtype:
            values = _as_array(values, name, u)
        if not math.isfinite(float(values.sum())) and not np.isfinite(values).all():
            raise NonfiniteReactionError(_where_not_finite(values, name, given))
        return values if self.absent is None else np.where(self.absent, u.dtype.type(0), values)

    def at(self, places: NDArray[np.intp]) -> LocalReaction:
        """Return the reaction at some of the unknowns, given by their indices in raveled arrays."""
        return LocalReaction(self.nonlinear, tuple(field.ravel()[places] for field in self.fields))


def _as_array(values: Any, name: str, u: Array) -> Array:
    array = real_array(values, f"{name}(u)")
    if array.shape == () or array.shape == u.shape:
        return np.broadcast_to(array, u.shape).astype(u.dtype)
    raise ValueError(f"{name} {_ELEMENTWISE}; for an array of shape {u.shape} it returned one of shape {array.shape}")


def _where_not_finite(values: Array, name: str, u: Array) -> str:
    bad = ~np.isfinite(values)
    there = u[bad]
    if not np.isfinite(there).all():
        return f"{name} was called with NaN or infinity: the iterate itself left the range of numbers"
    low, high = float(there.min()), float(there.max())
    around = f"u = {low:.4g}" if low == high else f"u from {low:.4g} to {high:.4g}"
    return f"{name}(u) is {values[bad].flat[0]} at {int(bad.sum())} of {values.size} points, with {around}"


@final
class NonlinearOperator(Operator):
    """A u + g(u), with A = -div(a grad) in the form of couplings. It has no matrix; `linear` is A."""

    reaction = 0.0  # of the linear part
    keeps_constants = False
    order = 2

    def __init__(self, linear: CoupledOperator, nonlinear: Nonlinear) -> None:
        self.linear, self.nonlinear, self.grid = linear, nonlinear, linear.grid
        self.local = LocalReaction.on(linear.grid.shape, nonlinear, None if linear.domain is None else linear.domain.unknown)

    def __repr__(self) -> str:
        return f"<NonlinearOperator: {self.linear!r} + {self.nonlinear!r}>"

    def __call__(self, u: Array) -> Array:
        return self.linear(u) + self.local(u)  # type: ignore[no-any-return]

    def residual(self, b: Array, u: Array | None) -> Array:
        """Return b - A u - g(u); None is u = 0."""
        if u is None:
            return b - self.local(np.zeros_like(b))
        return self.linear.residual(b, u) - self.local(u)

    def residual_norm(self, b: Array, u: Array | None) -> float:
        """Return the 2-norm of the residual."""
        return kernels.of(b).norm(self.residual(b, u))

    def magnitude(self, u: Array) -> float:
        """Return a bound of the 2-norm of the terms that are summed up, which rounding is relative to."""
        return self.linear.magnitude(u) + kernels.of(u).norm(self.local(u))

    def matrix(self) -> NoReturn:
        """Refuse: it is not linear."""
        raise TypeError(
            "a problem with a Nonlinear reaction has no matrix; that of A alone is problem.operator.linear.matrix()"
        )

    @property
    def norm_bound(self) -> float:
        """Upper bound of the largest eigenvalue of A."""
        return self.linear.norm_bound

    @property
    def least(self) -> float:
        """The least value of the coefficient a."""
        return self.linear.least


def operator_of(grid: Grid, coefficient: Any, reaction: Any, domain: Domain | None, exchange: Exchange) -> NonlinearOperator:
    """Return A u + g(u). Raises TypeError where it is the coefficient that is a function of u, ValueError for natural masks."""
    if isinstance(coefficient, Nonlinear):
        raise TypeError(
            "coefficient cannot be a function of u; Nonlinear is for the reaction. Where -div(k(u) grad u) = f, the integral w "
            "of k from 0 to u solves -Laplace(w) = f; else solve repeatedly, with coefficient=k(u) of the last u"
        )
    if domain is not None and domain.void is not None:
        raise ValueError("a Nonlinear reaction takes masks with given values outside, not outside='natural'; give these values")
    faces = faces_of(coefficient, grid, exchange)
    refuse_stiff_sides(exchange, grid, faces)
    return NonlinearOperator(CoupledOperator(grid, faces, np.zeros(()), domain, exchange), reaction)


def check_at_start(operator: NonlinearOperator, u: Array) -> None:
    """Compare g' with differences of g at the start and around it, and g of the whole array with g of a part.

    Raises ValueError where they differ, where g or g' is not finite at the start, and where no side is Dirichlet and g' is not
    positive.
    """
    local = operator.local
    try:
        whole, _ = local(u), local.derivative(u)
    except NonfiniteReactionError as error:
        raise ValueError(f"{error}, at the start; give u0 where g and its derivative are finite") from None
    places = np.arange(u.size) if local.absent is None else np.flatnonzero(~local.absent)
    places = places[np.linspace(0, len(places) - 1, min(SAMPLES, len(places))).astype(int)]
    some = local.at(places)
    try:
        same = np.allclose(some(u.ravel()[places]), whole.ravel()[places], rtol=WRONG, atol=0.0)
    except Exception as error:
        raise ValueError(f"g {_ELEMENTWISE}; of the values at {len(places)} unknowns alone it raised {error!r}") from error
    if not same:
        raise ValueError(f"g {_ELEMENTWISE}; here its value at an unknown depends on what else is in the array")
    points = u.ravel()[places].astype(np.float64)
    scale = max(1.0, float(np.abs(points).max()))
    slopes = np.concatenate([_checked_slopes(some, points + away * scale) for away in AWAY])
    free = all(axis.singular for axis in operator.grid.axes) and local.absent is None and not operator.linear.exchange
    if free and not ((slopes >= 0.0).all() and slopes.any()):
        raise ValueError(
            f"without Dirichlet sides A u + g(u) = f is sure to have a solution only where g' > 0, and near the start g' is "
            f"{slopes.min():.3g}. Give a Dirichlet side, or add c u with c > 0 to g (c = 1/dt is a time step)"
        )


def _checked_slopes(local: LocalReaction, u: Array) -> Array:
    """Return g'(u), nothing where g is not finite around u. Raises ValueError where it is not the derivative of g."""
    step = STEP * np.maximum(1.0, np.abs(u))
    try:
        slope, here = local.derivative(u), local(u)
        (wide, bend), (close, _) = (_difference(local, u, here, h) for h in (step, step / 2))
    except NonfiniteReactionError:
        return np.zeros(0)
    rounding = 1e2 * float(np.finfo(np.float64).eps) * np.abs(here) / step
    wrong = np.abs(slope - close) > WRONG * np.abs(close) + np.abs(wide - close) + bend + rounding
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"derivative is not that of g: at u = {u[at]:.6g} it is {slope[at]:.6g}, but (g(u + h) - g(u - h)) / 2h is "
            f"{close[at]:.6g} for h = {step[at] / 2:.0e}"
        )
    return slope


def _difference(local: LocalReaction, u: Array, here: Array, step: Array) -> tuple[Array, Array]:
    """Return the central difference of g, and how far the one-sided ones are from it: in a corner of g, any slope between
    those of its two sides is right.
    """
    below, above = local(u - step), local(u + step)
    return (above - below) / (2 * step), np.abs(above - 2 * here + below) / (2 * step)
