"""Placeholder: V-cycles on small levels in one compiled call, decided by measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class SmallLevels:
    """None of these yet."""

    def __call__(self, f: NDArray[np.floating]) -> NDArray[np.floating]:
        """Never called."""
        raise NotImplementedError

    @staticmethod
    def of(half_cycles: Any, inverse: Any) -> SmallLevels | None:
        """Return None."""
        return None
