"""`unigrid train poisson`: train the smoothers of multigrid through the cycle itself."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from ..files import expanded
from ..messages import printable
from ..training_defaults import POISSON, POISSON_SIZE
from . import options
from .monitor import Facts, files_in, save_figures, show
from .options import UsageError, user_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training import PoissonResult

IMAGES_ALONE = (
    "model", "batch_size", "data_dir", "download", "subset", "validation", "confusion", "weights", "new_head", "per_class",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("poisson alone")
    group.add_argument(
        "--eps", type=options.numbers, metavar="E[,E..]",
        help="-E u_xx - u_yy = f; several: one net for all of them, best with --set degree=3; default 1",
    )  # fmt: skip


def refuse_options(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options of Poisson problems in a run on images."""
    if arguments.eps is not None:
        raise UsageError(f"--eps describes a Poisson problem; {arguments.dataset} is a data set of images")


def refuse_processes(world: int) -> None:
    """Raise UsageError for several processes."""
    if world > 1:
        raise UsageError(f"poisson is trained by one process, on one core; torchrun has started {world}, leave it out")


def run(arguments: argparse.Namespace) -> int:
    """Train, save the picture and print the report. Raises UsageError and TrainingError."""
    from ..training import PoissonNetConfig, PoissonProtocol, anisotropic, train_solver
    from ..training.solvers.train import new_run

    given = [name for name in IMAGES_ALONE if getattr(arguments, name)]
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} is for images; poisson has none")
    if arguments.device not in ("auto", "cpu"):
        raise UsageError(f"--device {arguments.device}: poisson is trained on the CPU, on one core")
    values = arguments.eps if isinstance(arguments.eps, list) else [1.0 if arguments.eps is None else arguments.eps]
    size, *more = arguments.size or (POISSON_SIZE,)
    if more:
        raise UsageError("--size: a Poisson problem has as many unknowns along either axis; give one number")
    folder = expanded(arguments.out or _folder(arguments, values))
    with user_errors():
        problems = [anisotropic(eps, size) for eps in values]
        choices = options.choices(arguments, ("epochs", "learning_rate"), "field", PoissonProtocol, PoissonNetConfig)
        new_run(problems, None, arguments.protocol, arguments.seed, folder, **choices)  # raises for what is wrong
    if not arguments.json:
        print(f"Problem: -{', -'.join(f'{eps:g}' for eps in values)} u_xx - u_yy = f, {size} x {size} unknowns.")
        print(printable(f"Files: {folder}{os.sep}"), flush=True)
    result = train_solver(
        problems, protocol=arguments.protocol, seed=arguments.seed, out=folder, resume=arguments.resume,
        callback=None if arguments.json else _show, progress=False, **choices,
    )  # fmt: skip
    written = save_figures((arguments.plot, lambda plots: _smoothing(plots, result)))
    show(facts_of(result, written), arguments.json, report)
    return 0


def _folder(arguments: argparse.Namespace, values: list[float]) -> str:
    name = POISSON if values == [1.0] else f"{POISSON}-eps-{'-'.join(f'{eps:g}' for eps in values)}"
    return os.path.join("runs", name + (f"-seed-{arguments.seed}" if arguments.seed != 0 else ""))


def _show(row: dict[str, Any]) -> None:
    predicted = row["predicted_factor"]
    known = "" if predicted is None else f", predicted {predicted:.4f}"
    print(
        f"epoch {row['epoch']}: step {row['step']}, loss {row['train_loss']:.4f}{known}, measured factor "
        f"{row['measured_factor']:.4f}, {row['seconds']:.1f} s",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _smoothing(plots: Any, result: PoissonResult) -> Figure:
    """Draw the smoothing factors of the trained smoothers at every frequency."""
    from ..analysis import FourierAnalysis

    problem, slots = result.model.problem, result.model.slots()
    legs = {"before the correction": slots["smoother"], "after it": slots["post_smoother"]}
    analyses = [FourierAnalysis(problem, smoother=smoother, pre=1, post=1) for smoother in legs.values()]
    figure: Figure = plots.plot_smoothing(*analyses, labels=list(legs))
    return figure


def facts_of(result: PoissonResult, written: list[str]) -> Facts:
    """Return the outcome as plain values, for the report and for --json."""
    return {
        **result.configuration,
        "factors": list(result.factors),
        "message": str(result),
        "reason": result.reason,
        "seconds": result.seconds,
        "history": result.history,
        "folder": str(result.folder),
        "checkpoint": str(result.checkpoint),
        "written": written,
    }


def report(facts: Facts) -> list[str]:
    """Return the lines of the report."""
    message, folder = facts["message"], facts["folder"]
    return [
        f"{message[0].upper()}{message[1:]}.",
        files_in(folder),
        *(f"Wrote {path}" for path in facts["written"]),
        f"unigrid.solve(f, cycle=unigrid.training.load_trained({folder!r}).model) solves with it.",
    ]
