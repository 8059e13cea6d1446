"""Several processes on one network: how tests start them, and runs in float64 that take a part of a second."""

import faulthandler
import itertools
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import torch
from few_images import few_images
from torch import nn

import unigrid
from unigrid.training import Protocol
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.images import loop

HERE = Path(__file__).parent
STEPS, TIMES = 20, ("seconds", "images_per_second")  # 30 images, the last of 4 batches has 6
PLAIN = Protocol("plain", 5, batch_size=8, learning_rate=0.1, decay_every=2, pad=1, flip=True, cutout=2, average=0.9)

CASES = {
    "no norm": (False, {}),
    "synchronized norm": (True, {"sync_batch_norm": True}),
    "mixed": (False, {"mixup": 0.4, "cutmix": 1.0, "class_weights": (1.0, 2.0, 5.0)}),
    "weights": (False, {"class_weights": "balanced", "label_smoothing": 0.1, "clip_grad": 0.1}),
    "norm": (True, {}),
}


class Net(nn.Module):
    """Two convolutions, the first one with a batch norm or without."""

    def __init__(self, norm):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 3)
            self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
            self.head = nn.Linear(6, 3)
        self.double()

    def forward(self, images):
        return self.head(self.second(self.norm(self.first(images)).relu()).relu().mean((2, 3)))


def train(case, at_step=None, **choices):
    """Train one of the cases; return what is to be the same for every number of processes, and the images of every step."""
    norm, protocol = CASES[case]
    seen, counted = [], itertools.count(1)
    batch, step = Pipeline.batch, loop.ImageRun._step

    def recording(images, indices, plan):
        seen.append(indices.tolist())
        return batch(images, indices, plan)

    def stepping(run, plan):
        step(run, plan)
        if at_step is not None:
            at_step(next(counted))

    Pipeline.batch, loop.ImageRun._step, loop.SAVE_SHARE = recording, stepping, -1
    try:
        result = unigrid.train(
            few_images(37),
            Net(norm),
            PLAIN,
            validation=7,
            device="cpu",
            progress=False,
            mixed_precision=False,
            **protocol,
            **choices,
        )
    finally:
        Pipeline.batch, loop.ImageRun._step = batch, step
    run = result.runs[0]
    return {
        "weights": dict(result.model.state_dict()),
        "history": [{name: value for name, value in row.items() if name not in TIMES} for row in result.history],
        "test": None if run.test is None else (run.test.loss, run.test.confusion, run.test.logits),
        "best": (run.best_epoch, run.best_validation_accuracy),
        "seen": seen,
        "reason": run.reason,
    }


def stop_after(epoch):
    """A callback that ends a run, to be resumed."""

    def stop(row):
        if row["epoch"] == epoch:
            raise StopIteration

    return stop


def environment(**others):
    """The environment of a process of the tests that is to use one core."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent / "src")])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "UNIGRID_NUM_THREADS": "1"} | others


def start(*stages, folder):
    """Run each stage, (number of processes, script), in that many processes that know of each other, one stage after the other.

    They are forked from one that has imported what is slow to import.
    """
    code = f"import several; several.fork({stages!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def fork(stages):
    """The process of which those of `start` are children."""
    for world, script in stages:
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world)}
        children = [os.fork() or _run(script, rank, meeting) for rank in range(world)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if any(codes):
            sys.exit(f"of {world} processes: {codes}")


def _run(script, rank, meeting):
    os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=meeting["WORLD_SIZE"])
    faulthandler.dump_traceback_later(50, exit=True)
    code = 1
    try:
        exec(script, {})
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def free_port():
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
