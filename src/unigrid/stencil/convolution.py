"""Convolutions of grid arrays: the counterpart, in NumPy, of a padded `nn.Conv2d` of one channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from ..reflection import Depths, Sides, extended
from . import kernels

Array = NDArray[np.floating]


@final
@dataclass(frozen=True, eq=False)
class Convolution:
    """(K * r)_i = sum_j K_j r_(stride i + j - low): a cross-correlation, as `torch.nn.functional.conv2d` computes it.

    Parameters
    ----------
    weights : ndarray
        K, as many axes as the grid.
    sides : Sides
        The reflections beyond the ends of every axis.
    depths : Depths
        How many values beyond either end take part.
    strides : tuple of int
    """

    weights: NDArray[np.float64]
    sides: Sides
    depths: Depths
    strides: tuple[int, ...]

    def __call__(self, array: Array) -> Array:
        return kernels.of(array).correlate(extended(array, self.sides, self.depths, np.concatenate), self.weights, self.strides)

    @staticmethod
    def centered(weights: NDArray[np.float64], sides: Sides) -> Convolution:
        """Return a convolution of 3 weights per axis that keeps the grid."""
        return Convolution(weights, sides, ((1, 1),) * weights.ndim, (1,) * weights.ndim)
