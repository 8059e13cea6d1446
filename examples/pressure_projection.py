"""Pressure projection
===================

Two shear layers roll up into vortices, and the velocity field stays free of divergence.

Each time step first moves the velocity w = (u, v) without regard to the pressure, then takes out the gradient part::

    w* = w + dt (nu Laplace w - div (w w)),        -Laplace p = -div w*,        w <- w* - grad p,

on a periodic square. Velocities live on the faces of the cells, p in their centers, so that div grad is exactly the five-point
Laplacian, and what divergence is left is the residual of the solver, nothing else.

Source: A. J. Chorin, Numerical solution of the Navier-Stokes equations, Math. Comp. 22 (1968); the staggered grid of F. Harlow,
J. Welch, Phys. Fluids 8 (1965); the shear layers of J. Bell, P. Colella, H. Glaz, J. Comput. Phys. 85 (1989).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import unigrid

CELLS, VISCOSITY, TIME_STEP, STEPS = 128, 1e-3, 2e-3, 500
Pair = tuple[np.ndarray, np.ndarray]


def forward(a: np.ndarray, axis: int) -> np.ndarray:
    return (np.roll(a, -1, axis) - a) * CELLS


def backward(a: np.ndarray, axis: int) -> np.ndarray:
    return (a - np.roll(a, 1, axis)) * CELLS


def divergence(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the divergence in the cell centers; u lives on the cells' left faces, v on their lower ones."""
    return forward(u, 0) + forward(v, 1)


def vorticity(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return dv/dx - du/dy in the cells' lower left corners."""
    return backward(v, 0) - backward(u, 1)


def project(cycle: unigrid.StencilCycle, u: np.ndarray, v: np.ndarray, p: np.ndarray | None = None) -> tuple[Pair, np.ndarray]:
    """Return the velocity without its gradient part, and the potential p of that part; the last p is a good start."""
    p = cycle.solve(-divergence(u, v), u0=p).u
    return (u - backward(p, 0), v - backward(p, 1)), p


def advance(u: np.ndarray, v: np.ndarray) -> Pair:
    """Return the velocity after one explicit step without pressure."""
    at_center = [((a + np.roll(a, -1, axis)) / 2) ** 2 for axis, a in enumerate((u, v))]
    at_corner = (u + np.roll(u, 1, 1)) * (v + np.roll(v, 1, 0)) / 4
    diffused = [sum(forward(backward(a, axis), axis) for axis in (0, 1)) for a in (u, v)]
    du = VISCOSITY * diffused[0] - backward(at_center[0], 0) - forward(at_corner, 1)
    dv = VISCOSITY * diffused[1] - backward(at_center[1], 1) - forward(at_corner, 0)
    return u + TIME_STEP * du, v + TIME_STEP * dv


def main(output: Path, steps: int = STEPS) -> dict[str, float]:
    """Advance the shear layers, save the figure, return what was measured."""
    x = (np.arange(CELLS)[:, None]) / CELLS
    y = (np.arange(CELLS)[None, :] + 0.5) / CELLS
    u, v = np.tanh(30 * (0.25 - np.abs(y - 0.5))) + 0 * x, 0.05 * np.sin(2 * np.pi * (x + 0.5 / CELLS)) + 0 * y
    cycle, p = unigrid.StencilCycle(unigrid.Poisson((CELLS, CELLS), boundary="periodic", centering="cell")), None
    start = vorticity(u, v)
    for _ in range(steps):
        before = advance(u, v)
        (u, v), p = project(cycle, *before, p)

    largest = [float(np.abs(divergence(*field)).max()) for field in (before, (u, v))]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, 4)
    pictures = [
        (start, "vorticity\nat time 0", np.abs(start).max(), "RdBu_r"),
        (vorticity(u, v), f"vorticity\nat time {steps * TIME_STEP:.3g}", np.abs(start).max(), "RdBu_r"),
        (divergence(*before), "divergence\nbefore the last projection", largest[0], "PuOr_r"),
        (divergence(u, v), "divergence\nafter it", largest[1], "PuOr_r"),
    ]
    for axes, (field, title, limit, colors) in zip(panels, pictures, strict=True):
        shown = axes.imshow(field.T, origin="lower", extent=(0, 1, 0, 1), cmap=colors, vmin=-limit, vmax=limit)
        axes.set(title=title, xlabel="x", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        figure.colorbar(shown, ax=axes, location="bottom")
    panels[0].set_ylabel("y")
    figure.savefig(output, dpi=150)
    return {"steps": steps, "largest divergence before": largest[0], "largest divergence after": largest[1]}


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "pressure_projection.png")).items():
        print(f"{name}: {value:.4g}")
