"""Finding a conductivity
======================

What conducts inside a plate, from temperatures measured at a few points: an inverse problem by gradients.

::

    -div(k grad u) = f,   u = 0 on the rim

for five sources of heat, one at a time; u is measured, with noise, at every fourth point of either axis. k is sought that makes

::

    misfit(u, measured) + weight * total variation of log k

small: L-BFGS with gradients by the adjoint solve, one more solve per source, whatever the number of unknowns in k. The weight
is the largest of a few with which the misfit falls to that of the noise (Morozov's discrepancy principle).

Source: C. R. Vogel, Computational methods for inverse problems (2002), chapters 7 and 8.
"""

import sys
from pathlib import Path

import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import unigrid

N, EVERY = 48, 4
NOISE = 0.01  # of the largest temperature
WEIGHTS = (1.0, 0.3, 0.1, 0.03)
STEPS = 40
SMOOTHED = 1e-3  # differences of log k below it count as squares


def truth() -> torch.Tensor:
    """Return k: a disk that conducts well and a bar that hardly conducts, in cells."""
    x = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    disk = (x[:, None] - 0.35) ** 2 + (x[None, :] - 0.33) ** 2 < 0.18**2
    bar = ((x[:, None] - 0.68).abs() < 0.09) & ((x[None, :] - 0.62).abs() < 0.26)
    return torch.where(disk, 5.0, torch.where(bar, 0.2, 1.0)).double()


def sources() -> torch.Tensor:
    """Return five spots of heat, shape (5, N, N)."""
    x = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    places = ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8), (0.5, 0.5))
    return torch.stack([torch.exp(-((x[:, None] - a) ** 2 + (x[None, :] - b) ** 2) / 0.01) * 100 for a, b in places])


def measured(k: torch.Tensor) -> torch.Tensor:
    """Return u at the sensors, for each source."""
    u = unigrid.solve(sources(), batch_dims=1, coefficient=k, centering="cell", rtol=1e-9).u
    return u[:, EVERY // 2 :: EVERY, EVERY // 2 :: EVERY]


def variation(log_k: torch.Tensor) -> torch.Tensor:
    """Return the total variation per cell, differentiable where neighbors are alike."""
    down, right = log_k.diff(dim=0)[:, :-1], log_k.diff(dim=1)[:-1]
    return torch.sqrt(down**2 + right**2 + SMOOTHED**2).mean()


def found(data: torch.Tensor, weight: float, start: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Return log k, and the misfit after each evaluation, 1 that of the noise."""
    log_k, history = start.clone().requires_grad_(), []
    optimizer = torch.optim.LBFGS([log_k], max_iter=STEPS, line_search_fn="strong_wolfe")
    size = NOISE * data.abs().max()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        misfit = ((measured(log_k.exp()) - data) ** 2).mean() / size**2
        history.append(misfit.item())
        loss = misfit + weight * N * variation(log_k)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_k.detach(), history


def main(output: Path) -> dict[str, float]:
    """Make data, find k, save the figure, return what was measured."""
    torch.manual_seed(0)
    k = truth()
    data = measured(k)
    data = data + NOISE * data.abs().max() * torch.randn_like(data)
    log_k, history, used = torch.zeros_like(k), [], WEIGHTS[0]
    for used in WEIGHTS:
        log_k, part = found(data, used, log_k)
        history += part
        if part[-1] < 1.0:
            break
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for axes, values, title in ((left, k, "conductivity k"), (middle, log_k.exp(), f"found from {data[0].numel()} sensors")):
        shown = axes.imshow(values.numpy(), cmap="PuOr", norm=LogNorm(0.2, 5.0), origin="lower", extent=(0, 1, 0, 1))
        axes.set(title=title, xticks=[], yticks=[])
    at = (torch.arange(N)[EVERY // 2 :: EVERY] + 0.5) / N
    middle.plot(*torch.meshgrid(at, at, indexing="xy"), ".", color="black", markersize=1.5)
    figure.colorbar(shown, ax=[left, middle], ticks=[0.2, 1, 5], format="%g").minorticks_off()
    right.semilogy(history, color="#1f5fa8")
    right.axhline(1.0, color="gray", linewidth=0.8, linestyle="--", label="of the noise")
    right.set(title="misfit", xlabel="evaluations")
    right.legend(frameon=False)
    figure.savefig(output, dpi=150)
    error = (log_k - k.log()).norm() / k.log().norm()
    return {
        "unknowns in k": float(k.numel()),
        "gradients": float(len(history)),
        "misfit over that of the noise, at first": history[0],
        "and in the end": history[-1],
        "weight": used,
        "relative error of log k": error.item(),
        "found in the middle of the disk, where k is 5": log_k[int(0.35 * N), int(0.33 * N)].exp().item(),
        "found in the middle of the bar, where k is 0.2": log_k[int(0.68 * N), int(0.62 * N)].exp().item(),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "finding_a_conductivity.png")).items():
        print(f"{name}: {value:.4g}")
