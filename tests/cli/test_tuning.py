"""`unigrid train` on pictures of one's own: folders, fine-tuning, early stopping, scores per class."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from unigrid import training

TINY = "--model mgnet-4-Bl --batch-size 8 --epochs 1 --device cpu"


@pytest.fixture
def photos(place):
    """Pictures of several sizes in two classes, one bright and one dark, for training and for testing."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 6)):
        for name, level in (("dark", 20), ("light", 180)):
            (place / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(60, size=(20 + number, 30, 3)) + level
                Image.fromarray(pixels.astype(np.uint8)).save(place / "photos" / split / name / f"{number}.png")
    return place / "photos"


def test_a_folder_of_pictures_is_trained_on_and_its_run_fine_tuned_on_another(command, photos, place, loads):
    printed = command(f"train {photos} --size 16 {TINY} --validation 0.2 --set stratify=true --per-class")
    assert printed.code == 0, printed.err
    folder = os.path.join("runs", "photos-mgnet-4-Bl-fast")
    for text in (
        "32 training images, 8 kept apart for validation, 12 test images, 16 x 16 x 3, 2 classes.", f"Files: {folder}",
        "class  precision  recall      f1  images", "dark ", "light",
    ):  # fmt: skip
        assert text in printed.out
    assert training.load_trained(folder, device="cpu").classes == ("dark", "light")
    assert command(f"predict {folder} {photos}/test/dark/0.png").code == 0

    (photos / "train" / "dark").rename(photos / "train" / "black")
    (photos / "test" / "dark").rename(photos / "test" / "black")
    tuned = f"train {photos} --size 16 --weights photos-mgnet-4-Bl-fast {TINY.replace('--model mgnet-4-Bl', '')}"
    refused = command(tuned)
    assert (refused.code, "new_head=True (--new-head)" in refused.err) == (2, True)
    printed = command(f"{tuned} --new-head --set optimizer=adamw --set schedule=cosine --set mixup=0.2 --set cutmix=1 --json")
    assert printed.code == 0, printed.err
    facts = loads(printed.out)
    assert facts["protocol"]["optimizer"] == "adamw"
    assert facts["protocol"]["learning_rate"] == 1e-3
    assert facts["dataset"]["classes"] == ["black", "light"]
    assert facts["runs"][0]["folder"] == os.path.join("runs", "photos-from-photos-mgnet-4-Bl-fast-fast")


def test_early_stopping_with_a_validation_folder(command, photos, loads):
    text = f"train {photos} --size 12,16 {TINY} --epochs 9 --validation {photos}/test --set patience=1 --learning-rate 1e-9"
    facts = loads(command(f"{text} --json").out)
    run = facts["runs"][0]
    assert (facts["dataset"]["shape"], facts["validation"]) == ([3, 12, 16], 12)
    assert len(run["history"]) == run["tested_epoch"] + 1 < 9
    resumed = command(f"{text} --resume")
    assert resumed.code == 0
    assert f"after epoch {run['tested_epoch']}, the best on the validation set of {len(run['history'])}" in resumed.out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("", "sizes, from 20 x 30 to 39 x 30; size=64 (--size 64) cuts them"),
        ("--size 0", "size must be an integer >= 1, got 0"),
        ("--size 8,8,8", "size must be one number of pixels, or height and width, got 3 numbers"),
        ("--size 4", "images of 4 x 4 pixels; 4 levels halve them and need at least 8 x 8"),
        ("--size 16 --validation nowhere/", "nowhere: no such file or folder"),
        ("--size 16 --new-head", "--new-head needs --weights, whose other layers are kept"),
        ("--size 16 --weights nowhere", "nowhere: no such file, no run of this name in runs, and no trained network"),
        ("--size 16 --set patience=2", "patience=2 needs validation images"),
        ("--size 16 --set class_weights=1,2,3", "class_weights must be one number per class, 2, or 'balanced'; got 3 numbers"),
        ("--size 16 --set class_weights=balancd", "did you mean 'balanced'?"),
        ("--size 16 --set optimizer=adm", "did you mean 'adamw'?"),
    ],
)
def test_what_is_wrong_is_one_line(refused, photos, options, text):
    refused(f"train {photos} {TINY} {options}", text)
    assert not os.path.exists("runs")


def test_class_weights_by_numbers(command, photos, loads):
    printed = command(f"train {photos} --size 16 {TINY} --set class_weights=1,2.5 --json")
    assert loads(printed.out)["protocol"]["class_weights"] == [1.0, 2.5]
    stored = json.loads((photos.parent / "runs" / "photos-mgnet-4-Bl-fast" / "config.json").read_text())
    assert stored["configuration"]["protocol"]["class_weights"] == [1.0, 2.5]


def test_an_evaluation_has_logits_top_5_and_scores_per_class(command, trained, loads):
    printed = command(f"evaluate {trained.folder} --per-class --logits logits.npz --json")
    assert printed.code == 0, printed.err
    facts = loads(printed.out)
    with np.load("logits.npz") as stored:
        logits, labels, classes = (stored[name] for name in ("logits", "labels", "classes"))
    assert (logits.shape, labels.shape, list(classes)) == ((200, 10), (200,), facts["classes"])
    assert (logits.argmax(1) == labels).mean() == pytest.approx(facts["accuracy"])
    in_top = (np.argsort(-logits, axis=1, kind="stable")[:, :5] == labels[:, None]).any(1).mean()
    assert in_top == pytest.approx(facts["top5_accuracy"])
    for label, row in enumerate(facts["per_class"]):
        assert (row["class"], row["support"]) == (classes[label], (labels == label).sum())
        assert row["recall"] == pytest.approx((logits[labels == label].argmax(1) == label).mean())
    report = command(f"evaluate {trained.folder} --per-class").out
    assert f"Among the 5 likeliest classes: {100 * in_top:.2f} %" in report
    assert "crescent " in report


def test_logits_are_written_to_npz_files_alone(refused, trained):
    refused(f"evaluate {trained.folder} --logits logits.csv", ".npz")
