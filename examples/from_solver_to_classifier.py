"""From a solver to a classifier
=============================

One multigrid cycle solves Poisson's equation, learns to do it faster, then names shapes.

The algorithm stays the same throughout; only what fills its slots changes.

::

    1. solve       -Laplace u = f, f a picture: a V-cycle that smooths by damped Jacobi
    2. translate   every slot becomes a convolution with fixed weights: the same iterates, to round-off
    3. train       the smoother becomes a 3x3 kernel, trained through the cycle: faster, on grids that it never saw, too
    4. widen       one copy a channel: the way down is an MgNet, and 64 pictures in its channels are 64 problems solved at once
    5. classify    the same stencils, now with batch norms, ReLU and a head, free to mix channels: they learn to tell shapes

The pictures wrap around: on a torus of 2^k points a convolution of stride 2 with circular padding is exactly the restriction.

Source: J. He & J. Xu, MgNet, Sci. China Math. 62 (2019), sections 4 and 5, for steps 2, 4 and 5; A. Katrutsa, T. Daulbaev,
I. Oseledets, Black-box learning of multigrid parameters, J. Comput. Appl. Math. 368 (2020), for the idea of step 3.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import nn

import unigrid
from unigrid import plots
from unigrid.conv.levels import LevelState, traced
from unigrid.equivalence import to_conv
from unigrid.training import ImageData, load

SIDE, LEVELS = 32, 4  # pixels of a picture; grids of 32, 16, 8 and 4 points a side
TORUS: dict[str, Any] = {"spacing": 1, "boundary": "periodic"}  # one pixel is the unit of length
LINEAR = {"activation": "identity", "norms": "none", "transfer_norms": False, "transfer_activation": False}
NOISE = 0.05  # so that no two channels learn the same


# ------------------------------------------------------------------------------------ 1, 2 and 3: solve, translate, train


def pictures_as_sources(data: ImageData, count: int) -> np.ndarray:
    """Return gray test pictures (count, 32, 32) less their means: on a torus only such an f has a solution."""
    gray = data.test.images[:count].double().mean(dim=1).numpy() / 255
    return gray - gray.mean(axis=(1, 2), keepdims=True)


def jacobi_cycle() -> unigrid.StencilCycle:
    """Return the V(1,1) cycle of the textbooks on the torus."""
    return unigrid.StencilCycle(unigrid.Poisson((SIDE, SIDE), **TORUS), smoother=unigrid.Jacobi(0.8), pre=1, post=1)


def iterate(f: np.ndarray, **how: Any) -> tuple[unigrid.Solution, np.ndarray]:
    """Return the solution that `unigrid.solve` finds from u = 0, and all the iterates on the way."""
    iterates: list[np.ndarray] = []

    def keep(solution: unigrid.Solution) -> None:
        iterates.append(solution.u.copy())

    return unigrid.solve(f, start="zero", rtol=1e-10, callback=keep, **how), np.array(iterates)


# ---------------------------------------------------------------------------------------------------------------- 4: widen


def way_down(net: unigrid.PoissonNet) -> unigrid.StencilCycle:
    """Return a hierarchy that descends as MgNet does: one step of the trained smoother per level, the coarsest included."""
    smoother = net.slots()["smoother"]
    slots: dict[str, Any] = {"smoother": smoother, "coarsest": smoother, "state_transfer": "full-weighting"}
    return unigrid.StencilCycle(unigrid.Poisson((SIDE, SIDE), **TORUS), pre=1, post=0, max_levels=LEVELS, **slots)


def widened(cycle: unigrid.StencilCycle, channels: int, **choices: Any) -> unigrid.MgNet:
    """Return an MgNet in which every channel does what the cycle does on its way down, each weight W being identity x W."""
    narrow = to_conv(cycle)
    wide = unigrid.MgNet(steps=(1,) * LEVELS, features=channels, padding="circular", **choices).double()
    copies = torch.eye(channels, dtype=torch.float64)[:, :, None, None]
    for to, of in zip(wide.cycle.levels, narrow.levels, strict=True):
        for slot in ("operator", "smoother", "restriction", "state_transfer"):
            for target, source in zip(convolutions(getattr(to, slot)), convolutions(getattr(of, slot)), strict=True):
                target.weight.data = torch.kron(copies, source.weight)
    return wide


def convolutions(slot: nn.Module | None) -> list[nn.Conv2d]:
    """Return the convolutions in a slot, none where there is no slot."""
    return [] if slot is None else [module for module in slot.modules() if isinstance(module, nn.Conv2d)]


def largest_difference(levels: list[LevelState], cycle: unigrid.StencilCycle, sources: np.ndarray) -> float:
    """Return by how much the channels of a network differ from the cycle run on one source after the other, relative.

    Compared are the f of every level, which say all that was done above it, and the u of the last level.
    """
    alone = [traced(cycle, source)[1] for source in sources]
    pairs = [(level.data, [states[at].data for states in alone]) for at, level in enumerate(levels)]
    pairs.append((levels[-1].features, [states[-1].features for states in alone]))
    return max(float(np.abs(wide[0].numpy() - narrow).max() / np.abs(narrow).max()) for wide, narrow in pairs)


# ------------------------------------------------------------------------------------------------------------- 5: classify


def classifier(cycle: unigrid.StencilCycle, channels: int) -> unigrid.MgNet:
    """Return the same stencils in a network with batch norms, ReLU, theta and a head, and a little noise on them.

    Random weights alone learn a little sooner. The point is that these are the same numbers in the same slots.
    """
    network = widened(cycle, channels)
    for level in network.cycle.levels:
        for convolution in convolutions(level):
            convolution.weight.data += NOISE * torch.randn_like(convolution.weight)
    return network.float()


def normalized(data: ImageData, pixels: torch.Tensor) -> torch.Tensor:
    """Return images of bytes as the network takes them: scaled to 0..1, less the mean, over the deviation."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    return (pixels / 255 - mean) / std


# -------------------------------------------------------------------------------------------------------------- the figure


def draw_solvers(figure: Any, f: np.ndarray, runs: dict[str, unigrid.Solution], net: unigrid.PoissonNet) -> None:
    """Draw a source and its solution, how the runs converged, and the smoother's kernel before and after training."""
    panels = figure.subplots(1, 5, width_ratios=[1, 1, 2.2, 0.8, 0.8])
    u = next(iter(runs.values())).u
    for axes, values, title in zip(
        panels, (f, u), ("a picture as source $f$", r"its potential $u$: $-\Delta u = f$"), strict=False
    ):
        limit = np.abs(values).max()
        axes.imshow(values, cmap=plots.DIVERGING, vmin=-limit, vmax=limit)
        axes.set(title=title, xticks=[], yticks=[])
    colors, markers, sizes = ("#0072B2", "#000000", "#D55E00", "#0072B2", "#D55E00"), "oosvv", (4, 8, 4, 5, 5)
    for (name, solution), color, marker, size, line in zip(
        runs.items(), colors, markers, sizes, ("-", "", "-", ":", ":"), strict=True
    ):
        look = {"color": color, "marker": marker, "markersize": size, "linestyle": line, "fillstyle": "none"}
        panels[2].semilogy(plots.relative_residuals(solution), label=f"{name}: {solution.rate:.3f}", **look)
    panels[2].set(title="convergence, with the factor per cycle", xlabel="V(1,1)-cycle", ylabel="relative residual")
    panels[2].legend(fontsize="small", frameon=False, borderpad=0)
    panels[2].grid(alpha=0.3)
    for axes, (name, owner) in zip(panels[3:], {"Jacobi": unigrid.PoissonNet(), "trained": net}.items(), strict=True):
        draw_kernel(axes, owner.slots()["smoother"].coefficients[0, 0])
        axes.set(title=f"smoother, {name}", xticks=[], yticks=[])


def draw_kernel(axes: Any, kernel: np.ndarray) -> None:
    """Draw a 3x3 kernel with its numbers."""
    axes.imshow(kernel, cmap=plots.DIVERGING, vmin=-1.5, vmax=1.5)
    for (row, column), value in np.ndenumerate(kernel):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8)


def draw_networks(figure: Any, networks: dict[str, tuple[unigrid.MgNet, list[LevelState]]], run: Any) -> None:
    """Draw which channels A connects and what features the levels hold, before and after training, and how that went."""
    left, middle, right = figure.subfigures(1, 3, width_ratios=[4.3, 5.2, 2.9])
    weights, features = left.subplots(1, 2, sharey=True), middle.subplots(2, LEVELS)
    for row, (name, (network, levels)) in enumerate(networks.items()):
        sizes = convolutions(network.cycle.levels[0].operator)[0].weight.detach().norm(dim=(2, 3)).numpy()
        image = weights[row].imshow(sizes, cmap=plots.SEQUENTIAL, norm=LogNorm(0.05, 5), interpolation="nearest")
        weights[row].set(title=f"$A$ of the {name}", xlabel="channel of $u$")
        for axes, level in zip(features[row], levels, strict=True):
            u = level.features[0].numpy()
            plots.draw_channels(axes, u[:4] if name == "solvers" else u)  # of the solvers the first four pictures
            axes.set_xlabel("")
        features[row, 0].set_ylabel(f"the {name}")
    weights[0].set_ylabel("channel of $f$")
    left.colorbar(
        image, ax=weights, location="bottom", label="norm of the kernel between two channels", shrink=0.6, extend="both"
    )
    for number, axes in enumerate(features[0]):
        side = SIDE >> number
        axes.set_title(f"$u$, {side} × {side}")
    axes = right.subplots()
    plots.draw_accuracy(axes, run.history, test_accuracy=run.test.accuracy)
    axes.set(title="the classifier learns ten shapes", ylim=(0, 100))


# --------------------------------------------------------------------------------------------------------------- the story


def main(output: Path, channels: int = 64, stages: int = 2, epochs: int = 3, subset: int = 2000) -> dict[str, float]:
    """Run all of it, save the figure, return the measured numbers; fewer channels, stages, epochs and images make it short."""
    torch.manual_seed(0)
    data = load("shapes")
    sources = pictures_as_sources(data, channels)
    f, unseen = sources[0], np.random.default_rng(0).standard_normal((200, 300))

    # 1 solve, 2 translate
    solver = jacobi_cycle()
    by_solver, iterates = iterate(f, cycle=solver)
    by_network, same_iterates = iterate(f, cycle=to_conv(solver), **TORUS)

    # 3 train
    net = unigrid.train(solver.problem, epochs=stages).model
    by_net, _ = iterate(f, cycle=net, **TORUS)
    unseen_by_jacobi, _ = iterate(unseen, smoother=solver.smoother, pre=1, post=1)
    unseen_by_net, _ = iterate(unseen, cycle=net)

    # 4 widen
    cycle = way_down(net)
    solvers = widened(cycle, channels, **LINEAR)
    with torch.no_grad():
        _, side_by_side = solvers.cycle.trace(torch.from_numpy(sources)[None])

    # 5 classify
    run = unigrid.train(
        data, classifier(cycle, channels), epochs=epochs, subset=subset, batch_size=32, device="cpu", test_flip=False
    ).runs[0]
    with torch.no_grad():
        _, in_classifier = run.model.forward_intermediates(normalized(data, data.test.images[:1]))

    figure = Figure(figsize=(16, 7.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.15])
    runs = {"damped Jacobi": by_solver, "the same as a network": by_network, "trained": by_net}
    others = {"damped Jacobi, 200 × 300, grounded": unseen_by_jacobi, "trained, 200 × 300, grounded": unseen_by_net}
    draw_solvers(above, f, {**runs, **others}, net)
    draw_networks(below, {"solvers": (solvers, side_by_side), "classifier": (run.model, in_classifier)}, run)
    figure.savefig(output, dpi=150)
    return {
        "largest difference of solver and network, relative": np.abs(iterates - same_iterates).max() / np.abs(iterates).max(),
        "factor of damped Jacobi": by_solver.rate,
        "factor of the same as a network": by_network.rate,
        "factor when trained": by_net.rate,
        "factor of damped Jacobi on 200 x 300": unseen_by_jacobi.rate,
        "factor when trained, on 200 x 300": unseen_by_net.rate,
        f"largest difference of {channels} channels and {channels} solvers, relative": largest_difference(
            side_by_side, cycle, sources
        ),
        "training accuracy (%)": 100 * run.history[-1]["train_accuracy"],
        "test accuracy (%)": 100 * run.test.accuracy,
    }


if __name__ == "__main__":
    for name, value in main(Path(sys.argv[1] if len(sys.argv) > 1 else "from_solver_to_classifier.png")).items():
        print(f"{name}: {value:.4g}")
