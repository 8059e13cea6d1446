"""Labelled pictures in files: folders, .npz, parquet; compared with the pixels that were written."""

import io
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unigrid.files import FileError
from unigrid.training import DatasetError, load
from unigrid.training.data.datasets import load_test, validation_set

COUNTS = {"cat": 12, "dog": 8, "owl": 10}


def pixels(number, size=(9, 7), channels=3):
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(number).integers(256, size=shape, dtype=np.uint8)


def write(folder, counts=COUNTS, size=(9, 7), channels=3, ending=".png", first=0):
    """Write that many pictures per class, each another one; return {class: [pixels]} as they were written."""
    written = {}
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        written[name] = []
        for number in range(count):
            first += 1
            written[name].append(pixels(first, size, channels))
            Image.fromarray(written[name][-1]).save(folder / name / f"{number:03d}{ending}")
    return written


def by_class(*splits, names):
    """{class: the sorted bytes of its images} of splits taken together."""
    found = {name: [] for name in names}
    for split in splits:
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            found[names[label]].append(np.moveaxis(image.numpy(), 0, 2).tobytes())
    return {name: sorted(images) for name, images in found.items()}


def written_bytes(*parts):
    return {name: sorted(each.tobytes() for part in parts for each in part.get(name, [])) for name in parts[0]}


def encoded(array, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


# folders


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_per_class(tmp_path, channels, as_text):
    written = write(tmp_path, channels=channels)
    data = load(str(tmp_path) if as_text else tmp_path)
    assert (data.classes, data.shape, data.validation) == (("cat", "dog", "owl"), (channels, 9, 7), None)
    assert (len(data.train), len(data.test)) == (27, 3)
    assert by_class(data.train, data.test, names=data.classes) == written_bytes(written)


def test_folders_for_training_validation_and_test_with_classes_matched_by_name(tmp_path):
    train, held = write(tmp_path / "train"), write(tmp_path / "val", {"owl": 3}, first=50)
    test = write(tmp_path / "test", {"owl": 2, "dog": 1}, first=80)
    data = load(tmp_path)
    names = data.classes
    assert by_class(data.train, names=names) == written_bytes(train)
    assert by_class(data.test, names=names) == {"cat": [], **written_bytes(test)}
    assert by_class(data.validation, names=names) == {"cat": [], "dog": [], **written_bytes(held)}


def test_training_and_validation_folders_alone(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "valid", {"cat": 4}, first=50)
    data = load(tmp_path)
    assert (len(data.train), len(data.test), len(data.validation)) == (27, 3, 4)


def test_pictures_at_any_depth_hidden_files_and_folders_left_out(tmp_path):
    write(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "a" / "more").mkdir()
    (tmp_path / "a" / "000.png").rename(tmp_path / "a" / "more" / "x.PNG")
    for clutter in (".DS_Store", "Thumbs.db", ".x.png"):
        (tmp_path / "a" / clutter).write_bytes(b"no picture")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "README.md").write_text("pictures")
    assert (load(tmp_path).classes, len(load(tmp_path).train)) == (("a", "b"), 18)


@pytest.mark.parametrize(("size", "shape"), [(8, (8, 8)), ((8,), (8, 8)), ((6, 10), (6, 10)), ([6, 10], (6, 10))])
def test_pictures_of_any_size_are_cut_about_their_centers_and_resized(tmp_path, size, shape):
    write(tmp_path, {"a": 6}, size=(20, 40))
    write(tmp_path, {"b": 6}, size=(9, 7))
    data = load(tmp_path, size=size)
    assert data.shape == (3, *shape)
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = (10, 200, 30)  # the square in the middle
    for number in range(6):
        Image.fromarray(wide).save(tmp_path / "a" / f"{number:03d}.png")
    square = load(tmp_path, size=8)
    inner = square.train.images[square.train.labels == 0][:, :, 2:-2, 2:-2].int()
    assert ((inner - torch.tensor([10, 200, 30])[:, None, None]).abs() <= 1).all()


def test_a_turned_photo_is_upright(tmp_path):
    write(tmp_path, {"a": 9, "b": 10}, size=(9, 7))
    sideways = pixels(99, (7, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(sideways).save(tmp_path / "a" / "turned.png", exif=exif)
    data = load(tmp_path)
    assert data.shape == (3, 9, 7)
    assert np.rot90(sideways, -1).tobytes() in by_class(data.train, data.test, names=data.classes)["a"]


def test_a_picture_in_color_among_gray_ones_makes_all_of_them_rgb(tmp_path):
    gray = write(tmp_path, {"a": 10, "b": 9}, channels=1)
    write(tmp_path, {"b": 1}, channels=3, first=90)
    data = load(tmp_path)
    assert data.shape == (3, 9, 7)
    assert np.repeat(gray["a"][0][:, :, None], 3, 2).tobytes() in by_class(data.train, data.test, names="ab")["a"]


def _broken(folder):
    (folder / "cat" / "000.png").write_bytes(b"no picture")


def _text(folder):
    (folder / "cat" / "notes.txt").write_text("no picture")


def _loose(folder):
    Image.fromarray(pixels(0)).save(folder / "loose.png")


def _empty(folder):
    (folder / "ant").mkdir()


def _larger(folder):
    Image.fromarray(pixels(0, (20, 30))).save(folder / "cat" / "000.png")


def _split_and_class(folder):
    write(folder / "train")


def _two_validation_folders(folder):
    for name in COUNTS:
        (folder / name).rename(folder.parent / name)
    for split in ("train", "val", "valid"):
        write(folder / split)


def _other_class(folder):
    for name in COUNTS:
        (folder / name).rename(folder.parent / name)
    write(folder / "train")
    write(folder / "test", {"ape": 3})


def _truncated(folder):
    path = folder / "dog" / "001.jpg"
    Image.fromarray(pixels(1, (90, 70))).save(path)
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("spoil", "size", "text"),
    [
        (_broken, None, "000.png: not a readable picture"),
        (_broken, 8, "000.png: not a"),
        (_text, 8, "notes.txt: not one of .png .jpg"),
        (_loose, 8, "loose.png: belongs to no class"),
        (_empty, 8, "ant: holds no picture; remove the folder"),
        (_larger, None, "pictures of 2 sizes, from 9 x 7 to 20 x 30; size=64 (--size 64) cuts them"),
        (_split_and_class, 8, "holds train and 'cat', which is no split (train, val, test); move one of them"),
        (_two_validation_folders, 8, "holds a split twice: train, val, valid"),
        (_other_class, 8, "class 'ape' is none of the training's: cat, dog, owl"),
        (_truncated, 8, "001.jpg: not a readable picture"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_with_the_place(tmp_path, spoil, size, text):
    folder = tmp_path / "photos"
    write(folder)
    spoil(folder)
    with pytest.raises(FileError, match=re.escape(text)) as error:
        load(folder, size=size)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none/", "none: no such file or folder"),
        ("a.npz", "no such file"),
        ("./file.csv", "not a folder"),
        (".", "holds no folder"),
    ],
)
def test_paths_without_pictures(tmp_path, monkeypatch, name, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.csv").write_text("1,2\n")
    with pytest.raises(DatasetError, match=text):
        load(name)


# .npz


IMAGES, LABELS = np.random.default_rng(0).integers(256, size=(40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 4


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("images", "labels"), (36, 4, None)),
        (("x", "y"), (36, 4, None)),
        (("x_train", "y_train", "x_test", "y_test"), (40, 40, None)),  # as Keras names them
        (("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"), (40, 40, 40)),  # MedMNIST
    ],
)
@pytest.mark.parametrize("column", [True, False], ids=["labels (n, 1)", "labels (n,)"])
def test_arrays_in_a_file(tmp_path, names, sizes, column):
    labels = LABELS[:, None] if column else LABELS
    np.savez(tmp_path / "a.npz", **{name: IMAGES if at % 2 == 0 else labels for at, name in enumerate(names)})
    data = load(tmp_path / "a.npz")
    assert data.shape == (3, 8, 8)
    assert (len(data.train), len(data.test), data.validation and len(data.validation)) == sizes
    if sizes[0] == 40:
        assert torch.equal(data.train.images, torch.from_numpy(np.moveaxis(IMAGES, 3, 1)))
        assert data.train.labels.tolist() == LABELS.tolist()


def test_arrays_are_resized_and_classes_have_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS, classes=["a", "b", "c", "d"])
    data = load(tmp_path / "a.npz", size=(4, 6))
    assert (data.classes, data.shape, len(data.test)) == (("a", "b", "c", "d"), (3, 4, 6), 4)
    assert load((IMAGES, LABELS), size=16).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"f": IMAGES}, "a.npz: holds f; labelled images are images and labels, or x_train"),
        ({"images": np.array([{}], dtype=object), "labels": LABELS}, "a.npz: not a readable .npz file"),
        ({"x_test": IMAGES, "y_test": LABELS}, "a.npz: holds x_test, y_test; labelled images are"),
    ],
)
def test_arrays_that_are_no_labelled_images(tmp_path, arrays, text):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DatasetError, match=re.escape(text)):
        load(tmp_path / "a.npz")


# parquet


def parquet(path, columns, names=None):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    table = pa.table(columns)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(table, path)
    return path


def rows(count, first=0, classes=3, size=(9, 7)):
    return [{"bytes": encoded(pixels(first + n, size)), "path": None} for n in range(count)], [
        n % classes for n in range(count)
    ]


def test_rows_as_on_hugging_face(tmp_path):
    for split, count in (("train", 30), ("validation", 6), ("test", 9)):
        images, labels = rows(count, 100 * len(split))
        parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", {"image": images, "label": labels}, ["x", "y", "z"])
    data = load(tmp_path)
    assert (data.classes, data.shape) == (("x", "y", "z"), (3, 9, 7))
    assert (len(data.train), len(data.test), len(data.validation)) == (30, 9, 6)
    for number in (0, 7, 29):
        assert np.array_equal(np.moveaxis(data.train.images[number].numpy(), 0, 2), pixels(500 + number))
    assert data.train.labels.tolist() == [n % 3 for n in range(30)]


def test_one_file_of_bytes_and_names_in_several_parts(tmp_path):
    images, labels = rows(20)
    names = [["sun", "moon", "star"][label] for label in labels]
    for part in (0, 1):
        half = slice(10 * part, 10 * part + 10)
        parquet(tmp_path / f"part-{part}.parquet", {"jpg": [each["bytes"] for each in images[half]], "label": names[half]})
    data = load(tmp_path)
    assert data.classes == ("moon", "star", "sun")
    wanted = {name: [] for name in data.classes}
    for number, name in enumerate(names):
        wanted[name].append(pixels(number))
    assert by_class(data.train, data.test, names=data.classes) == written_bytes(wanted)
    whole = parquet(tmp_path / "one" / "all.parquet", {"img": images, "label": names, "id": list(range(20))})
    assert len(load(str(whole), size=5).train) == 18


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"image": rows(12)[0]}, "needs one column of labels (whole numbers or names), has 0 among image"),
        ({"label": rows(12)[1]}, "needs one column of encoded pictures (bytes), has 0 among label (int64)"),
        ({"image": rows(12)[0], "fine": rows(12)[1], "coarse": rows(12)[1]}, "needs one column of labels"),
        ({"image": [*rows(11)[0], None], "label": rows(12)[1]}, "row 12 has no picture or no label"),
        ({"image": rows(12)[0], "label": [0, None] * 6}, "row 2 has no picture or no label"),
        ({"image": [*rows(11)[0], {"bytes": b"none", "path": None}], "label": rows(12)[1]}, "row 12: not a readable picture"),
    ],
)
def test_rows_that_are_no_labelled_pictures(tmp_path, columns, text):
    path = parquet(tmp_path / "a.parquet", columns)
    with pytest.raises(DatasetError, match=re.escape(text)) as error:
        load(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [8, None])
def test_an_eps_in_disguise_starts_no_other_program(tmp_path, monkeypatch, size):
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *what: started.append(what))
    images, labels = rows(12)
    data = load((np.stack([pixels(number) for number in range(12)]), labels))
    images[3]["bytes"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 9\n%%EndComments\nshowpage\n"
    path = parquet(tmp_path / "a.parquet", {"image": images, "label": labels})
    for read in (lambda: load(path, size=size), lambda: validation_set(path, data)):
        with pytest.raises(DatasetError, match="row 4: not a readable picture"):
            read()
    assert started == []


def test_without_pyarrow_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=re.escape("parquet files are read by pyarrow: pip install 'unigrid[io]'")):
        load(tmp_path / "a.parquet")


def test_a_file_that_is_no_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match=r"a\.parquet: not a readable parquet file"):
        load(tmp_path / "a.parquet")


# validation sets


def test_a_validation_folder_takes_the_classes_and_the_size_of_the_data(tmp_path):
    write(tmp_path / "photos")
    write(tmp_path / "held", {"owl": 2, "dog": 3}, size=(30, 20), first=70)
    data = validation_set(str(tmp_path / "held"), load(tmp_path / "photos"))
    assert data.validation.images.shape == (5, 3, 9, 7)
    assert data.validation.labels.tolist() == [1, 1, 1, 2, 2]
    assert len(data.train) == 27


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ((IMAGES, LABELS % 3), "training and validation images must have the same channels, height and width"),
        ((np.zeros((3, 9, 7, 3), np.uint8), [0, 1, 3]), "custom has a label 3, but 3 classes, 0 to 2"),
        ((IMAGES, LABELS, LABELS), "validation must be a count or a share of the 27 training images, a path"),
    ],
)
def test_a_validation_set_that_does_not_fit(tmp_path, source, text):
    write(tmp_path)
    with pytest.raises(ValueError, match=text):
        validation_set(source, load(tmp_path))


# test sets


def test_a_network_is_tested_on_the_test_pictures_or_on_all_of_a_folder_without_splits(tmp_path):
    write(tmp_path / "all", {"owl": 3, "cat": 4}, size=(20, 30))
    write(tmp_path / "split" / "train")
    write(tmp_path / "split" / "test", {"owl": 2}, first=50)
    found = load_test(tmp_path / "all", shape=(1, 8, 8))
    assert (found.split.images.shape, found.labels_among(("ape", "cat", "owl")).tolist()) == ((7, 1, 8, 8), [1] * 4 + [2] * 3)
    assert len(load_test(str(tmp_path / "split")).split) == 2
    (tmp_path / "split" / "test").rename(tmp_path / "split" / "val")
    with pytest.raises(DatasetError, match="holds train and validation images; give the folder or file of one split"):
        load_test(tmp_path / "split")
