"""The levels of a `MultigridCycle` on Fourier modes: its states are arrays of amplitudes, (..., H, columns).

H harmonics per base frequency; the columns are independent states. For b = 0 and u = I a cycle returns its error matrix E.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ..cycle import Prolongation, Restriction, SlotLevel, Smoother
from .harmonics import Harmonics
from .stencils import TransferStencils
from .symbols import OperatorSymbol, Symbols


@final
@dataclass(frozen=True, eq=False)
class SmootherSymbol(Smoother):
    """S on amplitudes: u <- e* - S (e* - u) with e* = A^-1 b and the error symbol S, (..., H) or (..., H, H)."""

    error: Symbols

    def __call__(self, operator: OperatorSymbol, b: Symbols, u: Symbols | None) -> Symbols:
        exact = operator.inverse[..., None] * b
        error = exact if u is None else exact - u
        return exact - (self.error @ error if self.error.ndim == error.ndim else self.error[..., None] * error)


@final
@dataclass(frozen=True, eq=False)
class TransferSymbol(Restriction, Prolongation):
    """R or P on amplitudes: matrices (..., coarse H, H), or (..., H, coarse H)."""

    matrices: Symbols

    def __call__(self, amplitudes: Symbols) -> Symbols:
        return self.matrices @ amplitudes


@final
@dataclass(eq=False)
class SymbolLevel(SlotLevel):
    """One level, its slots filled with symbols; the coarsest has no transfers."""

    operator: OperatorSymbol
    smoother: SmootherSymbol | None
    post_smoother: SmootherSymbol | None = None
    restriction: Any = None
    prolongation: TransferSymbol | None = None
    state_transfer: None = None


def transfer_symbols(
    transfers: TransferStencils, operator: OperatorSymbol, harmonics: Harmonics
) -> tuple[TransferSymbol, TransferSymbol]:
    """Return R and P between the level of this operator and the next: symbols of their stencils, then or before aliasing."""
    aliasing = harmonics.aliasing(transfers.factors)
    down = operator.of(transfers.restriction)
    up = operator.of(np.flip(transfers.prolongation)) / math.prod(transfers.factors)
    return TransferSymbol(aliasing * down[..., None, :]), TransferSymbol(up[..., None] * aliasing.T)
