"""Where does the material matter?
===============================

The sensitivity of one temperature to the conductivity of every place, by one adjoint solve.

::

    -div(k grad T) = 0 in a heat sink between a chip, from which heat enters, and a cold plate

dT/dk at the chip, for each of 10,000 cells, would take 10,000 solves by differences; backward takes one. Where it is most
negative, a better conductor cools the chip most.

Source: M. B. Giles, N. A. Pierce, An introduction to the adjoint approach to design, Flow, Turbulence and Combustion 65 (2000).
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import unigrid

CELLS, LENGTHS = (72, 143), (0.5, 143 / 144)
BASE, FINS, HEAT = 18, 6, 1.0  # rows of the base, number of fins, heat through the chip
METAL, AIR, COOLING = 1.0, 1e-2, 4.0


def conductivity() -> torch.Tensor:
    """Return k of a base with fins up to a cold plate, and of the still air between them; row 0 is below."""
    rows, columns = CELLS
    fin = (torch.arange(columns) * (2 * FINS - 1) // columns) % 2 == 0
    is_metal = (torch.arange(rows) < BASE)[:, None] | fin[None, :]
    return torch.where(is_metal, METAL, AIR).double()


def chip() -> torch.Tensor:
    """Return the flux through the lower side: the middle quarter heats."""
    x = (torch.arange(CELLS[1], dtype=torch.float64) + 0.5) / CELLS[1]
    return torch.where((x - 0.5).abs() < 0.125, HEAT, 0.0).double()


def temperature(k: torch.Tensor) -> torch.Tensor:
    """Return T: heat enters below, leaves to a plate of temperature 0 above, and the sides are insulated."""
    above = unigrid.Robin(alpha=COOLING, value=0.0)
    sides = [(unigrid.Neumann(chip()), above), "neumann"]
    f = torch.zeros(CELLS, dtype=torch.float64)
    return unigrid.solve(f, boundary=sides, coefficient=k, lengths=LENGTHS, centering="cell", rtol=1e-10).u


def at_the_chip(t: torch.Tensor) -> torch.Tensor:
    """Return the mean temperature of the chip."""
    return t[0][chip() > 0].mean()


def main(output: Path) -> dict[str, float]:
    """Solve once forward and once backward, check one cell, save the figure, return what was measured."""
    k = conductivity().requires_grad_()
    t = temperature(k)
    at_the_chip(t).backward()
    sensitivity = k.grad * k.detach()
    sensitivity /= -sensitivity.mean()
    place = (BASE // 2, CELLS[1] // 2 - CELLS[1] // 8)
    change = torch.zeros(CELLS, dtype=torch.float64)
    change[place] = 1e-4
    differences = (at_the_chip(temperature(k.detach() + change)) - at_the_chip(temperature(k.detach() - change))) / 2e-4

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    extent = (0, LENGTHS[1], 0, LENGTHS[0])
    shown = left.imshow(t.detach().numpy(), cmap="inferno", origin="lower", extent=extent)
    figure.colorbar(shown, ax=left, orientation="horizontal", label="temperature")
    limit = float((-sensitivity).quantile(0.995))
    shown = right.imshow(-sensitivity.numpy(), cmap="magma_r", vmin=0, vmax=limit, origin="lower", extent=extent)
    figure.colorbar(shown, ax=right, orientation="horizontal", label="relative gain, 1 in the mean")
    for axes, title in ((left, "a chip under a heat sink"), (right, "where a better conductor cools the chip most")):
        axes.contour(
            (k.detach().numpy() > 0.5).astype(float), levels=[0.5], colors="white" if axes is left else "black",
            linewidths=0.6, extent=extent,
        )  # fmt: skip
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(output, dpi=150)
    return {
        "cells": float(k.numel()),
        "temperature of the chip": at_the_chip(t).item(),
        "part of the sensitivity in the metal": (sensitivity[conductivity() > 0.5].sum() / sensitivity.sum()).item(),
        "gradient of one cell": k.grad[place].item(),
        "the same by differences": differences.item(),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "sensitivity_of_a_temperature.png")).items():
        print(f"{name}: {value:.6g}")
