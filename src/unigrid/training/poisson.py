"""`unigrid.train("poisson")`: the smoothers of multigrid, trained through the cycle itself.

A run is a few epochs of an optimizer on the kernels of a `PoissonNet`; it leaves behind what every training run does, so that
`load_trained` reads it, `--resume` goes on from it, and Ctrl-C loses no finished epoch.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ..analysis.measured import measured_factor
from ..conv.threads import one_thread
from ..conv.weights import require_safetensors, save_weights
from ..messages import choose, nearest
from ..stencil.problem import Poisson as Poisson
from . import checkpoint
from .logs import Log, write_run_facts
from .loop import Interrupt, Row, TrainingError
from .poisson_loss import STAGES, FourierLoss, RandomLoss
from .poisson_net import PoissonNet, PoissonNetConfig
from .result import WEIGHTS
from .runs import checked_seeds, take_up, wants_to_stop

NAME = "poisson"
DIVERGED = 10.0  # a convergence factor beyond which training is lost
MEASURED_CYCLES = 60


@final
@dataclass(frozen=True)
class PoissonProtocol:
    """How a `PoissonNet` is trained.

    Parameters
    ----------
    name : "fourier" or "random"
        The loss: see `unigrid.training.poisson_loss`.
    epochs : int
        "fourier": the stages of an ever sharper maximum, at most five of them; "random": parts of the run.
    steps : int
        Of the optimizer an epoch: iterations of L-BFGS, or steps of Adam.
    learning_rate : float
        Of Adam, at the start; it falls to zero along a cosine. L-BFGS finds its own.
    noise : float
        Deviation of the random numbers added to damped Jacobi, from which every kernel begins.
    """

    name: str
    epochs: int
    steps: int
    learning_rate: float
    noise: float = 0.05

    def __post_init__(self) -> None:
        choose(self.name, ("fourier", "random"), "protocol for Poisson problems")
        most = len(STAGES) if self.name == "fourier" else 10**6
        for name, value, least, largest in (("epochs", self.epochs, 1, most), ("steps", self.steps, 1, 10**6)):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= largest:
                raise ValueError(
                    f"{name} of protocol {self.name!r} must be an integer from {least} to {largest}, got {value!r}"
                )
        for name, number in (("learning_rate", self.learning_rate), ("noise", self.noise)):
            if not isinstance(number, (int, float)) or not math.isfinite(number) or number < 0:
                raise ValueError(f"{name} must be a finite number >= 0, got {number!r}")


PROTOCOLS = {
    "fourier": PoissonProtocol("fourier", epochs=5, steps=80, learning_rate=1.0),
    "random": PoissonProtocol("random", epochs=8, steps=50, learning_rate=0.05),
}
PROTOCOL, SIZE = "fourier", 63  # unless told otherwise; the size is that of either axis


@final
@dataclass(frozen=True, eq=False)
class PoissonResult:
    """What training gave.

    Attributes
    ----------
    model : PoissonNet
        A `MultigridCycle`: `unigrid.solve(f, cycle=model)`, on grids of any size.
    factors : tuple of float
        The measured asymptotic convergence factor on each of the problems; `factor` is the largest.
    history : list of dict
        A row an epoch: epoch, step, train_loss, predicted_factor, measured_factor, seconds.
    reason : str
        "completed", or "stopped" by the callback.
    folder, checkpoint : Path or None
    seconds : float
    configuration : dict
    """

    model: PoissonNet
    factors: tuple[float, ...]
    history: list[Row]
    reason: str
    folder: Path | None
    checkpoint: Path | None
    seconds: float
    configuration: dict[str, Any]

    @property
    def factor(self) -> float:
        """The largest measured factor."""
        return max(self.factors)

    def __str__(self) -> str:
        several = f", the largest of {len(self.factors)} problems" * (len(self.factors) > 1)
        numbers = sum(parameter.numel() for parameter in self.model.parameters())
        return f"convergence factor {self.factor:.4f} a cycle{several}; {numbers} numbers trained in {self.seconds:.1f} s"


def poisson_problems(dataset: Any) -> tuple[Poisson, ...] | None:
    """Return the problems that a data set is, None where it is none: "poisson", a `Poisson`, or several of them."""
    if isinstance(dataset, str) and dataset == NAME:
        return (Poisson((SIZE, SIZE)),)
    if isinstance(dataset, Poisson):
        return (dataset,)
    if isinstance(dataset, (list, tuple)) and dataset and all(isinstance(problem, Poisson) for problem in dataset):
        return tuple(dataset)
    return None


def anisotropic(eps: float, n: int = SIZE) -> Poisson:
    """Return -eps u_xx - u_yy = f on the unit square between Dirichlet sides, n x n unknowns.

    Written as Poisson's equation on a box of length eps^(-1/2) along the first axis: a stretch of that axis is all that eps is.
    """
    if not isinstance(eps, (int, float)) or not math.isfinite(eps) or eps <= 0:
        raise ValueError(f"eps must be a finite number > 0, got {eps!r}")
    return Poisson((n, n), lengths=(eps**-0.5, 1.0))


def train_poisson(
    problems: Sequence[Poisson],
    model: Any = None,
    protocol: str | PoissonProtocol | None = None,
    *,
    seed: int | Sequence[int] = 0,
    out: Path | None = None,
    resume: bool = False,
    callback: Callable[[Row], None] | None = None,
    progress: bool = False,
    **choices: Any,
) -> PoissonResult:
    """Train a `PoissonNet` on problems; arguments as of `unigrid.train`, which calls this.

    A net that is given is trained in place, from the kernels that it has. `choices` are fields of the protocol or of
    `PoissonNetConfig`.
    """
    run = new_run(problems, model, protocol, seed, out, **choices)
    net = run.net
    with one_thread():
        reason = _run(run, resume, callback, progress)
    with torch.no_grad():
        factors = tuple(measured_factor(net.on(problem), cycles=MEASURED_CYCLES, last=5) for problem in problems)
    net.problem = problems[0]
    if out is not None and reason == "completed":
        save_weights(net, out / WEIGHTS, {"factor": f"{max(factors):.5f}"})
    return PoissonResult(net, factors, run.history, reason, out, run.checkpoint, run.seconds, run.configuration)


def new_run(
    problems: Sequence[Poisson],
    model: Any = None,
    protocol: str | PoissonProtocol | None = None,
    seed: int | Sequence[int] = 0,
    out: Path | None = None,
    **choices: Any,
) -> PoissonRun:
    """Return a run that has yet to begin. Raises ValueError, TypeError or NotImplementedError for what cannot be trained."""
    seeds = checked_seeds(seed)
    if len(seeds) > 1:
        raise ValueError(f"a run on Poisson problems has one seed, got {seed!r}; call train once for each")
    resolved, config_choices = _resolved(protocol, choices)
    net, fresh = _network(model, config_choices)
    for problem in problems:
        net.on(problem)  # refuses grids that are not of two axes
    if out is not None:
        require_safetensors()
    return PoissonRun(net, tuple(problems), resolved, seeds[0], out, fresh)


def _resolved(protocol: str | PoissonProtocol | None, choices: dict[str, Any]) -> tuple[PoissonProtocol, dict[str, Any]]:
    """Return the protocol with what was chosen of it, and the choices that are the net's."""
    protocol = PROTOCOL if protocol is None else protocol
    if isinstance(protocol, str):
        protocol = PROTOCOLS[choose(protocol, PROTOCOLS, "protocol for Poisson problems")]
    if not isinstance(protocol, PoissonProtocol):
        raise TypeError(f"protocol must be one of {', '.join(map(repr, PROTOCOLS))} or a PoissonProtocol, got {protocol!r}")
    own = [item.name for item in dataclasses.fields(PoissonProtocol) if item.name != "name"]
    nets = [item.name for item in dataclasses.fields(PoissonNetConfig)]
    for name in choices:
        if name not in (*own, *nets):
            known = (*own, *nets)
            raise TypeError(f"training on Poisson problems knows no {name!r}; it has {', '.join(known)}{nearest(name, known)}")
    changed = {name: value for name, value in choices.items() if name in own and value is not None}
    return dataclasses.replace(protocol, **changed), {name: value for name, value in choices.items() if name in nets}


def _network(model: Any, choices: dict[str, Any]) -> tuple[PoissonNet, bool]:
    """Return the net, and whether it is new."""
    if isinstance(model, PoissonNet):
        if choices:
            raise TypeError(f"a PoissonNet brings its own {', '.join(choices)}; leave it out, or give a PoissonNetConfig")
        return model, False
    if model is None or isinstance(model, PoissonNetConfig):
        return PoissonNet(model, **choices), True
    raise TypeError(f"model must be a PoissonNetConfig or a PoissonNet for Poisson problems, got {model!r}")


@dataclass
class PoissonRun:
    """One net learning its problems, and all that is needed to go on."""

    net: PoissonNet
    problems: tuple[Poisson, ...]
    protocol: PoissonProtocol
    seed: int
    folder: Path | None
    fresh: bool
    history: list[Row] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        if self.fresh:
            for parameter in self.net.parameters():
                noise = torch.randn(parameter.shape, dtype=torch.float64, generator=self.generator)
                parameter.data += self.protocol.noise * noise
        self.configuration = _configuration(self)
        kind = _FourierEpochs if self.protocol.name == "fourier" else _RandomEpochs
        self.epochs: Any = kind(self)

    @property
    def ended(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.protocol.epochs

    def epoch(self, interrupt: Interrupt, watch: Callable[[int], None]) -> Row:
        """Do one epoch and return its row.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C: the epoch is lost, those before it are in the checkpoint.
        TrainingError
            When the loss is not finite, or the cycle diverges.
        """
        began, before = time.perf_counter(), copy.deepcopy(self.net.state_dict())
        try:
            loss = self.epochs.run(len(self.history), interrupt, watch)
            predicted = self.epochs.factor()
        except (KeyboardInterrupt, TrainingError):
            self.net.load_state_dict(before)
            raise
        measured = max(measured_factor(self.net.on(problem)) for problem in self.problems)
        if not measured < DIVERGED:
            self.net.load_state_dict(before)
            raise TrainingError("diverged", f"the cycle came to multiply errors by {measured:.3g}: {self.advice()}")
        self.seconds += time.perf_counter() - began
        row = {
            "epoch": len(self.history) + 1, "step": self.step, "train_loss": loss, "predicted_factor": predicted,
            "measured_factor": measured, "seconds": self.seconds,
        }  # fmt: skip
        self.history.append(row)
        return row

    def check(self, loss: Tensor) -> None:
        """Raise TrainingError where the loss is lost."""
        if not math.isfinite(loss.item()):
            raise TrainingError("nonfinite", f"the loss became {loss.item()} in step {self.step}: {self.advice()}")

    def advice(self) -> str:
        """Return what to do about it."""
        kept = f"; the last good checkpoint in {self.folder} is kept" if self.checkpoint else ""
        return f"take less noise than {self.protocol.noise:g}, a smaller learning rate, or other problems{kept}"

    def save(self) -> None:
        """Write a checkpoint, where there is a folder."""
        if self.folder is not None:
            self.checkpoint = checkpoint.save(self.folder, self.state(), self.step)

    def state(self) -> dict[str, Any]:
        """Return all that the run is made of."""
        return {
            "configuration": self.configuration,
            "model": dict(self.net.state_dict()),
            "average": None,
            "progress": {"epoch": len(self.history), "step": self.step, "seconds": self.seconds, "history": self.history},
            "optimizer": self.epochs.state(),
            "random": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        checkpoint.load_clean_state_dict(self.net, state["model"])
        progress = state["progress"]
        self.history, self.step, self.seconds = progress["history"], progress["step"], progress["seconds"]
        self.generator.set_state(state["random"])
        self.epochs.restore(state["optimizer"])


class _FourierEpochs:
    """L-BFGS on the smooth maximum, one sharpness an epoch; nothing is carried from one to the next but the kernels."""

    def __init__(self, run: PoissonRun) -> None:
        self.run_, self.loss = run, FourierLoss.of(run.net, run.problems)

    def run(self, epoch: int, interrupt: Interrupt, watch: Callable[[int], None]) -> float:
        run, sharpness = self.run_, STAGES[epoch]
        optimizer = torch.optim.LBFGS(
            run.net.parameters(), run.protocol.learning_rate, max_iter=run.protocol.steps, history_size=20,
            line_search_fn="strong_wolfe", tolerance_change=1e-10, tolerance_grad=1e-8,
        )  # fmt: skip

        def evaluate() -> Tensor:
            if interrupt.requested:
                raise KeyboardInterrupt
            optimizer.zero_grad()
            loss = self.loss(sharpness)
            run.check(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            run.step += 1
            watch(run.step)
            return loss

        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            return float(self.loss(sharpness))

    def factor(self) -> float:
        """Return the convergence factor that the levels of the loss predict."""
        return self.loss.factor()

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


class _RandomEpochs:
    """Adam on random errors."""

    def __init__(self, run: PoissonRun) -> None:
        self.run_ = run
        self.loss = RandomLoss(run.net, run.problems, run.generator)
        self.optimizer = torch.optim.Adam(run.net.parameters(), run.protocol.learning_rate)

    def run(self, epoch: int, interrupt: Interrupt, watch: Callable[[int], None]) -> float:
        run, protocol, total = self.run_, self.run_.protocol, 0.0
        for number in range(protocol.steps):
            if interrupt.requested:
                raise KeyboardInterrupt
            done = (epoch * protocol.steps + number) / (protocol.epochs * protocol.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = protocol.learning_rate * (1.0 + math.cos(math.pi * done)) / 2.0
            self.optimizer.zero_grad()
            loss = self.loss()
            run.check(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            run.step += 1
            total += loss.item()
            watch(run.step)
        return total / protocol.steps

    def factor(self) -> None:
        """Predict nothing: only the Fourier loss does."""

    def state(self) -> dict[str, Any]:
        return {"adam": self.optimizer.state_dict(), "errors": self.loss.errors}

    def restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["adam"])
        self.loss.errors = list(state["errors"])


def _configuration(run: PoissonRun) -> dict[str, Any]:
    """Return what the run is, in plain values; the fields that image runs have besides are there, and empty."""
    problems = [
        {
            "shape": list(problem.shape), "lengths": list(problem.lengths), "reaction": problem.reaction,
            "boundary": [[axis.low.__name__.lower(), axis.high.__name__.lower()] for axis in problem.grid.axes],
            "centering": problem.grid.axes[0].centering,
        }
        for problem in run.problems
    ]  # fmt: skip
    return {
        "model": {"kind": "PoissonNetConfig", **dataclasses.asdict(run.net.config)},
        "dataset": {
            "name": NAME, "problems": problems, "classes": [], "shape": [1, *run.problems[0].shape], "mean": [0.0],
            "std": [1.0], "flip": False, "synthetic": False,
        },
        "protocol": {
            **dataclasses.asdict(run.protocol), "test_flip": False, "mixed_precision": False, "accelerated": False,
        },
        "seed": run.seed,
    }  # fmt: skip


def problems_of(configuration: dict[str, Any], sizes: Sequence[int]) -> list[Poisson]:
    """Return the problems that a run was trained on, on grids of `sizes` unknowns along their first axis."""
    problems = []
    for known in configuration["dataset"]["problems"]:
        options = {name: known[name] for name in ("lengths", "reaction", "boundary", "centering")}
        for size in sizes:
            shape = [max(3, round((n + 1) * (size + 1) / (known["shape"][0] + 1)) - 1) for n in known["shape"]]
            problems.append(Poisson(shape, **options))
    return problems


def _run(run: PoissonRun, resume: bool, callback: Callable[[Row], None] | None, shown: bool) -> str:
    step = take_up(run, resume)
    with Log(run.folder, step) as log, _bar(run, shown) as watch, Interrupt.deferred() as interrupt:
        if run.folder is not None:
            write_run_facts(run.folder, run.configuration, "cpu")
        while not run.ended:
            row = run.epoch(interrupt, watch)
            log.record(row)
            run.save()
            if wants_to_stop(callback, {"seed": run.seed, **row}) and not run.ended:
                return "stopped"
        if interrupt.requested:  # after the last step: all is saved, and the user wanted to stop
            raise KeyboardInterrupt
    return "completed"


@contextmanager
def _bar(run: PoissonRun, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield what moves a progress bar on stderr, or does nothing."""
    if not shown:
        yield lambda step: None
        return
    from tqdm import tqdm

    with tqdm(desc="training", initial=run.step, unit="step", file=sys.stderr, dynamic_ncols=True) as bar:

        def watch(step: int) -> None:
            last = run.history[-1]["measured_factor"] if run.history else None
            known = f", factor {last:.4f}" if last else ""
            bar.set_postfix_str(f"epoch {len(run.history) + 1} of {run.protocol.epochs}{known}", refresh=False)
            bar.update(step - bar.n)

        yield watch
