"""Runs under torchrun that end before their time: a process killed, Ctrl-C, a scheduler's SIGTERM, a restart."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import several

import unigrid
from unigrid.files import FileError
from unigrid.training.runs import checkpoint

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")]
LONG = 3000  # epochs: they go on until somebody ends them
OPTIONS = "few.npz --model mgnet-4-Bl --protocol course --batch-size 8 --device cpu --set flip=false"
KILLED = """
import os, signal, sys
from unigrid.cli import main
from unigrid.training.images import loop

loop.SAVE_SHARE, original = 0, loop.ImageRun._step
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])

def stepping(run, plan):
    original(run, plan)
    if run.progress.step == 17 + 14 * attempt and int(os.environ["RANK"]) == 1 - attempt:
        os.kill(os.getpid(), signal.SIGKILL)

loop.ImageRun._step = stepping
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 60 pictures of 8 x 8 pixels, 54 of them for training, in 7 batches."""
    folder, rng, labels = tmp_path_factory.mktemp("torchrun"), np.random.default_rng(0), np.arange(60) % 3
    images = rng.integers(120, size=(60, 8, 8, 3)) + 40 * labels[:, None, None, None]
    np.savez(folder / "few.npz", images=images.astype(np.uint8), labels=labels)
    (folder / "killed.py").write_text(KILLED)
    return folder


def torchrun(place, options, program):
    """Start torchrun with two processes."""
    command = (
        f"{sys.executable} -m torch.distributed.run --nproc-per-node 2 --master-port {several.free_port()} {options} {program}"
    )
    return subprocess.Popen(
        command.split(), cwd=place, env=several.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def interrupted(place, number, options):
    """Send a signal to torchrun once another epoch is in the log; return what is printed."""
    log = place / "run" / "log.jsonl"
    before = len(rows(place / "run")) if log.exists() else 0
    agent = torchrun(place, "", f"-m unigrid train {OPTIONS} --epochs {LONG} -o run {options}")
    try:
        while agent.poll() is None and not (log.exists() and len(rows(place / "run")) > before + 1):
            time.sleep(0.05)
        sent = time.monotonic()
        agent.send_signal(number)
        text = agent.communicate(timeout=60)[0]
    finally:
        agent.kill()
    assert time.monotonic() - sent < 30, text
    assert agent.returncode != 0
    return text


def test_signals_to_the_agent_leave_a_checkpoint(place):
    again = f"interrupted; to go on: torchrun --nproc-per-node=2 -m unigrid train {OPTIONS} --epochs {LONG} -o run --resume\n"
    steps = []
    for number, options in ((signal.SIGINT, ""), (signal.SIGTERM, "--resume")):
        text = interrupted(place, number, options)
        assert text.count(again) == 1, text
        found = checkpoint.latest(place / "run")
        steps.append(found.step)
        progress = found.state["progress"]
        assert found.messages == ()
        assert progress["step"] == found.step == 7 * progress["epoch"] + progress["batch"]
    assert 0 < steps[0] < steps[1]

    def stop(row):
        raise StopIteration

    result = unigrid.train(
        place / "few.npz", "mgnet-4-Bl", "course", epochs=LONG, batch_size=8, flip=False, device="cpu", out=place / "run",
        resume=True, callback=stop,
    )  # fmt: skip
    assert result.history[-1]["step"] == 7 * (steps[1] // 7 + 1)


def test_a_killed_process_ends_all_and_a_restart_goes_on(place):
    began = time.monotonic()
    agent = torchrun(place, "--max-restarts 1", f"killed.py train {OPTIONS} --epochs 6 -o killed")
    text = agent.communicate(timeout=60)[0]
    assert time.monotonic() - began < 60
    assert agent.returncode != 0
    assert "another of the 2 processes has ended; resume=True (--resume) goes on from the last checkpoint in killed" in text
    epochs = re.findall(r"^ +(\d+) +\d\.\d{4} ", text, flags=re.MULTILINE)
    assert epochs == ["1", "2", "3", "4"]  # two epochs, killed in the third, which is done anew; killed in the fifth
    assert [row["step"] for row in rows(place / "killed")] == [7, 14, 21, 28]
    for path in (place / "killed").glob("*.pt"):
        checkpoint.load(path)
    assert json.loads((place / "killed" / "config.json").read_text())["attempt"]["restarts"] == 1
    with pytest.raises(FileError, match="holds a run already"):
        finish(place, False)
    assert finish(place, True).history[-1]["step"] == 42


def finish(place, resume):
    return unigrid.train(
        place / "few.npz", "mgnet-4-Bl", "course", epochs=6, batch_size=8, flip=False, device="cpu", out=place / "killed",
        resume=resume,
    )  # fmt: skip
