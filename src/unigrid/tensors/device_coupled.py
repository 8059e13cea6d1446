"""The levels of a `GalerkinCycle` on a device: stencils, weights of P and factors of lines, set up on the host, moved there.

The coarsest level is a product with its inverse, up to DENSE_UNKNOWNS; where coarsening ends at more, the host solves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..cycle import NestedLevel, Operator, Prolongation, Restriction, SlotLevel, Smoother, Steps
from ..stencil.coupled import CoupledOperator
from ..stencil.galerkin_levels import Coarsest, CoupledLevel
from ..stencil.kernels import coupled_slices as kernels
from ..stencil.kernels import slices
from ..stencil.kernels.cpu.compiled.arguments import CoupledTransfer, SymmetricStencil
from ..stencil.relaxation import Lines, Points, colors_of
from .device_problems import moved, widest

DENSE_UNKNOWNS = 1500  # of 18 MB; the time to invert grows with the cube


@final
class DeviceSymmetricOperator(Operator):
    """A of a level, on boxes of three axes and on grids."""

    def __init__(self, stencil: SymmetricStencil, device: torch.device, dtype: torch.dtype) -> None:
        self.stencil = _stencil(stencil, device, dtype)

    def __call__(self, u: Tensor) -> Tensor:
        return kernels.apply(self._boxed(u), self.stencil).reshape(u.shape)  # type: ignore[no-any-return]

    def residual(self, b: Tensor, u: Tensor | None) -> Tensor:
        if u is None:
            return b
        return kernels.residual(self._boxed(b), self._boxed(u), self.stencil).reshape(b.shape)  # type: ignore[no-any-return]

    def _boxed(self, u: Tensor) -> Tensor:
        return u.reshape(self.stencil.frame.shape)


@final
class DeviceCoupledOperator(Operator):
    """A of the problem: the symmetric form, over the volumes of the cells."""

    def __init__(self, operator: CoupledOperator, symmetric: DeviceSymmetricOperator) -> None:
        inverse = symmetric.stencil.inverse
        self.host, self.symmetric = operator, symmetric
        self.norm_bound = operator.norm_bound
        self.volumes = None if operator.volumes is None else moved(operator.volumes, inverse.device, inverse.dtype)

    def __call__(self, u: Tensor) -> Tensor:
        return self._divided(self.symmetric(u))

    def residual(self, b: Tensor, u: Tensor | None) -> Tensor:
        return self.symmetric.residual(b, u) if u is None or self.volumes is None else b - self(u)

    def residual_norm(self, b: Tensor, u: Tensor | None) -> float:
        return slices.norm(self.residual(b, u))

    def integrated(self, b: Tensor) -> Tensor:
        """Return b times the volumes: the right-hand side of the symmetric form."""
        return b if self.volumes is None else b * self.volumes

    def magnitude(self, u: Tensor) -> float:
        """Return a bound of the 2-norm of the terms that A u sums up, which rounding is relative to."""
        return slices.norm(self._divided(2.0 * self.symmetric.stencil.diagonal.reshape(u.shape) * u))

    def _divided(self, b: Tensor) -> Tensor:
        return b if self.volumes is None else b / self.volumes


def _stencil(stencil: SymmetricStencil, device: torch.device, dtype: torch.dtype) -> kernels.CoupledStencil:
    """Return a stencil with its couplings on a device, each once: both ways are views of it."""
    shape = stencil.excess.shape
    frame = kernels.Frame(shape, _pads(shape), tuple(_ends_couple(stencil, axis) for axis in range(3)))
    whole = [(0, n, 1) for n in shape]
    terms, offsets = [], []
    for offset, couplings in zip(stencil.offsets.tolist(), stencil.couplings, strict=True):
        if any(step and n == 1 for step, n in zip(offset, shape, strict=True)):
            continue
        own = kernels.framed(moved(couplings, device, dtype), frame)
        back = tuple(-step for step in offset)
        for weights, toward in ((kernels.inside(own, frame), offset), (own[kernels.places(frame, back, whole)], back)):
            terms.append(kernels.Term(weights, kernels.places(frame, toward, whole)))
            offsets.append(tuple(toward))
    diagonal, inverse = (moved(each, device, dtype) for each in (stencil.diagonal, stencil.inverse))
    seams = tuple(bool(each) for each in stencil.seams)
    made = kernels.CoupledStencil(frame, tuple(terms), diagonal, inverse, tuple(offsets), seams, ())
    blocks = kernels.parity_blocks(made)
    if colors_of(stencil) == 2:
        groups = [[each for parities, own in blocks.items() if sum(parities) % 2 == color for each in own] for color in (0, 1)]
    else:
        groups = [list(own) for own in blocks.values()]
    return made._replace(colors=tuple(map(tuple, groups)))


def _pads(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n > 1) for n in shape)


def _ends_couple(stencil: SymmetricStencil, axis: int) -> bool:
    """Whether the last point of an axis is coupled to the first."""
    steps = zip(stencil.couplings, stencil.offsets[:, axis], strict=True)
    return stencil.excess.shape[axis] > 1 and any(own.take(-1 if step > 0 else 0, axis).any() for own, step in steps if step)


def _lines(stencil: SymmetricStencil, own: kernels.CoupledStencil, axis: int) -> kernels.LineStencil:
    """Return the factors of the tridiagonal systems along an axis, by cyclic reduction; see `kernels.Reduction`.

    Rows are couplings along the line and the rest, what they sum up to: of these nothing cancels.
    """
    straight = [tuple(way * int(axis == other) for other in range(3)) for way in (1, -1)]
    rest: Tensor = moved(stencil.excess, own.diagonal.device, own.diagonal.dtype)
    couplings = torch.zeros_like(rest)  # to the next point; of the last one, to the first
    for term, offset in zip(own.terms, own.offsets, strict=True):
        if offset == straight[0]:
            couplings = term.weights
        elif offset != straight[1]:
            rest = rest + term.weights
    reductions = []
    while rest.shape[axis] > 1:
        (toward, beyond), (kept, odd) = ([kernels.every_other(each, axis, q) for q in (0, 1)] for each in (couplings, rest))
        count = odd.shape[axis]
        before = toward.narrow(axis, 0, count)
        inverse = _reciprocal(before + beyond + odd)
        low, high = before * inverse, beyond * inverse
        reductions.append(kernels.Reduction(low, high, inverse))
        rest = kernels.to_high(kernels.to_low(kept.clone(), low * odd, axis), high * odd, axis)
        couplings = toward.clone()
        couplings.narrow(axis, 0, count).copy_(low * beyond)
    blocks = kernels.parity_blocks(own, axis)
    return kernels.LineStencil(axis, tuple(reductions), _reciprocal(rest), tuple(blocks.values()))


def _reciprocal(values: Tensor) -> Tensor:
    """Return 1 / values, 0 for 0: of a line to which nothing ties the last point, that one is left as it is."""
    return torch.where(values == 0.0, 0.0, 1.0 / values)


@final
class DeviceRelaxation(Smoother):
    """All steps of points or lines, in one framed array."""

    def __init__(self, relax: Callable[[Tensor, Tensor], None], count: int) -> None:
        self._relax, self._count = relax, count

    def __call__(self, operator: DeviceSymmetricOperator, b: Tensor, u: Tensor | None) -> Tensor:
        frame = operator.stencil.frame
        work = kernels.framed(torch.zeros_like(b) if u is None else u, frame)
        for _ in range(self._count):
            self._relax(work, b)
        return kernels.inside(work, frame)  # type: ignore[no-any-return]


def _relaxation(slot: Smoother | None, stencil: SymmetricStencil, own: kernels.CoupledStencil) -> Smoother | None:
    """Return a smoother on a device. Raises TypeError for a user's own."""
    if slot is None:
        return None
    step, count = (slot.step, slot.count) if isinstance(slot, Steps) else (slot, 1)
    if isinstance(step, Points):
        omega, backward = step.omega, step.backward
        return DeviceRelaxation(lambda u, b: kernels.relax_colors(u, b, omega, own, backward), count)
    if not isinstance(step, Lines):
        kind = type(getattr(getattr(step, "smoother", step), "smoother", step)).__name__
        raise TypeError(f"on a device smoothers are points or lines, got {kind}; take one of them, or give f.cpu()")
    lines, reverse = [_lines(stencil, own, axis + 3) for axis in step.axes], step.backward

    def relax(u: Tensor, b: Tensor) -> None:
        for each in lines:
            kernels.relax_lines(u, b, own, each, reverse)

    return DeviceRelaxation(relax, count)


@final
class DeviceCoarsest(Smoother):
    """The direct solve of the coarsest level, by its inverse or, beyond DENSE_UNKNOWNS, on the host."""

    def __init__(self, coarsest: Coarsest, size: int, device: torch.device) -> None:
        self._coarsest, self._wide = coarsest, widest(device)
        self._inverse = moved(coarsest.inverse(size), device, self._wide) if size <= DENSE_UNKNOWNS else None

    def __call__(self, operator: Operator, b: Tensor, u: Tensor | None) -> Tensor:
        if self._inverse is None:
            return HostSolve.apply(b, self._coarsest)  # type: ignore[no-any-return, no-untyped-call]
        return (self._inverse @ b.to(self._wide).ravel()).reshape(b.shape).to(b.dtype)


@final
class HostSolve(torch.autograd.Function):
    """A^-1 b on the host; A is symmetric, and so its derivative is the same solve."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, coarsest: Coarsest) -> Tensor:  # type: ignore[override]
        ctx.coarsest = coarsest
        return torch.from_numpy(coarsest(None, b.detach().cpu().numpy(), None)).to(b.device)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Any:  # type: ignore[override]
        return HostSolve.apply(v, ctx.coarsest), None  # type: ignore[no-untyped-call]


@final
class DeviceTransposed(Restriction):
    """The slot R: P^T."""

    def __init__(self, transfer: kernels.TransferStencil) -> None:
        self._transfer = transfer

    def __call__(self, residual: Tensor) -> Tensor:
        return kernels.restrict(residual, self._transfer)  # type: ignore[no-any-return]


@final
class DeviceInterpolation(Prolongation):
    """The slot P: weights from the couplings."""

    def __init__(self, transfer: kernels.TransferStencil) -> None:
        self._transfer = transfer

    def __call__(self, correction: Tensor) -> Tensor:
        return kernels.interpolated(correction, self._transfer)  # type: ignore[no-any-return]


def _transfer(
    given: CoupledTransfer, fine: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> kernels.TransferStencil:
    """Return P on a device. Coarse points lie at equal distances along each axis."""
    coarse = given.weights.shape[1:]
    ranges, wraps = [], []
    for children, n, m in zip(given.children, fine, coarse, strict=True):
        first, step = int(children[0, 1]), int(children[1, 1] - children[0, 1]) if m > 1 else 1
        ranges.append((first, first + step * (m - 1) + 1, step))
        straight = first + step * np.arange(m)[:, None] + np.arange(-1, 2)
        wraps.append(n > 1 and bool(((children[:m] >= 0) & (children[:m] != straight)).any()))
    frame = kernels.Frame(fine, _pads(fine), tuple(wraps))
    terms = [
        kernels.Term(moved(weights, device, dtype), kernels.places(frame, offset, ranges))
        for weights, offset in zip(given.weights, given.offsets.tolist(), strict=True)
    ]
    return kernels.TransferStencil(frame, coarse, tuple(terms))


@final
class DeviceCoupledLevel(SlotLevel, NestedLevel):
    """A level, its slots on a device."""

    operator: DeviceSymmetricOperator
    state_transfer = None

    def __init__(self, level: CoupledLevel, device: torch.device, dtype: torch.dtype) -> None:
        stencil = level.operator.stencil
        self.shape = level.shape
        self.operator = DeviceSymmetricOperator(stencil, device, dtype)
        own = self.operator.stencil
        if level.transfers is None:
            assert isinstance(level.smoother, Coarsest)
            self.smoother: Smoother | None = DeviceCoarsest(level.smoother, stencil.excess.size, device)
            self.post_smoother = None
            return
        self.smoother = _relaxation(level.smoother, stencil, own)
        repeats = level.post_smoother == level.smoother
        self.post_smoother = self.smoother if repeats else _relaxation(level.post_smoother, stencil, own)
        transfer = _transfer(level.transfers.exact, level.shape, device, dtype)
        self.restriction, self.prolongation = DeviceTransposed(transfer), DeviceInterpolation(transfer)

    def right_hand_side(self, f: Tensor) -> Tensor:
        return f

    def nested_restriction(self, f: Tensor) -> Tensor:
        return self.restriction(f)  # type: ignore[no-any-return]

    def nested_prolongation(self, u: Tensor) -> Tensor:
        assert self.prolongation is not None
        return self.prolongation(u)  # type: ignore[no-any-return]
