"""Names of files, classes and networks never command the terminal they are printed on."""

import json
import os
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from tiers import pack

import unigrid
from unigrid.cli import main
from unigrid.files import FileError, read_array
from unigrid.messages import printable

ATTACKS = {
    "clear": "\x1b[2J\x1b[H", "title": "\x1b]0;owned\x07", "8-bit sequence": "\x9b31m", "overwrite": "\rdone", "back": "\b\b\b",
    "line": "\nunigrid: error: none", "right to left": "\u202egnp.exe", "isolate": "\u2067", "separator": "\u2028",
    "undecodable": "\udcff", "null-like": "\x7f\x01",
}  # fmt: skip
PLAIN = ("cat", "猫", "Bär", "قطة", "кот", "a b\u00a0c", "🐈", "per\u200cson")


def assert_harmless(text):
    assert not set(text) & set("".join(ATTACKS.values())) - set("owned.gpx[]0;31m2JHudi ugrid:erone\n")
    assert "\x1b" not in text
    text.encode()


@pytest.mark.parametrize("kind", ATTACKS)
def test_what_commands_a_terminal_is_escaped(kind):
    assert_harmless(printable(f"a{ATTACKS[kind]}b"))
    assert "\n" not in printable(ATTACKS[kind])
    for plain in PLAIN:
        assert printable(plain) == plain


@pytest.mark.parametrize("kind", ATTACKS)
def test_errors_of_files_are_harmless_wherever_they_are_shown(kind):
    with pytest.raises(FileError) as error:
        read_array(f"no{ATTACKS[kind]}.npy")
    assert_harmless(str(error.value))
    assert "\n" not in str(error.value)
    assert "no such file" in str(error.value)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    ["solve", "{}.npy"], ["solve", "{}/f.npy"], ["solve", "f.{}"], ["solve", "f.npy", "--boundary", "{}"], ["{}"],
    ["solve", "--{}"], ["solve", "f.npy", "-o", "{}.npy"], ["predict", "{}", "a.png"], ["train", "{}"],
    ["solve", "f.npy", "--threads", "{}"],
]  # fmt: skip


@pack
@pytest.mark.parametrize("kind", ATTACKS)
def test_the_command_line_prints_no_escapes(place, capsys, kind):
    np.save("f.npy", np.ones((4, 4)))
    np.save(f"there{ATTACKS[kind]}.npy", np.ones((4, 4)))
    for words in [*COMMANDS, ["solve", "there{}.npy"]]:
        main([word.format(ATTACKS[kind]) for word in words])
        printed = capsys.readouterr()
        assert_harmless(printed.out)
        assert_harmless(printed.err)
        assert len(printed.err.splitlines()) <= 1


def write_network(folder, name):
    """Write a checkpoint of a network whose classes, data and folder have hostile names."""
    from unigrid.conv.models import configuration_of
    from unigrid.training.images.protocols import PROTOCOLS
    from unigrid.training.runs import checkpoint

    model = unigrid.create_model("mgnet-4-Bl", num_classes=2)
    dataset = {
        "name": f"data{name}", "classes": [f"cat{name}", f"dog{name}"], "shape": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3,
        "flip": False, "synthetic": False,
    }  # fmt: skip
    configuration = {
        "model": configuration_of(model), "dataset": dataset, "protocol": {**vars(PROTOCOLS["fast"]), "accelerated": False},
    }  # fmt: skip
    state = {"configuration": configuration, "model": dict(model.state_dict()), "epoch": 1}
    plain = json.loads(json.dumps(state["configuration"]))
    return checkpoint.save_best(folder / f"run{name}", {**state, "configuration": plain})


@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
@pack
@pytest.mark.parametrize("kind", ATTACKS)
def test_names_in_a_checkpoint_are_printed_without_escapes(place, capsys, kind):
    path = write_network(place, ATTACKS[kind])
    Image.new("RGB", (8, 8)).save("a.png")
    os.link("a.png", f"a{ATTACKS[kind]}.png")
    assert main(["predict", str(path), f"a{ATTACKS[kind]}.png", "--device", "cpu"]) == 0
    assert main(["evaluate", str(path), "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert "cat" in printed.out
    assert_harmless(printed.out)
    assert_harmless(printed.err)
    trained = unigrid.training.load_trained(path, device="cpu")
    assert_harmless(repr(trained))
    assert trained.classes == (f"cat{ATTACKS[kind]}", f"dog{ATTACKS[kind]}")  # what they are called stays
    images = (np.zeros((20, 1, 8, 8)), np.arange(20) % 2)
    with pytest.raises(ValueError, match="trained on data") as error:
        trained.evaluate(images)
    assert_harmless(str(error.value))
