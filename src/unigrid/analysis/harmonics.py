"""Harmonics: sets of Fourier modes that coincide on the coarser grids of a cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from .symbols import Reals


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
        shifted = (_indices(self.counts) + np.array(self.counts) // 2) % self.counts
        return np.ravel_multi_index(tuple(shifted.T), self.counts)

    def coarsened(self, factors: tuple[int, ...]) -> Harmonics:
        """Return the harmonics of the grid coarsened by m: theta becomes m theta, and all k equal modulo M / m coincide."""
        counts = self._coarse_counts(factors)
        first = np.ravel_multi_index(tuple(_indices(counts).T), self.counts)
        return Harmonics(self.frequencies[..., first, :] * factors, counts)

    def aliasing(self, factors: tuple[int, ...]) -> Reals:
        """Return the matrix, (coarse H, H), of 1 where a mode coincides with the mode of the coarser grid, 0 elsewhere."""
        counts = self._coarse_counts(factors)
        alias = np.ravel_multi_index(tuple((_indices(self.counts) % counts).T), counts)
        return np.asarray(alias == np.arange(math.prod(counts))[:, None], dtype=np.float64)

    def _coarse_counts(self, factors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(count // factor for count, factor in zip(self.counts, factors, strict=True))


def _indices(counts: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array(list(np.ndindex(*counts)), dtype=np.int64)
