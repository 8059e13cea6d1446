"""A network as a classical hierarchy: `to_stencil`. Its convolutions become stencils on NumPy arrays, in the cycle's slots.

Theorem: where every slot is linear and single-channel, A, S, R, Pi and P are stencils, and the cycle is a multigrid method.

Conditions, each refused with its reason where it does not hold: one channel; no activation; no batch norm, which shifts; no
bias.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4, read from right to left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..conv.grids import Checkerboard, Colored, DenseSolve, Extended, GridProlongation, Repeated, Rescaling
from ..conv.levels import ConvCycle
from ..conv.slots import (
    ChannelwiseConvolution,
    ChebyshevExtraction,
    ConvOperator,
    ConvProlongation,
    ConvRestriction,
    ConvStateTransfer,
    Extraction,
    FeatureExtraction,
    MultiStepExtraction,
    UnusedOperator,
)
from ..cycle import MultigridCycle, Operator, Prolongation, Restriction, SlotLevel, Smoother, StateTransfer, Steps
from ..reflection import Depths, Reflection, Sides, extended
from ..stencil.convolution import Convolution
from ..stencil.cycle import StencilCycle
from ..stencil.external import SlotsForAnyGrid
from ..stencil.problem import Poisson
from .stencils import BESIDE

Array = NDArray[Any]
Map = Callable[[Array], Array]
ZEROS: Sides = ((Reflection(0, 0.0),) * 2,) * 2
AROUND: Sides = ((Reflection(-1, 1.0),) * 2,) * 2


def to_stencil(cycle: MultigridCycle, problem: Poisson | None = None) -> StencilCycle | ArrayCycle:
    """Return the cycle on NumPy arrays that a linear network of one channel is: the same iterates, without torch.

    Parameters
    ----------
    cycle : ConvCycle, or a network that `unigrid.train("poisson")` trained
        Convolutions know no size, so neither does the result, unless a fully connected layer solves the coarsest level.
    problem : Poisson, optional
        For a trained network alone, whose slots fit any grid: the problem that the hierarchy is for.

    Returns
    -------
    ArrayCycle
        `cycle(f, u)` for arrays (rows, columns); `unigrid.solve(f, cycle=...)` takes it. For a trained network the
        `StencilCycle` of the problem, which can do all that such a cycle can.

    Raises
    ------
    TypeError
        For what is no such cycle.
    ValueError
        For what is not linear, or has several channels: the level, the slot and the reason are named.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> from unigrid.equivalence import to_conv, to_stencil
    >>> cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)))
    >>> back = to_stencil(to_conv(cycle))
    >>> f = np.random.default_rng(0).standard_normal((31, 31))
    >>> bool(abs(back(f) - cycle(f)).max() < 1e-14)
    True
    """
    if isinstance(cycle, SlotsForAnyGrid):
        if problem is None:
            raise TypeError("the slots of this network fit any grid: to_stencil(cycle, problem) says which")
        return cycle.on(problem)
    if not isinstance(cycle, ConvCycle):
        raise TypeError(f"to_stencil takes a unigrid.ConvCycle or a trained Poisson network, got {type(cycle).__name__}")
    if problem is not None:
        raise TypeError("problem is for networks whose slots fit any grid; a ConvCycle has its own convolutions on every level")
    return ArrayCycle([_level(level, at) for at, level in enumerate(cycle.levels)], cycle.kind)


# --------------------------------------------------------------------------------------------- slots on NumPy arrays


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """One map after the other."""

    maps: tuple[Map, ...]

    def __call__(self, array: Array) -> Array:
        for each in self.maps:
            array = each(array)
        return array


@final
@dataclass(frozen=True, eq=False)
class Extension:
    """The values beyond the sides added."""

    sides: Sides
    depths: Depths

    def __call__(self, array: Array) -> Array:
        return extended(array, self.sides, self.depths, np.concatenate)


@final
@dataclass(frozen=True, eq=False)
class Masked:
    """One color kept."""

    color: int

    def __call__(self, array: Array) -> Array:
        rows, columns = np.ogrid[: array.shape[0], : array.shape[1]]
        return np.where((rows + columns) % 2 == self.color, array, array.dtype.type(0))


@final
@dataclass(frozen=True, eq=False)
class Scaled:
    """Every point times a number, or times one of its own."""

    factor: Any

    def __call__(self, array: Array) -> Array:
        return array * np.asarray(self.factor, dtype=array.dtype)


@final
@dataclass(frozen=True, eq=False)
class StencilOfNetwork(Operator):
    """A, some linear stencil; None where the network never applies it."""

    apply: Map | None

    def __call__(self, u: Array) -> Array:
        if self.apply is None:
            raise ValueError("this A has no weights, as its level is entered with u = 0; start the cycle with u=None")
        return self.apply(u)


@final
@dataclass(frozen=True, eq=False)
class SemiIteration(Smoother):
    """u^i = w^i (u^(i-1) + B^i (f - A u^(i-1))) + (1 - w^i) u^(i-2); all w^i = 1 is u <- u + B^i (f - A u)."""

    extractors: tuple[Map, ...]
    weights: tuple[float, ...]

    @property
    def cost(self) -> float:
        return len(self.extractors)

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        before: Array | None = None
        for extract, weight in zip(self.extractors, self.weights, strict=True):
            step = extract(operator.residual(f, u))
            improved = step if u is None else u + step
            if weight != 1.0:
                improved = weight * improved + (0.0 if before is None else (1.0 - weight) * before)
            before, u = u, improved
        assert u is not None
        return u


@final
@dataclass(frozen=True, eq=False)
class Inverse(Smoother):
    """u = A^-1 f by a dense matrix."""

    matrix: Array
    shape: tuple[int, int]

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        if f.shape != self.shape:
            raise ValueError(f"the coarsest level got {f.shape}, its direct solver is made for {self.shape}")
        return (self.matrix @ f.ravel()).reshape(f.shape).astype(f.dtype, copy=False)


@final
@dataclass(frozen=True, eq=False)
class Pooling(Restriction, StateTransfer):
    """R or Pi, a stencil of stride 2."""

    apply: Map

    def __call__(self, residual: Array) -> Array:
        return self.apply(residual)


@final
@dataclass(frozen=True, eq=False)
class Spreading(Prolongation):
    """P: each coarse value spread by a stencil over its neighborhood, on the finer grid."""

    weights: Array
    sides: Sides
    depths: Depths
    strides: tuple[int, int]
    starts: tuple[int, int]
    surplus: tuple[int, int]
    fits_any: bool  # whether the finer grid may be of another size than stride times the coarser plus surplus
    after: Map | None = None

    def __call__(self, correction: Array) -> Array:
        rows, columns = (
            stride * n + surplus for stride, n, surplus in zip(self.strides, correction.shape, self.surplus, strict=True)
        )
        return self._onto((rows, columns), correction)

    def add_to(self, u: Array, correction: Array) -> Array:
        fine = self._onto((u.shape[0], u.shape[1]), correction) if self.fits_any else self(correction)
        if fine.shape != u.shape:
            raise ValueError(
                f"P leads from {correction.shape} to {fine.shape}, but the level has {u.shape}: give a grid that nests"
            )
        return u + fine

    def _onto(self, shape: tuple[int, int], correction: Array) -> Array:
        coarse = extended(correction, self.sides, self.depths, np.concatenate)
        extent = [
            stride * (n - 1) + width for stride, n, width in zip(self.strides, coarse.shape, self.weights.shape, strict=True)
        ]
        fine = np.zeros([max(e, start + n) for e, start, n in zip(extent, self.starts, shape, strict=True)], correction.dtype)
        for place, weight in np.ndenumerate(self.weights):
            spread = tuple(
                slice(at, at + stride * (n - 1) + 1, stride)
                for at, stride, n in zip(place, self.strides, coarse.shape, strict=True)
            )
            fine[spread] += weight * coarse
        fine = fine[tuple(slice(start, start + n) for start, n in zip(self.starts, shape, strict=True))]
        return fine if self.after is None else self.after(fine)


@final
class ArrayLevel(SlotLevel):
    """A level of stencils of any weights."""

    def __init__(self, operator: Operator, **slots: Any) -> None:
        self.operator = operator
        self.smoother, self.post_smoother = slots.get("smoother"), slots.get("post_smoother")
        self.restriction = slots.get("restriction")  # type: ignore[assignment]
        self.state_transfer, self.prolongation = slots.get("state_transfer"), slots.get("prolongation")


@final
class ArrayCycle(MultigridCycle):
    """A multigrid cycle of arbitrary stencils on arrays (rows, columns), for grids of any size that its slots take."""

    def __init__(self, levels: Sequence[ArrayLevel], kind: str) -> None:
        self.levels, self.kind = list(levels), kind

    def __repr__(self) -> str:
        return f"<ArrayCycle: {self.kind}, {len(self.levels)} level{'s' * (len(self.levels) != 1)} of stencils>"

    def __call__(self, f: Array, u: Array | None = None) -> Array:
        """Return u after one cycle for A u = f; None is zero."""
        if f.ndim != 2 or (u is not None and u.shape != f.shape):
            shapes = f"f {f.shape}" + ("" if u is None else f" and u {u.shape}")
            raise ValueError(f"arrays of this cycle have two axes, rows and columns, f and u alike; got {shapes}")
        return self.cycle(f, u)


# --------------------------------------------------------------------------------------------- modules as these slots


class _NotLinearError(ValueError):
    """Why a module is no stencil; the level and the slot are added on the way up."""


def _level(level: Any, at: int) -> ArrayLevel:
    slots: dict[str, Any] = {}
    for name in ("smoother", "restriction", "state_transfer", "prolongation", "post_smoother"):
        slot = getattr(level, name)
        if slot is not None:
            slots[name] = _explained(_slot, slot, at, name)
    return ArrayLevel(_explained(_slot, level.operator, at, "operator"), **slots)


def _explained(convert: Callable[[Any], Any], slot: Any, at: int, name: str) -> Any:
    try:
        return convert(slot)
    except _NotLinearError as error:
        raise ValueError(f"the {name} of level {at} is no stencil: {error}") from None


def _slot(slot: Any) -> Any:
    """Return the slot on arrays that a slot of the network is."""
    if isinstance(slot, ConvOperator):
        return StencilOfNetwork(_chain([_map(slot.convolution), _map(slot.norm)]))
    if isinstance(slot, UnusedOperator):
        return StencilOfNetwork(None)
    if isinstance(slot, FeatureExtraction):
        return SemiIteration(tuple(map(_extractor, slot.steps)), (1.0,) * len(slot.steps))  # type: ignore[arg-type]
    if isinstance(slot, ChebyshevExtraction):
        weights = [] if slot.weights is None else slot.weights.tolist()
        return SemiIteration(tuple(map(_extractor, slot.steps)), (1.0, *weights))  # type: ignore[arg-type]
    if isinstance(slot, Repeated):
        return Steps(_slot(slot.step), slot.count)
    if isinstance(slot, DenseSolve):
        return Inverse(slot.inverse.detach().cpu().numpy(), slot.shape)
    if isinstance(slot, GridProlongation | ConvProlongation):
        return _spreading(slot)
    if isinstance(slot, ConvRestriction | ConvStateTransfer):
        return Pooling(_chain([_map(slot.convolution), _map(slot.norm), _map(slot.activation)]))
    if isinstance(slot, MultiStepExtraction):
        raise _NotLinearError(
            "its steps use all earlier ones, which no smoother here does; semi_iteration='chebyshev' uses two"
        )
    raise _NotLinearError(f"{type(slot).__name__} is not known as one")


def _extractor(step: Extraction) -> Map:
    parts = [step.data_norm, step.activation, step.convolution, step.feature_norm, step.activation]
    scale = [] if step.scale is None else [Scaled(step.scale.item())]
    return _chain([*map(_map, parts), *scale])


def _chain(maps: Sequence[Map | None]) -> Map:
    known = tuple(each for each in maps if each is not None)
    return known[0] if len(known) == 1 else Chain(known)


@singledispatch
def _map(module: Any) -> Map | None:
    """Return what a module does to an array of one channel; None for nothing."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        raise _NotLinearError(
            f"{type(module).__name__} shifts what it scales; norms='none' and transfer_norms=False leave it out"
        )
    if hasattr(module, "weight") and hasattr(module, "stride"):  # trained, and made anew for the level
        return _convolution(module)
    raise _NotLinearError(
        f"{type(module).__name__} is not linear, or not known to be; activation='identity' leaves activations out"
    )


@_map.register
def _(module: None) -> Map | None:
    return None


@_map.register
def _(module: nn.Identity) -> Map | None:
    return None


@_map.register
def _(module: nn.Sequential) -> Map | None:
    return _chain([_map(part) for part in module])


@_map.register
def _(module: Extended) -> Map | None:
    return Extension(module.sides, module.depths)


@_map.register
def _(module: Checkerboard) -> Map | None:
    return Masked(module.color)


@_map.register
def _(module: Colored) -> Map | None:
    return _chain([_map(module.convolution), _map(module.mask)])


@_map.register
def _(module: Rescaling) -> Map | None:
    return Scaled(module.weight.detach().cpu().numpy())


@_map.register
def _convolution(module: nn.Conv2d) -> Map | None:
    if module.padding_mode not in ("zeros", "circular") or isinstance(module.padding, str) or max(module.dilation) > 1:
        raise _NotLinearError(f"{module} pads or dilates in a way that no boundary condition here does")
    rows, columns = module.padding
    sides = ZEROS if module.padding_mode == "zeros" else AROUND
    return _with_padding(_weights(module), sides, (rows, columns), (module.stride[0], module.stride[1]))


@_map.register
def _(module: ChannelwiseConvolution) -> Map | None:
    sides = ZEROS if module.padding_mode == "constant" else AROUND
    return Convolution(_weights(module.convolution), sides, BESIDE, (2, 2))


def _with_padding(weights: Array, sides: Sides, padding: tuple[int, int], strides: tuple[int, int]) -> Map:
    if max(padding) > 1:
        raise _NotLinearError(f"it pads by {padding}; no reflection says what lies two unknowns beyond a side")
    return Convolution(weights, sides, tuple((depth, depth) for depth in padding), strides)


def _weights(module: Any) -> Array:
    if tuple(module.weight.shape[:2]) != (1, 1):
        came = tuple(module.weight.shape[:2])
        raise _NotLinearError(f"it maps between channels, weights {came}; a grid of numbers has one channel")
    if getattr(module, "bias", None) is not None:
        raise _NotLinearError("a bias adds a constant, which no linear stencil does")
    weights: Array = module.weight.detach().cpu().numpy()[0, 0].astype(np.float64)
    return weights


def _spreading(slot: GridProlongation | ConvProlongation) -> Spreading:
    weights = _weights(slot.convolution)
    if isinstance(slot, GridProlongation):
        extension = slot.extension
        sides, depths = (extension.sides, extension.depths) if isinstance(extension, Extended) else (ZEROS, ((0, 0), (0, 0)))
        rows, columns = slot.convolution.stride
        return Spreading(weights, sides, depths, (int(rows), int(columns)), slot.starts, slot.surplus, False, _map(slot.filter))
    after = _map(slot.norm)
    plain = Spreading(weights, ZEROS, ((0, 0), (0, 0)), (2, 2), (1, 1), (0, 0), True, after)
    if not slot.periodic:
        return plain
    # Around the corner, the value before the first is the last's: the transposed convolution of the grid and its first column.
    return replace(plain, sides=AROUND, depths=((0, 1), (0, 1)), fits_any=False)
