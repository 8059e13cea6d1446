"""What solves on a GPU are compared with: Poisson's equation on Dirichlet vertices by discrete sine transforms through FFTs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any  # of torch or CuPy


def odd_extension(x: Array, axis: int, xp: Any) -> Array:
    """Return the sine transform of type 1 along an axis, by a real FFT of length 2 (n + 1)."""
    zero = xp.zeros_like(_part(x, axis, 0, 1))
    extended = _joined([zero, x, zero, -xp.flip(x, (axis,))], axis, xp)
    return -_part(xp.fft.rfft(extended, None, axis), axis, 1, x.shape[axis] + 1).imag


def half_size(x: Array, axis: int, xp: Any) -> Array:
    """Return the same by a real FFT of length n + 1, which is odd or even, and a running sum.

    With N = n + 1 and y_j = 2 sin(pi j / N) (x_j + x_(N-j)) + x_j - x_(N-j), the imaginary parts of the FFT of y are those of
    even number, and its real parts differences of the odd ones.

    Source: W. Press et al., Numerical Recipes (2007), section 12.4.1. N must be even.
    """
    size = x.shape[axis] + 1
    sines = xp.sin(math.pi / size * _like(np.arange(1, size), x, axis, xp))
    mirrored = xp.flip(x, (axis,))
    y = 2.0 * sines * (x + mirrored) + x - mirrored
    spectrum = xp.fft.rfft(_joined([xp.zeros_like(_part(x, axis, 0, 1)), y], axis, xp), None, axis)
    even = -_part(spectrum.imag, axis, 1, size // 2)  # S_2, S_4, ..
    real = _part(spectrum.real, axis, 0, size // 2)
    halved = _joined([0.5 * _part(real, axis, 0, 1), _part(real, axis, 1, size // 2)], axis, xp)
    odd = xp.cumsum(halved, axis)  # S_1, S_3, ..
    out = xp.empty_like(x)
    _part(out, axis, 0, None, 2)[...] = odd
    _part(out, axis, 1, None, 2)[...] = even
    return out


FORMS: dict[str, Callable[..., Array]] = {"odd extension": odd_extension, "half size": half_size}


def sine_solver(f: Array, form: str, xp: Any) -> Callable[[], Array]:
    """Return the solve of -Laplace u = f, u = 0 on the sides of the unit box; the eigenvalues are made beforehand."""
    transform, total = FORMS[form], None
    for axis, n in enumerate(f.shape):
        along = _like((2.0 * (f.shape[0] + 1) * np.sin(np.pi * np.arange(1, n + 1) / (2 * (n + 1)))) ** 2, f, axis, xp)
        total = along if total is None else total + along
    # A transform along an axis, done twice, multiplies by 2 (n + 1).
    inverse = 1.0 / (total * math.prod(2.0 * (n + 1) for n in f.shape))

    def solve() -> Array:
        u = f
        for axis in range(f.ndim):
            u = transform(u, axis, xp)
        u = u * inverse
        for axis in range(f.ndim):
            u = transform(u, axis, xp)
        return u

    return solve


def _part(x: Array, axis: int, first: int, last: int | None, step: int = 1) -> Array:
    return x[(slice(None),) * axis + (slice(first, last, step),)]


def _joined(parts: list[Array], axis: int, xp: Any) -> Array:
    return xp.cat(parts, axis) if hasattr(xp, "cat") else xp.concatenate(parts, axis)


def _like(values: np.ndarray, x: Array, axis: int, xp: Any) -> Array:
    """Return numbers along an axis, in the precision and on the device of x."""
    shaped = values.reshape([-1 if axis == other else 1 for other in range(x.ndim)])
    return xp.asarray(shaped, dtype=x.dtype, device=x.device) if hasattr(xp, "cat") else xp.asarray(shaped, dtype=x.dtype)
