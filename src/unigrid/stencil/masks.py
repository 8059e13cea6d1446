"""Domains of any shape in a box: where there are unknowns, where u is given, and where there is nothing at all.

A coupling of an unknown to a given value is Dirichlet data: part of the excess, its value part of b. A coupling to where there
is nothing is dropped: no flux crosses there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..messages import plain_number, shown
from .grid import Axis, Grid, real_array

Array = NDArray[np.floating]
Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]
NATURAL = "natural"
# What voids conduct where coarse levels are made of the operator, as a part of the least that the domain conducts. Without it,
# P is constant across steps of a rim: factors of a cycle at 255^2 are .52 for a disc, .69 for an annulus, .92 for noise, in
# place of .06, .06, .56. With 1e-3, slits take 7 iterations at 255^2 and 9 at 511^2; with 1e-5, 5 and 5. Beside a reaction c
# they conduct c h^2, as P would take it for a wall otherwise (noise, 255^2, c h^2 = 1e-4: 50 iterations, not 10).
WEAK = 1e-5


@final
@dataclass(frozen=True, eq=False)
class Domain:
    """Which points of a grid are unknowns, and what u is elsewhere; arrays of the grid's shape.

    unknown, given : where there are unknowns, and where u is given
    values : u where it is given; 0 elsewhere. NaN may stand where no unknown is coupled to it.
    origin : where the first point lies in the user's box
    """

    unknown: Truth
    given: Truth
    values: Numbers
    origin: tuple[int, ...]

    @staticmethod
    def of(grid: Grid, mask: Any, outside: Any, fixed: Any) -> Domain:
        """Return the domain that a user describes; see `Poisson`. Raises ValueError or TypeError."""
        domain = Domain.described(grid.shape, mask, outside, fixed)
        if not domain.unknown.any():
            is_empty = mask is not None and not np.any(mask)
            reason = "mask is False everywhere" if is_empty else "fixed gives u wherever mask is True"
            raise ValueError(f"{reason}: there is no unknown")
        domain.refuse_unusable(grid)
        return domain

    @staticmethod
    def described(shape: tuple[int, ...], mask: Any, outside: Any, fixed: Any) -> Domain:
        """Return the domain but for checks that need all of it."""
        if mask is None and plain_number(outside) != 0:
            raise ValueError(f"outside is what u is where mask is False, got {shown(outside)}; give mask too")
        inside = np.ones(shape, bool) if mask is None else _truth(mask, shape, "mask", "there is an unknown")
        where, held = _fixed(fixed, inside)
        unknown = inside & ~where
        if isinstance(outside, str):
            if outside != NATURAL:
                raise ValueError(f"outside must be a number, an array of f's shape or {NATURAL!r}, got {shown(outside)}")
            return Domain(unknown, where, np.where(where, held, 0.0), (0,) * len(shape))
        values = np.where(where, held, np.where(inside, 0.0, _values(outside, shape, "outside")))
        return Domain(unknown, ~unknown, values, (0,) * len(shape))

    def mapped(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Domain:
        """Return the domain of whose arrays each is changed."""
        return replace(self, unknown=change(self.unknown), given=change(self.given), values=change(self.values))

    def refuse_unusable(self, grid: Grid) -> None:
        """Raise ValueError where a given value is infinite, or NaN beside an unknown."""
        self.refuse_infinite()
        _refuse_missing(self.values, self.unknown, grid)

    def refuse_infinite(self) -> None:
        """Raise ValueError where a given value is infinite."""
        if np.isinf(self.values).any():
            place = first_place(np.isinf(self.values))
            raise ValueError(f"outside must be finite, but outside{place} is {self.values[*place]}")

    @cached_property
    def void(self) -> Truth | None:
        """Where there is neither an unknown nor a value; None where there is no such point."""
        void = ~(self.unknown | self.given)
        return void if void.any() else None

    @cached_property
    def is_whole(self) -> bool:
        """Whether there are unknowns everywhere."""
        return bool(self.unknown.all())


class Rim(NamedTuple):
    """Couplings of unknowns to points where u is given: the indices of both in raveled arrays, and the weights."""

    unknown: NDArray[np.int64]
    given: NDArray[np.int64]
    weights: Numbers

    def gathered(self, values: Numbers, shape: tuple[int, ...]) -> Numbers:
        """Return, at each unknown, the sum of its weights times the values; of nothing else."""
        size = int(np.prod(shape))
        gathered: Numbers = np.bincount(self.unknown, self.weights * values, size).astype(np.float64, copy=False)
        return gathered.reshape(shape)


def cut(
    domain: Domain | None, offsets: NDArray[np.int64], couplings: Numbers, excess: Numbers,
    size_of: Callable[[Numbers, Numbers], float],
) -> Rim:  # fmt: skip
    """Make the couplings that lead to given values part of the excess, and return them; drop those that lead to nothing.

    Elsewhere a row becomes a multiple of the identity, of a size that depends on excess and couplings.
    """
    nothing = np.zeros(0, np.int64)
    if domain is None:
        return Rim(nothing, nothing, np.zeros(0))
    unknown, given, parts = domain.unknown, domain.given, []
    size = size_of(excess, couplings) or 1.0
    for offset, coupling in zip(offsets, couplings, strict=True):
        step = offset[3 - unknown.ndim :]
        unknown_there, given_there = (_shifted(each, step) for each in (unknown, given))
        for out, inward in ((unknown & given_there, False), (given & unknown_there, True)):
            here = np.flatnonzero(out & (coupling != 0.0))
            places = np.unravel_index(here, unknown.shape)
            moved = [(place + by) % n for place, by, n in zip(places, step, unknown.shape, strict=True)]
            there = np.ravel_multi_index(moved, unknown.shape)
            parts.append(Rim(there if inward else here, here if inward else there, coupling.ravel()[here]))
        coupling[~(unknown & unknown_there)] = 0.0
    rim = Rim(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    excess += rim.gathered(np.ones(()), excess.shape)
    excess[~unknown] = size
    return rim


def row_size(excess: Numbers, couplings: Numbers) -> float:
    """Return the size of a row without an unknown: about that of the others."""
    return float(excess.max() + couplings.max(initial=0.0))


def _shifted(array: Truth, step: Sequence[int]) -> Truth:
    return np.roll(array, tuple(-int(by) for by in step), axis=tuple(range(array.ndim)))


def least_outside(values: Numbers, there: Truth) -> float:
    """Return the least value where `there` is False; the largest one where that is nowhere."""
    return float(values[~there].min(initial=float(values.max())))


def conducting(
    domain: Domain, grid: Grid, faces: tuple[Numbers, ...], reaction: Numbers,
    least_of: Callable[[Numbers, Truth, int], float] = lambda values, there, axis: least_outside(values, there),
) -> tuple[Any, ...]:  # fmt: skip
    """Return faces, reaction and domain with voids that conduct weakly: what coarse levels of natural sides are made of."""
    void = ~(domain.unknown | domain.given)
    field = reaction if not np.any(reaction) else np.where(void, 0.0, reaction)
    filled = []
    for number, (axis, own) in enumerate(zip(grid.axes, faces, strict=True)):
        beside = _beside(void, axis, number)
        least = least_of(own, beside, number)
        weak: Any = WEAK * least
        if np.any(field):
            steps = axis.steps.reshape([-1 if other == number else 1 for other in range(grid.ndim)])
            weak = np.clip(_beside(field, axis, number) * steps**2, weak, least)
        filled.append(np.where(beside, weak, own))
    return tuple(filled), field, replace(domain, unknown=domain.unknown | void)


def _beside(values: NDArray[Any], axis: Axis, number: int) -> NDArray[Any]:
    """Return, at the faces of an axis, the larger of the values on both sides."""
    values = np.moveaxis(values, number, 0)
    low, high = (values[-1:], values[:1]) if axis.periodic else (values[:1], values[-1:])
    return np.moveaxis(np.maximum(np.concatenate([low, values]), np.concatenate([values, high])), 0, number)


def first_place(where: Truth) -> list[int]:
    """Return the first index at which an array is True."""
    return [int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape)]


def _truth(array: Any, shape: tuple[int, ...], name: str, meaning: str) -> Truth:
    """Return a copy of an array of bool. Raises TypeError or ValueError if it is not, or not of `shape`."""
    allowed = f"{name} must be an array of bool, True where {meaning}"
    if type(array) is not np.ndarray:
        from ..arrays import numbers_of

        array = numbers_of(array, name)
    try:
        array = np.array(array)
    except ValueError:
        raise ValueError(f"{allowed}, its rows of one length, got {shown(array)}") from None
    if array.dtype != np.bool_:
        way_out = "; give array > 0, for example" if array.dtype.kind in "iuf" else ""
        raise TypeError(f"{allowed}; got dtype {array.dtype}{way_out}")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape of f, {shape}, got {array.shape}")
    return array


def _fixed(fixed: Any, inside: Truth) -> tuple[Truth, Numbers]:
    """Return where u is given inside of the mask, and what it is."""
    if fixed is None:
        return np.zeros_like(inside), np.zeros(())
    if not isinstance(fixed, tuple | list) or len(fixed) != 2:
        raise TypeError(
            f"fixed must be a pair (where, values): an array of bool of f's shape, and u there, a number or an array; got "
            f"{shown(fixed)}"
        )
    where = _truth(fixed[0], inside.shape, "the first of fixed", "u is given")
    if (where & ~inside).any():
        place = first_place(where & ~inside)
        raise ValueError(f"fixed gives u at {place}, where mask is False; take the mask's outside out of it: where & mask")
    values = _values(fixed[1], inside.shape, "the values of fixed")
    wrong = where & ~np.isfinite(values)
    if wrong.any():
        at = first_place(wrong)
        raise ValueError(f"the values of fixed must be finite, but at {at} u is {np.broadcast_to(values, wrong.shape)[*at]}")
    return where, values


def _refuse_missing(values: Numbers, unknown: Truth, grid: Grid) -> None:
    """Raise ValueError where a given value is NaN beside an unknown."""
    missing = np.isnan(values)
    if missing.any():
        missing &= _neighbors(unknown, grid)
    if missing.any():
        raise ValueError(
            f"Dirichlet data missing: outside{first_place(missing)} is NaN, and an unknown is beside it ({missing.sum()} such "
            f"in all); give a value there, or outside='natural' for no flux through the rim of the mask"
        )


def _neighbors(unknown: Truth, grid: Grid) -> Truth:
    """Return where a point is beside an unknown."""
    beside = np.zeros_like(unknown)
    for number, axis in enumerate(grid.axes):
        along, there = np.moveaxis(beside, number, 0), np.moveaxis(unknown, number, 0)
        along[1:] |= there[:-1]
        along[:-1] |= there[1:]
        if axis.periodic:
            along[0] |= there[-1]
            along[-1] |= there[0]
    return beside


def _values(values: ArrayLike, shape: tuple[int, ...], name: str) -> Numbers:
    """Return a number, or an array of `shape`, as float64."""
    array = np.array(real_array(values, name), dtype=np.float64)
    if array.shape not in ((), shape):
        raise ValueError(f"{name} must be a number or an array of f's shape {shape}, got shape {array.shape}")
    return array


def per_channel(outside: Any, fixed: Any, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return `outside` and `fixed` of each channel, where one of them has f's `shape`, channels last; else nothing."""
    inner = fixed[1] if isinstance(fixed, tuple | list) and len(fixed) == 2 else None
    several = [each is not None and np.shape(each) == shape for each in (outside, inner)]
    if not any(several):
        return []
    beyond, held = (np.asarray(each) if own else each for each, own in zip((outside, inner), several, strict=True))
    return [
        {
            "outside": beyond[..., channel] if several[0] else beyond,
            "fixed": (fixed[0], held[..., channel]) if several[1] else fixed,
        }
        for channel in range(shape[-1])
    ]
