"""Eigenmodes of an L-shaped drum
==============================

SciPy's lobpcg, preconditioned by one multigrid cycle.

::

    -Laplace(u) = lambda u inside the L, u = 0 on its rim

for three unit squares. The third eigenvalue is 2 pi^2 exactly, as each square vibrates by itself; the first mode is singular
at the inner corner, which leaves an error of h^(4/3) and not of h^2.

Source: L. N. Trefethen, T. Betcke, Computed eigenmodes of planar regions, Contemporary Mathematics 412 (2006); A. Knyazev,
Toward the optimal preconditioned eigensolver: locally optimal block preconditioned conjugate gradient method, SIAM J. Sci.
Comput. 23 (2001).
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse.linalg
from matplotlib.figure import Figure

import unigrid

CELLS = 128  # per unit length
MODES = 6
PUBLISHED = (9.6397238440219, 15.1972519264, 2 * np.pi**2, 29.5214811142, 31.9126359571, 41.4745098904)
TOLERANCE = 1e-4  # of lobpcg: the norm of A u - lambda u, ||u|| = 1


def drum() -> np.ndarray:
    """Return the mask of the L: the square of two unit lengths without its upper right quarter."""
    inside = np.ones((2 * CELLS - 1, 2 * CELLS - 1), bool)
    inside[CELLS - 1 :, CELLS - 1 :] = False
    return inside


def modes(mask: np.ndarray, preconditioned: bool, most: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the lowest eigenvalues, their modes (modes, ..) and the number of iterations."""
    problem = unigrid.Poisson(mask.shape, spacing=1 / CELLS, mask=mask)
    A, M, _ = unigrid.GalerkinCycle(problem).as_scipy()
    start = np.random.default_rng(0).standard_normal((mask.size, MODES + 2)) * mask.reshape(-1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it has not converged in so few iterations
        found, vectors, history = scipy.sparse.linalg.lobpcg(
            A, start, M=M if preconditioned else None, largest=False, tol=TOLERANCE, maxiter=most, retResidualNormsHistory=True
        )
    order = np.argsort(found)[:MODES]
    return found[order], vectors[:, order].T.reshape(-1, *mask.shape), len(history) - 1


def main(output: Path) -> dict[str, float]:
    """Find the modes, save the figure, return what was measured."""
    mask = drum()
    found, shapes, iterations = modes(mask, preconditioned=True, most=60)
    without, _, _ = modes(mask, preconditioned=False, most=iterations)
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    for axes, value, shape in zip(figure.subplots(2, 3).flat, found, shapes, strict=True):
        largest = np.abs(shape).max()
        shown = np.where(mask, shape / largest, np.nan)
        axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower", interpolation="nearest")
        axes.contour(shown, levels=[0.0], colors="black", linewidths=0.8)
        axes.set_title(f"$\\lambda$ = {value:.3f}")
        axes.axis("off")
    figure.suptitle("How an L-shaped drum vibrates, with lines that stay at rest")
    figure.savefig(output, dpi=150)
    errors = np.abs(found / np.array(PUBLISHED) - 1)
    return {
        "iterations": iterations,
        "first eigenvalue": float(found[0]),
        "its relative error": float(errors[0]),
        "relative error of the third, 2 pi^2": float(errors[2]),
        "largest relative error": float(errors.max()),
        "the first after as many iterations without the cycle": float(without[0]),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "eigenmodes_of_a_drum.png")).items():
        print(f"{name}: {value:.7g}")
