"""Fine-tuning on two classes
==========================

A network that was trained on CIFAR-100 learns to find cracks in concrete from a hundred pictures, in a minute on a CPU.

The network comes with unigrid. All of its weights are kept but those of the last layer, which is new, for two classes; then all
of them are trained on. Beside it the same network is trained on the same pictures from random weights, as long and by the same
protocol. The pictures, 32 x 32, are drawn here: concrete with grain and stains, half of them with a crack, the other half with
a scratch, which is as dark and as thin, but straight. Pictures of your own, one folder per class, may take their place::

    unigrid.train("photos/", size=32, weights="mgnet-32-Bl@cifar100", new_head=True)

Source: J. Yosinski, J. Clune, Y. Bengio, H. Lipson, How transferable are features in deep neural networks?, NeurIPS (2014).
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import unigrid

START = "mgnet-32-Bl@cifar100"
CLASSES = ("scratch", "crack")
SIDE, FINE = 32, 4  # pixels; each is the mean of FINE x FINE points
TRAINING, VALIDATION, TEST = 100, 200, 400  # pictures
CHOICES = {"epochs": 30, "batch_size": 25, "learning_rate": 0.05, "scale_rate": False, "device": "cpu"}
SHOWN = 12


def line(rng: np.random.Generator, is_crack: bool) -> NDArray[np.float64]:
    """Return the points of a straight scratch, or of a crack, which turns at random."""
    n = SIDE * FINE
    length, angle = rng.uniform(0.5, 1.2) * n, rng.uniform(0, 2 * np.pi)
    steps = int(length)
    turns = gaussian_filter(rng.standard_normal(steps), 3) * 1.2 if is_crack else np.zeros(steps)
    angles = angle + turns
    points = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)
    return points - points[steps // 2] + rng.uniform(0.3, 0.7, 2) * n


def picture(rng: np.random.Generator, is_crack: bool) -> NDArray[np.uint8]:
    """Return one picture, (SIDE, SIDE, 3)."""
    n = SIDE * FINE
    slab = sum(weight * gaussian_filter(rng.standard_normal((n, n)), scale, mode="wrap") * scale
               for weight, scale in ((0.05, 1), (0.07, 4), (0.12, 16)))  # fmt: skip
    dark = np.zeros((n, n))
    rows, columns = np.round(line(rng, is_crack)).astype(int).T
    inside = (rows >= 0) & (rows < n) & (columns >= 0) & (columns < n)
    dark[rows[inside], columns[inside]] = 1.0
    dark = gaussian_filter(dark, rng.uniform(1.0, 1.8)) * 5
    gray = rng.uniform(0.4, 0.7) + slab - rng.uniform(0.15, 0.35) * np.minimum(dark, 1.0)
    tint = 1 + 0.03 * rng.standard_normal(3)
    coarse = gray.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3))
    return np.uint8(255 * np.clip(coarse[..., None] * tint, 0, 1))


def pictures(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `count` pictures and the number of the class of each."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 2
    return np.stack([picture(rng, bool(label)) for label in labels]), labels


def draw(runs: dict[str, unigrid.TrainResult], images: NDArray[np.uint8]) -> Figure:
    """Draw accuracy over epochs of both runs, and what the first of them takes the first test pictures for."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    curves, panels = figure.subfigures(1, 2, width_ratios=[1, 1.6])
    axes = curves.subplots()
    for name, run in runs.items():
        epochs, accuracies = zip(*((row["epoch"], 100 * row["validation_accuracy"]) for row in run.history), strict=True)
        axes.plot(epochs, accuracies, label=f"{name}: {100 * run.test_accuracy:.1f} % in the test")
    axes.axhline(50, color="gray", linewidth=0.8, linestyle=":")
    axes.set(xlabel="epoch", ylabel="validation accuracy (%)", ylim=(35, 101))
    axes.legend(fontsize=8, loc="lower right")
    test = next(iter(runs.values())).runs[0].test
    shares = test.logits.softmax(1)
    for number, place in enumerate(panels.subplots(2, SHOWN // 2).T.flat):
        place.imshow(images[number])
        found = int(shares[number].argmax())
        is_right = found == test.labels[number]
        title = f"{CLASSES[found]}, {100 * shares[number, found]:.0f} %"
        place.set_title(title, fontsize=8, color="black" if is_right else "tab:red")
        place.axis("off")
    return figure


def main(output: Path, start: str = START, **choices: Any) -> dict[str, float]:
    """Train both, save the figure, return what was measured; `choices` are those of `unigrid.train`."""
    training, validation, test = (pictures(count, seed) for seed, count in enumerate((TRAINING, VALIDATION, TEST)))
    settings = {"validation": validation, **CHOICES, **choices}
    runs = {
        "from CIFAR-100": unigrid.train((training, test), weights=start, new_head=True, **settings),
        "from random weights": unigrid.train((training, test), model=start.partition("@")[0], **settings),
    }
    draw(runs, test[0]).savefig(output, dpi=150)
    seconds = {f"seconds of training {name}": run.runs[0].seconds for name, run in runs.items()}
    return {f"test accuracy {name} (%)": 100 * run.test_accuracy for name, run in runs.items()} | seconds


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "fine_tuning_on_two_classes.png")).items():
        print(f"{name}: {value:.4g}")
