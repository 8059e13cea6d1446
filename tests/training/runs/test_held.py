"""One run at a time in a folder: other threads, processes and hosts are refused; what a killed one left is taken over."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from few_images import few_images

import unigrid
from unigrid.files import FileError
from unigrid.training import Protocol
from unigrid.training.runs import folders
from unigrid.training.runs.folders import held

GONE = 2**22 + 1  # above the largest number that Linux gives to a process
PLAIN = Protocol("plain", 2, batch_size=8, learning_rate=0.05)


def refused(folder):
    with pytest.raises(FileError) as error, held(folder):
        pytest.fail("it was not held")
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{folder}: another run is in it, process ")
    return text


def test_a_folder_is_held_once(tmp_path):
    folder = tmp_path / "runs" / "first"
    with held(folder) as given:
        assert given == folder
        assert f"process {os.getpid()} on {socket.gethostname()}; " in refused(folder)
        other = threading.Thread(target=refused, args=[folder])
        other.start()
        other.join()
        with held(tmp_path / "runs" / "second"):
            pass
        (folder / "log.csv").touch()
    assert os.listdir(folder) == ["log.csv"]
    with held(folder):
        pass


def test_a_folder_made_for_nothing_is_removed_and_the_users_own_is_not(tmp_path):
    with pytest.raises(ZeroDivisionError), held(tmp_path / "new"):
        raise ZeroDivisionError
    (tmp_path / "old").mkdir()
    with held(tmp_path / "old"):
        pass
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize(
    "text", [f"{GONE}\n{socket.gethostname()}\n", f"{os.getpid()}\n{socket.gethostname()}\n1\n"], ids=["gone", "number taken"]
)
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, text):
    """Also where its number has been given to another process, which began at another time."""
    (tmp_path / folders.LOCK).write_text(text)
    with held(tmp_path):
        refused(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "holder"),
    [(f"{GONE}\nnode-17\n9\n", f"process {GONE} on node-17"), ("", "process unknown on unknown"), ("\0\xff", "on unknown")],
    ids=["another host", "empty", "damaged"],
)
def test_a_lock_that_may_be_alive_is_respected_and_named(tmp_path, text, holder):
    (tmp_path / folders.LOCK).write_text(text)
    assert holder in refused(tmp_path)
    assert f"remove {tmp_path / folders.LOCK} if there is no such process" in refused(tmp_path)
    assert (tmp_path / folders.LOCK).read_text() == text


WAITING = """
import time
from pathlib import Path
from few_images import few_images
import unigrid
from unigrid.training import Protocol

def wait(row):
    Path("begun").touch()
    time.sleep(60)

protocol = Protocol("plain", 2, batch_size=8, learning_rate=0.05)
unigrid.train(few_images(40), "mgnet-4-Bl", protocol, device="cpu", seed=[0, 1], callback=wait, progress=False, out="run")
"""


def here(kind, **choices):
    if kind == "solver":
        return unigrid.train_solver(unigrid.Poisson((15, 15)), epochs=2, steps=2, progress=False, **choices)
    seed = [1, 0] if kind == "seeds" else 0
    return unigrid.train(few_images(40), "mgnet-4-Bl", PLAIN, device="cpu", seed=seed, progress=False, **choices)


@pytest.mark.system
def test_two_processes_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(Path(unigrid.__file__).parents[1]), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen([sys.executable, "-c", WAITING], env=environment) as other:
        try:
            deadline = time.monotonic() + 60
            while not os.path.exists("begun") and time.monotonic() < deadline:
                time.sleep(0.05)
            before = contents(tmp_path / "run")
            for resume in (False, True):
                with pytest.raises(FileError, match=f"another run is in it, process {other.pid} on"):
                    here("seeds", out="run", resume=resume)
            assert contents(tmp_path / "run") == before
        finally:
            other.send_signal(signal.SIGKILL)
            other.wait()
    here("seeds", out="run", resume=True)
    assert not list(tmp_path.rglob(folders.LOCK))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.system
@pytest.mark.parametrize("kind", ["images", "solver"])
def test_two_threads_in_one_folder(tmp_path, kind):
    refusals = []

    def again(row):
        with pytest.raises(FileError, match="another run is in it") as error:
            here(kind, out=tmp_path, resume=True)
        refusals.append(error)

    def inside(row):
        other = threading.Thread(target=again, args=[row])
        other.start()
        other.join()

    assert len(here(kind, out=tmp_path, callback=inside).history) == len(refusals) == 2
