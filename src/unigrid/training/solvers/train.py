"""`unigrid.train_solver`: the smoothers of multigrid, trained through the cycle itself."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...analysis.measured import measured_factor
from ...conv.threads import one_thread
from ...conv.weights import require_safetensors, save_weights
from ...files import expanded
from ...messages import nearest, shown
from ...stencil.problem import Poisson
from ...training_defaults import POISSON_PROTOCOL, POISSON_SIZE
from ..runs.folders import WEIGHTS, held
from ..runs.run import Row, checked_seeds
from .net import PoissonNet, PoissonNetConfig
from .protocols import PoissonProtocol, protocol_named
from .result import PoissonResult
from .run import FourierRun, RandomRun, SolverRun

MEASURED_CYCLES = 60


@torch.inference_mode(False)  # with gradients, wherever it is called
def train_solver(
    problems: Poisson | Sequence[Poisson] | None = None,
    model: PoissonNet | PoissonNetConfig | None = None,
    protocol: str | PoissonProtocol | None = None,
    *,
    seed: int | Sequence[int] = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callback: Callable[[Row], None] | None = None,
    progress: bool | None = None,
    **choices: Any,
) -> PoissonResult:
    """Train the smoothers of multigrid on Poisson problems, through the cycle itself, on one core.

    Parameters
    ----------
    problems : Poisson or sequence of Poisson, optional
        Problems of two axes that one net is trained for. Default: 63 x 63 unknowns on the unit square, Dirichlet sides.
    model : PoissonNet or PoissonNetConfig, optional
        A net is trained in place, from the kernels that it has; a configuration makes a new one.
    protocol : "fourier" (default), "random" or PoissonProtocol
        See `unigrid.training.solvers.loss`.
    seed : int
        Of the noise in the initial kernels and of random errors.
    out : path, optional
        Folder of the run: checkpoints, log.csv, log.jsonl, config.json, weights.safetensors. None: nothing is written.
    resume : bool
        Whether to go on from the last checkpoint in `out`, if there is one.
    callback : callable, optional
        Called with the row of every epoch, which includes the seed. StopIteration from it ends the run, which may be resumed.
    progress : bool, optional
        Whether to show a progress bar; default: on a terminal.
    **choices
        Fields of the protocol (epochs, steps, learning_rate, noise) or of `PoissonNetConfig` to change.

    Returns
    -------
    PoissonResult
        Its `model` is a cycle for `unigrid.solve(f, cycle=...)`, on grids of any size.

    Raises
    ------
    ValueError, TypeError
        For unknown names and values that do not fit; the message has the value, what is allowed, and the nearest name.
    FileError
        For an `out` that holds a run already, in which another run is going on, or that cannot be written.
    TrainingError
        When the loss is not finite, or the cycle diverges; the last good checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM: the current epoch is lost, those before it are in the checkpoint.

    Source: A. Katrutsa, T. Daulbaev, I. Oseledets, Black-box learning of multigrid parameters, J. Comput. Appl. Math. 368
    (2020), for training through the cycle.

    Examples
    --------
    >>> import unigrid
    >>> learned = unigrid.train_solver(epochs=1, steps=20)  # more of both: a factor below 0.08
    >>> learned.factor < 0.3  # damped Jacobi, the initial smoother: 0.36
    True
    """
    if resume and out is None:
        raise ValueError("resume=True needs out=, the folder of the run to go on with")
    run = new_run(problems, model, protocol, seed, out, **choices)
    with held(run.folder):
        with one_thread():
            reason = run.complete(resume, callback, progress)
        with torch.no_grad():
            factors = tuple(measured_factor(run.net.on(problem), cycles=MEASURED_CYCLES, last=5) for problem in run.problems)
        run.net.problem = run.problems[0]
        if run.folder is not None and reason == "completed":
            save_weights(run.net, run.folder / WEIGHTS, {"factor": f"{max(factors):.5f}"})
    history, seconds = run.progress.history, run.progress.seconds
    return PoissonResult(run.net, factors, history, reason, run.folder, run.checkpoint, seconds, run.configuration)


def new_run(problems: Any, model: Any, protocol: Any, seed: Any, out: Any, **choices: Any) -> SolverRun:
    """Return a run that has not begun; arguments and errors as in `train_solver`."""
    seeds = checked_seeds(seed)
    if len(seeds) > 1:
        raise ValueError(f"a run on Poisson problems has one seed, got {shown(seed)}; call train once for each")
    of_protocol, of_net = _split(choices)
    resolved = protocol_named(POISSON_PROTOCOL if protocol is None else protocol).with_choices(**of_protocol)
    net = _net(model, of_net)
    chosen = _checked(problems)
    for problem in chosen:
        net.on(problem)  # raises ValueError for grids that are not of two axes
    if out is not None:
        require_safetensors()
    kind = FourierRun if resolved.name == "fourier" else RandomRun
    return kind(net, chosen, resolved, seeds[0], None if out is None else expanded(out), net is not model)


def _checked(problems: Any) -> tuple[Poisson, ...]:
    if problems is None:
        return (Poisson((POISSON_SIZE, POISSON_SIZE)),)
    several = tuple(problems) if isinstance(problems, (list, tuple)) else (problems,)
    if not several or not all(isinstance(problem, Poisson) for problem in several):
        raise TypeError(f"problems must be a unigrid.Poisson, or several, at least one, got {shown(problems)}")
    return several


def _split(choices: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the choices that are fields of the protocol, and those of the net. Raises TypeError for others."""
    own = [item.name for item in dataclasses.fields(PoissonProtocol) if item.name != "name"]
    nets = [item.name for item in dataclasses.fields(PoissonNetConfig)]
    for name in choices:
        if name not in (*own, *nets):
            known = (*own, *nets)
            raise TypeError(f"training on Poisson problems has no {name!r}; it has {', '.join(known)}{nearest(name, known)}")
    return tuple({name: value for name, value in choices.items() if name in names} for names in (own, nets))  # type: ignore[return-value]


def _net(model: Any, choices: dict[str, Any]) -> PoissonNet:
    if isinstance(model, PoissonNet):
        if choices:
            raise TypeError(f"a PoissonNet brings its own {', '.join(choices)}; leave it out, or give a PoissonNetConfig")
        return model
    if model is None or isinstance(model, PoissonNetConfig):
        return PoissonNet(model, **choices)
    raise TypeError(f"model must be a PoissonNetConfig or a PoissonNet for Poisson problems, got {shown(model)}")
