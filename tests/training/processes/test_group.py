"""Several processes take the steps of one: weights, history, test, and the images of every step."""

import shutil

import pytest
import several
import torch
from few_images import few_images
from several import CASES, Net

from unigrid.training import evaluate_model
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.runs import checkpoint

pytestmark = pytest.mark.system
SAME = [case for case in CASES if case != "norm"]
DONE = {"no norm": 8, "synchronized norm": 8, "mixed": 11}  # steps, of runs that two processes begin and do not end
TOLERANCE = 1e-12

PAIR = """
import contextlib, io, signal, sys
import pytest, torch
import several
from few_images import few_images
from several import CASES, Net
import unigrid
from unigrid.cli import main
from unigrid.training import Protocol, evaluate_model
from unigrid.training.data.augmentation import Pipeline
from unigrid.training.runs.processes import joined

def told(words):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        return main(["train", *words.split()]), errors.getvalue()

def raised(call):
    with pytest.raises(Exception) as error:
        call()
    return type(error.value).__name__, str(error.value)

class Unused(Net):
    def __init__(self):
        super().__init__(False)
        self.unused = torch.nn.Linear(2, 2)

with joined() as group:
    found = {case: several.train(case) for case in CASES}
    for case in ("no norm", "synchronized norm"):
        several.train(case, callback=several.stop_after(2), out=case)

    def interrupt(step):
        if (group.rank, step) == (1, 11):
            signal.raise_signal(signal.SIGINT)

    try:
        several.train("mixed", at_step=interrupt, out="mixed")
    except KeyboardInterrupt:
        found["interrupted"] = True

    data = few_images(101)
    for count in (101, 1):
        images = Pipeline(data.train.images[:count], data.mean, data.std, dtype=torch.float64)
        found[count] = evaluate_model(Net(True), images, data.train.labels[:count], processes=group)

    protocol = Protocol("plain", 1, batch_size=8, learning_rate=0.1)
    how = {"device": "cpu", "progress": False}
    few = few_images(24)
    found["seeds"] = raised(lambda: unigrid.train(few, Net(True), protocol, seed=group.rank, **how))
    found["batch"] = raised(lambda: unigrid.train(few, Net(True), protocol, batch_size=3, **how))
    found["folder"] = raised(lambda: several.train("norm", out="no norm"))
    how |= {"learning_rate": 1e30, "epochs": 20, "out": "diverges"}
    found["diverges"] = raised(lambda: unigrid.train(few, Net(False), protocol, **how))
    found["one fails"] = raised(lambda: group.together(lambda: 1 / (1 - group.rank)))
    how |= {"learning_rate": 0.1, "epochs": 1, "out": None}
    found["unused"] = raised(lambda: unigrid.train(few, Unused(), protocol, **how))
    wrapped = torch.nn.parallel.DistributedDataParallel(Unused(), find_unused_parameters=True)
    assert unigrid.train(few, wrapped, protocol, **how).history[-1]["step"] == 3
    found["commands"] = [told(words) for words in ("shepes", "poisson", "shapes --batch-size 1 --subset 99")]
    found["first"] = group.first_on_machine(lambda: group.rank), group.by_writer(lambda: group.rank), group.any(group.rank == 1)
    torch.save(found, f"{group.rank}.pt")
"""

FOUR = """
import shutil
import several, torch
from unigrid.training.runs.processes import joined

with joined() as group:
    found = {}
    for case in ("no norm", "synchronized norm", "mixed"):
        folder = group.by_writer(lambda: str(shutil.copytree(case, f"four/{case}")))
        found[case] = several.train(case, out=folder, resume=True)
    torch.save(found, f"four/{group.rank}.pt")
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes found, and the folder in which they stopped, and in which four others went on."""
    folder = tmp_path_factory.mktemp("pair")
    several.start((2, PAIR), (4, FOUR), folder=folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)], folder


@pytest.fixture(scope="module")
def alone():
    """alone(case) -> what one process finds."""
    kept = {}

    def train(case):
        if case not in kept:
            kept[case] = several.train(case)
        return kept[case]

    return train


def check_same(found, wanted):
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=0, atol=TOLERANCE, msg=name)
    for row, other in zip(found["history"], wanted["history"], strict=True):
        assert row == pytest.approx(other, rel=1e-6)
    for value, other in zip(found["test"], wanted["test"], strict=True):
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(other), rtol=0, atol=1e-6)
    assert found["best"] == wanted["best"]


def in_order(shares, overlap=0):
    """The images of every step, from what each process has taken in it."""
    return [[index for share in step for index in share[overlap:]] for step in zip(*shares, strict=True)]


@pytest.mark.parametrize("case", SAME)
def test_two_processes_are_one(pair, alone, case):
    wanted = alone(case)
    assert wanted["history"][-1]["step"] == several.STEPS
    for found in pair[0]:
        check_same(found[case], wanted)
    assert in_order([found[case]["seen"] for found in pair[0]], overlap=case == "mixed") == wanted["seen"]
    assert all(len(found[case]["seen"][0]) == 4 + (case == "mixed") for found in pair[0])


def test_norms_over_shares_are_another_training_with_one_result(pair, alone):
    one, other = (found["norm"]["weights"] for found in pair[0])
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not torch.allclose(one["first.weight"], alone("norm")["weights"]["first.weight"], atol=1e-3)


@pytest.mark.parametrize("case", DONE)
def test_two_stop_and_one_goes_on(pair, alone, case, tmp_path):
    folder = shutil.copytree(pair[1] / case, tmp_path / "run")
    done = checkpoint.latest(folder).step
    assert done == DONE[case]
    assert pair[0][0]["interrupted"]
    found = several.train(case, out=folder, resume=True)
    check_same(found, alone(case))
    assert found["seen"] == alone(case)["seen"][done:]


def test_two_stop_and_four_go_on(pair, alone):
    folder = pair[1] / "four"
    found = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(4)]
    for case, done in DONE.items():
        check_same(found[0][case], alone(case))
        assert in_order([each[case]["seen"] for each in found], overlap=case == "mixed") == alone(case)["seen"][done:]
        assert (folder / case / "result.json").exists()


def test_every_image_is_evaluated_once(pair):
    data, model = few_images(101), Net(True)
    for count in (101, 1):
        images = Pipeline(data.train.images[:count], data.mean, data.std, dtype=torch.float64)
        wanted = evaluate_model(model, images, data.train.labels[:count])
        for found in pair[0]:
            assert found[count].count == count
            assert torch.equal(found[count].confusion, wanted.confusion)
            torch.testing.assert_close(found[count].logits, wanted.logits, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("seeds", "ValueError", "has another seed than process"),
        ("batch", "ValueError", "last batch of an epoch: 3, too few for 2 processes, each needs 2; take fewer processes"),
        ("folder", "FileError", "holds a run already"),
        ("diverges", "TrainingError", "take a learning rate below"),
        ("unused", "RuntimeError", "find_unused_parameters"),
        ("one fails", "ZeroDivisionError", "division by zero"),
    ],
)
def test_an_error_is_raised_in_all(pair, what, kind, words):
    for found in pair[0]:
        assert found[what][0] == kind
        assert words in found[what][1]


def test_the_text_of_an_error_names_another_process(pair):
    assert pair[0][0]["one fails"][1].startswith("process 1 on ")
    assert not pair[0][1]["one fails"][1].startswith("process")


def test_commands_tell_once_what_is_wrong(pair):
    words = (
        "dataset or path 'shepes'",
        "poisson is trained by one process",
        "images in the last batch of an epoch: 1, too few for 2",
    )
    for (code, text), (other, nothing), wanted in zip(*(found["commands"] for found in pair[0]), words, strict=True):
        assert (code, other, nothing) == (2, 2, "")
        assert wanted in text


def test_what_one_process_does_for_all(pair):
    assert [found["first"] for found in pair[0]] == [(0, 0, True), (1, 0, True)]
