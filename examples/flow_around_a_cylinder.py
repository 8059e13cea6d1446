"""Flow around a cylinder
======================

It blows on top and sucks below; in polar coordinates, with an open side far away.

The velocity is that of a uniform stream plus grad u, -Laplace(u) = 0. In polar coordinates (r, theta) times r that is
-div(a grad u) = 0 with one coefficient per axis, a = r along r and 1 / r along theta, which is periodic. Far away u decays. Two
means let it: cells that grow with r, so that far away is near in cells, and a Robin side there, u_r + u / r = 0, which is exact
for the part of u that decays slowest, 1 / r. (A box in space around charges does the same in 3-D: a potential that decays as
1 / r has the Robin side ``du/dn + (x . n) / |x|^2 u = 0``.)

Source: G. Batchelor, An introduction to fluid dynamics (1967), section 6.6; A. Bayliss, M. Gunzburger, E. Turkel, Boundary
conditions for the numerical solution of elliptic equations in exterior regions, SIAM J. Appl. Math. 42 (1982).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy.interpolate import RegularGridInterpolator

import unigrid

AROUND = 192  # cells around
FAR = 16.0  # the outer radius, in units of the cylinder's


def blown(theta: np.ndarray) -> np.ndarray:
    """Return the velocity with which the surface blows, at angles from 0 to 2 pi; as much is sucked below."""
    return 1.5 * (np.exp(-(((theta - np.pi / 2) / 0.3) ** 2)) - np.exp(-(((theta - 3 * np.pi / 2) / 0.3) ** 2)))


def disturbance(far: float, is_open: bool, around: int = AROUND) -> tuple[unigrid.Poisson, unigrid.Solution]:
    """Return the problem for u out to a radius, and its solution: axis 0 is r, axis 1 is theta; cells are about square."""
    n = round(around * np.log(far) / (2 * np.pi))
    lines = far ** np.linspace(0.0, 1.0, n + 1)  # radii in geometric progression
    shape, theta = (n, around), (np.arange(around) + 0.5) * 2 * np.pi / around
    outward = blown(theta) - np.cos(theta)  # u_r at r = 1: what is blown, less the stream
    # The normal of the low side points to smaller r; u_r + u / r = 0 times a = r is a du/dn + u = 0.
    low, high = unigrid.Neumann(-outward), unigrid.Robin(1.0) if is_open else unigrid.Dirichlet(0.0)
    options = {
        "spacing": [np.diff(lines), 2 * np.pi / around], "boundary": [(low, high), "periodic"], "centering": "cell",
        "coefficient": (lambda r, theta: 1 + r + 0 * theta, lambda r, theta: 1 / (1 + r) + 0 * theta),  # r from the surface
    }  # fmt: skip
    return unigrid.Poisson(shape, **options), unigrid.solve(np.zeros(shape), rtol=1e-10, **options)


def exact(r: np.ndarray, around: int = AROUND) -> np.ndarray:
    """Return u at these radii and all angles: of the modes cos and sin(m theta), -1 / (m r^m) times u_r at r = 1."""
    theta = (np.arange(around) + 0.5) * 2 * np.pi / around
    modes, m = np.fft.rfft(blown(theta) - np.cos(theta)), np.arange(around // 2 + 1)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        decay = np.where(m > 0, -1 / (m * r ** np.float64(m)), 0.0)
    return np.fft.irfft(modes * decay, around)


def error(far: float, is_open: bool) -> float:
    """Return the largest error near the cylinder, r < 2, over the largest u."""
    problem, solution = disturbance(far, is_open)
    r = 1 + problem.coordinates()[0]
    wanted = exact(r)
    return float(np.abs(solution.u - wanted)[r[:, 0] < 2].max() / np.abs(wanted).max())


def draw_flow(figure: Figure, axes: Axes, problem: unigrid.Poisson, u: np.ndarray) -> None:
    """Draw the speed, on the cells, and stream lines."""
    r, theta = 1 + problem.coordinates()[0][:, 0], problem.coordinates()[1][0]
    radial = np.gradient(u, r, axis=0) + np.cos(theta)
    around = (np.roll(u, -1, 1) - np.roll(u, 1, 1)) / (2 * (theta[1] - theta[0])) / r[:, None] - np.sin(theta)
    velocity = np.array([radial * np.cos(theta) - around * np.sin(theta), radial * np.sin(theta) + around * np.cos(theta)])
    edges = np.concatenate([[1.0], 1 + np.cumsum(problem.spacing[0])]), np.linspace(0, 2 * np.pi, len(theta) + 1)
    x, y = edges[0][:, None] * np.cos(edges[1]), edges[0][:, None] * np.sin(edges[1])
    shown = axes.pcolormesh(x, y, np.hypot(*velocity), cmap="viridis", vmin=0, vmax=3, rasterized=True)
    wrapped = np.concatenate([velocity[:, :, -1:], velocity, velocity[:, :, :1]], axis=2)
    angles = np.concatenate([theta[-1:] - 2 * np.pi, theta, theta[:1] + 2 * np.pi])
    points = np.linspace(-3, 3, 121)
    x, y = np.meshgrid(points, points)
    at = np.stack([np.clip(np.hypot(x, y), r[0], r[-1]), np.arctan2(y, x) % (2 * np.pi)], axis=-1)
    flow = [np.where(np.hypot(x, y) < 1, np.nan, RegularGridInterpolator((r, angles), each)(at)) for each in wrapped]
    axes.streamplot(points, points, *flow, color="white", density=1.1, linewidth=0.8, arrowsize=0.8)
    axes.add_patch(Circle((0, 0), 1, color="#dddddd", zorder=3))
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xlabel="x", ylabel="y", title="Stream lines and speed")
    figure.colorbar(shown, ax=axes, label="speed", extend="max")


def main(output: Path) -> dict[str, float]:
    """Solve, save the figure, return what was measured."""
    problem, solution = disturbance(FAR, is_open=True)
    radii = np.array([2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    errors = {is_open: [error(far, is_open) for far in radii] for is_open in (False, True)}

    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    flow, decay = figure.subplots(1, 2)
    draw_flow(figure, flow, problem, solution.u)
    for is_open, name, color in ((False, "u = 0 far away", "#c1272d"), (True, "u_r + u / r = 0 far away", "#1f5a96")):
        decay.loglog(radii, errors[is_open], "o-", color=color, label=name)
    decay.set_xscale("log", base=2)
    decay.set_xticks(radii, [f"{far:g}" for far in radii])
    decay.set(xlabel="outer radius", ylabel="largest error near the cylinder, relative", title="How far is far enough")
    decay.grid(alpha=0.3)
    decay.legend(frameon=False)
    figure.savefig(output, dpi=150)
    return {
        "iterations": solution.iterations,
        "longest over shortest cell": float(problem.spacing[0].max() / problem.spacing[0].min()),
        "error with u = 0 at r = 8": errors[False][2],
        "error with an open side at r = 8": errors[True][2],
        "error with u = 0 at r = 64": errors[False][-1],
        "error with an open side at r = 64": errors[True][-1],
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "flow_around_a_cylinder.png")).items():
        print(f"{name}: {value:.4g}")
