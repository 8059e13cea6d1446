"""Kernels of the stencil backend.

`of(array)` returns the backend that serves an array; callers use its primitives and do not depend on which one it is. `cpu` is
the compiled backend for NumPy arrays. `slices` serves tensors on any device, with those of the primitives that cycles in one
precision take; `gpu` has fused half-cycles for NVIDIA GPUs. `reference` defines the primitives in plain array arithmetic
and is the oracle of their tests. Another backend is another module with the functions of `Backend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from . import cpu
from .cpu import ConstantStencil as ConstantStencil
from .cpu import SeparableTables as SeparableTables
from .cpu import SymmetricStencil as SymmetricStencil

Array = NDArray[np.floating]
Weights = Sequence[NDArray[np.float64]]  # one array per axis


class Backend(Protocol):
    """The primitives of a backend. Arrays have the shape of the grid; sums are in double precision.

    A backend may also have fused half-cycles: classes with the methods of `cpu.fused.HalfCycles`, which equal
    compositions of these primitives to round-off.
    """

    def writable(self, array: Array, /) -> Array:
        """Return the array where kernels can overwrite it, else a copy in their memory layout."""

    def zeros_like(self, array: Array, /) -> Array:
        """Return zeros of its shape and precision."""

    def limits(self, array: Array, /) -> np.finfo[Any]:
        """Return the limits of its precision."""

    def copy(self, array: Array, /) -> Array:
        """Return a copy."""

    def apply(self, u: Array, stencil: ConstantStencil | SymmetricStencil, /) -> Array:
        """Return A u."""

    def residual(self, b: Array, u: Array, stencil: ConstantStencil | SymmetricStencil, /) -> Array:
        """Return b - A u."""

    def residual_norm(self, b: Array, u: Array, stencil: ConstantStencil, /) -> float:
        """Return the 2-norm of b - A u."""

    def norm(self, u: Array, /) -> float:
        """Return the 2-norm."""

    def norm_and_blocks(self, u: Array, blocks: tuple[int, ...], /) -> tuple[float, NDArray[np.float64]]:
        """Return the 2-norm, and the sums of u over so many blocks along each axis."""

    def convert(self, out: Array, u: Array, /) -> Array:
        """Copy u into `out`, which may be of another precision, and return that."""

    def restate(self, out: Array, b: Array, u: Array, stencil: ConstantStencil, /) -> float:
        """Write b - A u into `out`, which may be of lower precision; return its norm."""

    def correct(self, out: Array, b: Array, u: Array, correction: Array, fresh: bool, stencil: ConstantStencil, /) -> float:
        """Add a correction to u, or copy it to u where that is `fresh`; then write b - A u into `out` and return its norm."""

    def weighted_sum(self, u: Array, weights: Weights, /) -> float:
        """Return the sum of w u, w the product of one weight per axis."""

    def weighted_inner(self, u: Array, v: Array, weights: Weights, /) -> float:
        """Return the sum of w u v, w the product of one weight per axis."""

    def semi_iterate(
        self, previous: Array, b: Array, u: Array, gain: float, weight: float, stencil: ConstantStencil, /
    ) -> Array:
        """Return weight (u + gain D^-1 (b - A u)) + (1 - weight) previous; `previous` may be overwritten."""

    def relax_color(self, u: Array, b: Array, omega: float, color: int, backward: bool, stencil: ConstantStencil, /) -> None:
        """Relax the points of one color in place; u must be `writable`."""

    def relax_lexicographic(self, u: Array, b: Array, omega: float, backward: bool, stencil: ConstantStencil, /) -> None:
        """Relax all points in place, one after the other; u must be `writable`."""

    def add_separable(self, out: Array, u: Array, tables: SeparableTables, /) -> Array:
        """Return out + (T0 x T1 x T2) u; `out` may be overwritten."""

    def correlate(self, extended: Array, weights: Array, strides: tuple[int, ...], /) -> Array:
        """Return the cross-correlation sum_j weights[j] extended[stride i + j] for all i whose terms lie inside."""


def take(array: Any) -> TypeGuard[NDArray[Any]]:
    """Whether an array is taken as it is: one of NumPy, float32 or float64."""
    return type(array) is np.ndarray and array.dtype.char in "fd"


def of(array: Any) -> Backend:
    """Return the backend that serves this array.

    Raises TypeError where there is none.
    """
    if isinstance(array, np.ndarray):
        return cpu
    if hasattr(array, "index_select"):  # a tensor
        from . import slices

        return slices  # type: ignore[return-value]
    kind = type(array)
    raise TypeError(
        f"no kernels for arrays of type {kind.__module__}.{kind.__qualname__}; supported: numpy.ndarray, torch.Tensor"
    )
