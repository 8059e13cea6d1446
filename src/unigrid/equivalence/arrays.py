"""A network as a classical hierarchy: `to_stencil`. Its convolutions become stencils on NumPy arrays, in the cycle's slots.

Theorem: where every slot is linear and single-channel, A, S, R, Pi and P are stencils, and the cycle is a multigrid method.
So a network has one channel, no activation, no batch norm, which shifts, and no bias, or it is refused with the reason.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4, read from right to left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..conv.grids import Checkerboard, Colored, DenseSolve, Extended, GridProlongation, Repeated, Rescaling
from ..conv.levels import ConvCycle
from ..conv.slots import (
    ChannelwiseConvolution,
    ChebyshevExtraction,
    ConvOperator,
    ConvProlongation,
    ConvRestriction,
    ConvStateTransfer,
    FeatureExtraction,
    MultiStepExtraction,
    UnusedOperator,
)
from ..cycle import MultigridCycle, Operator, Prolongation, Restriction, SlotLevel, Smoother, StateTransfer, Steps
from ..reflection import Reflection, Sides, extended
from ..stencil.convolution import Convolution
from ..stencil.cycle import StencilCycle
from ..stencil.external import SlotsForAnyGrid
from ..stencil.problem import Poisson
from .stencils import BESIDE

Array = NDArray[Any]
Map = Callable[[Array], Array]
Pair = tuple[int, int]
SLOTS = ("operator", "smoother", "restriction", "state_transfer", "prolongation", "post_smoother")
ZEROS: Sides = ((Reflection(0, 0.0),) * 2,) * 2
AROUND: Sides = ((Reflection(-1, 1.0),) * 2,) * 2


def to_stencil(cycle: MultigridCycle, problem: Poisson | None = None) -> StencilCycle | ArrayCycle:
    """Return a linear network of one channel as a multigrid cycle on NumPy arrays: the same iterates, without torch.

    Parameters
    ----------
    cycle : ConvCycle, or a network that `unigrid.train("poisson")` trained
        Convolutions fit grids of any size, and so does the result, unless a fully connected layer solves the coarsest level.
    problem : Poisson, optional
        For a trained network alone, whose slots fit any grid: the problem of the hierarchy.

    Returns
    -------
    ArrayCycle
        `cycle(f, u)` for arrays (rows, columns); `unigrid.solve(f, cycle=...)` takes it. For a trained network, the
        `StencilCycle` of the problem.

    Raises
    ------
    TypeError
        If `cycle` is neither of the two.
    ValueError
        If a slot is not linear, or has several channels: the level, the slot and the reason are named.

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
            raise TypeError("the slots of this network fit any grid, so a problem is needed: to_stencil(cycle, problem)")
        return cycle.on(problem)
    if not isinstance(cycle, ConvCycle):
        raise TypeError(f"to_stencil takes a unigrid.ConvCycle or a trained Poisson network, got {type(cycle).__name__}")
    if problem is not None:
        raise TypeError("problem is for networks whose slots fit any grid; a ConvCycle has its own convolutions on every level")
    return ArrayCycle([ArrayLevel(level, at) for at, level in enumerate(cycle.levels)], cycle.kind)


# --------------------------------------------------------------------------------------------- slots on NumPy arrays


@final
@dataclass(frozen=True, eq=False)
class LinearMap(Operator, Restriction, StateTransfer):
    """A, R, Pi or B: linear maps of arrays, applied one after the other; none of them is the identity."""

    maps: tuple[Map, ...]

    def __call__(self, array: Array) -> Array:
        for each in self.maps:
            array = each(array)
        return array


def _keep_color(color: int, array: Array) -> Array:
    rows, columns = np.ogrid[: array.shape[0], : array.shape[1]]
    return np.where((rows + columns) % 2 == color, array, array.dtype.type(0))


def _scale(factor: Any, array: Array) -> Array:
    return array * np.asarray(factor, dtype=array.dtype)


def _unused(array: Array) -> NoReturn:
    raise ValueError("this A has no weights, as its level is entered with u = 0; start the cycle with u=None")


@final
@dataclass(frozen=True, eq=False)
class SemiIteration(Smoother):
    """u^i = w^i (u^(i-1) + B^i (f - A u^(i-1))) + (1 - w^i) u^(i-2); all w^i = 1 is u <- u + B^i (f - A u)."""

    extractors: tuple[Map, ...]
    weights: tuple[float, ...]

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Any:
        before: Any = 0.0
        for extract, weight in zip(self.extractors, self.weights, strict=True):
            step = extract(operator.residual(f, u))
            improved = step if u is None else u + step
            if weight != 1.0:
                improved = weight * improved + (1.0 - weight) * before
            before, u = 0.0 if u is None else u, improved
        return u


@final
@dataclass(frozen=True, eq=False)
class Inverse(Smoother):
    """u = A^-1 f by a dense matrix."""

    matrix: Array
    shape: Pair

    def __call__(self, operator: Operator, f: Array, u: Array | None) -> Array:
        if f.shape != self.shape:
            raise ValueError(f"the coarsest level got {f.shape}, its direct solver is made for {self.shape}")
        return (self.matrix @ f.ravel()).reshape(f.shape).astype(f.dtype, copy=False)


@final
@dataclass(frozen=True, eq=False)
class TransposedConvolution(Prolongation):
    """P: each coarse value, and those `before` adds, spread by a stencil over its neighborhood on the finer grid; then `after`.

    `starts` is the first point of the result that lies on the finer grid. That grid has `surplus` unknowns more than stride
    times the coarser one; None: the grid of the state to be corrected.
    """

    weights: Array
    strides: tuple[int, ...]
    starts: Pair
    surplus: Pair | None
    before: Map
    after: Map

    def __call__(self, correction: Array) -> Array:
        sizes = zip(self.strides, correction.shape, self.surplus or (0, 0), strict=True)
        return self._onto(tuple(stride * n + surplus for stride, n, surplus in sizes), correction)

    def add_to(self, u: Array, correction: Array) -> Array:
        fine = self(correction) if self.surplus is not None else self._onto(u.shape, correction)
        if fine.shape != u.shape:
            raise ValueError(
                f"P leads from {correction.shape} to {fine.shape}, but the level has {u.shape}: give a grid that nests"
            )
        return u + fine

    def _onto(self, shape: tuple[int, ...], correction: Array) -> Array:
        coarse = self.before(correction)
        ends = [stride * (n - 1) + 1 for stride, n in zip(self.strides, coarse.shape, strict=True)]
        needed = zip(ends, self.weights.shape, self.starts, shape, strict=True)
        fine = np.zeros([max(end + width - 1, start + n) for end, width, start, n in needed], correction.dtype)
        for (i, j), weight in np.ndenumerate(self.weights):
            fine[i : i + ends[0] : self.strides[0], j : j + ends[1] : self.strides[1]] += weight * coarse
        return self.after(fine[tuple(slice(start, start + n) for start, n in zip(self.starts, shape, strict=True))])


@final
class ArrayLevel(SlotLevel):
    """A level of stencils of any weights, with the slots of a module's level."""

    def __init__(self, level: Any, at: int) -> None:
        for name in SLOTS:
            module = getattr(level, name)
            try:
                setattr(self, name, None if module is None else _slot(module))
            except _NotLinearError as error:
                raise ValueError(f"the {name} of level {at} is no stencil: {error}") from None


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
    """The reason why a module is no stencil; `ArrayLevel` adds the level and the slot."""


def _slot(slot: Any) -> Any:
    match slot:
        case ConvOperator():
            return LinearMap(_maps(slot.convolution, slot.norm))
        case UnusedOperator():
            return LinearMap((_unused,))
        case ConvRestriction() | ConvStateTransfer():
            return LinearMap(_maps(slot.convolution, slot.norm, slot.activation))
        case FeatureExtraction():
            return SemiIteration(tuple(map(_extractor, slot.steps)), (1.0,) * len(slot.steps))
        case ChebyshevExtraction():
            weights = [] if slot.weights is None else slot.weights.tolist()
            return SemiIteration(tuple(map(_extractor, slot.steps)), (1.0, *weights))
        case Repeated():
            return Steps(_slot(slot.step), slot.count)
        case DenseSolve():
            return Inverse(slot.inverse.detach().cpu().numpy(), slot.shape)
        case GridProlongation():
            before, after, strides = LinearMap(_maps(slot.extension)), LinearMap(_maps(slot.filter)), slot.convolution.stride
            return TransposedConvolution(_weights(slot.convolution), strides, slot.starts, slot.surplus, before, after)
        case ConvProlongation():
            # What reaches beyond one end of a periodic axis is added at the other: the transposed convolution of the grid with
            # its first row and column repeated behind the last.
            repeat = partial(extended, sides=AROUND, depths=((0, 1), (0, 1)), join=np.concatenate)
            before, surplus = (LinearMap((repeat,)), (0, 0)) if slot.periodic else (LinearMap(()), None)
            after = LinearMap(_maps(slot.norm))
            return TransposedConvolution(_weights(slot.convolution), (2, 2), (1, 1), surplus, before, after)
        case MultiStepExtraction():
            raise _NotLinearError("its steps use all earlier ones; semi_iteration='chebyshev' uses two, as a smoother here may")
    raise _NotLinearError(f"{type(slot).__name__} has no counterpart on arrays")


def _extractor(step: Any) -> LinearMap:
    maps = _maps(step.data_norm, step.activation, step.convolution, step.feature_norm, step.activation)
    return LinearMap(maps if step.scale is None else (*maps, partial(_scale, step.scale.item())))


def _maps(*modules: Any) -> tuple[Map, ...]:
    """Return the maps of arrays of one channel that modules apply, in order."""
    return tuple(each for module in modules for each in _maps_of(module))


def _maps_of(module: Any) -> tuple[Map, ...]:
    match module:
        case None | nn.Identity():
            return ()
        case nn.Sequential():
            return _maps(*module)
        case Colored():
            return _maps(module.convolution, module.mask)
        case Extended():
            return (partial(extended, sides=module.sides, depths=module.depths, join=np.concatenate),)
        case Checkerboard():
            return (partial(_keep_color, module.color),)
        case Rescaling():
            return (partial(_scale, module.weight.detach().cpu().numpy()),)
        case ChannelwiseConvolution():
            sides = ZEROS if module.padding_mode == "constant" else AROUND
            return (Convolution(_weights(module.convolution), sides, BESIDE, (2, 2)),)
        case _NormBase():
            raise _NotLinearError(
                f"{type(module).__name__} shifts what it scales; norms='none' and transfer_norms=False leave it out"
            )
    if hasattr(module, "weight") and hasattr(module, "stride"):  # nn.Conv2d, or a trained kernel with its attributes
        return (_convolution(module),)
    raise _NotLinearError(
        f"{type(module).__name__} is not linear, or not known to be; activation='identity' leaves activations out"
    )


def _convolution(module: Any) -> Convolution:
    if module.padding_mode not in ("zeros", "circular") or isinstance(module.padding, str) or max(module.dilation) > 1:
        raise _NotLinearError(f"{module} pads or dilates in a way that no boundary condition here does")
    if max(module.padding) > 1:
        raise _NotLinearError(f"it pads by {module.padding}, but a boundary condition gives one value beyond a side")
    sides = ZEROS if module.padding_mode == "zeros" else AROUND
    return Convolution(_weights(module), sides, tuple((depth, depth) for depth in module.padding), tuple(module.stride))


def _weights(module: Any) -> Array:
    shape = tuple(module.weight.shape[:2])
    if shape != (1, 1):
        raise _NotLinearError(f"it maps between channels, weights {shape}; a grid of numbers has one channel")
    if getattr(module, "bias", None) is not None:
        raise _NotLinearError("a bias adds a constant, which no linear stencil does")
    weights: Array = module.weight.detach().cpu().numpy()[0, 0].astype(np.float64)
    return weights
