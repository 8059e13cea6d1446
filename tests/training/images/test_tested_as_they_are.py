"""What a network is tested on is taken as it is: all of it, in any order of classes, with or without an image of each."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset

import unigrid
from unigrid.training import ImageData, Split, load, load_trained
from unigrid.training.runs import checkpoint

pytestmark = pytest.mark.system
NAMES = ("cat", "dog", "emu", "fox")


class Reader(nn.Module):
    """Reads the class from the brightness of an image; never wrong, and sure of it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        level = images.mean((1, 2, 3))[:, None] * 255 / 50
        return -self.scale.abs() * (level - torch.arange(4).to(images)) ** 2


def images_of(labels):
    return np.broadcast_to(50 * np.asarray(labels)[:, None, None, None], (len(labels), 3, 4, 4)).astype(np.uint8)


class Folder(Dataset):
    """Images of these classes, labelled as torchvision's ImageFolder does: by the place of a name among the sorted ones.

    `classes` are other names for them, in that order.
    """

    def __init__(self, present, count=4, classes=None):
        self.present, self.items = sorted(present), [name for name in present for _ in range(count)]
        self.classes = classes or self.present

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        name = self.items[index]
        return images_of([NAMES.index(name) if name in NAMES else int(name)])[0], self.present.index(name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    labels = np.arange(40) % 4
    split = Split(torch.from_numpy(images_of(labels).copy()), torch.from_numpy(labels))
    data = ImageData("custom", split, split, NAMES, (0.0,) * 3, (1.0,) * 3)
    choices = {"epochs": 1, "batch_size": 10, "learning_rate": 1e-9, "device": "cpu", "progress": False}
    assert unigrid.train(data, Reader(), "paper", out=folder, **choices).test_accuracy == 1
    return load_trained(folder, device="cpu", model=Reader())


def outcome(trained, data):
    """Whether all answers are right, of how many images, and their classes."""
    result = trained.evaluate(data)
    assert result.confusion.shape == (4, 4)
    present = tuple(trained.classes[label] for label in torch.nonzero(result.confusion.sum(1)).flatten())
    return result.accuracy, result.count, present


@pytest.mark.parametrize("count", [1, 3, 9, 10, 57])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["arrays", "tensors"])
def test_all_images_of_arrays_are_tested(trained, count, kind):
    labels = np.arange(count) % 4
    assert outcome(trained, (kind(images_of(labels)), kind(labels)))[:2] == (1.0, count)


@pytest.mark.parametrize("present", [[0], [3], [0, 2], [3, 1], [1, 2, 3]], ids=str)
def test_arrays_need_no_image_of_every_class(trained, present):
    labels = np.array(present * 5)
    expected = 1.0, len(labels), tuple(NAMES[label] for label in sorted(present))
    assert outcome(trained, (images_of(labels), labels)) == expected
    split = Split(torch.from_numpy(images_of(labels).copy()), torch.from_numpy(labels))
    assert outcome(trained, split) == expected
    assert outcome(trained, dataclasses.replace(load((images_of(range(20)) // 5, np.arange(20) % 4)), test=split)) == expected


@pytest.mark.parametrize(
    "present", [["cat"], ["fox"], ["dog", "fox"], ["fox", "cat", "emu"], ["fox", "emu", "dog", "cat"]], ids=str
)
def test_folders_are_matched_by_the_names_of_their_classes(trained, present):
    expected = 1.0, 4 * len(present), tuple(sorted(present))
    assert outcome(trained, Folder(present)) == expected
    assert outcome(trained, (Folder(NAMES), Folder(present))) == expected, "of a pair, the second is the test set"
    half = Subset(Subset(Folder(present), range(2, 4 * len(present))), range(2))
    assert outcome(trained, half)[:2] == (1.0, 2)


def test_of_a_pair_of_arrays_the_second_is_the_test_set(trained):
    labels = np.array([2, 3])
    assert outcome(trained, ((images_of([0, 1]), np.array([0, 1])), (images_of(labels), labels))) == (1.0, 2, ("emu", "fox"))


def test_classes_in_another_order_and_more_of_them(trained):
    order = ("zebra", "fox", "dog", "cat", "emu")
    labels = torch.arange(1, 5).repeat(3)
    images = torch.from_numpy(images_of([NAMES.index(order[label]) for label in labels]).copy())
    data = ImageData("zoo", Split(images, labels), Split(images, labels), order, (0.5,) * 3, (0.5,) * 3)
    assert outcome(trained, data) == (1.0, 12, NAMES)
    matched = trained.data(data)
    assert matched.classes == NAMES
    assert (len(matched.train), len(matched.test)) == (0, 12)
    assert outcome(trained, matched) == (1.0, 12, NAMES)
    labels[0] = 0
    with pytest.raises(ValueError, match=r"zoo has images of zebra, not among the classes cat, dog, emu, ...; rename them"):
        trained.evaluate(data)


@pytest.mark.parametrize(
    "names", [["Cat", "dog", "emu", "fox"], ["0", "1", "2", "three"], ["dog", "cat", "emu", "Fox"]], ids=str
)
def test_names_that_are_none_of_the_network_are_refused(trained, names):
    with pytest.raises(ValueError, match="not among the classes cat, dog, emu") as error:
        trained.evaluate(Folder(NAMES, classes=names))
    assert "\n" not in str(error.value)


def test_labels_beyond_the_classes_are_refused(trained):
    with pytest.raises(ValueError, match="custom has a label 4, but 4 classes, 0 to 3"):
        trained.evaluate((images_of([4, 1]), np.array([4, 1])))
    empty = Split(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="custom has no images"):
        trained.evaluate(empty)


def test_a_network_whose_classes_have_no_names_takes_named_ones_only_where_they_are_the_same(trained, tmp_path):
    state = checkpoint.load(trained.path)
    state["configuration"]["dataset"]["classes"] = list("0123")
    unnamed = load_trained(checkpoint.save(tmp_path, state, 1), device="cpu", model=Reader())
    labels = np.array([3, 1, 1])
    assert outcome(unnamed, (images_of(labels), labels)) == (1.0, 3, ("1", "3"))
    with pytest.raises(ValueError, match="images of cat, fox, not among the classes 0, 1, 2"):
        unnamed.evaluate(Folder(["cat", "fox"]))

    assert outcome(unnamed, Folder(["0", "3"])) == (1.0, 8, ("0", "3"))


def test_a_test_folder_without_a_class_is_matched_by_name_in_training_too():
    data = load((Folder(NAMES, 10), Folder(["fox", "dog"])))
    assert data.classes == NAMES
    assert data.test.labels.tolist() == [3] * 4 + [1] * 4
    assert torch.equal(data.test.images[:, 0, 0, 0].long(), 50 * data.test.labels)
    with pytest.raises(ValueError, match="custom has images of gnu, not among the classes cat, dog, emu"):
        load((Folder(NAMES, 10), Folder(["fox", "dog"], classes=["dog", "gnu"])))


def test_part_of_a_dataset_has_its_names():
    assert load(Subset(Folder(NAMES, 10), range(40))).classes == NAMES
    assert load(Subset(Folder(NAMES, 10), range(30))).classes == NAMES[:3]
    assert load(ConcatDataset([Folder(NAMES, 10)])).classes == ("0", "1", "2", "3"), "it has none itself"
