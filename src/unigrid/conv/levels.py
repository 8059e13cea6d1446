"""ConvCycle: the same `MultigridCycle`, its levels and slots modules of a network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..cycle import Level, MultigridCycle, Operator, Prolongation, Restriction, SlotLevel, Smoother, StateTransfer
from ..messages import choose
from .slots import UnusedOperator, operator_of_step

Array = NDArray[Any]


@final
class ConvLevel(nn.Module, SlotLevel):
    """One level, slot by slot: the slots of a `SlotLevel` as parts of a network.

    Parameters
    ----------
    operator : Operator
        A. A slot that is an `nn.Module` is registered, any other is only kept.
    smoother : Smoother
        S, all smoothing steps of the way down.
    restriction, state_transfer, prolongation : optional
        R, Pi and P to and from the next level; the coarsest has none, and MgNet has no P at all.
    post_smoother : Smoother, optional
        The smoothing steps of the way up.

    A module that several levels share is owned by one of them and held by the others as `Borrowed`:
    ConvOperator(Borrowed(convolution)). Forward hooks work on smoothers, R and Pi; for A and P, of which the cycle calls other
    methods, hook `.convolution`.

    Raises
    ------
    TypeError
        If a slot has another type, such as nn.Conv2d for an Operator.
    """

    def __init__(
        self,
        operator: Operator,
        smoother: Smoother,
        restriction: Restriction | None = None,
        state_transfer: StateTransfer | None = None,
        prolongation: Prolongation | None = None,
        post_smoother: Smoother | None = None,
    ) -> None:
        super().__init__()
        slots: tuple[tuple[str, Any, type], ...] = (
            ("operator", operator, Operator),
            ("smoother", smoother, Smoother),
            ("restriction", restriction, Restriction),
            ("state_transfer", state_transfer, StateTransfer),
            ("prolongation", prolongation, Prolongation),
            ("post_smoother", post_smoother, Smoother),
        )
        for name, given, kind in slots:
            if not isinstance(given, kind) and (given is not None or name in ("operator", "smoother")):
                raise TypeError(f"{name} must be a unigrid.{kind.__name__}, got {type(given).__name__}")
            setattr(self, name, given)


@dataclass(frozen=True, eq=False)
class LevelState:
    """The contents of a level when the cycle left it for the last time.

    `data` is f, `features` is u, and `residual` is f - A u: the data that the features do not explain; None where A is never
    applied, and so has no weights. Tensors of a network, arrays of a `StencilCycle`.
    """

    data: Any
    features: Any
    residual: Any


@final
class ConvCycle(nn.Module, MultigridCycle):
    """A multigrid cycle that is a network: `cycle(f)` and `cycle(f, u)` return u after one cycle.

    Parameters
    ----------
    levels : sequence of Level
        Finest first, each an `nn.Module`.
    kind : "V", "W" or "F"
        How the levels are visited. MgNet is a "V" on whose levels nothing ascends.

    Examples
    --------
    >>> import torch
    >>> from unigrid.conv import ConvCycle, ConvLevel, ConvOperator, FeatureExtraction, Extraction
    >>> def conv(): return torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
    >>> B = Extraction(conv(), (torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)), torch.nn.ReLU())
    >>> cycle = ConvCycle([ConvLevel(ConvOperator(conv()), FeatureExtraction([B]))])
    >>> cycle(torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, levels: Sequence[Level], kind: str = "V") -> None:
        super().__init__()
        self.kind = choose(kind, ("V", "W", "F"), "kind of cycle")
        levels = list(levels)
        if not levels:
            raise ValueError("a cycle needs at least one level, got none")
        if kind != "V" and any(getattr(level, "prolongation", None) is None for level in levels[:-1]):
            raise ValueError(f"kind {kind!r} visits a level more than once, so every level but the last needs a prolongation")
        self.levels = nn.ModuleList(levels)  # type: ignore[assignment,arg-type]

    def forward(self, f: Any, u: Any = None) -> Any:
        """Return u after one cycle, a tensor for tensors (n, channels, h, w); for arrays (h, w), of one channel, an array."""
        return self._on_arrays(f, u) if isinstance(f, np.ndarray) else self.cycle(f, u)

    @torch.no_grad()
    def _on_arrays(self, f: Array, u: Array | None) -> Array:
        if f.ndim != 2 or (u is not None and u.shape != f.shape):
            shapes = f"f {f.shape}" + ("" if u is None else f" and u {u.shape}")
            raise ValueError(f"arrays of a cycle of convolutions have two axes, rows and columns, f and u alike; got {shapes}")
        weight = next(itertools.chain(self.parameters(), self.buffers()))
        data, state = (None if array is None else torch.tensor(array.copy()).to(weight)[None, None] for array in (f, u))
        try:
            result = self.cycle(data, state)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"the network takes no grid of shape {f.shape}, its levels do not nest: {reason}") from error
        array: Array = result[0, 0].detach().cpu().double().numpy().astype(f.dtype, copy=False)  # NumPy lacks bfloat16
        return array

    def trace(self, f: Tensor, u: Tensor | None = None) -> tuple[Tensor, list[LevelState]]:
        """Return u after one cycle, and the last state of every level, finest first."""
        return traced(self, f, u)


def traced(cycle: MultigridCycle, f: Any, u: Any = None) -> tuple[Any, list[LevelState]]:
    """Return u after one cycle, and the last state of every level, of a cycle of any backend."""
    recorder, levels = MultigridCycle(), [_RecordedLevel(level) for level in cycle.levels]
    recorder.kind, recorder.levels = cycle.kind, levels
    return recorder.cycle(f, u), [level.state for level in levels]


class _RecordedLevel(Level):
    state: LevelState

    def __init__(self, level: Level) -> None:
        self.level, self.operator = level, level.operator

    def descend(self, f: Tensor, u: Tensor | None, coarser: Level | None) -> tuple[Tensor, Tensor, Tensor | None]:
        u, coarse_f, start = self.level.descend(f, u, coarser)
        self._record(f, u)
        return u, coarse_f, start

    def ascend(self, f: Tensor, u: Tensor, start: Tensor | None, coarse: Tensor) -> Tensor:
        u = self.level.ascend(f, u, start, coarse)
        if getattr(self.level, "prolongation", None) is not None:  # else u is a coarser level's: this one keeps what it had
            self._record(f, u)
        return u

    def _record(self, f: Tensor, u: Tensor | None) -> None:
        unused = isinstance(operator_of_step(self.operator, -1), UnusedOperator)
        residual = None if unused and u is not None else self.operator.residual(f, u)
        self.state = LevelState(f, u, residual)
