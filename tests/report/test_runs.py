"""The page of a training run, whole or in part, and of what only looks like one."""

import json
import re
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from few_images import few_images  # noqa: E402

import unigrid  # noqa: E402
from unigrid import report  # noqa: E402
from unigrid.files import FileError  # noqa: E402
from unigrid.report import records, words  # noqa: E402

pytestmark = pytest.mark.usefixtures("undrawn")
IMAGE = '"><img src=x onerror=alert(1)>'
HOSTILE = (IMAGE, "<script>alert(2)</script>{{ 7 * 7 }}</style>", "\u202eabc" + "x" * 10**5)
SMALL = unigrid.MgNetConfig(steps=(1, 1), features=2)
OPTIONS = {"epochs": 2, "batch_size": 16, "device": "cpu", "flip": False, "learning_rate": 0.05}


def with_classes(names):
    data = few_images(64)
    return unigrid.training.ImageData("custom", data.train, data.test, tuple(names), data.mean, data.std)


def trained(folder, data, **options):
    unigrid.train(data, SMALL, out=folder, progress=False, **OPTIONS, **options)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of two seeds, and the data."""
    data = few_images(64)
    return trained(tmp_path_factory.mktemp("two") / "run", data, seed=(3, 11)), data


@pytest.fixture
def run(two, tmp_path):
    """A copy of one of them, to be damaged."""
    return shutil.copytree(two[0] / "seed-3", tmp_path / "run")


def edit(path, change):
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def test_the_page_has_what_the_run_came_to(two, read):
    folder, data = two
    page = read(report.of_run(folder / "seed-3", dataset=data, device="cpu"))
    result = json.loads((folder / "seed-3" / "result.json").read_text())
    assert f"It recognizes {100 * result['test_accuracy']:.1f} % of the 20 test pictures" in page.text
    assert "the most frequent class would be right in 35.0 %" in page.text  # 7 of 20
    counts = np.array(result["confusion"])
    cells = [attributes["aria-label"] for name, attributes in page.elements if name == "a" and "aria-label" in attributes]
    for true, guess in np.argwhere(counts):
        what = "recognized" if true == guess else f"taken for {'abc'[guess]}"
        assert f"{counts[true, guess]} of {'abc'[true]} {what}" in cells
    assert "Choose a cell to see the pictures behind it" in page.text
    assert "Level 1, 4 × 4" in page.text
    assert "residual f − A u" in page.text
    assert page.text.count("the same channels and colors") >= 4
    for slot in ("A , level 0", "B , level 1", "R , level 0", "Π , level 0"):
        assert slot in page.text
    assert "label_smoothing" in page.text
    assert torch.__version__ in page.text


def test_behind_a_cell_are_its_own_pictures_the_surest_first(two, read):
    folder, data = two
    tested = unigrid.training.load_trained(folder / "seed-3", "cpu").evaluate(data)
    sure, guess = tested.logits.softmax(1).max(1)
    page = report.of_run(folder / "seed-3", dataset=data, device="cpu").html
    for true in range(3):
        for other in range(3):
            own = [n for n in range(20) if (tested.labels[n], guess[n]) == (true, other)]
            own.sort(key=lambda n: -sure[n])
            panel = re.search(rf'id="cell-{true}-{other}">(.*?)</section>', page, re.DOTALL)
            shown = [] if panel is None else [int(n) for n in re.findall(r'alt="test picture (\d+),', panel[1])]
            assert shown == own[:8]


def test_several_seeds_are_one_page(two, read):
    folder, data = two
    page = read(report.of_run(folder, dataset=data, device="cpu", images=[3, 5]))
    results = [json.loads((folder / f"seed-{seed}" / "result.json").read_text()) for seed in (3, 11)]
    mean = sum(result["test_accuracy"] for result in results) / 2
    assert f"recognizes {100 * mean:.1f} % of the 20 test pictures, the mean of 2 runs" in page.text
    assert "40 answers of all seeds together" in page.text
    assert f"seed 11 2 of 2 {100 * results[1]['test_accuracy']:.2f} %" in page.text
    assert "test picture 3, a" in page.text
    assert "test picture 5, c" in page.text
    with pytest.raises(ValueError, match="images must be an integer from 0 to 19, got 20"):
        report.of_run(folder, dataset=data, device="cpu", images=20)
    with pytest.raises(ValueError, match="images must be at most 12 for one page, got 13"):
        report.of_run(folder, dataset=data, device="cpu", images=range(13))


def test_what_is_missing_is_stated(two, run, read):
    page = read(report.of_run(run, device="cpu"))
    assert "No test pictures: run/checkpoint-" in page.text
    assert "pass the data set to evaluate it on; --dataset names them" in page.text
    assert "20 answers" in page.text  # of the result
    assert "Choose a cell" not in page.text
    assert "Level by level" not in page.text
    for path in run.glob("*.pt"):
        path.unlink()
    page = read(report.of_run(run, device="cpu"))
    assert "No network, and so no kernels and no pictures: run: holds no checkpoint" in page.text
    (run / "result.json").write_text("{")
    page = read(report.of_run(run, device="cpu"))
    assert "result.json: damaged, and left out" in page.text
    assert "On the pictures that it was trained with" in page.text


def test_an_unfinished_run_is_not_tested(two, run, read):
    (run / "result.json").unlink()
    page = read(report.of_run(run, dataset=two[1], device="cpu"))
    assert "not finished: 2 of 2 epochs are done, and the test set was not read" in page.text
    assert "Confusion" not in page.text
    assert "test picture 0, a" in page.text


def test_hostile_names_are_texts(tmp_path, read):
    pages = []
    for number, names in enumerate((HOSTILE, ("a", "b", "c"))):
        data = with_classes(names)
        folder = trained(tmp_path / (IMAGE.replace("/", "") if number == 0 else "plain"), data)
        if number == 0:
            edit(folder / "config.json", lambda facts: facts.update(command=IMAGE, device=IMAGE, versions={IMAGE: IMAGE}))
            edit(folder / "config.json", lambda facts: facts["configuration"]["protocol"].update({IMAGE: HOSTILE[1]}))
        else:
            edit(folder / "config.json", lambda facts: facts.update(command="c", device="d", versions={"p": "1"}))
            edit(folder / "config.json", lambda facts: facts["configuration"]["protocol"].update({"x": "y"}))
        page = report.of_run(folder, dataset=data, device="cpu")
        assert len(page.html) < 600_000
        assert "\u202e" not in page.html
        pages.append(read(page))
    assert pages[0].tags == pages[1].tags
    assert pages[0].text.count(IMAGE) > 10


def test_many_classes_are_pairs():
    from unigrid.report.confusions import confusion_of

    matrix = np.diag(np.full(60, 5)) + np.eye(60, k=1, dtype=np.int64)
    matrix[7, 9] = 3
    found = confusion_of(matrix, [f"c{n}" for n in range(60)], [], None)
    assert found.rows == ()
    assert found.picture is not None
    assert (found.worst[0].label, found.worst[0].taken_for, found.worst[0].count) == ("c7", "c9", 3)
    assert len(found.worst) == 24


def test_a_network_of_ones_own_is_passed(tmp_path, read):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    data = few_images(64)
    unigrid.train(data, network, out=tmp_path / "run", progress=False, **OPTIONS)
    assert "so does unigrid.report.of_run(folder, model=...)" in read(report.of_run(tmp_path / "run", dataset=data)).text
    fresh = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    before = fresh[1].weight.clone()
    page = read(report.of_run(tmp_path / "run", dataset=data, model=fresh, device="cpu"))
    assert "579 parameters" in page.text
    assert "No levels: Sequential has no forward_intermediates" in page.text
    assert page.pictures == 20  # behind cells, of which none has more than 8
    assert torch.equal(fresh[1].weight, before)


def test_a_solver_has_factors_and_kernels(tmp_path, read):
    result = unigrid.train_solver(unigrid.Poisson((15, 15)), epochs=1, steps=2, out=tmp_path / "run")
    page = read(report.of_run(tmp_path / "run"))
    assert f"One cycle multiplies the error by {result.factor:.3g}" in page.text
    assert "B , level 0 one kernel" in page.text
    assert page.pictures == 2
    assert "Confusion" not in page.text
    assert "not finished" not in page.text


def test_folders_that_hold_no_run(two, run, tmp_path):
    refuse = [
        (tmp_path / "rum", r"rum: no such folder; did you mean 'run'\?"),
        (run / "config.json", "config.json: is a file; give the folder of a run, .*run if this is a part of one"),
        (tmp_path, r"holds no run, as there is no config.json in it; give one of the runs in it: run$"),
        (two[0].parent, "give one of the runs in it: run$"),
    ]
    for path, message in refuse:
        with pytest.raises(FileError, match=message):
            report.of_run(path)
    (run / "log.jsonl").write_text("")
    with pytest.raises(FileError, match="no epoch of the run has ended yet"):
        report.of_run(run)
    (run / "config.json").write_text('{"configuration": 3}')
    with pytest.raises(FileError, match=r"config.json: damaged, or not written by `unigrid train`"):
        report.of_run(run)


def test_names_of_networks():
    configuration = {"kind": "MgNetConfig", **json.loads(json.dumps(unigrid.MgNetConfig(features=24, num_classes=7).__dict__))}
    assert words.model_name(configuration) == "mgnet-24-Bl"
    assert words.model_name({**configuration, "steps": [1, 1]}) == "MgNet"
    assert words.model_name({"kind": "custom Net"}) == "custom Net"


def test_times_in_words():
    assert [words.duration(seconds) for seconds in (0.04, 59.99, 61, 3599.6, 86_400)] == [
        "0.0 s", "60.0 s", "1 min 01 s", "1 h 00 min", "24 h 00 min",
    ]  # fmt: skip


def test_rows_keep_numbers_alone(run):
    (run / "log.jsonl").write_text('{"step": 1, "epoch": 1, "train_loss": "nan", "x": "<b>"}\n{"step": 2, "epoch": "2"}\n')
    (record,) = records.read(run)
    assert [sorted(row) for row in record.rows] == [["epoch", "step", "train_loss"]]
