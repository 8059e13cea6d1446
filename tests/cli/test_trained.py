"""`unigrid evaluate`, `predict` and `models`: what they say of trained networks, of pictures, and of wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unigrid
from unigrid import training
from unigrid.cli import main, models
from unigrid.training.runs import checkpoint


class TestEvaluate:
    def test_the_accuracy_that_training_reported(self, command, trained, loads):
        facts = loads(command(f"evaluate {trained.folder} --device cpu --confusion m.svg --json").out)
        assert facts["accuracy"] == trained.facts["test_accuracy"]
        assert facts["confusion"] == loads((trained.folder / "result.json").read_text())["confusion"]
        assert (facts["dataset"], facts["synthetic"], facts["images"]) == ("shapes", True, 200)
        assert (facts["epoch"], facts["protocol"], facts["device"]) == (3, "fast", "cpu")
        assert facts["model"]["features"] == 4
        assert facts["classes"] == trained.facts["dataset"]["classes"]
        assert facts["written"] == os.listdir() == ["m.svg"]

    def test_the_best_epoch(self, command, trained, loads):
        facts = loads(command(f"evaluate {trained.folder / 'best.pt'} --device cpu --json").out)
        assert facts["accuracy"] == trained.facts["best_test_accuracy"]
        assert (facts["epoch"], facts["step"]) == (trained.facts["runs"][0]["best_epoch"], None)

    def test_the_report(self, command, trained):
        printed = command(f"evaluate {trained.folder} --device cpu --confusion m.png")
        assert (printed.code, printed.err) == (0, "")
        for text in (
            f"Accuracy {100 * trained.facts['test_accuracy']:.2f} % of the 200 test images of shapes, loss ",
            "[synthetic data]", "MgNet, 2,358 parameters, trained on shapes (synthetic) by protocol fast, changed: epochs=3, ",
            ": epoch 3, 3 steps",
            "Wrote m.png",
        ):  # fmt: skip
            assert text in printed.out

    def test_data_of_other_channels(self, trained, monkeypatch, refused):
        data = training.load("shapes")
        gray = training.Split(data.test.images[:, :1], data.test.labels)
        mnist = training.ImageData("mnist", gray, gray, tuple("0123456789"), (0.1,), (0.3,))
        given = []
        monkeypatch.setattr("unigrid.training.data.datasets.load", lambda *what: given.append(what) or mnist)
        text = f"evaluate {trained.folder} --dataset mnist --data-dir there --download"
        refused(text, "trained on shapes, images of 3 channels; mnist has images of 1 channel")
        assert given == [("mnist", "there", True, None, (32, 32))]

    def test_data_that_are_not_there(self, trained, refused):
        refused(f"evaluate {trained.folder} --dataset cifar10", "`unigrid train cifar10 --download`")
        refused(f"evaluate {trained.folder} --dataset cifar01", "did you mean 'cifar10'")

    def test_files_that_are_no_checkpoints(self, trained, place, refused):
        (place / "text.pt").write_text("hello")
        refused("evaluate text.pt", "text.pt: not a checkpoint of unigrid")
        refused(f"evaluate {trained.folder / 'weights.safetensors'}", "weights.safetensors: not a checkpoint")
        refused(f"evaluate {trained.folder / 'best.tp'}", "did you mean 'best.pt'")
        checkpoint.save(place, {"weights": torch.zeros(3)}, 7)
        refused("evaluate checkpoint-000000007.pt", "a checkpoint of something else than a training run")


class TestPredict:
    @pytest.fixture
    def pictures(self, place):
        data = training.load("shapes")
        image = Image.fromarray(np.moveaxis(data.test.images[0].numpy(), 0, 2))
        image.save("small.png")
        image.resize((320, 320), Image.Resampling.NEAREST).save("photo.jpg")
        image.convert("L").save("gray.png")
        Image.new("RGB", (4000, 3000), (200, 30, 30)).save("huge.png")
        Image.new("RGB", (1, 2), (200, 30, 30)).save("tiny.bmp")
        (place / "text.png").write_text("hello")
        return data

    def test_what_the_library_says(self, command, trained, pictures, loads):
        facts = loads(command(f"predict {trained.folder} small.png photo.jpg --device cpu --json").out)
        expected = training.load_trained(trained.folder, device="cpu").predict([pictures.test.images[0]])[0]
        first = facts["pictures"][0]
        assert (first["path"], first["classes"]) == ("small.png", list(expected.classes))
        assert first["probabilities"] == pytest.approx(expected.probabilities)
        assert (facts["trained_on"], facts["synthetic"]) == ("shapes", True)
        assert len(facts["pictures"]) == 2

    def test_pictures_of_every_kind(self, command, trained, pictures):
        printed = command(f"predict {trained.folder} gray.png huge.png tiny.bmp --top 2 --device cpu")
        assert (printed.code, printed.err) == (0, "")
        head, *lines = printed.out.splitlines()
        assert "trained on shapes (synthetic)" in head
        assert [lines[number] for number in (0, 3, 6)] == ["gray.png", "huge.png", "tiny.bmp"]
        assert len(lines) == 9
        share, percent, name = lines[1].split()
        assert percent == "%"
        assert 0 < float(share) < 100
        assert name in trained.facts["dataset"]["classes"]

    def test_a_faulty_one_does_not_hide_the_others(self, command, trained, pictures, loads):
        printed = command(f"predict {trained.folder} text.png small.png missing.jpeg --device cpu")
        assert printed.code == 2
        assert [line.partition(": ")[2].partition(",")[0] for line in printed.err.splitlines()] == [
            "error: text.png: not a picture", "error: missing.jpeg: no such file",
        ]  # fmt: skip
        assert printed.out.splitlines()[1] == "small.png"
        assert len(printed.out.splitlines()) == 7
        printed = command(f"predict {trained.folder} text.png small.png --device cpu --json")
        assert printed.code == 2
        first, second = loads(printed.out)["pictures"]
        assert first["error"].startswith("text.png: not a picture")
        assert len(second["classes"]) == 5

    def test_a_network_that_takes_no_pictures(self, trained, pictures, refused):
        state = checkpoint.latest(trained.folder).state
        state["configuration"]["dataset"]["shape"] = [4, 32, 32]
        checkpoint.save(Path("four"), state, 1)
        refused("predict four small.png", "images of 4 channels; pictures have 1 or 3")


class TestModels:
    def test_the_table(self, command):
        printed = command("models")
        lines = printed.out.splitlines()
        assert lines[0].split() == ["name", "parameters", "CIFAR-10", "CIFAR-100", "source", "summary"]
        rows = {line.split()[0]: line.split() for line in lines[1:] if line.strip()}
        assert set(unigrid.list_models()) <= set(rows)
        assert rows["mgnet-256-Bl"][1:5] == ["8,278,794", "96.00", "79.67", "a"]
        assert rows["resnet18"][2:4] == ["-", "74.45"]
        assert "a  authors' released code, protocol code" in lines
        assert "(mgnet-mnist-64: gray ones)" in printed.out

    def test_on_a_narrow_terminal(self, monkeypatch, place, terminal):
        stream = terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLUMNS", "80")
        assert main(["models"]) == 0
        lines = stream.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        text = " ".join(stream.getvalue().split())
        assert "one A, B^(l,i), c_u = 256, c_f = 512, Pi_2" in text
        names = [*unigrid.list_models(), *unigrid.list_pretrained()]
        assert len([line for line in lines if line.startswith("mgnet-")]) == sum(name.startswith("mgnet-") for name in names)

    def test_a_pattern(self, command, loads):
        def names(text):
            return [model["name"] for model in loads(command(f"models {text} --json").out)["models"]]

        assert names("resnet18-al") == ["resnet18-Al", "resnet18-AlBl", "preact-resnet18-Al", "preact-resnet18-AlBl"]
        assert names("'resnet18*'") == ["resnet18", "resnet18-Al", "resnet18-Bl", "resnet18-AlBl"]
        assert names("mgnet-48-Bl") == ["mgnet-48-Bl"]

    def test_json(self, command, loads):
        facts = loads(command("models --json").out)
        assert [model["name"] for model in facts["models"]] == unigrid.list_models()
        (found,) = (model for model in facts["models"] if model["name"] == "mgnet-256-Bl")
        assert found["parameters"] == 8278794
        assert found["published"] == {"cifar10": 96.0, "cifar100": 79.67}
        assert (found["num_classes"], found["in_channels"]) == (10, 3)
        assert facts["versions"]["unigrid"] == unigrid.__version__

    def test_a_table_without_gray_networks_says_nothing_of_them(self):
        lines = models.table(models.facts_of([unigrid.conv.named_model("mgnet-16-Bl")])["models"])
        assert not any("gray" in line for line in lines)


def test_help_and_registration_import_no_torch(environment):
    program = (
        "import sys; from unigrid.cli import main\n"
        "for name in ('train', 'evaluate', 'predict', 'models'): assert main([name, '--help']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
