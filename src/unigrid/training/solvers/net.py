"""PoissonNet: multigrid for Poisson's equation with trained smoothers. A few 3x3 kernels, the same on every level.

    u <- u + K_i * D^-1 (f - A u),  i = 1..pre              before the correction
    R r = R_0 (K_R * r),  P e = K_P * (P_0 e)               where the transfers are trained too; R_0, P_0 full weighting, linear
    u <- u + K_i * D^-1 (f - A u),  i = pre + 1..pre + post after it

As the kernels depend neither on size nor on spacing, one net serves every grid of two axes. On arrays it is a `StencilCycle`,
on tensors the `ConvCycle` that `to_conv` returns, with kernels computed from the parameters at every call.

Source: the cycle of J. He & J. Xu, MgNet (2019), B^(l,i) = B^i D_l^-1; for training smoothers through the cycle,
A. Katrutsa, T. Daulbaev, I. Oseledets, Black-box learning of multigrid parameters, J. Comput. Appl. Math. 368 (2020).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...conv.configuration import configured
from ...conv.grids import Extended, Rescaling
from ...conv.levels import ConvCycle
from ...conv.slots import Extraction, FeatureExtraction
from ...cycle import MOST_STEPS, Level
from ...equivalence import to_conv
from ...messages import checked_count, shown
from ...stencil.cycle import StencilCycle
from ...stencil.external import SlotsForAnyGrid
from ...stencil.grid import Grid
from ...stencil.learned import FilteredProlongation, FilteredRestriction, LearnedSmoother, anisotropy
from ...stencil.operator import StencilOperator
from ...stencil.problem import Poisson

Array = NDArray[Any]
START = 0.8  # omega of damped Jacobi, the initial value of every kernel
BESIDE = ((1, 1), (1, 1))  # a 3x3 convolution needs one value beyond every side


@dataclass(frozen=True)
class PoissonNetConfig:
    """The configuration of a `PoissonNet`.

    Parameters
    ----------
    pre, post : int
        Trained smoothing steps before and after the correction, each with a 3x3 kernel of its own.
    degree : int
        Every entry of a kernel is a polynomial of this degree in the anisotropy of the level; 0: one kernel for all levels.
        Higher degrees let one net serve a range of operators -eps u_xx - u_yy.
    transfers : bool
        Whether R and P have trained kernels too.
    symmetric : bool
        Whether kernels are symmetrized along both axes, as A is: each then costs 12 operations per point instead of 17.

    Raises
    ------
    ValueError
        For a number that is not as above.
    """

    pre: int = 1
    post: int = 1
    degree: int = 0
    transfers: bool = False
    symmetric: bool = True

    def __post_init__(self) -> None:
        for name, least in (("pre", 1), ("post", 1), ("degree", 0)):
            object.__setattr__(self, name, checked_count(name, getattr(self, name), least, MOST_STEPS))
        for name in ("transfers", "symmetric"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {shown(getattr(self, name))}")

    def build(self) -> PoissonNet:
        """Return the net, untrained: damped Jacobi."""
        return PoissonNet(self)


@final
class PoissonNet(nn.Module, SlotsForAnyGrid):
    """A multigrid cycle with trained smoothers, for grids of two axes, of any size.

    `unigrid.solve(f, cycle=net)` solves with it, `unigrid.train_solver(model=net)` trains it. `net(f, u)` is one cycle on its
    `problem`, or, for grids of another shape, on the unit square between Dirichlet sides; `net.on(problem)` is the hierarchy
    for any problem, `net.network(problem)` the same as a network.

    Parameters
    ----------
    config : PoissonNetConfig, optional
        Or its fields, as keywords.

    Examples
    --------
    >>> import numpy as np, unigrid
    >>> net = unigrid.PoissonNet()
    >>> unigrid.solve(np.ones((60, 40)), cycle=net).converged
    True
    """

    kind = "V"
    restriction: nn.Parameter | None
    prolongation: nn.Parameter | None

    def __init__(self, config: PoissonNetConfig | None = None, **choices: Any) -> None:
        super().__init__()
        self.config = configured(PoissonNetConfig, config, choices)
        self.problem = Poisson((31, 31))
        terms = self.config.degree + 1
        self.pre = nn.Parameter(_centers(START, self.config.pre, terms))
        self.post = nn.Parameter(_centers(START, self.config.post, terms))
        self.restriction = self.prolongation = None
        if self.config.transfers:
            self.restriction = nn.Parameter(_centers(1.0, 1, 1)[0, 0])
            self.prolongation = nn.Parameter(_centers(1.0, 1, 1)[0, 0])
        self._networks: dict[tuple[Grid, float], ConvCycle] = {}

    def extra_repr(self) -> str:
        return ", ".join(f"{field.name}={getattr(self.config, field.name)}" for field in dataclasses.fields(self.config))

    def on(self, problem: Poisson, max_levels: int | None = None) -> StencilCycle:
        """Return the hierarchy of a problem with the current kernels, for NumPy arrays."""
        if problem.grid.ndim != 2:
            raise ValueError(f"the kernels of a PoissonNet are 3x3, for grids of 2 axes; this problem has {problem.grid.ndim}")
        return StencilCycle(problem, pre=1, post=1, max_levels=max_levels, **self.slots())

    def slots(self) -> dict[str, Any]:
        """Return the slots of a `StencilCycle` with pre=1 and post=1: one call does all trained steps."""
        slots: dict[str, Any] = {
            "smoother": LearnedSmoother(self._plain(self.pre)),
            "post_smoother": LearnedSmoother(self._plain(self.post)),
        }
        if self.restriction is not None and self.prolongation is not None:
            slots["restriction"] = FilteredRestriction(self._plain(self.restriction))
            slots["prolongation"] = FilteredProlongation(self._plain(self.prolongation))
        return slots

    def _plain(self, coefficients: nn.Parameter) -> NDArray[np.float64]:
        values = coefficients.detach().cpu().double()
        return (evened(values) if self.config.symmetric else values).numpy().copy()

    def network(self, problem: Poisson, max_levels: int | None = None) -> ConvCycle:
        """Return the same hierarchy as a network, for tensors (batch, 1, rows, columns), whose kernels follow the parameters.

        Raises ValueError for grids that do not nest, which have no network (`unigrid.equivalence.to_conv`).
        """
        cycle = self.on(problem, max_levels)
        network = to_conv(cycle)
        for level, stencil in zip(network.levels[:-1], cycle.levels, strict=False):
            level.smoother = self._steps(self.pre, stencil.operator)  # type: ignore[attr-defined]
            level.post_smoother = self._steps(self.post, stencil.operator)  # type: ignore[attr-defined]
            if self.restriction is not None and self.prolongation is not None:
                extended = Extended(stencil.problem.grid.sides, BESIDE)
                level.restriction.convolution[0] = nn.Sequential(extended, LiveKernel(self.restriction, self.config.symmetric))  # type: ignore[attr-defined]
                level.prolongation.filter = nn.Sequential(extended, LiveKernel(self.prolongation, self.config.symmetric))  # type: ignore[attr-defined]
        return network

    def _steps(self, coefficients: nn.Parameter, operator: StencilOperator) -> FeatureExtraction:
        """Return the smoothing steps of a level; their kernels are computed from the coefficients at every call."""
        constant, x = operator.constant_diagonal, anisotropy(operator)
        polynomials = torch.tensor(chebyshev.chebvander(x, self.config.degree).ravel())
        parts: list[nn.Module] = [Extended(operator.grid.sides, BESIDE)]
        if constant is None:
            parts.insert(0, Rescaling(torch.tensor(1.0 / operator.diagonal())))
        scales = polynomials if constant is None else (1.0 / constant) * polynomials
        steps = []
        for number in range(len(coefficients)):
            kernel = LiveKernel(coefficients, self.config.symmetric, number, scales)
            steps.append(Extraction(nn.Sequential(*parts, kernel), (nn.Identity(), nn.Identity()), nn.Identity()))
        return FeatureExtraction(steps)

    @property
    def levels(self) -> Sequence[Level]:  # type: ignore[override]
        """The levels of `problem`, as a network."""
        return self._network_on(self.problem).levels

    def forward(self, f: Any, u: Any = None) -> Any:
        """Return u after one cycle: an array for arrays (rows, columns), a tensor for tensors (batch, 1, rows, columns)."""
        shape = tuple(f.shape[-2:])
        problem = self.problem if shape == self.problem.shape else Poisson(shape)
        if isinstance(f, np.ndarray):
            return self.on(problem)(f, u)
        if self.pre.dtype != torch.float64:
            raise TypeError(f"a PoissonNet computes in float64, its kernels have become {self.pre.dtype}: net.double()")
        return self._network_on(problem).cycle(f, u)

    def _network_on(self, problem: Poisson) -> ConvCycle:
        """Return the network of a problem, built once: at every call its kernels are those of the net."""
        key = problem.grid, problem.reaction
        if key not in self._networks:
            self._networks[key] = self.network(problem)
        return self._networks[key]


@final
class LiveKernel(nn.Module):
    """A 3x3 convolution with weights computed from trained coefficients that another module owns.

    Its kernel is sum_k scales_k C_ik for coefficients (steps, terms, 3, 3), where i is the `number` of the step, or the
    coefficients themselves for (3, 3). It has the attributes of `nn.Conv2d` that `unigrid.equivalence` reads.
    """

    stride, padding, dilation, padding_mode, bias = (1, 1), (0, 0), (1, 1), "zeros", None

    def __init__(
        self, coefficients: nn.Parameter, symmetric: bool, number: int | None = None, scales: Tensor | None = None
    ) -> None:
        super().__init__()
        object.__setattr__(self, "coefficients", coefficients)  # registered by its owner
        self.symmetric = symmetric
        self.number, self.scales = number, scales

    @property
    def weight(self) -> Tensor:
        """The current kernel, (1, 1, 3, 3)."""
        kernel: Tensor = self.coefficients  # type: ignore[assignment]
        if self.number is not None and self.scales is not None:
            kernel = torch.einsum("k,kij->ij", self.scales, kernel[self.number])
        return (evened(kernel) if self.symmetric else kernel)[None, None]

    def forward(self, residual: Tensor) -> Tensor:
        return functional.conv2d(residual, self.weight)


def _centers(value: float, steps: int, terms: int) -> Tensor:
    """Return the coefficients of kernels that multiply by `value`."""
    kernels = torch.zeros(steps, terms, 3, 3, dtype=torch.float64)
    kernels[:, 0, 1, 1] = value
    return kernels


def evened(kernels: Tensor) -> Tensor:
    """Return kernels (.., 3, 3) averaged with their mirror images along both axes."""
    kernels = (kernels + kernels.flip(-1)) / 2
    return (kernels + kernels.flip(-2)) / 2
