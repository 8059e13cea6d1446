"""`unigrid.train`: from the name of a data set and of a model to a trained network."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from ..conv.classifier import Classifier
from ..conv.models import Config, configuration_of, create_model
from ..conv.weights import load_clean_state_dict, require_safetensors, save_weights
from ..files import atomic_output
from ..messages import choose, nearest
from .augmentation import Pipeline
from .datasets import NAMES, ImageData, Split, load
from .devices import bfloat16_pays, device_named
from .evaluation import Evaluation
from .logs import Log, write_run_facts
from .loop import Interrupt, Progress, Row, Task, TrainingError, TrainingRun
from .poisson import NAME as POISSON
from .poisson import Poisson, PoissonProtocol, PoissonResult, poisson_problems, train_poisson
from .poisson_net import PoissonNet, PoissonNetConfig
from .protocols import Protocol, initialize, protocol_named
from .result import RESULT, WEIGHTS, SeedRun, TrainResult
from .runs import checked_seeds, take_up, wants_to_stop

IMAGE_MODEL, IMAGE_PROTOCOL = "mgnet-64-Bl", "fast"


@overload
def train(
    dataset: Literal["poisson"] | Poisson | Sequence[Poisson],
    model: PoissonNet | PoissonNetConfig | None = None,
    protocol: str | PoissonProtocol | None = None,
    **choices: Any,
) -> PoissonResult: ...


@overload
def train(
    dataset: Any = "cifar10",
    model: str | Config | nn.Module | None = None,
    protocol: str | Protocol | None = None,
    **choices: Any,
) -> TrainResult: ...


def train(
    dataset: Any = "cifar10",
    model: Any = None,
    protocol: Any = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | Sequence[int] = 0,
    device: str | torch.device = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    subset: int | None = None,
    validation: float = 0,
    callback: Callable[[Row], None] | None = None,
    progress: bool | None = None,
    **choices: Any,
) -> TrainResult | PoissonResult:
    """Train a network on labelled images, or the smoothers of multigrid on Poisson's equation: it is one cycle either way.

    Parameters
    ----------
    dataset : str, ImageData, arrays, torch Dataset; or a Poisson problem
        "cifar10", "cifar100", "mnist", "shapes" (synthetic), or data of your own: see `unigrid.training.load`. "poisson", a
        `unigrid.Poisson` of two axes, or several of them, which one net is to serve: then `model` is a `PoissonNet` or its
        `PoissonNetConfig` (whose fields may stand among the choices), `protocol` is "fourier" or "random"
        (`unigrid.training.poisson`), what is for images alone is refused, and the result is a `PoissonResult`, whose `model` is
        a cycle for `unigrid.solve(f, cycle=...)`.
    model : str, configuration or nn.Module
        "mgnet-64-Bl" if not given. A name of `unigrid.list_models()`, an `MgNetConfig` and the like (its channels and classes
        become the data's), or a network of your own, which is trained in place, from the weights that it has, whatever the
        protocol says of them; it maps (n, channels, height, width) to logits (n, classes).
    protocol : str or Protocol
        "paper", "course", "code" or "fast", the default: see `unigrid.training.protocols`.
    epochs, batch_size, learning_rate, **choices
        What to change of the protocol: any of its fields.
    seed : int or sequence of int
        Of weights, order and augmentation; with several, one run each, and the mean and the deviation are reported.
    device : "auto", "cpu", "cuda", ...
    data_dir, download
        Where the data are, and whether to fetch them from their own site if they are not there.
    out : path, optional
        Folder of the run: checkpoints, log.csv, log.jsonl, config.json, result.json, weights.safetensors; TensorBoard's
        files if it is installed. With several seeds one folder each within. None: nothing is written.
    resume : bool
        Whether to go on from the last checkpoint in `out`, if there is one; on the CPU bit for bit.
    subset : int, optional
        Train on that many of the training images, the same ones every time.
    validation : int or float
        Images of the training set, or their share if below 1, kept apart (by the seed) to find the best epoch. 0: none,
        and then there is no best epoch, only the last. The test set is read once, at the end of training.
    callback : callable, optional
        Gets the row of every epoch, the seed with it. StopIteration from it ends the run, to be resumed or not.
    progress : bool, optional
        Whether to show a progress bar; if not given, on a terminal only.

    Raises
    ------
    ValueError, TypeError
        For what is unknown or does not fit; the text says what came, what is allowed, and what is nearest.
    unigrid.training.DatasetError
        For data that are missing or damaged, with the command that gets them.
    FileError
        For an `out` that holds a run already, or cannot be written.
    TrainingError
        When the loss is no longer finite, or diverges; the last good checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C, once a checkpoint is written: `resume=True` goes on from it.

    Source: the protocols paper, course and code are those of J. He & J. Xu, MgNet (2019), and of the authors' notes and code.

    Examples
    --------
    >>> import unigrid
    >>> result = unigrid.train("shapes", "mgnet-8-Bl", epochs=1, subset=256, device="cpu")
    >>> 0 <= result.test_accuracy <= 1
    True
    >>> learned = unigrid.train("poisson", epochs=1, steps=20)  # more of both: a factor below 0.08
    >>> learned.factor < 0.3  # damped Jacobi, from which it begins: 0.36
    True
    """
    if resume and out is None:
        raise ValueError("resume=True needs out=, the folder of the run to go on with")
    problems = poisson_problems(dataset)
    if problems is not None:
        of_images = {
            "batch_size": batch_size, "subset": subset, "validation": validation or None, "data_dir": data_dir,
            "download": download or None, "device": None if str(device) in ("auto", "cpu") else device,
        }  # fmt: skip
        _refuse_for_poisson(of_images)
        given = {"epochs": epochs, "learning_rate": learning_rate, **choices}
        return train_poisson(
            problems, model, protocol, seed=seed,
            out=None if out is None else Path(out), resume=resume, callback=callback,
            progress=sys.stderr.isatty() if progress is None else progress, **given,
        )  # fmt: skip
    if isinstance(dataset, str):
        choose(dataset, (*NAMES, POISSON), "dataset")
    model, protocol = IMAGE_MODEL if model is None else model, IMAGE_PROTOCOL if protocol is None else protocol
    _reject_unknown(choices)
    resolved = protocol_named(protocol).with_choices(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, **choices
    )
    place = device_named(device)
    if "mixed_precision" not in choices and not bfloat16_pays(place):
        resolved = resolved.with_choices(mixed_precision=False)
    if isinstance(model, nn.Module):  # its weights are its owner's choice
        resolved = resolved.with_choices(initialization="own")
    seeds = checked_seeds(seed)
    if out is not None:
        require_safetensors()
    data = load(dataset, data_dir, download)
    runs, configuration = [], {}
    for number in seeds:
        training, held_out = training_splits(data, resolved, subset, validation, number)
        task = Task(data, training, held_out, resolved, number, place)
        folder = None if out is None else Path(out) if len(seeds) == 1 else Path(out) / f"seed-{number}"
        with _own_random_numbers(number, place):
            network = _network(model, data, copies=len(seeds) > 1)
            initialize(network, resolved.initialization)
            configuration = _configuration(network, task, subset, validation)
            run = TrainingRun(network, task, folder, configuration)
            runs.append(_run(run, resume, callback, sys.stderr.isatty() if progress is None else progress))
        if runs[-1].reason == "stopped":
            break
    return TrainResult(tuple(runs), configuration)


def _refuse_for_poisson(of_images: dict[str, Any]) -> None:
    """Raise TypeError for what a Poisson problem has no use for."""
    given = [name for name, value in of_images.items() if value is not None]
    if given:
        raise TypeError(f"{', '.join(given)}: for images alone; Poisson problems are trained on the CPU, on errors they draw")


def _reject_unknown(choices: dict[str, Any]) -> None:
    """Raise TypeError for what is neither an argument of `train` nor a field of a protocol, with the nearest of both."""
    fields = [field.name for field in dataclasses.fields(Protocol)]
    for name in choices:
        if name not in fields:
            known = [*(argument for argument in inspect.signature(train).parameters if argument != "choices"), *fields]
            raise TypeError(f"train knows no argument {name!r}, nor a protocol a field of it{nearest(name, known)}")


def training_splits(
    data: ImageData, protocol: Protocol, subset: int | None, validation: float, seed: int
) -> tuple[Split, Split | None]:
    """Return the training images and those kept apart, drawn with the seed. Raises ValueError where they make no batch."""
    training = data.train if subset is None else data.train.subset(subset)
    count = _held_out(len(training), validation)
    if protocol.batch_size > len(training) - count:
        raise ValueError(
            f"batch_size {protocol.batch_size} is larger than the {len(training) - count} training images; take a smaller one"
        )
    if count == 0:
        return training, None
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed))
    return training.subset(order[count:].sort().values), training.subset(order[:count].sort().values)


def _held_out(images: int, validation: float) -> int:
    """Return how many of the images are kept apart. Raises ValueError where that leaves none, or is no whole number."""
    if not isinstance(validation, bool) and isinstance(validation, (int, float)) and 0 <= validation < images:
        count = round(validation * images) if validation < 1 else int(validation)
        if count == validation or (validation < 1 and 0 < count < images):
            return count
    raise ValueError(f"validation must be a count or a share of the {images} training images, got {validation!r}")


@contextmanager
def _own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, and give them back to the user as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _network(model: str | Config | nn.Module, data: ImageData, copies: bool) -> nn.Module:
    classes, channels = len(data.classes), data.shape[0]
    if isinstance(model, str):
        network: nn.Module = create_model(model, num_classes=classes, in_channels=channels)
    elif isinstance(model, Config):
        network = dataclasses.replace(model, num_classes=classes, in_channels=channels).build()
    elif isinstance(model, nn.Module):
        network = copy.deepcopy(model) if copies else model
    else:
        raise TypeError(f"model must be a name, a configuration or an nn.Module, got {type(model).__name__}")
    _check_output(network, data)
    return network


@torch.no_grad()
def _check_output(network: nn.Module, data: ImageData) -> None:
    """Show the network two images, so that one that does not fit the data is refused before any work."""
    parameter = next(network.parameters(), None)
    if parameter is None or not parameter.is_floating_point():
        raise ValueError(f"the model {type(network).__name__} has no weights to train")
    training = network.training
    try:
        logits = network.eval()(torch.zeros(2, *data.shape, dtype=parameter.dtype, device=parameter.device))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the model fails on images (n, {', '.join(map(str, data.shape))}) of {data.name}: {reason}"
        ) from error
    finally:
        network.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (2, len(data.classes)):
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model maps 2 images to {came}; {data.name} has {len(data.classes)} classes, so (2, {len(data.classes)})"
        )


def _configuration(network: nn.Module, task: Task, subset: int | None, validation: float) -> dict[str, Any]:
    """Return what the run is, in plain values."""
    data = task.data
    digest = hashlib.sha256(task.train.labels.cpu().numpy().tobytes() + task.train.images[:64].cpu().numpy().tobytes())
    model = configuration_of(network) if isinstance(network, Classifier) else {"kind": f"custom {type(network).__name__}"}
    return {
        "model": model,
        "dataset": {
            "name": data.name,
            "classes": list(data.classes),
            "shape": list(data.shape),
            "mean": list(data.mean),
            "std": list(data.std),
            "flip": data.flip,
            "synthetic": data.synthetic,
            "training_images": len(task.train),
            "fingerprint": digest.hexdigest(),
        },
        "protocol": dataclasses.asdict(task.protocol),
        "seed": task.seed,
        "subset": subset,
        "validation": validation,
    }


def _run(run: TrainingRun, resume: bool, callback: Callable[[Row], None] | None, progress: bool) -> SeedRun:
    reason = "completed"
    step = take_up(run, resume)
    with Log(run.folder, step) as log, _bar(run, progress) as watch, Interrupt.deferred() as interrupt:
        if run.folder is not None:
            write_run_facts(run.folder, run.configuration, run.task.device)
        _forget_result(run)
        for row in run.fit(interrupt, log.record, watch):
            if wants_to_stop(callback, {"seed": run.task.seed, **row}) and not run.ended:
                reason = "stopped"
                run.save()
                break
        if interrupt.requested:  # after the last step; what is left is to read the test set, which a resumed run does
            raise KeyboardInterrupt
    return _finished(run, reason)


def _forget_result(run: TrainingRun) -> None:
    """Remove the result of fewer epochs from the folder of a run that goes on."""
    if run.folder is not None and not run.ended:
        for name in (RESULT, WEIGHTS):
            (run.folder / name).unlink(missing_ok=True)


def _finished(run: TrainingRun, reason: str) -> SeedRun:
    """Read the test set, once, write the result, and hand over the model with the weights that were tested."""
    task, best = run.task, run.progress.best
    test = best_test = None
    if run.average is not None:
        run.model.load_state_dict(run.average.module.state_dict())
        run.average = None
    if reason == "completed":
        images = run.pipeline(task.data.test.images)
        test = run.evaluate(images, task.data.test.labels)
        if not math.isfinite(test.loss):
            raise TrainingError("nonfinite", f"the test loss is {test.loss}, after finite ones in training: {run.advice()}")
        best_test = _best_test(run, images)
    result = SeedRun(
        seed=task.seed,
        model=run.given.eval(),
        history=run.progress.history,
        reason=reason,
        test=test,
        best_epoch=best["epoch"] if best else None,
        best_validation_accuracy=best["validation_accuracy"] if best else None,
        best_test=best_test,
        folder=run.folder,
        checkpoint=run.checkpoint,
        seconds=run.progress.seconds,
    )
    if run.folder is not None and test is not None:
        _write_result(result, run.folder, run.configuration)
    return result


def _best_test(run: TrainingRun, images: Pipeline) -> Evaluation | None:
    if run.best_weights is None:
        return None
    last = copy.deepcopy(run.model.state_dict())
    load_clean_state_dict(run.model, run.best_weights)
    result = run.evaluate(images, run.task.data.test.labels)
    run.model.load_state_dict(last)
    return result


def _write_result(run: SeedRun, folder: Path, configuration: dict[str, Any]) -> None:
    assert run.test is not None
    record = {
        "seed": run.seed,
        "epochs": len(run.history),
        "step": run.history[-1]["step"],
        "test_accuracy": run.test.accuracy,
        "test_loss": run.test.loss,
        "best_epoch": run.best_epoch,
        "best_validation_accuracy": run.best_validation_accuracy,
        "best_test_accuracy": run.best_test.accuracy if run.best_test else None,
        "seconds": run.seconds,
        "synthetic": configuration["dataset"]["synthetic"],
        "confusion": run.test.confusion.tolist(),
    }
    with atomic_output(folder / RESULT) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    metadata = {"model": json.dumps(configuration["model"]), "test_accuracy": f"{run.test.accuracy:.4f}"}
    save_weights(run.model, folder / WEIGHTS, metadata)


@contextmanager
def _bar(run: TrainingRun, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield what moves a progress bar on stderr, or does nothing."""
    if not shown:
        yield lambda progress: None
        return
    from tqdm import tqdm

    steps = run.task.protocol.epochs * run.task.steps_per_epoch
    with tqdm(total=steps, initial=run.progress.step, desc="training", unit="step", file=sys.stderr, dynamic_ncols=True) as bar:

        def watch(progress: Progress) -> None:
            seen = max(progress.seen, 1)
            loss, accuracy = progress.loss / seen, 100 * progress.correct / seen
            bar.set_postfix_str(f"epoch {progress.epoch + 1}, loss {loss:.3f}, {accuracy:.1f} %", refresh=False)
            bar.update(progress.step - bar.n)

        yield watch
