"""Places and terminals: names of classes on any terminal, "~", long names, read-only folders, full disks; one line each."""

import contextlib
import io
import os
import signal
import tempfile
from pathlib import Path

import pytest
from few_images import few_images
from PIL import Image

import unigrid
from unigrid.cli import main
from unigrid.conv.weights import load_weights, save_weights
from unigrid.files import FileError
from unigrid.training import ImageData, Protocol, load_trained

NAMES = ("猫", "Käfer", "naïve\udcff")  # Chinese, Latin-1, and bytes of a folder's name that are no UTF-8
PLAIN = Protocol("plain", 1, batch_size=8, learning_rate=0.05)


def train(names=("a", "b", "c"), **choices):
    data = few_images(40)
    data = ImageData("custom", data.train, data.test, names, data.mean, data.std)
    return unigrid.train(data, unigrid.MgNetConfig(steps=(1,), features=2), PLAIN, device="cpu", progress=False, **choices)


@pytest.fixture
def picture(place):
    Image.new("RGB", (8, 8), (200, 0, 0)).save("picture.png")
    return "picture.png"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_names_of_classes_on_any_terminal(picture, encoding):
    train(NAMES, out="run")
    shown = io.TextIOWrapper(io.BytesIO(), encoding)
    with contextlib.redirect_stdout(shown):
        code = main(["predict", "run", picture])
    assert code == 0
    text = shown.buffer.getvalue().decode(encoding)
    assert "\\udcff" in text
    assert ("猫" if encoding == "utf-8" else r"\u732b") in text
    assert ("K\\xe4fer" if encoding == "ascii" else "Käfer") in text


def test_the_home_folder_wherever_a_path_comes_in(place, picture, command, monkeypatch):
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("USERPROFILE", str(place / "home"))
    os.mkdir("home")
    train(out="~/images")
    train(out="~/seeds", seed=[0, 1])
    unigrid.train_solver(unigrid.Poisson((15, 15)), epochs=1, steps=1, progress=False, out=Path("~/solver"))
    os.rename(picture, "home/picture.png")
    assert load_trained("~/images").predict(["~/picture.png"])
    model = load_trained("~/images").model
    load_weights(model, "~/images/weights.safetensors")
    save_weights(model, "~/copy.safetensors")
    for text in (
        "train shapes --model mgnet-4-Bl --subset 128 --batch-size 64 --epochs 1 --device cpu --out=~/shapes --plot=~/c.png",
        "train poisson --epochs 1 --set steps=1 --size 15 --out=~/poisson", "predict ~/images ~/picture.png",
        "evaluate ~/poisson",
    ):  # fmt: skip
        assert command(text).code == 0
    kept = {"images", "seeds", "solver", "picture.png", "copy.safetensors", "shapes", "c.png", "poisson"}
    assert kept <= set(os.listdir("home"))
    assert os.listdir() == ["home"]


LONG = "n" * 300
LINES = {
    "a folder of a run": f"train poisson --epochs 1 --out {LONG}",
    "a folder in one": f"train poisson --epochs 1 --out {LONG}/run",
    "a picture to write": f"train poisson --epochs 1 --plot {LONG}.png",
    "a checkpoint": f"evaluate {LONG}",
    "a checkpoint to predict with": f"predict {LONG} picture.png",
    "data": f"train cifar10 --data-dir {LONG}",
}


@pytest.mark.parametrize("kind", LINES)
def test_names_that_no_system_takes(command, kind):
    done = command(LINES[kind])
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert LONG in done.err
    assert not os.listdir()


def test_a_picture_of_such_a_name_is_one_line_and_the_others_are_answered(picture, command):
    train(out="run")
    done = command(f"predict run {LONG}.png picture.png --top 1")
    assert done.code == 2
    assert [line.startswith(f"unigrid: error: {LONG}.png: ") for line in done.err.splitlines()] == [True]
    assert done.out.splitlines()[1] == "picture.png"


def test_names_as_long_as_the_system_takes(command):
    name = "n" * 251
    done = command(f"train poisson --epochs 1 --set steps=1 --size 15 --plot {name}.png --out {name}")
    assert done.code == 0, done.err
    assert sorted(os.listdir()) == [name, f"{name}.png"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["evaluate", name]) == 0


@pytest.fixture
def powerless():
    """A folder, and from then on an account that may only read in it; for root, to whom all is permitted, that of nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(out=folder / "run", callback=stop)
        os.chmod(folder, 0o755)
        paths = [folder, *folder.rglob("*")]
        for path in paths:
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
        if os.geteuid() == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(os.getuid())
        for path in paths:
            os.chmod(path, 0o755)


def stop(row):
    raise StopIteration


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_read_only_folders(powerless):
    before = sorted(powerless.rglob("*"))
    for work in (
        lambda: train(out=powerless / "new"), lambda: train(out=powerless / "run", resume=True),
        lambda: train(out=powerless / "new", seed=[0, 1]),
        lambda: unigrid.train_solver(unigrid.Poisson((15, 15)), epochs=1, out=powerless / "solver"),
        lambda: unigrid.train_solver(unigrid.Poisson((15, 15)), epochs=1, out=powerless / "run", resume=True),
    ):  # fmt: skip
        with pytest.raises(FileError, match=r"[Pp]ermission") as error:
            work()
        assert "\n" not in str(error.value)
    assert sorted(powerless.rglob("*")) == before
    assert load_trained(powerless / "run").epoch == 1


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits of files are those of Unix")
@pytest.mark.parametrize("bytes_left", [0, 100, 3000, 20_000])
def test_a_full_disk(command, bytes_left):
    """The limit of a file's size stands for a full disk; both fail in the middle of a write."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    line = "train shapes --model mgnet-4-Bl --subset 128 --batch-size 64 --epochs 2 --device cpu --out run"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
        done = command(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("unigrid: error: run")
    assert "cannot be written" in done.err
    assert "Traceback" not in done.err
    assert not [path for path in Path().rglob("*") if path.suffix in (".tmp", ".lock")]
    assert command(f"{line} --resume").code == 0
