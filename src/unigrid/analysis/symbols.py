"""Symbols: the factor by which a constant stencil multiplies the Fourier mode exp(i theta j)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import Operator
from ..stencil.grid import double_array
from ..stencil.operator import StencilOperator

Reals = NDArray[np.float64]
Symbols = NDArray[np.complex128]


def symbol(stencil: ArrayLike, *frequencies: ArrayLike) -> Symbols:
    r"""Return the symbol a^(theta) = sum over s of a_s exp(i theta s) of a stencil, (A u)_j = sum over s of a_s u_(j+s).

    Parameters
    ----------
    stencil : array_like
        a, with an odd side along each axis, s = 0 in the middle: a cross-correlation, like the convolutions of networks.
    *frequencies : array_like
        theta in radians per grid point, one array per axis; the result has the shape to which they broadcast.

    Raises
    ------
    ValueError
        For a stencil with an even side or entries that are not finite, or a number of frequencies other than its axes.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> theta = np.linspace(0, np.pi, 3)
    >>> symbol([-1, 2, -1], theta).real.round(12)  # 2 - 2 cos theta
    array([0., 2., 4.])
    """
    array = checked_stencil(stencil)
    if len(frequencies) != array.ndim:
        raise ValueError(f"a stencil of {array.ndim} axes needs as many frequencies, got {len(frequencies)}")
    thetas = np.broadcast_arrays(*frequencies)
    result = np.zeros(thetas[0].shape, dtype=np.complex128)
    for offset, weight in entries(array):
        result += weight * np.exp(1j * sum(s * theta for s, theta in zip(offset, thetas, strict=True)))
    return result


def checked_stencil(stencil: ArrayLike) -> Reals:
    """Return the stencil as an array; raise TypeError or ValueError if it is not a valid one."""
    array = double_array(stencil, "a stencil")
    if array.ndim == 0 or any(side % 2 == 0 for side in array.shape):
        raise ValueError(
            f"a stencil needs an odd number of entries along each axis, its middle is s = 0; got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("the entries of a stencil must be finite numbers")
    return array


def entries(stencil: Reals) -> list[tuple[tuple[int, ...], float]]:
    """Return the offsets s and weights of a stencil's entries that are not zero."""
    pairs = zip(offsets(stencil.shape).tolist(), stencil.ravel().tolist(), strict=True)
    return [(tuple(offset), weight) for offset, weight in pairs if weight]


def offsets(sides: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the offsets s of all entries of a stencil with these sides, (count, axes), the middle being 0."""
    return np.indices(sides).reshape(len(sides), -1).T - np.array(sides) // 2


def center(stencil: Reals) -> float:
    """Return a_0, the diagonal of the operator."""
    return float(stencil[tuple(side // 2 for side in stencil.shape)])


def wrapped(theta: Reals) -> Reals:
    """Return the frequencies in [-pi, pi) of the same modes on the grid."""
    return (theta + np.pi + 1e-12) % (2 * np.pi) - np.pi - 1e-12


def is_low(frequencies: Reals, factors: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which frequencies, (..., axes), the grid coarser by m represents: theta in [-pi/m, pi/m) along each axis."""
    theta, edge = wrapped(frequencies), np.pi / np.array(factors)
    low: NDArray[np.bool_] = np.all((theta >= -edge - 1e-9) & (theta < edge - 1e-9), axis=-1)
    return low


@final
@dataclass(frozen=True, eq=False)
class OperatorSymbol(Operator):
    """The operator of one level on sets of H frequencies: the slot A of a cycle on symbols, and the input of error symbols.

    Attributes
    ----------
    stencil : ndarray
        A, with an odd side along each axis.
    frequencies : ndarray, (..., H, axes)
        theta, in radians per point of this level's grid.
    partners : ndarray of int, (H,)
        For each frequency of a set the index of theta + (pi, .., pi), with which checkerboard smoothers couple it.
    shifts : ndarray of int, (axes, H)
        The same for theta + pi along each axis, with which zebra lines across that axis couple it.
    geometry : StencilOperator
        An operator on a grid with this level's spacing, for smoothers that depend on the spacing.
    smoothing_interval : (float, float)
        The range of the symbol of D^-1 A on the frequencies that the next grid does not represent.
    """

    stencil: Reals
    frequencies: Reals
    partners: NDArray[np.int64]
    shifts: NDArray[np.int64]
    geometry: StencilOperator
    smoothing_interval: tuple[float, float]

    def __call__(self, u: Symbols) -> Symbols:
        """Return A u for amplitudes u, (..., H, columns)."""
        return self.values[..., None] * u

    @cached_property
    def values(self) -> Symbols:
        """The symbol of A at the frequencies, (..., H)."""
        return self.of(self.stencil)

    @property
    def diagonal(self) -> float:
        """a_0, the diagonal of A."""
        return center(self.stencil)

    @property
    def scaled(self) -> Symbols:
        """The symbol of D^-1 A at the frequencies, (..., H)."""
        return self.values / self.diagonal

    @cached_property
    def inverse(self) -> Symbols:
        """The symbol of A^-1, (..., H), and 0 where A vanishes: the constant mode is not corrected."""
        vanishes = np.abs(self.values) < 1e-13 * np.abs(self.stencil).sum()
        inverse: Symbols = np.where(vanishes, 0.0, 1.0 / np.where(vanishes, 1.0, self.values))
        return inverse

    def of(self, stencil: Reals) -> Symbols:
        """Return the symbol of another stencil at these frequencies."""
        return symbol(stencil, *np.moveaxis(self.frequencies, -1, 0))
