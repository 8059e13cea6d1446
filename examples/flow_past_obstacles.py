"""Flow past obstacles
===================

Behind a pillar the water of a channel breaks into a street of vortices, which then meet a second pillar.

Each time step moves the velocity w = (u, v) without regard to the pressure, then takes out the gradient part::

    w* = w + dt (nu Laplace w - div (w w)),        -Laplace p = -div w*,        w <- w* - grad p

in the water, which is the mask; no water flows through its rim, dp/dn = 0 at pillars and walls, and p = 0 where it leaves.
Velocities live on the faces of the cells, p in their centers, so that what divergence is left is the residual of the solver.
One cycle serves all steps, and the last p is a good start for the next.

Source: A. J. Chorin, Numerical solution of the Navier-Stokes equations, Math. Comp. 22 (1968); the staggered grid of F. Harlow,
J. Welch, Phys. Fluids 8 (1965).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import unigrid

PER_DIAMETER = 10  # cells; lengths are in diameters of the first pillar, velocities in parts of that of the inflow
CELLS = 24 * PER_DIAMETER, 8 * PER_DIAMETER  # along the channel, and across it
REYNOLDS, TIME_STEP, STEPS = 150, 0.025, 1800
UPWIND = 0.25  # part of upwind differences among central ones
H = 1 / PER_DIAMETER
Pair = tuple[np.ndarray, np.ndarray]


def pillars() -> np.ndarray:
    """Return where there is water: not in a round pillar, nor in a square one behind it."""
    x, y = ((np.arange(n) + 0.5) * H for n in CELLS)
    x, y = x[:, None], y[None, :] - 4
    is_round = np.hypot(x - 4, y - 0.1) < 0.5
    is_square = np.maximum(np.abs(x - 12), np.abs(y + 1)) < 0.45
    return ~(is_round | is_square)


def projection(water: np.ndarray) -> unigrid.GalerkinCycle:
    """Return the cycle of the pressure: no flux but through the outflow, where it is 0."""
    sides = [("neumann", "dirichlet"), "neumann"]
    problem = unigrid.Poisson(water.shape, spacing=H, boundary=sides, centering="cell", mask=water, outside="natural")
    return unigrid.GalerkinCycle(problem)


def open_faces(water: np.ndarray) -> Pair:
    """Return the faces between two cells of water, across x and across y; the outflow is open, the walls are not."""
    between = water[1:] & water[:-1]
    across_x = np.concatenate([np.zeros((1, water.shape[1]), bool), between, water[-1:]])
    return across_x, np.pad(water[:, 1:] & water[:, :-1], ((0, 0), (1, 1)))


def divergence(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the divergence in the cells."""
    return np.diff(u, axis=0) / H + np.diff(v, axis=1) / H


def project(
    cycle: unigrid.GalerkinCycle, w: Pair, water: np.ndarray, p: np.ndarray | None = None, rtol: float = 1e-4
) -> tuple[Pair, np.ndarray]:
    """Return the velocity without its gradient part, and the potential p of that part."""
    p = cycle.solve(-divergence(*w) * water, u0=p, rtol=rtol).u
    across_x, across_y = open_faces(water)
    along_x = np.concatenate([np.zeros((1, p.shape[1])), np.diff(p, axis=0), -2 * p[-1:]]) / H
    along_y = np.pad(np.diff(p, axis=1), ((0, 0), (1, 1))) / H
    return (w[0] - along_x * across_x, w[1] - along_y * across_y), p


def flux(speed: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return what flows between two values: of their mean, and of the one upstream."""
    return speed * (low + high) / 2 - UPWIND * np.abs(speed) * (high - low) / 2


def rates(u: np.ndarray, v: np.ndarray) -> Pair:
    """Return du/dt and dv/dt without pressure, on the faces inside."""
    wide_u, wide_v = np.pad(u, ((0, 0), (1, 1)), mode="edge"), np.pad(v, ((1, 1), (0, 0)), mode="edge")
    u_x = flux((u[1:] + u[:-1]) / 2, u[:-1], u[1:])
    u_y = flux((v[1:] + v[:-1]) / 2, wide_u[1:-1, :-1], wide_u[1:-1, 1:])
    v_x = flux((u[:, 1:] + u[:, :-1]) / 2, wide_v[:-1, 1:-1], wide_v[1:, 1:-1])
    v_y = flux((v[:, 1:] + v[:, :-1]) / 2, v[:, :-1], v[:, 1:])
    second_u = np.diff(u, 2, axis=0) + np.diff(wide_u[1:-1], 2, axis=1)
    second_v = np.diff(wide_v[:, 1:-1], 2, axis=0) + np.diff(v, 2, axis=1)
    nu = 1 / REYNOLDS / H**2
    du = nu * second_u - np.diff(u_x, axis=0) / H - np.diff(u_y, axis=1) / H
    dv = nu * second_v - np.diff(v_x, axis=0) / H - np.diff(v_y, axis=1) / H
    return np.pad(du, ((1, 1), (0, 0))), np.pad(dv, ((0, 0), (1, 1)))


def moved(w: Pair, now: Pair, before: Pair, water: np.ndarray) -> Pair:
    """Return the velocity after one step of Adams and Bashforth without pressure; water leaves as fast as it arrives there."""
    u, v = (a + TIME_STEP * (1.5 * new - 0.5 * old) for a, new, old in zip(w, now, before, strict=True))
    u[-1] = u[-2]
    across_x, across_y = open_faces(water)
    u[1:] *= across_x[1:]
    return u, v * across_y


def vorticity(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return dv/dx - du/dy at the corners inside."""
    return (np.diff(v, axis=0)[:, 1:-1] - np.diff(u, axis=1)[1:-1]) / H


def main(output: Path, steps: int = STEPS) -> dict[str, float]:
    """Let the water flow, save the figure, return what was measured."""
    water = pillars()
    cycle, p = projection(water), None
    w = 1.0 * np.pad(open_faces(water)[0][1:], ((1, 0), (0, 0)), constant_values=True), np.zeros((CELLS[0], CELLS[1] + 1))
    w, _ = project(cycle, w, water, rtol=1e-8)
    before, probe, place = None, [], (6 * PER_DIAMETER, 4 * PER_DIAMETER)
    for _ in range(steps):
        now = rates(*w)
        w, p = project(cycle, moved(w, now, before or now, water), water, p)
        before = now
        probe.append(w[1][place])
    u, v = w

    time = TIME_STEP * np.arange(1, steps + 1)
    crossings = time[1:][(np.diff(np.sign(probe)) > 0) & (time[1:] > time[-1] / 2)]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3.2, 1])
    extent = (0, CELLS[0] * H, -CELLS[1] * H / 2, CELLS[1] * H / 2)
    shown = above.imshow(
        vorticity(u, v).T, origin="lower", extent=extent, cmap="RdBu_r", vmin=-3, vmax=3, interpolation="bilinear"
    )
    solid = np.ma.masked_where(water, np.ones(CELLS))
    above.imshow(solid.T, origin="lower", extent=extent, cmap="gray", vmin=0, vmax=4)
    figure.colorbar(shown, ax=above, label="vorticity", shrink=0.9)
    above.set(title=f"Water from the left, Reynolds number {REYNOLDS}, at time {time[-1]:.3g}", ylabel="y, in diameters")
    below.plot(time, probe, color="#0072B2", linewidth=1)
    below.set(xlabel="time", ylabel="v behind the pillar", xlim=(0, time[-1]))
    below.grid(alpha=0.3)
    figure.savefig(output, dpi=150)
    return {
        "steps": float(steps),
        "unknowns": float(water.sum()),
        "largest divergence": float(np.abs(divergence(u, v) * water).max()),
        "flow out over flow in": float(u[-1].sum() / u[0].sum()),
        "vortices of one sense per unit of time": float(1 / np.diff(crossings).mean()) if len(crossings) > 1 else 0.0,
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "flow_past_obstacles.png")).items():
        print(f"{name}: {value:.4g}")
