"""The operator with coefficients that vary on the rows of a process, and what all processes know of the whole one."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..stencil.coupled import CoupledOperator, Faces, relative_volumes
from ..stencil.grid import Grid
from ..stencil.masks import Domain, conducting
from ..stencil.robin import Exchange, least_eigenvalue, without_weak_sides
from .rows import Rows

Array = NDArray[Any]
Numbers = NDArray[np.float64]


class Whole(NamedTuple):
    """What all processes know: the whole grid, and alpha of its Robin sides."""

    grid: Grid
    exchange: Exchange


class Local(NamedTuple):
    """What an operator is made of, on the rows of a process, in the order of `CoupledOperator`; in 1-D, of one column."""

    grid: Grid
    faces: Faces
    reaction: Any
    domain: Domain | None
    exchange: Exchange


@final
class BlockOperator(CoupledOperator):
    """A on the rows of a process. Arguments have their halos filled; norms and bounds are those of the whole grid."""

    def __init__(self, local: Local, whole: Whole, rows: Rows) -> None:
        super().__init__(*local)
        self.whole, self.rows = whole, rows
        void = self.domain is not None and self.domain.void is not None
        self._has_void = rows.maxima(float(void))[0] > 0.0
        # Not in the lock of a cached property, where threads of one process would wait for each other.
        vars(self)["_form"] = CoupledOperator._form.func(self)  # type: ignore[attr-defined]
        # At once: properties that are found when first asked for would have to be asked for by all processes alike.
        own = [-float(self._owned_faces(face, axis).min()) for axis, face in enumerate(self.faces[: whole.grid.ndim])]
        least = rows.maxima(*own, -float(np.min(self.reaction_field)), self._own_norm_bound())
        *negated, reaction, self._norm_bound = least
        self._least, self._reaction = [-each for each in negated], -reaction

    def __reduce__(self) -> Any:
        raise TypeError("an operator on several processes cannot be pickled")

    def _owned_faces(self, values: Array, number: int) -> Array:
        owned = self.rows.part.owned
        return values[owned.start : owned.stop + (number == 0)]

    def _own_norm_bound(self) -> float:
        shape, owned = self.grid.shape, self.rows.part.owned
        sums = 2.0 * self.stencil.diagonal.reshape(shape)[owned] - self.stencil.excess.reshape(shape)[owned]
        return float((sums if self.volumes is None else sums / self.volumes[owned]).max())

    def _size(self, excess: Numbers, couplings: Numbers) -> float:  # type: ignore[override]
        owned = self.rows.part.owned
        largest = self.rows.maxima(float(excess[owned].max()), float(couplings[:, owned].max(initial=0.0)))
        return sum(largest)

    @property
    def reaction(self) -> float:
        return self._reaction

    @property
    def keeps_constants(self) -> bool:
        return np.ndim(self.reaction_field) == 0 and not self.whole.exchange

    @property
    def least(self) -> float:  # type: ignore[override]
        return min(self._least)

    @cached_property
    def volumes(self) -> Numbers | None:
        if all((axis.weights / axis.h == 1.0).all() for axis in self.whole.grid.axes):
            return None
        own = relative_volumes(self.grid)
        return np.ones(self.grid.shape) if own is None else own

    @property
    def has_void(self) -> bool:
        return self._has_void

    @property
    def conducting(self) -> CoupledOperator:
        if not self.has_void:
            return self

        def least_of(values: Numbers, there: NDArray[np.bool_], number: int) -> float:
            values, there = (self._owned_faces(each, number) for each in (values, there))
            found, largest = self.rows.maxima(-float(values[~there].min(initial=np.inf)), float(values.max()))
            return min(-found, largest)

        assert self.domain is not None
        grid, exchange = self.grid, self.exchange
        faces, reaction, domain = conducting(self.domain, grid, self.faces, self.reaction_field, least_of)
        return BlockOperator(Local(grid, faces, reaction, domain, exchange), self.whole, self.rows)

    @property
    def without_weak_sides(self) -> CoupledOperator:
        kept = without_weak_sides(self.exchange, self.grid, self.faces)
        if not any(self.rows.maxima(float(kept is not self.exchange))):
            return self
        return BlockOperator(Local(self.grid, self.faces, self.reaction_field, self.domain, kept), self.whole, self.rows)

    @property
    def norm_bound(self) -> float:  # type: ignore[override]
        return self._norm_bound

    @property
    def smallest_eigenvalue(self) -> float:  # type: ignore[override]
        if self.has_void:
            return float(np.finfo(np.float64).tiny)  # as of one process
        return least_eigenvalue(self.whole.grid, self._least, self.whole.exchange, self.reaction)

    def __call__(self, u: Array) -> Array:
        return super().__call__(self.rows.fill(u))

    def residual(self, f: Array, u: Array | None) -> Array:
        if u is not None and self.volumes is None:  # else the call of A fills it
            self.rows.fill(u)
        return super().residual(f, u)

    def residual_norm(self, f: Array, u: Array | None) -> float:
        return self.rows.norm(self.residual(f, u))

    def magnitude(self, u: Array) -> float:
        return self.rows.norm(self._divided(2.0 * self.stencil.diagonal.reshape(self.grid.shape) * u))
