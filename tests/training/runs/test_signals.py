"""The end of a job: signals of schedulers and terminals, real ones, in processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from few_images import few_images

import unigrid
from unigrid.training import Protocol
from unigrid.training.runs import checkpoint
from unigrid.training.runs.run import Interrupt

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")]
PLAIN = Protocol("plain", 3, batch_size=8, learning_rate=0.05)

JOBS = """
import os, signal, sys
from few_images import few_images
import unigrid
from unigrid.training import Protocol
from unigrid.training.images.loop import ImageRun

protocol = Protocol("plain", 3, batch_size=8, learning_rate=0.05)
original, sent = ImageRun._step, []

def stepping(run, plan):
    original(run, plan)
    if run.progress.step == 7:
        for number in sent:
            os.kill(os.getpid(), number)

def job(name, *signals):
    sent[:] = signals
    try:
        unigrid.train(few_images(40), "mgnet-4-Bl", protocol, device="cpu", progress=False, out=name)
        print(name, "completed", flush=True)
    except KeyboardInterrupt:
        print(name, "interrupted", flush=True)

ImageRun._step = stepping
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
job("term", signal.SIGTERM)
job("hup", signal.SIGHUP)
job("twice", signal.SIGTERM, signal.SIGTERM)
job("both", signal.SIGTERM, signal.SIGHUP)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
job("nohup", signal.SIGHUP)
signal.signal(signal.SIGTERM, lambda *_: print("own handler", flush=True))
job("own", signal.SIGTERM)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
try:
    unigrid.train_solver(
        unigrid.Poisson((15, 15)), epochs=3, steps=2, progress=False, out="solver",
        callback=lambda row: row["epoch"] == 2 and os.kill(os.getpid(), signal.SIGTERM),
    )
except KeyboardInterrupt:
    print("solver interrupted", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("not reached")
"""


def train(**choices):
    return unigrid.train(few_images(40), "mgnet-4-Bl", PLAIN, device="cpu", progress=False, **choices)


def test_the_end_of_a_job_leaves_a_checkpoint_that_resumes(tmp_path, one_thread):
    paths = [str(Path(unigrid.__file__).parents[1]), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    settings = {"capture_output": True, "text": True, "cwd": tmp_path, "env": environment, "check": False, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", JOBS], **settings)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert done.stdout.splitlines() == [
        "term interrupted", "hup interrupted", "twice interrupted", "both interrupted", "nohup completed", "own handler",
        "own completed", "solver interrupted",
    ]  # fmt: skip
    assert checkpoint.latest(tmp_path / "solver").state["progress"]["epoch"] == 2
    whole = train().model.state_dict()
    for name in ("term", "hup", "twice", "both"):
        assert checkpoint.latest(tmp_path / name).step == 7
        resumed = train(out=tmp_path / name, resume=True).model.state_dict()
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interrupt.deferred():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
