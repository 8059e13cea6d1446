"""Data sets by name and from data of one's own; what is missing or wrong is said in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from unigrid.files import FileError
from unigrid.training.data import archives, datasets, download
from unigrid.training.data.datasets import DatasetError, ImageData, Split, data_directory, load, load_test
from unigrid.training.images.pictures import fitted


@pytest.fixture(autouse=True)
def no_data_of_the_users(monkeypatch, tmp_path):
    """No test reads what happens to lie in the user's folders, none reaches the network."""
    monkeypatch.delenv("UNIGRID_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "fetch", lambda *arguments: pytest.fail("the network was used"))


def refusal(*arguments, kind=ValueError, **keywords):
    with pytest.raises(kind) as error:
        load(*arguments, **keywords)
    text = str(error.value)
    assert "\n" not in text
    return text


# By name.


@pytest.mark.parametrize(
    ("dataset", "number"), [("cifar10", 0), ("cifar10", 1), ("cifar100", 0), ("cifar100", 1), ("mnist", 0)]
)
@pytest.mark.parametrize("said", ["argument", "variable", "cache"])
def test_published_data_are_loaded(tmp_path, monkeypatch, published, dataset, number, said):
    where = tmp_path / "cache" / "unigrid" if said == "cache" else tmp_path / "data"
    small = published(dataset, number)
    small.folder(where)
    if said == "variable":
        monkeypatch.setenv("UNIGRID_DATA", str(where))
    data = load(dataset, where if said == "argument" else None)
    assert data.name == dataset
    assert not data.synthetic
    assert data.flip == (dataset != "mnist")
    assert len(data.classes) == {"cifar10": 10, "cifar100": 100, "mnist": 10}[dataset]
    for split, (images, labels) in ((data.train, small.train), (data.test, small.test)):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.is_contiguous()
        assert np.array_equal(split.images.numpy(), images)
        assert np.array_equal(split.labels.numpy(), labels)
    assert data.shape == tuple(small.train[0].shape[1:])
    assert len(data.mean) == len(data.std) == data.shape[0]


def test_the_argument_comes_before_the_variable_before_the_cache(monkeypatch):
    assert data_directory() == Path(os.environ["XDG_CACHE_HOME"]) / "unigrid"
    monkeypatch.setenv("UNIGRID_DATA", "")
    assert data_directory() == Path(os.environ["XDG_CACHE_HOME"]) / "unigrid"
    monkeypatch.setenv("UNIGRID_DATA", "~/from variable")
    assert data_directory() == Path.home() / "from variable"
    assert data_directory("/from/argument") == Path("/from/argument")


def test_the_cache_is_where_the_system_keeps_it(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_directory() == Path.home() / ".cache" / "unigrid"
    monkeypatch.setattr(datasets.sys, "platform", "win32")
    assert data_directory() == Path(os.environ["LOCALAPPDATA"]) / "unigrid"


def test_an_unknown_name_is_answered_with_the_nearest():
    assert "unknown dataset or path 'cifer10'" in refusal("cifer10")
    assert "did you mean 'cifar10'" in refusal("cifer10")
    assert "allowed: 'cifar10', 'cifar100', 'mnist', 'shapes'" in refusal("imagenet")


def test_missing_data_are_answered_with_the_commands_that_get_them(tmp_path):
    assert issubclass(DatasetError, FileError)  # the command line prints those as one line and leaves with 2
    text = refusal("cifar10", kind=DatasetError)
    assert text.startswith(str(tmp_path / "cache" / "unigrid") + ": no such folder")
    assert "looked for cifar-10-batches-py/, cifar-10-batches-bin/, cifar-10-python.tar.gz, cifar-10-binary.tar.gz" in text
    assert "`unigrid train cifar10 --download` fetches 171 MB from https://www.cs.toronto.edu/~kriz/" in text
    assert "`unigrid train cifar10 --data-dir FOLDER` or UNIGRID_DATA=FOLDER" in text


def test_the_command_names_the_folder_that_was_given(tmp_path):
    folder = tmp_path / "my data"
    folder.mkdir()
    text = refusal("mnist", folder)
    assert text.startswith(f"{folder}: mnist is not here")
    assert f"`unigrid train mnist --download --data-dir '{folder}'` fetches 12 MB" in text
    (folder / "some.txt").touch()
    assert f"--download --data-dir '{folder}'`" in refusal("mnist", folder / "some.txt")


def test_another_data_set_in_the_folder_is_named(tmp_path, published):
    small = published("cifar100")
    assert "holds cifar100, not cifar10" in refusal("cifar10", small.folder(tmp_path))
    (tmp_path / "archives").mkdir()
    assert "holds cifar100, not cifar10" in refusal("cifar10", small.archive(tmp_path / "archives"))


def test_what_an_incomplete_folder_lacks_is_named(tmp_path, published):
    folder = published("cifar10").folder(tmp_path)
    for name in ("data_batch_2", "data_batch_5"):
        (folder / name).unlink()
    text = refusal("cifar10", tmp_path)
    assert f"cifar10 is incomplete: {folder} lacks data_batch_2, data_batch_5" in text
    assert "unigrid train cifar10 --download" in text


def test_what_is_missing_is_downloaded_on_request_only(tmp_path, monkeypatch, published):
    small, fetched = published("cifar10"), []

    def fetch(url, path, size, md5):
        fetched.append((url, size, md5))
        small.archive(path.parent)

    monkeypatch.setattr(download, "fetch", fetch)
    refusal("cifar10", tmp_path)
    assert fetched == []
    assert len(load("cifar10", tmp_path, download=True).train) == len(small.train[1])
    assert len(load("cifar10", tmp_path, download=True).train) == len(small.train[1])
    url, size, md5 = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", 170498071, "c58f30108f718f92721af3b95e74349a"
    assert fetched == [(url, size, md5)]


def test_a_folder_that_cannot_be_entered_is_one_line(tmp_path, monkeypatch):
    def refuse(layouts, where):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archives, "find", refuse)
    assert refusal("cifar10", tmp_path, kind=DatasetError) == f"{tmp_path}: cannot be looked into (Permission denied)"


# Arrays of one's own.


def some(count=40, classes=4, shape=(3, 8, 6), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(count, *shape), dtype=np.uint8), np.arange(count) % classes


def test_two_pairs_of_arrays_are_taken_as_they_are():
    train, test = some(), some(20, seed=1)
    data = load((train, test))
    assert data.name == "custom"
    assert not data.synthetic
    assert data.classes == ("0", "1", "2", "3")
    for split, (images, labels) in ((data.train, train), (data.test, test)):
        assert np.array_equal(split.images.numpy(), images)
        assert np.array_equal(split.labels.numpy(), labels)
        assert split.labels.dtype == torch.int64
    assert load(data) is data


def test_tensors_lists_and_arrays_are_the_same():
    images, labels = some()
    expected = load((images, labels))
    for given in (
        (torch.from_numpy(images), torch.from_numpy(labels)),
        (images, labels.tolist()),
        (list(images), labels.astype(np.uint8)),
        (torch.from_numpy(images).to(torch.float32) / 255, torch.from_numpy(labels).int()),
        (images / 255, labels),
        ((images / 255).astype(np.float16), labels),
        [images, labels],
    ):
        data = load(given)
        assert torch.equal(data.train.images, expected.train.images)
        assert torch.equal(data.test.images, expected.test.images)
        assert torch.equal(data.test.labels, expected.test.labels)


def test_floats_are_rounded_to_the_nearest_byte():
    values = torch.linspace(0, 1, 10 * 64).view(10, 8, 8)
    labels = [0, 1] * 5
    for given in (values, values.double(), values.bfloat16()):
        data = load(((given, labels), (given, labels)))
        assert torch.equal(data.test.images[:, 0], (given.float() * 255).round().to(torch.uint8))


def test_what_came_in_is_copied():
    train, test = some(), some(20)
    data = load((train, test))
    data.train.images.zero_()
    data.train.labels.fill_(1)
    assert train[0].any()
    assert train[1].max() == 3


LAYOUTS = [
    ((40, 9, 7), (1, 9, 7), lambda images: images[:, None]),
    ((40, 3, 9, 7), (3, 9, 7), lambda images: images),
    ((40, 1, 9, 7), (1, 9, 7), lambda images: images),
    ((40, 9, 7, 3), (3, 9, 7), lambda images: images.transpose(0, 3, 1, 2)),
    ((40, 9, 7, 1), (1, 9, 7), lambda images: images.transpose(0, 3, 1, 2)),
    ((40, 13, 16, 16), (13, 16, 16), lambda images: images),
    ((40, 4, 8, 8), (4, 8, 8), lambda images: images),
]
# Axes of an image that may be read either way.
EITHER = [
    (16, 16, 13), (16, 16, 5), (5, 9, 7), (2, 9, 4), (3, 9, 3), (3, 3, 13), (13, 3, 3), (8, 8, 8), (32, 32, 2), (5, 9, 13),
]  # fmt: skip


def test_a_split_has_a_short_repr():
    assert repr(Split(torch.zeros(4, 3, 8, 9, dtype=torch.uint8), torch.arange(4))) == "Split(4 images, 3 x 8 x 9)"


@pytest.mark.parametrize(("shape", "expected", "arranged"), LAYOUTS)
def test_where_the_channels_are(shape, expected, arranged):
    images = some(shape=shape[1:])[0]
    data = load(((images, [0, 1] * 20), (images, [0, 1] * 20)))
    assert data.shape == expected
    assert np.array_equal(data.train.images.numpy(), arranged(images))
    assert data.train.images.is_contiguous()
    assert len(data.mean) == len(data.std) == expected[0]


@pytest.mark.parametrize("shape", EITHER)
def test_where_the_channels_are_is_never_guessed(shape):
    images, labels = some(shape=shape)
    text = rf"shape \({shape[0]}, {shape[1]}, {shape[2]}\) may be {shape[0]} channels of .* channels=\"first\"\), or \"last\""
    for given in ((images, labels), ((images, labels), (images, labels)), Pairs(rows(images, labels, torch.from_numpy))):
        with pytest.raises(ValueError, match=text):
            load(given)
        assert torch.equal(load(given, channels="first").train.images[0], torch.from_numpy(load_first(images, labels)))
        last = load(given, channels="last").train.images[0]
        assert torch.equal(last, torch.from_numpy(load_first(np.moveaxis(images, 3, 1), labels)))
    with pytest.raises(ValueError, match=text):
        load_test((images, labels))
    assert torch.equal(load_test((images, labels), channels="last").split.images, torch.from_numpy(np.moveaxis(images, 3, 1)))
    with pytest.raises(ValueError, match="unknown channels 'lst'; allowed: 'first', 'last'; did you mean 'last'"):
        load((images, labels), channels="lst")


def load_first(images, labels):
    """Return the first image of the training set, from images that have their channels first."""
    return load((images, labels), channels="first").train.images[0].numpy()


def test_a_tenth_of_each_class_is_split_off_and_always_the_same_one():
    images, labels = some(count=400)
    order = np.argsort(labels, kind="stable")  # sorted by class: the last tenth would be one class
    data, again = load((images[order], labels[order])), load((images[order], labels[order]))
    assert (len(data.train), len(data.test)) == (360, 40)
    assert data.test.labels.bincount().tolist() == [10] * 4
    assert torch.equal(data.test.images, again.test.images)
    pairs = [
        {(image.numpy().tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)}
        for split in (data.train, data.test)
    ]
    given = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert pairs[0] | pairs[1] == given
    assert not pairs[0] & pairs[1]


def test_mean_and_deviation_are_those_of_the_training_images():
    train, test = some(2500), some(20)
    data = load((train, test))
    scaled = train[0].transpose(1, 0, 2, 3).reshape(3, -1) / 255
    assert data.mean == pytest.approx(scaled.mean(1), abs=1e-12)
    assert data.std == pytest.approx(scaled.std(1), abs=1e-12)


def test_a_constant_channel_is_not_divided_by_zero():
    images, labels = some()
    images[:, 1] = 77
    data = load(((images, labels), (images, labels)))
    assert data.std[1] == 1.0
    assert data.mean[1] == pytest.approx(77 / 255)


GOOD, LABELS = some()
BAD = {
    "a number": (3, "dataset must be one of 'cifar10', .* got int"),
    "three things": ((GOOD, LABELS, LABELS), "got tuple"),
    "numbers": ((3, 4), r"images must have the axes .* got shape \(\)"),
    "flat images": ((GOOD.reshape(40, -1), LABELS), r"images must have the axes .* got shape \(40, 144\)"),
    "no images": ((GOOD[:0], LABELS[:0]), r"got shape \(0, 3, 8, 6\)"),
    "too few labels": ((GOOD, LABELS[:-1]), "equally many, got 40 and 39"),
    "float labels": ((GOOD, LABELS * 1.0), r"labels must be whole numbers, one per image, got float64 of shape \(40,\)"),
    "one-hot labels": ((GOOD, np.eye(4, dtype=int)[LABELS]), r"got int64 of shape \(40, 4\)"),
    "truth as labels": ((GOOD, LABELS > 1), "labels must be whole numbers, one per image, got bool"),
    "words as labels": ((GOOD, LABELS.astype(str)), "labels must be whole numbers, one per image, got <U"),
    "negative labels": ((GOOD, LABELS - 1), "labels must be 0 to k - 1, got -1"),
    "labels from 1": ((GOOD, LABELS + 1), "got 4 different ones from 1 to 4: label 0 has no training image"),
    "a gap": ((GOOD, np.where(LABELS == 2, 5, LABELS)), "got 4 different ones from 0 to 5: label 2 has no training image"),
    "one class": ((GOOD, LABELS * 0), "at least 2 classes, got 1"),
    "int64 images": ((GOOD.astype(np.int64), LABELS), "images must be uint8, uint16, or floats from 0 to 1, got int64"),
    "floats to 255": ((GOOD * 1.0, LABELS), "must lie in 0..1, got 0 to 255; .* divided by 255"),
    "normalized": (((GOOD - 128.0) / 128, LABELS), "must lie in 0..1, got -1 to 0.99.*before normalization"),
    "not a number": ((np.where(GOOD == 7, np.nan, GOOD / 255.0), LABELS), "must lie in 0..1, got nan to nan"),
    "infinite": ((np.where(GOOD == 7, np.inf, GOOD / 255.0), LABELS), "must lie in 0..1, got 0 to inf"),
    "RGBA last": ((np.zeros((40, 8, 8, 4), np.uint8), LABELS), "8 channels of 8 x 4 or 4 channels of 8 x 8: give"),
    "too few": ((GOOD[:8], LABELS[:8]), "8 images are too few to split a test set off"),
    "sizes differ": (
        ((GOOD, LABELS), (GOOD[..., :5], LABELS)),
        r"same channels, height and width, got \(3, 8, 6\) and \(3, 8, 5\)",
    ),
    "channels differ": (((GOOD, LABELS), (GOOD[:, 0], LABELS)), r"got \(3, 8, 6\) and \(1, 8, 6\)"),
    "more classes in the test": (
        ((GOOD, LABELS), (GOOD, LABELS + 1)),
        "the test labels reach 4, but those of training only 3",
    ),
    "which one": (((GOOD, LABELS), (GOOD * 1.0, LABELS)), "^test images that are floats"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_are_no_labelled_images_are_refused(name):
    given, text = BAD[name]
    with pytest.raises(ValueError, match=text) as error:
        load(given)
    assert "\n" not in str(error.value)


# torch Datasets.


class Pairs(Dataset):
    def __init__(self, items, classes=None):
        self.items, self.seen = items, 0
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.seen += 1
        return self.items[index]


def rows(images, labels, convert):
    return [(convert(image), int(label)) for image, label in zip(images, labels, strict=True)]


CONVERSIONS = {
    "array": lambda image: image,
    "tensor": torch.from_numpy,
    "to 0..1": lambda image: torch.from_numpy(image).float() / 255,
    "channels last": lambda image: image.transpose(1, 2, 0),
    "PIL": lambda image: Image.fromarray(image.transpose(1, 2, 0)),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_dataset_is_gone_through_once(name):
    (images, labels), (more, others) = some(), some(20, seed=1)
    pair = [Pairs(rows(images, labels, CONVERSIONS[name])), Pairs(rows(more, others, CONVERSIONS[name]))]
    data = load(tuple(pair))
    assert [each.seen for each in pair] == [40, 20]
    assert np.array_equal(data.train.images.numpy(), images)
    assert np.array_equal(data.test.images.numpy(), more)
    assert np.array_equal(data.train.labels.numpy(), labels)
    single = load(Pairs(rows(images, labels, CONVERSIONS[name])))
    assert torch.equal(single.test.images, load((images, labels)).test.images)


def test_pictures_of_pil_keep_their_channels_whatever_their_size():
    image = Image.fromarray(np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3))  # a height of 3 is not three channels
    gray, palette = image.convert("L"), image.convert("P")
    assert load(Pairs([(image, i % 2) for i in range(20)])).shape == (3, 3, 5)
    assert load(Pairs([(gray, i % 2) for i in range(20)])).shape == (1, 3, 5)
    assert load(Pairs([(palette, i % 2) for i in range(20)])).shape == (3, 3, 5)
    assert np.array_equal(load(Pairs([(image, i % 2) for i in range(20)])).train.images[0, 0], np.asarray(image)[..., 0])


PICTURES = {
    "16 bits": ("p.png", lambda pixels: Image.fromarray(pixels[..., 0] * np.uint16(257)), {}),
    "turned": ("p.png", Image.fromarray, {"exif": 6}),
    "mirrored, turned": ("p.jpg", Image.fromarray, {"exif": 5, "quality": 100}),
    "upside down": ("p.tif", Image.fromarray, {"exif": 3}),
    "floats": ("p.tif", lambda pixels: Image.fromarray((pixels[..., 0] / 255).astype(np.float32)), {}),
    "alpha": ("p.png", lambda pixels: Image.fromarray(np.dstack([pixels, pixels[..., :1]])), {}),
    "palette": ("p.gif", lambda pixels: Image.fromarray(pixels).convert("P", colors=16), {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_the_same_in_data_sets_and_in_predictions(tmp_path, kind):
    name, convert, options = PICTURES[kind]
    pixels = some(1, shape=(6, 8, 3))[0][0]
    options = {key: with_orientation(value) if key == "exif" else value for key, value in options.items()}
    convert(pixels).save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as image:
        images = load(Pairs([(image, i % 2) for i in range(20)])).train.images[0]
    assert torch.equal(images, fitted(tmp_path / name, tuple(images.shape)))
    if options == {} and kind != "palette":
        expected = pixels[..., 0][None] if kind in ("16 bits", "floats") else pixels.transpose(2, 0, 1)
        assert np.array_equal(images, expected)


def with_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_a_data_set_of_8_and_16_bits_has_one_scale():
    pixels = np.full((4, 5), 200, np.uint8)
    items = [(pixels, 0), (pixels * np.uint16(257), 1)] * 10
    for given in (items, [(Image.fromarray(image), label) for image, label in items]):
        assert load(Pairs(given)).train.images.unique().tolist() == [200]


def test_a_stream_is_a_dataset_too():
    images, labels = some()

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(rows(images, labels, torch.from_numpy))

    assert torch.equal(load(Stream()).train.images, load((images, labels)).train.images)


def test_labels_may_be_tensors_and_classes_may_have_names():
    images, labels = some()
    items = [(image, torch.tensor(label)) for image, label in zip(images, labels, strict=True)]
    assert load(Pairs(items, ["a", "b", "c", "d"])).classes == ("a", "b", "c", "d")
    assert load((Pairs(items, ("a", "b", "c", "d")), Pairs(items))).classes == ("a", "b", "c", "d")
    assert load(Pairs(items, ["a", "b"])).classes == ("0", "1", "2", "3")
    assert load(Pairs(items, [1, 2, 3, 4])).classes == ("0", "1", "2", "3")


ONE = np.zeros((3, 4, 4), np.uint8)
BAD_ITEMS = {
    "no pair": ([ONE], "item 0 is ndarray"),
    "three": ([(ONE, 1, 2)], r"item 0 is \(ndarray, int, int\)"),
    "float label": ([(ONE, 0), (ONE, 1.0)], r"item 1 is \(ndarray, float\)"),
    "sizes": ([(ONE, 0), (ONE[:, :3], 1)], r"one size, got \(3, 4, 4\) and, item 1, \(3, 3, 4\)"),
    "normalized": (
        [(torch.full((3, 4, 4), -1.0), i % 2) for i in range(20)],
        "Dataset's images that are floats must lie in 0..1",
    ),
    "empty": ([], "the Dataset is empty"),
}


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_datasets_that_give_something_else_are_refused(name):
    items, text = BAD_ITEMS[name]
    with pytest.raises(ValueError, match=text):
        load(Pairs(items))


# Pictures that cannot be read are named.


class Folder(Dataset):
    """As torchvision's ImageFolder: it lists its files, and opens one when it is asked for."""

    def __init__(self, folder, lazily):
        self.samples = [(str(path), number % 2) for number, path in enumerate(sorted(folder.iterdir()))]
        self.lazily = lazily

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        path, label = self.samples[number]
        if self.lazily:
            return Image.open(path), label
        with Image.open(path) as picture:
            return picture.convert("RGB"), label


class Stream(IterableDataset):
    def __init__(self, folder):
        self.folder = folder

    def __iter__(self):
        return iter(self.folder)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FAULTS = {
    "truncated": truncated,
    "no picture": lambda path: path.write_bytes(b"<html>"),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(256, size=(12, 32, 32, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number:02}.{('jpg', 'png')[number % 2]}")
    return folder


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("number", [4, 7], ids=["jpg", "png"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_that_cannot_be_read_is_named(pictures, fault, number, lazily):
    data = Folder(pictures, lazily)
    path = data.samples[number][0]
    FAULTS[fault](Path(path))
    assert refusal(data, kind=DatasetError).startswith(f"{path}: cannot be read (")
    part = Subset(Subset(data, range(11)), [0, 1, 2, number, 9])
    assert refusal((part, part), kind=DatasetError).startswith(f"{path}: cannot be read (")
    with pytest.raises(DatasetError, match=f"item {number} of the Dataset: cannot be read"):
        load(Stream(map(data.__getitem__, range(12))))


# Splits.


def test_a_subset_is_spread_over_the_data_and_always_the_same():
    split = Split(torch.zeros(1000, 1, 2, 2, dtype=torch.uint8), torch.arange(1000))
    chosen = split.subset(100)
    assert len(chosen) == len(chosen.images) == 100
    assert torch.equal(chosen.labels, split.subset(100).labels)
    assert torch.equal(chosen.labels, chosen.labels.unique())  # in order, none twice
    assert (chosen.labels // 100).bincount(minlength=10).min() >= 3  # from everywhere
    assert (chosen.labels % 10).bincount(minlength=10).min() >= 3
    assert split.subset(1000) is split
    assert split.subset(torch.tensor([5, 3])).labels.tolist() == [5, 3]


@pytest.mark.parametrize("count", [0, -1, 11, 2.5, True, "3"])
def test_a_wrong_subset_is_refused(count):
    split = Split(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10))
    with pytest.raises(ValueError, match=r"subset must be a whole number from 1 to 10, the number of images, got"):
        split.subset(count)


def test_a_split_moves_whole():
    split = Split(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10)).to("meta")
    assert split.images.is_meta
    assert split.labels.is_meta


def test_the_text_of_a_data_set_says_what_it_is():
    train, test = some(), some(20)
    assert repr(load((train, test))) == "ImageData(custom: 40 + 20 images, 8 x 6 x 3, 4 classes)"


# The real data, where they are at hand.

REAL = os.environ.get("UNIGRID_DATA")


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_real_data_have_the_names_and_numbers_written_here(dataset):
    layout = archives.LAYOUTS[dataset][0]
    if not REAL or not (Path(REAL) / layout.folders[0]).is_dir():
        pytest.skip(f"needs UNIGRID_DATA with {layout.folders[0]}")
    meta, key = {"cifar10": ("batches.meta", b"label_names"), "cifar100": ("meta", b"fine_label_names")}[dataset]
    names = archives.unpickle((Path(REAL) / layout.folders[0] / meta).read_bytes())[key]
    data = load(dataset, REAL)
    assert data.classes == tuple(name.decode() for name in names)
    assert (len(data.train), len(data.test), data.shape) == (50000, 10000, (3, 32, 32))
    mean, std = datasets._statistics(data.train.images)
    if dataset == "cifar10":  # its deviation was published as the mean over the images of their own
        parts = [(part.float() / 255).flatten(2).std(2) for part in data.train.images.split(5000)]
        std = torch.cat(parts).mean(0).tolist()
    assert data.mean == pytest.approx(mean, abs=6e-5)
    assert data.std == pytest.approx(std, abs=6e-5)


def test_image_data_may_be_made_by_hand():
    split = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4))
    data = ImageData("mine", split, split, ("a", "b", "c", "d"), (0.5,), (0.5,), synthetic=True, flip=False)
    assert load(data) is data
    assert "mine, synthetic" in repr(data)
