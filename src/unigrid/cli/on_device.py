"""`unigrid solve --device cuda`: u from a GPU, as an array again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..solution import Solution


def solved_on(name: str, cycle: Any, f: NDArray[Any], given: dict[str, Any]) -> Solution:
    """Return the Solution of a cycle for f, found on the device of this name. Raises UsageError where there is none."""
    options.load_learned()
    import torch

    from ..training.runs.devices import device_named

    with options.user_errors():
        device = device_named(name)
        backend = "torch" if device.type == "cpu" else None  # on a CPU by torch too, as that is asked for
        solution = cycle.solve(torch.from_numpy(f).to(device), **given, backend=backend)
    return replace(solution, u=solution.u.cpu().numpy())
