"""`FourierAnalysis`: how fast a cycle converges, predicted from its stencils."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import VISITS, Smoother, Steps
from ..messages import checked_count, choose, reject_unknown_keywords
from ..stencil.hierarchy import StencilCycle
from ..stencil.problem import Poisson
from ..stencil.smoothers import RedBlack
from ..stencil.transfers import PROLONGATIONS, RESTRICTIONS, TransferRecipe
from .arguments import COARSE, checked_stencils, finest_operator, named_recipe, named_smoother
from .smoothers import smoothed
from .stencils import StencilOnGrid, TransferStencils, galerkin
from .symbols import OperatorSymbol, Reals, Symbols, is_low, wrapped
from .waves import Waves

SAMPLES = {1: 512, 2: 128, 3: 32}  # frequencies along each axis of the finest grid, by the number of axes
NEAR_ZERO = 1e-3  # radians: the limit theta -> 0, where the coarse operator itself vanishes


@final
class FourierAnalysis:
    """Local Fourier analysis of a multigrid cycle: its smoothing, two-grid and V-cycle factors, on a grid without sides.

    A cycle of L levels couples, on its finest grid, the waves theta + 2 pi k / M, M = 2^(L-1) along each axis that is always
    coarsened. On each such set its error propagation is a matrix,

        E_l = S_post^post (I - P (I - E_(l+1)) A_(l+1)^-1 R A_l) S_pre^pre,    E = 0 on the coarsest level, solved exactly,

    and the factor is the largest spectral radius over the sampled base frequencies. Sides are not seen: what they do to a
    cycle vanishes on large grids for most smoothers, lexicographic Gauss-Seidel being the exception.

    Parameters
    ----------
    operator : Poisson or array_like
        A problem, of which spacing, centering and reaction count; or any constant stencil, an array of odd sides.
    smoother : str, Smoother or None
        "red-black", "jacobi", "gauss-seidel", "chebyshev", or an object; None smooths nothing. One of your own needs a method
        `error_symbol(operator)` that is given an `OperatorSymbol` and returns an array of the shape of `operator.values`.
    pre, post : int
        Steps before and after the coarse-grid correction.
    post_smoother : Smoother, optional
        The smoother after the correction where it is another one.
    restriction, prolongation : str or TransferRecipe
        As of `StencilCycle`.
    coarse : "rediscretized", "galerkin", or a sequence of stencils
        Where the operators of the coarser levels come from: the same differences on the coarser grid (of a bare stencil, its
        scaling as second derivatives), R A P, or stencils as given.
    cycle : "V", "W" or "F"
    spacing : float or sequence of float, optional
        Of a bare stencil: the distance of the points along each axis, 1 if not given. An axis whose spacing is 1.5 times the
        smallest or more is not coarsened, as in `StencilCycle`.
    centering : "vertex" or "cell", optional
        Of a bare stencil, "vertex" if not given.
    samples : int, optional
        Frequencies along each axis of the finest grid: 512 in 1-D, 128 in 2-D, 32 in 3-D if not given.

    Raises
    ------
    ValueError, TypeError
        For what is not as above, with what is allowed; where a factor is asked for, also for a smoother or a transfer that has
        no symbol.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), sections 4.3 to 4.6; Wienands, Joppich, Practical Fourier
    Analysis for Multigrid Methods (2005), chapters 5 and 6 (three-grid analysis).

    Examples
    --------
    >>> import unigrid
    >>> analysis = FourierAnalysis(unigrid.Poisson((63, 63)), smoother=unigrid.RedBlack(omega=1.0), pre=1, post=1)
    >>> round(analysis.smoothing_factor, 3), round(analysis.two_grid_factor, 3), round(analysis.cycle_factor(levels=3), 3)
    (0.25, 0.074, 0.106)
    >>> nine_points = [[-1, -4, -1], [-4, 20, -4], [-1, -4, -1]]
    >>> round(FourierAnalysis(nine_points, smoother=unigrid.Jacobi(0.9)).smoothing_factor, 3)
    0.46
    """

    @reject_unknown_keywords
    def __init__(
        self,
        operator: Poisson | ArrayLike,
        *,
        smoother: str | Smoother | None = "red-black",
        pre: int = 2,
        post: int = 2,
        post_smoother: str | Smoother | None = None,
        restriction: str | TransferRecipe = "full-weighting",
        prolongation: str | TransferRecipe = "linear",
        coarse: str | Sequence[ArrayLike] = "rediscretized",
        cycle: str = "V",
        spacing: float | Sequence[float] | None = None,
        centering: str | None = None,
        samples: int | None = None,
    ) -> None:
        finest = finest_operator(operator, spacing, centering)
        self.ndim = finest.grid.ndim
        self.smoother = named_smoother(smoother)
        self.post_smoother = self.smoother if post_smoother is None else named_smoother(post_smoother)
        self.pre, self.post = checked_count("pre", pre, 0), checked_count("post", post, 0)
        self.restriction = named_recipe(restriction, RESTRICTIONS, "restriction")
        self.prolongation = named_recipe(prolongation, PROLONGATIONS, "prolongation")
        self.coarse = choose(coarse, COARSE, "coarse") if isinstance(coarse, str) else checked_stencils(coarse, self.ndim)
        self.kind = choose(cycle, VISITS, "cycle")
        self.samples = SAMPLES[self.ndim] if samples is None else checked_count("samples", samples, 4)
        self._operators = [finest]
        self._transfers: list[TransferStencils] = []

    @classmethod
    def of(
        cls, cycle: StencilCycle, *, coarse: str | Sequence[ArrayLike] = "rediscretized", samples: int | None = None
    ) -> FourierAnalysis:
        """Return the analysis of a `StencilCycle`, its adjoint post-smoother (`symmetric()`) included."""
        if not isinstance(cycle, StencilCycle):
            raise TypeError(
                f"cycle must be a unigrid.StencilCycle, got {type(cycle).__name__}; "
                "a problem or a stencil goes to FourierAnalysis()"
            )
        after = cycle.levels[0].post_smoother  # None where post = 0, or where there is but one level
        post_smoother = after.step if isinstance(after, Steps) else cycle.smoother
        return cls(
            cycle.problem, smoother=cycle.smoother, pre=cycle.pre, post=cycle.post, post_smoother=post_smoother,
            restriction=cycle.restriction, prolongation=cycle.prolongation, coarse=coarse, cycle=cycle.kind, samples=samples,
        )  # fmt: skip

    def __repr__(self) -> str:
        stencil = " x ".join(map(str, self.stencil.shape))
        kind, factors = f"{self.kind}({self.pre},{self.post})", " x ".join(map(str, self.factors))
        return f"<FourierAnalysis: {kind}, {self.smoother!r}, {stencil} stencil, coarsening {factors}>"

    @property
    def stencil(self) -> Reals:
        """The stencil of the finest level."""
        return self._operators[0].stencil

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much the second grid is coarser along each axis: 2, or 1 where the axis is not coarsened."""
        return self._operators[0].factors

    @cached_property
    def smoothing_factor(self) -> float:
        """The factor by which one step of the smoother reduces what the coarser grid cannot see: the largest spectral radius of
        Q S, Q what keeps the high frequencies, |theta| >= pi/2 along some coarsened axis.
        """
        return self.smoothing_factor_of(1)

    def smoothing_factor_of(self, steps: int) -> float:
        """Return the factor a step if `steps` of them stand together, (spectral radius of Q S^steps)^(1/steps).

        For smoothers that couple no frequencies it is the same for any number; for red-black it grows.
        """
        checked_count("steps", steps, 1)
        theta = _circle(4 * math.ceil(self.samples / 4))  # pi/2, where many smoothers are at their worst, is one of them
        factor, low = self._step(theta, steps)
        return float(factor[~low].max()) ** (1 / steps)

    def smoothing_symbol(self, resolution: int = 64) -> tuple[Reals, Reals]:
        """Return theta, (resolution,), the middles of so many cells of -pi to pi, and what one step multiplies the wave by.

        That is |S(theta)|, (resolution, .., resolution), an axis of the array an axis of the grid. Red-black couples theta with
        theta + (pi, .., pi): there it is the spectral radius of S on those of the two that are high frequencies like theta, or
        low ones like theta; so its largest value at high frequencies is the smoothing factor, to within the resolution.
        """
        checked_count("resolution", resolution, 2)
        theta = _circle(resolution) + np.pi / resolution
        return theta, self._step(theta, 1)[0]

    @cached_property
    def two_grid_factor(self) -> float:
        """The factor of a cycle of two levels, the coarser solved exactly."""
        return self.cycle_factor(levels=2)

    def cycle_factor(self, levels: int = 3) -> float:
        """Return the factor of a cycle of so many levels, the coarsest solved exactly.

        Three levels show most of what the inexact coarse solves of a V-cycle cost; the limit is its factor on many levels, to
        which four come close. H waves are coupled, 2^(axes (levels - 1)), and the work grows like H^2: three levels take a
        fifth of a second in 2-D, two seconds in 3-D.
        """
        blocks = self.cycle_symbol(*self._base_frequencies(levels).T, levels=levels)[1]
        return float(np.abs(np.linalg.eigvals(blocks)).max())

    def cycle_symbol(self, *frequencies: ArrayLike, levels: int = 2) -> tuple[Reals, Symbols]:
        """Return the sets of waves that a cycle couples, and the matrices by which it multiplies errors made of them.

        Parameters
        ----------
        *frequencies : array_like
            Base frequencies, one array an axis, of one shape: theta and theta + 2 pi / M belong to the same set.
        levels : int
            At least 2.

        Returns
        -------
        waves : ndarray, (..., H, axes)
            The frequencies of each set, in [-pi, pi).
        matrices : ndarray of complex, (..., H, H)
            E, in that order. Where a wave is constant on the coarsest grid and its operator vanishes, its part of the coarse
            correction is zero.
        """
        checked_count("levels", levels, 2)
        if len(frequencies) != self.ndim:
            raise ValueError(f"{self.ndim} axes need as many frequencies, got {len(frequencies)}")
        base = np.stack(np.broadcast_arrays(*(np.asarray(theta, dtype=np.float64) for theta in frequencies)), axis=-1)
        waves = Waves.of(base, self._harmonics(levels))
        identity = np.zeros((*base.shape[:-1], 1, 1)) + np.eye(waves.frequencies.shape[-2], dtype=np.complex128)
        return wrapped(waves.frequencies), self._left(identity, 0, levels, waves, self.kind)

    # how the matrices come about

    def _operator(self, at: int) -> StencilOnGrid:
        """Return the operator of a level, made when it is first needed."""
        while len(self._operators) <= at:
            self._operators.append(self._coarse_operator(len(self._operators)))
        return self._operators[at]

    def _coarse_operator(self, at: int) -> StencilOnGrid:
        finer = self._operator(at - 1)
        if not isinstance(self.coarse, str):
            if at > len(self.coarse):
                raise ValueError(
                    f"coarse holds {len(self.coarse)} stencils, level {at} needs another: give one a coarser level"
                )
            return finer.replaced(self.coarse[at - 1])
        return galerkin(finer, self._transfer(at - 1)) if self.coarse == "galerkin" else finer.rediscretized()

    def _transfer(self, at: int) -> TransferStencils:
        """Return the transfers from a level to the next."""
        while len(self._transfers) <= at:
            grid = self._operator(len(self._transfers)).grid
            self._transfers.append(TransferStencils.between(grid, self.restriction, self.prolongation))
        return self._transfers[at]

    def _harmonics(self, levels: int) -> tuple[int, ...]:
        """Return how many waves are coupled along each axis of the finest grid.

        A red-black step couples theta with theta + (pi, .., pi) on each level that it smooths, an axis that is not coarsened
        included.
        """
        counts = np.prod([self._operator(at).factors for at in range(levels - 1)], axis=0)
        last = np.array(self._operator(levels - 2).factors)
        if _couples(self.smoother) or _couples(self.post_smoother):
            counts = np.where(last == 1, 2 * counts, counts)
        return tuple(int(count) for count in counts)

    def _symbols(self, at: int, waves: Waves) -> OperatorSymbol:
        operator = self._operator(at)
        return OperatorSymbol(
            operator.stencil, waves.frequencies, waves.partners, operator.geometry, operator.smoothing_interval
        )

    def _left(self, errors: Symbols, at: int, levels: int, waves: Waves, kind: str) -> Symbols:
        """Return what a cycle from level `at` leaves of errors (..., H, any number): the cycle itself, on waves."""
        if at == levels - 1:
            return np.zeros_like(errors)
        operator, transfer = self._symbols(at, waves), self._transfer(at)
        coarse_waves = waves.coarsened(transfer.factors)
        for _ in range(self.pre):
            errors = smoothed(self.smoother, operator, errors)
        defects = operator.of(transfer.restriction)[..., None] * operator.values[..., None] * errors
        exact = _inverse(self._symbols(at + 1, coarse_waves)) * waves.folded(defects, transfer.factors)
        left = exact
        for visit in VISITS[kind]:
            left = self._left(left, at + 1, levels, coarse_waves, visit)
        weights = operator.of(np.flip(transfer.prolongation)) / math.prod(transfer.factors)
        errors = errors - weights[..., None] * waves.repeated(exact - left, transfer.factors)
        for _ in range(self.post):
            errors = smoothed(self.post_smoother, operator, errors)
        return errors

    def _base_frequencies(self, levels: int) -> Reals:
        """Return sampled base frequencies, (their number, axes), without 0, of theta and -theta only one."""
        counts = self._harmonics(checked_count("levels", levels, 2))
        axes = []
        for axis, count in enumerate(counts):
            half = max(1, math.ceil(self.samples / count / 2))
            axes.append(np.arange(-half, half if axis else 1) * np.pi / (half * count))
        base = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.ndim)
        directions = [*np.eye(self.ndim), np.ones(self.ndim)]
        return np.concatenate([base[(base != 0).any(axis=1)], NEAR_ZERO * np.array(directions)])

    def _step(self, theta: Reals, steps: int) -> tuple[Reals, NDArray[np.bool_]]:
        """Return the spectral radius of `steps` steps on the side, high or low, of each frequency, and which are low.

        S couples theta at most with theta + (pi, .., pi): pairs suffice.
        """
        frequencies = np.stack(np.meshgrid(*[theta] * self.ndim, indexing="ij"), axis=-1)
        waves = Waves(np.stack([frequencies, frequencies + np.pi], axis=-2), (2,))  # each the other's partner
        operator = self._symbols(0, waves)
        matrices = np.zeros((*frequencies.shape[:-1], 1, 1)) + np.eye(2, dtype=np.complex128)
        for _ in range(steps):
            matrices = smoothed(self.smoother, operator, matrices)
        low = is_low(waves.frequencies, self.factors)
        same = low == low[..., :1]
        own = matrices * (same[..., :, None] & same[..., None, :])
        factor = np.abs(own[..., 0, 0])
        if _couples(self.smoother):
            together = same[..., 1]
            factor[together] = np.abs(np.linalg.eigvals(own[together])).max(axis=-1)
        return factor, low[..., 0]


def _circle(count: int) -> Reals:
    """Return frequencies from -pi on, (count,)."""
    return np.arange(count) * 2 * np.pi / count - np.pi


def _inverse(operator: OperatorSymbol) -> Symbols:
    """Return 1 / A, (..., H, 1), and 0 where A vanishes: for the constant, which is not corrected."""
    vanishes = np.abs(operator.values) < 1e-13 * np.abs(operator.stencil).sum()
    inverse: Symbols = np.where(vanishes, 0.0, 1.0 / np.where(vanishes, 1.0, operator.values))[..., None]
    return inverse


def _couples(smoother: Any) -> bool:
    """Say whether a smoother couples theta with theta + (pi, .., pi)."""
    inner = getattr(smoother, "step", getattr(smoother, "smoother", None))
    return isinstance(smoother, RedBlack) or (inner is not None and _couples(inner))
