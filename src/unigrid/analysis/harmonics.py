"""Sets of waves that look alike on the coarser grids of a cycle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from .symbols import Reals, Symbols


@final
@dataclass(frozen=True, eq=False)
class Waves:
    """Sets of H waves: theta + 2 pi k / M for all index vectors 0 <= k < M, in the order of memory.

    Attributes
    ----------
    frequencies : ndarray, (..., H, axes)
    counts : tuple of int
        M along each axis; H is their product.
    """

    frequencies: Reals
    counts: tuple[int, ...]

    @staticmethod
    def of(base: Reals, counts: tuple[int, ...]) -> Waves:
        """Return the sets to which the base frequencies (..., axes) belong."""
        return Waves(base[..., None, :] + 2 * np.pi * _indices(counts) / counts, counts)

    @property
    def partners(self) -> NDArray[np.int64]:
        """The place of theta + (pi, .., pi), (H,); where M is odd it is not there, and nobody may ask."""
        shifted = (_indices(self.counts) + np.array(self.counts) // 2) % self.counts
        return np.ravel_multi_index(tuple(shifted.T), self.counts)

    def coarsened(self, factors: tuple[int, ...]) -> Waves:
        """Return the waves of the grid coarser by m. There theta is m theta: all k that are equal modulo M / m look alike."""
        counts = self._coarse(factors)
        first = np.ravel_multi_index(tuple(_indices(counts).T), self.counts)
        return Waves(self.frequencies[..., first, :] * factors, counts)

    def folded(self, amplitudes: Symbols, factors: tuple[int, ...]) -> Symbols:
        """Return amplitudes (..., H, any number) on the coarser grid: the sums over the waves that look alike."""
        axes = list(zip(factors, self._coarse(factors), strict=True))
        columns = amplitudes.shape[-1]
        split = amplitudes.reshape(*amplitudes.shape[:-2], *itertools.chain(*axes), columns)
        first = amplitudes.ndim - 2
        summed: Symbols = split.sum(axis=tuple(range(first, first + 2 * len(axes), 2)))
        return summed.reshape(*amplitudes.shape[:-2], -1, columns)

    def repeated(self, amplitudes: Symbols, factors: tuple[int, ...]) -> Symbols:
        """Return amplitudes of the coarser grid (..., coarse H, any number) for each wave that looks so there."""
        counts = self._coarse(factors)
        alias = np.ravel_multi_index(tuple((_indices(self.counts) % counts).T), counts)
        return amplitudes[..., alias, :]

    def _coarse(self, factors: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(count // factor for count, factor in zip(self.counts, factors, strict=True))


def _indices(counts: tuple[int, ...]) -> NDArray[np.int64]:
    return np.array(list(np.ndindex(*counts)), dtype=np.int64)
