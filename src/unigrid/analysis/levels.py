"""The levels of a `MultigridCycle` on Fourier modes: its states are arrays of amplitudes, (..., H, columns).

H harmonics per base frequency, which coincide on the coarser grids; the columns are independent states. For b = 0 and u = I a
cycle returns its error matrix E.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..cycle import Prolongation, Restriction, SlotLevel, Smoother
from .stencils import TransferStencils
from .symbols import OperatorSymbol, Reals, Symbols


@final
@dataclass(frozen=True, eq=False)
class Harmonics:
    """Sets of H modes: theta + 2 pi k / M for all index vectors 0 <= k < M, in row-major order.

    Attributes
    ----------
    frequencies : ndarray, (..., H, axes)
    counts : tuple of int
        M along each axis; H is their product.
    """

    frequencies: Reals
    counts: tuple[int, ...]

    @staticmethod
    def of(base: Reals, counts: tuple[int, ...]) -> Harmonics:
        """Return the sets to which the base frequencies (..., axes) belong."""
        return Harmonics(base[..., None, :] + 2 * np.pi * _indices(counts) / counts, counts)

    @property
    def partners(self) -> NDArray[np.int64]:
        """The index of theta + (pi, .., pi), (H,); meaningless where M is odd, as the set does not contain it."""
        return self._shifted(np.ones(len(self.counts), dtype=np.int64))

    @property
    def shifts(self) -> NDArray[np.int64]:
        """The index of theta + pi along each axis, (axes, H); meaningless where M is odd there."""
        return np.array([self._shifted(axis) for axis in np.eye(len(self.counts), dtype=np.int64)])

    def _shifted(self, axes: NDArray[np.int64]) -> NDArray[np.int64]:
        shifted = (_indices(self.counts) + axes * (np.array(self.counts) // 2)) % self.counts
        return np.ravel_multi_index(tuple(shifted.T), self.counts)

    def coarsened(self, factors: tuple[int, ...]) -> tuple[Harmonics, Reals]:
        """Return the harmonics of the grid coarsened by m, and the matrix, (coarse H, H), of 1 where a mode coincides with one.

        There theta becomes m theta, and all k equal modulo M / m coincide.
        """
        counts = tuple(count // factor for count, factor in zip(self.counts, factors, strict=True))
        alias = np.ravel_multi_index(tuple((_indices(self.counts) % counts).T), counts)
        coincide = alias == np.arange(math.prod(counts))[:, None]
        return Harmonics(self.frequencies[..., coincide.argmax(axis=1), :] * factors, counts), coincide.astype(np.float64)


def _indices(counts: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array(list(np.ndindex(*counts)), dtype=np.int64)


@final
@dataclass(frozen=True, eq=False)
class SmootherSymbol(Smoother):
    """S on amplitudes: u <- e* - S (e* - u) with e* = A^-1 b and the error symbol S, (..., H) or (..., H, H)."""

    error: Symbols

    def __call__(self, operator: OperatorSymbol, b: Symbols, u: Symbols | None) -> Symbols:
        exact = operator.inverse[..., None] * b
        error = exact if u is None else exact - u
        return exact - (self.error @ error if self.error.ndim == error.ndim else self.error[..., None] * error)


@final
@dataclass(frozen=True, eq=False)
class TransferSymbol(Restriction, Prolongation):
    """R or P on amplitudes: matrices (..., coarse H, H), or (..., H, coarse H)."""

    matrices: Symbols

    def __call__(self, amplitudes: Symbols) -> Symbols:
        return self.matrices @ amplitudes


@final
@dataclass(eq=False)
class SymbolLevel(SlotLevel):
    """One level, its slots filled with symbols; the coarsest has no transfers."""

    operator: OperatorSymbol
    smoother: SmootherSymbol | None
    post_smoother: SmootherSymbol | None = None
    restriction: Any = None
    prolongation: TransferSymbol | None = None
    state_transfer: None = None


def transfer_symbols(
    transfers: TransferStencils, operator: OperatorSymbol, aliasing: Reals
) -> tuple[TransferSymbol, TransferSymbol]:
    """Return R and P between the level of this operator and the next: symbols of their stencils, then or before aliasing."""
    down = operator.of(transfers.restriction)
    up = operator.of(np.flip(transfers.prolongation)) / math.prod(transfers.factors)
    return TransferSymbol(aliasing * down[..., None, :]), TransferSymbol(up[..., None] * aliasing.T)
