"""The error symbol of every smoother: what one step makes of waves."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cycle import Steps
from ..stencil.custom import FittedSmoother
from ..stencil.smoothers import Chebyshev, GaussSeidel, Jacobi, RedBlack
from .symbols import OperatorSymbol, Symbols, earlier_part


def smoothed(smoother: Any, operator: OperatorSymbol, errors: Symbols) -> Symbols:
    """Return what one call of a smoother leaves of errors (..., H, any number), given by H waves each; None smooths nothing.

    Raises
    ------
    TypeError
        For a smoother whose error symbol is not known.
    """
    if isinstance(smoother, FittedSmoother):
        return smoothed(smoother.smoother, operator, errors)
    if isinstance(smoother, Steps):
        for _ in range(smoother.count):
            errors = smoothed(smoother.step, operator, errors)
        return errors
    if isinstance(smoother, RedBlack):
        return _red_black(smoother, operator, errors)
    return _error_symbol(smoother, operator)[..., None] * errors


def _error_symbol(smoother: Any, operator: OperatorSymbol) -> Symbols:
    """Return the error symbol (..., H) of a smoother that couples no waves."""
    if smoother is None:
        return np.ones_like(operator.values)
    if isinstance(smoother, Jacobi):
        return 1.0 - smoother.omega * operator.scaled
    if isinstance(smoother, GaussSeidel):
        return _gauss_seidel(smoother, operator)
    if isinstance(smoother, Chebyshev):
        return _chebyshev(smoother, operator)
    if hasattr(smoother, "error_symbol"):
        return _of_users_own(smoother, operator)
    if hasattr(smoother, "kernels"):
        return _learned(smoother, operator)
    raise TypeError(
        f"the error symbol of {smoother!r} is not known: known are Jacobi, Chebyshev, RedBlack, GaussSeidel, LearnedSmoother, "
        "Steps of them and None. Give the class a method error_symbol(operator) that returns, for each frequency, what one "
        "step multiplies that wave of the error by: 1 - omega * operator.values / operator.diagonal for damped Jacobi"
    )


def _red_black(smoother: RedBlack, operator: OperatorSymbol, errors: Symbols) -> Symbols:
    """One color's half sweep is I - omega X D^-1 A, X the mask of its points: 1/2 (1 +- (-1)^(sum of the indices)).

    (-1)^(..) is the wave (pi, .., pi): the mask couples theta with theta + (pi, .., pi), its partner.
    """
    for omega, color in zip(smoother.omegas, smoother.colors, strict=True):
        correction = omega / 2 * operator.scaled[..., None] * errors
        errors = errors - correction - (-1) ** color * correction[..., operator.partners, :]
    return errors


def _gauss_seidel(smoother: GaussSeidel, operator: OperatorSymbol) -> Symbols:
    """The correction solves D / omega + L, L what comes before: S = 1 - A / (D / omega + L)."""
    stencil = operator.stencil
    before = np.flip(earlier_part(np.flip(stencil))) if smoother.backward else earlier_part(stencil)
    return 1.0 - operator.values / (operator.diagonal / smoother.omega + operator.of(before))


def _chebyshev(smoother: Chebyshev, operator: OperatorSymbol) -> Symbols:
    """The three-term recurrence of the smoother itself, with symbols for vectors."""
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


def _learned(smoother: Any, operator: OperatorSymbol) -> Symbols:
    """For each kernel K in turn, u <- u + K * D^-1 (f - A u): S = product of 1 - K D^-1 A."""
    result = np.ones_like(operator.values)
    for kernel in smoother.kernels(operator.geometry):
        result *= 1.0 - operator.of(np.asarray(kernel, dtype=np.float64)) * operator.scaled
    return result


def _of_users_own(smoother: Any, operator: OperatorSymbol) -> Symbols:
    values = np.asarray(smoother.error_symbol(operator), dtype=np.complex128)
    if values.shape != operator.values.shape:
        raise ValueError(
            f"{type(smoother).__name__}.error_symbol must return an array of the shape of operator.values, "
            f"{operator.values.shape}, it returned {values.shape}"
        )
    return values
