"""What users give to an analysis, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..cycle import Prolongation, Restriction
from ..messages import choose
from ..stencil.grid import Grid
from ..stencil.hierarchy import StencilCycle
from ..stencil.problem import Poisson
from ..stencil.smoothers import SMOOTHERS
from ..stencil.transfers import TransferRecipe
from .stencils import StencilOnGrid, endless
from .symbols import Reals, center, checked_stencil

COARSE = ("rediscretized", "galerkin")


def finest_operator(operator: Any, spacing: Any, centering: str | None) -> StencilOnGrid:
    """Return the operator of the finest level from a problem or a bare stencil."""
    if isinstance(operator, Poisson):
        if spacing is not None or centering is not None:
            raise ValueError("spacing and centering belong to a bare stencil; a problem has its own")
        grid = operator.grid
        return StencilOnGrid.of_poisson(grid, operator.reaction)
    if isinstance(operator, StencilCycle):
        raise TypeError("operator must be a problem or a stencil; a StencilCycle goes to FourierAnalysis.of()")
    stencil = checked_stencil(operator)
    if not 1 <= stencil.ndim <= 3:
        raise ValueError(f"stencils of 1, 2 or 3 axes can be analyzed, got shape {stencil.shape}")
    if center(stencil) == 0.0:
        raise ValueError("the middle of the stencil, the diagonal of the operator, is 0: no smoother here can divide by it")
    centering = choose(centering or "vertex", ("vertex", "cell"), "centering")
    return StencilOnGrid(stencil, _grid(stencil.ndim, spacing, centering), 0.0, False)


def _grid(ndim: int, spacing: Any, centering: str) -> Grid:
    distances = np.asarray(1.0 if spacing is None else spacing, dtype=np.float64)
    if distances.ndim == 0:
        distances = np.full(ndim, float(distances))
    if distances.shape != (ndim,) or not np.isfinite(distances).all() or (distances <= 0).any():
        raise ValueError(f"spacing must be a positive number, or one for each of {ndim} axes, got {spacing!r}")
    return endless([float(h) for h in distances], centering)


def named_smoother(smoother: Any) -> Any:
    """Return the smoother, made if it is named; whether it has a symbol shows when that is asked for."""
    return SMOOTHERS[choose(smoother, SMOOTHERS, "smoother")]() if isinstance(smoother, str) else smoother


def named_recipe(given: Any, named: Any, what: str) -> TransferRecipe:
    """Return the recipe, made if it is named."""
    if isinstance(given, str):
        recipe: TransferRecipe = named[choose(given, named, what)]()
        return recipe
    if isinstance(given, TransferRecipe):
        return given
    slot = " that fits one size only" if isinstance(given, Restriction | Prolongation) else ""
    raise TypeError(
        f"{what} must be one of {', '.join(map(repr, named))} or a unigrid.TransferRecipe, whose between(fine, coarse) makes "
        f"the transfer on the grid of the analysis; got {type(given).__name__}{slot}"
    )


def checked_stencils(stencils: Sequence[ArrayLike], ndim: int) -> list[Reals]:
    """Return the operators of the coarser levels, given as stencils."""
    if not isinstance(stencils, Iterable):
        raise TypeError(f"coarse must be {', '.join(map(repr, COARSE))}, or a sequence of stencils, got {stencils!r}")
    checked = [checked_stencil(stencil) for stencil in stencils]
    if not checked or any(stencil.ndim != ndim for stencil in checked):
        raise ValueError(f"coarse must be {', '.join(map(repr, COARSE))}, or a stencil of {ndim} axes for each coarser level")
    return checked
