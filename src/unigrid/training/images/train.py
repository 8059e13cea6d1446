"""`unigrid.train`: from the name of a data set and of a model to a trained network."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn

from ...conv.models import Config, create_model
from ...conv.modes import evaluating
from ...conv.weights import load_clean_state_dict, precision_of, require_safetensors, save_weights, unwrap
from ...files import atomic_output, expanded, one_line
from ...messages import choose, nearest, plain_number
from ...training_defaults import IMAGE_MODEL, IMAGE_PROTOCOL, POISSON
from ..data.datasets import NAMES, ImageData, load, validation_set
from ..data.mirrors import mirrored_pair
from ..data.on_disk import is_path
from ..runs.devices import bfloat16_pays
from ..runs.folders import RESULT, WEIGHTS, differences, held
from ..runs.processes import ALONE, Processes, joined
from ..runs.randomness import Streams
from ..runs.run import Row, TrainingError, checked_seeds
from .beginning import initialize, whiten
from .evaluation import Evaluation, checked_logits, is_out_of_memory
from .loop import ImageRun
from .protocols import ImageProtocol, protocol_named
from .result import SeedRun, TrainResult
from .setup import Setup, check_shares, training_splits
from .starting import starting_weights
from .synchronized import synchronized

if TYPE_CHECKING:
    from ..solvers.net import PoissonNet, PoissonNetConfig
    from ..solvers.problems import Poisson
    from ..solvers.protocols import PoissonProtocol
    from ..solvers.result import PoissonResult


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
    protocol: str | ImageProtocol | None = None,
    **choices: Any,
) -> TrainResult: ...


@torch.inference_mode(False)  # with gradients, wherever it is called
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
    validation: float | Any = 0,
    size: int | Sequence[int] | None = None,
    weights: str | os.PathLike[str] | None = None,
    new_head: bool = False,
    callback: Callable[[Row], None] | None = None,
    progress: bool | None = None,
    **choices: Any,
) -> TrainResult | PoissonResult:
    """Train a network to classify images. Training on Poisson problems is `unigrid.train_solver`.

    Parameters
    ----------
    dataset : str, ImageData, arrays, torch Dataset; or a Poisson problem
        "cifar10", "cifar100", "mnist", "shapes" (synthetic), or data of your own: see `unigrid.training.load`. "poisson", a
        `unigrid.Poisson`, or several of them are passed on to `unigrid.train_solver`, with the arguments that have a meaning
        there; the result is then a `PoissonResult`.
    model : str, configuration or nn.Module
        Default "mgnet-64-Bl". A name of `unigrid.list_models()`, an `MgNetConfig` or the like (its channels and classes
        become those of the data), or a network of your own, which is trained in place, from the weights that it has, whatever
        the protocol's initialization; it maps (n, channels, height, width) to logits (n, classes). What is frozen in it stays
        so: weights that require no gradient, and modules in evaluation mode (in a network that is in evaluation mode itself:
        those of them all of whose weights are frozen).
    protocol : str or ImageProtocol
        "paper", "course", "code", "muon" or "fast" (default): see `unigrid.training.images.protocols`.
    epochs, batch_size, learning_rate, **choices
        Fields of the protocol to change: any of them.
    seed : int or sequence of int
        Of weights, order and augmentation; the generators of the process stay as they are. Several seeds are one run each, of
        which mean and deviation are reported.
    device : "auto", "cpu", "cuda", ...
    data_dir, download
        Where the data are, and whether to download them from their own site if they are missing.
    out : path, optional
        Folder of the run: checkpoints, log.csv, log.jsonl, config.json, result.json, weights.safetensors; TensorBoard's
        files if it is installed. With several seeds, one folder per seed in it. None: nothing is written.
    resume : bool
        Whether to go on from the last checkpoint in `out`, if there is one; on the CPU bit for bit.
    subset : int, optional
        Train on that many of the training images, always the same ones.
    validation : int, float, or data
        Number of training images, or their share if below 1, that are kept apart (by the seed) to find the best epoch; or a
        validation set of its own, as a path, (images, labels) or a torch Dataset. 0: none but the data's own, and without one
        no best epoch is reported. The test set is read once, at the end of training.
    size : int or (height, width), optional
        To which all images are resized: see `unigrid.training.load`.
    weights : path, optional
        To start from (fine-tuning, or more epochs after a finished run): the folder of a run or its name in `runs`, one of its
        checkpoints, a .safetensors file, or a name of `unigrid.list_pretrained()`. Without a `model` it is the one that is
        stored with them.
    new_head : bool
        Whether the last layer starts untrained, for other classes than those of the weights.
    callback : callable, optional
        Called with the row of every epoch, which includes the seed. StopIteration from it ends the run, which may be resumed.
    progress : bool, optional
        Whether to show a progress bar; default: on a terminal.

    Raises
    ------
    ValueError, TypeError
        For unknown names and values that do not fit; the message has the value, what is allowed, and the nearest name.
    unigrid.training.DatasetError
        For data that are missing or damaged, with the command that downloads them.
    FileError
        For an `out` that holds a run already, in which another run is going on, or that cannot be written.
    TrainingError
        When the loss is not finite, or diverges, or another process is lost; the last good checkpoint is kept.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once a checkpoint is written: `resume=True` goes on from it.

    Notes
    -----
    In a process group of `torch.distributed`, or in the processes that torchrun starts, all train one network together, each on
    its share of every batch (DistributedDataParallel, on gloo or nccl). Batch size, order and augmentation of the images are
    the same for any number of processes, so that a run may be resumed with another number. Batch norms are over the share of
    each process, unless the protocol has `sync_batch_norm`. The first process writes, shows progress and calls `callback`. All
    need the data; `out` is read and written by the first alone. An interruption or an error in one process ends all. A network
    some of whose weights are used in some steps only is to be passed as `DistributedDataParallel(network,
    find_unused_parameters=True)`, and one that draws random numbers, as in dropout, draws others in every process.

    Source: the protocols paper, course and code are those of J. He & J. Xu, MgNet (2019), and of the authors' notes and code.

    Examples
    --------
    >>> import unigrid
    >>> result = unigrid.train("shapes", "mgnet-8-Bl", epochs=1, subset=256, device="cpu")
    >>> 0 <= result.test_accuracy <= 1
    True
    """
    if _is_poisson(dataset):
        of_images = {
            "batch_size": batch_size, "subset": subset, "validation": validation or None, "data_dir": data_dir,
            "download": download or None, "device": None if str(device) in ("auto", "cpu") else device, "size": size,
            "weights": weights, "new_head": new_head or None,
        }  # fmt: skip
        common = {
            "epochs": epochs, "learning_rate": learning_rate, "seed": seed, "out": out, "resume": resume, "callback": callback,
            "progress": progress,
        }  # fmt: skip
        return _forward(dataset, model, protocol, of_images, {**common, **choices})
    if resume and out is None:
        raise ValueError("resume=True needs out=, the folder of the run to go on with")
    if new_head and weights is None:
        raise ValueError("new_head=True needs weights=, whose other layers are kept")
    if isinstance(dataset, str) and not is_path(dataset):
        choose(dataset, (*NAMES, POISSON), "dataset or path")
    protocol = IMAGE_PROTOCOL if protocol is None else protocol
    _reject_unknown(choices)
    resolved = protocol_named(protocol).with_choices(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, **choices
    )
    seeds = checked_seeds(seed)
    if out is not None:
        require_safetensors()
    with joined() as processes, _losses_reported(processes, out), contextlib.ExitStack() as locks:
        place = processes.device(device)
        if "mixed_precision" not in choices and not bfloat16_pays(place):
            resolved = resolved.with_choices(mixed_precision=False)
        start = None if weights is None else starting_weights(weights, new_head)
        if start is not None or isinstance(model, nn.Module):  # its weights are its owner's choice
            resolved = resolved.with_choices(initialization="own", whitening=False)
        data = processes.first_on_machine(lambda: load(dataset, data_dir, download, size=size))
        if plain_number(validation) is None:
            data, validation = validation_set(validation, data), 0
        check_mirrored(data, resolved, choices.get("flip"))
        if model is None:
            model = IMAGE_MODEL if start is None else start.configuration(data)
        runs, configuration = [], {}
        places = _folders(out if processes.is_writer else None, seeds)
        folders = processes.together(lambda: [locks.enter_context(held(folder)) for folder in places])
        for number, folder in zip(seeds, folders, strict=True):
            setup = Setup(data, *training_splits(data, resolved, subset, validation, number), resolved, number, place)
            streams = Streams(number, place)
            with streams.in_place():
                network = _network(model, data, copies=len(seeds) > 1)
                initialize(network, resolved.initialization)
            if resolved.whitening:
                whiten(network, setup.train.images, data.mean, data.std)
            configuration = setup.configuration(network, subset, validation)
            if start is not None:
                start.load_into(network, data)
                configuration["weights"] = start.described()
            check_shares(network, len(setup.train), resolved, processes)
            _check_agreement(configuration, processes)
            run = ImageRun(network, setup, folder, configuration, streams, processes)
            with synchronized(network, processes if resolved.sync_batch_norm else ALONE):
                reason = run.complete(resume, callback, progress)
            runs.append(_finished(run, reason))
            if reason == "stopped":
                break
    return TrainResult(tuple(runs), configuration)


@contextlib.contextmanager
def _losses_reported(processes: Processes, out: str | os.PathLike[str] | None) -> Iterator[None]:
    """Raise a TrainingError where another process is gone, in place of what torch raises then."""
    try:
        yield
    except RuntimeError as error:
        if not processes.lost(error):
            raise
        kept = "" if out is None else f"; resume=True (--resume) goes on from the last checkpoint in {out}"
        raise TrainingError("lost", f"another of the {processes.world} processes has ended{kept}") from error


def _check_agreement(configuration: dict[str, Any], processes: Processes) -> None:
    """Raise ValueError where another process would train something else."""
    for rank, other in enumerate(processes.gathered(configuration)):
        for place, here, there in differences(configuration, other):
            raise ValueError(
                f"process {rank} has another {place} than process {processes.rank}, {there!r} and {here!r}; give the same "
                "arguments to all processes of the group"
            )


def _folders(out: str | os.PathLike[str] | None, seeds: list[int]) -> list[Path | None]:
    """Return the folder of each seed."""
    if out is None or len(seeds) == 1:
        return [None if out is None else expanded(out)] * len(seeds)
    return [expanded(out) / f"seed-{number}" for number in seeds]


def _is_poisson(dataset: Any) -> bool:
    """Whether a data set is "poisson", a Poisson problem or several. Decided without importing the stencil backend."""
    if isinstance(dataset, str):
        return dataset == POISSON
    module: Any = sys.modules.get("unigrid.stencil.problem")  # imported by whoever has built a problem
    parts = dataset if isinstance(dataset, (list, tuple)) else (dataset,)
    return module is not None and len(parts) > 0 and all(isinstance(part, module.Poisson) for part in parts)


def _forward(problems: Any, model: Any, protocol: Any, of_images: dict[str, Any], others: dict[str, Any]) -> PoissonResult:
    """Train a solver. Raises TypeError for options that apply to images only."""
    from ..solvers.train import train_solver

    given = [name for name, value in of_images.items() if value is not None]
    if given:
        raise TypeError(f"{', '.join(given)}: for images alone; Poisson problems are trained on the CPU, on errors they draw")
    return train_solver(None if isinstance(problems, str) else problems, model, protocol, **others)


def _reject_unknown(choices: dict[str, Any]) -> None:
    """Raise TypeError for a name that is neither an argument of `train` nor a field of a protocol, with the nearest of both."""
    fields = [field.name for field in dataclasses.fields(ImageProtocol)]
    for name in choices:
        if name not in fields:
            known = [*(argument for argument in inspect.signature(train).parameters if argument != "choices"), *fields]
            raise TypeError(f"train has no argument {name!r}, and a protocol no field of that name{nearest(name, known)}")


def check_mirrored(data: ImageData, protocol: ImageProtocol, flip: bool | None) -> None:
    """Raise ValueError for images that a protocol would mirror though it changes what they are, unless `flip` was chosen."""
    if flip is not None or not protocol.augmentation(data.flip).flip or data.name in NAMES:
        return
    pair = mirrored_pair(data.train)
    if pair is not None:
        one, other = (data.classes[label] for label in pair)
        raise ValueError(
            f"mirror images of class {one} of {data.name} look like class {other}, and the protocol mirrors images; pass "
            "flip=False, or flip=True to mirror them all the same"
        )


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
    check_output(network, data)
    return network


@torch.no_grad()
def check_output(network: nn.Module, data: ImageData) -> None:
    """Apply the network to two images, so that one that does not fit the data is refused before any work."""
    _check_weights(network)
    images = torch.zeros(2, *data.shape, dtype=precision_of(network), device=next(network.parameters()).device)
    with evaluating(network):
        try:
            logits = network(images)
        except RuntimeError as error:
            shape, reason = ", ".join(map(str, data.shape)), str(error).splitlines()[0]
            raise ValueError(f"the model fails on images (n, {shape}) of {data.name}: {reason}") from error
        checked_logits(logits, network, len(images), len(data.classes))


def _check_weights(network: nn.Module) -> None:
    name, weights = type(unwrap(network)).__name__, list(network.parameters())
    if not any(weight.is_floating_point() or weight.is_complex() for weight in weights):
        raise ValueError(f"the model {name} has no weights to train")
    if not any(weight.requires_grad for weight in weights):
        raise ValueError(f"all weights of the model {name} are frozen; call requires_grad_(True) on those to train")
    if any(weight.is_inference() for weight in weights):
        raise ValueError(f"the model {name} was made in torch.inference_mode() and cannot be trained; make it outside")


def _finished(run: ImageRun, reason: str) -> SeedRun:
    """Evaluate the test set, once, write the result, and return the model with the weights that were tested."""
    best, test, best_test = run.progress.best or {}, None, None
    if run.average is not None:
        run.model.load_state_dict(run.average.module.state_dict())
        run.average = None
    if run.returns_best:
        load_clean_state_dict(run.model, run.best_weights or {})
    if reason == "completed":
        run.release()
        try:
            test, best_test = _tests(run)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if run.processes.is_writer:
                print(f"unigrid: the test set is not read: {one_line(error)}", file=sys.stderr)
    result = SeedRun(
        seed=run.seed, model=run.given.eval(), history=run.progress.history, reason=reason, test=test,
        epoch=best["epoch"] if run.returns_best else run.progress.epoch,
        best_epoch=best.get("epoch"), best_validation_accuracy=best.get("validation_accuracy"), best_test=best_test,
        folder=run.folder, checkpoint=run.checkpoint, seconds=run.progress.seconds,
    )  # fmt: skip
    if run.folder is not None and reason == "completed":
        _write_result(result, run.folder, run.configuration)
    return result


def _tests(run: ImageRun) -> tuple[Evaluation, Evaluation | None]:
    """Return the evaluations of the run's weights and of its best ones, if there are any; its weights stay what they are."""
    setup = run.setup
    images = setup.pipeline(setup.data.test.images, run.dtype)
    test = run.evaluate(run.model, images, setup.data.test.labels)
    if not math.isfinite(test.loss):
        raise TrainingError("nonfinite", f"the test loss is {test.loss}, after finite ones in training: {run.advice()}")
    if run.best_weights is None or run.returns_best:
        return test, test if run.returns_best else None
    last = copy.deepcopy(run.model.state_dict())
    load_clean_state_dict(run.model, run.best_weights)
    try:
        return test, run.evaluate(run.model, images, setup.data.test.labels)
    finally:
        run.model.load_state_dict(last)


def _write_result(run: SeedRun, folder: Path, configuration: dict[str, Any]) -> None:
    record = {
        **run.to_dict(),
        "epochs": len(run.history),
        "step": run.history[-1]["step"],
        "synthetic": configuration["dataset"]["synthetic"],
        "confusion": run.test.confusion.tolist() if run.test else None,
    }
    with atomic_output(folder / RESULT) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    stored = {"model": configuration["model"], "classes": configuration["dataset"]["classes"]}
    metadata = {name: json.dumps(value) for name, value in stored.items()}
    save_weights(run.model, folder / WEIGHTS, metadata | ({"test_accuracy": f"{run.test.accuracy:.4f}"} if run.test else {}))
