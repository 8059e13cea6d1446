"""A cooling pin
=============

Heat flows from a hot base along a cylinder, and through its surface into the air.

In cylindrical coordinates (r, z), -(1/r) (r u_r)_r - u_zz = 0 times r is -div(a grad u) = 0 with the coefficient a = r:
sources, fluxes and heat transfer are multiplied by r too. On the axis r = 0 nothing flows: a Neumann side. The surface gives
off heat, a Robin side; the tip is insulated. Cells are thin at the base and at the surface, where temperatures change most.

The exact solution is a series of Bessel functions. Thin fins have the textbook's efficiency tanh(mL) / (mL), m^2 = 2 B.

Source: F. Incropera, D. DeWitt, Fundamentals of heat and mass transfer, section 3.6; H. Carslaw, J. Jaeger, Conduction of heat
in solids (1959), section 8.3.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import brentq
from scipy.special import j0, j1, jn_zeros

import unigrid

RADIUS, LENGTH, BIOT = 1.0, 4.0, 0.5  # BIOT: heat transfer of the surface times the radius over the conductivity, which is 1
CELLS = (48, 96)


def widths(length: float, n: int, ratio: float) -> np.ndarray:
    """Return the lengths of n cells that grow by a constant factor, the last being `ratio` times the first."""
    growing = ratio ** np.linspace(0.0, 1.0, n)
    return length * growing / growing.sum()


def temperature(radial: np.ndarray, along: np.ndarray) -> tuple[unigrid.Poisson, unigrid.Solution]:
    """Return the problem on cells of these lengths, and its solution: 1 at the base, 0 in the air; axis 0 is r, axis 1 is z."""
    boundary = [
        ("neumann", unigrid.Robin(RADIUS * BIOT, 0.0)),  # times r, as all fluxes
        (unigrid.Dirichlet(1.0), "neumann"),
    ]
    options = {"spacing": [radial, along], "boundary": boundary, "centering": "cell", "coefficient": lambda r, z: r + 0 * z}
    shape = len(radial), len(along)
    return unigrid.Poisson(shape, **options), unigrid.solve(np.zeros(shape), rtol=1e-10, **options)


def exact(r: np.ndarray, z: np.ndarray, terms: int = 400) -> np.ndarray:
    """Return the sum of c J0(mu r) cosh(mu (L - z)) / cosh(mu L), mu J1(mu) = B J0(mu), c = 2 B / ((mu^2 + B^2) J0(mu))."""
    zeros = np.concatenate([[1e-9], jn_zeros(1, terms)])
    roots = [brentq(lambda mu: mu * j1(mu) - BIOT * j0(mu), low, high) for low, high in pairwise(zeros)]
    total = np.zeros(np.broadcast_shapes(r.shape, z.shape))
    for mu in roots:
        decay = (np.exp(-mu * z) + np.exp(-mu * (2 * LENGTH - z))) / (1 + np.exp(-2 * mu * LENGTH))
        total += 2 * BIOT / ((mu**2 + BIOT**2) * j0(mu)) * j0(mu * r) * decay
    return total


def main(output: Path) -> dict[str, float]:
    """Solve, save the figure, return what was measured."""
    radial, along = widths(RADIUS, CELLS[0], 1 / 4), widths(LENGTH, CELLS[1], 100)
    problem, solution = temperature(radial, along)
    u, (r, z) = solution.u, problem.coordinates()
    wanted = exact(r, z)
    given_off = (2 * np.pi * RADIUS * along * BIOT * u[-1] / (1 + BIOT * radial[-1] / 2)).sum()
    taken_up = (2 * np.pi * r[:, 0] * radial * (1 - u[:, 0]) / (along[0] / 2)).sum()
    efficiency = given_off / (2 * np.pi * RADIUS * LENGTH * BIOT)
    m = np.sqrt(2 * BIOT / RADIUS)

    figure = Figure(figsize=(9.5, 4.1), layout="constrained")
    section, profile = figure.subplots(1, 2, width_ratios=(1.25, 1))
    lines = np.concatenate([[0], np.cumsum(radial)]), np.concatenate([[0], np.cumsum(along)])
    both = np.concatenate([-lines[0][:0:-1], lines[0]])
    mirrored = np.concatenate([u[::-1], u])
    shown = section.pcolormesh(lines[1], both, mirrored, cmap="inferno", vmin=0, vmax=1, rasterized=True)
    section.contour(
        z[0], np.concatenate([-r[::-1, 0], r[:, 0]]), mirrored, levels=np.arange(0.1, 1, 0.1), colors="white", linewidths=0.6
    )
    section.set(title="Temperature in a section along the axis", xlabel="z", ylabel="r", aspect="equal")
    figure.colorbar(shown, ax=section, label="temperature", orientation="horizontal", aspect=40)
    for index, name, color in ((0, "on the axis", "#1f5a96"), (-1, "at the surface", "#c1272d")):
        profile.plot(z[0], wanted[index], color=color, linewidth=1.2, label=f"{name}: exact")
        profile.plot(z[0, ::4], u[index, ::4], "o", color=color, markersize=3.5, markerfacecolor="none", label="computed")
    thin = np.cosh(m * (LENGTH - z[0])) / np.cosh(m * LENGTH)
    profile.plot(z[0], thin, color="gray", linestyle="--", linewidth=1, label="theory of thin fins")
    profile.set(xlabel="z", ylabel="temperature", title="Along the pin")
    profile.grid(alpha=0.3)
    profile.legend(frameon=False)
    figure.savefig(output, dpi=150)
    return {
        "iterations": solution.iterations,
        "longest over shortest cell": along.max() / along.min(),
        "largest error": float(np.abs(u - wanted).max()),
        "root mean square error": float(np.sqrt((problem.weights * r * (u - wanted) ** 2).sum() / (problem.weights * r).sum())),
        "heat given off over heat taken up": float(given_off / taken_up),
        "efficiency": float(efficiency),
        "efficiency of a thin fin": float(np.tanh(m * LENGTH) / (m * LENGTH)),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "heat_in_a_cylinder.png")).items():
        print(f"{name}: {value:.6g}")
