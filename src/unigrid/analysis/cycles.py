"""`FourierAnalysis`: how fast a cycle converges, predicted from its stencils."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cycle import MOST_STEPS, VISITS, MultigridCycle, Prolongation, Restriction, Smoother, Steps
from ..messages import checked_count, choose, reject_unknown_keywords, shown
from ..stencil.coarsening import coarse_points
from ..stencil.cycle import StencilCycle
from ..stencil.galerkin import GalerkinCycle
from ..stencil.problem import Poisson
from ..stencil.smoothers import SMOOTHERS, SWEEPS, RedBlack, Smoothing, sweeps_of
from ..stencil.transfers import PROLONGATIONS, RESTRICTIONS, TransferRecipe
from .levels import Harmonics, SmootherSymbol, SymbolLevel, transfer_symbols
from .smoothers import couples, displaced, error_symbol
from .stencils import StencilOnGrid, TransferStencils, by_couplings, by_spacing, endless, galerkin
from .symbols import OperatorSymbol, Reals, Symbols, checked_stencil, is_low, wrapped

COARSE = ("rediscretized", "galerkin")
SAMPLES = {1: 512, 2: 128, 3: 32}  # frequencies along each axis of the finest grid, by the number of axes
MOST_SAMPLES, MOST_LEVELS = 2**16, 20
NEAR_ZERO = 1e-3  # radians: the limit theta -> 0, where the coarse operator itself vanishes


@final
class FourierAnalysis:
    """Local Fourier analysis of a multigrid cycle: its smoothing, two-grid and V-cycle factors, on a grid without boundaries.

    A cycle of L levels couples, on its finest grid, the modes exp(i theta j) of theta + 2 pi k / M, M = 2^(L-1) along each axis
    that is coarsened on every level. On each such set its error propagation is a matrix,

        E_l = S_post^post (I - P (I - E_(l+1)) A_(l+1)^-1 R A_l) S_pre^pre,    E = 0 on the coarsest level, solved exactly,

    and the factor is the largest spectral radius over the sampled base frequencies. E comes from the same `MultigridCycle` as
    a solve, run on Fourier symbols for b = 0 from u = I. Boundaries are left out: their effect vanishes on large grids for most
    smoothers, lexicographic Gauss-Seidel being the exception.

    Parameters
    ----------
    operator : Poisson or array_like
        A problem, of which spacing, coefficients per axis, centering and reaction count; or any constant stencil, an array of
        odd sides.
    smoother, pre, post_smoother, post : optional
        As of `StencilCycle`. Your own smoother needs a method `error_symbol(operator)`, called with an `OperatorSymbol`, that
        returns the factor of each frequency, an array of the shape of `operator.values`, or, where it couples frequencies,
        matrices (see `unigrid.analysis.smoothers`). Without these four the default cycle is analyzed: of a problem with the
        tuned smoothing of `StencilCycle(problem)`; of a bare stencil with `RedBlack()`, two sweeps on either side, since the
        tuned omegas were found for Poisson's equation. With some of them, the others are `RedBlack()` and 2. `pre=0, post=0`
        alone is a cycle without smoothing.
    restriction, prolongation : str or TransferRecipe
        As of `StencilCycle`.
    coarse : "rediscretized", "galerkin", or a sequence of stencils
        The operators of the coarser levels: the same differences on the coarser grid (of a bare stencil, its scaling as second
        derivatives), R A P, or the stencils given.
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
        For other arguments; when a factor is computed, also for a smoother or a transfer that has no symbol.

    Source: Trottenberg, Oosterlee, Schueller, Multigrid (2001), sections 4.3 to 4.6; Wienands, Joppich, Practical Fourier
    Analysis for Multigrid Methods (2005), chapters 5 and 6 (three-grid analysis).

    Examples
    --------
    >>> import unigrid
    >>> problem = unigrid.Poisson((63, 63))
    >>> analysis = FourierAnalysis(problem, smoother=unigrid.RedBlack(omega=1.0), pre=1, post=1)
    >>> round(analysis.smoothing_factor, 3), round(analysis.two_grid_factor, 3), round(analysis.cycle_factor(levels=3), 3)
    (0.25, 0.074, 0.106)

    >>> round(FourierAnalysis(problem).cycle_factor(levels=3), 4)  # the default cycle of `unigrid.solve`
    0.0092

    Any constant stencil, and a smoother of your own:

    >>> nine_points = [[-1, -4, -1], [-4, 20, -4], [-1, -4, -1]]
    >>> round(FourierAnalysis(nine_points, smoother=unigrid.Jacobi(0.9)).smoothing_factor, 3)
    0.46
    >>> class Damped(unigrid.Smoother):
    ...     def __call__(self, operator, b, u):
    ...         step = 0.8 * operator.residual(b, u) / operator.diagonal()
    ...         return step if u is None else u + step
    ...
    ...     def error_symbol(self, operator):
    ...         return 1 - 0.8 * operator.values / operator.diagonal
    >>> round(FourierAnalysis(problem, smoother=Damped(), pre=1, post=1).two_grid_factor, 2)
    0.36

    Anisotropy, by the default cycle and by zebra lines of black box multigrid:

    >>> anisotropic = unigrid.Poisson((127, 127), coefficient=(1, 0.3))
    >>> round(FourierAnalysis(anisotropic).cycle_factor(levels=3), 3)
    0.027
    >>> round(FourierAnalysis.of(unigrid.GalerkinCycle(anisotropic, smoother="lines")).cycle_factor(levels=3), 3)
    0.063
    """

    @reject_unknown_keywords
    def __init__(
        self,
        operator: Poisson | ArrayLike,
        *,
        smoother: str | Smoother | None = None,
        pre: int | None = None,
        post: int | None = None,
        post_smoother: str | Smoother | None = None,
        restriction: str | TransferRecipe = "full-weighting",
        prolongation: str | TransferRecipe = "linear",
        coarse: str | Sequence[ArrayLike] = "rediscretized",
        cycle: str = "V",
        spacing: float | Sequence[float] | None = None,
        centering: str | None = None,
        samples: int | None = None,
    ) -> None:
        finest = _finest(operator, spacing, centering)
        self.ndim = finest.grid.ndim
        smoothing = _smoothing(operator, smoother, pre, post_smoother, post)
        self.smoother, self.pre, self.post_smoother, self.post = smoothing
        self.restriction = _recipe(restriction, RESTRICTIONS, "restriction")
        self.prolongation = _recipe(prolongation, PROLONGATIONS, "prolongation")
        self.coarse = choose(coarse, COARSE, "coarse") if isinstance(coarse, str) else _checked_stencils(coarse, self.ndim)
        self.kind = choose(cycle, VISITS, "cycle")
        self.samples = SAMPLES[self.ndim] if samples is None else checked_count("samples", samples, 4, MOST_SAMPLES)
        self._operators = [finest]
        self._transfers: list[TransferStencils] = []
        self._odd = np.zeros(self.ndim, np.int64)  # 1 along axes whose coarse points have odd indices: of them, sweeps depend

    @classmethod
    def of(
        cls,
        cycle: StencilCycle | GalerkinCycle,
        *,
        coarse: str | Sequence[ArrayLike] = "rediscretized",
        samples: int | None = None,
    ) -> FourierAnalysis:
        """Return the analysis of a `StencilCycle`, its adjoint post-smoother (`symmetric()`) included.

        Of a `GalerkinCycle` for constant coefficients, zebra lines included, `coarse` is "galerkin": without reaction, the
        transfers that it makes of the operator are linear interpolation and its transpose.
        """
        if isinstance(cycle, GalerkinCycle):
            return cls._of_galerkin(cycle, samples)
        if not isinstance(cycle, StencilCycle):
            raise TypeError(
                f"cycle must be a unigrid.StencilCycle, got {type(cycle).__name__}; "
                "a problem or a stencil goes to FourierAnalysis()"
            )
        recipes: Any = (cycle.restriction, cycle.prolongation)  # a slot of the user's own is refused by name
        return cls(
            cycle.problem, smoother=cycle.smoother, pre=cycle.pre, post=cycle.post, post_smoother=cycle.post_smoother,
            restriction=recipes[0], prolongation=recipes[1], coarse=coarse, cycle=cycle.kind, samples=samples,
        )  # fmt: skip

    @classmethod
    def _of_galerkin(cls, cycle: GalerkinCycle, samples: int | None) -> FourierAnalysis:
        if len(cycle.levels) == 1:
            raise ValueError(f"this cycle solves its {cycle.problem.grid.size} unknowns directly: give a larger grid")
        if not cycle.problem.varies and cycle.problem.reaction:
            raise ValueError("the transfers of a GalerkinCycle depend on the reaction; give a problem with reaction=0")
        if cycle.kind == "auto" and 2 in cycle.repeats:
            raise ValueError("this cycle visits some of its levels twice; give GalerkinCycle cycle='V' or 'W'")
        before, after = (_counted(slot) for slot in (cycle.levels[0].smoother, cycle.levels[0].post_smoother))
        analysis = cls(
            cycle.problem, smoother=before[0], pre=before[1], post_smoother=after[0], post=after[1], coarse="galerkin",
            cycle="V" if cycle.kind == "auto" else cycle.kind, samples=samples,
        )  # fmt: skip
        finest, axes = analysis._operators[0], cycle.problem.grid.axes
        analysis._operators = [replace(finest, grid=endless(finest.grid.spacing, "vertex"), coarsening=by_couplings)]
        analysis._odd = np.array([coarse_points(axis.n, axis, True).positions[0] for axis in axes])
        return analysis

    def __repr__(self) -> str:
        sweeps = ",".join(str(sweeps_of(slot)) for slot in self._slots)
        smoothing = "no smoothing" if self.smoother is None else repr(self.smoother)
        if self.post_smoother != self.smoother:
            smoothing += f", then {self.post_smoother!r}"
        stencil, factors = " x ".join(map(str, self.stencil.shape)), " x ".join(map(str, self.factors))
        return f"<FourierAnalysis: {self.kind}({sweeps}), {smoothing}, {stencil} stencil, coarsening {factors}>"

    @property
    def _slots(self) -> list[Steps | None]:
        """The slots before and after the correction, None for no steps."""
        steps = (self.smoother, self.pre), (self.post_smoother, self.post)
        return [Steps(smoother, count) if count else None for smoother, count in steps]

    @property
    def stencil(self) -> Reals:
        """The stencil of the finest level."""
        return self._operators[0].stencil

    @property
    def factors(self) -> tuple[int, ...]:
        """The coarsening factor of the second grid along each axis: 2, or 1 where the axis is not coarsened."""
        return self._operators[0].factors

    @cached_property
    def smoothing_factor(self) -> float:
        """The factor by which one step of the smoother reduces errors that the coarser grid does not represent: the largest
        spectral radius of Q S, Q the projection on the high frequencies, |theta| >= pi/2 along some coarsened axis.
        """
        return self.smoothing_factor_of(1)

    def smoothing_factor_of(self, steps: int) -> float:
        """Return the factor per step of `steps` consecutive steps, (spectral radius of Q S^steps)^(1/steps).

        It is the same for any number for smoothers that couple no frequencies; for red-black it grows.
        """
        steps = checked_count("steps", steps, 1, MOST_STEPS)
        count = 4 * math.ceil(self.samples / 4)  # so that pi/2, where many smoothers are at their worst, is one of them
        theta = np.linspace(-np.pi, np.pi, count, endpoint=False)
        factor, low = self._step(theta, steps)
        return float(factor[~low].max()) ** (1 / steps)

    def smoothing_symbol(self, resolution: int = 64) -> tuple[Reals, Reals]:
        """Return theta, (resolution,), the midpoints of as many cells of [-pi, pi], and the factor of one step at each.

        That is |S(theta)|, (resolution, .., resolution), one axis per axis of the grid. Red-black couples theta with
        theta + (pi, .., pi): there it is the spectral radius of S on those of the two that are high frequencies like theta, or
        low ones like theta; so its largest value at high frequencies is the smoothing factor, to within the resolution.
        """
        resolution = checked_count("resolution", resolution, 2, MOST_SAMPLES)
        theta = np.linspace(-np.pi, np.pi, resolution, endpoint=False) + np.pi / resolution
        return theta, self._step(theta, 1)[0]

    @cached_property
    def two_grid_factor(self) -> float:
        """The factor of a cycle of two levels, the coarser solved exactly."""
        return self.cycle_factor(levels=2)

    def cycle_factor(self, levels: int = 3) -> float:
        """Return the factor of a cycle of that many levels, the coarsest solved exactly.

        Three levels show most of the effect of the inexact coarse solves of a V-cycle; four come close to the limit of many
        levels. H modes are coupled, 2^(axes (levels - 1)), and the work per set grows like H^3: three levels take a tenth of a
        second in 2-D, a second in 3-D.
        """
        levels = checked_count("levels", levels, 2, MOST_LEVELS)
        blocks = self.cycle_symbol(*self._base_frequencies(levels).T, levels=levels)[1]
        return float(np.abs(np.linalg.eigvals(blocks)).max())

    def cycle_symbol(self, *frequencies: ArrayLike, levels: int = 2) -> tuple[Reals, Symbols]:
        """Return the sets of harmonics that a cycle couples, and its error propagation matrix on each.

        Arguments are base frequencies, one array per axis, of one shape: theta and theta + 2 pi / M belong to the same set.
        The sets are the frequencies in [-pi, pi), (..., H, axes), the matrices are E, (..., H, H), in that order. Where a mode
        is constant on the coarsest grid and its operator vanishes, its part of the coarse correction is zero.
        """
        levels = checked_count("levels", levels, 2, MOST_LEVELS)
        if len(frequencies) != self.ndim:
            raise ValueError(f"{self.ndim} axes need as many frequencies, got {len(frequencies)}")
        base = np.stack(np.broadcast_arrays(*frequencies), axis=-1)
        harmonics = Harmonics.of(base, self._coupled(levels))
        cycle = MultigridCycle()
        cycle.levels, cycle.kind = self._levels(harmonics, levels), self.kind
        identity = np.zeros((*base.shape[:-1], 1, 1)) + np.eye(math.prod(harmonics.counts), dtype=np.complex128)
        return wrapped(harmonics.frequencies), cycle.cycle(np.zeros_like(identity), identity)

    def _levels(self, harmonics: Harmonics, count: int) -> list[SymbolLevel]:
        """Return the levels of a cycle on these harmonics of the finest grid."""
        levels = []
        for at in range(count - 1):
            operator, transfers = self._symbol(at, harmonics), self._transfer(at)
            odd = self._odd * (np.array(transfers.factors) == 2)
            symbols = (displaced(error_symbol(slot, operator), operator, odd) if slot else None for slot in self._slots)
            before, after = (None if symbol is None else SmootherSymbol(symbol) for symbol in symbols)
            harmonics, aliasing = harmonics.coarsened(transfers.factors)
            levels.append(SymbolLevel(operator, before, after, *transfer_symbols(transfers, operator, aliasing)))
        coarsest = self._symbol(count - 1, harmonics)
        return [*levels, SymbolLevel(coarsest, SmootherSymbol(np.zeros_like(coarsest.values)))]  # solved exactly: S = 0

    def _symbol(self, at: int, harmonics: Harmonics) -> OperatorSymbol:
        operator = self._operator(at)
        return OperatorSymbol(
            operator.stencil, harmonics.frequencies, harmonics.partners, harmonics.shifts, operator.geometry,
            operator.smoothing_interval,
        )  # fmt: skip

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
                    f"coarse holds {len(self.coarse)} stencils, level {at} needs another: give one per coarser level"
                )
            return finer.replaced(self.coarse[at - 1])
        return galerkin(finer, self._transfer(at - 1)) if self.coarse == "galerkin" else finer.rediscretized()

    def _transfer(self, at: int) -> TransferStencils:
        """Return the transfers from a level to the next."""
        while len(self._transfers) <= at:
            fine = self._operator(len(self._transfers))
            self._transfers.append(TransferStencils.between(fine.grid, fine.factors, self.restriction, self.prolongation))
        return self._transfers[at]

    def _coupled(self, levels: int) -> tuple[int, ...]:
        """Return how many modes are coupled along each axis of the finest grid.

        At least 2 on the last level that is smoothed, where a red-black step couples theta with theta + (pi, .., pi).
        """
        counts = np.prod([self._operator(at).factors for at in range(levels - 1)], axis=0)
        last = np.array(self._operator(levels - 2).factors)
        return tuple(int(count) for count in np.where(last == 1, 2 * counts, counts))

    def _base_frequencies(self, levels: int) -> Reals:
        """Return sampled base frequencies, (count, axes), without 0, and only one of theta and -theta."""
        counts = self._coupled(levels)
        axes = []
        for axis, count in enumerate(counts):
            half = max(1, math.ceil(self.samples / count / 2))
            axes.append(np.arange(-half, half if axis else 1) * np.pi / (half * count))
        base = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.ndim)
        directions = [*np.eye(self.ndim), np.ones(self.ndim)]
        return np.concatenate([base[(base != 0).any(axis=1)], NEAR_ZERO * np.array(directions)])

    def _step(self, theta: Reals, steps: int) -> tuple[Reals, NDArray[np.bool_]]:
        """Return the spectral radius of `steps` steps on the side, high or low, of each frequency, and which are low.

        S couples theta at most with theta + pi along some of the axes. Those that it does not couple with theta are left out.
        """
        grid = np.stack(np.meshgrid(*[theta] * self.ndim, indexing="ij"), axis=-1)
        harmonics = Harmonics.of(grid, (2,) * self.ndim)
        operator = self._symbol(0, harmonics)
        error = error_symbol(Steps(self.smoother, steps), operator)
        low = is_low(harmonics.frequencies, self.factors)
        if not couples(error, operator):
            return np.abs(error[..., 0]), low[..., 0]
        coupled = np.any(error, axis=tuple(range(self.ndim)))
        part = np.flatnonzero(np.linalg.matrix_power(coupled | coupled.T | np.eye(len(coupled), dtype=bool), len(coupled))[0])
        error, low = error[..., part[:, None], part], low[..., part]
        same = low == low[..., :1]
        own = error * (same[..., :, None] & same[..., None, :])
        factor, together = np.abs(own[..., 0, 0]), same[..., 1:].any(axis=-1)
        factor[together] = np.abs(np.linalg.eigvals(own[together])).max(axis=-1)
        return factor, low[..., 0]


def _finest(operator: Any, spacing: Any, centering: str | None) -> StencilOnGrid:
    """Return the operator of the finest level from a problem or a bare stencil."""
    if isinstance(operator, StencilCycle):
        raise TypeError("operator must be a problem or a stencil; a StencilCycle goes to FourierAnalysis.of()")
    if isinstance(operator, Poisson) and operator.varies:
        raise TypeError(
            f"Fourier analysis is of constant coefficients and spacings, and this problem has {operator.what_varies}; "
            f"unigrid.analysis.measured_factor(unigrid.{operator.cycle_name}(problem)) measures the factor"
        )
    if not isinstance(operator, Poisson):
        return StencilOnGrid.of_bare(operator, spacing, centering)
    if spacing is not None or centering is not None:
        raise ValueError("spacing and centering belong to a bare stencil; a problem has its own")
    return StencilOnGrid.of_poisson(operator.grid, operator.reaction, by_spacing)


def _smoothing(
    operator: Any, smoother: str | Smoother | None, pre: int | None, post_smoother: str | Smoother | None, post: int | None
) -> tuple[Any, int, Any, int]:
    """Return smoother, pre, post_smoother and post, defaults filled in; a smoother None does nothing."""
    if all(each is None for each in (smoother, pre, post_smoother, post)) and isinstance(operator, Poisson):
        tuned = Smoothing.tuned(operator.grid.ndim)
        return tuned.smoother, tuned.pre, tuned.post_smoother, tuned.post
    pre, post = (checked_count(name, SWEEPS if n is None else n, 0, MOST_STEPS) for name, n in (("pre", pre), ("post", post)))
    if smoother is None and (pre or post or post_smoother is not None):
        smoother = RedBlack()
    first = _smoother(smoother)
    return first, pre, first if post_smoother is None else _smoother(post_smoother), post


def _counted(slot: Any) -> tuple[Any, int]:
    """Return a smoother and its number of steps."""
    return (slot.step, slot.count) if isinstance(slot, Steps) else (slot, int(slot is not None))


def _smoother(smoother: Any) -> Any:
    """Return the smoother of that name; of an object, whether it has a symbol is checked when the symbol is needed."""
    return SMOOTHERS[choose(smoother, SMOOTHERS, "smoother")]() if isinstance(smoother, str) else smoother


def _recipe(given: Any, named: Any, what: str) -> TransferRecipe:
    """Return the recipe, made if it is named."""
    if isinstance(given, str):
        recipe: TransferRecipe = named[choose(given, named, what)]()
        return recipe
    if isinstance(given, TransferRecipe):
        return given
    slot = " that fits one size only" if isinstance(given, Restriction | Prolongation) else ""
    raise TypeError(
        f"{what} must be one of {', '.join(map(repr, named))} or a unigrid.TransferRecipe, whose between(fine, coarse) makes "
        f"the transfer on the grid of the analysis; got {type(given).__name__}{slot}"
    )


def _checked_stencils(stencils: Sequence[ArrayLike], ndim: int) -> list[Reals]:
    """Return the operators of the coarser levels, given as stencils."""
    if not isinstance(stencils, Iterable):
        raise TypeError(f"coarse must be {', '.join(map(repr, COARSE))}, or a sequence of stencils, got {shown(stencils)}")
    checked = [checked_stencil(stencil) for stencil in stencils]
    if not checked or any(stencil.ndim != ndim for stencil in checked):
        raise ValueError(f"coarse must be {', '.join(map(repr, COARSE))}, or a stencil of {ndim} axes for each coarser level")
    return checked
