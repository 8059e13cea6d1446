"""Heat over time
==============

A warm room cools down through two doors into the rest of a house, whose walls conduct little.

::

    du/dt = div(a grad u),   no flow through the outer walls,

by the method of Crank and Nicolson: w = (u_new + u) / 2 solves (2/dt - div a grad) w = 2/dt u. Time steps grow, and with them
c = 2/dt falls; `cycle.with_reaction(c)` keeps the set-up of the one cycle that solves all of them. Two steps by implicit Euler
come first, as Crank-Nicolson hardly damps what jumps at the start. The animation is a .gif; the figure shows four of its
pictures.

Source: R. Rannacher, Finite element solution of diffusion problems with irregular data, Numerische Mathematik 43 (1984).
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

import unigrid

CELLS, LENGTHS = (128, 192), (1.0, 1.5)
WALL, FIRST_STEP, STEPS, GROWTH_EVERY = 1e-3, 4e-4, 64, 8  # a step is twice as long after each GROWTH_EVERY


def coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Return the centers of the cells, y downward and x to the right."""
    y, x = ((np.arange(n) + 0.5) * length / n for n, length in zip(CELLS, LENGTHS, strict=True))
    return y[:, None], x[None, :]


def walls() -> np.ndarray:
    """Return where the walls of the house are."""
    y, x = coordinates()
    upright = [(0.5, 0.72), (1.0, 0.22)]  # where a wall stands, and the middle of its door
    parts = [(abs(x - at) < 0.016) & (abs(y - door) > 0.07) for at, door in upright]
    return parts[0] | parts[1] | ((abs(y - 0.5) < 0.016) & (x > 1.0) & (abs(x - 1.3) > 0.05))


def stepped(problem: unigrid.Poisson, u: np.ndarray, steps: int, dt: float) -> Iterator[tuple[float, np.ndarray, int]]:
    """Yield time, temperature and iterations after each step."""
    cycle, at, used = unigrid.GalerkinCycle(problem), 0.0, 0.0
    for number in range(steps):
        implicit = number < 2
        c = 1.0 / dt if implicit else 2.0 / dt
        if c != used:
            step, used = cycle.with_reaction(c), c
        solution = step.solve(c * u, u0=u, rtol=1e-8)
        u = solution.u if implicit else 2.0 * solution.u - u
        at += dt
        yield at, u, solution.iterations
        dt *= 2.0 if number % GROWTH_EVERY == GROWTH_EVERY - 1 else 1.0


def error_of_a_mode(steps: int = 40, until: float = 0.05) -> float:
    """Return by how much the decay of cos(pi y) cos(2 pi x / 1.5) differs from exp(-t (pi^2 + (2 pi / 1.5)^2)), relative."""
    y, x = coordinates()
    mode = np.cos(np.pi * y) * np.cos(2 * np.pi * x / LENGTHS[1])
    rate = np.pi**2 + (2 * np.pi / LENGTHS[1]) ** 2
    dt, u = until / steps, mode
    cycle = unigrid.StencilCycle(unigrid.Poisson(CELLS, boundary="neumann", centering="cell", lengths=LENGTHS, reaction=2 / dt))
    for _ in range(steps):
        u = 2.0 * cycle.solve(2.0 / dt * u, u0=u, rtol=1e-10).u - u
    return float(abs((u * mode).sum() / (mode * mode).sum() * np.exp(rate * until) - 1.0))


def drawn(axes: Axes, u: np.ndarray, at: float) -> AxesImage:
    """Draw temperatures, walls in gray; return the picture."""
    rooms = np.ma.masked_where(walls(), u)
    shown = axes.imshow(rooms, extent=(0, LENGTHS[1], LENGTHS[0], 0), cmap="inferno", vmin=0.0, vmax=1.0)
    axes.set(title=f"t = {at:.3f}", xticks=[], yticks=[], facecolor="#9aa5ad")
    return shown


def main(output: Path) -> dict[str, float]:
    """Step through time, save the animation and the figure, return what was measured."""
    x = coordinates()[1]
    problem = unigrid.Poisson(
        CELLS, boundary="neumann", centering="cell", lengths=LENGTHS, coefficient=np.where(walls(), WALL, 1.0)
    )
    start = np.where(x < 0.484, 1.0, 0.0) * np.ones(CELLS)
    began = time.perf_counter()
    steps = list(stepped(problem, start, STEPS, FIRST_STEP))
    seconds = (time.perf_counter() - began) / STEPS

    figure = Figure(figsize=(4.2, 3.1), layout="constrained")
    axes = figure.subplots()
    picture = drawn(axes, start, 0.0)
    figure.colorbar(picture, ax=axes, label="temperature")

    def show(number: int) -> None:
        picture.set_data(np.ma.masked_where(walls(), steps[number][1]))
        axes.set_title(f"t = {steps[number][0]:.3f}")

    FuncAnimation(figure, show, frames=STEPS).save(output.with_suffix(".gif"), writer="pillow", fps=10, dpi=80)

    figure = Figure(figsize=(9, 6.2), layout="constrained")
    for axes, number in zip(figure.subplots(2, 2).ravel(), np.linspace(STEPS // 4, STEPS, 4).astype(int) - 1, strict=True):
        picture = drawn(axes, steps[number][1], steps[number][0])
    figure.colorbar(picture, ax=figure.axes, label="temperature")
    figure.suptitle("A warm room cools down through its door, by steps that grow from 0.0004 to 0.05")
    figure.savefig(output, dpi=130)
    last = steps[-1][1]
    return {
        "milliseconds per step": 1e3 * seconds,
        "most iterations of a step": max(iterations for _, _, iterations in steps),
        "heat lost, of all": float(abs(last.sum() / start.sum() - 1)),
        "lowest temperature": min(float(u.min()) for _, u, _ in steps),
        "highest temperature at the end": float(last.max()),
        "error in the decay of a mode": error_of_a_mode(),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "heat.png")).items():
        print(f"{name}: {value:.4g}")
