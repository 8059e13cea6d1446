"""The error symbols of smoothers: the error propagation of one step, frequency by frequency.

One short function per class of smoother; a class of your own has a method `error_symbol(operator)` instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cycle import Steps
from ..stencil.learned import LearnedSmoother
from ..stencil.relaxation import Lines, Points
from ..stencil.slots import FittedSmoother
from ..stencil.smoothers import Chebyshev, GaussSeidel, Jacobi, RedBlack
from .symbols import OperatorSymbol, Symbols, entries


@singledispatch
def error_symbol(smoother: Any, operator: OperatorSymbol) -> Symbols:
    """Return the error symbol S of one call of a smoother: e <- S e for an error e of frequencies theta.

    It is complex: (..., H), the factor of each of the operator's frequencies, or (..., H, H), a matrix per set, where the
    smoother couples theta with theta + (pi, .., pi), whose index is in `operator.partners`.

    Raises
    ------
    TypeError, ValueError
        For a smoother whose error symbol is not known, and for a method `error_symbol` that returns another shape.
    """
    if not hasattr(smoother, "error_symbol"):
        raise TypeError(
            f"the error symbol of {smoother!r} is not known: known are those of unigrid and Steps of them. Give the class a "
            "method error_symbol(operator) that returns, for each frequency, the factor by which one step multiplies the "
            "error: 1 - omega * operator.values / operator.diagonal for damped Jacobi"
        )
    values = np.asarray(smoother.error_symbol(operator), dtype=np.complex128)
    shape = operator.values.shape
    if values.shape not in (shape, (*shape, shape[-1])):
        raise ValueError(
            f"{type(smoother).__name__}.error_symbol must return an array of the shape of operator.values, {shape}, or, where "
            f"it couples frequencies, {(*shape, shape[-1])}; it returned {values.shape}"
        )
    return values


@error_symbol.register
def _none(smoother: None, operator: OperatorSymbol) -> Symbols:
    return np.ones_like(operator.values)


@error_symbol.register
def _steps(smoother: Steps, operator: OperatorSymbol) -> Symbols:
    step = error_symbol(smoother.step, operator)
    power: Symbols = np.linalg.matrix_power(step, smoother.count) if couples(step, operator) else step**smoother.count
    return power


@error_symbol.register
def _fitted(smoother: FittedSmoother, operator: OperatorSymbol) -> Symbols:
    return error_symbol(smoother.smoother, operator)


@error_symbol.register
def _jacobi(smoother: Jacobi, operator: OperatorSymbol) -> Symbols:
    return 1.0 - smoother.omega * operator.scaled


@error_symbol.register
def _gauss_seidel(smoother: GaussSeidel, operator: OperatorSymbol) -> Symbols:
    """S = 1 - A / (D / omega + L), L the part of A at points that are relaxed earlier."""
    stencil = operator.stencil
    place = np.arange(stencil.size).reshape(stencil.shape) - stencil.size // 2
    before = np.where(place > 0 if smoother.backward else place < 0, stencil, 0.0)
    return 1.0 - operator.values / (operator.diagonal / smoother.omega + operator.of(before))


@error_symbol.register
def _red_black(smoother: RedBlack, operator: OperatorSymbol) -> Symbols:
    colors = zip(smoother.omegas, smoother.colors, strict=True)
    return _colored(operator, ((omega * operator.scaled, [(operator.partners, color)]) for omega, color in colors))


@error_symbol.register
def _points(smoother: Points, operator: OperatorSymbol) -> Symbols:
    """Two colors where the stencil couples along the axes alone, else 2^d, the parity of the last index changing first."""
    correction = smoother.omega * operator.scaled
    if all(sum(map(abs, offset)) <= 1 for offset, _ in entries(operator.stencil)):
        return _colored(operator, ((correction, [(operator.partners, color)]) for color in (0, 1)))
    return _colored(operator, ((correction, parities) for parities in _parities(operator.shifts)))


@error_symbol.register
def _lines(smoother: Lines, operator: OperatorSymbol) -> Symbols:
    """Of each axis, I - X A / T for one parity of the other indices after the other, T the stencil's part along the axis."""
    stencil, swept = operator.stencil, []
    for axis in (number % stencil.ndim for number in smoother.axes):
        middle = [slice(n // 2, n // 2 + 1) if other != axis else slice(None) for other, n in enumerate(stencil.shape)]
        correction = operator.values / operator.of(stencil[tuple(middle)])
        swept += [(correction, parities) for parities in _parities(np.delete(operator.shifts, axis, axis=0))]
    return _colored(operator, swept)


def _parities(shifts: NDArray[np.int64]) -> list[list[tuple[NDArray[np.int64], int]]]:
    """Return the sets of points by the parity of their indices along axes with these shifts, the last one changing first."""
    return [list(zip(shifts, parities, strict=True)) for parities in itertools.product((0, 1), repeat=len(shifts))]


def _colored(operator: OperatorSymbol, sweeps: Iterable[tuple[Symbols, list[tuple[NDArray[np.int64], int]]]]) -> Symbols:
    """Return the product of I - X C over relaxations C of part of the points, X the indicator of that part.

    X is the product of (1 +- (-1)^(index)) / 2 over the axes, or over their sum, whose parities are given. (-1)^(index) is the
    mode pi along the axis: multiplying by it couples theta with theta + pi, whose index is given.
    """
    result = np.zeros((*operator.values.shape, 1)) + np.eye(operator.values.shape[-1], dtype=np.complex128)
    for factors, parities in sweeps:
        correction = factors[..., None] * result
        for shifted, parity in parities:
            correction = (correction + (-1) ** parity * correction[..., shifted, :]) / 2
        result = result - correction
    return result


@error_symbol.register
def _chebyshev(smoother: Chebyshev, operator: OperatorSymbol) -> Symbols:
    """The three-term recurrence of the smoother itself, on symbols."""
    low, high = smoother.interval or operator.smoothing_interval
    if not 0.0 < low <= high:
        raise ValueError(
            f"on high frequencies the symbol of D^-1 A lies in [{low:.3g}, {high:.3g}], but Chebyshev needs it above 0; "
            "give the interval: Chebyshev(degree, interval=(low, high))"
        )
    gain, weights = smoother.schedule((low, high))
    older, newer = np.ones_like(operator.values), 1.0 - gain * operator.scaled
    for weight in weights:
        older, newer = newer, weight * (newer - gain * operator.scaled * newer) + (1.0 - weight) * older
    return newer


@error_symbol.register
def _learned(smoother: LearnedSmoother, operator: OperatorSymbol) -> Symbols:
    """S = product over the kernels K of 1 - K D^-1 A."""
    result = np.ones_like(operator.values)
    for kernel in smoother.kernels(operator.geometry):
        result *= 1.0 - operator.of(np.asarray(kernel, dtype=np.float64)) * operator.scaled
    return result


def displaced(symbol: Symbols, operator: OperatorSymbol, steps: NDArray[np.int64]) -> Symbols:
    """Return the error symbol of the same smoother on the grid displaced by so many points along each axis."""
    if not couples(symbol, operator):
        return symbol
    phases = np.exp(1j * (operator.frequencies @ steps))
    return symbol * phases[..., None, :] / phases[..., :, None]


def couples(symbol: Symbols, operator: OperatorSymbol) -> bool:
    """Return whether an error symbol is a matrix per set of frequencies, not a factor per frequency."""
    return symbol.ndim > operator.values.ndim
