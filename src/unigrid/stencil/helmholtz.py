"""Waves: -div(a grad u) - k^2 u = f, a reaction c = -k^2 below zero, with which A is indefinite but for small k.

Multigrid is then a preconditioner of minimal residuals, and ends at a direct solve on the coarsest grid that resolves the
waves, k h <= 0.6. Below, eigenvalues near k^2 have another sign than on the finest grid, and corrections would be wrong. Where
a and c are constant, the direct solve is a Fourier transform of any size.

Source: H. Elman, O. Ernst, D. O'Leary, A multigrid method enhanced by Krylov subspace iteration for discrete Helmholtz
equations, SIAM J. Sci. Comput. 23 (2001); S. Eisenstat, H. Elman, M. Schultz, SIAM J. Numer. Anal. 20 (1983) for the iteration.
"""

from __future__ import annotations

import math

import numpy as np

from .kernels.cpu.compiled.arguments import SymmetricStencil
from .problem import Poisson
from .waves import RESOLVED

# Largest c volume over the sum of the couplings of a coarse Galerkin operator: k h <= 0.6, as these sum to 8/3.
COARSE_RESOLVED = 0.135
MOST_DIRECT = {1: 1_000_000, 2: 100_000, 3: 10_000}  # unknowns that sparse factors of the coarsest grid hold, in a second
RESONANT = 100.0  # eps times the norm of A: an eigenvalue this near to zero is one but for rounding


def check_waves(problem: Poisson) -> None:
    """Raise ValueError where a reaction below zero makes waves that the grid does not resolve, or A singular."""
    operator = problem.operator
    steepness = _steepness(problem)
    if steepness > RESOLVED and not _is_definite(problem):
        raise ValueError(
            f"reaction = -k^2, down to {problem.reaction:.6g}, makes waves of k h = {steepness:.3g}, and up to {RESOLVED} is "
            f"resolved, ten points per wave; take {steepness / RESOLVED:.3g} times as many points per axis, or a smaller k"
        )
    lost = RESONANT * float(np.finfo(np.float64).eps) * operator.norm_bound
    if not problem.varies and operator.smallest_eigenvalue <= lost:
        raise ValueError(
            f"-reaction = {-problem.reaction:.6g} is an eigenvalue of the problem on this grid, but for rounding: there is no "
            "unique solution; change it a little"
        )


def _is_definite(problem: Poisson) -> bool:
    """Whether c is surely above minus the smallest eigenvalue of -div(a grad u)."""
    axes = problem.grid.axes
    first = sum(float(axis.eigenvalues(np.zeros(1, np.int64))[0]) for axis in axes)
    return -problem.reaction < problem.operator.least * first


def _steepness(problem: Poisson) -> float:
    """Return the largest k h on the finest grid, along any axis, by the larger a of the two faces of a point."""
    operator = problem.operator
    if not problem.varies or problem.order == 4:
        return math.sqrt(-problem.reaction) * max(problem.grid.spacing)
    stencil, ratio = operator.stencil, 0.0
    squares = -operator.integrated(np.broadcast_to(operator.reaction_field, problem.shape)).reshape(stencil.excess.shape)
    for offset, couplings in zip(stencil.offsets, stencil.couplings, strict=True):
        largest = np.maximum(couplings, np.roll(couplings, 1, axis=int(np.argmax(offset))))
        ratio = max(ratio, float(np.divide(squares, largest, out=np.zeros_like(largest), where=largest > 0.0).max()))
    return math.sqrt(ratio)


def is_unresolved(coarse: SymmetricStencil) -> bool:
    """Whether a coarse operator has waves that its grid does not resolve."""
    return bool((-coarse.excess > COARSE_RESOLVED * (coarse.diagonal - coarse.excess)).any())


def check_direct(stencil: SymmetricStencil) -> None:
    """Raise ValueError where the coarsest grid that resolves the waves is too large for sparse factors."""
    most = MOST_DIRECT[sum(n > 1 for n in stencil.excess.shape) or 1]
    if stencil.excess.size > most:
        raise ValueError(
            f"the coarsest grid that resolves the waves of this reaction below zero has {stencil.excess.size} unknowns, and a "
            f"direct solve of it is limited to {most}; take a smaller k, or only a number for reaction, which has no such limit"
        )
