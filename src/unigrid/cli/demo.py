"""`unigrid demo`: a photograph recovered from its Laplacian, and MgNet trained for about a minute.

The photograph is the exact solution of its own discrete problem -Laplace_h(u) = f with its outermost pixels as boundary values,
so its difference from u is the error of the solver alone. MgNet, the same cycle with convolutions in its slots, is trained on
synthetic pictures that unigrid draws itself, so that no file is needed. Reports and figures name them synthetic.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files import FileError, make_folder, read_array
from .monitor import Stopwatch, announced_compilation, as_text
from .options import load_kernels

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure
    from torch import Tensor

    from ..conv import MgNet
    from ..solution import Solution
    from ..stencil.cycle import StencilCycle
    from ..training import Evaluation, ImageData, SeedRun

SUMMARY = "recover a photograph from its Laplacian, train a network for a minute, and draw how"
EPILOG = """\
examples:
  unigrid demo
  unigrid demo -o pictures"""
Array = NDArray[np.float64]
PHOTOGRAPH = "grace_hopper.jpg"  # Rear Admiral Grace Hopper, U.S. Navy, public domain; comes with matplotlib
SHOWN_PERCENTILE = 99.0  # of |f|: larger values are clipped, or a few edges would leave nothing else visible
MODEL, EPOCHS = "mgnet-16-Bl", 5  # less than a minute on two cores, and 99 %
# Changes of the protocol "fast": more steps for so short a run, and float32, in which every processor computes alike.
CHANGES: dict[str, Any] = {"batch_size": 64, "mixed_precision": False}
VALIDATION = 0.1  # of the training pictures, for the dashed curves
FOLLOWED = "star"  # the class of the picture that is followed through the levels
CHANNELS = 9  # drawn per level
WITHOUT_TORCH = "The second half, MgNet trained for a minute, needs torch: pip install 'unigrid[learn]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", default=".", metavar="DIR", help="folder for the figures, made if missing; default here"
    )


def run(arguments: argparse.Namespace) -> int:
    directory = make_folder(arguments.output)
    load_kernels()
    stopwatch = Stopwatch()
    with announced_compilation(stopwatch):
        for part in PARTS:
            print(as_text(part(directory, stopwatch)), flush=True)
    return 0


# ------------------------------------------------------------------------------------------------------- the photograph


class Recovered(NamedTuple):
    """A photograph without its outermost pixels (gray values from 0 to 1), its Laplacian, and the solution."""

    photograph: Array
    f: Array
    cycle: StencilCycle
    solution: Solution

    @property
    def error(self) -> Array:
        """|u - photograph|."""
        return np.abs(self.solution.u - self.photograph)


def photograph_part(directory: Path, stopwatch: Stopwatch) -> list[str]:
    """Recover the photograph from its Laplacian, write unigrid-demo.png, return the lines of the report."""
    from .. import plots

    recovered = recover(read_array(sample_photograph()), stopwatch)
    path = directory / "unigrid-demo.png"
    plots.save(draw(recovered), path)
    cycle, solution = recovered.cycle, recovered.solution
    rows, columns = recovered.f.shape
    return [
        f"A photograph of {rows + 2} x {columns + 2} pixels, recovered from its Laplacian and its outermost pixels:",
        f"  problem        -Laplace(u) = f, {cycle.problem.grid.size:,} unknowns, Dirichlet",
        f"  cycle          {cycle.title}, {len(cycle.levels)} levels",
        f"  iterations     {solution.iterations}, the first of them full multigrid",
        f"  residual       {solution.residuals[-1] / solution.residuals[0]:.1e} of the initial one ({solution.reason})",
        f"  factor         {solution.rate:.3f} per iteration",
        f"  largest error  {recovered.error.max():.1e}, gray values being 0 to 1",
        f"  seconds        {stopwatch.seconds['setup']:.3f} to set up, {stopwatch.seconds['solve']:.3f} to solve",
        f"Wrote {path}",
    ]


def sample_photograph() -> Path:
    """Return the path of matplotlib's sample photograph. Raises FileError if it is not installed."""
    from matplotlib.cbook import get_sample_data

    path = Path(get_sample_data(PHOTOGRAPH, asfileobj=False))
    if not path.is_file():
        raise FileError(f"{PHOTOGRAPH}: this matplotlib came without its sample data; install it from PyPI")
    return path


def recover(pixels: Array, stopwatch: Stopwatch) -> Recovered:
    """Solve for the inner pixels, given the Laplacian (spacing 1) and the outermost pixels."""
    from ..stencil.cycle import StencilCycle
    from ..stencil.grid import Dirichlet
    from ..stencil.problem import Poisson

    f = minus_laplacian(pixels)
    sides = [
        (Dirichlet(pixels[0, 1:-1]), Dirichlet(pixels[-1, 1:-1])),
        (Dirichlet(pixels[1:-1, 0]), Dirichlet(pixels[1:-1, -1])),
    ]
    with stopwatch.measure("setup"):
        cycle = StencilCycle(Poisson(f.shape, spacing=1.0, boundary=sides))
    with stopwatch.measure("solve"):
        solution = cycle.solve(f)
    return Recovered(pixels[1:-1, 1:-1], f, cycle, solution)


def minus_laplacian(pixels: Array) -> Array:
    """Return 4 times each inner pixel minus its four neighbors."""
    return 4 * pixels[1:-1, 1:-1] - pixels[:-2, 1:-1] - pixels[2:, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]


def draw(recovered: Recovered) -> Figure:
    """Return the figure: photograph, f, u and the error above, the history and the hierarchy below."""
    from matplotlib.figure import Figure

    from .. import plots

    figure = Figure(figsize=(14.0, 8.6), layout="constrained")
    cycle, solution = recovered.cycle, recovered.solution
    figure.suptitle(
        f"A photograph recovered from its Laplacian: {cycle.problem.grid.size:,} unknowns, {solution.iterations} iterations, "
        f"largest error {recovered.error.max():.0e}".replace("e-0", "e-")
    )
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.6, 5.0))
    limit = float(np.percentile(np.abs(recovered.f), SHOWN_PERCENTILE))
    shown: list[tuple[Any, str, dict[str, Any]]] = [
        (recovered.photograph, "photograph", {"label": "gray value", "cmap": "gray"}),
        (recovered.f, r"source $f = -\Delta$ photograph", {"label": "f", "limit": limit}),
        (solution.u, r"solution $u$ of $-\Delta u = f$", {"label": "gray value", "cmap": "gray"}),
        (recovered.error, "error", {"label": "|u - photograph|"}),
    ]
    for number, (axes, (values, title, options)) in enumerate(zip(above.subplots(1, 4), shown, strict=True)):
        plots.draw_image(axes, values, picture=True, **options)
        axes.set(title=title, xlabel="column", ylabel="" if number else "row")
    left, right = below.subfigures(1, 2, width_ratios=(5.0, 9.0))
    axes = left.subplots()
    plots.draw_history(axes, {cycle.name: solution})
    axes.set_title("residuals")
    plots.draw_hierarchy(right.subplots(), cycle)
    return figure


# ---------------------------------------------------------------------------------------------------------- the network


class Learned(NamedTuple):
    """A network trained on synthetic pictures, its result on the test pictures, and its features of one of them."""

    data: ImageData
    network: MgNet
    run: SeedRun
    configuration: dict[str, Any]
    test: Evaluation
    features: list[Array]  # of every level, (channels, height, width)


def training_part(
    directory: Path, stopwatch: Stopwatch, model: str = MODEL, epochs: int = EPOCHS, subset: int | None = None
) -> list[str]:
    """Train MgNet on synthetic pictures (a subset of them), write unigrid-demo-training.png, return the lines of the report."""
    if find_spec("torch") is None:
        return [WITHOUT_TORCH]
    from .. import plots

    learned = learn(model, epochs, subset, stopwatch)
    path = directory / "unigrid-demo-training.png"
    plots.save(draw_learned(learned), path)
    network, test, data = learned.network, learned.test, learned.data
    (fine, coarse), steps = (learned.features[at].shape[1:] for at in (0, -1)), list(network.config.steps)
    loop = type(network.cycle).cycle.__qualname__
    return [
        f"MgNet, trained to tell {len(data.classes)} figures apart on synthetic pictures, which unigrid draws itself:",
        f"  network        {model}, {sum(weight.numel() for weight in network.parameters()):,} parameters",
        f"  cycle          {len(steps)} levels, {fine[0]} x {fine[1]} to {coarse[0]} x {coarse[1]}, {steps} smoothing steps",
        f"  both halves    run {loop}, above with stencils in its slots, here with convolutions",
        f"  training       {learned.configuration['dataset']['training_images']:,} synthetic pictures, "
        f"{len(learned.run.history)} epochs, protocol {learned.configuration['protocol']['name']} in float32",
        f"  test accuracy  {100 * test.accuracy:.1f} % of {test.count:,} other synthetic pictures",
        f"  most confused  {_most_confused(test, data.classes)}",
        f"  seconds        {learned.run.seconds:.1f} to train, {stopwatch.seconds['learn']:.1f} with validation and test",
        f"Wrote {path}",
    ]


PARTS: tuple[Callable[[Path, Stopwatch], list[str]], ...] = (photograph_part, training_part)


def learn(model: str, epochs: int, subset: int | None, stopwatch: Stopwatch) -> Learned:
    """Train a network on `shapes`, and follow one test picture through its levels."""
    import torch

    from ..conv import MgNet
    from ..training import load, train

    data = load("shapes")
    with stopwatch.measure("learn"):
        # On the CPU even beside a GPU, whose compilation would take longer than so short a training.
        result = train(data, model, epochs=epochs, subset=subset, validation=VALIDATION, device="cpu", **CHANGES)
    run, network = result.runs[0], result.model
    assert run.test is not None
    assert isinstance(network, MgNet)
    followed = data.classes.index(FOLLOWED)
    with torch.no_grad():
        levels = network.forward_intermediates(_examples(data)[1][followed : followed + 1])[1]
    features = [level.features[0].double().numpy() for level in levels if level.features is not None]
    return Learned(data, network, run, result.configuration, run.test, features)


def _examples(data: ImageData) -> tuple[Tensor, Tensor]:
    """Return the first test picture of every class, as it is and normalized as in training."""
    from ..training.data.augmentation import Pipeline

    images = data.test.images[[data.test.labels.tolist().index(label) for label in range(len(data.classes))]]
    return images, Pipeline(images, data.mean, data.std).plain(0, len(images))


def _most_confused(test: Evaluation, classes: tuple[str, ...]) -> str:
    from ..plots import most_confused

    pairs = most_confused(test.confusion, 1)
    if not pairs:
        return "none"
    true, predicted, share = pairs[0]
    return f"{classes[true]}: {100 * share:.1f} % taken for {classes[predicted]}"


def draw_learned(learned: Learned) -> Figure:
    """Return the figure: a picture of each class above; curves, confusion matrix and features of every level below."""
    from matplotlib.figure import Figure

    from .. import plots

    figure = Figure(figsize=(14.0, 7.6), layout="constrained")
    figure.suptitle(
        f"MgNet tells {len(learned.data.classes)} figures apart: {100 * learned.test.accuracy:.1f} % of {learned.test.count:,} "
        "test pictures (synthetic, drawn by unigrid itself)"
    )
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.6, 6.0))
    _draw_examples(above, learned)
    left, middle, right = below.subfigures(1, 3, width_ratios=(4.2, 5.0, 4.4))
    loss, accuracy = left.subplots(2, 1, sharex=True)
    plots.draw_loss(loss, learned.run.history)
    plots.draw_accuracy(accuracy, learned.run.history, test_accuracy=learned.test.accuracy)
    loss.set(title="validation: of the weights' moving average", xlabel="")
    plots.draw_confusion(middle.subplots(), learned.test.confusion, learned.data.classes)
    _draw_features(right, learned)
    return figure


def _draw_examples(figure: SubFigure, learned: Learned) -> None:
    """Draw the first test picture of every class, with the network's answer as its title."""
    import torch

    from ..plots import COLORS
    from ..plots.tiles import hide_ticks

    images, normalized = _examples(learned.data)
    with torch.no_grad():
        answers = [learned.data.classes[answer] for answer in learned.network(normalized).argmax(1)]
    panels = figure.subplots(1, len(images))
    for axes, image, name, answer in zip(panels, images, learned.data.classes, answers, strict=True):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        hide_ticks(axes)
        title = answer if answer == name else f"{answer}?\n(is {name})"
        axes.set_title(title, fontsize="medium", color="black" if answer == name else COLORS[1])


def _draw_features(figure: SubFigure, learned: Learned) -> None:
    """Draw the features of the followed picture on each level."""
    from .. import plots

    figure.suptitle(f"features of a {FOLLOWED}, level by level", fontsize="medium")
    rows = (len(learned.features) + 1) // 2
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for number, (axes, features) in enumerate(zip(panels, learned.features, strict=True)):
        plots.draw_channels(axes, features, channels=CHANNELS)
        height, width = features.shape[1:]
        axes.set_title(f"level {number}: {height} x {width}", fontsize="small")
        axes.set_xlabel("")
