"""The slot S of the stencil backend. Each class is one step; `Steps` repeats it.

All of them are u <- u + B (f - A u) with B an approximate inverse of A: damped 1/D (Jacobi), a polynomial in it (Chebyshev),
or a triangle of A solved in some order (Gauss-Seidel). They differ in nothing else, and a class of ten lines adds another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Smoother
from . import kernels
from .kernels.workspace import copy, zeros
from .operator import StencilOperator

Array = NDArray[np.floating]


def _checked_omega(omega: float) -> None:
    """Divergence for omega >= 2 is left to the driver to notice and explain: such a smoother is bad, not meaningless."""
    if not isinstance(omega, int | float | np.number) or not math.isfinite(omega) or omega <= 0:
        raise ValueError(f"omega must be a finite number > 0, got {omega!r}")


def _own_copy(f: Array, u: Array | None) -> Array:
    return zeros(f.shape, f.dtype) if u is None else copy(u)


@final
@dataclass(frozen=True)
class Jacobi(Smoother):
    """Damped Jacobi: u <- u + omega D^-1 (f - A u). Its own adjoint. 0.8 smooths best in 2-D."""

    omega: float = 0.8

    def __post_init__(self) -> None:
        _checked_omega(self.omega)

    def __call__(self, operator: StencilOperator, f: Array, u: Array | None) -> Array:
        start = zeros(f.shape, f.dtype) if u is None else u
        return kernels.semi_iterate(zeros(f.shape, f.dtype), f, start, self.omega, 1.0, operator.tables(f.dtype))

    def adjoint(self) -> Jacobi:
        return self


@final
@dataclass(frozen=True)
class RedBlack(Smoother):
    """Red-black Gauss-Seidel with over-relaxation: first all red points (even index sum), then all black, each by
    u <- u + omega D^-1 (f - A u) with the newest values. The adjoint sweeps black first.

    `omega` is a number, or one for each half-sweep in turn, red, black, red, black, ..: two for each sweep of the step.
    """

    omega: float | tuple[float, ...] = 1.23
    first: str = "red"

    def __post_init__(self) -> None:
        if isinstance(self.omega, Sequence) and not isinstance(self.omega, str):
            object.__setattr__(self, "omega", tuple(self.omega))
        if len(self.omegas) == 0 or len(self.omegas) % 2:
            raise ValueError(f"omega must be a number, or two for each sweep, one a half-sweep; got {self.omega!r}")
        for omega in self.omegas:
            _checked_omega(omega)
        if self.first not in ("red", "black"):
            raise ValueError(f"first must be 'red' or 'black', got {self.first!r}")

    @property
    def omegas(self) -> tuple[float, ...]:
        """The omega of each half-sweep."""
        return self.omega if isinstance(self.omega, tuple) else (self.omega, self.omega)

    @property
    def colors(self) -> tuple[int, ...]:
        """The color of each half-sweep: 0 red, 1 black."""
        return ((1, 0) if self.first == "black" else (0, 1)) * (len(self.omegas) // 2)

    @property
    def cost(self) -> float:
        """Sweeps a step."""
        return len(self.omegas) / 2

    def __call__(self, operator: StencilOperator, f: Array, u: Array | None) -> Array:
        return self.overwrite(operator, f, _own_copy(f, u))

    def overwrite(self, operator: StencilOperator, f: Array, u: Array) -> Array:
        u, tables, backward = kernels.writable(u), operator.tables(u.dtype), self.first == "black"
        for omega, color in zip(self.omegas, self.colors, strict=True):
            kernels.relax_color(u, f, omega, color, backward, tables)
        return u

    def adjoint(self) -> RedBlack:
        omega = self.omega[::-1] if isinstance(self.omega, tuple) else self.omega
        return RedBlack(omega, "red" if self.first == "black" else "black")


@final
@dataclass(frozen=True)
class GaussSeidel(Smoother):
    """Lexicographic Gauss-Seidel with over-relaxation: point after point, each with the newest values of the ones before.
    The adjoint goes backward. Runs on one core.
    """

    omega: float = 1.0
    backward: bool = False

    def __post_init__(self) -> None:
        _checked_omega(self.omega)

    def __call__(self, operator: StencilOperator, f: Array, u: Array | None) -> Array:
        return self.overwrite(operator, f, _own_copy(f, u))

    def overwrite(self, operator: StencilOperator, f: Array, u: Array) -> Array:
        u = kernels.writable(u)
        kernels.relax_lexicographic(u, f, self.omega, self.backward, operator.tables(u.dtype))
        return u

    def adjoint(self) -> GaussSeidel:
        return replace(self, backward=not self.backward)


@final
@dataclass(frozen=True)
class Chebyshev(Smoother):
    """Chebyshev semi-iteration of `degree` Jacobi steps: u_(k+1) = w_k (u_k + gain D^-1 (f - A u_k)) + (1 - w_k) u_(k-1).

    The polynomial that is smallest on `interval`, which holds the eigenvalues of D^-1 A of the errors to be smoothed; None
    takes those that the coarser grid cannot see. Its own adjoint.

    Source: G. Golub, R. Varga, Numer. Math. 3 (1961); M. Adams et al., J. Comput. Phys. 188 (2003), for smoothing.
    """

    degree: int = 3
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.degree, bool) or not isinstance(self.degree, int) or self.degree < 1:
            raise ValueError(f"degree must be an integer >= 1, got {self.degree!r}")
        if self.interval is not None and not (len(self.interval) == 2 and 0 < self.interval[0] < self.interval[1]):
            raise ValueError(f"interval must be (low, high) with 0 < low < high, got {self.interval!r}")

    @property
    def cost(self) -> int:
        """Applications of A a step."""
        return self.degree

    def __call__(self, operator: StencilOperator, f: Array, u: Array | None) -> Array:
        gain, weights = self.schedule(operator.smoothing_interval)
        tables = operator.tables(f.dtype)
        older = zeros(f.shape, f.dtype) if u is None else u
        newer = kernels.semi_iterate(zeros(f.shape, f.dtype), f, older, gain, 1.0, tables)
        for step, weight in enumerate(weights, start=1):
            # The kernel writes over the older iterate: the caller's own u must not be that one.
            spare = copy(older) if step == 1 and u is not None else older
            older, newer = newer, kernels.semi_iterate(spare, f, newer, gain, weight, tables)
        return newer

    def schedule(self, smoothing_interval: tuple[float, float]) -> tuple[float, list[float]]:
        """Return the gain, and w_2, w_3, .. of the steps after the first, on that interval unless one of its own was given."""
        low, high = self.interval or smoothing_interval
        ratio = (high - low) / (high + low)
        weights, weight = [], 2.0
        for _ in range(1, self.degree):
            weight = 1.0 / (1.0 - ratio**2 * weight / 4.0)
            weights.append(weight)
        return 2.0 / (low + high), weights

    def adjoint(self) -> Chebyshev:
        return self


SMOOTHERS: dict[str, type[Smoother]] = {
    "jacobi": Jacobi,
    "red-black": RedBlack,
    "gauss-seidel": GaussSeidel,
    "chebyshev": Chebyshev,
}
