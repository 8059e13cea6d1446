"""Rows that change hands: from the blocks that users have to those that are solved on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .communicator import Communicator

Array = NDArray[Any]


def moved(block: Array, held: Sequence[int], wanted: Sequence[int], comm: Communicator) -> Array:
    """Return rows wanted[rank] to wanted[rank + 1] of what all processes have, of which this one has held[rank] to the next.

    Rows that no one holds are zero.
    """
    rank = comm.rank
    first, last = wanted[rank], wanted[rank + 1]
    rows = np.zeros((last - first, *block.shape[1:]), block.dtype)
    sent, received = [], []
    for other in range(comm.size):
        low, high = _common(held[rank:], wanted[other:])
        if low < high:
            sent.append((other, np.ascontiguousarray(block[low - held[rank] : high - held[rank]])))
        low, high = _common(held[other:], wanted[rank:])
        if low < high:
            received.append((other, rows[low - first : high - first]))
    comm.exchange(sent, received)
    return rows


def _common(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """Return the rows that two ranges have in common, each given by its first row and its end."""
    return max(one[0], other[0]), min(one[1], other[1])
