"""MgNet learns to classify images
===============================

CIFAR-10 on a CPU in a few minutes, and what the network has learned.

The network is one multigrid cycle with convolutions in its slots: on each of four levels it smooths twice,

::

    u <- u + B (f - A u),        then        u' = Pi u,    f' = R (f - A u) + A' u',

f being data made of the image, u the features of it that it finds; the class of the image is read from the last u. Here 10,000
of the 50,000 training images are used, a tenth of them kept apart for validation, and the test set is read once, at the end.
Interrupted, or run again, it continues where it stopped. The pictures::

    training.png    loss and accuracy, epoch by epoch          confusion.png    what is taken for what
    levels.png      data f, features u and residual f - A u of every level, for one test image
    kernels.png     the learned A, B, R and Pi

CIFAR-10 is looked for in the folder that UNIGRID_DATA names, or in the user's cache; `unigrid train cifar10 --download` fetches
it there. A second argument names other data: `shapes`, drawn by the package itself, needs no download. A third is the number
of epochs. (Figures on the page of this example are those of 3 epochs on shapes.)

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019); A. Krizhevsky, Learning multiple layers of features from tiny images
(2009), for CIFAR-10.
"""

import sys
from pathlib import Path
from typing import Any

import torch

import unigrid
from unigrid import plots
from unigrid.files import FileError
from unigrid.training import ImageData, load

DEFAULTS = "training_mgnet_on_cifar10", "cifar10", "8"  # folder, data and epochs
IMAGE = 3  # which test image is followed through the levels


def normalized(data: ImageData, pixels: torch.Tensor) -> torch.Tensor:
    """Return images of bytes as the network takes them: scaled to 0..1, less the mean, over the deviation."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    return (pixels / 255 - mean) / std


def main(output: Path, dataset: str = "cifar10", model: str = "mgnet-16-Bl", **choices: Any) -> dict[str, float]:
    """Train, save the pictures in the folder `output`, return what was measured; `choices` are those of `unigrid.train`."""
    data = load(dataset)
    choices = {"epochs": 8, "subset": min(10_000, len(data.train)), "validation": 0.1, "device": "cpu", **choices}
    result = unigrid.train(data, model, out=output / "run", resume=True, **choices)
    run = result.runs[0]
    image = data.test.images[IMAGE]

    pictures = {
        "training": plots.plot_training(run.history, test_accuracy=run.test.accuracy),
        "confusion": plots.plot_confusion(run.test.confusion, data.classes),
        "levels": plots.plot_levels(run.model, normalized(data, image), picture=image.permute(1, 2, 0)),
        "kernels": plots.plot_kernels(run.model),
    }
    for name, figure in pictures.items():
        plots.save(figure, output / f"{name}.png")
    return {
        "parameters": sum(weight.numel() for weight in run.model.parameters()),
        "training images": result.configuration["dataset"]["training_images"],
        "epochs": len(run.history),
        "seconds of training": run.seconds,
        "validation accuracy (%)": 100 * run.history[-1]["validation_accuracy"],
        "test accuracy (%)": 100 * run.test.accuracy,
    }


if __name__ == "__main__":
    folder, dataset, epochs = [*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :]]
    try:
        numbers = main(Path(folder), dataset, epochs=int(epochs))
    except FileError as error:  # most likely CIFAR-10 is not there, and the message names the command that gets it
        raise SystemExit(str(error)) from None
    for name, value in numbers.items():
        print(f"{name}: {value:,.5g}")
