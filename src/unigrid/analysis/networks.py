"""The symbols of a trained network's A^l and B^l: low-pass or high-pass.

A convolution maps c_in channels to c_out, so its symbol at a frequency is a matrix, K^(theta), (c_out, c_in). Its mean square
over the pairs of channels is the gain at each frequency. Batch norms and activations are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from .symbols import Reals, offsets

if TYPE_CHECKING:
    from ..conv.classifier import Classifier

SLOTS = {"operator": "A", "smoother": "B"}
PASSES = 2.0  # least ratio of the mean energies, low and high, of a filter that is called low-pass or high-pass (3 decibels)


@final
@dataclass(frozen=True, eq=False)
class KernelSymbol:
    """The symbol of one slot of a level, A^l or B^l.

    Attributes
    ----------
    slot : "A" or "B"
    levels : tuple of int
        The levels that use it: several where it is shared.
    kernels : tuple of ndarray, (c_out, c_in, side, side)
        One per smoothing step with its own; that of several convolutions in turn (a bottleneck, xi sigma eta) is their product.
    """

    slot: str
    levels: tuple[int, ...]
    kernels: tuple[NDArray[np.float64], ...]

    @property
    def flat_share(self) -> float:
        """The low share of a filter with the same gain at all frequencies: 1/4 in 2-D."""
        return 0.5 ** (self.kernels[0].ndim - 2)

    @cached_property
    def low_share(self) -> float:
        """The share of the integral of |K^|^2 in |theta| < pi/2 along every axis, integrated exactly."""
        low = total = 0.0
        for places, products in self._products:
            low += float((products * np.prod(np.sinc((places[:, None] - places) / 2) / 2, axis=-1)).sum())
            total += float(products.trace())
        return low / total if total else self.flat_share

    @property
    def kind(self) -> str:
        """The kind of filter: "low-pass" if the mean of |K^|^2 over the low frequencies is at least twice that over the high
        ones, 3 decibels more (in 2-D a low share of 0.4 or more), "high-pass" if at most half (1/7 or less), else "mixed".
        """
        low, high = self.low_share / self.flat_share, (1.0 - self.low_share) / (1.0 - self.flat_share)
        if low >= PASSES * high:
            return "low-pass"
        return "high-pass" if high >= PASSES * low else "mixed"

    def root_mean_square(self, *frequencies: Any) -> Reals:
        """Return the root mean square of K^(theta) over pairs of channels (and steps): Frobenius norm / sqrt(c_out c_in)."""
        pairs = sum(kernel.shape[0] * kernel.shape[1] for kernel in self.kernels)
        thetas = np.stack(np.broadcast_arrays(*frequencies))
        square = np.zeros(thetas.shape[1:])
        for places, products in self._products:
            waves = np.exp(1j * np.tensordot(places, thetas, 1))
            square += (waves.conj() * np.tensordot(products, waves, 1)).sum(axis=0).real
        return np.sqrt(np.maximum(square, 0.0) / pairs)

    def largest_singular_value(self, *frequencies: Any) -> Reals:
        """Return the largest singular value of K^(theta), maximized over the steps: the largest amplification of a mode.

        One singular value decomposition per frequency: 256 channels take a tenth of a second each.
        """

        def largest(*theta: float) -> float:
            return max(float(np.linalg.norm(matrix_symbol(kernel, *theta), 2)) for kernel in self.kernels)

        return np.vectorize(largest, otypes=[float])(*frequencies)  # type: ignore[no-any-return]

    @cached_property
    def _products(self) -> list[tuple[NDArray[np.int64], Reals]]:
        """Of each kernel its offsets s, and the products <K_s, K_t> in |K^(theta)|^2 = sum of <K_s, K_t> cos((t - s) theta)."""
        flat = [kernel.reshape(-1, math.prod(kernel.shape[2:])) for kernel in self.kernels]
        return [(offsets(kernel.shape[2:]), entries.T @ entries) for kernel, entries in zip(self.kernels, flat, strict=True)]


def matrix_symbol(kernel: NDArray[np.float64], *frequencies: float) -> NDArray[np.complex128]:
    """Return K^(theta), (c_out, c_in), of a kernel (c_out, c_in, side, ..) at one frequency."""
    return kernel.reshape(*kernel.shape[:2], -1) @ np.exp(1j * (offsets(kernel.shape[2:]) @ frequencies))


def network_symbols(model: Classifier) -> list[KernelSymbol]:
    """Return the symbols of the A^l and the B^l of a network, level by level, A first; one for each kernel that levels share.

    Parameters
    ----------
    model : unigrid.MgNet, or another network through `ConvCycle`

    Raises
    ------
    TypeError, ValueError
        If the model has no cycle with levels, or no convolutions in A or B.

    Source: J. He, J. Xu, MgNet, Sci. China Math. 62 (2019), where B is a smoother, which damps high frequencies; chapter 4 of
    Trottenberg, Oosterlee, Schueller, Multigrid (2001), for symbols.

    Examples
    --------
    >>> from unigrid.conv import MgNet
    >>> symbols = network_symbols(MgNet(features=16, steps=(2, 2)))
    >>> [(symbol.slot, symbol.levels, symbol.kind) for symbol in symbols]  # untrained: the same gain at all frequencies
    [('A', (0,), 'mixed'), ('B', (0,), 'mixed'), ('A', (1,), 'mixed'), ('B', (1,), 'mixed')]
    """
    from ..conv.convolutions import chains_of, levels_of  # imported here: the analysis of stencils needs no torch

    found: dict[tuple[Any, ...], tuple[list[int], list[list[Any]]]] = {}
    for number, level in enumerate(levels_of(model)):
        for slot, letter in SLOTS.items():
            chains = chains_of(getattr(level, slot, None))
            if chains:
                key = (letter, *(id(convolution) for chain in chains for convolution in chain))
                found.setdefault(key, ([], chains))[0].append(number)
    if not found:
        raise ValueError(f"no level of this {type(model).__name__} has convolutions in A or B")
    return [
        KernelSymbol(key[0], tuple(numbers), tuple(_kernel(chain) for chain in chains))
        for key, (numbers, chains) in found.items()
    ]


def _kernel(chain: list[Any]) -> NDArray[np.float64]:
    """Return the kernel of convolutions one after the other."""
    result, *others = (convolution.weight.detach().cpu().double().numpy() for convolution in chain)
    for kernel in others:
        sides = [a + b - 1 for a, b in zip(result.shape[2:], kernel.shape[2:], strict=True)]
        product = np.zeros((kernel.shape[0], result.shape[1], *sides))
        for place in np.ndindex(kernel.shape[2:]):
            window = tuple(slice(start, start + side) for start, side in zip(place, result.shape[2:], strict=True))
            product[:, :, *window] += np.tensordot(kernel[:, :, *place], result, axes=1)
        result = product
    return result  # type: ignore[no-any-return]
