"""The slot S of the stencil backend. Each class is one step; `Steps` repeats it.

All of them are u <- u + B (b - A u) with B an approximate inverse of A: damped 1/D (Jacobi), a polynomial in it (Chebyshev),
or a triangle of A solved in some order (Gauss-Seidel). They differ in nothing else, and a class of ten lines adds another
(CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import MOST_STEPS, Smoother, Steps
from ..messages import checked_count, checked_number, choose, entries_of, shown
from . import kernels
from .operator import StencilOperator

Array = NDArray[np.floating]


def _positive(name: str, number: Any) -> float:
    return checked_number(name, number, "a finite number > 0", lambda value: value > 0)


def _check_omega(smoother: Jacobi | GaussSeidel) -> None:
    """Divergence for omega >= 2 is left to the driver to detect and explain: such a smoother is bad, not meaningless."""
    object.__setattr__(smoother, "omega", _positive("omega", smoother.omega))


def own_copy(b: Array, u: Array | None) -> Array:
    """Return a copy of u that a smoother may overwrite; zeros where u is None."""
    return kernels.of(b).zeros_like(b) if u is None else kernels.of(u).copy(u)


@final
@dataclass(frozen=True)
class Jacobi(Smoother):
    """Damped Jacobi: u <- u + omega D^-1 (b - A u). Its own adjoint. 0.8 smooths best in 2-D."""

    omega: float = 0.8

    def __post_init__(self) -> None:
        _check_omega(self)

    def __call__(self, operator: StencilOperator, b: Array, u: Array | None) -> Array:
        start = kernels.of(b).zeros_like(b) if u is None else u
        return kernels.of(b).semi_iterate(kernels.of(b).zeros_like(b), b, start, self.omega, 1.0, operator.tables(b.dtype))

    def adjoint(self) -> Jacobi:
        return self


@final
@dataclass(frozen=True)
class RedBlack(Smoother):
    """Red-black Gauss-Seidel with over-relaxation: first all red points (even index sum), then all black, each by
    u <- u + omega D^-1 (b - A u) with the newest values. The adjoint sweeps black first.

    `omega` is a number, or one for each half-sweep in turn, red, black, red, black, ..: two for each sweep of the step.
    """

    omega: float | tuple[float, ...] = 1.23
    first: str = "red"

    def __post_init__(self) -> None:
        several = entries_of(self.omega)
        if several is not None and (len(several) == 0 or len(several) % 2):
            raise ValueError(f"omega must be a number, or two for each sweep, one per half-sweep; got {shown(self.omega)}")
        omega = _positive("omega", self.omega) if several is None else tuple(_positive("omega", each) for each in several)
        object.__setattr__(self, "omega", omega)
        if not isinstance(self.first, str) or self.first not in ("red", "black"):
            raise ValueError(f"first must be 'red' or 'black', got {shown(self.first)}")

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
        """Sweeps per step."""
        return len(self.omegas) / 2

    def __call__(self, operator: StencilOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: StencilOperator, b: Array, u: Array) -> Array:
        own = kernels.of(u)
        u, tables, backward = own.writable(u), operator.tables(u.dtype), self.first == "black"
        for omega, color in zip(self.omegas, self.colors, strict=True):
            own.relax_color(u, b, omega, color, backward, tables)
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
        _check_omega(self)

    def __call__(self, operator: StencilOperator, b: Array, u: Array | None) -> Array:
        return self.overwrite(operator, b, own_copy(b, u))

    def overwrite(self, operator: StencilOperator, b: Array, u: Array) -> Array:
        own = kernels.of(u)
        u = own.writable(u)
        own.relax_lexicographic(u, b, self.omega, self.backward, operator.tables(u.dtype))
        return u

    def adjoint(self) -> GaussSeidel:
        return replace(self, backward=not self.backward)


@final
@dataclass(frozen=True)
class Chebyshev(Smoother):
    """Chebyshev semi-iteration of `degree` Jacobi steps: u_(k+1) = w_k (u_k + gain D^-1 (b - A u_k)) + (1 - w_k) u_(k-1).

    The polynomial that is smallest on `interval`, which holds the eigenvalues of D^-1 A of the errors to be smoothed; None
    takes those of the errors that the coarser grid cannot represent. Its own adjoint.

    Source: G. Golub, R. Varga, Numer. Math. 3 (1961); M. Adams et al., J. Comput. Phys. 188 (2003), for smoothing.
    """

    degree: int = 3
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "degree", checked_count("degree", self.degree, 1, MOST_STEPS))
        if self.interval is not None:
            object.__setattr__(self, "interval", _checked_interval(self.interval))

    @property
    def cost(self) -> int:
        """Applications of A per step."""
        return self.degree

    def __call__(self, operator: StencilOperator, b: Array, u: Array | None) -> Array:
        gain, weights = self.schedule(operator.smoothing_interval)
        tables = operator.tables(b.dtype)
        older = kernels.of(b).zeros_like(b) if u is None else u
        newer = kernels.of(b).semi_iterate(kernels.of(b).zeros_like(b), b, older, gain, 1.0, tables)
        for step, weight in enumerate(weights, start=1):
            # The kernel writes over the older iterate: the caller's own u must not be that one.
            spare = kernels.of(older).copy(older) if step == 1 and u is not None else older
            older, newer = newer, kernels.of(b).semi_iterate(spare, b, newer, gain, weight, tables)
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


def _checked_interval(interval: tuple[float, float]) -> tuple[float, float]:
    wanted = "(low, high) with 0 < low < high"
    ends = [checked_number("interval", end, wanted, lambda number: number > 0) for end in entries_of(interval) or ()]
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError(f"interval must be {wanted}, got {shown(interval)}")
    return ends[0], ends[1]


SMOOTHERS: dict[str, type[Smoother]] = {
    "jacobi": Jacobi,
    "red-black": RedBlack,
    "gauss-seidel": GaussSeidel,
    "chebyshev": Chebyshev,
}


SWEEPS = 2  # before and after the correction, where none are given
# The half-sweeps of a cycle work together: one leaves errors that another removes. So their omegas were optimised together, to
# minimise the residual after full multigrid and two cycles for a random right-hand side, on grids of equal spacing, nested and
# not, with sides of all kinds. On others too, of unequal spacing, with a reaction, they take no more cycles than any single
# omega (benchmarks/tuning/omega_of_each_half_sweep.py). In time they are within a twentieth of the best of those, over sizes
# where they save a cycle and sizes where they do not (benchmarks/claims/smoothers_and_cycles.py).
# By dimension: the omegas before the correction, and those after it.
OMEGAS = {
    2: ((1.0, 1.186, 1.799, 1.62, 1.121, 1.38), (1.038, 0.891, 1.693, 0.918)),
    3: ((1.4, 1.523, 1.61, 1.611, 1.057, 1.477), (1.344, 0.999, 1.203, 1.229, 1.445, 0.832)),
}
# One sweep before and after. The error of a pass over that of the discretization (tests/stencil/test_accuracy.py, all mixes of
# sides): on vertices 1.00 to 1.06, on cells up to 1.14, with the omegas above 1.09. On vertices 1 : 10 it is 1.10 (1.3: 1.19);
# on cells a larger omega would do better. In 3-D one sweep is not enough: up to 5.5.
ONE_PASS_OMEGA = {2: 1.28}


@final
@dataclass(frozen=True)
class Smoothing:
    """The smoothing of a cycle: `pre` steps of a smoother before the correction, `post` steps of the same or another after it.

    `Smoothing(RedBlack(1.15), 1, RedBlack(1.15), 1)` is that of V(1,1). The default of a cycle is `Smoothing.tuned(ndim)`.

    Raises
    ------
    ValueError, TypeError
        For counts below 0, or both 0, and for what is no smoother.
    """

    smoother: Smoother
    pre: int
    post_smoother: Smoother
    post: int

    def __post_init__(self) -> None:
        for name in ("pre", "post"):
            object.__setattr__(self, name, checked_count(name, getattr(self, name), 0, MOST_STEPS))
        if self.pre == self.post == 0:
            raise ValueError("pre and post are both 0: a cycle without smoothing does not converge; give at least one sweep")

    @staticmethod
    def of(
        smoother: str | Smoother | None, pre: int | None, post_smoother: str | Smoother | None, post: int | None
    ) -> Smoothing:
        """Return the smoothing that these arguments describe: red-black, two steps before and after, where they are None."""
        first = named_smoother("red-black" if smoother is None else smoother)
        second = first if post_smoother is None else named_smoother(post_smoother)
        return Smoothing(first, SWEEPS if pre is None else pre, second, SWEEPS if post is None else post)

    @staticmethod
    def tuned(ndim: int) -> Smoothing:
        """Return the fastest smoothing for grids of so many axes: red-black with one omega per half-sweep, tuned together,
        three sweeps before the correction and two (3-D: three) after it. In 1-D it is red-black with omega 1.23, two and two.
        """
        if ndim not in OMEGAS:
            return Smoothing.of(None, None, None, None)
        down, up = (RedBlack(omegas) for omegas in OMEGAS[ndim])
        return Smoothing(down, 1, up, 1)

    @staticmethod
    def one_pass(ndim: int) -> Smoothing:
        """Return as much smoothing as one pass of full multigrid needs to reach the accuracy of the discretization."""
        if ndim not in ONE_PASS_OMEGA:
            return Smoothing.tuned(ndim)
        smoother = RedBlack(ONE_PASS_OMEGA[ndim])
        return Smoothing(smoother, 1, smoother, 1)

    @property
    def is_tuned(self) -> bool:
        """Whether this is the tuned smoothing of 2-D or 3-D."""
        return any(self == Smoothing.tuned(ndim) for ndim in OMEGAS)

    def before(self, wrap: Callable[[Smoother], Smoother]) -> Smoother | None:
        """Return the slot before the correction; `wrap` prepares a smoother for it."""
        return Steps(wrap(self.smoother), self.pre) if self.pre else None

    def after(self, wrap: Callable[[Smoother], Smoother]) -> Smoother | None:
        """Return the slot after the correction."""
        return Steps(wrap(self.post_smoother), self.post) if self.post else None


def named_smoother(given: str | Smoother) -> Smoother:
    """Return a smoother given by its name or itself. Raises ValueError or TypeError, with what is allowed."""
    if isinstance(given, str):
        return SMOOTHERS[choose(given, SMOOTHERS, "smoother")]()
    if isinstance(given, Smoother):
        return given
    if isinstance(given, type) and issubclass(given, Smoother):
        raise TypeError(f"smoother must be an object, got the class {given.__name__}; write {given.__name__}()")
    raise TypeError(
        f"smoother must be one of {', '.join(map(repr, SMOOTHERS))} or an object of a unigrid.Smoother subclass (with a method "
        f"__call__(self, operator, b, u)), got {shown(given)}"
    )


def sweeps_of(smoother: Smoother | None) -> int:
    """Return how often a slot sweeps the grid: its steps; for red-black, as many as its omegas make."""
    if isinstance(smoother, Steps):
        per_step = len(smoother.step.omegas) // 2 if isinstance(smoother.step, RedBlack) else 1
        return smoother.count * per_step
    return 0 if smoother is None else 1
