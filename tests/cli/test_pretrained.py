"""Trained networks on the command line, and the export of a run into weights and card."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unigrid
from unigrid import pretrained, training
from unigrid.files import FileError
from unigrid.training import export as exporting
from unigrid.training.export import export, main
from unigrid.training.runs import checkpoint

SHIPPED = Path(pretrained.__file__).parent
NAME, ONE = "mgnet-4-Bl@shapes", "mgnet-32-Bli@cifar10"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty folder for trained networks, which unigrid takes for its own."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


@pytest.fixture
def picture(place):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save("cat.png")


class TestCommands:
    def test_predict(self, command, picture, loads):
        printed = command("predict cat.png --pretrained mgnet-32-Bli --device cpu")
        assert (printed.code, printed.err) == (0, "")
        assert "MgNet, 168,554 parameters, trained on cifar10 by protocol fast" in printed.out.splitlines()[0]
        facts = loads(command(f"predict cat.png --pretrained {ONE} --top 1 --device cpu --json").out)
        (expected,) = unigrid.load_pretrained(ONE, device="cpu").predict(["cat.png"], 1)
        assert facts["pictures"][0]["classes"] == list(expected.classes)
        assert facts["trained_on"] == "cifar10"

    @pytest.mark.parametrize("order", ["{} cat.png a.png --top 1", "{} --top 1 cat.png a.png", "--top 1 {} cat.png a.png",
                                       "{} cat.png --top 1 a.png"])  # fmt: skip
    def test_options_may_stand_anywhere(self, command, picture, trained, loads, order):
        shutil.copy("cat.png", "a.png")
        for start in (trained.folder, f"--pretrained {ONE}"):
            facts = loads(command(f"predict {order.format(start)} --device cpu --json").out)
            assert [each["path"] for each in facts["pictures"]] == ["cat.png", "a.png"]

    def test_what_is_missing(self, refused, picture):
        refused("predict", "give a CHECKPOINT and an IMAGE, or an IMAGE and --pretrained NAME")
        refused("predict cat.png", "give a CHECKPOINT and an IMAGE")
        refused("predict --pretrained mgnet-32-Bli", "give a CHECKPOINT and an IMAGE")
        refused("predict cat.png --pretrain mgnet-32-Bli", "no option '--pretrain'; did you mean '--pretrained'")
        refused("evaluate", "give CHECKPOINT, or --pretrained NAME instead of it; neither is given")
        refused("evaluate run --pretrained mgnet-32-Bli", "got run and mgnet-32-Bli")
        refused("predict cat.png --pretrained mgnet-256-Bl", "mgnet-256-Bl comes without trained weights; there are ")
        refused("predict cat.png --pretrained mgnet-32-Bil", "did you mean 'mgnet-32-Bl")
        refused("predict cat.png --pretrained poisson-net", "solves Poisson's equation and takes no pictures")
        refused("evaluate --pretrained mgnet-32-Bli", "`unigrid train cifar10 --download`")

    def test_damaged_weights(self, refused, picture, shelf):
        for ending in (".json", ".safetensors"):
            shutil.copy(SHIPPED / f"{ONE}{ending}", shelf)
        weights = shelf / f"{ONE}.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        refused(
            "predict cat.png --pretrained mgnet-32-Bli", "damaged, its SHA-256 is not the one on its card; the installation"
        )

    def test_solve(self, command, place, refused):
        f = np.random.default_rng(0).standard_normal((30, 41))
        np.save("f.npy", f)
        assert command("solve f.npy --cycle poisson-net -o u.npy").code == 0
        expected = unigrid.solve(f, cycle=unigrid.load_pretrained("poisson-net").model).u
        np.testing.assert_array_equal(np.load("u.npy"), expected)
        refused("solve f.npy --cycle mgnet-32-Bli", "is a classifier; `unigrid train poisson` trains solvers")
        refused("solve f.npy --cycle poisson-net@cifar10", "comes with weights for poisson, not for 'cifar10'")

    def test_models(self, command, loads):
        lines = command("models").out.splitlines()
        begin = next(number for number, line in enumerate(lines) if line.startswith("Trained, for "))
        assert [line.split()[0] for line in lines[begin + 1 :]] == unigrid.list_pretrained()
        facts = loads(command("models 'mgnet-32-Bli' --json").out)
        assert [card["name"] for card in facts["pretrained"]] == pretrained.having_weights("mgnet-32-Bli")
        assert facts["pretrained"][0]["measured"]["accuracy"] == pretrained.card_of(ONE).measured["accuracy"]
        assert "Trained" not in command("models resnet18").out

    def test_evaluate_a_solver(self, command, loads):
        facts = loads(command("evaluate --pretrained poisson-net --json").out)
        stated = facts["card"]["measured"]["factors"]
        assert [row["factor"] for row in facts["rows"]] == pytest.approx([row["factor"] for row in stated], rel=1e-6)
        assert "Stated on the card of poisson-net@poisson: convergence factor at most 0.0" in command(
            "evaluate --pretrained poisson-net"
        ).out  # fmt: skip


class TestExport:
    def test_a_run_becomes_weights_and_card(self, command, trained, shelf, loads):
        card = export(trained.folder)
        assert sorted(path.name for path in shelf.iterdir()) == [f"{NAME}.json", f"{NAME}.safetensors"]
        state, stored = checkpoint.latest(trained.folder).state, json.loads((trained.folder / "config.json").read_bytes())
        assert card.configuration == pretrained.card_of(NAME).configuration == stored["configuration"]
        assert card.trained == {**card.trained, "command": stored["command"], "seconds": trained.facts["seconds"]}
        for name, value in unigrid.create_model("mgnet-4-Bl", pretrained="shapes").state_dict().items():
            own = state["average"][name]  # what was tested
            assert torch.equal(value, own.bfloat16().float() if own.ndim > 1 else own), name
        result = loads((trained.folder / "result.json").read_bytes())
        assert card.measured["accuracy_before_rounding"] == result["test_accuracy"]
        found = loads(command("evaluate --pretrained mgnet-4-Bl --device cpu --json").out)
        assert found["accuracy"] == found["card"]["measured"]["accuracy"] == card.measured["accuracy"]
        assert found["images"] == card.measured["images"] == 200
        printed = command(f"evaluate --pretrained {NAME} --device cpu").out
        assert f"Stated on the card of {NAME}: {100 * card.measured['accuracy']:.2f} % of the 200 test images" in printed

    def test_a_rounding_that_costs_too_much_is_not_done(self, trained, shelf, monkeypatch):
        monkeypatch.setattr(exporting, "COST", -1.0)
        card = export(trained.folder)
        assert card.weights["precision"] == "float32"
        assert card.measured["accuracy"] == trained.facts["test_accuracy"]
        state = checkpoint.latest(trained.folder).state["average"]
        for name, value in unigrid.create_model("mgnet-4-Bl", pretrained="shapes").state_dict().items():
            assert torch.equal(value, state[name])

    def test_what_cannot_be_exported(self, trained, shelf, monkeypatch, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(trained.folder, folder)
        export(folder)
        with pytest.raises(FileError, match=r"exists; replace=True \(--force\)"):
            export(folder)
        export(folder, replace=True)
        monkeypatch.setattr(exporting, "LARGEST", 1000)
        with pytest.raises(FileError, match=r"bytes of weights in bfloat16; at most 1,000 are shipped"):
            export(folder, replace=True)
        monkeypatch.undo()
        with pytest.raises(FileError, match=r"nowhere: there is no such folder"):
            export(folder, tmp_path / "nowhere")
        result = json.loads((folder / "result.json").read_bytes())
        (folder / "result.json").write_text(json.dumps({**result, "test_accuracy": result["test_accuracy"] - 0.01}))
        with pytest.raises(FileError, match=r"of the test images here, and result\.json has"):
            export(folder, shelf, replace=True)
        (folder / "result.json").write_text(json.dumps({**result, "test_accuracy": None}))
        with pytest.raises(FileError, match=r"its run has not read the test set"):
            export(folder, shelf, replace=True)
        (folder / "result.json").write_text("{")
        with pytest.raises(FileError, match=r"result\.json: damaged, not JSON"):
            export(folder, shelf)
        (folder / "result.json").unlink()
        with pytest.raises(FileError, match=r"result\.json: is not there; the folder of a finished run is needed"):
            export(folder, shelf)

    def test_networks_without_a_name_stay_where_they_are(self, trained, shelf, monkeypatch):
        monkeypatch.setattr(exporting, "is_named", lambda name: not name.startswith("mgnet-4-"))
        with pytest.raises(FileError, match="its network is none of `unigrid models`"):
            export(trained.folder)
        assert not list(shelf.iterdir())

    def test_a_solver(self, place, shelf, capsys):
        result = unigrid.train_solver(training.anisotropic(1.0, 15), epochs=1, steps=2, out=place / "run", progress=False)
        assert main([str(place / "run")]) == 0
        assert capsys.readouterr().out.startswith(
            "poisson-net@poisson: 18 parameters in 280 bytes, float64; convergence factor"
        )
        again = unigrid.load_pretrained("poisson-net").model
        for name, value in again.state_dict().items():
            assert torch.equal(value, result.model.state_dict()[name])
        assert main([str(place / "run")]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1
        assert printed.err.startswith("unigrid: error: ")
        assert main([str(place / "run"), "--force"]) == 0
