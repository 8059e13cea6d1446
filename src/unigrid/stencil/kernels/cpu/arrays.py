"""Grid arrays in the kernels' memory layout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..workspace import copy

Array = NDArray[np.floating]


def writable(array: Array) -> Array:
    """Return the array where it is writable and C-contiguous, the layout that kernels are compiled for; else a copy."""
    return array if array.flags.c_contiguous and array.flags.writeable else copy(array)


def as_box(array: Array) -> Array:
    """Return a view of the array, or of a copy in the kernels' memory layout, as a box of three axes."""
    array = writable(array)
    return array.reshape((1,) * (3 - array.ndim) + array.shape)


def slab_count(box: Array) -> int:
    """Return the number of slabs: planes in 3-D, rows in 2-D."""
    return box.shape[0] if box.shape[0] > 1 else box.shape[1]
