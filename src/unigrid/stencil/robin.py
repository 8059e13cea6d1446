"""Robin sides, a du/dn + alpha u = value: what passes through them, and what follows for an operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .grid import Axis, Condition, Dirichlet, Grid, Robin, side_values

Numbers = NDArray[np.float64]
Exchange = dict[tuple[int, int], Numbers]  # alpha of the Robin sides, by axis and end: 0 or -1
END_NAMES = {0: "low", -1: "high"}
# Nodes on a Robin side have alpha / h in b. With an alpha so many times a / h, ||r|| <= 1e-8 ||b|| leaves 1e-7 of u
# (measured: 1.6e3 leaves 3e-8, 1.6e5 2e-6, 1.6e7 3e-3).
STIFFEST, LARGEST_ALPHA = 1e4, 1e70


def exchange_of(conditions: Sequence[tuple[Condition, Condition]], shape: tuple[int, ...]) -> Exchange:
    """Return alpha of the Robin sides where it is not 0 everywhere. Raises ValueError or TypeError, as for other values."""
    exchange = {}
    for number, pair in enumerate(conditions):
        for end, condition in zip((0, -1), pair, strict=True):
            if isinstance(condition, Robin):
                name = f"alpha of the {END_NAMES[end]} side of axis {number}"
                alpha = side_values(condition.alpha, shape[:number] + shape[number + 1 :], name)
                if (alpha < 0.0).any():
                    raise ValueError(
                        f"{name} must be >= 0, got {alpha.min():.6g}: a side that feeds back what u gives has no stable "
                        "solution; a source that is given goes into value"
                    )
                if (alpha > LARGEST_ALPHA).any():
                    raise ValueError(f"{name} must be at most {LARGEST_ALPHA:.0e}; there, give Dirichlet(value / alpha)")
                if alpha.any():
                    exchange[number, end] = alpha
    return exchange


def refuse_stiff_sides(exchange: Exchange, grid: Grid, faces: Sequence[Numbers]) -> None:
    """Raise ValueError where alpha leaves no digits to the equations inside: b has alpha / h at the nodes on a side."""
    for (number, end), alpha in exchange.items():
        axis = grid.axes[number]
        ratio = float((alpha / _inward(number, end, axis, faces)).max())
        if axis.centering == "vertex" and ratio > STIFFEST:
            raise ValueError(
                f"alpha of the {END_NAMES[end]} side of axis {number} is {ratio:.2g} times a / h, too large for nodes on it "
                f"(most: {STIFFEST:.0e}); give Dirichlet(value / alpha), or centering='cell', which takes any"
            )


def passed(exchange: Exchange, number: int, end: int, axis: Axis, faces: Sequence[Numbers]) -> Any:
    """Return the part of (value - alpha u) that enters through a side: of cells, u is half a spacing from it."""
    if axis.centering == "vertex":
        return 1.0
    return 1.0 / (1.0 + exchange[number, end] * axis.steps[end] / faces[number].take(end, number))


def without_weak_sides(exchange: Exchange, grid: Grid, faces: Sequence[Numbers]) -> Exchange:
    """Return alpha as 0 where less passes through a side than between the unknown beside it and the next one inward."""
    weak = {side: alpha < _inward(*side, grid.axes[side[0]], faces) for side, alpha in exchange.items()}
    if not any(((alpha > 0.0) & weak[side]).any() for side, alpha in exchange.items()):
        return exchange
    return {side: np.where(weak[side], 0.0, alpha) for side, alpha in exchange.items()}


def _inward(number: int, end: int, axis: Axis, faces: Sequence[Numbers]) -> Numbers:
    """Return a / h between the unknowns at an end and those beside them."""
    inner = 1 if end == 0 else -2
    return faces[number].take(inner, number) / axis.steps[inner]


def least_eigenvalue(grid: Grid, least: Sequence[float], exchange: Exchange, reaction: float) -> float:
    """Return a lower bound of the smallest eigenvalue that is not zero; `least`: of the coefficient, per axis."""
    if exchange or any(axis.distances for axis in grid.axes):
        return _least_by_resistance(grid, least, exchange, reaction)
    return grid.smallest_eigenvalue(least, reaction)


def _least_by_resistance(grid: Grid, least: Sequence[float], exchange: Exchange, reaction: float) -> float:
    """Return a lower bound of the smallest eigenvalue that is not zero, for axes of any distances; `least`: of a, per axis.

    Along an axis of length L, |u|^2 <= R times the energy, R the resistance from a point of u = 0, L / a at most, or from
    beyond a Robin side, 1 / alpha more. So the mean of u^2 over the axis times 1 / (L R) is at most its energy.
    """
    first, second = 0.0, np.inf
    for number, (axis, a) in enumerate(zip(grid.axes, least, strict=True)):
        alphas = [float(exchange[number, end].min()) for end in (0, -1) if (number, end) in exchange]
        closed = np.inf if Dirichlet in (axis.low, axis.high) else max(alphas, default=0.0)
        if closed > 0.0:
            first += 1.0 / (axis.length * (axis.length / a + 1.0 / closed))
        if axis.n > 1:
            second = min(second, a / axis.length**2)
    if first == 0.0 and exchange:
        return float(np.finfo(np.float64).tiny)  # alpha is 0 somewhere on every Robin side
    return float(first + reaction or second)
