"""`create_model(..., pretrained=)` and `load_pretrained`: the numbers of the file; what does not fit them; fine-tuning."""

import numpy as np
import pytest
import torch

import unigrid
from unigrid.conv.weights import clean_state_dict
from unigrid.training.images.starting import starting_weights

ONE = "mgnet-32-Bli@cifar10"


@pytest.mark.parametrize("name", unigrid.list_pretrained())
def test_weights_are_the_numbers_of_the_file(name, reading):
    stored = reading.tensors(reading.shipped / f"{name}.safetensors")
    models = [unigrid.load_pretrained(name, device="cpu").model]
    if not name.startswith("poisson"):
        model, _, dataset = name.partition("@")
        models.append(unigrid.create_model(model, pretrained=dataset))
    for model in models:
        weights = clean_state_dict(model)
        assert set(weights) == set(stored)
        for key, value in weights.items():
            np.testing.assert_array_equal(value.numpy(), stored[key], strict=True)


def test_matrices_alone_are_rounded(reading):
    content = (reading.shipped / f"{ONE}.safetensors").read_bytes()
    header = eval(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for name, entry in header.items():
        assert (entry["dtype"] == "BF16") == (len(entry["shape"]) > 1), name


def test_the_head_has_the_classes_of_the_data_set():
    model = unigrid.create_model("mgnet-32-Bli", pretrained="cifar10")
    assert (model.num_classes, model.training) == (10, True)
    assert (
        unigrid.create_model("mgnet-32-Bli", num_classes=10, in_channels=3, pretrained="cifar10", features=32).num_classes == 10
    )
    model.reset_classifier(2)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"num_classes": 2}, r"num_classes=2: the weights mgnet-32-Bli@cifar10 are for 10 classes\. Leave it out; "
                             r"model\.reset_classifier\(2\) .*train\(data, weights='mgnet-32-Bli@cifar10', new_head=True\)"),
        ({"in_channels": 1}, r"in_channels=1: the weights mgnet-32-Bli@cifar10 are of .* in_channels=3; leave it out"),
        ({"activation": "gelu"}, r"activation='gelu': .* a network with activation='relu'; leave it out"),
        ({"steps": (2, 2)}, r"steps=\(2, 2\): .* a network with steps=\(2, 2, 2, 2\)"),
        ({"num_classes": 0}, r"num_classes must be an integer >= 1, got 0"),
        ({"num_classes": "ten"}, r"num_classes must be an integer >= 1, got 'ten'"),
    ],
)  # fmt: skip
def test_another_network_than_that_of_the_weights_is_refused(choices, expected):
    with pytest.raises(ValueError, match=expected) as refusal:
        unigrid.create_model("mgnet-32-Bli", pretrained="cifar10", **choices)
    assert "\n" not in str(refusal.value)


def test_wrong_words_are_refused_first():
    with pytest.raises(TypeError, match=r"no field 'activaton'.*did you mean 'activation'"):
        unigrid.create_model("mgnet-32-Bli", pretrained="cifar10", activaton="gelu")
    with pytest.raises(ValueError, match=r"unknown model 'mgnet-32-Blx'.*did you mean"):
        unigrid.create_model("mgnet-32-Blx", pretrained="cifar10")
    with pytest.raises(ValueError, match="mgnet-64-Bli comes without trained weights; there are"):
        unigrid.create_model("mgnet-64-Bli", pretrained="cifar10")
    with pytest.raises(ValueError, match=r"poisson-net is a solver, no classifier: unigrid\.load_pretrained\('poisson-net'\)"):
        unigrid.create_model("poisson-net", pretrained="poisson")


def test_without_pretrained_there_are_ten_classes():
    assert unigrid.create_model("mgnet-2-Bl").num_classes == 10
    assert unigrid.create_model("mgnet-2-Bl", 7).num_classes == 7


def test_training_starts_from_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start, model = starting_weights(ONE, new_head=True), unigrid.create_model("mgnet-32-Bli", pretrained="cifar10")
    for name, value in clean_state_dict(model).items():
        assert torch.equal(start.weights[name], value)
    assert start.classes[3] == "cat"
    with pytest.raises(ValueError, match="comes with weights for cifar10, not for 'cifar11'; did you mean 'cifar10'"):
        starting_weights("mgnet-32-Bli@cifar11", new_head=True)
    with pytest.raises(ValueError, match="poisson-net@poisson: solves Poisson's equation and classifies no images"):
        starting_weights("poisson-net", new_head=True)
    with pytest.raises(ValueError, match=r"no such file, no run of this name in runs, and no trained network .*did you mean"):
        starting_weights("mgnet-32-Bil@cifar10", new_head=True)
    (tmp_path / "runs" / ONE).mkdir(parents=True)  # a folder of that name comes first
    with pytest.raises(ValueError, match="holds no checkpoint"):
        starting_weights(ONE, new_head=True)
