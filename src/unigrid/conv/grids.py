"""Slots for grids with boundary conditions: the parts of a classical hierarchy that are no plain convolutions.

An `nn.Conv2d` pads with zeros or around the corner. A boundary condition may also reflect (`Extended`); red-black order is a
mask (`Checkerboard`); a direct solver is a fully connected layer (`DenseSolve`); interpolation is a transposed convolution cut
to the finer grid (`GridProlongation`).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..cycle import Operator, Prolongation, Smoother
from ..reflection import Depths, Sides, extended
from .slots import Part, hold


@final
class Extended(nn.Module):
    """Adds the values beyond the sides, of rows and columns, according to their reflections: the padding of a convolution.

    At each end it adds as many values as `depths` holds, 0 or 1.
    """

    def __init__(self, sides: Sides, depths: Depths) -> None:
        super().__init__()
        self.sides, self.depths = sides, depths
        self._zeros = all(reflection.weight == 0.0 for pair in sides for reflection in pair)

    def extra_repr(self) -> str:
        return f"sides={[tuple(map(tuple, pair)) for pair in self.sides]}, depths={self.depths}"

    def forward(self, values: Tensor) -> Tensor:
        if self._zeros:  # the common case, in one call
            rows, columns = self.depths
            return functional.pad(values, (*columns, *rows))
        return extended(values, self.sides, self.depths, torch.cat)


@final
class Checkerboard(nn.Module):
    """Keeps the points of one color and zeroes the others: (row + column) mod 2 = color, 0 red, 1 black."""

    def __init__(self, color: int) -> None:
        super().__init__()
        self.color = color

    def extra_repr(self) -> str:
        return f"color={self.color}"

    def forward(self, values: Tensor) -> Tensor:
        rows = torch.arange(values.shape[-2], device=values.device)
        columns = torch.arange(values.shape[-1], device=values.device)
        return torch.where((rows[:, None] + columns) % 2 == self.color, values, 0.0)


@final
class Colored(nn.Module):
    """A convolution whose result is kept on one color alone: half a sweep of red-black relaxation."""

    convolution: nn.Module

    def __init__(self, convolution: Part, color: int) -> None:
        super().__init__()
        hold(self, "convolution", convolution)
        self.mask = Checkerboard(color)

    def forward(self, values: Tensor) -> Tensor:
        return self.mask(self.convolution(values))


@final
class Rescaling(nn.Module):
    """Multiplies every point by a number of its own: where the diagonal of A is not constant, at the sides of cells."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weight


@final
class Repeated(nn.Module, Smoother):
    """A smoother applied `count` times, each time from its first step: `unigrid.cycle.Steps` as a part of a network."""

    step: Smoother

    def __init__(self, step: Smoother, count: int) -> None:
        super().__init__()
        self.step, self.count = step, count

    def extra_repr(self) -> str:
        return f"count={self.count}"

    @property
    def cost(self) -> float:
        return self.count * self.step.cost

    def forward(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        for _ in range(self.count):
            u = self.step(operator, f, u)
        assert u is not None
        return u


@final
class DenseSolve(nn.Module, Smoother):
    """u = A^-1 f, a fully connected layer over the coarsest grid: a direct solver is a smoother that leaves no error.

    The inverse is (rows * columns, rows * columns), of a grid of this shape: unlike a convolution, this layer has one size.
    """

    inverse: Tensor

    def __init__(self, inverse: Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("inverse", inverse)
        self.shape = shape

    def extra_repr(self) -> str:
        return f"shape={self.shape}"

    def forward(self, operator: Operator, f: Tensor, u: Tensor | None) -> Tensor:
        if tuple(f.shape[1:]) != (1, *self.shape):
            raise ValueError(
                f"the coarsest level got {tuple(f.shape[1:])}, its direct solver is made for one channel of {self.shape}: the "
                "network takes grids of the size that it was made from"
            )
        return (f.flatten(1) @ self.inverse.T).reshape(f.shape)


@final
class GridProlongation(nn.Module, Prolongation):
    """P: values beyond the sides, a transposed convolution, and a cut to the finer grid.

    Parameters
    ----------
    extension, convolution : nn.Module or Borrowed
        `Extended`, and an `nn.ConvTranspose2d` without padding.
    starts, surplus : pair of int
        Along rows and columns, the first point of the transposed convolution that lies on the finer grid, and how many more
        unknowns that grid has than stride times the coarser one.
    filter : nn.Module or Borrowed, optional
        Applied on the finer grid afterwards.
    """

    extension: nn.Module
    convolution: nn.ConvTranspose2d
    filter: nn.Module

    def __init__(
        self, extension: Part, convolution: Part, starts: tuple[int, int], surplus: tuple[int, int], filter: Part | None = None
    ) -> None:
        super().__init__()
        hold(self, "filter", nn.Identity() if filter is None else filter)
        hold(self, "extension", extension)
        hold(self, "convolution", convolution)
        self.starts, self.surplus = starts, surplus

    def extra_repr(self) -> str:
        return f"starts={self.starts}, surplus={self.surplus}"

    def forward(self, correction: Tensor) -> Tensor:
        fine: Tensor = self.convolution(self.extension(correction))
        for axis, (start, surplus) in enumerate(zip(self.starts, self.surplus, strict=True), start=2):
            stride = self.convolution.stride[axis - 2]
            fine = fine.narrow(axis, start, stride * correction.shape[axis] + surplus)
        return self.filter(fine)
