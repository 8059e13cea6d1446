"""Kernels before and after training
=================================

A smoother is a 3x3 kernel K, and training finds a better one: through the cycle, for the equation at hand.

One step of smoothing multiplies an error wave of frequency theta by its symbol, a number::

    u <- u + K * D^-1 (f - A u),        S(theta) = 1 - K^(theta) A^(theta) / D

What the next grid cannot represent lies outside of the dashed lines, and has to be damped by the smoother alone. Damped
Jacobi is a kernel of one number. Trained through the cycle, two kernels of nine numbers damp more, and what they have become is
read off the picture. For -0.1 u_xx - u_yy, such as heat in wood, which conducts along its grain, the next grid is coarser along
y alone, so that waves along x are left to it.

Source: A. Katrutsa, T. Daulbaev, I. Oseledets, Black-box learning of multigrid parameters, J. Comput. Appl. Math. 368 (2020);
the analysis: U. Trottenberg, C. Oosterlee, A. Schueller, Multigrid (2001), chapter 4.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import unigrid
from unigrid.analysis import FourierAnalysis, measured_factor
from unigrid.training import anisotropic

EQUATIONS = {"$-u_{xx} - u_{yy}$": 1.0, "$-0.1\\, u_{xx} - u_{yy}$": 0.1}
RESOLUTION = 96


def damping(net: unigrid.PoissonNet, problem: unigrid.Poisson) -> np.ndarray:
    """Return |S(theta)| of the step before the correction times that of the step after it, over [-pi, pi]^2."""
    slots = net.on(problem)
    steps = [FourierAnalysis(problem, smoother=each, pre=1, post=0) for each in (slots.smoother, slots.post_smoother)]
    return steps[0].smoothing_symbol(RESOLUTION)[1] * steps[1].smoothing_symbol(RESOLUTION)[1]


def kernels(net: unigrid.PoissonNet) -> list[np.ndarray]:
    """Return the kernels of the steps before and after the correction, as they are applied."""
    return [kernel.detach().numpy().reshape(3, 3) for kernel in (net.pre, net.post)]


def draw_kernel(axes: Axes, kernel: np.ndarray, title: str) -> None:
    """Draw nine numbers as colors, and write them there."""
    axes.imshow(kernel.T, cmap="RdBu_r", vmin=-1.2, vmax=1.2)
    for (i, j), value in np.ndenumerate(kernel):
        axes.text(i, j, f"{value:.2f}", ha="center", va="center", color="white" if abs(value) > 0.7 else "black")
    axes.set(title=title, xticks=[], yticks=[])


def draw_damping(axes: Axes, values: np.ndarray, coarsens_x: bool, title: str) -> object:
    """Draw the damping of all waves, and the box of those that the next grid represents."""
    x = 0.5 if coarsens_x else 0.99
    shown = axes.imshow(values.T, origin="lower", extent=(-1, 1, -1, 1), cmap="viridis", vmin=0, vmax=1)
    axes.plot([-x, x, x, -x, -x], [-0.5, -0.5, 0.5, 0.5, -0.5], "--", color="white", linewidth=1)
    axes.set(title=title, xlabel=r"$\theta_x / \pi$", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    return shown


def main(output: Path, epochs: int = 5, n: int = 63) -> dict[str, float]:
    """Train for both equations, save the figure, return the convergence factors."""
    figure, numbers = Figure(figsize=(11, 6.6), layout="constrained"), {}
    panels = figure.subplots(2, 5)
    for row, (equation, eps) in zip(panels, EQUATIONS.items(), strict=True):
        problem = anisotropic(eps, n)
        coarsens_x = unigrid.StencilCycle(problem).shapes[1][0] < n
        before = unigrid.PoissonNet()
        trained = unigrid.train_solver(problem, epochs=epochs, progress=False)
        after = trained.model
        for name, net in (("before", before), ("after", after)):
            numbers[f"factor {name} training, {eps:g} u_xx + u_yy"] = float(measured_factor(net.on(problem)))
        draw_kernel(row[0], kernels(before)[0], "before: Jacobi")
        for axes, kernel, where in zip(row[1:3], kernels(after), ("pre", "post"), strict=True):
            draw_kernel(axes, kernel, f"after: {where}-smoothing")
        for axes, net, name in ((row[3], before, "before"), (row[4], after, "after")):
            factor = numbers[f"factor {name} training, {eps:g} u_xx + u_yy"]
            shown = draw_damping(axes, damping(net, problem), coarsens_x, f"{name}: factor {factor:.3f}")
        row[3].set_ylabel(r"$\theta_y / \pi$")
        row[0].set_ylabel(equation, fontsize="x-large")
    figure.colorbar(shown, ax=panels[:, 3:], location="bottom", shrink=0.6, label="what smoothing leaves of a wave")
    figure.savefig(output, dpi=150)
    return numbers


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "kernels_before_and_after_training.png")).items():
        print(f"{name}: {value:.4g}")
