"""Checks of grid arrays: real numbers, in single or double precision, all of them finite."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


def real_array(array: ArrayLike, name: str) -> Array:
    """Return `array` as float32 or float64; integers and half precision are promoted. Raises TypeError if it is not real."""
    if type(array).__module__.partition(".")[0] == "torch":
        raise TypeError(f"{name} must be a NumPy array, got a {type(array).__name__}; give {name}.detach().cpu().numpy()")
    if np.ma.is_masked(array):
        raise TypeError(f"{name} has masked values, which have no meaning here; fill them first, with {name}.filled(value)")
    try:
        array = np.asarray(array)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} must be an array of real numbers: {error}") from None
    if array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return array.astype(np.float32, copy=False)
    if array.dtype.kind in "biuf" and array.dtype.itemsize <= 8:
        return array.astype(np.float64, copy=False)
    raise TypeError(f"{name} must be an array of real numbers (float32, float64, integers), got dtype {array.dtype}")


def _all_finite(array: Array) -> bool:
    """Whether no value is NaN or infinite; without an array of truth values. Both extremes are NaN where one value is."""
    return array.size == 0 or (math.isfinite(array.min()) and math.isfinite(array.max()))


def finite_array(array: ArrayLike, name: str) -> Array:
    """Return `array` as `real_array` does; raise ValueError with the first index where it is NaN or infinite."""
    array = real_array(array, name)
    if not _all_finite(array):
        bad = np.argwhere(~np.isfinite(array))
        index = tuple(int(i) for i in bad[0])
        place = f"{name}[{', '.join(map(str, index))}]" if index else "it"
        raise ValueError(f"{name} must be finite, but {place} is {array[index]} ({len(bad)} such in all)")
    return array
