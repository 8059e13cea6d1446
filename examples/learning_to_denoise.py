"""Networks that denoise by solving
================================

They are trained through the solve, by its exact gradients, on shapes with noise.

::

    -Laplace(u) + c u = c f

smooths a picture f over a distance 1/sqrt(c). The first network is a `PoissonLayer` that learns this one number, the
screening. The second draws, by three small convolutions, where the picture must not be smoothed::

    -div(k grad u) + u = f,   k -> 0 on an edge.

This shows how to train through a solve, not the best denoiser: total variation, made for flat pictures such as these, reaches
28.2 dB on the test pictures with its best weight; the same convolutions alone, trained as long, 23.9.

Source: P. Perona, J. Malik, Scale-space and edge detection using anisotropic diffusion, IEEE Trans. PAMI 12 (1990), for the
idea that smoothing should stop at edges.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import unigrid

SIZE, NOISE = 40, 0.25
STEPS, PICTURES = 40, 4  # of training, and per step
GRID = {"boundary": "neumann", "centering": "cell", "spacing": 1.0, "rtol": 1e-5}


def shapes(count: int, seed: int) -> Tensor:
    """Return pictures of disks and rectangles of several grays on a slope, shape (count, SIZE, SIZE)."""
    rng, pictures = np.random.default_rng(seed), []
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    for _ in range(count):
        picture = 0.3 * (x - 0.5) * rng.uniform(-1, 1) + 0.3 * (y - 0.5) * rng.uniform(-1, 1)
        for _ in range(5):
            a, b, r, gray = *rng.uniform(0.1, 0.9, 2), rng.uniform(0.08, 0.25), rng.uniform(-1, 1)
            is_disk = rng.random() < 0.5
            inside = (x - a) ** 2 + (y - b) ** 2 < r**2 if is_disk else (abs(x - a) < r) & (abs(y - b) < 0.7 * r)
            picture = np.where(inside, gray, picture)
        pictures.append(picture)
    return torch.from_numpy(np.stack(pictures))


class Screened(nn.Module):
    """Smooths all alike, over a distance that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = unigrid.PoissonLayer((SIZE, SIZE), reaction=1.0, learn_reaction=True, **GRID)

    def forward(self, noisy: Tensor) -> Tensor:
        """Return each picture of a batch, smoothed."""
        return self.layer(noisy) * self.layer.value("reaction")


class Denoiser(nn.Module):
    """Draws k, between 0.003 and 30, and smooths."""

    def __init__(self) -> None:
        super().__init__()
        self.draw = nn.Sequential(
            nn.Conv2d(1, 12, 5, padding=2, padding_mode="replicate"), nn.ReLU(),
            nn.Conv2d(12, 12, 5, padding=2, padding_mode="replicate"), nn.ReLU(),
            nn.Conv2d(12, 1, 5, padding=2, padding_mode="replicate"),
        )  # fmt: skip

    def coefficient(self, noisy: Tensor) -> Tensor:
        """Return k of each picture of a batch."""
        return torch.exp(4.6 * torch.tanh(self.draw(noisy[:, None].float())[:, 0])).double() * 0.3

    def forward(self, noisy: Tensor) -> Tensor:
        """Return each picture of a batch, smoothed by its own k."""
        return torch.func.vmap(solved)(noisy, self.coefficient(noisy))


def solved(noisy: Tensor, k: Tensor) -> Tensor:
    """Return one picture, smoothed by its own k."""
    return unigrid.solve(noisy, coefficient=k, reaction=1.0, **GRID).u


def noisy_of(clean: Tensor, seed: int) -> Tensor:
    """Return pictures with noise."""
    return clean + NOISE * torch.randn(clean.shape, dtype=clean.dtype, generator=torch.Generator().manual_seed(seed))


def decibels(u: Tensor, clean: Tensor) -> float:
    """Return the peak signal-to-noise ratio, 2 being the range of grays."""
    return float(10 * torch.log10(4 / ((u - clean) ** 2).mean()))


def trained(model: nn.Module, rate: float) -> nn.Module:
    """Train a network on new pictures in each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(STEPS):
        clean = shapes(PICTURES, seed=step)
        optimizer.zero_grad()
        loss = ((model(noisy_of(clean, step)) - clean) ** 2).mean()
        loss.backward()
        optimizer.step()
    return model


def main(output: Path) -> dict[str, float]:
    """Train both, test on other pictures, save the figure, return what was measured."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # between small operators, those of torch would wait on the cores that the solver needs
    screened, model = trained(Screened(), rate=0.05), trained(Denoiser(), rate=4e-3)
    clean = shapes(16, seed=10**6)
    noisy = noisy_of(clean, 10**6)
    with torch.no_grad():
        alike, learned, k = screened(noisy), model(noisy), model.coefficient(noisy)
    figure = Figure(figsize=(10, 2.5), layout="constrained")
    pictures = {
        "true": clean[0], "noisy": noisy[0], "one screening": alike[0], "edges drawn": learned[0],
    }  # fmt: skip
    panels = figure.subplots(1, 5)
    for axes, (title, picture) in zip(panels, pictures.items(), strict=False):
        axes.imshow(picture.numpy(), cmap="gray", vmin=-1, vmax=1)
        axes.set_title(title if title == "true" else f"{title}, {decibels(picture, clean[0]):.1f} dB", fontsize=9)
    shown = panels[-1].imshow(k[0].numpy(), cmap="viridis", norm="log")
    panels[-1].set_title("how far it smooths: k", fontsize=9)
    figure.colorbar(shown, ax=panels[-1], fraction=0.046)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    figure.savefig(output, dpi=150)
    return {
        "weights": float(sum(each.numel() for each in model.parameters())),
        "learned screening c": screened.layer.value("reaction").item(),
        "noisy, dB": decibels(noisy, clean),
        "smoothed by one screening, dB": decibels(alike, clean),
        "smoothed but for edges, dB": decibels(learned, clean),
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "learning_to_denoise.png")).items():
        print(f"{name}: {value:.4g}")
