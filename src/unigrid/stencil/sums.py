"""Sums of many numbers that cancel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def exact_sum(values: NDArray[Any]) -> float:
    """Return the sum of an array, rounded once."""
    return math.fsum(exact_parts(values))


def exact_parts(values: NDArray[Any]) -> list[float]:
    """Return a few numbers with the sum of an array, which are exact.

    Adding a large power of two and taking it off again splits off the leading bits of all values, whose sum is exact.

    Source: S. Rump, T. Ogita, S. Oishi, Accurate floating-point summation, SIAM J. Sci. Comput. 31 (2008), algorithm 3.1.
    """
    rest = np.array(values, dtype=np.float64)
    sums = []
    while largest := float(np.abs(rest).max(initial=0.0)):
        power = math.ldexp(1.0, math.frexp(largest)[1] + (rest.size + 2).bit_length())
        leading = (rest + power) - power
        sums.append(float(leading.sum()))
        rest -= leading
    return sums
