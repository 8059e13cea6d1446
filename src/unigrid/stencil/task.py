"""One solve, as all ways of iterating see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from ..iterate import System, Tolerance
from ..solution import Solution

if TYPE_CHECKING:
    from .adopted import AdoptedCycle
    from .hierarchy import StencilCycle

Array = NDArray[np.floating]


@final
@dataclass(frozen=True, eq=False)
class Task:
    """What is solved, by which cycle, from where, how far, and who looks on.

    cycle : what one iteration is made of
    f : the source, for full multigrid; `system.b` is the right-hand side made of it
    u : where to begin; None is zero
    system, tolerance : as the driver wants them
    nested : whether the first iteration is full multigrid
    callback : sees each iterate, if there is one
    """

    cycle: StencilCycle | AdoptedCycle
    f: Array
    u: Array | None
    system: System
    tolerance: Tolerance
    nested: bool
    callback: Callable[[Solution], Any] | None
