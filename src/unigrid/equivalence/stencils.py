"""A classical hierarchy as a network: `to_conv`. Every slot becomes a convolution with fixed weights, or is refused.

    A             3x3, the stencil itself                      Jacobi        B = omega / D, a 1x1 convolution
    R             3x3, stride 2: full weighting                Chebyshev     the same, with the semi-iteration's w^i
    P             3x3, stride 2, transposed                    red-black     the same, half the points masked
    Pi            as R                                         direct solve  a fully connected layer

Theorem (multigrid recovered): with these weights, identity activations, no norm and theta = id, MgNet's descent is that of
multigrid, for any Pi; with P and a second smoother, the network is the V-, W- or F-cycle.

Conditions: two axes; grids that nest, so that a transfer has the same weights at every point (vertices 2^k - 1 between
Dirichlet sides, 2^k + 1 between Neumann sides, 2^k cells or periodic vertices). Boundary conditions are the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from ..conv.grids import Colored, DenseSolve, Extended, GridProlongation, Repeated, Rescaling
from ..conv.levels import ConvCycle, ConvLevel
from ..conv.slots import (
    Borrowed,
    ChebyshevExtraction,
    ConvOperator,
    ConvRestriction,
    ConvStateTransfer,
    Extraction,
    FeatureExtraction,
    Part,
)
from ..cycle import Smoother, Steps
from ..reflection import Depths, Sides, extended
from ..stencil.coarse import DirectSolver, FourierSolver
from ..stencil.cycle import StencilCycle
from ..stencil.galerkin import GalerkinCycle
from ..stencil.grid import Axis, Grid
from ..stencil.hierarchy import StencilLevel
from ..stencil.learned import FilteredDown, FilteredUp, LearnedSmoother
from ..stencil.operator import StencilOperator
from ..stencil.slots import FittedSmoother, FittedTransfer
from ..stencil.smoothers import Chebyshev, GaussSeidel, Jacobi, RedBlack
from ..stencil.transfers import SeparableTransfer

Array = NDArray[Any]
MOST_DENSE = 4096  # unknowns of a coarsest level that may become a fully connected layer: 128 MiB of weights
ROUND_OFF = 1e-12
BESIDE: Depths = ((1, 1), (1, 1))  # a 3x3 convolution reads one value beyond every side


def to_conv(cycle: StencilCycle) -> ConvCycle:
    """Return the network whose slots are this hierarchy's, as convolutions with fixed weights in float64.

    For f of shape (batch, 1, rows, columns), or an array (rows, columns), it returns what `cycle(f, u)` does, to round-off, on
    every level and in every slot. Its weights have no gradients; `requires_grad_()` makes the multigrid method trainable.

    Parameters
    ----------
    cycle : StencilCycle
        On a grid of two axes whose levels nest; any boundary conditions, V, W or F, any Pi. Smoothers: Jacobi, red-black,
        Chebyshev, learned.

    Raises
    ------
    TypeError
        If `cycle` is no StencilCycle.
    ValueError
        If a slot is no convolution: the level, the slot and the reason are named.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> from unigrid.equivalence import to_conv
    >>> cycle = unigrid.StencilCycle(unigrid.Poisson((31, 31)), smoother="jacobi")
    >>> network = to_conv(cycle)
    >>> f = np.random.default_rng(0).standard_normal((31, 31))
    >>> bool(abs(network(f) - cycle(f)).max() < 1e-14)
    True

    Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), section 4.
    """
    if isinstance(cycle, GalerkinCycle):
        raise TypeError(
            "to_conv takes a unigrid.StencilCycle, got GalerkinCycle: a convolution has the same kernel at every point, and "
            "couplings that vary multiply u by a second input; constant coefficients, one per axis, are convolutions"
        )
    if not isinstance(cycle, StencilCycle):
        raise TypeError(f"to_conv takes a unigrid.StencilCycle, got {type(cycle).__name__}")
    if cycle.problem.grid.ndim != 2:
        raise ValueError(f"to_conv makes images of grids, which have 2 axes; this problem has {cycle.problem.grid.ndim}")
    with torch.random.fork_rng(devices=[]):  # convolutions draw initial weights, which are replaced
        levels = []
        for at, level in enumerate(cycle.levels):
            try:
                levels.append(_level(level))
            except ValueError as error:
                raise ValueError(f"level {at}: {error}") from None
    return ConvCycle(levels, cycle.kind).double().requires_grad_(False)


def _level(level: StencilLevel) -> ConvLevel:
    if level.smoother is None:
        raise ValueError("pre=0: a level of a network smooths on its way down; take pre >= 1")
    slots: dict[str, Any] = {
        "operator": ConvOperator(convolution(level.operator.stencil, level.problem.grid.sides, BESIDE)),
        "smoother": _smoother(level.smoother, level.operator),
    }
    if level.coarser is not None:
        slots["restriction"] = ConvRestriction(_restriction(level.restriction, level.problem.grid), None, None)
        if level.state_transfer is not None:
            slots["state_transfer"] = ConvStateTransfer(_restriction(level.state_transfer, level.problem.grid), None, None)
        slots["prolongation"] = _prolongation(level.prolongation, level.coarser.grid, level.problem.grid)
        if level.post_smoother is not None:
            slots["post_smoother"] = _smoother(level.post_smoother, level.operator)
    return ConvLevel(**slots)


# ------------------------------------------------------------------------------------------------- A and its diagonal


def convolution(weights: Array, sides: Sides, depths: Depths, strides: tuple[int, ...] = (1, 1)) -> nn.Module:
    """Return a convolution of one channel with these weights and this padding; a plain `nn.Conv2d` where there is one."""
    padding = tuple(low for low, _ in depths)
    reflections = {reflection for pair in sides for reflection in pair}
    even = all(low == high for low, high in depths)
    mode = "zeros" if not any(reflection.weight for reflection in reflections) else "circular"
    plain = even and (mode == "zeros" or {reflection.inward for reflection in reflections} == {-1})
    options: dict[str, Any] = {"padding": padding, "padding_mode": mode} if plain else {}
    kernel = nn.Conv2d(1, 1, weights.shape, strides, bias=False, **options)  # type: ignore[arg-type]
    kernel.weight = nn.Parameter(_tensor(weights)[None, None])
    return kernel if plain else nn.Sequential(Extended(sides, depths), kernel)


def _tensor(array: Array) -> Tensor:
    return torch.tensor(np.asarray(array, dtype=np.float64))


def _over_diagonal(operator: StencilOperator, factor: float) -> nn.Module:
    """Return r -> factor D^-1 r: a 1x1 convolution, or, where D is not constant, a number for every point."""
    constant = operator.constant_diagonal
    if constant is None:
        return Rescaling(_tensor(factor / operator.diagonal()))
    return convolution(np.array([[factor / constant]]), operator.grid.sides, ((0, 0), (0, 0)))


# ---------------------------------------------------------------------------------------------------------- smoothers


def _extraction(part: Part) -> Extraction:
    """Return B = a convolution and nothing else: no norm, no activation."""
    return Extraction(part, (nn.Identity(), nn.Identity()), nn.Identity())


def _repeated(modules: Sequence[nn.Module], count: int) -> FeatureExtraction:
    """Return `count` rounds of steps u <- u + B_i (f - A u); all rounds share the same B_i."""
    steps: list[Part] = [*modules, *(Borrowed(module) for _ in range(count - 1) for module in modules)]
    return FeatureExtraction([_extraction(part) for part in steps])


def _smoother(smoother: Smoother, operator: StencilOperator) -> Smoother:
    step, count = (smoother.step, smoother.count) if isinstance(smoother, Steps) else (smoother, 1)
    if isinstance(step, FittedSmoother):
        step = step.smoother
    for kind, make in _SMOOTHERS.items():
        if isinstance(step, kind):
            return make(step, operator, count)
    known = ", ".join(kind.__name__ for kind, make in _SMOOTHERS.items() if make is not _sequential)
    raise ValueError(f"{type(step).__name__} is no known convolution; known are {known}. Any 3x3 is a LearnedSmoother")


def _jacobi(step: Jacobi, operator: StencilOperator, count: int) -> Smoother:
    return _repeated([_over_diagonal(operator, step.omega)], count)


def _red_black(step: RedBlack, operator: StencilOperator, count: int) -> Smoother:
    if any(axis.periodic and axis.n % 2 and axis.n > 1 for axis in operator.grid.axes):
        raise ValueError(
            f"red-black on {operator.grid.shape} unknowns: on a periodic axis of odd length two neighbors share a color, so "
            "the sweep is no masked convolution; take an even number"
        )
    scales: dict[float, nn.Module] = {}
    half_sweeps = []
    for omega, color in zip(step.omegas, step.colors, strict=True):
        scale = Borrowed(scales[omega]) if omega in scales else scales.setdefault(omega, _over_diagonal(operator, omega))
        half_sweeps.append(Colored(scale, color))
    return _repeated(half_sweeps, count)


def _chebyshev(step: Chebyshev, operator: StencilOperator, count: int) -> Smoother:
    gain, weights = step.schedule(operator.smoothing_interval)
    scale = _over_diagonal(operator, gain)
    polynomial = ChebyshevExtraction([_extraction(scale), *(_extraction(Borrowed(scale)) for _ in weights)])
    if polynomial.weights is not None:
        polynomial.weights = nn.Parameter(_tensor(np.array(weights)))
    return polynomial if count == 1 else Repeated(polynomial, count)


def _learned(step: LearnedSmoother, operator: StencilOperator, count: int) -> Smoother:
    sides, constant = operator.grid.sides, operator.constant_diagonal
    kernels = [
        convolution(kernel if constant is None else kernel / constant, sides, BESIDE) for kernel in step.kernels(operator)
    ]
    if constant is None:
        inverse = _over_diagonal(operator, 1.0)
        kernels = [nn.Sequential(inverse, kernel) for kernel in kernels]
    return _repeated(kernels, count)


def _direct(step: DirectSolver | FourierSolver, operator: StencilOperator, count: int) -> Smoother:
    size, shape = operator.grid.size, operator.grid.shape
    if size > MOST_DENSE:
        raise ValueError(
            f"the coarsest level has {size} unknowns; a fully connected layer would hold {size}^2 weights, at most "
            f"{MOST_DENSE}^2 are made. Leave max_levels out, or raise it"
        )
    columns = [step(operator, unit.reshape(shape), None).ravel() for unit in np.eye(size)]
    return DenseSolve(_tensor(np.stack(columns, axis=1)), (shape[0], shape[1]))


def _sequential(step: GaussSeidel, operator: StencilOperator, count: int) -> Smoother:
    raise ValueError(
        "lexicographic Gauss-Seidel needs each point before it takes the next, a recurrence and no convolution; "
        "red-black order is one, with a mask"
    )


_SMOOTHERS: dict[type[Smoother], Callable[..., Smoother]] = {
    Jacobi: _jacobi,
    RedBlack: _red_black,
    Chebyshev: _chebyshev,
    LearnedSmoother: _learned,
    DirectSolver: _direct,
    FourierSolver: _direct,
    GaussSeidel: _sequential,
}


# ---------------------------------------------------------------------------------------------------------- transfers


class _Rows(NamedTuple):
    """A transfer along one axis, for each of its products: weights (width, products), the first at `stride i + offset`."""

    weights: Array
    offset: int
    stride: int


# Windows of weights (first distance from stride i, number of weights); the first that fits is taken.
_WINDOWS = ((0, 1), (1, 1), (0, 2), (-1, 2), (0, 3), (-1, 3), (-1, 4))


def _rows(matrices: Sequence[Any], axis: Axis) -> _Rows:
    """Return the weights that reproduce (to, from) matrices on the values of an axis, the same at all points, sides included.

    A restriction gathers, its weight at distance t takes value stride i + t; a prolongation spreads, value i to stride i + t.
    The weights are those of least squares, and a window fits if the residual is zero.
    """
    outputs, inputs = matrices[0].shape
    gathers, stride = outputs <= inputs, 1 if outputs == inputs else 2
    rows, distances = np.arange(outputs), np.arange(-1, 3)[:, None]
    places, remainder = (stride * rows + distances, 0) if gathers else np.divmod(rows - distances, stride)
    known = (remainder == 0) & (places >= -1) & (places <= axis.n)
    sources, factors = _values(axis)
    places = np.where(known, places + 1, 0)
    # One column per distance, and one per matrix: their entries, of which those at the distance are the values taken.
    entries, starts = rows * axis.n + sources[places], np.arange(len(distances) + 1) * outputs
    columns = sparse.csc_array(((factors[places] * known).ravel(), entries.ravel(), starts), (outputs * axis.n, len(distances)))
    both = sparse.hstack([columns, *(matrix.reshape((-1, 1)) for matrix in matrices)], format="csc")
    normal = (both.T @ both).toarray()
    for offset, width in _WINDOWS[:1] if stride == 1 else _WINDOWS:
        window = slice(offset + 1, offset + 1 + width)
        if gathers and not known[window].all():  # farther than one value beyond a side
            continue
        weights = np.zeros((len(distances), len(matrices)))
        weights[window] = np.linalg.lstsq(normal[window, window], normal[window, len(distances) :], rcond=None)[0]
        residuals = both @ sparse.csc_array(np.vstack([weights, -np.eye(len(matrices))]))
        if abs(residuals).max() <= ROUND_OFF:
            leading = max(offset, 0)  # zeros, so that the row begins at or before stride i
            return _Rows(np.pad(weights[window], ((leading, 0), (0, 0))), offset - leading, stride)
    name = "restriction" if gathers else "prolongation"
    coarse, fine = sorted((outputs, inputs))
    raise ValueError(
        f"the {name} between {fine} and {coarse} unknowns has not the same weights everywhere, so it is no convolution; "
        "grids that nest have: 2^k - 1 vertices between Dirichlet sides, 2^k periodic ones or cells"
    )


def _values(axis: Axis) -> tuple[NDArray[np.int64], Array]:
    """Return, of the values -1 to n of an axis, those beyond the sides included, the unknown and the factor that give it."""
    unweighted = axis.reflections[0]._replace(weight=1.0), axis.reflections[1]._replace(weight=1.0)
    ends: Depths = ((1, 1),)
    sources = extended(np.arange(axis.n), (unweighted,), ends, np.concatenate)
    return sources.astype(int), extended(np.ones(axis.n), (axis.reflections,), ends, np.concatenate)


def _kernel(transfer: Any, axes: Sequence[Axis]) -> tuple[Array, list[_Rows]]:
    """Return the weights of a transfer in two dimensions, the sum of its products, and those of each axis."""
    if not isinstance(transfer, SeparableTransfer):
        raise ValueError(f"{type(transfer).__name__} is no known convolution; take a named transfer")
    products = zip(*transfer.axis_matrices(), strict=True)
    rows = [_rows(matrices, axis) for matrices, axis in zip(products, axes, strict=True)]
    return np.einsum("ip,jp->ij", *(row.weights for row in rows)), rows


def _own(transfer: Any) -> Any:
    return transfer.transfer if isinstance(transfer, FittedTransfer) else transfer


def _restriction(transfer: Any, fine: Grid) -> nn.Module:
    transfer = _own(transfer)
    if isinstance(transfer, FilteredDown):
        filtered = convolution(transfer.filter.weights, transfer.filter.sides, transfer.filter.depths)
        return nn.Sequential(filtered, _restriction(transfer.base, fine))
    weights, rows = _kernel(transfer, fine.axes)
    depths, strides, missing = [], tuple(row.stride for row in rows), []
    for row, n, outputs in zip(rows, fine.shape, transfer.shape, strict=True):
        end = row.stride * (outputs - 1) + row.offset + len(row.weights)
        depths.append((-row.offset, max(end - n, 0)))
        missing.append(max(n - end - row.stride + 1, 0))  # zeros that keep the convolution from making one point too many
    return convolution(np.pad(weights, [(0, count) for count in missing]), fine.sides, tuple(depths), strides)


def _prolongation(transfer: Any, coarse: Grid, fine: Grid) -> GridProlongation:
    transfer, after = _own(transfer), None
    if isinstance(transfer, FilteredUp):
        after = convolution(transfer.filter.weights, transfer.filter.sides, transfer.filter.depths)
        transfer = transfer.base
    weights, rows = _kernel(transfer, coarse.axes)
    depths, starts, short = [], [], []
    for row, axis, n in zip(rows, coarse.axes, fine.shape, strict=True):
        low, high = (reflection.weight != 0.0 for reflection in axis.reflections)
        before = int(low and row.offset + len(row.weights) > row.stride)
        behind = int(high and row.stride * axis.n + row.offset < n)
        depths.append((before, behind))
        starts.append(row.stride * before - row.offset)
        length = row.stride * (axis.n + before + behind - 1) + len(row.weights)
        short.append(max(starts[-1] + n - length, 0))
    weights = np.pad(weights, [(0, count) for count in short])
    spread = nn.ConvTranspose2d(1, 1, weights.shape, tuple(row.stride for row in rows), bias=False)  # type: ignore[arg-type]
    spread.weight = nn.Parameter(_tensor(weights)[None, None])
    surplus = tuple(n - row.stride * m for n, m, row in zip(fine.shape, coarse.shape, rows, strict=True))
    extension = Extended(coarse.sides, tuple(depths)) if any(map(any, depths)) else nn.Identity()
    return GridProlongation(extension, spread, tuple(starts), surplus, after)  # type: ignore[arg-type]
