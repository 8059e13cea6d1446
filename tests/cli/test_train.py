"""`unigrid train`: what it trains, prints and writes; what it says of wrong input; Ctrl-C."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import unigrid
from unigrid import training
from unigrid.cli import main, options, train
from unigrid.machine import versions
from unigrid.training import PROTOCOLS
from unigrid.training.data import datasets


@pytest.fixture
def asked(monkeypatch):
    """Put what is asked of the library into a dictionary, in place of training."""
    given = {}

    def note(dataset, model, protocol, **keywords):
        given.update(keywords, dataset=dataset, model=model, protocol=protocol)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", note)
    return given


class TestTrain:
    def test_what_it_writes(self, trained):
        assert sorted(os.listdir(trained.place)) == ["confusion.pdf", "curves.png", "runs"]
        names = set(os.listdir(trained.folder))
        assert {"best.pt", "config.json", "log.csv", "log.jsonl", "result.json", "weights.safetensors"} <= names
        assert trained.facts["written"] == ["curves.png", "confusion.pdf", os.path.join("runs", "shapes-mgnet-4-Bl-fast")]

    def test_the_summary(self, trained, loads):
        facts, (run,) = trained.facts, trained.facts["runs"]
        result = loads((trained.folder / "result.json").read_text())
        assert facts["test_accuracy"] == run["test_accuracy"] == result["test_accuracy"]
        assert (run["best_epoch"], run["best_test_accuracy"]) == (result["best_epoch"], result["best_test_accuracy"])
        assert facts["dataset"]["synthetic"] is True
        assert facts["model"]["name"] == "mgnet-4-Bl"
        assert facts["model"]["parameters"] == sum(p.numel() for p in unigrid.create_model("mgnet-4-Bl").parameters())
        assert (facts["protocol"]["average"], facts["protocol"]["epochs"]) == (0.5, 3)
        assert (facts["subset"], facts["validation"], facts["device"]) == (128, 40, "cpu")
        assert [row["epoch"] for row in run["history"]] == [1, 2, 3]
        assert facts["images_per_second"] == pytest.approx(3 * 64 / facts["seconds"], rel=0.01)  # 88 images: one batch of 64
        assert facts["versions"] == versions()

    def test_a_line_an_epoch_where_nobody_sees_a_bar(self, trained):
        lines = trained.err.splitlines()
        assert lines[0].split()[:3] == ["epoch", "loss", "accuracy"]
        for line, row in zip(lines[1:], trained.facts["runs"][0]["history"], strict=True):
            epoch, loss, accuracy, validation = line.split()[:4]
            assert int(epoch) == row["epoch"]
            assert float(loss) == pytest.approx(row["train_loss"], abs=1e-4)
            assert float(accuracy) == pytest.approx(100 * row["train_accuracy"], abs=0.01)
            assert float(validation) == pytest.approx(100 * row["validation_accuracy"], abs=0.01)

    def test_what_it_says_before_and_after(self, command, tiny):
        printed = command(f"train shapes {tiny} --epochs 1 --seed 0,7 --plot c.svg --confusion m.png --protocol course")
        assert printed.code == 0
        folder = os.path.join("runs", "shapes-mgnet-4-Bl-course-seeds-0-7")
        for text in (
            "Data: shapes (synthetic), 128 training images, 200 test images, 32 x 32 x 3, 10 classes.",
            f"Model: mgnet-4-Bl, {sum(p.numel() for p in unigrid.create_model('mgnet-4-Bl').parameters()):,} parameters.",
            "Protocol: course, 1 epoch, batch 64, learning rate 0.1 times 0.1 every 30 epochs, momentum 0.9, ",
            "Device: cpu, ", "Seeds: 0, 7.", f"Files: {folder}", "Seed 7: test accuracy ", "(200 images, loss ",
            "[synthetic data]", "images per second", "standard deviation of 2 seeds", "Wrote c.svg", "Wrote m.png",
            f"unigrid predict {os.path.join(folder, 'seed-0')} IMAGE",
        ):  # fmt: skip
            assert text in printed.out
        assert printed.err.count("epoch") == 2  # a header a seed
        assert sorted(os.listdir()) == ["c.svg", "m.png", "runs"]
        assert sorted(os.listdir(folder)) == ["seed-0", "seed-7"]

    def test_every_option_reaches_the_library(self, command, asked, place):
        text = (
            "train shapes --model mgnet-8-Bli --protocol code --epochs 7 --batch-size 32 --learning-rate 0.25 --seed 3,4 "
            "--device cpu --out here --resume --subset 500 --validation 0.1 --set label-smoothing=0.2 --set nesterov=True "
            "--set pad=3 --set schedule=one-cycle --set drop_last=false --monitor"
        )
        assert command(text).code == 130
        assert asked.pop("dataset").name == "shapes"
        assert callable(asked.pop("callback"))
        assert asked == {
            "model": "mgnet-8-Bli", "protocol": "code", "epochs": 7, "batch_size": 32, "learning_rate": 0.25, "seed": [3, 4],
            "device": "cpu", "out": Path("here"), "resume": True, "subset": 500, "validation": 0.1, "label_smoothing": 0.2,
            "nesterov": True, "pad": 3, "schedule": "one-cycle", "drop_last": False, "progress": False, "weights": None,
            "new_head": False,
        }  # fmt: skip

    def test_what_is_not_given_is_left_to_the_protocol(self, command, asked):
        assert command("train shapes").code == 130
        left = {name: asked[name] for name in asked if name not in ("dataset", "callback")}
        assert left == {
            "model": "mgnet-64-Bl", "protocol": "fast", "seed": 0, "device": "auto", "resume": False, "subset": None,
            "validation": 0.0, "progress": False, "out": Path("runs/shapes-mgnet-64-Bl-fast"), "weights": None,
            "new_head": False,
        }  # fmt: skip

    @pytest.mark.parametrize(("seed", "ending"), [("0", ""), ("5", "-seed-5"), ("0,1,2", "-seeds-0-1-2")])
    def test_the_folder_says_the_seeds(self, command, asked, seed, ending):
        command(f"train shapes --seed {seed}")
        assert asked["out"] == Path(f"runs/shapes-mgnet-64-Bl-fast{ending}")

    def test_where_the_data_come_from(self, command, monkeypatch, asked):
        given = []
        monkeypatch.setattr(training, "load", lambda *what: given.append(what) or datasets.load("shapes"))
        command("train cifar10 --data-dir there --download")
        command("train cifar10")
        assert given == [("cifar10", "there", True, None, None), ("cifar10", None, False, None, None)]

    def test_a_bar_on_a_terminal_and_lines_on_request(self, place, monkeypatch, terminal, tiny):
        stream = terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(f"train shapes {tiny} --epochs 1 --json".split()) == 0
        assert "training: 100%" in stream.getvalue()
        assert "accuracy %" not in stream.getvalue()
        stream = terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(f"train shapes {tiny} --epochs 1 --json --monitor --out other".split()) == 0
        assert "training" not in stream.getvalue()
        assert "accuracy %" in stream.getvalue()

    def test_every_protocol_is_described(self):
        for name, protocol in PROTOCOLS.items():
            text = train.described(protocol)
            rate = "0.05 in one cycle, Muon, Nesterov momentum 0.9" if name == "muon" else "0.1"
            assert text.startswith(f"{name}, {protocol.epochs} epochs, batch 128, learning rate {rate}")
            assert ("flip at test time" in text) == protocol.test_flip
            assert ("weight decay 0.0005" in text) == (protocol.weight_decay == 5e-4)
        assert "flip" not in train.described(PROTOCOLS["fast"], flips=False)

    def test_help_knows_every_name_of_the_library(self, command):
        text = " ".join(command("train --help").out.split())
        for name in [*PROTOCOLS, *datasets.NAMES]:
            assert name in text


class TestWrongInput:
    def test_data_that_are_not_there(self, refused):
        error = refused("train cifar10", "`unigrid train cifar10 --download` fetches 171 MB from https://www.cs.toronto.edu/")
        assert "UNIGRID_DATA=FOLDER" in error
        assert os.listdir() == []
        refused("train mnist --data-dir elsewhere", "`unigrid train mnist --download --data-dir elsewhere`")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("train", "required: DATASET"),
            ("train shaeps", "unknown dataset or path 'shaeps'; allowed: 'cifar10', 'cifar100', 'mnist', 'shapes', 'poisson'"),
            ("train shapes --model mgnet-64-BL", "did you mean 'mgnet-64-Bl'"),
            ("train shapes --protocol fats", "did you mean 'fast'"),
            ("train shapes --epoch 3", "did you mean '--epochs'"),
            ("train shapes --set lable_smoothing=0.2", "did you mean 'label_smoothing'"),
            ("train shapes --set name=mine", "unknown protocol field 'name'"),
            ("train shapes --set momentum", "'momentum' is not of the form NAME=VALUE"),
            ("train shapes --set momentum=much", "--set momentum=much: momentum must be a number"),
            ("train shapes --set pad=1.5", "pad must be an integer"),
            ("train shapes --set nesterov=maybe", "unknown value of nesterov 'maybe'; allowed: 'true', 'false'"),
            ("train shapes --set momentum=2", "momentum must be a number from 0 to less than 1, got 2.0"),
            ("train shapes --set schedule=step", "did you mean 'steps'"),
            ("train shapes --set epochs=3 --epochs 4", "epochs is given twice"),
            ("train shapes --set pad=3 --set pad=4", "pad is given twice"),
            ("train shapes --epochs 0", "epochs must be an integer >= 1, got 0"),
            ("train shapes --epochs x", "argument --epochs"),
            ("train shapes --learning-rate=-1", "learning_rate must be a number > 0"),
            ("train shapes --batch-size 100 --subset 64", "batch_size 100 is larger than the 64 training images"),
            ("train shapes --batch-size 9000", "batch_size 9000 is larger than the 1000 training images"),
            ("train shapes --subset 9000", "subset must be a whole number from 1 to 1000"),
            ("train shapes --validation -1", "validation must be a count or a share of the 1000 training images"),
            ("train shapes --validation 1000", "validation must be a count or a share"),
            ("train shapes --seed a", "'a' is not a whole number, or several by comma such as 0,1,2"),
            ("train shapes --seed 1,1", "seeds must be different"),
            ("train shapes --seed -1", "seed must be an integer >= 0"),
            ("train shapes --device gpu", "unknown device 'gpu'"),
            ("train shapes --device cuda:99", "device 'cuda:99'"),
            ("train shapes --plot c.gif", "unknown file ending '.gif'"),
            ("train shapes --plot nowhere/c.png", "there is no directory nowhere"),
            ("train shapes --plot c.png --confusion c.png", "named for two outputs"),
            ("evaluate", "give CHECKPOINT, or --pretrained NAME"),
            ("evaluate nowhere", "nowhere: no such file"),
            ("evaluate .", "holds no checkpoint"),
            ("evaluate . --confusion c.gif", "unknown file ending '.gif'"),
            ("predict .", "give a CHECKPOINT and an IMAGE"),
            ("predict . a.png", "holds no checkpoint"),
            ("predict . a.png --top 0", "--top must be an integer >= 1, got 0"),
            ("models resnet81", "did you mean 'resnet18'"),
        ],
    )  # fmt: skip
    def test_one_line_and_exit_code_2(self, refused, text, expected):
        refused(text, expected)
        assert os.listdir() == []

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(self, refused):
        refused("train shapes --device cuda", "no GPU is there")

    def test_names_are_checked_before_data_are_fetched(self, command, monkeypatch):
        monkeypatch.setattr(training, "load", lambda *_: pytest.fail("loaded"))
        for text in ("--model mgent", "--protocol p", "--set x=1", "--epochs 0", "--device gpu", "--plot c.gif"):
            assert command(f"train cifar10 --download {text}").code == 2

    @pytest.mark.parametrize("text", ["train shapes", "evaluate .", "predict . a.png", "models"])
    def test_without_torch(self, refused, monkeypatch, text):
        monkeypatch.setattr(options, "find_spec", lambda name: None if name == "torch" else name)
        refused(text, "this needs torch: pip install 'unigrid[learn]'")

    def test_a_folder_that_holds_a_run(self, command, trained):
        before = {path: path.read_bytes() for path in trained.folder.iterdir()}
        printed = command(f"{trained.command} --out {trained.folder}")
        assert printed.code == 2
        assert "holds a run already; resume=True (--resume) goes on with it, or choose another folder" in printed.err
        printed = command(f"{trained.command} --out {trained.folder} --resume --set momentum=0.8")
        assert printed.code == 2
        assert "protocol.momentum: 0.9 there, 0.8 now" in printed.err
        assert len(printed.err.splitlines()) == 1
        assert {path: path.read_bytes() for path in trained.folder.iterdir()} == before

    def test_a_loss_that_is_lost_is_exit_code_1(self, command, tiny):
        printed = command(f"train shapes {tiny} --epochs 20 --learning-rate 1e30 --protocol paper")
        assert printed.code == 1
        last = printed.err.splitlines()[-1]
        assert last.startswith("unigrid: the loss ")
        assert "take a learning rate below 1e+30" in last
        assert "Traceback" not in printed.err

    def test_too_little_memory(self, command, monkeypatch, tiny):
        def full(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory, and many lines more\n")

        monkeypatch.setattr(training, "train", full)
        printed = command(f"train shapes {tiny}")
        assert printed.code == 2
        assert printed.err == "unigrid: error: cpu has not enough memory; take a smaller --batch-size or model\n"

    def test_a_fault_of_ours_is_not_dressed_up_as_the_users(self, place, monkeypatch, tiny):
        def broken(*_, **__):
            raise ValueError("a fault")

        monkeypatch.setattr(training, "train", broken)
        with pytest.raises(ValueError, match="a fault"):
            main(f"train shapes {tiny}".split())


class TestInterrupts:
    def test_the_command_that_resumes(self, command, asked):
        text = "train shapes --out 'my runs/one' --epochs 3"
        printed = command(text)
        assert (printed.code, printed.err) == (130, f"unigrid: interrupted; to go on: unigrid {text} --resume\n")
        assert command(f"{text} --resume").err.count("--resume") == 1

    @pytest.mark.skipif(os.name != "posix", reason="signals")
    @pytest.mark.system
    def test_ctrl_c_and_resume_give_what_an_uninterrupted_run_gives(self, command, environment, trained):
        text = f"{trained.command.replace('--subset 128', '--subset 300')} --json"  # 260 images: epochs of 4 steps
        assert command(f"{text} --out whole").code == 0
        printed = _interrupted(f"{text} --out parts", step=6, environment=environment)
        assert printed.returncode == 130
        last = printed.stderr.splitlines()[-1]
        assert last == f"unigrid: interrupted; to go on: unigrid {text} --out parts --resume"
        assert "Traceback" not in printed.stderr
        assert max(path.name for path in Path("parts").glob("checkpoint-*")) == "checkpoint-000000006.pt"
        assert not os.path.exists("parts/result.json")
        resumed = command(last.partition("go on: unigrid ")[2])
        assert resumed.code == 0
        assert [line.split()[0] for line in resumed.err.splitlines()] == ["epoch", "2", "3"]
        parts, whole = (load_file(f"{name}/weights.safetensors") for name in ("parts", "whole"))
        assert all(torch.equal(parts[name], whole[name]) for name in {**parts, **whole})
        assert _without_times("parts/log.jsonl") == _without_times("whole/log.jsonl")


def _interrupted(text, step, environment):
    """Run a command line in a process of its own, in which Ctrl-C is pressed during a step of training."""
    # A parent may have told its children to ignore SIGINT; a terminal's child does not.
    program = f"""
import functools, os, signal
from unigrid.cli import main
from unigrid.training.data import shapes
from unigrid.training.images.loop import ImageRun
signal.signal(signal.SIGINT, signal.default_int_handler)
shapes.make = functools.partial(shapes.make, 1000, 200)
original = ImageRun._step
def pressed(run, plan):
    if run.progress.step == {step - 1}:
        os.kill(os.getpid(), signal.SIGINT)
    original(run, plan)
ImageRun._step = pressed
raise SystemExit(main({shlex.split(text)!r}))
"""
    more = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums of several threads are rounded otherwise
    settings = {"capture_output": True, "text": True, "timeout": 120, "check": False}
    return subprocess.run([sys.executable, "-c", program], env={**environment, **more}, **settings)


def _without_times(path):
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]
