"""A smoother of one's own
=======================

A smoother, a restriction and a prolongation, ten lines each, handed to `unigrid.solve`.

The potential of point charges in a grounded box, -Laplace u = f with u = 0 on the sides, f the charges. The smoother is a
Richardson iteration of two stages,

::

    u <- u + w D^-1 (f - A u)   with w = w_1, then w_2,

its weights those of the Chebyshev polynomial that is smallest on [1/2, 2]: there D^-1 A has its eigenvalues for the errors
that the next grid cannot represent. Restriction and prolongation are plain slices of grids that nest, 2^k - 1 unknowns along
each axis.

Source: D. Young, On Richardson's method for solving linear systems with positive definite matrices, J. Math. Phys. 32 (1954).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import unigrid


class Richardson(unigrid.Smoother):
    """Two damped Jacobi steps whose weights belong together."""

    def __init__(self, low: float = 0.5, high: float = 2.0) -> None:
        nodes = np.cos(np.pi * np.array([1, 3]) / 4)
        self.weights = 2 / (high + low + (high - low) * nodes)

    def __call__(self, operator, f, u):
        for weight in self.weights:
            step = weight * operator.residual(f, u) / operator.diagonal()
            u = step if u is None else u + step
        return u


class Weighting(unigrid.Restriction):
    """The weights 1/4, 1/2, 1/4 along each axis."""

    def __call__(self, residual):
        for axis in range(residual.ndim):
            fine = np.moveaxis(residual, axis, 0)
            residual = np.moveaxis(fine[:-2:2] / 4 + fine[1:-1:2] / 2 + fine[2::2] / 4, 0, axis)
        return residual


class Interpolation(unigrid.Prolongation):
    """Linear interpolation along each axis; zero beyond the sides."""

    def __call__(self, correction):
        for axis in range(correction.ndim):
            coarse = np.moveaxis(correction, axis, 0)
            fine = np.zeros((2 * len(coarse) + 1, *coarse.shape[1:]))
            fine[1::2], fine[:-1:2] = coarse, coarse / 2
            fine[2::2] += coarse / 2
            correction = np.moveaxis(fine, 0, axis)
        return correction


def main(output: Path, n: int = 255) -> dict[str, float]:
    """Solve with four smoothers, save the figure, return the convergence factors."""
    f = np.zeros((n, n))
    where = np.random.default_rng(2).integers(n // 8, n - n // 8, (8, 2))
    f[tuple(where.T)] = n**2 * np.array([1, -1] * 4)
    own = {"smoother": Richardson(), "restriction": Weighting(), "prolongation": Interpolation(), "pre": 1, "post": 1}
    runs = {
        "two-stage Richardson, own transfers": own,
        "Jacobi, two sweeps": {"smoother": unigrid.Jacobi(0.8)},
        "Chebyshev of degree 2": {"smoother": unigrid.Chebyshev(degree=2), "pre": 1, "post": 1},
        "red-black, two sweeps": {"smoother": unigrid.RedBlack(omega=1.0)},
    }
    solutions = {name: unigrid.solve(f, start="zero", rtol=1e-9, **slots) for name, slots in runs.items()}

    figure = Figure(figsize=(11, 4), layout="constrained")
    potential_axes, history_axes = figure.subplots(1, 2, width_ratios=[1, 1.3])
    potential = next(iter(solutions.values())).u
    limit = np.quantile(np.abs(potential), 0.995)  # at a charge itself the potential has no bound
    shown = potential_axes.imshow(potential.T, origin="lower", extent=(0, 1, 0, 1), cmap="PuOr", vmin=-limit, vmax=limit)
    potential_axes.set(title="potential of eight charges in a grounded box", xlabel="x", ylabel="y")
    figure.colorbar(shown, ax=potential_axes, shrink=0.9)
    looks = ("#0072B2", "o", 11), ("#E69F00", "s", 6), ("#000000", "x", 6), ("#CC79A7", "^", 6)
    for (name, solution), (color, marker, size) in zip(solutions.items(), looks, strict=True):
        relative = np.array(solution.residuals) / solution.residuals[0]
        label = f"{name}: {solution.rate:.3f}"
        history_axes.semilogy(relative, color=color, marker=marker, markersize=size, fillstyle="none", label=label)
    history_axes.set(title="convergence, with the factor per cycle", xlabel="V-cycle", ylabel="relative residual")
    history_axes.legend(fontsize="small")
    history_axes.grid(alpha=0.3)
    figure.savefig(output, dpi=150)
    return {name: solution.rate for name, solution in solutions.items()}


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "custom_smoother.png")).items():
        print(f"{name}: {value:.4g}")
