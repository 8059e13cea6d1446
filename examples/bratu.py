"""Bratu's problem
===============

Heat that a reaction sets free, the faster the hotter it is, and that leaves through cold walls.

::

    -Laplace(u) = lambda e^u on the unit square,   u = 0 on its sides.

Below lambda = 6.808 there are two solutions: a cool one, which full approximation scheme cycles find from zero, and a hot one,
which is unstable in time and which Newton's method finds from a hot start. They meet in a fold, and beyond it there is none:
the vessel explodes. Both branches are followed, each solution being the start for the next.

Source: D. A. Frank-Kamenetskii, Diffusion and heat transfer in chemical kinetics (1955); R. Glowinski, H. Keller, L. Reinhart,
Continuation-conjugate gradient methods for the least squares solution of nonlinear boundary value problems, SIAM J. Sci. Stat.
Comput. 6 (1985).
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import unigrid

UNKNOWNS, FOLD, BEYOND = 127, 6.808, 7.0
BLUE, RED = "#1f6fb4", "#c1272d"
COOL = (0.5, 1, 2, 3, 4, 5, 5.5, 6, 6.3, 6.5, 6.65, 6.75, 6.8)  # lambda, upward
HOT = (6, 6.3, 6.5, 6.65, 6.75, 6.8), (6, 5, 4, 3, 2, 1.5)  # from lambda = 6 upward, and downward


def solve(strength: float, cycle: str, **options: object) -> unigrid.Solution:
    """Return the solution for a lambda."""
    reaction = unigrid.Nonlinear(lambda u: -strength * np.exp(u), lambda u: -strength * np.exp(u))
    return unigrid.solve(np.zeros((UNKNOWNS, UNKNOWNS)), reaction=reaction, cycle=cycle, rtol=1e-9, **options)


def follow(strengths: tuple[float, ...], cycle: str, start: np.ndarray | None) -> list[unigrid.Solution]:
    """Return the solutions along a branch."""
    found: list[unigrid.Solution] = []
    for strength in strengths:
        found.append(solve(strength, cycle, u0=found[-1].u if found else start))
    return found


def main(output: Path) -> dict[str, float]:
    """Solve, save the figure, return what was measured."""
    cool = follow(COOL, "V", None)
    x = np.arange(1, UNKNOWNS + 1) / (UNKNOWNS + 1)
    bump = 3 * np.outer(np.sin(np.pi * x), np.sin(np.pi * x))
    hot = [follow(strengths, "newton", bump) for strengths in HOT]
    branch = [*zip(reversed(HOT[1]), reversed(hot[1]), strict=True), *zip(HOT[0], hot[0], strict=True)]
    fas, newton, beyond = solve(6.8, "V"), solve(6.8, "newton"), solve(BEYOND, "newton", raise_on_failure=False)

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(COOL, [each.u.max() for each in cool], "o-", color=BLUE, label="cool, by FAS")
    left.plot(
        *zip(*((strength, each.u.max()) for strength, each in branch), strict=True), "s-", color=RED, label="hot, by Newton"
    )
    left.axvline(FOLD, color="gray", linestyle=":", label=rf"fold, $\lambda$ = {FOLD}")
    left.set(xlabel=r"$\lambda$", ylabel="largest u", title="Two solutions, and none beyond the fold", xlim=(0, 8))
    left.legend(frameon=False, loc="center left")
    for run, style, color, label in (
        (fas, "o-", BLUE, r"$\lambda$ = 6.8, FAS, V(2,2)"),
        (newton, "s-", RED, r"$\lambda$ = 6.8, Newton"),
        (beyond, "x--", "gray", rf"$\lambda$ = {BEYOND}, Newton: no solution"),
    ):
        right.semilogy(np.array(run.residuals[:11]) / run.residuals[0], style, color=color, label=label)
    right.set(
        xlabel="cycles, or Newton steps",
        ylabel="relative residual",
        title=f"Convergence close to the fold, {UNKNOWNS}² unknowns",
    )
    right.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.86))
    figure.savefig(output, dpi=150)
    return {
        "largest u, lambda 1": cool[COOL.index(1)].u.max(),
        "largest u, lambda 5": cool[COOL.index(5)].u.max(),
        "largest u, lambda 6.8": cool[-1].u.max(),
        "largest u, lambda 5, hot": hot[1][HOT[1].index(5)].u.max(),
        "cycles at 6.8": fas.iterations,
        "Newton steps at 6.8": newton.iterations,
        "residual left beyond the fold": beyond.residuals[-1] / beyond.residuals[0],
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "bratu.png")).items():
        print(f"{name}: {value:.4g}")
