"""Losses of a `PoissonNet`: by how much its own cycle contracts the error.

    fourier    the convergence factor of the first levels of the hierarchy on a periodic grid, where the error matrix of the
               cycle is block diagonal in Fourier space, with one small block per frequency. The cycle itself is run, on
               impulses; the Fourier transform of the response is its symbol, with coupled harmonics, and the loss is a smooth
               maximum of the blocks' spectral radii.
    random     random errors on a grid with sides; the loss is the mean of log(|e after| / |e before|) over two cycles. The
               errors are carried from step to step, so that the components that the net reduces least come to dominate.

Source: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), section 3.3 (rigorous Fourier analysis).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...analysis.stencils import endless, next_grid
from ...conv.levels import ConvCycle
from ...stencil.problem import Poisson
from .net import PoissonNet

MOST_HARMONICS = 16  # in one block: three grids, or five where each coarsens one axis alone
FREQUENCIES = 12  # of blocks along each axis


@dataclass(frozen=True)
class Window:
    """Some levels of a hierarchy, on a periodic grid: finest problem, number, and coarsening factors of the axes."""

    problem: Poisson
    levels: int
    factors: tuple[int, int]


def windows(problem: Poisson) -> list[Window]:
    """Return one window per coupling of the axes that occurs in the hierarchy, down to the level with equal couplings."""
    found, level = [], problem
    while level is not None:
        found.append(_window(level))
        if all(endless(level.grid.spacing, "vertex").strong_axes) or level.coarsened() is None:
            return found
        level = level.coarsened()  # type: ignore[assignment]
    return found


def _window(problem: Poisson) -> Window:
    """Return the longest window from this problem down in which at most `MOST_HARMONICS` are coupled."""
    grid, factors, levels = endless(problem.grid.spacing, "vertex"), (1, 1), 1
    while True:
        halved = 1 + grid.strong_axes[0], 1 + grid.strong_axes[1]
        coupled = factors[0] * halved[0], factors[1] * halved[1]
        if coupled[0] * coupled[1] > MOST_HARMONICS:
            break
        grid, factors, levels = next_grid(grid, halved), coupled, levels + 1
    shape = factors[0] * FREQUENCIES, factors[1] * FREQUENCIES
    return Window(Poisson(shape, spacing=problem.grid.spacing, boundary="periodic", reaction=problem.reaction), levels, factors)


@dataclass(frozen=True)
class Sharpness:
    """The exponents of the smooth maximum: |E^m| with m = 2^squarings, and a p-norm over the blocks with p = power."""

    squarings: int
    power: int


STAGES = (Sharpness(2, 2), Sharpness(3, 4), Sharpness(4, 8), Sharpness(4, 16), Sharpness(5, 32))


class FourierLoss:
    """The logarithm of the convergence factor on the windows, smoothed; of four or more problems on the finest windows only."""

    def __init__(self, net: PoissonNet, problems: Sequence[Poisson]) -> None:
        chosen = [window for problem in problems for window in (windows(problem) if len(problems) < 4 else [_window(problem)])]
        self.parts = [(window, net.network(window.problem, window.levels)) for window in chosen]

    def __call__(self, sharpness: Sharpness) -> Tensor:
        values = torch.stack([smooth_maximum(error_blocks(network, window), sharpness) for window, network in self.parts])
        weight = sharpness.power * 2**sharpness.squarings / 4
        return torch.logsumexp(weight * values, 0) / weight

    @torch.no_grad()
    def factor(self) -> float:
        """Return the largest spectral radius, not smoothed."""
        return max(float(torch.linalg.eigvals(error_blocks(network, window)).abs().max()) for window, network in self.parts)


def error_blocks(network: ConvCycle, window: Window) -> Tensor:
    """Return the error matrix of a cycle on a periodic grid, one block per frequency: (frequencies, harmonics, harmonics).

    The cycle is invariant under shifts by F = `factors` points, so its response to impulses at the first F points determines
    it. With x = q + F i, the block of frequency theta is M_qp = sum_i E(q + F i, p) exp(-i theta i). Constants are removed.
    """
    (rows, columns), (down, right) = window.problem.shape, window.factors
    count = down * right
    impulses = torch.zeros(count, 1, rows, columns, dtype=torch.float64)
    for number in range(count):
        impulses[number, 0, number // right, number % right] = 1.0
    response = network.cycle(torch.zeros_like(impulses), impulses)
    response = response - response.mean(dim=(2, 3), keepdim=True)
    phases = response.reshape(count, rows // down, down, columns // right, right)
    spectrum = torch.fft.rfft2(phases, dim=(1, 3))
    return spectrum.permute(1, 3, 2, 4, 0).reshape(-1, count, count)


def smooth_maximum(blocks: Tensor, sharpness: Sharpness) -> Tensor:
    """Return log of (mean over blocks of |E^m|^p)^(1/(m p)), which tends to log of the largest spectral radius."""
    power = blocks
    for _ in range(sharpness.squarings):
        power = power @ power
    norms = torch.log(torch.linalg.vector_norm(power, dim=(1, 2)))
    weight = sharpness.power
    return (torch.logsumexp(weight * norms, 0) - math.log(len(norms))) / (weight * 2**sharpness.squarings)


class RandomLoss:
    """mean of log(|e after two cycles| / |e|) / 2 over random errors, carried from call to call; one in eight is new."""

    CYCLES, BATCH = 2, 8

    def __init__(self, net: PoissonNet, problems: Sequence[Poisson], generator: torch.Generator) -> None:
        self.networks = [net.network(problem) for problem in problems]
        self.generator = generator
        self.errors = [self._drawn(self.BATCH, problem.shape) for problem in problems]

    def _drawn(self, count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(count, 1, *shape, dtype=torch.float64, generator=self.generator)

    def __call__(self) -> Tensor:
        """Return the loss, and keep the errors for the next call."""
        losses = []
        for number, network in enumerate(self.networks):
            start = self.errors[number]
            error = start
            for _ in range(self.CYCLES):
                error = network.cycle(torch.zeros_like(error), error)
            sizes = torch.linalg.vector_norm(error, dim=(1, 2, 3))
            losses.append((torch.log(sizes) - torch.log(torch.linalg.vector_norm(start, dim=(1, 2, 3)))).mean() / self.CYCLES)
            carried = (error / sizes[:, None, None, None]).detach()
            carried[:1] = self._drawn(1, tuple(start.shape[2:]))
            self.errors[number] = carried
        return torch.stack(losses).mean()
